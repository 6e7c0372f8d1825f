//! The two ends of a measurement, each a process.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::failure::Failure;

/// A process that talks in lines. Dropped, it is ended.
pub struct End {
    child: Child,
    told: String,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl End {
    /// Starts a process.
    pub fn start(program: &Path, arguments: &[String]) -> Result<Self, Failure> {
        let told = arguments.join(" ");
        let mut child = with_room_for_connections(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("`{} {told}` could not be run: {error}", program.display())))?;
        let output = child.stdout.take().ok_or_else(|| Failure::new("the process has no output"))?;
        let (sender, lines) = sync_channel(16);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { input: child.stdin.take(), child, told, lines })
    }

    /// What it tells next, within a time.
    pub fn next(&mut self, patience: Duration) -> Result<Value, Failure> {
        let line = self.lines.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                Failure::new(format!("`cpc-net-bench {}` said nothing for {patience:?}", self.told))
            }
            RecvTimeoutError::Disconnected => {
                Failure::new(format!("`cpc-net-bench {}` failed", self.told)).remedy("what it says itself stands above")
            }
        })?;
        serde_json::from_str(&line)
            .map_err(|error| Failure::new(format!("`cpc-net-bench {}` said `{line}`: {error}", self.told)))
    }

    /// Asks it something and waits for the answer.
    pub fn ask(&mut self, question: &str, patience: Duration) -> Result<Value, Failure> {
        let asked = self.input.as_mut().map(|input| writeln!(input, "{question}").and_then(|()| input.flush()));
        match asked {
            Some(Ok(())) => self.next(patience),
            _ => Err(Failure::new(format!("`cpc-net-bench {}` listens no more", self.told))),
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A thousand connections take more files than a process may open by default on some systems.
fn with_room_for_connections(program: &Path) -> Command {
    if cfg!(unix) {
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -n 4096 2>/dev/null; exec "$0" "$@""#]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> End {
        End::start(Path::new("sh"), &["-c".to_owned(), script.to_owned()]).expect("a shell")
    }

    #[test]
    fn an_end_is_asked_and_answers() {
        let mut end = shell(r#"echo '{"address": 1}'; read question; echo "\"$question\"""#);
        assert_eq!(end.next(Duration::from_secs(10)).expect("a line")["address"], 1);
        assert_eq!(end.ask("memory", Duration::from_secs(10)).expect("an answer"), "memory");
    }

    #[test]
    fn an_end_that_fails_or_hangs_or_babbles_is_named() {
        let wait = Duration::from_millis(200);
        for (script, answer) in [("exit 1", "failed"), ("exec sleep 60", "said nothing"), ("echo what", "said `what`")]
        {
            let failure = shell(script).next(if script == "exec sleep 60" { wait } else { Duration::from_secs(10) });
            let failure = failure.expect_err(script).to_string();
            assert!(failure.contains(answer) && failure.contains(script), "{failure}");
        }
    }
}
