//! WebRTC as libp2p speaks it, without a word about who moves the packets.
//!
//! The framing of the streams, the muxer over them, WebRTC-direct's addresses and handshake and the signalling between
//! two peers behind a relay are the same in a page (over `RTCPeerConnection`) and natively (over str0m). A backend is a
//! [`Link`] with [`Channel`]s; it is told nothing about libp2p and knows nothing about frames.

mod assembly;
pub(crate) mod direct;
mod framing;
mod muxer;
pub(crate) mod signaling;
mod stream;

pub(crate) use framing::MAX_MESSAGE;
pub(crate) use muxer::{Link, Muxer, Streams};
pub(crate) use signaling::{IceCandidate, Negotiate};
pub(crate) use stream::{Channel, Handle, LOW_WATER, Stream};

#[cfg(test)]
mod tests;
