//! What differs between the targets below the network: time, threads, randomness, storage, and who computes signatures.
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

#[cfg(test)]
pub(crate) use here::block_on;
pub(crate) use here::{
    Disk, File, Lock, Signer, Storage, Verifier, Wakes, offload, spawn, start, start_writer, swarm_config,
};

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use web_time::{Instant, SystemTime, UNIX_EPOCH};

/// What the platform tells of the node's life.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake {
    /// The node goes on after it was stopped for a while, or its network is another one: its connections may be dead.
    pub(crate) woken: bool,
    /// Whether there is a network, when that has changed. Without one, only this machine itself can be reached.
    pub(crate) online: Option<bool>,
}

/// The node's clock: it goes forward while the node is awake. All clones show the same time.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    start: Instant,
    /// Microseconds that passed asleep.
    slept: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that stands at zero.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), slept: Arc::default() }
    }

    /// Time since the start, without time asleep. Between the waking and the driver's notice of it, others read a time
    /// that is late by the sleep.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_micros(self.slept.load(Ordering::Relaxed)))
    }

    /// So much of the time that has passed was slept.
    pub(crate) fn leave_out(&self, slept: Duration) {
        let micros = u64::try_from(slept.as_micros()).unwrap_or(u64::MAX);
        self.slept.fetch_add(micros, Ordering::Relaxed);
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
