//! The half that dials and listens, and what it shares with the behaviour.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt as _, channel::oneshot, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    multiaddr::Protocol,
};

use super::{Backend, Connected, Shared, circuit_under, webrtc_over};

/// Dials that wait for the behaviour, connections that wait for the swarm, and conversations in each direction, each at
/// most so many. What is above is refused.
const MAX_AT_ONCE: usize = 64;

/// Somebody dials.
pub(super) struct Request<B: Backend> {
    pub(super) peer: PeerId,
    pub(super) circuit: Multiaddr,
    pub(super) reply: oneshot::Sender<io::Result<Connected<B>>>,
}

struct Incoming<B: Backend> {
    peer: PeerId,
    local: Multiaddr,
    remote: Multiaddr,
    muxer: Connected<B>,
}

/// What waits between the halves.
pub(super) struct Waiting<B: Backend> {
    requests: VecDeque<Request<B>>,
    incoming: VecDeque<Incoming<B>>,
    /// Where this node is reached by WebRTC.
    addresses: BTreeSet<Multiaddr>,
    /// Peers that this side is making an offer to, each with what tells it to give way.
    offering: HashMap<PeerId, oneshot::Sender<()>>,
    answering: HashSet<PeerId>,
    behaviour: Option<Waker>,
    transport: Option<Waker>,
}

impl<B: Backend> Waiting<B> {
    pub(super) fn new() -> Self {
        Self {
            requests: VecDeque::new(),
            incoming: VecDeque::new(),
            addresses: BTreeSet::new(),
            offering: HashMap::new(),
            answering: HashSet::new(),
            behaviour: None,
            transport: None,
        }
    }

    /// The next dial.
    pub(super) fn next_request(&mut self, context: &mut Context<'_>) -> Option<Request<B>> {
        self.behaviour = Some(context.waker().clone());
        self.requests.pop_front()
    }

    /// A circuit is listened on, or no more.
    pub(super) fn circuit(&mut self, address: &Multiaddr, open: bool) {
        let Some(address) = webrtc_over(address) else { return };
        if open {
            self.addresses.insert(address);
        } else {
            self.addresses.remove(&address);
        }
        wake(&mut self.transport);
    }

    /// A peer's offer has led to a connection. `circuit`: this side's address of the circuit.
    pub(super) fn incoming(&mut self, peer: PeerId, circuit: Multiaddr, muxer: Connected<B>) {
        if self.incoming.len() >= MAX_AT_ONCE {
            tracing::warn!(%peer, "a WebRTC connection was dropped: {MAX_AT_ONCE} wait already");
            return;
        }
        let local = webrtc_over(&circuit).unwrap_or(circuit);
        // Where it came from is the same relay. A circuit says only who it is; js-libp2p is told this by identify, and
        // gives up a peer that has seen it at an address without a host.
        let remote = local.clone().with(Protocol::P2p(peer));
        self.incoming.push_back(Incoming { peer, local, remote, muxer });
        wake(&mut self.transport);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// An offer being made; one at a time to a peer.
pub(crate) struct Offering<B: Backend> {
    shared: Shared<B>,
    peer: PeerId,
    give_way: Option<oneshot::Receiver<()>>,
}

impl<B: Backend> Offering<B> {
    /// `None` when one is under way already, or too many are.
    pub(super) fn begin(shared: &Shared<B>, peer: PeerId) -> Option<Self> {
        let mut waiting = shared.lock();
        if waiting.offering.len() >= MAX_AT_ONCE || waiting.offering.contains_key(&peer) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        waiting.offering.insert(peer, sender);
        drop(waiting);
        Some(Self { shared: shared.clone(), peer, give_way: Some(receiver) })
    }

    /// Resolves when the peer's own offer goes before this one.
    pub(super) fn given_way(&mut self) -> BoxFuture<'static, ()> {
        match self.give_way.take() {
            Some(receiver) => receiver.map(drop).boxed(),
            None => std::future::pending().boxed(),
        }
    }
}

impl<B: Backend> Drop for Offering<B> {
    fn drop(&mut self) {
        self.shared.lock().offering.remove(&self.peer);
    }
}

/// An offer being answered; one at a time from a peer.
pub(super) struct Answering<B: Backend> {
    shared: Shared<B>,
    peer: PeerId,
}

impl<B: Backend> Answering<B> {
    /// `None` when it should not be answered: one is under way already, too many are, or `ours_first` and this side is
    /// making an offer of its own. In the other case this side's offer gives way.
    pub(super) fn begin(shared: &Shared<B>, peer: PeerId, ours_first: bool) -> Option<Self> {
        let mut waiting = shared.lock();
        let crossing = waiting.offering.contains_key(&peer);
        if waiting.answering.len() >= MAX_AT_ONCE || (crossing && ours_first) || !waiting.answering.insert(peer) {
            return None;
        }
        if crossing && let Some(ours) = waiting.offering.get_mut(&peer) {
            // The place stays taken until the attempt has ended; only its signal goes.
            let (gone, _) = oneshot::channel();
            let _ = std::mem::replace(ours, gone).send(());
        }
        drop(waiting);
        Some(Self { shared: shared.clone(), peer })
    }
}

impl<B: Backend> Drop for Answering<B> {
    fn drop(&mut self) {
        self.shared.lock().answering.remove(&self.peer);
    }
}

/// Dials `…/p2p-circuit/webrtc/p2p/…`, and listens by itself wherever a relay holds a place for this node.
pub(crate) struct Transport<B: Backend> {
    shared: Shared<B>,
    listener: ListenerId,
    announced: BTreeSet<Multiaddr>,
}

impl<B: Backend> Transport<B> {
    pub(super) fn new(shared: Shared<B>) -> Self {
        Self { shared, listener: ListenerId::next(), announced: BTreeSet::new() }
    }
}

impl<B: Backend> libp2p::Transport for Transport<B> {
    type Output = (PeerId, Connected<B>);
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some((circuit, peer)) = circuit_under(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let Some(peer) = peer else {
            let reason = "the address names no peer; add /p2p/<peer id> to its end";
            return Err(TransportError::Other(io::Error::new(io::ErrorKind::InvalidInput, reason)));
        };
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.shared.lock();
        if waiting.requests.len() >= MAX_AT_ONCE {
            let reason = "too many WebRTC dials wait already; try again";
            return Err(TransportError::Other(io::Error::new(io::ErrorKind::WouldBlock, reason)));
        }
        waiting.requests.push_back(Request { peer, circuit, reply });
        wake(&mut waiting.behaviour);
        let dial = async move {
            match answer.await {
                Ok(result) => result.map(|muxer| (peer, muxer)),
                Err(_) => {
                    let reason = "the circuit ended before the two sides were connected";
                    Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
                }
            }
        };
        Ok(dial.boxed())
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let this = self.get_mut();
        let mut waiting = this.shared.lock();
        waiting.transport = Some(context.waker().clone());
        if let Some(Incoming { peer, local, remote, muxer }) = waiting.incoming.pop_front() {
            return Poll::Ready(TransportEvent::Incoming {
                listener_id: this.listener,
                upgrade: ready(Ok((peer, muxer))),
                local_addr: local,
                send_back_addr: remote,
            });
        }
        if let Some(new) = waiting.addresses.difference(&this.announced).next().cloned() {
            this.announced.insert(new.clone());
            return Poll::Ready(TransportEvent::NewAddress { listener_id: this.listener, listen_addr: new });
        }
        if let Some(gone) = this.announced.difference(&waiting.addresses).next().cloned() {
            this.announced.remove(&gone);
            return Poll::Ready(TransportEvent::AddressExpired { listener_id: this.listener, listen_addr: gone });
        }
        Poll::Pending
    }
}
