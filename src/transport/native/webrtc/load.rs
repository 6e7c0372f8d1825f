//! How much of what was written is still on its way, and how much of it a writer has to wait for.
//!
//! str0m counts bytes until the other side has them, a browser until they have left. If writers waited for the first, a
//! stream would stand still for a while in every round trip. So what may be under way, [`WINDOW`] for all streams of a
//! connection together, holds nobody up.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::transport::webrtc::LOW_WATER;

/// What may be under way on a connection without holding anybody up, bytes. More would help on long lines, but sctp-proto
/// (0.10) looks at everything under way with each packet: with 1 MiB, 100 MB cost 2.5 times the processor time.
const WINDOW: usize = 64 * 1024;

/// Bytes of one channel that have not arrived at the other side.
pub(super) struct Load {
    /// Among the wishes.
    waiting: AtomicUsize,
    /// In str0m, sent or not, without an acknowledgement.
    inside: AtomicUsize,
    /// Of all channels of the connection.
    connection: Arc<AtomicUsize>,
}

impl Load {
    pub(super) fn new(connection: Arc<AtomicUsize>) -> Self {
        Self { waiting: AtomicUsize::new(0), inside: AtomicUsize::new(0), connection }
    }

    /// Bytes were written.
    pub(super) fn written(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::AcqRel);
        self.connection.fetch_add(bytes, Ordering::AcqRel);
    }

    /// str0m has taken them.
    pub(super) fn taken(&self, bytes: usize) {
        self.inside.fetch_add(bytes, Ordering::AcqRel);
        self.waiting.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// So many are left in str0m.
    pub(super) fn left(&self, inside: usize) {
        let before = self.inside.swap(inside, Ordering::AcqRel);
        // It may be more, by what opens a channel.
        self.connection.fetch_add(inside, Ordering::AcqRel);
        self.connection.fetch_sub(before, Ordering::AcqRel);
    }

    /// What a writer has to wait for. Never nothing while anything is under way, so that who closes can wait for all of it.
    pub(super) fn buffered(&self) -> usize {
        let total = self.waiting.load(Ordering::Acquire) + self.inside.load(Ordering::Acquire);
        let others = self.connection.load(Ordering::Acquire).saturating_sub(total);
        total.saturating_sub(WINDOW.saturating_sub(others)).max(total.min(LOW_WATER))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let rest = *self.waiting.get_mut() + *self.inside.get_mut();
        self.connection.fetch_sub(rest, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stream_may_fill_the_window_and_many_share_it() {
        let connection = Arc::default();
        let one = Load::new(Arc::clone(&connection));
        one.written(10);
        assert_eq!(one.buffered(), 10);
        one.written(WINDOW);
        assert_eq!(one.buffered(), LOW_WATER, "under way, which nobody has to wait for");
        one.written(100_000);
        assert_eq!(one.buffered(), 100_010);

        let other = Load::new(Arc::clone(&connection));
        other.written(200_000);
        assert_eq!(other.buffered(), 200_000, "the first has left no room");
        one.taken(WINDOW + 100_010);
        one.left(0);
        assert_eq!((one.buffered(), other.buffered()), (0, 200_000 - WINDOW));
        drop((one, other));
        assert_eq!(connection.load(Ordering::Relaxed), 0);
    }
}
