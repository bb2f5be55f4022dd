//! Session tokens: a client reads its own writes on bounded routes, through any replica.

use crate::support::client::Call;
use crate::support::replicas::{Registers, live, reaches};
use crate::support::{Link, RedisServer, Sidecar, reply, soon};

/// A replica that hears no bell: it reads the log every two seconds only.
const SLOW: &str = "lease = \"8s\"\nmode = \"bounded\"\n";

/// A user of Redis who may not listen to channels.
fn deaf(redis: &RedisServer) -> String {
    redis.cli(&[
        "ACL",
        "SETUSER",
        "deaf",
        "on",
        "nopass",
        "~*",
        "&*",
        "+@all",
        "-subscribe",
    ]);
    format!("redis://deaf@{}", redis.address())
}

async fn pair(app: &Registers, redis: &RedisServer, token: &str) -> (Sidecar, Sidecar) {
    let coherence = format!("{SLOW}session_token = \"{token}\"");
    app.pair_at(&redis.url(), &deaf(redis), &coherence).await
}

/// Writes through one until the other does not know of it yet: that other one, and what the write's answer carried.
async fn ahead(app: &Registers, a: &Sidecar, b: &Sidecar, field: &str) -> String {
    soon("a replica that lags", async {
        loop {
            app.warm(b, 0).await;
            let done = app.raise(a, 0).await;
            if b.get("/r/0").await.body != app.version(0) {
                return done.field(field);
            }
        }
    })
    .await
}

fn with<'a>(sidecar: &Sidecar, name: &'a str, value: &'a str) -> Call {
    sidecar.call("GET", "/r/0").header(name, value)
}

#[tokio::test]
async fn a_client_that_shows_its_token_reads_its_own_write() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let (a, b) = pair(&app, &redis, "header").await;
    let token = ahead(&app, &a, &b, "cache-token").await;
    let got = with(&b, "cache-token", &token).send().await;
    assert_eq!(got.body, app.version(0), "{token} {}", got.cache_status());
    assert!(
        got.cache_status().contains("detail=tag"),
        "{}",
        got.cache_status()
    );
    // It was read from the log, so everybody has it, and the token makes no entry of its own.
    let got = with(&b, "cache-token", &token).send().await;
    got.is(200, &app.version(0), "HIT");
    b.get("/r/0").await.is(200, &app.version(0), "HIT");
    assert_eq!(app.origin.last("/r/0").field("cache-token"), "");
}

/// What the answer to an announced write waited for is its announcement: the token has to name the drop.
#[tokio::test]
async fn the_token_of_an_announced_write_names_its_drop() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let coherence = "lease = \"2s\"\nsession_token = \"header\"";
    let plan = |url: &str| {
        let plan = app.replica_on(url, coherence, "coherence = \"bounded\"");
        plan.route("/strong", "ttl = \"1m\"").start()
    };
    let (a, b) = (plan(&redis.url()).await, plan(&deaf(&redis)).await);
    live(&a).await;
    live(&b).await;
    // The other replica reads the log in between: it knows of the write, and then not of its end.
    soon("a replica that lags", async {
        loop {
            app.warm(&b, 0).await;
            let gate = app.origin.hold("/w/0");
            let write = a.call("POST", "/w/0").begin();
            let open = "reprise_coherence_open_intents";
            reaches(&b, open, |open| open == 1.0).await;
            gate.release();
            let token = write.reply().await.field("cache-token");
            if b.get("/r/0").await.body == app.version(0) {
                continue;
            }
            let got = with(&b, "cache-token", &token).send().await;
            assert_eq!(got.body, app.version(0), "{token} {}", got.cache_status());
            return;
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_as_good_as_none() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let (a, b) = pair(&app, &redis, "header").await;
    ahead(&app, &a, &b, "cache-token").await;
    let got = with(&b, "cache-token", "junk").send().await;
    assert_eq!(got.cache(), "HIT", "{}", got.cache_status());
    assert_ne!(got.body, app.version(0));
}

#[tokio::test]
async fn a_replica_that_cannot_catch_up_asks_the_app() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let link = Link::to(&redis.address()).await;
    let far = format!("redis://{}", link.address());
    let coherence = format!("{SLOW}session_token = \"header\"");
    let (a, b) = app.pair_at(&redis.url(), &far, &coherence).await;
    app.warm(&b, 0).await;
    link.silence();
    let token = app.raise(&a, 0).await.field("cache-token");
    let got = with(&b, "cache-token", &token).send().await;
    got.is(200, &app.version(0), "BYPASS");
    assert_eq!(got.cache_status(), "fwd=bypass; detail=token");
}

#[tokio::test]
async fn a_browser_gets_a_cookie_that_selects_no_variant_and_never_reaches_the_app() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let (a, b) = pair(&app, &redis, "cookie").await;
    let set = ahead(&app, &a, &b, "set-cookie").await;
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let pair = set.split(';').next().expect("a pair");
    let got = with(&b, "cookie", &format!("theme=dark; {pair}"))
        .send()
        .await;
    assert_eq!(got.body, app.version(0), "{}", got.cache_status());
    assert_eq!(app.origin.last("/r/0").field("cookie"), "theme=dark");

    app.origin
        .on("/r/0", |_| reply("varied").header("vary", "Cookie"));
    app.raise(&b, 0).await;
    let first = with(&b, "cookie", pair).send().await;
    assert_eq!(first.cache(), "MISS");
    for other in ["reprise_token=00000000000000ab-7", "reprise_token=junk"] {
        with(&b, "cookie", other)
            .send()
            .await
            .is(200, "varied", "HIT");
    }
}

#[tokio::test]
async fn who_did_not_ask_for_tokens_gets_none() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let sidecar = app.replica(&redis.url(), SLOW).start().await;
    live(&sidecar).await;
    let done = app.raise(&sidecar, 0).await;
    assert_eq!(
        (done.field("cache-token"), done.field("set-cookie")),
        Default::default()
    );
    let refused = {
        app.origin.then("/w/0", reply("no").status(409));
        let sidecar = app
            .replica(&redis.url(), &format!("{SLOW}session_token = \"header\""))
            .start()
            .await;
        sidecar.post("/w/0", "{}").await
    };
    assert_eq!(refused.field("cache-token"), "", "nothing was written");
}
