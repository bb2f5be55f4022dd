//! The sweeper of tier 2 in a real Redis: what it frees, what it leaves alone, and how it makes room for others.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderMap;
use reprise::cache::Swept;
use reprise::cache::sweeper::{Config, Sweeper};
use reprise::cache::wire;
use reprise::coherence::{self, Coherence, Purge};
use reprise::entry::{Certificate, Entry, Material, Stamp, Times};
use reprise::key::{KeyHasher, Parts, QueryRules, Variant};
use reprise::metrics::Metrics;
use reprise::redis::{self, Password, Redis};
use reprise::tag::{Tag, Tags};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{PATIENCE, eventually};

/// A Redis of its own, by a Unix socket; killed when dropped.
struct Server {
    child: Child,
    socket: PathBuf,
}

/// A sweeper at work, and what it goes by.
struct Desk {
    server: Server,
    redis: Redis,
    coherence: Coherence,
    sweeper: Sweeper,
    running: JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("reprise-sweeper-{}-{count}.sock", std::process::id());
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
        let mut keys: Vec<_> = keys.lines().map(str::to_owned).collect();
        keys.sort_unstable();
        keys
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Desk {
    async fn with_rate(rate: u32) -> Self {
        let server = Server::start();
        let config = redis::Config {
            url: format!("redis+unix://{}", server.socket.display()),
            password: Password::None,
            command_timeout: PATIENCE,
        };
        let metrics = Metrics::new().expect("metrics");
        let redis = Redis::new(config, metrics.redis("cache")).expect("an address");
        eventually("a connection", || redis.is_up()).await;
        let coherence = Coherence::alone(coherence::Config::default(), 7, metrics.coherence);
        let config = Config {
            prefix: "test:".into(),
            rate,
        };
        let sweeper = Sweeper::new(redis.clone(), coherence.clone(), config);
        let worker = sweeper.clone();
        let running = tokio::spawn(async move { worker.run().await });
        Self {
            server,
            redis,
            coherence,
            sweeper,
            running,
        }
    }

    /// Stores what a path answers, under this name and tag.
    async fn store(&self, name: &str, path: &str, tag: &str, stamp: Stamp) {
        let entry = entry(path, tag, stamp);
        let value = wire::encode(&entry, usize::MAX).expect("an entry that can be written");
        let key = format!("test:e1:{name}");
        let stored = self.redis.set(&key, value, Duration::from_secs(60)).await;
        stored.expect("it is stored");
    }

    async fn put(&self, name: &str, bytes: &'static [u8]) {
        let bytes = Bytes::from_static(bytes);
        let stored = self.redis.set(name, bytes, Duration::from_secs(60)).await;
        stored.expect("it is stored");
    }

    async fn sweep(&self) -> Swept {
        self.sweeper.sweep(PATIENCE).await
    }

    async fn drop_tag(&self, tag: &str) {
        let tags = Tags::from_iter([Tag::named(tag)]);
        self.coherence.purge(Purge::Tags(tags)).await;
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn entry(path: &str, tag: &str, stamp: Stamp) -> Entry {
    let parts = Parts {
        host: "test",
        secure: false,
        path,
        query: None,
        identity: None,
    };
    let key = KeyHasher::new([1; 16]).key(&parts, &QueryRules::default());
    Entry::new(Material {
        key: key.as_bytes().into(),
        variant: Variant::default(),
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"body"),
        times: Times {
            requested: UNIX_EPOCH,
            received: UNIX_EPOCH,
        },
        certificate: Certificate::new(stamp, Tags::from_iter([Tag::named(tag)])),
        jitter: 0.0,
        digest: 0,
    })
}

fn swept(scanned: u64, found: u64, complete: bool) -> Swept {
    Swept {
        scanned,
        found,
        complete,
    }
}

#[tokio::test]
async fn what_was_dropped_is_removed_and_everything_else_stays() {
    let desk = Desk::with_rate(100_000).await;
    let before = desk.coherence.stamp();
    let foreign = Stamp { epoch: 8, seq: 0 };
    desk.store("dead", "/a", "a", before).await;
    desk.store("alive", "/b", "b", before).await;
    desk.store("another-epoch", "/a", "a", foreign).await;
    desk.put("test:e1:no-entry", b"whatever").await;
    desk.put("test:other", b"a").await;
    desk.put("else:e1:x", b"a").await;
    desk.drop_tag("a").await;
    desk.store("newer", "/a", "a", desk.coherence.stamp()).await;

    assert_eq!(desk.sweep().await, swept(5, 1, true));
    let left = [
        "else:e1:x",
        "test:e1:alive",
        "test:e1:another-epoch",
        "test:e1:newer",
        "test:e1:no-entry",
        "test:other",
    ];
    assert_eq!(desk.server.keys(), left, "and its lock is given back");
    assert_eq!(desk.sweep().await, swept(4, 0, true));
}

#[tokio::test]
async fn what_was_banned_is_removed() {
    let desk = Desk::with_rate(100_000).await;
    let before = desk.coherence.stamp();
    desk.store("one", "/a/1", "a", before).await;
    desk.store("two", "/b/2", "a", before).await;
    desk.coherence.purge(Purge::Ban("/a/*".into())).await;
    assert_eq!(desk.sweep().await, swept(2, 1, true));
    assert_eq!(desk.server.keys(), ["test:e1:two"]);
}

#[tokio::test]
async fn more_keys_than_one_reply_holds_are_all_looked_at() {
    let desk = Desk::with_rate(1_000_000).await;
    let before = desk.coherence.stamp();
    for number in 0..400 {
        let tag = if number % 2 == 0 { "a" } else { "b" };
        desk.store(&number.to_string(), "/a", tag, before).await;
    }
    desk.drop_tag("a").await;
    assert_eq!(desk.sweep().await, swept(400, 200, true));
    assert_eq!(desk.server.keys().len(), 200);
}

#[tokio::test]
async fn one_replica_sweeps_at_a_time() {
    let desk = Desk::with_rate(100_000).await;
    desk.store("dead", "/a", "a", desk.coherence.stamp()).await;
    desk.drop_tag("a").await;
    desk.put("test:sweep", b"another replica's").await;
    assert_eq!(desk.sweep().await, swept(0, 0, false));
    assert_eq!(desk.server.keys(), ["test:e1:dead", "test:sweep"]);
    desk.server.says(&["DEL", "test:sweep"]);
    assert_eq!(desk.sweep().await, swept(1, 1, true));
}

#[tokio::test]
async fn a_round_goes_on_without_who_asked_for_it() {
    let desk = Desk::with_rate(20).await;
    let before = desk.coherence.stamp();
    for number in 0..10 {
        desk.store(&number.to_string(), "/a", "a", before).await;
    }
    desk.drop_tag("a").await;
    let seen = desk.sweeper.sweep(Duration::from_millis(1)).await;
    assert!(!seen.complete, "{seen:?}");
    eventually("the round", || desk.server.keys().is_empty()).await;
}

#[tokio::test]
async fn a_round_keeps_its_pace() {
    let desk = Desk::with_rate(100).await;
    for number in 0..30 {
        let stamp = desk.coherence.stamp();
        desk.store(&number.to_string(), "/a", "a", stamp).await;
    }
    let began = Instant::now();
    assert_eq!(desk.sweep().await, swept(30, 0, true));
    assert!(
        began.elapsed() >= Duration::from_millis(250),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_redis_that_is_gone_is_not_waited_for() {
    let mut desk = Desk::with_rate(100_000).await;
    desk.store("dead", "/a", "a", desk.coherence.stamp()).await;
    desk.drop_tag("a").await;
    desk.server.child.kill().expect("it is killed");
    desk.server.child.wait().expect("it ends");
    assert_eq!(desk.sweep().await, swept(0, 0, false));
}
