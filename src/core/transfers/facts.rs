//! The facts and the wishes about transfers.

use libp2p::PeerId;

use crate::{
    core::LinkId,
    transfer::{Outcome, PayloadHash, TransferId, TransferKey, TransferState},
};

/// Facts about transfers.
#[derive(Debug)]
pub(crate) enum TransferInput {
    /// The app sends something.
    Send { peer: PeerId, id: TransferId, length: Option<u64> },
    /// The app gave one up.
    Cancel(TransferKey),
    /// A peer offers something; `attempt` names its stream.
    Offered { peer: PeerId, id: TransferId, attempt: u64, length: Option<u64> },
    /// The app took an offer.
    Taken(TransferKey),
    /// The app doesn't want an offer.
    Declined(TransferKey, String),
    /// So much is verified and written, and so many bytes were moved since the last time.
    Progress { key: TransferKey, attempt: u64, transferred: u64, moved: u64 },
    /// An attempt has used up the bytes that it was granted.
    Wants { key: TransferKey, attempt: u64 },
    /// An attempt has ended.
    Ended { key: TransferKey, attempt: u64, outcome: Outcome, moved: u64 },
    /// A relay said what a circuit may carry, in both directions together. `who` is the relay itself where this node has
    /// dialled, else the peer who came by it.
    CircuitLimit { who: PeerId, outbound: bool, bytes: Option<u64> },
    /// The peer gave one up.
    Stopped { peer: PeerId, id: TransferId, by_sender: bool, reason: String },
}

/// Wishes about transfers.
#[derive(Debug, PartialEq)]
pub(crate) enum TransferOutput {
    /// Open a stream on this connection and try; move no more than so many bytes on it.
    Begin { key: TransferKey, attempt: u64, link: LinkId, most: Option<u64> },
    /// So many bytes more may leave for it; only where there is a budget.
    Grant { key: TransferKey, bytes: u64 },
    /// Ask the app whether it wants what this attempt offers.
    Offer { key: TransferKey, attempt: u64 },
    /// Answer an offer.
    Judge { attempt: u64, judgement: Judgement },
    /// Show where it stands; after a final state it is forgotten.
    Show { key: TransferKey, state: TransferState },
    /// Tell the other side that it is over.
    Tell { key: TransferKey, reason: String },
}

/// The answer to an offer.
#[derive(Debug, PartialEq)]
pub(crate) enum Judgement {
    /// Go on with this one.
    Join(TransferKey),
    Declined(String),
    Unanswered,
    Busy,
    TooLong(u64),
    /// It was complete before.
    Done(PayloadHash),
    /// It failed before.
    Over(String),
    /// The sender offers the same on another stream.
    Superseded,
}
