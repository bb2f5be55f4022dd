//! `POST /api/v1/{purge,intent,close}`: read, carry out, answer. What they mean is told in the module above.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::Admin;
use crate::body::{self, Body, ReadError};
use crate::coherence::Refused;
use crate::proxy::{Report, Unsettled};
use crate::purge::{self, Closing, Opening, Refusal};

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 256 * 1024;

/// What can be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    Purge,
    Intent,
    Close,
}

/// An answer other than the one asked for.
struct Failed {
    status: StatusCode,
    reason: String,
}

impl Action {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/api/v1/purge" => Some(Self::Purge),
            "/api/v1/intent" => Some(Self::Intent),
            "/api/v1/close" => Some(Self::Close),
            _ => None,
        }
    }
}

impl Admin {
    pub(super) async fn act(&self, action: Action, request: Request<Body>) -> Response<Body> {
        match self.carry_out(action, request).await {
            Ok((status, json)) => respond(status, &json),
            Err(Failed { status, reason }) => {
                let mut response = respond(status, &json!({ "error": reason }));
                let (name, value) = match status {
                    StatusCode::METHOD_NOT_ALLOWED => (header::ALLOW, "POST"),
                    StatusCode::UNAUTHORIZED => {
                        (header::WWW_AUTHENTICATE, "Bearer realm=\"reprise\"")
                    }
                    // What is left of the body is not read.
                    StatusCode::PAYLOAD_TOO_LARGE => (header::CONNECTION, "close"),
                    _ => return response,
                };
                response
                    .headers_mut()
                    .insert(name, HeaderValue::from_static(value));
                response
            }
        }
    }

    async fn carry_out(
        &self,
        action: Action,
        request: Request<Body>,
    ) -> Result<(StatusCode, Value), Failed> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            return Err(Failed::new(StatusCode::METHOD_NOT_ALLOWED, "POST it"));
        }
        let who = self
            .access
            .check(&head)
            .map_err(|denied| Failed::new(denied.status, denied.reason))?;
        if !is_json(&head.headers) {
            let reason = "say what it is: Content-Type: application/json";
            return Err(Failed::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
        }
        let body = body::read_limited(body, MAX_BODY).await?;
        let by = format!("admin API, {who}");
        match action {
            Action::Purge => {
                let request = purge::Request::parse(&body)?;
                Ok(told(&self.proxy.purge(request, by).await?))
            }
            Action::Intent => {
                let opening = Opening::parse(&body)?;
                let (token, position) = self.proxy.open(&opening, &by).await?;
                let token = format!("{token:016x}");
                Ok((
                    StatusCode::OK,
                    json!({ "token": token, "position": position }),
                ))
            }
            Action::Close => {
                let closing = Closing::parse(&body)?;
                Ok(told(&self.proxy.close(&closing, by).await?))
            }
        }
    }
}

fn told(report: &Report) -> (StatusCode, Value) {
    (report.status(), report.to_json())
}

fn respond(status: StatusCode, json: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{json}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether a body says that it is JSON. A form, which a page may send anywhere without asking, cannot.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()?.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

impl Failed {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::new(StatusCode::BAD_REQUEST, refusal.to_string())
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {} KiB", MAX_BODY / 1024),
            ),
            ReadError::Broken(_) => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
}

impl From<Unsettled> for Failed {
    fn from(unsettled: Unsettled) -> Self {
        match unsettled {
            Unsettled::Refusal(refusal) => refusal.into(),
            Unsettled::Log(Refused::Unknown) => Self::new(
                StatusCode::NOT_FOUND,
                "no such announcement: it has been closed, or its time was over and what it announced was dropped",
            ),
            Unsettled::Log(Refused::Unreachable) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the shared log cannot be reached: nothing was announced or ended",
            ),
        }
    }
}
