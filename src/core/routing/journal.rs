//! What is kept of messages, decided: when a message is accepted, what is written for it, and when that goes again.
//!
//! Everything that one turn of the core wants written is one round, which the journal keeps as a whole or not at all. A
//! message counts as accepted when its round is kept, or when it is delivered before that. With [`Durability::Synced`] it
//! is handed to the outbox only then; with [`Durability::Batched`] at once, so that a quick acknowledgement saves the
//! write.
//!
//! Invariant: while [`Durability::Memory`] is asked for, nothing in here costs anything.

use std::collections::{HashSet, VecDeque};

use libp2p::PeerId;

use super::records::{self, DepositRow};
use crate::{
    config::Durability,
    core::{Output, input::OutgoingMessage},
    error::DeliveryError,
    receipt::ReceiptState,
    rows::{Change, Haste, Shelf},
};

/// A message that is not accepted yet: its row is being written.
struct Accepting {
    round: u64,
    peer: PeerId,
    nonce: u64,
    /// The message itself, while the outbox must not have it.
    message: Option<OutgoingMessage>,
}

/// What follows from a report of the journal.
#[derive(Default)]
pub(crate) struct News {
    /// Messages that the outbox gets now.
    pub(crate) release: Vec<(PeerId, OutgoingMessage)>,
    /// Messages of the outbox that could not be stored.
    pub(crate) refused: Vec<(PeerId, u64)>,
    /// The disk refuses from now on, or does no longer.
    pub(crate) turned: Option<Option<String>>,
}

/// Rounds, and the messages that wait for theirs.
pub(crate) struct Journal {
    durability: Durability,
    /// The last round that was handed over.
    round: u64,
    changes: Vec<Change>,
    haste: Haste,
    /// In the order of their rounds.
    accepting: VecDeque<Accepting>,
    failing: Option<String>,
    /// Messages of which it is written where they are kept.
    deposits: HashSet<u64>,
}

impl Journal {
    pub(crate) fn new(durability: Durability) -> Self {
        Self {
            durability,
            round: 0,
            changes: Vec::new(),
            haste: Haste::Later,
            accepting: VecDeque::new(),
            failing: None,
            deposits: HashSet::new(),
        }
    }

    /// Whether anything is kept at all.
    pub(crate) fn is_on(&self) -> bool {
        self.durability != Durability::Memory
    }

    /// Why nothing can be stored; `None` while all is well.
    pub(crate) fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }

    /// Whether a message waits for its round.
    pub(crate) fn is_accepting(&self) -> bool {
        !self.accepting.is_empty()
    }

    /// The round into which goes what is added now.
    pub(crate) fn next_round(&self) -> u64 {
        self.round + 1
    }

    /// Adds a change to the next round.
    pub(crate) fn add(&mut self, change: Change, haste: Haste) {
        if self.is_on() {
            self.changes.push(change);
            self.haste = self.haste.max(haste);
        }
    }

    /// Takes a message of the app on. Gives it back when the outbox may have it at once.
    pub(crate) fn accept(
        &mut self,
        peer: PeerId,
        message: OutgoingMessage,
        out: &mut impl Extend<Output>,
    ) -> Option<OutgoingMessage> {
        if !self.is_on() {
            return Some(message);
        }
        let nonce = message.letter.nonce;
        if let Some(reason) = &self.failing {
            let error = DeliveryError::NotStored { reason: reason.clone() };
            out.extend([Output::Receipt { nonce, state: ReceiptState::Failed { error } }]);
            return None;
        }
        let row = records::write_letter(&peer, &message.letter);
        let (haste, now, later) = match self.durability {
            Durability::Synced => (Haste::Now, None, Some(message)),
            _ => (Haste::Soon, Some(message), None),
        };
        self.add(Change::Insert(Shelf::Outbox, nonce, row), haste);
        self.accepting.push_back(Accepting { round: self.next_round(), peer, nonce, message: later });
        now
    }

    /// A message is kept elsewhere for its recipient.
    pub(crate) fn deposited(&mut self, nonce: u64, row: &DepositRow) {
        if self.is_on() {
            self.deposits.insert(nonce);
            self.add(Change::Put(Shelf::Deposits, nonce, row.write()), Haste::Soon);
        }
    }

    /// The same, as an earlier run has written it. When the message itself is not there any more, the row goes.
    pub(crate) fn restore_deposit(&mut self, nonce: u64, has_message: bool) {
        if has_message {
            self.deposits.insert(nonce);
        } else {
            self.add(Change::Remove(Shelf::Deposits, nonce), Haste::Later);
        }
    }

    /// What the journal has to write now, if anything.
    pub(crate) fn flush(&mut self) -> Option<Output> {
        if self.changes.is_empty() {
            return None;
        }
        self.round += 1;
        let (changes, haste) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.haste));
        Some(Output::Store { round: self.round, changes, haste })
    }

    /// Looks at a wish on its way out: what has ended is not kept any longer, and what is kept goes on at the next start.
    pub(crate) fn look_at(&mut self, output: &mut Output) {
        let Output::Receipt { nonce, state } = output else { return };
        if !self.is_on() || !state.is_final() {
            return;
        }
        match state {
            ReceiptState::Failed { error: DeliveryError::ShutDown { id } }
                if !self.accepting.iter().any(|accepting| accepting.nonce == *nonce) =>
            {
                *state = ReceiptState::Failed { error: DeliveryError::Kept { id: *id } };
            }
            // Its row, if there ever was one, is taken away where the failure is noticed.
            ReceiptState::Failed { error: DeliveryError::NotStored { .. } } => {}
            _ => {
                self.add(Change::Remove(Shelf::Outbox, *nonce), Haste::Later);
                if self.deposits.remove(nonce) {
                    self.add(Change::Remove(Shelf::Deposits, *nonce), Haste::Later);
                }
            }
        }
    }

    /// The journal has kept all rounds up to this one, and fails or not.
    pub(crate) fn reported(&mut self, stored: u64, failing: Option<String>, out: &mut impl Extend<Output>) -> News {
        let mut news = News::default();
        while self.accepting.front().is_some_and(|accepting| accepting.round <= stored)
            && let Some(accepting) = self.accepting.pop_front()
        {
            out.extend([Output::Accepted { nonce: accepting.nonce }]);
            news.release.extend(accepting.message.map(|message| (accepting.peer, message)));
        }
        if let Some(reason) = &failing {
            for Accepting { peer, nonce, message, .. } in std::mem::take(&mut self.accepting) {
                // The attempt may have reached the disk all the same.
                self.add(Change::Remove(Shelf::Outbox, nonce), Haste::Later);
                match message {
                    None => news.refused.push((peer, nonce)),
                    Some(_) => {
                        let error = DeliveryError::NotStored { reason: reason.clone() };
                        out.extend([Output::Receipt { nonce, state: ReceiptState::Failed { error } }]);
                    }
                }
            }
        }
        if failing.is_some() != self.failing.is_some() {
            news.turned = Some(failing.clone());
        }
        self.failing = failing;
        news
    }

    /// The node stops: what was never handed to the outbox ends.
    pub(crate) fn give_up(&mut self, mut shut_down: impl FnMut(u64) -> ReceiptState, out: &mut impl Extend<Output>) {
        let held = self.accepting.iter().filter(|accepting| accepting.message.is_some());
        out.extend(held.map(|held| Output::Receipt { nonce: held.nonce, state: shut_down(held.nonce) }));
    }
}
