//! A running `cpc-node`: its events as they come, and an end in good order.

use std::{
    io::{self, BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use crate::failure::Failure;

/// The node. When this is dropped the node is told to end, whatever happened.
pub struct NodeProcess {
    child: Child,
    events: BufReader<ChildStdout>,
    ended: bool,
    interrupts: interrupts::Forwarding,
}

impl NodeProcess {
    pub fn start(mut command: Command) -> Result<Self, Failure> {
        let interrupts =
            interrupts::Pending::catch().map_err(|error| Failure::new(format!("can't listen for Ctrl-C: {error}")))?;
        interrupts::set_apart(&mut command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("the node can't be started: {error}")))?;
        let interrupts = interrupts.forward_to(child.id());
        match child.stdout.take() {
            Some(output) => Ok(Self { child, events: BufReader::new(output), ended: false, interrupts }),
            None => Err(Failure::new("the node's output can't be read")),
        }
    }

    /// Waits for the event of that name; nothing if the node ends before.
    pub fn first_event(&mut self, name: &str) -> Option<Value> {
        while let Some(event) = self.next_event() {
            if event["event"] == name {
                return Some(event);
            }
        }
        None
    }

    /// Hands over every event until the node ends, or until they can't be taken any more.
    pub fn each_event(&mut self, mut take: impl FnMut(&Value) -> io::Result<()>) -> io::Result<()> {
        while let Some(event) = self.next_event() {
            take(&event)?;
        }
        Ok(())
    }

    /// The next line that is an event; lines that are none are not ours to judge.
    fn next_event(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.events.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            if let Ok(event) = serde_json::from_slice(&line) {
                return Some(event);
            }
        }
    }

    /// Waits until the node has ended. Ending because somebody asked for it is no failure.
    pub fn end(mut self) -> Result<(), Failure> {
        let status = self.child.wait().map_err(|error| Failure::new(format!("can't wait for the node: {error}")))?;
        self.ended = true;
        if status.success() || self.interrupts.any() {
            Ok(())
        } else {
            Err(Failure::new(format!("the node ended with {status}")).remedy("its own words are above"))
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if !self.ended {
            interrupts::ask_to_end(&mut self.child);
            // It is ending or gone; there is nobody left to tell.
            let _ = self.child.wait();
        }
    }
}

/// On Unix the node is in a process group of its own and gets each signal from here, exactly once, whether it was
/// Ctrl-C in a terminal or `kill`. Otherwise this program would be gone before the node has said goodbye.
#[cfg(unix)]
mod interrupts {
    use std::{
        io,
        os::unix::process::CommandExt,
        process::{Child, Command, Stdio},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        thread,
    };

    use signal_hook::{
        consts::{SIGHUP, SIGINT, SIGTERM},
        iterator::{Handle, Signals},
    };

    pub struct Pending(Signals);

    pub struct Forwarding {
        any: Arc<AtomicBool>,
        catching: Handle,
    }

    impl Pending {
        pub fn catch() -> io::Result<Self> {
            Signals::new([SIGINT, SIGTERM, SIGHUP]).map(Self)
        }

        pub fn forward_to(mut self, process: u32) -> Forwarding {
            let catching = self.0.handle();
            let any = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&any);
            thread::spawn(move || {
                for signal in self.0.forever() {
                    let first = !seen.swap(true, Ordering::Relaxed);
                    if first {
                        eprintln!("\nEnding: the node sends what waits and says goodbye to its peers");
                    }
                    send(signal, process);
                }
            });
            Forwarding { any, catching }
        }
    }

    impl Forwarding {
        /// Whether the node has been asked to end.
        pub fn any(&self) -> bool {
            self.any.load(Ordering::Relaxed)
        }
    }

    impl Drop for Forwarding {
        /// The process is gone, and its number may become another's.
        fn drop(&mut self) {
            self.catching.close();
        }
    }

    pub fn set_apart(command: &mut Command) {
        command.process_group(0);
    }

    pub fn ask_to_end(child: &mut Child) {
        send(SIGTERM, child.id());
    }

    fn send(signal: i32, process: u32) {
        // The shell has `kill` built in; the program of that name is missing from small systems. It fails only when the
        // process is gone, which is what was wanted.
        let _ = Command::new("sh").args(["-c", &format!("kill -{signal} {process}")]).stderr(Stdio::null()).status();
    }
}

/// Elsewhere the system tells both programs of Ctrl-C by itself.
#[cfg(not(unix))]
mod interrupts {
    use std::{
        io,
        process::{Child, Command},
    };

    pub struct Pending;

    pub struct Forwarding;

    impl Pending {
        pub fn catch() -> io::Result<Self> {
            Ok(Self)
        }

        pub fn forward_to(self, _process: u32) -> Forwarding {
            Forwarding
        }
    }

    impl Forwarding {
        pub fn any(&self) -> bool {
            false
        }
    }

    pub fn set_apart(_command: &mut Command) {}

    pub fn ask_to_end(child: &mut Child) {
        // It has ended already if this fails.
        let _ = child.kill();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> NodeProcess {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        NodeProcess::start(command).expect("a shell starts")
    }

    #[test]
    fn events_are_read_past_what_is_none() {
        let mut node = shell(
            r#"echo noise; echo '{"event":"other"}'; echo '{"event":"ready","peerId":"a"}'; echo '{"event":"message"}'"#,
        );
        assert_eq!(node.first_event("ready").expect("ready")["peerId"], "a");
        let mut rest = Vec::new();
        node.each_event(|event| {
            rest.push(event["event"].clone());
            Ok(())
        })
        .expect("all are taken");
        assert_eq!(rest, ["message"]);
        node.end().expect("it ends well");
    }

    #[test]
    fn a_node_that_fails_is_a_failure() {
        let mut node = shell("exit 3");
        assert_eq!(node.first_event("ready"), None);
        let failure = node.end().expect_err("it failed");
        assert!(failure.to_string().contains("exit status: 3"), "{failure}");
    }

    #[test]
    fn a_node_that_is_dropped_ends() {
        let mut node = shell(r#"trap 'exit 0' TERM; echo '{"event":"ready"}'; while :; do sleep 0.1; done"#);
        node.first_event("ready").expect("ready");
        let process = node.child.id();
        drop(node);
        let alive = Command::new("sh").args(["-c", &format!("kill -0 {process}")]).stderr(Stdio::null()).status();
        assert!(!alive.expect("a shell runs").success(), "process {process} is still there");
    }
}
