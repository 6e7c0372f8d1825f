//! How messages end: their time is over, they are refused, given up, or the node stops. And the accounts of what is held,
//! which their ends settle.

use std::{collections::BTreeSet, time::Duration};

use libp2p::PeerId;

use super::{Outbox, lane::Entry};
use crate::{
    core::{Now, Output, input::OutgoingMessage},
    error::DeliveryError,
    event::RejectReason,
    message::MessageId,
    receipt::{ENVELOPE, ReceiptState},
};

/// What a tick ended or began.
#[derive(Default)]
pub(crate) struct Expired {
    pub(crate) failed: u64,
    /// Peers to which something may be sent now; while bytes are rationed, those first whose turn is longest ago.
    pub(crate) resend: Vec<PeerId>,
}

impl Outbox {
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
            let not_kept = |entry: &&Entry| entry.message.kept.is_none();
            let in_turn = queue.lanes.iter().flat_map(|lane| lane.iter().filter(not_kept).take_while(is_over));
            over.extend(in_turn.map(Entry::nonce));
            for nonce in over {
                expired.failed += u64::from(self.expire(now, peer, nonce, out));
            }
            let longest = self.config.acknowledge_timeout;
            if self.queues.get_mut(&peer).is_some_and(|queue| queue.tick(now.since_start, longest, out)) {
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

impl Outbox {
    /// Takes a message out and tells what became of it. True when it had a receipt.
    pub(super) fn end(&mut self, peer: PeerId, nonce: u64, state: ReceiptState, out: &mut impl Extend<Output>) -> bool {
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
                let reason = match &entry.message.kept {
                    Some(_) => "mailboxes kept it, and the peer did not come for it".to_owned(),
                    None => queue.obstacle.clone().unwrap_or_else(|| "no connection".to_owned()),
                };
                ReceiptState::Failed { error: DeliveryError::Unreachable { peer, waited, reason } }
            }
        };
        self.end(peer, nonce, state, out)
    }

    /// Ends messages under which lanes have broken too often. Returns how many receipts that ended.
    pub(super) fn give_up_on(&mut self, peer: PeerId, nonces: Vec<u64>, out: &mut impl Extend<Output>) -> u64 {
        let failed = nonces.into_iter().map(|nonce| {
            let reason = "the connection broke each time it was sent".to_owned();
            let error = DeliveryError::Unreachable { peer, waited: Duration::ZERO, reason };
            u64::from(self.end(peer, nonce, ReceiptState::Failed { error }, out))
        });
        failed.sum()
    }

    /// Counts what has ended, and forgets a peer for whom there is nothing any more.
    pub(super) fn settle(&mut self, peer: PeerId, ended: &Ended) {
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
}

/// Messages with a receipt, and their bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Held {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Held {
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    pub(super) fn subtract(&mut self, other: Held) {
        self.messages -= other.messages;
        self.bytes -= other.bytes;
    }
}

/// What has ended in one run, to be settled at once.
#[derive(Default)]
pub(super) struct Ended {
    held: Held,
    unreceipted: usize,
}

impl Ended {
    pub(super) fn note(
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
        if message.has_own_end() {
            ends.remove(&(message.end(timeout), lane, message.letter.nonce));
        }
    }
}

/// What a message counts for among the bytes of the outbox.
pub(super) fn weight(message: &OutgoingMessage) -> usize {
    message.letter.payload.len() + ENVELOPE
}
