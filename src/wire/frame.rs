//! One frame as typed fields: from bytes, with all checks. How frames are made is `outgoing`'s concern, and what many
//! messages under one signature are, `batch`'s.
//!
//! Invariant: a [`Frame`] that leaves this room has an author somebody vouches for: its own signature, or the
//! authenticated other end of the connection it came by.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use prost::{
    Message as _,
    encoding::{DecodeContext, decode_key, skip_field},
};

use super::{
    compression::decompressed,
    generated::{
        CpcMessage, ErrorReport, NonceRange as WireRange, PeerList, Proof,
        cpc_message::{Encoding, Kind, Priority as WirePriority, Type},
    },
    kinds::{from_wire_kind, from_wire_priority},
    mail::decode_mail,
    posts,
    records::open_record,
    roots::Roots,
};
use crate::{
    crypto::{AuthorKey, HASH_LEN, LeafHasher, SIGNATURE_LEN, SignatureError, root_of, signed_records, verify_frame},
    event::RejectReason,
    frame::{Addressing, Content, Frame, Incoming, NonceRange, Rejection},
    message::{Authenticity, MessageId, MessageKind},
};

/// What a frame may hold besides its payload, bytes: peer ids, signature, proof, group name and the small fields.
pub(crate) const MAX_FRAME_OVERHEAD: usize = 1024;

/// What a frame without an author may hold: CPC's five fields, the kind, and acknowledgements.
const NEIGHBOURS_FIELDS: [u32; 7] = [1, 2, 3, 4, 5, 12, 13];

/// Records beyond this in one peer list are not looked at.
const MAX_RECORDS: usize = 64;

/// Reads a frame that came from `neighbour`, and checks all of it that needs no memory of earlier frames; of a post only
/// what tells whether it is new. Costs a signature verification: not for the driver's task.
pub(crate) fn decode(bytes: &[u8], neighbour: PeerId, max_payload: usize) -> Result<Incoming, Rejection> {
    if let Some(post) = posts::read_post(bytes, Some(&neighbour)) {
        return Ok(Incoming { content: Content::Post(post), acknowledged: Vec::new() });
    }
    decode_verified(bytes, neighbour, max_payload, &Roots::default())
}

/// Reads and verifies a frame, also a post.
pub(super) fn decode_verified(
    bytes: &[u8],
    neighbour: PeerId,
    max_payload: usize,
    roots: &Roots,
) -> Result<Incoming, Rejection> {
    let wire = CpcMessage::decode(bytes).map_err(|error| malformed(error.to_string()))?;
    // Its sender can tell by the nonce which message was meant.
    let nonce = Some(wire.nonce);
    let answerable = |rejection| Rejection { nonce, ..rejection };
    let author = if wire.sender.is_empty() {
        only_a_neighbours_fields(bytes).map_err(answerable)?;
        Author { sender: neighbour, authenticity: Authenticity::Connection, recipient: None }
    } else {
        let sender = verified_sender(bytes, &wire, roots).map_err(answerable)?;
        Author { sender, authenticity: Authenticity::Signed, recipient: None }
    };
    incoming(wire, author, max_payload)
}

/// Who vouches for a frame, and what the lane says of it.
pub(super) struct Author {
    pub(super) sender: PeerId,
    pub(super) authenticity: Authenticity,
    /// Whom it is for when it doesn't say so itself; `None`: then it is for everybody.
    pub(super) recipient: Option<PeerId>,
}

/// What a frame brings whose author is known to be its author.
pub(super) fn incoming(wire: CpcMessage, author: Author, max_payload: usize) -> Result<Incoming, Rejection> {
    let nonce = Some(wire.nonce);
    let answerable = |rejection| Rejection { nonce, ..rejection };
    let acknowledged = wire.acknowledged.iter().map(from_wire_range).collect();
    let message_type = Type::try_from(wire.message_type)
        .map_err(|_| malformed(format!("there is no message type {}", wire.message_type)))?;
    let content = match (message_type, Kind::try_from(wire.kind)) {
        (Type::Control, Ok(Kind::Acknowledge)) => Content::Nothing,
        (Type::Control, Ok(Kind::Goodbye)) => Content::Goodbye,
        (Type::Control, Ok(Kind::Spread)) if author.authenticity == Authenticity::Connection => {
            Content::Spread(posts::decode_note(wire.payload).map_err(answerable)?)
        }
        (Type::Control, Ok(kind @ (Kind::Deposit | Kind::Collect | Kind::Mail)))
            if author.authenticity == Authenticity::Connection =>
        {
            Content::Mail(Box::new(decode_mail(kind, wire.payload).map_err(answerable)?))
        }
        (Type::Control, Ok(Kind::Error)) => {
            let report = ErrorReport::decode(wire.payload).map_err(|error| malformed(error.to_string()))?;
            Content::Error {
                reason: report.reason,
                detail: report.detail,
                nonce: Some(report.nonce).filter(|nonce| *nonce != 0),
            }
        }
        (Type::Discovery, Ok(Kind::PeerList)) => peer_list(wire.payload)?,
        // What nodes of a later version say to each other is no app's business; what it acknowledges still counts.
        (Type::Control, Err(_)) => {
            tracing::debug!(kind = wire.kind, "a neighbour of a later version said what this one doesn't know");
            Content::Nothing
        }
        (message_type, kind) => {
            let kind = kind
                .map_or(Ok(MessageKind::Unknown(wire.kind)), |kind| from_wire_kind(message_type, kind))
                .map_err(answerable)?;
            Content::Message(message(wire, kind, author, max_payload).map_err(answerable)?)
        }
    };
    Ok(Incoming { content, acknowledged })
}

fn message(wire: CpcMessage, kind: MessageKind, author: Author, max_payload: usize) -> Result<Frame, Rejection> {
    let priority = WirePriority::try_from(wire.priority)
        .map(from_wire_priority)
        .map_err(|_| malformed(format!("there is no priority {}", wire.priority)))?;
    let addressing = match (wire.recipient.is_empty(), wire.group.is_empty(), wire.neighbors) {
        (true, true, false) => author.recipient.map_or(Addressing::Anyone, Addressing::Peer),
        (true, true, true) => Addressing::Neighbors,
        (false, true, false) => Addressing::Peer(
            PeerId::from_bytes(&wire.recipient).map_err(|error| malformed(format!("the recipient: {error}")))?,
        ),
        (true, false, false) => Addressing::Group(
            wire.group.parse().map_err(|error: crate::error::ParseError| malformed(error.to_string()))?,
        ),
        _ => return Err(malformed("it is addressed in two ways at once".into())),
    };
    let payload = match Encoding::try_from(wire.encoding) {
        Ok(Encoding::Raw) if wire.payload.len() > max_payload => {
            let detail = format!("a payload of {} bytes, the limit is {max_payload}", wire.payload.len());
            return Err(Rejection::new(RejectReason::Oversized, detail));
        }
        // Decoded from a slice it is a copy of its own, so keeping a small payload doesn't keep the whole read buffer.
        Ok(Encoding::Raw) => wire.payload,
        Ok(Encoding::Lz4) => decompressed(&wire.payload, max_payload)?.into(),
        Err(_) => return Err(malformed(format!("there is no encoding {}", wire.encoding))),
    };
    Ok(Frame {
        id: MessageId { sender: author.sender, nonce: wire.nonce },
        kind,
        priority,
        addressing,
        created_at: Some(wire.created_at).filter(|at| *at != 0),
        ttl: Some(wire.ttl).filter(|ttl| *ttl != 0).map(|ttl| Duration::from_millis(ttl.into())),
        hops: wire.hops,
        authenticity: author.authenticity,
        payload,
    })
}

pub(super) fn from_wire_range(&WireRange { first, last }: &WireRange) -> NonceRange {
    NonceRange { first, last }
}

/// Without an author only what concerns the two neighbours may be said. A field that this version doesn't know might
/// need an author's signature just as well.
fn only_a_neighbours_fields(bytes: &[u8]) -> Result<(), Rejection> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (field, wire_type) = decode_key(&mut rest).map_err(|error| malformed(error.to_string()))?;
        skip_field(wire_type, field, &mut rest, DecodeContext::default())
            .map_err(|error| malformed(error.to_string()))?;
        if !NEIGHBOURS_FIELDS.contains(&field) {
            let detail = format!("field {field} needs the author's signature, and there is no author");
            return Err(Rejection::new(RejectReason::Unsigned, detail));
        }
    }
    Ok(())
}

pub(super) fn malformed(detail: String) -> Rejection {
    Rejection::new(RejectReason::Malformed, detail)
}

pub(super) fn wrong_signature(detail: impl Into<String>) -> Rejection {
    Rejection::new(RejectReason::WrongSignature, detail)
}

fn verified_sender(bytes: &[u8], wire: &CpcMessage, roots: &Roots) -> Result<PeerId, Rejection> {
    let sender = PeerId::from_bytes(&wire.sender).map_err(|error| malformed(format!("the sender: {error}")))?;
    if wire.batch.is_some() {
        return Err(malformed("a batch is its lane's, and has no author".into()));
    }
    if wire.signature.len() != SIGNATURE_LEN {
        let detail = format!("the signature is {} bytes long, not {SIGNATURE_LEN}", wire.signature.len());
        return Err(wrong_signature(detail));
    }
    let key = AuthorKey::of(&sender).ok_or_else(|| wrong_signature("the sender's peer id doesn't hold its key"))?;
    let verified = match &wire.proof {
        None => verify_frame(bytes, &wire.signature, &key),
        Some(proof) => verify_proof(bytes, proof, &wire.signature, (&sender, &key), roots),
    };
    match verified {
        Ok(()) => Ok(sender),
        Err(SignatureError::Wrong) => Err(wrong_signature("the signature is not the sender's over this content")),
        Err(SignatureError::Malformed(detail)) => Err(malformed(detail)),
    }
}

/// Checks that the message is one of those under a shared signature.
fn verify_proof(
    bytes: &[u8],
    proof: &Proof,
    signature: &[u8],
    (signer, key): (&PeerId, &AuthorKey),
    roots: &Roots,
) -> Result<(), SignatureError> {
    let (siblings, rest) = proof.siblings.as_chunks::<HASH_LEN>();
    if !rest.is_empty() {
        return Err(SignatureError::Malformed(format!("a proof of {} bytes", proof.siblings.len())));
    }
    let leaf = LeafHasher::new(&[]).hash(&signed_records(bytes)?);
    let root = root_of(leaf, proof.index, proof.count, siblings).ok_or(SignatureError::Wrong)?;
    if roots.verify(&root, proof.count, signature, signer, key) { Ok(()) } else { Err(SignatureError::Wrong) }
}

fn peer_list(payload: Bytes) -> Result<Content, Rejection> {
    let list = PeerList::decode(payload).map_err(|error| malformed(format!("the peer list: {error}")))?;
    let (mut records, mut forged) = (Vec::new(), Vec::new());
    for envelope in list.signed_peer_records.into_iter().take(MAX_RECORDS) {
        match open_record(Bytes::copy_from_slice(&envelope)) {
            Ok(record) => records.push(record),
            Err(rejection) => forged.push(rejection),
        }
    }
    Ok(Content::PeerList { records, forged })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use libp2p::identity::Keypair;

    use super::*;
    use crate::{
        frame::{ControlContent, Letter},
        message::Priority,
        wire::{control_frame, message_frame, records::sign_record},
    };

    const LIMIT: usize = 1000;

    fn keys() -> (Keypair, PeerId) {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        (key, peer)
    }

    fn letter(nonce: u64, addressing: Addressing, payload: impl Into<Bytes>) -> Letter {
        Letter {
            nonce,
            kind: MessageKind::Event,
            priority: Priority::High,
            addressing,
            created_at: 1234,
            ttl: Some(Duration::from_secs(9)),
            payload: payload.into(),
        }
    }

    /// Everything that is checked of a frame, of posts too.
    fn decode_all(bytes: &[u8], neighbour: PeerId) -> Result<Incoming, Rejection> {
        let incoming = decode(bytes, neighbour, LIMIT)?;
        let Content::Post(post) = &incoming.content else { return Ok(incoming) };
        let content = Content::Message(posts::verify_post(post, neighbour, LIMIT, &Roots::default())?);
        Ok(Incoming { content, acknowledged: vec![] })
    }

    fn reason(bytes: Vec<u8>, neighbour: PeerId) -> RejectReason {
        decode_all(&bytes, neighbour).expect_err("must be rejected").reason
    }

    #[test]
    fn a_message_arrives_as_it_was_sent_whoever_passes_it_on() {
        let (key, author) = keys();
        let (_, recipient) = keys();
        let (_, neighbour) = keys();
        for addressing in [
            Addressing::Anyone,
            Addressing::Neighbors,
            Addressing::Peer(recipient),
            Addressing::Group("readers".parse().expect("a name")),
        ] {
            let letter = Letter { kind: MessageKind::DataSync, ..letter(77, addressing.clone(), "hello") };
            let frame = message_frame(&letter, &key).expect("signs");
            let incoming = decode_all(&frame, neighbour).expect("valid");
            let expected = Frame {
                id: MessageId { sender: author, nonce: 77 },
                kind: MessageKind::DataSync,
                priority: Priority::High,
                addressing,
                created_at: Some(1234),
                ttl: Some(Duration::from_secs(9)),
                hops: 0,
                authenticity: Authenticity::Signed,
                payload: "hello".into(),
            };
            assert_eq!(incoming, Incoming { content: Content::Message(expected), acknowledged: vec![] });
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_is_rejected() {
        let (key, author) = keys();
        let (_, recipient) = keys();
        let letter = Letter { priority: Priority::Low, ..letter(1 << 40, Addressing::Peer(recipient), "hello") };
        let frame = message_frame(&letter, &key).expect("signs");
        for bit in 0..frame.len() * 8 {
            let mut bytes = frame.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let result = decode_all(&bytes, author);
            assert!(result.is_err(), "bit {bit} of byte {} went unnoticed: {result:?}", bit / 8);
        }
    }

    #[test]
    fn the_five_fields_alone_are_a_message_of_the_neighbour() {
        let (_, neighbour) = keys();
        // Written out by hand, as another implementation would: nonce 5, HIGH, EVENT left to its default, payload "hi",
        // and a signature of a scheme that CPC doesn't define.
        let bytes = [&[0x08, 5, 0x10, 2, 0x22, 2, b'h', b'i', 0x2a, 3][..], &[9, 9, 9]].concat();
        let Content::Message(frame) = decode_all(&bytes, neighbour).expect("accepted").content else {
            panic!("a message")
        };
        assert_eq!(frame.id, MessageId { sender: neighbour, nonce: 5 });
        assert_eq!((frame.kind, frame.priority, &frame.payload[..]), (MessageKind::Event, Priority::High, &b"hi"[..]));
        assert_eq!((frame.authenticity, frame.created_at), (Authenticity::Connection, None));

        // Defaults spelled out, as some implementations do.
        let bytes = vec![0x08, 5, 0x10, 0, 0x18, 0, 0x22, 0, 0x2a, 0];
        assert!(decode_all(&bytes, neighbour).is_ok());
    }

    #[test]
    fn what_needs_an_author_is_refused_without_one() {
        let (_, neighbour) = keys();
        for field in [
            CpcMessage { recipient: neighbour.to_bytes().into(), ..Default::default() },
            CpcMessage { group: "readers".into(), ..Default::default() },
            CpcMessage { created_at: 1, ..Default::default() },
            CpcMessage { neighbors: true, ..Default::default() },
            CpcMessage { hops: 1, ..Default::default() },
        ] {
            assert_eq!(reason(field.encode_to_vec(), neighbour), RejectReason::Unsigned, "{field:?}");
        }
    }

    #[test]
    fn not_even_a_small_field_of_a_later_version_passes_without_an_author() {
        let (_, neighbour) = keys();
        let five = CpcMessage { nonce: 5, payload: "hi".into(), ..Default::default() }.encode_to_vec();
        assert_eq!(reason([&five[..], &[0xa0, 0x01, 0x01]].concat(), neighbour), RejectReason::Unsigned);
    }

    #[test]
    fn nonsense_is_named() {
        let (key, author) = keys();
        assert_eq!(reason(vec![0xff; 20], author), RejectReason::Malformed);
        let wrong = [
            CpcMessage { priority: 3, ..Default::default() },
            CpcMessage { message_type: 3, ..Default::default() },
            CpcMessage { message_type: Type::Control.into(), kind: Kind::Data.into(), ..Default::default() },
            CpcMessage { sender: vec![1, 2, 3].into(), ..Default::default() },
        ];
        for message in wrong {
            assert_eq!(reason(message.encode_to_vec(), author), RejectReason::Malformed, "{message:?}");
        }
        let unsigned = CpcMessage { sender: author.to_bytes().into(), ..Default::default() };
        assert_eq!(reason(unsigned.encode_to_vec(), author), RejectReason::WrongSignature);
        let large = letter(3, Addressing::Anyone, vec![0; LIMIT + 1]);
        let frame = message_frame(&large, &key).expect("signs");
        let rejection = decode_all(&frame, author).expect_err("too large");
        assert_eq!((rejection.reason, rejection.nonce), (RejectReason::Oversized, Some(3)));
    }

    #[test]
    fn a_kind_of_a_later_version_is_reported_as_unknown() {
        let (_, neighbour) = keys();
        let message = CpcMessage { kind: 99, payload: "x".into(), ..Default::default() };
        let Content::Message(frame) = decode_all(&message.encode_to_vec(), neighbour).expect("taken").content else {
            panic!("a message")
        };
        assert_eq!(frame.kind, MessageKind::Unknown(99));
    }

    #[test]
    fn what_nodes_of_a_later_version_say_to_each_other_is_not_shown_to_the_app() {
        let (_, neighbour) = keys();
        let acknowledged = vec![WireRange { first: 3, last: 9 }];
        let kind = 99;
        let message = CpcMessage { message_type: Type::Control.into(), kind, acknowledged, ..Default::default() };
        let read = decode_all(&message.encode_to_vec(), neighbour).expect("taken");
        assert!(matches!(read.content, Content::Nothing), "{:?}", read.content);
        assert_eq!(read.acknowledged, [NonceRange { first: 3, last: 9 }]);
    }

    #[test]
    fn neighbours_talk_below_the_app() {
        let (key, neighbour) = keys();
        let record = sign_record(&key, vec![]).expect("signs");
        let ranges = vec![NonceRange { first: 3, last: 9 }];
        let rejection = Rejection { reason: RejectReason::Expired, detail: "late".into(), nonce: Some(4) };
        let cases = [
            (ControlContent::Acknowledge(ranges.clone()), Content::Nothing, ranges),
            (ControlContent::Goodbye, Content::Goodbye, vec![]),
            (
                ControlContent::Error(rejection),
                Content::Error { reason: "expired".into(), detail: "late".into(), nonce: Some(4) },
                vec![],
            ),
            (
                ControlContent::PeerList(vec![record.envelope.clone()]),
                Content::PeerList { records: vec![record], forged: vec![] },
                vec![],
            ),
        ];
        for (sent, content, acknowledged) in cases {
            let incoming = decode_all(&control_frame(sent), neighbour).expect("valid");
            assert_eq!(incoming, Incoming { content, acknowledged });
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (_, neighbour) = keys();
            let _ = decode_all(&bytes, neighbour);
        }
    }
}
