//! What one connection is doing, written on the hot path and read by the sweep.
//!
//! All stores are relaxed: the sweep compares what it sees with what it saw a tick ago, so a value that arrives
//! late costs at most one tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

use crate::metrics::ServerMetrics;

use super::ending::Ending;
use super::interim::Slot;
use super::streams::Streams;

/// Requests that an HTTP/2 client may give up on one connection, beyond those it lets be answered. Each costs the app a
/// request, and the client two small frames (rapid reset, CVE-2023-44487).
const MOST_ABANDONED: usize = 200;

/// The counters of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    metrics: Arc<ServerMetrics>,
    in_flight: AtomicUsize,
    /// Requests that were answered to the end, or given up.
    served: AtomicU64,
    /// Writes that moved bytes.
    written: AtomicU64,
    /// Bytes have come since the last request began or ended.
    heard: AtomicBool,
    /// The last write found the socket full.
    blocked: AtomicBool,
    http2: AtomicBool,
    order: AtomicU8,
    /// Why the connection is going to end, as the index of an [`Ending`]; 0 while nobody has said.
    blamed: AtomicU8,
    /// HTTP/2 requests given up, less those answered.
    abandoned: AtomicUsize,
    /// HTTP/2 answers that have waited for the client.
    pub(super) streams: Streams,
    /// Interim answers that wait to be written.
    pub(super) interim: Slot,
}

/// What a connection is doing. Two equal looks mean: nothing has changed between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Open, and nothing has come yet.
    Silent,
    /// Part of a head has come, after this many requests.
    Head { served: u64, http2: bool },
    /// Between requests.
    Idle { served: u64, written: u64 },
    /// At least one request is being answered.
    Busy,
    /// The client does not take what waits for it, after this many writes.
    Stalled { written: u64 },
}

/// What a connection is told to do. A later one in this list overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Order {
    /// Go on.
    Serve,
    /// Finish what runs, take nothing new, close.
    Close,
    /// Answer 408 in place of the request that does not come, then close.
    Late,
    /// End now.
    Cut,
}

impl Activity {
    /// A connection that does nothing yet. `waker` is that of its task.
    pub(super) fn new(metrics: Arc<ServerMetrics>, waker: Waker) -> Self {
        Self {
            metrics,
            in_flight: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            written: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            order: AtomicU8::new(0),
            blamed: AtomicU8::new(0),
            abandoned: AtomicUsize::new(0),
            streams: Streams::default(),
            interim: Slot::new(waker),
        }
    }

    /// Who counts.
    pub(super) fn metrics(&self) -> &ServerMetrics {
        &self.metrics
    }

    pub(super) fn heard(&self) {
        if !self.heard.load(Relaxed) {
            self.heard.store(true, Relaxed);
        }
    }

    pub(super) fn wrote(&self) {
        // One task writes to a connection: no read-modify-write is needed.
        self.written.store(self.written.load(Relaxed) + 1, Relaxed);
        self.set_blocked(false);
    }

    pub(super) fn blocked(&self) {
        self.set_blocked(true);
    }

    fn set_blocked(&self, blocked: bool) {
        if self.blocked.load(Relaxed) != blocked {
            self.blocked.store(blocked, Relaxed);
        }
    }

    /// HTTP/2 frames are not heads: from here on only whole requests count.
    pub(super) fn is_http2(&self) {
        if !self.http2.load(Relaxed) {
            self.http2.store(true, Relaxed);
        }
    }

    /// Counts a request in until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.heard.store(false, Relaxed);
        if self.ordered() == Order::Late {
            // It came at the last moment: it is served, and the connection closed after it.
            let (late, close) = (Order::Late as u8, Order::Close as u8);
            // Failure means that it has just become `Cut`, which stands.
            let _ = self.order.compare_exchange(late, close, Relaxed, Relaxed);
        }
        InFlight {
            activity: Arc::clone(self),
            stage: Stage::Waiting,
        }
    }

    /// Notes why the connection is going to end. The first reason stands.
    pub(super) fn blame(&self, ending: Ending) {
        let index = u8::try_from(ending.index()).unwrap_or_default();
        // Failure means that there is a reason already.
        let _ = self.blamed.compare_exchange(0, index, Relaxed, Relaxed);
    }

    /// Why the connection ends, if somebody has said.
    pub(super) fn blamed(&self) -> Option<Ending> {
        match self.blamed.load(Relaxed) {
            0 => None,
            index => Ending::from_index(index),
        }
    }

    /// Whether a part of a head has come, and nothing else is under way.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.look(), Phase::Head { .. })
    }

    /// An answer was had to its end, or was not: a client that lets few be answered is ended.
    fn settled(&self, answered: bool) {
        if !self.http2.load(Relaxed) {
            return;
        }
        let abandoned = self.abandoned.load(Relaxed);
        if answered {
            self.abandoned.store(abandoned.saturating_sub(1), Relaxed);
        } else if self.abandoned.fetch_add(1, Relaxed) >= MOST_ABANDONED {
            self.blame(Ending::Abuse);
            self.order(Order::Cut);
            self.interim.wake();
        }
    }

    pub(super) fn look(&self) -> Phase {
        let (served, written) = (self.served.load(Relaxed), self.written.load(Relaxed));
        let http2 = self.http2.load(Relaxed);
        if self.blocked.load(Relaxed) {
            return Phase::Stalled { written };
        }
        if self.in_flight.load(Relaxed) > 0 {
            return Phase::Busy;
        }
        match (self.heard.load(Relaxed), served) {
            (false, 0) => Phase::Silent,
            // Between requests, HTTP/2 peers still exchange pings and window updates.
            (true, served) if served == 0 || !http2 => Phase::Head { served, http2 },
            // At most a piece per stream is still to be taken, and a ping's answer is no sign that it is.
            _ if http2 => Phase::Idle { served, written: 0 },
            _ => Phase::Idle { served, written },
        }
    }

    /// Gives an order; a weaker one than what was given before changes nothing.
    pub(super) fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Relaxed);
    }

    pub(super) fn ordered(&self) -> Order {
        match self.order.load(Relaxed) {
            0 => Order::Serve,
            1 => Order::Close,
            2 => Order::Late,
            _ => Order::Cut,
        }
    }
}

/// One request in flight, from its head to the last byte of its answer handed to the connection.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    stage: Stage,
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Answering,
    Over,
}

impl InFlight {
    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The head of the answer is there: nothing interim may come any more.
    pub(super) fn answers(&mut self) {
        self.activity.interim.end();
        self.stage = Stage::Answering;
    }

    /// The whole answer was handed to the connection, or it broke off at the app's end.
    pub(super) fn is_over(&mut self) {
        self.stage = Stage::Over;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &*self.activity;
        // What was read meanwhile belonged to this request's body.
        activity.heard.store(false, Relaxed);
        activity.served.fetch_add(1, Relaxed);
        activity.in_flight.fetch_sub(1, Relaxed);
        if self.stage == Stage::Over {
            return activity.settled(true);
        }
        if self.stage == Stage::Waiting {
            activity.interim.end();
        }
        if activity.ordered() == Order::Cut {
            // It was not the client who gave up.
            return;
        }
        match self.stage {
            Stage::Waiting => activity.metrics.aborts_waiting.inc(),
            Stage::Answering | Stage::Over => activity.metrics.aborts_answer.inc(),
        }
        activity.settled(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Activity {
        let metrics = ServerMetrics::unexported().unwrap();
        Activity::new(Arc::new(metrics), Waker::noop().clone())
    }

    fn answered(activity: &Arc<Activity>) {
        activity.begin().is_over();
    }

    #[test]
    fn a_client_that_gives_up_all_it_asks_for_is_cut_over_http2_only() {
        let activity = Arc::new(fresh());
        for _ in 0..2 * MOST_ABANDONED {
            drop(activity.begin());
        }
        assert_eq!(activity.ordered(), Order::Serve);
        activity.is_http2();
        for _ in 0..2 * MOST_ABANDONED {
            drop(activity.begin());
            answered(&activity);
        }
        assert_eq!(activity.ordered(), Order::Serve, "as many are answered");
        for _ in 0..=MOST_ABANDONED {
            drop(activity.begin());
        }
        assert_eq!(activity.ordered(), Order::Cut);
        assert_eq!(activity.blamed(), Some(Ending::Abuse));
    }

    #[test]
    fn a_client_that_leaves_is_counted_once_and_where() {
        let activity = Arc::new(fresh());
        drop(activity.begin());
        let mut answering = activity.begin();
        answering.answers();
        drop(answering);
        answered(&activity);
        let metrics = activity.metrics();
        assert_eq!(metrics.aborts_waiting.get(), 1);
        assert_eq!(metrics.aborts_answer.get(), 1);
    }

    #[test]
    fn a_connection_goes_through_its_phases() {
        let activity = Arc::new(fresh());
        assert_eq!(activity.look(), Phase::Silent);
        activity.heard();
        assert_eq!(
            activity.look(),
            Phase::Head {
                served: 0,
                http2: false
            }
        );
        let request = activity.begin();
        activity.heard();
        assert_eq!(activity.look(), Phase::Busy);
        activity.wrote();
        drop(request);
        assert_eq!(
            activity.look(),
            Phase::Idle {
                served: 1,
                written: 1
            }
        );
        activity.blocked();
        assert_eq!(activity.look(), Phase::Stalled { written: 1 });
        activity.wrote();
        assert_eq!(
            activity.look(),
            Phase::Idle {
                served: 1,
                written: 2
            }
        );
        activity.heard();
        assert_eq!(
            activity.look(),
            Phase::Head {
                served: 1,
                http2: false
            }
        );
    }

    #[test]
    fn frames_between_http2_requests_are_not_a_head() {
        let activity = Arc::new(fresh());
        activity.is_http2();
        activity.heard();
        assert_eq!(
            activity.look(),
            Phase::Head {
                served: 0,
                http2: true
            }
        );
        drop(activity.begin());
        activity.heard();
        assert_eq!(
            activity.look(),
            Phase::Idle {
                served: 1,
                written: 0
            }
        );
    }

    #[test]
    fn orders_only_get_stronger() {
        let activity = fresh();
        activity.order(Order::Late);
        activity.order(Order::Close);
        assert_eq!(activity.ordered(), Order::Late);
        activity.order(Order::Cut);
        assert_eq!(activity.ordered(), Order::Cut);
    }
}
