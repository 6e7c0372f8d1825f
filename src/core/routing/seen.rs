//! Who sent what: messages that arrive a second time are told from new ones.
//!
//! Nonces of cpc-net rise, nearly in order: of each way a sender uses, the recent ones are kept as ranges, which costs
//! nothing while messages come in a row. Other implementations may use any nonces; of them the last are kept one by one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use super::{outbox::UNACKNOWLEDGED, ranges::Ranges, records::WindowRow};
use crate::{
    core::Now,
    message::{Authenticity, Priority},
    rows::Key,
};

/// Ranges remembered of one sender in one priority and by one way, each of a nonce at least. Twice what the outbox lets
/// be unacknowledged, so that whatever is sent again is still remembered.
const WINDOW: usize = 2 * UNACKNOWLEDGED;

/// Nonces remembered one by one of a sender whose nonces are in no order.
const RANDOM_NONCES: usize = 10_000;

/// By how much the clocks of honest nodes may differ, milliseconds.
const CLOCKS_DIFFER: i64 = 5000;

/// How long what was learnt of a sender's clock counts: clocks are set.
const CLOCK_RENEWED: Duration = Duration::from_secs(600);

/// Ranges and single nonces remembered in all, for each sender that may be remembered.
const ITEMS_PER_SENDER: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    New,
    Seen,
    /// Older than all that is remembered.
    TooOld,
}

/// How messages of one sender come nearly in order: by one priority, and by lane or gossip. Across these they don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Way {
    pub(super) sender: PeerId,
    pub(super) priority: Priority,
    pub(super) by_lane: bool,
}

/// What came by all ways. The way that was silent longest is forgotten first.
pub(super) struct Seen {
    senders: usize,
    windows: HashMap<Way, Window>,
    /// The way last used, away from the others: most messages come by the same as the one before.
    latest: Option<(Way, Window)>,
    /// The others by when they were last used.
    order: BTreeMap<u64, Way>,
    uses: u64,
    /// Items in all windows.
    items: usize,
    /// Whether windows are written down.
    keep: bool,
    /// Windows to write down, and the rows of those that are forgotten.
    dirty: BTreeSet<Way>,
    gone: Vec<Key>,
    next_slot: Key,
}

#[derive(Debug, Default)]
struct Window {
    /// Where it is written down.
    slot: Option<Key>,
    last_use: u64,
    rising: Ranges,
    /// What is not above is older than everything remembered of rising nonces.
    floor: Option<u64>,
    /// Of a sender whose nonces don't rise.
    random: HashSet<u64>,
    /// These, the oldest first.
    random_order: VecDeque<u64>,
    /// The least age a message has seemed to have when it came, milliseconds, and since when that counts: by so much the
    /// sender's clock seems to be behind.
    behind: Option<(i64, Duration)>,
}

impl Seen {
    /// Remembers what up to so many senders sent; `keep` says that it is written down too.
    pub(super) fn new(senders: usize, keep: bool) -> Self {
        Self {
            senders,
            windows: HashMap::new(),
            latest: None,
            order: BTreeMap::new(),
            uses: 0,
            items: 0,
            keep,
            dirty: BTreeSet::new(),
            gone: Vec::new(),
            next_slot: 0,
        }
    }

    /// Looks whether a nonce is new, and remembers it.
    pub(super) fn check(&mut self, way: Way, nonce: u64, authenticity: Authenticity) -> Verdict {
        self.take_out(way);
        let Some((_, window)) = &mut self.latest else { return Verdict::TooOld };
        let before = window.items();
        let verdict = match authenticity {
            Authenticity::Signed => window.check_rising(nonce),
            Authenticity::Connection => window.check_random(nonce),
        };
        self.items = self.items + window.items() - before;
        if self.keep && verdict == Verdict::New {
            self.dirty.insert(way);
        }
        self.forget_beyond_limits();
        verdict
    }

    /// How old a message is. Clocks differ: what came fastest by the same way counts as new, within some seconds; the first
    /// one may seem as old as twice its time to live.
    pub(super) fn age(&mut self, now: Now, way: Way, created_at: u64, ttl: Option<Duration>) -> Duration {
        let millis = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let seems = millis(now.unix_millis).saturating_sub(millis(created_at));
        self.take_out(way);
        let Some((_, window)) = &mut self.latest else { return Duration::ZERO };
        let known = window.behind.filter(|(_, since)| now.since_start.saturating_sub(*since) < CLOCK_RENEWED);
        let allowed = match known {
            Some((least, _)) => least.min(seems),
            None => seems.min(ttl.map_or(i64::MAX, |ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))),
        };
        window.behind = Some(known.map_or((seems, now.since_start), |(least, since)| (least.min(seems), since)));
        let age = seems - allowed.clamp(-CLOCKS_DIFFER, CLOCKS_DIFFER);
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }

    /// Whether a nonce was here before, or is too old to tell.
    pub(super) fn decided(&self, way: Way, nonce: u64) -> bool {
        let latest = self.latest.as_ref().filter(|(latest, _)| *latest == way).map(|(_, window)| window);
        latest.or_else(|| self.windows.get(&way)).is_some_and(|window| {
            window.floor.is_some_and(|floor| nonce <= floor)
                || window.rising.contains(nonce)
                || window.random.contains(&nonce)
        })
    }

    /// Whether something is remembered that is not written down yet.
    pub(super) fn has_marks(&self) -> bool {
        !self.dirty.is_empty() || !self.gone.is_empty()
    }

    /// What has to be written down: the rows of windows that are forgotten, and the windows that have changed.
    pub(super) fn take_marks(&mut self) -> (Vec<Key>, Vec<(Key, WindowRow)>) {
        let changed = std::mem::take(&mut self.dirty).into_iter().filter_map(|way| self.row(way)).collect();
        (std::mem::take(&mut self.gone), changed)
    }

    /// A window as it was written down.
    pub(super) fn restore(&mut self, slot: Key, row: WindowRow) {
        let WindowRow { sender, priority, by_lane, floor, ranges, random } = row;
        self.next_slot = self.next_slot.max(slot.saturating_add(1));
        self.uses += 1;
        let window = Window {
            slot: Some(slot),
            last_use: self.uses,
            rising: Ranges::from_rising(ranges),
            floor,
            random: random.iter().copied().collect(),
            random_order: random.into(),
            behind: None,
        };
        self.items += window.items();
        let way = Way { sender, priority, by_lane };
        self.order.insert(self.uses, way);
        self.windows.insert(way, window);
        self.forget_beyond_limits();
    }

    /// The row of a window and where it lies.
    fn row(&mut self, way: Way) -> Option<(Key, WindowRow)> {
        let window = match &mut self.latest {
            Some((latest, window)) if *latest == way => window,
            _ => self.windows.get_mut(&way)?,
        };
        let slot = *window.slot.get_or_insert_with(|| {
            self.next_slot += 1;
            self.next_slot - 1
        });
        let Way { sender, priority, by_lane } = way;
        let (ranges, random) = (window.rising.clone().into_vec(), window.random_order.iter().copied().collect());
        Some((slot, WindowRow { sender, priority, by_lane, floor: window.floor, ranges, random }))
    }

    fn forget_beyond_limits(&mut self) {
        let most = self.senders.saturating_mul(ITEMS_PER_SENDER);
        while (self.windows.len() >= self.senders || self.items > most)
            && let Some((_, forgotten)) = self.order.pop_first()
        {
            let Some(window) = self.windows.remove(&forgotten) else { continue };
            self.items -= window.items();
            self.dirty.remove(&forgotten);
            self.gone.extend(window.slot);
        }
    }

    /// Makes a way the latest.
    fn take_out(&mut self, way: Way) {
        if matches!(&self.latest, Some((latest, _)) if *latest == way) {
            return;
        }
        let window = self.windows.remove(&way).unwrap_or_default();
        self.order.remove(&window.last_use);
        if let Some((last, mut left)) = self.latest.replace((way, window)) {
            self.uses += 1;
            left.last_use = self.uses;
            self.order.insert(self.uses, last);
            self.windows.insert(last, left);
        }
    }
}

impl Window {
    fn items(&self) -> usize {
        self.rising.len() + self.random.len()
    }

    fn check_rising(&mut self, nonce: u64) -> Verdict {
        if self.floor.is_some_and(|floor| nonce <= floor) {
            return Verdict::TooOld;
        }
        if !self.rising.insert(nonce) {
            return Verdict::Seen;
        }
        if self.rising.len() > WINDOW {
            self.floor = self.rising.forget_lowest();
        }
        Verdict::New
    }

    /// Nothing says that another implementation's nonces rise: the oldest is forgotten.
    fn check_random(&mut self, nonce: u64) -> Verdict {
        if !self.random.insert(nonce) {
            return Verdict::Seen;
        }
        self.random_order.push_back(nonce);
        if self.random.len() > RANDOM_NONCES
            && let Some(oldest) = self.random_order.pop_front()
        {
            self.random.remove(&oldest);
        }
        Verdict::New
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn way(sender: PeerId) -> Way {
        Way { sender, priority: Priority::High, by_lane: true }
    }

    proptest! {
        #[test]
        fn rising_nonces_are_taken_once_in_any_nearby_order(
            start in 0..u64::MAX - 100_000,
            offsets in proptest::collection::vec(0..2 * WINDOW as u64, 1..300),
        ) {
            let mut seen = Seen::new(100, false);
            let (sender, mut taken) = (PeerId::random(), BTreeSet::new());
            for offset in offsets {
                let expected = if taken.insert(offset) { Verdict::New } else { Verdict::Seen };
                prop_assert_eq!(seen.check(way(sender), start + offset + 1, Authenticity::Signed), expected);
            }
        }
    }

    #[test]
    fn a_seen_nonce_is_never_new_again_however_many_came_since() {
        let (mut seen, sender) = (Seen::new(10_000, false), PeerId::random());
        let mut check = |nonce| seen.check(way(sender), nonce, Authenticity::Signed);
        for nonce in 1..=WINDOW as u64 {
            // Many messages to others lie between two to this node.
            assert_eq!(check(nonce * 1000), Verdict::New);
        }
        assert_eq!(check(1000), Verdict::Seen);
        assert_eq!(check(1500), Verdict::New, "it was late");
        assert_eq!(check(1000), Verdict::TooOld);
        // A restart: the next epoch.
        assert_eq!(check(1 << 40), Verdict::New);
        assert_eq!(check(1 << 40), Verdict::Seen);
        assert_eq!(check(1000), Verdict::TooOld);
    }

    #[test]
    fn what_was_written_down_is_known_again() {
        let (mut seen, sender, stranger) = (Seen::new(1000, true), PeerId::random(), PeerId::random());
        for nonce in [1, 2, 3, 9, 1 << 40] {
            seen.check(way(sender), nonce, Authenticity::Signed);
            seen.check(way(stranger), nonce.wrapping_mul(0x9e37_79b9_7f4a_7c15), Authenticity::Connection);
        }
        assert!(seen.has_marks());
        let (gone, rows) = seen.take_marks();
        assert_eq!((gone.len(), rows.len(), seen.has_marks()), (0, 2, false));
        let mut again = Seen::new(1000, true);
        rows.into_iter().for_each(|(slot, row)| again.restore(slot, row));
        for nonce in [1, 2, 3, 9, 1 << 40] {
            assert_eq!(again.check(way(sender), nonce, Authenticity::Signed), Verdict::Seen);
            let random = nonce.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert!(again.decided(way(stranger), random) && !again.decided(way(stranger), random + 1));
        }
        assert_eq!(again.check(way(sender), 4, Authenticity::Signed), Verdict::New);
        assert!(again.has_marks());
    }

    #[test]
    fn a_message_is_as_old_as_it_is_whatever_the_senders_clock_says() {
        let at = |millis: u64| Now { since_start: Duration::from_millis(millis), unix_millis: 1_000_000 + millis };
        let ttl = Some(Duration::from_millis(300));
        for skew in [0, 3000, -3000_i64] {
            let (mut seen, way) = (Seen::new(10, false), way(PeerId::random()));
            let mut age = |created: i64, came| {
                let created_at = (1_000_000 + created + skew).unsigned_abs();
                i64::try_from(seen.age(at(came), way, created_at, ttl).as_millis()).expect("not long")
            };
            age(0, 10);
            assert_eq!(age(1000, 1010), 0, "the next comes as fast");
            assert_eq!(age(2000, 4010), 2000, "one that was held up is old, however short that was");
            assert_eq!(age(5000, 5010), 0);
        }
        let (mut seen, way) = (Seen::new(10, false), way(PeerId::random()));
        assert!(seen.age(at(10_000), way, 1_000_000, ttl) > Duration::from_secs(4), "the first, ten seconds late");
        assert!(seen.age(at(70_000), way, 1_000_000, None) > Duration::from_secs(60), "nobody's clock is an hour off");
    }

    #[test]
    fn a_long_row_costs_one_item() {
        let (mut seen, sender) = (Seen::new(1000, false), PeerId::random());
        for nonce in 1..1_000_000 {
            assert_eq!(seen.check(way(sender), nonce, Authenticity::Signed), Verdict::New);
        }
        assert_eq!(seen.items, 1);
        assert_eq!(seen.check(way(sender), 1, Authenticity::Signed), Verdict::Seen);
    }

    #[test]
    fn slow_ways_do_not_make_messages_look_old() {
        let (mut seen, sender) = (Seen::new(1000, false), PeerId::random());
        for nonce in 2..5000 {
            assert_eq!(seen.check(way(sender), nonce, Authenticity::Signed), Verdict::New);
        }
        for late in [Way { priority: Priority::Low, ..way(sender) }, Way { by_lane: false, ..way(sender) }] {
            assert_eq!(seen.check(late, 1, Authenticity::Signed), Verdict::New);
        }
    }

    #[test]
    fn nonces_in_no_order_are_told_apart_too() {
        let (mut seen, sender) = (Seen::new(1000, false), PeerId::random());
        let mut check = |nonce| seen.check(way(sender), nonce, Authenticity::Connection);
        for nonce in [u64::MAX, 0, 1 << 40, 7] {
            assert_eq!(check(nonce), Verdict::New);
            assert_eq!(check(nonce), Verdict::Seen);
        }
        for nonce in 100_000..100_000 + RANDOM_NONCES as u64 - 4 {
            assert_eq!(check(nonce), Verdict::New);
        }
        assert_eq!(check(7), Verdict::Seen, "ten thousand are remembered");
        for nonce in 200_000..220_000 {
            assert_eq!(check(nonce), Verdict::New);
        }
        assert_eq!(seen.items, RANDOM_NONCES);
    }

    #[test]
    fn the_memory_is_bounded_in_senders_and_in_items() {
        let (mut seen, regular) = (Seen::new(10, false), PeerId::random());
        for nonce in 1..100 {
            seen.check(way(regular), nonce, Authenticity::Signed);
            seen.check(way(PeerId::random()), 1, Authenticity::Signed);
        }
        assert_eq!((seen.windows.len(), seen.order.len()), (9, 9), "and the latest");
        assert_eq!(seen.check(way(regular), 99, Authenticity::Signed), Verdict::Seen);
        for _ in 0..5 {
            let busy = PeerId::random();
            for nonce in 1..100 {
                seen.check(way(busy), nonce * 2, Authenticity::Signed);
            }
        }
        assert!(seen.items <= 10 * ITEMS_PER_SENDER, "{}", seen.items);
        let latest = seen.latest.iter().map(|(_, window)| window.items()).sum::<usize>();
        assert_eq!(seen.items, latest + seen.windows.values().map(Window::items).sum::<usize>());
    }
}
