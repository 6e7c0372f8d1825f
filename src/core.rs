//! The decisions, sans-IO: facts and wishes of the app go in, wishes to the world come out.
//!
//! Invariant: what comes out depends on nothing but the settings, the seed and what went in. There is no clock, no
//! randomness of the system, no async and no swarm in here, so every run can be replayed.
//!
//! The driver calls [`Core::handle`] for each fact, then [`Core::poll`] until it gives nothing more, then asks
//! [`Core::next_deadline`] and comes back with [`Input::Tick`] when that time has come.
//!
//! - `facts`: takes each fact to those whom it concerns; `frames`: a neighbour's; `mail`: what waits for a peer moves on;
//!   `dialling`: the app's wishes for connections; `upkeep`: what time brings, and the shutdown.
//! - `connections`: the state machine of each peer, retries, who is dialled when.
//! - `discovery`: the peer book, bootstrap, peer exchange, relay reservations.
//! - `routing`: the outbox of direct messages, broadcasts that wait, what was received before.
//! - `transfers`: which payloads are under way, and when a cut one is tried again.
//! - `keeping`: what of messages outlives the node.
//! - `posting`: broadcasts between the app, the neighbours and strangers' gossip; `bridges`: when others' posts go over to
//!   strangers.
//! - `trust`: scores.
//! - `upgrades`: from relayed to direct connections.
//! - `wakes`: what a sleep, or another network, changes.
//! - `health`: counters.

mod bridges;
mod connections;
mod dialling;
mod discovery;
mod facts;
mod frames;
mod health;
mod input;
mod keeping;
mod mail;
mod mailbox;
mod posting;
mod random;
mod routing;
mod transfers;
mod trust;
mod upgrades;
mod upkeep;
mod view;
mod wakes;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};

use crate::{config::NetworkConfig, frame::ControlContent, message::GroupName, peer::NetworkStats};

pub(crate) use input::{
    ConnectRequest, DialId, GossipVerdict, Input, Link, LinkId, Now, OutgoingMessage, Output, PeerFacts, RequestId,
    Search, Topic,
};
pub(crate) use routing::Restored;
pub(crate) use transfers::{Judgement, TransferInput, TransferOutput};
pub(crate) use view::PeerView;

use bridges::Bridges;
use connections::Connections;
use discovery::Discovery;
use health::Health;
use mailbox::Mailboxes;
use random::Random;
use routing::Routing;
use transfers::Transfers;
use trust::Trust;
use upgrades::Upgrades;

/// What the core needs to know of its node.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) local: PeerId,
    pub(crate) config: NetworkConfig,
    /// At how many relays to reserve a place.
    pub(crate) reservations: usize,
    /// Whether this target has a transport for an address.
    pub(crate) can_dial: fn(&Multiaddr) -> bool,
    /// Where randomness begins.
    pub(crate) seed: u64,
}

/// All decisions of one node.
pub(crate) struct Core {
    settings: Settings,
    connections: Connections,
    discovery: Discovery,
    routing: Routing,
    transfers: Transfers,
    mailboxes: Mailboxes,
    trust: Trust,
    upgrades: Upgrades,
    health: Health,
    bridges: Bridges,
    groups: BTreeSet<GroupName>,
    random: Random,
    /// When shutdown gives up waiting for what is queued.
    draining_until: Option<Duration>,
    drained: bool,
    /// The app has been told that the inbox is full, and it still is.
    inbox_full_told: bool,
    /// When waiting mail is looked at again though nothing has happened.
    mail_at: Duration,
    out: VecDeque<Output>,
    /// Peers whose view has changed.
    changed: BTreeSet<PeerId>,
}

impl Core {
    /// A node that knows its settings and nobody yet.
    pub(crate) fn new(settings: Settings, now: Now) -> Self {
        let mut core = Self {
            connections: Connections::new(&settings),
            discovery: Discovery::new(&settings),
            routing: Routing::new(settings.local, &settings.config),
            transfers: Transfers::new(&settings.config.transfers),
            mailboxes: Mailboxes::new(settings.local, &settings.config.mailbox, settings.seed),
            trust: Trust::default(),
            upgrades: Upgrades::new(settings.can_dial),
            health: Health::default(),
            bridges: Bridges::new(settings.local),
            groups: BTreeSet::new(),
            random: Random::new(settings.seed),
            draining_until: None,
            drained: false,
            inbox_full_told: false,
            mail_at: Duration::ZERO,
            out: VecDeque::new(),
            changed: BTreeSet::new(),
            settings,
        };
        core.discovery.begin(&mut core.connections, now);
        core.tick(now);
        core
    }
}

/// Polls.
impl Core {
    /// The next wish; `None` when there is nothing more to do for now.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        if self.out.is_empty() {
            // Acknowledgements wait until all facts at hand are in, so that one frame carries many.
            for (peer, ranges) in self.routing.inbox.take_acknowledgements() {
                self.control(peer, ControlContent::Acknowledge(ranges));
            }
            for (peer, note) in self.routing.spread.take_notes(&self.routing.outbox) {
                self.control(peer, ControlContent::Spread(note));
            }
            self.write_mail();
        }
        if self.out.is_empty() {
            // All that this turn has brought is one round.
            self.out.extend(self.routing.flush());
        }
        let mut output = self.out.pop_front()?;
        self.routing.journal.look_at(&mut output);
        Some(output)
    }

    /// When to come back with [`Input::Tick`] at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        [
            self.connections.next_deadline(),
            self.discovery.next_deadline(),
            self.upgrades.next_deadline(),
            self.routing.outbox.next_deadline(),
            self.routing.pending.next_deadline(),
            self.routing.spread.next_deadline(),
            self.bridges.next_deadline(),
            self.routing.next_deadline(),
            self.routing.outbox.next_deadline().map(|_| self.mail_at),
            self.transfers.next_deadline(),
            self.mailboxes.next_deadline().filter(|_| !self.drained),
            (!self.transfers.wanted().is_empty()).then_some(self.mail_at),
            self.draining_until.filter(|_| !self.drained),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Getters.
impl Core {
    /// Peers whose view has changed since the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<PeerId> {
        self.changed.extend(self.discovery.take_evicted());
        self.changed.extend(self.routing.outbox.take_changed());
        std::mem::take(&mut self.changed)
    }

    /// Everything known of a peer; `None` when nothing is.
    pub(crate) fn view(&self, now: Now, peer: PeerId) -> Option<PeerView> {
        view::of(self, now, peer)
    }

    /// How often frames were rejected, by the reason's name.
    pub(crate) fn rejections(&self) -> Arc<BTreeMap<&'static str, u64>> {
        self.health.rejections.clone()
    }

    /// The counters, but those of rejections.
    pub(crate) fn stats(&self) -> NetworkStats {
        NetworkStats {
            outbox: self.routing.outbox.len(),
            inbox: self.routing.held.len(),
            propagation: self.routing.spread.stats.clone(),
            mailbox: self.mailboxes.stats(),
            ..self.health.stats.clone()
        }
    }

    /// Why messages can't be stored; `None` while they can.
    pub(crate) fn store_failing(&self) -> Option<&str> {
        self.routing.journal.failing()
    }

    /// Whether shutdown has begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining_until.is_some()
    }
}

#[cfg(test)]
mod tests;
