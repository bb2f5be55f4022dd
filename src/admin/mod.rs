//! The admin service: probes, metrics, and the API that changes things. This is the reference of the API.
//!
//! * `GET /livez`: 200 while the process answers.
//! * `GET /readyz`: 200 when the process wants traffic, 503 while it drains, or when its identity key is not the other
//!   replicas'. `?verbose` tells each check in a line. The
//!   app's state is told and does not count: a sidecar that is taken out of service because its app is slow would take
//!   the cache away too.
//! * `GET /metrics`: Prometheus' text format 0.0.4.
//! * `POST /api/v1/purge`, `/api/v1/intent`, `/api/v1/close`: below.
//!
//! # Who may
//!
//! Reading is free. What changes things goes by `[admin] write_access`: `loopback` (callers whose connection comes from
//! this host; not for pods whose mesh delivers everything over the loopback), `token` (`Authorization: Bearer ...`, the
//! variable that `token_env` names), or `off`. Browsers are refused whoever sent them (`Origin`, `Sec-Fetch-Site`). A
//! request is `POST` with `Content-Type: application/json` and at most 256 KiB. What is wrong is told as
//! `{"error": "tags[1]: expected a text, found a number"}` with 400, 401, 403, 404, 405, 413, 415 or 503.
//!
//! # `POST /api/v1/purge`
//!
//! Drops what these fields name, each a text or a list of texts, in the singular or the plural:
//!
//! | field | what goes |
//! |---|---|
//! | `tags` | what carries a tag (`event:42`) or a class (`event:*`), and what `[relations]` says goes with it |
//! | `paths` | a path, or everything below one (`/api/movies/**`); `*` and `{x}` are one segment: where no `[[write]]` has the same pattern, everything below goes, and `widened` says so |
//! | `patterns` | globs over path, or path and query if there is a `?` in them: `/api/movies/?*page=2*`; only `*` is special. At most 16. Dearer than tags: each is compared with what is looked up from then on |
//! | `routes` | what a `[[route]]` stored |
//! | `keys` | exact URLs, or `{"path", "query"}`: for all users, in all variants, under all hosts |
//! | `all` | `true`: everything |
//!
//! With `"soft": true` it becomes stale instead, good for `stale_while_revalidate` and `stale_if_error` (not for
//! `patterns`). With `"dry_run": true` nothing is dropped. With `"wait": false` it is begun and not waited for.
//!
//! The answer: `reached` (`everywhere`: no replica can serve what was there, 200; `here`: the shared log could not be
//! reached, only this replica has dropped it, 202, try again; `under-way`: not waited for, 202; `nobody`: a dry run),
//! `names` and `patterns` that were dropped, `widened` where that is more than was asked, `position` and `epoch` in the
//! log, `members` (replicas) and whether all have `acknowledged` (else the leases of the silent ones have run out),
//! `waited_ms`, and `memory`: `scanned` entries of this replica, `freed` (in a dry run `matching`) ones, and whether
//! that is `complete`: the walk ends after two seconds, the drop does not depend on it. `redis` says the same of tier 2,
//! which is swept slowly and by one replica at a time: usually not complete when the answer goes out, it goes on.
//!
//! # `POST /api/v1/intent` and `POST /api/v1/close`
//!
//! For code that writes past the proxy and wants what a proxied write gets. `intent` names what may change, as above but
//! without `patterns`, and `ttl`, the longest time after which it may still do so: from its answer (`token`, `position`)
//! until the end nobody is answered from the cache. `close` gives the `token`, `committed` (true or false), and what did
//! change; nothing named is all that was announced. It answers like `purge`; 404 if there is no such announcement, which
//! may mean that its time was over: then what it announced has been dropped. Without a `close` that happens, too.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::coherence::Status;
use crate::coherence::replica::Refusal;
use crate::metrics::Metrics;
use crate::proxy::Proxy;

mod access;
mod purge;

pub use access::{Access, Token};

/// Answers the admin port. A cheap handle.
#[derive(Clone, Debug)]
pub struct Admin {
    metrics: Metrics,
    proxy: Proxy,
    access: Arc<Access>,
    draining: Arc<AtomicBool>,
}

impl Admin {
    /// An admin service of this proxy; `access` says who may change things, `draining` that the process wants no more
    /// traffic.
    #[must_use]
    pub fn new(metrics: Metrics, proxy: Proxy, access: Access, draining: Arc<AtomicBool>) -> Self {
        Self {
            metrics,
            proxy,
            access: Arc::new(access),
            draining,
        }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        if let Some(action) = purge::Action::of(path) {
            return Box::pin(self.act(action, request)).await;
        }
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
        match path {
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
                format!(
                    "no {path} here; there are /livez, /readyz?verbose, /metrics and POST /api/v1/{{purge,intent,close}}\n"
                ),
            ),
        }
    }

    fn ready(&self, verbose: bool) -> Response<Body> {
        let draining = self.draining.load(Ordering::Acquire);
        let log = self.proxy.log_status();
        let foreign = log.is_some_and(|log| log.refused == Some(Refusal::Foreign));
        let status = if draining || foreign {
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
            if let Some(log) = &log {
                let _ = writeln!(lines, "{}", tell_log(log));
            }
        }
        lines.push_str(match (draining, foreign) {
            (true, _) => "draining\n",
            (false, true) => "not ready\n",
            (false, false) => "ok\n",
        });
        text(status, lines)
    }

    fn metrics(&self) -> Response<Body> {
        self.proxy.tell_coherence();
        let mut response = Response::new(Body::from(bytes::Bytes::from(self.metrics.render())));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        );
        response
    }
}

/// How the replica stands with the log that replicas share.
fn tell_log(log: &Status) -> String {
    let members = log.members;
    match (log.refused, log.sight.unreachable_since, log.sight.epoch) {
        (Some(why), _, _) => format!("[-]shared log: {}", why.as_str()),
        (None, Some(_), _) => {
            "[!]shared log does not answer: nothing is cached (not counted)".to_owned()
        }
        (None, None, None) => "[!]shared log is being joined (not counted)".to_owned(),
        (None, None, Some(_)) if log.on_probation => {
            "[!]shared log joined, waiting for a witness (not counted)".to_owned()
        }
        (None, None, Some(_)) => format!("[+]shared log ok, replicas: {members}"),
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
