//! `cpc-node send-file`: one file to one peer, and how far it is.

use std::{path::PathBuf, pin::pin, time::Duration};

use clap::Args;
use cpc_net::{NetworkConfig, PayloadHash, Transfer, TransferOffer, TransferSource, TransferState};
use serde_json::json;

use crate::{
    errand,
    failure::Failure,
    options::{self, NodeOptions},
    output::{self, Progress},
    reach::{Target, target},
};

/// How often the bar moves.
const LOOK: Duration = Duration::from_millis(100);
/// How many looks make one JSON line.
const LOOKS_PER_LINE: u32 = 5;
/// How long the node's goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  cpc-node send-file --to /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW… film.mp4
      to a peer whose address is known
  cpc-node send-file --to 12D3KooW… --bootstrap /dns4/node.example/tcp/4001/p2p/12D3KooW… film.mp4
      to a peer, perhaps a page, who is found through another node
  cpc-node send-file --data-dir me --to 12D3KooW… film.mp4
      as always the same peer, so that a file whose sending was interrupted goes on where it was
  cpc-node send-file --json --to 12D3KooW… film.mp4
      prints JSON lines: \"offered\", \"progress\" with \"transferred\", then \"sent\" or \"failed\"

The receiver has to take it: a node with `cpc-node run --inbox`, a page or another app. It is sent in verified chunks;
when the connection breaks, it goes on where it was. Exit code 0 means that the receiver has all of it, verified.";

/// What `send-file` can be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SendFileArgs {
    #[command(flatten)]
    node: NodeOptions,
    /// The recipient: a multiaddr ending in `/p2p/<peer id>`, or the bare peer id of one who can be found
    #[arg(long, value_name = "ADDR|PEER", value_parser = target)]
    to: Target,
    /// What the receiver sees as its name [default: the file's own]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its media type, such as video/mp4 [default: none]
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    kind: String,
    /// How long to wait for the recipient: to be found, to take it, and to come back after a cut
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = options::timeout)]
    timeout: Duration,
    /// Print JSON lines for programs
    #[arg(long)]
    json: bool,
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl SendFileArgs {
    fn config(&self) -> Result<NetworkConfig, Failure> {
        let mut config = self.node.over(NetworkConfig::default())?;
        errand::configure(&mut config, &self.node, self.timeout);
        self.to.configure(&mut config);
        config.delivery.drain_timeout = GOODBYE;
        config.transfers.resume_timeout = self.timeout;
        // The bound of the setting.
        config.transfers.offer_timeout = self.timeout.min(Duration::from_secs(60 * 60));
        config.validate()?;
        Ok(config)
    }

    fn offer(&self) -> TransferOffer {
        let own = || self.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        TransferOffer::new(self.name.clone().unwrap_or_else(own)).kind(&self.kind)
    }
}

/// Sends the file and waits until the receiver has it.
pub(crate) async fn send_file(args: SendFileArgs) -> Result<(), Failure> {
    let config = args.config()?;
    let opened = TransferSource::file(&args.file).await;
    let source = opened.map_err(|error| Failure::Usage(format!("{} can't be read: {error}", args.file.display())))?;
    let sent = errand::run_to_its_end(config, async |net, progress| {
        let peer = args.to.peer();
        let undone = format!("{peer} was not reached");
        errand::within(args.timeout, &undone, progress, args.to.reach(net, progress)).await?;
        let transfer = net.send_transfer(peer, args.offer(), source)?;
        progress.step(format!("waiting for {peer} to take it"));
        follow(&transfer, progress, args.json).await
    });
    match sent.await {
        Ok(hash) if !args.json => output::print(&format!("sent {hash}")),
        sent => sent.map(|_| ()),
    }
}

/// Waits for the end, telling meanwhile how far it is.
async fn follow(transfer: &Transfer, progress: &Progress, json: bool) -> Result<PayloadHash, Failure> {
    let length = transfer.progress().length;
    let say = |line: serde_json::Value| if json { output::print(&line.to_string()) } else { Ok(()) };
    let id = transfer.id().to_string();
    say(json!({ "event": "offered", "id": id, "peer": transfer.peer().to_string(), "length": length }))?;
    let mut finished = pin!(transfer.finished());
    let (mut looks, mut counting) = (0_u32, false);
    let mut told = None;
    let result = loop {
        match tokio::time::timeout(LOOK, &mut finished).await {
            Ok(result) => break result,
            Err(_) => looks += 1,
        }
        let now = transfer.progress();
        match now.state {
            TransferState::Running => {
                if !std::mem::replace(&mut counting, true) {
                    progress.count_bytes(length);
                }
                progress.step("sending");
                progress.bytes(now.transferred);
            }
            TransferState::Interrupted => progress.step("waiting for the peer to come back"),
            _ => {}
        }
        let line = (now.transferred, now.state.clone());
        if looks.is_multiple_of(LOOKS_PER_LINE) && counting && told.as_ref() != Some(&line) {
            say(json!({
                "event": "progress", "id": id, "transferred": now.transferred, "length": length,
                "interrupted": now.state == TransferState::Interrupted,
            }))?;
            told = Some(line);
        }
    };
    let bytes = transfer.progress().transferred;
    match result {
        Ok(hash) => say(json!({ "event": "sent", "id": id, "bytes": bytes, "hash": hash.to_string() })).map(|()| hash),
        Err(error) => {
            say(json!({ "event": "failed", "id": id, "transferred": bytes, "error": error }))?;
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Cli, Command};

    fn args(line: &[&str]) -> Result<SendFileArgs, String> {
        let line = ["cpc-node", "send-file"].into_iter().chain(line.iter().copied());
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::SendFile(args) => Ok(args),
            other => panic!("not send-file but {other:?}"),
        }
    }

    #[test]
    fn a_file_is_offered_by_its_own_name_unless_it_is_given_another() {
        let peer = cpc_net::PeerId::random().to_string();
        let offer = args(&["--to", &peer, "some/folder/film.mp4"]).expect("valid").offer();
        assert_eq!((offer.name.as_str(), offer.kind.as_str(), offer.length), ("film.mp4", "", None));
        let offer = args(&["--to", &peer, "--name", "x", "--kind", "video/mp4", "film.mp4"]).expect("valid").offer();
        assert_eq!((offer.name.as_str(), offer.kind.as_str()), ("x", "video/mp4"));
    }

    #[test]
    fn one_time_bounds_each_wait_for_the_peer() {
        let peer = cpc_net::PeerId::random().to_string();
        let config = args(&["--to", &peer, "--timeout", "3h", "film"]).expect("valid").config().expect("valid");
        let transfers = config.transfers;
        assert_eq!(transfers.resume_timeout, Duration::from_secs(3 * 60 * 60));
        assert_eq!(transfers.offer_timeout, Duration::from_secs(60 * 60));
    }
}
