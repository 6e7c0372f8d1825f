//! How far a recipient is with what is kept for it: it says how much may be under way, and no more is.

use std::collections::BTreeMap;

use crate::rows::Key;

/// Whatever the recipient asks for, no more is under way: a lane holds some more frames than that.
const MOST_LETTERS: usize = 64;
const MOST_BYTES: usize = 1024 * 1024;

/// What one neighbour takes.
#[derive(Debug, Default)]
pub(super) struct Door {
    run: u32,
    letters: usize,
    bytes: usize,
    /// Handed over and not taken, with their lengths.
    under_way: BTreeMap<Key, usize>,
    bytes_under_way: usize,
    /// The first slot that was not handed over.
    next: Key,
}

impl Door {
    /// The neighbour says how much it takes at a time. In a new run all that it has not taken is handed over again.
    pub(super) fn asked(&mut self, run: u32, letters: usize, bytes: usize) {
        (self.letters, self.bytes) = (letters.min(MOST_LETTERS), bytes.min(MOST_BYTES));
        if self.run != run {
            self.run = run;
            self.again();
        }
    }

    /// All that was not taken is handed over again.
    pub(super) fn again(&mut self) {
        self.under_way.clear();
        (self.bytes_under_way, self.next) = (0, 0);
    }

    /// The neighbour has it, or it is over.
    pub(super) fn taken(&mut self, slot: Key) {
        if let Some(bytes) = self.under_way.remove(&slot) {
            self.bytes_under_way -= bytes;
        }
    }

    /// Whether something may be handed over now; then it is under way. What is too large for what is asked goes alone.
    pub(super) fn hand_over(&mut self, slot: Key, bytes: usize) -> bool {
        let fits = self.bytes_under_way + bytes <= self.bytes || self.under_way.is_empty();
        if self.under_way.len() >= self.letters || !fits {
            return false;
        }
        self.under_way.insert(slot, bytes);
        self.bytes_under_way += bytes;
        self.next = slot + 1;
        true
    }

    pub(super) fn next(&self) -> Key {
        self.next
    }

    pub(super) fn run(&self) -> u32 {
        self.run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_under_way_than_was_asked_for() {
        let mut door = Door::default();
        assert!(!door.hand_over(1, 1), "nothing was asked for");
        door.asked(1, 2, 100);
        assert!(door.hand_over(1, 60));
        assert!(!door.hand_over(2, 60), "too many bytes");
        assert!(door.hand_over(2, 40));
        assert!(!door.hand_over(3, 0), "too many letters");
        door.taken(1);
        door.taken(1);
        assert!(door.hand_over(3, 60));
        assert_eq!(door.next(), 4);
        door.asked(1, 2, 100);
        assert!(!door.hand_over(4, 0), "the same run goes on");
        door.asked(2, 1_000_000, usize::MAX);
        assert_eq!((door.next(), door.run()), (0, 2), "a new run begins from the beginning");
        assert!(door.hand_over(1, usize::MAX / 2), "what is too large goes alone");
        assert!(!door.hand_over(2, 1));
        door.taken(1);
        assert_eq!((2..1000).take_while(|slot| door.hand_over(*slot, 1)).count(), MOST_LETTERS);
    }
}
