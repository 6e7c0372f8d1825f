//! What makes messages trustworthy. Today: the signatures over frames.
//!
//! End-to-end sealing of payloads is not here yet; until it is, a payload is protected on every connection by the
//! transport's encryption, also past a relay, but a node that forwards gossip can read it.

mod signature;

pub(crate) use signature::{SIGNATURE_LEN, SignatureError, sign_frame, verify_frame};
