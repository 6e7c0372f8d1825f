//! Which of the two protocols a lane speaks, and how the two ends agree on it.

use std::{
    array,
    convert::Infallible,
    future::{Ready, ready},
};

use libp2p::{
    Stream,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::StreamProtocol,
};

use super::PROTOCOL;

/// Lanes that carry batches and encoded payloads.
pub(crate) const BATCH_PROTOCOL: StreamProtocol = StreamProtocol::new("/cpc/1.0.0/batch");

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
pub(crate) struct LaneUpgrade;

impl UpgradeInfo for LaneUpgrade {
    type Info = StreamProtocol;
    type InfoIter = array::IntoIter<StreamProtocol, 2>;

    fn protocol_info(&self) -> Self::InfoIter {
        [BATCH_PROTOCOL, PROTOCOL].into_iter()
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
    if *protocol == BATCH_PROTOCOL { Dialect::Batches } else { Dialect::Plain }
}
