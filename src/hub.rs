//! One stream to many subscribers, bounded: who lags is told how much was missed, and nobody holds up the others.
//!
//! The first subscriber also gets what happened before it came, as far as the bound reaches, so that nothing is lost
//! between the start of a node and the first line of the app that listens.
//!
//! What happens together is sent together: the lock is taken once, and subscribers are woken once, at the end. A subscriber
//! takes some items ahead, for the same reason: to wake another thread, or to wait for its lock, costs more than a message.

mod handover;

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{Stream, stream::FusedStream};

pub(crate) use handover::{Handover, Reader};

/// Items that a subscriber takes at a time. It holds at most so many beside what the hub keeps.
const TAKEN: usize = 32;

/// The sending end.
pub(crate) struct Hub<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    capacity: usize,
}

struct State<T> {
    /// What somebody has not taken yet.
    items: VecDeque<T>,
    /// The number of the first of them; items are numbered as they are sent.
    first: u64,
    cursors: BTreeMap<u64, Cursor>,
    next_cursor: u64,
    /// Nobody has subscribed yet: everything is kept for the first who does.
    untouched: bool,
    closed: bool,
}

struct Cursor {
    /// The number of what it takes next.
    next: u64,
    waker: Option<Waker>,
}

/// What a subscriber gets.
pub(crate) enum Received<T> {
    Item(T),
    /// So many were missed before the next item.
    Missed(u64),
}

/// A subscription.
pub(crate) struct Subscription<T> {
    shared: Arc<Shared<T>>,
    id: u64,
    taken: VecDeque<T>,
    ended: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// The number of the next item that is sent.
    fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// Lets go of what every subscriber has taken.
    fn trim(&mut self) {
        let needed = self.cursors.values().map(|cursor| cursor.next).min().unwrap_or(u64::MAX);
        while self.first < needed && self.items.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Of those who wait.
    fn wakers(&mut self) -> Vec<Waker> {
        self.cursors.values_mut().filter_map(|cursor| cursor.waker.take()).collect()
    }
}

impl<T: Clone> State<T> {
    /// Gives a subscriber what it has not had, up to [`TAKEN`] items; tells how many it has missed before them.
    fn take(&mut self, id: u64, taken: &mut VecDeque<T>) -> u64 {
        let (first, end) = (self.first, self.end());
        let Some(cursor) = self.cursors.get_mut(&id) else { return 0 };
        let missed = first.saturating_sub(cursor.next);
        let from = cursor.next.max(first);
        let until = end.min(from + TAKEN as u64);
        cursor.next = until;
        let alone = self.cursors.len() == 1;
        for _ in from..until {
            // The only subscriber needs no copies, and has none before it that is kept.
            let item = if alone {
                self.items.pop_front()
            } else {
                self.items.get((from - first) as usize + taken.len()).cloned()
            };
            taken.extend(item);
        }
        if alone {
            self.first = until;
        } else {
            self.trim();
        }
        missed
    }
}

impl<T: Clone> Hub<T> {
    /// A hub that keeps up to `capacity` items for its slowest subscriber.
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State {
            items: VecDeque::new(),
            first: 0,
            cursors: BTreeMap::new(),
            next_cursor: 0,
            untouched: true,
            closed: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), capacity }) }
    }

    /// Sends to all subscribers. Returns how many items were lost to somebody for want of room, or because nobody listens.
    pub(crate) fn send(&self, items: impl IntoIterator<Item = T>) -> u64 {
        let mut lost = 0;
        let mut state = self.shared.lock();
        for item in items {
            if state.closed || (state.cursors.is_empty() && !state.untouched) {
                lost += 1;
                continue;
            }
            if state.items.len() >= self.shared.capacity {
                state.items.pop_front();
                state.first += 1;
                lost += 1;
            }
            state.items.push_back(item);
        }
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        lost
    }

    pub(crate) fn subscribe(&self) -> Subscription<T> {
        let mut state = self.shared.lock();
        let next = if std::mem::take(&mut state.untouched) { state.first } else { state.end() };
        let id = state.next_cursor;
        state.next_cursor += 1;
        state.cursors.insert(id, Cursor { next, waker: None });
        Subscription { shared: self.shared.clone(), id, taken: VecDeque::new(), ended: false }
    }

    /// Ends all subscriptions once they have been read to the end.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T: Clone + Unpin> Stream for Subscription<T> {
    type Item = Received<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Received<T>>> {
        let this = self.get_mut();
        if let Some(item) = this.taken.pop_front() {
            return Poll::Ready(Some(Received::Item(item)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let mut state = this.shared.lock();
        let missed = state.take(this.id, &mut this.taken);
        if missed > 0 {
            return Poll::Ready(Some(Received::Missed(missed)));
        }
        if let Some(item) = this.taken.pop_front() {
            return Poll::Ready(Some(Received::Item(item)));
        }
        if state.closed {
            this.ended = true;
            return Poll::Ready(None);
        }
        if let Some(cursor) = state.cursors.get_mut(&this.id) {
            cursor.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<T: Clone + Unpin> FusedStream for Subscription<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.cursors.remove(&self.id);
        state.trim();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Context,
    };

    use futures::{StreamExt as _, executor::block_on, task::ArcWake};

    use super::*;

    fn all(subscription: Subscription<u32>) -> (Vec<u32>, u64) {
        block_on(subscription.fold((Vec::new(), 0), |(mut items, mut missed), received| async move {
            match received {
                Received::Item(item) => items.push(item),
                Received::Missed(count) => missed += count,
            }
            (items, missed)
        }))
    }

    #[test]
    fn the_first_subscriber_gets_what_came_before_and_a_laggard_is_told_what_it_missed() {
        let hub = Hub::new(4);
        assert_eq!(hub.send([1]), 0);
        let first = hub.subscribe();
        let second = hub.subscribe();
        assert_eq!((hub.send([2, 3, 4]), hub.send([5, 6])), (0, 2));
        hub.close();
        assert_eq!(all(first), (vec![3, 4, 5, 6], 2));
        assert_eq!(all(second), (vec![3, 4, 5, 6], 1));
    }

    #[test]
    fn without_subscribers_the_loss_is_known() {
        let hub = Hub::new(4);
        drop(hub.subscribe());
        assert_eq!(hub.send([1, 2]), 2);
        let later = hub.subscribe();
        assert_eq!(hub.send([3]), 0);
        hub.close();
        assert_eq!(hub.send([4]), 1, "it has ended");
        assert_eq!(all(later), (vec![3], 0));
    }

    #[test]
    fn each_reads_at_its_own_pace_and_what_all_have_taken_is_let_go() {
        let count = u32::try_from(3 * TAKEN).expect("small");
        let hub = Hub::new(3 * TAKEN);
        let (mut fast, slow) = (hub.subscribe(), hub.subscribe());
        assert_eq!(hub.send(0..count), 0);
        for expected in 0..count {
            assert!(matches!(block_on(fast.next()), Some(Received::Item(item)) if item == expected));
        }
        assert_eq!(hub.shared.lock().items.len(), 3 * TAKEN, "the slow one needs them still");
        assert_eq!(hub.send([count]), 1, "and is the one who loses");
        drop(slow);
        assert_eq!(hub.shared.lock().items.len(), 1, "nobody needs them any more");
        hub.close();
        assert_eq!(all(fast), (vec![count], 0));
    }

    #[test]
    fn a_burst_wakes_a_subscriber_once() {
        #[derive(Default)]
        struct Count(AtomicUsize);
        impl ArcWake for Count {
            fn wake_by_ref(count: &Arc<Self>) {
                count.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (hub, count) = (Hub::new(8), Arc::<Count>::default());
        let waker = futures::task::waker(count.clone());
        let mut subscription = hub.subscribe();
        assert!(subscription.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(hub.send(0..5), 0);
        assert_eq!(hub.send(5..6), 0);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        hub.close();
        assert_eq!(all(subscription), ((0..6).collect(), 0));
    }
}
