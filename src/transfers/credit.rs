//! The bytes that an outgoing transfer may still write, where there is a budget (`[bandwidth]`).
//!
//! The core grants them, the attempt asks for more when they are used up. What is left when an attempt ends the next one
//! uses.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

#[derive(Debug, Default)]
pub(crate) struct Credit {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: u64,
    /// The core has been asked and has not answered.
    asked: bool,
    waker: Option<Waker>,
}

impl Credit {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes more may be written.
    pub(crate) fn grant(&self, bytes: u64) {
        let waker = {
            let mut inner = self.lock();
            inner.bytes = inner.bytes.saturating_add(bytes);
            inner.asked = false;
            inner.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// How much of so many bytes may be written now; when nothing may, the task is woken when something may.
    pub(super) fn allowed(&self, wanted: usize, context: &Context<'_>) -> usize {
        let mut inner = self.lock();
        if inner.bytes == 0 && wanted > 0 {
            inner.waker = Some(context.waker().clone());
        }
        usize::try_from(inner.bytes).unwrap_or(usize::MAX).min(wanted)
    }

    /// So many were written.
    pub(super) fn spend(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.bytes = inner.bytes.saturating_sub(bytes as u64);
    }

    /// A new attempt: whoever asked for the one before may never be answered.
    pub(super) fn begin(&self) {
        self.lock().asked = false;
    }

    /// Lets the core be asked, if nothing is left and it hasn't been; `ask` says whether it could be.
    pub(super) fn ask_with(&self, ask: impl FnOnce() -> bool) {
        let needed = {
            let inner = self.lock();
            inner.bytes == 0 && inner.waker.is_some() && !inner.asked
        };
        if needed && ask() {
            self.lock().asked = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_is_asked_once_for_each_grant() {
        let credit = Credit::default();
        let context = Context::from_waker(Waker::noop());
        let asked = |answer: bool| {
            let mut asked = false;
            credit.ask_with(|| {
                asked = true;
                answer
            });
            asked
        };
        assert!(!asked(true), "nobody wants to write");
        assert_eq!(credit.allowed(10, &context), 0);
        assert!(asked(false) && asked(true), "the core was busy at first");
        assert!(!asked(true), "it has been asked");
        credit.grant(7);
        assert_eq!(credit.allowed(10, &context), 7);
        credit.spend(7);
        assert_eq!(credit.allowed(10, &context), 0);
        assert!(asked(true) && !asked(true));
        credit.begin();
        assert!(asked(true), "the answer to an attempt that has ended may never come");
    }
}
