//! What is sent: whose turn it is, and when a cut one is tried again.

use std::time::Duration;

use super::{MAX_CORRUPT, TransferOutput, Transfers, World};
use crate::{
    error::TransferError,
    peer::ConnectionState,
    transfer::{Outcome, TransferKey, TransferState},
};

/// The pause after an attempt that brought nothing; it doubles with each. One that brought something is followed by the
/// next at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Outgoing {
    /// Those that wait begin in the order in which they came.
    pub(super) turn: u64,
    /// The attempt that runs.
    pub(super) attempt: Option<u64>,
    /// While none runs: not before.
    pub(super) retry_at: Duration,
    /// While none runs: not after. Stays when attempts bring nothing.
    pub(super) until: Option<Duration>,
    pub(super) accepted: bool,
    pub(super) failures: u32,
    pub(super) corrupt: u32,
    pub(super) transferred: u64,
    pub(super) obstacle: String,
}

impl Transfers {
    /// An attempt to send has ended.
    pub(super) fn sent(&mut self, world: &mut World<'_>, key: TransferKey, attempt: u64, outcome: Outcome) {
        let Some(outgoing) = self.outgoing.get_mut(&key).filter(|outgoing| outgoing.attempt == Some(attempt)) else {
            return;
        };
        let reason = match outcome {
            Outcome::Finished(hash) => return self.forget(world, key, Ok(hash)),
            Outcome::Failed(error) => return self.forget(world, key, Err(error)),
            Outcome::Unsupported => {
                return self.forget(world, key, Err(TransferError::Unsupported { peer: key.peer }));
            }
            Outcome::Corrupt { offset } => {
                outgoing.corrupt += 1;
                if outgoing.corrupt >= MAX_CORRUPT {
                    return self.forget(world, key, Err(TransferError::Corrupt { offset }));
                }
                "a chunk was damaged".to_owned()
            }
            Outcome::Broken(reason) => reason,
            Outcome::Revoked => "another attempt took over".to_owned(),
        };
        tracing::debug!(peer = %key.peer, id = %key.id, %reason, "an attempt to send was cut");
        let now = world.now.since_start;
        let pause = match outgoing.failures {
            0 => Duration::ZERO,
            failures => (FIRST_PAUSE * 2u32.saturating_pow(failures - 1)).min(LONGEST_PAUSE),
        };
        outgoing.attempt = None;
        outgoing.failures += 1;
        outgoing.retry_at = now + pause;
        outgoing.until.get_or_insert(now + self.config.resume_timeout);
        outgoing.obstacle = reason;
        let state = if outgoing.accepted { TransferState::Interrupted } else { TransferState::Waiting };
        world.show(key, state);
    }

    /// Begins what may begin.
    pub(super) fn pump(&mut self, world: &mut World<'_>) {
        let now = world.now.since_start;
        let mut waiting = Vec::new();
        for (key, outgoing) in self.outgoing.iter().filter(|(_, outgoing)| outgoing.attempt.is_none()) {
            waiting.push((outgoing.turn, *key));
        }
        waiting.sort_unstable();
        for (_, key) in waiting {
            let running = self.outgoing.iter().filter(|(_, other)| other.attempt.is_some());
            let (mut all, mut of_peer) = (0, 0);
            for (other, _) in running {
                all += 1;
                of_peer += usize::from(other.peer == key.peer);
            }
            let has_turn = all < self.config.max_active && of_peer < self.config.max_per_peer;
            let Some(outgoing) = self.outgoing.get_mut(&key) else { continue };
            if world.connections.state(&key.peer) != ConnectionState::Connected {
                outgoing.until.get_or_insert(now + self.config.resume_timeout);
                // A pause that is over is no deadline any more.
                outgoing.retry_at = if outgoing.retry_at <= now { Duration::ZERO } else { outgoing.retry_at };
            } else if !has_turn {
                // To wait for others is no failure.
                (outgoing.until, outgoing.retry_at) = (None, Duration::ZERO);
            } else if outgoing.retry_at <= now {
                self.next += 1;
                outgoing.attempt = Some(self.next);
                if !outgoing.accepted {
                    world.show(key, TransferState::Offered);
                }
                world.wish(TransferOutput::Begin { key, attempt: self.next });
            }
        }
    }
}
