//! One stream to many subscribers, bounded: who lags is told how much was missed, and nobody holds up the others.
//!
//! The first subscriber also gets what happened before it came, as far as the bound reaches, so that nothing is lost
//! between the start of a node and the first line of the app that listens.

mod handover;

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use async_broadcast::{InactiveReceiver, Receiver, RecvError, Sender, TrySendError};
use futures::{Stream, stream::FusedStream};

pub(crate) use handover::{Handover, Reader};

/// The sending end.
pub(crate) struct Hub<T> {
    sender: Sender<T>,
    /// Kept for the first subscriber.
    first: Mutex<Option<Receiver<T>>>,
    template: InactiveReceiver<T>,
}

/// What a subscriber gets.
pub(crate) enum Received<T> {
    Item(T),
    /// So many were missed before the next item.
    Missed(u64),
}

/// A subscription.
pub(crate) struct Subscription<T> {
    receiver: Receiver<T>,
    ended: bool,
}

impl<T: Clone> Hub<T> {
    /// A hub that keeps up to `capacity` items for its slowest subscriber.
    pub(crate) fn new(capacity: usize) -> Self {
        let (mut sender, first) = async_broadcast::broadcast(capacity);
        sender.set_overflow(true);
        let template = first.new_receiver().deactivate();
        Self { sender, first: Mutex::new(Some(first)), template }
    }

    /// Sends to all subscribers. False when an item was lost to somebody for want of room, or nobody listens.
    pub(crate) fn send(&self, item: T) -> bool {
        match self.sender.try_broadcast(item) {
            Ok(overflowed) => overflowed.is_none(),
            Err(TrySendError::Full(_) | TrySendError::Inactive(_) | TrySendError::Closed(_)) => false,
        }
    }

    pub(crate) fn subscribe(&self) -> Subscription<T> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = first.unwrap_or_else(|| self.template.activate_cloned());
        Subscription { receiver, ended: false }
    }

    /// Ends all subscriptions once they have been read to the end.
    pub(crate) fn close(&self) {
        self.sender.close();
    }
}

impl<T: Clone> Stream for Subscription<T> {
    type Item = Received<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Received<T>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut this.receiver).poll_recv(context).map(|received| match received {
            Some(Ok(item)) => Some(Received::Item(item)),
            Some(Err(RecvError::Overflowed(count))) => Some(Received::Missed(count)),
            Some(Err(RecvError::Closed)) | None => {
                this.ended = true;
                None
            }
        })
    }
}

impl<T: Clone> FusedStream for Subscription<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, executor::block_on};

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
        assert!(hub.send(1));
        let first = hub.subscribe();
        let second = hub.subscribe();
        let results = (2..=6).map(|item| hub.send(item)).collect::<Vec<_>>();
        assert_eq!(results, [true, true, true, false, false]);
        hub.close();
        assert_eq!(all(first), (vec![3, 4, 5, 6], 2));
        assert_eq!(all(second), (vec![3, 4, 5, 6], 1));
    }

    #[test]
    fn without_subscribers_the_loss_is_known() {
        let hub = Hub::new(4);
        drop(hub.subscribe());
        assert!(!hub.send(1));
        let later = hub.subscribe();
        assert!(hub.send(2));
        hub.close();
        assert_eq!(all(later), (vec![2], 0));
    }
}
