//! The connections that wait for a request, and the lease on the one that has it.
//!
//! A connection comes back as soon as its exchange is over, and is asked whether it is ready when it is taken:
//! so the next request finds it even if hyper is still a few microseconds behind.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tracing::debug;

use super::connector::{Progress, Stream};
use super::outgoing::{Outgoing, Upload};
use super::wire::Glance;

/// How long a returned connection may take to become ready before another is used.
const SETTLING: Duration = Duration::from_millis(10);

/// A connection that can take a request.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Outgoing>,
    progress: Progress,
    glance: Glance,
    task: AbortHandle,
}

impl Connection {
    pub(super) fn new(
        sender: SendRequest<Outgoing>,
        (progress, glance): (Progress, Glance),
        task: AbortHandle,
    ) -> Self {
        Self {
            sender,
            progress,
            glance,
            task,
        }
    }

    /// Whether the next request may go out on it. What has come unasked, or that the app has closed it, may be news to
    /// the task that reads it.
    async fn is_usable(&mut self) -> bool {
        let is_ready = self.sender.is_ready()
            || matches!(timeout(SETTLING, self.sender.ready()).await, Ok(Ok(())));
        is_ready && self.glance.is_silent()
    }
}

/// The idle connections, in the order they came back.
#[derive(Debug)]
pub(super) struct Pool {
    idle_timeout: Duration,
    /// Behind a mutex: taken for a push or a pop.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<(Instant, Connection)>,
    closed: bool,
}

impl Pool {
    pub(super) fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            state: Mutex::default(),
        }
    }

    /// The connection used last that is still good. The others may then grow old and be closed.
    pub(super) async fn reuse(&self) -> Option<Connection> {
        loop {
            let mut connection = self.take(Instant::now())?;
            if connection.is_usable().await {
                return Some(connection);
            }
            connection.task.abort();
        }
    }

    fn take(&self, now: Instant) -> Option<Connection> {
        self.expire(now);
        self.lock().idle.pop().map(|(_, connection)| connection)
    }

    fn put(&self, connection: Connection) {
        let mut state = self.lock();
        if !state.closed && !connection.sender.is_closed() {
            state.idle.push((Instant::now(), connection));
        }
    }

    /// Closes what has been idle for too long, and forgets what the app has closed.
    pub(super) fn expire(&self, now: Instant) {
        self.lock().idle.retain(|(since, connection)| {
            now.saturating_duration_since(*since) < self.idle_timeout
                && !connection.sender.is_closed()
        });
    }

    /// Closes every idle connection and takes none back.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.idle.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.lock().idle.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One exchange's hold on a connection and on a place among those with the app.
///
/// Dropped before the exchange is over, it closes the connection: what is left of the answer must not meet the next
/// request. The place is given back after that.
#[derive(Debug)]
pub(super) struct Lease {
    /// `None` only while it is being dropped.
    connection: Option<Connection>,
    pool: Arc<Pool>,
    upload: Option<Arc<Upload>>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(super) fn new(
        connection: Connection,
        pool: Arc<Pool>,
        upload: Option<Arc<Upload>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            connection: Some(connection),
            pool,
            upload,
            _permit: permit,
        }
    }

    /// Goes on with another connection.
    pub(super) fn renew(&mut self, connection: Connection) {
        if let Some(lost) = self.connection.replace(connection) {
            lost.task.abort();
        }
    }

    pub(super) fn sender(&mut self) -> &mut SendRequest<Outgoing> {
        &mut self
            .connection
            .as_mut()
            .expect("a lease has a connection until it ends")
            .sender
    }

    /// What the connection tells.
    pub(super) fn progress(&self) -> &Progress {
        &self
            .connection
            .as_ref()
            .expect("a lease has a connection until it ends")
            .progress
    }

    pub(super) fn upload_failed(&self) -> bool {
        self.upload
            .as_ref()
            .is_some_and(|upload| upload.has_failed())
    }

    /// The whole answer has been read. The connection can serve again, unless the app did not wait for the request.
    pub(super) fn finish(mut self) {
        if self
            .upload
            .as_ref()
            .is_none_or(|upload| upload.is_finished())
            && let Some(connection) = self.connection.take()
        {
            self.pool.put(connection);
        }
    }

    /// The connection belongs to another protocol now.
    pub(super) fn upgraded(mut self) {
        self.connection = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.task.abort();
        }
    }
}

/// Makes an HTTP/1.1 connection of a stream: its sender, and the future that moves its bytes.
pub(super) async fn handshake(
    stream: Stream,
) -> hyper::Result<(
    SendRequest<Outgoing>,
    impl Future<Output = hyper::Result<()>> + Send,
)> {
    let (sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await?;
    Ok((sender, connection.with_upgrades()))
}

/// Moves a connection's bytes until it ends. Now and then it also looks for connections that have grown old: while
/// there is one to close, there is a task like this to notice.
pub(super) async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    pool: Weak<Pool>,
    idle_timeout: Duration,
) {
    let mut connection = pin!(connection);
    let period = idle_timeout.max(Duration::from_millis(1));
    let mut sweeps = tokio::time::interval_at(Instant::now() + period, period);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = tokio::select! {
            biased;
            ended = &mut connection => {
                return ended.unwrap_or_else(|error| debug!(%error, "upstream connection failed"));
            }
            now = sweeps.tick() => now,
        };
        if let Some(pool) = pool.upgrade() {
            pool.expire(now);
        }
    }
}
