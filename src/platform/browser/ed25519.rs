//! Ed25519 in WebAssembly, as libp2p has it. The browser's own is asynchronous, and not everywhere.

use libp2p::identity::ed25519::{Keypair, PublicKey, SecretKey};

/// Signs.
#[derive(Clone)]
pub(crate) struct Signer(Keypair);

impl Signer {
    /// By the 32 bytes from which a key pair follows (RFC 8032 §5.1.5). `None` when they are no such thing.
    pub(crate) fn new(seed: &[u8]) -> Option<Self> {
        Some(Self(SecretKey::try_from_bytes(seed.to_vec()).ok()?.into()))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }
}

/// Verifies.
#[derive(Clone)]
pub(crate) struct Verifier(PublicKey);

impl Verifier {
    /// By a public key. `None` may mean that it is none; else nothing verifies by it.
    pub(crate) fn new(key: [u8; 32]) -> Option<Self> {
        PublicKey::try_from_bytes(&key).ok().map(Self)
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify(message, signature)
    }
}
