//! Notices that the node has slept: a closed laptop, a stopped process, a frozen page.
//!
//! Time asleep is left out of the node's clock, so that no deadline of the core comes closer by it: nobody could have
//! kept it. Two signs tell of it. The driver's timer is late: the clock went on while nothing ran. Or the wall's clock
//! went further than the other, which stands still while some systems sleep. (So it does when somebody sets it forward;
//! then the node looks around for nothing.)

use std::time::Duration;

use super::{Driver, now};
use crate::{
    core::{Input, Now},
    platform::Wake,
};

/// What passed while the node slept.
#[derive(Debug, PartialEq, Eq)]
struct Slept {
    /// Counted by the clock that only goes forward.
    counted: Duration,
    /// Known to the wall's clock only.
    uncounted: Duration,
}

/// Compares the clocks with those of the last look, and with when the timer was due.
fn slept(last: Now, due: Option<Duration>, now: Now) -> Slept {
    let wall = Duration::from_millis(now.unix_millis.saturating_sub(last.unix_millis));
    let passed = now.since_start.saturating_sub(last.since_start);
    let late = due.map_or(Duration::ZERO, |due| now.since_start.saturating_sub(due.max(last.since_start)));
    Slept { counted: late, uncounted: wall.saturating_sub(passed) }
}

impl Driver {
    /// Looks at the clocks before anything else is done with what has come, so that the core hears first that it slept.
    pub(super) fn notice_sleep(&mut self, wake: Option<Wake>) {
        let Slept { counted, uncounted } = slept(self.looked, self.timer_at, now(&self.clock));
        let slept = counted + uncounted;
        if slept > self.wakes.longest_pause() || wake.is_some_and(|wake| wake.woken) {
            self.clock.leave_out(counted);
            tracing::debug!(?slept, "the node has slept, or its network has changed");
            self.handle(Input::Woken { slept });
        }
        self.looked = now(&self.clock);
        if let Some(online) = wake.and_then(|wake| wake.online) {
            tracing::debug!(online, "the network");
            self.handle(Input::Online(online));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, wall: u64) -> Now {
        Now { since_start: Duration::from_secs(seconds), unix_millis: wall * 1000 }
    }

    fn told(last: Now, due: Option<u64>, now: Now) -> (u64, u64) {
        let Slept { counted, uncounted } = slept(last, due.map(Duration::from_secs), now);
        (counted.as_secs(), uncounted.as_secs())
    }

    #[test]
    fn sleep_shows_in_one_clock_or_in_the_other() {
        assert_eq!(told(at(10, 1000), Some(12), at(11, 1001)), (0, 0), "something came before the timer");
        assert_eq!(told(at(10, 1000), Some(11), at(3611, 4601)), (3600, 0), "the timer is an hour late");
        assert_eq!(told(at(10, 1000), Some(11), at(11, 4601)), (0, 3600), "the clock stood still for an hour");
        assert_eq!(told(at(10, 1000), Some(11), at(111, 4701)), (100, 3600), "both");
        assert_eq!(told(at(10, 1000), None, at(70, 1060)), (0, 0), "without a timer nothing is late");
        assert_eq!(told(at(10, 1000), Some(11), at(11, 400)), (0, 0), "a wall clock that is set back says nothing");
        assert_eq!(told(at(10, 1000), Some(0), at(11, 1001)), (1, 0), "what was late at the last look isn't again");
    }
}
