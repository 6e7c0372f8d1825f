//! WebRTC between two peers that can't be dialled (libp2p specs, webrtc/webrtc.md): they meet behind a relay, tell each
//! other over the circuit how to connect, and then need the relay no more.
//!
//! The circuit is encrypted end to end and both ends of it have proved who they are; what the session descriptions say
//! of certificates came through it. So whoever holds the certificate is the peer, and no further handshake is needed.
//!
//! - `message`: what is said on a signalling stream.
//! - `exchange`: the conversation, on either side.
//! - `handler`: conversations on one circuit. `behaviour`: which circuit. `transport`: dials and listens.

mod behaviour;
mod exchange;
mod handler;
mod message;
mod transport;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId, StreamProtocol, multiaddr::Protocol};

use super::{Link, Muxer, Streams};

pub(crate) use behaviour::Behaviour;
pub(crate) use message::IceCandidate;
pub(crate) use transport::Transport;

/// The protocol of the signalling stream.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/webrtc-signaling/0.0.1");

/// The label of the channel that only makes the two sides connect (spec, "Browser to Browser", step 4).
pub(crate) const INIT_CHANNEL: &str = "init";

/// What signalling needs of a backend's connection while it is being set up.
pub(crate) trait Negotiate: Link {
    /// Opens the channel [`INIT_CHANNEL`] and makes an offer, which becomes the local description.
    fn offer(&mut self) -> BoxFuture<'static, io::Result<String>>;

    /// Takes an offer and makes an answer, which becomes the local description.
    fn answer(&mut self, offer: String) -> BoxFuture<'static, io::Result<String>>;

    /// Takes the answer to the own offer.
    fn accept(&mut self, answer: String) -> BoxFuture<'static, io::Result<()>>;

    /// Takes one of the other side's candidates, after its description.
    fn add_candidate(&mut self, candidate: IceCandidate) -> BoxFuture<'static, io::Result<()>>;

    /// The next candidate of this side; `None` when there are no more.
    fn poll_candidate(&mut self, context: &mut Context<'_>) -> Poll<Option<IceCandidate>>;

    /// Whether the two sides are connected. The task that works with the connection is woken when that changes.
    fn is_connected(&self) -> bool;

    /// Closes the channel [`INIT_CHANNEL`].
    fn close_init(&mut self);
}

/// Makes a backend's connections.
pub(crate) trait Backend: Clone + Send + Unpin + 'static {
    type Link: Negotiate;

    /// A new connection, not connected to anybody.
    ///
    /// # Errors
    /// When the machine can't make one.
    fn connection(&self, streams: &Streams<<Self::Link as Link>::Channel>) -> io::Result<Self::Link>;
}

type Connected<B> = Muxer<<B as Backend>::Link>;

/// The two halves: the transport goes into the swarm's transport, the behaviour among its behaviours.
pub(crate) fn new<B: Backend>(local: PeerId, backend: B) -> (Transport<B>, Behaviour<B>) {
    let shared = Shared::<B>::new();
    (Transport::new(shared.clone()), Behaviour::new(local, backend, shared))
}

/// The circuit under a WebRTC address: `…/p2p-circuit/webrtc[/p2p/B]` → `…/p2p-circuit[/p2p/B]`, and `B`. `None` when it is
/// no such address.
pub(crate) fn circuit_under(address: &Multiaddr) -> Option<(Multiaddr, Option<PeerId>)> {
    let parts = address.iter().collect::<Vec<_>>();
    let at = parts.iter().position(|part| *part == Protocol::WebRTC)?;
    let peer = match &parts[at + 1..] {
        [] => None,
        [Protocol::P2p(peer)] => Some(*peer),
        _ => return None,
    };
    // A relay has to be named: the circuit's address needs it.
    let [.., Protocol::P2p(_), Protocol::P2pCircuit] = &parts[..at] else { return None };
    let circuit = parts[..at].iter().cloned().collect::<Multiaddr>();
    Some((peer.map_or_else(|| circuit.clone(), |peer| circuit.clone().with(Protocol::P2p(peer))), peer))
}

/// A circuit's address, as listened on, turned into the WebRTC address it offers: `…/p2p-circuit[/p2p/us]` →
/// `…/p2p-circuit/webrtc`. `None` when it is no circuit.
fn webrtc_over(circuit: &Multiaddr) -> Option<Multiaddr> {
    let mut parts = circuit.iter().collect::<Vec<_>>();
    if let Some(Protocol::P2p(_)) = parts.last() {
        parts.pop();
    }
    let [.., Protocol::P2p(_), Protocol::P2pCircuit] = parts.as_slice() else { return None };
    Some(parts.into_iter().collect::<Multiaddr>().with(Protocol::WebRTC))
}

/// Whether a connection's address is a circuit's, with the relay in the way of every byte.
fn is_circuit(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    parts.any(|part| part == Protocol::P2pCircuit) && !parts.any(|part| part == Protocol::WebRTC)
}

/// What the two halves share; a lock is held for moments only.
struct Shared<B: Backend> {
    inner: Arc<Mutex<transport::Waiting<B>>>,
}

impl<B: Backend> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<B: Backend> Shared<B> {
    fn new() -> Self {
        Self { inner: Arc::new(Mutex::new(transport::Waiting::new())) }
    }

    fn lock(&self) -> MutexGuard<'_, transport::Waiting<B>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_turned_into_circuits_and_back() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let circuit = format!("/ip4/192.0.2.1/tcp/1/ws/p2p/{relay}/p2p-circuit");
        let parse = |text: String| text.parse::<Multiaddr>().expect("a multiaddr");
        let under = circuit_under(&parse(format!("{circuit}/webrtc/p2p/{peer}"))).expect("ours");
        assert_eq!(under, (parse(format!("{circuit}/p2p/{peer}")), Some(peer)));
        assert_eq!(circuit_under(&parse(format!("{circuit}/webrtc"))), Some((parse(circuit.clone()), None)));
        for other in [
            circuit.clone(),
            format!("{circuit}/p2p/{peer}"),
            "/webrtc".to_owned(),
            "/ip4/192.0.2.1/tcp/1/p2p-circuit/webrtc".to_owned(),
            format!("{circuit}/webrtc/p2p/{peer}/p2p-circuit"),
        ] {
            assert_eq!(circuit_under(&parse(other.clone())), None, "{other}");
        }
        let webrtc = parse(format!("{circuit}/webrtc"));
        assert_eq!(webrtc_over(&parse(format!("{circuit}/p2p/{peer}"))), Some(webrtc.clone()));
        assert_eq!(webrtc_over(&parse(circuit.clone())), Some(webrtc.clone()));
        assert_eq!(webrtc_over(&webrtc), None);
        assert!(is_circuit(&parse(circuit)) && !is_circuit(&webrtc));
    }
}
