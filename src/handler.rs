//! The whole API: a handle on a running network.

mod streams;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_channel::{Sender, TrySendError};
use futures::channel::oneshot;
use libp2p::{Multiaddr, PeerId};

pub use streams::{Events, HandlerRegistration, Messages};

use crate::{
    config::{Durability, NetworkConfig, Strategy},
    core::{OutgoingMessage, Restored},
    driver::{Command, Driver, KeptMessages, Parts, Published},
    error::{CommandError, ConnectError, SendError, StartError, TransferError},
    event::DiscoverTarget,
    frame::{Addressing, Letter, Passing},
    identity::{Identity, next_epoch},
    message::{BroadcastScope, GroupName, Message, MessageId, MessageKind, Priority, Propagation},
    peer::{ConnectTarget, ConnectionState, NetworkStats, NetworkStatus, PeerInfo, Phase},
    platform::{self, Clock, Lock},
    receipt::{Places, Receipt, ReceiptWriter},
    store::{Journal, Store, unreadable},
    transfer::{TransferDirection, TransferId, TransferKey, TransferOffer, TransferState},
    transfers::{Outbox, Room, Transfer, TransferSource, Transfers, Watch},
    transport, wire,
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

/// Messages.
impl NetworkHandler {
    /// Sends a message to one peer. It is queued or refused at once, and the receipt tells what becomes of it. It is
    /// accepted once it is stored, which [`Receipt::accepted`] waits for: from then on it outlives the node, as far as
    /// [`Durability`](crate::config::Durability) goes, and is sent after the next start if need be
    /// ([`receipts`](Self::receipts)). Where nothing is kept it is accepted at once.
    ///
    /// While the peer is not connected the message waits and a way is looked for, for at most
    /// [`timeout`](crate::config::DeliveryConfig::timeout) of the time that the node runs, or its time to live, which goes
    /// on while the node is stopped.
    ///
    /// Messages of one priority arrive in the order of these calls.
    ///
    /// # Errors
    /// When the outbox is full, the payload too large, the kind not for apps, the recipient this node itself, messages
    /// can't be stored for now, or the node is shutting down.
    pub fn send_message(&self, peer: PeerId, message: Message, priority: Priority) -> Result<Receipt, SendError> {
        if peer == self.local_peer_id() {
            return Err(SendError::ToSelf(peer));
        }
        let (id, message) = self.outgoing(&message, priority, Addressing::Peer(peer))?;
        let place = self.inner.places.take(peer, priority, message.letter.payload.len())?;
        if let Some(reason) = &self.inner.published.snapshot.load().store_failing {
            return Err(SendError::Storage { reason: reason.to_string() });
        }
        let accepted = self.inner.config.durability() == Durability::Memory;
        let (writer, receipt) = ReceiptWriter::new(id, peer, place, accepted);
        self.submit(Command::Send { peer, message: Box::new(message), receipt: writer })?;
        Ok(receipt)
    }

    /// The receipts of all direct messages that have not ended, those of an earlier run included. The first call also
    /// gives those of an earlier run that have ended since the start, so that none ends unseen.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.inner.places.receipts()
    }

    /// Sends a message to many peers. There is no receipt: who gets it is not known. A broadcast to all or to a group
    /// that nobody could take yet waits for somebody who can.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message), and when the group is not joined.
    pub fn broadcast(
        &self,
        message: Message,
        priority: Priority,
        scope: BroadcastScope,
    ) -> Result<MessageId, SendError> {
        let addressing = match &scope {
            BroadcastScope::All => Addressing::Anyone,
            BroadcastScope::Neighbors => Addressing::Neighbors,
            BroadcastScope::Group(group) if self.groups().contains(group) => Addressing::Group(group.clone()),
            BroadcastScope::Group(group) => return Err(SendError::NotAMember(group.clone())),
        };
        let propagation = match (&scope, message.propagation()) {
            (BroadcastScope::Neighbors, _) => None,
            (_, Some(Propagation::Directed(peers))) if peers.is_empty() || peers.len() > Propagation::MAX_DIRECTED => {
                return Err(SendError::Recipients { count: peers.len(), limit: Propagation::MAX_DIRECTED });
            }
            (_, Some(said)) => Some(said.clone()),
            (_, None) => Some(match self.inner.config.propagation.strategy {
                Strategy::Gossip => Propagation::Gossip,
                Strategy::Flood => Propagation::Flood,
            }),
        };
        let (id, message) = self.outgoing(&message, priority, addressing)?;
        self.submit(match propagation {
            None => Command::BroadcastNeighbors { message },
            Some(Propagation::Directed(peers)) => Command::BroadcastDirected { peers, message },
            Some(Propagation::Gossip) => Command::Post { message: self.signed(message, Passing::Gossip) },
            Some(Propagation::Flood) => Command::Post { message: self.signed(message, Passing::Flood) },
        })?;
        Ok(id)
    }

    /// Joins a group: its broadcasts arrive as soon as a neighbour that takes part has heard of it, a matter of a round
    /// trip. Joining twice is joining once.
    ///
    /// # Errors
    /// When too many groups are joined, or the node is shutting down or too busy.
    pub fn join_group(&self, group: GroupName) -> Result<(), CommandError> {
        let mut groups = self.groups();
        let limit = self.inner.config.limits.groups;
        if groups.contains(&group) {
            return Ok(());
        }
        if groups.len() >= limit {
            return Err(CommandError::TooManyGroups { limit });
        }
        self.command(Command::JoinGroup { group: group.clone() })?;
        groups.insert(group);
        Ok(())
    }

    /// Leaves a group. Leaving one that was not joined does nothing.
    ///
    /// # Errors
    /// When the node is shutting down or too busy.
    pub fn leave_group(&self, group: &GroupName) -> Result<(), CommandError> {
        let mut groups = self.groups();
        if groups.contains(group) {
            self.command(Command::LeaveGroup { group: group.clone() })?;
            groups.remove(group);
        }
        Ok(())
    }

    /// The messages that arrive, as a stream. Each subscriber gets all of them; the first one also those that arrived
    /// before it. A subscriber that lags by more than
    /// [`message_buffer`](crate::config::LimitsConfig::message_buffer) messages loses the oldest: they are counted,
    /// announced as [`NetworkEvent::MessagesMissed`](crate::NetworkEvent::MessagesMissed), and
    /// [`Messages::missed`] tells.
    ///
    /// Where messages are kept (see [`Durability`](crate::config::Durability)), no direct message is lost so: it is
    /// stored before its sender hears that it has arrived, and kept until every subscriber that there is has confirmed it
    /// by asking for the next one. When too many wait, further ones are not taken and stay with their senders
    /// ([`NetworkEvent::InboxFull`](crate::NetworkEvent::InboxFull)), so drop a stream that isn't read. What was handed
    /// over and not confirmed, because the node or the last stream ended first, comes again to the next subscriber, with
    /// [`redelivered`](crate::ReceivedMessage::redelivered) set.
    pub fn messages(&self) -> Messages {
        let published = &self.inner.published;
        Messages::new(published.messages.subscribe(), published.kept.subscribe())
    }

    /// Calls a function for each message that arrives, one after the other, until the registration is dropped. It runs
    /// beside the network: a slow one holds up nothing but its own next message. A message is confirmed when the function's
    /// future has ended.
    pub fn register_message_handler<H, F>(&self, handler: H) -> HandlerRegistration
    where
        H: FnMut(crate::ReceivedMessage) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        streams::register(self.messages(), handler)
    }
}

/// Transfers: payloads of any length, streamed.
impl NetworkHandler {
    /// Sends a payload of any length to one peer, from bytes, a file or a reader. The receiver's app is asked first. It
    /// is read as fast as it is taken, in chunks that the receiver verifies; a transfer that is cut goes on where it was
    /// as soon as the peer is connected again, within
    /// [`resume_timeout`](crate::config::TransfersConfig::resume_timeout). Messages don't wait behind it.
    ///
    /// # Errors
    /// When the offer is out of bounds, too many transfers wait already, or the node is shutting down or too busy.
    pub fn send_transfer(
        &self,
        peer: PeerId,
        offer: TransferOffer,
        source: impl Into<TransferSource>,
    ) -> Result<Transfer, TransferError> {
        offer.check()?;
        if peer == self.local_peer_id() {
            return Err(TransferError::ToSelf { peer });
        }
        let source = source.into().into_inner();
        let length = offer.length.or(source.length());
        if let (Some(promised), Some(found)) = (offer.length, source.length())
            && promised != found
        {
            return Err(TransferError::WrongLength { promised });
        }
        let place = self.inner.transfers.take()?;
        let id = TransferId::from_numbers([platform::random(), platform::random()]);
        let key = TransferKey { direction: TransferDirection::Outgoing, peer, id };
        let watch = Watch::new(key, length, TransferState::Waiting, self.inner.published.desk.clone());
        let transfer = Transfer::new(watch.clone());
        let outbox = Arc::new(Outbox::new(TransferOffer { length, ..offer }, source, watch, place));
        self.inner.commands.try_send(Command::SendTransfer { outbox }).map_err(|error| match error {
            TrySendError::Full(_) => TransferError::Busy,
            TrySendError::Closed(_) => TransferError::ShutDown,
        })?;
        Ok(transfer)
    }

    /// The payloads that others offer, as a stream. Each offer goes to one subscriber, which takes or refuses it; one
    /// that nobody takes within [`offer_timeout`](crate::config::TransfersConfig::offer_timeout) is refused and counted.
    pub fn transfers(&self) -> Transfers {
        self.inner.published.offers.subscribe()
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

/// Snapshots: read without asking the network, cheap enough for every frame.
impl NetworkHandler {
    /// This node's name in the network.
    pub fn local_peer_id(&self) -> PeerId {
        self.inner.identity.peer_id()
    }

    /// Where this node can be reached, without its peer id.
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.inner.published.snapshot.load().listen_addrs.clone()
    }

    /// The state of the connection to a peer.
    pub fn connection_state(&self, peer: &PeerId) -> ConnectionState {
        let snapshot = self.inner.published.snapshot.load();
        snapshot.peers.get(peer).map_or(ConnectionState::Disconnected, |view| view.info().state)
    }

    /// Every known peer, the connected ones first.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let (snapshot, now) = (self.inner.published.snapshot.load(), self.inner.clock.elapsed());
        let mut peers = snapshot.peers.values().map(|view| view.at(now)).collect::<Vec<_>>();
        peers.sort_by_key(|info| (info.state != ConnectionState::Connected, info.peer));
        peers
    }

    /// What is known of a peer; `None` when nothing is.
    pub fn peer_info(&self, peer: &PeerId) -> Option<PeerInfo> {
        let snapshot = self.inner.published.snapshot.load();
        snapshot.peers.get(peer).map(|view| view.at(self.inner.clock.elapsed()))
    }

    /// How the node is doing.
    pub fn status(&self) -> NetworkStatus {
        let snapshot = self.inner.published.snapshot.load();
        NetworkStatus {
            local_peer_id: self.local_peer_id(),
            network: self.inner.config.network.clone(),
            phase: snapshot.phase,
            listen_addrs: snapshot.listen_addrs.clone(),
            connected: snapshot.connected,
            known: snapshot.peers.len(),
            groups: self.groups().iter().cloned().collect(),
            uptime: snapshot.stopped_at.unwrap_or_else(|| self.inner.clock.elapsed()),
        }
    }

    /// The counters since the start.
    pub fn network_stats(&self) -> NetworkStats {
        self.inner.published.snapshot.load().stats.clone()
    }
}

impl NetworkHandler {
    /// Checks a message and gives it its nonce.
    fn outgoing(
        &self,
        message: &Message,
        priority: Priority,
        addressing: Addressing,
    ) -> Result<(MessageId, OutgoingMessage), SendError> {
        let limit = self.inner.config.limits.max_payload;
        let size = message.payload().len();
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        if let kind @ MessageKind::Unknown(_) = message.kind() {
            return Err(SendError::ReservedKind(kind));
        }
        if matches!(self.inner.published.snapshot.load().phase, Phase::Draining | Phase::Stopped) {
            return Err(SendError::ShuttingDown);
        }
        // More than 2^32 messages in one run go on into the next epochs, which the clock passes by later.
        let nonce = self.inner.nonce.fetch_add(1, Ordering::Relaxed);
        let letter = Letter {
            nonce,
            kind: message.kind(),
            priority,
            addressing,
            created_at: platform::unix_millis(),
            ttl: message.ttl(),
            payload: message.payload().clone(),
        };
        let id = MessageId { sender: self.local_peer_id(), nonce };
        let accepted_at = self.inner.clock.elapsed();
        Ok((id, OutgoingMessage { letter, accepted_at, slept: Duration::ZERO, signed: None }))
    }

    /// Signs a post, here in the caller's thread: everybody who passes it on passes on these bytes.
    fn signed(&self, message: OutgoingMessage, passing: Passing) -> OutgoingMessage {
        let frame = wire::post_frame(&message.letter, passing, self.inner.identity.key())
            .expect("an Ed25519 key, and identities have no others, signs without fail");
        let post = wire::read_post(&frame, None).expect("a frame without recipient is a post");
        OutgoingMessage { signed: Some(Box::new(post)), ..message }
    }

    fn submit(&self, command: Command) -> Result<(), SendError> {
        self.inner.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => SendError::QueueFull { limit: self.inner.config.limits.command_buffer },
            TrySendError::Closed(_) => SendError::ShuttingDown,
        })
    }

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
