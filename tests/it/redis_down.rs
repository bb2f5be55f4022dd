//! What each kind of failure does to the handle on Redis, and how it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reprise::redis::{Kind, MAX_IN_FLIGHT, Password};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::handle::{AT_ONCE, DEADLINE, Handle, Log, MINUTE, bytes, server};
use crate::support::{Desk, Link, RedisCluster, RedisServer, Sentinels};
use crate::support::{eventually, redis as support, soon};

#[tokio::test]
async fn it_starts_without_a_server_and_finds_it_later() {
    let mut server = RedisServer::start().await;
    server.kill();
    let redis = Handle::new(&server.url());
    let began = Instant::now();
    assert_eq!(redis.fails().await, Kind::Connection);
    assert!(began.elapsed() < AT_ONCE);
    assert_eq!(redis.metric("reprise_redis_up", "cache"), 0.0);
    server.start_again().await;
    let redis = redis.connected().await;
    redis.set("k", bytes("v"), MINUTE).await.unwrap();
    assert_eq!(redis.metric("reprise_redis_up", "cache"), 1.0);
    assert_eq!(
        redis.metric("reprise_redis_errors_total", "\"connection\""),
        1.0
    );
}

#[tokio::test]
async fn a_killed_server_fails_commands_at_once_and_is_found_when_it_is_back() {
    let mut server = RedisServer::keeping_data().await;
    let redis = Handle::new(&server.url()).connected().await;
    redis.set("k", bytes("v"), MINUTE).await.unwrap();
    server.kill();
    assert_eq!(redis.fails().await, Kind::Connection);
    assert!(redis.is_missed().await < Duration::from_secs(2));
    for _ in 0..20 {
        let began = Instant::now();
        let kind = redis.fails().await;
        assert!(matches!(kind, Kind::Connection | Kind::Breaker), "{kind:?}");
        assert!(began.elapsed() < AT_ONCE);
    }
    server.start_again().await;
    assert!(redis.answers().await < Duration::from_secs(3));
    assert_eq!(redis.get("k").await.unwrap(), Some(bytes("v")));
    assert_eq!(redis.metric("reprise_redis_breaker_open", "cache"), 0.0);
}

#[tokio::test]
async fn a_hung_server_costs_some_deadlines_and_then_nothing() {
    let (server, redis) = server().await;
    server.stop();
    let began = Instant::now();
    let mut failures = Vec::new();
    while redis.metric("reprise_redis_breaker_open", "cache") == 0.0 {
        let before = Instant::now();
        failures.push(redis.fails().await);
        assert!(
            before.elapsed() < DEADLINE + AT_ONCE * 4,
            "{:?}",
            before.elapsed()
        );
    }
    assert!(began.elapsed() < DEADLINE * 8, "{failures:?}");
    assert_eq!((failures[0], failures.len()), (Kind::Timeout, 5));
    let before = Instant::now();
    assert_eq!(redis.fails().await, Kind::Breaker);
    assert!(before.elapsed() < Duration::from_millis(5));
    assert!(!redis.is_up());
    server.go_on();
    assert!(redis.answers().await < Duration::from_secs(6));
    assert!(redis.is_up());
}

#[tokio::test]
async fn a_hung_server_that_was_sent_much_is_left_and_found_again() {
    let (server, redis) = server().await;
    server.stop();
    // More than the sockets hold: who writes now waits for ever.
    let mut commands = JoinSet::new();
    for number in 0..32 {
        let redis = redis.redis.clone();
        commands.spawn(async move {
            let value = Bytes::from(vec![b'x'; 1 << 20]);
            let set = redis.set(&format!("large:{number}"), value, MINUTE).await;
            set.expect_err("it hangs").kind()
        });
    }
    soon("all of them end", commands.join_all()).await;
    let redis = &redis;
    soon("the connection is given up", async {
        while redis.metric("reprise_redis_up", "cache") == 1.0 {
            let _ = redis.get("k").await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    server.go_on();
    redis.answers().await;
}

#[tokio::test]
async fn a_hung_server_is_noticed_even_if_nobody_asks_it_anything() {
    let (server, redis) = server().await;
    server.stop();
    redis.is_missed().await;
    server.go_on();
    eventually("it is back", || redis.is_up()).await;
}

#[tokio::test]
async fn a_pause_of_the_server_ends_without_a_new_connection() {
    let (server, redis) = server().await;
    let id = || {
        server
            .cli(&["CLIENT", "LIST", "TYPE", "normal"])
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    let before = id();
    server.stop();
    assert_eq!(redis.fails().await, Kind::Timeout);
    server.go_on();
    redis.answers().await;
    assert_eq!(id().split(' ').next(), before.split(' ').next());
}

#[tokio::test]
async fn a_silent_network_is_noticed_and_its_connection_given_up() {
    let server = RedisServer::start().await;
    let link = Link::to(&server.address()).await;
    let redis = Handle::new(&format!("redis://{}", link.address()))
        .connected()
        .await;
    link.silence();
    assert_eq!(redis.fails().await, Kind::Timeout);
    soon("the connection is given up", async {
        while redis.metric("reprise_redis_up", "cache") == 1.0 {
            let _ = redis.get("k").await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    link.mend();
    redis.answers().await;
}

#[tokio::test]
async fn a_cut_network_is_an_error_at_once_and_mends() {
    let server = RedisServer::start().await;
    let link = Link::to(&server.address()).await;
    let redis = Handle::new(&format!("redis://{}", link.address()))
        .connected()
        .await;
    link.delay(Duration::from_millis(20));
    redis.set("k", bytes("v"), MINUTE).await.unwrap();
    link.cut();
    let began = Instant::now();
    assert_eq!(redis.fails().await, Kind::Connection);
    assert!(began.elapsed() < DEADLINE);
    assert!(redis.is_missed().await < Duration::from_secs(2));
    link.mend();
    redis.answers().await;
    assert_eq!(redis.get("k").await.unwrap(), Some(bytes("v")));
}

#[tokio::test]
async fn too_many_commands_at_once_are_refused_at_once() {
    let (server, redis) = server().await;
    server.stop();
    let sent = Arc::new(AtomicUsize::new(0));
    let mut commands = JoinSet::new();
    for _ in 0..MAX_IN_FLIGHT {
        let (redis, sent) = (redis.redis.clone(), Arc::clone(&sent));
        commands.spawn(async move {
            // The same poll sends it.
            sent.fetch_add(1, Ordering::Relaxed);
            redis.get("k").await.expect_err("it hangs").kind()
        });
    }
    eventually("all are sent", || {
        sent.load(Ordering::Relaxed) == MAX_IN_FLIGHT
    })
    .await;
    let began = Instant::now();
    let kind = redis.fails().await;
    assert_eq!(kind, Kind::Busy);
    assert!(began.elapsed() < AT_ONCE);
    server.go_on();
    redis.answers().await;
}

#[tokio::test]
async fn a_full_server_is_an_error_of_that_command_alone() {
    let server = RedisServer::with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).await;
    let redis = Handle::new(&server.url()).connected().await;
    let log = Log::start();
    for _ in 0..20 {
        let error = redis.set("k", bytes("v"), MINUTE).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Reply, "OOM"),
            "{error}"
        );
    }
    assert_eq!(redis.get("k").await.unwrap(), None);
    assert!(redis.is_up());
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.set("k", bytes("v"), MINUTE).await.unwrap();
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("OOM") && lines[1].contains("again"),
        "{lines:?}"
    );
    assert_eq!(
        redis.metric("reprise_redis_errors_total", "\"reply\""),
        20.0
    );
    assert_eq!(redis.metric("reprise_redis_breaker_open", "cache"), 0.0);
}

#[tokio::test]
async fn a_cluster_that_was_away_is_found_by_the_nodes_that_were_learnt() {
    let mut cluster = RedisCluster::start().await;
    let redis = Handle::new(&cluster.url()).connected().await;
    cluster.take_over_from_first().await;
    for number in 0..30 {
        let key = format!("k:{number}");
        soon("a write", async {
            while redis.set(&key, bytes("v"), MINUTE).await.is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_sentinels_say_where_the_primary_is_now() {
    let mut sentinels = Sentinels::start().await;
    let redis = Handle::new(&sentinels.url()).connected().await;
    redis.set("k", bytes("v"), MINUTE).await.unwrap();
    sentinels.replica.until(&["GET", "k"], "v").await;
    sentinels.primary.kill();
    soon("a write", async {
        while redis.set("k", bytes("w"), MINUTE).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(sentinels.replica.cli(&["GET", "k"]), "w");
}

#[tokio::test]
async fn a_wrong_password_is_no_connection_until_the_server_takes_it() {
    let server = RedisServer::with(&["--requirepass", "right"]).await;
    let log = Log::start();
    let odd = "o th\"er '\\x41 #ü";
    let redis = Handle::with(&server.url(), Password::Given(odd.to_owned()));
    server
        .until(&["INFO", "errorstats"], "errorstat_WRONGPASS:count=2")
        .await;
    assert_eq!(redis.fails().await, Kind::Connection);
    server.cli(&["CONFIG", "SET", "requirepass", odd]);
    redis.answers().await;
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("refuses"),
        "{lines:?}"
    );
    assert!(lines[0].contains("WRONGPASS"), "{lines:?}");
    assert!(lines[1].contains("connected to Redis"), "{lines:?}");
    assert!(
        !format!("{lines:?} {:?}", redis.redis).contains("o th"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_password_file_is_read_again_for_each_connection() {
    let desk = Desk::new().file("password", "old\n");
    let server = RedisServer::with(&["--requirepass", "old"]).await;
    let file = desk.path("password");
    let redis = Handle::with(&server.url(), Password::File(file.clone()))
        .connected()
        .await;
    support::write(&file, "new\n");
    server.cli(&["CONFIG", "SET", "requirepass", "new"]);
    kill_clients(&server, "new");
    redis.answers().await;
}

fn kill_clients(server: &RedisServer, password: &str) {
    server.cli(&[
        "-a",
        password,
        "--no-auth-warning",
        "CLIENT",
        "KILL",
        "TYPE",
        "normal",
    ]);
}
