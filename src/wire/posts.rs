//! Posts: what can be read of one before anybody believes it, so that a copy of what is here already costs a hash instead
//! of a signature's verification; and the notes that neighbours exchange about posts.
//!
//! Invariant: nothing read here is believed. What a post says counts once [`verify_post`] has passed its bytes.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use prost::{
    DecodeError, Message as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use super::{
    frame::{decode_verified, malformed},
    generated::{self, Membership, cpc_message::Propagation},
    roots::Roots,
};
use crate::{
    event::RejectReason,
    frame::{Beyond, Content, Frame, Passing, Post, PostId, Rejection, SpreadNote, Topic},
    message::{Authenticity, GroupName, Priority},
};

const HOPS_FIELD: u32 = 11;

/// What a post's head says, as the protobuf records come.
#[derive(Default)]
struct Head<'frame> {
    priority: u64,
    sender: &'frame [u8],
    recipient: &'frame [u8],
    group: &'frame [u8],
    created_at: u64,
    ttl: u64,
    hops: u64,
    neighbors: u64,
    propagation: u64,
    /// Where the records of the hop count are.
    hop_records: Vec<std::ops::Range<usize>>,
}

impl<'frame> Head<'frame> {
    fn read(frame: &'frame [u8]) -> Result<Self, DecodeError> {
        let mut head = Self::default();
        let mut rest = frame;
        while !rest.is_empty() {
            let start = frame.len() - rest.len();
            let (field, wire_type) = decode_key(&mut rest)?;
            let number = match field {
                2 => Some(&mut head.priority),
                9 => Some(&mut head.created_at),
                10 => Some(&mut head.ttl),
                HOPS_FIELD => Some(&mut head.hops),
                14 => Some(&mut head.neighbors),
                18 => Some(&mut head.propagation),
                _ => None,
            };
            match (number, field, wire_type) {
                (Some(number), _, WireType::Varint) => *number = decode_varint(&mut rest)?,
                (None, 6, WireType::LengthDelimited) => head.sender = bytes_of(field, &mut rest)?,
                (None, 7, WireType::LengthDelimited) => head.recipient = bytes_of(field, &mut rest)?,
                (None, 8, WireType::LengthDelimited) => head.group = bytes_of(field, &mut rest)?,
                _ => skip_field(wire_type, field, &mut rest, DecodeContext::default())?,
            }
            if field == HOPS_FIELD {
                head.hop_records.push(start..frame.len() - rest.len());
            }
        }
        Ok(head)
    }
}

/// The content of a record of bytes.
fn bytes_of<'frame>(field: u32, rest: &mut &'frame [u8]) -> Result<&'frame [u8], DecodeError> {
    let record = *rest;
    skip_field(WireType::LengthDelimited, field, rest, DecodeContext::default())?;
    let mut content = &record[..record.len() - rest.len()];
    decode_varint(&mut content)?;
    Ok(content)
}

/// Reads a frame as a post. `None` when it is none, or can't be read: then the decoder of all other frames says what it
/// is. A frame of the neighbour's own that doesn't say how it spreads is for this node, and no post; from gossip, where
/// there is no such case, `neighbour` is `None`.
pub(crate) fn read_post(frame: &[u8], neighbour: Option<&PeerId>) -> Option<Post> {
    let head = Head::read(frame).ok()?;
    if head.sender.is_empty() || !head.recipient.is_empty() || head.neighbors != 0 {
        return None;
    }
    let author = PeerId::from_bytes(head.sender).ok()?;
    let passing = match i32::try_from(head.propagation).map(Propagation::try_from) {
        Ok(Ok(Propagation::Flood)) => Passing::Flood,
        Ok(Ok(Propagation::NotSaid)) if neighbour == Some(&author) => return None,
        // A way of spreading that a later version adds is gossip here: it reaches everybody too.
        _ => Passing::Gossip,
    };
    let priority = match head.priority {
        0 => Priority::Low,
        1 => Priority::Medium,
        2 => Priority::High,
        _ => return None,
    };
    let topic = match head.group {
        [] => Topic::All,
        name => Topic::Group(std::str::from_utf8(name).ok()?.parse().ok()?),
    };
    let frame = without(frame, &head.hop_records);
    Some(Post {
        id: hash(&frame),
        author,
        topic,
        passing,
        priority,
        hops: u32::try_from(head.hops).unwrap_or(u32::MAX),
        expires_at: (head.ttl != 0 && head.created_at != 0).then(|| head.created_at.saturating_add(head.ttl)),
        frame,
    })
}

/// A copy of its own, so that keeping it doesn't keep the whole read buffer.
fn without(frame: &[u8], records: &[std::ops::Range<usize>]) -> Bytes {
    let mut kept = Vec::with_capacity(frame.len());
    let mut from = 0;
    for record in records {
        kept.extend_from_slice(&frame[from..record.start]);
        from = record.end;
    }
    kept.extend_from_slice(&frame[from..]);
    kept.into()
}

fn hash(frame: &[u8]) -> PostId {
    let mut id = [0; PostId::LEN];
    id.copy_from_slice(&blake3::hash(frame).as_bytes()[..PostId::LEN]);
    PostId(id)
}

/// The id of whatever bytes came by gossip: a post's own, or the hash of what is none.
pub(crate) fn post_id(frame: &[u8]) -> PostId {
    match Head::read(frame) {
        Ok(head) if !head.hop_records.is_empty() => hash(&without(frame, &head.hop_records)),
        _ => hash(frame),
    }
}

/// The frame of a post with its hop count, which goes to the end: nothing before it has to move.
pub(crate) fn with_hops(frame: &Bytes, hops: u32) -> Bytes {
    if hops == 0 {
        return frame.clone();
    }
    let mut bytes = Vec::with_capacity(frame.len() + 2);
    bytes.extend_from_slice(frame);
    prost::encoding::uint32::encode(HOPS_FIELD, &hops, &mut bytes);
    bytes.into()
}

/// Checks all of a post: that it is well formed, that its author signed it, and that it is what it looked like. Costs a
/// signature verification, unless the signature is shared with a post that was verified a moment ago.
pub(crate) fn verify_post(
    post: &Post,
    neighbour: PeerId,
    max_payload: usize,
    roots: &Roots,
) -> Result<Frame, Rejection> {
    match decode_verified(&post.frame, neighbour, max_payload, roots)?.content {
        Content::Message(frame) if frame.authenticity == Authenticity::Signed => Ok(Frame { hops: post.hops, ..frame }),
        Content::Message(_) => Err(Rejection::new(RejectReason::Unsigned, "a post without its author's signature")),
        _ => Err(Rejection::new(RejectReason::Malformed, "a frame between neighbours came as a post")),
    }
}

pub(super) fn encode_note(note: SpreadNote) -> Vec<u8> {
    let ids = |ids: Vec<PostId>| ids.iter().flat_map(|id| id.0).collect::<Vec<_>>().into();
    let joined = note.joined.into_iter().map(|(topic, since)| Membership {
        group: match topic {
            Topic::All => String::new(),
            Topic::Group(name) => name.into(),
        },
        since: millis(since),
    });
    generated::Spread {
        hello: note.hello,
        joined: joined.collect(),
        left: note.left.into_iter().map(String::from).collect(),
        have: ids(note.have),
        want: ids(note.want),
        enough: ids(note.enough),
        beyond: note.beyond.into_iter().map(encode_beyond).collect(),
    }
    .encode_to_vec()
}

pub(super) fn decode_note(payload: Bytes) -> Result<SpreadNote, Rejection> {
    let wire = generated::Spread::decode(payload).map_err(|error| malformed(format!("the note: {error}")))?;
    let too_many = wire.joined.len().max(wire.left.len()).max(wire.beyond.len()) > SpreadNote::MAX_TOPICS;
    if too_many {
        return Err(malformed(format!("a note may name {} groups", SpreadNote::MAX_TOPICS)));
    }
    let group = |name: String| name.parse().map_err(|error: crate::error::ParseError| malformed(error.to_string()));
    let joined = wire.joined.into_iter().map(|Membership { group: name, since }| {
        let topic = if name.is_empty() { Topic::All } else { Topic::Group(group(name)?) };
        Ok((topic, Duration::from_millis(since)))
    });
    Ok(SpreadNote {
        hello: wire.hello,
        joined: joined.collect::<Result<_, _>>()?,
        left: wire.left.into_iter().map(group).collect::<Result<_, _>>()?,
        have: ids(&wire.have)?,
        want: ids(&wire.want)?,
        enough: ids(&wire.enough)?,
        beyond: wire.beyond.into_iter().map(|beyond| decode_beyond(beyond, group)).collect::<Result<_, _>>()?,
    })
}

fn encode_beyond(Beyond { group, since, members }: Beyond) -> generated::Beyond {
    let (members, between) = members.into_iter().map(|(peer, between)| (Bytes::from(peer.to_bytes()), between)).unzip();
    generated::Beyond { group: group.into(), since: millis(since), members, between }
}

fn decode_beyond(
    wire: generated::Beyond,
    group: impl Fn(String) -> Result<GroupName, Rejection>,
) -> Result<Beyond, Rejection> {
    if wire.members.len() != wire.between.len() || wire.members.len() > Beyond::MAX_MEMBERS {
        let detail = format!("{} members beyond at {} distances", wire.members.len(), wire.between.len());
        return Err(malformed(detail));
    }
    let member = |(peer, between): (&Bytes, u32)| {
        let peer = PeerId::from_bytes(peer).map_err(|error| malformed(format!("a member beyond: {error}")))?;
        Ok((peer, between))
    };
    let members = wire.members.iter().zip(wire.between).map(member).collect::<Result<_, _>>()?;
    Ok(Beyond { group: group(wire.group)?, since: Duration::from_millis(wire.since), members })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn ids(bytes: &[u8]) -> Result<Vec<PostId>, Rejection> {
    let (ids, rest) = bytes.as_chunks::<{ PostId::LEN }>();
    if !rest.is_empty() || ids.len() > SpreadNote::MAX_IDS {
        let detail =
            format!("{} bytes of ids: each has {}, and {} are allowed", bytes.len(), PostId::LEN, SpreadNote::MAX_IDS);
        return Err(malformed(detail));
    }
    Ok(ids.iter().map(|id| PostId(*id)).collect())
}
