//! How bytes leave the machine.
//!
//! The twins `native` and `browser` have the same signatures; nobody outside chooses between them.

#[cfg(browser)]
mod browser;
#[cfg(native)]
mod native;
#[cfg(native)]
mod security;

#[cfg(browser)]
use browser as here;
#[cfg(native)]
use native as here;

pub(crate) use here::{
    KEPT_BY_THE_TRANSPORT, LocalDiscovery, build, can_dial, check_free, default_listen, default_reservations, dht_mode,
    local_discovery, locally_found,
};

use libp2p::{Multiaddr, PeerId};

/// A peer found on the local network, or gone from it.
pub(crate) type LocallyFound = Vec<(PeerId, Multiaddr)>;
