//! Tags: the names by which stored responses are dropped.
//!
//! An entry carries the tags that its route, its path, its caller and the app's own response fields give it; a
//! write drops tags. Inside the process a tag is a 64-bit hash: a collision drops too much, never too little. The
//! hash is not keyed, so that all replicas and releases agree on it; what must stay secret (a user) is hashed with a
//! key before it becomes part of a tag's name.
//!
//! Every name with a capture in it also has a *class*, the text before the first capture and `*` (`showtime:*`):
//! entries carry both, so that a write which does not know the exact name can drop the class.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use smallvec::SmallVec;

use crate::capture::{Source, Values};
use crate::pattern::{self, PatternError};

/// How many classes of one name count, beside that of everything named.
const MAX_CLASSES: usize = 8;

/// How many names one template may give before its class stands for them: two lists in a body would give as many as their
/// product.
const MAX_NAMES: usize = 256;

/// One tag, hashed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag(u64);

/// The tags of an entry, or of a drop.
pub type Tags = SmallVec<[Tag; 16]>;

/// What a tag's name is about; part of the hash, so that `events` the tag is not `/events` the path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A name from the configuration or from the app's response fields.
    Name = 1,
    /// One exact key.
    Key = 2,
    /// One path, its segments in canonical spelling.
    Path = 3,
    /// Everything at and below a path.
    Below = 4,
    /// Everything one configured route answers.
    Route = 5,
    /// Everything stored for one user.
    User = 6,
    /// Everything one route answers to one user.
    UserRoute = 7,
    /// A drop pattern with wildcards or captures, filled in.
    Pattern = 8,
    /// Everything there is.
    All = 9,
    /// Everything asked for with one credential.
    Credential = 10,
}

impl Tag {
    /// The tag of `parts`, length-prefixed so that no two lists of parts share a spelling.
    #[must_use]
    pub fn new(kind: Kind, parts: &[&str]) -> Self {
        let mut hasher = SipHasher24::new_with_keys(0x7265_7072_6973_6501, kind as u64);
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part.as_bytes());
        }
        Self(hasher.finish())
    }

    /// The tag with this name, whose spelling does not matter where that of a capture's value does not: what an app
    /// calls `event:6F96…-…` is what a rule's `event:{id}` finds.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::new(Kind::Name, &[&fold(name)])
    }

    /// The tag of everything.
    #[must_use]
    pub fn all() -> Self {
        Self::new(Kind::All, &[])
    }

    /// The tag of a hash, as it was written down.
    #[must_use]
    pub const fn from_u64(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash itself.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// A tag's name with places to fill in: `showtime:{response.showtime}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// Text as it stands.
    Text(String),
    /// A value to find.
    Capture(Source),
}

/// The names that a template gave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Names {
    /// All captures were found.
    Exact(SmallVec<[String; 2]>),
    /// One was not: the name of the whole class.
    Class(String),
}

impl Template {
    /// Parses a tag or a template.
    ///
    /// # Errors
    ///
    /// A [`PatternError`] when a brace is not closed or holds no name.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(open);
            let Some((name, after)) = from
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
            else {
                return Err(PatternError::BadName(from.to_owned()));
            };
            if !pattern::is_name(name) {
                return Err(PatternError::BadName(format!("{{{name}}}")));
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Capture(Source::parse(name)));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self {
            source: text.to_owned(),
            parts,
        })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Where its captures take their values from.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(source) => Some(source),
            Part::Text(_) => None,
        })
    }

    /// Its class, when it has captures: the text before the first one, and `*`.
    #[must_use]
    pub fn class(&self) -> Option<String> {
        let head = match self.parts.first() {
            Some(Part::Text(text)) => text.as_str(),
            Some(Part::Capture(_)) | None => "",
        };
        self.sources().next().map(|_| format!("{head}*"))
    }

    /// Fills the places in. Several values of one capture give several names.
    #[must_use]
    pub fn expand(&self, values: &Values<'_>) -> Names {
        let mut names: SmallVec<[String; 2]> = SmallVec::from_iter([String::new()]);
        for part in &self.parts {
            match part {
                Part::Text(text) => names.iter_mut().for_each(|name| name.push_str(text)),
                Part::Capture(source) => {
                    let Some(found) = values.find(source) else {
                        return Names::Class(self.class().unwrap_or_default());
                    };
                    if names.len() * found.len() > MAX_NAMES {
                        return Names::Class(self.class().unwrap_or_default());
                    }
                    names = names
                        .iter()
                        .flat_map(|name| found.iter().map(move |value| format!("{name}{value}")))
                        .collect();
                }
            }
        }
        Names::Exact(names)
    }

    /// Matches a finished name against the template: what its captures stand for, or `None`. A class name
    /// (`theater:*`) matches with nothing captured, and so does a name that can be read in two ways (`a-b-c` as
    /// `{x}-{y}`): what is then dropped by a capture's value is dropped as a class. Used by `[relations]`.
    #[must_use]
    pub fn matches<'n>(&'n self, name: &'n str) -> Option<Vec<(&'n str, &'n str)>> {
        if let Some(class) = name.strip_suffix('*') {
            // A class reaches whatever may be in it, and finds nothing for the captures.
            let head = match self.parts.first() {
                Some(Part::Text(text)) => text.as_str(),
                Some(Part::Capture(_)) | None => "",
            };
            let captures = self.sources().next().is_some();
            let meets = head.starts_with(class) || captures && class.starts_with(head);
            return meets.then(Vec::new);
        }
        let texts = self.texts();
        let [first, between @ .., last] = &*texts else {
            return (texts == [name]).then(Vec::new);
        };
        let values = name.strip_prefix(first)?.strip_suffix(last)?;
        let earliest = earliest(values, between)?;
        if latest(values, between).as_ref() != Some(&earliest) {
            return Some(Vec::new());
        }
        let captured = self.sources().zip(earliest);
        let named = captured.filter_map(|(source, value)| match source {
            Source::Path(capture) => Some((capture.as_str(), value)),
            Source::User | Source::Body(_) | Source::Response(_) => None,
        });
        Some(named.collect())
    }

    /// The texts around its captures: before the first, between each two, behind the last.
    fn texts(&self) -> Vec<&str> {
        let mut texts = vec![""];
        for part in &self.parts {
            match part {
                // There are no two texts in a row.
                Part::Text(text) => texts.last_mut().into_iter().for_each(|last| *last = text),
                Part::Capture(_) => texts.push(""),
            }
        }
        texts
    }
}

/// The values with these texts between them, each as short as it can be; none is empty. If there are such values at all,
/// these are some.
fn earliest<'n>(name: &'n str, between: &[&str]) -> Option<Vec<&'n str>> {
    let mut values = Vec::with_capacity(between.len() + 1);
    let mut rest = name;
    for text in between {
        let least = rest.chars().next()?.len_utf8();
        let end = least + rest[least..].find(text)?;
        values.push(&rest[..end]);
        rest = &rest[end + text.len()..];
    }
    values.push(rest);
    (!rest.is_empty()).then_some(values)
}

/// The same, each as long as it can be.
fn latest<'n>(name: &'n str, between: &[&str]) -> Option<Vec<&'n str>> {
    let mut values = Vec::with_capacity(between.len() + 1);
    let mut rest = name;
    for text in between.iter().rev() {
        let least = rest.chars().next_back()?.len_utf8();
        let end = rest[..rest.len() - least].rfind(text)?;
        values.push(&rest[end + text.len()..]);
        rest = &rest[..end];
    }
    values.push(rest);
    values.reverse();
    (!rest.is_empty()).then_some(values)
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// The classes of a finished name (`event:*` and `*` for `event:42`), so that a drop of a class reaches it whatever
/// separates the class from the value.
pub fn classes_of(name: &str) -> impl Iterator<Item = String> {
    let heads = name
        .char_indices()
        .filter(|(_, c)| !c.is_alphanumeric())
        .map(|(at, c)| at + c.len_utf8());
    std::iter::once(0)
        .chain(heads.take(MAX_CLASSES))
        .map(|end| format!("{}*", &name[..end]))
}

/// A name without what follows a dot in its values (`file:report` for `file:report.pdf`), as captures find them; `None`
/// when that is the name itself.
#[must_use]
pub fn without_suffixes(name: &str) -> Option<String> {
    let (head, values) = name.split_once(':')?;
    if !values.contains('.') {
        return None;
    }
    let stems = values
        .split(':')
        .map(|value| value.split('.').next().unwrap_or_default());
    Some(
        std::iter::once(head)
            .chain(stems)
            .collect::<Vec<_>>()
            .join(":"),
    )
}

/// Folds the spellings of a value that [`crate::capture::canonical`] folds, wherever in a name they stand: capitals,
/// the hyphens of a UUID, leading zeros.
fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    let mut rest = name;
    let mut previous = ' ';
    while let Some(c) = rest.chars().next() {
        let starts = !previous.is_alphanumeric();
        if starts && let Some(uuid) = rest.get(..36).filter(|text| is_uuid(text)) {
            let digits = uuid.replace('-', "").to_ascii_lowercase();
            folded.push_str(without_zeros(&digits));
            (rest, previous) = (&rest[36..], '0');
            continue;
        }
        if starts {
            rest = without_zeros(rest);
        }
        let c = rest.chars().next().unwrap_or(c);
        folded.extend(c.to_lowercase());
        (rest, previous) = (&rest[c.len_utf8()..], c);
    }
    folded
}

/// A text without the zeros before its first other digit.
fn without_zeros(text: &str) -> &str {
    let trimmed = text.trim_start_matches('0');
    if trimmed.len() < text.len() && !trimmed.starts_with(|c: char| c.is_ascii_digit()) {
        // The last zero is the number itself, or the beginning of a word.
        return &text[text.len() - trimmed.len() - 1..];
    }
    trimmed
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(text: &str) -> Template {
        Template::parse(text).expect("a valid template")
    }

    #[test]
    fn templates_expand_to_names_or_to_their_class() {
        let answer = json!({"showtime": 7, "seats": [{"id": 1}, {"id": 2}]});
        let values = Values {
            response: Some(&answer),
            user: Some("ab12"),
            ..Values::default()
        };
        let exact =
            |names: &[&str]| Names::Exact(names.iter().map(|name| (*name).to_owned()).collect());
        for (text, expected) in [
            ("events", exact(&["events"])),
            ("showtime:{response.showtime}", exact(&["showtime:7"])),
            ("seat:{response.seats.*.id}", exact(&["seat:1", "seat:2"])),
            ("bookings:{user}", exact(&["bookings:ab12"])),
            ("event:{response.event}", Names::Class("event:*".into())),
            ("{response.event}", Names::Class("*".into())),
        ] {
            assert_eq!(template(text).expand(&values), expected, "{text}");
        }
    }

    #[test]
    fn relations_match_names_and_classes() {
        let theater = template("theater:{id}");
        assert_eq!(theater.matches("theater:5"), Some(vec![("id", "5")]));
        assert_eq!(theater.matches("theater:*"), Some(vec![]));
        assert_eq!(theater.matches("theaters"), None);
        assert_eq!(theater.matches("theater:"), None);
        assert_eq!(template("events").matches("events"), Some(vec![]));
    }

    #[test]
    fn a_name_that_can_be_read_in_two_ways_captures_nothing() {
        for (left, name, expected) in [
            (
                "seat:{event}-{n}",
                "seat:rock-5",
                Some(vec![("event", "rock"), ("n", "5")]),
            ),
            ("seat:{event}-{n}", "seat:rock-am-ring-5", Some(vec![])),
            ("seat:{event}-{n}", "seat:rock-", None),
            ("seat:{event}-{n}", "seat:-5", None),
            ("{slug}-list", "a-list-list", Some(vec![("slug", "a-list")])),
            ("{slug}-list", "-list-list", Some(vec![("slug", "-list")])),
            ("{slug}-list", "-list", None),
            ("{a}{b}", "xy", Some(vec![("a", "x"), ("b", "y")])),
            ("{a}{b}", "xyz", Some(vec![])),
            ("x:{user}:{id}", "x:1:2", Some(vec![("id", "2")])),
            ("events", "events2", None),
        ] {
            assert_eq!(template(left).matches(name), expected, "{left} {name}");
        }
    }

    #[test]
    fn more_names_than_can_be_dropped_one_by_one_are_their_class() {
        let ids: Vec<u32> = (0..20).collect();
        let body = json!({"a": ids, "b": ids});
        let values = Values {
            body: Some(&body),
            ..Values::default()
        };
        let names = template("x:{body.a.*}:{body.b.*}").expand(&values);
        assert_eq!(names, Names::Class("x:*".into()));
        let names = template("x:{body.a.*}:{body.a.0}").expand(&values);
        assert!(matches!(names, Names::Exact(names) if names.len() == 20));
    }

    #[test]
    fn a_class_meets_every_relation_that_may_be_in_it() {
        for (left, class, expected) in [
            ("theater:special", "theater:*", true),
            ("theater:{id}", "*", true),
            ("theater:{id}", "theater:5:*", true),
            ("theaters", "theater:*", false),
            ("movie:{id}", "theater:*", false),
        ] {
            assert_eq!(template(left).matches(class).is_some(), expected, "{left}");
        }
    }

    #[test]
    fn a_name_has_one_tag_in_every_spelling_of_its_values() {
        let uuid = "0f9619ff-8b86-d011-b42d-00cf4fc964ff";
        for (one, other, same) in [
            ("event:42", "event:042", true),
            ("event:42", "Event:42", true),
            ("event:0", "event:000", true),
            ("event:10", "event:1", false),
            ("event-042-x", "event-42-x", true),
            ("a10", "a1", false),
            (
                &format!("e:{uuid}"),
                &format!("e:{}", uuid.replace('-', "")),
                true,
            ),
            (
                &format!("e:{uuid}:01"),
                &format!("e:{}:1", uuid.to_uppercase()),
                true,
            ),
            ("rock-am-ring", "rockamring", false),
        ] {
            assert_eq!(Tag::named(one) == Tag::named(other), same, "{one} {other}");
        }
    }

    #[test]
    fn folding_a_name_undoes_what_captures_fold() {
        for value in [
            "042",
            "000",
            "0a",
            "00a1",
            "Café",
            "2026-01-05",
            "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
        ] {
            let canonical = crate::capture::canonical(value).expect("a spelling");
            assert_eq!(
                Tag::named(&format!("x:{value}")),
                Tag::named(&format!("x:{canonical}")),
                "{value}"
            );
        }
    }

    #[test]
    fn kinds_and_boundaries_keep_tags_apart() {
        assert_ne!(Tag::new(Kind::Path, &["a"]), Tag::new(Kind::Name, &["a"]));
        assert_ne!(
            Tag::new(Kind::UserRoute, &["ab", "c"]),
            Tag::new(Kind::UserRoute, &["a", "bc"])
        );
    }

    #[test]
    fn an_open_brace_is_an_error() {
        for text in ["a{", "a{b", "a}b", "a{}", "a{b c}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
