//! What is counted of mail for peers that are away.

use std::collections::BTreeMap;

use serde::Serialize;

/// Mail for peers that are away: what this node keeps as a mailbox, and how it uses others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct MailboxStats {
    /// As a mailbox: letters that are kept now, and confirmations for their authors.
    pub letters: usize,
    /// As a mailbox: the bytes that these hold.
    pub bytes: usize,
    /// As a mailbox: letters that were accepted.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub accepted: u64,
    /// As a mailbox: letters that their recipients have taken.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub handed_over: u64,
    /// As a mailbox: letters whose time was over before anybody came for them.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub expired: u64,
    /// As a mailbox: letters that were not accepted, by the name of the reason.
    #[cfg_attr(feature = "typescript", ts(type = "Record<string, number>"))]
    pub refused: BTreeMap<&'static str, u64>,
    /// As a sender: copies of messages that mailboxes have accepted.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub deposited: u64,
    /// As a sender: copies of messages that mailboxes have refused, or not answered.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub deposits_refused: u64,
    /// As a sender: messages whose recipients have said by a mailbox that they have them.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub confirmed: u64,
    /// As a recipient: letters taken from mailboxes, copies included.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub collected: u64,
}
