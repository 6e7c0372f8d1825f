//! The ways of messages: direct, by a relay, or waiting; and what they may take with them when a way breaks.

#![cfg(not(target_arch = "wasm32"))]

mod support;

use std::{net::SocketAddr, time::Duration};

use cpc_net::{
    ConnectionKind, ConnectionState, Message, NetworkConfigBuilder, NetworkEvent, NetworkHandler, Priority,
    QueueReason, Receipt, ReceiptState, Way,
    error::{DeliveryError, SendError},
};
use libp2p::multiaddr::Protocol;
use support::{address, config, event, network, next, nothing_waits, soon, start, until};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A cable to a node that can be pulled.
struct Cable {
    at: SocketAddr,
    carrying: JoinHandle<()>,
}

impl Cable {
    async fn to(net: &NetworkHandler) -> Self {
        let port = address(net).iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None });
        let port = port.expect("it listens over TCP");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let carrying = tokio::spawn(async move {
            // With this task end those that carry.
            let mut carried = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                carried.spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await.expect("the node listens");
                    // That a connection breaks is what this is for.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { at, carrying }
    }

    fn pull(self) {
        self.carrying.abort();
    }
}

/// Nobody looks for anybody, and who has lost somebody waits long before it tries again.
fn on_its_own(network: &str) -> NetworkConfigBuilder {
    config(network)
        .transport(|transport| transport.webrtc = false)
        .discovery(|discovery| (discovery.dht, discovery.peer_exchange, discovery.target_peers) = (false, false, 0))
        .connections(|connections| {
            connections.retry_initial = Duration::from_secs(60);
            connections.retry_max = Duration::from_secs(3600);
            // A circuit whose relay is gone may end without a word.
            connections.ping_interval = Duration::from_millis(500);
            connections.ping_timeout = Duration::from_secs(2);
        })
}

fn send(from: &NetworkHandler, to: &NetworkHandler, number: u32) -> Receipt {
    let message = Message::event(number.to_be_bytes().to_vec());
    from.send_message(to.local_peer_id(), message, Priority::Medium).expect("accepted")
}

/// Waits until a receipt says something.
async fn says(receipt: &Receipt, what: &str, wanted: impl Fn(&ReceiptState) -> bool) {
    soon(what, async {
        let mut state = receipt.state();
        while !wanted(&state) {
            assert!(!state.is_final(), "it ended as {state:?} before {what}");
            state = receipt.changed(&state).await;
        }
    })
    .await;
}

async fn all_delivered(receipts: &[Receipt]) {
    for receipt in receipts {
        assert_eq!(soon("a receipt", receipt.delivered()).await, Ok(()));
    }
}

#[tokio::test]
async fn pulling_the_direct_path_moves_traffic_to_the_relay_pulling_both_queues_it_and_restoring_delivers_it() {
    let network = network();
    let relay = start(config(&network).relay_server(true)).await;
    let one = start(on_its_own(&network)).await;
    let behind = on_its_own(&network).no_listen().bootstrap(address(&relay).to_string());
    let two = start(behind.relay(|relay| relay.reservations = Some(1))).await;
    let mut messages = two.messages();
    let mut receipts = Vec::new();

    until(&two, "a place at the relay", |two| !two.listen_addrs().is_empty()).await;
    one.connect(two.listen_addrs().remove(0)).await.expect("by the relay");
    let kind = |one: &NetworkHandler| one.peer_info(&two.local_peer_id()).and_then(|info| info.kind);
    assert_eq!(kind(&one), Some(ConnectionKind::Relayed));
    receipts.push(send(&one, &two, 0));
    all_delivered(&receipts).await;

    // A direct way beside the relay.
    let cable = Cable::to(&one).await;
    two.connect(format!("/ip4/127.0.0.1/tcp/{}", cable.at.port()).parse::<cpc_net::Multiaddr>().expect("an address"))
        .await
        .expect("directly");
    until(&one, "two connections", |one| one.peer_info(&two.local_peer_id()).is_some_and(|info| info.connections == 2))
        .await;
    let direct = send(&one, &two, 1);
    says(&direct, "going directly", |state| {
        matches!(state, ReceiptState::Sent { way: Way::Direct { kind: ConnectionKind::Tcp } } | ReceiptState::Delivered)
    })
    .await;
    receipts.push(direct);
    receipts.extend((2..300).map(|number| send(&one, &two, number)));

    // The direct path is pulled while they are on their way.
    cable.pull();
    until(&one, "the relay again", |one| kind(one) == Some(ConnectionKind::Relayed)).await;
    receipts.extend((300..400).map(|number| send(&one, &two, number)));
    all_delivered(&receipts).await;

    // Both are pulled.
    relay.shutdown().await;
    until(&one, "the end of all connections", |one| {
        one.connection_state(&two.local_peer_id()) != ConnectionState::Connected
    })
    .await;
    let waiting = (400..500).map(|number| send(&one, &two, number)).collect::<Vec<_>>();
    let not_connected = |state: &ReceiptState| *state == ReceiptState::Queued { why: QueueReason::NotConnected };
    says(&waiting[0], "waiting for a connection", not_connected).await;

    // And one is restored.
    let _ = two.connect(address(&one)).await;
    receipts.extend(waiting);
    all_delivered(&receipts).await;
    for number in 0..500_u32 {
        let message = next(&mut messages).await;
        assert_eq!(message.payload[..], number.to_be_bytes(), "in order, each once");
    }
    assert!(nothing_waits(&mut messages));
    assert_eq!(one.network_stats().messages_delivered, 500);
}

#[tokio::test]
async fn a_flood_of_low_priority_is_shed_for_what_is_urgent_and_the_sender_is_told() {
    let network = network();
    let (one, two) = (
        start(config(&network).limits(|limits| (limits.outbox_messages, limits.peer_messages) = (64, 64))).await,
        start(config(&network)).await,
    );
    let mut events = one.events();
    let low = |number: u32| {
        one.send_message(two.local_peer_id(), Message::event(vec![0; 9]), Priority::Low).map(|r| (number, r))
    };
    let flood = (0..64).map(|number| low(number).expect("room")).collect::<Vec<_>>();
    assert!(low(64).expect_err("full").is_retryable());
    let urgent =
        one.send_message(two.local_peer_id(), Message::event("fire"), Priority::High).expect("it has a reserve");
    let error = soon("the newest of the flood", flood[63].1.delivered()).await.expect_err("it gave way");
    assert_eq!(error, DeliveryError::Shed { priority: Priority::Low });
    let count = event(&mut events, "the news of it", |event| match event {
        NetworkEvent::MessagesShed { priority: Priority::Low, count } => Some(count),
        _ => None,
    })
    .await;
    assert_eq!(one.network_stats().messages_shed, count);
    one.connect(address(&two)).await.expect("connects");
    assert_eq!(soon("the urgent one", urgent.delivered()).await, Ok(()));
    assert_eq!(soon("the oldest of the flood", flood[0].1.delivered()).await, Ok(()));
}

#[tokio::test]
async fn within_a_budget_what_is_urgent_overtakes_a_flood() {
    let network = network();
    let rationed = config(&network).bandwidth(|bandwidth| {
        (bandwidth.limited, bandwidth.total, bandwidth.per_peer) = (true, 200_000, 200_000);
    });
    let (one, two) = (start(rationed).await, start(config(&network)).await);
    one.connect(address(&two)).await.expect("connects");
    let bulk = || one.send_message(two.local_peer_id(), Message::event(vec![0; 1000]), Priority::Low).expect("room");
    // Two seconds' worth.
    let flood = (0..400).map(|_| bulk()).collect::<Vec<_>>();
    let over_budget = |state: &ReceiptState| *state == ReceiptState::Queued { why: QueueReason::OverBudget };
    let next_in_line = async {
        loop {
            if flood.iter().any(|receipt| over_budget(&receipt.state())) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the budget", next_in_line).await;
    let urgent = one.send_message(two.local_peer_id(), Message::event("fire"), Priority::High).expect("room");
    assert_eq!(soon("the urgent one", urgent.delivered()).await, Ok(()));
    assert!(!flood[399].state().is_final(), "the flood has not passed yet");
    let receipts = flood;
    all_delivered(&receipts).await;
}

#[tokio::test]
async fn what_expires_while_it_waits_for_the_app_is_not_given_to_it() {
    let network = network();
    let (one, two) = (start(config(&network)).await, start(config(&network)).await);
    one.connect(address(&two)).await.expect("connects");
    let mut messages = two.messages();
    let ttl = Duration::from_millis(400);
    let short = Message::event("typing").with_ttl(ttl);
    let receipt = one.send_message(two.local_peer_id(), short, Priority::High).expect("accepted");
    assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()), "the node has it");
    let lasting = one.send_message(two.local_peer_id(), Message::event("lasting"), Priority::High).expect("accepted");
    assert_eq!(soon("the receipt", lasting.delivered()).await, Ok(()));
    // The app was busy for a while: this is the time that passes, and nothing is waited for.
    tokio::time::sleep(ttl * 2).await;
    assert_eq!(next(&mut messages).await.payload, "lasting");
    assert_eq!(messages.expired(), 1);

    let nobody = cpc_net::PeerId::random();
    let lost = one.send_message(nobody, Message::event("typing").with_ttl(ttl), Priority::High).expect("accepted");
    assert_eq!(soon("its end", lost.delivered()).await, Err(DeliveryError::Expired { ttl }));
    assert_eq!(lost.state(), ReceiptState::Expired { ttl });
}

#[tokio::test]
async fn one_that_is_away_takes_no_room_from_the_others() {
    let network = network();
    let narrow = config(&network).limits(|limits| limits.peer_messages = 100);
    let (one, quick) = (start(narrow).await, start(config(&network)).await);
    let away = cpc_net::PeerId::random();
    one.connect(address(&quick)).await.expect("connects");
    let send = || one.send_message(away, Message::event("are you there?"), Priority::Low);
    let _waiting = (0..100).map(|_| send().expect("room")).collect::<Vec<_>>();
    let full = send().expect_err("as much as may waits for this one");
    assert_eq!(full, SendError::PeerFull { peer: away, limit: 100 });
    assert!(full.is_retryable(), "{full}");
    let others = one.send_message(quick.local_peer_id(), Message::event("hello"), Priority::Low);
    assert_eq!(soon("the receipt", others.expect("room for others").delivered()).await, Ok(()));
}
