//! One exchange with the app, counted: for fills and for requests that pass the cache.

use http::header::HeaderName;
use http::{Request, Response, Version};
use tokio::time::Instant;

use crate::body::Body;
use crate::metrics::{Metrics, RouteMetrics};
use crate::upstream::{self, Upstream};

/// Whom to ask, and who counts it.
#[derive(Debug)]
pub struct Asking<'a> {
    /// The app.
    pub upstream: &'a Upstream,
    /// What is counted for the app as a whole.
    pub metrics: &'a Metrics,
    /// What the route counts.
    pub route: &'a RouteMetrics,
    /// The response field in which the app counts its queries.
    pub query_count: &'a HeaderName,
}

impl Asking<'_> {
    /// Sends a request and waits for the head of its answer. That the app is gone, or back, is logged once.
    ///
    /// # Errors
    ///
    /// As [`Upstream::send`].
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, upstream::Error> {
        let started = Instant::now();
        let mut result = self.upstream.send(request).await;
        let waited = started.elapsed().as_secs_f64();
        self.route.upstream_duration.observe(waited);
        match &mut result {
            Ok(response) => {
                // RFC 9110 §2.5: each hop speaks its own version.
                *response.version_mut() = Version::HTTP_11;
                if self.metrics.app_answers(true) {
                    tracing::info!("the app answers");
                }
                self.route.asked(response.status().as_u16());
                if let Some(count) = response.headers().get(self.query_count) {
                    self.route.queries(count);
                }
            }
            Err(error) => {
                let kind = error.kind();
                self.metrics.upstream_error(kind.as_str()).inc();
                // A client that hangs up, or a full queue, says nothing about the app.
                let apps = !matches!(
                    kind,
                    upstream::Kind::RequestBody | upstream::Kind::Saturated
                );
                if apps && self.metrics.app_answers(false) {
                    tracing::warn!(%error, "the app does not answer");
                } else {
                    tracing::debug!(%error, "an exchange with the app failed");
                }
            }
        }
        result
    }
}
