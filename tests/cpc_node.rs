//! The program `cpc-node` as its users run it: real processes, real sockets on loopback, real signals.

#![cfg(feature = "node")]

#[path = "support/program.rs"]
mod program;

use std::{net::TcpListener, process::Stdio, time::Instant};

use program::{
    BOUND, Node, Running, assert_failed, command, cpc_node, finished, get, nobody, path, request, tcp_address, text,
};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, time::timeout};

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
