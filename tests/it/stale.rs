//! RFC 5861 and RFC 9111 §4.2.4: what is served when it is no longer fresh.
//!
//! An answer with `Age: 80` and a lifetime of 60 seconds is 20 seconds stale when it comes.

use crate::support::origin::Scripted;
use crate::support::{Sidecar, Wire, cached, reply, soon};

fn old(body: &'static str) -> Scripted {
    reply(body).header("age", "80")
}

/// Asks until the background has brought this body.
async fn until(sidecar: &Sidecar, body: &str) {
    soon("a refresh", async {
        while sidecar.get("/a/").await.body != body {}
    })
    .await;
}

#[tokio::test]
async fn what_is_stale_is_served_while_it_is_refreshed() {
    for (lines, said) in [
        ("ttl = \"60s\"\nstale_while_revalidate = \"5m\"", "x"),
        ("", "max-age=60, stale-while-revalidate=300"),
        (
            "stale_while_revalidate = \"1s\"",
            "max-age=60, stale-while-revalidate=300",
        ),
    ] {
        let (origin, sidecar) = cached(lines).await;
        origin.then("/a/", old("old").cache(said));
        origin.on("/a/", move |_| reply("new").cache(said));
        sidecar.get("/a/").await.is(200, "old", "MISS");

        let gate = origin.hold("/a/");
        let stale = sidecar.get("/a/").await;
        stale.is(200, "old", "STALE");
        assert!(stale.cache_status().ends_with("detail=updating"), "{lines}");
        gate.arrived(2).await;
        // However many ask meanwhile, one refresh is under way.
        sidecar.get("/a/").await.is(200, "old", "STALE");
        sidecar.get("/a/").await.is(200, "old", "STALE");
        assert_eq!(origin.hits("/a/"), 2, "{lines}");
        gate.release();
        until(&sidecar, "new").await;
        sidecar.get("/a/").await.is(200, "new", "HIT");
    }
}

#[tokio::test]
async fn a_refresh_asks_with_the_apps_validator() {
    let (origin, sidecar) = cached("ttl = \"60s\"\nstale_while_revalidate = \"5m\"").await;
    origin.then("/a/", old("one").header("etag", "\"v1\""));
    origin.on("/a/", |_| reply("").status(304).header("x-a", "2"));
    sidecar.get("/a/").await.is(200, "one", "MISS");
    sidecar.get("/a/").await.is(200, "one", "STALE");
    origin.asked("/a/", 2).await;
    assert_eq!(origin.last("/a/").field("if-none-match"), "\"v1\"");
    soon("a refresh", async {
        while sidecar.get("/a/").await.field("x-a") != "2" {}
    })
    .await;
    sidecar.get("/a/").await.is(200, "one", "HIT");
}

#[tokio::test]
async fn past_its_window_or_against_the_apps_word_nothing_stale_is_served() {
    let windows = "ttl = \"60s\"\nstale_while_revalidate = \"5m\"\nstale_if_error = \"5m\"";
    for (lines, said) in [
        ("ttl = \"60s\"\nstale_while_revalidate = \"10s\"", "x"),
        (
            windows,
            "max-age=60, stale-while-revalidate=10, stale-if-error=10",
        ),
        (windows, "max-age=60, must-revalidate"),
        (windows, "max-age=60, proxy-revalidate"),
        (windows, "s-maxage=60"),
        (windows, "no-cache"),
    ] {
        let (origin, sidecar) = cached(lines).await;
        origin.then("/a/", old("old").cache(said).header("etag", "\"1\""));
        origin.on("/a/", |_| reply("down").status(503));
        sidecar.get("/a/").await.is(200, "old", "MISS");
        let got = sidecar.get("/a/").await;
        assert_eq!(
            (got.status.as_u16(), got.cache().as_str()),
            (503, "MISS"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn what_is_stale_is_served_when_the_app_fails_and_only_then() {
    for (status, served) in [
        (500, true),
        (502, true),
        (503, true),
        (504, true),
        (501, false),
        (404, false),
        (403, false),
        (200, false),
    ] {
        for (lines, said) in [
            ("ttl = \"60s\"\nstale_if_error = \"5m\"", "x"),
            ("", "max-age=60, stale-if-error=300"),
        ] {
            let (origin, sidecar) = cached(lines).await;
            origin.then("/a/", old("old").cache(said));
            origin.on("/a/", move |_| reply("app").status(status));
            sidecar.get("/a/").await.is(200, "old", "MISS");
            let got = sidecar.get("/a/").await;
            if served {
                got.is(200, "old", "STALE");
                assert!(got.cache_status().ends_with("detail=error"), "{status}");
            } else {
                got.is(status, "app", "MISS");
            }
        }
    }
}

#[tokio::test]
async fn what_is_stale_is_served_when_the_app_is_gone() {
    let app = Wire::answering([
        "HTTP/1.1 200 OK\r\nage: 80\r\ncontent-length: 3\r\nconnection: close\r\n\r\nold",
    ])
    .await;
    let sidecar = Sidecar::before_url(&app.url)
        .route("/a/", "ttl = \"60s\"\nstale_if_error = \"5m\"")
        .route("/b/", "ttl = \"60s\"")
        .start()
        .await;
    sidecar.get("/a/").await.is(200, "old", "MISS");
    sidecar.get("/a/").await.is(200, "old", "STALE");
    assert_eq!(sidecar.get("/b/").await.status, 502);
}

#[tokio::test]
async fn an_app_that_failed_a_moment_ago_is_spared() {
    let (origin, sidecar) = cached("ttl = \"60s\"\nstale_if_error = \"5m\"").await;
    origin.then("/a/", old("old"));
    origin.on("/a/", |_| reply("down").status(503));
    sidecar.get("/a/").await.is(200, "old", "MISS");
    for _ in 0..5 {
        sidecar.get("/a/").await.is(200, "old", "STALE");
    }
    assert_eq!(origin.hits("/a/"), 2);
}

#[tokio::test]
async fn an_error_reaches_the_client_when_nothing_is_stored() {
    let (origin, sidecar) = cached("ttl = \"60s\"\nstale_if_error = \"5m\"").await;
    origin.then("/a/", reply("down").status(503));
    origin.on("/a/", |_| reply("up"));
    sidecar.get("/a/").await.is(503, "down", "MISS");
    sidecar.get("/a/").await.is(200, "up", "MISS");
    sidecar.get("/a/").await.is(200, "up", "HIT");
}

#[tokio::test]
async fn a_client_may_ask_for_a_stale_answer_instead_of_an_error() {
    let (origin, sidecar) = cached("ttl = \"60s\"\nclient_directives = \"honor\"").await;
    origin.then("/a/", old("old").header("etag", "\"1\""));
    origin.on("/a/", |_| reply("down").status(503));
    sidecar.get("/a/").await.is(200, "old", "MISS");
    for (said, status, cache) in [
        ("stale-if-error=10", 503, "MISS"),
        ("stale-if-error=60", 200, "STALE"),
    ] {
        let got = sidecar.call("GET", "/a/").header("cache-control", said);
        let got = got.send().await;
        assert_eq!((got.status.as_u16(), got.cache().as_str()), (status, cache));
    }
}

/// The entry has 10 of its 60 seconds left.
#[tokio::test]
async fn a_hit_near_the_end_of_a_lifetime_refreshes_ahead() {
    let (origin, sidecar) = cached("ttl = \"60s\"\nrefresh_ahead = 0.5").await;
    origin.then("/a/", reply("old").header("age", "50"));
    origin.on("/a/", |_| reply("new"));
    sidecar.get("/a/").await.is(200, "old", "MISS");
    let gate = origin.hold("/a/");
    sidecar.get("/a/").await.is(200, "old", "HIT");
    gate.arrived(2).await;
    sidecar.get("/a/").await.is(200, "old", "HIT");
    gate.release();
    until(&sidecar, "new").await;
    // The new one is far from its end: nothing more is asked.
    sidecar.get("/a/").await.is(200, "new", "HIT");
    assert_eq!(origin.hits("/a/"), 2);
}

#[tokio::test]
async fn nothing_is_refreshed_ahead_of_the_last_share_or_unless_asked() {
    for lines in ["ttl = \"60s\"\nrefresh_ahead = 0.1", "ttl = \"60s\""] {
        let (origin, sidecar) = cached(lines).await;
        origin.on("/a/", |_| reply("a").header("age", "45"));
        sidecar.get("/a/").await.is(200, "a", "MISS");
        sidecar.get("/a/").await.is(200, "a", "HIT");
        // Draining waits for fills: a refresh that had begun would have been seen.
        assert_eq!(sidecar.stop().await.hits, 1);
        assert_eq!(origin.hits("/a/"), 1, "{lines}");
    }
}
