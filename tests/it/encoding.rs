//! Codings: chosen by the client's quality values, made of one stored body, undone when the app sends one.

use std::io::{Read, Write};

use crate::support::origin::{Scripted, streamed};
use crate::support::{Reply, Sidecar, cached, reply};

/// How the app answers, each time anew.
type Answer = Box<dyn Fn() -> Scripted + Send + Sync>;

const MINUTE: &str = "ttl = \"60s\"";

/// A body worth a coding.
fn page() -> String {
    "{\"title\": \"The same again\", \"seats\": [1, 2, 3]},\n".repeat(80)
}

fn answer() -> Scripted {
    reply(page()).json().header("etag", "\"v1\"")
}

async fn accepting(sidecar: &Sidecar, codings: &str) -> Reply {
    let call = sidecar.call("GET", "/a/");
    call.header("accept-encoding", codings).send().await
}

/// The body, by what the answer says of its coding.
fn read(reply: &Reply) -> String {
    let mut text = String::new();
    let coded = &reply.bytes[..];
    let result = match reply.field("content-encoding").as_str() {
        "" => return reply.body.clone(),
        "gzip" => flate2::read::MultiGzDecoder::new(coded).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(coded, 4096).read_to_string(&mut text),
        "zstd" => zstd::Decoder::new(coded)
            .expect("zstd")
            .read_to_string(&mut text),
        other => panic!("{other}?"),
    };
    result.expect("it is in that coding");
    text
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn each_client_gets_the_coding_it_likes_best_of_one_stored_body() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| answer());
    let first = sidecar.get("/a/").await;
    first.is(200, &page(), "MISS");
    assert_eq!(first.field("vary"), "accept-encoding");
    for (accepted, coding, etag) in [
        ("gzip, br, zstd", "zstd", "W/\"v1-zstd\""),
        ("gzip, br", "br", "W/\"v1-br\""),
        ("gzip", "gzip", "W/\"v1-gzip\""),
        ("gzip;q=0.9, br;q=0.3", "gzip", "W/\"v1-gzip\""),
        ("*", "zstd", "W/\"v1-zstd\""),
        ("*, zstd;q=0", "br", "W/\"v1-br\""),
        ("identity, gzip;q=0.5", "", "\"v1\""),
        ("identity;q=0, br;q=0.1", "br", "W/\"v1-br\""),
        ("deflate", "", "\"v1\""),
        ("gzip;q=0", "", "\"v1\""),
        ("", "", "\"v1\""),
    ] {
        let got = accepting(&sidecar, accepted).await;
        assert_eq!(got.cache(), "HIT", "{accepted}");
        assert_eq!(got.field("content-encoding"), coding, "{accepted}");
        assert_eq!(got.field("etag"), etag, "{accepted}");
        assert_eq!(got.field("vary"), "accept-encoding", "{accepted}");
        assert_eq!(got.field("content-length"), got.bytes.len().to_string());
        assert_eq!(read(&got), page(), "{accepted}");
    }
    assert_eq!(origin.hits("/a/"), 1);
    assert_eq!(origin.last("/a/").field("accept-encoding"), "identity");
}

#[tokio::test]
async fn the_first_client_gets_its_coding_too() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| answer());
    let first = accepting(&sidecar, "gzip").await;
    assert_eq!((first.cache().as_str(), read(&first)), ("MISS", page()));
    assert_eq!(first.field("content-encoding"), "gzip");
    sidecar.get("/a/").await.is(200, &page(), "HIT");
}

#[tokio::test]
async fn a_client_that_refuses_every_coding_there_is_is_told_so() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| answer());
    for cache in ["MISS", "HIT"] {
        let got = accepting(&sidecar, "identity;q=0").await;
        got.is(406, "", cache);
        assert_eq!(got.field("vary"), "accept-encoding");
    }
}

#[tokio::test]
async fn each_coding_has_a_validator_of_its_own() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| answer());
    sidecar.get("/a/").await.is(200, &page(), "MISS");
    for (accepted, known, status, etag) in [
        ("gzip", "W/\"v1-gzip\"", 304, "W/\"v1-gzip\""),
        ("gzip", "\"v1-gzip\"", 304, "W/\"v1-gzip\""),
        ("br", "W/\"v1-gzip\"", 200, "W/\"v1-br\""),
        ("gzip", "\"v1\"", 200, "W/\"v1-gzip\""),
        ("identity", "\"v1\"", 304, "\"v1\""),
        ("identity", "W/\"v1-gzip\"", 200, "\"v1\""),
    ] {
        let call = sidecar
            .call("GET", "/a/")
            .header("accept-encoding", accepted);
        let got = call.header("if-none-match", known).send().await;
        assert_eq!((got.status.as_u16(), got.cache()), (status, "HIT".into()));
        assert_eq!(got.field("etag"), etag, "{accepted} {known}");
        assert_eq!(got.field("vary"), "accept-encoding", "{accepted} {known}");
    }
}

#[tokio::test]
async fn what_gains_nothing_or_must_stay_as_it_is_stays() {
    let small = "{}".repeat(100);
    let cases: [(&str, &str, Answer); 6] = [
        (
            "small",
            MINUTE,
            Box::new(move || reply(small.clone()).json()),
        ),
        ("an image", MINUTE, Box::new(|| answer_of("image/png"))),
        ("no type", MINUTE, Box::new(|| reply(page()))),
        (
            "no-transform",
            MINUTE,
            Box::new(|| answer().cache("no-transform")),
        ),
        (
            "compress = false",
            "ttl = \"60s\"\ncompress = false",
            Box::new(answer),
        ),
        (
            "encoded by the app in an unknown way",
            MINUTE,
            Box::new(|| answer().header("content-encoding", "rot13")),
        ),
    ];
    for (name, lines, scripted) in cases {
        let (origin, sidecar) = cached(lines).await;
        origin.on("/a/", move |_| scripted());
        let plain = sidecar.get("/a/").await;
        assert_eq!(plain.cache(), "MISS");
        let got = accepting(&sidecar, "gzip, br, zstd").await;
        assert_eq!(got.bytes, plain.bytes, "{name}");
        assert_eq!(
            got.field("content-encoding").replace("rot13", ""),
            "",
            "{name}"
        );
        assert_eq!(got.field("vary"), "", "{name}");
    }
}

fn answer_of(kind: &str) -> Scripted {
    reply(page()).header("content-type", kind)
}

#[tokio::test]
async fn types_and_sizes_are_the_operators_to_choose() {
    let origin = crate::support::Origin::start().await;
    origin.on("/a/", |_| {
        reply("x".repeat(100)).header("content-type", "application/x-mine; v=1")
    });
    let knobs = "[compression]\nencodings = [\"gzip\"]\nmin_size = \"50B\"\ntypes = [\"application/x-mine\"]";
    let plan = Sidecar::before(&origin).with(knobs).route("/**", MINUTE);
    let sidecar = plan.start().await;
    sidecar.get("/a/").await.is(200, &"x".repeat(100), "MISS");
    let got = accepting(&sidecar, "zstd, br, gzip;q=0.1").await;
    assert_eq!(
        (got.cache().as_str(), got.field("content-encoding").as_str()),
        ("HIT", "gzip")
    );
    assert_eq!(read(&got), "x".repeat(100));
}

/// Asked for identity, some apps send gzip all the same: it is undone once, and everybody is served.
#[tokio::test]
async fn an_app_that_encodes_unasked_is_decoded() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| {
        let answer = reply(gzip(&page()))
            .json()
            .header("content-encoding", "gzip");
        answer
            .header("etag", "\"v1\"")
            .header("vary", "Accept-Encoding")
    });
    let plain = accepting(&sidecar, "identity").await;
    plain.is(200, &page(), "MISS");
    assert_eq!(plain.field("content-encoding"), "");
    assert_eq!(plain.field("content-length"), page().len().to_string());
    // The strong validator named the bytes that the app sent.
    assert_eq!(plain.field("etag"), "W/\"v1\"");
    for accepted in ["br", "gzip"] {
        let got = accepting(&sidecar, accepted).await;
        assert_eq!((got.cache().as_str(), read(&got)), ("HIT", page()));
        assert_eq!(got.field("content-encoding"), accepted);
    }
    sidecar.get("/a/").await.is(200, &page(), "HIT");
    assert_eq!(origin.hits("/a/"), 1);
}

#[tokio::test]
async fn what_claims_a_coding_that_it_is_not_in_is_passed_on_and_not_stored() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| {
        reply("not gzip").header("content-encoding", "gzip")
    });
    for _ in 0..2 {
        let got = sidecar.get("/a/").await;
        got.is(200, "not gzip", "MISS");
        assert_eq!(got.cache_status(), "fwd=uri-miss; detail=encoding");
        assert_eq!(got.field("content-encoding"), "gzip");
    }
}

#[tokio::test]
async fn a_decoded_answer_keeps_its_weak_validator_when_the_app_confirms_it() {
    let (origin, sidecar) = cached(MINUTE).await;
    let first = reply(gzip(&page()))
        .json()
        .header("content-encoding", "gzip");
    origin.then("/a/", first.header("etag", "\"v1\"").header("age", "80"));
    origin.then("/a/", reply("").status(304).header("etag", "\"v1\""));
    sidecar.get("/a/").await.is(200, &page(), "MISS");
    let second = sidecar.get("/a/").await;
    second.is(200, &page(), "REVALIDATED");
    assert_eq!(second.field("etag"), "W/\"v1\"");
    let part = sidecar.call("GET", "/a/").header("range", "bytes=0-1");
    let part = part.header("if-range", "\"v1\"").send().await;
    part.is(200, &page(), "HIT");
}

#[tokio::test]
async fn a_range_counts_the_bytes_of_the_coding_that_is_sent() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| answer());
    sidecar.get("/a/").await.is(200, &page(), "MISS");
    let whole = accepting(&sidecar, "gzip").await;
    let call = sidecar.call("GET", "/a/").header("accept-encoding", "gzip");
    let part = call.header("range", "bytes=5-9").send().await;
    assert_eq!((part.status.as_u16(), part.cache()), (206, "HIT".into()));
    assert_eq!(part.bytes, whole.bytes[5..10]);
    assert_eq!(part.field("content-encoding"), "gzip");
    assert_eq!(part.field("etag"), "W/\"v1-gzip\"");
    let told = format!("bytes 5-9/{}", whole.bytes.len());
    assert_eq!(part.field("content-range"), told);

    let plain = sidecar.call("GET", "/a/").header("range", "bytes=5-9");
    plain.send().await.is(206, &page()[5..10], "HIT");
}

#[tokio::test]
async fn a_head_tells_of_the_coding_that_a_get_would_bring() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| answer());
    sidecar.get("/a/").await.is(200, &page(), "MISS");
    let whole = accepting(&sidecar, "br").await;
    let head = sidecar.call("HEAD", "/a/").header("accept-encoding", "br");
    let head = head.send().await;
    head.is(200, "", "HIT");
    for name in ["content-encoding", "content-length", "etag", "vary"] {
        assert_eq!(head.field(name), whole.field(name), "{name}");
    }
}

#[tokio::test]
async fn what_is_not_stored_is_encoded_as_it_passes() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| answer().cache("no-store"));
    for _ in 0..2 {
        let got = accepting(&sidecar, "gzip, br").await;
        assert_eq!((got.cache().as_str(), read(&got)), ("MISS", page()));
        assert_eq!(got.field("content-encoding"), "br");
        assert_eq!(got.field("etag"), "W/\"v1\"");
        assert_eq!(got.field("vary"), "accept-encoding");
    }
}

#[tokio::test]
async fn a_slow_body_is_encoded_as_it_comes() {
    let (origin, sidecar) = cached(MINUTE).await;
    let (scripted, chunks) = streamed();
    origin.then("/a/", scripted.json());
    let call = sidecar.call("GET", "/a/").header("accept-encoding", "gzip");
    let open = call.open().await;
    assert_eq!(open.headers["content-encoding"], "gzip");
    chunks.send(page());
    chunks.send("the end");
    drop(chunks);
    let got = open.read().await;
    assert_eq!(
        (got.cache().as_str(), read(&got)),
        ("MISS", page() + "the end")
    );
    let hit = accepting(&sidecar, "br").await;
    assert_eq!(
        (hit.cache().as_str(), read(&hit)),
        ("HIT", page() + "the end")
    );
}
