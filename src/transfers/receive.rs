//! The tasks that receive: one waits for an offer and its verdict, then the attempt itself runs, both on the task of the
//! connection.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_channel::Sender as Reports;
use futures::{AsyncRead, AsyncWrite, FutureExt as _, channel::oneshot};
use libp2p::PeerId;

use super::{
    Settings,
    attempt::Attempt,
    frame::{Frame, RefuseReason, StopReason},
    handler::Report,
    incoming::{Inbox, Taking},
    pipe::{FAREWELL, Pipe, TICK, TURN},
    receiver::{Allowed, Announced, Receiver, corrupt, farewell},
    sender::senseless,
    shell::Claim,
};
use crate::{
    error::TransferError,
    frame::Rejection,
    transfer::{Outcome, PayloadHash, TransferDirection, TransferId, TransferKey},
};

/// How long a stream may be open before it says what it is about.
const OPENING: Duration = Duration::from_secs(10);

/// What becomes of an offer.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is taken; this attempt goes on with it.
    Join {
        attempt: u64,
        inbox: Arc<Inbox>,
    },
    Refuse(RefuseReason, String),
    /// It was complete before.
    Done(PayloadHash),
    /// It ended before.
    Stop(StopReason, String),
}

/// How an inbound stream ended: of which transfer, which attempt, how, and bytes that were not reported.
pub(super) type Received = Option<(TransferKey, u64, Outcome, u64)>;

/// Serves one inbound stream.
pub(super) async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: PeerId,
    settings: Settings,
    reports: Reports<Report>,
) -> Received {
    let mut pipe = Pipe::new(stream);
    let (id, verdict) = match poll_fn(|context| opening(&mut pipe, context)).await {
        Ok(Frame::Offer { id, offer }) => {
            let (verdict, decided) = oneshot::channel();
            reports.send(Report::Offered { peer, id, offer, verdict }).await.ok()?;
            (
                id,
                poll_fn({
                    let mut decided = decided;
                    let idle = settings.patience.idle;
                    let pipe = &mut pipe;
                    move |context| waiting(pipe, &mut decided, idle, context)
                })
                .await?,
            )
        }
        Ok(Frame::Stop { whom: Some((id, by_sender)), detail, .. }) => {
            reports.send(Report::Stopped { peer, id, by_sender, reason: detail }).await.ok()?;
            return None;
        }
        Ok(frame) => {
            let rejection = senseless(format!("a stream begins with {frame:?}"));
            reports.send(Report::Rejected(rejection)).await.ok()?;
            return None;
        }
        Err(rejection) => {
            reports.send(Report::Rejected(rejection?)).await.ok()?;
            return None;
        }
    };
    let last = match verdict {
        Verdict::Join { attempt, inbox } => return join(pipe, attempt, inbox, settings, reports).await,
        Verdict::Refuse(reason, detail) => Frame::Refuse { reason, detail },
        Verdict::Done(hash) => Frame::Done { hash },
        Verdict::Stop(reason, detail) => Frame::stop(reason, detail),
    };
    tracing::debug!(%peer, %id, ?last, "an offer was answered at once");
    pipe.say(&last);
    finish(pipe).await;
    None
}

/// The first frame. `Err(None)`: it didn't come.
fn opening<S: AsyncRead + AsyncWrite + Unpin>(
    pipe: &mut Pipe<S>,
    context: &mut Context<'_>,
) -> Poll<Result<Frame, Option<Rejection>>> {
    if let Poll::Ready(frame) = pipe.poll_frame(context) {
        return Poll::Ready(match frame {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(rejection)) => Err(Some(rejection)),
            Err(_) => Err(None),
        });
    }
    pipe.poll_tick(context);
    if pipe.now() > OPENING { Poll::Ready(Err(None)) } else { Poll::Pending }
}

/// The verdict. `None`: the sender doesn't wait for it any more, or nobody decides.
fn waiting<S: AsyncRead + AsyncWrite + Unpin>(
    pipe: &mut Pipe<S>,
    decided: &mut oneshot::Receiver<Verdict>,
    idle: Duration,
    context: &mut Context<'_>,
) -> Poll<Option<Verdict>> {
    if let Poll::Ready(verdict) = decided.poll_unpin(context) {
        return Poll::Ready(verdict.ok());
    }
    // A sender has nothing to say before it has an answer. What it says all the same waits, and never more than one read
    // of it; its end is heard.
    match pipe.poll_frame(context) {
        Poll::Ready(Ok(Ok(Frame::Alive))) => context.waker().wake_by_ref(),
        Poll::Ready(_) => return Poll::Ready(None),
        Poll::Pending => {}
    }
    if pipe.poll_tick(context) {
        pipe.say_alive((idle / 3).max(TICK));
    }
    match pipe.poll_write(context) {
        Poll::Ready(Err(_)) => Poll::Ready(None),
        _ => Poll::Pending,
    }
}

/// The last word.
async fn finish<S: AsyncRead + AsyncWrite + Unpin>(mut pipe: Pipe<S>) {
    let until = pipe.now() + FAREWELL;
    poll_fn(|context| {
        pipe.poll_tick(context);
        if pipe.now() > until { Poll::Ready(()) } else { pipe.poll_finish(context) }
    })
    .await;
}

async fn join<S: AsyncRead + AsyncWrite + Unpin>(
    mut pipe: Pipe<S>,
    attempt: u64,
    inbox: Arc<Inbox>,
    settings: Settings,
    reports: Reports<Report>,
) -> Received {
    let key = inbox.watch.key;
    debug_assert_eq!(key.direction, TransferDirection::Incoming);
    let Some(claim) = inbox.shell.clone().claim(attempt).await else {
        return Some((key, attempt, Outcome::Revoked, 0));
    };
    let allowed = Allowed {
        length: inbox.offer.length,
        hash: inbox.offer.hash,
        max_length: settings.max_length.min(inbox.most()),
        max_chunk: settings.max_chunk,
    };
    let receiver = Receiver::new(key, allowed, settings.patience, &claim.tree, pipe.now());
    if claim.tree.whole().is_none() {
        pipe.say(&receiver.accept(&claim.tree));
    }
    let mut task = ReceiveTask {
        attempt: Attempt::new(key, attempt, reports),
        inbox,
        pipe,
        claim,
        receiver,
        announced: None,
        chunk: Vec::new(),
        length: 0,
        filled: 0,
        idle: settings.patience.idle,
    };
    let outcome = poll_fn(|context| task.poll(context)).await;
    Some((key, attempt, outcome, task.attempt.moved))
}

struct ReceiveTask<S> {
    attempt: Attempt,
    inbox: Arc<Inbox>,
    pipe: Pipe<S>,
    claim: Claim<Taking>,
    receiver: Receiver,
    /// The chunk that comes, and as much of it as has come.
    announced: Option<Announced>,
    chunk: Vec<u8>,
    length: usize,
    filled: usize,
    idle: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ReceiveTask<S> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let due = self.pipe.poll_tick(context);
        let polled = self.poll_attempt(context);
        if polled.is_pending() && due {
            // After all that has come was heard: a busy machine makes nobody silent.
            self.look_around();
            context.waker().wake_by_ref();
        }
        polled
    }

    fn poll_attempt(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        if self.claim.is_revoked(context) {
            return Poll::Ready(Outcome::Revoked);
        }
        if !self.attempt.is_reported() {
            self.report();
        }
        let mut turn = TURN;
        loop {
            if let Some(ended) = self.attempt.poll_ending(&mut self.pipe, context) {
                return ended;
            }
            if let Poll::Ready(Err(error)) = self.pipe.poll_write(context) {
                return Poll::Ready(Outcome::Broken(error.to_string()));
            }
            match self.write(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    let reason = error.to_string();
                    self.end(Outcome::Failed(TransferError::Writer { reason }));
                    continue;
                }
                // While the writer takes nothing, nothing is read: so the sender's window closes.
                Poll::Pending => return Poll::Pending,
            }
            if self.claim.closed
                && let Some(hash) = self.claim.tree.whole()
            {
                self.pipe.say(&Frame::Done { hash });
                self.end(Outcome::Finished(hash));
                continue;
            }
            if turn == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.read(context) {
                Poll::Ready(Ok(count)) => {
                    self.acknowledge(false);
                    turn = turn.saturating_sub(count);
                }
                Poll::Ready(Err(outcome)) => self.end(outcome),
                Poll::Pending if self.acknowledge(true) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.report();
        if let Outcome::Corrupt { offset } = outcome {
            self.attempt.offence(corrupt(offset));
        }
        if let Some(frame) = farewell(&outcome) {
            self.pipe.say(&frame);
        }
        let until = if matches!(outcome, Outcome::Broken(_)) { Duration::ZERO } else { self.pipe.now() + FAREWELL };
        self.attempt.end(outcome, until);
    }

    /// Gives the writer what it hasn't taken; at the end closes it.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let now = self.pipe.now();
        let Taking { writer, tree, buffer, unwritten, closed } = &mut *self.claim;
        while unwritten.start < unwritten.end {
            let count = ready!(Pin::new(&mut *writer).poll_write(context, &buffer[unwritten.clone()]))?;
            if count == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            unwritten.start = unwritten.end.min(unwritten.start + count);
            self.receiver.wrote(now);
            if unwritten.start == unwritten.end {
                self.inbox.watch.set_transferred(tree.length());
            }
        }
        if tree.whole().is_some() && !*closed {
            ready!(Pin::new(&mut *writer).poll_flush(context))?;
            ready!(Pin::new(&mut *writer).poll_close(context))?;
            *closed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads on: a frame, or more of a chunk. Returns how many bytes of the payload came.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Outcome>> {
        let Some(announced) = self.announced else {
            let frame = match ready!(self.pipe.poll_frame(context)) {
                Ok(Ok(frame)) => frame,
                Ok(Err(rejection)) => return Poll::Ready(Err(self.attempt.reject(rejection))),
                Err(reason) => return Poll::Ready(Err(Outcome::Broken(reason))),
            };
            return Poll::Ready(match self.receiver.heard(self.pipe.now(), frame, &self.claim.tree) {
                Ok(Ok(announced)) => {
                    self.announced = announced;
                    self.filled = 0;
                    // The length is within the limit, or there would be no announcement.
                    let length = announced.map_or(0, |announced| announced.length);
                    self.length = usize::try_from(length).expect("below 1 MiB");
                    // What is there from the chunks before is written over.
                    if self.chunk.len() < self.length {
                        self.chunk.resize(self.length, 0);
                    }
                    Ok(0)
                }
                Ok(Err(outcome)) => Err(outcome),
                Err(rejection) => Err(self.attempt.reject(rejection)),
            });
        };
        let mut count = 0;
        if self.filled < self.length {
            count = match ready!(self.pipe.poll_chunk(context, &mut self.chunk[self.filled..self.length])) {
                Ok(count) => count,
                Err(reason) => return Poll::Ready(Err(Outcome::Broken(reason))),
            };
            self.filled += count;
            self.attempt.moved += count as u64;
            self.receiver.bytes(self.pipe.now());
        }
        if self.filled == self.length {
            self.announced = None;
            let Taking { tree, buffer, unwritten, .. } = &mut *self.claim;
            if let Err(outcome) = self.receiver.verify(&self.chunk[..self.length], announced, tree) {
                return Poll::Ready(Err(outcome));
            }
            std::mem::swap(&mut self.chunk, buffer);
            *unwritten = 0..self.length;
        }
        Poll::Ready(Ok(count))
    }

    /// Acknowledges what the writer has taken, when it is time. True when something was said.
    fn acknowledge(&mut self, waiting: bool) -> bool {
        if !self.claim.unwritten.is_empty() {
            return false;
        }
        match self.receiver.acknowledge(self.claim.tree.length(), waiting) {
            Some(frame) => {
                self.pipe.say(&frame);
                true
            }
            None => false,
        }
    }

    /// What is due now and then.
    fn look_around(&mut self) {
        let reading = self.claim.unwritten.is_empty();
        if !self.attempt.is_ending()
            && let Some(outcome) = self.receiver.overdue(self.pipe.now(), reading)
        {
            self.end(outcome);
        }
        self.pipe.say_alive((self.idle / 3).max(TICK));
        self.attempt.report_news(self.inbox.watch.transferred());
    }

    fn report(&mut self) {
        self.attempt.report(self.inbox.watch.transferred());
    }
}

/// Tells the peer that a transfer is cancelled, on a stream of its own.
pub(super) async fn tell<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    id: TransferId,
    by_sender: bool,
    reason: String,
) {
    let mut pipe = Pipe::new(stream);
    pipe.say(&Frame::Stop { reason: StopReason::Cancelled, detail: reason, whom: Some((id, by_sender)) });
    finish(pipe).await;
}
