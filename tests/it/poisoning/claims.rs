//! Claims: what a request says of itself, of its way and of its client, by strangers and by trusted neighbours.

use super::{Asked, cached, nobody_notices};
use crate::support::{Origin, Sidecar, reply};

/// Every field that some app, server or framework reads as another host, scheme, path, address or caller.
const CLAIMS: [(&str, Asked); 47] = [
    (
        "x-forwarded-host, a list",
        Asked::fields(b"x-forwarded-host: shop.example, evil.example\r\n"),
    ),
    (
        "x-forwarded-host, blanks",
        Asked::fields(b"x-forwarded-host: shop.example evil.example\r\n"),
    ),
    (
        "forwarded, quoted",
        Asked::fields(b"forwarded: for=\"6.6.6.6;host=evil.example\"\r\n"),
    ),
    (
        "x-forwarded-host",
        Asked::fields(b"x-forwarded-host: evil.example\r\n"),
    ),
    (
        "x-forwarded-host twice",
        Asked::fields(b"x-forwarded-host: shop.example\r\nx-forwarded-host: evil.example\r\n"),
    ),
    (
        "x-forwarded-proto",
        Asked::fields(b"x-forwarded-proto: https\r\n"),
    ),
    (
        "x-forwarded-port",
        Asked::fields(b"x-forwarded-port: 81\r\n"),
    ),
    (
        "x-forwarded-prefix",
        Asked::fields(b"x-forwarded-prefix: /evil\r\n"),
    ),
    (
        "x-forwarded-for",
        Asked::fields(b"x-forwarded-for: 6.6.6.6\r\n"),
    ),
    (
        "x-forwarded-path",
        Asked::fields(b"x-forwarded-path: /evil\r\n"),
    ),
    (
        "x-forwarded-uri",
        Asked::fields(b"x-forwarded-uri: /evil\r\n"),
    ),
    (
        "x-forwarded-method",
        Asked::fields(b"x-forwarded-method: DELETE\r\n"),
    ),
    ("x-forwarded-ssl", Asked::fields(b"x-forwarded-ssl: on\r\n")),
    (
        "x-forwarded-scheme",
        Asked::fields(b"x-forwarded-scheme: https\r\n"),
    ),
    (
        "x-forwarded-server",
        Asked::fields(b"x-forwarded-server: evil.example\r\n"),
    ),
    (
        "x-forwarded-user",
        Asked::fields(b"x-forwarded-user: root\r\n"),
    ),
    ("x-forwarded", Asked::fields(b"x-forwarded: 6.6.6.6\r\n")),
    (
        "x-forwarded-client-cert",
        Asked::fields(b"x-forwarded-client-cert: Subject=root\r\n"),
    ),
    (
        "forwarded",
        Asked::fields(b"forwarded: for=6.6.6.6;host=evil.example;proto=https\r\n"),
    ),
    (
        "x-original-url",
        Asked::fields(b"x-original-url: /admin/\r\n"),
    ),
    (
        "x-original-uri",
        Asked::fields(b"x-original-uri: /admin/\r\n"),
    ),
    (
        "x-original-host",
        Asked::fields(b"x-original-host: evil.example\r\n"),
    ),
    (
        "x-original-method",
        Asked::fields(b"x-original-method: DELETE\r\n"),
    ),
    (
        "x-original-forwarded-for",
        Asked::fields(b"x-original-forwarded-for: 6.6.6.6\r\n"),
    ),
    (
        "x-rewrite-url",
        Asked::fields(b"x-rewrite-url: /admin/\r\n"),
    ),
    (
        "x-rewrite-uri",
        Asked::fields(b"x-rewrite-uri: /admin/\r\n"),
    ),
    ("x-host", Asked::fields(b"x-host: evil.example\r\n")),
    (
        "x-http-host-override",
        Asked::fields(b"x-http-host-override: evil.example\r\n"),
    ),
    ("x-script-name", Asked::fields(b"x-script-name: /evil\r\n")),
    ("x-scheme", Asked::fields(b"x-scheme: https\r\n")),
    ("x-url-scheme", Asked::fields(b"x-url-scheme: https\r\n")),
    ("front-end-https", Asked::fields(b"front-end-https: on\r\n")),
    ("x-real-ip", Asked::fields(b"x-real-ip: 6.6.6.6\r\n")),
    (
        "true-client-ip",
        Asked::fields(b"true-client-ip: 6.6.6.6\r\n"),
    ),
    ("x-client-ip", Asked::fields(b"x-client-ip: 6.6.6.6\r\n")),
    (
        "cf-connecting-ip",
        Asked::fields(b"cf-connecting-ip: 6.6.6.6\r\n"),
    ),
    (
        "x-cluster-client-ip",
        Asked::fields(b"x-cluster-client-ip: 6.6.6.6\r\n"),
    ),
    (
        "fastly-client-ip",
        Asked::fields(b"fastly-client-ip: 6.6.6.6\r\n"),
    ),
    // WSGI makes `HTTP_X_FORWARDED_HOST` of both spellings, and CGI variables of the others.
    (
        "x_forwarded_host",
        Asked::fields(b"X_Forwarded_Host: evil.example\r\n"),
    ),
    (
        "x-forwarded_host",
        Asked::fields(b"X-Forwarded_Host: evil.example\r\n"),
    ),
    (
        "accept_language",
        Asked::fields(b"Accept_Language: evil\r\n"),
    ),
    ("http_host", Asked::fields(b"HTTP_HOST: evil.example\r\n")),
    ("script_name", Asked::fields(b"SCRIPT_NAME: /evil\r\n")),
    ("path_info", Asked::fields(b"PATH_INFO: /admin/\r\n")),
    ("remote_user", Asked::fields(b"REMOTE_USER: root\r\n")),
    ("content_length", Asked::fields(b"CONTENT_LENGTH: 9\r\n")),
    (
        "x_http_method_override",
        Asked::fields(b"X_HTTP_Method_Override: DELETE\r\n"),
    ),
];

#[tokio::test]
async fn what_a_stranger_claims_about_his_request_reaches_nobody() {
    nobody_notices(cached, &CLAIMS).await;
}

#[tokio::test]
async fn what_a_stranger_claims_reaches_nobody_on_a_shared_route() {
    let shared =
        |origin: &Origin| Sidecar::before(origin).route("/**", "ttl = \"1m\"\nscope = \"shared\"");
    nobody_notices(shared, &CLAIMS).await;
}

/// Addresses are everybody's own, and no key has them: what apps make of them they must say in `Vary`.
const ADDRESSES: [&str; 9] = [
    "x-forwarded-for",
    "x-forwarded",
    "x-original-forwarded-for",
    "x-real-ip",
    "true-client-ip",
    "x-client-ip",
    "cf-connecting-ip",
    "x-cluster-client-ip",
    "fastly-client-ip",
];

/// A trusted neighbour may pass on what his client made up: only addresses are believed without a trace in the key.
#[tokio::test]
async fn what_a_trusted_neighbour_passes_on_reaches_nobody_else() {
    let trusting = |origin: &Origin| cached(origin).server("trusted_proxies = [\"127.0.0.0/8\"]");
    let attacks: Vec<_> = CLAIMS
        .into_iter()
        .filter(|(name, _)| !ADDRESSES.contains(name))
        .collect();
    nobody_notices(trusting, &attacks).await;
}

/// What a trusted neighbour says of the way is an entry of its own for each word, and each word has case.
#[tokio::test]
async fn a_trusted_neighbours_words_are_parts_of_the_key() {
    let origin = Origin::start().await;
    let names = [
        "x-forwarded-prefix",
        "x-forwarded-port",
        "x-original-url",
        "forwarded",
    ];
    origin.on("/a/", move |seen| {
        let said = names.map(|name| seen.field(name).replace("for=127.0.0.1;", ""));
        reply(said.join("|"))
    });
    let sidecar = cached(&origin)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;
    let own = "host=shop.example;proto=http";
    for cache in ["MISS", "HIT"] {
        for (name, value, said) in [
            ("x-forwarded-prefix", "/shop", format!("/shop|||{own}")),
            ("x-forwarded-prefix", "/SHOP", format!("/SHOP|||{own}")),
            (
                "x-forwarded-prefix",
                "/shop x-forwarded-port=3831",
                format!("/shop x-forwarded-port=3831|||{own}"),
            ),
            ("x-forwarded-port", "81", format!("|81||{own}")),
            ("x-forwarded-port", "/shop", format!("|/shop||{own}")),
            ("x-original-url", "/shop", format!("||/shop|{own}")),
            ("forwarded", "host=a", format!("|||host=a, {own}")),
            ("forwarded", "host=A", format!("|||host=A, {own}")),
            ("forwarded", "proto=https", format!("|||proto=https, {own}")),
            ("x-unknown", "1", format!("|||{own}")),
        ] {
            let call = sidecar.call("GET", "/a/").header(name, value);
            call.send().await.is(200, &said, cache);
        }
        let both = sidecar
            .call("GET", "/a/")
            .header("x-forwarded-prefix", "/shop")
            .header("x-forwarded-port", "81");
        both.send()
            .await
            .is(200, &format!("/shop|81||{own}"), cache);
    }
}

/// The app's answer depends on who asks by which way: that is nobody else's.
#[tokio::test]
async fn an_answer_that_varies_by_the_way_is_not_kept() {
    for (trusted, vary) in [
        ("[]", "X-Forwarded-For"),
        ("[]", "Accept, Forwarded"),
        ("[]", "via"),
        ("[]", "X-Real-IP"),
        ("[\"127.0.0.0/8\"]", "X-Forwarded-For"),
        ("[\"127.0.0.0/8\"]", "CF-Connecting-IP"),
    ] {
        let origin = Origin::start().await;
        origin.on("/a/", move |seen| {
            reply(seen.field("x-forwarded-for").to_owned()).header("vary", vary)
        });
        let sidecar = cached(&origin)
            .server(&format!("trusted_proxies = {trusted}"))
            .start()
            .await;
        for _ in 0..2 {
            let got = sidecar.get("/a/").await;
            got.is(200, "127.0.0.1", "MISS");
            assert_eq!(got.cache_status(), "fwd=uri-miss; detail=vary", "{vary}");
        }
    }
}

/// The host and the scheme are parts of every key: an app may say so, and its answers are kept.
#[tokio::test]
async fn an_answer_that_varies_by_the_forwarded_host_is_kept() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| {
        reply(seen.field("x-forwarded-host").to_owned())
            .header("vary", "X-Forwarded-Host, X-Forwarded-Proto")
    });
    let sidecar = cached(&origin).start().await;
    sidecar.get("/a/").await.is(200, "shop.example", "MISS");
    let claimed = sidecar
        .call("GET", "/a/")
        .header("x-forwarded-host", "evil.example");
    claimed.send().await.is(200, "shop.example", "HIT");
}
