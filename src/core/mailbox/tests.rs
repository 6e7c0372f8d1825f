//! The core with mailboxes around it.

use std::time::Duration;

use libp2p::PeerId;

use super::super::{Input, PeerFacts, tests::Bench};
use super::*;
use crate::{
    event::NetworkEvent,
    frame::{Addressing, Collect, Content, ControlContent, Deposit, Incoming, Rejection, Taking},
    message::Priority,
    receipt::{QueueReason, ReceiptState},
};

/// Peers to whom something can be sealed.
fn peer() -> PeerId {
    libp2p::identity::Keypair::generate_ed25519().public().to_peer_id()
}

fn facts(mailbox: bool) -> PeerFacts {
    PeerFacts {
        agent: "test".into(),
        addresses: Vec::new(),
        same_network: Some(true),
        speaks_cpc: true,
        relay: false,
        mailbox,
        signals_webrtc: false,
    }
}

/// A connected mailbox; what it is told at once.
fn mailbox(bench: &mut Bench) -> (PeerId, LinkId, Vec<Output>) {
    let peer = peer();
    let (link, _) = bench.open(peer, false, None);
    let outputs = bench.handle(Input::Identified { peer, facts: facts(true) });
    (peer, link, outputs)
}

fn send(bench: &mut Bench, to: PeerId, nonce: u64, ttl: Option<Duration>) -> Vec<Output> {
    let mut message = bench.message(nonce, Priority::Medium, ttl);
    message.letter.addressing = Addressing::Peer(to);
    bench.handle(Input::Send { peer: to, message })
}

fn hears(bench: &mut Bench, from: (PeerId, LinkId), mail: Mail) -> Vec<Output> {
    let incoming = Incoming { content: Content::Mail(Box::new(mail)), acknowledged: Vec::new() };
    bench.handle(Input::Frames { peer: from.0, link: from.1, batch: vec![Ok(incoming)], bytes: 100 })
}

fn deposits(outputs: &[Output]) -> Vec<(PeerId, Deposit)> {
    let deposits = outputs.iter().filter_map(|output| match output {
        Output::Mail { peer, note: ToMailbox::Deposit(deposit), .. } => Some((*peer, Deposit::clone(deposit))),
        _ => None,
    });
    deposits.collect()
}

fn takings(outputs: &[Output]) -> Vec<(PeerId, Taking)> {
    let takings = outputs.iter().filter_map(|output| match output {
        Output::Mail { peer, note: ToMailbox::Collect(taking), .. } => Some((*peer, Taking::clone(taking))),
        _ => None,
    });
    takings.collect()
}

fn receipts(outputs: &[Output]) -> Vec<(u64, ReceiptState)> {
    let receipts = outputs.iter().filter_map(|output| match output {
        Output::Receipt { nonce, state } => Some((*nonce, state.clone())),
        _ => None,
    });
    receipts.collect()
}

fn kept(number: u64) -> Mail {
    Mail::Answers(vec![Answer { number, kept_for: Ok(Duration::from_secs(24 * 3600)) }])
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn what_waits_for_a_peer_that_is_away_is_left_at_a_mailbox_and_waits_on_until_it_has_arrived() {
    let mut bench = Bench::new(|_| {});
    let (away, (mailbox, link, outputs)) = (peer(), mailbox(&mut bench));
    assert_eq!(takings(&outputs).len(), 1, "what it has for this node is asked for");
    assert!(deposits(&send(&mut bench, away, 1, None)).is_empty(), "not at once");
    let left = deposits(&bench.pass(Duration::from_secs(3)));
    let [(at, deposit)] = &left[..] else { panic!("one deposit: {left:?}") };
    assert_eq!((*at, deposit.recipient, deposit.letter.nonce), (mailbox, away, 1));
    let outputs = hears(&mut bench, (mailbox, link), kept(deposit.number));
    let why = QueueReason::Mailbox { at: mailbox };
    assert_eq!(receipts(&outputs), [(1, ReceiptState::Queued { why })]);
    assert!(receipts(&bench.pass(HOUR)).is_empty(), "it does not fail after the general time-out");

    let content = Sealed::Arrival { by: away, nonces: vec![NonceRange { first: 1, last: 1 }] };
    let run = takings(&outputs).last().map_or(0, |(_, taking)| taking.run);
    assert_eq!(run, 0, "nothing new was asked for");
    let run = bench.core.mailboxes.collector.run_of(&mailbox).expect("it is connected");
    let outputs = hears(&mut bench, (mailbox, link), Mail::Piece(Piece { run, slot: 9, confirmation: true, content }));
    assert_eq!(receipts(&outputs), [(1, ReceiptState::Delivered)]);
    assert_eq!(takings(&outputs).first().map(|(_, taking)| taking.taken.clone()), Some(vec![9]));
}

#[test]
fn what_a_mailbox_keeps_ends_when_its_time_is_over_and_other_messages_as_ever() {
    let mut bench = Bench::new(|_| {});
    let (away, (mailbox, link, _)) = (peer(), mailbox(&mut bench));
    send(&mut bench, away, 1, Some(HOUR));
    send(&mut bench, away, 2, None);
    send(&mut bench, away, 3, Some(Duration::from_secs(30)));
    let left = deposits(&bench.pass(Duration::from_secs(3)));
    assert_eq!(
        left.iter().map(|(_, deposit)| deposit.letter.nonce).collect::<Vec<_>>(),
        [1, 2],
        "the third is ephemeral"
    );
    assert!(left[0].1.keep_for < HOUR && left[0].1.keep_for > HOUR - Duration::from_secs(5));
    // A mailbox that says that it keeps it for ever is not believed.
    let forever = Answer { number: left[0].1.number, kept_for: Ok(Duration::from_secs(1 << 40)) };
    hears(&mut bench, (mailbox, link), Mail::Answers(vec![forever]));
    let refused = Answer { number: left[1].1.number, kept_for: Err("full".into()) };
    let outputs = hears(&mut bench, (mailbox, link), Mail::Answers(vec![refused]));
    assert!(outputs.iter().any(
        |output| matches!(output, Output::Event(NetworkEvent::MailboxRefused { reason, .. }) if reason == "full")
    ));
    let ended = receipts(&bench.pass(Duration::from_secs(59)));
    assert!(matches!(&ended[..], [(3, ReceiptState::Expired { .. }), (2, ReceiptState::Failed { .. })]), "{ended:?}");
    let ended = receipts(&bench.pass(HOUR));
    assert!(matches!(&ended[..], [(1, ReceiptState::Expired { .. })]), "{ended:?}");
}

#[test]
fn the_nearest_two_get_a_copy_and_another_one_when_one_refuses_or_never_answers() {
    let mut bench = Bench::new(|config| config.delivery.timeout = HOUR);
    let away = peer();
    let mailboxes = (0..4).map(|_| mailbox(&mut bench)).map(|(peer, link, _)| (peer, link)).collect::<Vec<_>>();
    let link_of = |peer: PeerId| *mailboxes.iter().find(|(mailbox, _)| *mailbox == peer).expect("one of them");
    send(&mut bench, away, 1, None);
    let left = deposits(&bench.pass(Duration::from_secs(3)));
    assert_eq!(left.len(), 2);
    let refused = Answer { number: left[0].1.number, kept_for: Err("sender_full".into()) };
    let next = deposits(&hears(&mut bench, link_of(left[0].0), Mail::Answers(vec![refused])));
    assert_eq!(next.len(), 1, "the third is asked");
    assert!(left.iter().all(|(peer, _)| *peer != next[0].0));
    hears(&mut bench, link_of(next[0].0), kept(next[0].1.number));
    // The second never answers: after a while the fourth is asked.
    let outputs = bench.pass(Duration::from_secs(32));
    let last = deposits(&outputs);
    assert_eq!(last.len(), 1, "{last:?}");
    assert!(left.iter().chain(&next).all(|(peer, _)| *peer != last[0].0));
    hears(&mut bench, link_of(last[0].0), kept(last[0].1.number));
    assert!(deposits(&bench.pass(Duration::from_secs(600))).is_empty(), "two copies are enough");
}

#[test]
fn what_was_on_its_way_to_a_mailbox_that_went_is_left_again_and_a_way_to_the_peer_comes_first() {
    let mut bench = Bench::new(|_| {});
    let (away, (mailbox, link, _)) = (peer(), mailbox(&mut bench));
    send(&mut bench, away, 1, None);
    assert_eq!(deposits(&bench.pass(Duration::from_secs(3))).len(), 1);
    bench.handle(Input::LinkClosed { peer: mailbox, link, reason: "it broke".into() });
    let (link, _) = bench.open(mailbox, false, None);
    let again = deposits(&bench.handle(Input::Identified { peer: mailbox, facts: facts(true) }));
    assert_eq!(again.iter().map(|(_, deposit)| deposit.letter.nonce).collect::<Vec<_>>(), [1]);
    hears(&mut bench, (mailbox, link), kept(again[0].1.number));

    // The peer comes: the message goes straight, and the mailbox gets nothing more.
    let (_, outputs) = bench.open(away, false, None);
    assert_eq!(super::super::tests::transmitted(&outputs), [1]);
    assert!(deposits(&send(&mut bench, away, 2, None)).is_empty());
    assert!(deposits(&bench.pass(Duration::from_secs(10))).is_empty());
}

#[test]
fn an_answer_to_what_was_never_asked_is_an_offence_and_a_late_one_is_not() {
    let mut bench = Bench::new(|_| {});
    let (away, (mailbox, link, _)) = (peer(), mailbox(&mut bench));
    send(&mut bench, away, 1, None);
    let left = deposits(&bench.pass(Duration::from_secs(3)));
    let rejections = |outputs: &[Output]| {
        outputs.iter().filter(|output| matches!(output, Output::Event(NetworkEvent::MessageRejected { .. }))).count()
    };
    let number = left[0].1.number;
    assert_eq!(rejections(&hears(&mut bench, (mailbox, link), kept(number))), 0);
    assert_eq!(rejections(&hears(&mut bench, (mailbox, link), kept(number))), 0, "twice is once");
    assert_eq!(rejections(&hears(&mut bench, (mailbox, link), kept(number + 1))), 1);
    let bad = Sealed::Bad(Rejection::new(crate::event::RejectReason::WrongSeal, "garbage"));
    let run = bench.core.mailboxes.collector.run_of(&mailbox).expect("it is connected");
    let piece = |run| Mail::Piece(Piece { run, slot: 1, confirmation: false, content: bad.clone() });
    assert_eq!(rejections(&hears(&mut bench, (mailbox, link), piece(run))), 0, "it can't look inside");
    assert_eq!(bench.core.rejections()["wrong_seal"], 1);
    assert_eq!(rejections(&hears(&mut bench, (mailbox, link), piece(run + 1))), 0, "asked for by an earlier life");
    assert_eq!(rejections(&hears(&mut bench, (mailbox, link), piece(0))), 1, "which nobody ever asks for");
}

#[test]
fn a_neighbour_that_reads_nothing_gets_the_same_letters_ever_more_rarely() {
    let mut bench = Bench::new(|config| config.mailbox.serve = true);
    let (alice, bob) = (peer(), peer());
    let (from, _) = bench.open(alice, false, None);
    let (link, _) = bench.open(bob, false, None);
    for ticket in 0..300 {
        let deposited = crate::frame::Deposited {
            number: ticket,
            ticket,
            recipient: bob,
            keep_for: HOUR,
            sealed: vec![0; 300].into(),
        };
        hears(&mut bench, (alice, from), Mail::Deposited(deposited));
    }
    let pieces = |outputs: &[Output]| {
        let is_piece = |output: &&Output| matches!(output, Output::Control { content: ControlContent::Piece(_), .. });
        outputs.iter().filter(is_piece).count()
    };
    let collect = |run| {
        let (taken, confirmations) = (Vec::new(), Vec::new());
        Mail::Collect(Collect { run, letters: 64, bytes: 1 << 20, taken, confirmations })
    };
    let outputs = hears(&mut bench, (bob, link), collect(1));
    assert_eq!(pieces(&outputs), 64);
    let lost = |bench: &mut Bench| bench.handle(Input::Lost { peer: bob, link, priority: Priority::Medium, count: 64 });
    let (mut handed, mut outputs) = (0, lost(&mut bench));
    let until = bench.now.since_start + Duration::from_secs(60);
    while bench.now.since_start < until && handed < 64 * 100 {
        let count = pieces(&outputs);
        handed += count;
        outputs = if count > 0 { lost(&mut bench) } else { bench.pass(Duration::from_millis(500)) };
    }
    // After 1, 3, 7, 15, 31 seconds.
    assert_eq!(handed, 5 * 64);

    // One that says something meanwhile is not served the quicker, but not forgotten either.
    assert_eq!(pieces(&hears(&mut bench, (bob, link), collect(2))), 0);
    assert_eq!(pieces(&bench.pass(Duration::from_secs(30))), 64);
}

#[test]
fn what_a_neighbour_has_not_read_stalls_its_mail_until_it_was_written() {
    let mut bench = Bench::new(|config| config.mailbox.patience = Duration::ZERO);
    let (away, (mailbox, link, _)) = (peer(), mailbox(&mut bench));
    bench.handle(Input::Written { peer: mailbox, link, priority: Priority::High, count: 9, bytes: 9 });
    for nonce in 0..256 {
        bench.send(mailbox, 1000 + nonce, Priority::Medium);
    }
    assert!(deposits(&send(&mut bench, away, 1, None)).is_empty());
    assert!(deposits(&bench.pass(Duration::from_secs(1))).is_empty());
    let written = Input::Written { peer: mailbox, link, priority: Priority::Medium, count: 1, bytes: 9 };
    assert_eq!(deposits(&bench.handle(written)).len(), 1);
}

#[test]
fn a_mailbox_that_keeps_nothing_for_long_does_not_keep_others_from_it() {
    let mut bench = Bench::new(|config| config.mailbox.copies = 2);
    let (away, (first, link, _)) = (peer(), mailbox(&mut bench));
    send(&mut bench, away, 1, None);
    let left = deposits(&bench.pass(Duration::from_secs(3)));
    let shortly = Answer { number: left[0].1.number, kept_for: Ok(Duration::from_millis(1)) };
    hears(&mut bench, (first, link), Mail::Answers(vec![shortly]));
    let (second, _, outputs) = mailbox(&mut bench);
    let [(at, deposit)] = &deposits(&outputs)[..] else { panic!("one deposit: {outputs:?}") };
    assert_eq!((*at, deposit.keep_for), (second, bench.core.settings.config.mailbox.keep_for));
}

#[test]
fn all_that_was_on_its_way_is_left_again_from_the_first_on() {
    let mut bench = Bench::new(|_| {});
    let (away, (mailbox, link, _)) = (peer(), mailbox(&mut bench));
    (0..3).for_each(|nonce| drop(send(&mut bench, away, nonce, None)));
    let nonces =
        |outputs: &[Output]| deposits(outputs).iter().map(|(_, deposit)| deposit.letter.nonce).collect::<Vec<_>>();
    assert_eq!(nonces(&bench.pass(Duration::from_secs(3))), [0, 1, 2]);
    bench.handle(Input::Lost { peer: mailbox, link, priority: Priority::Medium, count: 3 });
    assert_eq!(nonces(&bench.pass(Duration::from_secs(2))), [0, 1, 2]);
}

#[test]
fn a_node_that_has_stopped_has_no_deadline_in_the_past() {
    let mut bench = Bench::new(|_| {});
    let (away, _) = (peer(), mailbox(&mut bench));
    send(&mut bench, away, 1, None);
    let mut outputs = bench.handle(Input::Drain);
    assert_eq!(deposits(&outputs).len(), 1, "at once, and nobody answers");
    outputs.extend(bench.pass(bench.core.settings.config.delivery.drain_timeout));
    assert!(outputs.iter().any(|output| matches!(output, Output::Drained)));
    bench.now.since_start += Duration::from_secs(60);
    bench.handle(Input::Tick);
    assert!(bench.core.next_deadline().is_none_or(|deadline| deadline >= bench.now.since_start));
}

#[test]
fn a_letter_older_than_mailboxes_keep_any_is_not_shown_whoever_is_forgotten() {
    let mut bench = Bench::new(|_| {});
    bench.now.unix_millis = 2_000_000_000_000;
    let (author, (mailbox, link, outputs)) = (peer(), mailbox(&mut bench));
    let run = takings(&outputs)[0].1.run;
    let letter = |bench: &Bench, nonce, days: u64, ttl| {
        let frame = Frame {
            id: MessageId { sender: author, nonce },
            kind: crate::message::MessageKind::Event,
            priority: Priority::Medium,
            addressing: Addressing::Peer(bench.core.settings.local),
            created_at: Some(bench.now.unix_millis - days * 24 * 3_600_000),
            ttl,
            hops: 0,
            authenticity: crate::message::Authenticity::Signed,
            payload: "hello".into(),
        };
        Mail::Piece(Piece { run, slot: nonce, confirmation: false, content: Sealed::Letter(frame) })
    };
    let long = Some(HOUR * 24 * 365);
    for (nonce, days, ttl, shown) in [(1, 29, None, 1), (2, 32, None, 0), (3, 32, long, 1)] {
        let mail = letter(&bench, nonce, days, ttl);
        let outputs = hears(&mut bench, (mailbox, link), mail);
        let delivered = outputs.iter().filter(|output| matches!(output, Output::Deliver(_))).count();
        assert_eq!((delivered, &takings(&outputs)[0].1.taken[..]), (shown, &[nonce][..]));
    }
    assert_eq!(bench.core.rejections()["expired"], 1);
}

#[test]
fn a_confirmation_stays_at_the_mailbox_until_the_message_is_off_the_disk() {
    let mut bench = Bench::new(|config| config.delivery.durability = Some(crate::config::Durability::Batched));
    let (away, (mailbox, link, outputs)) = (peer(), mailbox(&mut bench));
    let run = takings(&outputs)[0].1.run;
    let rounds = |outputs: &[Output]| {
        let rounds = outputs.iter().filter_map(|output| match output {
            Output::Store { round, .. } => Some(*round),
            _ => None,
        });
        rounds.last()
    };
    let stored = |bench: &mut Bench, stored: Option<u64>| {
        let stored = stored.expect("something is written");
        bench.handle(Input::Journal { stored, failing: None })
    };
    let round = rounds(&send(&mut bench, away, 1, None));
    stored(&mut bench, round);
    let left = deposits(&bench.pass(Duration::from_secs(3)));
    let round = rounds(&hears(&mut bench, (mailbox, link), kept(left[0].1.number)));
    stored(&mut bench, round);
    let content = Sealed::Arrival { by: away, nonces: vec![NonceRange { first: 1, last: 1 }] };
    let piece = Piece { run, slot: 9, confirmation: true, content };
    let outputs = hears(&mut bench, (mailbox, link), Mail::Piece(piece));
    assert_eq!(receipts(&outputs), [(1, ReceiptState::Delivered)]);
    assert!(takings(&outputs).is_empty(), "a crash now would bring the message back");
    let takings = takings(&stored(&mut bench, rounds(&outputs)));
    assert_eq!(takings.first().map(|(_, taking)| taking.taken.clone()), Some(vec![9]));
}

#[test]
fn by_another_connection_all_goes_again_from_the_first_on() {
    let mut bench = Bench::new(|config| config.mailbox.patience = Duration::ZERO);
    let (away, (mailbox, _, _)) = (peer(), mailbox(&mut bench));
    for nonce in [1, 2] {
        assert_eq!(deposits(&send(&mut bench, away, nonce, None)).len(), 1);
    }
    let (newer, outputs) = bench.open(mailbox, false, None);
    let again = outputs.iter().filter_map(|output| match output {
        Output::Mail { link, note: ToMailbox::Deposit(deposit), .. } => Some((*link, deposit.letter.nonce)),
        _ => None,
    });
    assert_eq!(again.collect::<Vec<_>>(), [(newer, 1), (newer, 2)]);
    assert_eq!(takings(&outputs).len(), 1, "and what the mailbox has is asked for anew");
}
