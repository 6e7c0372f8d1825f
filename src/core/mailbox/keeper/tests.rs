//! The keeper alone.

use bytes::Bytes;

use super::*;
use crate::{config::Durability, frame::Collect};

/// Peers to whom something can be sealed. Every keypair has its own.
fn peer() -> PeerId {
    libp2p::identity::Keypair::generate_ed25519().public().to_peer_id()
}

const fn at(seconds: u64) -> Now {
    Now { since_start: Duration::from_secs(seconds), unix_millis: 1_000_000_000 + seconds * 1000 }
}

struct Bench {
    keeper: Keeper,
    journal: Journal,
    now: Now,
}

impl Bench {
    fn new(durability: Durability, configure: impl FnOnce(&mut MailboxConfig)) -> Self {
        let mut config = MailboxConfig { serve: true, ..MailboxConfig::default() };
        configure(&mut config);
        Self { keeper: Keeper::new(peer(), &config), journal: Journal::new(durability), now: at(0) }
    }

    fn deposit(&mut self, from: PeerId, to: PeerId, ticket: u64, bytes: usize) -> Vec<Result<Duration, String>> {
        let deposited = Deposited {
            number: ticket,
            ticket,
            recipient: to,
            keep_for: Duration::from_secs(3600),
            sealed: vec![u8::try_from(ticket).unwrap_or(0); bytes].into(),
        };
        self.keeper.deposit(self.now, from, deposited, &mut self.journal);
        answers(self.keeper.take_notes(|_| usize::MAX), from)
    }

    fn collect(&mut self, peer: PeerId, run: u32, taken: &[u64], confirmations: Vec<(PeerId, Bytes)>) -> Vec<Kept> {
        let taken = taken.iter().map(|slot| if *slot < FIRST { FIRST + slot - 1 } else { *slot }).collect();
        let collect = Collect { run, letters: 64, bytes: 1 << 20, taken, confirmations };
        self.keeper.collect(self.now, peer, collect, &mut self.journal);
        self.pieces(peer)
    }

    fn pieces(&mut self, peer: PeerId) -> Vec<Kept> {
        pieces(self.keeper.take_notes(|_| usize::MAX), peer)
    }

    /// The disk has everything.
    fn stored(&mut self) {
        if let Some(crate::core::Output::Store { round, .. }) = self.journal.flush() {
            self.keeper.reported(self.now, round, false, &mut self.journal);
        }
    }
}

fn answers(notes: Vec<(PeerId, ControlContent)>, peer: PeerId) -> Vec<Result<Duration, String>> {
    let of_peer = notes.into_iter().filter(|(to, _)| *to == peer);
    let answers = of_peer.filter_map(|(_, content)| match content {
        ControlContent::Answers(answers) => Some(answers),
        _ => None,
    });
    answers.flatten().map(|answer| answer.kept_for).collect()
}

fn pieces(notes: Vec<(PeerId, ControlContent)>, peer: PeerId) -> Vec<Kept> {
    let pieces = notes.into_iter().filter_map(|(to, content)| match content {
        ControlContent::Piece(piece) => {
            assert_eq!(to, peer, "nobody else gets it");
            Some(*piece)
        }
        _ => None,
    });
    pieces.collect()
}

/// The first slot of a keeper that begins at 0 seconds; the tests count slots from it, as 1.
const FIRST: u64 = at(0).unix_millis << SLOTS_BITS;

fn slots(pieces: &[Kept]) -> Vec<u64> {
    pieces.iter().map(|piece| piece.slot.checked_sub(FIRST).map_or(piece.slot, |slot| slot + 1)).collect()
}

fn refused(reason: Refusal) -> Vec<Result<Duration, String>> {
    vec![Err(reason.as_str().to_owned())]
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn only_whom_it_is_for_gets_it_in_order_and_only_it_can_take_it_away() {
    let mut bench = Bench::new(Durability::Memory, |_| {});
    let (alice, bob, eve) = (peer(), peer(), peer());
    for ticket in 1..=3 {
        assert_eq!(bench.deposit(alice, bob, ticket, 300), [Ok(HOUR)]);
    }
    assert!(bench.collect(eve, 1, &[1, 2, 3], vec![(alice, vec![0; 300].into())]).is_empty());
    assert!(bench.collect(alice, 1, &[1], Vec::new()).is_empty(), "nor does its author");
    assert_eq!(bench.keeper.stats().letters, 3);
    assert_eq!(slots(&bench.collect(bob, 1, &[], Vec::new())), [1, 2, 3]);
    assert!(bench.collect(bob, 1, &[1], Vec::new()).is_empty(), "in one run each comes once");
    assert_eq!(slots(&bench.collect(bob, 2, &[], Vec::new())), [2, 3], "in another one what is left comes again");
    bench.keeper.gone(&bob);
    assert!(bench.pieces(bob).is_empty());
    assert_eq!(slots(&bench.collect(bob, 2, &[], Vec::new())), [2, 3], "and on another connection");
    bench.keeper.lost(&bob);
    assert_eq!(slots(&bench.pieces(bob)), [2, 3], "and when what was under way is lost");
    assert_eq!(bench.deposit(alice, bob, 4, 300), [Ok(HOUR)]);
    bench.keeper.lost(&bob);
    assert_eq!(slots(&bench.pieces(bob)), [2, 3, 4], "what comes while it is there is handed over at once");
}

#[test]
fn the_same_letter_is_kept_once() {
    let mut bench = Bench::new(Durability::Memory, |_| {});
    let (alice, bob, carol) = (peer(), peer(), peer());
    assert_eq!(bench.deposit(alice, bob, 1, 300), [Ok(HOUR)]);
    bench.now = at(600);
    assert_eq!(bench.deposit(alice, bob, 1, 300), [Ok(HOUR - Duration::from_secs(600))]);
    assert_eq!(bench.keeper.stats().letters, 1);
    assert_eq!(bench.deposit(carol, bob, 1, 300), [Ok(HOUR)], "names are each sender's own");
    assert_eq!(bench.keeper.stats().letters, 2);
}

#[test]
fn limits_hold_per_sender_per_recipient_and_in_all_and_nothing_gives_way() {
    let mut bench = Bench::new(Durability::Memory, |config| {
        (config.sender_letters, config.sender_bytes) = (3, 2000);
        (config.recipient_letters, config.recipient_bytes) = (4, 100_000);
        config.max_letters = 6;
    });
    let (alice, bob, carol, dave) = (peer(), peer(), peer(), peer());
    assert_eq!(bench.deposit(alice, bob, 1, 1500), [Ok(HOUR)]);
    assert_eq!(bench.deposit(alice, bob, 2, 1500), refused(Refusal::SenderFull), "too many bytes");
    assert_eq!(bench.deposit(alice, bob, 3, 100), [Ok(HOUR)]);
    assert_eq!(bench.deposit(alice, bob, 4, 100), [Ok(HOUR)]);
    assert_eq!(
        bench.deposit(alice, carol, 5, 100),
        refused(Refusal::SenderFull),
        "too many letters, whoever they are for"
    );
    assert_eq!(bench.deposit(carol, bob, 1, 100), [Ok(HOUR)]);
    assert_eq!(bench.deposit(dave, bob, 1, 100), refused(Refusal::RecipientFull));
    assert_eq!(bench.deposit(dave, carol, 1, 100), [Ok(HOUR)]);
    assert_eq!(bench.deposit(dave, carol, 2, 100), [Ok(HOUR)]);
    assert_eq!(bench.deposit(dave, carol, 3, 100), refused(Refusal::Full));
    assert_eq!(bench.deposit(dave, dave, 4, 100), refused(Refusal::WrongRecipient));
    assert_eq!(bench.deposit(dave, PeerId::random(), 4, 100), refused(Refusal::WrongRecipient), "a hash is no key");
    let stats = bench.keeper.stats();
    assert_eq!((stats.letters, stats.accepted, stats.refused["sender_full"]), (6, 6, 2));

    let first = bench.collect(bob, 1, &[], Vec::new());
    bench.collect(bob, 1, &[first[0].slot], Vec::new());
    assert_eq!(bench.deposit(alice, bob, 6, 1500), [Ok(HOUR)], "what was taken makes room");

    let mut unwilling = Bench::new(Durability::Memory, |config| config.serve = false);
    assert_eq!(unwilling.deposit(alice, bob, 1, 100), refused(Refusal::Unwilling));
}

#[test]
fn a_confirmation_takes_the_place_of_letters_and_no_more() {
    let mut bench = Bench::new(Durability::Memory, |config| config.sender_letters = 2);
    let (alice, bob, carol) = (peer(), peer(), peer());
    bench.deposit(alice, bob, 1, 300);
    bench.deposit(alice, bob, 2, 300);
    bench.collect(bob, 1, &[], Vec::new());
    let sealed = |bytes: usize| Bytes::from(vec![9; bytes]);
    // Nobody else's place, no larger than what it replaces, and one for each author.
    bench.collect(bob, 1, &[1], vec![(carol, sealed(10)), (alice, sealed(300)), (alice, sealed(10))]);
    assert_eq!((bench.keeper.stats().letters, bench.keeper.stats().bytes), (2, 600));
    assert_eq!(bench.deposit(alice, bob, 3, 300), refused(Refusal::SenderFull), "it counts for the author");
    bench.collect(bob, 1, &[2], vec![(alice, sealed(301))]);
    assert_eq!((bench.keeper.stats().letters, bench.keeper.stats().bytes), (1, 300));
    bench.collect(bob, 1, &[1, 2], vec![(alice, sealed(10))]);
    assert_eq!(bench.keeper.stats().letters, 1, "without a letter there is no place");

    let pieces = bench.collect(alice, 1, &[], Vec::new());
    assert!(matches!(&pieces[..], [Kept { confirmation: true, .. }]), "{pieces:?}");
    bench.collect(alice, 1, &slots(&pieces), Vec::new());
    let stats = bench.keeper.stats();
    assert_eq!((stats.letters, stats.bytes, stats.handed_over), (0, 0, 2));
}

#[test]
fn accepted_is_stored_and_only_what_is_stored_is_handed_over() {
    let mut bench = Bench::new(Durability::Batched, |_| {});
    let (alice, bob) = (peer(), peer());
    assert!(bench.collect(bob, 1, &[], Vec::new()).is_empty());
    assert!(bench.deposit(alice, bob, 1, 300).is_empty(), "not yet");
    assert!(bench.pieces(bob).is_empty());
    bench.stored();
    let notes = bench.keeper.take_notes(|_| usize::MAX);
    assert_eq!(answers(notes.clone(), alice), [Ok(HOUR)]);
    let handed = notes.into_iter().filter(|(to, _)| *to == bob).collect();
    assert_eq!(slots(&pieces(handed, bob)), [1]);

    // The disk refuses: what was not stored was not accepted, and nothing new is.
    assert!(bench.deposit(alice, bob, 2, 300).is_empty());
    let full = Some("no space".to_owned());
    bench.journal.reported(1, full.clone(), &mut Vec::new());
    bench.keeper.reported(bench.now, 1, true, &mut bench.journal);
    assert_eq!(answers(bench.keeper.take_notes(|_| usize::MAX), alice), refused(Refusal::NotStored));
    assert_eq!(bench.deposit(alice, bob, 3, 300), refused(Refusal::NotStored));
    assert_eq!(bench.keeper.stats().letters, 1, "what was accepted stays");
}

#[test]
fn what_is_over_goes_and_a_restart_changes_nothing() {
    let mut bench = Bench::new(Durability::Batched, |config| config.max_ttl = Duration::from_secs(120));
    let (alice, bob) = (peer(), peer());
    bench.deposit(alice, bob, 1, 300);
    bench.stored();
    let granted = answers(bench.keeper.take_notes(|_| usize::MAX), alice);
    assert_eq!(granted, [Ok(Duration::from_secs(120))], "no longer than this mailbox keeps anything");
    let rows = [(
        7,
        MailRow { from: alice, to: bob, ticket: Some(9), expires_at: at(60).unix_millis, sealed: vec![1; 300].into() },
    )];
    let read = rows.map(|(slot, row)| (slot, MailRow::read(&row.write()).expect("readable")));

    let mut restarted = Bench::new(Durability::Batched, |_| {});
    restarted.keeper.restore(at(0), read.to_vec(), &mut restarted.journal);
    assert_eq!(restarted.keeper.stats().letters, 1);
    assert_eq!(restarted.deposit(alice, bob, 9, 300), [Ok(Duration::from_secs(60))], "it is known by its name");
    assert_eq!(slots(&restarted.collect(bob, 1, &[], Vec::new())), [7]);
    let due = restarted.keeper.next_deadline().expect("something ends");
    assert!(due <= Duration::from_secs(60));
    restarted.keeper.tick(at(61), &mut restarted.journal);
    let stats = restarted.keeper.stats();
    assert_eq!((stats.letters, stats.bytes, stats.expired), (0, 0, 1));
    assert_eq!(restarted.keeper.next_deadline(), None);
    let mut late = Bench::new(Durability::Batched, |_| {});
    late.keeper.restore(at(61), read.to_vec(), &mut late.journal);
    assert_eq!(late.keeper.stats().letters, 0, "it ended while the node was stopped");
}

#[test]
fn no_slot_is_used_again_after_a_restart_in_memory() {
    let (alice, bob) = (peer(), peer());
    let mut kept = [0, 1].map(|seconds| {
        let mut bench = Bench::new(Durability::Memory, |_| {});
        bench.now = at(seconds);
        bench.deposit(alice, bob, 1, 300);
        bench.collect(bob, 1, &[], Vec::new())[0].slot
    });
    assert!(kept[0] < kept[1]);
    // Nor where the clock was set back: what is on the disk says how far it was.
    let mut bench = Bench::new(Durability::Batched, |_| {});
    let expires_at = at(60).unix_millis;
    let row = MailRow { from: alice, to: bob, ticket: Some(9), expires_at, sealed: vec![1; 300].into() };
    kept[1] += 1 << 30;
    bench.keeper.restore(at(0), vec![(kept[1], row)], &mut bench.journal);
    bench.deposit(alice, bob, 1, 300);
    bench.stored();
    assert_eq!(
        bench.collect(bob, 1, &[], Vec::new()).iter().map(|piece| piece.slot).collect::<Vec<_>>(),
        [kept[1], kept[1] + 1]
    );
}
