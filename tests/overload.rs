//! Too much for somebody: who reads slowly, or can't store, holds up nobody else, and what is urgent keeps its latency.

#![cfg(not(target_arch = "wasm32"))]

mod support;

use std::time::{Duration, Instant};

use cpc_net::{Message, NetworkEvent, NetworkHandler, PeerId, Priority};
use support::{address, config, connected, event, network, next, nothing_waits, soon, start};

/// Sends one after the other, and returns the median time to the receipt.
async fn median(from: &NetworkHandler, to: PeerId, priority: Priority, count: usize) -> Duration {
    let mut took = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        let receipt = from.send_message(to, Message::event("how long?"), priority).expect("accepted");
        assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took[count / 2]
}

#[tokio::test]
async fn an_app_that_takes_no_messages_holds_up_nobody_else_and_gets_all_in_order_later() {
    const MAIL: u32 = 120;
    let network = network();
    let folder = tempfile::tempdir().expect("a folder");
    let impatient = |delivery: &mut cpc_net::config::DeliveryConfig| {
        (delivery.timeout, delivery.acknowledge_timeout) = (Duration::from_secs(600), Duration::from_millis(200));
    };
    let one = start(config(&network).delivery(impatient)).await;
    let small = config(&network).limits(|limits| limits.message_buffer = 16);
    let slow = start(small.data_dir(folder.path().join("slow").display().to_string())).await;
    let quick = start(config(&network)).await;
    let mut events = slow.events();
    for other in [&slow, &quick] {
        one.connect(address(other)).await.expect("connects");
        connected(other, one.local_peer_id()).await;
    }
    let before = median(&one, quick.local_peer_id(), Priority::Low, 100).await;

    let mut messages = slow.messages();
    let mail = (0..MAIL).map(|number| {
        let message = Message::event(number.to_be_bytes().to_vec());
        one.send_message(slow.local_peer_id(), message, Priority::Medium).expect("room in the outbox")
    });
    let mail = mail.collect::<Vec<_>>();
    let waiting = event(&mut events, "the inbox is full", |event| match event {
        NetworkEvent::InboxFull { waiting } => Some(waiting),
        _ => None,
    })
    .await;
    assert_eq!(waiting, 16);
    let beside = median(&one, quick.local_peer_id(), Priority::Low, 100).await;
    println!("to the quick one {before:?} alone, {beside:?} beside the slow one");
    assert!(beside < before * 20 + Duration::from_millis(50), "{before:?} alone, {beside:?} beside the slow one");
    let unread = mail.iter().filter(|receipt| !receipt.state().is_final()).count();
    assert!(unread >= MAIL as usize - 16, "{unread} are still with their sender");

    for number in 0..MAIL {
        assert_eq!(next(&mut messages).await.payload[..], number.to_be_bytes(), "in order, each once");
    }
    for receipt in &mail {
        assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
    }
    assert!(nothing_waits(&mut messages));
    assert!(slow.network_stats().messages_deferred > 0);
}

#[tokio::test]
async fn a_flood_of_low_priority_leaves_high_priority_its_latency() {
    const FLOOD: usize = 3000;
    let network = network();
    let (one, two) = (start(config(&network)).await, start(config(&network)).await);
    one.connect(address(&two)).await.expect("connects");
    connected(&two, one.local_peer_id()).await;
    let peer = two.local_peer_id();
    let alone = median(&one, peer, Priority::High, 50).await;
    // Noise, lest it be compressed.
    let bulk = (0..16_384_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect::<Vec<_>>();
    let flood = (0..FLOOD).map(|_| one.send_message(peer, Message::event(bulk.clone()), Priority::Low).expect("room"));
    let flood = flood.collect::<Vec<_>>();
    let began = Instant::now();
    let urgent = median(&one, peer, Priority::High, 10).await;
    let left = flood.iter().filter(|receipt| !receipt.state().is_final()).count();
    assert!(left > FLOOD / 10, "the flood outlasts the urgent messages, or it proves nothing: {left} left");
    assert_eq!(soon("the last of the flood", flood[FLOOD - 1].delivered()).await, Ok(()));
    let last = began.elapsed();
    println!("urgent: {alone:?} alone, {urgent:?} in the flood, whose last took {last:?}");
    assert!(urgent * 10 < last, "an urgent message took {urgent:?}, the last of the flood {last:?}");
}
