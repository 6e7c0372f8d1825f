//! What reads one stream of the neighbour's. It works on the connection's own task and only when asked, so a neighbour
//! whose messages nobody takes is not read, and its window fills.
//!
//! Bytes are read into one buffer per thread and understood there; a lane itself keeps only the beginning of a frame
//! whose end has not come.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, FutureExt as _, future::BoxFuture};
use libp2p::PeerId;

use super::{batch::Opener, decode, dialect::Dialect, framing::FrameCutter, mail};
use crate::{
    crypto::SealingKey,
    event::RejectReason,
    frame::{Content, Incoming, Mail, Rejection},
    platform,
};

/// Bytes that are read and reported at a time.
const READ: usize = 64 * 1024;

/// Up to so many signatures are verified where the bytes are read; waking another thread for them costs more than it
/// saves.
const VERIFIED_INLINE: usize = 4;

/// Batches from this size on are understood elsewhere: hashing and decompressing take their time.
const LARGE_BATCH: usize = 128 * 1024;

/// Other frames from this size on are, too: one may be a list of many signed records.
const LARGE_FRAME: usize = 4096;

/// A stream with more faults than this in what is read at a time is not read on: each costs the driver much more than
/// whoever sends it. What is good behind them was not acknowledged, so it comes again.
const MAX_FAULTS: usize = 64;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// What the lanes are allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Largest frame, bytes.
    pub(crate) max_frame: usize,
    /// Largest payload of an app's message, bytes.
    pub(crate) max_payload: usize,
    /// Whether this node keeps mail for others, and says so.
    pub(crate) serves_mail: bool,
}

/// Understands frames of one neighbour.
#[derive(Clone)]
pub(super) struct Understanding {
    neighbour: PeerId,
    local: PeerId,
    max_payload: usize,
    opener: Opener,
    /// Opens what mailboxes have kept for this node.
    sealing: Arc<SealingKey>,
}

impl Understanding {
    pub(super) fn new(neighbour: PeerId, local: PeerId, sealing: Arc<SealingKey>, max_payload: usize) -> Self {
        Self { neighbour, local, max_payload, opener: Opener::new(neighbour, local, max_payload), sealing }
    }

    /// Decodes, checks and verifies a frame. What a batch brings is more than one result. Answers what it did; `quick`
    /// makes it leave alone what takes long.
    fn understand(&self, frame: &[u8], dialect: Dialect, quick: bool, results: &mut Results) -> Done {
        if quick && frame.len() >= LARGE_BATCH {
            return Done::Nothing;
        }
        if dialect == Dialect::Batches
            && let Some(opened) = self.opener.open(frame)
        {
            results.extend(opened);
            return Done::Verified;
        }
        if quick && frame.len() >= LARGE_FRAME {
            return Done::Nothing;
        }
        let mut result = decode(frame, self.neighbour, self.max_payload);
        if let Ok(incoming) = &mut result
            && let Content::Mail(mail) = &mut incoming.content
            && let Mail::Piece(piece) = &mut **mail
        {
            mail::open(piece, &self.local, &self.sealing, self.max_payload);
            results.push(result);
            return Done::Verified;
        }
        let below_the_app = matches!(&result, Ok(incoming) if !matches!(incoming.content, Content::Message(_)));
        results.push(result);
        if below_the_app { Done::Read } else { Done::Verified }
    }
}

#[cfg(test)]
impl Understanding {
    /// What a batch brings.
    pub(super) fn opened(&self, frame: &[u8]) -> Results {
        self.opener.open(frame).expect("a batch")
    }
}

/// What was done to a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Nothing,
    /// It had no signature.
    Read,
    /// Its signature was verified, or it was taken for one that has some.
    Verified,
}

pub(super) type Results = Vec<Result<Incoming, Rejection>>;

/// Counts the faults among results that become more.
#[derive(Default)]
struct Faults {
    count: usize,
    looked_at: usize,
}

impl Faults {
    fn are_too_many(&mut self, results: &Results) -> bool {
        self.count += results[self.looked_at..].iter().filter(|result| result.is_err()).count();
        self.looked_at = results.len();
        self.count > MAX_FAULTS
    }
}

/// What was read: results in the order of their frames, and how many bytes came since the last.
pub(super) struct Read {
    pub(super) results: Results,
    pub(super) bytes: usize,
}

/// One stream of the neighbour's.
pub(super) struct Reader<S> {
    stream: S,
    dialect: Dialect,
    cutter: FrameCutter,
    /// Frames that are understood elsewhere. Those behind them wait in the stream.
    elsewhere: Option<BoxFuture<'static, Results>>,
    /// Bytes read since the last report.
    unreported: usize,
    ended: bool,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(super) fn new(stream: S, dialect: Dialect, limits: Limits) -> Self {
        Self {
            stream,
            dialect,
            cutter: FrameCutter::new(limits.max_frame),
            elsewhere: None,
            unreported: 0,
            ended: false,
        }
    }

    /// What came in next. `None` when the stream has ended, broken, or can't be understood any more: drop it, which
    /// resets it.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, understanding: &Understanding) -> Poll<Option<Read>> {
        loop {
            if let Some(elsewhere) = &mut self.elsewhere {
                let results = ready!(elsewhere.poll_unpin(context));
                self.elsewhere = None;
                self.ended |= Faults::default().are_too_many(&results);
                return Poll::Ready(Some(self.report(results)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let results = BUFFER.with_borrow_mut(|buffer| {
                Pin::new(&mut self.stream)
                    .poll_read(context, buffer)
                    .map(|read| self.take(read.map(|length| &buffer[..length]), understanding))
            });
            let results = ready!(results);
            if !results.is_empty() {
                return Poll::Ready(Some(self.report(results)));
            }
        }
    }

    fn report(&mut self, results: Results) -> Read {
        Read { results, bytes: std::mem::take(&mut self.unreported) }
    }

    fn take(&mut self, read: io::Result<&[u8]>, understanding: &Understanding) -> Results {
        let mut results = Vec::new();
        // A stream that breaks is the connection's end, or the neighbour's reset: no fault.
        let Ok(bytes) = read else {
            self.ended = true;
            return results;
        };
        if bytes.is_empty() {
            self.ended = true;
            if !self.cutter.is_between_frames() {
                results.push(Err(Rejection::new(RejectReason::Truncated, "the stream ended inside a frame")));
            }
            return results;
        }
        self.unreported += bytes.len();
        let (mut later, mut verified, dialect, mut faults) = (Vec::new(), 0, self.dialect, Faults::default());
        let cut = self.cutter.cut(bytes, |frame| {
            if faults.are_too_many(&results) {
                return;
            }
            // What comes behind a frame that waits waits with it.
            let done = if later.is_empty() && verified < VERIFIED_INLINE {
                understanding.understand(frame, dialect, true, &mut results)
            } else {
                Done::Nothing
            };
            match done {
                Done::Nothing => later.push(frame.to_vec()),
                Done::Read => {}
                Done::Verified => verified += 1,
            }
        });
        let broken = cut.err();
        self.ended |= broken.is_some() || faults.are_too_many(&results);
        if later.is_empty() {
            results.extend(broken.map(Err));
        } else {
            let understanding = understanding.clone();
            let work = move || {
                let (mut results, mut faults) = (Vec::new(), Faults::default());
                for frame in later {
                    if faults.are_too_many(&results) {
                        break;
                    }
                    understanding.understand(&frame, dialect, false, &mut results);
                }
                results.extend(broken.map(Err));
                results
            };
            self.elsewhere = Some(platform::offload(work).boxed());
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use libp2p::identity::Keypair;
    use prost::Message as _;

    use super::*;
    use crate::wire::{framing::append_frame, generated::CpcMessage};

    /// What comes of a stream of so many bad frames and a good one behind them: faults, good frames, and unread bytes.
    fn read(bad: &[u8], count: usize) -> (usize, usize, u64) {
        let keys = Keypair::generate_ed25519();
        let (local, neighbour) = (keys.public().to_peer_id(), PeerId::random());
        let sealing = Arc::new(SealingKey::of(&keys).expect("an Ed25519 key"));
        let understanding = Understanding::new(neighbour, local, sealing, 1 << 16);
        let mut bytes = Vec::new();
        for _ in 0..count {
            append_frame(&mut bytes, bad);
        }
        append_frame(&mut bytes, &CpcMessage { nonce: 7, ..CpcMessage::default() }.encode_to_vec());
        let length = bytes.len() as u64;
        let limits = Limits { max_frame: 1 << 17, max_payload: 1 << 16, serves_mail: false };
        let mut reader = Reader::new(futures::io::Cursor::new(bytes), Dialect::Plain, limits);
        let (mut faults, mut good) = (0, 0);
        while let Some(read) = platform::block_on(poll_fn(|context| reader.poll(context, &understanding))) {
            let faulty = read.results.iter().filter(|result| result.is_err()).count();
            faults += faulty;
            good += read.results.len() - faulty;
        }
        (faults, good, length - reader.stream.position())
    }

    #[test]
    fn a_stream_of_faults_is_not_read_on() {
        // Understood where they are read, and elsewhere: four take their time, the others wait behind them.
        let bad = [0xff];
        assert_eq!(read(&bad, MAX_FAULTS / 2), (MAX_FAULTS / 2, 1, 0));
        let (faults, good, unread) = read(&bad, 1_000_000);
        assert!(faults <= MAX_FAULTS + VERIFIED_INLINE + 1, "{faults}");
        assert_eq!(good, 0);
        assert!(unread > 1_000_000, "{unread}");
        // No frame is empty.
        assert_eq!(read(&[], 10), (1, 0, 0));
    }
}
