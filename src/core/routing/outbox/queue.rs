//! Everything for one peer: its ways, its three lanes, and what is due for it.

use std::{collections::BTreeSet, time::Duration};

use libp2p::PeerId;

use super::{
    super::{
        bandwidth::{Bucket, Budget, TRANSFERS},
        route::Ways,
    },
    Held, LONGEST_WAIT,
    lane::{Entry, Lane, Told, Why},
};
use crate::{
    config::DeliveryConfig,
    core::{LinkId, Now, Output},
    receipt::{ENVELOPE, QueueReason, ReceiptState},
};

/// While bytes are rationed, each so manieth message is taken from the least urgent lane that has one, so that no flood
/// of urgent ones starves it.
const TURNS: u32 = 16;

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) ways: Ways,
    pub(super) lanes: [Lane; 3],
    pub(super) held: Held,
    /// Messages without a receipt.
    pub(super) unreceipted: usize,
    /// When messages end that end before the general time-out: time, lane, nonce.
    pub(super) ends: BTreeSet<(Duration, usize, u64)>,
    /// When it is looked at again, as far as the outbox's timers know.
    pub(super) armed: Option<Duration>,
    /// What last stood in the way.
    pub(super) obstacle: Option<String>,
    bucket: Bucket,
    /// No bytes are left for this lane and those less urgent until then.
    rationed: Option<(usize, Duration)>,
    turn: u32,
    /// When rationed bytes were last spent on it.
    pub(super) served_at: Duration,
}

impl Queue {
    /// Hands messages to the lanes of the best link as far as they have room. Returns how many left, by lane.
    pub(super) fn pump(
        &mut self,
        now: Now,
        peer: PeerId,
        budget: &mut Budget,
        out: &mut impl Extend<Output>,
    ) -> [u64; 3] {
        let mut left = [0; 3];
        let Some(best) = self.ways.best() else { return left };
        let ways = &self.ways;
        let handover = |link| ways.get(link).map_or(Duration::ZERO, |way| way.round_trip.handover());
        let open = std::array::from_fn(|lane| {
            let waits = self.lanes[lane].waiting() > 0;
            waits && self.lanes[lane].may_take(best, now.since_start, handover)
        });
        if budget.is_limited() {
            self.pump_rationed(now, peer, best, open, budget, &mut left, out);
        } else {
            for lane in (0..3).filter(|lane| open[*lane]) {
                while self.transmit(now, peer, best, lane, out).is_some() {
                    left[lane] += 1;
                }
            }
        }
        left
    }

    #[allow(clippy::too_many_arguments, reason = "the second half of `pump`")]
    fn pump_rationed(
        &mut self,
        now: Now,
        peer: PeerId,
        best: LinkId,
        mut open: [bool; 3],
        budget: &mut Budget,
        left: &mut [u64; 3],
        out: &mut impl Extend<Output>,
    ) {
        if let Some((lane, until)) = self.rationed.take_if(|(_, until)| now.since_start < *until) {
            // What is more urgent than what waits for bytes doesn't wait with it.
            open[lane..].fill(false);
            self.rationed = Some((lane, until));
        }
        loop {
            let turn = (self.turn + 1) % TURNS;
            let guarded = turn == 0;
            let next = if guarded { open.iter().rposition(|open| *open) } else { open.iter().position(|open| *open) };
            let Some(lane) = next else { return };
            // A lane whose turn it is may draw as deep as the most urgent.
            let ready_at = budget.ready_at(&self.bucket, if guarded { 0 } else { lane });
            if ready_at > now.since_start {
                if let Some(entry) = self.lanes[lane].next_waiting() {
                    tell(entry, Why::OverBudget, out);
                    let last = left.iter().any(|count| *count > 0);
                    // Who has just had something lets the others go first.
                    let pause = if last { budget.time_of(ENVELOPE) } else { Duration::ZERO };
                    self.rationed = Some((lane, ready_at + pause));
                    return;
                }
                open[lane] = false;
                continue;
            }
            match self.transmit(now, peer, best, lane, out) {
                Some(bytes) => {
                    budget.spend(now.since_start, &mut self.bucket, bytes);
                    self.turn = turn;
                    self.served_at = now.since_start;
                    left[lane] += 1;
                }
                None => open[lane] = false,
            }
        }
    }

    /// See [`Outbox::ration`](super::Outbox::ration).
    pub(super) fn ration(&mut self, now: Now, budget: &mut Budget, waited: Duration) -> Result<u64, Duration> {
        let in_turn = budget.ready_at(&self.bucket, TRANSFERS);
        let overdue = now.since_start + LONGEST_WAIT.saturating_sub(waited);
        let at = in_turn.min(overdue.max(budget.ready_at(&self.bucket, 0)));
        if at > now.since_start {
            return Err(at);
        }
        let bytes = budget.ration();
        budget.spend(now.since_start, &mut self.bucket, usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    /// Hands one message of a lane over. Returns its bytes; `None` when there is none that may go.
    fn transmit(
        &mut self,
        now: Now,
        peer: PeerId,
        link: LinkId,
        lane: usize,
        out: &mut impl Extend<Output>,
    ) -> Option<usize> {
        let way = self.ways.get_mut(link)?;
        if !way.lanes[lane].has_room(lane) {
            return None;
        }
        let entry = self.lanes[lane].next_waiting()?;
        let letter = entry.message.letter.clone();
        let (nonce, bytes) = (letter.nonce, letter.payload.len() + ENVELOPE);
        let left = entry.message.time_left(now.since_start);
        let news = entry.receipt && entry.told != Told::Sent(link);
        entry.told = Told::Sent(link);
        self.lanes[lane].handed_over(now.since_start, way.lanes[lane].frames());
        way.lanes[lane].message(bytes);
        out.extend([Output::Transmit { peer, link, letter, left }]);
        if news {
            out.extend([Output::Receipt { nonce, state: ReceiptState::Sent { way: way.way() } }]);
        }
        Some(bytes)
    }

    /// Tells every message that waits why.
    pub(super) fn tell_waiting(&mut self, why: Why, out: &mut impl Extend<Output>) {
        self.lanes.iter_mut().flat_map(Lane::waiting_mut).for_each(|entry| tell(entry, why, out));
    }

    /// Tells the messages that were told to wait for a connection that now they only wait for their turn.
    pub(super) fn tell_connected(&mut self, out: &mut impl Extend<Output>) {
        let waiting = self.lanes.iter_mut().flat_map(Lane::waiting_mut);
        let told = waiting.filter(|entry| matches!(entry.told, Told::Waits(Why::NotConnected | Why::Kept)));
        told.for_each(|entry| tell(entry, Why::Turn, out));
    }

    /// Puts a message that ends before the general time-out among those that do.
    pub(super) fn note_end(&mut self, lane: usize, nonce: u64, end: Duration, general: Duration) {
        if end < general {
            self.ends.insert((end, lane, nonce));
        }
    }

    /// When the queue wants to be looked at.
    pub(super) fn deadline(&self, config: &DeliveryConfig) -> Option<Duration> {
        let of_lanes = (0..3).filter_map(|lane| {
            let link = self.lanes[lane].link().and_then(|link| self.ways.get(link));
            self.lanes[lane].deadline(lane, link, config.timeout, config.acknowledge_timeout)
        });
        let end = self.ends.first().map(|(at, ..)| *at);
        let rationed = self.rationed.map(|(_, until)| until);
        of_lanes.chain(end).chain(rationed).min()
    }

    /// Does what is due for the ways: what is not acknowledged in time waits to be sent again, and patience ends. True
    /// when something may be sent now. Links that were silent meanwhile are asked whether they live.
    pub(super) fn tick(&mut self, now: Duration, longest: Duration, out: &mut impl Extend<Output>) -> bool {
        let mut due = self.rationed.take_if(|(_, until)| *until <= now).is_some();
        for (lane, messages) in self.lanes.iter_mut().enumerate() {
            let (link, since) = (messages.link().and_then(|link| self.ways.get_mut(link)), messages.progress_at());
            if let Some(link) = link
                && messages.check_overdue(now, link, lane, longest)
            {
                link.round_trip.timed_out();
                let id = link.id;
                if self.ways.overdue(id, since) {
                    out.extend([Output::Probe(id)]);
                }
                due = true;
            }
            due |= messages.check_hold(now);
        }
        due
    }

    /// Messages that have not ended.
    pub(super) fn live(&self) -> usize {
        self.lanes.iter().map(Lane::live).sum()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.ways.is_empty() && self.live() == 0
    }
}

/// Tells a message's receipt why it waits, unless it knows.
pub(super) fn tell(entry: &mut Entry, why: Why, out: &mut impl Extend<Output>) {
    let kept = entry.message.kept.as_ref().and_then(|kept| kept.at.first().copied());
    let why = if why == Why::NotConnected && kept.is_some() { Why::Kept } else { why };
    if !entry.receipt || entry.told == Told::Waits(why) {
        return;
    }
    entry.told = Told::Waits(why);
    let why = match why {
        Why::Kept => kept.map_or(QueueReason::NotConnected, |at| QueueReason::Mailbox { at }),
        Why::Turn => QueueReason::Turn,
        Why::NotConnected => QueueReason::NotConnected,
        Why::OverBudget => QueueReason::OverBudget,
    };
    out.extend([Output::Receipt { nonce: entry.nonce(), state: ReceiptState::Queued { why } }]);
}
