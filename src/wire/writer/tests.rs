use std::sync::{Arc, Mutex};

use futures::{executor::block_on, future::poll_fn, task::noop_waker};
use libp2p::identity::Keypair;

use super::*;
use crate::{
    event::RejectReason,
    frame::{Addressing, Content, Incoming, Rejection},
    message::MessageKind,
    wire::{
        decode,
        framing::FrameCutter,
        generated::CpcMessage,
        pace,
        reader::{Limits, Reader, Understanding},
    },
};

const LIMITS: Limits = Limits { max_frame: 1 << 20, max_payload: 1 << 19, serves_mail: false };

/// A stream's writing end: what it takes, up to what it has room for.
#[derive(Clone)]
struct Stream(Arc<Mutex<(Vec<u8>, usize)>>);

impl Stream {
    fn with_room(room: usize) -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), room))))
    }

    fn make_room(&self, room: usize) {
        self.0.lock().expect("no panics").1 = room;
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().expect("no panics").0)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (taken, room) = &mut *self.0.lock().expect("no panics");
        let length = bytes.len().min(*room);
        if length == 0 {
            return Poll::Pending;
        }
        taken.extend_from_slice(&bytes[..length]);
        *room -= length;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Lanes {
    writer: Writer<Stream>,
    /// By priority, the most urgent first.
    streams: [Stream; 3],
    understanding: Understanding,
    author: PeerId,
    recipient: PeerId,
    next_nonce: u64,
}

impl Lanes {
    fn open(dialect: Dialect, room: usize) -> Self {
        let key = Keypair::generate_ed25519();
        let (author, recipient) = (key.public().to_peer_id(), PeerId::random());
        let sealing = Arc::new(SealingKey::of(&key).expect("Ed25519"));
        let mut writer = Writer::new(recipient, SigningKey::new(&key), sealing.clone());
        let streams = [(); 3].map(|()| Stream::with_room(room));
        for (priority, stream) in Priority::ALL.into_iter().zip(&streams) {
            writer.opened(priority, stream.clone(), dialect);
        }
        let understanding = Understanding::new(author, recipient, sealing, LIMITS.max_payload);
        Self { writer, streams, understanding, author, recipient, next_nonce: 1 }
    }

    fn letter(&mut self, priority: Priority, payload: Vec<u8>) -> u64 {
        self.letter_for(priority, payload, None)
    }

    /// One that is worth being written for so long.
    fn letter_for(&mut self, priority: Priority, payload: Vec<u8>, left: Option<Duration>) -> u64 {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        let addressing = Addressing::Peer(self.recipient);
        let (kind, payload) = (MessageKind::Event, payload.into());
        let letter = Letter { nonce, kind, priority, addressing, created_at: 1, ttl: None, payload };
        self.writer.push(priority, Parcel::letter(letter, left));
        nonce
    }

    fn poll(&mut self) -> Option<Outcome> {
        self.writer.poll(&mut Context::from_waker(&noop_waker()))
    }

    fn stream(&self, priority: Priority) -> &Stream {
        &self.streams[priority.lane()]
    }

    /// What the other end reads in a lane.
    fn read(&self, priority: Priority) -> Vec<Result<Incoming, Rejection>> {
        let bytes = futures::io::Cursor::new(self.stream(priority).take());
        let mut reader = Reader::new(bytes, Dialect::Batches, LIMITS);
        let mut results = Vec::new();
        while let Some(read) = block_on(poll_fn(|context| reader.poll(context, &self.understanding))) {
            results.extend(read.results);
        }
        results
    }

    fn nonces(&self, priority: Priority) -> Vec<u64> {
        let nonce = |result: Result<Incoming, Rejection>| match result.expect("valid").content {
            Content::Message(frame) => Some(frame.id.nonce),
            _ => None,
        };
        self.read(priority).into_iter().filter_map(nonce).collect()
    }
}

/// Bytes that don't shrink.
fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    FrameCutter::new(1 << 20).cut(bytes, |frame| frames.push(frame.to_vec())).expect("well formed");
    frames
}

#[test]
fn what_waits_leaves_together_and_the_acknowledgements_with_it() {
    let mut lanes = Lanes::open(Dialect::Batches, usize::MAX);
    let ranges = vec![NonceRange { first: 5, last: 7 }];
    lanes.writer.push(Priority::High, Parcel::Acknowledge(ranges.clone()));
    let sent = (0..3).map(|_| lanes.letter(Priority::Medium, vec![7; 100])).collect::<Vec<_>>();
    let Some(Outcome::Written { counts, .. }) = lanes.poll() else { panic!("all is written") };
    assert_eq!(counts, [1, 3, 0]);
    assert_eq!(lanes.poll(), None, "one write, one report");
    assert!(lanes.stream(Priority::High).take().is_empty(), "the acknowledgements took the lane that was used");

    let bytes = lanes.stream(Priority::Medium).take();
    assert_eq!(frames(&bytes).len(), 1);
    lanes.stream(Priority::Medium).0.lock().expect("no panics").0 = bytes;
    let results = lanes.read(Priority::Medium);
    assert_eq!(results[0].as_ref().expect("valid").acknowledged, ranges);
    let nonces = results[1..].iter().map(|result| match &result.as_ref().expect("valid").content {
        Content::Message(frame) => (frame.id.sender, frame.id.nonce),
        other => panic!("a message, not {other:?}"),
    });
    assert_eq!(nonces.collect::<Vec<_>>(), sent.into_iter().map(|nonce| (lanes.author, nonce)).collect::<Vec<_>>());
}

#[test]
fn acknowledgements_alone_take_a_frame_of_their_own() {
    let mut lanes = Lanes::open(Dialect::Batches, usize::MAX);
    let ranges = (0..1000).map(|nonce| NonceRange { first: 2 * nonce, last: 2 * nonce }).collect::<Vec<_>>();
    for ranges in ranges.chunks(100).rev() {
        lanes.writer.push(Priority::High, Parcel::Acknowledge(ranges.to_vec()));
    }
    assert!(matches!(lanes.poll(), Some(Outcome::Written { counts: [10, 0, 0], .. })));
    let read = lanes.read(Priority::High).into_iter().flat_map(|result| result.expect("valid").acknowledged);
    assert_eq!(read.collect::<Vec<_>>(), ranges, "in rising order");
}

#[test]
fn one_who_knows_five_fields_gets_frames_that_each_stand_alone() {
    let mut lanes = Lanes::open(Dialect::Plain, usize::MAX);
    lanes.writer.push(Priority::High, Parcel::Acknowledge(vec![NonceRange { first: 5, last: 7 }]));
    let payload = vec![b'x'; 2000];
    let sent = [lanes.letter(Priority::High, payload.clone()), lanes.letter(Priority::High, payload.clone())];
    assert!(matches!(lanes.poll(), Some(Outcome::Written { counts: [3, 0, 0], .. })));
    let frames = frames(&lanes.stream(Priority::High).take());
    assert_eq!(frames.len(), 3);
    assert_eq!(decode(&frames[0], lanes.author, 4000).expect("valid").acknowledged.len(), 1);
    for (frame, nonce) in frames[1..].iter().zip(sent) {
        assert!(decode(frame, PeerId::random(), 4000).is_ok(), "it proves itself alone");
        use prost::Message as _;
        let wire = CpcMessage::decode(&frame[..]).expect("protobuf");
        assert_eq!((wire.nonce, &wire.payload[..], wire.encoding), (nonce, &payload[..], 0), "readable as it is");
        assert!(wire.batch.is_none() && wire.proof.is_none());
    }
}

#[test]
fn the_urgent_goes_first_and_a_stuck_lane_lets_others_pass_now_and_then() {
    let mut lanes = Lanes::open(Dialect::Batches, 0);
    lanes.stream(Priority::Low).make_room(usize::MAX);
    lanes.letter(Priority::High, vec![1; 100]);
    let low = lanes.letter(Priority::Low, vec![2; 100]);
    for _ in 0..PATIENCE {
        assert_eq!(lanes.poll(), None);
        assert!(lanes.stream(Priority::Low).take().is_empty(), "the urgent message is still to be written");
    }
    assert!(matches!(lanes.poll(), Some(Outcome::Written { counts: [0, 0, 1], .. })), "nobody starves");
    assert_eq!(lanes.nonces(Priority::Low), [low]);
    lanes.letter(Priority::Low, vec![2; 100]);
    assert_eq!(lanes.poll(), None, "and steps back again");
    lanes.stream(Priority::High).make_room(usize::MAX);
    assert!(matches!(lanes.poll(), Some(Outcome::Written { counts: [1, 0, 1], .. })));
}

#[test]
fn behind_a_lane_that_stays_stuck_nobody_waits_for_ever() {
    let mut lanes = Lanes::open(Dialect::Batches, 0);
    lanes.stream(Priority::Low).make_room(usize::MAX);
    lanes.letter(Priority::High, vec![1; 100]);
    lanes.letter(Priority::Low, vec![2; 100]);
    // Nothing happens but what the writer wakes itself for.
    let outcome = block_on(poll_fn(|context| lanes.writer.poll(context).map_or(Poll::Pending, Poll::Ready)));
    assert!(matches!(outcome, Outcome::Written { counts: [0, 0, 1], .. }));
}

#[test]
fn a_flood_of_the_less_urgent_stops_until_it_is_acknowledged_and_the_urgent_goes_on() {
    let mut lanes = Lanes::open(Dialect::Batches, usize::MAX);
    let noise = noise(16 * 1024);
    let all = (0..100).map(|_| lanes.letter(Priority::Low, noise.clone())).collect::<Vec<_>>();
    while lanes.poll().is_some() {}
    let first = lanes.nonces(Priority::Low);
    let window = pace::MIN_WINDOW / noise.len();
    assert!((window..=window + 4).contains(&first.len()), "{} messages of {} bytes", first.len(), noise.len());

    let urgent = lanes.letter(Priority::High, noise.clone());
    assert!(matches!(lanes.poll(), Some(Outcome::Written { counts: [1, 0, 0], .. })));
    assert_eq!(lanes.nonces(Priority::High), [urgent]);

    let mut arrived = first;
    while arrived.len() < all.len() {
        let last = *arrived.last().expect("some");
        lanes.writer.acknowledged(&[NonceRange { first: all[0], last }], Instant::now());
        while lanes.poll().is_some() {}
        let more = lanes.nonces(Priority::Low);
        assert!(!more.is_empty(), "an acknowledgement lets the lane go on");
        arrived.extend(more);
    }
    assert_eq!(arrived, all, "in order");
}

#[test]
fn a_large_message_is_made_elsewhere_and_keeps_its_place() {
    platform::block_on(async {
        let mut lanes = Lanes::open(Dialect::Batches, usize::MAX);
        let sent = [100, LARGE + 1, 200].map(|length| lanes.letter(Priority::Medium, vec![b'x'; length]));
        let mut written = 0;
        while written < sent.len() {
            let outcome = poll_fn(|context| lanes.writer.poll(context).map_or(Poll::Pending, Poll::Ready)).await;
            let Outcome::Written { counts, .. } = outcome else { panic!("nothing breaks") };
            written += counts[Priority::Medium.lane()];
        }
        let frames = frames(&lanes.stream(Priority::Medium).take());
        let opened = frames.iter().flat_map(|frame| lanes.understanding.opened(frame));
        let nonces = opened.map(|result| match result.expect("valid").content {
            Content::Message(frame) => frame.id.nonce,
            other => panic!("a message, not {other:?}"),
        });
        assert_eq!(nonces.collect::<Vec<_>>(), sent);
    });
}

#[test]
fn no_batch_is_larger_than_what_every_reader_takes() {
    let mut lanes = Lanes::open(Dialect::Batches, usize::MAX);
    for length in [60_000, 10_000, 60_000, 65_536, 1, 30_000, 30_000, 30_000] {
        lanes.letter(Priority::High, noise(length));
    }
    while lanes.poll().is_some() {}
    let frames = frames(&lanes.stream(Priority::High).take());
    assert!(frames.len() > 4);
    for frame in frames {
        assert!(frame.len() <= 64 * 1024 + crate::wire::MAX_FRAME_OVERHEAD, "{}", frame.len());
    }
}

#[test]
fn a_lane_that_breaks_loses_what_waits_in_it_and_nothing_else() {
    let mut lanes = Lanes::open(Dialect::Batches, 10);
    lanes.letter(Priority::Low, vec![1; 100]);
    lanes.poll();
    lanes.letter(Priority::Low, vec![1; 100]);
    lanes.writer.failed(Priority::Low, "reset");
    assert_eq!(lanes.poll(), Some(Outcome::Lost { counts: [0, 0, 2], reason: "reset".to_owned() }));
    assert_eq!(lanes.writer.next_to_open(), None);
    lanes.letter(Priority::Low, vec![1; 100]);
    assert_eq!(lanes.writer.next_to_open(), Some(Priority::Low), "and is opened anew");
    assert_eq!(lanes.writer.next_to_open(), None, "once");
}

#[test]
fn more_than_a_lane_holds_is_told() {
    let mut lanes = Lanes::open(Dialect::Batches, 0);
    for _ in 0..LANE_CAPACITY + 1 {
        lanes.letter(Priority::Medium, Vec::new());
    }
    assert!(matches!(lanes.poll(), Some(Outcome::Lost { counts: [0, 1, 0], .. })));
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_reported() {
    let lanes = Lanes::open(Dialect::Batches, usize::MAX);
    let mut bytes = Vec::new();
    append_frame(&mut bytes, &control_frame(ControlContent::Goodbye));
    bytes.extend([20, 1, 2]);
    lanes.stream(Priority::High).0.lock().expect("no panics").0 = bytes;
    let results = lanes.read(Priority::High);
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().expect_err("cut").reason, RejectReason::Truncated);
}

#[test]
fn after_a_bad_frame_the_next_one_is_read_and_after_a_bad_length_nothing() {
    let lanes = Lanes::open(Dialect::Batches, usize::MAX);
    let mut bytes = Vec::new();
    append_frame(&mut bytes, &[0xff; 9]);
    append_frame(&mut bytes, &control_frame(ControlContent::Goodbye));
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    append_frame(&mut bytes, &control_frame(ControlContent::Goodbye));
    lanes.stream(Priority::High).0.lock().expect("no panics").0 = bytes;
    let reasons = lanes.read(Priority::High).into_iter().map(|result| result.err().map(|rejection| rejection.reason));
    assert_eq!(reasons.collect::<Vec<_>>(), [Some(RejectReason::Malformed), None, Some(RejectReason::Oversized)]);
}

#[test]
fn a_message_whose_time_is_over_when_its_turn_comes_is_let_go() {
    let hour = Duration::from_secs(3600);
    for large in [10, 40_000] {
        let mut lanes = Lanes::open(Dialect::Batches, usize::MAX);
        let mut expected = Vec::new();
        for (left, is_written) in [(Some(Duration::ZERO), false), (None, true), (Some(Duration::ZERO), false)] {
            let nonce = lanes.letter_for(Priority::Low, vec![1; large], left);
            expected.extend(is_written.then_some(nonce));
        }
        expected.push(lanes.letter_for(Priority::Low, vec![2; 10], Some(hour)));
        lanes.letter_for(Priority::Low, vec![2; 10], Some(Duration::ZERO));
        let mut settled = 0;
        let deadline = Instant::now() + Duration::from_secs(20);
        while settled < 5 {
            assert!(Instant::now() < deadline, "{settled} of five are settled");
            match lanes.poll() {
                Some(Outcome::Written { counts, .. }) => settled += counts[Priority::Low.lane()],
                Some(lost) => panic!("{lost:?}"),
                None => {}
            }
        }
        assert_eq!(lanes.nonces(Priority::Low), expected);
    }
}
