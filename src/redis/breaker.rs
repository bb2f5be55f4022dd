//! The circuit breaker: a Redis that does not answer costs a few deadlines, not one for every request.
//!
//! What flows in: how each command ended. What flows out: a permit, or nothing. Promise: after [`FAILURES`] failures in a
//! row nothing is let through for a while, then one command alone; if that fails too, the pause doubles, up to
//! [`LONGEST`]. Any success ends it. No clock of its own: `now` is handed in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::Instant;

/// Failures in a row that open it.
pub const FAILURES: u32 = 5;
/// The first pause.
pub const SHORTEST: Duration = Duration::from_millis(500);
/// No pause is longer.
pub const LONGEST: Duration = Duration::from_secs(5);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Breaker {
    /// A standard lock: held for a few comparisons, never across an await.
    state: Mutex<State>,
    gauge: IntGauge,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    failures: u32,
    /// Counts openings and closings. What was let through before the last one says nothing about now.
    round: u64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    /// Nothing passes before `until`.
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One command is on its way to find out.
    Probing {
        until: Instant,
        pause: Duration,
    },
}

/// Lets one command through. Dropped without a word (its caller went away), it says nothing.
#[derive(Debug)]
pub(super) struct Permit<'b> {
    breaker: &'b Breaker,
    round: u64,
    probe: bool,
}

impl Breaker {
    pub(super) fn new(gauge: IntGauge) -> Self {
        let state = Mutex::new(State {
            phase: Phase::Closed,
            failures: 0,
            round: 0,
        });
        Self { state, gauge }
    }

    /// Whether a command may go now.
    pub(super) fn admit(&self, now: Instant) -> Option<Permit<'_>> {
        let mut state = self.lock();
        let probe = match state.phase {
            Phase::Closed => false,
            Phase::Open { until, pause } if until <= now => {
                state.phase = Phase::Probing { until, pause };
                true
            }
            Phase::Open { .. } | Phase::Probing { .. } => return None,
        };
        Some(Permit {
            breaker: self,
            round: state.round,
            probe,
        })
    }

    /// There is a new connection: the pause is over, one command may try it.
    pub(super) fn try_again(&self, now: Instant) {
        let mut state = self.lock();
        if let Phase::Open { pause, .. } = state.phase {
            state.phase = Phase::Open { until: now, pause };
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.lock().phase, Phase::Closed)
    }

    fn open(&self, state: &mut State, until: Instant, pause: Duration) {
        state.phase = Phase::Open { until, pause };
        state.round += 1;
        self.gauge.set(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Redis answered.
    pub(super) fn answered(mut self) {
        self.probe = false;
        let mut state = self.breaker.lock();
        state.failures = 0;
        if !matches!(state.phase, Phase::Closed) {
            state.phase = Phase::Closed;
            state.round += 1;
            self.breaker.gauge.set(0);
        }
    }

    /// It did not.
    pub(super) fn failed(self, now: Instant) {
        let mut state = self.breaker.lock();
        if state.round != self.round {
            return;
        }
        match state.phase {
            Phase::Closed => {
                state.failures += 1;
                if state.failures >= FAILURES {
                    self.breaker.open(&mut state, now + SHORTEST, SHORTEST);
                }
            }
            Phase::Probing { pause, .. } => {
                let pause = (pause * 2).min(LONGEST);
                self.breaker.open(&mut state, now + pause, pause);
            }
            Phase::Open { .. } => {}
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.probe {
            return;
        }
        let mut state = self.breaker.lock();
        if let Phase::Probing { until, pause } = state.phase
            && state.round == self.round
        {
            state.phase = Phase::Open { until, pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Instant) {
        let gauge = IntGauge::new("open", "open").unwrap();
        (Breaker::new(gauge), Instant::now())
    }

    fn fail(breaker: &Breaker, now: Instant, times: u32) {
        for _ in 0..times {
            breaker.admit(now).expect("a permit").failed(now);
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (breaker, now) = breaker();
        fail(&breaker, now, FAILURES - 1);
        breaker.admit(now).unwrap().answered();
        fail(&breaker, now, FAILURES - 1);
        assert!(!breaker.is_open());
        fail(&breaker, now, 1);
        assert!(breaker.is_open() && breaker.gauge.get() == 1);
        assert!(breaker.admit(now).is_none());
    }

    #[test]
    fn one_probe_alone_goes_after_the_pause_and_its_success_closes_it() {
        let (breaker, now) = breaker();
        fail(&breaker, now, FAILURES);
        let now = now + SHORTEST;
        let probe = breaker.admit(now).expect("the probe");
        assert!(breaker.admit(now).is_none());
        probe.answered();
        assert!(!breaker.is_open() && breaker.gauge.get() == 0);
        fail(&breaker, now, FAILURES - 1);
        assert!(!breaker.is_open());
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (breaker, mut now) = breaker();
        fail(&breaker, now, FAILURES);
        for pause in [500, 1000, 2000, 4000, 5000, 5000].map(Duration::from_millis) {
            let just_before = now + pause - Duration::from_millis(1);
            assert!(breaker.admit(just_before).is_none(), "{pause:?}");
            now += pause;
            fail(&breaker, now, 1);
        }
    }

    #[test]
    fn a_probe_whose_caller_went_away_leaves_the_next_one_free() {
        let (breaker, now) = breaker();
        fail(&breaker, now, FAILURES);
        let now = now + SHORTEST;
        drop(breaker.admit(now).expect("the probe"));
        assert!(breaker.admit(now).is_some());
    }

    #[test]
    fn failures_of_commands_sent_before_it_closed_do_not_open_it_again() {
        let (breaker, now) = breaker();
        let late: Vec<_> = (0..FAILURES).filter_map(|_| breaker.admit(now)).collect();
        fail(&breaker, now, FAILURES);
        breaker.admit(now + SHORTEST).expect("the probe").answered();
        for permit in late {
            permit.failed(now + SHORTEST);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_new_connection_ends_the_pause_for_one_command() {
        let (breaker, now) = breaker();
        fail(&breaker, now, FAILURES);
        breaker.try_again(now);
        let probe = breaker.admit(now);
        assert!(probe.is_some() && breaker.admit(now).is_none());
    }
}
