//! The lanes of one connection in libp2p's terms: streams out as the writer wishes, streams in as the peer opens them.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
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

/// What is read of a connection that ends, in reads. A peer that sends on must not keep it open: what is left unread was
/// not acknowledged, so it comes again by another connection.
const MAX_LAST_READS: usize = 32;

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
pub(crate) struct LaneHandler(Box<Lanes<Stream>>);

struct Lanes<S> {
    hatch: Arc<Hatch>,
    limits: Limits,
    understanding: Understanding,
    writer: Writer<S>,
    /// The first is polled first and then goes to the end.
    readers: VecDeque<Reader<S>>,
    /// What else is to be reported.
    reports: VecDeque<HandlerEvent>,
    /// How often it was read since the connection began to end.
    last_reads: usize,
}

impl LaneHandler {
    pub(super) fn new(
        neighbour: PeerId,
        key: SigningKey,
        sealing: Arc<SealingKey>,
        limits: Limits,
        hatch: Arc<Hatch>,
    ) -> Self {
        Self(Box::new(Lanes::new(neighbour, key, sealing, limits, hatch)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lanes<S> {
    fn new(neighbour: PeerId, key: SigningKey, sealing: Arc<SealingKey>, limits: Limits, hatch: Arc<Hatch>) -> Self {
        Self {
            hatch,
            limits,
            understanding: Understanding::new(neighbour, key.peer_id(), sealing.clone(), limits.max_payload),
            writer: Writer::new(neighbour, key, sealing),
            readers: VecDeque::new(),
            reports: VecDeque::new(),
            last_reads: 0,
        }
    }

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

    /// What else came in of a connection that ends.
    fn last_read(&mut self, context: &mut Context<'_>) -> Option<HandlerEvent> {
        if self.last_reads >= MAX_LAST_READS {
            return None;
        }
        self.last_reads += 1;
        self.next_read(context)
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
        Poll::Ready(self.0.reports.pop_front().or_else(|| self.0.last_read(context)))
    }
}

#[cfg(test)]
mod tests {
    use std::{io, pin::Pin};

    use futures::task::noop_waker;
    use libp2p::{identity::Keypair, swarm::ConnectionId};
    use prost::Message as _;

    use super::{
        super::{dialect::Dialect, framing::append_frame, generated::CpcMessage, hatch::Reports},
        *,
    };

    /// A peer that has always something more to say.
    struct Endless(Vec<u8>);

    impl AsyncRead for Endless {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            buffer[..self.0.len()].copy_from_slice(&self.0);
            Poll::Ready(Ok(self.0.len()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_peer_that_sends_on_does_not_keep_a_connection_open_that_ends() {
        let (keys, neighbour) = (Keypair::generate_ed25519(), PeerId::random());
        let sealing = Arc::new(SealingKey::of(&keys).expect("an Ed25519 key"));
        let hatch = Hatch::new(neighbour, ConnectionId::new_unchecked(1), Reports::default());
        let limits = Limits { max_frame: 1 << 17, max_payload: 1 << 16, serves_mail: false };
        let mut lanes = Lanes::new(neighbour, SigningKey::new(&keys), sealing, limits, hatch);
        let mut bytes = Vec::new();
        append_frame(&mut bytes, &CpcMessage { nonce: 7, ..CpcMessage::default() }.encode_to_vec());
        lanes.readers.push_back(Reader::new(Endless(bytes), Dialect::Plain, limits));
        let waker = noop_waker();
        let mut reads = std::iter::from_fn(|| lanes.last_read(&mut Context::from_waker(&waker)));
        assert_eq!(reads.by_ref().take(10 * MAX_LAST_READS).count(), MAX_LAST_READS);
    }
}
