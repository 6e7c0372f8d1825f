//! The swarm, asked only when it has something to do.
//!
//! The driver's task is woken for many things: what the app wants, what lanes report, timers. To ask the swarm each time
//! means to ask every behaviour and every transport.

use std::{
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::{
    Stream,
    stream::FusedStream,
    task::{ArcWake, AtomicWaker, waker},
};
use libp2p::{Swarm, swarm::SwarmEvent};

use super::{
    behaviour::{Behaviour, BehaviourEvent},
    boxed::Boxed,
};

/// The swarm. Whoever changes anything of it makes it be asked.
pub(super) struct Gated {
    swarm: Swarm<Boxed<Behaviour>>,
    woken: Arc<Woken>,
}

struct Woken {
    /// The swarm has something to do.
    woken: AtomicBool,
    driver: AtomicWaker,
}

impl ArcWake for Woken {
    fn wake_by_ref(this: &Arc<Self>) {
        this.woken.store(true, Ordering::Release);
        this.driver.wake();
    }
}

impl Gated {
    pub(super) fn new(swarm: Swarm<Boxed<Behaviour>>) -> Self {
        Self { swarm, woken: Arc::new(Woken { woken: AtomicBool::new(true), driver: AtomicWaker::new() }) }
    }
}

impl Deref for Gated {
    type Target = Swarm<Boxed<Behaviour>>;

    fn deref(&self) -> &Swarm<Boxed<Behaviour>> {
        &self.swarm
    }
}

impl DerefMut for Gated {
    fn deref_mut(&mut self) -> &mut Swarm<Boxed<Behaviour>> {
        self.woken.woken.store(true, Ordering::Release);
        &mut self.swarm
    }
}

impl Stream for Gated {
    type Item = SwarmEvent<BehaviourEvent>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.woken.driver.register(context.waker());
        if !this.woken.woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = waker(this.woken.clone());
        let polled = Pin::new(&mut this.swarm).poll_next(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            // There may be more.
            this.woken.woken.store(true, Ordering::Release);
        }
        polled
    }
}

impl FusedStream for Gated {
    fn is_terminated(&self) -> bool {
        self.swarm.is_terminated()
    }
}
