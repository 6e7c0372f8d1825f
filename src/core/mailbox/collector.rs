//! What mailboxes keep for this node: it says how much it takes, and when it has taken it.
//!
//! A letter is taken when it is the app's: stored, where messages are stored. Until then the mailbox keeps it. When this
//! node can't take one, nothing that comes behind it from the same mailbox is taken either, and after a while all of it is
//! asked for again, so order holds.

use std::{
    collections::{BTreeMap, HashMap},
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

/// When a letter could not be taken, it is asked for again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// A mailbox that is connected.
#[derive(Default)]
struct Mailbox {
    run: u32,
    /// Slots handed over in this run that it was not told of.
    under_way: usize,
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

#[derive(Default)]
pub(crate) struct Collector {
    mailboxes: BTreeMap<PeerId, Mailbox>,
    /// Letters that are being stored. Bounded by what is under way from the mailboxes.
    storing: HashMap<MessageId, Vec<Source>>,
    runs: u32,
    pub(crate) collected: u64,
}

impl Collector {
    /// A connected node keeps mail for others: what it has for this one is asked for.
    pub(crate) fn found(&mut self, mailbox: PeerId) {
        if !self.mailboxes.contains_key(&mailbox) {
            self.mailboxes.insert(mailbox, Mailbox::default());
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

    /// Something was handed over. Whether it is looked at: what is of an earlier run comes again.
    ///
    /// # Errors
    /// When it was not asked for.
    pub(crate) fn came(&mut self, mailbox: &PeerId, piece: &Piece) -> Result<bool, Rejection> {
        let unsolicited = |detail: &str| Rejection::new(RejectReason::Unsolicited, detail);
        let never = || unsolicited("mail that was never asked for");
        let mailbox = self.mailboxes.get_mut(mailbox).ok_or_else(never)?;
        if piece.run > mailbox.run || piece.run == 0 {
            return Err(never());
        }
        if piece.run < mailbox.run {
            return Ok(false);
        }
        mailbox.under_way += 1;
        if mailbox.under_way > LETTERS as usize {
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

    /// Something that was handed over need not be kept any longer: a letter that is here, or what is of no use.
    pub(crate) fn taken(&mut self, mailbox: &PeerId, run: u32, slot: u64, letter: Option<MessageId>) {
        // In a later run it comes again, and is known.
        let Some(mailbox) = self.mailboxes.get_mut(mailbox).filter(|mailbox| mailbox.run == run) else { return };
        mailbox.due = true;
        mailbox.taken.push(slot);
        if let Some(MessageId { sender, nonce }) = letter {
            self.collected += 1;
            mailbox.arrived.entry(sender).or_default().insert(nonce);
        }
    }

    /// What mailboxes are to be told.
    pub(crate) fn take_notes(&mut self) -> Vec<(PeerId, ToMailbox)> {
        let due = self.mailboxes.iter_mut().filter(|(_, mailbox)| mailbox.due);
        let notes = due.map(|(peer, mailbox)| {
            mailbox.due = false;
            let taken = std::mem::take(&mut mailbox.taken);
            mailbox.under_way = mailbox.under_way.saturating_sub(taken.len());
            let arrived = std::mem::take(&mut mailbox.arrived).into_iter();
            let arrived = arrived.map(|(author, nonces)| (author, nonces.into_vec())).collect();
            let taking = Taking { run: mailbox.run, letters: LETTERS, bytes: BYTES, taken, arrived };
            (*peer, ToMailbox::Collect(Box::new(taking)))
        });
        notes.collect()
    }

    /// Everything that was not taken is asked for again. What this side was about to say is kept: the slots are the same.
    fn again(&mut self, mailbox: &PeerId) {
        let Some(mailbox) = self.mailboxes.get_mut(mailbox) else { return };
        self.runs += 1;
        mailbox.run = self.runs;
        (mailbox.under_way, mailbox.again_at, mailbox.due) = (0, None, true);
    }
}

// A note never names more than a mailbox reads.
const _: () = assert!(LETTERS as usize <= Collect::MAX_TAKEN && LETTERS as usize <= Collect::MAX_CONFIRMATIONS);
