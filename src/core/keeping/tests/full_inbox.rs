//! A full inbox: what is refused comes again, in order, and nobody takes every place.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::{
    core::{Link, Now, routing::Outbox},
    frame::Letter,
    peer::ConnectionKind,
};

const SENDERS: usize = 3;
const LIMIT: usize = 16;

/// One connection, and per lane what was handed over and not read yet.
struct Wire {
    link: LinkId,
    lanes: [VecDeque<u64>; 3],
}

/// A peer that sends by a real outbox.
struct Sender {
    peer: PeerId,
    outbox: Outbox,
    wires: Vec<Wire>,
    /// Acknowledgements on their way to it.
    acknowledged: Vec<NonceRange>,
    nonce: u64,
    /// Messages that never end before they are delivered.
    lasting: BTreeSet<u64>,
}

/// A node with a small inbox, its disk, and those who send to it.
struct World {
    bench: Bench,
    disk: Disk,
    senders: Vec<Sender>,
    /// As the app gets them: serial number, sender, lane, nonce.
    shown: Vec<(u64, PeerId, usize, u64)>,
    confirmed: usize,
}

impl World {
    fn new() -> Self {
        let bench = small_node(Durability::Batched, |config| config.limits.message_buffer = LIMIT);
        let mut config = NetworkConfig::default();
        config.delivery.timeout = Duration::from_secs(7 * 24 * 3600);
        let mut sender = |who| Sender {
            peer: PeerId::random(),
            outbox: {
                // The first is impatient.
                config.delivery.acknowledge_timeout = Duration::from_millis(if who == 0 { 200 } else { 5000 });
                Outbox::new(&config)
            },
            wires: Vec::new(),
            acknowledged: Vec::new(),
            nonce: 0,
            lasting: BTreeSet::new(),
        };
        let senders = (0..SENDERS).map(&mut sender).collect();
        Self { bench, disk: Disk::default(), senders, shown: Vec::new(), confirmed: 0 }
    }

    fn local(&self) -> PeerId {
        self.bench.core.settings.local
    }

    fn now(&self) -> Now {
        self.bench.now
    }

    /// The node has made something of what it was told.
    fn look_at(&mut self, outputs: Vec<Output>) {
        self.disk.take(&outputs);
        for output in outputs {
            match output {
                Output::HandOver { serial, message } => {
                    self.shown.push((serial, message.sender, message.priority.lane(), message.id.nonce));
                }
                Output::Control { peer, content: ControlContent::Acknowledge(ranges), .. } => {
                    let sender = self.senders.iter_mut().find(|sender| sender.peer == peer);
                    sender.expect("one of them").acknowledged.extend(ranges);
                }
                _ => {}
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let outputs = self.bench.handle(input);
        self.look_at(outputs);
    }

    /// Carries a sender's wishes onto its wires; whatever has room there counts as written at once.
    fn carry(&mut self, who: usize) {
        let (local, now) = (self.local(), self.now());
        let sender = &mut self.senders[who];
        loop {
            let mut out = Vec::new();
            sender.outbox.pump(now, local, &mut out);
            let mut any = false;
            for output in out {
                let Output::Transmit { link, letter, .. } = output else { continue };
                any = true;
                let wire = sender.wires.iter_mut().find(|wire| wire.link == link).expect("an open connection");
                wire.lanes[letter.priority.lane()].push_back(letter.nonce);
                sender.outbox.written(now, local, link, letter.priority, 1);
            }
            if !any {
                return;
            }
        }
    }

    fn open(&mut self, who: usize) {
        let (link, outputs) = self.bench.open(self.senders[who].peer, false, None);
        self.look_at(outputs);
        let (local, now) = (self.local(), self.now());
        let address = "/ip4/192.0.2.1/tcp/1".parse().expect("an address");
        let sender = &mut self.senders[who];
        sender.wires.push(Wire { link, lanes: Default::default() });
        let opened = Link { id: link, kind: ConnectionKind::Tcp, address, outbound: true };
        sender.outbox.link_opened(now, local, &opened, &mut Vec::new());
        self.carry(who);
    }

    fn close(&mut self, who: usize, wire: usize) {
        let local = self.local();
        let Sender { peer, wires, outbox, .. } = &mut self.senders[who];
        let (peer, link) = (*peer, wires.remove(wire).link);
        outbox.link_closed(local, link, &mut Vec::new());
        self.handle(Input::LinkClosed { peer, link, reason: "cut".into() });
        self.carry(who);
    }

    fn send(&mut self, who: usize, priority: Priority, ttl: Option<Duration>) -> u64 {
        let (local, now) = (self.local(), self.now());
        let sender = &mut self.senders[who];
        sender.nonce += 1;
        sender.lasting.extend(ttl.is_none().then_some(sender.nonce));
        let letter = Letter {
            nonce: sender.nonce,
            kind: MessageKind::Data,
            priority,
            addressing: Addressing::Peer(local),
            created_at: now.unix_millis,
            ttl,
            payload: "hello".into(),
        };
        let message =
            OutgoingMessage { letter, accepted_at: now.since_start, slept: Duration::ZERO, signed: None, kept: None };
        sender.outbox.accept(local, message, true, &mut Vec::new());
        let nonce = sender.nonce;
        self.carry(who);
        nonce
    }

    fn send_many(&mut self, who: usize, priority: Priority, count: usize) {
        for _ in 0..count {
            self.send(who, priority, None);
        }
    }

    /// The node reads so much of one lane.
    fn read(&mut self, who: usize, wire: usize, lane: usize, count: usize) {
        let Sender { peer, wires, .. } = &mut self.senders[who];
        let Some(Wire { link, lanes }) = wires.get_mut(wire) else { return };
        let nonces = lanes[lane].drain(..count.min(lanes[lane].len())).collect::<Vec<_>>();
        let (peer, link) = (*peer, *link);
        let arrival = arrival_by(&self.bench, peer, link, Priority::ALL[lane], nonces);
        self.handle(arrival);
    }

    fn read_all(&mut self) {
        for who in 0..self.senders.len() {
            for wire in 0..self.senders[who].wires.len() {
                for lane in 0..3 {
                    self.read(who, wire, lane, usize::MAX);
                }
            }
        }
    }

    fn acknowledge(&mut self, who: usize) {
        let (local, now) = (self.local(), self.now());
        let sender = &mut self.senders[who];
        let ranges = std::mem::take(&mut sender.acknowledged);
        sender.outbox.acknowledged(now, local, &ranges, &mut Vec::new());
        self.carry(who);
    }

    fn commit(&mut self) {
        let report = self.disk.commit();
        self.handle(report);
    }

    /// The app confirms so many more of what it was shown.
    fn confirm(&mut self, count: usize) {
        self.confirmed = (self.confirmed + count).min(self.shown.len());
        if let Some(last) = self.confirmed.checked_sub(1) {
            self.handle(Input::Confirmed { serial: self.shown[last].0 });
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now().since_start + time;
        let outputs = self.bench.pass(time);
        self.look_at(outputs);
        for who in 0..self.senders.len() {
            while self.senders[who].outbox.next_deadline().is_some_and(|deadline| deadline <= until) {
                let now = self.now();
                self.senders[who].outbox.tick(now, &mut Vec::new());
                self.carry(who);
            }
        }
    }

    /// What the app was shown of one sender's lane.
    fn shown_of(&self, who: usize, lane: usize) -> Vec<u64> {
        let peer = self.senders[who].peer;
        self.shown.iter().filter(|shown| (shown.1, shown.2) == (peer, lane)).map(|shown| shown.3).collect()
    }
}

#[derive(Debug, Clone)]
enum Happens {
    Sends(usize, Priority, Option<u64>),
    Opens(usize),
    Closes(usize, usize),
    Reads(usize, usize, Priority, usize),
    Acknowledges(usize, bool),
    Commits(bool),
    Confirms(usize),
    Waits(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Medium), Just(Priority::Low)];
    let who = 0..SENDERS;
    let ttl = prop_oneof![4 => Just(None), 1 => (100..5000_u64).prop_map(Some)];
    prop_oneof![
        10 => (who.clone(), priority.clone(), ttl).prop_map(|(a, b, c)| Happens::Sends(a, b, c)),
        1 => who.clone().prop_map(Happens::Opens),
        1 => (who.clone(), 0..2_usize).prop_map(|(a, b)| Happens::Closes(a, b)),
        10 => (who.clone(), 0..2_usize, priority, 1..12_usize).prop_map(|(a, b, c, d)| Happens::Reads(a, b, c, d)),
        4 => (who, prop::bool::weighted(0.9)).prop_map(|(a, b)| Happens::Acknowledges(a, b)),
        4 => prop::bool::weighted(0.9).prop_map(Happens::Commits),
        3 => (1..10_usize).prop_map(Happens::Confirms),
        3 => (0..3000_u64).prop_map(Happens::Waits),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The inbox fills and empties, the disk refuses and recovers, connections come and go two at a time, messages end with
    /// their senders while they are refused. The app gets each lane in order and each message once, and in the end all.
    #[test]
    fn order_holds_in_each_lane_however_often_the_inbox_is_full(run in proptest::collection::vec(happens(), 1..400)) {
        let mut world = World::new();
        for happens in run {
            match happens {
                Happens::Sends(who, priority, ttl) => {
                    world.send(who, priority, ttl.map(Duration::from_millis));
                }
                Happens::Opens(who) if world.senders[who].wires.len() < 2 => world.open(who),
                Happens::Closes(who, wire) if world.senders[who].wires.len() > wire => world.close(who, wire),
                Happens::Opens(_) | Happens::Closes(..) => {}
                Happens::Reads(who, wire, priority, count) => world.read(who, wire, priority.lane(), count),
                Happens::Acknowledges(who, true) => world.acknowledge(who),
                Happens::Acknowledges(who, false) => world.senders[who].acknowledged.clear(),
                Happens::Commits(true) => world.commit(),
                Happens::Commits(false) => {
                    let refusal = world.disk.refuse();
                    world.handle(refusal);
                }
                Happens::Confirms(count) => world.confirm(count),
                Happens::Waits(millis) => world.pass(Duration::from_millis(millis)),
            }
        }
        for who in 0..SENDERS {
            if world.senders[who].wires.is_empty() {
                world.open(who);
            }
        }
        for _ in 0..1000 {
            world.read_all();
            world.commit();
            (0..SENDERS).for_each(|who| world.acknowledge(who));
            world.confirm(5);
            if world.senders.iter().all(|sender| sender.outbox.len() == 0) {
                break;
            }
            world.pass(Duration::from_millis(500));
        }
        for who in 0..SENDERS {
            prop_assert_eq!(world.senders[who].outbox.len(), 0, "all has ended");
            let mut shown = [0, 1, 2].map(|lane| world.shown_of(who, lane));
            let all = shown.iter().flatten().collect::<BTreeSet<_>>();
            prop_assert_eq!(all.len(), shown.iter().map(Vec::len).sum::<usize>(), "each once");
            let lasting = &world.senders[who].lasting;
            prop_assert!(lasting.iter().all(|nonce| all.contains(nonce)), "nothing is lost");
            for shown in &mut shown {
                // One that has ended with its sender may still be on its way by an old connection.
                shown.retain(|nonce| lasting.contains(nonce));
                prop_assert!(shown.is_sorted(), "in order: {:?}", shown);
            }
        }
    }
}

#[test]
fn what_comes_after_a_refused_message_waits_for_it_though_there_is_room_by_then() {
    let mut world = World::new();
    world.open(0);
    world.send_many(0, Priority::Medium, 18);
    world.read(0, 0, 1, 17);
    world.commit();
    assert_eq!(world.shown_of(0, 1), (1..=16).collect::<Vec<_>>(), "the seventeenth finds no room");
    world.acknowledge(0);
    world.confirm(16);
    world.read(0, 0, 1, 1);
    let urgent = world.send(0, Priority::High, None);
    world.read(0, 0, 0, 1);
    world.commit();
    assert_eq!(world.shown_of(0, 1).len(), 16, "the eighteenth waits");
    assert_eq!(world.shown_of(0, 0), [urgent], "other lanes don't");
    assert_eq!(world.bench.core.stats().messages_deferred, 2);
    world.pass(Duration::from_secs(2));
    world.read_all();
    world.commit();
    assert_eq!(world.shown_of(0, 1), (1..=18).collect::<Vec<_>>());
}

#[test]
fn what_ended_with_its_sender_is_not_waited_for() {
    let mut world = World::new();
    world.open(0);
    world.send_many(0, Priority::Medium, 16);
    world.send(0, Priority::Medium, Some(Duration::from_millis(100)));
    world.read_all();
    world.commit();
    world.acknowledge(0);
    world.confirm(16);
    // Its time is over before it comes again.
    world.pass(Duration::from_millis(200));
    let next = world.send(0, Priority::Medium, None);
    world.read_all();
    world.commit();
    assert_eq!(world.shown_of(0, 1).len(), 16, "nobody knows yet");
    world.pass(Duration::from_secs(2));
    world.read_all();
    world.commit();
    assert_eq!(world.shown_of(0, 1).last(), Some(&next), "its sender has gone back, and not to it");
}

/// A sender keeps the inbox full and tries far more often than the others, who find it full whenever they come.
#[test]
fn who_floods_a_full_inbox_leaves_the_others_their_turn() {
    let mut world = World::new();
    for who in 0..SENDERS {
        world.open(who);
    }
    world.send_many(0, Priority::High, 4000);
    world.read_all();
    world.commit();
    for who in 1..SENDERS {
        world.send_many(who, Priority::Low, 10);
    }
    for round in 0.. {
        let others = [1, 2].map(|who| world.shown_of(who, 2).len());
        if others == [10, 10] {
            println!("{round} rounds; {} of the flood meanwhile", world.shown_of(0, 0).len());
            break;
        }
        assert!(round < 20, "{others:?}, and {} of the flood", world.shown_of(0, 0).len());
        for _ in 0..25 {
            world.confirm(2);
            world.pass(Duration::from_millis(200));
            world.read(0, 0, 0, usize::MAX);
            world.commit();
            world.acknowledge(0);
        }
        world.read_all();
        world.commit();
        (1..SENDERS).for_each(|who| world.acknowledge(who));
    }
    assert!(world.senders[0].outbox.len() > 1000, "the flood went on all the time, or this proves nothing");
}
