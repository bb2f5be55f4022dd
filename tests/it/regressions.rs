//! One test per defect that was found from outside, named for what went wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::client::raw;
use crate::support::origin::Seen;
use crate::support::{Origin, Sidecar, reply};

/// An app whose session `s` is alice's until a login makes it bob's, and that answers with the user's name.
async fn app_with_logins() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    let is_bobs = Arc::new(AtomicBool::new(false));
    let logged_in = Arc::clone(&is_bobs);
    let user = move |seen: &Seen| match seen.field("cookie").contains("=s") {
        true if is_bobs.load(Ordering::SeqCst) => "bob",
        _ => "alice",
    };
    let who = user.clone();
    origin.on("/me/", move |seen| {
        reply(format!("{{\"id\": \"{}\"}}", who(seen))).json()
    });
    for path in ["/u/1/", "/u/2/"] {
        let user = user.clone();
        origin.on(path, move |seen| reply(user(seen)));
    }
    origin.on("/login/", move |_| {
        logged_in.store(true, Ordering::SeqCst);
        reply("ok")
    });
    let lookup = "[identity]\nlookup = \"/me/\"\nfield = \"/id\"";
    let route = "ttl = \"1m\"\nscope = \"user\"";
    let sidecar = Sidecar::before(&origin)
        .with(lookup)
        .route("/u/**", route)
        .start()
        .await;
    (origin, sidecar)
}

#[tokio::test]
async fn an_answer_from_across_a_login_was_stored_under_the_old_user() {
    let (origin, sidecar) = app_with_logins().await;
    let session = |path| sidecar.call("GET", path).header("cookie", "sessionid=s");
    session("/u/1/").send().await.is(200, "alice", "MISS");
    // The login takes place at the app while the answer to a read is on its way, held there.
    let login = origin.hold("/login/");
    let written = sidecar
        .call("POST", "/login/")
        .header("cookie", "sessionid=s")
        .begin();
    login.arrived(1).await;
    session("/u/2/").send().await.is(200, "bob", "MISS");
    login.release();
    written.reply().await.is(200, "ok", "BYPASS");
    sidecar
        .call("GET", "/u/2/")
        .token("alice")
        .send()
        .await
        .is(200, "alice", "MISS");
    session("/u/1/").send().await.is(200, "bob", "MISS");
}

#[tokio::test]
async fn a_login_with_a_second_credential_beside_it_left_the_first_ones_owner() {
    for extra in [("authorization", "Bearer junk"), ("cookie", "sessionid=zz")] {
        let (_, sidecar) = app_with_logins().await;
        let session = || sidecar.call("GET", "/u/1/").header("cookie", "sessionid=s");
        session().send().await.is(200, "alice", "MISS");
        session().send().await.is(200, "alice", "HIT");
        let login = sidecar
            .call("POST", "/login/")
            .header("cookie", "sessionid=s");
        login
            .header(extra.0, extra.1)
            .send()
            .await
            .is(200, "ok", "BYPASS");
        session().send().await.is(200, "bob", "MISS");
    }
}

#[tokio::test]
async fn ids_beyond_64_bits_met_as_doubles() {
    let origin = Origin::start().await;
    origin.on("/me/", |seen| {
        let last = seen.field("authorization").chars().last().unwrap_or('0');
        reply(format!("{{\"id\": 1844674407370955161{last}}}")).json()
    });
    origin.on("/u/", |seen| reply(seen.field("authorization").to_owned()));
    origin.on("/st/18446744073709551616/", |_| reply("seats"));
    origin.on("/w/", |_| reply("ok"));
    let sidecar = Sidecar::before(&origin)
        .with("[identity]\nlookup = \"/me/\"\nfield = \"/id\"")
        .route("/u/", "ttl = \"1m\"\nscope = \"user\"")
        .route(
            "/st/{id}/",
            "ttl = \"1m\"\nscope = \"shared\"\ntags = [\"st:{id}\"]",
        )
        .write("POST /w/", &["st:{body.id}"])
        .start()
        .await;
    for token in ["6", "7"] {
        let own = sidecar.call("GET", "/u/").token(token).send().await;
        own.is(200, &format!("Token {token}"), "MISS");
    }
    sidecar
        .get("/st/18446744073709551616/")
        .await
        .is(200, "seats", "MISS");
    sidecar
        .post("/w/", "{\"id\": 18446744073709551616}")
        .await
        .is(200, "ok", "BYPASS");
    sidecar
        .get("/st/18446744073709551616/")
        .await
        .is(200, "seats", "MISS");
}

#[tokio::test]
async fn tags_in_a_line_that_cannot_be_read_were_lost_and_the_answer_stored() {
    let origin = Origin::start().await;
    let line = "\u{e9}";
    origin.on("/a/", move |_| {
        reply("a")
            .header("cache-tag", "x")
            .binary("cache-tag", line.as_bytes()[1..].to_vec())
    });
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    for _ in 0..2 {
        let read = sidecar.get("/a/").await;
        read.is(200, "a", "MISS");
        assert!(
            read.cache_status().ends_with("detail=unreadable"),
            "{}",
            read.cache_status()
        );
    }
}

#[tokio::test]
async fn one_broken_off_request_kept_everything_uncached() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a"));
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    sidecar.get("/a/").await.is(200, "a", "MISS");
    let broken =
        "POST / HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcX";
    let answer = raw(&sidecar.address, broken).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    crate::support::soon("the cache answers again", async {
        while sidecar.get("/a/").await.cache() != "HIT" {}
    })
    .await;
    assert_eq!(sidecar.metric("reprise_coherence_open_intents").await, 0.0);
}

#[tokio::test]
async fn the_body_of_a_get_without_a_length_was_dropped() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| reply(seen.body.clone()));
    let sidecar = Sidecar::before(&origin).start().await;
    // Said aloud: this client too would leave the body out.
    let call = sidecar
        .call("GET", "/a/")
        .header("transfer-encoding", "chunked");
    let call = call.body("hello").chunked();
    call.send().await.is(200, "hello", "BYPASS");
}

#[tokio::test]
async fn an_upgrade_of_this_connection_alone_bypassed_the_cache() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| reply(seen.field("upgrade").to_owned()));
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;
    for cache in ["MISS", "HIT"] {
        let call = sidecar
            .call("GET", "/a/")
            .header("connection", "upgrade, http2-settings");
        let call = call
            .header("upgrade", "h2c")
            .header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA");
        call.send().await.is(200, "", cache);
    }
}

#[tokio::test]
async fn a_shared_route_gave_one_language_to_all() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| {
        let language = seen.field("cookie").split("lang=").nth(1).unwrap_or("en");
        reply(language.to_owned()).header("vary", "Cookie, Authorization")
    });
    let route = "ttl = \"1m\"\nscope = \"shared\"";
    let sidecar = Sidecar::before(&origin).route("/a/", route).start().await;
    let get = |cookie| sidecar.call("GET", "/a/").header("cookie", cookie).send();
    get("sessionid=1; lang=de").await.is(200, "de", "MISS");
    get("sessionid=2; lang=de").await.is(200, "de", "HIT");
    get("sessionid=2; lang=fr").await.is(200, "fr", "MISS");
}

#[tokio::test]
async fn a_method_in_disguise_was_held_against_the_rules_of_the_other() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("a"));
    origin.on("/w/", |_| reply("ok"));
    let plan = Sidecar::before(&origin).route("/a/", "ttl = \"1m\"\ntags = [\"a\"]");
    let sidecar = plan
        .route("/w/", "ttl = \"1m\"")
        .write("DELETE /w/", &["a"])
        .start()
        .await;
    for method in ["POST", "GET"] {
        sidecar.get("/a/").await.is(200, "a", "MISS");
        let call = sidecar
            .call(method, "/w/")
            .header("x-http-method-override", "DELETE");
        call.send().await.is(200, "ok", "BYPASS");
    }
    sidecar.get("/a/").await.is(200, "a", "MISS");
}
