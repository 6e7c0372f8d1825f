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

use super::{
    journal::Journal,
    records::{self, WindowRow},
};
use crate::{
    config::NetworkConfig,
    core::Now,
    event::RejectReason,
    frame::{Addressing, Frame, NonceRange, Rejection},
    message::{Authenticity, Delivery, GroupName, MessageId, Priority, ReceivedMessage},
    rows::{Change, Key, Shelf},
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
    /// Whether another direct message can be taken.
    pub(crate) has_room: bool,
}

/// What becomes of a frame that is not rejected.
#[derive(Debug)]
pub(crate) enum Checked {
    /// A message for the app; `acknowledge` says that its sender waits to hear of it.
    New { message: ReceivedMessage, acknowledge: bool },
    /// It was here before. The first acknowledgement may have been lost.
    Known { id: MessageId, acknowledge: bool },
    /// A direct message for which there is no room. It was not looked at, so that it can come again.
    NoRoom,
}

pub(crate) struct Inbox {
    seen: Seen,
    /// Nonces to acknowledge, by the neighbour that sent them.
    acknowledge: BTreeMap<PeerId, BTreeSet<u64>>,
}

impl Inbox {
    /// Remembers what up to `senders` senders sent; `keep` says that it is written down too.
    pub(crate) fn new(senders: usize, keep: bool) -> Self {
        Self { seen: Seen { keep, ..Seen::new(senders) }, acknowledge: BTreeMap::new() }
    }

    /// Takes up what an earlier run remembered.
    pub(super) fn restore(&mut self, windows: Vec<(Key, WindowRow)>) {
        windows.into_iter().for_each(|(slot, window)| self.seen.restore(slot, window));
    }

    /// Whether something is remembered that is not written down yet.
    pub(crate) fn has_marks(&self) -> bool {
        !self.seen.dirty.is_empty() || !self.seen.gone.is_empty()
    }

    /// Writes down what is remembered and was not before.
    pub(crate) fn write_marks(&mut self, journal: &mut Journal) {
        for slot in std::mem::take(&mut self.seen.gone) {
            journal.add(Change::Remove(Shelf::Seen, slot), false);
        }
        for way in std::mem::take(&mut self.seen.dirty) {
            if let Some((slot, row)) = self.seen.row(way) {
                journal.add(Change::Put(Shelf::Seen, slot, records::write_window(&row)), false);
            }
        }
    }

    /// Decides on one frame. What has to be acknowledged, [`acknowledge`](Self::acknowledge) is told when it is time.
    pub(crate) fn check(
        &mut self,
        now: Now,
        frame: Frame,
        arrival: Arrival<'_>,
        config: &NetworkConfig,
    ) -> Result<Checked, Rejection> {
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
        if delivery == Delivery::Direct && !arrival.has_room && !self.seen.decided(way, nonce) {
            return Ok(Checked::NoRoom);
        }
        let expects_answer = arrival.by_lane && frame.authenticity == Authenticity::Signed;
        let acknowledge = expects_answer && frame.id.sender == arrival.neighbour;
        match self.seen.check(way, nonce, frame.authenticity) {
            Verdict::TooOld => {
                let detail = "its nonce is older than all that are remembered of the sender";
                rejected(RejectReason::Replayed, detail.to_owned())
            }
            Verdict::Seen => Ok(Checked::Known { id: frame.id, acknowledge }),
            Verdict::New => {
                let message = ReceivedMessage {
                    id: frame.id,
                    sender: frame.id.sender,
                    kind: frame.kind,
                    priority: frame.priority,
                    delivery,
                    created_at: frame.created_at,
                    authenticity: frame.authenticity,
                    redelivered: false,
                    payload: frame.payload,
                };
                Ok(Checked::New { message, acknowledge })
            }
        }
    }

    /// A neighbour is to hear that its message is here.
    pub(crate) fn acknowledge(&mut self, neighbour: PeerId, nonce: u64) {
        self.acknowledge.entry(neighbour).or_default().insert(nonce);
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Whether windows are written down.
    keep: bool,
    /// Windows to write down, and the rows of those that are forgotten.
    dirty: BTreeSet<Way>,
    gone: Vec<Key>,
    next_slot: Key,
}

#[derive(Default)]
struct Window {
    /// Where it is written down.
    slot: Option<Key>,
    last_use: u64,
    /// Each nonce with the use that brought it.
    recent: BTreeMap<u64, u64>,
    /// Of a sender whose nonces rise: what is not above is older than everything remembered.
    floor: Option<u64>,
}

impl Seen {
    fn new(senders: usize) -> Self {
        Self {
            senders,
            windows: HashMap::new(),
            order: BTreeMap::new(),
            uses: 0,
            nonces: 0,
            keep: false,
            dirty: BTreeSet::new(),
            gone: Vec::new(),
            next_slot: 0,
        }
    }

    /// Whether a nonce was here before, or is too old to tell.
    fn decided(&self, way: Way, nonce: u64) -> bool {
        self.windows.get(&way).is_some_and(|window| {
            window.recent.contains_key(&nonce) || window.floor.is_some_and(|floor| nonce <= floor)
        })
    }

    /// The row of a window and where it lies.
    fn row(&mut self, way: Way) -> Option<(Key, WindowRow)> {
        let window = self.windows.get_mut(&way)?;
        let slot = *window.slot.get_or_insert_with(|| {
            self.next_slot += 1;
            self.next_slot - 1
        });
        let Way { sender, priority, by_lane } = way;
        let nonces = window.recent.keys().copied().collect();
        Some((slot, WindowRow { sender, priority, by_lane, floor: window.floor, nonces }))
    }

    /// A window as it was written down; of its nonces the highest count as the latest.
    fn restore(&mut self, slot: Key, row: WindowRow) {
        let WindowRow { sender, priority, by_lane, floor, nonces } = row;
        self.next_slot = self.next_slot.max(slot.saturating_add(1));
        let recent = nonces.into_iter().map(|nonce| {
            self.uses += 1;
            (nonce, self.uses)
        });
        let recent = recent.collect::<BTreeMap<_, _>>();
        self.uses += 1;
        self.nonces += recent.len();
        let way = Way { sender, priority, by_lane };
        self.order.insert(self.uses, way);
        self.windows.insert(way, Window { slot: Some(slot), last_use: self.uses, recent, floor });
        self.forget_beyond_limits();
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
        if self.keep && matches!(verdict, Verdict::New) {
            self.dirty.insert(way);
        }
        self.forget_beyond_limits();
        verdict
    }

    fn forget_beyond_limits(&mut self) {
        let too_many = |seen: &Self| {
            seen.windows.len() > seen.senders || seen.nonces > seen.senders.saturating_mul(NONCES_PER_SENDER)
        };
        while too_many(self)
            && self.windows.len() > 1
            && let Some((_, forgotten)) = self.order.pop_first()
        {
            let Some(window) = self.windows.remove(&forgotten) else { continue };
            self.nonces -= window.recent.len();
            self.dirty.remove(&forgotten);
            self.gone.extend(window.slot);
        }
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
