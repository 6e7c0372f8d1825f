//! Dials that notice a failure: the published WebSocket transport isn't woken when the browser refuses a connection, so
//! without being looked at again it would wait for the time-out. While a dial is under way it is looked at ten times a
//! second.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A transport whose dials are looked at again and again.
pub(super) struct Impatient<T> {
    transport: T,
}

impl<T> Impatient<T> {
    pub(super) fn new(transport: T) -> Self {
        Self { transport }
    }
}

impl<T> Transport for Impatient<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
    T::Error: Send,
    T::Output: Send,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.transport.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.transport.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<T::Error>> {
        let dial = Box::pin(self.transport.dial(address, options)?);
        Ok(LookedAt { dial, again: Delay::new(LOOK_AGAIN) }.boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.get_mut().transport).poll(context)
    }
}

struct LookedAt<D> {
    dial: Pin<Box<D>>,
    again: Delay,
}

impl<D: Future> Future for LookedAt<D> {
    type Output = D::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<D::Output> {
        let this = self.get_mut();
        while this.again.poll_unpin(context).is_ready() {
            this.again.reset(LOOK_AGAIN);
        }
        this.dial.as_mut().poll(context)
    }
}
