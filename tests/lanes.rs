//! The lanes of a connection: what is urgent doesn't wait behind what isn't, and payloads that shrink travel smaller.

#![cfg(not(target_arch = "wasm32"))]

mod support;

use cpc_net::{Message, NetworkHandler, Priority};
use support::{address, config, connected, network, next, soon, start};

/// Bytes that don't shrink.
fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

async fn pair() -> (NetworkHandler, NetworkHandler) {
    let network = network();
    let (one, two) = (start(config(&network)).await, start(config(&network)).await);
    one.connect(address(&two)).await.expect("connects");
    connected(&two, one.local_peer_id()).await;
    (one, two)
}

#[tokio::test]
async fn an_urgent_message_overtakes_a_flood_of_others() {
    const FLOOD: usize = 1500;
    const LENGTH: u32 = 32 * 1024;
    // What may be on its way in the lower lane at most, and a batch at each end.
    const AHEAD: usize = (4 * 1024 + 4 * 64) * 1024 / LENGTH as usize;

    let (sender, receiver) = pair().await;
    let mut messages = receiver.messages();
    let bulk = noise(LENGTH);
    for _ in 0..FLOOD {
        sender
            .send_message(receiver.local_peer_id(), Message::event(bulk.clone()), Priority::Low)
            .expect("room in the outbox");
    }
    let mut before = 0;
    for urgent in 0..5 {
        // The flood runs.
        for _ in 0..20 {
            assert_eq!(next(&mut messages).await.priority, Priority::Low);
            before += 1;
        }
        let known = receiver.network_stats().messages_received.low;
        let receipt = sender
            .send_message(receiver.local_peer_id(), Message::event(format!("{urgent}")), Priority::High)
            .expect("accepted");
        assert_eq!(soon("the urgent one's receipt", receipt.delivered()).await, Ok(()));
        let passed = receiver.network_stats().messages_received.low - known;
        println!("{passed} of the flood arrived before the urgent message {urgent}");
        assert!(passed <= AHEAD as u64, "{passed} of the flood arrived while an urgent message waited");
        loop {
            let message = next(&mut messages).await;
            if message.priority == Priority::High {
                break;
            }
            before += 1;
        }
    }
    assert!(before < FLOOD, "the flood outlasts the urgent messages, or it proves nothing");
    for _ in before..FLOOD {
        assert_eq!(next(&mut messages).await.payload.len(), bulk.len());
    }
}

#[tokio::test]
async fn what_shrinks_travels_smaller_and_arrives_whole() {
    let (sender, receiver) = pair().await;
    let mut messages = receiver.messages();
    let mut travelled = async |payload: Vec<u8>| {
        let before = sender.network_stats().bytes_sent;
        let receipt = sender
            .send_message(receiver.local_peer_id(), Message::event(payload.clone()), Priority::Medium)
            .expect("accepted");
        assert_eq!(next(&mut messages).await.payload, payload);
        assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
        sender.network_stats().bytes_sent - before
    };
    let text =
        (0..400).map(|line| format!("{line}: what a person writes is seldom random")).collect::<String>().into_bytes();
    assert!(text.len() > 16_000);
    let after = travelled(text).await;
    assert!(after < 10_000, "text is compressed: {after}");
    let random = noise(16_000);
    let after = travelled(random).await;
    assert!((16_000..17_000).contains(&after), "noise is sent as it is: {after}");
}
