//! Cache-Control of responses and requests, and Pragma. Input: lines of the field; after an empty line, more lines of it.

use std::cmp::{max, min};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use reprise::headers::{MaxStale, RequestDirectives, ResponseDirectives};

use crate::input::{elements, field, is_closed, parts, texts};

const FIELD: &str = "cache-control";

/// What holds for any lines.
pub fn check(data: &[u8]) {
    let [one, other] = parts(data);
    let (one, other) = (field(FIELD, one), field(FIELD, other));
    let both = together(&one, &other);
    responses_add_up(&one, &other, &both);
    requests_add_up(&one, &other, &both);
    case_means_nothing(&both);
    one_line_says_what_several_say(&both);
    plain_reading_agrees(&both);
    pragma_is_only_for_who_says_no_more(&one);
}

/// The lines of both.
fn together(one: &HeaderMap, other: &HeaderMap) -> HeaderMap {
    let mut both = one.clone();
    for value in other.get_all(FIELD) {
        both.append(FIELD, value.clone());
    }
    both
}

/// Of two lines the one that shares less counts, whatever their order.
fn responses_add_up(one: &HeaderMap, other: &HeaderMap, both: &HeaderMap) {
    let (a, b) = (
        ResponseDirectives::parse(one),
        ResponseDirectives::parse(other),
    );
    let fields = |a: &[HeaderName], b: &[HeaderName]| a.iter().chain(b).cloned().collect();
    let expected = ResponseDirectives {
        no_store: a.no_store | b.no_store,
        no_cache: a.no_cache | b.no_cache,
        private: a.private | b.private,
        public: a.public | b.public,
        must_revalidate: a.must_revalidate | b.must_revalidate,
        proxy_revalidate: a.proxy_revalidate | b.proxy_revalidate,
        must_understand: a.must_understand | b.must_understand,
        no_transform: a.no_transform | b.no_transform,
        immutable: a.immutable | b.immutable,
        no_cache_fields: fields(&a.no_cache_fields, &b.no_cache_fields),
        private_fields: fields(&a.private_fields, &b.private_fields),
        max_age: shorter(a.max_age, b.max_age),
        s_maxage: shorter(a.s_maxage, b.s_maxage),
        stale_while_revalidate: shorter(a.stale_while_revalidate, b.stale_while_revalidate),
        stale_if_error: shorter(a.stale_if_error, b.stale_if_error),
        present: a.present | b.present,
    };
    assert_eq!(ResponseDirectives::parse(both), expected);
}

fn requests_add_up(one: &HeaderMap, other: &HeaderMap, both: &HeaderMap) {
    let (a, b) = (
        RequestDirectives::parse(one),
        RequestDirectives::parse(other),
    );
    let bound = |stale| match stale {
        None => None,
        Some(MaxStale::Any) => Some(Duration::MAX),
        Some(MaxStale::Within(bound)) => Some(bound),
    };
    let read = RequestDirectives::parse(both);
    assert_eq!(
        bound(read.max_stale),
        shorter(bound(a.max_stale), bound(b.max_stale))
    );
    let expected = RequestDirectives {
        no_cache: a.no_cache | b.no_cache,
        no_store: a.no_store | b.no_store,
        no_transform: a.no_transform | b.no_transform,
        only_if_cached: a.only_if_cached | b.only_if_cached,
        max_age: shorter(a.max_age, b.max_age),
        min_fresh: max(a.min_fresh, b.min_fresh),
        stale_if_error: shorter(a.stale_if_error, b.stale_if_error),
        max_stale: read.max_stale,
        present: a.present | b.present,
    };
    assert_eq!(read, expected);
}

fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(min(a, b)),
        (a, b) => a.or(b),
    }
}

fn case_means_nothing(headers: &HeaderMap) {
    let mut loud = HeaderMap::new();
    for value in headers.get_all(FIELD) {
        let value = HeaderValue::from_bytes(&value.as_bytes().to_ascii_uppercase());
        loud.append(FIELD, value.expect("letters stay letters"));
    }
    assert_eq!(
        ResponseDirectives::parse(&loud),
        ResponseDirectives::parse(headers)
    );
    assert_eq!(
        RequestDirectives::parse(&loud),
        RequestDirectives::parse(headers)
    );
}

/// RFC 9110 §5.3: lines of one field are one list.
fn one_line_says_what_several_say(headers: &HeaderMap) {
    let Some(lines) = texts(headers, FIELD).filter(|lines| !lines.is_empty()) else {
        return;
    };
    if !lines.iter().all(|line| is_closed(line)) {
        return;
    }
    let joined = field(FIELD, lines.join(", ").as_bytes());
    assert_eq!(
        ResponseDirectives::parse(&joined),
        ResponseDirectives::parse(headers)
    );
    assert_eq!(
        RequestDirectives::parse(&joined),
        RequestDirectives::parse(headers)
    );
}

/// A second reading: every element on its own, by what stands before the first `=`.
fn plain_reading_agrees(headers: &HeaderMap) {
    let read = ResponseDirectives::parse(headers);
    let Some(lines) = texts(headers, FIELD) else {
        assert!(read.no_store, "a line that cannot be read forbids");
        return;
    };
    let all: Vec<String> = lines.iter().flat_map(|line| elements(line, true)).collect();
    let name = |element: &str| {
        let name = element.split('=').next().unwrap_or_default();
        name.trim_matches([' ', '\t']).to_ascii_lowercase()
    };
    let says = |wanted: &str| all.iter().any(|element| name(element) == wanted);
    // What restricts does so from within an element that is no directive, too; but not from nowhere.
    let restricts = |found: bool, word: &str| {
        assert!(found || !says(word), "{word}");
        let has = |element: &String| element.to_ascii_lowercase().contains(word);
        assert!(!found || all.iter().any(has), "{word}");
    };
    restricts(read.no_store, "no-store");
    assert_eq!(read.public, says("public"));
    restricts(read.must_revalidate, "must-revalidate");
    restricts(read.proxy_revalidate, "proxy-revalidate");
    assert_eq!(read.must_understand, says("must-understand"));
    assert_eq!(read.no_transform, says("no-transform"));
    assert_eq!(read.immutable, says("immutable"));
    // Both forms restrict: the qualified one the fields it names, and what it names badly is the whole.
    let restricted = |whole: bool, fields: &[HeaderName]| whole || !fields.is_empty();
    restricts(restricted(read.private, &read.private_fields), "private");
    restricts(restricted(read.no_cache, &read.no_cache_fields), "no-cache");
    let least = |wanted: &str| {
        let named = all.iter().filter(|element| name(element) == wanted);
        named.map(|element| seconds(element)).min()
    };
    assert_eq!(read.max_age.map(|age| age.as_secs()), least("max-age"));
    assert_eq!(read.s_maxage.map(|age| age.as_secs()), least("s-maxage"));
    let windows = [
        (read.stale_while_revalidate, "stale-while-revalidate"),
        (read.stale_if_error, "stale-if-error"),
    ];
    for (window, name) in windows {
        assert_eq!(window.map(|age| age.as_secs()), least(name), "{name}");
    }
}

/// Digits right behind the `=`, in quotes or not; anything else is zero.
fn seconds(element: &str) -> u64 {
    let Some((name, value)) = element.split_once('=') else {
        return 0;
    };
    if name.ends_with([' ', '\t']) {
        return 0;
    }
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let digits: String = match inner {
        None => value.to_owned(),
        Some(inner) => {
            let mut chars = inner.chars();
            let mut text = String::new();
            while let Some(c) = chars.next() {
                text.extend(if c == '\\' { chars.next() } else { Some(c) });
            }
            text
        }
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    let digits = digits.trim_start_matches('0');
    let number = if digits.len() > 10 {
        u64::MAX
    } else {
        digits.parse().unwrap_or(0)
    };
    number.min(1 << 31)
}

fn pragma_is_only_for_who_says_no_more(headers: &HeaderMap) {
    let mut asked = headers.clone();
    asked.insert("pragma", HeaderValue::from_static("no-cache"));
    let said = RequestDirectives::parse(headers);
    let read = RequestDirectives::parse(&asked);
    assert_eq!(read.no_cache, said.no_cache || !said.present);
}
