//! Lanes of neighbours that were refused a message because the inbox is full, and the order in which they go on.
//!
//! A refused message is not acknowledged, so its sender brings it again: it goes back to the first message that has not
//! ended and sends all from there on, in order. Until it has gone back, whatever comes by the lane comes after what was
//! refused, and is refused too, though there may be room by then. That the sender has gone back shows by itself: a nonce
//! comes that is not above the last one refused. What ended meanwhile with the sender (its time was over) is never waited
//! for, since going back is all that is waited for.
//!
//! Who was refused is in a queue. A place in the inbox is kept for each who came before, so that a flood can't take every
//! place that becomes free, however often it tries.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    core::{LinkId, Now},
    message::Priority,
};

/// For how long a place is kept for who was refused: as long as most senders wait at most before they come again.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// Places in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many more messages can be taken.
    pub(crate) free: usize,
    /// How many there are at most.
    pub(crate) limit: usize,
}

impl Room {
    /// Where nothing is kept for the app, nothing can be full.
    pub(crate) const NOTHING_KEPT: Self = Self { free: usize::MAX, limit: usize::MAX };
}

/// A lane that was refused a message and has not gone back yet.
#[derive(Debug)]
struct Waiting {
    /// The last nonce refused.
    last: u64,
    /// Its place in the queue, kept as long as it is refused again.
    turn: u64,
    at: Duration,
}

/// One lane of one connection.
type Lane = (LinkId, Priority);

/// Lanes that were refused a message: at most as many as there are.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    lanes: BTreeMap<Lane, Waiting>,
    next_turn: u64,
}

impl TurnedAway {
    /// Whether a message may be taken that was never taken before. `lane`: by which it came, if it comes again when it
    /// is refused.
    pub(super) fn lets_in(&mut self, now: Now, lane: Option<Lane>, nonce: u64, room: Room) -> bool {
        if self.lanes.is_empty() && room.free > 0 {
            return true;
        }
        let Some(lane) = lane else { return self.is_free_for(now, u64::MAX, room) };
        let (comes_after, turn) = match self.lanes.get(&lane) {
            Some(waiting) => (nonce > waiting.last, waiting.turn),
            None => (false, self.next_turn),
        };
        if !comes_after && self.is_free_for(now, turn, room) {
            self.lanes.remove(&lane);
            return true;
        }
        self.next_turn = self.next_turn.max(turn + 1);
        self.lanes.insert(lane, Waiting { last: nonce, turn, at: now.since_start });
        false
    }

    pub(super) fn link_closed(&mut self, link: LinkId) {
        self.lanes.retain(|(known, _), _| *known != link);
    }

    /// Whether a place is left besides those that are kept for who came before. Half of all places at most are kept.
    fn is_free_for(&self, now: Now, turn: u64, room: Room) -> bool {
        if room.free == 0 || room.free > self.lanes.len() {
            return room.free > 0;
        }
        let before = |waiting: &&Waiting| waiting.turn < turn && now.since_start < waiting.at + KEPT_FOR;
        room.free > self.lanes.values().filter(before).count().min(room.limit / 2)
    }
}
