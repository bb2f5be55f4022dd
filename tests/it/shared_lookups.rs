//! Identity lookups that replicas share through Redis: asked once, ended everywhere.

use crate::support::replicas::{live, reaches};
use crate::support::sidecar::Plan;
use crate::support::{Origin, RedisServer, Sidecar, eventually, reply};

const ME: &str = "/api/me/";

/// An app that knows Anna by her credentials, and tells how often it has been asked.
async fn app() -> Origin {
    let origin = Origin::start().await;
    origin.on(ME, |_| reply(r#"{"id": 7}"#).json());
    origin.on("/mine/", |seen| {
        reply(seen.field("authorization").to_owned())
    });
    origin.on("/logout/", |_| reply("bye"));
    origin
}

/// A replica that asks the app who somebody is.
fn replica(origin: &Origin, redis: &str, more: &str) -> Plan {
    Sidecar::before(origin)
        .route("/mine/", "ttl = \"1m\"\nscope = \"user\"")
        .with(&format!("[redis]\nurl = {redis:?}\n{more}"))
        .with("[coherence]\nlease = \"400ms\"")
        .with(&format!("[identity]\nlookup = {ME:?}\nfield = \"/id\""))
}

/// Waits until a replica caches, and shares what it asks.
async fn ready(sidecar: &Sidecar) {
    live(sidecar).await;
    reaches(sidecar, "reprise_redis_up{use=\"sessions\"}", |up| {
        up == 1.0
    })
    .await;
}

async fn pair(origin: &Origin, redis: &RedisServer) -> (Sidecar, Sidecar) {
    let url = format!("{}/3", redis.url());
    let a = replica(origin, &url, "").start().await;
    let b = replica(origin, &url, "").start().await;
    ready(&a).await;
    ready(&b).await;
    (a, b)
}

/// How many lookups there are in the database.
fn kept(redis: &RedisServer, database: &str) -> usize {
    let keys = redis.cli(&["-n", database, "KEYS", "reprise:user:*"]);
    keys.lines().filter(|line| !line.is_empty()).count()
}

#[tokio::test]
async fn what_one_replica_asked_the_others_find() {
    let (origin, redis) = (app().await, RedisServer::start().await);
    let (a, b) = pair(&origin, &redis).await;
    a.get_as("/mine/", "anna").await;
    eventually("the answer is shared", || kept(&redis, "2") == 1).await;
    let ttl: i64 = redis
        .cli(&["-n", "2", "PTTL", &redis.cli(&["-n", "2", "KEYS", "*"])])
        .parse()
        .expect("a number");
    assert!((1..=300_000).contains(&ttl), "{ttl}");
    b.get_as("/mine/", "anna")
        .await
        .is(200, "Token anna", "HIT");
    assert_eq!(origin.hits(ME), 1);
    assert_eq!(b.metric("reprise_redis_up{use=\"sessions\"}").await, 1.0);
    assert_eq!(origin.hits("/mine/"), 1);
}

#[tokio::test]
async fn a_logout_through_one_ends_it_on_the_other() {
    let (origin, redis) = (app().await, RedisServer::start().await);
    let (a, b) = pair(&origin, &redis).await;
    a.get_as("/mine/", "anna").await;
    eventually("the answer is shared", || kept(&redis, "2") == 1).await;
    b.get_as("/mine/", "anna").await;
    assert_eq!(origin.hits(ME), 1);

    let logout = a.call("POST", "/logout/").token("anna").send().await;
    assert_eq!(logout.status, 200);
    origin.on(ME, |_| reply("nobody").status(401));
    // Neither what it remembers nor what is in Redis is good any more: the app says that she is nobody.
    let after = b.get_as("/mine/", "anna").await;
    assert_eq!(after.cache(), "BYPASS", "{}", after.cache_status());
    assert_eq!(after.cache_status(), "fwd=bypass; detail=no-identity");
    assert_eq!(origin.hits(ME), 2);
    // And a replica that never knew her does not believe Redis.
    let c = replica(&origin, &format!("{}/3", redis.url()), "")
        .start()
        .await;
    ready(&c).await;
    assert_eq!(c.get_as("/mine/", "anna").await.cache(), "BYPASS");
}

#[tokio::test]
async fn they_are_kept_where_the_file_says() {
    let (origin, redis) = (app().await, RedisServer::start().await);
    let line = format!("session_url = \"{}/5\"", redis.url());
    let a = replica(&origin, &redis.url(), &line).start().await;
    ready(&a).await;
    a.get_as("/mine/", "anna").await;
    eventually("the answer is kept", || kept(&redis, "5") == 1).await;
    assert_eq!(kept(&redis, "2"), 0);
}

#[tokio::test]
async fn a_value_that_is_not_a_lookup_is_none() {
    let (origin, redis) = (app().await, RedisServer::start().await);
    let (a, b) = pair(&origin, &redis).await;
    a.get_as("/mine/", "anna").await;
    eventually("the answer is shared", || kept(&redis, "2") == 1).await;
    let key = redis.cli(&["-n", "2", "KEYS", "*"]);
    redis.cli(&["-n", "2", "SET", &key, "garbage"]);
    b.get_as("/mine/", "anna")
        .await
        .is(200, "Token anna", "HIT");
    assert_eq!(origin.hits(ME), 2);
    // Of another user, it is none either.
    eventually("the answer is shared", || {
        redis.cli(&["-n", "2", "GET", &key]) != "garbage"
    })
    .await;
    b.get_as("/mine/", "bert").await;
    eventually("both are shared", || kept(&redis, "2") == 2).await;
    let keys = redis.cli(&["-n", "2", "KEYS", "*"]);
    let bert = keys.lines().find(|name| *name != key).expect("a key");
    redis.cli(&["-n", "2", "COPY", &key, bert, "REPLACE"]);
    let asked = origin.hits(ME);
    a.get_as("/mine/", "bert").await;
    assert_eq!(origin.hits(ME), asked + 1);
}

#[tokio::test]
async fn without_redis_each_replica_asks_for_itself() {
    let (origin, mut redis) = (app().await, RedisServer::start().await);
    let (a, b) = pair(&origin, &redis).await;
    a.get_as("/mine/", "anna").await;
    redis.kill();
    b.get_as("/mine/", "anna")
        .await
        .is(200, "Token anna", "MISS");
    assert_eq!(origin.hits(ME), 2);
}

#[tokio::test]
async fn nobody_looked_up_means_no_connection_for_it() {
    let (origin, redis) = (app().await, RedisServer::start().await);
    let sidecar = Sidecar::before(&origin)
        .route("/mine/", "ttl = \"1m\"")
        .with(&format!("[redis]\nurl = \"{}\"", redis.url()))
        .start()
        .await;
    live(&sidecar).await;
    let metrics = sidecar.admin("/metrics").await.body;
    assert!(!metrics.contains("use=\"sessions\""));
}
