//! Places at relays, through which a node is reached that can't be dialled itself, such as a browser's page.
//!
//! Not deepened yet: relays are taken as they come, not chosen by quality.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::core::{Now, Output, connections::Connections};

/// A relay that refused or lost us is not asked again sooner.
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Known to be a relay, nothing asked of it.
    Free {
        not_before: Duration,
    },
    Asked,
    Held,
}

pub(super) struct Relays {
    wanted: usize,
    /// Relays among the connected peers.
    places: BTreeMap<PeerId, Place>,
}

impl Relays {
    pub(super) fn new(wanted: usize) -> Self {
        Self { wanted, places: BTreeMap::new() }
    }

    /// A connected peer relays for others.
    pub(super) fn found(&mut self, relay: PeerId) {
        self.places.entry(relay).or_insert(Place::Free { not_before: Duration::ZERO });
    }

    /// The connection to a peer is gone, and any place at it.
    pub(super) fn gone(&mut self, _now: Now, relay: &PeerId) {
        self.places.remove(relay);
    }

    /// An address opened: if it leads through a relay, the place there is held.
    pub(super) fn listening(&mut self, address: &Multiaddr) {
        let mut relay = None;
        for part in address {
            match part {
                Protocol::P2p(peer) => relay = Some(peer),
                Protocol::P2pCircuit => break,
                _ => {}
            }
        }
        if let Some(place) = relay.and_then(|relay| self.places.get_mut(&relay)) {
            *place = Place::Held;
        }
    }

    /// A place was refused or lost.
    pub(super) fn lost(&mut self, now: Now, relay: &PeerId) {
        if let Some(place) = self.places.get_mut(relay) {
            *place = Place::Free { not_before: now.since_start + PAUSE };
        }
    }

    /// Asks for as many places as are missing.
    pub(super) fn reserve(&mut self, now: Now, connections: &Connections, out: &mut impl Extend<Output>) {
        let mut taken = self.places.values().filter(|place| !matches!(place, Place::Free { .. })).count();
        for (relay, place) in self.places.iter_mut() {
            let free = matches!(place, Place::Free { not_before } if *not_before <= now.since_start);
            if !free || taken >= self.wanted {
                continue;
            }
            if let Some(address) = connections.dialled_address(relay) {
                *place = Place::Asked;
                out.extend([Output::Reserve { relay: *relay, address }]);
                taken += 1;
            }
        }
    }
}
