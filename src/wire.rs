//! `/cpc/1.0.0`: how messages look on a connection and how they get there.
//!
//! Invariant: nothing that a peer sends makes this room allocate more than [`MAX_FRAME_OVERHEAD`] above the configured
//! limit for each of the peer's lanes, and nothing leaves it inwards that has not been decoded, checked and verified.
//!
//! - `frame`: one message as typed fields, to bytes and back, with all checks.
//! - `framing`: length prefixes on a byte stream, sans-IO.
//! - `posts`: what can be read of a post before it is verified, and the notes about posts.
//! - `records`: signed peer records, the content of peer lists.
//! - `lane`: the tasks that read and write one stream.
//! - `handler`, `behaviour`: lanes on a libp2p connection and in a swarm.
//! - `generated`: what prost makes of `proto/cpc.proto`.

mod behaviour;
mod frame;
mod framing;
#[allow(missing_docs, unreachable_pub, clippy::doc_markdown)]
#[rustfmt::skip]
pub(crate) mod generated;
mod handler;
mod lane;
mod posts;
mod records;

use libp2p::StreamProtocol;

pub(crate) use behaviour::{Behaviour, Event};
pub(crate) use frame::{MAX_FRAME_OVERHEAD, control_frame, decode, message_frame, post_frame};
pub(crate) use handler::Parcel;
pub(crate) use posts::{post_id, read_post, verify_post, with_hops};
pub(crate) use records::sign_record;

/// The name under which lanes are negotiated.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/cpc/1.0.0");
