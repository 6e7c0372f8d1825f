//! TCP, QUIC, WebSocket and WebRTC-direct, with DNS, and circuits through relays.

mod webrtc;

use std::{
    io,
    net::{IpAddr, TcpListener, UdpSocket},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    Multiaddr, PeerId, Transport as _,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, dummy::DummyTransport, timeout::TransportTimeout},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    kad, mdns,
    multiaddr::Protocol,
    noise, quic, relay,
    swarm::behaviour::toggle::Toggle,
    tcp, tls, websocket,
};

use super::{
    Built, Connection, LocallyFound, circuits::Circuits, multiplexing::Yamux, security::NoiseOrTls, webrtc::signaling,
};
use crate::{
    config::{NetworkConfig, Security},
    error::StartError,
};

/// The store's item that the transport needs: the WebRTC certificate, whose hash is part of the node's addresses.
pub(crate) const KEPT_BY_THE_TRANSPORT: &str = "webrtc-certificate.pem";

/// Finds nodes on the local network.
pub(crate) type LocalDiscovery = mdns::tokio::Behaviour;

/// Meets pages and nodes behind a relay, to connect with them directly.
pub(crate) type Signaling = Toggle<signaling::Behaviour<webrtc::Nodes>>;

/// Builds the transports that the configuration names. `kept` is what an earlier start returned to be kept.
///
/// # Errors
/// When a transport can't be set up on this machine.
pub(crate) fn build(key: &Keypair, config: &NetworkConfig, kept: Option<&[u8]>) -> Result<Built, StartError> {
    // TLS brings one crypto provider and this crate another; with two and no choice made, each handshake panics. An app
    // that has chosen already keeps its choice. (WebRTC's DTLS is str0m's own and asks nobody.)
    let _ = rustls::crypto::ring::default_provider().install_default();

    let (relay_transport, relay_client) = relay::client::new(key.public().to_peer_id());
    let circuits = secured(relay_transport, key, Security::Noise)?;
    let mut transport = DummyTransport::<Connection>::new().boxed();
    if config.transport.tcp {
        let tcp = secured(tcp_transport(), key, config.transport.security)?;
        transport = either(tcp, transport);
    }
    if config.transport.quic {
        let quic = quic::tokio::Transport::new(quic::Config::new(key));
        transport = either(quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed(), transport);
    }
    let mut to_keep = None;
    if config.transport.webrtc_direct {
        let certificate = certificate(kept)?;
        to_keep = Some(certificate.to_pem());
        let webrtc = webrtc::Transport::new(key, certificate);
        transport = either(webrtc.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed(), transport);
    }
    transport = with_dns(transport)?.boxed();
    if config.transport.websocket {
        // Resolves names by itself: TLS needs the name.
        let websocket = websocket::Config::new(with_dns(tcp_transport())?);
        transport = either(secured(websocket, key, config.transport.security)?, transport);
    }
    // Asked first: other transports take the address of a circuit for that of its relay.
    transport = either(Circuits::new(circuits).boxed(), transport);
    let mut signaling = None;
    if config.transport.webrtc {
        let nodes = webrtc::Nodes::new()
            .map_err(|error| StartError::Transport { transport: "WebRTC", reason: error.to_string() })?;
        // Asked before the circuits, which would take an address that leads through one for their own.
        let (webrtc, behaviour) = signaling::new(key.public().to_peer_id(), nodes);
        transport = either(webrtc.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed(), transport);
        signaling = Some(behaviour);
    }
    let timed = TransportTimeout::new(transport, config.connections.dial_timeout);
    Ok(Built { transport: timed.boxed(), relay_client, signaling: signaling.into(), to_keep })
}

/// Whether this target has a transport for an address.
pub(crate) fn can_dial(address: &Multiaddr) -> bool {
    let carried = |part| matches!(part, Protocol::Tcp(_) | Protocol::Udp(_));
    if signaling::circuit_under(address).is_some() {
        return address.iter().any(carried);
    }
    let foreign = |part| matches!(part, Protocol::WebRTC | Protocol::WebTransport);
    let mut last_hop = address.iter();
    let relayed = last_hop.any(|part| part == Protocol::P2pCircuit);
    let own_part = if relayed { last_hop.collect() } else { address.clone() };
    address.iter().any(carried) && !own_part.iter().any(foreign)
}

/// Whether an address can be listened on alone. TCP listeners share a port on purpose, for hole punching, so a second
/// node at the same port would start without a complaint and get half of the connections.
///
/// # Errors
/// What the system says.
pub(crate) fn check_free(address: &Multiaddr) -> std::io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        Some(Protocol::Udp(port)) if port != 0 => UdpSocket::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// Where to listen when the configuration doesn't say: every interface, at free ports.
pub(crate) fn default_listen() -> Vec<Multiaddr> {
    ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"]
        .map(|address| address.parse().expect("the two literals are addresses"))
        .into()
}

/// At how many relays to reserve a place when the configuration doesn't say. Whether a native node needs one, AutoNAT
/// will tell; it is not here yet.
pub(crate) fn default_reservations() -> usize {
    0
}

/// Native nodes hold a part of the DHT.
pub(crate) fn dht_mode() -> kad::Mode {
    kad::Mode::Server
}

/// mDNS, unless it is switched off or the machine has no network for it.
pub(crate) fn local_discovery(local: PeerId, enabled: bool) -> Toggle<LocalDiscovery> {
    let behaviour = enabled.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), local)).and_then(|result| {
        result.inspect_err(|error| tracing::warn!(%error, "no mDNS on this machine: peers nearby are not found")).ok()
    });
    behaviour.into()
}

/// What mDNS found.
pub(crate) fn locally_found(event: mdns::Event) -> LocallyFound {
    match event {
        mdns::Event::Discovered(found) => found,
        // The peer book forgets by itself.
        mdns::Event::Expired(_) => Vec::new(),
    }
}

fn tcp_transport() -> tcp::tokio::Transport {
    tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
}

fn certificate(kept: Option<&[u8]>) -> Result<webrtc::Certificate, StartError> {
    let certificate = match kept {
        Some(pem) => webrtc::Certificate::from_pem(pem),
        None => webrtc::Certificate::generate(),
    };
    certificate.map_err(|error| StartError::Transport { transport: "WebRTC", reason: error.to_string() })
}

/// Resolves `/dns…` addresses by the system's resolver, or public ones where the system names none.
fn with_dns<T>(inner: T) -> Result<dns::tokio::Transport<T>, StartError>
where
    T: libp2p::Transport + Send + Unpin + 'static,
{
    dns::tokio::Transport::system(inner)
        .map_err(|error| StartError::Transport { transport: "DNS", reason: error.to_string() })
}

fn either(one: Boxed<Connection>, other: Boxed<Connection>) -> Boxed<Connection> {
    one.or_transport(other).map(|either, _| either.into_inner()).boxed()
}

fn secured<T>(transport: T, key: &Keypair, security: Security) -> Result<Boxed<Connection>, StartError>
where
    T: libp2p::Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Error: Send + Sync + 'static,
{
    let unusable =
        |transport, error: &dyn std::fmt::Display| StartError::Transport { transport, reason: error.to_string() };
    let noise = || noise::Config::new(key).map_err(|error| unusable("Noise", &error));
    let tls = || tls::Config::new(key).map_err(|error| unusable("TLS", &error));
    let upgrade = transport.upgrade(Version::V1Lazy);
    Ok(match security {
        Security::Noise => upgrade.authenticate(noise()?).multiplex(Yamux).boxed(),
        Security::Tls => upgrade.authenticate(tls()?).multiplex(Yamux).boxed(),
        Security::Both => upgrade.authenticate(NoiseOrTls { noise: noise()?, tls: tls()? }).multiplex(Yamux).boxed(),
    }
    .map_err(io::Error::other)
    .boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_was_kept_is_used_again() {
        let first = certificate(None).expect("made");
        let again = certificate(Some(&first.to_pem())).expect("read");
        assert_eq!(first.fingerprint(), again.fingerprint());
        let error = certificate(Some(b"garbage")).err().expect("unreadable").to_string();
        assert!(error.contains("certificate"), "{error}");
    }
}
