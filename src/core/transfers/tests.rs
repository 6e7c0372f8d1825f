//! Transfers in the core: facts in, wishes out.

use std::time::Duration;

use libp2p::PeerId;

use super::*;
use crate::{
    core::{Input, LinkId, PeerFacts, tests::Bench},
    message::Priority,
    transfer::{Outcome, TransferId},
};

fn key(direction: TransferDirection, peer: PeerId, id: u8) -> TransferKey {
    TransferKey { direction, peer, id: TransferId([id; 16]) }
}

fn only_transfers(outputs: Vec<Output>) -> Vec<TransferOutput> {
    let of_transfer = |output| if let Output::Transfer(output) = output { Some(output) } else { None };
    outputs.into_iter().filter_map(of_transfer).collect()
}

fn tell(bench: &mut Bench, input: TransferInput) -> Vec<TransferOutput> {
    only_transfers(bench.handle(Input::Transfer(input)))
}

fn begun(outputs: &[TransferOutput]) -> Vec<u64> {
    let attempt = |output: &TransferOutput| match output {
        TransferOutput::Begin { attempt, .. } => Some(*attempt),
        _ => None,
    };
    outputs.iter().filter_map(attempt).collect()
}

fn ends(outputs: &[TransferOutput]) -> Vec<TransferState> {
    let end = |output: &TransferOutput| match output {
        TransferOutput::Show { state, .. } if state.is_final() => Some(state.clone()),
        _ => None,
    };
    outputs.iter().filter_map(end).collect()
}

fn broken(key: TransferKey, attempt: u64) -> TransferInput {
    TransferInput::Ended { key, attempt, outcome: Outcome::Broken("cut".into()), moved: 0 }
}

fn close(bench: &mut Bench, peer: PeerId, link: LinkId) -> Vec<TransferOutput> {
    only_transfers(bench.handle(Input::LinkClosed { peer, link, reason: "cut".into() }))
}

#[test]
fn it_waits_for_a_connection_runs_is_cut_and_goes_on() {
    let mut bench = Bench::new(|_| {});
    let (peer, id) = (PeerId::random(), TransferId([1; 16]));
    let key = key(TransferDirection::Outgoing, peer, 1);
    assert!(begun(&tell(&mut bench, TransferInput::Send { peer, id, length: None })).is_empty());
    let (link, outputs) = bench.open(peer, false, None);
    let [first] = begun(&only_transfers(outputs))[..] else { panic!("it begins") };
    tell(&mut bench, TransferInput::Progress { key, attempt: first, transferred: 100, moved: 200 });
    assert_eq!(bench.core.stats().transfer_bytes_sent, 200);
    close(&mut bench, peer, link);
    let outputs = tell(&mut bench, broken(key, first));
    assert!(outputs.contains(&TransferOutput::Show { key, state: TransferState::Interrupted }));
    let (_, outputs) = bench.open(peer, false, None);
    let [second] = begun(&only_transfers(outputs))[..] else { panic!("it goes on") };
    // The end of an attempt that was given up says nothing any more.
    assert!(tell(&mut bench, broken(key, first)).is_empty());
    let hash = PayloadHash::of("x");
    let outcome = Outcome::Finished(hash);
    let outputs = tell(&mut bench, TransferInput::Ended { key, attempt: second, outcome, moved: 0 });
    assert_eq!(ends(&outputs), [TransferState::Finished { hash }]);
    assert_eq!(bench.core.stats().transfers_finished, 1);
}

#[test]
fn attempts_that_bring_nothing_come_ever_more_rarely_and_end() {
    let mut bench = Bench::new(|_| {});
    let (peer, id) = (PeerId::random(), TransferId([1; 16]));
    let key = key(TransferDirection::Outgoing, peer, 1);
    bench.open(peer, false, None);
    let mut outputs = tell(&mut bench, TransferInput::Send { peer, id, length: None });
    let mut attempts = 0;
    let end = loop {
        if let Some(end) = ends(&outputs).pop() {
            break end;
        }
        outputs = match begun(&outputs)[..] {
            [attempt] => {
                attempts += 1;
                tell(&mut bench, broken(key, attempt))
            }
            _ => only_transfers(bench.pass(Duration::from_millis(500))),
        };
    };
    assert!(matches!(end, TransferState::Failed { error: TransferError::Unreachable { .. } }), "{end:?}");
    assert!((10..60).contains(&attempts), "{attempts} attempts in two minutes");
}

#[test]
fn who_is_not_reached_in_time_gets_nothing() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerId::random();
    tell(&mut bench, TransferInput::Send { peer, id: TransferId([1; 16]), length: None });
    let outputs = only_transfers(bench.pass(Duration::from_secs(3 * 60)));
    assert!(matches!(&ends(&outputs)[..], [TransferState::Failed { error: TransferError::Unreachable { .. } }]));
}

#[test]
fn no_more_run_than_may_and_the_others_wait_in_their_order() {
    let mut bench = Bench::new(|config| config.transfers.max_per_peer = 2);
    let peer = PeerId::random();
    bench.open(peer, false, None);
    let mut running = Vec::new();
    for id in 1..=4 {
        let outputs = tell(&mut bench, TransferInput::Send { peer, id: TransferId([9 - id; 16]), length: None });
        running.extend(begun(&outputs));
    }
    assert_eq!(running.len(), 2);
    bench.pass(Duration::from_secs(10 * 60));
    let first = key(TransferDirection::Outgoing, peer, 8);
    let outputs = tell(&mut bench, TransferInput::Cancel(first));
    assert!(outputs.contains(&TransferOutput::Tell { key: first, reason: "the app gave it up".into() }));
    let third = key(TransferDirection::Outgoing, peer, 6);
    assert!(
        outputs.iter().any(|output| matches!(output, TransferOutput::Begin { key, .. } if *key == third)),
        "{outputs:?}"
    );
}

#[test]
fn an_offer_waits_for_the_app_and_its_sender_may_come_back_meanwhile() {
    let mut bench = Bench::new(|_| {});
    let (peer, id) = (PeerId::random(), TransferId([1; 16]));
    let key = key(TransferDirection::Incoming, peer, 1);
    bench.open(peer, false, None);
    let offered = |attempt| TransferInput::Offered { peer, id, attempt, length: None };
    assert_eq!(tell(&mut bench, offered(1)), [TransferOutput::Offer { key, attempt: 1 }]);
    let superseded = TransferOutput::Judge { attempt: 1, judgement: Judgement::Superseded };
    assert_eq!(tell(&mut bench, offered(2)), [superseded], "the app is not asked twice");
    let join = |attempt| TransferOutput::Judge { attempt, judgement: Judgement::Join(key) };
    assert_eq!(tell(&mut bench, TransferInput::Taken(key)), [join(2)]);
    tell(&mut bench, broken(key, 2));
    assert!(tell(&mut bench, offered(3)).contains(&join(3)));
    // On another connection, while the old one isn't known to be dead.
    assert!(tell(&mut bench, offered(4)).contains(&join(4)));
    assert!(tell(&mut bench, broken(key, 3)).is_empty(), "the old one doesn't count");
    let hash = PayloadHash::of("x");
    tell(&mut bench, TransferInput::Ended { key, attempt: 4, outcome: Outcome::Finished(hash), moved: 7 });
    let done = TransferOutput::Judge { attempt: 5, judgement: Judgement::Done(hash) };
    assert_eq!(tell(&mut bench, offered(5)), [done], "a sender that did not hear of the end");
    assert_eq!(bench.core.stats().transfer_bytes_received, 7);
}

#[test]
fn damage_is_forgiven_twice() {
    let mut bench = Bench::new(|_| {});
    let (peer, id) = (PeerId::random(), TransferId([1; 16]));
    let key = key(TransferDirection::Incoming, peer, 1);
    tell(&mut bench, TransferInput::Offered { peer, id, attempt: 1, length: None });
    tell(&mut bench, TransferInput::Taken(key));
    for attempt in 1..=3 {
        let outcome = Outcome::Corrupt { offset: 5 };
        let outputs = tell(&mut bench, TransferInput::Ended { key, attempt, outcome, moved: 0 });
        let failed = TransferState::Failed { error: TransferError::Corrupt { offset: 5 } };
        assert_eq!(ends(&outputs).contains(&failed), attempt == 3, "{attempt}");
        tell(&mut bench, TransferInput::Offered { peer, id, attempt: attempt + 1, length: None });
    }
}

#[test]
fn a_flood_of_offers_is_refused_and_counted() {
    let mut bench = Bench::new(|_| {});
    let mut asked = 0;
    for number in 0..200 {
        let peer = PeerId::random();
        let id = TransferId([1; 16]);
        let outputs = tell(&mut bench, TransferInput::Offered { peer, id, attempt: number, length: Some(1) });
        asked += usize::from(matches!(outputs[..], [TransferOutput::Offer { .. }]));
    }
    assert_eq!(asked, 32);
    assert_eq!(bench.core.stats().offers_refused, 168);
    let outputs = only_transfers(bench.pass(Duration::from_secs(61)));
    let unanswered = outputs
        .iter()
        .filter(|output| matches!(output, TransferOutput::Judge { judgement: Judgement::Unanswered, .. }));
    assert_eq!(unanswered.count(), 32);
    assert_eq!(bench.core.stats().offers_refused, 200);
}

#[test]
fn the_peer_ends_only_what_is_its_own() {
    let mut bench = Bench::new(|_| {});
    let (peer, stranger, id) = (PeerId::random(), PeerId::random(), TransferId([1; 16]));
    bench.open(peer, false, None);
    tell(&mut bench, TransferInput::Send { peer, id, length: None });
    let stopped = |peer, by_sender| TransferInput::Stopped { peer, id, by_sender, reason: "enough".into() };
    assert!(tell(&mut bench, stopped(stranger, false)).is_empty());
    assert!(tell(&mut bench, stopped(peer, true)).is_empty(), "it is not the sender");
    let outputs = tell(&mut bench, stopped(peer, false));
    assert!(matches!(&ends(&outputs)[..], [TransferState::Failed { error: TransferError::CancelledByPeer { .. } }]));
}

#[test]
fn shutdown_ends_what_is_sent_and_tells_the_receiver() {
    let mut bench = Bench::new(|_| {});
    let (peer, id) = (PeerId::random(), TransferId([1; 16]));
    bench.open(peer, false, None);
    tell(&mut bench, TransferInput::Send { peer, id, length: None });
    let outputs = only_transfers(bench.handle(Input::Drain));
    assert!(outputs.iter().any(|output| matches!(output, TransferOutput::Tell { .. })));
    assert_eq!(ends(&outputs), [TransferState::Failed { error: TransferError::ShutDown }]);
    let outputs = tell(&mut bench, TransferInput::Offered { peer, id, attempt: 1, length: None });
    assert_eq!(outputs, [TransferOutput::Judge { attempt: 1, judgement: Judgement::Busy }]);
}

/// A circuit through a relay.
fn circuit(bench: &mut Bench, peer: PeerId, relay: PeerId) -> (LinkId, Vec<TransferOutput>) {
    let address = format!("/ip4/192.0.2.1/tcp/1/ws/p2p/{relay}/p2p-circuit/p2p/{peer}");
    let (link, outputs) = bench.open_at(peer, &address, true);
    (link, only_transfers(outputs))
}

fn ways(outputs: &[TransferOutput]) -> Vec<(LinkId, Option<u64>)> {
    let way = |output: &TransferOutput| match output {
        TransferOutput::Begin { link, most, .. } => Some((*link, *most)),
        _ => None,
    };
    outputs.iter().filter_map(way).collect()
}

fn identified(bench: &mut Bench, peer: PeerId, signals_webrtc: bool) -> Vec<TransferOutput> {
    let facts = PeerFacts {
        agent: "peer".into(),
        addresses: Vec::new(),
        same_network: Some(true),
        speaks_cpc: true,
        relay: false,
        mailbox: false,
        signals_webrtc,
    };
    only_transfers(bench.handle(Input::Identified { peer, facts }))
}

fn limit(relay: PeerId, bytes: u64) -> TransferInput {
    TransferInput::CircuitLimit { who: relay, outbound: true, bytes: Some(bytes) }
}

#[test]
fn a_direct_connection_is_waited_for_and_taken_when_it_comes() {
    let mut bench = Bench::new(|_| {});
    let (peer, relay, id) = (PeerId::random(), PeerId::random(), TransferId([1; 16]));
    circuit(&mut bench, peer, relay);
    identified(&mut bench, peer, true);
    let send = TransferInput::Send { peer, id, length: Some(100) };
    assert!(begun(&tell(&mut bench, send)).is_empty(), "a direct connection may come");
    assert!(begun(&only_transfers(bench.pass(Duration::from_secs(5)))).is_empty());
    let (direct, outputs) = bench.open(peer, false, None);
    assert_eq!(ways(&only_transfers(outputs)), [(direct, None)]);
}

#[test]
fn when_no_direct_connection_can_come_the_circuit_is_taken() {
    for (able, patience) in [(true, 15), (false, 0)] {
        let mut bench = Bench::new(|_| {});
        let (peer, relay, id) = (PeerId::random(), PeerId::random(), TransferId([1; 16]));
        let (link, _) = circuit(&mut bench, peer, relay);
        let mut outputs = identified(&mut bench, peer, able);
        outputs.extend(tell(&mut bench, TransferInput::Send { peer, id, length: Some(100) }));
        outputs.extend(only_transfers(bench.pass(Duration::from_secs(patience))));
        assert_eq!(ways(&outputs), [(link, None)], "able: {able}");
    }
}

#[test]
fn a_transfer_on_a_circuit_moves_to_a_direct_connection_at_once() {
    let mut bench = Bench::new(|_| {});
    let (peer, relay, id) = (PeerId::random(), PeerId::random(), TransferId([1; 16]));
    let key = key(TransferDirection::Outgoing, peer, 1);
    circuit(&mut bench, peer, relay);
    identified(&mut bench, peer, false);
    let [first] = begun(&tell(&mut bench, TransferInput::Send { peer, id, length: None }))[..] else {
        panic!("begins")
    };
    tell(&mut bench, TransferInput::Progress { key, attempt: first, transferred: 100, moved: 100 });
    let (direct, outputs) = bench.open(peer, false, None);
    let outputs = only_transfers(outputs);
    assert_eq!(ways(&outputs), [(direct, None)]);
    assert!(!outputs.contains(&TransferOutput::Show { key, state: TransferState::Interrupted }));
    assert!(tell(&mut bench, broken(key, first)).is_empty(), "the end of the old attempt means nothing");
    let [second] = begun(&outputs)[..] else { panic!("one attempt") };
    let hash = PayloadHash::of("x");
    tell(&mut bench, TransferInput::Ended { key, attempt: second, outcome: Outcome::Finished(hash), moved: 0 });
    assert_eq!(bench.core.stats().transfers_finished, 1);
}

#[test]
fn what_would_end_a_circuit_waits_for_a_direct_connection_and_says_so() {
    let mut bench = Bench::new(|_| {});
    let (peer, relay) = (PeerId::random(), PeerId::random());
    let (link, _) = circuit(&mut bench, peer, relay);
    identified(&mut bench, peer, false);
    tell(&mut bench, limit(relay, 128 * 1024));
    let send = |id, length| TransferInput::Send { peer, id: TransferId([id; 16]), length: Some(length) };
    assert_eq!(ways(&tell(&mut bench, send(1, 30_000))), [(link, None)], "there is room for a small one");
    assert!(begun(&tell(&mut bench, send(2, 30_000))).is_empty(), "and no room for another");
    assert!(begun(&tell(&mut bench, send(3, 1_000_000))).is_empty());
    let outputs = only_transfers(bench.pass(Duration::from_secs(3 * 60)));
    let error = |end: &TransferState| match end {
        TransferState::Failed { error } => error.clone(),
        end => panic!("{end:?}"),
    };
    let ended = ends(&outputs).iter().map(error).collect::<Vec<_>>();
    let waited = Duration::from_secs(120);
    let limited = TransferError::RelayLimited { peer, limit: 128 * 1024, waited };
    assert_eq!(ended, [limited.clone(), limited]);
    // The first one's part is free again as far as it wasn't used.
    let key = key(TransferDirection::Outgoing, peer, 1);
    tell(&mut bench, TransferInput::Cancel(key));
    assert_eq!(ways(&tell(&mut bench, send(4, 40_000))), [(link, None)]);
}

#[test]
fn a_payload_of_unknown_length_uses_its_part_of_a_circuit_and_no_more() {
    let mut bench = Bench::new(|_| {});
    let (peer, relay, id) = (PeerId::random(), PeerId::random(), TransferId([1; 16]));
    let key = key(TransferDirection::Outgoing, peer, 1);
    let (link, _) = circuit(&mut bench, peer, relay);
    identified(&mut bench, peer, false);
    tell(&mut bench, limit(relay, 80_000));
    let outputs = tell(&mut bench, TransferInput::Send { peer, id, length: None });
    assert_eq!(ways(&outputs), [(link, Some(30_000))]);
    let [attempt] = begun(&outputs)[..] else { panic!("it begins") };
    let outputs = tell(&mut bench, TransferInput::Ended { key, attempt, outcome: Outcome::Spent, moved: 29_000 });
    assert!(begun(&outputs).is_empty() && begun(&only_transfers(bench.pass(Duration::from_secs(30)))).is_empty());
    let (direct, outputs) = bench.open(peer, false, None);
    assert_eq!(ways(&only_transfers(outputs)), [(direct, None)]);
}

/// A transfer that always wants more, for a time; gives what it was granted.
fn granted(bench: &mut Bench, key: TransferKey, attempt: u64, time: Duration) -> u64 {
    let end = bench.now.since_start + time;
    let mut bytes = 0;
    let mut outputs = tell(bench, TransferInput::Wants { key, attempt });
    loop {
        let grants = outputs.iter().filter_map(|output| match output {
            TransferOutput::Grant { bytes, .. } => Some(*bytes),
            _ => None,
        });
        let now = grants.sum::<u64>();
        bytes += now;
        outputs = match now {
            0 => match bench.core.next_deadline().filter(|at| *at < end) {
                None => return bytes,
                Some(at) => {
                    bench.now.since_start = bench.now.since_start.max(at);
                    only_transfers(bench.handle(Input::Tick))
                }
            },
            _ => tell(bench, TransferInput::Wants { key, attempt }),
        };
    }
}

fn limited(bench: &mut crate::config::NetworkConfig) {
    bench.bandwidth = crate::config::BandwidthConfig { limited: true, total: 1_000_000, per_peer: 1_000_000 };
}

#[test]
fn transfers_get_what_the_budget_allows_and_urgent_messages_go_first() {
    let mut bench = Bench::new(limited);
    let (peer, id) = (PeerId::random(), TransferId([1; 16]));
    let key = key(TransferDirection::Outgoing, peer, 1);
    bench.open(peer, false, None);
    let [attempt] = begun(&tell(&mut bench, TransferInput::Send { peer, id, length: None }))[..] else {
        panic!("begins")
    };
    let bytes = granted(&mut bench, key, attempt, Duration::from_secs(10));
    assert!((9_500_000..10_500_000).contains(&bytes), "{bytes} bytes in ten seconds");
    // The transfer has taken all that it may; an urgent message leaves in the same moment all the same.
    let outputs = bench.send(peer, 1, Priority::High);
    assert!(outputs.iter().any(|output| matches!(output, Output::Transmit { .. })), "{outputs:?}");
}
