//! Telling what happened: the status headers, and the line of the access log.
//!
//! Credentials never get here: the key is told without the identity, and the log knows a request by its path alone.

use std::fmt::Write;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response};

use super::{Error, Finish};
use crate::body::Body;
use crate::capture::Values;
use crate::key;
use crate::outcome::{Outcome, Result as Happened};
use crate::policy::StatusHeaders;
use crate::tag::Names;

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const X_RESPONSE_TIME: HeaderName = HeaderName::from_static("x-response-time");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Writes the status headers that the route asks for. `own`: the proxy made the answer itself.
pub(super) fn headers(
    of: &Finish<'_>,
    headers: &mut HeaderMap,
    (outcome, own): (&Outcome, bool),
    elapsed: Duration,
) {
    let wanted = of.route.policy.status_headers;
    if wanted == StatusHeaders::Off {
        return;
    }
    headers.insert(X_CACHE, HeaderValue::from_static(outcome.result.as_str()));
    headers.insert(X_RESPONSE_TIME, milliseconds(elapsed));
    if wanted == StatusHeaders::Debug {
        let timing = server_timing(of, headers, outcome, elapsed);
        append(headers, &SERVER_TIMING, timing);
    }
    if own {
        // RFC 9211 §2: only about responses that came from the app or the cache.
        return;
    }
    let key = (wanted == StatusHeaders::Debug && outcome.result != Happened::Bypass)
        .then(|| key_of(of))
        .flatten();
    // Appended: caches before this one, near the app, have written theirs (RFC 9211 §2).
    match key {
        None => {
            headers.append(CACHE_STATUS, outcome.cache_status());
        }
        Some(key) => {
            let tags = tags_of(of);
            append(
                headers,
                &CACHE_STATUS,
                format!("{outcome}; key=\"{key}\"; tags=\"{tags}\""),
            );
        }
    }
}

fn append(headers: &mut HeaderMap, name: &HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.append(name, value);
    }
}

/// The names of the tags that the route gives to the answer. The caller is told as `{user}`: a tag holds his hash.
fn tags_of(of: &Finish<'_>) -> String {
    let path = key::normalise_path(of.head.uri.path()).unwrap_or_default();
    let Some((_, route, captures)) = of.live.table.find(&path) else {
        return String::new();
    };
    let values = Values {
        path: &captures,
        user: Some("{user}"),
        ..Values::default()
    };
    let names = route
        .tags
        .iter()
        .flat_map(|template| match template.expand(&values) {
            Names::Exact(names) => names.into_vec(),
            Names::Class(class) => vec![class],
        });
    let names: Vec<String> = names.map(|name| quotable(name.as_bytes())).collect();
    names.join(" ")
}

/// Text as the content of an sf-string (RFC 9651 §3.3.3): ASCII, with quotes and backslashes escaped.
fn quotable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                // Writing into a `String` cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

/// What is worth seeing in a browser's developer tools. `app` is how long this request waited for the app.
fn server_timing(
    of: &Finish<'_>,
    headers: &HeaderMap,
    outcome: &Outcome,
    elapsed: Duration,
) -> String {
    let mut text = format!("cache;desc={}", outcome.result.as_str());
    if outcome.forward.is_some() {
        // Writing into a `String` cannot fail.
        let _ = write!(text, ", app;dur={:.1}", elapsed.as_secs_f64() * 1000.0);
    }
    if let Some(queries) = queries(of, headers) {
        let _ = write!(text, ", db;desc=\"{queries} queries\"");
    }
    text
}

/// The database queries that the app counted for this answer.
fn queries(of: &Finish<'_>, headers: &HeaderMap) -> Option<u32> {
    let reported = headers.get(&of.live.query_count)?;
    reported.to_str().ok()?.trim().parse().ok()
}

/// The key as an sf-string's content: host, path and query as they count, without the identity.
fn key_of(of: &Finish<'_>) -> Option<String> {
    let path = key::normalise_path(of.head.uri.path()).ok()?;
    let parts = key::Parts {
        host: of.client.host,
        secure: of.client.secure,
        path: &path,
        query: of.head.uri.query(),
        identity: None,
    };
    let key = of.tools.hasher.key(&parts, &of.live.query);
    let query = query_in(key.as_bytes())?;
    let mark = if query.is_empty() { "" } else { "?" };
    let host = of.client.host.to_ascii_lowercase();
    Some(quotable(
        &[host.as_bytes(), path.as_bytes(), mark.as_bytes(), query].concat(),
    ))
}

/// The last of a key's three parts, each of which has its length before it; a byte for the encoding and one for the
/// scheme come first.
fn query_in(key: &[u8]) -> Option<&[u8]> {
    let part = |rest: &mut &[u8]| {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (part, tail) = (tail.get(..length)?, tail.get(length..)?);
        *rest = tail;
        Some(part.len())
    };
    let mut rest = key.get(2..)?;
    part(&mut rest)?;
    part(&mut rest)?;
    let before = rest.get(4..)?;
    let length = part(&mut rest)?;
    before.get(..length)
}

/// Writes the line of the access log: no query, no credential, nothing that names a user.
pub(super) fn log(
    of: &Finish<'_>,
    response: &Response<Body>,
    outcome: &Outcome,
    elapsed: Duration,
) {
    let headers = response.headers();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let hit = outcome.result == Happened::Hit;
    tracing::info!(
        target: "access",
        route = &*of.route.name,
        method = %of.head.method,
        path = of.head.uri.path(),
        status = response.status().as_u16(),
        result = outcome.result.label(),
        tier = outcome.detail.filter(|_| hit),
        reason = outcome.reason().or(outcome.detail.filter(|_| !hit)),
        dur_ms = (elapsed.as_secs_f64() * 1e6).round() / 1e3,
        app_queries = queries(of, headers),
        bytes = http_body::Body::size_hint(response.body()).exact(),
        encoding = text(header::CONTENT_ENCODING),
        age = text(header::AGE).and_then(|age| age.parse::<u64>().ok()),
        ttl = outcome.ttl,
        trace_id = trace_id(&of.head.headers),
    );
}

/// A fixed word for the log: why the proxy answered by itself.
pub(super) fn reason(error: &Error) -> &'static str {
    match error {
        Error::Upstream(error) => error.kind().as_str(),
        Error::Aborted => "aborted",
        Error::TooLarge { .. } => "too_large",
        Error::SlowBody => "slow_body",
        Error::HungUp => "hung_up",
        Error::OnlyIfCached => "only_if_cached",
        Error::Partitioned => "partitioned",
        Error::Connect => "connect_method",
        Error::PurgeForbidden => "purge_forbidden",
        Error::PurgeRefused(_) => "purge_refused",
    }
}

/// The trace that a request is part of (W3C Trace Context §3.2).
fn trace_id(request: &HeaderMap) -> Option<&str> {
    let parent = request.get(TRACEPARENT)?.to_str().ok()?;
    let id = parent.split('-').nth(1)?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (id.len() == 32 && id.bytes().all(hex)).then_some(id)
}

/// `0.412ms`, written without the machinery of `format!`.
fn milliseconds(elapsed: Duration) -> HeaderValue {
    let micros = elapsed.as_micros();
    let mut text = [0_u8; 24];
    let mut at = text.len();
    let mut put = |byte: u8| {
        at -= 1;
        text[at] = byte;
    };
    put(b's');
    put(b'm');
    let mut rest = u64::try_from(micros).unwrap_or(u64::MAX);
    let mut digits = 0;
    while rest > 0 || digits < 4 {
        if digits == 3 {
            put(b'.');
        }
        put(b'0' + u8::try_from(rest % 10).unwrap_or_default());
        rest /= 10;
        digits += 1;
        if digits > 18 {
            break;
        }
    }
    HeaderValue::from_bytes(&text[at..]).unwrap_or(HeaderValue::from_static("0ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_times_are_written_in_milliseconds() {
        for (micros, expected) in [
            (0, "0.000ms"),
            (7, "0.007ms"),
            (412, "0.412ms"),
            (1_000, "1.000ms"),
            (1_234_567, "1234.567ms"),
        ] {
            assert_eq!(milliseconds(Duration::from_micros(micros)), expected);
        }
    }
}
