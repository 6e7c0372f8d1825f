//! What is known, read from the last snapshot.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};

use super::NetworkHandler;
use crate::peer::{ConnectionState, NetworkStats, NetworkStatus, PeerInfo};

/// Snapshots: read without asking the network, cheap enough for every frame.
impl NetworkHandler {
    /// This node's name in the network.
    pub fn local_peer_id(&self) -> PeerId {
        self.inner.identity.peer_id()
    }

    /// Where this node can be reached, without its peer id.
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.inner.published.snapshot.load().listen_addrs.clone()
    }

    /// The state of the connection to a peer.
    pub fn connection_state(&self, peer: &PeerId) -> ConnectionState {
        let snapshot = self.inner.published.snapshot.load();
        snapshot.peers.get(peer).map_or(ConnectionState::Disconnected, |view| view.info().state)
    }

    /// Every known peer, the connected ones first.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let (snapshot, now) = (self.inner.published.snapshot.load(), self.inner.clock.elapsed());
        let mut peers = snapshot.peers.iter().map(|view| view.at(now)).collect::<Vec<_>>();
        peers.sort_by_key(|info| (info.state != ConnectionState::Connected, info.peer));
        peers
    }

    /// What is known of a peer; `None` when nothing is.
    pub fn peer_info(&self, peer: &PeerId) -> Option<PeerInfo> {
        let snapshot = self.inner.published.snapshot.load();
        snapshot.peers.get(peer).map(|view| view.at(self.inner.clock.elapsed()))
    }

    /// How the node is doing.
    pub fn status(&self) -> NetworkStatus {
        let snapshot = self.inner.published.snapshot.load();
        NetworkStatus {
            local_peer_id: self.local_peer_id(),
            network: self.inner.config.network.clone(),
            phase: snapshot.phase,
            listen_addrs: snapshot.listen_addrs.clone(),
            connected: snapshot.peers.connected(),
            known: snapshot.peers.len(),
            groups: self.groups().iter().cloned().collect(),
            uptime: snapshot.stopped_at.unwrap_or_else(|| self.inner.clock.elapsed()),
        }
    }

    /// The counters since the start.
    pub fn network_stats(&self) -> NetworkStats {
        let snapshot = self.inner.published.snapshot.load();
        NetworkStats { rejections: BTreeMap::clone(&snapshot.rejections), ..snapshot.stats.clone() }
    }
}
