//! Which requests are one entry: path, query, host and scheme. What is forwarded is always what came.

use crate::support::client::raw;
use crate::support::{Origin, Plan, Sidecar, reply};

/// An app that answers with what it was asked, so that an answer to another question shows.
async fn echo(paths: &[&str]) -> Origin {
    let origin = Origin::start().await;
    for path in paths {
        origin.on(path, |seen| {
            let (host, proto) = (seen.field("host"), seen.field("x-forwarded-proto"));
            reply(format!("{proto}://{host}{}", seen.target))
        });
    }
    origin
}

fn cached(origin: &Origin) -> Plan {
    Sidecar::before(origin).route("/**", "ttl = \"1m\"")
}

#[tokio::test]
async fn queries_that_mean_the_same_are_one_entry() {
    let origin = echo(&["/a/"]).await;
    let sidecar = cached(&origin).start().await;
    let first = "/a/?b=2&a=1&a=0&q=x%20y&t=a-b";
    let body = format!("http://shop.example{first}");
    sidecar.get(first).await.is(200, &body, "MISS");

    for same in [
        "/a/?a=1&a=0&b=2&q=x%20y&t=a-b",
        "/a/?q=x%20y&t=a%2Db&%62=2&a=1&a=0",
        "/a/?b=2&a=1&a=0&q=x%20y&t=a-b&utm_source=mail&gclid=1&fbclid=2",
        "/a/?&b=2&&a=1&a=0&q=x%20y&t=a%2db&",
    ] {
        sidecar.get(same).await.is(200, &body, "HIT");
    }
    assert_eq!(origin.last("/a/").target, first, "byte for byte");
}

#[tokio::test]
async fn queries_that_an_app_may_tell_apart_are_entries_of_their_own() {
    let origin = echo(&["/a/"]).await;
    let sidecar = cached(&origin).start().await;
    for query in [
        "",
        "?a=1&a=0",
        "?a=0&a=1",
        "?a=1",
        "?a=1&A=1",
        "?a=1&b=",
        "?a=1&b",
        "?a=x%26b=1",
        "?a=x&b=1",
        "?a=x+y",
        "?a=x%2By",
        "?a=x%20y",
        // Some apps end a parameter at a semicolon, too: then this asks for q.
        "?utm_source=1;q=1",
        "?utm_source=1;q=2",
        "?b=1&a=1;b=2",
        "?a=1;b=2&b=1",
        // Two spellings of one name: which value comes first means something.
        "?a[]=2&a%5B%5D=1",
        "?a%5B%5D=1&a[]=2",
    ] {
        let path = format!("/a/{query}");
        let body = format!("http://shop.example{path}");
        sidecar.get(&path).await.is(200, &body, "MISS");
        sidecar.get(&path).await.is(200, &body, "HIT");
        assert_eq!(origin.last("/a/").target, path);
    }
}

#[tokio::test]
async fn the_order_and_the_ignored_parameters_are_the_operators_to_say() {
    let origin = echo(&["/a/"]).await;
    let sidecar = cached(&origin)
        .with("[query]\nsort = false\nignore = [\"v\", \"x_*\"]")
        .start()
        .await;
    for (path, cache) in [
        ("/a/?a=1&b=2", "MISS"),
        ("/a/?v=7&a=1&x_y=1&b=2", "HIT"),
        ("/a/?b=2&a=1", "MISS"),
        ("/a/?a=1&b=2&utm_source=1", "MISS"),
        ("/a/?a=1&b=2&vv=1", "MISS"),
    ] {
        assert_eq!(sidecar.get(path).await.cache(), cache, "{path}");
    }
}

#[tokio::test]
async fn paths_that_no_app_tells_apart_are_one_entry() {
    let origin = echo(&["/caf%c3%a9/a-b/"]).await;
    let sidecar = cached(&origin).start().await;
    let first = "/caf%c3%a9/a-b/";
    let body = format!("http://shop.example{first}");
    sidecar.get(first).await.is(200, &body, "MISS");
    for same in [
        "/caf%C3%A9/a-b/",
        "/c%61f%c3%a9/a%2Db/",
        "/%63af%C3%a9/a-%62/",
    ] {
        sidecar.get(same).await.is(200, &body, "HIT");
    }
    assert_eq!(origin.last(first).target, first, "byte for byte");
}

/// Different software reads these in different ways, so nothing is known about them: not cached, not touched.
#[tokio::test]
async fn odd_paths_are_forwarded_as_they_came_and_never_cached() {
    let odd = [
        ("/a%2Fb/", "encoded-slash"),
        ("/a%5cb/", "encoded-slash"),
        ("/a/../b/", "dot-segment"),
        ("/a/%2e%2E/b/", "dot-segment"),
        ("/a/./b/", "dot-segment"),
        ("/a;x=1/", "semicolon"),
        ("/a%3Bx=1/", "semicolon"),
        ("/a%00/", "control-character"),
        ("/a%0d%0ax/", "control-character"),
        ("//a/", "empty-segment"),
        ("/a//b/", "empty-segment"),
        ("/a%zz/", "bad-escape"),
        ("/a%/", "bad-escape"),
    ];
    let origin = echo(&odd.map(|(path, _)| path)).await;
    let sidecar = cached(&origin).start().await;
    for (path, detail) in odd {
        for _ in 0..2 {
            let request =
                format!("GET {path}?b=1&a=2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let answer = raw(&sidecar.address, request).await;
            assert!(answer.contains("x-cache: BYPASS\r\n"), "{path}: {answer}");
            let status = format!("cache-status: reprise; fwd=bypass; detail={detail}\r\n");
            assert!(answer.contains(&status), "{path}: {answer}");
            assert!(
                answer.ends_with(&format!("http://x{path}?b=1&a=2")),
                "{path}: {answer}"
            );
        }
        assert_eq!(origin.hits(path), 2, "{path}");
    }
}

/// A write to a path that cannot be read may have changed anything.
#[tokio::test]
async fn a_write_to_an_odd_path_drops_everything() {
    let origin = echo(&["/a/", "/b%2Fc/"]).await;
    let sidecar = cached(&origin).start().await;
    sidecar
        .get("/a/")
        .await
        .is(200, "http://shop.example/a/", "MISS");
    sidecar
        .get("/a/")
        .await
        .is(200, "http://shop.example/a/", "HIT");
    let body = "http://shop.example/b%2Fc/";
    sidecar.post("/b%2Fc/", "{}").await.is(200, body, "BYPASS");
    sidecar
        .get("/a/")
        .await
        .is(200, "http://shop.example/a/", "MISS");
}

/// The app writes links with the host and the scheme it is told.
#[tokio::test]
async fn hosts_and_schemes_are_entries_of_their_own() {
    let origin = echo(&["/a/"]).await;
    let sidecar = cached(&origin)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;
    for (host, proto, cache) in [
        ("one.example", "http", "MISS"),
        ("one.example", "https", "MISS"),
        ("two.example", "http", "MISS"),
        ("one.example:8080", "http", "MISS"),
        ("one.example", "http", "HIT"),
        ("one.example", "https", "HIT"),
        ("two.example", "http", "HIT"),
    ] {
        let call = sidecar.call("GET", "/a/").header("host", host);
        let reply = call.header("x-forwarded-proto", proto).send().await;
        reply.is(200, &format!("{proto}://{host}/a/"), cache);
    }
    let capitals = sidecar.call("GET", "/a/").header("host", "ONE.example");
    capitals
        .send()
        .await
        .is(200, "http://one.example/a/", "HIT");
}

#[tokio::test]
async fn a_strangers_word_about_the_scheme_or_the_host_makes_no_other_entry() {
    let origin = echo(&["/a/"]).await;
    let sidecar = cached(&origin).start().await;
    let body = "http://shop.example/a/";
    sidecar.get("/a/").await.is(200, body, "MISS");
    for (name, value) in [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "proto=https;host=evil.example"),
        ("x-forwarded-port", "81"),
    ] {
        let call = sidecar.call("GET", "/a/").header(name, value);
        call.send().await.is(200, body, "HIT");
        assert_eq!(origin.last("/a/").field("x-forwarded-host"), "shop.example");
    }
}

/// Some apps write links with `Host`, others with `X-Forwarded-Host`: an entry is for one pair of both.
#[tokio::test]
async fn a_forwarded_host_does_not_hide_the_host() {
    let origin = echo(&["/a/"]).await;
    origin.on("/b/", |seen| {
        reply(seen.field("x-forwarded-host").to_owned())
    });
    let sidecar = cached(&origin)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;
    for (host, forwarded) in [
        ("evil.example", "shop.example"),
        ("shop.example", "shop.example"),
        ("shop.example", "evil.example"),
    ] {
        for (path, answer) in [
            ("/a/", format!("http://{host}/a/")),
            ("/b/", forwarded.to_owned()),
        ] {
            for cache in ["MISS", "HIT"] {
                let call = sidecar.call("GET", path).header("host", host);
                let reply = call.header("x-forwarded-host", forwarded).send().await;
                reply.is(200, &answer, cache);
            }
        }
    }
}
