//! An app under a test's control: scripted answers, gates, and a memory of what it was asked.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::soon;

type Body = BoxBody<Bytes, std::io::Error>;

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    /// Path and query, as they came.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Seen {
    /// The value of a field; empty when absent.
    pub fn field(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or("<binary>"))
    }
}

/// A scripted answer.
#[derive(Debug)]
pub struct Scripted {
    status: StatusCode,
    headers: Vec<(String, Vec<u8>)>,
    body: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    /// Chunks as the test sends them; dropped sender: a clean end, an error: a broken transfer.
    Chunks(mpsc::UnboundedReceiver<Result<Frame<Bytes>, std::io::Error>>),
}

/// Sends the chunks of a streamed answer.
#[derive(Debug)]
pub struct Chunks(mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>);

impl Chunks {
    pub fn send(&self, chunk: impl Into<Bytes>) {
        self.0
            .send(Ok(Frame::data(chunk.into())))
            .expect("the exchange is alive");
    }

    /// Whether the proxy still reads.
    pub fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Waits until the proxy has stopped reading.
    pub async fn abandoned(&self) {
        soon("the proxy stops reading", self.0.closed()).await;
    }

    /// Breaks the transfer off.
    pub fn break_off(self) {
        let _ = self
            .0
            .send(Err(std::io::Error::other("the origin breaks off")));
    }

    /// Ends the body, with trailers.
    pub fn trailers(self, trailers: HeaderMap) {
        self.0
            .send(Ok(Frame::trailers(trailers)))
            .expect("the exchange is alive");
    }
}

/// An answer of 200 with this body.
pub fn reply(body: impl Into<Bytes>) -> Scripted {
    Scripted {
        status: StatusCode::OK,
        headers: Vec::new(),
        body: Content::Bytes(body.into()),
    }
}

/// An answer whose chunks the test sends one by one.
pub fn streamed() -> (Scripted, Chunks) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let scripted = Scripted {
        status: StatusCode::OK,
        headers: Vec::new(),
        body: Content::Chunks(receiver),
    };
    (scripted, Chunks(sender))
}

impl Scripted {
    pub fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).expect("a status");
        self
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        self.binary(name, value)
    }

    /// A field whose value need not be text.
    pub fn binary(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// `Cache-Control`.
    pub fn cache(self, value: &str) -> Self {
        self.header("cache-control", value)
    }

    pub fn json(self) -> Self {
        self.header("content-type", "application/json")
    }

    fn response(self) -> Response<Body> {
        let body = match self.body {
            Content::Bytes(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
            Content::Chunks(mut chunks) => {
                let stream = futures_poll(move |cx| chunks.poll_recv(cx));
                StreamBody::new(stream).boxed()
            }
        };
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value.as_slice());
        }
        response.body(body).expect("a response")
    }
}

/// A stream made of a poll function, so that no stream crate is needed for one use.
fn futures_poll<T, F>(poll: F) -> impl futures_core::Stream<Item = T> + Send + Sync
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Send + Sync + Unpin,
{
    struct Polled<F>(F);
    impl<T, F> futures_core::Stream for Polled<F>
    where
        F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
    {
        type Item = T;
        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            (self.get_mut().0)(cx)
        }
    }
    Polled(poll)
}

type Answer = Arc<dyn Fn(&Seen) -> Scripted + Send + Sync>;

/// The app of a test.
#[derive(Clone)]
pub struct Origin {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    /// What a path answers, whatever its query.
    always: Mutex<HashMap<String, Answer>>,
    /// What it answers first, one by one.
    next: Mutex<HashMap<String, VecDeque<Scripted>>>,
    seen: Mutex<Vec<Seen>>,
    arrived: watch::Sender<usize>,
    /// Paths whose requests wait, and how many may pass.
    gates: Mutex<HashMap<String, watch::Sender<bool>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// Holds a path's requests at the origin: each has been seen (and its answer computed) but is not answered before
/// [`Gate::release`].
pub struct Gate {
    open: watch::Sender<bool>,
    origin: Origin,
    path: String,
}

impl Gate {
    /// Waits until so many requests for the path have arrived in all.
    pub async fn arrived(&self, count: usize) {
        self.origin.asked(&self.path, count).await;
    }

    /// Lets them pass, and all that come later.
    pub fn release(self) {
        self.origin
            .shared
            .gates
            .lock()
            .expect("gates")
            .remove(&self.path);
        self.open.send_replace(true);
    }
}

impl Origin {
    /// An origin that answers 404 until told otherwise.
    pub async fn start() -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The same, at this address.
    pub async fn listen(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            always: Mutex::default(),
            next: Mutex::default(),
            seen: Mutex::default(),
            arrived: watch::Sender::new(0),
            gates: Mutex::default(),
            tasks: Mutex::new(JoinSet::new()),
        });
        let origin = Self { shared, address };
        let accepting = origin.clone();
        origin
            .tasks()
            .spawn(async move { accepting.accept(listener).await });
        origin
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers a path, always the same way.
    pub fn on(
        &self,
        path: &str,
        answer: impl Fn(&Seen) -> Scripted + Send + Sync + 'static,
    ) -> &Self {
        self.shared
            .always
            .lock()
            .expect("always")
            .insert(path.to_owned(), Arc::new(answer));
        self
    }

    /// Answers a path once; several queue up, and come before [`Origin::on`].
    pub fn then(&self, path: &str, answer: Scripted) -> &Self {
        self.shared
            .next
            .lock()
            .expect("next")
            .entry(path.to_owned())
            .or_default()
            .push_back(answer);
        self
    }

    /// Holds the requests for a path.
    pub fn hold(&self, path: &str) -> Gate {
        let open = watch::Sender::new(false);
        self.shared
            .gates
            .lock()
            .expect("gates")
            .insert(path.to_owned(), open.clone());
        Gate {
            open,
            origin: self.clone(),
            path: path.to_owned(),
        }
    }

    /// How many requests for a path have come.
    pub fn hits(&self, path: &str) -> usize {
        self.seen(path).len()
    }

    /// The requests for a path.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.shared.seen.lock().expect("seen");
        seen.iter()
            .filter(|seen| path_of(&seen.target) == path)
            .cloned()
            .collect()
    }

    /// The last request for a path.
    pub fn last(&self, path: &str) -> Seen {
        self.seen(path)
            .pop()
            .unwrap_or_else(|| panic!("nobody asked for {path}"))
    }

    /// Waits until so many requests for a path have come in all.
    pub async fn asked(&self, path: &str, count: usize) {
        let mut arrived = self.shared.arrived.subscribe();
        soon(
            &format!(
                "{count} requests for {path} (there are {})",
                self.hits(path)
            ),
            async {
                while self.hits(path) < count {
                    arrived.changed().await.expect("the origin is alive");
                }
            },
        )
        .await;
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.shared.tasks.lock().expect("tasks")
    }

    async fn accept(self, listener: TcpListener) {
        while let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).expect("a socket");
            let origin = self.clone();
            self.tasks().spawn(async move {
                let service = service_fn(move |request| {
                    let origin = origin.clone();
                    async move { Ok::<_, Infallible>(origin.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .with_upgrades();
                let _ = connection.await;
            });
        }
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let upgrade = request
            .headers()
            .contains_key("upgrade")
            .then(|| hyper::upgrade::on(&mut request));
        let seen = read(request).await;
        let path = path_of(&seen.target).to_owned();
        let scripted = self
            .shared
            .next
            .lock()
            .expect("next")
            .get_mut(&path)
            .and_then(VecDeque::pop_front);
        let always = self
            .shared
            .always
            .lock()
            .expect("always")
            .get(&path)
            .cloned();
        // The answer is made before the gate: what is held is an answer that knows nothing of later writes.
        let scripted = scripted
            .or_else(|| always.map(|answer| answer(&seen)))
            .unwrap_or_else(|| reply("not found").status(404));
        self.shared.seen.lock().expect("seen").push(seen);
        self.shared.arrived.send_modify(|count| *count += 1);
        let gate = self
            .shared
            .gates
            .lock()
            .expect("gates")
            .get(&path)
            .map(watch::Sender::subscribe);
        if let Some(mut gate) = gate {
            let _ = gate.wait_for(|open| *open).await;
        }
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) = (scripted.status, upgrade) {
            self.tasks().spawn(async move {
                let upgraded = upgrade.await.expect("an upgraded connection");
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
        scripted.response()
    }
}

async fn read(request: Request<Incoming>) -> Seen {
    let (head, body) = request.into_parts();
    let collected = body.collect().await;
    let (body, trailers) = match collected {
        Ok(collected) => {
            let trailers = collected.trailers().cloned();
            (collected.to_bytes(), trailers)
        }
        Err(_) => (Bytes::new(), None),
    };
    Seen {
        method: head.method,
        target: head.uri.to_string(),
        headers: head.headers,
        body,
        trailers,
    }
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}
