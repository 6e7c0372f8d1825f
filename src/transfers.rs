//! Payloads of any length, from a reader here into a writer there: the protocol `/cpc/1.0.0/transfer`, described in
//! `proto/transfer.proto`.
//!
//! A transfer is made of attempts, one libp2p stream each. What an attempt says and takes is decided by machines without
//! IO (`sender`, `receiver`, over `tree` and `window`); `send` and `receive` are the tasks that read and write, on the
//! task of their connection. What outlives an attempt is in a `shell`, what the app holds in `handle`. Which transfers
//! run, and when a cut one is tried again, the core decides (`core/transfers.rs`).

mod attempt;
mod behaviour;
mod collect;
mod credit;
mod frame;
#[allow(missing_docs, unreachable_pub, clippy::doc_markdown)]
#[rustfmt::skip]
mod generated;
mod handle;
mod handler;
mod incoming;
mod pipe;
mod prefix;
mod receive;
mod receiver;
mod room;
mod send;
mod sender;
mod shell;
mod source;
mod tree;
mod window;

use std::time::Duration;

use libp2p::StreamProtocol;

pub use handle::Transfer;
pub use incoming::{IncomingTransfer, Transfers};
pub use prefix::TransferPrefix;
pub use source::TransferSource;

pub(crate) use behaviour::{Behaviour, Event};
pub(crate) use frame::{RefuseReason, StopReason};
pub(crate) use handle::{Ask, Desk, Outbox, Watch};
pub(crate) use incoming::{Inbox, Offers};
pub(crate) use receive::Verdict;
pub(crate) use room::Room;

use crate::config::{BandwidthConfig, TransfersConfig};

/// The name under which the streams are negotiated.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/cpc/1.0.0/transfer");

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// An offer until its answer.
    pub(crate) offer: Duration,
    /// The other side without a word.
    pub(crate) idle: Duration,
    /// The other side with words, and nothing moves.
    pub(crate) stall: Duration,
}

/// What attempts need to know of the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) patience: Patience,
    pub(crate) max_length: u64,
    pub(crate) max_chunk: u64,
    /// The largest chunk that is sent, where that is less.
    pub(crate) sent_chunk: u64,
    pub(crate) window: u64,
    /// What leaves has a budget.
    pub(crate) rationed: bool,
}

impl Settings {
    /// Of a configuration that has been checked.
    pub(crate) fn new(config: &TransfersConfig, bandwidth: &BandwidthConfig) -> Self {
        // What the budget lets leave in a quarter of a second, so that a last word needn't wait long behind a chunk.
        let slow = (bandwidth.total.min(bandwidth.per_peer) / 4).clamp(tree::UNIT, config.chunk_size as u64);
        Self {
            rationed: bandwidth.limited,
            sent_chunk: if bandwidth.limited { slow } else { config.chunk_size as u64 },
            patience: Patience { offer: config.offer_timeout, idle: config.idle_timeout, stall: config.stall_timeout },
            max_length: config.max_length,
            max_chunk: config.chunk_size as u64,
            window: config.window as u64,
        }
    }
}

#[cfg(test)]
mod tests;
