//! What the core knows and the transfers need, and what they tell the world.

use std::collections::VecDeque;

use super::{Judgement, TransferOutput};
use crate::{
    core::{Now, Output, connections::Connections, routing::Outbox, upgrades::Upgrades},
    error::TransferError,
    event::NetworkEvent,
    peer::NetworkStats,
    transfer::{PayloadHash, TransferKey, TransferState},
};

/// What the core knows and the transfers need.
pub(in crate::core) struct World<'a> {
    pub(in crate::core) now: Now,
    pub(in crate::core) connections: &'a Connections,
    pub(in crate::core) upgrades: &'a Upgrades,
    /// It keeps the budget of bytes.
    pub(in crate::core) outbox: &'a mut Outbox,
    pub(in crate::core) draining: bool,
    pub(in crate::core) stats: &'a mut NetworkStats,
    pub(in crate::core) out: &'a mut VecDeque<Output>,
}

impl World<'_> {
    pub(super) fn wish(&mut self, wish: TransferOutput) {
        self.out.push_back(Output::Transfer(wish));
    }

    pub(super) fn judge(&mut self, attempt: u64, judgement: Judgement) {
        self.wish(TransferOutput::Judge { attempt, judgement });
    }

    pub(super) fn show(&mut self, key: TransferKey, state: TransferState) {
        self.wish(TransferOutput::Show { key, state });
    }

    /// The end of a transfer, told once.
    pub(super) fn end(&mut self, key: TransferKey, transferred: u64, result: Result<PayloadHash, TransferError>) {
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
