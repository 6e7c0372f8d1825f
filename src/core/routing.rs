//! What becomes of messages. `outbox`: direct ones, from acceptance to receipt. `pending`: broadcasts nobody could take
//! yet. `spread`: how posts pass from node to node. `inbox`: what arrives, each message once.

mod inbox;
mod outbox;
mod pending;
mod spread;

use libp2p::PeerId;

use crate::config::NetworkConfig;

pub(crate) use inbox::{Arrival, Inbox};
pub(crate) use outbox::Outbox;
pub(crate) use pending::Pending;
pub(crate) use spread::{Arrived, Spread};

pub(crate) struct Routing {
    pub(crate) outbox: Outbox,
    pub(crate) pending: Pending,
    pub(crate) spread: Spread,
    pub(crate) inbox: Inbox,
}

impl Routing {
    pub(crate) fn new(local: PeerId, config: &NetworkConfig) -> Self {
        Self {
            outbox: Outbox::new(&config.delivery),
            pending: Pending::new(config.delivery.timeout),
            spread: Spread::new(local, config),
            inbox: Inbox::new(config.limits.duplicate_cache),
        }
    }
}
