//! What is too large or too many, and an app that cannot be reached: problem documents that name what was tried.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use crate::support::client::raw;
use crate::support::line::{Bare, Line};
use crate::support::{Origin, Reply, Sidecar, reply};

/// Asserts a problem document, and gives its detail.
#[track_caller]
pub fn problem(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status, status, "{}", reply.body);
    assert_eq!(reply.field("content-type"), "application/problem+json");
    assert_eq!(reply.field("cache-control"), "no-store");
    let cache = reply.cache();
    assert!(cache == "BYPASS" || cache == "MISS", "{cache}");
    assert_eq!(reply.value()["status"], status);
    reply.value()["detail"].as_str().expect("text").to_owned()
}

#[tokio::test]
async fn a_body_larger_than_the_limit_is_refused_as_soon_as_that_is_known() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let plan = || Sidecar::before(&origin).server("max_request_body = \"1KiB\"");
    let detail = "the request body is larger than 1 KiB ([server] max_request_body)";

    for plan in [plan(), plan().route("/other/", "ttl = \"1m\"")] {
        let sidecar = plan.start().await;
        let declared = sidecar.call("POST", "/a/").body(vec![b'x'; 1025]);
        assert_eq!(problem(&declared.send().await, 413), detail);
        let chunk = format!("401\r\n{}\r\n", "x".repeat(0x401));
        let chunked =
            format!("POST /a/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
        let answer = raw(&sidecar.address, chunked).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("x-cache: BYPASS\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains(detail), "{answer}");
        let most = sidecar.call("POST", "/a/").body(vec![b'x'; 1024]);
        most.send().await.is(200, "ok", "BYPASS");
    }
}

#[tokio::test]
async fn a_head_larger_than_the_limit_is_refused() {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin).start().await;
    let large = "x".repeat(70 * 1024);
    let request = format!("GET /a/ HTTP/1.1\r\nhost: x\r\nx-large: {large}\r\n\r\n");
    let answer = raw(&sidecar.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(origin.hits("/a/"), 0);
}

#[tokio::test]
async fn an_app_that_cannot_be_reached_is_named() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let refused = nobody.local_addr().expect("an address");
    drop(nobody);
    for (url, detail) in [
        (
            format!("http://{refused}"),
            format!("connect to {refused}: refused"),
        ),
        (
            "http://nobody.invalid:81".to_owned(),
            "connect to nobody.invalid:81: failed".to_owned(),
        ),
    ] {
        let sidecar = Sidecar::before_url(&url)
            .upstream("connect_timeout = \"15s\"")
            .route("/a/", "ttl = \"1m\"")
            .start()
            .await;
        for call in [
            sidecar.call("GET", "/a/"),
            sidecar.call("GET", "/uncached"),
            sidecar.call("POST", "/a/").json("{}"),
        ] {
            assert_eq!(problem(&call.send().await, 502), detail);
        }
        let series = "reprise_upstream_errors_total{kind=\"connect\"}";
        assert_eq!(sidecar.metric(series).await, 3.0);
    }
}

#[tokio::test]
async fn more_requests_than_the_app_takes_wait_and_then_are_told_to_come_back() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .upstream("max_connections = 1\ntimeout = \"200ms\"")
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    // An upload takes its own time, and the only place.
    let mut first = Line::to(&sidecar.address).await;
    first
        .write("POST /a/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n1")
        .await;
    let mut server = app.accept().await;
    server.until("1").await;
    for path in ["/a/", "/uncached"] {
        let turned_away = sidecar.get(path).await;
        let detail = problem(&turned_away, 503);
        let address = app.address();
        let expected = format!("wait for a free connection to {address}: timed out");
        assert_eq!(detail, expected);
        assert_eq!(turned_away.field("retry-after"), "1");
    }
    first.write("2").await;
    server.until("2").await;
    server
        .write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    assert!(first.rest().await.ends_with("ok"));
}

#[tokio::test]
async fn who_waits_for_a_place_with_the_app_gets_it_in_turn() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .upstream("max_connections = 1")
        .start()
        .await;
    let held = origin.hold("/a/");
    let calls: Vec<_> = (0..5)
        .map(|_| tokio::spawn(sidecar.call("GET", "/a/").send()))
        .collect();
    held.arrived(1).await;
    held.release();
    for call in calls {
        call.await.unwrap().is(200, "ok", "BYPASS");
    }
    assert_eq!(origin.hits("/a/"), 5);
}

#[tokio::test]
async fn clients_over_the_limit_wait_and_are_served() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("max_connections = 1")
        .start()
        .await;
    let held = origin.hold("/a/");
    let first = tokio::spawn(sidecar.call("GET", "/a/").send());
    held.arrived(1).await;
    let mut second = Line::to(&sidecar.address).await;
    second
        .write("GET /a/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    held.release();
    first.await.unwrap().is(200, "ok", "BYPASS");
    let answer = second.rest().await;
    assert!(answer.contains("x-cache: BYPASS\r\n"), "{answer}");
    assert!(answer.ends_with("ok"), "{answer}");
}
