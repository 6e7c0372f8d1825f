//! What handles read without asking the driver: one consistent picture, swapped as a whole.

mod peers;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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
    /// The counters, but those of rejections.
    pub(crate) stats: NetworkStats,
    /// These are many and change hardly ever.
    pub(crate) rejections: Arc<BTreeMap<&'static str, u64>>,
    /// Why messages can't be stored; `None` while they can.
    pub(crate) store_failing: Option<Arc<str>>,
    /// When the node stopped.
    pub(crate) stopped_at: Option<Duration>,
}

/// The newest picture. The lock is held for as long as a pointer takes to be copied; a list of all threads that may be
/// reading, as lock-free cells keep, would have to be walked at each renewal, and those are many more than readings.
pub(crate) struct Latest(Mutex<Arc<Snapshot>>);

impl Latest {
    fn new(snapshot: Snapshot) -> Self {
        Self(Mutex::new(Arc::new(snapshot)))
    }

    pub(crate) fn load(&self) -> Arc<Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn store(&self, snapshot: Snapshot) {
        let last = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), Arc::new(snapshot));
        // What nobody holds any more is taken apart after the lock.
        drop(last);
    }
}

/// What the driver publishes and handles take.
pub(crate) struct Published {
    pub(crate) snapshot: Latest,
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
            rejections: Arc::default(),
            store_failing: None,
            stopped_at: None,
        };
        Self {
            snapshot: Latest::new(snapshot),
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
        self.snapshot.store(Snapshot { phase, listen_addrs, peers, stopped_at, ..Snapshot::clone(&last) });
        self.events.send([NetworkEvent::Stopped]);
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
            rejections: self.core.rejections(),
            store_failing: self.core.store_failing().map(Arc::from),
            stopped_at: None,
        };
        self.published.snapshot.store(snapshot);
    }
}
