//! The session token: a client that has written shows what it must see.
//!
//! An answer to a committed write carries the place of its drop in the log, `<epoch hex>-<seq>`. A read on a `bounded` route
//! that presents one is answered from a cache only by a replica that has read the log up to there: a client reads its own
//! writes, through any replica, while nobody waits for anybody otherwise. What flows in: a request's fields, from which the
//! token is taken before anything looks at them, so that it is part of no key and the app never sees it. What flows out: a
//! [`Place`], or nothing; a token that cannot be read is as good as none.

use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::headers::cookie;

/// The field.
const CACHE_TOKEN: HeaderName = HeaderName::from_static("cache-token");

/// The cookie.
const COOKIE: &str = "reprise_token";

/// How session tokens travel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tokens {
    /// There are none.
    #[default]
    Off,
    /// In the field `Cache-Token`, both ways: for clients that are programs.
    Header,
    /// In a cookie too: for browsers.
    Cookie,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) epoch: u64,
    pub(super) seq: u64,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.trim().split_once('-')?;
        let plain = |digits: &str, most: usize, radix| {
            let sound = (1..=most).contains(&digits.len())
                && digits.chars().all(|digit| digit.is_digit(radix));
            sound.then(|| u64::from_str_radix(digits, radix).ok())?
        };
        Some(Self {
            epoch: plain(epoch, 16, 16)?,
            seq: plain(seq, 20, 10)?,
        })
    }

    /// Puts the token on an answer. `secure`: the client came by https.
    pub(super) fn put(self, tokens: Tokens, secure: bool, headers: &mut HeaderMap) {
        let (name, text) = match tokens {
            Tokens::Off => return,
            Tokens::Header => (CACHE_TOKEN, self.to_string()),
            Tokens::Cookie => {
                let secure = if secure { "; Secure" } else { "" };
                let text = format!("{COOKIE}={self}; Path=/; HttpOnly; SameSite=Lax{secure}");
                (header::SET_COOKIE, text)
            }
        };
        let Ok(value) = HeaderValue::try_from(text) else {
            return;
        };
        if name == header::SET_COOKIE {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.seq)
    }
}

/// Takes the token out of a request's fields. Of several, the field's counts, and of several of one kind the last.
pub(super) fn take(tokens: Tokens, headers: &mut HeaderMap) -> Option<Place> {
    if tokens == Tokens::Off {
        return None;
    }
    let shown = headers.get_all(CACHE_TOKEN).iter().next_back();
    let mut found = shown.and_then(|value| Place::parse(value.to_str().ok()?));
    headers.remove(CACHE_TOKEN);
    if tokens == Tokens::Cookie && cookie::cookie(headers, COOKIE).is_some() {
        found = found.or_else(|| Place::parse(cookie::cookie(headers, COOKIE)?));
        remove_cookie(headers);
    }
    found
}

/// Removes our cookie; the others stay as they came.
fn remove_cookie(headers: &mut HeaderMap) {
    let kept: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| {
            if !line.as_bytes().split(|byte| *byte == b';').any(is_ours) {
                return Some(line.clone());
            }
            let pairs = line.as_bytes().split(|byte| *byte == b';');
            let pairs: Vec<&[u8]> = pairs.filter(|pair| !is_ours(pair)).collect();
            let rest = pairs.join(&b';');
            HeaderValue::from_bytes(rest.trim_ascii())
                .ok()
                .filter(|rest| !rest.is_empty())
        })
        .collect();
    headers.remove(header::COOKIE);
    for line in kept {
        headers.append(header::COOKIE, line);
    }
}

fn is_ours(pair: &[u8]) -> bool {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.trim_ascii() == COOKIE.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        epoch: 0xab,
        seq: 7,
    };

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for place in [
            PLACE,
            Place {
                epoch: u64::MAX,
                seq: u64::MAX,
            },
        ] {
            assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        assert_eq!(PLACE.to_string(), "00000000000000ab-7");
        assert_eq!(Place::parse("AB-7"), Some(PLACE));
    }

    #[test]
    fn what_is_no_place_is_none() {
        for text in [
            "",
            "-",
            "ab",
            "ab-",
            "-7",
            "+ab-7",
            "ab-+7",
            "xy-7",
            "ab-7-8",
            "ab-7, ab-8",
            "00000000000000000ab-7",
            "ab-18446744073709551616",
            "ab--7",
            "ä-7",
        ] {
            assert_eq!(Place::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_token_leaves_the_request_whether_it_can_be_read_or_not() {
        // The field, and what of it is found and left; then the same of cookies.
        for (tokens, field, found, left) in [
            (Tokens::Off, "ab-7", None, Some("ab-7")),
            (Tokens::Header, "ab-7", Some(PLACE), None),
            (Tokens::Header, "junk", None, None),
            (Tokens::Cookie, "ab-7", Some(PLACE), None),
        ] {
            let mut headers = fields(&[("cache-token", "ab-1"), ("cache-token", field)]);
            assert_eq!(take(tokens, &mut headers), found, "{tokens:?} {field}");
            let last = headers.get_all(CACHE_TOKEN).iter().next_back();
            assert_eq!(last.map(HeaderValue::as_bytes), left.map(str::as_bytes));
        }
        for (tokens, cookie, found, left) in [
            (
                Tokens::Header,
                "reprise_token=ab-7",
                None,
                "reprise_token=ab-7",
            ),
            (Tokens::Cookie, "reprise_token=ab-7", Some(PLACE), ""),
            (
                Tokens::Cookie,
                "a=1; reprise_token=ab-7; b=2",
                Some(PLACE),
                "a=1; b=2",
            ),
            (Tokens::Cookie, "reprise_token=junk;b=2", None, "b=2"),
            (Tokens::Cookie, "a=1;  b=2", None, "a=1;  b=2"),
            (
                Tokens::Cookie,
                "xreprise_token=ab-7",
                None,
                "xreprise_token=ab-7",
            ),
        ] {
            let mut headers = fields(&[("cookie", "c=3"), ("cookie", cookie)]);
            assert_eq!(take(tokens, &mut headers), found, "{tokens:?} {cookie}");
            let lines = [("cookie", "c=3"), ("cookie", left)];
            let kept = if left.is_empty() { &lines[..1] } else { &lines };
            assert_eq!(headers, fields(kept), "{tokens:?} {cookie}");
        }
        let both = [("cache-token", "ab-7"), ("cookie", "reprise_token=ab-1")];
        assert_eq!(take(Tokens::Cookie, &mut fields(&both)), Some(PLACE));
    }

    #[test]
    fn an_answer_carries_it_as_the_operator_said() {
        let put = |tokens, secure| {
            let mut headers = fields(&[("set-cookie", "a=1")]);
            PLACE.put(tokens, secure, &mut headers);
            headers
        };
        let cookie = "reprise_token=00000000000000ab-7; Path=/; HttpOnly; SameSite=Lax";
        assert_eq!(put(Tokens::Off, true), fields(&[("set-cookie", "a=1")]));
        assert_eq!(
            put(Tokens::Header, true),
            fields(&[("set-cookie", "a=1"), ("cache-token", "00000000000000ab-7")])
        );
        assert_eq!(
            put(Tokens::Cookie, false),
            fields(&[("set-cookie", "a=1"), ("set-cookie", cookie)])
        );
        let secure = format!("{cookie}; Secure");
        assert_eq!(
            put(Tokens::Cookie, true),
            fields(&[("set-cookie", "a=1"), ("set-cookie", &secure)])
        );
    }
}
