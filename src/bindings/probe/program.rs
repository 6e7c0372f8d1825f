//! The body of the program `cpc-probe`: the node that pages are measured against, and the relay they meet behind.
//!
//! It says one line of JSON when it is ready, one for each line it is told, and ends when its standard input does.

use std::{
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
};

use futures::executor::block_on;
use serde_json::{Value, json};

use super::node::{self, Node, Sight};

/// Where pages can come in.
const LISTEN: [&str; 2] = ["/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/webrtc-direct"];

/// Runs until standard input ends.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cpc-probe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let node = Node::start(&node::configuration(), true).map_err(io::Error::other)?;
    for address in LISTEN {
        let address = address.parse().map_err(io::Error::other)?;
        block_on(node.listen(address))?;
    }
    tell(&node)?;
    for line in io::stdin().lock().lines() {
        line?;
        tell(&node)?;
    }
    Ok(())
}

fn tell(node: &Node) -> io::Result<()> {
    let sight = block_on(node.look())?;
    let mut output = io::stdout().lock();
    writeln!(output, "{}", in_json(node, &sight))?;
    output.flush()
}

fn in_json(node: &Node, sight: &Sight) -> Value {
    json!({
        "peerId": node.peer_id().to_string(),
        "addresses": sight.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "connections": sight.connections,
        "running": sight.running,
        "served": sight.served,
        "failure": sight.failure,
        "closed": sight.closed,
    })
}
