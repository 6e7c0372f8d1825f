//! How bytes leave the machine.
//!
//! The twins `native` and `browser` have the same signatures; nobody outside chooses between them.

#[cfg(browser)]
mod browser;
mod circuits;
mod multiplexing;
#[cfg(native)]
mod native;
#[cfg(native)]
mod security;
mod webrtc;

#[cfg(browser)]
use browser as here;
#[cfg(native)]
use native as here;

pub(crate) use here::{
    KEPT_BY_THE_TRANSPORT, LocalDiscovery, Signaling, build, can_dial, check_free, default_listen,
    default_reservations, dht_mode, local_discovery, locally_found,
};

#[cfg(all(browser, feature = "probe"))]
pub(crate) use browser::live;
pub(crate) use webrtc::signaling::PROTOCOL as SIGNALING_PROTOCOL;

use libp2p::{
    Multiaddr, PeerId,
    core::{muxing::StreamMuxerBox, transport::Boxed},
    relay,
};

/// A connection that stands: authenticated, encrypted, with many streams.
type Connection = (PeerId, StreamMuxerBox);

/// What [`build`] gives.
pub(crate) struct Built {
    pub(crate) transport: Boxed<Connection>,
    /// The half of the circuits that takes part in the swarm's behaviour.
    pub(crate) relay_client: relay::client::Behaviour,
    /// The half of WebRTC behind relays that takes part in the swarm's behaviour.
    pub(crate) signaling: Signaling,
    /// What the next start should be given, to be kept until then.
    pub(crate) to_keep: Option<Vec<u8>>,
}

/// A peer found on the local network, or gone from it.
pub(crate) type LocallyFound = Vec<(PeerId, Multiaddr)>;
