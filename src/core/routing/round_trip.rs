//! How long an acknowledgement takes, measured per link (RFC 6298), and so when its absence means something.
//!
//! The links are reliable streams: what is lost is told with the lane or the link. So a time-out is for the rare case
//! that the acknowledgement was lost, or that the receiver dropped what it had read, and the RFC's floor of a second
//! stands. A receiver that acknowledges only what it has stored is measured with its storing.

use std::time::Duration;

/// What is taken before anything has been measured (RFC 6298, 2.1).
const INITIAL: Duration = Duration::from_secs(1);

/// The shortest time-out (RFC 6298, 2.4).
const SHORTEST: Duration = Duration::from_secs(1);

/// The finest the clocks tell, as far as a time-out is concerned (RFC 6298, 2: G).
const GRANULARITY: Duration = Duration::from_millis(1);

/// The longest a lane waits for its old link when a better one stands.
const LONGEST_HANDOVER: Duration = Duration::from_secs(2);

/// Doublings of the time-out beyond this change nothing: the upper bound is far below.
const MOST_DOUBLINGS: u32 = 16;

#[derive(Debug, Default, Clone)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    /// Time-outs since the last measurement; each doubles the time-out (RFC 6298, 5.5).
    timed_out: u32,
}

impl RoundTrip {
    /// A message's acknowledgement took so long. Only of messages sent once: of others nobody knows which sending was
    /// acknowledged (Karn's rule; RFC 6298, 3).
    pub(super) fn measured(&mut self, took: Duration) {
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(took), took / 2),
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(took)) / 4;
                self.smoothed = Some((smoothed * 7 + took) / 8);
            }
        }
        self.timed_out = 0;
    }

    /// A ping took so long: better than nothing until a message has been measured.
    pub(super) fn pinged(&mut self, took: Duration) {
        if self.smoothed.is_none() {
            self.measured(took);
        }
    }

    /// An acknowledgement did not come in time.
    pub(super) fn timed_out(&mut self) {
        self.timed_out = (self.timed_out + 1).min(MOST_DOUBLINGS);
    }

    /// After how long without progress what is under way counts as lost; at most `longest`.
    pub(super) fn time_out(&self, longest: Duration) -> Duration {
        let once = self.smoothed.map_or(INITIAL, |smoothed| smoothed + (self.variation * 4).max(GRANULARITY));
        once.max(SHORTEST).saturating_mul(1 << self.timed_out).min(longest)
    }

    /// How long a lane waits for the acknowledgements of its old link before it goes on by a better one: they come
    /// within a time-out, or not soon.
    pub(super) fn handover(&self) -> Duration {
        let usual = self.smoothed.map_or(INITIAL, |smoothed| smoothed * 2 + self.variation * 4);
        usual.clamp(INITIAL / 10, LONGEST_HANDOVER)
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(5);

    #[test]
    fn it_follows_what_is_measured_and_keeps_its_bounds() {
        let mut trip = RoundTrip::default();
        assert_eq!(trip.time_out(LONGEST), Duration::from_secs(1), "nothing is known yet");
        // The figures of RFC 6298, 2.2 and 2.3.
        trip.measured(Duration::from_millis(800));
        assert_eq!(trip.time_out(LONGEST), Duration::from_millis(800 + 4 * 400));
        trip.measured(Duration::from_millis(1600));
        assert_eq!(trip.smoothed(), Some(Duration::from_millis(900)));
        assert_eq!(trip.time_out(LONGEST), Duration::from_millis(900 + 4 * 500));
        for _ in 0..100 {
            trip.measured(Duration::from_millis(2));
        }
        assert_eq!(trip.time_out(LONGEST), Duration::from_secs(1), "the floor");
        for seconds in [2, 4, 5, 5] {
            trip.timed_out();
            assert_eq!(trip.time_out(LONGEST), Duration::from_secs(seconds), "it backs off, up to the bound");
        }
        trip.measured(Duration::from_millis(2));
        assert_eq!(trip.time_out(LONGEST), Duration::from_secs(1), "and a measurement ends that");
        assert_eq!(trip.time_out(Duration::from_millis(100)), Duration::from_millis(100), "the bound is the user's");
    }

    #[test]
    fn a_ping_counts_until_a_message_was_measured() {
        let mut trip = RoundTrip::default();
        trip.pinged(Duration::from_millis(200));
        assert_eq!(trip.smoothed(), Some(Duration::from_millis(200)));
        trip.measured(Duration::from_millis(200));
        trip.pinged(Duration::from_secs(9));
        assert_eq!(trip.smoothed(), Some(Duration::from_millis(200)));
    }

    #[test]
    fn a_handover_waits_some_round_trips_and_never_long() {
        let mut trip = RoundTrip::default();
        trip.measured(Duration::from_micros(10));
        assert_eq!(trip.handover(), Duration::from_millis(100));
        let mut trip = RoundTrip::default();
        trip.measured(Duration::from_secs(60));
        assert_eq!(trip.handover(), LONGEST_HANDOVER);
    }
}
