//! Requests that no service is asked: two servers may read them in two ways, and what the one in front lets pass the
//! one behind acts on.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Request, Response, StatusCode, Version};

use crate::body::Body;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is not exactly one `Host` where there must be (RFC 9112 §3.2).
    Hosts,
    /// What stands for the host cannot be one, or has a user before it (RFC 9110 §4.2.4).
    Host,
    /// The body comes in a transfer coding that nobody here undoes (RFC 9112 §6.1).
    Coding,
}

/// Finds the fault of a request that hyper took for one.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Fault> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Fault::Hosts),
        (None, None) if request.version() == Version::HTTP_11 => return Err(Fault::Hosts),
        (Some(host), None) if !host.as_bytes().iter().all(|byte| may_be_in_host(*byte)) => {
            return Err(Fault::Host);
        }
        (_, None) => {}
    }
    let authority = request.uri().authority();
    let is_host = |authority: &Authority| authority.as_str().bytes().all(may_be_in_host);
    if !authority.is_none_or(is_host) {
        return Err(Fault::Host);
    }
    if is_coded(headers) {
        return Err(Fault::Coding);
    }
    Ok(())
}

/// RFC 3986 §3.2.2, §3.2.3: what names, addresses in brackets and ports are written with.
const fn may_be_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
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

    #[test]
    fn only_what_can_be_read_in_one_way_passes() {
        let (hosts, host, coding) = (Err(Fault::Hosts), Err(Fault::Host), Err(Fault::Coding));
        for (version, uri, fields, expected) in [
            (
                Version::HTTP_11,
                "/",
                &[("host", "a.example:8080")][..],
                Ok(()),
            ),
            (Version::HTTP_11, "/", &[("host", "[::1]:80")], Ok(())),
            (Version::HTTP_11, "/", &[("host", "")], Ok(())),
            (Version::HTTP_11, "/", &[], hosts),
            (Version::HTTP_10, "/", &[], Ok(())),
            (Version::HTTP_2, "http://a/", &[], Ok(())),
            (Version::HTTP_2, "http://me@a/", &[], host),
            (Version::HTTP_2, "http://a,b/", &[], host),
            (Version::HTTP_2, "http://[::1]:80/", &[], Ok(())),
            (
                Version::HTTP_10,
                "/",
                &[("host", "a"), ("host", "a")],
                hosts,
            ),
            (Version::HTTP_11, "/", &[("host", "a/b")], host),
            (Version::HTTP_11, "/", &[("host", "a, b")], host),
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
                coding,
            ),
            (
                Version::HTTP_11,
                "/",
                &[
                    ("host", "a"),
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                coding,
            ),
        ] {
            let mut request = Request::builder().version(version).uri(uri);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let request = request.body(()).unwrap();
            assert_eq!(check(&request), expected, "{version:?} {uri} {fields:?}");
        }
    }
}
