//! Which way a message takes: direct, else by a relay, else none, and then it waits. Decided anew whenever a connection
//! comes or goes; how a lane changes from one way to the other in good order, `outbox` knows.

use std::{collections::VecDeque, time::Duration};

use super::round_trip::RoundTrip;
use crate::{
    core::{Link, LinkId},
    message::Priority,
    peer::ConnectionKind,
    receipt::Way,
};

/// Messages handed to one lane of one link and not written yet: half of what a lane holds, so that frames below the app
/// always find room.
const LANE_CREDIT: usize = 256;

/// Bytes handed to one lane of one link and not written yet, by lane. Above them only a message alone is handed over.
/// The bulk lane keeps little, so that what is urgent never stands behind much of it.
const LANE_BYTES: [usize; 3] = [1024 * 1024, 512 * 1024, 256 * 1024];

/// A link of the same kind is preferred to the one in use when it answers in half the time, and that is at least so much
/// less: changing costs a round trip.
const WORTH_CHANGING: Duration = Duration::from_millis(10);

/// What one link carries of one lane.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// What each frame counts for that was handed over and is not written, the oldest first; 0 for frames below the app.
    costs: VecDeque<u32>,
    messages: usize,
    bytes: usize,
    /// Whether a post is among them.
    posts: bool,
}

/// One connection to the peer.
#[derive(Debug)]
pub(super) struct LinkWay {
    pub(super) id: LinkId,
    kind: ConnectionKind,
    pub(super) round_trip: RoundTrip,
    pub(super) lanes: [Handed; 3],
}

/// The connections to one peer, and the one in use. At most as many as `connections.max_per_peer`.
#[derive(Debug, Default)]
pub(super) struct Ways {
    links: Vec<LinkWay>,
    best: Option<LinkId>,
}

impl Handed {
    /// Whether another message may be handed over.
    pub(super) fn has_room(&self, lane: usize) -> bool {
        self.messages < LANE_CREDIT && (self.bytes < LANE_BYTES[lane] || self.messages == 0)
    }

    /// Messages that are not written yet.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Frames ahead of the next one.
    pub(super) fn frames(&self) -> usize {
        self.costs.len()
    }

    /// A message of so many bytes was handed over.
    pub(super) fn message(&mut self, cost: usize) {
        self.costs.push_back(u32::try_from(cost).unwrap_or(u32::MAX).max(1));
        self.messages += 1;
        self.bytes += cost.max(1);
    }

    /// A frame below the app was handed over.
    pub(super) fn control(&mut self) {
        self.costs.push_back(0);
    }

    /// A post was handed over.
    fn post(&mut self) {
        self.control();
        self.posts = true;
    }

    /// So many frames were written, or lost.
    pub(super) fn settle(&mut self, count: usize) {
        for cost in self.costs.drain(..count.min(self.costs.len())) {
            self.messages -= usize::from(cost > 0);
            self.bytes = self.bytes.saturating_sub(cost as usize);
        }
        self.posts &= !self.costs.is_empty();
    }
}

impl LinkWay {
    fn is_relayed(&self) -> bool {
        self.kind == ConnectionKind::Relayed
    }

    /// What a receipt says of it.
    pub(super) fn way(&self) -> Way {
        if self.is_relayed() { Way::Relayed } else { Way::Direct { kind: self.kind } }
    }
}

impl Ways {
    pub(super) fn opened(&mut self, link: &Link) {
        let (round_trip, lanes) = (RoundTrip::default(), Default::default());
        // Nearly every peer has one link only.
        self.links.reserve_exact(1);
        self.links.push(LinkWay { id: link.id, kind: link.kind, round_trip, lanes });
        self.choose();
    }

    pub(super) fn closed(&mut self, link: LinkId) {
        self.links.retain(|known| known.id != link);
        self.choose();
    }

    /// A ping took so long on a link.
    pub(super) fn pinged(&mut self, link: LinkId, took: Duration) {
        if let Some(link) = self.get_mut(link) {
            link.round_trip.pinged(took);
            self.choose();
        }
    }

    /// The link that new messages take; `None` when there is none.
    pub(super) fn best(&self) -> Option<LinkId> {
        self.best
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn get(&self, link: LinkId) -> Option<&LinkWay> {
        self.links.iter().find(|known| known.id == link)
    }

    pub(super) fn get_mut(&mut self, link: LinkId) -> Option<&mut LinkWay> {
        self.links.iter_mut().find(|known| known.id == link)
    }

    /// A frame below the app is handed over by the best way; which, or `None` when there is none.
    pub(super) fn control(&mut self, priority: Priority) -> Option<LinkId> {
        let best = self.best?;
        self.get_mut(best)?.lanes[priority.lane()].control();
        Some(best)
    }

    /// Whether the best way has room for one more post in a lane.
    pub(super) fn has_room(&self, priority: Priority) -> bool {
        let best = self.best.and_then(|best| self.get(best));
        best.is_some_and(|best| best.lanes[priority.lane()].frames() < LANE_CREDIT)
    }

    /// A post is handed over by the best way; which, or `None` when there is none.
    pub(super) fn post(&mut self, priority: Priority) -> Option<LinkId> {
        let best = self.best?;
        self.get_mut(best)?.lanes[priority.lane()].post();
        Some(best)
    }

    /// Whether posts were handed over of which it is not known yet that they were written.
    pub(super) fn has_posts(&self) -> bool {
        self.links.iter().any(|link| link.lanes.iter().any(|lane| lane.posts))
    }

    /// Direct before relayed; among these the one in use, unless another is much faster; else the fastest, the oldest.
    fn choose(&mut self) {
        let relayed = self.links.iter().all(LinkWay::is_relayed);
        let candidates = self.links.iter().filter(|link| link.is_relayed() == relayed);
        let speed = |link: &&LinkWay| (link.round_trip.smoothed().unwrap_or(Duration::MAX), link.id);
        let in_use = candidates.clone().find(|link| Some(link.id) == self.best);
        let fastest = candidates.min_by_key(speed);
        let best = match (in_use, fastest) {
            (Some(in_use), Some(fastest)) => match (in_use.round_trip.smoothed(), fastest.round_trip.smoothed()) {
                (Some(now), Some(then)) if now > then * 2 && now > then + WORTH_CHANGING => Some(fastest),
                _ => Some(in_use),
            },
            (_, fastest) => fastest,
        };
        self.best = best.map(|link| link.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(id: u64, kind: ConnectionKind) -> Link {
        let address = "/ip4/192.0.2.1/tcp/1".parse().expect("an address");
        Link { id: LinkId(id), kind, address, outbound: true }
    }

    #[test]
    fn direct_goes_before_relayed_and_the_one_in_use_before_another_like_it() {
        let mut ways = Ways::default();
        assert_eq!(ways.best(), None);
        ways.opened(&link(1, ConnectionKind::Relayed));
        ways.opened(&link(2, ConnectionKind::Relayed));
        assert_eq!(ways.best(), Some(LinkId(1)));
        ways.opened(&link(3, ConnectionKind::Webrtc));
        assert_eq!(ways.best(), Some(LinkId(3)));
        ways.opened(&link(4, ConnectionKind::Quic));
        assert_eq!(ways.best(), Some(LinkId(3)));
        ways.closed(LinkId(3));
        assert_eq!(ways.best(), Some(LinkId(4)));
        ways.closed(LinkId(4));
        assert_eq!(ways.best(), Some(LinkId(1)), "back to the relay");
        ways.closed(LinkId(1));
        ways.closed(LinkId(2));
        assert_eq!(ways.best(), None);
    }

    #[test]
    fn a_much_faster_link_is_worth_changing_to_and_a_little_faster_one_is_not() {
        let mut ways = Ways::default();
        ways.opened(&link(1, ConnectionKind::Tcp));
        ways.opened(&link(2, ConnectionKind::Quic));
        ways.pinged(LinkId(1), Duration::from_millis(100));
        ways.pinged(LinkId(2), Duration::from_millis(60));
        assert_eq!(ways.best(), Some(LinkId(1)));
        ways.opened(&link(3, ConnectionKind::Quic));
        ways.pinged(LinkId(3), Duration::from_millis(20));
        assert_eq!(ways.best(), Some(LinkId(3)));
        ways.opened(&link(4, ConnectionKind::Relayed));
        ways.pinged(LinkId(4), Duration::from_millis(1));
        assert_eq!(ways.best(), Some(LinkId(3)), "never a relay while there is another way");
    }

    #[test]
    fn credit_is_given_in_messages_and_in_bytes_and_comes_back_as_they_are_written() {
        let mut handed = Handed::default();
        while handed.has_room(0) {
            handed.control();
            handed.message(10);
        }
        assert_eq!((handed.messages(), handed.frames()), (LANE_CREDIT, 2 * LANE_CREDIT));
        handed.settle(1);
        assert!(!handed.has_room(0), "that was a frame below the app");
        handed.settle(1);
        assert!(handed.has_room(0));
        handed.settle(usize::MAX);
        assert_eq!((handed.messages(), handed.frames(), handed.bytes), (0, 0, 0));
        handed.message(usize::MAX / 2);
        assert!(!handed.has_room(2), "a huge one is alone");
    }
}
