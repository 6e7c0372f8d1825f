//! WebSocket and WebRTC-direct to native nodes, circuits through relays, and WebRTC to other pages.

mod data_channel;
pub(crate) mod live;
mod peer_connection;
mod webrtc_direct;
mod websocket;

use std::{io, time::Duration};

use js_sys::Reflect;
use libp2p::{
    Multiaddr, PeerId, Transport as _,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, dummy::DummyTransport, timeout::TransportTimeout},
        upgrade::Version,
    },
    identity::Keypair,
    kad,
    multiaddr::Protocol,
    noise, relay,
    swarm::{behaviour::toggle::Toggle, dummy},
};
use wasm_bindgen::JsValue;

use super::{Built, Connection, LocallyFound, circuits::Circuits, multiplexing::Yamux, webrtc::signaling};
use crate::{config::NetworkConfig, error::StartError};

/// How long a dial over WebRTC-direct may take: a handshake needs a few round trips.
const WEBRTC_TIMEOUT: Duration = Duration::from_secs(3);

/// The store's item that the transport needs: none in a browser, which only dials.
pub(crate) const KEPT_BY_THE_TRANSPORT: &str = "transport";

/// A page can't look around on the local network.
pub(crate) type LocalDiscovery = dummy::Behaviour;

/// Meets other pages behind a relay, to connect with them directly.
pub(crate) type Signaling = Toggle<signaling::Behaviour<peer_connection::PeerConnections>>;

/// Builds the transports that the configuration names.
///
/// # Errors
/// When the identity's key can't be used for Noise.
pub(crate) fn build(key: &Keypair, config: &NetworkConfig, _kept: Option<&[u8]>) -> Result<Built, StartError> {
    let noise = || {
        noise::Config::new(key).map_err(|error| StartError::Transport { transport: "Noise", reason: error.to_string() })
    };
    let (relay_transport, relay_client) = relay::client::new(key.public().to_peer_id());
    let circuits = relay_transport.upgrade(Version::V1Lazy).authenticate(noise()?).multiplex(Yamux).boxed();
    let mut transport = DummyTransport::<Connection>::new().boxed();
    if config.transport.websocket {
        let websocket = websocket::Transport.upgrade(Version::V1Lazy).authenticate(noise()?).multiplex(Yamux).boxed();
        transport = either(websocket, transport);
    }
    if config.transport.webrtc_direct {
        let webrtc = webrtc_direct::Transport::new(key);
        let webrtc = webrtc.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        // Nothing tells a page that nobody is there; while it waits, a node that has come back is not tried elsewhere.
        let webrtc = TransportTimeout::new(webrtc, config.connections.dial_timeout.min(WEBRTC_TIMEOUT)).boxed();
        transport = either(webrtc, transport);
    }
    // Each takes an address whole or not at all, the circuits' transport takes whatever leads through a relay.
    transport = either(Circuits::new(circuits).boxed(), transport);
    let mut signaling = None;
    if config.transport.webrtc && webrtc_is_there() {
        let connections = peer_connection::PeerConnections { ice_servers: config.transport.ice_servers.clone() };
        let (webrtc, behaviour) = signaling::new(key.public().to_peer_id(), connections);
        transport = either(webrtc.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed(), transport);
        signaling = Some(behaviour);
    }
    let timed = TransportTimeout::new(transport, config.connections.dial_timeout);
    Ok(Built { transport: timed.boxed(), relay_client, signaling: signaling.into(), to_keep: None })
}

/// Whether this target has a transport for an address.
pub(crate) fn can_dial(address: &Multiaddr) -> bool {
    // A circuit goes through a relay that this page is connected to, whatever way the address says.
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        return webrtc_is_there() || !address.iter().any(|part| part == Protocol::WebRTC);
    }
    address.iter().any(|part| part == Protocol::WebRTCDirect) || websocket::can_dial(address)
}

/// A page has no ports.
///
/// # Errors
/// Never.
pub(crate) fn check_free(_address: &Multiaddr) -> std::io::Result<()> {
    Ok(())
}

/// A page can't listen but through relays.
pub(crate) fn default_listen() -> Vec<Multiaddr> {
    Vec::new()
}

/// Relays are the only way to reach a page.
pub(crate) fn default_reservations() -> usize {
    2
}

/// A page asks the DHT and holds no part of it: it can't be dialled, and may be gone any moment.
pub(crate) fn dht_mode() -> kad::Mode {
    kad::Mode::Client
}

/// None in a browser.
pub(crate) fn local_discovery(_local: PeerId, _enabled: bool) -> Toggle<LocalDiscovery> {
    None.into()
}

/// Nothing, ever.
pub(crate) fn locally_found(event: std::convert::Infallible) -> LocallyFound {
    match event {}
}

fn either(one: Boxed<Connection>, other: Boxed<Connection>) -> Boxed<Connection> {
    one.or_transport(other).map(|either, _| either.into_inner()).boxed()
}

/// Whether this is a window: workers have no WebRTC.
fn webrtc_is_there() -> bool {
    Reflect::has(&js_sys::global(), &"RTCPeerConnection".into()).unwrap_or(false)
}

/// What the browser said about what could not be done.
fn js_error(what: &str, error: &JsValue) -> io::Error {
    let said = Reflect::get(error, &"message".into()).ok().and_then(|message| message.as_string());
    io::Error::other(format!("the browser can't {what}: {}", said.unwrap_or_else(|| format!("{error:?}"))))
}
