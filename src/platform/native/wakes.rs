//! What wakes a native node: no system tells it the same way, so only the clocks do, which the driver reads.

use std::time::Duration;

use crate::platform::Wake;

/// How late a timer is when the machine, or the process, has slept.
const PAUSE: Duration = Duration::from_secs(5);

/// Hears what wakes the node.
pub(crate) struct Wakes;

impl Wakes {
    /// Begins to listen.
    pub(crate) fn new() -> Self {
        Self
    }

    /// The next reason to look around: none but the clocks.
    pub(crate) async fn next(&mut self) -> Wake {
        std::future::pending().await
    }

    /// A timer that is later than this was held up by sleep.
    pub(crate) fn longest_pause(&self) -> Duration {
        PAUSE
    }
}
