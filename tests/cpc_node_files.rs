//! Files between nodes as operators send them: `cpc-node send-file` and `cpc-node run --inbox`, as real processes.

#![cfg(feature = "node")]

#[path = "support/program.rs"]
mod program;

use std::{
    fs,
    path::{Path, PathBuf},
};

use cpc_net::PayloadHash;
use program::{Node, Running, assert_failed, cpc_node, nobody, path, text};
use serde_json::Value;

const MIB: usize = 1024 * 1024;

/// A file of so many bytes that don't repeat soon.
fn made(folder: &Path, name: &str, length: usize) -> (String, PayloadHash) {
    let bytes = (0..length).map(|at| ((at / 509) ^ at) as u8).collect::<Vec<_>>();
    let place = folder.join(name);
    fs::write(&place, &bytes).expect("written");
    (path(&place), PayloadHash::of(&bytes))
}

fn hash_of(file: &Path) -> PayloadHash {
    PayloadHash::of(fs::read(file).expect("it is there"))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Files below a folder, whatever peers sent them.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        match entry.file_type().expect("a kind").is_dir() {
            true => files.extend(files_below(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

/// The next line about a file in that state.
async fn file(node: &mut Node, state: &str) -> Value {
    node.running.event(|event| event["event"] == "file" && event["state"] == state).await
}

#[tokio::test]
async fn a_file_lies_in_the_inbox_under_a_safe_name_and_both_sides_know_its_hash() {
    let (inbox, files) = (folder(), folder());
    let mut node = Node::start(&["--inbox", &path(inbox.path())]).await;
    let (film, hash) = made(files.path(), "a film.mp4", 3 * MIB + 7);
    let sent = cpc_node(&["send-file", "--to", node.address(), &film]).await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert_eq!(text(&sent.stdout).trim(), format!("sent {hash}"));
    let line = file(&mut node, "received").await;
    let place = PathBuf::from(line["file"].as_str().expect("a path"));
    assert_eq!((&line["hash"], &line["bytes"]), (&hash.to_string().into(), &(3 * MIB + 7).into()));
    assert_eq!(place.file_name().expect("a name"), "a film.mp4");
    assert!(place.starts_with(inbox.path().canonicalize().expect("there")), "{}", place.display());
    assert_eq!(hash_of(&place), hash);

    // What a peer calls a file never leads out of its own folder, and never over another file.
    for name in ["../../../etc/passwd", "a film.mp4", "", "..", "C:\\x\\a film.mp4", "x.part"] {
        let sent = cpc_node(&["send-file", "--to", node.address(), "--name", name, &film]).await;
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        let line = file(&mut node, "received").await;
        let place = PathBuf::from(line["file"].as_str().expect("a path"));
        let peer = line["peer"].as_str().expect("a peer id");
        assert_eq!(place.parent(), Some(inbox.path().canonicalize().expect("there").join(peer).as_path()));
        assert_eq!(hash_of(&place), hash, "{name:?}");
    }
    assert_eq!(files_below(inbox.path()).len(), 7, "nothing was replaced, and no partial file is left");
}

#[tokio::test]
async fn one_file_twice_by_the_same_peer_is_two_files() {
    let (inbox, files, identity) = (folder(), folder(), folder());
    let node = Node::start(&["--inbox", &path(inbox.path())]).await;
    let (note, _) = made(files.path(), "note.txt", 100);
    for _ in 0..2 {
        let words = ["send-file", "--data-dir", &path(identity.path()), "--to", node.address(), &note];
        let sent = cpc_node(&words).await;
        assert!(sent.status.success(), "{}", text(&sent.stderr));
    }
    let mut names = files_below(inbox.path()).into_iter().map(|file| path(&file)).collect::<Vec<_>>();
    names.sort();
    assert!(names.len() == 2 && names[0].ends_with("/note (2).txt") && names[1].ends_with("/note.txt"), "{names:?}");
}

#[tokio::test]
async fn programs_hear_of_each_step() {
    let (inbox, files) = (folder(), folder());
    let node = Node::start(&["--inbox", &path(inbox.path())]).await;
    let (film, hash) = made(files.path(), "film", MIB);
    let sent = cpc_node(&["send-file", "--json", "--to", node.address(), &film]).await;
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let lines = text(&sent.stdout);
    let steps = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>();
    assert_eq!((&steps[0]["event"], &steps[0]["length"]), (&"offered".into(), &MIB.into()), "{lines}");
    let end = steps.last().expect("lines");
    assert_eq!((&end["event"], &end["hash"], &end["bytes"]), (&"sent".into(), &hash.to_string().into(), &MIB.into()));
}

#[tokio::test]
async fn a_node_without_an_inbox_takes_nothing_and_says_so_at_once() {
    let files = folder();
    let node = Node::start(&[]).await;
    let (film, _) = made(files.path(), "film", 10);
    assert_failed(&cpc_node(&["send-file", "--to", node.address(), &film]).await, 1, &["takes no files", "--inbox"]);
    let json = cpc_node(&["send-file", "--json", "--to", node.address(), &film]).await;
    assert_eq!(json.status.code(), Some(1));
    let end = text(&json.stdout);
    let end = serde_json::from_str::<Value>(end.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&end["event"], &end["error"]["code"]), (&"failed".into(), &"refused".into()));
}

#[tokio::test]
async fn what_is_over_a_limit_or_from_a_stranger_is_refused_with_the_reason() {
    let (inbox, files, identity) = (folder(), folder(), folder());
    let friend = text(&cpc_node(&["keygen", "--data-dir", &path(identity.path())]).await.stdout).trim().to_owned();
    let limits = ["--inbox-file-limit", "100kB", "--inbox-peer-limit", "200kB", "--inbox-from", &friend];
    let mut words = vec!["--inbox"];
    let place = path(inbox.path());
    words.push(&place);
    words.extend(limits);
    let node = Node::start(&words).await;
    let send = async |name: &str, length: usize, known: bool| {
        let (file, _) = made(files.path(), name, length);
        let data = path(identity.path());
        let mut words = vec!["send-file", "--to", node.address(), &file];
        words.extend(if known { vec!["--data-dir", &data] } else { vec![] });
        cpc_node(&words).await
    };
    assert_failed(&send("stranger", 10, false).await, 1, &["takes files from those only"]);
    assert_failed(&send("long", 100_001, true).await, 1, &["100000 bytes"]);
    for name in ["one", "two"] {
        let sent = send(name, 90_000, true).await;
        assert!(sent.status.success(), "{}", text(&sent.stderr));
    }
    assert_failed(&send("three", 90_000, true).await, 1, &["no room", "from you"]);
    assert_eq!(files_below(inbox.path()).len(), 2);
}

#[tokio::test]
async fn nobody_there_and_no_such_file_are_said_with_their_exit_codes() {
    let files = folder();
    let (film, _) = made(files.path(), "film", 10);
    let peer = cpc_net::PeerId::random();
    let to = format!("{}/p2p/{peer}", nobody());
    assert_failed(&cpc_node(&["send-file", "--to", &to, "--timeout", "2s", &film]).await, 1, &["error: "]);
    assert_failed(&cpc_node(&["send-file", "--to", &to, "no/such/file"]).await, 2, &["no/such/file"]);
    assert_failed(&cpc_node(&["run", "--inbox-limit", "1GB"]).await, 2, &["--inbox"]);
}

#[tokio::test]
async fn a_node_that_is_killed_goes_on_with_what_its_disk_has() {
    let (inbox, files) = (folder(), folder());
    let inbox_path = path(inbox.path());
    // Slow enough to be met in the middle.
    let limits = ["--inbox", &inbox_path];
    let mut node = Node::start(&limits).await;
    let address = node.address().to_owned();
    let length = 48 * MIB;
    let (film, hash) = made(files.path(), "film.mkv", length);
    let slow = files.path().join("slow.toml");
    fs::write(&slow, "[bandwidth]\nlimited = true\ntotal = 16000000\nper_peer = 16000000\n").expect("written");
    let words = ["send-file", "--json", "--timeout", "60s", "--config", &path(&slow), "--to", &address, &film]
        .map(str::to_owned);
    let words = words.iter().map(String::as_str).collect::<Vec<_>>();
    let mut sender = Running::start(&words);
    sender.event(|event| event["transferred"].as_u64().is_some_and(|bytes| bytes > 8 * MIB as u64)).await;
    node.running.child.start_kill().expect("it runs");
    let data = node.data;
    node.running.child.wait().await.expect("it ends");
    let parts = files_below(inbox.path());
    assert!(parts.len() == 1 && parts[0].extension().is_some_and(|end| end == "part"), "{parts:?}");

    let port = address.split('/').nth(4).expect("a port");
    let place = path(data.path());
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let again = ["run", "--json", "--no-mdns", "--http", "off", "--data-dir", &place, "--listen", &listen];
    let mut again = Running::start(&again.into_iter().chain(limits).collect::<Vec<_>>());
    let begin = again.event(|event| event["event"] == "file" && event["state"] == "taken").await;
    assert!(begin["resumedAt"].as_u64().is_some_and(|at| at > 4 * MIB as u64), "{begin}");
    let end = again.event(|event| event["event"] == "file" && event["state"] == "received").await;
    assert_eq!(hash_of(Path::new(end["file"].as_str().expect("a path"))), hash);
    let end = sender.event(|event| event["event"] == "sent").await;
    assert_eq!(end["hash"], hash.to_string());
    assert_eq!(sender.end().await.0.code(), Some(0));
    assert_eq!(files_below(inbox.path()).len(), 1);
}
