//! `cpc-node keygen`: makes an identity, or shows the one there is.

use clap::Args;
use cpc_net::Identity;
use serde_json::json;

use crate::{failure::Failure, options, output};

const EXAMPLES: &str = "\
Examples:
  cpc-node keygen                     the identity that `cpc-node run` uses by default
  cpc-node keygen --data-dir alice    another one, for: cpc-node run --data-dir alice

The peer id can be given to others; the key beside it can't: it is kept with owner-only rights.";

/// What `keygen` can be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct KeygenArgs {
    /// The folder that holds the identity; made when it is missing [default: the user's data folder]
    #[arg(long, value_name = "DIR", env = "CPC_NET_DATA_DIR")]
    data_dir: Option<String>,
    /// Print a JSON object instead of the bare peer id
    #[arg(long)]
    json: bool,
}

/// Opens the identity, which makes it when there is none, and prints whose it is.
pub(crate) async fn keygen(args: KeygenArgs) -> Result<(), Failure> {
    let data_dir = args.data_dir.or_else(options::default_data_dir).ok_or_else(options::no_data_dir)?;
    let peer = Identity::open(&data_dir).await?.peer_id();
    if args.json {
        output::print(&json!({ "peerId": peer.to_string(), "dataDir": data_dir }).to_string())
    } else {
        output::note(&format!("the identity is kept in {data_dir}"));
        output::print(&peer.to_string())
    }
}
