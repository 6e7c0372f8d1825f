//! What outlives the attempts of a transfer: its reader or writer, and how far it has come.
//!
//! An attempt runs on the task of its connection and ends when that does, at any moment; what it worked on comes back
//! here by itself. Invariant: the newest attempt gets it. An older one, on a connection that is dead or slower, gives it
//! back when it is asked.

use std::{
    future::poll_fn,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

pub(crate) struct Shell<T> {
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    /// Away while an attempt works on it.
    content: Option<T>,
    /// The newest attempt.
    newest: u64,
    /// No attempt gets it any more.
    stopped: bool,
    /// The one that works and the one that waits; older ones have been woken.
    wakers: Vec<Waker>,
}

impl<T> Shell<T> {
    /// A shell with nothing in it yet, or with something.
    pub(crate) fn new(content: Option<T>) -> Self {
        Self { inner: Mutex::new(Inner { content, newest: 0, stopped: false, wakers: Vec::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the content in.
    pub(crate) fn put(&self, content: T) {
        let (wakers, left) = {
            let mut inner = self.lock();
            let left = if inner.stopped {
                Some(content)
            } else {
                inner.content = Some(content);
                None
            };
            (std::mem::take(&mut inner.wakers), left)
        };
        // The app's own code may run when its reader or writer is dropped; not under the lock.
        drop(left);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all attempts; the content is dropped as soon as it is back.
    pub(crate) fn stop(&self) {
        let (wakers, content) = {
            let mut inner = self.lock();
            inner.stopped = true;
            (std::mem::take(&mut inner.wakers), inner.content.take())
        };
        drop(content);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Gets the content for an attempt, as soon as an older one has given it back. `None` when a newer attempt came
    /// first, or all is over.
    pub(crate) async fn claim(self: Arc<Self>, attempt: u64) -> Option<Claim<T>> {
        poll_fn(move |context| {
            let mut inner = self.lock();
            if inner.stopped || inner.newest > attempt {
                return Poll::Ready(None);
            }
            if inner.newest < attempt {
                inner.newest = attempt;
                inner.wakers.drain(..).for_each(Waker::wake);
            }
            match inner.content.take() {
                Some(content) => Poll::Ready(Some(Claim { shell: self.clone(), attempt, content: Some(content) })),
                None => {
                    inner.wake_later(context.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl<T> Inner<T> {
    fn wake_later(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }
}

/// The content, in the hands of one attempt. It goes home when this is dropped.
pub(crate) struct Claim<T> {
    shell: Arc<Shell<T>>,
    attempt: u64,
    content: Option<T>,
}

impl<T> Claim<T> {
    /// Whether it must be given back; wakes the task when that becomes so.
    pub(crate) fn is_revoked(&self, context: &Context<'_>) -> bool {
        let mut inner = self.shell.lock();
        let revoked = inner.stopped || inner.newest > self.attempt;
        if !revoked {
            inner.wake_later(context.waker());
        }
        revoked
    }
}

impl<T> Deref for Claim<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.content.as_ref().expect("it is there until the claim is dropped")
    }
}

impl<T> DerefMut for Claim<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.content.as_mut().expect("it is there until the claim is dropped")
    }
}

impl<T> Drop for Claim<T> {
    fn drop(&mut self) {
        if let Some(content) = self.content.take() {
            self.shell.put(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, executor::block_on};

    use super::*;

    #[test]
    fn the_newest_attempt_gets_the_content_and_an_older_one_is_told() {
        let shell = Arc::new(Shell::new(Some("content")));
        let old = block_on(shell.clone().claim(1)).expect("it is there");
        let mut newer = Box::pin(shell.clone().claim(2));
        assert!(newer.as_mut().now_or_never().is_none(), "the older one has it");
        let waker = futures::task::noop_waker();
        assert!(old.is_revoked(&Context::from_waker(&waker)));
        drop(old);
        let newer = block_on(newer).expect("it has come back");
        assert_eq!(*newer, "content");
        assert!(block_on(shell.clone().claim(1)).is_none(), "too old");
    }

    #[test]
    fn after_the_end_nobody_gets_it_and_it_is_dropped() {
        let content = Arc::new(());
        let shell = Arc::new(Shell::new(Some(content.clone())));
        let claim = block_on(shell.clone().claim(1)).expect("it is there");
        shell.stop();
        assert_eq!(Arc::strong_count(&content), 2, "the attempt still has it");
        drop(claim);
        assert_eq!(Arc::strong_count(&content), 1);
        assert!(block_on(shell.claim(2)).is_none());
    }
}
