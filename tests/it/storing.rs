//! RFC 9111 §3: what is stored, what is not, and the reason that is told.

use crate::support::client::raw;
use crate::support::origin::{Scripted, streamed};
use crate::support::{Origin, Sidecar, Wire, cached, reply};

/// How the app answers, each time anew.
type Answer = fn() -> Scripted;

const MINUTE: &str = "ttl = \"1m\"";

/// Asks twice for one answer of the app, and asserts that it was not stored, for this reason.
async fn is_not_stored(lines: &str, reason: &str, name: &str, answer: Answer) {
    let (origin, sidecar) = cached(lines).await;
    origin.on("/a/", move |_| answer());
    for count in 1..=2 {
        let reply = sidecar.get("/a/").await;
        assert_eq!(reply.cache(), "MISS", "{name}");
        let told = format!("fwd=uri-miss; detail={reason}");
        assert_eq!(reply.cache_status(), told, "{name}");
        assert_eq!(origin.hits("/a/"), count, "{name}");
    }
}

/// Asks twice for one answer of the app, and asserts that the second was the stored first.
async fn is_stored(lines: &str, name: &str, answer: Answer) {
    let (origin, sidecar) = cached(lines).await;
    origin.on("/a/", move |_| answer());
    let first = sidecar.get("/a/").await;
    assert_eq!(first.cache_status(), "fwd=uri-miss; stored", "{name}");
    let second = sidecar.get("/a/").await;
    second.is(first.status.as_u16(), &first.body, "HIT");
    assert_eq!(origin.hits("/a/"), 1, "{name}");
}

#[tokio::test]
async fn what_the_app_forbids_to_store_is_not_stored() {
    let answers: [(&str, &str, Answer); 8] = [
        ("no_store", "no-store", || reply("a").cache("no-store")),
        ("no_store", "in capitals", || {
            reply("a").cache("max-age=60, NO-STORE")
        }),
        ("private", "private", || {
            reply("a").cache("private, max-age=60")
        }),
        ("private", "private fields", || {
            reply("a").cache("private=\"x-user\", max-age=60")
        }),
        ("zero_ttl", "max-age=0", || reply("a").cache("max-age=0")),
        ("set_cookie", "a cookie", || {
            reply("a").header("set-cookie", "csrftoken=1")
        }),
        ("set_cookie", "a cookie, public", || {
            reply("a").header("set-cookie", "a=1").cache("public")
        }),
        ("vary", "vary star", || {
            reply("a").header("vary", "Accept, *")
        }),
    ];
    for (reason, name, answer) in answers {
        is_not_stored(MINUTE, reason, name, answer).await;
    }
}

#[tokio::test]
async fn a_ttl_is_for_the_listed_statuses_only() {
    let answers: [(&str, Answer); 4] = [
        ("404", || reply("a").status(404)),
        ("301", || reply("a").status(301).header("location", "/b/")),
        ("500", || reply("a").status(500)),
        ("403", || reply("a").status(403)),
    ];
    for (name, answer) in answers {
        is_not_stored(MINUTE, "status", name, answer).await;
    }
    is_stored("ttl = \"1m\"\nstatuses = [200, 301]", "301 listed", || {
        reply("").status(301).header("location", "/b/")
    })
    .await;
    is_stored("", "404, the app's word", || {
        reply("a").status(404).cache("max-age=60")
    })
    .await;
    is_not_stored("", "status", "404, no word", || reply("a").status(404)).await;
}

#[tokio::test]
async fn missing_things_are_kept_for_the_negative_ttl() {
    let lines = "ttl = \"1m\"\nnegative_ttl = \"5s\"";
    for (status, ttl) in [(404, "5"), (410, "5"), (200, "60")] {
        let (origin, sidecar) = cached(lines).await;
        origin.on("/a/", move |_| reply("a").status(status));
        sidecar.get("/a/").await.is(status, "a", "MISS");
        let second = sidecar.get("/a/").await;
        second.is(status, "a", "HIT");
        let left = second.cache_status();
        let close: Vec<String> = [0, 1]
            .map(|gone| ttl.parse::<i32>().expect("a number") - gone)
            .map(|left| format!("hit; ttl={left}; detail=l1"))
            .to_vec();
        assert!(close.contains(&left), "{status}: {left}");
    }
}

#[tokio::test]
async fn a_part_of_an_answer_is_not_stored_as_the_answer() {
    is_not_stored(MINUTE, "partial", "206", || {
        reply("a")
            .status(206)
            .header("content-range", "bytes 0-0/9")
            .cache("max-age=60")
    })
    .await;
    is_not_stored(MINUTE, "partial", "200 with Content-Range", || {
        reply("a").header("content-range", "bytes 0-0/9")
    })
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_its_reader_broken_and_is_not_stored() {
    for length in [None, Some("10")] {
        let (origin, sidecar) = cached(MINUTE).await;
        let (mut answer, chunks) = streamed();
        if let Some(length) = length {
            answer = answer.header("content-length", length);
        }
        origin.then("/a/", answer).on("/a/", |_| reply("whole"));

        let mut open = sidecar.call("GET", "/a/").open().await;
        chunks.send("half");
        let first = open.chunk().await.expect("a chunk").expect("half");
        assert_eq!(first, "half");
        chunks.break_off();
        let rest = open.read().await;
        assert!(rest.broken, "{length:?}: {rest:?}");
        assert_eq!(rest.cache_status(), "fwd=uri-miss");

        sidecar.get("/a/").await.is(200, "whole", "MISS");
        sidecar.get("/a/").await.is(200, "whole", "HIT");
    }
}

#[tokio::test]
async fn a_body_shorter_than_its_declared_length_is_broken_for_its_reader_too() {
    let app = Wire::answering([
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nwhole",
    ])
    .await;
    let sidecar = Sidecar::before_url(&app.url)
        .route("/a/", MINUTE)
        .start()
        .await;

    let request = "GET /a/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let got = raw(&sidecar.address, request).await;
    assert!(
        got.is_empty() || got.contains("content-length: 10"),
        "{got}"
    );
    let series = "reprise_cache_not_stored_total{reason=\"error\",route=\"route-0\"}";
    assert_eq!(sidecar.metric(series).await, 1.0);
    sidecar.get("/a/").await.is(200, "whole", "MISS");
    sidecar.get("/a/").await.is(200, "whole", "HIT");
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_passed_on_and_not_stored() {
    const ENDLESS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nperhaps whole";
    let app = Wire::answering([ENDLESS, ENDLESS]).await;
    let sidecar = Sidecar::before_url(&app.url)
        .route("/a/", MINUTE)
        .start()
        .await;

    for count in 1..=2 {
        let reply = sidecar.get("/a/").await;
        reply.is(200, "perhaps whole", "MISS");
        assert_eq!(reply.cache_status(), "fwd=uri-miss; detail=undelimited");
        assert_eq!(app.heads().len(), count);
    }
}

#[tokio::test]
async fn callers_with_credentials_never_share_unless_the_route_says_so() {
    for (lines, second, hits) in [
        ("ttl = \"1m\"", "MISS", 2),
        ("ttl = \"1m\"\nscope = \"user\"", "MISS", 2),
        ("ttl = \"1m\"\nscope = \"shared\"", "HIT", 1),
    ] {
        let (origin, sidecar) = cached(lines).await;
        origin.on("/a/", |seen| reply(seen.field("authorization").to_owned()));
        let get = async |token: &str| sidecar.call("GET", "/a/").token(token).send().await;
        get("a").await.is(200, "Token a", "MISS");
        get("a").await.is(200, "Token a", "HIT");
        assert_eq!(get("b").await.cache(), second, "{lines}");
        assert_eq!(origin.hits("/a/"), hits, "{lines}");
    }
}

/// RFC 9111 §3.5, the strict way: credentials that `[identity] from` does not name are nobody's known user.
#[tokio::test]
async fn credentials_that_no_rule_knows_are_passed_by() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a").cache("max-age=60"));
    let sidecar = Sidecar::before(&origin)
        .with("[identity]\nfrom = [\"cookie:sessionid\"]")
        .route("/a/", MINUTE)
        .start()
        .await;

    let reply = sidecar.call("GET", "/a/").token("a").send().await;
    reply.is(200, "a", "BYPASS");
    assert_eq!(
        reply.cache_status(),
        "fwd=bypass; detail=unknown-credentials"
    );
    sidecar.get("/a/").await.is(200, "a", "MISS");
    sidecar.get("/a/").await.is(200, "a", "HIT");
    assert_eq!(origin.hits("/a/"), 2);
}

#[tokio::test]
async fn a_private_answer_is_kept_for_its_user_on_a_user_route_only() {
    for (scope, second) in [("user", "HIT"), ("auto", "MISS"), ("shared", "MISS")] {
        let (origin, sidecar) = cached(&format!("ttl = \"1m\"\nscope = \"{scope}\"")).await;
        origin.on("/a/", |_| reply("mine").cache("private, max-age=60"));
        let get = async || sidecar.call("GET", "/a/").token("a").send().await;
        get().await.is(200, "mine", "MISS");
        get().await.is(200, "mine", second);
    }
}

#[tokio::test]
async fn the_apps_word_is_not_heard_where_the_route_says_so() {
    let lines = "ttl = \"1m\"\nhonor_cache_control = false";
    let answers: [(&str, Answer); 4] = [
        ("no-store", || reply("a").cache("no-store")),
        ("private", || reply("a").cache("private")),
        ("max-age=0", || reply("a").cache("max-age=0")),
        ("expires", || reply("a").header("expires", "0")),
    ];
    for (name, answer) in answers {
        is_stored(lines, name, answer).await;
    }
    is_not_stored(lines, "set_cookie", "a cookie all the same", || {
        reply("a").header("set-cookie", "a=1")
    })
    .await;
    is_not_stored(lines, "vary", "vary star all the same", || {
        reply("a").header("vary", "*")
    })
    .await;
}

#[tokio::test]
async fn the_apps_query_count_is_on_answers_it_made_and_absent_on_hits() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("a").header("x-query-count", "7"));
    origin.on("/b/", |_| {
        reply("b").header("x-query-count", "8").cache("no-store")
    });

    for (path, cache, count) in [
        ("/a/", "MISS", "7"),
        ("/a/", "HIT", ""),
        ("/b/", "MISS", "8"),
        ("/b/", "MISS", "8"),
    ] {
        let reply = sidecar.get(path).await;
        assert_eq!(reply.cache(), cache, "{path}");
        assert_eq!(reply.field("x-query-count"), count, "{path} {cache}");
    }
}

#[tokio::test]
async fn the_app_is_told_which_proxy_asks() {
    let (origin, sidecar) = cached(MINUTE).await;
    origin.on("/a/", |_| reply("a"));
    let asked = sidecar.call("GET", "/a/").header("via", "1.0 edge");
    asked.send().await.is(200, "a", "MISS");
    assert_eq!(origin.last("/a/").field("via"), "1.0 edge, 1.1 reprise");
}
