//! Telling: headers, metrics and log say what happened, tell one story, and tell no secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::client::raw;
use crate::support::{Origin, Process, Sidecar, reply};

#[tokio::test]
async fn each_way_through_is_told_in_the_words_of_rfc_9211() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a"));
    origin.on("/cookie/", |_| reply("c").header("set-cookie", "a=b"));
    origin.on("/off/", |_| reply("o"));
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .route("/cookie/", "ttl = \"1m\"")
        .route("/off/", "scope = \"off\"")
        .start()
        .await;
    for (method, path, cache, status) in [
        ("GET", "/a/", "MISS", "fwd=uri-miss; stored"),
        ("GET", "/a/", "HIT", "hit; ttl=60; detail=l1"),
        ("GET", "/cookie/", "MISS", "fwd=uri-miss; detail=set_cookie"),
        ("GET", "/off/", "BYPASS", "fwd=bypass; detail=route-off"),
        ("GET", "/other/", "BYPASS", "fwd=bypass; detail=no-route"),
        ("POST", "/a/", "BYPASS", "fwd=method"),
        ("OPTIONS", "/a/", "BYPASS", "fwd=method"),
        (
            "GET",
            "/a/../b/",
            "BYPASS",
            "fwd=bypass; detail=dot-segment",
        ),
    ] {
        let told = sidecar.call(method, path).send().await;
        let told = (
            told.cache(),
            told.cache_status().replace("ttl=59", "ttl=60"),
        );
        assert_eq!(
            told,
            (cache.to_owned(), status.to_owned()),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn status_headers_are_as_many_as_the_route_asks_for() {
    let origin = Origin::start().await;
    for path in ["/off/", "/minimal/", "/debug/"] {
        origin.on(path, |_| reply("a").header("x-query-count", "3"));
    }
    let sidecar = Sidecar::before(&origin)
        .route("/off/", "ttl = \"1m\"\nstatus_headers = \"off\"")
        .route("/minimal/", "ttl = \"1m\"")
        .route("/debug/", "ttl = \"1m\"\nstatus_headers = \"debug\"")
        .start()
        .await;
    let told = [
        "x-cache",
        "cache-status",
        "x-response-time",
        "server-timing",
    ];
    for (path, count) in [("/off/", 0), ("/minimal/", 3), ("/debug/", 4)] {
        for _ in 0..2 {
            let reply = sidecar.get(path).await;
            assert_eq!(reply.body, "a");
            let names = told
                .iter()
                .filter(|name| reply.headers.contains_key(**name));
            assert!(
                names.eq(told.iter().take(count)),
                "{path} {:?}",
                reply.headers
            );
        }
    }
    assert_eq!(origin.hits("/off/"), 1, "it is a cache all the same");
}

#[tokio::test]
async fn debug_tells_the_key_as_it_counts_and_where_the_time_went() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a").header("x-query-count", "3"));
    let sidecar = Sidecar::before(&origin)
        .route(
            "/a/",
            "ttl = \"1m\"\nstatus_headers = \"debug\"\ntags = [\"a\", \"of:{user}\"]",
        )
        .start()
        .await;
    let path = "/a/?q=1&b=2&utm_source=mail&a=%C3%A9";
    let key = "key=\"shop.example/a/?a=%C3%A9&b=2&q=1\"; tags=\"a of:{user}\"";

    let call = || sidecar.call("GET", path).header("host", "Shop.Example");
    let miss = call().token("sekrit").send().await;
    miss.is(200, "a", "MISS");
    assert_eq!(miss.cache_status(), format!("fwd=uri-miss; stored; {key}"));
    let timing = miss.field("server-timing");
    let app = timing
        .strip_prefix("cache;desc=MISS, app;dur=")
        .expect(&timing);
    let (app, queries) = app.split_once(", ").expect("two more");
    assert!(
        app.parse::<f64>().is_ok_and(|millis| millis >= 0.0),
        "{timing}"
    );
    assert_eq!(queries, "db;desc=\"3 queries\"");

    let hit = call().token("sekrit").send().await;
    assert!(hit.cache_status().ends_with(&format!("detail=l1; {key}")));
    assert_eq!(hit.field("server-timing"), "cache;desc=HIT");
    let bypass = sidecar.get("/b/").await;
    assert!(!bypass.cache_status().contains("key"), "no key was made");
}

#[tokio::test]
async fn what_caches_before_this_one_said_is_kept_before_its_own() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| {
        reply("a")
            .header("cache-status", "Django; hit")
            .header("x-cache", "Hit from app")
    });
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    let miss = sidecar.get("/a/").await;
    assert_eq!(
        miss.field("cache-status"),
        "Django; hit, reprise; fwd=uri-miss; stored"
    );
    assert_eq!(miss.cache(), "MISS");
    let hit = sidecar.get("/a/").await.field("cache-status");
    assert!(hit.starts_with("Django; hit, reprise; hit; ttl="), "{hit}");
}

/// RFC 9211 §2: the field is about responses that a cache obtained or had, not about those it makes up.
#[tokio::test]
async fn answers_that_the_proxy_makes_itself_have_no_cache_status() {
    let sidecar = Sidecar::before_url("http://127.0.0.1:9")
        .route("/a/", "ttl = \"1m\"")
        .with("[cache]\nstatus_headers = \"debug\"")
        .start()
        .await;
    for (method, path, cache) in [
        ("GET", "/a/", "MISS"),
        ("GET", "/b/", "BYPASS"),
        ("POST", "/a/", "BYPASS"),
    ] {
        let refused = sidecar.call(method, path).send().await;
        assert_eq!(refused.status, 502);
        assert_eq!(
            (
                refused.cache().as_str(),
                refused.field("cache-status").as_str()
            ),
            (cache, "")
        );
        assert_ne!(refused.field("x-response-time"), "");
    }
}

#[tokio::test]
async fn response_times_are_milliseconds_and_ages_are_seconds() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a").header("age", "7").cache("max-age=60"));
    let sidecar = Sidecar::before(&origin).route("/a/", "").start().await;
    for cache in ["MISS", "HIT"] {
        let told = sidecar.get("/a/").await;
        told.is(200, "a", cache);
        let time = told.field("x-response-time");
        let (whole, rest) = time.split_once('.').expect("a point");
        assert!(whole.parse::<u32>().is_ok(), "{time}");
        assert!(rest.len() == 5 && rest.ends_with("ms"), "{time}");
        assert!(
            ["7", "8"].contains(&told.field("age").as_str()),
            "{:?}",
            told.headers
        );
    }
}

/// Every series of a text in Prometheus' format: its name with labels, and its value.
fn series(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').expect(line));
    pairs
        .map(|(name, value)| (name, value.parse().expect(value)))
        .collect()
}

#[tokio::test]
async fn metrics_are_text_that_prometheus_reads() {
    let sidecar = Sidecar::before_url("http://127.0.0.1:9").start().await;
    let reply = sidecar.admin("/metrics").await;
    assert_eq!(
        reply.field("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let names: BTreeSet<_> = series(&reply.body)
        .keys()
        .map(|name| family(name))
        .collect();
    for name in names {
        let typed = |kind: &str| reply.body.contains(&format!("# TYPE {name} {kind}\n"));
        assert!(
            reply.body.contains(&format!("# HELP {name} ")),
            "no help: {name}"
        );
        assert_eq!(typed("counter"), name.ends_with("_total"), "{name}");
        assert!(
            typed("counter") || typed("gauge") || typed("histogram"),
            "{name}"
        );
        assert!(
            name.starts_with("reprise_") || name.starts_with("process_"),
            "{name}"
        );
    }
    assert!(reply.body.ends_with('\n'));
    promtool(&reply.body);
}

fn family(series: &str) -> &str {
    let name = series.split('{').next().unwrap_or(series);
    let parts = ["_bucket", "_sum", "_count"];
    let base = parts.iter().find_map(|part| name.strip_suffix(part));
    base.unwrap_or(name)
}

/// Prometheus' own linter.
fn promtool(text: &str) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let promtool = command.stderr(Stdio::piped()).spawn();
    let mut promtool = promtool
        .expect("promtool is installed (Debian: apt-get install prometheus); tests/run does it");
    let mut stdin = promtool.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Series with the values of their one varying label; `@` stands for each route.
const FROM_THE_START: [(&str, &str); 14] = [
    ("reprise_http_requests_in_flight", ""),
    ("reprise_upstream_up", ""),
    ("reprise_coherence_open_intents", ""),
    ("reprise_coherence_unsettled_writes_total", ""),
    ("reprise_cache_invalidated_entries_total", ""),
    (
        "reprise_http_requests_total{code=\"_\",route=\"@\"}",
        "1xx 2xx 3xx 4xx 5xx",
    ),
    (
        "reprise_upstream_requests_total{code=\"_\",route=\"@\"}",
        "1xx 2xx 3xx 4xx 5xx",
    ),
    (
        "reprise_cache_requests_total{result=\"_\",route=\"@\"}",
        RESULTS,
    ),
    (
        "reprise_cache_not_stored_total{reason=\"_\",route=\"@\"}",
        "no_store private set_cookie",
    ),
    (
        "reprise_upstream_errors_total{kind=\"_\"}",
        "connect timeout reset protocol saturated",
    ),
    (
        "reprise_response_bytes_total{encoding=\"_\"}",
        "identity gzip br zstd",
    ),
    (
        "reprise_cache_invalidations_total{source=\"_\"}",
        "write header",
    ),
    ("reprise_cache_evictions_total{cause=\"_\"}", "size expired"),
    (
        "reprise_cache_lookups_total{outcome=\"_\",tier=\"memory\"}",
        "hit miss",
    ),
];

const RESULTS: &str = "hit stale coalesced revalidated miss bypass";

#[tokio::test]
async fn every_series_is_there_at_zero_before_anything_happens() {
    let sidecar = Sidecar::before_url("http://127.0.0.1:9")
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    let text = sidecar.admin("/metrics").await.body;
    let all = series(&text);
    for (name, values) in FROM_THE_START {
        for (route, value) in ["route-0", "other"]
            .into_iter()
            .flat_map(|route| values.split(' ').map(move |value| (route, value)))
        {
            let name = name
                .replace("=\"_", &format!("=\"{value}"))
                .replace('@', route);
            assert_eq!(all.get(name.as_str()), Some(&0.0), "{name}");
        }
    }
    for histogram in [
        "http_request_duration_seconds",
        "upstream_request_duration_seconds",
        "upstream_db_queries",
    ] {
        let name = format!("reprise_{histogram}_count{{route=\"route-0\"}}");
        assert_eq!(all.get(name.as_str()), Some(&0.0), "{name}");
    }
}

/// A label that a client can choose would be a way to take the monitoring down.
#[tokio::test]
async fn no_request_can_make_a_new_series() {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin)
        .route("/a/**", "ttl = \"1m\"\nnegative_ttl = \"1m\"")
        .write("POST /a/{x}/", &["a:{x}", "u:{user}"])
        .start()
        .await;
    let names = |text: &str| {
        series(text)
            .into_keys()
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    let before = names(&sidecar.admin("/metrics").await.body);
    for batch in 0..20 {
        let mut requests = String::new();
        for n in batch * 100..(batch + 1) * 100 {
            let method = ["GET", "GET", "POST", "BREW"][n % 4];
            let (area, last) = (
                ["a", "b"][n % 2],
                if n % 100 == 99 { "close" } else { "keep-alive" },
            );
            requests.push_str(&format!(
                "{method} /{area}/{n}/?q={n} HTTP/1.1\r\nhost: h{n}\r\nauthorization: Token {n}\r\n\
                 content-length: 0\r\naccept: type/{n}\r\nconnection: {last}\r\n\r\n"
            ));
        }
        let answers = raw(&sidecar.address, requests).await;
        assert_eq!(answers.matches("x-cache: ").count(), 100, "{answers}");
    }
    let text = sidecar.admin("/metrics").await.body;
    assert_eq!(names(&text), before);
    assert_eq!(sum(&text, "reprise_cache_requests_total{"), 2000.0);
}

fn sum(text: &str, prefix: &str) -> f64 {
    let all = series(text);
    all.iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(_, value)| value)
        .sum()
}

#[tokio::test]
async fn the_six_results_add_up_to_all_requests() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a"));
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .route("/gone/", "ttl = \"1m\"")
        .start()
        .await;
    let mut told = BTreeMap::<String, f64>::new();
    for (method, path) in [
        ("GET", "/a/"),
        ("GET", "/a/"),
        ("HEAD", "/a/"),
        ("POST", "/a/"),
        ("GET", "/a/"),
        ("GET", "/gone/"),
        ("GET", "/x/"),
        ("PURGE", "/a/"),
        ("TRACE", "/a/"),
        ("GET", "/a%2Fb/"),
        ("GET", "/a/?b"),
    ] {
        let reply = sidecar.call(method, path).send().await;
        *told.entry(reply.cache().to_lowercase()).or_default() += 1.0;
    }
    let text = sidecar.admin("/metrics").await.body;
    assert_eq!(sum(&text, "reprise_http_requests_total{"), 11.0);
    assert_eq!(
        sum(&text, "reprise_http_request_duration_seconds_count{"),
        11.0
    );
    for result in RESULTS.split(' ') {
        let prefix = format!("reprise_cache_requests_total{{result=\"{result}\"");
        let counted = sum(&text, &prefix);
        assert_eq!(counted, told.remove(result).unwrap_or_default(), "{result}");
    }
    assert!(told.is_empty(), "a seventh result: {told:?}");
}

#[tokio::test]
async fn bytes_from_the_cache_are_counted_by_coding() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a".repeat(4000)).json());
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    assert_eq!(sidecar.get("/a/").await.cache(), "MISS");
    assert_eq!(sidecar.get("/a/").await.cache(), "HIT");
    assert_eq!(sidecar.call("HEAD", "/a/").send().await.cache(), "HIT");
    let call = sidecar.call("GET", "/a/").header("accept-encoding", "gzip");
    let packed = call.send().await;
    assert_eq!(
        (
            packed.cache().as_str(),
            packed.field("content-encoding").as_str()
        ),
        ("HIT", "gzip")
    );
    let sent = |coding| format!("reprise_response_bytes_total{{encoding=\"{coding}\"}}");
    assert_eq!(sidecar.metric(&sent("identity")).await, 4000.0);
    assert_eq!(
        sidecar.metric(&sent("gzip")).await,
        packed.bytes.len() as f64
    );
}

async fn logging(origin: &Origin, log: &str) -> Process {
    let plan = Sidecar::before(origin)
        .route("/a/", "ttl = \"1m\"\nstatus_headers = \"debug\"")
        .with(&format!("[log]\naccess = true\n{log}"));
    Process::serving(&plan).await
}

#[tokio::test]
async fn the_access_log_is_one_json_line_per_request() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("four").header("x-query-count", "3"));
    let mut process = logging(&origin, "").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    process
        .call("GET", "/a/?b=2")
        .header("traceparent", trace)
        .send()
        .await
        .is(200, "four", "MISS");
    process.get("/a/?b=2").await.is(200, "four", "HIT");
    process.get("/b/").await.is(404, "not found", "BYPASS");
    process.signal("TERM");
    assert_eq!(process.exit().await, Some(0));

    let lines = process
        .lines()
        .into_iter()
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let lines: Vec<Value> = lines.filter(|line| line["target"] == "access").collect();
    let of = |line: &Value, names: &str| {
        names
            .split(' ')
            .map(|name| line[name].clone())
            .collect::<Value>()
    };
    let names = "route method path status result tier reason app_queries bytes trace_id";
    let (route, id) = ("route-0", "4bf92f3577b34da6a3ce929d0e0e4736");
    let none = Value::Null;
    assert_eq!(lines.len(), 3, "{lines:?}");
    let expected = serde_json::json!([route, "GET", "/a/", 200, "miss", none, none, 3, 4, id]);
    assert_eq!(of(&lines[0], names), expected);
    let expected = serde_json::json!([route, "GET", "/a/", 200, "hit", "l1", none, none, 4, none]);
    assert_eq!(of(&lines[1], names), expected);
    let expected = serde_json::json!([
        "other", "GET", "/b/", 404, "bypass", none, "no-route", none, 9, none
    ]);
    assert_eq!(of(&lines[2], names), expected);
    assert!(
        lines
            .iter()
            .all(|line| line["dur_ms"].is_f64() && line["timestamp"].is_string())
    );
    assert!(
        lines[1]["ttl"].as_i64().is_some_and(|ttl| ttl > 50),
        "{}",
        lines[1]
    );
    assert!(lines[1]["age"].is_u64() && lines[0]["age"].is_null());
}

#[tokio::test]
async fn a_failed_request_is_logged_with_its_reason() {
    let origin = Origin::start().await;
    let plan = Sidecar::before_url("http://127.0.0.1:9").with("[log]\naccess = true");
    let mut process = Process::serving(&plan).await;
    assert_eq!(process.get("/a/").await.status, 502);
    let line: Value = serde_json::from_str(&process.line("\"access\"").await).expect("JSON");
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&502.into(), &"connect".into())
    );
    drop(origin);
}

#[tokio::test]
async fn the_text_format_is_for_people() {
    let origin = Origin::start().await;
    let mut process = logging(&origin, "format = \"text\"").await;
    let line = process.line(" serving ").await;
    let at = line.find("address=").expect("an address");
    let address = line[at + 8..].split(' ').next().expect("an address");
    let call = crate::support::client::Call::new(address, "GET", "/b/?q=1");
    assert_eq!(call.send().await.cache(), "BYPASS");
    let line = process.line("path=").await;
    assert!(
        line.contains(" INFO ") && line.contains("result=\"bypass\""),
        "{line}"
    );
    assert!(!line.contains('\u{1b}') && !line.contains('?'), "{line}");
}

#[tokio::test]
async fn no_line_is_lost_at_the_end() {
    let origin = Origin::start().await;
    let mut process = logging(&origin, "").await;
    let one = "GET /b/ HTTP/1.1\r\nhost: a\r\n\r\n";
    let last = "GET /b/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answers = raw(&process.address(), one.repeat(299) + last).await;
    assert_eq!(answers.matches("x-cache: BYPASS").count(), 300);
    process.signal("TERM");
    assert_eq!(process.exit().await, Some(0));
    let logged = process
        .lines()
        .iter()
        .filter(|line| line.contains("\"access\""))
        .count();
    assert_eq!(logged, 300);
}

#[tokio::test]
async fn no_secret_is_logged_or_answered() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a"));
    origin.on("/b/", |_| reply("b"));
    let mut process = logging(&origin, "level = \"trace\"").await;
    let mut told = String::new();
    for (method, path) in [
        ("GET", "/a/"),
        ("GET", "/a/"),
        ("POST", "/a/"),
        ("GET", "/b/?token=sekrit1"),
    ] {
        let call = process.call(method, path).token("sekrit2");
        let reply = call.header("cookie", "sessionid=sekrit3").send().await;
        assert_ne!(reply.cache(), "");
        told.push_str(&format!("{:?}", reply.headers));
    }
    told.push_str(&process.admin("/metrics").await.body);
    process.signal("TERM");
    assert_eq!(process.exit().await, Some(0));
    told.push_str(&process.lines().join("\n"));
    for secret in ["sekrit1", "sekrit2", "sekrit3"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}
