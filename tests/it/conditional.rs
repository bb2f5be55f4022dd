//! RFC 9110 §13: the conditions of clients, answered from what is stored.

use crate::support::{Reply, Sidecar, cached, date, reply};

const MINUTE: &str = "ttl = \"60s\"";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

async fn asking(sidecar: &Sidecar, method: &str, fields: &[(&str, &str)]) -> Reply {
    let mut call = sidecar.call(method, "/a/");
    for (name, value) in fields {
        call = call.header(name, value);
    }
    call.send().await
}

#[tokio::test]
async fn an_app_without_validators_is_given_a_strong_one() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("one"));
    let first = sidecar.get("/a/").await;
    first.is(200, "one", "MISS");
    let etag = first.field("etag");
    assert!(etag.starts_with('"') && etag.len() == 34, "{etag}");

    let same = asking(&sidecar, "GET", &[("if-none-match", &etag)]).await;
    same.is(304, "", "HIT");
    assert_eq!(same.field("etag"), etag);
    assert_eq!(same.field("content-length"), "");
    assert_eq!(origin.hits("/a/"), 1);
}

/// A client that knows the body from before a restart, or from another replica, need not be sent it again.
#[tokio::test]
async fn a_first_miss_is_a_304_too_when_the_client_has_the_body() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("one"));
    let etag = sidecar.get("/a/").await.field("etag");

    let (other_origin, other) = cached(MINUTE).await;
    other_origin.on("/a/", |_| reply("one"));
    let first = asking(&other, "GET", &[("if-none-match", &etag)]).await;
    first.is(304, "", "MISS");
    assert_eq!(first.cache_status(), "fwd=uri-miss; stored");
    // The app was asked for the whole of it.
    assert_eq!(other_origin.last("/a/").field("if-none-match"), "");
    other.get("/a/").await.is(200, "one", "HIT");
}

#[tokio::test]
async fn different_bodies_get_different_validators() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("one"));
    origin.on("/b/", |_| reply("two"));
    let (a, b) = (sidecar.get("/a/").await, sidecar.get("/b/").await);
    assert_eq!((a.cache(), b.cache()), ("MISS".into(), "MISS".into()));
    assert_ne!(a.field("etag"), b.field("etag"));
}

#[tokio::test]
async fn conditions_are_evaluated_in_the_order_of_the_rfc() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| {
        reply("one")
            .header("etag", "\"v1\"")
            .header("last-modified", MODIFIED)
    });
    sidecar.get("/a/").await.is(200, "one", "MISS");
    let cases: [(&[(&str, &str)], u16); 18] = [
        (&[("if-none-match", "\"v1\"")], 304),
        (&[("if-none-match", "W/\"v1\"")], 304),
        (&[("if-none-match", "\"v0\", \"v1\"")], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"v0\"")], 200),
        (&[("if-none-match", "v1")], 200),
        (&[("if-modified-since", MODIFIED)], 304),
        (&[("if-modified-since", AFTER)], 304),
        (&[("if-modified-since", BEFORE)], 200),
        (&[("if-modified-since", "yesterday")], 200),
        (
            &[("if-none-match", "\"v0\""), ("if-modified-since", AFTER)],
            200,
        ),
        (&[("if-match", "\"v1\"")], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", "W/\"v1\"")], 412),
        (&[("if-match", "\"v0\""), ("if-none-match", "\"v1\"")], 412),
        (&[("if-unmodified-since", BEFORE)], 412),
        (&[("if-unmodified-since", MODIFIED)], 200),
        (
            &[("if-match", "\"v1\""), ("if-unmodified-since", BEFORE)],
            200,
        ),
    ];
    for (fields, status) in cases {
        for method in ["GET", "HEAD"] {
            let got = asking(&sidecar, method, fields).await;
            let told = (got.status.as_u16(), got.cache());
            assert_eq!(told, (status, "HIT".into()), "{method} {fields:?}");
            let body = if status == 200 && method == "GET" {
                "one"
            } else {
                ""
            };
            assert_eq!(got.body, body, "{method} {fields:?}");
        }
    }
    assert_eq!(origin.hits("/a/"), 1);
}

#[tokio::test]
async fn the_time_an_answer_was_made_stands_for_a_missing_last_modified() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("one"));
    sidecar.get("/a/").await.is(200, "one", "MISS");
    for (offset, status) in [(60, 304), (-60, 200)] {
        let since = date(offset);
        let got = asking(&sidecar, "GET", &[("if-modified-since", &since)]).await;
        assert_eq!((got.status.as_u16(), got.cache()), (status, "HIT".into()));
    }
}

#[tokio::test]
async fn a_304_repeats_what_a_client_may_keep_and_not_what_describes_the_body() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| {
        let answer = reply("one")
            .json()
            .header("etag", "\"v1\"")
            .cache("max-age=60");
        answer
            .header("vary", "accept")
            .header("content-language", "de")
    });
    sidecar.get("/a/").await.is(200, "one", "MISS");
    let got = asking(&sidecar, "GET", &[("if-none-match", "\"v1\"")]).await;
    got.is(304, "", "HIT");
    for (name, value) in [
        ("etag", "\"v1\""),
        ("cache-control", "max-age=60"),
        ("vary", "accept"),
        ("content-type", ""),
        ("content-length", ""),
        ("content-language", ""),
    ] {
        assert_eq!(got.field(name), value, "{name}");
    }
    assert!(!got.field("date").is_empty() && !got.field("age").is_empty());
}

/// RFC 9110 §13.2.1: conditions are about a representation, and a stored 404 is none.
#[tokio::test]
async fn a_stored_absence_is_told_whatever_the_conditions() {
    let (origin, sidecar) = cached("negative_ttl = \"60s\"").await;
    origin.on("/a/", |_| reply("none").status(404));
    sidecar.get("/a/").await.is(404, "none", "MISS");
    for field in [("if-none-match", "*"), ("if-match", "\"v1\"")] {
        asking(&sidecar, "GET", &[field])
            .await
            .is(404, "none", "HIT");
    }
}
