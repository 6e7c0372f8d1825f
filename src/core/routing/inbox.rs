//! What arrives: each message is handed to the app once, whatever ways and how often it came.
//!
//! Invariant: of a sender whose nonces rise, as ours do, no message is taken twice, however long ago the first time was,
//! as long as the sender is among the remembered ones. What is older than all that is remembered of it is refused rather
//! than taken twice.

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
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Nonces remembered of one sender in one priority and by one way. Twice what the outbox lets be unacknowledged, so that
/// whatever is sent again is still remembered.
const WINDOW: usize = 2 * super::outbox::UNACKNOWLEDGED;

/// Nonces remembered in all, for each sender that may be remembered.
const NONCES_PER_SENDER: usize = 16;

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
            (Addressing::Anyone | Addressing::Neighbors, true) if frame.id.sender != arrival.neighbour => {
                let detail = "a broadcast of somebody else's came by a lane".to_owned();
                return rejected(RejectReason::WrongRecipient, detail);
            }
            (Addressing::Anyone, true) => Delivery::Direct,
            (Addressing::Neighbors, true) => Delivery::Neighbors,
            (Addressing::Neighbors, false) => {
                return rejected(RejectReason::WrongRecipient, "it is for its author's neighbours only".to_owned());
            }
            (Addressing::Anyone, false) => Delivery::All,
            (Addressing::Group(group), _) if arrival.groups.contains(&group) => Delivery::Group(group),
            (Addressing::Group(group), _) => {
                return rejected(RejectReason::UnknownGroup, format!("this node is not a member of {group}"));
            }
        };
        if frame.hops > config.propagation.max_hops {
            let detail = format!("{} hops, the limit is {}", frame.hops, config.propagation.max_hops);
            return rejected(RejectReason::TooManyHops, detail);
        }
        if let (Some(ttl), Some(created_at)) = (frame.ttl, frame.created_at) {
            let age = Duration::from_millis(now.unix_millis.saturating_sub(created_at));
            if age > ttl + CLOCK_TOLERANCE {
                return rejected(RejectReason::Expired, format!("it is {age:?} old, its time to live was {ttl:?}"));
            }
        }
        let way = Way { sender: frame.id.sender, priority: frame.priority, by_lane: arrival.by_lane };
        let seen = self.seen.check(way, nonce, frame.authenticity);
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

/// How messages of one sender come nearly in order: by one priority, and by lane or gossip. Across these they don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Way {
    sender: PeerId,
    priority: Priority,
    by_lane: bool,
}

/// Who sent what. The sender that was silent longest is forgotten first.
struct Seen {
    senders: usize,
    windows: HashMap<Way, Window>,
    /// Windows by when they were last used.
    order: BTreeMap<u64, Way>,
    uses: u64,
    /// Nonces in all windows.
    nonces: usize,
}

#[derive(Default)]
struct Window {
    last_use: u64,
    /// Each nonce with the use that brought it.
    recent: BTreeMap<u64, u64>,
    /// Of a sender whose nonces rise: what is not above is older than everything remembered.
    floor: Option<u64>,
}

impl Seen {
    fn new(senders: usize) -> Self {
        Self { senders, windows: HashMap::new(), order: BTreeMap::new(), uses: 0, nonces: 0 }
    }

    fn check(&mut self, way: Way, nonce: u64, authenticity: Authenticity) -> Verdict {
        self.uses += 1;
        let window = self.windows.entry(way).or_default();
        self.order.remove(&window.last_use);
        window.last_use = self.uses;
        self.order.insert(self.uses, way);
        let before = window.recent.len();
        let verdict = window.check(nonce, self.uses, authenticity);
        self.nonces = self.nonces + window.recent.len() - before;
        let too_many = |seen: &Self| {
            seen.windows.len() > seen.senders || seen.nonces > seen.senders.saturating_mul(NONCES_PER_SENDER)
        };
        while too_many(self)
            && self.windows.len() > 1
            && let Some((_, forgotten)) = self.order.pop_first()
        {
            self.nonces -= self.windows.remove(&forgotten).map_or(0, |window| window.recent.len());
        }
        verdict
    }
}

impl Window {
    fn check(&mut self, nonce: u64, now: u64, authenticity: Authenticity) -> Verdict {
        if self.recent.contains_key(&nonce) {
            return Verdict::Seen;
        }
        if self.floor.is_some_and(|floor| nonce <= floor) {
            return Verdict::TooOld;
        }
        self.recent.insert(nonce, now);
        if self.recent.len() > WINDOW {
            match authenticity {
                Authenticity::Signed => self.floor = self.recent.pop_first().map(|(nonce, _)| nonce),
                // Nothing says that another implementation's nonces rise: the oldest half goes.
                Authenticity::Connection => {
                    let mut uses = self.recent.values().copied().collect::<Vec<_>>();
                    uses.sort_unstable();
                    let middle = uses[uses.len() / 2];
                    self.recent.retain(|_, used| *used >= middle);
                }
            }
        }
        Verdict::New
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn way(sender: PeerId) -> Way {
        Way { sender, priority: Priority::High, by_lane: true }
    }

    proptest! {
        #[test]
        fn rising_nonces_are_taken_once_in_any_nearby_order(
            start in 0..u64::MAX - 10_000,
            offsets in proptest::collection::vec(0..WINDOW as u64, 1..300),
        ) {
            let mut seen = Seen::new(100);
            let (sender, mut taken) = (PeerId::random(), BTreeSet::new());
            for offset in offsets {
                let expected = if taken.insert(offset) { Verdict::New } else { Verdict::Seen };
                prop_assert_eq!(seen.check(way(sender), start + offset + 1, Authenticity::Signed), expected);
            }
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_refused() {
        let (mut seen, sender) = (Seen::new(100), PeerId::random());
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
    fn slow_ways_do_not_make_messages_look_old() {
        let (mut seen, sender) = (Seen::new(1000), PeerId::random());
        for nonce in 2..5000 {
            assert_eq!(seen.check(way(sender), nonce, Authenticity::Signed), Verdict::New);
        }
        for late in [Way { priority: Priority::Low, ..way(sender) }, Way { by_lane: false, ..way(sender) }] {
            assert_eq!(seen.check(late, 1, Authenticity::Signed), Verdict::New);
        }
    }

    #[test]
    fn nonces_in_no_order_are_told_apart_too() {
        let (mut seen, sender) = (Seen::new(1000), PeerId::random());
        let mut check = |nonce| seen.check(way(sender), nonce, Authenticity::Connection);
        for nonce in [u64::MAX, 0, 1 << 40, 7] {
            assert_eq!(check(nonce), Verdict::New);
            assert_eq!(check(nonce), Verdict::Seen);
        }
        for nonce in 1000..10_000 {
            assert_eq!(check(nonce), Verdict::New);
        }
        assert!(seen.windows.values().all(|window| window.recent.len() <= WINDOW));
    }

    #[test]
    fn the_memory_is_bounded_in_senders_and_in_nonces() {
        let (mut seen, regular) = (Seen::new(10), PeerId::random());
        for nonce in 1..100 {
            seen.check(way(regular), nonce, Authenticity::Signed);
            seen.check(way(PeerId::random()), 1, Authenticity::Signed);
        }
        assert_eq!((seen.windows.len(), seen.order.len()), (10, 10));
        assert_eq!(seen.check(way(regular), 99, Authenticity::Signed), Verdict::Seen);
        for _ in 0..5 {
            let busy = PeerId::random();
            for nonce in 1..100 {
                seen.check(way(busy), nonce, Authenticity::Signed);
            }
        }
        assert!(seen.nonces <= 10 * NONCES_PER_SENDER, "{}", seen.nonces);
        assert_eq!(seen.nonces, seen.windows.values().map(|window| window.recent.len()).sum::<usize>());
    }

    #[test]
    fn acknowledgements_are_few_ranges() {
        let first_last = |range: &NonceRange| (range.first, range.last);
        let ranges = ranges(BTreeSet::from([1, 2, 3, 7, 9, 10, u64::MAX]));
        assert_eq!(ranges.iter().map(first_last).collect::<Vec<_>>(), [(1, 3), (7, 7), (9, 10), (u64::MAX, u64::MAX)]);
    }
}
