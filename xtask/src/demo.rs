//! `cargo xtask demo`: a node with its page, ready to be tried.

use std::{
    env, fs,
    io::{self, Write},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    builds::Builds,
    failure::Failure,
    node_process::NodeProcess,
    posts,
    run::{Run, file_failure},
    workspace::Workspace,
};

/// The node takes every variable that begins with `CPC_` for a setting of its own, and refuses those it doesn't know.
const FOR_BUILDS_ONLY: [&str; 5] = ["CPC_CHROMIUM", "CPC_FIREFOX", "CPC_NODE_BIN", "CPC_UPDATE", "CPC_WWW"];

pub fn run(workspace: &Workspace) -> Result<(), Failure> {
    println!("Building what the demo needs; from nothing that takes a quarter of an hour on two cores");
    let mut builds = Builds::new(workspace);
    let www = builds.www()?;
    let program = builds.node()?;

    let ports = Ports::look(port_is_free);
    let home = Home::choose(workspace.cache(), &ports)?;
    for line in ports.fallbacks() {
        println!("{line}");
    }
    println!("Starting the node");
    let command = Run::new(program, workspace.root())
        .args(["run", "--json", "--http", ports.http()])
        .args(ports.listen().iter().flat_map(|address| ["--listen", address]))
        .arg("--www")
        .arg(&www)
        .arg("--data-dir")
        .arg(home.path())
        .without(&FOR_BUILDS_ONLY);
    let mut node = NodeProcess::start(command.into_command())?;
    let ready = node.first_event("ready").ok_or_else(|| {
        Failure::new("the node ended before it was ready")
            .remedy("its own words are above. When a port was taken in the meantime, just run the demo again")
    })?;
    println!("{}", welcome(&ready));
    node.each_event(|event| match posts::line(event) {
        Some(line) => writeln!(io::stdout(), "{line}"),
        None => Ok(()),
    })
    .map_err(|error| Failure::new(format!("nobody reads what the demo prints any more: {error}")))?;
    node.end()?;
    println!("The node has ended.");
    Ok(())
}

/// What to tell a person who has never seen this.
fn welcome(ready: &Value) -> String {
    let page = ready["http"].as_str().unwrap_or("(the node serves no page)");
    let peer = ready["peerId"].as_str().unwrap_or("(unknown)");
    let addresses: Vec<_> = ready["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let addresses = addresses.iter().map(|address| format!("\n      {address}")).collect::<String>();
    format!(
        "\n\
         ======================================================================\n\
         \x20 The page:  {page}\n\
         ======================================================================\n\
         \n\
         To try it:  open that address in two tabs, or in two browsers. Each becomes a peer of its own.\n\
         \x20           Write a post in one; it appears in the other, and below.\n\
         \x20           Messages to one peer alone go from page to page.\n\
         \n\
         The node:   {peer}\n\
         \x20   Native peers reach it at{addresses}\n\
         \n\
         Ctrl-C ends it. Posts that the node receives:\n",
    )
}

/// Whether each of the node's usual ports can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    http: bool,
    tcp: bool,
    quic: bool,
    websocket: bool,
    webrtc: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
}

impl Ports {
    fn look(free: impl Fn(Kind, Ipv4Addr, u16) -> bool) -> Self {
        const EVERYWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
        Self {
            http: free(Kind::Tcp, Ipv4Addr::LOCALHOST, 8080),
            tcp: free(Kind::Tcp, EVERYWHERE, 4001),
            quic: free(Kind::Udp, EVERYWHERE, 4001),
            websocket: free(Kind::Tcp, EVERYWHERE, 4002),
            webrtc: free(Kind::Udp, EVERYWHERE, 4003),
        }
    }

    fn http(&self) -> &'static str {
        if self.http { "127.0.0.1:8080" } else { "127.0.0.1:0" }
    }

    /// Whether another node seems to be running: it would hold the ports that peers use.
    fn all_for_peers(&self) -> bool {
        self.tcp && self.quic && self.websocket && self.webrtc
    }

    /// Where to listen; nothing when the node's own defaults can be had.
    fn listen(&self) -> Vec<String> {
        if self.all_for_peers() {
            return Vec::new();
        }
        let port = |free: bool, usual: u16| if free { usual } else { 0 };
        vec![
            format!("/ip4/0.0.0.0/tcp/{}", port(self.tcp, 4001)),
            format!("/ip4/0.0.0.0/udp/{}/quic-v1", port(self.quic, 4001)),
            format!("/ip4/0.0.0.0/tcp/{}/ws", port(self.websocket, 4002)),
            format!("/ip4/0.0.0.0/udp/{}/webrtc-direct", port(self.webrtc, 4003)),
        ]
    }

    fn fallbacks(&self) -> Vec<String> {
        let uses = [
            (self.http, "TCP port 8080", "the page"),
            (self.tcp, "TCP port 4001", "peers"),
            (self.quic, "UDP port 4001", "peers by QUIC"),
            (self.websocket, "TCP port 4002", "browsers by WebSocket"),
            (self.webrtc, "UDP port 4003", "browsers by WebRTC"),
        ];
        let taken = uses.iter().filter(|(free, ..)| !free);
        taken
            .map(|(_, port, whom)| format!("{port} is in use by another program: taking a free one for {whom}"))
            .collect()
    }
}

fn port_is_free(kind: Kind, address: Ipv4Addr, port: u16) -> bool {
    let taken = match kind {
        Kind::Tcp => TcpListener::bind((address, port)).err(),
        Kind::Udp => UdpSocket::bind((address, port)).err(),
    };
    // Other errors are the node's to explain.
    taken.is_none_or(|error| error.kind() != io::ErrorKind::AddrInUse)
}

/// Where the node keeps its identity.
struct Home {
    path: PathBuf,
    passing: bool,
}

impl Home {
    /// The same identity each time, unless another node is running, which may well be this demo's: two nodes under one
    /// identity would confuse every peer.
    fn choose(cache: &Path, ports: &Ports) -> Result<Self, Failure> {
        let home = if ports.all_for_peers() {
            Self { path: cache.join("demo-node"), passing: false }
        } else {
            println!(
                "Not all ports for peers are free, so another node may be running: this one gets a passing identity"
            );
            Self { path: env::temp_dir().join(format!("cpc-demo-node-{}", std::process::id())), passing: true }
        };
        fs::create_dir_all(&home.path).map_err(|error| file_failure("can't create", &home.path, &error))?;
        Ok(home)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.passing {
            // What remains of it does no harm in a folder for what passes.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALL_FREE: Ports = Ports { http: true, tcp: true, quic: true, websocket: true, webrtc: true };

    #[test]
    fn the_usual_ports_are_taken_when_they_can_be_had() {
        assert_eq!(Ports::look(|_, _, _| true), ALL_FREE);
        assert_eq!(ALL_FREE.http(), "127.0.0.1:8080");
        assert!(ALL_FREE.listen().is_empty() && ALL_FREE.fallbacks().is_empty());
    }

    #[test]
    fn a_taken_port_is_replaced_and_told_of() {
        let page_only = Ports { http: false, ..ALL_FREE };
        assert_eq!(page_only.http(), "127.0.0.1:0");
        assert!(page_only.listen().is_empty());
        assert_eq!(page_only.fallbacks().len(), 1);

        let websocket = Ports::look(|kind, _, port| (kind, port) != (Kind::Tcp, 4002));
        assert_eq!(websocket, Ports { websocket: false, ..ALL_FREE });
        assert_eq!(
            websocket.listen(),
            [
                "/ip4/0.0.0.0/tcp/4001",
                "/ip4/0.0.0.0/udp/4001/quic-v1",
                "/ip4/0.0.0.0/tcp/0/ws",
                "/ip4/0.0.0.0/udp/4003/webrtc-direct"
            ]
        );
        assert!(websocket.fallbacks()[0].contains("TCP port 4002 is in use"), "{:?}", websocket.fallbacks());
    }

    #[test]
    fn a_port_in_use_is_noticed() {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let (tcp_port, udp_port) = (tcp.local_addr().expect("bound").port(), udp.local_addr().expect("bound").port());
        assert!(!port_is_free(Kind::Tcp, Ipv4Addr::LOCALHOST, tcp_port));
        assert!(!port_is_free(Kind::Udp, Ipv4Addr::LOCALHOST, udp_port));
        drop((tcp, udp));
        assert!(port_is_free(Kind::Tcp, Ipv4Addr::LOCALHOST, tcp_port));
        assert!(port_is_free(Kind::Udp, Ipv4Addr::LOCALHOST, udp_port));
    }

    #[test]
    fn the_welcome_has_the_address_of_the_page() {
        let text = welcome(&json!({"event": "ready", "peerId": "12D3KooW", "http": "http://127.0.0.1:8080",
                                   "addresses": ["/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW"]}));
        for part in ["http://127.0.0.1:8080\n", "12D3KooW", "/ip4/127.0.0.1/tcp/4001", "Ctrl-C"] {
            assert!(text.contains(part), "{part} is missing from:\n{text}");
        }
    }
}
