//! RFC 9111 §4.2: lifetimes and ages, as clients see them. Time is made by the app's `Age` and `Date`.

use std::time::Duration;

use crate::support::{Reply, Sidecar, Wire, cached, date, reply};

/// The seconds of freshness left, as `Cache-Status` tells them.
fn ttl(reply: &Reply) -> Option<i64> {
    let status = reply.cache_status();
    let ttl = status
        .split("; ")
        .find_map(|part| part.strip_prefix("ttl="))?;
    Some(ttl.parse().expect("a number"))
}

/// Asserts what is left of the lifetime of what this app answers, when it is asked for a second time; `None`: it is
/// not fresh then.
async fn lives(lines: &str, fields: &[(&'static str, String)], left: Option<i64>) {
    let (origin, sidecar) = cached(lines).await;
    let own = fields.to_vec();
    origin.on("/a/", move |_| {
        let mut answer = reply("a");
        for (name, value) in &own {
            answer = answer.header(name, value);
        }
        answer
    });
    sidecar.get("/a/").await.is(200, "a", "MISS");
    let second = sidecar.get("/a/").await;
    match left {
        Some(left) => {
            second.is(200, "a", "HIT");
            let told = ttl(&second).expect("a ttl");
            assert!(
                (left - 2..=left).contains(&told),
                "{lines} {fields:?}: {told}"
            );
        }
        None => assert_eq!(second.cache(), "MISS", "{lines} {fields:?}"),
    }
}

fn cc(value: &str) -> (&'static str, String) {
    ("cache-control", value.to_owned())
}

#[tokio::test]
async fn the_app_decides_how_long_and_the_route_where_it_is_silent() {
    let expires = |offset| ("expires", date(offset));
    let modified = || ("last-modified", date(-1000));
    let minute = "ttl = \"60s\"";
    for (lines, fields, left) in [
        (minute, vec![], Some(60)),
        (minute, vec![cc("max-age=100")], Some(100)),
        (minute, vec![cc("max-age=100, s-maxage=30")], Some(30)),
        (minute, vec![cc("max-age=100"), expires(20)], Some(100)),
        (minute, vec![expires(200)], Some(200)),
        (minute, vec![expires(-200)], None),
        (minute, vec![("expires", "0".to_owned())], None),
        (minute, vec![("pragma", "no-cache".to_owned())], Some(60)),
        (minute, vec![cc("public")], Some(60)),
        (minute, vec![cc("max-age=oops")], None),
        ("", vec![], None),
        ("", vec![cc("public")], None),
        ("", vec![cc("max-age=100")], Some(100)),
        ("", vec![modified()], None),
        ("heuristic = 0.1", vec![modified()], Some(100)),
        (
            "heuristic = 0.1",
            vec![modified(), cc("max-age=7")],
            Some(7),
        ),
        ("max_ttl = \"50s\"", vec![cc("max-age=100")], Some(50)),
        ("ttl = \"60s\"\nmax_ttl = \"50s\"", vec![], Some(50)),
        (
            "ttl = \"60s\"\nhonor_cache_control = false",
            vec![cc("max-age=9")],
            Some(60),
        ),
    ] {
        lives(lines, &fields, left).await;
    }
}

#[tokio::test]
async fn time_spent_before_the_sidecar_counts() {
    let age = |seconds: &str| ("age", seconds.to_owned());
    let made = |offset| ("date", date(offset));
    let minute = "ttl = \"60s\"";
    for (fields, left) in [
        (vec![age("20")], Some(40)),
        (vec![age("60")], None),
        (vec![age("nonsense")], Some(60)),
        (vec![made(-20)], Some(40)),
        (vec![made(-20), age("30")], Some(30)),
        (vec![made(-100)], None),
        // A clock that is ahead makes nothing younger than it is.
        (vec![made(500)], Some(60)),
        (vec![made(-20), cc("max-age=100")], Some(80)),
        (vec![made(-20), ("expires", date(20))], Some(20)),
    ] {
        lives(minute, &fields, left).await;
    }
}

#[tokio::test]
async fn age_is_told_of_what_is_stored_and_not_of_what_was_made_just_now() {
    let (origin, sidecar) = cached("ttl = \"60s\"").await;
    origin.on("/a/", |_| reply("a"));
    origin.on("/b/", |_| reply("b").header("age", "20"));

    let first = sidecar.get("/a/").await;
    first.is(200, "a", "MISS");
    assert_eq!(first.field("age"), "");
    let second = sidecar.get("/a/").await;
    second.is(200, "a", "HIT");
    assert!(["0", "1", "2"].contains(&second.field("age").as_str()));

    let first = sidecar.get("/b/").await;
    first.is(200, "b", "MISS");
    assert!(["20", "21"].contains(&first.field("age").as_str()));
    let second = sidecar.get("/b/").await;
    second.is(200, "b", "HIT");
    assert!(["20", "21", "22"].contains(&second.field("age").as_str()));
}

#[tokio::test]
async fn an_answer_without_a_date_gets_one_and_is_new() {
    let app = Wire::answering(["HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na"]).await;
    let sidecar = Sidecar::before_url(&app.url)
        .route("/a/", "ttl = \"60s\"")
        .start()
        .await;
    sidecar.get("/a/").await.is(200, "a", "MISS");
    let second = sidecar.get("/a/").await;
    second.is(200, "a", "HIT");
    let dated = httpdate::parse_http_date(&second.field("date")).expect("a date");
    assert!(
        dated
            .elapsed()
            .is_ok_and(|age| age < Duration::from_secs(5))
    );
    assert!(ttl(&second) >= Some(58));
}

/// Whoever may not today may tomorrow: the app's word about a denial is cut to a few seconds.
#[tokio::test]
async fn a_denial_is_kept_for_seconds_whatever_the_app_says() {
    for status in [401, 403] {
        let (origin, sidecar) = cached("ttl = \"60s\"").await;
        origin.on("/a/", move |_| {
            reply("no").status(status).cache("max-age=600")
        });
        sidecar.get("/a/").await.is(status, "no", "MISS");
        let second = sidecar.get("/a/").await;
        second.is(status, "no", "HIT");
        assert!(ttl(&second) <= Some(5), "{}", second.cache_status());
    }
}

#[tokio::test]
async fn jitter_spreads_lifetimes_and_only_shortens_them() {
    let (origin, sidecar) = cached("ttl = \"1000s\"\nttl_jitter = 0.5").await;
    let mut left = Vec::new();
    for number in 0..16 {
        let path = format!("/{number}/");
        origin.on(&path, |_| reply("a"));
        sidecar.get(&path).await.is(200, "a", "MISS");
        let second = sidecar.get(&path).await;
        second.is(200, "a", "HIT");
        left.push(ttl(&second).expect("a ttl"));
    }
    assert!(
        left.iter().all(|left| (495..=1000).contains(left)),
        "{left:?}"
    );
    let (least, most) = (left.iter().min(), left.iter().max());
    assert!(
        most.zip(least)
            .is_some_and(|(most, least)| most - least > 50),
        "{left:?}"
    );
}

#[tokio::test]
async fn clients_are_told_the_routes_max_age_where_the_app_is_silent() {
    let (origin, sidecar) = cached("ttl = \"60s\"\nclient_max_age = \"5s\"").await;
    origin.on("/a/", |_| reply("a"));
    origin.on("/b/", |_| reply("b").cache("max-age=9"));
    origin.on("/c/", |_| reply("c").header("expires", &date(9)));
    for (path, told) in [("/a/", "max-age=5"), ("/b/", "max-age=9"), ("/c/", "")] {
        for cache in ["MISS", "HIT"] {
            let reply = sidecar.get(path).await;
            assert_eq!(reply.cache(), cache, "{path}");
            assert_eq!(reply.field("cache-control"), told, "{path} {cache}");
        }
    }
}

/// What is not the resource must not be kept as if it were: a browser that keeps a 412 would show it for the page.
#[tokio::test]
async fn clients_are_told_no_max_age_of_refusals() {
    let (origin, sidecar) = cached("ttl = \"60s\"\nclient_max_age = \"5s\"").await;
    origin.on("/a/", |_| reply("a"));
    origin.on("/b/", |_| reply("b").cache("max-age=60"));
    for path in ["/a/", "/b/"] {
        sidecar.get(path).await.is(200, &path[1..2], "MISS");
        for (name, value, status) in [("if-match", "\"x\"", 412), ("range", "bytes=9-", 416)] {
            let reply = sidecar.call("GET", path).header(name, value).send().await;
            reply.is(status, "", "HIT");
            assert_eq!(reply.field("cache-control"), "", "{path} {status}");
        }
    }
}
