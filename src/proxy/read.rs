//! Reading: a safe request on a route, answered from a tier when the rules allow it and by the app when they do not.

use std::sync::Arc;
use std::time::SystemTime;

use http::header;
use http::{Method, Response, StatusCode, request};

use super::forward::upstream_head;
use super::pass::encoded_in_passing;
use super::{Answer, Error, Proxy, RouteContext, Seen, Target};
use crate::body::Body;
use crate::cache::Lookup;
use crate::entry::Entry;
use crate::fill::{Filled, News, Order, variant_rules};
use crate::identity::Caller;
use crate::key::{Key, Parts};
use crate::outcome::{Bypass, Forward, Outcome, Result as Happened, Written};
use crate::policy::reuse::{self, Standing, Verdict};
use crate::policy::storing::{Sharing, Unstorable};
use crate::policy::{Scope, validation};
use crate::respond::{self, Style};

/// A read on its way: the request, whose it is, and under which key.
struct Reading<'a> {
    head: &'a request::Parts,
    seen: &'a Seen<'a>,
    target: Target<'a>,
    caller: Option<Caller>,
    sharing: Sharing,
    key: Key,
    now: SystemTime,
}

impl Proxy {
    /// Serves a safe request.
    pub(super) async fn read<'a>(
        &self,
        head: &'a request::Parts,
        seen: &'a Seen<'a>,
        target: Target<'a>,
        now: SystemTime,
    ) -> Result<Answer, Error> {
        let (caller, sharing) = match self.whose(head, seen, target.route).await {
            Ok(whose) => whose,
            Err(reason) => {
                return Box::pin(self.pass(
                    head,
                    Body::empty(),
                    seen,
                    &target,
                    Outcome::bypass(reason),
                ))
                .await;
            }
        };
        let identity = caller
            .as_ref()
            .filter(|_| sharing == Sharing::OneUser)
            .map(|caller| &caller.key);
        let parts = Parts {
            host: seen.client.host,
            secure: seen.client.secure,
            path: target.path,
            query: head.uri.query(),
            identity,
        };
        let key = self.shared.tools.hasher.key(&parts, &seen.live.query);
        let reading = Reading {
            head,
            seen,
            target,
            caller,
            sharing,
            key,
            now,
        };
        let (entry, forward) = self.look(&reading);
        let policy = &reading.target.route.policy;
        match (
            reuse::judge(entry.as_deref(), &head.headers, policy, now),
            entry,
        ) {
            (Verdict::Fresh { refresh: false }, Some(entry)) => {
                Ok(self.hit(&reading, &entry, Outcome::hit, "memory"))
            }
            (verdict, entry) => Box::pin(self.read_slowly(reading, verdict, entry, forward)).await,
        }
    }

    /// Everything but a plain hit.
    async fn read_slowly(
        &self,
        reading: Reading<'_>,
        verdict: Verdict,
        entry: Option<Arc<Entry>>,
        forward: Forward,
    ) -> Result<Answer, Error> {
        match (verdict, entry) {
            (Verdict::OnlyIfCached, _) => Err(Error::OnlyIfCached),
            (Verdict::Fresh { .. }, Some(entry)) => {
                self.refresh(&reading, &entry);
                Ok(self.hit(&reading, &entry, Outcome::hit, "memory"))
            }
            (Verdict::StaleWhileRevalidate, Some(entry)) => {
                self.refresh(&reading, &entry);
                Ok(self.hit(&reading, &entry, Outcome::stale, "updating"))
            }
            (Verdict::Stale, Some(entry)) => {
                Ok(self.hit(&reading, &entry, Outcome::stale, "max-stale"))
            }
            (Verdict::Revalidate { if_error }, Some(entry)) => {
                if if_error && self.shared.tools.fills.failed_recently(&reading.key) {
                    return Ok(self.hit(&reading, &entry, Outcome::stale, "error"));
                }
                let fallback = if_error.then(|| Arc::clone(&entry));
                self.fetch(&reading, Some(entry), fallback, forward).await
            }
            (_, _) => self.fetch(&reading, None, None, forward).await,
        }
    }

    /// Whose entry a request may meet, or why the cache is not asked.
    async fn whose(
        &self,
        head: &request::Parts,
        seen: &Seen<'_>,
        route: &RouteContext,
    ) -> Result<(Option<Caller>, Sharing), Bypass> {
        if route.policy.scope == Scope::Shared {
            return Ok((None, Sharing::Everyone));
        }
        let caller = self
            .identify(&head.headers, seen)
            .await
            .map_err(|_| Bypass::NoIdentity)?;
        match (route.policy.scope, caller) {
            (_, Some(caller)) => Ok((Some(caller), Sharing::OneUser)),
            (Scope::User, None) => Err(Bypass::NoIdentity),
            // Somebody says who he is, in a way that the rules do not know.
            (_, None) if head.headers.contains_key(header::AUTHORIZATION) => {
                Err(Bypass::Credentials)
            }
            (_, None) => Ok((None, Sharing::Everyone)),
        }
    }

    /// Looks in the tiers; an entry, and why the app would be asked if it has to be.
    fn look(&self, reading: &Reading<'_>) -> (Option<Arc<Entry>>, Forward) {
        let route = reading.target.route;
        let rules = variant_rules(
            &route.policy,
            &reading.seen.live.identity.from,
            reading.sharing,
        );
        match self
            .shared
            .tools
            .cache
            .get(&reading.key, &reading.head.headers, &rules, route.writes)
        {
            Lookup::Found(entry) => (Some(entry), Forward::Stale),
            Lookup::Nothing => (None, Forward::UriMiss),
            Lookup::OtherVariant(_) => (None, Forward::VaryMiss),
            Lookup::Dropped => (None, Forward::Written(Written::Dropped)),
            Lookup::Dirty => (None, Forward::Written(Written::Dirty)),
        }
    }

    fn hit(
        &self,
        reading: &Reading<'_>,
        entry: &Arc<Entry>,
        outcome: fn(i64, &'static str) -> Outcome,
        detail: &'static str,
    ) -> Answer {
        let ttl = Standing::of(entry, &reading.target.route.policy, reading.now).ttl();
        Answer::new(self.from_entry(reading, entry), outcome(ttl, detail))
    }

    /// The response that an entry gives to this request.
    fn from_entry(&self, reading: &Reading<'_>, entry: &Entry) -> Response<Body> {
        let before = entry.weight();
        let style = style(reading);
        let head = reading.head;
        let response = respond::answer(&head.method, &head.headers, entry, &style, reading.now);
        if entry.weight() != before {
            self.shared.tools.cache.reweigh(&reading.key);
        }
        response
    }

    /// Begins a fill that nobody waits for.
    fn refresh(&self, reading: &Reading<'_>, entry: &Arc<Entry>) {
        if let Some(order) = order(reading, Some(Arc::clone(entry))) {
            self.shared.tools.fills.refresh(&Arc::new(order));
        }
    }

    /// Asks the app through a fill. `fallback` answers if the app fails.
    async fn fetch(
        &self,
        reading: &Reading<'_>,
        prior: Option<Arc<Entry>>,
        fallback: Option<Arc<Entry>>,
        forward: Forward,
    ) -> Result<Answer, Error> {
        if reading.head.method == Method::HEAD {
            // What a HEAD brings is no entry, and a whole GET for its sake would be more than was asked.
            return self
                .alone(reading, Outcome::forwarded(Happened::Miss, forward))
                .await;
        }
        let Some(order) = order(reading, prior) else {
            return self.alone(reading, Outcome::bypass(Bypass::Spelling)).await;
        };
        let filled = self.shared.tools.fills.join(Arc::new(order)).await;
        if let (Some(entry), true) = (&fallback, is_failure(&filled)) {
            return Ok(self.hit(reading, entry, Outcome::stale, "error"));
        }
        match filled {
            Filled::Entry { entry, news } => Ok(self.filled(reading, &entry, news, forward)),
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
                let mut response = Response::new(Body::stream(body));
                *response.status_mut() = head.status;
                response.headers_mut().clone_from(&head.headers);
                if let Some(queries) = queries {
                    response
                        .headers_mut()
                        .insert(reading.seen.live.query_count.clone(), queries);
                }
                let compression = style(reading).compression;
                Ok(Answer::new(
                    encoded_in_passing(reading.head, response, compression),
                    outcome,
                ))
            }
            Filled::Private { response, reason } => {
                let outcome = Outcome {
                    not_stored: Some(reason),
                    ..Outcome::forwarded(Happened::Miss, forward)
                };
                let compression = style(reading).compression;
                Ok(Answer::new(
                    encoded_in_passing(reading.head, response, compression),
                    outcome,
                ))
            }
            Filled::GoAlone { reason, .. } => {
                let outcome = Outcome {
                    not_stored: Some(reason),
                    ..Outcome::forwarded(Happened::Miss, forward)
                };
                self.alone(reading, outcome).await
            }
            Filled::Failed(failure) => Err(failure.into()),
        }
    }

    /// Answers from what a fill brought.
    fn filled(
        &self,
        reading: &Reading<'_>,
        entry: &Arc<Entry>,
        news: News,
        forward: Forward,
    ) -> Answer {
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
        let mut response = self.from_entry(reading, entry);
        if !news.joined && entry.facts.age.is_zero() {
            // RFC 9111 §5.1: an Age says that the app did not make the answer for this request.
            response.headers_mut().remove(header::AGE);
        }
        if let Some(queries) = news.queries {
            response
                .headers_mut()
                .insert(reading.seen.live.query_count.clone(), queries);
        }
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

/// What of the configuration an answer depends on.
fn style<'a>(reading: &Reading<'a>) -> Style<'a> {
    let policy = &reading.target.route.policy;
    Style {
        compression: policy.compress.then_some(&reading.seen.live.compression),
        client_max_age: policy.client_max_age,
    }
}

/// Everything a fill needs; `None` when the path has a spelling that not every drop could reach.
fn order(reading: &Reading<'_>, prior: Option<Arc<Entry>>) -> Option<Order> {
    let Reading {
        head,
        seen,
        target,
        caller,
        sharing,
        key,
        ..
    } = reading;
    let route = seen.live.table.routes().get(target.index?)?;
    let user = caller.map(|caller| caller.user.to_hex());
    let tags = seen
        .live
        .table
        .entry_tags(route, target.path, &target.captures, user.as_deref())?;
    let mut sent = upstream_head(head, &seen.client, false);
    sent.method = Method::GET;
    for name in &validation::CONDITIONS {
        sent.headers.remove(name);
    }
    // One canonical body is stored; the clients' codings are made of it.
    sent.headers.insert(
        header::ACCEPT_ENCODING,
        header::HeaderValue::from_static("identity"),
    );
    let needs_whole = validation::CONDITIONS
        .iter()
        .any(|name| head.headers.contains_key(name));
    Some(Order {
        key: key.clone(),
        head: sent,
        asked: head.headers.clone(),
        policy: Arc::clone(&target.route.policy),
        credentials: Arc::clone(&seen.live.identity.from),
        sharing: *sharing,
        tags,
        writes: target.route.writes,
        prior,
        needs_whole,
        query_count: seen.live.query_count.clone(),
        metrics: Arc::clone(&target.route.metrics),
    })
}

/// Whether the app failed in a way that `stale-if-error` is for (RFC 5861 §4).
fn is_failure(filled: &Filled) -> bool {
    let failed = |status: StatusCode| matches!(status.as_u16(), 500 | 502 | 503 | 504);
    match filled {
        Filled::Failed(_) => true,
        Filled::Private { response, .. } => failed(response.status()),
        Filled::GoAlone { status, .. } => status.is_some_and(failed),
        Filled::Entry { .. } | Filled::Stream { .. } => false,
    }
}
