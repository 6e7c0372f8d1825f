//! Received direct messages that are kept until the app has confirmed them.
//!
//! A message is written together with the mark that it was seen; then it is acknowledged and handed over; when the app
//! has confirmed it, the row goes and the mark stays. Messages have serial numbers in the order of their arrival, and are
//! confirmed in that order: one number tells how far the app is.
//!
//! The inbox is bounded. When it is full, or the disk refuses, a new message is not taken: without an acknowledgement it
//! stays with its sender, who brings it again. What was seen before is still acknowledged, since its first
//! acknowledgement may have been lost.

use std::collections::{BTreeSet, VecDeque};

use libp2p::PeerId;

use super::{journal::Journal, records, turned_away::Room};
use crate::{
    message::{MessageId, ReceivedMessage},
    rows::{Change, Haste, Mark, Shelf},
};

/// Messages in one row. What comes in one turn shares rows, since a row costs more than the bytes in it.
const ROW_MESSAGES: usize = 64;

/// Payload bytes after which a row takes no further message.
const ROW_BYTES: usize = 256 * 1024;

/// A row that is being written or is there.
struct Row {
    first: u64,
    last: u64,
}

/// A message whose row is being written.
struct Arriving {
    round: u64,
    serial: u64,
    /// The neighbour that waits for an acknowledgement.
    acknowledge: Option<PeerId>,
    message: ReceivedMessage,
}

pub(crate) struct Held {
    limit: usize,
    /// The serial number of the next message.
    next: u64,
    /// The last serial number that the app has confirmed.
    confirmed: u64,
    /// Messages of this turn, not yet in a row.
    fresh: Vec<Arriving>,
    /// In the order of their rounds.
    arriving: VecDeque<Arriving>,
    /// The identities of those, and of the fresh ones.
    unstored: BTreeSet<MessageId>,
    rows: VecDeque<Row>,
}

/// Messages that the journal has by now.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) acknowledge: Vec<(PeerId, u64)>,
    pub(crate) hand_over: Vec<(u64, ReceivedMessage)>,
}

impl Held {
    /// Holds up to `limit` messages that the app has not confirmed.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            next: 1,
            confirmed: 0,
            fresh: Vec::new(),
            arriving: VecDeque::new(),
            unstored: BTreeSet::new(),
            rows: VecDeque::new(),
        }
    }

    /// Takes up what an earlier run has left. Returns the messages that the app has not confirmed.
    pub(crate) fn restore(
        &mut self,
        confirmed: u64,
        rows: Vec<(u64, Vec<ReceivedMessage>)>,
        journal: &mut Journal,
    ) -> Vec<(u64, ReceivedMessage)> {
        self.confirmed = confirmed;
        self.next = confirmed + 1;
        let mut again = Vec::new();
        for (first, messages) in rows {
            let after = first.saturating_add(messages.len() as u64);
            if after <= confirmed + 1 {
                journal.add(Change::Remove(Shelf::Inbox, first), Haste::Later);
                continue;
            }
            self.rows.push_back(Row { first, last: after - 1 });
            self.next = self.next.max(after);
            again.extend((first..).zip(messages).filter(|(serial, _)| *serial > confirmed));
        }
        again
    }

    /// How many messages the app has not confirmed.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.next - 1 - self.confirmed).unwrap_or(usize::MAX)
    }

    /// How many more messages can be taken.
    pub(crate) fn room(&self) -> Room {
        Room { free: self.limit.saturating_sub(self.len()), limit: self.limit }
    }

    /// Whether a message was taken and is not stored yet: an acknowledgement would be a lie.
    pub(crate) fn is_storing(&self, id: &MessageId) -> bool {
        self.unstored.contains(id)
    }

    /// Takes a message for which there is room.
    pub(crate) fn take(&mut self, message: ReceivedMessage, acknowledge: Option<PeerId>, journal: &Journal) {
        self.unstored.insert(message.id);
        let (round, serial) = (journal.next_round(), self.next);
        self.next += 1;
        self.fresh.push(Arriving { round, serial, acknowledge, message });
    }

    /// Puts what has come in this turn into rows. True when there was anything, and the marks have to follow.
    pub(crate) fn flush(&mut self, journal: &mut Journal) -> bool {
        let mut fresh = std::mem::take(&mut self.fresh).into_iter().peekable();
        let any = fresh.peek().is_some();
        while let Some(first) = fresh.peek().map(|arriving| arriving.serial) {
            let (mut messages, mut bytes) = (Vec::new(), 0);
            while messages.len() < ROW_MESSAGES
                && bytes < ROW_BYTES
                && let Some(arriving) = fresh.next()
            {
                bytes += arriving.message.payload.len();
                messages.push(arriving.message.clone());
                self.arriving.push_back(arriving);
            }
            self.rows.push_back(Row { first, last: first + messages.len() as u64 - 1 });
            journal.add(Change::Insert(Shelf::Inbox, first, records::write_received(&messages)), Haste::Now);
        }
        any
    }

    /// The journal has kept all rounds up to this one.
    pub(crate) fn stored(&mut self, round: u64) -> Stored {
        let mut stored = Stored::default();
        while self.arriving.front().is_some_and(|arriving| arriving.round <= round)
            && let Some(arriving) = self.arriving.pop_front()
        {
            let id = arriving.message.id;
            self.unstored.remove(&id);
            stored.acknowledge.extend(arriving.acknowledge.map(|peer| (peer, id.nonce)));
            stored.hand_over.push((arriving.serial, arriving.message));
        }
        stored
    }

    /// The app has confirmed all messages up to this serial number.
    pub(crate) fn confirm(&mut self, serial: u64, journal: &mut Journal) {
        let serial = serial.min(self.next - 1);
        if serial <= self.confirmed {
            return;
        }
        self.confirmed = serial;
        while self.rows.front().is_some_and(|row| row.last <= serial)
            && let Some(row) = self.rows.pop_front()
        {
            journal.add(Change::Remove(Shelf::Inbox, row.first), Haste::Later);
        }
        // Also when all rows are gone: serial numbers go on from here.
        let mark = records::write_mark(serial);
        journal.add(Change::Put(Shelf::Marks, Mark::Confirmed as u64, mark), Haste::Later);
    }
}
