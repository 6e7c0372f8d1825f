//! Which transfers run, when a cut one is tried again, and which offers are let in.
//!
//! An outgoing transfer waits, runs, and waits again when its attempt breaks; an incoming one is offered, runs, and is
//! cut until its sender comes back. Invariant: every transfer has a deadline while it doesn't run, and is told to the app
//! exactly once when it is over.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use super::{Now, Output, connections::Connections};
use crate::{
    config::TransfersConfig,
    error::TransferError,
    event::NetworkEvent,
    peer::{ConnectionState, NetworkStats},
    transfer::{Outcome, PayloadHash, TransferDirection, TransferId, TransferKey, TransferState},
};

/// The pause after an attempt that brought nothing; it doubles with each. One that brought something is followed by the
/// next at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Attempts in a row that ended with a damaged chunk.
const MAX_CORRUPT: u32 = 3;

/// Incoming transfers that are over and remembered, so that a sender who didn't hear of it isn't believed to offer
/// something new.
const REMEMBERED: usize = 256;

/// Facts about transfers.
#[derive(Debug)]
pub(crate) enum TransferInput {
    /// The app sends something.
    Send { peer: PeerId, id: TransferId },
    /// The app gave one up.
    Cancel(TransferKey),
    /// A peer offers something; `attempt` names its stream.
    Offered { peer: PeerId, id: TransferId, attempt: u64, length: Option<u64> },
    /// The app took an offer.
    Taken(TransferKey),
    /// The app doesn't want an offer.
    Declined(TransferKey, String),
    /// So much is verified and written, and so many bytes were moved since the last time.
    Progress { key: TransferKey, attempt: u64, transferred: u64, moved: u64 },
    /// An attempt has ended.
    Ended { key: TransferKey, attempt: u64, outcome: Outcome, moved: u64 },
    /// The peer gave one up.
    Stopped { peer: PeerId, id: TransferId, by_sender: bool, reason: String },
}

/// Wishes about transfers.
#[derive(Debug, PartialEq)]
pub(crate) enum TransferOutput {
    /// Open a stream and try.
    Begin { key: TransferKey, attempt: u64 },
    /// Ask the app whether it wants what this attempt offers.
    Offer { key: TransferKey, attempt: u64 },
    /// Answer an offer.
    Judge { attempt: u64, judgement: Judgement },
    /// Show where it stands; after a final state it is forgotten.
    Show { key: TransferKey, state: TransferState },
    /// Tell the other side that it is over.
    Tell { key: TransferKey, reason: String },
}

/// The answer to an offer.
#[derive(Debug, PartialEq)]
pub(crate) enum Judgement {
    /// Go on with this one.
    Join(TransferKey),
    Declined(String),
    Unanswered,
    Busy,
    TooLong(u64),
    /// It was complete before.
    Done(PayloadHash),
    /// It failed before.
    Over(String),
    /// The sender offers the same on another stream.
    Superseded,
}

#[derive(Debug)]
struct Outgoing {
    /// Those that wait begin in the order in which they came.
    turn: u64,
    /// The attempt that runs.
    attempt: Option<u64>,
    /// While none runs: not before.
    retry_at: Duration,
    /// While none runs: not after. Stays when attempts bring nothing.
    until: Option<Duration>,
    accepted: bool,
    failures: u32,
    corrupt: u32,
    transferred: u64,
    obstacle: String,
}

#[derive(Debug)]
enum Stage {
    Offered { attempt: u64, until: Duration },
    Running { attempt: u64 },
    Cut { until: Duration },
}

#[derive(Debug)]
struct Incoming {
    stage: Stage,
    corrupt: u32,
    transferred: u64,
}

pub(super) struct Transfers {
    config: TransfersConfig,
    outgoing: BTreeMap<TransferKey, Outgoing>,
    incoming: BTreeMap<TransferKey, Incoming>,
    over: VecDeque<(TransferKey, Result<PayloadHash, String>)>,
    next: u64,
}

/// What the core knows and the transfers need.
pub(super) struct World<'a> {
    pub(super) now: Now,
    pub(super) connections: &'a Connections,
    pub(super) draining: bool,
    pub(super) stats: &'a mut NetworkStats,
    pub(super) out: &'a mut VecDeque<Output>,
}

impl World<'_> {
    fn wish(&mut self, wish: TransferOutput) {
        self.out.push_back(Output::Transfer(wish));
    }

    fn judge(&mut self, attempt: u64, judgement: Judgement) {
        self.wish(TransferOutput::Judge { attempt, judgement });
    }

    fn show(&mut self, key: TransferKey, state: TransferState) {
        self.wish(TransferOutput::Show { key, state });
    }

    /// The end of a transfer, told once.
    fn end(&mut self, key: TransferKey, transferred: u64, result: Result<PayloadHash, TransferError>) {
        let (state, error) = match result {
            Ok(hash) => (TransferState::Finished { hash }, None),
            Err(error) => (TransferState::Failed { error: error.clone() }, Some(error)),
        };
        match error {
            None => self.stats.transfers_finished += 1,
            Some(_) => self.stats.transfers_failed += 1,
        }
        self.show(key, state);
        let TransferKey { direction, peer, id } = key;
        self.out.push_back(Output::Event(NetworkEvent::TransferEnded { id, peer, direction, transferred, error }));
    }
}

/// Facts in.
impl Transfers {
    pub(super) fn new(config: &TransfersConfig) -> Self {
        let (outgoing, incoming) = (BTreeMap::new(), BTreeMap::new());
        Self { config: config.clone(), outgoing, incoming, over: VecDeque::new(), next: 0 }
    }

    /// Takes one fact in.
    pub(super) fn handle(&mut self, mut world: World<'_>, input: TransferInput) {
        let world = &mut world;
        match input {
            TransferInput::Send { peer, id } => {
                self.next += 1;
                let key = TransferKey { direction: TransferDirection::Outgoing, peer, id };
                let outgoing = Outgoing {
                    turn: self.next,
                    attempt: None,
                    retry_at: Duration::ZERO,
                    until: None,
                    accepted: false,
                    failures: 0,
                    corrupt: 0,
                    transferred: 0,
                    obstacle: "no connection to it was made".to_owned(),
                };
                if world.draining {
                    world.end(key, 0, Err(TransferError::ShutDown));
                } else {
                    self.outgoing.insert(key, outgoing);
                }
            }
            TransferInput::Cancel(key) => self.cancel(world, key),
            TransferInput::Offered { peer, id, attempt, length } => {
                let key = TransferKey { direction: TransferDirection::Incoming, peer, id };
                self.offered(world, key, attempt, length);
            }
            TransferInput::Taken(key) => {
                let Some(incoming) = self.incoming.get_mut(&key) else { return };
                let Stage::Offered { attempt, .. } = incoming.stage else { return };
                incoming.stage = Stage::Running { attempt };
                world.judge(attempt, Judgement::Join(key));
            }
            TransferInput::Declined(key, reason) => {
                let Some(Incoming { stage: Stage::Offered { attempt, .. }, .. }) = self.incoming.get(&key) else {
                    return;
                };
                world.judge(*attempt, Judgement::Declined(reason.clone()));
                self.refused(world, key, reason);
            }
            TransferInput::Progress { key, attempt, transferred, moved } => {
                self.progress(world, key, attempt, transferred, moved);
            }
            TransferInput::Ended { key, attempt, outcome, moved } => {
                count_moved(world.stats, key.direction, moved);
                match key.direction {
                    TransferDirection::Outgoing => self.sent(world, key, attempt, outcome),
                    TransferDirection::Incoming => self.received(world, key, attempt, outcome),
                }
            }
            TransferInput::Stopped { peer, id, by_sender, reason } => {
                let direction = if by_sender { TransferDirection::Incoming } else { TransferDirection::Outgoing };
                let key = TransferKey { direction, peer, id };
                self.forget(world, key, Err(TransferError::CancelledByPeer { peer, reason }));
            }
        }
        self.pump(world);
    }

    /// Time has passed, or a connection has come or gone.
    pub(super) fn look(&mut self, mut world: World<'_>) {
        self.expire(&mut world);
        self.pump(&mut world);
    }

    /// Shutdown: what is sent is given up, and the receivers are told. What is received only ends here: its sender may
    /// find this node again.
    pub(super) fn drain(&mut self, mut world: World<'_>) {
        for key in self.outgoing.keys().copied().collect::<Vec<_>>() {
            world.wish(TransferOutput::Tell { key, reason: "the sender was shut down".to_owned() });
            self.forget(&mut world, key, Err(TransferError::ShutDown));
        }
        for key in self.incoming.keys().copied().collect::<Vec<_>>() {
            self.forget(&mut world, key, Err(TransferError::ShutDown));
        }
    }
}

/// Getters.
impl Transfers {
    /// When to look at the latest.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let waiting = self.outgoing.values().filter(|outgoing| outgoing.attempt.is_none());
        let sending = waiting.flat_map(|outgoing| [Some(outgoing.retry_at).filter(|at| !at.is_zero()), outgoing.until]);
        let receiving = self.incoming.values().map(|incoming| match incoming.stage {
            Stage::Offered { until, .. } | Stage::Cut { until } => Some(until),
            Stage::Running { .. } => None,
        });
        sending.chain(receiving).flatten().min()
    }

    /// Whether something waits for this peer to be connected.
    pub(super) fn wants(&self, peer: &PeerId) -> bool {
        self.outgoing.iter().any(|(key, outgoing)| key.peer == *peer && outgoing.attempt.is_none())
    }

    /// Peers for whom something waits.
    pub(super) fn wanted(&self) -> Vec<PeerId> {
        let waiting = self.outgoing.iter().filter(|(_, outgoing)| outgoing.attempt.is_none());
        let mut peers = waiting.map(|(key, _)| key.peer).collect::<Vec<_>>();
        peers.dedup();
        peers
    }

    /// Why a peer can't be reached, for the error of what waits for it.
    pub(super) fn obstacle(&mut self, peer: &PeerId, reason: &str) {
        for (_, outgoing) in self.outgoing.iter_mut().filter(|(key, _)| key.peer == *peer) {
            outgoing.obstacle = reason.to_owned();
        }
    }
}

/// What follows.
impl Transfers {
    fn offered(&mut self, world: &mut World<'_>, key: TransferKey, attempt: u64, length: Option<u64>) {
        if let Some(incoming) = self.incoming.get_mut(&key) {
            match &mut incoming.stage {
                Stage::Offered { attempt: old, .. } => {
                    let old = std::mem::replace(old, attempt);
                    world.judge(old, Judgement::Superseded);
                }
                stage @ (Stage::Running { .. } | Stage::Cut { .. }) => {
                    *stage = Stage::Running { attempt };
                    world.judge(attempt, Judgement::Join(key));
                    world.show(key, TransferState::Running);
                }
            }
            return;
        }
        if let Some((_, end)) = self.over.iter().find(|(over, _)| *over == key) {
            return world.judge(
                attempt,
                match end {
                    Ok(hash) => Judgement::Done(*hash),
                    Err(reason) => Judgement::Over(reason.clone()),
                },
            );
        }
        let config = &self.config;
        if length.is_some_and(|length| length > config.max_length) {
            world.stats.offers_refused += 1;
            return world.judge(attempt, Judgement::TooLong(config.max_length));
        }
        let waiting = self.incoming.values().filter(|incoming| matches!(incoming.stage, Stage::Offered { .. })).count();
        let of_peer = self.incoming.keys().filter(|other| other.peer == key.peer).count();
        let full = waiting >= config.offers_waiting
            || of_peer >= config.max_per_peer
            || self.incoming.len() >= config.max_active;
        if full || world.draining {
            world.stats.offers_refused += 1;
            return world.judge(attempt, Judgement::Busy);
        }
        let until = world.now.since_start + config.offer_timeout;
        let stage = Stage::Offered { attempt, until };
        self.incoming.insert(key, Incoming { stage, corrupt: 0, transferred: 0 });
        world.wish(TransferOutput::Offer { key, attempt });
    }

    fn progress(&mut self, world: &mut World<'_>, key: TransferKey, attempt: u64, transferred: u64, moved: u64) {
        count_moved(world.stats, key.direction, moved);
        let known = match key.direction {
            TransferDirection::Outgoing => self.outgoing.get_mut(&key).and_then(|outgoing| {
                if outgoing.attempt != Some(attempt) {
                    return None;
                }
                outgoing.accepted = true;
                if transferred > outgoing.transferred {
                    (outgoing.failures, outgoing.corrupt, outgoing.until) = (0, 0, None);
                }
                Some(&mut outgoing.transferred)
            }),
            TransferDirection::Incoming => self.incoming.get_mut(&key).and_then(|incoming| {
                if !matches!(incoming.stage, Stage::Running { attempt: running } if running == attempt) {
                    return None;
                }
                if transferred > incoming.transferred {
                    incoming.corrupt = 0;
                }
                Some(&mut incoming.transferred)
            }),
        };
        let Some(known) = known else { return };
        let moved_on = *known != transferred;
        *known = transferred;
        world.show(key, TransferState::Running);
        if moved_on {
            let TransferKey { direction, peer, id } = key;
            world.out.push_back(Output::Event(NetworkEvent::TransferProgress { id, peer, direction, transferred }));
        }
    }

    /// An attempt to send has ended.
    fn sent(&mut self, world: &mut World<'_>, key: TransferKey, attempt: u64, outcome: Outcome) {
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

    /// An attempt to receive has ended.
    fn received(&mut self, world: &mut World<'_>, key: TransferKey, attempt: u64, outcome: Outcome) {
        let Some(incoming) = self.incoming.get_mut(&key) else { return };
        if !matches!(incoming.stage, Stage::Running { attempt: running } if running == attempt) {
            return;
        }
        match outcome {
            Outcome::Finished(hash) => return self.forget(world, key, Ok(hash)),
            Outcome::Failed(error) => return self.forget(world, key, Err(error)),
            Outcome::Corrupt { offset } => {
                incoming.corrupt += 1;
                if incoming.corrupt >= MAX_CORRUPT {
                    return self.forget(world, key, Err(TransferError::Corrupt { offset }));
                }
            }
            Outcome::Broken(_) | Outcome::Unsupported | Outcome::Revoked => {}
        }
        incoming.stage = Stage::Cut { until: world.now.since_start + self.config.resume_timeout };
        world.show(key, TransferState::Interrupted);
    }

    fn cancel(&mut self, world: &mut World<'_>, key: TransferKey) {
        let known = self.outgoing.contains_key(&key) || self.incoming.contains_key(&key);
        if known {
            world.wish(TransferOutput::Tell { key, reason: "the app gave it up".to_owned() });
            self.forget(world, key, Err(TransferError::Cancelled));
        }
    }

    /// An offer that the app never took.
    fn refused(&mut self, world: &mut World<'_>, key: TransferKey, reason: String) {
        self.incoming.remove(&key);
        world.stats.offers_refused += 1;
        self.remember(key, Err(reason));
        // Nobody holds it any more, or who does finds it gone.
        world.show(key, TransferState::Failed { error: TransferError::Gone });
    }

    /// The end of a transfer.
    fn forget(&mut self, world: &mut World<'_>, key: TransferKey, result: Result<PayloadHash, TransferError>) {
        let transferred = match key.direction {
            TransferDirection::Outgoing => self.outgoing.remove(&key).map(|outgoing| outgoing.transferred),
            TransferDirection::Incoming => self.incoming.remove(&key).map(|incoming| {
                if let Stage::Offered { attempt, .. } = incoming.stage {
                    world.judge(attempt, Judgement::Superseded);
                }
                incoming.transferred
            }),
        };
        let Some(transferred) = transferred else { return };
        if key.direction == TransferDirection::Incoming {
            self.remember(key, result.clone().map_err(|error| error.to_string()));
        }
        world.end(key, transferred, result);
    }

    fn remember(&mut self, key: TransferKey, end: Result<PayloadHash, String>) {
        if self.over.len() >= REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back((key, end));
    }

    /// Begins what may begin.
    fn pump(&mut self, world: &mut World<'_>) {
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

    /// Ends what has waited too long.
    fn expire(&mut self, world: &mut World<'_>) {
        let now = world.now.since_start;
        let waited = self.config.resume_timeout;
        let late = self
            .outgoing
            .iter()
            .filter(|(_, outgoing)| outgoing.attempt.is_none() && outgoing.until.is_some_and(|until| until <= now));
        for (key, reason) in late.map(|(key, outgoing)| (*key, outgoing.obstacle.clone())).collect::<Vec<_>>() {
            self.forget(world, key, Err(TransferError::Unreachable { peer: key.peer, waited, reason }));
        }
        for key in self.incoming.keys().copied().collect::<Vec<_>>() {
            match self.incoming.get(&key).map(|incoming| &incoming.stage) {
                Some(Stage::Offered { attempt, until }) if *until <= now => {
                    world.judge(*attempt, Judgement::Unanswered);
                    self.refused(world, key, "nobody took it in time".to_owned());
                }
                Some(Stage::Cut { until }) if *until <= now => {
                    let reason = "its sender did not come back".to_owned();
                    self.forget(world, key, Err(TransferError::Unreachable { peer: key.peer, waited, reason }));
                }
                _ => {}
            }
        }
    }
}

fn count_moved(stats: &mut NetworkStats, direction: TransferDirection, moved: u64) {
    match direction {
        TransferDirection::Outgoing => stats.transfer_bytes_sent += moved,
        TransferDirection::Incoming => stats.transfer_bytes_received += moved,
    }
}

#[cfg(test)]
mod tests;
