//! How much the outbox may hold, shared by all handles of a node: they accept or refuse at once.
//!
//! And the receipts of what has not ended, so that an app finds again those that an earlier run has left.
//!
//! Urgent messages get in when others are refused already: the core then lets less urgent ones give way to them
//! (`core/routing/outbox/shed.rs`). Without such, they are refused too, at the end of the reserve.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use libp2p::PeerId;

use super::Receipt;
use crate::{config::LimitsConfig, error::SendError, message::Priority};

/// What a message counts for beside its payload, bytes: names, signature, length and the small fields.
pub(crate) const ENVELOPE: usize = 160;

/// Peers whose counts are kept though nothing waits for them.
const IDLE_PEERS: usize = 1024;

/// The outbox's places, shared by all handles of a node.
#[derive(Clone)]
pub(crate) struct Places {
    shared: Arc<Shared>,
}

struct Shared {
    all: Counts,
    limit: Most,
    peers: RwLock<HashMap<PeerId, Arc<Counts>>>,
    peer_limit: Most,
    receipts: Mutex<Receipts>,
}

#[derive(Default)]
struct Receipts {
    /// By nonce. As many as there are places, and those that an earlier run has left.
    unfinished: BTreeMap<u64, Receipt>,
    /// Restored ones that ended before anybody could ask for them.
    ended_early: Vec<Receipt>,
    /// Until somebody asks for the receipts: the nonces that this run gives begin here.
    restored_below: Option<u64>,
}

/// One message's place in the outbox, given back when dropped.
pub(crate) struct Place {
    bytes: usize,
    shared: Arc<Shared>,
    peer: Arc<Counts>,
}

#[derive(Debug, Clone, Copy)]
struct Most {
    messages: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Counts {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// What was full.
enum Full {
    Messages,
    Bytes,
}

impl Most {
    /// The limits, with the reserve of a priority.
    fn of(self, priority: Priority) -> Self {
        let with_reserve = |limit: usize| match priority {
            Priority::Low => limit,
            Priority::Medium => limit + limit.div_ceil(8),
            Priority::High => limit + limit.div_ceil(4),
        };
        Self { messages: with_reserve(self.messages), bytes: with_reserve(self.bytes) }
    }
}

impl Counts {
    fn take(&self, most: Most, bytes: usize) -> Result<(), Full> {
        let room = |taken: usize| (taken < most.messages).then_some(taken + 1);
        self.messages.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).map_err(|_| Full::Messages)?;
        // One that is larger than all that may wait gets in alone.
        let room = |taken: usize| (taken == 0 || taken + bytes <= most.bytes).then_some(taken + bytes);
        self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).map(drop).map_err(|_| {
            self.messages.fetch_sub(1, Ordering::AcqRel);
            Full::Bytes
        })
    }

    fn add(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn give_back(&self, bytes: usize) {
        self.messages.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Places {
    pub(crate) fn new(limits: &LimitsConfig) -> Self {
        let shared = Shared {
            all: Counts::default(),
            limit: Most { messages: limits.outbox_messages, bytes: limits.outbox_bytes },
            peers: RwLock::default(),
            peer_limit: Most { messages: limits.peer_messages, bytes: limits.peer_bytes },
            receipts: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a place for a message with so many bytes of payload.
    ///
    /// # Errors
    /// When as much waits as may, for all peers or for this one.
    pub(crate) fn take(&self, peer: PeerId, priority: Priority, payload: usize) -> Result<Place, SendError> {
        let (shared, bytes) = (&self.shared, payload + ENVELOPE);
        shared.all.take(shared.limit.of(priority), bytes).map_err(|full| match full {
            Full::Messages => SendError::QueueFull { limit: shared.limit.messages },
            Full::Bytes => SendError::BytesFull { limit: shared.limit.bytes },
        })?;
        let counts = shared.counts(peer);
        if counts.take(shared.peer_limit.of(priority), bytes).is_err() {
            shared.all.give_back(bytes);
            return Err(SendError::PeerFull { peer, limit: shared.peer_limit.messages });
        }
        Ok(Place { bytes, shared: shared.clone(), peer: counts })
    }

    /// A place for a message that was accepted in an earlier run, of which all nonces lie below `first_nonce`. It has one
    /// also where the limit has been lowered meanwhile.
    pub(crate) fn take_back(&self, peer: PeerId, payload: usize, first_nonce: u64) -> Place {
        let (shared, bytes, counts) = (&self.shared, payload + ENVELOPE, self.shared.counts(peer));
        shared.all.add(bytes);
        counts.add(bytes);
        shared.lock().restored_below = Some(first_nonce);
        Place { bytes, shared: shared.clone(), peer: counts }
    }

    /// The receipts of all messages that have not ended; the first time also of those that an earlier run has left and
    /// that have ended since the start.
    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        let mut receipts = self.shared.lock();
        receipts.restored_below = None;
        let early = std::mem::take(&mut receipts.ended_early);
        early.into_iter().chain(receipts.unfinished.values().cloned()).collect()
    }
}

impl Place {
    pub(super) fn register(&self, receipt: &Receipt) {
        self.shared.lock().unfinished.insert(receipt.id().nonce, receipt.clone());
    }

    /// The message has ended.
    pub(super) fn give_back(&self, nonce: u64) {
        let mut receipts = self.shared.lock();
        let receipt = receipts.unfinished.remove(&nonce);
        if receipts.restored_below.is_some_and(|first| nonce < first) {
            receipts.ended_early.extend(receipt);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Receipts> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self, peer: PeerId) -> Arc<Counts> {
        if let Some(counts) = self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&peer) {
            return counts.clone();
        }
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= IDLE_PEERS {
            // Whoever has a message waiting holds its counts too.
            peers.retain(|_, counts| Arc::strong_count(counts) > 1);
        }
        peers.entry(peer).or_default().clone()
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Place").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.all.give_back(self.bytes);
        self.peer.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(configure: impl FnOnce(&mut LimitsConfig)) -> Places {
        let mut limits = LimitsConfig::default();
        configure(&mut limits);
        Places::new(&limits)
    }

    #[test]
    fn what_is_urgent_has_a_reserve_and_every_place_comes_back() {
        let places = places(|limits| limits.outbox_messages = 8);
        let take = |priority| places.take(PeerId::random(), priority, 1);
        let low = (0..8).map(|_| take(Priority::Low).expect("room")).collect::<Vec<_>>();
        assert_eq!(take(Priority::Low).expect_err("full"), SendError::QueueFull { limit: 8 });
        let medium = take(Priority::Medium).expect("one in eight more");
        assert_eq!(take(Priority::Medium).expect_err("full"), SendError::QueueFull { limit: 8 });
        let high = take(Priority::High).expect("one in four more");
        assert_eq!(take(Priority::High).expect_err("full"), SendError::QueueFull { limit: 8 });
        drop((low, medium, high));
        assert_eq!((0..8).filter_map(|_| take(Priority::Low).ok()).count(), 8);
    }

    #[test]
    fn one_peer_leaves_room_for_the_others_in_messages_and_in_bytes() {
        let places = places(|limits| {
            limits.peer_messages = 4;
            limits.peer_bytes = 100_000;
        });
        let (away, near) = (PeerId::random(), PeerId::random());
        let held = (0..4).map(|_| places.take(away, Priority::Low, 1).expect("room")).collect::<Vec<_>>();
        let full = places.take(away, Priority::Low, 1).expect_err("full");
        assert_eq!(full, SendError::PeerFull { peer: away, limit: 4 });
        assert!(full.is_retryable());
        let large = places.take(near, Priority::Low, 99_000).expect("another has room");
        assert!(places.take(near, Priority::Low, 10_000).is_err(), "and its bytes an end");
        drop((held, large));
        let huge = places.take(near, Priority::Low, 1_000_000).expect("alone it gets in");
        assert!(places.take(near, Priority::Low, 1).is_err());
        drop(huge);
    }

    #[test]
    fn all_together_hold_no_more_bytes_than_they_may() {
        let places = places(|limits| limits.outbox_bytes = 100_000);
        let _held = places.take(PeerId::random(), Priority::Low, 90_000).expect("room");
        let full = places.take(PeerId::random(), Priority::Low, 20_000).expect_err("full");
        assert_eq!(full, SendError::BytesFull { limit: 100_000 });
        assert!(places.take(PeerId::random(), Priority::High, 20_000).is_ok(), "the reserve");
    }

    #[test]
    fn counts_of_peers_for_whom_nothing_waits_are_forgotten() {
        let places = places(|_| {});
        let waiting = PeerId::random();
        let _held = places.take(waiting, Priority::Low, 1).expect("room");
        for _ in 0..2 * IDLE_PEERS {
            drop(places.take(PeerId::random(), Priority::Low, 1));
        }
        let peers = places.shared.peers.read().expect("no panic");
        assert!(peers.len() <= IDLE_PEERS && peers.contains_key(&waiting), "{}", peers.len());
    }
}
