//! Since when a version is out of date: the first moment at which somebody was told of a newer one.

use std::collections::HashMap;

use crate::history::{Nanos, Op, Seen};

/// Per register: versions in ascending order, each with the earliest moment at which it *or a later one* was known.
#[derive(Debug, Default)]
pub struct Overdue(HashMap<usize, Vec<(u64, Nanos)>>);

impl Overdue {
    /// What these operations let their clients know, each at its completion.
    pub fn after<'a>(ops: impl Iterator<Item = &'a Op>) -> Self {
        Self::since(ops.flat_map(|op| {
            let seen = op.seen.iter();
            seen.map(move |seen| (seen.register, seen.version, op.complete))
        }))
    }

    /// Register, version, and when it was known.
    pub fn since(all: impl Iterator<Item = (usize, u64, Nanos)>) -> Self {
        let mut registers: HashMap<usize, Vec<(u64, Nanos)>> = HashMap::new();
        for (register, version, at) in all {
            registers.entry(register).or_default().push((version, at));
        }
        for known in registers.values_mut() {
            known.sort_unstable();
            let mut earliest = Nanos::MAX;
            for (_, at) in known.iter_mut().rev() {
                earliest = earliest.min(*at);
                *at = earliest;
            }
        }
        Self(registers)
    }

    /// How long this version had been out of date at a moment; none when it was not.
    pub fn by(&self, seen: Seen, at: Nanos) -> Option<Nanos> {
        let known = self.0.get(&seen.register)?;
        let newer = known.partition_point(|(version, _)| *version <= seen.version);
        let (_, since) = known.get(newer)?;
        at.checked_sub(*since).filter(|late| *late > 0)
    }
}
