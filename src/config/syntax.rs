//! What the TOML parser found, said so that one slip is one finding.
//!
//! The parser recovers well: a bad value or a bad head costs its own line, and the rest of the file is still checked. A
//! list that is not closed costs everything below it, so what comes after is not trusted.

use std::ops::Range;

use toml::de::Error;

use crate::config::diagnostic::Diagnostic;
use crate::config::findings::Findings;

/// What of a file can be trusted, beside its syntax errors.
#[derive(Debug)]
pub(super) struct Damage {
    /// The lines that are not TOML.
    lines: Vec<usize>,
    /// The lines whose table has lost its head.
    orphans: Vec<Range<usize>>,
    /// The line from which nothing is what it seems.
    end: usize,
}

/// Reports the syntax errors, one for a line and none below an open list.
pub(super) fn report(errors: &[Error], findings: &Findings) -> Damage {
    let line = |error: &Error| findings.line_of(&place(error));
    let open = errors.iter().filter(|error| is_open(error));
    let end = open.map(line).min().unwrap_or(usize::MAX);
    let mut damage = Damage {
        lines: Vec::new(),
        orphans: Vec::new(),
        end,
    };
    let trusted = |error: &&Error| line(error) < end || (line(error) == end && is_open(error));
    for error in errors.iter().filter(trusted) {
        if !damage.lines.contains(&line(error)) {
            damage.lines.push(line(error));
            damage
                .orphans
                .push(findings.lines_below_head(&place(error)));
            findings.add(finding(error, findings));
        }
    }
    damage
}

fn place(error: &Error) -> Range<usize> {
    error.span().unwrap_or(0..0)
}

fn is_open(error: &Error) -> bool {
    let message = error.message();
    message.contains("in array") || message.contains("unclosed array")
}

fn finding(error: &Error, findings: &Findings) -> Diagnostic {
    let message = error.message();
    let diagnostic = findings
        .error(format!("this is not TOML: {message}"))
        .at(place(error));
    if is_open(error) {
        return diagnostic.help("close the list above with ]");
    }
    if message.starts_with("duplicate key") {
        return diagnostic.help("remove one of the two");
    }
    if message.starts_with("string values must be quoted") {
        return diagnostic.help("write it in quotes");
    }
    diagnostic
}

impl Damage {
    /// Whether a finding about the meaning of the file may be the damage's doing.
    pub(super) fn may_explain(&self, place: Option<&Range<usize>>, findings: &Findings) -> bool {
        let line = place.map(|place| findings.line_of(place));
        match line {
            Some(line) => {
                let orphaned = self.orphans.iter().any(|lines| lines.contains(&line));
                orphaned || line >= self.end || self.lines.contains(&line)
            }
            None => !self.lines.is_empty(),
        }
    }
}
