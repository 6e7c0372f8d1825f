//! The core alone: facts in, wishes out, on a clock that the tests turn.

mod replayed;

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use super::*;
use crate::{
    event::{DiscoverTarget, DiscoverySource, NetworkEvent, StateCause},
    frame::{Addressing, Content, Incoming, Letter, NonceRange, Passing, Post, PostId, SignedRecord},
    message::{MessageKind, Priority},
    peer::{ConnectTarget, ConnectionKind},
    receipt::ReceiptState,
};

/// A core, its clock, and what it has wished for so far.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Now,
    links: u64,
}

impl Bench {
    pub(super) fn new(configure: impl FnOnce(&mut NetworkConfig)) -> Self {
        Self::seeded(1, configure)
    }

    fn seeded(seed: u64, configure: impl FnOnce(&mut NetworkConfig)) -> Self {
        let mut config = NetworkConfig::default();
        configure(&mut config);
        // The largest id is the polite one; the smallest dials at once.
        let local = PeerId::from_bytes(&[&[0, 36, 8, 1, 18, 32][..], &[0; 32]].concat()).expect("a peer id");
        let settings = Settings { local, config, reservations: 1, can_dial: |_| true, seed };
        let now = Now { since_start: Duration::ZERO, unix_millis: 1_000_000 };
        Self { core: Core::new(settings, now), now, links: 0 }
    }

    pub(super) fn handle(&mut self, input: Input) -> Vec<Output> {
        self.core.handle(self.now, input);
        std::iter::from_fn(|| self.core.poll()).collect()
    }

    /// Turns the clock to the next deadline and ticks.
    fn next_tick(&mut self) -> Vec<Output> {
        let deadline = self.core.next_deadline().expect("there is always upkeep");
        assert!(deadline >= self.now.since_start || deadline == Duration::ZERO, "deadlines don't lie in the past");
        self.now.since_start = self.now.since_start.max(deadline);
        self.handle(Input::Tick)
    }

    /// Ticks until a time has come.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<Output> {
        let until = self.now.since_start + time;
        let mut outputs = Vec::new();
        while self.core.next_deadline().is_some_and(|deadline| deadline <= until) {
            outputs.extend(self.next_tick());
        }
        self.now.since_start = until;
        outputs
    }

    pub(super) fn open(&mut self, peer: PeerId, outbound: bool, dial: Option<DialId>) -> (LinkId, Vec<Output>) {
        self.open_link(peer, &format!("/ip4/192.0.2.9/tcp/9/p2p/{peer}"), outbound, dial)
    }

    /// A connection at an address of any kind.
    pub(super) fn open_at(&mut self, peer: PeerId, at: &str, outbound: bool) -> (LinkId, Vec<Output>) {
        self.open_link(peer, at, outbound, None)
    }

    fn open_link(&mut self, peer: PeerId, at: &str, outbound: bool, dial: Option<DialId>) -> (LinkId, Vec<Output>) {
        self.links += 1;
        let (id, address) = (LinkId(self.links), address(at));
        let link = Link { id, kind: ConnectionKind::of(&address), address, outbound };
        (id, self.handle(Input::LinkOpened { peer, link, dial }))
    }

    /// A post of this node's.
    pub(super) fn post(&self, nonce: u64, topic: Topic) -> OutgoingMessage {
        let post = Post {
            id: PostId(u128::from(nonce).to_be_bytes()),
            author: self.core.settings.local,
            topic,
            passing: Passing::Gossip,
            priority: Priority::Medium,
            hops: 0,
            expires_at: None,
            frame: nonce.to_be_bytes().to_vec().into(),
        };
        OutgoingMessage { signed: Some(Box::new(post)), ..self.message(nonce, Priority::Medium, None) }
    }

    pub(super) fn send(&mut self, peer: PeerId, nonce: u64, priority: Priority) -> Vec<Output> {
        let message = self.message(nonce, priority, None);
        self.handle(Input::Send { peer, message })
    }

    pub(super) fn message(&self, nonce: u64, priority: Priority, ttl: Option<Duration>) -> OutgoingMessage {
        OutgoingMessage {
            letter: Letter {
                nonce,
                kind: MessageKind::Event,
                priority,
                addressing: Addressing::Anyone,
                created_at: self.now.unix_millis,
                ttl,
                payload: "hello".into(),
            },
            accepted_at: self.now.since_start,
            slept: Duration::ZERO,
            signed: None,
            kept: None,
        }
    }
}

pub(super) fn address(text: &str) -> Multiaddr {
    text.parse().expect("an address")
}

pub(super) fn transmitted(outputs: &[Output]) -> Vec<u64> {
    let frames = outputs.iter().filter_map(|output| match output {
        Output::Transmit { letter, .. } => Some(letter.nonce),
        _ => None,
    });
    frames.collect()
}

pub(super) fn dials(outputs: &[Output]) -> Vec<DialId> {
    let dials = outputs.iter().filter_map(|output| match output {
        Output::Dial { dial, .. } => Some(*dial),
        _ => None,
    });
    dials.collect()
}

fn causes(outputs: &[Output]) -> Vec<StateCause> {
    let causes = outputs.iter().filter_map(|output| match output {
        Output::Event(NetworkEvent::StateChanged { cause, .. }) => Some(cause.clone()),
        _ => None,
    });
    causes.collect()
}

#[test]
fn a_lost_peer_is_retried_with_growing_pauses_and_then_given_up() {
    let mut bench = Bench::new(|config| config.connections.retry_attempts = 4);
    let peer = PeerId::random();
    let target = ConnectTarget::Address(address(&format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}")));
    let outputs = bench.handle(Input::Connect(ConnectRequest { id: RequestId(1), target }));
    assert_eq!(causes(&outputs), [StateCause::Requested]);
    let mut dial = dials(&outputs)[0];
    let mut bounds = Vec::new();
    for attempt in 2..=5 {
        let outputs = bench.handle(Input::DialFailed { dial, reason: "refused".into() });
        assert_eq!(causes(&outputs), [StateCause::DialFailed { reason: "refused".into() }]);
        let failed_at = bench.now.since_start;
        dial = loop {
            let outputs = bench.next_tick();
            if let [dial] = dials(&outputs)[..] {
                assert_eq!(causes(&outputs), [StateCause::Retry { attempt }]);
                break dial;
            }
        };
        bounds.push(bench.now.since_start - failed_at);
    }
    for (failures, pause) in (1_u32..).zip(&bounds) {
        let bound = Duration::from_millis(500) * 2_u32.pow(failures);
        // Upkeep ticks every half second, so a retry is at most that much later than planned.
        assert!(*pause <= bound, "after {failures} failures at most {bound:?}, not {pause:?}");
    }
    bench.handle(Input::DialFailed { dial, reason: "refused".into() });
    let outputs = bench.pass(Duration::from_secs(10));
    assert!(dials(&outputs).is_empty() || causes(&outputs)[0] == StateCause::Maintenance, "{outputs:?}");
}

#[test]
fn a_bootstrap_node_is_never_given_up() {
    let peer = PeerId::random();
    let known = address(&format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}"));
    let mut bench = Bench::new(|config| {
        config.bootstrap = vec![known.clone()];
        config.connections.retry_attempts = 1;
        config.connections.retry_max = Duration::from_secs(1);
    });
    let mut outputs = bench.handle(Input::Tick);
    for _ in 0..20 {
        let dial = loop {
            if let Some(dial) = dials(&outputs).first() {
                break *dial;
            }
            outputs = bench.next_tick();
        };
        outputs = bench.handle(Input::DialFailed { dial, reason: "down".into() });
        let failed = outputs.iter().any(|output| {
            matches!(output, Output::Event(NetworkEvent::BootstrapFailed { address, .. }) if *address == known)
        });
        assert!(failed, "{outputs:?}");
        outputs.clear();
    }
}

#[test]
fn urgent_messages_leave_first_and_no_lane_is_overfilled() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    for nonce in 0..300 {
        assert!(transmitted(&bench.send(peer, nonce, Priority::Low)).is_empty());
    }
    bench.send(peer, 1000, Priority::Medium);
    bench.send(peer, 2000, Priority::High);
    let (link, outputs) = bench.open(peer, false, None);
    let sent = transmitted(&outputs);
    assert_eq!(sent[..4], [2000, 1000, 0, 1]);
    assert_eq!(sent.len(), 2 + 256, "the rest waits for room in the lane");
    let written = Input::Written { peer, link, priority: Priority::Low, count: 10, bytes: 0 };
    assert_eq!(transmitted(&bench.handle(written)), (256..266).collect::<Vec<_>>());
}

#[test]
fn what_was_under_way_when_a_connection_broke_is_sent_again_in_order() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    let (link, _) = bench.open(peer, false, None);
    for nonce in 1..=5 {
        assert_eq!(transmitted(&bench.send(peer, nonce, Priority::Medium)), [nonce]);
    }
    let acknowledged = Incoming { content: Content::Nothing, acknowledged: vec![NonceRange { first: 1, last: 2 }] };
    let outputs = bench.handle(Input::Frames { peer, link: LinkId(1), batch: vec![Ok(acknowledged)], bytes: 9 });
    let delivered = |nonce| Output::Receipt { nonce, state: ReceiptState::Delivered };
    assert!(outputs.contains(&delivered(1)) && outputs.contains(&delivered(2)) && !outputs.contains(&delivered(3)));

    bench.handle(Input::LinkClosed { peer, link, reason: "cut".into() });
    bench.send(peer, 6, Priority::Medium);
    let (_, outputs) = bench.open(peer, true, None);
    assert_eq!(transmitted(&outputs), [3, 4, 5, 6]);
}

#[test]
fn an_acknowledgement_that_does_not_come_means_sending_again_and_in_the_end_failure() {
    let mut bench = Bench::new(|config| {
        config.delivery.timeout = Duration::from_secs(12);
        config.delivery.acknowledge_timeout = Duration::from_secs(5);
    });
    let peer = PeerId::random();
    let (link, _) = bench.open(peer, false, None);
    bench.send(peer, 1, Priority::High);
    let written = || Input::Written { peer, link, priority: Priority::High, count: 1, bytes: 9 };
    bench.handle(written());
    let (mut outputs, mut again) = (Vec::new(), Vec::new());
    while bench.now.since_start < Duration::from_secs(13) {
        let ticked = bench.next_tick();
        if !transmitted(&ticked).is_empty() {
            again.push(bench.now.since_start.as_secs());
            bench.handle(written());
        }
        outputs.extend(ticked);
    }
    assert_eq!(again, [1, 3, 7], "nothing is measured yet: after one second, and each time twice as long");
    let waited = Duration::from_secs(12);
    let error = crate::error::DeliveryError::Unacknowledged { peer, waited };
    assert!(outputs.contains(&Output::Receipt { nonce: 1, state: ReceiptState::Failed { error } }), "{outputs:?}");
}

#[test]
fn acknowledgements_make_room_for_what_waits() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    let (link, _) = bench.open(peer, false, None);
    let mut sent = Vec::new();
    for nonce in 0..8300 {
        sent.extend(transmitted(&bench.send(peer, nonce, Priority::Medium)));
        let written = Input::Written { peer, link, priority: Priority::Medium, count: 1, bytes: 9 };
        sent.extend(transmitted(&bench.handle(written)));
    }
    assert_eq!(sent.len(), 8192, "no more is unacknowledged at a time");
    let acknowledged = vec![NonceRange { first: 0, last: 49 }];
    let batch = vec![Ok(Incoming { content: Content::Nothing, acknowledged })];
    let outputs = bench.handle(Input::Frames { peer, link: LinkId(1), batch, bytes: 9 });
    assert_eq!(transmitted(&outputs), (8192..8242).collect::<Vec<_>>());
}

#[test]
fn hostile_acknowledgements_end_nothing_that_is_not_theirs() {
    let mut bench = Bench::new(|_| {});
    let (peer, hostile) = (PeerId::random(), PeerId::random());
    bench.open(peer, false, None);
    bench.open(hostile, false, None);
    bench.send(peer, 7, Priority::High);
    let all = NonceRange { first: 0, last: u64::MAX };
    let backwards = NonceRange { first: u64::MAX, last: 0 };
    let claim = Incoming { content: Content::Nothing, acknowledged: vec![all, backwards] };
    let outputs = bench.handle(Input::Frames { peer: hostile, link: LinkId(1), batch: vec![Ok(claim)], bytes: 9 });
    assert!(!outputs.iter().any(|output| matches!(output, Output::Receipt { .. })), "{outputs:?}");
}

#[test]
fn a_core_replays_exactly_from_its_seed() {
    let peers = (0..20).map(|_| PeerId::random()).collect::<Vec<_>>();
    let run = |seed| {
        let mut bench = Bench::seeded(seed, |_| {});
        let mut all = Vec::new();
        for (port, peer) in (1..).zip(&peers) {
            let addresses = vec![address(&format!("/ip4/192.0.2.1/tcp/{port}"))];
            let input = Input::Discovered { peer: *peer, addresses, source: DiscoverySource::Mdns };
            all.extend(bench.handle(input));
        }
        for _ in 0..50 {
            let outputs = bench.next_tick();
            for dial in dials(&outputs) {
                all.extend(bench.handle(Input::DialFailed { dial, reason: "down".into() }));
            }
            all.extend(outputs);
        }
        all
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn as_many_peers_as_wanted_are_dialled_and_no_more() {
    let mut bench = Bench::new(|_| {});
    for port in 1..=30 {
        let addresses = vec![address(&format!("/ip4/192.0.2.1/tcp/{port}"))];
        bench.handle(Input::Discovered { peer: PeerId::random(), addresses, source: DiscoverySource::Dht });
    }
    let outputs = bench.pass(Duration::from_secs(3));
    assert_eq!(dials(&outputs).len(), 8);
}

#[test]
fn who_has_said_goodbye_is_not_dialled_again_at_once() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    let addresses = vec![address("/ip4/192.0.2.1/tcp/1")];
    bench.handle(Input::Discovered { peer, addresses, source: DiscoverySource::PeerExchange });
    let (link, _) = bench.open(peer, false, None);
    let goodbye = Incoming { content: Content::Goodbye, acknowledged: vec![] };
    bench.handle(Input::Frames { peer, link: LinkId(1), batch: vec![Ok(goodbye)], bytes: 1 });
    let outputs = bench.handle(Input::LinkClosed { peer, link, reason: "closed".into() });
    assert_eq!(causes(&outputs), [StateCause::Goodbye]);
    assert!(dials(&bench.pass(Duration::from_secs(30))).is_empty(), "its wish is respected");
    assert_eq!(dials(&bench.pass(Duration::from_secs(60))).len(), 1, "but not for ever");
}

#[test]
fn neighbours_are_told_of_each_other_and_only_news_is_passed_on() {
    let mut bench = Bench::new(|_| {});
    let (one, two) = (PeerId::random(), PeerId::random());
    let facts = PeerFacts {
        agent: "test\u{7}".into(),
        addresses: vec![],
        same_network: Some(true),
        speaks_cpc: true,
        relay: false,
        mailbox: false,
        signals_webrtc: false,
    };
    for peer in [one, two] {
        bench.open(peer, false, None);
        bench.handle(Input::Identified { peer, facts: facts.clone() });
    }
    assert_eq!(bench.core.view(bench.now, one).expect("known").info().agent.as_deref(), Some("test"));
    let record = SignedRecord {
        peer: one,
        sequence: 5,
        addresses: vec![address("/ip4/192.0.2.1/tcp/1")],
        envelope: "of one".into(),
    };
    let told = |bench: &mut Bench, record: &SignedRecord| {
        let content = Content::PeerList { records: vec![record.clone()], forged: vec![] };
        let incoming = Incoming { content, acknowledged: vec![] };
        let mut outputs =
            bench.handle(Input::Frames { peer: one, link: LinkId(1), batch: vec![Ok(incoming)], bytes: 1 });
        outputs.extend(bench.pass(Duration::from_millis(200)));
        outputs
    };
    let outputs = told(&mut bench, &record);
    let announced = |outputs: &[Output], to| {
        let list = ControlContent::PeerList(vec!["of one".into()]);
        let told = |output: &Output| matches!(output, Output::Control { peer, content, .. } if *peer == to && *content == list);
        outputs.iter().any(told)
    };
    assert!(announced(&outputs, two), "{outputs:?}");
    assert!(!announced(&outputs, one), "nobody hears of itself");
    assert!(!announced(&told(&mut bench, &record), two), "the same again is no news");
    let stale = SignedRecord { sequence: 4, ..record };
    assert!(!announced(&told(&mut bench, &stale), two), "nor is what is older");
}

#[test]
fn places_are_reserved_at_relays_and_again_when_they_are_lost() {
    let mut bench = Bench::new(|_| {});
    let relay = PeerId::random();
    bench.open(relay, true, None);
    let facts = PeerFacts {
        agent: "relay".into(),
        addresses: vec![],
        same_network: Some(true),
        speaks_cpc: true,
        relay: true,
        mailbox: false,
        signals_webrtc: false,
    };
    let reserved =
        |outputs: &[Output]| outputs.iter().filter(|output| matches!(output, Output::Reserve { .. })).count();
    assert_eq!(reserved(&bench.handle(Input::Identified { peer: relay, facts: facts.clone() })), 1);
    assert_eq!(reserved(&bench.handle(Input::Identified { peer: relay, facts })), 0, "one place is enough");
    let closed = Input::ListenClosed { addresses: vec![], reservation: Some(relay), reason: "expired".into() };
    assert_eq!(reserved(&bench.handle(closed)), 0, "not at once");
    assert_eq!(reserved(&bench.pass(Duration::from_secs(5))), 1);
}

#[test]
fn shutdown_waits_for_reachable_mail_only_and_not_for_ever() {
    let mut bench = Bench::new(|config| config.delivery.drain_timeout = Duration::from_secs(2));
    let (here, away) = (PeerId::random(), PeerId::random());
    let (link, _) = bench.open(here, false, None);
    bench.send(here, 1, Priority::High);
    bench.send(away, 2, Priority::High);
    assert!(!bench.handle(Input::Drain).contains(&Output::Drained));
    let acknowledged = Incoming { content: Content::Nothing, acknowledged: vec![NonceRange { first: 1, last: 1 }] };
    let outputs = bench.handle(Input::Frames { peer: here, link: LinkId(1), batch: vec![Ok(acknowledged)], bytes: 9 });
    assert!(
        outputs.contains(&Output::Drained)
            && outputs.contains(&Output::Control { peer: here, link, content: ControlContent::Goodbye })
    );
    let failed =
        outputs.iter().any(|output| matches!(output, Output::Receipt { nonce: 2, state: ReceiptState::Failed { .. } }));
    assert!(failed, "{outputs:?}");

    let mut bench = Bench::new(|config| config.delivery.drain_timeout = Duration::from_secs(2));
    bench.open(here, false, None);
    bench.send(here, 1, Priority::High);
    bench.handle(Input::Drain);
    assert!(
        bench.pass(Duration::from_secs(3)).contains(&Output::Drained),
        "a peer that never answers is not waited for"
    );
}

#[test]
fn searches_end_with_what_they_found() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    let target = DiscoverTarget::Peer(peer);
    let outputs = bench.handle(Input::Discover { target: target.clone() });
    assert!(outputs.contains(&Output::Search(Search::Peer(peer))));
    let again = bench.handle(Input::Discover { target: target.clone() });
    assert!(!again.contains(&Output::Search(Search::Peer(peer))), "one walk serves both");
    let addresses = vec![address("/ip4/192.0.2.1/tcp/1")];
    bench.handle(Input::Discovered { peer, addresses, source: DiscoverySource::Dht });
    let outputs = bench.handle(Input::SearchFinished { search: Search::Peer(peer) });
    let finished = Output::Event(NetworkEvent::DiscoveryFinished { target, found: 1 });
    assert_eq!(outputs.iter().filter(|output| **output == finished).count(), 2);
}

#[test]
fn broadcasts_wait_for_somebody_within_bounds() {
    let mut bench = Bench::new(|config| config.delivery.timeout = Duration::from_secs(3));
    let published =
        |outputs: &[Output]| outputs.iter().filter(|output| matches!(output, Output::Publish { .. })).count();
    let message = bench.post(1, Topic::All);
    assert_eq!(published(&bench.handle(Input::Post { message: message.clone() })), 1);
    bench.handle(Input::PublishFailed { message: message.clone() });
    assert_eq!(published(&bench.handle(Input::Post { message: message.clone() })), 0, "it has to queue up");
    assert_eq!(published(&bench.handle(Input::Subscribed { topic: Topic::All })), 0, "others may follow");
    assert_eq!(published(&bench.pass(Duration::from_millis(100))), 2, "somebody came");
    bench.handle(Input::PublishFailed { message: message.clone() });
    for _ in 0..300 {
        bench.handle(Input::PublishFailed { message: message.clone() });
    }
    assert_eq!(bench.core.stats().broadcasts_dropped, 45, "more than 256 are not kept");
    while bench.now.since_start < Duration::from_secs(5) {
        for output in bench.next_tick() {
            if let Output::Publish { message } = output {
                bench.handle(Input::PublishFailed { message });
            }
        }
    }
    assert_eq!(bench.core.stats().broadcasts_dropped, 301, "nor any for longer than the time-out");
}

#[test]
fn a_node_of_another_network_is_let_go_for_good() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    let addresses = vec![address("/ip4/192.0.2.1/tcp/1")];
    bench.handle(Input::Discovered { peer, addresses, source: DiscoverySource::Mdns });
    let dial = dials(&bench.pass(Duration::from_secs(3)))[0];
    let (link, _) = bench.open(peer, true, Some(dial));
    let facts = PeerFacts {
        agent: "other".into(),
        addresses: vec![],
        same_network: Some(false),
        speaks_cpc: true,
        relay: false,
        mailbox: false,
        signals_webrtc: false,
    };
    assert!(bench.handle(Input::Identified { peer, facts }).contains(&Output::ClosePeer(peer)));
    bench.handle(Input::LinkClosed { peer, link, reason: "closed".into() });
    assert!(dials(&bench.pass(Duration::from_secs(300))).is_empty());
}

#[test]
fn connecting_to_a_peer_that_is_just_leaving_waits_for_its_end() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    let (link, _) = bench.open(peer, true, None);
    bench.handle(Input::Disconnect { request: RequestId(1), peer });
    let target = ConnectTarget::Peer(peer);
    assert!(dials(&bench.handle(Input::Connect(ConnectRequest { id: RequestId(2), target }))).is_empty());
    let outputs = bench.handle(Input::LinkClosed { peer, link, reason: "closed".into() });
    assert!(outputs.contains(&Output::Answer { request: RequestId(1), result: Ok(peer) }), "{outputs:?}");
    let dial = dials(&bench.pass(Duration::from_secs(5)))[0];
    let (_, outputs) = bench.open(peer, true, Some(dial));
    assert!(outputs.contains(&Output::Answer { request: RequestId(2), result: Ok(peer) }), "{outputs:?}");
}

#[test]
fn a_peer_that_drops_every_connection_at_once_is_tried_ever_more_rarely() {
    let known = PeerId::random();
    let mut bench = Bench::new(|config| {
        config.bootstrap = vec![address(&format!("/ip4/192.0.2.1/tcp/1/p2p/{known}"))];
    });
    bench.handle(Input::Tick);
    let mut dialled = 1;
    let mut dial = DialId(1);
    while bench.now.since_start < Duration::from_secs(120) {
        let (link, _) = bench.open(known, true, Some(dial));
        bench.handle(Input::LinkClosed { peer: known, link, reason: "no room".into() });
        dial = loop {
            if let Some(dial) = dials(&bench.next_tick()).first() {
                break *dial;
            }
        };
        dialled += 1;
    }
    assert!(dialled < 25, "{dialled} dials in two minutes");
}

#[test]
fn mail_for_a_peer_nobody_knows_is_looked_after_again_and_again() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    let searches = |outputs: &[Output]| outputs.iter().filter(|output| matches!(output, Output::Search(_))).count();
    assert_eq!(searches(&bench.send(peer, 1, Priority::High)), 1);
    bench.handle(Input::SearchFinished { search: Search::Peer(peer) });
    assert!(searches(&bench.pass(Duration::from_secs(20))) >= 1, "the first walk may have come too early");
}

#[test]
fn a_message_that_breaks_every_lane_is_given_up() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    let (link, _) = bench.open(peer, false, None);
    let mut outputs = bench.send(peer, 1, Priority::High);
    let mut sent = 0;
    while !transmitted(&outputs).is_empty() {
        sent += transmitted(&outputs).len();
        outputs = bench.handle(Input::Lost { peer, link, priority: Priority::High, count: 1 });
    }
    assert_eq!(sent, 20);
    let failed = |output: &Output| matches!(output, Output::Receipt { state: ReceiptState::Failed { .. }, .. });
    assert!(outputs.iter().any(failed), "{outputs:?}");
}

#[test]
fn a_forgotten_peer_and_ended_mail_are_shown_as_such() {
    let mut bench = Bench::new(|config| config.discovery.known_peers = 8);
    for _ in 0..20 {
        let peer = PeerId::random();
        bench.handle(Input::Discovered { peer, addresses: vec![], source: DiscoverySource::PeerExchange });
    }
    let views = bench.core.take_changed().into_iter().filter(|peer| bench.core.view(bench.now, *peer).is_some());
    assert_eq!(views.count(), 8, "all others are known to be gone");
    let peer = PeerId::random();
    let message = bench.message(1, Priority::High, Some(Duration::from_secs(1)));
    bench.handle(Input::Send { peer, message });
    assert!(bench.core.take_changed().contains(&peer));
    bench.pass(Duration::from_secs(2));
    assert!(bench.core.take_changed().contains(&peer), "its mail has expired");
}

/// How long a node waits at the longest between 20 failed dials of its one bootstrap node.
fn longest_pause(bench: &mut Bench) -> Duration {
    let mut dial = DialId(1);
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let failed_at = bench.now.since_start;
        bench.handle(Input::DialFailed { dial, reason: "down".into() });
        dial = loop {
            if let Some(dial) = dials(&bench.next_tick()).first() {
                break *dial;
            }
        };
        longest = longest.max(bench.now.since_start - failed_at);
    }
    longest
}

#[test]
fn a_node_without_its_bootstrap_nodes_tries_them_often() {
    let known = PeerId::random();
    let new = || {
        Bench::new(|config| {
            config.bootstrap = vec![address(&format!("/ip4/192.0.2.1/tcp/1/p2p/{known}"))];
        })
    };
    assert!(longest_pause(&mut new()) <= Duration::from_secs(2), "it has nobody else");
    let mut bench = new();
    bench.open(PeerId::random(), false, None);
    let pause = longest_pause(&mut bench);
    assert!(pause > Duration::from_secs(2) && pause <= Duration::from_secs(10), "it has a friend, who is not a relay");
}
