//! What is promised of posts: each at every node, once, whatever happens on the way.

use proptest::prelude::*;

use super::{
    simulation::{Net, link, outbox, peer},
    *,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn trees_form_so_that_every_node_gets_each_post_about_once() {
    let mut net = Net::ring(1, 60, 3);
    let mut posts = Vec::new();
    for round in 0..30 {
        if round == 10 {
            net.pass(SECOND);
        }
        for author in 0..10 {
            posts.extend(net.post(author * 6, Topic::All, Passing::Gossip));
            net.pass(Duration::from_millis(20));
        }
    }
    net.pass(3 * SECOND);
    assert_eq!(posts.len(), 300);
    assert!(posts.iter().all(|post| net.reached(post) == 59));
    let (copies, received) = (net.sum(|stats| stats.gossip.forwarded), net.sum(|stats| stats.gossip.received));
    assert_eq!(received, 300 * 59);
    let redundancy = copies as f64 / received as f64;
    assert!(redundancy < 1.35, "{redundancy} copies of each, the first posts of ten authors among them");
    // The trees stand now: another round costs hardly a copy too many.
    let before = net.sum(|stats| stats.gossip.forwarded);
    for author in 0..10 {
        net.post(author * 6, Topic::All, Passing::Gossip).expect("taken");
        net.pass(Duration::from_millis(200));
    }
    net.pass(3 * SECOND);
    let copies = (net.sum(|stats| stats.gossip.forwarded) - before) as f64 / (10.0 * 59.0);
    assert!(copies < 1.05, "{copies} copies of each");
}

#[test]
fn in_a_star_the_middle_hands_on_to_all_at_once() {
    let mut net = Net::new(3, 40, |_| {});
    for leaf in 1..40 {
        net.connect(0, leaf);
    }
    net.pass(SECOND);
    for author in 1..40 {
        let post = net.post(author, Topic::All, Passing::Gossip).expect("taken");
        net.pass(Duration::from_millis(100));
        assert_eq!(net.reached(&post), 39, "no round is waited for");
    }
    assert_eq!(net.sum(|stats| stats.gossip.duplicates), 0);
}

#[test]
fn in_a_crowd_where_all_know_all_strangers_posts_do_not_flood() {
    let mut net = Net::new(4, 30, |_| {});
    for one in 0..30 {
        for other in 0..one {
            net.connect(one, other);
        }
    }
    net.pass(SECOND);
    for author in 0..30 {
        let post = net.post(author, Topic::All, Passing::Gossip).expect("taken");
        net.pass(SECOND);
        assert_eq!(net.reached(&post), 29);
    }
    let before = net.sum(|stats| stats.gossip.duplicates);
    let post = net.post(0, Topic::All, Passing::Gossip).expect("taken");
    net.pass(SECOND);
    assert_eq!(net.reached(&post), 29);
    assert!(net.sum(|stats| stats.gossip.duplicates) - before < 30, "the author's own copies do");
}

#[test]
fn what_is_lost_on_its_way_is_asked_for() {
    let mut net = Net::ring(5, 40, 2);
    net.loss = 10;
    let mut posts = Vec::new();
    for number in 0..200 {
        posts.extend(net.post(number % 40, Topic::All, Passing::Gossip));
        net.pass(Duration::from_millis(20));
    }
    net.loss = 0;
    net.pass(10 * SECOND);
    let missed = posts.iter().filter(|post| net.reached(post) < 39).count();
    assert_eq!(missed, 0, "of {} posts", posts.len());
    assert!(net.sum(|stats| stats.asked) > 0 && net.sum(|stats| stats.answered) > 0);
}

#[test]
fn a_torn_tree_mends_and_two_halves_catch_up_when_they_meet() {
    let mut net = Net::new(6, 20, |_| {});
    // Two rings, and two bridges between them.
    for half in [0, 10] {
        for node in 0..10 {
            net.connect(half + node, half + (node + 1) % 10);
            net.connect(half + node, half + (node + 3) % 10);
        }
    }
    net.connect(0, 10);
    net.connect(5, 15);
    net.pass(SECOND);
    let whole = net.post(0, Topic::All, Passing::Gossip).expect("taken");
    net.pass(2 * SECOND);
    assert_eq!(net.reached(&whole), 19);
    // The bridge that carries the tree falls; the other one takes over.
    net.cut(0, 10);
    let over_the_other = net.post(0, Topic::All, Passing::Gossip).expect("taken");
    net.pass(2 * SECOND);
    assert_eq!(net.reached(&over_the_other), 19);
    // Both are down: each half goes on alone.
    net.cut(5, 15);
    let left = net.post(1, Topic::All, Passing::Gossip).expect("taken");
    let right = net.post(12, Topic::All, Passing::Flood).expect("taken");
    net.pass(5 * SECOND);
    assert_eq!((net.reached(&left), net.reached(&right)), (9, 9));
    net.connect(3, 17);
    net.pass(5 * SECOND);
    assert_eq!((net.reached(&left), net.reached(&right)), (19, 19), "healed");
}

#[test]
fn who_comes_later_is_not_shown_the_past() {
    let mut net = Net::new(7, 3, |_| {});
    net.connect(0, 1);
    net.join(0, "readers");
    net.join(1, "readers");
    net.pass(SECOND);
    let group = || Topic::Group("readers".parse().expect("a name"));
    let early = net.post(0, group(), Passing::Gossip).expect("taken");
    net.pass(SECOND);
    net.connect(0, 2);
    net.join(2, "readers");
    net.pass(5 * SECOND);
    assert!(net.got(1, &early) && !net.got(2, &early));
    let late = net.post(1, group(), Passing::Gossip).expect("taken");
    net.pass(SECOND);
    assert!(net.got(2, &late));
}

#[test]
fn a_groups_posts_stay_among_its_members() {
    let mut net = Net::ring(8, 20, 6);
    for member in 0..8 {
        net.join(member, "readers");
    }
    net.pass(SECOND);
    let post = net.post(3, Topic::Group("readers".parse().expect("a name")), Passing::Gossip).expect("taken");
    net.pass(2 * SECOND);
    assert_eq!(net.reached(&post), 7, "the others would have refused it, which the simulation takes for a fault");
    assert!(net.post(3, Topic::Group("nobody".parse().expect("a name")), Passing::Gossip).is_none());
}

#[test]
fn posts_end_after_as_many_hops_as_are_allowed() {
    for passing in [Passing::Gossip, Passing::Flood] {
        let mut net = Net::new(9, 12, |_| {});
        for node in 1..12 {
            net.connect(node - 1, node);
        }
        net.pass(SECOND);
        let post = net.post(0, Topic::All, passing).expect("taken");
        net.pass(5 * SECOND);
        assert_eq!(net.reached(&post), 8, "seven nodes have passed it on");
        assert_eq!(net.sum(|stats| stats.at_hop_limit), 1);
    }
}

#[test]
fn a_flood_goes_over_every_connection() {
    let mut net = Net::ring(10, 30, 2);
    let connections = 30 * 3;
    let post = net.post(4, Topic::All, Passing::Flood).expect("taken");
    net.pass(2 * SECOND);
    assert_eq!(net.reached(&post), 29);
    let copies = net.sum(|stats| stats.flood.forwarded);
    assert!(copies > 60 && copies <= 2 * connections, "{copies}");
    assert_eq!(net.sum(|stats| stats.told), 0, "nobody has to be told of it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Connections come and go at random while posts are made; whoever is connected in the end has everything.
    #[test]
    fn whatever_tears_and_heals_every_post_reaches_every_node_once(seed in any::<u64>(), loss in 0..20_u64) {
        let mut net = Net::ring(seed, 24, 2);
        net.loss = if loss < 4 { 0 } else { loss };
        let (mut random, mut posts) = (Random::new(seed), Vec::new());
        for _ in 0..60 {
            let (one, other) = (random.next() as usize % 24, random.next() as usize % 24);
            // The ring stays, so that no node is too far away.
            if one.abs_diff(other) == 1 || one.abs_diff(other) == 23 || random.next() % 2 == 0 {
                net.connect(one, other);
            } else {
                net.cut(one, other);
            }
            let passing = if random.next() % 4 == 0 { Passing::Flood } else { Passing::Gossip };
            posts.extend(net.post(random.next() as usize % 24, Topic::All, passing));
            net.pass(Duration::from_millis(random.next() % 100));
        }
        net.loss = 0;
        // A mended star reaches all in few hops, however torn the rest is.
        for node in 1..24 {
            net.connect(0, node);
        }
        net.pass(20 * SECOND);
        for post in &posts {
            prop_assert_eq!(net.reached(post), 23);
        }
    }
}

// --- One node ---

fn one(configure: impl Fn(&mut NetworkConfig)) -> (Spread, Outbox, Random, Now) {
    let mut config = NetworkConfig::default();
    configure(&mut config);
    let now = Now { since_start: Duration::from_secs(10), unix_millis: 1_000_000 };
    let mut spread = Spread::new(peer(0), &config);
    for neighbour in 1..=3 {
        let joined = vec![(Topic::All, Duration::ZERO)];
        spread.hear(now, peer(neighbour), false, SpreadNote { hello: true, joined, ..SpreadNote::default() });
    }
    (spread, outbox(&config, 4), Random::new(1), now)
}

fn post(number: u8, priority: Priority) -> Post {
    Post {
        id: PostId([number; 16]),
        author: peer(99),
        topic: Topic::All,
        passing: Passing::Gossip,
        priority,
        hops: 0,
        expires_at: None,
        frame: vec![number; 100].into(),
    }
}

fn forwarded(spread: &mut Spread, outbox: &mut Outbox, now: Now) -> Vec<(PeerId, u8, u32)> {
    let mut out = Vec::new();
    spread.pump(now, outbox, &mut out);
    let copies = out.into_iter().filter_map(|output| match output {
        Output::Forward { peer, frame, hops, .. } => Some((peer, frame[0], hops)),
        _ => None,
    });
    copies.collect()
}

#[test]
fn a_forged_copy_keeps_nobody_from_the_genuine_post() {
    let (mut spread, mut outbox, mut random, now) = one(|_| {});
    // The same author, the same number, other bytes: another post, as its id says, and a bad one.
    let forged = Post { id: PostId([66; 16]), ..post(1, Priority::High) };
    assert_eq!(spread.arrived(now, peer(1), forged.clone(), &mut random), Arrived::Verify(forged.clone()));
    assert_eq!(
        spread.arrived(now, peer(2), post(1, Priority::High), &mut random),
        Arrived::Verify(post(1, Priority::High))
    );
    assert!(spread.verified(now, &forged.id, false, &mut random).is_none());
    assert!(forwarded(&mut spread, &mut outbox, now).is_empty(), "what is bad is not handed on");
    assert!(spread.verified(now, &post(1, Priority::High).id, true, &mut random).is_some());
    let to = forwarded(&mut spread, &mut outbox, now).into_iter().map(|(to, ..)| to).collect::<Vec<_>>();
    assert_eq!(to, [peer(1), peer(3)]);
    assert_eq!(spread.arrived(now, peer(3), forged, &mut random), Arrived::Known, "it is verified once");
}

#[test]
fn a_raised_hop_count_keeps_nobody_from_the_post_either() {
    let (mut spread, mut outbox, mut random, now) = one(|_| {});
    let with = |hops| Post { hops, ..post(1, Priority::High) };
    assert!(matches!(
        spread.arrived(now, peer(1), with(8), &mut random),
        Arrived::Refused(RejectReason::TooManyHops, _)
    ));
    assert!(matches!(spread.arrived(now, peer(1), with(7), &mut random), Arrived::Verify(_)));
    spread.verified(now, &with(7).id, true, &mut random);
    assert!(forwarded(&mut spread, &mut outbox, now).is_empty(), "it may go no further");
    assert_eq!(spread.arrived(now, peer(2), with(2), &mut random), Arrived::Known);
    let copies = forwarded(&mut spread, &mut outbox, now);
    assert_eq!(copies, [(peer(1), 1, 3), (peer(3), 1, 3)], "by the shorter way it may");
    let notes = spread.take_notes(&outbox);
    let enough = notes.iter().filter(|(_, note)| !note.enough.is_empty()).map(|(to, _)| *to).collect::<Vec<_>>();
    assert_eq!(enough, [peer(1)], "and that way is the one that is kept");
}

#[test]
fn for_a_slow_neighbour_the_least_urgent_posts_are_dropped_and_nobody_else_waits() {
    let (mut spread, mut outbox, mut random, now) = one(|config| config.propagation.queue_posts = 16);
    // The second neighbour's lanes are full; the others' are emptied at once.
    let mut out = Vec::new();
    for priority in Priority::ALL {
        while outbox.has_room(&peer(2), priority) {
            outbox.forward(peer(2), priority, vec![0].into(), 0, &mut out);
        }
    }
    let mut to_others = 0;
    for number in 0..60 {
        let priority = Priority::ALL[usize::from(number % 3)];
        let post = post(number, priority);
        assert!(matches!(spread.arrived(now, peer(1), post.clone(), &mut random), Arrived::Verify(_)));
        spread.verified(now, &post.id, true, &mut random);
        for (to, ..) in forwarded(&mut spread, &mut outbox, now) {
            assert_eq!(to, peer(3));
            let link = link(if to == peer(3) { 3 } else { 1 }).id;
            outbox.written(now, to, link, priority, 1);
            to_others += 1;
        }
    }
    assert_eq!((to_others, spread.stats.shed), (60, 44));
    for priority in Priority::ALL {
        outbox.written(now, peer(2), link(2).id, priority, 256);
    }
    let late = forwarded(&mut spread, &mut outbox, now);
    assert_eq!(late.len(), 16);
    assert!(late.iter().all(|(to, number, _)| *to == peer(2) && number % 3 == 0), "the most urgent are left: {late:?}");
    // It is told of the rest.
    let later = Now { since_start: now.since_start + SECOND, ..now };
    spread.tick(later);
    let told = spread.take_notes(&outbox).into_iter().find(|(to, _)| *to == peer(2)).map(|(_, note)| note.have.len());
    assert_eq!(told, Some(44));
}

#[test]
fn what_has_expired_goes_no_further() {
    let (mut spread, mut outbox, mut random, now) = one(|_| {});
    let expiring = Post { expires_at: Some(now.unix_millis + 100), ..post(1, Priority::High) };
    assert!(matches!(spread.arrived(now, peer(1), expiring.clone(), &mut random), Arrived::Verify(_)));
    spread.verified(now, &expiring.id, true, &mut random);
    let late = Now { unix_millis: now.unix_millis + 10_000, ..now };
    assert!(forwarded(&mut spread, &mut outbox, late).is_empty());
    let long_ago = Post { expires_at: Some(now.unix_millis - 60_000), ..post(2, Priority::High) };
    assert!(matches!(spread.arrived(now, peer(1), long_ago, &mut random), Arrived::Refused(RejectReason::Expired, _)));
}

#[test]
fn hostile_neighbours_fill_no_memory() {
    let (mut spread, _, mut random, now) = one(|config| config.propagation.keep_posts = 16);
    let mut made_up = 0_u128;
    for _ in 0..100 {
        let have = (0..1000).map(|_| {
            made_up += 1;
            PostId(made_up.to_be_bytes())
        });
        let note = SpreadNote { have: have.collect(), ..SpreadNote::default() };
        spread.hear(now, peer(1), false, note);
    }
    let later = Now { since_start: now.since_start + SECOND, ..now };
    spread.tick(later);
    assert!(spread.stats.asked <= 100, "no more than a batch is wanted at a time: {}", spread.stats.asked);
    for number in 0..=255 {
        let post = post(number, Priority::Low);
        spread.arrived(now, peer(2), post.clone(), &mut random);
        spread.verified(now, &post.id, true, &mut random);
        spread.posts.tick(now);
    }
    let known = (0..=255).filter(|number| spread.posts.get(&PostId([*number; 16])).is_some()).count();
    assert_eq!(known, 16);
}
