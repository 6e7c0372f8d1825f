//! How many of the browser's objects are held. Chromium stops making peer connections at some 500, so each is accounted
//! for from its making to its closing.

use std::cell::Cell;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `RTCPeerConnection`s that are not closed.
    PeerConnection,
    /// `RTCDataChannel`s that are not closed.
    DataChannel,
    /// `WebSocket`s that are not closed.
    WebSocket,
}

thread_local! {
    static COUNTS: [Cell<usize>; 3] = const { [Cell::new(0), Cell::new(0), Cell::new(0)] };
}

/// One object that is held.
#[derive(Debug)]
pub(crate) struct Live {
    kind: Kind,
}

impl Live {
    pub(super) fn new(kind: Kind) -> Self {
        COUNTS.with(|counts| counts[kind as usize].update(|count| count + 1));
        Self { kind }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        COUNTS.with(|counts| counts[self.kind as usize].update(|count| count - 1));
    }
}

/// How many of a kind are held by this page.
#[allow(dead_code, reason = "asked by tests")]
pub(crate) fn count(kind: Kind) -> usize {
    COUNTS.with(|counts| counts[kind as usize].get())
}
