//! What the stories share: nodes on loopback, and waiting for what should happen instead of sleeping.

#![allow(dead_code, reason = "each story uses what it needs")]

use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use cpc_net::{
    ConnectionState, Messages, Multiaddr, NetworkConfig, NetworkConfigBuilder, NetworkEvent, NetworkHandler, PeerId,
    ReceivedMessage,
};
use futures::StreamExt as _;

/// Generous: it only bounds how long a failing test takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A network's name that no other test has.
pub fn network() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A configuration for loopback: one TCP listener at a free port, nobody looked for on the local network.
pub fn config(network: &str) -> NetworkConfigBuilder {
    let quick = |connections: &mut cpc_net::config::ConnectionsConfig| {
        connections.retry_initial = Duration::from_millis(50);
        connections.retry_max = Duration::from_millis(500);
    };
    NetworkConfig::builder().network(network).mdns(false).listen("/ip4/127.0.0.1/tcp/0").connections(quick)
}

pub async fn start(config: NetworkConfigBuilder) -> NetworkHandler {
    NetworkHandler::new(config.build().expect("a valid configuration")).await.expect("the node starts")
}

/// Where a node is reached, with its peer id.
pub fn address(net: &NetworkHandler) -> Multiaddr {
    addresses(net).remove(0)
}

/// All its addresses, with its peer id.
pub fn addresses(net: &NetworkHandler) -> Vec<Multiaddr> {
    let peer = libp2p::multiaddr::Protocol::P2p(net.local_peer_id());
    net.listen_addrs().into_iter().map(|address| address.with(peer.clone())).collect()
}

/// Waits for anything, at most [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for: {what}"))
}

/// Waits until a condition holds, looking again whenever the node tells of anything.
pub async fn until(net: &NetworkHandler, what: &str, mut holds: impl FnMut(&NetworkHandler) -> bool) {
    let mut events = net.events();
    soon(what, async {
        while !holds(net) {
            events.next().await.unwrap_or_else(|| panic!("the node stopped before: {what}"));
        }
    })
    .await;
}

/// Waits for an event.
pub async fn event<T>(
    events: &mut cpc_net::Events,
    what: &str,
    mut wanted: impl FnMut(NetworkEvent) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            let event = events.next().await.unwrap_or_else(|| panic!("the node stopped before: {what}"));
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    })
    .await
}

pub async fn connected(net: &NetworkHandler, peer: PeerId) {
    until(net, "the connection", |net| net.connection_state(&peer) == ConnectionState::Connected).await;
}

pub async fn next(messages: &mut Messages) -> ReceivedMessage {
    soon("a message", messages.next()).await.expect("the node runs")
}

pub async fn text(messages: &mut Messages) -> String {
    String::from_utf8(next(messages).await.payload.to_vec()).expect("text")
}

/// Nothing more arrives before a message that was sent later on the same way has.
pub fn nothing_waits(messages: &mut Messages) -> bool {
    use futures::FutureExt as _;
    messages.next().now_or_never().is_none()
}
