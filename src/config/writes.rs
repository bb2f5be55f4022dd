//! Reading `[[write]]`.

use std::ops::Range;

use http::Method;

use crate::capture::Source;
use crate::config::findings::nearest;
use crate::config::kinds;
use crate::config::names::{missing, pattern, request_pattern, tag_text, unknown_capture};
use crate::config::reader::{Section, Value};
use crate::pattern::Pattern;
use crate::route::{Item, Write};

/// A `[[write]]`: its lines, and where each item of `drop` stands.
#[derive(Debug)]
pub(super) struct ReadWrite {
    pub(super) lines: Vec<Write>,
    pub(super) drop: Vec<(Item, Range<usize>)>,
}

/// Reads every `[[write]]`.
pub(super) fn read(root: &Section<'_>) -> Vec<ReadWrite> {
    let sections = root.sections("write").into_iter();
    sections.filter_map(|section| write(&section)).collect()
}

fn write(section: &Section<'_>) -> Option<ReadWrite> {
    let on = section.read("on", kinds::one_or_more(on_line));
    let drop = section.read("drop", |value| {
        let items = value.items(true, "a list of tags and paths", "[\"events\"]")?;
        let known = on.as_deref();
        let items = items.into_iter();
        Some(
            items
                .filter_map(|item| drop_item(item, known))
                .collect::<Vec<_>>(),
        )
    });
    section.finish();
    missing(section, "[[write]]", "on", "on = \"POST /api/events/\"");
    missing(section, "[[write]]", "drop", "drop = [\"events\"]");
    let drop = drop?;
    let items: Vec<Item> = drop.iter().map(|(item, _)| item.clone()).collect();
    let line = |(method, pattern)| Write {
        method,
        pattern,
        drop: items.clone(),
    };
    let lines = on?.into_iter().map(line).collect();
    Some(ReadWrite { lines, drop })
}

/// A line of `on`: the method, or `None` for every unsafe one, and the pattern.
type OnLine = (Option<Method>, Pattern);

fn on_line(value: Value<'_>) -> Option<OnLine> {
    let text = value.text("a method and a path", "\"POST /api/events/\"")?;
    let Some((method, path)) = text.trim().split_once(char::is_whitespace) else {
        let path = if text.starts_with('/') {
            text
        } else {
            "/api/events/"
        };
        let message = format!("\"{text}\" is not a method and a path");
        return value.reject(
            message,
            format!("write \"POST {path}\", or \"* {path}\" for every method that writes"),
        );
    };
    let method = match method {
        "*" => None,
        name => Some(unsafe_method(value, name)?),
    };
    Some((method, request_pattern(value, path.trim_start(), "on")?))
}

fn unsafe_method(value: Value<'_>, name: &str) -> Option<Method> {
    const USUAL: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];
    let upper = name.to_ascii_uppercase();
    if ["GET", "HEAD", "OPTIONS", "TRACE"].contains(&upper.as_str()) {
        let message = format!("{upper} reads and drops nothing");
        return value.reject(message, "name a method that writes, or * for all of them");
    }
    let meant = nearest(&upper, USUAL).filter(|meant| *meant != name);
    let method = Method::from_bytes(name.as_bytes()).ok();
    if let Some(meant) = meant {
        return value.reject(
            format!("the method {name} is not known"),
            format!("did you mean {meant}?"),
        );
    }
    let reject = || {
        value.reject(
            format!("\"{name}\" is no method"),
            "write POST, PUT, PATCH, DELETE or *",
        )
    };
    method.filter(|_| name == upper).or_else(reject)
}

/// An item of `drop`: a path when it begins with a slash, else a tag. `on` is `None` when it could not be read.
fn drop_item(value: Value<'_>, on: Option<&[OnLine]>) -> Option<(Item, Range<usize>)> {
    let text = value.text("a tag or a path", "\"events\" or \"/api/events/**\"")?;
    let item = if text.starts_with('/') {
        Item::Path(pattern(value, text)?)
    } else {
        Item::Tag(tag_text(value, text)?)
    };
    let captures: Vec<Source> = match &item {
        Item::Path(pattern) => pattern.names().map(Source::parse).collect(),
        Item::Tag(template) => template.sources().cloned().collect(),
    };
    for source in &captures {
        if let (Source::Path(name), Some(on)) = (source, on) {
            drop_capture(value, name, on)?;
        }
    }
    Some((item, value.place()))
}

/// Checks that a capture of an item can be found: never is an error, not always is a warning.
fn drop_capture(value: Value<'_>, name: &str, on: &[OnLine]) -> Option<()> {
    let without: Vec<&Pattern> = on
        .iter()
        .map(|(_, pattern)| pattern)
        .filter(|pattern| !pattern.names().any(|known| known == name))
        .collect();
    if without.len() == on.len() {
        let known: Vec<&str> = on.iter().flat_map(|(_, pattern)| pattern.names()).collect();
        if name == "body" || name == "response" {
            let message = format!("{{{name}}} names no field of it");
            return value.reject(
                message,
                format!("write {{{name}.field}}, with the name of a field"),
            );
        }
        return unknown_capture(value, name, &known, "`on`");
    }
    if let Some(pattern) = without.first() {
        let message =
            format!("{{{name}}} is not captured by \"{pattern}\": its writes drop the whole class");
        let warning = value.findings().warning(message).at(value.place());
        value
            .findings()
            .add(warning.help("give that line a [[write]] of its own if this is too much"));
    }
    Some(())
}
