//! Transfers in a swarm: which connection an attempt takes, and that none is forgotten when its connection ends.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll},
};

use futures::channel::oneshot;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

use super::{
    Settings,
    handle::Outbox,
    handler::{HandlerEvent, Order, Report, TransferHandler},
    receive::Verdict,
};
use crate::{
    config::{BandwidthConfig, TransfersConfig},
    frame::Rejection,
    peer::ConnectionKind,
    transfer::{Outcome, TransferDirection, TransferId, TransferKey, TransferOffer},
};

/// What the transfers' streams report.
#[derive(Debug)]
pub(crate) enum Event {
    /// A peer offers something, on this connection, and waits for the verdict.
    Offered {
        peer: PeerId,
        connection: ConnectionId,
        id: TransferId,
        offer: TransferOffer,
        verdict: oneshot::Sender<Verdict>,
    },
    /// The peer cancelled a transfer.
    Stopped { peer: PeerId, id: TransferId, by_sender: bool, reason: String },
    /// An attempt goes on.
    Progress { key: TransferKey, attempt: u64, transferred: u64, moved: u64 },
    /// An attempt has used up its bytes of the budget.
    Wants { key: TransferKey, attempt: u64 },
    /// An attempt has ended.
    Ended { key: TransferKey, attempt: u64, outcome: Outcome, moved: u64 },
    /// The peer did what it must not.
    Rejected { peer: PeerId, rejection: Rejection },
}

struct Link {
    peer: PeerId,
    relayed: bool,
    /// Attempts that run on it, and on which transfers they work.
    attempts: HashMap<(TransferDirection, u64), TransferKey>,
}

/// `/cpc/1.0.0/transfer` in a swarm.
pub(crate) struct Behaviour {
    settings: Settings,
    max_per_peer: usize,
    links: HashMap<ConnectionId, Link>,
    /// Bounded by the transfers that run and by what the connections let wait.
    pending: VecDeque<ToSwarm<Event, Order>>,
}

impl Behaviour {
    pub(crate) fn new(config: &TransfersConfig, bandwidth: &BandwidthConfig) -> Self {
        let (links, pending) = (HashMap::new(), VecDeque::new());
        Self { settings: Settings::new(config, bandwidth), max_per_peer: config.max_per_peer, links, pending }
    }

    /// Begins an attempt to send by a connection, of at most so many bytes. False when that is gone.
    pub(crate) fn send(
        &mut self,
        connection: ConnectionId,
        attempt: u64,
        outbox: Arc<Outbox>,
        most: Option<u64>,
    ) -> bool {
        let key = outbox.watch.key;
        let begins = self.joined(connection, attempt, key);
        if begins {
            self.order(key.peer, connection, Order::Send { attempt, outbox, most });
        }
        begins
    }

    /// An attempt to receive begins on a connection. False when that is gone.
    pub(crate) fn joined(&mut self, connection: ConnectionId, attempt: u64, key: TransferKey) -> bool {
        let link = self.links.get_mut(&connection);
        link.map(|link| link.attempts.insert((key.direction, attempt), key)).is_some()
    }

    /// Tells the peer, if it is connected, that a transfer is cancelled.
    pub(crate) fn tell(&mut self, peer: PeerId, id: TransferId, by_sender: bool, reason: String) {
        if let Some(connection) = self.best(peer) {
            self.order(peer, connection, Order::Tell { id, by_sender, reason });
        }
    }

    /// A connection is gone, or given up.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        let Some(link) = self.links.remove(&connection) else { return };
        for ((_, attempt), key) in link.attempts {
            let outcome = Outcome::Broken("the connection closed".to_owned());
            self.pending.push_back(ToSwarm::GenerateEvent(Event::Ended { key, attempt, outcome, moved: 0 }));
        }
    }

    /// Of several, the youngest: what made an older one worse may not have been noticed yet.
    fn best(&self, peer: PeerId) -> Option<ConnectionId> {
        let of_peer = self.links.iter().filter(|(_, link)| link.peer == peer);
        of_peer.min_by_key(|(id, link)| (link.relayed, std::cmp::Reverse(**id))).map(|(id, _)| *id)
    }

    fn order(&mut self, peer: PeerId, connection: ConnectionId, order: Order) {
        let handler = NotifyHandler::One(connection);
        self.pending.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: order });
    }

    fn handler(&mut self, peer: PeerId, id: ConnectionId, address: &Multiaddr) -> TransferHandler {
        let relayed = ConnectionKind::of(address) == ConnectionKind::Relayed;
        self.links.insert(id, Link { peer, relayed, attempts: HashMap::new() });
        TransferHandler::new(peer, self.settings, self.max_per_peer)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = TransferHandler;
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
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => self.forget(connection_id),
            FromSwarm::DialFailure(failure) => self.forget(failure.connection_id),
            FromSwarm::ListenFailure(failure) => self.forget(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        let event = match event {
            HandlerEvent::Ended { key, attempt, outcome, moved } => {
                let link = self.links.get_mut(&connection);
                // A connection that was given up has been settled as a whole.
                if link.is_none_or(|link| link.attempts.remove(&(key.direction, attempt)).is_none()) {
                    return;
                }
                Event::Ended { key, attempt, outcome, moved }
            }
            HandlerEvent::Report(report) => match report {
                Report::Offered { peer, id, offer, verdict } => Event::Offered { peer, connection, id, offer, verdict },
                Report::Stopped { peer, id, by_sender, reason } => Event::Stopped { peer, id, by_sender, reason },
                Report::Progress { key, attempt, transferred, moved } => {
                    Event::Progress { key, attempt, transferred, moved }
                }
                Report::Wants { key, attempt } => Event::Wants { key, attempt },
                Report::Rejected(rejection) => Event::Rejected { peer, rejection },
            },
        };
        self.pending.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Whoever adds to `pending` is in the swarm's own poll or in the driver, which polls the swarm next.
        self.pending.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
