//! Dials native nodes by the hash of their certificate (libp2p specs, webrtc/webrtc-direct.md).

use std::{
    future::Pending,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    identity::Keypair,
};
use send_wrapper::SendWrapper;
use web_sys::RtcSdpType;

use super::peer_connection::PeerConnection;
use crate::transport::webrtc::{
    Muxer, Streams,
    direct::{DirectAddress, Fingerprint, Side, authenticate, listener_description, new_ufrag},
};

/// The channel over which both sides prove who they are.
const HANDSHAKE_CHANNEL: u16 = 0;

/// WebRTC-direct from a page, which only dials.
pub(super) struct Transport {
    key: Keypair,
}

impl Transport {
    pub(super) fn new(key: &Keypair) -> Self {
        Self { key: key.clone() }
    }
}

async fn dial(key: Keypair, address: DirectAddress) -> io::Result<(PeerId, Muxer<PeerConnection>)> {
    let streams = Streams::new();
    let mut link = PeerConnection::new(&[], &streams)?;
    // It has to be there before the offer, which else would offer nothing.
    let handshake = link.open_negotiated(HANDSHAKE_CHANNEL, &streams)?;
    let ufrag = new_ufrag()?;
    let offer = with_credentials(&link.create_offer().await?, &ufrag);
    let ours = Fingerprint::of_description(&offer)
        .ok_or_else(|| io::Error::other("the browser's certificate has no SHA-256 hash"))?;
    link.set_local(RtcSdpType::Offer, &offer).await?;
    let answer = listener_description(address.socket, address.fingerprint, &ufrag);
    link.set_remote(RtcSdpType::Answer, &answer).await?;
    let mut muxer = Muxer::new(link, streams);
    let peer = authenticate(&mut muxer, handshake, &key, Side::Dialler, ours, address.fingerprint).await?;
    Ok((peer, muxer))
}

/// Replaces the ICE user name and password of a session description.
fn with_credentials(description: &str, ufrag: &str) -> String {
    let replaced = description.lines().map(|line| match line.split_once(':') {
        Some((name @ ("a=ice-ufrag" | "a=ice-pwd"), _)) => format!("{name}:{ufrag}\r\n"),
        _ => format!("{line}\r\n"),
    });
    replaced.collect()
}

impl libp2p::Transport for Transport {
    type Output = (PeerId, Muxer<PeerConnection>);
    type Error = io::Error;
    type ListenerUpgrade = Pending<io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        match DirectAddress::parse(&address) {
            Some(address) => Ok(SendWrapper::new(dial(self.key.clone(), address)).boxed()),
            None => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn only_user_name_and_password_of_a_description_are_replaced() {
        let description = "v=0\r\na=ice-ufrag:ab\r\na=ice-pwd:cd\r\na=ice-options:trickle\r\n";
        let expected = "v=0\r\na=ice-ufrag:name\r\na=ice-pwd:name\r\na=ice-options:trickle\r\n";
        assert_eq!(with_credentials(description, "name"), expected);
    }
}
