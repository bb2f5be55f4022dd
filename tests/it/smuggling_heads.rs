//! Request lines and fields made to be read in two ways; [`crate::smuggling`] says what becomes of each.

use crate::smuggling::Fate::{Last, No, One};
use crate::smuggling::{CANARY, Field, GET, get, line, sent, statuses};

/// RFC 9112 §3.2.
#[tokio::test]
async fn a_target_has_one_of_four_forms() {
    let rows = [
        ("GET http://b/a HTTP/1.1", One(GET, "")),
        ("GET HTTP://b/a HTTP/1.1", One(GET, "")),
        ("GET https://b/a HTTP/1.1", One(GET, "")),
        ("GET http://b/a#x HTTP/1.1", One(GET, "")),
        ("GET http://b HTTP/1.1", One("GET / HTTP/1.1", "")),
        ("GET http://b?x HTTP/1.1", One("GET /?x HTTP/1.1", "")),
        ("GET http://me:pw@b/a HTTP/1.1", No(400)),
        ("GET http://b:x/a HTTP/1.1", No(400)),
        ("GET http://b:99999/a HTTP/1.1", No(400)),
        ("GET http:///a HTTP/1.1", No(400)),
        ("GET http:/a HTTP/1.1", No(400)),
        ("GET ftp://b/a HTTP/1.1", No(400)),
        ("GET file:///a HTTP/1.1", No(400)),
        ("GET javascript:a HTTP/1.1", No(400)),
        ("OPTIONS * HTTP/1.1", One("OPTIONS * HTTP/1.1", "")),
        ("GET * HTTP/1.1", No(400)),
        ("POST * HTTP/1.1", No(400)),
        ("CONNECT b:443 HTTP/1.1", No(405)),
        ("CONNECT /a HTTP/1.1", No(405)),
        ("GET b:443 HTTP/1.1", No(400)),
        ("GET b HTTP/1.1", No(400)),
        ("GET a/b HTTP/1.1", No(400)),
        ("GET ?x HTTP/1.1", No(400)),
        ("GET //b/a HTTP/1.1", One("GET //b/a HTTP/1.1", "")),
        ("GET /../a HTTP/1.1", One("GET /../a HTTP/1.1", "")),
        ("GET /%00 HTTP/1.1", One("GET /%00 HTTP/1.1", "")),
        ("GET /%0d%0aa HTTP/1.1", One("GET /%0d%0aa HTTP/1.1", "")),
        ("GET /a\\b HTTP/1.1", One("GET /a\\b HTTP/1.1", "")),
        // Not a URI, but what some clients send; no server reads it as anything else.
        (
            "GET /\u{e9}?\u{e9} HTTP/1.1",
            One("GET /\u{e9}?\u{e9} HTTP/1.1", ""),
        ),
        ("GET /a#b HTTP/1.1", One(GET, "")),
        ("GET /a\u{1}b HTTP/1.1", No(400)),
        ("GET /a\u{7f}b HTTP/1.1", No(400)),
        ("GET /a\0b HTTP/1.1", No(400)),
        ("GET /a\tb HTTP/1.1", No(400)),
        ("GET /a\rb HTTP/1.1", No(400)),
        ("GET /a b HTTP/1.1", No(400)),
        ("GET  /a HTTP/1.1", No(400)),
        ("GET /a  HTTP/1.1", No(400)),
        ("GET\t/a\tHTTP/1.1", No(400)),
        (" GET /a HTTP/1.1", No(400)),
    ];
    let field = Field::new().await;
    field.meet(rows.map(|(row, fate)| (line(row), fate))).await;
    for (target, host) in [
        ("http://b/a", "b"),
        ("https://b:8443/a", "b:8443"),
        ("/a", "a"),
    ] {
        for request in field
            .meets(&line(&format!("GET {target} HTTP/1.1")), &One(GET, ""))
            .await
        {
            assert_eq!(request.all("host"), [host], "{target}");
        }
    }
}

/// RFC 9112 §2.3, §3.1.
#[tokio::test]
async fn only_two_versions_are_spoken_in_text() {
    let long = "M".repeat(300);
    let field = Field::new().await;
    let rows = [
        ("GET /a HTTP/0.9", No(400)),
        ("GET /a HTTP/1.0", Last(GET, "")),
        ("GET /a HTTP/1.2", No(400)),
        ("GET /a HTTP/1.10", No(400)),
        ("GET /a HTTP/01.1", No(400)),
        ("GET /a HTTP/2.0", No(400)),
        ("GET /a HTTP/3.0", No(400)),
        ("GET /a http/1.1", No(400)),
        ("GET /a ICAP/1.1", No(400)),
        ("GET /a HTTP/1.1 ", No(400)),
        ("GET /a", No(400)),
        ("PRI * HTTP/2.0", No(400)),
        ("get /a HTTP/1.1", One("get /a HTTP/1.1", "")),
        ("G=T /a HTTP/1.1", No(400)),
        ("G(T /a HTTP/1.1", No(400)),
    ];
    field.meet(rows.map(|(row, fate)| (line(row), fate))).await;
    field
        .meet([
            ("GET /a\r\n".to_owned(), No(400)),
            (line("PRI * HTTP/2.0\r\n\r\nXX"), No(400)),
        ])
        .await;
    let address = &field.sidecars[0].address;
    let answer = sent(address, line(&format!("{long} /a HTTP/1.1")) + CANARY).await;
    assert_eq!(statuses(&answer), [200, 200]);
    assert_eq!(
        field.app.take().await.0[0].line,
        format!("{long} /a HTTP/1.1")
    );
}

/// RFC 9112 §2.2 and §5. A lone LF may be taken for the end of a line; the app never sees one.
#[tokio::test]
async fn lines_and_fields_have_one_reading() {
    let rows = [
        (get("x\u{1}: a"), No(400)),
        (get("x\0: a"), No(400)),
        (get("x(: a"), No(400)),
        (get("x y: a"), No(400)),
        (get(": a"), No(400)),
        (get("x"), No(400)),
        (get("\u{e9}: a"), No(400)),
        (get("x: a\0b"), No(400)),
        (get("x: a\u{1}b"), No(400)),
        (get("x: a\u{7f}b"), No(400)),
        (get("x: a\rb"), No(400)),
        (get("x: a\r\r\ny: b"), No(400)),
        (get("x: a\r\n\tb"), No(400)),
        (get("x: a\r\n "), No(400)),
        (get("x: \u{e9}\tb"), One(GET, "")),
        (
            get("x: y\ntransfer-encoding: chunked") + "0\r\n\r\n",
            One(GET, ""),
        ),
        ("GET /a HTTP/1.1\nhost: a\n\n".to_owned(), One(GET, "")),
        ("GET /a HTTP/1.1\r\nhost: a\r\n\n".to_owned(), One(GET, "")),
        ("GET /a HTTP/1.1\rhost: a\r\r".to_owned(), No(400)),
        (
            "\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
            One(GET, ""),
        ),
        ("\rGET /a HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), No(400)),
        ("GET /a HTTP/1.1\r\n host: a\r\n\r\n".to_owned(), No(400)),
    ];
    let field = Field::new().await;
    field.meet(rows).await;
    for request in field.meets(&get("x: y\nz: b"), &One(GET, "")).await {
        assert_eq!((request.all("x"), request.all("z")), (vec!["y"], vec!["b"]));
    }
}

/// RFC 9112 §3.2.
#[tokio::test]
async fn there_is_one_host_and_it_can_be_one() {
    let bare = |version: &str, lines: &str| format!("GET /a HTTP/{version}\r\n{lines}\r\n");
    let field = Field::new().await;
    let mut rows = vec![
        (bare("1.1", ""), No(400)),
        (bare("1.0", ""), Last(GET, "")),
        (bare("1.1", "host: a\r\nhost: a\r\n"), No(400)),
        (bare("1.1", "host: a\r\nHost: b\r\n"), No(400)),
        (bare("1.0", "host: a\r\nhost: b\r\n"), No(400)),
        (bare("1.1", "h\u{131}st: a\r\n"), No(400)),
        (bare("1.1", "host: a\r\nh_ost: b\r\n"), One(GET, "")),
        ("GET http://b/a HTTP/1.1\r\n\r\n".to_owned(), No(400)),
        ("GET http://b/a HTTP/1.0\r\n\r\n".to_owned(), Last(GET, "")),
        (
            "GET http://b/a HTTP/1.1\r\nhost: a@c\r\n\r\n".to_owned(),
            No(400),
        ),
    ];
    for host in ["", "a", "a:80", "a:", "[::1]:80", "127.0.0.1"] {
        rows.push((bare("1.1", &format!("host: {host}\r\n")), One(GET, "")));
    }
    for host in [
        "a,b", "a b", "a:b:c", "a:99999", "a:+1", "[::1", "::1", "\u{e9}", "%zz", "a%00",
        "http://a", "a/b", "a@b", "a?b", "a#b", "a\\b", "a;b", "a\tb",
    ] {
        rows.push((bare("1.1", &format!("host: {host}\r\n")), No(400)));
    }
    field.meet(rows).await;
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let field = Field::new().await;
    let mebibyte = "x".repeat(1 << 20);
    let lines = "x: y\r\n".repeat(10_000);
    for request in [
        get(lines.trim_end()),
        get(&"x: y\r\n".repeat(101)),
        get(&format!("x: {mebibyte}")),
        get(&format!("{mebibyte}: x")),
        line(&format!("GET /{mebibyte} HTTP/1.1")),
        line(&format!("{mebibyte} /a HTTP/1.1")),
        line(&format!("GET /a {mebibyte}")),
    ] {
        for sidecar in &field.sidecars {
            let answer = sent(&sidecar.address, request.clone()).await;
            // A connection with bytes that nobody has read is reset, which may overtake the answer.
            let told = statuses(&answer);
            assert!(
                told.iter().all(|status| [400, 431].contains(status)),
                "{told:?}"
            );
            assert!(told.len() < 2, "{told:?}");
            let (whole, odd) = field.app.take().await;
            assert!(whole.is_empty() && odd.is_empty());
        }
    }
}
