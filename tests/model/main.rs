//! The model: the real core of coherence, taken through every order of events that a small world has, and through many
//! random ones of a larger world.
//!
//! What a seed does is the same each time: `MODEL_FROM=8286 MODEL_SEEDS=1` repeats one, and a large `MODEL_SEEDS` searches
//! for longer. A failure prints its seed and its steps.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "seeds come from the environment, and what a search came to is printed"
)]

mod found; // what was found so
mod mutant; // planted bugs
mod search; // every order of steps
mod tables; // what readers look at
mod walk; // random walks
mod world; // what there is, and what can happen

#[path = "../it/support/oracle.rs"]
#[expect(
    dead_code,
    reason = "the faults that only the scripts are compared under"
)]
mod oracle; // the log

use std::time::{Duration, Instant};

use reprise::coherence::replica::Timing;
use reprise::coherence::write::Promise;

use mutant::Mutant;
use walk::{Course, walk};
use world::{Budget, Figures, Setup};

/// How many seeds a planted bug may take.
const PATIENCE: u64 = 8000;

const fn course(promise: Promise, mutant: Option<Mutant>) -> Course {
    Course {
        promise,
        forward: !matches!(promise, Promise::Strict),
        mutant,
        steps: 600,
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Walks many seeds' ways.
fn stays_true(course: Course, seeds: u64) {
    let from = setting("MODEL_FROM").unwrap_or(0);
    let seeds = setting("MODEL_SEEDS").unwrap_or(seeds);
    let began = Instant::now();
    let mut total = Figures::default();
    for seed in from..from + seeds {
        let walked = walk(seed, course, false);
        total.add(walked.figures);
        if let Some(broken) = walked.broken {
            panic!("{course:?}: {broken}");
        }
    }
    println!(
        "{course:?}: {seeds} seeds, {total:?}, {:?}",
        began.elapsed()
    );
    // Whoever never serves from a cache is never stale either.
    assert!(seeds < 100 || (total.hits > seeds && total.acked > seeds));
}

#[test]
fn no_replica_serves_what_an_answered_write_has_dropped() {
    stays_true(course(Promise::Strong, None), 1200);
}

#[test]
fn a_write_that_may_be_refused_is_never_missed() {
    let refusing = Course {
        forward: false,
        ..course(Promise::Strong, None)
    };
    stays_true(refusing, 400);
}

#[test]
fn no_strict_read_goes_back_in_time() {
    stays_true(course(Promise::Strict, None), 800);
}

#[test]
fn bounded_readers_lag_by_no_more_than_a_lease() {
    stays_true(course(Promise::Bounded, None), 400);
}

/// Announcements buy speed, and cover a writer's death; what a strong write promises does not need them.
#[test]
fn without_announcements_answered_writes_are_still_seen() {
    stays_true(course(Promise::Strong, Some(Mutant::NoIntents)), 600);
}

#[test]
fn every_planted_bug_is_caught() {
    let missed = std::thread::scope(|scope| {
        let workers: Vec<_> = [0, 1]
            .map(|half| scope.spawn(move || missed(Mutant::ALL.into_iter().skip(half).step_by(2))))
            .into();
        let missed = workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("walks do not panic"));
        missed.collect::<Vec<_>>()
    });
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// Those of the planted bugs that no walk shows.
fn missed(mutants: impl Iterator<Item = Mutant>) -> Vec<Mutant> {
    mutants
        .filter(|mutant| {
            let promise = match mutant {
                Mutant::NoQuarantine => Promise::Strict,
                _ => Promise::Strong,
            };
            let course = course(promise, Some(*mutant));
            let began = Instant::now();
            let caught = (0..PATIENCE).find_map(|seed| {
                walk(seed, course, false)
                    .broken
                    .map(|broken| (seed, broken))
            });
            if let Some((seed, broken)) = &caught {
                let steps = broken.lines().count() - 1;
                println!(
                    "{mutant:?}: seed {seed}, {steps} steps, {:?}",
                    began.elapsed()
                );
            }
            caught.is_none()
        })
        .collect()
}

/// Two replicas and one write of which every order of events is looked at, as far as the limit reaches.
fn every_order(budget: Budget, limit: u64) {
    let lease = Duration::from_micros(2);
    let setup = Setup {
        replicas: 2,
        promise: Promise::Strong,
        forward: true,
        timing: Timing {
            lease,
            every: lease / 2,
            quarantine: lease * 3,
        },
        ttl: lease,
        mutant: None,
        small: true,
        until: world::DAWN + Duration::from_micros(setting("MODEL_TICKS").unwrap_or(4)),
        eager: false,
        skew: 0,
    };
    let limit = setting("MODEL_STATES").unwrap_or(limit);
    let began = Instant::now();
    let budget = Budget {
        writes: 1,
        ..budget
    };
    let searched = search::search(setup, budget, usize::try_from(limit).expect("small"));
    println!("{budget:?}: {searched:?}, {:?}", began.elapsed());
    assert_eq!(searched.broken, None);
}

#[test]
fn every_order_of_one_write_is_safe() {
    every_order(Budget::default(), 20_000);
}

#[test]
fn every_order_of_one_write_and_one_crash_is_safe() {
    let crashes = 1;
    every_order(
        Budget {
            crashes,
            ..Budget::default()
        },
        20_000,
    );
}

#[test]
fn every_order_of_one_write_and_one_outage_is_safe() {
    let outages = 1;
    every_order(
        Budget {
            outages,
            ..Budget::default()
        },
        20_000,
    );
}

#[test]
fn every_order_of_one_write_and_one_new_epoch_is_safe() {
    let restarts = 1;
    every_order(
        Budget {
            restarts,
            ..Budget::default()
        },
        20_000,
    );
}
