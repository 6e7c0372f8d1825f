//! Mail for peers that are away: left at a mailbox, collected by its recipient, and confirmed to its author, whoever is
//! there at the same time.

#![cfg(not(target_arch = "wasm32"))]

mod support;

use std::{path::Path, time::Duration};

use cpc_net::{
    Message, Multiaddr, NetworkConfigBuilder, NetworkEvent, NetworkHandler, PeerId, Priority, QueueReason, Receipt,
    ReceiptState, error::DeliveryError,
};
use support::{address, config, connected, event, network, next, nothing_waits, soon, start, text, until};

/// What a mailbox must never see.
const SECRET: &str = "meet me at the old oak, half past nine";

/// A network of nodes that are started and stopped, each with its place on the disk.
struct Place {
    network: String,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { network: network(), folder: tempfile::tempdir().expect("a folder") }
    }

    /// Nobody is found but by the mailbox.
    fn config(&self, name: &str) -> NetworkConfigBuilder {
        let folder = self.folder.path().join(name);
        config(&self.network)
            .data_dir(folder.to_str().expect("a text"))
            .discovery(|discovery| discovery.dht = false)
            .mailbox(|mailbox| mailbox.patience = Duration::from_millis(100))
    }

    async fn mailbox(&self, name: &str, port: u16) -> NetworkHandler {
        let config = self.config(name).mailbox(|mailbox| mailbox.serve = true);
        start_at(port, config).await
    }

    async fn node(&self, name: &str, at: &[&Multiaddr]) -> NetworkHandler {
        let config = at.iter().fold(self.config(name), |config, address| config.bootstrap(&address.to_string()));
        let net = start(config).await;
        for address in at {
            let Some(libp2p::multiaddr::Protocol::P2p(peer)) = address.iter().last() else { panic!("no peer id") };
            until(&net, "a mailbox", |net| net.peer_info(&peer).is_some_and(|info| info.mailbox)).await;
        }
        net
    }

    /// Who a node that is away will be.
    async fn identity(&self, name: &str) -> PeerId {
        let net = start(self.config(name)).await;
        let peer = net.local_peer_id();
        net.shutdown().await;
        peer
    }
}

/// A mailbox is found again where it was.
async fn start_at(port: u16, config: NetworkConfigBuilder) -> NetworkHandler {
    let mut config = config.build().expect("a valid configuration");
    config.listen = Some(vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address")]);
    NetworkHandler::new(config).await.expect("the node starts")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn known_address(net: &NetworkHandler, port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", net.local_peer_id()).parse().expect("an address")
}

fn send(from: &NetworkHandler, to: PeerId, text: &str, priority: Priority) -> Receipt {
    from.send_message(to, Message::event(text.to_owned()), priority).expect("accepted")
}

async fn says(receipt: &Receipt, what: &str, wanted: impl Fn(&ReceiptState) -> bool) -> ReceiptState {
    soon(what, async {
        let mut state = receipt.state();
        while !wanted(&state) {
            assert!(!state.is_final(), "it ended as {state:?} before {what}");
            state = receipt.changed(&state).await;
        }
        state
    })
    .await
}

async fn kept_at(receipt: &Receipt, mailbox: PeerId) {
    let kept = ReceiptState::Queued { why: QueueReason::Mailbox { at: mailbox } };
    says(receipt, "the mailbox has it", |state| *state == kept).await;
}

/// Looks again and again: counters have no events of their own.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn holds_the_secret(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let bytes = files.filter(|path| path.is_file()).map(|path| std::fs::read(path).expect("readable"));
    bytes.into_iter().any(|bytes| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_gets_its_mail_once_and_in_order_though_all_were_stopped_meanwhile() {
    let place = Place::new();
    let port = free_port();
    let bob_id = place.identity("bob").await;
    let mailbox = place.mailbox("mailbox", port).await;
    let (mailbox_id, at) = (mailbox.local_peer_id(), known_address(&mailbox, port));

    let alice = place.node("alice", &[&at]).await;
    let mut receipts = Vec::new();
    for number in 0..20 {
        receipts.push(send(&alice, bob_id, &format!("{SECRET} {number}"), Priority::Medium));
    }
    receipts.push(send(&alice, bob_id, "urgent", Priority::High));
    for receipt in &receipts {
        kept_at(receipt, mailbox_id).await;
    }
    assert_eq!(mailbox.network_stats().mailbox.letters, receipts.len());
    assert_eq!(alice.network_stats().mailbox.deposited, receipts.len() as u64);
    let ids = receipts.iter().map(Receipt::id).collect::<Vec<_>>();
    alice.shutdown().await;
    for receipt in &receipts {
        assert!(matches!(receipt.delivered().await, Err(DeliveryError::Kept { .. })));
    }
    mailbox.shutdown().await;
    assert!(!holds_the_secret(&place.folder.path().join("mailbox")), "what is kept is sealed");

    // The mailbox remembers, and the recipient comes while the author is away.
    let mailbox = place.mailbox("mailbox", port).await;
    assert_eq!(mailbox.network_stats().mailbox.letters, ids.len(), "it has what it had");
    let bob = place.node("bob", &[&at]).await;
    let mut messages = bob.messages();
    let (mut everyday, mut urgent) = (Vec::new(), Vec::new());
    for _ in &ids {
        let message = next(&mut messages).await;
        assert_eq!((message.sender, message.redelivered), (alice.local_peer_id(), false));
        let text = String::from_utf8(message.payload.to_vec()).expect("text");
        if message.priority == Priority::High { urgent.push(text) } else { everyday.push(text) }
    }
    assert_eq!(urgent, ["urgent"]);
    assert_eq!(everyday, (0..20).map(|number| format!("{SECRET} {number}")).collect::<Vec<_>>());
    eventually("only confirmations are left", || {
        let stats = mailbox.network_stats().mailbox;
        stats.handed_over == ids.len() as u64 && (1..ids.len()).contains(&stats.letters)
    })
    .await;
    bob.shutdown().await;
    mailbox.shutdown().await;

    // The author comes back while the recipient is away, and hears that all has arrived.
    let mailbox = place.mailbox("mailbox", port).await;
    let alice = place.node("alice", &[&at]).await;
    let again = alice.receipts();
    assert_eq!(again.iter().map(Receipt::id).collect::<Vec<_>>(), ids);
    for receipt in &again {
        says(receipt, "delivered", |state| *state == ReceiptState::Delivered).await;
    }
    assert_eq!(alice.network_stats().mailbox.confirmed, ids.len() as u64);
    eventually("nothing is left", || mailbox.network_stats().mailbox.letters == 0).await;
    alice.shutdown().await;

    // Nothing comes a second time.
    let bob = place.node("bob", &[&at]).await;
    let mut messages = bob.messages();
    let alice = place.node("alice", &[&at]).await;
    send(&alice, bob_id, "the last", Priority::Medium);
    assert_eq!(text(&mut messages).await, "the last");
    assert!(nothing_waits(&mut messages));
    assert!(alice.receipts().len() <= 1, "nothing is left of the earlier ones");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_two_mailboxes_and_straight_is_shown_once() {
    let place = Place::new();
    let ports = [free_port(), free_port()];
    let bob_id = place.identity("bob").await;
    let one = place.mailbox("one", ports[0]).await;
    let two = place.mailbox("two", ports[1]).await;
    let at = [known_address(&one, ports[0]), known_address(&two, ports[1])];
    let alice = place.node("alice", &[&at[0], &at[1]]).await;
    let receipts = (0..50).map(|number| send(&alice, bob_id, &number.to_string(), Priority::Medium));
    let receipts = receipts.collect::<Vec<_>>();
    eventually("both have all", || [&one, &two].iter().all(|net| net.network_stats().mailbox.letters == 50)).await;
    for receipt in &receipts {
        assert!(matches!(receipt.state(), ReceiptState::Queued { why: QueueReason::Mailbox { .. } }));
    }

    let bob = place.node("bob", &[&at[0], &at[1]]).await;
    bob.connect(address(&alice)).await.expect("she listens");
    let mut messages = bob.messages();
    for number in 0..50 {
        assert_eq!(text(&mut messages).await, number.to_string());
    }
    for receipt in &receipts {
        says(receipt, "delivered", |state| *state == ReceiptState::Delivered).await;
    }
    eventually("both are empty", || [&one, &two].iter().all(|net| net.network_stats().mailbox.letters == 0)).await;
    send(&alice, bob_id, "the last", Priority::Medium);
    assert_eq!(text(&mut messages).await, "the last");
    assert!(nothing_waits(&mut messages));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_has_used_up_its_room_is_refused_and_others_are_not() {
    let place = Place::new();
    let port = free_port();
    let bob_id = place.identity("bob").await;
    let narrow = place.config("mailbox").mailbox(|mailbox| (mailbox.serve, mailbox.sender_letters) = (true, 2));
    let mailbox = start_at(port, narrow).await;
    let at = known_address(&mailbox, port);

    let alice = place.node("alice", &[&at]).await;
    let mut events = alice.events();
    let receipts = ["1", "2", "3"].map(|text| send(&alice, bob_id, text, Priority::Medium));
    let refused = event(&mut events, "a refusal", |event| match event {
        NetworkEvent::MailboxRefused { mailbox, recipient, reason } => Some((mailbox, recipient, reason)),
        _ => None,
    });
    assert_eq!(refused.await, (mailbox.local_peer_id(), bob_id, "sender_full".to_owned()));
    kept_at(&receipts[0], mailbox.local_peer_id()).await;
    kept_at(&receipts[1], mailbox.local_peer_id()).await;
    assert_eq!(receipts[2].state(), ReceiptState::Queued { why: QueueReason::NotConnected }, "it waits at home");
    assert_eq!(mailbox.network_stats().mailbox.refused["sender_full"], 1);

    let carol = place.node("carol", &[&at]).await;
    kept_at(&send(&carol, bob_id, "4", Priority::Medium), mailbox.local_peer_id()).await;
    assert_eq!(mailbox.network_stats().mailbox.letters, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_short_lived_large_or_done_in_bulk_waits_for_the_peer_itself() {
    let place = Place::new();
    let port = free_port();
    let bob_id = place.identity("bob").await;
    let mailbox = place.mailbox("mailbox", port).await;
    let at = known_address(&mailbox, port);
    let config = place.config("alice").limits(|limits| limits.max_payload = 1 << 20).bootstrap(&at.to_string());
    let alice = start(config).await;
    connected(&alice, mailbox.local_peer_id()).await;

    let soon_over = Message::event("soon over").with_ttl(Duration::from_secs(30));
    let large = Message::event(vec![7; 64 * 1024 + 1]);
    let not_kept = [
        alice.send_message(bob_id, soon_over, Priority::High).expect("accepted"),
        alice.send_message(bob_id, large, Priority::High).expect("accepted"),
        send(&alice, bob_id, "in bulk", Priority::Low),
    ];
    let kept = [
        alice.send_message(bob_id, Message::event(vec![7; 64 * 1024]), Priority::High).expect("accepted"),
        alice
            .send_message(bob_id, Message::event("for an hour").with_ttl(Duration::from_secs(3600)), Priority::Medium)
            .expect("accepted"),
    ];
    for receipt in &kept {
        kept_at(receipt, mailbox.local_peer_id()).await;
    }
    for receipt in &not_kept {
        assert_eq!(receipt.state(), ReceiptState::Queued { why: QueueReason::NotConnected });
    }
    assert_eq!(mailbox.network_stats().mailbox.letters, kept.len());
    // A relay's or a stranger's id may be a hash, to which nothing can be sealed.
    let hashed = send(&alice, PeerId::random(), "nobody can read this", Priority::High);
    kept_at(&send(&alice, bob_id, "later", Priority::High), mailbox.local_peer_id()).await;
    assert_eq!(hashed.state(), ReceiptState::Queued { why: QueueReason::NotConnected });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_leaves_what_waits_at_once() {
    let place = Place::new();
    let port = free_port();
    let bob_id = place.identity("bob").await;
    let mailbox = place.mailbox("mailbox", port).await;
    let at = known_address(&mailbox, port);
    let config = place.config("alice").mailbox(|mailbox| mailbox.patience = Duration::from_secs(3600));
    let alice = start(config.bootstrap(&at.to_string())).await;
    until(&alice, "a mailbox", |net| net.peer_info(&mailbox.local_peer_id()).is_some_and(|info| info.mailbox)).await;
    send(&alice, bob_id, "goodbye", Priority::Medium);
    alice.shutdown().await;
    assert_eq!(mailbox.network_stats().mailbox.letters, 1);
    let bob = place.node("bob", &[&at]).await;
    assert_eq!(text(&mut bob.messages()).await, "goodbye");
}
