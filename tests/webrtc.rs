//! WebRTC between nodes: by the hash of a certificate, and behind a relay.

#![cfg(not(target_arch = "wasm32"))]

mod support;

use cpc_net::{ConnectionKind, ConnectionState, Message, NetworkEvent, Priority};
use support::{address, addresses, config, connected, event, network, next, soon, start, text, until};

#[tokio::test]
async fn two_nodes_with_nothing_but_webrtc_talk_both_ways_however_much_they_say() {
    let network = network();
    let one = start(config(&network).no_listen().listen("/ip4/127.0.0.1/udp/0/webrtc-direct")).await;
    let two = start(config(&network).no_listen()).await;
    let address = addresses(&one).pop().expect("an address");
    assert_eq!(soon("connecting", two.connect(address)).await, Ok(one.local_peer_id()));
    for (here, there) in [(&one, &two), (&two, &one)] {
        connected(here, there.local_peer_id()).await;
        let info = here.peer_info(&there.local_peer_id()).expect("known");
        assert_eq!(info.kind, Some(ConnectionKind::WebrtcDirect));
        let mut messages = there.messages();
        let payload = "a word ".repeat(5_000);
        let receipt = here
            .send_message(there.local_peer_id(), Message::event(payload.clone()), Priority::High)
            .expect("accepted");
        assert_eq!(text(&mut messages).await, payload);
        assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
    }
    let mut events = one.events();
    let gone = two.local_peer_id();
    two.shutdown().await;
    event(&mut events, "the other has left", |event| match event {
        NetworkEvent::StateChanged { peer, to, .. } if peer == gone && to != ConnectionState::Connected => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn nodes_that_can_not_be_dialled_connect_directly_behind_a_relay_and_go_on_without_it() {
    let network = network();
    let relay = start(config(&network).relay_server(true)).await;
    let behind = || {
        config(&network).no_listen().bootstrap(address(&relay).to_string()).relay(|relay| relay.reservations = Some(1))
    };
    let (one, two) = (start(behind()).await, start(behind()).await);
    for (node, other) in [(&one, &two), (&two, &one)] {
        connected(node, other.local_peer_id()).await;
        until(node, "they are connected directly", |node| {
            node.peer_info(&other.local_peer_id()).is_some_and(|info| info.kind == Some(ConnectionKind::Webrtc))
        })
        .await;
    }
    relay.shutdown().await;
    for (node, other) in [(&one, &two), (&two, &one)] {
        let mut messages = other.messages();
        let receipt =
            node.send_message(other.local_peer_id(), Message::event("alone"), Priority::High).expect("accepted");
        assert_eq!(next(&mut messages).await.payload, "alone");
        assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
    }
}
