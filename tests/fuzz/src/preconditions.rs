//! Conditions of requests. Input: the fields of a request; after an empty line those of the stored response.

use std::time::SystemTime;

use http::Method;
use http::header::{self, HeaderMap, HeaderName};
use reprise::headers::{date, validator};
use reprise::respond::precondition::{Precondition, evaluate};

use crate::input::{message, parts, texts};
use crate::made;

/// The order of RFC 9110 §13.2.2, step by step.
pub fn check(data: &[u8]) {
    let [asked, stored] = parts(data);
    let request = message(asked);
    let mut entry = made::entry(message(stored), "body");
    if data.len() % 2 == 0 {
        entry.etag = validator::etag(&entry.headers).filter(|_| entry.facts.etag.is_some());
    }
    let etag = entry.etag.as_ref().map(|etag| etag.to_value());
    let etag = etag.map(|value| value.as_bytes().to_vec());
    for method in [Method::GET, Method::HEAD] {
        let found = evaluate(&method, &request, &entry, entry.etag.as_ref());
        let modified = entry.facts.last_modified;
        let expected = plainly(&request, etag.as_deref(), modified, entry.facts.date);
        if let Some(expected) = expected {
            assert_eq!(found, expected, "{request:?} {:?}", entry.headers);
        }
        if found == Precondition::NotModified {
            it_was_asked_for(&request, etag.as_deref());
        }
    }
}

/// The result, where the lists of tags are what the grammar allows.
fn plainly(
    request: &HeaderMap,
    etag: Option<&[u8]>,
    modified: Option<SystemTime>,
    date: SystemTime,
) -> Option<Precondition> {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    // 1. and 2.
    if request.contains_key(header::IF_MATCH) {
        let holds = match tags(request, "if-match")? {
            None => true,
            Some(tags) => etag.is_some_and(|etag| {
                let strong = !etag.starts_with(b"W/");
                strong && tags.iter().any(|tag| tag == etag)
            }),
        };
        if !holds {
            return Some(Precondition::Failed);
        }
    } else if let Some(limit) = only_date(request, header::IF_UNMODIFIED_SINCE)
        && modified.is_some_and(|modified| modified > limit)
    {
        return Some(Precondition::Failed);
    }
    // 3. and 4.
    let same = if request.contains_key(header::IF_NONE_MATCH) {
        match tags(request, "if-none-match")? {
            None => true,
            Some(tags) => {
                etag.is_some_and(|etag| tags.iter().any(|tag| opaque(tag) == opaque(etag)))
            }
        }
    } else {
        // RFC 9111 §4.3.2: without Last-Modified, Date stands for it, but says nothing about its own second.
        let since = only_date(request, header::IF_MODIFIED_SINCE);
        since.is_some_and(|since| modified.map_or(date < since, |modified| modified <= since))
    };
    Some(if same {
        Precondition::NotModified
    } else {
        Precondition::Holds
    })
}

/// RFC 9110 §13.1.3, §13.1.4: what is no date, or more than one, is ignored.
fn only_date(request: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let lines: Vec<_> = request.get_all(name).iter().collect();
    match lines[..] {
        [line] => date::parse(line),
        _ => None,
    }
}

/// The tags of a field; `None` inside for `*`, and outside where the grammar has no such list.
fn tags(request: &HeaderMap, name: &str) -> Option<Option<Vec<Vec<u8>>>> {
    let lines = texts(request, name)?;
    if lines == ["*"] {
        return Some(None);
    }
    let mut tags = Vec::new();
    for line in &lines {
        let mut rest = line.trim_matches([' ', '\t', ',']);
        while !rest.is_empty() {
            let weak = if rest.starts_with("W/") { 2 } else { 0 };
            let inner = rest[weak..].strip_prefix('"')?;
            let length = inner.find('"')?;
            let end = weak + 1 + length + 1;
            if inner[..length]
                .bytes()
                .any(|byte| matches!(byte, 0..=0x20 | 0x7f))
            {
                return None;
            }
            tags.push(rest.as_bytes()[..end].to_vec());
            let after = rest[end..].trim_start_matches([' ', '\t']);
            if !after.is_empty() && !after.starts_with(',') {
                return None;
            }
            rest = after.trim_start_matches([' ', '\t', ',']);
        }
    }
    Some(Some(tags))
}

/// Whatever the lines are: 304 needs the tag in them, or a date, or a star.
fn it_was_asked_for(request: &HeaderMap, etag: Option<&[u8]>) {
    let mut lines = request.get_all(header::IF_NONE_MATCH).iter().peekable();
    if lines.peek().is_none() {
        assert!(only_date(request, header::IF_MODIFIED_SINCE).is_some());
        return;
    }
    let tag = etag.map(|etag| etag.strip_prefix(b"W/").unwrap_or(etag));
    assert!(lines.any(|line| {
        let line = line.as_bytes();
        let named = tag.is_some_and(|tag| line.windows(tag.len()).any(|part| part == tag));
        named || line.trim_ascii().contains(&b'*')
    }));
}
