//! Structured fields, read and written, beside another implementation of RFC 9651. Input: lines of Cache-Groups.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use reprise::headers::tags::{are_unreadable, invalidated_groups, response_tags};
use reprise::outcome::{Bypass, Forward, Outcome, Result, Written};
use reprise::policy::storing::Unstorable;
use sfv::{BareItem, List, ListEntry, Parser, StringRef};

use crate::input::{elements, field, lines, texts};

/// What holds for any lines.
pub fn check(data: &[u8]) {
    groups_are_what_another_reader_finds(data);
    what_is_written_is_read(data);
    names_are_split_as_each_field_does(data);
    an_outcome_is_a_structured_field(data);
}

fn groups_are_what_another_reader_finds(data: &[u8]) {
    let trimmed: Vec<&[u8]> = lines(data).map(<[u8]>::trim_ascii).collect();
    if trimmed.iter().any(|line| line.is_empty()) {
        return;
    }
    let groups = field("cache-group-invalidation", &trimmed.join(&b'\n'));
    if groups.get_all("cache-group-invalidation").iter().count() != trimmed.len() {
        return;
    }
    let found = invalidated_groups(&groups);
    let whole = trimmed.join(b", ".as_slice());
    let Some(expected) = by_another(&whole) else {
        assert!(
            found.is_empty(),
            "{found:?} of {:?}",
            String::from_utf8_lossy(&whole)
        );
        return;
    };
    assert_eq!(found, expected);
}

/// The strings of a list of nothing else; `None` where it is none.
fn by_another(value: &[u8]) -> Option<Vec<String>> {
    let list: List = Parser::new(value).parse().ok()?;
    list.into_iter()
        .map(|entry| match entry {
            ListEntry::Item(item) => match item.bare_item {
                BareItem::String(text) => Some(text.into()),
                _ => None,
            },
            ListEntry::InnerList(_) => None,
        })
        .collect()
}

fn what_is_written_is_read(data: &[u8]) {
    let texts = lines(data).filter_map(|line| StringRef::from_str(str::from_utf8(line).ok()?).ok());
    let texts: Vec<&StringRef> = texts.collect();
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let written: Vec<String> = texts.iter().map(|text| quoted(text.as_str())).collect();
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(written.join(", ")) {
        headers.append("cache-groups", value);
        let read = response_tags(&headers);
        assert!(read.iter().eq(texts.iter().map(|text| text.as_str())));
    }
}

/// Cache-Tag has commas, the others blanks; a line that cannot be read is told.
fn names_are_split_as_each_field_does(data: &[u8]) {
    for (name, by_comma) in [
        ("cache-tag", true),
        ("surrogate-key", false),
        ("xkey", false),
    ] {
        let headers = field(name, data);
        let Some(lines) = texts(&headers, name) else {
            assert!(are_unreadable(&headers), "{name}");
            continue;
        };
        assert!(!are_unreadable(&headers), "{name}");
        let names: Vec<String> = if by_comma {
            lines.iter().flat_map(|line| elements(line, true)).collect()
        } else {
            let words = lines.iter().flat_map(|line| line.split_ascii_whitespace());
            words.map(str::to_owned).collect()
        };
        assert_eq!(response_tags(&headers), names, "{name}");
    }
}

/// Cache-Status (RFC 9211) is a list of one token with parameters, whatever happened.
fn an_outcome_is_a_structured_field(data: &[u8]) {
    let mut bytes = Bytes::copy_from_slice(data);
    let mut pick = |count: usize| {
        let byte = if bytes.is_empty() {
            0
        } else {
            bytes.split_to(1)[0]
        };
        usize::from(byte) % count
    };
    let forwards = [
        Forward::Bypass(Bypass::NoIdentity),
        Forward::Bypass(Bypass::Path(reprise::key::Odd::DotSegment)),
        Forward::Method,
        Forward::UriMiss,
        Forward::VaryMiss,
        Forward::Stale,
        Forward::Request,
        Forward::Written(Written::Dirty),
        Forward::Written(Written::Forgotten),
    ];
    let refusals = Unstorable::ALL;
    let outcome = Outcome {
        forward: forwards.get(pick(forwards.len() + 1)).copied(),
        forward_status: [None, Some(304), Some(599)][pick(3)],
        stored: pick(2) == 1,
        not_stored: refusals.get(pick(refusals.len() + 1)).copied(),
        collapsed: pick(2) == 1,
        ttl: [None, Some(-99_999_999_999), Some(0), Some(1 << 32)][pick(4)],
        detail: [None, Some("memory"), Some("redis")][pick(3)],
        ..Outcome::new(Result::ALL[pick(6)])
    };
    let value = outcome.cache_status();
    let list: List = Parser::new(value.as_bytes()).parse().expect("a list");
    let [ListEntry::Item(item)] = &list[..] else {
        panic!("one member: {value:?}");
    };
    let parameter = |name: &str| item.params.iter().find(|(key, _)| key.as_str() == name);
    assert!(matches!(&item.bare_item, BareItem::Token(name) if name.as_str() == "reprise"));
    assert_eq!(parameter("fwd").is_some(), outcome.forward.is_some());
    assert_eq!(parameter("ttl").is_some(), outcome.ttl.is_some());
    assert_eq!(parameter("stored").is_some(), outcome.stored);
    assert_eq!(parameter("collapsed").is_some(), outcome.collapsed);
}
