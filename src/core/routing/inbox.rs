//! What arrives: each message is handed to the app once, whatever ways and how often it came.
//!
//! Invariant: of a sender whose nonces rise, as ours do, no message is taken twice, however long ago the first time was,
//! as long as the sender is among the remembered ones. What is older than all that is remembered of it is refused rather
//! than taken twice.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;

use super::{
    journal::Journal,
    ranges::Ranges,
    records::{self, WindowRow},
    seen::{Seen, Verdict, Way},
    turned_away::{Room, TurnedAway},
};
use crate::{
    config::NetworkConfig,
    core::{LinkId, Now},
    event::RejectReason,
    frame::{Addressing, Frame, NonceRange, Rejection},
    message::{Authenticity, Delivery, GroupName, MessageId, ReceivedMessage},
    rows::{Change, Haste, Key, Shelf},
};

/// Acknowledgement ranges in one frame.
const MAX_RANGES: usize = 512;

/// How a frame came.
pub(crate) struct Arrival<'core> {
    pub(crate) local: PeerId,
    pub(crate) neighbour: PeerId,
    /// The connection whose lane it took; `None` for a post.
    pub(crate) lane: Option<LinkId>,
    /// Whether posts of groups that this node is no member of are to be judged too.
    pub(crate) carried: bool,
    pub(crate) groups: &'core BTreeSet<GroupName>,
    /// How many direct messages can be taken.
    pub(crate) room: Room,
}

/// What becomes of a frame that is not rejected.
#[derive(Debug)]
pub(crate) enum Checked {
    /// A message for the app; `acknowledge` says that its sender waits to hear of it.
    New { message: ReceivedMessage, acknowledge: bool },
    /// It was here before. The first acknowledgement may have been lost.
    Known { id: MessageId, acknowledge: bool },
    /// A direct message for which there is no room, or before which another has to come for which there was none. It was
    /// not looked at, so that it can come again.
    NoRoom,
}

pub(crate) struct Inbox {
    seen: Seen,
    turned_away: TurnedAway,
    /// Nonces to acknowledge, by the neighbour that sent them.
    acknowledge: BTreeMap<PeerId, Ranges>,
}

impl Inbox {
    /// Remembers what up to `senders` senders sent; `keep` says that it is written down too.
    pub(crate) fn new(senders: usize, keep: bool) -> Self {
        Self { seen: Seen::new(senders, keep), turned_away: TurnedAway::default(), acknowledge: BTreeMap::new() }
    }

    /// Takes up what an earlier run remembered.
    pub(super) fn restore(&mut self, windows: Vec<(Key, WindowRow)>) {
        windows.into_iter().for_each(|(slot, window)| self.seen.restore(slot, window));
    }

    /// Whether something is remembered that is not written down yet.
    pub(crate) fn has_marks(&self) -> bool {
        self.seen.has_marks()
    }

    /// Writes down what is remembered and was not before.
    pub(crate) fn write_marks(&mut self, journal: &mut Journal) {
        let (gone, changed) = self.seen.take_marks();
        for slot in gone {
            journal.add(Change::Remove(Shelf::Seen, slot), Haste::Later);
        }
        for (slot, row) in changed {
            journal.add(Change::Put(Shelf::Seen, slot, records::write_window(&row)), Haste::Later);
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
        let by_lane = arrival.lane.is_some();
        let delivery = match (frame.addressing, by_lane) {
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
            (Addressing::Group(group), _) if arrival.carried || arrival.groups.contains(&group) => {
                Delivery::Group(group)
            }
            (Addressing::Group(group), _) => {
                return rejected(RejectReason::UnknownGroup, format!("this node is not a member of {group}"));
            }
        };
        if frame.hops > config.propagation.max_hops {
            let detail = format!("{} hops, the limit is {}", frame.hops, config.propagation.max_hops);
            return rejected(RejectReason::TooManyHops, detail);
        }
        let way = Way { sender: frame.id.sender, priority: frame.priority, by_lane };
        let age = frame.created_at.map(|created_at| self.seen.age(now, way, created_at, frame.ttl));
        let mut expires_at = None;
        if let (Some(ttl), Some(age)) = (frame.ttl, age) {
            let Some(left) = ttl.checked_sub(age).filter(|left| !left.is_zero()) else {
                return rejected(RejectReason::Expired, format!("it is {age:?} old, its time to live was {ttl:?}"));
            };
            expires_at = Some(now.unix_millis.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)));
        }
        let expects_answer = by_lane && frame.authenticity == Authenticity::Signed;
        let acknowledge = expects_answer && frame.id.sender == arrival.neighbour;
        if delivery == Delivery::Direct && !self.seen.decided(way, nonce) {
            // Only what is acknowledged comes again, and so has an order to keep.
            let lane = arrival.lane.filter(|_| acknowledge).map(|link| (link, frame.priority));
            if !self.turned_away.lets_in(now, lane, nonce, arrival.room) {
                return Ok(Checked::NoRoom);
            }
        }
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
                    expires_at,
                    authenticity: frame.authenticity,
                    redelivered: false,
                    payload: frame.payload,
                };
                Ok(Checked::New { message, acknowledge })
            }
        }
    }

    /// A connection is gone; what it was refused comes by another, from the first on.
    pub(crate) fn link_closed(&mut self, link: LinkId) {
        self.turned_away.link_closed(link);
    }

    /// A neighbour is to hear that its message is here.
    pub(crate) fn acknowledge(&mut self, neighbour: PeerId, nonce: u64) {
        self.acknowledge.entry(neighbour).or_default().insert(nonce);
    }

    /// What has to be acknowledged, by neighbour.
    pub(crate) fn take_acknowledgements(&mut self) -> Vec<(PeerId, Vec<NonceRange>)> {
        let mut frames = Vec::new();
        for (peer, nonces) in std::mem::take(&mut self.acknowledge) {
            let ranges = nonces.into_vec();
            frames.extend(ranges.chunks(MAX_RANGES).map(|chunk| (peer, chunk.to_vec())));
        }
        frames
    }
}
