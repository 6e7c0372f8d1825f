//! Ed25519 by AWS-LC, whose arithmetic is written for the processor: it takes half the time of a portable one. The tree has
//! it anyway, for DTLS and QUIC.

use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

/// Signs.
#[derive(Clone)]
pub(crate) struct Signer(Arc<Ed25519KeyPair>);

impl Signer {
    /// By the 32 bytes from which a key pair follows (RFC 8032 §5.1.5). `None` when they are no such thing.
    pub(crate) fn new(seed: &[u8]) -> Option<Self> {
        Some(Self(Arc::new(Ed25519KeyPair::from_seed_unchecked(seed).ok()?)))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// Verifies.
#[derive(Clone)]
pub(crate) struct Verifier([u8; 32]);

impl Verifier {
    /// By a public key. `None` may mean that it is none; else nothing verifies by it.
    #[allow(clippy::unnecessary_wraps, reason = "as its twin, which looks at once")]
    pub(crate) fn new(key: [u8; 32]) -> Option<Self> {
        Some(Self(key))
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}
