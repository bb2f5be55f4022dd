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

    /// The tag with this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::new(Kind::Name, &[name])
    }

    /// The tag of everything.
    #[must_use]
    pub fn all() -> Self {
        Self::new(Kind::All, &[])
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
    /// (`theater:*`) matches with nothing captured. Used by `[relations]`.
    #[must_use]
    pub fn matches<'n>(&'n self, name: &'n str) -> Option<Vec<(&'n str, &'n str)>> {
        if self.class().is_some_and(|class| class == name) {
            return Some(Vec::new());
        }
        let mut captured = Vec::new();
        let mut rest = name;
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Capture(source) => {
                    let end = match parts.peek() {
                        Some(Part::Text(text)) => rest.find(text.as_str())?,
                        Some(Part::Capture(_)) | None => rest.len(),
                    };
                    let (value, after) = rest.split_at(end);
                    if value.is_empty() {
                        return None;
                    }
                    if let Source::Path(capture) = source {
                        captured.push((capture.as_str(), value));
                    }
                    rest = after;
                }
            }
        }
        rest.is_empty().then_some(captured)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// The class of a name that an app sent (`event:42` is one of `event:*`), so that a drop of the class reaches it.
#[must_use]
pub fn class_of(name: &str) -> Option<String> {
    name.split_once(':').map(|(head, _)| format!("{head}:*"))
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
