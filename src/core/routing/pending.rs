//! Broadcasts that nobody could take yet: a node that has just started, or is alone for a moment, may post all the same.

use std::{collections::VecDeque, time::Duration};

use crate::core::{Now, Output, Topic, input::OutgoingMessage};

/// Broadcasts that wait; with more, the oldest is dropped.
const CAPACITY: usize = 256;

/// How long a broadcast that found nobody waits after somebody has come: whoever comes a moment later would miss it.
const COMPANY: Duration = Duration::from_millis(100);

/// How often those that wait are tried again though nobody new listens.
const RETRY: Duration = Duration::from_secs(1);

struct Waiting {
    topic: Topic,
    message: OutgoingMessage,
}

pub(crate) struct Pending {
    timeout: Duration,
    waiting: VecDeque<Waiting>,
    retry_at: Option<Duration>,
}

impl Pending {
    /// Broadcasts wait for at most `timeout`, or their time to live when that is shorter.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, waiting: VecDeque::new(), retry_at: None }
    }

    /// A new broadcast: it is tried at once, behind those that wait already. Returns how many were dropped.
    pub(crate) fn push(
        &mut self,
        now: Now,
        topic: Topic,
        message: OutgoingMessage,
        out: &mut impl Extend<Output>,
    ) -> u64 {
        if self.waiting.iter().any(|waiting| waiting.topic == topic) {
            return self.failed(now, topic, message);
        }
        out.extend([Output::Publish { topic, message }]);
        0
    }

    /// Nobody took a broadcast. Returns how many were dropped to make room for it.
    pub(crate) fn failed(&mut self, now: Now, topic: Topic, message: OutgoingMessage) -> u64 {
        self.waiting.push_back(Waiting { topic, message });
        self.retry_at.get_or_insert(now.since_start + RETRY);
        let dropped = self.waiting.len().saturating_sub(CAPACITY);
        self.waiting.drain(..dropped);
        dropped as u64
    }

    /// Somebody listens to a topic now: what waits for it is tried soon, since others often follow at once.
    pub(crate) fn somebody_listens(&mut self, now: Now, topic: &Topic) {
        if self.waiting.iter().any(|waiting| waiting.topic == *topic) {
            let soon = now.since_start + COMPANY;
            self.retry_at = Some(self.retry_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// The node has slept so long: what is only good for a time has aged, and the rest is tried now.
    pub(crate) fn slept(&mut self, now: Now, slept: Duration) {
        for waiting in &mut self.waiting {
            waiting.message.slept += slept;
        }
        self.retry_at = self.retry_at.map(|at| at.min(now.since_start));
    }

    /// Tries again what waits, and drops what has waited too long. Returns how many were dropped.
    pub(crate) fn tick(&mut self, now: Now, out: &mut impl Extend<Output>) -> u64 {
        if self.retry_at.is_none_or(|at| at > now.since_start) {
            return 0;
        }
        self.retry_at = None;
        let before = self.waiting.len();
        let timeout = self.timeout;
        self.waiting.retain(|Waiting { message, .. }| message.end(timeout) > now.since_start);
        let dropped = before - self.waiting.len();
        let again = std::mem::take(&mut self.waiting);
        out.extend(again.into_iter().map(|Waiting { topic, message }| Output::Publish { topic, message }));
        dropped as u64
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.retry_at
    }
}
