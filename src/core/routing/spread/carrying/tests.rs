//! What is promised of groups: each post at every member that a path leads to, once, and nowhere else for nothing.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{
    super::{Passing, SpreadNote, simulation::Net, simulation::peer},
    *,
};
use crate::{
    frame::{Content, ControlContent},
    wire,
};

const SECOND: Duration = Duration::from_secs(1);

fn group() -> Topic {
    Topic::Group("readers".parse().expect("a name"))
}

/// A chain of so many nodes.
fn chain(count: usize, configure: impl Fn(&mut crate::config::NetworkConfig)) -> Net {
    let mut net = Net::new(1, count, configure);
    for node in 1..count {
        net.connect(node - 1, node);
    }
    net.pass(SECOND);
    net
}

#[test]
fn a_groups_posts_cross_nodes_that_are_no_members() {
    let mut net = chain(6, |_| {});
    net.join(0, "readers");
    net.join(5, "readers");
    net.pass(SECOND);
    for (author, other) in [(0, 5), (5, 0)] {
        for passing in [Passing::Gossip, Passing::Flood] {
            let post = net.post(author, group(), passing).expect("somebody takes it");
            net.pass(SECOND);
            assert_eq!(net.reached(&post), 1);
            assert!(net.got(other, &post));
        }
    }
    assert_eq!(net.sum(|stats| stats.carried), 4 * 4);
    assert_eq!(net.sum(|stats| stats.gossip.received + stats.flood.received), 4, "nobody else counts it as its own");
}

#[test]
fn nobody_carries_further_than_is_allowed() {
    for (allowed, nodes, arrives) in [(0, 3, false), (1, 3, true), (1, 4, false), (2, 4, true), (64, 8, true)] {
        let mut net = chain(nodes, |config| config.propagation.max_carriers = allowed);
        net.join(0, "readers");
        net.join(nodes - 1, "readers");
        net.pass(SECOND);
        let post = net.post(0, group(), Passing::Gossip);
        net.pass(SECOND);
        assert_eq!(post.is_some(), arrives, "{allowed} allowed, {nodes} nodes");
        assert_eq!(post.is_some_and(|post| net.got(nodes - 1, &post)), arrives);
    }
}

#[test]
fn a_member_alone_in_a_ring_has_no_company() {
    let mut net = Net::ring(2, 12, 1);
    net.join(0, "readers");
    net.pass(SECOND);
    assert_eq!(net.post(0, group(), Passing::Gossip), None, "nobody takes it, so it can wait for somebody");
    // One comes, and one goes again: what went round ends.
    net.join(6, "readers");
    net.pass(SECOND);
    let post = net.post(0, group(), Passing::Gossip).expect("there is somebody");
    net.pass(SECOND);
    assert!(net.got(6, &post));
    net.leave(6, "readers");
    net.pass(2 * SECOND);
    assert_eq!(net.post(0, group(), Passing::Gossip), None);
}

#[test]
fn dead_ends_carry_nothing() {
    // Two members with a node between, and a tail behind one of them.
    let mut net = chain(6, |_| {});
    net.join(0, "readers");
    net.join(2, "readers");
    net.pass(SECOND);
    let post = net.post(0, group(), Passing::Gossip).expect("taken");
    net.pass(SECOND);
    assert!(net.got(2, &post));
    assert_eq!(net.sum(|stats| stats.carried), 1, "by the one between");
}

#[test]
fn members_that_know_each_other_need_no_carrier() {
    let mut net = Net::new(4, 6, |_| {});
    for one in 0..6 {
        for other in 0..one {
            net.connect(one, other);
        }
    }
    for member in 0..4 {
        net.join(member, "readers");
    }
    net.pass(SECOND);
    for author in 0..4 {
        let post = net.post(author, group(), Passing::Gossip).expect("taken");
        net.pass(SECOND);
        assert_eq!(net.reached(&post), 3);
    }
    assert_eq!(net.sum(|stats| stats.carried), 0);
}

#[test]
fn a_member_behind_a_crowd_is_not_forgotten() {
    // More members than are named, who all know each other and one carrier, behind which one more is.
    let mut net = Net::new(5, 14, |_| {});
    for one in 0..12 {
        for other in 0..one {
            net.connect(one, other);
        }
        net.connect(one, 12);
        net.join(one, "readers");
    }
    net.connect(12, 13);
    net.join(13, "readers");
    net.pass(SECOND);
    for author in [0, 7, 13] {
        let post = net.post(author, group(), Passing::Gossip).expect("taken");
        net.pass(2 * SECOND);
        assert_eq!(net.reached(&post), 12);
    }
}

#[test]
fn a_way_that_breaks_is_made_good_by_another() {
    // Two ways between two members, each over nodes that are none.
    let mut net = Net::new(3, 6, |_| {});
    for (one, other) in [(0, 1), (1, 5), (0, 2), (2, 3), (3, 5)] {
        net.connect(one, other);
    }
    net.join(0, "readers");
    net.join(5, "readers");
    net.pass(SECOND);
    let first = net.post(0, group(), Passing::Gossip).expect("taken");
    net.pass(2 * SECOND);
    net.cut(1, 5);
    let second = net.post(0, group(), Passing::Gossip).expect("taken");
    net.pass(2 * SECOND);
    // Nobody takes part any more that could be reached; then the way is there again.
    net.cut(3, 5);
    net.pass(SECOND);
    assert_eq!(net.post(0, group(), Passing::Gossip), None);
    net.connect(3, 5);
    net.pass(SECOND);
    let third = net.post(0, group(), Passing::Gossip).expect("taken");
    net.pass(2 * SECOND);
    assert_eq!([first, second, third].map(|post| net.reached(&post)), [1; 3]);
}

#[test]
fn a_node_that_becomes_a_member_hears_from_then_on() {
    let mut net = chain(3, |_| {});
    net.join(0, "readers");
    net.join(2, "readers");
    net.pass(SECOND);
    let before = net.post(0, group(), Passing::Gossip).expect("taken");
    net.pass(SECOND);
    net.join(1, "readers");
    net.pass(SECOND);
    let after = net.post(0, group(), Passing::Gossip).expect("taken");
    net.pass(SECOND);
    assert_eq!((net.reached(&before), net.reached(&after)), (1, 2));
    net.leave(1, "readers");
    net.pass(SECOND);
    let again = net.post(2, group(), Passing::Gossip).expect("taken");
    net.pass(SECOND);
    assert!(net.got(0, &again) && !net.got(1, &again));
}

/// Members of many groups (0 to 4) around one node that carries (5), and two more neighbours of that (6 and 7).
fn crowded() -> Net {
    let mut net = Net::new(6, 8, |_| {});
    for node in [0, 1, 2, 3, 4, 6, 7] {
        net.connect(5, node);
    }
    for member in 0..4 {
        for number in 0..MAX_CARRIED / 4 {
            net.join(member, &format!("group-{member}-{number}"));
        }
    }
    net.pass(SECOND);
    assert!(net.spread(5).carried.is_full());
    net
}

#[test]
fn a_group_that_found_no_place_gets_one_when_another_goes() {
    let named = |name: &str| Topic::Group(name.parse().expect("a name"));
    let mut net = crowded();
    net.join(6, "readers");
    net.join(7, "readers");
    net.pass(SECOND);
    assert_eq!(net.post(6, group(), Passing::Gossip), None, "that one came too late");
    net.join(6, "group-0-0");
    net.pass(SECOND);
    let carried = net.post(6, named("group-0-0"), Passing::Gossip).expect("taken");
    net.pass(SECOND);
    assert!(net.got(0, &carried), "the others are left alone");

    net.leave(1, "group-1-0");
    net.pass(SECOND);
    let post = net.post(6, group(), Passing::Gossip).expect("there is a place");
    net.pass(SECOND);
    assert!(net.got(7, &post));
}

#[test]
fn of_one_note_places_are_freed_before_they_are_given() {
    let mut net = crowded();
    let name = |name: &str| name.parse::<GroupName>().expect("a name");
    // By their names the new one would come first.
    let joined = vec![(Topic::Group(name("a-new-one")), SECOND)];
    let note = SpreadNote { joined, left: vec![name("group-0-0")], ..SpreadNote::default() };
    let now = net.now;
    net.spread(5).hear(now, peer(0), false, note);
    assert!(net.spread(5).carried.contains(&name("a-new-one")));
}

#[test]
fn one_neighbour_takes_a_quarter_of_the_places_and_more_only_with_others() {
    let mut net = chain(3, |_| {});
    for number in 0..MAX_CARRIED {
        net.join(0, &format!("group-{number}"));
    }
    net.join(0, "readers");
    net.pass(SECOND);
    assert_eq!(net.spread(1).carried.names().len(), MAX_CARRIED / 4);
    assert_eq!(net.spread(1).refused.names().len(), MAX_CARRIED + 1 - MAX_CARRIED / 4);
    // Somebody else waits for its posts.
    net.join(2, "readers");
    net.pass(SECOND);
    let post = net.post(2, group(), Passing::Gossip).expect("taken");
    net.pass(SECOND);
    assert!(net.got(0, &post));
    // A group that is no more by this neighbour alone leaves its place to another.
    net.join(2, "group-0");
    net.pass(SECOND);
    assert_eq!(net.spread(1).carried.names().len(), MAX_CARRIED / 4 + 2);
    net.cut(0, 1);
    assert_eq!(net.spread(1).carried.names().len(), 2);
    assert!(net.spread(1).refused.names().is_empty());
}

#[test]
fn what_a_neighbour_claims_is_bounded_and_this_node_is_never_beyond_itself() {
    let mut net = chain(2, |_| {});
    let name = |number: usize| format!("group-{number}").parse::<GroupName>().expect("a name");
    let beyond = |number, members: Vec<(PeerId, u32)>| Beyond { group: name(number), since: SECOND, members };
    let all = (0..1000).map(|number| beyond(number, vec![(peer(9), 1)]));
    let odd = [
        beyond(2000, vec![(peer(0), 1)]),
        beyond(2001, vec![(peer(9), 0)]),
        beyond(2002, vec![(peer(9), 8), (peer(8), u32::MAX)]),
    ];
    let note = SpreadNote { beyond: odd.into_iter().chain(all).collect(), ..SpreadNote::default() };
    let now = net.now;
    let spread = net.spread(0);
    let heard = spread.hear(now, peer(1), false, note);
    assert_eq!(heard.joined.len(), MAX_CARRIED);
    assert!(
        heard
            .joined
            .iter()
            .all(|(topic, _)| ![2000, 2001, 2002].map(|number| Topic::Group(name(number))).contains(topic))
    );
    assert_eq!(spread.carried.names().len(), MAX_CARRIED / 4);
    let gone = (0..1000).map(|number| beyond(number, vec![]));
    spread.hear(now, peer(1), false, SpreadNote { beyond: gone.collect(), ..SpreadNote::default() });
    assert!(spread.carried.names().is_empty() && spread.refused.names().is_empty());
}

#[test]
fn a_neighbour_that_takes_no_note_is_told_how_things_are() {
    let mut net = chain(3, |_| {});
    let (now, name) = (net.now, |number: usize| format!("group-{number}").parse::<GroupName>().expect("a name"));
    let joined = |number| vec![(Topic::Group(name(number)), SECOND)];
    for number in 0..3 * MAX_CARRIED {
        let left = if number < 10 { Vec::new() } else { vec![name(number - 10)] };
        let note = SpreadNote { joined: joined(number), left, ..SpreadNote::default() };
        net.spread(1).hear(now, peer(0), false, note);
        // Nobody takes what node 2 is to be told.
        assert!(net.spread(1).neighbours[&peer(2)].note.beyond.len() <= MAX_CARRIED);
    }
    let note = std::mem::take(&mut net.spread(1).neighbours.get_mut(&peer(2)).expect("a neighbour").note);
    assert!(note.hello, "it has outgrown what may be told");
    let frame = wire::control_frame(ControlContent::Spread(note));
    let Content::Spread(note) = wire::decode(&frame, peer(1), 0).expect("it can be read").content else {
        panic!("a note")
    };
    net.spread(2).hear(now, peer(1), false, note);
    let told = net.spread(1).neighbours[&peer(2)].told.clone();
    let heard = &net.spread(2).neighbours[&peer(1)].beyond;
    let heard = heard.iter().map(|(group, reach)| (group.clone(), reach.members.clone()));
    assert_eq!(told, heard.collect::<BTreeMap<_, _>>());
    assert_eq!(told.len(), 10);
}

#[test]
fn who_hears_anew_what_a_neighbour_takes_part_in_hears_what_it_reaches_too() {
    let mut net = chain(3, |_| {});
    net.join(0, "readers");
    net.pass(SECOND);
    let now = net.now;
    for number in 0..=SpreadNote::MAX_TOPICS {
        // Nobody takes what node 2 is to be told.
        let name = format!("group-{number}").parse::<GroupName>().expect("a name");
        net.spread(1).join(now, name.clone());
        net.spread(1).leave(now, &name);
    }
    let note = std::mem::take(&mut net.spread(1).neighbours.get_mut(&peer(2)).expect("a neighbour").note);
    assert!(note.hello && note.left.is_empty());
    net.spread(2).hear(now, peer(1), false, note);
    let reached = net.spread(2).neighbours[&peer(1)].beyond.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(reached, ["readers"]);
}

/// How far each node is from one.
fn distances(links: &[(usize, usize)], from: usize) -> BTreeMap<usize, u32> {
    let (mut known, mut next) = (BTreeMap::from([(from, 0)]), VecDeque::from([from]));
    while let Some(node) = next.pop_front() {
        for (one, other) in links {
            for (here, there) in [(*one, *other), (*other, *one)] {
                if here == node && !known.contains_key(&there) {
                    known.insert(there, known[&node] + 1);
                    next.push_back(there);
                }
            }
        }
    }
    known
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whoever is a member, whatever lies between: each post comes to each once.
    #[test]
    fn every_member_that_a_path_leads_to_gets_each_post_once(
        seed in any::<u64>(),
        links in prop::collection::btree_set((0_usize..14, 0_usize..14), 10..30),
        members in prop::collection::btree_set(0_usize..14, 2..6),
    ) {
        let links = links.into_iter().filter(|(one, other)| one != other).collect::<Vec<_>>();
        // Trees are no shortest ways: how far posts go is another matter.
        let mut net = Net::new(seed, 14, |config| {
            (config.propagation.max_hops, config.propagation.max_carriers) = (64, 64);
        });
        for member in &members {
            net.join(*member, "readers");
        }
        for (one, other) in &links {
            net.connect(*one, *other);
        }
        net.pass(3 * SECOND);
        for author in &members {
            let distances = distances(&links, *author);
            let near = |member: &&usize| *member != author && distances.contains_key(member);
            let expected = members.iter().filter(near).copied().collect::<Vec<_>>();
            for _ in 0..3 {
                let post = net.post(*author, group(), Passing::Gossip);
                net.pass(3 * SECOND);
                prop_assert_eq!(post.is_some(), !expected.is_empty());
                let Some(post) = post else { continue };
                net.reached(&post);
                for member in &expected {
                    prop_assert!(net.got(*member, &post), "{} to {} by {:?}", author, member, links);
                }
            }
        }
    }
}
