//! What is wrong with a configuration, where, and how to put it right.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

/// A configuration file as it was read: what diagnostics point into.
pub(super) struct Source {
    /// The path as the operator wrote it.
    pub(super) name: String,
    /// The text.
    pub(super) text: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every finding holds it: the text would be printed as often.
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

/// One finding about a configuration.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    place: Option<Range<usize>>,
    related: Option<(Range<usize>, String)>,
    help: Option<String>,
    source: Arc<Source>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

impl Diagnostic {
    /// A finding about the file as a whole.
    pub(super) fn new(source: &Arc<Source>, severity: Severity, message: String) -> Self {
        Self {
            severity,
            message,
            place: None,
            related: None,
            help: None,
            source: Arc::clone(source),
        }
    }

    /// Points at bytes of the file. Only the first line of them is shown: a table has many.
    #[must_use]
    pub(super) fn at(mut self, place: Range<usize>) -> Self {
        self.place = Some(one_line(&self.source.text, place));
        self
    }

    /// Points at a second place, which explains the first.
    #[must_use]
    pub(super) fn beside(mut self, place: Range<usize>, label: &str) -> Self {
        self.related = Some((one_line(&self.source.text, place), label.to_owned()));
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in a sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead, when that is known.
    #[must_use]
    pub fn suggestion(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The file, as it was named when it was loaded.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// Line and column, both from 1, the column in characters; `None` for what stands nowhere in the file.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        let place = self.place.as_ref()?;
        let before = self.source.text.get(..place.start)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default();
        Some((line, column.chars().count() + 1))
    }

    /// The finding with its line of the file and a caret, in colour or not.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&self.message);
        let mut report = vec![Group::with_title(title).element(self.excerpt())];
        if let Some(help) = &self.help {
            report.push(Group::with_title(Level::HELP.secondary_title(help)));
        }
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(&report)
    }

    fn excerpt(&self) -> Element<'_> {
        let Some(place) = self.place.clone() else {
            return Origin::path(&self.source.name).into();
        };
        let mut snippet = Snippet::source(without_passwords(&self.source.text))
            .path(&self.source.name)
            .annotation(AnnotationKind::Primary.span(place));
        if let Some((place, label)) = &self.related {
            snippet = snippet.annotation(AnnotationKind::Context.span(place.clone()).label(label));
        }
        snippet.into()
    }

    /// The bytes it points at.
    pub(super) const fn place(&self) -> Option<&Range<usize>> {
        self.place.as_ref()
    }

    /// Where it stands in the order of the file.
    pub(super) fn order(&self) -> (usize, Severity) {
        let start = self.place.as_ref().map_or(0, |place| place.start);
        (start, self.severity)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Cuts a place to its first line and to whole characters of the text, which is what the renderer asks for.
fn one_line(text: &str, place: Range<usize>) -> Range<usize> {
    let start = boundary(text, place.start.min(text.len()));
    let end = boundary(text, place.end.clamp(start, text.len()));
    let length = text[start..end].find(['\n', '\r']).unwrap_or(end - start);
    start..start + length
}

/// The text with the user information of its URLs starred out, each byte by one: a check's output ends up in build logs.
fn without_passwords(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    let mut from = 0;
    while let Some(found) = text[from..].find("://") {
        let start = from + found + 3;
        let line = text[start..].lines().next().unwrap_or_default();
        let url = line.split(['"', '\'']).next().unwrap_or_default();
        if let Some(at) = url.rfind('@') {
            let stars = "*".repeat(at);
            text.to_mut().replace_range(start..start + at, &stars);
        }
        from = start;
    }
    text
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_starred_out_byte_by_byte() {
        for (text, shown) in [
            (
                "a = \"redis://:p/é@r/3\" # x@y",
                "a = \"redis://*****@r/3\" # x@y",
            ),
            (
                "a = 'http://u:p@h'\nb = 'http://h'",
                "a = 'http://***@h'\nb = 'http://h'",
            ),
            (
                "a = \"http://u:p@h\nb = \"@\"",
                "a = \"http://***@h\nb = \"@\"",
            ),
        ] {
            assert_eq!(without_passwords(text), shown);
            assert_eq!(without_passwords(text).len(), text.len());
        }
    }

    #[test]
    fn a_place_is_cut_to_whole_characters_of_one_line() {
        let source = Arc::new(Source {
            name: "p.toml".into(),
            text: "é = 1\nü = [\n2]\n".into(),
        });
        let found =
            Diagnostic::new(&source, Severity::Warning, "odd".into()).at(8..source.text.len() + 9);
        assert_eq!(found.position(), Some((2, 1)));
        assert_eq!(found.place, Some(7..13));
        assert_eq!(boundary("é", 1), 0);
        assert!(found.to_string().contains("p.toml:2:1"), "{found}");
    }
}
