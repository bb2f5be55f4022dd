//! RFC 9111 §4.3: asking the app whether an entry still holds, and what a 304 changes.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};

use crate::entry::Entry;
use crate::headers::{coding, date, validator};
use crate::key;

/// Fields of a request that only make sense to whom it was addressed, and that a fill must not carry: the cache wants
/// the whole answer, and evaluates the client's conditions itself.
pub const CONDITIONS: [HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

/// Makes a fill's request conditional on an entry, where the app gave a validator to ask with; whether it did.
///
/// A `Last-Modified` counts only if it was a whole minute old when it was sent: within the second, two changes look
/// alike (RFC 9110 §8.8.2.2), and clocks of database and app differ.
pub fn make_conditional(request: &mut HeaderMap, entry: &Entry) -> bool {
    if let Some(etag) = &entry.facts.etag {
        request.insert(header::IF_NONE_MATCH, etag.to_value());
        return true;
    }
    let Some(modified) = entry.facts.last_modified else {
        return false;
    };
    let old = entry
        .facts
        .date
        .duration_since(modified)
        .is_ok_and(|age| age >= Duration::from_secs(60));
    if old {
        request.insert(header::IF_MODIFIED_SINCE, date::format(modified));
    }
    old
}

/// The head of an entry after a 304: its fields replace the stored ones (RFC 9111 §3.2), but for those that tell what the
/// stored bytes are: of a body that was not sent, they would be about other bytes. How old the answer is, is told by the 304 alone: its `Date` and `Age`, or that it has
/// none.
#[must_use]
pub fn merge(stored: &HeaderMap, update: &HeaderMap) -> HeaderMap {
    const KEPT: [HeaderName; 4] = [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::TRANSFER_ENCODING,
    ];
    let mut merged = stored.clone();
    merged.remove(header::DATE);
    let is_kept = |name: &&HeaderName| KEPT.contains(name) || coding::DIGESTS.contains(name);
    for name in update.keys().filter(|name| !is_kept(name)) {
        merged.remove(name);
        for value in update.get_all(name) {
            merged.append(name.clone(), value.clone());
        }
    }
    merged
}

/// Whether a 304 is about this entry, and can be merged into it: its validator, if it names one, is the entry's
/// (RFC 9111 §4.3.4), and it says nothing that would have kept the entry from being stored as it is.
#[must_use]
pub fn confirms(entry: &Entry, update: &HeaderMap) -> bool {
    let is_about = match (&entry.facts.etag, validator::etag(update)) {
        (Some(stored), Some(sent)) => stored.weak_eq(&sent),
        (None, Some(_)) => false,
        (_, None) => true,
    };
    is_about && selects_the_same(entry, update)
}

/// Whether the head of a 200 to a HEAD is about another body than the entry's (RFC 9111 §4.3.5). Of a coded body it says
/// nothing about the one that is stored.
#[must_use]
pub fn is_outdated(entry: &Entry, head: &HeaderMap) -> bool {
    if head.contains_key(header::CONTENT_ENCODING)
        != entry.headers.contains_key(header::CONTENT_ENCODING)
    {
        return false;
    }
    let another_tag = match (&entry.facts.etag, validator::etag(head)) {
        (Some(stored), Some(sent)) => !stored.weak_eq(&sent),
        _ => false,
    };
    let modified = date::date(head, header::LAST_MODIFIED);
    let another_date = modified.is_some() && modified != entry.facts.last_modified;
    let another_length = head
        .get(header::CONTENT_LENGTH)
        .is_some_and(|length| Some(length) != entry.headers.get(header::CONTENT_LENGTH));
    another_tag || another_date || another_length
}

/// A 304 selected by other fields than the entry is about another variant of it. Whether its head may be shared is asked of
/// the merged head, as of any other (RFC 9111 §3).
fn selects_the_same(entry: &Entry, update: &HeaderMap) -> bool {
    let known = key::vary(&entry.headers).unwrap_or_default();
    key::vary(update).is_some_and(|names| {
        names
            .iter()
            .all(|name| *name == header::ACCEPT_ENCODING || known.contains(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_304_replaces_fields_and_keeps_those_of_the_body() {
        let stored = headers(&[
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-b", "1"),
            ("content-length", "5"),
            ("content-type", "application/json"),
            ("content-digest", "sha-256=:AA==:"),
            ("cache-control", "max-age=1"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ]);
        let update = headers(&[
            ("x-a", "3"),
            ("x-c", "1"),
            ("content-length", "0"),
            ("content-type", "application/json; charset=utf-8"),
            ("content-digest", "sha-256=:BB==:"),
            ("cache-control", "max-age=9"),
            ("age", "4"),
        ]);
        let expected = headers(&[
            ("x-a", "3"),
            ("x-b", "1"),
            ("x-c", "1"),
            ("content-length", "5"),
            ("content-type", "application/json; charset=utf-8"),
            ("content-digest", "sha-256=:AA==:"),
            ("cache-control", "max-age=9"),
            ("age", "4"),
        ]);
        assert_eq!(merge(&stored, &update), expected);
    }
}
