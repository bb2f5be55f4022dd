//! Requests and answers that mean harm, and neighbours that leave in the middle.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use crate::limits::problem;
use crate::support::client::raw;
use crate::support::line::{Bare, Line};
use crate::support::origin::streamed;
use crate::support::{Origin, Sidecar, eventually, reply};

const CACHED: &str = "ttl = \"1m\"";

/// RFC 9112 §3.2 and §6.1: what two servers may read in two ways is read by none.
#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin).route("/a/", CACHED).start().await;

    for (status, request) in [
        (400, "GET /a/ HTTP/1.1\r\n\r\n"),
        (400, "GET /a/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        (400, "GET /a/ HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
        (400, "GET /a/ HTTP/1.1\r\nhost: a/b\r\n\r\n"),
        (400, "GET /a/ HTTP/1.1\r\nhost: a@b\r\n\r\n"),
        (400, "GET /a/ HTTP/1.1\r\nhost: a b\r\n\r\n"),
        (400, "GET /a/ HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n"),
        (400, "GET http://me:pw@a/a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET /a/ HTTP/1.1\r\nhost : a\r\n\r\n"),
        (400, "GET /a/ HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n"),
        (400, "GET /a/\0 HTTP/1.1\r\nhost: a\r\n\r\n"),
        (
            400,
            "POST /a/ HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ),
        (
            400,
            "POST /a/ HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na",
        ),
        (
            400,
            "POST /a/ HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\na",
        ),
        (
            400,
            "POST /a/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
        ),
        (
            400,
            "POST /a/ HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            501,
            "POST /a/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            501,
            "POST /a/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        ),
    ] {
        let answer = raw(&sidecar.address, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                || answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{request:?}: {answer}"
        );
    }
    assert_eq!(origin.hits("/a/"), 0);
}

/// The refusal says why, in the way every other does.
#[tokio::test]
async fn a_refused_request_is_told_why() {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin).start().await;
    for (request, detail) in [
        ("GET /a/ HTTP/1.1\r\n\r\n", "exactly one Host field"),
        (
            "GET /a/ HTTP/1.1\r\nhost: a?b\r\n\r\n",
            "the host is not a host",
        ),
        (
            "POST /a/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "only chunked",
        ),
    ] {
        let answer = raw(&sidecar.address, request).await;
        assert!(
            answer.contains("content-type: application/problem+json\r\n"),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains(detail), "{answer}");
    }
}

/// RFC 9112 §6.1: chunked wins, the length is not sent on, and the connection is closed.
#[tokio::test]
async fn a_length_beside_chunks_is_not_believed() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| reply(seen.body.clone()));
    let sidecar = Sidecar::before(&origin).start().await;
    for framing in [
        "content-length: 2\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 2",
    ] {
        let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
        let request = format!(
            "POST /a/ HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n5\r\nhello\r\n0\r\n\r\n{hidden}"
        );
        let answer = raw(&sidecar.address, request).await;
        assert!(answer.contains("x-cache: BYPASS\r\n"), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
        assert_eq!(origin.last("/a/").field("content-length"), "");
    }
    assert_eq!(origin.hits("/hidden"), 0);
}

#[tokio::test]
async fn answers_that_are_not_http_are_a_502() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .route("/a/", CACHED)
        .start()
        .await;
    for answer in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        for path in ["/a/", "/uncached"] {
            let call = tokio::spawn(sidecar.call("GET", path).send());
            let mut server = app.accept().await;
            server.head().await;
            server.write(answer).await;
            let detail = problem(&call.await.unwrap(), 502);
            let expected = format!("read the answer of {}: not HTTP/1.1", app.address());
            assert_eq!(detail, expected, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_safe_request_on_a_connection_that_had_died_is_sent_once_more() {
    for path in ["/a/", "/uncached"] {
        let app = Bare::start().await;
        let sidecar = Sidecar::before_url(&app.url())
            .route("/a/", CACHED)
            .start()
            .await;
        let first = tokio::spawn(sidecar.call("GET", "/first").send());
        let mut server = app.accept().await;
        server.answer("ok").await;
        first.await.unwrap().is(200, "ok", "BYPASS");

        let call = tokio::spawn(sidecar.call("GET", path).send());
        server.head().await;
        drop(server);
        let mut server = app.accept().await;
        server.head().await;
        drop(server);
        let detail = problem(&call.await.unwrap(), 502);
        assert!(detail.ends_with("the connection was closed"), "{detail}");
        assert!(app.is_quiet().await, "not a third time");
    }
}

#[tokio::test]
async fn a_write_is_never_sent_twice() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .route("/a/", CACHED)
        .start()
        .await;
    for (method, body) in [("POST", "x"), ("POST", ""), ("PATCH", "x"), ("PUT", "x")] {
        let first = tokio::spawn(sidecar.call("GET", "/first").send());
        let mut server = app.accept().await;
        server.answer("ok").await;
        first.await.unwrap().is(200, "ok", "BYPASS");

        let call = tokio::spawn(sidecar.call(method, "/a/").body(body).send());
        let head = server.head().await;
        assert!(head.starts_with(method), "{head}");
        server.until(body).await;
        drop(server);
        problem(&call.await.unwrap(), 502);
        assert!(app.is_quiet().await, "{method} {body:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_sends_frees_the_place_with_the_app() {
    let app = Bare::start().await;
    for routed in [false, true] {
        let plan = Sidecar::before_url(&app.url()).upstream("max_connections = 1");
        let plan = if routed {
            plan.route("/b/", CACHED)
        } else {
            plan
        };
        let sidecar = plan.start().await;
        let mut client = Line::to(&sidecar.address).await;
        client
            .write("POST /a/ HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
            .await;
        let mut server = app.accept().await;
        server.until("abc").await;
        drop(client);
        assert_eq!(server.rest().await, "", "the app sees that it is over");
        let next = tokio::spawn(sidecar.call("GET", "/next").send());
        app.accept().await.answer("ok").await;
        next.await.unwrap().is(200, "ok", "BYPASS");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_frees_the_place_with_the_app() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .upstream("max_connections = 1")
        .start()
        .await;
    let mut client = Line::to(&sidecar.address).await;
    client.write("GET /a/ HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut server = app.accept().await;
    server.head().await;
    drop(client);
    assert_eq!(server.rest().await, "");
    let next = tokio::spawn(sidecar.call("GET", "/next").send());
    app.accept().await.answer("ok").await;
    next.await.unwrap().is(200, "ok", "BYPASS");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_answer_frees_the_place_with_the_app() {
    let origin = Origin::start().await;
    let (scripted, chunks) = streamed();
    origin.then("/a/", scripted).on("/next", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .upstream("max_connections = 1")
        .start()
        .await;
    chunks.send("first");
    let mut open = sidecar.call("GET", "/a/").open().await;
    assert_eq!(open.headers["x-cache"], "BYPASS");
    assert_eq!(
        open.chunk().await.expect("a chunk").expect("bytes"),
        "first"
    );
    drop(open);
    chunks.abandoned().await;
    sidecar.get("/next").await.is(200, "ok", "BYPASS");
}

/// A fill is the cache's own: it goes on without its client, and gives its place back when it is done.
#[tokio::test]
async fn a_fill_whose_client_has_left_is_finished_and_kept() {
    let origin = Origin::start().await;
    origin
        .on("/a/", |_| reply("ok"))
        .on("/next", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .upstream("max_connections = 1")
        .route("/a/", CACHED)
        .start()
        .await;
    let held = origin.hold("/a/");
    let mut client = Line::to(&sidecar.address).await;
    client
        .write("GET /a/ HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        .await;
    held.arrived(1).await;
    drop(client);
    held.release();
    sidecar.get("/next").await.is(200, "ok", "BYPASS");
    sidecar.get("/a/").await.is(200, "ok", "HIT");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_head_disturbs_nobody() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("max_connections = 1")
        .start()
        .await;
    for part in ["", "G", "GET /a/ HTTP/1.1\r\nhost", "PRI * HTTP/2.0\r\n"] {
        let mut client = Line::to(&sidecar.address).await;
        client.write(part).await;
        drop(client);
        sidecar.get("/a/").await.is(200, "ok", "BYPASS");
    }
    let in_flight = sidecar.metric("reprise_http_requests_in_flight").await;
    eventually("no request is left", || in_flight == 0.0).await;
}
