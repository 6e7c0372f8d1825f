//! Transfers while the ways to a peer change: over a relay, to a direct connection, within a relay's limit, within a budget.

use std::time::{Duration, Instant};

use cpc_net::{
    ConnectionKind, Message, NetworkConfigBuilder, NetworkEvent, NetworkHandler, Priority, TransferOffer,
    TransferState, error::TransferError,
};

use crate::{
    payload::{Gauge, MIB, Made, ended, offered, until_taken},
    support::{address, config, connected, event, network, soon, start, until},
};

/// Nobody looks for anybody, and no direct connection comes by itself.
fn on_its_own(network: &str) -> NetworkConfigBuilder {
    config(network)
        .transport(|transport| transport.webrtc = false)
        .discovery(|discovery| (discovery.dht, discovery.peer_exchange, discovery.target_peers) = (false, false, 0))
}

/// Two nodes that know each other through a relay only, of which one can be dialled directly too.
async fn relayed(circuit_bytes: u64, patience: Duration) -> (NetworkHandler, NetworkHandler, NetworkHandler) {
    let network = network();
    let allow = move |relay: &mut cpc_net::config::RelayConfig| relay.circuit_bytes = circuit_bytes;
    let relay = start(config(&network).relay_server(true).relay(allow)).await;
    let one = start(on_its_own(&network).transfers(move |transfers| transfers.resume_timeout = patience)).await;
    let behind = on_its_own(&network).no_listen().bootstrap(address(&relay).to_string());
    let two = start(behind.relay(|relay| relay.reservations = Some(1))).await;
    until(&two, "a place at the relay", |two| !two.listen_addrs().is_empty()).await;
    one.connect(two.listen_addrs().remove(0)).await.expect("by the relay");
    connected(&two, one.local_peer_id()).await;
    assert_eq!(kind(&one, &two), Some(ConnectionKind::Relayed));
    (relay, one, two)
}

fn kind(one: &NetworkHandler, two: &NetworkHandler) -> Option<ConnectionKind> {
    one.peer_info(&two.local_peer_id()).and_then(|info| info.kind)
}

async fn connect_directly(one: &NetworkHandler, two: &NetworkHandler) {
    // By an address that doesn't tell who is there; who is connected already isn't dialled again.
    soon("a direct connection", two.connect(one.listen_addrs().remove(0))).await.expect("connects");
    until(one, "the direct connection", |one| kind(one, two) == Some(ConnectionKind::Tcp)).await;
}

async fn delivered(one: &NetworkHandler, two: &NetworkHandler, text: &str) {
    let receipt = one.send_message(two.local_peer_id(), Message::event(text.to_owned()), Priority::High);
    assert_eq!(soon("a receipt", receipt.expect("accepted").delivered()).await, Ok(()), "{text}");
}

#[tokio::test]
async fn begun_over_a_relay_it_goes_on_directly_and_the_relay_may_go() {
    let (relay, one, two) = relayed(0, Duration::from_secs(60)).await;
    let length = 24 * MIB;
    let offer = TransferOffer::new("film").length(length);
    let sent = one.send_transfer(two.local_peer_id(), offer, Made::source(length)).expect("accepted");
    let gauge = Gauge::up_to(2 * MIB);
    let received = offered(&two).await.accept(gauge.clone()).expect("in time");
    until_taken(&gauge, 2 * MIB).await;
    let mut events = one.events();
    connect_directly(&one, &two).await;
    // It moves while the circuit still stands: more comes than what was under way there.
    gauge.let_in(16 * MIB);
    until_taken(&gauge, 16 * MIB).await;
    relay.shutdown().await;
    gauge.open();
    let hash = Made::hash(length);
    assert_eq!((ended(&sent).await, ended(&received).await), (Ok(hash), Ok(hash)));
    assert_eq!(gauge.hash(), hash, "nothing twice, nothing missing");
    let error = event(&mut events, "the end", |event| match event {
        NetworkEvent::TransferEnded { id, error, .. } if id == sent.id() => Some(error),
        _ => None,
    })
    .await;
    assert_eq!(error, None);
    until(&one, "the counters", |net| net.network_stats().transfers_finished == 1).await;
    let again = one.network_stats().transfer_bytes_sent.saturating_sub(length);
    assert!(again <= 8 * MIB + MIB, "at most what was under way is sent again, not {again} bytes");
}

#[tokio::test]
async fn a_relay_that_goes_in_the_middle_costs_no_more_than_what_was_under_way() {
    let (relay, one, two) = relayed(0, Duration::from_secs(60)).await;
    let length = 24 * MIB;
    let offer = TransferOffer::new("film").length(length);
    let sent = one.send_transfer(two.local_peer_id(), offer, Made::source(length)).expect("accepted");
    let gauge = Gauge::up_to(10 * MIB);
    let received = offered(&two).await.accept(gauge.clone()).expect("in time");
    until_taken(&gauge, 10 * MIB).await;
    relay.shutdown().await;
    until(&two, "the interruption", |_| received.progress().state == TransferState::Interrupted).await;
    gauge.open();
    connect_directly(&one, &two).await;
    let hash = Made::hash(length);
    assert_eq!((ended(&sent).await, ended(&received).await), (Ok(hash), Ok(hash)));
    assert_eq!(gauge.hash(), hash);
}

#[tokio::test]
async fn what_is_too_much_for_a_circuit_leaves_it_to_the_messages() {
    const LIMIT: u64 = 256 * 1024;
    let (_relay, one, two) = relayed(LIMIT, Duration::from_secs(3)).await;
    let peer = two.local_peer_id();
    let send = |length: u64| {
        let offer = TransferOffer::new("x").length(length);
        one.send_transfer(peer, offer, Made::source(length)).expect("accepted")
    };
    // Four times what the relay lets through.
    let large = send(MIB);
    let small = send(32 * 1024);
    let received = soon("the small one", offered(&two).await.collect(1 << 20)).await.expect("complete");
    assert_eq!(received.len(), 32 * 1024);
    assert!(ended(&small).await.is_ok(), "what fits goes by the circuit");
    for number in 0..10 {
        delivered(&one, &two, &format!("message {number}")).await;
    }
    let error = ended(&large).await.expect_err("no direct connection came");
    assert!(matches!(error, TransferError::RelayLimited { limit: LIMIT, .. }) && error.is_retryable(), "{error}");
    assert_eq!(kind(&one, &two), Some(ConnectionKind::Relayed));
    delivered(&one, &two, "the circuit lives").await;
    assert_eq!(one.network_stats().connections_closed, 0);

    let large = send(MIB);
    connect_directly(&one, &two).await;
    let received = soon("the large one", offered(&two).await.collect(2 << 20)).await.expect("complete");
    assert_eq!((received.len() as u64, ended(&large).await.is_ok()), (MIB, true));
}

#[tokio::test]
async fn a_transfer_keeps_to_the_budget_and_urgent_messages_hardly_feel_it() {
    const RATE: u64 = 4_000_000;
    let network = network();
    let two = start(config(&network)).await;
    let limited = config(&network)
        .bandwidth(|bandwidth| (bandwidth.limited, bandwidth.total, bandwidth.per_peer) = (true, RATE, RATE));
    let one = start(limited).await;
    one.connect(address(&two)).await.expect("connects");
    let delays = async |count: usize| {
        let mut delays = Vec::new();
        for _ in 0..count {
            let begun = Instant::now();
            delivered(&one, &two, "now").await;
            delays.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        delays.sort();
        delays[count * 99 / 100]
    };
    let alone = delays(100).await;

    let length = 4 * RATE;
    let begun = Instant::now();
    let sent = one.send_transfer(two.local_peer_id(), TransferOffer::new("x"), Made::source(length)).expect("accepted");
    let _received = offered(&two).await.accept(Gauge::default()).expect("in time");
    let beside = delays(100).await;
    assert!(!sent.progress().state.is_final(), "the transfer ran beside all of them");
    assert!(ended(&sent).await.is_ok());
    let took = begun.elapsed().as_secs_f64();
    println!("99th percentile alone {alone:?}, beside a transfer {beside:?}; {length} bytes in {took:.2} s");
    assert!(took > 0.9 * 4.0, "{length} bytes in {took} s are over the budget");
    assert!(took < 3.0 * 4.0, "{length} bytes took {took} s: the budget was not used");
    // Behind the transfer a message would wait for seconds. The absolute part is for a busy machine.
    assert!(beside < 10 * alone + Duration::from_millis(50), "alone {alone:?}, beside a transfer {beside:?}");
}
