//! What becomes of a direct message.

mod places;

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use libp2p::PeerId;
use serde::Serialize;

use crate::{error::DeliveryError, message::MessageId};

pub(crate) use places::{Place, Places};

/// How far a direct message has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum ReceiptState {
    /// Accepted; it waits for a way to the recipient, or for its turn.
    Queued,
    /// Handed to a connection; the recipient has not confirmed it yet.
    Sent,
    /// The recipient has it: checked and handed to its app's queue.
    Delivered,
    /// It will not arrive.
    Failed {
        /// Why.
        error: DeliveryError,
    },
}

impl ReceiptState {
    /// Whether nothing follows any more.
    pub fn is_final(&self) -> bool {
        matches!(self, ReceiptState::Delivered | ReceiptState::Failed { .. })
    }
}

/// The receipt of a direct message. Clones tell the same; dropping it doesn't take the message back.
#[derive(Clone)]
pub struct Receipt {
    id: MessageId,
    recipient: PeerId,
    shared: Arc<Shared>,
}

struct Shared {
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
        self.id
    }

    /// Whom it is for.
    pub fn recipient(&self) -> PeerId {
        self.recipient
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
                ReceiptState::Queued | ReceiptState::Sent => {
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
        formatter.debug_struct("Receipt").field("id", &self.id).field("state", &self.state()).finish()
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
            Inner { state: ReceiptState::Queued, accepted, kept: false, wakers: Vec::new(), patient: Vec::new() };
        let receipt = Receipt { id, recipient, shared: Arc::new(Shared { inner: Mutex::new(inner) }) };
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

    /// Moves the receipt on; what is final stays.
    pub(crate) fn set(&self, state: ReceiptState) {
        let wakers = {
            let mut inner = self.receipt.shared.lock();
            if inner.state.is_final() || inner.state == state {
                return;
            }
            inner.state = state;
            let mut wakers = std::mem::take(&mut inner.wakers);
            if inner.state.is_final() {
                wakers.append(&mut inner.patient);
            }
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for ReceiptWriter {
    fn drop(&mut self) {
        let id = self.receipt.id;
        let kept = self.receipt.shared.lock().kept;
        let error = if kept { DeliveryError::Kept { id } } else { DeliveryError::ShutDown { id } };
        self.set(ReceiptState::Failed { error });
        self.place.give_back(self.receipt.id.nonce);
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

    fn pair(places: &Places) -> (ReceiptWriter, Receipt) {
        let id = MessageId { sender: PeerId::random(), nonce: 1 };
        ReceiptWriter::new(id, PeerId::random(), places.take().expect("room"), false)
    }

    #[test]
    fn a_receipt_tells_each_step_and_then_stays() {
        let (writer, receipt) = pair(&Places::new(1));
        assert_eq!(receipt.state(), ReceiptState::Queued);
        writer.set(ReceiptState::Sent);
        assert_eq!(block_on(receipt.changed(&ReceiptState::Queued)), ReceiptState::Sent);
        let waiting = std::thread::spawn({
            let receipt = receipt.clone();
            move || block_on(receipt.delivered())
        });
        writer.set(ReceiptState::Delivered);
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
        writer.set(ReceiptState::Sent);
        drop(writer);
        assert_eq!(receipt.state(), ReceiptState::Delivered);
    }

    #[test]
    fn accepted_is_stored_or_delivered() {
        let places = Places::new(3);
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
        writer.set(ReceiptState::Delivered);
        assert_eq!(block_on(receipt.accepted()), Ok(()));
        let (writer, receipt) = pair(&places);
        let error = DeliveryError::NotStored { reason: "no space".to_owned() };
        writer.set(ReceiptState::Failed { error: error.clone() });
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
        let (writer, receipt) = pair(&Places::new(1));
        let (patient, curious) = (Arc::<Count>::default(), Arc::<Count>::default());
        let woken = || (patient.0.load(Ordering::Relaxed), curious.0.load(Ordering::Relaxed));
        let (of_patient, of_curious) = (futures::task::waker(patient.clone()), futures::task::waker(curious.clone()));
        let mut delivered = receipt.delivered().boxed();
        let mut changed = receipt.changed(&ReceiptState::Queued).boxed();
        assert!(delivered.poll_unpin(&mut Context::from_waker(&of_patient)).is_pending());
        assert!(changed.poll_unpin(&mut Context::from_waker(&of_curious)).is_pending());
        writer.set(ReceiptState::Sent);
        assert_eq!(woken(), (0, 1));
        writer.set(ReceiptState::Delivered);
        assert_eq!(woken(), (1, 1));
        assert_eq!(delivered.poll_unpin(&mut Context::from_waker(&of_patient)), Poll::Ready(Ok(())));
    }

    #[test]
    fn a_receipt_whose_network_is_gone_does_not_hang() {
        let places = Places::new(1);
        let (writer, receipt) = pair(&places);
        assert!(places.take().is_none(), "the only place is taken");
        drop(writer);
        assert_eq!(block_on(receipt.delivered()), Err(DeliveryError::ShutDown { id: receipt.id() }));
        assert!(places.take().is_some(), "the place is free again");
    }
}
