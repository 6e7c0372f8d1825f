//! The lanes of one connection in libp2p's terms: streams out as the writer wishes, streams in as the peer opens them.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    PeerId, Stream,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use web_time::Instant;

use super::{
    dialect::LaneUpgrade,
    hatch::Hatch,
    reader::{Limits, Read, Reader, Understanding},
    writer::{Outcome, Writer},
};
use crate::{
    crypto::{Author as _, SealingKey, SigningKey},
    event::RejectReason,
    frame::{Incoming, Rejection},
    message::Priority,
};

/// A peer needs three; some more are let in while it renews them.
const MAX_INBOUND: usize = 8;

/// What the connection's lanes report.
#[derive(Debug)]
pub(crate) enum HandlerEvent {
    /// Frames came in, each taken or rejected. `bytes` counts all that was read.
    Read { batch: Vec<Result<Incoming, Rejection>>, bytes: usize },
    /// What became of what was to be sent.
    Sent(Outcome),
    /// The peer doesn't speak the protocol. What waited is lost.
    Unsupported,
}

/// The lanes of one connection. Boxed: handlers are moved about a lot while a connection is made.
pub(crate) struct LaneHandler(Box<Lanes>);

struct Lanes {
    hatch: Arc<Hatch>,
    limits: Limits,
    understanding: Understanding,
    writer: Writer<Stream>,
    /// The first is polled first and then goes to the end.
    readers: VecDeque<Reader<Stream>>,
    /// What else is to be reported.
    reports: VecDeque<HandlerEvent>,
}

impl LaneHandler {
    pub(super) fn new(
        neighbour: PeerId,
        key: SigningKey,
        sealing: Arc<SealingKey>,
        limits: Limits,
        hatch: Arc<Hatch>,
    ) -> Self {
        Self(Box::new(Lanes {
            hatch,
            limits,
            understanding: Understanding::new(neighbour, key.peer_id(), sealing.clone(), limits.max_payload),
            writer: Writer::new(neighbour, key, sealing),
            readers: VecDeque::new(),
            reports: VecDeque::new(),
        }))
    }
}

impl Lanes {
    /// What came in next, by whatever lane.
    fn next_read(&mut self, context: &mut Context<'_>) -> Option<HandlerEvent> {
        for _ in 0..self.readers.len() {
            let mut reader = self.readers.pop_front()?;
            match reader.poll(context, &self.understanding) {
                Poll::Ready(Some(Read { results: batch, bytes })) => {
                    self.readers.push_back(reader);
                    let acknowledged = batch.iter().flatten().map(|incoming| &incoming.acknowledged[..]);
                    for ranges in acknowledged.filter(|ranges| !ranges.is_empty()) {
                        self.writer.acknowledged(ranges, Instant::now());
                    }
                    return Some(HandlerEvent::Read { batch, bytes });
                }
                // The stream has ended.
                Poll::Ready(None) => {}
                Poll::Pending => self.readers.push_back(reader),
            }
        }
        None
    }
}

impl ConnectionHandler for LaneHandler {
    /// What is to be sent comes by the hatch.
    type FromBehaviour = Infallible;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = LaneUpgrade;
    type OutboundProtocol = LaneUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Priority;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(LaneUpgrade { mailbox: self.0.limits.serves_mail }, ())
    }

    /// Connections are opened and closed by the core's decision, never for want of traffic.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, never: Infallible) {
        match never {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Priority>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (stream, dialect), .. }) => {
                if self.0.readers.len() < MAX_INBOUND {
                    // Most peers write one lane.
                    self.0.readers.reserve_exact(1);
                    self.0.readers.push_back(Reader::new(stream, dialect, self.0.limits));
                    return;
                }
                let detail = format!("a connection may have {MAX_INBOUND} lanes");
                let batch = vec![Err(Rejection::new(RejectReason::TooManyLanes, detail))];
                self.0.reports.push_back(HandlerEvent::Read { batch, bytes: 0 });
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info: priority }) => {
                let (stream, dialect) = protocol;
                self.0.writer.opened(priority, stream, dialect);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: priority, error }) => {
                if matches!(error, StreamUpgradeError::NegotiationFailed) {
                    self.0.reports.push_back(HandlerEvent::Unsupported);
                }
                self.0.writer.failed(priority, &error.to_string());
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Priority, HandlerEvent>> {
        let lanes = &mut *self.0;
        let (parcels, mut may_read) = lanes.hatch.collect(context);
        for (priority, parcel) in parcels {
            lanes.writer.push(priority, parcel);
        }
        // What is to be sent goes before what may be read, so that the way is never idle.
        loop {
            let report = lanes.reports.pop_front();
            let report = report.or_else(|| lanes.writer.poll(context).map(HandlerEvent::Sent));
            let Some(report) = report.or_else(|| if may_read { lanes.next_read(context) } else { None }) else { break };
            may_read = lanes.hatch.report(report);
        }
        if let Some(priority) = self.0.writer.next_to_open() {
            let protocol = SubstreamProtocol::new(LaneUpgrade { mailbox: false }, priority);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    /// The connection is ending. What has been received and not read yet, a goodbye above all, still counts.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Option<HandlerEvent>> {
        Poll::Ready(self.0.reports.pop_front().or_else(|| self.0.next_read(context)))
    }
}
