//! A part of a representation: Range, If-Range and Content-Range (RFC 9110 §14, §13.1.5).

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use http::HeaderValue;
use http::header::{HeaderMap, IF_RANGE, RANGE};

use super::validator::ETag;
use super::{date, elements};

/// One range of bytes, as it was asked for (RFC 9110 §14.1.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ByteRange {
    /// `first-`: from this byte to the end.
    From {
        /// The first byte, counted from zero.
        first: u64,
    },
    /// `first-last`, both included.
    Between {
        /// The first byte, counted from zero.
        first: u64,
        /// The last byte, not before the first.
        last: u64,
    },
    /// `-length`: the last bytes.
    Suffix {
        /// How many.
        length: u64,
    },
}

/// No byte of the representation is in the range: 416 (RFC 9110 §15.5.17).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unsatisfiable;

/// Reads Range. `None` when there is none to honour: no field, another unit, a syntax error (RFC 9110 §14.2: ignored),
/// or several ranges, which may be answered with the whole (§14.2 again) and are a cheap way to exhaust a server.
#[must_use]
pub fn parse(headers: &HeaderMap) -> Option<ByteRange> {
    let mut lines = headers.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (unit, set) = str::from_utf8(line.as_bytes())
        .ok()?
        .trim()
        .split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = elements(set);
    let (Some(spec), None) = (specs.next(), specs.next()) else {
        return None;
    };
    match spec.split_once('-')? {
        ("", length) => Some(ByteRange::Suffix {
            length: position(length)?,
        }),
        (first, "") => Some(ByteRange::From {
            first: position(first)?,
        }),
        (first, last) => {
            let range = ByteRange::Between {
                first: position(first)?,
                last: position(last)?,
            };
            // As they are written: beyond 64 bits one is still larger than another.
            (in_order(first) <= in_order(last)).then_some(range)
        }
    }
}

impl ByteRange {
    /// The bytes it means of a representation this long (RFC 9110 §14.1.2).
    ///
    /// # Errors
    ///
    /// When there is no such byte; always, if the representation is empty, as Content-Range cannot name no bytes.
    pub fn resolve(self, length: u64) -> Result<Range<u64>, Unsatisfiable> {
        let range = match self {
            Self::From { first } => first..length,
            Self::Between { first, last } => first..length.min(last.saturating_add(1)),
            Self::Suffix { length: suffix } => length.saturating_sub(suffix)..length,
        };
        if range.is_empty() {
            Err(Unsatisfiable)
        } else {
            Ok(range)
        }
    }
}

impl fmt::Display for Unsatisfiable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no byte is in the range")
    }
}

impl StdError for Unsatisfiable {}

/// Content-Range of a 206 (RFC 9110 §14.4). The range is not empty and ends within the length.
#[must_use]
pub fn content_range(range: Range<u64>, length: u64) -> HeaderValue {
    let Range { start, end } = range;
    let last = end.saturating_sub(1);
    value(format!("bytes {start}-{last}/{length}"))
}

/// Content-Range of a 416 (RFC 9110 §14.4).
#[must_use]
pub fn unsatisfied(length: u64) -> HeaderValue {
    value(format!("bytes */{length}"))
}

/// The condition on which Range is honoured (RFC 9110 §13.1.5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IfRange {
    /// If this is the current tag, by strong comparison.
    Tag(ETag),
    /// If this is exactly the current Last-Modified.
    Date(SystemTime),
}

impl IfRange {
    /// Reads If-Range; `None` without the field.
    ///
    /// What is neither a tag nor a date comes out as a weak tag, which no strong comparison matches: a condition that
    /// cannot be read has failed, and honouring the range could join parts of two representations.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(IF_RANGE).iter();
        let line = lines.next()?;
        if lines.next().is_some() {
            return Some(Self::Tag(ETag::default().weaken()));
        }
        Some(match ETag::parse(line) {
            Some(tag) => Self::Tag(tag),
            None => {
                date::parse(line).map_or_else(|| Self::Tag(ETag::default().weaken()), Self::Date)
            }
        })
    }
}

/// A position in digits. One that overflows is past every end, which is all that matters of it.
fn position(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// What digits of any length compare by: how many count, and which.
fn in_order(digits: &str) -> (usize, &str) {
    let digits = digits.trim_start_matches('0');
    (digits.len(), digits)
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("a content range is ASCII")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::ByteRange::{Between, From, Suffix};
    use super::*;
    use crate::headers::tests::lines_of;

    #[test]
    fn one_range_of_bytes_is_read_and_all_else_ignored() {
        for (lines, expected) in [
            (
                &["bytes=0-499"][..],
                Some(Between {
                    first: 0,
                    last: 499,
                }),
            ),
            (&["bytes=5-5"], Some(Between { first: 5, last: 5 })),
            (&["BYTES=5-"], Some(From { first: 5 })),
            (&["bytes=-5"], Some(Suffix { length: 5 })),
            (&["bytes= 0-4 ,"], Some(Between { first: 0, last: 4 })),
            (
                &["bytes=0-99999999999999999999999"],
                Some(Between {
                    first: 0,
                    last: u64::MAX,
                }),
            ),
            (&["bytes=0-1,3-4"], None),
            (&["bytes=0-1", "bytes=3-4"], None),
            (&["bytes=5-4"], None),
            (&["bytes=99999999999999999999-99999999999999999998"], None),
            (&["bytes=0009-10"], Some(Between { first: 9, last: 10 })),
            (&["bytes=-"], None),
            (&["bytes=--5"], None),
            (&["bytes=+5-6"], None),
            (&["bytes=a-b"], None),
            (&["bytes="], None),
            (&["bytes"], None),
            (&["bytes=1 - 2"], None),
            (&["bytes =1-2"], None),
            (&["items=0-1"], None),
            (&[], None),
        ] {
            assert_eq!(parse(&lines_of("range", lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_range_is_cut_to_the_length() {
        for (range, length, expected) in [
            (
                Between {
                    first: 0,
                    last: 499,
                },
                1000,
                Ok(0..500),
            ),
            (
                Between {
                    first: 0,
                    last: 499,
                },
                100,
                Ok(0..100),
            ),
            (
                Between {
                    first: 99,
                    last: 99,
                },
                100,
                Ok(99..100),
            ),
            (
                Between {
                    first: 100,
                    last: 100,
                },
                100,
                Err(Unsatisfiable),
            ),
            (
                Between {
                    first: 0,
                    last: u64::MAX,
                },
                100,
                Ok(0..100),
            ),
            (From { first: 99 }, 100, Ok(99..100)),
            (From { first: 100 }, 100, Err(Unsatisfiable)),
            (From { first: u64::MAX }, 100, Err(Unsatisfiable)),
            (Suffix { length: 5 }, 100, Ok(95..100)),
            (Suffix { length: 500 }, 100, Ok(0..100)),
            (Suffix { length: 0 }, 100, Err(Unsatisfiable)),
            (From { first: 0 }, 0, Err(Unsatisfiable)),
            (Suffix { length: 5 }, 0, Err(Unsatisfiable)),
        ] {
            assert_eq!(range.resolve(length), expected, "{range:?} of {length}");
        }
    }

    #[test]
    fn content_range_is_written() {
        assert_eq!(content_range(0..500, 1234), "bytes 0-499/1234");
        assert_eq!(content_range(99..100, 100), "bytes 99-99/100");
        assert_eq!(unsatisfied(1234), "bytes */1234");
    }

    #[test]
    fn if_range_is_a_tag_or_a_date_or_never_matches() {
        let tag = |text| ETag::parse(text).map(IfRange::Tag);
        let date = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (lines, expected) in [
            (&[][..], None),
            (&["\"a\""], tag("\"a\"")),
            (&["W/\"a\""], tag("W/\"a\"")),
            (
                &["Sun, 06 Nov 1994 08:49:37 GMT"],
                Some(IfRange::Date(date)),
            ),
            (&["junk"], tag("W/\"\"")),
            (&["\"a\"", "\"b\""], tag("W/\"\"")),
        ] {
            assert_eq!(
                IfRange::parse(&lines_of("if-range", lines)),
                expected,
                "{lines:?}"
            );
        }
    }
}
