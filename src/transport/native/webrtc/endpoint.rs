//! One UDP socket, the task that owns it, and all the connections over it.
//!
//! Bounds: [`MAX_HALF_OPEN`] connections that have not proved who they are, refused above it; what waits for the socket
//! is bounded there; everything else belongs to a connection. A datagram that is nobody's costs a look at its first bytes
//! and at a table, and leaves nothing behind.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use futures::channel::mpsc;
use str0m::ice::StunMessage;
use tokio::time::{Sleep, sleep_until};
use web_time::Instant;

use super::{
    certificate::{Certificate, crypto},
    connection::{Connection, DataChannel, Doorbell, Key, Shared},
    routes::{Kind, Routes},
    session::{Direct, Session},
    socket::{Datagram, Inbox, Socket},
};
use crate::transport::webrtc::{
    Stream, Streams,
    direct::{Fingerprint, UFRAG_PREFIX},
};

/// Connections of one port that have not proved who they are. Each may take 10 s, so some 13 a second can always come in;
/// what comes above is refused, without an answer.
pub(super) const MAX_HALF_OPEN: usize = 128;

/// The longest ICE user name (RFC 8445, section 5.3).
const MAX_NAME: usize = 256;

/// Batches received in one turn, before other tasks have theirs.
const BATCHES: usize = 4;

/// A socket that only fails is no use any more.
const MAX_ERRORS: usize = 64;

/// What somebody needs to shake hands.
pub(super) struct Begun {
    pub(super) connection: Connection,
    pub(super) streams: Streams<DataChannel>,
    /// Of data channel 0.
    pub(super) handshake: Stream<DataChannel>,
    /// The other side.
    pub(super) remote: SocketAddr,
    /// The address of this machine it wrote to, where that is known.
    pub(super) local: Option<IpAddr>,
}

struct Listening {
    certificate: Certificate,
    /// As many as may be half-open.
    begun: mpsc::Sender<Begun>,
}

/// The task. It ends when nobody listens and no connection is left, or when the socket breaks.
pub(super) struct Endpoint {
    socket: Socket,
    doorbell: Arc<Doorbell>,
    listening: Option<Listening>,
    sessions: HashMap<Key, Session>,
    last_key: Key,
    routes: Routes,
    half_open: usize,
    /// Connections that were refused.
    refused: u64,
    /// When each session wants to be looked at; exactly one entry each.
    due: BTreeSet<(Instant, Key)>,
    scheduled: HashMap<Key, Instant>,
    timer: Pin<Box<Sleep>>,
    /// Sessions that something happened to in this turn.
    touched: BTreeSet<Key>,
    errors: usize,
}

impl Endpoint {
    fn new(socket: Socket, listening: Option<Listening>) -> Self {
        Self {
            socket,
            doorbell: Arc::default(),
            listening,
            sessions: HashMap::new(),
            last_key: 0,
            routes: Routes::default(),
            half_open: 0,
            refused: 0,
            due: BTreeSet::new(),
            scheduled: HashMap::new(),
            timer: Box::pin(sleep_until(tokio::time::Instant::now())),
            touched: BTreeSet::new(),
            errors: 0,
        }
    }

    /// Listens at an address, on a task of its own. What comes in is brought by the receiver; dropping it ends the
    /// listening, and what stands goes on.
    ///
    /// # Errors
    /// When the address can't be had.
    pub(super) fn listen(address: SocketAddr, certificate: &Certificate) -> io::Result<Listener> {
        let (sender, begun) = mpsc::channel(MAX_HALF_OPEN);
        let listening = Listening { certificate: certificate.clone(), begun: sender };
        let endpoint = Self::new(Socket::bind(address)?, Some(listening));
        let listener = Listener { address: endpoint.socket.address(), begun, doorbell: endpoint.doorbell.clone() };
        tokio::spawn(endpoint);
        Ok(listener)
    }

    /// Begins a connection from a port of its own: who dials twice from one port can't be told apart by the listener.
    ///
    /// # Errors
    /// When the machine has no port left, or the address can't be dialled.
    pub(super) fn dial(
        listener: SocketAddr,
        expected: Fingerprint,
        name: String,
        certificate: &Certificate,
    ) -> io::Result<Begun> {
        let any: IpAddr = if listener.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let mut endpoint = Self::new(Socket::bind(SocketAddr::new(any, 0))?, None);
        let side = Direct::Dialler { name, listener, certificate: expected };
        let begun = endpoint.begin(side, certificate, listener, None, Instant::now()).map_err(io::Error::other)?;
        tokio::spawn(endpoint);
        Ok(begun)
    }

    /// Begins a connection that both sides will describe to each other, from a port of its own on every interface.
    /// `own`: the addresses that the other side is told.
    ///
    /// # Errors
    /// When the machine has no port left, or no address.
    pub(super) fn negotiate(
        certificate: &Certificate,
        own: Vec<IpAddr>,
        streams: &Streams<DataChannel>,
    ) -> io::Result<Connection> {
        let mut endpoint = Self::new(Socket::bind_anywhere()?, None);
        let port = endpoint.socket.address().port();
        let ips = own.into_iter().filter(|ip| endpoint.socket.carries(*ip));
        let here = ips.map(|ip| SocketAddr::new(ip, port)).collect();
        let (key, shared) = endpoint.next();
        let now = Instant::now();
        let session =
            Session::negotiated(certificate, here, shared.clone(), streams.clone(), now).map_err(io::Error::other)?;
        endpoint.insert(key, session);
        tokio::spawn(endpoint);
        Ok(Connection::new(shared))
    }

    fn next(&mut self) -> (Key, Arc<Shared>) {
        self.last_key += 1;
        (self.last_key, Shared::new(self.last_key, self.doorbell.clone()))
    }

    fn insert(&mut self, key: Key, session: Session) {
        self.sessions.insert(key, session);
        self.half_open += 1;
        self.doorbell.connections.fetch_add(1, Ordering::Relaxed);
        self.touched.insert(key);
    }

    fn begin(
        &mut self,
        side: Direct,
        certificate: &Certificate,
        remote: SocketAddr,
        local: Option<IpAddr>,
        now: Instant,
    ) -> Result<Begun, String> {
        let (key, shared) = self.next();
        let streams = Streams::new();
        let port = self.socket.address();
        let (session, handshake) = Session::direct(side, certificate, port, shared.clone(), streams.clone(), now)?;
        self.insert(key, session);
        Ok(Begun { connection: Connection::new(shared), streams, handshake, remote, local })
    }

    fn end(&mut self, key: Key, now: Instant, reason: &str) {
        let Some(session) = self.sessions.remove(&key) else { return };
        tracing::debug!(reason, "a WebRTC connection has ended");
        if !session.is_established {
            self.half_open -= 1;
        }
        if let Some(due) = self.scheduled.remove(&key) {
            self.due.remove(&(due, key));
        }
        self.routes.remove(key);
        self.doorbell.connections.fetch_sub(1, Ordering::Relaxed);
        session.end(now, reason, &mut self.socket);
    }

    /// Lets a session do something.
    fn step<T>(
        &mut self,
        key: Key,
        now: Instant,
        step: impl FnOnce(&mut Session, &mut Socket) -> Result<T, String>,
    ) -> Option<T> {
        let session = self.sessions.get_mut(&key)?;
        let was_established = session.is_established;
        let result = step(session, &mut self.socket);
        if session.is_established && !was_established {
            self.half_open -= 1;
        }
        self.touched.insert(key);
        match result {
            Ok(result) => Some(result),
            Err(reason) => {
                self.end(key, now, &reason);
                None
            }
        }
    }

    fn received(&mut self, now: Instant, datagram: &Datagram<'_>) {
        let Datagram { source, local, bytes } = *datagram;
        let kind = Kind::of(bytes);
        if kind == Kind::Unknown {
            return;
        }
        let Some(listening) = &self.listening else {
            // A dialler has one connection, which knows what is for it.
            self.step(self.last_key, now, |session, socket| session.receive(now, source, local, bytes, socket));
            return;
        };
        if kind == Kind::Stun {
            let Ok(message) = StunMessage::parse(bytes) else { return };
            if message.is_binding_request() {
                let Some((ours, theirs)) = message.split_username() else { return };
                if let Some(key) = self.routes.named(ours) {
                    self.deliver(key, now, datagram);
                } else if !listening.begun.is_closed() && may_knock(&message, ours, theirs) {
                    let side = Direct::Listener { ours: ours.to_owned(), theirs: theirs.to_owned() };
                    self.knocked(side, now, datagram);
                }
                return;
            }
        }
        for key in self.routes.at(source, kind) {
            let taken = self.step(key, now, |session, socket| session.receive(now, source, local, bytes, socket));
            if kind == Kind::Stun && taken == Some(true) {
                self.settle_address(key, source);
                return;
            }
        }
    }

    fn deliver(&mut self, key: Key, now: Instant, datagram: &Datagram<'_>) {
        let Datagram { source, local, bytes } = *datagram;
        if self.step(key, now, |session, socket| session.receive(now, source, local, bytes, socket)) == Some(true) {
            self.settle_address(key, source);
        }
    }

    /// A session has taken a STUN message from an address.
    fn settle_address(&mut self, key: Key, source: SocketAddr) {
        match self.sessions.get(&key) {
            Some(session) if session.is_reached => self.routes.owns(key, source),
            Some(_) => self.routes.came_from(key, source),
            None => {}
        }
    }

    /// Somebody new is at the door.
    fn knocked(&mut self, side: Direct, now: Instant, datagram: &Datagram<'_>) {
        if self.half_open >= MAX_HALF_OPEN {
            self.refuse("as many as may be are shaking hands");
            return;
        }
        let Some(certificate) = self.listening.as_ref().map(|listening| listening.certificate.clone()) else { return };
        let Direct::Listener { ours: name, .. } = &side else { return };
        let name = name.clone();
        let begun = match self.begin(side, &certificate, datagram.source, datagram.local, now) {
            Ok(begun) => begun,
            Err(error) => {
                tracing::debug!(%error, from = %datagram.source, "a WebRTC connection could not be begun");
                return;
            }
        };
        let key = self.last_key;
        self.routes.insert(key, name, datagram.source);
        let taken = self.listening.as_mut().is_some_and(|listening| listening.begun.try_send(begun).is_ok());
        if !taken {
            self.refuse("nobody has taken those that came before");
            self.end(key, now, "there is no room for more connections");
            return;
        }
        self.deliver(key, now, datagram);
    }

    fn refuse(&mut self, reason: &str) {
        self.refused += 1;
        // A flood shall not fill the log.
        if self.refused.is_power_of_two() {
            tracing::warn!(refused = self.refused, "WebRTC connections were refused: {reason}");
        }
    }

    /// Does what libp2p's side wishes. Whether there was something.
    fn obey(&mut self, context: &Context<'_>) -> bool {
        let rung = self.doorbell.answer(context);
        let now = Instant::now();
        for key in &rung {
            self.step(*key, now, |session, socket| session.obey(now, socket));
        }
        !rung.is_empty()
    }

    /// Takes a batch of datagrams. Whether there was one.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        Inbox::lend(|inbox| match self.socket.poll_receive(context, inbox) {
            Poll::Ready(Ok(buffers)) => {
                self.errors = 0;
                let now = Instant::now();
                for datagram in inbox.datagrams(buffers) {
                    self.received(now, &datagram);
                }
                true
            }
            Poll::Ready(Err(error)) => {
                self.errors += 1;
                tracing::debug!(%error, "a UDP socket could not be read");
                true
            }
            Poll::Pending => false,
        })
    }

    /// Looks at the sessions whose moment has come, and sets the timer. Whether there was one.
    fn expire(&mut self, context: &mut Context<'_>) -> bool {
        let Some((first, _)) = self.due.first().copied() else { return false };
        if self.timer.deadline() != first.into() {
            self.timer.as_mut().reset(first.into());
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return false;
        }
        let now = Instant::now();
        while let Some((_, key)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.step(key, now, |session, socket| session.expire(now, socket));
            self.schedule(key, now);
        }
        true
    }

    /// Puts a session's next moment into the table.
    fn schedule(&mut self, key: Key, now: Instant) {
        let Some(session) = self.sessions.get(&key) else { return };
        // Later than now, else the table would never be through.
        let due = session.due().max(now + std::time::Duration::from_micros(100));
        if let Some(before) = self.scheduled.insert(key, due) {
            if before == due {
                return;
            }
            self.due.remove(&(before, key));
        }
        self.due.insert((due, key));
    }

    /// After a turn.
    fn settle(&mut self) {
        let now = Instant::now();
        for key in std::mem::take(&mut self.touched) {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.settle();
            }
            self.schedule(key, now);
        }
    }

    fn is_over(&self) -> bool {
        let listens = self.listening.as_ref().is_some_and(|listening| !listening.begun.is_closed());
        self.errors > MAX_ERRORS || (!listens && self.sessions.is_empty())
    }
}

/// Whether a request may begin a connection: its names are WebRTC-direct's, and it was made by somebody who knows how.
fn may_knock(message: &StunMessage<'_>, ours: &str, theirs: &str) -> bool {
    let is_name = |name: &str| name.starts_with(UFRAG_PREFIX) && name.len() <= MAX_NAME;
    let hash = |key: &[u8], parts: &[&[u8]]| crypto().sha1_hmac_provider.sha1_hmac(key, parts);
    is_name(ours) && is_name(theirs) && message.verify(ours.as_bytes(), hash)
}

impl Future for Endpoint {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..BATCHES {
            // What waits to leave goes first, and nothing new is made before it has gone.
            if self.socket.poll_flush(context).is_pending() {
                return Poll::Pending;
            }
            let mut busy = self.obey(context);
            busy |= self.receive(context);
            busy |= self.expire(context);
            // A session that did something may want to be looked at earlier than the timer knows.
            busy |= !self.touched.is_empty();
            self.settle();
            if self.is_over() {
                // Farewells that don't leave at once are lost, as any datagram may be.
                let _ = self.socket.poll_flush(context);
                return Poll::Ready(());
            }
            if !busy {
                // Nothing can have come to wait since the flush.
                return Poll::Pending;
            }
        }
        if self.socket.poll_flush(context).is_pending() {
            return Poll::Pending;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let now = Instant::now();
        for key in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.end(key, now, "the network was shut down, or its socket broke");
        }
    }
}

/// A port that is listened at.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) begun: mpsc::Receiver<Begun>,
    pub(super) doorbell: Arc<Doorbell>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.begun.close();
        self.doorbell.wake();
    }
}
