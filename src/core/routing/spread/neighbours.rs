//! One neighbour: what it takes part in, and what waits for it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::carrying::Reach;
use crate::{
    frame::{Post, PostId, SpreadNote, Topic},
    message::{GroupName, Priority},
};

/// Bytes of posts that may wait for one neighbour.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// Posts that a neighbour may still have to be told of; more it doesn't hear of from this node.
const MAX_NEWS: usize = 8192;

/// A copy that waits for room in a lane.
pub(super) struct Queued {
    pub(super) id: PostId,
    pub(super) frame: Bytes,
    pub(super) hops: u32,
    pub(super) expires_at: Option<u64>,
    /// How the post spreads, for the figures.
    pub(super) passing: crate::frame::Passing,
}

pub(super) struct Neighbour {
    /// Whether it was told what this node takes part in.
    pub(super) greeted: bool,
    /// Whether it has said so of itself. Until then nothing spreads to it.
    pub(super) heard: bool,
    pub(super) relayed: bool,
    /// What it takes part in, and since when, in this node's time.
    pub(super) topics: BTreeMap<Topic, Duration>,
    /// Members of groups that it is none of and leads to.
    pub(super) beyond: BTreeMap<GroupName, Reach>,
    /// What it was told that it reaches by this node.
    pub(super) told: BTreeMap<GroupName, Vec<(PeerId, u32)>>,
    /// From 0 to 1: how glad it was lately of posts from here.
    pub(super) gladness: f32,
    /// What it is told with the next occasion.
    pub(super) note: SpreadNote,
    /// Posts it is to be told of in one of the next rounds.
    pub(super) news: BTreeSet<PostId>,
    /// Since when the oldest of them waits; `None` when there are none.
    pub(super) news_since: Option<Duration>,
    /// Rounds in which it had to wait.
    pub(super) passed_over: u32,
    queue: [VecDeque<Queued>; 3],
    queued: usize,
    queued_bytes: usize,
}

impl Neighbour {
    pub(super) fn new(relayed: bool) -> Self {
        Self {
            greeted: false,
            heard: false,
            relayed,
            topics: BTreeMap::new(),
            beyond: BTreeMap::new(),
            told: BTreeMap::new(),
            gladness: 1.0,
            note: SpreadNote::default(),
            news: BTreeSet::new(),
            news_since: None,
            passed_over: 0,
            queue: Default::default(),
            queued: 0,
            queued_bytes: 0,
        }
    }

    /// Tells of a post with one of the next rounds.
    pub(super) fn tell_of(&mut self, now: Duration, id: PostId) {
        if self.news.len() < MAX_NEWS {
            self.news.insert(id);
            self.news_since.get_or_insert(now);
        }
    }

    /// Whether the oldest news have waited for so long.
    pub(super) fn has_old_news(&self, now: Duration, age: Duration) -> bool {
        !self.news.is_empty() && self.news_since.is_none_or(|since| since + age <= now)
    }

    /// Lines a post up for it. When too much waits, the oldest of the lowest priority is dropped, and told of instead.
    /// Returns how many were dropped.
    pub(super) fn enqueue(&mut self, now: Duration, post: &Post, hops: u32, limit: usize) -> u64 {
        self.queued += 1;
        self.queued_bytes += post.frame.len();
        self.queue[post.priority.lane()].push_back(Queued {
            id: post.id,
            frame: post.frame.clone(),
            hops,
            expires_at: post.expires_at,
            passing: post.passing,
        });
        let mut shed = 0;
        while self.queued > limit || self.queued_bytes > MAX_QUEUED_BYTES {
            let lowest = Priority::ALL.into_iter().rev().find(|priority| !self.queue[priority.lane()].is_empty());
            let Some(dropped) = lowest.and_then(|priority| self.dequeue(priority)) else { break };
            self.tell_of(now, dropped.id);
            shed += 1;
        }
        shed
    }

    /// The next copy for a lane.
    pub(super) fn dequeue(&mut self, priority: Priority) -> Option<Queued> {
        let next = self.queue[priority.lane()].pop_front()?;
        self.queued -= 1;
        self.queued_bytes -= next.frame.len();
        Some(next)
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }
}
