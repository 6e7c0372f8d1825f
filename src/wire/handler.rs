//! The lanes of one connection: up to one stream out for each priority, opened when first needed and kept; streams in
//! as the peer opens them.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures::{FutureExt as _, Stream as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    PeerId,
    core::upgrade::ReadyUpgrade,
    identity::Keypair,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{
    PROTOCOL,
    lane::{LaneEvent, Limits, read_lane, write_lane},
};
use crate::{
    event::RejectReason,
    frame::{Letter, Rejection},
    message::Priority,
};

/// Frames that may wait in one lane of one connection. The core keeps below it, so it is never reached.
pub(crate) const LANE_CAPACITY: usize = 512;

/// Events that may wait for the behaviour; then the lanes wait.
const EVENT_CAPACITY: usize = 16;

/// A peer needs three; some more are let in while it renews them.
const MAX_INBOUND: usize = 8;

/// Something to send, and its lane.
#[derive(Debug)]
pub(crate) struct Transmit {
    pub(crate) priority: Priority,
    pub(crate) parcel: Parcel,
}

/// What a lane carries.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// A message of this node; the connection's task encodes and signs it.
    Letter(Letter),
    /// A frame that needs nothing more.
    Frame(Bytes),
}

/// What the connection's lanes report to the behaviour.
#[derive(Debug)]
pub(crate) enum HandlerEvent {
    Lane(LaneEvent),
    /// The peer doesn't speak the protocol. What waited is lost.
    Unsupported,
}

enum LaneState {
    /// No stream; one is opened when a frame waits.
    Closed,
    Opening,
    Open,
}

struct OutboundLane {
    priority: Priority,
    state: LaneState,
    sender: Sender<Parcel>,
    queue: Receiver<Parcel>,
}

/// Which task has ended.
enum Ended {
    Inbound,
    Outbound(Priority),
}

/// The lanes of one connection.
pub(crate) struct LaneHandler {
    neighbour: PeerId,
    key: Keypair,
    limits: Limits,
    lanes: [OutboundLane; 3],
    tasks: FuturesUnordered<BoxFuture<'static, Ended>>,
    inbound: usize,
    event_sender: Sender<LaneEvent>,
    events: Pin<Box<Receiver<LaneEvent>>>,
    reports: VecDeque<HandlerEvent>,
}

impl LaneHandler {
    pub(super) fn new(neighbour: PeerId, key: Keypair, limits: Limits) -> Self {
        let (event_sender, events) = async_channel::bounded(EVENT_CAPACITY);
        let lanes = Priority::ALL.map(|priority| {
            let (sender, queue) = async_channel::bounded(LANE_CAPACITY);
            OutboundLane { priority, state: LaneState::Closed, sender, queue }
        });
        Self {
            neighbour,
            key,
            limits,
            lanes,
            tasks: FuturesUnordered::new(),
            inbound: 0,
            event_sender,
            events: Box::pin(events),
            reports: VecDeque::new(),
        }
    }

    /// Lets the lanes work, and takes what they report.
    fn next_report(&mut self, context: &mut Context<'_>) -> Option<HandlerEvent> {
        while let Poll::Ready(Some(ended)) = self.tasks.poll_next_unpin(context) {
            match ended {
                Ended::Inbound => self.inbound -= 1,
                // What is left in the queue opens the lane anew.
                Ended::Outbound(priority) => self.lanes[priority.lane()].state = LaneState::Closed,
            }
        }
        if let Some(report) = self.reports.pop_front() {
            return Some(report);
        }
        match self.events.as_mut().poll_next(context) {
            Poll::Ready(event) => event.map(HandlerEvent::Lane),
            Poll::Pending => None,
        }
    }

    /// Reports everything that waits in a lane as lost.
    fn lose(&mut self, priority: Priority, reason: &str) {
        let lane = &mut self.lanes[priority.lane()];
        lane.state = LaneState::Closed;
        let count = std::iter::from_fn(|| lane.queue.try_recv().ok()).count();
        if count > 0 {
            self.reports.push_back(HandlerEvent::Lane(LaneEvent::Lost { priority, count, reason: reason.to_owned() }));
        }
    }
}

impl ConnectionHandler for LaneHandler {
    type FromBehaviour = Transmit;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Priority;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    /// Connections are opened and closed by the core's decision, never for want of traffic.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, Transmit { priority, parcel }: Transmit) {
        if self.lanes[priority.lane()].sender.try_send(parcel).is_err() {
            let reason = "the lane's queue is full".to_owned();
            self.reports.push_back(HandlerEvent::Lane(LaneEvent::Lost { priority, count: 1, reason }));
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Priority>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                if self.inbound >= MAX_INBOUND {
                    let detail = format!("a connection may have {MAX_INBOUND} lanes");
                    let rejection = Rejection::new(RejectReason::TooManyLanes, detail);
                    let batch = vec![Err(rejection)];
                    self.reports.push_back(HandlerEvent::Lane(LaneEvent::Read { batch, bytes: 0 }));
                    return;
                }
                self.inbound += 1;
                let reader = read_lane(stream, self.neighbour, self.limits, self.event_sender.clone());
                self.tasks.push(reader.map(|()| Ended::Inbound).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info: priority }) => {
                let lane = &mut self.lanes[priority.lane()];
                lane.state = LaneState::Open;
                let writer =
                    write_lane(stream, priority, self.key.clone(), lane.queue.clone(), self.event_sender.clone());
                self.tasks.push(writer.map(move |()| Ended::Outbound(priority)).boxed());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: priority, error }) => {
                if matches!(error, StreamUpgradeError::NegotiationFailed) {
                    self.reports.push_back(HandlerEvent::Unsupported);
                }
                self.lose(priority, &error.to_string());
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Priority, HandlerEvent>> {
        if let Some(report) = self.next_report(context) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        for lane in &mut self.lanes {
            if matches!(lane.state, LaneState::Closed) && !lane.queue.is_empty() {
                lane.state = LaneState::Opening;
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), lane.priority);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        Poll::Pending
    }

    /// The connection is ending. What has been received and not read yet, a goodbye above all, still counts.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Option<HandlerEvent>> {
        Poll::Ready(self.next_report(context))
    }
}
