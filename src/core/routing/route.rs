//! Which way a message takes: direct, else by a relay, else none, and then it waits. Decided anew whenever a connection
//! comes or goes; how a lane changes from one way to the other in good order, `outbox` knows.
//!
//! A connection may be dead without a word: a page was closed and opened again, a machine lost its network. It is in doubt
//! once a newer one stands, or once mail by it is overdue, as long as nothing was heard from it since; then any other goes
//! before it, and it is asked whether it lives.

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
    /// When something last came by it.
    heard_at: Duration,
    in_doubt: bool,
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
    /// A connection stands, of which something was just heard. Returns the others, which have to show that they live.
    pub(super) fn opened(&mut self, now: Duration, link: &Link) -> Vec<LinkId> {
        self.links.iter_mut().for_each(|link| link.in_doubt = true);
        let others = self.links.iter().map(|link| link.id).collect();
        let (round_trip, lanes) = (RoundTrip::default(), Default::default());
        // Nearly every peer has one link only.
        self.links.reserve_exact(1);
        let (id, kind) = (link.id, link.kind);
        self.links.push(LinkWay { id, kind, heard_at: now, in_doubt: false, round_trip, lanes });
        self.choose();
        others
    }

    /// Something came by a link. True when messages go another way from now on.
    pub(super) fn heard(&mut self, now: Duration, link: LinkId) -> bool {
        let Some(link) = self.get_mut(link) else { return false };
        link.heard_at = now;
        std::mem::take(&mut link.in_doubt) && self.choose()
    }

    /// Mail by a link is overdue that went so long ago. True when the link has to show that it lives: nothing was heard
    /// from it since, and there is another.
    pub(super) fn overdue(&mut self, link: LinkId, since: Duration) -> bool {
        let alone = self.links.len() < 2;
        let Some(link) = self.get_mut(link).filter(|link| !alone && link.heard_at <= since) else { return false };
        link.in_doubt = true;
        self.choose();
        true
    }

    pub(super) fn closed(&mut self, link: LinkId) {
        self.links.retain(|known| known.id != link);
        self.choose();
    }

    /// A ping took so long on a link. True when messages go another way from now on.
    pub(super) fn pinged(&mut self, now: Duration, link: LinkId, took: Duration) -> bool {
        let Some(link) = self.get_mut(link) else { return false };
        (link.heard_at, link.in_doubt) = (now, false);
        link.round_trip.pinged(took);
        self.choose()
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

    /// For how many more posts, or frames of mail, the best way has room in a lane.
    pub(super) fn room(&self, priority: Priority) -> usize {
        let best = self.best.and_then(|best| self.get(best));
        best.map_or(0, |best| LANE_CREDIT.saturating_sub(best.lanes[priority.lane()].frames()))
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

    /// Those not in doubt first; of these direct before relayed; among these the one in use, unless another is much
    /// faster; else the fastest, the oldest. True when that is another than before.
    fn choose(&mut self) -> bool {
        let in_doubt = self.links.iter().all(|link| link.in_doubt);
        let trusted = self.links.iter().filter(|link| link.in_doubt == in_doubt);
        let relayed = trusted.clone().all(LinkWay::is_relayed);
        let candidates = trusted.filter(|link| link.is_relayed() == relayed);
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
        let best = best.map(|link| link.id);
        std::mem::replace(&mut self.best, best) != best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(id: u64, kind: ConnectionKind) -> Link {
        let address = "/ip4/192.0.2.1/tcp/1".parse().expect("an address");
        Link { id: LinkId(id), kind, address, outbound: true }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Opens a link, and has the others show that they live.
    fn open(ways: &mut Ways, id: u64, kind: ConnectionKind) {
        for other in ways.opened(Duration::ZERO, &link(id, kind)) {
            ways.heard(Duration::ZERO, other);
        }
    }

    fn pinged(ways: &mut Ways, id: u64, millis: u64) {
        ways.pinged(Duration::ZERO, LinkId(id), Duration::from_millis(millis));
    }

    #[test]
    fn direct_goes_before_relayed_and_the_one_in_use_before_another_like_it() {
        let mut ways = Ways::default();
        assert_eq!(ways.best(), None);
        open(&mut ways, 1, ConnectionKind::Webrtc);
        open(&mut ways, 2, ConnectionKind::Relayed);
        assert_eq!(ways.best(), Some(LinkId(1)), "back to the direct one as soon as it has answered");
        open(&mut ways, 3, ConnectionKind::Quic);
        assert_eq!(ways.best(), Some(LinkId(3)), "the newest took over, and there is no reason to go back");
        pinged(&mut ways, 1, 1);
        assert_eq!(ways.best(), Some(LinkId(3)));
        ways.closed(LinkId(3));
        assert_eq!(ways.best(), Some(LinkId(1)));
        ways.closed(LinkId(1));
        assert_eq!(ways.best(), Some(LinkId(2)), "back to the relay");
        ways.closed(LinkId(2));
        assert_eq!(ways.best(), None);
    }

    #[test]
    fn a_much_faster_link_is_worth_changing_to_and_a_little_faster_one_is_not() {
        let mut ways = Ways::default();
        open(&mut ways, 4, ConnectionKind::Relayed);
        open(&mut ways, 2, ConnectionKind::Quic);
        open(&mut ways, 3, ConnectionKind::Quic);
        open(&mut ways, 1, ConnectionKind::Tcp);
        pinged(&mut ways, 1, 100);
        pinged(&mut ways, 2, 60);
        assert_eq!(ways.best(), Some(LinkId(1)));
        pinged(&mut ways, 3, 20);
        assert_eq!(ways.best(), Some(LinkId(3)));
        pinged(&mut ways, 4, 1);
        assert_eq!(ways.best(), Some(LinkId(3)), "never a relay while there is another way");
    }

    #[test]
    fn the_link_heard_from_last_wins_until_the_others_have_answered() {
        let mut ways = Ways::default();
        assert_eq!(ways.opened(Duration::ZERO, &link(1, ConnectionKind::Webrtc)), []);
        assert_eq!(ways.opened(SECOND, &link(2, ConnectionKind::Relayed)), [LinkId(1)], "it is asked");
        assert_eq!(ways.best(), Some(LinkId(2)), "though it is a relay: the other may have died before");
        assert!(ways.heard(SECOND, LinkId(1)), "it lives");
        assert_eq!(ways.best(), Some(LinkId(1)));
        assert!(!ways.heard(SECOND, LinkId(1)), "which is nothing new");

        assert!(
            !ways.overdue(LinkId(1), SECOND / 2),
            "something came by it since: only the acknowledgement is missing"
        );
        assert!(ways.overdue(LinkId(1), SECOND));
        assert_eq!(ways.best(), Some(LinkId(2)));
        assert!(ways.overdue(LinkId(2), SECOND));
        assert_eq!(ways.best(), Some(LinkId(1)), "all are in doubt, so none is");
        ways.closed(LinkId(1));
        assert!(!ways.overdue(LinkId(2), SECOND), "there is no other to take");
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
