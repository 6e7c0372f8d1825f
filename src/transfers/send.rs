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
    frame::Frame,
    handle::{Outbox, Sending},
    handler::Report,
    pipe::{FAREWELL, Pipe, TICK, TURN},
    receiver::farewell,
    sender::{Sender, Want},
    shell::Claim,
};
use crate::{
    error::TransferError,
    frame::Rejection,
    transfer::{Outcome, TransferKey},
};

/// One attempt to send. Returns how it ended, and how many bytes of the payload left meanwhile that nobody was told of.
pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    attempt: u64,
    outbox: Arc<Outbox>,
    settings: Settings,
    reports: Reports<Report>,
) -> (Outcome, u64) {
    let Some(claim) = outbox.shell.clone().claim(attempt).await else { return (Outcome::Revoked, 0) };
    let mut task = SendTask::new(stream, attempt, &outbox, claim, settings, reports);
    let outcome = poll_fn(|context| task.poll(context)).await;
    (outcome, task.moved)
}

struct SendTask<S> {
    key: TransferKey,
    attempt: u64,
    outbox: Arc<Outbox>,
    pipe: Pipe<S>,
    claim: Claim<Sending>,
    sender: Sender,
    /// A chunk that was read, and how much had been asked for; whether it is the last one is not known yet.
    read: Option<(Bytes, u64)>,
    idle: Duration,
    reports: Reports<Report>,
    /// Bytes of the payload that left since the last report.
    moved: u64,
    /// Whether the state that was last reported is that of a running transfer, and how far it was.
    reported: Option<u64>,
    /// The last word is being said; until when.
    ending: Option<(Outcome, Duration)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> SendTask<S> {
    fn new(
        stream: S,
        attempt: u64,
        outbox: &Arc<Outbox>,
        claim: Claim<Sending>,
        settings: Settings,
        reports: Reports<Report>,
    ) -> Self {
        let key = outbox.watch.key;
        let mut pipe = Pipe::new(stream);
        let offer = outbox.offer.clone();
        let facts = (offer.length, offer.hash);
        pipe.say(&Frame::Offer { id: key.id, offer });
        let bounds = (settings.max_chunk, settings.window);
        let sender = Sender::new(key, facts, bounds, settings.patience, pipe.now());
        let idle = settings.patience.idle;
        let (read, reported, ending) = (None, None, None);
        Self {
            key,
            attempt,
            outbox: outbox.clone(),
            pipe,
            claim,
            sender,
            read,
            idle,
            reports,
            moved: 0,
            reported,
            ending,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        if self.claim.is_revoked(context) {
            return Poll::Ready(Outcome::Revoked);
        }
        if self.pipe.poll_tick(context) {
            self.look_around();
        }
        let mut turn = TURN;
        loop {
            if let Some((outcome, until)) = &self.ending {
                let (outcome, late) = (outcome.clone(), *until <= self.pipe.now());
                // What can't be said any more needn't be.
                return if self.pipe.poll_finish(context).is_ready() || late {
                    Poll::Ready(outcome)
                } else {
                    Poll::Pending
                };
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
                self.ending = Some((outcome, Duration::ZERO));
                return;
            }
            None => {}
        }
        self.ending = Some((outcome, self.pipe.now() + FAREWELL));
    }

    /// Takes in what the receiver says, all of it.
    fn listen(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            let frame = match ready!(self.pipe.poll_frame(context)) {
                Ok(Ok(frame)) => frame,
                Ok(Err(rejection)) => return Poll::Ready(self.reject(rejection)),
                Err(reason) => return Poll::Ready(Outcome::Broken(reason)),
            };
            let now = self.pipe.now();
            match self.sender.heard(now, frame, &mut self.claim.ledger) {
                Ok(None) => {
                    let transferred = Sender::transferred(&self.claim.ledger);
                    self.claim.source.release(transferred);
                    self.outbox.watch.set_transferred(transferred);
                    if self.sender.is_running() && self.reported.is_none() {
                        self.report();
                    }
                }
                Ok(Some(outcome)) => return Poll::Ready(outcome),
                Err(rejection) => return Poll::Ready(self.reject(rejection)),
            }
        }
    }

    fn reject(&self, rejection: Rejection) -> Outcome {
        let reason = rejection.detail.clone();
        // When the reports are many, this one is the least of the worries.
        let _ = self.reports.try_send(Report::Rejected(rejection));
        Outcome::Failed(TransferError::PeerFailed { peer: self.key.peer, reason })
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
                    return Poll::Ready(match self.sender.hashed(&bytes, ledger) {
                        Some(outcome) => Err(outcome),
                        None => Ok(bytes.len()),
                    });
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
        self.moved += count as u64;
        self.pipe.say_chunk(&frame, bytes);
        Poll::Ready(Ok(count.max(1)))
    }

    /// What is due now and then.
    fn look_around(&mut self) {
        if self.ending.is_none()
            && let Some(outcome) = self.sender.overdue(self.pipe.now())
        {
            self.end(outcome);
        }
        if self.sender.is_running() {
            self.pipe.say_alive((self.idle / 3).max(TICK));
            if self.moved > 0 || self.reported != Some(Sender::transferred(&self.claim.ledger)) {
                self.report();
            }
        }
    }

    fn report(&mut self) {
        let transferred = Sender::transferred(&self.claim.ledger);
        let report = Report::Progress { key: self.key, attempt: self.attempt, transferred, moved: self.moved };
        // Told again in a moment, when the driver is busy.
        if self.reports.try_send(report).is_ok() {
            self.moved = 0;
            self.reported = Some(transferred);
        }
    }
}

fn as_usize(length: u64) -> usize {
    usize::try_from(length).expect("chunks are shorter than 1 MiB")
}
