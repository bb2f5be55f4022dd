//! Tier 2 by itself: what one replica stores in a real Redis another finds, and what is of no use is a miss.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};
use reprise::cache::remote::{Config, Remote};
use reprise::entry::{Certificate, Entry, Material, Stamp, Times};
use reprise::key::{Cookies, Key, KeyHasher, Parts, QueryRules, Variant, VariantRules};
use reprise::metrics::{Metrics, RemoteMetrics};
use reprise::redis::{self, Password, Redis};
use reprise::tag::{Tag, Tags};

use crate::support::{PATIENCE, eventually, soon};

const KEEP: Duration = Duration::from_secs(60);

const RULES: VariantRules<'static> = VariantRules {
    ignore: &[],
    always: &[],
    cookies: &Cookies::All,
    credentials: &[],
    covered: false,
    cookies_covered: false,
};

/// A Redis of its own, by a Unix socket; killed when dropped.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("reprise-tier2-{}-{count}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let path = socket.to_str().expect("a path that is text");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", path])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs");
        Self { child, socket }
    }

    /// What `redis-cli` answers.
    fn says(&self, command: &[&str]) -> String {
        let mut client = Command::new("redis-cli");
        client.arg("-s").arg(&self.socket).args(command);
        let output = client.output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn keys(&self) -> Vec<String> {
        let keys = self.says(&["KEYS", "*"]);
        keys.lines().map(str::to_owned).collect()
    }

    /// How often a command was called.
    fn calls(&self, command: &str) -> u64 {
        let stats = self.says(&["INFO", "commandstats"]);
        let name = format!("cmdstat_{command}:");
        let line = stats.lines().find(|line| line.starts_with(&name));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
        calls.map_or(0, |calls| calls.parse().expect("a number"))
    }

    /// A connection, once it is there.
    async fn redis(&self) -> Redis {
        let redis = connect(&self.socket);
        eventually("a connection", || redis.is_up()).await;
        redis
    }

    /// A replica with these rules.
    async fn replica(&self, rules: u64) -> Replica {
        Replica::new(self.redis().await, rules)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn connect(socket: &std::path::Path) -> Redis {
    let config = redis::Config {
        url: format!("redis+unix://{}", socket.display()),
        password: Password::None,
        command_timeout: PATIENCE,
    };
    let metrics = Metrics::new().expect("metrics");
    Redis::new(config, metrics.redis("cache")).expect("an address")
}

/// Tier 2 as one process sees it, with a secret of its own.
struct Replica {
    remote: Remote,
    hasher: KeyHasher,
    metrics: Arc<RemoteMetrics>,
}

impl Replica {
    fn new(redis: Redis, rules: u64) -> Self {
        static SECRET: AtomicUsize = AtomicUsize::new(0);
        let secret = SECRET.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let metrics = Metrics::new().expect("metrics").remote;
        let config = Config {
            prefix: "test:".into(),
            rules,
            max_entry_size: 1 << 20,
        };
        Self {
            remote: Remote::new(redis, config, Arc::clone(&metrics)),
            hasher: KeyHasher::new([secret, secret].concat().try_into().expect("16 bytes")),
            metrics,
        }
    }

    fn key(&self, path: &str) -> Key {
        let parts = Parts {
            host: "test",
            secure: false,
            path,
            query: None,
            identity: None,
        };
        self.hasher.key(&parts, &QueryRules::default())
    }

    /// Stores an answer to a request, and waits until it is there.
    async fn store(&self, path: &str, request: &HeaderMap, vary: &[HeaderName], body: &str) {
        let entry = entry(self.key(path).as_bytes(), request, vary, body, 1);
        let before = self.metrics.stored.get();
        self.remote.put(&self.key(path), &entry, KEEP);
        eventually("a store", || self.metrics.stored.get() > before).await;
    }

    /// The body of what is found for a request.
    async fn find(&self, path: &str, request: &HeaderMap) -> Option<Bytes> {
        let key = self.key(path);
        let look = self.remote.get(&key, request, &RULES);
        let entry = soon("a look-up", look).await?;
        assert_eq!(*entry.key, *key.as_bytes());
        Some(entry.body.clone())
    }
}

fn entry(key: &[u8], request: &HeaderMap, vary: &[HeaderName], body: &str, seq: u64) -> Arc<Entry> {
    let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let stamp = Stamp { epoch: 3, seq };
    Arc::new(Entry::new(Material {
        key: key.into(),
        variant: Variant::of(vary, request, &RULES),
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        times: Times {
            requested: at,
            received: at,
        },
        certificate: Certificate::new(stamp, Tags::from_iter([Tag::named("a")])),
        jitter: 0.5,
        digest: 1,
    }))
}

fn saying(name: HeaderName, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
}

fn any() -> HeaderMap {
    HeaderMap::new()
}

#[tokio::test]
async fn what_one_replica_stores_another_finds() {
    let server = Server::start();
    let (one, other) = (server.replica(1).await, server.replica(1).await);
    one.store("/a", &any(), &[], "here").await;
    assert_eq!(
        other.find("/a", &any()).await.as_deref(),
        Some(&b"here"[..])
    );
    assert_eq!(other.find("/b", &any()).await, None);
    assert_eq!(
        (other.metrics.hits.get(), other.metrics.misses.get()),
        (1, 1)
    );

    let keys = server.keys();
    let [key] = keys.as_slice() else {
        panic!("{keys:?}");
    };
    let digest = key.strip_prefix("test:e1:").expect("the prefix");
    assert!(digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let left: u64 = server.says(&["PTTL", key]).parse().expect("a time");
    assert!((1..=60_000).contains(&left), "{left} ms");
}

#[tokio::test]
async fn replicas_with_other_rules_never_meet() {
    let server = Server::start();
    let (one, other) = (server.replica(1).await, server.replica(2).await);
    one.store("/a", &any(), &[], "here").await;
    assert_eq!(other.find("/a", &any()).await, None);
    other.store("/a", &any(), &[], "there").await;
    assert_eq!(one.find("/a", &any()).await.as_deref(), Some(&b"here"[..]));
}

#[tokio::test]
async fn each_variant_is_found_by_its_own_requests() {
    let server = Server::start();
    let (one, other) = (server.replica(1).await, server.replica(1).await);
    let german = saying(header::ACCEPT_LANGUAGE, "de");
    let english = saying(header::ACCEPT_LANGUAGE, "en");
    for (request, body) in [(&german, "hallo"), (&english, "hello")] {
        one.store("/a", request, &[header::ACCEPT_LANGUAGE], body)
            .await;
    }
    for replica in [&one, &other] {
        let french = saying(header::ACCEPT_LANGUAGE, "fr");
        assert_eq!(
            replica.find("/a", &german).await.as_deref(),
            Some(&b"hallo"[..])
        );
        assert_eq!(
            replica.find("/a", &english).await.as_deref(),
            Some(&b"hello"[..])
        );
        assert_eq!(replica.find("/a", &french).await, None);
    }
}

#[tokio::test]
async fn a_key_known_to_vary_costs_one_look_up() {
    let server = Server::start();
    let (one, other) = (server.replica(1).await, server.replica(1).await);
    let german = saying(header::ACCEPT_LANGUAGE, "de");
    one.store("/a", &german, &[header::ACCEPT_LANGUAGE], "hallo")
        .await;
    for (replica, expected) in [(&one, 1), (&other, 2), (&other, 1)] {
        let before = server.calls("get");
        assert!(replica.find("/a", &german).await.is_some());
        assert_eq!(server.calls("get") - before, expected);
    }
}

#[tokio::test]
async fn a_replica_learns_that_a_key_varies_by_something_else() {
    let server = Server::start();
    let (one, other) = (server.replica(1).await, server.replica(1).await);
    let mut asked = saying(header::ACCEPT_LANGUAGE, "de");
    asked.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
    let changed = saying(header::ACCEPT_LANGUAGE, "en");
    for (vary, request, body) in [
        (vec![header::ACCEPT_LANGUAGE], &asked, "1"),
        (vec![header::ACCEPT], &changed, "2"),
        (vec![], &asked, "3"),
        (vec![header::ACCEPT_LANGUAGE, header::ACCEPT], &changed, "4"),
    ] {
        one.store("/a", request, &vary, body).await;
        let found = other.find("/a", request).await;
        assert_eq!(found.as_deref(), Some(body.as_bytes()), "{vary:?}");
    }
}

#[tokio::test]
async fn a_value_of_no_use_is_a_miss_and_only_a_damaged_one_is_unlinked() {
    let server = Server::start();
    let (redis, replica) = (server.redis().await, server.replica(1).await);
    replica.store("/a", &any(), &[], "here").await;
    let name = server.keys().remove(0);
    let good = redis.get(&name).await.expect("an answer").expect("a value");
    replica.store("/b", &any(), &[], "there").await;
    let keys = server.keys();
    let other = keys.iter().find(|key| **key != name).expect("another");
    let foreign = redis.get(other).await.expect("an answer").expect("a value");
    let changed = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    for (index, value, stays) in [
        (0, changed(4), true),
        (1, changed(good.len() - 1), false),
        (2, foreign, true),
        (3, Bytes::from_static(b"somebody's"), true),
    ] {
        redis.set(&name, value, KEEP).await.expect("it is set");
        assert_eq!(replica.find("/a", &any()).await, None);
        assert_eq!(replica.metrics.rejected[index].get(), 1, "{index}");
        if !stays {
            eventually("unlinked", || server.says(&["EXISTS", &name]) == "0").await;
        }
        assert_eq!(server.says(&["EXISTS", &name]) == "1", stays, "{index}");
    }
    assert_eq!(
        (replica.metrics.hits.get(), replica.metrics.misses.get()),
        (0, 4)
    );
    // And the next store replaces whatever is there.
    replica.store("/a", &any(), &[], "again").await;
    assert_eq!(
        replica.find("/a", &any()).await.as_deref(),
        Some(&b"again"[..])
    );
}

#[tokio::test]
async fn a_large_body_is_compressed_and_one_too_large_is_not_stored() {
    let server = Server::start();
    let replica = server.replica(1).await;
    let body = "all seats are free. ".repeat(50_000);
    replica.store("/a", &any(), &[], &body).await;
    assert_eq!(
        replica.find("/a", &any()).await.as_deref(),
        Some(body.as_bytes())
    );
    let stored: u64 = server
        .says(&["STRLEN", &server.keys()[0]])
        .parse()
        .expect("a length");
    assert!(stored < 100_000, "{stored} bytes");

    let key = replica.key("/b");
    let larger = entry(key.as_bytes(), &any(), &[], &"a".repeat((1 << 20) + 1), 1);
    replica.remote.put(&key, &larger, KEEP);
    replica.remote.put(
        &key,
        &entry(key.as_bytes(), &any(), &[], "b", 1),
        Duration::ZERO,
    );
    soon("the end of all stores", replica.remote.drain()).await;
    let counted = [&replica.metrics.stored, &replica.metrics.too_large];
    assert_eq!(counted.map(|counter| counter.get()), [1, 1]);
    assert_eq!(server.keys().len(), 1);
}

#[tokio::test]
async fn an_entry_is_taken_out_unless_another_has_its_place() {
    let server = Server::start();
    let replica = server.replica(1).await;
    let german = saying(header::ACCEPT_LANGUAGE, "de");
    for (path, request, vary) in [
        ("/a", any(), vec![]),
        ("/b", german, vec![header::ACCEPT_LANGUAGE]),
    ] {
        replica.store(path, &request, &vary, "old").await;
        let key = replica.key(path);
        for (seq, stays) in [(2, true), (1, false)] {
            let other = server.replica(1).await;
            let wanted = entry(key.as_bytes(), &request, &vary, "old", seq);
            other.remote.remove(&key, &wanted);
            soon("it is looked at", other.remote.drain()).await;
            assert_eq!(replica.find(path, &request).await.is_some(), stays);
        }
    }
}

#[tokio::test]
async fn without_redis_there_is_nothing_and_it_is_counted() {
    let nowhere = std::env::temp_dir().join("reprise-tier2-nowhere.sock");
    let replica = Replica::new(connect(&nowhere), 1);
    assert_eq!(replica.find("/a", &any()).await, None);
    let key = replica.key("/a");
    replica
        .remote
        .put(&key, &entry(key.as_bytes(), &any(), &[], "a", 1), KEEP);
    soon("the end of all stores", replica.remote.drain()).await;
    let metrics = &replica.metrics;
    let counted = [
        &metrics.hits,
        &metrics.misses,
        &metrics.errors,
        &metrics.stored,
        &metrics.failed,
    ];
    assert_eq!(counted.map(|counter| counter.get()), [0, 0, 1, 0, 1]);
}

#[tokio::test]
async fn stores_beyond_what_may_be_under_way_are_left_undone() {
    let server = Server::start();
    let replica = server.replica(1).await;
    // One thread and no await in between: none of them can end before the last is begun.
    for number in 0..70 {
        let key = replica.key(&format!("/{number}"));
        replica
            .remote
            .put(&key, &entry(key.as_bytes(), &any(), &[], "a", 1), KEEP);
    }
    soon("the end of all stores", replica.remote.drain()).await;
    assert_eq!(
        (replica.metrics.stored.get(), replica.metrics.busy.get()),
        (64, 6)
    );
    assert_eq!(server.keys().len(), 64);
}
