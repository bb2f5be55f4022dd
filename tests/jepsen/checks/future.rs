//! Answers that no honest cache can give: from the future, or to another question.

use super::{Verdict, Violation, each_seen, told};
use crate::history::History;

/// A read must not see a version that was committed after it ended, and only what it asked for.
pub(super) fn check(history: &History, verdict: &mut Verdict) {
    for (read, seen) in each_seen(history) {
        let place = usize::try_from(seen.version).unwrap_or(usize::MAX);
        let committed = match place.checked_sub(1) {
            None => Some(0),
            Some(place) => history
                .commits
                .get(seen.register)
                .and_then(|commits| commits.get(place).copied()),
        };
        if committed.is_none_or(|at| at > read.complete) {
            verdict.violations.push(Violation {
                check: "future",
                text: format!("{}, which did not exist yet", told(read, seen)),
            });
        }
    }
    for read in history.reads().filter(|read| read.foreign) {
        verdict.violations.push(Violation {
            check: "foreign",
            text: format!(
                "read {} got an answer to another question: {:?}",
                read.id, read.seen
            ),
        });
    }
}
