//! What outlives the node, on a clock that the tests turn and a disk that they hold.

mod full_inbox;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::{
    config::{Durability, NetworkConfig},
    core::{
        Input, LinkId,
        tests::{Bench, transmitted},
    },
    frame::{Addressing, Content, ControlContent, Frame, Incoming, NonceRange},
    message::{Authenticity, MessageKind, Priority, ReceivedMessage},
    rows::{Change, Kept, Key, Shelf},
};

/// The rows, as far as rounds have been kept.
#[derive(Default)]
struct Disk {
    rows: BTreeMap<(Shelf, Key), Bytes>,
    /// Rounds that wait.
    waiting: Vec<(u64, Vec<Change>)>,
    stored: u64,
}

impl Disk {
    fn take(&mut self, outputs: &[Output]) {
        for output in outputs {
            if let Output::Store { round, changes, .. } = output {
                self.waiting.push((*round, changes.clone()));
            }
        }
    }

    /// Keeps all that waits.
    fn commit(&mut self) -> Input {
        for (round, changes) in std::mem::take(&mut self.waiting) {
            for change in changes {
                match change {
                    Change::Insert(shelf, key, row) => {
                        assert_eq!(self.rows.insert((shelf, key), row), None, "a fresh key");
                    }
                    Change::Put(shelf, key, row) => drop(self.rows.insert((shelf, key), row)),
                    Change::Remove(shelf, key) => drop(self.rows.remove(&(shelf, key))),
                }
            }
            self.stored = round;
        }
        Input::Journal { stored: self.stored, failing: None }
    }

    fn refuse(&self) -> Input {
        Input::Journal { stored: self.stored, failing: Some("no space left".to_owned()) }
    }

    fn count(&self, wanted: Shelf) -> usize {
        self.rows.keys().filter(|(shelf, _)| *shelf == wanted).count()
    }

    fn restored(&self) -> Input {
        let mut kept = Kept::default();
        for ((shelf, key), row) in &self.rows {
            kept.shelf_mut(*shelf).push((*key, row.clone()));
        }
        Input::Restored(Box::new(Restored::read(&kept).expect("own rows")))
    }
}

fn node(durability: Durability) -> Bench {
    small_node(durability, |_| {})
}

fn small_node(durability: Durability, configure: impl FnOnce(&mut NetworkConfig)) -> Bench {
    Bench::new(|config| {
        config.data_dir = Some("here".to_owned());
        config.delivery.durability = Some(durability);
        configure(config);
    })
}

fn accepted(outputs: &[Output]) -> Vec<u64> {
    let accepted = outputs.iter().filter_map(|output| match output {
        Output::Accepted { nonce } => Some(*nonce),
        _ => None,
    });
    accepted.collect()
}

fn ends(outputs: &[Output]) -> Vec<(u64, ReceiptState)> {
    let ends = outputs.iter().filter_map(|output| match output {
        Output::Receipt { nonce, state } if state.is_final() => Some((*nonce, state.clone())),
        _ => None,
    });
    ends.collect()
}

fn handed_over(outputs: &[Output]) -> Vec<(u64, u64, bool)> {
    let messages = outputs.iter().filter_map(|output| match output {
        Output::HandOver { serial, message } => Some((*serial, message.id.nonce, message.redelivered)),
        _ => None,
    });
    messages.collect()
}

fn acknowledged(outputs: &[Output]) -> Vec<u64> {
    let ranges = outputs.iter().filter_map(|output| match output {
        Output::Control { content: ControlContent::Acknowledge(ranges), .. } => Some(ranges.clone()),
        _ => None,
    });
    ranges.flatten().flat_map(|range| range.first..=range.last).collect()
}

fn acknowledgement(peer: PeerId, first: u64, last: u64) -> Input {
    let acknowledged = vec![NonceRange { first, last }];
    let incoming = Incoming { content: Content::Nothing, acknowledged };
    Input::Frames { peer, link: LinkId(1), batch: vec![Ok(incoming)], bytes: 9 }
}

fn arrival(bench: &Bench, sender: PeerId, nonces: impl IntoIterator<Item = u64>) -> Input {
    arrival_by(bench, sender, LinkId(1), Priority::Medium, nonces)
}

fn arrival_by(
    bench: &Bench,
    sender: PeerId,
    link: LinkId,
    priority: Priority,
    nonces: impl IntoIterator<Item = u64>,
) -> Input {
    let frame = |nonce| Frame {
        id: MessageId { sender, nonce },
        kind: MessageKind::Data,
        priority,
        addressing: Addressing::Peer(bench.core.settings.local),
        created_at: Some(bench.now.unix_millis),
        ttl: None,
        hops: 0,
        authenticity: Authenticity::Signed,
        payload: nonce.to_be_bytes().to_vec().into(),
    };
    let batch = nonces
        .into_iter()
        .map(|nonce| Ok(Incoming { content: Content::Message(frame(nonce)), acknowledged: Vec::new() }));
    Input::Frames { peer: sender, link, batch: batch.collect(), bytes: 99 }
}

#[test]
fn batched_leaves_at_once_and_counts_when_it_is_kept() {
    let (mut bench, mut disk, peer) = (node(Durability::Batched), Disk::default(), PeerId::random());
    bench.open(peer, true, None);
    let outputs = bench.send(peer, 1, Priority::High);
    assert_eq!((transmitted(&outputs), accepted(&outputs)), (vec![1], vec![]));
    disk.take(&outputs);
    let report = disk.commit();
    assert_eq!(accepted(&bench.handle(report)), [1]);
    assert_eq!(disk.count(Shelf::Outbox), 1);
    let outputs = bench.handle(acknowledgement(peer, 1, 1));
    assert_eq!(ends(&outputs), [(1, ReceiptState::Delivered)]);
    disk.take(&outputs);
    let _ = disk.commit();
    assert_eq!(disk.count(Shelf::Outbox), 0, "what has ended is not kept");
}

#[test]
fn synced_leaves_only_when_it_is_kept() {
    let (mut bench, mut disk, peer) = (node(Durability::Synced), Disk::default(), PeerId::random());
    bench.open(peer, true, None);
    let outputs = bench.send(peer, 1, Priority::High);
    assert_eq!((transmitted(&outputs), accepted(&outputs)), (vec![], vec![]));
    disk.take(&outputs);
    let outputs = bench.handle(disk.commit());
    assert_eq!((transmitted(&outputs), accepted(&outputs)), (vec![1], vec![1]));
}

#[test]
fn memory_keeps_nothing() {
    let (mut bench, peer) = (node(Durability::Memory), PeerId::random());
    bench.open(peer, true, None);
    let mut outputs = bench.send(peer, 1, Priority::High);
    outputs.extend(bench.handle(acknowledgement(peer, 1, 1)));
    let arrival = arrival(&bench, peer, [7]);
    outputs.extend(bench.handle(arrival));
    outputs.extend(bench.pass(Duration::from_secs(5)));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Store { .. } | Output::HandOver { .. })));
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Deliver(ReceivedMessage { id, .. }) if id.nonce == 7))
    );
}

#[test]
fn a_disk_that_refuses_fails_what_waits_and_keeps_what_was_accepted() {
    for durability in [Durability::Batched, Durability::Synced] {
        let (mut bench, mut disk, peer) = (node(durability), Disk::default(), PeerId::random());
        disk.take(&bench.send(peer, 1, Priority::High));
        let report = disk.commit();
        assert_eq!(accepted(&bench.handle(report)), [1]);
        disk.take(&bench.send(peer, 2, Priority::High));
        let outputs = bench.handle(disk.refuse());
        let not_stored = DeliveryError::NotStored { reason: "no space left".to_owned() };
        assert_eq!(ends(&outputs), [(2, ReceiptState::Failed { error: not_stored.clone() })]);
        let reason = "no space left".to_owned();
        assert!(outputs.contains(&Output::Event(NetworkEvent::StoreFailing { reason })));
        assert_eq!(bench.core.store_failing(), Some("no space left"));
        disk.take(&outputs);
        // One that slips in before the handle knows.
        let outputs = bench.send(peer, 3, Priority::High);
        assert_eq!(ends(&outputs), [(3, ReceiptState::Failed { error: not_stored })]);
        disk.take(&outputs);
        // What was accepted goes on from memory.
        let (_, outputs) = bench.open(peer, true, None);
        assert_eq!(transmitted(&outputs), [1]);
        disk.take(&outputs);
        let outputs = bench.handle(disk.commit());
        assert!(outputs.contains(&Output::Event(NetworkEvent::StoreRecovered)), "{outputs:?}");
        assert_eq!(disk.rows.keys().collect::<Vec<_>>(), [&(Shelf::Outbox, 1)], "only what was accepted");
        disk.take(&bench.send(peer, 4, Priority::High));
        let report = disk.commit();
        assert_eq!(accepted(&bench.handle(report)), [4]);
    }
}

#[test]
fn what_was_accepted_goes_on_after_a_restart_in_order_and_grows_old_meanwhile() {
    let (mut bench, mut disk, peer) = (node(Durability::Batched), Disk::default(), PeerId::random());
    for nonce in 1..=3 {
        disk.take(&bench.send(peer, nonce, Priority::Medium));
    }
    let message = bench.message(4, Priority::Medium, Some(Duration::from_secs(30)));
    disk.take(&bench.handle(Input::Send { peer, message }));
    let message = bench.message(5, Priority::Medium, Some(Duration::from_secs(300)));
    disk.take(&bench.handle(Input::Send { peer, message }));
    let _ = disk.commit();

    let mut bench = node(Durability::Batched);
    bench.now.unix_millis += 100_000;
    let mut outputs = bench.handle(disk.restored());
    outputs.extend(bench.pass(Duration::from_millis(1)));
    assert_eq!(
        ends(&outputs),
        [(4, ReceiptState::Expired { ttl: Duration::from_secs(30) })],
        "its time went on while the node was away"
    );
    let (_, outputs) = bench.open(peer, true, None);
    assert_eq!(transmitted(&outputs), [1, 2, 3, 5]);
    let outputs = bench.send(peer, 1 << 32, Priority::Medium);
    assert_eq!(transmitted(&outputs), [1 << 32]);
}

#[test]
fn a_stopped_node_keeps_what_it_could_not_deliver() {
    let (mut bench, mut disk, peer) = (node(Durability::Batched), Disk::default(), PeerId::random());
    disk.take(&bench.send(peer, 1, Priority::Medium));
    let report = disk.commit();
    disk.take(&bench.handle(report));
    disk.take(&bench.send(peer, 2, Priority::Medium));
    // The second is not kept yet, and the disk is slow: it is waited for, but not for ever.
    let mut outputs = bench.handle(Input::Drain);
    outputs.extend(bench.pass(Duration::from_secs(60)));
    disk.take(&outputs);
    let sender = bench.core.settings.local;
    let kept = DeliveryError::Kept { id: MessageId { sender, nonce: 1 } };
    let lost = DeliveryError::ShutDown { id: MessageId { sender, nonce: 2 } };
    let expected = [kept, lost].map(|error| ReceiptState::Failed { error });
    assert_eq!(ends(&outputs).into_iter().map(|(_, state)| state).collect::<Vec<_>>(), expected);
    let _ = disk.commit();
    assert_eq!(
        disk.rows.keys().filter(|(shelf, _)| *shelf == Shelf::Outbox).collect::<Vec<_>>(),
        [&(Shelf::Outbox, 1)]
    );
}

#[test]
fn a_message_is_acknowledged_and_shown_once_it_is_kept_and_never_again_after_it_is_confirmed() {
    let (mut bench, mut disk, peer) = (node(Durability::Batched), Disk::default(), PeerId::random());
    bench.open(peer, false, None);
    let outputs = bench.handle(arrival(&bench, peer, 1..=3));
    assert_eq!((acknowledged(&outputs), handed_over(&outputs)), (vec![], vec![]));
    disk.take(&outputs);
    let again = bench.handle(arrival(&bench, peer, [2]));
    assert!(acknowledged(&again).is_empty(), "it is not kept yet: an acknowledgement would be a lie");
    let outputs = bench.handle(disk.commit());
    assert_eq!(acknowledged(&outputs), [1, 2, 3]);
    assert_eq!(handed_over(&outputs), [(1, 1, false), (2, 2, false), (3, 3, false)]);
    assert_eq!(acknowledged(&bench.handle(arrival(&bench, peer, [2]))), [2], "the first may have been lost");
    disk.take(&bench.handle(Input::Confirmed { serial: 2 }));
    let _ = disk.commit();
    assert_eq!(bench.core.stats().inbox, 1);

    // A crash: the third was handed over and not confirmed.
    let mut bench = node(Durability::Batched);
    let outputs = bench.handle(disk.restored());
    assert_eq!(handed_over(&outputs), [(3, 3, true)]);
    bench.open(peer, false, None);
    let outputs = bench.handle(arrival(&bench, peer, 1..=3));
    assert_eq!((acknowledged(&outputs), handed_over(&outputs)), (vec![1, 2, 3], vec![]), "all are known");
    disk.take(&bench.handle(Input::Confirmed { serial: 3 }));
    let _ = disk.commit();
    assert_eq!((disk.count(Shelf::Inbox), disk.count(Shelf::Seen)), (0, 1), "only the mark stays");

    let mut bench = node(Durability::Batched);
    assert_eq!(handed_over(&bench.handle(disk.restored())), []);
    bench.open(peer, false, None);
    let outputs = bench.handle(arrival(&bench, peer, 3..=4));
    disk.take(&outputs);
    let outputs = bench.handle(disk.commit());
    assert_eq!(handed_over(&outputs), [(4, 4, false)], "serial numbers go on");
}

#[test]
fn what_was_not_kept_comes_again_after_a_crash() {
    let (mut bench, peer) = (node(Durability::Batched), PeerId::random());
    bench.open(peer, false, None);
    bench.handle(arrival(&bench, peer, [1]));
    // The crash comes before the commit.
    let (mut bench, mut disk) = (node(Durability::Batched), Disk::default());
    bench.handle(disk.restored());
    bench.open(peer, false, None);
    disk.take(&bench.handle(arrival(&bench, peer, [1])));
    assert_eq!(handed_over(&bench.handle(disk.commit())), [(1, 1, false)]);
}

#[test]
fn a_full_inbox_takes_nothing_on_and_loses_nothing() {
    let mut bench = small_node(Durability::Batched, |config| config.limits.message_buffer = 16);
    let (mut disk, peer) = (Disk::default(), PeerId::random());
    bench.open(peer, false, None);
    let outputs = bench.handle(arrival(&bench, peer, 1..=20));
    assert!(outputs.contains(&Output::Event(NetworkEvent::InboxFull { waiting: 16 })));
    disk.take(&outputs);
    let outputs = bench.handle(disk.commit());
    assert_eq!(acknowledged(&outputs), (1..=16).collect::<Vec<_>>());
    assert_eq!(bench.core.stats().messages_deferred, 4);
    let outputs = bench.handle(arrival(&bench, peer, 10..=17));
    assert_eq!(acknowledged(&outputs), (10..=16).collect::<Vec<_>>(), "what is here is still acknowledged");
    assert!(!outputs.iter().any(|output| matches!(output, Output::Event(NetworkEvent::InboxFull { .. }))), "said once");

    disk.take(&bench.handle(Input::Confirmed { serial: 4 }));
    disk.take(&bench.handle(arrival(&bench, peer, 17..=20)));
    let outputs = bench.handle(disk.commit());
    assert_eq!(handed_over(&outputs).iter().map(|(_, nonce, _)| *nonce).collect::<Vec<_>>(), [17, 18, 19, 20]);
}

#[test]
fn while_the_disk_refuses_nothing_is_taken_and_what_had_come_is_kept_later() {
    let (mut bench, mut disk, peer) = (node(Durability::Batched), Disk::default(), PeerId::random());
    bench.open(peer, false, None);
    disk.take(&bench.handle(arrival(&bench, peer, [1])));
    let outputs = bench.handle(disk.refuse());
    assert_eq!((acknowledged(&outputs), handed_over(&outputs)), (vec![], vec![]));
    let outputs = bench.handle(arrival(&bench, peer, 1..=2));
    assert_eq!((acknowledged(&outputs), handed_over(&outputs)), (vec![], vec![]));
    let outputs = bench.handle(disk.commit());
    assert_eq!((acknowledged(&outputs), handed_over(&outputs)), (vec![1], vec![(1, 1, false)]));
    disk.take(&bench.handle(arrival(&bench, peer, [2])));
    assert_eq!(handed_over(&bench.handle(disk.commit())), [(2, 2, false)]);
}
