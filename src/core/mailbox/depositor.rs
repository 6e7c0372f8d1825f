//! Messages of this node for peers that are away: which of them are left at which mailbox.
//!
//! The outbox keeps them all the same: what a mailbox has accepted is a copy, and the way that brings a message first
//! counts. A mailbox gets the messages of a lane in their order, from the first that has not ended.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use libp2p::PeerId;

use super::super::{Now, input::OutgoingMessage, routing::Outbox};
use crate::{
    config::MailboxConfig,
    crypto::can_seal_to,
    event::{NetworkEvent, RejectReason},
    frame::{Addressing, Answer, Deposit, Rejection, ToMailbox},
};

/// Deposits that a mailbox has not answered, and their bytes: a lane and the worker pool have other things to do.
const UNANSWERED: usize = 32;
const UNANSWERED_BYTES: usize = 512 * 1024;

/// A mailbox that doesn't answer for so long has lost the deposit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A mailbox that has refused a recipient's letters gets none for it for so long.
const PAUSE: Duration = Duration::from_secs(60);

/// A peer without a way.
struct Away {
    since: Duration,
    at: BTreeMap<PeerId, Progress>,
}

/// How far a mailbox is with the messages to one peer.
#[derive(Default)]
struct Progress {
    /// By lane, the nonce up to which everything was left there or is not for it.
    after: [Option<u64>; 3],
    paused_until: Option<Duration>,
}

/// A deposit that is not answered.
struct Unanswered {
    recipient: PeerId,
    lane: usize,
    nonce: u64,
    bytes: usize,
    keep_for: Duration,
    at: Duration,
}

/// A connected node that keeps mail for others.
#[derive(Default)]
struct Mailbox {
    unanswered: BTreeMap<u64, Unanswered>,
    bytes: usize,
}

pub(crate) struct Depositor {
    config: MailboxConfig,
    mailboxes: BTreeMap<PeerId, Mailbox>,
    /// Bounded by the outbox: whom nothing waits for is not among them.
    away: BTreeMap<PeerId, Away>,
    next_number: u64,
    /// Recipients to look at.
    due: BTreeSet<PeerId>,
    /// Those for whose deposits there was no room on the way to a mailbox.
    stalled: BTreeSet<PeerId>,
    look_at: Option<Duration>,
    pub(crate) deposited: u64,
    pub(crate) refused: u64,
}

/// What follows from a mailbox's answers.
#[derive(Default)]
pub(crate) struct Answered {
    /// Recipient, nonce, for how long.
    pub(crate) kept: Vec<(PeerId, u64, Duration)>,
    pub(crate) events: Vec<NetworkEvent>,
    pub(crate) rejection: Option<Rejection>,
}

/// Facts.
impl Depositor {
    pub(crate) fn new(config: &MailboxConfig) -> Self {
        Self {
            config: config.clone(),
            mailboxes: BTreeMap::new(),
            away: BTreeMap::new(),
            next_number: 1,
            due: BTreeSet::new(),
            stalled: BTreeSet::new(),
            look_at: None,
            deposited: 0,
            refused: 0,
        }
    }

    /// Something waits for a peer, and there is no way to it.
    pub(crate) fn away(&mut self, now: Now, peer: PeerId) {
        if self.config.deposit {
            self.away.entry(peer).or_insert_with(|| Away { since: now.since_start, at: BTreeMap::new() });
            self.due.insert(peer);
        }
    }

    /// There is a way to a peer.
    pub(crate) fn back(&mut self, peer: &PeerId) {
        self.away.remove(peer);
    }

    /// A connected node keeps mail for others.
    pub(crate) fn found(&mut self, mailbox: PeerId) {
        if let Entry::Vacant(place) = self.mailboxes.entry(mailbox) {
            place.insert(Mailbox::default());
            self.look_at_all();
        }
    }

    /// A node is not connected any more, or keeps no mail any longer.
    pub(crate) fn gone(&mut self, mailbox: &PeerId) {
        self.lost(mailbox);
        if self.mailboxes.remove(mailbox).is_some() {
            self.look_at_all();
        }
    }

    pub(crate) fn knows(&self, mailbox: &PeerId) -> bool {
        self.mailboxes.contains_key(mailbox)
    }

    /// What was on its way to a mailbox may be lost: it is left there again, which costs nothing if it wasn't.
    pub(crate) fn lost(&mut self, mailbox: &PeerId) {
        let Some(Mailbox { unanswered, bytes }) = self.mailboxes.get_mut(mailbox) else { return };
        *bytes = 0;
        for (_, lost) in std::mem::take(unanswered) {
            self.take_back(mailbox, &lost);
        }
    }

    /// Whether everything that can be left at a mailbox has been, and was answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.due.is_empty()
            && self.stalled.is_empty()
            && self.mailboxes.values().all(|mailbox| mailbox.unanswered.is_empty())
    }

    /// A mailbox has answered.
    pub(crate) fn answered(&mut self, now: Now, mailbox: PeerId, answers: Vec<Answer>) -> Answered {
        let mut answered = Answered::default();
        for Answer { number, kept_for } in answers {
            let known = self.mailboxes.get_mut(&mailbox).and_then(|mailbox| {
                let known = mailbox.unanswered.remove(&number)?;
                mailbox.bytes -= known.bytes;
                Some(known)
            });
            let Some(known) = known else {
                if number == 0 || number >= self.next_number {
                    let detail = format!("an answer to deposit {number}, which there never was");
                    answered.rejection = Some(Rejection::new(RejectReason::Unsolicited, detail));
                }
                continue;
            };
            match kept_for {
                Ok(kept_for) => {
                    self.deposited += 1;
                    answered.kept.push((known.recipient, known.nonce, kept_for.min(known.keep_for)));
                }
                Err(reason) => {
                    self.refused += 1;
                    answered.events.extend(self.pause(now, mailbox, &known, reason));
                }
            }
            self.due.insert(known.recipient);
        }
        answered
    }

    /// There may be room again on the way to a mailbox.
    pub(crate) fn may_have_room(&mut self) {
        self.due.append(&mut self.stalled);
    }

    /// Every recipient is looked at.
    pub(crate) fn look_at_all(&mut self) {
        self.due.extend(self.away.keys());
    }

    /// A mailbox gets nothing more for a recipient for a while; the event tells so, once.
    fn pause(&mut self, now: Now, mailbox: PeerId, refused: &Unanswered, reason: String) -> Option<NetworkEvent> {
        self.take_back(&mailbox, refused);
        let progress = self.away.get_mut(&refused.recipient)?.at.get_mut(&mailbox)?;
        if progress.paused_until.is_some_and(|until| until > now.since_start) {
            return None;
        }
        progress.paused_until = Some(now.since_start + PAUSE);
        Some(NetworkEvent::MailboxRefused { mailbox, recipient: refused.recipient, reason })
    }

    fn take_back(&mut self, mailbox: &PeerId, lost: &Unanswered) {
        let Some(away) = self.away.get_mut(&lost.recipient) else { return };
        self.due.insert(lost.recipient);
        if let Some(progress) = away.at.get_mut(mailbox) {
            let after = &mut progress.after[lost.lane];
            // `None` is from the first on: nothing that is taken back moves it up again.
            *after = after.and_then(|after| lost.nonce.checked_sub(1).map(|before| before.min(after)));
        }
    }
}

/// Wishes.
impl Depositor {
    /// Whether [`look`](Self::look) would do something.
    pub(crate) fn wants_look(&self, now: Now) -> bool {
        !self.due.is_empty() || self.look_at.is_some_and(|at| at <= now.since_start)
    }

    /// Leaves what should be left: notes to mailboxes, to each as many as there is `room` for. `hasty` when the node is
    /// about to stop.
    pub(crate) fn look(
        &mut self,
        now: Now,
        hasty: bool,
        outbox: &Outbox,
        room: impl Fn(&PeerId) -> usize,
    ) -> (Vec<(PeerId, ToMailbox)>, Vec<NetworkEvent>) {
        let mut events = Vec::new();
        if self.look_at.is_some_and(|at| at <= now.since_start) {
            self.time_out(now, &mut events);
            self.look_at_all();
        }
        let mut rooms = self.mailboxes.keys().map(|mailbox| (*mailbox, room(mailbox))).collect::<BTreeMap<_, _>>();
        let mut notes = Vec::new();
        for recipient in std::mem::take(&mut self.due) {
            if !outbox.has_mail(&recipient) {
                self.away.remove(&recipient);
                continue;
            }
            let Some(away) = self.away.get(&recipient) else { continue };
            let waited = now.since_start.saturating_sub(away.since);
            if (hasty || waited >= self.config.patience) && !self.mailboxes.is_empty() && can_seal_to(&recipient) {
                for mailbox in self.nearest(now, &recipient) {
                    let room = rooms.entry(mailbox).or_default();
                    let has_stalled = self.leave_at(now, mailbox, recipient, outbox, room, &mut notes);
                    if has_stalled {
                        self.stalled.insert(recipient);
                    }
                }
            }
        }
        self.plan_look(now);
        (notes, events)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.look_at
    }

    /// The connected mailboxes that are nearest to a recipient, but those that have just refused.
    fn nearest(&self, now: Now, recipient: &PeerId) -> Vec<PeerId> {
        let target = hash(recipient);
        let pauses = |mailbox: &PeerId| {
            let progress = self.away.get(recipient).and_then(|away| away.at.get(mailbox));
            progress.and_then(|progress| progress.paused_until).is_some_and(|until| until > now.since_start)
        };
        let candidates = self.mailboxes.keys().filter(|mailbox| *mailbox != recipient && !pauses(mailbox));
        let mut candidates =
            candidates.map(|mailbox| (distance(&target, &hash(mailbox)), *mailbox)).collect::<Vec<_>>();
        candidates.sort_unstable();
        candidates.into_iter().take(self.config.copies).map(|(_, mailbox)| mailbox).collect()
    }

    /// True when more has to be left as soon as there is room on the way.
    fn leave_at(
        &mut self,
        now: Now,
        mailbox: PeerId,
        recipient: PeerId,
        outbox: &Outbox,
        room: &mut usize,
        notes: &mut Vec<(PeerId, ToMailbox)>,
    ) -> bool {
        let (Some(away), Some(place)) = (self.away.get_mut(&recipient), self.mailboxes.get_mut(&mailbox)) else {
            return false;
        };
        let progress = away.at.entry(mailbox).or_default();
        for lane in 0..=self.config.least_priority.lane() {
            for message in outbox.waiting_after(&recipient, lane, progress.after[lane]) {
                if place.unanswered.len() >= UNANSWERED || place.bytes >= UNANSWERED_BYTES {
                    return false;
                }
                let nonce = message.letter.nonce;
                if let Some(keep_for) = keep_for(&self.config, now, &mailbox, message) {
                    if *room == 0 {
                        return true;
                    }
                    *room -= 1;
                    let (number, bytes) = (self.next_number, message.letter.payload.len());
                    self.next_number += 1;
                    let at = now.since_start;
                    place.bytes += bytes;
                    place.unanswered.insert(number, Unanswered { recipient, lane, nonce, bytes, keep_for, at });
                    let letter = message.letter.clone();
                    let deposit = Deposit { number, recipient, keep_for, letter };
                    notes.push((mailbox, ToMailbox::Deposit(Box::new(deposit))));
                }
                progress.after[lane] = Some(nonce);
            }
        }
        false
    }

    fn time_out(&mut self, now: Now, events: &mut Vec<NetworkEvent>) {
        let mut late = Vec::new();
        for (peer, mailbox) in &mut self.mailboxes {
            // In the order of their numbers, and so of their times.
            while let Some(first) = mailbox.unanswered.first_entry()
                && first.get().at + ANSWER_TIMEOUT <= now.since_start
            {
                let one = first.remove();
                mailbox.bytes -= one.bytes;
                late.push((*peer, one));
            }
        }
        for (mailbox, one) in late {
            self.refused += 1;
            events.extend(self.pause(now, mailbox, &one, "no_answer".to_owned()));
        }
    }

    fn plan_look(&mut self, now: Now) {
        let patience = self.away.values().map(|away| away.since + self.config.patience);
        let pauses = self.away.values().flat_map(|away| away.at.values().filter_map(|progress| progress.paused_until));
        let answers = self.mailboxes.values().filter_map(|mailbox| mailbox.unanswered.values().next());
        let answers = answers.map(|first| first.at + ANSWER_TIMEOUT);
        let ahead = patience.chain(pauses).chain(answers).filter(|at| *at > now.since_start);
        self.look_at = if self.mailboxes.is_empty() { None } else { ahead.min() };
    }
}

/// For how long a mailbox should keep a message; `None` when it is not for that one.
fn keep_for(config: &MailboxConfig, now: Now, mailbox: &PeerId, message: &OutgoingMessage) -> Option<Duration> {
    let letter = &message.letter;
    let kept = message.kept.as_deref();
    let has_enough = kept.is_some_and(|kept| kept.at.len() >= config.copies || kept.at.contains(mailbox));
    if has_enough || letter.payload.len() > Deposit::MAX_PAYLOAD || !matches!(letter.addressing, Addressing::Peer(_)) {
        return None;
    }
    match letter.ttl {
        Some(ttl) if ttl <= config.least_ttl => None,
        Some(ttl) => {
            let lived = now.since_start.saturating_sub(message.accepted_at) + message.slept;
            ttl.checked_sub(lived).filter(|left| !left.is_zero())
        }
        // Whatever another mailbox has promised: it may promise next to nothing, to be the only one.
        None => Some(config.keep_for),
    }
}

fn hash(peer: &PeerId) -> [u8; 32] {
    *blake3::hash(&peer.to_bytes()).as_bytes()
}

/// As Kademlia measures: by exclusive or.
fn distance(one: &[u8; 32], two: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| one[at] ^ two[at])
}
