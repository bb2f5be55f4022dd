//! The rules of this module against apps made of bytes, over real sockets. Nothing sleeps.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// An app whose every byte the test decides.
struct App {
    listener: TcpListener,
    upstream: Upstream,
}

impl App {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = Config::new(Target::parse(&url).unwrap());
        change(&mut config);
        Self {
            listener,
            upstream: Upstream::new(config).unwrap(),
        }
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Sends in the background, so that the test can play the app.
    fn send(&self, request: Request<Body>) -> JoinHandle<Result<Response<Body>, Error>> {
        let upstream = self.upstream.clone();
        spawn(async move { upstream.send(request).await })
    }

    /// One whole exchange over a connection that stays open.
    async fn exchange(&self) -> TcpStream {
        let sent = self.send(get("/"));
        let mut connection = self.accept().await;
        head(&mut connection).await;
        connection.write_all(OK).await.unwrap();
        assert_eq!(text(sent.await.unwrap().unwrap()).await, "hello");
        connection
    }
}

fn spawn<F: Future<Output: Send> + Send + 'static>(future: F) -> JoinHandle<F::Output> {
    TaskTracker::new().spawn(future)
}

fn get(path: &str) -> Request<Body> {
    request("GET", path, Body::empty())
}

fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "shop.example")
        .body(body)
        .unwrap()
}

/// Reads a request's head, and not a byte more.
async fn head(connection: &mut (impl AsyncRead + Unpin)) -> String {
    read_until(connection, "\r\n\r\n").await
}

async fn read_until(connection: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        bytes.push(connection.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = crate::body::read_limited(response.into_body(), 1000)
        .await
        .unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn attempt(response: &Response<Body>) -> Attempt {
    *response.extensions().get().unwrap()
}

async fn body_failure(response: Response<Body>) -> Kind {
    let mut body = response.into_body();
    loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.downcast_ref::<Error>().unwrap().kind(),
            None => panic!("a clean end"),
        }
    }
}

/// A body fed by the test; dropping the sender ends it.
struct Fed(mpsc::UnboundedReceiver<io::Result<Frame<Bytes>>>);

fn fed() -> (mpsc::UnboundedSender<io::Result<Frame<Bytes>>>, Body) {
    let (send, receive) = mpsc::unbounded_channel();
    (send, Body::stream(Fed(receive)))
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

fn data(text: &'static str) -> io::Result<Frame<Bytes>> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

async fn is_closed(connection: &mut TcpStream) -> bool {
    !matches!(connection.read(&mut [0]).await, Ok(1..))
}

#[tokio::test]
async fn a_request_is_written_as_it_came_and_its_connection_used_again() {
    let app = App::start().await;
    let mut connection = app.exchange().await;
    let target = "/a%2fb/%7Euser/../c;d?q=%zz&b=a+b&&x";
    let sent = app.send(get(target));
    let written = head(&mut connection).await;
    assert_eq!(
        written,
        format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\n\r\n")
    );
    connection.write_all(OK).await.unwrap();
    let response = sent.await.unwrap().unwrap();
    assert_eq!(
        attempt(&response),
        Attempt {
            reused: true,
            retried: false
        }
    );
    assert_eq!(app.upstream.in_flight(), 1);
    text(response).await;
    assert_eq!((app.upstream.in_flight(), app.upstream.idle()), (0, 1));
}

#[tokio::test]
async fn a_target_in_absolute_form_is_written_in_origin_form() {
    let app = App::start().await;
    for (uri, line) in [
        ("http://shop.example/a?b", "GET /a?b HTTP/1.1"),
        ("*", "GET * HTTP/1.1"),
    ] {
        let _sent = app.send(get(uri));
        let written = head(&mut app.accept().await).await;
        assert_eq!(written.lines().next(), Some(line));
    }
}

#[tokio::test]
async fn a_connection_the_app_closes_is_not_used_again() {
    let app = App::start().await;
    for _ in 0..2 {
        let sent = app.send(get("/"));
        let mut connection = app.accept().await;
        head(&mut connection).await;
        connection
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
            .await
            .unwrap();
        let response = sent.await.unwrap().unwrap();
        assert_eq!(attempt(&response), Attempt::default());
        assert_eq!(text(response).await, "hello");
    }
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error_that_says_so() {
    let app = App::start().await;
    let (upstream, address) = (app.upstream.clone(), app.listener.local_addr().unwrap());
    drop(app.listener);
    let error = upstream.send(get("/")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("connect to {address}: refused"));
    assert!(error.is_connect() && !error.may_have_reached_app());
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_a_connect_timeout() {
    let plain = App::start().await;
    let url = format!("https://{}", plain.listener.local_addr().unwrap());
    let mut config = Config::new(Target::parse(&url).unwrap());
    config.connect_timeout = Duration::from_millis(30);
    let tls = tls::trusting(rustls::RootCertStore::empty()).unwrap();
    let error = Upstream::with_tls(config, tls)
        .unwrap()
        .send(get("/"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::ConnectTimeout);
}

#[tokio::test]
async fn the_head_has_a_time_limit_and_its_connection_is_closed() {
    let app = App::with(|config| {
        config.timeout = Duration::from_millis(30);
        config.body_timeout = config.timeout;
    })
    .await;
    let sent = app.send(get("/"));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    connection.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    let error = sent.await.unwrap().unwrap_err();
    assert!(
        error.is_timeout() && error.may_have_reached_app(),
        "{error}"
    );
    assert!(is_closed(&mut connection).await);
    assert_eq!(app.upstream.in_flight(), 0);
}

#[tokio::test]
async fn a_slow_upload_does_not_use_up_the_apps_time() {
    let limit = Duration::from_millis(40);
    let app = App::with(|config| config.timeout = limit).await;
    let slow = App::with(|config| config.timeout = 2 * limit).await;
    let (send, body) = fed();
    let sent = app.send(request("POST", "/", body));
    let mut connection = app.accept().await;
    // Another app's time runs out meanwhile: more than the limit passes while the client sends nothing.
    let error = slow.send(get("/")).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    send.send(data("late")).unwrap();
    drop(send);
    read_until(&mut connection, "0\r\n\r\n").await;
    connection.write_all(OK).await.unwrap();
    assert_eq!(text(sent.await.unwrap().unwrap()).await, "hello");
}

#[tokio::test]
async fn a_get_on_a_stale_connection_is_sent_again_once() {
    let app = App::start().await;
    let mut stale = app.exchange().await;
    let sent = app.send(get("/again"));
    head(&mut stale).await;
    drop(stale);
    let mut fresh = app.accept().await;
    assert!(head(&mut fresh).await.starts_with("GET /again "));
    fresh.write_all(OK).await.unwrap();
    let response = sent.await.unwrap().unwrap();
    assert_eq!(
        attempt(&response),
        Attempt {
            reused: false,
            retried: true
        }
    );

    // The second attempt is the last.
    drop(text(response).await);
    let sent = app.send(get("/lost"));
    head(&mut fresh).await;
    drop(fresh);
    let mut second = app.accept().await;
    head(&mut second).await;
    drop(second);
    assert_eq!(sent.await.unwrap().unwrap_err().kind(), Kind::Reset);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again() {
    let post = || request("POST", "/", Body::empty());
    let put = || request("PUT", "/", "new".into());
    for refused in [post(), put()] {
        let app = App::start().await;
        let mut stale = app.exchange().await;
        let sent = app.send(refused);
        head(&mut stale).await;
        drop(stale);
        let error = sent.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Reset);
        assert!(error.may_have_reached_app());
    }
}

#[tokio::test]
async fn an_answer_that_had_begun_is_not_asked_for_again() {
    let app = App::start().await;
    let mut stale = app.exchange().await;
    let sent = app.send(get("/"));
    head(&mut stale).await;
    stale.write_all(b"HTTP/1.1 2").await.unwrap();
    drop(stale);
    assert_eq!(sent.await.unwrap().unwrap_err().kind(), Kind::Reset);
}

#[tokio::test]
async fn a_new_connection_that_is_reset_is_not_tried_again() {
    let app = App::start().await;
    let sent = app.send(get("/"));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    drop(connection);
    assert_eq!(sent.await.unwrap().unwrap_err().kind(), Kind::Reset);
}

#[tokio::test]
async fn a_lost_put_stays_possibly_done_when_the_app_cannot_be_reached_again() {
    let app = App::start().await;
    let mut stale = app.exchange().await;
    let sent = app.send(request("PUT", "/", Body::empty()));
    head(&mut stale).await;
    drop(app.listener);
    drop(stale);
    let error = sent.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Reset);
    assert!(error.may_have_reached_app());
}

#[tokio::test]
async fn an_unfinished_body_is_an_error() {
    let unfinished: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    ];
    for answer in unfinished {
        let app = App::start().await;
        let sent = app.send(get("/"));
        let mut connection = app.accept().await;
        head(&mut connection).await;
        connection.write_all(answer).await.unwrap();
        drop(connection);
        assert_eq!(
            body_failure(sent.await.unwrap().unwrap()).await,
            Kind::Truncated
        );
        assert_eq!((app.upstream.in_flight(), app.upstream.idle()), (0, 0));
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_is_an_error() {
    let app = App::with(|config| {
        config.timeout = Duration::from_millis(30);
        config.body_timeout = config.timeout;
    })
    .await;
    let sent = app.send(get("/"));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    connection
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello")
        .await
        .unwrap();
    assert_eq!(
        body_failure(sent.await.unwrap().unwrap()).await,
        Kind::Stalled
    );
    assert!(is_closed(&mut connection).await);
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    let app = App::start().await;
    let sent = app.send(get("/"));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    connection
        .write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(sent.await.unwrap().unwrap_err().kind(), Kind::Protocol);
}

#[tokio::test]
async fn a_request_body_that_fails_is_the_clients_fault() {
    let app = App::start().await;
    let (send, body) = fed();
    let sent = app.send(request("POST", "/", body));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    send.send(data("half")).unwrap();
    send.send(Err(io::ErrorKind::ConnectionReset.into()))
        .unwrap();
    assert_eq!(sent.await.unwrap().unwrap_err().kind(), Kind::RequestBody);
    assert_eq!(app.upstream.in_flight(), 0);
}

#[tokio::test]
async fn requests_over_the_limit_wait_in_order_and_not_for_ever() {
    let app = App::with(|config| {
        config.max_connections = 1;
        config.queue_timeout = Duration::from_millis(50);
    })
    .await;
    let first = app.send(get("/first"));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    let error = app.upstream.send(get("/late")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Saturated);
    assert!(!error.may_have_reached_app());

    connection.write_all(OK).await.unwrap();
    let first = first.await.unwrap().unwrap();
    let error = app.upstream.send(get("/late")).await.unwrap_err();
    assert_eq!(
        error.kind(),
        Kind::Saturated,
        "the permit stays with the body"
    );
    let second = app.send(get("/second"));
    drop(first);
    // The first body was dropped unread: a new connection serves the second.
    let mut connection = app.accept().await;
    assert!(head(&mut connection).await.starts_with("GET /second "));
    connection.write_all(OK).await.unwrap();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn dropping_the_future_or_the_body_closes_the_connection() {
    let app = App::start().await;
    let sent = app.send(get("/"));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    sent.abort();
    assert!(is_closed(&mut connection).await);

    let sent = app.send(get("/"));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    connection
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello")
        .await
        .unwrap();
    drop(sent.await.unwrap().unwrap());
    assert!(is_closed(&mut connection).await);
    assert_eq!(app.upstream.in_flight(), 0);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_passes_and_its_connection_is_closed() {
    let app = App::start().await;
    let (send, body) = fed();
    let sent = app.send(request("POST", "/", body));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    connection
        .write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nhello")
        .await
        .unwrap();
    let response = sent.await.unwrap().unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, "hello");
    assert!(is_closed(&mut connection).await);
    drop(send);
}

/// The runtime has not heard of what lies in the socket when the next request is sent: only the system knows.
#[tokio::test]
async fn what_came_unasked_answers_nothing() {
    let evil = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for method in ["GET", "POST"] {
        let app = App::start().await;
        let connection = app.exchange().await.into_std().unwrap();
        io::Write::write_all(&mut &connection, evil).unwrap();
        is_answered_on_a_new_connection(&app, method).await;
    }
}

/// A write on a connection that the app has just closed would be lost, and may not be repeated.
#[tokio::test]
async fn a_connection_closed_a_moment_ago_is_not_used_for_a_write() {
    let app = App::start().await;
    drop(app.exchange().await.into_std().unwrap());
    is_answered_on_a_new_connection(&app, "POST").await;
}

/// Sends a request, which has to come by a connection of its own, and be answered there.
async fn is_answered_on_a_new_connection(app: &App, method: &str) {
    let mut sent = pin!(app.upstream.send(request(method, "/", "body".into())));
    let mut fresh = tokio::select! {
        biased;
        answer = &mut sent => panic!("{}", text(answer.unwrap()).await),
        fresh = app.accept() => fresh,
    };
    let answering = async {
        read_until(&mut fresh, "body").await;
        fresh.write_all(OK).await.unwrap();
    };
    let (response, ()) = tokio::join!(sent, answering);
    assert_eq!(text(response.unwrap()).await, "hello");
}

/// Apps behind some servers do send the content of an answer to HEAD, and it comes when it comes.
#[tokio::test]
async fn a_connection_whose_answer_may_go_on_is_closed() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
    ] {
        let app = App::start().await;
        let sent = app.send(request(method, "/", Body::empty()));
        let mut connection = app.accept().await;
        head(&mut connection).await;
        connection.write_all(answer.as_bytes()).await.unwrap();
        assert_eq!(text(sent.await.unwrap().unwrap()).await, "");
        let left = (app.upstream.in_flight(), app.upstream.idle());
        assert_eq!(left, (0, 0), "{answer:?}");
        assert!(is_closed(&mut connection).await, "{answer:?}");
    }
}

#[tokio::test]
async fn heads_that_do_not_end_or_end_their_lines_oddly_are_a_protocol_error() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000);
    let long = "x".repeat(100_000);
    for answer in [
        format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nx: {long}\r\ncontent-length: 0\r\n\r\n"),
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n".to_owned(),
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
    ] {
        let app = App::start().await;
        let sent = app.send(get("/"));
        let mut connection = app.accept().await;
        head(&mut connection).await;
        // It may be closed before it has taken all.
        let _ = connection.write_all(answer.as_bytes()).await;
        let error = sent.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol, "{error}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let app = App::start().await;
    let (send, body) = fed();
    let mut outgoing = request("POST", "/", body);
    outgoing
        .headers_mut()
        .insert("trailer", "x-sum".parse().unwrap());
    outgoing
        .headers_mut()
        .insert("te", "trailers".parse().unwrap());
    let sent = app.send(outgoing);
    let mut connection = app.accept().await;
    head(&mut connection).await;
    send.send(data("body")).unwrap();
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
    send.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
    drop(send);
    assert_eq!(
        read_until(&mut connection, "1\r\n\r\n").await,
        "4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n"
    );
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n0\r\nx-sum: 1\r\n\r\n";
    connection.write_all(answer).await.unwrap();
    let mut body = sent.await.unwrap().unwrap().into_body();
    assert_eq!(
        body.frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap(),
        trailers
    );
    assert!(body.frame().await.is_none());
    assert_eq!(app.upstream.idle(), 1);
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel_and_stops_counting() {
    let app = App::start().await;
    let mut upgrade = get("/ws");
    upgrade
        .headers_mut()
        .insert("upgrade", "echo".parse().unwrap());
    upgrade
        .headers_mut()
        .insert("connection", "upgrade".parse().unwrap());
    let sent = app.send(upgrade);
    let mut connection = app.accept().await;
    head(&mut connection).await;
    let answer =
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nfirst";
    connection.write_all(answer).await.unwrap();
    let response = sent.await.unwrap().unwrap();
    assert_eq!(app.upstream.in_flight(), 0);
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    assert_eq!(read_until(&mut tunnel, "first").await, "first");
    tunnel.write_all(b"ping").await.unwrap();
    assert_eq!(read_until(&mut connection, "ping").await, "ping");
}

#[tokio::test]
async fn idle_connections_are_closed_in_time_without_any_traffic() {
    let app = App::with(|config| config.idle_timeout = Duration::from_millis(30)).await;
    let mut connection = app.exchange().await;
    assert!(is_closed(&mut connection).await);
    assert_eq!(app.upstream.idle(), 0);
}

#[tokio::test]
async fn a_drain_waits_for_what_runs() {
    let app = App::start().await;
    let sent = app.send(get("/"));
    let mut connection = app.accept().await;
    head(&mut connection).await;
    let upstream = app.upstream.clone();
    let drained = spawn(async move { upstream.drain().await });
    connection.write_all(OK).await.unwrap();
    assert_eq!(text(sent.await.unwrap().unwrap()).await, "hello");
    drained.await.unwrap();
    assert!(is_closed(&mut connection).await);
}

#[tokio::test]
async fn informational_answers_reach_the_caller_who_asks() {
    let app = App::start().await;
    let (send, mut seen) = mpsc::unbounded_channel();
    let mut outgoing = get("/");
    hyper::ext::on_informational(&mut outgoing, move |hint| {
        let _ = send.send(hint.status());
    });
    let sent = app.send(outgoing);
    let mut connection = app.accept().await;
    head(&mut connection).await;
    connection
        .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(seen.recv().await.unwrap(), 103);
    connection.write_all(OK).await.unwrap();
    assert_eq!(text(sent.await.unwrap().unwrap()).await, "hello");
}

#[tokio::test]
async fn an_app_behind_a_unix_socket_is_reached() {
    let path = std::env::temp_dir().join(format!("reprise-upstream-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let target = Target::parse(&format!("unix:{}", path.display())).unwrap();
    let config = Config::new(target);
    let upstream = Upstream::new(config.clone()).unwrap();
    let sent = spawn(async move { upstream.send(get("/")).await });
    let (mut connection, _) = listener.accept().await.unwrap();
    answer_once(&mut connection).await;
    assert_eq!(text(sent.await.unwrap().unwrap()).await, "hello");
    std::fs::remove_file(&path).unwrap();
    let error = Upstream::new(config)
        .unwrap()
        .send(get("/"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("connect to unix:{}: no such socket", path.display())
    );
}

#[tokio::test]
async fn an_encrypted_app_is_reached_and_one_that_is_not_trusted_is_not() {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let mut roots = rustls::RootCertStore::empty();
    let nobody = tls::trusting(roots.clone()).unwrap();
    roots.add(pair.cert.der().clone()).unwrap();
    let config = Config::new(Target::parse(&url).unwrap());

    let trusting = Upstream::with_tls(config.clone(), tls::trusting(roots).unwrap()).unwrap();
    let sent = spawn(async move { trusting.send(get("/")).await });
    let (connection, _) = listener.accept().await.unwrap();
    answer_once(&mut acceptor.accept(connection).await.unwrap()).await;
    assert_eq!(text(sent.await.unwrap().unwrap()).await, "hello");

    let sent = spawn(async move {
        Upstream::with_tls(config, nobody)
            .unwrap()
            .send(get("/"))
            .await
    });
    let (connection, _) = listener.accept().await.unwrap();
    acceptor.accept(connection).await.unwrap_err();
    let error = sent.await.unwrap().unwrap_err();
    assert!(
        error.is_connect() && error.to_string().ends_with(": TLS failed"),
        "{error}"
    );
}

async fn answer_once(connection: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    head(connection).await;
    connection.write_all(OK).await.unwrap();
    connection.flush().await.unwrap();
}
