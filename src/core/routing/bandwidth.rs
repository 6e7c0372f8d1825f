//! How many bytes may leave in a time: a token bucket for each peer and one for all together (`[bandwidth]`).
//!
//! A bucket is kept as the time at which it will be full again, so that it needs no refilling. A message may leave while
//! the bucket is not emptier than its priority may make it: the urgent ones have the last part for themselves, so they
//! leave at once while the others already wait.

use std::time::Duration;

use crate::config::BandwidthConfig;

/// How far each lane, and after them transfers, may draw on a bucket, as the time it takes to fill again.
const DEPTH: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(175), Duration::from_millis(100), Duration::from_millis(50)];

/// Transfers in [`Budget::ready_at`].
pub(super) const TRANSFERS: usize = 3;

/// What a transfer gets at once, as the time that it takes: less would wake the tasks too often, more would make a hole
/// that an urgent message sees.
const RATION: Duration = Duration::from_millis(20);

/// One bucket.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Bucket {
    full_at: Duration,
}

/// The rates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    rates: Option<Rates>,
    all: Bucket,
}

#[derive(Debug, Clone, Copy)]
struct Rates {
    all: u64,
    peer: u64,
}

impl Budget {
    pub(super) fn new(config: &BandwidthConfig) -> Self {
        let rates = config.limited.then_some(Rates { all: config.total, peer: config.per_peer });
        Self { rates, all: Bucket::default() }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.rates.is_some()
    }

    /// When a message that may draw like those of this lane may leave: in the past when now.
    pub(super) fn ready_at(&self, peer: &Bucket, lane: usize) -> Duration {
        match self.rates {
            Some(_) => self.all.full_at.max(peer.full_at).saturating_sub(DEPTH[lane]),
            None => Duration::ZERO,
        }
    }

    /// A message of so many bytes leaves.
    pub(super) fn spend(&mut self, now: Duration, peer: &mut Bucket, bytes: usize) {
        if let Some(rates) = self.rates {
            self.all.spend(now, bytes, rates.all);
            peer.spend(now, bytes, rates.peer);
        }
    }

    /// What a transfer to one peer gets at once, bytes.
    pub(super) fn ration(&self) -> u64 {
        let rate = self.rates.map_or(u64::MAX, |rates| rates.all.min(rates.peer));
        // A frame's head at the least, whatever the rate.
        ((u128::from(rate) * RATION.as_millis() / 1000) as u64).max(256)
    }

    /// How long so many bytes take.
    pub(super) fn time_of(&self, bytes: usize) -> Duration {
        self.rates.map_or(Duration::ZERO, |rates| time_of(bytes, rates.all))
    }
}

impl Bucket {
    fn spend(&mut self, now: Duration, bytes: usize, rate: u64) {
        self.full_at = self.full_at.max(now) + time_of(bytes, rate);
    }
}

fn time_of(bytes: usize, rate: u64) -> Duration {
    let nanos = (bytes as u128 * 1_000_000_000) / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGH: usize = 0;
    const LOW: usize = 2;

    fn budget(total: u64, per_peer: u64) -> Budget {
        Budget::new(&BandwidthConfig { limited: true, total, per_peer })
    }

    /// How many bytes leave in a time, when as much as may always waits.
    fn sent(budget: &mut Budget, peer: &mut Bucket, lane: usize, from: Duration, time: Duration) -> usize {
        let (mut now, mut sent) = (from, 0);
        loop {
            now = now.max(budget.ready_at(peer, lane));
            if now >= from + time {
                return sent;
            }
            budget.spend(now, peer, 1000);
            sent += 1000;
        }
    }

    #[test]
    fn over_time_as_much_leaves_as_was_set() {
        let (mut budget, mut peer) = (budget(1_000_000, 100_000), Bucket::default());
        let ten = Duration::from_secs(10);
        let sent_low = sent(&mut budget, &mut peer, LOW, Duration::ZERO, ten);
        assert!((1_000_000..1_050_000).contains(&sent_low), "{sent_low} bytes in ten seconds: the peer's own limit");
        let mut others = [Bucket::default(); 20];
        let each = others.iter_mut().map(|peer| sent(&mut budget, peer, LOW, ten, Duration::from_secs(1)));
        assert!(each.sum::<usize>() < 1_200_000, "all together have a limit too");
    }

    #[test]
    fn who_has_used_up_its_part_leaves_the_rest_to_what_is_urgent() {
        let (mut budget, mut peer) = (budget(1_000_000, 1_000_000), Bucket::default());
        let start = Duration::from_secs(1);
        sent(&mut budget, &mut peer, LOW, start, Duration::from_nanos(1));
        assert!(budget.ready_at(&peer, LOW) > start);
        assert!(budget.ready_at(&peer, HIGH) <= start, "the urgent ones still leave at once");
        let urgent = sent(&mut budget, &mut peer, HIGH, start, Duration::from_nanos(1));
        assert!((140_000..160_000).contains(&urgent), "{urgent}: but not without end");
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let (mut budget, mut peer) = (Budget::new(&BandwidthConfig::default()), Bucket::default());
        budget.spend(Duration::ZERO, &mut peer, usize::MAX);
        assert_eq!(budget.ready_at(&peer, LOW), Duration::ZERO);
    }
}
