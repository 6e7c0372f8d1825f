//! WebRTC-direct, treated gently: workarounds for the published transports, on both ends, until they are replaced.
//!
//! - The native one loses a stream that receives a data-channel message above 8,192 bytes, though up to 16 KiB are
//!   allowed (rust-libp2p issue 6557). Each write stays below that and is flushed before the next, so that no two are
//!   joined.
//! - Of many streams opened at once most are never answered: the browser's queues four and drops the rest. So only
//!   [`MAX_UNANSWERED`] streams are open at a time to which the other side has not said anything.
//! - The browser's loses streams that are opened before it has understood that the connection stands. So the side that
//!   was dialled opens none before the dialler has, or [`FIRST_WORD`] has passed.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite, FutureExt as _};
use futures_timer::Delay;
use libp2p::core::{StreamMuxer, muxing::StreamMuxerEvent};

/// The largest write, bytes; the framing around it stays below 8,192.
const MAX_WRITE: usize = 8_000;

/// Streams of one connection, opened by this side, that the other side has not answered.
const MAX_UNANSWERED: usize = 3;

/// How long the side that was dialled waits for the dialler to open the first stream.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// A connection whose streams are opened a few at a time and write in small steps.
pub(super) struct Paced<M> {
    muxer: M,
    opening: Arc<Mutex<Opening>>,
    /// Runs while the dialler has not opened a stream.
    first_word: Option<Delay>,
}

#[derive(Default)]
struct Opening {
    unanswered: usize,
    /// The connection's task, when it waits to open another.
    waiting: Option<Waker>,
}

impl<M> Paced<M> {
    /// On the side that dialled.
    #[cfg_attr(not(browser), allow(dead_code, reason = "the native side never dials"))]
    pub(super) fn dialled(muxer: M) -> Self {
        Self { muxer, opening: Arc::default(), first_word: None }
    }

    /// On the side that was dialled.
    #[cfg_attr(browser, allow(dead_code, reason = "a page is never dialled"))]
    pub(super) fn accepted(muxer: M) -> Self {
        Self { muxer, opening: Arc::default(), first_word: Some(Delay::new(FIRST_WORD)) }
    }
}

impl<M> StreamMuxer for Paced<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = PacedStream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        let this = self.get_mut();
        let stream = ready!(Pin::new(&mut this.muxer).poll_inbound(context))?;
        if this.first_word.take().is_some()
            && let Some(waiting) = lock(&this.opening).waiting.take()
        {
            waiting.wake();
        }
        Poll::Ready(Ok(PacedStream::new(stream, None)))
    }

    fn poll_outbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        let this = self.get_mut();
        if let Some(first_word) = &mut this.first_word {
            lock(&this.opening).waiting = Some(context.waker().clone());
            ready!(first_word.poll_unpin(context));
            this.first_word = None;
        }
        {
            let mut opening = lock(&this.opening);
            if opening.unanswered >= MAX_UNANSWERED {
                opening.waiting = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        let stream = ready!(Pin::new(&mut this.muxer).poll_outbound(context))?;
        lock(&this.opening).unanswered += 1;
        Poll::Ready(Ok(PacedStream::new(stream, Some(Unanswered { opening: this.opening.clone() }))))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll_close(context)
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll(context)
    }
}

/// Counts a stream as unanswered until it is dropped.
struct Unanswered {
    opening: Arc<Mutex<Opening>>,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let mut opening = lock(&self.opening);
        opening.unanswered -= 1;
        if let Some(waiting) = opening.waiting.take() {
            waiting.wake();
        }
    }
}

fn lock(opening: &Mutex<Opening>) -> MutexGuard<'_, Opening> {
    opening.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that writes in small steps.
pub(super) struct PacedStream<S> {
    stream: S,
    /// Something was written and not flushed.
    unflushed: bool,
    unanswered: Option<Unanswered>,
}

impl<S> PacedStream<S> {
    fn new(stream: S, unanswered: Option<Unanswered>) -> Self {
        Self { stream, unflushed: false, unanswered }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let read = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        this.unanswered = None;
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unflushed {
            ready!(Pin::new(&mut this.stream).poll_flush(context))?;
            this.unflushed = false;
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, &bytes[..bytes.len().min(MAX_WRITE)]))?;
        this.unflushed = true;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        this.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(context)
    }
}
