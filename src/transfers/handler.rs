//! The transfers of one connection: streams out as the driver opens them, streams in as the peer does.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_channel::{Receiver, Sender};
use futures::{
    FutureExt as _, Stream as _, StreamExt as _, channel::oneshot, future::BoxFuture, stream::FuturesUnordered,
};
use libp2p::{
    PeerId,
    core::upgrade::ReadyUpgrade,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{
    PROTOCOL, Settings,
    handle::Outbox,
    receive::{Received, Verdict, receive, tell},
    send::send,
};
use crate::{
    event::RejectReason,
    frame::Rejection,
    transfer::{Outcome, TransferId, TransferKey, TransferOffer},
};

/// Reports that may wait for the behaviour; then progress is told later, and offers wait.
const REPORT_CAPACITY: usize = 32;

/// Streams that a peer may have open beyond the transfers that it may run: new attempts beside dead ones, offers that
/// are refused, cancellations.
const SPARE: usize = 8;

/// Cancellations that may be on their way at once. What is not told the other side finds out by its time-out.
const MAX_TELLING: usize = 16;

/// What a task reports while it runs.
#[derive(Debug)]
pub(crate) enum Report {
    /// A peer offers something, and waits for the verdict.
    Offered { peer: PeerId, id: TransferId, offer: TransferOffer, verdict: oneshot::Sender<Verdict> },
    /// The peer cancelled a transfer.
    Stopped { peer: PeerId, id: TransferId, by_sender: bool, reason: String },
    /// So much is verified and written; so many bytes were moved since the last report.
    Progress { key: TransferKey, attempt: u64, transferred: u64, moved: u64 },
    /// An attempt has used up its bytes of the budget.
    Wants { key: TransferKey, attempt: u64 },
    /// The peer did what it must not.
    Rejected(Rejection),
}

/// What a connection reports.
#[derive(Debug)]
pub(crate) enum HandlerEvent {
    Report(Report),
    Ended { key: TransferKey, attempt: u64, outcome: Outcome, moved: u64 },
}

/// What the driver wants of a connection.
#[derive(Debug)]
pub(crate) enum Order {
    /// Begin an attempt, and move no more than so many bytes in it.
    Send { attempt: u64, outbox: Arc<Outbox>, most: Option<u64> },
    /// Tell the peer that a transfer is cancelled.
    Tell { id: TransferId, by_sender: bool, reason: String },
}

/// Which task has ended.
enum Ended {
    Inbound(Received),
    Outbound(TransferKey, u64, Outcome, u64),
    Told,
}

/// Both ends of the channel of the tasks' reports.
type Reports = (Sender<Report>, Pin<Box<Receiver<Report>>>);

pub(crate) struct TransferHandler {
    peer: PeerId,
    settings: Settings,
    max_inbound: usize,
    inbound: usize,
    telling: usize,
    /// Waits for a stream; bounded by the transfers that may run and [`MAX_TELLING`].
    orders: VecDeque<Order>,
    tasks: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// There while something runs: a channel takes the memory for all that it may hold at once, and most connections
    /// never see a transfer.
    reports: Option<Reports>,
    events: VecDeque<HandlerEvent>,
}

impl TransferHandler {
    pub(super) fn new(peer: PeerId, settings: Settings, max_per_peer: usize) -> Self {
        Self {
            peer,
            settings,
            max_inbound: max_per_peer + SPARE,
            inbound: 0,
            telling: 0,
            orders: VecDeque::new(),
            tasks: FuturesUnordered::new(),
            reports: None,
            events: VecDeque::new(),
        }
    }

    /// Lets the tasks work, and takes what they report. Reports come before the end of the task that made them.
    fn next_event(&mut self, context: &mut Context<'_>) -> Option<HandlerEvent> {
        while let Poll::Ready(Some(ended)) = self.tasks.poll_next_unpin(context) {
            while let Some(Ok(report)) = self.reports.as_ref().map(|(_, reports)| reports.try_recv()) {
                self.events.push_back(HandlerEvent::Report(report));
            }
            match ended {
                Ended::Inbound(received) => {
                    self.inbound -= 1;
                    if let Some((key, attempt, outcome, moved)) = received {
                        self.events.push_back(HandlerEvent::Ended { key, attempt, outcome, moved });
                    }
                }
                Ended::Outbound(key, attempt, outcome, moved) => {
                    self.events.push_back(HandlerEvent::Ended { key, attempt, outcome, moved });
                }
                Ended::Told => self.telling -= 1,
            }
        }
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let (_, reports) = self.reports.as_mut()?;
        if let Poll::Ready(report) = reports.as_mut().poll_next(context) {
            return report.map(HandlerEvent::Report);
        }
        if self.tasks.is_empty() {
            self.reports = None;
        }
        None
    }

    fn report_sender(&mut self) -> Sender<Report> {
        let (sender, _) = self.reports.get_or_insert_with(|| {
            let (sender, reports) = async_channel::bounded(REPORT_CAPACITY);
            (sender, Box::pin(reports))
        });
        sender.clone()
    }
}

impl ConnectionHandler for TransferHandler {
    type FromBehaviour = Order;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Order;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, order: Order) {
        if matches!(order, Order::Tell { .. }) {
            if self.telling >= MAX_TELLING {
                return;
            }
            self.telling += 1;
        }
        self.orders.push_back(order);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Order>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                if self.inbound >= self.max_inbound {
                    let detail = format!("a connection may have {} streams of transfers", self.max_inbound);
                    let rejection = Rejection::new(RejectReason::TooManyLanes, detail);
                    self.events.push_back(HandlerEvent::Report(Report::Rejected(rejection)));
                    return;
                }
                self.inbound += 1;
                let task = receive(stream, self.peer, self.settings, self.report_sender());
                self.tasks.push(task.map(Ended::Inbound).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                match info {
                    Order::Send { attempt, outbox, most } => {
                        let key = outbox.watch.key;
                        let task = send(stream, (attempt, most), outbox, self.settings, self.report_sender());
                        let ended = move |(outcome, moved)| Ended::Outbound(key, attempt, outcome, moved);
                        self.tasks.push(task.map(ended).boxed());
                    }
                    Order::Tell { id, by_sender, reason } => {
                        self.tasks.push(tell(stream, id, by_sender, reason).map(|()| Ended::Told).boxed());
                    }
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => match info {
                Order::Send { attempt, outbox, .. } => {
                    let outcome = match error {
                        StreamUpgradeError::NegotiationFailed => Outcome::Unsupported,
                        error => Outcome::Broken(error.to_string()),
                    };
                    let key = outbox.watch.key;
                    self.events.push_back(HandlerEvent::Ended { key, attempt, outcome, moved: 0 });
                }
                Order::Tell { .. } => self.telling -= 1,
            },
            _ => {}
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Order, HandlerEvent>> {
        if let Some(event) = self.next_event(context) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(order) = self.orders.pop_front() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), order);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    /// The connection is ending; what has been completed still counts.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Option<HandlerEvent>> {
        Poll::Ready(self.next_event(context))
    }
}
