//! Messages to one peer each, from acceptance to receipt.
//!
//! Invariant: every accepted message with a receipt ends in exactly one of delivered, failed or expired. Per peer and
//! priority they leave in the order of acceptance, high before medium before low, and no more is outstanding in a lane
//! than [`LANE_CREDIT`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use crate::{
    config::DeliveryConfig,
    core::{Now, Output, input::OutgoingMessage},
    error::DeliveryError,
    frame::{ControlContent, NonceRange},
    message::{MessageId, Priority},
    receipt::ReceiptState,
};

/// Frames of messages that may be outstanding in one lane: half of what a lane holds, so that control frames always
/// find room.
const LANE_CREDIT: usize = 256;

/// Messages that may be under way in one lane without having been acknowledged. The receiver remembers twice as many, so
/// that it knows again whatever is sent again.
pub(super) const UNACKNOWLEDGED: usize = 512;

/// How often a message is handed to a connection; one that breaks every lane it is put on is given up.
const MAX_ATTEMPTS: u32 = 20;

/// Messages without a receipt (broadcasts to neighbours) that may wait for one peer.
const UNRECEIPTED_PER_PEER: usize = 1024;

struct Entry {
    message: OutgoingMessage,
    /// Whether somebody waits for what becomes of it.
    receipt: bool,
    /// When it is sent again unless it has been acknowledged; `None` while it waits.
    resend_at: Option<Duration>,
    /// How often it was handed to a connection.
    attempts: u32,
    timer: Duration,
}

#[derive(Default)]
struct Queue {
    /// By nonce, which is the order of acceptance.
    entries: BTreeMap<u64, Entry>,
    /// Nonces of entries that are not under way, by lane.
    waiting: [BTreeSet<u64>; 3],
    /// Frames given to the peer's connections of which nothing is known yet, by lane.
    outstanding: [usize; 3],
    /// Whether a post is among these frames, by lane.
    posts: [bool; 3],
    /// Messages sent and not acknowledged, by lane.
    unacknowledged: [usize; 3],
    unreceipted: usize,
    /// What last stood in the way.
    obstacle: Option<String>,
}

/// What a tick ended or began.
#[derive(Default)]
pub(crate) struct Expired {
    pub(crate) failed: u64,
    /// Peers to which something has to be sent again.
    pub(crate) resend: BTreeSet<PeerId>,
}

pub(crate) struct Outbox {
    config: DeliveryConfig,
    queues: HashMap<PeerId, Queue>,
    timers: BTreeSet<(Duration, PeerId, u64)>,
    /// Entries with a receipt.
    len: usize,
    /// Peers for whom something came or ended since the last look.
    changed: BTreeSet<PeerId>,
}

/// Facts in.
impl Outbox {
    pub(crate) fn new(config: &DeliveryConfig) -> Self {
        Self {
            config: config.clone(),
            queues: HashMap::new(),
            timers: BTreeSet::new(),
            len: 0,
            changed: BTreeSet::new(),
        }
    }

    /// Takes a message on. One with a receipt the handler has found room for; one without may be dropped for want of it,
    /// which is answered by false.
    pub(crate) fn accept(&mut self, peer: PeerId, message: OutgoingMessage, receipt: bool) -> bool {
        let queue = self.queues.entry(peer).or_default();
        if receipt {
            self.len += 1;
        } else if queue.unreceipted >= UNRECEIPTED_PER_PEER {
            return false;
        } else {
            queue.unreceipted += 1;
        }
        let (nonce, lane) = (message.letter.nonce, message.letter.priority.lane());
        let timer = message.end(self.config.timeout);
        self.timers.insert((timer, peer, nonce));
        queue.waiting[lane].insert(nonce);
        let entry = Entry { message, receipt, resend_at: None, attempts: 0, timer };
        queue.entries.insert(nonce, entry);
        self.changed.insert(peer);
        true
    }

    /// A connection broke: what was under way to the peer has to be sent again.
    pub(crate) fn link_lost(&mut self, now: Now, peer: PeerId) {
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        queue.unacknowledged = [0; 3];
        let under_way = queue.entries.iter_mut().filter(|(_, entry)| entry.resend_at.is_some());
        for (nonce, entry) in under_way {
            entry.resend_at = None;
            if entry.attempts >= MAX_ATTEMPTS {
                // Not sent again; the tick that is due at once ends it.
                self.timers.remove(&(entry.timer, peer, *nonce));
                entry.timer = now.since_start;
                self.timers.insert((entry.timer, peer, *nonce));
                continue;
            }
            queue.waiting[entry.message.letter.priority.lane()].insert(*nonce);
            retime(&mut self.timers, peer, *nonce, entry, self.config.timeout, now);
        }
    }

    /// So many frames of a lane were written or lost.
    pub(crate) fn settled(&mut self, peer: PeerId, priority: Priority, count: usize) {
        if let Some(queue) = self.queues.get_mut(&peer) {
            let outstanding = &mut queue.outstanding[priority.lane()];
            *outstanding = outstanding.saturating_sub(count);
            queue.posts[priority.lane()] &= *outstanding > 0;
        }
        self.forget_if_idle(peer);
    }

    /// The node has slept so long: what is only good for a time has aged. Time-outs have not come closer by it.
    pub(crate) fn slept(&mut self, now: Now, slept: Duration) {
        for (peer, queue) in &mut self.queues {
            for (nonce, entry) in queue.entries.iter_mut().filter(|(_, entry)| entry.message.letter.ttl.is_some()) {
                entry.message.slept += slept;
                retime(&mut self.timers, *peer, *nonce, entry, self.config.timeout, now);
            }
        }
    }

    /// Something stood in the way to a peer; it will be the reason if its messages fail.
    pub(crate) fn obstacle(&mut self, peer: PeerId, what: &str) {
        if let Some(queue) = self.queues.get_mut(&peer) {
            queue.obstacle = Some(what.to_owned());
        }
    }

    /// The peer has these messages. Returns how many receipts that ended.
    pub(crate) fn acknowledged(&mut self, peer: PeerId, ranges: &[NonceRange], out: &mut impl Extend<Output>) -> u64 {
        let mut delivered = 0;
        for range in ranges.iter().filter(|range| range.first <= range.last) {
            // Bounded by what is under way, whatever the range claims.
            let nonces = self.queues.get(&peer).map_or_else(Vec::new, |queue| {
                queue.entries.range(range.first..=range.last).map(|(nonce, _)| *nonce).collect()
            });
            for nonce in nonces {
                delivered += u64::from(self.end(peer, nonce, ReceiptState::Delivered, out));
            }
        }
        delivered
    }

    /// The peer will not take this message. Returns how many receipts that ended.
    pub(crate) fn rejected(&mut self, peer: PeerId, nonce: u64, reason: &str, out: &mut impl Extend<Output>) -> u64 {
        // It comes from a stranger: bounded, and no control characters.
        let reason = reason.chars().filter(|character| !character.is_control()).take(64).collect();
        let state = ReceiptState::Failed { error: DeliveryError::Rejected { peer, reason } };
        u64::from(self.end(peer, nonce, state, out))
    }

    /// The message could not be stored, so it was never accepted. Returns how many receipts that ended.
    pub(crate) fn not_stored(&mut self, peer: PeerId, nonce: u64, reason: &str, out: &mut impl Extend<Output>) -> u64 {
        let state = ReceiptState::Failed { error: DeliveryError::NotStored { reason: reason.to_owned() } };
        u64::from(self.end(peer, nonce, state, out))
    }

    /// The peer can't take any message.
    pub(crate) fn refuse(&mut self, peer: PeerId, reason: &str, out: &mut impl Extend<Output>) -> u64 {
        let nonces = self.queues.get(&peer).map_or_else(Vec::new, |queue| queue.entries.keys().copied().collect());
        let refused = nonces.into_iter().map(|nonce| self.rejected(peer, nonce, reason, out));
        refused.sum()
    }

    /// What is due: messages end whose time is over, and those without an acknowledgement wait to be sent again.
    pub(crate) fn tick(&mut self, now: Now, out: &mut impl Extend<Output>) -> Expired {
        let mut expired = Expired::default();
        while let Some(&(at, peer, nonce)) = self.timers.first()
            && at <= now.since_start
        {
            self.timers.pop_first();
            let Some(queue) = self.queues.get_mut(&peer) else { continue };
            let Some(entry) = queue.entries.get_mut(&nonce) else { continue };
            let waited = now.since_start.saturating_sub(entry.message.accepted_at);
            if let Some(ttl) = entry.message.letter.ttl.filter(|ttl| waited + entry.message.slept >= *ttl) {
                let state = ReceiptState::Failed { error: DeliveryError::Expired { ttl } };
                expired.failed += u64::from(self.end(peer, nonce, state, out));
            } else if waited >= self.config.timeout || entry.attempts >= MAX_ATTEMPTS {
                let error = if entry.attempts > 0 {
                    DeliveryError::Unacknowledged { peer, waited }
                } else {
                    let reason = queue.obstacle.clone().unwrap_or_else(|| "no connection".to_owned());
                    DeliveryError::Unreachable { peer, waited, reason }
                };
                expired.failed += u64::from(self.end(peer, nonce, ReceiptState::Failed { error }, out));
            } else {
                if entry.resend_at.take().is_some() {
                    queue.unacknowledged[entry.message.letter.priority.lane()] -= 1;
                    queue.waiting[entry.message.letter.priority.lane()].insert(nonce);
                    expired.resend.insert(peer);
                }
                retime(&mut self.timers, peer, nonce, entry, self.config.timeout, now);
            }
        }
        expired
    }

    /// The node stops: what is left fails.
    pub(crate) fn give_up(&mut self, local: &PeerId, out: &mut impl Extend<Output>) {
        let all = self.queues.iter().flat_map(|(peer, queue)| queue.entries.keys().map(|nonce| (*peer, *nonce)));
        for (peer, nonce) in all.collect::<BTreeSet<_>>() {
            let error = DeliveryError::ShutDown { id: MessageId { sender: *local, nonce } };
            self.end(peer, nonce, ReceiptState::Failed { error }, out);
        }
    }
}

/// Wishes out.
impl Outbox {
    /// Hands a connected peer's messages to its lanes as far as they have room. Returns how many left, by lane.
    pub(crate) fn pump(&mut self, now: Now, peer: PeerId, out: &mut impl Extend<Output>) -> [u64; 3] {
        let mut left = [0; 3];
        let Some(queue) = self.queues.get_mut(&peer) else { return left };
        for priority in Priority::ALL {
            let lane = priority.lane();
            while queue.outstanding[lane] < LANE_CREDIT
                && queue.unacknowledged[lane] < UNACKNOWLEDGED
                && let Some(nonce) = queue.waiting[lane].pop_first()
            {
                let Some(entry) = queue.entries.get_mut(&nonce) else { continue };
                queue.outstanding[lane] += 1;
                queue.unacknowledged[lane] += 1;
                entry.attempts += 1;
                entry.resend_at = Some(now.since_start + self.config.acknowledge_timeout);
                retime(&mut self.timers, peer, nonce, entry, self.config.timeout, now);
                out.extend([Output::Transmit { peer, letter: entry.message.letter.clone() }]);
                if entry.receipt {
                    out.extend([Output::Receipt { nonce, state: ReceiptState::Sent }]);
                }
                left[lane] += 1;
            }
        }
        left
    }

    /// Sends a frame below the app, past the waiting messages.
    pub(crate) fn control(&mut self, peer: PeerId, content: ControlContent, out: &mut impl Extend<Output>) {
        self.queues.entry(peer).or_default().outstanding[content.priority().lane()] += 1;
        out.extend([Output::Control { peer, content }]);
    }
}

/// Posts: the lanes are shared with them.
impl Outbox {
    /// Whether a lane to a peer has room for one more frame.
    pub(crate) fn has_room(&self, peer: &PeerId, priority: Priority) -> bool {
        self.queues.get(peer).is_none_or(|queue| queue.outstanding[priority.lane()] < LANE_CREDIT)
    }

    /// Hands on a post, past the waiting messages. Whoever does so has asked whether there is room.
    pub(crate) fn forward(
        &mut self,
        peer: PeerId,
        priority: Priority,
        frame: Bytes,
        hops: u32,
        out: &mut impl Extend<Output>,
    ) {
        let queue = self.queues.entry(peer).or_default();
        queue.outstanding[priority.lane()] += 1;
        queue.posts[priority.lane()] = true;
        out.extend([Output::Forward { peer, priority, frame, hops }]);
    }

    /// Whether posts were given to a peer's connections of which it is not known yet that they have left.
    pub(crate) fn has_posts_under_way(&self, peer: &PeerId) -> bool {
        self.queues.get(peer).is_some_and(|queue| queue.posts != [false; 3])
    }
}

/// Getters.
impl Outbox {
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// Messages with a receipt that wait or are under way.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn waiting_for(&self, peer: &PeerId) -> usize {
        self.queues.get(peer).map_or(0, |queue| queue.entries.len())
    }

    pub(crate) fn has_mail(&self, peer: &PeerId) -> bool {
        self.waiting_for(peer) > 0
    }

    /// Peers for whom something waits or is under way.
    pub(crate) fn peers_with_mail(&self) -> Vec<PeerId> {
        let with_mail = self.queues.iter().filter(|(_, queue)| !queue.entries.is_empty());
        let mut peers = with_mail.map(|(peer, _)| *peer).collect::<Vec<_>>();
        peers.sort_unstable();
        peers
    }

    /// Peers for whom something came or ended since the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.changed)
    }
}

impl Outbox {
    /// Takes a message out and tells what became of it. True when it had a receipt.
    fn end(&mut self, peer: PeerId, nonce: u64, state: ReceiptState, out: &mut impl Extend<Output>) -> bool {
        let Some(queue) = self.queues.get_mut(&peer) else { return false };
        let Some(entry) = queue.entries.remove(&nonce) else { return false };
        let lane = entry.message.letter.priority.lane();
        queue.waiting[lane].remove(&nonce);
        if entry.resend_at.is_some() {
            queue.unacknowledged[lane] -= 1;
        }
        self.changed.insert(peer);
        self.timers.remove(&(entry.timer, peer, nonce));
        if entry.receipt {
            self.len -= 1;
            out.extend([Output::Receipt { nonce, state }]);
        } else {
            queue.unreceipted -= 1;
        }
        self.forget_if_idle(peer);
        entry.receipt
    }

    fn forget_if_idle(&mut self, peer: PeerId) {
        if self.queues.get(&peer).is_some_and(|queue| queue.entries.is_empty() && queue.outstanding == [0; 3]) {
            self.queues.remove(&peer);
        }
    }
}

/// Sets an entry's timer to whatever comes first: its time to live, the delivery time-out, or the next sending.
fn retime(
    timers: &mut BTreeSet<(Duration, PeerId, u64)>,
    peer: PeerId,
    nonce: u64,
    entry: &mut Entry,
    timeout: Duration,
    now: Now,
) {
    timers.remove(&(entry.timer, peer, nonce));
    let end = entry.message.end(timeout);
    entry.timer = entry.resend_at.map_or(end, |resend_at| resend_at.min(end)).max(now.since_start);
    timers.insert((entry.timer, peer, nonce));
}
