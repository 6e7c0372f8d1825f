//! Mail for peers that are away: what this node leaves at mailboxes, what it collects there, and what it keeps as one.
//!
//! - `depositor`: messages of this node for peers that are away.
//! - `collector`: what mailboxes keep for this node.
//! - `keeper`: what this node keeps for others; `door`: how far each of them is with it.
//! - `pauses`: neighbours whose lanes broke.

mod collector;
mod depositor;
mod door;
mod keeper;
mod pauses;

use std::time::Duration;

use libp2p::PeerId;

use super::{
    Core, LinkId, Now, Output,
    frames::Way,
    routing::{self, Checked, DepositRow, Journal, MailRow, Outbox},
};
use crate::{
    config::MailboxConfig,
    event::RejectReason,
    frame::{Answer, Frame, Mail, NonceRange, Piece, Sealed, ToMailbox},
    message::{MessageId, Priority},
    peer::{ConnectionState, MailboxStats},
    rows::Key,
};

use collector::Collector;
use depositor::Depositor;
use keeper::Keeper;
use pauses::Pauses;

/// A letter without a time to live is not taken from a mailbox when it is older: no mailbox keeps anything for more than 30
/// days, and a day is for clocks that differ. Of a sender that was forgotten meanwhile it would be shown again.
const OLDEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// All that has to do with mailboxes.
pub(super) struct Mailboxes {
    pub(super) keeper: Keeper,
    depositor: Depositor,
    pub(super) collector: Collector,
    pauses: Pauses,
    /// This node's messages of which a recipient has said, by a mailbox, that it has them.
    confirmed: u64,
}

impl Mailboxes {
    pub(super) fn new(local: PeerId, config: &MailboxConfig, seed: u64) -> Self {
        Self {
            keeper: Keeper::new(local, config),
            depositor: Depositor::new(config),
            collector: Collector::new(seed),
            pauses: Pauses::default(),
            confirmed: 0,
        }
    }

    /// What an earlier run has kept for others.
    pub(super) fn restore(&mut self, now: Now, rows: Vec<(Key, MailRow)>, journal: &mut Journal) {
        self.keeper.restore(now, rows, journal);
    }

    pub(super) fn tick(&mut self, now: Now, journal: &mut Journal) {
        self.keeper.tick(now, journal);
        self.collector.tick(now);
        for peer in self.pauses.take_over(now.since_start) {
            self.may_be_lost(&peer);
        }
    }

    /// What was on its way to a neighbour may be lost: it is sent again.
    fn may_be_lost(&mut self, peer: &PeerId) {
        self.keeper.lost(peer);
        self.depositor.lost(peer);
        self.depositor.may_have_room();
        self.collector.lost(peer);
    }

    /// The node is about to stop: what can be left at mailboxes is left at once.
    pub(super) fn hurry(&mut self) {
        self.depositor.look_at_all();
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = [
            self.keeper.next_deadline(),
            self.depositor.next_deadline(),
            self.collector.next_deadline(),
            self.pauses.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    pub(super) fn stats(&self) -> MailboxStats {
        MailboxStats {
            deposited: self.depositor.deposited,
            deposits_refused: self.depositor.refused,
            collected: self.collector.collected,
            confirmed: self.confirmed,
            ..self.keeper.stats()
        }
    }

    /// Whether a peer is connected and keeps mail for others.
    pub(super) fn is_at(&self, peer: &PeerId) -> bool {
        self.depositor.knows(peer)
    }

    /// Whether everything that can be left at a mailbox has been.
    pub(super) fn is_idle(&self) -> bool {
        self.depositor.is_idle()
    }
}

/// Facts.
impl Core {
    /// Identify has told whether a peer keeps mail for others.
    pub(super) fn mailbox_identified(&mut self, peer: PeerId, mailbox: bool) {
        if mailbox && self.connections.state(&peer) == ConnectionState::Connected {
            self.mailboxes.depositor.found(peer);
            self.mailboxes.collector.found(peer);
        } else {
            self.mailboxes.depositor.gone(&peer);
            self.mailboxes.collector.gone(&peer);
        }
    }

    /// A lane to a peer broke: what may be lost is sent again after a pause, for the next lane may break as well.
    pub(super) fn mail_lane_broke(&mut self, now: Now, peer: PeerId) {
        self.mailboxes.pauses.broke(now.since_start, peer);
    }

    /// Another connection to a peer is the best one: all that is not answered goes by it, from the first on, or what comes
    /// next would overtake what is still on its way by the other.
    pub(super) fn mail_goes_another_way(&mut self, peer: &PeerId) {
        self.mailboxes.may_be_lost(peer);
    }

    /// Frames to a peer were written: there may be room for what has stalled.
    pub(super) fn mail_may_have_room(&mut self) {
        self.mailboxes.depositor.may_have_room();
    }

    /// A connection to a peer stands.
    pub(super) fn mail_can_go_straight(&mut self, peer: &PeerId) {
        self.mailboxes.depositor.back(peer);
    }

    /// A connection to a peer is gone.
    pub(super) fn mail_loses_link(&mut self, now: Now, peer: PeerId) {
        if self.connections.state(&peer) == ConnectionState::Connected {
            self.mailboxes.may_be_lost(&peer);
            return;
        }
        self.mailboxes.pauses.gone(&peer);
        self.mailboxes.keeper.gone(&peer);
        self.mailboxes.depositor.gone(&peer);
        self.mailboxes.collector.gone(&peer);
        self.mail_waits(now, peer);
    }

    /// There is no way to a peer; what waits for it may be left at a mailbox.
    pub(super) fn mail_waits(&mut self, now: Now, peer: PeerId) {
        if self.routing.outbox.has_mail(&peer) {
            self.mailboxes.depositor.away(now, peer);
        }
    }

    /// A neighbour said something as a mailbox, or to this one.
    pub(super) fn mail_came(&mut self, now: Now, neighbour: PeerId, link: LinkId, mail: Mail) {
        self.mailboxes.pauses.heard(&neighbour);
        match mail {
            Mail::Deposited(deposited) => {
                self.mailboxes.keeper.deposit(now, neighbour, deposited, &mut self.routing.journal);
            }
            Mail::Collect(collect) => {
                self.mailboxes.keeper.collect(now, neighbour, collect, &mut self.routing.journal);
            }
            Mail::Answers(answers) => self.deposits_answered(now, neighbour, link, answers),
            Mail::Piece(piece) => match self.mailboxes.collector.came(&neighbour, &piece) {
                Ok(true) => self.piece_came(now, neighbour, link, piece),
                Ok(false) => {}
                Err(rejection) => {
                    self.reject(now, neighbour, rejection, Way::Lane(link));
                }
            },
        }
    }

    /// Received messages have been stored: those that mailboxes brought need not be kept there any longer.
    pub(super) fn mail_stored(&mut self, id: &MessageId) {
        if self.mailboxes.collector.stored(id) {
            self.confirm_straight(id);
        }
    }

    fn deposits_answered(&mut self, now: Now, mailbox: PeerId, link: LinkId, answers: Vec<Answer>) {
        let answered = self.mailboxes.depositor.answered(now, mailbox, answers);
        for (recipient, nonce, kept_for) in answered.kept {
            let outbox = &mut self.routing.outbox;
            if let Some(kept) = outbox.kept(now, recipient, nonce, mailbox, kept_for, &mut self.out) {
                let left = kept.until.saturating_sub(now.since_start);
                let until = now.unix_millis.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
                self.routing.journal.deposited(nonce, &DepositRow { at: kept.at, until });
            }
        }
        self.out.extend(answered.events.into_iter().map(Output::Event));
        if let Some(rejection) = answered.rejection {
            self.reject(now, mailbox, rejection, Way::Lane(link));
        }
    }

    fn piece_came(&mut self, now: Now, mailbox: PeerId, link: LinkId, piece: Piece) {
        let Piece { run, slot, content, .. } = piece;
        match content {
            Sealed::Letter(frame) => self.letter_came(now, (mailbox, link), (run, slot), frame),
            Sealed::Arrival { by, nonces } => {
                let delivered = self.arrived_by_mail(now, by, &nonces);
                let journal = &self.routing.journal;
                // This turn's receipts are in the next round.
                let round = Some(journal.next_round()).filter(|_| journal.is_on() && delivered > 0);
                self.mailboxes.collector.settling(now, mailbox, (run, slot), round);
            }
            Sealed::Bad(rejection) => {
                // Neither the mailbox is to blame, which can't look inside, nor is it known who is.
                tracing::debug!(%mailbox, reason = rejection.reason.as_str(), detail = %rejection.detail, "bad mail");
                self.health.rejected(rejection.reason);
                self.mailboxes.collector.taken(&mailbox, run, slot, None);
            }
            Sealed::Closed(_) => {}
        }
    }

    /// Returns how many receipts that ended.
    fn arrived_by_mail(&mut self, now: Now, by: PeerId, nonces: &[NonceRange]) -> u64 {
        let delivered = self.routing.outbox.acknowledged(now, by, nonces, &mut self.out);
        self.mailboxes.confirmed += delivered;
        self.health.stats.messages_delivered += delivered;
        self.changed.insert(by);
        delivered
    }

    fn letter_came(&mut self, now: Now, from: (PeerId, LinkId), place: (u32, u64), frame: Frame) {
        let (id, (mailbox, link), (run, slot)) = (frame.id, from, place);
        let written = frame.created_at.filter(|_| frame.ttl.is_none()).unwrap_or(now.unix_millis);
        if Duration::from_millis(now.unix_millis.saturating_sub(written)) > OLDEST {
            tracing::debug!(%mailbox, sender = %id.sender, "a letter that is older than any mailbox keeps one");
            self.health.rejected(RejectReason::Expired);
            self.mailboxes.collector.taken(&mailbox, run, slot, None);
            return;
        }
        let arrival = routing::Arrival {
            local: self.settings.local,
            neighbour: mailbox,
            // As by the lane of its author, so that what comes by both is found.
            lane: Some(link),
            carried: false,
            groups: &self.groups,
            room: self.room(),
        };
        match self.routing.inbox.check(now, frame, arrival, &self.settings.config) {
            Ok(Checked::NoRoom) => {
                self.mailboxes.collector.no_room(now, &mailbox);
                self.checked(mailbox, Checked::NoRoom);
            }
            Ok(checked) => {
                self.checked(mailbox, checked);
                if self.routing.held.is_storing(&id) {
                    self.mailboxes.collector.storing(mailbox, place, id);
                } else {
                    self.mailboxes.collector.taken(&mailbox, run, slot, Some(id));
                    self.confirm_straight(&id);
                }
            }
            Err(rejection) => {
                // It came too late, say; whose fault that is nobody knows.
                self.health.rejected(rejection.reason);
                self.mailboxes.collector.taken(&mailbox, run, slot, None);
            }
        }
    }

    /// An author that is connected hears at once that its message is here.
    fn confirm_straight(&mut self, id: &MessageId) {
        if self.connections.state(&id.sender) == ConnectionState::Connected {
            self.routing.inbox.acknowledge(id.sender, id.nonce);
        }
    }
}

/// Wishes.
impl Core {
    /// Leaves at mailboxes what should be left there.
    pub(super) fn look_at_deposits(&mut self, now: Now) {
        let hasty = self.is_draining();
        if self.drained || !self.mailboxes.depositor.wants_look(now) {
            return;
        }
        let (outbox, pauses) = (&self.routing.outbox, &self.mailboxes.pauses);
        let room = |peer: &PeerId| room(outbox, pauses, peer, Priority::Medium);
        let (notes, events) = self.mailboxes.depositor.look(now, hasty, outbox, room);
        self.out.extend(events.into_iter().map(Output::Event));
        for (mailbox, note) in notes {
            self.write_to_mailbox(mailbox, note);
        }
    }

    /// What mailboxes and their users are to be told, all of this turn together.
    pub(super) fn write_mail(&mut self) {
        let (outbox, pauses) = (&self.routing.outbox, &self.mailboxes.pauses);
        let has_room = |peer: &PeerId| room(outbox, pauses, peer, Priority::High) > 0;
        for (mailbox, note) in self.mailboxes.collector.take_notes(has_room) {
            self.write_to_mailbox(mailbox, note);
        }
        let (outbox, pauses) = (&self.routing.outbox, &self.mailboxes.pauses);
        for (peer, content) in self.mailboxes.keeper.take_notes(|peer| room(outbox, pauses, peer, Priority::Medium)) {
            self.control(peer, content);
        }
    }

    fn write_to_mailbox(&mut self, peer: PeerId, note: ToMailbox) {
        if let Some(link) = self.routing.outbox.link_for(peer, note.priority()) {
            self.out.push_back(Output::Mail { peer, link, note });
        }
    }
}

/// How many frames of mail may be handed to a neighbour now. They stand back behind what it has not read.
fn room(outbox: &Outbox, pauses: &Pauses, peer: &PeerId, priority: Priority) -> usize {
    if pauses.rests(peer) { 0 } else { outbox.room(peer, priority) }
}

#[cfg(test)]
mod tests;
