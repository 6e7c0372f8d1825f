//! Lanes in a swarm: which connection a frame takes, and what came of it.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    identity::Keypair,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

use super::{
    MAX_FRAME_OVERHEAD,
    handler::{HandlerEvent, LaneHandler, Parcel, Transmit},
    lane::{LaneEvent, Limits},
};
use crate::{
    frame::{Incoming, Rejection},
    message::Priority,
    peer::ConnectionKind,
};

/// Frames between neighbours, such as peer lists, may be this large whatever the limit for payloads is.
const MIN_FRAME_LIMIT: usize = 64 * 1024;

/// What the lanes report.
#[derive(Debug)]
pub(crate) enum Event {
    /// Frames came in, each taken or rejected.
    Read { peer: PeerId, batch: Vec<Result<Incoming, Rejection>>, bytes: usize },
    /// So many frames were handed to the transport.
    Written { peer: PeerId, priority: Priority, count: usize, bytes: usize },
    /// So many frames were on their way when their lane or connection broke; they may have arrived or not.
    /// `with_link`: it was the connection.
    Lost { peer: PeerId, priority: Priority, count: usize, with_link: bool, reason: String },
    /// The peer doesn't speak `/cpc/1.0.0`.
    Unsupported { peer: PeerId },
}

struct Link {
    id: ConnectionId,
    relayed: bool,
    /// Frames given to it of which nothing is known yet, by lane.
    outstanding: [usize; 3],
}

/// `/cpc/1.0.0` in a swarm.
pub(crate) struct Behaviour {
    key: Keypair,
    limits: Limits,
    links: HashMap<PeerId, Vec<Link>>,
    /// Bounded by what the core lets be outstanding.
    pending: VecDeque<ToSwarm<Event, Transmit>>,
}

impl Behaviour {
    /// Lanes for payloads of at most `max_payload` bytes; what leaves by them is signed with the key.
    pub(crate) fn new(key: Keypair, max_payload: usize) -> Self {
        let max_frame = max_payload.max(MIN_FRAME_LIMIT) + MAX_FRAME_OVERHEAD;
        Self { key, limits: Limits { max_frame, max_payload }, links: HashMap::new(), pending: VecDeque::new() }
    }

    /// Sends something by the peer's best connection: direct before relayed, older before newer. False when the peer is
    /// not connected.
    pub(crate) fn send(&mut self, peer: PeerId, priority: Priority, parcel: Parcel) -> bool {
        let best = self.links.get_mut(&peer).and_then(|links| links.iter_mut().min_by_key(|link| link.relayed));
        let Some(link) = best else { return false };
        link.outstanding[priority.lane()] += 1;
        self.pending.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(link.id),
            event: Transmit { priority, parcel },
        });
        true
    }

    fn handler(&mut self, peer: PeerId, id: ConnectionId, address: &Multiaddr) -> LaneHandler {
        let relayed = ConnectionKind::of(address) == ConnectionKind::Relayed;
        self.links.entry(peer).or_default().push(Link { id, relayed, outstanding: [0; 3] });
        LaneHandler::new(peer, self.key.clone(), self.limits)
    }

    /// Takes frames off a connection's account. False when the connection is gone and has been settled as a whole.
    fn settle(&mut self, peer: PeerId, id: ConnectionId, priority: Priority, count: usize) -> bool {
        let link = self.links.get_mut(&peer).and_then(|links| links.iter_mut().find(|link| link.id == id));
        let Some(link) = link else { return false };
        let outstanding = &mut link.outstanding[priority.lane()];
        *outstanding = outstanding.saturating_sub(count);
        true
    }

    /// A connection is gone, or given up: nothing is sent by it any more.
    pub(crate) fn forget(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(links) = self.links.get_mut(&peer) else { return };
        let Some(at) = links.iter().position(|link| link.id == id) else { return };
        let link = links.remove(at);
        if links.is_empty() {
            self.links.remove(&peer);
        }
        for priority in Priority::ALL {
            let count = link.outstanding[priority.lane()];
            if count > 0 {
                let reason = "the connection closed".to_owned();
                self.report(Event::Lost { peer, priority, count, with_link: true, reason });
            }
        }
    }

    fn report(&mut self, event: Event) {
        self.pending.push_back(ToSwarm::GenerateEvent(event));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = LaneHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local_address: &Multiaddr,
        _remote_address: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // The remote address of a circuit may not name the relay; the local one does.
        Ok(self.handler(peer, id, local_address))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, id, address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        // A connection that another behaviour refused after us never gets a "closed" of its own here; the swarm reports
        // it as a failed dial or listen instead.
        let (peer, id) = match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => (peer_id, connection_id),
            FromSwarm::DialFailure(failure) => match failure.peer_id {
                Some(peer) => (peer, failure.connection_id),
                None => return,
            },
            FromSwarm::ListenFailure(failure) => match failure.peer_id {
                Some(peer) => (peer, failure.connection_id),
                None => return,
            },
            _ => return,
        };
        self.forget(peer, id);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            HandlerEvent::Unsupported => self.report(Event::Unsupported { peer }),
            HandlerEvent::Lane(LaneEvent::Read { batch, bytes }) => self.report(Event::Read { peer, batch, bytes }),
            HandlerEvent::Lane(LaneEvent::Written { priority, count, bytes }) => {
                if self.settle(peer, id, priority, count) {
                    self.report(Event::Written { peer, priority, count, bytes });
                }
            }
            HandlerEvent::Lane(LaneEvent::Lost { priority, count, reason }) => {
                if self.settle(peer, id, priority, count) {
                    self.report(Event::Lost { peer, priority, count, with_link: false, reason });
                }
            }
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Whoever adds to `pending` is in the swarm's own poll or in the driver, which polls the swarm next.
        self.pending.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
