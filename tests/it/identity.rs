//! Who may share what: scopes, credentials, and the lookup. Never another's answer.

#![expect(clippy::disallowed_methods, reason = "what a test begins ends with it")]

use crate::support::client::Call;
use crate::support::origin::Seen;
use crate::support::{Origin, Plan, Sidecar, reply};

type Fields = &'static [(&'static str, &'static str)];

/// Callers, each of whom some app answers differently from every other.
const CALLERS: [(&str, Fields); 16] = [
    ("anonymous", &[]),
    ("anonymous with cookies", &[("cookie", "theme=dark")]),
    ("alice's token", &[("authorization", "Token alice")]),
    ("bob's token", &[("authorization", "Token bob")]),
    ("another scheme", &[("authorization", "Bearer alice")]),
    ("alice's session", &[("cookie", "sessionid=alice")]),
    ("bob's session", &[("cookie", "theme=dark; sessionid=bob")]),
    ("an empty session", &[("cookie", "sessionid=")]),
    (
        "alice twice",
        &[
            ("authorization", "Token alice"),
            ("cookie", "sessionid=alice"),
        ],
    ),
    (
        "alice and bob",
        &[
            ("authorization", "Token alice"),
            ("cookie", "sessionid=bob"),
        ],
    ),
    (
        "two sessions",
        &[("cookie", "sessionid=alice; sessionid=bob")],
    ),
    (
        "two sessions, turned",
        &[("cookie", "sessionid=bob; sessionid=alice")],
    ),
    (
        "two sessions in two lines",
        &[("cookie", "sessionid=alice"), ("cookie", "sessionid=carol")],
    ),
    (
        "a session and an empty one",
        &[("cookie", "sessionid=alice; sessionid=")],
    ),
    (
        "an empty session and another",
        &[("cookie", "sessionid=; sessionid=alice")],
    ),
    ("a key of the app's own", &[("x-api-key", "alice")]),
];

/// An app that answers with every credential it saw, as it saw it.
async fn showing_credentials(cache_control: &'static str) -> Origin {
    let origin = Origin::start().await;
    origin.on("/a/", move |seen| {
        let answer = reply(credentials(seen));
        if cache_control.is_empty() {
            answer
        } else {
            answer.cache(cache_control)
        }
    });
    origin
}

fn credentials(seen: &Seen) -> String {
    let cookies = seen.field("cookie").split("; ");
    let sessions: Vec<&str> = cookies
        .filter(|pair| pair.starts_with("sessionid=") && *pair != "sessionid=")
        .collect();
    format!(
        "{}|{}|{}",
        seen.field("authorization"),
        seen.field("x-api-key"),
        sessions.join(";")
    )
}

fn shown(fields: Fields) -> String {
    let of = |wanted: &str| {
        let values = fields.iter().filter(|(name, _)| *name == wanted);
        values
            .map(|(_, value)| *value)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let cookies = of("cookie");
    let sessions: Vec<&str> = cookies
        .split("; ")
        .filter(|pair| pair.starts_with("sessionid=") && *pair != "sessionid=")
        .collect();
    format!(
        "{}|{}|{}",
        of("authorization"),
        of("x-api-key"),
        sessions.join(";")
    )
}

fn call(sidecar: &Sidecar, fields: Fields) -> Call {
    fields
        .iter()
        .fold(sidecar.call("GET", "/a/"), |call, (name, value)| {
            call.header(name, value)
        })
}

const FROM: [&str; 4] = [
    "[\"header:Authorization\", \"cookie:sessionid\", \"header:X-Api-Key\"]",
    "[\"cookie:sessionid\", \"header:X-Api-Key\", \"header:Authorization\"]",
    "[\"header:X-Api-Key\", \"cookie:sessionid\"]",
    "[\"cookie:sessionid\", \"header:X-Api-Key\"]",
];

#[tokio::test]
async fn nobody_gets_anothers_answer() {
    for scope in ["auto", "user", "off"] {
        for from in FROM {
            for said in ["", "public, max-age=60", "private, max-age=60", "no-store"] {
                let origin = showing_credentials(said).await;
                let sidecar = Sidecar::before(&origin)
                    .route("/a/", &format!("ttl = \"1m\"\nscope = \"{scope}\""))
                    .with(&format!("[identity]\nfrom = {from}"))
                    .start()
                    .await;
                // Forwards and backwards: each is asked for before and after each other.
                for (caller, fields) in CALLERS.iter().chain(CALLERS.iter().rev()) {
                    let reply = call(&sidecar, fields).send().await;
                    let context = format!("{caller}, {scope}, {from}, {said:?}");
                    assert_eq!(
                        reply.body,
                        shown(fields),
                        "{context}: {}",
                        reply.cache_status()
                    );
                }
            }
        }
    }
}

/// What the loop above would not notice: that nothing is cached at all.
#[tokio::test]
async fn each_scope_keeps_what_it_may() {
    for (scope, anonymous, identified) in [
        ("auto", "HIT", "HIT"),
        ("user", "BYPASS", "HIT"),
        ("off", "BYPASS", "BYPASS"),
    ] {
        let origin = showing_credentials("").await;
        let sidecar = Sidecar::before(&origin)
            .route("/a/", &format!("ttl = \"1m\"\nscope = \"{scope}\""))
            .with(&format!("[identity]\nfrom = {}", FROM[0]))
            .start()
            .await;
        for (caller, fields) in CALLERS {
            call(&sidecar, fields).send().await;
            let reply = call(&sidecar, fields).send().await;
            let own = shown(fields) != "||";
            let expected = if own { identified } else { anonymous };
            reply.is(200, &shown(fields), expected);
            if expected == "BYPASS" {
                let detail = if scope == "off" {
                    "route-off"
                } else {
                    "no-identity"
                };
                assert_eq!(
                    reply.cache_status(),
                    format!("fwd=bypass; detail={detail}"),
                    "{caller}"
                );
            }
        }
    }
}

/// `scope = "shared"` is the operator's word that the answer is the same for all.
#[tokio::test]
async fn a_shared_route_has_one_answer_for_all() {
    let origin = showing_credentials("").await;
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"\nscope = \"shared\"")
        .start()
        .await;
    call(&sidecar, CALLERS[2].1)
        .send()
        .await
        .is(200, "Token alice||", "MISS");
    for (_, fields) in CALLERS {
        call(&sidecar, fields)
            .send()
            .await
            .is(200, "Token alice||", "HIT");
    }
}

#[tokio::test]
async fn the_apps_private_wins_over_a_shared_route() {
    let origin = showing_credentials("private").await;
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"\nscope = \"shared\"")
        .start()
        .await;
    for (_, fields) in CALLERS {
        let reply = call(&sidecar, fields).send().await;
        reply.is(200, &shown(fields), "MISS");
        assert_eq!(reply.cache_status(), "fwd=uri-miss; detail=private");
    }
}

#[tokio::test]
async fn credentials_that_nobody_declared_go_past_the_cache() {
    let origin = showing_credentials("").await;
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .with("[identity]\nfrom = [\"cookie:sessionid\"]")
        .start()
        .await;
    sidecar.get("/a/").await.is(200, "||", "MISS");
    for scheme in ["Token alice", "Negotiate abc", "x"] {
        let call = sidecar.call("GET", "/a/").header("authorization", scheme);
        let reply = call.send().await;
        reply.is(200, &format!("{scheme}||"), "BYPASS");
        assert_eq!(
            reply.cache_status(),
            "fwd=bypass; detail=unknown-credentials"
        );
    }
    sidecar.get("/a/").await.is(200, "||", "HIT");
}

/// A session that is declared does not vouch for a token that is not: the app may go by either.
#[tokio::test]
async fn a_declared_credential_does_not_cover_one_that_is_not() {
    let origin = showing_credentials("").await;
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"\nscope = \"user\"")
        .with("[identity]\nfrom = [\"cookie:sessionid\"]")
        .start()
        .await;
    let session = || {
        sidecar
            .call("GET", "/a/")
            .header("cookie", "sessionid=alice")
    };
    session()
        .token("bob")
        .send()
        .await
        .is(200, "Token bob||sessionid=alice", "MISS");
    session().send().await.is(200, "||sessionid=alice", "MISS");
    session()
        .token("eve")
        .send()
        .await
        .is(200, "Token eve||sessionid=alice", "MISS");
    session().send().await.is(200, "||sessionid=alice", "HIT");
}

#[tokio::test]
async fn spellings_of_one_credential_share() {
    let origin = showing_credentials("").await;
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    sidecar
        .call("GET", "/a/")
        .token("alice")
        .send()
        .await
        .is(200, "Token alice||", "MISS");
    for spelling in ["token alice", "TOKEN  alice"] {
        let call = sidecar.call("GET", "/a/").header("authorization", spelling);
        call.send().await.is(200, "Token alice||", "HIT");
    }
    let other = sidecar
        .call("GET", "/a/")
        .header("authorization", "Token ALICE");
    other.send().await.is(200, "Token ALICE||", "MISS");
}

/// An app that knows whose a token is, and shows bookings by user.
async fn with_users() -> (Origin, Plan) {
    let origin = Origin::start().await;
    let owner = |seen: &Seen| match seen.field("authorization") {
        "Token alice-phone" | "Token alice-desk" => Some("1"),
        "Token bob" => Some("2"),
        _ => None,
    };
    origin.on("/me/", move |seen| match owner(seen) {
        Some(id) => reply(format!("{{\"user\": {{\"id\": {id}}}}}")).json(),
        None => reply("").status(401),
    });
    origin.on("/b/", move |seen| {
        reply(format!("bookings of {:?}", owner(seen)))
    });
    origin.on("/w/", |_| reply("done").status(201));
    let plan = Sidecar::before(&origin)
        .route(
            "/b/",
            "ttl = \"1m\"\nscope = \"user\"\ntags = [\"bookings:{user}\"]",
        )
        .write("POST /w/", &["bookings:{user}"])
        .with("[identity]\nlookup = \"/me/\"\nfield = \"/user/id\"\nttl = \"5m\"");
    (origin, plan)
}

async fn bookings(sidecar: &Sidecar, token: &str) -> crate::support::Reply {
    sidecar.call("GET", "/b/").token(token).send().await
}

#[tokio::test]
async fn one_users_devices_share_and_each_credential_is_looked_up_once() {
    let (origin, plan) = with_users().await;
    let sidecar = plan.start().await;
    let (alice, bob) = ("bookings of Some(\"1\")", "bookings of Some(\"2\")");
    bookings(&sidecar, "alice-phone")
        .await
        .is(200, alice, "MISS");
    bookings(&sidecar, "alice-desk").await.is(200, alice, "HIT");
    bookings(&sidecar, "bob").await.is(200, bob, "MISS");
    for _ in 0..3 {
        bookings(&sidecar, "alice-phone")
            .await
            .is(200, alice, "HIT");
        bookings(&sidecar, "bob").await.is(200, bob, "HIT");
    }
    assert_eq!(origin.hits("/me/"), 3);
    let asked = origin.last("/me/");
    assert_eq!(
        (asked.field("host"), asked.field("accept")),
        ("shop.example", "application/json")
    );
}

#[tokio::test]
async fn a_burst_of_one_user_is_looked_up_once() {
    let (origin, plan) = with_users().await;
    let sidecar = plan.start().await;
    let held = origin.hold("/me/");
    let calls: Vec<_> = (0..8)
        .map(|_| tokio::spawn(sidecar.call("GET", "/b/").token("bob").send()))
        .collect();
    held.arrived(1).await;
    held.release();
    for call in calls {
        assert_eq!(call.await.unwrap().body, "bookings of Some(\"2\")");
    }
    assert_eq!((origin.hits("/me/"), origin.hits("/b/")), (1, 1));
    bookings(&sidecar, "bob")
        .await
        .is(200, "bookings of Some(\"2\")", "HIT");
}

#[tokio::test]
async fn a_write_from_one_device_drops_what_the_other_sees_and_nobody_elses() {
    let (_origin, plan) = with_users().await;
    let sidecar = plan.start().await;
    for token in ["alice-phone", "bob"] {
        assert_eq!(bookings(&sidecar, token).await.cache(), "MISS");
    }
    let write = sidecar.call("POST", "/w/").token("alice-desk").json("{}");
    write.send().await.is(201, "done", "BYPASS");
    assert_eq!(bookings(&sidecar, "bob").await.cache(), "HIT");
    assert_eq!(bookings(&sidecar, "alice-phone").await.cache(), "MISS");
}

/// Whom the app does not know, the cache does not either; and it is not asked about him again at once.
#[tokio::test]
async fn whom_the_app_does_not_know_goes_past_the_cache() {
    let (origin, plan) = with_users().await;
    let sidecar = plan.start().await;
    for _ in 0..3 {
        let reply = bookings(&sidecar, "stranger").await;
        reply.is(200, "bookings of None", "BYPASS");
        assert_eq!(reply.cache_status(), "fwd=bypass; detail=no-identity");
    }
    assert_eq!((origin.hits("/me/"), origin.hits("/b/")), (1, 3));
}

#[tokio::test]
async fn a_write_of_somebody_unknown_drops_the_whole_class() {
    for failing in ["401", "500", "not json", "no id"] {
        let (origin, plan) = with_users().await;
        let sidecar = plan.start().await;
        for token in ["alice-phone", "bob"] {
            assert_eq!(bookings(&sidecar, token).await.cache(), "MISS");
            assert_eq!(bookings(&sidecar, token).await.cache(), "HIT");
        }
        origin.on("/me/", move |_| match failing {
            "401" | "500" => reply("").status(failing.parse().expect("a status")),
            "not json" => reply("<html>"),
            _ => reply("{\"user\": {\"id\": null}}").json(),
        });
        let write = sidecar.call("POST", "/w/").token("alice-desk").json("{}");
        write.send().await.is(201, "done", "BYPASS");
        for token in ["alice-phone", "bob"] {
            assert_eq!(bookings(&sidecar, token).await.cache(), "MISS", "{failing}");
        }
    }
}

/// The next one who waits asks in his place.
#[tokio::test]
async fn a_client_that_leaves_during_its_lookup_holds_nobody_up() {
    let (origin, plan) = with_users().await;
    let sidecar = plan.start().await;
    let held = origin.hold("/me/");
    let first = tokio::spawn(sidecar.call("GET", "/b/").token("bob").send());
    held.arrived(1).await;
    first.abort();
    let second = tokio::spawn(sidecar.call("GET", "/b/").token("bob").send());
    held.arrived(2).await;
    held.release();
    second
        .await
        .unwrap()
        .is(200, "bookings of Some(\"2\")", "MISS");
}
