//! Clients that want time, memory or work of the proxy: others are served meanwhile, what they can take is bounded, and
//! every limit that strikes is counted.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::support::client::raw;
use crate::support::frames::{
    CANCEL, CONTINUATION, DATA, END_STREAM, ENHANCE_YOUR_CALM, Frames, HEADERS, PING, PRIORITY,
    REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, asking, frame, get,
};
use crate::support::line::Line;
use crate::support::{Origin, Process, Sidecar, reply, soon};

const CACHED: &str = "ttl = \"1h\"";
/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;
const MIB: f64 = 1024.0 * 1024.0;

fn closed(reason: &str) -> String {
    format!("reprise_connections_closed_total{{reason=\"{reason}\"}}")
}

/// Waits until a counter of the sidecar has this value, and asserts that it goes no further.
async fn counts(sidecar: &Sidecar, series: &str, value: f64) {
    soon(&format!("{series} {value}"), async {
        while sidecar.metric(series).await < value {}
    })
    .await;
    let counted = sidecar.metric(series).await;
    assert!((counted - value).abs() < f64::EPSILON, "{series} {counted}");
}

async fn start() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin
        .on("/a/", |_| reply("ok"))
        .on("/uncached", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .route("/a/**", CACHED)
        .start()
        .await;
    sidecar.get("/a/").await.is(200, "ok", "MISS");
    (origin, sidecar)
}

/// CVE-2023-44487: as fast as they can be sent.
#[tokio::test]
async fn requests_that_are_reset_at_once_end_the_connection() {
    let (origin, sidecar) = start().await;
    let mut client = Frames::to(&sidecar.address, &[]).await;
    let mut flood = Vec::new();
    for stream in (1..20_000).step_by(2) {
        flood.extend(asking(stream, "/uncached"));
        flood.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    // Written to its end only if it is read to its end.
    client.write(&flood).await;
    let code = client.closed().await;
    assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM)), "{code:?}");
    counts(&sidecar, &closed("h2_abuse"), 1.0).await;
    assert!(
        origin.hits("/uncached") <= 201,
        "{}",
        origin.hits("/uncached")
    );
    sidecar.get("/a/").await.is(200, "ok", "HIT");
}

/// The same, each after it has reached the app: h2 sees nothing wrong with it.
#[tokio::test]
async fn a_client_that_gives_up_all_it_asks_for_is_cut() {
    let (origin, sidecar) = start().await;
    let held = origin.hold("/uncached");
    let mut client = Frames::to(&sidecar.address, &[]).await;
    let mut asked = 0;
    for stream in (1..1000).step_by(2) {
        if !client.write(&asking(stream, "/uncached")).await || !client.is_open() {
            break;
        }
        asked += 1;
        if asked % 50 == 0 {
            held.arrived(asked as usize).await;
            for reset in (stream - 98..=stream).step_by(2) {
                client
                    .write(&frame(RST_STREAM, 0, reset, &CANCEL.to_be_bytes()))
                    .await;
            }
            let series = "reprise_client_aborts_total{stage=\"waiting\"}";
            soon("they are seen to be gone", async {
                while client.is_open() && sidecar.metric(series).await < f64::from(asked) {}
            })
            .await;
        }
    }
    client.closed().await;
    assert!(asked <= 300, "{asked} were taken");
    counts(&sidecar, &closed("h2_abuse"), 1.0).await;
    sidecar.get("/a/").await.is(200, "ok", "HIT");
}

/// CVE-2024-27316, and a head whose few bytes unfold to many (RFC 7541 §7.3).
#[tokio::test]
async fn heads_without_an_end_and_heads_that_unfold_are_refused() {
    let (_origin, sidecar) = start().await;
    let mut client = Frames::to(&sidecar.address, &[]).await;
    client
        .write(&frame(HEADERS, END_STREAM, 1, &get("/a/")))
        .await;
    let more = frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y");
    for _ in 0..10_000 {
        if !client.write(&more).await || !client.is_open() {
            break;
        }
    }
    assert_eq!(client.closed().await, Some(ENHANCE_YOUR_CALM));
    counts(&sidecar, &closed("h2_abuse"), 1.0).await;

    // One entry of 4,000 bytes in the table, and 12,000 fields that name it: 48 MB.
    let mut block = get("/a/");
    block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'y'; 4000]);
    block.extend([0xbe; 12_000]);
    let mut client = Frames::to(&sidecar.address, &[]).await;
    client
        .write(&frame(HEADERS, END_STREAM | 4, 1, &block))
        .await;
    let refused = |frame: &crate::support::frames::Frame| {
        frame.stream == 1 && frame.kind == HEADERS || frame.kind == 7
    };
    let answer = client.wait("a refusal", refused).await;
    // 431: `:status` as a literal of three digits, or the connection ends.
    let text = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(answer.kind == 7 || text.contains("431"), "{answer:?}");
    sidecar.get("/a/").await.is(200, "ok", "HIT");
}

/// CVE-2019-9512, -9515, -9517, -9518 and their like: frames that cost the sender nothing. Each is answered or ignored one
/// by one, or the connection ends; nothing piles up, and nobody waits.
#[tokio::test]
async fn frames_that_ask_for_nothing_keep_nobody_from_being_served() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let plan = Sidecar::before(&origin).route("/a/**", CACHED);
    let process = Process::serving(&plan).await;
    process.get("/a/").await.is(200, "ok", "MISS");
    let before = resident(&process).await;
    let floods: [(&str, Vec<u8>); 7] = [
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("PING ack", frame(PING, 1, 0, &[7; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])),
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("unknown", frame(0xee, 0, 0, &[7; 64])),
    ];
    for (name, flood) in floods {
        let mut clients = JoinSet::new();
        for _ in 0..2 {
            clients.spawn(flooding(process.address(), flood.repeat(1000)));
        }
        // Neighbours, while it goes on.
        for _ in 0..20 {
            process.get("/a/").await.is(200, "ok", "HIT");
        }
        for client in clients.join_all().await {
            drop(client);
        }
        process.get("/a/").await.is(200, "ok", "HIT");
        let grown = (resident(&process).await - before) / MIB;
        assert!(grown < 64.0, "{name}: {grown} MiB more");
        // Nor may a client write the log full.
        assert!(process.lines().len() < 20, "{name}: {:?}", process.lines());
    }
}

/// A client that sends the same bytes ten times, unless it is stopped.
async fn flooding(address: String, flood: Vec<u8>) -> Frames {
    let mut client = Frames::to(&address, &[]).await;
    // A body that does not end, for DATA.
    client.write(&frame(HEADERS, 4, 1, &get("/a/"))).await;
    for _ in 0..10 {
        if !client.write(&flood).await {
            break;
        }
    }
    client
}

async fn resident(process: &Process) -> f64 {
    value(process, "process_resident_memory_bytes").await
}

async fn value(process: &Process, series: &str) -> f64 {
    let text = process.admin("/metrics").await.body;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

/// A client that reads none of the answers to its pings: they must not pile up here.
#[tokio::test]
async fn answers_that_nobody_reads_do_not_pile_up() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let plan = Sidecar::before(&origin)
        .server("idle_timeout = \"1s\"\nheader_timeout = \"10s\"")
        .route("/a/**", CACHED);
    let process = Process::serving(&plan).await;
    process.get("/a/").await.is(200, "ok", "MISS");
    let before = resident(&process).await;
    let mut client = Line::to(&process.address()).await;
    client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.write(frame(SETTINGS, 0, 0, &[])).await;
    let flood = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
    // It stops reading when its answers are not taken: then nothing of 200 MB more can be written, until it is cut.
    let ended = soon("the connection is cut", async {
        for _ in 0..1200 {
            if client.0.write_all(&flood).await.is_err() {
                return true;
            }
        }
        false
    });
    assert!(ended.await, "200 MB of pings were read");
    let grown = (resident(&process).await - before) / MIB;
    assert!(grown < 32.0, "{grown} MiB more");
    let slow = value(&process, &closed("slow_reader")).await;
    assert!((slow - 1.0).abs() < f64::EPSILON, "{slow}");
    process.get("/a/").await.is(200, "ok", "HIT");
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_answered() {
    let (origin, sidecar) = start().await;
    let held = origin.hold("/uncached");
    let mut client = Frames::to(&sidecar.address, &[]).await;
    for stream in (1..=203).step_by(2) {
        assert!(client.write(&asking(stream, "/uncached")).await);
    }
    for stream in [201, 203] {
        let reset = client
            .wait("a refusal", |frame| {
                frame.kind == RST_STREAM && frame.stream == stream
            })
            .await;
        assert_eq!(reset.code(), REFUSED_STREAM);
    }
    held.arrived(100).await;
    sidecar.get("/a/").await.is(200, "ok", "HIT");
    held.release();
    for stream in (1..200).step_by(2) {
        assert_eq!(client.answer(stream).await, b"ok");
    }
    assert_eq!(origin.hits("/uncached"), 100);
}

/// A window that stays shut: the answer would keep its place with the app for ever. The stream is reset; the connection and
/// what else is on it go on.
#[tokio::test]
async fn a_stream_that_is_never_read_gives_its_place_back() {
    let origin = Origin::start().await;
    let large = vec![b'x'; 4 * 1024 * 1024];
    origin
        .on("/large", move |_| reply(large.clone()))
        .on("/uncached", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("idle_timeout = \"300ms\"")
        .upstream("max_connections = 2\ntimeout = \"10s\"")
        .start()
        .await;
    for window in [0, 1, 30_000] {
        let mut client = Frames::to(&sidecar.address, &[(WINDOW, window)]).await;
        for stream in [1, 3] {
            client.write(&asking(stream, "/large")).await;
        }
        for stream in [1, 3] {
            let reset = |frame: &crate::support::frames::Frame| {
                frame.kind == RST_STREAM && frame.stream == stream
            };
            client.wait("a reset", reset).await;
            assert_eq!(client.body(stream).len(), window as usize);
        }
        client
            .write(&frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]))
            .await;
        client
            .write(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]))
            .await;
        client.write(&asking(5, "/uncached")).await;
        assert_eq!(client.answer(5).await, b"ok");
    }
    counts(&sidecar, "reprise_streams_stalled_total", 6.0).await;
}

/// A hit is in hand as a whole: were it handed to the connection as a whole, each stream could keep an entry that memory
/// has long let go.
#[tokio::test]
async fn a_hit_is_not_handed_over_faster_than_it_is_read() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply(vec![b'x'; 512 * 1024]));
    let sidecar = Sidecar::before(&origin)
        .server("idle_timeout = \"300ms\"")
        .route("/a/**", CACHED)
        .start()
        .await;
    sidecar.get("/a/").await;
    let mut client = Frames::to(&sidecar.address, &[(WINDOW, 1)]).await;
    client.write(&asking(1, "/a/")).await;
    let reset = client
        .wait("a reset", |frame| frame.kind == RST_STREAM)
        .await;
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    assert_eq!(client.body(1), b"x");
    let aborts = "reprise_client_aborts_total{stage=\"answer\"}";
    counts(&sidecar, aborts, 1.0).await;
}

/// One that reads slowly has the whole answer, in its own time.
#[tokio::test]
async fn a_stream_that_is_read_slowly_comes_whole() {
    let origin = Origin::start().await;
    let large: Vec<u8> = (0..600_000_u32).map(|at| (at % 251) as u8).collect();
    let body = large.clone();
    origin.on("/a/large", move |_| reply(body.clone()));
    let sidecar = Sidecar::before(&origin)
        .route("/a/**", CACHED)
        .start()
        .await;
    for _ in ["MISS", "HIT"] {
        let mut client = Frames::to(&sidecar.address, &[(WINDOW, 0)]).await;
        client.write(&asking(1, "/a/large")).await;
        let mut read = 0;
        while read < large.len() {
            let window = 50_000_u32.to_be_bytes();
            let mut more = frame(WINDOW_UPDATE, 0, 1, &window);
            more.extend(frame(WINDOW_UPDATE, 0, 0, &window));
            assert!(client.write(&more).await);
            read = (read + 50_000).min(large.len());
            soon("what the window allows", async {
                while client.body(1).len() < read {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        assert_eq!(client.answer(1).await, large);
    }
    assert_eq!(origin.hits("/a/large"), 1);
}

/// Pings are no sign of use.
#[tokio::test]
async fn an_idle_http2_connection_is_closed_whatever_it_pings() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("idle_timeout = \"300ms\"")
        .start()
        .await;
    let mut client = Frames::to(&sidecar.address, &[]).await;
    client.write(&asking(1, "/a/")).await;
    assert_eq!(client.answer(1).await, b"ok");
    let ping = frame(PING, 0, 0, &[7; 8]);
    soon("it is closed", async {
        while client.is_open() && client.write(&ping).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(client.closed().await, Some(0));
    counts(&sidecar, &closed("idle_timeout"), 1.0).await;
}

#[tokio::test]
async fn thousands_of_idle_connections_cost_little_and_delay_nobody() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let plan = Sidecar::before(&origin).route("/a/**", CACHED);
    let process = Process::serving(&plan).await;
    process.get("/a/").await.is(200, "ok", "MISS");
    let before = resident(&process).await;
    let mut idle = Vec::new();
    let begun = ["", "GET /a/ HTTP/1.1\r\nho", "PRI * HTTP/2.0\r\n"];
    for count in 0..2000 {
        let mut client = Line::to(&process.address()).await;
        client.write(begun[count % begun.len()]).await;
        idle.push(client);
        if count % 100 == 0 {
            process.get("/a/").await.is(200, "ok", "HIT");
        }
    }
    soon("all are open", async {
        while value(&process, "reprise_connections_open").await < 2000.0 {}
    })
    .await;
    process.get("/a/").await.is(200, "ok", "HIT");
    let each = (resident(&process).await - before) / 2000.0;
    assert!(each < 32.0 * 1024.0, "{each} bytes each");
    drop(idle);
    soon("all are gone", async {
        while value(&process, "reprise_connections_open").await > 1.0 {}
    })
    .await;
}

#[tokio::test]
async fn heads_that_trickle_in_end_in_408_and_neighbours_are_served() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("header_timeout = \"300ms\"")
        .route("/a/**", CACHED)
        .start()
        .await;
    sidecar.get("/a/").await.is(200, "ok", "MISS");
    let mut slow = JoinSet::new();
    for _ in 0..100 {
        let mut client = Line::to(&sidecar.address).await;
        slow.spawn(async move {
            client.write("GET /a/ HTTP/1.1\r\nx: ").await;
            while client.0.write_all(b"y").await.is_ok() {
                let mut peek = [0; 1];
                let waited = tokio::time::timeout(
                    std::time::Duration::from_millis(10),
                    client.0.peek(&mut peek),
                );
                if waited.await.is_ok() {
                    break;
                }
            }
            client.rest().await
        });
    }
    while let Some(answer) = slow.join_next().await {
        sidecar.get("/a/").await.is(200, "ok", "HIT");
        let answer = answer.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    counts(&sidecar, &closed("header_timeout"), 100.0).await;
    counts(&sidecar, "reprise_client_aborts_total{stage=\"head\"}", 0.0).await;
}

/// Each limit, struck once: one connection, one reason.
#[tokio::test]
async fn every_limit_that_ends_a_connection_is_counted() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("header_timeout = \"300ms\"\nidle_timeout = \"300ms\"\nmax_request_body = \"1KiB\"")
        .start()
        .await;
    let large = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(70_000)
    );
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(70_000));
    let ok = "GET /a/ HTTP/1.1\r\nhost: x\r\n\r\n";
    let cases = [
        ("head_too_large", large.as_str(), "HTTP/1.1 431 "),
        ("head_too_large", &long, "HTTP/1.1 4"),
        (
            "malformed",
            "GET / HTTP/1.1\r\nx y\r\n\r\n",
            "HTTP/1.1 400 ",
        ),
        (
            "malformed",
            "\u{16}\u{3}\u{1} HELLO\r\n\r\n",
            "HTTP/1.1 400 ",
        ),
        ("header_timeout", "GET / HT", "HTTP/1.1 408 "),
        ("header_timeout", "", ""),
        ("idle_timeout", ok, "HTTP/1.1 200 "),
        (
            "body_timeout",
            "POST /a/ HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab",
            "HTTP/1.1 408 ",
        ),
        (
            "malformed",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\u{1}\u{6}\0\0\0\0\0x",
            "",
        ),
    ];
    let mut expected = std::collections::BTreeMap::new();
    for (reason, request, answer) in cases {
        let answered = raw(&sidecar.address, request).await;
        assert!(answered.starts_with(answer), "{request:.40}: {answered}");
        *expected.entry(reason).or_insert(0.0) += 1.0;
        counts(&sidecar, &closed(reason), expected[reason]).await;
    }
    let declared = "POST /a/ HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n";
    raw(&sidecar.address, declared).await;
    raw(&sidecar.address, "GET / HTTP/1.1\r\n\r\n").await;
    for reason in ["body_too_large", "malformed", "body_timeout"] {
        let series = format!("reprise_requests_refused_total{{reason=\"{reason}\"}}");
        counts(&sidecar, &series, 1.0).await;
    }
    counts(&sidecar, "reprise_connections_open", 0.0).await;
    let (opened, ended) = (opened(&sidecar).await, ended(&sidecar).await);
    assert!((opened - ended).abs() < f64::EPSILON, "{opened} {ended}");
    assert!((opened - 11.0).abs() < f64::EPSILON, "{opened}");
}

async fn opened(sidecar: &Sidecar) -> f64 {
    sidecar.metric("reprise_connections_total").await
}

/// All reasons together.
async fn ended(sidecar: &Sidecar) -> f64 {
    let text = sidecar.admin("/metrics").await.body;
    text.lines()
        .filter_map(|line| line.strip_prefix("reprise_connections_closed_total"))
        .filter_map(|line| line.split(' ').next_back()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test]
async fn clients_that_leave_are_counted_by_how_far_their_request_was() {
    let origin = Origin::start().await;
    let large = vec![b'x'; 8 * 1024 * 1024];
    origin
        .on("/a/", |_| reply("ok"))
        .on("/large", move |_| reply(large.clone()));
    let sidecar = Sidecar::before(&origin)
        .route("/a/**", CACHED)
        .start()
        .await;
    let series = |stage| format!("reprise_client_aborts_total{{stage=\"{stage}\"}}");

    let mut client = Line::to(&sidecar.address).await;
    client.write("GET /a/ HTTP/1.1\r\nho").await;
    drop(client);
    counts(&sidecar, &series("head"), 1.0).await;

    let held = origin.hold("/a/");
    let mut client = Line::to(&sidecar.address).await;
    client.write("GET /a/ HTTP/1.1\r\nhost: x\r\n\r\n").await;
    held.arrived(1).await;
    drop(client);
    counts(&sidecar, &series("waiting"), 1.0).await;
    held.release();

    let mut client = Line::to(&sidecar.address).await;
    client.write("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.head().await;
    drop(client);
    counts(&sidecar, &series("answer"), 1.0).await;

    // Those who stay, and those who close when they have it all, have not left.
    for method in ["GET", "HEAD", "POST"] {
        let request = format!("{method} /a/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        raw(&sidecar.address, request).await;
    }
    sidecar.get("/large").await;
    for stage in ["head", "waiting", "answer"] {
        counts(&sidecar, &series(stage), 1.0).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_a_large_answer_is_cut_and_the_place_given_back() {
    let origin = Origin::start().await;
    let large = vec![b'x'; 32 * 1024 * 1024];
    origin
        .on("/large", move |_| reply(large.clone()))
        .on("/uncached", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("idle_timeout = \"300ms\"")
        .upstream("max_connections = 1\ntimeout = \"10s\"")
        .start()
        .await;
    let mut client = Line::to(&sidecar.address).await;
    client.write("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    origin.asked("/large", 1).await;
    sidecar.get("/uncached").await.is(200, "ok", "BYPASS");
    counts(&sidecar, &closed("slow_reader"), 1.0).await;
    assert!(client.rest().await.len() < 32 * 1024 * 1024);
}

#[tokio::test]
async fn a_connection_that_had_to_wait_for_its_place_is_counted() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("max_connections = 1")
        .start()
        .await;
    sidecar.get("/a/").await.is(200, "ok", "BYPASS");
    let before = sidecar.metric("reprise_connections_delayed_total").await;
    let first = Line::to(&sidecar.address).await;
    counts(&sidecar, "reprise_connections_open", 1.0).await;
    let second = tokio::spawn(sidecar.call("GET", "/a/").send());
    drop(first);
    second.await.unwrap().is(200, "ok", "BYPASS");
    let after = sidecar.metric("reprise_connections_delayed_total").await;
    assert!(after > before, "{before} {after}");
}
