//! Errors to responses, the only place: each failure is a problem document (RFC 9457) that names what was tried.

use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::body::Body;
use crate::fill::Failure;
use crate::purge::Refusal;
use crate::units;
use crate::upstream;

/// Why a request is answered by the proxy itself, with an error.
#[derive(Debug)]
pub enum Error {
    /// The app could not be asked.
    Upstream(Arc<upstream::Error>),
    /// A task ended without a word: a defect, or the process is ending.
    Aborted,
    /// The request's body is larger than `[server] max_request_body`.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The client took too long to send its body.
    SlowBody,
    /// The client hung up while it sent its body.
    HungUp,
    /// Nothing is stored, and the client does not want the app to be asked.
    OnlyIfCached,
    /// The method makes a tunnel of a proxy.
    Connect,
    /// The log of drops cannot be reached, and such a write must then not go on.
    Partitioned,
    /// `PURGE` or `BAN`, from somebody who may not.
    PurgeForbidden,
    /// `PURGE` or `BAN`, of something that is not understood.
    PurgeRefused(Refusal),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Upstream(error) => Self::Upstream(error),
            Failure::Aborted => Self::Aborted,
        }
    }
}

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Self {
        Self::Upstream(Arc::new(error))
    }
}

impl Error {
    /// The status it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Upstream(error) => match error.kind() {
                upstream::Kind::Connect
                | upstream::Kind::Reset
                | upstream::Kind::Truncated
                | upstream::Kind::Protocol => StatusCode::BAD_GATEWAY,
                upstream::Kind::ConnectTimeout
                | upstream::Kind::Timeout
                | upstream::Kind::Stalled => StatusCode::GATEWAY_TIMEOUT,
                upstream::Kind::Saturated => StatusCode::SERVICE_UNAVAILABLE,
                upstream::Kind::RequestBody => StatusCode::BAD_REQUEST,
            },
            Self::Aborted => StatusCode::BAD_GATEWAY,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::HungUp => StatusCode::BAD_REQUEST,
            Self::OnlyIfCached => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Partitioned => StatusCode::SERVICE_UNAVAILABLE,
            Self::PurgeForbidden => StatusCode::FORBIDDEN,
            Self::PurgeRefused(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The response, a problem document.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let status = self.status();
        let problem = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let text = problem.to_string();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Partitioned => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Upstream(error) if error.kind() == upstream::Kind::Saturated => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Connect => {
                headers.insert(
                    header::ALLOW,
                    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
                );
                // Who takes what follows for a tunnel, and who for requests, is in doubt.
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            // What is left of the body cannot be skipped in time; the connection ends with the answer.
            Self::TooLarge { .. } | Self::SlowBody | Self::HungUp => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Upstream(_)
            | Self::Aborted
            | Self::OnlyIfCached
            | Self::PurgeForbidden
            | Self::PurgeRefused(_) => {}
        }
        *response.body_mut() = text.into();
        response
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(error) => error.fmt(f),
            Self::Aborted => f.write_str("the exchange with the app was given up"),
            Self::TooLarge { limit } => write!(
                f,
                "the request body is larger than {} ([server] max_request_body)",
                units::format_size(*limit)
            ),
            Self::SlowBody => f.write_str("the request body did not arrive in time"),
            Self::HungUp => f.write_str("the request body broke off"),
            Self::OnlyIfCached => {
                f.write_str("nothing fresh is stored, and the request says only-if-cached")
            }
            Self::Connect => {
                f.write_str("CONNECT is not supported: this proxy stands before one app")
            }
            Self::Partitioned => f.write_str(
                "this replica is cut off from the others, and a write that they do not hear of is refused ([coherence] on_partition)",
            ),
            Self::PurgeForbidden => f.write_str(
                "purging by method is for callers in [server] trusted_proxies, speaking for themselves",
            ),
            Self::PurgeRefused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for Error {}
