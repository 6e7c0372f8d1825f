//! The rules of the house that a compiler doesn't check: which rooms may ask for the target, that every channel has a
//! bound, and that the core decides without I/O, clock or dice. ARCHITECTURE.md tells the reasons.
//!
//! The rules are read off the tokens of the sources, so that comments and texts may name what code may not use.

#![cfg(not(target_arch = "wasm32"))]

#[path = "house_rules/paths.rs"]
mod paths;
#[path = "house_rules/tokens.rs"]
mod tokens;

use std::{
    fs,
    path::{Path, PathBuf},
};

use paths::{NamedPath, paths};
use tokens::{Token, first_argument, group_after, tokens, without_tests};

/// Rooms that exist to differ by target. Everything else is the same everywhere.
const ROOMS_WITH_TARGET_GATES: [&str; 5] = ["transport", "platform", "bindings", "bin", "lib"];

/// All that the core may know of libp2p.
const LIBP2P_FOR_THE_CORE: [&[&str]; 3] =
    [&["libp2p", "PeerId"], &["libp2p", "Multiaddr"], &["libp2p", "multiaddr", "Protocol"]];

/// Crates that bring a clock, dice or waiting along.
const CRATES_BARRED_FROM_THE_CORE: [&str; 11] = [
    "async_broadcast",
    "async_channel",
    "futures",
    "futures_channel",
    "futures_timer",
    "futures_util",
    "getrandom",
    "rand",
    "rand_core",
    "tokio",
    "web_time",
];

/// Parts of the standard library that do the same. (`std::net` has plain types like `IpAddr` and is no offence.)
const STD_BARRED_FROM_THE_CORE: [&[&str]; 7] = [
    &["time", "Instant"],
    &["time", "SystemTime"],
    &["time", "*"],
    &["time", "self"],
    &["thread"],
    &["future"],
    &["task"],
];

/// Rooms above the core, and those whose business is the world outside.
const ROOMS_BARRED_FROM_THE_CORE: [&str; 6] = ["bindings", "driver", "handler", "platform", "store", "transport"];

/// Rooms that stand at the top: nothing below may lean on them.
const UPPER_ROOMS: [&str; 3] = ["bindings", "driver", "handler"];
const LOWER_ROOMS: [&str; 5] = ["crypto", "platform", "store", "transport", "wire"];

#[test]
fn only_a_few_rooms_ask_for_the_target() {
    let offences = offences_in(|source| !ROOMS_WITH_TARGET_GATES.contains(&source.room.as_str()), target_gates);
    assert!(
        offences.is_empty(),
        "a gate on the target belongs into src/transport, src/platform or src/bindings, as twin modules with the same \
         signatures; found:\n{}",
        offences.join("\n"),
    );
}

#[test]
fn every_channel_has_a_bound() {
    let offences = offences_in(|_| true, unbounded_channels);
    assert!(
        offences.is_empty(),
        "every queue needs a limit, a policy for when it is full, and a counter; found:\n{}",
        offences.join("\n"),
    );
}

#[test]
fn the_core_only_decides() {
    assert!(
        sources().iter().any(|source| source.room == "core"),
        "src/core has no sources: this rule looks in the wrong place",
    );
    let offences = offences_in(
        |source| source.room == "core" && !source.only_tests(),
        |tokens| impurities(&without_tests(tokens)),
    );
    assert!(
        offences.is_empty(),
        "the core gets time and randomness as arguments, knows nothing of libp2p but PeerId, Multiaddr and its \
         Protocol, never waits, and leans on no room above it; found:\n{}",
        offences.join("\n"),
    );
}

#[test]
fn arrows_point_down() {
    let offences = offences_in(
        |source| LOWER_ROOMS.contains(&source.room.as_str()) && !source.only_tests(),
        |tokens| {
            let paths = paths(&without_tests(tokens));
            paths.iter().filter(|path| names_room(path, &UPPER_ROOMS)).map(finding_of).collect()
        },
    );
    assert!(
        offences.is_empty(),
        "bindings stand on the handler, the handler on the driver, the driver on the rest, never the other way round; \
         found:\n{}",
        offences.join("\n"),
    );
}

// --- The rules, on tokens ---

/// Something against a rule: where and what.
struct Finding {
    line: usize,
    what: String,
}

fn target_gates(tokens: &[Token]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let predicate = match token.text.as_str() {
            "cfg" => group_after(tokens, index + 1),
            // What follows the first comma are the attributes that the condition puts on.
            "cfg_attr" => first_argument(group_after(tokens, index + 1)),
            "cfg_select" => {
                findings.push(Finding { line: token.line, what: "cfg_select!".into() });
                continue;
            }
            _ => continue,
        };
        let asks_for_target = |token: &&Token| {
            token.text.starts_with("target_") || ["browser", "native", "unix", "windows"].contains(&token.text.as_str())
        };
        if let Some(gate) = predicate.iter().find(asks_for_target) {
            findings.push(Finding { line: gate.line, what: format!("{}(… {} …)", token.text, gate.text) });
        }
    }
    findings
}

fn unbounded_channels(tokens: &[Token]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let lower = token.text.to_ascii_lowercase();
        // The standard library's and std-like channels have no bound when they are asked for none.
        let std_channel = token.text == "channel"
            && index >= 2
            && tokens[index - 1].text == "::"
            && tokens[index - 2].text == "mpsc"
            && called_without_arguments(&tokens[index + 1..]);
        if lower.starts_with("unbounded") || std_channel {
            findings.push(Finding { line: token.line, what: token.text.clone() });
        }
    }
    findings
}

/// `()` or `::<T>()`.
fn called_without_arguments(after: &[Token]) -> bool {
    let mut rest = after;
    if rest.first().is_some_and(|token| token.text == "::") {
        let Some(call) = rest.iter().position(|token| token.text == "(") else { return false };
        rest = &rest[call..];
    }
    matches!(rest, [open, close, ..] if open.text == "(" && close.text == ")")
}

fn impurities(tokens: &[Token]) -> Vec<Finding> {
    let waits = tokens
        .iter()
        .filter(|token| ["async", "await"].contains(&token.text.as_str()))
        .map(|token| Finding { line: token.line, what: token.text.clone() });
    let mut findings: Vec<_> = waits.collect();
    for path in paths(tokens) {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        let root = segments[0];
        let barred = if root == "libp2p" {
            !LIBP2P_FOR_THE_CORE.iter().any(|allowed| segments.starts_with(allowed))
        } else if ["std", "core"].contains(&root) {
            STD_BARRED_FROM_THE_CORE.iter().any(|barred| segments[1..].starts_with(barred))
        } else {
            root.starts_with("libp2p_")
                || CRATES_BARRED_FROM_THE_CORE.contains(&root) && segments.len() > 1
                || names_room(&path, &ROOMS_BARRED_FROM_THE_CORE)
        };
        let throws_dice = segments.windows(2).any(|pair| pair == ["PeerId", "random"]);
        if barred || throws_dice {
            findings.push(finding_of(&path));
        }
    }
    findings
}

fn finding_of(path: &NamedPath) -> Finding {
    Finding { line: path.line, what: path.segments.join("::") }
}

fn names_room(path: &NamedPath, rooms: &[&str]) -> bool {
    path.segments[0] == "crate" && path.segments.get(1).is_some_and(|room| rooms.contains(&room.as_str()))
}

// --- The sources ---

struct Source {
    path: PathBuf,
    /// The first step below `src`, without ending: `core` for `src/core.rs` and for all in `src/core/`.
    room: String,
    tokens: Vec<Token>,
}

impl Source {
    /// Whether it is a test module in a file of its own: `tests.rs`, or anything in a folder `tests`.
    fn only_tests(&self) -> bool {
        self.path.with_extension("").iter().any(|step| step == "tests")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect_rust_files(&root.join("src"), &mut files);
    assert!(!files.is_empty(), "no sources below {}", root.display());
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).expect("a source can be read");
            let path = file.strip_prefix(root).expect("found below the root").to_owned();
            let first = path.iter().nth(1).map(Path::new).expect("something follows src");
            let room = first.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            Source { path, room, tokens: tokens(&text) }
        })
        .collect()
}

fn collect_rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("can't list {}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry can be read").path())
        .collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect_rust_files(&entry, files);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            files.push(entry);
        }
    }
}

fn offences_in(applies: impl Fn(&Source) -> bool, rule: impl Fn(&[Token]) -> Vec<Finding>) -> Vec<String> {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| applies(source)) {
        for finding in rule(&source.tokens) {
            offences.push(format!("  {}:{}: {}", source.path.display(), finding.line, finding.what));
        }
    }
    offences
}

// --- The rules can fail: what they must find, and what they must leave alone ---

fn found(rule: impl Fn(&[Token]) -> Vec<Finding>, source: &str) -> Vec<String> {
    rule(&tokens(source)).into_iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
}

#[test]
fn gates_are_seen_in_every_form() {
    for gate in [
        "#[cfg(native)] mod a;",
        "#[cfg(not(browser))] mod a;",
        "#![cfg(target_arch = \"wasm32\")]",
        "#[cfg(all(feature = \"node\", any(unix, windows)))] fn a() {}",
        "#[cfg_attr(browser, derive(Clone))] struct A;",
        "fn a() -> bool { cfg!(target_os = \"linux\") }",
        "fn a() { cfg_select! { _ => {} } }",
    ] {
        assert_eq!(found(target_gates, gate).len(), 1, "{gate}");
    }
    for harmless in [
        "#[cfg(test)] mod tests;",
        "#[cfg(feature = \"native\")] mod a;",
        "#[cfg_attr(feature = \"typescript\", ts(native))] struct A;",
        "// #[cfg(native)]\n/* #[cfg(native) /* */ #[cfg(native)] */",
        "const A: &str = \"#[cfg(native)]\"; const B: &str = r#\" \" #[cfg(native)]\"#; const C: char = '\"';",
        "let native = browser; cfg(x); native()",
    ] {
        assert!(found(target_gates, harmless).is_empty(), "{harmless}");
    }
}

#[test]
fn unbounded_channels_are_seen_under_every_name() {
    for unbounded in [
        "let (a, b) = mpsc::unbounded_channel();",
        "let (a, b) = async_channel::unbounded();",
        "struct A(mpsc::UnboundedSender<u8>);",
        "let (a, b) = std::sync::mpsc::channel();",
        "let (a, b) = mpsc::channel::<u8>();",
    ] {
        assert_eq!(found(unbounded_channels, unbounded).len(), 1, "{unbounded}");
    }
    for bounded in ["mpsc::channel(16)", "mpsc::channel::<u8>(16)", "oneshot::channel()", "mpsc::sync_channel(1)"] {
        assert!(found(unbounded_channels, bounded).is_empty(), "{bounded}");
    }
}

#[test]
fn the_core_is_kept_from_the_world() {
    for impure in [
        "use libp2p::swarm::Swarm;",
        "use libp2p::{PeerId, gossipsub};",
        "use libp2p;",
        "use libp2p_identity::PeerId;",
        "fn a(b: libp2p::Swarm<C>) {}",
        "use std::time::{Duration, Instant};",
        "fn a() { std::time::SystemTime::now(); }",
        "use std::{time::{self, Duration}};",
        "use core::time::*;",
        "use web_time::Instant;",
        "use tokio as runtime; fn a() { tokio::spawn(b); }",
        "fn a() { rand::random(); }",
        "use getrandom::fill;",
        "use futures::Stream;",
        "async fn a() {}",
        "use std::thread;",
        "use crate::{config::A, driver::B};",
        "fn a() { PeerId::random(); }",
    ] {
        assert_eq!(found(impurities, impure).len(), 1, "{impure}: {:?}", found(impurities, impure));
    }
    for pure in [
        "use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};",
        "use std::{collections::BTreeMap, net::IpAddr, time::Duration};",
        "fn a(b: libp2p::PeerId) -> impl Iterator<Item = u8> + use<'_> { libp2p::PeerId::from_bytes(b) }",
        "use crate::{config::NetworkConfig, core::health, wire::Frame};",
        "fn a<'a>(rand: &'a mut Dice) { rand.next(); let futures = 1; } // tokio::spawn",
    ] {
        assert!(found(impurities, pure).is_empty(), "{pure}: {:?}", found(impurities, pure));
    }
}
