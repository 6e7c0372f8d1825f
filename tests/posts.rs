//! How posts spread among real nodes: by trees, by flooding, to named peers, past forgeries, and to whoever was away.

#![cfg(not(target_arch = "wasm32"))]

mod support;

#[allow(dead_code, missing_docs, clippy::all, reason = "what another implementation has of the wire: its own copy")]
#[rustfmt::skip]
#[path = "../src/wire/generated.rs"]
mod wire;

use std::time::Duration;

use cpc_net::{
    BroadcastScope, Delivery, Message, NetworkHandler, PeerId, Priority, Propagation, ReceivedMessage,
    config::Strategy, error::SendError,
};
use support::{address, config, connected, network, next, nothing_waits, soon, start, text, until};

/// Nodes that are connected as told, and to nobody else.
async fn nodes(
    count: usize,
    edges: impl IntoIterator<Item = (usize, usize)>,
    strategy: Strategy,
) -> Vec<NetworkHandler> {
    let network = network();
    let mut nodes = Vec::<NetworkHandler>::new();
    for _ in 0..count {
        let alone =
            config(&network).propagation(|propagation| propagation.strategy = strategy).discovery(|discovery| {
                discovery.peer_exchange = false;
                discovery.dht = false;
                discovery.target_peers = 0;
            });
        nodes.push(start(alone).await);
    }
    for (one, other) in edges {
        nodes[one].connect(address(&nodes[other])).await.expect("connects");
        connected(&nodes[other], nodes[one].local_peer_id()).await;
    }
    nodes
}

/// A ring with chords: everybody has four neighbours.
fn ring(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |one| [(one, (one + 1) % count), (one, (one + 5) % count)])
}

async fn everybody_gets(nodes: &[NetworkHandler], posts: usize, mut post: impl FnMut(usize, &NetworkHandler)) {
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    for number in 0..posts {
        let author = number % nodes.len();
        post(number, &nodes[author]);
        for (_, messages) in streams.iter_mut().enumerate().filter(|(place, _)| *place != author) {
            assert_eq!(text(messages).await, format!("post {number}"));
        }
    }
    assert!(streams.iter_mut().all(nothing_waits), "nobody gets a post twice");
}

#[tokio::test]
async fn every_post_reaches_every_node_once_and_hardly_a_copy_is_wasted() {
    let nodes = nodes(15, ring(15), Strategy::Gossip).await;
    everybody_gets(&nodes, 150, |number, author| {
        let message = Message::event(format!("post {number}"));
        author.broadcast(message, Priority::Medium, BroadcastScope::All).expect("accepted");
    })
    .await;
    let stats = nodes.iter().map(|node| node.network_stats().propagation.gossip).collect::<Vec<_>>();
    let received = stats.iter().map(|stats| stats.received).sum::<u64>();
    let duplicates = stats.iter().map(|stats| stats.duplicates).sum::<u64>();
    assert_eq!(received, 150 * 14);
    // The first post of each author goes over most connections; the nine others find the tree that is left.
    assert!(duplicates < received / 2, "{duplicates} superfluous copies of {received}");
    assert!(stats.iter().all(|stats| stats.posted == 10 && stats.mean_hops() < 7.0));
}

#[tokio::test]
async fn a_burst_of_posts_arrives_whole_and_once() {
    let nodes = nodes(7, ring(7), Strategy::Gossip).await;
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    // More than share one signature, and a large one among them that is signed by itself.
    let words = |number: usize| if number == 77 { "x".repeat(40_000) } else { format!("post {number}") };
    for number in 0..150 {
        let message = Message::event(words(number));
        nodes[0].broadcast(message, Priority::Medium, BroadcastScope::All).expect("accepted");
    }
    let expected = (0..150).map(words).collect::<std::collections::BTreeSet<_>>();
    for messages in &mut streams[1..] {
        let mut heard = std::collections::BTreeSet::new();
        for _ in 0..150 {
            assert!(heard.insert(text(messages).await), "nothing comes twice");
        }
        assert_eq!(heard, expected);
    }
    assert!(streams.iter_mut().all(nothing_waits));
}

#[tokio::test]
async fn a_flood_reaches_every_node_once_too_and_may_be_the_default() {
    let nodes = nodes(8, ring(8), Strategy::Flood).await;
    everybody_gets(&nodes, 16, |number, author| {
        let message = Message::event(format!("post {number}"));
        author.broadcast(message, Priority::High, BroadcastScope::All).expect("accepted");
    })
    .await;
    let flood = nodes[0].network_stats().propagation.flood;
    assert_eq!((flood.posted, flood.received), (2, 14));
    assert!(flood.redundancy() >= 1.0, "a copy by nearly every connection: {flood:?}");
    // The message itself has the last word.
    let mut messages = nodes[3].messages();
    let message = Message::event("by the tree").with_propagation(Propagation::Gossip);
    nodes[0].broadcast(message, Priority::High, BroadcastScope::All).expect("accepted");
    assert_eq!(text(&mut messages).await, "by the tree");
    assert_eq!(nodes[0].network_stats().propagation.gossip.posted, 1);
}

#[tokio::test]
async fn a_directed_broadcast_reaches_whom_it_names_and_nobody_else() {
    let nodes = nodes(4, [(0, 1), (0, 2), (0, 3)], Strategy::Gossip).await;
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    let ids = nodes.iter().map(NetworkHandler::local_peer_id).collect::<Vec<_>>();
    let two = Propagation::Directed(vec![ids[1], ids[2], ids[1], ids[0]]);
    let id = nodes[0]
        .broadcast(Message::event("you two").with_propagation(two), Priority::High, BroadcastScope::All)
        .expect("accepted");
    for place in [1, 2] {
        let message = next(&mut streams[place]).await;
        assert_eq!((message.id, message.payload), (id, "you two".into()));
    }
    nodes[0].broadcast(Message::event("all"), Priority::High, BroadcastScope::All).expect("accepted");
    for messages in &mut streams[1..] {
        assert_eq!(text(messages).await, "all");
    }
    assert!(streams.iter_mut().all(nothing_waits));

    for peers in [vec![], vec![ids[1]; 257]] {
        let count = peers.len();
        let message = Message::event("").with_propagation(Propagation::Directed(peers));
        let error = nodes[0].broadcast(message, Priority::High, BroadcastScope::All).expect_err("refused");
        assert_eq!(error, SendError::Recipients { count, limit: 256 });
    }
}

#[tokio::test]
async fn a_group_spreads_among_its_members_by_every_strategy() {
    let all = (0..5).flat_map(|one| (0..one).map(move |other| (one, other)));
    let nodes = nodes(5, all, Strategy::Gossip).await;
    let group: cpc_net::GroupName = "readers".parse().expect("a name");
    for member in &nodes[..4] {
        member.join_group(group.clone()).expect("joined");
    }
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    // A post to a group of which nobody was heard yet waits; one that was heard of by some has been handed on by them.
    let named = Propagation::Directed(nodes[1..4].iter().map(NetworkHandler::local_peer_id).collect());
    for propagation in [Propagation::Gossip, Propagation::Flood, named] {
        let words = format!("{propagation:?}");
        let message = Message::event(words.clone()).with_propagation(propagation);
        nodes[0].broadcast(message, Priority::Medium, BroadcastScope::Group(group.clone())).expect("accepted");
        for messages in &mut streams[1..4] {
            let message = next(messages).await;
            assert_eq!((message.payload, message.delivery), (words.clone().into(), Delivery::Group(group.clone())));
        }
    }
    nodes[0].broadcast(Message::event("to all"), Priority::Medium, BroadcastScope::All).expect("accepted");
    assert_eq!(text(&mut streams[4]).await, "to all", "the first that the fifth hears");
}

#[tokio::test]
async fn a_groups_posts_cross_nodes_that_are_no_members() {
    let nodes = nodes(5, [(0, 1), (1, 2), (2, 3), (3, 4)], Strategy::Gossip).await;
    let group: cpc_net::GroupName = "readers".parse().expect("a name");
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    let to_group = |node: &NetworkHandler, words: &'static str| {
        let scope = BroadcastScope::Group(group.clone());
        node.broadcast(Message::event(words), Priority::Medium, scope).expect("accepted");
    };
    // The first post waits until somebody takes it, who is three nodes away.
    nodes[0].join_group(group.clone()).expect("joined");
    to_group(&nodes[0], "there");
    nodes[4].join_group(group.clone()).expect("joined");
    let message = next(&mut streams[4]).await;
    assert_eq!((message.payload, message.delivery), ("there".into(), Delivery::Group(group.clone())));
    assert_eq!(message.sender, nodes[0].local_peer_id());
    to_group(&nodes[4], "and back");
    assert_eq!(text(&mut streams[0]).await, "and back");
    // Who joins between hears what comes from then on; who carries hears nothing.
    nodes[2].join_group(group.clone()).expect("joined");
    to_group(&nodes[2], "me too");
    for member in [0, 4] {
        assert_eq!(text(&mut streams[member]).await, "me too");
    }
    to_group(&nodes[0], "to two");
    for member in [2, 4] {
        assert_eq!(text(&mut streams[member]).await, "to two");
    }
    nodes[0].broadcast(Message::event("to all"), Priority::Medium, BroadcastScope::All).expect("accepted");
    for stream in &mut streams[1..] {
        assert_eq!(text(stream).await, "to all");
    }
    assert!(streams.iter_mut().all(nothing_waits));
    let carried = |node: usize| nodes[node].network_stats().propagation.carried;
    assert_eq!([0, 1, 2, 3, 4].map(carried), [0, 4, 2, 4, 0]);
    assert!(nodes.iter().all(|node| node.network_stats().rejections.values().all(|count| *count == 0)));
}

#[tokio::test]
async fn posts_go_as_far_as_hops_are_allowed() {
    let network = network();
    let mut nodes = Vec::<NetworkHandler>::new();
    for _ in 0..5 {
        let node = config(&network).propagation(|propagation| propagation.max_hops = 2).discovery(|discovery| {
            discovery.peer_exchange = false;
            discovery.dht = false;
            discovery.target_peers = 0;
        });
        let node = start(node).await;
        if let Some(last) = nodes.last() {
            node.connect(address(last)).await.expect("connects");
        }
        nodes.push(node);
    }
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    nodes[0].broadcast(Message::event("far"), Priority::Medium, BroadcastScope::All).expect("accepted");
    for messages in &mut streams[1..4] {
        assert_eq!(text(messages).await, "far");
    }
    until(&nodes[3], "the end of the way", |net| net.network_stats().propagation.at_hop_limit == 1).await;
    nodes[3].broadcast(Message::event("near"), Priority::Medium, BroadcastScope::All).expect("accepted");
    assert_eq!(text(&mut streams[4]).await, "near", "the first that the fifth hears");
}

#[tokio::test]
async fn a_post_made_while_connections_are_being_made_reaches_all_of_them() {
    // The post is made when only the first connection stands; those behind it are told what they missed.
    let nodes = nodes(5, [(0, 1), (2, 3), (3, 4)], Strategy::Gossip).await;
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    nodes[0].broadcast(Message::event("early"), Priority::Medium, BroadcastScope::All).expect("accepted");
    assert_eq!(text(&mut streams[1]).await, "early");
    nodes[1].connect(address(&nodes[2])).await.expect("connects");
    for messages in &mut streams[2..] {
        assert_eq!(text(messages).await, "early");
    }
}

#[tokio::test]
async fn who_was_away_for_a_moment_hears_what_it_missed() {
    let nodes = nodes(3, [(0, 1), (1, 2)], Strategy::Gossip).await;
    let mut streams = nodes.iter().map(NetworkHandler::messages).collect::<Vec<_>>();
    nodes[0].broadcast(Message::event("one"), Priority::Medium, BroadcastScope::All).expect("accepted");
    assert_eq!(text(&mut streams[2]).await, "one");
    nodes[1].disconnect(nodes[2].local_peer_id()).await.expect("closed");
    nodes[0].broadcast(Message::event("two"), Priority::Medium, BroadcastScope::All).expect("accepted");
    assert_eq!((text(&mut streams[1]).await, text(&mut streams[1]).await), ("one".into(), "two".into()));
    nodes[2].connect(address(&nodes[1])).await.expect("connects");
    assert_eq!(text(&mut streams[2]).await, "two");
    assert!(streams.iter_mut().all(nothing_waits), "and nothing twice");
}

mod forgeries {
    //! A peer of its own make that passes on what it likes.

    use futures::{AsyncWriteExt as _, StreamExt as _};
    use libp2p::{StreamProtocol, SwarmBuilder, identity::Keypair, swarm::SwarmEvent};
    use prost::Message as _;

    use super::*;
    use crate::wire::{CpcMessage, cpc_message::Propagation as WirePropagation};

    const PROTOCOL: StreamProtocol = StreamProtocol::new("/cpc/1.0.0");

    /// Connects and returns what opens streams.
    async fn stranger(node: &NetworkHandler) -> libp2p::Stream {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
            .expect("TCP")
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .expect("a behaviour")
            .with_swarm_config(|config| config.with_idle_connection_timeout(support::PATIENCE))
            .build();
        let mut control = swarm.behaviour().new_control();
        swarm.dial(address(node)).expect("dialled");
        soon("the stranger's connection", async {
            while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
        })
        .await;
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        control.open_stream(node.local_peer_id(), PROTOCOL).await.expect("the node speaks the protocol")
    }

    fn post(key: &Keypair, nonce: u64, payload: &'static str) -> CpcMessage {
        let mut post = CpcMessage {
            nonce,
            payload: payload.into(),
            sender: key.public().to_peer_id().to_bytes().into(),
            created_at: 1,
            propagation: WirePropagation::Gossip.into(),
            ..Default::default()
        };
        let content = [b"cpc-net/1.0.0/msg:".to_vec(), post.encode_to_vec()].concat();
        post.signature = key.sign(&content).expect("Ed25519 signs").into();
        post
    }

    fn said(message: &ReceivedMessage) -> (PeerId, &[u8]) {
        (message.sender, &message.payload)
    }

    #[tokio::test]
    async fn forged_copies_keep_nobody_from_the_genuine_post_and_are_passed_on_by_nobody() {
        let nodes = nodes(2, [(0, 1)], Strategy::Gossip).await;
        let (mut near, mut far) = (nodes[0].messages(), nodes[1].messages());
        let author = Keypair::generate_ed25519();
        let genuine = post(&author, 7, "genuine");
        let mut lane = stranger(&nodes[0]).await;
        let forged = [
            CpcMessage { payload: "forged!".into(), ..genuine.clone() },
            CpcMessage { signature: vec![9; 64].into(), ..genuine.clone() },
            CpcMessage { hops: 8, ..genuine.clone() },
            CpcMessage { group: "readers".into(), ..genuine.clone() },
        ];
        for copy in forged.iter().chain([&genuine, &genuine]) {
            lane.write_all(&copy.encode_length_delimited_to_vec()).await.expect("written");
        }
        lane.flush().await.expect("flushed");
        let author = author.public().to_peer_id();
        for messages in [&mut near, &mut far] {
            assert_eq!(said(&next(messages).await), (author, &b"genuine"[..]));
        }
        until(&nodes[0], "the copy", |net| net.network_stats().propagation.gossip.duplicates == 1).await;
        let rejections = nodes[0].network_stats().rejections;
        assert_eq!((rejections["wrong_signature"], rejections["too_many_hops"]), (2, 1));
        assert_eq!(rejections["unknown_group"], 1);
        assert!(nodes[1].network_stats().rejections.values().all(|count| *count == 0), "nothing bad was passed on");
        assert!(nothing_waits(&mut near) && nothing_waits(&mut far));
    }

    #[tokio::test]
    async fn a_stranger_that_says_nothing_of_posts_may_still_bring_one() {
        let nodes = nodes(1, [], Strategy::Gossip).await;
        let mut messages = nodes[0].messages();
        let author = Keypair::generate_ed25519();
        let mut lane = stranger(&nodes[0]).await;
        // Somebody else signed it, who knew nothing of how posts are marked: it came from a gossip.
        let unmarked = {
            let mut post = CpcMessage { propagation: 0, signature: vec![].into(), ..post(&author, 8, "from afar") };
            let content = [b"cpc-net/1.0.0/msg:".to_vec(), post.encode_to_vec()].concat();
            post.signature = author.sign(&content).expect("Ed25519 signs").into();
            post
        };
        lane.write_all(&unmarked.encode_length_delimited_to_vec()).await.expect("written");
        lane.flush().await.expect("flushed");
        let message = tokio::time::timeout(Duration::from_secs(9), next(&mut messages)).await.expect("in time");
        assert_eq!((message.sender, message.delivery), (author.public().to_peer_id(), Delivery::All));
    }
}
