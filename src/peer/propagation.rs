//! How posts spread, in figures.

use serde::Serialize;

/// Posts of this node and of others, since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PropagationStats {
    /// Posts that spread along trees; also those of other implementations.
    pub gossip: StrategyStats,
    /// Posts that every node passes on to all its neighbours.
    pub flood: StrategyStats,
    /// Broadcasts to peers named by their author; they arrive like direct messages and are counted with these.
    pub directed: StrategyStats,
    /// Posts that a neighbour was only told of.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub told: u64,
    /// Posts that this node missed and asked a neighbour for.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub asked: u64,
    /// Posts that neighbours missed and got on their asking.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub answered: u64,
    /// Posts of groups that this node is no member of, which it handed on for members beyond it.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub carried: u64,
    /// Posts that were dropped for one neighbour because too many waited for it; it is told of them when it has caught
    /// up.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub shed: u64,
    /// Posts that ended here because they had been forwarded often enough.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub at_hop_limit: u64,
}

/// The posts of one strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct StrategyStats {
    /// This node's own.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub posted: u64,
    /// Other nodes', each counted once.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub received: u64,
    /// Copies of posts that were here already.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub duplicates: u64,
    /// Copies handed on to neighbours, own posts included.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub forwarded: u64,
    /// How often the received ones had been forwarded, all together.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub hops: u64,
}

impl StrategyStats {
    /// Copies received for each post beyond the first; 0 when none came.
    pub fn redundancy(&self) -> f64 {
        if self.received == 0 { 0.0 } else { self.duplicates as f64 / self.received as f64 }
    }

    /// How often a received post had been forwarded, on average; 0 when none came.
    pub fn mean_hops(&self) -> f64 {
        if self.received == 0 { 0.0 } else { self.hops as f64 / self.received as f64 }
    }
}
