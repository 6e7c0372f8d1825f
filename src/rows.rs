//! What is kept of messages across restarts, as rows: the words in which the core and the store speak. What a row's
//! bytes say is the core's concern ([`crate::core`], `routing::records`), where they lie the store's.

mod changes;

use bytes::Bytes;

pub(crate) use changes::Changes;

/// Which rows a key is looked for among.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Shelf {
    /// Accepted messages that have not ended, by nonce.
    Outbox,
    /// Received messages that the app has not confirmed, by the serial number of the first in the row.
    Inbox,
    /// What was received before, by the number of the sender's window.
    Seen,
    /// Single numbers, by [`Mark`].
    Marks,
    /// What this node keeps for others, by slot.
    Mail,
    /// Where copies of this node's messages are kept for their recipients, by nonce.
    Deposits,
}

impl Shelf {
    /// All shelves, in the order of their declaration.
    pub(crate) const ALL: [Shelf; 6] =
        [Shelf::Outbox, Shelf::Inbox, Shelf::Seen, Shelf::Marks, Shelf::Mail, Shelf::Deposits];

    /// How the shelf is called where it is kept. Stable: it is what an earlier version wrote.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shelf::Outbox => "outbox",
            Shelf::Inbox => "inbox",
            Shelf::Seen => "seen",
            Shelf::Marks => "marks",
            Shelf::Mail => "mail",
            Shelf::Deposits => "deposits",
        }
    }
}

/// Where on its shelf a row lies.
pub(crate) type Key = u64;

/// The keys of [`Shelf::Marks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The serial number of the last received message that the app has confirmed.
    Confirmed = 0,
}

/// What happens to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A row whose key was never used before. Taken away before it was written, it costs nothing.
    Insert(Shelf, Key, Bytes),
    /// A row that may be there already.
    Put(Shelf, Key, Bytes),
    /// A row goes; when it isn't there, nothing happens.
    Remove(Shelf, Key),
}

/// How long a round may wait for company before it is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Haste {
    /// Nobody waits for it: a message that has ended, a confirmation. What is lost of these by a crash is done twice.
    #[default]
    Later,
    /// Somebody waits, but it may well cancel out in a moment: a message that is on its way already.
    Soon,
    /// Something goes on only when it is written.
    Now,
}

/// What an earlier run has left, each shelf in the order of its keys.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) outbox: Vec<(Key, Bytes)>,
    pub(crate) inbox: Vec<(Key, Bytes)>,
    pub(crate) seen: Vec<(Key, Bytes)>,
    pub(crate) marks: Vec<(Key, Bytes)>,
    pub(crate) mail: Vec<(Key, Bytes)>,
    pub(crate) deposits: Vec<(Key, Bytes)>,
}

impl Kept {
    pub(crate) fn shelf_mut(&mut self, shelf: Shelf) -> &mut Vec<(Key, Bytes)> {
        match shelf {
            Shelf::Outbox => &mut self.outbox,
            Shelf::Inbox => &mut self.inbox,
            Shelf::Seen => &mut self.seen,
            Shelf::Marks => &mut self.marks,
            Shelf::Mail => &mut self.mail,
            Shelf::Deposits => &mut self.deposits,
        }
    }
}
