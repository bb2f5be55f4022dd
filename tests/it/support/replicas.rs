//! Replicas that share a Redis, before an app of numbered registers that writes change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::client::Reply;
use super::sidecar::Plan;
use super::{Origin, RedisServer, Sidecar, reply, soon};

/// Short enough that a test can wait for its end, long enough for a busy machine.
pub const LEASE: &str = "lease = \"800ms\"";

/// An app with registers: `GET /r/N` tells a register's version, `POST /w/N` raises it.
pub struct Registers {
    pub origin: Origin,
    versions: Vec<Arc<AtomicU64>>,
}

impl Registers {
    /// This many, all at version 0.
    pub async fn start(count: usize) -> Self {
        let origin = Origin::start().await;
        let versions: Vec<Arc<AtomicU64>> = (0..count).map(|_| Arc::default()).collect();
        for (number, version) in versions.iter().enumerate() {
            let (read, raised) = (Arc::clone(version), Arc::clone(version));
            origin.on(&format!("/r/{number}"), move |_| {
                reply(read.load(Ordering::SeqCst).to_string())
            });
            origin.on(&format!("/w/{number}"), move |_| {
                reply((raised.fetch_add(1, Ordering::SeqCst) + 1).to_string())
            });
        }
        Self { origin, versions }
    }

    /// What a register's readers must see now.
    pub fn version(&self, number: usize) -> String {
        self.versions[number].load(Ordering::SeqCst).to_string()
    }

    /// A replica before the app, with these lines of `[coherence]`.
    pub fn replica(&self, url: &str, coherence: &str) -> Plan {
        self.replica_on(url, coherence, "")
    }

    /// The same, with further lines of the route.
    pub fn replica_on(&self, url: &str, coherence: &str, route: &str) -> Plan {
        Sidecar::before(&self.origin)
            .route(
                "/r/{number}",
                &format!("ttl = \"10m\"\ntags = [\"register:{{number}}\"]\n{route}"),
            )
            .write("POST /w/{number}", &["register:{number}"])
            .with(&format!("[redis]\nurl = {url:?}"))
            .with(&format!("[coherence]\n{coherence}"))
    }

    /// Two replicas that may serve from their caches.
    pub async fn pair(&self, redis: &RedisServer, coherence: &str) -> (Sidecar, Sidecar) {
        self.pair_at(&redis.url(), &redis.url(), coherence).await
    }

    /// The same, each with a way of its own to Redis.
    pub async fn pair_at(&self, one: &str, other: &str, coherence: &str) -> (Sidecar, Sidecar) {
        let a = self.replica(one, coherence).start().await;
        let b = self.replica(other, coherence).start().await;
        live(&a).await;
        live(&b).await;
        (a, b)
    }

    /// Has a replica store a register, and asserts that it tells the present version.
    pub async fn warm(&self, sidecar: &Sidecar, number: usize) {
        let path = format!("/r/{number}");
        soon("a hit", async {
            loop {
                let got = sidecar.get(&path).await;
                assert_eq!(got.body, self.version(number), "{}", got.cache_status());
                if got.cache() == "HIT" {
                    return;
                }
            }
        })
        .await;
    }

    /// Raises a register, which must work.
    pub async fn raise(&self, sidecar: &Sidecar, number: usize) -> Reply {
        let done = sidecar.post(&format!("/w/{number}"), "{}").await;
        assert_eq!(done.status, 200, "{}", done.body);
        done
    }

    /// Reads a register, which must be told as it is.
    pub async fn right(&self, sidecar: &Sidecar, number: usize) -> Reply {
        let got = sidecar.get(&format!("/r/{number}")).await;
        let now = self.version(number);
        assert_eq!(got.body, now, "{} {}", got.cache(), got.cache_status());
        got
    }
}

/// Waits until a replica may serve from its cache.
pub async fn live(sidecar: &Sidecar) {
    reaches(sidecar, "reprise_coherence_lease_seconds", |left| {
        left > 0.0
    })
    .await;
}

/// Waits until a replica may not.
pub async fn lapsed(sidecar: &Sidecar) {
    reaches(sidecar, "reprise_coherence_lease_seconds", |left| {
        left == 0.0
    })
    .await;
}

/// Waits until it knows of this many replicas.
pub async fn members(sidecar: &Sidecar, count: usize) {
    let count = count as f64;
    reaches(sidecar, "reprise_coherence_members", |now| now == count).await;
}

/// Waits until no write is under way as far as it knows.
pub async fn settled(sidecar: &Sidecar) {
    reaches(sidecar, "reprise_coherence_open_intents", |open| {
        open == 0.0
    })
    .await;
}

/// Waits until a metric is so.
pub async fn reaches(sidecar: &Sidecar, series: &str, holds: impl Fn(f64) -> bool) {
    soon(series, async {
        while !holds(sidecar.metric(series).await) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// How many writes ended their wait so.
pub async fn waits(sidecar: &Sidecar, outcome: &str) -> f64 {
    let series = format!("reprise_coherence_write_wait_seconds_count{{outcome=\"{outcome}\"}}");
    sidecar.metric(&series).await
}

/// Writes until all replicas acknowledge: those of an epoch are not believed in its first moments.
pub async fn acknowledging(registers: &Registers, sidecar: &Sidecar, number: usize) {
    soon("acknowledgements are believed", async {
        let before = waits(sidecar, "acknowledged").await;
        while waits(sidecar, "acknowledged").await == before {
            registers.raise(sidecar, number).await;
        }
    })
    .await;
}
