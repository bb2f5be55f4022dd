//! Checker 4: a cache that never answers is never stale. Whether this one was alive, came back after each fault, held no
//! write up for too long and lost no answer.

use std::collections::BTreeMap;

use super::{Promise, Rules, Violation};
use crate::history::{End, Harm, History, Kind, Nanos, Op, Source, Span, Struck, millis, nanos};

/// The signs of life of a run.
#[derive(Clone, Debug, Default)]
pub struct Vital {
    pub violations: Vec<Violation>,
    /// Share of reads answered from cache before the first fault, and in healthy times after it.
    pub calm_ratio: Option<f64>,
    pub healthy_ratio: Option<f64>,
    /// The longest time in which the ratio came back to half of what it was.
    pub recovery: Option<Nanos>,
    /// Errors of the proxy's own, by what it said.
    pub refused: BTreeMap<String, usize>,
    /// Answers that never came, by the client's words.
    pub broken: BTreeMap<String, usize>,
}

/// Fewer reads than this say nothing about a ratio.
const ENOUGH: usize = 30;

/// The ratio is looked at in steps of this.
const STEP: Nanos = 250_000_000;

impl Vital {
    pub(super) fn of(history: &History, rules: &Rules) -> Self {
        let mut vital = Self::default();
        vital.ratios(history, rules);
        vital.tiers(history, rules);
        vital.recoveries(history, rules);
        vital.delays(history, rules);
        vital.answers(history, rules);
        vital
    }

    fn violate(&mut self, check: &'static str, text: String) {
        self.violations.push(Violation { check, text });
    }

    fn ratios(&mut self, history: &History, rules: &Rules) {
        let calm = |op: &&Op| op.invoke >= history.warm && op.complete < history.calm;
        self.calm_ratio = ratio(history.reads().filter(calm));
        let recovery = rules.recovery();
        let healthy = |op: &&Op| {
            op.invoke >= history.calm
                && history.is_healthy(op.invoke, recovery)
                && op.invoke > history.orphaned_until(op.invoke, rules)
        };
        self.healthy_ratio = ratio(history.reads().filter(healthy));
        match (self.calm_ratio, self.healthy_ratio) {
            (None, _) => self.violate("alive", "hardly any reads before the first fault".into()),
            (Some(calm), _) if calm < 0.15 => {
                self.violate(
                    "alive",
                    format!("{:.0} % hits without any fault", calm * 100.0),
                );
            }
            (Some(calm), Some(healthy)) if healthy < calm / 2.0 => {
                let text = format!(
                    "{:.0} % hits in healthy times, {:.0} % before the first fault",
                    healthy * 100.0,
                    calm * 100.0
                );
                self.violate("alive", text);
            }
            (Some(_), _) => {}
        }
    }

    fn tiers(&mut self, history: &History, rules: &Rules) {
        let from = reads_by_source(history);
        if from(Source::Memory) == 0 {
            self.violate("alive", "not one hit in memory".into());
        }
        // What one replica stores the others find: a few hits would be their own entries, met again after a restart.
        let shared = rules.shared && rules.replicas > 1;
        if shared && from(Source::Redis) < history.reads().count() / 100 {
            let text = format!("only {} hits in Redis", from(Source::Redis));
            self.violate("alive", text);
        }
        if rules.shared && !history.log_found {
            let text = "Redis has no shared log by the name that faults would strike";
            self.violate("alive", text.into());
        }
        let wanted = (history.acknowledged().count() / 20).min(1000) as u64;
        if history.races < wanted {
            let text = format!(
                "{} races between a fill and a write of the same register; {wanted} would prove something",
                history.races
            );
            self.violate("alive", text);
        }
    }

    /// How soon the hits came back after each fault that was followed by enough peace to tell.
    fn recoveries(&mut self, history: &History, rules: &Rules) {
        let Some(calm) = self.calm_ratio else { return };
        let usual = rules.recovery();
        let mut reads: Vec<&Op> = history.reads().collect();
        reads.sort_unstable_by_key(|read| read.invoke);
        for (span, peace) in history.peaces() {
            let limit = usual.max(history.orphaned_until(span, rules).saturating_sub(span));
            if peace < span + limit + STEP {
                continue;
            }
            let back = steps(span, peace).find(|from| {
                let first = reads.partition_point(|read| read.invoke < *from);
                let last = reads.partition_point(|read| read.invoke < from + 2 * STEP);
                ratio(reads[first..last].iter().copied()).is_some_and(|ratio| ratio >= calm / 2.0)
            });
            let took = back.map_or(peace - span, |from| from - span);
            self.recovery = Some(self.recovery.unwrap_or(0).max(took));
            if took > limit {
                let text = format!(
                    "{:.1} s after the fault that ended at {:.1} s, hits have not come back ({})",
                    millis(took) / 1000.0,
                    millis(span) / 1000.0,
                    what_they_were_told(&reads, span + limit, peace)
                );
                self.violate("recovery", text);
            }
        }
    }

    fn delays(&mut self, history: &History, rules: &Rules) {
        for op in history.acknowledged() {
            if stood_still(history, op) {
                continue;
            }
            let mut spans = history.spans.iter();
            let healthy = !spans.any(|span| op.overlaps(span, rules.recovery()));
            let limit = rules.patience(healthy);
            let wait = (op.complete - op.invoke).saturating_sub(op.app);
            if wait > limit {
                let text = format!(
                    "write {} through replica {} at {:.1} s waited {:.0} ms beside the app ({})",
                    op.id,
                    op.replica,
                    millis(op.invoke) / 1000.0,
                    millis(wait),
                    op.told
                );
                self.violate("delay", text);
            }
        }
    }

    /// Without Redis the proxy is a proxy: it answers.
    fn answers(&mut self, history: &History, rules: &Rules) {
        for op in &history.ops {
            let (label, status) = match &op.end {
                End::Answered { .. } | End::Abandoned => continue,
                End::Refused { status, why } => (format!("{status} {why}"), Some(*status)),
                End::Broken(why) => (why.clone(), None),
            };
            let tally = if status.is_some() {
                &mut self.refused
            } else {
                &mut self.broken
            };
            *tally.entry(label.clone()).or_default() += 1;
            let strict = rules.promise == Promise::Strict && rules.shared;
            let expected = match status {
                Some(503) if strict && op.kind == Kind::Write => true,
                // A replica that stood still wakes to deadlines that are over.
                Some(502 | 504) => op.unanswered || stood_still(history, op),
                Some(_) => false,
                None => stood_still(history, op),
            };
            if !expected {
                let text = format!(
                    "{:?} {} through replica {} at {:.1} s got no answer of the app: {label}",
                    op.kind,
                    op.id,
                    op.replica,
                    millis(op.invoke) / 1000.0
                );
                self.violate("answers", text);
            }
        }
    }
}

impl History {
    /// Until when a replica that was killed before this moment may have left an announcement behind: one of a whole class
    /// keeps everything uncached until it expires, as it must.
    fn orphaned_until(&self, at: Nanos, rules: &Rules) -> Nanos {
        let killed = |span: &&Span| span.fault == "kill-replica" && span.from <= at;
        let ends = self.spans.iter().filter(killed).map(|span| span.from);
        ends.max()
            .map_or(0, |from| from + nanos(rules.expiry()) + 2_500_000_000)
    }

    /// The end of each fault, and how long nothing else was broken after it.
    fn peaces(&self) -> Vec<(Nanos, Nanos)> {
        let peace = |end: Nanos| {
            let others = self.spans.iter().filter(|other| other.to > end);
            others.map(|other| other.from).min().unwrap_or(self.ended)
        };
        let ends = self.spans.iter().map(|span| span.to);
        ends.map(|end| (end, peace(end)))
            .filter(|(end, peace)| peace > end)
            .collect()
    }
}

/// How many reads came from where.
pub fn reads_by_source(history: &History) -> impl Fn(Source) -> usize {
    let mut counts = [0; 4];
    for read in history.reads() {
        if let End::Answered { source, .. } = read.end {
            counts[source as usize] += 1;
        }
    }
    move |source| counts[source as usize]
}

/// How long each acknowledged write took beside the app, in ascending order.
pub fn waits(history: &History) -> Vec<Nanos> {
    let writes = history
        .acknowledged()
        .filter(|op| !stood_still(history, op));
    let mut waits: Vec<Nanos> = writes
        .map(|op| (op.complete - op.invoke).saturating_sub(op.app))
        .collect();
    waits.sort_unstable();
    waits
}

/// Whether the replica that was asked was dead or stood still meanwhile. A second more: the client's idle connections die
/// with the replica, and some are noticed only when they are used.
fn stood_still(history: &History, op: &Op) -> bool {
    history.spans.iter().any(|span| {
        span.harm == Harm::Process
            && span.struck == Struck::Replica(op.replica)
            && op.overlaps(span, 1_000_000_000)
    })
}

/// What most reads of a time were told, as far as it does not differ from one to the other.
fn what_they_were_told(reads: &[&Op], from: Nanos, to: Nanos) -> String {
    let mut told: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    let within = |read: &&&Op| (from..to).contains(&read.invoke);
    for read in reads.iter().filter(within) {
        *told.entry((read.replica, &read.told)).or_default() += 1;
    }
    let mut told: Vec<_> = told.into_iter().collect();
    told.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
    let most = told.iter().take(6);
    let most = most.map(|((replica, told), count)| format!("{count} x replica {replica}: {told}"));
    most.collect::<Vec<_>>().join(", ")
}

fn steps(from: Nanos, to: Nanos) -> impl Iterator<Item = Nanos> {
    (0..)
        .map(move |step| from + step * STEP)
        .take_while(move |at| at + 2 * STEP <= to)
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn ratio<'a>(reads: impl Iterator<Item = &'a Op>) -> Option<f64> {
    let (mut hits, mut all) = (0_usize, 0_usize);
    for read in reads {
        let stored = matches!(
            read.end,
            End::Answered {
                source: Source::Memory | Source::Redis,
                ..
            }
        );
        hits += usize::from(stored);
        all += 1;
    }
    (all >= ENOUGH).then(|| hits as f64 / all as f64)
}
