//! Range and If-Range, and the answers to them. Input: the length of the body; then fields of the request (`range`,
//! `if-range`); after an empty line those of the stored response.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Method;
use http::header::{self, HeaderMap};
use http_body::Body as _;
use reprise::body::Body;
use reprise::entry::Entry;
use reprise::headers::{date, range, validator};
use reprise::respond::{Style, answer};

use crate::input::{elements, message, parts, texts};
use crate::made;

/// The longest body: what counts is decided at its ends.
const LONGEST: usize = 300;

/// What holds for any range of any body.
pub fn check(data: &[u8]) {
    let [asked, stored] = parts(data);
    let line = asked
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(asked.len());
    let length = asked[..line].iter().fold(0_usize, |length, byte| {
        (length * 10 + usize::from(byte.wrapping_sub(b'0').min(9))) % (LONGEST + 1)
    });
    let request = message(&asked[line..]);
    let body: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
    let mut stored = message(stored);
    // What an app says of no part means nothing, and is passed on.
    stored.remove(header::CONTENT_RANGE);
    let entry = made::entry(stored, body.clone());
    let wanted = plainly(&request, length);
    a_range_lies_in_the_length(&request, wanted.as_deref(), length);
    an_answer_is_that_part(&request, &entry, wanted.as_deref(), &body);
}

/// The places that a Range asks for, found by asking of each place whether it is meant; `None` where there is no range to
/// honour.
fn plainly(request: &HeaderMap, length: usize) -> Option<Vec<usize>> {
    let lines = texts(request, "range")?;
    let [line] = &lines[..] else {
        return None;
    };
    let (unit, set) = line.split_once('=')?;
    let specs = elements(set, true);
    let (true, [spec]) = (unit.eq_ignore_ascii_case("bytes"), &specs[..]) else {
        return None;
    };
    let (first, last) = spec.split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(first) || !is_number(last) || (first.is_empty() && last.is_empty()) {
        return None;
    }
    // Numbers of any length, compared as they are written.
    let at_most = |one: &str, other: &str| {
        let one = one.trim_start_matches('0');
        let other = other.trim_start_matches('0');
        (one.len(), one) <= (other.len(), other)
    };
    if !first.is_empty() && !last.is_empty() && !at_most(first, last) {
        return None;
    }
    let is_meant = |at: &usize| {
        let here = at.to_string();
        match (first, last) {
            ("", suffix) => at_most(&(length - at).to_string(), suffix),
            (first, "") => at_most(first, &here),
            (first, last) => at_most(first, &here) && at_most(&here, last),
        }
    };
    Some((0..length).filter(is_meant).collect())
}

fn a_range_lies_in_the_length(request: &HeaderMap, wanted: Option<&[usize]>, length: usize) {
    let parsed = range::parse(request);
    assert_eq!(parsed.is_some(), wanted.is_some());
    let (Some(parsed), Some(wanted)) = (parsed, wanted) else {
        return;
    };
    match parsed.resolve(length as u64) {
        Err(_) => assert!(wanted.is_empty()),
        Ok(part) => {
            assert!(part.start < part.end && part.end <= length as u64);
            let expected = wanted.iter().map(|at| *at as u64);
            assert!(part.clone().eq(expected), "{part:?} and {wanted:?}");
        }
    }
    for length in [0, 1, u64::MAX] {
        if let Ok(part) = parsed.resolve(length) {
            assert!(part.start < part.end && part.end <= length);
        }
    }
}

/// 206 with that part and no other, 416 where there is none, or else the whole.
fn an_answer_is_that_part(
    request: &HeaderMap,
    entry: &Entry,
    wanted: Option<&[usize]>,
    body: &[u8],
) {
    let style = Style {
        compression: None,
        client_max_age: Duration::ZERO,
        one_user: false,
    };
    let (head, sent) = answer(&Method::GET, request, entry, &style, made::moment()).into_parts();
    let told = head.headers.get(header::CONTENT_RANGE);
    let told = told.map(|value| value.to_str().expect("text"));
    let sent = bytes_of(sent);
    match (head.status.as_u16(), wanted) {
        (206, Some(wanted)) => {
            let part: Vec<u8> = wanted.iter().map(|at| body[*at]).collect();
            assert_eq!(sent, part);
            let (first, last) = (wanted[0], wanted[wanted.len() - 1]);
            assert_eq!(told, Some(&*format!("bytes {first}-{last}/{}", body.len())));
            assert!(
                may_be_joined(request, entry),
                "of another representation, perhaps"
            );
        }
        (416, Some([])) => {
            assert_eq!(told, Some(&*format!("bytes */{}", body.len())));
            assert!(
                may_be_joined(request, entry),
                "a condition that failed was honoured"
            );
        }
        (200, _) => {
            assert_eq!((sent, told), (body.to_vec(), None));
            let ignored = wanted.is_none() || request.contains_key(header::IF_RANGE);
            assert!(ignored, "a range was not honoured");
        }
        // Other conditions may have come with the request.
        (304 | 412, _) => assert!(sent.is_empty()),
        other => panic!("{other:?}"),
    }
}

/// RFC 9110 §13.1.5: the part may be put beside others that the client has, if If-Range names what is stored by a strong
/// validator.
fn may_be_joined(request: &HeaderMap, entry: &Entry) -> bool {
    let lines: Vec<_> = request.get_all(header::IF_RANGE).iter().collect();
    let [line] = lines[..] else {
        return lines.is_empty();
    };
    let etag = validator::etag(&entry.headers).filter(|etag| !etag.weak);
    if etag.is_some_and(|etag| etag.to_value() == line) {
        return true;
    }
    let modified = entry
        .headers
        .get(header::LAST_MODIFIED)
        .and_then(date::parse);
    // §8.8.2.2: a date is strong if it is a second older than the answer.
    modified.is_some_and(|modified| {
        date::parse(line) == Some(modified) && modified + Duration::from_secs(1) <= entry.facts.date
    })
}

/// The whole of a body in memory.
pub fn bytes_of(mut body: Body) -> Vec<u8> {
    let mut context = Context::from_waker(Waker::noop());
    let mut bytes = Vec::new();
    while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
        let frame = frame.expect("it is in memory");
        bytes.extend_from_slice(frame.data_ref().expect("data"));
    }
    bytes
}
