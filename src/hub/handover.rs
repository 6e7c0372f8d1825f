//! Messages that are kept until the app has confirmed them, on their way to its subscribers.
//!
//! A subscriber confirms a message by asking for the next one. A message is confirmed for good once every subscriber that
//! there is has passed it, in the order of serial numbers. A subscriber that ends has no say any more: what it was given
//! and has not confirmed the others decide on, or, when it was the last, the next subscriber gets again, marked.
//!
//! Bounded by the core, which takes no message on while as many wait as may.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use async_channel::{Receiver, Sender};

use crate::message::ReceivedMessage;

/// The sending end, and what tells how far the app is.
pub(crate) struct Handover {
    shared: Arc<Shared>,
    moved: Receiver<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes whoever asks how far the app is.
    moved: Sender<()>,
}

#[derive(Default)]
struct State {
    /// Not confirmed; the first has the serial number after `confirmed`.
    messages: VecDeque<ReceivedMessage>,
    confirmed: u64,
    readers: BTreeMap<u64, Cursor>,
    next_reader: u64,
    closed: bool,
}

struct Cursor {
    /// The serial number of what it gets next.
    next: u64,
    /// It has confirmed all before this one.
    passed: u64,
    waker: Option<Waker>,
}

/// A subscription.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    id: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what every subscriber has passed.
    fn settle(&self, state: &mut State) {
        let Some(passed) = state.readers.values().map(|cursor| cursor.passed).min() else { return };
        if passed <= state.confirmed + 1 {
            return;
        }
        while state.confirmed + 1 < passed && state.messages.pop_front().is_some() {
            state.confirmed += 1;
        }
        // Full means that whoever asks is about to look anyway.
        let _ = self.moved.try_send(());
    }
}

impl Handover {
    pub(crate) fn new() -> Self {
        let (sender, moved) = async_channel::bounded(1);
        Self { shared: Arc::new(Shared { state: Mutex::default(), moved: sender }), moved }
    }

    /// Hands a message over. Serial numbers follow each other; the first may be any.
    pub(crate) fn send(&self, serial: u64, message: ReceivedMessage) {
        let mut state = self.shared.lock();
        if state.closed {
            return;
        }
        if state.messages.is_empty() && state.confirmed + 1 < serial {
            // The first of this run.
            state.confirmed = serial - 1;
            for cursor in state.readers.values_mut() {
                (cursor.next, cursor.passed) = (cursor.next.max(serial), cursor.passed.max(serial));
            }
        }
        debug_assert_eq!(serial, state.confirmed + 1 + state.messages.len() as u64, "serial numbers follow each other");
        state.messages.push_back(message);
        state.readers.values_mut().filter_map(|cursor| cursor.waker.take()).for_each(Waker::wake);
    }

    /// The first subscriber, and one that comes when all others have ended, gets all that is not confirmed; others what
    /// comes from now on.
    pub(crate) fn subscribe(&self) -> Reader {
        let mut state = self.shared.lock();
        let first = state.confirmed + 1;
        let next = if state.readers.is_empty() { first } else { first + state.messages.len() as u64 };
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, Cursor { next, passed: next, waker: None });
        Reader { shared: self.shared.clone(), id }
    }

    /// Waits until the app has confirmed more, and returns the serial number up to which it has.
    pub(crate) async fn confirmed(&self) -> u64 {
        if self.moved.recv().await.is_err() {
            // The sender lives in `shared`, which this holds.
            std::future::pending::<()>().await;
        }
        self.shared.lock().confirmed
    }

    /// Nothing more is handed over, nor counts as confirmed. Returns the serial number up to which the app has confirmed.
    pub(crate) fn close(&self) -> u64 {
        let mut state = self.shared.lock();
        state.closed = true;
        state.readers.values_mut().filter_map(|cursor| cursor.waker.take()).for_each(Waker::wake);
        state.confirmed
    }
}

impl Reader {
    /// Confirms what it was given, and takes the next message; `None` when there will be none.
    pub(crate) fn poll_next(&self, context: &Context<'_>) -> Poll<Option<ReceivedMessage>> {
        self.confirm();
        let mut state = self.shared.lock();
        if state.closed {
            return Poll::Ready(None);
        }
        let first = state.confirmed + 1;
        let State { messages, readers, .. } = &mut *state;
        let Some(cursor) = readers.get_mut(&self.id) else { return Poll::Ready(None) };
        let at = usize::try_from(cursor.next - first).unwrap_or(usize::MAX);
        match messages.get(at) {
            Some(message) => {
                cursor.next += 1;
                Poll::Ready(Some(message.clone()))
            }
            None => {
                cursor.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Confirms all that it was given.
    pub(crate) fn confirm(&self) {
        let mut state = self.shared.lock();
        if let Some(cursor) = state.readers.get_mut(&self.id).filter(|cursor| cursor.passed < cursor.next) {
            cursor.passed = cursor.next;
            self.shared.settle(&mut state);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let Some(cursor) = state.readers.remove(&self.id) else { return };
        if state.readers.is_empty() {
            let first = state.confirmed + 1;
            let given = usize::try_from(cursor.next - first).unwrap_or(usize::MAX);
            state.messages.iter_mut().take(given).for_each(|message| message.redelivered = true);
        } else {
            self.shared.settle(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt as _, future::poll_fn};
    use libp2p::PeerId;

    use super::*;
    use crate::message::{Authenticity, Delivery, MessageId, MessageKind, Priority};

    fn message(nonce: u64) -> ReceivedMessage {
        let sender = PeerId::random();
        ReceivedMessage {
            id: MessageId { sender, nonce },
            sender,
            kind: MessageKind::Event,
            priority: Priority::Medium,
            delivery: Delivery::Direct,
            created_at: None,
            expires_at: None,
            authenticity: Authenticity::Signed,
            redelivered: false,
            payload: Bytes::new(),
        }
    }

    /// The next message's nonce and whether it is marked; `None` when there is none yet.
    fn next(reader: &Reader) -> Option<(u64, bool)> {
        let next = poll_fn(|context| reader.poll_next(context)).now_or_never()?;
        next.map(|message| (message.id.nonce, message.redelivered))
    }

    fn confirmed(handover: &Handover) -> Option<u64> {
        handover.confirmed().now_or_never()
    }

    #[test]
    fn asking_for_the_next_confirms_the_last() {
        let handover = Handover::new();
        // An earlier run has confirmed up to 6.
        (7..10).for_each(|serial| handover.send(serial, message(serial)));
        let reader = handover.subscribe();
        assert_eq!(next(&reader), Some((7, false)));
        assert_eq!(confirmed(&handover), None, "the app may still be at it");
        assert_eq!(next(&reader), Some((8, false)));
        assert_eq!(confirmed(&handover), Some(7));
        assert_eq!(next(&reader), Some((9, false)));
        assert_eq!(next(&reader), None);
        assert_eq!(confirmed(&handover), Some(9), "asking is enough, also when nothing is there");
        handover.send(10, message(10));
        assert_eq!(next(&reader), Some((10, false)));
        reader.confirm();
        assert_eq!(confirmed(&handover), Some(10));
    }

    #[test]
    fn what_the_last_subscriber_has_not_confirmed_the_next_one_gets_again() {
        let handover = Handover::new();
        (1..4).for_each(|serial| handover.send(serial, message(serial)));
        let reader = handover.subscribe();
        assert_eq!((next(&reader), next(&reader)), (Some((1, false)), Some((2, false))));
        drop(reader);
        let reader = handover.subscribe();
        assert_eq!((next(&reader), next(&reader)), (Some((2, true)), Some((3, false))));
    }

    #[test]
    fn of_several_subscribers_the_slowest_decides_as_long_as_it_is_there() {
        let handover = Handover::new();
        handover.send(1, message(1));
        let (fast, slow) = (handover.subscribe(), handover.subscribe());
        assert_eq!(next(&fast), Some((1, false)), "the first gets what came before");
        handover.send(2, message(2));
        handover.send(3, message(3));
        assert_eq!((next(&fast), next(&fast), next(&fast)), (Some((2, false)), Some((3, false)), None));
        assert_eq!(confirmed(&handover), Some(1), "the second was not there for it");
        assert_eq!(next(&slow), Some((2, false)), "another has had it, which is no second time");
        assert_eq!(confirmed(&handover), None);
        drop(slow);
        assert_eq!(confirmed(&handover), Some(3));
    }

    #[test]
    fn the_end_of_the_node_ends_it() {
        let handover = Handover::new();
        let reader = handover.subscribe();
        handover.send(1, message(1));
        handover.send(2, message(2));
        assert_eq!(next(&reader), Some((1, false)));
        assert_eq!(handover.close(), 0, "it may not be through with the first");
        assert!(matches!(poll_fn(|context| reader.poll_next(context)).now_or_never(), Some(None)));
    }
}
