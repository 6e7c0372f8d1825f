//! Many messages under one signature, as they travel on a lane.
//!
//! Invariant: a message that comes out of a batch is its sender's as much as one with a signature of its own: its leaf
//! covers every bit of it, also the records that the lane implies. A batch as a whole is either signed or refused; what
//! is wrong with one of its messages concerns that one only.

use std::ops::Range;

use bytes::Bytes;
use libp2p::{PeerId, identity::SigningError};
use prost::{
    Message as _,
    encoding::{
        DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
        skip_field,
    },
};

use super::{
    frame::{Author, from_wire_range, incoming, malformed, wrong_signature},
    generated::{
        CpcMessage, NonceRange as WireRange,
        cpc_message::{Kind, Type},
    },
    outgoing::{append_content, append_recipient, append_sender, proven, signed_root, to_wire_range},
};
use crate::{
    crypto::{Author as Signing, AuthorKey, Hash, LeafHasher, MAX_LEAVES, SIGNATURE_LEN, root, verify_tree},
    event::RejectReason,
    frame::{Addressing, Content, Incoming, Letter, NonceRange, Rejection},
    message::Authenticity,
};

// Fields of the frame around a batch.
const MESSAGE_TYPE: u32 = 3;
const KIND: u32 = 12;
const ACKNOWLEDGED: u32 = 13;
const BATCH: u32 = 17;
// Fields of the batch.
const SIGNATURE: u32 = 1;
const MESSAGES: u32 = 2;

/// Fields that a message in a batch can't have: its own signature, author and proof, what only neighbours tell each
/// other, and what is not signed.
const FOREIGN_FIELDS: u32 = 1 << 5 | 1 << 6 | 1 << 11 | 1 << 13 | 1 << 16 | 1 << 17;

/// Fields that say whom a message is for. Without them it is for who reads the lane.
const ADDRESSING_FIELDS: u32 = 1 << 7 | 1 << 8 | 1 << 14;

/// The two ends of a lane's direction, and what they imply of its messages.
#[derive(Clone)]
pub(super) struct Ends {
    sender: PeerId,
    recipient: PeerId,
    /// Hashes a message for the recipient, which it doesn't name.
    to_recipient: LeafHasher,
    /// Hashes a message that says whom it is for.
    to_others: LeafHasher,
}

impl Ends {
    pub(super) fn new(sender: PeerId, recipient: PeerId) -> Self {
        let mut implied = Vec::new();
        append_sender(&sender, &mut implied);
        let to_others = LeafHasher::new(&implied);
        append_recipient(&recipient, &mut implied);
        Self { sender, recipient, to_recipient: LeafHasher::new(&implied), to_others }
    }

    fn hash(&self, fields: u32, message: &[u8]) -> Hash {
        let hasher = if fields & ADDRESSING_FIELDS == 0 { &self.to_recipient } else { &self.to_others };
        hasher.hash(message)
    }
}

/// A batch that is being filled.
#[derive(Default)]
pub(super) struct Filling {
    /// The records of the messages, one behind the other.
    messages: Vec<u8>,
    leaves: Vec<Hash>,
}

impl Filling {
    /// Adds a message. False when a lane can't carry it like that: it is for everybody, and the lane would imply a
    /// recipient. The fullness is the caller's to watch.
    pub(super) fn add(&mut self, letter: &Letter, ends: &Ends) -> bool {
        let hasher = match &letter.addressing {
            Addressing::Anyone => return false,
            Addressing::Peer(peer) if *peer == ends.recipient => &ends.to_recipient,
            Addressing::Peer(_) | Addressing::Neighbors | Addressing::Group(_) => &ends.to_others,
        };
        encode_key(MESSAGES, WireType::LengthDelimited, &mut self.messages);
        let start = self.messages.len();
        match &letter.addressing {
            Addressing::Peer(peer) if *peer != ends.recipient => append_recipient(peer, &mut self.messages),
            _ => {}
        }
        append_content(letter, true, &mut self.messages);
        self.leaves.push(hasher.hash(&self.messages[start..]));
        // The length is known only now; its place is made by moving the message up.
        let length = self.messages.len() - start;
        let prefix = encoded_len_varint(length as u64);
        self.messages.resize(start + prefix + length, 0);
        self.messages.copy_within(start..start + length, start + prefix);
        encode_varint(length as u64, &mut &mut self.messages[start..start + prefix]);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Bytes of what was added.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.leaves.len() >= MAX_LEAVES as usize
    }

    /// Signs what was added and appends the frame behind its length, with acknowledgements to travel along.
    ///
    /// # Errors
    /// When the key can't sign, which Ed25519 keys always can.
    pub(super) fn seal(
        &mut self,
        acknowledged: &[NonceRange],
        key: &impl Signing,
        out: &mut Vec<u8>,
    ) -> Result<(), SigningError> {
        let signature = signed_root(&self.leaves, key)?;
        let mut head = Vec::with_capacity(16);
        encode_key(MESSAGE_TYPE, WireType::Varint, &mut head);
        encode_varint(Type::Control as u64, &mut head);
        encode_key(KIND, WireType::Varint, &mut head);
        encode_varint(Kind::Batch as u64, &mut head);
        for range in acknowledged.iter().map(to_wire_range) {
            encode_key(ACKNOWLEDGED, WireType::LengthDelimited, &mut head);
            encode_varint(range.encoded_len() as u64, &mut head);
            range.encode_raw(&mut head);
        }
        let signature_len = key_len(SIGNATURE) + encoded_len_varint(signature.len() as u64) + signature.len();
        let batch_len = signature_len + self.messages.len();
        encode_key(BATCH, WireType::LengthDelimited, &mut head);
        encode_varint(batch_len as u64, &mut head);

        let frame_len = head.len() + batch_len;
        out.reserve(encoded_len_varint(frame_len as u64) + frame_len);
        encode_varint(frame_len as u64, out);
        out.extend_from_slice(&head);
        encode_key(SIGNATURE, WireType::LengthDelimited, out);
        encode_varint(signature.len() as u64, out);
        out.extend_from_slice(&signature);
        out.extend_from_slice(&self.messages);
        self.messages.clear();
        self.leaves.clear();
        Ok(())
    }
}

/// What reads the batches of one neighbour.
#[derive(Clone)]
pub(super) struct Opener {
    ends: Ends,
    /// `None` when the neighbour's peer id doesn't hold its key; then it can't sign anything.
    key: Option<AuthorKey>,
    max_payload: usize,
}

impl Opener {
    pub(super) fn new(neighbour: PeerId, local: PeerId, max_payload: usize) -> Self {
        Self { ends: Ends::new(neighbour, local), key: AuthorKey::of(&neighbour), max_payload }
    }

    /// Opens a batch: one result for each of its messages, behind those for the acknowledgements that came along. `None`
    /// when the frame is no batch. Costs one signature verification.
    pub(super) fn open(&self, frame: &[u8]) -> Option<Vec<Result<Incoming, Rejection>>> {
        match Outer::read(frame) {
            Ok(None) => None,
            Ok(Some(outer)) => Some(self.read(&outer).unwrap_or_else(|rejection| vec![Err(rejection)])),
            Err(rejection) => Some(vec![Err(rejection)]),
        }
    }

    /// One message of a batch as a frame of its own, which proves itself to whoever knows its sender's peer id. `None`
    /// when there is no such message, or no batch. The batch itself is not verified again.
    #[cfg_attr(not(test), allow(dead_code, reason = "offered to what keeps messages for others or passes them on"))]
    pub(super) fn take_out(&self, frame: &[u8], index: usize) -> Option<Bytes> {
        let outer = Outer::read(frame).ok()??;
        let batch = SignedMessages::read(outer.batch).ok()?;
        let messages = batch.messages.iter().map(|range| &outer.batch[range.clone()]);
        let leaves = messages.map(|message| self.ends.hash(fields_of(message).0, message)).collect::<Vec<_>>();
        let message = &outer.batch[batch.messages.get(index)?.clone()];
        let mut records = Vec::with_capacity(message.len() + 512);
        append_sender(&self.ends.sender, &mut records);
        if fields_of(message).0 & ADDRESSING_FIELDS == 0 {
            append_recipient(&self.ends.recipient, &mut records);
        }
        records.extend_from_slice(message);
        Some(proven(records, batch.signature, &leaves, index))
    }

    fn read(&self, outer: &Outer<'_>) -> Result<Vec<Result<Incoming, Rejection>>, Rejection> {
        let batch = SignedMessages::read(outer.batch)?;
        let messages = batch.messages.iter().map(|range| &outer.batch[range.clone()]);
        let scanned = messages.clone().map(fields_of).collect::<Vec<_>>();
        let hashed = messages.clone().zip(&scanned).map(|(message, (fields, _))| self.ends.hash(*fields, message));
        let mut leaves = hashed.collect::<Vec<_>>();
        let count = u32::try_from(leaves.len()).map_err(|_| malformed("a batch too large".into()))?;
        let root = root(&mut leaves).ok_or_else(|| malformed("a batch of nothing".into()))?;
        let key = self.key.as_ref().ok_or_else(|| wrong_signature("the neighbour's peer id doesn't hold its key"))?;
        if !verify_tree(&root, count, batch.signature, key) {
            return Err(wrong_signature(format!("the signature is not the neighbour's over this batch of {count}")));
        }
        let mut results = Vec::with_capacity(batch.messages.len() + 1);
        if !outer.acknowledged.is_empty() {
            results.push(Ok(Incoming { content: Content::Nothing, acknowledged: outer.acknowledged.clone() }));
        }
        results.extend(
            messages.zip(scanned).map(|(message, (fields, end))| end.and_then(|()| self.message(fields, message))),
        );
        Ok(results)
    }

    fn message(&self, fields: u32, message: &[u8]) -> Result<Incoming, Rejection> {
        let wire = CpcMessage::decode(message).map_err(|error| malformed(error.to_string()))?;
        if fields & FOREIGN_FIELDS != 0 {
            let field = (fields & FOREIGN_FIELDS).trailing_zeros();
            let detail = format!("field {field} has no place in a message of a batch");
            return Err(Rejection { nonce: Some(wire.nonce), ..Rejection::new(RejectReason::Malformed, detail) });
        }
        let author = Author {
            sender: self.ends.sender,
            authenticity: Authenticity::Signed,
            recipient: (fields & ADDRESSING_FIELDS == 0).then_some(self.ends.recipient),
        };
        incoming(wire, author, self.max_payload)
    }
}

/// The frame around a batch.
struct Outer<'frame> {
    acknowledged: Vec<NonceRange>,
    batch: &'frame [u8],
}

impl<'frame> Outer<'frame> {
    /// `None` when the frame has no batch. One that has may have nothing else that isn't understood.
    fn read(frame: &'frame [u8]) -> Result<Option<Self>, Rejection> {
        let mut records = Records(frame);
        let (mut acknowledged, mut batch, mut others, mut kind, mut message_type) = (Vec::new(), None, None, 0, 0);
        while let Some((field, value)) = records.next()? {
            match (field, value) {
                (MESSAGE_TYPE, Value::Number(number)) => message_type = number,
                (KIND, Value::Number(number)) => kind = number,
                (ACKNOWLEDGED, Value::Bytes(bytes)) => {
                    let range = WireRange::decode(bytes).map_err(|error| malformed(error.to_string()))?;
                    acknowledged.push(from_wire_range(&range));
                }
                (BATCH, Value::Bytes(bytes)) if batch.is_none() => batch = Some(bytes),
                _ => others = Some(field),
            }
        }
        let Some(batch) = batch else { return Ok(None) };
        if let Some(field) = others {
            return Err(malformed(format!("field {field} has no place around a batch")));
        }
        if (message_type, kind) != (Type::Control as u64, Kind::Batch as u64) {
            return Err(malformed("a batch in a frame of another kind".into()));
        }
        // As many ranges as a frame holds.
        Ok(Some(Self { acknowledged, batch }))
    }
}

/// The batch itself, its messages as places in it.
struct SignedMessages<'frame> {
    signature: &'frame [u8],
    messages: Vec<Range<usize>>,
}

impl<'frame> SignedMessages<'frame> {
    fn read(batch: &'frame [u8]) -> Result<Self, Rejection> {
        let mut records = Records(batch);
        let (mut signature, mut messages) = (None, Vec::new());
        while let Some((field, value)) = records.next()? {
            match (field, value) {
                (SIGNATURE, Value::Bytes(bytes)) if signature.is_none() => signature = Some(bytes),
                (MESSAGES, Value::Bytes(bytes)) if messages.len() < MAX_LEAVES as usize => {
                    let end = batch.len() - records.0.len();
                    messages.push(end - bytes.len()..end);
                }
                (MESSAGES, _) => return Err(malformed(format!("a batch of more than {MAX_LEAVES} messages"))),
                (field, _) => return Err(malformed(format!("field {field} has no place in a batch"))),
            }
        }
        let signature = signature.unwrap_or_default();
        if signature.len() != SIGNATURE_LEN {
            return Err(wrong_signature(format!(
                "the signature is {} bytes long, not {SIGNATURE_LEN}",
                signature.len()
            )));
        }
        Ok(Self { signature, messages })
    }
}

/// Which of the fields below 32 a message has, as bits, up to where it can't be read.
fn fields_of(message: &[u8]) -> (u32, Result<(), Rejection>) {
    let (mut fields, mut records) = (0, Records(message));
    loop {
        match records.next() {
            Ok(Some((field, _))) => fields |= 1_u32.checked_shl(field).unwrap_or(0),
            Ok(None) => return (fields, Ok(())),
            Err(rejection) => return (fields, Err(rejection)),
        }
    }
}

/// The records of a protobuf message, one after the other.
struct Records<'bytes>(&'bytes [u8]);

enum Value<'bytes> {
    Number(u64),
    Bytes(&'bytes [u8]),
    Other,
}

impl<'bytes> Records<'bytes> {
    fn next(&mut self) -> Result<Option<(u32, Value<'bytes>)>, Rejection> {
        let unreadable = |error: prost::DecodeError| malformed(error.to_string());
        if self.0.is_empty() {
            return Ok(None);
        }
        let (field, wire_type) = decode_key(&mut self.0).map_err(unreadable)?;
        let value = match wire_type {
            WireType::Varint => Value::Number(decode_varint(&mut self.0).map_err(unreadable)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.0).map_err(unreadable)?;
                let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
                let Some(length) = length else {
                    return Err(malformed(format!("field {field} claims more bytes than there are")));
                };
                let (bytes, rest) = self.0.split_at(length);
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => {
                skip_field(wire_type, field, &mut self.0, DecodeContext::default()).map_err(unreadable)?;
                Value::Other
            }
        };
        Ok(Some((field, value)))
    }
}

#[cfg(test)]
mod tests;
