//! What a node tells its app: events as they happen.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::{
    error::TransferError,
    message::{MessageId, Priority},
    peer::{ConnectionKind, ConnectionState},
    transfer::{TransferDirection, TransferId},
};

/// Something that happened. Several subscribers may listen; one that lags gets [`NetworkEvent::Lagged`] with how many
/// it missed, and goes on.
///
/// In JSON and JavaScript an event is an object whose `type` names the variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum NetworkEvent {
    /// The node can be reached at a new address.
    Listening {
        /// The address, without the peer id.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        address: Multiaddr,
    },
    /// An address the node could be reached at is gone.
    ListenClosed {
        /// The address.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        address: Multiaddr,
        /// Why.
        reason: String,
    },
    /// A peer's connection changed its state.
    StateChanged {
        /// The peer.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// The state before.
        from: ConnectionState,
        /// The state now.
        to: ConnectionState,
        /// What made it change.
        cause: StateCause,
    },
    /// More became known of a connected peer: its software, its latency, how it is connected. `peer_info` has it.
    PeerUpdated {
        /// The peer.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// How it is connected now; `None` when it is not.
        kind: Option<ConnectionKind>,
    },
    /// A peer, or new addresses of one, came to be known.
    PeerDiscovered {
        /// The peer.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// Its newly known addresses.
        #[cfg_attr(feature = "typescript", ts(type = "string[]"))]
        addresses: Vec<Multiaddr>,
        /// How it was found.
        source: DiscoverySource,
    },
    /// A search that `discover_peers` began has ended.
    DiscoveryFinished {
        /// What was searched for.
        target: DiscoverTarget,
        /// How many peers it brought that were not known before.
        found: usize,
    },
    /// A bootstrap address can't be reached for now. The others are used, and it is tried again.
    BootstrapFailed {
        /// The address from the configuration.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        address: Multiaddr,
        /// What the attempt said.
        reason: String,
        /// When it is tried again, milliseconds from now.
        #[serde(with = "crate::config::millis")]
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        retry_in: Duration,
    },
    /// Something that a peer sent was rejected. Counted by reason in the statistics; the peer's score falls.
    MessageRejected {
        /// The peer it came from: the neighbour, not the claimed author.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// Why.
        reason: RejectReason,
        /// More for people.
        detail: String,
    },
    /// A broadcast to all or to a group has left: at least one neighbour takes it and passes it on.
    BroadcastTaken {
        /// The message.
        id: MessageId,
    },
    /// A transfer goes on. Told at most five times a second for each.
    TransferProgress {
        /// The transfer.
        id: TransferId,
        /// The other side.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// Which way it goes.
        direction: TransferDirection,
        /// Bytes that the receiver has verified and written.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        transferred: u64,
    },
    /// A transfer is over.
    TransferEnded {
        /// The transfer.
        id: TransferId,
        /// The other side.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// Which way it went.
        direction: TransferDirection,
        /// Bytes that the receiver has verified and written, as far as was told.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        transferred: u64,
        /// Why it is not complete; nothing when it is.
        error: Option<TransferError>,
    },
    /// Received messages that no subscriber took in time were dropped, the oldest first.
    MessagesMissed {
        /// How many.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        count: u64,
    },
    /// Too much was to be sent, and messages that had been accepted gave way to more urgent ones. Each one's receipt says
    /// so too.
    MessagesShed {
        /// Their priority.
        priority: Priority,
        /// How many.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        count: u64,
    },
    /// Messages can't be stored: the disk is full, or fails. New ones are refused, what was accepted goes on from memory,
    /// and storing is tried again with growing pauses.
    StoreFailing {
        /// What the system said.
        reason: String,
    },
    /// Messages can be stored again.
    StoreRecovered,
    /// The app has not confirmed as many received messages as may wait: until it does, further ones are not taken, and
    /// stay with their senders.
    InboxFull {
        /// How many wait.
        waiting: usize,
    },
    /// A mailbox does not keep a message of this node's for a peer that is away. It is tried elsewhere, and later again;
    /// the receipt says where it is kept, if anywhere. Told once a minute at most for each mailbox and recipient.
    MailboxRefused {
        /// The mailbox.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        mailbox: PeerId,
        /// Whom the message is for.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        recipient: PeerId,
        /// Why, as a stable name: `sender_full`, `recipient_full`, `full`, `not_stored`…
        reason: String,
    },
    /// This subscriber did not keep up: that many events before the next one are missing from its stream.
    Lagged {
        /// How many.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        missed: u64,
    },
    /// The node has stopped. The last event of every stream.
    Stopped,
}

/// Why a connection's state changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum StateCause {
    /// The app asked for it.
    Requested,
    /// The node keeps up its connections: a bootstrap node, a known peer, a message that waits.
    Maintenance,
    /// A retry after a failure.
    Retry {
        /// Which attempt this is, from 2.
        attempt: u32,
    },
    /// The peer came to us.
    Inbound,
    /// The connection stands.
    Established,
    /// The attempt failed.
    DialFailed {
        /// What it said.
        reason: String,
    },
    /// The peer said goodbye.
    Goodbye,
    /// The connection broke.
    Lost {
        /// What the transport said.
        reason: String,
    },
    /// This node is shutting down.
    ShuttingDown,
}

/// How a peer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum DiscoverySource {
    /// The configuration's bootstrap addresses.
    Bootstrap,
    /// The app named it.
    Manual,
    /// It connected to us, or told us its addresses when we were connected.
    Identify,
    /// The Kademlia DHT.
    Dht,
    /// The local network.
    Mdns,
    /// A neighbour passed on the peer's signed record.
    PeerExchange,
}

/// What `discover_peers` searches for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum DiscoverTarget {
    /// All tiers: the bootstrap nodes, the DHT, the local network.
    All,
    /// One peer, by its id, across the network.
    Peer(#[cfg_attr(feature = "typescript", ts(type = "string"))] PeerId),
    /// The local network, by mDNS. Native only: in a browser it finds nobody.
    LocalNetwork,
}

/// Why something from a peer was rejected. The names are stable: the wire's ERROR replies, metrics and logs use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum RejectReason {
    /// The frame claims more bytes than the limit; nothing was allocated for it.
    Oversized,
    /// The frame is not a well-formed `CpcMessage`.
    Malformed,
    /// The stream ended inside a frame.
    Truncated,
    /// The signature doesn't fit the content and the claimed sender.
    WrongSignature,
    /// A field that needs the author's signature came without an author.
    Unsigned,
    /// It is addressed to somebody else.
    WrongRecipient,
    /// A nonce that was seen before, in a frame that is not a retransmission.
    Replayed,
    /// Its time to live is over.
    Expired,
    /// It has been forwarded more often than is allowed.
    TooManyHops,
    /// A signed peer record that its subject did not sign, or that can't be read.
    ForgedRecord,
    /// A message of a group this node has not joined.
    UnknownGroup,
    /// More lanes on one connection than anybody needs.
    TooManyLanes,
    /// A chunk of a transfer that doesn't fit its hash.
    CorruptChunk,
    /// Something that was kept for this node can't be opened: sealed to somebody else, by somebody else, or tampered
    /// with. The mailbox that handed it over is not blamed, since it can't look inside.
    WrongSeal,
    /// Mail, or an answer of a mailbox, that nobody has asked for.
    Unsolicited,
}

impl RejectReason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [RejectReason; 15] = [
        RejectReason::Oversized,
        RejectReason::Malformed,
        RejectReason::Truncated,
        RejectReason::WrongSignature,
        RejectReason::Unsigned,
        RejectReason::WrongRecipient,
        RejectReason::Replayed,
        RejectReason::Expired,
        RejectReason::TooManyHops,
        RejectReason::ForgedRecord,
        RejectReason::UnknownGroup,
        RejectReason::TooManyLanes,
        RejectReason::CorruptChunk,
        RejectReason::WrongSeal,
        RejectReason::Unsolicited,
    ];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::Oversized => "oversized",
            RejectReason::Malformed => "malformed",
            RejectReason::Truncated => "truncated",
            RejectReason::WrongSignature => "wrong_signature",
            RejectReason::Unsigned => "unsigned",
            RejectReason::WrongRecipient => "wrong_recipient",
            RejectReason::Replayed => "replayed",
            RejectReason::Expired => "expired",
            RejectReason::TooManyHops => "too_many_hops",
            RejectReason::ForgedRecord => "forged_record",
            RejectReason::UnknownGroup => "unknown_group",
            RejectReason::TooManyLanes => "too_many_lanes",
            RejectReason::CorruptChunk => "corrupt_chunk",
            RejectReason::WrongSeal => "wrong_seal",
            RejectReason::Unsolicited => "unsolicited",
        }
    }
}
