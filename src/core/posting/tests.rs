//! Posts between neighbours, the app and strangers, as the core decides.

use std::time::Duration;

use libp2p::PeerId;

use crate::{
    core::{GossipVerdict, Input, LinkId, Output, tests::Bench},
    frame::{Addressing, Content, Frame, Incoming, Passing, Post, PostId, SpreadNote, Topic},
    message::{Authenticity, MessageId, MessageKind, Priority},
};

const MOMENT: Duration = Duration::from_millis(250);

fn post(author: PeerId, nonce: u64, topic: Topic) -> (Post, Frame) {
    let addressing = match &topic {
        Topic::All => Addressing::Anyone,
        Topic::Group(group) => Addressing::Group(group.clone()),
    };
    let post = Post {
        id: PostId(u128::from(nonce).to_be_bytes()),
        author,
        topic,
        passing: Passing::Gossip,
        priority: Priority::Medium,
        hops: 0,
        expires_at: None,
        frame: nonce.to_be_bytes().to_vec().into(),
    };
    let frame = Frame {
        id: MessageId { sender: author, nonce },
        kind: MessageKind::Event,
        priority: Priority::Medium,
        addressing,
        created_at: None,
        ttl: None,
        hops: 0,
        authenticity: Authenticity::Signed,
        payload: "hello".into(),
    };
    (post, frame)
}

fn says(bench: &mut Bench, peer: PeerId, content: Content) -> Vec<Output> {
    let incoming = Incoming { content, acknowledged: Vec::new() };
    bench.handle(Input::Frames { peer, link: LinkId(1), batch: vec![Ok(incoming)], bytes: 100 })
}

/// A neighbour that takes part in topics.
fn neighbour(bench: &mut Bench, topics: &[Topic]) -> PeerId {
    let peer = PeerId::random();
    bench.open(peer, true, None);
    let joined = topics.iter().map(|topic| (topic.clone(), Duration::ZERO)).collect();
    says(bench, peer, Content::Spread(SpreadNote { hello: true, joined, ..SpreadNote::default() }));
    peer
}

/// A neighbour hands on a post, and it is good.
fn hands_on(bench: &mut Bench, from: PeerId, (post, frame): (Post, Frame)) -> Vec<Output> {
    let outputs = says(bench, from, Content::Post(post.clone()));
    assert!(outputs.contains(&Output::Verify { from, post: post.clone() }), "{outputs:?}");
    bench.handle(Input::Verified { from, id: post.id, result: Box::new(Ok(frame)) })
}

fn bridged(outputs: &[Output]) -> Vec<PostId> {
    let posts = outputs.iter().filter_map(|output| match output {
        Output::Bridge { post, .. } => Some(post.id),
        _ => None,
    });
    posts.collect()
}

fn verdicts(outputs: &[Output]) -> Vec<GossipVerdict> {
    let verdicts = outputs.iter().filter_map(|output| match output {
        Output::Judge { verdict, .. } => Some(*verdict),
        _ => None,
    });
    verdicts.collect()
}

#[test]
fn strangers_get_a_post_from_here_when_nobody_else_was_first() {
    let mut bench = Bench::new(|_| {});
    let (from, author, stranger) = (neighbour(&mut bench, &[Topic::All]), PeerId::random(), PeerId::random());
    let gossiped = |(post, frame): (Post, Frame)| Input::Gossiped {
        source: stranger,
        ticket: 1,
        result: Box::new(Ok((post, frame))),
    };
    let mut outputs = hands_on(&mut bench, from, post(author, 1, Topic::All));
    outputs.extend(bench.pass(MOMENT));
    assert!(bridged(&outputs).is_empty(), "there is no stranger");

    bench.handle(Input::StrangerListens);
    let second = post(author, 2, Topic::All);
    assert!(bridged(&hands_on(&mut bench, from, second.clone())).is_empty());
    assert_eq!(bridged(&bench.pass(MOMENT)), [second.0.id]);
    assert_eq!(verdicts(&bench.handle(gossiped(second))), [GossipVerdict::Ignore], "that is one's own copy");

    // Another node carries it over meanwhile: strangers behind this one get that copy, and no other.
    let third = post(author, 3, Topic::All);
    hands_on(&mut bench, from, third.clone());
    assert_eq!(verdicts(&bench.handle(gossiped(third))), [GossipVerdict::PassOn]);
    assert!(bridged(&bench.pass(MOMENT)).is_empty());

    let own = bench.post(4, Topic::All);
    let outputs = bench.handle(Input::Post { message: own });
    assert_eq!(bridged(&outputs).len(), 1, "one's own goes at once");

    hands_on(&mut bench, from, post(author, 5, Topic::All));
    assert_eq!(bridged(&bench.handle(Input::Drain)).len(), 1, "nothing stays behind");
}

#[test]
fn who_is_no_member_of_a_group_hands_its_posts_on_and_keeps_them_from_the_app() {
    let mut bench = Bench::new(|_| {});
    let group = |name: &str| Topic::Group(name.parse().expect("a name"));
    let author = neighbour(&mut bench, &[Topic::All, group("readers")]);
    // Nobody else takes part yet.
    let outputs = says(&mut bench, author, Content::Post(post(author, 1, group("readers")).0));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Verify { .. })));
    assert_eq!(bench.core.rejections()["unknown_group"], 1);

    let member = neighbour(&mut bench, &[Topic::All, group("readers")]);
    let outputs = hands_on(&mut bench, author, post(author, 2, group("readers")));
    let forwards = outputs.iter().filter_map(|output| match output {
        Output::Forward { peer, hops, .. } => Some((*peer, *hops)),
        _ => None,
    });
    assert_eq!(forwards.collect::<Vec<_>>(), [(member, 1)]);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Deliver(_))));
    let stats = bench.core.stats();
    assert_eq!((stats.propagation.carried, stats.messages_received.medium), (1, 0));

    // It says so, and is a member from the moment it joins.
    bench.handle(Input::JoinGroup { group: "readers".parse().expect("a name") });
    let outputs = hands_on(&mut bench, author, post(author, 3, group("readers")));
    assert!(outputs.iter().any(|output| matches!(output, Output::Deliver(_))));
    assert_eq!(bench.core.rejections().values().sum::<u64>(), 1);
}
