//! A bare swarm over the handler's transport.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use async_channel::{Receiver, Sender};
use futures::{FutureExt as _, StreamExt as _, channel::oneshot, select};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::ConnectedPoint,
    identity::Keypair,
    multiaddr::Protocol,
    relay,
    swarm::{ConnectionId, NetworkBehaviour, Stream, SwarmEvent, behaviour::toggle::Toggle, dial_opts::DialOpts},
};

use super::{
    behaviour::{self, Opening, SharedLedger, look_into},
    work::Work,
};
use crate::{
    config::NetworkConfig,
    error::StartError,
    platform,
    transport::{self, Built},
};

/// Commands that wait; whoever brings more waits too.
const MAX_COMMANDS: usize = 64;

/// Connections with nothing to do are kept: it is their end that is measured.
const IDLE: Duration = Duration::from_secs(3_600);

/// A relay that sets no limits, which would be measured instead of the transport.
fn unlimited_relay() -> relay::Config {
    relay::Config {
        max_reservations: 1_024,
        max_reservations_per_peer: 16,
        reservation_rate_limiters: Vec::new(),
        max_circuits: 1_024,
        max_circuits_per_peer: 1_024,
        max_circuit_duration: IDLE,
        max_circuit_bytes: 1 << 40,
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    streams: behaviour::Behaviour,
    relay_server: Toggle<relay::Behaviour>,
    relay_client: relay::client::Behaviour,
    signaling: transport::Signaling,
}

enum Command {
    Listen(Multiaddr, oneshot::Sender<io::Result<()>>),
    Dial(Multiaddr, oneshot::Sender<io::Result<Link>>),
    Open(PeerId, ConnectionId, Opening),
    Close(ConnectionId, oneshot::Sender<()>),
    HangUp(PeerId, oneshot::Sender<()>),
    Look(oneshot::Sender<Sight>),
}

/// How a node stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Sight {
    /// Where it can be reached.
    pub(super) addresses: Vec<Multiaddr>,
    /// Connections that stand.
    pub(super) connections: u32,
    /// Streams being served.
    pub(super) running: usize,
    /// Streams that were served to their end.
    pub(super) served: u64,
    /// How the last stream ended that broke, since the last look.
    pub(super) failure: Option<String>,
    /// Why the last connection ended, where this side did not end it.
    pub(super) closed: Option<String>,
}

/// A handle on the running node. It ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Node {
    commands: Sender<Command>,
    local: PeerId,
}

/// A connection that was dialled.
#[derive(Clone)]
pub(super) struct Link {
    commands: Sender<Command>,
    peer: PeerId,
    connection: ConnectionId,
}

fn over<E>(_: E) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the node has ended")
}

impl Node {
    /// Starts a node with a new identity. Relays for others if it is a `relay`.
    ///
    /// # Errors
    /// When a transport can't be set up.
    pub(super) fn start(config: &NetworkConfig, relay: bool) -> Result<Self, StartError> {
        let key = Keypair::generate_ed25519();
        let local = key.public().to_peer_id();
        let (sender, receiver) = async_channel::bounded(MAX_COMMANDS);
        let (config, commands) = (config.clone(), sender.clone());
        // What can fail for good is tried here, where somebody hears of it; the runtime that the swarm needs is there.
        let work = move || async move {
            match Running::new(&key, &config, relay, commands.downgrade()) {
                Ok(running) => {
                    drop(commands);
                    running.run(receiver).await;
                }
                Err(error) => tracing::error!(%error, "the probe's node can't be started"),
            }
        };
        platform::start(work)?;
        Ok(Self { commands: sender, local })
    }

    pub(super) fn peer_id(&self) -> PeerId {
        self.local
    }

    /// Listens, and returns once there is an address to be reached by.
    ///
    /// # Errors
    /// When it can't be listened on.
    pub(super) async fn listen(&self, address: Multiaddr) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Listen(address, reply)).await.map_err(over)?;
        answer.await.map_err(over)?
    }

    /// Connects, over exactly this address.
    ///
    /// # Errors
    /// When no connection comes of it.
    pub(super) async fn dial(&self, address: Multiaddr) -> io::Result<Link> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Dial(address, reply)).await.map_err(over)?;
        answer.await.map_err(over)?
    }

    /// Looks how it stands.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) async fn look(&self) -> io::Result<Sight> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Look(reply)).await.map_err(over)?;
        answer.await.map_err(over)
    }
}

impl Link {
    pub(super) fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// When the connection has none to give.
    pub(super) async fn open(&self, work: Work) -> io::Result<Stream> {
        let (reply, answer) = oneshot::channel();
        let opening = Opening { work, reply };
        self.commands.send(Command::Open(self.peer, self.connection, opening)).await.map_err(over)?;
        answer.await.map_err(|_| io::Error::new(io::ErrorKind::ConnectionAborted, "the connection has ended"))?
    }

    /// Ends all connections with the peer, the circuit that helped to connect too, and returns once they are gone.
    ///
    /// # Errors
    /// When the node has ended.
    pub(super) async fn hang_up(&self) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::HangUp(self.peer, reply)).await.map_err(over)?;
        answer.await.map_err(over)
    }

    /// Ends the connection, and returns once it is gone.
    ///
    /// # Errors
    /// When the node has ended.
    pub(super) async fn close(&self) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Close(self.connection, reply)).await.map_err(over)?;
        answer.await.map_err(over)
    }
}

/// The swarm, and who waits for it.
struct Running {
    swarm: Swarm<Behaviour>,
    ledger: SharedLedger,
    relay: bool,
    commands: async_channel::WeakSender<Command>,
    listening: HashMap<libp2p::core::transport::ListenerId, oneshot::Sender<io::Result<()>>>,
    dialling: HashMap<ConnectionId, oneshot::Sender<io::Result<Link>>>,
    closing: HashMap<ConnectionId, oneshot::Sender<()>>,
    hanging_up: HashMap<PeerId, oneshot::Sender<()>>,
    closed: Option<String>,
}

impl Running {
    fn new(
        key: &Keypair,
        config: &NetworkConfig,
        relay: bool,
        commands: async_channel::WeakSender<Command>,
    ) -> Result<Self, StartError> {
        let local = key.public().to_peer_id();
        let Built { transport, relay_client, signaling, .. } = transport::build(key, config, None)?;
        let ledger = SharedLedger::default();
        let behaviour = Behaviour {
            streams: behaviour::Behaviour::new(ledger.clone()),
            relay_server: relay.then(|| relay::Behaviour::new(local, unlimited_relay())).into(),
            relay_client,
            signaling,
        };
        let settings = platform::swarm_config().with_idle_connection_timeout(IDLE);
        Ok(Self {
            swarm: Swarm::new(transport, behaviour, local, settings),
            ledger,
            relay,
            commands,
            listening: HashMap::new(),
            dialling: HashMap::new(),
            closing: HashMap::new(),
            hanging_up: HashMap::new(),
            closed: None,
        })
    }

    async fn run(mut self, commands: Receiver<Command>) {
        let mut commands = std::pin::pin!(commands);
        loop {
            let command = select! {
                command = commands.next().fuse() => match command {
                    Some(command) => command,
                    None => return,
                },
                event = self.swarm.select_next_some() => {
                    self.happened(event);
                    continue;
                }
            };
            self.command(command);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Listen(address, reply) => match self.swarm.listen_on(address) {
                Ok(listener) => {
                    self.listening.insert(listener, reply);
                }
                Err(error) => drop(reply.send(Err(io::Error::other(error)))),
            },
            Command::Dial(address, reply) => {
                let options = DialOpts::unknown_peer_id().address(address).build();
                let connection = options.connection_id();
                match self.swarm.dial(options) {
                    Ok(()) => {
                        self.dialling.insert(connection, reply);
                    }
                    Err(error) => drop(reply.send(Err(io::Error::other(error)))),
                }
            }
            Command::Open(peer, connection, opening) => {
                self.swarm.behaviour_mut().streams.open(peer, connection, opening);
            }
            Command::Close(connection, reply) => {
                if self.swarm.close_connection(connection) {
                    self.closing.insert(connection, reply);
                } else {
                    // It has ended already.
                    let _ = reply.send(());
                }
            }
            Command::HangUp(peer, reply) => match self.swarm.disconnect_peer_id(peer) {
                Ok(()) => drop(self.hanging_up.insert(peer, reply)),
                Err(()) => {
                    // There is none.
                    let _ = reply.send(());
                }
            },
            Command::Look(reply) => {
                let _ = reply.send(self.sight());
            }
        }
    }

    fn sight(&mut self) -> Sight {
        let mut ledger = look_into(&self.ledger);
        let local = *self.swarm.local_peer_id();
        let named = |address: &Multiaddr| match address.iter().last() {
            Some(Protocol::P2p(peer)) if peer == local => address.clone(),
            _ => address.clone().with(Protocol::P2p(local)),
        };
        Sight {
            addresses: self.swarm.listeners().map(named).collect(),
            connections: self.swarm.network_info().connection_counters().num_established(),
            running: ledger.running,
            served: ledger.served,
            failure: ledger.failure.take(),
            closed: self.closed.take(),
        }
    }

    fn happened(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                if self.relay && !address.iter().any(|part| part == Protocol::P2pCircuit) {
                    // Reservations name the relay's external addresses.
                    self.swarm.add_external_address(address);
                }
                if let Some(reply) = self.listening.remove(&listener_id) {
                    let _ = reply.send(Ok(()));
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some(reply) = self.listening.remove(&listener_id) {
                    let reason = reason.err().unwrap_or_else(|| io::ErrorKind::NotConnected.into());
                    let _ = reply.send(Err(reason));
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                if let (Some(reply), ConnectedPoint::Dialer { .. }) = (self.dialling.remove(&connection_id), endpoint)
                    && let Some(commands) = self.commands.upgrade()
                {
                    let _ = reply.send(Ok(Link { commands, peer: peer_id, connection: connection_id }));
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(reply) = self.dialling.remove(&connection_id) {
                    let _ = reply.send(Err(io::Error::other(error)));
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, num_established, .. } => {
                if let Some(reply) = self.closing.remove(&connection_id) {
                    let _ = reply.send(());
                } else if self.hanging_up.contains_key(&peer_id) {
                    if num_established == 0
                        && let Some(reply) = self.hanging_up.remove(&peer_id)
                    {
                        let _ = reply.send(());
                    }
                } else {
                    self.closed = Some(cause.map_or_else(|| "in good order".into(), |error| error.to_string()));
                }
            }
            _ => {}
        }
    }
}

/// What a node is configured by: everything that its target has, and patience for a busy machine.
pub(super) fn configuration() -> Arc<NetworkConfig> {
    let mut config = NetworkConfig::default();
    config.connections.dial_timeout = Duration::from_secs(20);
    Arc::new(config)
}
