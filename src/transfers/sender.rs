//! The sender's side of one attempt, without IO: what it wants to read and say next, and what the receiver's words mean.

use std::{collections::VecDeque, time::Duration};

use super::{
    Patience,
    frame::{Frame, RefuseReason, StopReason},
    tree::{Tree, UNIT},
    window::Window,
};
use crate::{
    error::TransferError,
    event::RejectReason,
    frame::Rejection,
    transfer::{Outcome, PayloadHash, TransferKey},
};

/// How far the sending has come; outlives attempts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What the receiver has verified and written.
    acknowledged: Tree,
    /// What left after that, by length and hash, so that a cut needs nothing to be hashed again. Bounded by the window.
    under_way: VecDeque<(u64, [u8; 32], bool)>,
    /// How much of the source has been read only to be compared with what the receiver claims to have.
    compared: Tree,
}

impl Ledger {
    /// What is known of the beginning up to `offset`, or as far as it is known.
    fn beginning(&self, offset: u64) -> Tree {
        let within = [&self.compared, &self.acknowledged].into_iter().filter(|tree| tree.length() <= offset);
        let Some(known) = within.max_by_key(|tree| tree.length()) else { return Tree::default() };
        let mut tree = known.clone();
        if tree.length() != self.acknowledged.length() {
            return tree;
        }
        for (length, hash, last) in &self.under_way {
            if *last || tree.length() + length > offset {
                break;
            }
            tree.push(*length, *hash, false);
        }
        tree
    }
}

/// What the sender wants of its source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Nothing until the receiver says something.
    Nothing,
    /// Go to this place.
    Seek(u64),
    /// The next so many bytes, for [`Sender::hashed`]: what the receiver has already is only compared.
    Compare(u64),
    /// The next so many bytes, for [`Sender::chunk`].
    Chunk(u64),
}

#[derive(Debug)]
enum Phase {
    /// The receiver's app is asked.
    Offered,
    /// The receiver has the beginning up to `until`, with this digest; ours is looked at.
    Comparing {
        until: u64,
        prefix: [u8; 32],
    },
    Running,
}

pub(crate) struct Sender {
    key: TransferKey,
    length: Option<u64>,
    hash: Option<PayloadHash>,
    patience: Patience,
    phase: Phase,
    /// The payload up to where it will be read next.
    ahead: Tree,
    /// The source stands elsewhere.
    seek: bool,
    window_limit: u64,
    window: Window,
    max_chunk: u64,
    began: Duration,
    /// When the receiver last said anything, and when it last took anything.
    heard: Duration,
    moved: Duration,
}

impl Sender {
    pub(crate) fn new(
        key: TransferKey,
        (length, hash): (Option<u64>, Option<PayloadHash>),
        (max_chunk, window_limit): (u64, u64),
        patience: Patience,
        now: Duration,
    ) -> Self {
        Self {
            key,
            length,
            hash,
            patience,
            phase: Phase::Offered,
            ahead: Tree::default(),
            seek: true,
            window_limit,
            window: Window::new(window_limit, 0),
            max_chunk,
            began: now,
            heard: now,
            moved: now,
        }
    }

    /// Whether the receiver has said yes.
    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Offered)
    }

    /// What the receiver said. The answer is how the attempt ends, if it does.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(crate) fn heard(
        &mut self,
        now: Duration,
        frame: Frame,
        ledger: &mut Ledger,
    ) -> Result<Option<Outcome>, Rejection> {
        self.heard = now;
        match (frame, &self.phase) {
            (Frame::Alive, _) => Ok(None),
            (Frame::Refuse { reason, detail }, Phase::Offered) => Ok(Some(self.refused(reason, detail))),
            (Frame::Stop { reason, detail, .. }, _) => Ok(Some(stopped(self.key, reason, detail, self.ahead.length()))),
            (Frame::Accept { offset, prefix, max_chunk }, Phase::Offered) => {
                let beyond = self.length.is_some_and(|length| offset > length);
                if !offset.is_multiple_of(UNIT) || beyond || max_chunk < UNIT {
                    return Err(senseless(format!("it wants to go on at {offset} with chunks of {max_chunk}")));
                }
                self.max_chunk = self.max_chunk.min(max_chunk);
                self.ahead = ledger.beginning(offset);
                self.phase = Phase::Comparing { until: offset, prefix };
                self.moved = now;
                Ok(self.compare(ledger))
            }
            (Frame::Ack { offset }, Phase::Running) => {
                if offset > self.ahead.length() {
                    return Err(senseless(format!("it acknowledges {offset}, which was not sent")));
                }
                while let Some((length, hash, last)) = ledger.under_way.front().copied()
                    && ledger.acknowledged.length() + length <= offset
                {
                    ledger.acknowledged.push(length, hash, last);
                    ledger.under_way.pop_front();
                    self.moved = now;
                }
                self.window.acknowledged(now, offset);
                Ok(None)
            }
            (Frame::Done { hash }, _) => {
                // It may have been done before the last attempt broke; then its word is all there is, as with every end.
                let ours = self.ahead.whole();
                if ours.is_some_and(|ours| ours != hash) || self.hash.is_some_and(|promised| promised != hash) {
                    return Ok(Some(Outcome::Failed(TransferError::WrongHash)));
                }
                if ours.is_none() && matches!(self.phase, Phase::Running) {
                    return Err(senseless("it is done before everything was sent".to_owned()));
                }
                for (length, hash, last) in std::mem::take(&mut ledger.under_way) {
                    ledger.acknowledged.push(length, hash, last);
                }
                Ok(Some(Outcome::Finished(hash)))
            }
            (frame, phase) => Err(senseless(format!("{frame:?} in the phase {phase:?}"))),
        }
    }

    /// What it wants of its source now.
    pub(crate) fn want(&mut self) -> Want {
        match &self.phase {
            Phase::Offered => Want::Nothing,
            _ if self.seek => Want::Seek(self.ahead.length()),
            Phase::Comparing { until, .. } => Want::Compare(self.ahead.longest(*until - self.ahead.length())),
            Phase::Running if self.ahead.whole().is_some() => Want::Nothing,
            Phase::Running => match self.window.room() {
                None => Want::Nothing,
                Some(room) => {
                    let most = self.ahead.longest(room.min(self.max_chunk));
                    let left = self.length.map_or(u64::MAX, |length| length - self.ahead.length());
                    Want::Chunk(most.min(left))
                }
            },
        }
    }

    /// The source stands where [`Want::Seek`] wanted it.
    pub(crate) fn sought(&mut self) {
        self.seek = false;
    }

    /// What [`Want::Compare`] wanted.
    pub(crate) fn hashed(&mut self, bytes: &[u8], ledger: &mut Ledger) -> Option<Outcome> {
        let length = bytes.len() as u64;
        if !self.ahead.fits(length, false) {
            // The source is shorter than what the receiver has of it.
            return Some(Outcome::Failed(TransferError::SourceChanged { offset: self.ahead.length() }));
        }
        let hash = self.ahead.hash(bytes, false);
        self.ahead.push(length, hash, false);
        ledger.compared = self.ahead.clone();
        self.compare(ledger)
    }

    /// Up to where the source is not asked for again, whatever follows but that the receiver loses what it has.
    pub(crate) fn passed(ledger: &Ledger) -> u64 {
        ledger.acknowledged.length().max(ledger.compared.length())
    }

    /// When all of the receiver's beginning is hashed: is it ours?
    fn compare(&mut self, ledger: &mut Ledger) -> Option<Outcome> {
        let Phase::Comparing { until, prefix } = &self.phase else { return None };
        if self.ahead.length() < *until {
            return None;
        }
        if *until > 0 && self.ahead.digest() != *prefix {
            return Some(Outcome::Failed(TransferError::SourceChanged { offset: *until }));
        }
        self.window = Window::new(self.window_limit, *until);
        self.phase = Phase::Running;
        self.seek = true;
        *ledger = Ledger { acknowledged: self.ahead.clone(), ..Ledger::default() };
        None
    }

    /// Whether the chunk that ends here needs to be known as the last one.
    pub(crate) fn may_be_last(&self, chunk: u64) -> bool {
        self.length.is_none_or(|length| self.ahead.length() + chunk >= length)
    }

    /// The chunk that [`Want::Chunk`] wanted; `asked` bytes were. `last`: nothing follows in the source, which has been
    /// asked where [`may_be_last`](Self::may_be_last).
    ///
    /// # Errors
    /// When the source is not as long as was promised.
    pub(crate) fn chunk(
        &mut self,
        now: Duration,
        (bytes, asked): (&[u8], u64),
        last: bool,
        ledger: &mut Ledger,
    ) -> Result<Frame, TransferError> {
        let (offset, length) = (self.ahead.length(), bytes.len() as u64);
        if let Some(promised) = self.length {
            let complete = offset + length == promised;
            if length < asked || complete != last {
                return Err(TransferError::WrongLength { promised });
            }
        }
        let hash = self.ahead.hash(bytes, last);
        self.ahead.push(length, hash, last);
        if let (Some(promised), Some(found)) = (self.hash, self.ahead.whole())
            && promised != found
        {
            return Err(TransferError::WrongHash);
        }
        ledger.under_way.push_back((length, hash, last));
        self.window.sent(now, self.ahead.length());
        Ok(Frame::Chunk { offset, length, hash, last })
    }

    /// How far the receiver has come.
    pub(crate) fn transferred(ledger: &Ledger) -> u64 {
        ledger.acknowledged.length()
    }

    /// The end, when too long has been waited.
    pub(crate) fn overdue(&self, now: Duration) -> Option<Outcome> {
        let silent = now.saturating_sub(self.heard);
        if silent > self.patience.idle {
            return Some(Outcome::Broken(format!("the receiver has said nothing for {silent:.0?}")));
        }
        if !self.is_running() {
            let waited = now.saturating_sub(self.began);
            return (waited > self.patience.offer).then_some(Outcome::Failed(TransferError::Unanswered { waited }));
        }
        let waited = now.saturating_sub(self.moved);
        (waited > self.patience.stall).then_some(Outcome::Failed(TransferError::Stalled { waited }))
    }

    fn refused(&self, reason: RefuseReason, detail: String) -> Outcome {
        let peer = self.key.peer;
        Outcome::Failed(match reason {
            RefuseReason::Declined => TransferError::Refused { peer, reason: detail },
            RefuseReason::Busy => TransferError::PeerBusy { peer },
            RefuseReason::TooLong => TransferError::TooLong { limit: detail.parse().unwrap_or_default() },
            RefuseReason::Unanswered => TransferError::Unanswered { waited: self.heard.saturating_sub(self.began) },
        })
    }
}

/// What the other side's giving up means here.
pub(crate) fn stopped(key: TransferKey, reason: StopReason, detail: String, offset: u64) -> Outcome {
    let peer = key.peer;
    match reason {
        StopReason::Cancelled => Outcome::Failed(TransferError::CancelledByPeer { peer, reason: detail }),
        StopReason::Corrupt => Outcome::Corrupt { offset },
        StopReason::SourceChanged => Outcome::Failed(TransferError::SourceChanged { offset }),
        StopReason::Failed => Outcome::Failed(TransferError::PeerFailed { peer, reason: detail }),
        StopReason::WrongHash => Outcome::Failed(TransferError::WrongHash),
    }
}

pub(crate) fn senseless(detail: String) -> Rejection {
    Rejection::new(RejectReason::Malformed, format!("in a transfer: {detail}"))
}
