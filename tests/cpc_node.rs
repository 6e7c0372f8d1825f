//! The program `cpc-node` as its users run it: real processes, real sockets on loopback, real signals.

#![cfg(feature = "node")]

use std::{
    net::TcpListener,
    path::Path,
    process::{ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

/// Nothing here may take longer, on a machine however busy.
const BOUND: Duration = Duration::from_secs(60);

fn command(arguments: &[&str]) -> Command {
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
async fn finished(command: &mut Command) -> Output {
    let child = command.spawn().expect("the program starts");
    timeout(BOUND, child.wait_with_output()).await.expect("it ends in time").expect("it can be waited for")
}

async fn cpc_node(arguments: &[&str]) -> Output {
    finished(&mut command(arguments)).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asserts how a command ended, and what it said on standard error about it.
fn assert_failed(output: &Output, code: i32, parts: &[&str]) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    for part in parts {
        assert!(errors.contains(part), "{errors:?} should mention {part:?}");
    }
}

/// A program that runs until it is told to end. It is killed when this is dropped.
struct Running {
    child: Child,
    /// What it prints, as long as somebody reads it.
    lines: Option<Lines<BufReader<ChildStdout>>>,
    errors: JoinHandle<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
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
    async fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
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
    async fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("every line is JSON");
        let line = self.line(|line| wanted(&read(line))).await;
        read(&line)
    }

    async fn message(&mut self) -> Value {
        self.event(|event| event["event"] == "message").await["message"].take()
    }

    #[cfg(unix)]
    async fn signal(&self, name: &str) {
        let process = self.child.id().expect("it runs").to_string();
        // The shell's own `kill`: not every system has a program of that name.
        let arguments = ["-c", "kill -s \"$0\" \"$1\"", name, &process];
        assert!(Command::new("sh").args(arguments).status().await.expect("there is a shell").success());
    }

    /// Waits for the end; gives how it ended and what it said on standard error.
    async fn end(mut self) -> (ExitStatus, String) {
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
struct Node {
    running: Running,
    ready: Value,
    data: tempfile::TempDir,
}

impl Node {
    async fn start(more: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), more).await
    }

    async fn start_in(data: tempfile::TempDir, more: &[&str]) -> Self {
        let folder = path(data.path());
        let mut arguments = vec!["run", "--json", "--no-mdns", "--http", "127.0.0.1:0", "--data-dir", &folder];
        arguments.extend(["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/tcp/0/ws"]);
        arguments.extend(more);
        let mut running = Running::start(&arguments);
        let ready = running.event(|_| true).await;
        assert_eq!(ready["event"], "ready", "that is the first line");
        Self { running, ready, data }
    }

    fn peer(&self) -> &str {
        self.ready["peerId"].as_str().expect("the peer id is text")
    }

    /// Its plain TCP address.
    fn address(&self) -> &str {
        tcp_address(&self.ready)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.ready["http"].as_str().expect("it serves HTTP"))
    }
}

fn tcp_address(ready: &Value) -> &str {
    let addresses = ready["addresses"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let mut plain = addresses.filter(|address| address.contains("/tcp/") && !address.contains("/ws"));
    plain.next().expect("it listens on TCP")
}

fn path(path: &Path) -> String {
    path.to_str().expect("temporary folders have plain names").to_owned()
}

/// An address on this machine at which nobody listens.
fn nobody() -> String {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    format!("/ip4/127.0.0.1/tcp/{}", address.port())
}

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

async fn request(url: String, body: Option<&'static str>) -> Answer {
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

async fn get(url: String) -> Answer {
    request(url, None).await
}

#[tokio::test]
async fn help_tells_how_to_use_it() {
    let help = cpc_node(&["--help"]).await;
    assert!(help.status.success());
    for command in ["run", "keygen", "send", "listen", "peers"] {
        assert!(text(&help.stdout).contains(command));
        let help = cpc_node(&[command, "--help"]).await;
        assert!(help.status.success());
        assert!(text(&help.stdout).contains("Examples:"), "{command} shows how it is used");
    }
    assert_failed(&cpc_node(&["fly"]).await, 2, &["fly"]);
}

#[tokio::test]
async fn keygen_makes_an_identity_once_and_keeps_it_private() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("identity");
    let made = cpc_node(&["keygen", "--data-dir", &path(&place)]).await;
    assert!(made.status.success(), "{}", text(&made.stderr));
    let id = text(&made.stdout).trim().to_owned();
    id.parse::<cpc_net::PeerId>().expect("it prints a peer id and nothing else");

    let shown = cpc_node(&["keygen", "--json", "--data-dir", &path(&place)]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["peerId"], *id);
    assert_eq!(shown["dataDir"], path(&place));

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let files =
            std::fs::read_dir(&place).expect("the folder is there").map(|entry| entry.expect("readable").path());
        let files = files.collect::<Vec<_>>();
        assert!(!files.is_empty());
        for file in files {
            let mode = std::fs::metadata(&file).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
        }
    }
}

#[tokio::test]
async fn a_node_keeps_its_identity_over_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = cpc_node(&["keygen", "--data-dir", &path(folder.path())]).await;
    let id = text(&made.stdout).trim().to_owned();
    let mut node = Node::start_in(folder, &[]).await;
    assert_eq!(node.peer(), id);
    node.running.child.kill().await.expect("it can be killed");
    let node = Node::start_in(node.data, &[]).await;
    assert_eq!(node.peer(), id);
}

#[tokio::test]
async fn a_node_tells_of_itself_over_http() {
    let node = Node::start(&["--network", "chess"]).await;

    let health = get(node.url("/healthz")).await;
    assert_eq!((health.status, health.header("cache-control")), (200, "no-store"));
    assert_eq!(health.json()["status"], "ok");
    assert_eq!(health.json()["peerId"], node.peer());

    let metrics = get(node.url("/metrics")).await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.body.contains("cpc_messages_sent_total{priority=\"high\"} 0\n"), "{}", metrics.body);
    assert!(metrics.body.ends_with("# EOF\n"));

    let bootstrap = get(node.url("/bootstrap.json")).await.json();
    assert_eq!(bootstrap["peerId"], node.peer());
    assert_eq!(bootstrap["network"], "chess");
    let addresses = bootstrap["addresses"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let addresses = addresses.collect::<Vec<_>>();
    assert!(addresses[0].contains("/ws/"), "browsers can dial the first one: {addresses:?}");
    assert!(addresses.contains(&node.address()));
    assert!(addresses.iter().all(|address| address.ends_with(&format!("/p2p/{}", node.peer()))), "{addresses:?}");

    assert_eq!(get(node.url("/api/status")).await.json()["localPeerId"], node.peer());
    assert!(get(node.url("/api/peers")).await.json().is_array());
    assert_eq!(get(node.url("/api/stats")).await.json()["messagesDelivered"], 0);

    let page = get(node.url("/")).await;
    assert!(page.status == 200 && page.body.contains("--www"), "{}", page.body);
    assert_eq!(get(node.url("/nothing")).await.status, 404);
    assert_eq!(request(node.url("/api/peers"), Some("a body")).await.status, 413);
}

#[tokio::test]
async fn a_node_serves_its_page() {
    let www = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(www.path().join("assets")).expect("can be made");
    for (file, content) in [
        ("index.html", "<!doctype html><title>the page</title>"),
        ("assets/app-BK2yHb5P.js", "export {}"),
        ("assets/cpc_net_bg-C0ff_e-1.wasm", "\0asm\u{1}\0\0\0"),
    ] {
        std::fs::write(www.path().join(file), content).expect("can be written");
    }
    let node = Node::start(&["--www", &path(www.path())]).await;

    let page = get(node.url("/")).await;
    assert!(page.body.contains("the page"));
    assert!(page.header("content-type").starts_with("text/html"));
    assert_eq!(page.header("cache-control"), "no-cache");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("'wasm-unsafe-eval'"), "{policy}");

    let script = get(node.url("/assets/app-BK2yHb5P.js")).await;
    assert!(script.header("content-type").starts_with("text/javascript"));
    assert!(script.header("cache-control").contains("immutable"));
    let wasm = get(node.url("/assets/cpc_net_bg-C0ff_e-1.wasm")).await;
    assert_eq!(wasm.header("content-type"), "application/wasm");
    assert!(wasm.header("cache-control").contains("immutable"));

    let missing = get(node.url("/assets/app-00000000.js")).await;
    assert_eq!((missing.status, missing.header("cache-control")), (404, "no-store"));
    assert_eq!(get(node.url("/..%2f..%2fetc/passwd")).await.status, 404);
    assert_eq!(get(node.url("/healthz")).await.status, 200, "the node's own answers go before files");
}

#[tokio::test]
async fn a_message_arrives_and_its_sender_knows() {
    let mut node = Node::start(&[]).await;
    let sent = cpc_node(&["send", "--to", node.address(), "--priority", "high", "hello from a test"]).await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let message = node.running.message().await;
    assert_eq!(message["payload"], "hello from a test");
    assert_eq!(message["delivery"], "direct");
    assert_eq!(message["kind"], "event");
    assert_eq!(message["priority"], "high");
    assert_eq!(text(&sent.stdout).trim(), format!("delivered {}", message["id"].as_str().expect("an id")));
}

#[tokio::test]
async fn bytes_from_standard_input_arrive_as_they_are() {
    let mut node = Node::start(&[]).await;
    let mut command = command(&["send", "--to", node.address(), "--kind", "data", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(&[0xff, 0xfe]).await.expect("it reads");
    drop(input);
    let sent = timeout(BOUND, child.wait_with_output()).await.expect("in time").expect("can be waited for");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let message = node.running.message().await;
    assert_eq!((&message["payloadBase64"], &message["kind"]), (&"//4=".into(), &"data".into()));
}

#[tokio::test]
async fn a_post_is_taken_and_one_that_nobody_takes_fails_in_time() {
    let mut node = Node::start(&[]).await;
    let posted = cpc_node(&["post", "--bootstrap", node.address(), "to everybody"]).await;
    assert!(posted.status.success(), "{}", text(&posted.stderr));
    let message = node.running.message().await;
    assert_eq!((&message["payload"], &message["delivery"]), (&"to everybody".into(), &"all".into()));

    let nobody = "/ip4/127.0.0.1/tcp/1";
    let lost = cpc_node(&["post", "--bootstrap", nobody, "--timeout", "1s", "anybody?"]).await;
    assert_eq!(lost.status.code(), Some(1));
    assert!(text(&lost.stderr).contains("nobody took the post"), "{}", text(&lost.stderr));
}

#[tokio::test]
async fn a_bare_peer_id_is_enough_where_it_can_be_found() {
    let mut node = Node::start(&[]).await;
    let sent = cpc_node(&["send", "--to", node.peer(), "--bootstrap", node.address(), "found you"]).await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert_eq!(node.running.message().await["payload"], "found you");
}

#[tokio::test]
async fn people_see_a_message_on_one_harmless_line() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let listen = "/ip4/127.0.0.1/tcp/0";
    let folder = path(data.path());
    let mut node = Running::start(&["run", "--listen", listen, "--no-mdns", "--http", "off", "--data-dir", &folder]);
    let line = node.line(|line| line.contains("/p2p/")).await;
    let address = line.split_whitespace().find(|word| word.starts_with("/ip4/")).expect("an address").to_owned();
    let sent = cpc_node(&["send", "--to", &address, "one\ntwo\u{1b}[31m"]).await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let line = node.line(|line| line.starts_with("[direct]")).await;
    assert!(line.ends_with(": one two[31m"), "{line:?}");
}

#[tokio::test]
async fn nobody_there_is_said_in_bounded_time() {
    let stranger = cpc_net::PeerId::random().to_string();
    let address = format!("{}/p2p/{stranger}", nobody());
    let began = Instant::now();
    assert_failed(&cpc_node(&["send", "--to", &address, "--timeout", "5s", "hello"]).await, 1, &["error: ", &stranger]);

    // Nobody to ask either.
    let bootstrap = nobody();
    let line = ["send", "--to", &stranger, "--bootstrap", &bootstrap, "--timeout", "2s", "hello"];
    assert_failed(&cpc_node(&line).await, 1, &["error: ", &stranger, "2s"]);
    assert!(began.elapsed() < BOUND);
}

#[tokio::test]
async fn a_mistake_names_its_field_and_what_is_allowed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "[limits]\nmax_payload = 0\n").expect("can be written");
    let file = path(&file);
    let wrong_file = cpc_node(&["run", "--config", &file]).await;
    assert_failed(&wrong_file, 2, &["node.toml", "limits.max_payload", "1 to 4194304 bytes"]);

    let wrong_variable = finished(command(&["run"]).env("CPC_NET_CONNECTIONS__PING_INTERVAL", "1 fortnight")).await;
    assert_failed(&wrong_variable, 2, &["environment", "connections.ping_interval", "30s"]);

    assert_failed(&cpc_node(&["run", "--network", "two words"]).await, 2, &["network", "1 to 32 letters"]);
    assert_failed(&cpc_node(&["run", "--listen", "here"]).await, 2, &["--listen", "/ip4/"]);
    assert_failed(&cpc_node(&["run", "--http", "nowhere"]).await, 2, &["--http", "127.0.0.1:8080"]);
    assert_failed(&cpc_node(&["run", "--www", "no/such/folder"]).await, 2, &["--www", "no/such/folder", "index.html"]);
    assert_failed(&cpc_node(&["send", "--to", "/ip4/127.0.0.1/tcp/1", "x"]).await, 2, &["--to", "/p2p/<peer id>"]);
    assert_failed(&cpc_node(&["run", "--log", "cpc_net=loud"]).await, 2, &["--log"]);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let data = tempfile::tempdir().expect("a temporary folder");
    let folder = path(data.path());
    let run = ["run", "--no-mdns", "--data-dir", &folder];

    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let line = [&run[..], &["--http", "off", "--listen", &address][..]].concat();
    assert_failed(&cpc_node(&line).await, 1, &[&address, "in use"]);

    let place = format!("127.0.0.1:{port}");
    let line = [&run[..], &["--http", &place, "--listen", "/ip4/127.0.0.1/tcp/0"][..]].concat();
    assert_failed(&cpc_node(&line).await, 1, &[&place, "in use", "--http"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_drains_the_node_and_ends_it_well() {
    for name in ["INT", "TERM"] {
        let node = Node::start(&[]).await;
        node.running.signal(name).await;
        let (status, errors) = node.running.end().await;
        assert_eq!(status.code(), Some(0), "SIG{name}: {errors}");
        assert!(errors.contains("stopping"), "SIG{name}: {errors}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_last_line_says_that_the_network_has_stopped() {
    let mut node = Node::start(&[]).await;
    node.running.signal("INT").await;
    let stopped = node.running.event(|event| event["network"]["type"] == "stopped").await;
    assert_eq!(stopped["event"], "network");
    assert_eq!(node.running.end().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_node_whose_reader_has_gone_goes_too() {
    let mut node = Node::start(&[]).await;
    // The pipe is closed with its only reader; what is printed next finds that out.
    node.running.lines = None;
    // Whether this one message is still acknowledged is no matter.
    cpc_node(&["send", "--to", node.address(), "--timeout", "5s", "is anybody reading?"]).await;
    let (status, errors) = node.running.end().await;
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("stopped reading"), "{errors}");
}

#[tokio::test]
async fn peers_shows_who_was_here() {
    let node = Node::start(&[]).await;
    let empty = cpc_node(&["peers", "--http", &node.url("")]).await;
    assert_eq!(text(&empty.stdout).trim(), "no peers are known yet", "{}", text(&empty.stderr));

    let sender = tempfile::tempdir().expect("a temporary folder");
    let folder = path(sender.path());
    let id = text(&cpc_node(&["keygen", "--data-dir", &folder]).await.stdout).trim().to_owned();
    let sent = cpc_node(&["send", "--data-dir", &folder, "--to", node.address(), "it's me"]).await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));

    let table = cpc_node(&["peers", "--http", &node.url("")]).await;
    let table = text(&table.stdout);
    assert!(table.starts_with("PEER") && table.contains(&id), "{table}");
    let json = cpc_node(&["peers", "--json", "--http", &node.url("/")]).await;
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert!(json.as_array().expect("a list").iter().any(|peer| peer["peer"] == *id), "{json}");

    let nobody = nobody().replace("/ip4/127.0.0.1/tcp/", "http://127.0.0.1:");
    assert_failed(&cpc_node(&["peers", "--http", &nobody]).await, 1, &[&nobody, "cpc-node run"]);
}

#[tokio::test]
async fn listen_prints_what_arrives_and_ends_when_it_is_enough() {
    let mut listener =
        Running::start(&["listen", "--json", "--count", "2", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"]);
    let ready = listener.event(|event| event["event"] == "ready").await;
    for payload in ["one", "two"] {
        let sent = cpc_node(&["send", "--to", tcp_address(&ready), payload]).await;
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        assert_eq!(listener.message().await["payload"], payload);
    }
    let (status, errors) = listener.end().await;
    assert_eq!(status.code(), Some(0), "{errors}");
}
