//! `cpc-node listen`: a node that only prints what arrives.

use clap::{Args, value_parser};
use cpc_net::{GroupName, Multiaddr, NetworkConfig, NetworkHandler};
use serde_json::json;

use crate::{
    addresses,
    failure::Failure,
    options::{NodeOptions, address},
    output::{self, Printer},
    printing::{self, Printing},
    session, signals,
};

const EXAMPLES: &str = "\
Examples:
  cpc-node listen                                          everything on the local network
  cpc-node listen --bootstrap /dns4/node.example/tcp/4001/p2p/12D3KooW… --group chess
  cpc-node listen --json --count 1                         one message, as JSON, and done

Without --data-dir the node has a new identity each time.";

/// What `listen` can be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    node: NodeOptions,
    /// Listen on this address; can be repeated [default: every interface, at free ports]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Vec<Multiaddr>,
    /// Join this group, to see its messages too; can be repeated
    #[arg(long, value_name = "NAME")]
    group: Vec<GroupName>,
    /// End after that many messages
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Don't look for nodes on the local network
    #[arg(long)]
    no_mdns: bool,
    /// Print JSON lines for programs: first {"event":"ready",…}, then the messages
    #[arg(long)]
    json: bool,
}

impl ListenArgs {
    fn config(&self) -> Result<NetworkConfig, Failure> {
        let mut config = self.node.over(NetworkConfig::default())?;
        if !self.listen.is_empty() {
            config.listen = Some(self.listen.clone());
        }
        if self.no_mdns {
            config.discovery.mdns = false;
        }
        // The file and the environment may be those of a node that runs already: two nodes can't be the same peer.
        config.data_dir.clone_from(&self.node.data_dir);
        config.validate()?;
        Ok(config)
    }
}

/// Prints messages until it is asked to stop, or until it has printed enough.
pub(crate) async fn listen(args: ListenArgs) -> Result<(), Failure> {
    let config = args.config()?;
    let external = config.external_addresses.clone();
    let mut signals = signals::watch()?;
    let printer = Printer::start()?;
    let net = tokio::select! {
        started = NetworkHandler::new(config) => started?,
        () = signals.next() => return Err(Failure::Interrupted),
    };
    let peer = net.local_peer_id();
    let own = addresses::announced(peer, &net.listen_addrs(), &external, None);
    let own = own.iter().map(Multiaddr::to_string).collect::<Vec<_>>();
    let joined = args.group.into_iter().try_for_each(|group| net.join_group(group));
    let outcome = match joined {
        Err(error) => {
            net.shutdown().await;
            Err(error.into())
        }
        Ok(()) => {
            let first = if args.json {
                Some(
                    json!({ "event": "ready", "peerId": peer.to_string(), "addresses": own, "http": null }).to_string(),
                )
            } else {
                // Standard output is the messages' alone.
                output::note(&format!("listening as {peer}"));
                own.iter().for_each(|address| output::note(&format!("  at {address}")));
                None
            };
            let how = Printing { json: args.json, network_events: false, count: args.count };
            session::attend(&net, &mut signals, printing::print_all(&net, &printer, first, how), || {}).await
        }
    };
    printer.finish().await;
    outcome
}
