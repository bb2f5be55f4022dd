//! Exhaustive search: every order of steps of a small world, breadth first, up to a number of states.
//!
//! What flows in: a setup and a budget. What flows out: how many states there were, or the shortest way to a broken
//! promise. The replicas have joined and hold leases when the search begins.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::tables::Twin;
use crate::world::{Budget, Setup, Step, World};

/// What a search came to.
#[derive(Debug)]
pub struct Searched {
    pub states: usize,
    pub depth: usize,
    /// Whether nothing was left to look at.
    pub whole: bool,
    /// What was broken, and the steps that led there.
    pub broken: Option<String>,
}

/// Looks at every state that can be reached, or at the nearest `limit` of them.
pub fn search(setup: Setup, budget: Budget, limit: usize) -> Searched {
    let mut begun = begin(setup);
    begun.budget = budget;
    let mut seen = HashSet::from([digest(&begun)]);
    // Every state's parent, to tell the way; worlds only while they wait.
    let mut ways: Vec<(usize, Option<Step>, usize)> = vec![(0, None, 0)];
    let mut waiting = VecDeque::from([(0, begun.clone())]);
    let mut steps = Vec::new();
    let mut searched = Searched {
        states: 0,
        depth: 0,
        whole: false,
        broken: None,
    };
    while let Some((at, world)) = waiting.pop_front() {
        searched.depth = ways[at].2;
        steps.clear();
        world.steps(&mut steps);
        for step in steps.iter().copied() {
            let mut next = world.clone();
            next.take(step);
            if !seen.insert(digest(&next)) {
                continue;
            }
            ways.push((at, Some(step), searched.depth + 1));
            searched.states = seen.len();
            if next.broken.is_some() {
                searched.broken = Some(tell(begun, &ways, ways.len() - 1));
                return searched;
            }
            waiting.push_back((ways.len() - 1, next));
        }
        if seen.len() > limit {
            return searched;
        }
    }
    searched.whole = true;
    searched
}

/// A world whose replicas all hold leases.
fn begin(setup: Setup) -> World<Twin> {
    let mut world: World<Twin> = World::new(setup, Budget::default());
    let mut steps = Vec::new();
    while !world.is_calm() {
        steps.clear();
        world.steps(&mut steps);
        let busy = |step: &&Step| {
            matches!(
                step,
                Step::Execute(_) | Step::Reply(_) | Step::Tick(_) | Step::Ring(..)
            )
        };
        let step = steps.iter().find(busy).or(steps.first());
        world.take(*step.expect("time can pass"));
    }
    world
}

fn digest(world: &World<Twin>) -> (u64, u64) {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        world.hash(&mut hasher);
        hasher.finish()
    };
    (half(0), half(1))
}

/// The steps from the beginning to a state.
fn tell(mut world: World<Twin>, ways: &[(usize, Option<Step>, usize)], mut at: usize) -> String {
    let mut steps = Vec::new();
    while let (before, Some(step), _) = ways[at] {
        steps.push(step);
        at = before;
    }
    let mut told = String::new();
    for step in steps.into_iter().rev() {
        told += &format!("\n  {}", world.describe(step));
        world.take(step);
    }
    format!("{}{told}", world.broken.unwrap_or_default())
}
