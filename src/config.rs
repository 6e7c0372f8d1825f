//! Everything that can be set, with its default and its bounds.
//!
//! A configuration comes from the [builder](NetworkConfigBuilder), a TOML text, environment variables or a JavaScript
//! object; all of them name the same fields, and all go through [`NetworkConfig::validate`], whose errors name the
//! field and the range allowed.
//!
//! ```
//! use cpc_net::NetworkConfig;
//!
//! let config = NetworkConfig::builder()
//!     .bootstrap("/dns4/node.example/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")
//!     .data_dir("alice")
//!     .build()?;
//! assert_eq!(config.network, "cpc");
//!
//! let error = NetworkConfig::from_toml("[limits]\nmax_payload = 0").unwrap_err();
//! assert_eq!(error.to_string(), "limits.max_payload is 0, allowed is 1 to 4194304 bytes");
//! # Ok::<(), cpc_net::error::ConfigError>(())
//! ```

mod builder;
mod check;
mod durations;
mod mailbox;
mod propagation;
mod source;
mod transfers;

use std::time::Duration;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

pub use builder::NetworkConfigBuilder;
pub(crate) use durations::{millis, optional_millis};
pub use mailbox::MailboxConfig;
pub use propagation::{PropagationConfig, Strategy};
pub use transfers::TransfersConfig;

/// The whole configuration. In TOML each struct below is a table, in the environment a prefix
/// (`CPC_NET_LIMITS__MAX_PAYLOAD`), in JavaScript a nested object with camel-case names (`limits.maxPayload`).
///
/// Durations are written as `"30s"`, `"500ms"`, `"1h"`, or as a number of milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct NetworkConfig {
    /// The network's name: nodes of different names share neither gossip nor DHT. 1 to 32 letters, digits, `-`, `_`
    /// or `.`. Default `cpc`.
    pub network: String,
    /// What the node calls its software towards peers. At most 64 bytes. Default `cpc-net/<version>`.
    pub agent: String,
    /// Where the identity and what else survives a restart is kept: natively a folder, in a browser the name of an
    /// IndexedDB database. Without it the node has a new identity at each start. Default none.
    pub data_dir: Option<String>,
    /// Where to listen. Default: natively every interface over TCP and QUIC, at free ports; in a browser nowhere, since
    /// pages are reached through relays.
    #[cfg_attr(feature = "typescript", ts(type = "string[] | null"))]
    pub listen: Option<Vec<Multiaddr>>,
    /// Addresses under which others reach this node, when they differ from the ones it listens on (a public address in
    /// front of a NAT, a domain name in front of a proxy). Default none.
    #[cfg_attr(feature = "typescript", ts(type = "string[]"))]
    pub external_addresses: Vec<Multiaddr>,
    /// Nodes to join the network by, best with their `/p2p/<peer id>`. At most 64. Default none.
    #[cfg_attr(feature = "typescript", ts(type = "string[]"))]
    pub bootstrap: Vec<Multiaddr>,
    /// Which transports are used.
    pub transport: TransportConfig,
    /// Being a relay, and using them.
    pub relay: RelayConfig,
    /// How peers are found.
    pub discovery: DiscoveryConfig,
    /// How connections are made and kept.
    pub connections: ConnectionsConfig,
    /// How long delivery is tried.
    pub delivery: DeliveryConfig,
    /// Messages for peers that are away: leaving them at mailboxes, and being one.
    pub mailbox: MailboxConfig,
    /// How broadcasts spread.
    pub propagation: PropagationConfig,
    /// Payloads that are streamed from a reader into a writer.
    pub transfers: TransfersConfig,
    /// How many bytes may leave in a time.
    pub bandwidth: BandwidthConfig,
    /// What bounds memory.
    pub limits: LimitsConfig,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            network: "cpc".into(),
            agent: concat!("cpc-net/", env!("CARGO_PKG_VERSION")).into(),
            data_dir: None,
            listen: None,
            external_addresses: Vec::new(),
            bootstrap: Vec::new(),
            transport: TransportConfig::default(),
            relay: RelayConfig::default(),
            discovery: DiscoveryConfig::default(),
            connections: ConnectionsConfig::default(),
            delivery: DeliveryConfig::default(),
            mailbox: MailboxConfig::default(),
            propagation: PropagationConfig::default(),
            transfers: TransfersConfig::default(),
            bandwidth: BandwidthConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

/// Which transports are used. One that the target doesn't have is left out without a word: a browser has WebSocket,
/// WebRTC-direct and WebRTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct TransportConfig {
    /// TCP. Default on.
    pub tcp: bool,
    /// QUIC. Default on.
    pub quic: bool,
    /// WebSocket. Default on.
    pub websocket: bool,
    /// WebRTC-direct: browsers reach native nodes without a certificate of an authority. Default on.
    pub webrtc_direct: bool,
    /// WebRTC between peers that meet behind a relay: pages, and nodes that can't be dialled, talk directly. Default on.
    pub webrtc: bool,
    /// STUN and TURN servers that help pages find a way through NATs. Without any, peers find each other on the same
    /// network or where addresses are public; else they stay relayed. Native nodes don't ask them. At most 8. Default
    /// none.
    pub ice_servers: Vec<IceServer>,
    /// How TCP and WebSocket connections are encrypted. Both sides agree on one that both offer. Default both.
    pub security: Security,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            tcp: true,
            quic: true,
            websocket: true,
            webrtc_direct: true,
            webrtc: true,
            ice_servers: Vec::new(),
            security: Security::Both,
        }
    }
}

/// A server that helps WebRTC through NATs: a STUN server tells a peer its public address, a TURN server forwards. The
/// fields are those of a browser's `RTCIceServer`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct IceServer {
    /// Where it is: `stun:stun.example:3478`, `turn:turn.example`, `turns:turn.example:5349?transport=tcp` (RFC 7064,
    /// RFC 7065). 1 to 8; a single one may be given without a list around it.
    #[serde(deserialize_with = "one_or_several")]
    #[cfg_attr(feature = "typescript", ts(type = "string | Array<string>"))]
    pub urls: Vec<String>,
    /// The user name of a TURN server. Default none.
    #[serde(default)]
    #[cfg_attr(feature = "typescript", ts(optional = nullable))]
    pub username: Option<String>,
    /// The password of a TURN server. Default none.
    #[serde(default)]
    #[cfg_attr(feature = "typescript", ts(optional = nullable))]
    pub credential: Option<String>,
}

impl IceServer {
    /// A server that needs no password: a STUN server.
    #[must_use]
    pub fn stun(url: impl Into<String>) -> Self {
        Self { urls: vec![url.into()], username: None, credential: None }
    }

    /// A TURN server, with the user name and the password it asks for.
    #[must_use]
    pub fn turn(url: impl Into<String>, username: impl Into<String>, credential: impl Into<String>) -> Self {
        Self { urls: vec![url.into()], username: Some(username.into()), credential: Some(credential.into()) }
    }
}

fn one_or_several<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an address or a list of addresses")]
    enum Urls {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Urls::deserialize(source)? {
        Urls::One(url) => vec![url],
        Urls::Several(urls) => urls,
    })
}

/// Without the password, which must not end up in a log.
impl std::fmt::Debug for IceServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The encryption of TCP and WebSocket connections. There is no plaintext mode. Browsers always use Noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Security {
    /// Noise XX with X25519 and ChaCha20-Poly1305 (libp2p noise spec).
    Noise,
    /// TLS 1.3 (libp2p tls spec).
    Tls,
    /// Noise preferred, TLS accepted.
    Both,
}

/// Being a relay for others, and using relays to be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct RelayConfig {
    /// Relay for others (circuit relay v2). Needs addresses that others reach: the ones listened on are taken as such.
    /// Native only. Default off.
    pub server: bool,
    /// At how many relays to reserve a place, so that others reach this node through them; 0 to 8. Default: 2 in a
    /// browser, none natively.
    pub reservations: Option<usize>,
    /// As a relay: how many places to give out. 1 to 65536. Default 1024.
    pub max_reservations: usize,
    /// As a relay: how many circuits at a time. 1 to 65536. Default 1024.
    pub max_circuits: usize,
    /// As a relay: how long one circuit may last. 1 s to 24 h. Default 1 h.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub circuit_duration: Duration,
    /// As a relay: how many bytes one circuit may carry each way; 0 means no limit. Default 256 MiB.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub circuit_bytes: u64,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            server: false,
            reservations: None,
            max_reservations: 1024,
            max_circuits: 1024,
            circuit_duration: Duration::from_secs(60 * 60),
            circuit_bytes: 256 * 1024 * 1024,
        }
    }
}

/// How peers are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct DiscoveryConfig {
    /// Look for nodes of the same network on the local network. Native only. Default on.
    pub mdns: bool,
    /// Take part in the network's Kademlia DHT: as a server natively, as a client in a browser. Default on.
    pub dht: bool,
    /// Tell neighbours of each other, by records that each peer signs itself. Default on.
    pub peer_exchange: bool,
    /// With fewer peers than this, known ones are dialled. 0 to 64. Default 8.
    pub target_peers: usize,
    /// How often the search is renewed. 1 s to 1 h. Default 60 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub refresh_interval: Duration,
    /// How many peers the peer book remembers. 8 to 65536. Default 1024.
    pub known_peers: usize,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            mdns: true,
            dht: true,
            peer_exchange: true,
            target_peers: 8,
            refresh_interval: Duration::from_secs(60),
            known_peers: 1024,
        }
    }
}

/// How connections are made and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct ConnectionsConfig {
    /// How many connections in all. 1 to 65536. Default 1000.
    pub max_connections: u32,
    /// How many connections to one peer. 1 to 16. Default 4.
    pub max_per_peer: u32,
    /// How many attempts at a time, each way. 1 to 4096. Default 128.
    pub max_pending: u32,
    /// How long one attempt may take. 100 ms to 2 min. Default 10 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub dial_timeout: Duration,
    /// How often a connected peer is pinged. 100 ms to 10 min. Default 10 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub ping_interval: Duration,
    /// After how long without an answer a ping has failed; the connection is then closed. 100 ms to 2 min. Default 10 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub ping_timeout: Duration,
    /// The first pause before a failed connection is tried again; it doubles with each failure, and a random part of it
    /// is waited. 10 ms to 1 min. Default 500 ms.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub retry_initial: Duration,
    /// The longest such pause; a node without any peer waits at most 2 s for its bootstrap nodes. 100 ms to 1 h. Default
    /// 60 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub retry_max: Duration,
    /// After how many failures in a row a peer is not tried again by itself; bootstrap nodes always are. 0 to 1000.
    /// Default 10.
    pub retry_attempts: u32,
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            max_connections: 1000,
            max_per_peer: 4,
            max_pending: 128,
            dial_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(10),
            retry_initial: Duration::from_millis(500),
            retry_max: Duration::from_secs(60),
            retry_attempts: 10,
        }
    }
}

/// How long delivery is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct DeliveryConfig {
    /// How long a message may wait for a way to its recipient. 1 s to 7 days. Default 60 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub timeout: Duration,
    /// How long an acknowledgement is awaited at the longest before the message is sent again. How long it is really,
    /// follows from the round-trip times that are measured (RFC 6298). 100 ms to 5 min. Default 5 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub acknowledge_timeout: Duration,
    /// How long `shutdown` waits for what is queued. 0 to 5 min. Default 5 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub drain_timeout: Duration,
    /// What of messages outlives the node. Others than `memory` need a `data_dir`. Default `batched` with a `data_dir`,
    /// else `memory`.
    pub durability: Option<Durability>,
}

/// What accepting a message costs, and what it is worth: how much of direct messages, sent and received, outlives the
/// node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Durability {
    /// Nothing is kept: what has not been delivered ends with the node. What an earlier run has kept stays where it is.
    Memory,
    /// Messages are written in groups while they are on their way already; one that is delivered before its group is
    /// written is not written at all. Natively a group is on the disk when it counts; in a browser the system has it, so
    /// it outlives the page and the browser, but perhaps not the machine.
    Batched,
    /// A message leaves only once it is on the disk, also in a browser.
    Synced,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            acknowledge_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
            durability: None,
        }
    }
}

/// How many bytes of messages and transfers may leave in a time. What is over it waits, the most urgent the shortest and
/// transfers the longest: a part of what is allowed is kept for each higher priority. Frames that the network itself needs
/// are neither counted nor held up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct BandwidthConfig {
    /// Whether the rates below hold. Default off.
    pub limited: bool,
    /// Bytes a second to all peers together. 1024 to 1 TB. Default 1000000.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub total: u64,
    /// Bytes a second to each peer. 1024 to 1 TB. Default 1000000.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub per_peer: u64,
}

impl Default for BandwidthConfig {
    fn default() -> Self {
        Self { limited: false, total: 1_000_000, per_peer: 1_000_000 }
    }
}

/// What bounds memory. When a limit is reached, calls are refused with an error, and what arrives is dropped, counted
/// and announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct LimitsConfig {
    /// The largest payload, in bytes. 1 to 4194304. Default 65536. All nodes of a network should agree.
    pub max_payload: usize,
    /// How many direct messages may wait or be under way, over all peers; of the higher priorities a quarter more, for
    /// which less urgent ones then give way. 1 to 1000000. Default 10000.
    pub outbox_messages: usize,
    /// How many bytes these may hold, likewise. 65536 to 64 GiB. Default 64 MiB.
    pub outbox_bytes: usize,
    /// How many direct messages may wait for one peer or be under way to it, so that one who is away leaves room for the
    /// others. 1 to 1000000. Default 8000.
    pub peer_messages: usize,
    /// How many bytes these may hold. 65536 to 64 GiB. Default 48 MiB.
    pub peer_bytes: usize,
    /// How many received messages wait for their subscribers. 16 to 65536. Default 1024. Where messages are kept (see
    /// [`Durability`]), direct ones have as much room of their own, and are not acknowledged when it is full.
    pub message_buffer: usize,
    /// How many events wait for their subscribers. 16 to 65536. Default 1024.
    pub event_buffer: usize,
    /// How many calls wait for the network task. 16 to 65536. Default 1024.
    pub command_buffer: usize,
    /// How many groups can be joined. 1 to 1024. Default 64.
    pub groups: usize,
    /// How many senders' nonces, and how many posts, are remembered to find duplicates. 100 to 1000000. Default 10000.
    pub duplicate_cache: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_payload: 64 * 1024,
            outbox_messages: 10_000,
            outbox_bytes: 64 * 1024 * 1024,
            peer_messages: 8_000,
            peer_bytes: 48 * 1024 * 1024,
            message_buffer: 1024,
            event_buffer: 1024,
            command_buffer: 1024,
            groups: 64,
            duplicate_cache: 10_000,
        }
    }
}

impl NetworkConfig {
    /// What of messages outlives the node: what was chosen, or what follows from `data_dir`.
    pub fn durability(&self) -> Durability {
        let default = if self.data_dir.is_some() { Durability::Batched } else { Durability::Memory };
        self.delivery.durability.unwrap_or(default)
    }

    /// Starts from the defaults and sets what differs.
    pub fn builder() -> NetworkConfigBuilder {
        NetworkConfigBuilder::default()
    }
}
