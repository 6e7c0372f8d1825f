//! What transfers may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::durations;

/// Payloads that are streamed from a reader into a writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct TransfersConfig {
    /// The longest payload that this node takes, in bytes. 1 to 2^53, what JavaScript counts exactly. Default 2^40, 1 TiB.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub max_length: u64,
    /// The largest chunk that is sent or taken at once, in bytes; each transfer that runs holds two. A power of two from
    /// 16384 to 1048576. Default 262144.
    pub chunk_size: usize,
    /// How much of one transfer may be under way without having been acknowledged, in bytes. It is used as far as the way
    /// is long and fast. 65536 to 67108864. Default 8388608.
    pub window: usize,
    /// How many transfers run at a time, each way; more wait or are refused. 1 to 1024. Default 64.
    pub max_active: usize,
    /// How many transfers run at a time with one peer, each way. 1 to 256. Default 8.
    pub max_per_peer: usize,
    /// How many outgoing transfers this node holds, running and waiting. 1 to 65536. Default 1024.
    pub max_waiting: usize,
    /// How many offers wait for the app. 1 to 1024. Default 32.
    pub offers_waiting: usize,
    /// How long an offer waits for its answer. 1 s to 1 h. Default 60 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub offer_timeout: Duration,
    /// After how long without a word from the other side an attempt is given up, and another one is made. 1 s to 10 min.
    /// Default 30 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub idle_timeout: Duration,
    /// How long a transfer may stand still though the other side is there: a writer that takes nothing, a source that
    /// gives nothing. 1 s to 7 days. Default 10 min.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub stall_timeout: Duration,
    /// How long a transfer waits for a connection, at first and after a cut. 1 s to 7 days. Default 2 min.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub resume_timeout: Duration,
}

impl Default for TransfersConfig {
    fn default() -> Self {
        Self {
            max_length: 1 << 40,
            chunk_size: 256 * 1024,
            window: 8 * 1024 * 1024,
            max_active: 64,
            max_per_peer: 8,
            max_waiting: 1024,
            offers_waiting: 32,
            offer_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(10 * 60),
            resume_timeout: Duration::from_secs(2 * 60),
        }
    }
}
