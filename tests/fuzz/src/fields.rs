//! Lists, parameters, entity tags, dates, cookies, hops. Input: the fields of a message.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderValue};
use reprise::headers::forwarded::{client_from_xff, forwarded_element};
use reprise::headers::validator::{ETag, ETags};
use reprise::headers::{cookie, date, hop_by_hop, list, parameter, quote_unless_token};

use crate::input::{elements, is_closed, lines, message, texts};

/// What holds for any fields.
pub fn check(data: &[u8]) {
    let headers = message(data);
    for name in headers.keys() {
        a_list_has_the_elements_of_its_grammar(&headers, name.as_str());
    }
    for line in lines(data) {
        a_tag_is_written_as_it_was_read(line);
        a_date_is_written_as_it_was_read(line);
        if let Ok(text) = str::from_utf8(line) {
            a_text_survives_its_quotes(text);
        }
    }
    if let Some(seconds) = data.first_chunk() {
        let latest = 253_402_300_800;
        let time = UNIX_EPOCH + Duration::from_secs(u64::from_le_bytes(*seconds) % latest);
        assert_eq!(date::parse(&date::format(time)), Some(time));
    }
    let _ = (date::expires(&headers), date::age(&headers));
    cookies_are_pairs(&headers);
    the_fields_of_one_hop_are_gone(&headers);
    the_client_is_beyond_no_stranger(&headers);
}

fn a_list_has_the_elements_of_its_grammar(headers: &HeaderMap, name: &str) {
    let found: Vec<&str> = list(headers, name).collect();
    let readable = headers.get_all(name).iter();
    let readable = readable.filter_map(|line| str::from_utf8(line.as_bytes()).ok());
    let expected: Vec<String> = readable.flat_map(|line| elements(line, true)).collect();
    assert_eq!(found, expected);
    let Some(lines) = texts(headers, name).filter(|lines| lines.iter().all(|line| is_closed(line)))
    else {
        return;
    };
    let joined = HeaderValue::from_bytes(lines.join(",").as_bytes()).expect("lines are values");
    let joined = HeaderMap::from_iter([(header::WARNING, joined)]);
    assert_eq!(list(&joined, header::WARNING).collect::<Vec<_>>(), found);
}

/// Any text can be told in a parameter, and is read from it.
fn a_text_survives_its_quotes(text: &str) {
    let quoted = quote_unless_token(text);
    let element = format!("name={quoted}");
    let (name, value) = parameter(&element);
    assert_eq!((name, value.as_deref()), ("name", Some(text)));
    if !text.contains(['\r', '\n']) {
        assert_eq!(
            elements(&element, true),
            [element.as_str()],
            "it is one element"
        );
    }
}

fn a_tag_is_written_as_it_was_read(line: &[u8]) {
    let Some(tag) = ETag::parse(line) else {
        return;
    };
    assert_eq!(tag.to_value().as_bytes(), line.trim_ascii());
    assert_eq!(ETag::parse(tag.to_value()).as_ref(), Some(&tag));
    assert!(tag.weak_eq(&tag) && tag.strong_eq(&tag) != tag.weak);
    let weak = tag.weaken();
    assert!(weak.weak_eq(&tag) && !weak.strong_eq(&tag));
    let other = tag.with_suffix("-gzip");
    assert!(!other.weak_eq(&tag) && ETag::parse(other.to_value()) == Some(other));
    let named = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag.to_value())]);
    let Some(tags) = ETags::parse(&named, header::IF_NONE_MATCH) else {
        panic!("the field is there");
    };
    // Bytes of another charset may be in a tag, but lists of tags are text.
    assert!(tags.matches_weak(&tag) || str::from_utf8(line).is_err());
    assert!(!tags.matches_weak(&other_than(&tag)));
}

fn other_than(tag: &ETag) -> ETag {
    tag.with_suffix("x")
}

fn a_date_is_written_as_it_was_read(line: &[u8]) {
    let Some(time) = HeaderValue::from_bytes(line)
        .ok()
        .as_ref()
        .and_then(date::parse)
    else {
        return;
    };
    assert_eq!(date::parse(&date::format(time)), Some(time));
    let loud = HeaderValue::from_bytes(&line.to_ascii_uppercase()).expect("letters stay letters");
    assert_eq!(date::parse(&loud), Some(time), "case means nothing");
}

fn cookies_are_pairs(headers: &HeaderMap) {
    let all: Vec<(&str, &str)> = cookie::cookies(headers).collect();
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs: usize = lines
        .map(|line| line.as_bytes().split(|byte| *byte == b';').count())
        .sum();
    assert!(all.len() <= pairs);
    for (name, value) in &all {
        assert!(!name.is_empty() && !name.contains(['=', ';']) && !value.contains(';'));
        let last = all.iter().rfind(|(other, _)| other == name);
        assert_eq!(cookie::cookie(headers, name), last.map(|(_, value)| *value));
    }
}

fn the_fields_of_one_hop_are_gone(headers: &HeaderMap) {
    let mut left = headers.clone();
    hop_by_hop::strip(&mut left);
    for name in [
        "connection",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
    ] {
        assert!(!left.contains_key(name), "{name}");
    }
    for name in [
        "host",
        "cookie",
        "authorization",
        "x-forwarded-proto",
        "content-length",
        "vary",
    ] {
        assert!(
            left.get_all(name).iter().eq(headers.get_all(name)),
            "{name} stays"
        );
    }
    for (name, value) in &left {
        assert!(headers.get_all(name).iter().any(|known| known == value));
    }
    let mut again = left.clone();
    hop_by_hop::strip(&mut again);
    assert_eq!(again, left);
}

/// Who is trusted in these cases: the even addresses.
fn trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[3] % 2 == 0,
        IpAddr::V6(address) => address.octets()[15] % 2 == 0,
    }
}

/// The client is the peer or a hop, and everybody to the right of it is trusted.
fn the_client_is_beyond_no_stranger(headers: &HeaderMap) {
    let strange: IpAddr = [10, 0, 0, 1].into();
    assert_eq!(client_from_xff(headers, trusted, strange), strange);
    let peer: IpAddr = [10, 0, 0, 2].into();
    let client = client_from_xff(headers, trusted, peer);
    let hops: Vec<&str> = list(headers, "x-forwarded-for").collect();
    let address = |hop: &&str| -> Option<IpAddr> {
        let inner = hop
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let port = hop.parse::<SocketAddr>().map(|address| address.ip());
        let address: IpAddr = inner.unwrap_or(hop).parse().or(port).ok()?;
        Some(address.to_canonical())
    };
    let from_right = hops.iter().rev().map_while(|hop| address(hop));
    let seen: Vec<IpAddr> = std::iter::once(peer).chain(from_right).collect();
    let place = seen.iter().position(|hop| !trusted(*hop));
    let expected = place.map_or(seen.last(), |place| seen.get(place));
    assert_eq!(Some(&client), expected);
    let element = forwarded_element(client, "a\"b:1", "https");
    assert!(HeaderValue::try_from(element).is_ok());
}
