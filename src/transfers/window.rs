//! How much may be under way: as much as keeps the way busy, and so little that no queue grows in front of anybody.
//!
//! After LEDBAT (RFC 6817): the time from a chunk's leaving to its acknowledgement is compared with the shortest seen;
//! what it takes longer is the queue that this transfer makes, in the socket, in the peer's buffers, before its writer.
//! The window grows while that queue is short and shrinks when it is long. Unlike RFC 6817 the target is a few
//! milliseconds, since an urgent message on the same connection stands behind the same queue, and the growth in the
//! beginning is that of TCP's slow start.

use std::{collections::VecDeque, time::Duration};

use super::tree::UNIT;

/// The queue that a transfer may make: a tenth of what an urgent message may be late, since there is one at each end and
/// the machine has other things to do. Measured on a loopback, more of it brings no throughput.
const QUEUE: Duration = Duration::from_millis(1);

/// Where the way is so fast that a chunk of a third of the window takes no longer than this, it may be that large: every
/// chunk costs a frame, a hash and a turn.
const QUICK_CHUNK: Duration = Duration::from_micros(400);

/// On long ways so much of the way's own time is allowed in addition: its jitter alone is longer than [`QUEUE`].
const QUEUE_OF_ROUND_TRIP: u32 = 4;

/// What a transfer begins with, bytes.
const FIRST: u64 = 8 * UNIT;

/// After this time the shortest round trip is measured anew, since the way may have become another one.
const MEMORY: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Window {
    size: u64,
    limit: u64,
    /// No queue has been seen yet: the window grows by all that is acknowledged.
    beginning: bool,
    /// What left and is not acknowledged: where it ends, and when it left.
    under_way: VecDeque<(u64, Duration)>,
    acknowledged: u64,
    sent: u64,
    /// The shortest round trip of this span and of the one before.
    shortest: [Option<Duration>; 2],
    span_until: Duration,
    /// The last one.
    round_trip: Duration,
    /// Whether the window was what held the sender back since the last acknowledgement.
    was_full: bool,
}

impl Window {
    /// A window that never grows over `limit` bytes, for a transfer that goes on at `offset`.
    pub(crate) fn new(limit: u64, offset: u64) -> Self {
        let limit = limit.max(2 * UNIT);
        Self {
            size: FIRST.min(limit),
            limit,
            beginning: true,
            under_way: VecDeque::new(),
            acknowledged: offset,
            sent: offset,
            shortest: [None; 2],
            span_until: Duration::ZERO,
            round_trip: Duration::MAX,
            was_full: false,
        }
    }

    /// How long the next chunk may be; `None` while too much is under way. An eighth of the window, so that
    /// acknowledgements come in a steady stream and the time that a chunk itself takes looks like no queue.
    pub(crate) fn room(&mut self) -> Option<u64> {
        let per_second = self.size as f64 / self.round_trip.as_secs_f64().max(1e-6);
        let quick = (per_second * QUICK_CHUNK.as_secs_f64()) as u64;
        let chunk = (self.size / 8).max(quick.min(self.size / 3)).max(UNIT);
        let room = self.sent - self.acknowledged + chunk <= self.size;
        self.was_full |= !room;
        room.then_some(chunk)
    }

    /// A chunk leaves.
    pub(crate) fn sent(&mut self, now: Duration, end: u64) {
        self.under_way.push_back((end, now));
        self.sent = end;
    }

    /// Everything before `offset` has arrived.
    pub(crate) fn acknowledged(&mut self, now: Duration, offset: u64) {
        let newly = offset.saturating_sub(self.acknowledged);
        let mut left_at = None;
        while let Some((end, at)) = self.under_way.front()
            && *end <= offset
        {
            left_at = Some(*at);
            self.under_way.pop_front();
        }
        let Some(left_at) = left_at else { return };
        self.acknowledged = offset;
        self.adapt(now, now.saturating_sub(left_at), newly);
    }

    fn adapt(&mut self, now: Duration, round_trip: Duration, newly: u64) {
        self.round_trip = round_trip;
        if self.span_until <= now {
            self.span_until = now + MEMORY / 2;
            self.shortest = [None, self.shortest[0]];
        }
        let shortest = self.shortest[0].map_or(round_trip, |known| known.min(round_trip));
        self.shortest[0] = Some(shortest);
        let base = self.shortest.iter().flatten().min().copied().unwrap_or(round_trip);
        let queue = round_trip.saturating_sub(base);
        let target = QUEUE.max(base / QUEUE_OF_ROUND_TRIP);
        let grow = std::mem::take(&mut self.was_full);
        if self.beginning && queue < target / 2 {
            self.size += if grow { newly } else { 0 };
        } else {
            self.beginning = false;
            // From -1, where the queue is twice as long as it may be or longer, to 1, where there is none. What is done
            // about it shows a round trip later; the gain is half of what would make that swing for ever.
            let off = (1.0 - queue.as_secs_f64() / target.as_secs_f64()).max(-1.0);
            let gain = 0.5 * target.as_secs_f64() / (base + target).as_secs_f64();
            let step = newly as f64 * off * gain;
            if step < 0.0 || grow {
                self.size = self.size.saturating_add_signed(step as i64);
            }
        }
        self.size = self.size.clamp((2 * UNIT).min(self.limit), self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A way of so many bytes a second and so long a round trip, and a window that has run on it for a while. Returns
    /// the rate that was reached and the longest queue of the second half.
    fn run(rate: f64, round_trip: Duration, seconds: u64) -> (f64, Duration) {
        let mut window = Window::new(64 << 20, 0);
        let (mut now, end) = (Duration::ZERO, Duration::from_secs(seconds));
        let mut free_at = Duration::ZERO;
        let mut coming = VecDeque::<(Duration, u64)>::new();
        let (mut sent, mut carried, mut longest) = (0, 0, Duration::ZERO);
        while now < end {
            while let Some(chunk) = window.room() {
                sent += chunk;
                window.sent(now, sent);
                free_at = free_at.max(now) + Duration::from_secs_f64(chunk as f64 / rate);
                coming.push_back((free_at + round_trip, sent));
                if now > end / 2 {
                    longest = longest.max(free_at - now);
                }
            }
            let (at, offset) = coming.pop_front().expect("something is under way");
            now = at;
            window.acknowledged(now, offset);
            if now > end / 2 {
                carried = carried.max(offset);
            }
        }
        (carried as f64 / now.as_secs_f64(), longest)
    }

    #[test]
    fn fast_and_slow_long_and_short_ways_are_filled_and_no_queue_grows_long() {
        for (rate, round_trip, longest) in [
            (800e6, Duration::from_micros(200), Duration::from_millis(8)),
            (10e6, Duration::from_millis(2), Duration::from_millis(12)),
            (10e6, Duration::from_millis(100), Duration::from_millis(60)),
            (100e6, Duration::from_millis(30), Duration::from_millis(25)),
        ] {
            let (reached, queue) = run(rate, round_trip, 20);
            assert!(reached > 0.8 * rate, "{rate} bytes/s at {round_trip:?}: only {reached}");
            assert!(queue < longest, "{rate} bytes/s at {round_trip:?}: a queue of {queue:?}");
        }
    }

    #[test]
    fn a_sender_with_little_to_say_gets_no_large_window_for_it() {
        let mut window = Window::new(1 << 20, 0);
        for at in 1..1000 {
            let now = Duration::from_millis(at * 10);
            let _ = window.room().expect("nothing is under way");
            window.sent(now, at * 100);
            window.acknowledged(now + Duration::from_millis(1), at * 100);
        }
        assert_eq!(window.size, FIRST);
    }

    #[test]
    fn acknowledgements_of_what_was_not_sent_change_nothing() {
        let mut window = Window::new(1 << 20, 0);
        window.sent(Duration::ZERO, UNIT);
        window.acknowledged(Duration::from_millis(1), 0);
        assert_eq!(window.under_way.len(), 1);
        window.acknowledged(Duration::from_millis(1), UNIT);
        window.acknowledged(Duration::from_millis(1), UNIT);
        assert!(window.under_way.is_empty());
    }
}
