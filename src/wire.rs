//! `/cpc/1.0.0`: how messages look on a connection and how they get there.
//!
//! Invariant: nothing that a peer sends makes this room allocate more than [`MAX_FRAME_OVERHEAD`] above the configured
//! limit for each of the peer's lanes, and nothing leaves it inwards that has not been decoded, checked and verified.
//!
//! - `frame`: one message from bytes, with all checks; `outgoing`: to bytes. `kinds`: the numbers and the words.
//! - `batch`: many messages under one signature. `compression`: payloads written shorter.
//! - `framing`: length prefixes on a byte stream, sans-IO.
//! - `mail`: what nodes and mailboxes say to each other, and what they seal.
//! - `posts`: what can be read of a post before it is verified, and the notes about posts; `roots`: which shared signatures
//!   were verified already.
//! - `records`: signed peer records, the content of peer lists.
//! - `reader`, `writer`: what reads one stream, and what writes the lanes of a connection; `pace`: how much of the less
//!   urgent lanes is on its way; `dialect`: the two protocols.
//! - `handler`, `behaviour`: lanes on a libp2p connection and in a swarm; `hatch`: what passes between them and the driver.
//! - `generated`: what prost makes of `proto/cpc.proto`.

mod batch;
mod behaviour;
mod compression;
mod dialect;
mod frame;
mod framing;
#[allow(missing_docs, unreachable_pub, clippy::doc_markdown)]
#[rustfmt::skip]
pub(crate) mod generated;
mod handler;
mod hatch;
mod kinds;
mod mail;
mod outgoing;
mod pace;
mod posts;
mod reader;
mod records;
mod roots;
mod writer;

use libp2p::StreamProtocol;

pub(crate) use behaviour::{Behaviour, Event};
pub(crate) use dialect::MAILBOX_PROTOCOL;
pub(crate) use frame::{MAX_FRAME_OVERHEAD, decode};
pub(crate) use hatch::{Hatch, Reports};
pub(crate) use outgoing::{control_frame, message_frame, post_frame, post_frames};
pub(crate) use posts::{post_id, read_post, verify_post, with_hops};
pub(crate) use records::sign_record;
pub(crate) use roots::Roots;
pub(crate) use writer::Parcel;

/// The name under which every implementation negotiates lanes; `dialect` knows the other one.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/cpc/1.0.0");
