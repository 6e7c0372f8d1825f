//! Mail for peers that are away: left at a mailbox, collected by its recipient, and confirmed to its author, whoever is
//! there at the same time.

#![cfg(not(target_arch = "wasm32"))]

mod support;

#[allow(dead_code, missing_docs, clippy::all, reason = "what another implementation has of the wire: its own copy")]
#[rustfmt::skip]
#[path = "../src/wire/generated.rs"]
mod wire;

use std::{path::Path, time::Duration};

use cpc_net::{
    Message, Multiaddr, NetworkConfigBuilder, NetworkEvent, NetworkHandler, PeerId, Priority, QueueReason, Receipt,
    ReceiptState, error::DeliveryError,
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use prost::Message as _;
use support::{address, config, connected, event, network, next, nothing_waits, soon, start, text, until};
use wire::cpc_message::{Kind, Type};

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
        let config = at.iter().fold(self.config(name), |config, address| config.bootstrap(address.to_string()));
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
    messages.confirm();
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
        let kept = |state: &ReceiptState| matches!(state, ReceiptState::Queued { why: QueueReason::Mailbox { .. } });
        says(receipt, "a mailbox has it", kept).await;
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
    let config = place.config("alice").limits(|limits| limits.max_payload = 1 << 20).bootstrap(at.to_string());
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
    let alice = start(config.bootstrap(at.to_string())).await;
    until(&alice, "a mailbox", |net| net.peer_info(&mailbox.local_peer_id()).is_some_and(|info| info.mailbox)).await;
    send(&alice, bob_id, "goodbye", Priority::Medium);
    alice.shutdown().await;
    assert_eq!(mailbox.network_stats().mailbox.letters, 1);
    let bob = place.node("bob", &[&at]).await;
    assert_eq!(text(&mut bob.messages()).await, "goodbye");
}

/// A peer of its own make: plain libp2p, one lane each way, frames as it likes.
struct Stranger {
    id: PeerId,
    lane: libp2p::Stream,
    incoming: libp2p_stream::IncomingStreams,
    heard: Option<libp2p::Stream>,
}

const PROTOCOL: libp2p::StreamProtocol = libp2p::StreamProtocol::new("/cpc/1.0.0");

impl Stranger {
    async fn connect(to: &NetworkHandler) -> Self {
        let key = libp2p::identity::Keypair::generate_ed25519();
        let mut swarm = libp2p::SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
            .expect("TCP")
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .expect("a behaviour")
            .with_swarm_config(|config| config.with_idle_connection_timeout(support::PATIENCE))
            .build();
        let mut control = swarm.behaviour().new_control();
        let incoming = control.accept(PROTOCOL).expect("accepted once");
        swarm.dial(address(to)).expect("dialled");
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let node = to.local_peer_id();
        let lane = soon("a lane", async {
            loop {
                // Until the connection stands.
                if let Ok(lane) = control.open_stream(node, PROTOCOL).await {
                    return lane;
                }
                tokio::task::yield_now().await;
            }
        });
        Self { id: key.public().to_peer_id(), lane: lane.await, incoming, heard: None }
    }

    async fn say(&mut self, kind: Kind, payload: impl prost::Message) {
        let (message_type, kind) = (Type::Control.into(), kind.into());
        let payload = payload.encode_to_vec().into();
        let frame = wire::CpcMessage { message_type, kind, payload, ..Default::default() };
        self.lane.write_all(&frame.encode_length_delimited_to_vec()).await.expect("written");
        self.lane.flush().await.expect("flushed");
    }

    /// The next that the node says as a mailbox.
    async fn mail(&mut self) -> wire::Mail {
        soon("mail", async {
            loop {
                if self.heard.is_none() {
                    self.heard = self.incoming.next().await.map(|(_, stream)| stream);
                }
                let stream = self.heard.as_mut().expect("the node opens a lane");
                let Some(frame) = frame(stream).await else {
                    self.heard = None;
                    continue;
                };
                if frame.kind == i32::from(Kind::Mail) {
                    return wire::Mail::decode(frame.payload).expect("mail");
                }
            }
        })
        .await
    }

    async fn deposit(&mut self, number: u64, recipient: PeerId, sealed: usize) -> String {
        let deposit = wire::Deposit {
            number,
            ticket: number,
            recipient: recipient.to_bytes().into(),
            keep_for: 3_600_000,
            sealed: vec![7; sealed].into(),
        };
        self.say(Kind::Deposit, deposit).await;
        let answer = self.mail().await.answers.remove(0);
        assert_eq!(answer.number, number);
        answer.refused
    }
}

async fn frame(stream: &mut libp2p::Stream) -> Option<wire::CpcMessage> {
    let mut prefix = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        prefix.push(byte[0]);
        if byte[0] < 0x80 {
            break;
        }
    }
    let mut frame = vec![0; prost::decode_length_delimiter(&prefix[..]).expect("a length")];
    stream.read_exact(&mut frame).await.ok()?;
    Some(wire::CpcMessage::decode(&frame[..]).expect("a frame"))
}

/// What the smallest sealed content comes to.
const SMALLEST: usize = 256 + 97;

fn everything(run: u32, taken: Vec<u64>) -> wire::Collect {
    wire::Collect { run, letters: u32::MAX, bytes: u32::MAX, taken, confirmations: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_or_takes_away_the_mail_of_another() {
    let place = Place::new();
    let port = free_port();
    let bob_id = place.identity("bob").await;
    let mailbox = place.mailbox("mailbox", port).await;
    let at = known_address(&mailbox, port);
    let alice = place.node("alice", &[&at]).await;
    kept_at(&send(&alice, bob_id, "for bob only", Priority::High), mailbox.local_peer_id()).await;

    let mut eve = Stranger::connect(&mailbox).await;
    eve.say(Kind::Collect, everything(1, (0..1000).collect())).await;
    // Her own mail is the first she gets; by then the mailbox has read what she said before.
    let mut mallory = Stranger::connect(&mailbox).await;
    assert_eq!(mallory.deposit(1, eve.id, SMALLEST).await, "");
    let piece = eve.mail().await.piece.expect("a letter");
    assert_eq!(&piece.sealed[..], vec![7; SMALLEST]);
    assert_eq!(mailbox.network_stats().mailbox.letters, 2);

    let bob = place.node("bob", &[&at]).await;
    assert_eq!(text(&mut bob.messages()).await, "for bob only");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_a_mailbox_harms_neither_the_mailbox_nor_who_collects_it() {
    let place = Place::new();
    let port = free_port();
    let bob_id = place.identity("bob").await;
    let config = place.config("mailbox").mailbox(|mailbox| (mailbox.serve, mailbox.sender_letters) = (true, 100));
    let mailbox = start_at(port, config).await;
    let at = known_address(&mailbox, port);

    // As much as the mailbox takes of one sender, and more.
    let mut mallory = Stranger::connect(&mailbox).await;
    for number in 1..=100 {
        assert_eq!(mallory.deposit(number, bob_id, SMALLEST).await, "", "{number}");
    }
    assert_eq!(mallory.deposit(101, bob_id, SMALLEST).await, "sender_full");
    assert_eq!(mallory.deposit(1, bob_id, SMALLEST).await, "", "the same again is the same");
    let alice = place.node("alice", &[&at]).await;
    let receipt = send(&alice, bob_id, "genuine", Priority::High);
    kept_at(&receipt, mailbox.local_peer_id()).await;

    let bob = place.node("bob", &[&at]).await;
    let mut messages = bob.messages();
    assert_eq!(text(&mut messages).await, "genuine");
    says(&receipt, "delivered", |state| *state == ReceiptState::Delivered).await;
    eventually("all garbage is counted and gone", || {
        bob.network_stats().rejections["wrong_seal"] == 100 && mailbox.network_stats().mailbox.letters == 0
    })
    .await;
    assert!(nothing_waits(&mut messages));
    let score = bob.peer_info(&mailbox.local_peer_id()).expect("connected").score;
    assert_eq!(score, 1.0, "the mailbox could not know");
    drop(mallory);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_asked_a_mailbox_for_is_rejected() {
    let place = Place::new();
    let net = start(place.config("net")).await;
    let mut events = net.events();
    let mut mallory = Stranger::connect(&net).await;
    let piece = wire::Piece { run: 0, slot: 1, confirmation: false, sealed: vec![7; SMALLEST].into() };
    mallory.say(Kind::Mail, wire::Mail { answers: Vec::new(), piece: Some(piece) }).await;
    let answer = wire::DepositAnswer { number: 77, kept_for: 1000, refused: String::new() };
    mallory.say(Kind::Mail, wire::Mail { answers: vec![answer], piece: None }).await;
    for _ in 0..2 {
        let reason = event(&mut events, "a rejection", |event| match event {
            NetworkEvent::MessageRejected { peer, reason, .. } if peer == mallory.id => Some(reason),
            _ => None,
        });
        assert_eq!(reason.await, cpc_net::RejectReason::Unsolicited);
    }
    // Nor is it a mailbox for others.
    assert_eq!(mallory.deposit(1, place.identity("bob").await, SMALLEST).await, "unwilling");
    mallory.say(Kind::Deposit, wire::Deposit { sealed: vec![7; 100].into(), ..Default::default() }).await;
    let reason = event(&mut events, "a rejection", |event| match event {
        NetworkEvent::MessageRejected { peer, reason, .. } if peer == mallory.id => Some(reason),
        _ => None,
    });
    assert_eq!(reason.await, cpc_net::RejectReason::Malformed);
}
