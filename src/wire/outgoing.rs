//! Frames as this node makes them.
//!
//! What is signed of a message is the same whether it travels alone or in a batch: the records of its author and
//! recipient, then its content. In a batch the lane tells the first two, and they are left out of the bytes.

use bytes::{BufMut as _, Bytes};
use libp2p::{PeerId, identity::SigningError};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};

use super::{
    compression::compressed,
    generated::{
        self, CpcMessage, ErrorReport, PeerList, Proof,
        cpc_message::{Encoding, Kind, Propagation, Type},
    },
    kinds::{to_wire_kind, to_wire_priority},
    mail::{encode_answers, encode_piece},
    posts::encode_note,
};
use crate::{
    crypto::{Author, Hash, LeafHasher, MAX_LEAVES, path, root, sign_frame, sign_tree},
    frame::{Addressing, ControlContent, Letter, NonceRange, Passing},
    message::Priority,
};

// The fields' numbers in `proto/cpc.proto`.
const NONCE: u32 = 1;
const PRIORITY: u32 = 2;
const MESSAGE_TYPE: u32 = 3;
const PAYLOAD: u32 = 4;
const SIGNATURE: u32 = 5;
const SENDER: u32 = 6;
const RECIPIENT: u32 = 7;
const GROUP: u32 = 8;
const CREATED_AT: u32 = 9;
const TTL: u32 = 10;
const KIND: u32 = 12;
const NEIGHBORS: u32 = 14;
const ENCODING: u32 = 15;
const PROOF: u32 = 16;
const PROPAGATION: u32 = 18;

/// Builds and signs the frame of an app's message, for whoever reads it.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(crate) fn message_frame(letter: &Letter, key: &impl Author) -> Result<Bytes, SigningError> {
    let mut frame = unsigned(letter, &key.peer_id());
    let signature = sign_frame(&frame, key)?;
    append_bytes(SIGNATURE, &signature, &mut frame);
    Ok(frame.into())
}

/// Builds and signs the frame of a post, which everybody passes on as it is.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(crate) fn post_frame(letter: &Letter, passing: Passing, key: &impl Author) -> Result<Bytes, SigningError> {
    let mut frame = unsigned_post(letter, passing, &key.peer_id());
    let signature = sign_frame(&frame, key)?;
    append_bytes(SIGNATURE, &signature, &mut frame);
    Ok(frame.into())
}

/// Builds the frames of posts under one signature. Each of them proves itself alone, wherever it goes; a burst of `n`
/// costs one signature and `2 n` small hashes. One alone has a signature of its own, which is shorter.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(crate) fn post_frames(posts: &[(&Letter, Passing)], key: &impl Author) -> Result<Vec<Bytes>, SigningError> {
    let (author, hasher) = (key.peer_id(), LeafHasher::new(&[]));
    let mut frames = Vec::with_capacity(posts.len());
    for posts in posts.chunks(MAX_LEAVES as usize) {
        if let [(letter, passing)] = posts {
            frames.push(post_frame(letter, *passing, key)?);
            continue;
        }
        let unsigned = posts.iter().map(|(letter, passing)| unsigned_post(letter, *passing, &author));
        let unsigned = unsigned.collect::<Vec<_>>();
        let leaves = unsigned.iter().map(|records| hasher.hash(records)).collect::<Vec<_>>();
        let signature = signed_root(&leaves, key)?;
        frames.extend(
            unsigned.into_iter().enumerate().map(|(index, records)| proven(records, &signature, &leaves, index)),
        );
    }
    Ok(frames)
}

/// All records of a post but its signature.
fn unsigned_post(letter: &Letter, passing: Passing, author: &PeerId) -> Vec<u8> {
    let mut records = unsigned(letter, author);
    let propagation = match passing {
        Passing::Gossip => Propagation::Gossip,
        Passing::Flood => Propagation::Flood,
    };
    append_number(PROPAGATION, number(propagation.into()), &mut records);
    records
}

/// The signature over the tree of these leaves, of which there is at least one.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(super) fn signed_root(leaves: &[Hash], key: &impl Author) -> Result<Vec<u8>, SigningError> {
    let root = root(&mut leaves.to_vec()).expect("whoever signs has something to sign");
    sign_tree(&root, count(leaves), key)
}

/// A frame of its own out of the records that a leaf covers, the tree's signature and the way there.
pub(super) fn proven(mut records: Vec<u8>, signature: &[u8], leaves: &[Hash], index: usize) -> Bytes {
    let proof = Proof {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        count: count(leaves),
        siblings: path(leaves, index).concat().into(),
    };
    append_bytes(SIGNATURE, signature, &mut records);
    append_bytes(PROOF, &proof.encode_to_vec(), &mut records);
    records.into()
}

fn count(leaves: &[Hash]) -> u32 {
    u32::try_from(leaves.len()).expect("a tree has at most MAX_LEAVES")
}

/// All records of a message but its signature.
fn unsigned(letter: &Letter, author: &PeerId) -> Vec<u8> {
    let mut records = Vec::with_capacity(letter.payload.len() + 256);
    append_sender(author, &mut records);
    if let Addressing::Peer(recipient) = &letter.addressing {
        append_recipient(recipient, &mut records);
    }
    append_content(letter, false, &mut records);
    records
}

pub(super) fn append_sender(sender: &PeerId, records: &mut Vec<u8>) {
    append_bytes(SENDER, &sender.to_bytes(), records);
}

pub(super) fn append_recipient(recipient: &PeerId, records: &mut Vec<u8>) {
    append_bytes(RECIPIENT, &recipient.to_bytes(), records);
}

/// Appends the records of a message but those of its author and recipient. `compress`: the payload may be written
/// shorter, since who reads it is known to understand that.
pub(super) fn append_content(letter: &Letter, compress: bool, records: &mut Vec<u8>) {
    let (message_type, kind) = to_wire_kind(letter.kind);
    append_number(NONCE, letter.nonce, records);
    append_number(PRIORITY, number(to_wire_priority(letter.priority).into()), records);
    append_number(MESSAGE_TYPE, number(message_type.into()), records);
    let block = if compress { compressed(&letter.payload) } else { None };
    let payload = block.as_deref().unwrap_or(&letter.payload);
    if !payload.is_empty() {
        append_bytes(PAYLOAD, payload, records);
    }
    if let Addressing::Group(name) = &letter.addressing {
        append_bytes(GROUP, name.as_str().as_bytes(), records);
    }
    append_number(CREATED_AT, letter.created_at, records);
    let ttl = letter.ttl.map_or(0, |ttl| u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX).max(1));
    append_number(TTL, ttl.into(), records);
    append_number(KIND, number(kind), records);
    append_number(NEIGHBORS, (letter.addressing == Addressing::Neighbors).into(), records);
    if block.is_some() {
        append_number(ENCODING, number(Encoding::Lz4.into()), records);
    }
}

/// Enumerations are written as 64-bit numbers in two's complement.
fn number(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

/// Zero is what a field holds that isn't there.
fn append_number(field: u32, value: u64, records: &mut Vec<u8>) {
    if value != 0 {
        encode_key(field, WireType::Varint, records);
        encode_varint(value, records);
    }
}

pub(super) fn append_bytes(field: u32, bytes: &[u8], records: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, records);
    encode_varint(bytes.len() as u64, records);
    records.put_slice(bytes);
}

/// A frame from neighbour to neighbour, for which the connection vouches.
pub(crate) fn control_frame(content: ControlContent) -> Bytes {
    let priority = to_wire_priority(content.priority()).into();
    let mut frame = CpcMessage { priority, message_type: Type::Control.into(), ..Default::default() };
    match content {
        ControlContent::Acknowledge(ranges) => {
            frame.kind = Kind::Acknowledge.into();
            frame.acknowledged = ranges.iter().map(to_wire_range).collect();
        }
        ControlContent::Goodbye => frame.kind = Kind::Goodbye.into(),
        ControlContent::Error(rejection) => {
            frame.kind = Kind::Error.into();
            let report = ErrorReport {
                reason: rejection.reason.as_str().to_owned(),
                detail: rejection.detail,
                nonce: rejection.nonce.unwrap_or(0),
            };
            frame.payload = report.encode_to_vec().into();
        }
        ControlContent::Spread(note) => {
            frame.kind = Kind::Spread.into();
            frame.payload = encode_note(note).into();
        }
        ControlContent::Answers(answers) => {
            frame.kind = Kind::Mail.into();
            frame.payload = encode_answers(answers).into();
        }
        ControlContent::Piece(piece) => {
            frame.kind = Kind::Mail.into();
            frame.payload = encode_piece(*piece).into();
        }
        ControlContent::PeerList(envelopes) => {
            frame.message_type = Type::Discovery.into();
            frame.kind = Kind::PeerList.into();
            frame.payload = PeerList { signed_peer_records: envelopes }.encode_to_vec().into();
        }
    }
    frame.encode_to_vec().into()
}

/// A frame from neighbour to neighbour of this kind.
pub(super) fn control_frame_of(kind: Kind, priority: Priority, payload: Vec<u8>) -> Bytes {
    let (priority, message_type) = (to_wire_priority(priority).into(), Type::Control.into());
    let (kind, payload) = (kind.into(), payload.into());
    CpcMessage { priority, message_type, kind, payload, ..Default::default() }.encode_to_vec().into()
}

pub(super) fn to_wire_range(&NonceRange { first, last }: &NonceRange) -> generated::NonceRange {
    generated::NonceRange { first, last }
}
