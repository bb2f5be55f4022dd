//! The admin service: probes and metrics.
//!
//! * `GET /livez`: 200 while the process answers.
//! * `GET /readyz`: 200 when the process wants traffic, 503 while it drains. `?verbose` tells each check in a line. The
//!   app's state is told and does not count: a sidecar that is taken out of service because its app is slow would take
//!   the cache away too.
//! * `GET /metrics`: Prometheus' text format 0.0.4.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::metrics::Metrics;

/// Answers the admin port. A cheap handle.
#[derive(Clone, Debug)]
pub struct Admin {
    metrics: Metrics,
    draining: Arc<AtomicBool>,
}

impl Admin {
    /// An admin service of these metrics; `draining` says that the process wants no more traffic.
    #[must_use]
    pub const fn new(metrics: Metrics, draining: Arc<AtomicBool>) -> Self {
        Self { metrics, draining }
    }

    /// Answers one request.
    #[must_use]
    pub fn handle(&self, request: &Request<Body>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "method not allowed\n".to_owned(),
            );
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => self.ready(
                request
                    .uri()
                    .query()
                    .is_some_and(|query| query.contains("verbose")),
            ),
            "/metrics" => self.metrics(),
            path => text(
                StatusCode::NOT_FOUND,
                format!("no {path} here; there are /livez, /readyz?verbose and /metrics\n"),
            ),
        }
    }

    fn ready(&self, verbose: bool) -> Response<Body> {
        let draining = self.draining.load(Ordering::Acquire);
        let status = if draining {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        let mut lines = String::new();
        if verbose {
            let app = if self.metrics.app_is_up() {
                "[+]app ok"
            } else {
                "[!]app has not answered yet, or not the last time (not counted)"
            };
            let serving = if draining {
                "[-]draining"
            } else {
                "[+]serving ok"
            };
            let _ = writeln!(lines, "{serving}\n{app}");
        }
        lines.push_str(if draining { "draining\n" } else { "ok\n" });
        text(status, lines)
    }

    fn metrics(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(bytes::Bytes::from(self.metrics.render())));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        );
        response
    }
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
