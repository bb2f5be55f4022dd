//! Vary: the secondary key (RFC 9111 §4.1).

use crate::support::{Origin, Plan, Reply, Sidecar, reply};

/// An app whose answer repeats a request field and says that it varies by some.
async fn repeating(field: &'static str, vary: &'static str) -> Origin {
    let origin = Origin::start().await;
    origin.on("/a/", move |seen| {
        let answer = reply(seen.field(field).to_owned());
        if vary.is_empty() {
            answer
        } else {
            answer.header("vary", vary)
        }
    });
    origin
}

fn cached(origin: &Origin, knobs: &str) -> Plan {
    Sidecar::before(origin).route("/a/", &format!("ttl = \"1m\"\n{knobs}"))
}

async fn ask(sidecar: &Sidecar, field: &str, value: &str) -> Reply {
    sidecar.call("GET", "/a/").header(field, value).send().await
}

#[tokio::test]
async fn each_language_has_its_own_answer() {
    let origin = repeating("accept-language", "Accept-Language").await;
    let sidecar = cached(&origin, "").start().await;
    for (language, body, cache) in [
        ("de", "de", "MISS"),
        ("fr, de;q=0.5", "fr, de;q=0.5", "MISS"),
        ("de", "de", "HIT"),
        ("DE", "de", "HIT"),
        ("fr,de; q=0.5", "fr, de;q=0.5", "HIT"),
        ("de;q=0.5, fr", "de;q=0.5, fr", "MISS"),
        ("", "", "MISS"),
        ("de", "de", "HIT"),
    ] {
        ask(&sidecar, "accept-language", language)
            .await
            .is(200, body, cache);
    }
    let other = ask(&sidecar, "accept-language", "it").await;
    assert_eq!(other.cache_status(), "fwd=vary-miss; stored");
    sidecar.get("/a/").await.is(200, "", "MISS");
}

#[tokio::test]
async fn only_the_cookies_that_matter_select_an_answer() {
    let origin = repeating("cookie", "Cookie").await;
    let sidecar = cached(&origin, "cookies = [\"lang\", \"theme\"]")
        .start()
        .await;
    for (cookie, body, cache) in [
        ("lang=de; _ga=1", "lang=de; _ga=1", "MISS"),
        ("_ga=2; lang=de", "lang=de; _ga=1", "HIT"),
        ("lang=fr", "lang=fr", "MISS"),
        ("theme=dark; lang=de", "theme=dark; lang=de", "MISS"),
        ("lang=de; x=1; theme=dark", "theme=dark; lang=de", "HIT"),
        ("_ga=3", "_ga=3", "MISS"),
        ("_ga=4", "_ga=3", "HIT"),
    ] {
        ask(&sidecar, "cookie", cookie).await.is(200, body, cache);
    }
}

#[tokio::test]
async fn without_a_list_every_cookie_selects_an_answer() {
    let origin = repeating("cookie", "Cookie").await;
    let sidecar = cached(&origin, "").start().await;
    for (cookie, body, cache) in [
        ("a=1", "a=1", "MISS"),
        ("a=2", "a=2", "MISS"),
        ("a=1", "a=1", "HIT"),
        ("b=1; a=1", "b=1; a=1", "MISS"),
        ("a=1; b=1", "b=1; a=1", "HIT"),
    ] {
        ask(&sidecar, "cookie", cookie).await.is(200, body, cache);
    }
}

#[tokio::test]
async fn what_a_route_declares_meaningless_selects_nothing() {
    let origin = repeating("accept-language", "Accept-Language, Cookie").await;
    let sidecar = cached(&origin, "vary_ignore = [\"Accept-Language\"]")
        .start()
        .await;
    ask(&sidecar, "accept-language", "de")
        .await
        .is(200, "de", "MISS");
    ask(&sidecar, "accept-language", "fr")
        .await
        .is(200, "de", "HIT");
    ask(&sidecar, "cookie", "a=1").await.is(200, "", "MISS");
}

#[tokio::test]
async fn what_the_app_forgets_to_say_a_route_can_declare() {
    let origin = repeating("accept", "").await;
    let sidecar = cached(&origin, "key_headers = [\"Accept\"]").start().await;
    for (accept, body, cache) in [
        ("application/json", "application/json", "MISS"),
        ("text/csv", "text/csv", "MISS"),
        ("Application/JSON", "application/json", "HIT"),
        ("text/csv", "text/csv", "HIT"),
    ] {
        ask(&sidecar, "accept", accept).await.is(200, body, cache);
    }
}

#[tokio::test]
async fn an_answer_that_varies_by_everything_is_not_kept() {
    for vary in ["*", "Accept, *", "not a name"] {
        let origin = repeating("accept", vary).await;
        let sidecar = cached(&origin, "").start().await;
        for _ in 0..2 {
            let reply = ask(&sidecar, "accept", "x").await;
            reply.is(200, "x", "MISS");
            assert_eq!(reply.cache_status(), "fwd=uri-miss; detail=vary");
        }
    }
}

#[tokio::test]
async fn the_clients_coding_never_selects() {
    let origin = repeating("accept-encoding", "Accept-Encoding").await;
    let sidecar = cached(&origin, "").start().await;
    ask(&sidecar, "accept-encoding", "gzip")
        .await
        .is(200, "identity", "MISS");
    ask(&sidecar, "accept-encoding", "br")
        .await
        .is(200, "identity", "HIT");
}

#[tokio::test]
async fn variants_of_one_key_are_bounded_and_the_oldest_goes() {
    let origin = repeating("accept-language", "Accept-Language").await;
    let sidecar = cached(&origin, "").start().await;
    let languages: Vec<String> = (0..17).map(|n| format!("l{n}")).collect();
    for language in &languages {
        ask(&sidecar, "accept-language", language)
            .await
            .is(200, language, "MISS");
    }
    for language in &languages[1..] {
        ask(&sidecar, "accept-language", language)
            .await
            .is(200, language, "HIT");
    }
    ask(&sidecar, "accept-language", "l0")
        .await
        .is(200, "l0", "MISS");
    ask(&sidecar, "accept-language", "l16")
        .await
        .is(200, "l16", "HIT");
    ask(&sidecar, "accept-language", "l1")
        .await
        .is(200, "l1", "MISS");
}

/// The fields a stored answer varies by are those its own `Vary` names, not those of the answer before it.
#[tokio::test]
async fn an_app_may_change_its_mind_about_vary() {
    let origin = Origin::start().await;
    origin.then("/a/", reply("any"));
    origin.on("/a/", |seen| {
        reply(seen.field("accept-language").to_owned()).header("vary", "accept-language")
    });
    let sidecar = cached(&origin, "tags = [\"a\"]")
        .write("POST /w/", &["a"])
        .start()
        .await;
    origin.on("/w/", |_| reply("done"));
    ask(&sidecar, "accept-language", "de")
        .await
        .is(200, "any", "MISS");
    ask(&sidecar, "accept-language", "fr")
        .await
        .is(200, "any", "HIT");
    sidecar.post("/w/", "{}").await.is(200, "done", "BYPASS");
    ask(&sidecar, "accept-language", "de")
        .await
        .is(200, "de", "MISS");
    ask(&sidecar, "accept-language", "fr")
        .await
        .is(200, "fr", "MISS");
    ask(&sidecar, "accept-language", "de")
        .await
        .is(200, "de", "HIT");
}
