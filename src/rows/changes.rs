//! Changes that wait to be written, merged row by row.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;

use super::{Change, Key, Shelf};

/// What is to become of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    /// `None`: it goes.
    value: Option<Bytes>,
    /// It has never been on the disk, so taking it away again costs nothing.
    fresh: bool,
}

/// Changes, merged: the last word on each row.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Changes {
    rows: BTreeMap<(Shelf, Key), Row>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows in the order of their shelves and keys; `None` for those that go.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Shelf, Key, Option<&Bytes>)> {
        self.rows.iter().map(|((shelf, key), row)| (*shelf, *key, row.value.as_ref()))
    }

    /// These changes and then those. A commit that failed may have reached the disk all the same, so nothing of these
    /// counts as never written.
    pub(crate) fn then(mut self, later: Changes) -> Changes {
        for row in self.rows.values_mut() {
            row.fresh = false;
        }
        for (place, mut row) in later.rows {
            row.fresh &= !self.rows.contains_key(&place);
            self.rows.insert(place, row);
        }
        self
    }

    fn add(&mut self, change: Change) {
        match change {
            Change::Insert(shelf, key, value) => {
                self.rows.insert((shelf, key), Row { value: Some(value), fresh: true });
            }
            Change::Put(shelf, key, value) => match self.rows.entry((shelf, key)) {
                Entry::Occupied(mut row) => row.get_mut().value = Some(value),
                Entry::Vacant(row) => drop(row.insert(Row { value: Some(value), fresh: false })),
            },
            Change::Remove(shelf, key) => match self.rows.entry((shelf, key)) {
                Entry::Occupied(row) if row.get().fresh => drop(row.remove()),
                Entry::Occupied(mut row) => row.get_mut().value = None,
                Entry::Vacant(row) => drop(row.insert(Row { value: None, fresh: false })),
            },
        }
    }
}

impl Extend<Change> for Changes {
    fn extend<I: IntoIterator<Item = Change>>(&mut self, changes: I) {
        changes.into_iter().for_each(|change| self.add(change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(list: impl IntoIterator<Item = Change>) -> Changes {
        let mut changes = Changes::default();
        changes.extend(list);
        changes
    }

    fn insert(key: Key) -> Change {
        Change::Insert(Shelf::Outbox, key, Bytes::from_static(b"new"))
    }

    #[test]
    fn what_comes_and_goes_before_it_is_written_is_nothing() {
        assert!(changes([insert(1), Change::Remove(Shelf::Outbox, 1)]).is_empty());
        let overwritten = Change::Put(Shelf::Outbox, 1, Bytes::from_static(b"newer"));
        assert!(changes([insert(1), overwritten, Change::Remove(Shelf::Outbox, 1)]).is_empty());
        let put = Change::Put(Shelf::Seen, 1, Bytes::from_static(b"window"));
        let gone = changes([put, Change::Remove(Shelf::Seen, 1)]);
        assert_eq!(gone.iter().collect::<Vec<_>>(), [(Shelf::Seen, 1, None)], "it may be on the disk");
    }

    #[test]
    fn a_commit_that_failed_may_have_been_written() {
        let failed = changes([insert(1), insert(2)]);
        let mut again = failed.then(changes([Change::Remove(Shelf::Outbox, 1), insert(3)]));
        again.extend([Change::Remove(Shelf::Outbox, 2), Change::Remove(Shelf::Outbox, 3)]);
        let expected = [(Shelf::Outbox, 1, None), (Shelf::Outbox, 2, None)];
        assert_eq!(again.iter().collect::<Vec<_>>(), expected);
    }
}
