//! Reading `[relations]`.

use std::ops::Range;

use crate::capture::Source;
use crate::config::names::{tag, unknown_capture};
use crate::config::reader::{Section, Value};
use crate::route::Relation;
use crate::tag::Template;

/// A line of `[relations]` and where its sides stand.
#[derive(Debug)]
pub(super) struct ReadRelation {
    pub(super) relation: Relation,
    pub(super) left: Range<usize>,
    pub(super) right: Vec<Range<usize>>,
}

/// Reads `[relations]`.
pub(super) fn read(root: &Section<'_>) -> Vec<ReadRelation> {
    let section = root.section("relations");
    let entries = section.entries("relations").into_iter();
    entries
        .filter_map(|(name, place, value)| relation(name, place, value))
        .collect()
}

fn relation(name: &str, left_place: Range<usize>, value: Value<'_>) -> Option<ReadRelation> {
    let left = left_tag(name, &left_place, value);
    let items = value.items(true, "a list of tags", "\"theater:{id}\" = [\"theaters\"]")?;
    let right = items
        .into_iter()
        .filter_map(|item| Some((right_tag(item, left.as_ref())?, item.place())));
    let (right, places) = right.unzip();
    Some(ReadRelation {
        relation: Relation { left: left?, right },
        left: left_place,
        right: places,
    })
}

/// The left side is a key, so its findings point there and not at the value.
fn left_tag(name: &str, place: &Range<usize>, value: Value<'_>) -> Option<Template> {
    let error = |message: String, help: &str| {
        let error = value.findings().error(message).at(place.clone());
        value.findings().add(error.help(help));
        None
    };
    let help = "write \"theater:{id}\" = [\"theaters\"]";
    if name.is_empty() || name.starts_with('/') || name.contains([' ', ',']) {
        return error(format!("\"{name}\" is no tag"), help);
    }
    match Template::parse(name) {
        Err(problem) => error(problem.to_string(), help),
        Ok(left) if left.sources().all(is_plain) => Some(left),
        Ok(_) => error(
            format!("\"{name}\": a relation knows nothing but the tag itself"),
            "write plain names, such as {id}; {user}, {body...} and {response...} belong into the `drop` of a [[write]]",
        ),
    }
}

fn right_tag(value: Value<'_>, left: Option<&Template>) -> Option<Template> {
    let right = tag(value)?;
    let Some(left) = left else {
        return Some(right);
    };
    let known: Vec<&str> = left.sources().filter_map(plain_name).collect();
    for source in right.sources() {
        match plain_name(source) {
            Some(name) if known.contains(&name) => {}
            Some(name) => return unknown_capture(value, name, &known, "the left side"),
            None => {
                let message =
                    format!("\"{right}\": a relation knows nothing but the tag on its left");
                return value.reject(message, "use only what the left side captures");
            }
        }
    }
    Some(right)
}

fn is_plain(source: &Source) -> bool {
    plain_name(source).is_some()
}

fn plain_name(source: &Source) -> Option<&str> {
    match source {
        Source::Path(name) if !name.contains('.') => Some(name),
        Source::Path(_) | Source::User | Source::Body(_) | Source::Response(_) => None,
    }
}
