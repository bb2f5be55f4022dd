//! What a write drops, as its rule, its bodies and its answer say; and what it leaves alone.

use crate::support::client::raw;
use crate::support::origin::{Scripted, streamed};
use crate::support::sidecar::Plan;
use crate::support::{Origin, Sidecar, eventually, reply, soon};

const ROUTE: &str = "ttl = \"1m\"";

const ASKED_WITHOUT_ROUTE: &str = "reprise_upstream_requests_total{code=\"2xx\",route=\"other\"}";

/// A route with tags.
fn tagged(tags: &[&str]) -> String {
    format!("ttl = \"1m\"\ntags = {tags:?}")
}

/// The shop: lists, details and availability, all stored.
fn shop(origin: &Origin) -> Plan {
    for path in PATHS {
        origin.on(path, move |_| reply(*path));
    }
    Sidecar::before(origin)
        .route("/events/", &tagged(&["events"]))
        .route("/events/{event}/", &tagged(&["event:{event}"]))
        .route("/events/{event}/seats/", &tagged(&["seats:{event}"]))
        .route(
            "/mine/",
            "ttl = \"1m\"\nscope = \"user\"\ntags = [\"mine:{user}\"]",
        )
}

const PATHS: &[&str] = &[
    "/events/",
    "/events/5/",
    "/events/6/",
    "/events/5/seats/",
    "/events/6/seats/",
    "/mine/",
];

/// Reads every path twice, so that all are stored.
async fn warm(sidecar: &Sidecar, paths: &[&str]) {
    for path in paths {
        sidecar.get_as(path, "anna").await;
        sidecar.get_as(path, "anna").await.is(200, path, "HIT");
    }
}

/// Which of the paths are stored no longer.
async fn dropped<'p>(sidecar: &Sidecar, paths: &[&'p str]) -> Vec<&'p str> {
    let mut dropped = Vec::new();
    for path in paths {
        let got = sidecar.get_as(path, "anna").await;
        match got.cache().as_str() {
            "MISS" => {
                assert!(
                    got.cache_status().contains("uri-miss"),
                    "{}",
                    got.cache_status()
                );
                dropped.push(*path);
            }
            other => assert_eq!(other, "HIT", "{path}"),
        }
    }
    dropped
}

/// What a write drops whose rule has this `drop`, asked of `path` with this body and answered so.
async fn drops(drop: &[&str], (path, body): (&str, &str), answer: &str) -> Vec<&'static str> {
    let origin = Origin::start().await;
    let answer = answer.to_owned();
    origin.on(path, move |_| reply(answer.clone()).json().status(201));
    let plan = shop(&origin).with(
        "[relations]\n\"event:{id}\" = [\"events\", \"seats:{id}\"]\n\"mine:x\" = [\"events\"]",
    );
    let on = if path == "/book/" {
        path
    } else {
        "/book/{id}/"
    };
    let sidecar = plan.write(&format!("POST {on}"), drop).start().await;
    warm(&sidecar, PATHS).await;
    let call = sidecar.call("POST", path).token("anna").json(body);
    assert_eq!(call.send().await.cache(), "BYPASS");
    dropped(&sidecar, PATHS).await
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn captures_say_what_is_dropped_and_a_missing_one_widens_to_the_class() {
    let seats = vec!["/events/5/seats/", "/events/6/seats/"];
    let five = vec!["/events/5/seats/"];
    for (drop, path, body, answer, expected) in [
        ("seats:{id}", "/book/5/", "{}", "{}", &five),
        ("seats:{id}", "/book/005/", "{}", "{}", &five),
        ("seats:{id}", "/book/+5/", "{}", "{}", &seats),
        (
            "seats:{body.event}",
            "/book/",
            r#"{"event": 5}"#,
            "{}",
            &five,
        ),
        (
            "seats:{body.event}",
            "/book/",
            r#"{"event": "05"}"#,
            "{}",
            &five,
        ),
        (
            "seats:{body.event}",
            "/book/",
            r#"{"event": null}"#,
            "{}",
            &seats,
        ),
        ("seats:{body.event}", "/book/", "no json", "{}", &seats),
        ("seats:{body.event}", "/book/", "", "{}", &seats),
        (
            "seats:{body.a.0.id}",
            "/book/",
            r#"{"a": [{"id": 5}]}"#,
            "{}",
            &five,
        ),
        (
            "seats:{body.a.*.id}",
            "/book/",
            r#"{"a": [{"id": 5}, {"id": 6}]}"#,
            "{}",
            &seats,
        ),
        (
            "seats:{body.a.*.id}",
            "/book/",
            r#"{"a": [{"id": 5}, {}]}"#,
            "{}",
            &seats,
        ),
        (
            "seats:{response.event}",
            "/book/",
            "{}",
            r#"{"event": 5}"#,
            &five,
        ),
        ("seats:{response.event}", "/book/", "{}", "oops", &seats),
        ("/events/{id}/seats/", "/book/5/", "{}", "{}", &five),
        (
            "/events/{body.event}/seats/",
            "/book/",
            r#"{"event": 5}"#,
            "{}",
            &five,
        ),
        (
            "/events/{response.event}/seats/",
            "/book/",
            "{}",
            r#"{"event": 5}"#,
            &five,
        ),
        (
            "/events/{response.event}/seats/",
            "/book/",
            "{}",
            "{}",
            &seats,
        ),
        ("/events/*/seats/", "/book/", "{}", "{}", &seats),
        ("/*/{id}/seats/", "/book/5/", "{}", "{}", &five),
        ("/*/{body.event}/seats/", "/book/", "{}", "{}", &seats),
        ("mine:{user}", "/book/", "{}", "{}", &vec!["/mine/"]),
    ] {
        let got = drops(&[drop], (path, body), answer).await;
        assert_eq!(&got, expected, "{drop} by {path} with {body} and {answer}");
    }
}

#[tokio::test]
async fn path_patterns_and_relations_reach_what_they_name() {
    for (drop, expected) in [
        (&["/events/**"][..], &PATHS[..5]),
        (&["/events/"], &["/events/"]),
        (&["/events/{id}/**"], &["/events/5/", "/events/5/seats/"]),
        (
            &["event:{id}"],
            &["/events/", "/events/5/", "/events/5/seats/"],
        ),
        (&["event:{body.none}"], &PATHS[..5]),
        (&["events", "mine:{user}"], &["/events/", "/mine/"]),
        (&["/**"], PATHS),
        (&["nothing"], &[]),
        (&["mine:{body.none}"], &["/events/", "/mine/"]),
    ] {
        let got = drops(drop, ("/book/5/", "{}"), "{}").await;
        assert_eq!(got, expected, "{drop:?}");
    }
}

#[tokio::test]
async fn what_a_user_writes_leaves_other_users_what_is_theirs() {
    let origin = Origin::start().await;
    origin.on("/book/", |_| reply("{}").json());
    let sidecar = shop(&origin)
        .write("POST /book/", &["mine:{user}"])
        .start()
        .await;
    warm(&sidecar, &["/mine/"]).await;
    let book = |user: &str| sidecar.call("POST", "/book/").token(user).json("{}").send();

    book("bert").await.is(200, "{}", "BYPASS");
    assert!(dropped(&sidecar, &["/mine/"]).await.is_empty());
    // Nobody in particular: everybody's are dropped.
    sidecar.post("/book/", "{}").await.is(200, "{}", "BYPASS");
    assert_eq!(dropped(&sidecar, &["/mine/"]).await, ["/mine/"]);
}

#[tokio::test]
async fn a_write_that_no_rule_lists_drops_its_family_or_its_target() {
    let below = ["/events/5/", "/events/5/seats/"];
    for (unlisted, written, expected) in [
        (
            "family",
            "/events/5/",
            &["/events/", below[0], below[1]][..],
        ),
        ("target", "/events/5/", &below[..1]),
        ("family", "/events/05/", &["/events/", below[0], below[1]]),
        ("target", "/events/05/", &below[..1]),
        ("target", "/events/5", &below[..1]),
        ("target", "/events/5.json", &below[..1]),
        ("target", "/events/%35/", &below[..1]),
        ("family", "/events/5/publish/", &below[..1]),
        ("family", "/events/5;x/", PATHS),
        ("target", "/events//5/", PATHS),
        ("target", "/events/../x", PATHS),
    ] {
        let origin = Origin::start().await;
        let plan = shop(&origin).with(&format!("[cache]\nunlisted_writes = \"{unlisted}\""));
        let sidecar = plan.start().await;
        warm(&sidecar, PATHS).await;
        let answer = |_: &_| reply("done").status(204);
        origin.on(written, answer);
        let line = format!(
            "PUT {written} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let got = raw(&sidecar.address, line).await;
        assert!(got.contains("204"), "{got}");
        for path in PATHS {
            origin.on(path, move |_| reply(*path));
        }
        assert_eq!(
            dropped(&sidecar, PATHS).await,
            expected,
            "{unlisted} {written}"
        );
    }
}

#[tokio::test]
async fn an_alias_of_a_path_is_dropped_with_it() {
    let origin = Origin::start().await;
    let aliases = ["/events/5/", "/events/05/", "/events/5.json", "/events/5"];
    for path in aliases {
        origin.on(path, move |_| reply(path));
    }
    origin.on("/book/5/", |_| reply("{}"));
    for drop in ["event:{id}", "/events/{id}/", "/*/{id}/"] {
        let plan = Sidecar::before(&origin).route("/events/{event}/", &tagged(&["event:{event}"]));
        let sidecar = plan.write("POST /book/{id}/", &[drop]).start().await;
        warm(&sidecar, &aliases).await;
        sidecar.post("/book/5/", "{}").await.is(200, "{}", "BYPASS");
        assert_eq!(dropped(&sidecar, &aliases).await, aliases, "{drop}");
    }
}

/// The rule was found by the path and method as they came; the app reads both more leniently.
#[tokio::test]
async fn an_alias_of_a_write_drops_what_the_write_drops() {
    let origin = Origin::start().await;
    let plan = shop(&origin).write("POST /book/now/", &["events"]);
    let sidecar = plan.start().await;
    for (method, path) in [
        ("POST", "/book/now/"),
        ("POST", "/book/now"),
        ("POST", "/book/now.json"),
        ("POST", "/book/n%6Fw/"),
        ("POST", "/Book/now/"),
        ("post", "/book/now/"),
    ] {
        origin.on(path, |_| reply("done"));
        origin.on("/book/now/", |_| reply("done"));
        origin.on("/book/n%6Fw/", |_| reply("done"));
        warm(&sidecar, &["/events/"]).await;
        sidecar
            .call(method, path)
            .send()
            .await
            .is(200, "done", "BYPASS");
        let got = dropped(&sidecar, &["/events/"]).await;
        assert_eq!(got, ["/events/"], "{method} {path}");
    }
}

/// What a write drops whose rule says `drop`, of an entry on which the app put this field.
async fn drops_named(
    drop: &str,
    (name, value): (&'static str, &'static str),
    answer: Scripted,
) -> bool {
    let origin = Origin::start().await;
    origin.on("/a/", move |_| reply("/a/").header(name, value));
    origin.then("/w/", answer);
    let plan = Sidecar::before(&origin)
        .route("/a/", ROUTE)
        .write("POST /w/", &[drop]);
    let sidecar = plan.start().await;
    warm(&sidecar, &["/a/"]).await;
    assert_eq!(sidecar.post("/w/", "{}").await.cache(), "BYPASS");
    !dropped(&sidecar, &["/a/"]).await.is_empty()
}

#[tokio::test]
async fn names_that_the_app_puts_on_an_answer_are_dropped_by_rules() {
    let seven = || {
        reply(r#"{"id": 7, "u": "6F9619FF-8B86-D011-B42D-00CF4FC964FF", "m": "a@b.example"}"#)
            .json()
    };
    let uuid = "event:6f9619ff-8b86-d011-b42d-00cf4fc964ff";
    for (name, value, drop, expected) in [
        ("cache-tag", "x, event:7", "event:{response.id}", true),
        ("surrogate-key", "x event:7", "event:{response.id}", true),
        ("xkey", "event:7", "event:{response.id}", true),
        (
            "cache-groups",
            "\"x\", \"event:7\"",
            "event:{response.id}",
            true,
        ),
        ("cache-tag", "event:8", "event:{response.id}", false),
        ("cache-tag", "event:8", "event:{response.none}", true),
        ("cache-tag", "event-8", "event-{response.none}", true),
        ("cache-tag", "8", "{response.none}", true),
        ("cache-tag", uuid, "event:{response.u}", true),
        ("cache-tag", "zip:01234", "zip:{body.none}", true),
        ("cache-tag", "user:a@b.example", "user:{response.m}", true),
        ("cache-tag", "user:A@b.example", "user:{response.m}", true),
        ("cache-tag", "event:7", "event:7", true),
        ("cache-tag", "v1.events", "v1.movies", false),
    ] {
        let got = drops_named(drop, (name, value), seven()).await;
        assert_eq!(got, expected, "{drop} on {name}: {value}");
    }
}

#[tokio::test]
async fn names_and_locations_on_a_writes_answer_are_dropped() {
    for (name, value, expected) in [
        ("cache-group-invalidation", "\"events\"", &["/events/"][..]),
        (
            "cache-group-invalidation",
            "\"event:5\", \"seats:6\"",
            &["/events/5/", "/events/6/seats/"],
        ),
        ("cache-group-invalidation", "events", &[]),
        ("location", "/events/5/", &["/events/5/"]),
        (
            "location",
            "http://shop.example/events/5/?a=1",
            &["/events/5/"],
        ),
        ("content-location", "/events/6/", &["/events/6/"]),
        ("location", "http://other.example/events/5/", &[]),
    ] {
        let origin = Origin::start().await;
        let sidecar = shop(&origin).start().await;
        warm(&sidecar, PATHS).await;
        origin.then("/other/", reply("made").status(201).header(name, value));
        let made = sidecar.post("/other/", "{}").await;
        made.is(201, "made", "BYPASS");
        // Caches before this one may want to know it too.
        let told = made.field("cache-group-invalidation");
        assert_eq!(told.is_empty(), name != "cache-group-invalidation");
        assert_eq!(dropped(&sidecar, PATHS).await, expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_literal_tag_is_one_of_its_class() {
    let origin = Origin::start().await;
    origin.on("/final/", |_| reply("/final/"));
    origin.on("/w/", |_| reply("not json"));
    let plan = Sidecar::before(&origin).route("/final/", &tagged(&["show:7"]));
    let sidecar = plan
        .write("POST /w/", &["show:{response.id}"])
        .start()
        .await;
    warm(&sidecar, &["/final/"]).await;
    sidecar
        .post("/w/", "{}")
        .await
        .is(200, "not json", "BYPASS");
    assert_eq!(dropped(&sidecar, &["/final/"]).await, ["/final/"]);
}

#[tokio::test]
async fn only_a_refusal_drops_nothing() {
    for (status, drops) in [
        (200, true),
        (204, true),
        (302, true),
        (400, false),
        (401, false),
        (409, false),
        (500, true),
        (503, true),
    ] {
        let origin = Origin::start().await;
        origin.on("/w/", move |_| reply("").status(status));
        let sidecar = shop(&origin).write("POST /w/", &["events"]).start().await;
        warm(&sidecar, &["/events/"]).await;
        sidecar.post("/w/", "{}").await.is(status, "", "BYPASS");
        let got = dropped(&sidecar, &["/events/"]).await;
        assert_eq!(!got.is_empty(), drops, "{status}");
    }
}

/// Until its time is over nobody knows whether the write takes place, so the app answers; then it counts as done.
#[tokio::test]
async fn a_write_without_a_known_end_keeps_its_tags_uncached_until_its_time_is_over() {
    let origin = Origin::start().await;
    let plan = shop(&origin).write("POST /w/", &["events"]);
    let plan = plan
        .upstream("timeout = \"100ms\"")
        .with("[coherence]\nintent_ttl = \"1s\"");
    let sidecar = plan.start().await;
    warm(&sidecar, &["/events/", "/events/5/"]).await;

    let gate = origin.hold("/w/");
    let lost = sidecar.post("/w/", "{}").await;
    assert_eq!(
        (lost.status.as_u16(), lost.cache()),
        (504, "BYPASS".to_owned())
    );
    let dirty = sidecar.get_as("/events/", "anna").await;
    dirty.is(200, "/events/", "MISS");
    assert!(
        dirty.cache_status().contains("detail=dirty"),
        "{}",
        dirty.cache_status()
    );
    sidecar
        .get_as("/events/5/", "anna")
        .await
        .is(200, "/events/5/", "HIT");
    gate.release();
    soon("the write's time is over", async {
        while !sidecar
            .get_as("/events/", "anna")
            .await
            .cache_status()
            .contains("detail=tag")
        {}
    })
    .await;
    sidecar
        .get_as("/events/", "anna")
        .await
        .is(200, "/events/", "HIT");
}

#[tokio::test]
async fn a_write_that_never_reached_the_app_drops_nothing() {
    let origin = Origin::start().await;
    let sidecar = shop(&origin).write("POST /w/", &["events"]).start().await;
    warm(&sidecar, &["/events/"]).await;
    let huge = "POST /w/ HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 99999999999\r\n\r\n";
    let refused = raw(&sidecar.address, huge).await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    assert!(refused.contains("x-cache: BYPASS"), "{refused}");
    sidecar
        .get_as("/events/", "anna")
        .await
        .is(200, "/events/", "HIT");
    assert_eq!(origin.hits("/w/"), 0);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_leave_its_write_unsettled() {
    let origin = Origin::start().await;
    origin.on("/w/", |_| reply("done"));
    let sidecar = shop(&origin).write("POST /w/", &["events"]).start().await;
    warm(&sidecar, &["/events/"]).await;

    let gate = origin.hold("/w/");
    let write = sidecar.call("POST", "/w/").json("{}").begin();
    gate.arrived(1).await;
    write.hang_up();
    sidecar.has_in_flight(0).await;
    gate.release();
    soon("the write is settled", async {
        while sidecar.metric("reprise_coherence_open_intents").await > 0.0 {}
    })
    .await;
    assert_eq!(dropped(&sidecar, &["/events/"]).await, ["/events/"]);
}

#[tokio::test]
async fn bodies_that_are_looked_into_reach_the_app_as_they_were() {
    let large = format!(r#"{{"event": 5, "x": "{}"}}"#, "y".repeat(200_000));
    for (body, chunked, expected) in [
        (r#"{"event": 5}"#, false, &["/events/5/seats/"][..]),
        (r#"{"event": 5}"#, true, &["/events/5/seats/"]),
        (large.as_str(), false, &PATHS[3..5]),
        (large.as_str(), true, &PATHS[3..5]),
    ] {
        let origin = Origin::start().await;
        origin.on("/w/", |seen| reply(seen.body.clone()).json());
        let plan = shop(&origin).write("POST /w/", &["seats:{body.event}"]);
        let sidecar = plan.start().await;
        warm(&sidecar, PATHS).await;
        let call = sidecar.call("POST", "/w/").json(body);
        let call = if chunked { call.chunked() } else { call };
        let got = call.send().await;
        assert!(
            got.body == body && got.cache() == "BYPASS",
            "{}",
            got.body.len()
        );
        assert_eq!(
            dropped(&sidecar, PATHS).await,
            expected,
            "{}, {chunked}",
            body.len()
        );
    }
}

#[tokio::test]
async fn answers_that_are_looked_into_reach_the_client_as_they_were() {
    let large = format!(r#"{{"event": 5, "x": "{}"}}"#, "y".repeat(200_000));
    for (answer, expected) in [
        (r#"{"event": 5}"#, &["/events/5/seats/"][..]),
        (large.as_str(), &PATHS[3..5]),
    ] {
        let origin = Origin::start().await;
        let (scripted, chunks) = streamed();
        answer
            .as_bytes()
            .chunks(1000)
            .for_each(|chunk| chunks.send(chunk.to_vec()));
        drop(chunks);
        origin.then("/w/", scripted.json());
        let plan = shop(&origin).write("POST /w/", &["seats:{response.event}"]);
        let sidecar = plan.start().await;
        warm(&sidecar, PATHS).await;
        let got = sidecar.post("/w/", "{}").await;
        assert!(got.body == answer && got.cache() == "BYPASS" && !got.broken);
        assert_eq!(dropped(&sidecar, PATHS).await, expected, "{}", answer.len());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_write_all_the_same() {
    let origin = Origin::start().await;
    let (scripted, chunks) = streamed();
    origin.then("/w/", scripted.json());
    let plan = shop(&origin).write("POST /w/", &["seats:{response.event}"]);
    let sidecar = plan.start().await;
    warm(&sidecar, PATHS).await;
    let write = "POST /w/ HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 0\r\n\r\n";
    let write = raw(&sidecar.address, write);
    let breaking = async {
        origin.asked("/w/", 1).await;
        chunks.send(r#"{"event": 5"#);
        soon("the head is there", async {
            while sidecar.metric(ASKED_WITHOUT_ROUTE).await < 1.0 {}
        })
        .await;
        chunks.break_off();
    };
    let (got, ()) = tokio::join!(write, breaking);
    assert!(!got.ends_with("0\r\n\r\n"), "a broken transfer: {got}");
    assert_eq!(dropped(&sidecar, PATHS).await, &PATHS[3..5]);
}

/// An app that compresses hid its answer from the rule, and every write dropped the whole class.
#[tokio::test]
async fn an_answer_that_is_looked_into_is_asked_for_unencoded() {
    let origin = Origin::start().await;
    origin.on("/w/", |seen| match seen.field("accept-encoding") {
        "identity" => reply(r#"{"event": 5}"#).json(),
        _ => reply("gibberish").json().header("content-encoding", "gzip"),
    });
    let plan = shop(&origin).write("POST /w/", &["seats:{response.event}"]);
    let sidecar = plan.start().await;
    warm(&sidecar, PATHS).await;
    let call = sidecar
        .call("POST", "/w/")
        .header("accept-encoding", "gzip");
    call.json("{}")
        .send()
        .await
        .is(200, r#"{"event": 5}"#, "BYPASS");
    assert_eq!(dropped(&sidecar, PATHS).await, ["/events/5/seats/"]);
}

#[tokio::test]
async fn widened_drops_are_counted() {
    let origin = Origin::start().await;
    origin.on("/w/", |_| reply("{}").json());
    let sidecar = shop(&origin)
        .write("POST /w/", &["event:{response.id}"])
        .start()
        .await;
    let widened = "reprise_cache_invalidations_widened_total";
    sidecar.post("/w/", "{}").await.is(200, "{}", "BYPASS");
    assert_eq!(sidecar.metric(widened).await, 1.0);
    origin.on("/w/", |_| reply(r#"{"id": 1}"#).json());
    sidecar
        .post("/w/", "{}")
        .await
        .is(200, r#"{"id": 1}"#, "BYPASS");
    assert_eq!(sidecar.metric(widened).await, 1.0);
    eventually("both were asked for", || origin.hits("/w/") == 2).await;
}
