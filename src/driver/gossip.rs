//! Gossip with strangers: topics, and the checking of what comes, away from the driver.
//!
//! Nodes of this network spread posts among themselves without it ([`super::gate`]). Each post carries its author's
//! signature; gossipsub's own, of whoever publishes a post among strangers, lets their strict implementations take part.

use std::collections::HashMap;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use libp2p::{
    PeerId,
    gossipsub::{self, MessageAcceptance, MessageAuthenticity, PublishError, TopicHash, ValidationMode},
    identity::Keypair,
};

use super::Driver;
use crate::{
    config::NetworkConfig,
    core::{GossipVerdict, Input, OutgoingMessage, Topic},
    error::StartError,
    event::RejectReason,
    frame::{Frame, Post, Rejection},
    platform,
    wire::{self, Roots},
};

/// Posts that may be checked at a time. More are dropped, and counted as missed.
const MAX_CHECKING: usize = 256;

/// The behaviour: signed, and nothing passed on that has not been checked.
pub(super) fn behaviour(key: &Keypair, config: &NetworkConfig) -> Result<gossipsub::Behaviour, StartError> {
    let unusable = |reason: String| StartError::Transport { transport: "gossip", reason };
    let settings = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        // By content, without the hop count: whoever publishes the same post again publishes nothing new.
        .message_id_fn(|message| gossipsub::MessageId::from(wire::post_id(&message.data).0))
        .max_transmit_size(config.limits.max_payload.max(64 * 1024) + 2 * wire::MAX_FRAME_OVERHEAD)
        .flood_publish(true)
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), settings)
        .map_err(|error| unusable(error.to_owned()))
}

/// A post that has been checked.
pub(super) struct Verified {
    id: gossipsub::MessageId,
    source: PeerId,
    result: Box<Result<(Post, Frame), Rejection>>,
}

/// Topics joined and posts being checked.
pub(super) struct Gossip {
    network: String,
    max_payload: usize,
    topics: HashMap<TopicHash, Topic>,
    /// Posts that have been checked and wait for the core's verdict, which comes with its next wishes.
    judging: HashMap<u64, (gossipsub::MessageId, PeerId)>,
    next_ticket: u64,
    /// In the order of arrival, which the worker pool would not keep.
    checking: FuturesOrdered<BoxFuture<'static, Verified>>,
}

impl Gossip {
    pub(super) fn new(config: &NetworkConfig) -> Self {
        Self {
            network: config.network.clone(),
            max_payload: config.limits.max_payload,
            topics: HashMap::new(),
            judging: HashMap::new(),
            next_ticket: 0,
            checking: FuturesOrdered::new(),
        }
    }

    /// Joins what every node joins.
    pub(super) fn begin(&mut self, gossip: &mut gossipsub::Behaviour) {
        self.subscribe(gossip, Topic::All);
    }

    pub(super) fn subscribe(&mut self, gossip: &mut gossipsub::Behaviour, topic: Topic) {
        let name = self.name(&topic);
        // It fails only where a subscription filter forbids the topic; there is none.
        if let Err(error) = gossip.subscribe(&name) {
            tracing::warn!(%error, topic = %name, "can't subscribe");
        }
        self.topics.insert(name.hash(), topic);
    }

    pub(super) fn unsubscribe(&mut self, gossip: &mut gossipsub::Behaviour, topic: &Topic) {
        let name = self.name(topic);
        gossip.unsubscribe(&name);
        self.topics.remove(&name.hash());
    }

    /// Publishes a post.
    ///
    /// # Errors
    /// When nobody took it. [`PublishError::NoPeersSubscribedToTopic`] may be tried again; after the others gossip
    /// remembers the post, and would not publish it a second time.
    pub(super) fn publish(
        &self,
        gossip: &mut gossipsub::Behaviour,
        post: &Post,
        hops: u32,
    ) -> Result<(), PublishError> {
        gossip.publish(self.name(&post.topic), wire::with_hops(&post.frame, hops).to_vec()).map(drop)
    }

    pub(super) fn topic(&self, hash: &TopicHash) -> Option<&Topic> {
        self.topics.get(hash)
    }

    /// Checks a post, away from the driver. False when there is no room for it.
    pub(super) fn check(&mut self, source: PeerId, id: gossipsub::MessageId, message: gossipsub::Message) -> bool {
        if self.checking.len() >= MAX_CHECKING {
            return false;
        }
        let Some(topic) = self.topic(&message.topic).cloned() else { return false };
        let max_payload = self.max_payload;
        let check = platform::offload(move || check(&message, &topic, source, max_payload));
        self.checking.push_back(check.map(move |result| Verified { id, source, result: Box::new(result) }).boxed());
        true
    }

    /// The next post that has been checked; waits for ever while none is being checked.
    pub(super) async fn next_verified(&mut self) -> Verified {
        match self.checking.next().await {
            Some(verified) => verified,
            None => std::future::pending().await,
        }
    }

    fn name(&self, topic: &Topic) -> gossipsub::IdentTopic {
        gossipsub::IdentTopic::new(match topic {
            Topic::All => format!("/cpc/1.0.0/{}/all", self.network),
            Topic::Group(group) => format!("/cpc/1.0.0/{}/group/{group}", self.network),
        })
    }
}

/// The frame must prove itself, and belong where it was posted.
fn check(
    message: &gossipsub::Message,
    topic: &Topic,
    source: PeerId,
    max_payload: usize,
) -> Result<(Post, Frame), Rejection> {
    let data = Bytes::copy_from_slice(&message.data);
    let Some(post) = wire::read_post(&data, None) else {
        // The decoder says what is wrong with it.
        wire::decode(&data, source, max_payload)?;
        return Err(Rejection::new(RejectReason::Unsigned, "no post with its author's signature came by gossip"));
    };
    let frame = wire::verify_post(&post, source, max_payload, &Roots::default())?;
    if post.topic == *topic {
        Ok((post, frame))
    } else {
        Err(Rejection::new(RejectReason::WrongRecipient, "a post in a topic that it is not meant for"))
    }
}

impl Driver {
    /// A post has been checked: the core decides whether the app gets it, and whether it is passed on.
    pub(super) fn gossiped(&mut self, verified: Verified) {
        let Verified { id, source, result } = verified;
        let ticket = self.gossip.next_ticket;
        self.gossip.next_ticket += 1;
        self.gossip.judging.insert(ticket, (id, source));
        self.handle(Input::Gossiped { source, ticket, result });
    }

    /// The core has decided.
    pub(super) fn judge(&mut self, ticket: u64, verdict: GossipVerdict) {
        let Some((id, source)) = self.gossip.judging.remove(&ticket) else { return };
        let acceptance = match verdict {
            GossipVerdict::PassOn => MessageAcceptance::Accept,
            GossipVerdict::Ignore => MessageAcceptance::Ignore,
            GossipVerdict::Reject => MessageAcceptance::Reject,
        };
        self.swarm.behaviour_mut().gossip.gossip.report_message_validation_result(&id, &source, acceptance);
    }

    /// Strangers get what nobody else can take yet.
    pub(super) fn publish(&mut self, message: OutgoingMessage) {
        let Some(post) = message.signed.as_deref() else {
            debug_assert!(false, "a post is signed where it is accepted");
            return self.handle(Input::PublishDropped);
        };
        let (nonce, priority) = (message.letter.nonce, message.letter.priority);
        let gate = &mut self.swarm.behaviour_mut().gossip;
        if !gate.somebody_listens(&self.gossip.name(&post.topic).hash()) {
            tracing::debug!(nonce, "a broadcast has to wait");
            return self.handle(Input::PublishFailed { message });
        }
        match self.gossip.publish(&mut gate.gossip, post, 0) {
            Ok(()) => self.handle(Input::Published { nonce, priority }),
            Err(error @ PublishError::NoPeersSubscribedToTopic) => {
                tracing::debug!(%error, nonce, "a broadcast has to wait");
                self.handle(Input::PublishFailed { message });
            }
            Err(error) => {
                tracing::warn!(%error, nonce, "a broadcast could not leave");
                self.handle(Input::PublishDropped);
            }
        }
    }

    /// Strangers get what spreads by lanes too.
    pub(super) fn bridge(&mut self, post: &Post, hops: u32) {
        let gate = &mut self.swarm.behaviour_mut().gossip;
        if !gate.somebody_listens(&self.gossip.name(&post.topic).hash()) {
            return;
        }
        match self.gossip.publish(&mut gate.gossip, post, hops) {
            // Another node among the strangers' neighbours was first.
            Ok(()) | Err(PublishError::Duplicate) => {}
            Err(error) => tracing::debug!(%error, "strangers did not get a post"),
        }
    }
}
