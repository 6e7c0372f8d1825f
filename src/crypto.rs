//! What makes messages trustworthy: the signatures over frames, one by one or over a tree of many; and what is sealed to
//! a peer that is away.
//!
//! Between connected peers payloads are not sealed end to end yet: they are protected on every connection by the
//! transport's encryption, also past a relay, but a node that forwards gossip can read it.

mod key;
mod sealing;
mod signature;
mod tree;

pub(crate) use key::{Author, AuthorKey, SigningKey};
pub(crate) use sealing::{MAX_SEALED, MAX_SEALED_CONTENT, Purpose, SealingKey, can_seal_to, is_sealed_len};
pub(crate) use signature::{
    SIGNATURE_LEN, SignatureError, sign_arrival, sign_frame, sign_tree, signed_records, verify_arrival, verify_frame,
    verify_tree,
};
pub(crate) use tree::{HASH_LEN, Hash, LeafHasher, MAX_LEAVES, path, root, root_of};
