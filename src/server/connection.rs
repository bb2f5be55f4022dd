//! One connection: TLS, then hyper, under the orders of the roster.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::body::{Body, BoxError};
use crate::metrics::ServerMetrics;

use super::activity::{Activity, Order};
use super::ending::Ending;
use super::exchange::{self, Answer};
use super::fault;
use super::interim::Hints;
use super::listener::Accepted;
use super::roster::Roster;
use super::stream::{Io, Socket};
use super::streams::Stream;
use super::{Config, Drained, Peer};

/// hyper refuses a smaller buffer.
const SMALLEST_HEAD: usize = 8 * 1024;

/// Requests of one HTTP/2 client at once. A proxy in front multiplexes over several connections.
const MAX_STREAMS: u32 = 100;
/// The smallest there is (RFC 9113 §4.2): a frame is read whole before it is looked at.
const MAX_FRAME: u32 = 16 * 1024;
/// Bytes of one request's body that may wait here unread.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all the requests of a connection together.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// Bytes of one answer that may wait for the client beyond the piece in hand.
const SEND_BUFFER: usize = 64 * 1024;
/// Requests reset before they were looked at: the connection ends beyond.
const MAX_UNSEEN_RESETS: usize = 20;
/// Streams that we had to reset because what came on them was wrong: the connection ends beyond.
const MAX_ERRORS: usize = 100;

/// Every connection of one listener. Dropping it cuts them.
pub(super) struct Connections {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
}

struct Shared {
    config: Config,
    tls: Option<TlsAcceptor>,
    http: Builder<Tasks>,
    roster: Roster,
    tasks: Tasks,
    metrics: Arc<ServerMetrics>,
}

/// The tasks of connections and of HTTP/2 streams, which the drain waits for.
#[derive(Clone, Debug, Default)]
struct Tasks(TaskTracker);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    /// Runs an HTTP/2 stream.
    fn execute(&self, future: F) {
        self.0.spawn(Stream::drive(future));
    }
}

impl Connections {
    pub(super) fn new(
        config: Config,
        tls: Option<Arc<rustls::ServerConfig>>,
        metrics: Arc<ServerMetrics>,
    ) -> Self {
        let tasks = Tasks::default();
        let http = protocols(&config, tasks.clone());
        let slots = Arc::new(Semaphore::new(
            config.max_connections.min(Semaphore::MAX_PERMITS),
        ));
        let (tls, roster) = (tls.map(TlsAcceptor::from), Roster::default());
        Self {
            shared: Arc::new(Shared {
                config,
                tls,
                http,
                roster,
                tasks,
                metrics,
            }),
            slots,
        }
    }

    pub(super) fn slots(&self) -> &Arc<Semaphore> {
        &self.slots
    }

    pub(super) fn metrics(&self) -> &ServerMetrics {
        &self.shared.metrics
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.shared.roster
    }

    /// Serves a connection in a task of its own.
    pub(super) fn open<S, F>(&self, accepted: Accepted, service: S)
    where
        S: Fn(Request<Body>) -> F + Send + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        self.shared
            .tasks
            .0
            .spawn(run(Arc::clone(&self.shared), accepted, service));
    }

    /// Lets what runs finish, and cuts what has not by the end of the drain timeout.
    pub(super) async fn drain(&self, started: Instant) -> Drained {
        let Shared {
            config,
            roster,
            tasks,
            ..
        } = &*self.shared;
        tasks.0.close();
        roster.drain(started);
        let mut ticks = tokio::time::interval(config.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deadline = pin!(tokio::time::sleep_until(started + config.drain_timeout));
        loop {
            tokio::select! {
                biased;
                () = tasks.0.wait() => return Drained { completed: true, cut: 0 },
                () = &mut deadline => break,
                now = ticks.tick() => roster.sweep(now),
            }
        }
        let cut = roster.cut();
        tasks.0.wait().await;
        Drained {
            completed: cut == 0,
            cut,
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.shared.roster.cut();
    }
}

/// What both protocols may take of this process. hyper's own defaults move with its releases; a limit is a promise.
fn protocols(config: &Config, tasks: Tasks) -> Builder<Tasks> {
    let mut http = Builder::new(tasks);
    let max_head = config.max_head.max(SMALLEST_HEAD);
    http.http1().max_buf_size(max_head);
    http.http2()
        // Also bounds CONTINUATION frames, and what HPACK may unfold to: a larger list is a 431 by h2, or the end.
        .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .max_local_error_reset_streams(MAX_ERRORS);
    http
}

async fn run<S, F>(shared: Arc<Shared>, accepted: Accepted, service: S)
where
    S: Fn(Request<Body>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Accepted {
        socket,
        address,
        slot,
    } = accepted;
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let activity = Activity::new(Arc::clone(&shared.metrics), waker.clone());
    let activity = Arc::new(activity);
    let _open = Open::new(&activity);
    let _membership = shared
        .roster
        .join(&shared.config, Arc::clone(&activity), waker);
    let socket = match secure(socket, shared.tls.as_ref(), &activity).await {
        Ok(socket) => socket,
        Err(error) => {
            activity.blame(Ending::Tls);
            return debug!(%error, ?address, "TLS handshake failed");
        }
    };
    let peer = Peer {
        address,
        tls: matches!(socket, Socket::Tls(_)),
        hints: None,
    };
    let io = Io::new(socket, Arc::clone(&activity), slot);
    let ended = converse(&shared, io, service, (&activity, peer)).await;
    if activity.is_in_head() && activity.blamed().is_none() {
        shared.metrics.aborts_head.inc();
    }
    if let Err(error) = ended {
        activity.blame(Ending::of(&*error));
        debug!(error = &*error, ?address, "connection ended");
    }
}

/// Counts a connection while it is open, and the reason when it ends, in whatever way that happens.
struct Open<'a>(&'a Activity);

impl<'a> Open<'a> {
    fn new(activity: &'a Activity) -> Self {
        activity.metrics().accepted.inc();
        activity.metrics().open.inc();
        Self(activity)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let ending = self.0.blamed().unwrap_or(Ending::Ended);
        self.0.metrics().open.dec();
        self.0.metrics().closed[ending.index()].inc();
    }
}

/// Does the TLS handshake, if there is one to do. A Unix socket stays as it is.
async fn secure(
    socket: Socket,
    tls: Option<&TlsAcceptor>,
    activity: &Activity,
) -> io::Result<Socket> {
    let (tcp, tls) = match (socket, tls) {
        (Socket::Tcp(tcp), Some(tls)) => (tcp, tls),
        (socket, _) => return Ok(socket),
    };
    let mut handshake = pin!(tls.accept(tcp));
    let stream = poll_fn(|cx| match activity.ordered() {
        Order::Serve => handshake.as_mut().poll(cx),
        Order::Close | Order::Late | Order::Cut => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
    })
    .await?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        activity.is_http2();
    }
    Ok(Socket::Tls(Box::new(stream)))
}

/// Speaks HTTP until the connection ends, is upgraded, or is cut.
async fn converse<S, F>(
    shared: &Shared,
    io: Io,
    service: S,
    about: (&Arc<Activity>, Peer),
) -> Result<(), BoxError>
where
    S: Fn(Request<Body>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (activity, peer) = about;
    let (counter, body_timeout) = (Arc::clone(activity), shared.config.body_timeout);
    let service = service_fn(move |request: Request<Incoming>| {
        let version = request.version();
        if version == Version::HTTP_2 {
            counter.is_http2();
        }
        let in_flight = counter.begin();
        // HTTP/1.0 has no interim answers, and over HTTP/2 we cannot send them.
        let hints = (version == Version::HTTP_11).then(|| Hints::open(&counter));
        let peer = Peer {
            hints,
            ..peer.clone()
        };
        let asked = fault::check(&request)
            .map(|()| service(exchange::request(request, peer, (body_timeout, &counter))));
        if asked.is_err() {
            counter.metrics().refused_malformed.inc();
        }
        async move {
            let response = match asked {
                Ok(answering) => answering.await,
                Err(fault) => fault.response(),
            };
            if in_flight.activity().interim.is_waiting() {
                // They came together: pending once, so that the connection flushes before it writes the final head.
                tokio::task::yield_now().await;
            }
            let http2 = version == Version::HTTP_2;
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, in_flight, http2)))
        }
    });
    let mut http = pin!(
        shared
            .http
            .serve_connection_with_upgrades(TokioIo::new(io), service)
    );
    let mut closing = false;
    poll_fn(|cx| {
        match activity.ordered() {
            Order::Cut => return Poll::Ready(Ok(())),
            Order::Close if !closing => {
                closing = true;
                http.as_mut().graceful_shutdown();
            }
            Order::Serve | Order::Close | Order::Late => {}
        }
        http.as_mut().poll(cx)
    })
    .await
}
