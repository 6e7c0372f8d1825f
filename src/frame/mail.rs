//! What nodes and mailboxes say to each other; `proto/cpc.proto` tells how it looks as bytes.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use super::{Frame, Letter, NonceRange, Rejection};
use crate::message::Priority;

/// What came from a mailbox, or to this node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mail {
    /// A letter to keep for a peer.
    Deposited(Deposited),
    /// What the neighbour takes of what is kept for it, and has taken.
    Collect(Collect),
    /// What became of this node's deposits.
    Answers(Vec<Answer>),
    /// Something that was kept for this node.
    Piece(Piece),
}

/// What this node says to a mailbox. Part of it is sealed when it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToMailbox {
    /// A letter for a peer that is away.
    Deposit(Box<Deposit>),
    /// What this node takes and has taken.
    Collect(Box<Taking>),
}

impl ToMailbox {
    /// The lane it takes: letters can wait, what makes room doesn't.
    pub(crate) fn priority(&self) -> Priority {
        match self {
            ToMailbox::Deposit(_) => Priority::Medium,
            ToMailbox::Collect(_) => Priority::High,
        }
    }
}

/// A letter that this node leaves at a mailbox. The wire signs and seals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deposit {
    /// The answer names it.
    pub(crate) number: u64,
    pub(crate) recipient: PeerId,
    pub(crate) keep_for: Duration,
    pub(crate) letter: Letter,
}

impl Deposit {
    /// The longest payload of a message that may be left at a mailbox, bytes. Longer ones are for transfers.
    pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;
}

/// A letter as it comes to a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deposited {
    pub(crate) number: u64,
    /// The same whenever the same message is brought.
    pub(crate) ticket: u64,
    pub(crate) recipient: PeerId,
    pub(crate) keep_for: Duration,
    pub(crate) sealed: Bytes,
}

/// What became of a deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    /// For how long it is kept, or why it isn't.
    pub(crate) kept_for: Result<Duration, String>,
}

/// Why a mailbox doesn't keep a letter. The names are stable: the wire, the metrics and events use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// This node keeps no mail for others.
    Unwilling,
    /// The sender has left as much as it may.
    SenderFull,
    /// As much waits for the recipient as may.
    RecipientFull,
    /// The mailbox is full.
    Full,
    /// It is for the sender itself, for the mailbox, or for a peer to whom nothing can be sealed.
    WrongRecipient,
    /// The disk refuses.
    NotStored,
}

impl Refusal {
    /// All reasons, in the order of their declaration.
    pub(crate) const ALL: [Refusal; 6] = [
        Refusal::Unwilling,
        Refusal::SenderFull,
        Refusal::RecipientFull,
        Refusal::Full,
        Refusal::WrongRecipient,
        Refusal::NotStored,
    ];

    /// The stable name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Refusal::Unwilling => "unwilling",
            Refusal::SenderFull => "sender_full",
            Refusal::RecipientFull => "recipient_full",
            Refusal::Full => "full",
            Refusal::WrongRecipient => "wrong_recipient",
            Refusal::NotStored => "not_stored",
        }
    }
}

/// What this node takes and has taken from a mailbox. The wire signs and seals the confirmations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taking {
    pub(crate) run: u32,
    pub(crate) letters: u32,
    pub(crate) bytes: u32,
    /// Slots that need not be kept any longer.
    pub(crate) taken: Vec<u64>,
    /// By author, what of the author's has arrived.
    pub(crate) arrived: Vec<(PeerId, Vec<NonceRange>)>,
}

/// The same as it comes to a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collect {
    pub(crate) run: u32,
    pub(crate) letters: usize,
    pub(crate) bytes: usize,
    pub(crate) taken: Vec<u64>,
    /// Authors, and the sealed confirmation for each.
    pub(crate) confirmations: Vec<(PeerId, Bytes)>,
}

impl Collect {
    /// Slots that are read of one frame.
    pub(crate) const MAX_TAKEN: usize = 1024;

    /// Confirmations that are read of one frame.
    pub(crate) const MAX_CONFIRMATIONS: usize = 128;
}

/// Something that this node has kept for a neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) run: u32,
    pub(crate) slot: u64,
    /// Whether it is a confirmation; else it is a letter.
    pub(crate) confirmation: bool,
    pub(crate) sealed: Bytes,
}

/// Something that was kept for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) run: u32,
    pub(crate) slot: u64,
    /// Whether it confirms messages of the recipient's; else it is a letter.
    pub(crate) confirmation: bool,
    pub(crate) content: Sealed,
}

/// What is in a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// Not opened yet.
    Closed(Bytes),
    /// A message for this node, its author's signature checked.
    Letter(Frame),
    /// A peer has these messages of this node's, and has signed that.
    Arrival { by: PeerId, nonces: Vec<NonceRange> },
    /// It can't be opened, or what is inside isn't what it should be.
    Bad(Rejection),
}
