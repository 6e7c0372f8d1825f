//! Which posts are known, which are being verified, and which are kept for neighbours that miss them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::{
    config::PropagationConfig,
    core::Now,
    frame::{Post, PostId, Topic},
};

/// Posts that may be verified at a time, and their bytes; what comes beyond is dropped as if it had been lost on its way.
const MAX_CHECKING: usize = 1024;
const MAX_CHECKING_BYTES: usize = 16 * 1024 * 1024;

/// A post that neighbours may still ask for.
pub(super) struct Kept {
    pub(super) post: Post,
    /// How many nodes had forwarded the copy that came, or the best of several.
    pub(super) hops: u32,
    /// Who brought it; `None` for own posts and those of strangers.
    pub(super) from: Option<PeerId>,
    at: Duration,
}

pub(super) struct Posts {
    remembered: usize,
    keep_for: Duration,
    keep_posts: usize,
    keep_bytes: usize,
    /// Every post that came, in the order of their coming.
    known: HashSet<PostId>,
    order: VecDeque<PostId>,
    checking: HashMap<PostId, (PeerId, Post)>,
    checking_bytes: usize,
    kept: HashMap<PostId, Kept>,
    kept_order: VecDeque<PostId>,
    kept_bytes: usize,
}

impl Posts {
    pub(super) fn new(config: &PropagationConfig, remembered: usize) -> Self {
        Self {
            remembered,
            keep_for: config.keep_for,
            keep_posts: config.keep_posts,
            keep_bytes: config.keep_bytes,
            known: HashSet::new(),
            order: VecDeque::new(),
            checking: HashMap::new(),
            checking_bytes: 0,
            kept: HashMap::new(),
            kept_order: VecDeque::new(),
            kept_bytes: 0,
        }
    }

    /// Whether it is here, is being verified, or was refused. Since an id names exact bytes, what was found of the first
    /// copy holds for all.
    pub(super) fn knows(&self, id: &PostId) -> bool {
        self.known.contains(id) || self.checking.contains_key(id)
    }

    /// A post goes to be verified. False when there is no room for it.
    pub(super) fn check(&mut self, from: PeerId, post: &Post) -> bool {
        if self.checking.len() >= MAX_CHECKING || self.checking_bytes + post.frame.len() > MAX_CHECKING_BYTES {
            return false;
        }
        self.checking_bytes += post.frame.len();
        self.checking.insert(post.id, (from, post.clone()));
        true
    }

    /// How a post came: with how many hops, and from whom; `None` when it is neither kept nor being verified.
    pub(super) fn way(&self, id: &PostId) -> Option<(u32, Option<PeerId>)> {
        let kept = self.kept.get(id).map(|kept| (kept.hops, kept.from));
        kept.or_else(|| self.checking.get(id).map(|(from, post)| (post.hops, Some(*from))))
    }

    /// It came by another way too, which is the better one when `by` names who brought it.
    pub(super) fn came_again(&mut self, id: &PostId, hops: u32, by: Option<PeerId>) {
        if let Some(kept) = self.kept.get_mut(id) {
            kept.hops = kept.hops.min(hops);
            kept.from = by.or(kept.from);
        } else if let Some((from, post)) = self.checking.get_mut(id) {
            post.hops = post.hops.min(hops);
            *from = by.unwrap_or(*from);
        }
    }

    /// Its verification has ended.
    pub(super) fn checked(&mut self, id: &PostId) -> Option<(PeerId, Post)> {
        let (from, post) = self.checking.remove(id)?;
        self.checking_bytes -= post.frame.len();
        Some((from, post))
    }

    /// It is not taken again, whatever it was.
    pub(super) fn remember(&mut self, id: PostId) {
        if self.known.insert(id) {
            self.order.push_back(id);
        }
        while self.order.len() > self.remembered
            && let Some(forgotten) = self.order.pop_front()
        {
            self.known.remove(&forgotten);
        }
    }

    pub(super) fn keep(&mut self, now: Now, post: Post, from: Option<PeerId>) {
        self.remember(post.id);
        if post.frame.len() > self.keep_bytes || self.kept.contains_key(&post.id) {
            return;
        }
        self.kept_bytes += post.frame.len();
        self.kept_order.push_back(post.id);
        self.kept.insert(post.id, Kept { hops: post.hops, post, from, at: now.since_start });
        while (self.kept_order.len() > self.keep_posts || self.kept_bytes > self.keep_bytes) && self.drop_oldest() {}
    }

    pub(super) fn get(&self, id: &PostId) -> Option<&Kept> {
        self.kept.get(id)
    }

    /// Kept posts of a topic that came since a time.
    pub(super) fn since(&self, topic: &Topic, at: Duration) -> Vec<PostId> {
        let kept = self.kept_order.iter().rev().filter_map(|id| self.kept.get(id));
        let recent = kept.take_while(|kept| kept.at >= at);
        recent.filter(|kept| kept.post.topic == *topic).map(|kept| kept.post.id).collect()
    }

    /// Lets go what was kept long enough.
    pub(super) fn tick(&mut self, now: Now) {
        let long_ago = now.since_start.saturating_sub(self.keep_for);
        while let Some(id) = self.kept_order.front()
            && self.kept.get(id).is_none_or(|kept| kept.at < long_ago)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(id) = self.kept_order.pop_front() else { return false };
        if let Some(kept) = self.kept.remove(&id) {
            self.kept_bytes -= kept.post.frame.len();
        }
        true
    }
}

/// The clocks of authors are not this node's. Posts that seem older than their time to live by no more are left to the inbox
/// to judge, which learns what the clocks differ by.
const CLOCKS_DIFFER: u64 = 5_000;

/// Whether a post is surely too old for anybody. The time is that of [`Post::expires_at`].
pub(super) fn is_over(expires_at: Option<u64>, now: Now) -> bool {
    expires_at.is_some_and(|at| at.saturating_add(CLOCKS_DIFFER) < now.unix_millis)
}
