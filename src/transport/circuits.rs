//! Circuits through relays, and nothing that only begins like one.
//!
//! The relay client's transport takes every address with a relay in it, whatever follows: `…/p2p-circuit/webrtc/p2p/…`,
//! on a node without WebRTC, would become a circuit that everybody takes for a direct connection. And the transports
//! after it would take the same address for that of the relay. So it ends here.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    multiaddr::Protocol,
};

/// The relay client's transport, for addresses of circuits only.
pub(super) struct Circuits<T> {
    transport: T,
}

impl<T> Circuits<T> {
    pub(super) fn new(transport: T) -> Self {
        Self { transport }
    }
}

/// Whether nothing but a peer's name follows the relay.
fn is_circuit(address: &Multiaddr) -> bool {
    let mut parts = address.iter().skip_while(|part| *part != Protocol::P2pCircuit).skip(1);
    matches!((parts.next(), parts.next()), (None | Some(Protocol::P2p(_)), None))
        && address.iter().any(|part| part == Protocol::P2pCircuit)
}

fn check(address: &Multiaddr) -> Result<(), TransportError<io::Error>> {
    if is_circuit(address) {
        return Ok(());
    }
    if !address.iter().any(|part| part == Protocol::P2pCircuit) {
        return Err(TransportError::MultiaddrNotSupported(address.clone()));
    }
    let reason = format!("{address} can't be used: this node has no WebRTC behind relays, or it is switched off");
    Err(TransportError::Other(io::Error::new(io::ErrorKind::Unsupported, reason)))
}

impl<T: libp2p::Transport<Error = io::Error> + Unpin> libp2p::Transport for Circuits<T> {
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        check(&address)?;
        self.transport.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.transport.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<io::Error>> {
        check(&address)?;
        self.transport.dial(address, options)
    }

    fn poll(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.get_mut().transport).poll(context)
    }
}

#[cfg(all(test, native))]
mod tests {
    use libp2p::PeerId;

    use super::*;

    #[test]
    fn only_a_peers_name_may_follow_the_relay() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let circuit = format!("/ip4/192.0.2.1/tcp/1/ws/p2p/{relay}/p2p-circuit");
        let is = |text: String| is_circuit(&text.parse().expect("a multiaddr"));
        assert!(is(circuit.clone()) && is(format!("{circuit}/p2p/{peer}")));
        let parse = |text: String| text.parse::<Multiaddr>().expect("a multiaddr");
        for other in ["/webrtc".to_owned(), format!("/webrtc/p2p/{peer}"), format!("/p2p/{peer}/p2p-circuit")] {
            let result = check(&parse(format!("{circuit}{other}")));
            assert!(matches!(result, Err(TransportError::Other(_))), "no other transport may take {other}");
        }
        let result = check(&parse(format!("/ip4/192.0.2.1/tcp/1/ws/p2p/{relay}")));
        assert!(matches!(result, Err(TransportError::MultiaddrNotSupported(_))), "that is for others");
    }
}
