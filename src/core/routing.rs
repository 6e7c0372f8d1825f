//! What becomes of messages. `outbox`: direct ones, from acceptance to receipt. `pending`: broadcasts nobody could take
//! yet. `inbox`: what arrives, each message once.

mod inbox;
mod outbox;
mod pending;

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
            outbox: Outbox::new(&config.delivery),
            pending: Pending::new(config.delivery.timeout),
            inbox: Inbox::new(config.limits.duplicate_cache),
        }
    }
}
