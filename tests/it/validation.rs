//! RFC 9111 §4.3: asking the app whether an entry still holds.
//!
//! An answer with `Age: 80` and a lifetime of 60 seconds is stale when it comes: the next request asks about it.

use crate::support::origin::Scripted;
use crate::support::{Sidecar, Wire, cached, date, reply};

const MINUTE: &str = "ttl = \"60s\"";

fn stale(body: &'static str) -> Scripted {
    reply(body).header("age", "80")
}

fn unchanged() -> Scripted {
    reply("").status(304)
}

#[tokio::test]
async fn a_304_makes_the_entry_fresh_again_and_keeps_its_body() {
    let (origin, sidecar) = cached(MINUTE).await;
    let first = stale("one").json().header("etag", "\"v1\"");
    origin.then("/a/", first.header("x-a", "1").header("x-b", "1"));
    origin.then(
        "/a/",
        unchanged().header("etag", "\"v1\"").header("x-a", "2"),
    );

    sidecar.get("/a/").await.is(200, "one", "MISS");
    let second = sidecar.get("/a/").await;
    second.is(200, "one", "REVALIDATED");
    assert_eq!(second.cache_status(), "fwd=stale; fwd-status=304; stored");
    assert_eq!(origin.last("/a/").field("if-none-match"), "\"v1\"");
    let third = sidecar.get("/a/").await;
    third.is(200, "one", "HIT");
    for (name, value) in [
        ("x-a", "2"),
        ("x-b", "1"),
        ("content-type", "application/json"),
        ("content-length", "3"),
        ("etag", "\"v1\""),
    ] {
        assert_eq!(third.field(name), value, "{name}");
    }
}

#[tokio::test]
async fn what_changed_replaces_the_entry() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.then("/a/", stale("one").header("etag", "\"v1\""));
    origin.then("/a/", reply("two").header("etag", "\"v2\""));
    sidecar.get("/a/").await.is(200, "one", "MISS");
    let second = sidecar.get("/a/").await;
    second.is(200, "two", "MISS");
    assert_eq!(second.cache_status(), "fwd=stale; stored");
    sidecar.get("/a/").await.is(200, "two", "HIT");
}

#[tokio::test]
async fn no_cache_is_stored_and_asked_about_each_time() {
    let (origin, sidecar) = cached(MINUTE).await;
    for said in ["no-cache", "no-cache=\"x-a\"", "max-age=0, must-revalidate"] {
        let path = format!("/{}/", said.len());
        origin.on(&path, move |seen| match seen.field("if-none-match") {
            "\"v1\"" => unchanged().header("etag", "\"v1\"").cache(said),
            _ => reply("one").header("etag", "\"v1\"").cache(said),
        });
        sidecar.get(&path).await.is(200, "one", "MISS");
        for count in 2..=3 {
            sidecar.get(&path).await.is(200, "one", "REVALIDATED");
            assert_eq!(origin.hits(&path), count, "{said}");
        }
    }
}

/// A validator that this cache made of the body means nothing to the app: it must not be asked with it, neither at
/// once nor after a 304 has been merged.
#[tokio::test]
async fn an_app_with_dates_only_is_asked_by_date_each_time() {
    let (origin, sidecar) = cached("ttl = \"60s\"").await;
    let modified = date(-1000);
    let own = modified.clone();
    origin.on("/a/", move |seen| {
        if seen.field("if-modified-since") == own {
            unchanged().cache("no-cache")
        } else {
            reply("one").header("last-modified", &own).cache("no-cache")
        }
    });
    sidecar.get("/a/").await.is(200, "one", "MISS");
    for _ in 0..2 {
        sidecar.get("/a/").await.is(200, "one", "REVALIDATED");
        let asked = origin.last("/a/");
        assert_eq!(asked.field("if-modified-since"), modified);
        assert_eq!(asked.field("if-none-match"), "");
    }
}

/// RFC 9110 §8.8.2.2: within a minute, two changes may have one date.
#[tokio::test]
async fn a_change_of_this_minute_is_no_validator() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| stale("one").header("last-modified", &date(-10)));
    for _ in 0..2 {
        sidecar.get("/a/").await.is(200, "one", "MISS");
        assert_eq!(origin.last("/a/").field("if-modified-since"), "");
    }
}

#[tokio::test]
async fn an_app_without_validators_is_asked_unconditionally() {
    let (origin, sidecar) = cached("ttl = \"60s\"\nstale_if_error = \"10m\"").await;
    origin.on("/a/", |_| stale("one"));
    sidecar.get("/a/").await.is(200, "one", "MISS");
    sidecar.get("/a/").await.is(200, "one", "MISS");
    let asked = origin.last("/a/");
    assert_eq!(asked.field("if-none-match"), "");
    assert_eq!(asked.field("if-modified-since"), "");
}

#[tokio::test]
async fn a_clients_own_condition_is_not_the_caches() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.then("/a/", stale("one").header("etag", "\"v1\""));
    origin.then("/a/", unchanged().header("etag", "\"v1\""));
    sidecar.get("/a/").await.is(200, "one", "MISS");
    let asked = sidecar
        .call("GET", "/a/")
        .header("if-none-match", "\"old\"");
    asked.send().await.is(200, "one", "REVALIDATED");
    assert_eq!(origin.last("/a/").field("if-none-match"), "\"v1\"");
    let asked = sidecar.call("GET", "/a/").header("if-none-match", "\"v1\"");
    asked.send().await.is(304, "", "HIT");
}

#[tokio::test]
async fn a_304_about_something_else_is_asked_again_without_a_condition() {
    for other in ["\"v0\"", "W/\"v0\""] {
        let (origin, sidecar) = cached(MINUTE).await;
        origin.then("/a/", stale("one").header("etag", "\"v1\""));
        origin.then("/a/", unchanged().header("etag", other));
        origin.then("/a/", reply("two").header("etag", "\"v2\""));
        sidecar.get("/a/").await.is(200, "one", "MISS");
        sidecar.get("/a/").await.is(200, "two", "MISS");
        assert_eq!(origin.last("/a/").field("if-none-match"), "");
        sidecar.get("/a/").await.is(200, "two", "HIT");
        assert_eq!(origin.hits("/a/"), 3);
    }
}

/// A cookie on a 304 is for one client; merged into the entry, it would reach them all.
#[tokio::test]
async fn a_304_that_may_not_be_stored_is_not_merged() {
    for (name, value) in [("vary", "*"), ("vary", "cookie")] {
        let (origin, sidecar) = cached(MINUTE).await;
        origin.then("/a/", stale("one").header("etag", "\"v1\""));
        let update = unchanged().header("etag", "\"v1\"");
        origin.then("/a/", update.header(name, value));
        origin.on("/a/", |_| reply("two"));
        sidecar.get("/a/").await.is(200, "one", "MISS");
        sidecar.get("/a/").await.is(200, "two", "MISS");
        assert_eq!(
            origin.last("/a/").field("if-none-match"),
            "",
            "{name}: {value}"
        );
        let third = sidecar.get("/a/").await;
        third.is(200, "two", "HIT");
        assert_eq!(third.field("set-cookie"), "");
    }
}

#[tokio::test]
async fn a_304_may_repeat_what_the_entry_says() {
    let (origin, sidecar) = cached("ttl = \"60s\"\nscope = \"user\"").await;
    let say = |answer: Scripted| {
        let answer = answer
            .header("etag", "\"v1\"")
            .header("vary", "Accept, Cookie");
        answer.cache("private, no-cache")
    };
    origin.then("/a/", say(reply("one")));
    origin.on("/a/", move |_| say(unchanged()));
    let get = async || sidecar.call("GET", "/a/").token("a").send().await;
    get().await.is(200, "one", "MISS");
    for count in 2..=3 {
        get().await.is(200, "one", "REVALIDATED");
        assert_eq!(origin.hits("/a/"), count);
    }
}

/// RFC 9111 §4.3.4 and §4.2.3: a 304 that a cache before the app kept for a while is as old as it says.
#[tokio::test]
async fn the_age_of_a_304_is_the_age_of_what_it_confirms() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.then("/a/", stale("one").header("etag", "\"v1\""));
    origin.then(
        "/a/",
        unchanged().header("etag", "\"v1\"").header("age", "30"),
    );
    sidecar.get("/a/").await.is(200, "one", "MISS");
    sidecar.get("/a/").await.is(200, "one", "REVALIDATED");
    let third = sidecar.get("/a/").await;
    third.is(200, "one", "HIT");
    assert!(
        ["30", "31", "32"].contains(&third.field("age").as_str()),
        "{third:?}"
    );
}

/// RFC 9110 §6.6.1: what comes without a date is dated when it comes, a 304 as much as a 200.
#[tokio::test]
async fn a_304_without_a_date_is_new() {
    let first = format!(
        "HTTP/1.1 200 OK\r\ndate: {}\r\netag: \"v1\"\r\ncontent-length: 3\r\nconnection: close\r\n\r\none",
        date(-1000)
    );
    let app = Wire::answering([
        first.leak(),
        "HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\nconnection: close\r\n\r\n",
    ])
    .await;
    let plan = Sidecar::before_url(&app.url).route("/a/", MINUTE);
    let sidecar = plan.start().await;
    sidecar.get("/a/").await.is(200, "one", "MISS");
    sidecar.get("/a/").await.is(200, "one", "REVALIDATED");
    sidecar.get("/a/").await.is(200, "one", "HIT");
}
