//! The receiver's side of one attempt, without IO: which chunks it takes, and when it says so.

use std::time::Duration;

use super::{
    Patience,
    frame::{Frame, StopReason},
    sender::{senseless, stopped},
    tree::Tree,
};
use crate::{
    error::TransferError,
    event::RejectReason,
    frame::Rejection,
    transfer::{Outcome, PayloadHash, TransferKey},
};

/// Written bytes after which an acknowledgement is due even while more comes in. Fewer would cost the sender a wake-up
/// each; more would leave it waiting for room in its window.
const ACKNOWLEDGE_AFTER: u64 = 128 * 1024;

/// A chunk that is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) length: u64,
    hash: [u8; 32],
    last: bool,
}

/// What may come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// What the offer promised.
    pub(crate) length: Option<u64>,
    pub(crate) hash: Option<PayloadHash>,
    /// Of this node's configuration.
    pub(crate) max_length: u64,
    pub(crate) max_chunk: u64,
}

pub(crate) struct Receiver {
    key: TransferKey,
    allowed: Allowed,
    patience: Patience,
    /// What was last acknowledged.
    acknowledged: u64,
    /// When the sender last said anything, and when anything last moved.
    heard: Duration,
    moved: Duration,
}

impl Receiver {
    pub(crate) fn new(key: TransferKey, allowed: Allowed, patience: Patience, tree: &Tree, now: Duration) -> Self {
        Self { key, allowed, patience, acknowledged: tree.length(), heard: now, moved: now }
    }

    /// The yes, and from where on.
    pub(crate) fn accept(&self, tree: &Tree) -> Frame {
        let max_chunk = self.allowed.max_chunk;
        Frame::Accept { offset: tree.length(), prefix: tree.digest(), max_chunk }
    }

    /// What the sender said: a chunk that follows, or how the attempt ends, or neither.
    ///
    /// # Errors
    /// When it makes no sense, or a chunk is not the one that must come.
    pub(crate) fn heard(
        &mut self,
        now: Duration,
        frame: Frame,
        tree: &Tree,
    ) -> Result<Result<Option<Announced>, Outcome>, Rejection> {
        self.heard = now;
        match frame {
            Frame::Alive => Ok(Ok(None)),
            Frame::Stop { reason, detail, .. } => Ok(Err(stopped(self.key, reason, detail, tree.length()))),
            Frame::Chunk { offset, length, hash, last } => {
                let Allowed { length: promised, max_length, max_chunk, .. } = self.allowed;
                if offset != tree.length() || length > max_chunk || !tree.fits(length, last) {
                    let wanted = tree.length();
                    return Err(senseless(format!("a chunk of {length} bytes at {offset}, where {wanted} is next")));
                }
                let end = offset + length;
                if end > max_length {
                    return Ok(Err(Outcome::Failed(TransferError::TooLong { limit: max_length })));
                }
                if promised.is_some_and(|promised| end > promised || (end == promised) != last) {
                    let promised = promised.unwrap_or_default();
                    return Ok(Err(Outcome::Failed(TransferError::WrongLength { promised })));
                }
                Ok(Ok(Some(Announced { length, hash, last })))
            }
            frame => Err(senseless(format!("the sender says {frame:?}"))),
        }
    }

    /// The sender's bytes come.
    pub(crate) fn bytes(&mut self, now: Duration) {
        self.heard = now;
    }

    /// Checks a chunk that has come as a whole and adds it to the tree.
    ///
    /// # Errors
    /// When it isn't what was announced, or not what the offer promised.
    pub(crate) fn verify(&self, chunk: &[u8], announced: Announced, tree: &mut Tree) -> Result<(), Outcome> {
        let Announced { length, hash, last } = announced;
        if chunk.len() as u64 != length || tree.hash(chunk, last) != hash {
            return Err(Outcome::Corrupt { offset: tree.length() });
        }
        let before = tree.clone();
        tree.push(length, hash, last);
        if let (Some(promised), Some(found)) = (self.allowed.hash, tree.whole())
            && promised != found
        {
            *tree = before;
            return Err(Outcome::Failed(TransferError::WrongHash));
        }
        Ok(())
    }

    /// Something was written.
    pub(crate) fn wrote(&mut self, now: Duration) {
        self.moved = now;
    }

    /// The writer has taken everything up to `offset`. `waiting`: nothing more has come yet, so the sender may be
    /// waiting for this.
    pub(crate) fn acknowledge(&mut self, offset: u64, waiting: bool) -> Option<Frame> {
        let new = offset - self.acknowledged;
        if new == 0 || (new < ACKNOWLEDGE_AFTER && !waiting) {
            return None;
        }
        self.acknowledged = offset;
        Some(Frame::Ack { offset })
    }

    /// The end, when too long has been waited. `reading`: it is the sender who is waited for, not the writer.
    pub(crate) fn overdue(&mut self, now: Duration, reading: bool) -> Option<Outcome> {
        if !reading {
            self.heard = now;
        }
        let silent = now.saturating_sub(self.heard);
        if silent > self.patience.idle {
            return Some(Outcome::Broken(format!("the sender has said nothing for {silent:.0?}")));
        }
        let waited = now.saturating_sub(self.moved);
        (waited > self.patience.stall).then_some(Outcome::Failed(TransferError::Stalled { waited }))
    }
}

/// How the other side is told of the end, if it isn't the one who said so.
pub(crate) fn farewell(outcome: &Outcome) -> Option<Frame> {
    let (reason, detail) = match outcome {
        Outcome::Corrupt { offset } => (StopReason::Corrupt, format!("from byte {offset} on")),
        Outcome::Failed(error) => {
            let reason = match error {
                TransferError::PeerFailed { .. }
                | TransferError::CancelledByPeer { .. }
                | TransferError::Refused { .. }
                | TransferError::PeerBusy { .. } => return None,
                TransferError::SourceChanged { .. } => StopReason::SourceChanged,
                TransferError::WrongHash => StopReason::WrongHash,
                _ => StopReason::Failed,
            };
            (reason, error.to_string())
        }
        Outcome::Finished(_) | Outcome::Broken(_) | Outcome::Unsupported | Outcome::Revoked | Outcome::Spent => {
            return None;
        }
    };
    Some(Frame::stop(reason, detail))
}

/// What a chunk that doesn't fit its hash counts as.
pub(crate) fn corrupt(offset: u64) -> Rejection {
    Rejection::new(RejectReason::CorruptChunk, format!("the chunk at byte {offset} doesn't fit its hash"))
}
