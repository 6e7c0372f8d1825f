//! What differs between the targets below the network: time, threads, randomness, storage.
//!
//! The twins `native` and `browser` have the same signatures; nobody outside chooses between them.

#[cfg(browser)]
mod browser;
#[cfg(native)]
mod native;

#[cfg(browser)]
use browser as here;
#[cfg(native)]
use native as here;

pub(crate) use here::{Storage, offload, spawn, start, swarm_config};

use std::time::Duration;

use web_time::{Instant, SystemTime, UNIX_EPOCH};

/// The node's clocks: the one that only goes forward, and the wall's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that stands at zero.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The wall's clock, milliseconds since the Unix epoch; 0 before it.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A random number nobody can guess.
pub(crate) fn random() -> u64 {
    // The system's source fails only where there is none at all; such a machine can't make keys either.
    getrandom::u64().expect("the system has a source of randomness")
}
