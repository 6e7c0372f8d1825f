//! The counters.

use std::{collections::BTreeMap, sync::Arc};

use crate::{event::RejectReason, message::Priority, peer::NetworkStats};

pub(crate) struct Health {
    /// All but the rejections.
    pub(crate) stats: NetworkStats,
    /// Apart, since a snapshot of the others is taken at every turn.
    pub(crate) rejections: Arc<BTreeMap<&'static str, u64>>,
}

impl Default for Health {
    /// Every reason is there from the start, so that a counter that stays at 0 can be seen to do so.
    fn default() -> Self {
        let rejections = BTreeMap::from(RejectReason::ALL.map(|reason| (reason.as_str(), 0)));
        Self { stats: NetworkStats::default(), rejections: Arc::new(rejections) }
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
        *Arc::make_mut(&mut self.rejections).entry(reason.as_str()).or_default() += 1;
    }
}
