//! Bare libp2p with the behaviours that cpc-net has, to see what an idle connection costs without cpc-net.

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::{
    StreamProtocol, Swarm,
    gossipsub::{self, IdentTopic, MessageAuthenticity},
    identify,
    identity::Keypair,
    kad::{self, store::MemoryStore},
    ping, relay,
    swarm::NetworkBehaviour,
};
use serde_json::json;

use crate::{
    Failure,
    job::{Job, Task},
    lines,
    swarm::{connect, listen, relayed_swarm},
};

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
    dht: kad::Behaviour<MemoryStore>,
    relay: relay::client::Behaviour,
}

impl Behaviour {
    fn new(key: &Keypair, relay: relay::client::Behaviour) -> Self {
        let local = key.public().to_peer_id();
        let mut dht = kad::Config::new(StreamProtocol::new("/bench/kad/1.0.0"));
        dht.set_periodic_bootstrap_interval(None);
        let mut dht = kad::Behaviour::with_config(local, MemoryStore::new(local), dht);
        dht.set_mode(Some(kad::Mode::Server));
        let authenticity = MessageAuthenticity::Signed(key.clone());
        let mut gossip = gossipsub::Behaviour::new(authenticity, gossipsub::Config::default())
            .expect("the published defaults agree with each other");
        gossip.subscribe(&IdentTopic::new("bench")).expect("a topic that nobody filters can be subscribed");
        Self {
            identify: identify::Behaviour::new(identify::Config::new("bench/1.0.0".into(), key.public())),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(10))),
            gossip,
            dht,
            relay,
        }
    }
}

pub async fn listen_bare() -> Result<(), Failure> {
    let mut swarm = relayed_swarm(Behaviour::new)?;
    listen(&mut swarm).await?;
    drive(swarm);
    lines::serve_until_told().await
}

pub async fn dial_bare(job: &Job) -> Result<(), Failure> {
    if job.task != Task::Idle {
        return Err(format!("{:?} is not measured of bare connections", job.task).into());
    }
    for _ in 0..job.count {
        let mut swarm = relayed_swarm(Behaviour::new)?;
        connect(&mut swarm, &job.address).await?;
        drive(swarm);
    }
    lines::tell(&json!({ "connected": job.count }))?;
    lines::serve_until_told().await
}

/// A swarm only works while somebody asks it for events.
fn drive(mut swarm: Swarm<Behaviour>) {
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}
