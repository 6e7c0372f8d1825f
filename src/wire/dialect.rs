//! Which of the two protocols a lane speaks, and how the two ends agree on it.

use std::{
    array,
    convert::Infallible,
    future::{Ready, ready},
    iter,
};

use libp2p::{
    Stream,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::StreamProtocol,
};

use super::PROTOCOL;

/// Lanes that carry batches and encoded payloads.
pub(crate) const BATCH_PROTOCOL: StreamProtocol = StreamProtocol::new("/cpc/1.0.0/batch");

/// The same, by the name that tells that a node keeps mail for others: in identify's list, and good for lanes too.
pub(crate) const MAILBOX_PROTOCOL: StreamProtocol = StreamProtocol::new("/cpc/1.0.0/mailbox");

/// What the other end of a lane understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Batches, and payloads that are encoded.
    Batches,
    /// Frames that a reader of CPC's five fields can read.
    Plain,
}

/// The offer of both, batches first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneUpgrade {
    /// This side keeps mail for others, and says so to who asks what it speaks.
    pub(crate) mailbox: bool,
}

impl UpgradeInfo for LaneUpgrade {
    type Info = StreamProtocol;
    type InfoIter = iter::Take<array::IntoIter<StreamProtocol, 3>>;

    fn protocol_info(&self) -> Self::InfoIter {
        [BATCH_PROTOCOL, PROTOCOL, MAILBOX_PROTOCOL].into_iter().take(if self.mailbox { 3 } else { 2 })
    }
}

impl InboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Stream, Dialect);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, dialect(&protocol))))
    }
}

impl OutboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Stream, Dialect);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, dialect(&protocol))))
    }
}

fn dialect(protocol: &StreamProtocol) -> Dialect {
    if *protocol == PROTOCOL { Dialect::Plain } else { Dialect::Batches }
}
