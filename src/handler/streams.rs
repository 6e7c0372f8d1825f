//! The streams a handle gives: events, messages, and messages handed to a function.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{
    FutureExt as _, Stream, StreamExt as _,
    channel::oneshot,
    future::{Either, select},
    stream::FusedStream,
};

use crate::{
    event::NetworkEvent,
    hub::{Reader, Received, Subscription},
    message::ReceivedMessage,
    platform,
};

/// What happens on the network, from [`NetworkHandler::events`](crate::NetworkHandler::events). Ends after
/// [`NetworkEvent::Stopped`].
pub struct Events {
    subscription: Subscription<NetworkEvent>,
}

impl Events {
    pub(super) fn new(subscription: Subscription<NetworkEvent>) -> Self {
        Self { subscription }
    }
}

impl Stream for Events {
    type Item = NetworkEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<NetworkEvent>> {
        self.get_mut().subscription.poll_next_unpin(context).map(|received| {
            received.map(|received| match received {
                Received::Item(event) => event,
                Received::Missed(missed) => NetworkEvent::Lagged { missed },
            })
        })
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.subscription.is_terminated()
    }
}

/// The messages that arrive, from [`NetworkHandler::messages`](crate::NetworkHandler::messages). Ends when the node
/// stops.
///
/// Asking for the next message confirms the one before: direct messages are kept until then, where messages are kept at
/// all. One that was handed over and not confirmed, because the node or this stream ended first, comes again, with
/// [`redelivered`](crate::ReceivedMessage::redelivered) set.
pub struct Messages {
    subscription: Subscription<ReceivedMessage>,
    /// Direct messages that are kept.
    kept: Reader,
    /// Whose turn it is, so that neither crowds the other out.
    kept_first: bool,
    missed: u64,
    expired: u64,
}

impl Messages {
    pub(super) fn new(subscription: Subscription<ReceivedMessage>, kept: Reader) -> Self {
        Self { subscription, kept, kept_first: true, missed: 0, expired: 0 }
    }

    /// Confirms the message that this stream gave last, without asking for another: it is not handed over again. Call it
    /// before dropping a stream whose last message has been dealt with.
    pub fn confirm(&self) {
        self.kept.confirm();
    }

    /// How many messages this subscriber has lost because it lagged.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// How many messages expired while they waited for this subscriber, and so were not given to it.
    pub fn expired(&self) -> u64 {
        self.expired
    }
}

impl Messages {
    /// The next one of those that are not kept.
    fn poll_passing(&mut self, context: &mut Context<'_>) -> Poll<Option<ReceivedMessage>> {
        loop {
            match ready!(self.subscription.poll_next_unpin(context)) {
                Some(Received::Item(message)) => return Poll::Ready(Some(message)),
                Some(Received::Missed(count)) => self.missed += count,
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Messages {
    /// The next one of all.
    fn poll_any(&mut self, context: &mut Context<'_>) -> Poll<Option<ReceivedMessage>> {
        self.kept.confirm();
        if self.kept_first
            && let Poll::Ready(Some(message)) = self.kept.poll_next(context)
        {
            self.kept_first = false;
            return Poll::Ready(Some(message));
        }
        self.kept_first = true;
        match self.poll_passing(context) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(message)) => Poll::Ready(Some(message)),
            // The end of the one is the end of the other.
            Poll::Pending => match self.kept.poll_next(context) {
                Poll::Ready(Some(message)) => Poll::Ready(Some(message)),
                _ => Poll::Pending,
            },
        }
    }
}

impl Stream for Messages {
    type Item = ReceivedMessage;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ReceivedMessage>> {
        let this = self.get_mut();
        loop {
            let next = ready!(this.poll_any(context));
            // What is only good for a time may have waited here too long.
            let is_over =
                |message: &ReceivedMessage| message.expires_at.is_some_and(|at| at <= platform::unix_millis());
            if next.as_ref().is_some_and(is_over) {
                this.expired += 1;
                continue;
            }
            return Poll::Ready(next);
        }
    }
}

impl FusedStream for Messages {
    fn is_terminated(&self) -> bool {
        self.subscription.is_terminated()
    }
}

/// A message handler's registration: dropping it ends the handler after the message it is at.
#[must_use = "dropping the registration unregisters the handler; keep it, or call `forever`"]
pub struct HandlerRegistration {
    unregister: Option<oneshot::Sender<()>>,
    kept: Option<oneshot::Sender<()>>,
}

impl HandlerRegistration {
    /// Keeps the handler as long as the node runs.
    pub fn forever(mut self) {
        if let (Some(unregister), Some(kept)) = (self.unregister.take(), self.kept.take()) {
            // When the handler has ended already there is nothing to keep.
            let _ = kept.send(());
            drop(unregister);
        }
    }
}

pub(super) fn register<H, F>(messages: Messages, handler: H) -> HandlerRegistration
where
    H: FnMut(ReceivedMessage) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (unregister, unregistered) = oneshot::channel::<()>();
    let (kept, keep) = oneshot::channel::<()>();
    platform::spawn(call_each(messages, handler, unregistered, keep).boxed());
    HandlerRegistration { unregister: Some(unregister), kept: Some(kept) }
}

async fn call_each<H, F>(
    mut messages: Messages,
    mut handler: H,
    mut unregistered: oneshot::Receiver<()>,
    keep: oneshot::Receiver<()>,
) where
    H: FnMut(ReceivedMessage) -> F,
    F: Future<Output = ()>,
{
    let mut keep = Some(keep);
    loop {
        // The registration is asked first: a backlog doesn't keep a dropped handler alive.
        match select(&mut unregistered, messages.next()).await {
            // It is gone: dropped, or told to stay for ever.
            Either::Left(_) => break,
            Either::Right((Some(message), _)) => {
                handler(message).await;
                messages.confirm();
            }
            Either::Right((None, _)) => return,
        }
    }
    if !keep.take().is_some_and(|mut keep| matches!(keep.try_recv(), Ok(Some(())))) {
        return;
    }
    while let Some(message) = messages.next().await {
        handler(message).await;
        messages.confirm();
    }
}
