//! How posts spread.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::durations;

/// How broadcasts to all and to groups spread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct PropagationConfig {
    /// How a post spreads that doesn't say it itself ([`Message::with_propagation`](crate::Message::with_propagation)).
    /// Default `gossip`.
    pub strategy: Strategy,
    /// How often a post may be forwarded (CPC: 7). All nodes of a network should agree. 1 to 64. Default 7.
    pub max_hops: u32,
    /// How many nodes that are no members of a group may lie in a row between members: so far its posts are carried, by
    /// this node too, which verifies them, hands them on and keeps them from its app. 0: this node carries nothing, and
    /// hears only of those groups' members that are its neighbours. 0 to 64. Default 7.
    pub max_carriers: u32,
    /// Which share of the neighbours that don't get a post itself is told of it in each round; the others are told in
    /// the next ones. 0.1 to 1. Default 0.5.
    pub gossip_factor: f32,
    /// How many posts one such notice names, and how many missed ones a neighbour is asked for at a time. 1 to 1000.
    /// Default 100.
    pub batch_size: usize,
    /// How often such a round is. A post that was lost on its way is had again after one to two rounds. 10 ms to 1 min.
    /// Default 300 ms.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub round: Duration,
    /// How long a post is kept for neighbours that miss it. 1 s to 1 h. Default 2 min.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub keep_for: Duration,
    /// How many posts are kept so; the oldest go first. 16 to 65536. Default 2048.
    pub keep_posts: usize,
    /// How many bytes of posts are kept so. 65536 to 1073741824. Default 8 MiB.
    pub keep_bytes: usize,
    /// How many posts may wait for one slow neighbour; then those of the lowest priority are dropped for it, the oldest
    /// first, and it is only told of them. 16 to 65536. Default 512.
    pub queue_posts: usize,
}

impl Default for PropagationConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::Gossip,
            max_hops: 7,
            max_carriers: 7,
            gossip_factor: 0.5,
            batch_size: 100,
            round: Duration::from_millis(300),
            keep_for: Duration::from_secs(120),
            keep_posts: 2048,
            keep_bytes: 8 * 1024 * 1024,
            queue_posts: 512,
        }
    }
}

/// How a post spreads when nobody is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Strategy {
    /// Along trees that form by themselves: nearly every node gets each post once.
    #[default]
    Gossip,
    /// To every neighbour: most robust, and as many copies as there are connections.
    Flood,
}
