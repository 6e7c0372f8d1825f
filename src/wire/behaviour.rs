//! Lanes in a swarm: which connections have some, and what came of what they carry.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    identity::Keypair,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure, NetworkBehaviour,
        THandler, THandlerOutEvent, ToSwarm,
    },
};

use super::{
    MAX_FRAME_OVERHEAD,
    handler::{HandlerEvent, LaneHandler},
    hatch::{Hatch, Reports},
    mail::MAX_MAIL_FRAME,
    reader::Limits,
    writer::Outcome,
};
use crate::{
    crypto::{SealingKey, SigningKey},
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

impl HandlerEvent {
    /// The same in the words of the swarm.
    fn tell(self, peer: PeerId, connection: ConnectionId, mut each: impl FnMut(Event)) {
        match self {
            HandlerEvent::Read { batch, bytes } => each(Event::Read { peer, connection, batch, bytes }),
            HandlerEvent::Sent(Outcome::Written { counts, bytes }) => {
                each(Event::Written { peer, connection, counts, bytes });
            }
            HandlerEvent::Sent(Outcome::Lost { counts, reason }) => {
                let lost = Priority::ALL.map(|priority| (priority, counts[priority.lane()]));
                for (priority, count) in lost.into_iter().filter(|(_, count)| *count > 0) {
                    each(Event::Lost { peer, connection, priority, count, reason: reason.clone() });
                }
            }
            HandlerEvent::Unsupported => each(Event::Unsupported { peer }),
        }
    }
}

impl Reports {
    /// Hands out what the next reports say, until together they weigh so much.
    pub(crate) fn hand_out(&self, mut budget: usize, mut each: impl FnMut(Event)) {
        while budget > 0
            && let Some(report) = self.take()
        {
            budget = budget.saturating_sub(report.weight());
            report.event.tell(report.peer, report.connection, &mut each);
        }
    }
}

/// `/cpc/1.0.0` in a swarm.
pub(crate) struct Behaviour {
    key: SigningKey,
    sealing: Arc<SealingKey>,
    limits: Limits,
    reports: Reports,
    /// Of the connections that stand, or are about to.
    hatches: HashMap<ConnectionId, Arc<Hatch>>,
    /// What was read while connections ended. Bounded by their number and by what was on its way by them.
    events: VecDeque<Event>,
}

impl Behaviour {
    /// Lanes for payloads of at most `max_payload` bytes; what leaves by them is signed with the key. `serves_mail` says
    /// that this node keeps mail for others.
    pub(crate) fn new(key: &Keypair, max_payload: usize, serves_mail: bool) -> Self {
        let max_frame = max_payload.max(MIN_FRAME_LIMIT).max(MAX_MAIL_FRAME) + MAX_FRAME_OVERHEAD;
        let limits = Limits { max_frame, max_payload, serves_mail };
        let sealing = Arc::new(SealingKey::of(key).expect("libp2p is built with Ed25519 keys only"));
        let (key, reports) = (SigningKey::new(key), Reports::default());
        Self { key, sealing, limits, reports, hatches: HashMap::new(), events: VecDeque::new() }
    }

    /// What the connections report.
    pub(crate) fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// What reaches a connection's lanes; `None` when the connection has ended.
    pub(crate) fn hatch(&self, connection: ConnectionId) -> Option<Arc<Hatch>> {
        self.hatches.get(&connection).cloned()
    }

    fn handler(&mut self, peer: PeerId, connection: ConnectionId) -> LaneHandler {
        let hatch = Hatch::new(peer, connection, self.reports.clone());
        self.hatches.insert(connection, hatch.clone());
        LaneHandler::new(peer, self.key.clone(), self.sealing.clone(), self.limits, hatch)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = LaneHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _local_address: &Multiaddr,
        _remote_address: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, connection))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, connection))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            // Another behaviour may have refused the connection after it was given lanes.
            | FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.hatches.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        event.tell(peer, connection, |event| self.events.push_back(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, Infallible>> {
        // Whoever adds something is in the swarm's own poll.
        self.events.pop_front().map_or(Poll::Pending, |event| Poll::Ready(ToSwarm::GenerateEvent(event)))
    }
}
