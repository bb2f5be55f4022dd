//! Cookie: the pairs a user agent sends (RFC 6265 §4.2, §5.4).

use http::header::{COOKIE, HeaderMap};

/// What stands between the semicolons of a Cookie field, whatever it is; empty pieces say nothing and are left out.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// What is before the first `=`; nothing where there is none, as some apps read it.
    pub name: &'a [u8],
    /// All of it.
    pub whole: &'a [u8],
}

impl Piece<'_> {
    /// Whether it is text: what is not is no cookie to [`cookies`].
    #[must_use]
    pub fn is_text(&self) -> bool {
        str::from_utf8(self.whole).is_ok()
    }
}

/// The pieces over all lines (HTTP/2 sends one line per cookie, RFC 9113 §8.2.3), by bytes, so that one cookie in
/// another charset does not hide its neighbours.
pub fn pieces(headers: &HeaderMap) -> impl Iterator<Item = Piece<'_>> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|whole| !whole.is_empty())
        .map(|whole| Piece {
            name: name_of(whole),
            whole,
        })
}

/// The name of a piece, without the blanks that any app strips: those of Unicode, or, in what is no text, of Latin-1.
fn name_of(whole: &[u8]) -> &[u8] {
    let Some(end) = whole.iter().position(|byte| *byte == b'=') else {
        return &[];
    };
    let name = &whole[..end];
    if let Ok(text) = str::from_utf8(whole) {
        return text[..end].trim().as_bytes();
    }
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0x85 | 0xa0);
    let from = name.iter().position(|byte| !is_blank(byte));
    let to = name.iter().rposition(|byte| !is_blank(byte));
    from.zip(to).map_or(&[], |(from, to)| &name[from..=to])
}

/// The name and value of each cookie, over all lines. What is no pair, or no text, is skipped; values are as they were
/// sent, quotes included.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    pieces(headers)
        .filter_map(|piece| {
            let (name, value) = str::from_utf8(piece.whole).ok()?.split_once('=')?;
            Some((name.trim(), value.trim()))
        })
        .filter(|(name, _)| !name.is_empty())
}

/// Whether a cookie of this name stands where some apps see one and others do not: inside a piece, behind a blank, a comma
/// or a quote. Python's parser and those made of it split there, too.
#[must_use]
pub fn hides(headers: &HeaderMap, name: &str) -> bool {
    let name = name.as_bytes();
    headers.get_all(COOKIE).iter().any(|line| {
        let line = line.as_bytes();
        let ends = line.windows(name.len()).enumerate();
        ends.filter(|(_, part)| *part == name).any(|(at, _)| {
            let rest = line[at + name.len()..].trim_ascii_start();
            let before = line[..at].trim_ascii_end();
            let is_separate = line[..at].last().is_some_and(|byte| !is_name_byte(*byte));
            rest.first() == Some(&b'=')
                && is_separate
                && before.last().is_some_and(|byte| *byte != b';')
        })
    })
}

/// Whether a byte before a name makes it another name.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'_' | b'-' | b'.' | b'!' | b'$' | b'%' | b'&' | b'+' | b'~'
        )
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
    fn a_cookie_that_some_apps_do_not_see_is_found() {
        for (line, hidden) in [
            ("sessionid=a", false),
            ("x=1; sessionid=a", false),
            ("x=1;\t sessionid = a", false),
            ("x=1;;sessionid=a", false),
            ("xsessionid=a; my-sessionid=b", false),
            ("x=sessionid", false),
            ("x=sessionid; y=2", false),
            ("x=1 sessionid=a", true),
            ("x=1, sessionid=a", true),
            ("x=1,sessionid=a", true),
            ("x=1\tsessionid=a", true),
            ("x=\"a\" sessionid =a", true),
            ("x=\"sessionid=a\"", true),
            ("sessionid=a; x=1 sessionid=b", true),
        ] {
            assert_eq!(
                hides(&lines_of("cookie", &[line]), "sessionid"),
                hidden,
                "{line}"
            );
        }
    }

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
    fn a_piece_is_all_that_stands_between_semicolons() {
        for (line, expected) in [
            (&b"a=1; b"[..], &[(&b"a"[..], &b"a=1"[..]), (b"", b"b")][..]),
            (b"a = 1 ;;  ; =x", &[(b"a", b"a = 1"), (b"", b"=x")]),
            (b"\xa0a=\xff", &[(b"a", b"\xa0a=\xff")]),
            (b"\xc2\xa0a=1", &[(b"a", b"\xc2\xa0a=1")]),
            (b"\xff=1", &[(b"\xff", b"\xff=1")]),
            (b" ", &[]),
        ] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(line).expect("a field's value");
            headers.insert(COOKIE, value);
            let found: Vec<_> = pieces(&headers)
                .map(|piece| (piece.name, piece.whole))
                .collect();
            assert_eq!(found, expected, "{}", line.escape_ascii());
        }
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
