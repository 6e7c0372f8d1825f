//! The checking of posts' signatures, away from the driver: once for each post, whoever brought how many copies, and many
//! at a time.

use std::{mem, sync::Arc};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use libp2p::PeerId;

use super::Driver;
use crate::{
    core::Input,
    frame::{Frame, Post, PostId, Rejection},
    platform,
    wire::{self, Roots},
};

/// Up to so many small posts are verified at once, on the spot: waking another thread for them costs more than it saves,
/// and where many nodes share a machine, it only takes the processor from one that does the same.
const VERIFIED_INLINE: usize = 16;

/// Bytes of frames up to which they count as small.
const SMALL: usize = 32 * 1024;

/// A post that has been checked.
pub(super) struct Verified {
    from: PeerId,
    id: PostId,
    result: Result<Frame, Rejection>,
}

/// Posts that wait to be checked, and those on the worker pool. Bounded by what the core gives out at a time.
pub(super) struct Verification {
    max_payload: usize,
    /// Shared signatures that were verified already.
    roots: Arc<Roots>,
    waiting: Vec<(PeerId, Post)>,
    /// In the order of arrival, which the worker pool would not keep.
    running: FuturesOrdered<BoxFuture<'static, Vec<Verified>>>,
}

impl Verification {
    pub(super) fn new(max_payload: usize) -> Self {
        Self { max_payload, roots: Arc::default(), waiting: Vec::new(), running: FuturesOrdered::new() }
    }

    pub(super) fn push(&mut self, from: PeerId, post: Post) {
        self.waiting.push((from, post));
    }

    /// Checks what waits: few small posts on the spot, else all together on the worker pool.
    pub(super) fn begin(&mut self) -> Option<Vec<Verified>> {
        if self.waiting.is_empty() {
            return None;
        }
        let posts = mem::take(&mut self.waiting);
        let max_payload = self.max_payload;
        let bytes = posts.iter().map(|(_, post)| post.frame.len()).sum::<usize>();
        if self.running.is_empty() && posts.len() <= VERIFIED_INLINE && bytes <= SMALL {
            return Some(verify(posts, max_payload, &self.roots));
        }
        let roots = self.roots.clone();
        self.running.push_back(platform::offload(move || verify(posts, max_payload, &roots)).boxed());
        None
    }

    /// The next posts that have been checked; waits for ever while none is being checked.
    pub(super) async fn next(&mut self) -> Vec<Verified> {
        match self.running.next().await {
            Some(verified) => verified,
            None => std::future::pending().await,
        }
    }
}

fn verify(posts: Vec<(PeerId, Post)>, max_payload: usize, roots: &Roots) -> Vec<Verified> {
    let verify = |(from, post): (PeerId, Post)| Verified {
        from,
        id: post.id,
        result: wire::verify_post(&post, from, max_payload, roots),
    };
    posts.into_iter().map(verify).collect()
}

impl Driver {
    /// Posts have been checked: the core decides what becomes of them.
    pub(super) fn verified(&mut self, verified: Vec<Verified>) {
        for Verified { from, id, result } in verified {
            self.handle(Input::Verified { from, id, result: Box::new(result) });
        }
    }
}
