//! What was found so far, and the words that were probably meant.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostic, Severity, Source};
use crate::config::syntax::Damage;

/// Everything found so far. Readers share it, and go on after each finding.
#[derive(Debug)]
pub(super) struct Findings {
    source: Arc<Source>,
    list: RefCell<Vec<Diagnostic>>,
}

impl Findings {
    pub(super) fn new(source: &Arc<Source>) -> Self {
        Self {
            source: Arc::clone(source),
            list: RefCell::default(),
        }
    }

    pub(super) fn add(&self, diagnostic: Diagnostic) {
        self.list.borrow_mut().push(diagnostic);
    }

    /// An error about nothing in particular yet: to be completed and added.
    pub(super) fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(&self.source, Severity::Error, message.into())
    }

    /// A warning, to be completed and added.
    pub(super) fn warning(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(&self.source, Severity::Warning, message.into())
    }

    /// Whether there is an error among them.
    pub(super) fn has_errors(&self) -> bool {
        let list = self.list.borrow();
        list.iter().any(|one| one.severity() == Severity::Error)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.list.borrow().len()
    }

    /// Takes back those after the first few that the damage of the file explains.
    pub(super) fn forget(&self, keep: usize, damage: &Damage) {
        let explained = |one: &Diagnostic| damage.may_explain(one.place(), self);
        let mut list = self.list.borrow_mut();
        let later = list.split_off(keep);
        list.extend(later.into_iter().filter(|one| !explained(one)));
    }

    /// The lines from a place to the next head of a table, if a head stands there.
    pub(super) fn lines_below_head(&self, place: &Range<usize>) -> Range<usize> {
        let first = self.line_of(place);
        let is_head = |text: &&str| text.trim_start().starts_with('[');
        let mut lines = self.source.text.lines().skip(first - 1);
        match lines.next().filter(is_head) {
            Some(_) => first..first + 1 + lines.take_while(|text| !is_head(text)).count(),
            None => first..first,
        }
    }

    /// The line of a place, from 1.
    pub(super) fn line_of(&self, place: &Range<usize>) -> usize {
        let before = self.source.text.get(..place.start).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    /// All of them, in the order of the file.
    pub(super) fn into_sorted(self) -> Vec<Diagnostic> {
        let mut list = self.list.into_inner();
        list.sort_by_key(Diagnostic::order);
        list
    }
}

/// The known word that a mistyped one is closest to, if it is close.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |candidate: &str| {
        let folded = word.to_lowercase().replace('-', "_");
        strsim::damerau_levenshtein(&folded, &candidate.to_lowercase().replace('-', "_"))
    };
    let close = |candidate: &&str| {
        let length = candidate.chars().count();
        length > 1 && distance(candidate) <= (length / 3).max(1)
    };
    known
        .into_iter()
        .filter(close)
        .min_by_key(|one| distance(one))
}

/// A suggestion for a word that is none of those known.
pub(super) fn suggest(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(one) => format!("did you mean `{one}`?"),
        None if known.is_empty() => "remove it".to_owned(),
        None => format!("one of: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_when_it_is_near() {
        let known = ["ttl", "scope", "max_ttl", "stale_if_error"];
        for (word, expected) in [
            ("tll", Some("ttl")),
            ("TTL", Some("ttl")),
            ("stale-if-error", Some("stale_if_error")),
            ("scopes", Some("scope")),
            ("x", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
        assert_eq!(suggest("colour", &["a", "b"]), "one of: a, b");
    }
}
