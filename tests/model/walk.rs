//! Random walks: a seed says what the world is like, and then which of its possible steps it takes.
//!
//! What flows in: a seed. What flows out: figures, or the first broken promise with the steps that led to it. Every seed
//! draws its own odds, so that some worlds lose many messages, some crash a lot, and some have no fault at all.

use std::time::Duration;

use reprise::coherence::replica::Timing;
use reprise::coherence::view::View;
use reprise::coherence::write::Promise;

use crate::mutant::Mutant;
use crate::world::{Budget, DAWN, Figures, Setup, Step, World};

/// A small random number generator (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick(&mut self, of: &[u32]) -> u32 {
        of[usize::try_from(self.below(of.len() as u64)).expect("small")]
    }
}

/// What a walk came to.
pub struct Walked {
    pub figures: Figures,
    /// What was broken, and the steps that led there.
    pub broken: Option<String>,
}

/// What walks may differ in.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub promise: Promise,
    /// Whether messages may be lost and replicas cut off, one by one.
    pub forward: bool,
    pub mutant: Option<Mutant>,
    pub steps: u32,
}

/// How likely each kind of step is, from what is drawn.
fn odds(dice: &mut Dice) -> [u32; Step::KINDS] {
    let mut odds = [0; Step::KINDS];
    for (kind, odds) in odds.iter_mut().enumerate() {
        *odds = match kind {
            // Time.
            0 => dice.pick(&[1, 3, 10, 30]),
            // What goes on by itself.
            1..=4 => dice.pick(&[20, 60, 100, 200]),
            7 => dice.pick(&[0, 20, 100]),
            8 => dice.pick(&[0, 5, 50]),
            10..=12 => dice.pick(&[10, 50, 100]),
            9 => dice.pick(&[2, 6, 20]),
            5 | 6 | 13..=16 => dice.pick(&[0, 3, 20]),
            20 | 22 => dice.pick(&[1, 3, 10]),
            _ => dice.pick(&[0, 1, 4]),
        };
    }
    odds
}

fn world(dice: &mut Dice, course: Course) -> World<View> {
    let lease = Duration::from_secs(1);
    let ttl = lease * dice.pick(&[1, 2, 3]);
    let setup = Setup {
        replicas: usize::try_from(dice.pick(&[2, 2, 3, 3, 4, 5])).expect("small"),
        promise: course.promise,
        forward: course.forward,
        timing: Timing::new(lease, ttl),
        ttl,
        mutant: course.mutant,
        small: false,
        eager: course.promise != Promise::Strict && dice.below(3) == 0,
        until: DAWN + Duration::from_hours(1),
        skew: 5,
    };
    let budget = Budget {
        writes: dice.pick(&[3, 8, 20]),
        timeouts: dice.pick(&[0, 2, 10, 50]),
        crashes: dice.pick(&[0, 1, 4]),
        leaves: dice.pick(&[0, 0, 1, 3]),
        outages: dice.pick(&[0, 1, 3]),
        cuts: dice.pick(&[0, 0, 2]),
        restarts: dice.pick(&[0, 0, 1, 3]),
        losses: dice.pick(&[0, 0, 1, 4]),
    };
    let (mut setup, mut budget) = (setup, budget);
    if let Some(mutant) = course.mutant {
        focus(mutant, &mut setup, &mut budget);
    }
    World::new(setup, budget)
}

/// What a planted bug needs to show itself soon. None of it is anything that other walks do not do.
fn focus(mutant: Mutant, setup: &mut Setup, budget: &mut Budget) {
    let calm = Budget {
        writes: 20,
        ..Budget::default()
    };
    match mutant {
        Mutant::NoSecondWait => {
            setup.eager = true;
            *budget = calm;
        }
        Mutant::ReapAtOnce | Mutant::FastClock => *budget = calm,
        Mutant::LeaveKeepsLease => *budget = Budget { leaves: 2, ..calm },
        Mutant::NoWitness => {
            setup.replicas = 3;
            *budget = Budget {
                outages: 3,
                crashes: 2,
                ..calm
            };
        }
        Mutant::LateReadingCounts => {
            setup.replicas = 2;
            *budget = Budget { outages: 9, ..calm };
        }
        Mutant::CloseIgnoresEpoch | Mutant::EarlyRelease | Mutant::NoQuarantine => {
            *budget = Budget {
                restarts: 3,
                ..calm
            };
        }
        _ => {}
    }
}

/// Walks one seed's way.
pub fn walk(seed: u64, course: Course, traced: bool) -> Walked {
    let mut dice = Dice(seed);
    let mut world = world(&mut dice, course);
    let mut odds = odds(&mut dice);
    if course.mutant == Some(Mutant::LateReadingCounts) {
        // The log is out of reach for longer than a lease, while a reading waits in the network.
        for (kind, likely) in [
            (0, 12),
            (5, 4),
            (9, 3),
            (11, 200),
            (12, 200),
            (19, 6),
            (20, 8),
        ] {
            odds[kind] = likely;
        }
    }
    let mut trace = Vec::new();
    let mut steps = Vec::new();
    for _ in 0..course.steps {
        steps.clear();
        world.steps(&mut steps);
        let total: u64 = steps.iter().map(|step| u64::from(odds[step.kind()])).sum();
        if total == 0 {
            break;
        }
        let mut drawn = dice.below(total);
        let step = steps.iter().copied().find(|step| {
            let odds = u64::from(odds[step.kind()]);
            let found = drawn < odds;
            drawn = drawn.saturating_sub(odds);
            found
        });
        let Some(step) = step else { break };
        if traced {
            trace.push(world.describe(step));
        }
        world.take(step);
        if world.broken.is_some() {
            break;
        }
    }
    let broken = world.broken.map(|broken| {
        if traced {
            format!("seed {seed}: {broken}\n  {}", trace.join("\n  "))
        } else {
            walk(seed, course, true).broken.unwrap_or(broken)
        }
    });
    Walked {
        figures: world.figures,
        broken,
    }
}
