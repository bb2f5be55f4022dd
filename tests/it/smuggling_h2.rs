//! HTTP/2 requests that HTTP/2 does not know, frame by frame: each is refused, or reaches the app as one well-formed
//! HTTP/1.1 request.
//!
//! Behind each a canary is sent as the connection's next stream: where the connection lives on, it must be answered as it
//! would have been alone.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::Sidecar;
use crate::support::line::Line;
use crate::support::recorder::{Recorder, Written};
use crate::support::soon;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Lines<'a> = Vec<(&'a str, &'a str)>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a small frame")
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// RFC 7541 §6.2.2: each line as it is, none remembered.
fn block(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in lines {
        block.push(0);
        for text in [name, value] {
            let mut length = text.len();
            if length < 127 {
                block.push(u8::try_from(length).expect("seven bits"));
            } else {
                block.push(127);
                length -= 127;
                while length >= 128 {
                    block.push(u8::try_from(length % 128 + 128).expect("a byte"));
                    length /= 128;
                }
                block.push(u8::try_from(length).expect("seven bits"));
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

fn headers(stream: u32, flags: u8, lines: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(lines))
}

/// The pseudo-fields of a GET, and these lines after them.
fn get<'a>(more: &[(&'a str, &'a str)]) -> Lines<'a> {
    let mut lines = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/a"),
    ];
    lines.extend(more);
    lines
}

/// The same with one of the pseudo-fields changed, or left out.
fn with<'a>(name: &str, value: Option<&'a str>, more: &[(&'a str, &'a str)]) -> Lines<'a> {
    let mut lines = get(more);
    match value {
        Some(value) => {
            let line = lines.iter_mut().find(|line| line.0 == name);
            line.expect("a pseudo-field").1 = value;
        }
        None => lines.retain(|line| line.0 != name),
    }
    lines
}

/// What came back on a stream.
#[derive(Debug, Default)]
struct Back {
    data: String,
    reset: bool,
    ended: bool,
}

struct Field {
    app: Recorder,
    sidecar: Sidecar,
}

impl Field {
    async fn new() -> Self {
        let app = Recorder::start().await;
        let plan = Sidecar::before_url(&app.url());
        let sidecar = plan.route("/**", "ttl = \"1m\"").start().await;
        Self { app, sidecar }
    }

    /// Sends these frames and a canary; gives what came back for the first stream, and what the app saw of it. `None` where
    /// the connection was given up.
    async fn sends(&self, frames: Vec<u8>) -> (Option<Back>, Vec<Written>) {
        let mut client = Line::to(&self.sidecar.address).await;
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frames);
        bytes.extend(headers(3, END_STREAM, &with(":path", Some("/canary"), &[])));
        // The connection may be given up before everything is written.
        let _ = client.0.write_all(&bytes).await;
        let mut streams: BTreeMap<u32, Back> = BTreeMap::new();
        let reading = async {
            let ended = |streams: &BTreeMap<u32, Back>, id| {
                streams
                    .get(&id)
                    .is_some_and(|back: &Back| back.ended || back.reset)
            };
            while !(ended(&streams, 1) && ended(&streams, 3)) {
                let Some((kind, flags, stream, payload)) = read(&mut client).await else {
                    return false;
                };
                let back = streams.entry(stream).or_default();
                match kind {
                    DATA => back.data += &String::from_utf8_lossy(&payload),
                    RST_STREAM => back.reset = true,
                    GOAWAY => return false,
                    _ => {}
                }
                back.ended |= matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
            }
            true
        };
        let alive = soon("an answer to both", reading).await;
        let (mut whole, _) = self.app.take().await;
        if alive {
            assert_eq!(streams[&3].data, "/canary");
            let canary = whole
                .iter()
                .position(|request| request.line == "GET /canary HTTP/1.1");
            whole.remove(canary.expect("the app saw the canary"));
        } else {
            whole.retain(|request| request.line != "GET /canary HTTP/1.1");
        }
        (alive.then(|| streams.remove(&1).expect("a stream")), whole)
    }

    /// Asserts that frames are refused: by an answer that is a problem document with this status, or without an answer.
    async fn refuses(&self, about: &str, frames: Vec<u8>, status: Option<u16>) {
        let (back, whole) = self.sends(frames).await;
        assert!(whole.is_empty(), "{about}: {whole:?}");
        match (back, status) {
            (Some(back), Some(status)) => {
                let told = back.data.contains(&format!("\"status\":{status}"));
                assert!(told, "{about}: {back:?}");
            }
            (Some(back), None) => assert!(back.reset, "{about}: {back:?}"),
            (None, Some(_)) => panic!("{about}: the connection was given up"),
            (None, None) => {}
        }
    }

    /// Asserts that frames become one request, and gives it.
    async fn takes(&self, about: &str, frames: Vec<u8>) -> Written {
        let (back, mut whole) = self.sends(frames).await;
        assert!(
            back.is_some_and(|back| back.ended && !back.reset),
            "{about}"
        );
        assert_eq!(whole.len(), 1, "{about}: {whole:?}");
        whole.remove(0)
    }
}

async fn read(client: &mut Line) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    client.0.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    client.0.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some((head[3], head[4], stream, payload))
}

/// RFC 9113 §8.3.
#[tokio::test]
async fn pseudo_fields_come_first_and_once() {
    let field = Field::new().await;
    let mut late = vec![("x", "y")];
    late.extend(get(&[]));
    for (lines, status) in [
        (late, None),
        (get(&[("x", "y"), (":path", "/b")]), None),
        (get(&[(":path", "/b")]), None),
        (get(&[(":method", "POST")]), None),
        (get(&[(":authority", "b")]), None),
        (get(&[(":scheme", "http")]), None),
        (get(&[(":status", "200")]), None),
        (get(&[(":unknown", "1")]), None),
        (get(&[(":protocol", "websocket")]), None),
        (with(":path", None, &[]), None),
        (with(":method", None, &[]), None),
        (with(":scheme", None, &[]), None),
        (with(":path", Some(""), &[]), None),
        (with(":method", Some(""), &[]), None),
        (with(":method", Some("GET /b HTTP/1.1"), &[]), None),
        (with(":scheme", Some("ftp"), &[]), Some(400)),
        (with(":scheme", Some("http://b/?"), &[]), None),
    ] {
        let about = format!("{lines:?}");
        field
            .refuses(&about, headers(1, END_STREAM, &lines), status)
            .await;
    }
    let request = field
        .takes(
            "https",
            headers(1, END_STREAM, &with(":scheme", Some("https"), &[])),
        )
        .await;
    assert_eq!(
        request.all("x-forwarded-proto"),
        ["http"],
        "by the connection"
    );
}

#[tokio::test]
async fn a_path_is_one_line_and_begins_with_a_slash() {
    let field = Field::new().await;
    for (path, status) in [
        ("a", Some(400)),
        ("*", Some(400)),
        ("http://b/a", Some(400)),
        ("/a b", None),
        ("/a HTTP/1.1\r\nx: y", None),
        ("/a\0", None),
        ("/a\t", None),
    ] {
        let lines = with(":path", Some(path), &[]);
        let (back, whole) = field.sends(headers(1, END_STREAM, &lines)).await;
        assert!(whole.is_empty(), "{path:?}: {whole:?}");
        let refused = back.is_none_or(|back| match status {
            Some(_) => back.reset || back.data.contains("\"status\":400"),
            None => back.reset,
        });
        assert!(refused, "{path:?}");
    }
    for (path, sent) in [("//b/a", "//b/a"), ("/a#b", "/a"), ("/%0d%0a", "/%0d%0a")] {
        let lines = with(":path", Some(path), &[]);
        let request = field.takes(path, headers(1, END_STREAM, &lines)).await;
        assert_eq!(request.line, format!("GET {sent} HTTP/1.1"));
        assert_eq!(request.all("host"), ["a"]);
    }
}

/// RFC 9113 §8.3.1.
#[tokio::test]
async fn there_is_one_host_in_two_places_at_most() {
    let field = Field::new().await;
    for (lines, host) in [
        (get(&[]), "a"),
        (get(&[("host", "a")]), "a"),
        (get(&[("host", "A")]), "a"),
        (with(":authority", None, &[("host", "b")]), "b"),
        (with(":authority", Some("a:8443"), &[]), "a:8443"),
    ] {
        let about = format!("{lines:?}");
        let request = field.takes(&about, headers(1, END_STREAM, &lines)).await;
        assert_eq!(request.all("host"), [host], "{about}");
    }
    for lines in [
        get(&[("host", "b")]),
        get(&[("host", "a"), ("host", "a")]),
        get(&[("host", "a b")]),
        with(":authority", None, &[]),
        with(":authority", None, &[("host", "a"), ("host", "b")]),
        with(":authority", Some("me@a"), &[]),
        with(":authority", Some("a:b"), &[]),
        with(":authority", Some("a:99999"), &[]),
    ] {
        let about = format!("{lines:?}");
        let (back, whole) = field.sends(headers(1, END_STREAM, &lines)).await;
        assert!(whole.is_empty(), "{about}: {whole:?}");
        let refused = |back: &Back| back.reset || back.data.contains("\"status\":400");
        assert!(back.as_ref().is_none_or(refused), "{about}: {back:?}");
    }
    for authority in ["", "a/b", "a b", "a\r\nx: y", "a?b", "a#b"] {
        let lines = with(":authority", Some(authority), &[]);
        field
            .refuses(authority, headers(1, END_STREAM, &lines), None)
            .await;
    }
}

/// RFC 9113 §8.2.
#[tokio::test]
async fn fields_of_one_hop_or_of_two_lines_are_refused() {
    let field = Field::new().await;
    for line in [
        ("connection", "close"),
        ("connection", "host"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("X-Upper", "y"),
        ("Host", "b"),
        ("", "y"),
        ("x y", "z"),
        ("x:", "y"),
        ("x\r\ny", "z"),
        ("x\0", "y"),
        ("x", "a\r\ny: b"),
        ("x", "a\nb"),
        ("x", "a\0b"),
    ] {
        field
            .refuses(
                &format!("{line:?}"),
                headers(1, END_STREAM, &get(&[line])),
                None,
            )
            .await;
    }
    let request = field
        .takes("te", headers(1, END_STREAM, &get(&[("te", "trailers")])))
        .await;
    // It is taken; but what is fetched for everybody has no trailers.
    assert!(request.all("te").is_empty());
}

/// RFC 9113 §8.1.1: `content-length` is what the frames say, or the request is none.
#[tokio::test]
async fn a_length_that_the_frames_deny_is_refused() {
    let field = Field::new().await;
    let post = |lengths: &[&'static str]| {
        let lengths: Lines<'_> = lengths
            .iter()
            .map(|length| ("content-length", *length))
            .collect();
        with(":method", Some("POST"), &lengths)
    };
    let hello = || frame(DATA, END_STREAM, 1, b"hello");
    for (lengths, data) in [
        (&["5"][..], None),
        (&["0", "5"], None),
        (&["5", "0"], None),
        (&["+0"], None),
        (&["0x0"], None),
        (&[""], None),
        (&["4"], Some(hello())),
        (&["6"], Some(hello())),
        (&["5", "6"], Some(hello())),
        (&["5, 5"], Some(hello())),
        (&["+5"], Some(hello())),
        (&["18446744073709551621"], Some(hello())),
    ] {
        let flags = if data.is_none() { END_STREAM } else { 0 };
        let mut frames = headers(1, flags, &post(lengths));
        frames.extend(data.unwrap_or_default());
        let (back, whole) = field.sends(frames).await;
        assert!(whole.is_empty(), "{lengths:?}: {whole:?}");
        let refused = |back: &Back| back.reset || back.data.contains("\"status\":400");
        assert!(back.as_ref().is_none_or(refused), "{lengths:?}: {back:?}");
    }
    for (lengths, sent) in [(&["5"][..], "5"), (&["005"], "5"), (&["5", "5"], "5")] {
        let frames = [headers(1, 0, &post(lengths)), hello()].concat();
        let request = field.takes(&format!("{lengths:?}"), frames).await;
        assert_eq!(
            (request.all("content-length"), request.body.as_str()),
            (vec![sent], "hello")
        );
    }
    let request = field
        .takes("no length", [headers(1, 0, &post(&[])), hello()].concat())
        .await;
    assert_eq!(
        (request.all("transfer-encoding"), request.body.as_str()),
        (vec!["chunked"], "hello")
    );
    let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    let data = frame(DATA, END_STREAM, 1, hidden.as_bytes());
    let request = field
        .takes("hidden", [headers(1, 0, &post(&[])), data].concat())
        .await;
    assert_eq!(request.body, hidden);
}

#[tokio::test]
async fn trailers_of_a_stream_are_no_head() {
    let field = Field::new().await;
    let post = with(
        ":method",
        Some("POST"),
        &[("trailer", "x-sum, host, cookie")],
    );
    let begun = || [headers(1, 0, &post), frame(DATA, 0, 1, b"abc")].concat();
    let lines = [
        ("x-sum", "1"),
        ("host", "b"),
        ("cookie", "a=b"),
        ("content-length", "9"),
    ];
    let request = field
        .takes(
            "trailers",
            [begun(), headers(1, END_STREAM, &lines)].concat(),
        )
        .await;
    assert_eq!(request.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    assert_eq!(
        (request.all("host"), request.body.as_str()),
        (vec!["a"], "abc")
    );
    let pseudo = headers(1, END_STREAM, &[(":path", "/b")]);
    // The HTTP/2 library ignores what it should refuse: that it is no head is what counts.
    let request = field.takes("pseudo", [begun(), pseudo].concat()).await;
    assert_eq!(
        (request.line.as_str(), request.trailers.len()),
        ("POST /a HTTP/1.1", 0)
    );
}

#[tokio::test]
async fn no_tunnel_is_made() {
    let field = Field::new().await;
    let connect = [(":method", "CONNECT"), (":authority", "a:443")];
    let (back, whole) = field.sends(headers(1, 0, &connect)).await;
    assert!(whole.is_empty(), "{whole:?}");
    let back = back.expect("an answer");
    assert!(back.data.contains("\"status\":405"), "{back:?}");
    let extended = with(":method", Some("CONNECT"), &[]);
    let mut extended = extended;
    extended.insert(0, (":protocol", "websocket"));
    field
        .refuses("extended", headers(1, END_STREAM, &extended), None)
        .await;
    field
        .refuses(
            "with a path",
            headers(1, END_STREAM, &with(":method", Some("CONNECT"), &[])),
            None,
        )
        .await;
}

#[tokio::test]
async fn heads_have_an_end() {
    let field = Field::new().await;
    let value = "x".repeat(1000);
    let lines = get(&[("x", value.as_str()); 200]);
    let block = block(&lines);
    let mut pieces = block.chunks(10_000);
    let first = pieces.next().unwrap_or_default();
    let mut frames = frame(HEADERS, END_STREAM, 1, first);
    for piece in pieces {
        frames.extend(frame(CONTINUATION, 0, 1, piece));
    }
    frames.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    let (_, whole) = field.sends(frames).await;
    assert!(whole.is_empty(), "{whole:?}");

    let mut frames = frame(HEADERS, END_STREAM, 1, first);
    for _ in 0..2000 {
        frames.extend(frame(CONTINUATION, 0, 1, &[]));
    }
    frames.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    let (_, whole) = field.sends(frames).await;
    assert!(whole.is_empty(), "{whole:?}");
}
