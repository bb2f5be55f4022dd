//! Cookie: the pairs a user agent sends (RFC 6265 §4.2, §5.4).

use http::header::{COOKIE, HeaderMap};

/// The name and value of each cookie, over all lines (HTTP/2 sends one line per cookie, RFC 9113 §8.2.3). What is no
/// pair, or no text, is skipped; values are as they were sent, quotes included.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        // By bytes, so that one cookie in another charset does not hide its neighbours.
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| {
            let (name, value) = str::from_utf8(pair).ok()?.split_once('=')?;
            Some((name.trim(), value.trim()))
        })
        .filter(|(name, _)| !name.is_empty())
}

/// The value of one cookie; names have case (RFC 6265 §5.3). The last wins when it is repeated, as in the dictionaries
/// of Django and most frameworks: identity must come from the value the app looks at.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    cookies(headers)
        .filter(|(found, _)| *found == name)
        .last()
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::headers::tests::lines_of;

    #[test]
    fn pairs_are_read_over_lines() {
        for (lines, expected) in [
            (&["a=1; b=2"][..], &[("a", "1"), ("b", "2")][..]),
            (&["a=1;b=2;"], &[("a", "1"), ("b", "2")]),
            (&["a=1", "b=2"], &[("a", "1"), ("b", "2")]),
            (&["a=b=c; d="], &[("a", "b=c"), ("d", "")]),
            (&["a=1, b=2"], &[("a", "1, b=2")]),
            (&["junk; =x; ; a = 1 "], &[("a", "1")]),
            (&[r#"a="q r""#], &[("a", r#""q r""#)]),
            (&[""], &[]),
            (&[], &[]),
        ] {
            let headers = lines_of("cookie", lines);
            assert_eq!(cookies(&headers).collect::<Vec<_>>(), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_cookie_that_is_not_text_hides_no_other() {
        let mut headers = HeaderMap::new();
        headers.insert(
            COOKIE,
            HeaderValue::from_bytes(b"a=1; b=\xff; c=3").expect("obs-text"),
        );
        assert_eq!(
            cookies(&headers).collect::<Vec<_>>(),
            [("a", "1"), ("c", "3")]
        );
    }

    #[test]
    fn one_cookie_is_found_by_its_exact_name() {
        let headers = lines_of("cookie", &["sessionid=one; csrftoken=x", "sessionid=two"]);
        for (name, expected) in [
            ("sessionid", Some("two")),
            ("csrftoken", Some("x")),
            ("SessionId", None),
            ("session", None),
        ] {
            assert_eq!(cookie(&headers, name), expected, "{name}");
        }
    }
}
