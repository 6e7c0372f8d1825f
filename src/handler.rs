//! The whole API: a handle on a running network.

mod messages;
mod snapshots;
mod streams;
mod transfers;

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicU64};

use async_channel::{Sender, TrySendError};
use futures::channel::oneshot;
use libp2p::PeerId;

pub use streams::{Events, HandlerRegistration, Messages};

use crate::{
    config::{Durability, NetworkConfig},
    core::Restored,
    driver::{Command, Driver, KeptMessages, Parts, Published},
    error::{CommandError, ConnectError, StartError},
    event::DiscoverTarget,
    identity::{Identity, next_epoch},
    message::{GroupName, MessageId},
    peer::ConnectTarget,
    platform::{self, Clock, Lock},
    receipt::{Places, ReceiptWriter},
    store::{Journal, Store, unreadable},
    transfers::Room,
    transport,
};

/// A handle on a running network. Cloning it is cheap, all clones are handles on the same node, and no call blocks.
///
/// When the last clone is dropped without [`shutdown`](Self::shutdown), the node stops at once, without a goodbye.
///
/// ```no_run
/// use cpc_net::{BroadcastScope, Message, NetworkConfig, NetworkHandler, Priority};
/// use futures::StreamExt;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let bootstrap = "/dns4/node.example/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
/// let net = NetworkHandler::new(NetworkConfig::builder().bootstrap(bootstrap).data_dir("alice").build()?).await?;
///
/// net.broadcast(Message::event("hello, everybody"), Priority::Medium, BroadcastScope::All)?;
///
/// let mut messages = net.messages();
/// while let Some(message) = messages.next().await {
///     let receipt = net.send_message(message.sender, Message::event("thanks"), Priority::High)?;
///     receipt.delivered().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct NetworkHandler {
    inner: Arc<Inner>,
}

struct Inner {
    config: NetworkConfig,
    identity: Identity,
    clock: Clock,
    /// The next message's. This run's begin with its epoch in the upper half, so they are larger than all before.
    nonce: AtomicU64,
    commands: Sender<Command>,
    published: Arc<Published>,
    places: Places,
    /// Room for outgoing transfers.
    transfers: Room,
    groups: Mutex<std::collections::BTreeSet<GroupName>>,
}

/// Lifecycle.
impl NetworkHandler {
    /// Starts a node: reads or makes its identity, opens its transports and listens. It then looks for peers and keeps
    /// them by itself.
    ///
    /// Natively the network runs on a thread of its own, so this can be awaited in any runtime. In a browser it runs on
    /// the page's event loop.
    ///
    /// # Errors
    /// When the configuration is out of bounds, the identity can't be read or written, or an address can't be listened
    /// on; also when another node uses the same `data_dir`, or what an earlier run has kept there can't be read. Nothing
    /// keeps running then, and nothing is deleted.
    pub async fn new(config: NetworkConfig) -> Result<Self, StartError> {
        config.validate()?;
        let clock = Clock::start();
        let lock = match &config.data_dir {
            Some(place) => Some(Lock::take(place).await?),
            None => None,
        };
        let store = Store::open(config.data_dir.as_deref()).await?;
        let identity = Identity::of(&store).await?;
        let epoch = next_epoch(&store).await?;
        let kept = store.read(transport::KEPT_BY_THE_TRANSPORT).await?;

        let first_nonce = (u64::from(epoch) << 32) | 1;
        let places = Places::new(&config.limits);
        let kept_messages = kept_messages(&config, identity.peer_id(), &places, first_nonce).await?;

        let (commands, receiver) = async_channel::bounded(config.limits.command_buffer);
        let published = Arc::new(Published::new(&config));
        let parts = Parts {
            config: config.clone(),
            identity: identity.clone(),
            kept: kept.as_ref().map(|bytes| bytes.to_vec()),
            clock: clock.clone(),
            commands: receiver,
            published: published.clone(),
            lock,
            kept_messages,
        };
        let (started, start) = oneshot::channel();
        platform::start(move || async move {
            match Driver::start(parts).await {
                // If nobody waits any more, there is no handle either.
                Ok((driver, to_keep)) => {
                    if started.send(Ok(to_keep)).is_ok() {
                        driver.run().await;
                    }
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        let stopped = || StartError::Thread("the network task ended before it had started".to_owned());
        let to_keep = start.await.map_err(|_| stopped())??;
        if let Some(bytes) = to_keep
            && kept.is_none()
        {
            store.write(transport::KEPT_BY_THE_TRANSPORT, &bytes).await?;
        }
        let transfers = Room::new(config.transfers.max_waiting);
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                identity,
                clock,
                nonce: AtomicU64::new(first_nonce),
                commands,
                published,
                places,
                transfers,
                groups: Mutex::default(),
            }),
        })
    }

    /// Stops the node: sends what is queued for connected peers (for at most
    /// [`drain_timeout`](crate::config::DeliveryConfig::drain_timeout)), says goodbye to them, and closes. The receipts
    /// of messages that could not leave end with [`DeliveryError::Kept`](crate::error::DeliveryError::Kept) where
    /// messages outlive the node, else with [`DeliveryError::ShutDown`](crate::error::DeliveryError::ShutDown). Calling
    /// it again waits for the same end.
    pub async fn shutdown(&self) {
        let (done, stopped) = oneshot::channel();
        if self.inner.commands.send(Command::Shutdown { done }).await.is_ok() {
            // An error means that the node is gone, which is what was asked for.
            let _ = stopped.await;
        }
    }
}

/// Connections.
impl NetworkHandler {
    /// Connects to a peer, by its id or an address, and keeps the connection from then on: when it breaks, it is tried
    /// again.
    ///
    /// # Errors
    /// When no address is known or none of them leads to the peer in time.
    pub async fn connect(&self, target: impl Into<ConnectTarget>) -> Result<PeerId, ConnectError> {
        let target = target.into();
        if matches!(&target, ConnectTarget::Peer(peer) if *peer == self.local_peer_id()) {
            return Err(ConnectError::ToSelf(target.to_string()));
        }
        self.ask(|answer| Command::Connect { target, answer }).await
    }

    /// Says goodbye to a peer and closes all connections to it. It is not connected again by itself, unless mail waits
    /// for it or it comes back.
    ///
    /// # Errors
    /// When the node is shutting down or too busy to take the command.
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), ConnectError> {
        self.ask(|answer| Command::Disconnect { peer, answer }).await.map(drop)
    }
}

/// Discovery and events.
impl NetworkHandler {
    /// Searches for peers. What is found comes as
    /// [`NetworkEvent::PeerDiscovered`](crate::NetworkEvent::PeerDiscovered), the end as
    /// [`NetworkEvent::DiscoveryFinished`](crate::NetworkEvent::DiscoveryFinished).
    ///
    /// # Errors
    /// When the node is shutting down or too busy.
    pub fn discover_peers(&self, target: DiscoverTarget) -> Result<(), CommandError> {
        self.command(Command::Discover { target })
    }

    /// What happens, as a stream. Each subscriber gets everything; the first one also what happened before it.
    pub fn events(&self) -> Events {
        Events::new(self.inner.published.events.subscribe())
    }
}

impl NetworkHandler {
    fn command(&self, command: Command) -> Result<(), CommandError> {
        self.inner.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => CommandError::Busy,
            TrySendError::Closed(_) => CommandError::ShuttingDown,
        })
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<PeerId, ConnectError>>) -> Command,
    ) -> Result<PeerId, ConnectError> {
        let (answer, result) = oneshot::channel();
        self.inner.commands.try_send(command(answer)).map_err(|error| match error {
            TrySendError::Full(_) => ConnectError::Busy,
            TrySendError::Closed(_) => ConnectError::ShuttingDown,
        })?;
        result.await.unwrap_or(Err(ConnectError::ShuttingDown))
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<GroupName>> {
        self.inner.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the journal, where messages are kept, and reads what an earlier run has left.
async fn kept_messages(
    config: &NetworkConfig,
    local: PeerId,
    places: &Places,
    first_nonce: u64,
) -> Result<Option<KeptMessages>, StartError> {
    let durability = config.durability();
    let Some(place) = config.data_dir.as_deref().filter(|_| durability != Durability::Memory) else { return Ok(None) };
    let (journal, kept) = Journal::open(place, durability == Durability::Synced).await?;
    let restored = Restored::read(&kept).map_err(|reason| unreadable(place, reason))?;
    let receipts = restored.outbox.iter().map(|(peer, letter)| {
        let id = MessageId { sender: local, nonce: letter.nonce };
        let place = places.take_back(*peer, letter.payload.len(), first_nonce);
        let (writer, _) = ReceiptWriter::new(id, *peer, place, false);
        writer.accept();
        (letter.nonce, writer)
    });
    let receipts = receipts.collect();
    Ok(Some(KeptMessages { journal, restored, receipts }))
}

impl std::fmt::Debug for NetworkHandler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "NetworkHandler({})", self.local_peer_id())
    }
}
