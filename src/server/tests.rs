//! The server over real sockets. Limits are short; nothing sleeps: each test waits for what it expects.

use std::future::{Future, pending};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::*;

/// A server with its service, and the way to stop it.
struct Running {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    drained: JoinHandle<Drained>,
    metrics: Arc<ServerMetrics>,
}

fn start<S, F>(config: Config, tls: Option<Arc<rustls::ServerConfig>>, service: S) -> Running
where
    S: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(address) = listener.local_address().unwrap() else {
        panic!("a TCP address")
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let metrics = Arc::new(ServerMetrics::unexported().unwrap());
    let served = serve(
        listener,
        config,
        service,
        (tls, Arc::clone(&metrics)),
        stopped,
    );
    let drained = TaskTracker::new().spawn(served);
    Running {
        address,
        stop,
        drained,
        metrics,
    }
}

impl Running {
    fn closed(&self, ending: ending::Ending) -> u64 {
        self.metrics.closed[ending.index()].get()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn drain(self) -> Drained {
        let _ = self.stop.send(());
        self.drained.await.unwrap()
    }
}

/// Limits short enough to be waited for.
fn brief() -> Config {
    let limit = Duration::from_millis(100);
    Config {
        header_timeout: limit,
        idle_timeout: limit,
        ..Config::default()
    }
}

async fn hello(_: Request<Body>) -> Response<Body> {
    Response::new("hello".into())
}

async fn ask(stream: &mut TcpStream, head: &str) -> String {
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(stream, "hello").await
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text
}

async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn requests_carry_their_peer_and_connections_are_kept() {
    let server = start(
        Config::default(),
        None,
        |request: Request<Body>| async move {
            let peer = request.extensions().get::<Peer>().unwrap();
            Response::new(format!("{:?} {} hello", peer.address, peer.tls).into())
        },
    );
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert!(
            ask(&mut client, GET)
                .await
                .ends_with("Some(127.0.0.1) false hello")
        );
    }
    assert_eq!(
        server.drain().await,
        Drained {
            completed: true,
            cut: 0
        }
    );
}

#[tokio::test]
async fn a_head_that_does_not_end_gets_408() {
    let server = start(brief(), None, hello);
    let mut fresh = server.connect().await;
    fresh.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let answer = read_to_end(&mut fresh).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{answer}"
    );
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(
        answer.ends_with("\"The head of the request did not come in time.\"}"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_that_does_not_end_gets_408_on_a_kept_connection_too() {
    let idle_timeout = Duration::from_secs(60);
    let server = start(
        Config {
            idle_timeout,
            ..brief()
        },
        None,
        hello,
    );
    let mut kept = server.connect().await;
    ask(&mut kept, GET).await;
    kept.write_all(b"GET").await.unwrap();
    let answer = read_to_end(&mut kept).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_stops_asking_is_closed_without_a_word() {
    let server = start(brief(), None, hello);
    let mut silent = server.connect().await;
    let mut idle = server.connect().await;
    ask(&mut idle, GET).await;
    assert_eq!(read_to_end(&mut silent).await, "");
    assert_eq!(read_to_end(&mut idle).await, "");
}

#[tokio::test]
async fn a_request_in_flight_is_not_idle() {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let server = start(brief(), None, move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Response::new("hello".into())
        }
    });
    let mut busy = server.connect().await;
    busy.write_all(GET.as_bytes()).await.unwrap();
    // Two connections in a row are given up for their silence: twice the limit has passed.
    for _ in 0..2 {
        assert_eq!(read_to_end(&mut server.connect().await).await, "");
    }
    opened.notify_one();
    assert!(
        read_until(&mut busy, "hello")
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
}

#[tokio::test]
async fn an_upgraded_connection_is_not_timed_out() {
    let (send, mut upgraded) = mpsc::unbounded_channel();
    let server = start(brief(), None, move |mut request: Request<Body>| {
        send.send(hyper::upgrade::on(&mut request)).unwrap();
        async {
            let answer = Response::builder()
                .status(101)
                .header("upgrade", "echo")
                .header("connection", "upgrade");
            answer.body(Body::empty()).unwrap()
        }
    });
    let mut client = server.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    let mut tunnel = TokioIo::new(upgraded.recv().await.unwrap().await.unwrap());
    for _ in 0..2 {
        assert_eq!(read_to_end(&mut server.connect().await).await, "");
    }
    client.write_all(b"ping").await.unwrap();
    assert_eq!(read_until(&mut tunnel, "ping").await, "ping");
    // Nor does it hold the drain up.
    assert!(server.drain().await.completed);
    tunnel.write_all(b"pong").await.unwrap();
    assert_eq!(read_until(&mut client, "pong").await, "pong");
}

#[tokio::test]
async fn a_body_that_stops_coming_ends_with_an_error() {
    let body_timeout = Duration::from_millis(50);
    let server = start(
        Config {
            body_timeout,
            ..Config::default()
        },
        None,
        |request: Request<Body>| async {
            let error = crate::body::read_limited(request.into_body(), 100)
                .await
                .unwrap_err();
            let source = std::error::Error::source(&error)
                .unwrap()
                .downcast_ref::<std::io::Error>()
                .unwrap();
            Response::new(format!("{:?} hello", source.kind()).into())
        },
    );
    let mut client = server.connect().await;
    let answer = ask(
        &mut client,
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc",
    )
    .await;
    assert!(answer.ends_with("TimedOut hello"), "{answer}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let (send, mut dropped) = mpsc::unbounded_channel::<()>();
    let server = start(brief(), None, move |_| {
        let endless = Endless(send.clone());
        async { Response::new(Body::stream(endless)) }
    });
    let mut client = server.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    drop(server.stop);
    // The senders left are the service's and the body's; the body's tells when it is dropped.
    dropped.recv().await.unwrap();
}

/// A body without end that tells when it is dropped.
struct Endless(mpsc::UnboundedSender<()>);

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl http_body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = crate::body::BoxError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        let chunk = bytes::Bytes::from_static(&[0; 16 * 1024]);
        Poll::Ready(Some(Ok(http_body::Frame::data(chunk))))
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let (send, mut events) = mpsc::unbounded_channel();
    let server = start(Config::default(), None, move |_| {
        let told = Endless(send.clone());
        send.send(()).unwrap();
        async move {
            pending::<()>().await;
            Response::new(Body::stream(told))
        }
    });
    let mut client = server.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    events.recv().await.unwrap();
    drop(client);
    events.recv().await.unwrap();
}

#[tokio::test]
async fn a_head_larger_than_the_limit_gets_431() {
    let server = start(
        Config {
            max_head: 8 * 1024,
            ..Config::default()
        },
        None,
        hello,
    );
    let mut client = server.connect().await;
    let head = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(8 * 1024)
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let server = start(
        Config {
            max_connections: 1,
            ..Config::default()
        },
        None,
        hello,
    );
    let mut first = server.connect().await;
    ask(&mut first, GET).await;
    let mut second = server.connect().await;
    second.write_all(GET.as_bytes()).await.unwrap();
    // The first is still served, and the second only once the first has gone.
    ask(&mut first, GET).await;
    let mut byte = [0];
    assert_eq!(
        second.try_read(&mut byte).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    drop(first);
    read_until(&mut second, "hello").await;
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_closes_what_is_idle() {
    let (entered, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (enter, pass) = (Arc::clone(&entered), Arc::clone(&gate));
    let server = start(Config::default(), None, move |request: Request<Body>| {
        let (enter, pass) = (Arc::clone(&enter), Arc::clone(&pass));
        async move {
            if request.uri().path() == "/slow" {
                enter.add_permits(1);
                pass.notified().await;
            }
            Response::new("hello".into())
        }
    });
    let (mut idle, mut busy) = (server.connect().await, server.connect().await);
    ask(&mut idle, GET).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    entered.acquire().await.unwrap().forget();
    let address = server.address;
    let drained = TaskTracker::new().spawn(server.drain());
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!(
        TcpStream::connect(address).await.is_err(),
        "no new connection is taken"
    );
    gate.notify_one();
    let answer = read_to_end(&mut busy).await;
    assert!(
        answer.contains("connection: close\r\n") && answer.ends_with("hello"),
        "{answer}"
    );
    assert_eq!(
        drained.await.unwrap(),
        Drained {
            completed: true,
            cut: 0
        }
    );
}

#[tokio::test]
async fn a_drain_serves_what_had_already_connected() {
    // On this single-threaded runtime the server has not run yet when it is told to stop.
    let server = start(Config::default(), None, hello);
    let mut client = std::net::TcpStream::connect(server.address).unwrap();
    std::io::Write::write_all(&mut client, GET.as_bytes()).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut client = TcpStream::from_std(client).unwrap();
    assert!(server.drain().await.completed);
    assert!(read_to_end(&mut client).await.ends_with("hello"));
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_finish_in_http1_and_http2() {
    let entered = Arc::new(Semaphore::new(0));
    let enter = Arc::clone(&entered);
    let drain_timeout = Duration::from_millis(50);
    let server = start(
        Config {
            drain_timeout,
            ..Config::default()
        },
        None,
        move |_| {
            enter.add_permits(1);
            pending::<Response<Body>>()
        },
    );
    let mut stuck = server.connect().await;
    stuck.write_all(GET.as_bytes()).await.unwrap();
    let mut sender = http2(server.connect().await).await;
    let request = Request::get("http://x/").body(Body::empty()).unwrap();
    let answer = TaskTracker::new().spawn(sender.send_request(request));
    entered.acquire_many(2).await.unwrap().forget();
    let metrics = Arc::clone(&server.metrics);
    assert_eq!(
        server.drain().await,
        Drained {
            completed: false,
            cut: 2
        }
    );
    assert_eq!(metrics.closed[ending::Ending::Drain.index()].get(), 2);
    assert_eq!(metrics.aborts_waiting.get(), 0, "they did not leave");
    assert_eq!(read_to_end(&mut stuck).await, "");
    assert!(answer.await.unwrap().is_err());
}

#[tokio::test]
async fn dropping_the_server_ends_its_connections() {
    let server = start(Config::default(), None, hello);
    let mut client = server.connect().await;
    ask(&mut client, GET).await;
    server.drained.abort();
    assert_eq!(read_to_end(&mut client).await, "");
}

async fn http2<T>(io: T) -> hyper::client::conn::http2::SendRequest<Body>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    #[derive(Clone)]
    struct Spawn;
    impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Spawn {
        fn execute(&self, future: F) {
            TaskTracker::new().spawn(future);
        }
    }
    let (sender, connection) = hyper::client::conn::http2::handshake(Spawn, TokioIo::new(io))
        .await
        .unwrap();
    TaskTracker::new().spawn(connection);
    sender
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    let bytes = crate::body::read_limited(response.into_body().into(), 1000)
        .await
        .unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn http2_is_spoken_by_prior_knowledge_and_its_idle_connections_close() {
    let server = start(brief(), None, hello);
    let mut sender = http2(server.connect().await).await;
    for _ in 0..2 {
        let request = Request::get("http://x/").body(Body::empty()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(
            (response.version(), text(response).await.as_str()),
            (http::Version::HTTP_2, "hello")
        );
    }
    // `ready` fails once the connection has been closed from the other side.
    while sender.ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn tls_offers_both_versions_and_says_so_to_the_service() {
    let directory = std::env::temp_dir().join(format!("reprise-server-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let tls = tls::load(&certificate, &key).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    let server = start(brief(), Some(tls), |request: Request<Body>| async move {
        let peer = request.extensions().get::<Peer>().unwrap();
        Response::new(format!("{:?} {} hello", request.version(), peer.tls).into())
    });

    let mut client = encrypted(&server, pair.cert.der(), &[b"http/1.1"]).await;
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(
        read_until(&mut client, "hello")
            .await
            .ends_with("HTTP/1.1 true hello")
    );
    let mut sender = http2(encrypted(&server, pair.cert.der(), &[b"h2", b"http/1.1"]).await).await;
    let request = Request::get("https://localhost/")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        text(sender.send_request(request).await.unwrap()).await,
        "HTTP/2.0 true hello"
    );

    // A client that never shakes hands is given up, and keeps nobody else from being accepted.
    assert_eq!(read_to_end(&mut server.connect().await).await, "");
    assert_eq!(server.closed(ending::Ending::HeaderTimeout), 1);
    // Nor does one that speaks something else.
    let mut plain = server.connect().await;
    plain.write_all(GET.as_bytes()).await.unwrap();
    plain.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(server.closed(ending::Ending::Tls), 1);
    // A slow head is answered through the encryption too.
    let mut slow = encrypted(&server, pair.cert.der(), &[b"http/1.1"]).await;
    slow.write_all(b"GET / HT").await.unwrap();
    assert!(read_to_end(&mut slow).await.starts_with("HTTP/1.1 408 "));
}

async fn encrypted(
    server: &Running,
    root: &rustls::pki_types::CertificateDer<'_>,
    protocols: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone().into_owned()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector
        .connect("localhost".try_into().unwrap(), server.connect().await)
        .await
        .unwrap()
}
