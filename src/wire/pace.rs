//! How much of the less urgent lanes may be on its way, so that what is urgent never waits long behind it.
//!
//! The lanes of a connection share one socket. What has been written to it waits in the system's buffers and in the
//! network, and nothing overtakes there. So the lower lanes stop once too much of theirs is written and not acknowledged.
//! How much that is, the acknowledgements tell: while they come back quickly the window opens, when they come late
//! because something queues, it closes (as LEDBAT does, RFC 6817).
//!
//! A lane delivers in order, so an acknowledgement of one message speaks for all that were written before it.

use std::{collections::VecDeque, time::Duration};

use web_time::Instant;

use crate::frame::NonceRange;

/// The smallest window, bytes: two writes, so that one is on its way while the next is made.
pub(super) const MIN_WINDOW: usize = 128 * 1024;

/// The largest window, bytes: 100 Mbit/s over a third of a second.
const MAX_WINDOW: usize = 4 * 1024 * 1024;

/// How much later than the quickest acknowledgement one may come before something is taken to queue.
const QUEUEING: Duration = Duration::from_millis(4);

/// The quickest acknowledgement is looked for anew after so long: ways change.
const BASE_AGE: Duration = Duration::from_secs(30);

/// What has not been acknowledged for so long will not be: it was lost, rejected, or its acknowledgement was.
pub(super) const OVERDUE: Duration = Duration::from_secs(3);

/// What one lower lane has on its way.
#[derive(Debug)]
pub(super) struct Pace {
    on_its_way: VecDeque<Written>,
    bytes: usize,
    window: usize,
    /// The quickest acknowledgement, and when it is forgotten.
    base: Option<(Duration, Instant)>,
    /// When the window was last made smaller: once for what is on its way.
    closed_at: Option<Instant>,
}

#[derive(Debug)]
struct Written {
    nonce: u64,
    bytes: usize,
    at: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { on_its_way: VecDeque::new(), bytes: 0, window: MIN_WINDOW, base: None, closed_at: None }
    }

    /// Whether more may be written now. Also says so when the acknowledgements are overdue, so that nothing stands still
    /// for ever.
    pub(super) fn is_open(&mut self, now: Instant) -> bool {
        if self.bytes < self.window {
            return true;
        }
        let overdue = self.on_its_way.front().is_none_or(|oldest| now.duration_since(oldest.at) >= OVERDUE);
        if overdue {
            tracing::debug!(bytes = self.bytes, "a peer acknowledges nothing: its lane goes on without");
            self.forget();
        }
        overdue
    }

    /// A message leaves that will be acknowledged.
    pub(super) fn writes(&mut self, nonce: u64, bytes: usize, now: Instant) {
        self.bytes += bytes;
        self.on_its_way.push_back(Written { nonce, bytes, at: now });
    }

    /// Acknowledgements came: ranges in rising order.
    pub(super) fn acknowledged(&mut self, ranges: &[NonceRange], now: Instant) {
        let is_meant = |nonce| {
            let at = ranges.partition_point(|range| range.last < nonce);
            ranges.get(at).is_some_and(|range| range.first <= nonce)
        };
        let Some(last) = self.on_its_way.iter().rposition(|written| is_meant(written.nonce)) else { return };
        let limited = self.bytes * 2 >= self.window;
        let (mut arrived, mut written_at) = (0, now);
        for written in self.on_its_way.drain(..=last) {
            arrived += written.bytes;
            written_at = written.at;
        }
        self.bytes -= arrived;
        self.on_its_way.shrink_to(64);
        self.adapt(now.duration_since(written_at), arrived, limited, written_at, now);
    }

    /// The lane broke: nothing of it is on its way any more.
    pub(super) fn forget(&mut self) {
        self.on_its_way = VecDeque::new();
        self.bytes = 0;
    }

    fn adapt(&mut self, delay: Duration, arrived: usize, limited: bool, written_at: Instant, now: Instant) {
        let base = match self.base {
            Some((base, until)) if base <= delay && now < until => base,
            _ => {
                self.base = Some((delay, now + BASE_AGE));
                delay
            }
        };
        if delay > base + QUEUEING {
            // Once for each window: what was written before the last time tells nothing new.
            if self.closed_at.is_none_or(|closed_at| written_at > closed_at) {
                self.window = (self.window / 2).max(MIN_WINDOW);
                self.closed_at = Some(now);
            }
        } else if limited {
            // A window that isn't used says nothing of what a larger one would do.
            self.window = (self.window + arrived / 2).min(MAX_WINDOW);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: usize = 16 * 1024;

    fn nonce(first: u64, last: u64) -> [NonceRange; 1] {
        [NonceRange { first, last }]
    }

    /// Writes until the pace says stop; returns how many messages that were.
    fn fill(pace: &mut Pace, next: &mut u64, now: Instant) -> usize {
        let mut count = 0;
        while pace.is_open(now) {
            pace.writes(*next, MESSAGE, now);
            *next += 1;
            count += 1;
        }
        count
    }

    #[test]
    fn a_quick_peer_gets_more_and_a_queue_less() {
        let (mut pace, mut next, mut now) = (Pace::new(), 0, Instant::now());
        assert_eq!(fill(&mut pace, &mut next, now) * MESSAGE, MIN_WINDOW);
        for _ in 0..50 {
            now += Duration::from_millis(1);
            pace.acknowledged(&nonce(0, next - 1), now);
            fill(&mut pace, &mut next, now);
        }
        assert_eq!(pace.bytes, MAX_WINDOW, "nothing queues");
        for _ in 0..20 {
            now += Duration::from_millis(50);
            pace.acknowledged(&nonce(0, next - 1), now);
            fill(&mut pace, &mut next, now);
        }
        assert_eq!(pace.bytes, MIN_WINDOW, "everything queues");
    }

    #[test]
    fn one_acknowledgement_speaks_for_all_before_it() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        // As after a break: not in the order of their nonces.
        for nonce in [7, 8, 3, 4, 9] {
            pace.writes(nonce, MESSAGE, now);
        }
        pace.acknowledged(&nonce(100, 200), now);
        assert_eq!(pace.bytes, 5 * MESSAGE, "not of this lane");
        pace.acknowledged(&nonce(4, 4), now);
        assert_eq!(pace.bytes, MESSAGE);
        pace.acknowledged(&[NonceRange { first: 1, last: 2 }, NonceRange { first: 9, last: 9 }], now);
        assert_eq!((pace.bytes, pace.on_its_way.len()), (0, 0));
    }

    #[test]
    fn a_peer_that_acknowledges_nothing_is_not_waited_for_for_ever() {
        let (mut pace, mut next, now) = (Pace::new(), 0, Instant::now());
        fill(&mut pace, &mut next, now);
        assert!(!pace.is_open(now + OVERDUE / 2));
        assert!(pace.is_open(now + OVERDUE));
        assert_eq!(pace.bytes, 0);
    }
}
