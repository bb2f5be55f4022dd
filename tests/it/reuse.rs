//! RFC 9111 §4: what a request's method and own directives change.

use crate::support::{cached, reply};

const HONOR: &str = "ttl = \"60s\"\nclient_directives = \"honor\"";

#[tokio::test]
async fn a_head_is_answered_from_a_stored_get() {
    let (origin, sidecar) = cached("ttl = \"60s\"").await;
    origin.on("/a/", |_| reply("four").header("x-a", "1"));
    sidecar.get("/a/").await.is(200, "four", "MISS");
    let head = sidecar.call("HEAD", "/a/").send().await;
    head.is(200, "", "HIT");
    assert_eq!(head.field("content-length"), "4");
    assert_eq!(head.field("x-a"), "1");
    assert_eq!(origin.hits("/a/"), 1);
}

#[tokio::test]
async fn a_head_without_an_entry_is_asked_as_a_head_and_stores_nothing() {
    let (origin, sidecar) = cached("ttl = \"60s\"").await;
    origin.on("/a/", |_| reply("four"));
    let head = sidecar.call("HEAD", "/a/").send().await;
    head.is(200, "", "MISS");
    assert_eq!(head.field("content-length"), "4");
    assert_eq!(origin.last("/a/").method, "HEAD");
    sidecar.get("/a/").await.is(200, "four", "MISS");
    sidecar.get("/a/").await.is(200, "four", "HIT");
}

/// The entry is 20 seconds old and fresh for 40 more.
#[tokio::test]
async fn request_directives_count_where_the_route_honors_them_and_only_there() {
    let pragma = ("pragma", "no-cache");
    let control = |value| ("cache-control", value);
    for ((name, value), honored) in [
        (control("no-cache"), "MISS"),
        (control("max-age=0"), "MISS"),
        (control("max-age=19"), "MISS"),
        (control("max-age=30"), "HIT"),
        (control("min-fresh=45"), "MISS"),
        (control("min-fresh=30"), "HIT"),
        (control("only-if-cached"), "HIT"),
        (control("no-store"), "HIT"),
        (control("unknown"), "HIT"),
        (pragma, "MISS"),
    ] {
        for (lines, cache) in [(HONOR, honored), ("ttl = \"60s\"", "HIT")] {
            let (origin, sidecar) = cached(lines).await;
            origin.on("/a/", |_| reply("a").header("age", "20"));
            sidecar.get("/a/").await.is(200, "a", "MISS");
            let asked = sidecar.call("GET", "/a/").header(name, value);
            let got = asked.send().await;
            assert_eq!(got.cache(), cache, "{name}: {value} with {lines}");
            let hits = if cache == "HIT" { 1 } else { 2 };
            assert_eq!(origin.hits("/a/"), hits, "{name}: {value} with {lines}");
        }
    }
}

#[tokio::test]
async fn cache_control_outranks_pragma() {
    let (origin, sidecar) = cached(HONOR).await;
    origin.on("/a/", |_| reply("a"));
    sidecar.get("/a/").await.is(200, "a", "MISS");
    let asked = sidecar.call("GET", "/a/").header("pragma", "no-cache");
    let asked = asked.header("cache-control", "max-age=50");
    asked.send().await.is(200, "a", "HIT");
}

/// The entry is 20 seconds past its lifetime.
#[tokio::test]
async fn a_client_may_accept_what_is_stale_unless_the_app_forbids_it() {
    for (said, accepted, cache) in [
        ("max-age=60", "max-stale", "STALE"),
        ("max-age=60", "max-stale=30", "STALE"),
        ("max-age=60", "max-stale=10", "REVALIDATED"),
        ("max-age=60, must-revalidate", "max-stale", "REVALIDATED"),
        ("s-maxage=60", "max-stale", "REVALIDATED"),
    ] {
        let (origin, sidecar) = cached(HONOR).await;
        let first = reply("a").cache(said).header("age", "80");
        origin.then("/a/", first.header("etag", "\"1\""));
        origin.on("/a/", |_| reply("").status(304).header("etag", "\"1\""));
        sidecar.get("/a/").await.is(200, "a", "MISS");
        let asked = sidecar.call("GET", "/a/").header("cache-control", accepted);
        asked.send().await.is(200, "a", cache);
        if cache == "REVALIDATED" {
            assert_eq!(origin.last("/a/").field("if-none-match"), "\"1\"");
        }
    }
}

#[tokio::test]
async fn only_if_cached_is_a_504_when_nothing_fresh_is_stored() {
    let (origin, sidecar) = cached(HONOR).await;
    origin.on("/a/", |_| reply("a"));
    origin.on("/b/", |_| {
        reply("b").header("age", "80").header("etag", "\"1\"")
    });
    let only = async |path: &str| {
        let asked = sidecar.call("GET", path);
        asked.header("cache-control", "only-if-cached").send().await
    };
    let refused = only("/a/").await;
    assert_eq!(
        (refused.status.as_u16(), refused.cache().as_str()),
        (504, "MISS")
    );
    assert_eq!(refused.field("content-type"), "application/problem+json");
    assert_eq!(origin.hits("/a/"), 0);

    sidecar.get("/a/").await.is(200, "a", "MISS");
    only("/a/").await.is(200, "a", "HIT");
    sidecar.get("/b/").await.is(200, "b", "MISS");
    assert_eq!(only("/b/").await.status, 504);
    assert_eq!(origin.hits("/b/"), 1);
}

#[tokio::test]
async fn only_if_cached_is_not_heard_by_default() {
    let (origin, sidecar) = cached("ttl = \"60s\"").await;
    origin.on("/a/", |_| reply("a"));
    let asked = sidecar
        .call("GET", "/a/")
        .header("cache-control", "only-if-cached");
    asked.send().await.is(200, "a", "MISS");
}

#[tokio::test]
async fn a_request_that_says_no_store_leaves_nothing_behind_where_it_is_honored() {
    for (lines, second) in [(HONOR, "MISS"), ("ttl = \"60s\"", "HIT")] {
        let (origin, sidecar) = cached(lines).await;
        origin.on("/a/", |_| reply("a"));
        let asked = sidecar
            .call("GET", "/a/")
            .header("cache-control", "no-store");
        asked.send().await.is(200, "a", "MISS");
        sidecar.get("/a/").await.is(200, "a", second);
    }
}
