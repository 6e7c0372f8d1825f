//! What becomes of messages.
//!
//! - `outbox`: direct ones, from acceptance to receipt.
//! - `route`: which way to a peer they take; `round_trip`: how long an acknowledgement may take on it.
//! - `bandwidth`: how many bytes may leave in a time.
//! - `pending`: posts nobody could take yet; `spread`: how posts pass from node to node.
//! - `inbox`: what arrives, each message once, by what was `seen`; `ranges`: nonces, compactly; `turned_away`: what had to
//!   wait with its sender, and the order then.
//! - `journal` and `held`: what of it outlives the node, written as `records` and found again as `restored`.

mod bandwidth;
mod held;
mod inbox;
mod journal;
mod outbox;
mod pending;
mod ranges;
mod records;
mod restored;
mod round_trip;
mod route;
mod seen;
mod spread;
mod turned_away;

use std::time::Duration;

use libp2p::PeerId;

use crate::{
    config::NetworkConfig,
    core::{Now, Output},
    message::ReceivedMessage,
};

pub(crate) use held::Held;
pub(crate) use inbox::{Arrival, Checked, Inbox};
pub(crate) use journal::Journal;
pub(crate) use outbox::Outbox;
pub(crate) use pending::Pending;
pub(crate) use ranges::Ranges;
pub(crate) use records::{DepositRow, MailRow};
pub(crate) use restored::Restored;
pub(crate) use spread::{Arrived, Spread};
pub(crate) use turned_away::Room;

/// How long it may take until it is written down that a post was seen. Posts are not acknowledged, so nobody waits for
/// it; a node that dies within this time may show a post twice.
const MARKS_LATER: Duration = Duration::from_secs(1);

pub(crate) struct Routing {
    pub(crate) outbox: Outbox,
    pub(crate) pending: Pending,
    pub(crate) spread: Spread,
    pub(crate) inbox: Inbox,
    pub(crate) journal: Journal,
    pub(crate) held: Held,
    /// When what was seen is written down at the latest.
    marks_due: Option<Duration>,
    marks_now: bool,
}

impl Routing {
    pub(crate) fn new(local: PeerId, config: &NetworkConfig) -> Self {
        let journal = Journal::new(config.durability());
        Self {
            outbox: Outbox::new(config),
            pending: Pending::new(config.delivery.timeout),
            spread: Spread::new(local, config),
            inbox: Inbox::new(config.limits.duplicate_cache, journal.is_on()),
            held: Held::new(config.limits.message_buffer),
            journal,
            marks_due: None,
            marks_now: false,
        }
    }

    /// Takes up what an earlier run has left, but its outbox. Returns the messages that the app has not confirmed.
    pub(crate) fn restore(&mut self, restored: &mut Restored) -> Vec<(u64, ReceivedMessage)> {
        self.inbox.restore(std::mem::take(&mut restored.windows));
        self.held.restore(restored.confirmed, std::mem::take(&mut restored.inbox), &mut self.journal)
    }

    /// Looks whether it is time to write down what was seen.
    pub(crate) fn time_marks(&mut self, now: Now) {
        match self.marks_due {
            Some(due) if due <= now.since_start => self.write_marks_soon(),
            None if self.inbox.has_marks() => self.marks_due = Some(now.since_start + MARKS_LATER),
            _ => {}
        }
    }

    /// With the next round, what was seen is written down too.
    pub(crate) fn write_marks_soon(&mut self) {
        self.marks_now = true;
    }

    /// What the journal has to write now, if anything: all that this turn has brought.
    pub(crate) fn flush(&mut self) -> Option<Output> {
        if self.held.flush(&mut self.journal) || self.marks_now {
            self.inbox.write_marks(&mut self.journal);
            (self.marks_due, self.marks_now) = (None, false);
        }
        self.journal.flush()
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.marks_due
    }
}
