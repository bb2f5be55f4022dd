//! The request path: where a request is answered. This module is the table of contents of the program.
//!
//! [`Proxy::handle`] takes one set of rules and one look at the clock, and sends the request down one of three ways:
//! `read` for safe methods on a route, `write` for everything that may change something, `pass` for the rest. Each
//! gives an `Answer`, a response and the one [`Outcome`] that headers, log and metrics are made of. Every failure has
//! become a response by the time `handle` returns.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::header::{self, HeaderName};
use http::{Method, Request, Response, request};
use ipnet::IpNet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::cache::Cache;
use crate::cache::sweeper::Sweeper;
use crate::coherence::{self, Coherence, Writes};
use crate::fill::Fills;
use crate::headers::coding::Coding;
use crate::identity::{Credential, IdentityKey};
use crate::key::{self, KeyHasher, QueryRules};
use crate::metrics::{Metrics, OTHER, RouteMetrics};
use crate::outcome::{Bypass, Forward, Outcome, Result as Happened};
use crate::pattern::Captures;
use crate::policy::{Mode, Policy, Scope, invalidation};
use crate::respond::encode;
use crate::route::Table;
use crate::server::Peer;
use crate::upstream::Upstream;

mod error;
mod fetch;
mod forward;
mod identify;
mod known;
mod pass;
mod purge;
mod read;
mod sessions;
mod tell;
mod token;
mod write;

pub use error::Error;
pub use identify::{Lookup, LookupConfig};
pub use purge::{Reached, Report, Unsettled};
pub use sessions::Sessions;
pub use token::Tokens;

use forward::Client;

/// The rules of the moment: everything a request takes one snapshot of.
#[derive(Debug)]
pub struct Live {
    /// Routes, write rules and relations.
    pub table: Table,
    /// One per route, in the order of the table.
    pub routes: Vec<RouteContext>,
    /// What requests without a route count, and their knobs.
    pub other: RouteContext,
    /// Who callers are.
    pub identity: Identity,
    /// Which query parameters are part of a key.
    pub query: QueryRules,
    /// Which answers are encoded.
    pub compression: encode::Config,
    /// Whose word about clients is believed.
    pub trusted: Vec<IpNet>,
    /// The largest request body, in bytes.
    pub max_request_body: u64,
    /// The response field in which the app counts its queries.
    pub query_count: HeaderName,
    /// Whether each request is logged.
    pub access_log: bool,
    /// Whether `PURGE` and `BAN` are methods of the proxy's own.
    pub purge_method: bool,
    /// How clients that have written show it.
    pub session_tokens: Tokens,
}

/// What a request needs of its route, resolved once.
#[derive(Clone, Debug)]
pub struct RouteContext {
    /// The label.
    pub name: Arc<str>,
    /// The knobs.
    pub policy: Arc<Policy>,
    /// Whether open writes count.
    pub writes: Writes,
    /// What it counts.
    pub metrics: Arc<RouteMetrics>,
}

/// How callers are identified.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The credentials that count, the first present first.
    pub from: Arc<[Credential]>,
    /// The key of identity hashes.
    pub key: IdentityKey,
}

impl RouteContext {
    /// The context of a route with these knobs; `mode` is that of `[coherence]`.
    #[must_use]
    pub fn new(name: &str, policy: Policy, mode: Mode, metrics: &Metrics) -> Self {
        let writes = match policy.coherence.unwrap_or(mode) {
            Mode::Bounded => Writes::Ignore,
            Mode::Strong => Writes::Count,
            Mode::Strict => Writes::Strict,
        };
        Self {
            name: name.into(),
            policy: Arc::new(policy),
            writes,
            metrics: Arc::new(metrics.route(name)),
        }
    }

    /// The context of requests that no route matches.
    #[must_use]
    pub fn other(policy: Policy, metrics: &Metrics) -> Self {
        Self::new(OTHER, policy, Mode::Strong, metrics)
    }
}

/// What the proxy works with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The tiers.
    pub cache: Cache,
    /// The log of drops.
    pub coherence: Coherence,
    /// Fills under way.
    pub fills: Fills,
    /// The app.
    pub upstream: Upstream,
    /// Everything counted.
    pub metrics: Metrics,
    /// Who callers are to the app.
    pub lookup: Option<Lookup>,
    /// Names keys; made of random bytes once per process.
    pub hasher: KeyHasher,
    /// Frees what purges have made useless in tier 2, where there is one.
    pub sweeper: Option<Sweeper>,
}

impl Tools {
    /// Brings the gauge of open writes up to date.
    pub fn tell_open_writes(&self) {
        let open = i64::try_from(self.coherence.open_writes()).unwrap_or(i64::MAX);
        self.metrics.coherence.open.set(open);
    }

    /// Brings the gauges about the log of drops up to date.
    pub fn tell_coherence(&self) {
        self.tell_open_writes();
        let left = self.coherence.lease_left();
        let left = left.map_or(f64::INFINITY, |left| left.as_secs_f64());
        self.metrics.coherence.lease.set(left);
    }
}

/// Answers requests. A cheap handle.
#[derive(Clone, Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    live: Arc<Live>,
    tools: Tools,
    /// Writes and upgraded connections, which outlive the client's request.
    tasks: TaskTracker,
    served: AtomicU64,
}

/// A response, and what happened.
#[derive(Debug)]
struct Answer {
    response: Response<Body>,
    outcome: Outcome,
    /// Made by the proxy itself: then no `Cache-Status` (RFC 9211 §2).
    own: bool,
}

/// Where a request goes: its route, and what the path told.
struct Target<'a> {
    route: &'a RouteContext,
    /// The place of the route in the table; `None` without a route.
    index: Option<usize>,
    /// The normalised path.
    path: &'a str,
    captures: Captures<'a, 'a>,
}

/// The three ways.
enum Way {
    Read,
    Write,
    Pass(Bypass),
    /// Safe, but not a method that is answered from the cache.
    PassMethod,
}

impl Proxy {
    /// A proxy with these rules and tools.
    #[must_use]
    pub fn new(live: Live, tools: Tools) -> Self {
        let shared = Shared {
            live: Arc::new(live),
            tools,
            tasks: TaskTracker::new(),
            served: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Answers one downstream request. Every failure has become a response by the time this returns.
    ///
    /// # Cancel safety
    ///
    /// A client may leave at any time: a fill or a write that has begun goes on without it.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the only clock read on the request path"
        )]
        let now = SystemTime::now();
        let started = Instant::now();
        let _counted = InFlight::new(&self.shared.tools.metrics);
        let live = Arc::clone(&self.shared.live);
        let (mut head, body) = request.into_parts();
        let peer = head.extensions.get::<Peer>();
        let (address, tls) = (
            peer.and_then(|peer| peer.address),
            peer.is_some_and(|peer| peer.tls),
        );
        forward::receive(&mut head, address, &live.trusted);
        // First of all: it is nobody else's business.
        let token = token::take(live.session_tokens, &mut head.headers);
        let seen = Seen {
            live: &live,
            client: Client::of(&head, address, tls, &live.trusted),
            token,
        };

        let path = key::normalise_path(head.uri.path());
        let (answer, route) = match &path {
            _ if live.purge_method && purge::is_asked_by(&head.method) => (
                Box::pin(self.purge_by_method(&head, &seen)).await,
                &live.other,
            ),
            // An app reads such a path in its own way: it is passed on as it came, and nothing is known about it.
            Err(odd) => {
                let answer = self.odd(&head, body, &seen, Bypass::Path(*odd)).await;
                (answer, &live.other)
            }
            Ok(path) => {
                let target = live.target(path);
                let route = target.route;
                (self.dispatch(&head, body, &seen, target, now).await, route)
            }
        };
        let answer = answer.unwrap_or_else(|error| {
            if matches!(error, Error::TooLarge { .. }) {
                let counted = &self.shared.tools.metrics.server;
                counted.refused_body_too_large.inc();
            }
            Answer::failed(&error, Happened::Bypass)
        });
        self.shared.served.fetch_add(1, Ordering::Relaxed);
        finish(
            answer,
            &Finish {
                live: &live,
                tools: &self.shared.tools,
                route,
                head: &head,
                client: &seen.client,
                started,
            },
        )
    }

    /// How many requests were answered.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// How this replica stands with the log that replicas share; `None` where the log is in this process.
    #[must_use]
    pub fn log_status(&self) -> Option<coherence::Status> {
        self.shared.tools.coherence.status()
    }

    /// The rules of the moment.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.shared.live
    }

    /// Brings the gauges about the log of drops up to date.
    pub fn tell_coherence(&self) {
        self.shared.tools.tell_coherence();
    }

    /// Waits for writes, fills and upgraded connections that outlive their clients.
    pub async fn drain(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.tools.fills.drain().await;
    }

    async fn dispatch<'a>(
        &self,
        head: &'a request::Parts,
        body: Body,
        seen: &'a Seen<'a>,
        target: Target<'a>,
        now: SystemTime,
    ) -> Result<Answer, Error> {
        match way(head, &body, &target, seen.live) {
            Way::Read => {
                let answer = self.read(head, seen, target, now).await;
                Ok(answer.unwrap_or_else(|error| Answer::failed(&error, Happened::Miss)))
            }
            // What follows waits for the app: boxed, so that a hit does not carry the room for it.
            Way::Write => Box::pin(self.write(head, body, seen, target)).await,
            Way::Pass(reason) => {
                Box::pin(self.pass(head, body, seen, &target, Outcome::bypass(reason))).await
            }
            Way::PassMethod => {
                let outcome = Outcome::forwarded(Happened::Bypass, Forward::Method);
                Box::pin(self.pass(head, body, seen, &target, outcome)).await
            }
        }
    }

    /// Passes a request on whose path no rule can read. A write to such a path may have changed anything.
    async fn odd(
        &self,
        head: &request::Parts,
        body: Body,
        seen: &Seen<'_>,
        reason: Bypass,
    ) -> Result<Answer, Error> {
        let target = Target {
            route: &seen.live.other,
            index: None,
            path: head.uri.path(),
            captures: Captures::new(),
        };
        if head.method == Method::CONNECT {
            return Err(Error::Connect);
        }
        if invalidation::is_unsafe(&head.method) && !seen.live.table.routes().is_empty() {
            return Box::pin(self.write_anywhere(head, body, seen, &target)).await;
        }
        Box::pin(self.pass(head, body, seen, &target, Outcome::bypass(reason))).await
    }
}

/// Which way a request goes.
fn way(head: &request::Parts, body: &Body, target: &Target<'_>, live: &Live) -> Way {
    let read = head.method == Method::GET || head.method == Method::HEAD;
    if invalidation::is_unsafe(&head.method) || write::is_overridden(head) {
        let nothing_stored = live.table.routes().is_empty();
        return if nothing_stored {
            Way::Pass(Bypass::NoRoute)
        } else {
            Way::Write
        };
    }
    if !read {
        return Way::PassMethod;
    }
    if target.index.is_none() {
        return Way::Pass(Bypass::NoRoute);
    }
    if target.route.policy.scope == Scope::Off {
        return Way::Pass(Bypass::RouteOff);
    }
    if forward::upgrade(&head.headers).is_some() {
        return Way::Pass(Bypass::Upgrade);
    }
    if !http_body::Body::is_end_stream(body) {
        return Way::Pass(Bypass::Body);
    }
    Way::Read
}

/// What a request shows of its client, under the rules of the moment.
struct Seen<'a> {
    live: &'a Arc<Live>,
    client: Client<'a>,
    /// What the client must see of the log.
    token: Option<token::Place>,
}

impl Live {
    fn target<'a>(&'a self, path: &'a str) -> Target<'a> {
        match self.table.find(path) {
            Some((index, _, captures)) => {
                let route = self.routes.get(index).unwrap_or(&self.other);
                Target {
                    route,
                    index: Some(index),
                    path,
                    captures,
                }
            }
            None => Target {
                route: &self.other,
                index: None,
                path,
                captures: Captures::new(),
            },
        }
    }
}

impl Answer {
    const fn new(response: Response<Body>, outcome: Outcome) -> Self {
        Self {
            response,
            outcome,
            own: false,
        }
    }

    /// The answer to a request that failed on its way: `result` says whether the cache had been asked.
    fn failed(error: &Error, result: Happened) -> Self {
        // No `Cache-Status` is made of it; the log says why.
        let outcome = Outcome {
            detail: Some(tell::reason(error)),
            ..Outcome::new(result)
        };
        Self {
            response: error.response(),
            outcome,
            own: true,
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("served", &self.served)
            .finish_non_exhaustive()
    }
}

/// Counts a request under way; uncounted when the answer's head is ready or the client has left.
struct InFlight<'m>(&'m Metrics);

impl<'m> InFlight<'m> {
    fn new(metrics: &'m Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// Everything about a request that its answer is told with.
struct Finish<'a> {
    live: &'a Live,
    tools: &'a Tools,
    route: &'a RouteContext,
    head: &'a request::Parts,
    client: &'a Client<'a>,
    started: Instant,
}

/// Tells what happened: in the response, the metrics and the log.
fn finish(answer: Answer, of: &Finish<'_>) -> Response<Body> {
    let Answer {
        mut response,
        outcome,
        own,
    } = answer;
    let elapsed = of.started.elapsed();
    let metrics = &of.route.metrics;
    metrics.answered(response.status().as_u16(), outcome.result);
    metrics.duration.observe(elapsed.as_secs_f64());
    if of.head.method != Method::HEAD && outcome.result.from_cache() {
        count_bytes(&response, &of.tools.metrics);
    }
    if of.head.method == Method::HEAD {
        // Over HTTP/2, hyper would send what is there.
        *response.body_mut() = Body::empty();
    }
    tell::headers(of, response.headers_mut(), (&outcome, own), elapsed);
    if of.live.access_log {
        tell::log(of, &response, &outcome, elapsed);
    }
    response
}

fn count_bytes(response: &Response<Body>, metrics: &Metrics) {
    let coding = response.headers().get(header::CONTENT_ENCODING);
    let coding = coding.and_then(|coding| Coding::from_token(coding.to_str().ok()?));
    let bytes = http_body::Body::size_hint(response.body()).exact();
    metrics.sent(
        coding.unwrap_or(Coding::Identity).index(),
        bytes.unwrap_or(0),
    );
}
