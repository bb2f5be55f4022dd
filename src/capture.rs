//! Where the value of a capture comes from, and finding it.
//!
//! The items of `drop` and `tags` name values: `{event}` of the path, `{user}`, `{body.showtime}` of the JSON
//! request, `{response.items.*.id}` of the JSON answer. A [`Source`] is such a name, parsed; [`Values`] is what
//! one request has to offer. Finding nothing is an answer of its own: the caller then widens the item to its
//! whole class, so that a drop reaches too much and never too little.

use std::borrow::Cow;

use serde_json::{Number, Value};
use smallvec::SmallVec;

/// Values longer than this name nothing a booking app would call an id; they widen the item to its class.
const MAX_VALUE: usize = 256;

/// How many values one `*` may yield before the item is widened to its class.
const MAX_VALUES: usize = 256;

/// Where a capture takes its value from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A capture of the path pattern: `{event}`.
    Path(String),
    /// The caller: `{user}`.
    User,
    /// The JSON request body: `{body.showtime}`.
    Body(Vec<String>),
    /// The JSON answer: `{response.showtime}`.
    Response(Vec<String>),
}

impl Source {
    /// Parses what stands between the braces.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        let steps = |path: &str| path.split('.').map(str::to_owned).collect();
        match name.split_once('.') {
            None if name == "user" => Self::User,
            Some(("body", path)) => Self::Body(steps(path)),
            Some(("response", path)) => Self::Response(steps(path)),
            _ => Self::Path(name.to_owned()),
        }
    }
}

/// What one request offers to captures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// Names and decoded texts that the path pattern captured.
    pub path: &'a [(&'a str, Cow<'a, str>)],
    /// Who is asking, as the text that user tags carry.
    pub user: Option<&'a str>,
    /// The JSON request body, when it was read and is JSON.
    pub body: Option<&'a Value>,
    /// The JSON answer, when it was read and is JSON.
    pub response: Option<&'a Value>,
}

/// The texts that a capture found, in the form in which tags compare them.
pub type Found = SmallVec<[String; 1]>;

impl Values<'_> {
    /// The canonical values of a source; `None` when there is no value, or one that cannot be compared.
    #[must_use]
    pub fn find(&self, source: &Source) -> Option<Found> {
        match source {
            Source::Path(name) => {
                let (_, value) = self.path.iter().find(|(known, _)| known == name)?;
                Some(Found::from_iter([canonical(value)?.into_owned()]))
            }
            // An identity is a hash already: it has one spelling.
            Source::User => Some(Found::from_iter([self.user?.to_owned()])),
            Source::Body(steps) => look(self.body?, steps),
            Source::Response(steps) => look(self.response?, steps),
        }
    }
}

fn look(json: &Value, steps: &[String]) -> Option<Found> {
    let mut found = Found::new();
    walk(json, steps, &mut found)?;
    (!found.is_empty()).then_some(found)
}

/// Collects the values at the end of `steps`; `None` as soon as one branch holds nothing usable, because a drop
/// by only the others would reach too little.
fn walk(json: &Value, steps: &[String], found: &mut Found) -> Option<()> {
    let Some((step, rest)) = steps.split_first() else {
        return leaf(json, found);
    };
    match json {
        Value::Array(items) if step == "*" => {
            items.iter().try_for_each(|item| walk(item, rest, found))
        }
        Value::Array(items) => walk(items.get(step.parse::<usize>().ok()?)?, rest, found),
        Value::Object(fields) => walk(fields.get(step)?, rest, found),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn leaf(json: &Value, found: &mut Found) -> Option<()> {
    let text = match json {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Number(number) => Cow::Owned(plain(number)?),
        Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    let text = canonical(&text)?.into_owned();
    if found.len() >= MAX_VALUES {
        return None;
    }
    if !found.contains(&text) {
        found.push(text);
    }
    Some(())
}

/// A number as it was written; `None` with an exponent, which an app may read as another spelling of an id.
#[must_use]
pub fn plain(number: &Number) -> Option<String> {
    let text = number.to_string();
    (!text.contains(['e', 'E'])).then_some(text)
}

/// The spelling under which a value is compared, or `None` for one that an app may read as something else.
///
/// Apps are lenient readers: Django takes `042` for 42, a UUID in capitals or without hyphens for the same UUID,
/// and `42.json` for 42 in another format. Entries found under such an alias must be dropped with the rest, so
/// every value is folded to one spelling; folding too much only drops too much. What Python's `int()` or `UUID()`
/// would accept beyond that (`4_2`, `+42`, full-width digits, `urn:uuid:`) is refused: it has no tag, so it is
/// not cached, and as part of a write it widens the drop.
#[must_use]
pub fn canonical(value: &str) -> Option<Cow<'_, str>> {
    let value = value.split_once('.').map_or(value, |(stem, _)| stem);
    if value.is_empty() || value.len() > MAX_VALUE {
        return None;
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        let trimmed = value.trim_start_matches('0');
        return Some(Cow::Borrowed(if trimmed.is_empty() {
            "0"
        } else {
            trimmed
        }));
    }
    let worded = value.chars().any(char::is_alphabetic);
    if !worded
        && !value
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        return None;
    }
    if value.starts_with('{')
        || value.trim() != value
        || starts_with_urn(value)
        || value.starts_with("-0")
    {
        return None;
    }
    Some(fold(value))
}

fn starts_with_urn(value: &str) -> bool {
    value
        .get(..4)
        .is_some_and(|head| head.eq_ignore_ascii_case("urn:"))
}

fn fold(value: &str) -> Cow<'_, str> {
    let hex = value.bytes().filter(|byte| *byte != b'-').count();
    let is_uuid = hex == 32
        && value
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    if is_uuid {
        return Cow::Owned(value.replace('-', "").to_ascii_lowercase());
    }
    if value.chars().any(char::is_uppercase) {
        // Letter by letter, as in the names of tags: a sigma at the end of a word is then a sigma like another.
        return Cow::Owned(value.chars().flat_map(char::to_lowercase).collect());
    }
    Cow::Borrowed(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_alias_of_a_value_has_one_spelling() {
        for (value, expected) in [
            ("42", Some("42")),
            ("042", Some("42")),
            ("000", Some("0")),
            ("42.json", Some("42")),
            ("Rock-Am-Ring", Some("rock-am-ring")),
            ("café", Some("café")),
            ("ΑΣ", Some("ασ")),
            ("2026-11-23", Some("2026-11-23")),
            (
                "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
                Some("6f9619ff8b86d011b42d00cf4fc964ff"),
            ),
            (
                "6f9619ff8b86d011b42d00cf4fc964ff",
                Some("6f9619ff8b86d011b42d00cf4fc964ff"),
            ),
            ("+42", None),
            ("4_2", None),
            (" 42", None),
            ("４２", None),
            ("-042", None),
            ("urn:uuid:6f9619ff8b86d011b42d00cf4fc964ff", None),
            ("", None),
            (".json", None),
        ] {
            assert_eq!(canonical(value).as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn captures_reach_into_json_and_run_over_arrays() {
        let body = json!({"showtime": 7, "items": [{"id": 1}, {"id": 2}, {"id": 1}], "x": {"y": "Z"}, "n": null});
        let values = Values {
            body: Some(&body),
            ..Values::default()
        };
        for (name, expected) in [
            ("body.showtime", Some(vec!["7"])),
            ("body.items.*.id", Some(vec!["1", "2"])),
            ("body.items.1.id", Some(vec!["2"])),
            ("body.x.y", Some(vec!["z"])),
            ("body.n", None),
            ("body.missing", None),
            ("body.items", None),
            ("response.showtime", None),
            ("user", None),
        ] {
            let found = values.find(&Source::parse(name)).map(SmallVec::into_vec);
            let expected =
                expected.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn one_item_without_the_value_widens_the_whole() {
        let body = json!({"items": [{"id": 1}, {"other": 2}]});
        let values = Values {
            body: Some(&body),
            ..Values::default()
        };
        assert_eq!(values.find(&Source::parse("body.items.*.id")), None);
    }
}
