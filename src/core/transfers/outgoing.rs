//! What is sent: whose turn it is, and when a cut one is tried again.

use std::time::Duration;

use super::{
    MAX_CORRUPT, TransferOutput, Transfers, World,
    ways::{self, DIRECT_WAIT, Way},
};
use crate::{
    core::LinkId,
    error::TransferError,
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
    /// Bytes in all, when that is known.
    pub(super) length: Option<u64>,
    /// The attempt that runs.
    pub(super) attempt: Option<u64>,
    /// The circuit that it uses, and what has been promised to it of that and not been moved.
    pub(super) circuit: Option<(LinkId, u64)>,
    /// Since when only circuits lead to the peer.
    pub(super) relayed_since: Option<Duration>,
    /// While it waits for a direct connection: until when.
    pub(super) direct_until: Option<Duration>,
    /// The circuits that there are may carry no more than this.
    pub(super) narrow: Option<u64>,
    /// While its attempt waits for bytes of the budget: since when, and until when.
    pub(super) asked: Option<(Duration, Duration)>,
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
            Outcome::Spent => {
                if let Some((link, left)) = &mut outgoing.circuit {
                    // Nothing of it is free for another one.
                    self.circuits.promise(key.peer, *link, u64::MAX);
                    *left = 0;
                }
                "the circuit may carry no more of transfers".to_owned()
            }
            Outcome::Broken(reason) => reason,
            Outcome::Revoked => "another attempt took over".to_owned(),
        };
        if let Some((link, left)) = outgoing.circuit.take() {
            self.circuits.give_back(link, left);
        }
        tracing::debug!(peer = %key.peer, id = %key.id, %reason, "an attempt to send was cut");
        let now = world.now.since_start;
        let pause = match outgoing.failures {
            0 => Duration::ZERO,
            failures => (FIRST_PAUSE * 2u32.saturating_pow(failures - 1)).min(LONGEST_PAUSE),
        };
        (outgoing.attempt, outgoing.asked) = (None, None);
        outgoing.failures += 1;
        outgoing.retry_at = now + pause;
        outgoing.until.get_or_insert(now + self.config.resume_timeout);
        outgoing.obstacle = reason;
        let state = if outgoing.accepted { TransferState::Interrupted } else { TransferState::Waiting };
        world.show(key, state);
    }

    /// Begins what may begin.
    pub(super) fn pump(&mut self, world: &mut World<'_>) {
        self.circuits.look(world.connections);
        self.move_to_direct(world);
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
            let way = self.way(world, &key);
            let Some(outgoing) = self.outgoing.get_mut(&key) else { continue };
            outgoing.direct_until = None;
            outgoing.narrow = None;
            match way {
                Way::None => {
                    outgoing.until.get_or_insert(now + self.config.resume_timeout);
                    // A pause that is over is no deadline any more.
                    outgoing.retry_at = if outgoing.retry_at <= now { Duration::ZERO } else { outgoing.retry_at };
                }
                // To wait for others is no failure.
                _ if !has_turn => (outgoing.until, outgoing.retry_at) = (None, Duration::ZERO),
                Way::Direct(_) | Way::Circuit { .. } if outgoing.retry_at > now => {}
                Way::Direct(link) => self.begin(world, key, link, None),
                Way::Circuit { link, room } => self.begin(world, key, link, room),
                Way::Soon(until) => {
                    outgoing.direct_until = Some(until);
                    outgoing.retry_at = Duration::ZERO;
                }
                Way::Narrow { limit } => {
                    outgoing.until.get_or_insert(now + self.config.resume_timeout);
                    outgoing.narrow = Some(limit);
                    outgoing.retry_at = Duration::ZERO;
                }
            }
        }
    }

    /// Grants bytes to those who want them, whoever has waited longest first.
    pub(super) fn grant(&mut self, world: &mut World<'_>) {
        let now = world.now;
        let asked = self.outgoing.iter().filter_map(|(key, outgoing)| outgoing.asked.map(|(since, _)| (since, *key)));
        let mut asked = asked.collect::<Vec<_>>();
        asked.sort_unstable();
        for (since, key) in asked {
            let answer = world.outbox.ration(now, &key.peer, now.since_start.saturating_sub(since));
            let Some(outgoing) = self.outgoing.get_mut(&key) else { continue };
            match answer {
                Ok(bytes) => {
                    outgoing.asked = None;
                    world.wish(TransferOutput::Grant { key, bytes });
                }
                Err(at) => outgoing.asked = Some((since, at)),
            }
        }
    }

    /// The way that there is for one of them.
    fn way(&mut self, world: &World<'_>, key: &TransferKey) -> Way {
        let links = world.connections.links(&key.peer);
        let Some(outgoing) = self.outgoing.get_mut(key) else { return Way::None };
        if links.is_empty() || ways::direct(&links).is_some() {
            outgoing.relayed_since = None;
        }
        let since = *outgoing.relayed_since.get_or_insert(world.now.since_start);
        let until = world.upgrades.may_come(&key.peer, &links).then_some(since + DIRECT_WAIT);
        let needed = outgoing.length.map(|length| length.saturating_sub(outgoing.transferred));
        self.circuits.choose(world.now, key.peer, &links, needed, until)
    }

    fn begin(&mut self, world: &mut World<'_>, key: TransferKey, link: LinkId, room: Option<u64>) {
        let Some(outgoing) = self.outgoing.get_mut(&key) else { return };
        self.next += 1;
        outgoing.attempt = Some(self.next);
        outgoing.asked = None;
        let relayed = ways::direct(&world.connections.links(&key.peer)).is_none();
        outgoing.circuit = relayed.then_some((link, room.unwrap_or_default()));
        self.circuits.promise(key.peer, link, room.unwrap_or_default());
        if !outgoing.accepted {
            world.show(key, TransferState::Offered);
        }
        // The length that was promised is bound enough.
        let most = room.filter(|_| outgoing.length.is_none());
        world.wish(TransferOutput::Begin { key, attempt: self.next, link, most });
    }

    /// What runs on a circuit goes on by a direct connection as soon as one stands: the circuit will be closed, and the
    /// relay has others to serve. The new attempt takes over from the old one where that is.
    fn move_to_direct(&mut self, world: &mut World<'_>) {
        let relayed =
            self.outgoing.iter().filter(|(_, outgoing)| outgoing.attempt.is_some() && outgoing.circuit.is_some());
        for key in relayed.map(|(key, _)| *key).collect::<Vec<_>>() {
            let Some(link) = ways::direct(&world.connections.links(&key.peer)) else { continue };
            if let Some((circuit, left)) = self.outgoing.get_mut(&key).and_then(|outgoing| outgoing.circuit.take()) {
                self.circuits.give_back(circuit, left);
            }
            tracing::debug!(peer = %key.peer, id = %key.id, "a transfer goes on directly");
            self.begin(world, key, link, None);
        }
    }
}
