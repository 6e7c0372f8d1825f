//! The journal of messages: what is accepted, received and confirmed outlives the process.
//!
//! Changes come in rounds; the changes of one round are kept together or not at all. While one commit is written, what
//! comes meanwhile waits and goes into the next one, so that a commit carries as much as the load brings and nobody
//! waits for more than two. A row that is put and taken away while it waits is never written.
//!
//! Invariant: rounds become durable in their order, and [`Report::stored`] never names one of which any change could
//! still be lost. When a commit fails, its changes go on waiting, beneath those that came later, and are tried again
//! with growing pauses; nothing is given up but by [`Journal::close`].
//!
//! What waits is bounded by what its writers keep: a row each for the messages of the outbox and the inbox, and for the
//! windows of what was seen. They let no more in while [`Report::failing`] says that the disk refuses.

mod writer;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_channel::{Receiver, Sender};

use crate::{
    error::{StartError, StoreError},
    platform,
    rows::{Change, Changes, Haste, Kept},
};

/// How far the journal is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// The last round of which all is kept, and of all before it.
    pub(crate) stored: u64,
    /// Why the last attempt to write failed; `None` while all is well.
    pub(crate) failing: Option<String>,
}

/// The handle on the journal. What writes it runs beside the network, and ends when this is closed or dropped.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    reports: Receiver<()>,
    finished: Receiver<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the writer. One is enough: it takes all that waits.
    work: Sender<()>,
    /// Wakes whoever asks for the next report.
    report: Sender<()>,
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting: Changes,
    /// The last round that waits.
    round: u64,
    /// Of the most hasty round that waits.
    haste: Haste,
    report: Report,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// Opens the journal at a place, creating it when it is missing. Returns it with what an earlier run has left.
    /// `strict` asks the platform to have each commit on the disk itself before it counts, where the platform knows a
    /// difference.
    ///
    /// # Errors
    /// When the place can't be opened or read, is damaged, or another process has it.
    pub(crate) async fn open(place: &str, strict: bool) -> Result<(Self, Kept), StartError> {
        let mut disk = platform::Disk::open(place, strict).await?;
        let kept = disk.load().await?;
        Ok((Self::over(disk)?, kept))
    }

    /// A journal over an open disk.
    pub(crate) fn over(disk: platform::Disk) -> Result<Self, StartError> {
        let (work, worked) = async_channel::bounded(1);
        let (report, reports) = async_channel::bounded(1);
        let (finish, finished) = async_channel::bounded(1);
        let shared = Arc::new(Shared { state: Mutex::default(), work, report, closed: AtomicBool::new(false) });
        let writer = shared.clone();
        platform::start_writer(move || async move {
            writer::run(&writer, &worked, disk).await;
            // The disk is closed by now. Whoever closed the journal may be gone.
            let _ = finish.try_send(());
        })?;
        Ok(Self { shared, reports, finished })
    }

    /// Hands over the changes of a round; rounds rise. What is in no haste waits a
    /// moment for company.
    pub(crate) fn write(&self, round: u64, changes: Vec<Change>, haste: Haste) {
        let mut state = self.shared.lock();
        state.waiting.extend(changes);
        state.round = round;
        state.haste = state.haste.max(haste);
        drop(state);
        // Full means that the writer is about to look anyway.
        let _ = self.shared.work.try_send(());
    }

    /// Waits for news, and tells how far the journal is. News that come faster than they are asked for become one.
    pub(crate) async fn next_report(&self) -> Report {
        if self.reports.recv().await.is_err() {
            // The sender lives in `shared`, which this handle holds.
            std::future::pending::<()>().await;
        }
        self.report()
    }

    /// How far the journal is.
    pub(crate) fn report(&self) -> Report {
        self.shared.lock().report.clone()
    }

    /// Writes what waits and closes the place, so that it can be opened anew. What can't be written at the first attempt
    /// is given up.
    pub(crate) async fn close(self) {
        self.end();
        // An error means that the writer is gone already.
        let _ = self.finished.recv().await;
    }

    fn end(&self) {
        self.shared.closed.store(true, Ordering::Release);
        let _ = self.shared.work.try_send(());
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end();
    }
}

/// The error for a row that this version can't read. Nothing is deleted.
pub(crate) fn unreadable(place: &str, reason: impl Into<String>) -> StoreError {
    StoreError::Damaged { item: platform::Disk::describe(place), reason: reason.into() }
}
