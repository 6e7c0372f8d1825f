//! Finding peers and being found. `book`: who is known where. `exchange`: signed records between neighbours. `relays`:
//! places at relays through which this node is reached. Here: bootstrap nodes, and how many peers to have.
//!
//! Not deepened yet: the peer book does not survive a restart, bootstrap addresses are not learned, and addresses are
//! not filtered by where they make sense.

mod book;
mod exchange;
mod relays;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};

use super::{
    DialId, Now, Output, Search, Settings,
    connections::{Connections, FailedDial, Keep, OFFLINE_PAUSE, backoff},
    input::{PeerFacts, peer_of},
    random::Random,
};
use crate::{
    config::ConnectionsConfig,
    event::{DiscoverTarget, DiscoverySource, NetworkEvent},
    frame::SignedRecord,
};

use book::Book;
use exchange::Exchange;
use relays::Relays;

/// Two nodes that learn of each other at the same time would dial each other: the one with the larger id waits so long
/// for the other.
const COURTESY: Duration = Duration::from_millis(1500);

/// How often the number of peers is looked at.
const UPKEEP: Duration = Duration::from_millis(500);

/// A peer whose search found nothing is not searched for again sooner.
pub(crate) const SEARCH_PAUSE: Duration = Duration::from_secs(5);

/// Searches at a time.
const MAX_SEARCHES: usize = 64;

struct Bootstrap {
    address: Multiaddr,
    /// Known from the address, or learned by connecting.
    peer: Option<PeerId>,
    dial: Option<DialId>,
    failures: u32,
    retry_at: Option<Duration>,
}

/// What [`super::view`] shows of what is known of a peer.
#[derive(Default)]
pub(crate) struct DiscoveryView {
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) agent: Option<String>,
    pub(crate) relay: bool,
}

pub(crate) struct Discovery {
    local: PeerId,
    target_peers: usize,
    refresh_interval: Duration,
    dht: bool,
    retries: ConnectionsConfig,
    bootstrap: Vec<Bootstrap>,
    book: Book,
    exchange: Exchange,
    relays: Relays,
    /// Searches under way: what the app asked for, and how many peers had been found before.
    searches: Vec<(Search, Option<DiscoverTarget>, u64)>,
    searched_at: HashMap<PeerId, Duration>,
    /// Peers that came to be known, ever.
    found: u64,
    upkeep_at: Duration,
    refresh_at: Duration,
    online: bool,
}

/// Facts in.
impl Discovery {
    pub(crate) fn new(settings: &Settings) -> Self {
        let config = &settings.config;
        let bootstrap = config.bootstrap.iter().map(|address| Bootstrap {
            address: address.clone(),
            peer: peer_of(address),
            dial: None,
            failures: 0,
            retry_at: Some(Duration::ZERO),
        });
        Self {
            local: settings.local,
            target_peers: config.discovery.target_peers,
            refresh_interval: config.discovery.refresh_interval,
            dht: config.discovery.dht,
            retries: config.connections.clone(),
            bootstrap: bootstrap.collect(),
            book: Book::new(settings.local, config.discovery.known_peers, settings.can_dial),
            exchange: Exchange::new(config.discovery.peer_exchange),
            relays: Relays::new(settings.reservations),
            searches: Vec::new(),
            searched_at: HashMap::new(),
            found: 0,
            upkeep_at: Duration::ZERO,
            refresh_at: config.discovery.refresh_interval,
            online: true,
        }
    }

    /// Takes the bootstrap nodes into the book.
    pub(crate) fn begin(&mut self, connections: &mut Connections, now: Now) {
        for bootstrap in &self.bootstrap {
            if let Some(peer) = bootstrap.peer.filter(|peer| *peer != self.local) {
                self.book.add(now, peer, vec![bootstrap.address.clone()], DiscoverySource::Bootstrap);
                connections.keep(peer, Keep::Bootstrap);
            }
        }
    }

    /// The app named a peer, and maybe where it is.
    pub(crate) fn named_by_app(&mut self, now: Now, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.book.add(now, peer, addresses, DiscoverySource::Manual);
    }

    /// The app, or the peer itself, wants no connection: it is not dialled for the number's sake for some time.
    pub(crate) fn leave_alone(&mut self, now: Now, peer: &PeerId) {
        self.book.pause(peer, now.since_start + self.refresh_interval);
    }

    pub(crate) fn connected(
        &mut self,
        now: Now,
        peer: PeerId,
        dialled: Option<Multiaddr>,
        dial: Option<DialId>,
        connections: &mut Connections,
        out: &mut impl Extend<Output>,
    ) {
        if let Some(address) = dialled {
            // What was dialled without the core's wish, the DHT dialled on its walk.
            let source = if dial.is_some() { DiscoverySource::Manual } else { DiscoverySource::Dht };
            self.found(now, peer, vec![address.clone()], source, out);
            self.book.confirmed(now, peer, address);
        } else {
            self.book.add(now, peer, Vec::new(), DiscoverySource::Identify);
        }
        for bootstrap in &mut self.bootstrap {
            if dial.is_some() && bootstrap.dial == dial {
                bootstrap.peer = Some(peer);
                bootstrap.dial = None;
            }
            if bootstrap.peer == Some(peer) {
                bootstrap.failures = 0;
                bootstrap.retry_at = None;
                connections.keep(peer, Keep::Bootstrap);
            }
        }
    }

    pub(crate) fn link_closed(&mut self, now: Now, peer: PeerId, still_connected: bool) {
        if !still_connected {
            self.exchange.gone(&peer);
            self.relays.gone(now, &peer);
        }
    }

    pub(crate) fn dial_failed(
        &mut self,
        now: Now,
        failed: &FailedDial,
        reason: &str,
        random: &mut Random,
        out: &mut impl Extend<Output>,
    ) {
        if let Some(peer) = failed.peer.filter(|_| !failed.excused) {
            self.book.pause(&peer, now.since_start + backoff(&self.retries, 3, random));
        }
        for bootstrap in &mut self.bootstrap {
            let retry_in = if bootstrap.dial == Some(failed.dial) {
                bootstrap.dial = None;
                bootstrap.failures += u32::from(!failed.excused);
                let pause = backoff(&self.retries, bootstrap.failures, random);
                let pause = if self.online { pause } else { pause.max(OFFLINE_PAUSE) };
                bootstrap.retry_at = Some(now.since_start + pause);
                Some(pause)
            } else if bootstrap.peer.is_some() && bootstrap.peer == failed.peer {
                failed.retry_in
            } else {
                None
            };
            out.extend(retry_in.map(|retry_in| {
                let (address, reason) = (bootstrap.address.clone(), reason.to_owned());
                Output::Event(NetworkEvent::BootstrapFailed { address, reason, retry_in })
            }));
        }
    }

    /// The node goes on after a sleep, or in another network: what failed before is tried again now.
    pub(crate) fn woken(&mut self, now: Now) {
        for bootstrap in &mut self.bootstrap {
            bootstrap.failures = 0;
            bootstrap.retry_at = bootstrap.retry_at.map(|at| at.min(now.since_start));
        }
        self.upkeep_at = now.since_start;
    }

    /// Whether there is a network.
    pub(crate) fn set_online(&mut self, online: bool) {
        self.online = online;
    }

    pub(crate) fn identified(
        &mut self,
        now: Now,
        peer: PeerId,
        facts: PeerFacts,
        has_mail: bool,
        connections: &mut Connections,
        out: &mut impl Extend<Output>,
    ) {
        connections.set_speaks_cpc(peer, facts.speaks_cpc);
        let addresses = facts.addresses.iter().take(SignedRecord::MAX_ADDRESSES).cloned().collect();
        self.found(now, peer, addresses, DiscoverySource::Identify, out);
        self.book.identified(&peer, &facts);
        // A node of another network that only the search for peers brought here is let go for good.
        if facts.same_network == Some(false) {
            self.book.set_foreign(&peer);
            if connections.keep_of(&peer) == Keep::Known && !has_mail {
                connections.let_go(&peer);
                out.extend([Output::ClosePeer(peer)]);
                return;
            }
        }
        if facts.relay {
            self.relays.found(peer);
            self.relays.reserve(now, connections, out);
        }
        if facts.speaks_cpc && facts.same_network == Some(true) {
            self.exchange.met(now, peer);
        }
    }

    /// A search, mDNS or the app found a peer.
    pub(crate) fn found(
        &mut self,
        now: Now,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        source: DiscoverySource,
        out: &mut impl Extend<Output>,
    ) {
        if peer == self.local {
            return;
        }
        let is_new = !self.book.knows(&peer);
        let addresses = self.book.add(now, peer, addresses, source);
        if is_new {
            self.found += 1;
        }
        if !addresses.is_empty() {
            self.upkeep_at = self.upkeep_at.min(now.since_start);
            out.extend([Output::Event(NetworkEvent::PeerDiscovered { peer, addresses, source })]);
        }
    }

    /// A neighbour told of peers. Returns those of whom it told something new.
    pub(crate) fn told_of(
        &mut self,
        now: Now,
        neighbour: PeerId,
        records: Vec<SignedRecord>,
        out: &mut impl Extend<Output>,
    ) -> BTreeSet<PeerId> {
        let mut told = BTreeSet::new();
        for record in records {
            let (peer, addresses) = (record.peer, record.addresses.clone());
            if peer != self.local && self.exchange.learn(now, neighbour, record) {
                self.found(now, peer, addresses, DiscoverySource::PeerExchange, out);
                told.insert(peer);
            }
        }
        told
    }

    pub(crate) fn search_finished(&mut self, search: &Search, out: &mut impl Extend<Output>) {
        let found = self.found;
        for (_, target, before) in self.searches.extract_if(.., |(other, ..)| other == search) {
            out.extend(target.map(|target| {
                let found = usize::try_from(found - before).unwrap_or(usize::MAX);
                Output::Event(NetworkEvent::DiscoveryFinished { target, found })
            }));
        }
    }

    pub(crate) fn listening(&mut self, now: Now, address: &Multiaddr) {
        self.relays.listening(address);
        self.exchange.reached_at(now, address.clone());
    }

    pub(crate) fn listen_closed(&mut self, now: Now, addresses: &[Multiaddr], reservation: Option<PeerId>) {
        self.exchange.not_reached_at(now, addresses);
        if let Some(relay) = reservation {
            self.relays.lost(now, &relay);
        }
    }

    pub(crate) fn own_record(&mut self, now: Now, record: SignedRecord) {
        self.exchange.own_record(now, record);
    }
}

/// Wishes in and out.
impl Discovery {
    /// The app searches.
    pub(crate) fn search(
        &mut self,
        target: DiscoverTarget,
        connections: &mut Connections,
        now: Now,
        out: &mut impl Extend<Output>,
    ) {
        let search = match &target {
            DiscoverTarget::Peer(peer) => Some(Search::Peer(*peer)),
            DiscoverTarget::All => Some(Search::Neighbourhood),
            // mDNS asks by itself all the time; what it finds comes as it is found.
            DiscoverTarget::LocalNetwork => None,
        };
        if target == DiscoverTarget::All {
            for bootstrap in &mut self.bootstrap {
                bootstrap.retry_at = bootstrap.retry_at.map(|at| at.min(now.since_start));
            }
            self.exchange.ask_again(now, connections.speaking_cpc());
        }
        match search {
            Some(search) if self.dht => self.begin_search(search, Some(target), out),
            _ => out.extend([Output::Event(NetworkEvent::DiscoveryFinished { target, found: 0 })]),
        }
    }

    /// Mail waits for a peer that nobody knows where to find.
    pub(crate) fn look_for(&mut self, now: Now, peer: PeerId, out: &mut impl Extend<Output>) {
        let recently = self.searched_at.get(&peer).is_some_and(|at| *at + SEARCH_PAUSE > now.since_start);
        if self.dht && !recently {
            self.searched_at.retain(|_, at| *at + SEARCH_PAUSE > now.since_start);
            if self.searched_at.len() < MAX_SEARCHES {
                self.searched_at.insert(peer, now.since_start);
                self.begin_search(Search::Peer(peer), None, out);
            }
        }
    }

    /// Upkeep: bootstrap nodes without a known id, enough peers, a refreshed routing table, places at relays.
    pub(crate) fn tick(
        &mut self,
        now: Now,
        connections: &mut Connections,
        random: &mut Random,
        out: &mut impl Extend<Output>,
    ) {
        for bootstrap in &mut self.bootstrap {
            let due = bootstrap.retry_at.is_some_and(|at| at <= now.since_start) && bootstrap.dial.is_none();
            if due {
                bootstrap.retry_at = None;
                match bootstrap.peer {
                    Some(peer) => {
                        let addresses = self.book.dialable(&peer, 0);
                        if addresses.is_empty() {
                            let reason = "no transport for this address here".to_owned();
                            let (address, retry_in) = (bootstrap.address.clone(), self.refresh_interval);
                            bootstrap.retry_at = Some(now.since_start + retry_in);
                            out.extend([Output::Event(NetworkEvent::BootstrapFailed { address, reason, retry_in })]);
                        }
                        connections.dial_known(peer, addresses, Keep::Bootstrap, out);
                    }
                    None => bootstrap.dial = Some(connections.dial_address(bootstrap.address.clone(), out)),
                }
            }
        }
        if self.upkeep_at <= now.since_start {
            self.upkeep_at = now.since_start + UPKEEP;
            if self.online {
                self.keep_enough_peers(now, connections, random, out);
            }
            self.relays.reserve(now, connections, out);
        }
        if self.refresh_at <= now.since_start {
            self.refresh_at = now.since_start + self.refresh_interval;
            if self.dht {
                self.begin_search(Search::Neighbourhood, None, out);
            }
        }
        out.extend(self.exchange.record_to_sign(now).map(|addresses| Output::SignRecord { addresses }));
    }

    /// The peer lists that are due, by neighbour.
    pub(crate) fn take_announcements(
        &mut self,
        now: Now,
        connections: &Connections,
    ) -> Vec<(PeerId, Vec<bytes::Bytes>)> {
        self.exchange.take_due(now, connections)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let bootstrap = self.bootstrap.iter().filter_map(|bootstrap| bootstrap.retry_at).min();
        [Some(self.upkeep_at), Some(self.refresh_at), bootstrap, self.exchange.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Getters.
impl Discovery {
    /// Where to dial a peer, the `attempt`th time in a row: the best kind of address first, then the others in turn.
    pub(crate) fn addresses_for_dial(&self, peer: &PeerId, attempt: u32) -> Vec<Multiaddr> {
        self.book.dialable(peer, attempt)
    }

    /// Peers forgotten since the last call, to make room for others.
    pub(crate) fn take_evicted(&mut self) -> Vec<PeerId> {
        self.book.take_evicted()
    }

    pub(crate) fn knows(&self, peer: &PeerId) -> bool {
        self.book.knows(peer)
    }

    pub(crate) fn view(&self, peer: &PeerId) -> DiscoveryView {
        self.book.view(peer)
    }
}

impl Discovery {
    fn begin_search(&mut self, search: Search, target: Option<DiscoverTarget>, out: &mut impl Extend<Output>) {
        let under_way = self.searches.iter().any(|(other, ..)| *other == search);
        if self.searches.len() >= MAX_SEARCHES {
            tracing::debug!(?search, "too many searches are under way");
            out.extend(target.map(|target| Output::Event(NetworkEvent::DiscoveryFinished { target, found: 0 })));
            return;
        }
        self.searches.push((search.clone(), target, self.found));
        if !under_way {
            out.extend([Output::Search(search)]);
        }
    }

    fn keep_enough_peers(
        &mut self,
        now: Now,
        connections: &mut Connections,
        random: &mut Random,
        out: &mut impl Extend<Output>,
    ) {
        let busy = connections.busy_peers();
        let missing = self.target_peers.saturating_sub(busy.len());
        if missing == 0 {
            return;
        }
        let local = self.local;
        let mut candidates = self.book.candidates(now, |peer, known_for| {
            let polite = peer > local || known_for >= COURTESY;
            polite && !busy.contains(&peer) && !connections.is_kept(&peer)
        });
        random.shuffle(&mut candidates);
        for peer in candidates.into_iter().take(missing) {
            let addresses = self.book.dialable(&peer, 0);
            connections.dial_known(peer, addresses, Keep::Known, out);
        }
    }
}
