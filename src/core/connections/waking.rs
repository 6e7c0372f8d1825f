//! What waking up, and being without a network, means for connections.

use std::time::Duration;

use libp2p::PeerId;

use super::{Connections, state::State};
use crate::core::{Now, random::Random};

/// Connections that break so soon after the node has woken have broken while it slept.
const GRACE: Duration = Duration::from_secs(10);

/// Nodes that wake at the same moment, such as by the same network's return, come back within so long.
const STAGGER: Duration = Duration::from_millis(250);

/// The shortest pause before another attempt while there is no network: a browser may be wrong about that.
pub(crate) const OFFLINE_PAUSE: Duration = Duration::from_secs(15);

impl Connections {
    /// The node goes on after a sleep, or in another network: what failed before is tried again now, and what breaks now
    /// is nobody's fault. Returns the peers that are tried again.
    pub(crate) fn woken(&mut self, now: Now, random: &mut Random) -> Vec<PeerId> {
        self.grace_until = now.since_start + GRACE;
        for dial in self.dials.values_mut() {
            dial.interrupted = true;
        }
        let mut hurried = Vec::new();
        for (peer, entry) in &mut self.peers {
            if let State::Disconnected { retry_at: Some(at) } = &mut entry.state {
                entry.failures = 0;
                hurried.push((*peer, at));
            }
        }
        // In an order of their own, so that the same run is the same again.
        hurried.sort_unstable_by_key(|(peer, _)| *peer);
        for (_, at) in &mut hurried {
            **at = (**at).min(now.since_start + random.up_to(STAGGER));
        }
        hurried.into_iter().map(|(peer, _)| peer).collect()
    }

    /// Whether there is a network.
    pub(crate) fn set_online(&mut self, online: bool) {
        self.online = online;
    }

    /// Whether the node has just woken, so that what fails now has failed while it slept.
    pub(crate) fn is_waking(&self, now: Now) -> bool {
        now.since_start < self.grace_until
    }
}
