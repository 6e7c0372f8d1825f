//! Randomness that can be replayed: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
//! OOPSLA 2014). For spreading retries, never for secrets.

use std::time::Duration;

pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between nothing and `longest`.
    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        // 32 bits of fraction are finer than any timer.
        longest.mul_f64((self.next() >> 32) as f64 / f64::from(u32::MAX))
    }

    /// Puts the items into any order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = (self.next() % (end as u64 + 1)) as usize;
            items.swap(end, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_exactly_and_stays_in_bounds() {
        let (mut one, mut two, mut other) = (Random::new(1), Random::new(1), Random::new(2));
        let longest = Duration::from_secs(1);
        let first = (0..100).map(|_| one.up_to(longest)).collect::<Vec<_>>();
        assert_eq!(first, (0..100).map(|_| two.up_to(longest)).collect::<Vec<_>>());
        assert_ne!(first, (0..100).map(|_| other.up_to(longest)).collect::<Vec<_>>());
        assert!(first.iter().all(|delay| *delay <= longest));
        assert!(first.iter().max() > first.iter().min());
    }
}
