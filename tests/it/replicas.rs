//! Several replicas, one Redis: what a client is told through one after a write through another.

use serde_json::json;

use crate::support::client::Call;
use crate::support::replicas::{
    LEASE, Registers, acknowledging, live, members, reaches, settled, waits,
};
use crate::support::{RedisServer, Sidecar, eventually, reply, soon};

const OPEN: &str = "reprise_coherence_open_intents";

/// The values of tier 2.
fn stored(redis: &RedisServer) -> usize {
    let keys = redis.cli(&["KEYS", "reprise:e1:*"]);
    keys.lines().filter(|line| !line.is_empty()).count()
}

async fn purge(sidecar: &Sidecar, body: serde_json::Value) -> serde_json::Value {
    let call = Call::new(&sidecar.admin, "POST", "/api/v1/purge");
    let reply = call.json(&body.to_string()).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.value()
}

#[tokio::test]
async fn a_read_after_a_write_through_another_replica_is_never_the_old_one() {
    const KEYS: usize = 6;
    let (app, redis) = (Registers::start(KEYS).await, RedisServer::start().await);
    let (a, b) = app.pair(&redis, LEASE).await;
    acknowledging(&app, &a, 0).await;
    for round in 0..15 {
        for key in 0..KEYS {
            app.warm(&a, key).await;
            app.warm(&b, key).await;
            let (writer, reader) = if (round + key) % 2 == 0 {
                (&a, &b)
            } else {
                (&b, &a)
            };
            app.raise(writer, key).await;
            let first = app.right(reader, key).await;
            assert_ne!(first.cache(), "HIT", "nobody has asked for it since");
            app.right(writer, key).await;
        }
    }
    assert!(waits(&a, "acknowledged").await > 10.0);
}

#[tokio::test]
async fn while_a_write_is_with_the_app_no_replica_answers_from_its_cache() {
    let (app, redis) = (Registers::start(2).await, RedisServer::start().await);
    let (a, b) = app.pair(&redis, LEASE).await;
    for sidecar in [&a, &b] {
        app.warm(sidecar, 0).await;
        app.warm(sidecar, 1).await;
    }
    let gate = app.origin.hold("/w/0");
    let write = a.call("POST", "/w/0").begin();
    gate.arrived(1).await;
    reaches(&b, OPEN, |open| open == 1.0).await;
    for sidecar in [&a, &b] {
        let got = app.right(sidecar, 0).await;
        assert_eq!(got.cache(), "MISS");
        assert!(
            got.cache_status().contains("detail=dirty"),
            "{}",
            got.cache_status()
        );
        // Its neighbour is not concerned.
        assert_eq!(app.right(sidecar, 1).await.cache(), "HIT");
    }
    gate.release();
    assert_eq!(write.reply().await.status, 200);
    app.right(&b, 0).await;
    app.warm(&b, 0).await;
}

#[tokio::test]
async fn what_one_fetched_the_other_finds_in_redis_and_then_in_memory() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let (a, b) = app.pair(&redis, LEASE).await;
    assert_eq!(app.right(&a, 0).await.cache(), "MISS");
    eventually("it is in Redis", || stored(&redis) == 1).await;
    for detail in ["detail=l2", "detail=l1"] {
        let got = app.right(&b, 0).await;
        assert_eq!(got.cache(), "HIT");
        assert!(
            got.cache_status().contains(detail),
            "{}",
            got.cache_status()
        );
    }
    assert_eq!(app.origin.hits("/r/0"), 1);
}

#[tokio::test]
async fn a_refused_write_drops_nothing_on_either() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let (a, b) = app.pair(&redis, LEASE).await;
    app.warm(&a, 0).await;
    app.warm(&b, 0).await;
    let asked = app.origin.hits("/r/0");
    app.origin.then("/w/0", reply("sold out").status(409));
    let gate = app.origin.hold("/w/0");
    let write = a.call("POST", "/w/0").begin();
    for sidecar in [&a, &b] {
        reaches(sidecar, OPEN, |open| open == 1.0).await;
    }
    gate.release();
    assert_eq!(write.reply().await.status, 409);
    for sidecar in [&a, &b] {
        settled(sidecar).await;
        let got = app.right(sidecar, 0).await;
        assert!(
            got.cache_status().contains("detail=l1"),
            "{}",
            got.cache_status()
        );
    }
    assert_eq!(app.origin.hits("/r/0"), asked);
}

#[tokio::test]
async fn a_write_whose_client_has_left_drops_everywhere() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let (a, b) = app.pair(&redis, LEASE).await;
    app.warm(&a, 0).await;
    app.warm(&b, 0).await;
    let asked = app.origin.hits("/r/0");
    let gate = app.origin.hold("/w/0");
    let write = a.call("POST", "/w/0").begin();
    gate.arrived(1).await;
    reaches(&b, OPEN, |open| open == 1.0).await;
    write.hang_up();
    gate.release();
    for sidecar in [&a, &b] {
        settled(sidecar).await;
        app.right(sidecar, 0).await;
    }
    assert!(app.origin.hits("/r/0") > asked, "nothing was dropped");
}

#[tokio::test]
async fn a_write_without_an_end_stays_uncached_until_its_time_is_over() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let coherence = format!("{LEASE}\nintent_ttl = \"1500ms\"");
    let plan = || {
        let plan = app.replica(&redis.url(), &coherence);
        plan.upstream("timeout = \"300ms\"").start()
    };
    let (a, b) = (plan().await, plan().await);
    live(&a).await;
    live(&b).await;
    app.warm(&a, 0).await;
    app.warm(&b, 0).await;
    let gate = app.origin.hold("/w/0");
    assert_eq!(a.post("/w/0", "{}").await.status, 504);
    for sidecar in [&a, &b] {
        let got = app.right(sidecar, 0).await;
        assert!(
            got.cache_status().contains("detail=dirty"),
            "{}",
            got.cache_status()
        );
    }
    assert_eq!(
        a.metric("reprise_coherence_unsettled_writes_total").await,
        1.0
    );
    for sidecar in [&a, &b] {
        settled(sidecar).await;
        let got = app.right(sidecar, 0).await;
        // The second may find what the first has fetched since.
        assert!(
            !got.cache_status().contains("detail=l1"),
            "it was not dropped"
        );
        app.warm(sidecar, 0).await;
    }
    gate.release();
}

#[tokio::test]
async fn a_lagging_database_keeps_tags_uncached_on_the_other_replica() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let (a, b) = app
        .pair(&redis, &format!("{LEASE}\norigin_lag = \"2s\""))
        .await;
    app.warm(&a, 0).await;
    app.warm(&b, 0).await;
    app.raise(&a, 0).await;
    for sidecar in [&a, &b] {
        assert_eq!(app.right(sidecar, 0).await.cache(), "MISS");
        let got = app.right(sidecar, 0).await;
        assert!(
            got.cache_status().contains("detail=dirty"),
            "{}",
            got.cache_status()
        );
    }
    for sidecar in [&a, &b] {
        settled(sidecar).await;
        app.warm(sidecar, 0).await;
    }
}

#[tokio::test]
async fn a_purge_through_one_reaches_the_other() {
    let (app, redis) = (Registers::start(2).await, RedisServer::start().await);
    let (a, b) = app.pair(&redis, LEASE).await;
    acknowledging(&app, &a, 1).await;
    for (what, detail) in [
        (json!({"tag": "register:0"}), "detail=tag"),
        (json!({"pattern": "/r/0*"}), "detail=tag"),
        (json!({"all": true}), "detail=tag"),
    ] {
        members(&a, 2).await;
        app.warm(&b, 0).await;
        let report = purge(&a, what.clone()).await;
        assert_eq!(report["reached"], "everywhere", "{report}");
        assert_eq!(report["members"], 2, "{report}");
        assert_eq!(report["acknowledged"], true, "{report}");
        let got = app.right(&b, 0).await;
        assert_eq!(got.cache(), "MISS", "{what}");
        assert!(
            got.cache_status().contains("uri-miss"),
            "{} {detail}",
            got.cache_status()
        );
    }
}

#[tokio::test]
async fn a_soft_purge_through_one_makes_it_stale_on_the_other() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let plan = || {
        let route = "stale_while_revalidate = \"5m\"";
        app.replica_on(&redis.url(), LEASE, route).start()
    };
    let (a, b) = (plan().await, plan().await);
    live(&a).await;
    live(&b).await;
    app.warm(&b, 0).await;
    let asked = app.origin.hits("/r/0");
    let report = purge(&a, json!({"tag": "register:0", "soft": true})).await;
    assert_eq!(report["members"], 2, "{report}");
    assert_eq!(app.right(&b, 0).await.cache(), "STALE");
    app.origin.asked("/r/0", asked + 1).await;
    app.warm(&b, 0).await;
}

#[tokio::test]
async fn a_bounded_write_is_seen_here_at_once_and_elsewhere_within_the_lease() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let (a, b) = app
        .pair(&redis, &format!("{LEASE}\nmode = \"bounded\""))
        .await;
    for _ in 0..20 {
        app.warm(&a, 0).await;
        app.raise(&a, 0).await;
        app.right(&a, 0).await;
    }
    app.warm(&b, 0).await;
    app.raise(&a, 0).await;
    let began = tokio::time::Instant::now();
    soon("the other replica has it", async {
        while b.get("/r/0").await.body != app.version(0) {}
    })
    .await;
    let took = began.elapsed();
    assert!(took.as_millis() < 400 + 200, "{took:?}");
}

#[tokio::test]
async fn a_strict_route_is_not_cached_before_older_writes_are_out_of_the_way() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let coherence = format!("{LEASE}\nmode = \"strict\"\nintent_ttl = \"2s\"");
    let plan = || {
        let plan = app.replica(&redis.url(), &coherence);
        plan.upstream("timeout = \"500ms\"").start()
    };
    let began = tokio::time::Instant::now();
    let (a, b) = (plan().await, plan().await);
    live(&a).await;
    live(&b).await;
    let quiet = [app.right(&a, 0).await, app.right(&a, 0).await];
    assert!(
        began.elapsed().as_millis() < 2000,
        "too slow a machine to tell"
    );
    for got in quiet {
        assert_eq!(got.cache(), "MISS", "{}", got.cache_status());
    }
    app.warm(&a, 0).await;
    assert!(began.elapsed().as_millis() >= 2000);
    app.warm(&b, 0).await;
    for _ in 0..5 {
        app.raise(&a, 0).await;
        app.right(&b, 0).await;
        app.warm(&b, 0).await;
    }
}

#[tokio::test]
async fn a_replica_with_another_identity_key_caches_nothing_and_says_so() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let a = app.replica(&redis.url(), LEASE).start().await;
    live(&a).await;
    let log = crate::support::handle::Log::start();
    let b = app
        .replica(&redis.url(), LEASE)
        .identity_key("another")
        .start()
        .await;
    reaches(&b, "reprise_redis_up{use=\"log\"}", |up| up == 1.0).await;
    app.warm(&a, 0).await;
    for _ in 0..20 {
        assert_eq!(app.right(&b, 0).await.cache(), "MISS");
    }
    assert_eq!(b.metric("reprise_coherence_lease_seconds").await, 0.0);
    drop(log);
    // It is told what is wrong with it, and its writes are no danger to the others.
    let done = app.raise(&b, 0).await;
    assert!(
        done.cache_status().contains("uncoordinated"),
        "{}",
        done.cache_status()
    );
}

#[tokio::test]
async fn two_replicas_ask_the_app_once() {
    let (app, redis) = (Registers::start(1).await, RedisServer::start().await);
    let plan = || {
        let route = "coalesce = \"cluster\"";
        app.replica_on(&redis.url(), LEASE, route).start()
    };
    let (a, b) = (plan().await, plan().await);
    live(&a).await;
    live(&b).await;
    let gate = app.origin.hold("/r/0");
    let first = a.call("GET", "/r/0").begin();
    gate.arrived(1).await;
    let second = b.call("GET", "/r/0").begin();
    // It has looked into Redis, and found that somebody asks.
    let looked = "reprise_cache_lookups_total{outcome=\"miss\",tier=\"redis\"}";
    reaches(&b, looked, |count| count >= 2.0).await;
    gate.release();
    first.reply().await.is(200, "0", "MISS");
    second.reply().await.is(200, "0", "HIT");
    assert_eq!(app.origin.hits("/r/0"), 1);
}
