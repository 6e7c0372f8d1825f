//! The program `cpc-node` as a test runs it: its commands, its lines, its answers over HTTP.

#![allow(dead_code, reason = "each story uses what it needs")]

use std::{
    net::TcpListener,
    path::Path,
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

/// Nothing here may take longer, on a machine however busy.
pub const BOUND: Duration = Duration::from_secs(60);

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpc-node"));
    // What is set on this machine must not decide what is tested.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CPC_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn finished(command: &mut Command) -> Output {
    let child = command.spawn().expect("the program starts");
    timeout(BOUND, child.wait_with_output()).await.expect("it ends in time").expect("it can be waited for")
}

pub async fn cpc_node(arguments: &[&str]) -> Output {
    finished(&mut command(arguments)).await
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asserts how a command ended, and what it said on standard error about it.
pub fn assert_failed(output: &Output, code: i32, parts: &[&str]) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    for part in parts {
        assert!(errors.contains(part), "{errors:?} should mention {part:?}");
    }
}

/// A program that runs until it is told to end. It is killed when this is dropped.
pub struct Running {
    pub child: Child,
    /// What it prints, as long as somebody reads it.
    pub lines: Option<Lines<BufReader<ChildStdout>>>,
    pub errors: JoinHandle<String>,
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut errors = child.stderr.take().expect("piped");
        let errors = tokio::spawn(async move {
            let mut bytes = Vec::new();
            let _ = errors.read_to_end(&mut bytes).await;
            text(&bytes)
        });
        Self { child, lines: Some(lines), errors }
    }

    /// The next line that is wanted.
    pub async fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let lines = self.lines.as_mut().expect("somebody reads");
        let search = async {
            while let Some(line) = lines.next_line().await.expect("lines are text") {
                if wanted(&line) {
                    return Some(line);
                }
            }
            None
        };
        match timeout(BOUND, search).await.expect("the line comes in time") {
            Some(line) => line,
            None => panic!("the program has ended before the line came: {:?}", (&mut self.errors).await),
        }
    }

    /// The next JSON line that is wanted.
    pub async fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("every line is JSON");
        let line = self.line(|line| wanted(&read(line))).await;
        read(&line)
    }

    pub async fn message(&mut self) -> Value {
        self.event(|event| event["event"] == "message").await["message"].take()
    }

    #[cfg(unix)]
    pub async fn signal(&self, name: &str) {
        let process = self.child.id().expect("it runs").to_string();
        // The shell's own `kill`: not every system has a program of that name.
        let arguments = ["-c", "kill -s \"$0\" \"$1\"", name, &process];
        assert!(Command::new("sh").args(arguments).status().await.expect("there is a shell").success());
    }

    /// Waits for the end; gives how it ended and what it said on standard error.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let end = async {
            if let Some(lines) = &mut self.lines {
                // Read to the end, so that nothing holds it up.
                while let Ok(Some(_)) = lines.next_line().await {}
            }
            let status = self.child.wait().await.expect("it can be waited for");
            (status, self.errors.await.expect("the reading doesn't panic"))
        };
        timeout(BOUND, end).await.expect("it ends in time")
    }
}

/// A node that listens on loopback only, at free ports, and what it said of itself.
pub struct Node {
    pub running: Running,
    pub ready: Value,
    pub data: tempfile::TempDir,
}

impl Node {
    pub async fn start(more: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), more).await
    }

    pub async fn start_in(data: tempfile::TempDir, more: &[&str]) -> Self {
        let folder = path(data.path());
        let mut arguments = vec!["run", "--json", "--no-mdns", "--http", "127.0.0.1:0", "--data-dir", &folder];
        arguments.extend(["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/tcp/0/ws"]);
        arguments.extend(more);
        let mut running = Running::start(&arguments);
        let ready = running.event(|_| true).await;
        assert_eq!(ready["event"], "ready", "that is the first line");
        Self { running, ready, data }
    }

    pub fn peer(&self) -> &str {
        self.ready["peerId"].as_str().expect("the peer id is text")
    }

    /// Its plain TCP address.
    pub fn address(&self) -> &str {
        tcp_address(&self.ready)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.ready["http"].as_str().expect("it serves HTTP"))
    }
}

pub fn tcp_address(ready: &Value) -> &str {
    let addresses = ready["addresses"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let mut plain = addresses.filter(|address| address.contains("/tcp/") && !address.contains("/ws"));
    plain.next().expect("it listens on TCP")
}

pub fn path(path: &Path) -> String {
    path.to_str().expect("temporary folders have plain names").to_owned()
}

/// An address on this machine at which nobody listens.
pub fn nobody() -> String {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    format!("/ip4/127.0.0.1/tcp/{}", address.port())
}

pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

pub async fn request(url: String, body: Option<&'static str>) -> Answer {
    let work = move || {
        let config = ureq::Agent::config_builder();
        let agent = config.timeout_global(Some(BOUND)).proxy(None).http_status_as_error(false).build().new_agent();
        let mut response = match body {
            None => agent.get(url).call(),
            Some(body) => agent.post(url).send(body),
        }
        .expect("it answers");
        let body = response.body_mut().with_config().lossy_utf8(true).read_to_string().expect("the whole body comes");
        Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
    };
    tokio::task::spawn_blocking(work).await.expect("the request doesn't panic")
}

pub async fn get(url: String) -> Answer {
    request(url, None).await
}
