//! Broadcasts between the app, the neighbours and strangers' gossip.
//!
//! Nodes of this network spread posts among themselves ([`routing::Spread`]). Strangers know gossip only; a node that has
//! some among its peers carries posts over, both ways.

use std::collections::BTreeSet;

use libp2p::PeerId;

use super::{Core, GossipVerdict, Now, OutgoingMessage, Output, PeerFacts, frames::Way, routing::Arrived};
use crate::{
    event::NetworkEvent,
    frame::{Addressing, Frame, Post, PostId, Rejection, SpreadNote},
    message::{MessageId, Priority},
    peer::{ConnectionKind, ConnectionState},
};

impl Core {
    /// The app posts.
    pub(super) fn post(&mut self, now: Now, message: OutgoingMessage) {
        self.health.accepted(message.letter.priority);
        let waits = message.signed.as_ref().is_some_and(|post| self.routing.pending.is_before(&post.topic));
        if waits {
            self.health.stats.broadcasts_dropped += self.routing.pending.failed(now, message);
        } else {
            self.publish(now, message);
        }
    }

    /// Tries again what nobody took.
    pub(super) fn post_again(&mut self, now: Now) {
        let (again, dropped) = self.routing.pending.tick(now);
        self.health.stats.broadcasts_dropped += dropped;
        for message in again {
            self.publish(now, message);
        }
    }

    fn publish(&mut self, now: Now, message: OutgoingMessage) {
        let Some(post) = message.signed.as_deref() else { return };
        if self.routing.spread.post(now, post, &mut self.random) {
            let post = post.clone();
            self.bridge(now, post, 0);
            self.taken(message.letter.nonce, message.letter.priority);
        } else {
            self.out.push_back(Output::Publish { message });
        }
    }

    /// Somebody has a post, and passes it on.
    pub(super) fn taken(&mut self, nonce: u64, priority: Priority) {
        self.health.sent(priority, 1);
        let id = MessageId { sender: self.settings.local, nonce };
        self.out.push_back(Output::Event(NetworkEvent::BroadcastTaken { id }));
    }

    /// A broadcast to named peers: they get it as they get direct messages.
    pub(super) fn broadcast_directed(&mut self, now: Now, peers: Vec<PeerId>, message: &OutgoingMessage) {
        self.health.accepted(message.letter.priority);
        self.routing.spread.stats.directed.posted += 1;
        for peer in BTreeSet::from_iter(peers) {
            if peer == self.settings.local {
                continue;
            }
            if self.routing.outbox.accept(peer, message.clone(), false, &mut self.out) {
                self.routing.spread.stats.directed.forwarded += 1;
            } else {
                self.health.stats.broadcasts_dropped += 1;
            }
            self.deliver_mail(now, peer);
        }
    }

    /// A neighbour passed on a post.
    pub(super) fn post_came(&mut self, now: Now, neighbour: PeerId, post: Post) {
        match self.routing.spread.arrived(now, neighbour, post, &mut self.random) {
            Arrived::Verify(post) => self.out.push_back(Output::Verify { from: neighbour, post }),
            Arrived::Known => self.health.stats.duplicates += 1,
            Arrived::Refused(reason, detail) => {
                self.reject(now, neighbour, Rejection::new(reason, detail), Way::Post);
            }
            Arrived::NoRoom => {
                self.health.stats.messages_missed += 1;
                self.out.push_back(Output::Event(NetworkEvent::MessagesMissed { count: 1 }));
            }
        }
    }

    /// A post's signature has been checked.
    pub(super) fn verified(&mut self, now: Now, from: PeerId, id: PostId, result: Result<Frame, Rejection>) {
        let verdict = match result {
            // From before a restart: this node knows what it has said.
            Ok(frame) if frame.id.sender == self.settings.local => GossipVerdict::Ignore,
            Ok(frame) => {
                let way = if self.is_for_app(&frame) { Way::Post } else { Way::Carried };
                self.take(now, from, frame, way)
            }
            Err(rejection) => self.reject(now, from, rejection, Way::Post),
        };
        let is_new = verdict == GossipVerdict::PassOn;
        if let Some((post, hops)) = self.routing.spread.verified(now, &id, is_new, &mut self.random) {
            self.bridge(now, post, hops);
        }
    }

    /// Strangers may want a post.
    fn bridge(&mut self, now: Now, post: Post, hops: u32) {
        if let Some((post, hops)) = self.bridges.carry(now, post, hops) {
            self.out.push_back(Output::Bridge { post, hops });
        }
    }

    /// Whether a post is for this node too, and not only for members of its group beyond.
    fn is_for_app(&self, frame: &Frame) -> bool {
        !matches!(&frame.addressing, Addressing::Group(group) if !self.groups.contains(group))
    }

    /// A stranger's gossip brought a post.
    pub(super) fn gossiped(
        &mut self,
        now: Now,
        source: PeerId,
        result: Result<(Post, Frame), Rejection>,
    ) -> GossipVerdict {
        let (post, frame) = match result {
            Ok(good) => good,
            Err(rejection) => return self.reject(now, source, rejection, Way::Gossip),
        };
        if self.bridges.heard(&post.id) {
            // Another node of ours has carried it over. Strangers behind this one get that copy.
            self.health.stats.duplicates += 1;
            return GossipVerdict::PassOn;
        }
        if self.routing.spread.knows(&post.id) || post.author == self.settings.local {
            self.health.stats.duplicates += 1;
            return GossipVerdict::Ignore;
        }
        let verdict = self.take(now, source, frame, Way::Gossip);
        if verdict == GossipVerdict::PassOn {
            self.routing.spread.brought_by_strangers(now, post, &mut self.random);
        }
        verdict
    }

    /// Who a peer is has become known.
    pub(super) fn meet(&mut self, now: Now, peer: PeerId, facts: &PeerFacts) {
        if self.connections.state(&peer) != ConnectionState::Connected {
            return;
        }
        if facts.speaks_cpc && facts.same_network == Some(true) {
            self.routing.spread.met(now, peer, self.is_relayed(&peer));
        } else if facts.same_network.is_none() {
            self.out.push_back(Output::Gossip { peer, on: true });
        }
    }

    /// A neighbour says something about posts.
    pub(super) fn note_came(&mut self, now: Now, neighbour: PeerId, note: SpreadNote) {
        if self.connections.state(&neighbour) != ConnectionState::Connected {
            return;
        }
        let heard = self.routing.spread.hear(now, neighbour, self.is_relayed(&neighbour), note);
        if heard.is_new {
            self.out.push_back(Output::Gossip { peer: neighbour, on: false });
        }
        for (topic, _) in heard.joined {
            self.routing.pending.somebody_listens(now, &topic);
        }
    }

    /// A connection to a peer has ended.
    pub(super) fn link_of_neighbour_closed(&mut self, now: Now, peer: PeerId) {
        if self.connections.state(&peer) == ConnectionState::Connected {
            // Another connection stands; what was under way by this one is lost.
            self.routing.spread.set_relayed(&peer, self.is_relayed(&peer));
            self.routing.spread.lost(now, peer);
        } else {
            self.routing.spread.gone(now, &peer);
        }
    }

    /// Whether a peer is reached through a relay only.
    pub(super) fn is_relayed(&self, peer: &PeerId) -> bool {
        self.connections.links(peer).iter().all(|link| link.kind == ConnectionKind::Relayed)
    }
}

#[cfg(test)]
mod tests;
