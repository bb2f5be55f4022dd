//! When a connection has taken too long: a pure rule over two looks at it.

use std::time::Duration;

use tokio::time::Instant;

use super::Config;
use super::activity::{Order, Phase};
use super::ending::Ending;

/// What the sweep remembers of one connection between two ticks.
#[derive(Debug)]
pub(super) struct Deadlines {
    header: Duration,
    idle: Duration,
    phase: Phase,
    /// When `phase` was first seen.
    since: Instant,
    /// An order to close was given.
    closing: bool,
}

impl Deadlines {
    pub(super) fn new(config: &Config, opened: Instant) -> Self {
        Self {
            header: config.header_timeout,
            idle: config.idle_timeout,
            phase: Phase::Silent,
            since: opened,
            closing: false,
        }
    }

    /// Decides what the connection is to do, from what it is doing now.
    ///
    /// A drain closes at once, but gives a connection that has said nothing one more look: its first request may
    /// sit in the socket's buffer.
    pub(super) fn judge(&mut self, phase: Phase, draining: bool, now: Instant) -> Order {
        let unchanged = phase == self.phase;
        if !unchanged {
            (self.phase, self.since) = (phase, now);
        }
        let order = self.limit(now.saturating_duration_since(self.since));
        if order == Order::Serve
            && draining
            && !self.closing
            && (unchanged || phase != Phase::Silent)
        {
            self.closing = true;
            return Order::Close;
        }
        self.closing |= order == Order::Close;
        order
    }

    /// How long a client may take nothing of what waits for it.
    pub(super) const fn patience(&self) -> Duration {
        self.idle
    }

    /// The limit that the last order was given for.
    pub(super) const fn cause(&self, draining: bool) -> Ending {
        match self.phase {
            Phase::Stalled { .. } => Ending::SlowReader,
            _ if draining => Ending::Drain,
            Phase::Silent | Phase::Head { .. } => Ending::HeaderTimeout,
            Phase::Idle { .. } | Phase::Busy => Ending::IdleTimeout,
        }
    }

    fn limit(&self, elapsed: Duration) -> Order {
        let over = |limit, order| {
            if elapsed >= limit {
                order
            } else {
                Order::Serve
            }
        };
        match self.phase {
            Phase::Busy => Order::Serve,
            Phase::Silent => over(self.header, Order::Cut),
            // An HTTP/1 answer would be noise to a peer that speaks HTTP/2.
            Phase::Head { http2: true, .. } => over(self.header, Order::Cut),
            Phase::Head { .. } => match elapsed.checked_sub(self.header) {
                None => Order::Serve,
                // Not even the 408 was taken.
                Some(more) if more >= self.header => Order::Cut,
                Some(_) => Order::Late,
            },
            Phase::Stalled { .. } => over(self.idle, Order::Cut),
            Phase::Idle { .. } if self.closing => over(self.header.min(self.idle), Order::Cut),
            Phase::Idle { .. } => over(self.idle, Order::Close),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Phase = Phase::Idle {
        served: 1,
        written: 1,
    };
    const HEAD: Phase = Phase::Head {
        served: 0,
        http2: false,
    };
    const HEAD2: Phase = Phase::Head {
        served: 0,
        http2: true,
    };
    const STALLED: Phase = Phase::Stalled { written: 3 };

    #[test]
    fn each_phase_has_its_limit() {
        // (phase, seconds in it, what is ordered) with a header limit of 10 s and an idle limit of 75 s
        let table = [
            (Phase::Silent, 9, Order::Serve),
            (Phase::Silent, 10, Order::Cut),
            (HEAD, 9, Order::Serve),
            (HEAD, 10, Order::Late),
            (HEAD, 20, Order::Cut),
            (HEAD2, 10, Order::Cut),
            (IDLE, 74, Order::Serve),
            (IDLE, 75, Order::Close),
            (STALLED, 74, Order::Serve),
            (STALLED, 75, Order::Cut),
            (Phase::Busy, 100_000, Order::Serve),
        ];
        for (phase, seconds, expected) in table {
            let start = Instant::now();
            let mut deadlines = Deadlines::new(&Config::default(), start);
            deadlines.judge(phase, false, start);
            let order = deadlines.judge(phase, false, start + Duration::from_secs(seconds));
            assert_eq!(order, expected, "{phase:?} for {seconds} s");
        }
    }

    #[test]
    fn progress_starts_the_clock_again() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(&Config::default(), start);
        for tick in 0..50 {
            let phase = Phase::Stalled { written: tick };
            let order = deadlines.judge(phase, false, start + Duration::from_secs(60 * tick));
            assert_eq!(order, Order::Serve);
        }
    }

    #[test]
    fn a_trickled_head_does_not_start_the_clock_again() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(&Config::default(), start);
        let orders = (1..=11).map(|s| deadlines.judge(HEAD, false, start + Duration::from_secs(s)));
        assert_eq!(orders.last(), Some(Order::Late));
    }

    #[test]
    fn a_drain_closes_at_once_and_gives_a_silent_connection_one_more_look() {
        let start = Instant::now();
        let mut idle = Deadlines::new(&Config::default(), start);
        assert_eq!(idle.judge(IDLE, true, start), Order::Close);
        assert_eq!(
            idle.judge(IDLE, true, start + Duration::from_secs(10)),
            Order::Cut
        );

        let mut fresh = Deadlines::new(&Config::default(), start);
        fresh.judge(HEAD, false, start);
        assert_eq!(fresh.judge(Phase::Silent, true, start), Order::Serve);
        assert_eq!(fresh.judge(Phase::Silent, true, start), Order::Close);
    }
}
