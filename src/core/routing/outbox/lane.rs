//! The messages of one priority to one peer, in the order in which they were accepted.
//!
//! Invariant: what is under way was handed to one link, [`Lane::link`], in order; everything before [`Lane::cursor`] is
//! under way or has ended. The front has not ended, so whatever the peer may still have to recognise lies within the
//! lane's length from there.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::super::route::LinkWay;
use crate::core::{LinkId, input::OutgoingMessage};

/// Messages from the oldest that is not acknowledged to the newest that was handed over. With 256 bytes each and a
/// million a second this allows for acknowledgements that take 8 ms. The receiver remembers twice as many, so that it
/// knows again whatever is sent again.
pub(in crate::core::routing) const UNACKNOWLEDGED: usize = 8192;

/// How often a message may be under way when its lane or link breaks; one that breaks every lane it is put on is given
/// up.
const MAX_BREAKS: u8 = 20;

/// An empty lane gives back the memory of more messages than this.
const KEPT_CAPACITY: usize = 64;

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    UnderWay,
    /// Its place is kept until all before it have ended too, if it was sent.
    Ended,
}

/// What its receipt says, as far as it is not final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Waits(Why),
    /// By this link.
    Sent(LinkId),
}

/// Why it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// That is where receipts begin.
    Turn,
    NotConnected,
    OverBudget,
    /// For its recipient, at a mailbox.
    Kept,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: OutgoingMessage,
    /// Whether somebody waits for what becomes of it.
    pub(super) receipt: bool,
    pub(super) told: Told,
    stage: Stage,
    /// Whether it was ever handed over.
    pub(super) sent: bool,
    breaks: u8,
}

/// The one message whose acknowledgement is being timed (RFC 6298, 3: one in a round trip is enough).
#[derive(Debug)]
struct Timing {
    nonce: u64,
    /// Frames that are written before it.
    ahead: usize,
    written_at: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    /// By nonce.
    entries: VecDeque<Entry>,
    /// The first that may wait.
    cursor: usize,
    /// What has not ended.
    live: usize,
    under_way: usize,
    /// What has ended without having been sent, and still takes a place.
    ended_unsent: usize,
    /// The link that has what is under way.
    link: Option<LinkId>,
    /// Until when acknowledgements of the old link are awaited though a better one stands.
    hold_until: Option<Duration>,
    /// The highest nonce that was acknowledged.
    acknowledged: u64,
    /// Since when the oldest that is under way could have been acknowledged.
    progress_at: Duration,
    timing: Option<Timing>,
}

impl Entry {
    pub(super) fn new(message: OutgoingMessage, receipt: bool) -> Self {
        Self { message, receipt, told: Told::Waits(Why::Turn), stage: Stage::Waiting, sent: false, breaks: 0 }
    }

    pub(super) fn nonce(&self) -> u64 {
        self.message.letter.nonce
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }
}

/// Messages in and out.
impl Lane {
    /// Takes a message on, in its place by nonce: two threads may have drawn theirs in one order and handed them over in
    /// the other.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.live += 1;
        let nonce = entry.nonce();
        if self.entries.back().is_none_or(|last| last.nonce() < nonce) {
            self.entries.push_back(entry);
            return;
        }
        let at = self.entries.partition_point(|known| known.nonce() < nonce);
        self.entries.insert(at, entry);
        self.cursor = self.cursor.min(at);
    }

    /// Takes a message out, unless it is none of these or has ended.
    pub(super) fn end(&mut self, at: usize) -> Option<OutgoingMessage> {
        let entry = self.entries.get_mut(at)?;
        match entry.stage {
            Stage::Ended => return None,
            Stage::UnderWay => self.under_way -= 1,
            Stage::Waiting => self.ended_unsent += usize::from(!entry.sent),
        }
        entry.stage = Stage::Ended;
        self.live -= 1;
        let letter = crate::frame::Letter { payload: Bytes::new(), ..entry.message.letter.clone() };
        let OutgoingMessage { accepted_at, slept, .. } = entry.message;
        let place = OutgoingMessage { letter, accepted_at, slept, signed: None, kept: None };
        Some(std::mem::replace(&mut entry.message, place))
    }

    /// Gives up the places of what has ended, as far as nobody needs them. After each run of [`end`](Self::end).
    pub(super) fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.stage == Stage::Ended) {
            if let Some(entry) = self.entries.pop_front() {
                self.ended_unsent -= usize::from(!entry.sent);
                self.cursor = self.cursor.saturating_sub(1);
            }
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT_CAPACITY {
            self.entries = VecDeque::new();
        }
        if self.ended_unsent > KEPT_CAPACITY && self.ended_unsent > self.entries.len() / 2 {
            self.entries.retain(|entry| entry.sent || entry.stage != Stage::Ended);
            self.ended_unsent = 0;
            self.cursor = self.entries.iter().position(Entry::is_waiting).unwrap_or(self.entries.len());
        }
    }

    /// The first at or above a nonce.
    pub(super) fn first_from(&self, nonce: u64) -> usize {
        match (self.entries.front(), self.entries.back()) {
            (Some(front), Some(_)) if nonce <= front.nonce() => 0,
            (Some(_), Some(back)) if nonce > back.nonce() => self.entries.len(),
            _ => self.entries.partition_point(|entry| entry.nonce() < nonce),
        }
    }

    pub(super) fn position(&self, nonce: u64) -> Option<usize> {
        let at = self.first_from(nonce);
        self.entries.get(at).filter(|entry| entry.nonce() == nonce).map(|_| at)
    }
}

/// On its way.
impl Lane {
    /// Whether messages may go by this link now. Changes over to it when nothing is under way by another, or what is has
    /// had its time: then it is sent again, in order, before anything new.
    pub(super) fn may_take(&mut self, best: LinkId, now: Duration, handover: impl FnOnce(LinkId) -> Duration) -> bool {
        match self.link {
            Some(link) if link != best && self.under_way > 0 => {
                let until = *self.hold_until.get_or_insert_with(|| now + handover(link));
                if now < until {
                    return false;
                }
                self.take_back();
            }
            _ => {}
        }
        self.link = Some(best);
        self.hold_until = None;
        true
    }

    /// The next that waits, if the window lets it go.
    pub(super) fn next_waiting(&mut self) -> Option<&mut Entry> {
        while self.entries.get(self.cursor).is_some_and(|entry| !entry.is_waiting()) {
            self.cursor += 1;
        }
        self.entries.get_mut(self.cursor).filter(|_| self.cursor < UNACKNOWLEDGED)
    }

    /// The one at the cursor was handed to the lane's link, behind so many other frames.
    pub(super) fn handed_over(&mut self, now: Duration, ahead: usize) {
        let Some(entry) = self.entries.get_mut(self.cursor) else { return };
        if self.under_way == 0 {
            self.progress_at = now;
        }
        entry.stage = Stage::UnderWay;
        if !entry.sent && self.timing.is_none() {
            self.timing = Some(Timing { nonce: entry.nonce(), ahead, written_at: None });
        }
        entry.sent = true;
        self.under_way += 1;
        self.cursor += 1;
    }

    /// So many frames of this lane were written to its link, where `unwritten` messages had waited until then.
    pub(super) fn written(&mut self, now: Duration, count: usize, unwritten: usize) {
        if self.under_way <= unwritten {
            self.progress_at = now;
        }
        if let Some(Timing { ahead, written_at: written_at @ None, .. }) = &mut self.timing {
            match ahead.checked_sub(count) {
                Some(left) => *ahead = left,
                None => *written_at = Some(now),
            }
        }
    }

    /// A message is being acknowledged. Returns how long that took, if it is the one that is timed.
    pub(super) fn acknowledged(&mut self, now: Duration, at: usize) -> Option<Duration> {
        let nonce = self.entries.get(at)?.nonce();
        self.acknowledged = self.acknowledged.max(nonce);
        if at == 0 {
            self.progress_at = now;
        }
        let timing = self.timing.take_if(|timing| timing.nonce == nonce)?;
        timing.written_at.map(|at| now.saturating_sub(at))
    }

    /// What is under way waits again, to be sent in the same order.
    pub(super) fn take_back(&mut self) {
        self.timing = None;
        self.hold_until = None;
        self.link = None;
        if self.under_way == 0 {
            return;
        }
        for (at, entry) in self.entries.iter_mut().enumerate().filter(|(_, entry)| entry.stage == Stage::UnderWay) {
            entry.stage = Stage::Waiting;
            self.cursor = self.cursor.min(at);
        }
        self.under_way = 0;
    }

    /// As [`take_back`](Self::take_back), because the lane or the link broke. Returns the nonces of those that have seen
    /// that too often.
    pub(super) fn broke(&mut self) -> Vec<u64> {
        let mut given_up = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.stage == Stage::UnderWay) {
            entry.breaks += 1;
            if entry.breaks >= MAX_BREAKS {
                given_up.push(entry.nonce());
            }
        }
        self.take_back();
        given_up
    }

    /// Looks whether acknowledgements are overdue; if so, what they are missing for waits to be sent again. True then.
    pub(super) fn check_overdue(&mut self, now: Duration, link: &LinkWay, lane: usize, longest: Duration) -> bool {
        if self.overdue_at(link, lane, longest).is_none_or(|at| at > now) {
            return false;
        }
        let has_hole = self.has_hole();
        self.timing = None;
        self.progress_at = now;
        for (at, entry) in self.entries.iter_mut().enumerate() {
            if has_hole && entry.nonce() > self.acknowledged {
                break;
            }
            if entry.stage == Stage::UnderWay {
                entry.stage = Stage::Waiting;
                self.under_way -= 1;
                self.cursor = self.cursor.min(at);
            }
        }
        true
    }

    /// Whether a later message has been acknowledged than the oldest that has not.
    fn has_hole(&self) -> bool {
        self.front().is_some_and(|front| front.stage == Stage::UnderWay && front.nonce() < self.acknowledged)
    }

    /// When acknowledgements are overdue. What could not be written yet is only slow, and sending again would make it
    /// slower; unless the peer has acknowledged what came after.
    fn overdue_at(&self, link: &LinkWay, lane: usize, longest: Duration) -> Option<Duration> {
        let awaited = self.under_way > 0 && (link.lanes[lane].messages() == 0 || self.has_hole());
        awaited.then(|| self.progress_at + link.round_trip.time_out(longest))
    }

    /// Whether the time of the old link is over: what it has not acknowledged waits to be sent again.
    pub(super) fn check_hold(&mut self, now: Duration) -> bool {
        let over = self.hold_until.is_some_and(|until| until <= now);
        if over {
            self.take_back();
        }
        over
    }

    /// When the lane wants to be looked at: its oldest message's end, a time-out, the end of its patience with an old
    /// link.
    pub(super) fn deadline(
        &self,
        lane: usize,
        link: Option<&LinkWay>,
        timeout: Duration,
        longest: Duration,
    ) -> Option<Duration> {
        // What a mailbox keeps ends at a time of its own.
        let mut general = self.iter().filter(|entry| entry.message.kept.is_none());
        let end = general.next().map(|entry| entry.message.accepted_at + timeout);
        let overdue = link.and_then(|link| self.overdue_at(link, lane, longest));
        [end, overdue, self.hold_until].into_iter().flatten().min()
    }
}

/// Getters.
impl Lane {
    pub(super) fn link(&self) -> Option<LinkId> {
        self.link
    }

    /// Since when the oldest that is under way could have been acknowledged.
    pub(super) fn progress_at(&self) -> Duration {
        self.progress_at
    }

    /// Messages that have not ended.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Messages that are not under way.
    pub(super) fn waiting(&self) -> usize {
        self.live - self.under_way
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Entry> {
        self.entries.get(at)
    }

    /// One that has not ended.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Entry> {
        self.entries.get_mut(at).filter(|entry| entry.stage != Stage::Ended)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Everything from a place on that has not ended, in order.
    pub(super) fn iter_from(&self, at: usize) -> impl Iterator<Item = &Entry> {
        self.entries.range(at.min(self.entries.len())..).filter(|entry| entry.stage != Stage::Ended)
    }

    /// Everything that has not ended, in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.stage != Stage::Ended)
    }

    /// Everything that waits, in order.
    pub(super) fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().skip(self.cursor).filter(|entry| entry.is_waiting())
    }

    /// Everything that has not ended, in order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().filter(|entry| entry.stage != Stage::Ended)
    }
}
