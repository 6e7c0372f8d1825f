//! What this node keeps for others: letters until their recipients come, and confirmations until the letters' authors do.
//!
//! Invariant: what was accepted stays until its recipient has taken it or its time is over; at a limit what is new is
//! refused, and nothing gives way. Who is connected gets what is kept for it, and nobody else does.
//!
//! Limits hold per sender, per recipient and in all. A confirmation takes the place of the letters it confirms, and is
//! never larger, so it always has room and counts for the letters' author.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use libp2p::PeerId;

use super::super::{
    Now,
    routing::{Journal, MailRow},
};
use super::door::Door;
use crate::{
    config::MailboxConfig,
    crypto::can_seal_to,
    frame::{Answer, Collect, ControlContent, Deposited, Kept, Refusal},
    peer::MailboxStats,
    rows::{Change, Haste, Key, Shelf},
};

/// What is kept is looked through for what is over at least this often; when somebody comes for it, it is looked at too.
const LOOK: Duration = Duration::from_secs(30);

/// Slots begin at the time, in milliseconds since the Unix epoch, shifted by so many bits: room for more letters in a
/// millisecond than can come.
const SLOTS_BITS: u32 = 20;

/// Letters, and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Amount {
    letters: usize,
    bytes: usize,
}

/// Something that is kept.
struct Entry {
    row: MailRow,
    /// It is on the disk, as far as it has to be; only then it is handed over.
    stored: bool,
}

pub(crate) struct Keeper {
    config: MailboxConfig,
    local: PeerId,
    entries: HashMap<Key, Entry>,
    /// Slots by the names that their senders gave.
    tickets: HashMap<(PeerId, u64), Key>,
    /// Slots by recipient, in the order of arrival.
    for_peer: BTreeMap<PeerId, BTreeSet<Key>>,
    /// When things are over: milliseconds since the Unix epoch, slot.
    ends: BTreeSet<(u64, Key)>,
    /// By author of letters.
    senders: HashMap<PeerId, Amount>,
    recipients: HashMap<PeerId, Amount>,
    all: Amount,
    next_slot: Key,
    /// Rounds that have to be kept, and the slots in them.
    storing: VecDeque<(u64, Key)>,
    /// Who waits for an answer about a slot that is being stored, and the number of the deposit.
    answering: HashMap<Key, (PeerId, u64)>,
    answers: BTreeMap<PeerId, Vec<Answer>>,
    doors: BTreeMap<PeerId, Door>,
    /// Peers for whom there may be something to hand over.
    due: BTreeSet<PeerId>,
    look_at: Option<Duration>,
    stats: MailboxStats,
}

impl Amount {
    fn add(&mut self, bytes: usize) {
        self.letters += 1;
        self.bytes += bytes;
    }

    fn has_room(self, bytes: usize, letters: usize, most: usize) -> bool {
        self.letters < letters && self.bytes.saturating_add(bytes) <= most
    }
}

/// What comes.
impl Keeper {
    pub(crate) fn new(local: PeerId, config: &MailboxConfig) -> Self {
        // Every reason is there from the start, so that a counter that stays at 0 can be seen to do so.
        let reasons = Refusal::ALL.into_iter().filter(|_| config.serve);
        let refused = reasons.map(|reason| (reason.as_str(), 0)).collect();
        Self {
            config: config.clone(),
            local,
            entries: HashMap::new(),
            tickets: HashMap::new(),
            for_peer: BTreeMap::new(),
            ends: BTreeSet::new(),
            senders: HashMap::new(),
            recipients: HashMap::new(),
            all: Amount::default(),
            next_slot: 1,
            storing: VecDeque::new(),
            answering: HashMap::new(),
            answers: BTreeMap::new(),
            doors: BTreeMap::new(),
            due: BTreeSet::new(),
            look_at: None,
            stats: MailboxStats { refused, ..MailboxStats::default() },
        }
    }

    /// What an earlier run has kept, also where limits have been lowered meanwhile.
    pub(crate) fn restore(&mut self, now: Now, rows: Vec<(Key, MailRow)>, journal: &mut Journal) {
        for (slot, row) in rows {
            self.next_slot = self.next_slot.max(slot.saturating_add(1));
            self.insert(slot, row, true);
        }
        self.expire(now, journal);
    }

    /// A neighbour wants a letter to be kept.
    pub(crate) fn deposit(&mut self, now: Now, neighbour: PeerId, deposited: Deposited, journal: &mut Journal) {
        let Deposited { number, ticket, recipient, keep_for, sealed } = deposited;
        if let Some(slot) = self.tickets.get(&(neighbour, ticket)).copied()
            && let Some(entry) = self.entries.get(&slot)
        {
            // Brought again: by a sender that was restarted, or that didn't hear the answer.
            if entry.stored {
                let left = Duration::from_millis(entry.row.expires_at.saturating_sub(now.unix_millis));
                self.answer(neighbour, Answer { number, kept_for: Ok(left) });
            } else {
                self.answering.insert(slot, (neighbour, number));
            }
            return;
        }
        if let Err(refusal) = self.check(&neighbour, &recipient, sealed.len(), journal) {
            *self.stats.refused.entry(refusal.as_str()).or_default() += 1;
            self.answer(neighbour, Answer { number, kept_for: Err(refusal.as_str().to_owned()) });
            return;
        }
        let kept_for = keep_for.min(self.config.max_ttl);
        let expires_at = now.unix_millis.saturating_add(u64::try_from(kept_for.as_millis()).unwrap_or(u64::MAX));
        let row = MailRow { from: neighbour, to: recipient, ticket: Some(ticket), expires_at, sealed };
        let slot = self.keep(now, row, journal);
        if journal.is_on() {
            self.answering.insert(slot, (neighbour, number));
        } else {
            self.stats.accepted += 1;
            self.answer(neighbour, Answer { number, kept_for: Ok(kept_for) });
        }
    }

    fn check(&self, from: &PeerId, to: &PeerId, bytes: usize, journal: &Journal) -> Result<(), Refusal> {
        let config = &self.config;
        let amount = |of: &HashMap<PeerId, Amount>, peer| of.get(peer).copied().unwrap_or_default();
        if !config.serve {
            Err(Refusal::Unwilling)
        } else if to == from || *to == self.local || !can_seal_to(to) {
            Err(Refusal::WrongRecipient)
        } else if !amount(&self.senders, from).has_room(bytes, config.sender_letters, config.sender_bytes) {
            Err(Refusal::SenderFull)
        } else if !amount(&self.recipients, to).has_room(bytes, config.recipient_letters, config.recipient_bytes) {
            Err(Refusal::RecipientFull)
        } else if !self.all.has_room(bytes, config.max_letters, config.max_bytes) {
            Err(Refusal::Full)
        } else if journal.failing().is_some() {
            Err(Refusal::NotStored)
        } else {
            Ok(())
        }
    }

    /// A neighbour takes, and has taken, what is kept for it.
    pub(crate) fn collect(&mut self, now: Now, neighbour: PeerId, collect: Collect, journal: &mut Journal) {
        let Collect { run, letters, bytes, taken, confirmations } = collect;
        let door = self.doors.entry(neighbour).or_default();
        door.asked(run, letters, bytes);
        taken.iter().for_each(|slot| door.taken(*slot));
        self.due.insert(neighbour);

        let mut freed = BTreeMap::<PeerId, usize>::new();
        for slot in taken {
            if self.entries.get(&slot).is_none_or(|entry| entry.row.to != neighbour) {
                // Its time was over meanwhile, or it is none of the neighbour's business.
                continue;
            }
            let Some(row) = self.remove(slot, journal) else { continue };
            if !row.is_confirmation() {
                self.stats.handed_over += 1;
                *freed.entry(row.from).or_default() += row.sealed.len();
            }
        }
        let max_ttl = u64::try_from(self.config.max_ttl.as_millis()).unwrap_or(u64::MAX);
        let expires_at = now.unix_millis.saturating_add(max_ttl);
        for (author, sealed) in confirmations {
            // One for each author whose letters have made the room, and no larger than these.
            if freed.remove(&author).is_some_and(|bytes| sealed.len() <= bytes) {
                let row = MailRow { from: neighbour, to: author, ticket: None, expires_at, sealed };
                self.keep(now, row, journal);
            }
        }
    }

    /// The journal has kept all rounds up to this one, or can keep no more: what it has not is given back.
    pub(crate) fn reported(&mut self, now: Now, stored: u64, failing: bool, journal: &mut Journal) {
        while self.storing.front().is_some_and(|(round, _)| *round <= stored)
            && let Some((_, slot)) = self.storing.pop_front()
        {
            let Some(entry) = self.entries.get_mut(&slot) else { continue };
            entry.stored = true;
            let left = Duration::from_millis(entry.row.expires_at.saturating_sub(now.unix_millis));
            self.due.insert(entry.row.to);
            self.stats.accepted += u64::from(!entry.row.is_confirmation());
            if let Some((neighbour, number)) = self.answering.remove(&slot) {
                self.answer(neighbour, Answer { number, kept_for: Ok(left) });
            }
        }
        if !failing {
            return;
        }
        // A confirmation stays in memory and waits for its round: the letters it speaks for are gone.
        let storing = std::mem::take(&mut self.storing);
        for (round, slot) in storing {
            match self.answering.remove(&slot) {
                None => self.storing.push_back((round, slot)),
                Some((neighbour, number)) => {
                    self.remove(slot, journal);
                    let refusal = Refusal::NotStored.as_str();
                    *self.stats.refused.entry(refusal).or_default() += 1;
                    self.answer(neighbour, Answer { number, kept_for: Err(refusal.to_owned()) });
                }
            }
        }
    }

    /// What was on its way to a neighbour may be lost: it is handed over again.
    pub(crate) fn lost(&mut self, neighbour: &PeerId) {
        if let Some(door) = self.doors.get_mut(neighbour) {
            door.again();
            self.due.insert(*neighbour);
        }
    }

    /// A neighbour is gone.
    pub(crate) fn gone(&mut self, neighbour: &PeerId) {
        self.doors.remove(neighbour);
        self.answers.remove(neighbour);
        self.due.remove(neighbour);
    }

    /// What is over goes.
    pub(crate) fn tick(&mut self, now: Now, journal: &mut Journal) {
        if self.look_at.is_some_and(|at| at <= now.since_start) {
            self.expire(now, journal);
        }
    }

    fn expire(&mut self, now: Now, journal: &mut Journal) {
        while let Some(&(end, slot)) = self.ends.first()
            && end <= now.unix_millis
        {
            self.ends.pop_first();
            if let Some(row) = self.remove(slot, journal) {
                self.stats.expired += u64::from(!row.is_confirmation());
            }
        }
        self.plan_look(now);
    }

    fn plan_look(&mut self, now: Now) {
        self.look_at = self.ends.first().map(|(end, _)| {
            let left = Duration::from_millis(end.saturating_sub(now.unix_millis));
            now.since_start + left.clamp(Duration::from_secs(1), LOOK)
        });
    }
}

/// What leaves.
impl Keeper {
    /// What neighbours are to be told: answers to deposits, and as much of what is kept for them as they take. `room` says
    /// how many letters may be handed to a neighbour now; for whom there is none, it is asked again at the next call.
    pub(crate) fn take_notes(&mut self, room: impl Fn(&PeerId) -> usize) -> Vec<(PeerId, ControlContent)> {
        let answers = std::mem::take(&mut self.answers);
        let mut notes =
            answers.into_iter().map(|(peer, answers)| (peer, ControlContent::Answers(answers))).collect::<Vec<_>>();
        for peer in std::mem::take(&mut self.due) {
            let (Some(door), Some(slots)) = (self.doors.get_mut(&peer), self.for_peer.get(&peer)) else { continue };
            let mut room = room(&peer);
            for slot in slots.range(door.next()..) {
                let Some(entry) = self.entries.get(slot).filter(|entry| entry.stored) else { break };
                if room == 0 {
                    self.due.insert(peer);
                    break;
                }
                room -= 1;
                if !door.hand_over(*slot, entry.row.sealed.len()) {
                    break;
                }
                let (run, sealed) = (door.run(), entry.row.sealed.clone());
                let piece = Kept { run, slot: *slot, confirmation: entry.row.is_confirmation(), sealed };
                notes.push((peer, ControlContent::Piece(Box::new(piece))));
            }
        }
        notes
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.look_at
    }

    /// The counters, and what is kept now.
    pub(crate) fn stats(&self) -> MailboxStats {
        MailboxStats { letters: self.all.letters, bytes: self.all.bytes, ..self.stats.clone() }
    }
}

impl Keeper {
    fn answer(&mut self, neighbour: PeerId, answer: Answer) {
        self.answers.entry(neighbour).or_default().push(answer);
    }

    /// Takes something new in, for which there is room.
    fn keep(&mut self, now: Now, row: MailRow, journal: &mut Journal) -> Key {
        // No slot is used twice, also where nothing is kept over a restart: a note that names one could free another's.
        let slot = self.next_slot.max(now.unix_millis << SLOTS_BITS);
        self.next_slot = slot + 1;
        if journal.is_on() {
            journal.add(Change::Insert(Shelf::Mail, slot, row.write()), Haste::Now);
            self.storing.push_back((journal.next_round(), slot));
        } else {
            self.due.insert(row.to);
        }
        self.insert(slot, row, !journal.is_on());
        self.plan_look(now);
        slot
    }

    fn insert(&mut self, slot: Key, row: MailRow, stored: bool) {
        let bytes = row.sealed.len();
        self.all.add(bytes);
        self.senders.entry(row.author()).or_default().add(bytes);
        if let Some(ticket) = row.ticket {
            self.recipients.entry(row.to).or_default().add(bytes);
            self.tickets.insert((row.from, ticket), slot);
        }
        self.for_peer.entry(row.to).or_default().insert(slot);
        self.ends.insert((row.expires_at, slot));
        self.entries.insert(slot, Entry { row, stored });
    }

    fn remove(&mut self, slot: Key, journal: &mut Journal) -> Option<MailRow> {
        let Entry { row, .. } = self.entries.remove(&slot)?;
        let bytes = row.sealed.len();
        self.all.letters -= 1;
        self.all.bytes -= bytes;
        subtract(&mut self.senders, row.author(), bytes);
        if let Some(ticket) = row.ticket {
            subtract(&mut self.recipients, row.to, bytes);
            self.tickets.remove(&(row.from, ticket));
        }
        if let Some(slots) = self.for_peer.get_mut(&row.to) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.for_peer.remove(&row.to);
            }
        }
        self.ends.remove(&(row.expires_at, slot));
        self.answering.remove(&slot);
        if let Some(door) = self.doors.get_mut(&row.to) {
            door.taken(slot);
        }
        journal.add(Change::Remove(Shelf::Mail, slot), Haste::Later);
        Some(row)
    }
}

fn subtract(amounts: &mut HashMap<PeerId, Amount>, peer: PeerId, bytes: usize) {
    if let Some(amount) = amounts.get_mut(&peer) {
        amount.letters -= 1;
        amount.bytes -= bytes;
        if amount.letters == 0 {
            amounts.remove(&peer);
        }
    }
}

impl MailRow {
    fn is_confirmation(&self) -> bool {
        self.ticket.is_none()
    }

    /// Whose letters it is, or speaks for: who it counts for.
    fn author(&self) -> PeerId {
        if self.is_confirmation() { self.to } else { self.from }
    }
}

#[cfg(test)]
mod tests;
