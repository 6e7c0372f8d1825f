//! What becomes of messages.
//!
//! - `outbox`: direct ones, from acceptance to receipt.
//! - `route`: which way to a peer they take; `round_trip`: how long an acknowledgement may take on it.
//! - `bandwidth`: how many bytes may leave in a time.
//! - `pending`: broadcasts nobody could take yet.
//! - `inbox`: what arrives, each message once, by what was `seen`; `ranges`: nonces, compactly.

mod bandwidth;
mod inbox;
mod outbox;
mod pending;
mod ranges;
mod round_trip;
mod route;
mod seen;

use crate::config::NetworkConfig;

pub(crate) use inbox::{Arrival, Inbox};
pub(crate) use outbox::Outbox;
pub(crate) use pending::Pending;

pub(crate) struct Routing {
    pub(crate) outbox: Outbox,
    pub(crate) pending: Pending,
    pub(crate) inbox: Inbox,
}

impl Routing {
    pub(crate) fn new(config: &NetworkConfig) -> Self {
        Self {
            outbox: Outbox::new(config),
            pending: Pending::new(config.delivery.timeout),
            inbox: Inbox::new(config.limits.duplicate_cache),
        }
    }
}
