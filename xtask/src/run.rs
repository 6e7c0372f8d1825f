//! Running other programs: said before, judged after.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::failure::Failure;

/// A program to run, with all it needs.
#[derive(Debug)]
pub struct Run {
    command: Command,
    told: String,
    remedy: Option<String>,
}

impl Run {
    pub fn new(program: impl AsRef<OsStr>, directory: &Path) -> Self {
        let mut command = Command::new(&program);
        command.current_dir(directory);
        for (name, _) in env::vars_os() {
            if describes_xtask(&name) {
                command.env_remove(name);
            }
        }
        let told = Path::new(program.as_ref()).file_stem().unwrap_or(program.as_ref()).to_string_lossy().into_owned();
        Self { command, told, remedy: None }
    }

    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.told.push(' ');
        self.told.push_str(&quoted(&argument.as_ref().to_string_lossy()));
        self.command.arg(argument);
        self
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.told = format!("{name}={} {}", quoted(&value.as_ref().to_string_lossy()), self.told);
        self.command.env(name, value);
        self
    }

    /// Keeps variables from the program.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        for name in names {
            self.command.env_remove(name);
        }
        self
    }

    /// What to do when the program fails.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Runs it in sight of the person who waits for it.
    pub fn run(mut self) -> Result<(), Failure> {
        self.announce();
        let status = self.command.status();
        self.judge(status)
    }

    /// Runs it and hands over each line it prints; what it says on stderr stays in sight.
    pub fn lines(mut self, mut take: impl FnMut(&str)) -> Result<(), Failure> {
        self.announce();
        let spawned = self.command.stdout(Stdio::piped()).spawn();
        let status = spawned.and_then(|mut child| {
            if let Some(output) = child.stdout.take() {
                for line in BufReader::new(output).lines() {
                    take(&line?);
                }
            }
            child.wait()
        });
        self.judge(status)
    }

    /// Asks it something in silence: what it prints, if it is there and content.
    pub fn answer(mut self) -> Option<String> {
        let output = self.command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// For those who watch over the program themselves.
    pub fn into_command(self) -> Command {
        self.announce();
        self.command
    }

    fn announce(&self) {
        println!("  $ {}", self.told);
    }

    fn judge(self, status: std::io::Result<ExitStatus>) -> Result<(), Failure> {
        let failure = match status {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => Failure::new(format!("`{}` ended with {status}", self.told)),
            Err(error) => Failure::new(format!("`{}` could not be run: {error}", self.told)),
        };
        Err(match self.remedy {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        })
    }
}

/// Cargo tells a program it runs about that program's package. Handed on, it would make build scripts that watch these
/// variables (ring's does) run again, and everything above them compile again, each time somebody changes between
/// `cargo xtask` and plain cargo.
fn describes_xtask(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || ["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"].contains(&name.as_ref())
}

/// As a shell would want it, so that what is printed can be pasted.
fn quoted(text: &str) -> String {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "-_./,:=@+%".contains(sign);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A program as the system calls it: npm is a script with an ending of its own on Windows.
pub fn script(name: &str) -> OsString {
    if cfg!(windows) { format!("{name}.cmd").into() } else { name.into() }
}

/// A time as people say it.
pub fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// Fails with the name of the file when it can't be read or written.
pub fn file_failure(doing: &str, path: impl Into<PathBuf>, error: &std::io::Error) -> Failure {
    Failure::new(format!("{doing} {}: {error}", path.into().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(in_words(Duration::from_millis(1_234)), "1.2 s");
        assert_eq!(in_words(Duration::from_secs(59)), "59 s");
        assert_eq!(in_words(Duration::from_secs(605)), "10 min 05 s");
    }

    #[test]
    fn what_is_printed_can_be_pasted() {
        assert_eq!(quoted("--features=node,js"), "--features=node,js");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn only_the_variables_of_the_own_package_are_held_back() {
        for own in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "CARGO_BIN_NAME", "OUT_DIR"] {
            assert!(describes_xtask(OsStr::new(own)), "{own}");
        }
        for passed_on in ["CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_JOBS", "RUSTUP_TOOLCHAIN", "PATH"] {
            assert!(!describes_xtask(OsStr::new(passed_on)), "{passed_on}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_failing_program_is_named_with_its_remedy() {
        let here = Path::new(".");
        let failure = Run::new("sh", here).args(["-c", "exit 3"]).remedy("mend it").run().expect_err("it fails");
        assert_eq!(failure.to_string(), "Failed: `sh -c 'exit 3'` ended with exit status: 3\nWhat to do: mend it");
        let failure = Run::new("no-such-program-anywhere", here).run().expect_err("it is not there");
        assert!(failure.to_string().contains("could not be run"), "{failure}");
        let mut lines = Vec::new();
        Run::new("sh", here).args(["-c", "echo a; echo b"]).lines(|line| lines.push(line.to_owned())).expect("it runs");
        assert_eq!(lines, ["a", "b"]);
    }
}
