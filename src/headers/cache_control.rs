//! Cache-Control of responses and requests (RFC 9111 §5.2), and Pragma (§5.4).
//!
//! Where a field contradicts itself or cannot be read, the reading that shares least wins: a cache that guesses
//! high serves what was meant to be private or short-lived.

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, PRAGMA};
use smallvec::SmallVec;

use super::{
    OWS, delta_seconds, elements, has_unreadable_line, is_token, list, parameter, unquote,
};

/// What a response's Cache-Control says (RFC 9111 §5.2.2, RFC 5861, RFC 8246).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResponseDirectives {
    /// Not to be stored (§5.2.2.5).
    pub no_store: bool,
    /// Not to be reused without validation (§5.2.2.4); the unqualified form only.
    pub no_cache: bool,
    /// For one user only (§5.2.2.7); the unqualified form only.
    pub private: bool,
    /// For anyone, even if the request carried credentials (§5.2.2.9).
    pub public: bool,
    /// Not to be served stale (§5.2.2.2).
    pub must_revalidate: bool,
    /// Not to be served stale by a shared cache (§5.2.2.8).
    pub proxy_revalidate: bool,
    /// To be stored only by who knows the status code's rules (§5.2.2.3).
    pub must_understand: bool,
    /// Content not to be transformed, for example compressed (§5.2.2.6).
    pub no_transform: bool,
    /// Does not change while fresh (RFC 8246 §2).
    pub immutable: bool,
    /// Fields of `no-cache="a, b"`: not to be reused without validation (§5.2.2.4).
    pub no_cache_fields: SmallVec<[HeaderName; 1]>,
    /// Fields of `private="a, b"`: not to be stored by a shared cache (§5.2.2.7).
    pub private_fields: SmallVec<[HeaderName; 1]>,
    /// The lifetime (§5.2.2.1). What is not a number of seconds counts as zero.
    pub max_age: Option<Duration>,
    /// The lifetime in a shared cache (§5.2.2.10). What is not a number of seconds counts as zero.
    pub s_maxage: Option<Duration>,
    /// How long after its lifetime it may be served while a refresh runs (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// How long after its lifetime it may be served instead of an error (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
    /// Whether the field was there at all, even empty.
    pub present: bool,
}

impl ResponseDirectives {
    /// Reads Cache-Control (RFC 9111 §5.2).
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self {
            present: headers.contains_key(CACHE_CONTROL),
            // Nobody knows what the line forbids, so it forbids everything.
            no_store: has_unreadable_line(headers, CACHE_CONTROL),
            ..Self::default()
        };
        for element in list(headers, CACHE_CONTROL) {
            directives.take(element);
        }
        directives
    }

    fn take(&mut self, element: &str) {
        if !is_directive(element) {
            // Nobody knows where it ends, so whatever word in it forbids something counts.
            element
                .split(|c: char| !is_token(c.encode_utf8(&mut [0; 4])))
                .map(str::to_ascii_lowercase)
                .filter(|word| RESTRICTIVE.contains(&word.as_str()))
                .for_each(|word| self.note(&word, &Argument::None));
        }
        let (name, value) = parameter(element);
        let argument = match (&value, seconds(element)) {
            (None, _) => Argument::None,
            (Some(_), Some(seconds)) => Argument::Seconds(seconds),
            (Some(text), None) => Argument::Text(text),
        };
        self.note(&name.to_ascii_lowercase(), &argument);
    }

    /// Notes a directive; the name is in lower case.
    pub(super) fn note(&mut self, name: &str, argument: &Argument<'_>) {
        if *argument == Argument::Denied {
            return;
        }
        match name {
            "no-store" => self.no_store = true,
            "no-cache" => qualify(argument, &mut self.no_cache, &mut self.no_cache_fields),
            "private" => qualify(argument, &mut self.private, &mut self.private_fields),
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "no-transform" => self.no_transform = true,
            "immutable" => self.immutable = true,
            "max-age" => shorten(&mut self.max_age, argument.seconds()),
            "s-maxage" => shorten(&mut self.s_maxage, argument.seconds()),
            "stale-while-revalidate" => {
                shorten(&mut self.stale_while_revalidate, argument.seconds());
            }
            "stale-if-error" => shorten(&mut self.stale_if_error, argument.seconds()),
            // §5.2.3: what is not understood is ignored.
            _ => {}
        }
    }
}

/// What an element that is no directive may still have meant.
const RESTRICTIVE: [&str; 5] = [
    "no-store",
    "no-cache",
    "private",
    "must-revalidate",
    "proxy-revalidate",
];

/// Whether an element is a token, perhaps with a token or a quoted string behind `=` (RFC 9111 §5.2).
fn is_directive(element: &str) -> bool {
    let Some((name, value)) = element.split_once('=') else {
        return is_token(element);
    };
    let quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
    let inner = value
        .get(1..value.len().saturating_sub(1))
        .unwrap_or_default();
    // A quote inside, unless it is escaped, ends the string early.
    let whole = quoted && !inner.replace("\\\\", "").replace("\\\"", "").contains('"');
    is_token(name) && (is_token(value) || whole)
}

/// What stands behind the name of a directive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Argument<'a> {
    /// Nothing.
    None,
    /// "No": the directive is as good as absent. Only a targeted field can say so.
    Denied,
    /// A number of seconds.
    Seconds(Duration),
    /// Anything else.
    Text(&'a str),
}

impl Argument<'_> {
    const fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Seconds(seconds) => Some(*seconds),
            Self::None | Self::Denied | Self::Text(_) => None,
        }
    }
}

/// What a request's Cache-Control says (RFC 9111 §5.2.1).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestDirectives {
    /// Wants no answer without validation (§5.2.1.4).
    pub no_cache: bool,
    /// Wants nothing of this exchange stored (§5.2.1.5).
    pub no_store: bool,
    /// Wants content untransformed (§5.2.1.6).
    pub no_transform: bool,
    /// Wants a stored answer or none (§5.2.1.7).
    pub only_if_cached: bool,
    /// Wants nothing older (§5.2.1.1). What is not a number of seconds counts as zero.
    pub max_age: Option<Duration>,
    /// Wants it to stay fresh this much longer (§5.2.1.3).
    pub min_fresh: Option<Duration>,
    /// Takes a stale answer instead of an error, this long after its lifetime (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
    /// Takes a stale answer (§5.2.1.2).
    pub max_stale: Option<MaxStale>,
    /// Whether Cache-Control was there at all, even empty.
    pub present: bool,
}

/// How stale an answer a request takes (RFC 9111 §5.2.1.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MaxStale {
    /// `max-stale` without a number: however stale.
    Any,
    /// `max-stale=n`: at most this long after its lifetime.
    Within(Duration),
}

impl RequestDirectives {
    /// Reads Cache-Control (RFC 9111 §5.2), or else Pragma: no-cache (§5.4).
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self {
            present: headers.contains_key(CACHE_CONTROL),
            ..Self::default()
        };
        for element in list(headers, CACHE_CONTROL) {
            directives.take(element);
        }
        if !directives.present {
            directives.no_cache =
                list(headers, PRAGMA).any(|pragma| pragma.eq_ignore_ascii_case("no-cache"));
        }
        directives
    }

    fn take(&mut self, element: &str) {
        let (name, value) = parameter(element);
        match name.to_ascii_lowercase().as_str() {
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "no-transform" => self.no_transform = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => shorten(&mut self.max_age, seconds(element)),
            "stale-if-error" => shorten(&mut self.stale_if_error, seconds(element)),
            // Here the larger value asks for more.
            "min-fresh" => self.min_fresh = self.min_fresh.max(seconds(element)),
            // A bound that cannot be read permits nothing.
            "max-stale" => {
                let bound = value.map(|_| seconds(element).unwrap_or_default());
                self.max_stale = Some(less_stale(self.max_stale, bound));
            }
            _ => {}
        }
    }
}

/// The seconds of `name=seconds`. No space may be around the `=` (RFC 9111 §5.2): caches differ in what they make of
/// one, so nothing is made of it.
fn seconds(element: &str) -> Option<Duration> {
    let (name, value) = element.split_once('=')?;
    if name.ends_with(OWS) || value.starts_with(OWS) {
        return None;
    }
    delta_seconds(&unquote(value))
}

/// Takes the duration if it is shorter than what was said before. One that could not be read is zero: RFC 9111 §4.2.1
/// encourages treating such a response as stale.
fn shorten(slot: &mut Option<Duration>, duration: Option<Duration>) {
    let duration = duration.unwrap_or_default();
    *slot = Some(slot.map_or(duration, |other| other.min(duration)));
}

/// Notes `no-cache` or `private`, alone or with its field names.
fn qualify(argument: &Argument<'_>, whole: &mut bool, fields: &mut SmallVec<[HeaderName; 1]>) {
    let named: Option<SmallVec<[HeaderName; 1]>> = match argument {
        Argument::Text(value) => elements(value)
            .map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .collect(),
        Argument::None | Argument::Denied | Argument::Seconds(_) => None,
    };
    match named {
        Some(named) if !named.is_empty() => fields.extend(named),
        // A list that cannot be read may have named anything: all of the response is meant.
        _ => *whole = true,
    }
}

/// Of two `max-stale`, the one that permits less.
fn less_stale(known: Option<MaxStale>, bound: Option<Duration>) -> MaxStale {
    match (known, bound) {
        (Some(MaxStale::Within(a)), Some(b)) => MaxStale::Within(a.min(b)),
        (Some(MaxStale::Within(a)), None) => MaxStale::Within(a),
        (None | Some(MaxStale::Any), Some(b)) => MaxStale::Within(b),
        (None | Some(MaxStale::Any), None) => MaxStale::Any,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use smallvec::smallvec;

    use super::*;
    use crate::headers::tests::lines_of;

    fn response(lines: &[&str]) -> ResponseDirectives {
        ResponseDirectives::parse(&lines_of("cache-control", lines))
    }

    fn request(lines: &[&str]) -> RequestDirectives {
        RequestDirectives::parse(&lines_of("cache-control", lines))
    }

    const fn secs(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn response_directives_are_read_without_case_and_over_lines() {
        let read = response(&[
            "No-Store, PUBLIC",
            "must-revalidate,proxy-revalidate",
            "no-transform, immutable",
        ]);
        let expected = ResponseDirectives {
            no_store: true,
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            no_transform: true,
            immutable: true,
            present: true,
            ..ResponseDirectives::default()
        };
        assert_eq!(read, expected);
        assert!(response(&["must-understand, no-store"]).must_understand);
    }

    #[test]
    fn absent_empty_and_unknown_are_told_apart() {
        assert_eq!(response(&[]), ResponseDirectives::default());
        let only_present = ResponseDirectives {
            present: true,
            ..ResponseDirectives::default()
        };
        assert_eq!(response(&[""]), only_present);
        assert_eq!(
            response(&["foo, bar=1, no-stored, max-aged=3"]),
            only_present
        );
        assert_eq!(response(&[r#"foo="no-store, max-age=1""#]), only_present);
    }

    #[test]
    fn max_age_is_read_or_zero() {
        for (line, expected) in [
            ("max-age=60", secs(60)),
            ("MAX-AGE=60", secs(60)),
            (r#"max-age="60""#, secs(60)),
            ("max-age=0060", secs(60)),
            ("max-age=99999999999", secs(1 << 31)),
            ("max-age=99999999999999999999999999", secs(1 << 31)),
            ("max-age=60, max-age=30", secs(30)),
            ("max-age=30, max-age=60", secs(30)),
            ("max-age=60, max-age=x", secs(0)),
            ("max-age=abc", secs(0)),
            ("max-age=-1", secs(0)),
            ("max-age=1.5", secs(0)),
            ("max-age='60'", secs(0)),
            ("max-age=60s", secs(0)),
            ("max-age =60", secs(0)),
            ("max-age= 60", secs(0)),
            (r#"ext="max-age=100", max-age=1"#, secs(1)),
            ("max-age=", secs(0)),
            ("max-age", secs(0)),
            ("s-maxage=60", None),
        ] {
            assert_eq!(response(&[line]).max_age, expected, "{line}");
        }
    }

    #[test]
    fn the_other_durations_are_read() {
        let read = response(&[
            "s-maxage=1, stale-while-revalidate=2",
            "stale-if-error=3, stale-if-error=9",
        ]);
        assert_eq!(read.s_maxage, secs(1));
        assert_eq!(read.stale_while_revalidate, secs(2));
        assert_eq!(read.stale_if_error, secs(3));
    }

    #[test]
    fn the_qualified_forms_name_fields_and_not_the_whole() {
        let cookie = HeaderName::from_static("set-cookie");
        let other = HeaderName::from_static("x-a");
        for (line, whole, fields) in [
            ("no-cache", true, smallvec![]),
            (r#"no-cache="Set-Cookie""#, false, smallvec![cookie.clone()]),
            (
                r#"no-cache="set-cookie, x-a""#,
                false,
                smallvec![cookie.clone(), other],
            ),
            ("no-cache=set-cookie", false, smallvec![cookie.clone()]),
            (
                r#"no-cache="set-cookie", no-cache"#,
                true,
                smallvec![cookie],
            ),
            (r#"no-cache="""#, true, smallvec![]),
            (r#"no-cache="set cookie""#, true, smallvec![]),
            (r#"no-cache="set-cookie"#, true, smallvec![]),
        ] {
            let fields: SmallVec<[HeaderName; 1]> = fields;
            let read = response(&[line]);
            assert_eq!(
                (read.no_cache, read.no_cache_fields),
                (whole, fields.clone()),
                "{line}"
            );
            let read = response(&[&line.replace("no-cache", "private")]);
            assert_eq!(
                (read.private, read.private_fields),
                (whole, fields),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_no_directive_forbids_what_its_words_forbid() {
        for (line, no_store, no_cache, private, must_revalidate) in [
            ("private; max-age=0", false, false, true, false),
            ("no-store; must-revalidate", true, false, false, true),
            ("private;", false, false, true, false),
            ("max-age=300, private;", false, false, true, false),
            ("no-store no-cache", true, true, false, false),
            ("\"private\"", false, false, true, false),
            ("public; NO-STORE", true, false, false, false),
            ("max-age=60; private", false, false, true, false),
            ("max-age=60, x=\"no-store", true, false, false, false),
            ("no-store\\", true, false, false, false),
            ("max-age=1, \"must-revalidate\"", false, false, false, true),
            ("x=\"no-store, private\"", false, false, false, false),
            ("x=no-stored", false, false, false, false),
            ("x=\"a\\\"no-store\"", false, false, false, false),
            ("not private-ish", false, false, false, false),
        ] {
            let read = response(&[line]);
            let found = (
                read.no_store,
                read.no_cache,
                read.private,
                read.must_revalidate,
            );
            assert_eq!(
                found,
                (no_store, no_cache, private, must_revalidate),
                "{line}"
            );
        }
    }

    #[test]
    fn a_response_line_that_is_not_text_forbids_storing() {
        let mut headers = lines_of("cache-control", &["max-age=60"]);
        headers.append(
            "cache-control",
            HeaderValue::from_bytes(b"no-store, x=\"\xe9\"").expect("obs-text"),
        );
        assert!(ResponseDirectives::parse(&headers).no_store);
    }

    #[test]
    fn request_directives_are_read() {
        let read =
            request(&["no-cache, No-Store, no-transform, only-if-cached, max-age=1, min-fresh=2"]);
        let expected = RequestDirectives {
            no_cache: true,
            no_store: true,
            no_transform: true,
            only_if_cached: true,
            max_age: secs(1),
            min_fresh: secs(2),
            present: true,
            ..RequestDirectives::default()
        };
        assert_eq!(read, expected);
        assert_eq!(request(&["stale-if-error=5"]).stale_if_error, secs(5));
        assert_eq!(request(&["min-fresh=5, min-fresh=9"]).min_fresh, secs(9));
        assert_eq!(request(&["min-fresh=x"]).min_fresh, None);
    }

    #[test]
    fn max_stale_has_an_optional_bound() {
        let within = |n| Some(MaxStale::Within(Duration::from_secs(n)));
        for (line, expected) in [
            ("max-stale", Some(MaxStale::Any)),
            ("max-stale=60", within(60)),
            ("max-stale, max-stale=60", within(60)),
            ("max-stale=60, max-stale", within(60)),
            ("max-stale=60, max-stale=30", within(30)),
            ("max-stale=x", within(0)),
            ("max-age=0", None),
        ] {
            assert_eq!(request(&[line]).max_stale, expected, "{line}");
        }
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        for (cache_control, pragma, expected) in [
            (None, "no-cache", true),
            (None, "foo, No-Cache", true),
            (None, "foo", false),
            (Some("max-age=5"), "no-cache", false),
            (Some(""), "no-cache", false),
        ] {
            let mut headers = lines_of("pragma", &[pragma]);
            headers.extend(
                cache_control.map(|value| (CACHE_CONTROL, HeaderValue::from_static(value))),
            );
            assert_eq!(
                RequestDirectives::parse(&headers).no_cache,
                expected,
                "{cache_control:?} {pragma}"
            );
        }
    }
}
