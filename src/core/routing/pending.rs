//! Broadcasts that nobody could take yet: a node that has just started, or is alone for a moment, may post all the same.

use std::{collections::VecDeque, time::Duration};

use crate::{
    core::{Now, input::OutgoingMessage},
    frame::Topic,
};

/// Broadcasts that wait; with more, the oldest is dropped.
const CAPACITY: usize = 256;

/// How long a broadcast that found nobody waits after somebody has come: whoever comes a moment later would miss it.
const COMPANY: Duration = Duration::from_millis(100);

/// How often those that wait are tried again though nobody new listens.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Pending {
    timeout: Duration,
    waiting: VecDeque<OutgoingMessage>,
    retry_at: Option<Duration>,
}

impl Pending {
    /// Broadcasts wait for at most `timeout`, or their time to live when that is shorter.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, waiting: VecDeque::new(), retry_at: None }
    }

    /// Whether earlier broadcasts to a topic wait, behind which later ones have to.
    pub(crate) fn is_before(&self, topic: &Topic) -> bool {
        self.waiting.iter().any(|waiting| is_for(waiting, topic))
    }

    /// Nobody took a broadcast. Returns how many were dropped to make room for it.
    pub(crate) fn failed(&mut self, now: Now, message: OutgoingMessage) -> u64 {
        self.waiting.push_back(message);
        self.retry_at.get_or_insert(now.since_start + RETRY);
        let dropped = self.waiting.len().saturating_sub(CAPACITY);
        self.waiting.drain(..dropped);
        dropped as u64
    }

    /// Somebody listens to a topic now: what waits for it is tried soon, since others often follow at once.
    pub(crate) fn somebody_listens(&mut self, now: Now, topic: &Topic) {
        if self.is_before(topic) {
            let soon = now.since_start + COMPANY;
            self.retry_at = Some(self.retry_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// The node has slept so long: what is only good for a time has aged, and the rest is tried now.
    pub(crate) fn slept(&mut self, now: Now, slept: Duration) {
        for waiting in &mut self.waiting {
            waiting.slept += slept;
        }
        self.retry_at = self.retry_at.map(|at| at.min(now.since_start));
    }

    /// What is tried again now, and how many were dropped because they had waited too long.
    pub(crate) fn tick(&mut self, now: Now) -> (VecDeque<OutgoingMessage>, u64) {
        if self.retry_at.is_none_or(|at| at > now.since_start) {
            return (VecDeque::new(), 0);
        }
        self.retry_at = None;
        let before = self.waiting.len();
        let timeout = self.timeout;
        self.waiting.retain(|message| message.end(timeout) > now.since_start);
        let dropped = before - self.waiting.len();
        (std::mem::take(&mut self.waiting), dropped as u64)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.retry_at
    }
}

fn is_for(message: &OutgoingMessage, topic: &Topic) -> bool {
    message.signed.as_ref().is_some_and(|post| post.topic == *topic)
}
