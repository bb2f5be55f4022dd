//! What holds for any body and any Accept-Encoding, whichever tier answers.

use std::collections::HashMap;
use std::io::{Read, Write};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::{Builder, Runtime};

use crate::support::origin::Scripted;
use crate::support::replicas::live;
use crate::support::{Origin, RedisServer, Reply, Sidecar, cached, eventually, reply};

/// The codings that the proxy offers.
const OFFERED: [&str; 3] = ["zstd", "br", "gzip"];

/// An app's answer, and what clients accept who ask for it one after the other.
#[derive(Clone, Debug)]
struct Case {
    body: Vec<u8>,
    kind: &'static str,
    etag: Option<&'static str>,
    /// Whether the app encodes unasked.
    gzipped: bool,
    /// `None`: without the field.
    accepted: Vec<Option<Vec<(&'static str, &'static str)>>>,
    /// A part of the body to ask for.
    part: (usize, usize),
}

prop_compose! {
    /// Each coding at most once: what a repeated one means is nowhere said.
    fn elements()(
        names in subsequence(vec!["gzip", "br", "zstd", "identity", "*", "deflate", "x-unknown"], 0..6).prop_shuffle(),
        weights in prop::collection::vec(select(vec!["", ";q=1", ";q=0", ";q=0.5", "; Q=0.250", ";q=0.001", ";q=1.000"]), 7),
    ) -> Vec<(&'static str, &'static str)> {
        names.into_iter().zip(weights).collect()
    }
}

prop_compose! {
    fn any_case()(
        body in prop_oneof![
            // JSON that is worth a coding, text that gains little, noise that gains nothing.
            ("[a-zé]{1,9}", 1_usize..400).prop_map(|(word, count)| {
                let items = format!("{{\"name\": \"{word}\"}}, ").repeat(count);
                format!("[{items}0]").into_bytes()
            }),
            "[ -~]{0,3000}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 900..2000),
        ],
        kind in select(vec!["application/json", "text/plain; charset=utf-8", "image/png"]),
        etag in select(vec![None, Some("\"v1\""), Some("W/\"v1\"")]),
        gzipped: bool,
        accepted in prop::collection::vec(prop::option::weighted(0.9, elements()), 1..6),
        part in (0_usize..3000, 0_usize..3000),
    ) -> Case {
        Case { body, kind, etag, gzipped, accepted, part }
    }
}

impl Case {
    fn answer(&self) -> Scripted {
        let body = if self.gzipped {
            reply(gzip(&self.body)).header("content-encoding", "gzip")
        } else {
            reply(self.body.clone())
        };
        let body = body.header("content-type", self.kind);
        match self.etag {
            Some(etag) => body.header("etag", etag),
            None => body,
        }
    }
}

/// RFC 9110 §12.5.3: how much a client likes a coding, in thousandths; `None` if it does not take it.
fn weight(accepted: Option<&[(&str, &str)]>, coding: &str) -> Option<u16> {
    let accepted = accepted?;
    let named = |wanted: &str| accepted.iter().find(|(name, _)| *name == wanted);
    match named(coding).or_else(|| named("*")) {
        Some((_, weight)) => {
            let number = weight.split('=').nth(1).unwrap_or("1");
            let thousandths = number.parse::<f64>().expect("a number") * 1000.0;
            Some(thousandths as u16).filter(|weight| *weight > 0)
        }
        None => (coding == "identity").then_some(0),
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

/// The body, by what the answer says of its coding.
fn read(reply: &Reply) -> Vec<u8> {
    let mut body = Vec::new();
    let coded = &reply.bytes[..];
    let result = match coding_of(reply).as_str() {
        "identity" => return coded.to_vec(),
        "gzip" => flate2::read::MultiGzDecoder::new(coded).read_to_end(&mut body),
        "br" => brotli::Decompressor::new(coded, 4096).read_to_end(&mut body),
        "zstd" => zstd::Decoder::new(coded)
            .expect("zstd")
            .read_to_end(&mut body),
        other => panic!("{other}?"),
    };
    result.expect("it is in that coding");
    body
}

fn coding_of(reply: &Reply) -> String {
    match reply.field("content-encoding") {
        coding if coding.is_empty() => "identity".to_owned(),
        coding => coding,
    }
}

async fn ask(
    sidecar: &Sidecar,
    path: &str,
    accepted: Option<&[(&str, &str)]>,
    more: &[(&str, &str)],
) -> Reply {
    let mut call = sidecar.call("GET", path);
    if let Some(accepted) = accepted {
        let elements: Vec<_> = accepted
            .iter()
            .map(|(name, q)| format!("{name}{q}"))
            .collect();
        call = call.header("accept-encoding", &elements.join(", "));
    }
    for (name, value) in more {
        call = call.header(name, value);
    }
    call.send().await
}

/// Whether the answer is one that the client takes, and none that it likes more was to be had.
fn is_negotiated(case: &Case, accepted: Option<&[(&str, &str)]>, got: &Reply) {
    let coding = coding_of(got);
    if got.field("vary") != "accept-encoding" {
        assert_eq!(
            coding, "identity",
            "what is not negotiated is as the app made it"
        );
        return;
    }
    let offers = OFFERED.iter().chain([&"identity"]);
    let best = offers.filter_map(|offer| weight(accepted, offer)).max();
    if got.status == 406 {
        let only_larger = weight(accepted, "identity").is_none();
        assert!(only_larger, "{accepted:?} of {case:?}");
        return;
    }
    let Some(accepted) = accepted else {
        assert_eq!(coding, "identity", "nothing was asked for");
        return;
    };
    let liked = weight(Some(accepted), &coding);
    assert!(
        liked.is_some(),
        "{coding} is not acceptable to {accepted:?}"
    );
    // A coding that does not make the body smaller is not to be had.
    assert!(
        liked == best || coding == "identity",
        "{coding} for {accepted:?}"
    );
}

/// Asks in every way of the case, and sees the same body each time.
async fn the_body_is_the_same(case: &Case, sidecar: &Sidecar, path: &str) {
    let mut etags: HashMap<String, String> = HashMap::new();
    for accepted in &case.accepted {
        let accepted = accepted.as_deref();
        let got = ask(sidecar, path, accepted, &[]).await;
        is_negotiated(case, accepted, &got);
        if got.status == 406 {
            continue;
        }
        assert_eq!(got.status, 200);
        assert_eq!(read(&got), case.body, "{accepted:?}");
        assert_eq!(got.field("content-length"), got.bytes.len().to_string());
        let (coding, etag) = (coding_of(&got), got.field("etag"));
        assert!(!etag.is_empty());
        if let Some(known) = etags.insert(coding.clone(), etag.clone()) {
            assert_eq!(etag, known, "{coding} has one validator");
        }
        let again = ask(sidecar, path, accepted, &[("if-none-match", &etag)]).await;
        let same = (again.status.as_u16(), again.field("etag"));
        assert_eq!(same, (304, etag), "{accepted:?}");
    }
    let opaque = |etag: &String| etag.trim_start_matches("W/").to_owned();
    let mut all: Vec<String> = etags.values().map(opaque).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), etags.len(), "each coding has its own: {etags:?}");
}

/// A part of the identity is that part of what the app sent.
async fn a_part_is_of_the_same_body(case: &Case, sidecar: &Sidecar, path: &str) {
    let (first, length) = case.part;
    let range = format!("bytes={first}-{}", first + length);
    let identity = [("identity", "")];
    let got = ask(sidecar, path, Some(&identity), &[("range", &range)]).await;
    let bytes = &case.body[..];
    if first >= bytes.len() {
        assert_eq!(got.status, 416, "{range}");
        return;
    }
    let end = bytes.len().min(first + length + 1);
    assert_eq!(got.status, 206, "{range}");
    assert_eq!(got.bytes, bytes[first..end], "{range}");
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// Tries so many cases, each at a path of its own.
fn for_any_case(count: u32, mut test: impl FnMut(&Case, &str)) {
    let config = Config {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let test = std::cell::RefCell::new((0, &mut test));
    let found = TestRunner::new(config).run(&any_case(), |case| {
        let (number, test) = &mut *test.borrow_mut();
        *number += 1;
        test(&case, &format!("/p/{number}"));
        Ok(())
    });
    if let Err(failure) = found {
        panic!("{failure}");
    }
}

#[test]
fn a_stored_body_is_the_same_in_every_coding_that_is_accepted() {
    let runtime = runtime();
    let (origin, sidecar) = runtime.block_on(cached("ttl = \"60s\""));
    for_any_case(60, |case, path| {
        let answered = case.clone();
        origin.on(path, move |_| answered.answer());
        runtime.block_on(async {
            the_body_is_the_same(case, &sidecar, path).await;
            a_part_is_of_the_same_body(case, &sidecar, path).await;
        });
        assert_eq!(origin.hits(path), 1, "it was stored");
    });
}

#[test]
fn a_body_that_passes_is_the_same_in_every_coding_that_is_accepted() {
    let runtime = runtime();
    let (origin, sidecar) = runtime.block_on(cached("ttl = \"60s\""));
    for_any_case(40, |case, path| {
        let answered = case.clone();
        origin.on(path, move |_| answered.answer().cache("no-store"));
        runtime.block_on(async {
            for accepted in &case.accepted {
                let accepted = accepted.as_deref();
                let got = ask(&sidecar, path, accepted, &[]).await;
                assert_eq!((got.status.as_u16(), read(&got)), (200, case.body.clone()));
                let coding = coding_of(&got);
                let identity = coding == "identity" || case.gzipped;
                assert!(identity || weight(accepted, &coding).is_some(), "{coding}");
            }
        });
    });
}

#[test]
fn a_body_from_redis_is_the_one_that_another_replica_stored() {
    let runtime = runtime();
    let (origin, redis, one, other) = runtime.block_on(async {
        let (origin, redis) = (Origin::start().await, RedisServer::start().await);
        let plan = || {
            let plan = Sidecar::before(&origin).route("/**", "ttl = \"60s\"");
            plan.with(&format!("[redis]\nurl = {:?}", redis.url()))
        };
        let (one, other) = (plan().start().await, plan().start().await);
        live(&one).await;
        live(&other).await;
        (origin, redis, one, other)
    });
    let stored = || redis.cli(&["KEYS", "reprise:e1:*"]).lines().count();
    for_any_case(16, |case, path| {
        let answered = case.clone();
        origin.on(path, move |_| answered.answer());
        let before = stored();
        runtime.block_on(async {
            assert_eq!(one.get(path).await.bytes, case.body);
            eventually("an entry in Redis", || stored() > before).await;
            let first = other.get(path).await;
            assert_eq!(
                (first.cache().as_str(), &first.bytes[..]),
                ("HIT", &case.body[..])
            );
            the_body_is_the_same(case, &other, path).await;
            a_part_is_of_the_same_body(case, &other, path).await;
        });
        assert_eq!(origin.hits(path), 1);
    });
}
