//! The peers of a snapshot: a map whose clone is cheap and shares what is the same.
//!
//! Every change to a peer makes a new snapshot, while handles may hold the one before. A plain map behind an [`Arc`]
//! would be copied as a whole for each; of this tree only the way from the root to the peer is: a few nodes of
//! [`WIDTH`], whatever number of peers there is. How many are connected is kept up with each change, not counted.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use libp2p::PeerId;

use crate::{core::PeerView, peer::ConnectionState};

/// Branches of a node, and the peers that a leaf may hold before it becomes one.
const WIDTH: usize = 16;

/// Bits of a peer's hash that one level of the tree takes.
const BITS: u32 = WIDTH.trailing_zeros();

/// The peers that are known, by their ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers {
    root: Arc<Node>,
    len: usize,
    connected: usize,
    /// With keys of its own, so that nobody can choose ids which make a long branch.
    hasher: RandomState,
}

#[derive(Debug, Clone)]
enum Node {
    Leaf(Vec<Arc<PeerView>>),
    /// By the next bits of the hash. It stays a branch when peers go: their number has a bound, and was reached.
    Branch([Arc<Node>; WIDTH]),
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

impl Peers {
    pub(crate) fn get(&self, peer: &PeerId) -> Option<&PeerView> {
        let (mut node, mut hash) = (&*self.root, self.hasher.hash_one(peer));
        while let Node::Branch(branches) = node {
            node = &branches[branch(hash)];
            hash >>= BITS;
        }
        let Node::Leaf(views) = node else { return None };
        views.iter().find(|view| view.info().peer == *peer).map(|view| &**view)
    }

    /// In no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PeerView> {
        let (mut nodes, mut leaf) = (vec![&*self.root], std::slice::Iter::<Arc<PeerView>>::default());
        std::iter::from_fn(move || {
            loop {
                if let Some(view) = leaf.next() {
                    return Some(&**view);
                }
                match nodes.pop()? {
                    Node::Leaf(views) => leaf = views.iter(),
                    Node::Branch(branches) => nodes.extend(branches.iter().map(|node| &**node)),
                }
            }
        })
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many are connected.
    pub(crate) fn connected(&self) -> usize {
        self.connected
    }

    /// Puts a peer in, in place of what was known of it.
    pub(super) fn insert(&mut self, view: PeerView) {
        let hash = self.hasher.hash_one(view.info().peer);
        let connected = is_connected(&view);
        let before = put(&mut self.root, &self.hasher, hash, 0, Arc::new(view));
        self.len += usize::from(before.is_none());
        self.connected += usize::from(connected);
        self.connected -= usize::from(before.is_some_and(|view| is_connected(&view)));
    }

    /// Forgets a peer.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        // Else the way to a peer that isn't there would be copied.
        if self.get(peer).is_none() {
            return;
        }
        let (mut node, mut hash) = (Arc::make_mut(&mut self.root), self.hasher.hash_one(peer));
        loop {
            match node {
                Node::Branch(branches) => node = Arc::make_mut(&mut branches[branch(hash)]),
                Node::Leaf(views) => {
                    if let Some(at) = views.iter().position(|view| view.info().peer == *peer) {
                        self.connected -= usize::from(is_connected(&views.swap_remove(at)));
                        self.len -= 1;
                    }
                    return;
                }
            }
            hash >>= BITS;
        }
    }
}

/// Puts a peer below a node at a depth; `hash` is what the levels above have left of its hash. Returns what was known of
/// the peer before.
fn put(
    node: &mut Arc<Node>,
    hasher: &RandomState,
    hash: u64,
    depth: u32,
    view: Arc<PeerView>,
) -> Option<Arc<PeerView>> {
    let node = Arc::make_mut(node);
    match node {
        Node::Branch(branches) => put(&mut branches[branch(hash)], hasher, hash >> BITS, depth + 1, view),
        Node::Leaf(views) => {
            if let Some(known) = views.iter_mut().find(|known| known.info().peer == view.info().peer) {
                return Some(std::mem::replace(known, view));
            }
            // Two peers whose hashes are the same to the last bit share a leaf, however many they are.
            if views.len() < WIDTH || (depth + 1) * BITS > u64::BITS {
                views.push(view);
                return None;
            }
            let mut branches = std::array::from_fn(|_| Vec::new());
            for view in views.drain(..).chain([view]) {
                let hash = hasher.hash_one(view.info().peer) >> (depth * BITS);
                branches[branch(hash)].push(view);
            }
            *node = Node::Branch(branches.map(|views| Arc::new(Node::Leaf(views))));
            None
        }
    }
}

fn branch(hash: u64) -> usize {
    (hash % WIDTH as u64) as usize
}

fn is_connected(view: &PeerView) -> bool {
    view.info().state == ConnectionState::Connected
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn view(number: u32, state: ConnectionState) -> PeerView {
        PeerView::of_a_stranger(peer(number), state)
    }

    fn peer(number: u32) -> PeerId {
        let key = [&[0, 36, 8, 1, 18, 32][..], &[7; 28], &number.to_be_bytes()].concat();
        PeerId::from_bytes(&key).expect("an id with its key in it")
    }

    /// The nodes and leaves of a tree, by their place in memory, with how many pointers each holds.
    fn nodes(node: &Arc<Node>, found: &mut BTreeMap<usize, usize>) {
        let held = match &**node {
            Node::Leaf(views) => views.len(),
            Node::Branch(branches) => {
                branches.iter().for_each(|node| nodes(node, found));
                WIDTH
            }
        };
        found.insert(Arc::as_ptr(node).addr(), held);
    }

    fn nodes_of(peers: &Peers) -> BTreeMap<usize, usize> {
        let mut found = BTreeMap::new();
        nodes(&peers.root, &mut found);
        found
    }

    #[test]
    fn it_holds_what_a_plain_map_holds() {
        let (mut peers, mut plain) = (Peers::default(), BTreeMap::new());
        let states = [ConnectionState::Connected, ConnectionState::Connecting, ConnectionState::Disconnected];
        // A walk that puts in, changes and takes out, with a number that comes round.
        let mut number = 1_u32;
        for step in 0..20_000_u32 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (id, state) = (number >> 22, states[(number >> 8) as usize % 3]);
            if step % 3 == 2 {
                peers.remove(&peer(id));
                plain.remove(&peer(id));
            } else {
                peers.insert(view(id, state));
                plain.insert(peer(id), state);
            }
        }
        assert!(plain.len() > 300, "the walk left something: {}", plain.len());
        assert_eq!(peers.len(), plain.len());
        assert_eq!(peers.connected(), plain.values().filter(|state| **state == ConnectionState::Connected).count());
        let held = peers.iter().map(|view| (view.info().peer, view.info().state)).collect::<BTreeMap<_, _>>();
        assert_eq!(held, plain);
        for id in 0..1024 {
            assert_eq!(peers.get(&peer(id)).map(|view| view.info().state), plain.get(&peer(id)).copied());
        }
    }

    #[test]
    fn a_change_copies_no_more_than_the_way_to_its_peer() {
        let mut peers = Peers::default();
        for number in 0..1_000 {
            peers.insert(view(number, ConnectionState::Connected));
        }
        for number in [0, 1, 500, 999, 1_000] {
            let before = peers.clone();
            peers.insert(view(number, ConnectionState::Disconnected));
            let shared = nodes_of(&before);
            let copied =
                nodes_of(&peers).into_iter().filter(|(place, _)| !shared.contains_key(place)).map(|(_, held)| held);
            // A map that is copied as a whole would copy a thousand.
            let copied = copied.sum::<usize>();
            assert!(copied <= 6 * WIDTH, "{copied} pointers of 1,000 peers were copied for one of them");
        }
        assert_eq!((peers.len(), peers.connected()), (1_001, 996));
    }

    #[test]
    fn an_older_picture_stays_as_it_was() {
        let mut peers = Peers::default();
        for number in 0..100 {
            peers.insert(view(number, ConnectionState::Connected));
        }
        let before = peers.clone();
        for number in 0..100 {
            peers.remove(&peer(number));
        }
        assert_eq!((peers.len(), peers.connected(), peers.iter().count()), (0, 0, 0));
        assert_eq!((before.len(), before.connected()), (100, 100));
        assert_eq!(before.iter().map(|view| view.info().peer).collect::<HashSet<_>>().len(), 100);
    }
}
