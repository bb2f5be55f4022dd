//! What the app is told, and what the client is: fields of one hop, `Host`, `Via`, and who asked.

use http::Request;
use http_body_util::{BodyExt, Empty};

use crate::support::client::raw;
use crate::support::line::http2;
use crate::support::{Origin, Sidecar, reply};

const CACHED: &str = "ttl = \"1m\"";

#[tokio::test]
async fn fields_of_one_hop_do_not_reach_the_app() {
    let origin = Origin::start().await;
    origin
        .on("/cached/", |_| reply("ok"))
        .on("/not/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .route("/cached/", CACHED)
        .start()
        .await;

    for (path, cache) in [("/cached/", "MISS"), ("/not/", "BYPASS")] {
        let call = sidecar
            .call("GET", path)
            .header("connection", "keep-alive, x-mine")
            .header("x-mine", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-authorization", "Basic eDp5")
            .header("proxy-connection", "keep-alive")
            .header("te", "gzip")
            .header("upgrade", "h2c")
            .header("x-kept", "1");
        call.send().await.is(200, "ok", cache);
        let seen = origin.last(path);
        for name in [
            "connection",
            "x-mine",
            "keep-alive",
            "proxy-authorization",
            "te",
            "upgrade",
        ] {
            assert_eq!(seen.field(name), "", "{name} at {path}");
        }
        assert_eq!(seen.field("proxy-connection"), "");
        assert_eq!(seen.field("x-kept"), "1");
        assert_eq!(seen.field("host"), "shop.example");
    }
}

#[tokio::test]
async fn fields_of_one_hop_do_not_reach_the_client() {
    let origin = Origin::start().await;
    let private = |_: &_| {
        reply("ok")
            .header("connection", "x-mine, keep-alive")
            .header("x-mine", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-authenticate", "Basic")
            .header("x-kept", "1")
    };
    origin.on("/cached/", private).on("/not/", private);
    let sidecar = Sidecar::before(&origin)
        .route("/cached/", CACHED)
        .start()
        .await;

    for (method, path, cache) in [
        ("GET", "/cached/", "MISS"),
        ("GET", "/cached/", "HIT"),
        ("GET", "/not/", "BYPASS"),
        ("POST", "/not/", "BYPASS"),
    ] {
        let reply = sidecar.call(method, path).send().await;
        reply.is(200, "ok", cache);
        for name in ["x-mine", "keep-alive", "proxy-authenticate", "connection"] {
            assert_eq!(reply.field(name), "", "{name} of {method} {path}");
        }
        assert_eq!(reply.field("x-kept"), "1");
    }
}

#[tokio::test]
async fn connection_cannot_take_away_what_a_key_was_made_of() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| reply(seen.field("authorization").to_owned()));
    let sidecar = Sidecar::before(&origin).route("/a/", CACHED).start().await;

    let call = sidecar.call("GET", "/a/").token("alice");
    let reply = call.header("connection", "authorization").send().await;
    reply.is(200, "Token alice", "MISS");
    sidecar.get("/a/").await.is(200, "", "MISS");
}

#[tokio::test]
async fn a_strangers_word_about_where_he_comes_from_is_replaced() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin).start().await;

    claims(&sidecar).await.is(200, "ok", "BYPASS");
    let seen = origin.last("/a/");
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.example"),
        ("forwarded", "for=127.0.0.1;host=shop.example;proto=http"),
        ("x-real-ip", ""),
        ("x-forwarded-ssl", ""),
        ("host", "shop.example"),
    ] {
        assert_eq!(seen.field(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_trusted_neighbours_word_is_kept_and_added_to() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;

    claims(&sidecar).await.is(200, "ok", "BYPASS");
    let seen = origin.last("/a/");
    for (name, value) in [
        ("x-forwarded-for", "6.6.6.6, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "public.example"),
        (
            "forwarded",
            "for=6.6.6.6, for=127.0.0.1;host=shop.example;proto=https",
        ),
        ("x-real-ip", "6.6.6.6"),
        ("host", "shop.example"),
    ] {
        assert_eq!(seen.field(name), value, "{name}");
    }
}

async fn claims(sidecar: &Sidecar) -> crate::support::Reply {
    sidecar
        .call("GET", "/a/")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "public.example")
        .header("forwarded", "for=6.6.6.6")
        .header("x-real-ip", "6.6.6.6")
        .header("x-forwarded-ssl", "on")
        .send()
        .await
}

/// RFC 9110 §7.6.3.
#[tokio::test]
async fn via_grows_both_ways() {
    let origin = Origin::start().await;
    let behind = |_: &_| reply("ok").header("via", "1.0 inner");
    origin.on("/cached/", behind).on("/not/", behind);
    let sidecar = Sidecar::before(&origin)
        .route("/cached/", CACHED)
        .start()
        .await;

    for (method, path, cache) in [
        ("GET", "/cached/", "MISS"),
        ("GET", "/cached/", "HIT"),
        ("GET", "/not/", "BYPASS"),
        ("POST", "/not/", "BYPASS"),
    ] {
        let reply = sidecar
            .call(method, path)
            .header("via", "1.1 outer")
            .send()
            .await;
        reply.is(200, "ok", cache);
        assert_eq!(
            reply.field("via"),
            "1.0 inner, 1.1 reprise",
            "{method} {path}"
        );
        assert_eq!(origin.last(path).field("via"), "1.1 outer, 1.1 reprise");
    }
}

#[tokio::test]
async fn via_says_which_protocol_the_client_spoke() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin).start().await;

    let answer = raw(&sidecar.address, "GET /a/ HTTP/1.0\r\nhost: x\r\n\r\n").await;
    assert!(answer.contains("x-cache: BYPASS\r\n"), "{answer}");
    assert_eq!(origin.last("/a/").field("via"), "1.0 reprise");

    let body = Empty::new().map_err(|never| match never {}).boxed();
    let request = Request::get("http://x/a/").body(body).unwrap();
    let response = http2(&sidecar.address)
        .await
        .send_request(request)
        .await
        .unwrap();
    assert_eq!(response.headers()["x-cache"], "BYPASS");
    assert_eq!(origin.last("/a/").field("via"), "2 reprise");
}

/// WSGI reads `X_Forwarded_For` and `X-Forwarded-For` as one variable.
#[tokio::test]
async fn fields_with_an_underscore_are_dropped() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;

    let call = sidecar
        .call("GET", "/a/")
        .header("x_forwarded_for", "6.6.6.6")
        .header("script_name", "/admin")
        .header("remote_user", "root");
    call.send().await.is(200, "ok", "BYPASS");
    let seen = origin.last("/a/");
    let names: Vec<&str> = seen.headers.keys().map(|name| name.as_str()).collect();
    assert!(!names.iter().any(|name| name.contains('_')), "{names:?}");
    assert_eq!(seen.field("x-forwarded-for"), "127.0.0.1");
}

/// RFC 9113 §8.2.3: HTTP/2 may send a line per cookie; an app behind HTTP/1.1 gets one line, since some join several
/// with commas, which makes other cookies of them.
#[tokio::test]
async fn cookies_reach_the_app_in_one_line() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("ok")).on("/b/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin).route("/b/", CACHED).start().await;
    let mut client = http2(&sidecar.address).await;

    for (path, cache) in [("/a/", "BYPASS"), ("/b/", "MISS")] {
        let body = Empty::new().map_err(|never| match never {}).boxed();
        let request = Request::get(format!("http://x{path}"))
            .header("cookie", "a=1")
            .header("cookie", "sessionid=s")
            .body(body)
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.headers()["x-cache"], cache);
        let seen = origin.last(path);
        let lines: Vec<_> = seen.headers.get_all("cookie").iter().collect();
        assert_eq!(lines, ["a=1; sessionid=s"]);
    }
}

/// RFC 9112 §3.2.2: the authority of an absolute target is the host, whatever the field says.
#[tokio::test]
async fn an_absolute_target_names_the_host() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| {
        reply(format!("{} {}", seen.target, seen.field("host")))
    });
    let sidecar = Sidecar::before(&origin).route("/a/", CACHED).start().await;

    let request =
        "GET http://one.example/a/?x=1 HTTP/1.1\r\nhost: two.example\r\nconnection: close\r\n\r\n";
    let answer = raw(&sidecar.address, request).await;
    assert!(answer.contains("x-cache: MISS\r\n"), "{answer}");
    assert!(answer.ends_with("/a/?x=1 one.example"), "{answer}");
    let two = sidecar.call("GET", "/a/?x=1").header("host", "two.example");
    two.send().await.is(200, "/a/?x=1 two.example", "MISS");
}
