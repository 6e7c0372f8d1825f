//! How many messages the outbox may hold, and the receipts of those that it holds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::Receipt;

/// The outbox's places, shared by all handles of a node.
#[derive(Clone)]
pub(crate) struct Places {
    shared: Arc<Shared>,
    limit: usize,
}

struct Shared {
    taken: AtomicUsize,
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Receipts> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One message's place in the outbox, given back when dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        Self { shared: Arc::new(Shared { taken: AtomicUsize::new(0), receipts: Mutex::default() }), limit }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a place; `None` when the outbox is full.
    pub(crate) fn take(&self) -> Option<Place> {
        let room = |taken: usize| (taken < self.limit).then_some(taken + 1);
        self.shared.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok()?;
        Some(Place { shared: self.shared.clone() })
    }

    /// A place for a message that was accepted in an earlier run, of which all nonces lie below `first_nonce`. It has one
    /// also where the limit has been lowered meanwhile.
    pub(crate) fn take_back(&self, first_nonce: u64) -> Place {
        self.shared.taken.fetch_add(1, Ordering::AcqRel);
        self.shared.lock().restored_below = Some(first_nonce);
        Place { shared: self.shared.clone() }
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

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.taken.fetch_sub(1, Ordering::AcqRel);
    }
}
