//! The half that knows the circuits: it finds or makes the one a dial needs.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    task::{Context, Poll},
};

use either::Either;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        dial_opts::{DialOpts, PeerCondition},
        dummy,
    },
};

use super::{
    Backend, Shared,
    handler::{Attempt, Handler},
    is_circuit,
    transport::{Offering, Request},
};

/// `/webrtc-signaling/0.0.1` in a swarm.
pub(crate) struct Behaviour<B: Backend> {
    local: PeerId,
    backend: B,
    shared: Shared<B>,
    circuits: HashMap<PeerId, Vec<ConnectionId>>,
    /// Circuits being dialled for somebody; at most one for each offer.
    dialling: HashMap<ConnectionId, (PeerId, Attempt<B>)>,
    /// Bounded by the offers.
    pending: VecDeque<ToSwarm<Infallible, Either<Attempt<B>, Infallible>>>,
}

impl<B: Backend> Behaviour<B> {
    pub(super) fn new(local: PeerId, backend: B, shared: Shared<B>) -> Self {
        Self { local, backend, shared, circuits: HashMap::new(), dialling: HashMap::new(), pending: VecDeque::new() }
    }

    fn request(&mut self, Request { peer, circuit, reply }: Request<B>) {
        let Some(offering) = Offering::begin(&self.shared, peer) else {
            let reason = "an attempt to reach this peer by WebRTC is under way already";
            let _ = reply.send(Err(io::Error::new(io::ErrorKind::AlreadyExists, reason)));
            return;
        };
        let attempt = Attempt { reply, offering };
        match self.circuits.get(&peer).and_then(|circuits| circuits.last()).copied() {
            Some(connection) => self.begin(peer, connection, attempt),
            None => {
                let options = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![circuit]).build();
                self.dialling.insert(options.connection_id(), (peer, attempt));
                self.pending.push_back(ToSwarm::Dial { opts: options });
            }
        }
    }

    fn begin(&mut self, peer_id: PeerId, connection: ConnectionId, attempt: Attempt<B>) {
        let handler = NotifyHandler::One(connection);
        self.pending.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: Either::Left(attempt) });
    }

    fn handler(&mut self, remote: PeerId, local: &Multiaddr, other: &Multiaddr) -> THandler<Self> {
        if is_circuit(local) || is_circuit(other) {
            let handler = Handler::new(self.local, remote, local.clone(), self.backend.clone(), self.shared.clone());
            Either::Left(handler)
        } else {
            Either::Right(dummy::ConnectionHandler)
        }
    }
}

impl<B: Backend> NetworkBehaviour for Behaviour<B> {
    type ConnectionHandler = Either<Handler<B>, dummy::ConnectionHandler>;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, local, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, address, address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let endpoint = established.endpoint;
                let address = match endpoint {
                    libp2p::core::ConnectedPoint::Dialer { address, .. } => address,
                    libp2p::core::ConnectedPoint::Listener { local_addr, .. } => local_addr,
                };
                let (peer, connection) = (established.peer_id, established.connection_id);
                if is_circuit(address) {
                    self.circuits.entry(peer).or_default().push(connection);
                }
                if let Some((peer_id, attempt)) = self.dialling.remove(&connection) {
                    if attempt.reply.is_canceled() {
                        // Another address of the peer was quicker; the circuit was for this attempt alone.
                        let connection = CloseConnection::One(connection);
                        self.pending.push_back(ToSwarm::CloseConnection { peer_id, connection });
                    } else {
                        self.begin(peer_id, connection, attempt);
                    }
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                if let Some(circuits) = self.circuits.get_mut(&closed.peer_id) {
                    circuits.retain(|circuit| *circuit != closed.connection_id);
                    if circuits.is_empty() {
                        self.circuits.remove(&closed.peer_id);
                    }
                }
            }
            FromSwarm::DialFailure(failure) => {
                if let Some((_, attempt)) = self.dialling.remove(&failure.connection_id) {
                    let reason = format!("no circuit to the peer: {}", failure.error);
                    let _ = attempt.reply.send(Err(io::Error::new(io::ErrorKind::NotConnected, reason)));
                }
            }
            FromSwarm::NewListenAddr(new) => self.shared.lock().circuit(new.addr, true),
            FromSwarm::ExpiredListenAddr(gone) => self.shared.lock().circuit(gone.addr, false),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(never) | Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Poll::Ready(event);
            }
            // The lock is given back before the request is looked at, which takes it again.
            let request = self.shared.lock().next_request(context);
            match request {
                Some(request) => self.request(request),
                None => return Poll::Pending,
            }
        }
    }
}
