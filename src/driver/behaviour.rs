//! The protocols this node speaks, as one libp2p behaviour.

use std::time::Duration;

use libp2p::{
    StreamProtocol, connection_limits, identify,
    identity::Keypair,
    kad, ping, relay,
    swarm::{self, NetworkBehaviour, behaviour::toggle::Toggle},
};

use super::{gate, gossip, probes};
use crate::{config::NetworkConfig, error::StartError, platform, transfers, transport, wire};

/// What identify's protocol version begins with; the network's name follows.
pub(super) const FAMILY: &str = "cpc/1.0.0/";

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(super) lanes: wire::Behaviour,
    pub(super) transfers: transfers::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) probes: probes::Behaviour,
    pub(super) gossip: gate::Behaviour,
    pub(super) dht: Toggle<kad::Behaviour<kad::store::MemoryStore>>,
    local: Toggle<transport::LocalDiscovery>,
    relay_server: Toggle<relay::Behaviour>,
    relay_client: relay::client::Behaviour,
    signaling: transport::Signaling,
}

impl Behaviour {
    pub(super) fn new(
        key: &Keypair,
        config: &NetworkConfig,
        relay_client: relay::client::Behaviour,
        signaling: transport::Signaling,
    ) -> Result<Self, StartError> {
        let local = key.public().to_peer_id();
        let connections = &config.connections;
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_established(Some(connections.max_connections))
            // Strangers who come in must not keep this node from dialling out.
            .with_max_established_incoming(Some((connections.max_connections / 4 * 3).max(1)))
            .with_max_established_per_peer(Some(connections.max_per_peer))
            .with_max_pending_incoming(Some(connections.max_pending))
            .with_max_pending_outgoing(Some(connections.max_pending));
        let identify = identify::Config::new(format!("{FAMILY}{}", config.network), key.public())
            .with_agent_version(config.agent.clone())
            .with_interval(Duration::from_secs(5 * 60))
            .with_push_listen_addr_updates(true);
        let ping = ping::Config::new().with_interval(connections.ping_interval).with_timeout(connections.ping_timeout);
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            lanes: wire::Behaviour::new(key, config.limits.max_payload, config.mailbox.serve),
            transfers: transfers::Behaviour::new(&config.transfers, &config.bandwidth),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            probes: probes::Behaviour::default(),
            gossip: gate::Behaviour::new(gossip::behaviour(key, config)?),
            dht: config.discovery.dht.then(|| dht(local, config)).into(),
            local: transport::local_discovery(local, config.discovery.mdns),
            relay_server: config.relay.server.then(|| relay::Behaviour::new(local, relay_server(config))).into(),
            relay_client,
            signaling,
        })
    }
}

/// The DHT's protocol, one per network.
pub(super) fn dht_protocol(config: &NetworkConfig) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/cpc/{}/kad/1.0.0", config.network))
        .expect("a validated network name makes a protocol name")
}

fn dht(local: libp2p::PeerId, config: &NetworkConfig) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut settings = kad::Config::new(dht_protocol(config));
    // The core decides when the routing table is refreshed.
    settings.set_periodic_bootstrap_interval(None);
    let mut dht = kad::Behaviour::with_config(local, kad::store::MemoryStore::new(local), settings);
    dht.set_mode(Some(transport::dht_mode()));
    dht
}

/// The published defaults (16 circuits of 2 minutes and 128 KiB, a reservation a minute per address) are for strangers'
/// hole punching; here whole pages live on a relay.
fn relay_server(config: &NetworkConfig) -> relay::Config {
    relay::Config {
        max_reservations: config.relay.max_reservations,
        max_circuits: config.relay.max_circuits,
        max_circuits_per_peer: config.relay.max_circuits.min(64),
        max_circuit_duration: config.relay.circuit_duration,
        max_circuit_bytes: config.relay.circuit_bytes,
        reservation_rate_limiters: Vec::new(),
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    }
}

/// How the swarm runs its connections: as tasks of the network's own thread.
pub(super) fn swarm_config(config: &NetworkConfig) -> swarm::Config {
    platform::swarm_config()
        // The lanes keep connections alive; this is for those of other implementations, which have none.
        .with_idle_connection_timeout(config.connections.ping_interval * 6)
}
