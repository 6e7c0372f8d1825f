//! What is received: which offers are let in, and what becomes of them.

use std::time::Duration;

use super::{Judgement, MAX_CORRUPT, TransferOutput, Transfers, World};
use crate::{
    error::TransferError,
    transfer::{Outcome, TransferKey, TransferState},
};

#[derive(Debug)]
pub(super) enum Stage {
    Offered { attempt: u64, until: Duration },
    Running { attempt: u64 },
    Cut { until: Duration },
}

#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) stage: Stage,
    pub(super) corrupt: u32,
    pub(super) transferred: u64,
}

impl Transfers {
    pub(super) fn offered(&mut self, world: &mut World<'_>, key: TransferKey, attempt: u64, length: Option<u64>) {
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

    /// An attempt to receive has ended.
    pub(super) fn received(&mut self, world: &mut World<'_>, key: TransferKey, attempt: u64, outcome: Outcome) {
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
            Outcome::Broken(_) | Outcome::Unsupported | Outcome::Revoked | Outcome::Spent => {}
        }
        incoming.stage = Stage::Cut { until: world.now.since_start + self.config.resume_timeout };
        world.show(key, TransferState::Interrupted);
    }

    /// An offer that the app never took.
    pub(super) fn refused(&mut self, world: &mut World<'_>, key: TransferKey, reason: String) {
        self.incoming.remove(&key);
        world.stats.offers_refused += 1;
        self.remember(key, Err(reason));
        // Nobody holds it any more, or who does finds it gone.
        world.show(key, TransferState::Failed { error: TransferError::Gone });
    }
}
