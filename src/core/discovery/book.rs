//! The peer book: who is known, where, since when, and by whom.
//!
//! Invariant: at most so many peers as configured with at most [`MAX_ADDRESSES`] addresses each. Who was heard of longest
//! ago makes room, those first for whom nothing speaks but somebody's word: a neighbour that makes peers up can't push
//! out the real ones.

use std::{collections::HashMap, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::DiscoveryView;
use crate::{
    core::{
        Now,
        input::{PeerFacts, peer_of},
    },
    event::DiscoverySource,
    peer::ConnectionKind,
};

/// Addresses remembered of one peer.
const MAX_ADDRESSES: usize = 16;

/// Addresses tried in one dial.
const MAX_DIALLED: usize = 8;

struct Address {
    address: Multiaddr,
    source: DiscoverySource,
    heard_at: Duration,
    /// When it last led to the peer.
    confirmed_at: Option<Duration>,
}

struct Entry {
    addresses: Vec<Address>,
    known_since: Duration,
    heard_at: Duration,
    /// Not dialled for the number's sake before.
    paused_until: Duration,
    agent: Option<String>,
    relay: bool,
    /// It belongs to another network.
    foreign: bool,
}

impl Entry {
    /// Whether more speaks for it than somebody's word: the app or the configuration named it, or it was reached.
    fn is_proven(&self) -> bool {
        self.addresses.iter().any(|known| is_given(known.source) || known.confirmed_at.is_some())
    }
}

/// Whether an address was given to this node by its own people.
fn is_given(source: DiscoverySource) -> bool {
    matches!(source, DiscoverySource::Manual | DiscoverySource::Bootstrap)
}

pub(super) struct Book {
    local: PeerId,
    capacity: usize,
    can_dial: fn(&Multiaddr) -> bool,
    entries: HashMap<PeerId, Entry>,
    /// Who made room since the last look.
    evicted: Vec<PeerId>,
}

impl Book {
    pub(super) fn new(local: PeerId, capacity: usize, can_dial: fn(&Multiaddr) -> bool) -> Self {
        Self { local, capacity, can_dial, entries: HashMap::new(), evicted: Vec::new() }
    }

    /// Takes addresses in; returns those that were not known. Addresses that lead to somebody else are left out.
    pub(super) fn add(
        &mut self,
        now: Now,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        source: DiscoverySource,
    ) -> Vec<Multiaddr> {
        if peer == self.local {
            return Vec::new();
        }
        let entry = self.entry(now, peer);
        let mut new = Vec::new();
        for address in addresses {
            let Some(address) = complete(address, peer) else { continue };
            if let Some(known) = entry.addresses.iter_mut().find(|known| known.address == address) {
                known.heard_at = now.since_start;
                continue;
            }
            if entry.addresses.len() >= MAX_ADDRESSES {
                let stalest = entry
                    .addresses
                    .iter()
                    .enumerate()
                    .min_by_key(|(_, known)| (is_given(known.source), known.confirmed_at, known.heard_at))
                    .map(|(at, _)| at);
                if let Some(at) = stalest {
                    entry.addresses.swap_remove(at);
                }
            }
            new.push(address.clone());
            entry.addresses.push(Address { address, source, heard_at: now.since_start, confirmed_at: None });
        }
        new
    }

    /// An address led to the peer.
    pub(super) fn confirmed(&mut self, now: Now, peer: PeerId, address: Multiaddr) {
        self.add(now, peer, vec![address.clone()], DiscoverySource::Identify);
        let (Some(entry), Some(address)) = (self.entries.get_mut(&peer), complete(address, peer)) else { return };
        if let Some(known) = entry.addresses.iter_mut().find(|known| known.address == address) {
            known.confirmed_at = Some(now.since_start);
        }
    }

    pub(super) fn identified(&mut self, peer: &PeerId, facts: &PeerFacts) {
        if let Some(entry) = self.entries.get_mut(peer) {
            // It is a stranger's text that ends up before people.
            entry.agent = Some(facts.agent.chars().filter(|character| !character.is_control()).take(64).collect());
            entry.relay = facts.relay;
        }
    }

    pub(super) fn set_foreign(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.foreign = true;
        }
    }

    pub(super) fn pause(&mut self, peer: &PeerId, until: Duration) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.paused_until = entry.paused_until.max(until);
        }
    }

    /// Where to dial the peer the `attempt`th time in a row. Each attempt takes one class of addresses, in turn: direct
    /// ones, WebSocket, WebRTC-direct, relayed; racing them would often be won by the worse.
    pub(super) fn dialable(&self, peer: &PeerId, attempt: u32) -> Vec<Multiaddr> {
        let Some(entry) = self.entries.get(peer) else { return Vec::new() };
        let mut dialable = entry.addresses.iter().filter(|known| (self.can_dial)(&known.address)).collect::<Vec<_>>();
        dialable.sort_by_key(|known| std::cmp::Reverse((known.confirmed_at, known.heard_at)));
        let mut classes = dialable.iter().map(|known| class(&known.address)).collect::<Vec<_>>();
        classes.sort_unstable();
        classes.dedup();
        let Some(chosen) = classes.get(attempt as usize % classes.len().max(1)) else { return Vec::new() };
        let fitting = dialable.into_iter().filter(|known| class(&known.address) == *chosen);
        fitting.take(MAX_DIALLED).map(|known| known.address.clone()).collect()
    }

    /// Peers to dial for the number's sake.
    pub(super) fn candidates(&self, now: Now, fits: impl Fn(PeerId, Duration) -> bool) -> Vec<PeerId> {
        let free = self.entries.iter().filter(|(_, entry)| !entry.foreign && entry.paused_until <= now.since_start);
        let fitting = free.filter(|(peer, entry)| {
            fits(**peer, now.since_start.saturating_sub(entry.known_since))
                && entry.addresses.iter().any(|known| (self.can_dial)(&known.address))
        });
        let mut peers = fitting.map(|(peer, _)| *peer).collect::<Vec<_>>();
        // A map's order is not reproducible.
        peers.sort_unstable();
        peers
    }

    /// Who made room for others since the last call.
    pub(super) fn take_evicted(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.evicted)
    }

    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        self.entries.contains_key(peer)
    }

    pub(super) fn view(&self, peer: &PeerId) -> DiscoveryView {
        let Some(entry) = self.entries.get(peer) else { return DiscoveryView::default() };
        let mut addresses = entry.addresses.iter().collect::<Vec<_>>();
        addresses.sort_by_key(|known| std::cmp::Reverse((known.confirmed_at, known.heard_at)));
        DiscoveryView {
            addresses: addresses.into_iter().map(|known| known.address.clone()).collect(),
            agent: entry.agent.clone(),
            relay: entry.relay,
        }
    }

    fn entry(&mut self, now: Now, peer: PeerId) -> &mut Entry {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&peer) {
            let stalest = self.entries.iter().min_by_key(|(peer, entry)| (entry.is_proven(), entry.heard_at, **peer));
            if let Some(stalest) = stalest.map(|(peer, _)| *peer) {
                self.entries.remove(&stalest);
                self.evicted.push(stalest);
            }
        }
        let entry = self.entries.entry(peer).or_insert_with(|| Entry {
            addresses: Vec::new(),
            known_since: now.since_start,
            heard_at: now.since_start,
            paused_until: Duration::ZERO,
            agent: None,
            relay: false,
            foreign: false,
        });
        entry.heard_at = now.since_start;
        entry
    }
}

/// The address with the peer at its end; `None` when it leads to somebody else or nowhere.
fn complete(address: Multiaddr, peer: PeerId) -> Option<Multiaddr> {
    if address.is_empty() || address.to_string().len() > 512 {
        return None;
    }
    match peer_of(&address) {
        Some(end) if end == peer => Some(address),
        Some(_) => None,
        None => Some(address.with(Protocol::P2p(peer))),
    }
}

fn class(address: &Multiaddr) -> u8 {
    match ConnectionKind::of(address) {
        ConnectionKind::Quic | ConnectionKind::Tcp | ConnectionKind::Other => 0,
        ConnectionKind::Websocket => 1,
        ConnectionKind::WebrtcDirect => 2,
        ConnectionKind::Relayed => 3,
        // It needs the circuit anyway, and is asked for by itself once that stands.
        ConnectionKind::Webrtc => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { since_start: Duration::from_secs(seconds), unix_millis: 0 }
    }

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("an address")
    }

    fn book(capacity: usize) -> Book {
        Book::new(PeerId::random(), capacity, |address| ConnectionKind::of(address) != ConnectionKind::Quic)
    }

    #[test]
    fn addresses_are_tried_class_by_class_those_that_worked_first() {
        let (mut book, peer, relay) = (book(10), PeerId::random(), PeerId::random());
        let ws = address("/ip4/192.0.2.1/tcp/2/ws");
        let given = vec![
            address(&format!("/ip4/192.0.2.1/tcp/2/ws/p2p/{relay}/p2p-circuit")),
            address("/ip4/192.0.2.1/tcp/1"),
            address("/ip4/192.0.2.2/tcp/1"),
            address("/ip4/192.0.2.1/udp/1/quic-v1"),
            ws.clone(),
        ];
        assert_eq!(book.add(at(0), peer, given, DiscoverySource::Dht).len(), 5);
        let worked = address("/ip4/192.0.2.2/tcp/1").with(Protocol::P2p(peer));
        book.confirmed(at(1), peer, worked.clone());

        let first = book.dialable(&peer, 0);
        assert_eq!((first.len(), &first[0]), (2, &worked));
        assert_eq!(book.dialable(&peer, 1), [ws.with(Protocol::P2p(peer))]);
        assert_eq!(ConnectionKind::of(&book.dialable(&peer, 2)[0]), ConnectionKind::Relayed);
        assert_eq!(book.dialable(&peer, 3), first, "then all over again");
        assert!(book.dialable(&PeerId::random(), 0).is_empty());
    }

    #[test]
    fn neither_peers_nor_addresses_grow_without_bound() {
        let (mut book, peer) = (book(10), PeerId::random());
        for port in 1..200 {
            book.add(at(port), peer, vec![address(&format!("/ip4/192.0.2.1/tcp/{port}"))], DiscoverySource::Dht);
        }
        assert_eq!(book.view(&peer).addresses.len(), MAX_ADDRESSES);
        for second in 200..300 {
            book.add(at(second), PeerId::random(), vec![], DiscoverySource::Dht);
        }
        assert_eq!(book.entries.len(), 10);
        assert!(!book.knows(&peer), "who was heard of longest ago made room");
    }

    #[test]
    fn made_up_peers_do_not_push_out_real_ones() {
        let (mut book, bootstrap, met) = (book(10), PeerId::random(), PeerId::random());
        book.add(at(0), bootstrap, vec![address("/ip4/192.0.2.1/tcp/1")], DiscoverySource::Bootstrap);
        book.confirmed(at(0), met, address("/ip4/192.0.2.2/tcp/1"));
        for second in 1..100 {
            let made_up = vec![address("/ip4/192.0.2.3/tcp/1")];
            book.add(at(second), PeerId::random(), made_up, DiscoverySource::PeerExchange);
        }
        assert!(book.knows(&bootstrap) && book.knows(&met));
        assert_eq!(book.take_evicted().len(), 99 - 8, "whoever shows the peers is told who is gone");
    }

    #[test]
    fn an_address_of_somebody_else_is_not_taken() {
        let (mut book, peer) = (book(10), PeerId::random());
        let other = address("/ip4/192.0.2.1/tcp/1").with(Protocol::P2p(PeerId::random()));
        assert!(book.add(at(0), peer, vec![other, Multiaddr::empty()], DiscoverySource::Dht).is_empty());
    }
}
