//! What an attempt to send and one to receive have in common: how they report, and how they end.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use async_channel::Sender as Reports;
use futures::{AsyncRead, AsyncWrite};

use super::{handler::Report, pipe::Pipe};
use crate::{
    error::TransferError,
    frame::Rejection,
    transfer::{Outcome, TransferKey},
};

/// One attempt, towards the driver and at its end.
pub(super) struct Attempt {
    pub(super) key: TransferKey,
    number: u64,
    reports: Reports<Report>,
    /// Bytes of the payload that were moved since the last report.
    pub(super) moved: u64,
    /// How far the transfer was at the last report, if there was one.
    reported: Option<u64>,
    /// The last word is being said; until when.
    ending: Option<(Outcome, Duration)>,
}

impl Attempt {
    pub(super) fn new(key: TransferKey, number: u64, reports: Reports<Report>) -> Self {
        Self { key, number, reports, moved: 0, reported: None, ending: None }
    }

    /// Whether the driver has been told that it runs.
    pub(super) fn is_reported(&self) -> bool {
        self.reported.is_some()
    }

    /// Tells the driver where it stands. When that is busy, it is told again in a moment.
    pub(super) fn report(&mut self, transferred: u64) {
        let report = Report::Progress { key: self.key, attempt: self.number, transferred, moved: self.moved };
        if self.reports.try_send(report).is_ok() {
            self.moved = 0;
            self.reported = Some(transferred);
        }
    }

    /// As [`report`](Self::report), when there is anything new.
    pub(super) fn report_news(&mut self, transferred: u64) {
        if self.moved > 0 || self.reported != Some(transferred) {
            self.report(transferred);
        }
    }

    /// Asks for more bytes of the budget; false when the driver is too busy to hear it.
    pub(super) fn ask(&self) -> bool {
        self.reports.try_send(Report::Wants { key: self.key, attempt: self.number }).is_ok()
    }

    /// Tells the driver of an offence. When the reports are many, this one is the least of the worries.
    pub(super) fn offence(&self, rejection: Rejection) {
        let _ = self.reports.try_send(Report::Rejected(rejection));
    }

    /// What the peer said makes no sense: an offence, and the end of the transfer.
    pub(super) fn reject(&self, rejection: Rejection) -> Outcome {
        let reason = rejection.detail.clone();
        self.offence(rejection);
        Outcome::Failed(TransferError::PeerFailed { peer: self.key.peer, reason })
    }

    /// It ends so. What waits in the pipe may be said until then.
    pub(super) fn end(&mut self, outcome: Outcome, until: Duration) {
        self.ending = Some((outcome, until));
    }

    /// Whether it is ending.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Says the last word; ready with how the attempt ended when that is done, or can't be done in time. `None` while
    /// it isn't ending.
    pub(super) fn poll_ending<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        pipe: &mut Pipe<S>,
        context: &mut Context<'_>,
    ) -> Option<Poll<Outcome>> {
        let (outcome, until) = self.ending.as_ref()?;
        let late = *until <= pipe.now();
        Some(match pipe.poll_finish(context).is_ready() || late {
            true => Poll::Ready(outcome.clone()),
            false => Poll::Pending,
        })
    }
}
