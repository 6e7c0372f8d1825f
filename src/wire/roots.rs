//! Hash trees whose signature was found good a moment ago: the next post of the same burst needs no second verification.
//!
//! Invariant: what is remembered is the outcome of one exact question, of signer, root, number of leaves and signature
//! together. Whoever asks the same gets the same answer; a bit less alike is asked anew.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use libp2p::PeerId;

use crate::crypto::{AuthorKey, Hash, verify_tree};

/// Trees that are remembered; then the oldest is forgotten, and costs a verification when it comes again.
const MAX_ROOTS: usize = 256;

/// Trees with a good signature.
#[derive(Default)]
pub(crate) struct Roots(Mutex<Known>);

#[derive(Default)]
struct Known {
    good: HashSet<Hash>,
    order: VecDeque<Hash>,
    #[cfg(test)]
    verified: usize,
}

impl Roots {
    /// Whether the signature over a tree is its signer's, whose key is given too.
    pub(super) fn verify(&self, root: &Hash, count: u32, signature: &[u8], signer: &PeerId, key: &AuthorKey) -> bool {
        let question = blake3::Hasher::new()
            .update(root)
            .update(&count.to_be_bytes())
            .update(&signer.to_bytes())
            .update(signature)
            .finalize();
        let question = Hash::from(question);
        if self.known().good.contains(&question) {
            return true;
        }
        // Not under the lock: others may ask meanwhile, the same at worst.
        let good = verify_tree(root, count, signature, key);
        let mut known = self.known();
        #[cfg(test)]
        {
            known.verified += 1;
        }
        if good && known.good.insert(question) {
            known.order.push_back(question);
            if known.order.len() > MAX_ROOTS
                && let Some(oldest) = known.order.pop_front()
            {
                known.good.remove(&oldest);
            }
        }
        good
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many signatures were verified.
    #[cfg(test)]
    pub(super) fn verified(&self) -> usize {
        self.known().verified
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::crypto::sign_tree;

    fn asks(roots: &Roots, root: &Hash, count: u32, signature: &[u8], signer: &Keypair) -> bool {
        let peer = signer.public().to_peer_id();
        roots.verify(root, count, signature, &peer, &AuthorKey::of(&peer).expect("a key"))
    }

    #[test]
    fn only_the_very_same_question_is_answered_from_memory() {
        let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (roots, root) = (Roots::default(), [7; 32]);
        let signature = sign_tree(&root, 3, &key).expect("signs");
        for _ in 0..3 {
            assert!(asks(&roots, &root, 3, &signature, &key));
        }
        assert_eq!(roots.verified(), 1);
        let mut forged = signature.clone();
        forged[10] ^= 1;
        assert!(!asks(&roots, &[8; 32], 3, &signature, &key));
        assert!(!asks(&roots, &root, 4, &signature, &key));
        assert!(!asks(&roots, &root, 3, &forged, &key));
        assert!(!asks(&roots, &root, 3, &signature, &other));
        assert!(!asks(&roots, &root, 3, &forged, &key), "what is bad is not remembered as good");
        assert_eq!(roots.verified(), 6);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (key, roots) = (Keypair::generate_ed25519(), Roots::default());
        let ask = |number: usize| {
            let mut root = [0; 32];
            root[..8].copy_from_slice(&number.to_be_bytes());
            assert!(asks(&roots, &root, 1, &sign_tree(&root, 1, &key).expect("signs"), &key));
        };
        (0..=MAX_ROOTS).for_each(ask);
        ask(MAX_ROOTS);
        assert_eq!(roots.verified(), MAX_ROOTS + 1, "the newest is known");
        ask(0);
        assert_eq!(roots.verified(), MAX_ROOTS + 2, "the oldest is not");
        assert_eq!(roots.known().good.len(), MAX_ROOTS);
    }
}
