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
    handler::{HandlerEvent, LaneHandler, Transmit},
    reader::Limits,
    writer::{Outcome, Parcel},
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
    /// Messages and what neighbours tell each other came in, each taken or rejected.
    Read { peer: PeerId, batch: Vec<Result<Incoming, Rejection>>, bytes: usize },
    /// So many parcels, counted by lane, were handed to the transport.
    Written { peer: PeerId, counts: [usize; 3], bytes: usize },
    /// So many parcels were on their way when their lane or connection broke; they may have arrived or not.
    /// `with_link`: it was the connection.
    Lost { peer: PeerId, priority: Priority, count: usize, with_link: bool, reason: String },
    /// The peer doesn't speak `/cpc/1.0.0`.
    Unsupported { peer: PeerId },
}

struct Link {
    id: ConnectionId,
    relayed: bool,
    /// Parcels given to it of which nothing is known yet, by lane.
    outstanding: [usize; 3],
    /// Those that it gets at once when the swarm polls next.
    parcels: Vec<(Priority, Parcel)>,
}

/// `/cpc/1.0.0` in a swarm.
pub(crate) struct Behaviour {
    key: Keypair,
    limits: Limits,
    links: HashMap<PeerId, Vec<Link>>,
    /// Bounded by what the swarm's connections may report before it takes that, and by the number of connections.
    events: VecDeque<Event>,
    /// Connections for which parcels wait.
    waiting: VecDeque<(PeerId, ConnectionId)>,
}

impl Behaviour {
    /// Lanes for payloads of at most `max_payload` bytes; what leaves by them is signed with the key.
    pub(crate) fn new(key: Keypair, max_payload: usize) -> Self {
        let max_frame = max_payload.max(MIN_FRAME_LIMIT) + MAX_FRAME_OVERHEAD;
        let limits = Limits { max_frame, max_payload };
        Self { key, limits, links: HashMap::new(), events: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Sends something by the peer's best connection: direct before relayed, older before newer. False when the peer is
    /// not connected.
    pub(crate) fn send(&mut self, peer: PeerId, priority: Priority, parcel: Parcel) -> bool {
        let best = self.links.get_mut(&peer).and_then(|links| links.iter_mut().min_by_key(|link| link.relayed));
        let Some(link) = best else { return false };
        link.outstanding[priority.lane()] += 1;
        if link.parcels.is_empty() {
            self.waiting.push_back((peer, link.id));
        }
        link.parcels.push((priority, parcel));
        true
    }

    fn handler(&mut self, peer: PeerId, id: ConnectionId, address: &Multiaddr) -> LaneHandler {
        let relayed = ConnectionKind::of(address) == ConnectionKind::Relayed;
        self.links.entry(peer).or_default().push(Link { id, relayed, outstanding: [0; 3], parcels: Vec::new() });
        LaneHandler::new(peer, self.key.clone(), self.limits)
    }

    fn link(&mut self, peer: PeerId, id: ConnectionId) -> Option<&mut Link> {
        self.links.get_mut(&peer)?.iter_mut().find(|link| link.id == id)
    }

    /// Tells what became of parcels and takes them off their connection's account; one that is gone has been settled as a
    /// whole.
    fn settle(&mut self, peer: PeerId, id: ConnectionId, outcome: Outcome) {
        let Some(link) = self.link(peer, id) else { return };
        let (Outcome::Written { counts, .. } | Outcome::Lost { counts, .. }) = &outcome;
        for (outstanding, count) in link.outstanding.iter_mut().zip(counts) {
            *outstanding = outstanding.saturating_sub(*count);
        }
        match outcome {
            Outcome::Written { counts, bytes } => self.events.push_back(Event::Written { peer, counts, bytes }),
            Outcome::Lost { counts, reason } => self.lost(peer, counts, false, &reason),
        }
    }

    fn lost(&mut self, peer: PeerId, counts: [usize; 3], with_link: bool, reason: &str) {
        for priority in Priority::ALL {
            let count = counts[priority.lane()];
            if count > 0 {
                self.events.push_back(Event::Lost { peer, priority, count, with_link, reason: reason.to_owned() });
            }
        }
    }

    /// A connection is gone, or given up: nothing is sent by it any more.
    pub(crate) fn forget(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(links) = self.links.get_mut(&peer) else { return };
        let Some(at) = links.iter().position(|link| link.id == id) else { return };
        let link = links.remove(at);
        if links.is_empty() {
            self.links.remove(&peer);
        }
        self.lost(peer, link.outstanding, true, "the connection closed");
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
            HandlerEvent::Read { batch, bytes } => self.events.push_back(Event::Read { peer, batch, bytes }),
            HandlerEvent::Sent(outcome) => self.settle(peer, id, outcome),
            HandlerEvent::Unsupported => self.events.push_back(Event::Unsupported { peer }),
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Whoever adds something is in the swarm's own poll or in the driver, which polls the swarm next.
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        while let Some((peer, id)) = self.waiting.pop_front() {
            let parcels = self.link(peer, id).map_or_else(Vec::new, |link| std::mem::take(&mut link.parcels));
            // A connection may have closed meanwhile.
            if !parcels.is_empty() {
                let handler = NotifyHandler::One(id);
                return Poll::Ready(ToSwarm::NotifyHandler { peer_id: peer, handler, event: Transmit { parcels } });
            }
        }
        Poll::Pending
    }
}
