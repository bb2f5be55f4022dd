//! The report: one line per run for people, and the same as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::checks::{reads_by_source, waits};
use crate::history::{Nanos, Source, millis};
use crate::run::Outcome;

const HEAD: [&str; 16] = [
    "mode",
    "redis",
    "faults",
    "seconds",
    "reads",
    "memory",
    "redis hits",
    "writes",
    "races",
    "stale",
    "worst ms",
    "excused",
    "wait p50/p99/max ms",
    "recovery s",
    "hits calm/healthy",
    "verdict",
];

/// The table of several runs.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut rows: Vec<Vec<String>> = vec![HEAD.iter().map(|it| (*it).to_owned()).collect()];
    rows.extend(outcomes.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What is wrong with a run, the kinds of it, and at most so many in full.
pub fn complaints(outcome: &Outcome, most: usize) -> String {
    let mut text = String::new();
    let violations = &outcome.verdict.violations;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in violations {
        *kinds.entry(violation.check).or_default() += 1;
    }
    if !kinds.is_empty() {
        let kinds: Vec<String> = kinds
            .iter()
            .map(|(check, count)| format!("{check} {count}"))
            .collect();
        text.push_str(&format!("  found: {}\n", kinds.join(", ")));
    }
    for violation in violations.iter().take(most) {
        text.push_str(&format!("  {}: {}\n", violation.check, violation.text));
    }
    if violations.len() > most {
        text.push_str(&format!("  ... and {} more\n", violations.len() - most));
    }
    for (why, count) in &outcome.verdict.vital.refused {
        text.push_str(&format!("  {count} x the proxy's own {why}\n"));
    }
    for (why, count) in &outcome.verdict.vital.broken {
        text.push_str(&format!("  {count} x no answer: {why}\n"));
    }
    if let Some(folder) = &outcome.folder {
        text.push_str(&format!("  logs: {}\n", folder.display()));
    }
    text
}

/// When what was broken, for whoever has to find out why.
pub fn faults(outcome: &Outcome) -> String {
    let spans = outcome.history.spans.iter().map(|span| {
        format!(
            "  {:8.3} s to {:8.3} s  {} {:?}\n",
            millis(span.from) / 1000.0,
            millis(span.to) / 1000.0,
            span.fault,
            span.struck
        )
    });
    spans.collect()
}

fn row(outcome: &Outcome) -> Vec<String> {
    let (plan, history, verdict) = (&outcome.plan, &outcome.history, &outcome.verdict);
    let from = reads_by_source(history);
    let waits = waits(history);
    let wait = |share| format!("{:.1}", millis(percentile(&waits, share)));
    let share =
        |ratio: Option<f64>| ratio.map_or("-".to_owned(), |it| format!("{:.0}%", it * 100.0));
    let recovery = verdict.vital.recovery;
    vec![
        plan.promise.as_str().to_owned(),
        format!("{} x{}", plan.shape.as_str(), plan.replicas),
        format!("{} x{}", shortened(&plan.faults), history.spans.len()),
        format!("{:.0}", millis(history.ended) / 1000.0),
        history.reads().count().to_string(),
        from(Source::Memory).to_string(),
        from(Source::Redis).to_string(),
        history.acknowledged().count().to_string(),
        history.races.to_string(),
        verdict.stale.to_string(),
        format!("{:.1}", millis(verdict.worst)),
        format!("{}/{}", verdict.excused, verdict.uncoordinated),
        format!("{}/{}/{}", wait(0.5), wait(0.99), wait(1.0)),
        recovery.map_or("-".to_owned(), |it| format!("{:.2}", millis(it) / 1000.0)),
        format!(
            "{}/{}",
            share(verdict.vital.calm_ratio),
            share(verdict.vital.healthy_ratio)
        ),
        match verdict.violations.len() {
            0 => "ok".to_owned(),
            count => format!("{count} VIOLATIONS"),
        },
    ]
}

fn shortened(faults: &str) -> String {
    match faults.split_once(',') {
        Some((first, _)) => format!("{first},.."),
        None => faults.to_owned(),
    }
}

/// One run as JSON: everything in the table, and more.
pub fn json(outcome: &Outcome) -> Value {
    let (plan, history, verdict) = (&outcome.plan, &outcome.history, &outcome.verdict);
    let from = reads_by_source(history);
    let waits = waits(history);
    let first: Vec<Value> = verdict
        .violations
        .iter()
        .take(100)
        .map(|it| json!({ "check": it.check, "text": it.text }))
        .collect();
    let spans: Vec<Value> = history
        .spans
        .iter()
        .map(|it| {
            json!({
                "fault": it.fault, "struck": format!("{:?}", it.struck),
                "from_ms": millis(it.from), "to_ms": millis(it.to),
            })
        })
        .collect();
    json!({
        "mode": plan.promise.as_str(),
        "redis": plan.shape.as_str(),
        "replicas": plan.replicas,
        "seed": plan.seed,
        "clients": plan.clients,
        "lease_ms": millis(u64::try_from(plan.lease.as_nanos()).unwrap_or(u64::MAX)),
        "ran_ms": millis(history.ended),
        "reads": history.reads().count(),
        "reads_from": {
            "memory": from(Source::Memory), "redis": from(Source::Redis),
            "shared": from(Source::Shared), "app": from(Source::App),
        },
        "app_reads": history.gets,
        "writes": history.acknowledged().count(),
        "races": history.races,
        "stale": verdict.stale,
        "stale_histogram": {
            "1ms": verdict.histogram[0], "10ms": verdict.histogram[1], "100ms": verdict.histogram[2],
            "1s": verdict.histogram[3], "more": verdict.histogram[4],
        },
        "worst_stale_ms": millis(verdict.worst),
        "uncoordinated": verdict.uncoordinated,
        "excused": verdict.excused,
        "write_wait_ms": {
            "p50": millis(percentile(&waits, 0.5)), "p99": millis(percentile(&waits, 0.99)),
            "max": millis(percentile(&waits, 1.0)),
        },
        "recovery_ms": verdict.vital.recovery.map(millis),
        "hit_ratio": { "calm": verdict.vital.calm_ratio, "healthy": verdict.vital.healthy_ratio },
        "refused": verdict.vital.refused,
        "broken": verdict.vital.broken,
        "faults": spans,
        "violations": verdict.violations.len(),
        "first_violations": first,
    })
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list"
)]
fn percentile(sorted: &[Nanos], share: f64) -> Nanos {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    let place = place.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or(0)
}
