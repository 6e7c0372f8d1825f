//! What happens to the connections that carry the messages, and what follows for these.

use std::time::Duration;

use libp2p::PeerId;

use super::{
    Outbox,
    lane::{Lane, Why},
};
use crate::{
    core::{Link, LinkId, Now, Output},
    message::Priority,
};

impl Outbox {
    /// A connection stands. The peer's others have to show that they still live.
    pub(crate) fn link_opened(&mut self, now: Now, peer: PeerId, link: &Link, out: &mut impl Extend<Output>) {
        let others = self.queues.entry(peer).or_default().ways.opened(now.since_start, link);
        out.extend(others.into_iter().map(Output::Probe));
    }

    /// Something came by a connection. True when messages go another way from now on.
    pub(crate) fn heard(&mut self, now: Now, peer: PeerId, link: LinkId) -> bool {
        self.queues.get_mut(&peer).is_some_and(|queue| queue.ways.heard(now.since_start, link))
    }

    /// A connection is gone: what was under way by it has to be sent again, by another. Returns how many receipts that
    /// ended.
    pub(crate) fn link_closed(&mut self, peer: PeerId, link: LinkId, out: &mut impl Extend<Output>) -> u64 {
        let Some(queue) = self.queues.get_mut(&peer) else { return 0 };
        queue.ways.closed(link);
        let lanes = queue.lanes.iter_mut().filter(|lane| lane.link() == Some(link));
        let given_up = lanes.flat_map(Lane::broke).collect::<Vec<_>>();
        if queue.ways.is_empty() {
            queue.tell_waiting(Why::NotConnected, out);
        }
        let failed = self.give_up_on(peer, given_up, out);
        self.rearm(peer);
        failed
    }

    /// A ping took so long. True when messages go another way from now on.
    pub(crate) fn pinged(&mut self, now: Now, peer: PeerId, link: LinkId, took: Duration) -> bool {
        self.queues.get_mut(&peer).is_some_and(|queue| queue.ways.pinged(now.since_start, link, took))
    }

    /// So many frames of a lane were written.
    pub(crate) fn written(&mut self, now: Now, peer: PeerId, link: LinkId, priority: Priority, count: usize) {
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        let Some(way) = queue.ways.get_mut(link) else { return };
        let handed = &mut way.lanes[priority.lane()];
        let unwritten = handed.messages();
        handed.settle(count);
        let lane = &mut queue.lanes[priority.lane()];
        if lane.link() == Some(link) {
            lane.written(now.since_start, count, unwritten);
            self.rearm(peer);
        }
    }

    /// A lane broke, and so many frames with it; its link stands. Returns how many receipts that ended.
    pub(crate) fn lost(
        &mut self,
        peer: PeerId,
        link: LinkId,
        priority: Priority,
        count: usize,
        out: &mut impl Extend<Output>,
    ) -> u64 {
        let Some(queue) = self.queues.get_mut(&peer) else { return 0 };
        let Some(way) = queue.ways.get_mut(link) else { return 0 };
        way.lanes[priority.lane()].settle(count);
        let lane = &mut queue.lanes[priority.lane()];
        if lane.link() != Some(link) {
            return 0;
        }
        let given_up = lane.broke();
        let failed = self.give_up_on(peer, given_up, out);
        self.rearm(peer);
        failed
    }

    /// Something stood in the way to a peer; it will be the reason if its messages fail.
    pub(crate) fn obstacle(&mut self, peer: PeerId, what: &str) {
        if let Some(queue) = self.queues.get_mut(&peer)
            && queue.live() > 0
        {
            queue.obstacle = Some(what.to_owned());
        }
    }
}
