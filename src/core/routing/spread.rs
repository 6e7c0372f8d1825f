//! How posts spread between cpc-net nodes: along a tree for each author that forms by itself (Plumtree), or by flooding.
//!
//! A new post goes to the neighbours that are its author's tree here; the others are told of it in rounds. Who gets a
//! copy of what it has says `enough` and is only told from then on; who was told of what doesn't come asks for it, and is
//! in the tree again. So a tree costs one copy for each node, and repairs itself when it tears.
//!
//! Invariants: a post is verified once, after copies have been told apart by the hash of their bytes, and handed on only
//! when it is good. Since the hash covers all but the hop count, a forged copy is another post, which keeps nobody from
//! the genuine one; and a hop count that somebody has raised doesn't count when a lower one comes. Nothing waits for a
//! slow neighbour but what is for it.
//!
//! `carrying`: groups that this node is no member of. `posts`: which are known and kept. `trees`: who gets whose posts. `missing`: whom to ask for what doesn't come.
//! `neighbours`: what waits for each.

mod carrying;
mod hearing;
mod missing;
mod neighbours;
mod posts;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod trees;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::PeerId;

use super::Outbox;
use crate::{
    config::NetworkConfig,
    core::{Now, Output, random::Random},
    event::RejectReason,
    frame::{Passing, Post, PostId, SpreadNote, Topic},
    message::Priority,
    peer::{PropagationStats, StrategyStats},
};

use carrying::{MAX_CARRIED, MAX_REFUSED, Places};
use missing::Missing;
use neighbours::Neighbour;
use posts::{Posts, is_over};
use trees::{TreeKey, Trees};

/// With how many neighbours an author's tree begins, besides those that were glad of posts before.
const FIRST_LINKS: usize = 6;

/// From which gladness on a neighbour is in new trees.
const GLAD: f32 = 0.5;

/// What becomes of a post that has come by a lane.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It is new; whoever verifies it brings the result to [`Spread::verified`].
    Verify(Post),
    /// It was here before.
    Known,
    /// It can't be taken here; nobody is to blame.
    Refused(RejectReason, String),
    /// There is no room to verify it now. It will be heard of again.
    NoRoom,
}

pub(crate) struct Spread {
    local: PeerId,
    config: crate::config::PropagationConfig,
    /// What this node takes part in, and since when.
    topics: BTreeMap<Topic, Duration>,
    neighbours: BTreeMap<PeerId, Neighbour>,
    /// Groups whose posts pass here though this node is no member.
    carried: Places,
    /// Those for which there was no place.
    refused: Places,
    posts: Posts,
    trees: Trees,
    missing: Missing,
    /// Neighbours with a note that waits.
    noted: BTreeSet<PeerId>,
    /// Neighbours for whom something was lined up.
    lined_up: BTreeSet<PeerId>,
    round_at: Option<Duration>,
    pub(crate) stats: PropagationStats,
}

/// Posts.
impl Spread {
    pub(crate) fn new(local: PeerId, config: &NetworkConfig) -> Self {
        Self {
            local,
            config: config.propagation.clone(),
            topics: BTreeMap::from([(Topic::All, Duration::ZERO)]),
            neighbours: BTreeMap::new(),
            carried: Places::new(MAX_CARRIED),
            refused: Places::new(MAX_REFUSED),
            posts: Posts::new(&config.propagation, config.limits.duplicate_cache),
            trees: Trees::default(),
            missing: Missing::default(),
            noted: BTreeSet::new(),
            lined_up: BTreeSet::new(),
            round_at: None,
            stats: PropagationStats::default(),
        }
    }

    /// A post of this node's own. False when no neighbour wants it: then nothing has happened.
    pub(crate) fn post(&mut self, now: Now, post: &Post, random: &mut Random) -> bool {
        if !self.neighbours.values().any(|neighbour| self.takes(neighbour, &post.topic, &self.local)) {
            return false;
        }
        self.strategy(post.passing).posted += 1;
        self.take(now, post.clone(), None, random);
        true
    }

    /// A post has come from a neighbour.
    pub(crate) fn arrived(&mut self, now: Now, from: PeerId, post: Post, random: &mut Random) -> Arrived {
        if post.hops > self.config.max_hops {
            // Not remembered: somebody may have raised the count, and the post may come by a shorter way too.
            let detail = format!("{} hops, the limit is {}", post.hops, self.config.max_hops);
            return Arrived::Refused(RejectReason::TooManyHops, detail);
        }
        if let Topic::Group(group) = &post.topic
            && !self.is_member(&post.topic)
            && !self.carries(&post, from)
        {
            return Arrived::Refused(
                RejectReason::UnknownGroup,
                format!("this node is no member of {group}, and leads to none"),
            );
        }
        if self.posts.knows(&post.id) {
            self.strategy(post.passing).duplicates += 1;
            self.copy_came(now, from, &post, random);
            return Arrived::Known;
        }
        if is_over(post.expires_at, now) {
            self.missing.end(&post.id);
            return Arrived::Refused(RejectReason::Expired, "its time to live was over when it came".to_owned());
        }
        if !self.posts.check(from, &post) {
            return Arrived::NoRoom;
        }
        self.missing.end(&post.id);
        Arrived::Verify(post)
    }

    /// A post has been verified and judged: whether the app gets it, and others too. Returns it, with its hops from here,
    /// when strangers may get it as well.
    pub(crate) fn verified(&mut self, now: Now, id: &PostId, is_new: bool, random: &mut Random) -> Option<(Post, u32)> {
        let (from, post) = self.posts.checked(id)?;
        self.posts.remember(*id);
        if !is_new {
            return None;
        }
        if self.is_member(&post.topic) {
            self.received(&post);
        } else {
            self.stats.carried += 1;
        }
        self.take(now, post.clone(), Some(from), random);
        let hops = self.hops_from_here(&post, post.hops);
        (hops <= self.config.max_hops).then_some((post, hops))
    }

    /// A post that strangers' gossip has brought, and that is good and new.
    pub(crate) fn brought_by_strangers(&mut self, now: Now, post: Post, random: &mut Random) {
        self.missing.end(&post.id);
        self.received(&post);
        self.take(now, post, None, random);
    }

    /// Whether a post is here, or on its way in.
    pub(crate) fn knows(&self, id: &PostId) -> bool {
        self.posts.knows(id)
    }

    /// Whether this node takes part in a topic itself.
    pub(crate) fn is_member(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }

    fn received(&mut self, post: &Post) {
        let strategy = self.strategy(post.passing);
        strategy.received += 1;
        strategy.hops += u64::from(post.hops);
    }

    fn strategy(&mut self, passing: Passing) -> &mut StrategyStats {
        match passing {
            Passing::Gossip => &mut self.stats.gossip,
            Passing::Flood => &mut self.stats.flood,
        }
    }

    fn take(&mut self, now: Now, post: Post, from: Option<PeerId>, random: &mut Random) {
        self.posts.keep(now, post.clone(), from);
        let hops = self.hops_from_here(&post, post.hops);
        self.hand_on(now, &post, hops, from, random);
    }

    /// How many nodes a copy has passed when it leaves here. The author doesn't count.
    fn hops_from_here(&self, post: &Post, hops: u32) -> u32 {
        if post.author == self.local { 0 } else { hops.saturating_add(1) }
    }

    /// Lines a post up for those who get it, and tells the others of it.
    fn hand_on(&mut self, now: Now, post: &Post, hops: u32, from: Option<PeerId>, random: &mut Random) {
        if hops > self.config.max_hops {
            self.stats.at_hop_limit += 1;
            return;
        }
        let takes = |peer: &PeerId, neighbour: &Neighbour| {
            Some(*peer) != from && *peer != post.author && self.takes(neighbour, &post.topic, &post.author)
        };
        let takers = self.neighbours.iter().filter(|(peer, neighbour)| takes(peer, neighbour)).map(|(peer, _)| *peer);
        let takers = takers.collect::<Vec<_>>();
        let lazy = match post.passing {
            Passing::Flood => BTreeSet::new(),
            Passing::Gossip => self.lazy(post, &takers, random),
        };
        for peer in takers {
            if lazy.contains(&peer) {
                self.tell_of(now, peer, post.id);
            } else {
                self.line_up(now, peer, post, hops);
            }
        }
    }

    /// Who is only told of a post.
    fn lazy(&mut self, post: &Post, takers: &[PeerId], random: &mut Random) -> BTreeSet<PeerId> {
        let key = (post.topic.clone(), post.author);
        if self.trees.begin(&key) && post.author != self.local {
            self.begin_tree(&key, takers, random);
        }
        let tree = self.trees.of(&key);
        tree.posts = tree.posts.saturating_add(1);
        let glad = tree.posts == 2;
        let (lazy, eager) = takers.iter().copied().partition::<BTreeSet<_>, _>(|peer| tree.is_lazy(peer));
        if glad {
            // They got the first post and didn't say that they had it.
            for peer in eager {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.gladness += (1.0 - neighbour.gladness) * 0.3;
                }
            }
        }
        lazy
    }

    /// Chooses who is in a new tree: who was glad of posts before, and some more; those reached through a relay last.
    fn begin_tree(&mut self, key: &TreeKey, takers: &[PeerId], random: &mut Random) {
        let mut others = takers.to_vec();
        random.shuffle(&mut others);
        let standing =
            |peer: &PeerId| self.neighbours.get(peer).map(|neighbour| (neighbour.relayed, neighbour.gladness));
        others.retain(|peer| standing(peer).is_some_and(|(_, gladness)| gladness < GLAD));
        others.sort_by_key(|peer| standing(peer).is_some_and(|(relayed, _)| relayed));
        let places = FIRST_LINKS.saturating_sub(takers.len() - others.len());
        for peer in others.into_iter().skip(places) {
            self.trees.prune(key, peer);
        }
    }

    /// One more copy of a post that is here, or being verified. One of the two ways it took is given up: the later, unless
    /// the first leads no further or costs a relay.
    fn copy_came(&mut self, now: Now, from: PeerId, post: &Post, random: &mut Random) {
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.news.remove(&post.id);
        }
        let Some((hops, first)) = self.posts.way(&post.id) else { return };
        let Some(first) = first.filter(|first| *first != from) else { return };
        let is_relayed = |peer| self.neighbours.get(&peer).is_some_and(|neighbour| neighbour.relayed);
        let was_stuck = hops >= self.config.max_hops && post.hops < self.config.max_hops;
        let is_better = was_stuck || is_relayed(first) && !is_relayed(from);
        self.posts.came_again(&post.id, post.hops, is_better.then_some(from));
        if was_stuck && let Some(kept) = self.posts.get(&post.id) {
            let (post, hops) = (kept.post.clone(), kept.hops + 1);
            self.hand_on(now, &post, hops, Some(from), random);
        }
        let superfluous = if is_better { first } else { from };
        if post.passing == Passing::Gossip && self.neighbours.get(&superfluous).is_some_and(|one| one.heard) {
            // Who has it from elsewhere needs it as little from here.
            let key = (post.topic.clone(), post.author);
            self.trees.prune(&key, superfluous);
            if self.trees.should_tell(&key, superfluous, now.since_start) {
                self.note(superfluous, |note| note.enough.push(post.id));
            }
        }
    }

    fn line_up(&mut self, now: Now, peer: PeerId, post: &Post, hops: u32) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            let shed = neighbour.enqueue(now.since_start, post, hops, self.config.queue_posts);
            self.stats.shed += shed;
            self.lined_up.insert(peer);
            if shed > 0 {
                self.round_at.get_or_insert(now.since_start + self.config.round);
            }
        }
    }

    fn tell_of(&mut self, now: Now, peer: PeerId, id: PostId) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.tell_of(now.since_start, id);
            self.round_at.get_or_insert(now.since_start + self.config.round);
        }
    }

    fn note(&mut self, peer: PeerId, write: impl FnOnce(&mut SpreadNote)) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            write(&mut neighbour.note);
            self.noted.insert(peer);
        }
    }
}

/// Time, and wishes out.
impl Spread {
    /// What is due: rounds, and what is missed.
    pub(crate) fn tick(&mut self, now: Now) {
        self.posts.tick(now);
        for (peer, id) in self.missing.ask(now.since_start, self.config.batch_size) {
            self.stats.asked += 1;
            self.note(peer, |note| note.want.push(id));
        }
        if self.round_at.is_some_and(|at| at <= now.since_start) {
            self.round(now);
        }
    }

    /// Tells a share of the neighbours what is there: first who was passed over for longest.
    fn round(&mut self, now: Now) {
        let is_due = |neighbour: &Neighbour| neighbour.has_old_news(now.since_start, self.config.round / 2);
        let waiting = self.neighbours.iter().filter(|(_, neighbour)| is_due(neighbour));
        let mut waiting = waiting.map(|(peer, one)| (u32::MAX - one.passed_over, *peer)).collect::<Vec<_>>();
        waiting.sort_unstable();
        let share = (waiting.len() as f32 * self.config.gossip_factor).ceil() as usize;
        for (place, (_, peer)) in waiting.into_iter().enumerate() {
            if place < share {
                self.tell_news(now, peer);
            } else if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                neighbour.passed_over += 1;
            }
        }
        let left = self.neighbours.values().any(|neighbour| !neighbour.news.is_empty());
        self.round_at = left.then(|| now.since_start + self.config.round);
    }

    /// A neighbour is told with its next note what is there, as much as one may name.
    fn tell_news(&mut self, now: Now, peer: PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        neighbour.passed_over = 0;
        while neighbour.note.have.len() < self.config.batch_size
            && let Some(id) = neighbour.news.pop_first()
        {
            // What is not kept any more can't be asked for.
            if self.posts.get(&id).is_some_and(|kept| !is_over(kept.post.expires_at, now)) {
                neighbour.note.have.push(id);
                self.stats.told += 1;
            }
        }
        if neighbour.news.is_empty() {
            neighbour.news_since = None;
        }
        self.noted.insert(peer);
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.round_at.into_iter().chain(self.missing.next_deadline()).min()
    }

    /// Hands to the lanes what they have room for.
    pub(crate) fn pump(&mut self, now: Now, outbox: &mut Outbox, out: &mut impl Extend<Output>) {
        let (mut waiting, mut along) = (BTreeSet::new(), Vec::new());
        for peer in std::mem::take(&mut self.lined_up) {
            let Some(neighbour) = self.neighbours.get_mut(&peer) else { continue };
            for priority in Priority::ALL {
                while outbox.has_room(&peer, priority)
                    && let Some(copy) = neighbour.dequeue(priority)
                {
                    if is_over(copy.expires_at, now) {
                        continue;
                    }
                    match copy.passing {
                        Passing::Gossip => self.stats.gossip.forwarded += 1,
                        Passing::Flood => self.stats.flood.forwarded += 1,
                    }
                    outbox.forward(peer, priority, copy.frame, copy.hops, out);
                }
            }
            if neighbour.queued() > 0 {
                waiting.insert(peer);
            } else if neighbour.has_old_news(now.since_start, self.config.round / 2) {
                along.push(peer);
            }
        }
        self.lined_up = waiting;
        // News travel along with a post: a frame of its own costs both ends as much as a post does.
        for peer in along {
            self.tell_news(now, peer);
        }
    }

    /// What is to be said to neighbours now, to those whose lanes have room.
    pub(crate) fn take_notes(&mut self, outbox: &Outbox) -> Vec<(PeerId, SpreadNote)> {
        let mut notes = Vec::new();
        self.noted.retain(|peer| {
            let Some(neighbour) = self.neighbours.get_mut(peer) else { return false };
            if !outbox.has_room(peer, neighbour.note.priority()) {
                return true;
            }
            notes.push((*peer, std::mem::take(&mut neighbour.note)));
            false
        });
        // A list that had to wait for long is cut to what is read of it; what is lost of it is heard of or asked for again.
        for (_, note) in &mut notes {
            for ids in [&mut note.have, &mut note.want, &mut note.enough] {
                ids.truncate(SpreadNote::MAX_IDS);
            }
        }
        notes.retain(|(_, note)| *note != SpreadNote::default());
        notes
    }

    /// Whether nothing waits that could still leave.
    pub(crate) fn is_idle(&self) -> bool {
        self.lined_up.is_empty()
    }
}
