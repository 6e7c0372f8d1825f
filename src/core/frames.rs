//! What a neighbour's frames change, and what is said to those that are rejected.

use libp2p::PeerId;

use super::{
    Core, GossipVerdict, LinkId, Now, Output,
    routing::{self, Checked},
};
use crate::{
    event::{NetworkEvent, RejectReason},
    frame::{Content, ControlContent, Frame, Incoming, Rejection},
    peer::ConnectionState,
};

/// Below this score a peer's rejections are only counted: no event, no ERROR reply.
const REPLY_SCORE: f32 = 0.3;

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From its author, for this node, by this connection.
    Lane(LinkId),
    /// As a post that a neighbour passed on.
    Post,
    /// As a post of a group that this node is no member of, and carries.
    Carried,
    /// As a post, by a stranger's gossip.
    Gossip,
}

impl Core {
    /// One frame from a neighbour.
    pub(super) fn frame(&mut self, now: Now, neighbour: PeerId, link: LinkId, result: Result<Incoming, Rejection>) {
        let incoming = match result {
            Ok(incoming) => incoming,
            Err(rejection) => {
                self.reject(now, neighbour, rejection, Way::Lane(link));
                return;
            }
        };
        if !incoming.acknowledged.is_empty() {
            let delivered = self.routing.outbox.acknowledged(now, neighbour, &incoming.acknowledged, &mut self.out);
            self.health.stats.messages_delivered += delivered;
            self.changed.insert(neighbour);
            self.deliver_mail(now, neighbour);
        }
        match incoming.content {
            Content::Message(frame) => {
                self.take(now, neighbour, frame, Way::Lane(link));
            }
            Content::Post(post) => self.post_came(now, neighbour, post),
            Content::Spread(note) => self.note_came(now, neighbour, note),
            Content::Mail(mail) => self.mail_came(now, neighbour, link, *mail),
            Content::PeerList { records, forged } => {
                for rejection in forged {
                    self.reject(now, neighbour, rejection, Way::Lane(link));
                }
                self.changed.extend(records.iter().map(|record| record.peer));
                let told = self.discovery.told_of(now, neighbour, records, &mut self.out);
                for peer in told {
                    self.deliver_mail(now, peer);
                }
            }
            Content::Error { reason, detail, nonce } => {
                tracing::debug!(peer = %neighbour, %reason, %detail, "the peer rejected a frame");
                if let Some(nonce) = nonce {
                    self.health.stats.messages_failed +=
                        self.routing.outbox.rejected(neighbour, nonce, &reason, &mut self.out);
                }
            }
            Content::Goodbye => {
                self.connections.said_goodbye(neighbour);
                self.discovery.leave_alone(now, &neighbour);
                // Who hears the goodbye closes: if its sender did, the close could overtake it.
                self.out.push_back(Output::ClosePeer(neighbour));
            }
            Content::Nothing => {}
        }
    }

    /// A message with a good signature, by a lane or as a post. Returns what becomes of a post.
    pub(super) fn take(&mut self, now: Now, neighbour: PeerId, frame: Frame, way: Way) -> GossipVerdict {
        let context = routing::Arrival {
            local: self.settings.local,
            neighbour,
            lane: if let Way::Lane(link) = way { Some(link) } else { None },
            carried: way == Way::Carried,
            groups: &self.groups,
            room: self.room(),
        };
        match self.routing.inbox.check(now, frame, context, &self.settings.config) {
            // Not for the app of this node.
            Ok(Checked::New { .. }) if way == Way::Carried => GossipVerdict::PassOn,
            Ok(checked) => self.checked(neighbour, checked),
            Err(rejection) => self.reject(now, neighbour, rejection, way),
        }
    }

    pub(super) fn reject(&mut self, now: Now, neighbour: PeerId, mut rejection: Rejection, way: Way) -> GossipVerdict {
        self.health.rejected(rejection.reason);
        let late = matches!(
            rejection.reason,
            RejectReason::Expired | RejectReason::TooManyHops | RejectReason::Replayed | RejectReason::UnknownGroup
        );
        if late && (!matches!(way, Way::Lane(_)) || self.connections.is_waking(now)) {
            // Whoever passed it on may have had it in time, and need not know better. So may have a neighbour whose
            // frames waited while this node slept.
            return GossipVerdict::Ignore;
        }
        self.trust.offence(now, neighbour, rejection.reason);
        self.changed.insert(neighbour);
        // A peer of no standing is only counted: its rejections would crowd out what matters.
        if self.trust.score(now, &neighbour) > REPLY_SCORE {
            self.out.push_back(Output::Event(NetworkEvent::MessageRejected {
                peer: neighbour,
                reason: rejection.reason,
                detail: rejection.detail.clone(),
            }));
            if matches!(way, Way::Post | Way::Carried) {
                // The number means something to the author, who may be somebody else.
                rejection.nonce = None;
            }
            if way != Way::Gossip && self.connections.state(&neighbour) == ConnectionState::Connected {
                self.control(neighbour, ControlContent::Error(rejection));
            }
        }
        GossipVerdict::Reject
    }
}
