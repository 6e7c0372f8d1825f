//! Nodes on one machine, over real sockets: `talk`, `ends` of connections, `hostile` neighbours, and who meets `behind_relays`.

mod behind_relays;
mod ends;
mod hostile;
mod talk;

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
