//! The handle on Redis: what its commands do, wherever and however Redis is reached.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use reprise::redis::{Config, Kind, Password, Redis, Script};

use crate::support::handle::{AT_ONCE, DEADLINE, Handle, MINUTE, bytes, server};
use crate::support::{RedisCluster, RedisServer, Sentinels, redis as support, soon};

#[tokio::test]
async fn commands_do_what_they_say() {
    let (server, redis) = server().await;
    assert_eq!(redis.get("k").await.unwrap(), None);
    redis.set("k", bytes("value"), MINUTE).await.unwrap();
    assert_eq!(redis.get("k").await.unwrap(), Some(bytes("value")));
    assert_eq!(redis.get_range("k", 3).await.unwrap(), Some(bytes("val")));
    assert_eq!(
        redis.get_range("k", 99).await.unwrap(),
        Some(bytes("value"))
    );
    assert_eq!(redis.get_range("k", 0).await.unwrap(), None);
    assert_eq!(redis.get_range("none", 3).await.unwrap(), None);
    let left: u64 = server.cli(&["PTTL", "k"]).parse().unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");

    assert!(
        !redis
            .set_if_absent("k", bytes("other"), MINUTE)
            .await
            .unwrap()
    );
    assert!(
        redis
            .set_if_absent("new", bytes("other"), MINUTE)
            .await
            .unwrap()
    );
    assert_eq!(redis.get("k").await.unwrap(), Some(bytes("value")));
    redis.unlink("k").await.unwrap();
    redis.unlink("k").await.unwrap();
    assert_eq!(redis.get("k").await.unwrap(), None);

    let every = Bytes::from((0..=255).collect::<Vec<u8>>());
    redis.set("bytes", every.clone(), MINUTE).await.unwrap();
    assert_eq!(redis.get("bytes").await.unwrap(), Some(every));
}

#[tokio::test]
async fn a_script_gets_its_keys_and_arguments_and_answers_with_a_string() {
    let (server, redis) = server().await;
    let script = Script::new("join", "return KEYS[1] .. ARGV[1] .. ARGV[2]");
    let keys = ["k".to_owned()];
    let run = || redis.run(&script, &keys, vec![bytes("-"), bytes("\0x")]);
    assert_eq!(run().await.unwrap(), bytes("k-\0x"));
    server.cli(&["SCRIPT", "FLUSH"]);
    assert_eq!(run().await.unwrap(), bytes("k-\0x"));
    assert_eq!(server.cli(&["SCRIPT", "EXISTS", "x"]), "0");

    let broken = Script::new("broken", "return redis.call('INCR', KEYS[1])");
    redis.set("k", bytes("no number"), MINUTE).await.unwrap();
    let error = redis
        .run(&broken, &["k".to_owned()], Vec::new())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Reply, "ERR"),
        "{error}"
    );
    let silent = Script::new("silent", "return nil");
    let error = redis.run(&silent, &[], Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Reply, "{error}");
}

#[tokio::test]
async fn a_scan_visits_every_key_and_stops_when_it_is_told_to() {
    let (server, redis) = server().await;
    for number in 0..300 {
        let key = format!("a:{number}");
        redis.set(&key, bytes("x"), MINUTE).await.unwrap();
    }
    server.cli(&["SET", "b:1", "x"]);
    let mut found = BTreeSet::new();
    let all = redis.scan("a:*", 50, async |keys| {
        found.extend(keys);
        true
    });
    all.await.unwrap();
    assert_eq!(found.len(), 300);
    let mut batches = 0;
    let some = redis.scan("a:*", 10, async |_| {
        batches += 1;
        batches < 2
    });
    some.await.unwrap();
    assert_eq!(batches, 2);
}

#[tokio::test]
async fn a_kept_value_does_not_keep_what_was_read_with_it() {
    let (_server, redis) = server().await;
    redis
        .set("large", Bytes::from(vec![b'x'; 4 << 20]), MINUTE)
        .await
        .unwrap();
    redis.set("small", bytes("small"), MINUTE).await.unwrap();
    let (_, small) = tokio::join!(redis.get("large"), redis.get("small"));
    // Bytes that alone own their memory can be taken back without a copy.
    let small = small.unwrap().expect("a value");
    assert!(small.is_unique());
    let held = small.try_into_mut().expect("its own memory");
    assert!(held.capacity() < 64, "{}", held.capacity());
}

#[tokio::test]
async fn a_user_may_do_what_his_rights_say_and_no_more() {
    let rule = "--user me on >secret ~mine:* &mine:* +@connection +get +set +info";
    let server = RedisServer::with(&rule.split(' ').collect::<Vec<_>>()).await;
    let url = format!("redis://me@{}", server.address());
    let redis = Handle::with(&url, Password::Given("secret".to_owned()))
        .connected()
        .await;
    redis.set("mine:1", bytes("v"), MINUTE).await.unwrap();
    for refused in [
        redis.unlink("mine:1").await,
        redis.set("his", bytes("v"), MINUTE).await,
    ] {
        let error = refused.expect_err("no right to it");
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Reply, "NOPERM"),
            "{error}"
        );
    }
    server.cli(&["ACL", "SETUSER", "me", "+unlink"]);
    redis.unlink("mine:1").await.unwrap();
    assert!(redis.is_up());
}

#[tokio::test]
async fn a_unix_socket_and_a_database_are_reached() {
    let server = RedisServer::with(&["--unixsocket", "{dir}/redis.sock"]).await;
    let url = format!("redis+unix://{}?db=3", server.path("redis.sock").display());
    let redis = Handle::new(&url).connected().await;
    redis.set("k", bytes("v"), MINUTE).await.unwrap();
    assert_eq!(server.cli(&["-n", "3", "GET", "k"]), "v");
    let same = Handle::new(&format!("{}/3", server.url()))
        .connected()
        .await;
    assert_eq!(same.get("k").await.unwrap(), Some(bytes("v")));
}

#[tokio::test]
async fn an_encrypted_server_is_believed_if_its_authority_is_trusted() {
    let (certificate, key) = support::certificate();
    let server = RedisServer::encrypted(&certificate, &key).await;
    let ca = server.path("cert.pem");
    let url = format!("rediss://127.0.0.1:{}", server.tls_port());
    let redis = Handle::new(&format!("{url}?ca={}", ca.display()))
        .connected()
        .await;
    redis.set("k", bytes("v"), MINUTE).await.unwrap();

    let stranger = support::certificate().0;
    support::write(&server.path("other.pem"), &stranger);
    let before = server.connections();
    let other = Handle::new(&format!("{url}?ca={}", server.path("other.pem").display()));
    soon("an attempt", async {
        while server.connections() < before + 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(other.fails().await, Kind::Connection);
    let missing = Config {
        url: format!("{url}?ca=/nowhere.pem"),
        password: Password::None,
        command_timeout: DEADLINE,
    };
    let error = Redis::new(missing, other.metrics.redis("log")).unwrap_err();
    assert!(error.starts_with("/nowhere.pem: "), "{error}");
}

#[tokio::test]
async fn a_read_only_replica_is_read_and_refuses_writes() {
    let (primary, redis) = server().await;
    redis.set("k", bytes("v"), MINUTE).await.unwrap();
    let port = primary.port().to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &port]).await;
    replica.until(&["GET", "k"], "v").await;
    let reader = Handle::new(&replica.url()).connected().await;
    assert_eq!(reader.get("k").await.unwrap(), Some(bytes("v")));
    let error = reader.set("k", bytes("w"), MINUTE).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Reply, "READONLY"),
        "{error}"
    );
    assert_eq!(reader.get("k").await.unwrap(), Some(bytes("v")));

    // Another server may be the primary by now: the address is looked up again, but not at every write.
    let before = replica.connections();
    soon("a new connection", async {
        for asked in 1.. {
            let _ = reader.set("k", bytes("w"), MINUTE).await;
            if replica.connections() > before + asked {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_script_knows_how_many_replicas_have_what_it_wrote() {
    let sentinels = Sentinels::start().await;
    let redis = Handle::new(&sentinels.primary.url()).connected().await;
    let script = Script::new("write", "redis.call('SET', KEYS[1], 'v') return 'done'");
    let keys = ["k".to_owned()];
    let write = || redis.run_here(&script, &keys, Vec::new());
    let ran = write().await.unwrap();
    let within = Duration::from_secs(5);
    assert_eq!(ran.wait_for_copies(1, within).await.unwrap(), 1);
    assert_eq!(sentinels.replica.cli(&["GET", "k"]), "v");
    assert_eq!(redis.wait_for_copies(1, within).await.unwrap(), 1);

    sentinels.replica.stop();
    let ran = write().await.unwrap();
    let short = Duration::from_millis(20);
    assert_eq!(ran.wait_for_copies(1, short).await.unwrap(), 0);
    // On another connection Redis would say 1: nothing was written there.
    sentinels.primary.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    redis.answers().await;
    let error = ran.wait_for_copies(1, short).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Connection);
    sentinels.replica.go_on();
}

#[tokio::test]
async fn a_cluster_is_one_redis() {
    let cluster = RedisCluster::start().await;
    let redis = Handle::new(&cluster.url()).connected().await;
    for number in 0..30 {
        let key = format!("k:{number}");
        redis.set(&key, bytes("v"), MINUTE).await.unwrap();
        assert_eq!(redis.get(&key).await.unwrap(), Some(bytes("v")));
    }
    for node in &cluster.nodes {
        let keys: u32 = node.cli(&["DBSIZE"]).parse().unwrap();
        assert!(keys > 0, "each node has some");
    }
    let mut found = Vec::new();
    let all = redis.scan("k:*", 100, async |keys| {
        found.extend(keys);
        true
    });
    all.await.unwrap();
    assert_eq!(found.len(), 30);
    let script = Script::new("both", "return redis.call('GET', KEYS[1]) or KEYS[2]");
    let keys = ["{log}:a".to_owned(), "{log}:b".to_owned()];
    let ran = redis.run_here(&script, &keys, Vec::new()).await.unwrap();
    assert_eq!(ran.reply, bytes("{log}:b"));
    assert_eq!(ran.wait_for_copies(0, AT_ONCE).await.unwrap(), 0);
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let (server, client) = server().await;
    let clients = || server.cli(&["CLIENT", "LIST"]).lines().count();
    assert_eq!(clients(), 2);
    let again = client.redis.clone();
    drop(client);
    assert!(again.get("k").await.is_ok());
    drop(again);
    server
        .until(&["INFO", "clients"], "connected_clients:1\r")
        .await;
}

#[tokio::test]
async fn a_task_may_scan() {
    let (_server, redis) = server().await;
    let redis = redis.redis.clone();
    let scan = async move { redis.scan("*", 10, async |_| true).await.is_ok() };
    assert!(tokio::spawn(scan).await.unwrap());
}
