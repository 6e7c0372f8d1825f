//! Which neighbours get an author's posts, and which are only told of them.
//!
//! A tree for each author, not one for all as in the paper: a shared tree is twice as deep for those who are not at its
//! root, and posts end after a few hops. A new tree begins with those neighbours that were glad of such posts before, and
//! with some more by chance, so that a node in the middle of a star hands on to all and one in a dense crowd to few.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use libp2p::PeerId;

use crate::frame::Topic;

/// Trees that are remembered; the one unused for longest is forgotten first, and would begin anew.
const MAX_TREES: usize = 1024;

/// Pruned links in all trees together.
const MAX_LINKS: usize = 65_536;

/// How often at most a neighbour is told again that its posts of one author are not needed: some are always under way.
const ENOUGH_AGAIN: Duration = Duration::from_secs(1);

/// Whose posts, and in which topic.
pub(super) type TreeKey = (Topic, PeerId);

#[derive(Default)]
pub(super) struct Tree {
    last_use: u64,
    /// Posts that went along it, up to 2.
    pub(super) posts: u8,
    /// Neighbours that don't get the posts.
    lazy: BTreeSet<PeerId>,
    /// Neighbours that were told to send no more, and when.
    told: BTreeMap<PeerId, Duration>,
}

impl Tree {
    pub(super) fn is_lazy(&self, peer: &PeerId) -> bool {
        self.lazy.contains(peer)
    }
}

#[derive(Default)]
pub(super) struct Trees {
    trees: HashMap<TreeKey, Tree>,
    /// By their last use.
    order: BTreeMap<u64, TreeKey>,
    uses: u64,
    links: usize,
}

impl Trees {
    /// Remembers the tree of an author. False when it was remembered before.
    pub(super) fn begin(&mut self, key: &TreeKey) -> bool {
        let is_new = !self.trees.contains_key(key);
        self.of(key);
        is_new
    }

    /// The tree of an author.
    pub(super) fn of(&mut self, key: &TreeKey) -> &mut Tree {
        self.uses += 1;
        let is_new = !self.trees.contains_key(key);
        while (is_new && self.trees.len() >= MAX_TREES || self.links > MAX_LINKS)
            && let Some((_, forgotten)) = self.order.pop_first()
        {
            self.links -= self.trees.remove(&forgotten).map_or(0, |tree| tree.lazy.len());
        }
        let tree = self.trees.entry(key.clone()).or_default();
        self.order.remove(&tree.last_use);
        tree.last_use = self.uses;
        self.order.insert(self.uses, key.clone());
        tree
    }

    /// A neighbour gets no more posts of this tree. False when that was so already.
    pub(super) fn prune(&mut self, key: &TreeKey, peer: PeerId) -> bool {
        let tree = self.of(key);
        let pruned = tree.lazy.insert(peer);
        self.links += usize::from(pruned);
        pruned
    }

    /// A neighbour gets the posts of this tree again.
    pub(super) fn graft(&mut self, key: &TreeKey, peer: &PeerId) {
        let tree = self.of(key);
        let grafted = tree.lazy.remove(peer);
        self.links -= usize::from(grafted);
    }

    /// Whether to tell a neighbour now that its posts are not needed.
    pub(super) fn should_tell(&mut self, key: &TreeKey, peer: PeerId, now: Duration) -> bool {
        let tree = self.of(key);
        let again = tree.told.get(&peer).is_none_or(|told| *told + ENOUGH_AGAIN <= now);
        if again {
            tree.told.insert(peer, now);
        }
        again
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        for tree in self.trees.values_mut() {
            self.links -= usize::from(tree.lazy.remove(peer));
            tree.told.remove(peer);
        }
    }

    pub(super) fn forget_topic(&mut self, topic: &Topic) {
        let gone = self.order.values().filter(|(of, _)| of == topic).cloned().collect::<Vec<_>>();
        self.order.retain(|_, (of, _)| of != topic);
        for key in gone {
            self.links -= self.trees.remove(&key).map_or(0, |tree| tree.lazy.len());
        }
    }
}
