//! The swarm's events, translated into the core's words.

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    gossipsub::{self, MessageAcceptance},
    identify, kad,
    multiaddr::Protocol,
    ping, relay,
    swarm::{ConnectionId, DialError, SwarmEvent},
};

use super::{
    Driver,
    behaviour::{BehaviourEvent, FAMILY, dht_protocol},
    probes,
};
use crate::{
    core::{DialId, Input, Link, LinkId, PeerFacts, Search, TransferInput},
    event::DiscoverySource,
    message::Priority,
    peer::ConnectionKind,
    transport, wire,
};

impl Driver {
    pub(super) fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        if matches!(event, SwarmEvent::ConnectionClosed { .. } | SwarmEvent::Behaviour(BehaviourEvent::Lanes(_))) {
            // What the lanes reported before comes first.
            self.take_reports(usize::MAX);
        }
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connection_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                // One that was given up has been reported already.
                let Some(link) = self.links.remove(&connection_id) else { return };
                self.connections.remove(&link);
                self.lanes.remove(&link);
                let reason = cause.map_or_else(|| "it was closed".to_owned(), |cause| cause.to_string());
                self.handle(Input::LinkClosed { peer: peer_id, link, reason });
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(dial) = self.dials.remove(&connection_id) {
                    self.handle(Input::DialFailed { dial, reason: describe(&error) });
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                // Without AutoNAT a relay has to believe that it is reached where it listens; to those who reach it
                // the answer is true.
                if self.config.relay.server {
                    self.swarm.add_external_address(address.clone());
                }
                self.handle(Input::Listening { address });
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let relayed = address.iter().any(|part| part == Protocol::P2pCircuit);
                let reason = if relayed { "the relay holds no place any more" } else { "the interface is gone" };
                let reason = reason.to_owned();
                self.handle(Input::ListenClosed { addresses: vec![address], reservation: None, reason });
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                let reservation = self.reservations.remove(&listener_id);
                let reason = reason.map_or_else(|error| error.to_string(), |()| "it was closed".to_owned());
                self.handle(Input::ListenClosed { addresses, reservation, reason });
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "a listener had a passing error"),
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "an incoming connection failed");
            }
            _ => {}
        }
    }

    fn connection_established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        self.next_link += 1;
        let id = LinkId(self.next_link);
        self.links.insert(connection, id);
        self.connections.insert(id, (peer, connection));
        if let Some(hatch) = self.swarm.behaviour().lanes.hatch(connection) {
            hatch.open();
            self.lanes.insert(id, hatch);
        }
        let (address, outbound) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address.clone(), true),
            // Where a relayed connection came from only the local address tells.
            ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => (local_addr.clone(), false),
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                (with_local_transport(send_back_addr, local_addr), false)
            }
        };
        let dial = self.dials.remove(&connection);
        let link = Link { id, kind: ConnectionKind::of(&address), address, outbound };
        self.handle(Input::LinkOpened { peer, link, dial });
    }

    fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Lanes(event) => self.lane_event(event),
            BehaviourEvent::Transfers(event) => self.transfer_event(event),
            BehaviourEvent::Identify(event) => self.identify_event(event),
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => match result {
                Ok(latency) => {
                    if let Some(link) = self.links.get(&connection) {
                        self.handle(Input::Pinged { peer, link: *link, latency });
                    }
                }
                Err(error) => {
                    tracing::debug!(%peer, %error, "a ping failed");
                    if let (ping::Failure::Timeout | ping::Failure::Other { .. }, Some(link)) =
                        (error, self.links.get(&connection))
                    {
                        self.handle(Input::PingFailed { link: *link });
                    }
                }
            },
            BehaviourEvent::Probes(probes::Event { peer, connection, latency }) => {
                match (latency, self.links.get(&connection)) {
                    (Some(latency), Some(link)) => self.handle(Input::Pinged { peer, link: *link, latency }),
                    (None, Some(link)) => self.handle(Input::ProbeFailed { link: *link }),
                    // It was closed meanwhile.
                    (_, None) => {}
                }
            }
            BehaviourEvent::Gossip(event) => self.gossip_event(event),
            BehaviourEvent::Dht(event) => self.dht_event(event),
            BehaviourEvent::Local(event) => {
                for (peer, address) in transport::locally_found(event) {
                    let addresses = vec![address];
                    self.handle(Input::Discovered { peer, addresses, source: DiscoverySource::Mdns });
                }
            }
            BehaviourEvent::RelayClient(relay::client::Event::ReservationReqAccepted { relay_peer_id, .. }) => {
                tracing::debug!(relay = %relay_peer_id, "a relay holds a place for this node");
            }
            BehaviourEvent::RelayClient(relay::client::Event::OutboundCircuitEstablished { relay_peer_id, limit }) => {
                self.circuit_limit(relay_peer_id, true, limit.and_then(|limit| limit.data_in_bytes()));
            }
            BehaviourEvent::RelayClient(relay::client::Event::InboundCircuitEstablished { src_peer_id, limit }) => {
                self.circuit_limit(src_peer_id, false, limit.and_then(|limit| limit.data_in_bytes()));
            }
            BehaviourEvent::Signaling(never) => match never {},
            BehaviourEvent::RelayServer(_) | BehaviourEvent::Limits(_) => {}
        }
    }

    fn circuit_limit(&mut self, who: PeerId, outbound: bool, bytes: Option<u64>) {
        self.handle(Input::Transfer(TransferInput::CircuitLimit { who, outbound, bytes }));
    }

    pub(super) fn lane_event(&mut self, event: wire::Event) {
        match event {
            // Of a connection that was given up the core has heard, with all that was on it: what still comes by it is not
            // acknowledged, and comes again by another.
            wire::Event::Read { peer, connection, batch, bytes } => {
                let Some(link) = self.links.get(&connection).copied() else { return };
                self.handle(Input::Frames { peer, link, batch, bytes });
            }
            wire::Event::Written { peer, connection, counts, mut bytes } => {
                let Some(link) = self.links.get(&connection).copied() else { return };
                for priority in Priority::ALL {
                    let count = counts[priority.lane()];
                    if count > 0 {
                        let bytes = std::mem::take(&mut bytes);
                        self.handle(Input::Written { peer, link, priority, count, bytes });
                    }
                }
            }
            wire::Event::Lost { peer, connection, priority, count, reason } => {
                tracing::debug!(%peer, count, %reason, "frames were lost on their way");
                if let Some(link) = self.links.get(&connection) {
                    self.handle(Input::Lost { peer, link: *link, priority, count });
                }
            }
            wire::Event::Unsupported { peer } => self.handle(Input::Unsupported { peer }),
        }
    }

    fn identify_event(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id: peer, info, .. } = event else { return };
        let network = info.protocol_version.strip_prefix(FAMILY);
        let same_network = network.map(|network| network == self.config.network);
        if info.protocols.contains(&dht_protocol(&self.config))
            && let Some(dht) = self.swarm.behaviour_mut().dht.as_mut()
        {
            let direct =
                info.listen_addrs.iter().filter(|address| ConnectionKind::of(address) != ConnectionKind::Relayed);
            for address in direct.filter(|address| transport::can_dial(address)) {
                dht.add_address(&peer, address.clone());
            }
        }
        let facts = PeerFacts {
            agent: info.agent_version,
            same_network,
            speaks_cpc: info.protocols.contains(&wire::PROTOCOL),
            relay: info.protocols.contains(&relay::HOP_PROTOCOL_NAME),
            mailbox: info.protocols.contains(&wire::MAILBOX_PROTOCOL),
            signals_webrtc: info.protocols.contains(&transport::SIGNALING_PROTOCOL),
            addresses: info.listen_addrs,
        };
        self.handle(Input::Identified { peer, facts });
    }

    fn gossip_event(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                if !self.gossip.check(propagation_source, message_id.clone(), message) {
                    self.handle(Input::Missed { count: 1 });
                    let gossip = &mut self.swarm.behaviour_mut().gossip.gossip;
                    gossip.report_message_validation_result(
                        &message_id,
                        &propagation_source,
                        MessageAcceptance::Ignore,
                    );
                }
            }
            gossipsub::Event::Subscribed { topic, .. } => {
                self.handle(Input::StrangerListens);
                if let Some(topic) = self.gossip.topic(&topic).cloned() {
                    self.handle(Input::Subscribed { topic });
                }
            }
            gossipsub::Event::SlowPeer { peer_id, failed_messages } => {
                tracing::debug!(peer = %peer_id, ?failed_messages, "a peer takes gossip too slowly; some was dropped");
            }
            gossipsub::Event::Unsubscribed { .. } | gossipsub::Event::GossipsubNotSupported { .. } => {}
        }
    }

    fn dht_event(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else { return };
        if let kad::QueryResult::GetClosestPeers(result) = result {
            let found = match result {
                Ok(found) => found.peers,
                Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
            };
            for peer in found {
                let (peer, addresses) = (peer.peer_id, peer.addrs);
                self.handle(Input::Discovered { peer, addresses, source: DiscoverySource::Dht });
            }
        }
        if step.last
            && let Some(search) = self.searches.remove(&id)
        {
            self.handle(Input::SearchFinished { search });
        }
    }

    /// Walks the DHT towards a peer, or towards this node itself.
    pub(super) fn search(&mut self, search: Search) {
        let target = match &search {
            Search::Peer(peer) => *peer,
            Search::Neighbourhood => *self.swarm.local_peer_id(),
        };
        match self.swarm.behaviour_mut().dht.as_mut() {
            Some(dht) => {
                let id = dht.get_closest_peers(target);
                self.searches.insert(id, search);
            }
            None => self.handle(Input::SearchFinished { search }),
        }
    }

    pub(super) fn dial_failed_at_once(&mut self, dial: DialId, error: &DialError) {
        self.handle(Input::DialFailed { dial, reason: describe(error) });
    }
}

/// An incoming WebSocket or WebRTC connection names only its TCP or UDP source; which transport it is, the address it
/// came in by tells.
fn with_local_transport(remote: &Multiaddr, local: &Multiaddr) -> Multiaddr {
    if ConnectionKind::of(remote) == ConnectionKind::of(local) {
        return remote.clone();
    }
    let transport = local.iter().filter(|part| {
        matches!(part, Protocol::Ws(_) | Protocol::Wss(_) | Protocol::Tls | Protocol::WebRTCDirect | Protocol::QuicV1)
    });
    transport.fold(remote.clone(), |address, part| address.with(part))
}

/// Every attempt's reason in one line.
fn describe(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => {
            let said = attempts.iter().map(|(address, error)| {
                let reason = match error {
                    libp2p::TransportError::MultiaddrNotSupported(_) => {
                        "no transport for it is switched on here".into()
                    }
                    libp2p::TransportError::Other(error) => innermost(error),
                };
                format!("{address}: {reason}")
            });
            said.collect::<Vec<_>>().join("; ")
        }
        DialError::NoAddresses => "no address is known".to_owned(),
        DialError::WrongPeerId { obtained, .. } => format!("somebody else answers there: {obtained}"),
        other => other.to_string(),
    }
}

/// The transports wrap errors in errors; the innermost says what happened.
fn innermost(error: &std::io::Error) -> String {
    let mut current: &dyn std::error::Error = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}
