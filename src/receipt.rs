//! What becomes of a direct message.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use serde::Serialize;

use crate::{error::DeliveryError, message::MessageId};

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
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
}

struct Inner {
    state: ReceiptState,
    /// Who waits for any change.
    curious: Vec<Waker>,
    /// Who waits for the end. Waking another thread is dear, so they are not woken on the way there.
    patient: Vec<Waker>,
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
                wake_later(&mut inner.curious, context.waker());
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

/// The network's end of a receipt. Dropped without a final state, it says that the node was shut down.
pub(crate) struct ReceiptWriter {
    receipt: Receipt,
    _place: Place,
}

impl ReceiptWriter {
    /// A receipt and its writer, which holds a place in the outbox until it is dropped.
    pub(crate) fn new(id: MessageId, place: Place) -> (Self, Receipt) {
        let inner = Inner { state: ReceiptState::Queued, curious: Vec::new(), patient: Vec::new() };
        let receipt = Receipt { id, shared: Arc::new(Shared { inner: Mutex::new(inner) }) };
        (Self { receipt: receipt.clone(), _place: place }, receipt)
    }

    /// Moves the receipt on; what is final stays.
    pub(crate) fn set(&self, state: ReceiptState) {
        let (curious, patient) = {
            let mut inner = self.receipt.shared.lock();
            if inner.state.is_final() || inner.state == state {
                return;
            }
            inner.state = state;
            let ended = inner.state.is_final();
            let patient = if ended { std::mem::take(&mut inner.patient) } else { Vec::new() };
            (std::mem::take(&mut inner.curious), patient)
        };
        curious.into_iter().chain(patient).for_each(Waker::wake);
    }
}

impl Drop for ReceiptWriter {
    fn drop(&mut self) {
        self.set(ReceiptState::Failed { error: DeliveryError::ShutDown { id: self.receipt.id } });
    }
}

/// How many messages the outbox may hold, shared by all handles of a node.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// One message's place in the outbox, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<AtomicUsize>,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a place; `None` when the outbox is full.
    pub(crate) fn take(&self) -> Option<Place> {
        let room = |taken: usize| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok()?;
        Some(Place { taken: self.taken.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use futures::executor::block_on;
    use libp2p::PeerId;

    use super::*;

    fn pair(places: &Places) -> (ReceiptWriter, Receipt) {
        let id = MessageId { sender: PeerId::random(), nonce: 1 };
        ReceiptWriter::new(id, places.take().expect("room"))
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
