//! Reading `[[route]]`.
//!
//! Each rule is read with the places of its parts, so that [`crate::config::check`] can compare rules with each other
//! and point at them. What is wrong is reported and then read as far as it goes, so that the checks see as much as they
//! can: a file with an error is refused in the end, whatever they make of it.

use crate::capture::Source;
use crate::config::knobs;
use crate::config::names::{missing, request_pattern, tag, unknown_capture};
use crate::config::reader::{Section, Value};
use crate::pattern::Pattern;
use crate::policy::Policy;
use crate::route::Route;
use crate::tag::Template;

/// A `[[route]]` and where it stands.
#[derive(Debug)]
pub(super) struct ReadRoute<'a> {
    pub(super) route: Route,
    pub(super) section: Section<'a>,
}

/// Reads every `[[route]]`. One without a pattern is left out: nothing can be compared with it.
pub(super) fn read<'a>(root: &Section<'a>, defaults: &Policy) -> Vec<ReadRoute<'a>> {
    let sections = root.sections("route").into_iter();
    sections
        .filter_map(|section| route(section, defaults))
        .collect()
}

fn route<'a>(section: Section<'a>, defaults: &Policy) -> Option<ReadRoute<'a>> {
    let name = section.read("name", route_name);
    let pattern = section.read("match", |value| path_pattern(value, "match"));
    let tags = section.read("tags", |value| {
        let tags = value
            .items(true, "a list of tags", "[\"events\"]")?
            .into_iter();
        Some(
            tags.filter_map(|item| route_tag(item, pattern.as_ref()))
                .collect(),
        )
    });
    let mut policy = defaults.clone();
    knobs::lifetimes(&section, &mut policy);
    knobs::knobs(&section, &mut policy);
    section.finish();
    missing(&section, "[[route]]", "name", "name = \"events.list\"");
    missing(&section, "[[route]]", "match", "match = \"/api/events/\"");
    let route = Route {
        name: name.unwrap_or_default(),
        pattern: pattern?,
        tags: tags.unwrap_or_default(),
        policy,
    };
    Some(ReadRoute { route, section })
}

/// A route's name is a label of metrics, so it is short and plain.
fn route_name(value: Value<'_>) -> Option<String> {
    let name = value.text("a name", "\"events.list\"")?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        return Some(name.to_owned());
    }
    let folded = name.to_lowercase().replace(|c| !plain(c), "-");
    let help = match folded.get(..64.min(folded.len())) {
        Some(better) if !better.is_empty() => format!("write name = \"{better}\""),
        Some(_) | None => "write name = \"events.list\"".to_owned(),
    };
    let message = format!(
        "\"{name}\" cannot name a route: a name is 1 to 64 of a-z, 0-9, \".\", \"_\" and \"-\""
    );
    value.reject(message, help)
}

/// A pattern that requests are matched with: its captures are plain names.
fn path_pattern(value: Value<'_>, what: &str) -> Option<Pattern> {
    let text = value.text("a path pattern", "\"/api/events/{event}/\"")?;
    request_pattern(value, text, what)
}

/// A tag of a route: its captures are those of the route's own pattern, and `{user}`.
fn route_tag(value: Value<'_>, pattern: Option<&Pattern>) -> Option<Template> {
    let template = tag(value)?;
    let Some(pattern) = pattern else {
        return Some(template);
    };
    let known: Vec<&str> = pattern.names().collect();
    for source in template.sources() {
        match source {
            Source::User => {}
            Source::Path(name) if known.contains(&name.as_str()) => {}
            Source::Path(name) => return unknown_capture(value, name, &known, "`match`"),
            Source::Body(_) | Source::Response(_) => {
                let message = format!("the tag \"{template}\" of a route cannot depend on a body");
                return value.reject(
                    message,
                    "{body...} and {response...} are for the `drop` of a [[write]]",
                );
            }
        }
    }
    Some(template)
}
