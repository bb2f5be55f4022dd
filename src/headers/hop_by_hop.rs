//! What never crosses the proxy: Connection, the fields it names, and those that mean one hop (RFC 9110 §7.6.1).

use http::HeaderValue;
use http::header::{CONNECTION, HeaderMap, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use smallvec::SmallVec;

use super::list;

/// Removes the fields of one hop (RFC 9110 §7.6.1), in a request or a response.
///
/// `Trailer` stays: it announces what HTTP/2 and chunked bodies carry end to end.
pub fn strip(headers: &mut HeaderMap) {
    strip_named(headers);
    for name in ONE_HOP {
        headers.remove(name);
    }
}

/// Removes the fields that Connection names, and leaves Connection and the fields that always mean one hop.
///
/// A request is rid of them before anything is read out of it: a variant chosen by a field that the app is never sent
/// (`Connection: accept-language`) would be another's.
pub fn strip_named(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let named: SmallVec<[HeaderName; 4]> = list(headers, CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .filter(|name| !is_protected(name) && !ONE_HOP.contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// The protocol to switch to: Upgrade, if Connection names it (RFC 9110 §7.8).
#[must_use]
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(UPGRADE)?;
    list(headers, CONNECTION)
        .any(|name| name.eq_ignore_ascii_case("upgrade"))
        .then(|| value.clone())
}

/// Whether the sender takes trailer fields (RFC 9110 §10.1.4).
#[must_use]
pub fn wants_trailers(headers: &HeaderMap) -> bool {
    list(headers, TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

/// Proxy-Authenticate and Proxy-Authorization are between a client and its proxy (RFC 9110 §11.7): the app is not one,
/// and never sees or sends them.
const ONE_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Whether Connection may not name this field. A client must not strip what a proxy in front sets for trust, nor what
/// the key, the identity or the framing were read from: `Connection: cookie` would fetch the anonymous page under a
/// user's key, and `Connection: x-forwarded-proto` would have the app write links for another scheme.
fn is_protected(name: &HeaderName) -> bool {
    PROTECTED.contains(name) || name.as_str().starts_with("x-forwarded-")
}

const PROTECTED: [HeaderName; 12] = [
    http::header::HOST,
    http::header::CONTENT_LENGTH,
    http::header::CACHE_CONTROL,
    http::header::AUTHORIZATION,
    http::header::COOKIE,
    http::header::SET_COOKIE,
    http::header::CONTENT_TYPE,
    http::header::CONTENT_ENCODING,
    http::header::VARY,
    http::header::ETAG,
    http::header::FORWARDED,
    http::header::VIA,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::lines_of;

    /// The names, sorted, of what is left of these fields, each with the value `v`, and of this Connection.
    fn left_of(connection: &[&str], fields: &[&'static str]) -> Vec<String> {
        let mut headers = lines_of("connection", connection);
        headers.extend(
            fields
                .iter()
                .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("v"))),
        );
        strip(&mut headers);
        let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn fields_of_one_hop_are_removed() {
        for (connection, fields, left) in [
            (&[][..], &["accept"][..], &["accept"][..]),
            (
                &["close"],
                &["keep-alive", "te", "transfer-encoding", "upgrade"],
                &[],
            ),
            (
                &[],
                &[
                    "proxy-connection",
                    "proxy-authenticate",
                    "proxy-authorization",
                ],
                &[],
            ),
            (&[], &["trailer", "te"], &["trailer"]),
            (&["X-A, x-b"], &["x-a", "x-b", "x-c"], &["x-c"]),
            (&["x-a", "x-b"], &["x-a", "x-b", "x-c"], &["x-c"]),
            (&["x a, \"x-b\", x-c"], &["x-b", "x-c"], &["x-b"]),
        ] {
            assert_eq!(left_of(connection, fields), left, "{connection:?}");
        }
    }

    #[test]
    fn connection_cannot_name_what_others_rely_on() {
        let mut fields = [
            "host",
            "content-length",
            "cache-control",
            "authorization",
            "cookie",
            "set-cookie",
            "content-type",
            "content-encoding",
            "vary",
            "etag",
            "forwarded",
            "via",
            "x-forwarded-for",
            "x-forwarded-proto",
        ];
        fields.sort_unstable();
        assert_eq!(left_of(&[&fields.join(", ")], &fields), fields);
    }

    #[test]
    fn what_is_stripped_first_leaves_what_is_yet_to_be_read() {
        let mut headers = lines_of(
            "connection",
            &["upgrade, te, keep-alive, x-a, accept-language"],
        );
        for name in [
            "upgrade",
            "te",
            "keep-alive",
            "x-a",
            "accept-language",
            "x-b",
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        strip_named(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["connection", "keep-alive", "te", "upgrade", "x-b"]);
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        for (connection, protocol, expected) in [
            (Some("Upgrade"), Some("websocket"), Some("websocket")),
            (
                Some("keep-alive, upgrade"),
                Some("websocket"),
                Some("websocket"),
            ),
            (Some("keep-alive"), Some("websocket"), None),
            (None, Some("websocket"), None),
            (Some("upgrade"), None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(connection.map(|value| (CONNECTION, HeaderValue::from_static(value))));
            headers.extend(protocol.map(|value| (UPGRADE, HeaderValue::from_static(value))));
            assert_eq!(
                upgrade(&headers),
                expected.map(HeaderValue::from_static),
                "{connection:?} {protocol:?}"
            );
        }
    }

    #[test]
    fn trailers_are_asked_for_by_te() {
        for (te, expected) in [
            (&["trailers"][..], true),
            (&["gzip, Trailers"], true),
            (&["gzip", "trailers"], true),
            (&["gzip"], false),
            (&[], false),
        ] {
            assert_eq!(wants_trailers(&lines_of("te", te)), expected, "{te:?}");
        }
    }
}
