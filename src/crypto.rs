//! What makes messages trustworthy. Today: the signatures over frames, one by one or over a tree of many.
//!
//! End-to-end sealing of payloads is not here yet; until it is, a payload is protected on every connection by the
//! transport's encryption, also past a relay, but a node that forwards gossip can read it.

mod key;
mod signature;
mod tree;

pub(crate) use key::{Author, AuthorKey, SigningKey};
pub(crate) use signature::{
    SIGNATURE_LEN, SignatureError, sign_frame, sign_tree, signed_records, verify_frame, verify_tree,
};
pub(crate) use tree::{HASH_LEN, Hash, LeafHasher, MAX_LEAVES, path, root, root_of};
