//! The task that sends: one attempt, on the task of its connection.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_channel::Sender as Reports;
use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};

use super::{
    Settings,
    attempt::Attempt,
    frame::Frame,
    handle::{Outbox, Sending},
    handler::Report,
    pipe::{FAREWELL, Pipe, TICK, TURN},
    receiver::farewell,
    sender::{Sender, Want},
    shell::Claim,
};
use crate::{error::TransferError, transfer::Outcome};

/// One attempt to send, of at most so many bytes of the payload. Returns how it ended, and how many bytes of the payload left meanwhile that nobody was told of.
pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    (attempt, most): (u64, Option<u64>),
    outbox: Arc<Outbox>,
    settings: Settings,
    reports: Reports<Report>,
) -> (Outcome, u64) {
    let Some(claim) = outbox.shell.clone().claim(attempt).await else { return (Outcome::Revoked, 0) };
    let mut task = SendTask::new(stream, (attempt, most), &outbox, claim, settings, reports);
    let outcome = poll_fn(|context| task.poll(context)).await;
    (outcome, task.attempt.moved)
}

struct SendTask<S> {
    attempt: Attempt,
    outbox: Arc<Outbox>,
    pipe: Pipe<S>,
    claim: Claim<Sending>,
    sender: Sender,
    /// A chunk that was read, and how much had been asked for; whether it is the last one is not known yet.
    read: Option<(Bytes, u64)>,
    /// How much more of the payload may leave.
    most: Option<u64>,
    idle: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> SendTask<S> {
    fn new(
        stream: S,
        (attempt, most): (u64, Option<u64>),
        outbox: &Arc<Outbox>,
        claim: Claim<Sending>,
        settings: Settings,
        reports: Reports<Report>,
    ) -> Self {
        let key = outbox.watch.key;
        let mut pipe = Pipe::new(stream);
        if settings.rationed {
            pipe = pipe.rationed(outbox.credit.clone());
        }
        let offer = outbox.offer.clone();
        let facts = (offer.length, offer.hash);
        pipe.say(&Frame::Offer { id: key.id, offer });
        let bounds = (settings.sent_chunk, settings.window);
        let sender = Sender::new(key, facts, bounds, settings.patience, pipe.now());
        let idle = settings.patience.idle;
        let attempt = Attempt::new(key, attempt, reports);
        Self { attempt, outbox: outbox.clone(), pipe, claim, sender, read: None, most, idle }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let due = self.pipe.poll_tick(context);
        let polled = self.poll_attempt(context);
        if polled.is_pending() {
            self.outbox.credit.ask_with(|| self.attempt.ask());
            if due {
                // After all that has come was heard: a busy machine makes nobody silent.
                self.look_around();
                context.waker().wake_by_ref();
            }
        }
        polled
    }

    fn poll_attempt(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        if self.claim.is_revoked(context) {
            return Poll::Ready(Outcome::Revoked);
        }
        let mut turn = TURN;
        loop {
            if let Some(ended) = self.attempt.poll_ending(&mut self.pipe, context) {
                return ended;
            }
            if let Poll::Ready(outcome) = self.listen(context) {
                self.end(outcome);
                continue;
            }
            match self.pipe.poll_write(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Outcome::Broken(error.to_string())),
                Poll::Pending => return Poll::Pending,
            }
            if turn == 0 {
                // The others on this connection have a turn.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match ready!(self.produce(context)) {
                Ok(count) => turn = turn.saturating_sub(count),
                Err(outcome) => self.end(outcome),
            }
        }
    }

    /// Says why it ends, if the other side doesn't know, and ends.
    fn end(&mut self, outcome: Outcome) {
        self.outbox.watch.set_transferred(Sender::transferred(&self.claim.ledger));
        self.report();
        match farewell(&outcome) {
            Some(frame) => self.pipe.say(&frame),
            // Half of what waits is of no use to anybody.
            None if !matches!(outcome, Outcome::Finished(_)) => {
                self.attempt.end(outcome, Duration::ZERO);
                return;
            }
            None => {}
        }
        self.attempt.end(outcome, self.pipe.now() + FAREWELL);
    }

    /// Takes in what the receiver says, all of it.
    fn listen(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            let frame = match ready!(self.pipe.poll_frame(context)) {
                Ok(Ok(frame)) => frame,
                Ok(Err(rejection)) => return Poll::Ready(self.attempt.reject(rejection)),
                Err(reason) => return Poll::Ready(Outcome::Broken(reason)),
            };
            let now = self.pipe.now();
            match self.sender.heard(now, frame, &mut self.claim.ledger) {
                Ok(None) => {
                    let transferred = Sender::transferred(&self.claim.ledger);
                    self.claim.source.release(transferred);
                    self.outbox.watch.set_transferred(transferred);
                    if self.sender.is_running() && !self.attempt.is_reported() {
                        self.report();
                    }
                }
                Ok(Some(outcome)) => return Poll::Ready(outcome),
                Err(rejection) => return Poll::Ready(self.attempt.reject(rejection)),
            }
        }
    }

    /// Does what the sender wants with the source, and says what comes of it. Pending: there is nothing to do.
    fn produce(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Outcome>> {
        let failed = |error: std::io::Error| Outcome::Failed(TransferError::Source { reason: error.to_string() });
        let Sending { source, ledger } = &mut *self.claim;
        if self.read.is_none() {
            match self.sender.want() {
                Want::Nothing => return Poll::Pending,
                Want::Seek(offset) => {
                    ready!(source.poll_seek(context, offset)).map_err(failed)?;
                    self.sender.sought();
                    return Poll::Ready(Ok(0));
                }
                Want::Compare(length) => {
                    let bytes = ready!(source.poll_chunk(context, as_usize(length))).map_err(failed)?;
                    let compared = self.sender.hashed(&bytes, ledger);
                    // A pipe must not be kept because of what a receiver claims to have of it.
                    source.release(Sender::passed(ledger));
                    return Poll::Ready(match compared {
                        Some(outcome) => Err(outcome),
                        None => Ok(bytes.len()),
                    });
                }
                Want::Chunk(length) if self.most.is_some_and(|most| most < length) => {
                    return Poll::Ready(Err(Outcome::Spent));
                }
                Want::Chunk(length) => {
                    let bytes = ready!(source.poll_chunk(context, as_usize(length))).map_err(failed)?;
                    self.read = Some((bytes, length));
                }
            }
        }
        let Some((bytes, asked)) = &self.read else { return Poll::Pending };
        let last = self.sender.may_be_last(bytes.len() as u64) && ready!(source.poll_ended(context)).map_err(failed)?;
        let (bytes, asked) = (bytes.clone(), *asked);
        self.read = None;
        let now = self.pipe.now();
        let frame = self.sender.chunk(now, (&bytes, asked), last, ledger).map_err(Outcome::Failed)?;
        let count = bytes.len();
        self.attempt.moved += count as u64;
        self.most = self.most.map(|most| most.saturating_sub(count as u64));
        self.pipe.say_chunk(&frame, bytes);
        Poll::Ready(Ok(count.max(1)))
    }

    /// What is due now and then.
    fn look_around(&mut self) {
        if !self.attempt.is_ending()
            && let Some(outcome) = self.sender.overdue(self.pipe.now())
        {
            self.end(outcome);
        }
        if self.sender.is_running() {
            self.pipe.say_alive((self.idle / 3).max(TICK));
            self.attempt.report_news(Sender::transferred(&self.claim.ledger));
        }
    }

    fn report(&mut self) {
        self.attempt.report(Sender::transferred(&self.claim.ledger));
    }
}

fn as_usize(length: u64) -> usize {
    usize::try_from(length).expect("chunks are shorter than 1 MiB")
}
