//! Trailers: which fields may come after a body. A server that merges them into the head would take them for what the key,
//! the identity and the framing were read from.

use http::header::{self, HeaderMap, HeaderName};

/// Takes out of a message's trailers what only a head may say (RFC 9110 §6.5.1): framing, routing, who asks, conditions and
/// caching. `false` when nothing is left.
pub(super) fn keep_harmless(trailers: &mut HeaderMap) -> bool {
    let refused: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !is_harmless(name))
        .cloned()
        .collect();
    for name in refused {
        trailers.remove(name);
    }
    !trailers.is_empty()
}

fn is_harmless(name: &HeaderName) -> bool {
    // WSGI reads an underscore as a hyphen.
    let text = name.as_str();
    !text.contains('_')
        && !REFUSED.contains(name)
        && !REFUSED_PREFIXES
            .iter()
            .any(|prefix| text.starts_with(prefix))
}

/// Where a request came from and what it asks for, by all the names that apps and servers listen to.
const REFUSED_PREFIXES: [&str; 11] = [
    "x-forwarded-",
    "x-real-",
    "x-original-",
    "x-rewrite-",
    "x-host",
    "x-http-method",
    "x-method-",
    "x-cache",
    "proxy-",
    "if-",
    "access-control-",
];

const REFUSED: [HeaderName; 37] = [
    header::AGE,
    header::ALLOW,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CACHE_STATUS,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::FORWARDED,
    header::HOST,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::RANGE,
    header::REFERER,
    header::ORIGIN,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    header::VIA,
    header::WARNING,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_head_may_say_is_taken_out() {
        for (name, kept) in [
            ("x-checksum", true),
            ("server-timing", true),
            ("etag", true),
            ("grpc-status", true),
            ("content-length", false),
            ("transfer-encoding", false),
            ("host", false),
            ("cookie", false),
            ("set-cookie", false),
            ("authorization", false),
            ("proxy-authorization", false),
            ("x-forwarded-for", false),
            ("x_forwarded_for", false),
            ("connection", false),
            ("if-match", false),
        ] {
            let mut trailers = HeaderMap::new();
            trailers.insert(HeaderName::from_static(name), "1".parse().unwrap());
            assert_eq!(keep_harmless(&mut trailers), kept, "{name}");
            assert_eq!(trailers.contains_key(name), kept, "{name}");
        }
    }
}
