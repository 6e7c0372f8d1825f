//! The task that writes the journal: one commit after the other, each with all that waits.

use std::{pin::pin, sync::atomic::Ordering, time::Duration};

use async_channel::Receiver;
use futures::future::select;
use futures_timer::Delay;
use web_time::Instant;

use super::{Report, Shared, State};
use crate::{
    platform::Disk,
    rows::{Changes, Haste},
};

/// How long changes wait for company, by their haste.
fn company(haste: Haste) -> Duration {
    match haste {
        Haste::Later => Duration::from_millis(25),
        // A neighbour's acknowledgement, which comes after a commit of its own, mostly needs less: then nothing is written.
        Haste::Soon => Duration::from_millis(5),
        Haste::Now => Duration::ZERO,
    }
}

/// The first pause after a commit failed; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause after a commit failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Writes until the journal is closed and nothing waits.
pub(super) async fn run(shared: &Shared, work: &Receiver<()>, mut disk: Disk) {
    let mut pause = FIRST_PAUSE;
    while let Some((changes, round)) = next(shared, work).await {
        match disk.commit(&changes).await {
            Ok(()) => {
                pause = FIRST_PAUSE;
                shared.stored(round);
            }
            Err(reason) => {
                tracing::error!(%reason, retry_in = ?pause, "messages can't be stored");
                shared.failed(changes, reason);
                if shared.closed.load(Ordering::Acquire) {
                    return;
                }
                rest(shared, work, pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Waits for something to write, and takes it all; `None` when the journal is closed and nothing is left.
async fn next(shared: &Shared, work: &Receiver<()>) -> Option<(Changes, u64)> {
    let mut waits_since = None;
    loop {
        let closed = shared.closed.load(Ordering::Acquire);
        let left = {
            let mut state = shared.lock();
            if state.waiting.is_empty() {
                // What came and went meanwhile is as good as written.
                shared.tell(&mut state);
                if closed {
                    return None;
                }
                None
            } else {
                let left = company(state.haste).saturating_sub(waits_since.get_or_insert_with(Instant::now).elapsed());
                if closed || left.is_zero() {
                    state.haste = Haste::Later;
                    return Some((std::mem::take(&mut state.waiting), state.round));
                }
                Some(left)
            }
        };
        match left {
            // The sender lives in `shared`.
            None => drop(work.recv().await),
            Some(left) => look_again(work, left).await,
        }
    }
}

/// Waits for more work or so long.
async fn look_again(work: &Receiver<()>, time: Duration) {
    select(pin!(work.recv()), Delay::new(time)).await;
}

/// Leaves a disk that refused alone for a while; closing ends the pause.
async fn rest(shared: &Shared, work: &Receiver<()>, pause: Duration) {
    let began = Instant::now();
    while let Some(left) = pause.checked_sub(began.elapsed()).filter(|left| !left.is_zero())
        && !shared.closed.load(Ordering::Acquire)
    {
        look_again(work, left).await;
    }
}

impl Shared {
    /// All rounds that have come are kept, if nothing waits.
    fn tell(&self, state: &mut State) {
        if state.report.stored < state.round {
            state.report.stored = state.round;
            // Full means that whoever asks is about to look anyway.
            let _ = self.report.try_send(());
        }
    }

    fn stored(&self, round: u64) {
        let mut state = self.lock();
        state.report = Report { stored: round, failing: None };
        let _ = self.report.try_send(());
    }

    /// The changes wait again, beneath what came meanwhile.
    fn failed(&self, changes: Changes, reason: String) {
        let mut state = self.lock();
        let later = std::mem::take(&mut state.waiting);
        state.waiting = changes.then(later);
        state.haste = Haste::Now;
        state.report.failing = Some(reason);
        let _ = self.report.try_send(());
    }
}
