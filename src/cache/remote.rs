//! Tier 2: the Redis that replicas share.
//!
//! What flows in: keys with the request's fields, and entries to keep. What flows out: an entry that is the request's own
//! (full key and variant compared), or nothing. Every failure is a miss, counted; nothing here waits longer than the
//! deadline of a command, three times at most. A store happens behind the caller's back, and is left undone when too many
//! are under way. Whether a write has dropped what was found is not asked here: the caller asks it last.
//!
//! One value per entry, under the digest of its key (`{prefix}e1:{32 hex digits}`): no index, nothing to keep in step. A
//! key whose answers vary has a signpost there, and the answers are under the digests of their variants. The fields that
//! a signpost names are remembered for a while, so that a varying key costs one look-up too.
//!
//! Damaged values are unlinked. Those of other releases and other keys are not ours to remove, and the next store
//! replaces them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::cache::wire::{self, Miss, Value};
use crate::entry::Entry;
use crate::key::{Digest, Key, Variant, VariantRules};
use crate::metrics::RemoteMetrics;
use crate::redis::{Error, Redis};

/// Bodies over this many bytes are compressed.
const COMPRESS_OVER: usize = 1024;

/// Values over this many bytes are worked on by threads for such work: the reactor has other things to do.
const OFFLOAD_OVER: usize = 64 * 1024;

/// How many stores may be under way. Each holds its entry in memory, and a Redis that hangs holds them all.
const STORES: usize = 64;

/// How many keys' signposts are remembered.
const SIGNPOSTS: u64 = 10_000;

/// For how long. An answer that varies by something else since is overlooked by those who still find one by the old
/// fields, if no write has dropped that one.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How long a signpost stands at least. One that is gone hides entries that are still there.
const SIGNPOST_KEEP: Duration = Duration::from_secs(3600);

/// How much of a value is read to see which entry it is.
const BEGINNING: usize = 4096;

/// The knobs of the tier.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// What every key in Redis begins with.
    pub prefix: String,
    /// A digest of all that decides tags and keys: replicas share entries only where theirs are the same.
    pub rules: u64,
    /// The longest body that is stored, or read, in bytes.
    pub max_entry_size: usize,
}

/// How long the right to fetch a key is held when whoever has it never comes back.
const CLAIM: Duration = Duration::from_secs(10);

/// The shared tier.
#[derive(Clone, Debug)]
pub struct Remote {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    redis: Redis,
    config: Config,
    /// The fields by which a key's answers vary, as last seen. Wrong ones cost a look-up and no more.
    signposts: Cache<Digest, Arc<[HeaderName]>>,
    stores: Arc<Semaphore>,
    tasks: TaskTracker,
    metrics: Arc<RemoteMetrics>,
}

/// The right to fetch a key for all replicas. Dropped, it is given back. Should it have expired meanwhile, another's goes with
/// it: then two replicas fetch, and no more.
#[derive(Debug)]
pub struct Claim {
    remote: Remote,
    name: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (redis, name) = (
            self.remote.shared.redis.clone(),
            std::mem::take(&mut self.name),
        );
        self.remote.spawn(async move { redis.unlink(&name).await });
    }
}

impl Remote {
    /// The tier in this Redis.
    #[must_use]
    pub fn new(redis: Redis, config: Config, metrics: Arc<RemoteMetrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                redis,
                config,
                signposts: Cache::builder()
                    .max_capacity(SIGNPOSTS)
                    .time_to_live(REMEMBERED)
                    .build(),
                stores: Arc::new(Semaphore::new(STORES)),
                tasks: TaskTracker::new(),
                metrics,
            }),
        }
    }

    /// Looks for an entry that answers a request.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost; the look-up is not counted.
    pub async fn get(
        &self,
        key: &Key,
        request: &HeaderMap,
        rules: &VariantRules<'_>,
    ) -> Option<Arc<Entry>> {
        let metrics = &self.shared.metrics;
        match self.look(key, request, rules).await {
            Ok(Some(entry)) => {
                metrics.hits.inc();
                Some(entry)
            }
            Ok(None) => {
                metrics.misses.inc();
                None
            }
            Err(error) => {
                metrics.errors.inc();
                tracing::debug!(%error, "the shared cache cannot be read");
                None
            }
        }
    }

    async fn look(
        &self,
        key: &Key,
        request: &HeaderMap,
        rules: &VariantRules<'_>,
    ) -> Result<Option<Arc<Entry>>, Error> {
        let signposts = &self.shared.signposts;
        let primary = key.digest(self.shared.config.rules);
        let remembered = signposts.get(&primary);
        if let Some(names) = &remembered {
            let variant = Variant::of(names, request, rules).digest(&primary);
            if let Some(Value::Entry(entry)) = self.read(&variant, key).await?
                && entry.variant.matches(request, rules)
            {
                return Ok(Some(entry));
            }
        }
        // Not known to vary, or not as it did when this was remembered.
        let names = match self.read(&primary, key).await? {
            Some(Value::Signpost(names)) => names,
            Some(Value::Entry(entry)) => {
                signposts.invalidate(&primary);
                return Ok(Some(entry).filter(|entry| entry.variant.matches(request, rules)));
            }
            None => {
                signposts.invalidate(&primary);
                return Ok(None);
            }
        };
        if remembered.is_some_and(|remembered| *remembered == *names) {
            return Ok(None);
        }
        let variant = Variant::of(&names, request, rules).digest(&primary);
        signposts.insert(primary, names.into());
        Ok(match self.read(&variant, key).await? {
            Some(Value::Entry(entry)) if entry.variant.matches(request, rules) => Some(entry),
            Some(_) | None => None,
        })
    }

    /// Reads what is under a name, if it is the key's.
    async fn read(&self, name: &Digest, key: &Key) -> Result<Option<Value>, Error> {
        let text = self.text(name);
        // On the heap: a request that is answered from memory must not carry room for this.
        let Some(value) = Box::pin(self.shared.redis.get(&text)).await? else {
            return Ok(None);
        };
        let read = decode(value, key, self.shared.config.max_entry_size).await;
        Ok(read.map_err(|miss| self.reject(miss, text)).ok())
    }

    fn reject(&self, miss: Miss, name: String) {
        self.shared.metrics.rejected[miss.index()].inc();
        tracing::debug!(%name, reason = miss.as_str(), "a value of the shared cache is of no use");
        // It is ours by its beginning, and good for nobody. The others may be good for somebody.
        if miss == Miss::Checksum {
            let redis = self.shared.redis.clone();
            self.spawn(async move { redis.unlink(&name).await });
        }
    }

    /// Keeps an entry for at most this long, in place of the one of the same key and variant. Returns at once; what
    /// becomes of it is counted.
    pub fn put(&self, key: &Key, entry: &Arc<Entry>, keep: Duration) {
        self.put_under(key, entry, keep, None);
    }

    /// The same, and gives a claim back once the entry is there for those who wait for it.
    pub fn put_under(&self, key: &Key, entry: &Arc<Entry>, keep: Duration, claim: Option<Claim>) {
        let metrics = &self.shared.metrics;
        // Redis counts milliseconds, and none of them is an error.
        if keep < Duration::from_millis(1) {
            return;
        }
        if entry.body.len() > self.shared.config.max_entry_size {
            metrics.too_large.inc();
            return;
        }
        let primary = key.digest(self.shared.config.rules);
        let (remote, entry) = (self.clone(), Arc::clone(entry));
        let begun = self.spawn(async move {
            let stored = remote.store(&primary, &entry, keep).await;
            drop(claim);
            stored
        });
        if !begun {
            metrics.busy.inc();
        }
    }

    async fn store(
        &self,
        primary: &Digest,
        entry: &Arc<Entry>,
        keep: Duration,
    ) -> Result<(), Error> {
        let metrics = &self.shared.metrics;
        let Some(value) = encode(entry).await else {
            metrics.too_large.inc();
            return Ok(());
        };
        let stored = self.set(primary, entry, value, keep).await;
        let counter = if stored.is_ok() {
            &metrics.stored
        } else {
            &metrics.failed
        };
        counter.inc();
        stored
    }

    async fn set(
        &self,
        primary: &Digest,
        entry: &Entry,
        value: Bytes,
        keep: Duration,
    ) -> Result<(), Error> {
        let Shared {
            redis, signposts, ..
        } = &*self.shared;
        if entry.variant.is_empty() {
            signposts.invalidate(primary);
            return redis.set(&self.text(primary), value, keep).await;
        }
        let names: Vec<_> = entry
            .variant
            .fields()
            .map(|(name, _)| name.clone())
            .collect();
        // First the entry: a signpost must not point at what is not there yet.
        let variant = entry.variant.digest(primary);
        redis.set(&self.text(&variant), value, keep).await?;
        if let Some(post) = wire::signpost(&entry.key, &names) {
            redis
                .set(&self.text(primary), post, keep.max(SIGNPOST_KEEP))
                .await?;
            signposts.insert(*primary, names.into());
        }
        Ok(())
    }

    /// Takes an entry out, if it is still there. Returns at once. To free memory is all it is for: what replaces the entry
    /// a moment before it is unlinked goes with it, which is a miss.
    pub fn remove(&self, key: &Key, entry: &Entry) {
        let primary = key.digest(self.shared.config.rules);
        let name = if entry.variant.is_empty() {
            primary
        } else {
            entry.variant.digest(&primary)
        };
        let (name, stamp) = (self.text(&name), entry.certificate.stamp);
        let redis = self.shared.redis.clone();
        self.spawn(async move {
            let beginning = redis.get_range(&name, BEGINNING).await?.unwrap_or_default();
            match wire::peek(&beginning) {
                Some(found) if found.stamp == stamp => redis.unlink(&name).await,
                Some(_) | None => Ok(()),
            }
        });
    }

    /// Takes the right to fetch a key for all replicas; `None` when another has it. By itself it goes after a while.
    ///
    /// # Errors
    ///
    /// When Redis cannot say.
    pub async fn claim(&self, key: &Key) -> Result<Option<Claim>, Error> {
        let digest = key.digest(self.shared.config.rules);
        let name = format!("{}lock:{digest}", self.shared.config.prefix);
        let redis = &self.shared.redis;
        let taken = Box::pin(redis.set_if_absent(&name, Bytes::from_static(b"1"), CLAIM)).await?;
        let remote = self.clone();
        Ok(taken.then(|| Claim { remote, name }))
    }

    /// Waits for the stores that are under way; none begins after.
    ///
    /// # Cancel safety
    ///
    /// May be called again.
    pub async fn drain(&self) {
        self.shared.stores.close();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Does something behind the caller's back; whether there was room for it.
    fn spawn(&self, work: impl Future<Output = Result<(), Error>> + Send + 'static) -> bool {
        let Ok(permit) = Arc::clone(&self.shared.stores).try_acquire_owned() else {
            return false;
        };
        self.shared.tasks.spawn(async move {
            if let Err(error) = work.await {
                tracing::debug!(%error, "the shared cache cannot be written");
            }
            drop(permit);
        });
        true
    }

    /// The name in Redis.
    fn text(&self, name: &Digest) -> String {
        format!("{}e1:{name}", self.shared.config.prefix)
    }
}

async fn encode(entry: &Arc<Entry>) -> Option<Bytes> {
    if entry.body.len() <= OFFLOAD_OVER {
        return wire::encode(entry, COMPRESS_OVER);
    }
    let entry = Arc::clone(entry);
    let encoded = tokio::task::spawn_blocking(move || wire::encode(&entry, COMPRESS_OVER));
    encoded.await.ok().flatten()
}

async fn decode(value: Bytes, key: &Key, max_body: usize) -> Result<Value, Miss> {
    if value.len() <= OFFLOAD_OVER {
        return wire::decode(&value, key.as_bytes(), max_body);
    }
    let key = key.clone();
    let decoded =
        tokio::task::spawn_blocking(move || wire::decode(&value, key.as_bytes(), max_body));
    decoded.await.unwrap_or(Err(Miss::Malformed))
}
