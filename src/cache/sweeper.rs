//! The sweeper of tier 2: frees what drops have made useless in Redis before its time is over.
//!
//! Nothing depends on it. An entry certifies itself, so a dead one answers nobody, and every value ends by itself. The
//! sweeper only makes room sooner, and tells a purge how much it reached. So it is slow on purpose: it goes through the
//! keys of this prefix with `SCAN` (never `KEYS`), reads the beginning of each value, looks at so many keys a second, and
//! one replica does it at a time, by a lock in Redis.
//!
//! It removes only what this replica's own log has dropped. What carries another epoch is left to end by itself: nobody
//! can tell which of two epochs is the older one, and a replica that lags must not remove what its peers still use. A
//! value may be replaced between the look at it and its removal; then a good one goes, which costs one fetch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::Swept;
use super::wire;
use crate::coherence::{Coherence, Unusable, Writes};
use crate::entry::Certificate;
use crate::redis::{Error, Redis};

/// How much of a value is read: stamp, tags and key are in it, but for those of very many tags, which stay.
const BEGINNING: usize = 4096;

/// How many keys Redis looks at for one reply. It answers nobody else meanwhile: some hundred take some hundredth of a
/// millisecond.
const BATCH: u32 = 128;

/// How long the lock lasts without being renewed: a replica that ends in the middle holds the others off so long.
const LOCK: Duration = Duration::from_secs(30);

/// How the sweeper goes about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// What every key in Redis begins with.
    pub prefix: String,
    /// How many keys it looks at in a second.
    pub rate: u32,
}

/// Sweeps tier 2. A cheap handle.
#[derive(Clone, Debug)]
pub struct Sweeper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    redis: Redis,
    coherence: Coherence,
    config: Config,
    wanted: Notify,
    progress: watch::Sender<Progress>,
}

/// How far a round is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// How many rounds have begun.
    round: u64,
    ended: bool,
    swept: Swept,
}

impl Sweeper {
    /// A sweeper of this Redis. It does nothing until [`Sweeper::run`] is.
    #[must_use]
    pub fn new(redis: Redis, coherence: Coherence, config: Config) -> Self {
        let shared = Shared {
            redis,
            coherence,
            config,
            wanted: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Asks for a round, and waits for its end for at most this time; what it has seen by then. It goes on to its end
    /// without whoever asked. A round that had begun before does not count: it may have passed what is dead by now.
    ///
    /// # Cancel safety
    ///
    /// The round goes on.
    pub async fn sweep(&self, budget: Duration) -> Swept {
        let mut progress = self.shared.progress.subscribe();
        let before = progress.borrow().round;
        self.shared.wanted.notify_one();
        let end = progress.wait_for(|now| now.round > before && now.ended);
        let ended = tokio::time::timeout(budget, end)
            .await
            .is_ok_and(|ended| ended.is_ok());
        let now = *self.shared.progress.borrow();
        let swept = if now.round > before {
            now.swept
        } else {
            Swept::default()
        };
        Swept {
            complete: ended && swept.complete,
            ..swept
        }
    }

    /// Sweeps whenever it is asked for, for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle of a round, it leaves its lock behind for half a minute.
    pub async fn run(&self) {
        loop {
            self.shared.wanted.notified().await;
            self.shared.progress.send_modify(|progress| {
                *progress = Progress {
                    round: progress.round + 1,
                    ..Progress::default()
                };
            });
            let whole = match self.round().await {
                Ok(whole) => whole,
                Err(error) => {
                    tracing::debug!(%error, "the shared cache was not swept to its end");
                    false
                }
            };
            self.shared.progress.send_modify(|progress| {
                progress.swept.complete = whole;
                progress.ended = true;
            });
        }
    }

    /// One way through all keys; whether it was all of them.
    async fn round(&self) -> Result<bool, Error> {
        let Shared { redis, config, .. } = &*self.shared;
        let lock = format!("{}sweep", config.prefix);
        if !redis.set_if_absent(&lock, held(), LOCK).await? {
            // Another replica is at it. What it has passed already stays until its time is over.
            return Ok(false);
        }
        // Boxed: a round holds room for a command, and whoever waits for one should not.
        let walked = Box::pin(self.walk(&lock)).await;
        // Only our own lock: one that ran out while Redis hung may be another's by now.
        match walked {
            Ok(true) => redis.unlink(&lock).await.map(|()| true),
            other => other,
        }
    }

    /// Goes through the keys, renewing the lock; whether it held the lock to the end.
    async fn walk(&self, lock: &str) -> Result<bool, Error> {
        let Config { prefix, rate } = &self.shared.config;
        let pattern = format!("{}e1:*", escaped(prefix));
        // No batch takes longer than a second, or the lock would run out meanwhile.
        let batch = BATCH.min(*rate).max(1);
        // The list is read ahead by a reply or two. Each end hangs up when it has had enough.
        let (found, batches) = mpsc::channel(1);
        let list = self.shared.redis.scan(&pattern, batch, move |keys| {
            let found = found.clone();
            async move { found.send(keys).await.is_ok() }
        });
        let (listed, swept) = tokio::join!(list, self.work(lock, batches));
        listed?;
        swept
    }

    async fn work(
        &self,
        lock: &str,
        mut batches: mpsc::Receiver<Vec<String>>,
    ) -> Result<bool, Error> {
        let Shared { redis, config, .. } = &*self.shared;
        let mut renewed = Instant::now();
        while let Some(keys) = batches.recv().await {
            let began = Instant::now();
            if began > renewed + LOCK {
                // It may be another's by now.
                return Ok(false);
            }
            if began > renewed + LOCK / 3 {
                redis.set(lock, held(), LOCK).await?;
                renewed = began;
            }
            let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            for key in keys {
                self.look(&key).await?;
            }
            let pace = Duration::from_secs(1) * count / config.rate.max(1);
            tokio::time::sleep_until(began + pace).await;
        }
        Ok(true)
    }

    /// Looks at one value, and removes it if it is dead.
    async fn look(&self, key: &str) -> Result<(), Error> {
        let redis = &self.shared.redis;
        let start = redis.get_range(key, BEGINNING).await?;
        let dead = start.is_some_and(|start| self.is_dead(&start));
        if dead {
            redis.unlink(key).await?;
        }
        self.shared.progress.send_modify(|progress| {
            progress.swept.scanned += 1;
            progress.swept.found += u64::from(dead);
        });
        Ok(())
    }

    /// Whether a value has been dropped by this replica's own log. What is no entry that it knows is not.
    fn is_dead(&self, start: &[u8]) -> bool {
        let coherence = &self.shared.coherence;
        let Some(entry) = wire::peek(start) else {
            return false;
        };
        if entry.stamp.epoch != coherence.stamp().epoch {
            return false;
        }
        let certificate = Certificate::new(entry.stamp, entry.tags);
        let key = entry.key.unwrap_or_default();
        let verdict = coherence.usable(&certificate, key, Writes::Ignore);
        matches!(verdict, Err(Unusable::Dropped | Unusable::Forgotten))
    }
}

fn held() -> Bytes {
    Bytes::from_static(b"1")
}

/// A text as a pattern of Redis that matches it alone.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
