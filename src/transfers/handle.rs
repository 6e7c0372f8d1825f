//! What the app holds of a transfer, and how it says what it wants of it.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
};

use async_channel::{Receiver, Sender};
use libp2p::PeerId;

use super::{credit::Credit, room::Place, sender::Ledger, shell::Shell, source::Source};
use crate::{
    error::TransferError,
    transfer::{
        PayloadHash, TransferDirection, TransferId, TransferKey, TransferOffer, TransferProgress, TransferState,
    },
};

/// What an app wants of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// End it.
    Cancel(TransferKey),
    /// The offer has a writer now.
    Taken(TransferKey),
    /// The offer is not wanted.
    Declined(TransferKey, String),
}

/// Where handles leave what they want and the driver finds it. It can't be full: a handle asks for each thing once, and
/// as many handles live as transfers were begun and taken.
#[derive(Debug)]
pub(crate) struct Desk {
    asks: Mutex<VecDeque<Ask>>,
    bell: Sender<()>,
}

impl Desk {
    /// A desk, and the bell that rings when something lies on it.
    pub(crate) fn new() -> (Arc<Self>, Receiver<()>) {
        let (bell, rung) = async_channel::bounded(1);
        (Arc::new(Self { asks: Mutex::default(), bell }), rung)
    }

    pub(crate) fn ask(&self, ask: Ask) {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).push_back(ask);
        // A bell that has rung already rings for this too; one that nobody hears belongs to a node that has stopped.
        let _ = self.bell.try_send(());
    }

    pub(crate) fn take(&self) -> VecDeque<Ask> {
        std::mem::take(&mut *self.asks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How far a transfer is, for whoever wants to see.
pub(crate) struct Watch {
    pub(crate) key: TransferKey,
    length: Option<u64>,
    transferred: AtomicU64,
    inner: Mutex<Inner>,
    cancel_asked: AtomicBool,
    pub(crate) desk: Arc<Desk>,
}

struct Inner {
    state: TransferState,
    wakers: Vec<Waker>,
}

impl Watch {
    pub(crate) fn new(key: TransferKey, length: Option<u64>, state: TransferState, desk: Arc<Desk>) -> Arc<Self> {
        Arc::new(Self {
            key,
            length,
            transferred: AtomicU64::new(0),
            inner: Mutex::new(Inner { state, wakers: Vec::new() }),
            cancel_asked: AtomicBool::new(false),
            desk,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on; what is final stays.
    pub(crate) fn set(&self, state: TransferState) {
        let wakers = {
            let mut inner = self.lock();
            if inner.state.is_final() || inner.state == state {
                return;
            }
            inner.state = state;
            std::mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// So much is verified and written.
    pub(crate) fn set_transferred(&self, transferred: u64) {
        self.transferred.store(transferred, Ordering::Relaxed);
    }

    pub(crate) fn transferred(&self) -> u64 {
        self.transferred.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().state.is_final()
    }

    fn progress(&self) -> TransferProgress {
        let state = self.lock().state.clone();
        TransferProgress { transferred: self.transferred(), length: self.length, state }
    }

    pub(crate) fn cancel(&self) {
        if !self.is_over() && !self.cancel_asked.swap(true, Ordering::AcqRel) {
            self.desk.ask(Ask::Cancel(self.key));
        }
    }
}

/// An outgoing transfer as the network holds it.
pub(crate) struct Outbox {
    pub(crate) offer: TransferOffer,
    pub(crate) shell: Arc<Shell<Sending>>,
    pub(crate) watch: Arc<Watch>,
    /// What it may write where there is a budget.
    pub(crate) credit: Arc<Credit>,
    _place: Place,
}

/// What an attempt to send works on.
pub(crate) struct Sending {
    pub(crate) source: Box<dyn Source>,
    pub(crate) ledger: Ledger,
}

impl Outbox {
    pub(crate) fn new(offer: TransferOffer, source: Box<dyn Source>, watch: Arc<Watch>, place: Place) -> Self {
        let sending = Sending { source, ledger: Ledger::default() };
        Self { offer, shell: Arc::new(Shell::new(Some(sending))), watch, credit: Arc::default(), _place: place }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outbox").field("key", &self.watch.key).finish_non_exhaustive()
    }
}

/// A transfer under way, outgoing or incoming. Clones are handles on the same one; dropping them doesn't end it.
#[derive(Clone)]
pub struct Transfer {
    watch: Arc<Watch>,
}

impl Transfer {
    pub(crate) fn new(watch: Arc<Watch>) -> Self {
        Self { watch }
    }

    /// Its id, the same on both sides.
    pub fn id(&self) -> TransferId {
        self.watch.key.id
    }

    /// Whom it goes to or comes from.
    pub fn peer(&self) -> PeerId {
        self.watch.key.peer
    }

    /// Which way it goes.
    pub fn direction(&self) -> TransferDirection {
        self.watch.key.direction
    }

    /// How far it is, this very moment.
    pub fn progress(&self) -> TransferProgress {
        self.watch.progress()
    }

    /// Waits until everything is verified and written on the receiver's side, or never will be. Returns the payload's
    /// hash.
    ///
    /// # Errors
    /// Why it will not be complete.
    pub async fn finished(&self) -> Result<PayloadHash, TransferError> {
        poll_fn(|context| {
            let mut inner = self.watch.lock();
            match &inner.state {
                TransferState::Finished { hash } => Poll::Ready(Ok(*hash)),
                TransferState::Failed { error } => Poll::Ready(Err(error.clone())),
                _ => {
                    if !inner.wakers.iter().any(|known| known.will_wake(context.waker())) {
                        inner.wakers.push(context.waker().clone());
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Ends it. The other side is told as soon as it is connected; [`finished`](Self::finished) says
    /// [`TransferError::Cancelled`]. One that is over stays as it is.
    pub fn cancel(&self) {
        self.watch.cancel();
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = self.progress();
        formatter.debug_struct("Transfer").field("key", &self.watch.key).field("progress", &progress).finish()
    }
}
