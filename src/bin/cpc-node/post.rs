//! `cpc-node post`: a broadcast to everybody, or to a group.

use std::time::Duration;

use clap::Args;
use cpc_net::{BroadcastScope, GroupName, Message, MessageId, NetworkConfig, NetworkEvent, NetworkHandler, Priority};
use futures::StreamExt;

use crate::{
    errand,
    failure::Failure,
    options::{self, NodeOptions},
    output::{self, Progress},
    words::Words,
};

const EXAMPLES: &str = "\
Examples:
  cpc-node post --bootstrap /dns4/node.example/tcp/4001/p2p/12D3KooW… \"the library is open\"
  cpc-node post --bootstrap /dns4/node.example/tcp/4001/p2p/12D3KooW… --group chess \"e2 e4\"
  cpc-node post - < news.txt
      a file, to the nodes on the local network

Exit code 0 means that at least one peer has taken the post and passes it on.";

/// What `post` can be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PostArgs {
    #[command(flatten)]
    node: NodeOptions,
    /// Only for the members of this group
    #[arg(long, value_name = "NAME")]
    group: Option<GroupName>,
    #[command(flatten)]
    words: Words,
    /// How long to try
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = options::timeout)]
    timeout: Duration,
}

impl PostArgs {
    /// A node that is there for one post only.
    fn config(&self) -> Result<NetworkConfig, Failure> {
        let mut config = self.node.over(NetworkConfig::default())?;
        errand::configure(&mut config, &self.node, self.timeout);
        // With nobody to ask, the local network is the only place to look.
        config.discovery.mdns = config.bootstrap.is_empty();
        config.validate()?;
        Ok(config)
    }
}

/// Posts, and waits until somebody has taken it.
pub(crate) async fn post(args: PostArgs) -> Result<(), Failure> {
    let config = args.config()?;
    // Before signals are taken over: until then Ctrl-C ends a read that nobody feeds.
    let message = args.words.message(config.limits.max_payload)?;
    let posted = errand::run(config, args.timeout, "nobody took the post", async |net, progress| {
        progress.step("looking for somebody who takes the post");
        taken(net, args.group.clone(), message, args.words.priority(), progress).await
    });
    output::print(&format!("posted {}", posted.await?))
}

async fn taken(
    net: &NetworkHandler,
    group: Option<GroupName>,
    message: Message,
    priority: Priority,
    progress: &Progress,
) -> Result<MessageId, Failure> {
    let scope = match group {
        Some(group) => {
            net.join_group(group.clone())?;
            BroadcastScope::Group(group)
        }
        None => BroadcastScope::All,
    };
    let mut events = net.events();
    let id = net.broadcast(message, priority, scope)?;
    while let Some(event) = events.next().await {
        match event {
            NetworkEvent::BroadcastTaken { id: taken } if taken == id => return Ok(id),
            event => {
                if let Some(note) = output::network_note(&event) {
                    progress.obstacle(note);
                }
            }
        }
    }
    Err(Failure::Failed("the network has stopped by itself".into()))
}
