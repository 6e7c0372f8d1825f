//! Asks a connection at once whether it still lives. libp2p's ping asks in its own time, and gives up after two of its
//! time-outs; a page that wakes up wants to know in seconds which of its connections have died.
//!
//! It is one ping (libp2p specs, ping/ping.md) on a stream of its own, which everybody answers who speaks libp2p. Who
//! refuses the protocol has answered too.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, future::BoxFuture};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId, Stream,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{DeniedUpgrade, ReadyUpgrade},
    },
    ping,
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedOutbound},
    },
};
use web_time::Instant;

use crate::platform;

/// How long a connection may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// What became of a probe. `None`: no answer in time.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) latency: Option<Duration>,
}

/// The order to a connection.
#[derive(Debug)]
pub(super) struct Probe;

/// Probes in a swarm.
#[derive(Default)]
pub(super) struct Behaviour {
    /// Bounded by the connections there are: the core probes each when the node wakes, and the swarm takes them at once.
    pending: VecDeque<ToSwarm<Event, Probe>>,
}

impl Behaviour {
    /// Asks one connection. One that is being asked already is not asked twice.
    pub(super) fn probe(&mut self, peer: PeerId, connection: ConnectionId) {
        let handler = NotifyHandler::One(connection);
        self.pending.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: Probe });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.pending.push_back(ToSwarm::GenerateEvent(Event { peer, connection, latency: event }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        // Whoever adds to `pending` is in the swarm's own poll or in the driver, which polls the swarm next.
        self.pending.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The probes of one connection.
#[derive(Default)]
pub(super) struct Handler {
    state: State,
    /// While a probe is under way: since when, and until when.
    asked: Option<(Instant, Delay)>,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Wanted,
    Opening,
    Asking(BoxFuture<'static, io::Result<Duration>>),
    Answered(Option<Duration>),
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Probe;
    /// How long the answer took; `None` when there was none.
    type ToBehaviour = Option<Duration>;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn on_behaviour_event(&mut self, Probe: Probe) {
        if matches!(self.state, State::Idle) {
            self.state = State::Wanted;
            self.asked = Some((Instant::now(), Delay::new(PATIENCE)));
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Option<Duration>>> {
        if let State::Asking(answer) = &mut self.state
            && let Poll::Ready(answer) = answer.poll_unpin(context)
        {
            self.state = State::Answered(answer.ok());
        }
        if self.asked.as_mut().is_some_and(|(_, patience)| patience.poll_unpin(context).is_ready()) {
            self.state = State::Answered(None);
        }
        match self.state {
            State::Wanted => {
                self.state = State::Opening;
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(ping::PROTOCOL_NAME), ());
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            State::Answered(latency) => {
                self.state = State::Idle;
                self.asked = None;
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(latency))
            }
            State::Idle | State::Opening | State::Asking(_) => Poll::Pending,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        // What belongs to a probe that was given up is let go.
        if !matches!(self.state, State::Opening) {
            return;
        }
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: mut stream, .. }) => {
                stream.ignore_for_keep_alive();
                self.state = State::Asking(ask(stream).boxed());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                let refused = matches!(error, StreamUpgradeError::NegotiationFailed);
                let latency = self.asked.as_ref().filter(|_| refused).map(|(since, _)| since.elapsed());
                self.state = State::Answered(latency);
            }
            _ => {}
        }
    }
}

async fn ask(mut stream: Stream) -> io::Result<Duration> {
    let words: [[u8; 8]; 4] = std::array::from_fn(|_| platform::random().to_le_bytes());
    let question = words.as_flattened();
    let asked = Instant::now();
    stream.write_all(question).await?;
    stream.flush().await?;
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).await?;
    if answer == question { Ok(asked.elapsed()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
