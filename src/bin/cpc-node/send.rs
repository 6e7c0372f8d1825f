//! `cpc-node send`: one message to one peer, and how it went.

use std::time::Duration;

use clap::Args;
use cpc_net::{Message, MessageId, NetworkConfig, NetworkHandler, Priority};

use crate::{
    errand,
    failure::Failure,
    options::{self, NodeOptions},
    output::{self, Progress},
    reach::{Target, target},
    words::Words,
};

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

impl SendArgs {
    /// A node that is there for one message only: nobody reaches it, it keeps nothing, and it talks to nobody it needn't.
    fn config(&self) -> Result<NetworkConfig, Failure> {
        let mut config = self.node.over(NetworkConfig::default())?;
        errand::configure(&mut config, &self.node, self.timeout);
        self.to.configure(&mut config);
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
    to.reach(net, progress).await?;
    let receipt = net.send_message(peer, message, priority)?;
    progress.step(format!("waiting for {peer} to acknowledge the message"));
    receipt.delivered().await?;
    Ok(receipt.id())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use cpc_net::PeerId;

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
