//! A handle on Redis with its metrics, and what is logged of it.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reprise::metrics::Metrics;
use reprise::redis::{Config, Kind, Password, Redis};
use tokio::time::Instant;

use super::{RedisServer, eventually, soon};

/// Longer than any answer takes here, and short enough that a test may wait for it some times.
pub const DEADLINE: Duration = Duration::from_millis(300);
pub const MINUTE: Duration = Duration::from_secs(60);
/// How long something may take that asks nobody.
pub const AT_ONCE: Duration = Duration::from_millis(50);

/// A handle.
pub struct Handle {
    pub redis: Redis,
    pub metrics: Metrics,
}

impl Deref for Handle {
    type Target = Redis;
    fn deref(&self) -> &Redis {
        &self.redis
    }
}

impl Handle {
    /// One without a password.
    pub fn new(url: &str) -> Self {
        Self::with(url, Password::None)
    }

    /// One with this password.
    pub fn with(url: &str, password: Password) -> Self {
        let metrics = Metrics::new().expect("metrics");
        let config = Config {
            url: url.to_owned(),
            password,
            command_timeout: DEADLINE,
        };
        let redis = Redis::new(config, metrics.redis("cache")).expect("a URL");
        Self { redis, metrics }
    }

    /// Waits until it is connected.
    pub async fn connected(self) -> Self {
        eventually("connected", || self.redis.is_up()).await;
        self
    }

    /// Waits until the loss of the server is noticed; how long it took.
    pub async fn is_missed(&self) -> Duration {
        let began = Instant::now();
        eventually("the loss is noticed", || !self.redis.is_up()).await;
        began.elapsed()
    }

    /// What a metric says that has these labels beside `use`.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let text = String::from_utf8(self.metrics.render()).expect("text");
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with(name) && line.contains(label));
        let value = line.and_then(|line| line.rsplit(' ').next()).expect(name);
        value.parse().expect("a number")
    }

    /// How reading fails.
    pub async fn fails(&self) -> Kind {
        self.get("k").await.expect_err("it is away").kind()
    }

    /// Waits until commands are answered again; how long it took.
    pub async fn answers(&self) -> Duration {
        let began = Instant::now();
        soon("an answer", async {
            while self.get("k").await.is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        began.elapsed()
    }
}

/// What is logged from here on, by this test's thread.
pub struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    /// Begins.
    pub fn start() -> Self {
        let text: Arc<Mutex<Vec<u8>>> = Arc::default();
        let writer = Arc::clone(&text);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || Writer(Arc::clone(&writer)));
        let _guard = tracing::subscriber::set_default(subscriber.finish());
        Self { text, _guard }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        let text = self.text.lock().expect("a lock");
        let text = String::from_utf8_lossy(&text);
        text.lines().map(str::to_owned).collect()
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A server, and a handle on it that is connected.
pub async fn server() -> (RedisServer, Handle) {
    let server = RedisServer::start().await;
    let handle = Handle::new(&server.url()).connected().await;
    (server, handle)
}

/// Text as bytes.
pub fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
