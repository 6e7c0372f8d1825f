//! What is known of peers and of the node itself: the snapshots an app reads.

mod mailbox;
mod propagation;

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

pub use mailbox::MailboxStats;
pub use propagation::{PropagationStats, StrategyStats};

use crate::{error::parse::ParseError, message::GroupName};

/// The state of the connection to one peer (CPC §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum ConnectionState {
    /// No connection, and none under way. A retry may be planned: [`PeerInfo::retry_in`] tells.
    #[default]
    Disconnected,
    /// An attempt is under way.
    Connecting,
    /// At least one connection stands.
    Connected,
    /// The connection is being closed in good order.
    Disconnecting,
}

/// How bytes reach a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum ConnectionKind {
    /// QUIC (RFC 9000).
    Quic,
    /// TCP with Noise or TLS 1.3.
    Tcp,
    /// WebRTC between browsers.
    Webrtc,
    /// WebRTC to a native node, by its certificate hash.
    WebrtcDirect,
    /// WebSocket, plain or over TLS, with Noise inside.
    Websocket,
    /// Through a relay, end to end encrypted past it.
    Relayed,
    /// A transport inside one process, or one this version has no name for.
    Other,
}

impl ConnectionKind {
    /// Reads the kind off an address. A circuit counts as relayed whatever carries it.
    pub fn of(address: &Multiaddr) -> Self {
        let mut kind = ConnectionKind::Other;
        let mut circuit = false;
        for part in address {
            match part {
                Protocol::P2pCircuit => {
                    circuit = true;
                    kind = ConnectionKind::Relayed;
                }
                // After a circuit only `/webrtc` says that the bytes take another way than the relay.
                Protocol::WebRTC if circuit => kind = ConnectionKind::Webrtc,
                _ if circuit => {}
                Protocol::QuicV1 | Protocol::Quic => kind = ConnectionKind::Quic,
                Protocol::WebRTCDirect => kind = ConnectionKind::WebrtcDirect,
                Protocol::Ws(_) | Protocol::Wss(_) => kind = ConnectionKind::Websocket,
                Protocol::Tcp(_) => kind = ConnectionKind::Tcp,
                _ => {}
            }
        }
        kind
    }
}

/// Whom to connect to: a peer by its id, or whoever is at an address. Made from either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectTarget {
    /// The peer, wherever it is known to be.
    Peer(PeerId),
    /// The address; with a trailing `/p2p/<peer id>` only that peer is accepted there.
    Address(Multiaddr),
}

impl From<PeerId> for ConnectTarget {
    fn from(peer: PeerId) -> Self {
        ConnectTarget::Peer(peer)
    }
}

impl From<Multiaddr> for ConnectTarget {
    fn from(address: Multiaddr) -> Self {
        ConnectTarget::Address(address)
    }
}

impl fmt::Display for ConnectTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectTarget::Peer(peer) => peer.fmt(formatter),
            ConnectTarget::Address(address) => address.fmt(formatter),
        }
    }
}

impl FromStr for ConnectTarget {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(peer) = text.parse::<PeerId>() {
            return Ok(ConnectTarget::Peer(peer));
        }
        match text.parse::<Multiaddr>() {
            Ok(address) if !address.is_empty() => Ok(ConnectTarget::Address(address)),
            _ => Err(ParseError::new("peer or address", text, "a peer id or a multiaddr")),
        }
    }
}

/// What is known of one peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PeerInfo {
    /// The peer.
    #[cfg_attr(feature = "typescript", ts(type = "string"))]
    pub peer: PeerId,
    /// The connection's state.
    pub state: ConnectionState,
    /// How it is connected: the best of its connections; `None` while there is none.
    pub kind: Option<ConnectionKind>,
    /// Round-trip time of the last ping, milliseconds.
    #[serde(with = "crate::config::optional_millis")]
    #[cfg_attr(feature = "typescript", ts(type = "number | null"))]
    pub latency: Option<Duration>,
    /// How many connections stand.
    pub connections: usize,
    /// Where it can be dialled, as far as known; the most recently confirmed first.
    #[cfg_attr(feature = "typescript", ts(type = "string[]"))]
    pub addresses: Vec<Multiaddr>,
    /// Its software, as it says itself.
    pub agent: Option<String>,
    /// How long the connection stands, milliseconds.
    #[serde(with = "crate::config::optional_millis")]
    #[cfg_attr(feature = "typescript", ts(type = "number | null"))]
    pub connected_for: Option<Duration>,
    /// When the next attempt is made, milliseconds from the snapshot; `None` when none is planned.
    #[serde(with = "crate::config::optional_millis")]
    #[cfg_attr(feature = "typescript", ts(type = "number | null"))]
    pub retry_in: Option<Duration>,
    /// Messages that wait for it or for its acknowledgement.
    pub waiting: usize,
    /// From 0 (a nuisance) to 1. Falls with each rejection and recovers with time.
    pub score: f32,
    /// Whether it relays for others.
    pub relay: bool,
    /// Whether it keeps mail for peers that are away.
    pub mailbox: bool,
}

/// How the node is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct NetworkStatus {
    /// This node.
    #[cfg_attr(feature = "typescript", ts(type = "string"))]
    pub local_peer_id: PeerId,
    /// The name of the network it takes part in.
    pub network: String,
    /// In one word.
    pub phase: Phase,
    /// Addresses it can be reached at, without the peer id.
    #[cfg_attr(feature = "typescript", ts(type = "string[]"))]
    pub listen_addrs: Vec<Multiaddr>,
    /// How many peers are connected.
    pub connected: usize,
    /// How many peers are known.
    pub known: usize,
    /// Groups this node has joined.
    pub groups: Vec<GroupName>,
    /// How long it has been running, without time asleep, milliseconds.
    #[serde(with = "crate::config::millis")]
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub uptime: Duration,
}

/// A node's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Phase {
    /// Running, with no peer connected.
    Alone,
    /// Running, with at least one peer connected.
    Online,
    /// Sending what is queued before it stops.
    Draining,
    /// Stopped.
    Stopped,
}

/// Counters since the start, in one consistent snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct NetworkStats {
    /// Messages accepted for sending, by priority.
    pub messages_accepted: PerPriority,
    /// Messages that left for a connection, by priority; a post counts once; a retransmission counts again.
    pub messages_sent: PerPriority,
    /// Messages handed to the app, by priority.
    pub messages_received: PerPriority,
    /// Direct messages whose receipt says delivered.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub messages_delivered: u64,
    /// Direct messages whose receipt says failed or expired.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub messages_failed: u64,
    /// Direct messages that gave way to more urgent ones; among those that failed.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub messages_shed: u64,
    /// Received messages that no subscriber took in time, and posts that came faster than they could be checked.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub messages_missed: u64,
    /// Direct messages that were not taken, because the app had not confirmed enough of the earlier ones, because they could
    /// not be stored, or because an earlier one of the same lane was not and has to come first. Their senders bring them
    /// again.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub messages_deferred: u64,
    /// Direct messages that are kept until the app has confirmed them.
    pub inbox: usize,
    /// Copies of messages that had arrived before, by another way or retransmission; not an offence.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub duplicates: u64,
    /// Rejections by the name of their reason.
    #[cfg_attr(feature = "typescript", ts(type = "Record<string, number>"))]
    pub rejections: BTreeMap<&'static str, u64>,
    /// Broadcasts that could not leave for want of room or of anybody to take them.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub broadcasts_dropped: u64,
    /// How posts spread.
    pub propagation: PropagationStats,
    /// Mail for peers that are away.
    pub mailbox: MailboxStats,
    /// Bytes of frames sent on lanes, with their length prefixes.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub bytes_sent: u64,
    /// Bytes of frames received on lanes, with their length prefixes.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub bytes_received: u64,
    /// Connections that came to stand.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub connections_opened: u64,
    /// Connections that ended.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub connections_closed: u64,
    /// Dials that failed.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub dials_failed: u64,
    /// Transfers that were completed, in either direction.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub transfers_finished: u64,
    /// Transfers that will never be complete, in either direction.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub transfers_failed: u64,
    /// Offers of other nodes that were refused: by the app, for want of room, or because nobody took them in time.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub offers_refused: u64,
    /// Bytes of payloads handed to streams; what had to be sent again counts again.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub transfer_bytes_sent: u64,
    /// Bytes of payloads that came in.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub transfer_bytes_received: u64,
    /// Direct messages that wait or are under way.
    pub outbox: usize,
}

/// A count for each priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PerPriority {
    /// [`Priority::High`](crate::Priority::High).
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub high: u64,
    /// [`Priority::Medium`](crate::Priority::Medium).
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub medium: u64,
    /// [`Priority::Low`](crate::Priority::Low).
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub low: u64,
}

impl PerPriority {
    pub(crate) fn count(&mut self, priority: crate::Priority) {
        match priority {
            crate::Priority::High => self.high += 1,
            crate::Priority::Medium => self.medium += 1,
            crate::Priority::Low => self.low += 1,
        }
    }

    /// All three together.
    pub fn total(&self) -> u64 {
        self.high + self.medium + self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_what_carries_the_bytes() {
        let peer = PeerId::random();
        let cases = [
            ("/ip4/1.2.3.4/tcp/1".to_owned(), ConnectionKind::Tcp),
            ("/ip4/1.2.3.4/udp/1/quic-v1".to_owned(), ConnectionKind::Quic),
            ("/dns4/a.example/tcp/443/wss".to_owned(), ConnectionKind::Websocket),
            ("/dns4/a.example/tcp/443/tls/ws".to_owned(), ConnectionKind::Websocket),
            ("/ip4/1.2.3.4/udp/1/webrtc-direct".to_owned(), ConnectionKind::WebrtcDirect),
            (format!("/ip4/1.2.3.4/tcp/1/ws/p2p/{peer}/p2p-circuit"), ConnectionKind::Relayed),
            (format!("/ip4/1.2.3.4/tcp/1/ws/p2p/{peer}/p2p-circuit/webrtc"), ConnectionKind::Webrtc),
            (format!("/p2p/{peer}"), ConnectionKind::Other),
        ];
        for (address, kind) in cases {
            assert_eq!(ConnectionKind::of(&address.parse().expect("an address")), kind, "{address}");
        }
    }
}
