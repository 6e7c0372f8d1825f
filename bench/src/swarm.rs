//! Bare libp2p over TCP, Noise and yamux, set up as its documentation does.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    identity::Keypair,
    multiaddr::Protocol,
    noise, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use serde_json::{Value, json};

use crate::{Failure, lines};

/// A swarm with a new identity.
pub fn swarm<B: NetworkBehaviour>(behaviour: impl FnOnce(&Keypair) -> B) -> Result<Swarm<B>, Failure> {
    let builder = SwarmBuilder::with_new_identity().with_tokio().with_tcp(
        tcp::Config::default().nodelay(true),
        noise::Config::new,
        yamux::Config::default,
    )?;
    let swarm = builder.with_behaviour(|key| behaviour(key))?;
    Ok(swarm.with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600))).build())
}

/// A swarm that also has what is needed to be reached through relays.
pub fn relayed_swarm<B: NetworkBehaviour>(
    behaviour: impl FnOnce(&Keypair, relay::client::Behaviour) -> B,
) -> Result<Swarm<B>, Failure> {
    let builder = SwarmBuilder::with_new_identity().with_tokio().with_tcp(
        tcp::Config::default().nodelay(true),
        noise::Config::new,
        yamux::Config::default,
    )?;
    let swarm = builder
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, relay| behaviour(key, relay))?;
    Ok(swarm.with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600))).build())
}

/// Listens on loopback and tells where.
pub async fn listen<B: NetworkBehaviour>(swarm: &mut Swarm<B>) -> Result<(), Failure> {
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            let address = address.with(Protocol::P2p(*swarm.local_peer_id()));
            return Ok(lines::tell(&json!({ "address": address }))?);
        }
    }
}

/// Connects.
pub async fn connect<B: NetworkBehaviour>(swarm: &mut Swarm<B>, address: &str) -> Result<PeerId, Failure> {
    swarm.dial(address.parse::<Multiaddr>()?)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => return Ok(peer_id),
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
}

/// The time to connect, from a fresh node each time.
pub async fn connects<B: NetworkBehaviour>(
    make: impl Fn() -> Result<Swarm<B>, Failure>,
    address: &str,
    count: usize,
) -> Result<Value, Failure> {
    let mut micros = Vec::new();
    for _ in 0..count {
        let mut swarm = make()?;
        let begin = Instant::now();
        connect(&mut swarm, address).await?;
        micros.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(json!({ "micros": micros }))
}
