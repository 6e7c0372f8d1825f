//! What can go wrong, one enum per area. Each message says what happened, to whom, and what to do about it;
//! `is_retryable` tells whether the same call may succeed later without a change, and `code` is a stable name that
//! JavaScript, logs and metrics share.

pub(crate) mod parse;
mod transfer;

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

pub use parse::ParseError;
pub use transfer::TransferError;

use crate::message::{MessageId, Priority};

/// A configuration that can't be used. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not TOML at all, or not the shape of a configuration.
    #[error("the configuration can't be read: {0}")]
    Syntax(String),
    /// A field has a value of the wrong type, or a field of that name doesn't exist.
    #[error("{field}: {problem}")]
    Field {
        /// The field's path, such as `limits.max_payload`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A field's value lies outside what is allowed.
    #[error("{field} is {value}, allowed is {allowed}")]
    OutOfRange {
        /// The field's path.
        field: &'static str,
        /// The value given.
        value: String,
        /// The allowed range, with its unit.
        allowed: String,
    },
}

impl ConfigError {
    /// A stable name for this error.
    pub fn code(&self) -> &'static str {
        match self {
            ConfigError::Syntax(_) => "config_syntax",
            ConfigError::Field { .. } => "config_field",
            ConfigError::OutOfRange { .. } => "config_out_of_range",
        }
    }
}

/// Why a node could not be started. Nothing keeps running after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listen address could not be opened.
    #[error("can't listen on {address}: {reason}; free the port, choose another, or use port 0 to get any free one")]
    Listen {
        /// The address from the configuration.
        address: Multiaddr,
        /// What the system said.
        reason: String,
    },
    /// The identity or another persistent item can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A transport can't be set up on this machine.
    #[error("the {transport} transport can't be set up: {reason}")]
    Transport {
        /// Which one.
        transport: &'static str,
        /// What it said.
        reason: String,
    },
    /// The system has no room for another thread or task.
    #[error("the network thread can't be started: {0}")]
    Thread(String),
}

impl StartError {
    /// A stable name for this error.
    pub fn code(&self) -> &'static str {
        match self {
            StartError::Config(error) => error.code(),
            StartError::Listen { .. } => "listen_failed",
            StartError::Store(error) => error.code(),
            StartError::Transport { .. } => "transport_unavailable",
            StartError::Thread(_) => "thread_unavailable",
        }
    }

    /// Whether the same call may succeed later: a port or a folder may become free, a disk writable.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            StartError::Listen { .. }
                | StartError::Thread(_)
                | StartError::Store(StoreError::Io { .. } | StoreError::InUse { .. })
        )
    }
}

/// What is kept across restarts can't be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk or database refuses.
    #[error("can't {action} {item}: {reason}")]
    Io {
        /// What was tried: `read` or `write`.
        action: &'static str,
        /// What it was tried on.
        item: String,
        /// What the system said.
        reason: String,
    },
    /// What was read is not what was written. It is left as it is, so that nothing is lost.
    #[error("{item} is damaged: {reason}; restore it from a copy, or remove it to start afresh")]
    Damaged {
        /// Which item.
        item: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another node, in this process or another, uses the place.
    #[error("{item} is in use by another node; stop that node, or give this one a data_dir of its own")]
    InUse {
        /// The folder or database.
        item: String,
    },
    /// Others than the owner can read a secret.
    #[error("{item} can be read by others (mode {mode:o}); make it yours alone with: chmod 600 {item}")]
    Exposed {
        /// The file.
        item: String,
        /// Its mode bits.
        mode: u32,
    },
}

impl StoreError {
    /// A stable name for this error.
    pub fn code(&self) -> &'static str {
        match self {
            StoreError::Io { .. } => "store_io",
            StoreError::Damaged { .. } => "store_damaged",
            StoreError::InUse { .. } => "store_in_use",
            StoreError::Exposed { .. } => "store_exposed",
        }
    }
}

/// Why a message was not accepted. Nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The outbox holds as many messages as it may.
    #[error("the outbox is full ({limit} messages wait); wait for receipts, or raise limits.outbox_messages")]
    QueueFull {
        /// The limit that was reached.
        limit: usize,
    },
    /// The messages in the outbox hold as many bytes as they may.
    #[error("the outbox is full ({limit} bytes wait); wait for receipts, or raise limits.outbox_bytes")]
    BytesFull {
        /// The limit that was reached, bytes.
        limit: usize,
    },
    /// As much waits for this one recipient as may; others can be written to.
    #[error(
        "too much waits for {peer} ({limit} messages, or their bytes); wait for receipts, or raise limits.peer_messages and limits.peer_bytes"
    )]
    PeerFull {
        /// The recipient.
        peer: PeerId,
        /// How many messages may wait for one peer.
        limit: usize,
    },
    /// The payload is over the limit.
    #[error(
        "a payload of {size} bytes is over the limit of {limit}; split it, or raise limits.max_payload on all nodes"
    )]
    TooLarge {
        /// The payload's size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// What is accepted has to be stored, and the disk or database refuses. What was accepted before is not lost; storing
    /// is tried again by itself, and an event tells when it works.
    #[error("the message can't be stored: {reason}; make room, or wait until storing works again")]
    Storage {
        /// What the system said.
        reason: String,
    },
    /// The handler is shutting down or has stopped.
    #[error("the network is shutting down, nothing more is accepted; create a new handler")]
    ShuttingDown,
    /// A node doesn't send messages to itself.
    #[error("the recipient {0} is this node itself; use another node's peer id")]
    ToSelf(PeerId),
    /// A group broadcast needs membership.
    #[error("this node is not a member of the group {0}; call join_group first")]
    NotAMember(crate::message::GroupName),
    /// The kind is one that only the network itself sends, or that this version doesn't know.
    #[error("messages of the kind {0:?} are not for apps to send; use Event, Data or another listed kind")]
    ReservedKind(crate::message::MessageKind),
    /// A broadcast to named peers names none, or too many.
    #[error("a directed broadcast names {count} peers, allowed is 1 to {limit}; split it, or broadcast to all")]
    Recipients {
        /// How many it names.
        count: usize,
        /// The most that can be named.
        limit: usize,
    },
}

impl SendError {
    /// A stable name for this error.
    pub fn code(&self) -> &'static str {
        match self {
            SendError::QueueFull { .. } => "queue_full",
            SendError::BytesFull { .. } => "bytes_full",
            SendError::PeerFull { .. } => "peer_full",
            SendError::TooLarge { .. } => "too_large",
            SendError::Storage { .. } => "not_stored",
            SendError::ShuttingDown => "shutting_down",
            SendError::ToSelf(_) => "to_self",
            SendError::NotAMember(_) => "not_a_member",
            SendError::ReservedKind(_) => "reserved_kind",
            SendError::Recipients { .. } => "recipients",
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        use SendError::{BytesFull, PeerFull, QueueFull, Storage};
        matches!(self, QueueFull { .. } | BytesFull { .. } | PeerFull { .. } | Storage { .. })
    }
}

/// Why an accepted message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum DeliveryError {
    /// No way to the peer was found in time.
    #[error("{peer} could not be reached within {waited:?}: {reason}")]
    Unreachable {
        /// The recipient.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// How long it was tried, milliseconds.
        #[serde(with = "crate::config::millis")]
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        waited: Duration,
        /// The last obstacle.
        reason: String,
    },
    /// The message was sent, and no acknowledgement came in time. It may have arrived.
    #[error("{peer} did not acknowledge the message within {waited:?}; it may have arrived all the same")]
    Unacknowledged {
        /// The recipient.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// How long was waited, milliseconds.
        #[serde(with = "crate::config::millis")]
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        waited: Duration,
    },
    /// The recipient rejected the message.
    #[error("{peer} rejected the message: {reason}")]
    Rejected {
        /// The recipient.
        #[cfg_attr(feature = "typescript", ts(type = "string"))]
        peer: PeerId,
        /// Its reason.
        reason: String,
    },
    /// The message's time to live ended before it arrived.
    #[error("the message expired after {ttl:?} without having been delivered")]
    Expired {
        /// The time to live it was given, milliseconds.
        #[serde(with = "crate::config::millis")]
        #[cfg_attr(feature = "typescript", ts(type = "number"))]
        ttl: Duration,
    },
    /// There was too much to send, and this was less urgent than the rest.
    #[error(
        "too much waits to be sent, and a message of {priority:?} priority was the least urgent; send less, or later"
    )]
    Shed {
        /// The message's priority.
        priority: Priority,
    },
    /// The node was shut down first.
    #[error("the network was shut down before the message {id} was delivered")]
    ShutDown {
        /// The message.
        id: MessageId,
    },
    /// The node was shut down first; the message is kept, and goes on at the next start.
    #[error(
        "the network was shut down before the message {id} was delivered; it is kept, and sent after the next start"
    )]
    Kept {
        /// The message.
        id: MessageId,
    },
    /// The message could not be stored, so it was never accepted. If it had left meanwhile, it may have arrived.
    #[error("the message could not be stored, and so is not accepted: {reason}")]
    NotStored {
        /// What the disk or database said.
        reason: String,
    },
}

impl DeliveryError {
    /// A stable name for this error.
    pub fn code(&self) -> &'static str {
        match self {
            DeliveryError::Unreachable { .. } => "unreachable",
            DeliveryError::Unacknowledged { .. } => "unacknowledged",
            DeliveryError::Rejected { .. } => "rejected",
            DeliveryError::Expired { .. } => "expired",
            DeliveryError::Shed { .. } => "shed",
            DeliveryError::ShutDown { .. } => "shut_down",
            DeliveryError::Kept { .. } => "kept",
            DeliveryError::NotStored { .. } => "not_stored",
        }
    }

    /// Whether sending the same message again may succeed.
    pub fn is_retryable(&self) -> bool {
        use DeliveryError::{NotStored, Shed, Unacknowledged, Unreachable};
        matches!(self, Unreachable { .. } | Unacknowledged { .. } | Shed { .. } | NotStored { .. })
    }
}

/// Why a connection could not be made or closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address is known for the peer.
    #[error("no address is known for {0}; give an address, or call discover_peers first")]
    NoAddress(PeerId),
    /// All addresses were tried.
    #[error("can't connect to {target}: {reason}")]
    Failed {
        /// The peer or address that was asked for.
        target: String,
        /// What each attempt said.
        reason: String,
    },
    /// Nothing decided in time.
    #[error("connecting to {target} took longer than {waited:?}")]
    TimedOut {
        /// The peer or address that was asked for.
        target: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The address or peer is this node's own.
    #[error("{0} is this node itself")]
    ToSelf(String),
    /// Too many commands wait for the network task.
    #[error("the network is too busy to take another command; try again in a moment")]
    Busy,
    /// The handler is shutting down or has stopped.
    #[error("the network is shutting down, no connection is made; create a new handler")]
    ShuttingDown,
}

impl ConnectError {
    /// A stable name for this error.
    pub fn code(&self) -> &'static str {
        match self {
            ConnectError::NoAddress(_) => "no_address",
            ConnectError::Failed { .. } => "connect_failed",
            ConnectError::TimedOut { .. } => "connect_timed_out",
            ConnectError::ToSelf(_) => "to_self",
            ConnectError::Busy => "busy",
            ConnectError::ShuttingDown => "shutting_down",
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, ConnectError::ToSelf(_) | ConnectError::ShuttingDown)
    }
}

/// Why a command that needs no network answer was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Too many commands wait for the network task.
    #[error("the network is too busy to take another command; try again in a moment")]
    Busy,
    /// The handler is shutting down or has stopped.
    #[error("the network is shutting down, no command is taken; create a new handler")]
    ShuttingDown,
    /// As many groups are joined as may be.
    #[error("already a member of {limit} groups; leave one, or raise limits.groups")]
    TooManyGroups {
        /// The limit that was reached.
        limit: usize,
    },
}

impl CommandError {
    /// A stable name for this error.
    pub fn code(&self) -> &'static str {
        match self {
            CommandError::Busy => "busy",
            CommandError::ShuttingDown => "shutting_down",
            CommandError::TooManyGroups { .. } => "too_many_groups",
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, CommandError::Busy)
    }
}
