//! A proxy as a proxy: both protocols, every transport, bodies as they stream.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "what a test begins ends with it"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::support::client::raw;
use crate::support::line::{Bare, Line, http2};
use crate::support::origin::streamed;
use crate::support::{Origin, Sidecar, eventually, reply, soon};

const CACHED: &str = "ttl = \"1m\"";

fn full(text: &'static str) -> http_body_util::combinators::BoxBody<Bytes, BoxError> {
    Full::from(text).map_err(|never| match never {}).boxed()
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::test]
async fn every_method_reaches_the_app_as_it_is() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| {
        reply(format!("{} {:?}", seen.method, seen.body))
    });
    let sidecar = Sidecar::before(&origin).start().await;

    for (method, body, answer) in [
        ("GET", "", "GET b\"\""),
        ("OPTIONS", "", "OPTIONS b\"\""),
        ("POST", "x", "POST b\"x\""),
        ("PUT", "x", "PUT b\"x\""),
        ("PATCH", "x", "PATCH b\"x\""),
        ("DELETE", "", "DELETE b\"\""),
        ("REPORT", "x", "REPORT b\"x\""),
    ] {
        let reply = sidecar.call(method, "/a/").body(body).send().await;
        reply.is(200, answer, "BYPASS");
    }
}

#[tokio::test]
async fn a_head_tells_the_length_and_sends_no_body_whoever_answers() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("12345"));
    let sidecar = Sidecar::before(&origin).route("/a/", CACHED).start().await;
    let head = "HEAD /a/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    for cache in ["MISS", "HIT"] {
        let answer = raw(&sidecar.address, head).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
        assert!(answer.contains("\r\ncontent-length: 5\r\n"), "{answer}");
        let said = format!("\r\nx-cache: {}\r\n", cache.to_ascii_lowercase());
        assert!(answer.contains(&said), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        sidecar.call("GET", "/a/").header("host", "x").send().await;
    }
}

#[tokio::test]
async fn a_question_about_the_whole_server_is_passed_on() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url()).start().await;
    let mut client = Line::to(&sidecar.address).await;
    client.write("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").await;

    let head = app.accept().await.answer("").await;
    assert!(head.starts_with("options * http/1.1\r\n"), "{head}");
    let answer = client.head().await.to_ascii_lowercase();
    assert!(answer.contains("\r\nx-cache: bypass\r\n"), "{answer}");
}

#[tokio::test]
async fn http2_is_spoken_without_asking() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| {
        reply(format!("{} {:?}", seen.field("host"), seen.body))
    });
    let sidecar = Sidecar::before(&origin).route("/a/", CACHED).start().await;
    let mut client = http2(&sidecar.address).await;

    for (method, body, cache, answer) in [
        ("GET", "", "MISS", "shop.example b\"\""),
        ("GET", "", "HIT", "shop.example b\"\""),
        ("POST", "hello", "BYPASS", "shop.example b\"hello\""),
    ] {
        let request = Request::builder()
            .method(method)
            .uri("http://shop.example/a/")
            .body(full(body))
            .unwrap();
        let response = soon("an answer", client.send_request(request))
            .await
            .unwrap();
        assert_eq!(response.headers()["x-cache"], cache);
        assert_eq!(response.version(), http::Version::HTTP_2);
        let bytes = response.collect().await.unwrap().to_bytes();
        assert_eq!(bytes, answer);
    }
}

#[tokio::test]
async fn an_app_behind_a_unix_socket_comes_back_by_itself() {
    let directory = std::env::temp_dir().join(format!("reprise-it-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("app.sock");
    let url = format!("unix:{}", path.display());
    let sidecar = Sidecar::before_url(&url).route("/a/", CACHED).start().await;

    let reply = sidecar.get("/a/").await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.cache(), "MISS");
    let detail = format!("connect to {url}: no such socket");
    assert_eq!(reply.value()["detail"], detail);

    let app = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = app.accept().await.unwrap();
        Line(stream).answer("hello").await
    });
    sidecar.get("/a/").await.is(200, "hello", "MISS");
    sidecar.get("/a/").await.is(200, "hello", "HIT");
    std::fs::remove_dir_all(directory).unwrap();
}

/// The binary, because the roots to trust come from its environment.
#[tokio::test]
async fn an_encrypted_app_is_asked_and_one_that_nobody_vouches_for_is_not() {
    let directory = std::env::temp_dir().join(format!("reprise-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (app, port, certificate) = encrypted_app().await;
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = app.0.accept().await {
            if let Ok(stream) = app.1.accept(stream).await {
                Line(stream).answer("hello").await;
            }
        }
    });

    for (name, trusted, status) in [
        ("known", certificate, "200"),
        ("unknown", stranger.cert.pem(), "502"),
    ] {
        let answer = ask_binary(&directory, (name, &trusted), port).await;
        assert!(
            answer.starts_with(&format!("http/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("\r\nx-cache: bypass\r\n"), "{answer}");
        assert_eq!(answer.ends_with("hello"), name == "known", "{answer}");
        assert_eq!(
            answer.contains(": tls failed\""),
            name == "unknown",
            "{answer}"
        );
    }
    std::fs::remove_dir_all(directory).unwrap();
}

async fn encrypted_app() -> ((TcpListener, tokio_rustls::TlsAcceptor), u16, String) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    ((listener, acceptor), port, pair.cert.pem())
}

/// Runs the binary before an encrypted app, trusting one certificate, and asks it once.
async fn ask_binary(
    directory: &std::path::Path,
    (name, trusted): (&str, &str),
    port: u16,
) -> String {
    let at = |suffix: &str| directory.join(format!("{name}.{suffix}"));
    std::fs::write(at("pem"), trusted).unwrap();
    let config = format!(
        "[server]\nlisten = \"unix:{}\"\n[upstream]\nurl = \"https://localhost:{port}\"\n\
         connect_timeout = \"10s\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        at("sock").display()
    );
    std::fs::write(at("toml"), config).unwrap();
    let mut binary = std::process::Command::new(env!("CARGO_BIN_EXE_reprise"))
        .args(["run", "--config"])
        .arg(at("toml"))
        .env("SSL_CERT_FILE", at("pem"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the binary listens", || {
        std::os::unix::net::UnixStream::connect(at("sock")).is_ok()
    })
    .await;
    let mut client = Line(UnixStream::connect(at("sock")).await.unwrap());
    client
        .write("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let answer = client.rest().await.to_ascii_lowercase();
    binary.kill().unwrap();
    binary.wait().unwrap();
    answer
}

#[tokio::test]
async fn one_connection_to_the_app_serves_one_request_after_another() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url()).start().await;

    let first = tokio::spawn(sidecar.call("GET", "/1").send());
    let mut connection = app.accept().await;
    connection.answer("one").await;
    first.await.unwrap().is(200, "one", "BYPASS");
    let second = tokio::spawn(sidecar.call("POST", "/2").body("x").send());
    let head = connection.until("x").await;
    assert!(head.starts_with("POST /2 HTTP/1.1\r\n"), "{head}");
    connection
        .write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo")
        .await;
    second.await.unwrap().is(200, "two", "BYPASS");
    assert!(app.is_quiet().await);
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url()).start().await;
    let mut client = Line::to(&sidecar.address).await;

    client
        .write("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\none")
        .await;
    let mut server = app.accept().await;
    server.until("one").await;
    server
        .write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nuno")
        .await;
    let head = client.head().await;
    assert!(head.contains("x-cache: BYPASS\r\n"), "{head}");
    client.until("uno").await;
    client.write("two").await;
    server.until("two").await;
    server.write("dos").await;
    client.until("dos").await;
}

/// A reader that does not read holds the writer; the proxy keeps what its buffers take and no more.
#[tokio::test]
async fn a_slow_client_holds_the_app() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url()).start().await;
    let mut client = Line::to(&sidecar.address).await;
    client
        .write("GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;

    let mut server = app.accept().await;
    server.head().await;
    let length = CHUNK * CHUNKS;
    server
        .write(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
    let written = write_much(server);
    let head = client.head().await;
    assert!(head.contains("x-cache: BYPASS\r\n"), "{head}");
    settled(&written).await;
    assert!(written.load(SeqCst) < CHUNKS, "nothing held the app");
    assert_eq!(client.rest().await.len(), length);
}

#[tokio::test]
async fn a_slow_app_holds_the_client() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .server("max_request_body = \"1GiB\"")
        .start()
        .await;
    let mut client = Line::to(&sidecar.address).await;
    let length = CHUNK * CHUNKS;
    client
        .write(format!(
            "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
    let mut server = app.accept().await;
    server.head().await;
    let written = write_much(client);
    settled(&written).await;
    assert!(written.load(SeqCst) < CHUNKS, "nothing held the client");
}

const CHUNK: usize = 64 * 1024;
const CHUNKS: usize = 1024;

/// Writes 64 MiB as fast as they are taken; how many chunks were.
fn write_much(mut line: Line) -> Arc<AtomicUsize> {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        for _ in 0..CHUNKS {
            line.write(vec![b'x'; CHUNK]).await;
            count.fetch_add(1, SeqCst);
        }
        line.rest().await
    });
    written
}

/// Waits until a count stands still.
async fn settled(count: &AtomicUsize) {
    soon("the writer stands still", async {
        let mut before = usize::MAX;
        while std::mem::replace(&mut before, count.load(SeqCst)) != count.load(SeqCst)
            || before == 0
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let origin = Origin::start().await;
    let (scripted, chunks) = streamed();
    origin.then("/a/", scripted.header("trailer", "x-sum"));
    let sidecar = Sidecar::before(&origin).start().await;
    chunks.send("body");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    chunks.trailers(trailers);

    let answer = raw(
        &sidecar.address,
        "POST /a/ HTTP/1.1\r\nhost: x\r\nconnection: close, te\r\nte: trailers\r\n\
         trailer: x-up\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-up: 7\r\n\r\n",
    )
    .await
    .to_ascii_lowercase();
    let seen = origin.last("/a/");
    assert_eq!(seen.body, "hi");
    assert_eq!(seen.trailers.expect("trailers")["x-up"], "7");
    assert!(answer.contains("\r\nx-cache: bypass\r\n"), "{answer}");
    assert!(
        answer.ends_with("4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn trailers_pass_to_and_from_http2() {
    let origin = Origin::start().await;
    let (scripted, chunks) = streamed();
    origin.then("/a/", scripted.header("trailer", "x-sum"));
    let sidecar = Sidecar::before(&origin).start().await;
    let trailers = |name, value: &str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
    let (sum, up) = ("x-sum".parse().unwrap(), "x-up".parse().unwrap());
    chunks.trailers(trailers(sum, "42"));

    let frames = [
        Frame::data(Bytes::from("hi")),
        Frame::trailers(trailers(up, "7")),
    ];
    let (sender, mut receiver) = tokio::sync::mpsc::channel(2);
    for frame in frames {
        sender.send(Ok::<_, BoxError>(frame)).await.unwrap();
    }
    drop(sender);
    let body = StreamBody::new(Polled(move |cx: &mut std::task::Context<'_>| {
        receiver.poll_recv(cx)
    }));
    let request = Request::post("http://x/a/")
        .header("te", "trailers")
        .header("trailer", "x-up")
        .body(body.boxed())
        .unwrap();
    let response = http2(&sidecar.address)
        .await
        .send_request(request)
        .await
        .unwrap();
    assert_eq!(response.headers()["x-cache"], "BYPASS");
    let collected = response.collect().await.unwrap();
    assert_eq!(collected.trailers().expect("trailers")["x-sum"], "42");
    assert_eq!(origin.last("/a/").trailers.expect("trailers")["x-up"], "7");
}

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

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| reply(seen.body.clone()));
    let sidecar = Sidecar::before(&origin).start().await;
    let mut client = Line::to(&sidecar.address).await;

    client
        .write("POST /a/ HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        .await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write("hi").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("x-cache: BYPASS\r\n"), "{head}");
    client.until("hi").await;
    assert_eq!(origin.last("/a/").field("expect"), "");
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_refused_before_it_sends_too_much() {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin)
        .server("max_request_body = \"1KiB\"")
        .start()
        .await;
    let answer = raw(
        &sidecar.address,
        "POST /a/ HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2000\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("x-cache: BYPASS\r\n"), "{answer}");
    assert_eq!(origin.hits("/a/"), 0);
}

#[tokio::test]
async fn informational_answers_of_the_app_are_skipped() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .route("/a/", CACHED)
        .start()
        .await;
    let reply = tokio::spawn(sidecar.call("GET", "/a/").send());

    let mut server = app.accept().await;
    server.head().await;
    server
        .write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </s.css>\r\n\r\n")
        .await;
    server
        .write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none")
        .await;
    let reply = reply.await.unwrap();
    reply.is(200, "one", "MISS");
    assert_eq!(reply.field("link"), "");
    sidecar.get("/a/").await.is(200, "one", "HIT");
}

#[tokio::test]
async fn connect_is_refused() {
    let origin = Origin::start().await;
    for plan in [
        Sidecar::before(&origin),
        Sidecar::before(&origin).route("/a/", CACHED),
    ] {
        let sidecar = plan.start().await;
        let request = "CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\nconnection: close\r\n\r\n";
        let answer = raw(&sidecar.address, request).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 405 "), "{answer}");
        assert!(
            answer.contains("content-type: application/problem+json\r\n"),
            "{answer}"
        );
        assert!(answer.contains("allow: get, "), "{answer}");
        assert!(answer.contains("x-cache: bypass\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn an_app_that_leaves_in_the_middle_is_seen_to_and_nothing_is_kept() {
    for framing in [
        "content-length: 6\r\n\r\none",
        "transfer-encoding: chunked\r\n\r\n3\r\none\r\n",
    ] {
        let app = Bare::start().await;
        let sidecar = Sidecar::before_url(&app.url())
            .route("/a/", CACHED)
            .start()
            .await;
        for path in ["/a/", "/uncached"] {
            let open = tokio::spawn(sidecar.call("GET", path).open());
            let mut server = app.accept().await;
            server.head().await;
            server.write(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
            let mut open = open.await.unwrap();
            assert_eq!(open.chunk().await.expect("a chunk").unwrap(), "one");
            drop(server);
            let end = open.chunk().await;
            assert!(end.is_some_and(|end| end.is_err()), "{path} {framing:?}");
        }
        let again = tokio::spawn(sidecar.call("GET", "/a/").send());
        app.accept().await.answer("whole").await;
        again.await.unwrap().is(200, "whole", "MISS");
    }
}
