//! One connection as libp2p's side has it: the [`Link`] and its channels, which leave wishes for the endpoint's task.
//!
//! Invariant: the lock in here is the last one taken. The endpoint never holds it while it tells a stream something, so
//! a stream may send while it is told.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::{FutureExt as _, channel::oneshot, future::BoxFuture};
use str0m::Candidate;

use crate::transport::webrtc::{Channel, Handle, IceCandidate, Link, Negotiate, Stream, Streams, direct::Fingerprint};

/// A connection's place at its endpoint.
pub(super) type Key = u64;

/// How libp2p's side calls the endpoint's task.
#[derive(Default)]
pub(super) struct Doorbell {
    rung: Mutex<Rung>,
    /// Connections of the endpoint.
    pub(super) connections: AtomicUsize,
}

#[derive(Default)]
struct Rung {
    /// Each connection at most once: it doesn't ring again before it was heard.
    keys: Vec<Key>,
    waker: Option<Waker>,
}

impl Doorbell {
    /// Who has rung. The task is woken by the next ring.
    pub(super) fn answer(&self, context: &Context<'_>) -> Vec<Key> {
        let mut rung = lock(&self.rung);
        match &mut rung.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        mem::take(&mut rung.keys)
    }

    /// Wakes the task without a wish, such as when nobody listens any more.
    pub(super) fn wake(&self) {
        let waker = lock(&self.rung).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn ring(&self, key: Key) {
        lock(&self.rung).keys.push(key);
        self.wake();
    }
}

/// What the endpoint shall do.
pub(super) enum Wish {
    Open {
        number: u64,
        handle: Handle<DataChannel>,
        load: Arc<Load>,
    },
    Send {
        number: u64,
        message: Vec<u8>,
    },
    Close {
        number: u64,
    },
    /// Who the other side is has been proved.
    Established,
    End,
    /// Opens the channel that makes the two sides connect, and makes an offer.
    Offer {
        reply: Reply<String>,
    },
    Answer {
        offer: String,
        reply: Reply<String>,
    },
    Accept {
        answer: String,
        reply: Reply<()>,
    },
    Candidate {
        candidate: Candidate,
    },
    /// Closes the channel that made the two sides connect.
    CloseInit,
}

type Reply<T> = oneshot::Sender<io::Result<T>>;

/// Bytes of one channel that have not arrived at the other side.
#[derive(Default)]
pub(super) struct Load {
    /// Among the wishes.
    pub(super) waiting: AtomicUsize,
    /// In str0m, sent or not, without an acknowledgement.
    pub(super) inside: AtomicUsize,
}

impl Load {
    pub(super) fn total(&self) -> usize {
        self.waiting.load(Ordering::Acquire) + self.inside.load(Ordering::Acquire)
    }
}

/// What both sides of a connection have in common.
pub(super) struct Shared {
    state: Mutex<State>,
    doorbell: Arc<Doorbell>,
    key: Key,
}

#[derive(Default)]
struct State {
    /// Bounded by what the channels may have under way.
    wishes: VecDeque<Wish>,
    rung: bool,
    last_channel: u64,
    /// DTLS stands; with the other side's certificate.
    connected: Option<Fingerprint>,
    gone: Option<Arc<str>>,
    /// The task that works with the [`Connection`].
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(key: Key, doorbell: Arc<Doorbell>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), doorbell, key })
    }

    fn wish(&self, wish: Wish) -> io::Result<()> {
        let ring = {
            let mut state = lock(&self.state);
            if let Some(reason) = &state.gone {
                return Err(ended(reason));
            }
            state.wishes.push_back(wish);
            !mem::replace(&mut state.rung, true)
        };
        if ring {
            self.doorbell.ring(self.key);
        }
        Ok(())
    }

    /// The name of a new channel on this side.
    pub(super) fn next_channel(&self) -> u64 {
        let mut state = lock(&self.state);
        state.last_channel += 1;
        state.last_channel
    }

    /// What is wished. What is wished from now on rings again.
    pub(super) fn take_wishes(&self) -> VecDeque<Wish> {
        let mut state = lock(&self.state);
        state.rung = false;
        mem::take(&mut state.wishes)
    }

    pub(super) fn connected(&self, certificate: Fingerprint) {
        let mut state = lock(&self.state);
        state.connected = Some(certificate);
        wake(state);
    }

    /// The connection is gone. The first reason stands.
    pub(super) fn gone(&self, reason: &str) {
        let mut state = lock(&self.state);
        state.gone.get_or_insert_with(|| reason.into());
        // What is in them may hold a stream that holds this.
        let wishes = mem::take(&mut state.wishes);
        wake(state);
        drop(wishes);
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn ended(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, reason.to_owned())
}

/// One connection.
pub(crate) struct Connection {
    shared: Arc<Shared>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Waits until DTLS stands, and gives the hash of the other side's certificate.
    ///
    /// # Errors
    /// When the connection ends before.
    pub(super) async fn certificate(&mut self) -> io::Result<Fingerprint> {
        std::future::poll_fn(|context| {
            let mut state = lock(&self.shared.state);
            match (&state.connected, &state.gone) {
                (_, Some(reason)) => Poll::Ready(Err(ended(reason))),
                (Some(certificate), None) => Poll::Ready(Ok(*certificate)),
                (None, None) => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The other side has proved who it is: the endpoint counts the connection as half-open no more.
    pub(super) fn established(&self) {
        // Who is gone is told so by the next poll.
        let _ = self.shared.wish(Wish::Established);
    }
}

impl Link for Connection {
    type Channel = DataChannel;

    fn open(&mut self, streams: &Streams<DataChannel>) -> io::Result<Stream<DataChannel>> {
        let channel = DataChannel::new(self.shared.clone());
        let (number, load) = (channel.number, channel.load.clone());
        let (handle, stream) = streams.outgoing(channel);
        self.shared.wish(Wish::Open { number, handle, load })?;
        Ok(stream)
    }

    fn poll(&mut self, context: &mut Context<'_>, _streams: &Streams<DataChannel>) -> Poll<io::Error> {
        let mut state = lock(&self.shared.state);
        if let Some(reason) = &state.gone {
            return Poll::Ready(ended(reason));
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn close(&mut self) {
        // When it is gone already, there is nobody to tell.
        let _ = self.shared.wish(Wish::End);
    }
}

impl Connection {
    /// Leaves a wish that is answered.
    fn ask<T: Send + 'static>(&self, wish: impl FnOnce(Reply<T>) -> Wish) -> BoxFuture<'static, io::Result<T>> {
        let (reply, answer) = oneshot::channel();
        let asked = self.shared.wish(wish(reply));
        async move {
            asked?;
            answer.await.unwrap_or_else(|_| Err(ended("the connection was closed while it was being made")))
        }
        .boxed()
    }
}

/// All candidates are in the description: the machine's own addresses are known at once, and there are no others.
impl Negotiate for Connection {
    fn offer(&mut self) -> BoxFuture<'static, io::Result<String>> {
        self.ask(|reply| Wish::Offer { reply })
    }

    fn answer(&mut self, offer: String) -> BoxFuture<'static, io::Result<String>> {
        self.ask(|reply| Wish::Answer { offer, reply })
    }

    fn accept(&mut self, answer: String) -> BoxFuture<'static, io::Result<()>> {
        self.ask(|reply| Wish::Accept { answer, reply })
    }

    fn add_candidate(&mut self, candidate: IceCandidate) -> BoxFuture<'static, io::Result<()>> {
        let taken = match Candidate::from_sdp_string(&candidate.candidate) {
            Ok(candidate) => self.shared.wish(Wish::Candidate { candidate }),
            // A page's `.local` name, for one. The page's own checks come through nevertheless.
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        };
        std::future::ready(taken).boxed()
    }

    fn poll_candidate(&mut self, _: &mut Context<'_>) -> Poll<Option<IceCandidate>> {
        Poll::Ready(None)
    }

    fn is_connected(&self) -> bool {
        lock(&self.shared.state).connected.is_some()
    }

    fn close_init(&mut self) {
        // Without a connection there is no channel.
        let _ = self.shared.wish(Wish::CloseInit);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// One data channel.
pub(crate) struct DataChannel {
    shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) load: Arc<Load>,
    closed: bool,
}

impl DataChannel {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let number = shared.next_channel();
        Self { shared, number, load: Arc::default(), closed: false }
    }
}

impl Channel for DataChannel {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.load.waiting.fetch_add(message.len(), Ordering::AcqRel);
        self.shared.wish(Wish::Send { number: self.number, message: message.to_vec() })
    }

    fn buffered(&self) -> usize {
        self.load.total()
    }

    fn close(&mut self) {
        if !mem::replace(&mut self.closed, true) {
            // A connection that is gone has no channels.
            let _ = self.shared.wish(Wish::Close { number: self.number });
        }
    }
}

impl Drop for DataChannel {
    fn drop(&mut self) {
        self.close();
    }
}
