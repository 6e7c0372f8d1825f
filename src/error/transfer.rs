//! What can go wrong with a transfer.

use std::time::Duration;

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

/// Why a transfer was not begun, or will never be complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum TransferError {
    /// The offer can't be put into words.
    #[error("the offer can't be sent: {reason}")]
    InvalidOffer {
        /// What is wrong with it.
        reason: String,
    },
    /// A node doesn't send to itself.
    #[error("the recipient {peer} is this node itself; use another node's peer id")]
    ToSelf {
        /// This node.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
    },
    /// As many transfers wait for their turn as may.
    #[error("{limit} transfers wait already; wait for one to end, or raise transfers.max_waiting")]
    TooMany {
        /// The limit that was reached.
        limit: usize,
    },
    /// The handler is shutting down or has stopped, and with it the transfer.
    #[error("the network was shut down before the transfer was complete; create a new handler")]
    ShutDown,
    /// Too many commands wait for the network task.
    #[error("the network is too busy to take another command; try again in a moment")]
    Busy,
    /// The receiving app said no.
    #[error("{peer} doesn't want it: {reason}")]
    Refused {
        /// The receiver.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// Its reason.
        reason: String,
    },
    /// The receiver has as many transfers as it takes.
    #[error("{peer} has too many transfers at the moment; try again later")]
    PeerBusy {
        /// The receiver.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
    },
    /// Nobody said yes or no in time.
    #[error("the offer was not answered within {waited:?}")]
    Unanswered {
        /// How long was waited, milliseconds.
        #[serde(with = "crate::config::millis")]
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        waited: Duration,
    },
    /// No way to the peer was found in time, or none on which to go on.
    #[error("{peer} could not be reached within {waited:?}: {reason}")]
    Unreachable {
        /// The other side.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// How long it was tried, milliseconds.
        #[serde(with = "crate::config::millis")]
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        waited: Duration,
        /// The last obstacle.
        reason: String,
    },
    /// Only circuits through relays led to the peer, and they may not carry so much: a relay ends a circuit that does,
    /// and with it the messages that need it.
    #[error(
        "{peer} was reached only through a relay that carries {limit} bytes on a circuit, too few for this transfer, \
         and no direct connection came within {waited:?}; connect directly, or raise relay.circuit_bytes on the relay"
    )]
    RelayLimited {
        /// The other side.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// What the circuit may carry, bytes; transfers may use a part of it.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        limit: u64,
        /// How long a direct connection was waited for, milliseconds.
        #[serde(with = "crate::config::millis")]
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        waited: Duration,
    },
    /// The other side is there, and nothing has moved for too long.
    #[error("nothing has moved for {waited:?}; the reader, the writer or the peer stands still")]
    Stalled {
        /// How long was waited, milliseconds.
        #[serde(with = "crate::config::millis")]
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        waited: Duration,
    },
    /// The peer doesn't speak `/cpc/1.0.0/transfer`.
    #[error("{peer} doesn't take transfers: it doesn't speak /cpc/1.0.0/transfer")]
    Unsupported {
        /// The receiver.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
    },
    /// This side gave it up.
    #[error("the transfer was cancelled here")]
    Cancelled,
    /// The other side gave it up.
    #[error("{peer} cancelled the transfer: {reason}")]
    CancelledByPeer {
        /// The other side.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// Its reason.
        reason: String,
    },
    /// It is longer than the receiver takes.
    #[error("it is longer than the limit of {limit} bytes; raise transfers.max_length on the receiver")]
    TooLong {
        /// The receiver's limit in bytes.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        limit: u64,
    },
    /// The source is not as long as the offer said.
    #[error(
        "the source is not as long as was promised ({promised} bytes); it changed while it was read, or the offer was wrong"
    )]
    WrongLength {
        /// What the offer said, bytes.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        promised: u64,
    },
    /// The payload is another one than the offer's hash promised.
    #[error("the payload's hash is not the one that was promised")]
    WrongHash,
    /// What the receiver already has is not what the source begins with.
    #[error(
        "the first {offset} bytes, which the receiver has, are not those of the source; begin again from the start"
    )]
    SourceChanged {
        /// Where it should have gone on.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        offset: u64,
    },
    /// Chunks that don't fit their hashes came again and again.
    #[error("what came from byte {offset} on was damaged, again and again")]
    Corrupt {
        /// The first byte that could not be verified.
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        offset: u64,
    },
    /// The source can't be read, or a cut transfer can't be read again from where it must go on.
    #[error("the source can't be read: {reason}")]
    Source {
        /// What it said.
        reason: String,
    },
    /// The writer can't be written to.
    #[error("the writer failed: {reason}")]
    Writer {
        /// What it said.
        reason: String,
    },
    /// The other side's source or writer failed.
    #[error("{peer} gave the transfer up: {reason}")]
    PeerFailed {
        /// The other side.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// Its reason.
        reason: String,
    },
    /// The offer can't be answered any more: it was answered before, it waited too long, or the sender gave it up.
    #[error("the offer is gone: it was answered before, waited too long, or its sender gave it up")]
    Gone,
}

impl TransferError {
    /// A stable name for this error.
    pub fn code(&self) -> &'static str {
        match self {
            TransferError::InvalidOffer { .. } => "invalid_offer",
            TransferError::ToSelf { .. } => "to_self",
            TransferError::TooMany { .. } => "too_many",
            TransferError::ShutDown => "shut_down",
            TransferError::Busy => "busy",
            TransferError::Refused { .. } => "refused",
            TransferError::PeerBusy { .. } => "peer_busy",
            TransferError::Unanswered { .. } => "unanswered",
            TransferError::Unreachable { .. } => "unreachable",
            TransferError::RelayLimited { .. } => "relay_limited",
            TransferError::Stalled { .. } => "stalled",
            TransferError::Unsupported { .. } => "unsupported",
            TransferError::Cancelled => "cancelled",
            TransferError::CancelledByPeer { .. } => "cancelled_by_peer",
            TransferError::TooLong { .. } => "too_long",
            TransferError::WrongLength { .. } => "wrong_length",
            TransferError::WrongHash => "wrong_hash",
            TransferError::SourceChanged { .. } => "source_changed",
            TransferError::Corrupt { .. } => "corrupt",
            TransferError::Source { .. } => "source",
            TransferError::Writer { .. } => "writer",
            TransferError::PeerFailed { .. } => "peer_failed",
            TransferError::Gone => "gone",
        }
    }

    /// Whether the same transfer may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            TransferError::TooMany { .. }
                | TransferError::Busy
                | TransferError::PeerBusy { .. }
                | TransferError::Unanswered { .. }
                | TransferError::Unreachable { .. }
                | TransferError::RelayLimited { .. }
                | TransferError::Stalled { .. }
                | TransferError::Corrupt { .. }
        )
    }
}
