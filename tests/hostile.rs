//! Peers that mean harm, or speak badly: each offence is a counted rejection with its reason, and the node lives on.

#![cfg(not(target_arch = "wasm32"))]

mod support;

#[allow(dead_code, missing_docs, clippy::all, reason = "what another implementation has of the wire: its own copy")]
#[rustfmt::skip]
#[path = "../src/wire/generated.rs"]
mod wire;

use cpc_net::{
    Authenticity, Delivery, Message, MessageId, MessageKind, Multiaddr, NetworkEvent, NetworkHandler, PeerId, Priority,
    RejectReason,
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Stream, StreamProtocol, Swarm, SwarmBuilder,
    core::{PeerRecord, SignedEnvelope},
    identity::Keypair,
    swarm::SwarmEvent,
};
use prost::Message as _;
use support::{address, config, event, network, next, soon, start, text};
use wire::{
    CpcMessage, ErrorReport, PeerList,
    cpc_message::{Kind, Type},
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/cpc/1.0.0");

/// A peer of its own make: plain libp2p with raw streams, nothing of this crate's.
struct Stranger {
    key: Keypair,
    control: libp2p_stream::Control,
    node: PeerId,
    incoming: libp2p_stream::IncomingStreams,
}

impl Stranger {
    async fn connect(address: Multiaddr, node: PeerId) -> Self {
        let key = Keypair::generate_ed25519();
        let mut swarm = SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
            .expect("TCP")
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .expect("a behaviour")
            .with_swarm_config(|config| config.with_idle_connection_timeout(support::PATIENCE))
            .build();
        let mut control = swarm.behaviour().new_control();
        let incoming = control.accept(PROTOCOL).expect("accepted once");
        swarm.dial(address).expect("dialled");
        soon("the stranger's connection", established(&mut swarm)).await;
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { key, control, node, incoming }
    }

    fn peer(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    async fn open(&mut self) -> Stream {
        self.control.open_stream(self.node, PROTOCOL).await.expect("the node speaks the protocol")
    }

    /// Sends bytes as they are on a stream of their own.
    async fn send_raw(&mut self, bytes: &[u8]) -> Stream {
        let mut stream = self.open().await;
        stream.write_all(bytes).await.expect("written");
        stream.flush().await.expect("flushed");
        stream
    }

    async fn send(&mut self, message: &CpcMessage) -> Stream {
        self.send_raw(&message.encode_length_delimited_to_vec()).await
    }

    /// Signs as proto/cpc.proto says.
    fn signed(&self, mut message: CpcMessage) -> CpcMessage {
        message.sender = self.peer().to_bytes().into();
        let content = [b"cpc-net/1.0.0/msg:".to_vec(), message.encode_to_vec()].concat();
        message.signature = self.key.sign(&content).expect("Ed25519 signs").into();
        message
    }

    /// The next frame that the node sends.
    async fn hear(&mut self) -> CpcMessage {
        soon("a frame from the node", async {
            let (_, mut stream) = self.incoming.next().await.expect("the node opens a lane");
            let mut prefix = Vec::new();
            loop {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.expect("a byte");
                prefix.push(byte[0]);
                if byte[0] < 0x80 {
                    break;
                }
            }
            let mut frame = vec![0; prost::decode_length_delimiter(&prefix[..]).expect("a length")];
            stream.read_exact(&mut frame).await.expect("the whole frame");
            CpcMessage::decode(&frame[..]).expect("a frame")
        })
        .await
    }
}

/// What a stranger sends.
type Bytes = Box<dyn Fn(&Stranger) -> Vec<u8>>;

async fn established(swarm: &mut Swarm<libp2p_stream::Behaviour>) {
    while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
}

async fn rejected(events: &mut cpc_net::Events) -> (PeerId, RejectReason) {
    event(events, "a rejection", |event| match event {
        NetworkEvent::MessageRejected { peer, reason, .. } => Some((peer, reason)),
        _ => None,
    })
    .await
}

fn count(net: &NetworkHandler, reason: RejectReason) -> u64 {
    net.network_stats().rejections[reason.as_str()]
}

/// The node still serves others, and even the offender.
async fn lives_on(net: &NetworkHandler, network: &str) {
    let friend = start(config(network).no_listen()).await;
    friend.connect(address(net)).await.expect("connects");
    let receipt =
        friend.send_message(net.local_peer_id(), Message::event("all well?"), Priority::High).expect("accepted");
    assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
}

#[tokio::test]
async fn each_offence_is_counted_with_its_reason_and_costs_the_sender() {
    let network = network();
    let net = start(config(&network)).await;
    let (mut events, local) = (net.events(), net.local_peer_id());
    let data = |content: &'static str| CpcMessage { nonce: 7, payload: content.into(), ..Default::default() };
    let flipped = move |stranger: &Stranger| {
        let mut message = stranger.signed(CpcMessage { created_at: 1, ..data("x") });
        message.payload = "y".into();
        message
    };
    let for_another = CpcMessage { recipient: PeerId::random().to_bytes().into(), ..data("x") };
    let offences: Vec<(RejectReason, Bytes)> = vec![
        (RejectReason::Malformed, Box::new(|_| vec![3, 0xff, 0xff, 0xff])),
        (
            RejectReason::Malformed,
            Box::new(|_| CpcMessage { priority: 9, ..Default::default() }.encode_length_delimited_to_vec()),
        ),
        (RejectReason::Oversized, Box::new(|_| vec![0x80, 0x80, 0x80, 0x80, 0x10])),
        (
            RejectReason::Oversized,
            Box::new(move |_| {
                CpcMessage { payload: vec![0; 65_537].into(), ..Default::default() }.encode_length_delimited_to_vec()
            }),
        ),
        (RejectReason::WrongSignature, Box::new(move |stranger| flipped(stranger).encode_length_delimited_to_vec())),
        (
            RejectReason::WrongSignature,
            Box::new(move |_| {
                let made_up = CpcMessage { sender: local.to_bytes().into(), ..data("x") };
                made_up.encode_length_delimited_to_vec()
            }),
        ),
        (
            RejectReason::Unsigned,
            Box::new(|_| CpcMessage { ttl: 5, ..Default::default() }.encode_length_delimited_to_vec()),
        ),
        (
            RejectReason::WrongRecipient,
            Box::new(move |stranger| stranger.signed(for_another.clone()).encode_length_delimited_to_vec()),
        ),
        (
            RejectReason::UnknownGroup,
            Box::new(move |stranger| {
                stranger.signed(CpcMessage { group: "readers".into(), ..data("x") }).encode_length_delimited_to_vec()
            }),
        ),
        (
            RejectReason::Expired,
            Box::new(move |stranger| {
                stranger.signed(CpcMessage { created_at: 1, ttl: 1, ..data("x") }).encode_length_delimited_to_vec()
            }),
        ),
        (
            RejectReason::TooManyHops,
            Box::new(move |stranger| {
                let mut message = stranger.signed(CpcMessage { created_at: 1, ..data("x") });
                message.hops = 8;
                message.encode_length_delimited_to_vec()
            }),
        ),
    ];
    for (reason, bytes) in offences {
        let mut stranger = Stranger::connect(address(&net), local).await;
        let before = count(&net, reason);
        let _stream = stranger.send_raw(&bytes(&stranger)).await;
        assert_eq!(rejected(&mut events).await, (stranger.peer(), reason));
        assert_eq!(count(&net, reason), before + 1, "{reason:?}");
        let score = net.peer_info(&stranger.peer()).expect("connected").score;
        assert!(score < 1.0, "{reason:?} costs: {score}");

        let reply = stranger.hear().await;
        assert_eq!((reply.message_type, reply.kind), (Type::Control.into(), Kind::Error.into()), "{reason:?}");
        let report = ErrorReport::decode(reply.payload).expect("a report");
        assert_eq!(report.reason, reason.as_str());
    }
    lives_on(&net, &network).await;
    assert_eq!(net.network_stats().messages_received.total(), 1, "nothing of it reached the app");
}

#[tokio::test]
async fn a_stream_cut_inside_a_frame_is_truncated() {
    let network = network();
    let net = start(config(&network)).await;
    let mut events = net.events();
    let mut stranger = Stranger::connect(address(&net), net.local_peer_id()).await;
    let mut stream = stranger.send_raw(&[100, 1, 2, 3]).await;
    stream.close().await.expect("closed");
    assert_eq!(rejected(&mut events).await, (stranger.peer(), RejectReason::Truncated));
    lives_on(&net, &network).await;
}

#[tokio::test]
async fn more_lanes_than_anybody_needs_are_refused() {
    let network = network();
    let net = start(config(&network)).await;
    let mut events = net.events();
    let mut stranger = Stranger::connect(address(&net), net.local_peer_id()).await;
    let mut lanes = Vec::new();
    for _ in 0..9 {
        lanes.push(stranger.open().await);
    }
    assert_eq!(rejected(&mut events).await, (stranger.peer(), RejectReason::TooManyLanes));
    lives_on(&net, &network).await;
}

#[tokio::test]
async fn the_five_fields_of_another_implementation_are_a_message() {
    let net = start(config(&network())).await;
    let mut messages = net.messages();
    let mut stranger = Stranger::connect(address(&net), net.local_peer_id()).await;
    for (nonce, signature) in [(u64::MAX, vec![]), (3, vec![1, 2, 3]), (4, vec![0; 64])] {
        let five = CpcMessage {
            nonce,
            priority: 2,
            payload: "plain".into(),
            signature: signature.into(),
            ..Default::default()
        };
        stranger.send(&five).await;
        let message = next(&mut messages).await;
        assert_eq!(message.id, MessageId { sender: stranger.peer(), nonce });
        assert_eq!((&message.payload[..], message.priority), (&b"plain"[..], Priority::High));
        assert_eq!((message.kind, message.delivery), (MessageKind::Event, Delivery::Direct));
        assert_eq!((message.authenticity, message.created_at), (Authenticity::Connection, None));
    }
}

#[tokio::test]
async fn a_signed_message_of_another_implementation_is_acknowledged_once_and_taken_once() {
    let net = start(config(&network())).await;
    let mut messages = net.messages();
    let mut stranger = Stranger::connect(address(&net), net.local_peer_id()).await;
    let nonce = 1 << 40;
    let recipient = net.local_peer_id().to_bytes().into();
    let message = stranger.signed(CpcMessage { nonce, payload: "signed".into(), recipient, ..Default::default() });
    stranger.send(&message).await;
    let received = next(&mut messages).await;
    assert_eq!((&received.payload[..], received.authenticity), (&b"signed"[..], Authenticity::Signed));
    let reply = stranger.hear().await;
    assert_eq!((reply.kind, reply.acknowledged.len()), (Kind::Acknowledge.into(), 1));
    assert_eq!((reply.acknowledged[0].first, reply.acknowledged[0].last), (nonce, nonce));

    // Sent again, as after a lost acknowledgement; then something new, which arrives next.
    stranger.send(&message).await;
    let new = stranger.signed(CpcMessage { nonce: nonce + 1, payload: "new".into(), ..Default::default() });
    stranger.send(&new).await;
    assert_eq!(text(&mut messages).await, "new");

    // Many more, until the first one is older than everything that is remembered; then the first one once more: refused
    // rather than taken twice.
    let mut events = net.events();
    let signed = |nonce| stranger.signed(CpcMessage { nonce, ..Default::default() }).encode_length_delimited_to_vec();
    // Not in a row: a row is remembered at no cost, however long it is.
    let mut many = (1..16_500).flat_map(|offset| signed(nonce + 2 * offset + 1)).collect::<Vec<_>>();
    many.extend(message.encode_length_delimited_to_vec());
    stranger.send_raw(&many).await;
    assert_eq!(rejected(&mut events).await.1, RejectReason::Replayed);
    assert_eq!(net.network_stats().duplicates, 1);
}

#[tokio::test]
async fn a_broadcast_to_neighbours_is_its_authors_to_send() {
    let net = start(config(&network())).await;
    let (mut events, mut messages) = (net.events(), net.messages());
    let mut author = Stranger::connect(address(&net), net.local_peer_id()).await;
    let mut other = Stranger::connect(address(&net), net.local_peer_id()).await;
    let words = author.signed(CpcMessage { nonce: 9, neighbors: true, payload: "psst".into(), ..Default::default() });
    other.send(&words).await;
    assert_eq!(rejected(&mut events).await, (other.peer(), RejectReason::WrongRecipient));
    author.send(&words).await;
    assert_eq!(next(&mut messages).await.delivery, Delivery::Neighbors);
}

#[tokio::test]
async fn a_record_that_somebody_else_signed_is_forged() {
    let net = start(config(&network())).await;
    let mut events = net.events();
    let mut stranger = Stranger::connect(address(&net), net.local_peer_id()).await;
    let victim = Keypair::generate_ed25519();
    let genuine = PeerRecord::new(&victim, vec!["/ip4/192.0.2.1/tcp/1".parse().expect("an address")]).expect("signed");
    // The victim's record, in an envelope that the stranger signs.
    let (payload, _) = genuine
        .to_signed_envelope()
        .payload_and_signing_key("libp2p-routing-state".to_owned(), b"/libp2p/routing-state-record")
        .map(|(payload, key)| (payload.to_vec(), key.clone()))
        .expect("genuine");
    let forged = SignedEnvelope::new(
        &stranger.key,
        "libp2p-routing-state".to_owned(),
        b"/libp2p/routing-state-record".to_vec(),
        payload,
    )
    .expect("signed");
    let list =
        PeerList { signed_peer_records: vec![forged.into_protobuf_encoding().into(), b"garbage".as_slice().into()] };
    let message = CpcMessage {
        message_type: Type::Discovery.into(),
        kind: Kind::PeerList.into(),
        payload: list.encode_to_vec().into(),
        ..Default::default()
    };
    stranger.send(&message).await;
    for _ in 0..2 {
        assert_eq!(rejected(&mut events).await, (stranger.peer(), RejectReason::ForgedRecord));
    }
    assert!(net.peer_info(&victim.public().to_peer_id()).is_none(), "nothing was learned of the victim");
}

#[tokio::test]
async fn a_peer_that_does_not_speak_the_protocol_is_said_to() {
    let network = network();
    let net = start(config(&network)).await;
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
        .expect("TCP")
        .with_behaviour(|_| libp2p::ping::Behaviour::default())
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(support::PATIENCE))
        .build();
    let stranger = *swarm.local_peer_id();
    swarm.dial(address(&net)).expect("dialled");
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    support::connected(&net, stranger).await;
    let receipt = net.send_message(stranger, Message::event("hello?"), Priority::High).expect("accepted");
    let error = soon("the refusal", receipt.delivered()).await.expect_err("it can't read it");
    assert!(error.to_string().contains("/cpc/1.0.0"), "{error}");
}

#[tokio::test]
async fn a_neighbour_that_rejects_a_message_is_believed() {
    let network = network();
    let net = start(config(&network)).await;
    let small = start(config(&network).limits(|limits| limits.max_payload = 100)).await;
    net.connect(address(&small)).await.expect("connects");
    let receipt =
        net.send_message(small.local_peer_id(), Message::event(vec![0; 200]), Priority::High).expect("accepted");
    let error = soon("the rejection", receipt.delivered()).await.expect_err("too large for the other");
    assert!(
        matches!(&error, cpc_net::error::DeliveryError::Rejected { reason, .. } if reason == "oversized"),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_nobody_else() {
    let network = network();
    let net = start(config(&network)).await;
    let stuck = Stranger::connect(address(&net), net.local_peer_id()).await;
    let quick = start(config(&network)).await;
    let mut messages = quick.messages();
    net.connect(address(&quick)).await.expect("connects");
    // More than its window takes, so that they fill it, the system's buffers and the lane.
    let payload = (0..60_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect::<Vec<_>>();
    let unread = (0..200)
        .map(|_| {
            net.send_message(stuck.peer(), Message::event(payload.clone()), Priority::High).expect("room in the outbox")
        })
        .collect::<Vec<_>>();
    for round in 0..100 {
        let receipt = net
            .send_message(quick.local_peer_id(), Message::event(format!("{round}")), Priority::Low)
            .expect("accepted");
        assert_eq!(text(&mut messages).await, format!("{round}"));
        assert_eq!(soon("the receipt", receipt.delivered()).await, Ok(()));
    }
    assert!(unread.iter().all(|receipt| !receipt.state().is_final()), "nobody has read them");
}
