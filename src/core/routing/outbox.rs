//! Messages to one peer each, from acceptance to receipt.
//!
//! Invariant: every accepted message with a receipt ends in exactly one of delivered, failed or expired. Per peer and
//! priority they leave in the order of acceptance and arrive in it, whatever ways they take: what is under way is by one
//! link at a time, and what has to be sent again goes before what has never been sent.
//!
//! - `lane`: the messages of one priority to one peer.
//! - `queue`: the three lanes to a peer, and the handing over to its links.
//! - `shed`: what gives way when there is too much.
//!
//! One timer serves a peer, however many messages wait for it.

mod lane;
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
    core::{Link, LinkId, Now, Output, input::OutgoingMessage},
    error::DeliveryError,
    event::RejectReason,
    frame::{ControlContent, NonceRange},
    message::{MessageId, Priority},
    receipt::{ENVELOPE, ReceiptState},
};

pub(super) use lane::UNACKNOWLEDGED;
use lane::{Entry, Lane, Why};
use queue::{Queue, tell};

/// Messages without a receipt (broadcasts to neighbours) that may wait for one peer.
const UNRECEIPTED_PER_PEER: usize = 1024;

/// What a tick ended or began.
#[derive(Default)]
pub(crate) struct Expired {
    pub(crate) failed: u64,
    /// Peers to which something may be sent now; while bytes are rationed, those first whose turn is longest ago.
    pub(crate) resend: Vec<PeerId>,
}

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

/// Connections.
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

    /// A connection stands.
    pub(crate) fn link_opened(&mut self, peer: PeerId, link: &Link) {
        self.queues.entry(peer).or_default().ways.opened(link);
    }

    /// A connection is gone: what was under way by it has to be sent again, by another. Returns how many receipts that
    /// ended.
    pub(crate) fn link_closed(&mut self, peer: PeerId, link: LinkId, out: &mut impl Extend<Output>) -> u64 {
        let Some(queue) = self.queues.get_mut(&peer) else { return 0 };
        queue.ways.closed(link);
        let lanes = queue.lanes.iter_mut().filter(|lane| lane.link() == Some(link));
        let given_up = lanes.flat_map(Lane::broke).collect::<Vec<_>>();
        if queue.ways.is_empty() {
            queue.tell_waiting(Why::NotConnected, out);
        }
        let failed = self.give_up_on(peer, given_up, out);
        self.rearm(peer);
        failed
    }

    /// A ping took so long.
    pub(crate) fn pinged(&mut self, peer: PeerId, link: LinkId, took: Duration) {
        if let Some(queue) = self.queues.get_mut(&peer) {
            queue.ways.pinged(link, took);
        }
    }

    /// So many frames of a lane were written.
    pub(crate) fn written(&mut self, now: Now, peer: PeerId, link: LinkId, priority: Priority, count: usize) {
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        let Some(way) = queue.ways.get_mut(link) else { return };
        let handed = &mut way.lanes[priority.lane()];
        let unwritten = handed.messages();
        handed.settle(count);
        let lane = &mut queue.lanes[priority.lane()];
        if lane.link() == Some(link) {
            lane.written(now.since_start, count, unwritten);
            self.rearm(peer);
        }
    }

    /// A lane broke, and so many frames with it; its link stands. Returns how many receipts that ended.
    pub(crate) fn lost(
        &mut self,
        peer: PeerId,
        link: LinkId,
        priority: Priority,
        count: usize,
        out: &mut impl Extend<Output>,
    ) -> u64 {
        let Some(queue) = self.queues.get_mut(&peer) else { return 0 };
        let Some(way) = queue.ways.get_mut(link) else { return 0 };
        way.lanes[priority.lane()].settle(count);
        let lane = &mut queue.lanes[priority.lane()];
        if lane.link() != Some(link) {
            return 0;
        }
        let given_up = lane.broke();
        let failed = self.give_up_on(peer, given_up, out);
        self.rearm(peer);
        failed
    }

    /// Something stood in the way to a peer; it will be the reason if its messages fail.
    pub(crate) fn obstacle(&mut self, peer: PeerId, what: &str) {
        if let Some(queue) = self.queues.get_mut(&peer)
            && queue.live() > 0
        {
            queue.obstacle = Some(what.to_owned());
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
        let general = message.accepted_at + self.config.timeout;
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
                for entry in messages.iter_mut().filter(|entry| entry.message.letter.ttl.is_some()) {
                    entry.message.slept += slept;
                    let (end, general) =
                        (entry.message.end(self.config.timeout), entry.message.accepted_at + self.config.timeout);
                    if end < general {
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

    /// The peer will not take this message. Returns how many receipts that ended.
    pub(crate) fn rejected(&mut self, peer: PeerId, nonce: u64, reason: &str, out: &mut impl Extend<Output>) -> u64 {
        let Some((lane, at)) = self.find(peer, nonce) else { return 0 };
        let ttl = self.queues.get(&peer).and_then(|queue| queue.lanes[lane].get(at)?.message.letter.ttl);
        let state = match ttl {
            Some(ttl) if reason == RejectReason::Expired.as_str() => ReceiptState::Expired { ttl },
            _ => {
                // It comes from a stranger: bounded, and no control characters.
                let reason = reason.chars().filter(|character| !character.is_control()).take(64).collect();
                ReceiptState::Failed { error: DeliveryError::Rejected { peer, reason } }
            }
        };
        u64::from(self.end(peer, nonce, state, out))
    }

    /// The message could not be stored, so it was never accepted. Returns how many receipts that ended.
    pub(crate) fn not_stored(&mut self, peer: PeerId, nonce: u64, reason: &str, out: &mut impl Extend<Output>) -> u64 {
        let state = ReceiptState::Failed { error: DeliveryError::NotStored { reason: reason.to_owned() } };
        u64::from(self.end(peer, nonce, state, out))
    }

    /// The peer can't take any message.
    pub(crate) fn refuse(&mut self, peer: PeerId, reason: &str, out: &mut impl Extend<Output>) -> u64 {
        let refused = self.nonces(&peer).into_iter().map(|nonce| self.rejected(peer, nonce, reason, out));
        refused.sum()
    }

    /// What is due: messages end whose time is over, and those without an acknowledgement wait to be sent again.
    pub(crate) fn tick(&mut self, now: Now, out: &mut impl Extend<Output>) -> Expired {
        let mut expired = Expired::default();
        let mut due = Vec::new();
        while let Some(&(at, peer)) = self.timers.first()
            && at <= now.since_start
        {
            self.timers.pop_first();
            due.push(peer);
        }
        for peer in due {
            let Some(queue) = self.queues.get_mut(&peer) else { continue };
            queue.armed = None;
            let mut over = Vec::new();
            while let Some(&(end, _, nonce)) = queue.ends.first()
                && end <= now.since_start
            {
                queue.ends.pop_first();
                over.push(nonce);
            }
            let timeout = self.config.timeout;
            let is_over = |entry: &&Entry| entry.message.accepted_at + timeout <= now.since_start;
            over.extend(queue.lanes.iter().flat_map(|lane| lane.iter().take_while(is_over).map(Entry::nonce)));
            for nonce in over {
                expired.failed += u64::from(self.expire(now, peer, nonce, out));
            }
            let longest = self.config.acknowledge_timeout;
            if self.queues.get_mut(&peer).is_some_and(|queue| queue.tick(now.since_start, longest)) {
                expired.resend.push(peer);
            }
            self.rearm(peer);
        }
        let served_at = |peer: &PeerId| self.queues.get(peer).map(|queue| queue.served_at);
        expired.resend.sort_by_key(|peer| (served_at(peer), *peer));
        expired
    }

    /// The node stops: what is left fails.
    pub(crate) fn give_up(&mut self, local: &PeerId, out: &mut impl Extend<Output>) {
        for peer in self.peers_with_mail() {
            for nonce in self.nonces(&peer) {
                let error = DeliveryError::ShutDown { id: MessageId { sender: *local, nonce } };
                self.end(peer, nonce, ReceiptState::Failed { error }, out);
            }
        }
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

    /// Sends a frame below the app, past the waiting messages, by the best link. Without a link it is not sent: whom it
    /// is for is gone.
    pub(crate) fn control(&mut self, peer: PeerId, content: ControlContent, out: &mut impl Extend<Output>) {
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        if let Some(link) = queue.ways.control(content.priority()) {
            out.extend([Output::Control { peer, link, content }]);
        }
    }
}

/// Posts: the lanes are shared with them.
impl Outbox {
    /// Whether the lane that a peer's messages take now has room for one more frame.
    pub(crate) fn has_room(&self, peer: &PeerId, priority: Priority) -> bool {
        self.queues.get(peer).is_some_and(|queue| queue.ways.has_room(priority))
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

/// Messages with a receipt, and their bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    messages: usize,
    bytes: usize,
}

impl Held {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn subtract(&mut self, other: Held) {
        self.messages -= other.messages;
        self.bytes -= other.bytes;
    }
}

/// What has ended in one run, to be settled at once.
#[derive(Default)]
struct Ended {
    held: Held,
    unreceipted: usize,
}

impl Ended {
    fn note(
        &mut self,
        message: &OutgoingMessage,
        receipt: bool,
        timeout: Duration,
        lane: usize,
        ends: &mut BTreeSet<(Duration, usize, u64)>,
    ) {
        if receipt {
            self.held.add(weight(message));
        } else {
            self.unreceipted += 1;
        }
        if message.letter.ttl.is_some() {
            ends.remove(&(message.end(timeout), lane, message.letter.nonce));
        }
    }
}

impl Outbox {
    /// Takes a message out and tells what became of it. True when it had a receipt.
    fn end(&mut self, peer: PeerId, nonce: u64, state: ReceiptState, out: &mut impl Extend<Output>) -> bool {
        let Some((lane, at)) = self.find(peer, nonce) else { return false };
        let Some(queue) = self.queues.get_mut(&peer) else { return false };
        let receipt = queue.lanes[lane].get(at).is_some_and(|entry| entry.receipt);
        let Some(message) = queue.lanes[lane].end(at) else { return false };
        queue.lanes[lane].trim();
        let mut ended = Ended::default();
        ended.note(&message, receipt, self.config.timeout, lane, &mut queue.ends);
        if receipt {
            out.extend([Output::Receipt { nonce, state }]);
        }
        self.settle(peer, &ended);
        receipt
    }

    /// Ends a message whose time is over. True when it had a receipt.
    fn expire(&mut self, now: Now, peer: PeerId, nonce: u64, out: &mut impl Extend<Output>) -> bool {
        let Some((lane, at)) = self.find(peer, nonce) else { return false };
        let Some(queue) = self.queues.get(&peer) else { return false };
        let Some(entry) = queue.lanes[lane].get(at) else { return false };
        let waited = now.since_start.saturating_sub(entry.message.accepted_at);
        let state = match entry.message.letter.ttl {
            Some(ttl) if waited + entry.message.slept >= ttl => ReceiptState::Expired { ttl },
            _ if entry.sent => ReceiptState::Failed { error: DeliveryError::Unacknowledged { peer, waited } },
            _ => {
                let reason = queue.obstacle.clone().unwrap_or_else(|| "no connection".to_owned());
                ReceiptState::Failed { error: DeliveryError::Unreachable { peer, waited, reason } }
            }
        };
        self.end(peer, nonce, state, out)
    }

    /// Ends messages under which lanes have broken too often. Returns how many receipts that ended.
    fn give_up_on(&mut self, peer: PeerId, nonces: Vec<u64>, out: &mut impl Extend<Output>) -> u64 {
        let failed = nonces.into_iter().map(|nonce| {
            let reason = "the connection broke each time it was sent".to_owned();
            let error = DeliveryError::Unreachable { peer, waited: Duration::ZERO, reason };
            u64::from(self.end(peer, nonce, ReceiptState::Failed { error }, out))
        });
        failed.sum()
    }

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

    /// Counts what has ended, and forgets a peer for whom there is nothing any more.
    fn settle(&mut self, peer: PeerId, ended: &Ended) {
        if ended.held.messages + ended.unreceipted > 0 {
            self.changed.insert(peer);
            self.held.subtract(ended.held);
            if let Some(queue) = self.queues.get_mut(&peer) {
                queue.held.subtract(ended.held);
                queue.unreceipted -= ended.unreceipted;
            }
        }
        self.rearm(peer);
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

/// What a message counts for among the bytes of the outbox.
fn weight(message: &OutgoingMessage) -> usize {
    message.letter.payload.len() + ENVELOPE
}
