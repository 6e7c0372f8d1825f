//! The conversations on one circuit: at most one each way.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    channel::oneshot,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId,
    core::upgrade::ReadyUpgrade,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{
    Backend, Connected, PROTOCOL, Shared, exchange,
    transport::{Answering, Offering},
};
use crate::transport::webrtc::Streams;

/// How long two sides may take to connect. Browsers go on for half a minute, but what works does so at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a side whose offer gave way waits for the other's before it tells of it.
const GIVEN_WAY: Duration = Duration::from_secs(1);

/// A wish to connect to the circuit's other end.
pub(crate) struct Attempt<B: Backend> {
    pub(super) reply: oneshot::Sender<io::Result<Connected<B>>>,
    pub(super) offering: Offering<B>,
}

impl<B: Backend> std::fmt::Debug for Attempt<B> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Attempt").finish_non_exhaustive()
    }
}

/// Signalling on one circuit.
pub(crate) struct Handler<B: Backend> {
    local: PeerId,
    remote: PeerId,
    /// The circuit's address on this side.
    circuit: Multiaddr,
    backend: B,
    shared: Shared<B>,
    /// Asked for and not given a stream yet; bounded by one attempt per peer.
    wanted: VecDeque<Attempt<B>>,
    opening: VecDeque<Attempt<B>>,
    tasks: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl<B: Backend> Handler<B> {
    pub(super) fn new(local: PeerId, remote: PeerId, circuit: Multiaddr, backend: B, shared: Shared<B>) -> Self {
        let tasks = FuturesUnordered::new();
        Self { local, remote, circuit, backend, shared, wanted: VecDeque::new(), opening: VecDeque::new(), tasks }
    }

    fn offer(&self, stream: Stream, attempt: Attempt<B>) -> BoxFuture<'static, ()> {
        let Attempt { reply, mut offering } = attempt;
        let streams = Streams::new();
        let exchange = self.backend.connection(&streams).map(|link| exchange::offer(stream, link, streams));
        async move {
            let result = match exchange {
                Ok(exchange) => {
                    let given_way = offering.given_way();
                    match select(in_time(exchange).boxed(), given_way).await {
                        Either::Left((result, _)) => result,
                        Either::Right(((), exchange)) => {
                            drop(exchange);
                            Delay::new(GIVEN_WAY).await;
                            Err(io::Error::other("both sides dialled at once, and the other's dial was taken"))
                        }
                    }
                }
                Err(error) => Err(error),
            };
            drop(offering);
            // Whoever dialled may have given up.
            let _ = reply.send(result);
        }
        .boxed()
    }

    fn answer(&self, stream: Stream) -> Option<BoxFuture<'static, ()>> {
        // Of two offers that cross, the one of the smaller peer id stands, so that one connection comes of it.
        let answering = Answering::begin(&self.shared, self.remote, self.local < self.remote)?;
        let streams = Streams::new();
        let link = match self.backend.connection(&streams) {
            Ok(link) => link,
            Err(error) => {
                tracing::debug!(peer = %self.remote, %error, "an offer can't be answered");
                return None;
            }
        };
        let (peer, circuit, shared) = (self.remote, self.circuit.clone(), self.shared.clone());
        let task = async move {
            match in_time(exchange::answer(stream, link, streams)).await {
                Ok((muxer, rest)) => {
                    shared.lock().incoming(peer, circuit, muxer);
                    drop(answering);
                    rest.await;
                }
                Err(error) => tracing::debug!(%peer, %error, "the peer's offer came to nothing"),
            }
        };
        Some(task.boxed())
    }
}

/// Gives up after [`TIMEOUT`].
async fn in_time<T>(exchange: impl Future<Output = io::Result<T>> + Send) -> io::Result<T> {
    match select(exchange.boxed(), Delay::new(TIMEOUT)).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => {
            let reason = format!("no direct way to the peer was found within {} s", TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        }
    }
}

impl<B: Backend> ConnectionHandler for Handler<B> {
    type FromBehaviour = Attempt<B>;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn connection_keep_alive(&self) -> bool {
        !(self.wanted.is_empty() && self.opening.is_empty() && self.tasks.is_empty())
    }

    fn on_behaviour_event(&mut self, attempt: Attempt<B>) {
        self.wanted.push_back(attempt);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                // Without an answer the stream is dropped, and thereby reset.
                self.tasks.extend(self.answer(stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, .. }) => {
                if let Some(attempt) = self.opening.pop_front() {
                    self.tasks.push(self.offer(stream, attempt));
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                if let Some(attempt) = self.opening.pop_front() {
                    let error = match error {
                        StreamUpgradeError::NegotiationFailed => {
                            io::Error::new(io::ErrorKind::Unsupported, "the peer doesn't speak WebRTC signalling")
                        }
                        other => io::Error::other(format!("no signalling stream: {other}")),
                    };
                    let _ = attempt.reply.send(Err(error));
                }
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Infallible>> {
        while let Poll::Ready(Some(())) = self.tasks.poll_next_unpin(context) {}
        if let Some(attempt) = self.wanted.pop_front() {
            self.opening.push_back(attempt);
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }
}
