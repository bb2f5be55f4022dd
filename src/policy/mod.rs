//! The caching rules of RFC 9111 as pure functions, one file per section, and the knobs they consult.
//!
//! Nothing here reads a clock, holds a lock or touches a socket: `now` is an argument, an answer is an enum with its
//! reason in it. [`Policy`] is what the configuration says about one route.

use std::time::Duration;

use http::StatusCode;
use http::header::HeaderName;

pub use crate::key::Cookies;

pub mod freshness;
pub mod invalidation;
pub mod reuse;
pub mod storing;
pub mod validation;

/// The knobs of one route. Every field is a key of `[cache]`, inherited by each `[[route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Lifetime when the app gives none. Zero: stored only when the app's own fields say so.
    pub ttl: Duration,
    /// Who shares an entry.
    pub scope: Scope,
    /// Whether the app's `Cache-Control` and `Expires` win over `ttl`.
    pub honor_cache_control: bool,
    /// No lifetime is longer than this.
    pub max_ttl: Duration,
    /// The share of the age since `Last-Modified` that is a lifetime when nothing else is said (RFC 9111 §4.2.2).
    pub heuristic: f64,
    /// Whether `Cache-Control` and `Pragma` of requests count.
    pub client_directives: ClientDirectives,
    /// How long after its lifetime an entry may be served while it is refreshed (RFC 5861 §3).
    pub stale_while_revalidate: Duration,
    /// How long after its lifetime an entry may be served when the app fails (RFC 5861 §4).
    pub stale_if_error: Duration,
    /// The last share of a lifetime in which a hit refreshes in the background; 0 is never.
    pub refresh_ahead: f64,
    /// The share of a lifetime by which it is shortened at random, so that entries stored together do not lapse
    /// together.
    pub ttl_jitter: f64,
    /// The statuses to which `ttl` applies.
    pub statuses: Vec<StatusCode>,
    /// Lifetime of 404 and 410 when the app gives none.
    pub negative_ttl: Duration,
    /// Which cookies can matter to the app.
    pub cookies: Cookies,
    /// Fields of `Vary` that the route declares meaningless.
    pub vary_ignore: Vec<HeaderName>,
    /// Request fields that select a variant though `Vary` forgets them.
    pub key_headers: Vec<HeaderName>,
    /// Which requests for one key wait for one fill.
    pub coalesce: Coalesce,
    /// The coherence mode of the route's tags; `None` inherits `[coherence] mode`.
    pub coherence: Option<Mode>,
    /// Whether answers are compressed.
    pub compress: bool,
    /// What a write drops that no `[[write]]` lists.
    pub unlisted_writes: Unlisted,
    /// The `max-age` told to clients when the app said nothing; zero says nothing.
    pub client_max_age: Duration,
    /// Which fields tell what happened.
    pub status_headers: StatusHeaders,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl: Duration::ZERO,
            scope: Scope::Auto,
            honor_cache_control: true,
            max_ttl: Duration::from_secs(24 * 3600),
            heuristic: 0.0,
            client_directives: ClientDirectives::Ignore,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            refresh_ahead: 0.0,
            ttl_jitter: 0.0,
            statuses: vec![StatusCode::OK],
            negative_ttl: Duration::ZERO,
            cookies: Cookies::All,
            vary_ignore: Vec::new(),
            key_headers: Vec::new(),
            coalesce: Coalesce::Replica,
            coherence: None,
            compress: true,
            unlisted_writes: Unlisted::Family,
            client_max_age: Duration::ZERO,
            status_headers: StatusHeaders::Minimal,
        }
    }
}

/// Who shares an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Callers without credentials share; each identified user has his own.
    Auto,
    /// One answer for all: the operator's word about the route.
    Shared,
    /// Only identified callers, each his own.
    User,
    /// Never stored.
    Off,
}

/// Whether request directives count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientDirectives {
    /// A reload button does not reach the app.
    Ignore,
    /// RFC 9111 §5.2.1 to the letter.
    Honor,
}

/// Which requests wait for one fill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coalesce {
    /// Those of this process.
    Replica,
    /// Those of all replicas.
    Cluster,
    /// None: each asks the app.
    Off,
}

/// What readers are promised about writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Linearizable: no read goes back in time after another.
    Strict,
    /// Never stale once the write is acknowledged.
    Strong,
    /// Stale by at most the lease.
    Bounded,
}

/// What a write drops that no rule lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unlisted {
    /// Its own path, everything below, and the parent collection.
    Family,
    /// Its own path.
    Target,
}

/// Which fields tell what happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatusHeaders {
    /// None.
    Off,
    /// `X-Cache`, `Cache-Status`, `Age`, `X-Response-Time`.
    Minimal,
    /// Those, with key and tags, and `Server-Timing`.
    Debug,
}
