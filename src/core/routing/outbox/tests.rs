//! The outbox alone, against a peer that is simulated: two links that lose, delay, break and come back, on a clock that
//! the test turns.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::{
    config::BandwidthConfig,
    event::NetworkEvent,
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
        self.outbox.link_opened(self.peer, &Link { id: link, kind, address, outbound: true });
        self.pump();
        self.outbox.tell_connected(self.peer, &mut self.out);
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
        let message = OutgoingMessage { letter, accepted_at, slept: Duration::ZERO, signed: None };
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
fn a_better_way_is_taken_when_the_old_one_has_acknowledged_what_it_had() {
    let mut bench = Bench::new(|_| {});
    bench.open(RELAYED);
    let (one, two) = (bench.send(Priority::Medium, 1), bench.send(Priority::Medium, 1));
    bench.written(RELAYED, Priority::Medium, 2);
    assert_eq!(bench.sent(), [(RELAYED, one), (RELAYED, two)]);
    bench.open(DIRECT);
    let three = bench.send(Priority::Medium, 1);
    let urgent = bench.send(Priority::High, 1);
    assert_eq!(bench.sent(), [(DIRECT, urgent)], "a lane of which nothing is under way changes at once");
    bench.acknowledge(one, one);
    assert_eq!(bench.sent(), [], "the second is still on its way by the relay");
    bench.acknowledge(two, two);
    assert_eq!(bench.sent(), [(DIRECT, three)]);
}

#[test]
fn a_lane_waits_for_its_old_way_for_some_round_trips_and_then_sends_again_by_the_new_one() {
    let mut bench = Bench::new(|_| {});
    bench.open(RELAYED);
    let one = bench.send(Priority::Medium, 1);
    bench.written(RELAYED, Priority::Medium, 1);
    bench.pass(Duration::from_millis(40));
    bench.acknowledge(one, one);
    let two = bench.send(Priority::Medium, 1);
    bench.written(RELAYED, Priority::Medium, 1);
    bench.sent();
    bench.open(DIRECT);
    let three = bench.send(Priority::Medium, 1);
    bench.pass(Duration::from_millis(150));
    assert_eq!(bench.sent(), [], "an acknowledgement by the relay took 40 ms, and may take a little longer");
    bench.pass(Duration::from_millis(20));
    assert_eq!(bench.sent(), [(DIRECT, two), (DIRECT, three)]);
}

#[test]
fn pulling_the_direct_path_moves_traffic_to_the_relay_and_pulling_both_queues_it() {
    let mut bench = Bench::new(|_| {});
    bench.open(RELAYED);
    bench.open(DIRECT);
    let nonces = (0..3).map(|_| bench.send(Priority::Medium, 1)).collect::<Vec<_>>();
    bench.sent();
    bench.acknowledge(nonces[0], nonces[0]);
    bench.close(DIRECT);
    assert_eq!(bench.sent(), [(RELAYED, nonces[1]), (RELAYED, nonces[2])], "in the same order, before anything new");
    bench.close(RELAYED);
    let fourth = bench.send(Priority::Medium, 1);
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.told(nonces[2]).last(), Some(&ReceiptState::Queued { why: QueueReason::NotConnected }));
    bench.open(DIRECT);
    assert_eq!(bench.sent(), [(DIRECT, nonces[1]), (DIRECT, nonces[2]), (DIRECT, fourth)]);
    assert_eq!(bench.acknowledge(1, fourth), 3);
}

#[test]
fn sending_again_follows_what_was_measured() {
    let mut bench = Bench::new(|config| config.delivery.acknowledge_timeout = Duration::from_secs(30));
    bench.open(DIRECT);
    for _ in 0..50 {
        let nonce = bench.send(Priority::Medium, 1);
        // The first ones are sent again too early, which teaches it.
        for _ in 0..20 {
            let count = bench.sent().len();
            bench.written(DIRECT, Priority::Medium, count);
            bench.pass(Duration::from_millis(100));
        }
        bench.acknowledge(nonce, nonce);
    }
    let lost = bench.send(Priority::Medium, 1);
    bench.written(DIRECT, Priority::Medium, 1);
    bench.sent();
    bench.pass(Duration::from_millis(1990));
    assert_eq!(bench.sent(), [], "a far peer takes two seconds");
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.sent(), [(DIRECT, lost)]);
    bench.written(DIRECT, Priority::Medium, 1);
    bench.pass(Duration::from_millis(3000));
    assert_eq!(bench.sent(), [], "then twice as long");
    bench.pass(Duration::from_millis(1100));
    assert_eq!(bench.sent(), [(DIRECT, lost)]);
    bench.written(DIRECT, Priority::Medium, 1);
    // Nobody knows which sending this acknowledges, so it measures nothing (Karn).
    bench.acknowledge(lost, lost);
    let next = bench.send(Priority::Medium, 1);
    bench.written(DIRECT, Priority::Medium, 1);
    bench.sent();
    bench.pass(Duration::from_millis(7000));
    assert_eq!(bench.sent(), []);
    bench.pass(Duration::from_millis(1300));
    assert_eq!(bench.sent(), [(DIRECT, next)]);
}

#[test]
fn a_lane_that_can_not_be_written_is_only_slow() {
    let mut bench = Bench::new(|config| config.delivery.timeout = Duration::from_secs(600));
    bench.open(DIRECT);
    for _ in 0..1000 {
        bench.send(Priority::Low, 10);
    }
    assert_eq!(bench.sent().len(), 256);
    bench.written(DIRECT, Priority::Low, 1);
    assert_eq!(bench.sent().len(), 1);
    bench.pass(Duration::from_secs(300));
    assert_eq!(bench.sent(), [], "sending again would make it slower");
}

#[test]
fn a_single_lost_acknowledgement_sends_a_single_message_again() {
    let mut bench = Bench::new(|_| {});
    bench.open(DIRECT);
    let nonces = (0..100).map(|_| bench.send(Priority::Low, 10)).collect::<Vec<_>>();
    bench.written(DIRECT, Priority::Low, 100);
    bench.sent();
    bench.acknowledge(nonces[0], nonces[49]);
    bench.acknowledge(nonces[51], nonces[99]);
    bench.pass(Duration::from_millis(1100));
    assert_eq!(bench.sent(), [(DIRECT, nonces[50])]);
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

#[test]
fn too_much_sheds_what_is_least_urgent_and_says_so() {
    let mut bench = Bench::new(|config| {
        config.limits.outbox_messages = 128;
        config.limits.peer_messages = 128;
    });
    let other = PeerId::random();
    let low = (0..120).map(|_| bench.send(Priority::Low, 1)).collect::<Vec<_>>();
    let medium = (0..8).map(|_| bench.send_to(other, Priority::Medium, 1, None)).collect::<Vec<_>>();
    bench.out.clear();
    let high = bench.send_to(other, Priority::High, 1, None);
    let shed = ReceiptState::Failed { error: DeliveryError::Shed { priority: Priority::Low } };
    assert_eq!(bench.told(low[119]), std::slice::from_ref(&shed), "the newest of the least urgent");
    assert_eq!(bench.told(low[0]), []);
    let event = bench.out.iter().find_map(|output| match output {
        Output::Event(NetworkEvent::MessagesShed { priority, count }) => Some((*priority, *count)),
        _ => None,
    });
    assert_eq!(event, Some((Priority::Low, 3)), "one, and a little more");
    assert_eq!(bench.outbox.len(), 126);
    bench.out.clear();
    for _ in 0..200 {
        bench.send(Priority::Medium, 1);
    }
    assert_eq!(bench.told(low[0]).last(), Some(&shed), "all of them in the end");
    assert_eq!(bench.told(medium[0]), [], "but none that is as urgent");
    assert_eq!(bench.told(high), []);
}

#[test]
fn too_many_bytes_for_one_peer_shed_its_own_messages() {
    let mut bench = Bench::new(|config| config.limits.peer_bytes = 100_000);
    let other = PeerId::random();
    let theirs = bench.send_to(other, Priority::Low, 10_000, None);
    let ours = (0..9).map(|_| bench.send(Priority::Low, 10_000)).collect::<Vec<_>>();
    bench.out.clear();
    bench.send(Priority::High, 20_000);
    assert!(!bench.told(ours[8]).is_empty() && !bench.told(ours[7]).is_empty());
    assert_eq!((bench.told(ours[0]), bench.told(theirs)), (vec![], vec![]));
}

fn rationed() -> Bench {
    Bench::new(|config| {
        config.bandwidth = BandwidthConfig { limited: true, total: 1_000_000, per_peer: 1_000_000 };
        config.delivery.timeout = Duration::from_secs(3600);
    })
}

/// Writes and acknowledges at once what was handed over, for a time; returns it with when that was.
fn run(bench: &mut Bench, time: Duration) -> Vec<(Duration, u64)> {
    let (until, mut all) = (bench.now.since_start + time, Vec::new());
    loop {
        for (link, nonce) in bench.sent() {
            all.push((bench.now.since_start, nonce));
            for priority in Priority::ALL {
                bench.outbox.written(bench.now, bench.peer, link, priority, 1);
            }
            bench.acknowledge(nonce, nonce);
        }
        let next = bench.outbox.next_deadline().map_or(until, |at| at.max(bench.now.since_start));
        if next >= until {
            bench.now.since_start = until;
            return all;
        }
        bench.pass(next - bench.now.since_start);
    }
}

#[test]
fn a_flood_of_low_priority_within_a_budget_leaves_high_priority_its_latency() {
    let mut bench = rationed();
    bench.open(DIRECT);
    let flood = (0..5000).map(|_| bench.send(Priority::Low, 1000 - ENVELOPE)).collect::<Vec<_>>();
    let next =
        flood.iter().find(|nonce| bench.told(**nonce).contains(&ReceiptState::Queued { why: QueueReason::OverBudget }));
    let first = run(&mut bench, Duration::from_secs(1)).len();
    assert!((1050..1200).contains(&first), "{first} KB in the first second, with what had been saved");
    assert!(next.is_some(), "the next in line is told what it waits for");
    for _ in 0..20 {
        let urgent = bench.send(Priority::High, 1000 - ENVELOPE);
        let asked = bench.now.since_start;
        let sent = run(&mut bench, Duration::from_millis(100));
        let (at, _) = sent.iter().find(|(_, nonce)| *nonce == urgent).expect("sent");
        assert_eq!(*at, asked, "at once");
        assert!((80..120).contains(&sent.len()), "{} in a tenth of a second", sent.len());
    }
}

#[test]
fn a_flood_of_high_priority_starves_nobody() {
    let mut bench = rationed();
    bench.open(DIRECT);
    for _ in 0..5000 {
        bench.send(Priority::High, 1000 - ENVELOPE);
    }
    let low = (0..100).map(|_| bench.send(Priority::Low, 1000 - ENVELOPE)).collect::<Vec<_>>();
    let sent = run(&mut bench, Duration::from_secs(2));
    let low = sent.iter().filter(|(_, nonce)| low.contains(nonce)).count();
    assert!((90..=100).contains(&low), "{low} of {}", sent.len());
}

#[test]
fn within_the_budget_of_all_peers_each_gets_its_part() {
    let mut bench = rationed();
    let peers = (0..5).map(|_| PeerId::random()).collect::<Vec<_>>();
    for (number, peer) in (10..).zip(&peers) {
        bench.peer = *peer;
        bench.open(LinkId(number));
        for _ in 0..1000 {
            bench.send(Priority::Low, 1000 - ENVELOPE);
        }
    }
    let mut counts = [0; 5];
    while bench.now.since_start < Duration::from_secs(2) {
        let sent = bench.out.extract_if(.., |output| matches!(output, Output::Transmit { .. })).collect::<Vec<_>>();
        for output in sent {
            let Output::Transmit { peer, link, letter } = output else { continue };
            let at = peers.iter().position(|known| *known == peer).expect("one of them");
            counts[at] += 1;
            bench.peer = peer;
            bench.written(link, letter.priority, 1);
            bench.acknowledge(letter.nonce, letter.nonce);
        }
        let next = bench.outbox.next_deadline().expect("a timer");
        bench.pass(next.saturating_sub(bench.now.since_start));
    }
    let (least, most) = (counts.iter().min().expect("five"), counts.iter().max().expect("five"));
    assert!(*least > 200 && *most < 700, "{counts:?}");
}

/// What happens next in a run of random luck.
#[derive(Debug, Clone)]
enum Happens {
    Sends(Priority),
    Opens(bool),
    Closes(bool),
    /// A lane of a link breaks; what it had is lost from some point on.
    Breaks(bool, Priority, usize),
    /// So much of a lane of a link is written.
    Writes(bool, Priority, usize),
    /// The receiver reads so much of a lane of a link.
    Reads(bool, Priority, usize),
    /// The acknowledgements of what was read arrive, or are lost.
    Acknowledges(bool),
    Waits(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Medium), Just(Priority::Low)];
    let some = 1..20_usize;
    prop_oneof![
        6 => priority.clone().prop_map(Happens::Sends),
        1 => any::<bool>().prop_map(Happens::Opens),
        1 => any::<bool>().prop_map(Happens::Closes),
        1 => (any::<bool>(), priority.clone(), some.clone()).prop_map(|(a, b, c)| Happens::Breaks(a, b, c)),
        6 => (any::<bool>(), priority.clone(), some.clone()).prop_map(|(a, b, c)| Happens::Writes(a, b, c)),
        6 => (any::<bool>(), priority, some).prop_map(|(a, b, c)| Happens::Reads(a, b, c)),
        4 => any::<bool>().prop_map(Happens::Acknowledges),
        2 => (0..3000_u64).prop_map(Happens::Waits),
    ]
}

/// A link as the world has it: per lane what is not written, and what is written and not read.
#[derive(Default)]
struct Wire {
    open: bool,
    queued: [VecDeque<u64>; 3],
    flying: [VecDeque<u64>; 3],
}

#[derive(Default)]
struct World {
    direct: Wire,
    relayed: Wire,
    /// By lane, in the order of their first arrival.
    arrived: [Vec<u64>; 3],
    unacknowledged: BTreeSet<u64>,
}

impl World {
    fn wire(&mut self, link: LinkId) -> &mut Wire {
        if link == DIRECT { &mut self.direct } else { &mut self.relayed }
    }

    fn carry(&mut self, bench: &mut Bench) {
        let sent = bench.out.extract_if(.., |output| matches!(output, Output::Transmit { .. })).collect::<Vec<_>>();
        for output in sent {
            let Output::Transmit { link, letter, .. } = output else { continue };
            let wire = self.wire(link);
            assert!(wire.open, "nothing goes by a link that is closed");
            wire.queued[letter.priority.lane()].push_back(letter.nonce);
        }
    }

    fn write(&mut self, bench: &mut Bench, link: LinkId, lane: usize, count: usize) {
        let Wire { queued, flying, .. } = self.wire(link);
        let count = count.min(queued[lane].len());
        flying[lane].extend(queued[lane].drain(..count));
        if count > 0 {
            bench.written(link, Priority::ALL[lane], count);
        }
    }

    fn read(&mut self, link: LinkId, lane: usize, count: usize) {
        let flying = &mut self.wire(link).flying[lane];
        let read = flying.drain(..count.min(flying.len())).collect::<Vec<_>>();
        for nonce in read {
            self.unacknowledged.insert(nonce);
            if !self.arrived[lane].contains(&nonce) {
                self.arrived[lane].push(nonce);
            }
        }
    }

    fn acknowledge(&mut self, bench: &mut Bench) {
        for nonce in std::mem::take(&mut self.unacknowledged) {
            bench.acknowledge(nonce, nonce);
        }
    }

    fn step(&mut self, bench: &mut Bench, happens: Happens) {
        let link = |direct| if direct { DIRECT } else { RELAYED };
        match happens {
            Happens::Sends(priority) => drop(bench.send(priority, 10)),
            Happens::Opens(direct) if !self.wire(link(direct)).open => {
                self.wire(link(direct)).open = true;
                bench.open(link(direct));
            }
            Happens::Closes(direct) if self.wire(link(direct)).open => {
                *self.wire(link(direct)) = Wire::default();
                bench.close(link(direct));
            }
            Happens::Breaks(direct, priority, kept) => {
                let (lane, wire) = (priority.lane(), self.wire(link(direct)));
                let count = wire.queued[lane].len();
                wire.queued[lane].clear();
                wire.flying[lane].truncate(kept);
                if wire.open {
                    bench.outbox.lost(bench.peer, link(direct), priority, count, &mut bench.out);
                    // What is under way in the broken lane never arrives after what is sent again.
                    self.read(link(direct), lane, kept);
                    bench.pump();
                }
            }
            Happens::Writes(direct, priority, count) => self.write(bench, link(direct), priority.lane(), count),
            Happens::Reads(direct, priority, count) => self.read(link(direct), priority.lane(), count),
            Happens::Acknowledges(true) => self.acknowledge(bench),
            Happens::Acknowledges(false) => self.unacknowledged.clear(),
            Happens::Waits(millis) => drop(bench.pass(Duration::from_millis(millis))),
            Happens::Opens(_) | Happens::Closes(_) => {}
        }
        self.carry(bench);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Links come, go, lose and delay; acknowledgements are lost. What arrives of a lane arrives in order, every message
    /// once to the app; every receipt ends once; and in the end, with a link that works, all is delivered.
    #[test]
    fn order_holds_and_nothing_is_lost_whatever_happens_to_the_ways(run in proptest::collection::vec(happens(), 1..400)) {
        let mut bench = Bench::new(|config| config.delivery.timeout = Duration::from_secs(7 * 24 * 3600));
        let mut world = World::default();
        for happens in run {
            world.step(&mut bench, happens);
        }
        world.step(&mut bench, Happens::Opens(true));
        for _ in 0..1000 {
            for (direct, priority) in [true, false].into_iter().flat_map(|direct| Priority::ALL.map(|priority| (direct, priority))) {
                world.step(&mut bench, Happens::Writes(direct, priority, 1000));
                world.step(&mut bench, Happens::Reads(direct, priority, 1000));
            }
            world.step(&mut bench, Happens::Acknowledges(true));
            if bench.outbox.len() == 0 {
                break;
            }
            world.step(&mut bench, Happens::Waits(1000));
        }
        prop_assert_eq!(bench.outbox.len(), 0, "all has ended");
        for arrived in &world.arrived {
            prop_assert!(arrived.is_sorted(), "{:?}", arrived);
        }
        let arrived = world.arrived.iter().map(Vec::len).sum::<usize>();
        let finals = bench.out.iter().filter(|output| matches!(output, Output::Receipt { state, .. } if state.is_final()));
        let (mut delivered, mut gave_up) = (0, 0);
        for output in finals {
            match output {
                Output::Receipt { state: ReceiptState::Delivered, .. } => delivered += 1,
                _ => gave_up += 1,
            }
        }
        prop_assert_eq!(delivered + gave_up, bench.nonce as usize, "each receipt ends once");
        prop_assert!(arrived >= delivered);
        prop_assert!(bench.outbox.queues.values().all(|queue| queue.held.messages == 0 && queue.held.bytes == 0 && queue.ends.is_empty()));
    }
}
