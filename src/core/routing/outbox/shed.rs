//! Too much: what is least urgent gives way to what is more.
//!
//! The handler lets urgent messages in beyond the outbox's limits, by a reserve ([`crate::receipt::Places`]); here their
//! place is made, so that a flood of unimportant messages never refuses an important one.

use libp2p::PeerId;

use super::{Held, Lane, Outbox, weight};
use crate::{core::Output, error::DeliveryError, event::NetworkEvent, message::Priority, receipt::ReceiptState};

/// A little more is shed than must be, so that not every further message has to look for somebody to give way.
const SLACK: usize = 64;

impl Outbox {
    /// Makes room after a message of a priority was taken on for a peer: the newest of those less urgent that were never
    /// sent give way. When too much waits for this peer, its own; when too much waits in all, those for the peer that has
    /// most. Returns how many were shed.
    pub(crate) fn shed(&mut self, peer: PeerId, newcomer: Priority, out: &mut impl Extend<Output>) -> u64 {
        let most = Held { messages: self.limits.outbox_messages, bytes: self.limits.outbox_bytes };
        let most_of_peer = Held { messages: self.limits.peer_messages, bytes: self.limits.peer_bytes };
        let held_of_peer = self.queues.get(&peer).map(|queue| queue.held).unwrap_or_default();
        if held_of_peer.excess(most_of_peer).is_none() && self.held.excess(most).is_none() {
            return 0;
        }
        let mut shed = 0;
        for priority in Priority::ALL.into_iter().rev().filter(|priority| *priority < newcomer) {
            let mut of_priority = 0;
            let held = self.queues.get(&peer).map(|queue| queue.held).unwrap_or_default();
            if let Some(excess) = held.excess(most_of_peer) {
                of_priority += self.shed_from(peer, priority, excess, out);
            }
            while let Some(excess) = self.held.excess(most)
                && let Some(peer) = self.longest(priority.lane())
            {
                let ended = self.shed_from(peer, priority, excess, out);
                if ended == 0 {
                    break;
                }
                of_priority += ended;
            }
            if of_priority > 0 {
                out.extend([Output::Event(NetworkEvent::MessagesShed { priority, count: of_priority })]);
            }
            shed += of_priority;
        }
        shed
    }

    /// The peer for whom most messages of a lane wait.
    fn longest(&self, lane: usize) -> Option<PeerId> {
        let waiting = self.queues.iter().map(|(peer, queue)| (queue.lanes[lane].waiting(), *peer));
        waiting.filter(|(waiting, _)| *waiting > 0).max().map(|(_, peer)| peer)
    }

    fn shed_from(
        &mut self,
        peer: PeerId,
        priority: Priority,
        Held { messages: mut too_many, bytes: mut too_much }: Held,
        out: &mut impl Extend<Output>,
    ) -> u64 {
        let newest = |lane: &Lane| {
            let unsent = lane.iter().rev().filter(|entry| {
                // What mailboxes keep has been promised already.
                entry.is_waiting() && !entry.sent && entry.receipt && entry.message.kept.is_none()
            });
            let taken = unsent.take_while(|entry| {
                let wanted = too_many > 0 || too_much > 0;
                too_many = too_many.saturating_sub(1);
                too_much = too_much.saturating_sub(weight(&entry.message));
                wanted
            });
            taken.map(super::Entry::nonce).collect::<Vec<_>>()
        };
        let nonces = self.queues.get(&peer).map(|queue| &queue.lanes[priority.lane()]).map_or_else(Vec::new, newest);
        let ended = nonces.into_iter().map(|nonce| {
            let state = ReceiptState::Failed { error: DeliveryError::Shed { priority } };
            u64::from(self.end(peer, nonce, state, out))
        });
        ended.sum()
    }
}

impl Held {
    /// What has to go so that a limit holds, and some slack; `None` while it holds.
    fn excess(self, most: Held) -> Option<Held> {
        let over = self.messages > most.messages || self.bytes > most.bytes;
        over.then(|| Held {
            messages: self.messages.saturating_sub(most.messages - most.messages / SLACK),
            bytes: self.bytes.saturating_sub(most.bytes - most.bytes / SLACK),
        })
    }
}
