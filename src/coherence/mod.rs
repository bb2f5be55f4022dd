//! Coherence: what has been dropped, when, and whether this replica may still say "hit".
//!
//! Deleting is not how entries become invalid: a slow fill could put a dead one back a moment later. Instead every drop
//! is a record of one ordered log, and every entry carries the place of that log at which its own story began, *before*
//! its request went upstream. A reader asks, last of all and with the bytes in hand, whether one of the entry's tags was
//! dropped since ([`Coherence::usable`]). A write is announced before it is forwarded and committed before its answer
//! goes out; between the two its tags are not served from the cache at all.
//!
//! # Where the log is
//!
//! Without Redis the log is in this process ([`Coherence::alone`]): a record is applied the moment it is made. With Redis
//! ([`Coherence::shared`]) it is a stream that scripts keep (`*.lua`, [`script`]), and every replica follows it on a thread
//! of its own (`follow`), so that no load delays it. A replica serves from its cache only under a *lease*: it has read the
//! log to its tail less than `lease` ago. A write waits until every replica has acknowledged it, or until the leases of
//! those who have not must have run out. The state machines of both sides are free of I/O ([`replica`], [`mod@write`]), so that
//! the same code runs here, in the simulation and under the model checker.
//!
//! What flows in: announcements, commits, drops, the tick of a clock. What flows out: stamps and verdicts. Promise: once
//! [`Intent::commit`] has returned, no replica's [`Coherence::usable`] says yes any more to what carries a committed tag
//! and was asked for before; unless it says that the write was not coordinated, which only happens when this replica is
//! cut off from the log.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::entry::{Certificate, Stamp};
use crate::metrics::CoherenceMetrics;
use crate::tag::{Tag, Tags};

pub mod clock;
mod follow;
mod intent;
pub mod log;
mod orphans;
pub mod record;
pub mod replica;
pub mod script;
pub mod table;
pub mod view;
pub mod write;

use clock::Time;
use follow::Following;
pub use follow::{Place, Status};
pub use intent::{End, Ended, Intent};
use orphans::Orphans;
use record::{Change, Record, Token};
use replica::Timing;
pub use table::{Standing, Unusable, Writes};
use view::View;
pub use write::Promise;
use write::{Do, Input, Rules, Waited, Write};

/// The knobs of `[coherence]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// What writes promise: the strictest that any route asks for.
    pub promise: Promise,
    /// How long a replica may serve from its cache without having read the log to its tail.
    pub lease: Duration,
    /// The longest time after which a forwarded write may still take place.
    pub intent_ttl: Duration,
    /// How much longer a write's tags stay uncached: the app may read from a database replica that lags.
    pub origin_lag: Duration,
    /// Whether writes go on when the log cannot be reached.
    pub forward: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            promise: Promise::Strong,
            lease: Duration::from_secs(1),
            intent_ttl: Duration::from_secs(60),
            origin_lag: Duration::ZERO,
            forward: true,
        }
    }
}

impl Config {
    fn timing(&self) -> Timing {
        Timing::new(self.lease, self.intent_ttl)
    }
}

/// The one door to the log of drops. A cheap handle.
#[derive(Clone)]
pub struct Coherence {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    view: Arc<View>,
    log: Log,
    /// Broken-off writes that are dropped once more.
    doubts: AtomicUsize,
    /// What is done later. A drain does not wait for it: it may take as long as a write may live.
    later: TaskTracker,
    orphans: Orphans,
    metrics: Arc<CoherenceMetrics>,
}

enum Log {
    Here,
    Shared(Following),
}

/// The log did not take it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The shared log cannot be reached.
    Unreachable,
    /// There is no such announcement: never, or not any more.
    Unknown,
}

/// What to drop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Purge {
    /// What carries one of these.
    Tags(Tags),
    /// What carries one of these is stale from now on.
    Soften(Tags),
    /// What this glob matches.
    Ban(Box<str>),
}

/// How a drop ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Purged {
    /// Its place in the log; `None`: the shared log could not be reached, and it was dropped here only.
    pub position: Option<u64>,
    /// Which log.
    pub epoch: u64,
    /// How many replicas there are.
    pub members: u32,
    /// Whether all of them said so; else their leases have run out.
    pub acknowledged: bool,
    /// How long that took.
    pub waited: Duration,
}

impl Coherence {
    /// A log of its own, in this process.
    #[must_use]
    pub fn alone(config: Config, epoch: u64, metrics: Arc<CoherenceMetrics>) -> Self {
        let view = Arc::new(View::new(epoch, Time::FOREVER));
        Self::new(config, view, Log::Here, metrics)
    }

    /// A log that replicas share. A thread of its own begins to follow it. To be called inside a runtime.
    ///
    /// # Errors
    ///
    /// What is wrong with the place.
    pub fn shared(
        config: Config,
        place: Place,
        metrics: Arc<CoherenceMetrics>,
    ) -> Result<Self, String> {
        let view = Arc::new(View::new(0, Time::NEVER));
        let timing = config.timing();
        let following = Following::begin(place, timing, Arc::clone(&view), Arc::clone(&metrics))?;
        Ok(Self::new(config, view, Log::Shared(following), metrics))
    }

    fn new(config: Config, view: Arc<View>, log: Log, metrics: Arc<CoherenceMetrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                view,
                log,
                doubts: AtomicUsize::new(0),
                later: TaskTracker::new(),
                orphans: Orphans::default(),
                metrics,
            }),
        }
    }

    /// The place in the log to remember *before* asking the app.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.shared.view.stamp()
    }

    /// Whether an entry, stored under this full key, may answer now. To be asked last, with the bytes in hand: the moment
    /// of the question is the moment of the read. An empty key is none: then bans do not count.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn usable(
        &self,
        certificate: &Certificate,
        key: &[u8],
        writes: Writes,
    ) -> Result<Standing, Unusable> {
        self.shared.view.usable(certificate, key, writes)
    }

    /// Whether something stamped and tagged like this may be used now: for a fill that has not ended.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn check(
        &self,
        stamp: Stamp,
        tags: &[Tag],
        key: &[u8],
        writes: Writes,
    ) -> Result<Standing, Unusable> {
        self.shared.view.check(stamp, tags, key, writes)
    }

    /// Whether this replica may serve from its cache at all.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.shared.view.holds_lease()
    }

    /// For how long this replica may serve from its cache without hearing more; `None`: for ever, the log is here.
    #[must_use]
    pub fn lease_left(&self) -> Option<Duration> {
        let lease = self.shared.view.lease();
        (lease != Time::FOREVER).then(|| lease.since(Time::now()))
    }

    /// Announces a write to these tags: from now until its end they are answered by the app alone. With a shared log this
    /// takes a round trip; a strict write waits until every replica knows.
    ///
    /// # Errors
    ///
    /// When the shared log cannot be reached and such a write must then not go on.
    ///
    /// # Cancel safety
    ///
    /// An announcement that was made stays open until it expires.
    pub async fn announce(&self, tags: Tags) -> Result<Intent, Refused> {
        self.announce_as(self.shared.config.promise, tags).await
    }

    async fn announce_as(&self, promise: Promise, tags: Tags) -> Result<Intent, Refused> {
        let mut intent = Intent {
            coherence: self.clone(),
            token: new_token(),
            announced: tags,
            write: None,
        };
        match &self.shared.log {
            Log::Here => {
                self.append(intent.token, Change::Intent(intent.announced.clone()));
            }
            Log::Shared(following) => {
                let rules = self.rules(promise);
                let mut write = Write::new(rules, intent.token, intent.announced.clone());
                let done = following.drive(&mut write, Input::Look).await;
                if done == Do::Refuse {
                    self.shared.orphans.note(intent.token, Time::now());
                    self.shared.metrics.waited_refused.observe(0.0);
                    return Err(Refused::Unreachable);
                }
                intent.write = Some(write);
            }
        }
        Ok(intent)
    }

    /// Drops things now, on every replica; waits as a strong write does.
    ///
    /// # Cancel safety
    ///
    /// A drop that has begun may or may not happen.
    pub async fn purge(&self, what: Purge) -> Purged {
        let change = match what {
            Purge::Tags(tags) => Change::Point(tags),
            Purge::Soften(tags) => Change::Soften(tags),
            Purge::Ban(text) => Change::Ban(text),
        };
        let promise = self.shared.config.promise.max(Promise::Strong);
        self.point(promise, change).await
    }

    /// Drops tags, as a write that has just been answered does.
    ///
    /// # Cancel safety
    ///
    /// A drop that has begun may or may not happen.
    pub async fn drop_tags(&self, tags: Tags) {
        let promise = self.shared.config.promise;
        self.point(promise, Change::Point(tags)).await;
    }

    async fn point(&self, promise: Promise, change: Change) -> Purged {
        let began = Time::now();
        match &self.shared.log {
            Log::Here => self.purged_here(self.append(new_token(), change)),
            Log::Shared(following) => {
                let mut write = Write::point(self.rules(promise), new_token(), change);
                let done = following.drive(&mut write, Input::Look).await;
                self.purged(following, done, began)
            }
        }
    }

    /// Announces a write that does not pass through the proxy: its token, and the position of the announcement. Waits until
    /// every replica knows, as for a strict write: whoever announces may end it at any of them, and at once.
    ///
    /// # Errors
    ///
    /// When the shared log cannot be reached.
    pub async fn open(&self, tags: Tags, ttl: Option<Duration>) -> Result<(u64, u64), Refused> {
        let intent = self.announce_as(Promise::Strict, tags).await?;
        let announced = intent.write.as_ref().is_none_or(Write::is_announced);
        if !announced {
            return Err(Refused::Unreachable);
        }
        if let Some(ttl) = ttl.filter(|ttl| *ttl < self.shared.config.intent_ttl) {
            let (coherence, token) = (self.clone(), intent.token);
            self.shared.later.spawn(async move {
                tokio::time::sleep(ttl).await;
                coherence.expire(token).await;
            });
        }
        let position = intent
            .write
            .as_ref()
            .and_then(Write::announced_at)
            .unwrap_or_else(|| self.stamp().seq);
        Ok((intent.token.0, position))
    }

    /// Ends an announced write. Committed without tags, it changed all that was announced.
    ///
    /// # Errors
    ///
    /// When there is no such announcement and nothing else is named.
    pub async fn settle(&self, token: u64, committed: bool, tags: Tags) -> Result<Purged, Refused> {
        let token = Token(token);
        let announced = self
            .shared
            .view
            .read(|table| table.announced(token).cloned());
        let tags = match (announced.clone(), committed) {
            (Some(announced), true) if tags.is_empty() => announced,
            (Some(_), _) => tags,
            (None, true) if !tags.is_empty() => tags,
            (None, _) => return Err(Refused::Unknown),
        };
        let began = Time::now();
        match &self.shared.log {
            Log::Here => {
                let change = match (committed, announced.is_some()) {
                    (true, true) => Change::Commit(tags),
                    (true, false) => Change::Point(tags),
                    (false, _) => Change::Close,
                };
                Ok(self.purged_here(self.append(token, change)))
            }
            Log::Shared(following) => {
                let promise = self.shared.config.promise.max(Promise::Strong);
                let change = if committed {
                    Change::Commit(tags)
                } else {
                    Change::Close
                };
                let mut write = Write::point(self.rules(promise), token, change);
                let done = following.drive(&mut write, Input::Look).await;
                Ok(self.purged(following, done, began))
            }
        }
    }

    /// Ends announcements whose time is over, and forgets old drops. To be called every second or so; how many ended.
    pub async fn tick(&self) -> usize {
        self.tick_at(Time::now()).await
    }

    async fn tick_at(&self, now: Time) -> usize {
        let view = &self.shared.view;
        view.forget_old(now);
        let ttl = match &self.shared.log {
            Log::Here => self.shared.config.intent_ttl,
            Log::Shared(_) => self.shared.config.timing().quarantine,
        };
        let overdue = view.read(|table| table.overdue(now, ttl));
        let mut ended = 0;
        for (token, _) in &overdue {
            ended += usize::from(self.expire(*token).await);
        }
        let lag = self.shared.config.origin_lag;
        for token in self.shared.orphans.settled(now, lag, ttl) {
            self.expire(token).await;
        }
        if ended > 0 {
            tracing::warn!(
                writes = ended,
                "writes without a known end: what they may have changed is dropped"
            );
        }
        ended
    }

    /// Ends an announcement whose end nobody saw as if the write had taken place; whether it is ended.
    async fn expire(&self, token: Token) -> bool {
        let announced = self
            .shared
            .view
            .read(|table| table.announced(token).cloned());
        let Some(tags) = announced else {
            return false;
        };
        match &self.shared.log {
            Log::Here => {
                self.append(token, Change::Expire(tags));
                true
            }
            Log::Shared(following) => following.expire(token).await,
        }
    }

    /// How many writes are under way.
    #[must_use]
    pub fn open_writes(&self) -> usize {
        self.shared.view.read(table::Table::open_writes)
    }

    /// How this replica stands, for people.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match &self.shared.log {
            Log::Here => None,
            Log::Shared(following) => Some(following.status()),
        }
    }

    /// Reads the log until it holds what a session has seen (`EPOCH-SEQ`), or for this long; whether it does.
    ///
    /// # Cancel safety
    ///
    /// Nothing depends on it.
    pub async fn catch_up(&self, epoch: u64, seq: u64, within: Duration) -> bool {
        match &self.shared.log {
            Log::Here => true,
            Log::Shared(following) => following.catch_up(epoch, seq, within).await,
        }
    }

    /// Stops serving from the cache, and tells the others not to wait for this replica.
    pub async fn leave(&self) {
        if let Log::Shared(following) = &self.shared.log {
            following.leave().await;
        }
    }

    fn rules(&self, promise: Promise) -> Rules {
        Rules {
            promise,
            timing: self.shared.config.timing(),
            forward: self.shared.config.forward,
        }
    }

    /// Appends a record to the log in this process; its number.
    fn append(&self, token: Token, change: Change) -> u64 {
        self.shared.view.change(|table| {
            let seq = table.stamp().seq + 1;
            table.apply(&Record { seq, token, change }, Time::now());
            seq
        })
    }

    fn purged_here(&self, seq: u64) -> Purged {
        Purged {
            position: Some(seq),
            epoch: self.stamp().epoch,
            members: 1,
            acknowledged: true,
            waited: Duration::ZERO,
        }
    }

    fn purged(&self, following: &Following, done: Do, began: Time) -> Purged {
        let waited = Time::now().since(began);
        let (position, epoch, acknowledged) = match done {
            Do::Answer(Waited::Acknowledged { seq, epoch }) => (Some(seq), epoch, true),
            Do::Answer(Waited::Lease { seq, epoch }) => (Some(seq), epoch, false),
            Do::Answer(Waited::Uncoordinated(tags)) => {
                following.journal(tags);
                (None, 0, false)
            }
            Do::Answer(Waited::Nothing) => (Some(0), 0, true),
            Do::Call(_) | Do::Wait(_) | Do::Forward | Do::Refuse => (None, 0, false),
        };
        Purged {
            position,
            epoch,
            members: following.status().members,
            acknowledged,
            waited,
        }
    }
}

fn new_token() -> Token {
    let mut random = [0; 8];
    // Without randomness nothing else here works either; a clash of tokens closes another write with a drop.
    if getrandom::fill(&mut random).is_err() {
        return Token(Time::now().0);
    }
    Token(u64::from_be_bytes(random) | 1)
}

impl fmt::Debug for Coherence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coherence")
            .field("config", &self.shared.config)
            .field("stamp", &self.stamp())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
