//! `cpc-node`: the operator's program. `run` is a bootstrap node, relay and gateway for browsers in one; the other
//! commands make identities, send and receive messages and files, and ask a running node about its peers.
//!
//! What is printed for programs goes to standard output; logs, progress and errors go to standard error. The exit code
//! is 0 when all went well, 1 when it failed, 2 when it was asked wrongly, 130 when it was interrupted before its end.

mod addresses;
mod bounded;
mod errand;
mod failure;
mod http;
mod inbox;
mod keygen;
mod listen;
mod metrics;
mod options;
mod output;
mod peers;
mod post;
mod printing;
mod reach;
mod run;
mod send;
mod send_file;
mod session;
mod signals;
mod words;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use failure::Failure;
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  cpc-node run --www www/dist            start a node that also serves the demo page
  cpc-node run --config node.toml --json start one for a supervisor
  cpc-node peers                         whom does the node on this machine know?
  cpc-node send --to /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW… \"hello\"
  cpc-node run --inbox files             also take the files that peers send
  cpc-node send-file --to 12D3KooW… film.mp4

Every setting of the network can also come from a TOML file (--config) or from the environment, such as
CPC_NET_NETWORK=chess or CPC_NET_LIMITS__MAX_PAYLOAD=100000. A flag wins over the environment, the environment over the file,
the file over the default.

Exit codes: 0 done, 1 failed, 2 asked wrongly, 130 interrupted.";

/// A node of a cpc network: bootstrap, relay and gateway for browsers
#[derive(Debug, Parser)]
#[command(name = "cpc-node", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What is logged to standard error, such as "warn" or "cpc_net=debug,libp2p=info"
    ///
    /// By default `run` and `listen` log what happens on the network, and warnings of everything else, the other commands "warn".
    #[arg(long, global = true, env = "RUST_LOG", hide_env_values = true, value_name = "FILTER")]
    log: Option<String>,

    /// How it is logged
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node: bootstrap, relay, gateway for browsers, with its page, health and metrics over HTTP
    Run(run::RunArgs),
    /// Make an identity, or show the one there is
    Keygen(keygen::KeygenArgs),
    /// Send one message to one peer and wait for its receipt
    Send(send::SendArgs),
    /// Send one file to one peer, with a progress bar, and wait until it has all of it
    SendFile(send_file::SendFileArgs),
    /// Print the messages that arrive
    Listen(listen::ListenArgs),
    /// Broadcast one message to everybody or to a group, and wait until somebody has taken it
    Post(post::PostArgs),
    /// Ask a running node whom it knows
    Peers(peers::PeersArgs),
}

/// The libraries below WebRTC and the DHT warn of what is everyday life in a network.
const LONG_RUNNING_LOG: &str = "warn,cpc_net=info,str0m=error,is=error,dimpl=error,sctp_proto=error,libp2p_kad=error";

impl Command {
    /// Long-running commands tell what happens; the short ones only speak up when something is wrong, so that their
    /// answer stands alone.
    fn default_log(&self) -> &'static str {
        match self {
            Command::Run(_) | Command::Listen(_) => LONG_RUNNING_LOG,
            Command::Keygen(_) | Command::Send(_) | Command::SendFile(_) | Command::Post(_) | Command::Peers(_) => {
                "warn"
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&format!("error: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    start_logging(&cli)?;
    // The network has a thread of its own; what happens here is HTTP, printing and waiting, for which one thread is
    // enough.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime can't be started: {error}")))?;
    runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Keygen(args) => keygen::keygen(args).await,
            Command::Send(args) => send::send(args).await,
            Command::SendFile(args) => send_file::send_file(args).await,
            Command::Post(args) => post::post(args).await,
            Command::Listen(args) => listen::listen(args).await,
            Command::Peers(args) => peers::peers(args),
        }
    })
}

fn start_logging(cli: &Cli) -> Result<(), Failure> {
    // An empty RUST_LOG is a common way of unsetting it.
    let wanted = cli.log.as_deref().filter(|filter| !filter.trim().is_empty());
    let filter = EnvFilter::try_new(wanted.unwrap_or(cli.command.default_log()))
        .map_err(|error| Failure::Usage(format!("--log (or RUST_LOG): {error}; expected such as warn,cpc_net=info")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match cli.log_format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| Failure::Failed(format!("logging can't be started: {error}")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn long_running_commands_tell_more() {
        let of = |line: &[&str]| Cli::try_parse_from(line).expect("a valid line").command.default_log();
        assert_eq!(of(&["cpc-node", "run"]), LONG_RUNNING_LOG);
        assert_eq!(of(&["cpc-node", "peers"]), "warn");
    }
}
