//! What RFC 9111 and its neighbours say beyond what the public suite (tests/conformance) asks: targeted cache control,
//! digests, guesses, and what a HEAD or a 304 says about what is stored.

use crate::support::client::Call;
use crate::support::origin::{Scripted, Seen};
use crate::support::{Origin, Sidecar, cached, date, reply};

const FOR_US: [&str; 2] = ["reprise-cache-control", "cdn-cache-control"];

/// The query that the app was asked with.
fn query(seen: &Seen) -> String {
    let query = seen.target.split_once('?').map(|(_, query)| query);
    query.unwrap_or_default().to_owned()
}

/// RFC 9213 §2.2: the first readable field of the target list says everything.
#[tokio::test]
async fn what_is_said_to_this_cache_alone_counts_alone() {
    for (own, cdn, everybody, stored) in [
        (None, Some("max-age=60"), "no-store", true),
        (Some("max-age=60"), Some("no-store"), "no-store", true),
        (Some("no-store"), Some("max-age=60"), "max-age=60", false),
        (None, Some("no-store"), "max-age=60", false),
        (None, Some("private"), "max-age=60", false),
        (None, Some("max-age=0"), "max-age=60", false),
        (None, Some("max-age=60, &&&"), "no-store", false),
        (None, Some("max-age=\"60\""), "no-store", false),
        (None, Some(""), "max-age=60", true),
    ] {
        let (origin, sidecar) = cached("").await;
        origin.on("/a/", move |_| {
            let fields = FOR_US.iter().zip([own, cdn]);
            fields.fold(
                reply("a").cache(everybody),
                |answer, (name, value)| match value {
                    Some(value) => answer.header(name, value),
                    None => answer,
                },
            )
        });
        sidecar.get("/a/").await;
        let second = sidecar.get("/a/").await;
        let expected = if stored { "HIT" } else { "MISS" };
        assert_eq!(second.cache(), expected, "{own:?} {cdn:?} {everybody}");
        assert_eq!(second.field("cache-control"), everybody);
    }
}

#[tokio::test]
async fn what_is_said_to_this_cache_alone_is_told_to_nobody() {
    let origin = Origin::start().await;
    for path in ["/a/", "/private/", "/pass/"] {
        origin.on(path, move |_| {
            let said = if path == "/private/" {
                "private"
            } else {
                "max-age=60"
            };
            FOR_US
                .iter()
                .fold(reply("a"), |answer, name| answer.header(name, said))
        });
    }
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "")
        .route("/private/", "")
        .start()
        .await;
    for (method, path, cache) in [
        ("GET", "/a/", "MISS"),
        ("GET", "/a/", "HIT"),
        ("GET", "/private/", "MISS"),
        ("GET", "/pass/", "BYPASS"),
        ("POST", "/a/", "BYPASS"),
    ] {
        let answer = sidecar.call(method, path).send().await;
        assert_eq!(answer.cache(), cache, "{method} {path}");
        for name in FOR_US {
            assert_eq!(answer.field(name), "", "{method} {path}");
        }
    }
}

/// RFC 9110 §14.4: it makes a part of a 206 alone. APIs say with it which page of a list this is.
#[tokio::test]
async fn a_whole_answer_may_have_a_content_range() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    origin.on("/a/", |_| {
        reply("[1]").header("content-range", "items 0-0/9")
    });
    sidecar.get("/a/").await;
    let second = sidecar.get("/a/").await;
    second.is(200, "[1]", "HIT");
    assert_eq!(second.field("content-range"), "items 0-0/9");
}

#[tokio::test]
async fn a_coding_that_nobody_knows_is_kept_unless_the_app_chooses() {
    for (vary, cache) in [("", "HIT"), ("accept", "HIT"), ("accept-encoding", "MISS")] {
        let (origin, sidecar) = cached("ttl = \"1m\"").await;
        origin.on("/a/", move |_| {
            let answer = reply("opaque").header("content-encoding", "x-rot13");
            if vary.is_empty() {
                answer
            } else {
                answer.header("vary", vary)
            }
        });
        sidecar.get("/a/").await;
        let second = sidecar.get("/a/").await;
        second.is(200, "opaque", cache);
        assert_eq!(second.field("content-encoding"), "x-rot13", "{vary}");
    }
}

#[tokio::test]
async fn a_warning_is_not_kept() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    origin.on("/a/", |_| reply("a").header("warning", "110 - \"old\""));
    sidecar.get("/a/").await;
    let second = sidecar.get("/a/").await;
    second.is(200, "a", "HIT");
    assert_eq!(second.field("warning"), "");
}

/// RFC 9111 §4.2.2, where the operator allows it.
#[tokio::test]
async fn a_lifetime_is_guessed_where_the_status_or_the_app_allows_it() {
    for (status, said, cache) in [
        (200, "", "HIT"),
        (404, "", "HIT"),
        (201, "", "MISS"),
        (503, "", "MISS"),
        (299, "", "MISS"),
        (299, "public", "HIT"),
    ] {
        let (origin, sidecar) = cached("heuristic = 0.1").await;
        origin.on("/a/", move |_| {
            let answer = reply("a")
                .status(status)
                .header("last-modified", &date(-86_400));
            if said.is_empty() {
                answer
            } else {
                answer.cache(said)
            }
        });
        sidecar.get("/a/").await;
        let second = sidecar.get("/a/").await;
        assert_eq!(second.cache(), cache, "{status} {said}");
    }
}

/// A copy of the same second may be from before a write that the stored answer is from after.
#[tokio::test]
async fn the_date_of_an_answer_proves_nothing_about_its_own_second() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    let made = date(-10);
    let told = made.clone();
    origin.on("/a/", move |_| reply("a").header("date", &told));
    sidecar.get("/a/").await;
    for (since, status) in [(date(-20), 200), (made, 200), (date(-5), 304)] {
        let call = sidecar.call("GET", "/a/");
        let answer = call.header("if-modified-since", &since).send().await;
        assert_eq!(answer.cache(), "HIT");
        assert_eq!(answer.status, status, "{since}");
    }
}

/// RFC 9111 §4.3.5.
#[tokio::test]
async fn a_head_that_tells_of_another_body_ends_the_stored_one() {
    for (field, stored, told, asked) in [
        ("etag", "\"1\"", "\"2\"", ""),
        ("etag", "\"1\"", "\"1\"", "\"1\""),
    ] {
        let (origin, sidecar) = cached("").await;
        let answer = move |value: &str| reply("a").cache("max-age=0").header(field, value);
        origin.then("/a/", answer(stored));
        origin.then("/a/", answer(told));
        origin.then("/a/", answer(told));
        sidecar.get("/a/").await;
        sidecar.call("HEAD", "/a/").send().await;
        sidecar.get("/a/").await;
        assert_eq!(origin.last("/a/").field("if-none-match"), asked, "{told}");
    }
}

/// RFC 9530: a digest is about the bytes that the app sent.
#[tokio::test]
async fn digests_are_told_only_of_the_bytes_they_are_about() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    let body = "all work and no play ".repeat(200);
    origin.on("/a/", move |_| {
        reply(body.clone())
            .header("content-type", "text/plain")
            .header("content-digest", "sha-256=:AA==:")
            .header("repr-digest", "sha-256=:AA==:")
    });
    let digests = |answer: &crate::support::Reply| {
        let told = |name| !answer.field(name).is_empty();
        (told("content-digest"), told("repr-digest"))
    };
    sidecar.get("/a/").await;
    assert_eq!(digests(&sidecar.get("/a/").await), (true, true));
    for (name, value, status) in [
        ("accept-encoding", "gzip", 200),
        ("range", "bytes=0-9", 206),
    ] {
        let call = sidecar.call("GET", "/a/").header(name, value);
        let answer = call.send().await;
        assert_eq!(answer.status, status);
        assert_eq!(digests(&answer), (false, false), "{name}");
    }
}

/// RFC 9111 §3.2.
#[tokio::test]
async fn a_304_changes_what_is_told_of_the_stored_body() {
    let (origin, sidecar) = cached("").await;
    let told = |answer: Scripted, kind: &str, digest: &str| {
        answer
            .cache("max-age=0")
            .header("etag", "\"1\"")
            .header("content-type", kind)
            .header("content-digest", digest)
    };
    origin.then("/a/", told(reply("a"), "text/plain", "sha-256=:AA==:"));
    let confirmed = reply("").status(304);
    origin.then("/a/", told(confirmed, "text/css", "sha-256=:BB==:"));
    sidecar.get("/a/").await;
    let second = sidecar.get("/a/").await;
    second.is(200, "a", "REVALIDATED");
    assert_eq!(second.field("content-type"), "text/css");
    assert_eq!(second.field("content-digest"), "sha-256=:AA==:");
}

/// No-Vary-Search: the app says which parameters are no part of the question.
#[tokio::test]
async fn queries_that_the_app_calls_the_same_meet_one_entry() {
    for (rule, asked, same, other) in [
        ("params=(\"ref\")", "a=1&ref=x", "ref=y&a=1", "a=2&ref=x"),
        ("params, except=(\"a\")", "a=1&x=2", "y=3&a=1", "a=2"),
        ("params", "a=1", "b=2", ""),
        ("params=(\"a%5B%5D\")", "a[]=1&b=2", "a%5b%5d=3&b=2", "b=3"),
    ] {
        let (origin, sidecar) = cached("ttl = \"1m\"").await;
        origin.on("/a/", move |seen| {
            reply(query(seen)).header("no-vary-search", rule)
        });
        // The rule is learnt from the first answer, and the second is the first under it.
        sidecar.get("/a/?learn=1&a=0").await;
        sidecar
            .get(&format!("/a/?{asked}"))
            .await
            .is(200, asked, "MISS");
        sidecar
            .get(&format!("/a/?{asked}"))
            .await
            .is(200, asked, "HIT");
        sidecar
            .get(&format!("/a/?{same}"))
            .await
            .is(200, asked, "HIT");
        if !other.is_empty() {
            let answer = sidecar.get(&format!("/a/?{other}")).await;
            answer.is(200, other, "MISS");
        }
    }
}

/// Two questions were put together by a rule that the answer does not repeat: each is asked for itself.
#[tokio::test]
async fn an_answer_that_takes_the_rule_back_is_shared_with_nobody() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    let rule = "params=(\"ref\")";
    origin.on("/a/", |seen| reply(query(seen)));
    origin.then("/a/", reply("first").header("no-vary-search", rule));
    sidecar.get("/a/").await.is(200, "first", "MISS");

    let held = origin.hold("/a/");
    let one = tokio::spawn(sidecar.call("GET", "/a/?ref=1").send());
    held.arrived(1).await;
    let other = tokio::spawn(sidecar.call("GET", "/a/?ref=2").send());
    sidecar.has_in_flight(2).await;
    held.release();
    one.await.expect("the first").is(200, "ref=1", "MISS");
    other.await.expect("the second").is(200, "ref=2", "MISS");
    // And nothing of it is stored under the rule: what follows is asked for as it is.
    sidecar.get("/a/?ref=3").await.is(200, "ref=3", "MISS");
    sidecar.get("/a/?ref=3").await.is(200, "ref=3", "HIT");
    sidecar.get("/a/?ref=4").await.is(200, "ref=4", "MISS");
}

#[tokio::test]
async fn a_purge_of_one_url_reaches_what_was_stored_for_another_under_a_rule() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    origin.on("/a/", |seen| {
        reply(query(seen)).header("no-vary-search", "params=(\"ref\")")
    });
    sidecar.get("/a/").await;
    sidecar.get("/a/?ref=1").await.is(200, "ref=1", "MISS");
    sidecar.get("/a/?ref=2").await.is(200, "ref=1", "HIT");
    let purge = Call::new(&sidecar.admin, "POST", "/api/v1/purge");
    let purged = purge.json("{\"keys\": [\"/a/?ref=2\"]}").send().await;
    assert_eq!(purged.status, 200);
    sidecar.get("/a/?ref=2").await.is(200, "ref=2", "MISS");
}

/// RFC 9110 §7.6.2.
#[tokio::test]
async fn a_request_about_the_hops_goes_as_far_as_it_says() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a"));
    let sidecar = Sidecar::before(&origin).route("/a/", "").start().await;
    for (method, hops, status, sent) in [
        ("OPTIONS", "0", 200, None),
        ("TRACE", "0", 405, None),
        ("OPTIONS", "1", 200, Some("0")),
        ("TRACE", "7", 200, Some("6")),
        ("OPTIONS", "many", 200, Some("many")),
        ("POST", "0", 200, Some("0")),
    ] {
        let before = origin.hits("/a/");
        let call = sidecar.call(method, "/a/").header("max-forwards", hops);
        let answer = call.send().await;
        assert_eq!(answer.status, status, "{method} {hops}");
        assert_eq!(
            origin.hits("/a/") > before,
            sent.is_some(),
            "{method} {hops}"
        );
        if let Some(sent) = sent {
            assert_eq!(origin.last("/a/").field("max-forwards"), sent);
        }
    }
}

/// A restriction that is badly written is a restriction.
#[tokio::test]
async fn what_a_malformed_cache_control_may_forbid_is_forbidden() {
    for said in [
        "private; max-age=60",
        "max-age=300, private;",
        "no-store no-cache",
        "\"private\"",
        "public; no-store",
        "max-age=60, x=\"no-store",
    ] {
        let (origin, sidecar) = cached("ttl = \"5m\"\nscope = \"shared\"").await;
        origin.on("/a/", move |seen| {
            reply(seen.field("authorization").to_owned()).cache(said)
        });
        sidecar.get_as("/a/", "alice").await;
        let bob = sidecar.get_as("/a/", "bob").await;
        assert!(bob.body.contains("bob"), "{said}: {}", bob.body);
    }
}

/// Python's own parser of cookies, and others, see a session where a strict one sees the value of another cookie.
#[tokio::test]
async fn a_session_cookie_in_disguise_is_nobodys() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| reply(seen.field("cookie").to_owned()));
    let sidecar = Sidecar::before(&origin)
        .with("[identity]\nfrom = [\"cookie:sessionid\"]")
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    for cookie in [
        "x=1, sessionid=mallory",
        "x=1 sessionid=mallory",
        "x=1\tsessionid=mallory",
        "x=\"a\" sessionid=mallory",
        "sessionid=alice; x=1,sessionid=mallory",
    ] {
        let call = sidecar.call("GET", "/a/").header("cookie", cookie);
        call.send().await.is(200, cookie, "BYPASS");
    }
    sidecar.get("/a/").await.is(200, "", "MISS");
    sidecar.get("/a/").await.is(200, "", "HIT");
}

/// A pattern is about URLs as clients write them; keys hold queries in order, and without what says nothing.
#[tokio::test]
async fn a_pattern_reaches_what_was_asked_for_in_any_spelling() {
    for (rule, asked, pattern) in [
        ("", "b=2&a=1", "/a/?b=2&a=1"),
        ("", "b=2&a=1", "/a/?b=2*"),
        ("", "a=1&utm_source=x", "/a/?*utm_source=x*"),
        ("params=(\"x\")", "x=1", "/a/?x=3"),
        ("params=(\"x\")", "x=1", "/a/?x=*"),
    ] {
        let (origin, sidecar) = cached("ttl = \"1m\"").await;
        origin.on("/a/", move |_| {
            let answer = reply("a");
            if rule.is_empty() {
                answer
            } else {
                answer.header("no-vary-search", rule)
            }
        });
        let path = format!("/a/?{asked}");
        sidecar.get(&path).await;
        sidecar.get(&path).await;
        assert_eq!(sidecar.get(&path).await.cache(), "HIT", "{pattern}");
        let purge = Call::new(&sidecar.admin, "POST", "/api/v1/purge");
        let body = serde_json::json!({ "pattern": pattern }).to_string();
        assert_eq!(purge.json(&body).send().await.status, 200);
        assert_eq!(sidecar.get(&path).await.cache(), "MISS", "{pattern}");
    }
}
