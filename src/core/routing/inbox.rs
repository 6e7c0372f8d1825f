//! What arrives: each message is handed to the app once, whatever ways and how often it came.
//!
//! Invariant: of a sender whose nonces rise, as ours do, no message is taken twice, however long ago the first time was,
//! as long as the sender is among the remembered ones. What is older than a sender's window is refused rather than
//! taken twice.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use libp2p::PeerId;

use crate::{
    config::NetworkConfig,
    core::Now,
    event::RejectReason,
    frame::{Addressing, Frame, NonceRange, Rejection},
    message::{Authenticity, Delivery, GroupName, Priority, ReceivedMessage},
};

/// Clocks of honest nodes differ; a message is not called expired for less.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Nonces that a window tells apart. Wider than all lanes' credit together, so that what is sent again still fits.
const WINDOW: u64 = 1024;

/// Acknowledgement ranges in one frame.
const MAX_RANGES: usize = 512;

/// How a frame came.
pub(crate) struct Arrival<'core> {
    pub(crate) local: PeerId,
    pub(crate) neighbour: PeerId,
    pub(crate) by_lane: bool,
    pub(crate) groups: &'core BTreeSet<GroupName>,
}

pub(crate) struct Inbox {
    seen: Seen,
    /// Nonces to acknowledge, by the neighbour that sent them.
    acknowledge: BTreeMap<PeerId, BTreeSet<u64>>,
}

impl Inbox {
    /// Remembers what up to `senders` senders sent.
    pub(crate) fn new(senders: usize) -> Self {
        Self { seen: Seen::new(senders), acknowledge: BTreeMap::new() }
    }

    /// Decides on one frame: a message for the app, `None` when it was here before, or a rejection.
    pub(crate) fn check(
        &mut self,
        now: Now,
        frame: Frame,
        arrival: Arrival<'_>,
        config: &NetworkConfig,
    ) -> Result<Option<ReceivedMessage>, Rejection> {
        let nonce = frame.id.nonce;
        let rejected = |reason, detail: String| Err(Rejection { reason, detail, nonce: Some(nonce) });
        let delivery = match (frame.addressing, arrival.by_lane) {
            (Addressing::Peer(peer), true) if peer == arrival.local => Delivery::Direct,
            (Addressing::Peer(peer), _) => {
                return rejected(RejectReason::WrongRecipient, format!("it is addressed to {peer}"));
            }
            (Addressing::Anyone, true) if frame.authenticity == Authenticity::Connection => Delivery::Direct,
            (Addressing::Anyone, true) => Delivery::Neighbors,
            (Addressing::Anyone, false) => Delivery::All,
            (Addressing::Group(group), _) if arrival.groups.contains(&group) => Delivery::Group(group),
            (Addressing::Group(group), _) => {
                return rejected(RejectReason::UnknownGroup, format!("this node is not a member of {group}"));
            }
        };
        if frame.hops > config.delivery.max_hops {
            let detail = format!("{} hops, the limit is {}", frame.hops, config.delivery.max_hops);
            return rejected(RejectReason::TooManyHops, detail);
        }
        if let (Some(ttl), Some(created_at)) = (frame.ttl, frame.created_at) {
            let age = Duration::from_millis(now.unix_millis.saturating_sub(created_at));
            if age > ttl + CLOCK_TOLERANCE {
                return rejected(RejectReason::Expired, format!("it is {age:?} old, its time to live was {ttl:?}"));
            }
        }
        let seen = self.seen.check(frame.id.sender, frame.priority, nonce, frame.authenticity);
        // Also what was here before is acknowledged: the first acknowledgement may have been lost.
        let expects_answer = arrival.by_lane && frame.authenticity == Authenticity::Signed;
        if expects_answer && frame.id.sender == arrival.neighbour && !matches!(seen, Verdict::TooOld) {
            self.acknowledge.entry(arrival.neighbour).or_default().insert(nonce);
        }
        match seen {
            Verdict::TooOld => {
                let detail = "its nonce is older than all that are remembered of the sender";
                rejected(RejectReason::Replayed, detail.to_owned())
            }
            Verdict::Seen => Ok(None),
            Verdict::New => Ok(Some(ReceivedMessage {
                id: frame.id,
                sender: frame.id.sender,
                kind: frame.kind,
                priority: frame.priority,
                delivery,
                created_at: frame.created_at,
                authenticity: frame.authenticity,
                payload: frame.payload,
            })),
        }
    }

    /// What has to be acknowledged, by neighbour.
    pub(crate) fn take_acknowledgements(&mut self) -> Vec<(PeerId, Vec<NonceRange>)> {
        let mut frames = Vec::new();
        for (peer, nonces) in std::mem::take(&mut self.acknowledge) {
            let ranges = ranges(nonces);
            frames.extend(ranges.chunks(MAX_RANGES).map(|chunk| (peer, chunk.to_vec())));
        }
        frames
    }
}

fn ranges(nonces: BTreeSet<u64>) -> Vec<NonceRange> {
    let mut ranges = Vec::<NonceRange>::new();
    for nonce in nonces {
        match ranges.last_mut() {
            Some(range) if range.last.checked_add(1) == Some(nonce) => range.last = nonce,
            _ => ranges.push(NonceRange { first: nonce, last: nonce }),
        }
    }
    ranges
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    New,
    Seen,
    TooOld,
}

/// Who sent what, per sender and priority: within a priority nonces arrive nearly in order, across priorities they
/// don't. The sender that was silent longest is forgotten first.
struct Seen {
    capacity: usize,
    windows: HashMap<(PeerId, Priority), Window>,
    /// Windows by when they were last used.
    order: BTreeMap<u64, (PeerId, Priority)>,
    uses: u64,
}

struct Window {
    last_use: u64,
    highest: u64,
    /// Bit `n` of the whole says whether `highest - n` was seen.
    bits: [u64; (WINDOW / 64) as usize],
    /// Nonces in no order, from five-field implementations; the oldest half goes when there are too many.
    unordered: BTreeMap<u64, u64>,
}

impl Seen {
    fn new(capacity: usize) -> Self {
        Self { capacity, windows: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }

    fn check(&mut self, sender: PeerId, priority: Priority, nonce: u64, authenticity: Authenticity) -> Verdict {
        self.uses += 1;
        let key = (sender, priority);
        let window = self.windows.entry(key).or_insert_with(|| Window {
            last_use: self.uses,
            highest: 0,
            bits: [0; (WINDOW / 64) as usize],
            unordered: BTreeMap::new(),
        });
        self.order.remove(&window.last_use);
        window.last_use = self.uses;
        self.order.insert(self.uses, key);
        let verdict = match authenticity {
            Authenticity::Signed => window.check_rising(nonce),
            // Nothing says that another implementation's nonces rise.
            Authenticity::Connection => window.check_unordered(nonce, self.uses),
        };
        if self.windows.len() > self.capacity
            && let Some((_, forgotten)) = self.order.pop_first()
        {
            self.windows.remove(&forgotten);
        }
        verdict
    }
}

impl Window {
    fn check_rising(&mut self, nonce: u64) -> Verdict {
        if nonce > self.highest {
            self.shift(nonce - self.highest);
            self.highest = nonce;
        }
        let back = self.highest - nonce;
        if back >= WINDOW {
            return Verdict::TooOld;
        }
        let (word, bit) = ((back / 64) as usize, 1 << (back % 64));
        if self.bits[word] & bit != 0 {
            return Verdict::Seen;
        }
        self.bits[word] |= bit;
        Verdict::New
    }

    fn shift(&mut self, by: u64) {
        if by >= WINDOW {
            self.bits.fill(0);
            return;
        }
        let (words, bits) = ((by / 64) as usize, by % 64);
        for at in (0..self.bits.len()).rev() {
            let low = at.checked_sub(words).map_or(0, |from| self.bits[from]);
            let lower = at.checked_sub(words + 1).map_or(0, |from| self.bits[from]);
            self.bits[at] = if bits == 0 { low } else { (low << bits) | (lower >> (64 - bits)) };
        }
    }

    fn check_unordered(&mut self, nonce: u64, use_number: u64) -> Verdict {
        if self.unordered.contains_key(&nonce) {
            return Verdict::Seen;
        }
        self.unordered.insert(nonce, use_number);
        if self.unordered.len() as u64 > WINDOW {
            let mut uses = self.unordered.values().copied().collect::<Vec<_>>();
            uses.sort_unstable();
            let middle = uses[uses.len() / 2];
            self.unordered.retain(|_, used| *used >= middle);
        }
        Verdict::New
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rising_nonces_are_taken_once_in_any_nearby_order(
            start in 0..u64::MAX - 10_000,
            offsets in proptest::collection::vec(0_u64..WINDOW, 1..300),
        ) {
            let mut seen = Seen::new(10);
            let (sender, mut taken) = (PeerId::random(), BTreeSet::new());
            for offset in offsets {
                let expected = if taken.insert(offset) { Verdict::New } else { Verdict::Seen };
                prop_assert_eq!(seen.check(sender, Priority::High, start + offset + 1, Authenticity::Signed), expected);
            }
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_refused() {
        let (mut seen, sender) = (Seen::new(10), PeerId::random());
        let mut check = |nonce| seen.check(sender, Priority::High, nonce, Authenticity::Signed);
        assert_eq!(check(1), Verdict::New);
        assert_eq!(check(1 + WINDOW), Verdict::New);
        assert_eq!(check(1), Verdict::TooOld);
        assert_eq!(check(2), Verdict::New);
        // A restart: the next epoch.
        assert_eq!(check(1 << 32), Verdict::New);
        assert_eq!(check(1 << 32), Verdict::Seen);
        assert_eq!(check(1 + WINDOW), Verdict::TooOld);
    }

    #[test]
    fn slow_lanes_do_not_make_messages_look_old() {
        let (mut seen, sender) = (Seen::new(10), PeerId::random());
        for nonce in 2..5000 {
            assert_eq!(seen.check(sender, Priority::High, nonce, Authenticity::Signed), Verdict::New);
        }
        assert_eq!(seen.check(sender, Priority::Low, 1, Authenticity::Signed), Verdict::New);
    }

    #[test]
    fn nonces_in_no_order_are_told_apart_too() {
        let (mut seen, sender) = (Seen::new(10), PeerId::random());
        let mut check = |nonce| seen.check(sender, Priority::High, nonce, Authenticity::Connection);
        for nonce in [u64::MAX, 0, 1 << 40, 7] {
            assert_eq!(check(nonce), Verdict::New);
            assert_eq!(check(nonce), Verdict::Seen);
        }
        for nonce in 1000..10_000 {
            assert_eq!(check(nonce), Verdict::New);
        }
        assert!(seen.windows.values().all(|window| window.unordered.len() as u64 <= WINDOW));
    }

    #[test]
    fn the_memory_of_senders_is_bounded() {
        let (mut seen, regular) = (Seen::new(10), PeerId::random());
        for nonce in 1..100 {
            seen.check(regular, Priority::High, nonce, Authenticity::Signed);
            seen.check(PeerId::random(), Priority::High, 1, Authenticity::Signed);
        }
        assert_eq!((seen.windows.len(), seen.order.len()), (10, 10));
        assert_eq!(seen.check(regular, Priority::High, 99, Authenticity::Signed), Verdict::Seen);
    }

    #[test]
    fn acknowledgements_are_few_ranges() {
        let first_last = |range: &NonceRange| (range.first, range.last);
        let ranges = ranges(BTreeSet::from([1, 2, 3, 7, 9, 10, u64::MAX]));
        assert_eq!(ranges.iter().map(first_last).collect::<Vec<_>>(), [(1, 3), (7, 7), (9, 10), (u64::MAX, u64::MAX)]);
    }
}
