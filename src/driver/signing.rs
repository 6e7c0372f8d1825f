//! Posts are signed as they leave: one that comes alone at once, those that come together under one signature over a hash
//! tree. Each of them proves itself alone, and whoever verifies the first needs no second verification for the others.

use super::Driver;
use crate::{
    core::{Input, OutgoingMessage},
    frame::Passing,
    wire,
};

/// Posts that share a signature at most: each carries six hashes then, which cost less to send than a signature to verify.
const TOGETHER: usize = 64;

/// Payloads from this size on are signed where they are accepted, in the app's thread: they take their time.
pub(crate) const LARGE: usize = 16 * 1024;

impl Driver {
    /// A post of this node's own, signed already or not. It goes on with those behind it, which are at hand; see
    /// [`sign_posts`](Self::sign_posts).
    pub(super) fn own_post(&mut self, message: OutgoingMessage, passing: Passing) {
        if message.signed.is_some() {
            self.sign_posts();
            self.handle(Input::Post { message });
            return;
        }
        self.unsigned.push((message, passing));
        if self.unsigned.len() >= TOGETHER {
            self.sign_posts();
        }
    }

    /// Signs what waits for it. Called before anything else that the app wishes, so that its wishes keep their order, and
    /// when no more is at hand: nothing waits for company.
    pub(super) fn sign_posts(&mut self) {
        if self.unsigned.is_empty() {
            return;
        }
        let posts = std::mem::take(&mut self.unsigned);
        let letters = posts.iter().map(|(message, passing)| (&message.letter, *passing)).collect::<Vec<_>>();
        let frames = wire::post_frames(&letters, &self.signing_key)
            .expect("an Ed25519 key, and identities have no others, signs without fail");
        for ((message, _), frame) in posts.into_iter().zip(frames) {
            let post = wire::read_post(&frame, None).expect("a frame without recipient is a post");
            self.handle(Input::Post { message: OutgoingMessage { signed: Some(Box::new(post)), ..message } });
        }
    }
}
