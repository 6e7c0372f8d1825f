//! What of messages outlives the node: the facts that concern it, and what follows.

use std::time::Duration;

use libp2p::PeerId;

use super::{
    Core, GossipVerdict, Now, Output,
    input::{KeptAt, OutgoingMessage},
    routing::{Checked, DepositRow, Restored, Room},
};
use crate::{
    error::DeliveryError,
    event::NetworkEvent,
    message::{Delivery, MessageId},
    receipt::ReceiptState,
};

impl Core {
    /// What an earlier run has left. The time to live of its messages has gone on meanwhile; a time-out counts only while
    /// the node runs, so they get a whole one.
    pub(super) fn restored(&mut self, now: Now, mut restored: Restored) {
        for (serial, message) in self.routing.restore(&mut restored) {
            self.out.push_back(Output::HandOver { serial, message });
        }
        let mail = std::mem::take(&mut restored.mail);
        self.mailboxes.restore(now, mail, &mut self.routing.journal);
        for (peer, letter) in restored.outbox {
            let slept = Duration::from_millis(now.unix_millis.saturating_sub(letter.created_at));
            let kept = restored.deposits.remove(&letter.nonce).map(|DepositRow { at, until }| {
                let left = Duration::from_millis(until.saturating_sub(now.unix_millis));
                Box::new(KeptAt { at, until: now.since_start + left })
            });
            if kept.is_some() {
                self.routing.journal.restore_deposit(letter.nonce, true);
            }
            let message = OutgoingMessage { letter, accepted_at: now.since_start, slept, signed: None, kept };
            // Also where limits have been lowered meanwhile: what was accepted gives way to nobody.
            self.routing.outbox.accept(peer, message, true, &mut self.out);
            self.deliver_mail(now, peer);
        }
        // Of messages whose end was written, and this was not.
        for nonce in restored.deposits.into_keys() {
            self.routing.journal.restore_deposit(nonce, false);
        }
    }

    /// The journal has kept more, or its luck has turned.
    pub(super) fn journal_reported(&mut self, now: Now, stored: u64, failing: Option<String>) {
        let news = self.routing.journal.reported(stored, failing.clone(), &mut self.out);
        for (peer, message) in news.release {
            self.take_on(now, peer, message);
        }
        let reason = failing.as_deref().unwrap_or_default();
        for (peer, nonce) in news.refused {
            self.health.stats.messages_failed += self.routing.outbox.not_stored(peer, nonce, reason, &mut self.out);
        }
        match news.turned {
            Some(Some(reason)) => self.out.push_back(Output::Event(NetworkEvent::StoreFailing { reason })),
            Some(None) => self.out.push_back(Output::Event(NetworkEvent::StoreRecovered)),
            None => {}
        }
        let arrived = self.routing.held.stored(stored);
        for (neighbour, nonce) in arrived.acknowledge {
            self.routing.inbox.acknowledge(neighbour, nonce);
        }
        self.mailboxes.keeper.reported(now, stored, failing.is_some(), &mut self.routing.journal);
        self.mailboxes.collector.settled(stored);
        for (serial, message) in arrived.hand_over {
            self.mail_stored(&message.id);
            self.health.stats.messages_received.count(message.priority);
            self.out.push_back(Output::HandOver { serial, message });
        }
    }

    /// The app is done with all messages up to this one.
    pub(super) fn confirmed(&mut self, serial: u64) {
        self.routing.held.confirm(serial, &mut self.routing.journal);
        if self.routing.held.room().free > 0 {
            self.inbox_full_told = false;
            self.mailboxes.collector.has_room();
        }
    }

    /// How many direct messages can be taken: kept ones wait for the app, within a bound.
    pub(super) fn room(&self) -> Room {
        let (journal, held) = (&self.routing.journal, &self.routing.held);
        match (journal.is_on(), journal.failing()) {
            (false, _) => Room::NOTHING_KEPT,
            (true, None) => held.room(),
            (true, Some(_)) => Room { free: 0, ..held.room() },
        }
    }

    /// A frame was good: a message for the app, or an old acquaintance. Returns what becomes of it if it came by gossip.
    pub(super) fn checked(&mut self, neighbour: PeerId, checked: Checked) -> GossipVerdict {
        match checked {
            Checked::New { message, acknowledge } if self.is_kept(&message.delivery) => {
                // It is acknowledged and handed over once it is stored.
                self.routing.held.take(message, acknowledge.then_some(neighbour), &self.routing.journal);
                GossipVerdict::PassOn
            }
            Checked::New { message, acknowledge } => {
                if acknowledge {
                    self.routing.inbox.acknowledge(neighbour, message.id.nonce);
                }
                self.health.stats.messages_received.count(message.priority);
                self.out.push_back(Output::Deliver(message));
                GossipVerdict::PassOn
            }
            Checked::Known { id, acknowledge } => {
                self.health.stats.duplicates += 1;
                if acknowledge && !self.routing.held.is_storing(&id) {
                    self.routing.inbox.acknowledge(neighbour, id.nonce);
                }
                GossipVerdict::Ignore
            }
            Checked::NoRoom => {
                self.health.stats.messages_deferred += 1;
                // Also while there is room messages are deferred, for those that have to come before them.
                let is_full = self.routing.journal.failing().is_none() && self.routing.held.room().free == 0;
                if is_full && !std::mem::replace(&mut self.inbox_full_told, true) {
                    let waiting = self.routing.held.len();
                    self.out.push_back(Output::Event(NetworkEvent::InboxFull { waiting }));
                }
                GossipVerdict::Ignore
            }
        }
    }

    /// The node stops: what is kept goes on at the next start, what is not accepted yet ends.
    pub(super) fn give_up_keeping(&mut self) {
        let sender = self.settings.local;
        let shut_down =
            |nonce| ReceiptState::Failed { error: DeliveryError::ShutDown { id: MessageId { sender, nonce } } };
        self.routing.journal.give_up(shut_down, &mut self.out);
        self.routing.write_marks_soon();
    }

    fn is_kept(&self, delivery: &Delivery) -> bool {
        *delivery == Delivery::Direct && self.routing.journal.is_on()
    }
}

#[cfg(test)]
mod tests;
