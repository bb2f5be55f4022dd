//! The cache: entries by key, found only while they may be used.
//!
//! The only door to the tiers. What flows in: keys with the request's fields, and entries to keep. What flows out: an
//! entry that is the request's own (full key and variant compared) and that no write has dropped, or why there is none.
//! A failure inside is a miss. Whether an entry is fresh is not asked here.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::coherence::{Coherence, Standing, Unusable, Writes};
use crate::entry::Entry;
use crate::key::{Key, VariantRules};
use crate::metrics::CacheMetrics;

pub mod memory;
pub mod remote;
pub mod sweeper;
pub mod wire;

use memory::{Eviction, Memory};
use remote::{Claim, Remote};

/// The knobs of the tiers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// What tier 1 may take, in bytes.
    pub max_size: u64,
}

/// Both tiers behind one handle.
#[derive(Clone, Debug)]
pub struct Cache {
    memory: Memory,
    remote: Option<Remote>,
    coherence: Coherence,
    metrics: Arc<CacheMetrics>,
    /// Held by whoever walks through memory: an asynchronous lock, since a walk may take seconds.
    walking: Arc<Mutex<()>>,
}

/// What a walk through a tier saw.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// Entries looked at.
    pub scanned: u64,
    /// Those that were looked for; freed, if that was the purpose.
    pub found: u64,
    /// Whether all were looked at in the time there was.
    pub complete: bool,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// An entry that may be used now, and how it stands.
    Found(Arc<Entry>, Standing),
    /// Nothing under the key.
    Nothing,
    /// Something under the key, but for other request fields; the fields that select.
    OtherVariant(Vec<HeaderName>),
    /// A write dropped what was there.
    Dropped,
    /// A write to what is there is under way.
    Dirty,
    /// What is there is of another epoch, or older than the log remembers.
    Forgotten,
    /// This replica has not read the log lately enough to know.
    NoLease,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(
        config: Config,
        coherence: Coherence,
        remote: Option<Remote>,
        metrics: Arc<CacheMetrics>,
    ) -> Self {
        let evictions = Arc::clone(&metrics);
        let memory = Memory::new(config.max_size, move |cause| match cause {
            Eviction::Size => evictions.evicted_size.inc(),
            Eviction::Expired => evictions.evicted_expired.inc(),
        });
        metrics
            .max_size_bytes
            .set(i64::try_from(config.max_size).unwrap_or(i64::MAX));
        Self {
            memory,
            remote,
            coherence,
            metrics,
            walking: Arc::default(),
        }
    }

    /// Looks for an entry that answers a request. A dead entry met on the way is unlinked.
    #[must_use]
    pub fn get(
        &self,
        key: &Key,
        request: &HeaderMap,
        rules: &VariantRules<'_>,
        writes: Writes,
    ) -> Lookup {
        let lookup = self.look(key, request, rules, writes);
        match lookup {
            Lookup::Found(..) => self.metrics.memory_hits.inc(),
            Lookup::Nothing
            | Lookup::OtherVariant(_)
            | Lookup::Dropped
            | Lookup::Dirty
            | Lookup::Forgotten
            | Lookup::NoLease => self.metrics.memory_misses.inc(),
        }
        lookup
    }

    /// Looks once more, uncounted: for a fill that is about to begin and may just have been forestalled.
    #[must_use]
    pub fn again(
        &self,
        key: &Key,
        request: &HeaderMap,
        rules: &VariantRules<'_>,
        writes: Writes,
    ) -> Option<Arc<Entry>> {
        match self.look(key, request, rules, writes) {
            Lookup::Found(entry, Standing::Good) => Some(entry),
            Lookup::Found(_, Standing::Softened)
            | Lookup::Nothing
            | Lookup::OtherVariant(_)
            | Lookup::Dropped
            | Lookup::Dirty
            | Lookup::Forgotten
            | Lookup::NoLease => None,
        }
    }

    fn look(
        &self,
        key: &Key,
        request: &HeaderMap,
        rules: &VariantRules<'_>,
        writes: Writes,
    ) -> Lookup {
        let Some(slot) = self.memory.get(key.hash()) else {
            return Lookup::Nothing;
        };
        let mut own = slot
            .entries()
            .filter(|entry| *entry.key == *key.as_bytes())
            .peekable();
        let Some(newest) = own.peek().copied() else {
            return Lookup::Nothing;
        };
        let Some(entry) = own.find(|entry| entry.variant.matches(request, rules)) else {
            return Lookup::OtherVariant(
                newest
                    .variant
                    .fields()
                    .map(|(name, _)| name.clone())
                    .collect(),
            );
        };
        let verdict = self
            .coherence
            .usable(&entry.certificate, &entry.key, writes);
        match verdict {
            Ok(standing) => Lookup::Found(Arc::clone(entry), standing),
            Err(Unusable::Dirty) => Lookup::Dirty,
            Err(Unusable::NoLease) => Lookup::NoLease,
            Err(dead @ (Unusable::Dropped | Unusable::Forgotten)) => {
                self.memory.remove(key.hash(), entry);
                self.metrics.unlinked.inc();
                if dead == Unusable::Dropped {
                    Lookup::Dropped
                } else {
                    Lookup::Forgotten
                }
            }
        }
    }

    /// Looks for an entry in tier 2. Whether it may be used is asked by the caller, once it has it in hand.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn fetch(
        &self,
        key: &Key,
        request: &HeaderMap,
        rules: &VariantRules<'_>,
    ) -> Option<Arc<Entry>> {
        self.remote.as_ref()?.get(key, request, rules).await
    }

    /// The tier that replicas share, where there is one.
    #[must_use]
    pub const fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Keeps an entry in both tiers for at most this long. A claim is given back once other replicas can find it.
    pub fn put(&self, key: &Key, entry: &Arc<Entry>, keep: Duration, claim: Option<Claim>) {
        self.promote(key, entry, keep);
        if let Some(remote) = &self.remote {
            remote.put_under(key, entry, keep, claim);
        }
    }

    /// Keeps an entry in memory for at most this long.
    pub fn promote(&self, key: &Key, entry: &Arc<Entry>, keep: Duration) {
        if keep > Duration::ZERO {
            self.memory.put(key.hash(), entry, keep);
        }
    }

    /// Takes an entry out of both tiers, if it is still there.
    pub fn remove(&self, key: &Key, entry: &Arc<Entry>) {
        self.memory.remove(key.hash(), entry);
        if let Some(remote) = &self.remote {
            remote.remove(key, entry);
        }
    }

    /// Counts the bytes of an entry's new encoding.
    pub fn reweigh(&self, key: &Key) {
        self.memory.reweigh(key.hash());
    }

    /// Removes from memory what may not be used any more, in at most this time. Nothing depends on it: a dead entry answers
    /// nobody. It frees memory sooner, and tells how much a purge reached.
    ///
    /// # Cancel safety
    ///
    /// The walk goes on to its end.
    pub async fn sweep(&self, budget: Duration) -> Swept {
        let cache = self.clone();
        self.walk(budget, move |hash, entry| {
            // An open write may yet be refused; a bounded reader may use it meanwhile.
            let verdict = cache
                .coherence
                .usable(&entry.certificate, &entry.key, Writes::Ignore);
            let dead = matches!(verdict, Err(Unusable::Dropped | Unusable::Forgotten));
            if dead {
                cache.memory.remove(hash, entry);
                cache.metrics.unlinked.inc();
            }
            dead
        })
        .await
    }

    /// Counts the entries in memory that may be used and are such as `is` says, in at most this time.
    ///
    /// # Cancel safety
    ///
    /// The walk goes on to its end.
    pub async fn count(
        &self,
        budget: Duration,
        is: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Swept {
        let coherence = self.coherence.clone();
        self.walk(budget, move |_, entry| {
            let usable = coherence.usable(&entry.certificate, &entry.key, Writes::Ignore);
            usable.is_ok() && is(entry)
        })
        .await
    }

    /// Shows every entry in memory to `found`, off the reactor, one walk at a time.
    async fn walk(
        &self,
        budget: Duration,
        mut found: impl FnMut(u128, &Arc<Entry>) -> bool + Send + 'static,
    ) -> Swept {
        let until = Instant::now() + budget;
        let walking = Arc::clone(&self.walking).lock_owned();
        let Ok(turn) = tokio::time::timeout_at(until, walking).await else {
            return Swept::default();
        };
        let memory = self.memory.clone();
        let walk = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut swept = Swept::default();
            swept.complete = memory.walk(until, |hash, entry| {
                swept.scanned += 1;
                swept.found += u64::from(found(hash, entry));
            });
            swept
        });
        walk.await.unwrap_or_default()
    }

    /// Enforces size and time, and brings the gauges up to date. To be called every second or so.
    pub fn maintain(&self) {
        self.memory.maintain();
        self.metrics
            .entries
            .set(i64::try_from(self.memory.keys()).unwrap_or(i64::MAX));
        self.metrics
            .size_bytes
            .set(i64::try_from(self.memory.size()).unwrap_or(i64::MAX));
    }
}
