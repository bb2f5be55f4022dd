//! Responding: an entry and a request give a response. Pure, in the order of RFC 9110 §13.2.2: representation,
//! preconditions, range, body.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::body::Body;
use crate::entry::Entry;
use crate::headers::coding::{self, AcceptEncoding, Coding};
use crate::headers::range::{self, IfRange};
use crate::headers::targeted;
use crate::headers::validator::ETag;
use crate::policy::freshness;

pub mod encode;
pub mod precondition;

use precondition::Precondition;

/// What of the configuration an answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Style<'a> {
    /// `[compression]`, or `None` where the route says `compress = false`.
    pub compression: Option<&'a encode::Config>,
    /// The `max-age` told to clients when the app said nothing.
    pub client_max_age: Duration,
    /// Whether the answer is one user's own: then what clients are told is not for caches on the way.
    pub one_user: bool,
}

/// Which coding a client should get.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    /// The canonical body; whether other clients may get another coding.
    Canonical { varies: bool },
    /// This coding, if it makes the body smaller.
    Coded(Coding),
    /// The client accepts nothing that there is.
    Nothing,
}

/// The coding that has to be made before this request is answered, if there is one: [`answer`] itself makes none, so that
/// whoever calls it may do the work elsewhere.
#[must_use]
pub fn to_make(request: &HeaderMap, entry: &Entry, style: &Style<'_>) -> Option<Coding> {
    match wanted(request, entry, style) {
        Wanted::Coded(coding) if entry.known_encoding(coding).is_none() => Some(coding),
        Wanted::Coded(_) | Wanted::Canonical { .. } | Wanted::Nothing => None,
    }
}

fn wanted(request: &HeaderMap, entry: &Entry, style: &Style<'_>) -> Wanted {
    let Some(config) = style.compression.filter(|config| config.applies_to(entry)) else {
        return Wanted::Canonical { varies: false };
    };
    match config.choose(request) {
        None => Wanted::Nothing,
        Some(Coding::Identity) => Wanted::Canonical { varies: true },
        Some(coding) => Wanted::Coded(coding),
    }
}

/// One representation of an entry.
struct Chosen<'a> {
    coding: Coding,
    body: &'a Bytes,
    etag: Option<&'a ETag>,
    /// Whether other clients may get another coding.
    varies: bool,
}

/// Answers a GET or HEAD from an entry.
#[must_use]
pub fn answer(
    method: &Method,
    request: &HeaderMap,
    entry: &Entry,
    style: &Style<'_>,
    now: SystemTime,
) -> Response<Body> {
    let Some(chosen) = choose(request, entry, style) else {
        return not_acceptable();
    };
    let conditions = entry.status == StatusCode::OK;
    let precondition = if conditions {
        precondition::evaluate(method, request, entry, chosen.etag)
    } else {
        Precondition::Holds
    };
    let mut response = match precondition {
        Precondition::NotModified => not_modified(entry),
        Precondition::Failed => refusal(StatusCode::PRECONDITION_FAILED),
        Precondition::Holds => whole_or_part(method, request, entry, &chosen),
    };
    let is_refusal = matches!(
        response.status(),
        StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE
    );
    let headers = response.headers_mut();
    if chosen.coding != Coding::Identity
        && let Some(etag) = chosen.etag
        && headers.contains_key(header::ETAG)
    {
        headers.insert(header::ETAG, etag.to_value());
    }
    if entry.facts.has_targeted {
        targeted::strip(headers);
    }
    if chosen.varies {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    headers.insert(
        header::AGE,
        HeaderValue::from(freshness::age(entry, now).as_secs()),
    );
    if !is_refusal {
        advise_client(headers, entry, style);
    }
    response
}

/// Which representation answers; `None` when the client accepts nothing that there is.
fn choose<'a>(request: &HeaderMap, entry: &'a Entry, style: &Style<'_>) -> Option<Chosen<'a>> {
    let canonical = |varies| Chosen {
        coding: Coding::Identity,
        body: &entry.body,
        etag: entry.etag.as_ref(),
        varies,
    };
    match wanted(request, entry, style) {
        Wanted::Nothing => None,
        Wanted::Canonical { varies } => Some(canonical(varies)),
        // A range counts bytes of the representation; clients mean those they would have got without it.
        Wanted::Coded(coding) => match entry.known_encoding(coding).flatten() {
            Some(encoded) => Some(Chosen {
                coding,
                body: &encoded.body,
                etag: encoded.etag.as_ref(),
                varies: true,
            }),
            // It gains nothing, so there is only the canonical body, which a client may have refused.
            None => AcceptEncoding::parse(request)
                .accepts(Coding::Identity)
                .then(|| canonical(true)),
        },
    }
}

fn whole_or_part(
    method: &Method,
    request: &HeaderMap,
    entry: &Entry,
    chosen: &Chosen<'_>,
) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = entry.status;
    response.headers_mut().reserve(entry.headers.len() + 8);
    response.headers_mut().clone_from(&entry.headers);
    let headers = response.headers_mut();
    if chosen.coding != Coding::Identity {
        headers.insert(
            header::CONTENT_ENCODING,
            HeaderValue::from_static(chosen.coding.as_str()),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(chosen.body.len()));
        coding::strip_digests(headers);
    }
    let length = chosen.body.len() as u64;
    let wanted = range_of(method, request, entry, chosen);
    match wanted.map(|wanted| wanted.resolve(length)) {
        None => *response.body_mut() = chosen.body.clone().into(),
        Some(Ok(part)) => {
            headers.insert(
                header::CONTENT_RANGE,
                range::content_range(part.clone(), length),
            );
            headers.insert(
                header::CONTENT_LENGTH,
                HeaderValue::from(part.end - part.start),
            );
            coding::strip_digests(headers);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let bounds = usize::try_from(part.start).unwrap_or(usize::MAX)
                ..usize::try_from(part.end).unwrap_or(usize::MAX);
            *response.body_mut() = chosen.body.slice(bounds).into();
        }
        Some(Err(_)) => {
            response = refusal(StatusCode::RANGE_NOT_SATISFIABLE);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_RANGE, range::unsatisfied(length));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        }
    }
    response
}

/// The range to answer, if the request has one and its `If-Range` holds.
fn range_of(
    method: &Method,
    request: &HeaderMap,
    entry: &Entry,
    chosen: &Chosen<'_>,
) -> Option<range::ByteRange> {
    if *method != Method::GET
        || entry.status != StatusCode::OK
        || !request.contains_key(header::RANGE)
    {
        return None;
    }
    let holds = match IfRange::parse(request) {
        None => true,
        Some(IfRange::Tag(tag)) => chosen.etag.is_some_and(|etag| etag.strong_eq(&tag)),
        Some(IfRange::Date(date)) => strong_date(entry) == Some(date),
    };
    if holds { range::parse(request) } else { None }
}

/// `Last-Modified`, where it is a strong validator: RFC 9110 §8.8.2.2 asks for a second between it and the answer, since
/// what changed twice within one second has one date for two representations.
fn strong_date(entry: &Entry) -> Option<SystemTime> {
    let modified = entry.facts.last_modified?;
    let settled = modified.checked_add(Duration::from_secs(1))?;
    (settled <= entry.facts.date).then_some(modified)
}

/// RFC 9110 §15.4.5: the fields that a 304 must repeat, and no others that describe the body.
fn not_modified(entry: &Entry) -> Response<Body> {
    const DESCRIBING: [HeaderName; 4] = [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
    ];
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().clone_from(&entry.headers);
    for name in DESCRIBING {
        response.headers_mut().remove(name);
    }
    response
}

/// An answer about the request. It has no field of the entry: a client that kept it for as long as the entry may be
/// kept would show it for the resource.
fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The client refuses every coding there is, the canonical one included (`identity;q=0`).
fn not_acceptable() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// What a client may keep for itself: what the app said, else what the route says.
fn advise_client(headers: &mut HeaderMap, entry: &Entry, style: &Style<'_>) {
    if !entry.facts.advises_clients && style.client_max_age > Duration::ZERO {
        let private = if style.one_user { "private, " } else { "" };
        let text = format!("{private}max-age={}", style.client_max_age.as_secs());
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(header::CACHE_CONTROL, value);
        }
    }
}
