//! Requests made to be read in two ways: each is refused and its connection closed, or reaches the app as exactly one
//! well-formed request, whatever was hidden in it.
//!
//! Behind every attack a canary is sent on the same connection. Where the attack is let through, the canary must be the
//! next request that the app sees, and its answer the next that the client gets; where it is refused, nothing of either may
//! reach the app.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::line::{Bare, Line};
use crate::support::origin::Seen;
use crate::support::recorder::{Recorder, Written};
use crate::support::{Origin, Sidecar, reply, soon};

pub const CANARY: &str = "GET /canary HTTP/1.1\r\nhost: canary\r\nconnection: close\r\n\r\n";

/// What becomes of a request.
#[derive(Debug)]
pub enum Fate {
    /// Refused with this status, the connection closed.
    No(u16),
    /// Sent to the app with this line and this content, and the canary after it.
    One(&'static str, &'static str),
    /// The same, and the connection closed before the canary.
    Last(&'static str, &'static str),
}

use Fate::{Last, No, One};

pub const GET: &str = "GET /a HTTP/1.1";
const POST: &str = "POST /a HTTP/1.1";

/// An app, and sidecars that pass everything on and that cache everything.
pub struct Field {
    pub app: Recorder,
    pub sidecars: [Sidecar; 2],
}

impl Field {
    pub async fn new() -> Self {
        let app = Recorder::start().await;
        let plan = || Sidecar::before_url(&app.url());
        let sidecars = [
            plan().start().await,
            plan().route("/**", "ttl = \"1m\"").start().await,
        ];
        Self { app, sidecars }
    }

    /// Sends a request in both ways, asserts its fate, and gives what the app saw of it.
    pub async fn meets(&self, request: &str, fate: &Fate) -> Vec<Written> {
        let mut seen = Vec::new();
        for sidecar in &self.sidecars {
            let answer = sent(&sidecar.address, format!("{request}{CANARY}")).await;
            let (whole, _) = self.app.take().await;
            let shown: String = request.chars().take(300).collect();
            let about = format!("{shown:?}\n{answer}\n{whole:?}");
            let statuses = statuses(&answer);
            let lines: Vec<&str> = whole.iter().map(|request| request.line.as_str()).collect();
            match *fate {
                No(status) => {
                    assert_eq!((statuses, lines), (vec![status], vec![]), "{about}");
                }
                One(line, body) => {
                    assert_eq!(lines, [line, "GET /canary HTTP/1.1"], "{about}");
                    assert_eq!(whole[0].body, body, "{about}");
                    assert_eq!(whole[1].all("host"), ["canary"], "{about}");
                    assert_eq!(statuses, [200, 200], "{about}");
                    assert!(answer.ends_with("\r\n\r\n/canary"), "{about}");
                }
                Last(line, body) => {
                    assert_eq!((statuses, lines), (vec![200], vec![line]), "{about}");
                    assert_eq!(whole[0].body, body, "{about}");
                }
            }
            seen.extend(whole.into_iter().next());
        }
        seen
    }

    pub async fn meet(&self, table: impl IntoIterator<Item = (String, Fate)>) {
        for (request, fate) in table {
            self.meets(&request, &fate).await;
        }
    }
}

/// Writes all that can be written, and reads all there is to read.
pub async fn sent(address: &str, bytes: String) -> String {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (mut reader, mut writer) = stream.into_split();
    let mut answer = Vec::new();
    let talking = async {
        // A refusal may come, and the connection be closed, before everything is written.
        let writing = async {
            let _ = writer.write_all(bytes.as_bytes()).await;
        };
        let _ = tokio::join!(writing, reader.read_to_end(&mut answer));
    };
    soon("the answer's end", talking).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the final answers in what was read.
pub fn statuses(answer: &str) -> Vec<u16> {
    let lines = answer.split("HTTP/1.").skip(1);
    let statuses = lines.map(|rest| rest[2..5].parse().expect("a status"));
    statuses.filter(|status| *status != 100).collect()
}

pub fn request(line: &str, fields: &str, body: &str) -> String {
    let fields = if fields.is_empty() {
        String::new()
    } else {
        format!("{fields}\r\n")
    };
    format!("{line}\r\nhost: a\r\n{fields}\r\n{body}")
}

fn post(fields: &str, body: &str) -> String {
    request(POST, fields, body)
}

pub fn get(fields: &str) -> String {
    request(GET, fields, "")
}

pub fn line(line: &str) -> String {
    request(line, "", "")
}

fn chunks(body: &str) -> String {
    post("transfer-encoding: chunked", body)
}

const WHOLE: &str = "3\r\nabc\r\n0\r\n\r\n";

/// Fields of a POST, what follows its head, and its fate.
const FRAMINGS: &[(&str, &str, Fate)] = &[
    (
        "content-length: 6\r\ntransfer-encoding: chunked",
        WHOLE,
        Last(POST, "abc"),
    ),
    (
        "transfer-encoding: chunked\r\ncontent-length: 6",
        WHOLE,
        Last(POST, "abc"),
    ),
    (
        "transfer-encoding: chunked\r\ncontent-length: x",
        WHOLE,
        Last(POST, "abc"),
    ),
    (
        "content-length: x\r\ntransfer-encoding: chunked",
        WHOLE,
        No(400),
    ),
    ("transfer-encoding: xchunked", WHOLE, No(400)),
    ("transfer-encoding: chunked\t ", WHOLE, One(POST, "abc")),
    ("transfer-encoding:\tCHUNKED", WHOLE, One(POST, "abc")),
    ("transfer-encoding:\u{b}chunked", WHOLE, No(400)),
    ("transfer-encoding: \u{a0}chunked", WHOLE, No(400)),
    ("transfer-encoding\t: chunked", WHOLE, No(400)),
    ("transfer-encoding : chunked", WHOLE, No(400)),
    (" transfer-encoding: chunked", WHOLE, No(400)),
    ("x: y\r\n transfer-encoding: chunked", WHOLE, No(400)),
    ("x: y\rtransfer-encoding: chunked", WHOLE, No(400)),
    (
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        WHOLE,
        No(400),
    ),
    (
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        WHOLE,
        No(501),
    ),
    (
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        WHOLE,
        No(501),
    ),
    ("transfer-encoding: identity", WHOLE, No(400)),
    ("transfer-encoding: identity, chunked", WHOLE, No(501)),
    ("transfer-encoding: chunked, identity", WHOLE, No(400)),
    ("transfer-encoding: ,chunked", WHOLE, No(501)),
    ("transfer-encoding: chunked,", WHOLE, No(400)),
    ("transfer-encoding: \"chunked\"", WHOLE, No(400)),
    ("transfer-encoding: chunked;q=1", WHOLE, No(400)),
    ("transfer-encoding:", WHOLE, No(400)),
    (
        "transfer_encoding: chunked\r\ncontent-length: 3",
        "abc",
        One(POST, "abc"),
    ),
    (
        "content-length: 3\r\ncontent_length: 9",
        "abc",
        One(POST, "abc"),
    ),
    ("content-length: 0x10", "abc", No(400)),
    ("content-length: -0", "abc", No(400)),
    ("content-length: +3", "abc", No(400)),
    ("content-length:  3 ", "abc", One(POST, "abc")),
    ("content-length: 3\u{c}", "abc", No(400)),
    ("content-length: 3,3", "abc", No(400)),
    ("content-length: 3.0", "abc", No(400)),
    ("content-length: 3 0", "abc", No(400)),
    ("content-length:", "abc", No(400)),
    ("content-length: 0003", "abc", One(POST, "abc")),
    ("content-length: 18446744073709551615", "abc", No(431)),
    ("content-length: 18446744073709551619", "abc", No(400)),
    ("content-length: 9223372036854775808", "abc", No(413)),
    (
        "content-length: 3\r\ncontent-length: 3",
        "abc",
        One(POST, "abc"),
    ),
    ("content-length: 3\r\nContent-Length: 4", "abc", No(400)),
    ("content-length : 3", "abc", No(400)),
    ("content-length\0: 3", "abc", No(400)),
    (
        "content-length: 3\r\nconnection: content-length",
        "abc",
        One(POST, "abc"),
    ),
    (
        "transfer-encoding: chunked\r\nconnection: transfer-encoding",
        WHOLE,
        One(POST, "abc"),
    ),
    ("", "", One(POST, "")),
];

/// RFC 9112 §6.1, §6.3.
#[tokio::test]
async fn a_body_ends_in_one_place() {
    let field = Field::new().await;
    for (fields, body, fate) in FRAMINGS {
        field.meets(&post(fields, body), fate).await;
    }
    let old = request("POST /a HTTP/1.0", "transfer-encoding: chunked", WHOLE);
    field.meet([(old, No(400))]).await;
    // Leading zeros are octal to some.
    let octal = post("content-length: 0010", "0123456789");
    for request in field.meets(&octal, &One(POST, "0123456789")).await {
        assert_eq!(request.all("content-length"), ["10"]);
    }
}

/// RFC 9112 §7.1. The head of a chunked request may have gone to the app when a chunk turns out to be none: then the app
/// gets no end of it.
#[tokio::test]
async fn chunks_are_taken_by_the_letter() {
    let zeros = "0".repeat(2000);
    let extension = "e".repeat(20_000);
    let field = Field::new().await;
    for (body, fate) in [
        (WHOLE, One(POST, "abc")),
        ("3;ext=\"a;b\"\r\nabc\r\n0\r\n\r\n", One(POST, "abc")),
        ("3 ;ext\r\nabc\r\n0\r\n\r\n", One(POST, "abc")),
        ("1\r\na\r\n002\r\nbc\r\n000\r\n\r\n", One(POST, "abc")),
        (
            &format!("{zeros}3\r\nabc\r\n{zeros}\r\n\r\n"),
            One(POST, "abc"),
        ),
        ("0x3\r\nabc\r\n0\r\n\r\n", No(400)),
        ("+3\r\nabc\r\n0\r\n\r\n", No(400)),
        ("-3\r\nabc\r\n0\r\n\r\n", No(400)),
        (" 3\r\nabc\r\n0\r\n\r\n", No(400)),
        ("3 3\r\nabc\r\n0\r\n\r\n", No(400)),
        ("3_0\r\nabc\r\n0\r\n\r\n", No(400)),
        (";ext\r\nabc\r\n0\r\n\r\n", No(400)),
        ("3;ext\nabc\r\n0\r\n\r\n", No(400)),
        ("3;e\rxt\r\nabc\r\n0\r\n\r\n", No(400)),
        ("3\nabc\r\n0\r\n\r\n", No(400)),
        ("3\rabc\r\n0\r\n\r\n", No(400)),
        ("3\r\nabc0\r\n\r\n", No(400)),
        ("3\r\nabc\n0\r\n\r\n", No(400)),
        ("3\r\nabcd\r\n0\r\n\r\n", No(400)),
        ("\r\n3\r\nabc\r\n0\r\n\r\n", No(400)),
        ("10000000000000003\r\nabc\r\n0\r\n\r\n", No(400)),
        (&format!("3;{extension}\r\nabc\r\n0\r\n\r\n"), No(400)),
        ("3\r\nabc\r\n0\r\nno trailer\r\n\r\n", No(400)),
        ("3\r\nabc\r\n0\r\n folded: a\r\n\r\n", No(400)),
        ("3\r\nabc\r\n0\r\nX", No(400)),
    ] {
        field.meets(&chunks(body), &fate).await;
    }
}

#[tokio::test]
async fn an_upload_that_does_not_end_is_no_request() {
    let field = Field::new().await;
    for body in [
        "ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: a\n\r\n",
        "3\r\nabc\r\n",
        "3\r\nabc\r\n0\r\n",
    ] {
        for sidecar in &field.sidecars {
            let mut client = Line::to(&sidecar.address).await;
            client.write(chunks(body)).await;
            sidecar.has_in_flight(1).await;
            drop(client);
            sidecar.has_in_flight(0).await;
            let (whole, _) = field.app.take().await;
            assert!(whole.is_empty(), "{body:?}: {whole:?}");
        }
    }
}

/// RFC 9110 §6.5.1: what a server merges into the head must not be able to change it.
#[tokio::test]
async fn trailers_carry_nothing_that_belongs_into_a_head() {
    let names = [
        "content-length",
        "transfer-encoding",
        "host",
        "authorization",
        "cookie",
        "x-forwarded-for",
        "x_forwarded_for",
        "connection",
        "content-type",
        "range",
        "if-match",
        "expect",
        "forwarded",
        "x-http-method-override",
        "x-sum",
    ];
    let lines: String = names.map(|name| format!("{name}: 9\r\n")).concat();
    let body = format!("3\r\nabc\r\n0\r\n{lines}\r\n");
    let field = Field::new().await;
    for (announced, kept) in [("", &[][..]), (&names.join(", "), &["x-sum"])] {
        let fields = format!("transfer-encoding: chunked\r\ntrailer: {announced}");
        let seen = field.meets(&post(&fields, &body), &One(POST, "abc")).await;
        for request in seen {
            let trailers: Vec<&str> = request
                .trailers
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(trailers, kept);
            assert_eq!(request.all("host"), ["a"]);
            assert!(request.all("authorization").is_empty());
        }
    }
}

#[tokio::test]
async fn every_method_may_have_a_body_and_none_hides_a_request_in_it() {
    let hidden = "GET /hidden HTTP/1.1\r\nhost: h\r\n\r\n";
    let length = format!("content-length: {}", hidden.len());
    let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let field = Field::new().await;
    for sent in [
        "GET /a HTTP/1.1",
        "HEAD /a HTTP/1.1",
        "DELETE /a HTTP/1.1",
        "OPTIONS /a HTTP/1.1",
        "TRACE /a HTTP/1.1",
        "get /a HTTP/1.1",
        "QUERY /a HTTP/1.1",
    ] {
        for request in [
            request(sent, &length, hidden),
            request(sent, "transfer-encoding: chunked", &chunk),
        ] {
            field.meets(&request, &One(sent, hidden)).await;
        }
        field
            .meets(&request(sent, "content-length: 0", ""), &One(sent, ""))
            .await;
    }
    field
        .meets(
            &request("CONNECT a:443 HTTP/1.1", &length, hidden),
            &No(405),
        )
        .await;
}

/// What the app does not see must not say under which variant its answer is stored.
#[tokio::test]
async fn what_connection_takes_away_selects_no_variant() {
    let origin = Origin::start().await;
    let answer = |seen: &Seen| {
        let language = seen.field("accept-language").to_owned();
        reply(language).header("vary", "accept-language")
    };
    origin.on("/a/", answer);
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    let french = || sidecar.call("GET", "/a/").header("accept-language", "fr");
    let poisoned = french().header("connection", "accept-language");
    let got = poisoned.send().await;
    assert!(got.body.is_empty() || got.body == "fr", "{}", got.body);
    assert_eq!(french().send().await.body, "fr");
    assert_eq!(sidecar.get("/a/").await.body, "");
}

/// RFC 9110 §7.6.1: `Connection` is the client's to write.
#[tokio::test]
async fn connection_takes_away_nothing_that_others_rely_on() {
    let field = Field::new().await;
    let names = "host, authorization, cookie, content-length, cache-control, x-forwarded-for, forwarded, via";
    let own = "authorization: Token a\r\ncookie: a=b\r\nx-other: 1";
    let fields = format!("{own}\r\nconnection: {names}, x-other");
    for request in field.meets(&get(&fields), &One(GET, "")).await {
        for (name, value) in [
            ("host", "a"),
            ("authorization", "Token a"),
            ("cookie", "a=b"),
            ("via", "1.1 reprise"),
        ] {
            assert_eq!(request.all(name), [value], "{name}");
        }
        assert!(request.all("x-other").is_empty());
        assert!(request.all("connection").is_empty());
    }
}

/// An app that took up h2c would read further requests where the proxy sees a tunnel.
#[tokio::test]
async fn no_app_is_asked_for_another_http() {
    let field = Field::new().await;
    for fields in [
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
        "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
        "connection: upgrade\r\nupgrade: websocket, h2c",
        "connection: upgrade\r\nupgrade: websocket,\tH2C",
        "connection: upgrade\r\nupgrade: TLS/1.0, HTTP/1.1",
        "connection: upgrade\r\nupgrade: HTTP/2.0",
        "connection: upgrade",
        "upgrade: websocket",
    ] {
        for request in field.meets(&get(fields), &One(GET, "")).await {
            assert!(request.all("upgrade").is_empty(), "{fields}");
            assert!(request.all("connection").is_empty(), "{fields}");
        }
    }
    let fields = "connection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c";
    for request in field.meets(&get(fields), &One(GET, "")).await {
        assert_eq!(request.all("upgrade"), ["websocket"]);
    }
}

/// RFC 9110 §10.1.1: the proxy has the body, or asks for it, by itself.
#[tokio::test]
async fn expectations_stay_with_the_proxy() {
    let field = Field::new().await;
    for (expectation, body) in [
        ("100-continue", "abc"),
        ("100-Continue", "abc"),
        ("200-ok", "abc"),
        ("100-continue", ""),
    ] {
        let fields = format!("content-length: {}\r\nexpect: {expectation}", body.len());
        let fate = if body.is_empty() {
            One(POST, "")
        } else {
            One(POST, "abc")
        };
        for request in field.meets(&post(&fields, body), &fate).await {
            assert!(request.all("expect").is_empty());
        }
    }
}

/// RFC 9112 §9.3.2: answers come in the order of the requests, whatever each of them is.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let field = Field::new().await;
    let all = [
        request("GET /1 HTTP/1.1", "", ""),
        request("POST /2 HTTP/1.1", "content-length: 3", "abc"),
        request("POST /3 HTTP/1.1", "transfer-encoding: chunked", WHOLE),
        request("GET /4 HTTP/1.1", "content-length: 3", "GET"),
        request("HEAD /5 HTTP/1.1", "", ""),
        "\r\n".to_owned() + &request("DELETE /6 HTTP/1.1", "", ""),
        CANARY.to_owned(),
        request("GET /never HTTP/1.1", "", ""),
    ];
    let bodies = ["/1", "/2", "/3", "/4", "", "/6", "/canary"];
    for sidecar in &field.sidecars {
        let answer = sent(&sidecar.address, all.concat()).await;
        let answers = answer.split("HTTP/1.1 200 OK\r\n").skip(1);
        let got: Vec<&str> = answers
            .filter_map(|answer| Some(answer.split_once("\r\n\r\n")?.1))
            .collect();
        assert_eq!(got, bodies);
        let (whole, _) = field.app.take().await;
        let bodies: Vec<&str> = whole.iter().map(|request| request.body.as_str()).collect();
        assert_eq!(bodies, ["", "abc", "abc", "GET", "", "", ""]);
    }
}

/// What the app reads is what is asserted everywhere else as fields; here once as bytes.
#[tokio::test]
async fn the_app_reads_these_bytes() {
    let app = Bare::start().await;
    let sidecar = Sidecar::before_url(&app.url()).start().await;
    let request = "\nPOST http://b/a?x#y HTTP/1.1\r\nHost:a\r\nContent-Length: 003\nX:\t y \r\nconnection: close\r\n\r\nabc";
    let address = sidecar.address.clone();
    let asked = tokio::spawn(async move { sent(&address, request.to_owned()).await });
    let mut server = app.accept().await;
    let read = server.until("abc").await;
    let (head, body) = read.split_once("\r\n\r\n").expect("a head");
    let mut fields: Vec<&str> = head.split("\r\n").collect();
    fields[1..].sort_unstable();
    let expected = [
        "POST /a?x HTTP/1.1",
        "content-length: 3",
        "forwarded: for=127.0.0.1;host=b;proto=http",
        "host: b",
        "via: 1.1 reprise",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: b",
        "x-forwarded-proto: http",
        "x: y",
    ];
    assert_eq!((fields.as_slice(), body), (expected.as_slice(), "abc"));
    server
        .write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(statuses(&asked.await.expect("an answer")), [200]);
}
