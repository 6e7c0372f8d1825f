//! A WebRTC connection as libp2p sees it: streams in, streams out, and an end.

use std::{
    collections::{HashMap, VecDeque},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use futures_timer::Delay;
use libp2p::core::{StreamMuxer, muxing::StreamMuxerEvent};
use web_time::Instant;

use super::stream::{self, Channel, Handle, Stream, Unread};

/// Streams of one connection, both ways. Chromium has 1,024 data channels.
const MAX_STREAMS: usize = 1_000;

/// Streams that the other side has opened and nobody has taken. libp2p takes them as fast as it can negotiate.
const MAX_WAITING: usize = 256;

/// How long a stream that was let go waits for its FIN to be answered, as js-libp2p does.
const LINGER: Duration = Duration::from_secs(10);

/// How long a connection that closes waits until what was written has arrived, and how often it looks.
const CLOSING: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// One WebRTC connection of a backend.
pub(crate) trait Link: Send + Unpin + 'static {
    type Channel: Channel;

    /// Opens a data channel: label "", ordered, reliable, negotiated in band (spec, "Multiplexing"), and hands it to
    /// [`Streams::outgoing`].
    ///
    /// # Errors
    /// When the connection can't have it.
    fn open(&mut self, streams: &Streams<Self::Channel>) -> io::Result<Stream<Self::Channel>>;

    /// Lets the connection work, and tells streams what came. Ready with the reason when the connection is gone.
    fn poll(&mut self, context: &mut Context<'_>, streams: &Streams<Self::Channel>) -> Poll<io::Error>;

    /// Ends the connection, telling the other side where that can be done. Idempotent.
    fn close(&mut self);
}

struct Table<C: Channel> {
    streams: HashMap<u64, Handle<C>>,
    next: u64,
    waiting: VecDeque<Stream<C>>,
    /// Streams that were let go, and until when they may wait.
    lingering: VecDeque<(Instant, u64)>,
    failure: Option<Arc<str>>,
    for_inbound: Option<Waker>,
    for_outbound: Option<Waker>,
    for_link: Option<Waker>,
}

/// The streams of one connection. A backend keeps a clone to bring what comes from outside.
pub(crate) struct Streams<C: Channel> {
    table: Arc<Mutex<Table<C>>>,
    unread: Unread,
}

impl<C: Channel> Clone for Streams<C> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone(), unread: self.unread.clone() }
    }
}

fn lock<C: Channel>(table: &Mutex<Table<C>>) -> MutexGuard<'_, Table<C>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Channel> Streams<C> {
    pub(crate) fn new() -> Self {
        let table = Table {
            streams: HashMap::new(),
            next: 0,
            waiting: VecDeque::new(),
            lingering: VecDeque::new(),
            failure: None,
            for_inbound: None,
            for_outbound: None,
            for_link: None,
        };
        Self { table: Arc::new(Mutex::new(table)), unread: Unread::default() }
    }

    /// The other side has opened a channel. `None` when it has too many; the channel is closed then.
    /// `open` tells whether it can be written to already; else it waits for [`Handle::opened`].
    pub(crate) fn incoming(&self, channel: C, open: bool) -> Option<Handle<C>> {
        // A stream is dropped outside the lock, since dropping it takes the lock.
        let (handle, stream) = stream::new(channel, open, self.unread.clone());
        let refused = {
            let mut table = lock(&self.table);
            if table.failure.is_some() || table.waiting.len() >= MAX_WAITING || table.streams.len() >= MAX_STREAMS {
                Some(stream)
            } else {
                self.register(&mut table, &handle);
                table.waiting.push_back(stream);
                wake(&mut table.for_inbound);
                None
            }
        };
        if refused.is_some() {
            tracing::debug!("a WebRTC stream was refused: the connection has too many");
            return None;
        }
        Some(handle)
    }

    /// A stream over a channel that this side has just opened; it waits for [`Handle::opened`].
    pub(crate) fn outgoing(&self, channel: C) -> (Handle<C>, Stream<C>) {
        let (handle, stream) = stream::new(channel, false, self.unread.clone());
        self.register(&mut lock(&self.table), &handle);
        (handle, stream)
    }

    /// The connection is gone: everybody who waits for it is told.
    pub(crate) fn failed(&self, reason: &str) {
        let (reason, handles, waiting) = {
            let mut table = lock(&self.table);
            let reason: Arc<str> = table.failure.get_or_insert_with(|| reason.into()).clone();
            wake(&mut table.for_inbound);
            wake(&mut table.for_outbound);
            wake(&mut table.for_link);
            (reason, std::mem::take(&mut table.streams), std::mem::take(&mut table.waiting))
        };
        for handle in handles.into_values() {
            handle.failed(&reason);
        }
        drop(waiting);
    }

    /// How many streams there are, let go ones that linger included.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        lock(&self.table).streams.len()
    }

    fn register(&self, table: &mut Table<C>, handle: &Handle<C>) {
        table.next += 1;
        let id = table.next;
        table.streams.insert(id, handle.clone());
        let linger = {
            let streams = Arc::downgrade(&self.table);
            move || linger(&streams, id)
        };
        let forget = {
            let streams = Arc::downgrade(&self.table);
            move || forget(&streams, id)
        };
        handle.register(Registration { linger: Box::new(linger), forget: Box::new(forget) });
    }

    fn failure(&self) -> Option<io::Error> {
        let failure = lock(&self.table).failure.clone()?;
        Some(io::Error::new(io::ErrorKind::ConnectionAborted, failure.to_string()))
    }
}

/// A stream's place in its connection's table; given back when it is dropped.
pub(super) struct Registration {
    linger: Box<dyn Fn() + Send>,
    forget: Box<dyn Fn() + Send>,
}

impl Registration {
    /// The stream was let go: it may stay for a while to hear its last answer.
    pub(super) fn linger(&self) {
        (self.linger)();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        (self.forget)();
    }
}

fn linger<C: Channel>(table: &Weak<Mutex<Table<C>>>, id: u64) {
    let Some(table) = table.upgrade() else { return };
    let mut table = lock(&table);
    table.lingering.push_back((Instant::now() + LINGER, id));
    wake(&mut table.for_link);
}

fn forget<C: Channel>(table: &Weak<Mutex<Table<C>>>, id: u64) {
    let Some(table) = table.upgrade() else { return };
    // The handle holds what is being dropped; it goes when the lock is free again.
    let _handle = {
        let mut table = lock(&table);
        wake(&mut table.for_outbound);
        wake(&mut table.for_link);
        table.lingering.retain(|(_, lingering)| *lingering != id);
        table.streams.remove(&id)
    };
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// A WebRTC connection with its streams. Dropping it closes the connection.
pub(crate) struct Muxer<L: Link> {
    link: L,
    streams: Streams<L::Channel>,
    /// Runs while streams linger.
    linger: Option<Delay>,
    /// While the connection closes: until when it may wait, and when it looks again.
    closing: Option<(Instant, Delay)>,
}

impl<L: Link> Muxer<L> {
    /// A connection that stands, or is about to.
    pub(crate) fn new(link: L, streams: Streams<L::Channel>) -> Self {
        Self { link, streams, linger: None, closing: None }
    }

    /// The backend.
    #[cfg_attr(browser, allow(dead_code, reason = "the browser tells all by itself"))]
    pub(crate) fn link(&mut self) -> &mut L {
        &mut self.link
    }

    /// The streams.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> &Streams<L::Channel> {
        &self.streams
    }

    /// Lets the connection work until something else is done, such as a handshake over one of its streams.
    ///
    /// # Errors
    /// When the connection ends before.
    pub(crate) async fn work_until<T>(&mut self, mut done: BoxFuture<'_, T>) -> io::Result<T> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(error) = self.poll_link(context) {
                return Poll::Ready(Err(error));
            }
            done.poll_unpin(context).map(Ok)
        })
        .await
    }

    fn poll_link(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        lock(&self.streams.table).for_link = Some(context.waker().clone());
        if let Poll::Ready(error) = self.link.poll(context, &self.streams) {
            self.streams.failed(&error.to_string());
            self.link.close();
            return Poll::Ready(error);
        }
        self.end_lingering(context);
        match self.streams.failure() {
            Some(error) => Poll::Ready(error),
            None => Poll::Pending,
        }
    }

    /// Closes streams whose FIN was not answered in time.
    fn end_lingering(&mut self, context: &mut Context<'_>) {
        loop {
            let (next, handle) = {
                let mut table = lock(&self.streams.table);
                let Some((until, id)) = table.lingering.front().copied() else {
                    self.linger = None;
                    return;
                };
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    table.lingering.pop_front();
                    (None, table.streams.get(&id).cloned())
                } else {
                    (Some(left), None)
                }
            };
            if let Some(handle) = handle {
                handle.closed();
            }
            if let Some(left) = next {
                if self.linger.get_or_insert_with(|| Delay::new(left)).poll_unpin(context).is_pending() {
                    return;
                }
                self.linger = None;
            }
        }
    }

    fn is_unfinished(&self) -> bool {
        let handles = lock(&self.streams.table).streams.values().cloned().collect::<Vec<_>>();
        handles.iter().any(Handle::is_unfinished)
    }
}

impl<L: Link> StreamMuxer for Muxer<L> {
    type Substream = Stream<L::Channel>;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let mut table = lock(&self.streams.table);
        if let Some(stream) = table.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        table.for_inbound = Some(context.waker().clone());
        drop(table);
        self.streams.failure().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }

    fn poll_outbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let this = self.get_mut();
        if let Some(error) = this.streams.failure() {
            return Poll::Ready(Err(error));
        }
        {
            let mut table = lock(&this.streams.table);
            if table.streams.len() >= MAX_STREAMS {
                table.for_outbound = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(this.link.open(&this.streams))
    }

    /// Waits a moment until what was written has arrived: a connection that closes takes everything with it.
    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (until, look) = this.closing.get_or_insert_with(|| (Instant::now() + CLOSING, Delay::new(LOOK)));
        let late = *until <= Instant::now();
        // Nothing tells that a send buffer is empty.
        while look.poll_unpin(context).is_ready() {
            look.reset(LOOK);
        }
        if !late && this.poll_link(context).is_pending() && this.is_unfinished() {
            return Poll::Pending;
        }
        this.link.close();
        this.streams.failed("this side has closed the connection");
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        match self.get_mut().poll_link(context) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<L: Link> Drop for Muxer<L> {
    fn drop(&mut self) {
        self.link.close();
        self.streams.failed("this side has closed the connection");
    }
}
