//! Deception: what is one user's own never becomes everybody's, however its address is spelt.
//!
//! The app of these tests is the worst there is: it answers every address with the page of whoever asks, and says
//! nothing about caching.

use crate::support::client::raw;
use crate::support::origin::Scripted;
use crate::support::{Origin, Sidecar, reply};

/// Ways to write the address of the caller's own page below a folder of public files.
const FROM_BELOW: [&str; 33] = [
    "/static/..%25%32fapi/me/",
    "/static/../api/me/",
    "/static/..%2fapi/me/",
    "/static/..%2Fapi%2Fme%2F",
    "/static/%2e%2e/api/me/",
    "/static/%2E./api/me/",
    "/static/.%2e/api/me/",
    "/static/%2e%2e%2fapi/me/",
    "/static/./../api/me/",
    "/static/..\\api\\me\\",
    "/static/..%5capi%5cme%5c",
    "/static/..;/api/me/",
    "/static/..;x=1/api/me/",
    "/static/..%3b/api/me/",
    "/static/;/../api/me/",
    "/static/%00/../api/me/",
    "/static/..%00/api/me/",
    "/static/..%0d%0a/api/me/",
    "/static/..%09/api/me/",
    "/static/..%7f/api/me/",
    "/static//../api/me/",
    "/static/..//api/me/",
    "//static/..%2fapi/me/",
    "/static/..%252fapi/me/",
    "/static/%252e%252e/api/me/",
    "/static/..%255capi/me/",
    "/static/..%c0%afapi/me/",
    "/static/..%e0%80%afapi/me/",
    "/static/%c0%ae%c0%ae/api/me/",
    "/static/..%u2215api/me/",
    "/static/..%/api/me/",
    "/static/..%2/api/me/",
    "/static/..",
];

/// Ways to make the address of the caller's own page look like that of a public file.
const FROM_ABOVE: [&str; 34] = [
    "/api/me/",
    "/api/me",
    "/api/me/x.css",
    "/api/me/x.js?v=1",
    "/api/me/.css",
    "/api/me.css",
    "/api/me.",
    "/api/me/..%2fx.css",
    "/api/me/..%2f..%2fstatic%2fx.css",
    "/api/me/%2e%2e/x.css",
    "/api/me/../../static/x.css",
    "/api/me;.css",
    "/api/me;/static/x.css",
    "/api/me/;x.css",
    "/api/me%3b.css",
    "/api/me%00.css",
    "/api/me%0ax.css",
    "/api/me%0d%0ax.css",
    "/api/me%09.css",
    "/api/me%3fx.css",
    "/api/me%23x.css",
    "/api/me%26x.css",
    "/api/me%2fx.css",
    "/api/me%5cx.css",
    "/api/me%20.css",
    "/api/me%252fx.css",
    "/api/me/%c0%afx.css",
    "/api/%6de/x.css",
    "/api/%6De/",
    "/API/me/x.css",
    "/api/ME/x.css",
    "/api//me/x.css",
    "/api/me//x.css",
    "/api/./me/x.css",
];

async fn showing_whoever_asks(paths: &[&str]) -> Origin {
    let origin = Origin::start().await;
    for path in paths {
        let path = path.split('?').next().expect("a path");
        origin.on(path, |seen| {
            let who = [seen.field("authorization"), seen.field("cookie")].concat();
            reply(format!("the page of <{who}>"))
        });
    }
    origin
}

async fn ask(sidecar: &Sidecar, target: &str, credential: &str) -> String {
    let request = format!(
        "GET {target} HTTP/1.1\r\nhost: shop.example\r\n{credential}connection: close\r\n\r\n"
    );
    raw(&sidecar.address, request).await
}

/// Who asks, one after the other: the victim first, then whoever wants to see what he saw.
const CALLERS: [(&str, &str); 6] = [
    ("authorization: Token alice\r\n", "Token alice"),
    ("cookie: sessionid=alice\r\n", "sessionid=alice"),
    ("", ""),
    ("authorization: Token mallory\r\n", "Token mallory"),
    ("cookie: sessionid=mallory\r\n", "sessionid=mallory"),
    ("authorization: Token alice\r\n", "Token alice"),
];

#[tokio::test]
async fn an_address_that_can_be_read_in_two_ways_shares_nothing() {
    let origin = showing_whoever_asks(&FROM_BELOW).await;
    let sidecar = Sidecar::before(&origin)
        .route("/api/**", "ttl = \"1m\"\nscope = \"user\"")
        .route("/**", "ttl = \"1m\"\nscope = \"shared\"")
        .start()
        .await;
    for target in FROM_BELOW {
        for (credential, who) in CALLERS {
            let got = ask(&sidecar, target, credential).await;
            assert!(got.contains("x-cache: BYPASS\r\n"), "{target}: {got}");
            assert!(
                got.ends_with(&format!("the page of <{who}>")),
                "{target}: {got}"
            );
        }
    }
}

#[tokio::test]
async fn a_users_page_that_looks_like_a_file_is_still_his_own() {
    let origin = showing_whoever_asks(&FROM_ABOVE).await;
    for scope in ["user", "auto"] {
        let sidecar = Sidecar::before(&origin)
            .route("/static/**", "ttl = \"1m\"\nscope = \"shared\"")
            .route("/**", &format!("ttl = \"1m\"\nscope = \"{scope}\""))
            .start()
            .await;
        for target in FROM_ABOVE {
            for (credential, who) in CALLERS.iter().chain(CALLERS.iter().rev()) {
                let got = ask(&sidecar, target, credential).await;
                assert!(
                    got.ends_with(&format!("the page of <{who}>")),
                    "{scope} {target}: {got}"
                );
            }
        }
    }
}

/// What the app adds to an answer.
type Mark = fn(Scripted) -> Scripted;

/// What the app says about an answer counts wherever the address leads, on a shared route too.
#[tokio::test]
async fn what_the_app_keeps_to_one_client_is_given_to_no_other() {
    let marks: [(&str, Mark); 14] = [
        ("cookie", |answer| {
            answer.header("set-cookie", "sessionid=alice")
        }),
        ("cookie and public", |answer| {
            answer
                .cache("public, max-age=60")
                .header("set-cookie", "a=1")
        }),
        ("empty cookie", |answer| answer.header("set-cookie", "")),
        ("private", |answer| answer.cache("private")),
        ("private and a lifetime", |answer| {
            answer.cache("max-age=60, Private")
        }),
        ("private, two lines", |answer| {
            answer.cache("public").cache("private")
        }),
        ("private fields", |answer| {
            answer.cache("private=\"set-cookie\"")
        }),
        ("private with a value", |answer| {
            answer.cache("private=1, max-age=60")
        }),
        ("no-store", |answer| answer.cache("no-store")),
        ("no-store behind a quote", |answer| {
            answer.cache("max-age=\"60, no-store")
        }),
        ("no-store with a value", |answer| {
            answer.cache("no-store=x, max-age=60")
        }),
        ("vary by everything", |answer| answer.header("vary", "*")),
        ("vary by everything, too", |answer| {
            answer.header("vary", "accept").header("vary", "origin,*")
        }),
        ("vary, unreadable", |answer| {
            answer.binary("vary", b"accept\xff".to_vec())
        }),
    ];
    for scope in ["shared", "auto"] {
        for (name, mark) in marks {
            let origin = Origin::start().await;
            origin.on("/x.css", move |seen| {
                mark(reply(format!("<{}>", seen.field("authorization"))))
            });
            let sidecar = Sidecar::before(&origin)
                .route("/**", &format!("ttl = \"1m\"\nscope = \"{scope}\""))
                .start()
                .await;
            for who in ["alice", "mallory", "alice"] {
                let got = sidecar.get_as("/x.css", who).await;
                got.is(200, &format!("<Token {who}>"), "MISS");
            }
            let got = sidecar.get("/x.css").await;
            got.is(200, "<>", "MISS");
            assert_eq!(origin.hits("/x.css"), 4, "{scope}, {name}");
        }
    }
}

/// Fields that are for credentials and nothing else: where `[identity]` does not name them, nobody knows who is asking.
#[tokio::test]
async fn a_credential_that_no_rule_names_is_nobodys() {
    for name in [
        "x-api-key",
        "x-auth-token",
        "remote-user",
        "x-remote-user",
        "x-auth-request-email",
        "x-amzn-oidc-data",
        "cf-access-jwt-assertion",
    ] {
        let origin = Origin::start().await;
        origin.on("/a/", move |seen| reply(format!("<{}>", seen.field(name))));
        let sidecar = Sidecar::before(&origin)
            .route("/a/", "ttl = \"1m\"")
            .start()
            .await;
        for who in ["alice", "mallory"] {
            let got = sidecar.call("GET", "/a/").header(name, who).send().await;
            got.is(200, &format!("<{who}>"), "BYPASS");
            assert_eq!(got.cache_status(), "fwd=bypass; detail=unknown-credentials");
        }
        sidecar.get("/a/").await.is(200, "<>", "MISS");
        let declared = Sidecar::before(&origin)
            .route("/a/", "ttl = \"1m\"")
            .with(&format!("[identity]\nfrom = [\"header:{name}\"]"))
            .start()
            .await;
        for cache in ["MISS", "HIT"] {
            for who in ["alice", "mallory"] {
                let got = declared.call("GET", "/a/").header(name, who).send().await;
                got.is(200, &format!("<{who}>"), cache);
            }
        }
    }
}

/// A user named by a trusted neighbour: who makes the name up is nobody, to the app and to the cache.
#[tokio::test]
async fn a_stranger_cannot_name_himself_as_the_neighbour_would() {
    let origin = Origin::start().await;
    for path in ["/a/", "/b/"] {
        origin.on(path, |seen| {
            reply(format!("<{}>", seen.field("x-forwarded-user")))
        });
    }
    let plan = |trusted: &str| {
        Sidecar::before(&origin)
            .server(&format!("trusted_proxies = {trusted}"))
            .route("/a/", "ttl = \"1m\"\nscope = \"user\"")
            .route("/b/", "ttl = \"1m\"\nscope = \"auto\"")
            .with("[identity]\nfrom = [\"header:X-Forwarded-User\"]")
            .start()
    };
    let (strange, trusting) = (plan("[]").await, plan("[\"127.0.0.0/8\"]").await);
    for (sidecar, path, said, caches) in [
        (&trusting, "/a/", "<root>", ["MISS", "HIT"]),
        (&trusting, "/b/", "<root>", ["MISS", "HIT"]),
        (&strange, "/a/", "<>", ["BYPASS", "BYPASS"]),
        (&strange, "/b/", "<>", ["MISS", "HIT"]),
    ] {
        for cache in caches {
            let call = sidecar.call("GET", path).header("x-forwarded-user", "root");
            call.send().await.is(200, said, cache);
        }
    }
}
