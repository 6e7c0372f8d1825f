//! Transfers between the handles, the core and the swarm.

use std::{collections::HashMap, sync::Arc};

use futures::channel::oneshot;
use libp2p::swarm::ConnectionId;

use super::{Driver, News};
use crate::{
    core::{Input, Judgement, TransferInput, TransferOutput},
    error::TransferError,
    transfer::{Outcome, TransferDirection, TransferKey, TransferOffer, TransferState},
    transfers::{Ask, Event, Inbox, IncomingTransfer, Outbox, RefuseReason, StopReason, Verdict, Watch},
};

/// An offer whose stream waits for the verdict. They are bounded by the streams that a connection may have.
struct Attempt {
    connection: ConnectionId,
    verdict: oneshot::Sender<Verdict>,
    /// Taken when the app is asked.
    offer: Option<TransferOffer>,
}

/// The transfers that the core knows, as the handles and the tasks know them.
#[derive(Default)]
pub(super) struct Registry {
    outgoing: HashMap<TransferKey, Arc<Outbox>>,
    incoming: HashMap<TransferKey, Arc<Inbox>>,
    attempts: HashMap<u64, Attempt>,
    next_attempt: u64,
}

impl Registry {
    /// The node stops: whoever waits for the end of a transfer is told.
    pub(super) fn stop(self) {
        for outbox in self.outgoing.into_values() {
            outbox.watch.set(TransferState::Failed { error: TransferError::ShutDown });
            outbox.shell.stop();
        }
        for inbox in self.incoming.into_values() {
            inbox.watch.set(TransferState::Failed { error: TransferError::ShutDown });
            inbox.shell.stop();
        }
    }
}

impl Driver {
    pub(super) fn send_transfer(&mut self, outbox: Arc<Outbox>) {
        let TransferKey { peer, id, .. } = outbox.watch.key;
        let length = outbox.offer.length;
        self.transfers.outgoing.insert(outbox.watch.key, outbox);
        self.handle(Input::Transfer(TransferInput::Send { peer, id, length }));
    }

    /// What the handles of transfers want.
    pub(super) fn take_asks(&mut self) {
        for ask in self.published.desk.take() {
            self.handle(Input::Transfer(match ask {
                Ask::Cancel(key) => TransferInput::Cancel(key),
                Ask::Taken(key) => TransferInput::Taken(key),
                Ask::Declined(key, reason) => TransferInput::Declined(key, reason),
            }));
        }
    }

    pub(super) fn transfer_event(&mut self, event: Event) {
        let input = match event {
            Event::Offered { peer, connection, id, offer, verdict } => {
                self.transfers.next_attempt += 1;
                let (attempt, length) = (self.transfers.next_attempt, offer.length);
                self.transfers.attempts.insert(attempt, Attempt { connection, verdict, offer: Some(offer) });
                TransferInput::Offered { peer, id, attempt, length }
            }
            Event::Stopped { peer, id, by_sender, reason } => TransferInput::Stopped { peer, id, by_sender, reason },
            Event::Progress { key, attempt, transferred, moved } => {
                TransferInput::Progress { key, attempt, transferred, moved }
            }
            Event::Wants { key, attempt } => TransferInput::Wants { key, attempt },
            Event::Ended { key, attempt, outcome, moved } => TransferInput::Ended { key, attempt, outcome, moved },
            Event::Rejected { peer, rejection } => return self.handle(Input::Rejected { peer, rejection }),
        };
        self.handle(Input::Transfer(input));
    }

    pub(super) fn transfer_output(&mut self, output: TransferOutput) {
        match output {
            TransferOutput::Begin { key, attempt, link, most } => {
                let outbox = self.transfers.outgoing.get(&key).cloned();
                let begun = outbox.zip(self.connections.get(&link)).is_some_and(|(outbox, (_, connection))| {
                    self.swarm.behaviour_mut().transfers.send(*connection, attempt, outbox, most)
                });
                if !begun {
                    self.attempt_broke(key, attempt, "the connection is gone");
                }
            }
            TransferOutput::Grant { key, bytes } => {
                if let Some(outbox) = self.transfers.outgoing.get(&key) {
                    outbox.credit.grant(bytes);
                }
            }
            TransferOutput::Offer { key, attempt } => {
                let offer = self.transfers.attempts.get_mut(&attempt).and_then(|attempt| attempt.offer.take());
                let Some(offer) = offer else { return };
                let desk = self.published.desk.clone();
                let watch = Watch::new(key, offer.length, TransferState::Offered, desk);
                let inbox = Arc::new(Inbox::new(offer, watch));
                self.transfers.incoming.insert(key, inbox.clone());
                self.published.offers.push(IncomingTransfer::new(inbox));
            }
            TransferOutput::Judge { attempt, judgement } => self.judge_offer(attempt, judgement),
            TransferOutput::Show { key, state } => self.show_transfer(key, state),
            TransferOutput::Tell { key, reason } => {
                let by_sender = key.direction == TransferDirection::Outgoing;
                self.swarm.behaviour_mut().transfers.tell(key.peer, key.id, by_sender, reason);
            }
        }
    }

    fn judge_offer(&mut self, attempt: u64, judgement: Judgement) {
        let Some(Attempt { connection, verdict, .. }) = self.transfers.attempts.remove(&attempt) else { return };
        let verdict_of = match judgement {
            Judgement::Join(key) => {
                let Some(inbox) = self.transfers.incoming.get(&key).cloned() else { return };
                let connected = self.swarm.behaviour_mut().transfers.joined(connection, attempt, key);
                if !connected || verdict.send(Verdict::Join { attempt, inbox }).is_err() {
                    self.attempt_broke(key, attempt, "the stream ended before the offer was answered");
                }
                return;
            }
            // Its stream ends without a word.
            Judgement::Superseded => return,
            Judgement::Declined(reason) => Verdict::Refuse(RefuseReason::Declined, reason),
            Judgement::Unanswered => Verdict::Refuse(RefuseReason::Unanswered, String::new()),
            Judgement::Busy => Verdict::Refuse(RefuseReason::Busy, String::new()),
            Judgement::TooLong(limit) => Verdict::Refuse(RefuseReason::TooLong, limit.to_string()),
            Judgement::Done(hash) => Verdict::Done(hash),
            Judgement::Over(reason) => Verdict::Stop(StopReason::Cancelled, reason),
        };
        // A stream that has ended needs no verdict.
        let _ = verdict.send(verdict_of);
    }

    fn show_transfer(&mut self, key: TransferKey, state: TransferState) {
        let over = state.is_final();
        let watch = match key.direction {
            TransferDirection::Outgoing => self.transfers.outgoing.get(&key).map(|outbox| outbox.watch.clone()),
            TransferDirection::Incoming => self.transfers.incoming.get(&key).map(|inbox| inbox.watch.clone()),
        };
        if let Some(watch) = watch {
            self.news.push_back(News::Transfer(watch, state));
        }
        if over && let Some(outbox) = self.transfers.outgoing.remove(&key) {
            outbox.shell.stop();
        }
        if over && let Some(inbox) = self.transfers.incoming.remove(&key) {
            inbox.shell.stop();
        }
    }

    fn attempt_broke(&mut self, key: TransferKey, attempt: u64, reason: &str) {
        let outcome = Outcome::Broken(reason.to_owned());
        self.handle(Input::Transfer(TransferInput::Ended { key, attempt, outcome, moved: 0 }));
    }
}
