//! The names in rules: patterns, tags and captures.

use crate::capture::Source;
use crate::config::findings::nearest;
use crate::config::kinds;
use crate::config::reader::{Section, Value};
use crate::pattern::{Pattern, Segment};
use crate::tag::Template;

/// Reports a key that a rule cannot be without.
pub(super) fn missing(section: &Section<'_>, table: &str, key: &str, example: &str) {
    if !section.has(key) {
        let error = section
            .findings()
            .error(format!("this {table} has no `{key}`"));
        let error = error.at(section.place_of(key));
        section
            .findings()
            .add(error.help(format!("write {example}")));
    }
}

/// A pattern that requests are matched with: its captures are plain names.
pub(super) fn request_pattern(value: Value<'_>, text: &str, what: &str) -> Option<Pattern> {
    let pattern = pattern(value, text)?;
    for name in pattern.names() {
        match Source::parse(name) {
            Source::Path(name) if !name.contains('.') => {}
            Source::User => {
                let message = "{user} always means the caller and cannot be captured from a path";
                return value.reject(message, "give the capture another name, such as {owner}");
            }
            Source::Path(_) | Source::Body(_) | Source::Response(_) => {
                let message = format!("{{{name}}} cannot be captured in `{what}`");
                return value.reject(message, "write a plain name, such as {event}");
            }
        }
    }
    Some(pattern)
}

/// A path pattern, whatever its captures are called.
pub(super) fn pattern(value: Value<'_>, text: &str) -> Option<Pattern> {
    if let Some(odd) = text.find(['?', '#', ' ', '\t']) {
        let message = format!("\"{text}\" is no path pattern: a pattern is about the path alone");
        return value.reject(message, format!("write \"{}\"", &text[..odd]));
    }
    let help = if text.starts_with('/') {
        "write \"/api/events/{event}/\"".to_owned()
    } else {
        format!("write \"/{text}\"")
    };
    let pattern = kinds::or_report(value, Pattern::parse(text), &help)?;
    for segment in pattern.segments() {
        if let Segment::Literal(literal) = segment
            && let Some(name) = foreign_capture(literal)
        {
            let warning = value
                .findings()
                .warning(format!("\"{literal}\" is matched as text"));
            let help = format!("if it is a capture, write {{{name}}}");
            value.findings().add(warning.at(value.place()).help(help));
        }
    }
    Some(pattern)
}

/// The name of a capture in the style of other programs: `:id`, `<int:id>`.
fn foreign_capture(literal: &str) -> Option<&str> {
    let django = || {
        let inner = literal.strip_prefix('<')?.strip_suffix('>')?;
        Some(inner.rsplit(':').next().unwrap_or(inner))
    };
    literal
        .strip_prefix(':')
        .or_else(django)
        .filter(|name| !name.is_empty())
}

/// Reports a capture that nothing captures, with those that there are.
pub(super) fn unknown_capture<T>(
    value: Value<'_>,
    name: &str,
    known: &[&str],
    whose: &str,
) -> Option<T> {
    let message = format!("{{{name}}} is not captured by {whose}");
    let braced: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
    let list = match braced.join(", ") {
        list if list.is_empty() => format!("{whose} captures nothing"),
        list => format!("{whose} captures {list}"),
    };
    let help = match nearest(name, known.iter().copied()) {
        Some(one) => format!("did you mean {{{one}}}? {list}"),
        None => list,
    };
    value.reject(message, help)
}

/// A tag, or a template of tags.
pub(super) fn tag(value: Value<'_>) -> Option<Template> {
    let text = value.text("a tag", "\"events\" or \"event:{event}\"")?;
    tag_text(value, text)
}

/// A tag in a text that was read already.
pub(super) fn tag_text(value: Value<'_>, text: &str) -> Option<Template> {
    if text.is_empty() || text.contains([' ', '\t', '\n', '\r', ',']) {
        let message = format!(
            "\"{text}\" is no tag: a tag has at least one character, no blank and no comma"
        );
        return value.reject(message, "write \"events\" or \"event:{event}\"");
    }
    if text.starts_with('/') {
        let message = format!("\"{text}\" is a path, and a tag is expected here");
        return value.reject(
            message,
            format!("write \"{}\"", text.trim_matches('/').replace('/', ".")),
        );
    }
    kinds::or_report(value, Template::parse(text), "write \"event:{event}\"")
}
