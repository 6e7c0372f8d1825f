//! What a peer's conduct says of it. Today: a score that falls with each rejection and recovers with time. Bans and rate
//! limits are not here yet.

use std::{collections::HashMap, time::Duration};

use libp2p::PeerId;

use super::Now;
use crate::event::RejectReason;

/// How long a peer has to behave until half of what it lost is forgiven.
const HALF_LIFE: Duration = Duration::from_secs(10 * 60);

/// Peers that have offended are remembered up to this many; the most nearly forgiven is forgotten first.
const CAPACITY: usize = 4096;

#[derive(Default)]
pub(crate) struct Trust {
    /// Only peers that have offended.
    offenders: HashMap<PeerId, Offender>,
}

struct Offender {
    /// From 0 to 1, at the time below.
    guilt: f32,
    at: Duration,
}

impl Offender {
    fn guilt(&self, now: Now) -> f32 {
        let half_lives = now.since_start.saturating_sub(self.at).as_secs_f32() / HALF_LIFE.as_secs_f32();
        self.guilt * (-half_lives).exp2()
    }
}

impl Trust {
    /// A peer sent what had to be rejected.
    pub(crate) fn offence(&mut self, now: Now, peer: PeerId, reason: RejectReason) {
        if self.offenders.len() >= CAPACITY && !self.offenders.contains_key(&peer) {
            let mildest = self.offenders.iter().min_by(|(_, one), (_, two)| one.guilt(now).total_cmp(&two.guilt(now)));
            if let Some(mildest) = mildest.map(|(peer, _)| *peer) {
                self.offenders.remove(&mildest);
            }
        }
        let offender = self.offenders.entry(peer).or_insert(Offender { guilt: 0.0, at: now.since_start });
        let guilt = offender.guilt(now);
        // Each offence takes its share of what is left, so the score never falls below 0.
        *offender = Offender { guilt: guilt + (1.0 - guilt) * weight(reason), at: now.since_start };
    }

    /// From 0 (a nuisance) to 1.
    pub(crate) fn score(&self, now: Now, peer: &PeerId) -> f32 {
        1.0 - self.offenders.get(peer).map_or(0.0, |offender| offender.guilt(now))
    }
}

/// What honest peers can cause too, by a slow clock or a late leave, weighs little.
fn weight(reason: RejectReason) -> f32 {
    match reason {
        RejectReason::Oversized
        | RejectReason::Malformed
        | RejectReason::WrongSignature
        | RejectReason::Unsigned
        | RejectReason::ForgedRecord => 0.2,
        RejectReason::Replayed | RejectReason::WrongRecipient | RejectReason::Unsolicited => 0.1,
        RejectReason::Truncated | RejectReason::TooManyLanes | RejectReason::CorruptChunk => 0.05,
        RejectReason::Expired | RejectReason::TooManyHops | RejectReason::UnknownGroup | RejectReason::WrongSeal => {
            0.01
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { since_start: Duration::from_secs(seconds), unix_millis: 0 }
    }

    #[test]
    fn offences_cost_and_time_heals() {
        let (mut trust, peer) = (Trust::default(), PeerId::random());
        assert_eq!(trust.score(at(0), &peer), 1.0);
        for _ in 0..50 {
            trust.offence(at(0), peer, RejectReason::WrongSignature);
        }
        let low = trust.score(at(0), &peer);
        assert!((0.0..0.01).contains(&low), "{low}");
        let healed = trust.score(at(600), &peer);
        assert!((0.49..0.51).contains(&healed), "half is forgiven after the half-life: {healed}");
    }

    #[test]
    fn strangers_can_not_fill_the_memory() {
        let mut trust = Trust::default();
        let worst = PeerId::random();
        for _ in 0..9 {
            trust.offence(at(0), worst, RejectReason::Malformed);
        }
        for _ in 0..CAPACITY + 10 {
            trust.offence(at(0), PeerId::random(), RejectReason::Expired);
        }
        assert!(trust.offenders.len() <= CAPACITY);
        assert!(trust.score(at(0), &worst) < 0.2, "the worst is not the one forgotten");
    }
}
