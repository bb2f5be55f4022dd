//! What one connection is doing, written on the hot path and read by the sweep.
//!
//! All stores are relaxed: the sweep compares what it sees with what it saw a tick ago, so a value that arrives
//! late costs at most one tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
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
        InFlight(Arc::clone(self))
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
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        // What was read meanwhile belonged to this request's body.
        self.0.heard.store(false, Relaxed);
        self.0.served.fetch_add(1, Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_through_its_phases() {
        let activity = Arc::new(Activity::default());
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
        let activity = Arc::new(Activity::default());
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
        let activity = Activity::default();
        activity.order(Order::Late);
        activity.order(Order::Close);
        assert_eq!(activity.ordered(), Order::Late);
        activity.order(Order::Cut);
        assert_eq!(activity.ordered(), Order::Cut);
    }
}
