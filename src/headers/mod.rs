//! Field syntax: what a header says, as a type. Parses, compares and formats; never decides anything.
//!
//! [`list`] is the only comma-splitter of the crate: whoever splits on commas by hand forgets repeated lines or
//! quoted strings, and a directive inside either is then missed.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{AsHeaderName, HeaderMap};

pub mod cache_control;
pub mod coding;
pub mod cookie;
pub mod date;
pub mod escape;
pub mod forwarded;
pub mod hop_by_hop;
pub mod no_vary_search;
pub mod range;
mod structured;
pub mod tags;
pub mod targeted;
pub mod validator;

pub use cache_control::{MaxStale, RequestDirectives, ResponseDirectives};
pub use coding::{AcceptEncoding, Coding};
pub use date::Expires;
pub use range::{ByteRange, IfRange, Unsatisfiable};
pub use validator::{ETag, ETags};

/// The elements of a list field, over all of its lines (RFC 9110 §5.6.1): quoted strings stay whole, whitespace
/// around elements is trimmed, empty elements are skipped, and so are lines that are not UTF-8.
pub fn list(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
    lines(headers, name).flat_map(elements)
}

/// Splits `name=value` of a list element (RFC 9110 §5.6.6), taking a quoted value out of its quotes. The name comes
/// as it was written; compare it without case.
#[must_use]
pub fn parameter(element: &str) -> (&str, Option<Cow<'_, str>>) {
    match element.split_once('=') {
        None => (element.trim_matches(OWS), None),
        Some((name, value)) => (
            name.trim_matches(OWS),
            Some(unquote(value.trim_matches(OWS))),
        ),
    }
}

/// Whether the text is a token (RFC 9110 §5.6.2), that is, needs no quotes.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Writes a token as it is and anything else as a quoted string (RFC 9110 §5.6.4).
#[must_use]
pub fn quote_unless_token(text: &str) -> Cow<'_, str> {
    if is_token(text) {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

/// Reads delta-seconds (RFC 9111 §1.2.2): digits only. What is larger than 2^31 counts as 2^31, as the section
/// demands of values that overflow, so that sums of lifetimes cannot.
#[must_use]
pub fn delta_seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = text.parse().unwrap_or(u64::MAX);
    Some(Duration::from_secs(seconds.min(1 << 31)))
}

/// Optional whitespace (RFC 9110 §5.6.3).
const OWS: [char; 2] = [' ', '\t'];

/// The lines of a field that are text.
fn lines(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| str::from_utf8(value.as_bytes()).ok())
}

/// Whether some line of a field cannot be read as text: [`list`] skips it, so whoever would share more for not seeing an
/// element (Vary, Cache-Control) has to ask.
pub fn has_unreadable_line(headers: &HeaderMap, name: impl AsHeaderName) -> bool {
    headers
        .get_all(name)
        .iter()
        .any(|value| str::from_utf8(value.as_bytes()).is_err())
}

/// The elements of one line whose quoted strings may hold `\"` (RFC 9110 §5.6.4).
const fn elements(line: &str) -> Elements<'_> {
    Elements {
        rest: line,
        escapes: true,
        quotes: true,
    }
}

/// The elements of one line of entity tags, in which a backslash is a character like another (RFC 9110 §8.8.3).
const fn tag_elements(line: &str) -> Elements<'_> {
    Elements {
        rest: line,
        escapes: false,
        quotes: true,
    }
}

struct Elements<'a> {
    rest: &'a str,
    escapes: bool,
    /// Off once a quote was found without an end: it is then a character like another. Otherwise one stray quote
    /// would hide a `no-store` behind it; and looking for an end again at each quote would be quadratic.
    quotes: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        while !self.rest.is_empty() {
            let end = self.element_end();
            let element = self.rest[..end].trim_matches(OWS);
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

impl Elements<'_> {
    /// Where the first comma outside quotes is, or else the end.
    fn element_end(&mut self) -> usize {
        let bytes = self.rest.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b',' => return at,
                b'"' if self.quotes => match quoted_length(&bytes[at..], self.escapes) {
                    Some(length) => at += length,
                    None => self.quotes = false,
                },
                _ => at += 1,
            }
        }
        at
    }
}

/// How long the quoted string at the start is, with both quotes; `None` if it has no end.
fn quoted_length(bytes: &[u8], escapes: bool) -> Option<usize> {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Some(at + 1),
            b'\\' if escapes => at += 2,
            _ => at += 1,
        }
    }
    None
}

fn unquote(value: &str) -> Cow<'_, str> {
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Cow::Borrowed(value);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Cow::Owned(text)
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// A header map with these lines of one field.
    pub fn lines_of(name: &'static str, lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| {
                let value =
                    HeaderValue::from_bytes(line.as_bytes()).expect("a test's line is a value");
                (http::HeaderName::from_static(name), value)
            })
            .collect()
    }

    #[test]
    fn a_list_is_split_at_commas_outside_quotes() {
        for (lines, expected) in [
            (&["a, b"][..], &["a", "b"][..]),
            (&["a,b,,  ,c ,"], &["a", "b", "c"]),
            (&["a", "b, c"], &["a", "b", "c"]),
            (&[""], &[]),
            (&["\t a\t,\tb c "], &["a", "b c"]),
            (&[r#"x="1, 2", y"#], &[r#"x="1, 2""#, "y"]),
            (&[r#"x="1\", 2", y"#], &[r#"x="1\", 2""#, "y"]),
            (&[r#"x="1\\", y"#], &[r#"x="1\\""#, "y"]),
            (&["é, b"], &["é", "b"]),
        ] {
            let headers = lines_of("x", lines);
            assert_eq!(
                list(&headers, "x").collect::<Vec<_>>(),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_quote_without_an_end_hides_nothing() {
        for (line, expected) in [
            (r#"x="1, no-store"#, &[r#"x="1"#, "no-store"][..]),
            (r#"x="1\", no-store"#, &[r#"x="1\""#, "no-store"]),
            (
                r#"x="1", y=", no-store"#,
                &[r#"x="1""#, r#"y=""#, "no-store"],
            ),
            (r#"x="\"#, &[r#"x="\"#]),
        ] {
            let headers = lines_of("x", &[line]);
            assert_eq!(list(&headers, "x").collect::<Vec<_>>(), expected, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_not_text_is_skipped() {
        let mut headers = lines_of("x", &["a"]);
        headers.append(
            "x",
            HeaderValue::from_bytes(b"b\xff").expect("obs-text is allowed"),
        );
        headers.append("x", HeaderValue::from_static("c"));

        assert_eq!(list(&headers, "x").collect::<Vec<_>>(), ["a", "c"]);
        assert!(has_unreadable_line(&headers, "x"));
    }

    #[test]
    fn a_parameter_is_split_and_unquoted() {
        for (element, name, value) in [
            ("a", "a", None),
            ("a=b", "a", Some("b")),
            ("a=", "a", Some("")),
            ("a = b", "a", Some("b")),
            (r#"a="b c""#, "a", Some("b c")),
            (r#"a="b\"c\\""#, "a", Some(r#"b"c\"#)),
            (r#"a="b=c""#, "a", Some("b=c")),
            (r#"a=""#, "a", Some(r#"""#)),
            (r#"a="b"#, "a", Some(r#""b"#)),
        ] {
            let (found, text) = parameter(element);
            assert_eq!((found, text.as_deref()), (name, value), "{element}");
        }
    }

    #[test]
    fn a_token_has_no_delimiters() {
        for (text, expected) in [
            ("max-age", true),
            ("a~b", true),
            ("", false),
            ("a b", false),
            ("a:1", false),
        ] {
            assert_eq!(is_token(text), expected, "{text}");
        }
        assert_eq!(quote_unless_token("abc"), "abc");
        assert_eq!(quote_unless_token(r#"a:"\"#), r#""a:\"\\""#);
    }

    #[test]
    fn delta_seconds_are_digits_and_capped() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0060", Some(60)),
            ("2147483648", Some(1 << 31)),
            ("2147483649", Some(1 << 31)),
            ("99999999999999999999999", Some(1 << 31)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1 ", None),
            ("abc", None),
        ] {
            assert_eq!(
                delta_seconds(text),
                expected.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
