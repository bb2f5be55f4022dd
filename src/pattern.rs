//! Path patterns: one grammar for the routes that read, the rules that write and the items that drop.
//!
//! A pattern is a path whose segments are literal text, `*` (one segment), `{name}` (one segment, captured) or,
//! at the end only, `**` (whatever follows, nothing included). A trailing slash never matters: an app that knows
//! `/api/events/` answers `/api/events` with a redirect, and a rule must reach both.
//!
//! Matching works on the normalised path (see [`crate::key`]). Captured text is percent-decoded, so that it
//! compares with what JSON bodies say.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use crate::capture;
use crate::headers::escape;

/// What a pattern's captures found: name and decoded text, in the order of the pattern.
pub type Captures<'p, 'a> = SmallVec<[(&'p str, Cow<'a, str>); 4]>;

/// A parsed path pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    source: String,
    segments: Vec<Segment>,
    /// Whether the pattern ends in `**`.
    open: bool,
}

/// One segment of a pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Segment {
    /// This text, exactly.
    Literal(String),
    /// Any one segment: `*`.
    Any,
    /// Any one segment, remembered under this name: `{name}`.
    Capture(String),
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PatternError {
    /// It does not begin with a slash.
    NotAbsolute,
    /// `**` stands somewhere else than at the end.
    RestNotLast,
    /// This segment mixes text with a wildcard or a capture.
    Mixed(String),
    /// This capture has no name, or one with characters that a name cannot have.
    BadName(String),
    /// This capture occurs twice.
    Twice(String),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("a path pattern begins with \"/\""),
            Self::RestNotLast => {
                f.write_str("** matches the rest of a path and can only stand at its end")
            }
            Self::Mixed(segment) => write!(
                f,
                "\"{segment}\" mixes text with a wildcard: *, ** and {{name}} each stand for a whole segment"
            ),
            Self::BadName(segment) => write!(
                f,
                "\"{segment}\" is no capture: write {{name}} with letters, digits, \"_\", \".\" or \"*\""
            ),
            Self::Twice(name) => write!(f, "the capture {{{name}}} occurs twice"),
        }
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// A [`PatternError`] that names the segment.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PatternError::NotAbsolute);
        };
        let mut segments = Vec::new();
        let mut open = false;
        for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
            if open {
                return Err(PatternError::RestNotLast);
            }
            if segment == "**" {
                open = true;
            } else {
                segments.push(Segment::parse(segment)?);
            }
        }
        let pattern = Self {
            source: text.to_owned(),
            segments,
            open,
        };
        match pattern.repeated() {
            Some(name) => Err(PatternError::Twice(name.to_owned())),
            None => Ok(pattern),
        }
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Its segments, without a final `**`.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it ends in `**`.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// The names of its captures.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture(name) => Some(name.as_str()),
            Segment::Literal(_) | Segment::Any => None,
        })
    }

    /// Matches a normalised path; what the captures found, or `None`.
    #[must_use]
    pub fn matches<'p, 'a>(&'p self, path: &'a str) -> Option<Captures<'p, 'a>> {
        self.matches_by(path, |text, part| text == part)
    }

    /// Matches a path as a lenient app may read it, its literal segments in any spelling (`bookings.json` for
    /// `bookings`). For what is dropped: too much is better than too little.
    #[must_use]
    pub fn reaches<'p, 'a>(&'p self, path: &'a str) -> Option<Captures<'p, 'a>> {
        self.matches_by(path, |text, part| {
            let canonical = capture::canonical(text);
            text == part || canonical.is_some() && canonical == capture::canonical(&decode(part))
        })
    }

    fn matches_by<'p, 'a>(
        &'p self,
        path: &'a str,
        same: impl Fn(&str, &str) -> bool,
    ) -> Option<Captures<'p, 'a>> {
        let mut captures = Captures::new();
        let mut parts = segments_of(path);
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Literal(text) if same(text, part) => {}
                Segment::Literal(_) => return None,
                Segment::Any => {}
                Segment::Capture(name) => captures.push((name, decode(part))),
            }
        }
        (self.open || parts.next().is_none()).then_some(captures)
    }

    /// Whether every path that `other` matches is matched by this one too: a route after it that it covers can
    /// never be reached.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let longer = other.segments.len() > self.segments.len();
        let fits = match (self.open, other.open) {
            (true, _) => other.segments.len() >= self.segments.len(),
            (false, true) => false,
            (false, false) => !longer && other.segments.len() == self.segments.len(),
        };
        fits && self
            .segments
            .iter()
            .zip(&other.segments)
            .all(|(mine, theirs)| match mine {
                Segment::Any | Segment::Capture(_) => true,
                Segment::Literal(_) => mine == theirs,
            })
    }

    fn repeated(&self) -> Option<&str> {
        let mut seen: Vec<&str> = Vec::new();
        for name in self.names() {
            // Where a value is looked up in a body, the same one may stand in two places.
            if seen.contains(&name) && !name.contains('.') {
                return Some(name);
            }
            seen.push(name);
        }
        None
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if !text.contains(['{', '}', '*']) {
            return Ok(Self::Literal(text.to_owned()));
        }
        let Some(name) = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        else {
            return Err(PatternError::Mixed(text.to_owned()));
        };
        if is_name(name) {
            Ok(Self::Capture(name.to_owned()))
        } else if name.contains(['{', '}']) {
            Err(PatternError::Mixed(text.to_owned()))
        } else {
            Err(PatternError::BadName(text.to_owned()))
        }
    }
}

/// Whether a text may stand between the braces of a capture: a name, or a path into a body (`body.items.*.id`).
#[must_use]
pub fn is_name(text: &str) -> bool {
    let word = |part: &str| {
        part == "*"
            || (!part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'))
    };
    text.split('.').all(word) && !text.starts_with('*')
}

/// The non-empty segments of a path.
pub fn segments_of(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Percent-decodes a segment; one that is not UTF-8 once decoded stays as it is.
#[must_use]
pub fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let decoded = escape::decoded(segment.as_bytes(), b'+').collect();
    String::from_utf8(decoded).map_or(Cow::Borrowed(segment), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("a valid pattern")
    }

    #[test]
    fn patterns_match_whole_segments_and_forgive_a_trailing_slash() {
        for (text, path, expected) in [
            ("/api/events/", "/api/events/", Some(vec![])),
            ("/api/events/", "/api/events", Some(vec![])),
            ("/api/events/", "/api/events/5/", None),
            (
                "/api/events/{event}/",
                "/api/events/5/",
                Some(vec![("event", "5")]),
            ),
            (
                "/api/events/{event}/",
                "/api/events/caf%C3%A9/",
                Some(vec![("event", "café")]),
            ),
            ("/api/events/{event}/", "/api/events/", None),
            ("/api/*/x", "/api/anything/x", Some(vec![])),
            ("/api/bookings/**", "/api/bookings/", Some(vec![])),
            ("/api/bookings/**", "/api/bookings/5/tickets/", Some(vec![])),
            ("/api/bookings/**", "/api/bookingsx/", None),
            ("/**", "/", Some(vec![])),
            ("/", "/", Some(vec![])),
            ("/", "/a", None),
        ] {
            let parsed = pattern(text);
            let found = parsed.matches(path).map(|captures| {
                captures
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.into_owned()))
                    .collect::<Vec<_>>()
            });
            let expected = expected.map(|list| {
                list.into_iter()
                    .map(|(n, v)| (n.to_owned(), v.to_owned()))
                    .collect::<Vec<_>>()
            });
            assert_eq!(found, expected, "{text} on {path}");
        }
    }

    #[test]
    fn only_what_is_an_escape_is_decoded() {
        for (segment, expected) in [
            ("caf%C3%a9", "café"),
            ("%41%2B", "A+"),
            ("%+5", "%+5"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%ff", "%ff"),
        ] {
            assert_eq!(decode(segment), expected, "{segment}");
        }
    }

    #[test]
    fn what_is_not_a_pattern_says_why() {
        for (text, expected) in [
            ("api", PatternError::NotAbsolute),
            ("/a/**/b", PatternError::RestNotLast),
            ("/a/x{b}", PatternError::Mixed("x{b}".into())),
            ("/a/{b c}", PatternError::BadName("{b c}".into())),
            ("/a/{}", PatternError::BadName("{}".into())),
            ("/{a}/{a}", PatternError::Twice("a".into())),
        ] {
            assert_eq!(Pattern::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_would_always_match_first() {
        for (first, second, expected) in [
            ("/a/{x}/", "/a/b/", true),
            ("/a/b/", "/a/{x}/", false),
            ("/a/**", "/a/b/c/", true),
            ("/a/**", "/a/", true),
            ("/a/", "/a/**", false),
            ("/a/*/**", "/a/", false),
            ("/a/{x}/", "/a/{y}/", true),
            ("/a/b/**", "/a/{x}/**", false),
        ] {
            assert_eq!(
                pattern(first).covers(&pattern(second)),
                expected,
                "{first} before {second}"
            );
        }
    }
}
