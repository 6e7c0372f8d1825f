//! Messages to one peer each, from acceptance to receipt.
//!
//! Invariant: every accepted message with a receipt ends in exactly one of delivered, failed or expired. Per peer and
//! priority they leave in the order of acceptance and arrive in it, whatever ways they take: what is under way is by one
//! link at a time, and what has to be sent again goes before what has never been sent.
//!
//! - `lane`: the messages of one priority to one peer.
//! - `queue`: the three lanes to a peer, and the handing over to its links.
//! - `links`: what becomes of the connections.
//! - `ends`: how messages end.
//! - `kept`: of what a mailbox keeps a copy.
//! - `shed`: what gives way when there is too much.
//!
//! One timer serves a peer, however many messages wait for it.

mod ends;
mod kept;
mod lane;
mod links;
mod queue;
mod shed;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::bandwidth::Budget;
use crate::{
    config::{DeliveryConfig, LimitsConfig, NetworkConfig},
    core::{LinkId, Now, Output, input::OutgoingMessage},
    frame::{ControlContent, NonceRange},
    message::Priority,
    receipt::ReceiptState,
};

use ends::{Ended, Held, weight};
pub(super) use lane::UNACKNOWLEDGED;
use lane::{Entry, Lane, Why};
use queue::{Queue, tell};

/// Messages without a receipt (broadcasts to neighbours) that may wait for one peer.
const UNRECEIPTED_PER_PEER: usize = 1024;

/// How long a transfer waits for bytes while messages take them all.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

pub(crate) struct Outbox {
    config: DeliveryConfig,
    limits: LimitsConfig,
    /// Of every peer that has a connection, or messages.
    queues: HashMap<PeerId, Queue>,
    /// When a peer's queue has to be looked at, at the latest. One that is too early costs a look.
    timers: BTreeSet<(Duration, PeerId)>,
    budget: Budget,
    held: Held,
    /// Peers for whom something came or ended since the last look.
    changed: BTreeSet<PeerId>,
}

impl Outbox {
    pub(crate) fn new(config: &NetworkConfig) -> Self {
        Self {
            config: config.delivery.clone(),
            limits: config.limits.clone(),
            queues: HashMap::new(),
            timers: BTreeSet::new(),
            budget: Budget::new(&config.bandwidth),
            held: Held::default(),
            changed: BTreeSet::new(),
        }
    }
}

/// Messages.
impl Outbox {
    /// Takes a message on. One with a receipt the handler has found room for; one without may be dropped for want of it,
    /// which is answered by false.
    pub(crate) fn accept(
        &mut self,
        peer: PeerId,
        message: OutgoingMessage,
        receipt: bool,
        out: &mut impl Extend<Output>,
    ) -> bool {
        let queue = self.queues.entry(peer).or_default();
        if receipt {
            self.held.add(weight(&message));
            queue.held.add(weight(&message));
        } else if queue.unreceipted >= UNRECEIPTED_PER_PEER {
            return false;
        } else {
            queue.unreceipted += 1;
        }
        let (nonce, lane) = (message.letter.nonce, message.letter.priority.lane());
        // What a mailbox keeps ends at a time of its own only.
        let general = match message.kept {
            Some(_) => Duration::MAX,
            None => message.accepted_at + self.config.timeout,
        };
        queue.note_end(lane, nonce, message.end(self.config.timeout), general);
        let mut entry = Entry::new(message, receipt);
        if queue.ways.is_empty() {
            tell(&mut entry, Why::NotConnected, out);
        }
        queue.lanes[lane].insert(entry);
        self.changed.insert(peer);
        self.rearm(peer);
        true
    }

    /// The node has slept so long: what is only good for a time has aged. Time-outs have not come closer by it.
    pub(crate) fn slept(&mut self, slept: Duration) {
        let peers = self.queues.keys().copied().collect::<Vec<_>>();
        for peer in peers {
            let Some(queue) = self.queues.get_mut(&peer) else { continue };
            let mut ends = BTreeSet::new();
            for (lane, messages) in queue.lanes.iter_mut().enumerate() {
                for entry in messages.iter_mut().filter(|entry| entry.message.has_own_end()) {
                    entry.message.slept += slept;
                    let (end, general) =
                        (entry.message.end(self.config.timeout), entry.message.accepted_at + self.config.timeout);
                    if end < general || entry.message.kept.is_some() {
                        ends.insert((end, lane, entry.nonce()));
                    }
                }
            }
            queue.ends = ends;
            self.rearm(peer);
        }
    }

    /// The peer has these messages. Returns how many receipts that ended.
    pub(crate) fn acknowledged(
        &mut self,
        now: Now,
        peer: PeerId,
        ranges: &[NonceRange],
        out: &mut impl Extend<Output>,
    ) -> u64 {
        let Some(queue) = self.queues.get_mut(&peer) else { return 0 };
        let (mut delivered, mut ended) = (0, Ended::default());
        for range in ranges.iter().filter(|range| range.first <= range.last) {
            for (lane, messages) in queue.lanes.iter_mut().enumerate() {
                // Bounded by what the lane holds, whatever the range claims.
                let first = messages.first_from(range.first);
                for at in first..messages.len() {
                    let Some(entry) = messages.get(at).filter(|entry| entry.nonce() <= range.last) else { break };
                    let (nonce, receipt) = (entry.nonce(), entry.receipt);
                    if let Some(took) = messages.acknowledged(now.since_start, at)
                        && let Some(link) = messages.link().and_then(|link| queue.ways.get_mut(link))
                    {
                        link.round_trip.measured(took);
                    }
                    if let Some(message) = messages.end(at) {
                        ended.note(&message, receipt, self.config.timeout, lane, &mut queue.ends);
                        if receipt {
                            delivered += 1;
                            out.extend([Output::Receipt { nonce, state: ReceiptState::Delivered }]);
                        }
                    }
                }
                messages.trim();
            }
        }
        self.settle(peer, &ended);
        delivered
    }
}

/// Wishes out.
impl Outbox {
    /// Hands a connected peer's messages to the best of its links as far as there is room. Returns how many left, by
    /// lane.
    pub(crate) fn pump(&mut self, now: Now, peer: PeerId, out: &mut impl Extend<Output>) -> [u64; 3] {
        let Some(queue) = self.queues.get_mut(&peer) else { return [0; 3] };
        let left = queue.pump(now, peer, &mut self.budget, out);
        self.rearm(peer);
        left
    }

    /// A peer is connected, and what can leave has left: the rest is told that it waits for its turn.
    pub(crate) fn tell_connected(&mut self, peer: PeerId, out: &mut impl Extend<Output>) {
        if let Some(queue) = self.queues.get_mut(&peer) {
            queue.tell_connected(out);
        }
    }

    /// The best link to a peer for something below the app, which it then carries. `None` when there is no link.
    pub(crate) fn link_for(&mut self, peer: PeerId, priority: Priority) -> Option<LinkId> {
        self.queues.get_mut(&peer)?.ways.control(priority)
    }

    /// Sends a frame below the app, past the waiting messages, by the best link. Without a link it is not sent: whom it
    /// is for is gone.
    pub(crate) fn control(&mut self, peer: PeerId, content: ControlContent, out: &mut impl Extend<Output>) {
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        if let Some(link) = queue.ways.control(content.priority()) {
            out.extend([Output::Control { peer, link, content }]);
        }
    }
}

/// Posts and mail: the lanes are shared with them.
impl Outbox {
    /// Whether the lane that a peer's messages take now has room for one more frame.
    pub(crate) fn has_room(&self, peer: &PeerId, priority: Priority) -> bool {
        self.room(peer, priority) > 0
    }

    /// For how many more frames the lane has room.
    pub(crate) fn room(&self, peer: &PeerId, priority: Priority) -> usize {
        self.queues.get(peer).map_or(0, |queue| queue.ways.room(priority))
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
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        if let Some(link) = queue.ways.post(priority) {
            out.extend([Output::Forward { peer, link, priority, frame, hops }]);
        }
    }

    /// Whether posts were given to a peer's connections of which it is not known yet that they have left.
    pub(crate) fn has_posts_under_way(&self, peer: &PeerId) -> bool {
        self.queues.get(peer).is_some_and(|queue| queue.ways.has_posts())
    }
}

/// Transfers: they draw on the same budget.
impl Outbox {
    /// Bytes that a transfer to a connected peer may move now, when there is a budget; else when to ask again. One that
    /// has `waited` long may draw as deep as the most urgent messages, so that a flood of others doesn't hold it up for
    /// ever.
    pub(crate) fn ration(&mut self, now: Now, peer: &PeerId, waited: Duration) -> Result<u64, Duration> {
        let Some(queue) = self.queues.get_mut(peer) else { return Err(now.since_start + LONGEST_WAIT) };
        queue.ration(now, &mut self.budget, waited)
    }
}

/// Getters.
impl Outbox {
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Messages with a receipt that wait or are under way.
    pub(crate) fn len(&self) -> usize {
        self.held.messages
    }

    /// Messages that wait for a peer or are under way to it.
    pub(crate) fn waiting_for(&self, peer: &PeerId) -> usize {
        self.queues.get(peer).map_or(0, Queue::live)
    }

    pub(crate) fn has_mail(&self, peer: &PeerId) -> bool {
        self.waiting_for(peer) > 0
    }

    /// Peers for whom something waits or is under way.
    pub(crate) fn peers_with_mail(&self) -> Vec<PeerId> {
        let with_mail = self.queues.iter().filter(|(_, queue)| queue.live() > 0);
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
    /// Where a message is: its lane, and its place there.
    fn find(&self, peer: PeerId, nonce: u64) -> Option<(usize, usize)> {
        let queue = self.queues.get(&peer)?;
        (0..3).find_map(|lane| queue.lanes[lane].position(nonce).map(|at| (lane, at)))
    }

    /// Everything for a peer that has not ended.
    fn nonces(&self, peer: &PeerId) -> Vec<u64> {
        let queue = self.queues.get(peer);
        queue.map_or_else(Vec::new, |queue| queue.lanes.iter().flat_map(Lane::iter).map(Entry::nonce).collect())
    }

    /// Sets the peer's timer, if it has to be earlier than it is; forgets a peer for whom there is nothing any more.
    fn rearm(&mut self, peer: PeerId) {
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        if queue.is_idle() {
            if let Some(at) = queue.armed {
                self.timers.remove(&(at, peer));
            }
            self.queues.remove(&peer);
            return;
        }
        let Some(deadline) = queue.deadline(&self.config) else { return };
        if queue.armed.is_none_or(|armed| deadline < armed) {
            if let Some(armed) = queue.armed.replace(deadline) {
                self.timers.remove(&(armed, peer));
            }
            self.timers.insert((deadline, peer));
        }
    }
}
