//! The checkers: pure functions from a [`History`] to what is wrong with it.
//!
//! Versions are known, so nothing is searched for: each check is a sort and one look per read, and it is exact.

mod forgotten;
mod future;
mod overdue;
mod proofs;
mod vital;

use std::time::Duration;

use reprise::coherence::replica::Timing;

use clap::ValueEnum;

pub use overdue::Overdue;
pub use proofs::prove;
pub use vital::{Vital, reads_by_source, waits};

use crate::history::{History, Nanos, Op, Seen, millis, nanos};

/// What the replicas promise.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Promise {
    /// Linearizable.
    Strict,
    /// Never stale after the acknowledgement.
    Strong,
    /// Stale for a lease at most.
    Bounded,
}

impl Promise {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Strong => "strong",
            Self::Bounded => "bounded",
        }
    }
}

/// What a busy machine may take for something that takes no time. Only delays are forgiven it, no staleness.
const SLACK: Nanos = 2_000_000_000;

/// What a history is held against.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub promise: Promise,
    pub lease: Duration,
    pub upstream: Duration,
    pub intent_ttl: Duration,
    pub replicas: usize,
    /// Whether there is a Redis: two tiers, then.
    pub shared: bool,
}

impl Rules {
    /// The oldest that a bounded read may be: clocks may differ by a fiftieth, and the two ends of the measurement lie in
    /// other processes.
    fn bound(&self) -> Nanos {
        nanos(self.lease) / 50 * 51 + 100_000_000
    }

    /// How long after its announcement a write whose end nobody saw is dropped.
    pub fn expiry(&self) -> Duration {
        if self.shared {
            Timing::new(self.lease, self.intent_ttl).quarantine
        } else {
            self.intent_ttl
        }
    }

    /// How long a strict replica stores nothing after it first met a log.
    pub fn quarantine(&self) -> Duration {
        match self.promise {
            Promise::Strict if self.shared => self.expiry(),
            Promise::Strict | Promise::Strong | Promise::Bounded => Duration::ZERO,
        }
    }

    /// How long after a fault the cache may still be cold.
    pub fn recovery(&self) -> Nanos {
        5_000_000_000 + nanos(self.quarantine())
    }

    /// How long a write may wait beside the app. Under a fault it may have to wait for the end of the leases before it, and
    /// again after it, strict ones also for everybody's word that they know, and each of its commands for its deadline.
    fn patience(&self, healthy: bool) -> Nanos {
        let lease = nanos(self.lease) / 50 * 51;
        match (healthy, self.promise) {
            (true, _) => lease + SLACK,
            (false, Promise::Strict) => 3 * lease + 1_000_000_000 + SLACK,
            (false, Promise::Strong | Promise::Bounded) => 2 * lease + 1_000_000_000 + SLACK,
        }
    }
}

/// Something that must not be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Which promise is broken.
    pub check: &'static str,
    pub text: String,
}

/// What the checkers say of a run.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    /// Reads older than an acknowledged write, whether that is allowed or not.
    pub stale: usize,
    /// The oldest of them.
    pub worst: Nanos,
    /// How old they were: up to 1 ms, 10 ms, 100 ms, 1 s, and older.
    pub histogram: [usize; 5],
    /// Acknowledged writes that the promise does not cover.
    pub excused: usize,
    pub uncoordinated: usize,
    pub vital: Vital,
}

/// Holds a history against the rules.
pub fn check(history: &History, rules: &Rules) -> Verdict {
    let covered = || {
        history
            .acknowledged()
            .filter(|op| !history.is_excused(op))
            .collect::<Vec<_>>()
    };
    let writes = covered();
    let acked = Overdue::after(writes.iter().copied());
    let vital = Vital::of(history, rules);
    let mut verdict = Verdict {
        violations: Vec::new(),
        stale: 0,
        worst: 0,
        histogram: [0; 5],
        excused: history.acknowledged().count() - writes.len(),
        uncoordinated: history.acknowledged().filter(|op| op.uncoordinated).count(),
        vital,
    };
    stale_reads(history, rules, &acked, &mut verdict);
    match rules.promise {
        Promise::Strong => {}
        Promise::Strict => {
            let seen = Overdue::after(writes.into_iter().chain(history.reads()));
            inversions(history, &acked, &seen, &mut verdict);
        }
        Promise::Bounded => own_writes(history, rules, &writes, &mut verdict),
    }
    future::check(history, &mut verdict);
    forgotten::check(history, rules, &mut verdict);
    verdict
        .violations
        .extend(verdict.vital.violations.iter().cloned());
    verdict
}

/// Checkers 1 and 3: how long before a read began was a newer version acknowledged?
fn stale_reads(history: &History, rules: &Rules, acked: &Overdue, verdict: &mut Verdict) {
    for (read, seen) in each_seen(history) {
        let Some(late) = acked.by(seen, read.invoke) else {
            continue;
        };
        verdict.stale += 1;
        verdict.worst = verdict.worst.max(late);
        let slots = [1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
        let slot = slots.iter().take_while(|slot| late > **slot).count();
        verdict.histogram[slot] += 1;
        let bounded = rules.promise == Promise::Bounded;
        if !bounded || late > rules.bound() {
            let check = if bounded { "bounded" } else { "stale" };
            let text = format!(
                "{}, but a newer one was acknowledged {:.3} ms before it was asked for",
                told(read, seen),
                millis(late)
            );
            verdict.violations.push(Violation { check, text });
        }
    }
}

/// Checker 2, what it adds to the first: whatever one reader has seen, no later one may see less.
fn inversions(history: &History, acked: &Overdue, seen_by: &Overdue, verdict: &mut Verdict) {
    for (read, seen) in each_seen(history) {
        let known = acked.by(seen, read.invoke).is_some();
        if let Some(late) = seen_by.by(seen, read.invoke).filter(|_| !known) {
            let text = format!(
                "{}, but somebody had seen a newer one {:.3} ms before it was asked for",
                told(read, seen),
                millis(late)
            );
            verdict.violations.push(Violation {
                check: "linearizable",
                text,
            });
        }
    }
}

/// Checker 3, what it adds: the replica that took a write knows of it at once.
fn own_writes(history: &History, rules: &Rules, writes: &[&Op], verdict: &mut Verdict) {
    for replica in 0..rules.replicas {
        let own = writes.iter().filter(|op| op.replica == replica).copied();
        let acked = Overdue::after(own);
        for (read, seen) in each_seen(history).filter(|(read, _)| read.replica == replica) {
            if let Some(late) = acked.by(seen, read.invoke) {
                let text = format!(
                    "{}, but this replica itself acknowledged a newer one {:.3} ms before",
                    told(read, seen),
                    millis(late)
                );
                verdict.violations.push(Violation {
                    check: "own-write",
                    text,
                });
            }
        }
    }
}

fn each_seen(history: &History) -> impl Iterator<Item = (&Op, Seen)> {
    history
        .reads()
        .flat_map(|read| read.seen.iter().map(move |seen| (read, *seen)))
}

/// A read, for messages.
fn told(read: &Op, seen: Seen) -> String {
    format!(
        "read {} through replica {} at {:.3} ms saw version {} of register {} ({})",
        read.id,
        read.replica,
        millis(read.invoke),
        seen.version,
        seen.register,
        read.told
    )
}
