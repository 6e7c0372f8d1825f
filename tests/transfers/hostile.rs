//! A peer of its own make at the other end of a transfer's stream: plain libp2p, nothing of this crate's.

#[allow(dead_code, missing_docs, clippy::all, reason = "what another implementation has of the wire: its own copy")]
#[rustfmt::skip]
#[path = "../../src/transfers/generated.rs"]
mod wire;

use std::time::Duration;

use cpc_net::{
    IncomingTransfer, NetworkHandler, PeerId, RejectReason, Transfer, TransferOffer, TransferSource, TransferState,
    config::TransfersConfig, error::TransferError,
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{Multiaddr, Stream, StreamProtocol, SwarmBuilder, swarm::SwarmEvent};
use prost::Message as _;
use wire::{Accept, Ack, Alive, Chunk, Done, Offer, Stop, TransferFrame, refuse, transfer_frame::Frame};

use crate::{
    large::Repeated,
    payload::{Gauge, MIB, Made, ended, offered, peak, resident},
    support::{address, config, connected, network, soon, start, until},
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/cpc/1.0.0/transfer");

struct Stranger {
    peer: PeerId,
    node: PeerId,
    control: libp2p_stream::Control,
    incoming: libp2p_stream::IncomingStreams,
}

impl Stranger {
    async fn connect(net: &NetworkHandler) -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
            .expect("TCP")
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .expect("a behaviour")
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
            .build();
        let mut control = swarm.behaviour().new_control();
        let incoming = control.accept(PROTOCOL).expect("accepted once");
        let peer = *swarm.local_peer_id();
        let at: Multiaddr = address(net);
        swarm.dial(at).expect("dialled");
        let established =
            async { while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {} };
        soon("the stranger's connection", established).await;
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        connected(net, peer).await;
        Self { peer, node: net.local_peer_id(), control, incoming }
    }

    async fn open(&mut self) -> Stream {
        self.control.open_stream(self.node, PROTOCOL).await.expect("the node speaks the protocol")
    }

    /// Offers something on a stream of its own.
    async fn offer(&mut self, offer: Offer) -> Stream {
        let mut stream = self.open().await;
        say(&mut stream, Frame::Offer(offer)).await;
        stream
    }

    /// The next stream on which the node offers something, and the offer.
    async fn offered(&mut self) -> Stream {
        let (_, mut stream) = soon("a stream of the node", self.incoming.next()).await.expect("the connection stands");
        assert!(matches!(hear(&mut stream).await, Some(Frame::Offer(_))));
        stream
    }
}

fn offer(id: u8, length: Option<u64>) -> Offer {
    Offer { id: vec![id; 16].into(), name: "x".into(), length, ..Default::default() }
}

fn bytes_of(frame: Frame) -> Vec<u8> {
    TransferFrame { frame: Some(frame) }.encode_length_delimited_to_vec()
}

/// Says something; that the node may have hung up is no matter.
async fn say(stream: &mut Stream, frame: Frame) {
    let _ = stream.write_all(&bytes_of(frame)).await;
    let _ = stream.flush().await;
}

async fn accept(stream: &mut Stream, offset: u64, max_chunk: u32) {
    say(stream, Frame::Accept(Accept { offset, prefix: vec![0; 32].into(), max_chunk })).await;
}

/// What the node says next but that it is alive; `None` when it has ended the stream.
async fn hear(stream: &mut Stream) -> Option<Frame> {
    soon("a word of the node", async {
        loop {
            let mut length = 0_usize;
            for shift in 0..4 {
                let mut byte = [0];
                if stream.read_exact(&mut byte).await.is_err() {
                    return None;
                }
                length |= usize::from(byte[0] & 0x7f) << (7 * shift);
                if byte[0] < 0x80 {
                    break;
                }
            }
            let mut frame = vec![0; length];
            stream.read_exact(&mut frame).await.ok()?;
            match TransferFrame::decode(&frame[..]).expect("a frame").frame.expect("of a known kind") {
                Frame::Alive(_) => {}
                frame => return Some(frame),
            }
        }
    })
    .await
}

fn impatient(transfers: &mut TransfersConfig) {
    transfers.offer_timeout = Duration::from_secs(20);
    transfers.idle_timeout = Duration::from_secs(1);
    transfers.resume_timeout = Duration::from_secs(2);
    transfers.stall_timeout = Duration::from_secs(5);
    transfers.max_length = 1 << 30;
}

async fn impatient_node() -> NetworkHandler {
    start(config(&network()).transfers(impatient)).await
}

fn count(net: &NetworkHandler, reason: RejectReason) -> u64 {
    net.network_stats().rejections.get(reason.as_str()).copied().unwrap_or_default()
}

/// An honest transfer to the node, and one from it, both complete.
async fn honest_ones_pass(net: &NetworkHandler) {
    let friend = start(config(&net.status().network)).await;
    friend.connect(address(net)).await.expect("connects");
    connected(net, friend.local_peer_id()).await;
    for (from, to) in [(&friend, net), (net, &friend)] {
        let sent = from.send_transfer(to.local_peer_id(), TransferOffer::new("honest"), Made::source(4 * MIB));
        let sent = sent.expect("accepted");
        loop {
            let incoming = offered(to).await;
            if incoming.peer() == from.local_peer_id() {
                assert_eq!(
                    soon("an honest one", incoming.collect(8 << 20)).await.expect("whole").len() as u64,
                    4 * MIB
                );
                break;
            }
        }
        assert_eq!(ended(&sent).await, Ok(Made::hash(4 * MIB)));
    }
    friend.shutdown().await;
}

/// The stranger's offer, taken.
async fn taken(net: &NetworkHandler, peer: PeerId) -> Transfer {
    let incoming: IncomingTransfer = offered(net).await;
    assert_eq!(incoming.peer(), peer);
    incoming.accept(Gauge::default()).expect("in time")
}

#[tokio::test]
async fn chunks_with_wrong_hashes_are_refused_three_times_and_counted() {
    let net = impatient_node().await;
    let mut stranger = Stranger::connect(&net).await;
    let mut transfer = None;
    for attempt in 1..=3 {
        let mut stream = stranger.offer(offer(1, None)).await;
        if attempt == 1 {
            transfer = Some(taken(&net, stranger.peer).await);
        }
        assert!(matches!(hear(&mut stream).await, Some(Frame::Accept(Accept { offset: 0, .. }))));
        say(&mut stream, Frame::Chunk(Chunk { offset: 0, length: 16384, hash: vec![9; 32].into(), last: false })).await;
        stream.write_all(&[7; 16384]).await.expect("written");
        stream.flush().await.expect("flushed");
        let word = hear(&mut stream).await;
        assert!(
            matches!(word, Some(Frame::Stop(ref stop)) if stop.reason() == wire::stop::Reason::Corrupt),
            "{word:?}"
        );
    }
    let error = ended(&transfer.expect("taken")).await.expect_err("nothing good came");
    assert_eq!(error, TransferError::Corrupt { offset: 0 });
    until(&net, "the count", |net| count(net, RejectReason::CorruptChunk) == 3).await;
    honest_ones_pass(&net).await;
}

#[tokio::test]
async fn absurd_sizes_are_refused_before_anything_is_allocated() {
    let net = impatient_node().await;
    let mut stranger = Stranger::connect(&net).await;
    let mut stream = stranger.offer(offer(1, Some(u64::MAX))).await;
    let word = hear(&mut stream).await;
    assert!(matches!(word, Some(Frame::Refuse(ref no)) if no.reason() == refuse::Reason::TooLong), "{word:?}");
    let before = resident();
    // Chunks: longer than may be, elsewhere than next, longer than was promised, of no length.
    let chunks = [(0, u32::MAX, false), (1 << 40, 16384, false), (0, 1 << 20, true), (0, 0, true), (0, 12345, false)];
    for (id, (at, length, last)) in (2..).zip(chunks) {
        let mut stream = stranger.offer(offer(id, Some(100_000))).await;
        let transfer = taken(&net, stranger.peer).await;
        assert!(matches!(hear(&mut stream).await, Some(Frame::Accept(_))));
        say(&mut stream, Frame::Chunk(Chunk { offset: at, length, hash: vec![9; 32].into(), last })).await;
        let error = ended(&transfer).await.expect_err("absurd");
        assert!(matches!(error, TransferError::PeerFailed { .. } | TransferError::WrongLength { .. }), "{id}: {error}");
    }
    // A frame that says it is as long as a disk.
    let mut stream = stranger.open().await;
    stream.write_all(&[0xff, 0xff, 0xff, 0x7f]).await.expect("written");
    stream.flush().await.expect("flushed");
    until(&net, "the counts", |net| {
        count(net, RejectReason::Oversized) == 1 && count(net, RejectReason::Malformed) >= 3
    })
    .await;
    if let (Some(before), Some(peak)) = (before, peak()) {
        assert!(peak.saturating_sub(before) < 32 * MIB, "{before} bytes before, {peak} at most");
    }
    honest_ones_pass(&net).await;
}

#[tokio::test]
async fn frames_without_end_keep_nobody_else_waiting() {
    let net = impatient_node().await;
    let mut stranger = Stranger::connect(&net).await;
    // While its offer waits for the app, and after it has been taken.
    for id in [1, 2] {
        let mut stream = stranger.offer(offer(id, None)).await;
        let incoming = offered(&net).await;
        let transfer = (id == 2).then(|| incoming.accept(Gauge::default()).expect("in time"));
        let before = resident();
        let flood = tokio::spawn(async move {
            let frames = bytes_of(Frame::Alive(Alive {})).repeat(20_000);
            while stream.write_all(&frames).await.is_ok() {}
        });
        honest_ones_pass(&net).await;
        if let (Some(before), Some(now)) = (before, resident()) {
            assert!(now.saturating_sub(before) < 64 * MIB, "{before} bytes before, {now} now");
        }
        // Words alone are no progress.
        if let Some(transfer) = transfer {
            let error = ended(&transfer).await.expect_err("nothing came");
            assert!(matches!(error, TransferError::Stalled { .. } | TransferError::Unreachable { .. }), "{error}");
        }
        flood.abort();
    }
}

#[tokio::test]
async fn who_falls_silent_after_its_offer_or_in_the_middle_is_given_up() {
    let net = impatient_node().await;
    let mut stranger = Stranger::connect(&net).await;
    let mut stream = stranger.offer(offer(1, Some(1 << 20))).await;
    let transfer = taken(&net, stranger.peer).await;
    assert!(matches!(hear(&mut stream).await, Some(Frame::Accept(_))));
    // A chunk is announced and never comes.
    say(&mut stream, Frame::Chunk(Chunk { offset: 0, length: 16384, hash: vec![9; 32].into(), last: false })).await;
    honest_ones_pass(&net).await;
    let error = ended(&transfer).await.expect_err("nothing came");
    assert!(matches!(error, TransferError::Unreachable { .. }), "{error}");
    until(&net, "the count", |net| net.network_stats().transfers_failed == 1).await;
}

#[tokio::test]
async fn a_flood_of_offers_and_streams_has_an_end_and_is_counted() {
    let net = impatient_node().await;
    let mut stranger = Stranger::connect(&net).await;
    let mut streams = Vec::new();
    for id in 0..100 {
        streams.push(stranger.offer(offer(id, Some(10))).await);
    }
    // Eight offers of a peer wait, a few more are refused each in its own stream, and no more streams are served.
    until(&net, "the counts", |net| {
        net.network_stats().offers_refused > 0 && count(net, RejectReason::TooManyLanes) > 0
    })
    .await;
    honest_ones_pass(&net).await;
    drop(streams);
}

#[tokio::test]
async fn who_cancels_what_is_not_its_own_cancels_nothing() {
    let net = impatient_node().await;
    let friend = start(config(&net.status().network)).await;
    friend.connect(address(&net)).await.expect("connects");
    let sent = friend.send_transfer(net.local_peer_id(), TransferOffer::new("x"), Made::source(8 * MIB)).expect("ok");
    let gauge = Gauge::up_to(MIB);
    let received = offered(&net).await.accept(gauge.clone()).expect("in time");
    crate::payload::until_taken(&gauge, MIB).await;
    let mut stranger = Stranger::connect(&net).await;
    let id = hex(&sent.id().to_string());
    for by_sender in [true, false] {
        for id in [id.clone(), vec![0; 16], vec![1; 3]] {
            let mut stream = stranger.open().await;
            say(&mut stream, Frame::Stop(Stop { id: id.into(), by_sender, ..Default::default() })).await;
        }
    }
    until(&net, "the one that is no id", |net| count(net, RejectReason::Malformed) == 2).await;
    assert_eq!(received.progress().state, TransferState::Running);
    gauge.open();
    assert_eq!((ended(&sent).await, ended(&received).await), (Ok(Made::hash(8 * MIB)), Ok(Made::hash(8 * MIB))));
}

fn hex(text: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(pair).collect()
}

#[tokio::test]
async fn a_receiver_that_says_what_cannot_be_ends_its_own_transfer_only() {
    let net = impatient_node().await;
    let mut stranger = Stranger::connect(&net).await;
    let length = MIB;
    let yes = || accept_all(0, 1 << 18);
    let lies = [
        ("an acknowledgement of what was never sent", vec![yes(), Frame::Ack(Ack { offset: 1 << 50 })]),
        ("more here than there is", vec![accept_all(length + 16384, 1 << 18)]),
        ("half a unit here", vec![accept_all(100, 1 << 18)]),
        ("chunks of nothing", vec![accept_all(0, 0)]),
        ("done before it was sent", vec![yes(), Frame::Done(Done { hash: vec![1; 32].into() })]),
    ];
    for (what, frames) in lies {
        let offer = TransferOffer::new("x").length(length);
        let sent = net.send_transfer(stranger.peer, offer, Made::source(length)).expect("accepted");
        let mut stream = stranger.offered().await;
        for frame in frames {
            say(&mut stream, frame).await;
        }
        let error = ended(&sent).await.expect_err(what);
        assert!(matches!(error, TransferError::PeerFailed { .. } | TransferError::WrongHash), "{what}: {error}");
    }
    assert!(count(&net, RejectReason::Malformed) >= 4);
    honest_ones_pass(&net).await;
}

fn accept_all(offset: u64, max_chunk: u32) -> Frame {
    Frame::Accept(Accept { offset, prefix: vec![0; 32].into(), max_chunk })
}

#[tokio::test]
async fn a_receiver_that_never_reads_gets_no_more_than_a_window() {
    let net = impatient_node().await;
    let mut stranger = Stranger::connect(&net).await;
    let sent = net.send_transfer(stranger.peer, TransferOffer::new("x"), Made::source(256 * MIB)).expect("accepted");
    let before = resident();
    let mut stream = stranger.offered().await;
    // It claims to take chunks of any size, and reads none.
    accept(&mut stream, 0, u32::MAX).await;
    honest_ones_pass(&net).await;
    let sent_to_all = net.network_stats().transfer_bytes_sent;
    assert!(sent_to_all <= 4 * MIB + 9 * MIB, "{sent_to_all} bytes left, 4 MiB of them for the honest one");
    if let (Some(before), Some(peak)) = (before, peak()) {
        assert!(peak.saturating_sub(before) < 64 * MIB, "{before} bytes before, {peak} at most");
    }
    // Its silence is noticed; it is offered again and again, and then given up.
    let error = ended(&sent).await.expect_err("nothing was acknowledged");
    assert!(matches!(error, TransferError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn who_claims_to_have_a_beginning_makes_no_pipe_be_kept_in_memory() {
    // To read all of it takes longer than the others are patient here.
    let patient = |transfers: &mut TransfersConfig| transfers.idle_timeout = Duration::from_secs(30);
    let net = start(config(&network()).transfers(impatient).transfers(patient)).await;
    let mut stranger = Stranger::connect(&net).await;
    let pipe = TransferSource::once(Repeated { length: 160 * MIB, at: 0 });
    let sent = net.send_transfer(stranger.peer, TransferOffer::new("a pipe"), pipe).expect("accepted");
    let before = resident();
    let mut stream = stranger.offered().await;
    let alive = async {
        accept(&mut stream, 1 << 40, 1 << 18).await;
        // So that the sender believes in it.
        loop {
            say(&mut stream, Frame::Alive(Alive {})).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let error = tokio::select! {
        () = alive => unreachable!("it goes on for ever"),
        ended = ended(&sent) => ended.expect_err("it has no such beginning"),
    };
    assert!(matches!(error, TransferError::SourceChanged { .. }), "{error}");
    if let (Some(before), Some(peak)) = (before, peak()) {
        let grown = peak.saturating_sub(before);
        assert!(grown < 64 * MIB, "the memory grew by {grown} bytes");
    }
}
