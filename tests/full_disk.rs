//! A disk that is really full: new messages are refused with the reason, none that was accepted is lost, and it works again
//! once there is room.
//!
//! The story runs in a process of its own, which alone has the small disk: a file system in memory in a mount namespace
//! (which wants root), or a limit to the size of files (which wants nobody's leave).

#![cfg(target_os = "linux")]

mod support;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use cpc_net::{
    Message, NetworkEvent, NetworkHandler, Priority,
    error::{DeliveryError, SendError},
};
use support::{address, config, event, network, next, nothing_waits, soon, start};

/// Where the story finds its folder.
const FOLDER: &str = "CPC_NET_TEST_SMALL_DISK";

/// Room at first, and what takes half of it until somebody tidies up.
const DISK: u64 = 12 << 20;
const BALLAST: u64 = 6 << 20;

/// A message's payload; none is compressed.
fn noise(number: u32) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.extend((0..50_000_u32).map(|at| (at ^ number).wrapping_mul(2_654_435_761).to_le_bytes()[2]));
    payload
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().expect("four bytes"))
}

/// Sends and waits until it is accepted or refused.
async fn accepted(from: &NetworkHandler, to: &NetworkHandler, number: u32) -> Result<(), String> {
    match from.send_message(to.local_peer_id(), Message::event(noise(number)), Priority::Medium) {
        Ok(receipt) => match soon("a decision", receipt.accepted()).await {
            Ok(()) => Ok(()),
            Err(error @ DeliveryError::NotStored { .. }) => Err(error.to_string()),
            Err(error) => panic!("not for the disk: {error}"),
        },
        Err(error @ SendError::Storage { .. }) => Err(error.to_string()),
        Err(error) => panic!("not for the disk: {error}"),
    }
}

async fn story(folder: &Path, make_room: impl FnOnce()) {
    let network = network();
    let place = folder.join("node").display().to_string();
    let keeper = || {
        let patient = |delivery: &mut cpc_net::config::DeliveryConfig| delivery.timeout = Duration::from_secs(600);
        start(config(&network).data_dir(&place).delivery(patient))
    };
    let node = keeper().await;
    let (away, friend) = (start(config(&network)).await, start(config(&network)).await);
    let mut events = node.events();

    let mut kept = Vec::new();
    let refusal = loop {
        let number = u32::try_from(kept.len()).expect("few");
        assert!(number < 1000, "the disk is never full");
        match accepted(&node, &away, number).await {
            Ok(()) => kept.push(number),
            Err(error) => break error,
        }
    };
    println!("{} messages of 50 KB accepted, then: {refusal}", kept.len());
    assert!(kept.len() > 10, "there was room for some: {}", kept.len());
    let reason = event(&mut events, "the news of it", |event| match event {
        NetworkEvent::StoreFailing { reason } => Some(reason),
        _ => None,
    })
    .await;
    assert!(refusal.contains(&reason), "{refusal}: {reason}");
    accepted(&node, &away, 5000).await.expect_err("it is still full");

    // What comes meanwhile stays with its sender.
    let mut messages = node.messages();
    friend.connect(address(&node)).await.expect("connects");
    let waits = friend.send_message(node.local_peer_id(), Message::event("later"), Priority::High).expect("accepted");
    let deferred = async {
        while node.network_stats().messages_deferred == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("its arrival", deferred).await;
    assert!(!waits.state().is_final() && nothing_waits(&mut messages));

    make_room();
    event(&mut events, "the recovery", |event| matches!(event, NetworkEvent::StoreRecovered).then_some(())).await;
    accepted(&node, &away, 6000).await.expect("there is room again");
    kept.push(6000);
    assert_eq!(next(&mut messages).await.payload, "later");
    assert_eq!(soon("the receipt", waits.delivered()).await, Ok(()));

    soon("its end", node.shutdown()).await;
    let node = keeper().await;
    assert_eq!(node.receipts().len(), kept.len(), "all that was accepted, and nothing that was refused");
    let mut messages = away.messages();
    node.connect(address(&away)).await.expect("connects");
    for expected in kept {
        assert_eq!(number(&next(&mut messages).await.payload), expected, "in order, each once");
    }
    for receipt in node.receipts() {
        assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
    }
    assert!(nothing_waits(&mut messages));
}

/// Runs a test of this program again, in a process with a small disk.
fn run_again(mut command: Command, name: &str, folder: &Path) {
    let program = std::env::current_exe().expect("this program");
    let run = command.arg(program).args(["--exact", name, "--nocapture"]).env(FOLDER, folder).stdin(Stdio::null());
    let output = run.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the story failed: {}", output.status);
    assert!(said.contains("1 passed"), "it was really run");
}

fn tell(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(story);
}

#[test]
fn a_full_file_system_refuses_what_is_new_and_loses_nothing() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let ballast = Path::new(&folder).join("ballast");
        std::fs::write(&ballast, vec![1; BALLAST as usize]).expect("written");
        return tell(story(Path::new(&folder), || std::fs::remove_file(&ballast).expect("removed")));
    }
    let folder = tempfile::tempdir().expect("a folder");
    // The namespace ends with the process, and the mount with the namespace.
    let mount = format!("mount -t tmpfs -o size={DISK},mode=700 none \"$0\"");
    let in_namespace = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{mount} && {then}")]).arg(folder.path());
        command
    };
    match in_namespace("true").output() {
        Ok(output) if output.status.success() => {}
        failed => return println!("no file system can be mounted here, so this is not tested: {failed:?}"),
    }
    let name = "a_full_file_system_refuses_what_is_new_and_loses_nothing";
    run_again(in_namespace("exec \"$@\""), name, folder.path());
}

#[test]
fn a_file_that_may_not_grow_refuses_what_is_new_and_loses_nothing() {
    let limit = |process: u32, most: &str| {
        let (process, most) = (process.to_string(), format!("--fsize={most}:"));
        let output = Command::new("prlimit").args(["--pid", &process, &most]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if let Some(folder) = std::env::var_os(FOLDER) {
        let make_room = || assert!(limit(std::process::id(), "unlimited"), "the limit is ours to lift");
        assert!(limit(std::process::id(), &BALLAST.to_string()), "and to set");
        return tell(story(Path::new(&folder), make_room));
    }
    if !Command::new("prlimit").output().is_ok_and(|output| output.status.success()) {
        return println!("there is no prlimit here, so this is not tested");
    }
    let folder = tempfile::tempdir().expect("a folder");
    // The signal would end the process; ignored, the call fails as on a full disk.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ && exec \"$@\"", "sh"]);
    run_again(command, "a_file_that_may_not_grow_refuses_what_is_new_and_loses_nothing", folder.path());
}
