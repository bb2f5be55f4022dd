//! WebSocket and its like: after a 101 the proxy only moves bytes.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use crate::limits::problem;
use crate::support::line::{Bare, Line};
use crate::support::{Origin, Sidecar, reply};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let origin = Origin::start().await;
    origin.on("/ws", |_| {
        reply("")
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    });
    let plan = || Sidecar::before(&origin);
    for plan in [plan(), plan().route("/ws", "ttl = \"1m\"")] {
        let sidecar = plan.start().await;
        let mut client = Line::to(&sidecar.address).await;
        client.write(UPGRADE).await;
        let head = client.head().await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        for line in [
            "x-cache: bypass",
            "connection: upgrade",
            "upgrade: websocket",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
        }
        assert!(head.contains("sec-websocket-accept: s3ppl"), "{head}");
        for message in ["hello", "\u{0}\u{1}binary", "world"] {
            client.write(message).await;
            assert_eq!(client.until(message).await, message);
        }
        let seen = origin.last("/ws");
        assert_eq!(seen.field("sec-websocket-version"), "13");
        assert_eq!(seen.field("upgrade"), "websocket");
    }
}

#[tokio::test]
async fn both_ends_of_an_upgraded_connection_close_together_and_it_takes_no_place_with_the_app() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .upstream("max_connections = 1")
        .start()
        .await;
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Line::to(&sidecar.address).await;
        client.write(UPGRADE).await;
        let mut server = app.accept().await;
        server.head().await;
        server.write(switch).await;
        client.head().await;
        clients.push((client, server));
    }
    let (mut client, server) = clients.pop().expect("a pair");
    drop(server);
    assert_eq!(client.rest().await, "");
    let (client, mut server) = clients.pop().expect("a pair");
    drop(client);
    assert_eq!(server.rest().await, "");
    let (mut client, mut server) = clients.pop().expect("a pair");
    server.write("still here").await;
    client.until("still here").await;
}

#[tokio::test]
async fn an_app_that_does_not_switch_answers_as_usual() {
    let origin = Origin::start().await;
    origin.on("/ws", |_| {
        reply("no").status(426).header("upgrade", "websocket")
    });
    let sidecar = Sidecar::before(&origin).start().await;
    let call = sidecar.call("GET", "/ws").header("connection", "upgrade");
    let reply = call.header("upgrade", "websocket").send().await;
    reply.is(426, "no", "BYPASS");
    assert_eq!(reply.field("upgrade"), "");
}

/// RFC 9110 §15.2.2: nobody asked, so nobody switches; what the app sends after it would be read as an answer.
#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_502() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url())
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    for (method, path) in [("GET", "/a/"), ("GET", "/uncached"), ("POST", "/a/")] {
        let call = tokio::spawn(sidecar.call(method, path).send());
        let mut server = app.accept().await;
        server.head().await;
        server
            .write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
            .await;
        let detail = problem(&call.await.unwrap(), 502);
        assert_eq!(
            detail,
            format!("read the answer of {}: not HTTP/1.1", app.address())
        );
        assert_eq!(server.rest().await, "", "the connection is closed");
    }
}
