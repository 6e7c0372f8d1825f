//! Two nodes on one machine, over real sockets.

use std::{
    future::poll_fn,
    io,
    net::UdpSocket,
    pin::Pin,
    sync::atomic::Ordering,
    task::Poll,
    time::{Duration, Instant},
};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, SinkExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
    future::{join, join_all, try_join_all},
};
use libp2p::{
    Multiaddr, PeerId, Transport as _,
    core::{
        Endpoint as Role, StreamMuxer as _,
        muxing::StreamMuxerExt as _,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
    multiaddr::Protocol,
};

use super::{
    Certificate, Transport,
    connection::{Connection, DataChannel},
};
use crate::transport::webrtc::{Muxer, Stream, Streams, direct::DirectAddress};

type TestStream = Stream<DataChannel>;
type Opened = oneshot::Sender<io::Result<TestStream>>;

/// A connection that works by itself, as in a swarm.
struct Peer {
    id: PeerId,
    open: mpsc::Sender<Opened>,
    inbound: mpsc::Receiver<TestStream>,
    ended: oneshot::Receiver<io::Error>,
    streams: Streams<DataChannel>,
}

impl Peer {
    fn new((id, mut muxer): (PeerId, Muxer<Connection>)) -> Self {
        let streams = muxer.streams().clone();
        let (open, mut wishes) = mpsc::channel::<Opened>(1);
        let (mut sender, inbound) = mpsc::channel(1_000);
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            let mut opening = Vec::<Opened>::new();
            let error = poll_fn(|context| {
                if let Poll::Ready(Err(error)) = Pin::new(&mut muxer).poll(context) {
                    return Poll::Ready(Some(error));
                }
                while let Poll::Ready(Ok(stream)) = muxer.poll_inbound_unpin(context) {
                    // A story may be done with what comes.
                    let _ = sender.try_send(stream);
                }
                loop {
                    match wishes.poll_next_unpin(context) {
                        Poll::Ready(Some(opened)) => opening.push(opened),
                        Poll::Ready(None) => return Poll::Ready(None),
                        Poll::Pending => break,
                    }
                }
                while let Some(opened) = opening.pop() {
                    match muxer.poll_outbound_unpin(context) {
                        Poll::Ready(result) => drop(opened.send(result)),
                        Poll::Pending => {
                            opening.push(opened);
                            break;
                        }
                    }
                }
                Poll::Pending
            })
            .await;
            match error {
                Some(error) => drop(end.send(error)),
                None => poll_fn(|context| muxer.poll_close_unpin(context)).await.expect("closed"),
            }
        });
        Self { id, open, inbound, ended, streams }
    }

    async fn open(&self) -> io::Result<TestStream> {
        let (opened, stream) = oneshot::channel();
        self.open.clone().send(opened).await.map_err(io::Error::other)?;
        stream.await.map_err(io::Error::other)?
    }

    async fn accept(&mut self) -> TestStream {
        soon("a stream comes", self.inbound.next()).await.expect("the connection stands")
    }

    /// Answers each stream with what it says.
    fn echo(mut self) {
        tokio::spawn(async move {
            // The connection stands while somebody may open streams.
            let _open = self.open;
            while let Some(mut stream) = self.inbound.next().await {
                tokio::spawn(async move {
                    let mut heard = Vec::new();
                    stream.read_to_end(&mut heard).await?;
                    stream.write_all(&heard).await?;
                    stream.close().await
                });
            }
        });
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("{what}: not within 20 s"))
}

fn transport() -> (PeerId, Transport) {
    let key = Keypair::generate_ed25519();
    (key.public().to_peer_id(), Transport::new(&key, Certificate::generate().expect("made")))
}

async fn next(transport: &mut Transport) -> TransportEvent<super::transport::Upgrade, io::Error> {
    soon("an event of the transport", poll_fn(|context| Pin::new(&mut *transport).poll(context))).await
}

async fn listen(transport: &mut Transport, address: &str) -> Multiaddr {
    transport.listen_on(ListenerId::next(), address.parse().expect("a multiaddr")).expect("listens");
    match next(transport).await {
        TransportEvent::NewAddress { listen_addr, .. } => listen_addr,
        other => panic!("{other:?}"),
    }
}

async fn dial(transport: &mut Transport, address: Multiaddr) -> io::Result<Peer> {
    let options = DialOpts { role: Role::Dialer, port_use: PortUse::New };
    let dial = transport.dial(address, options).map_err(|error| io::Error::other(error.to_string()))?;
    soon("dialling", dial).await.map(Peer::new)
}

/// Lets a transport listen, and brings who comes.
fn accept(mut transport: Transport) -> mpsc::Receiver<io::Result<Peer>> {
    let (sender, peers) = mpsc::channel(1_000);
    tokio::spawn(async move {
        loop {
            if let TransportEvent::Incoming { upgrade, .. } =
                poll_fn(|context| Pin::new(&mut transport).poll(context)).await
            {
                let mut sender = sender.clone();
                tokio::spawn(async move { sender.send(upgrade.await.map(Peer::new)).await });
            }
        }
    });
    peers
}

const LOCALHOST: &str = "/ip4/127.0.0.1/udp/0/webrtc-direct";

/// Two nodes that are connected: the dialler's side and the listener's.
async fn pair() -> (Peer, Peer) {
    let (_, mut listener) = transport();
    let (_, mut dialler) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let mut peers = accept(listener);
    let (ours, theirs) = join(dial(&mut dialler, address), peers.next()).await;
    (ours.expect("dialled"), theirs.expect("came").expect("accepted"))
}

/// What can be told from its neighbours wherever it is cut.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251 ^ at / 65_521) as u8).collect()
}

#[tokio::test]
async fn two_nodes_meet_prove_who_they_are_and_talk_both_ways() {
    let (listener_id, mut listener) = transport();
    let (dialler_id, mut dialler) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    assert!(DirectAddress::parse(&address).is_some(), "{address}");
    let mut peers = accept(listener);
    let (ours, theirs) = join(dial(&mut dialler, address), peers.next()).await;
    let (mut ours, mut theirs) = (ours.expect("dialled"), theirs.expect("came").expect("accepted"));
    assert_eq!((ours.id, theirs.id), (listener_id, dialler_id));

    for turn in 0..2 {
        let (one, other) = if turn == 0 { (&mut ours, &mut theirs) } else { (&mut theirs, &mut ours) };
        let mut asks = one.open().await.expect("opened");
        let question = async {
            asks.write_all(b"question").await?;
            asks.close().await?;
            let mut answer = String::new();
            asks.read_to_string(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = async {
            let mut answers = other.accept().await;
            let mut question = String::new();
            answers.read_to_string(&mut question).await?;
            answers.write_all(format!("answer to {question}").as_bytes()).await?;
            answers.close().await
        };
        let (heard, answered) = soon("talking", join(question, answer)).await;
        answered.expect("answered");
        assert_eq!(heard.expect("heard"), "answer to question");
    }
}

#[tokio::test]
async fn ip6_works_too_and_a_listener_on_all_interfaces_tells_each_of_its_addresses() {
    let (_, mut listener) = transport();
    let (_, mut dialler) = transport();
    let first = listen(&mut listener, "/ip6/::/udp/0/webrtc-direct").await;
    let mut address = first;
    while !address.iter().any(|part| part == Protocol::Ip6(std::net::Ipv6Addr::LOCALHOST)) {
        match next(&mut listener).await {
            TransportEvent::NewAddress { listen_addr, .. } => address = listen_addr,
            other => panic!("{other:?}"),
        }
    }
    let mut peers = accept(listener);
    let (ours, theirs) = join(dial(&mut dialler, address), peers.next()).await;
    theirs.expect("came").expect("accepted").echo();
    let ours = ours.expect("dialled");
    let mut stream = ours.open().await.expect("opened");
    stream.write_all(b"six").await.expect("open");
    stream.close().await.expect("open");
    let mut heard = String::new();
    soon("the echo", stream.read_to_string(&mut heard)).await.expect("heard");
    assert_eq!(heard, "six");
}

#[tokio::test]
async fn a_hundred_streams_opened_at_once_from_both_sides_all_work() {
    let (ours, theirs) = pair().await;
    let (ours_open, theirs_open) = (ours.open.clone(), theirs.open.clone());
    let tables = [ours.streams.clone(), theirs.streams.clone()];
    ours.echo();
    theirs.echo();
    let ask = |open: &mpsc::Sender<Opened>, number: usize| {
        let mut open = open.clone();
        async move {
            let (opened, stream) = oneshot::channel();
            open.send(opened).await.map_err(io::Error::other)?;
            let mut stream = stream.await.map_err(io::Error::other)??;
            let said = pattern(10_000 + number);
            stream.write_all(&said).await?;
            stream.close().await?;
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await?;
            assert!(heard == said, "stream {number}");
            io::Result::Ok(())
        }
    };
    let all = (0..100).flat_map(|number| [ask(&ours_open, number).boxed(), ask(&theirs_open, number).boxed()]);
    soon("200 answers", try_join_all(all)).await.expect("all answered");
    soon("nothing is left of them", async {
        while tables.iter().any(|table| table.count() > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_intact_both_ways_and_the_sender_is_held_back() {
    const SIZE: usize = 100_000_000;
    let (mut ours, theirs) = pair().await;
    let part = pattern(1_000_000);
    let send = |mut stream: TestStream| {
        let part = part.clone();
        async move {
            for _ in 0..SIZE / part.len() {
                stream.write_all(&part).await?;
            }
            stream.close().await?;
            io::Result::Ok(stream)
        }
    };
    let receive = |mut stream: TestStream| {
        let part = part.clone();
        async move {
            let (mut count, mut buffer) = (0, vec![0; 50_000]);
            loop {
                let read = stream.read(&mut buffer).await?;
                if read == 0 {
                    return io::Result::Ok((count, stream));
                }
                for (at, byte) in buffer[..read].iter().enumerate() {
                    assert_eq!(*byte, part[(count + at) % part.len()], "at {}", count + at);
                }
                count += read;
            }
        }
    };
    let one = theirs.open().await.expect("opened");
    let begun = Instant::now();
    let (sent, received) = join(tokio::spawn(send(one)), async {
        let stream = ours.accept().await;
        tokio::spawn(receive(stream)).await
    })
    .await;
    sent.expect("no panic").expect("sent");
    assert_eq!(received.expect("no panic").expect("received").0, SIZE);
    println!("one way: {:.0} MB/s", SIZE as f64 / 1e6 / begun.elapsed().as_secs_f64());
}

#[tokio::test]
async fn a_writer_waits_when_nobody_answers() {
    let (ours, theirs) = pair().await;
    let mut stream = ours.open().await.expect("opened");
    stream.write_all(b"first").await.expect("open");
    stream.flush().await.expect("opened");
    // From here on nothing is polled but the writer: the endpoint has no turn.
    let mut written = 0;
    while let Some(result) = stream.write(&[0; 100_000]).now_or_never() {
        written += result.expect("open");
        assert!(written < 1_000_000, "{written}");
    }
    assert!(written >= 256 * 1024, "{written}");
    drop(theirs);
}

#[tokio::test]
async fn who_closes_is_noticed_at_once() {
    for listener_closes in [false, true] {
        let (ours, theirs) = pair().await;
        let (closing, staying) = if listener_closes { (theirs, ours) } else { (ours, theirs) };
        let mut stream = staying.open().await.expect("opened");
        drop(closing);
        let begun = Instant::now();
        let error = soon("it is noticed", staying.ended).await.expect("an error");
        assert!(error.to_string().contains("peer has closed"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(stream.write_all(b"late").await.is_err() || stream.flush().await.is_err());
    }
}

/// Nothing is said for longer than a NAT or an impatient peer would stand.
#[tokio::test]
async fn a_peer_that_disappears_is_noticed_within_30_seconds_and_one_that_is_only_quiet_is_not() {
    let (_, mut listener) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let mut peers = accept(listener);
    // It has a network of its own, so that all of it is gone at once, without a word.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let vanishing_address = address.clone();
    let vanishing = runtime.spawn(async move { dial(&mut transport().1, vanishing_address).await.expect("dialled") });
    let gone = peers.next().await.expect("came").expect("accepted");
    let vanishing = vanishing.await.expect("no panic");
    let quiet = dial(&mut transport().1, address).await.expect("dialled");
    let mut still_there = peers.next().await.expect("came").expect("accepted");

    runtime.shutdown_background();
    let begun = Instant::now();
    let error = tokio::time::timeout(Duration::from_secs(30), gone.ended).await.expect("noticed").expect("an error");
    println!("noticed after {:?}: {error}", begun.elapsed());
    drop(vanishing);

    tokio::time::sleep(Duration::from_secs(35).saturating_sub(begun.elapsed())).await;
    let mut stream = quiet.open().await.expect("opened");
    stream.write_all(b"still here").await.expect("open");
    stream.close().await.expect("open");
    let mut heard = String::new();
    still_there.accept().await.read_to_string(&mut heard).await.expect("heard");
    assert_eq!(heard, "still here");
}

#[tokio::test]
async fn two_hundred_connections_leave_nothing_behind() {
    let (_, mut listener) = transport();
    let (_, mut dialler) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let doorbell = listener.doorbell();
    let mut peers = accept(listener);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for round in 0..20 {
        let dials = (0..10).map(|_| {
            let options = DialOpts { role: Role::Dialer, port_use: PortUse::New };
            dialler.dial(address.clone(), options).expect("dialled")
        });
        let ours = soon("dialling", try_join_all(dials)).await.expect("dialled");
        let ours = ours.into_iter().map(Peer::new).collect::<Vec<_>>();
        let theirs = soon("they come", peers.by_ref().take(10).collect::<Vec<_>>()).await;
        let streams = join_all(ours.iter().map(Peer::open)).await;
        assert_eq!(doorbell.connections.load(Ordering::Relaxed), 10, "round {round}");
        // Either side closes, with streams open.
        if round % 2 == 0 {
            drop(ours);
        } else {
            drop(theirs);
        }
        drop(streams);
        soon("all have ended", async {
            while doorbell.connections.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
    soon("no task is left", async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_dial_that_can_t_succeed_says_why() {
    let (_, mut listener) = transport();
    let (_, mut dialler) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let mut peers = accept(listener);

    let other = Certificate::generate().expect("made").fingerprint();
    let wrong = address.iter().map(|part| match part {
        Protocol::Certhash(_) => Protocol::Certhash(other.to_multihash()),
        part => part,
    });
    let error = dial(&mut dialler, wrong.collect()).await.err().expect("another certificate");
    assert!(error.to_string().contains("fingerprint"), "{error}");
    let error = peers.next().await.expect("came").err().expect("refused");
    println!("the listener says: {error}");

    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let nobody = address.replace(1, |_| Some(Protocol::Udp(port))).expect("a port");
    let begun = Instant::now();
    let error = dial(&mut dialler, nobody).await.err().expect("nobody");
    assert!(error.to_string().contains("nobody answered"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(7));

    for unusable in
        ["/ip4/0.0.0.0/udp/1/webrtc-direct", "/ip4/127.0.0.1/udp/1/webrtc-direct", "/ip4/127.0.0.1/udp/1/quic-v1"]
    {
        assert!(dial(&mut dialler, unusable.parse().expect("a multiaddr")).await.is_err(), "{unusable}");
    }
}

/// The first datagram of a dialler that nobody knows.
async fn knock() -> Vec<u8> {
    let trap = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let certificate = Certificate::generate().expect("made");
    let name = crate::transport::webrtc::direct::new_ufrag().expect("random");
    let address = trap.local_addr().expect("bound");
    let dial = super::endpoint::Endpoint::dial(address, certificate.fingerprint(), name, &certificate);
    let mut datagram = vec![0; 2_000];
    let length = soon("it knocks", trap.recv(&mut datagram)).await.expect("received");
    drop(dial.expect("begun"));
    datagram.truncate(length);
    datagram
}

#[tokio::test]
async fn garbage_leaves_nothing_and_half_open_connections_are_bounded() {
    let (_, mut listener) = transport();
    let (_, mut dialler) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let target = DirectAddress::parse(&address).expect("ours").socket;
    let doorbell = listener.doorbell();
    let connections = || doorbell.connections.load(Ordering::Relaxed);
    let mut peers = accept(listener);
    let attacker = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");

    let good = knock().await;
    for number in 0..20_000_usize {
        let mut datagram = good.clone();
        match number % 4 {
            // A STUN request that was tampered with, a DTLS record, a long one, anything.
            0 => datagram[30 + number % 60] ^= 1,
            1 => datagram = [&[22, 254, 253, 0, (number % 8 == 1).into()], pattern(number % 1_200).as_slice()].concat(),
            2 => datagram = pattern(9_000),
            _ => datagram.truncate(number % good.len()),
        }
        attacker.send_to(&datagram, target).await.expect("sent");
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let honest = dial(&mut dialler, address.clone()).await.expect("dialled");
    let accepted = soon("it comes", peers.next()).await.expect("came").expect("accepted");
    assert_eq!(connections(), 1, "none of it has begun a connection");

    // Now well-formed ones, without anybody behind them.
    for _ in 0..200 {
        attacker.send_to(&knock().await, target).await.expect("sent");
    }
    soon("they have come", async {
        while connections() < super::endpoint::MAX_HALF_OPEN + 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(connections(), super::endpoint::MAX_HALF_OPEN + 1, "refused above the bound");
    let stream = honest.open().await.expect("what stands goes on");
    soon("they are given up", async {
        while connections() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    dial(&mut dialler, address).await.expect("the door is open again");
    drop((accepted, stream));
}

/// As Chromium does it: the next connection comes from the port of the last, which the listener still believes in.
#[tokio::test]
async fn a_port_that_is_used_again_is_a_new_connection() {
    let (_, mut listener) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let doorbell = listener.doorbell();
    let _peers = accept(listener);
    let target = DirectAddress::parse(&address).expect("ours").socket;
    let browser = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for count in 1..=3 {
        let knock = knock().await;
        browser.send_to(&knock, target).await.expect("sent");
        // Again, as STUN does: that is none.
        browser.send_to(&knock, target).await.expect("sent");
        soon("it has begun", async {
            while doorbell.connections.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(doorbell.connections.load(Ordering::Relaxed), count);
    }
}
