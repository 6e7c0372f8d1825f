//! What mailboxes keep for this node: it says how much it takes, and when it has taken it.
//!
//! A letter is taken when it is the app's: stored, where messages are stored. Until then the mailbox keeps it. When this
//! node can't take one, nothing that comes behind it from the same mailbox is taken either, and after a while all of it is
//! asked for again, so order holds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, btree_map::Entry},
    time::Duration,
};

use libp2p::PeerId;

use super::super::{Now, routing::Ranges};
use crate::{
    event::RejectReason,
    frame::{Collect, Piece, Rejection, Taking, ToMailbox},
    message::MessageId,
};

/// How much may be under way from one mailbox and not taken.
const LETTERS: u32 = 64;
const BYTES: u32 = 512 * 1024;

/// What one note to a mailbox names, letters and so authors.
const MOST_TAKEN: usize = 2 * LETTERS as usize;

/// Confirmations that wait for the disk, of all mailboxes.
const SETTLING: usize = 1024;

/// When a letter could not be taken, it is asked for again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// A mailbox that is connected.
#[derive(Default)]
struct Mailbox {
    run: u32,
    /// Slots handed over in this run of which it was not told that they are taken.
    under_way: BTreeSet<u64>,
    taken: Vec<u64>,
    arrived: BTreeMap<PeerId, Ranges>,
    /// It has to be told.
    due: bool,
    /// What comes is not taken until then.
    again_at: Option<Duration>,
}

/// Where a letter came from.
#[derive(Clone, Copy)]
struct Source {
    mailbox: PeerId,
    run: u32,
    slot: u64,
}

pub(crate) struct Collector {
    mailboxes: BTreeMap<PeerId, Mailbox>,
    /// Letters that are being stored. Bounded by what is under way from the mailboxes.
    storing: HashMap<MessageId, Vec<Source>>,
    /// Confirmations, with the round that has to be kept before they are taken, in the order of the rounds.
    settling: VecDeque<(u64, Source)>,
    runs: u32,
    pub(crate) collected: u64,
}

impl Collector {
    /// The numbers of runs begin somewhere else at each start: a mailbox may not have noticed yet that an earlier life of
    /// this node is over.
    pub(crate) fn new(seed: u64) -> Self {
        let runs = u32::try_from(seed >> 33).unwrap_or(0);
        Self { mailboxes: BTreeMap::new(), storing: HashMap::new(), settling: VecDeque::new(), runs, collected: 0 }
    }

    /// A connected node keeps mail for others: what it has for this one is asked for.
    pub(crate) fn found(&mut self, mailbox: PeerId) {
        if let Entry::Vacant(place) = self.mailboxes.entry(mailbox) {
            place.insert(Mailbox::default());
            self.again(&mailbox);
        }
    }

    /// A node is not connected any more, or keeps no mail any longer.
    pub(crate) fn gone(&mut self, mailbox: &PeerId) {
        self.mailboxes.remove(mailbox);
    }

    /// What was on its way to a mailbox may be lost.
    pub(crate) fn lost(&mut self, mailbox: &PeerId) {
        self.again(mailbox);
    }

    /// There is room again.
    pub(crate) fn has_room(&mut self) {
        let waiting = self.mailboxes.iter().filter(|(_, mailbox)| mailbox.again_at.is_some());
        for mailbox in waiting.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.again(&mailbox);
        }
    }

    pub(crate) fn tick(&mut self, now: Now) {
        let is_due = |mailbox: &Mailbox| mailbox.again_at.is_some_and(|at| at <= now.since_start);
        let due = self.mailboxes.iter().filter(|(_, mailbox)| is_due(mailbox));
        for mailbox in due.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.again(&mailbox);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.mailboxes.values().filter_map(|mailbox| mailbox.again_at).min()
    }

    /// Something was handed over. Whether it is looked at: what is of another run comes again in this one, and what came
    /// before by another connection is here. A mailbox of which identify has not told yet may answer an earlier life of
    /// this node: what it has is asked for when it is known.
    ///
    /// # Errors
    /// When no honest mailbox hands it over.
    pub(crate) fn came(&mut self, mailbox: &PeerId, piece: &Piece) -> Result<bool, Rejection> {
        let unsolicited = |detail: &str| Rejection::new(RejectReason::Unsolicited, detail);
        if piece.run == 0 {
            return Err(unsolicited("mail that was never asked for"));
        }
        let Some(mailbox) = self.mailboxes.get_mut(mailbox).filter(|mailbox| mailbox.run == piece.run) else {
            return Ok(false);
        };
        if !mailbox.under_way.insert(piece.slot) {
            return Ok(false);
        }
        // Twice: letters whose time was over at the mailbox make room there, of which this side doesn't hear.
        if mailbox.under_way.len() > 2 * LETTERS as usize {
            mailbox.under_way.remove(&piece.slot);
            return Err(unsolicited("more mail at a time than was asked for"));
        }
        Ok(mailbox.again_at.is_none())
    }

    /// A letter can't be taken now.
    pub(crate) fn no_room(&mut self, now: Now, mailbox: &PeerId) {
        if let Some(mailbox) = self.mailboxes.get_mut(mailbox) {
            mailbox.again_at = Some(now.since_start + AGAIN);
        }
    }

    /// A letter is being stored.
    pub(crate) fn storing(&mut self, mailbox: PeerId, piece: (u32, u64), id: MessageId) {
        let (run, slot) = piece;
        self.storing.entry(id).or_default().push(Source { mailbox, run, slot });
    }

    /// A message has been stored. True when a mailbox had brought it.
    pub(crate) fn stored(&mut self, id: &MessageId) -> bool {
        let Some(sources) = self.storing.remove(id) else { return false };
        for Source { mailbox, run, slot } in sources {
            self.taken(&mailbox, run, slot, Some(*id));
        }
        true
    }

    /// A confirmation came, and what follows from it is written in a round, if anything does. The mailbox keeps it until
    /// then: a node that crashed before would not hear again that its message has arrived.
    pub(crate) fn settling(&mut self, now: Now, mailbox: PeerId, piece: (u32, u64), round: Option<u64>) {
        let (run, slot) = piece;
        // One that ends nothing may be the same as one that is still being written.
        match round.or_else(|| self.settling.back().map(|(round, _)| *round)) {
            None => self.taken(&mailbox, run, slot, None),
            Some(_) if self.settling.len() >= SETTLING => self.no_room(now, &mailbox),
            Some(round) => self.settling.push_back((round, Source { mailbox, run, slot })),
        }
    }

    /// All rounds up to this one are kept.
    pub(crate) fn settled(&mut self, stored: u64) {
        while self.settling.front().is_some_and(|(round, _)| *round <= stored)
            && let Some((_, Source { mailbox, run, slot })) = self.settling.pop_front()
        {
            self.taken(&mailbox, run, slot, None);
        }
    }

    /// Something that was handed over need not be kept any longer: a letter that is here, or what is of no use.
    pub(crate) fn taken(&mut self, mailbox: &PeerId, run: u32, slot: u64, letter: Option<MessageId>) {
        // In a later run it comes again, and is known.
        let Some(mailbox) = self.mailboxes.get_mut(mailbox).filter(|mailbox| mailbox.run == run) else { return };
        mailbox.due = true;
        if mailbox.taken.len() >= MOST_TAKEN {
            // It has not been told of all these for several runs. The mailbox keeps it, and it comes again.
            return;
        }
        mailbox.taken.push(slot);
        if let Some(MessageId { sender, nonce }) = letter {
            self.collected += 1;
            mailbox.arrived.entry(sender).or_default().insert(nonce);
        }
    }

    /// What mailboxes are to be told; those for which there is no room now are told at a later call.
    pub(crate) fn take_notes(&mut self, has_room: impl Fn(&PeerId) -> bool) -> Vec<(PeerId, ToMailbox)> {
        let due = self.mailboxes.iter_mut().filter(|(peer, mailbox)| mailbox.due && has_room(peer));
        let notes = due.map(|(peer, mailbox)| {
            mailbox.due = false;
            let taken = std::mem::take(&mut mailbox.taken);
            mailbox.under_way.retain(|slot| !taken.contains(slot));
            let arrived = std::mem::take(&mut mailbox.arrived).into_iter();
            let arrived = arrived.map(|(author, nonces)| (author, nonces.into_vec())).collect();
            let taking = Taking { run: mailbox.run, letters: LETTERS, bytes: BYTES, taken, arrived };
            (*peer, ToMailbox::Collect(Box::new(taking)))
        });
        notes.collect()
    }

    #[cfg(test)]
    pub(super) fn run_of(&self, mailbox: &PeerId) -> Option<u32> {
        self.mailboxes.get(mailbox).map(|mailbox| mailbox.run)
    }

    /// Everything that was not taken is asked for again. What this side was about to say is kept: the slots are the same.
    fn again(&mut self, mailbox: &PeerId) {
        let Some(mailbox) = self.mailboxes.get_mut(mailbox) else { return };
        self.runs += 1;
        mailbox.run = self.runs;
        mailbox.under_way.clear();
        (mailbox.again_at, mailbox.due) = (None, true);
    }
}

// A note never names more than a mailbox reads.
const _: () = assert!(MOST_TAKEN <= Collect::MAX_TAKEN);
const _: () = assert!(MOST_TAKEN <= Collect::MAX_CONFIRMATIONS);

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::frame::Sealed;

    fn piece(run: u32, slot: u64) -> Piece {
        Piece { run, slot, confirmation: false, content: Sealed::Closed(Bytes::new()) }
    }

    fn at(seconds: u64) -> Now {
        Now { since_start: Duration::from_secs(seconds), unix_millis: 0 }
    }

    /// What the one mailbox is told.
    fn told(collector: &mut Collector) -> Option<Taking> {
        let mut notes = collector.take_notes(|_| true);
        assert!(notes.len() <= 1);
        notes.pop().map(|(_, note)| match note {
            ToMailbox::Collect(taking) => *taking,
            ToMailbox::Deposit(_) => panic!("nothing is deposited here"),
        })
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let (mut collector, mailbox) = (Collector::new(1 << 40), PeerId::random());
        assert_eq!(collector.came(&mailbox, &piece(1, 1)), Ok(false), "it answers an earlier life of this node");
        collector.found(mailbox);
        let Taking { run, letters, .. } = told(&mut collector).expect("it is asked");
        assert_eq!(collector.came(&mailbox, &piece(run + 1, 1)), Ok(false));
        assert!(collector.came(&mailbox, &piece(0, 1)).is_err());
        for slot in 0..2 * u64::from(letters) {
            assert_eq!(collector.came(&mailbox, &piece(run, slot)), Ok(true));
            assert_eq!(collector.came(&mailbox, &piece(run, slot)), Ok(false), "the same by another connection");
        }
        let flood = collector.came(&mailbox, &piece(run, 999)).expect_err("more than asked for");
        assert_eq!(flood.reason, RejectReason::Unsolicited);
        collector.taken(&mailbox, run, 0, None);
        assert_eq!(told(&mut collector).map(|taking| taking.taken), Some(vec![0]));
        assert_eq!(told(&mut collector), None, "it is told once");
    }

    #[test]
    fn confirmations_wait_for_the_disk_and_only_so_many_do() {
        let (mut collector, mailbox) = (Collector::new(1 << 40), PeerId::random());
        collector.found(mailbox);
        let run = told(&mut collector).expect("it is asked").run;
        collector.settling(at(0), mailbox, (run, 1), None);
        assert_eq!(told(&mut collector).map(|taking| taking.taken), Some(vec![1]), "nothing is written for it");
        collector.settling(at(0), mailbox, (run, 2), Some(5));
        collector.settling(at(0), mailbox, (run, 3), None);
        collector.settled(4);
        assert_eq!(told(&mut collector), None);
        collector.settled(5);
        assert_eq!(told(&mut collector).map(|taking| taking.taken), Some(vec![2, 3]));
        (0..=SETTLING as u64).for_each(|slot| collector.settling(at(0), mailbox, (run, slot), Some(6)));
        assert_eq!((collector.settling.len(), collector.next_deadline()), (SETTLING, Some(AGAIN)));
    }

    #[test]
    fn behind_a_letter_that_found_no_room_nothing_is_taken_until_all_comes_again() {
        let (mut collector, mailbox) = (Collector::new(1 << 40), PeerId::random());
        collector.found(mailbox);
        let run = told(&mut collector).expect("it is asked").run;
        assert_eq!(collector.came(&mailbox, &piece(run, 1)), Ok(true));
        collector.no_room(at(0), &mailbox);
        assert_eq!(collector.came(&mailbox, &piece(run, 2)), Ok(false));
        assert_eq!(collector.next_deadline(), Some(AGAIN));
        collector.tick(at(5));
        let again = told(&mut collector).expect("it is asked again").run;
        assert!(again > run);
        assert_eq!(collector.came(&mailbox, &piece(run, 3)), Ok(false), "what was on its way meanwhile");
        assert_eq!(collector.came(&mailbox, &piece(again, 1)), Ok(true));
    }

    #[test]
    fn a_letter_is_taken_once_it_is_stored_from_every_mailbox_that_brought_it() {
        let (mut collector, mailbox) = (Collector::new(1 << 40), PeerId::random());
        collector.found(mailbox);
        let run = told(&mut collector).expect("it is asked").run;
        let id = MessageId { sender: PeerId::random(), nonce: 7 };
        collector.storing(mailbox, (run, 1), id);
        collector.storing(PeerId::random(), (run, 5), id);
        assert_eq!(told(&mut collector), None, "not yet");
        assert!(collector.stored(&id));
        let taking = told(&mut collector).expect("now");
        let nonces = vec![crate::frame::NonceRange { first: 7, last: 7 }];
        assert_eq!((taking.taken, taking.arrived), (vec![1], vec![(id.sender, nonces)]));
        assert!(!collector.stored(&id), "others' messages are not by mail");

        // Stored in the time of a run that is over: it comes again, and is known then.
        collector.storing(mailbox, (run, 2), id);
        collector.lost(&mailbox);
        collector.stored(&id);
        assert_eq!(told(&mut collector).map(|taking| taking.taken), Some(Vec::new()));
    }
}
