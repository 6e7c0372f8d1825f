//! `cpc-node run`: bootstrap node, relay and gateway for browsers.

use std::path::PathBuf;

use clap::Args;
use cpc_net::{Multiaddr, NetworkConfig, NetworkHandler, error::ConfigError};
use serde_json::json;

use crate::{
    addresses,
    failure::Failure,
    http::Bound,
    inbox::InboxOptions,
    options::{self, NodeOptions, address},
    output::Printer,
    printing::{self, Printing},
    session, signals,
};

/// Where a node listens unless told otherwise: TCP and QUIC for nodes, WebSocket and WebRTC-direct for browsers.
const LISTEN: [&str; 4] = [
    "/ip4/0.0.0.0/tcp/4001",
    "/ip4/0.0.0.0/udp/4001/quic-v1",
    "/ip4/0.0.0.0/tcp/4002/ws",
    "/ip4/0.0.0.0/udp/4003/webrtc-direct",
];

const EXAMPLES: &str = "\
Examples:
  cpc-node run --www www/dist
      listens on TCP 4001 and 4002 (WebSocket), UDP 4001 (QUIC) and 4003 (WebRTC), and serves the page at
      http://127.0.0.1:8080
  cpc-node run --bootstrap /dns4/node.example/tcp/4001/p2p/12D3KooW…
      joins the network of another node
  cpc-node run --listen /ip4/0.0.0.0/tcp/4001 --external /dns4/me.example/tcp/4001 --http off
      listens on one port only, is known by its public name, and serves nothing over HTTP
  cpc-node run --mailbox
      also keeps mail for peers that are away: sealed, within limits, for seven days at most
  cpc-node run --json
      prints JSON lines: first {\"event\":\"ready\",…}, then \"message\", \"file\" and \"network\" events
  cpc-node run --inbox files --inbox-limit 100GB --inbox-from 12D3KooW…
      takes the files that this peer sends, into files/12D3KooW…; without --inbox none are taken

Over HTTP there are /healthz, /metrics (Prometheus), /bootstrap.json, /api/status, /api/peers and /api/stats; all else
is the page. Ctrl-C sends what is queued and stops; a second Ctrl-C stops at once.";

/// What `run` can be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    node: NodeOptions,
    /// Listen on this address; can be repeated [default: TCP 4001, QUIC 4001, WebSocket 4002, WebRTC-direct 4003]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Vec<Multiaddr>,
    /// Others reach this node by this address: a public name or address in front of it; can be repeated
    #[arg(long, value_name = "ADDR", value_parser = address)]
    external: Vec<Multiaddr>,
    /// Serve the page, health and metrics here; port 0 is any free one, "off" none
    #[arg(long, value_name = "HOST:PORT|off", default_value = "127.0.0.1:8080", value_parser = http_place)]
    http: HttpPlace,
    /// The page's folder, with an index.html
    #[arg(long, value_name = "DIR")]
    www: Option<PathBuf>,
    #[command(flatten)]
    inbox: InboxOptions,
    /// Keep mail for peers that are away, sealed, until they come; the section mailbox of the configuration bounds it
    #[arg(long)]
    mailbox: bool,
    /// Don't relay for others
    #[arg(long)]
    no_relay: bool,
    /// Don't look for nodes on the local network
    #[arg(long)]
    no_mdns: bool,
    /// Print JSON lines for programs
    #[arg(long)]
    json: bool,
}

/// Where HTTP is served.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HttpPlace {
    Off,
    At(String),
}

fn http_place(text: &str) -> Result<HttpPlace, String> {
    if text == "off" {
        return Ok(HttpPlace::Off);
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(HttpPlace::At(text.into())),
        _ => Err("expected a host and a port (0 to 65535), such as 127.0.0.1:8080 or [::1]:8080, or off".into()),
    }
}

impl RunArgs {
    fn config(
        &self,
        environment: impl FnOnce(NetworkConfig) -> Result<NetworkConfig, ConfigError>,
    ) -> Result<NetworkConfig, Failure> {
        let defaults = LISTEN.iter().fold(NetworkConfig::builder(), |builder, address| builder.listen(address));
        let mut config = self.node.over_with(defaults.relay_server(true).build()?, environment)?;
        if !self.listen.is_empty() {
            config.listen = Some(self.listen.clone());
        }
        if !self.external.is_empty() {
            config.external_addresses.clone_from(&self.external);
        }
        if self.mailbox {
            config.mailbox.serve = true;
        }
        if self.no_relay {
            config.relay.server = false;
        }
        if self.no_mdns {
            config.discovery.mdns = false;
        }
        if config.data_dir.is_none() {
            // Others know a bootstrap node by its id, so it must not change.
            config.data_dir = Some(options::default_data_dir().ok_or_else(options::no_data_dir)?);
        }
        config.validate()?;
        Ok(config)
    }

    fn check_page(&self) -> Result<(), Failure> {
        let Some(folder) = &self.www else { return Ok(()) };
        if self.http == HttpPlace::Off {
            Err(Failure::Usage("--www needs HTTP to be served by; leave out --http off, or --www".into()))
        } else if !folder.join("index.html").is_file() {
            Err(Failure::Usage(format!(
                "--www {}: there is no index.html in it; build the page first, or leave --www out",
                folder.display()
            )))
        } else {
            Ok(())
        }
    }
}

/// Runs the node until it is asked to stop.
pub(crate) async fn run(args: RunArgs) -> Result<(), Failure> {
    let config = args.config(NetworkConfig::with_env)?;
    args.check_page()?;
    let inbox = args.inbox.open(args.json)?;
    let mut signals = signals::watch()?;
    let bound = match &args.http {
        HttpPlace::Off => None,
        HttpPlace::At(place) => Some(Bound::to(place).await?),
    };
    let external = config.external_addresses.clone();
    let data_dir = config.data_dir.clone().unwrap_or_default();
    let printer = Printer::start()?;
    let net = tokio::select! {
        started = NetworkHandler::new(config) => started?,
        () = signals.next() => return Err(Failure::Interrupted),
    };
    let status = net.status();
    let started = Started {
        peer: status.local_peer_id.to_string(),
        network: status.network,
        data_dir,
        addresses: addresses::announced(status.local_peer_id, &net.listen_addrs(), &external, None),
        url: bound.as_ref().map(Bound::url),
        page: args.www.is_some(),
    };
    let server = bound.map(|bound| bound.serve(net.clone(), external, args.www.as_deref()));
    let first = Some(if args.json { started.json() } else { started.text() });
    let how = Printing { json: args.json, network_events: true, count: None };
    let draining = || {
        if let Some(server) = &server {
            server.drain();
        }
    };
    let printing = inbox.beside(&net, &printer, printing::print_all(&net, &printer, first, how));
    let outcome = session::attend(&net, &mut signals, printing, draining).await;
    if let Some(server) = server {
        server.stop().await;
    }
    printer.finish().await;
    outcome
}

/// What is said once the node runs.
struct Started {
    peer: String,
    network: String,
    data_dir: String,
    addresses: Vec<Multiaddr>,
    url: Option<String>,
    page: bool,
}

impl Started {
    fn json(&self) -> String {
        let addresses = self.addresses.iter().map(Multiaddr::to_string).collect::<Vec<_>>();
        json!({ "event": "ready", "peerId": self.peer, "addresses": addresses, "http": self.url }).to_string()
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("cpc-node {} in the network \"{}\"", env!("CARGO_PKG_VERSION"), self.network),
            format!("  peer id    {}", self.peer),
            format!("  identity   {}", self.data_dir),
        ];
        if self.addresses.is_empty() {
            lines.push("  addresses  none: this node can't be reached".into());
        }
        for (at, address) in self.addresses.iter().enumerate() {
            lines.push(format!("  {}  {address}", if at == 0 { "addresses" } else { "         " }));
        }
        if let Some(url) = &self.url {
            let hint = if self.page { "" } else { " (health and metrics only: --www has the page's folder)" };
            lines.push(format!("  page       {url}{hint}"));
        }
        lines.push("Messages appear below. Ctrl-C stops the node.".into());
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Cli, Command};

    fn args(line: &[&str]) -> Result<RunArgs, String> {
        let line = ["cpc-node", "run"].into_iter().chain(line.iter().copied());
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Run(args) => Ok(args),
            other => panic!("not run but {other:?}"),
        }
    }

    fn config(line: &[&str], variables: &[(&str, &str)]) -> NetworkConfig {
        let owned = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>();
        args(line).expect("a valid line").config(|config| config.with_variables(owned)).expect("a valid configuration")
    }

    fn listens(config: &NetworkConfig) -> Vec<String> {
        config.listen.iter().flatten().map(Multiaddr::to_string).collect()
    }

    #[test]
    fn a_bare_run_is_a_relay_on_the_known_ports() {
        let config = config(&["--data-dir", "here"], &[]);
        assert_eq!(listens(&config), LISTEN);
        assert!(config.relay.server && config.discovery.mdns && !config.mailbox.serve);
        assert_eq!(config.data_dir.as_deref(), Some("here"));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_defaults() {
        let variables = [
            ("CPC_NET_LISTEN", "/ip4/127.0.0.1/tcp/1"),
            ("CPC_NET_RELAY__SERVER", "true"),
            ("CPC_NET_DATA_DIR", "env"),
        ];
        assert_eq!(listens(&config(&[], &variables)), ["/ip4/127.0.0.1/tcp/1"]);
        let line = [
            "--listen",
            "/ip4/127.0.0.1/tcp/2",
            "--listen",
            "/ip4/127.0.0.1/tcp/3",
            "--no-relay",
            "--no-mdns",
            "--mailbox",
        ];
        let config = config(&line, &variables);
        assert_eq!(listens(&config), ["/ip4/127.0.0.1/tcp/2", "/ip4/127.0.0.1/tcp/3"]);
        assert!(!config.relay.server && !config.discovery.mdns && config.mailbox.serve);
        assert_eq!(config.data_dir.as_deref(), Some("env"));
    }

    #[test]
    fn nonsense_on_the_command_line_names_its_flag() {
        for (line, parts) in [
            (["--listen", "here"], ["--listen", "/ip4/"]),
            (["--http", "8080"], ["--http", "127.0.0.1:8080"]),
            (["--http", "localhost:99999"], ["--http", "65535"]),
            (["--bootstrap", "node.example"], ["--bootstrap", "/ip4/"]),
        ] {
            let error = args(&line).expect_err("nonsense");
            for part in parts {
                assert!(error.contains(part), "{error} should mention {part}");
            }
        }
        assert_eq!(args(&["--http", "off"]).expect("valid").http, HttpPlace::Off);
        for (line, part) in [
            (&["--www", "no/such/folder"][..], "no/such/folder"),
            (&["--www", "no/such/folder", "--http", "off"][..], "--http off"),
        ] {
            let page = args(line).expect("valid").check_page().expect_err("no page");
            assert!(page.exit_code() == 2 && page.to_string().contains(part), "{page}");
        }
    }

    #[test]
    fn the_start_is_told_to_people_and_to_programs() {
        let mut started = Started {
            peer: "12D3".into(),
            network: "chess".into(),
            data_dir: "here".into(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().expect("an address")],
            url: Some("http://127.0.0.1:8080".into()),
            page: false,
        };
        let text = started.text();
        for part in ["chess", "12D3", "/ip4/127.0.0.1/tcp/1", "http://127.0.0.1:8080", "--www", "Ctrl-C"] {
            assert!(text.contains(part), "{text}");
        }
        let read = |line: String| serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
        assert_eq!(
            read(started.json()),
            json!({
                "event": "ready",
                "peerId": "12D3",
                "addresses": ["/ip4/127.0.0.1/tcp/1"],
                "http": "http://127.0.0.1:8080",
            })
        );
        started.url = None;
        assert!(read(started.json())["http"].is_null());
    }
}
