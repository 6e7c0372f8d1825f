//! Peer exchange: each node signs a record of where it is reached and gives it to its neighbours; they tell their other
//! neighbours. Only whom a node is connected to does it tell of, and nobody can make a record up for somebody else.
//!
//! Not deepened yet: records are not asked for, and how many a neighbour may send is bounded per list only.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

use crate::{
    core::{Now, connections::Connections},
    frame::SignedRecord,
    peer::ConnectionState,
};

/// News waits so long for other news, so that one list carries them.
const GATHER: Duration = Duration::from_millis(50);

/// Records told at a time.
const MAX_RECORDS: usize = 32;

/// Bytes of records in one list: well below what every receiver takes.
const MAX_LIST: usize = 32 * 1024;

/// Records kept; those of peers that are not connected make room.
const MAX_KEPT: usize = 1024;

pub(super) struct Exchange {
    enabled: bool,
    /// Where this node is reached.
    addresses: BTreeSet<Multiaddr>,
    sign_at: Option<Duration>,
    own: Option<SignedRecord>,
    records: HashMap<PeerId, SignedRecord>,
    /// Neighbours that have been told everything once, and are told news.
    met: BTreeSet<PeerId>,
    /// Neighbours to be told everything.
    to_greet: BTreeSet<PeerId>,
    /// Peers of whom there is news.
    news: BTreeSet<PeerId>,
    own_is_news: bool,
    announce_at: Option<Duration>,
}

impl Exchange {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            addresses: BTreeSet::new(),
            sign_at: None,
            own: None,
            records: HashMap::new(),
            met: BTreeSet::new(),
            to_greet: BTreeSet::new(),
            news: BTreeSet::new(),
            own_is_news: false,
            announce_at: None,
        }
    }

    /// A neighbour of the same network turned out to speak the protocol.
    pub(super) fn met(&mut self, now: Now, peer: PeerId) {
        if self.enabled && self.met.insert(peer) {
            self.to_greet.insert(peer);
            // It is at once told of everybody, and those who know it by its own record hear of it then.
            self.announce_at.get_or_insert(now.since_start);
        }
    }

    pub(super) fn ask_again(&mut self, now: Now, neighbours: impl Iterator<Item = PeerId>) {
        self.to_greet.extend(neighbours.filter(|peer| self.met.contains(peer)));
        self.announce_at.get_or_insert(now.since_start);
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.met.remove(peer);
        self.to_greet.remove(peer);
    }

    pub(super) fn reached_at(&mut self, now: Now, address: Multiaddr) {
        if self.addresses.insert(address) {
            self.sign_at.get_or_insert(now.since_start + GATHER);
        }
    }

    pub(super) fn not_reached_at(&mut self, now: Now, addresses: &[Multiaddr]) {
        let before = self.addresses.len();
        self.addresses.retain(|address| !addresses.contains(address));
        if self.addresses.len() != before {
            self.sign_at.get_or_insert(now.since_start + GATHER);
        }
    }

    /// The addresses of which a record has to be signed now.
    pub(super) fn record_to_sign(&mut self, now: Now) -> Option<Vec<Multiaddr>> {
        self.sign_at.take_if(|at| *at <= now.since_start)?;
        self.enabled.then(|| self.addresses.iter().take(SignedRecord::MAX_ADDRESSES).cloned().collect())
    }

    pub(super) fn own_record(&mut self, now: Now, record: SignedRecord) {
        self.own = Some(record);
        self.own_is_news = true;
        self.announce_at.get_or_insert(now.since_start);
    }

    /// True when the record is newer than what was known.
    pub(super) fn learn(&mut self, now: Now, neighbour: PeerId, record: SignedRecord) -> bool {
        let peer = record.peer;
        if !self.enabled || self.records.get(&peer).is_some_and(|known| known.sequence >= record.sequence) {
            return false;
        }
        if self.records.len() >= MAX_KEPT && !self.records.contains_key(&peer) {
            let met = &self.met;
            let idle = self.records.keys().filter(|peer| !met.contains(peer)).min().copied();
            match idle {
                Some(idle) => drop(self.records.remove(&idle)),
                None => return false,
            }
        }
        self.records.insert(peer, record);
        if peer == neighbour {
            self.news.insert(peer);
            self.announce_at.get_or_insert(now.since_start + GATHER);
        }
        true
    }

    /// The lists that are due.
    pub(super) fn take_due(&mut self, now: Now, connections: &Connections) -> Vec<(PeerId, Vec<Bytes>)> {
        if self.announce_at.take_if(|at| *at <= now.since_start).is_none() {
            return Vec::new();
        }
        let (to_greet, news) = (std::mem::take(&mut self.to_greet), std::mem::take(&mut self.news));
        let own_is_news = std::mem::take(&mut self.own_is_news);
        let connected = |peer: &PeerId| connections.state(peer) == ConnectionState::Connected;
        let neighbours = self.records.keys().copied().filter(connected).collect::<BTreeSet<_>>();
        let lists = self.met.iter().filter(|peer| connected(peer)).map(|peer| {
            let greet = to_greet.contains(peer);
            let own = self.own.iter().filter(|_| greet || own_is_news);
            let told = if greet { &neighbours } else { &news };
            let others = told.iter().filter(|other| *other != peer).filter_map(|other| self.records.get(other));
            let envelopes = own.chain(others).take(MAX_RECORDS).map(|record| record.envelope.clone());
            in_lists(envelopes).into_iter().map(|list| (*peer, list))
        });
        lists.flatten().collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        [self.sign_at, self.announce_at].into_iter().flatten().min()
    }
}

/// Records by lists that are not too large.
fn in_lists(envelopes: impl Iterator<Item = Bytes>) -> Vec<Vec<Bytes>> {
    let (mut lists, mut room) = (Vec::<Vec<Bytes>>::new(), 0);
    for envelope in envelopes {
        if envelope.len() > room || lists.is_empty() {
            lists.push(Vec::new());
            room = MAX_LIST;
        }
        room = room.saturating_sub(envelope.len());
        if let Some(list) = lists.last_mut() {
            list.push(envelope);
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_never_too_large_and_leave_nobody_out() {
        let envelopes = (0..32).map(|_| Bytes::from(vec![0; 4096])).collect::<Vec<_>>();
        let lists = in_lists(envelopes.iter().cloned());
        assert!(lists.iter().all(|list| list.iter().map(Bytes::len).sum::<usize>() <= MAX_LIST && !list.is_empty()));
        assert_eq!(lists.concat(), envelopes);
        assert!(in_lists(std::iter::empty()).is_empty());
    }
}
