//! What writes the lanes of one connection: up to one stream for each priority, opened when first needed and kept.
//!
//! It works on the connection's own task. Whatever waits in a lane when the lane can write leaves together, under one
//! signature. The more urgent lane goes first; one that is stuck lets the others go ahead now and then, and the less
//! urgent ones keep little on its way (`pace`).

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncWrite, FutureExt as _, future::BoxFuture};
use futures_timer::Delay;
use libp2p::{PeerId, identity::SigningError};
use web_time::Instant;

use super::{
    batch::{Ends, Filling},
    control_frame,
    dialect::Dialect,
    framing::append_frame,
    mail::sealed_frame,
    message_frame,
    pace::{OVERDUE, Pace},
};
use crate::{
    crypto::{Author as _, SealingKey, SigningKey},
    frame::{ControlContent, Letter, NonceRange, ToMailbox},
    message::Priority,
    platform,
};

/// Parcels that may wait in one lane of one connection. The core keeps below it, so it is never reached.
const LANE_CAPACITY: usize = 512;

/// What waits for a lane leaves together, up to this many bytes in one write. No batch is larger, unless it is one
/// message: every reader takes frames of this size.
const MAX_WRITE: usize = 64 * 1024;

/// What the records of a message besides its payload may come to, bytes.
const MAX_RECORDS: usize = 256;

/// Messages from this size on are hashed, compressed and signed elsewhere.
const LARGE: usize = 128 * 1024;

/// Ranges that travel along with a batch; more take a frame of their own.
const RANGES_ALONG: usize = 16;

/// Ranges in one frame of acknowledgements, and how many may wait. The peer sends again what isn't acknowledged.
const RANGES_IN_FRAME: usize = 512;
const MAX_RANGES: usize = 8 * RANGES_IN_FRAME;

/// What is sealed for mailboxes is made elsewhere, up to so much of it for one write: each
/// costs a signature and the seal's key agreements.
const SEALED_TOGETHER: usize = 8;

/// How often in a row a lane steps back for a more urgent one that is stuck, and after how long it looks again when
/// nothing else happens.
const PATIENCE: u32 = 8;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

const SIGNS: &str = "an Ed25519 key, and identities have no others, signs without fail";

thread_local! {
    /// Where batches are filled: one for all lanes, so that an idle one holds no memory.
    static FILLING: RefCell<Filling> = RefCell::default();
}

/// What a lane carries.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// A message of this node; the connection's task encodes and signs it.
    Letter(Letter),
    /// One that is worth nothing any more from a moment on: then it is let go instead of being written.
    Ephemeral(Letter, Instant),
    /// Acknowledgements. They travel with whatever leaves next.
    Acknowledge(Vec<NonceRange>),
    /// A frame that needs nothing more.
    Frame(Bytes),
    /// To a mailbox; the worker pool signs and seals it.
    Mail(ToMailbox),
}

impl Parcel {
    /// A message; `left` is how long it is worth being written, if not for ever.
    pub(crate) fn letter(letter: Letter, left: Option<Duration>) -> Self {
        match left.and_then(|left| Instant::now().checked_add(left)) {
            Some(until) => Self::Ephemeral(letter, until),
            None => Self::Letter(letter),
        }
    }
}

/// What became of parcels, counted by the priority they were given with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// They were handed to the transport, or let go because their time was over.
    Written { counts: [usize; 3], bytes: usize },
    /// They were on their way when their lane broke, or could not wait any longer; they may have arrived or not.
    Lost { counts: [usize; 3], reason: String },
}

enum State<S> {
    /// No stream; one is opened when something waits.
    Closed,
    Opening,
    Open(S, Dialect),
}

/// What is being written.
struct Write {
    /// Not there yet while it is being made elsewhere.
    bytes: Result<Vec<u8>, BoxFuture<'static, Vec<u8>>>,
    written: usize,
    counts: [usize; 3],
}

struct Lane<S> {
    priority: Priority,
    state: State<S>,
    queue: VecDeque<Parcel>,
    write: Option<Write>,
    pace: Pace,
}

impl<S> Lane<S> {
    fn is_ready(&self) -> bool {
        matches!(self.state, State::Open(..)) && self.write.is_none()
    }
}

/// The lanes out.
pub(super) struct Writer<S> {
    key: SigningKey,
    sealing: Arc<SealingKey>,
    ends: Ends,
    lanes: [Lane<S>; 3],
    acknowledge: Vec<NonceRange>,
    /// Parcels that the ranges came in.
    acknowledgements: usize,
    passed_over: u32,
    /// Runs while a lane has stepped back.
    look_again: Option<Delay>,
    /// Runs while a lane waits for acknowledgements.
    overdue: Option<Delay>,
    outcomes: VecDeque<Outcome>,
}

impl<S: AsyncWrite + Unpin> Writer<S> {
    pub(super) fn new(neighbour: PeerId, key: SigningKey, sealing: Arc<SealingKey>) -> Self {
        let ends = Ends::new(key.peer_id(), neighbour);
        let lane =
            |priority| Lane { priority, state: State::Closed, queue: VecDeque::new(), write: None, pace: Pace::new() };
        Self {
            key,
            sealing,
            ends,
            lanes: Priority::ALL.map(lane),
            acknowledge: Vec::new(),
            acknowledgements: 0,
            passed_over: 0,
            look_again: None,
            overdue: None,
            outcomes: VecDeque::new(),
        }
    }

    /// Something to send.
    pub(super) fn push(&mut self, priority: Priority, parcel: Parcel) {
        let lane = &mut self.lanes[priority.lane()];
        match parcel {
            Parcel::Acknowledge(ranges) if self.acknowledge.len() + ranges.len() <= MAX_RANGES => {
                self.acknowledgements += 1;
                self.acknowledge.extend(ranges);
            }
            Parcel::Letter(_) | Parcel::Ephemeral(..) | Parcel::Frame(_) | Parcel::Mail(_)
                if lane.queue.len() < LANE_CAPACITY =>
            {
                lane.queue.push_back(parcel)
            }
            _ => self.lost(count(priority, 1), "the lane's queue is full"),
        }
    }

    /// The neighbour has these messages.
    pub(super) fn acknowledged(&mut self, ranges: &[NonceRange], now: Instant) {
        for lane in &mut self.lanes {
            lane.pace.acknowledged(ranges, now);
        }
    }

    /// A lane that needs a stream; it is taken to be opened from now on.
    pub(super) fn next_to_open(&mut self) -> Option<Priority> {
        let none_open = self.lanes.iter().all(|lane| matches!(lane.state, State::Closed));
        let only_acknowledgements = none_open && !self.acknowledge.is_empty();
        let wanted = |lane: &&mut Lane<S>| {
            let waiting = !lane.queue.is_empty() || (only_acknowledgements && lane.priority == Priority::High);
            matches!(lane.state, State::Closed) && waiting
        };
        let lane = self.lanes.iter_mut().find(wanted)?;
        lane.state = State::Opening;
        Some(lane.priority)
    }

    /// A lane has its stream.
    pub(super) fn opened(&mut self, priority: Priority, stream: S, dialect: Dialect) {
        self.lanes[priority.lane()].state = State::Open(stream, dialect);
    }

    /// A lane has no stream, or none any more: what waits in it is lost, or would overtake what was lost before it.
    pub(super) fn failed(&mut self, priority: Priority, reason: &str) {
        let lane = &mut self.lanes[priority.lane()];
        lane.state = State::Closed;
        lane.pace.forget();
        let mut counts = lane.write.take().map_or([0; 3], |write| write.counts);
        counts[priority.lane()] += std::mem::take(&mut lane.queue).len();
        if self.lanes.iter().all(|lane| matches!(lane.state, State::Closed)) {
            self.acknowledge = Vec::new();
            counts[Priority::High.lane()] += std::mem::take(&mut self.acknowledgements);
        }
        self.lost(counts, reason);
    }

    /// Lets the lanes work, and tells what became of parcels.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Option<Outcome> {
        let now = Instant::now();
        let (mut stuck, mut steps_back, mut waits_for_acknowledgements) = (false, false, false);
        let (mut counts, mut bytes) = ([0; 3], 0);
        for at in 0..self.lanes.len() {
            loop {
                match self.poll_write(at, context) {
                    Poll::Ready(written) => {
                        add(&mut counts, written.counts);
                        bytes += written.written;
                    }
                    Poll::Pending => stuck |= self.lanes[at].write.is_some(),
                }
                let lane = &mut self.lanes[at];
                if !lane.is_ready() || lane.queue.is_empty() {
                    break;
                }
                if stuck && self.passed_over < PATIENCE {
                    self.passed_over += 1;
                    steps_back = true;
                    break;
                }
                if lane.priority != Priority::High && !lane.pace.is_open(now) {
                    waits_for_acknowledgements = true;
                    break;
                }
                self.passed_over = 0;
                self.fill(at, now);
            }
        }
        if !self.acknowledge.is_empty()
            && let Some(at) = self.lanes.iter().position(Lane::is_ready)
        {
            self.fill(at, now);
            if let Poll::Ready(written) = self.poll_write(at, context) {
                add(&mut counts, written.counts);
                bytes += written.written;
            }
        }
        // Else a lane might wait with nobody to wake it: for one that stays stuck, or for what is never acknowledged.
        wake_after(&mut self.look_again, LOOK_AGAIN, steps_back, context);
        wake_after(&mut self.overdue, OVERDUE + Duration::from_millis(1), waits_for_acknowledgements, context);
        if counts != [0; 3] {
            self.outcomes.push_back(Outcome::Written { counts, bytes });
        }
        self.outcomes.pop_front()
    }

    /// Goes on with what a lane writes; ready when all of it was handed to the transport.
    fn poll_write(&mut self, at: usize, context: &mut Context<'_>) -> Poll<Write> {
        let lane = &mut self.lanes[at];
        let (State::Open(stream, _), Some(write)) = (&mut lane.state, &mut lane.write) else { return Poll::Pending };
        match ready!(write.poll(stream, context)) {
            Ok(()) => {}
            Err(error) => {
                let priority = lane.priority;
                self.failed(priority, &error.to_string());
                return Poll::Pending;
            }
        }
        lane.write.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes what waits in a lane for one write, and the acknowledgements along.
    fn fill(&mut self, at: usize, now: Instant) {
        let lane = &mut self.lanes[at];
        let State::Open(_, dialect) = lane.state else { return };
        let mut counts = count(Priority::High, std::mem::take(&mut self.acknowledgements));
        let mut acknowledge = std::mem::take(&mut self.acknowledge);
        acknowledge.sort_unstable_by_key(|range| range.first);
        counts[at] += let_go(&mut lane.queue, now);
        let mut frames = Vec::new();
        if dialect == Dialect::Plain || acknowledge.len() > RANGES_ALONG {
            append_acknowledgements(&mut acknowledge, &mut frames);
        }
        if let Some(Parcel::Letter(letter)) = lane.queue.front()
            && letter.payload.len() >= LARGE
            && dialect == Dialect::Batches
            && let Some(Parcel::Letter(letter)) = lane.queue.pop_front()
        {
            counts[at] += 1;
            lane.pace.writes(letter.nonce, letter.payload.len(), now);
            let (key, ends) = (self.key.clone(), self.ends.clone());
            let work = move || {
                FILLING.with_borrow_mut(|filling| {
                    let mut sealing = Sealing { filling, acknowledge, key: &key, ends: &ends, frames };
                    sealing.letter(&letter).and_then(|()| sealing.finish()).expect(SIGNS)
                })
            };
            lane.write = Some(Write { bytes: Err(platform::offload(work).boxed()), written: 0, counts });
            return;
        }
        if let Some(Parcel::Mail(_)) = lane.queue.front() {
            let mut mail = Vec::new();
            while mail.len() < SEALED_TOGETHER
                && matches!(lane.queue.front(), Some(Parcel::Mail(_)))
                && let Some(Parcel::Mail(to)) = lane.queue.pop_front()
            {
                counts[at] += 1;
                mail.push(to);
            }
            append_acknowledgements(&mut acknowledge, &mut frames);
            let (key, sealing) = (self.key.clone(), self.sealing.clone());
            let work = move || {
                for frame in mail.iter().filter_map(|to| sealed_frame(to, &key, &sealing).expect(SIGNS)) {
                    append_frame(&mut frames, &frame);
                }
                frames
            };
            lane.write = Some(Write { bytes: Err(platform::offload(work).boxed()), written: 0, counts });
            return;
        }
        let bytes = FILLING.with_borrow_mut(|filling| {
            let mut sealing = Sealing { filling, acknowledge, key: &self.key, ends: &self.ends, frames };
            while let Some(parcel) = lane.queue.front() {
                let len = match parcel {
                    Parcel::Letter(letter) | Parcel::Ephemeral(letter, _) => letter.payload.len() + MAX_RECORDS,
                    Parcel::Frame(frame) => frame.len(),
                    Parcel::Acknowledge(_) => 0,
                    // Made elsewhere, by the next write.
                    Parcel::Mail(_) => break,
                };
                if !sealing.has_room(len) {
                    break;
                }
                match lane.queue.pop_front() {
                    Some(Parcel::Letter(letter)) if dialect == Dialect::Batches => {
                        lane.pace.writes(letter.nonce, letter.payload.len(), now);
                        sealing.letter(&letter).expect(SIGNS);
                    }
                    Some(Parcel::Letter(letter)) => {
                        append_frame(&mut sealing.frames, &message_frame(&letter, &self.key).expect(SIGNS));
                    }
                    Some(Parcel::Frame(frame)) => sealing.frame(&frame).expect(SIGNS),
                    Some(Parcel::Ephemeral(..) | Parcel::Acknowledge(_) | Parcel::Mail(_)) | None => {}
                }
                counts[at] += 1 + let_go(&mut lane.queue, now);
            }
            sealing.finish().expect(SIGNS)
        });
        if lane.queue.is_empty() {
            // An idle lane holds no memory.
            lane.queue = VecDeque::new();
        }
        lane.write = Some(Write { bytes: Ok(bytes), written: 0, counts });
    }

    fn lost(&mut self, counts: [usize; 3], reason: &str) {
        if counts != [0; 3] {
            self.outcomes.push_back(Outcome::Lost { counts, reason: reason.to_owned() });
        }
    }
}

impl Write {
    fn poll<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bytes = match &mut self.bytes {
            Ok(bytes) => bytes,
            Err(elsewhere) => {
                self.bytes = Ok(ready!(elsewhere.poll_unpin(context)));
                return self.poll(stream, context);
            }
        };
        while self.written < bytes.len() {
            match ready!(Pin::new(&mut *stream).poll_write(context, &bytes[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        Pin::new(stream).poll_flush(context)
    }
}

/// The frames of one write.
struct Sealing<'writer> {
    filling: &'writer mut Filling,
    /// What still has to travel along.
    acknowledge: Vec<NonceRange>,
    key: &'writer SigningKey,
    ends: &'writer Ends,
    frames: Vec<u8>,
}

impl Sealing<'_> {
    fn has_room(&self, len: usize) -> bool {
        let taken = self.frames.len() + self.filling.len();
        taken == 0 || (taken + len <= MAX_WRITE && !self.filling.is_full())
    }

    fn letter(&mut self, letter: &Letter) -> Result<(), SigningError> {
        if self.filling.add(letter, self.ends) {
            return Ok(());
        }
        self.frame(&message_frame(letter, self.key)?)
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), SigningError> {
        self.seal()?;
        append_frame(&mut self.frames, frame);
        Ok(())
    }

    fn seal(&mut self) -> Result<(), SigningError> {
        if !self.filling.is_empty() {
            self.filling.seal(&std::mem::take(&mut self.acknowledge), self.key, &mut self.frames)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>, SigningError> {
        self.seal()?;
        append_acknowledgements(&mut self.acknowledge, &mut self.frames);
        Ok(std::mem::take(&mut self.frames))
    }
}

/// Lets messages go whose time is over, until the first is one to be written or there is none. Returns how many; the core,
/// which ends their receipts, counts them among the expired.
fn let_go(queue: &mut VecDeque<Parcel>, now: Instant) -> usize {
    let mut gone = 0;
    while let Some(Parcel::Ephemeral(_, until)) = queue.front()
        && *until <= now
    {
        queue.pop_front();
        gone += 1;
    }
    if let Some(Parcel::Ephemeral(..)) = queue.front()
        && let Some(Parcel::Ephemeral(letter, _)) = queue.pop_front()
    {
        queue.push_front(Parcel::Letter(letter));
    }
    gone
}

/// Acknowledgements in frames of their own.
fn append_acknowledgements(acknowledge: &mut Vec<NonceRange>, frames: &mut Vec<u8>) {
    for ranges in std::mem::take(acknowledge).chunks(RANGES_IN_FRAME) {
        append_frame(frames, &control_frame(ControlContent::Acknowledge(ranges.to_vec())));
    }
}

/// Keeps a timer running while something waits.
fn wake_after(timer: &mut Option<Delay>, time: Duration, waits: bool, context: &mut Context<'_>) {
    if !waits {
        *timer = None;
    } else if timer.get_or_insert_with(|| Delay::new(time)).poll_unpin(context).is_ready() {
        *timer = None;
        context.waker().wake_by_ref();
    }
}

fn count(priority: Priority, count: usize) -> [usize; 3] {
    let mut counts = [0; 3];
    counts[priority.lane()] = count;
    counts
}

fn add(counts: &mut [usize; 3], more: [usize; 3]) {
    for (count, more) in counts.iter_mut().zip(more) {
        *count += more;
    }
}

#[cfg(test)]
mod tests;
