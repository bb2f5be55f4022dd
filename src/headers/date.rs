//! HTTP dates (RFC 9110 §5.6.7), and the fields that hold a date or an age (RFC 9111 §5.1, §5.3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use http::header::{AGE, AsHeaderName, EXPIRES, HeaderMap};

use super::{delta_seconds, list};

/// Reads any of the three date formats (RFC 9110 §5.6.7), without case (RFC 9111 §4.2). A zone other than GMT is not a
/// date (§4.2 again).
#[must_use]
pub fn parse(value: &HeaderValue) -> Option<SystemTime> {
    parse_text(str::from_utf8(value.as_bytes()).ok()?)
}

/// The date of a field: the first of its lines that holds one.
pub fn date(headers: &HeaderMap, name: impl AsHeaderName) -> Option<SystemTime> {
    headers.get_all(name).iter().find_map(parse)
}

/// The date of a field that holds one and nothing else. A condition that seems to be a list of dates is ignored (RFC 9110
/// §13.1.3, §13.1.4).
pub fn sole_date(headers: &HeaderMap, name: impl AsHeaderName) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then(|| parse(line)).flatten()
}

/// What Expires says (RFC 9111 §5.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expires {
    /// Fresh until then.
    At(SystemTime),
    /// Not a date (`0` above all), or lines that disagree: expired already.
    Invalid,
}

/// Reads Expires (RFC 9111 §5.3); `None` without the field.
#[must_use]
pub fn expires(headers: &HeaderMap) -> Option<Expires> {
    let mut dates = headers.get_all(EXPIRES).iter().map(parse);
    let first = dates.next()?;
    Some(match first {
        Some(at) if dates.all(|other| other == first) => Expires::At(at),
        _ => Expires::Invalid,
    })
}

/// Reads Age (RFC 9111 §5.1): the first value of the list. What is not a number of seconds is ignored.
#[must_use]
pub fn age(headers: &HeaderMap) -> Option<Duration> {
    list(headers, AGE).next().and_then(delta_seconds)
}

/// Writes a date (RFC 9110 §5.6.7). What a date cannot say becomes the nearest it can: the library would panic before
/// 1970 and after 9999, and the time may come from an upstream's field.
#[must_use]
pub fn format(time: SystemTime) -> HeaderValue {
    let latest = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let text = httpdate::fmt_http_date(time.clamp(UNIX_EPOCH, latest));
    HeaderValue::try_from(text).expect("a formatted date is ASCII")
}

pub(super) fn parse_text(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    httpdate::parse_http_date(text)
        .or_else(|_| httpdate::parse_http_date(&recase(text)))
        .ok()
}

/// Gives the names of days, months and the zone the case in which the library knows them.
fn recase(text: &str) -> String {
    let mut inside_word = false;
    let recased: String = text
        .chars()
        .map(|c| {
            let starts = !inside_word;
            inside_word = c.is_ascii_alphabetic();
            if starts {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    match recased.strip_suffix("Gmt") {
        Some(stem) => format!("{stem}GMT"),
        None => recased,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::lines_of;

    const MOMENT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn moment() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn dates_are_read_leniently() {
        for (text, expected) in [
            (MOMENT, true),
            ("Sunday, 06-Nov-94 08:49:37 GMT", true),
            ("Sun Nov  6 08:49:37 1994", true),
            ("  Sun, 06 Nov 1994 08:49:37 GMT ", true),
            ("sun, 06 nov 1994 08:49:37 gmt", true),
            ("SUNDAY, 06-NOV-94 08:49:37 GMT", true),
            ("sun nov  6 08:49:37 1994", true),
            ("Sun, 06 Nov 1994 08:49:37 CET", false),
            ("Sun, 06 Nov 1994 08:49:37", false),
            ("Sun, 06 Nov 1994 25:49:37 GMT", false),
            ("0", false),
            ("-1", false),
            ("", false),
        ] {
            assert_eq!(parse_text(text), expected.then(moment), "{text}");
        }
    }

    #[test]
    fn the_first_line_that_is_a_date_counts() {
        for (lines, expected) in [
            (&[][..], false),
            (&["x"], false),
            (&[MOMENT], true),
            (&["x", MOMENT], true),
        ] {
            assert_eq!(
                date(&lines_of("date", lines), "date"),
                expected.then(moment),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_condition_with_several_dates_is_none() {
        for (lines, expected) in [
            (&[][..], false),
            (&["x"], false),
            (&[MOMENT], true),
            (&["x", MOMENT], false),
            (&[MOMENT, MOMENT], false),
        ] {
            assert_eq!(
                sole_date(&lines_of("if-modified-since", lines), "if-modified-since"),
                expected.then(moment),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn expires_is_a_date_or_the_past() {
        for (lines, expected) in [
            (&[][..], None),
            (&[MOMENT], Some(Expires::At(moment()))),
            (&[MOMENT, MOMENT], Some(Expires::At(moment()))),
            (&["0"], Some(Expires::Invalid)),
            (&[""], Some(Expires::Invalid)),
            (&[MOMENT, "0"], Some(Expires::Invalid)),
            (&["0", MOMENT], Some(Expires::Invalid)),
            (&["0", "0"], Some(Expires::Invalid)),
            (
                &[MOMENT, "Sun, 06 Nov 1994 08:49:38 GMT"],
                Some(Expires::Invalid),
            ),
        ] {
            assert_eq!(expires(&lines_of("expires", lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn age_is_the_first_number() {
        for (lines, expected) in [
            (&[][..], None),
            (&["60"], Some(60)),
            (&["60, 70"], Some(60)),
            (&["60", "70"], Some(60)),
            (&["99999999999999999999"], Some(1 << 31)),
            (&["-1"], None),
            (&["abc, 60"], None),
            (&["1.5"], None),
        ] {
            assert_eq!(
                age(&lines_of("age", lines)),
                expected.map(Duration::from_secs),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn dates_are_written_and_never_panic() {
        for (time, expected) in [
            (moment(), MOMENT),
            (
                UNIX_EPOCH - Duration::from_secs(1),
                "Thu, 01 Jan 1970 00:00:00 GMT",
            ),
            (
                UNIX_EPOCH + Duration::from_secs(1 << 40),
                "Fri, 31 Dec 9999 23:59:59 GMT",
            ),
        ] {
            assert_eq!(format(time), expected);
        }
    }
}
