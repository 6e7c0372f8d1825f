//! Runs of random luck: ways come, go, lose and delay, and what was promised holds.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

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
    /// Something comes by a link.
    Answers(bool),
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
        1 => any::<bool>().prop_map(Happens::Answers),
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
            Happens::Answers(direct) => bench.hear(link(direct)),
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
