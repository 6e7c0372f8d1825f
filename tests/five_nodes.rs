//! More than two nodes: finding each other, broadcasting, being reached through others.

#![cfg(not(target_arch = "wasm32"))]

mod support;

use std::{collections::BTreeSet, time::Duration};

use cpc_net::{
    BroadcastScope, ConnectionKind, ConnectionState, Delivery, DiscoverTarget, DiscoverySource, GroupName, Message,
    NetworkEvent, NetworkHandler, Priority,
};
use futures::StreamExt as _;
use support::{address, config, connected, event, network, next, nothing_waits, soon, start, text, until};

/// Nodes that only know the first one.
async fn star(count: usize) -> Vec<NetworkHandler> {
    let network = network();
    let first = start(config(&network)).await;
    let bootstrap = address(&first).to_string();
    let mut nodes = vec![first];
    for _ in 1..count {
        nodes.push(start(config(&network).bootstrap(&bootstrap)).await);
    }
    nodes
}

/// Nodes in a row, each connected to the next and to nobody else.
async fn row(count: usize) -> Vec<NetworkHandler> {
    let network = network();
    let mut nodes = Vec::<NetworkHandler>::new();
    for _ in 0..count {
        let alone = config(&network).discovery(|discovery| {
            discovery.peer_exchange = false;
            discovery.target_peers = 0;
        });
        let node = start(alone).await;
        if let Some(last) = nodes.last() {
            node.connect(address(last)).await.expect("connects");
            connected(last, node.local_peer_id()).await;
        }
        nodes.push(node);
    }
    nodes
}

#[tokio::test]
async fn five_nodes_with_one_bootstrap_address_all_come_to_know_each_other() {
    let nodes = star(5).await;
    for node in &nodes {
        until(node, "four neighbours", |net| net.status().connected == 4).await;
    }
    // The bootstrap node is gone; the network is not.
    nodes[0].shutdown().await;
    for node in &nodes[1..] {
        until(node, "three neighbours", |net| net.status().connected == 3).await;
    }
    let mut messages = nodes[4].messages();
    nodes[1].broadcast(Message::event("still here"), Priority::Medium, BroadcastScope::All).expect("accepted");
    assert_eq!(text(&mut messages).await, "still here");
}

#[tokio::test]
async fn a_broadcast_to_all_passes_through_nodes_and_arrives_once() {
    let nodes = row(5).await;
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    for number in 0..3 {
        let post = Message::event(format!("post {number}"));
        let id = nodes[0].broadcast(post, Priority::Medium, BroadcastScope::All).expect("accepted");
        for messages in &mut streams[1..] {
            let message = next(messages).await;
            assert_eq!((message.id, message.sender, message.delivery), (id, nodes[0].local_peer_id(), Delivery::All));
            assert_eq!(message.payload, format!("post {number}"));
        }
    }
    assert!(streams.iter_mut().all(nothing_waits), "nobody gets a post twice, and nobody its own");
}

#[tokio::test]
async fn neighbours_are_those_directly_connected_and_nobody_else() {
    let nodes = row(3).await;
    let (mut near, mut far) = (nodes[1].messages(), nodes[2].messages());
    nodes[0].broadcast(Message::event("psst"), Priority::High, BroadcastScope::Neighbors).expect("accepted");
    let message = next(&mut near).await;
    assert_eq!((&message.payload[..], message.delivery), (&b"psst"[..], Delivery::Neighbors));
    // What follows to everybody arrives at the far one first of all.
    nodes[0].broadcast(Message::event("hear"), Priority::High, BroadcastScope::All).expect("accepted");
    assert_eq!((text(&mut near).await, text(&mut far).await), ("hear".into(), "hear".into()));
}

#[tokio::test]
async fn a_groups_messages_reach_its_members_only() {
    let nodes = star(4).await;
    for node in &nodes {
        until(node, "three neighbours", |net| net.status().connected == 3).await;
    }
    let group: GroupName = "book-club".parse().expect("a name");
    for member in &nodes[..3] {
        member.join_group(group.clone()).expect("joined");
        member.join_group(group.clone()).expect("joining twice is joining once");
    }
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    let scope = BroadcastScope::Group(group.clone());
    assert_eq!(nodes[0].status().groups, std::slice::from_ref(&group));
    // A group forms as its members hear of each other, so the first words are said until both have heard some.
    for member in [1, 2] {
        let heard = soon("the group's words", async {
            loop {
                nodes[0].broadcast(Message::event("chapter one"), Priority::Medium, scope.clone()).expect("accepted");
                let message = tokio::time::timeout(Duration::from_millis(200), streams[member].next()).await;
                if let Ok(message) = message {
                    break message.expect("the node runs");
                }
            }
        });
        let message = heard.await;
        assert_eq!((&message.payload[..], message.delivery), (&b"chapter one"[..], Delivery::Group(group.clone())));
    }

    nodes[2].leave_group(&group).expect("left");
    assert!(nodes[2].status().groups.is_empty());
    nodes[0].broadcast(Message::event("chapter two"), Priority::Medium, scope).expect("accepted");
    nodes[0].broadcast(Message::event("to all"), Priority::Medium, BroadcastScope::All).expect("accepted");
    // Each takes its own way, and one may have led over the node that has just left: then the other comes first.
    let expected: [&[&str]; 3] = [&["chapter two", "to all"], &["to all"], &["to all"]];
    let mut heard = Vec::new();
    for (messages, expected) in streams[1..].iter_mut().zip(expected) {
        let mut words = Vec::new();
        while !expected.iter().all(|word| words.iter().any(|heard| heard == word)) {
            words.push(text(messages).await);
        }
        heard.push(words);
    }
    let (member, left, stranger) = (&heard[0], &heard[1], &heard[2]);
    assert_eq!(member.iter().filter(|words| *words == "chapter two").count(), 1, "once: {member:?}");
    assert!(!left.contains(&"chapter two".to_owned()), "who has left doesn't: {left:?}");
    assert_eq!(stranger[..], ["to all"], "who never joined hears nothing of it");
}

#[tokio::test]
async fn a_post_made_alone_waits_for_company() {
    let network = network();
    let (one, two) = (start(config(&network)).await, start(config(&network)).await);
    let mut events = one.events();
    let id = one.broadcast(Message::event("anybody?"), Priority::Medium, BroadcastScope::All).expect("accepted");
    two.connect(address(&one)).await.expect("connects");
    assert_eq!(text(&mut two.messages()).await, "anybody?");
    let taken = event(&mut events, "the post's leaving", |event| match event {
        NetworkEvent::BroadcastTaken { id } => Some(id),
        _ => None,
    })
    .await;
    assert_eq!(taken, id);
}

#[tokio::test]
async fn a_peer_is_found_by_its_id_alone_across_the_network() {
    let nodes = row(4).await;
    let far = nodes[3].local_peer_id();
    let mut events = nodes[0].events();
    let found = soon("the search", async {
        loop {
            nodes[0].discover_peers(DiscoverTarget::Peer(far)).expect("accepted");
            let found = event(&mut events, "the search's end", |event| match event {
                NetworkEvent::PeerDiscovered { peer, source, .. } if peer == far => Some(Some(source)),
                NetworkEvent::DiscoveryFinished { .. } => Some(None),
                _ => None,
            });
            if let Some(source) = found.await {
                break source;
            }
        }
    })
    .await;
    // The walk itself may already have connected to it, and heard of its addresses so.
    assert!(matches!(found, DiscoverySource::Dht | DiscoverySource::Identify), "{found:?}");
    assert_eq!(soon("the connection", nodes[0].connect(far)).await, Ok(far));
}

#[tokio::test]
async fn mail_for_a_peer_known_by_its_id_only_finds_its_way() {
    let nodes = row(3).await;
    let far = nodes[2].local_peer_id();
    let receipt = nodes[0].send_message(far, Message::event("found you"), Priority::High).expect("accepted");
    assert_eq!(text(&mut nodes[2].messages()).await, "found you");
    assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
    assert_eq!(nodes[0].connection_state(&far), ConnectionState::Connected);
}

#[tokio::test]
async fn a_node_that_can_not_be_dialled_is_reached_through_a_relay() {
    let network = network();
    let relay = start(config(&network).relay_server(true)).await;
    let behind = || {
        // With WebRTC they would not stay with the relay; that story is told in `webrtc.rs`.
        config(&network)
            .no_listen()
            .bootstrap(address(&relay).to_string())
            .relay(|relay| relay.reservations = Some(1))
            .transport(|transport| transport.webrtc = false)
    };
    let (one, two) = (start(behind()).await, start(behind()).await);
    for (node, other) in [(&one, &two), (&two, &one)] {
        connected(node, other.local_peer_id()).await;
        let info = node.peer_info(&other.local_peer_id()).expect("known");
        assert_eq!(info.kind, Some(ConnectionKind::Relayed));
        assert!(node.peer_info(&relay.local_peer_id()).is_some_and(|info| info.relay));
    }
    let receipt =
        one.send_message(two.local_peer_id(), Message::event("past the relay"), Priority::High).expect("accepted");
    let message = next(&mut two.messages()).await;
    assert_eq!((&message.payload[..], message.delivery), (&b"past the relay"[..], Delivery::Direct));
    assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
}

#[tokio::test]
async fn two_nodes_on_one_machine_find_each_other_by_mdns() {
    let network = network();
    let on_all = || {
        cpc_net::NetworkConfig::builder()
            .network(&network)
            .listen("/ip4/0.0.0.0/tcp/0")
            .delivery_timeout(Duration::from_secs(9))
    };
    let (one, two) = (start(on_all()).await, start(on_all()).await);
    let mut events = one.events();
    let source = event(&mut events, "the other node", |event| match event {
        NetworkEvent::PeerDiscovered { peer, source, .. } if peer == two.local_peer_id() => Some(source),
        _ => None,
    })
    .await;
    assert_eq!(source, DiscoverySource::Mdns);
    connected(&one, two.local_peer_id()).await;
}

#[tokio::test]
async fn nodes_of_different_networks_do_not_mix() {
    let (ours, theirs) = (network(), network());
    let (one, two) = (start(config(&ours)).await, start(config(&ours)).await);
    let stranger = start(config(&theirs)).await;
    // Somebody connects them all the same: they may talk, but share neither posts nor neighbours.
    one.connect(address(&two)).await.expect("connects");
    one.connect(address(&stranger)).await.expect("connects");
    let (mut posts, mut strangers) = (two.messages(), stranger.messages());
    one.broadcast(Message::event("ours"), Priority::Medium, BroadcastScope::All).expect("accepted");
    assert_eq!(text(&mut posts).await, "ours");
    one.send_message(stranger.local_peer_id(), Message::event("hello"), Priority::Medium).expect("accepted");
    assert_eq!(text(&mut strangers).await, "hello", "the direct message and not the post");
    let known = stranger.peers().into_iter().map(|info| info.peer).collect::<BTreeSet<_>>();
    assert_eq!(known, BTreeSet::from([one.local_peer_id()]));
}
