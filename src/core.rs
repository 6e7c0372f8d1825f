//! The decisions, sans-IO: facts and wishes of the app go in, wishes to the world come out.
//!
//! Invariant: what comes out depends on nothing but the settings, the seed and what went in. There is no clock, no
//! randomness of the system, no async and no swarm in here, so every run can be replayed.
//!
//! The driver calls [`Core::handle`] for each fact, then [`Core::poll`] until it gives nothing more, then asks
//! [`Core::next_deadline`] and comes back with [`Input::Tick`] when that time has come.
//!
//! - `connections`: the state machine of each peer, retries, who is dialled when.
//! - `discovery`: the peer book, bootstrap, peer exchange, relay reservations.
//! - `routing`: the outbox of direct messages, broadcasts that wait, what was received before.
//! - `transfers`: which payloads are under way, and when a cut one is tried again.
//! - `keeping`: what of messages outlives the node.
//! - `posting`: broadcasts between the app, the neighbours and strangers' gossip.
//! - `trust`: scores.
//! - `upgrades`: from relayed to direct connections.
//! - `wakes`: what a sleep, or another network, changes.
//! - `health`: counters.

mod connections;
mod discovery;
mod health;
mod input;
mod keeping;
mod posting;
mod random;
mod routing;
mod transfers;
mod trust;
mod upgrades;
mod view;
mod wakes;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    config::NetworkConfig,
    error::ConnectError,
    event::{NetworkEvent, RejectReason},
    frame::{Content, ControlContent, Frame, Incoming, Rejection},
    message::{GroupName, Priority},
    peer::{ConnectionState, NetworkStats},
};

pub(crate) use input::{
    ConnectRequest, DialId, GossipVerdict, Input, Link, LinkId, Now, OutgoingMessage, Output, PeerFacts, RequestId,
    Search, Topic,
};
pub(crate) use routing::Restored;
pub(crate) use transfers::{Judgement, TransferInput, TransferOutput};
pub(crate) use view::PeerView;

use connections::Connections;
use discovery::Discovery;
use health::Health;
use random::Random;
use routing::Routing;
use transfers::{Transfers, World};
use trust::Trust;
use upgrades::Upgrades;

/// Below this score a peer's rejections are only counted: no event, no ERROR reply.
const REPLY_SCORE: f32 = 0.3;

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From its author, for this node, by this connection.
    Lane(LinkId),
    /// As a post that a neighbour passed on.
    Post,
    /// As a post, by a stranger's gossip.
    Gossip,
}

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
    trust: Trust,
    upgrades: Upgrades,
    health: Health,
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

/// Facts in.
impl Core {
    /// A node that knows its settings and nobody yet.
    pub(crate) fn new(settings: Settings, now: Now) -> Self {
        let mut core = Self {
            connections: Connections::new(&settings),
            discovery: Discovery::new(&settings),
            routing: Routing::new(settings.local, &settings.config),
            transfers: Transfers::new(&settings.config.transfers),
            trust: Trust::default(),
            upgrades: Upgrades::new(settings.can_dial),
            health: Health::default(),
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

    /// Takes one fact in. What follows from it is had by [`poll`](Self::poll).
    pub(crate) fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Connect(request) => self.connect(now, request),
            Input::Disconnect { request, peer } => self.disconnect(now, request, peer),
            Input::Send { peer, message } => {
                self.health.accepted(message.letter.priority);
                if let Some(message) = self.routing.journal.accept(peer, message, &mut self.out) {
                    self.take_on(now, peer, message);
                }
            }
            Input::BroadcastNeighbors { message } => {
                self.health.accepted(message.letter.priority);
                let peers = self.connections.speaking_cpc().collect::<Vec<_>>();
                if peers.is_empty() {
                    self.health.stats.broadcasts_dropped += 1;
                }
                for peer in peers {
                    if !self.routing.outbox.accept(peer, message.clone(), false, &mut self.out) {
                        self.health.stats.broadcasts_dropped += 1;
                    }
                    self.deliver_mail(now, peer);
                }
            }
            Input::BroadcastDirected { peers, message } => self.broadcast_directed(now, peers, &message),
            Input::Post { message } => self.post(now, message),
            Input::Published { nonce, priority } => self.taken(nonce, priority),
            Input::PublishFailed { message } => {
                self.health.stats.broadcasts_dropped += self.routing.pending.failed(now, message);
            }
            Input::PublishDropped => self.health.stats.broadcasts_dropped += 1,
            Input::Subscribed { topic } => self.routing.pending.somebody_listens(now, &topic),
            Input::JoinGroup { group } => {
                self.groups.insert(group.clone());
                self.routing.spread.join(now, group.clone());
                self.out.push_back(Output::Subscribe(Topic::Group(group)));
            }
            Input::LeaveGroup { group } => {
                self.groups.remove(&group);
                self.routing.spread.leave(now, &group);
                self.out.push_back(Output::Unsubscribe(Topic::Group(group)));
            }
            Input::Discover { target } => self.discovery.search(target, &mut self.connections, now, &mut self.out),
            Input::Drain => self.drain(now),
            Input::Restored(restored) => self.restored(now, *restored),
            Input::Journal { stored, failing } => self.journal_reported(now, stored, failing),
            Input::Confirmed { serial } => self.confirmed(serial),
            Input::LinkOpened { peer, link, dial } => {
                self.health.stats.connections_opened += 1;
                let address = link.address.clone();
                let outbound = link.outbound;
                self.routing.outbox.link_opened(peer, &link);
                self.connections.link_opened(now, peer, link, dial, &mut self.out);
                if let Some(dial) = dial {
                    self.upgrades.dial_succeeded(dial);
                }
                self.upgrades.look(now, peer, &self.connections);
                self.discovery.connected(
                    now,
                    peer,
                    outbound.then_some(address),
                    dial,
                    &mut self.connections,
                    &mut self.out,
                );
                self.routing.spread.set_relayed(&peer, self.is_relayed(&peer));
                self.changed.insert(peer);
                self.deliver_mail(now, peer);
                self.routing.outbox.tell_connected(peer, &mut self.out);
                self.look_at_transfers(now);
            }
            Input::LinkClosed { peer, link, reason } => {
                self.health.stats.connections_closed += 1;
                self.connections.link_closed(now, peer, link, &reason, &mut self.random, &mut self.out);
                self.upgrades.look(now, peer, &self.connections);
                self.discovery.link_closed(now, peer, self.connections.state(&peer) == ConnectionState::Connected);
                self.health.stats.messages_failed += self.routing.outbox.link_closed(peer, link, &mut self.out);
                self.routing.inbox.link_closed(link);
                self.link_of_neighbour_closed(now, peer);
                self.changed.insert(peer);
                // Who has said goodbye is left alone for a moment, also with mail.
                if self.connections.state(&peer) == ConnectionState::Connected {
                    self.deliver_mail(now, peer);
                }
                self.look_at_transfers(now);
            }
            Input::DialFailed { dial, reason } => self.dial_failed(now, dial, &reason),
            Input::Identified { peer, facts } => {
                self.changed.insert(peer);
                let has_mail = self.routing.outbox.has_mail(&peer);
                self.meet(now, peer, &facts);
                self.upgrades.identified(now, peer, facts.signals_webrtc, &self.connections);
                self.discovery.identified(now, peer, facts, has_mail, &mut self.connections, &mut self.out);
                self.deliver_mail(now, peer);
            }
            Input::Pinged { peer, link, latency } => {
                self.connections.pinged(peer, latency, &mut self.out);
                self.routing.outbox.pinged(peer, link, latency);
                self.changed.insert(peer);
            }
            Input::PingFailed { link } => self.ping_failed(now, link),
            Input::ProbeFailed { link } => self.out.push_back(Output::CloseLink(link)),
            Input::Woken { slept } => self.woken(now, slept),
            Input::Online(online) => self.online(now, online),
            Input::Frames { peer, link, batch, bytes } => {
                self.health.stats.bytes_received += bytes as u64;
                let room = batch.iter().flatten().any(|incoming| !incoming.acknowledged.is_empty());
                for result in batch {
                    self.frame(now, peer, link, result);
                }
                // What waited because so much was unacknowledged can leave.
                if room {
                    self.deliver_mail(now, peer);
                }
            }
            Input::Gossiped { source, ticket, result } => {
                let verdict = self.gossiped(now, source, *result);
                self.out.push_back(Output::Judge { ticket, verdict });
            }
            Input::Verified { from, id, result } => self.verified(now, from, id, *result),
            Input::Written { peer, link, priority, count, bytes } => {
                self.health.stats.bytes_sent += bytes as u64;
                self.routing.outbox.written(now, peer, link, priority, count);
                self.deliver_mail(now, peer);
            }
            Input::Lost { peer, link, priority, count } => {
                self.health.stats.messages_failed +=
                    self.routing.outbox.lost(peer, link, priority, count, &mut self.out);
                self.routing.spread.lost(now, peer);
                self.deliver_mail(now, peer);
            }
            Input::Unsupported { peer } => {
                self.connections.set_speaks_cpc(peer, false);
                self.health.stats.messages_failed +=
                    self.routing.outbox.refuse(peer, "it doesn't speak /cpc/1.0.0", &mut self.out);
            }
            Input::Discovered { peer, addresses, source } => {
                self.discovery.found(now, peer, addresses, source, &mut self.out);
                self.changed.insert(peer);
                self.deliver_mail(now, peer);
            }
            Input::SearchFinished { search } => self.discovery.search_finished(&search, &mut self.out),
            Input::Listening { address } => {
                self.discovery.listening(now, &address);
                self.out.push_back(Output::Event(NetworkEvent::Listening { address }));
            }
            Input::ListenClosed { addresses, reservation, reason } => {
                self.discovery.listen_closed(now, &addresses, reservation);
                self.out.extend(
                    addresses
                        .into_iter()
                        .map(|address| Output::Event(NetworkEvent::ListenClosed { address, reason: reason.clone() })),
                );
            }
            Input::OwnRecord { record } => self.discovery.own_record(now, record),
            Input::Transfer(input) => {
                let (transfers, world) = self.transfers_and_world(now);
                transfers.handle(world, input);
                self.reach_for_transfers(now);
            }
            Input::Rejected { peer, rejection } => {
                self.reject(now, peer, rejection, Way::Gossip);
            }
            Input::Missed { count } => {
                self.health.stats.messages_missed += count;
                self.out.push_back(Output::Event(NetworkEvent::MessagesMissed { count }));
            }
            Input::Tick => self.tick(now),
        }
        self.settle(now);
        self.routing.time_marks(now);
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
            self.routing.next_deadline(),
            self.routing.outbox.next_deadline().map(|_| self.mail_at),
            self.transfers.next_deadline(),
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

    /// The counters.
    pub(crate) fn stats(&self) -> NetworkStats {
        NetworkStats {
            outbox: self.routing.outbox.len(),
            inbox: self.routing.held.len(),
            propagation: self.routing.spread.stats.clone(),
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

/// What follows from the facts.
impl Core {
    fn connect(&mut self, now: Now, request: ConnectRequest) {
        if let Some(address) = request.address().filter(|address| !(self.settings.can_dial)(address)) {
            let reason = "no transport for this address here".to_owned();
            let result = Err(ConnectError::Failed { target: address.to_string(), reason });
            self.out.push_back(Output::Answer { request: request.id, result });
            return;
        }
        if let Some(peer) = request.peer() {
            let addresses = request.address().cloned().into_iter().collect::<Vec<_>>();
            self.discovery.named_by_app(now, peer, addresses);
            self.changed.insert(peer);
            let mut dialable = self.discovery.addresses_for_dial(&peer, 0);
            if let Some(address) = request.address().filter(|address| !dialable.contains(address)) {
                // The address that was asked for is tried, whatever else is known.
                dialable.insert(0, address.clone());
            }
            self.connections.connect_peer(now, request, peer, dialable, &mut self.out);
        } else {
            self.connections.connect_address(now, request, &mut self.out);
        }
    }

    fn disconnect(&mut self, now: Now, request: RequestId, peer: PeerId) {
        self.discovery.leave_alone(now, &peer);
        if self.connections.begin_disconnect(now, peer, Some(request), &mut self.out) {
            self.control(peer, ControlContent::Goodbye);
        }
        self.changed.insert(peer);
    }

    fn dial_failed(&mut self, now: Now, dial: DialId, reason: &str) {
        self.health.stats.dials_failed += 1;
        if self.upgrades.dial_failed(now, dial, &mut self.random) {
            tracing::debug!(reason, "no direct connection to a relayed peer");
        }
        let Some(failed) = self.connections.dial_failed(now, dial, reason, &mut self.random, &mut self.out) else {
            return;
        };
        self.discovery.dial_failed(now, &failed, reason, &mut self.random, &mut self.out);
        if let Some(peer) = failed.peer {
            self.routing.outbox.obstacle(peer, reason);
            self.transfers.obstacle(&peer, reason);
            self.changed.insert(peer);
        }
    }

    fn transfers_and_world<'a>(&'a mut self, now: Now) -> (&'a mut Transfers, World<'a>) {
        let draining = self.draining_until.is_some();
        let world =
            World { now, connections: &self.connections, draining, stats: &mut self.health.stats, out: &mut self.out };
        (&mut self.transfers, world)
    }

    /// Lets transfers see what has changed.
    fn look_at_transfers(&mut self, now: Now) {
        let (transfers, world) = self.transfers_and_world(now);
        transfers.look(world);
    }

    /// Looks for a way to those whom a transfer waits for.
    fn reach_for_transfers(&mut self, now: Now) {
        for peer in self.transfers.wanted() {
            if self.connections.state(&peer) == ConnectionState::Disconnected {
                self.deliver_mail(now, peer);
            }
        }
    }

    /// One frame from a neighbour.
    fn frame(&mut self, now: Now, neighbour: PeerId, link: LinkId, result: Result<Incoming, Rejection>) {
        let incoming = match result {
            Ok(incoming) => incoming,
            Err(rejection) => {
                self.reject(now, neighbour, rejection, Way::Lane(link));
                return;
            }
        };
        if !incoming.acknowledged.is_empty() {
            let delivered = self.routing.outbox.acknowledged(now, neighbour, &incoming.acknowledged, &mut self.out);
            self.health.stats.messages_delivered += delivered;
            self.changed.insert(neighbour);
            self.deliver_mail(now, neighbour);
        }
        match incoming.content {
            Content::Message(frame) => {
                self.take(now, neighbour, frame, Way::Lane(link));
            }
            Content::Post(post) => self.post_came(now, neighbour, post),
            Content::Spread(note) => self.note_came(now, neighbour, note),
            Content::PeerList { records, forged } => {
                for rejection in forged {
                    self.reject(now, neighbour, rejection, Way::Lane(link));
                }
                self.changed.extend(records.iter().map(|record| record.peer));
                let told = self.discovery.told_of(now, neighbour, records, &mut self.out);
                for peer in told {
                    self.deliver_mail(now, peer);
                }
            }
            Content::Error { reason, detail, nonce } => {
                tracing::debug!(peer = %neighbour, %reason, %detail, "the peer rejected a frame");
                if let Some(nonce) = nonce {
                    self.health.stats.messages_failed +=
                        self.routing.outbox.rejected(neighbour, nonce, &reason, &mut self.out);
                }
            }
            Content::Goodbye => {
                self.connections.said_goodbye(neighbour);
                self.discovery.leave_alone(now, &neighbour);
                // Who hears the goodbye closes: if its sender did, the close could overtake it.
                self.out.push_back(Output::ClosePeer(neighbour));
            }
            Content::Nothing => {}
        }
    }

    /// A message with a good signature, by a lane or as a post. Returns what becomes of a post.
    fn take(&mut self, now: Now, neighbour: PeerId, frame: Frame, way: Way) -> GossipVerdict {
        let context = routing::Arrival {
            local: self.settings.local,
            neighbour,
            lane: if let Way::Lane(link) = way { Some(link) } else { None },
            groups: &self.groups,
            room: self.room(),
        };
        match self.routing.inbox.check(now, frame, context, &self.settings.config) {
            Ok(checked) => self.checked(neighbour, checked),
            Err(rejection) => self.reject(now, neighbour, rejection, way),
        }
    }

    fn reject(&mut self, now: Now, neighbour: PeerId, mut rejection: Rejection, way: Way) -> GossipVerdict {
        self.health.rejected(rejection.reason);
        let late = matches!(
            rejection.reason,
            RejectReason::Expired | RejectReason::TooManyHops | RejectReason::Replayed | RejectReason::UnknownGroup
        );
        if late && (!matches!(way, Way::Lane(_)) || self.connections.is_waking(now)) {
            // Whoever passed it on may have had it in time, and need not know better. So may have a neighbour whose
            // frames waited while this node slept.
            return GossipVerdict::Ignore;
        }
        self.trust.offence(now, neighbour, rejection.reason);
        self.changed.insert(neighbour);
        // A peer of no standing is only counted: its rejections would crowd out what matters.
        if self.trust.score(now, &neighbour) > REPLY_SCORE {
            self.out.push_back(Output::Event(NetworkEvent::MessageRejected {
                peer: neighbour,
                reason: rejection.reason,
                detail: rejection.detail.clone(),
            }));
            if way == Way::Post {
                // The number means something to the author, who may be somebody else.
                rejection.nonce = None;
            }
            if way != Way::Gossip && self.connections.state(&neighbour) == ConnectionState::Connected {
                self.control(neighbour, ControlContent::Error(rejection));
            }
        }
        GossipVerdict::Reject
    }

    /// A message that the outbox gets: it leaves as soon as it may, and what is less urgent gives way if it must.
    fn take_on(&mut self, now: Now, peer: PeerId, message: OutgoingMessage) {
        let priority = message.letter.priority;
        self.routing.outbox.accept(peer, message, true, &mut self.out);
        self.deliver_mail(now, peer);
        let shed = self.routing.outbox.shed(peer, priority, &mut self.out);
        self.health.stats.messages_shed += shed;
        self.health.stats.messages_failed += shed;
    }

    /// A frame below the app, past the outbox.
    fn control(&mut self, peer: PeerId, content: ControlContent) {
        self.routing.outbox.control(peer, content, &mut self.out);
    }

    /// Moves a peer's mail on: onto its lanes when it is connected, else towards a connection.
    fn deliver_mail(&mut self, now: Now, peer: PeerId) {
        match self.connections.state(&peer) {
            ConnectionState::Connected => {
                let left = self.routing.outbox.pump(now, peer, &mut self.out);
                for priority in Priority::ALL {
                    self.health.sent(priority, left[priority.lane()]);
                }
            }
            ConnectionState::Disconnected
                if (self.routing.outbox.has_mail(&peer) || self.transfers.wants(&peer)) && !self.is_draining() =>
            {
                let dialable = self.discovery.addresses_for_dial(&peer, 0);
                if dialable.is_empty() {
                    self.routing.outbox.obstacle(peer, "no address is known");
                    self.discovery.look_for(now, peer, &mut self.out);
                } else {
                    self.connections.want_for_mail(now, peer, dialable, &mut self.out);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Now) {
        if self.mail_at <= now.since_start {
            self.mail_at = now.since_start + discovery::SEARCH_PAUSE;
            for peer in self.routing.outbox.peers_with_mail() {
                self.deliver_mail(now, peer);
            }
            self.reach_for_transfers(now);
        }
        let retries = self.connections.due(now, &mut self.out);
        for (peer, attempt) in retries {
            let addresses = self.discovery.addresses_for_dial(&peer, attempt);
            self.connections.retry(now, peer, addresses, &mut self.random, &mut self.out);
            self.changed.insert(peer);
        }
        let expired = self.routing.outbox.tick(now, &mut self.out);
        self.health.stats.messages_failed += expired.failed;
        for peer in expired.resend {
            self.deliver_mail(now, peer);
        }
        self.post_again(now);
        self.routing.spread.tick(now);
        let connections = &mut self.connections;
        self.upgrades.tick(now, connections, &mut self.out);
        self.discovery.tick(now, connections, &mut self.random, &mut self.out);
        self.look_at_transfers(now);
    }

    fn drain(&mut self, now: Now) {
        if self.draining_until.is_none() {
            self.draining_until = Some(now.since_start + self.settings.config.delivery.drain_timeout);
            let (transfers, world) = self.transfers_and_world(now);
            transfers.drain(world);
        }
    }

    /// Ends what the facts have completed: peer lists that are due, and the shutdown.
    fn settle(&mut self, now: Now) {
        for (peer, envelopes) in self.discovery.take_announcements(now, &self.connections) {
            self.control(peer, ControlContent::PeerList(envelopes));
        }
        self.routing.spread.pump(now, &mut self.routing.outbox, &mut self.out);
        let Some(until) = self.draining_until else { return };
        let leaves =
            |peer: PeerId| self.routing.outbox.has_mail(&peer) || self.routing.outbox.has_posts_under_way(&peer);
        let reachable_mail = !self.routing.spread.is_idle() || self.connections.connected().any(leaves);
        let storing = self.routing.journal.is_accepting();
        if self.drained || ((reachable_mail || storing) && now.since_start < until) {
            return;
        }
        self.drained = true;
        self.connections.stop();
        for peer in self.connections.connected().collect::<Vec<_>>() {
            if self.connections.begin_disconnect(now, peer, None, &mut self.out) {
                self.control(peer, ControlContent::Goodbye);
            }
        }
        self.routing.outbox.give_up(&self.settings.local, &mut self.out);
        self.give_up_keeping();
        self.out.push_back(Output::Drained);
    }
}

#[cfg(test)]
mod tests;
