//! WebRTC-direct for libp2p: listens at `/ip4|ip6/…/udp/…/webrtc-direct`, announces with the certificate's hash, and dials
//! such addresses (libp2p specs, webrtc/webrtc-direct.md).
//!
//! Limits: a listener doesn't dial, each dial has a port of its own; so this transport can't be used to punch holes.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{
    Multiaddr, PeerId, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    identity::Keypair,
    multiaddr::Protocol,
};

use super::{
    Certificate,
    connection::Connection,
    endpoint::{self, Begun, Endpoint},
};
use crate::transport::webrtc::{
    Muxer,
    direct::{DirectAddress, Fingerprint, Side, authenticate, new_ufrag},
};

pub(super) type Upgrade = BoxFuture<'static, io::Result<(PeerId, Muxer<Connection>)>>;

/// Where a listener is reached.
enum Addresses {
    One,
    /// Those of all interfaces, while they come and go.
    All(Box<IfWatcher>),
}

struct Listening {
    id: ListenerId,
    listener: endpoint::Listener,
    addresses: Addresses,
}

/// WebRTC-direct, both ways.
pub(crate) struct Transport {
    key: Keypair,
    certificate: Certificate,
    listening: Vec<Listening>,
    /// A few for each listener.
    events: VecDeque<TransportEvent<Upgrade, io::Error>>,
    waker: Option<Waker>,
}

impl Transport {
    pub(crate) fn new(key: &Keypair, certificate: Certificate) -> Self {
        Self { key: key.clone(), certificate, listening: Vec::new(), events: VecDeque::new(), waker: None }
    }

    /// Of the first listener.
    #[cfg(test)]
    pub(super) fn doorbell(&self) -> std::sync::Arc<super::connection::Doorbell> {
        self.listening[0].listener.doorbell.clone()
    }

    fn listen(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<()> {
        let listener = Endpoint::listen(address, &self.certificate)?;
        let addresses = if address.ip().is_unspecified() {
            Addresses::All(Box::new(IfWatcher::new()?))
        } else {
            let listen_addr = announced(listener.address, self.certificate.fingerprint());
            self.events.push_back(TransportEvent::NewAddress { listener_id: id, listen_addr });
            Addresses::One
        };
        self.listening.push(Listening { id, listener, addresses });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn dial(&self, address: DirectAddress) -> impl Future<Output = io::Result<(PeerId, Muxer<Connection>)>> + use<> {
        let (key, certificate) = (self.key.clone(), self.certificate.clone());
        async move {
            let begun = Endpoint::dial(address.socket, address.fingerprint, new_ufrag()?, &certificate)?;
            shake_hands(begun, key, Side::Dialler, certificate.fingerprint()).await
        }
    }
}

async fn shake_hands(
    begun: Begun,
    key: Keypair,
    side: Side,
    ours: Fingerprint,
) -> io::Result<(PeerId, Muxer<Connection>)> {
    let Begun { mut connection, streams, handshake, remote, .. } = begun;
    let theirs = connection.certificate().await?;
    let (dialler, listener) = match side {
        Side::Dialler => (ours, theirs),
        Side::Listener => (theirs, ours),
    };
    let mut muxer = Muxer::new(connection, streams);
    let peer = authenticate(&mut muxer, handshake, &key, side, dialler, listener)
        .await
        .inspect_err(|error| tracing::debug!(%error, %remote, "a WebRTC-direct handshake came to nothing"))?;
    muxer.link().established();
    Ok((peer, muxer))
}

/// `/ip…/udp/…/webrtc-direct`, with a certificate's hash or not. `None` for what is not listened on by this transport.
fn listen_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else { return None };
    let Protocol::WebRTCDirect = parts.next()? else { return None };
    parts.all(|part| matches!(part, Protocol::Certhash(_) | Protocol::P2p(_))).then(|| SocketAddr::new(ip, port))
}

fn plain(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Udp(address.port())).with(Protocol::WebRTCDirect)
}

fn announced(address: SocketAddr, certificate: Fingerprint) -> Multiaddr {
    plain(address).with(Protocol::Certhash(certificate.to_multihash()))
}

impl libp2p::Transport for Transport {
    type Output = (PeerId, Muxer<Connection>);
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let Some(socket) = listen_address(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        self.listen(id, socket).map_err(TransportError::Other)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listening.len();
        self.listening.retain(|listening| listening.id != id);
        let removed = self.listening.len() < before;
        if removed {
            self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        removed
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        match DirectAddress::parse(&address) {
            Some(direct) if !direct.socket.ip().is_unspecified() && direct.socket.port() != 0 => {
                Ok(Self::dial(self, direct).boxed())
            }
            _ => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TransportEvent<Upgrade, io::Error>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.events.pop_front() {
                return Poll::Ready(event);
            }
            let mut broken = None;
            for (at, Listening { id, listener, addresses }) in this.listening.iter_mut().enumerate() {
                let listener_id = *id;
                match listener.begun.poll_next_unpin(context) {
                    Poll::Ready(Some(begun)) => {
                        let local =
                            SocketAddr::new(begun.local.unwrap_or(listener.address.ip()), listener.address.port());
                        let (local_addr, send_back_addr) = (plain(local), plain(begun.remote));
                        let ours = this.certificate.fingerprint();
                        let upgrade = shake_hands(begun, this.key.clone(), Side::Listener, ours).boxed();
                        return Poll::Ready(TransportEvent::Incoming {
                            listener_id,
                            upgrade,
                            local_addr,
                            send_back_addr,
                        });
                    }
                    Poll::Ready(None) => broken = Some(at),
                    Poll::Pending => {}
                }
                let Addresses::All(watcher) = addresses else { continue };
                while let Poll::Ready(event) = watcher.poll_if_event(context) {
                    let (ip, is_up) = match event {
                        Ok(IfEvent::Up(net)) => (net.addr(), true),
                        Ok(IfEvent::Down(net)) => (net.addr(), false),
                        Err(error) => {
                            this.events.push_back(TransportEvent::ListenerError { listener_id, error });
                            break;
                        }
                    };
                    if ip.is_ipv4() != listener.address.is_ipv4() {
                        continue;
                    }
                    let listen_addr =
                        announced(SocketAddr::new(ip, listener.address.port()), this.certificate.fingerprint());
                    this.events.push_back(if is_up {
                        TransportEvent::NewAddress { listener_id, listen_addr }
                    } else {
                        TransportEvent::AddressExpired { listener_id, listen_addr }
                    });
                }
            }
            if let Some(at) = broken {
                let Listening { id: listener_id, .. } = this.listening.remove(at);
                let reason = Err(io::Error::other("the UDP socket broke"));
                this.events.push_back(TransportEvent::ListenerClosed { listener_id, reason });
            }
            if this.events.is_empty() {
                this.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_addresses_are_listened_on() {
        let parse = |address: &str| listen_address(&address.parse().expect("a multiaddr"));
        assert_eq!(parse("/ip4/0.0.0.0/udp/0/webrtc-direct"), Some("0.0.0.0:0".parse().expect("a socket")));
        assert_eq!(parse("/ip6/::1/udp/5/webrtc-direct"), Some("[::1]:5".parse().expect("a socket")));
        for other in
            ["/ip4/0.0.0.0/udp/0", "/ip4/0.0.0.0/tcp/0/webrtc-direct", "/ip4/1.2.3.4/udp/1/webrtc-direct/p2p-circuit"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
