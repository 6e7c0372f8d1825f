//! Messages of which a mailbox keeps a copy: they wait longer, and their receipts say where.

use std::time::Duration;

use libp2p::PeerId;

use super::{Outbox, lane::Why, queue::tell};
use crate::core::{
    Now, Output,
    input::{KeptAt, OutgoingMessage},
};

impl Outbox {
    /// What has not ended of a lane to a peer, behind a nonce, in order, as far as somebody waits for what becomes of it.
    pub(crate) fn waiting_after(
        &self,
        peer: &PeerId,
        lane: usize,
        after: Option<u64>,
    ) -> impl Iterator<Item = &OutgoingMessage> {
        let lane = self.queues.get(peer).map(|queue| &queue.lanes[lane]);
        let entries = lane.into_iter().flat_map(move |lane| {
            let first = after.map_or(0, |after| lane.first_from(after.saturating_add(1)));
            lane.iter_from(first)
        });
        entries.filter(|entry| entry.receipt).map(|entry| &entry.message)
    }

    /// A mailbox keeps a message for so long. Returns where it is kept now; `None` when it has ended.
    pub(crate) fn kept(
        &mut self,
        now: Now,
        peer: PeerId,
        nonce: u64,
        mailbox: PeerId,
        kept_for: Duration,
        out: &mut impl Extend<Output>,
    ) -> Option<KeptAt> {
        let (lane, at) = self.find(peer, nonce)?;
        let timeout = self.config.timeout;
        let queue = self.queues.get_mut(&peer)?;
        let away = queue.ways.is_empty();
        let entry = queue.lanes[lane].get_mut(at)?;
        queue.ends.remove(&(entry.message.end(timeout), lane, nonce));
        let until = now.since_start + kept_for;
        let kept = entry.message.kept.get_or_insert_with(|| Box::new(KeptAt { at: Vec::new(), until }));
        kept.until = kept.until.max(until);
        if !kept.at.contains(&mailbox) {
            kept.at.push(mailbox);
        }
        let kept = (**kept).clone();
        if away {
            tell(entry, Why::Kept, out);
        }
        queue.ends.insert((entry.message.end(timeout), lane, nonce));
        self.rearm(peer);
        Some(kept)
    }
}
