//! The outbox alone, against a peer that is simulated: two links that lose, delay, break and come back, on a clock that
//! the test turns.

mod luck;
mod overload;
mod ways;

use super::*;
use crate::{
    core::{Link, LinkId},
    frame::{Addressing, Letter},
    message::MessageKind,
    peer::ConnectionKind,
    receipt::{QueueReason, Way},
};

const DIRECT: LinkId = LinkId(1);
const RELAYED: LinkId = LinkId(2);

struct Bench {
    outbox: Outbox,
    now: Now,
    peer: PeerId,
    nonce: u64,
    out: Vec<Output>,
}

impl Bench {
    fn new(configure: impl FnOnce(&mut NetworkConfig)) -> Self {
        let mut config = NetworkConfig::default();
        configure(&mut config);
        let peer = PeerId::random();
        Self { outbox: Outbox::new(&config), now: Now::default(), peer, nonce: 0, out: Vec::new() }
    }

    fn open(&mut self, link: LinkId) {
        let kind = if link == RELAYED { ConnectionKind::Relayed } else { ConnectionKind::Quic };
        let address = "/ip4/192.0.2.1/tcp/1".parse().expect("an address");
        let link = Link { id: link, kind, address, outbound: true };
        self.outbox.link_opened(self.now, self.peer, &link, &mut self.out);
        self.pump();
        self.outbox.tell_connected(self.peer, &mut self.out);
    }

    /// Something comes by a link.
    fn hear(&mut self, link: LinkId) {
        if self.outbox.heard(self.now, self.peer, link) {
            self.pump();
        }
    }

    /// Which links were asked whether they live, since the last look.
    fn probed(&mut self) -> Vec<LinkId> {
        let probes = self.out.extract_if(.., |output| matches!(output, Output::Probe(_)));
        probes.map(|output| if let Output::Probe(link) = output { link } else { unreachable!("only those") }).collect()
    }

    fn close(&mut self, link: LinkId) -> u64 {
        let failed = self.outbox.link_closed(self.peer, link, &mut self.out);
        self.pump();
        failed
    }

    fn send(&mut self, priority: Priority, payload: usize) -> u64 {
        self.send_to(self.peer, priority, payload, None)
    }

    fn send_to(&mut self, peer: PeerId, priority: Priority, payload: usize, ttl: Option<Duration>) -> u64 {
        self.nonce += 1;
        let letter = Letter {
            nonce: self.nonce,
            kind: MessageKind::Event,
            priority,
            addressing: Addressing::Peer(peer),
            created_at: 0,
            ttl,
            payload: vec![0; payload].into(),
        };
        let accepted_at = self.now.since_start;
        let message = OutgoingMessage { letter, accepted_at, slept: Duration::ZERO, signed: None, kept: None };
        self.outbox.accept(peer, message, true, &mut self.out);
        self.outbox.pump(self.now, peer, &mut self.out);
        self.outbox.shed(peer, priority, &mut self.out);
        self.nonce
    }

    fn pump(&mut self) {
        self.outbox.pump(self.now, self.peer, &mut self.out);
    }

    fn written(&mut self, link: LinkId, priority: Priority, count: usize) {
        self.outbox.written(self.now, self.peer, link, priority, count);
        self.pump();
    }

    fn acknowledge(&mut self, first: u64, last: u64) -> u64 {
        let ranges = [NonceRange { first, last }];
        let delivered = self.outbox.acknowledged(self.now, self.peer, &ranges, &mut self.out);
        self.pump();
        delivered
    }

    /// Lets time pass, and does what is due.
    fn pass(&mut self, time: Duration) -> u64 {
        let (until, mut failed) = (self.now.since_start + time, 0);
        for _ in 0..100_000 {
            let Some(deadline) = self.outbox.next_deadline().filter(|deadline| *deadline <= until) else {
                self.now.since_start = until;
                return failed;
            };
            self.now.since_start = self.now.since_start.max(deadline);
            let expired = self.outbox.tick(self.now, &mut self.out);
            failed += expired.failed;
            for peer in expired.resend {
                self.outbox.pump(self.now, peer, &mut self.out);
            }
        }
        panic!("the same deadline again and again: {:?}", self.outbox.next_deadline());
    }

    /// What was handed over since the last look.
    fn sent(&mut self) -> Vec<(LinkId, u64)> {
        let sent = self.out.extract_if(.., |output| matches!(output, Output::Transmit { .. }));
        sent.map(|output| match output {
            Output::Transmit { link, letter, .. } => (link, letter.nonce),
            _ => unreachable!("only those were taken"),
        })
        .collect()
    }

    /// What receipts were told since the last look.
    fn told(&mut self, of: u64) -> Vec<ReceiptState> {
        let told = self.out.extract_if(.., |output| matches!(output, Output::Receipt { nonce, .. } if *nonce == of));
        told.map(|output| match output {
            Output::Receipt { state, .. } => state,
            _ => unreachable!("only those were taken"),
        })
        .collect()
    }
}

#[test]
fn a_receipt_tells_each_step() {
    let mut bench = Bench::new(|_| {});
    let nonce = bench.send(Priority::High, 10);
    let waits = |why| ReceiptState::Queued { why };
    let direct = ReceiptState::Sent { way: Way::Direct { kind: ConnectionKind::Quic } };
    assert_eq!(bench.told(nonce), [waits(QueueReason::NotConnected)]);
    bench.open(RELAYED);
    assert_eq!(bench.told(nonce), [ReceiptState::Sent { way: Way::Relayed }]);
    bench.close(RELAYED);
    assert_eq!(bench.told(nonce), [waits(QueueReason::NotConnected)]);
    bench.open(DIRECT);
    assert_eq!(bench.told(nonce), [direct]);
    assert_eq!(bench.acknowledge(nonce, nonce), 1);
    assert_eq!(bench.told(nonce), [ReceiptState::Delivered]);
    assert_eq!(bench.outbox.len(), 0);
}

#[test]
fn what_can_not_leave_at_once_is_told_that_it_waits_for_its_turn() {
    let mut bench = Bench::new(|_| {});
    let nonces = (0..300).map(|_| bench.send(Priority::Low, 10)).collect::<Vec<_>>();
    let last = nonces[299];
    bench.told(last);
    bench.open(DIRECT);
    assert_eq!(bench.told(last), [ReceiptState::Queued { why: QueueReason::Turn }]);
}

#[test]
fn no_more_is_under_way_than_the_receiver_remembers() {
    let mut bench = Bench::new(|config| config.delivery.timeout = Duration::from_secs(3600));
    bench.open(DIRECT);
    let first = bench.send(Priority::Low, 0);
    for _ in 0..2 * UNACKNOWLEDGED {
        bench.send(Priority::Low, 0);
    }
    for _ in 0..2 * UNACKNOWLEDGED / 256 {
        bench.written(DIRECT, Priority::Low, 256);
    }
    assert_eq!(bench.sent().len(), UNACKNOWLEDGED);
    // All but the first: were it sent again later, the receiver would have to know it still.
    bench.acknowledge(first + 1, u64::MAX);
    assert_eq!(bench.sent(), []);
    bench.acknowledge(first, first);
    assert_eq!(bench.sent().len(), 0, "a hostile range ended all of them, and nothing waits any more");
    assert_eq!(bench.outbox.len(), 0);
}

#[test]
fn an_expired_message_leaves_its_place_at_once_and_its_receipt_says_expired() {
    let mut bench = Bench::new(|_| {});
    let ttl = Duration::from_millis(300);
    let short = bench.send_to(bench.peer, Priority::High, 10, Some(ttl));
    let long = bench.send(Priority::High, 10);
    bench.told(short);
    assert_eq!(bench.pass(Duration::from_millis(299)), 0);
    assert_eq!(bench.pass(Duration::from_millis(1)), 1);
    assert_eq!(bench.told(short), [ReceiptState::Expired { ttl }]);
    bench.open(DIRECT);
    assert_eq!(bench.sent(), [(DIRECT, long)]);
    let refused = bench.send_to(bench.peer, Priority::High, 10, Some(Duration::from_secs(9)));
    bench.told(refused);
    bench.outbox.rejected(bench.peer, refused, "expired", &mut bench.out);
    assert_eq!(bench.told(refused), [ReceiptState::Expired { ttl: Duration::from_secs(9) }]);
}

#[test]
fn messages_that_expire_while_nobody_comes_take_no_memory() {
    let mut bench = Bench::new(|config| config.delivery.timeout = Duration::from_secs(7 * 24 * 3600));
    bench.send(Priority::High, 10);
    for _ in 0..10_000 {
        bench.send_to(bench.peer, Priority::High, 10, Some(Duration::from_secs(1)));
        bench.pass(Duration::from_secs(1));
    }
    let lane = &bench.outbox.queues[&bench.peer].lanes[0];
    assert!(lane.len() < 200 && lane.live() == 1, "{} places", lane.len());
    assert!(bench.outbox.timers.len() <= 1);
}
