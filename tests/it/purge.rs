//! What operators drop: by the admin API, and by the methods PURGE and BAN.

use serde_json::{Value, json};

use crate::support::client::{Call, Reply};
use crate::support::sidecar::Plan;
use crate::support::{Desk, Origin, Sidecar, reply, soon};

const ROUTE: &str = "ttl = \"1m\"\nstale_while_revalidate = \"5m\"";

/// A shop in which every answer tells how often it was made, and everything is stored.
fn shop(origin: &Origin) -> Plan {
    Sidecar::before(origin)
        .route("/events/", &format!("{ROUTE}\ntags = [\"events\"]"))
        .route(
            "/events/{event}/",
            &format!("{ROUTE}\ntags = [\"event:{{event}}\"]"),
        )
        .route("/mine/", &format!("{ROUTE}\nscope = \"user\""))
        .with("[relations]\n\"event:{id}\" = [\"events\"]")
}

const PATHS: &[&str] = &[
    "/events/",
    "/events/?page=2",
    "/events/?page=3&utm_source=mail",
    "/events/5/",
    "/events/6/",
    "/mine/",
];

async fn stocked() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    for path in ["/events/", "/events/5/", "/events/6/", "/mine/"] {
        origin.on(path, move |_| reply(path));
    }
    let sidecar = shop(&origin).start().await;
    warm(&sidecar).await;
    (origin, sidecar)
}

async fn warm(sidecar: &Sidecar) {
    for path in PATHS {
        sidecar.get_as(path, "anna").await;
        assert_eq!(sidecar.get_as(path, "anna").await.cache(), "HIT", "{path}");
    }
}

/// Asks the admin API.
async fn ask(sidecar: &Sidecar, action: &str, body: &str) -> Reply {
    let path = format!("/api/v1/{action}");
    Call::new(&sidecar.admin, "POST", &path)
        .json(body)
        .send()
        .await
}

/// Asks for a purge that must be carried out; its report.
async fn purge(sidecar: &Sidecar, body: &str) -> Value {
    let reply = ask(sidecar, "purge", body).await;
    assert_eq!(reply.status, 200, "{body}: {}", reply.body);
    reply.value()
}

/// How each path stands: its X-Cache, read once.
async fn stand(sidecar: &Sidecar) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for path in PATHS {
        all.push((*path, sidecar.get_as(path, "anna").await.cache()));
    }
    all
}

/// Which of the paths are stored no longer; the others must be hits.
async fn gone(sidecar: &Sidecar) -> Vec<&'static str> {
    let all = stand(sidecar).await.into_iter();
    let gone = all.filter(|(path, cache)| {
        assert!(cache == "MISS" || cache == "HIT", "{path}: {cache}");
        cache == "MISS"
    });
    gone.map(|(path, _)| path).collect()
}

#[tokio::test]
async fn a_purge_drops_what_it_names_and_says_how_much_that_was() {
    let (_origin, sidecar) = stocked().await;
    let lists = &PATHS[..3];
    for (body, expected, names) in [
        (r#"{"tag": "events"}"#, lists, vec!["events"]),
        (
            r#"{"tags": ["event:5"]}"#,
            &[
                "/events/",
                "/events/?page=2",
                "/events/?page=3&utm_source=mail",
                "/events/5/",
            ],
            vec!["event:5", "events"],
        ),
        (
            r#"{"path": "/events/6"}"#,
            &["/events/6/"],
            vec!["/events/6"],
        ),
        (
            r#"{"paths": ["/events/**"]}"#,
            &PATHS[..5],
            vec!["/events/**"],
        ),
        (
            r#"{"pattern": "/events/?*page=2*"}"#,
            &["/events/?page=2"],
            vec![],
        ),
        (
            r#"{"pattern": "/events/*/"}"#,
            &["/events/5/", "/events/6/"],
            vec![],
        ),
        (
            r#"{"route": "route-2"}"#,
            &["/mine/"],
            vec!["route route-2"],
        ),
        (r#"{"key": "/events/"}"#, &["/events/"], vec!["/events/"]),
        (
            r#"{"key": "https://other.example/events/?utm_campaign=x&page=3"}"#,
            &["/events/?page=3&utm_source=mail"],
            vec!["/events/?utm_campaign=x&page=3"],
        ),
        (r#"{"key": "/mine/"}"#, &["/mine/"], vec!["/mine/"]),
        (r#"{"all": true}"#, PATHS, vec!["everything"]),
    ] {
        let report = purge(&sidecar, body).await;
        assert_eq!(report["reached"], "everywhere", "{body}");
        assert_eq!(report["names"], json!(names), "{body}");
        assert_eq!(report["widened"], json!([]), "{body}");
        let memory = json!({"scanned": 6, "freed": expected.len(), "complete": true});
        assert_eq!(report["memory"], memory, "{body}");
        assert_eq!(gone(&sidecar).await, expected, "{body}");
        warm(&sidecar).await;
    }
}

#[tokio::test]
async fn a_url_is_purged_for_every_user_and_variant() {
    let origin = Origin::start().await;
    origin.on("/mine/", |_| reply("a").header("vary", "accept-language"));
    let sidecar = shop(&origin).start().await;
    let asks = [("anna", "de"), ("anna", "en"), ("bert", "de")];
    for expected in ["MISS", "HIT"] {
        for (user, language) in asks {
            let call = sidecar.call("GET", "/mine/").token(user);
            let got = call.header("accept-language", language).send().await;
            assert_eq!(got.cache(), expected, "{user} {language}");
        }
    }
    let report = purge(&sidecar, r#"{"key": "/mine/"}"#).await;
    assert_eq!(report["memory"]["freed"], 3);
    for (user, language) in asks {
        let call = sidecar.call("GET", "/mine/").token(user);
        let got = call.header("accept-language", language).send().await;
        assert_eq!(got.cache(), "MISS", "{user} {language}");
    }
}

#[tokio::test]
async fn a_dry_run_tells_and_drops_nothing() {
    let (_origin, sidecar) = stocked().await;
    for (body, matching) in [
        (r#"{"tag": "event:5", "dry_run": true}"#, 4),
        (r#"{"pattern": "/events/?*", "dry_run": true}"#, 2),
        (r#"{"tag": "nothing", "dry_run": true}"#, 0),
    ] {
        let report = purge(&sidecar, body).await;
        assert_eq!(report["reached"], "nobody", "{body}");
        let memory = json!({"scanned": 6, "matching": matching, "complete": true});
        assert_eq!(report["memory"], memory, "{body}");
        assert_eq!(report.get("position"), None, "{body}");
    }
    assert_eq!(gone(&sidecar).await, Vec::<&str>::new());
}

#[tokio::test]
async fn a_soft_purge_serves_stale_while_it_refreshes() {
    let origin = Origin::start().await;
    origin.then("/events/", reply("old"));
    origin.on("/events/", |_| reply("new"));
    let sidecar = shop(&origin).start().await;
    sidecar.get("/events/").await.is(200, "old", "MISS");
    sidecar.get("/events/").await.is(200, "old", "HIT");

    let report = purge(&sidecar, r#"{"tag": "events", "soft": true}"#).await;
    assert_eq!(
        (&report["reached"], &report["soft"]),
        (&json!("everywhere"), &json!(true))
    );
    assert_eq!(report.get("memory"), None, "nothing was freed");

    let gate = origin.hold("/events/");
    let stale = sidecar.get("/events/").await;
    stale.is(200, "old", "STALE");
    assert_eq!(stale.cache_status(), "hit; ttl=0; detail=updating");
    gate.arrived(2).await;
    gate.release();
    soon("a refresh", async {
        while sidecar.get("/events/").await.body != "new" {}
    })
    .await;
    sidecar.get("/events/").await.is(200, "new", "HIT");
    assert_eq!(origin.hits("/events/"), 2);
}

#[tokio::test]
async fn what_is_softened_and_may_not_be_served_stale_is_confirmed_by_the_app_first() {
    let origin = Origin::start().await;
    origin.then("/a/", reply("one").header("etag", "\"v1\""));
    origin.then("/a/", reply("").status(304));
    origin.on("/a/", |_| reply("").status(503));
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"\nstale_if_error = \"5m\"")
        .start()
        .await;
    sidecar.get("/a/").await.is(200, "one", "MISS");
    purge(&sidecar, r#"{"path": "/a/", "soft": true}"#).await;
    sidecar.get("/a/").await.is(200, "one", "REVALIDATED");
    assert_eq!(origin.last("/a/").field("if-none-match"), "\"v1\"");
    sidecar.get("/a/").await.is(200, "one", "HIT");

    purge(&sidecar, r#"{"path": "/a/", "soft": true}"#).await;
    let stale = sidecar.get("/a/").await;
    stale.is(200, "one", "STALE");
    assert!(
        stale.cache_status().ends_with("detail=error"),
        "{}",
        stale.cache_status()
    );

    purge(&sidecar, r#"{"path": "/a/"}"#).await;
    assert_eq!(
        sidecar.get("/a/").await.status,
        503,
        "a hard purge leaves nothing to serve"
    );
}

#[tokio::test]
async fn a_fill_that_began_before_a_purge_is_not_used_after_it() {
    for body in [
        r#"{"tag": "events"}"#,
        r#"{"key": "/events/"}"#,
        r#"{"pattern": "/events/"}"#,
    ] {
        let origin = Origin::start().await;
        origin.then("/events/", reply("old"));
        origin.on("/events/", |_| reply("new"));
        let sidecar = shop(&origin).start().await;
        let gate = origin.hold("/events/");
        let reading = sidecar.call("GET", "/events/").begin();
        gate.arrived(1).await;
        purge(&sidecar, body).await;
        // Who comes after the purge does not join what began before it.
        let later = sidecar.call("GET", "/events/").begin();
        gate.arrived(2).await;
        gate.release();
        assert_eq!(reading.reply().await.body, "old");
        assert_eq!(later.reply().await.body, "new", "{body}");
        assert_eq!(sidecar.get("/events/").await.body, "new", "{body}");
    }
}

#[tokio::test]
async fn what_is_announced_is_not_answered_from_the_cache_until_it_ends() {
    let (origin, sidecar) = stocked().await;
    for (end, expected) in [("false", "HIT"), ("true", "MISS")] {
        let opened = ask(&sidecar, "intent", r#"{"tags": ["event:5"], "ttl": "30s"}"#).await;
        assert_eq!(opened.status, 200, "{}", opened.body);
        let opened = opened.value();
        assert!(opened["position"].is_u64(), "{opened}");
        let token = opened["token"].as_str().expect("a token");
        assert_eq!(sidecar.metric("reprise_coherence_open_intents").await, 1.0);
        let hits = origin.hits("/events/5/");
        for _ in 0..2 {
            let got = sidecar.get_as("/events/5/", "anna").await;
            got.is(200, "/events/5/", "MISS");
        }
        assert_eq!(
            origin.hits("/events/5/"),
            hits + 2,
            "every reader asks the app"
        );
        assert_eq!(sidecar.get_as("/events/6/", "anna").await.cache(), "HIT");

        let close = format!(r#"{{"token": "{token}", "committed": {end}}}"#);
        let closed = ask(&sidecar, "close", &close).await;
        assert_eq!(closed.status, 200, "{}", closed.body);
        assert_eq!(closed.value()["reached"], "everywhere");
        assert_eq!(
            sidecar.get_as("/events/5/", "anna").await.cache(),
            expected,
            "{end}"
        );
        let again = ask(&sidecar, "close", &close).await;
        assert_eq!(again.status, 404, "{}", again.body);
        assert_eq!(sidecar.metric("reprise_coherence_open_intents").await, 0.0);
    }
}

#[tokio::test]
async fn a_request_that_is_not_understood_is_told_why_and_does_nothing() {
    let (_origin, sidecar) = stocked().await;
    for (action, body, status, said) in [
        ("purge", "{", 400, "this is not JSON"),
        ("purge", "{}", 400, "nothing to drop"),
        (
            "purge",
            r#"{"tag": 5}"#,
            400,
            "tag: expected a text, found a number",
        ),
        (
            "purge",
            r#"{"al": true}"#,
            400,
            "al: there is no such field",
        ),
        (
            "purge",
            r#"{"route": "x"}"#,
            400,
            "route: no route is named \"x\"; there are route-0",
        ),
        (
            "intent",
            r#"{"pattern": "/*"}"#,
            400,
            "pattern: there is no such field",
        ),
        (
            "close",
            r#"{"token": "0123456789abcdef"}"#,
            400,
            "committed: say whether",
        ),
        (
            "close",
            r#"{"token": "0123456789abcdef", "committed": true}"#,
            404,
            "no such announcement",
        ),
    ] {
        let reply = ask(&sidecar, action, body).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        assert_eq!(reply.field("content-type"), "application/json", "{body}");
        let error = reply.value()["error"]
            .as_str()
            .expect("an error")
            .to_owned();
        assert!(error.starts_with(said), "{body}: {error}");
    }
    assert_eq!(gone(&sidecar).await, Vec::<&str>::new());
}

#[tokio::test]
async fn changing_things_takes_a_post_of_json_of_some_size_and_no_browser() {
    let (_origin, sidecar) = stocked().await;
    let all = r#"{"all": true}"#;
    let call = |method: &str| Call::new(&sidecar.admin, method, "/api/v1/purge");
    for (call, status) in [
        (call("GET"), 405),
        (call("PUT").json(all), 405),
        (call("POST").body(all), 415),
        (
            call("POST").header("content-type", "text/plain").body(all),
            415,
        ),
        (
            call("POST")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(all),
            415,
        ),
        (
            call("POST")
                .json(all)
                .header("origin", "http://evil.example"),
            403,
        ),
        (
            call("POST")
                .json(all)
                .header("sec-fetch-site", "cross-site"),
            403,
        ),
        (
            call("POST").json(&format!("{all}{}", " ".repeat(300_000))),
            413,
        ),
        (
            call("POST")
                .json(&format!("{all}{}", " ".repeat(300_000)))
                .chunked(),
            413,
        ),
    ] {
        let reply = call.send().await;
        assert_eq!(reply.status, status, "{}", reply.body);
        assert!(reply.value()["error"].is_string(), "{}", reply.body);
        if status == 405 {
            assert_eq!(reply.field("allow"), "POST");
        }
    }
    assert_eq!(gone(&sidecar).await, Vec::<&str>::new());
    let reply = call("POST")
        .header("content-type", "Application/JSON; charset=utf-8")
        .body(all);
    assert_eq!(reply.send().await.status, 200);
    assert_eq!(gone(&sidecar).await, PATHS);
}

#[tokio::test]
async fn changing_things_can_be_forbidden_or_need_a_token() {
    let origin = Origin::start().await;
    let admin = |access: &str| {
        format!(
            "[admin]\nlisten = \"127.0.0.1:0\"\nwrite_access = \"{access}\"\ntoken_env = \"PURGE_TOKEN\""
        )
    };
    let body = r#"{"all": true}"#;
    let off = shop(&origin).with(&admin("off")).start().await;
    assert_eq!(ask(&off, "purge", body).await.status, 403);
    let unset = shop(&origin).with(&admin("token")).start().await;
    assert_eq!(ask(&unset, "purge", body).await.status, 403);

    let desk = Desk::with(&shop(&origin).with(&admin("token")).toml()).set("PURGE_TOKEN", "s3cret");
    let mut process = desk.start(&["run"]);
    process.line("probes and metrics").await;
    let call = || {
        let call = Call::new(&process.admin_address(), "POST", "/api/v1/purge");
        call.json(body)
    };
    let none = call().send().await;
    assert_eq!(none.status, 401);
    assert!(none.field("www-authenticate").starts_with("Bearer"));
    let wrong = call().header("authorization", "Bearer s3cre");
    assert_eq!(wrong.send().await.status, 401);
    let right = call().header("authorization", "Bearer s3cret");
    assert_eq!(right.send().await.status, 200);

    process.line("\"purged\"").await;
    let told = process.events("purged");
    assert_eq!(told[0]["by"], "admin API, 127.0.0.1 with the token");
    assert!(
        told[0]["names"].to_string().contains("everything"),
        "{}",
        told[0]
    );
    assert!(!process.lines().join("\n").contains("s3cret"));
}

#[tokio::test]
async fn trusted_neighbours_purge_and_ban_by_method() {
    let origin = Origin::start().await;
    for path in ["/events/", "/events/5/", "/events/6/", "/mine/"] {
        origin.on(path, move |_| reply(path));
    }
    let sidecar = shop(&origin)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .with("[admin]\nlisten = \"127.0.0.1:0\"\npurge_method = true")
        .start()
        .await;
    for (method, target, expected) in [
        ("PURGE", "/events/", vec!["/events/"]),
        ("PURGE", "/events/?page=2&gclid=1", vec!["/events/?page=2"]),
        ("PURGE", "/mine/", vec!["/mine/"]),
        ("BAN", "/events/*/", vec!["/events/5/", "/events/6/"]),
        (
            "BAN",
            "/events/?*page=*",
            vec!["/events/?page=2", "/events/?page=3&utm_source=mail"],
        ),
    ] {
        warm(&sidecar).await;
        let reply = sidecar.call(method, target).send().await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.body);
        assert_eq!(reply.value()["reached"], "everywhere", "{target}");
        assert_eq!(gone(&sidecar).await, expected, "{method} {target}");
    }
    // What is dropped and not freed yet does not count.
    warm(&sidecar).await;
    sidecar.call("PURGE", "/mine/").send().await;
    let report = purge(&sidecar, r#"{"all": true, "dry_run": true}"#).await;
    assert_eq!(
        report["memory"],
        json!({"scanned": 6, "matching": 5, "complete": true})
    );
    assert_eq!(sidecar.call("PURGE", "/a;b").send().await.status, 400);
    assert!(
        origin
            .seen("/events/")
            .iter()
            .all(|seen| seen.method == "GET")
    );
}

#[tokio::test]
async fn nobody_purges_by_method_through_a_trusted_neighbour() {
    let origin = Origin::start().await;
    let plan = || shop(&origin).with("[admin]\nlisten = \"127.0.0.1:0\"\npurge_method = true");
    let strict = plan().start().await;
    assert_eq!(strict.call("PURGE", "/events/").send().await.status, 403);
    let trusting = plan()
        .server("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]")
        .start()
        .await;
    for (fields, status) in [
        (vec![("x-forwarded-for", "203.0.113.9")], 403),
        (vec![("x-forwarded-for", "10.0.0.1, 203.0.113.9")], 403),
        (vec![("x-real-ip", "203.0.113.9")], 403),
        (vec![("forwarded", "for=203.0.113.9")], 403),
        (vec![("x-forwarded-for", "10.0.0.1")], 200),
    ] {
        for method in ["PURGE", "BAN"] {
            let mut call = trusting.call(method, "/events/");
            for (name, value) in &fields {
                call = call.header(name, value);
            }
            let reply = call.send().await;
            assert_eq!(reply.status, status, "{method} {fields:?}: {}", reply.body);
        }
    }
    assert_eq!(origin.hits("/events/"), 0, "the app is not asked");
}

#[tokio::test]
async fn without_the_setting_purge_is_a_method_like_any_other() {
    let (origin, sidecar) = stocked().await;
    let reply = sidecar.call("PURGE", "/events/").send().await;
    reply.is(200, "/events/", "BYPASS");
    assert_eq!(origin.last("/events/").method, "PURGE");
    assert_eq!(
        sidecar.get("/events/").await.cache(),
        "MISS",
        "an unsafe method drops its target"
    );
}

#[tokio::test]
async fn a_purge_that_nobody_waits_for_is_carried_out() {
    let (_origin, sidecar) = stocked().await;
    let reply = ask(&sidecar, "purge", r#"{"all": true, "wait": false}"#).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.value()["reached"]),
        (202, &json!("under-way"))
    );
    soon("the purge", async {
        while sidecar
            .metric("reprise_cache_invalidated_entries_total")
            .await
            < 6.0
        {}
    })
    .await;
    assert_eq!(gone(&sidecar).await, PATHS);
    assert_eq!(
        sidecar
            .metric("reprise_cache_invalidations_total{source=\"api\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn what_is_purged_leaves_memory_though_nobody_asks_for_it() {
    let (_origin, sidecar) = stocked().await;
    let entries = "reprise_cache_entries{tier=\"memory\"}";
    soon("the gauge", async {
        while sidecar.metric(entries).await < 6.0 {}
    })
    .await;
    purge(&sidecar, r#"{"path": "/events/**"}"#).await;
    soon("the gauge", async {
        while sidecar.metric(entries).await > 1.0 {}
    })
    .await;
}
