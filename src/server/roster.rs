//! The open connections of one listener, and the sweep that looks at each of them once per tick.
//!
//! A connection joins with its waker, so that an order reaches it at once: the order is stored in its
//! [`Activity`] and its task is woken to read it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::time::Instant;

use super::Config;
use super::activity::{Activity, Order};
use super::deadlines::Deadlines;
use super::ending::Ending;

/// A handle on the roster.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    shared: Arc<Mutex<State>>,
}

/// Behind a mutex: taken once when a connection opens, once when it ends, and by the sweep; never while serving.
#[derive(Debug, Default)]
struct State {
    members: HashMap<u64, Member>,
    next: u64,
    draining: bool,
    cut: bool,
}

#[derive(Debug)]
struct Member {
    activity: Arc<Activity>,
    deadlines: Deadlines,
    waker: Waker,
}

impl Member {
    fn tell(&self, order: Order, cause: Ending) {
        if order != Order::Serve {
            self.activity.blame(cause);
            self.activity.order(order);
            self.waker.wake_by_ref();
        }
    }
}

impl Roster {
    /// Enters a connection until the membership is dropped. `waker` is that of the connection's own task.
    pub(super) fn join(
        &self,
        config: &Config,
        activity: Arc<Activity>,
        waker: Waker,
    ) -> Membership {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        if state.cut {
            activity.order(Order::Cut);
        }
        let deadlines = Deadlines::new(config, Instant::now());
        state.members.insert(
            id,
            Member {
                activity,
                deadlines,
                waker,
            },
        );
        Membership {
            roster: self.clone(),
            id,
        }
    }

    /// Looks at every connection and orders what its limits demand.
    pub(super) fn sweep(&self, now: Instant) {
        let mut state = self.lock();
        let draining = state.draining;
        for member in state.members.values_mut() {
            let order = member
                .deadlines
                .judge(member.activity.look(), draining, now);
            member.tell(order, member.deadlines.cause(draining));
            let stalled = member
                .activity
                .streams
                .sweep(now, member.deadlines.patience());
            member.activity.metrics().stalled_streams.inc_by(stalled);
        }
    }

    /// Starts the drain: every connection closes as soon as it has finished what runs.
    pub(super) fn drain(&self, now: Instant) {
        self.lock().draining = true;
        self.sweep(now);
    }

    /// Ends every connection, also those that join later; says how many there were.
    pub(super) fn cut(&self) -> usize {
        let mut state = self.lock();
        state.cut = true;
        for member in state.members.values() {
            member.tell(Order::Cut, Ending::Drain);
        }
        state.members.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the roster.
#[derive(Debug)]
pub(super) struct Membership {
    roster: Roster,
    id: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.roster.lock().members.remove(&self.id);
    }
}
