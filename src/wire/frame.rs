//! One frame as typed fields: to bytes and back.
//!
//! Invariant: a [`Frame`] that [`decode`] returns has an author somebody vouches for: its own signature, or the
//! authenticated other end of the connection it came by.

use std::time::Duration;

use bytes::Bytes;
use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey},
};
use prost::{
    Message as _,
    encoding::{DecodeContext, decode_key, skip_field},
};

use super::{
    generated::{
        self, CpcMessage, ErrorReport, PeerList,
        cpc_message::{Kind, Priority as WirePriority, Propagation, Type},
    },
    posts,
    records::open_record,
};
use crate::{
    crypto::{SIGNATURE_LEN, SignatureError, sign_frame, verify_frame},
    event::RejectReason,
    frame::{Addressing, Content, ControlContent, Frame, Incoming, Letter, NonceRange, Passing, Rejection},
    message::{Authenticity, MessageId, MessageKind, Priority},
};

/// What a frame may hold besides its payload, bytes: peer ids, signature, group name and the small fields.
pub(crate) const MAX_FRAME_OVERHEAD: usize = 512;

/// What a frame without an author may hold: CPC's five fields, the kind, and acknowledgements.
const NEIGHBOURS_FIELDS: [u32; 7] = [1, 2, 3, 4, 5, 12, 13];

/// Records beyond this in one peer list are not looked at.
const MAX_RECORDS: usize = 64;

/// Builds and signs the frame of an app's message.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(crate) fn message_frame(letter: &Letter, key: &Keypair) -> Result<Bytes, libp2p::identity::SigningError> {
    signed_frame(letter, Propagation::NotSaid, key)
}

/// Builds and signs the frame of a post.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(crate) fn post_frame(
    letter: &Letter,
    passing: Passing,
    key: &Keypair,
) -> Result<Bytes, libp2p::identity::SigningError> {
    let propagation = match passing {
        Passing::Gossip => Propagation::Gossip,
        Passing::Flood => Propagation::Flood,
    };
    signed_frame(letter, propagation, key)
}

fn signed_frame(
    letter: &Letter,
    propagation: Propagation,
    key: &Keypair,
) -> Result<Bytes, libp2p::identity::SigningError> {
    let (message_type, kind) = to_wire_kind(letter.kind);
    let mut frame = CpcMessage {
        nonce: letter.nonce,
        priority: to_wire_priority(letter.priority).into(),
        message_type: message_type.into(),
        payload: letter.payload.clone(),
        sender: key.public().to_peer_id().to_bytes().into(),
        created_at: letter.created_at,
        ttl: letter.ttl.map_or(0, |ttl| u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX).max(1)),
        kind,
        propagation: propagation.into(),
        ..Default::default()
    };
    match &letter.addressing {
        Addressing::Anyone => {}
        Addressing::Neighbors => frame.neighbors = true,
        Addressing::Peer(peer) => frame.recipient = peer.to_bytes().into(),
        Addressing::Group(name) => frame.group = name.as_str().to_owned(),
    }
    frame.signature = sign_frame(&frame.encode_to_vec(), key)?.into();
    Ok(frame.encode_to_vec().into())
}

/// A frame from neighbour to neighbour, for which the connection vouches.
pub(crate) fn control_frame(content: ControlContent) -> Bytes {
    let priority = to_wire_priority(content.priority()).into();
    let mut frame = CpcMessage { priority, message_type: Type::Control.into(), ..Default::default() };
    match content {
        ControlContent::Acknowledge(ranges) => {
            frame.kind = Kind::Acknowledge.into();
            let to_wire = |NonceRange { first, last }| generated::NonceRange { first, last };
            frame.acknowledged = ranges.into_iter().map(to_wire).collect();
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
            frame.payload = posts::encode_note(note).into();
        }
        ControlContent::PeerList(envelopes) => {
            frame.message_type = Type::Discovery.into();
            frame.kind = Kind::PeerList.into();
            frame.payload = PeerList { signed_peer_records: envelopes }.encode_to_vec().into();
        }
    }
    frame.encode_to_vec().into()
}

/// Reads a frame that came from `neighbour`, and checks all of it that needs no memory of earlier frames; of a post only
/// what tells whether it is new. Costs a signature verification: not for the driver's task.
pub(crate) fn decode(bytes: &Bytes, neighbour: PeerId, max_payload: usize) -> Result<Incoming, Rejection> {
    if let Some(post) = posts::read_post(bytes, Some(&neighbour)) {
        return Ok(Incoming { content: Content::Post(post), acknowledged: Vec::new() });
    }
    decode_verified(bytes, neighbour, max_payload)
}

/// Reads and verifies a frame, also a post.
pub(super) fn decode_verified(bytes: &Bytes, neighbour: PeerId, max_payload: usize) -> Result<Incoming, Rejection> {
    let wire = CpcMessage::decode(bytes.clone()).map_err(|error| malformed(error.to_string()))?;
    let priority = WirePriority::try_from(wire.priority)
        .map(from_wire_priority)
        .map_err(|_| malformed(format!("there is no priority {}", wire.priority)))?;
    let message_type = Type::try_from(wire.message_type)
        .map_err(|_| malformed(format!("there is no message type {}", wire.message_type)))?;

    // Its sender can tell by the nonce which message was meant.
    let answerable = |rejection| Rejection { nonce: Some(wire.nonce), ..rejection };
    let (id, authenticity) = if wire.sender.is_empty() {
        only_a_neighbours_fields(bytes).map_err(answerable)?;
        (MessageId { sender: neighbour, nonce: wire.nonce }, Authenticity::Connection)
    } else {
        let sender = verified_sender(bytes, &wire).map_err(answerable)?;
        (MessageId { sender, nonce: wire.nonce }, Authenticity::Signed)
    };
    let rejected = |reason, detail: String| Rejection { reason, detail, nonce: Some(wire.nonce) };

    let content = match (message_type, Kind::try_from(wire.kind)) {
        (Type::Control, Ok(Kind::Acknowledge)) => Content::Nothing,
        (Type::Control, Ok(Kind::Goodbye)) => Content::Goodbye,
        (Type::Control, Ok(Kind::Spread)) if authenticity == Authenticity::Connection => {
            Content::Spread(posts::decode_note(wire.payload)?)
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
        (message_type, kind) => {
            let kind = kind.map_or(Ok(MessageKind::Unknown(wire.kind)), |kind| from_wire_kind(message_type, kind))?;
            if wire.payload.len() > max_payload {
                let detail = format!("a payload of {} bytes, the limit is {max_payload}", wire.payload.len());
                return Err(rejected(RejectReason::Oversized, detail));
            }
            let addressing = match (wire.recipient.is_empty(), wire.group.is_empty(), wire.neighbors) {
                (true, true, false) => Addressing::Anyone,
                (true, true, true) => Addressing::Neighbors,
                (false, true, false) => Addressing::Peer(
                    PeerId::from_bytes(&wire.recipient)
                        .map_err(|error| malformed(format!("the recipient: {error}")))?,
                ),
                (true, false, false) => Addressing::Group(
                    wire.group.parse().map_err(|error: crate::error::ParseError| malformed(error.to_string()))?,
                ),
                _ => return Err(malformed("it is addressed in two ways at once".into())),
            };
            Content::Message(Frame {
                id,
                kind,
                priority,
                addressing,
                created_at: Some(wire.created_at).filter(|at| *at != 0),
                ttl: Some(wire.ttl).filter(|ttl| *ttl != 0).map(|ttl| Duration::from_millis(ttl.into())),
                hops: wire.hops,
                authenticity,
                // A copy of its own, so that keeping a small payload doesn't keep the whole read buffer.
                payload: Bytes::copy_from_slice(&wire.payload),
            })
        }
    };
    let from_wire = |generated::NonceRange { first, last }| NonceRange { first, last };
    Ok(Incoming { content, acknowledged: wire.acknowledged.into_iter().map(from_wire).collect() })
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

fn verified_sender(bytes: &[u8], wire: &CpcMessage) -> Result<PeerId, Rejection> {
    let wrong = |detail: &str| Rejection::new(RejectReason::WrongSignature, detail);
    let sender = PeerId::from_bytes(&wire.sender)
        .map_err(|error| Rejection::new(RejectReason::Malformed, format!("the sender: {error}")))?;
    if wire.signature.len() != SIGNATURE_LEN {
        return Err(wrong(&format!("the signature is {} bytes long, not {SIGNATURE_LEN}", wire.signature.len())));
    }
    let key = public_key(&sender).ok_or_else(|| wrong("the sender's peer id doesn't hold its key"))?;
    match verify_frame(bytes, &wire.signature, &key) {
        Ok(()) => Ok(sender),
        Err(SignatureError::Wrong) => Err(wrong("the signature is not the sender's over this content")),
        Err(SignatureError::Malformed(detail)) => Err(Rejection::new(RejectReason::Malformed, detail)),
    }
}

/// Ed25519 peer ids hold the key itself (libp2p peer-ids spec, §Peer IDs: identity multihash up to 42 bytes).
fn public_key(peer: &PeerId) -> Option<PublicKey> {
    const IDENTITY: u64 = 0;
    let hash = peer.as_ref();
    (hash.code() == IDENTITY).then(|| PublicKey::try_decode_protobuf(hash.digest()).ok()).flatten()
}

fn peer_list(payload: Bytes) -> Result<Content, Rejection> {
    let list = PeerList::decode(payload)
        .map_err(|error| Rejection::new(RejectReason::Malformed, format!("the peer list: {error}")))?;
    let (mut records, mut forged) = (Vec::new(), Vec::new());
    for envelope in list.signed_peer_records.into_iter().take(MAX_RECORDS) {
        match open_record(Bytes::copy_from_slice(&envelope)) {
            Ok(record) => records.push(record),
            Err(rejection) => forged.push(rejection),
        }
    }
    Ok(Content::PeerList { records, forged })
}

fn to_wire_priority(priority: Priority) -> WirePriority {
    match priority {
        Priority::Low => WirePriority::Low,
        Priority::Medium => WirePriority::Medium,
        Priority::High => WirePriority::High,
    }
}

fn from_wire_priority(priority: WirePriority) -> Priority {
    match priority {
        WirePriority::Low => Priority::Low,
        WirePriority::Medium => Priority::Medium,
        WirePriority::High => Priority::High,
    }
}

fn to_wire_kind(kind: MessageKind) -> (Type, i32) {
    match kind {
        MessageKind::Event => (Type::Event, Kind::Unspecified.into()),
        MessageKind::Data => (Type::Event, Kind::Data.into()),
        MessageKind::DataSync => (Type::Event, Kind::DataSync.into()),
        MessageKind::Consensus => (Type::Event, Kind::Consensus.into()),
        MessageKind::Discovery => (Type::Discovery, Kind::Unspecified.into()),
        MessageKind::Hello => (Type::Discovery, Kind::Hello.into()),
        MessageKind::Control => (Type::Control, Kind::Unspecified.into()),
        MessageKind::Heartbeat => (Type::Control, Kind::Heartbeat.into()),
        MessageKind::Unknown(number) => (Type::Event, number),
    }
}

fn from_wire_kind(message_type: Type, kind: Kind) -> Result<MessageKind, Rejection> {
    Ok(match (message_type, kind) {
        (Type::Event, Kind::Unspecified) => MessageKind::Event,
        (Type::Event, Kind::Data) => MessageKind::Data,
        (Type::Event, Kind::DataSync) => MessageKind::DataSync,
        (Type::Event, Kind::Consensus) => MessageKind::Consensus,
        (Type::Discovery, Kind::Unspecified) => MessageKind::Discovery,
        (Type::Discovery, Kind::Hello) => MessageKind::Hello,
        (Type::Control, Kind::Unspecified) => MessageKind::Control,
        (Type::Control, Kind::Heartbeat) => MessageKind::Heartbeat,
        (message_type, kind) => {
            let detail = format!("the kind {kind:?} doesn't belong to the type {message_type:?}");
            return Err(Rejection::new(RejectReason::Malformed, detail));
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::records::sign_record;

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
    fn decode_all(bytes: &Bytes, neighbour: PeerId) -> Result<Incoming, Rejection> {
        let incoming = decode(bytes, neighbour, LIMIT)?;
        let Content::Post(post) = &incoming.content else { return Ok(incoming) };
        let content = Content::Message(posts::verify_post(post, neighbour, LIMIT)?);
        Ok(Incoming { content, acknowledged: vec![] })
    }

    fn reason(bytes: Vec<u8>, neighbour: PeerId) -> RejectReason {
        decode_all(&bytes.into(), neighbour).expect_err("must be rejected").reason
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
            let result = decode_all(&bytes.into(), author);
            assert!(result.is_err(), "bit {bit} of byte {} went unnoticed: {result:?}", bit / 8);
        }
    }

    #[test]
    fn the_five_fields_alone_are_a_message_of_the_neighbour() {
        let (_, neighbour) = keys();
        // Written out by hand, as another implementation would: nonce 5, HIGH, EVENT left to its default, payload "hi",
        // and a signature of a scheme that CPC doesn't define.
        let bytes = [&[0x08, 5, 0x10, 2, 0x22, 2, b'h', b'i', 0x2a, 3][..], &[9, 9, 9]].concat();
        let Content::Message(frame) = decode(&bytes.into(), neighbour, LIMIT).expect("accepted").content else {
            panic!("a message")
        };
        assert_eq!(frame.id, MessageId { sender: neighbour, nonce: 5 });
        assert_eq!((frame.kind, frame.priority, &frame.payload[..]), (MessageKind::Event, Priority::High, &b"hi"[..]));
        assert_eq!((frame.authenticity, frame.created_at), (Authenticity::Connection, None));

        // Defaults spelled out, as some implementations do.
        let bytes = vec![0x08, 5, 0x10, 0, 0x18, 0, 0x22, 0, 0x2a, 0];
        assert!(decode(&bytes.into(), neighbour, LIMIT).is_ok());
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
        let rejection = decode(&frame, author, LIMIT).expect_err("too large");
        assert_eq!((rejection.reason, rejection.nonce), (RejectReason::Oversized, Some(3)));
    }

    #[test]
    fn a_kind_of_a_later_version_is_reported_as_unknown() {
        let (_, neighbour) = keys();
        let message = CpcMessage { kind: 99, payload: "x".into(), ..Default::default() };
        let Content::Message(frame) = decode(&message.encode_to_vec().into(), neighbour, LIMIT).expect("taken").content
        else {
            panic!("a message")
        };
        assert_eq!(frame.kind, MessageKind::Unknown(99));
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
            let incoming = decode(&control_frame(sent), neighbour, LIMIT).expect("valid");
            assert_eq!(incoming, Incoming { content, acknowledged });
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (_, neighbour) = keys();
            let _ = decode_all(&bytes.into(), neighbour);
        }
    }
}
