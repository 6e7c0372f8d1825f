//! The signature over a frame, as `proto/cpc.proto` describes it.
//!
//! Invariant: what is signed is the frame's own bytes without the records of the signature, the hop count and the proof.
//! Nothing is decoded and encoded again, so every implementation signs the same bytes whatever fields it knows.

use libp2p::{PeerId, identity::SigningError};
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use super::{
    key::{Author, AuthorKey},
    tree::Hash,
};
use crate::frame::NonceRange;

/// Length of an Ed25519 signature (RFC 8032 §5.1.6), bytes.
pub(crate) const SIGNATURE_LEN: usize = 64;

/// Keeps signatures of frames apart from whatever else the identity key signs.
const DOMAIN: &[u8] = b"cpc-net/1.0.0/msg:";

/// The same for trees of many.
const TREE_DOMAIN: &[u8] = b"cpc-net/1.0.0/batch:";

/// And for what its recipient says has arrived.
const ARRIVAL_DOMAIN: &[u8] = b"cpc-net/1.0.0/arrival:";

/// The signature itself, the hop count, and the proof that leads to a tree's signature.
const UNSIGNED_FIELDS: [u32; 3] = [5, 11, 16];

/// Why a frame's signature doesn't hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SignatureError {
    /// The frame is no protobuf message.
    Malformed(String),
    /// The signature is not the sender's over these bytes.
    Wrong,
}

/// Signs an encoded frame that holds neither signature nor hop count nor proof.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(crate) fn sign_frame(unsigned: &[u8], key: &impl Author) -> Result<Vec<u8>, SigningError> {
    let mut signed = Vec::with_capacity(DOMAIN.len() + unsigned.len());
    signed.extend_from_slice(DOMAIN);
    signed.extend_from_slice(unsigned);
    key.sign(&signed)
}

/// Checks that `signature` is `author`'s over `frame`, the bytes as they were received.
pub(crate) fn verify_frame(frame: &[u8], signature: &[u8], author: &AuthorKey) -> Result<(), SignatureError> {
    let signed = signed_bytes(frame).map_err(|error| SignatureError::Malformed(error.to_string()))?;
    if author.verify(&signed, signature) { Ok(()) } else { Err(SignatureError::Wrong) }
}

/// Signs a tree of `count` messages by its root.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(crate) fn sign_tree(root: &Hash, count: u32, key: &impl Author) -> Result<Vec<u8>, SigningError> {
    key.sign(&tree_head(root, count))
}

/// Checks that `signature` is `author`'s over the tree.
pub(crate) fn verify_tree(root: &Hash, count: u32, signature: &[u8], author: &AuthorKey) -> bool {
    author.verify(&tree_head(root, count), signature)
}

/// Signs that messages of an author have arrived here.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(crate) fn sign_arrival(author: &PeerId, nonces: &[NonceRange], key: &impl Author) -> Result<Vec<u8>, SigningError> {
    key.sign(&arrival(author, nonces))
}

/// Checks that `signature` is `recipient`'s over the arrival of an author's messages.
pub(crate) fn verify_arrival(author: &PeerId, nonces: &[NonceRange], signature: &[u8], recipient: &AuthorKey) -> bool {
    recipient.verify(&arrival(author, nonces), signature)
}

fn arrival(author: &PeerId, nonces: &[NonceRange]) -> Vec<u8> {
    let author = author.to_bytes();
    let mut signed = Vec::with_capacity(ARRIVAL_DOMAIN.len() + author.len() + 16 * nonces.len());
    signed.extend_from_slice(ARRIVAL_DOMAIN);
    signed.extend_from_slice(&author);
    for NonceRange { first, last } in nonces {
        signed.extend_from_slice(&first.to_be_bytes());
        signed.extend_from_slice(&last.to_be_bytes());
    }
    signed
}

fn tree_head(root: &Hash, count: u32) -> Vec<u8> {
    [TREE_DOMAIN, &count.to_be_bytes(), root].concat()
}

/// The domain, then the frame without the records that are not signed.
fn signed_bytes(frame: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    let mut signed = Vec::with_capacity(DOMAIN.len() + frame.len());
    signed.extend_from_slice(DOMAIN);
    append_signed_records(frame, &mut signed)?;
    Ok(signed)
}

/// The frame without the records that are not signed: what the leaf of a tree consists of.
pub(crate) fn signed_records(frame: &[u8]) -> Result<Vec<u8>, SignatureError> {
    let mut signed = Vec::with_capacity(frame.len());
    append_signed_records(frame, &mut signed).map_err(|error| SignatureError::Malformed(error.to_string()))?;
    Ok(signed)
}

fn append_signed_records(frame: &[u8], signed: &mut Vec<u8>) -> Result<(), prost::DecodeError> {
    let mut rest = frame;
    while !rest.is_empty() {
        let record = rest;
        let (field, wire_type): (u32, WireType) = decode_key(&mut rest)?;
        skip_field(wire_type, field, &mut rest, DecodeContext::default())?;
        if !UNSIGNED_FIELDS.contains(&field) {
            signed.extend_from_slice(&record[..record.len() - rest.len()]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::wire::generated::CpcMessage;

    fn public(key: &Keypair) -> AuthorKey {
        AuthorKey::of(&key.public().to_peer_id()).expect("a peer id holds the key")
    }

    fn signed(message: &mut CpcMessage, key: &Keypair) -> Vec<u8> {
        message.signature = sign_frame(&message.encode_to_vec(), key).expect("Ed25519 signs").into();
        message.encode_to_vec()
    }

    #[test]
    fn the_hop_count_may_change_and_nothing_else() {
        let key = Keypair::generate_ed25519();
        let mut message = CpcMessage {
            nonce: 7,
            payload: b"hello".as_slice().into(),
            sender: vec![1; 38].into(),
            ..Default::default()
        };
        let frame = signed(&mut message, &key);
        assert_eq!(verify_frame(&frame, &message.signature, &public(&key)), Ok(()));

        message.hops = 3;
        assert_eq!(verify_frame(&message.encode_to_vec(), &message.signature, &public(&key)), Ok(()));

        message.ttl = 1;
        assert_eq!(
            verify_frame(&message.encode_to_vec(), &message.signature, &public(&key)),
            Err(SignatureError::Wrong)
        );
    }

    #[test]
    fn fields_of_a_later_version_are_covered_too() {
        let key = Keypair::generate_ed25519();
        let mut message = CpcMessage { nonce: 7, ..Default::default() };
        let mut unsigned = message.encode_to_vec();
        prost::encoding::uint32::encode(200, &42, &mut unsigned);
        message.signature = sign_frame(&unsigned, &key).expect("Ed25519 signs").into();

        let mut frame = message.encode_to_vec();
        prost::encoding::uint32::encode(200, &42, &mut frame);
        assert_eq!(verify_frame(&frame, &message.signature, &public(&key)), Ok(()));
        *frame.last_mut().expect("not empty") ^= 1;
        assert_eq!(verify_frame(&frame, &message.signature, &public(&key)), Err(SignatureError::Wrong));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_pass(frame in proptest::collection::vec(any::<u8>(), 0..512), signature in any::<[u8; 32]>()) {
            let key = Keypair::generate_ed25519();
            prop_assert!(verify_frame(&frame, &signature.repeat(2), &public(&key)).is_err());
        }
    }
}
