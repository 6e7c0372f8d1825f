//! Gossip for strangers only.
//!
//! gossipsub would run with every peer that speaks it, and verify its own signature on every copy of a post. Nodes of this
//! network spread posts by lanes; so gossipsub gets to see a connection, but the gate before its handler opens only when
//! the peer turns out to be a stranger, or opens a stream of gossip itself. When a peer turns out to be a node of this
//! network, gossipsub is told that its connections are gone.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll},
};

use either::Either;
use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse, upgrade::DeniedUpgrade},
    gossipsub,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished, handler::ConnectionEvent,
    },
};

type Inner = THandler<gossipsub::Behaviour>;

/// A connection that gossipsub knows of.
struct Known {
    id: ConnectionId,
    endpoint: ConnectedPoint,
}

/// gossipsub behind its gate.
pub(super) struct Behaviour {
    pub(super) gossip: gossipsub::Behaviour,
    /// Connections that gossipsub knows of, of peers that are not known to be of this network.
    known: HashMap<PeerId, Vec<Known>>,
    /// Connected nodes of this network, with how many connections stand.
    ours: HashMap<PeerId, usize>,
    /// Bounded by the connections: one notice each.
    notices: VecDeque<(PeerId, ConnectionId, Gate)>,
}

impl Behaviour {
    pub(super) fn new(gossip: gossipsub::Behaviour) -> Self {
        Self { gossip, known: HashMap::new(), ours: HashMap::new(), notices: VecDeque::new() }
    }

    /// A peer is a stranger: gossip begins.
    pub(super) fn open(&mut self, peer: PeerId) {
        let known = self.known.get(&peer).into_iter().flatten();
        self.notices.extend(known.map(|known| (peer, known.id, Gate::Open)));
    }

    /// A connected peer is a node of this network: to gossipsub its connections end.
    pub(super) fn close(&mut self, peer: PeerId) {
        let Some(known) = self.known.remove(&peer) else { return };
        self.ours.insert(peer, known.len());
        let mut left = known.len();
        for Known { id, endpoint } in known {
            left -= 1;
            self.gossip.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id: peer,
                connection_id: id,
                endpoint: &endpoint,
                cause: None,
                remaining_established: left,
            }));
            self.notices.push_back((peer, id, Gate::Shut));
        }
    }

    /// Whether a stranger listens to a topic.
    pub(super) fn somebody_listens(&self, topic: &gossipsub::TopicHash) -> bool {
        self.gossip.all_peers().any(|(_, topics)| topics.contains(&topic))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = gossipsub::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.ours.contains_key(&peer) {
            return Ok(Handler { inner: None, open: false });
        }
        let inner = self.gossip.handle_established_inbound_connection(id, peer, local, remote)?;
        Ok(Handler { inner: Some(inner), open: false })
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.ours.contains_key(&peer) {
            return Ok(Handler { inner: None, open: false });
        }
        let inner = self.gossip.handle_established_outbound_connection(id, peer, address, role, port_use)?;
        Ok(Handler { inner: Some(inner), open: false })
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                if let Some(count) = self.ours.get_mut(&peer_id) {
                    *count += 1;
                    return;
                }
                let known = self.known.entry(peer_id).or_default();
                known.push(Known { id: connection_id, endpoint: endpoint.clone() });
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(count) = self.ours.get_mut(&peer_id) {
                    *count -= 1;
                    if *count == 0 {
                        self.ours.remove(&peer_id);
                    }
                    return;
                }
                let Some(known) = self.known.get_mut(&peer_id) else { return };
                known.retain(|known| known.id != connection_id);
                if known.is_empty() {
                    self.known.remove(&peer_id);
                }
            }
            _ => {}
        }
        self.gossip.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        if !self.ours.contains_key(&peer) {
            self.gossip.on_connection_handler_event(peer, id, event);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, id, gate)) = self.notices.pop_front() {
            let handler = NotifyHandler::One(id);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event: Either::Left(gate) });
        }
        self.gossip.poll(context).map(|event| event.map_in(Either::Right))
    }
}

/// What a handler hears of its peer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gate {
    Open,
    Shut,
}

/// gossipsub's handler, behind its gate.
pub(super) struct Handler {
    /// `None` with nodes of this network.
    inner: Option<Inner>,
    open: bool,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Either<Gate, <Inner as ConnectionHandler>::FromBehaviour>;
    type ToBehaviour = <Inner as ConnectionHandler>::ToBehaviour;
    type InboundProtocol = <Inner as ConnectionHandler>::InboundProtocol;
    type OutboundProtocol = <Inner as ConnectionHandler>::OutboundProtocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        match &self.inner {
            Some(inner) => inner.listen_protocol(),
            None => SubstreamProtocol::new(Either::Right(DeniedUpgrade), ()),
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| self.open && inner.connection_keep_alive())
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match (event, &mut self.inner) {
            (Either::Left(Gate::Open), _) => self.open = true,
            (Either::Left(Gate::Shut), inner) => *inner = None,
            (Either::Right(event), Some(inner)) => inner.on_behaviour_event(event),
            (Either::Right(_), None) => {}
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        // Who opens a stream of gossip wants gossip, and is no node of this network, or an old one.
        self.open |= matches!(event, ConnectionEvent::FullyNegotiatedInbound(_));
        if let Some(inner) = &mut self.inner {
            inner.on_connection_event(event);
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        match &mut self.inner {
            Some(inner) if self.open => inner.poll(context),
            _ => Poll::Pending,
        }
    }
}
