//! Lanes in a swarm: hands parcels to the connections that the core has chosen, and reports what came of them.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    identity::Keypair,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
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
};

/// Frames between neighbours, such as peer lists, may be this large whatever the limit for payloads is.
const MIN_FRAME_LIMIT: usize = 64 * 1024;

/// What the lanes report.
#[derive(Debug)]
pub(crate) enum Event {
    /// Messages and what neighbours tell each other came in, each taken or rejected.
    Read { peer: PeerId, connection: ConnectionId, batch: Vec<Result<Incoming, Rejection>>, bytes: usize },
    /// So many parcels, counted by lane, were handed to the transport.
    Written { peer: PeerId, connection: ConnectionId, counts: [usize; 3], bytes: usize },
    /// So many parcels were on their way when their lane broke; they may have arrived or not. What is lost with a
    /// connection is not reported: its end tells.
    Lost { peer: PeerId, connection: ConnectionId, priority: Priority, count: usize, reason: String },
    /// The peer doesn't speak `/cpc/1.0.0`.
    Unsupported { peer: PeerId },
}

/// `/cpc/1.0.0` in a swarm.
pub(crate) struct Behaviour {
    key: Keypair,
    limits: Limits,
    /// What connections get at once when the swarm polls next. Bounded by what the core lets be unwritten.
    parcels: HashMap<ConnectionId, Vec<(Priority, Parcel)>>,
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
        Self { key, limits, parcels: HashMap::new(), events: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Sends something by a connection. One that is gone takes nothing, which its end has told or will tell.
    pub(crate) fn send(&mut self, peer: PeerId, connection: ConnectionId, priority: Priority, parcel: Parcel) {
        let parcels = self.parcels.entry(connection).or_default();
        if parcels.is_empty() {
            self.waiting.push_back((peer, connection));
        }
        parcels.push((priority, parcel));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = LaneHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _local_address: &Multiaddr,
        _remote_address: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(LaneHandler::new(peer, self.key.clone(), self.limits))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(LaneHandler::new(peer, self.key.clone(), self.limits))
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            HandlerEvent::Read { batch, bytes } => {
                self.events.push_back(Event::Read { peer, connection, batch, bytes });
            }
            HandlerEvent::Sent(Outcome::Written { counts, bytes }) => {
                self.events.push_back(Event::Written { peer, connection, counts, bytes });
            }
            HandlerEvent::Sent(Outcome::Lost { counts, reason }) => {
                let lost = Priority::ALL.map(|priority| (priority, counts[priority.lane()]));
                self.events.extend(lost.into_iter().filter(|(_, count)| *count > 0).map(|(priority, count)| {
                    Event::Lost { peer, connection, priority, count, reason: reason.clone() }
                }));
            }
            HandlerEvent::Unsupported => self.events.push_back(Event::Unsupported { peer }),
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Whoever adds something is in the swarm's own poll or in the driver, which polls the swarm next.
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        while let Some((peer, id)) = self.waiting.pop_front() {
            if let Some(parcels) = self.parcels.remove(&id) {
                let handler = NotifyHandler::One(id);
                return Poll::Ready(ToSwarm::NotifyHandler { peer_id: peer, handler, event: Transmit { parcels } });
            }
        }
        Poll::Pending
    }
}
