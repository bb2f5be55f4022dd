//! RFC 9110 §14: parts of an entry.

use crate::support::{Reply, Sidecar, cached, reply};

const MINUTE: &str = "ttl = \"60s\"";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

async fn part(sidecar: &Sidecar, range: &str) -> Reply {
    sidecar
        .call("GET", "/a/")
        .header("range", range)
        .send()
        .await
}

#[tokio::test]
async fn a_part_is_cut_from_the_whole() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("0123456789"));
    sidecar.get("/a/").await.is(200, "0123456789", "MISS");
    for (range, body, told) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=-99", "0123456789", "bytes 0-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
        ("Bytes=4-4", "4", "bytes 4-4/10"),
    ] {
        let got = part(&sidecar, range).await;
        got.is(206, body, "HIT");
        assert_eq!(got.field("content-range"), told, "{range}");
        assert_eq!(got.field("content-length"), body.len().to_string());
        assert!(!got.field("etag").is_empty(), "{range}");
    }
    assert_eq!(origin.hits("/a/"), 1);
}

#[tokio::test]
async fn a_part_that_is_not_there_is_a_416() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("0123456789"));
    sidecar.get("/a/").await.is(200, "0123456789", "MISS");
    for range in ["bytes=10-", "bytes=99-100", "bytes=-0"] {
        let got = part(&sidecar, range).await;
        got.is(416, "", "HIT");
        assert_eq!(got.field("content-range"), "bytes */10", "{range}");
        assert_eq!(got.field("content-length"), "0", "{range}");
    }
}

#[tokio::test]
async fn a_range_that_is_not_served_is_answered_with_the_whole() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("0123456789"));
    sidecar.get("/a/").await.is(200, "0123456789", "MISS");
    for range in [
        "bytes=0-1,3-4",
        "bytes=5-4",
        "lines=1-2",
        "bytes=x-",
        "bytes",
    ] {
        let got = part(&sidecar, range).await;
        got.is(200, "0123456789", "HIT");
        assert_eq!(got.field("content-range"), "", "{range}");
    }
    let head = sidecar.call("HEAD", "/a/").header("range", "bytes=0-1");
    head.send().await.is(200, "", "HIT");
}

#[tokio::test]
async fn a_part_is_cut_on_the_first_miss_and_the_whole_is_stored() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("0123456789"));
    part(&sidecar, "bytes=2-3").await.is(206, "23", "MISS");
    assert_eq!(origin.last("/a/").field("range"), "");
    sidecar.get("/a/").await.is(200, "0123456789", "HIT");
}

#[tokio::test]
async fn if_range_asks_for_a_part_of_what_the_client_knows_or_the_whole() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| {
        let answer = reply("0123456789").header("etag", "\"v1\"");
        answer.header("last-modified", MODIFIED)
    });
    sidecar.get("/a/").await.is(200, "0123456789", "MISS");
    for (known, status, body) in [
        ("\"v1\"", 206, "01"),
        ("\"v0\"", 200, "0123456789"),
        ("W/\"v1\"", 200, "0123456789"),
        (MODIFIED, 206, "01"),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 200, "0123456789"),
        ("nonsense", 200, "0123456789"),
    ] {
        let asked = sidecar.call("GET", "/a/").header("range", "bytes=0-1");
        let got = asked.header("if-range", known).send().await;
        got.is(status, body, "HIT");
    }
}

#[tokio::test]
async fn preconditions_come_before_the_range() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("0123456789").header("etag", "\"v1\""));
    sidecar.get("/a/").await.is(200, "0123456789", "MISS");
    for (name, value, status) in [
        ("if-none-match", "\"v1\"", 304),
        ("if-match", "\"v0\"", 412),
    ] {
        let asked = sidecar.call("GET", "/a/").header("range", "bytes=0-1");
        asked.header(name, value).send().await.is(status, "", "HIT");
    }
}

#[tokio::test]
async fn an_empty_body_has_no_parts() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply(""));
    sidecar.get("/a/").await.is(200, "", "MISS");
    let got = part(&sidecar, "bytes=0-0").await;
    got.is(416, "", "HIT");
    assert_eq!(got.field("content-range"), "bytes */0");
}
