//! Streams for [`work`](super::work) as a libp2p behaviour: what comes is served on its connection's task, what is opened
//! is handed to whoever asked.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{StreamExt as _, channel::oneshot, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    InboundUpgrade, Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, UpgradeInfo, transport::PortUse, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, Stream, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::work::{self, Work};

/// Streams that are served or wait to be opened on one connection. What is above is refused.
const MAX_AT_ONCE: usize = 1_100;

/// What has been served, for those who count.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    /// Streams being served now.
    pub(super) running: usize,
    /// Streams that were served to their end.
    pub(super) served: u64,
    /// How the last one ended that broke.
    pub(super) failure: Option<String>,
}

/// One ledger for all connections.
pub(super) type SharedLedger = Arc<Mutex<Ledger>>;

pub(super) fn look_into(ledger: &SharedLedger) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A wish for a stream.
pub(super) struct Opening {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<io::Result<Stream>>,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Opening").field("work", &self.work).finish_non_exhaustive()
    }
}

/// The behaviour.
pub(super) struct Behaviour {
    ledger: SharedLedger,
    /// Bounded by the commands that the node takes at once.
    pending: VecDeque<ToSwarm<Infallible, Opening>>,
}

impl Behaviour {
    pub(super) fn new(ledger: SharedLedger) -> Self {
        Self { ledger, pending: VecDeque::new() }
    }

    pub(super) fn open(&mut self, peer_id: PeerId, connection: ConnectionId, opening: Opening) {
        let handler = NotifyHandler::One(connection);
        self.pending.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: opening });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.ledger.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.ledger.clone()))
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // Whoever asks for a stream does so on the swarm's task, which polls afterwards.
        self.pending.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The protocols that are served.
#[derive(Clone)]
pub(super) struct Served;

impl UpgradeInfo for Served {
    type Info = StreamProtocol;
    type InfoIter = std::array::IntoIter<StreamProtocol, { Work::ALL.len() }>;

    fn protocol_info(&self) -> Self::InfoIter {
        Work::ALL.map(Work::protocol).into_iter()
    }
}

impl InboundUpgrade<Stream> for Served {
    type Output = (Option<Work>, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((Work::of(&protocol), stream)))
    }
}

/// The streams of one connection.
pub(super) struct Handler {
    ledger: SharedLedger,
    wanted: VecDeque<Opening>,
    opening: usize,
    serving: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// Counts a stream while it is served, however that ends.
struct Running {
    ledger: SharedLedger,
}

impl Running {
    fn new(ledger: &SharedLedger) -> Self {
        look_into(ledger).running += 1;
        Self { ledger: ledger.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        look_into(&self.ledger).running -= 1;
    }
}

impl Handler {
    fn new(ledger: SharedLedger) -> Self {
        Self { ledger, wanted: VecDeque::new(), opening: 0, serving: FuturesUnordered::new() }
    }

    fn serve(&mut self, work: Work, stream: Stream) {
        if self.serving.len() >= MAX_AT_ONCE {
            look_into(&self.ledger).failure = Some(format!("more than {MAX_AT_ONCE} streams at once"));
            return;
        }
        let running = Running::new(&self.ledger);
        let served = async move {
            let outcome = work::serve(work, stream).await;
            let mut ledger = look_into(&running.ledger);
            match outcome {
                Ok(()) => ledger.served += 1,
                Err(error) => ledger.failure = Some(format!("{work:?}: {error}")),
            }
            drop(ledger);
            drop(running);
        };
        self.serving.push(Box::pin(served));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = Infallible;
    type InboundProtocol = Served;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Served> {
        SubstreamProtocol::new(Served, ())
    }

    fn on_behaviour_event(&mut self, opening: Opening) {
        if self.wanted.len() + self.opening >= MAX_AT_ONCE {
            let _ =
                opening.reply.send(Err(io::Error::other(format!("{MAX_AT_ONCE} streams are being opened already"))));
            return;
        }
        self.wanted.push_back(opening);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Served, ReadyUpgrade<StreamProtocol>, (), Opening>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (Some(work), stream), ..
            }) => self.serve(work, stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info: opening }) => {
                self.opening -= 1;
                // Whoever asked may have given up.
                let _ = opening.reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info: opening }) => {
                self.opening -= 1;
                let error = match error {
                    StreamUpgradeError::Io(error) => error,
                    StreamUpgradeError::Timeout => io::ErrorKind::TimedOut.into(),
                    StreamUpgradeError::NegotiationFailed => io::Error::other("the peer is no probe"),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = opening.reply.send(Err(error));
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, Opening, Infallible>> {
        while let Poll::Ready(Some(())) = self.serving.poll_next_unpin(context) {}
        if let Some(opening) = self.wanted.pop_front() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(opening.work.protocol()), opening);
            self.opening += 1;
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }
}
