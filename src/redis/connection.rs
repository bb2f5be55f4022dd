//! One connection to Redis at a time: made, watched, given up, made again, for ever.
//!
//! fred can reconnect by itself; it is not let to. What it does then is hard to see through (commands that wait for a
//! connection, hung servers that it keeps writing to), and a connection that is one value from its beginning to its end
//! can be named: what was sent over it went to one server. So each [`Connection`] is a fred client of its own that never
//! reconnects, and [`keep`] makes the next one. What flows out: the current connection, or none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind};
use fred::interfaces::{ClientLike, ClusterInterface, FredResult, Resp3Frame};
use fred::types::config::{Options, Server};
use fred::types::{ClusterHash, CustomCommand};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::breaker::Breaker;
use super::command::{Order, Place};
use super::dial::{Dialer, Failure};
use crate::metrics::RedisMetrics;

/// A connection that has left this many deadlines unanswered for this long is given up.
const SILENCE: Duration = Duration::from_millis(500);
/// A connection younger than this is not given up because of what the server says: the next one will hear the same.
const TRIAL: Duration = Duration::from_secs(2);
/// How often a connection is asked whether it still lives.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The first pause between two attempts to connect.
const SHORTEST: Duration = Duration::from_millis(50);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(1);

/// Where the current connection stands.
pub(super) type Current = watch::Receiver<Option<Arc<Connection>>>;

/// A connection (in a cluster: one to each master), from its beginning to its end.
pub(super) struct Connection {
    client: Client,
    began: Instant,
    /// When the first of the commands that nothing was heard of since ran out of time. A standard lock: held for a
    /// comparison.
    silent_since: Mutex<Option<Instant>>,
    given_up: CancellationToken,
}

impl Connection {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            began: Instant::now(),
            silent_since: Mutex::new(None),
            given_up: CancellationToken::new(),
        }
    }

    /// Sends one command and waits for its reply. An error reply is a frame here: every error is this side's.
    ///
    /// Commands go as custom ones, because fred ignores the options of scripts that are sent in its own way.
    pub(super) async fn send(&self, order: Order) -> Result<Resp3Frame, FredError> {
        let (node, hash) = match order.to {
            Place::Slot(slot) => (None, ClusterHash::Custom(slot)),
            Place::Node(node) => (Some(node), ClusterHash::FirstKey),
            Place::Any => (None, ClusterHash::Random),
        };
        let options = Options {
            max_attempts: Some(1),
            timeout: Some(order.timeout),
            fail_fast: true,
            cluster_node: node,
            ..Options::default()
        };
        let custom = CustomCommand::new_static(order.name, hash, false);
        let client = self.client.with_options(&options);
        // fred's futures are large, and those of every caller would be.
        let sent = Box::pin(client.custom_raw(custom, order.arguments));
        let result = tokio::select! {
            biased;
            result = sent => result,
            // A client that has ended takes commands all the same, and lets them wait.
            () = self.given_up.cancelled() => Err(FredError::new(ErrorKind::IO, "the connection ended")),
        };
        match &result {
            Ok(frame) => self.heard(frame),
            Err(error) if *error.kind() == ErrorKind::Timeout => self.unheard(Instant::now()),
            Err(_) => {}
        }
        result
    }

    /// The masters of a cluster.
    pub(super) fn masters(&self) -> Vec<Server> {
        let cluster = self.client.cached_cluster_state();
        cluster.map_or_else(Vec::new, |cluster| cluster.unique_primary_nodes())
    }

    /// Asks whether the other side lives.
    async fn ping(&self, timeout: Duration) {
        let order = Order::ping(timeout);
        if let Err(error) = self.send(order).await {
            tracing::debug!(%error, "Redis does not answer to a ping");
            self.given_up.cancel();
        }
    }

    fn heard(&self, frame: &Resp3Frame) {
        *self.silence() = None;
        // Another server may be the primary now, or other credentials valid: both are looked up when connecting.
        let text = match frame {
            Resp3Frame::SimpleError { data, .. } => &**data,
            _ => return,
        };
        let wrong_server = ["READONLY", "MASTERDOWN", "NOAUTH"];
        if wrong_server.iter().any(|code| text.starts_with(code)) && self.began.elapsed() > TRIAL {
            self.given_up.cancel();
        }
    }

    fn unheard(&self, now: Instant) {
        let since = *self.silence().get_or_insert(now);
        if now - since >= SILENCE {
            self.given_up.cancel();
        }
    }

    fn silence(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.silent_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection, for ever.
pub(super) async fn keep(
    mut dialer: Dialer,
    current: watch::Sender<Option<Arc<Connection>>>,
    breaker: Arc<Breaker>,
    metrics: Arc<RedisMetrics>,
) {
    let mut pause = Pause::default();
    let mut told = Told::new(dialer.url(), metrics.used_for);
    loop {
        match dialer.dial().await {
            Ok((client, end)) => {
                let connection = Arc::new(Connection::new(client));
                dialer.remember(connection.masters());
                current.send_replace(Some(Arc::clone(&connection)));
                metrics.up.set(1);
                breaker.try_again(Instant::now());
                told.up();
                let failure = watch_over(&connection, end, dialer.patience()).await;
                current.send_replace(None);
                connection.given_up.cancel();
                metrics.up.set(0);
                told.down(&failure);
                // One that was lost at once is no reason to hurry.
                if connection.began.elapsed() > LONGEST {
                    pause = Pause::default();
                }
            }
            Err(failure) => told.down(&failure),
        }
        pause.wait().await;
    }
}

/// Waits until a connection ends or is given up. Dropping the handle closes whatever is still open.
async fn watch_over(
    connection: &Connection,
    mut end: AbortOnDropHandle<FredResult<()>>,
    patience: Duration,
) -> Failure {
    let mut beat = tokio::time::interval_at(connection.began + HEARTBEAT, HEARTBEAT);
    loop {
        tokio::select! {
            ended = &mut end => return Failure::of_end(ended),
            () = connection.given_up.cancelled() => {
                return Failure::away("given up: no answers, or not from a primary".to_owned());
            }
            _ = beat.tick() => connection.ping(patience).await,
        }
    }
}

/// The pause before the next attempt: it doubles, with up to a quarter more at random, so that replicas do not come in step.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(SHORTEST)
    }
}

impl Pause {
    pub(super) async fn wait(&mut self) {
        let now = self.0;
        self.0 = (now * 2).min(LONGEST);
        let more = getrandom::u32().unwrap_or_default() % 256;
        tokio::time::sleep(now + now * more / 1024).await;
    }
}

/// What was said of the connection last: each change is said once.
struct Told {
    url: Arc<str>,
    used_for: &'static str,
    last: Option<State>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Up,
    Away,
    Refused,
}

impl Told {
    fn new(url: Arc<str>, used_for: &'static str) -> Self {
        Self {
            url,
            used_for,
            last: None,
        }
    }

    fn up(&mut self) {
        if self.last.replace(State::Up) != Some(State::Up) {
            tracing::info!(url = %self.url, used_for = self.used_for, "connected to Redis");
        }
    }

    fn down(&mut self, failure: &Failure) {
        let (state, message) = match failure.refused {
            true => (State::Refused, "Redis refuses the user or the password"),
            false => (State::Away, "Redis cannot be reached"),
        };
        let (url, used_for, reason) = (&*self.url, self.used_for, &failure.reason);
        if self.last.replace(state) == Some(state) {
            tracing::debug!(url, used_for, reason, "{message}");
        } else {
            tracing::warn!(url, used_for, reason, "{message}");
        }
    }
}
