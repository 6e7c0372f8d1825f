//! Which transfers run, when a cut one is tried again, and which offers are let in.
//!
//! An outgoing transfer waits, runs, and waits again when its attempt breaks; an incoming one is offered, runs, and is
//! cut until its sender comes back. Invariant: every transfer has a deadline while it doesn't run, and is told to the app
//! exactly once when it is over.

mod facts;
mod incoming;
mod outgoing;
mod ways;
mod world;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use super::Output;
use crate::{
    config::TransfersConfig,
    error::TransferError,
    event::NetworkEvent,
    transfer::{PayloadHash, TransferDirection, TransferKey, TransferState},
};

pub(crate) use facts::{Judgement, TransferInput, TransferOutput};
pub(super) use world::World;

use incoming::{Incoming, Stage};
use outgoing::Outgoing;
use ways::Circuits;

/// Attempts in a row that ended with a damaged chunk.
const MAX_CORRUPT: u32 = 3;

/// Incoming transfers that are over and remembered, so that a sender who didn't hear of it isn't believed to offer
/// something new.
const REMEMBERED: usize = 256;

pub(super) struct Transfers {
    config: TransfersConfig,
    outgoing: BTreeMap<TransferKey, Outgoing>,
    incoming: BTreeMap<TransferKey, Incoming>,
    over: VecDeque<(TransferKey, Result<PayloadHash, String>)>,
    circuits: Circuits,
    next: u64,
}

/// Facts in.
impl Transfers {
    pub(super) fn new(config: &TransfersConfig) -> Self {
        let (outgoing, incoming) = (BTreeMap::new(), BTreeMap::new());
        Self {
            config: config.clone(),
            outgoing,
            incoming,
            over: VecDeque::new(),
            circuits: Circuits::default(),
            next: 0,
        }
    }

    /// Takes one fact in.
    pub(super) fn handle(&mut self, mut world: World<'_>, input: TransferInput) {
        let world = &mut world;
        match input {
            TransferInput::Send { peer, id, length } => {
                self.next += 1;
                let key = TransferKey { direction: TransferDirection::Outgoing, peer, id };
                let outgoing = Outgoing {
                    turn: self.next,
                    length,
                    attempt: None,
                    circuit: None,
                    relayed_since: None,
                    direct_until: None,
                    narrow: None,
                    asked: None,
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
            TransferInput::Wants { key, attempt } => {
                let now = world.now.since_start;
                let outgoing = self.outgoing.get_mut(&key).filter(|outgoing| outgoing.attempt == Some(attempt));
                if let Some(outgoing) = outgoing {
                    outgoing.asked.get_or_insert((now, now));
                }
            }
            TransferInput::Ended { key, attempt, outcome, moved } => {
                self.moved(world, &key, attempt, moved);
                match key.direction {
                    TransferDirection::Outgoing => self.sent(world, key, attempt, outcome),
                    TransferDirection::Incoming => self.received(world, key, attempt, outcome),
                }
            }
            TransferInput::CircuitLimit { who, outbound, bytes } => self.circuits.limited(who, outbound, bytes),
            TransferInput::Stopped { peer, id, by_sender, reason } => {
                let direction = if by_sender { TransferDirection::Incoming } else { TransferDirection::Outgoing };
                let key = TransferKey { direction, peer, id };
                self.forget(world, key, Err(TransferError::CancelledByPeer { peer, reason }));
            }
        }
        self.pump(world);
        self.grant(world);
    }

    /// Time has passed, or a connection has come or gone.
    pub(super) fn look(&mut self, mut world: World<'_>) {
        self.expire(&mut world);
        self.pump(&mut world);
        self.grant(&mut world);
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
        let sending = waiting.flat_map(|outgoing| {
            [Some(outgoing.retry_at).filter(|at| !at.is_zero()), outgoing.until, outgoing.direct_until]
        });
        let receiving = self.incoming.values().map(|incoming| match incoming.stage {
            Stage::Offered { until, .. } | Stage::Cut { until } => Some(until),
            Stage::Running { .. } => None,
        });
        let granting = self.outgoing.values().map(|outgoing| outgoing.asked.map(|(_, at)| at));
        sending.chain(receiving).chain(granting).flatten().min()
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
    fn progress(&mut self, world: &mut World<'_>, key: TransferKey, attempt: u64, transferred: u64, moved: u64) {
        self.moved(world, &key, attempt, moved);
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

    /// Bytes were moved: they are counted, and are no promise of a circuit any more.
    fn moved(&mut self, world: &mut World<'_>, key: &TransferKey, attempt: u64, moved: u64) {
        match key.direction {
            TransferDirection::Outgoing => world.stats.transfer_bytes_sent += moved,
            TransferDirection::Incoming => world.stats.transfer_bytes_received += moved,
        }
        let outgoing = self.outgoing.get_mut(key).filter(|outgoing| outgoing.attempt == Some(attempt));
        if let Some((_, left)) = outgoing.and_then(|outgoing| outgoing.circuit.as_mut()) {
            *left = left.saturating_sub(moved);
        }
    }

    fn cancel(&mut self, world: &mut World<'_>, key: TransferKey) {
        let known = self.outgoing.contains_key(&key) || self.incoming.contains_key(&key);
        if known {
            world.wish(TransferOutput::Tell { key, reason: "the app gave it up".to_owned() });
            self.forget(world, key, Err(TransferError::Cancelled));
        }
    }

    /// The end of a transfer.
    fn forget(&mut self, world: &mut World<'_>, key: TransferKey, result: Result<PayloadHash, TransferError>) {
        let transferred = match key.direction {
            TransferDirection::Outgoing => self.outgoing.remove(&key).map(|outgoing| {
                if let Some((link, left)) = outgoing.circuit {
                    self.circuits.give_back(link, left);
                }
                outgoing.transferred
            }),
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

    /// Ends what has waited too long.
    fn expire(&mut self, world: &mut World<'_>) {
        let now = world.now.since_start;
        let waited = self.config.resume_timeout;
        let late = self
            .outgoing
            .iter()
            .filter(|(_, outgoing)| outgoing.attempt.is_none() && outgoing.until.is_some_and(|until| until <= now));
        let error = |key: &TransferKey, outgoing: &Outgoing| match outgoing.narrow {
            Some(limit) => TransferError::RelayLimited { peer: key.peer, limit, waited },
            None => TransferError::Unreachable { peer: key.peer, waited, reason: outgoing.obstacle.clone() },
        };
        for (key, error) in late.map(|(key, outgoing)| (*key, error(key, outgoing))).collect::<Vec<_>>() {
            self.forget(world, key, Err(error));
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

#[cfg(test)]
mod tests;
