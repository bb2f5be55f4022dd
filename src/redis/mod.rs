//! Redis: one handle, whatever stands behind it (a server, Sentinels, a cluster), and whatever becomes of it.
//!
//! What flows in: commands. What flows out: their replies, or why there is none, in bounded time. It knows no cache and no
//! log. Promises:
//!
//! - Nothing here waits for Redis to be there: a process starts without it, every command ends within its deadline, and
//!   without a connection it ends at once. Connecting goes on in the background, for ever, with the password as it is then.
//! - A Redis that does not answer costs a few deadlines; then the `breaker` answers for it.
//! - No command is sent twice by itself. A command that ran out of time may still be carried out later: what is written
//!   has to carry its own freshness.
//! - Replies are copies: keeping one keeps no network buffer alive.
//!
//! # What fred is not trusted with
//!
//! Reconnecting (`connection`), bounding what waits (`Busy`), the options of scripts (every command is a custom one), and
//! lists: a reply of three or four elements that begins with `subscribe`, `unsubscribe` or `message` is taken for a
//! subscription's, and every later reply goes to the wrong caller. So scripts answer with one string, nothing here reads
//! lists but [`Redis::scan`] (two elements, the first a number), and a value that is read from Redis has to name its key.
//!
//! # What a user of Redis needs the right to do
//!
//! `+@connection +info +get +getrange +set +unlink +eval +evalsha +wait +scan +subscribe`, in a cluster also `+cluster`, behind
//! Sentinels `+role`; what the scripts do; and the keys and channels of the prefix.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::Resp3Frame;
use fred::types::Value;
use fred::util::redis_keyslot;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::metrics::RedisMetrics;

mod address;
mod breaker;
mod command;
mod connection;
mod dial;
mod error;
mod password;
mod reply;
mod script;
mod subscription;
mod tls;

pub use address::with_database;
use breaker::Breaker;
pub use command::Command;
use command::{Order, Place, Tally};
use connection::{Connection, Current};
use dial::Dialer;
use error::NOT_CONNECTED;
pub use error::{Error, Kind};
pub use password::Password;
use reply::{kind_of, page_of, text_or_nothing};
pub use script::Script;
pub use subscription::{Heard, Subscription};

/// Whether a URL is one that [`Redis::new`] can read.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_url(url: &str) -> Result<(), String> {
    address::Address::parse(url).map(drop)
}

/// How many commands of one handle may be under way. Those that a hung server has not read stay in memory, so there is
/// an end to them.
pub const MAX_IN_FLIGHT: usize = 512;

/// The least deadline of a command that looks at many keys.
const SCAN_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a Redis is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Config {
    /// `redis://`, `rediss://`, `redis-sentinel://`, `redis-cluster://`, `redis+unix://`; never with a password. The module
    /// `address` says what else it may hold.
    pub url: String,
    /// The password.
    pub password: Password,
    /// How long a command may take.
    pub command_timeout: Duration,
}

/// A handle on one Redis. Clones share everything; with the last one the connection closes.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    dialer: Dialer,
    timeout: Duration,
    current: Current,
    breaker: Arc<Breaker>,
    in_flight: Semaphore,
    tally: Tally,
    /// Keeps the connection; ends with this.
    _keeper: AbortOnDropHandle<()>,
}

/// What a script answered, and over which connection.
pub struct Ran {
    /// The reply.
    pub reply: Bytes,
    redis: Redis,
    connection: Arc<Connection>,
    to: Place,
}

impl Redis {
    /// Reads the configuration and begins to connect. No I/O yet, but for the certificates that an encrypted address names.
    /// To be called inside a runtime.
    ///
    /// # Errors
    ///
    /// What is wrong with the address.
    pub fn new(config: Config, metrics: Arc<RedisMetrics>) -> Result<Self, String> {
        let dialer = Dialer::new(&config.url, config.password, config.command_timeout)?;
        let (sender, current) = watch::channel(None);
        let breaker = Arc::new(Breaker::new(metrics.breaker_open.clone()));
        let tally = Tally::new(&metrics);
        let keeper = connection::keep(dialer.clone(), sender, Arc::clone(&breaker), metrics);
        let keeper = TaskTracker::new().spawn(keeper);
        Ok(Self {
            shared: Arc::new(Shared {
                dialer,
                timeout: config.command_timeout,
                current,
                breaker,
                in_flight: Semaphore::new(MAX_IN_FLIGHT),
                tally,
                _keeper: AbortOnDropHandle::new(keeper),
            }),
        })
    }

    /// Whether there is a connection, and the last commands on it were answered.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.current.borrow().is_some() && !self.shared.breaker.is_open()
    }

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// Why it was not read.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let order = self.to_key(Command::Get, "GET", key, []);
        self.send(order)
            .await
            .and_then(text_or_nothing(Command::Get))
    }

    /// Reads the first `end` bytes of a value. An empty one is taken for none: Redis does not tell them apart.
    ///
    /// # Errors
    ///
    /// Why it was not read.
    pub async fn get_range(&self, key: &str, end: usize) -> Result<Option<Bytes>, Error> {
        let Some(last) = end.checked_sub(1) else {
            return Ok(None);
        };
        let last = i64::try_from(last).unwrap_or(i64::MAX);
        let order = self.to_key(Command::Get, "GETRANGE", key, [0.into(), last.into()]);
        let value = self
            .send(order)
            .await
            .and_then(text_or_nothing(Command::Get))?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// Writes a value that goes after `keep`.
    ///
    /// # Errors
    ///
    /// Why it may not have been written.
    pub async fn set(&self, key: &str, value: Bytes, keep: Duration) -> Result<(), Error> {
        let arguments = [value.into(), "PX".into(), milliseconds(keep)];
        let order = self.to_key(Command::Set, "SET", key, arguments);
        self.send(order).await.map(drop)
    }

    /// Writes a value that goes after `keep`, if there is none; whether it did.
    ///
    /// # Errors
    ///
    /// Why it may not have been written.
    pub async fn set_if_absent(
        &self,
        key: &str,
        value: Bytes,
        keep: Duration,
    ) -> Result<bool, Error> {
        let arguments = [value.into(), "NX".into(), "PX".into(), milliseconds(keep)];
        let order = self.to_key(Command::Set, "SET", key, arguments);
        let reply = self.send(order).await?;
        Ok(!matches!(reply, Resp3Frame::Null))
    }

    /// Removes a value, if there is one.
    ///
    /// # Errors
    ///
    /// Why it may still be there.
    pub async fn unlink(&self, key: &str) -> Result<(), Error> {
        let order = self.to_key(Command::Del, "UNLINK", key, []);
        self.send(order).await.map(drop)
    }

    /// Runs a script that answers with one string. In a cluster its keys are in one slot.
    ///
    /// # Errors
    ///
    /// Why it may not have run.
    pub async fn run(
        &self,
        script: &Script,
        keys: &[String],
        arguments: Vec<Bytes>,
    ) -> Result<Bytes, Error> {
        Ok(self.run_here(script, keys, arguments).await?.reply)
    }

    /// The same, and hands out what [`Ran::wait_for_copies`] needs.
    ///
    /// # Errors
    ///
    /// Why it may not have run.
    pub async fn run_here(
        &self,
        script: &Script,
        keys: &[String],
        arguments: Vec<Bytes>,
    ) -> Result<Ran, Error> {
        let deadline = Instant::now() + self.shared.timeout;
        let order = |name, script: &str, timeout| {
            let mut all: Vec<Value> = Vec::with_capacity(2 + keys.len() + arguments.len());
            all.push(script.into());
            all.push(i64::try_from(keys.len()).unwrap_or(i64::MAX).into());
            all.extend(keys.iter().map(|key| Value::from(key.as_str())));
            all.extend(arguments.iter().cloned().map(Value::from));
            Order {
                command: Command::Script,
                name,
                arguments: all,
                to: keys.first().map_or(Place::Any, |key| slot(key)),
                timeout,
            }
        };
        let by_hash = order("EVALSHA", &script.hash, self.shared.timeout);
        let to = by_hash.to.clone();
        let ran = match self.send_over(None, by_hash).await {
            Err(error) if error.code() == "NOSCRIPT" => {
                let left = deadline.saturating_duration_since(Instant::now());
                let left = left.max(Duration::from_millis(1));
                self.send_over(None, order("EVAL", &script.text, left))
                    .await
            }
            ran => ran,
        };
        let (frame, connection) = ran?;
        let reply = text_or_nothing(Command::Script)(frame)?;
        let nothing = || {
            Error::new(
                Kind::Reply,
                Command::Script,
                format!("{} answered nothing", script.name),
            )
        };
        Ok(Ran {
            reply: reply.ok_or_else(nothing)?,
            redis: self.clone(),
            connection,
            to,
        })
    }

    /// Waits until `copies` replicas have all that was written over the current connection; how many have. In a cluster,
    /// and where the connection may have changed since, [`Ran::wait_for_copies`] is the one that is right: a connection
    /// over which nothing was written is told that every replica has it.
    ///
    /// # Errors
    ///
    /// Why nobody knows.
    pub async fn wait_for_copies(&self, copies: u32, within: Duration) -> Result<u32, Error> {
        self.wait(None, Place::Any, copies, within).await
    }

    /// Lists the keys that match a pattern, on every master, some `batch` keys at a time. `visit` is handed each batch and
    /// says whether to go on. A key may come twice; one that is no text is left out.
    ///
    /// # Errors
    ///
    /// Why the list is not complete.
    pub async fn scan(
        &self,
        pattern: &str,
        batch: u32,
        mut visit: impl AsyncFnMut(Vec<String>) -> bool,
    ) -> Result<(), Error> {
        let places = match self.connection() {
            Some(connection) if self.shared.dialer.is_clustered() => {
                let masters = connection.masters().into_iter();
                masters.map(Place::Node).collect()
            }
            _ => vec![Place::Any],
        };
        for place in places {
            let mut cursor = "0".to_owned();
            loop {
                let (next, keys) = self.page(&place, &cursor, pattern, batch).await?;
                if !keys.is_empty() && !visit(keys).await {
                    return Ok(());
                }
                if next == "0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }

    /// Listens to channels, over a connection of its own.
    #[must_use]
    pub fn subscribe(&self, channels: Vec<String>) -> Subscription {
        Subscription::new(self.shared.dialer.clone(), channels)
    }

    async fn page(
        &self,
        place: &Place,
        cursor: &str,
        pattern: &str,
        batch: u32,
    ) -> Result<(String, Vec<String>), Error> {
        let words: [Value; 5] = [
            cursor.into(),
            "MATCH".into(),
            pattern.into(),
            "COUNT".into(),
            batch.max(1).into(),
        ];
        let order = Order {
            command: Command::Scan,
            name: "SCAN",
            arguments: words.into(),
            to: place.clone(),
            timeout: self.shared.timeout.max(SCAN_TIMEOUT),
        };
        let frame = self.send(order).await?;
        page_of(frame).ok_or_else(|| Error::new(Kind::Reply, Command::Scan, "that is no page"))
    }

    async fn wait(
        &self,
        over: Option<&Arc<Connection>>,
        to: Place,
        copies: u32,
        within: Duration,
    ) -> Result<u32, Error> {
        let order = Order {
            command: Command::Wait,
            name: "WAIT",
            arguments: vec![copies.into(), milliseconds(within)],
            to,
            timeout: within + self.shared.timeout,
        };
        let (frame, _) = self.send_over(over, order).await?;
        let count = match frame {
            Resp3Frame::Number { data, .. } => u32::try_from(data).ok(),
            _ => None,
        };
        count.ok_or_else(|| Error::new(Kind::Reply, Command::Wait, "that is no number"))
    }

    fn to_key<const N: usize>(
        &self,
        command: Command,
        name: &'static str,
        key: &str,
        more: [Value; N],
    ) -> Order {
        let mut arguments = Vec::with_capacity(1 + N);
        arguments.push(Value::from(key));
        arguments.extend(more);
        Order {
            command,
            name,
            arguments,
            to: slot(key),
            timeout: self.shared.timeout,
        }
    }

    fn connection(&self) -> Option<Arc<Connection>> {
        self.shared.current.borrow().clone()
    }

    async fn send(&self, order: Order) -> Result<Resp3Frame, Error> {
        Ok(self.send_over(None, order).await?.0)
    }

    /// Sends a command over this connection, or over the current one; and says over which.
    async fn send_over(
        &self,
        over: Option<&Arc<Connection>>,
        order: Order,
    ) -> Result<(Resp3Frame, Arc<Connection>), Error> {
        let (command, began) = (order.command, Instant::now());
        let result = self.attempt(over, order, began).await;
        self.shared.tally.ended(command, began.elapsed(), &result);
        result
    }

    async fn attempt(
        &self,
        over: Option<&Arc<Connection>>,
        order: Order,
        now: Instant,
    ) -> Result<(Resp3Frame, Arc<Connection>), Error> {
        let command = order.command;
        let fail = |kind, text: &str| Error::new(kind, command, text);
        let Some(permit) = self.shared.breaker.admit(now) else {
            return Err(fail(
                Kind::Breaker,
                "left alone, because it does not answer",
            ));
        };
        let Ok(_turn) = self.shared.in_flight.try_acquire() else {
            return Err(fail(Kind::Busy, "too many commands are under way"));
        };
        let Some(connection) = over.cloned().or_else(|| self.connection()) else {
            permit.failed(now);
            return Err(fail(Kind::Connection, NOT_CONNECTED));
        };
        match connection.send(order).await {
            Ok(Resp3Frame::SimpleError { data, .. }) => {
                permit.answered();
                Err(fail(Kind::Reply, &data))
            }
            Ok(Resp3Frame::BlobError { data, .. }) => {
                permit.answered();
                Err(fail(Kind::Reply, &String::from_utf8_lossy(&data)))
            }
            Ok(frame) => {
                permit.answered();
                Ok((frame, connection))
            }
            Err(error) => {
                permit.failed(Instant::now());
                Err(fail(kind_of(&error), error.details()))
            }
        }
    }
}

impl Ran {
    /// Waits until `copies` replicas have what the script wrote; how many have. Asked over the very connection that the
    /// script ran over: on another one the answer would be worth nothing.
    ///
    /// # Errors
    ///
    /// Why nobody knows; that connection may have ended.
    pub async fn wait_for_copies(&self, copies: u32, within: Duration) -> Result<u32, Error> {
        let over = Some(&self.connection);
        self.redis.wait(over, self.to.clone(), copies, within).await
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("url", &self.shared.dialer.url())
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ran").field(&self.reply).finish()
    }
}

/// The place of a key; without a cluster it says nothing.
fn slot(key: &str) -> Place {
    Place::Slot(redis_keyslot(key.as_bytes()))
}

fn milliseconds(time: Duration) -> Value {
    // 0 would be refused, or wait for ever.
    let milliseconds = time.as_millis().max(1);
    i64::try_from(milliseconds).unwrap_or(i64::MAX).into()
}
