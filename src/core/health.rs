//! The counters.

use crate::{event::RejectReason, message::Priority, peer::NetworkStats};

pub(crate) struct Health {
    pub(crate) stats: NetworkStats,
}

impl Default for Health {
    /// Every reason is there from the start, so that a counter that stays at 0 can be seen to do so.
    fn default() -> Self {
        let rejections = RejectReason::ALL.map(|reason| (reason.as_str(), 0)).into();
        Self { stats: NetworkStats { rejections, ..NetworkStats::default() } }
    }
}

impl Health {
    pub(crate) fn accepted(&mut self, priority: Priority) {
        self.stats.messages_accepted.count(priority);
    }

    pub(crate) fn sent(&mut self, priority: Priority, count: u64) {
        for _ in 0..count {
            self.stats.messages_sent.count(priority);
        }
    }

    pub(crate) fn rejected(&mut self, reason: RejectReason) {
        *self.stats.rejections.entry(reason.as_str()).or_default() += 1;
    }
}
