//! Two nodes: connecting over every transport, sending, losing and finding each other again.

#![cfg(not(target_arch = "wasm32"))]

mod support;

use std::time::{Duration, Instant};

use cpc_net::{
    Authenticity, BroadcastScope, ConnectionKind, ConnectionState, Delivery, Message, MessageKind, NetworkEvent,
    NetworkHandler, PeerId, Phase, Priority, ReceiptState, StateCause,
    config::Security,
    error::{ConnectError, DeliveryError, SendError, StartError},
};
use futures::{FutureExt as _, StreamExt as _};
use support::{address, addresses, config, connected, event, network, next, soon, start, text, until};

#[tokio::test]
async fn a_message_arrives_over_every_transport_and_its_receipt_says_so() {
    let network = network();
    let everywhere = config(&network)
        .listen("/ip4/127.0.0.1/tcp/0/ws")
        .listen("/ip4/127.0.0.1/udp/0/quic-v1")
        .listen("/ip4/127.0.0.1/udp/0/webrtc-direct");
    let node = start(everywhere).await;
    let mut messages = node.messages();
    let mut seen = Vec::new();
    for address in addresses(&node) {
        let kind = ConnectionKind::of(&address);
        let dialler = start(config(&network).no_listen()).await;
        assert_eq!(soon("connecting", dialler.connect(address.clone())).await, Ok(node.local_peer_id()));
        let info = dialler.peer_info(&node.local_peer_id()).expect("a connected peer is known");
        assert_eq!((info.state, info.kind), (ConnectionState::Connected, Some(kind)), "{address}");

        let sent = Message::new(MessageKind::Data, format!("over {kind:?}"));
        let receipt = dialler.send_message(node.local_peer_id(), sent, Priority::High).expect("accepted");
        let message = next(&mut messages).await;
        assert_eq!(message.payload, format!("over {kind:?}"));
        assert_eq!((message.sender, message.id), (dialler.local_peer_id(), receipt.id()));
        assert_eq!((message.kind, message.priority), (MessageKind::Data, Priority::High));
        assert_eq!((message.delivery, message.authenticity), (Delivery::Direct, Authenticity::Signed));
        assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));

        // And the other way, though nobody listens there.
        let info = node.peer_info(&dialler.local_peer_id()).expect("known");
        assert_eq!(info.kind, Some(kind), "also the side that was dialled knows what carries it");
        let mut answers = dialler.messages();
        node.send_message(dialler.local_peer_id(), Message::event("back"), Priority::Low).expect("accepted");
        assert_eq!(text(&mut answers).await, "back");
        dialler.shutdown().await;
        seen.push(kind);
    }
    seen.sort();
    let all = [ConnectionKind::Quic, ConnectionKind::Tcp, ConnectionKind::WebrtcDirect, ConnectionKind::Websocket];
    assert_eq!(seen, all);
    node.shutdown().await;
}

#[tokio::test]
async fn noise_and_tls_nodes_meet_where_they_have_one_in_common() {
    let network = network();
    let both = start(config(&network)).await;
    for security in [Security::Noise, Security::Tls] {
        let one = start(config(&network).no_listen().security(security)).await;
        assert_eq!(one.connect(address(&both)).await, Ok(both.local_peer_id()), "{security:?}");
    }
    let tls = start(config(&network).security(Security::Tls)).await;
    let noise = start(config(&network).no_listen().security(Security::Noise)).await;
    let error = noise.connect(address(&tls)).await.expect_err("nothing in common");
    assert!(matches!(error, ConnectError::Failed { .. }) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn messages_of_one_priority_keep_their_order_and_each_comes_once() {
    const COUNT: u32 = 2000;
    let network = network();
    let one = start(config(&network)).await;
    // Room for all: the reader shares its thread with the sender, the networks have threads of their own.
    let two = start(config(&network).limits(|limits| limits.message_buffer = COUNT as usize)).await;
    one.connect(address(&two)).await.expect("connects");
    let mut messages = two.messages();
    let reader = tokio::spawn(async move {
        let mut last = [0; 3];
        for _ in 0..COUNT {
            let message = next(&mut messages).await;
            let number = u32::from_be_bytes(message.payload[..].try_into().expect("four bytes"));
            let of_priority = &mut last[message.priority as usize];
            assert!(number > *of_priority, "{number} after {of_priority} in {:?}", message.priority);
            *of_priority = number;
        }
    });
    let mut receipts = Vec::new();
    for number in 1..=COUNT {
        let message = Message::event(number.to_be_bytes().to_vec());
        let priority = Priority::ALL[number as usize % 3];
        let receipt = loop {
            match one.send_message(two.local_peer_id(), message.clone(), priority) {
                Ok(receipt) => break receipt,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    tokio::task::yield_now().await;
                }
            }
        };
        receipts.push(receipt);
    }
    for receipt in &receipts {
        assert_eq!(soon("a receipt", receipt.delivered()).await, Ok(()));
    }
    soon("all messages", reader).await.expect("in order");
    let (sent, received) = (one.network_stats(), two.network_stats());
    assert_eq!(sent.messages_accepted.total(), u64::from(COUNT));
    assert_eq!((sent.messages_delivered, sent.messages_failed, sent.outbox), (u64::from(COUNT), 0, 0));
    assert_eq!(received.messages_received.total(), u64::from(COUNT));
}

#[tokio::test]
async fn a_message_waits_until_its_recipient_is_there() {
    let network = network();
    let (one, two) = (start(config(&network)).await, start(config(&network)).await);
    let receipt = one.send_message(two.local_peer_id(), Message::event("early"), Priority::Medium).expect("accepted");
    assert!(matches!(receipt.state(), ReceiptState::Queued { .. }));
    two.connect(address(&one)).await.expect("connects");
    assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
    assert_eq!(text(&mut two.messages()).await, "early");
}

#[tokio::test]
async fn a_message_that_can_not_arrive_says_why() {
    let network = network();
    let one = start(config(&network).delivery_timeout(Duration::from_secs(1))).await;
    let nobody = PeerId::random();
    let lost = one.send_message(nobody, Message::event("hello?"), Priority::High).expect("accepted");
    let short = Message::event("hello?").with_ttl(Duration::from_millis(200));
    let expired = one.send_message(nobody, short, Priority::High).expect("accepted");
    let error = soon("the time to live", expired.delivered()).await.expect_err("expired");
    assert_eq!(error, DeliveryError::Expired { ttl: Duration::from_millis(200) });
    let error = soon("the time-out", lost.delivered()).await.expect_err("nobody is there");
    assert!(matches!(&error, DeliveryError::Unreachable { peer, .. } if *peer == nobody), "{error}");
    assert_eq!(one.network_stats().messages_failed, 2);

    let waiting = one.send_message(nobody, Message::event("too late"), Priority::High).expect("accepted");
    one.shutdown().await;
    assert_eq!(waiting.delivered().await, Err(DeliveryError::ShutDown { id: waiting.id() }));
}

#[tokio::test]
async fn what_can_not_be_sent_is_refused_at_once() {
    let network = network();
    let one = start(config(&network).limits(|limits| {
        limits.max_payload = 10;
        limits.outbox_messages = 2;
    }))
    .await;
    let peer = PeerId::random();
    let send = |payload: &'static str| one.send_message(peer, Message::event(payload), Priority::Low);
    assert_eq!(send("eleven byte").expect_err("too large"), SendError::TooLarge { size: 11, limit: 10 });
    let unknown = Message::new(MessageKind::Unknown(77), "");
    assert!(matches!(one.send_message(peer, unknown, Priority::Low), Err(SendError::ReservedKind(_))));
    let own = one.local_peer_id();
    assert_eq!(one.send_message(own, Message::event(""), Priority::Low).expect_err("self"), SendError::ToSelf(own));
    let group = "readers".parse().expect("a name");
    let error = one.broadcast(Message::event(""), Priority::Low, BroadcastScope::Group(group)).expect_err("no member");
    assert!(matches!(error, SendError::NotAMember(_)), "{error}");

    let _both = (send("one").expect("room"), send("two").expect("room"));
    let full = send("three").expect_err("full");
    assert_eq!(full, SendError::QueueFull { limit: 2 });
    assert!(full.is_retryable());

    one.shutdown().await;
    assert_eq!(send("late").expect_err("stopped"), SendError::ShuttingDown);
    assert_eq!(one.connect(peer).await, Err(ConnectError::ShuttingDown));
    assert!(one.discover_peers(cpc_net::DiscoverTarget::All).is_err());
    assert_eq!((one.status().phase, one.peers().len()), (Phase::Stopped, 0));
}

#[tokio::test]
async fn a_goodbye_is_a_goodbye_and_not_a_loss() {
    let network = network();
    let (one, two) = (start(config(&network)).await, start(config(&network)).await);
    one.connect(address(&two)).await.expect("connects");
    connected(&two, one.local_peer_id()).await;
    let mut events = two.events();
    one.disconnect(two.local_peer_id()).await.expect("closed");
    assert_eq!(one.connection_state(&two.local_peer_id()), ConnectionState::Disconnected);
    let cause = event(&mut events, "the goodbye", |event| match event {
        NetworkEvent::StateChanged { to: ConnectionState::Disconnected, cause, .. } => Some(cause),
        _ => None,
    })
    .await;
    assert_eq!(cause, StateCause::Goodbye);

    one.connect(two.local_peer_id()).await.expect("the address is remembered");
    let mut events = two.events();
    let queued = one.send_message(two.local_peer_id(), Message::event("last words"), Priority::High).expect("accepted");
    one.shutdown().await;
    assert_eq!(queued.delivered().await, Ok(()), "what is queued leaves before the node stops");
    let cause = event(&mut events, "the goodbye", |event| match event {
        NetworkEvent::StateChanged { to: ConnectionState::Disconnected, cause, .. } => Some(cause),
        _ => None,
    })
    .await;
    assert_eq!(cause, StateCause::Goodbye);
    assert_eq!(text(&mut two.messages()).await, "last words");
}

#[tokio::test]
async fn a_peer_that_restarts_is_connected_again_without_a_call() {
    let network = network();
    let place = tempfile::tempdir().expect("a temporary folder");
    let place = place.path().join("two").display().to_string();
    let one = start(config(&network).no_listen()).await;
    let two = start(config(&network).data_dir(&place)).await;
    let (peer, listen) = (two.local_peer_id(), two.listen_addrs().remove(0));
    one.connect(address(&two)).await.expect("connects");
    two.shutdown().await;
    until(&one, "the end of the connection", |net| net.connection_state(&peer) != ConnectionState::Connected).await;

    let again =
        cpc_net::NetworkConfig::builder().network(&network).mdns(false).data_dir(&place).listen(listen.to_string());
    let again = start(again).await;
    assert_eq!(again.local_peer_id(), peer, "the same identity after a restart");
    connected(&one, peer).await;
    let receipt = one.send_message(peer, Message::event("welcome back"), Priority::High).expect("accepted");
    assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
    assert_eq!(text(&mut again.messages()).await, "welcome back");
}

#[tokio::test]
async fn connecting_in_vain_says_why() {
    let network = network();
    let (one, two) = (start(config(&network)).await, start(config(&network)).await);
    let stranger = PeerId::random();
    assert_eq!(one.connect(stranger).await, Err(ConnectError::NoAddress(stranger)));
    let own = one.local_peer_id();
    assert!(matches!(one.connect(own).await, Err(ConnectError::ToSelf(_))));
    assert!(matches!(one.connect(address(&one)).await, Err(ConnectError::ToSelf(_))));

    let somebody_else = two.listen_addrs().remove(0).with(libp2p::multiaddr::Protocol::P2p(stranger));
    let error = one.connect(somebody_else).await.expect_err("another peer is there");
    assert!(error.to_string().contains(&two.local_peer_id().to_string()), "it says who is there: {error}");

    let closed = two.listen_addrs().remove(0);
    two.shutdown().await;
    let error = one.connect(closed.clone()).await.expect_err("nobody is there");
    assert!(error.to_string().contains(&closed.to_string()) && error.is_retryable(), "{error}");

    let nonsense: cpc_net::Multiaddr = "/unix/nowhere".parse().expect("a multiaddr");
    let error = one.connect(nonsense).await.expect_err("no transport");
    assert!(error.to_string().contains("no transport"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_and_a_place_that_is_none_are_clear_errors() {
    let network = network();
    let one = start(config(&network)).await;
    let taken = one.listen_addrs().remove(0);
    let second = cpc_net::NetworkConfig::builder().network(&network).mdns(false).listen(taken.to_string());
    let error = NetworkHandler::new(second.build().expect("valid")).await.expect_err("in use");
    assert!(matches!(&error, StartError::Listen { address, .. } if *address == taken), "{error}");
    assert!(error.is_retryable() && error.to_string().contains("free the port"), "{error}");

    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let misplaced = config(&network).data_dir(file.path().display().to_string()).build().expect("valid");
    let error = NetworkHandler::new(misplaced).await.expect_err("a file is no folder");
    assert!(matches!(error, StartError::Store(_)), "{error}");

    let unknown = config(&network).listen("/ip4/127.0.0.1/udp/0/webtransport").build().expect("valid");
    let error = NetworkHandler::new(unknown).await.expect_err("no such transport");
    assert!(error.to_string().contains("no transport"), "{error}");
}

#[tokio::test]
async fn an_unreachable_bootstrap_node_is_announced_and_tried_again() {
    let network = network();
    let gone = start(config(&network)).await;
    let (named, unnamed) = (address(&gone), gone.listen_addrs().remove(0));
    gone.shutdown().await;
    let good = start(config(&network)).await;
    for bad in [named, unnamed] {
        let both = config(&network).no_listen().bootstrap(bad.to_string()).bootstrap(address(&good).to_string());
        let net = start(both).await;
        let mut events = net.events();
        for _ in 0..2 {
            let reason = event(&mut events, "the bootstrap node's failure", |event| match event {
                NetworkEvent::BootstrapFailed { address, reason, .. } if address == bad => Some(reason),
                _ => None,
            })
            .await;
            assert!(!reason.is_empty());
        }
        connected(&net, good.local_peer_id()).await;
        assert_eq!(net.status().phase, Phase::Online);
    }
}

#[tokio::test]
async fn a_bootstrap_address_without_an_id_is_enough_and_is_kept() {
    let network = network();
    let node = start(config(&network)).await;
    let bare = node.listen_addrs().remove(0);
    let net = start(config(&network).no_listen().bootstrap(bare.to_string())).await;
    connected(&net, node.local_peer_id()).await;
    connected(&node, net.local_peer_id()).await;
    // The node lets it go; a bootstrap node is connected again all the same.
    let mut events = net.events();
    node.disconnect(net.local_peer_id()).await.expect("closed");
    event(&mut events, "the goodbye", |event| match event {
        NetworkEvent::StateChanged { to: ConnectionState::Disconnected, .. } => Some(()),
        _ => None,
    })
    .await;
    connected(&net, node.local_peer_id()).await;
}

#[tokio::test]
async fn several_subscribers_get_everything_and_a_laggard_is_told_what_it_missed() {
    let network = network();
    let one = start(config(&network)).await;
    let two = start(config(&network).limits(|limits| limits.message_buffer = 16)).await;
    one.connect(address(&two)).await.expect("connects");
    let (mut quick, mut slow, mut events) = (two.messages(), two.messages(), two.events());
    for number in 0..40_u8 {
        let message = Message::event(vec![number]);
        let receipt = one.send_message(two.local_peer_id(), message, Priority::High).expect("accepted");
        assert_eq!(next(&mut quick).await.payload[..], [number]);
        soon("the receipt", receipt.delivered()).await.expect("delivered");
    }
    assert_eq!(next(&mut slow).await.payload[..], [24], "the oldest are gone");
    assert_eq!((slow.missed(), quick.missed()), (24, 0));
    let announced = event(&mut events, "the announcement", |event| match event {
        NetworkEvent::MessagesMissed { count } => Some(count),
        _ => None,
    })
    .await;
    assert!(announced > 0);
    until(&two, "all to be counted", |two| two.network_stats().messages_missed == 24).await;
}

#[tokio::test]
async fn a_message_handler_is_called_until_it_is_dropped() {
    let network = network();
    let (one, two) = (start(config(&network)).await, start(config(&network)).await);
    one.connect(address(&two)).await.expect("connects");
    let (sender, received) = async_channel::bounded(10);
    let registration = two.register_message_handler(move |message| {
        let sender = sender.clone();
        async move { sender.send(message.payload).await.expect("room") }
    });
    let send = |text: &'static str| {
        one.send_message(two.local_peer_id(), Message::event(text), Priority::High).expect("accepted")
    };
    send("one").delivered().await.expect("delivered");
    assert_eq!(soon("the call", received.recv()).await.expect("called"), "one");
    drop(registration);
    assert!(soon("the handler's end", received.recv()).await.is_err(), "the handler is gone");
    send("two").delivered().await.expect("delivered");
}

#[tokio::test]
async fn a_connection_that_a_call_asked_for_is_there_when_the_call_returns() {
    let network = network();
    let two = start(config(&network)).await;
    let mut times = Vec::new();
    for _ in 0..5 {
        let one = start(config(&network).no_listen()).await;
        let mut messages = two.messages();
        let begin = Instant::now();
        one.connect(address(&two)).await.expect("connects");
        assert_eq!(one.connection_state(&two.local_peer_id()), ConnectionState::Connected);
        assert_eq!((one.status().phase, one.status().connected), (Phase::Online, 1));
        one.send_message(two.local_peer_id(), Message::event("first"), Priority::High).expect("accepted");
        assert_eq!(text(&mut messages).await, "first");
        times.push(begin.elapsed());
    }
    times.sort();
    println!("from dial to first message, five runs: {times:?}");
}

#[tokio::test]
async fn the_streams_end_with_the_node() {
    let net = start(config(&network())).await;
    let (mut events, mut messages) = (net.events(), net.messages());
    net.shutdown().await;
    net.shutdown().await;
    let all = soon("the last event", events.by_ref().collect::<Vec<_>>()).await;
    assert_eq!(all.last(), Some(&NetworkEvent::Stopped));
    assert!(soon("the end of messages", messages.next()).await.is_none());
    assert!(events.next().now_or_never().is_some_and(|event| event.is_none()), "an ended stream stays ended");
}

/// An app may keep a handle anywhere and await its calls in any task.
#[test]
fn handles_and_their_calls_can_go_to_other_threads() {
    fn sendable<T: Send>(_: &T) {}
    fn shareable<T: Clone + Send + Sync>() {}
    shareable::<NetworkHandler>();
    shareable::<cpc_net::Receipt>();
    sendable(&NetworkHandler::new(cpc_net::NetworkConfig::default()));
    let calls = |net: &NetworkHandler, peer: PeerId| {
        sendable(&net.shutdown());
        sendable(&net.connect(peer));
        sendable(&net.disconnect(peer));
        sendable(&net.events());
        sendable(&net.messages());
    };
    let _ = calls;
}

#[tokio::test]
async fn names_are_resolved() {
    let network = network();
    let node = start(config(&network).listen("/ip4/127.0.0.1/tcp/0/ws")).await;
    for address in addresses(&node) {
        let named: cpc_net::Multiaddr =
            address.to_string().replace("/ip4/127.0.0.1/", "/dns4/localhost/").parse().expect("an address");
        let one = start(config(&network).no_listen()).await;
        assert_eq!(soon("connecting", one.connect(named)).await, Ok(node.local_peer_id()));
    }
}

#[tokio::test]
async fn a_webrtc_address_stays_the_same_over_a_restart() {
    let network = network();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().display().to_string();
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let net = start(config(&network).listen("/ip4/127.0.0.1/udp/0/webrtc-direct").data_dir(&place)).await;
        let hash = net.listen_addrs().iter().flat_map(|address| address.iter()).find_map(|part| match part {
            libp2p::multiaddr::Protocol::Certhash(hash) => Some(hash),
            _ => None,
        });
        hashes.push(hash.expect("a hash of the certificate"));
        net.shutdown().await;
    }
    assert_eq!(hashes[0], hashes[1], "pages that know the address find the node again");
}
