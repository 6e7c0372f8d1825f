//! Posts of groups cross nodes that are no members.
//!
//! A node that is no member of a group tells each neighbour which members it reaches by the others, and how many nodes
//! lie between that are no members either: a distance vector with split horizon (as in RFC 2453). Members are told by
//! name, the nearest few of them, so a post goes only where somebody waits for it who is not its author and no neighbour
//! of one's own, and a node in a ring doesn't take itself for company. Words that go round rise by one each time and end at the limit.
//!
//! Who carries a post verifies it, remembers it and hands it on like any other; its app doesn't see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Neighbour, Now, PeerId, Post, Spread, Topic};
use crate::{frame::Beyond, message::GroupName};

/// Groups that a node carries without being a member, a quarter at most for one neighbour's sake. Those that come when it
/// carries so many wait until there is a place: until then their posts end here. Of so many a neighbour's note tells, too, so that it fits into a frame.
pub(super) const MAX_CARRIED: usize = 128;

/// Groups that wait for a place, again a quarter at most for one neighbour's sake. Those beyond have to be told of anew.
pub(super) const MAX_REFUSED: usize = 4 * MAX_CARRIED;

/// What a neighbour reaches of a group that it is no member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    /// For how long at most the members have taken part: since when, in this node's time.
    since: Duration,
    /// The nearest first, with how many nodes lie between that are no members, the neighbour among them.
    members: Vec<(PeerId, u32)>,
}

impl Reach {
    /// Whether somebody waits there for what an author posts, besides those who get it anyway. Of a list that is full,
    /// those may be the ones that are not named.
    fn leads_beyond(&self, author: &PeerId, gets_it_anyway: impl Fn(&PeerId) -> bool) -> bool {
        let mut others = self.members.iter().filter(|(member, _)| member != author);
        others.any(|(member, _)| self.members.len() >= Beyond::MAX_MEMBERS || !gets_it_anyway(member))
    }
}

/// Room for groups, of which one neighbour has its share and not all.
pub(super) struct Places {
    most: usize,
    /// With the neighbour by which all their members are reached, when there is only one.
    taken: BTreeMap<GroupName, Option<PeerId>>,
}

impl Places {
    /// So many, of which one neighbour may be the only reason for a quarter.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: BTreeMap::new() }
    }

    pub(super) fn contains(&self, group: &GroupName) -> bool {
        self.taken.contains_key(group)
    }

    fn is_full(&self) -> bool {
        self.taken.len() >= self.most
    }

    fn names(&self) -> Vec<GroupName> {
        self.taken.keys().cloned().collect()
    }

    /// Gives a group a place, when there is one. `only_by` is the neighbour without which nobody would be reached of it.
    fn take(&mut self, group: &GroupName, only_by: Option<PeerId>) -> bool {
        let share = only_by.map_or(0, |_| self.taken.values().filter(|by| **by == only_by).count());
        let is_free = !self.is_full() && share < self.most / 4;
        if is_free {
            self.taken.insert(group.clone(), only_by);
        }
        is_free
    }

    /// Takes a group's place away. Answers for whom it was, if it had one.
    fn free(&mut self, group: &GroupName) -> Option<Option<PeerId>> {
        self.taken.remove(group)
    }
}

/// A way to a member, by a neighbour.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Leads {
    between: u32,
    member: PeerId,
    by: PeerId,
    since: Duration,
}

impl Spread {
    /// Whether a neighbour wants an author's posts: for itself, or for somebody beyond it.
    pub(super) fn takes(&self, neighbour: &Neighbour, topic: &Topic, author: &PeerId) -> bool {
        if !neighbour.heard {
            return false;
        }
        if neighbour.topics.contains_key(topic) {
            return true;
        }
        let Topic::Group(group) = topic else { return false };
        let is_member = |peer: &PeerId| {
            self.neighbours.get(peer).is_some_and(|neighbour| neighbour.heard && neighbour.topics.contains_key(topic))
        };
        neighbour.beyond.get(group).is_some_and(|reach| reach.leads_beyond(author, is_member))
    }

    /// Whether a post goes on from here to somebody but the neighbour it came from.
    pub(super) fn carries(&self, post: &Post, from: PeerId) -> bool {
        let Topic::Group(group) = &post.topic else { return false };
        self.carried.contains(group)
            && self.neighbours.iter().any(|(peer, one)| *peer != from && self.takes(one, &post.topic, &post.author))
    }

    /// Takes in what a neighbour says it reaches. Returns the groups of which that is news, and since when the members
    /// there have taken part.
    pub(super) fn hear_of_members(
        &mut self,
        now: Now,
        peer: PeerId,
        told: Vec<Beyond>,
        changed: &mut BTreeSet<GroupName>,
    ) -> Vec<(Topic, Duration)> {
        let (local, limit) = (self.local, self.config.max_carriers);
        let mut news = Vec::new();
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return news };
        for Beyond { group, since, mut members } in told {
            members.retain(|(member, between)| *member != local && (1..=limit).contains(between));
            members.truncate(Beyond::MAX_MEMBERS);
            if members.is_empty() {
                neighbour.beyond.remove(&group);
            } else if neighbour.beyond.len() < MAX_CARRIED || neighbour.beyond.contains_key(&group) {
                let reach = Reach { since: now.since_start.saturating_sub(since), members };
                if neighbour.beyond.insert(group.clone(), reach).is_none() {
                    news.push((Topic::Group(group.clone()), since));
                }
            }
            changed.insert(group);
        }
        news
    }

    /// Tells each neighbour what it reaches by this node now, where that is not what it was told.
    pub(super) fn tell_of_members(&mut self, now: Now, groups: impl IntoIterator<Item = GroupName>) {
        // Places are free before they are given: first come groups that nobody is reached of, last those that are new.
        let turn = |group: &GroupName| match () {
            () if !self.may_be_carried(group) => 0,
            () if self.carried.contains(group) => 1,
            () => 2,
        };
        let mut groups = groups.into_iter().map(|group| (turn(&group), group)).collect::<Vec<_>>();
        groups.sort_unstable();
        let (mut freed, mut outgrown) = (false, BTreeSet::new());
        for (_, group) in groups {
            freed |= self.consider(now, &group, &mut outgrown);
        }
        let refused = if freed { self.refused.names() } else { Vec::new() };
        for group in refused {
            if self.carried.is_full() {
                break;
            }
            self.consider(now, &group, &mut outgrown);
        }
        for peer in outgrown {
            self.tell_how_things_are(now, peer);
        }
    }

    /// Whether somebody is reached of a group, and this node is none of it.
    fn may_be_carried(&self, group: &GroupName) -> bool {
        let topic = Topic::Group(group.clone());
        let leads = |neighbour: &Neighbour| {
            neighbour.heard && (neighbour.topics.contains_key(&topic) || neighbour.beyond.contains_key(group))
        };
        !self.topics.contains_key(&topic) && self.neighbours.values().any(leads)
    }

    /// Carries a group or lets it be, and tells each neighbour that is not told yet. Answers whether others may have got room
    /// by it. What neighbours can't be told of any more is left to the caller.
    fn consider(&mut self, now: Now, group: &GroupName, outgrown: &mut BTreeSet<PeerId>) -> bool {
        let ways = if self.may_be_carried(group) { self.ways_to_members(group) } else { Vec::new() };
        let before = self.carried.free(group);
        self.refused.free(group);
        let by = ways.first().map(|first| Some(first.by).filter(|by| ways.iter().all(|way| way.by == *by)));
        let may = by.is_some_and(|by| self.carried.take(group, by));
        if let Some(by) = by
            && !may
        {
            // Past that bound it is heard of when its members say something again.
            self.refused.take(group, by);
        }
        if before.is_some() && !may && !self.is_member(&Topic::Group(group.clone())) {
            self.trees.forget_topic(&Topic::Group(group.clone()));
        }
        for (peer, neighbour) in self.neighbours.iter_mut().filter(|(_, neighbour)| neighbour.greeted) {
            let ways = if may { &ways[..] } else { &[] };
            let (members, since) = nearest(ways, peer, self.config.max_carriers);
            if neighbour.told.get(group).map_or(&[][..], |told| &told[..]) == members {
                continue;
            }
            if members.is_empty() {
                neighbour.told.remove(group);
            } else {
                neighbour.told.insert(group.clone(), members.clone());
            }
            neighbour.note.beyond.retain(|beyond| beyond.group != *group);
            if neighbour.note.hello && members.is_empty() {
                // All that is not said is over.
                continue;
            }
            if neighbour.note.beyond.len() >= MAX_CARRIED {
                outgrown.insert(*peer);
                continue;
            }
            let since = now.since_start.saturating_sub(since);
            neighbour.note.beyond.push(Beyond { group: group.clone(), since, members });
            self.noted.insert(*peer);
        }
        before.is_some_and(|before| !may || by != Some(before))
    }

    /// What a neighbour has to be told for which nothing counts that it was told before: because it is greeted anew, or more
    /// has changed than it could be told of, slow as it is.
    pub(super) fn tell_how_things_are(&mut self, now: Now, peer: PeerId) {
        let joined = self.joined(now);
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            (neighbour.note.hello, neighbour.note.joined) = (true, joined);
            neighbour.note.left.clear();
            self.noted.insert(peer);
            neighbour.told.clear();
            neighbour.note.beyond.clear();
            self.tell_of_members(now, self.carried.names());
        }
    }

    /// All ways to members of a group, the nearest first.
    fn ways_to_members(&self, group: &GroupName) -> Vec<Leads> {
        let topic = Topic::Group(group.clone());
        let mut ways = Vec::new();
        for (by, neighbour) in self.neighbours.iter().filter(|(_, neighbour)| neighbour.heard) {
            if let Some(since) = neighbour.topics.get(&topic) {
                ways.push(Leads { between: 0, member: *by, by: *by, since: *since });
            } else if let Some(reach) = neighbour.beyond.get(group) {
                let since = reach.since;
                let lead = |&(member, between): &(PeerId, u32)| Leads { between, member, by: *by, since };
                ways.extend(reach.members.iter().map(lead));
            }
        }
        ways.sort_unstable();
        ways
    }
}

/// What a neighbour reaches by this node, which is one more between, and since when the oldest member there takes part.
fn nearest(ways: &[Leads], neighbour: &PeerId, limit: u32) -> (Vec<(PeerId, u32)>, Duration) {
    let (mut members, mut oldest) = (Vec::<(PeerId, u32)>::new(), Duration::MAX);
    for way in ways.iter().filter(|way| way.by != *neighbour && way.member != *neighbour && way.between < limit) {
        if members.len() < Beyond::MAX_MEMBERS && members.iter().all(|(member, _)| *member != way.member) {
            members.push((way.member, way.between + 1));
            oldest = oldest.min(way.since);
        }
    }
    (members, oldest)
}

#[cfg(test)]
mod tests;
