//! `cpc-node peers`: asks a running node whom it knows, over its HTTP.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::{
    failure::Failure,
    output::{self, sanitised},
};

/// How long the node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read. A node knows at most 65,536 peers; a peer takes some 500 bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
/// The longest agent name that is shown; it is the peer's own word.
const MAX_AGENT: usize = 32;

const EXAMPLES: &str = "\
Examples:
  cpc-node peers                               the node that runs on this machine
  cpc-node peers --http http://127.0.0.1:9090  one that was started with --http 127.0.0.1:9090
  cpc-node peers --json                        everything that is known of them, for programs";

/// What `peers` can be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PeersArgs {
    /// Where the node serves HTTP
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = url)]
    http: String,
    /// Print the node's JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn url(text: &str) -> Result<String, String> {
    let (scheme, place) = text.split_once("://").unwrap_or(("http", text));
    match (scheme, place.trim_end_matches('/')) {
        ("http", place) if !place.is_empty() => Ok(format!("http://{place}")),
        _ => Err("expected such as http://127.0.0.1:8080 (plain HTTP only)".into()),
    }
}

/// What the table shows of a peer; the node knows more.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    peer: String,
    state: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    latency: Option<f64>,
    #[serde(default)]
    connected_for: Option<f64>,
    #[serde(default)]
    agent: Option<String>,
}

/// Asks, and prints the answer.
pub(crate) fn peers(args: PeersArgs) -> Result<(), Failure> {
    let answer = ask(&args.http)?;
    let not_ours = |error: serde_json::Error| {
        Failure::Failed(format!("{} doesn't answer as a cpc-node does ({error}); is it one?", args.http))
    };
    let peers: Vec<Peer> = serde_json::from_str(&answer).map_err(not_ours)?;
    if args.json {
        output::print(answer.trim_end())
    } else if peers.is_empty() {
        output::print("no peers are known yet")
    } else {
        output::print(&table(&peers))
    }
}

fn ask(http: &str) -> Result<String, Failure> {
    // The node is asked directly: a proxy for the web doesn't see this machine's loopback.
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).proxy(None).build();
    let read = || {
        let mut response = config.new_agent().get(format!("{http}/api/peers")).call()?;
        response.body_mut().with_config().limit(MAX_ANSWER).read_to_string()
    };
    read().map_err(|error| {
        Failure::Failed(format!(
            "can't ask {http}: {error}; is a node running there? (cpc-node run says where its page is: give that to --http)"
        ))
    })
}

fn table(peers: &[Peer]) -> String {
    let head = ["PEER", "STATE", "VIA", "LATENCY", "SINCE", "SOFTWARE"].map(str::to_owned);
    let rows = peers.iter().map(|peer| {
        [
            // Everything is the node's word, and much of it its peers'.
            sanitised(&peer.peer, 80),
            sanitised(&peer.state, 16),
            sanitised(peer.kind.as_deref().unwrap_or("-"), 16),
            peer.latency.map_or("-".into(), |milliseconds| format!("{milliseconds:.1} ms")),
            peer.connected_for.map_or("-".into(), since),
            sanitised(peer.agent.as_deref().unwrap_or("-"), MAX_AGENT),
        ]
    });
    let rows = std::iter::once(head).chain(rows).collect::<Vec<_>>();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        cells.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A number of milliseconds as people say it, by its two largest units.
fn since(milliseconds: f64) -> String {
    // A float becomes an integer by saturating; nonsense from the node becomes 0.
    let seconds = (milliseconds / 1000.0) as u64;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_harmless() {
        let json = r#"[
            {"peer":"12D3KooWA","state":"connected","kind":"quic","latency":1.234,"connectedFor":61000,
             "agent":"cpc\u001b[31m-net","addresses":[],"somethingNew":1},
            {"peer":"12D3KooWBBB","state":"disconnected","kind":null,"latency":null,"connectedFor":null,"agent":null}
        ]"#;
        let peers: Vec<Peer> = serde_json::from_str(json).expect("the node's JSON");
        assert_eq!(
            table(&peers),
            "PEER         STATE         VIA   LATENCY  SINCE  SOFTWARE\n\
             12D3KooWA    connected     quic  1.2 ms   1m 1s  cpc[31m-net\n\
             12D3KooWBBB  disconnected  -     -        -      -"
        );
    }

    #[test]
    fn durations_are_said_by_their_two_largest_units() {
        for (milliseconds, said) in [
            (999.0, "0s"),
            (61_000.0, "1m 1s"),
            (3_661_000.0, "1h 1m"),
            (90_000_000.0, "1d 1h"),
            (-5.0, "0s"),
            (f64::NAN, "0s"),
        ] {
            assert_eq!(since(milliseconds), said);
        }
    }

    #[test]
    fn urls_are_completed_or_refused() {
        assert_eq!(url("http://127.0.0.1:8080/"), Ok("http://127.0.0.1:8080".into()));
        assert_eq!(url("localhost:1"), Ok("http://localhost:1".into()));
        for refused in ["https://node.example", "", "ftp://x", "http://"] {
            assert!(url(refused).expect_err("refused").contains("http://127.0.0.1"), "{refused}");
        }
    }

    #[test]
    fn nobody_there_is_said_clearly() {
        // Bound and let go again: nobody listens there now.
        let place = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let url = format!("http://{}", place.expect("a free port"));
        let failure = peers(PeersArgs { http: url.clone(), json: false }).expect_err("nobody");
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().contains(&url) && failure.to_string().contains("cpc-node run"), "{failure}");
    }
}
