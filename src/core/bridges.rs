//! Others' posts on their way to strangers, who know gossipsub only.
//!
//! Strangers may have several nodes of this network among their peers, and gossipsub tells posts apart by who published
//! them, so each node that carried one over at once would give them another copy. So a node waits a moment before it
//! carries somebody else's post over, each node another moment for one author and the same for all of that author's posts,
//! which keeps their order. Who hears the post from the strangers meanwhile leaves it at that. What the node itself posts
//! leaves at once.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use libp2p::PeerId;

use super::Now;
use crate::frame::{Post, PostId};

/// The moments of all nodes lie within this time. Strangers pass a post on in a few milliseconds.
const WITHIN: Duration = Duration::from_millis(200);

/// Posts that may wait; those beyond leave at once.
const MAX_WAITING: usize = 512;

/// When a post is carried over, and in which order those of one time.
type Turn = (Duration, u64);

/// Posts that wait to be carried over, with their hops.
pub(super) struct Bridges {
    local: PeerId,
    /// Whether any stranger has ever subscribed to anything.
    strangers: bool,
    waiting: BTreeMap<Turn, (Post, u32)>,
    turns: HashMap<PostId, Turn>,
    count: u64,
}

impl Bridges {
    pub(super) fn new(local: PeerId) -> Self {
        Self { local, strangers: false, waiting: BTreeMap::new(), turns: HashMap::new(), count: 0 }
    }

    /// A stranger listens to something.
    pub(super) fn somebody_listens(&mut self) {
        self.strangers = true;
    }

    /// A post that strangers may want. Returns it when it is to leave at once.
    pub(super) fn carry(&mut self, now: Now, post: Post, hops: u32) -> Option<(Post, u32)> {
        if !self.strangers {
            return None;
        }
        if post.author == self.local || self.waiting.len() >= MAX_WAITING {
            return Some((post, hops));
        }
        self.count += 1;
        let turn = (now.since_start + self.moment(&post.author), self.count);
        self.turns.insert(post.id, turn);
        self.waiting.insert(turn, (post, hops));
        None
    }

    /// Strangers have a post already. True when it was to be carried over.
    pub(super) fn heard(&mut self, id: &PostId) -> bool {
        self.turns.remove(id).is_some_and(|turn| self.waiting.remove(&turn).is_some())
    }

    /// What nobody else has carried over by now.
    pub(super) fn due(&mut self, now: Now) -> Vec<(Post, u32)> {
        let later = self.waiting.split_off(&(now.since_start + Duration::from_nanos(1), 0));
        self.leave(later)
    }

    /// All that waits, since the node stops.
    pub(super) fn all(&mut self) -> Vec<(Post, u32)> {
        self.leave(BTreeMap::new())
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    fn leave(&mut self, later: BTreeMap<Turn, (Post, u32)>) -> Vec<(Post, u32)> {
        let leaving = std::mem::replace(&mut self.waiting, later).into_values().collect::<Vec<_>>();
        for (post, _) in &leaving {
            self.turns.remove(&post.id);
        }
        leaving
    }

    /// How long this node waits with the posts of an author. Nobody has to agree on it: it only has to differ.
    fn moment(&self, author: &PeerId) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.local, author).hash(&mut hasher);
        WITHIN.mul_f64((hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::{Passing, Topic},
        message::Priority,
    };

    fn at(millis: u64) -> Now {
        Now { since_start: Duration::from_millis(millis), unix_millis: millis }
    }

    fn post(author: PeerId, number: u8) -> Post {
        Post {
            id: PostId([number; PostId::LEN]),
            author,
            topic: Topic::All,
            passing: Passing::Gossip,
            priority: Priority::Medium,
            hops: 0,
            expires_at: None,
            frame: vec![number].into(),
        }
    }

    fn numbers(posts: Vec<(Post, u32)>) -> Vec<u8> {
        posts.into_iter().map(|(post, _)| post.id.0[0]).collect()
    }

    #[test]
    fn others_posts_wait_for_a_moment_in_order_and_own_ones_do_not() {
        let (local, author) = (PeerId::random(), PeerId::random());
        let mut bridges = Bridges::new(local);
        assert_eq!(bridges.carry(at(0), post(local, 0), 0), None, "there are no strangers");
        bridges.somebody_listens();
        assert!(bridges.carry(at(0), post(local, 0), 0).is_some());
        for number in 1..=3 {
            assert_eq!(bridges.carry(at(number.into()), post(author, number), 2), None);
        }
        assert!(bridges.heard(&PostId([2; PostId::LEN])), "another node was first");
        assert!(!bridges.heard(&PostId([2; PostId::LEN])));
        let first = bridges.next_deadline().expect("they wait");
        assert!(first <= WITHIN + Duration::from_millis(1));
        let now = Now { since_start: first, unix_millis: 0 };
        assert_eq!(numbers(bridges.due(now)), [1]);
        assert_eq!(numbers(bridges.due(at(300))), [3]);
        assert_eq!((bridges.next_deadline(), bridges.turns.len()), (None, 0));
    }

    #[test]
    fn nodes_differ_in_their_moments_and_what_is_too_much_leaves_at_once() {
        let author = PeerId::random();
        let moments = (0..64).map(|_| Bridges::new(PeerId::random()).moment(&author)).collect::<Vec<_>>();
        let early = moments.iter().filter(|moment| **moment < WITHIN / 2).count();
        assert!((10..54).contains(&early) && moments.iter().all(|moment| *moment <= WITHIN), "{moments:?}");
        let mut bridges = Bridges::new(PeerId::random());
        bridges.somebody_listens();
        let id = |number: usize| {
            let mut id = [0; PostId::LEN];
            id[..8].copy_from_slice(&number.to_be_bytes());
            PostId(id)
        };
        for number in 0..MAX_WAITING {
            assert_eq!(bridges.carry(at(0), Post { id: id(number), ..post(author, 0) }, 1), None);
        }
        assert!(bridges.carry(at(0), Post { id: id(MAX_WAITING), ..post(author, 0) }, 1).is_some());
        assert_eq!(bridges.all().len(), MAX_WAITING, "what waits leaves when the node stops");
        assert_eq!(bridges.next_deadline(), None);
    }
}
