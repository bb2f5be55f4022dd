//! Writes that nobody was told of: the replica died, the app was too late, the client had left. Nothing says when others
//! must see them, but they must at the latest when the announcement of the write expires, and not only with the ttl.

use super::{Overdue, Promise, Rules, Verdict, Violation, each_seen, told};
use crate::history::{Harm, History, Nanos, millis, nanos};

/// No read sees less than what was committed before the longest time that an announcement lives.
pub(super) fn check(history: &History, rules: &Rules, verdict: &mut Verdict) {
    if rules.promise == Promise::Bounded {
        // Bounded writes are not announced.
        return;
    }
    // An announcement expires within a second of its time, and the news of that takes a lease at most.
    let limit = nanos(rules.expiry()) + nanos(rules.lease) / 50 * 51 + 1_500_000_000;
    let committed = history
        .commits
        .iter()
        .enumerate()
        .flat_map(|(register, commits)| {
            (1..)
                .zip(commits)
                .map(move |(version, at)| (register, version, *at))
        });
    let certain = committed.filter(|(_, _, at)| !is_doubtful(history, rules, *at));
    let overdue = Overdue::since(certain);
    for (read, seen) in each_seen(history) {
        if let Some(late) = overdue.by(seen, read.invoke).filter(|late| *late > limit) {
            let text = format!(
                "{}, but a newer one was committed {:.3} ms before it was asked for",
                told(read, seen),
                millis(late)
            );
            verdict.violations.push(Violation {
                check: "forgotten",
                text,
            });
        }
    }
}

/// Whether the announcement of a write committed then may have been lost with what held it.
fn is_doubtful(history: &History, rules: &Rules, at: Nanos) -> bool {
    let around = nanos(rules.expiry()) + 3_000_000_000;
    history.spans.iter().any(|span| {
        // Without a shared log, a replica's announcements die with it.
        let loses = span.harm != Harm::Process || !rules.shared;
        loses && span.from <= at + around && at <= span.to + around
    })
}
