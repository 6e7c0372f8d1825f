//! Hash trees over messages that share a signature: the Merkle tree of RFC 9162 §2.1 with SHA-256.
//!
//! Invariant: leaves and nodes are hashed behind different first bytes, an odd one out moves up as it is instead of being
//! doubled, and the number of leaves is signed with the root. So one tree has one shape, and a path proves one leaf at one
//! place.

use sha2::{Digest as _, Sha256};

/// A leaf's or a node's hash.
pub(crate) type Hash = [u8; HASH_LEN];

/// Length of a SHA-256 hash, bytes.
pub(crate) const HASH_LEN: usize = 32;

/// Leaves of the largest tree.
pub(crate) const MAX_LEAVES: u32 = 4096;

const LEAF: u8 = 0;
const NODE: u8 = 1;

/// Hashes leaves that begin with the same bytes; those are hashed once.
#[derive(Clone)]
pub(crate) struct LeafHasher(Sha256);

impl LeafHasher {
    /// For leaves that begin with `prefix`.
    pub(crate) fn new(prefix: &[u8]) -> Self {
        Self(Sha256::new().chain_update([LEAF]).chain_update(prefix))
    }

    /// The hash of the leaf that goes on with `rest`.
    pub(crate) fn hash(&self, rest: &[u8]) -> Hash {
        self.0.clone().chain_update(rest).finalize().into()
    }
}

/// The root over the leaves, which the call uses up as its working space. `None` without leaves.
pub(crate) fn root(leaves: &mut [Hash]) -> Option<Hash> {
    let mut len = leaves.len();
    while len > 1 {
        level_up(leaves, &mut len);
    }
    leaves.first().copied()
}

/// The hashes beside the way from a leaf to the root, from below: what [`root_of`] needs.
pub(crate) fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    let (mut level, mut len, mut at) = (leaves.to_vec(), leaves.len(), index);
    let mut siblings = Vec::new();
    while len > 1 {
        if let Some(sibling) = level[..len].get(at ^ 1) {
            siblings.push(*sibling);
        }
        level_up(&mut level, &mut len);
        at /= 2;
    }
    siblings
}

/// The root to which a path leads from a leaf (RFC 9162 §2.1.3.2). `None` when a tree of `count` leaves has no such path.
pub(crate) fn root_of(leaf: Hash, index: u32, count: u32, siblings: &[Hash]) -> Option<Hash> {
    if index >= count {
        return None;
    }
    let (mut at, mut last, mut hash, mut siblings) = (index, count - 1, leaf, siblings.iter());
    while last > 0 {
        // The last of an odd level has no sibling and moves up as it is.
        if at % 2 == 1 {
            hash = node(siblings.next()?, &hash);
        } else if at < last {
            hash = node(&hash, siblings.next()?);
        }
        (at, last) = (at / 2, last / 2);
    }
    siblings.next().is_none().then_some(hash)
}

/// Replaces the first `len` hashes by the level above them.
fn level_up(hashes: &mut [Hash], len: &mut usize) {
    let above = len.div_ceil(2);
    for at in 0..above {
        hashes[at] = match hashes[..*len].get(2 * at + 1) {
            Some(right) => node(&hashes[2 * at], right),
            None => hashes[2 * at],
        };
    }
    *len = above;
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0; 1 + 2 * HASH_LEN];
    bytes[0] = NODE;
    bytes[1..=HASH_LEN].copy_from_slice(left);
    bytes[1 + HASH_LEN..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|at| LeafHasher::new(b"leaf ").hash(&at.to_be_bytes())).collect()
    }

    /// The definition itself (RFC 9162 §2.1.1): split at the largest power of two below the number of leaves.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn known_hashes() {
        // RFC 9162 §2.1.1 by another implementation of SHA-256: `printf '\0abc' | sha256sum`.
        let hex = |hash: Hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(LeafHasher::new(b"a").hash(b"bc")),
            "609f6e36d2405585188d5cfd761f407c7cc46a7d3f314c88270469dde315fcd1"
        );
        assert_eq!(root(&mut []), None);
    }

    proptest! {
        #[test]
        fn each_leaf_proves_itself_and_only_at_its_place(count in 1_usize..130, index in any::<prop::sample::Index>()) {
            let (all, index) = (leaves(count), index.index(count));
            let top = root(&mut all.clone()).expect("not empty");
            prop_assert_eq!(top, by_definition(&all));
            let siblings = path(&all, index);
            let (at, size) = (u32::try_from(index).expect("small"), u32::try_from(count).expect("small"));
            prop_assert_eq!(root_of(all[index], at, size, &siblings), Some(top));
            for other in (0..size).filter(|other| *other != at) {
                prop_assert_ne!(root_of(all[index], other, size, &siblings), Some(top));
            }
            if let Some((_, fewer)) = siblings.split_last() {
                prop_assert_eq!(root_of(all[index], at, size, fewer), None);
            }
            let more = [&siblings[..], &[top]].concat();
            prop_assert_eq!(root_of(all[index], at, size, &more), None);
        }
    }
}
