//! Passing: a request that the cache does not answer goes to the app and back, streaming both ways.

use std::error::Error as StdError;
use std::io;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::{LengthLimitError, Limited};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::forward::{relay_hints, upgrade, upstream_head};
use super::{Answer, Error, Proxy, Seen, Target};
use crate::body::Body;
use crate::fill::ask::Asking;
use crate::headers::coding::Coding;
use crate::headers::{coding, hop_by_hop, targeted, validator};
use crate::metrics::RouteMetrics;
use crate::outcome::Outcome;
use crate::respond::encode::{self, Encoded};
use crate::upstream;

impl Proxy {
    /// Forwards a request past the cache.
    pub(super) async fn pass(
        &self,
        head: &request::Parts,
        body: Body,
        seen: &Seen<'_>,
        target: &Target<'_>,
        outcome: Outcome,
    ) -> Result<Answer, Error> {
        if head.method == Method::CONNECT {
            return Err(Error::Connect);
        }
        let hops = hops_left(head);
        if hops == Some(0) {
            return Ok(last_hop(&head.method, outcome));
        }
        let limit = seen.live.max_request_body;
        let body = limited(&head.headers, body, limit)?;
        let upgrading = upgrade(&head.headers).is_some();
        let mut sent = upstream_head(head, &seen.client, upgrading);
        if let Some(hops) = hops {
            sent.headers
                .insert(header::MAX_FORWARDS, HeaderValue::from(hops - 1));
        }
        if http_body::Body::size_hint(&body).exact().is_none() {
            // Said aloud: the HTTP client leaves the body of a GET out if nothing announces it.
            sent.headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }
        let mut request = Request::from_parts(sent, body);
        relay_hints(head, &mut request);
        let mut response = self.ask(request, &target.route.metrics, limit).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.bridge(head, &mut response);
            return Ok(Answer::new(response, outcome));
        }
        hop_by_hop::strip(response.headers_mut());
        targeted::strip(response.headers_mut());
        self.heed_cookies(&head.headers, seen, response.headers())
            .await;
        // Without a route the proxy is as good as not there.
        let on_route = target.index.is_some() && target.route.policy.compress;
        let compression = on_route.then_some(&seen.live.compression);
        Ok(Answer::new(
            encoded_in_passing(head, response, compression),
            outcome,
        ))
    }

    /// Asks the app, and counts it.
    pub(super) async fn ask(
        &self,
        request: Request<Body>,
        metrics: &RouteMetrics,
        limit: u64,
    ) -> Result<Response<Body>, Error> {
        let asking = Asking {
            upstream: &self.shared.tools.upstream,
            metrics: &self.shared.tools.metrics,
            route: metrics,
            query_count: &self.shared.live.query_count,
        };
        asking.send(request).await.map_err(|error| {
            if error.kind() == upstream::Kind::RequestBody {
                blame_client(&error, limit)
            } else {
                error.into()
            }
        })
    }

    /// Joins the two ends of an upgraded connection until one of them closes.
    fn bridge(&self, head: &request::Parts, response: &mut Response<Body>) {
        let Some(downstream) = head.extensions.get::<OnUpgrade>().cloned() else {
            return;
        };
        let upstream = hyper::upgrade::on(response);
        self.shared.tasks.spawn(async move {
            let (Ok(downstream), Ok(upstream)) = (downstream.await, upstream.await) else {
                return;
            };
            let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
            if let Err(error) = tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await
            {
                tracing::debug!(%error, "an upgraded connection broke");
            }
        });
    }
}

/// How many more hops a request may make that asks about the hops themselves (RFC 9110 §7.6.2).
fn hops_left(head: &request::Parts) -> Option<u64> {
    if head.method != Method::OPTIONS && head.method != Method::TRACE {
        return None;
    }
    let hops = head.headers.get(header::MAX_FORWARDS)?;
    hops.to_str().ok()?.trim().parse().ok()
}

/// The answer of the hop that such a request was meant for. A TRACE is not echoed: it would show a script what the browser
/// hides from it.
fn last_hop(method: &Method, outcome: Outcome) -> Answer {
    let mut response = Response::new(Body::empty());
    if *method == Method::TRACE {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    Answer {
        own: true,
        ..Answer::new(response, outcome)
    }
}

/// A request body that ends in an error beyond the limit; one whose declared length is beyond it is refused at once.
pub(super) fn limited(headers: &HeaderMap, body: Body, limit: u64) -> Result<Body, Error> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(Error::TooLarge { limit });
    }
    if http_body::Body::is_end_stream(&body) || declared.is_some() {
        // hyper reads exactly what was declared.
        return Ok(body);
    }
    Ok(Body::stream(Limited::new(
        body,
        usize::try_from(limit).unwrap_or(usize::MAX),
    )))
}

/// What the client did wrong when its body failed.
fn blame_client(error: &upstream::Error, limit: u64) -> Error {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<LengthLimitError>() {
            return Error::TooLarge { limit };
        }
        if cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
        {
            return Error::SlowBody;
        }
        source = cause.source();
    }
    Error::HungUp
}

/// Encodes an answer that is not stored as it passes by, when it is worth it.
pub(super) fn encoded_in_passing(
    head: &request::Parts,
    response: Response<Body>,
    compression: Option<&encode::Config>,
) -> Response<Body> {
    let length = http_body::Body::size_hint(response.body()).exact();
    let Some(config) =
        compression.filter(|config| config.applies(response.status(), response.headers(), length))
    else {
        return response;
    };
    let coding = config.choose(&head.headers).unwrap_or(Coding::Identity);
    let (mut parts, body) = response.into_parts();
    parts
        .headers
        .append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if coding == Coding::Identity || head.method == Method::HEAD {
        return Response::from_parts(parts, body);
    }
    match Encoded::new(body, coding) {
        Ok(encoded) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            parts.headers.remove(header::ACCEPT_RANGES);
            coding::strip_digests(&mut parts.headers);
            parts.headers.insert(
                header::CONTENT_ENCODING,
                HeaderValue::from_static(coding.as_str()),
            );
            if let Some(etag) = validator::etag(&parts.headers) {
                parts.headers.insert(header::ETAG, etag.weaken().to_value());
            }
            Response::from_parts(parts, Body::stream(encoded))
        }
        Err(error) => {
            tracing::error!(%error, "no encoder");
            Response::from_parts(parts, Body::empty())
        }
    }
}
