//! Too much for the outbox, or for the bandwidth.

use super::*;
use crate::{config::BandwidthConfig, error::DeliveryError, event::NetworkEvent, receipt::ENVELOPE};

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
fn a_flood_of_messages_leaves_transfers_their_part_and_they_take_the_rest() {
    for (flood, least, most) in [(5000, 100_000, 600_000), (0, 1_900_000, 2_200_000)] {
        let mut bench = rationed();
        bench.open(DIRECT);
        for _ in 0..flood {
            bench.send(Priority::High, 1000 - ENVELOPE);
        }
        let (mut granted, mut since) = (0, bench.now.since_start);
        for _ in 0..200 {
            run(&mut bench, Duration::from_millis(10));
            let now = bench.now.since_start;
            while let Ok(bytes) = bench.outbox.ration(bench.now, &bench.peer, now.saturating_sub(since)) {
                granted += bytes;
                since = now;
            }
        }
        assert!((least..most).contains(&granted), "{granted} bytes in two seconds beside {flood} messages");
    }
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
            let Output::Transmit { peer, link, letter, .. } = output else { continue };
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
