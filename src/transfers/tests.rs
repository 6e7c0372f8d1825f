//! The machines of both sides against each other: whatever the chunks, the cuts and the damage, what is written is the
//! payload, and what was acknowledged is not sent again.

use std::time::Duration;

use libp2p::PeerId;
use proptest::prelude::*;

use super::{
    Patience,
    frame::{Frame, StopReason},
    receiver::{Allowed, Receiver},
    sender::{Ledger, Sender, Want},
    tree::{MAX_CHUNK, Tree, UNIT},
};
use crate::{
    error::TransferError,
    event::RejectReason,
    transfer::{Outcome, PayloadHash, TransferDirection, TransferId, TransferKey},
};

const PATIENCE: Patience =
    Patience { offer: Duration::from_secs(10), idle: Duration::from_secs(5), stall: Duration::from_secs(60) };

fn key() -> TransferKey {
    TransferKey { direction: TransferDirection::Outgoing, peer: PeerId::random(), id: TransferId([1; 16]) }
}

fn allowed(length: Option<u64>) -> Allowed {
    Allowed { length, hash: None, max_length: 1 << 40, max_chunk: MAX_CHUNK }
}

/// Both ends of one transfer, and what lasts over its attempts.
struct Pair {
    payload: Vec<u8>,
    length: Option<u64>,
    ledger: Ledger,
    tree: Tree,
    written: Vec<u8>,
    /// Bytes that left, also for nothing.
    sent: usize,
}

/// What happens to one attempt.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// The connection breaks after so many chunks.
    chunks: usize,
    /// One acknowledgement in so many arrives before the cut.
    acknowledged: usize,
    max_chunk: u64,
    /// This bit of the last chunk is another one when it arrives.
    flipped: Option<usize>,
}

impl Pair {
    fn new(length: usize, known: bool) -> Self {
        let payload = (0..length).map(|at| (at * 31 % 251) as u8).collect::<Vec<_>>();
        let length = known.then_some(payload.len() as u64);
        Self { payload, length, ledger: Ledger::default(), tree: Tree::default(), written: Vec::new(), sent: 0 }
    }

    /// Runs an attempt; `None` when it was cut.
    fn attempt(&mut self, fate: Fate) -> Option<Outcome> {
        let (mut now, mut chunks) = (Duration::ZERO, 0);
        let mut sender = Sender::new(key(), (self.length, None), (fate.max_chunk, 1 << 20), PATIENCE, now);
        let mut receiver = Receiver::new(key(), allowed(self.length), PATIENCE, &self.tree, now);
        let mut at = 0;
        let hear = |sender: &mut Sender, frame, ledger: &mut Ledger| sender.heard(now, frame, ledger).expect("sense");
        if let Some(hash) = self.tree.whole() {
            return hear(&mut sender, Frame::Done { hash }, &mut self.ledger);
        }
        let accept = receiver.accept(&self.tree);
        if let Some(outcome) = hear(&mut sender, accept, &mut self.ledger) {
            return Some(outcome);
        }
        loop {
            now += Duration::from_millis(1);
            let take = |at: &mut usize, length: u64| {
                let from = *at;
                *at = self.payload.len().min(from + usize::try_from(length).expect("small"));
                &self.payload[from..*at]
            };
            match sender.want() {
                Want::Seek(offset) => {
                    at = usize::try_from(offset).expect("small");
                    sender.sought();
                }
                Want::Compare(length) => {
                    if let Some(outcome) = sender.hashed(take(&mut at, length), &mut self.ledger) {
                        return Some(outcome);
                    }
                }
                Want::Chunk(asked) => {
                    let chunk = take(&mut at, asked);
                    let last = sender.may_be_last(chunk.len() as u64) && at == self.payload.len();
                    let frame = match sender.chunk(now, (chunk, asked), last, &mut self.ledger) {
                        Ok(frame) => frame,
                        Err(error) => return Some(Outcome::Failed(error)),
                    };
                    self.sent += chunk.len();
                    if chunks == fate.chunks && fate.flipped.is_none() {
                        return None;
                    }
                    let announced = match receiver.heard(now, frame, &self.tree).expect("sense") {
                        Ok(announced) => announced.expect("a chunk"),
                        Err(outcome) => return Some(outcome),
                    };
                    let mut arrived = chunk.to_vec();
                    if chunks == fate.chunks
                        && let Some(bit) = fate.flipped
                        && !arrived.is_empty()
                    {
                        let bit = bit % (arrived.len() * 8);
                        arrived[bit / 8] ^= 1 << (bit % 8);
                    }
                    if let Err(outcome) = receiver.verify(&arrived, announced, &mut self.tree) {
                        return Some(outcome);
                    }
                    self.written.extend(&arrived);
                    chunks += 1;
                    if chunks % fate.acknowledged == 0
                        && let Some(ack) = receiver.acknowledge(self.tree.length(), true)
                    {
                        assert_eq!(sender.heard(now, ack, &mut self.ledger), Ok(None));
                    }
                }
                Want::Nothing => {
                    if let Some(hash) = self.tree.whole() {
                        return sender.heard(now, Frame::Done { hash }, &mut self.ledger).expect("sense");
                    }
                    let ack = receiver.acknowledge(self.tree.length(), true).expect("the window is full");
                    assert_eq!(sender.heard(now, ack, &mut self.ledger), Ok(None));
                }
            }
        }
    }
}

const WHOLE: Fate = Fate { chunks: usize::MAX, acknowledged: 1, max_chunk: 256 * 1024, flipped: None };

fn fates() -> impl Strategy<Value = Fate> {
    (0usize..12, 1usize..5, 0u32..7, prop::option::of(any::<usize>())).prop_map(
        |(chunks, acknowledged, size, flipped)| Fate { chunks, acknowledged, max_chunk: UNIT << size, flipped },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_cut_or_damaged_the_payload_arrives(
        length in 0usize..1_500_000,
        known in any::<bool>(),
        fates in prop::collection::vec(fates(), 0..6),
    ) {
        let mut pair = Pair::new(length, known);
        let mut wasted = 0;
        for fate in fates {
            let (sent, written) = (pair.sent, pair.written.len());
            match pair.attempt(fate) {
                None => {}
                Some(Outcome::Corrupt { offset }) => {
                    prop_assert!(fate.flipped.is_some(), "nothing was damaged");
                    prop_assert_eq!(offset, pair.written.len() as u64, "what is damaged is not written");
                }
                Some(outcome) => prop_assert_eq!(outcome, Outcome::Finished(PayloadHash::of(&pair.payload))),
            }
            let lost = (pair.sent - sent) - (pair.written.len() - written);
            prop_assert!(lost as u64 <= fate.max_chunk, "only the chunk that was cut is sent again");
            wasted += lost;
        }
        prop_assert_eq!(pair.attempt(WHOLE), Some(Outcome::Finished(PayloadHash::of(&pair.payload))));
        prop_assert_eq!(pair.sent - wasted, pair.payload.len());
        prop_assert!(pair.written == pair.payload);
    }

    #[test]
    fn every_flipped_bit_of_a_chunk_is_found(bit in 0usize..UNIT as usize * 8) {
        let mut pair = Pair::new(3 * UNIT as usize, true);
        let fate = Fate { chunks: 1, acknowledged: 1, max_chunk: UNIT, flipped: Some(bit) };
        prop_assert_eq!(pair.attempt(fate), Some(Outcome::Corrupt { offset: UNIT }));
        prop_assert_eq!(pair.written.len() as u64, UNIT);
    }
}

#[test]
fn a_receiver_that_has_more_than_the_sender_knows_is_compared_first() {
    let (mut one, mut two) = (Pair::new(10 * UNIT as usize, true), Pair::new(10 * UNIT as usize, true));
    assert_eq!(one.attempt(Fate { chunks: 6, max_chunk: UNIT, ..WHOLE }), None);
    // Another sender of the same payload, as after a restart.
    one.ledger = Ledger::default();
    one.sent = 0;
    assert!(matches!(one.attempt(WHOLE), Some(Outcome::Finished(_))));
    assert_eq!(one.sent as u64, 4 * UNIT);
    // And one whose payload is another one.
    assert_eq!(two.attempt(Fate { chunks: 6, max_chunk: UNIT, ..WHOLE }), None);
    two.ledger = Ledger::default();
    two.payload[5] ^= 1;
    let changed = Outcome::Failed(TransferError::SourceChanged { offset: 6 * UNIT });
    assert_eq!(two.attempt(WHOLE), Some(changed));
    // Or shorter than what the receiver has.
    two.length = None;
    two.payload.truncate(3 * UNIT as usize);
    assert!(matches!(two.attempt(WHOLE), Some(Outcome::Failed(TransferError::SourceChanged { .. }))));
}

#[test]
fn words_that_make_no_sense_are_rejections() {
    let now = Duration::ZERO;
    let sender = || Sender::new(key(), (Some(4 * UNIT), None), (UNIT, 1 << 20), PATIENCE, now);
    let accept = |offset, max_chunk| Frame::Accept { offset, prefix: [0; 32], max_chunk };
    for (what, frame) in [
        ("no multiple", accept(5, UNIT)),
        ("beyond the end", accept(8 * UNIT, UNIT)),
        ("no room for a chunk", accept(0, UNIT - 1)),
        ("an acknowledgement before anything", Frame::Ack { offset: 0 }),
        ("a chunk", Frame::Chunk { offset: 0, length: 0, hash: [0; 32], last: true }),
    ] {
        let rejection = sender().heard(now, frame, &mut Ledger::default()).expect_err(what);
        assert_eq!(rejection.reason, RejectReason::Malformed, "{what}");
    }
    let mut running = sender();
    let mut ledger = Ledger::default();
    assert_eq!(running.heard(now, accept(0, UNIT), &mut ledger), Ok(None));
    for frame in [Frame::Ack { offset: 1 }, Frame::Done { hash: PayloadHash([0; 32]) }, accept(0, UNIT)] {
        assert!(running.heard(now, frame.clone(), &mut ledger).is_err(), "{frame:?}");
    }

    let tree = Tree::default();
    let mut receiver =
        Receiver::new(key(), Allowed { max_chunk: 2 * UNIT, ..allowed(Some(4 * UNIT)) }, PATIENCE, &tree, now);
    let chunk = |offset, length, last| Frame::Chunk { offset, length, hash: [0; 32], last };
    for frame in [chunk(UNIT, UNIT, false), chunk(0, 4 * UNIT, true), chunk(0, 3, false), Frame::Ack { offset: 0 }] {
        assert!(receiver.heard(now, frame.clone(), &tree).is_err(), "{frame:?}");
    }
    let wrong = Err(Outcome::Failed(TransferError::WrongLength { promised: 4 * UNIT }));
    assert_eq!(receiver.heard(now, chunk(0, UNIT, true), &tree), Ok(wrong), "it ends before its end");
}

#[test]
fn silence_and_standstill_end_an_attempt() {
    let second = Duration::from_secs(1);
    let mut ledger = Ledger::default();
    let mut sender = Sender::new(key(), (Some(UNIT), None), (UNIT, 1 << 20), PATIENCE, Duration::ZERO);
    assert_eq!(sender.overdue(PATIENCE.idle), None);
    assert!(matches!(sender.overdue(PATIENCE.idle + second), Some(Outcome::Broken(_))), "no word");
    for at in 1..=11 {
        assert_eq!(sender.heard(at * second, Frame::Alive, &mut ledger), Ok(None));
    }
    let unanswered = sender.overdue(11 * second);
    assert!(matches!(unanswered, Some(Outcome::Failed(TransferError::Unanswered { .. }))), "{unanswered:?}");
    let accept = Frame::Accept { offset: 0, prefix: [0; 32], max_chunk: UNIT };
    assert_eq!(sender.heard(12 * second, accept, &mut ledger), Ok(None));
    for at in 13..=72 {
        assert_eq!(sender.overdue(at * second), None);
        assert_eq!(sender.heard(at * second, Frame::Alive, &mut ledger), Ok(None));
    }
    let stalled = sender.overdue(73 * second);
    assert!(matches!(stalled, Some(Outcome::Failed(TransferError::Stalled { .. }))), "{stalled:?}");

    let mut receiver = Receiver::new(key(), allowed(None), PATIENCE, &Tree::default(), Duration::ZERO);
    assert_eq!(receiver.overdue(59 * second, false), None, "who doesn't read can't hear");
    assert!(matches!(receiver.overdue(61 * second, false), Some(Outcome::Failed(TransferError::Stalled { .. }))));
    let mut receiver = Receiver::new(key(), allowed(None), PATIENCE, &Tree::default(), Duration::ZERO);
    assert!(matches!(receiver.overdue(6 * second, true), Some(Outcome::Broken(_))));
}

#[test]
fn the_other_side_is_told_why_and_not_told_what_it_said_itself() {
    use super::receiver::farewell;
    let told = farewell(&Outcome::Failed(TransferError::Writer { reason: "full".into() }));
    assert!(matches!(told, Some(Frame::Stop { reason: StopReason::Failed, .. })));
    assert!(matches!(farewell(&Outcome::Corrupt { offset: 1 }), Some(Frame::Stop { reason: StopReason::Corrupt, .. })));
    let peer = PeerId::random();
    for heard in [TransferError::PeerBusy { peer }, TransferError::PeerFailed { peer, reason: String::new() }] {
        assert_eq!(farewell(&Outcome::Failed(heard)), None);
    }
    assert_eq!(farewell(&Outcome::Broken("cut".into())), None);
}
