//! The stream of one attempt: frames and chunks that leave in order, and what has come.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite, FutureExt as _};
use futures_timer::Delay;
use web_time::Instant;

use super::{
    credit::Credit,
    frame::{Arrived, Frame},
};
use crate::frame::Rejection;

/// How often an attempt looks at the clock: progress is told and time-outs are found as finely.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// Bytes that an attempt moves in a row; then whoever else works on the connection has a turn. At the speed of a loopback
/// some 300 µs.
pub(super) const TURN: usize = 256 * 1024;

/// How long the last word may take, and the wait for the other side's end.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);

/// Read in one go while frames are expected; what belongs to a chunk is read into its place.
const READ: usize = 1024;

pub(super) struct Pipe<S> {
    stream: S,
    pub(super) arrived: Arrived,
    leaving: VecDeque<Bytes>,
    /// What may be written, where there is a budget.
    credit: Option<Arc<Credit>>,
    /// Written and not flushed.
    dirty: bool,
    /// When anything was said last.
    said: Duration,
    start: Instant,
    tick: Delay,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pipe<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            arrived: Arrived::default(),
            leaving: VecDeque::new(),
            credit: None,
            dirty: false,
            said: Duration::ZERO,
            start: Instant::now(),
            tick: Delay::new(TICK),
        }
    }

    /// Writes no more than it is granted.
    pub(super) fn rationed(self, credit: Arc<Credit>) -> Self {
        credit.begin();
        Self { credit: Some(credit), ..self }
    }

    /// Time since the attempt began.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether it is time to look around.
    pub(super) fn poll_tick(&mut self, context: &mut Context<'_>) -> bool {
        let due = self.tick.poll_unpin(context).is_ready();
        if due {
            self.tick.reset(TICK);
            // Armed anew, it must be asked once to wake this task.
            let _ = self.tick.poll_unpin(context);
        }
        due
    }

    /// Says a frame behind all that waits.
    pub(super) fn say(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.append(&mut bytes);
        self.leaving.push_back(bytes.into());
        self.said = self.now();
    }

    /// Says a frame and the chunk that belongs to it.
    pub(super) fn say_chunk(&mut self, frame: &Frame, chunk: Bytes) {
        self.say(frame);
        if !chunk.is_empty() {
            self.leaving.push_back(chunk);
        }
    }

    /// Says that this side is there, if it has said nothing for so long.
    pub(super) fn say_alive(&mut self, after: Duration) {
        if self.now().saturating_sub(self.said) > after && self.leaving.is_empty() {
            self.say(&Frame::Alive);
        }
    }

    /// Writes what waits, and flushes when nothing waits any more.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(first) = self.leaving.front_mut() {
            let allowed = self.credit.as_ref().map_or(first.len(), |credit| credit.allowed(first.len(), context));
            if allowed == 0 {
                // What has been written is not held back.
                ready!(Pin::new(&mut self.stream).poll_flush(context))?;
                self.dirty = false;
                return Poll::Pending;
            }
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, &first[..allowed]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(credit) = &self.credit {
                credit.spend(count);
            }
            self.dirty = true;
            let _ = first.split_to(count);
            if first.is_empty() {
                self.leaving.pop_front();
            }
        }
        if self.dirty {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Says the last of what waits, ends this side's half, and waits for the other side to end its own: some transports
    /// lose what is on its way when a stream is let go.
    pub(super) fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let said = match self.poll_write(context) {
            Poll::Ready(Ok(())) => ready!(Pin::new(&mut self.stream).poll_close(context)),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => return Poll::Pending,
        };
        // What is broken needs no end.
        while said.is_ok() && ready!(self.poll_frame(context)).is_ok_and(|frame| frame.is_ok()) {}
        Poll::Ready(())
    }

    /// The next frame; an error of the stream as text.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Result<Frame, Rejection>, String>> {
        loop {
            match self.arrived.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Ok(Ok(frame))),
                Err(rejection) => return Poll::Ready(Ok(Err(rejection))),
                Ok(None) => {}
            }
            let mut buffer = [0; READ];
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(0) => return Poll::Ready(Err("the stream ended".to_owned())),
                Ok(count) => self.arrived.push(&buffer[..count]),
                Err(error) => return Poll::Ready(Err(error.to_string())),
            }
        }
    }

    /// More of a chunk.
    pub(super) fn poll_chunk(&mut self, context: &mut Context<'_>, chunk: &mut [u8]) -> Poll<Result<usize, String>> {
        let waiting = self.arrived.take_into(chunk);
        if waiting > 0 {
            return Poll::Ready(Ok(waiting));
        }
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_read(context, chunk)) {
            Ok(0) => Err("the stream ended inside a chunk".to_owned()),
            Ok(count) => Ok(count),
            Err(error) => Err(error.to_string()),
        })
    }
}
