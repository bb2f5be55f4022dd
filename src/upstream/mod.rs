//! The app behind one handle: send it a request, get its response.
//!
//! **Owns** the connections to one [`Target`], the limit on requests at once, and the tasks that drive the
//! connections. **In:** a request as it is to be written (`Host` and all fields set by the caller; only the fields that frame
//! its body are made here, of the body itself). **Out:** a response with this proxy in its `Via`, whose body still holds
//! its connection, or an [`Error`] that says what failed and whether the app may have seen the request.
//!
//! ```text
//! send ─ permit (FIFO, bounded wait) ─ connection (pooled, or new) ─ exchange ─ Response<Body>
//!                                            └──────── once more, if safe ────────┘
//! ```
//!
//! **Promises**
//!
//! - At most [`Config::max_connections`] requests are with the app at once. The permit travels with the response's
//!   body and is given back when that ends or is dropped. An upgraded connection stops counting: it is a tunnel.
//! - A request is sent a second time at most once, on a new connection, and only if it was never written, or if it
//!   is idempotent, has no body, went out on a pooled connection and got not a byte of an answer. A POST that may
//!   have reached the app is never repeated.
//! - Nothing that came unasked answers a request: a connection on which something lies unread is not used again, nor one
//!   whose last answer may be followed by content it should not have.
//! - A head ends, and each of its lines in CRLF; one that can be read in two ways is [`Kind::Protocol`].
//! - A body that the app does not finish ends with an error, never as if it were complete. (An answer that has
//!   neither `Content-Length` nor `Transfer-Encoding` ends where the connection does: HTTP gives no way to tell.)
//! - Every wait is bounded: for a permit, to connect, for the head (counted from the last byte of the request
//!   that went out; waiting for the client's next byte does not count), and between two pieces of the body.
//! - Dropping the future or the body at any point closes the connection, or keeps it if the exchange was over.
//!
//! Only HTTP/1.1 is spoken. Trailers pass both ways, less the fields that belong into a head (those of a request as far as
//! its `Trailer` field names them). Informational answers are skipped, and counted; the caller sees them if it has set
//! `hyper::ext::on_informational` on the request: the callback runs in the connection's task, and goes with the request
//! should that be sent a second time.

mod answer;
mod connector;
mod error;
mod outgoing;
mod pool;
mod target;
pub mod tls;
mod trailers;
mod watch;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::body::{Body, BoxError};

use self::answer::Answer;
use self::connector::Connector;
pub use self::error::{Error, Kind};
use self::outgoing::{HeadClock, Outgoing};
use self::pool::{Connection, Lease, Pool};
pub use self::target::Target;

/// How one app is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the app is.
    pub target: Target,
    /// To a usable connection: name lookup and TLS handshake included.
    pub connect_timeout: Duration,
    /// To the response's head.
    pub timeout: Duration,
    /// Between two pieces of a response's body. Longer than `timeout`: an event stream may be silent for a while.
    pub body_timeout: Duration,
    /// How long a pooled connection is kept unused. Best below the app's own keep-alive.
    pub idle_timeout: Duration,
    /// Requests with the app at once; more wait in order.
    pub max_connections: usize,
    /// How long a request waits for its turn; `timeout`, if that is shorter.
    pub queue_timeout: Duration,
}

impl Config {
    /// The default limits for an app.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        Self {
            target,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(60),
            max_connections: 100,
            queue_timeout: Duration::from_secs(5),
        }
    }
}

/// How a response was obtained; in its extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// It came over a connection that had served before.
    pub reused: bool,
    /// The request was sent a second time.
    pub retried: bool,
}

/// A handle on one app. Clones share connections and limits.
#[derive(Clone, Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// What errors call the app.
    peer: Arc<str>,
    connector: Connector,
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// An exchange that failed, and the request if it may be sent once more.
struct Failed {
    error: Error,
    again: Option<Request<Outgoing>>,
}

impl Upstream {
    /// Prepares a handle; nothing is connected yet. For an `https` target the system's roots are loaded.
    ///
    /// # Errors
    ///
    /// A message, when the roots cannot be loaded or the host is no name a certificate can have.
    pub fn new(config: Config) -> Result<Self, String> {
        let tls = match config.target {
            Target::Https { .. } => Some(tls::native_roots()?),
            Target::Http { .. } | Target::Unix(_) => None,
        };
        Self::build(config, tls)
    }

    /// Prepares a handle that trusts what `tls` trusts, which is used for an `https` target only.
    ///
    /// # Errors
    ///
    /// A message, when the host is no name a certificate can have.
    pub fn with_tls(config: Config, tls: Arc<rustls::ClientConfig>) -> Result<Self, String> {
        Self::build(config, Some(tls))
    }

    fn build(config: Config, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Self, String> {
        let connector = Connector::new(&config.target, tls)?;
        let permits = config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            shared: Arc::new(Shared {
                peer: config.target.peer().into(),
                connector,
                pool: Arc::new(Pool::new(config.idle_timeout)),
                permits: Arc::new(Semaphore::new(permits)),
                tasks: TaskTracker::new(),
                config,
            }),
        })
    }

    /// How the app is reached.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Requests that are with the app now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let limit = self
            .shared
            .config
            .max_connections
            .clamp(1, Semaphore::MAX_PERMITS);
        limit - self.shared.permits.available_permits()
    }

    /// Pooled connections that wait for a request.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.shared.pool.len()
    }

    /// Sends a request, and gives the response once its head is there. [`Attempt`] is in the response's extensions.
    ///
    /// A response 101 can be given to `hyper::upgrade::on`.
    ///
    /// # Errors
    ///
    /// [`Error`]; the same type comes out of the response's body when that fails later.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection the request went out on; the app may have seen the request.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let permit = self.admit().await?;
        let was_head = request.method() == Method::HEAD;
        let (request, upload) = outgoing::prepare(request);
        let (connection, reused) = match self.shared.pool.reuse().await {
            Some(connection) => (connection, true),
            None => (self.open().await?, false),
        };
        let clock = HeadClock::start(self.shared.config.timeout, upload.clone());
        let mut lease = Lease::new(connection, Arc::clone(&self.shared.pool), upload, permit);
        let first = self.exchange(&mut lease, request, (&clock, reused)).await;
        let (outcome, attempt) = match first {
            Err(Failed {
                error,
                again: Some(request),
            }) => {
                let second = self.once_more(&mut lease, request, &clock).await;
                (
                    second.map_err(|second| error.or_worse(second)),
                    Attempt {
                        reused: false,
                        retried: true,
                    },
                )
            }
            first => (
                first.map_err(|failed| failed.error),
                Attempt {
                    reused,
                    retried: false,
                },
            ),
        };
        Ok(self.answer(outcome?, (lease, was_head), attempt))
    }

    /// Closes the pooled connections, keeps none from now on, and waits until those in use have ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn drain(&self) {
        self.shared.pool.close();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    async fn admit(&self) -> Result<OwnedSemaphorePermit, Error> {
        let Config {
            timeout: answer,
            queue_timeout,
            ..
        } = self.shared.config;
        match timeout(
            queue_timeout.min(answer),
            Arc::clone(&self.shared.permits).acquire_owned(),
        )
        .await
        {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(self.error(Kind::Saturated, None)),
        }
    }

    async fn open(&self) -> Result<Connection, Error> {
        let shared = &*self.shared;
        let opening = async {
            let (stream, progress, glance) = shared.connector.connect().await?;
            let (sender, driver) = pool::handshake(stream).await?;
            let driver = pool::drive(
                driver,
                Arc::downgrade(&shared.pool),
                shared.config.idle_timeout,
            );
            let task = shared.tasks.spawn(driver).abort_handle();
            Ok::<_, BoxError>(Connection::new(sender, (progress, glance), task))
        };
        match timeout(shared.config.connect_timeout, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(source)) => Err(self.error(Kind::Connect, Some(source))),
            Err(_) => Err(self.error(Kind::ConnectTimeout, None)),
        }
    }

    /// One request, one response head.
    async fn exchange(
        &self,
        lease: &mut Lease,
        request: Request<Outgoing>,
        (clock, reused): (&HeadClock, bool),
    ) -> Result<Response<Incoming>, Failed> {
        let copy = if reused {
            outgoing::repeatable(&request)
        } else {
            None
        };
        let switch = request.headers().contains_key(header::UPGRADE);
        let before = lease.progress().received();
        lease.progress().begin();
        let Some(result) = clock.bound(lease.sender().try_send_request(request)).await else {
            return Err(Failed {
                error: self.error(Kind::Timeout, None),
                again: None,
            });
        };
        let mut failed = match result {
            Ok(response) if answer::is_sound(&response, switch) => {
                return Ok(response);
            }
            Ok(_) => {
                return Err(Failed {
                    error: self.error(Kind::Protocol, None),
                    again: None,
                });
            }
            Err(failed) => failed,
        };
        if let Some(unsent) = failed.take_message() {
            let error = self.error(Kind::Connect, Some(failed.into_error().into()));
            return Err(Failed {
                error,
                again: Some(unsent),
            });
        }
        let error = failed.into_error();
        let kind = if lease.progress().is_refused() {
            Kind::Protocol
        } else {
            Kind::of(&error, lease.upload_failed())
        };
        let unanswered = lease.progress().received() == before;
        let again = copy.filter(|_| kind == Kind::Reset && unanswered);
        Err(Failed {
            error: self.error(kind, Some(error.into())),
            again,
        })
    }

    async fn once_more(
        &self,
        lease: &mut Lease,
        request: Request<Outgoing>,
        clock: &HeadClock,
    ) -> Result<Response<Incoming>, Error> {
        lease.renew(self.open().await?);
        self.exchange(lease, request, (clock, false))
            .await
            .map_err(|failed| failed.error)
    }

    fn answer(
        &self,
        response: Response<Incoming>,
        (lease, was_head): (Lease, bool),
        attempt: Attempt,
    ) -> Response<Body> {
        let may_go_on = answer::may_go_on(&response, was_head);
        let (mut head, incoming) = response.into_parts();
        answer::receive(&mut head);
        head.extensions.insert(attempt);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            lease.upgraded();
            return Response::from_parts(head, Body::empty());
        }
        if incoming.is_end_stream() {
            if !may_go_on {
                lease.finish();
            }
            return Response::from_parts(head, Body::empty());
        }
        let shared = &*self.shared;
        let body = Answer::new(
            incoming,
            lease,
            (shared.config.body_timeout, Arc::clone(&shared.peer)),
        );
        Response::from_parts(head, Body::stream(body))
    }

    fn error(&self, kind: Kind, source: Option<BoxError>) -> Error {
        Error::new(kind, &self.shared.peer, source)
    }
}

#[cfg(test)]
mod tests;
