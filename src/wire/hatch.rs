//! What the driver and the connections' lanes hand each other, past the swarm.
//!
//! Through the swarm each hand-over takes several rounds in which every behaviour and every transport is asked for its
//! part: for a small message that is dearer than its signature. Here it is a queue, and one wake-up on the same thread.
//!
//! What of it stays with the swarm: that a connection stands and that it ends. So lanes report nothing before their
//! hatch was opened, which the driver does when it has heard of the connection, and it takes all reports before it
//! hears of an end. What is read while the connection ends is reported through the swarm, before that end.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use libp2p::{PeerId, swarm::ConnectionId};

use super::{handler::HandlerEvent, writer::Parcel};
use crate::message::Priority;

/// How much the reports of one connection that wait for the driver may weigh together. At this bound nothing more is read,
/// and the peer's window fills.
const MAX_REPORTS: usize = 8;

/// So many results of what was read weigh as much as a report by itself: what they cost the driver counts, not the bytes
/// in which they came.
const RESULTS_IN_A_REPORT: usize = 64;

/// The driver's end: the reports of all connections, in the order in which they came. Bounded by [`MAX_REPORTS`] for
/// what each connection has read, and by what the core lets be unwritten.
#[derive(Clone, Default)]
pub(crate) struct Reports {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<VecDeque<Report>>,
    driver: AtomicWaker,
}

/// What a connection's lanes have to tell.
pub(super) struct Report {
    pub(super) event: HandlerEvent,
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    /// Nothing that waits here keeps what it waits in: a node that stops leaves reports behind.
    hatch: Weak<Hatch>,
}

/// Between the driver and the lanes of one connection.
pub(crate) struct Hatch {
    peer: PeerId,
    connection: ConnectionId,
    reports: Reports,
    state: Mutex<State>,
    lanes: AtomicWaker,
}

#[derive(Default)]
struct State {
    /// Bounded by what the core lets be unwritten.
    parcels: Vec<(Priority, Parcel)>,
    open: bool,
    /// What the reports weigh that the driver has not taken.
    untaken: usize,
}

impl Reports {
    /// The next report; `None` when there is none.
    pub(super) fn take(&self) -> Option<Report> {
        let report = self.lock().pop_front()?;
        if let Some(hatch) = report.hatch.upgrade() {
            hatch.taken(report.weight());
        }
        Some(report)
    }

    /// Waits until there is a report.
    pub(crate) fn poll_ready(&self, context: &Context<'_>) -> Poll<()> {
        self.shared.driver.register(context.waker());
        if self.lock().is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Report>> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// What it costs the driver, in reports of next to nothing.
    pub(super) fn weight(&self) -> usize {
        let results = if let HandlerEvent::Read { batch, .. } = &self.event { batch.len() } else { 0 };
        1 + results / RESULTS_IN_A_REPORT
    }
}

impl Hatch {
    pub(super) fn new(peer: PeerId, connection: ConnectionId, reports: Reports) -> Arc<Self> {
        Arc::new(Self { peer, connection, reports, state: Mutex::default(), lanes: AtomicWaker::new() })
    }

    /// The driver has heard of the connection: from now on its lanes read and report.
    pub(crate) fn open(&self) {
        self.lock().open = true;
        self.lanes.wake();
    }

    /// Sends something by the connection. One that is gone takes nothing, which its end has told or will tell.
    pub(crate) fn send(&self, priority: Priority, parcel: Parcel) {
        self.lock().parcels.push((priority, parcel));
        self.lanes.wake();
    }

    /// What came for the lanes since they last asked, and whether they may read.
    pub(super) fn collect(&self, context: &Context<'_>) -> (Vec<(Priority, Parcel)>, bool) {
        self.lanes.register(context.waker());
        let mut state = self.lock();
        (mem::take(&mut state.parcels), state.may_report())
    }

    /// Reports something. Answers whether the lanes may read on.
    pub(super) fn report(self: &Arc<Self>, event: HandlerEvent) -> bool {
        let report = Report { event, peer: self.peer, connection: self.connection, hatch: Arc::downgrade(self) };
        let may_read = {
            let mut state = self.lock();
            state.untaken += report.weight();
            state.may_report()
        };
        self.reports.lock().push_back(report);
        self.reports.shared.driver.wake();
        may_read
    }

    /// The driver has taken a report of this weight.
    fn taken(&self, weight: usize) {
        let mut state = self.lock();
        let full = !state.may_report();
        state.untaken -= weight;
        if full && state.may_report() {
            drop(state);
            self.lanes.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_report(&self) -> bool {
        self.open && self.untaken < MAX_REPORTS
    }
}

impl fmt::Debug for Hatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hatch").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::task::{ArcWake, waker};

    use super::{super::behaviour::Event, *};
    use crate::{event::RejectReason, frame::Rejection};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl ArcWake for Count {
        fn wake_by_ref(count: &Arc<Self>) {
            count.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(bytes: usize) -> HandlerEvent {
        HandlerEvent::Read { batch: Vec::new(), bytes }
    }

    #[test]
    fn nothing_is_read_before_the_driver_knows_the_connection_nor_while_it_takes_nothing() {
        let reports = Reports::default();
        let hatch = Hatch::new(PeerId::random(), ConnectionId::new_unchecked(1), reports.clone());
        let (driver, lanes) = (Arc::<Count>::default(), Arc::<Count>::default());
        let (driver_waker, lanes_waker) = (waker(driver.clone()), waker(lanes.clone()));
        let (of_driver, of_lanes) = (Context::from_waker(&driver_waker), Context::from_waker(&lanes_waker));
        let woken = |count: &Count| count.0.swap(0, Ordering::Relaxed);

        assert!(!hatch.collect(&of_lanes).1);
        hatch.open();
        assert_eq!(woken(&lanes), 1);
        assert!(hatch.collect(&of_lanes).1);

        assert!(reports.poll_ready(&of_driver).is_pending());
        let may_read = (0..MAX_REPORTS).map(|bytes| hatch.report(read(bytes))).collect::<Vec<_>>();
        assert_eq!(may_read.iter().filter(|may| **may).count(), MAX_REPORTS - 1);
        assert!(!hatch.collect(&of_lanes).1, "full");
        assert_eq!(woken(&driver), 1, "once for all");
        assert!(reports.poll_ready(&of_driver).is_ready());

        let first = reports.take().expect("a report");
        assert!(matches!(first.event, HandlerEvent::Read { bytes: 0, .. }), "in order");
        assert_eq!(woken(&lanes), 1, "there is room again");
        assert!(hatch.collect(&of_lanes).1);
        while reports.take().is_some() {}
        assert_eq!(woken(&lanes), 0, "it was not full");
        assert!(reports.poll_ready(&of_driver).is_pending());
    }

    #[test]
    fn what_nobody_takes_is_gone_with_the_node() {
        let reports = Reports::default();
        let hatch = Hatch::new(PeerId::random(), ConnectionId::new_unchecked(1), reports.clone());
        hatch.open();
        hatch.report(read(1));
        let shared = Arc::downgrade(&reports.shared);
        drop((reports, hatch));
        assert!(shared.upgrade().is_none());
    }

    #[test]
    fn a_report_weighs_what_is_in_it() {
        let reports = Reports::default();
        let [one, other] =
            [1, 2].map(|id| Hatch::new(PeerId::random(), ConnectionId::new_unchecked(id), reports.clone()));
        one.open();
        other.open();
        let fault = || Err(Rejection::new(RejectReason::Malformed, "a fault"));
        let read =
            |results: usize| HandlerEvent::Read { batch: (0..results).map(|_| fault()).collect(), bytes: results };
        assert!(one.report(read(RESULTS_IN_A_REPORT)), "weighs two");
        assert!(one.report(read(RESULTS_IN_A_REPORT - 1)), "weighs one");
        assert!(!one.report(read(RESULTS_IN_A_REPORT * 4)), "together they weigh the bound");
        assert!(other.report(read(1)), "which is each connection's own");

        let hand_out = |budget| {
            let mut bytes_of_reports = Vec::new();
            reports.hand_out(budget, |event| {
                let Event::Read { bytes, .. } = event else { panic!("a read") };
                bytes_of_reports.push(bytes);
            });
            bytes_of_reports
        };
        assert_eq!(hand_out(3), [64, 63]);
        assert_eq!(hand_out(1), [256], "one is always taken, whatever it weighs");
        assert_eq!(hand_out(usize::MAX), [1]);
        assert_eq!([&one, &other].map(|hatch| hatch.lock().untaken), [0, 0]);
    }

    #[test]
    fn parcels_come_in_order_and_wake_the_lanes_once() {
        let hatch = Hatch::new(PeerId::random(), ConnectionId::new_unchecked(1), Reports::default());
        let lanes = Arc::<Count>::default();
        let lanes_waker = waker(lanes.clone());
        let context = Context::from_waker(&lanes_waker);
        assert!(hatch.collect(&context).0.is_empty());
        for frame in ["a", "b", "c"] {
            hatch.send(Priority::High, Parcel::Frame(frame.into()));
        }
        assert_eq!(lanes.0.load(Ordering::Relaxed), 1);
        let parcels = hatch.collect(&context).0.into_iter().map(|(_, parcel)| match parcel {
            Parcel::Frame(frame) => frame,
            _ => panic!("a frame"),
        });
        assert_eq!(parcels.collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(hatch.collect(&context).0.is_empty());
    }
}
