//! What an app sees of a peer, put together from the parts.

use std::time::Duration;

use libp2p::PeerId;

use super::{Core, Now};
#[cfg(test)]
use crate::peer::ConnectionState;
use crate::peer::PeerInfo;

/// A peer's part of the snapshot. Times are kept as points, so that a snapshot read later is still true.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PeerView {
    info: PeerInfo,
    connected_since: Option<Duration>,
    retry_at: Option<Duration>,
}

impl PeerView {
    /// As it is at a time since the node's start.
    pub(crate) fn at(&self, since_start: Duration) -> PeerInfo {
        PeerInfo {
            connected_for: self.connected_since.map(|since| since_start.saturating_sub(since)),
            retry_in: self.retry_at.map(|at| at.saturating_sub(since_start)),
            ..self.info.clone()
        }
    }

    pub(crate) fn info(&self) -> &PeerInfo {
        &self.info
    }
}

#[cfg(test)]
impl PeerView {
    /// Of a peer of which nothing is known but the state of its connection.
    pub(crate) fn of_a_stranger(peer: PeerId, state: ConnectionState) -> Self {
        let info = PeerInfo {
            peer,
            state,
            kind: None,
            latency: None,
            connections: 0,
            addresses: Vec::new(),
            agent: None,
            connected_for: None,
            retry_in: None,
            waiting: 0,
            score: 1.0,
            relay: false,
            mailbox: false,
        };
        Self { info, connected_since: None, retry_at: None }
    }
}

pub(super) fn of(core: &Core, now: Now, peer: PeerId) -> Option<PeerView> {
    let known = core.discovery.knows(&peer) || core.connections.is_kept(&peer) || core.routing.outbox.has_mail(&peer);
    if !known || peer == core.settings.local {
        return None;
    }
    let (connection, known) = (core.connections.view(&peer), core.discovery.view(&peer));
    Some(PeerView {
        info: PeerInfo {
            peer,
            state: connection.state,
            kind: connection.kind,
            latency: connection.latency,
            connections: connection.connections,
            addresses: known.addresses,
            agent: known.agent,
            connected_for: None,
            retry_in: None,
            waiting: core.routing.outbox.waiting_for(&peer),
            score: core.trust.score(now, &peer),
            relay: known.relay,
            mailbox: core.mailboxes.is_at(&peer),
        },
        connected_since: connection.connected_since,
        retry_at: connection.retry_at,
    })
}
