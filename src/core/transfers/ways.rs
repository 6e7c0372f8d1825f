//! Which connection an attempt takes, and how much of a circuit transfers may use.
//!
//! A relay ends a circuit that has carried what it allows (circuit relay v2; by default in rust-libp2p and js-libp2p
//! 128 KiB), and with it the messages that need it. So a transfer first waits a moment for a direct connection, and then
//! takes a circuit only if it fits into the part that transfers may have.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{PeerId, multiaddr::Protocol};

use crate::{
    core::{Link, LinkId, Now, connections::Connections},
    peer::ConnectionKind,
};

/// How long a direct connection is waited for while there is only a circuit: an attempt at one has ten seconds, and
/// begins when identify is through.
pub(super) const DIRECT_WAIT: Duration = Duration::from_secs(12);

/// What the transfers of each end may have of a circuit's limit, in eighths: what is left when both use it is for
/// messages. Relays count both directions together.
const SHARE: u64 = 3;

/// Relays and peers whose limits are remembered.
const MAX_LIMITS: usize = 1024;

/// What there is for an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// No connection.
    None,
    /// A direct connection.
    Direct(LinkId),
    /// A circuit, on which so many bytes may be moved.
    Circuit { link: LinkId, room: Option<u64> },
    /// None for now: a direct connection may come until then.
    Soon(Duration),
    /// Circuits only, and none of them may carry so much; the largest limit.
    Narrow { limit: u64 },
}

/// What is known of the circuits.
#[derive(Debug, Default)]
pub(super) struct Circuits {
    /// By who told: the relay of circuits that were dialled here, the peer of those that weren't.
    limits: BTreeMap<(bool, PeerId), u64>,
    /// What transfers have used or been promised.
    used: BTreeMap<LinkId, (PeerId, u64)>,
}

impl Circuits {
    /// A relay said what a circuit may carry; nothing or 0 is no limit.
    pub(super) fn limited(&mut self, who: PeerId, outbound: bool, bytes: Option<u64>) {
        match bytes.filter(|bytes| *bytes > 0) {
            Some(bytes) => {
                if self.limits.len() >= MAX_LIMITS && !self.limits.contains_key(&(outbound, who)) {
                    self.limits.pop_first();
                }
                self.limits.insert((outbound, who), bytes);
            }
            None => drop(self.limits.remove(&(outbound, who))),
        }
    }

    /// Forgets those that are gone.
    pub(super) fn look(&mut self, connections: &Connections) {
        self.used.retain(|id, (peer, _)| connections.links(peer).iter().any(|link| link.id == *id));
    }

    /// So many bytes will be moved.
    pub(super) fn promise(&mut self, peer: PeerId, link: LinkId, bytes: u64) {
        let (_, used) = self.used.entry(link).or_insert((peer, 0));
        *used = used.saturating_add(bytes);
    }

    /// So many of them were not.
    pub(super) fn give_back(&mut self, link: LinkId, bytes: u64) {
        if let Some((_, used)) = self.used.get_mut(&link) {
            *used = used.saturating_sub(bytes);
        }
    }

    fn limit(&self, peer: PeerId, link: &Link) -> Option<u64> {
        let who = if link.outbound { relay(link)? } else { peer };
        self.limits.get(&(link.outbound, who)).copied()
    }

    fn room(&self, peer: PeerId, link: &Link) -> Option<u64> {
        let used = self.used.get(&link.id).map_or(0, |(_, used)| *used);
        self.limit(peer, link).map(|limit| (limit / 8 * SHARE).saturating_sub(used))
    }

    /// The way for an attempt at which `needed` bytes are left, if that is known. `until`: a direct connection may come
    /// so long.
    pub(super) fn choose(
        &self,
        now: Now,
        peer: PeerId,
        links: &[&Link],
        needed: Option<u64>,
        until: Option<Duration>,
    ) -> Way {
        if let Some(link) = direct(links) {
            return Way::Direct(link);
        }
        if links.is_empty() {
            return Way::None;
        }
        if let Some(until) = until.filter(|until| *until > now.since_start) {
            return Way::Soon(until);
        }
        // Of several, the youngest: what made an older one worse may not have been noticed yet.
        let widest = links.iter().max_by_key(|link| (self.room(peer, link).unwrap_or(u64::MAX), link.id));
        let Some(link) = widest else { return Way::None };
        match (self.room(peer, link), needed) {
            (None, _) => Way::Circuit { link: link.id, room: None },
            (Some(room), Some(needed)) if needed <= room => Way::Circuit { link: link.id, room: Some(needed) },
            (Some(room), None) if room > 0 => Way::Circuit { link: link.id, room: Some(room) },
            _ => Way::Narrow { limit: self.limit(peer, link).unwrap_or_default() },
        }
    }
}

/// The youngest direct connection.
pub(super) fn direct(links: &[&Link]) -> Option<LinkId> {
    links.iter().filter(|link| link.kind != ConnectionKind::Relayed).map(|link| link.id).max()
}

/// Who relays.
fn relay(circuit: &Link) -> Option<PeerId> {
    let parts = circuit.address.iter().take_while(|part| *part != Protocol::P2pCircuit);
    parts.filter_map(|part| if let Protocol::P2p(peer) = part { Some(peer) } else { None }).last()
}
