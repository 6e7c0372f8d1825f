//! `cpc-node send`: one message to one peer, and how it went.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use clap::Args;
use cpc_net::{
    ConnectionState, DiscoverTarget, Events, Message, MessageId, Multiaddr, NetworkConfig, NetworkEvent,
    NetworkHandler, PeerId, Priority, error::ConnectError,
};
use futures::StreamExt;
use libp2p::multiaddr::Protocol;

use crate::{
    errand,
    failure::Failure,
    options::{self, NodeOptions},
    output::{self, Progress},
    words::Words,
};

/// After how long a peer that was not found is looked for again, if nothing happens that makes it worth while sooner.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long the node's goodbye may take. Nothing of worth is queued by then.
const GOODBYE: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  cpc-node send --to /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW… \"hello\"
      to a peer whose address is known
  cpc-node send --to 12D3KooW… --bootstrap /dns4/node.example/tcp/4001/p2p/12D3KooW… \"hello\"
      to a peer who is found through another node
  cpc-node send --to 12D3KooW… - < letter.txt
      a file, to a peer on the local network
  cpc-node send --to 12D3KooW… -- \"-5 degrees\"
      a text that begins with a dash

Exit code 0 means that the peer has acknowledged the message.";

/// What `send` can be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    node: NodeOptions,
    /// The recipient: a multiaddr ending in `/p2p/<peer id>`, or the bare peer id of one who can be found
    #[arg(long, value_name = "ADDR|PEER", value_parser = target)]
    to: Target,
    #[command(flatten)]
    words: Words,
    /// How long to try
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = options::timeout)]
    timeout: Duration,
}

/// Whom the message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// A peer whose address is known.
    At { address: Multiaddr, peer: PeerId },
    /// A peer who has to be found.
    Somewhere(PeerId),
}

impl Target {
    fn peer(&self) -> PeerId {
        match self {
            Target::At { peer, .. } | Target::Somewhere(peer) => *peer,
        }
    }
}

fn target(text: &str) -> Result<Target, String> {
    const EXPECTED: &str = "expected a peer id (12D3KooW…), or a multiaddr ending in /p2p/<peer id>, so that nobody else \
                            gets the message";
    if let Ok(peer) = text.parse() {
        return Ok(Target::Somewhere(peer));
    }
    let address = text.parse::<Multiaddr>().map_err(|error| format!("{error}; {EXPECTED}"))?;
    let mut parts = address.iter();
    match (parts.next(), parts.last()) {
        (Some(Protocol::P2p(peer)), None) => Ok(Target::Somewhere(peer)),
        (_, Some(Protocol::P2p(peer))) => Ok(Target::At { address: address.clone(), peer }),
        _ => Err(EXPECTED.into()),
    }
}

impl SendArgs {
    /// A node that is there for one message only: nobody reaches it, it keeps nothing, and it talks to nobody it needn't.
    fn config(&self) -> Result<NetworkConfig, Failure> {
        let mut config = self.node.over(NetworkConfig::default())?;
        errand::configure(&mut config, &self.node, self.timeout);
        config.discovery.target_peers = 0;
        config.discovery.mdns = false;
        match self.to {
            Target::At { .. } => {
                config.discovery.dht = false;
                config.discovery.peer_exchange = false;
                config.bootstrap.clear();
            }
            // With nobody to ask, the local network is the only place to look.
            Target::Somewhere(_) => config.discovery.mdns = config.bootstrap.is_empty(),
        }
        config.delivery.drain_timeout = GOODBYE;
        config.validate()?;
        Ok(config)
    }
}

/// Sends the message and waits for its receipt.
pub(crate) async fn send(args: SendArgs) -> Result<(), Failure> {
    let config = args.config()?;
    // Before signals are taken over: until then Ctrl-C ends a read that nobody feeds.
    let message = args.words.message(config.limits.max_payload)?;
    let undone = format!("not delivered to {}", args.to.peer());
    let delivered = errand::run(config, args.timeout, &undone, async |net, progress| {
        deliver(net, &args.to, message, args.words.priority(), progress).await
    });
    output::print(&format!("delivered {}", delivered.await?))
}

async fn deliver(
    net: &NetworkHandler,
    to: &Target,
    message: Message,
    priority: Priority,
    progress: &Progress,
) -> Result<MessageId, Failure> {
    let peer = to.peer();
    match to {
        Target::At { address, .. } => {
            progress.step(format!("connecting to {address}"));
            let reached = net.connect(address.clone()).await?;
            if reached != peer {
                return Err(Failure::Failed(format!("{address} is not {peer} but {reached}; nothing was sent")));
            }
        }
        Target::Somewhere(_) => find(net, peer, progress).await?,
    }
    let receipt = net.send_message(peer, message, priority)?;
    progress.step(format!("waiting for {peer} to acknowledge the message"));
    receipt.delivered().await?;
    Ok(receipt.id())
}

/// Looks for a peer until it is connected; the caller bounds the time.
async fn find(net: &NetworkHandler, peer: PeerId, progress: &Progress) -> Result<(), Failure> {
    progress.step(format!("looking for {peer}"));
    let mut events = pin!(net.events());
    loop {
        match net.connect(peer).await {
            Ok(_) => return Ok(()),
            Err(error @ (ConnectError::ToSelf(_) | ConnectError::ShuttingDown)) => return Err(error.into()),
            Err(ConnectError::NoAddress(_)) => {}
            Err(error) => progress.obstacle(error.to_string()),
        }
        // When it is too busy to search, the pause below is what helps.
        let _ = net.discover_peers(DiscoverTarget::Peer(peer));
        match tokio::time::timeout(LOOK_AGAIN, news(events.as_mut(), peer, progress)).await {
            Ok(Some(())) | Err(_) => {}
            Ok(None) => return Err(Failure::Failed("the network has stopped by itself".into())),
        }
    }
}

/// Waits for something that makes another attempt worth while: the peer was found, or somebody is there who can be
/// asked. `None` when nothing more will happen.
async fn news(mut events: Pin<&mut Events>, peer: PeerId, progress: &Progress) -> Option<()> {
    loop {
        match events.next().await? {
            NetworkEvent::PeerDiscovered { peer: found, .. } if found == peer => return Some(()),
            NetworkEvent::StateChanged { to: ConnectionState::Connected, .. } => return Some(()),
            NetworkEvent::Stopped => return None,
            event => {
                if let Some(note) = output::network_note(&event) {
                    progress.obstacle(note);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Cli, Command};

    fn args(line: &[&str]) -> Result<SendArgs, String> {
        let line = ["cpc-node", "send"].into_iter().chain(line.iter().copied());
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Send(args) => Ok(args),
            other => panic!("not send but {other:?}"),
        }
    }

    #[test]
    fn a_recipient_is_a_peer_or_an_address_that_names_one() {
        let peer = PeerId::random();
        let relay = PeerId::random();
        for text in [peer.to_string(), format!("/p2p/{peer}")] {
            assert_eq!(target(&text), Ok(Target::Somewhere(peer)), "{text}");
        }
        for text in [
            format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}"),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"),
        ] {
            let address = text.parse().expect("an address");
            assert_eq!(target(&text), Ok(Target::At { address, peer }), "{text}");
        }
        for nonsense in ["", "bob", "/ip4/192.0.2.1/tcp/1", &format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit")] {
            let error = target(nonsense).expect_err("nobody");
            assert!(error.contains("/p2p/<peer id>"), "{nonsense}: {error}");
        }
    }

    #[test]
    fn the_node_is_there_for_one_message_only() {
        let peer = PeerId::random();
        let at = format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}");
        let direct = args(&["--to", &at, "hello"]).expect("valid").config().expect("valid");
        assert_eq!(direct.listen, Some(Vec::new()));
        assert_eq!(direct.data_dir, None);
        assert!(!direct.discovery.mdns && !direct.discovery.dht && !direct.relay.server);
        assert_eq!(direct.delivery.timeout, Duration::from_secs(30));

        let id = peer.to_string();
        let local = args(&["--to", &id, "--timeout", "5s", "hello"]).expect("valid").config().expect("valid");
        assert!(local.discovery.mdns && local.discovery.dht);
        assert_eq!(local.delivery.timeout, Duration::from_secs(5));
        let line = ["--to", &id, "--bootstrap", "/ip4/192.0.2.1/tcp/1", "--data-dir", "here", "hello"];
        let network = args(&line).expect("valid").config().expect("valid");
        assert!(!network.discovery.mdns && network.discovery.dht);
        assert_eq!(network.bootstrap.len(), 1);
        assert_eq!(network.data_dir.as_deref(), Some("here"));
    }

    #[test]
    fn nonsense_on_the_command_line_names_its_flag() {
        let id = PeerId::random().to_string();
        for (line, part) in [
            (vec!["--to", "bob", "hello"], "--to"),
            (vec!["--to", &id, "--priority", "urgent", "hello"], "--priority"),
            (vec!["--to", &id, "--timeout", "soon", "hello"], "--timeout"),
            (vec!["--to", &id], "<TEXT|->"),
        ] {
            let error = args(&line).expect_err("nonsense");
            assert!(error.contains(part), "{error} should mention {part}");
        }
    }
}
