//! Streams and muxers over a backend made of memory: what both real backends rely on, without their networks.

use std::{
    collections::{HashMap, VecDeque},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, executor::block_on, future::join};
use libp2p::core::{StreamMuxer, muxing::StreamMuxerExt as _};

use super::{Channel, Handle, Link, Muxer, Stream, Streams, stream::HIGH_WATER};

enum Event {
    Open,
    Opened,
    Message(Bytes),
    Close,
}

/// What is on its way to one side.
#[derive(Default)]
struct Inbox {
    events: VecDeque<(u64, Event)>,
    waker: Option<Waker>,
    gone: bool,
}

#[derive(Default)]
struct Wire {
    inboxes: [Inbox; 2],
    next_channel: u64,
    /// Bytes on their way, by sending side and channel.
    buffered: HashMap<(usize, u64), usize>,
}

impl Wire {
    fn tell(&mut self, side: usize, channel: u64, event: Event) {
        let inbox = &mut self.inboxes[side];
        inbox.events.push_back((channel, event));
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

struct MemoryChannel {
    wire: Arc<Mutex<Wire>>,
    side: usize,
    id: u64,
    closed: bool,
}

impl Channel for MemoryChannel {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        assert!(message.len() <= super::MAX_MESSAGE, "{} bytes", message.len());
        let mut wire = self.wire.lock().unwrap();
        *wire.buffered.entry((self.side, self.id)).or_default() += message.len();
        wire.tell(1 - self.side, self.id, Event::Message(Bytes::copy_from_slice(message)));
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.wire.lock().unwrap().buffered.get(&(self.side, self.id)).copied().unwrap_or(0)
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.wire.lock().unwrap().tell(1 - self.side, self.id, Event::Close);
        }
    }
}

struct MemoryLink {
    wire: Arc<Mutex<Wire>>,
    side: usize,
    handles: HashMap<u64, Handle<MemoryChannel>>,
}

impl MemoryLink {
    fn channel(&self, id: u64) -> MemoryChannel {
        MemoryChannel { wire: self.wire.clone(), side: self.side, id, closed: false }
    }
}

impl Link for MemoryLink {
    type Channel = MemoryChannel;

    fn open(&mut self, streams: &Streams<MemoryChannel>) -> io::Result<Stream<MemoryChannel>> {
        let id = {
            let mut wire = self.wire.lock().unwrap();
            wire.next_channel += 1;
            let id = wire.next_channel;
            wire.tell(1 - self.side, id, Event::Open);
            id
        };
        let (handle, stream) = streams.outgoing(self.channel(id));
        self.handles.insert(id, handle);
        Ok(stream)
    }

    fn poll(&mut self, context: &mut Context<'_>, streams: &Streams<MemoryChannel>) -> Poll<io::Error> {
        loop {
            let next = {
                let mut wire = self.wire.lock().unwrap();
                let inbox = &mut wire.inboxes[self.side];
                inbox.waker = Some(context.waker().clone());
                if inbox.gone {
                    return Poll::Ready(io::Error::other("the peer vanished"));
                }
                inbox.events.pop_front()
            };
            let Some((id, event)) = next else { return Poll::Pending };
            match event {
                Event::Open => {
                    if let Some(handle) = streams.incoming(self.channel(id), true) {
                        self.handles.insert(id, handle);
                        self.wire.lock().unwrap().tell(1 - self.side, id, Event::Opened);
                    }
                }
                Event::Opened => self.handles[&id].opened(),
                Event::Message(message) => {
                    *self.wire.lock().unwrap().buffered.get_mut(&(1 - self.side, id)).unwrap() -= message.len();
                    if let Some(handle) = self.handles.get(&id) {
                        handle.received(message);
                    }
                }
                Event::Close => {
                    if let Some(handle) = self.handles.remove(&id) {
                        handle.closed();
                    }
                }
            }
        }
    }

    fn close(&mut self) {
        let mut wire = self.wire.lock().unwrap();
        let inbox = &mut wire.inboxes[1 - self.side];
        inbox.gone = true;
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

fn pair() -> [Muxer<MemoryLink>; 2] {
    let wire = Arc::<Mutex<Wire>>::default();
    [0, 1].map(|side| Muxer::new(MemoryLink { wire: wire.clone(), side, handles: HashMap::new() }, Streams::new()))
}

type TestStream = Stream<MemoryChannel>;

/// Runs a story while both muxers work.
fn run<T>(muxers: &mut [Muxer<MemoryLink>; 2], story: impl Future<Output = T>) -> T {
    let mut story = Box::pin(story);
    block_on(std::future::poll_fn(|context| {
        for muxer in muxers.iter_mut() {
            // A connection that has ended has told its streams.
            let _ = Pin::new(muxer).poll(context);
        }
        story.as_mut().poll(context)
    }))
}

/// A stream from the first to the second, both ends.
fn connect(muxers: &mut [Muxer<MemoryLink>; 2]) -> (TestStream, TestStream) {
    let ours = block_on(std::future::poll_fn(|context| muxers[0].poll_outbound_unpin(context))).expect("opened");
    let theirs = block_on(std::future::poll_fn(|context| {
        let _ = Pin::new(&mut muxers[1]).poll(context);
        muxers[1].poll_inbound_unpin(context)
    }));
    (ours, theirs.expect("came"))
}

#[test]
fn who_has_closed_its_half_can_still_read_and_nothing_is_left_behind() {
    let mut muxers = pair();
    let (mut ours, mut theirs) = connect(&mut muxers);
    run(&mut muxers, async {
        let question = async {
            ours.write_all(b"question").await.expect("open");
            ours.close().await.expect("open");
            let mut answer = String::new();
            ours.read_to_string(&mut answer).await.expect("an answer");
            assert_eq!(answer, "answer");
        };
        let answer = async {
            let mut question = String::new();
            theirs.read_to_string(&mut question).await.expect("a question");
            assert_eq!(question, "question");
            theirs.write_all(b"answer").await.expect("open");
            theirs.close().await.expect("open");
        };
        join(question, answer).await;
        drop((ours, theirs));
    });
    run(&mut muxers, async {});
    assert_eq!(muxers.each_ref().map(|muxer| muxer.streams().count()), [0, 0]);
}

#[test]
fn a_large_transfer_is_cut_into_messages_and_waits_for_room() {
    let mut muxers = pair();
    let (mut ours, mut theirs) = connect(&mut muxers);
    let sent = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    let received = run(&mut muxers, async {
        let write = async {
            ours.write_all(&sent).await.expect("open");
            ours.close().await.expect("open");
        };
        let read = async {
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).await.expect("data");
            received
        };
        join(write, read).await.1
    });
    assert!(received == sent);
}

#[test]
fn a_writer_waits_while_nothing_leaves() {
    let mut muxers = pair();
    let (mut ours, _theirs) = connect(&mut muxers);
    // The first story lets the channel open, in the second nobody takes anything off.
    run(&mut muxers, async { ours.flush().await.expect("open") });
    muxers[0].link().handles.values().for_each(Handle::opened);
    let mut context = Context::from_waker(Waker::noop());
    let mut written = 0;
    while let Poll::Ready(result) = Pin::new(&mut ours).poll_write(&mut context, &[0; 100_000]) {
        written += result.expect("open");
        assert!(written < 2 * HIGH_WATER, "{written}");
    }
    assert!(written >= HIGH_WATER);
}

#[test]
fn small_writes_travel_together() {
    let mut muxers = pair();
    let (mut ours, mut theirs) = connect(&mut muxers);
    let received = run(&mut muxers, async {
        for part in [b"a".as_slice(), b"b", b"c"] {
            ours.write_all(part).await.expect("open");
        }
        ours.flush().await.expect("open");
        let mut received = [0; 8];
        let count = theirs.read(&mut received).await.expect("data");
        received[..count].to_vec()
    });
    assert_eq!(received, b"abc", "one message");
}

#[test]
fn dropping_an_open_stream_tells_the_other_side() {
    let mut muxers = pair();
    let (mut ours, mut theirs) = connect(&mut muxers);
    run(&mut muxers, async {
        ours.write_all(b"x").await.expect("open");
        ours.flush().await.expect("open")
    });
    drop(ours);
    let error = run(&mut muxers, async {
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.expect_err("given up")
    });
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn when_the_connection_breaks_everybody_hears_why() {
    let mut muxers = pair();
    let (ours, mut theirs) = connect(&mut muxers);
    muxers[0].link().close();
    let error = run(&mut muxers, async { theirs.read(&mut [0; 1]).await.expect_err("broken") });
    assert!(error.to_string().contains("vanished"), "{error}");
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(muxers[1].poll_inbound_unpin(&mut context), Poll::Ready(Err(_))));
    assert!(matches!(muxers[1].poll_outbound_unpin(&mut context), Poll::Ready(Err(_))));
    drop(ours);
}

#[test]
fn streams_that_nobody_takes_are_bounded_and_none_of_the_bound_is_lost() {
    let mut muxers = pair();
    let streams = (0..300)
        .map(|_| block_on(std::future::poll_fn(|context| muxers[0].poll_outbound_unpin(context))).expect("opened"))
        .collect::<Vec<_>>();
    run(&mut muxers, async {});
    let mut context = Context::from_waker(Waker::noop());
    let mut taken = Vec::new();
    while let Poll::Ready(stream) = muxers[1].poll_inbound_unpin(&mut context) {
        taken.push(stream.expect("came"));
    }
    assert_eq!(taken.len(), 256);
    drop((streams, taken));
}

#[test]
fn what_nobody_reads_is_bounded_over_all_streams() {
    let mut muxers = pair();
    let mut pairs = (0..8).map(|_| connect(&mut muxers)).collect::<Vec<_>>();
    let seven_mebibytes = vec![0; 7 * 1024 * 1024];
    let refused = pairs.iter_mut().position(|(ours, _)| {
        run(&mut muxers, async { ours.write_all(&seven_mebibytes).await.and(ours.flush().await) }).is_err()
    });
    assert_eq!(refused, Some(4), "32 MiB may wait in all");
    // What is read makes room, and who was not refused loses nothing.
    for (ours, mut theirs) in pairs.drain(..4) {
        let mut ours = ours;
        run(&mut muxers, async {
            ours.close().await.expect("open");
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).await.expect("all of it");
            assert_eq!(received.len(), seven_mebibytes.len());
        });
    }
    let (mut ours, mut theirs) = connect(&mut muxers);
    run(&mut muxers, async {
        ours.write_all(b"again").await.expect("room");
        ours.flush().await.expect("room");
        theirs.read_exact(&mut [0; 5]).await.expect("data");
    });
}

#[test]
fn closing_waits_for_what_was_written() {
    let mut muxers = pair();
    let (mut ours, mut theirs) = connect(&mut muxers);
    run(&mut muxers, async { ours.flush().await.expect("open") });
    muxers[0].link().handles.values().for_each(Handle::opened);
    block_on(ours.write_all(b"last words")).expect("open");
    block_on(ours.close()).expect("open");
    let mut context = Context::from_waker(Waker::noop());
    assert!(muxers[0].poll_close_unpin(&mut context).is_pending(), "the other side has not got it");
    let [first, second] = &mut muxers;
    let close = std::future::poll_fn(|context| {
        let _ = Pin::new(&mut *second).poll(context);
        first.poll_close_unpin(context)
    });
    block_on(close).expect("closed");
    let mut received = Vec::new();
    block_on(theirs.read_to_end(&mut received)).expect("all of it");
    assert_eq!(received, b"last words");
}
