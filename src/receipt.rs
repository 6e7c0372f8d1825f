//! What becomes of a direct message.

mod places;

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use libp2p::PeerId;
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
    /// For its recipient, which is away: a mailbox keeps a copy that only the recipient can read, and hands it over when
    /// the recipient comes. The message also goes straight to the recipient if there is a way to it first. Only messages
    /// of at most 64 KiB are left at mailboxes.
    Mailbox {
        /// The node that keeps it; others may, too.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        at: PeerId,
    },
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
    shared: Arc<Shared>,
}

struct Shared {
    id: MessageId,
    recipient: PeerId,
    inner: Mutex<Inner>,
}

struct Inner {
    state: ReceiptState,
    /// Whether the message is stored, as far as it has to be.
    accepted: bool,
    /// It is stored, and goes on at the next start.
    kept: bool,
    /// Of those who wait for any change.
    wakers: Vec<Waker>,
    /// Of those who wait for the end. Waking another thread is dear, so they are not woken on the way there.
    patient: Vec<Waker>,
}

impl Receipt {
    /// The message's identity.
    pub fn id(&self) -> MessageId {
        self.shared.id
    }

    /// Whom it is for.
    pub fn recipient(&self) -> PeerId {
        self.shared.recipient
    }

    /// Waits until the message is accepted: stored, so that it outlives the node (see
    /// [`Durability`](crate::config::Durability)), or delivered before that. Where nothing is kept, that is at once.
    ///
    /// # Errors
    /// Why it is not accepted: [`DeliveryError::NotStored`] when the disk refused, or what else ended it before it was
    /// stored.
    pub async fn accepted(&self) -> Result<(), DeliveryError> {
        poll_fn(|context| {
            let mut inner = self.shared.lock();
            match &inner.state {
                _ if inner.accepted => Poll::Ready(Ok(())),
                ReceiptState::Delivered => Poll::Ready(Ok(())),
                ReceiptState::Failed { error } => Poll::Ready(Err(error.clone())),
                ReceiptState::Expired { ttl } => Poll::Ready(Err(DeliveryError::Expired { ttl: *ttl })),
                _ => {
                    wake_later(&mut inner.wakers, context.waker());
                    Poll::Pending
                }
            }
        })
        .await
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
                    wake_later(&mut inner.patient, context.waker());
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
                wake_later(&mut inner.wakers, context.waker());
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
        formatter.debug_struct("Receipt").field("id", &self.id()).field("state", &self.state()).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake_later(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}

/// The network's end of a receipt. Dropped without a final state, it says that the node was shut down, and whether the
/// message is kept.
pub(crate) struct ReceiptWriter {
    receipt: Receipt,
    place: Place,
}

impl ReceiptWriter {
    /// A receipt and its writer, which holds a place in the outbox until it is dropped. `accepted` says that nothing has
    /// to be stored.
    pub(crate) fn new(id: MessageId, recipient: PeerId, place: Place, accepted: bool) -> (Self, Receipt) {
        let inner =
            Inner { state: ReceiptState::ACCEPTED, accepted, kept: false, wakers: Vec::new(), patient: Vec::new() };
        let receipt = Receipt { shared: Arc::new(Shared { id, recipient, inner: Mutex::new(inner) }) };
        place.register(&receipt);
        (Self { receipt: receipt.clone(), place }, receipt)
    }

    /// The message is stored.
    pub(crate) fn accept(&self) {
        let wakers = {
            let mut inner = self.receipt.shared.lock();
            (inner.accepted, inner.kept) = (true, true);
            std::mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Moves the receipt on; what is final stays. Who has to be woken for it is added to `wakers`.
    pub(crate) fn set(&self, state: ReceiptState, wakers: &mut Vec<Waker>) {
        let mut inner = self.receipt.shared.lock();
        if inner.state.is_final() || inner.state == state {
            return;
        }
        inner.state = state;
        wakers.append(&mut inner.wakers);
        if inner.state.is_final() {
            wakers.append(&mut inner.patient);
        }
    }
}

impl Drop for ReceiptWriter {
    fn drop(&mut self) {
        let id = self.receipt.id();
        let mut wakers = Vec::new();
        let (ended, kept) = {
            let inner = self.receipt.shared.lock();
            (inner.state.is_final(), inner.kept)
        };
        if !ended {
            let error = if kept { DeliveryError::Kept { id } } else { DeliveryError::ShutDown { id } };
            self.set(ReceiptState::Failed { error }, &mut wakers);
        }
        self.place.give_back(id.nonce);
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Context,
    };

    use futures::executor::block_on;
    use libp2p::PeerId;

    use super::*;
    use crate::{config::LimitsConfig, message::Priority};

    fn places(outbox_messages: usize) -> Places {
        Places::new(&LimitsConfig { outbox_messages, ..LimitsConfig::default() })
    }

    fn pair(places: &Places) -> (ReceiptWriter, Receipt) {
        let id = MessageId { sender: PeerId::random(), nonce: 1 };
        let place = places.take(PeerId::random(), Priority::Low, 1).expect("room");
        ReceiptWriter::new(id, PeerId::random(), place, false)
    }

    fn set(writer: &ReceiptWriter, state: ReceiptState) {
        let mut wakers = Vec::new();
        writer.set(state, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    #[test]
    fn a_receipt_tells_each_step_and_then_stays() {
        let (writer, receipt) = pair(&places(1));
        let (queued, sent) = (ReceiptState::ACCEPTED, ReceiptState::Sent { way: Way::Relayed });
        assert_eq!(receipt.state(), queued);
        set(&writer, sent.clone());
        assert_eq!(block_on(receipt.changed(&queued)), sent);
        let waiting = std::thread::spawn({
            let receipt = receipt.clone();
            move || block_on(receipt.delivered())
        });
        set(&writer, ReceiptState::Delivered);
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
        set(&writer, sent);
        drop(writer);
        assert_eq!(receipt.state(), ReceiptState::Delivered);
    }

    #[test]
    fn accepted_is_stored_or_delivered() {
        let places = places(3);
        let (writer, receipt) = pair(&places);
        assert!(futures::FutureExt::now_or_never(receipt.accepted()).is_none(), "nothing is stored yet");
        let waiting = std::thread::spawn({
            let receipt = receipt.clone();
            move || block_on(receipt.accepted())
        });
        writer.accept();
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
        drop(writer);
        assert_eq!(block_on(receipt.accepted()), Ok(()), "what becomes of it later changes nothing");

        let (writer, receipt) = pair(&places);
        set(&writer, ReceiptState::Delivered);
        assert_eq!(block_on(receipt.accepted()), Ok(()));
        let (writer, receipt) = pair(&places);
        let error = DeliveryError::NotStored { reason: "no space".to_owned() };
        set(&writer, ReceiptState::Failed { error: error.clone() });
        assert_eq!(block_on(receipt.accepted()), Err(error));
    }

    #[test]
    fn who_waits_for_the_end_is_woken_once() {
        use futures::{FutureExt as _, task::ArcWake};

        #[derive(Default)]
        struct Count(AtomicUsize);
        impl ArcWake for Count {
            fn wake_by_ref(count: &Arc<Self>) {
                count.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (writer, receipt) = pair(&places(1));
        let (patient, curious) = (Arc::<Count>::default(), Arc::<Count>::default());
        let woken = || (patient.0.load(Ordering::Relaxed), curious.0.load(Ordering::Relaxed));
        let (of_patient, of_curious) = (futures::task::waker(patient.clone()), futures::task::waker(curious.clone()));
        let mut delivered = receipt.delivered().boxed();
        let mut changed = receipt.changed(&ReceiptState::ACCEPTED).boxed();
        assert!(delivered.poll_unpin(&mut Context::from_waker(&of_patient)).is_pending());
        assert!(changed.poll_unpin(&mut Context::from_waker(&of_curious)).is_pending());
        set(&writer, ReceiptState::Sent { way: Way::Relayed });
        assert_eq!(woken(), (0, 1));
        set(&writer, ReceiptState::Delivered);
        assert_eq!(woken(), (1, 1));
        assert_eq!(delivered.poll_unpin(&mut Context::from_waker(&of_patient)), Poll::Ready(Ok(())));
    }

    #[test]
    fn a_receipt_whose_network_is_gone_does_not_hang() {
        let places = places(1);
        let (writer, receipt) = pair(&places);
        let take = || places.take(PeerId::random(), Priority::Low, 1);
        assert!(take().is_err(), "the only place is taken");
        drop(writer);
        assert_eq!(block_on(receipt.delivered()), Err(DeliveryError::ShutDown { id: receipt.id() }));
        assert!(take().is_ok(), "the place is free again");
    }
}
