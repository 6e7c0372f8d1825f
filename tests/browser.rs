//! In a browser: what doesn't need a second node. Whole stories, with pages and a node, are under `tests/browser/`.

#![cfg(target_arch = "wasm32")]

use std::time::Duration;

use cpc_net::{
    BroadcastScope, ConnectionState, DiscoverTarget, Identity, Message, MessageKind, NetworkConfig, NetworkEvent,
    NetworkHandler, PeerId, Phase, Priority,
    error::{ConnectError, DeliveryError, SendError, StartError},
};
use futures::StreamExt as _;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

async fn start(config: NetworkConfig) -> NetworkHandler {
    NetworkHandler::new(config).await.expect("the node starts")
}

#[wasm_bindgen_test]
async fn the_identity_is_kept_in_the_pages_database() {
    let place = format!("test-{}", PeerId::random());
    let first = Identity::open(&place).await.expect("made").peer_id();
    assert_eq!(Identity::open(&place).await.expect("read").peer_id(), first);
    assert_ne!(Identity::open(&format!("{place}-2")).await.expect("made").peer_id(), first);

    for _ in 0..2 {
        let net = start(NetworkConfig::builder().data_dir(&place).build().expect("valid")).await;
        assert_eq!(net.local_peer_id(), first, "the same after a restart");
        net.shutdown().await;
    }
}

#[wasm_bindgen_test]
async fn a_page_alone_is_a_node_with_the_same_manners() {
    let config = NetworkConfig::builder().delivery_timeout(Duration::from_secs(1)).build().expect("valid");
    let net = start(config).await;
    let mut events = net.events();
    assert_eq!((net.status().phase, net.listen_addrs()), (Phase::Alone, vec![]));

    let nobody = PeerId::random();
    assert_eq!(net.connection_state(&nobody), ConnectionState::Disconnected);
    assert_eq!(net.connect(nobody).await, Err(ConnectError::NoAddress(nobody)));
    let tcp: cpc_net::Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
    let error = net.connect(tcp).await.expect_err("a page has no TCP");
    assert!(error.to_string().contains("no transport"), "{error}");
    let closed: cpc_net::Multiaddr = "/ip4/127.0.0.1/tcp/1/ws".parse().expect("an address");
    let error = net.connect(closed).await.expect_err("nobody is there");
    assert!(matches!(error, ConnectError::Failed { .. } | ConnectError::TimedOut { .. }), "{error}");

    let unknown = Message::new(MessageKind::Unknown(9), "");
    assert!(matches!(net.send_message(nobody, unknown, Priority::High), Err(SendError::ReservedKind(_))));
    let receipt = net.send_message(nobody, Message::event("hello?"), Priority::High).expect("accepted");
    assert!(matches!(receipt.delivered().await, Err(DeliveryError::Unreachable { .. })));
    net.broadcast(Message::event("anybody?"), Priority::Low, BroadcastScope::All).expect("accepted");
    net.discover_peers(DiscoverTarget::LocalNetwork).expect("accepted");
    while !matches!(events.next().await, Some(NetworkEvent::DiscoveryFinished { found: 0, .. })) {}

    net.shutdown().await;
    assert_eq!(net.status().phase, Phase::Stopped);
    while events.next().await.expect("the last event") != NetworkEvent::Stopped {}
}

#[wasm_bindgen_test]
async fn what_a_page_can_not_do_is_said() {
    let config = NetworkConfig::builder().listen("/ip4/127.0.0.1/tcp/0/ws").build().expect("valid");
    let error = NetworkHandler::new(config).await.expect_err("a page has no ports");
    assert!(matches!(error, StartError::Listen { .. }), "{error}");

    let mut config = NetworkConfig::default();
    config.limits.max_payload = 0;
    let error = NetworkHandler::new(config).await.expect_err("out of range");
    assert!(error.to_string().contains("limits.max_payload"), "{error}");
}

#[wasm_bindgen_test]
async fn two_nodes_in_one_page_do_not_disturb_each_other() {
    let (one, two) = (start(NetworkConfig::default()).await, start(NetworkConfig::default()).await);
    assert_ne!(one.local_peer_id(), two.local_peer_id());
    one.shutdown().await;
    assert_eq!((one.status().phase, two.status().phase), (Phase::Stopped, Phase::Alone));
}
