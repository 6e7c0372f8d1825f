//! Which way messages go, and when they are sent again.

use super::*;

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
fn a_newer_connection_takes_over_from_one_that_is_silent() {
    let (mut bench, newer) = (Bench::new(|_| {}), LinkId(3));
    bench.open(DIRECT);
    let lost = bench.send(Priority::Medium, 1);
    bench.written(DIRECT, Priority::Medium, 1);
    assert_eq!((bench.sent(), bench.probed()), (vec![(DIRECT, lost)], vec![]));
    // The page was closed without a word, and opened again.
    bench.open(newer);
    assert_eq!(bench.probed(), [DIRECT]);
    let urgent = bench.send(Priority::High, 1);
    let next = bench.send(Priority::Medium, 1);
    assert_eq!(bench.sent(), [(newer, urgent)], "at once");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.sent(), [(newer, lost), (newer, next)], "the old way has had its time, long before pings tell");
    bench.close(DIRECT);
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.acknowledge(1, u64::MAX), 3);
}

#[test]
fn an_old_connection_that_answers_counts_as_before() {
    let mut bench = Bench::new(|_| {});
    bench.open(DIRECT);
    bench.open(RELAYED);
    assert_eq!(bench.probed(), [DIRECT]);
    let meanwhile = bench.send(Priority::High, 1);
    assert_eq!(bench.sent(), [(RELAYED, meanwhile)]);
    bench.acknowledge(meanwhile, meanwhile);
    bench.hear(DIRECT);
    let next = bench.send(Priority::High, 1);
    assert_eq!(bench.sent(), [(DIRECT, next)]);
}

#[test]
fn overdue_mail_leaves_a_silent_connection_and_stays_on_one_that_speaks() {
    let mut bench = Bench::new(|_| {});
    bench.open(RELAYED);
    bench.open(DIRECT);
    bench.hear(RELAYED);
    bench.probed();
    let one = bench.send(Priority::Low, 1);
    bench.written(DIRECT, Priority::Low, 1);
    bench.sent();
    bench.pass(Duration::from_millis(500));
    bench.hear(DIRECT);
    bench.pass(Duration::from_millis(600));
    assert_eq!((bench.sent(), bench.probed()), (vec![(DIRECT, one)], vec![]), "it spoke: only the answer is missing");
    bench.written(DIRECT, Priority::Low, 1);
    bench.hear(RELAYED);
    bench.pass(Duration::from_millis(2100));
    assert_eq!((bench.sent(), bench.probed()), (vec![(RELAYED, one)], vec![DIRECT]));
}
