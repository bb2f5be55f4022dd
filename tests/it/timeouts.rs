//! Every wait has an end.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use crate::limits::problem;
use crate::support::client::raw;
use crate::support::line::{Bare, Line};
use crate::support::{Origin, Sidecar, reply};

#[tokio::test]
async fn a_head_that_does_not_come_gets_408() {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin)
        .server("header_timeout = \"200ms\"")
        .start()
        .await;
    let answer = raw(&sidecar.address, "GET /a/ HTTP/1.1\r\nho").await;
    assert!(
        answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("content-type: application/problem+json\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("The head of the request did not come in time.\"}"),
        "{answer}"
    );
    assert_eq!(origin.hits("/a/"), 0);
}

#[tokio::test]
async fn a_body_that_does_not_come_gets_408() {
    let origin = Origin::start().await;
    let plan = || Sidecar::before(&origin).server("idle_timeout = \"200ms\"");
    for plan in [plan(), plan().route("/other/", "ttl = \"1m\"")] {
        let sidecar = plan.start().await;
        let head = "POST /a/ HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc";
        let answer = raw(&sidecar.address, head).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("x-cache: BYPASS\r\n"), "{answer}");
        assert!(
            answer.contains("the request body did not arrive in time"),
            "{answer}"
        );
    }
}

/// Nobody accepts, and the queue of those who wait to be is full: the kernel drops what else comes.
#[tokio::test]
async fn an_app_that_does_not_accept_is_a_504() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _queued = std::net::TcpStream::connect(address).unwrap();
    let sidecar = Sidecar::before_url(&format!("http://{address}"))
        .upstream("connect_timeout = \"200ms\"")
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    for path in ["/a/", "/uncached"] {
        let detail = problem(&sidecar.get(path).await, 504);
        assert_eq!(detail, format!("connect to {address}: timed out"));
    }
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_a_504() {
    let origin = Origin::start().await;
    let (cached, not) = (origin.hold("/a/"), origin.hold("/uncached"));
    let sidecar = Sidecar::before(&origin)
        .upstream("timeout = \"200ms\"")
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    for (method, path) in [("GET", "/a/"), ("GET", "/uncached"), ("POST", "/uncached")] {
        let reply = sidecar.call(method, path).send().await;
        let expected = format!("wait for the answer of {}: timed out", origin.address());
        assert_eq!(problem(&reply, 504), expected);
    }
    assert_eq!(origin.hits("/uncached"), 2, "nothing is asked twice");
    origin.on("/a/", |_| reply("ok"));
    cached.release();
    not.release();
    sidecar.get("/a/").await.is(200, "ok", "MISS");
}

/// The time of a client that sends slowly is not the app's.
#[tokio::test]
async fn a_slow_upload_does_not_use_up_the_apps_time() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .upstream("timeout = \"150ms\"")
        .start()
        .await;
    let mut client = Line::to(&sidecar.address).await;
    client
        .write("POST /a/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\n")
        .await;
    let mut server = app.accept().await;
    server.head().await;
    for byte in ["a", "b", "c", "d", "e"] {
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        client.write(byte).await;
        server.until(byte).await;
    }
    server
        .write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("x-cache: BYPASS\r\n"), "{answer}");
}

#[tokio::test]
async fn an_app_that_stops_in_the_middle_of_a_body_is_given_up() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .upstream("timeout = \"200ms\"")
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    for (path, cache) in [("/a/", "MISS"), ("/uncached", "BYPASS")] {
        let reply = tokio::spawn(sidecar.call("GET", path).send());
        let mut server = app.accept().await;
        server.head().await;
        server
            .write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
            .await;
        let reply = reply.await.unwrap();
        assert!(reply.broken, "{path}");
        reply.is(200, "abc", cache);
        assert_eq!(server.rest().await, "", "the connection is closed");
    }
}
