//! Interim answers (RFC 9110 §15.2): handed to the one they were made for, before his answer, and to nobody else.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use crate::support::client::raw;
use tokio::io::AsyncWriteExt;

use crate::support::line::{Bare, Line, http2};
use crate::support::{Sidecar, soon};

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
/// As the client gets it: this proxy is in `Via`.
const HANDED: &str =
    "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nvia: 1.1 reprise\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A sidecar with a cached route, before an app of bytes.
async fn start() -> (Bare, Sidecar) {
    let app = Bare::start().await;
    let plan = Sidecar::before_url(&app.url()).route("/a/**", "ttl = \"1m\"");
    let sidecar = plan.start().await;
    (app, sidecar)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n\r\n")
}

async fn answer(client: &mut Line) -> String {
    let head = client.head().await;
    head + &client.until("ok").await
}

/// The hint is there while the app still thinks; the next client gets the stored answer and no hint.
#[tokio::test]
async fn a_hint_comes_before_the_answer_and_is_not_stored() {
    let (app, sidecar) = start().await;
    for path in ["/a/1", "/uncached"] {
        let mut client = Line::to(&sidecar.address).await;
        client.write(get(path)).await;
        let mut server = app.accept().await;
        server.head().await;
        server.write(HINT).await;
        assert_eq!(client.head().await, HANDED, "{path}");
        server.write(OK).await;
        let answer = answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(!answer.contains("link"), "{answer}");
        drop(server);
    }
    let mut client = Line::to(&sidecar.address).await;
    client.write(get("/a/1")).await;
    let stored = answer(&mut client).await;
    assert!(stored.starts_with("HTTP/1.1 200 OK\r\n"), "{stored}");
    assert!(stored.contains("x-cache: HIT\r\n"), "{stored}");
    let counted = sidecar.metric("reprise_interim_responses_total").await;
    assert!((counted - 2.0).abs() < f64::EPSILON, "{counted}");
}

/// Also when both are in one packet.
#[tokio::test]
async fn a_hint_right_before_the_answer_is_not_overtaken_by_it() {
    let (app, sidecar) = start().await;
    for path in ["/a/1", "/uncached", "/a/2"] {
        let mut client = Line::to(&sidecar.address).await;
        client.write(get(path)).await;
        let mut server = app.accept().await;
        server.head().await;
        server.write(format!("{HINT}{OK}")).await;
        assert_eq!(client.head().await, HANDED, "{path}");
        let answer = answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        drop(server);
    }
}

#[tokio::test]
async fn a_write_is_handed_its_interim_answers_too() {
    let (app, sidecar) = start().await;
    let mut client = Line::to(&sidecar.address).await;
    client
        .write("POST /a/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx")
        .await;
    let mut server = app.accept().await;
    server.until("\r\n\r\nx").await;
    server.write("HTTP/1.1 102 Processing\r\n\r\n").await;
    let processing = "HTTP/1.1 102 Processing\r\nvia: 1.1 reprise\r\n\r\n";
    assert_eq!(client.head().await, processing);
    server.write(OK).await;
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn what_is_between_neighbours_is_taken_out_of_a_hint() {
    let (app, sidecar) = start().await;
    let mut client = Line::to(&sidecar.address).await;
    client.write(get("/a/1")).await;
    let mut server = app.accept().await;
    server.head().await;
    server
        .write(
            "HTTP/1.1 103 Whatever\r\nconnection: x-own\r\nx-own: 1\r\nkeep-alive: 5\r\n\
             transfer-encoding: chunked\r\ncontent-length: 9\r\nlink: </a>\r\nlink: </b>\r\n\r\n",
        )
        .await;
    let expected =
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\nvia: 1.1 reprise\r\n\r\n";
    assert_eq!(client.head().await, expected);
    server.write(OK).await;
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200 OK"));
}

/// RFC 9110 §15.2: a server must not send them to an HTTP/1.0 client. Over HTTP/2 they are left out here.
#[tokio::test]
async fn clients_that_cannot_have_hints_get_their_answers() {
    let (app, sidecar) = start().await;
    for path in ["/a/1", "/uncached"] {
        let request = format!("GET {path} HTTP/1.0\r\nhost: shop.example\r\n\r\n");
        let address = sidecar.address.clone();
        let client = tokio::spawn(async move { raw(&address, request).await });
        let mut server = app.accept().await;
        server.head().await;
        server.write(format!("{HINT}{HINT}")).await;
        server.write(OK).await;
        let answer = client.await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(!answer.contains("103"), "{answer}");
        drop(server);
    }
    let mut sender = http2(&sidecar.address).await;
    let request = http::Request::get("http://shop.example/uncached");
    let body = http_body_util::Empty::new();
    let body = http_body_util::combinators::BoxBody::new(http_body_util::BodyExt::map_err(
        body,
        |never: std::convert::Infallible| match never {},
    ));
    let sent = tokio::spawn(sender.send_request(request.body(body).unwrap()));
    let mut server = app.accept().await;
    server.head().await;
    server.write(format!("{HINT}{OK}")).await;
    let response = soon("an answer", sent).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let counted = sidecar.metric("reprise_interim_responses_total").await;
    assert!(counted.abs() < f64::EPSILON, "{counted}");
}

/// The second request waits behind the first: its hint comes after the first one's whole answer, and nowhere in it.
#[tokio::test]
async fn hints_to_pipelined_requests_stay_with_their_own() {
    let (app, sidecar) = start().await;
    let mut client = Line::to(&sidecar.address).await;
    client
        .write(get("/one") + &get("/two") + &get("/a/3"))
        .await;
    for path in ["/one", "/two", "/a/3"] {
        // The connection to the app is the same one all along, unless it was not free yet.
        let mut server = app.accept().await;
        let head = server.head().await;
        assert!(head.starts_with(&format!("GET {path} ")), "{head}");
        server.write(HINT).await;
        assert_eq!(client.head().await, HANDED, "{path}");
        server
            .write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
            .await;
        let answer = answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    }
}

/// A fill goes on without the client that began it: its hints are not for whoever is next on the connection, nor for
/// those who wait for the same answer.
#[tokio::test]
async fn those_who_join_a_fill_get_the_answer_alone() {
    let (app, sidecar) = start().await;
    let mut first = Line::to(&sidecar.address).await;
    first.write(get("/a/1")).await;
    let mut server = app.accept().await;
    server.head().await;
    let mut second = Line::to(&sidecar.address).await;
    second.write(get("/a/1")).await;
    sidecar.has_in_flight(2).await;
    server.write(HINT).await;
    assert_eq!(first.head().await, HANDED);
    server.write(OK).await;
    for client in [&mut first, &mut second] {
        let answer = answer(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_flood_of_hints_is_cut_and_the_app_given_up() {
    let (app, sidecar) = start().await;
    for (path, hint) in [("/a/1", HINT.to_owned()), ("/uncached", large())] {
        let mut client = Line::to(&sidecar.address).await;
        client.write(get(path)).await;
        let mut server = app.accept().await;
        server.head().await;
        let flood = hint.repeat(2_000_000 / hint.len());
        // The connection may be given up before all of it is written.
        let _ = server.0.write_all(flood.as_bytes()).await;
        let answer = client.until("HTTP/1.1 502 Bad Gateway\r\n").await;
        let hints = answer.matches("HTTP/1.1 103").count();
        assert!(hints <= 8, "{hints} hints");
        assert!(answer.len() < 20_000, "{} bytes", answer.len());
        drop(server);
        // Nothing of it is stored, and the client goes on.
        let mut client = Line::to(&sidecar.address).await;
        client.write(get(path)).await;
        let mut server = app.accept().await;
        server.head().await;
        server.write(OK).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK"));
    }
}

fn large() -> String {
    format!(
        "HTTP/1.1 103 Early Hints\r\nlink: </{}>\r\n\r\n",
        "x".repeat(9000)
    )
}

/// The expectation is met here (the app is not told of it); what the app says meanwhile is handed on.
#[tokio::test]
async fn hints_and_a_100_do_not_disturb_each_other() {
    let (app, sidecar) = start().await;
    let mut client = Line::to(&sidecar.address).await;
    client
        .write("POST /b HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        .await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write("ab").await;
    let mut server = app.accept().await;
    let head = server.until("ab").await.to_ascii_lowercase();
    assert!(!head.contains("expect"), "{head}");
    server
        .write(format!("HTTP/1.1 100 Continue\r\n\r\n{HINT}"))
        .await;
    assert_eq!(client.head().await, HANDED, "one 100 is enough");
    client.write("cd").await;
    server.until("cd").await;
    server.write(OK).await;
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200 OK"));
}

/// A client that reads nothing has its answer in the right order once it reads, whatever became of the hints.
#[tokio::test]
async fn a_client_that_does_not_read_loses_hints_and_no_answers() {
    let (app, sidecar) = start().await;
    let mut client = Line::to(&sidecar.address).await;
    let size = 8 * 1024 * 1024;
    client.write(get("/large") + &get("/small")).await;
    let mut server = app.accept().await;
    server.head().await;
    let sending = tokio::spawn(async move {
        let head =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
        server.write(head).await;
        server.write(vec![b'x'; size]).await;
    });
    let first = client.head().await;
    assert!(first.starts_with("HTTP/1.1 200 OK"), "{first}");
    let mut body = vec![0; size];
    let read = tokio::io::AsyncReadExt::read_exact(&mut client.0, &mut body);
    soon("the whole body", read).await.unwrap();
    assert!(body.iter().all(|byte| *byte == b'x'), "nothing in between");
    sending.await.unwrap();
    let mut server = app.accept().await;
    server.head().await;
    server.write(format!("{HINT}{HINT}{OK}")).await;
    let rest = client.until("\r\n\r\nok").await;
    assert_eq!(rest.matches("HTTP/1.1 103").count(), 2, "{rest}");
}

/// Nothing of a hint that comes late is left for the request after it.
#[tokio::test]
async fn a_hint_to_a_client_that_has_left_is_nobodys() {
    let (app, sidecar) = start().await;
    let mut client = Line::to(&sidecar.address).await;
    client.write(get("/a/1")).await;
    let mut server = app.accept().await;
    server.head().await;
    drop(client);
    soon("it is seen to be gone", async {
        while sidecar
            .metric("reprise_client_aborts_total{stage=\"waiting\"}")
            .await
            < 1.0
        {}
    })
    .await;
    server.write(format!("{HINT}{OK}")).await;
    let reply = sidecar.get("/a/1").await;
    assert_eq!(reply.status, 200);
    let counted = sidecar.metric("reprise_interim_responses_total").await;
    assert!(counted.abs() < f64::EPSILON, "{counted}");
}
