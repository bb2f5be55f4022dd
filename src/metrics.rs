//! Metrics: everything the process exports, grouped by who counts.
//!
//! Handles are resolved once, when the rules are loaded: a request never looks a label up. Labels are configured names
//! and fixed words only, every known series is exported at zero from the start, and two processes of this kind can run in
//! one (each has its own registry).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::outcome;
use crate::policy::storing::Unstorable;

/// The label of requests that no route matches.
pub const OTHER: &str = "other";

const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0,
];
const REDIS_SECONDS: [f64; 12] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];
const QUERIES: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
/// The kinds of failed exchanges with the app.
const UPSTREAM_ERRORS: [&str; 9] = [
    "connect",
    "connect_timeout",
    "timeout",
    "reset",
    "protocol",
    "saturated",
    "request_body",
    "truncated",
    "stalled",
];
/// The codings that the proxy sends, in the order of their index.
const ENCODINGS: [&str; 4] = ["identity", "gzip", "br", "zstd"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why a value of the shared tier is of no use, in the order of their index (`cache::wire::Miss`).
pub const REJECTIONS: [&str; 4] = ["version", "checksum", "foreign", "malformed"];

/// How connections end, in the order of their index (`server::ending::Ending`).
pub const ENDINGS: [&str; 11] = [
    "ended",
    "idle_timeout",
    "header_timeout",
    "body_timeout",
    "slow_reader",
    "head_too_large",
    "malformed",
    "h2_abuse",
    "broken",
    "tls",
    "drain",
];

/// Every metric, and the registry they are exported from.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// The tiers.
    pub cache: Arc<CacheMetrics>,
    /// The shared tier.
    pub remote: Arc<RemoteMetrics>,
    /// Writes and drops.
    pub coherence: Arc<CoherenceMetrics>,
    /// The connections of clients.
    pub server: Arc<ServerMetrics>,
    /// The connections to the admin port, which are not exported: a scrape would count itself.
    pub admin_server: Arc<ServerMetrics>,
    /// Requests under way.
    pub in_flight: IntGauge,
    upstream_up: IntGauge,
    /// Whether the first exchange with the app has been seen: until then, neither answer is news of a change.
    upstream_seen: Arc<AtomicBool>,
    /// The container's memory limit.
    pub memory_limit: IntGauge,
    upstream_errors: IntCounterVec,
    response_bytes: [IntCounter; ENCODINGS.len()],
    families: RouteFamilies,
    redis: RedisFamilies,
}

/// What the tiers count.
#[derive(Debug)]
pub struct CacheMetrics {
    /// Lookups in memory that found an entry.
    pub memory_hits: IntCounter,
    /// Lookups in memory that did not.
    pub memory_misses: IntCounter,
    /// Slots that made room.
    pub evicted_size: IntCounter,
    /// Slots whose time was over.
    pub evicted_expired: IntCounter,
    /// Dead entries met and unlinked.
    pub unlinked: IntCounter,
    /// Keys in memory.
    pub entries: IntGauge,
    /// Their bytes.
    pub size_bytes: IntGauge,
    /// The bytes there may be.
    pub max_size_bytes: IntGauge,
}

/// What the shared tier counts.
#[derive(Debug)]
pub struct RemoteMetrics {
    /// Look-ups that found an entry.
    pub hits: IntCounter,
    /// Look-ups that did not.
    pub misses: IntCounter,
    /// Look-ups that came to nothing because Redis did not answer.
    pub errors: IntCounter,
    /// Values that were of no use, by [`REJECTIONS`].
    pub rejected: [IntCounter; REJECTIONS.len()],
    /// Entries stored.
    pub stored: IntCounter,
    /// Entries that Redis did not take, or did not say so in time.
    pub failed: IntCounter,
    /// Entries too large to store.
    pub too_large: IntCounter,
    /// Entries not stored because too many others were being stored.
    pub busy: IntCounter,
}

/// What writes count.
#[derive(Debug)]
pub struct CoherenceMetrics {
    /// Drops by a write's rules.
    pub by_write: IntCounter,
    /// Drops that the app asked for in its answer.
    pub by_header: IntCounter,
    /// Drops that operators and the app's other code asked for.
    pub by_api: IntCounter,
    /// Items widened to their class because a capture found nothing.
    pub widened: IntCounter,
    /// Writes whose end nobody saw.
    pub unsettled: IntCounter,
    /// Writes under way.
    pub open: IntGauge,
    /// For how long the cache may still be served from.
    pub lease: Gauge,
    /// Records of the shared log that are not applied here yet.
    pub lag: IntGauge,
    /// Replicas that follow the shared log.
    pub members: IntGauge,
    /// The shared log was joined.
    pub epochs_joined: IntCounter,
    /// It was another one: Redis had restarted, failed over or lost data.
    pub epochs_lost: IntCounter,
    /// Records were gone before they were read.
    pub epochs_gap: IntCounter,
    /// How long answers to writes waited for all replicas.
    pub waited_acknowledged: Histogram,
    /// How long for leases to run out.
    pub waited_lease: Histogram,
    /// How long until they went without the log.
    pub waited_uncoordinated: Histogram,
    /// How long until they were refused.
    pub waited_refused: Histogram,
    /// Reads not answered from the cache, since a write to what they want was under way.
    pub bypass_dirty: IntCounter,
    /// Since there was no lease.
    pub bypass_lease: IntCounter,
    /// Since what was stored was of another epoch, or older than the log remembers.
    pub bypass_epoch: IntCounter,
    /// Since what was stored had been dropped.
    pub bypass_tag: IntCounter,
}

/// What a listener counts.
#[derive(Debug)]
pub struct ServerMetrics {
    /// Connections that are open.
    pub open: IntGauge,
    /// Connections that were accepted.
    pub accepted: IntCounter,
    /// Of these, after a wait for one of `max_connections` places.
    pub delayed: IntCounter,
    /// Connections that ended, by [`ENDINGS`].
    pub closed: [IntCounter; ENDINGS.len()],
    /// Single HTTP/2 streams ended because their client took nothing of the answer.
    pub stalled_streams: IntCounter,
    /// Requests that two servers may read in two ways.
    pub refused_malformed: IntCounter,
    /// Bodies larger than `max_request_body`.
    pub refused_body_too_large: IntCounter,
    /// Bodies that did not come in time.
    pub refused_body_timeout: IntCounter,
    /// Clients that left in the middle of a head.
    pub aborts_head: IntCounter,
    /// Before the head of their answer.
    pub aborts_waiting: IntCounter,
    /// In the middle of its body.
    pub aborts_answer: IntCounter,
    /// Interim answers handed to a client's connection.
    pub interim: IntCounter,
}

#[derive(Clone, Debug)]
struct RedisFamilies {
    up: IntGaugeVec,
    breaker_open: IntGaugeVec,
    duration: HistogramVec,
    errors: IntCounterVec,
}

/// What one client of Redis counts.
#[derive(Debug)]
pub struct RedisMetrics {
    /// What this client is for: `cache`, `log` or `sessions`.
    pub used_for: &'static str,
    /// 1 while there is a connection.
    pub up: IntGauge,
    /// 1 while commands are refused because the last ones failed.
    pub breaker_open: IntGauge,
    duration: HistogramVec,
    errors: IntCounterVec,
}

#[derive(Clone, Debug)]
struct RouteFamilies {
    requests: IntCounterVec,
    duration: HistogramVec,
    results: IntCounterVec,
    not_stored: IntCounterVec,
    upstream_requests: IntCounterVec,
    upstream_duration: HistogramVec,
    queries: HistogramVec,
}

/// What one route counts.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    requests: [IntCounter; 5],
    /// From the request's head to the answer's head.
    pub duration: Histogram,
    results: [IntCounter; 6],
    not_stored: [IntCounter; Unstorable::ALL.len()],
    upstream_requests: [IntCounter; 5],
    /// From the request sent to the app to the head of its answer.
    pub upstream_duration: Histogram,
    queries: Histogram,
}

impl Metrics {
    /// Makes and registers every metric.
    ///
    /// # Errors
    ///
    /// When two metrics share a name: a defect of this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(None, None)?;
        let made = Made(&registry);
        let info = made.gauges(
            "reprise_build_info",
            "Always 1; the labels say what is running.",
            &["version"],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let upstream_errors = made.counters(
            "reprise_upstream_errors_total",
            "Exchanges with the app that failed, by kind.",
            &["kind"],
        )?;
        for kind in UPSTREAM_ERRORS {
            upstream_errors.with_label_values(&[kind]);
        }
        let lookups = made.counters(
            "reprise_cache_lookups_total",
            "Lookups by tier and what they found.",
            &["tier", "outcome"],
        )?;
        let response_bytes = made.counters(
            "reprise_response_bytes_total",
            "Body bytes sent from the cache, by content coding.",
            &["encoding"],
        )?;
        let metrics = Self {
            cache: Arc::new(CacheMetrics::new(&made, &lookups)?),
            remote: Arc::new(RemoteMetrics::new(&made, &lookups)?),
            coherence: Arc::new(CoherenceMetrics::new(&made)?),
            server: Arc::new(ServerMetrics::new(&made)?),
            admin_server: Arc::new(ServerMetrics::unexported()?),
            in_flight: made.gauge(
                "reprise_http_requests_in_flight",
                "Requests being answered.",
            )?,
            upstream_seen: Arc::default(),
            upstream_up: made.gauge(
                "reprise_upstream_up",
                "1 if the app answered last time, 0 if not.",
            )?,
            memory_limit: made.gauge(
                "reprise_memory_limit_bytes",
                "The container's memory limit; 0 if it has none.",
            )?,
            upstream_errors,
            response_bytes: ENCODINGS.map(|coding| response_bytes.with_label_values(&[coding])),
            families: RouteFamilies::new(&made)?,
            redis: RedisFamilies::new(&made)?,
            registry,
        };
        metrics.register_process();
        Ok(metrics)
    }

    /// The handles of a route, each at zero until something happens.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        RouteMetrics::new(&self.families, name)
    }

    /// The handles of a client of Redis. There are no series of a client that is not there, so that nobody is alarmed by a
    /// Redis that was never configured.
    #[must_use]
    pub fn redis(&self, used_for: &'static str) -> Arc<RedisMetrics> {
        Arc::new(RedisMetrics {
            used_for,
            up: self.redis.up.with_label_values(&[used_for]),
            breaker_open: self.redis.breaker_open.with_label_values(&[used_for]),
            duration: self.redis.duration.clone(),
            errors: self.redis.errors.clone(),
        })
    }

    /// The counter of one kind of failed exchange; kinds are fixed words.
    #[must_use]
    pub fn upstream_error(&self, kind: &str) -> IntCounter {
        self.upstream_errors.with_label_values(&[kind])
    }

    /// Counts body bytes sent from the cache; codings go by their index.
    pub fn sent(&self, coding: usize, bytes: u64) {
        if let Some(counter) = self.response_bytes.get(coding) {
            counter.inc_by(bytes);
        }
    }

    /// Notes whether the app answered; whether that is a change.
    pub fn app_answers(&self, answered: bool) -> bool {
        let was = self.upstream_up.get() == 1;
        self.upstream_up.set(i64::from(answered));
        let first = !self.upstream_seen.swap(true, Ordering::Relaxed);
        if first { !answered } else { was != answered }
    }

    /// Whether the app answered the last time.
    #[must_use]
    pub fn app_is_up(&self) -> bool {
        self.upstream_up.get() == 1
    }

    /// Everything, in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(64 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be rendered");
        }
        text
    }

    fn register_process(&self) {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        if let Err(error) = self.registry.register(Box::new(process)) {
            tracing::debug!(%error, "no process metrics");
        }
    }
}

impl CacheMetrics {
    fn new(made: &Made<'_>, lookups: &IntCounterVec) -> Result<Self, prometheus::Error> {
        let evictions = made.counters(
            "reprise_cache_evictions_total",
            "Keys that memory let go, by cause.",
            &["cause"],
        )?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            Ok(made
                .gauges(name, help, &["tier"])?
                .with_label_values(&["memory"]))
        };
        Ok(Self {
            memory_hits: lookups.with_label_values(&["memory", "hit"]),
            memory_misses: lookups.with_label_values(&["memory", "miss"]),
            evicted_size: evictions.with_label_values(&["size"]),
            evicted_expired: evictions.with_label_values(&["expired"]),
            unlinked: made.counter(
                "reprise_cache_invalidated_entries_total",
                "Entries found dropped by a write and unlinked.",
            )?,
            entries: gauge("reprise_cache_entries", "Keys stored.")?,
            size_bytes: gauge("reprise_cache_size_bytes", "Bytes that stored keys take.")?,
            max_size_bytes: gauge(
                "reprise_cache_max_size_bytes",
                "Bytes that stored keys may take.",
            )?,
        })
    }
}

impl RemoteMetrics {
    fn new(made: &Made<'_>, lookups: &IntCounterVec) -> Result<Self, prometheus::Error> {
        let rejected = made.counters(
            "reprise_redis_rejected_values_total",
            "Values of the shared tier that were of no use, by reason.",
            &["reason"],
        )?;
        let stores = made.counters(
            "reprise_redis_stores_total",
            "Entries to be stored in the shared tier, by what became of them.",
            &["outcome"],
        )?;
        let looked = |outcome: &str| lookups.with_label_values(&["redis", outcome]);
        let stored = |outcome: &str| stores.with_label_values(&[outcome]);
        Ok(Self {
            hits: looked("hit"),
            misses: looked("miss"),
            errors: looked("error"),
            rejected: REJECTIONS.map(|reason| rejected.with_label_values(&[reason])),
            stored: stored("stored"),
            failed: stored("failed"),
            too_large: stored("too_large"),
            busy: stored("busy"),
        })
    }
}

impl CoherenceMetrics {
    fn new(made: &Made<'_>) -> Result<Self, prometheus::Error> {
        let invalidations = made.counters(
            "reprise_cache_invalidations_total",
            "Drops, by who asked for them.",
            &["source"],
        )?;
        let [acknowledged, lease, uncoordinated, refused] = write_waits(made)?;
        let epochs = made.counters(
            "reprise_coherence_epoch_changes_total",
            "Times that the shared log was followed from its present end, by reason.",
            &["reason"],
        )?;
        let bypasses = made.counters(
            "reprise_coherence_bypasses_total",
            "Reads that found something stored and might not use it, by reason.",
            &["reason"],
        )?;
        Ok(Self {
            lease: made.register(Gauge::new(
                "reprise_coherence_lease_seconds",
                "For how long the cache may be served from without reading the log again; infinite without Redis.",
            )?)?,
            lag: made.gauge(
                "reprise_coherence_log_lag_records",
                "Records of the shared log that are not applied here yet.",
            )?,
            members: made.gauge(
                "reprise_coherence_members",
                "Replicas that follow the shared log; 0 without Redis.",
            )?,
            epochs_joined: epochs.with_label_values(&["joined"]),
            epochs_lost: epochs.with_label_values(&["lost"]),
            epochs_gap: epochs.with_label_values(&["gap"]),
            waited_acknowledged: acknowledged,
            waited_lease: lease,
            waited_uncoordinated: uncoordinated,
            waited_refused: refused,
            bypass_dirty: bypasses.with_label_values(&["dirty"]),
            bypass_lease: bypasses.with_label_values(&["lease"]),
            bypass_epoch: bypasses.with_label_values(&["epoch"]),
            bypass_tag: bypasses.with_label_values(&["tag"]),
            by_write: invalidations.with_label_values(&["write"]),
            by_header: invalidations.with_label_values(&["header"]),
            by_api: invalidations.with_label_values(&["api"]),
            widened: made.counter(
                "reprise_cache_invalidations_widened_total",
                "Items of drop that reached their whole class because a capture found nothing.",
            )?,
            unsettled: made.counter(
                "reprise_coherence_unsettled_writes_total",
                "Writes whose end nobody saw; their tags stayed uncached until they expired.",
            )?,
            open: made.gauge(
                "reprise_coherence_open_intents",
                "Announced writes under way.",
            )?,
        })
    }
}

impl ServerMetrics {
    /// Counters that nobody scrapes.
    ///
    /// # Errors
    ///
    /// When two metrics share a name: a defect of this file.
    pub fn unexported() -> Result<Self, prometheus::Error> {
        Self::new(&Made(&Registry::new()))
    }

    fn new(made: &Made<'_>) -> Result<Self, prometheus::Error> {
        let closed = made.counters(
            "reprise_connections_closed_total",
            "Clients' connections that ended, each for one reason.",
            &["reason"],
        )?;
        let refused = made.counters(
            "reprise_requests_refused_total",
            "Requests that were refused for what they are, by reason.",
            &["reason"],
        )?;
        let aborts = made.counters(
            "reprise_client_aborts_total",
            "Requests whose client left before it had the whole answer, by stage.",
            &["stage"],
        )?;
        Ok(Self {
            open: made.gauge("reprise_connections_open", "Clients' connections.")?,
            accepted: made.counter(
                "reprise_connections_total",
                "Clients' connections that were accepted.",
            )?,
            delayed: made.counter(
                "reprise_connections_delayed_total",
                "Clients' connections accepted only when another one had ended (max_connections).",
            )?,
            closed: ENDINGS.map(|reason| closed.with_label_values(&[reason])),
            stalled_streams: made.counter(
                "reprise_streams_stalled_total",
                "HTTP/2 streams that were reset because the client took nothing of the answer.",
            )?,
            refused_malformed: refused.with_label_values(&["malformed"]),
            refused_body_too_large: refused.with_label_values(&["body_too_large"]),
            refused_body_timeout: refused.with_label_values(&["body_timeout"]),
            aborts_head: aborts.with_label_values(&["head"]),
            aborts_waiting: aborts.with_label_values(&["waiting"]),
            aborts_answer: aborts.with_label_values(&["answer"]),
            interim: made.counter(
                "reprise_interim_responses_total",
                "Interim answers (1xx) of the app that were handed on.",
            )?,
        })
    }
}

/// How long answers to writes waited, by what ended the wait.
fn write_waits(made: &Made<'_>) -> Result<[Histogram; 4], prometheus::Error> {
    let waits = HistogramOpts::new(
        "reprise_coherence_write_wait_seconds",
        "Time that answers to writes waited for other replicas, by what ended it.",
    );
    let waits = made.register(HistogramVec::new(
        waits.buckets(SECONDS.to_vec()),
        &["outcome"],
    )?)?;
    Ok(["acknowledged", "lease", "uncoordinated", "refused"]
        .map(|outcome| waits.with_label_values(&[outcome])))
}

impl RedisFamilies {
    fn new(made: &Made<'_>) -> Result<Self, prometheus::Error> {
        let duration = HistogramOpts::new(
            "reprise_redis_command_duration_seconds",
            "Time that commands to Redis took, failed ones included.",
        );
        Ok(Self {
            up: made.gauges(
                "reprise_redis_up",
                "1 while there is a connection to Redis, 0 if not.",
                &["use"],
            )?,
            breaker_open: made.gauges(
                "reprise_redis_breaker_open",
                "1 while Redis is left alone because it did not answer.",
                &["use"],
            )?,
            duration: made.register(HistogramVec::new(
                duration.buckets(REDIS_SECONDS.to_vec()),
                &["use", "command"],
            )?)?,
            errors: made.counters(
                "reprise_redis_errors_total",
                "Commands to Redis that failed, by kind.",
                &["use", "kind"],
            )?,
        })
    }
}

impl RedisMetrics {
    /// The durations of one command; commands are fixed words.
    #[must_use]
    pub fn duration(&self, command: &str) -> Histogram {
        self.duration.with_label_values(&[self.used_for, command])
    }

    /// The counter of one kind of failure; kinds are fixed words.
    #[must_use]
    pub fn error(&self, kind: &str) -> IntCounter {
        self.errors.with_label_values(&[self.used_for, kind])
    }
}

impl RouteFamilies {
    fn new(made: &Made<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: made.counters(
                "reprise_http_requests_total",
                "Requests answered, by route and status class.",
                &["route", "code"],
            )?,
            duration: made.histograms(
                "reprise_http_request_duration_seconds",
                "Time to the head of the answer.",
                &SECONDS,
            )?,
            results: made.counters(
                "reprise_cache_requests_total",
                "Requests by what the cache did; the six results add up to all requests.",
                &["route", "result"],
            )?,
            not_stored: made.counters(
                "reprise_cache_not_stored_total",
                "Answers that were not stored, by reason.",
                &["route", "reason"],
            )?,
            upstream_requests: made.counters(
                "reprise_upstream_requests_total",
                "Exchanges with the app, by route and status class.",
                &["route", "code"],
            )?,
            upstream_duration: made.histograms(
                "reprise_upstream_request_duration_seconds",
                "Time the app took to the head of its answer.",
                &SECONDS,
            )?,
            queries: made.histograms(
                "reprise_upstream_db_queries",
                "Database queries that the app reports for one answer.",
                &QUERIES,
            )?,
        })
    }
}

impl RouteMetrics {
    fn new(families: &RouteFamilies, route: &str) -> Self {
        let classes =
            |family: &IntCounterVec| CLASSES.map(|class| family.with_label_values(&[route, class]));
        Self {
            requests: classes(&families.requests),
            duration: families.duration.with_label_values(&[route]),
            results: outcome::Result::ALL
                .map(|result| families.results.with_label_values(&[route, result.label()])),
            not_stored: Unstorable::ALL.map(|reason| {
                families
                    .not_stored
                    .with_label_values(&[route, reason.as_str()])
            }),
            upstream_requests: classes(&families.upstream_requests),
            upstream_duration: families.upstream_duration.with_label_values(&[route]),
            queries: families.queries.with_label_values(&[route]),
        }
    }

    /// Counts one answered request.
    pub fn answered(&self, status: u16, result: outcome::Result) {
        self.requests[class_index(status)].inc();
        self.results[result.index()].inc();
    }

    /// Counts one exchange with the app.
    pub fn asked(&self, status: u16) {
        self.upstream_requests[class_index(status)].inc();
    }

    /// Counts one answer that was not stored.
    pub fn not_stored(&self, reason: Unstorable) {
        if let Some(index) = Unstorable::ALL.iter().position(|known| *known == reason) {
            self.not_stored[index].inc();
        }
    }

    /// Counts the database queries that the app reports for one answer.
    pub fn queries(&self, reported: &HeaderValue) {
        if let Some(count) = reported
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok())
        {
            self.queries.observe(f64::from(count));
        }
    }

    /// How many requests had this result.
    #[must_use]
    pub fn result(&self, result: outcome::Result) -> u64 {
        self.results[result.index()].get()
    }
}

fn class_index(status: u16) -> usize {
    usize::from(status / 100).clamp(1, 5) - 1
}

/// Makes metrics and registers them at once.
struct Made<'r>(&'r Registry);

impl Made<'_> {
    fn register<C: Collector + Clone + 'static>(
        &self,
        collector: C,
    ) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(name, help)?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, &["route"])?)
    }
}
