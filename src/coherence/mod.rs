//! Coherence: what has been dropped, when, and whether this process may still say "hit".
//!
//! Deleting is not how entries become invalid: a slow fill could put a dead one back a moment later. Instead every drop
//! is a record of one ordered log, and every entry carries the place of that log at which its own story began, *before*
//! its request went upstream. A reader asks, last of all and with the bytes in hand, whether one of the entry's tags was
//! dropped since ([`Coherence::usable`]). A write is announced before it is forwarded and committed before its answer
//! goes out; between the two its tags are not served from the cache at all.
//!
//! The log here lives in this process. What flows in: announcements, commits, drops, the tick of a clock. What flows out:
//! stamps and verdicts. Promise: once [`Intent::commit`] has returned, no later [`Coherence::usable`] says yes to
//! anything that carries a committed tag and was asked for before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::entry::{Certificate, Stamp};
use crate::tag::{Tag, Tags};

pub mod clock;
pub mod log;
pub mod record;
pub mod script;
mod standin;
mod table;

use record::Token;
pub use standin::{Purge, Purged, Refused, Standing};
use table::Table;
pub use table::{Unusable, Writes};

/// The knobs of `[coherence]` that a log inside one process has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// The longest time after which a forwarded write may still take place.
    pub intent_ttl: Duration,
    /// How much longer a write's tags stay uncached: the app may read from a database replica that lags.
    pub origin_lag: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            intent_ttl: Duration::from_secs(60),
            origin_lag: Duration::ZERO,
        }
    }
}

/// The one door to the log of drops.
#[derive(Clone, Debug)]
pub struct Coherence {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// Changes with every record. An entry found usable at a version is usable while the version stands, so that a hit
    /// costs one load and no lock while nobody writes.
    version: AtomicU64,
    tokens: AtomicU64,
    /// A standard lock: held for a few map operations, never across an await; readers share it.
    table: RwLock<Table>,
    bans: std::sync::atomic::AtomicUsize,
    extra: RwLock<standin::Extra>,
}

/// An announced write. Dropped without a word, it stays open until its time is over: nobody knows whether the write took
/// place.
#[derive(Debug)]
#[must_use = "an intent that is dropped keeps its tags uncached until it expires"]
pub struct Intent {
    coherence: Coherence,
    token: Token,
}

impl Coherence {
    /// A log of its own, in this process.
    #[must_use]
    pub fn new(config: Config, epoch: u64) -> Self {
        let table = RwLock::new(Table::new(epoch));
        Self {
            shared: Arc::new(Shared {
                config,
                version: AtomicU64::new(0),
                tokens: AtomicU64::new(0),
                table,
                bans: std::sync::atomic::AtomicUsize::new(0),
                extra: RwLock::default(),
            }),
        }
    }

    /// The place in the log to remember *before* asking the app.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.read().stamp()
    }

    /// Whether an entry may answer now. To be asked last, with the bytes in hand: the moment of the question is the
    /// moment of the read.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn usable(&self, certificate: &Certificate, writes: Writes) -> Result<Standing, Unusable> {
        let version = self.shared.version.load(Ordering::Acquire);
        if certificate.checked.load(Ordering::Relaxed) == version {
            return Ok(Standing::Good);
        }
        let table = self.read();
        table.check(certificate.stamp, &certificate.tags, writes)?;
        if self.standing(certificate) == Standing::Softened {
            return Ok(Standing::Softened);
        }
        // Only a check that counted open writes may be remembered: a strong reader must not inherit a bounded verdict.
        // The version cannot have changed under the lock.
        if writes == Writes::Count {
            certificate.checked.store(
                self.shared.version.load(Ordering::Acquire),
                Ordering::Relaxed,
            );
        }
        Ok(Standing::Good)
    }

    /// Whether something stamped and tagged like this may be used now: for a fill that has not ended.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn check(&self, stamp: Stamp, tags: &[Tag], writes: Writes) -> Result<(), Unusable> {
        self.read().check(stamp, tags, writes)
    }

    /// Announces a write to these tags: from now until its end they are answered by the app alone.
    pub fn announce(&self, tags: Tags) -> Intent {
        let token = Token(self.shared.tokens.fetch_add(1, Ordering::Relaxed));
        let deadline = Instant::now() + self.shared.config.intent_ttl;
        self.write(|table| table.announce(token, tags, deadline));
        Intent {
            coherence: self.clone(),
            token,
        }
    }

    /// Drops tags at once; the position of the drop.
    pub fn drop_tags(&self, tags: &[Tag]) -> u64 {
        self.write(|table| table.drop_tags(tags))
    }

    /// Ends announcements whose time is over, and forgets old drops. To be called every second or so; how many ended.
    pub fn tick(&self, now: Instant) -> usize {
        let ended = self.write(|table| table.expire(now));
        if ended > 0 {
            tracing::warn!(
                writes = ended,
                "writes without a known end: what they may have changed is dropped"
            );
        }
        ended
    }

    /// How many writes are under way.
    #[must_use]
    pub fn open_writes(&self) -> usize {
        self.read().open_writes()
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.shared
            .table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table: RwLockWriteGuard<'_, Table> = self
            .shared
            .table
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = table.stamp();
        let result = change(&mut table);
        // A tick that changed nothing must not make every entry look at its tags again.
        if table.stamp() != before {
            self.shared.version.fetch_add(1, Ordering::Release);
        }
        result
    }
}

impl Intent {
    /// The write took place, or may have: drops `tags`, and ends the announcement (after `origin_lag`).
    pub fn commit(self, tags: &[Tag]) -> u64 {
        let lag = self.coherence.shared.config.origin_lag;
        let hold = (lag > Duration::ZERO).then(|| Instant::now() + lag);
        self.coherence
            .write(|table| table.commit(self.token, tags, hold))
    }

    /// The write did not take place: nothing is dropped.
    pub fn close(self) {
        self.coherence.write(|table| table.close(self.token));
    }

    /// The app never had all of the request: what it announced is dropped now, and again when the write can no longer take
    /// place.
    pub fn doubt(self) {
        self.coherence.write(|table| table.doubt(self.token));
    }

    /// Nobody knows: the tags stay uncached until the write can no longer take place.
    pub fn leave_open(self) {
        tracing::debug!(
            token = self.token.0,
            "a write without a known end stays open"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(coherence: &Coherence, name: &str) -> Certificate {
        Certificate::new(coherence.stamp(), Tags::from_iter([Tag::named(name)]))
    }

    #[tokio::test]
    async fn a_remembered_verdict_lasts_until_the_next_record() {
        let coherence = Coherence::new(Config::default(), 1);
        let entry = certificate(&coherence, "a");
        assert_eq!(coherence.usable(&entry, Writes::Count), Ok(Standing::Good));
        assert_eq!(
            entry.checked.load(Ordering::Relaxed),
            coherence.shared.version.load(Ordering::Relaxed)
        );
        coherence.tick(Instant::now());
        assert_eq!(coherence.usable(&entry, Writes::Count), Ok(Standing::Good));
        coherence.drop_tags(&[Tag::named("a")]);
        assert_eq!(
            coherence.usable(&entry, Writes::Count),
            Err(Unusable::Dropped)
        );
    }

    #[tokio::test]
    async fn a_bounded_verdict_is_not_remembered_for_strong_readers() {
        let coherence = Coherence::new(Config::default(), 1);
        let entry = certificate(&coherence, "a");
        let intent = coherence.announce(Tags::from_iter([Tag::named("a")]));
        assert_eq!(coherence.usable(&entry, Writes::Ignore), Ok(Standing::Good));
        assert_eq!(
            coherence.usable(&entry, Writes::Count),
            Err(Unusable::Dirty)
        );
        intent.close();
        assert_eq!(coherence.usable(&entry, Writes::Count), Ok(Standing::Good));
    }

    #[tokio::test(start_paused = true)]
    async fn an_intent_that_nobody_settles_expires_as_a_drop() {
        let coherence = Coherence::new(Config::default(), 1);
        let entry = certificate(&coherence, "a");
        drop(coherence.announce(Tags::from_iter([Tag::named("a")])));
        assert_eq!(coherence.open_writes(), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(coherence.tick(Instant::now()), 1);
        assert_eq!(
            coherence.usable(&entry, Writes::Count),
            Err(Unusable::Dropped)
        );
    }
}
