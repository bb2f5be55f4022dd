//! Fetching: what a read does when the tiers cannot answer it. The app is asked through a fill that others may share, or
//! by this request alone when its answer may not be shared.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::forward::{for_all, relay_hints, upstream_head};
use super::pass::encoded_in_passing;
use super::read::Reading;
use super::{Answer, Error, Proxy};
use crate::body::Body;
use crate::entry::Entry;
use crate::fill::stream::Reader;
use crate::fill::{Filled, News, Order, Streaming};
use crate::headers::targeted;
use crate::key::{self, KeyHasher};
use crate::outcome::{Bypass, Forward, Outcome, Result as Happened};
use crate::policy::storing::Unstorable;
use crate::policy::validation;
use crate::purge;

impl Proxy {
    /// Asks the app. `prior` is the stale entry to ask about; `fallback` answers if the app fails.
    pub(super) async fn fetch(
        &self,
        reading: &Reading<'_>,
        prior: Option<Arc<Entry>>,
        fallback: Option<Arc<Entry>>,
        forward: Forward,
    ) -> Result<Answer, Error> {
        let answer = self.ask_through_fill(reading, prior, forward).await;
        let Some(entry) = fallback.filter(|_| is_failure(&answer)) else {
            return answer;
        };
        // A write may have come while the app was failing.
        let writes = reading.target.route.writes;
        if self
            .shared
            .tools
            .coherence
            .usable(&entry.certificate, &entry.key, writes)
            .is_err()
        {
            return answer;
        }
        Ok(self.serve(reading, &entry, Outcome::stale, "error").await)
    }

    async fn ask_through_fill(
        &self,
        reading: &Reading<'_>,
        prior: Option<Arc<Entry>>,
        forward: Forward,
    ) -> Result<Answer, Error> {
        let missed = Outcome::forwarded(Happened::Miss, forward);
        if reading.head.method == Method::HEAD {
            return self.ask_head(reading, prior, missed).await;
        }
        let Some(mut order) = order(reading, prior, &self.shared.tools.hasher) else {
            return self.alone(reading, Outcome::bypass(Bypass::Spelling)).await;
        };
        // Only who begins the fill is told what comes before the answer: the request is his.
        let mut sent = Request::from_parts(order.head, ());
        relay_hints(reading.head, &mut sent);
        order.head = sent.into_parts().0;
        match self.shared.tools.fills.join(Arc::new(order)).await {
            Filled::Entry { entry, news } => Ok(self.filled(reading, &entry, news, forward).await),
            Filled::Stream {
                head,
                body,
                joined,
                queries,
            } => {
                let result = if joined {
                    Happened::Coalesced
                } else {
                    Happened::Miss
                };
                let outcome = Outcome {
                    collapsed: joined,
                    ..Outcome::forwarded(result, forward)
                };
                Ok(streamed(reading, &head, body, queries, outcome))
            }
            Filled::Private {
                mut response,
                reason,
            } => {
                targeted::strip(response.headers_mut());
                self.heed_cookies(&reading.head.headers, reading.seen, response.headers())
                    .await;
                let outcome = Outcome {
                    not_stored: Some(reason),
                    ..missed
                };
                let compression = reading.style().compression;
                Ok(Answer::new(
                    encoded_in_passing(reading.head, response, compression),
                    outcome,
                ))
            }
            Filled::GoAlone { reason, .. } => {
                self.alone(
                    reading,
                    Outcome {
                        not_stored: Some(reason),
                        ..missed
                    },
                )
                .await
            }
            Filled::Failed(failure) => Err(failure.into()),
        }
    }

    /// Asks the app with a HEAD. What it brings is no entry, and a whole GET for its sake would be more than was asked; but
    /// what it says of another body than the stored one ends that one (RFC 9111 §4.3.5).
    async fn ask_head(
        &self,
        reading: &Reading<'_>,
        prior: Option<Arc<Entry>>,
        outcome: Outcome,
    ) -> Result<Answer, Error> {
        let answer = self.alone(reading, outcome).await?;
        if let Some(prior) = prior
            && answer.response.status() == StatusCode::OK
            && validation::is_outdated(&prior, answer.response.headers())
        {
            self.shared.tools.cache.remove(&reading.key, &prior);
        }
        Ok(answer)
    }

    /// Answers from what a fill brought.
    async fn filled(
        &self,
        reading: &Reading<'_>,
        entry: &Arc<Entry>,
        news: News,
        forward: Forward,
    ) -> Answer {
        if news.found {
            return self.serve(reading, entry, Outcome::hit, "l2").await;
        }
        let result = match news {
            News { joined: true, .. } => Happened::Coalesced,
            News {
                confirmed: true, ..
            } => Happened::Revalidated,
            News { .. } => Happened::Miss,
        };
        let outcome = Outcome {
            stored: news.stored && !news.joined,
            not_stored: (!news.stored).then_some(Unstorable::Outdated),
            collapsed: news.joined,
            forward_status: news.confirmed.then_some(StatusCode::NOT_MODIFIED.as_u16()),
            ..Outcome::forwarded(result, forward)
        };
        self.make(reading, entry).await;
        let mut response = reading.respond(entry);
        if !news.joined && entry.facts.age.is_zero() {
            // RFC 9111 §5.1: an Age says that the app did not make the answer for this request.
            response.headers_mut().remove(header::AGE);
        }
        put_query_count(reading, news.queries, &mut response);
        Answer::new(response, outcome)
    }

    /// Asks the app with the client's own request, conditions and range included.
    async fn alone(&self, reading: &Reading<'_>, outcome: Outcome) -> Result<Answer, Error> {
        self.pass(
            reading.head,
            Body::empty(),
            reading.seen,
            &reading.target,
            outcome,
        )
        .await
    }
}

/// Answers from a fill whose body is still arriving.
fn streamed(
    reading: &Reading<'_>,
    head: &Streaming,
    body: Reader,
    queries: Option<HeaderValue>,
    outcome: Outcome,
) -> Answer {
    let mut response = Response::new(Body::stream(body));
    *response.status_mut() = head.status;
    response.headers_mut().clone_from(&head.headers);
    targeted::strip(response.headers_mut());
    put_query_count(reading, queries, &mut response);
    Answer::new(
        encoded_in_passing(reading.head, response, reading.style().compression),
        outcome,
    )
}

/// The app's count of its queries belongs on the answer it made, and on no hit.
fn put_query_count(
    reading: &Reading<'_>,
    queries: Option<HeaderValue>,
    response: &mut Response<Body>,
) {
    if let Some(queries) = queries {
        response
            .headers_mut()
            .insert(reading.seen.live.query_count.clone(), queries);
    }
}

/// Everything a fill needs; `None` when the path has a spelling that not every drop could reach.
pub(super) fn order(
    reading: &Reading<'_>,
    prior: Option<Arc<Entry>>,
    hasher: &KeyHasher,
) -> Option<Order> {
    let Reading {
        head,
        seen,
        target,
        caller,
        sharing,
        key,
        variance,
        ..
    } = reading;
    let route = seen.live.table.routes().get(target.index?)?;
    let user = caller.as_ref().map(|known| known.caller.user.to_hex());
    let identified = caller.as_ref().and_then(|known| known.certificate.clone());
    let mut tags =
        seen.live
            .table
            .entry_tags(route, target.path, &target.captures, user.as_deref())?;
    let asked = key::target_of(key.as_bytes())?;
    tags.push(purge::url_tag(asked.path, asked.query));
    if variance.is_some() {
        tags.push(purge::ruled_tag(asked.path));
    }
    if let Some(certificate) = &identified {
        tags.extend(certificate.tags.iter().copied());
    }
    let mut sent = upstream_head(head, &seen.client, false);
    for_all(&mut sent, &seen.live.query);
    let needs_whole = validation::CONDITIONS
        .iter()
        .any(|name| head.headers.contains_key(name));
    Some(Order {
        key: key.clone(),
        variance: variance.clone(),
        place: hasher.place(asked.host, asked.path),
        head: sent,
        asked: head.headers.clone(),
        policy: Arc::clone(&target.route.policy),
        credentials: Arc::clone(&seen.live.identity.from),
        sharing: *sharing,
        tags,
        identified,
        writes: target.route.writes,
        prior,
        needs_whole,
        query_count: seen.live.query_count.clone(),
        metrics: Arc::clone(&target.route.metrics),
    })
}

/// Whether the app failed in a way that `stale-if-error` is for (RFC 5861 §4).
fn is_failure(answer: &Result<Answer, Error>) -> bool {
    match answer {
        Err(error) => matches!(error, Error::Upstream(_) | Error::Aborted),
        Ok(answer) => matches!(answer.response.status().as_u16(), 500 | 502 | 503 | 504),
    }
}
