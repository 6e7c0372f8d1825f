//! Mail for peers that are away: leaving it at mailboxes, and being one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::durations;
use crate::message::Priority;

/// Direct messages to peers that are away: where they wait. A node that is willing keeps them, sealed, until the
/// recipient comes; what is kept for this node it collects from every such node that it is connected to.
///
/// Only messages of at most 64 KiB are left at mailboxes; longer ones wait for the peer itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename_all = "camelCase"))]
pub struct MailboxConfig {
    /// Keep mail for others, and tell them so. Native and browser, though only who is mostly there is of use. Default off.
    pub serve: bool,
    /// Leave messages for peers that are away with willing nodes that are connected. Default on.
    pub deposit: bool,
    /// At how many mailboxes a message is left; those are taken that are nearest to the recipient by the distance of
    /// their hashed ids, so that who sends and who collects meet. 1 to 8. Default 2.
    pub copies: usize,
    /// For how long there has to be no way to the recipient before messages are left elsewhere. 0 to 1 h. Default 2 s.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub patience: Duration,
    /// For how long a message without a time to live is left there; afterwards it has failed. 1 min to 7 days. Default
    /// 24 h.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub keep_for: Duration,
    /// Messages that live no longer than this are not left anywhere. 1 s to 7 days. Default 1 min.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub least_ttl: Duration,
    /// Less urgent messages are not left anywhere, so that what is done in bulk doesn't use up the room for what people
    /// wait for. Default `medium`.
    pub least_priority: Priority,
    /// As a mailbox: for how long anything is kept at the longest. 1 min to 30 days. Default 7 days.
    #[serde(with = "durations")]
    #[cfg_attr(feature = "typescript", ts(type = "Duration"))]
    pub max_ttl: Duration,
    /// As a mailbox: how many letters are kept in all. 1 to 1000000. Default 16384.
    pub max_letters: usize,
    /// As a mailbox: how many bytes these may hold; they are in memory, and where messages are kept on the disk too. 65536
    /// to 64 GiB. Default 64 MiB.
    pub max_bytes: usize,
    /// As a mailbox: how many letters are kept of one sender. 1 to 1000000. Default 512.
    pub sender_letters: usize,
    /// As a mailbox: how many bytes these may hold. 1024 to 64 GiB. Default 4 MiB.
    pub sender_bytes: usize,
    /// As a mailbox: how many letters are kept for one recipient. 1 to 1000000. Default 2048.
    pub recipient_letters: usize,
    /// As a mailbox: how many bytes these may hold. 1024 to 64 GiB. Default 16 MiB.
    pub recipient_bytes: usize,
}

impl Default for MailboxConfig {
    fn default() -> Self {
        Self {
            serve: false,
            deposit: true,
            copies: 2,
            patience: Duration::from_secs(2),
            keep_for: Duration::from_secs(24 * 60 * 60),
            least_ttl: Duration::from_secs(60),
            least_priority: Priority::Medium,
            max_ttl: Duration::from_secs(7 * 24 * 60 * 60),
            max_letters: 16_384,
            max_bytes: 64 * 1024 * 1024,
            sender_letters: 512,
            sender_bytes: 4 * 1024 * 1024,
            recipient_letters: 2048,
            recipient_bytes: 16 * 1024 * 1024,
        }
    }
}
