//! Neighbours come and go, and say what they have and want.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Neighbour, Now, PeerId, PostId, Spread, SpreadNote, Topic};
use crate::message::GroupName;

/// So much earlier a post may have come than a neighbour says that it listens: its words were on their way.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// How old at most a frame is that was under way when its lane broke.
const UNDER_WAY: Duration = Duration::from_secs(30);

/// What hearing a neighbour out has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// It is a cpc-net node, which it had not said before.
    pub(crate) is_new: bool,
    /// Topics it takes part in, or leads to members of, that were not known, and for how long.
    pub(crate) joined: Vec<(Topic, Duration)>,
}

impl Spread {
    /// A connected peer is a node of this network.
    pub(crate) fn met(&mut self, now: Now, peer: PeerId, relayed: bool) {
        self.neighbours.entry(peer).or_insert_with(|| Neighbour::new(relayed)).relayed = relayed;
        self.greet(now, peer);
    }

    /// How a peer is connected has changed.
    pub(crate) fn set_relayed(&mut self, peer: &PeerId, relayed: bool) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.relayed = relayed;
        }
    }

    /// A peer is not connected any more.
    pub(crate) fn gone(&mut self, now: Now, peer: &PeerId) {
        if let Some(gone) = self.neighbours.remove(peer) {
            self.noted.remove(peer);
            self.lined_up.remove(peer);
            self.trees.forget(peer);
            self.missing.gone(now.since_start, peer);
            self.tell_of_members(
                now,
                groups(gone.topics.keys()).chain(gone.beyond.into_keys()).collect::<BTreeSet<_>>(),
            );
        }
    }

    /// Frames for a neighbour were lost with their lane, though the connection stands: it is told of all that they may have
    /// been.
    pub(crate) fn lost(&mut self, now: Now, peer: PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        if !std::mem::take(&mut neighbour.greeted) {
            return;
        }
        let beyond = neighbour.beyond.keys().cloned().map(Topic::Group);
        let topics = neighbour.topics.keys().cloned().chain(beyond).collect::<Vec<_>>();
        self.greet(now, peer);
        for topic in topics {
            self.catch_up(now, peer, &topic, UNDER_WAY);
        }
    }

    /// This node takes part in a group.
    pub(crate) fn join(&mut self, now: Now, group: GroupName) {
        let topic = Topic::Group(group);
        if self.topics.insert(topic.clone(), now.since_start).is_none() {
            self.tell_all(now, |note| note.joined.push((topic.clone(), Duration::ZERO)));
            self.tell_of_members(now, groups([&topic]));
        }
    }

    /// This node takes part in a group no more.
    pub(crate) fn leave(&mut self, now: Now, group: &GroupName) {
        let topic = Topic::Group(group.clone());
        if self.topics.remove(&topic).is_some() {
            self.trees.forget_topic(&topic);
            self.tell_all(now, |note| {
                // Of one note what was left is read first.
                note.joined.retain(|(joined, _)| *joined != topic);
                note.left.push(group.clone());
            });
            self.tell_of_members(now, [group.clone()]);
        }
    }

    fn tell_all(&mut self, now: Now, write: impl Fn(&mut SpreadNote)) {
        let (topics, mut told, mut outgrown) = (self.joined(now), Vec::new(), Vec::new());
        for (peer, neighbour) in self.neighbours.iter_mut().filter(|(_, neighbour)| neighbour.greeted) {
            let note = &mut neighbour.note;
            if note.hello {
                // All that is not said is over.
                note.joined.clone_from(&topics);
            } else if note.joined.len() + note.left.len() >= SpreadNote::MAX_TOPICS {
                outgrown.push(*peer);
            } else {
                write(note);
            }
            told.push(*peer);
        }
        self.noted.extend(told);
        for peer in outgrown {
            self.tell_how_things_are(now, peer);
        }
    }

    fn greet(&mut self, now: Now, peer: PeerId) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer).filter(|neighbour| !neighbour.greeted) {
            neighbour.greeted = true;
            self.tell_how_things_are(now, peer);
        }
    }

    /// What this node takes part in, and for how long.
    pub(super) fn joined(&self, now: Now) -> Vec<(Topic, Duration)> {
        self.topics.iter().map(|(topic, at)| (topic.clone(), now.since_start.saturating_sub(*at))).collect()
    }

    /// What a connected neighbour says.
    pub(crate) fn hear(&mut self, now: Now, peer: PeerId, relayed: bool, note: SpreadNote) -> Heard {
        let neighbour = self.neighbours.entry(peer).or_insert_with(|| Neighbour::new(relayed));
        let mut heard = Heard::default();
        let joined = groups(note.joined.iter().map(|(topic, _)| topic));
        let mut changed = joined.chain(note.left.iter().cloned()).collect::<BTreeSet<_>>();
        let (mut before, mut beyond_before) = (BTreeMap::new(), BTreeMap::new());
        if note.hello {
            heard.is_new = !neighbour.heard;
            neighbour.heard = true;
            before = std::mem::take(&mut neighbour.topics);
            beyond_before = std::mem::take(&mut neighbour.beyond);
            changed.extend(groups(before.keys()).chain(beyond_before.keys().cloned()));
        }
        for group in note.left {
            let topic = Topic::Group(group);
            neighbour.topics.remove(&topic);
        }
        for (topic, since) in note.joined {
            if neighbour.topics.len() < SpreadNote::MAX_TOPICS && !neighbour.topics.contains_key(&topic) {
                neighbour.topics.insert(topic.clone(), now.since_start.saturating_sub(since));
                // Who says hello again has lost what was under way.
                let since = if before.contains_key(&topic) { since.min(UNDER_WAY) } else { since };
                heard.joined.push((topic, since));
            }
        }
        for (topic, since) in self.hear_of_members(now, peer, note.beyond, &mut changed) {
            let known = matches!(&topic, Topic::Group(group) if beyond_before.contains_key(group));
            heard.joined.push((topic, if known { since.min(UNDER_WAY) } else { since }));
        }
        self.tell_of_members(now, changed);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return heard };
        if !neighbour.greeted {
            self.greet(now, peer);
        }
        for (topic, since) in &heard.joined {
            self.catch_up(now, peer, topic, *since);
        }
        for id in note.have {
            self.has(now, peer, id);
        }
        for id in note.want {
            self.wants(now, peer, &id);
        }
        for id in note.enough {
            self.has_enough(&peer, id);
        }
        heard
    }

    /// Tells a neighbour what came since it listens: it may have missed that.
    fn catch_up(&mut self, now: Now, peer: PeerId, topic: &Topic, since: Duration) {
        let at = now.since_start.saturating_sub(since.saturating_add(ON_ITS_WAY));
        for id in self.posts.since(topic, at) {
            let author = self.posts.get(&id).map(|kept| kept.post.author);
            let wanted = |neighbour| author.is_some_and(|author| self.takes(neighbour, topic, &author));
            if self.neighbours.get(&peer).is_some_and(wanted) {
                self.tell_of(now, peer, id);
            }
        }
    }

    fn has(&mut self, now: Now, peer: PeerId, id: PostId) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.news.remove(&id);
        }
        if !self.posts.knows(&id) {
            self.missing.told(now.since_start, peer, id);
        }
    }

    fn wants(&mut self, now: Now, peer: PeerId, id: &PostId) {
        let Some(kept) = self.posts.get(id) else { return };
        let takes = |neighbour| self.takes(neighbour, &kept.post.topic, &kept.post.author);
        if !self.neighbours.get(&peer).is_some_and(takes) {
            return;
        }
        let late = super::is_over(kept.post.expires_at, now);
        let post = kept.post.clone();
        let hops = if post.author == self.local { 0 } else { kept.hops.saturating_add(1) };
        let Some(neighbour) = self.neighbours.get_mut(&peer).filter(|_| !late && hops <= self.config.max_hops) else {
            return;
        };
        neighbour.gladness = (neighbour.gladness + 1.0) / 2.0;
        self.trees.graft(&(post.topic.clone(), post.author), &peer);
        self.stats.answered += 1;
        self.line_up(now, peer, &post, hops);
    }

    fn has_enough(&mut self, peer: &PeerId, id: PostId) {
        let Some(kept) = self.posts.get(&id) else { return };
        let key = (kept.post.topic.clone(), kept.post.author);
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.news.remove(&id);
            if self.trees.prune(&key, *peer) {
                neighbour.gladness *= 0.7;
            }
        }
    }
}

/// The groups among topics.
fn groups<'a>(topics: impl IntoIterator<Item = &'a Topic>) -> impl Iterator<Item = GroupName> {
    topics.into_iter().filter_map(|topic| match topic {
        Topic::Group(group) => Some(group.clone()),
        Topic::All => None,
    })
}
