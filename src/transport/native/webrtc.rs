//! WebRTC on native machines, over str0m, which knows the protocols and nothing of sockets, tasks or time.
//!
//! The streams, their framing and the handshake are those of [`crate::transport::webrtc`], the same as in a page.
//!
//! - `endpoint`: one UDP socket and the task that owns it, with all connections over it. `routes`: whose datagram is this.
//! - `session`: one connection on the endpoint's side, where str0m is. `connection`: the same on libp2p's side.
//! - `socket`: datagrams in batches. `certificate`: what a node is known by.
//! - `transport`: WebRTC-direct, listens and dials. `nodes`: the connections of peers that meet behind a relay.
//!
//! **Who does what.** str0m is touched by the endpoint's task alone, so there is no lock around it. What libp2p's side
//! wishes (open, send, close) it leaves in the connection's list and rings; what comes is told to the streams at once,
//! whoever polls what. A connection lives on while the swarm is busy.

mod certificate;
mod connection;
mod endpoint;
mod nodes;
mod routes;
mod session;
mod socket;
mod transport;

#[cfg(test)]
mod tests;

pub(super) use certificate::Certificate;
pub(super) use nodes::Nodes;
pub(super) use transport::Transport;
