//! Requests that no service is asked: two servers may read them in two ways, and what the one in front lets pass the
//! one behind acts on.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};

use crate::body::Body;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is not exactly one `Host` where there must be (RFC 9112 §3.2).
    Hosts,
    /// What stands for the host cannot be one, or has a user before it (RFC 9110 §4.2.4).
    Host,
    /// `:authority` and `Host` name two (RFC 9113 §8.3.1).
    TwoHosts,
    /// The target has not the form that goes with the method (RFC 9112 §3.2), or is no web address.
    Target,
    /// The length of the body is no number (RFC 9110 §8.6). HTTP/2 has it from its frames and reads nothing as zero.
    Length,
    /// The body comes in a transfer coding that nobody here undoes (RFC 9112 §6.1).
    Coding,
}

/// Finds the fault of a request that hyper took for one.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Fault> {
    check_hosts(request)?;
    if !has_form(request.method(), request.uri()) {
        return Err(Fault::Target);
    }
    if is_coded(request.headers()) {
        return Err(Fault::Coding);
    }
    let is_number =
        |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    let mut lengths = request.headers().get_all(header::CONTENT_LENGTH).iter();
    if !lengths.all(is_number) {
        return Err(Fault::Length);
    }
    Ok(())
}

fn check_hosts<B>(request: &Request<B>) -> Result<(), Fault> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let authority = request.uri().authority().map(Authority::as_str);
    // HTTP/1.0 knew no Host; HTTP/2 has `:authority` in its place.
    let is_needed = match request.version() {
        Version::HTTP_10 => false,
        Version::HTTP_11 => true,
        _ => authority.is_none(),
    };
    if second.is_some() || (is_needed && host.is_none()) {
        return Err(Fault::Hosts);
    }
    let host = host.map(HeaderValue::as_bytes);
    if !host.is_none_or(is_host) || !authority.is_none_or(|name| is_host(name.as_bytes())) {
        return Err(Fault::Host);
    }
    // The authority of an absolute HTTP/1 target simply wins (RFC 9112 §3.2.2).
    let differ = |(host, name): (&[u8], &str)| !host.eq_ignore_ascii_case(name.as_bytes());
    if request.version() == Version::HTTP_2 && host.zip(authority).is_some_and(differ) {
        return Err(Fault::TwoHosts);
    }
    Ok(())
}

/// RFC 3986 §3.2.2, §3.2.3: a name or an address in brackets, and perhaps a port. Nothing at all is a host too
/// (RFC 9110 §7.2). What names could also be written with, but never are, would only be read in several ways.
fn is_host(text: &[u8]) -> bool {
    let (name_ends, rest) = match text {
        [b'[', rest @ ..] => {
            let length = rest.iter().take_while(|byte| is_in_address(**byte)).count();
            (
                rest.get(length) == Some(&b']'),
                rest.get(length + 1..).unwrap_or_default(),
            )
        }
        _ => {
            let length = text.iter().take_while(|byte| is_in_name(**byte)).count();
            (true, text.get(length..).unwrap_or_default())
        }
    };
    let port = match rest {
        [] => return name_ends,
        [b':', port @ ..] => port,
        _ => return false,
    };
    let number = std::str::from_utf8(port).unwrap_or("-");
    let is_port = port.iter().all(u8::is_ascii_digit) && number.parse::<u16>().is_ok();
    name_ends && text.len() > rest.len() && (port.is_empty() || is_port)
}

const fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn is_in_address(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
}

/// Whether the target has one of the four forms, and the one its method asks for (RFC 9112 §3.2). What has not would reach
/// the app without a path.
fn has_form(method: &Method, uri: &Uri) -> bool {
    if method == Method::CONNECT {
        // No tunnel is made of it, whatever it names.
        return true;
    }
    let is_ours = match uri.scheme() {
        Some(scheme) => *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS,
        None => uri.authority().is_none(),
    };
    let is_path = uri.path().starts_with('/') || (uri.path() == "*" && method == Method::OPTIONS);
    is_ours && is_path
}

/// hyper undoes one `chunked`; whatever else was done to the body would be taken for the body.
fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => !coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    }
}

impl Fault {
    /// A problem document (RFC 9457). The connection ends with it: where the next request begins is in doubt.
    pub(super) fn response(self) -> Response<Body> {
        let (status, detail) = match self {
            Self::Hosts => (
                StatusCode::BAD_REQUEST,
                "The request must have exactly one Host field.",
            ),
            Self::Host => (
                StatusCode::BAD_REQUEST,
                "What the request names as the host is not a host.",
            ),
            Self::TwoHosts => (StatusCode::BAD_REQUEST, "The request names two hosts."),
            Self::Target => (
                StatusCode::BAD_REQUEST,
                "The request's target has not the form that goes with its method.",
            ),
            Self::Length => (
                StatusCode::BAD_REQUEST,
                "The length of the request's body is not a number.",
            ),
            Self::Coding => (
                StatusCode::NOT_IMPLEMENTED,
                "Of the transfer codings, only chunked is known here.",
            ),
        };
        let (title, code) = (
            status.canonical_reason().unwrap_or_default(),
            status.as_u16(),
        );
        let text = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{code},\"detail\":\"{detail}\"}}"
        );
        let mut response = Response::new(text.into());
        *response.status_mut() = status;
        for (name, value) in [
            (header::CONTENT_TYPE, "application/problem+json"),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONNECTION, "close"),
        ] {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (
        Version,
        &'static str,
        &'static [(&'static str, &'static str)],
        Result<(), Fault>,
    );

    const HOSTS: Result<(), Fault> = Err(Fault::Hosts);
    const HOST: Result<(), Fault> = Err(Fault::Host);
    const CODING: Result<(), Fault> = Err(Fault::Coding);

    const ROWS: &[Row] = &[
        (Version::HTTP_11, "/", &[("host", "a.example:8080")], Ok(())),
        (Version::HTTP_11, "/", &[("host", "[::1]:80")], Ok(())),
        (Version::HTTP_11, "/", &[("host", "")], Ok(())),
        (Version::HTTP_11, "/", &[], HOSTS),
        (Version::HTTP_10, "/", &[], Ok(())),
        (Version::HTTP_2, "http://a/", &[], Ok(())),
        (Version::HTTP_2, "/", &[("host", "a")], Ok(())),
        (Version::HTTP_2, "/", &[], HOSTS),
        (Version::HTTP_2, "http://a/", &[("host", "A")], Ok(())),
        (
            Version::HTTP_2,
            "http://a/",
            &[("host", "b")],
            Err(Fault::TwoHosts),
        ),
        (Version::HTTP_11, "http://a/", &[("host", "b")], Ok(())),
        (Version::HTTP_11, "https://a/", &[("host", "a")], Ok(())),
        (
            Version::HTTP_11,
            "ftp://a/",
            &[("host", "a")],
            Err(Fault::Target),
        ),
        (
            Version::HTTP_11,
            "a:80",
            &[("host", "a")],
            Err(Fault::Target),
        ),
        (Version::HTTP_11, "*", &[("host", "a")], Err(Fault::Target)),
        (Version::HTTP_2, "http://me@a/", &[], HOST),
        (Version::HTTP_2, "http://a,b/", &[], HOST),
        (Version::HTTP_2, "http://[::1]:80/", &[], Ok(())),
        (
            Version::HTTP_10,
            "/",
            &[("host", "a"), ("host", "a")],
            HOSTS,
        ),
        (Version::HTTP_11, "/", &[("host", "a/b")], HOST),
        (Version::HTTP_11, "/", &[("host", "a, b")], HOST),
        (
            Version::HTTP_2,
            "http://a/",
            &[("content-length", "")],
            Err(Fault::Length),
        ),
        (
            Version::HTTP_2,
            "http://a/",
            &[("content-length", "0"), ("content-length", "+0")],
            Err(Fault::Length),
        ),
        (
            Version::HTTP_2,
            "http://a/",
            &[("content-length", "0")],
            Ok(()),
        ),
        (
            Version::HTTP_11,
            "/",
            &[("host", "a"), ("transfer-encoding", " Chunked")],
            Ok(()),
        ),
        (
            Version::HTTP_11,
            "/",
            &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
            CODING,
        ),
        (
            Version::HTTP_11,
            "/",
            &[
                ("host", "a"),
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            CODING,
        ),
    ];

    #[test]
    fn only_what_can_be_read_in_one_way_passes() {
        for (version, uri, fields, expected) in ROWS {
            let mut request = Request::builder().version(*version).uri(*uri);
            for (name, value) in *fields {
                request = request.header(*name, *value);
            }
            let request = request.body(()).unwrap();
            assert_eq!(check(&request), *expected, "{version:?} {uri} {fields:?}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for good in [
            "",
            "a",
            "a.example",
            "a_b",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:80",
            "a:",
            "a:65535",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a:b", "a:1:2", "a:65536", "a:+1", "::1", "[::1", "[::1]x", "[g]", ":80", "a b", "a,b",
            "a/b", "a@b", "a%00", "a\\b", "\u{e9}", " a",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn only_options_asks_about_the_whole_server() {
        for (method, target, expected) in [
            (Method::OPTIONS, "*", true),
            (Method::OPTIONS, "/", true),
            (Method::GET, "*", false),
            (Method::POST, "a.example", false),
            (Method::CONNECT, "a.example:443", true),
        ] {
            let uri: Uri = target.parse().unwrap();
            assert_eq!(has_form(&method, &uri), expected, "{method} {target}");
        }
    }
}
