//! Sockets to requests, for any service: this module knows neither the proxy nor the admin interface.
//!
//! **Owns** the listening socket, one task per connection, and the roster of open connections.
//! **In:** an [`Address`], a [`Config`], a service (any `Fn(Request<Body>) -> impl Future<Output = Response<Body>>`)
//! and a future that says when to stop. **Out:** requests that carry their [`Peer`] in the extensions, and at the
//! end a [`Drained`].
//!
//! ```text
//! Listener ─ slot ─ socket ─ [TLS] ─ Io ─ hyper ─ service
//!                                     │      │
//!                                  Activity ─┴─ InFlight (travels with the answer's body)
//!                                     │
//!                    Roster: one sweep per tick looks at every Activity and gives orders
//! ```
//!
//! **Promises**
//!
//! - Time limits cost a request a few relaxed atomic operations: no timer and no clock is touched on its way.
//!   One sweep per listener enforces them, at most one tick ([`Config::tick`]) late.
//! - A request in flight is never idle: its connection is closed only by a client that takes nothing of the
//!   answer (over HTTP/2 its stream is reset instead), or by the end of the drain. Upgraded connections leave the
//!   roster and are never timed out.
//! - More connections than [`Config::max_connections`] wait in the kernel's backlog; none is refused.
//! - A drain loses no request that had arrived: the backlog is emptied before the socket is closed.
//! - When the future of [`serve`] is dropped, its connections end: no task outlives its owner.
//! - Every limit has a counter, and every connection ends for exactly one reason
//!   ([`ServerMetrics`]).
//! - Interim answers reach the HTTP/1.1 client they were made for, and no other ([`Hints`]).
//! - A request that two servers may read in two ways (two hosts, an unknown transfer coding) is refused here.
//!
//! A client that closes its sending side has left (`half_close` is off, as in nginx): its request is dropped, which
//! frees whatever it was waiting for.

mod activity;
mod connection;
mod deadlines;
mod ending;
mod exchange;
mod fault;
mod interim;
mod listener;
mod roster;
mod stream;
mod streams;
pub mod tls;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::time::{Instant, MissedTickBehavior};

use crate::body::Body;
use crate::metrics::ServerMetrics;

use self::connection::Connections;
pub use self::interim::Hints;
pub use self::listener::{Address, BindError, Listener, ParseAddressError};

/// How a listener treats its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// From the first byte of a request's head to its end; for the first request of a connection, also from the
    /// opening (the TLS handshake included) to the first byte. Later: 408, and the connection is closed.
    pub header_timeout: Duration,
    /// How long a connection without a request is kept, and how long a client may take nothing of an answer that
    /// waits for it.
    pub idle_timeout: Duration,
    /// Between two reads of a request's body. Later: the body ends with an error of kind `TimedOut`.
    pub body_timeout: Duration,
    /// From the signal to stop until the connections that remain are cut.
    pub drain_timeout: Duration,
    /// Open connections, upgraded ones included. More wait in the kernel's backlog.
    pub max_connections: usize,
    /// Bytes of a request's head. Larger: 431. Less than 8 KiB counts as 8 KiB.
    pub max_head: usize,
}

impl Default for Config {
    fn default() -> Self {
        let idle = Duration::from_secs(75);
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: idle,
            body_timeout: idle,
            drain_timeout: Duration::from_secs(20),
            max_connections: 10_000,
            max_head: 64 * 1024,
        }
    }
}

impl Config {
    /// How often the connections are looked at: an eighth of the shorter limit, between 10 ms and 1 s.
    #[must_use]
    pub fn tick(&self) -> Duration {
        let shorter = self.header_timeout.min(self.idle_timeout);
        (shorter / 8).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}

/// Who is at the other end of a connection; in the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address of the socket's other end, an IPv4 one in its own form; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Where interim answers to this request go; `None` where the protocol has none, or we cannot send them.
    pub hints: Option<Hints>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Every connection ended by itself within the drain timeout.
    pub completed: bool,
    /// Connections that were cut at its end.
    pub cut: usize,
}

/// Accepts connections and serves them until `shutdown` resolves, then drains.
///
/// The service gets every request with its [`Peer`] in the extensions. Its future is dropped when the client
/// leaves. On a hit nothing is allocated here but what the extensions need.
///
/// # Cancel safety
///
/// Dropping the future cuts every connection at once.
pub async fn serve<S, F>(
    mut listener: Listener,
    config: Config,
    service: S,
    (tls, metrics): (Option<Arc<rustls::ServerConfig>>, Arc<ServerMetrics>),
    shutdown: impl Future,
) -> Drained
where
    S: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut shutdown = std::pin::pin!(shutdown);
    let mut ticks = tokio::time::interval(config.tick());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let connections = Connections::new(config, tls, metrics);
    loop {
        tokio::select! {
            biased;
            _ = &mut shutdown => break,
            now = ticks.tick() => connections.roster().sweep(now),
            accepted = listener.accept(connections.slots(), connections.metrics()) => connections.open(accepted, service.clone()),
        }
    }
    for accepted in listener.into_backlog(connections.slots()) {
        connections.open(accepted, service.clone());
    }
    connections.drain(Instant::now()).await
}

#[cfg(test)]
mod tests;
