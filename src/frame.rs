//! What a frame says, decoded and checked: the words in which the wire and the core speak. Plain types; how they look as
//! bytes is [`crate::wire`]'s concern.

mod mail;
mod spread;

use std::time::Duration;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

pub(crate) use mail::{Answer, Collect, Deposit, Deposited, Kept, Mail, Piece, Refusal, Sealed, Taking, ToMailbox};
pub(crate) use spread::{Beyond, Passing, Post, PostId, SpreadNote, Topic};

use crate::{
    event::RejectReason,
    message::{Authenticity, GroupName, MessageId, MessageKind, Priority},
};

/// A message on the wire, its author vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) id: MessageId,
    pub(crate) kind: MessageKind,
    pub(crate) priority: Priority,
    pub(crate) addressing: Addressing,
    /// The author's clock, milliseconds since the Unix epoch; `None` from five-field implementations.
    pub(crate) created_at: Option<u64>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) hops: u32,
    pub(crate) authenticity: Authenticity,
    pub(crate) payload: Bytes,
}

/// A message of this node, before the wire encodes and signs it. It stays content until it leaves, so that messages that
/// leave together can share a signature, and so that what is kept on disk needs no key to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) nonce: u64,
    pub(crate) kind: MessageKind,
    pub(crate) priority: Priority,
    pub(crate) addressing: Addressing,
    /// The node's clock when the app handed it over, milliseconds since the Unix epoch.
    pub(crate) created_at: u64,
    pub(crate) ttl: Option<Duration>,
    pub(crate) payload: Bytes,
}

/// Whom a frame is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// Everybody, as a post; on a lane, from an implementation that doesn't say more, the neighbour it is sent to.
    Anyone,
    /// The author's neighbours and nobody else.
    Neighbors,
    /// One peer.
    Peer(PeerId),
    /// The members of a group.
    Group(GroupName),
}

/// What a received frame brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) content: Content,
    /// Messages of ours that have arrived.
    pub(crate) acknowledged: Vec<NonceRange>,
}

/// What a received frame carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// A message for the app.
    Message(Frame),
    /// A post as it came, not verified yet: most are copies of what is here already.
    Post(Post),
    /// What the neighbour says about posts.
    Spread(SpreadNote),
    /// What the neighbour says as a mailbox, or to one.
    Mail(Box<Mail>),
    /// Peers that the neighbour knows.
    PeerList {
        records: Vec<SignedRecord>,
        /// One rejection for each record that doesn't prove itself.
        forged: Vec<Rejection>,
    },
    /// The neighbour rejected something of ours.
    Error { reason: String, detail: String, nonce: Option<u64> },
    /// The neighbour is about to close.
    Goodbye,
    /// Only acknowledgements.
    Nothing,
}

/// What neighbours tell each other below the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ControlContent {
    Acknowledge(Vec<NonceRange>),
    Goodbye,
    Error(Rejection),
    /// The envelopes of signed peer records.
    PeerList(Vec<Bytes>),
    Spread(SpreadNote),
    /// From this node's mailbox: what became of deposits.
    Answers(Vec<Answer>),
    /// From this node's mailbox: something that was kept.
    Piece(Box<Kept>),
}

impl ControlContent {
    /// The lane it takes: lists of peers and mail can wait, the rest can't.
    pub(crate) fn priority(&self) -> Priority {
        match self {
            ControlContent::PeerList(_) | ControlContent::Piece(_) => Priority::Medium,
            ControlContent::Spread(note) => note.priority(),
            _ => Priority::High,
        }
    }
}

/// Nonces from first to last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NonceRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// A rejected frame: the reason, and more for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reason: RejectReason,
    pub(crate) detail: String,
    /// The nonce of the message, when it could be read and its sender waits for an answer.
    pub(crate) nonce: Option<u64>,
}

impl Rejection {
    pub(crate) fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), nonce: None }
    }
}

/// What a peer says of its own addresses, its signature checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedRecord {
    pub(crate) peer: PeerId,
    /// Rises with each new record of the same peer.
    pub(crate) sequence: u64,
    pub(crate) addresses: Vec<Multiaddr>,
    /// The signed envelope, to be passed on as it is.
    pub(crate) envelope: Bytes,
}

impl SignedRecord {
    /// Addresses beyond this are not taken.
    pub(crate) const MAX_ADDRESSES: usize = 16;
}
