//! Lanes in a swarm: hands frames to the connections that the core has chosen, and reports what came of them.

use std::{
    collections::VecDeque,
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
    handler::{HandlerEvent, LaneHandler, Parcel, Transmit},
    lane::{LaneEvent, Limits},
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
    /// Frames came in, each taken or rejected.
    Read { peer: PeerId, batch: Vec<Result<Incoming, Rejection>>, bytes: usize },
    /// So many frames were handed to the transport.
    Written { peer: PeerId, connection: ConnectionId, priority: Priority, count: usize, bytes: usize },
    /// So many frames were on their way when their lane broke; they may have arrived or not. What is lost with a
    /// connection is not reported: its end tells.
    Lost { peer: PeerId, connection: ConnectionId, priority: Priority, count: usize, reason: String },
    /// The peer doesn't speak `/cpc/1.0.0`.
    Unsupported { peer: PeerId },
}

/// `/cpc/1.0.0` in a swarm.
pub(crate) struct Behaviour {
    key: Keypair,
    limits: Limits,
    /// Bounded by what the core lets be outstanding.
    pending: VecDeque<ToSwarm<Event, Transmit>>,
}

impl Behaviour {
    /// Lanes for payloads of at most `max_payload` bytes; what leaves by them is signed with the key.
    pub(crate) fn new(key: Keypair, max_payload: usize) -> Self {
        let max_frame = max_payload.max(MIN_FRAME_LIMIT) + MAX_FRAME_OVERHEAD;
        Self { key, limits: Limits { max_frame, max_payload }, pending: VecDeque::new() }
    }

    /// Sends something by a connection. One that is gone takes nothing, which its end has told or will tell.
    pub(crate) fn send(&mut self, peer: PeerId, connection: ConnectionId, priority: Priority, parcel: Parcel) {
        self.pending.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Transmit { priority, parcel },
        });
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
        self.report(match event {
            HandlerEvent::Unsupported => Event::Unsupported { peer },
            HandlerEvent::Lane(LaneEvent::Read { batch, bytes }) => Event::Read { peer, batch, bytes },
            HandlerEvent::Lane(LaneEvent::Written { priority, count, bytes }) => {
                Event::Written { peer, connection, priority, count, bytes }
            }
            HandlerEvent::Lane(LaneEvent::Lost { priority, count, reason }) => {
                Event::Lost { peer, connection, priority, count, reason }
            }
        });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Whoever adds to `pending` is in the swarm's own poll or in the driver, which polls the swarm next.
        self.pending.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
