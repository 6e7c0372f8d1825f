//! Posts among fifty nodes in one process: `posts ours|gossipsub [seconds] [posts a second] [nodes]`. Prints one line of
//! JSON: how many deliveries there were and should have been, CPU time for each, and how long they took.
//!
//! Both contestants have the same nodes and the same connections over TCP, Noise and yamux on loopback (a ring and three
//! chords from each node, about eight neighbours), a thread with a current-thread runtime for each node, and take turns in
//! posting. gossipsub has its defaults and its own signing. What is measured begins when all connections stand, the meshes
//! have formed and posts have flowed for a moment.
//!
//! CPU for each delivery is the process's CPU time within the measured seconds by the deliveries within them, whenever
//! they were posted: so neither the beginning nor the end is in it, and who can't keep up is charged for what it did, not
//! for what it was asked. What is lost, and how long the others took, is told of the posts of those seconds.

use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cpc_net::{BroadcastScope, Message, NetworkConfig, NetworkHandler, Priority, PropagationStats};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, SwarmBuilder, gossipsub, identify, noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

type Failure = Box<dyn Error + Send + Sync>;

/// Bytes of a post.
const SIZE: usize = 512;

/// How long the meshes get to form before anything is measured.
const FORMING: Duration = Duration::from_secs(5);

/// How long posts flow before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);

/// How long the last posts get to arrive.
const ARRIVING: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("posts {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let number = |place: usize, default: u64| arguments.get(place).map_or(Ok(default), |text| text.parse::<u64>());
    let load = Load { seconds: number(1, 20)?, rate: number(2, 100)?, nodes: usize::try_from(number(3, 50)?)? };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.first().map(String::as_str) {
            Some("ours") => ours(&load).await,
            Some("gossipsub") => plain(&load).await,
            _ => Err("usage: posts ours|gossipsub [seconds] [posts a second] [nodes]".into()),
        }
    })
}

struct Load {
    seconds: u64,
    rate: u64,
    nodes: usize,
}

impl Load {
    /// Who dials whom: the same at each run.
    fn edges(&self) -> Vec<(usize, usize)> {
        let mut edges = BTreeSet::new();
        let mut state = 42_u64;
        for node in 0..self.nodes {
            edges.insert((node, (node + 1) % self.nodes));
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let other = usize::try_from(state >> 33).unwrap_or(0) % self.nodes;
                if other != node && !edges.contains(&(other, node)) {
                    edges.insert((node, other));
                }
            }
        }
        edges.into_iter().collect()
    }

    /// Posts from all in turn, at a steady pace, and what came of them. `beside` tells more when all is over.
    async fn measure(
        &self,
        who: &str,
        journal: &Arc<Journal>,
        mut post: impl FnMut(usize, Vec<u8>) -> Result<(), Failure>,
        beside: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        tokio::time::sleep(FORMING).await;
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(self.rate)?);
        let (warming, measured) = (WARM_UP.as_secs() * self.rate, self.seconds * self.rate);
        let mut began = Instant::now();
        let mut start = journal.reading()?;
        for number in 0..warming + measured {
            ticks.tick().await;
            if number == warming {
                (began, start) = (Instant::now(), journal.reading()?);
                journal.since.store(journal.now(), Ordering::Relaxed);
            }
            let mut payload = vec![0; SIZE];
            payload[..8].copy_from_slice(&journal.now().to_be_bytes());
            payload[8..16].copy_from_slice(&number.to_be_bytes());
            post(usize::try_from(number)? * 7 % self.nodes, payload)?;
        }
        let (took, end) = (began.elapsed(), journal.reading()?);
        tokio::time::sleep(ARRIVING).await;
        let mut latencies = std::mem::take(&mut *journal.latencies.lock().expect("nobody panics with it"));
        latencies.sort_unstable();
        let arrived = u64::try_from(latencies.len())?;
        let expected = measured * u64::try_from(self.nodes - 1)?;
        let (cpu, deliveries) = (end.cpu_micros - start.cpu_micros, end.deliveries - start.deliveries);
        let share = |thousandths: usize| latencies.get(latencies.len() * thousandths / 1000).copied().unwrap_or(0);
        let micros = |nanos: u64| nanos as f64 / 1e3;
        println!(
            "{}",
            json!({
                "who": who,
                "nodes": self.nodes,
                "connections": self.edges().len(),
                "posts": measured,
                "seconds": took.as_secs_f64(),
                "deliveries": deliveries,
                "lost": i128::from(expected) - i128::from(arrived),
                "cores": cpu as f64 / took.as_micros() as f64,
                "cpuPerDeliveryMicros": cpu as f64 / deliveries.max(1) as f64,
                "p50Micros": micros(share(500)),
                "p90Micros": micros(share(900)),
                "p99Micros": micros(share(990)),
                "p999Micros": micros(share(999)),
                "maxMicros": micros(latencies.last().copied().unwrap_or(0)),
                "beside": beside(),
            })
        );
        Ok(())
    }
}

/// What was delivered, and how long it took.
struct Journal {
    start: Instant,
    /// When what is measured began: earlier posts are only counted.
    since: AtomicU64,
    deliveries: AtomicU64,
    latencies: Mutex<Vec<u64>>,
    connected: AtomicU64,
}

/// How far a contestant has come.
struct Reading {
    cpu_micros: u64,
    deliveries: u64,
}

impl Journal {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            since: AtomicU64::new(u64::MAX),
            deliveries: AtomicU64::new(0),
            latencies: Mutex::default(),
            connected: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn reading(&self) -> Result<Reading, Failure> {
        Ok(Reading { cpu_micros: cpu_micros()?, deliveries: self.deliveries.load(Ordering::Relaxed) })
    }

    fn delivered(&self, payload: &[u8]) {
        let Some(sent) = payload.first_chunk::<8>().map(|sent| u64::from_be_bytes(*sent)) else { return };
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        if sent >= self.since.load(Ordering::Relaxed) {
            let took = self.now().saturating_sub(sent);
            self.latencies.lock().expect("nobody panics with it").push(took);
        }
    }
}

/// CPU time of this process so far: user's and system's, of all threads. Linux counts it in hundredths of a second.
fn cpu_micros() -> Result<u64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The program's name may hold anything; behind it the fields are numbers (proc(5): utime is the 14th, stime the 15th).
    let fields = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1.split_whitespace().collect::<Vec<_>>();
    let number = |place: usize| -> Result<u64, Failure> {
        Ok(fields.get(place - 3).ok_or("too few fields in /proc/self/stat")?.parse::<u64>()?)
    };
    Ok((number(14)? + number(15)?) * 10_000)
}

async fn ours(load: &Load) -> Result<(), Failure> {
    let journal = Journal::new();
    let mut nodes = Vec::new();
    for _ in 0..load.nodes {
        let config = NetworkConfig::builder()
            .network("posts-bench")
            .mdns(false)
            .listen("/ip4/127.0.0.1/tcp/0")
            .limits(|limits| limits.message_buffer = 8192)
            .discovery(|discovery| {
                discovery.dht = false;
                discovery.peer_exchange = false;
                discovery.target_peers = 0;
            });
        let net = NetworkHandler::new(config.build()?).await?;
        let (mut messages, journal) = (net.messages(), journal.clone());
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                journal.delivered(&message.payload);
            }
        });
        nodes.push(net);
    }
    for (one, other) in load.edges() {
        let address = nodes[other].listen_addrs().remove(0);
        nodes[one].connect(address).await?;
    }
    let post = |from: usize, payload: Vec<u8>| {
        nodes[from]
            .broadcast(Message::event(payload), Priority::Medium, BroadcastScope::All)
            .map(drop)
            .map_err(Into::into)
    };
    let stats = || nodes.iter().map(|net| net.network_stats().propagation).collect::<Vec<_>>();
    let before = stats();
    let beside = || {
        let after = stats();
        let sum = |figure: fn(&PropagationStats) -> u64| {
            after.iter().map(figure).sum::<u64>() - before.iter().map(figure).sum::<u64>()
        };
        json!({
            "received": sum(|stats| stats.gossip.received),
            "duplicates": sum(|stats| stats.gossip.duplicates),
            "hops": sum(|stats| stats.gossip.hops),
            "told": sum(|stats| stats.told),
            "asked": sum(|stats| stats.asked),
            "shed": sum(|stats| stats.shed),
        })
    };
    load.measure("cpc-net", &journal, post, beside).await?;
    for net in nodes {
        net.shutdown().await;
    }
    Ok(())
}

#[derive(NetworkBehaviour)]
struct Plain {
    gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// What a thread with a plain gossipsub node is told.
enum Wish {
    Dial(Multiaddr),
    Post(Vec<u8>),
}

async fn plain(load: &Load) -> Result<(), Failure> {
    let journal = Journal::new();
    let mut nodes = Vec::new();
    for _ in 0..load.nodes {
        let (wishes, wished) = mpsc::channel(1024);
        let (tell, told) = oneshot::channel();
        let journal = journal.clone();
        thread::Builder::new().name("gossipsub".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome =
                runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(plain_node(wished, tell, &journal)));
            if let Err(error) = outcome {
                eprintln!("a gossipsub node: {error}");
            }
        })?;
        nodes.push((wishes, told.await?));
    }
    let edges = load.edges();
    for (one, other) in &edges {
        nodes[*one].0.send(Wish::Dial(nodes[*other].1.clone())).await?;
    }
    let all = 2 * u64::try_from(edges.len())?;
    while journal.connected.load(Ordering::Relaxed) < all {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let post = |from: usize, payload| Ok(nodes[from].0.try_send(Wish::Post(payload))?);
    load.measure("gossipsub", &journal, post, || Value::Null).await
}

async fn plain_node(
    mut wishes: mpsc::Receiver<Wish>,
    tell: oneshot::Sender<Multiaddr>,
    journal: &Journal,
) -> Result<(), Failure> {
    let topic = gossipsub::IdentTopic::new("posts-bench");
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| {
            let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
            let mut gossip = gossipsub::Behaviour::new(signed, gossipsub::Config::default())?;
            gossip.subscribe(&topic)?;
            let identify = identify::Config::new("bench/1.0.0".into(), key.public());
            Ok(Plain { gossip, identify: identify::Behaviour::new(identify), ping: ping::Behaviour::default() })
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let mut tell = Some(tell);
    loop {
        tokio::select! {
            wish = wishes.recv() => match wish {
                Some(Wish::Dial(address)) => swarm.dial(address)?,
                Some(Wish::Post(payload)) => {
                    // A node whose queues are full takes nothing: that post is lost, and the node goes on.
                    if let Err(error) = swarm.behaviour_mut().gossip.publish(topic.clone(), payload) {
                        eprintln!("a gossipsub node: {error}");
                    }
                }
                None => return Ok(()),
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. } => {
                    if let Some(tell) = tell.take() {
                        // Whoever waited may have given up; then the wishes end too.
                        let _ = tell.send(address);
                    }
                }
                SwarmEvent::ConnectionEstablished { .. } => {
                    journal.connected.fetch_add(1, Ordering::Relaxed);
                }
                SwarmEvent::Behaviour(PlainEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                    journal.delivered(&message.data);
                }
                _ => {}
            },
        }
    }
}
