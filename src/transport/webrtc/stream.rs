//! One stream over one data channel: what libp2p reads and writes, and what a backend tells it.
//!
//! Frames that come are taken and answered in the backend's call, whether or not anybody reads: a FIN is acknowledged by
//! a page whose app is busy.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};

use super::{
    framing::{Framing, FramingError, MAX_PAYLOAD},
    muxer::Registration,
};

/// Above so many bytes in a channel's send buffer, writers wait.
pub(super) const HIGH_WATER: usize = 256 * 1024;

/// Below so many bytes in a channel's send buffer, writers go on.
pub(crate) const LOW_WATER: usize = 64 * 1024;

/// What may wait to be read on all streams of a connection, bytes. A stream to which more comes is reset.
const MAX_UNREAD_OF_ALL: usize = 32 * 1024 * 1024;

/// What waits to be read on all streams of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread {
    bytes: Arc<AtomicUsize>,
}

impl Unread {
    fn is_too_much(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > MAX_UNREAD_OF_ALL
    }

    fn change(&self, from: usize, to: usize) {
        if to >= from {
            self.bytes.fetch_add(to - from, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(from - to, Ordering::Relaxed);
        }
    }
}

/// One data channel of a backend.
pub(crate) trait Channel: Send + 'static {
    /// Hands over one message whole, of at most [`MAX_MESSAGE`](super::MAX_MESSAGE) bytes. Called only after
    /// [`Handle::opened`], and with data only while [`buffered`](Self::buffered) is below [`HIGH_WATER`].
    ///
    /// # Errors
    /// When the channel is closed.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;

    /// Bytes handed over that have not left for the network.
    fn buffered(&self) -> usize;

    /// Closes the channel once what was handed over has left. Idempotent. Nothing is told of it afterwards.
    fn close(&mut self);
}

struct Shared<C> {
    framing: Framing,
    /// The connection's account, and how much of it is this stream's.
    unread: Unread,
    accounted: usize,
    /// `None` once it is closed.
    channel: Option<C>,
    opened: bool,
    /// Bytes written that don't fill a frame yet and have not been flushed.
    unsent: Vec<u8>,
    /// Why the whole connection is gone.
    failure: Option<Arc<str>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The place in the connection's table, until the channel is closed.
    registration: Option<Registration>,
}

impl<C: Channel> Shared<C> {
    /// Sends the flags that wait, and closes the channel when all is said. Returns whom to wake.
    fn settle(&mut self) {
        if self.opened {
            while let Some(channel) = &mut self.channel
                && let Some(control) = self.framing.next_control()
            {
                if channel.send(&control).is_err() {
                    self.framing.channel_closed();
                }
            }
        }
        if self.framing.is_over() {
            self.close();
        }
    }

    fn account(&mut self) {
        let held = self.framing.held();
        self.unread.change(self.accounted, held);
        self.accounted = held;
    }

    fn close(&mut self) {
        if let Some(mut channel) = self.channel.take() {
            channel.close();
        }
        self.framing.channel_closed();
        self.registration = None;
    }

    fn wake(&mut self) {
        for waker in self.reader.take().into_iter().chain(self.writer.take()) {
            waker.wake();
        }
    }

    fn check_connection(&self) -> io::Result<()> {
        match &self.failure {
            Some(reason) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason.to_string())),
            None => Ok(()),
        }
    }

    /// Waits until the channel takes data.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut C>> {
        self.check_connection()?;
        self.framing.check_writable()?;
        let opened = self.opened;
        match &mut self.channel {
            Some(channel) if opened && channel.buffered() < HIGH_WATER => Poll::Ready(Ok(channel)),
            Some(_) => {
                self.writer = Some(context.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_send_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unsent.is_empty() {
            ready!(self.poll_room(context))?;
            let message = self.framing.frame(&self.unsent)?;
            self.send(&message)?;
            self.unsent.clear();
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let channel = self.channel.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        channel.send(message)
    }
}

impl<C> Drop for Shared<C> {
    fn drop(&mut self) {
        self.unread.change(self.accounted, 0);
    }
}

fn lock<C>(shared: &Mutex<Shared<C>>) -> MutexGuard<'_, Shared<C>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new stream over a channel.
pub(super) fn new<C: Channel>(channel: C, opened: bool, unread: Unread) -> (Handle<C>, Stream<C>) {
    let shared = Arc::new(Mutex::new(Shared {
        framing: Framing::new(),
        unread,
        accounted: 0,
        channel: Some(channel),
        opened,
        unsent: Vec::new(),
        failure: None,
        reader: None,
        writer: None,
        registration: None,
    }));
    (Handle { shared: shared.clone() }, Stream { shared })
}

/// What a backend tells a stream.
pub(crate) struct Handle<C> {
    shared: Arc<Mutex<Shared<C>>>,
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<C: Channel> Handle<C> {
    /// The channel can be written to.
    pub(crate) fn opened(&self) {
        let mut shared = lock(&self.shared);
        shared.opened = true;
        shared.settle();
        shared.wake();
    }

    /// A message came.
    pub(crate) fn received(&self, message: Bytes) {
        let mut shared = lock(&self.shared);
        let result = if shared.unread.is_too_much() {
            shared.framing.refuse(FramingError::Unread);
            Err(FramingError::Unread)
        } else {
            shared.framing.receive(message)
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a WebRTC stream was reset");
        }
        shared.account();
        shared.settle();
        shared.wake();
    }

    /// What waits in the channel has fallen to [`LOW_WATER`].
    pub(crate) fn drained(&self) {
        if let Some(waker) = lock(&self.shared).writer.take() {
            waker.wake();
        }
    }

    /// The other side has closed the channel, or it broke.
    pub(crate) fn closed(&self) {
        let mut shared = lock(&self.shared);
        shared.close();
        shared.wake();
    }

    /// The connection is gone.
    pub(super) fn failed(&self, reason: &Arc<str>) {
        let mut shared = lock(&self.shared);
        shared.failure.get_or_insert_with(|| reason.clone());
        shared.close();
        shared.wake();
    }

    /// Gives the stream its place in the connection's table.
    pub(super) fn register(&self, registration: Registration) {
        lock(&self.shared).registration = Some(registration);
    }

    /// Whether something was written that the other side has not confirmed, or not even been sent.
    pub(super) fn is_unfinished(&self) -> bool {
        let shared = lock(&self.shared);
        shared.framing.is_finishing() || shared.channel.as_ref().is_some_and(|channel| channel.buffered() > 0)
    }
}

/// One stream of a WebRTC connection. Dropping it gives up what is not closed.
pub(crate) struct Stream<C: Channel> {
    shared: Arc<Mutex<Shared<C>>>,
}

impl<C: Channel> AsyncRead for Stream<C> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.shared);
        let read = shared.framing.read(buffer);
        shared.account();
        match read {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => {
                shared.reader = Some(context.waker().clone());
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(shared.check_connection().err().unwrap_or(error))),
        }
    }
}

impl<C: Channel> AsyncWrite for Stream<C> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.shared);
        shared.check_connection()?;
        shared.framing.check_writable()?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if shared.unsent.len() == MAX_PAYLOAD {
            ready!(shared.poll_send_rest(context))?;
        }
        // Much at once needs no detour by the buffer.
        if shared.unsent.is_empty() && bytes.len() >= MAX_PAYLOAD {
            ready!(shared.poll_room(context))?;
            let message = shared.framing.frame(&bytes[..MAX_PAYLOAD])?;
            shared.send(&message)?;
            return Poll::Ready(Ok(MAX_PAYLOAD));
        }
        let count = bytes.len().min(MAX_PAYLOAD - shared.unsent.len());
        shared.unsent.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    /// Ready when all that was written has been handed to the data channel.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.shared).poll_send_rest(context)
    }

    /// Ready when all that was written and the FIN have been handed to the data channel. That the other side has them is
    /// awaited when the connection closes, not here: old implementations never answer a FIN.
    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.shared);
        if shared.framing.check_writable().is_ok() {
            ready!(shared.poll_send_rest(context))?;
            if !shared.opened {
                shared.check_connection()?;
                shared.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            shared.framing.finish();
            shared.settle();
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: Channel> Drop for Stream<C> {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.framing.let_go();
        shared.account();
        if shared.opened {
            shared.settle();
        } else {
            // Nobody at the other end has seen it.
            shared.close();
        }
        if let Some(registration) = &shared.registration {
            // What is left is to hear that the FIN arrived.
            registration.linger();
        }
    }
}
