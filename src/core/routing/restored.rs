//! What an earlier run has left, read.

use std::collections::HashMap;

use libp2p::PeerId;

use super::records::{self, DepositRow, MailRow, Unreadable, WindowRow};
use crate::{
    frame::Letter,
    message::ReceivedMessage,
    rows::{Kept, Key, Mark},
};

/// What an earlier run has left.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// Accepted messages that have not ended, in the order of their nonces.
    pub(crate) outbox: Vec<(PeerId, Letter)>,
    /// Rows of received messages, by their first serial number.
    pub(super) inbox: Vec<(u64, Vec<ReceivedMessage>)>,
    pub(super) windows: Vec<(Key, WindowRow)>,
    pub(super) confirmed: u64,
    /// What was kept for others.
    pub(crate) mail: Vec<(Key, MailRow)>,
    /// Where messages of the outbox are kept, by nonce.
    pub(crate) deposits: HashMap<u64, DepositRow>,
}

impl Restored {
    /// Reads the rows.
    ///
    /// # Errors
    /// When one of them can't be read; then none is used.
    pub(crate) fn read(kept: &Kept) -> Result<Self, Unreadable> {
        let mut restored = Self::default();
        for (nonce, row) in &kept.outbox {
            let (peer, letter) = records::read_letter(row).map_err(|error| format!("outbox, {nonce}: {error}"))?;
            restored.outbox.push((peer, letter));
        }
        for (first, row) in &kept.inbox {
            let messages = records::read_received(row).map_err(|error| format!("inbox, {first}: {error}"))?;
            restored.inbox.push((*first, messages));
        }
        for (slot, row) in &kept.seen {
            let window = records::read_window(row).map_err(|error| format!("seen, {slot}: {error}"))?;
            restored.windows.push((*slot, window));
        }
        for (slot, row) in &kept.mail {
            let mail = MailRow::read(row).map_err(|error| format!("mail, {slot}: {error}"))?;
            restored.mail.push((*slot, mail));
        }
        for (nonce, row) in &kept.deposits {
            let deposit = DepositRow::read(row).map_err(|error| format!("deposits, {nonce}: {error}"))?;
            restored.deposits.insert(*nonce, deposit);
        }
        for (mark, row) in &kept.marks {
            let number = records::read_mark(row).map_err(|error| format!("marks, {mark}: {error}"))?;
            if *mark == Mark::Confirmed as u64 {
                restored.confirmed = number;
            }
        }
        Ok(restored)
    }
}
