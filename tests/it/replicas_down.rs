//! Replicas whose Redis is away, hung, full, empty or somebody else's: what is told stays right, and caching comes back.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::replicas::{
    LEASE, Registers, acknowledging, lapsed, live, members, reaches, waits,
};
use crate::support::{Link, RedisServer, Sidecar, eventually, soon};

const LOST: &str = "reprise_coherence_epoch_changes_total{reason=\"lost\"}";

/// Writes and reads in turn through both: nothing that is told is old, and nothing comes from a cache.
async fn works_without_a_cache(app: &Registers, a: &Sidecar, b: &Sidecar) {
    for round in 0..4 {
        let (writer, reader) = if round % 2 == 0 { (a, b) } else { (b, a) };
        app.raise(writer, 0).await;
        for sidecar in [reader, writer] {
            let got = app.right(sidecar, 0).await;
            assert_ne!(got.cache(), "HIT", "{}", got.cache_status());
        }
    }
}

/// Both cache again, and follow each other.
async fn is_as_before(app: &Registers, a: &Sidecar, b: &Sidecar) {
    for sidecar in [a, b] {
        live(sidecar).await;
        app.warm(sidecar, 0).await;
    }
    for (writer, reader) in [(a, b), (b, a)] {
        app.raise(writer, 0).await;
        assert_ne!(app.right(reader, 0).await.cache(), "HIT");
        app.warm(reader, 0).await;
    }
}

/// Two replicas that have stored a register.
async fn stocked(redis: &RedisServer) -> (Registers, Sidecar, Sidecar) {
    let app = Registers::start(1).await;
    let (a, b) = app.pair(redis, LEASE).await;
    app.warm(&a, 0).await;
    app.warm(&b, 0).await;
    (app, a, b)
}

#[tokio::test]
async fn redis_may_come_after_the_replicas() {
    let (app, mut redis) = (Registers::start(1).await, RedisServer::start().await);
    redis.kill();
    let a = app.replica(&redis.url(), LEASE).start().await;
    let b = app.replica(&redis.url(), LEASE).start().await;
    works_without_a_cache(&app, &a, &b).await;
    redis.start_again().await;
    is_as_before(&app, &a, &b).await;
    members(&a, 2).await;
}

#[tokio::test]
async fn a_killed_redis_is_told_and_found_again_empty() {
    let mut redis = RedisServer::start().await;
    let (app, a, b) = stocked(&redis).await;
    assert_eq!(a.metric(LOST).await, 0.0);
    redis.kill();
    app.raise(&a, 0).await;
    app.right(&b, 0).await;
    for sidecar in [&a, &b] {
        lapsed(sidecar).await;
        for client in ["log", "cache"] {
            let up = format!("reprise_redis_up{{use=\"{client}\"}}");
            reaches(sidecar, &up, |up| up == 0.0).await;
        }
    }
    works_without_a_cache(&app, &a, &b).await;
    assert!(waits(&a, "uncoordinated").await >= 1.0);
    redis.start_again().await;
    is_as_before(&app, &a, &b).await;
    for sidecar in [&a, &b] {
        assert!(sidecar.metric(LOST).await >= 1.0);
    }
}

#[tokio::test]
async fn a_hung_redis_costs_a_few_deadlines_and_no_more() {
    let redis = RedisServer::start().await;
    let (app, a, b) = stocked(&redis).await;
    redis.stop();
    lapsed(&a).await;
    lapsed(&b).await;
    app.raise(&a, 0).await;
    let mut slow = 0;
    for _ in 0..40 {
        let began = Instant::now();
        let got = app.right(&b, 0).await;
        assert_ne!(got.cache(), "HIT");
        slow += usize::from(began.elapsed() > Duration::from_millis(40));
    }
    assert!(slow <= 8, "{slow} of 40 reads waited for Redis");
    redis.go_on();
    is_as_before(&app, &a, &b).await;
}

#[tokio::test]
async fn nothing_old_is_told_after_everything_was_deleted() {
    let redis = RedisServer::start().await;
    let (app, a, b) = stocked(&redis).await;
    for _ in 0..5 {
        redis.cli(&["FLUSHALL"]);
        app.raise(&a, 0).await;
        app.right(&b, 0).await;
        is_as_before(&app, &a, &b).await;
    }
    assert!(a.metric(LOST).await >= 5.0);
}

#[tokio::test]
async fn a_full_redis_is_one_that_is_away() {
    let redis = RedisServer::start().await;
    let (app, a, b) = stocked(&redis).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    app.raise(&a, 0).await;
    app.right(&b, 0).await;
    lapsed(&a).await;
    lapsed(&b).await;
    works_without_a_cache(&app, &a, &b).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    is_as_before(&app, &a, &b).await;
}

#[tokio::test]
async fn a_redis_that_became_a_replica_is_one_that_is_away() {
    let redis = RedisServer::start().await;
    let (app, a, b) = stocked(&redis).await;
    redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    app.raise(&a, 0).await;
    app.right(&b, 0).await;
    lapsed(&a).await;
    lapsed(&b).await;
    works_without_a_cache(&app, &a, &b).await;
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    is_as_before(&app, &a, &b).await;
}

#[tokio::test]
async fn a_wrong_password_is_a_redis_that_is_away() {
    let redis = RedisServer::with(&["--requirepass", "secret"]).await;
    let app = Registers::start(1).await;
    let a = app.replica(&redis.url(), LEASE).start().await;
    let b = app.replica(&redis.url(), LEASE).start().await;
    works_without_a_cache(&app, &a, &b).await;
    assert_eq!(a.metric("reprise_redis_up{use=\"log\"}").await, 0.0);
}

#[tokio::test]
async fn foreign_values_under_our_keys_are_misses() {
    let redis = RedisServer::start().await;
    let (app, a, _b) = stocked(&redis).await;
    eventually("it is in Redis", || {
        redis.cli(&["KEYS", "reprise:e1:*"]).contains("e1:")
    })
    .await;
    for key in redis.cli(&["KEYS", "reprise:e1:*"]).lines() {
        redis.cli(&["SET", key, "garbage"]);
    }
    let c = app.replica(&redis.url(), LEASE).start().await;
    live(&c).await;
    assert_eq!(app.right(&c, 0).await.cache(), "MISS");
    let rejected = "reprise_redis_rejected_values_total{reason=\"malformed\"}";
    assert_eq!(c.metric(rejected).await, 1.0);
    // What has another type is an error, counted as one.
    for key in redis.cli(&["KEYS", "reprise:e1:*"]).lines() {
        redis.cli(&["DEL", key]);
        redis.cli(&["LPUSH", key, "garbage"]);
    }
    let d = app.replica(&redis.url(), LEASE).start().await;
    live(&d).await;
    assert_eq!(app.right(&d, 0).await.cache(), "MISS");
    let errors = "reprise_cache_lookups_total{outcome=\"error\",tier=\"redis\"}";
    assert_eq!(d.metric(errors).await, 1.0);
    app.warm(&a, 0).await;
}

#[tokio::test]
async fn a_replica_that_is_cut_off_forwards_says_so_and_tells_it_later() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let link = Link::to(&redis.address()).await;
    let far = format!("redis://{}", link.address());
    let (a, b) = app.pair_at(&redis.url(), &far, "lease = \"2s\"").await;
    app.warm(&a, 0).await;
    app.warm(&b, 0).await;
    link.cut();
    let done = app.raise(&b, 0).await;
    assert!(
        done.cache_status().contains("detail=uncoordinated"),
        "{}",
        done.cache_status()
    );
    assert_ne!(app.right(&b, 0).await.cache(), "HIT");
    // The others do not know of it yet: that is what was chosen.
    assert_eq!(a.get("/r/0").await.cache(), "HIT");
    link.mend();
    soon("the other replica hears of it", async {
        while a.get("/r/0").await.body != app.version(0) {}
    })
    .await;
    is_as_before(&app, &a, &b).await;
}

#[tokio::test]
async fn a_replica_that_is_cut_off_refuses_writes_where_it_has_to() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let link = Link::to(&redis.address()).await;
    let far = format!("redis://{}", link.address());
    let coherence = format!("{LEASE}\non_partition = \"reject\"");
    let (a, b) = app.pair_at(&redis.url(), &far, &coherence).await;
    app.warm(&a, 0).await;
    link.cut();
    let refused = b.post("/w/0", "{}").await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.field("retry-after"), "1");
    assert_eq!(app.origin.hits("/w/0"), 0);
    assert_eq!(waits(&b, "refused").await, 1.0);
    assert_ne!(app.right(&b, 0).await.cache(), "HIT");
    assert_eq!(app.right(&a, 0).await.cache(), "HIT");
    link.mend();
    is_as_before(&app, &a, &b).await;
}

#[tokio::test]
async fn the_log_may_have_a_redis_of_its_own() {
    let app = Registers::start(1).await;
    let (mut data, log) = (RedisServer::start().await, RedisServer::start().await);
    let coherence = format!("{LEASE}\nurl = \"{}\"", log.url());
    let (a, b) = app.pair(&data, &coherence).await;
    app.warm(&a, 0).await;
    eventually("it is in Redis", || {
        data.cli(&["KEYS", "*"]).contains("reprise:e1:")
    })
    .await;
    assert!(!data.cli(&["KEYS", "*"]).contains("log"));
    assert!(log.cli(&["KEYS", "*"]).contains("log"));
    // Without tier 2 the replicas go on, each with its memory.
    data.kill();
    for _ in 0..5 {
        app.warm(&a, 0).await;
        app.warm(&b, 0).await;
        app.raise(&a, 0).await;
        app.right(&b, 0).await;
    }
    assert_eq!(waits(&a, "uncoordinated").await, 0.0);
}

#[tokio::test]
async fn nobody_waits_for_a_replica_that_has_gone_in_good_order() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    // Long, so that it is not taken for dead meanwhile.
    let (a, b) = app.pair(&redis, "lease = \"4s\"").await;
    acknowledging(&app, &a, 0).await;
    members(&a, 2).await;
    let before = waits(&a, "lease").await;
    b.stop().await;
    for _ in 0..3 {
        app.raise(&a, 0).await;
    }
    members(&a, 1).await;
    assert_eq!(waits(&a, "lease").await, before);
}

#[tokio::test]
async fn a_replica_that_was_killed_is_not_waited_for_twice() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let link = Link::to(&redis.address()).await;
    let far = format!("redis://{}", link.address());
    let (a, b) = app.pair_at(&redis.url(), &far, LEASE).await;
    acknowledging(&app, &a, 0).await;
    let before = waits(&a, "lease").await;
    // It says no farewell.
    link.cut();
    drop(b);
    app.raise(&a, 0).await;
    // Its lease ran out, or it was found to be silent for as long: whichever came first.
    let first = waits(&a, "lease").await;
    assert!(first <= before + 1.0, "{first}");
    members(&a, 1).await;
    for _ in 0..3 {
        app.raise(&a, 0).await;
    }
    assert_eq!(waits(&a, "lease").await, first);
}
