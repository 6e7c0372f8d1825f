//! Nonces as ranges, in order: what came in a row costs one entry, however long the row.

use std::collections::VecDeque;

use crate::frame::NonceRange;

/// A set of nonces. Adding the next higher one, the usual case, costs no search and no memory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Apart from each other by at least one nonce, rising.
    ranges: VecDeque<NonceRange>,
}

impl Ranges {
    /// Adds a nonce; false when it was in already.
    pub(crate) fn insert(&mut self, nonce: u64) -> bool {
        match self.ranges.back_mut() {
            Some(newest) if newest.last.checked_add(1) == Some(nonce) => {
                newest.last = nonce;
                return true;
            }
            Some(newest) if nonce <= newest.last => {}
            _ => {
                self.ranges.push_back(NonceRange { first: nonce, last: nonce });
                return true;
            }
        }
        let at = self.ranges.partition_point(|range| range.last < nonce);
        // There is one: the newest range reaches at least to this nonce.
        if self.ranges[at].first <= nonce {
            return false;
        }
        let joins_next = nonce + 1 == self.ranges[at].first;
        let joins_last = at > 0 && self.ranges[at - 1].last + 1 == nonce;
        match (joins_last, joins_next) {
            (true, true) => {
                self.ranges[at - 1].last = self.ranges[at].last;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].last = nonce,
            (false, true) => self.ranges[at].first = nonce,
            (false, false) => self.ranges.insert(at, NonceRange { first: nonce, last: nonce }),
        }
        true
    }

    /// Takes up what [`into_vec`](Self::into_vec) gave. Ranges that touch each other become one.
    pub(super) fn from_rising(ranges: Vec<NonceRange>) -> Self {
        let mut rising = VecDeque::<NonceRange>::new();
        for range in ranges {
            match rising.back_mut() {
                Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
                _ if range.first <= range.last => rising.push_back(range),
                _ => {}
            }
        }
        Self { ranges: rising }
    }

    pub(super) fn contains(&self, nonce: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.last < nonce);
        self.ranges.get(at).is_some_and(|range| range.first <= nonce)
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Forgets the lowest range; returns its last nonce.
    pub(super) fn forget_lowest(&mut self) -> Option<u64> {
        self.ranges.pop_front().map(|range| range.last)
    }

    pub(crate) fn into_vec(self) -> Vec<NonceRange> {
        self.ranges.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_hold_exactly_what_was_put_in_and_as_few_ranges_as_can_be(
            base in prop_oneof![Just(0), Just(u64::MAX - 200), any::<u64>().prop_map(|any| any % (u64::MAX - 200))],
            offsets in proptest::collection::vec(0..200_u64, 0..300),
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for offset in offsets {
                prop_assert_eq!(ranges.insert(base + offset), set.insert(base + offset));
            }
            let rows = set.iter().filter(|nonce| nonce.checked_sub(1).is_none_or(|before| !set.contains(&before)));
            prop_assert_eq!(ranges.len(), rows.count());
            let ranges = ranges.into_vec();
            prop_assert_eq!(&Ranges::from_rising(ranges.clone()).into_vec(), &ranges);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
            let told = ranges.iter().flat_map(|range| range.first..=range.last).collect::<BTreeSet<_>>();
            prop_assert_eq!(told, set);
        }
    }

    #[test]
    fn the_lowest_is_forgotten_first() {
        let mut ranges = Ranges::default();
        for nonce in [5, 1, 2, 9] {
            ranges.insert(nonce);
        }
        assert_eq!(ranges.forget_lowest(), Some(2));
        assert_eq!((ranges.forget_lowest(), ranges.forget_lowest(), ranges.forget_lowest()), (Some(5), Some(9), None));
    }
}
