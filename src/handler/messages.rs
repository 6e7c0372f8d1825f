//! Messages: out to one peer and to many, in as a stream; and the groups that they go to.

use std::{sync::atomic::Ordering, time::Duration};

use async_channel::TrySendError;
use libp2p::PeerId;

use super::{
    NetworkHandler,
    streams::{self, HandlerRegistration, Messages},
};
use crate::{
    config::{Durability, Strategy},
    core::OutgoingMessage,
    driver::{Command, SIGNED_BY_THE_CALLER},
    error::{CommandError, SendError},
    frame::{Addressing, Letter, Passing},
    message::{BroadcastScope, GroupName, Message, MessageId, MessageKind, Priority, Propagation},
    peer::Phase,
    platform,
    receipt::{Receipt, ReceiptWriter},
    wire,
};

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
            Some(Propagation::Gossip) => self.post(message, Passing::Gossip),
            Some(Propagation::Flood) => self.post(message, Passing::Flood),
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
        Ok((id, OutgoingMessage { letter, accepted_at, slept: Duration::ZERO, signed: None, kept: None }))
    }

    /// A post: everybody who passes it on passes on the same bytes. A large one is signed here, in the caller's thread;
    /// the others where they leave, so that those of a burst can share a signature.
    fn post(&self, message: OutgoingMessage, passing: Passing) -> Command {
        if message.letter.payload.len() < SIGNED_BY_THE_CALLER {
            return Command::Post { message, passing };
        }
        let frame = wire::post_frame(&message.letter, passing, self.inner.identity.key())
            .expect("an Ed25519 key, and identities have no others, signs without fail");
        let post = wire::read_post(&frame, None).expect("a frame without recipient is a post");
        Command::Post { message: OutgoingMessage { signed: Some(Box::new(post)), ..message }, passing }
    }

    fn submit(&self, command: Command) -> Result<(), SendError> {
        self.inner.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => SendError::QueueFull { limit: self.inner.config.limits.command_buffer },
            TrySendError::Closed(_) => SendError::ShuttingDown,
        })
    }
}
