//! Offers of other nodes, and how the app takes them.

use std::{
    fmt, io,
    ops::Range,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use async_channel::{Receiver, Sender, TrySendError};
use bytes::Bytes;
use futures::{AsyncWrite, Stream, stream::FusedStream};
use libp2p::PeerId;

use super::{
    collect::Collected,
    handle::{Ask, Transfer, Watch},
    prefix::TransferPrefix,
    shell::Shell,
    tree::Tree,
};
use crate::{
    error::TransferError,
    platform,
    transfer::{TransferId, TransferOffer},
};

/// An incoming transfer as the network holds it.
pub(crate) struct Inbox {
    pub(crate) offer: TransferOffer,
    /// The most that the app takes, bytes.
    most: AtomicU64,
    /// Empty until the app has given a writer.
    pub(crate) shell: Arc<Shell<Taking>>,
    pub(crate) watch: Arc<Watch>,
}

/// What an attempt to receive works on.
pub(crate) struct Taking {
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// All that is verified.
    pub(crate) tree: Tree,
    /// The verified chunk that the writer has not taken as a whole: where it lies, and which part of that is to come.
    pub(crate) buffer: Vec<u8>,
    pub(crate) unwritten: Range<usize>,
    /// The writer has been flushed and closed.
    pub(crate) closed: bool,
}

impl Inbox {
    pub(crate) fn new(offer: TransferOffer, watch: Arc<Watch>) -> Self {
        Self { offer, most: AtomicU64::new(u64::MAX), shell: Arc::new(Shell::new(None)), watch }
    }

    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inbox").field("key", &self.watch.key).finish_non_exhaustive()
    }
}

/// A payload that a peer offers. It waits to be taken or refused, for at most
/// [`offer_timeout`](crate::config::TransfersConfig::offer_timeout); dropping it refuses it.
#[must_use = "dropping an offer refuses it"]
pub struct IncomingTransfer {
    /// Gone once it is answered.
    inbox: Option<Arc<Inbox>>,
}

impl IncomingTransfer {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox: Some(inbox) }
    }

    fn inbox(&self) -> &Arc<Inbox> {
        self.inbox.as_ref().expect("answering takes the offer away")
    }

    /// Who offers it.
    pub fn peer(&self) -> PeerId {
        self.inbox().watch.key.peer
    }

    /// Its id, the same on both sides.
    pub fn id(&self) -> TransferId {
        self.inbox().watch.key.id
    }

    /// What the sender says of it.
    pub fn offer(&self) -> &TransferOffer {
        &self.inbox().offer
    }

    /// Takes no more than so many bytes of it, whatever it turns out to be: one that is longer by its own word is refused
    /// when it is accepted, another one fails when it comes to this length, both with [`TransferError::TooLong`].
    pub fn at_most(self, bytes: u64) -> Self {
        self.inbox().most.store(bytes, Ordering::Relaxed);
        self
    }

    /// Takes it into a writer, which is closed when all of it is there. Nothing reaches the writer that has not been
    /// verified, and nothing twice. It is written to as the bytes come, on the network's own task, which must not be
    /// blocked; while it takes nothing the sender waits, and nobody else does.
    ///
    /// # Errors
    /// When the offer waited too long, its sender gave it up, or it is longer than [`at_most`](Self::at_most) allows.
    pub fn accept(self, writer: impl AsyncWrite + Send + Unpin + 'static) -> Result<Transfer, TransferError> {
        self.accept_from(TransferPrefix::default(), writer)
    }

    /// Takes what is missing after the beginning that is already here, from an earlier attempt that this node did not
    /// survive. The writer gets what follows after [`TransferPrefix::length`].
    ///
    /// # Errors
    /// As [`accept`](Self::accept). When the beginning is not the one of the sender's payload, the transfer fails with
    /// [`TransferError::SourceChanged`].
    pub fn accept_from(
        mut self,
        prefix: TransferPrefix,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Transfer, TransferError> {
        let most = self.inbox().most();
        if self.offer().length.is_some_and(|length| length > most) {
            self.decline(format!("it is longer than {most} bytes"));
            return Err(TransferError::TooLong { limit: most });
        }
        let tree = prefix.into_tree();
        let beyond = self.offer().length.is_some_and(|length| tree.length() > 0 && tree.length() >= length);
        if beyond {
            return Err(TransferError::SourceChanged { offset: tree.length() });
        }
        let inbox = self.inbox.take().ok_or(TransferError::Gone)?;
        if inbox.watch.is_over() {
            return Err(TransferError::Gone);
        }
        inbox.watch.set_transferred(tree.length());
        inbox.shell.put(Taking { writer: Box::new(writer), tree, buffer: Vec::new(), unwritten: 0..0, closed: false });
        inbox.watch.desk.ask(Ask::Taken(inbox.watch.key));
        Ok(Transfer::new(inbox.watch.clone()))
    }

    /// Takes it into a file. Until it is complete the file is called `<path>.part`; when there is one from an earlier
    /// run, what it has of the payload isn't sent again. An existing file at `path` is replaced at the end.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), and when the file can't be written; always in a browser, which has no files.
    pub async fn accept_to_file(self, path: impl AsRef<Path>) -> Result<Transfer, TransferError> {
        let refused = |error: io::Error| TransferError::Writer { reason: error.to_string() };
        let (file, tree) = platform::File::resume(path.as_ref(), self.offer().length).await.map_err(refused)?;
        self.accept_from(tree, file)
    }

    /// Takes it into memory and waits for all of it.
    ///
    /// # Errors
    /// When it is longer than `limit` bytes, and as [`Transfer::finished`].
    pub async fn collect(self, limit: usize) -> Result<Bytes, TransferError> {
        let collected = Collected::default();
        let transfer = self.at_most(limit as u64).accept(collected.writer())?;
        transfer.finished().await.map(|_| collected.take())
    }

    /// Refuses it, with a reason for people.
    pub fn refuse(mut self, reason: impl Into<String>) {
        self.decline(reason.into());
    }

    fn decline(&mut self, reason: String) {
        if let Some(inbox) = self.inbox.take()
            && !inbox.watch.is_over()
        {
            inbox.watch.desk.ask(Ask::Declined(inbox.watch.key, reason));
        }
    }

    fn is_over(&self) -> bool {
        self.inbox.as_ref().is_none_or(|inbox| inbox.watch.is_over())
    }
}

impl Drop for IncomingTransfer {
    fn drop(&mut self) {
        self.decline("the app let it go".to_owned());
    }
}

impl fmt::Debug for IncomingTransfer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("IncomingTransfer");
        if let Some(inbox) = &self.inbox {
            shown.field("key", &inbox.watch.key).field("offer", &inbox.offer);
        }
        shown.finish()
    }
}

/// The offers that come in, from [`NetworkHandler::transfers`](crate::NetworkHandler::transfers). Ends when the node
/// stops.
pub struct Transfers {
    offers: Pin<Box<Receiver<IncomingTransfer>>>,
    ended: bool,
}

impl Stream for Transfers {
    type Item = IncomingTransfer;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<IncomingTransfer>> {
        loop {
            match self.offers.as_mut().poll_next(context) {
                // It waited too long, or its sender gave it up.
                Poll::Ready(Some(offer)) if offer.is_over() => {}
                Poll::Ready(next) => {
                    self.ended = next.is_none();
                    return Poll::Ready(next);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl FusedStream for Transfers {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

/// The offers that nobody has looked at yet, as many as the core lets wait.
pub(crate) struct Offers {
    sender: Sender<IncomingTransfer>,
    receiver: Receiver<IncomingTransfer>,
}

impl Offers {
    pub(crate) fn new(limit: usize) -> Self {
        let (sender, receiver) = async_channel::bounded(limit);
        Self { sender, receiver }
    }

    /// Puts an offer behind the others. Those that are over make room.
    pub(crate) fn push(&self, offer: IncomingTransfer) {
        let Err(TrySendError::Full(offer)) = self.sender.try_send(offer) else { return };
        for _ in 0..self.receiver.len() {
            let Ok(waiting) = self.receiver.try_recv() else { break };
            if !waiting.is_over() {
                // There is room, since it was just there. What finds none all the same is refused by its drop.
                let _ = self.sender.try_send(waiting);
            }
        }
        let _ = self.sender.try_send(offer);
    }

    pub(crate) fn subscribe(&self) -> Transfers {
        Transfers { offers: Box::pin(self.receiver.clone()), ended: false }
    }

    pub(crate) fn close(&self) {
        self.sender.close();
    }
}
