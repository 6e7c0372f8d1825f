//! What handles read without asking the driver: one consistent picture, swapped as a whole.

mod peers;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_channel::Receiver;
use libp2p::Multiaddr;

pub(crate) use peers::Peers;

use super::{Driver, now};
use crate::{
    config::NetworkConfig,
    event::NetworkEvent,
    hub::{Handover, Hub},
    message::ReceivedMessage,
    peer::{NetworkStats, Phase},
    transfers::{Desk, Offers},
};

/// The picture at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) phase: Phase,
    pub(crate) listen_addrs: Vec<Multiaddr>,
    pub(crate) peers: Peers,
    pub(crate) stats: NetworkStats,
    /// Why messages can't be stored; `None` while they can.
    pub(crate) store_failing: Option<Arc<str>>,
    /// When the node stopped.
    pub(crate) stopped_at: Option<Duration>,
}

/// What the driver publishes and handles take.
pub(crate) struct Published {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) events: Hub<NetworkEvent>,
    pub(crate) messages: Hub<ReceivedMessage>,
    pub(crate) offers: Offers,
    /// Where the handles of transfers leave what they want, and what rings when they do.
    pub(crate) desk: Arc<Desk>,
    pub(crate) bell: Receiver<()>,
    /// Messages that are kept until the app has confirmed them.
    pub(crate) kept: Handover,
}

impl Published {
    pub(crate) fn new(config: &NetworkConfig) -> Self {
        let (desk, bell) = Desk::new();
        let snapshot = Snapshot {
            phase: Phase::Alone,
            listen_addrs: Vec::new(),
            peers: Peers::default(),
            stats: NetworkStats::default(),
            store_failing: None,
            stopped_at: None,
        };
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            events: Hub::new(config.limits.event_buffer),
            messages: Hub::new(config.limits.message_buffer),
            offers: Offers::new(config.transfers.offers_waiting),
            desk,
            bell,
            kept: Handover::new(),
        }
    }

    /// The last picture and the last event.
    pub(crate) fn stopped(&self, since_start: Duration) {
        let last = self.snapshot.load();
        let (listen_addrs, peers) = (Vec::new(), Peers::default());
        let (phase, stopped_at) = (Phase::Stopped, Some(since_start));
        self.snapshot.store(Arc::new(Snapshot { phase, listen_addrs, peers, stopped_at, ..Snapshot::clone(&last) }));
        self.events.send(NetworkEvent::Stopped);
        self.events.close();
        self.messages.close();
        self.offers.close();
    }
}

impl Driver {
    /// Renews the picture, looking only at the peers that have changed.
    pub(super) fn publish_snapshot(&mut self) {
        let last = self.published.snapshot.load();
        let changed = self.core.take_changed();
        let mut peers = last.peers.clone();
        if !changed.is_empty() {
            let now = now(&self.clock);
            for peer in changed {
                match self.core.view(now, peer) {
                    Some(view) => peers.insert(view),
                    None => peers.remove(&peer),
                }
            }
        }
        let snapshot = Snapshot {
            phase: self.phase(peers.connected()),
            listen_addrs: self.swarm.listeners().cloned().collect(),
            peers,
            stats: self.core.stats(),
            store_failing: self.core.store_failing().map(Arc::from),
            stopped_at: None,
        };
        self.published.snapshot.store(Arc::new(snapshot));
    }
}
