//! An app that lies: about where its answers end, about which request they answer, about what is in them. Each lie is a
//! 502, or an answer that breaks off where its head had been sent; nothing of it is stored, and no later request gets it.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use std::io::Write;

use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::io::AsyncWriteExt;

use crate::limits::problem;
use crate::support::line::{Bare, Line, http2};
use crate::support::{Origin, Reply, Sidecar, eventually, reply, soon};

const HONEST: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nhonest";
const EVIL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An app of bytes before a sidecar, which caches what is under `/a/`.
struct Field {
    app: Bare,
    sidecar: Sidecar,
    asked: usize,
}

impl Field {
    async fn new() -> Self {
        let app = Bare::start().await;
        let plan = Sidecar::before_url(&app.url());
        let sidecar = plan.route("/a/**", "ttl = \"1m\"").start().await;
        Self {
            app,
            sidecar,
            asked: 0,
        }
    }

    /// A path that nobody has asked for, cached and not, with what `X-Cache` says when the app is asked.
    fn paths(&mut self) -> [(String, &'static str); 2] {
        self.asked += 1;
        let number = self.asked;
        [
            (format!("/a/{number}"), "MISS"),
            (format!("/b/{number}"), "BYPASS"),
        ]
    }

    /// Asks for a path, lets the app answer with these bytes and leave, and gives what the client got.
    async fn tells(&self, path: &str, answer: &[u8]) -> Reply {
        let call = tokio::spawn(self.sidecar.call("GET", path).send());
        let mut server = self.app.accept().await;
        server.head().await;
        // The sidecar may have hung up before it is all written.
        let _ = server.0.write_all(answer).await;
        drop(server);
        call.await.expect("a client")
    }

    /// Asserts that a request reaches the app, on a connection that nobody has lied on, and gets what it says there.
    async fn is_honest(&self, method: &str, (path, cache): &(String, &str)) {
        let call = tokio::spawn(self.sidecar.call(method, path).send());
        let mut server = self.app.accept().await;
        server.head().await;
        server.write(HONEST).await;
        let got = call.await.expect("a client");
        got.is(200, if method == "HEAD" { "" } else { "honest" }, cache);
    }
}

const STATUS_LINES: &[&str] = &[
    "HTTP/1.2 200 OK",
    "HTTP/1.10 200 OK",
    "HTTP/2 200 OK",
    "HTTP/2.0 200 OK",
    "HTTP/0.9 200 OK",
    "http/1.1 200 OK",
    "ICY 200 OK",
    "HTTP/1.1  200 OK",
    "HTTP/1.1\t200 OK",
    " HTTP/1.1 200 OK",
    "HTTP/1.1 099 OK",
    "HTTP/1.1 000 OK",
    "HTTP/1.1 20 OK",
    "HTTP/1.1 2000 OK",
    "HTTP/1.1 +20 OK",
    "HTTP/1.1 2x0 OK",
    "HTTP/1.1 600 OK",
    "HTTP/1.1 999 OK",
    "HTTP/1.1 200 O\0K",
    "HTTP/1.1 200 O\rK",
    "\r\nHTTP/1.1 200 OK",
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket",
    "",
];
const FIELDS: &[&str] = &[
    "content-length: x",
    "content-length:",
    "content-length: -2",
    "content-length: +2",
    "content-length: 0x2",
    "content-length: 2 2",
    "content-length: 2, 3",
    "content-length: 2,",
    "content-length: 2\r\ncontent-length: 3",
    "content-length: 18446744073709551618",
    "transfer-encoding: gzip",
    "transfer-encoding: identity",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding: chunked, chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked",
    "transfer-encoding: xchunked",
    "transfer-encoding:",
    "content-length: 2\r\nx : y",
    "content-length: 2\r\n: y",
    "content-length: 2\r\nx",
    "content-length: 2\r\nx y: z",
    "content-length: 2\r\nx\0: y",
    "content-length: 2\r\nx: \0",
    "content-length: 2\r\nx: a\rb",
    "content-length: 2\r\nx: a\nset-cookie: b",
    "content-length: 2\r\nx: a\r\n b",
    "x: a\r\n\tb\r\ncontent-length: 2",
    " content-length: 2",
];

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_a_502() {
    let mut field = Field::new().await;
    let mut answers: Vec<String> = Vec::new();
    for line in STATUS_LINES {
        answers.push(format!("{line}\r\ncontent-length: 2\r\n\r\nok"));
    }
    for lines in FIELDS {
        answers.push(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nok"));
    }
    answers.extend([
        "HTTP/1.1 200 OK\ncontent-length: 2\n\nok".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\nok".to_owned(),
        "HTTP/1.1 204 No Content\r\ncontent-length: x\r\n\r\n".to_owned(),
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
    ]);
    for answer in answers {
        for path in field.paths() {
            let detail = problem(&field.tells(&path.0, answer.as_bytes()).await, 502);
            assert!(detail.ends_with(": not HTTP/1.1"), "{answer:?}: {detail}");
            field.is_honest("GET", &path).await;
        }
    }
}

#[tokio::test]
async fn a_head_that_is_only_unusual_is_read() {
    let mut field = Field::new().await;
    for (answer, status, body) in [
        ("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
        ("HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
        (
            "HTTP/1.1 299 Fine\r\ncontent-length: 2\r\n\r\nok",
            299,
            "ok",
        ),
        ("HTTP/1.1 599 ?\r\ncontent-length: 2\r\n\r\nok", 599, "ok"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2, 02\r\n\r\nok",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nok\r\n00\r\n\r\n",
            200,
            "ok",
        ),
    ] {
        for (path, cache) in field.paths() {
            let got = field.tells(&path, answer.as_bytes()).await;
            got.is(status, body, cache);
            assert!(!got.broken, "{answer:?}");
            let lengths = got.headers.get_all("content-length").iter().count();
            assert!(lengths < 2, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_head_without_an_end_is_a_502() {
    let mut field = Field::new().await;
    let large = "x".repeat(1 << 20);
    for answer in [
        format!("{}{OK}", "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000)),
        format!("{}{OK}", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000)),
        format!("{}{OK}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(33)),
        format!(
            "HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nok",
            "x: y\r\n".repeat(101)
        ),
        format!(
            "HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nok",
            "x: y\r\n".repeat(100_000)
        ),
        format!("HTTP/1.1 200 OK\r\nx: {large}\r\ncontent-length: 2\r\n\r\nok"),
        format!("HTTP/1.1 200 OK\r\n{large}: x\r\ncontent-length: 2\r\n\r\nok"),
        format!("HTTP/1.1 200 {large}\r\ncontent-length: 2\r\n\r\nok"),
        large,
    ] {
        for path in field.paths() {
            let detail = problem(&field.tells(&path.0, answer.as_bytes()).await, 502);
            assert!(detail.ends_with(": not HTTP/1.1"), "{detail}");
            field.is_honest("GET", &path).await;
        }
    }
}

/// However long the app goes on: it is hung up on, and no more was read than sockets hold.
#[tokio::test]
async fn an_app_that_does_not_end_is_hung_up_on() {
    let mut field = Field::new().await;
    for (begin, piece) in [
        ("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n", "x: y\r\n"),
        ("HTTP/1.1 200 OK\r\nx: ", "y"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;",
            "y",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
            "x: y\r\n",
        ),
    ] {
        for path in field.paths() {
            let call = tokio::spawn(field.sidecar.call("GET", &path.0).send());
            let mut server = field.app.accept().await;
            server.head().await;
            server.write(begin).await;
            let block = piece.repeat(64 * 1024 / piece.len());
            let mut written = 0;
            let flooding = async {
                while server.0.write_all(block.as_bytes()).await.is_ok() {
                    written += block.len();
                }
            };
            soon("the sidecar hangs up", flooding).await;
            assert!(written < 64 << 20, "{written} bytes of {piece:?}");
            let got = call.await.expect("a client");
            assert!(got.status == 502 || got.broken, "{piece:?}");
            field.is_honest("GET", &path).await;
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_where_it_should_breaks_off() {
    let mut field = Field::new().await;
    let length = |rest: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {rest}");
    let chunked =
        |rest: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{rest}");
    let extension = "x".repeat(20_000);
    for answer in [
        length("9\r\n\r\nhello"),
        length("9\r\n\r\n"),
        length("9223372036854775807\r\n\r\nhello"),
        chunked(""),
        chunked("5\r\nhello\r\n"),
        chunked("5\r\nhello\r\n0\r\n"),
        chunked("5\r\nhello\r\n0\r\nx: y\r\n"),
        chunked("5\r\nhel"),
        chunked("5\r\nhello0\r\n\r\n"),
        chunked("5\r\nhello\n0\r\n\r\n"),
        chunked("5\nhello\r\n0\r\n\r\n"),
        chunked("4\r\nhello\r\n0\r\n\r\n"),
        chunked("0x5\r\nhello\r\n0\r\n\r\n"),
        chunked("+5\r\nhello\r\n0\r\n\r\n"),
        chunked("-5\r\nhello\r\n0\r\n\r\n"),
        chunked(" 5\r\nhello\r\n0\r\n\r\n"),
        chunked("5;x\nhello\r\n0\r\n\r\n"),
        chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"),
        chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        chunked(&format!("5;{extension}\r\nhello\r\n0\r\n\r\n")),
        chunked("5\r\nhello\r\n0\r\nno trailer\r\n\r\n"),
        chunked("5\r\nhello\r\n0\r\n folded: x\r\n\r\n"),
        chunked(&format!(
            "5\r\nhello\r\n0\r\n{}\r\n",
            "x: y\r\n".repeat(200)
        )),
        chunked(&format!("5\r\nhello\r\n0\r\nx: {extension}\r\n\r\n")),
    ] {
        for path in field.paths() {
            let got = field.tells(&path.0, answer.as_bytes()).await;
            let shown: String = answer.chars().take(200).collect();
            assert!(got.broken && got.status == 200, "{shown:?}: {got:?}");
            field.is_honest("GET", &path).await;
        }
    }
}

/// What follows an answer is nobody's answer: neither in the same packet, nor on the idle connection.
#[tokio::test]
async fn bytes_behind_an_answer_answer_nobody() {
    let mut field = Field::new().await;
    for (method, answer, status, body) in [
        ("GET", OK, 200, "ok"),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            200,
            "ok",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\ncontent-length: 41\r\n\r\n",
            204,
            "",
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", 304, ""),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 41\r\n\r\n",
            200,
            "",
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200, ""),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            200,
            "",
        ),
        ("POST", OK, 200, "ok"),
    ] {
        for (at_once, next) in [
            (true, "GET"),
            (true, "HEAD"),
            (true, "POST"),
            (false, "GET"),
            (false, "HEAD"),
            (false, "POST"),
        ] {
            for (path, _) in field.paths() {
                let call = tokio::spawn(field.sidecar.call(method, &path).send());
                let mut server = field.app.accept().await;
                server.head().await;
                let (with, after) = if at_once { (EVIL, "") } else { ("", EVIL) };
                server.write(format!("{answer}{with}")).await;
                let got = call.await.expect("a client");
                assert_eq!((got.status.as_u16(), got.body.as_str()), (status, body));
                // It may have been hung up on.
                let _ = server.0.write_all(after.as_bytes()).await;
                let other = (format!("/b{path}"), "BYPASS");
                field.is_honest(next, &other).await;
                assert_eq!(server.rest().await, "", "nothing more was asked there");
            }
        }
    }
}

/// A 304 that nobody has asked for is no entry, and says nothing about one.
#[tokio::test]
async fn an_answer_to_another_question_is_not_stored() {
    let mut field = Field::new().await;
    for answer in [
        "HTTP/1.1 304 Not Modified\r\ncache-control: max-age=60\r\netag: \"v\"\r\n\r\n",
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-1/9\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-range: bytes */9\r\ncontent-length: 2\r\n\r\nok",
    ] {
        for path in field.paths() {
            let got = field.tells(&path.0, answer.as_bytes()).await;
            assert_ne!(got.cache(), "HIT");
            field.is_honest("GET", &path).await;
        }
    }
}

/// An answer without a length ends where the connection does, if that was its end.
#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_not_stored() {
    let mut field = Field::new().await;
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\nhel",
        "HTTP/1.0 200 OK\r\n\r\nhel",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nhel",
    ] {
        for path in field.paths() {
            field
                .tells(&path.0, answer.as_bytes())
                .await
                .is(200, "hel", path.1);
            field.is_honest("GET", &path).await;
        }
    }
}

/// RFC 9110 §6.5.1: over HTTP/2 nothing else would hold them back.
#[tokio::test]
async fn trailers_tell_the_client_nothing_that_belongs_into_a_head() {
    let mut field = Field::new().await;
    for (path, _) in field.paths() {
        let mut client = http2(&field.sidecar.address).await;
        let body = Empty::new().map_err(|never| match never {}).boxed();
        let request = Request::get(format!("http://shop.example{path}"));
        let request = request
            .header("te", "trailers")
            .body(body)
            .expect("a request");
        let call = tokio::spawn(client.send_request(request));
        let mut server = field.app.accept().await;
        server.head().await;
        let names = [
            "x-sum",
            "set-cookie",
            "location",
            "cache-control",
            "connection",
            "transfer-encoding",
        ];
        let lines: String = names.map(|name| format!("{name}: 1\r\n")).concat();
        let trailer = names.join(", ");
        server
            .write(format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: {trailer}\r\n\r\n2\r\nok\r\n0\r\n{lines}\r\n"
            ))
            .await;
        let response = call.await.expect("a client").expect("an answer");
        let mut body = response.into_body();
        let mut told = Vec::new();
        while let Some(frame) = soon("the body", body.frame()).await {
            if let Ok(trailers) = frame.expect("a whole body").into_trailers() {
                told.extend(trailers.keys().map(|name| name.as_str().to_owned()));
            }
        }
        assert!(told.iter().all(|name| name == "x-sum"), "{told:?}");
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

/// What the sidecar undoes itself is bounded by what may be stored; what it fails to undo passes as it is.
#[tokio::test]
async fn content_that_is_not_in_its_coding_is_passed_on_and_not_stored() {
    let bomb = gzip(&vec![0; 1 << 20]);
    // A frame that asks for a window of 128 MiB for its one byte (RFC 8878 §3.1.1).
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x88, 0x0b, 0, 0, 0x78];
    for (coding, body) in [
        ("gzip", bomb.clone()),
        ("gzip, gzip", gzip(&bomb)),
        ("gzip", b"plain".to_vec()),
        ("br", b"\xff\xff\xff".to_vec()),
        ("zstd", b"plain".to_vec()),
        ("zstd", window.to_vec()),
        ("gzip", bomb[..bomb.len() / 2].to_vec()),
        ("gzip, br", b"plain".to_vec()),
        ("gzip, gzip, gzip", gzip(&gzip(&gzip(b"small")))),
        (&["gzip"; 100].join(", "), b"plain".to_vec()),
    ] {
        passes_coded(coding, body, "MISS").await;
    }
}

/// What it does not even try to undo is what the app sends whoever asks, and is stored as that.
#[tokio::test]
async fn content_in_a_coding_that_cannot_be_undone_is_stored_as_it_is() {
    for coding in ["deflate", "aes128gcm", "gzip, deflate"] {
        passes_coded(coding, b"plain".to_vec(), "HIT").await;
    }
}

/// Asks twice for a body that is said to be in a coding, and gets it as it is both times.
async fn passes_coded(coding: &str, body: Vec<u8>, second: &str) {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin)
        .with("[memory]\nmax_entry_size = \"64KiB\"")
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    let (sent, named) = (body.clone(), coding.to_owned());
    origin.on("/a/", move |_| {
        reply(sent.clone()).header("content-encoding", &named)
    });
    for cache in ["MISS", second] {
        let before = origin.hits("/a/");
        let call = sidecar.call("GET", "/a/");
        let call = call.header("accept-encoding", "gzip, br, zstd");
        let got = call.send().await;
        assert_eq!(got.status, 200, "{coding}");
        assert_eq!(got.cache(), cache, "{coding}");
        assert_eq!(got.field("content-encoding"), coding);
        assert!(got.bytes == body, "{coding}");
        assert_eq!(origin.hits("/a/") > before, cache == "MISS", "{coding}");
    }
}

/// An app that closes as it answers does not take the next request with it: a write on the dead connection would be lost.
#[tokio::test]
async fn a_connection_that_ends_behind_its_answer_is_not_used_again() {
    let mut field = Field::new().await;
    for next in ["GET", "POST"] {
        for path in field.paths() {
            field
                .tells(&path.0, OK.as_bytes())
                .await
                .is(200, "ok", path.1);
            let other = (format!("/b{}", path.0), "BYPASS");
            field.is_honest(next, &other).await;
        }
    }
}

/// The memory of a flood is not kept for those who come after it.
#[tokio::test]
async fn a_flood_leaves_nothing_behind() {
    let mut field = Field::new().await;
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000);
    for path in field.paths() {
        field.tells(&path.0, flood.as_bytes()).await;
    }
    let in_flight = field.sidecar.in_flight().await;
    eventually("nothing is in flight", || in_flight == 0).await;
    let mut client = Line::to(&field.sidecar.address).await;
    client
        .write("GET /b/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await;
    let mut server = field.app.accept().await;
    server.answer("ok").await;
    assert!(client.rest().await.ends_with("\r\n\r\nok"));
}
