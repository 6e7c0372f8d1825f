//! The hash tree of a payload, grown from left to right: each byte is hashed once, in its chunk, and the hashes of the
//! chunks become the payload's own BLAKE3 hash.
//!
//! What has been verified is remembered by one hash for each one-bit of its length in units: some twenty for a gigabyte,
//! whatever the chunks were.

use blake3::{
    Hasher,
    hazmat::{ChainingValue, HasherExt as _, Mode, max_subtree_len, merge_subtrees_non_root, merge_subtrees_root},
};

use crate::transfer::PayloadHash;

/// The smallest chunk but the last, bytes. What was verified ends at a multiple of it, so it is what a cut may cost; and
/// it is enough for BLAKE3's widest code, sixteen of its own chunks side by side.
pub(crate) const UNIT: u64 = 16 * 1024;

/// The largest chunk that anybody may send, bytes.
pub(crate) const MAX_CHUNK: u64 = 1024 * 1024;

/// What is known of the beginning of a payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    length: u64,
    /// Chaining values of the subtrees so far, the largest and leftmost first. The last two may belong together: they
    /// are merged once it is known that something follows, since the top of the tree is hashed differently.
    stack: Vec<ChainingValue>,
    /// The payload's hash, once the last chunk is in.
    whole: Option<PayloadHash>,
}

impl Tree {
    /// How much is in it.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The payload's hash; `None` while the last chunk is missing.
    pub(crate) fn whole(&self) -> Option<PayloadHash> {
        self.whole
    }

    /// Whether a chunk of this length can follow.
    pub(crate) fn fits(&self, length: u64, last: bool) -> bool {
        if !self.length.is_multiple_of(UNIT) || self.whole.is_some() {
            return false;
        }
        let within = length <= MAX_CHUNK && max_subtree_len(self.length).is_none_or(|most| length <= most);
        // A payload of nothing is one chunk of nothing; nothing at the end of another would be a chunk for no reason.
        let shape = match last {
            true => length > 0 || self.length == 0,
            false => length.is_power_of_two() && length >= UNIT,
        };
        within && shape
    }

    /// The longest chunk that may follow, at most `limit`: what lies before it must be a multiple of it.
    pub(crate) fn longest(&self, limit: u64) -> u64 {
        let most = limit.clamp(UNIT, MAX_CHUNK);
        let most = 1 << most.ilog2();
        max_subtree_len(self.length).map_or(most, |subtree| most.min(subtree))
    }

    /// The hash of a chunk that follows here.
    pub(crate) fn hash(&self, chunk: &[u8], last: bool) -> ChainingValue {
        chunk_hash(self.length, chunk, last)
    }

    /// Adds a chunk that [`fits`](Self::fits), by its hash.
    pub(crate) fn push(&mut self, length: u64, hash: ChainingValue, last: bool) {
        debug_assert!(self.fits(length, last), "a chunk of {length} bytes at {}", self.length);
        self.merge();
        if last {
            self.whole = Some(self.root_with(hash));
        }
        self.stack.push(hash);
        self.length += length;
    }

    /// What stands for this beginning in a few bytes. Two beginnings of the same length have the same one if, and only
    /// if, they are the same.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut merged = self.clone();
        merged.merge();
        *blake3::hash(merged.stack.as_flattened()).as_bytes()
    }

    /// Puts together what belongs together: afterwards there is one subtree for each one-bit of the length.
    fn merge(&mut self) {
        let left = usize::try_from((self.length / UNIT).count_ones()).expect("at most 64");
        while self.stack.len() > left.max(1)
            && let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop())
        {
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }

    fn root_with(&self, last: ChainingValue) -> PayloadHash {
        let Some((top, rest)) = self.stack.split_first() else {
            // The only chunk has been hashed as the whole that it is.
            return PayloadHash(last);
        };
        let right = rest.iter().rev().fold(last, |right, left| merge_subtrees_non_root(left, &right, Mode::Hash));
        PayloadHash(*merge_subtrees_root(top, &right, Mode::Hash).as_bytes())
    }
}

/// The hash of a chunk that begins at `offset`.
pub(crate) fn chunk_hash(offset: u64, chunk: &[u8], last: bool) -> ChainingValue {
    if last && offset == 0 {
        return *blake3::hash(chunk).as_bytes();
    }
    Hasher::new().set_input_offset(offset).update(chunk).finalize_non_root()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Cuts a payload as some sender might.
    fn cut(payload: &[u8], mut sizes: impl Iterator<Item = u64>) -> Tree {
        let mut tree = Tree::default();
        loop {
            let at = usize::try_from(tree.length()).expect("fits");
            let length = tree.longest(sizes.next().unwrap_or(UNIT));
            let end = payload.len().min(at + usize::try_from(length).expect("fits"));
            let last = end == payload.len();
            let chunk = &payload[at..end];
            assert!(tree.fits(chunk.len() as u64, last));
            tree.push(chunk.len() as u64, tree.hash(chunk, last), last);
            if last {
                return tree;
            }
        }
    }

    fn payload(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 % 251) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn however_it_is_cut_the_hash_is_that_of_the_payload(
            length in 0usize..2_000_000,
            sizes in prop::collection::vec(0u32..7, 1..20),
        ) {
            let payload = payload(length);
            let tree = cut(&payload, sizes.iter().cycle().map(|size| UNIT << size));
            prop_assert_eq!(tree.whole(), Some(PayloadHash::of(&payload)));
            prop_assert_eq!(tree.length(), length as u64);
        }

        #[test]
        fn the_same_beginning_has_the_same_digest_however_it_was_cut(units in 1u64..40, one in 0u32..6, other in 0u32..6) {
            let payload = payload(usize::try_from(units * UNIT).expect("fits"));
            let begin = |size: u32, payload: &[u8]| {
                let mut tree = Tree::default();
                while tree.length() < units * UNIT {
                    let left = units * UNIT - tree.length();
                    let length = tree.longest((UNIT << size).min(left));
                    let at = usize::try_from(tree.length()).expect("fits");
                    let chunk = &payload[at..at + usize::try_from(length).expect("fits")];
                    tree.push(length, tree.hash(chunk, false), false);
                }
                tree
            };
            prop_assert_eq!(begin(one, &payload).digest(), begin(other, &payload).digest());
            let mut changed = payload.clone();
            changed[usize::try_from(units).expect("fits") * 7919 % payload.len()] ^= 1;
            prop_assert_ne!(begin(one, &payload).digest(), begin(one, &changed).digest());
        }
    }

    #[test]
    fn chunks_that_are_no_subtrees_do_not_fit() {
        let mut tree = Tree::default();
        assert!(tree.fits(0, true), "an empty payload is one empty chunk");
        for length in [0, 1, UNIT - 1, UNIT + 1, 3 * UNIT, 2 * MAX_CHUNK] {
            assert!(!tree.fits(length, false), "{length}");
        }
        tree.push(UNIT, [1; 32], false);
        assert!(!tree.fits(2 * UNIT, false), "it would begin in the middle of a subtree");
        assert!(!tree.fits(UNIT + 1, true), "likewise");
        assert!(!tree.fits(0, true), "the last chunk was the last one");
        assert!(tree.fits(1, true));
        tree.push(1, [2; 32], true);
        assert!(!tree.fits(UNIT, false), "nothing follows the last one");
    }
}
