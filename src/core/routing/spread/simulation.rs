//! Many nodes on a clock of their own, on a network that delays, loses and tears. Everything follows from a seed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;
use crate::{
    core::{Link, LinkId},
    frame::Passing,
    peer::ConnectionKind,
};

/// What is on its way.
enum Parcel {
    Post(Post),
    Note(SpreadNote),
}

struct Node {
    spread: Spread,
    outbox: Outbox,
    random: Random,
    /// What the app got, and how often.
    got: BTreeMap<PostId, u32>,
}

/// A network.
pub(super) struct Net {
    nodes: Vec<Node>,
    links: BTreeSet<(usize, usize)>,
    flying: BTreeMap<(Duration, u64), (usize, usize, Parcel)>,
    /// When what is on its way between two nodes arrives at the earliest: lanes keep the order.
    busy: HashMap<(usize, usize, bool), Duration>,
    frames: HashMap<PostId, Post>,
    random: Random,
    sequence: u64,
    pub(super) now: Now,
    /// One in so many parcels is lost, which its sender learns as with a lane that breaks; 0 for none.
    pub(super) loss: u64,
}

pub(super) fn peer(number: usize) -> PeerId {
    let mut bytes = [&[0, 36, 8, 1, 18, 32][..], &[0; 32]].concat();
    bytes[30..38].copy_from_slice(&(number as u64).to_be_bytes());
    PeerId::from_bytes(&bytes).expect("a peer id")
}

/// One that is connected to so many peers.
pub(super) fn outbox(config: &NetworkConfig, count: usize) -> Outbox {
    let mut outbox = Outbox::new(config);
    for number in 0..count {
        outbox.link_opened(Now::default(), peer(number), &link(number), &mut Vec::new());
    }
    outbox
}

/// The connection to a peer.
pub(super) fn link(number: usize) -> Link {
    let address = "/ip4/192.0.2.1/tcp/1".parse().expect("an address");
    Link { id: LinkId(number as u64), kind: ConnectionKind::Tcp, address, outbound: true }
}

impl Net {
    pub(super) fn new(seed: u64, count: usize, configure: impl Fn(&mut NetworkConfig)) -> Self {
        let mut config = NetworkConfig::default();
        configure(&mut config);
        let node = |number: usize| Node {
            spread: Spread::new(peer(number), &config),
            outbox: outbox(&config, count),
            random: Random::new(seed ^ number as u64),
            got: BTreeMap::new(),
        };
        Self {
            nodes: (0..count).map(node).collect(),
            links: BTreeSet::new(),
            flying: BTreeMap::new(),
            busy: HashMap::new(),
            frames: HashMap::new(),
            random: Random::new(seed),
            sequence: 0,
            now: Now { since_start: Duration::from_secs(10), unix_millis: 1_000_000 },
            loss: 0,
        }
    }

    /// A ring, and some chords from each node.
    pub(super) fn ring(seed: u64, count: usize, chords: usize) -> Self {
        let mut net = Self::new(seed, count, |_| {});
        for one in 0..count {
            net.connect(one, (one + 1) % count);
            for _ in 0..chords {
                let other = net.random.next() as usize % count;
                net.connect(one, other);
            }
        }
        net.pass(Duration::from_secs(1));
        net
    }

    pub(super) fn connect(&mut self, one: usize, other: usize) {
        if one == other || !self.links.insert((one.min(other), one.max(other))) {
            return;
        }
        for (node, neighbour) in [(one, other), (other, one)] {
            self.nodes[node].spread.met(self.now, peer(neighbour), false);
            self.settle(node);
        }
    }

    pub(super) fn cut(&mut self, one: usize, other: usize) {
        if self.links.remove(&(one.min(other), one.max(other))) {
            self.flying.retain(|_, (from, to, _)| (*from, *to) != (one, other) && (*from, *to) != (other, one));
            for (node, neighbour) in [(one, other), (other, one)] {
                self.nodes[node].spread.gone(self.now, &peer(neighbour));
                self.settle(node);
            }
        }
    }

    pub(super) fn join(&mut self, node: usize, group: &str) {
        let now = self.now;
        self.nodes[node].spread.join(now, group.parse().expect("a name"));
        self.settle(node);
    }

    pub(super) fn leave(&mut self, node: usize, group: &str) {
        let now = self.now;
        self.nodes[node].spread.leave(now, &group.parse().expect("a name"));
        self.settle(node);
    }

    /// A node posts. Answers whether anybody takes it.
    pub(super) fn post(&mut self, node: usize, topic: Topic, passing: Passing) -> Option<PostId> {
        self.sequence += 1;
        let id = PostId((u128::from(self.random.next()) << 64 | u128::from(self.sequence)).to_be_bytes());
        let post = Post {
            id,
            author: peer(node),
            topic,
            passing,
            priority: Priority::Medium,
            hops: 0,
            expires_at: None,
            frame: id.0.to_vec().into(),
        };
        self.frames.insert(id, post.clone());
        let Node { spread, random, .. } = &mut self.nodes[node];
        let taken = spread.post(self.now, &post, random);
        self.settle(node);
        taken.then_some(id)
    }

    fn settle(&mut self, from: usize) {
        while self.send(from) {}
    }

    /// Sends what a node wishes. True when something of it was lost, upon which it may wish more.
    fn send(&mut self, from: usize) -> bool {
        let Node { spread, outbox, .. } = &mut self.nodes[from];
        let mut out = Vec::new();
        spread.pump(self.now, outbox, &mut out);
        let mut parcels = Vec::new();
        for output in out {
            let Output::Forward { peer, link, priority, frame, hops } = output else {
                panic!("only posts: {output:?}")
            };
            outbox.written(self.now, peer, link, priority, 1);
            let id = PostId(frame[..].try_into().expect("an id"));
            parcels.push((peer, Parcel::Post(Post { hops, ..self.frames[&id].clone() })));
        }
        let notes = spread.take_notes(outbox);
        parcels.extend(notes.into_iter().map(|(peer, note)| (peer, Parcel::Note(note))));
        let mut lost = BTreeSet::new();
        for (to, parcel) in parcels {
            let to = (0..self.nodes.len()).find(|number| peer(*number) == to).expect("a node");
            if self.loss > 0 && self.random.next().is_multiple_of(self.loss) {
                lost.insert(to);
                continue;
            }
            let lane = matches!(parcel, Parcel::Note(_));
            let delay = Duration::from_micros(1000 + self.random.next() % 20_000);
            let at = self.busy.entry((from, to, lane)).or_default();
            *at = (*at).max(self.now.since_start + delay);
            self.sequence += 1;
            self.flying.insert((*at, self.sequence), (from, to, parcel));
        }
        for to in &lost {
            self.nodes[from].spread.lost(self.now, peer(*to));
        }
        !lost.is_empty()
    }

    /// Turns the clock.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now.since_start + time;
        loop {
            let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
            let deadlines = self.nodes.iter().enumerate();
            let deadline = deadlines.filter_map(|(number, one)| Some((one.spread.next_deadline()?, number))).min();
            let next = arrival.into_iter().chain(deadline.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now.since_start = self.now.since_start.max(next);
            if arrival == Some(next) {
                let (_, (from, to, parcel)) = self.flying.pop_first().expect("something flies");
                self.arrive(from, to, parcel);
            } else if let Some((_, number)) = deadline {
                self.nodes[number].spread.tick(self.now);
                self.settle(number);
            }
        }
        self.now.since_start = until;
    }

    fn arrive(&mut self, from: usize, to: usize, parcel: Parcel) {
        let Node { spread, random, got, .. } = &mut self.nodes[to];
        match parcel {
            Parcel::Note(note) => drop(spread.hear(self.now, peer(from), false, note)),
            Parcel::Post(post) => match spread.arrived(self.now, peer(from), post, random) {
                Arrived::Verify(post) => {
                    if spread.is_member(&post.topic) {
                        *got.entry(post.id).or_default() += 1;
                    }
                    spread.verified(self.now, &post.id, true, random);
                }
                // Words and posts of groups may cross.
                Arrived::Known | Arrived::Refused(RejectReason::UnknownGroup, _) => {}
                Arrived::Refused(reason, detail) => panic!("{reason:?}: {detail}"),
                Arrived::NoRoom => panic!("nothing is verified for long here"),
            },
        }
        self.settle(to);
    }

    /// How many nodes got a post; nobody twice.
    pub(super) fn reached(&self, id: &PostId) -> usize {
        assert!(self.nodes.iter().all(|node| node.got.get(id).is_none_or(|times| *times == 1)), "nobody gets it twice");
        self.nodes.iter().filter(|node| node.got.contains_key(id)).count()
    }

    pub(super) fn got(&self, node: usize, id: &PostId) -> bool {
        self.nodes[node].got.contains_key(id)
    }

    pub(super) fn spread(&mut self, node: usize) -> &mut Spread {
        &mut self.nodes[node].spread
    }

    /// A figure over all nodes.
    pub(super) fn sum(&self, figure: impl Fn(&PropagationStats) -> u64) -> u64 {
        self.nodes.iter().map(|node| figure(&node.spread.stats)).sum()
    }
}
