//! What becomes of a direct message.

mod places;

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use serde::Serialize;

pub(crate) use places::{ENVELOPE, Place, Places};

use crate::{error::DeliveryError, message::MessageId, peer::ConnectionKind};

/// How far a direct message has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum ReceiptState {
    /// Accepted; it waits.
    Queued {
        /// For what.
        why: QueueReason,
    },
    /// Handed to a connection; the recipient has not confirmed it yet. When the connection breaks, it waits again.
    Sent {
        /// Which way it went.
        way: Way,
    },
    /// The recipient has it: checked and handed to its app's queue.
    Delivered,
    /// Its time to live ended first, wherever it was.
    Expired {
        /// The time to live it was given, milliseconds.
        #[serde(with = "crate::config::millis")]
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        ttl: Duration,
    },
    /// It will not arrive.
    Failed {
        /// Why.
        error: DeliveryError,
    },
}

impl ReceiptState {
    /// Whether nothing follows any more.
    pub fn is_final(&self) -> bool {
        !matches!(self, ReceiptState::Queued { .. } | ReceiptState::Sent { .. })
    }

    /// Where every receipt begins.
    pub(crate) const ACCEPTED: ReceiptState = ReceiptState::Queued { why: QueueReason::Turn };
}

/// Why a message waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum QueueReason {
    /// For its turn: others go first, or what was sent before it is still on its way.
    Turn,
    /// For a connection: there is none to the recipient, and one is looked for.
    NotConnected,
    /// For bytes: as many have left as `[bandwidth]` allows for now.
    OverBudget,
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Way {
    /// Straight to the recipient.
    Direct {
        /// Over what.
        kind: ConnectionKind,
    },
    /// Through a relay, which can't read it.
    Relayed,
}

/// The receipt of a direct message. Clones tell the same; dropping it doesn't take the message back.
#[derive(Clone)]
pub struct Receipt {
    id: MessageId,
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
}

struct Inner {
    state: ReceiptState,
    wakers: Vec<Waker>,
}

impl Receipt {
    /// The message's identity.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// How far it has come.
    pub fn state(&self) -> ReceiptState {
        self.shared.lock().state.clone()
    }

    /// Waits until the message has been delivered, or never will be.
    ///
    /// # Errors
    /// Why it was not delivered.
    pub async fn delivered(&self) -> Result<(), DeliveryError> {
        poll_fn(|context| {
            let mut inner = self.shared.lock();
            match &inner.state {
                ReceiptState::Delivered => Poll::Ready(Ok(())),
                ReceiptState::Failed { error } => Poll::Ready(Err(error.clone())),
                ReceiptState::Expired { ttl } => Poll::Ready(Err(DeliveryError::Expired { ttl: *ttl })),
                ReceiptState::Queued { .. } | ReceiptState::Sent { .. } => {
                    inner.wake_later(context.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Waits until the state is another than `last`, and returns it.
    pub async fn changed(&self, last: &ReceiptState) -> ReceiptState {
        poll_fn(|context| {
            let mut inner = self.shared.lock();
            if inner.state == *last {
                inner.wake_later(context.waker());
                Poll::Pending
            } else {
                Poll::Ready(inner.state.clone())
            }
        })
        .await
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Receipt").field("id", &self.id).field("state", &self.state()).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn wake_later(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }
}

/// The network's end of a receipt. Dropped without a final state, it says that the node was shut down.
pub(crate) struct ReceiptWriter {
    receipt: Receipt,
    _place: Place,
}

impl ReceiptWriter {
    /// A receipt and its writer, which holds a place in the outbox until it is dropped.
    pub(crate) fn new(id: MessageId, place: Place) -> (Self, Receipt) {
        let inner = Inner { state: ReceiptState::ACCEPTED, wakers: Vec::new() };
        let receipt = Receipt { id, shared: Arc::new(Shared { inner: Mutex::new(inner) }) };
        (Self { receipt: receipt.clone(), _place: place }, receipt)
    }

    /// Moves the receipt on; what is final stays.
    pub(crate) fn set(&self, state: ReceiptState) {
        let wakers = {
            let mut inner = self.receipt.shared.lock();
            if inner.state.is_final() || inner.state == state {
                return;
            }
            inner.state = state;
            std::mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for ReceiptWriter {
    fn drop(&mut self) {
        self.set(ReceiptState::Failed { error: DeliveryError::ShutDown { id: self.receipt.id } });
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use libp2p::PeerId;

    use super::*;
    use crate::{config::LimitsConfig, message::Priority};

    fn places() -> Places {
        Places::new(&LimitsConfig { outbox_messages: 1, ..LimitsConfig::default() })
    }

    fn pair(places: &Places) -> (ReceiptWriter, Receipt) {
        let id = MessageId { sender: PeerId::random(), nonce: 1 };
        ReceiptWriter::new(id, places.take(PeerId::random(), Priority::Low, 1).expect("room"))
    }

    #[test]
    fn a_receipt_tells_each_step_and_then_stays() {
        let (writer, receipt) = pair(&places());
        let (queued, sent) = (ReceiptState::ACCEPTED, ReceiptState::Sent { way: Way::Relayed });
        assert_eq!(receipt.state(), queued);
        writer.set(sent.clone());
        assert_eq!(block_on(receipt.changed(&queued)), sent);
        let waiting = std::thread::spawn({
            let receipt = receipt.clone();
            move || block_on(receipt.delivered())
        });
        writer.set(ReceiptState::Delivered);
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
        writer.set(sent);
        drop(writer);
        assert_eq!(receipt.state(), ReceiptState::Delivered);
    }

    #[test]
    fn a_receipt_whose_network_is_gone_does_not_hang() {
        let places = places();
        let (writer, receipt) = pair(&places);
        let take = || places.take(PeerId::random(), Priority::Low, 1);
        assert!(take().is_err(), "the only place is taken");
        drop(writer);
        assert_eq!(block_on(receipt.delivered()), Err(DeliveryError::ShutDown { id: receipt.id() }));
        assert!(take().is_ok(), "the place is free again");
    }
}
