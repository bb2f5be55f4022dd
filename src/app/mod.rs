//! The composition root: a checked configuration becomes sockets and running tasks, and on a signal they drain.
//!
//! The only module that knows every owner. What flows in: a [`Config`] and a future that says when to stop. What flows
//! out: the addresses that are listened on, and a [`Summary`] at the end. Everything is bound before anything runs, so a
//! port in use is told before a request could be lost.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::admin::{Access, Admin, Token};
use crate::cache::{self, Cache};
use crate::config::{self, Config};
use crate::fill::{self, Fills};
use crate::identity::IdentityKey;
use crate::key::KeyHasher;
use crate::metrics::Metrics;
use crate::outcome;
use crate::proxy::{self, Live, Lookup, LookupConfig, Proxy, RouteContext, Tokens};
use crate::server::{self, Address, Listener};
use crate::upstream::{self, Upstream};

pub mod limits;
mod shared;

/// How often memory is maintained and open writes are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Everything bound and built, not yet running.
#[derive(Debug)]
pub struct App {
    proxy: Proxy,
    tools: proxy::Tools,
    listeners: Vec<Listener>,
    admin_listener: Listener,
    server: server::Config,
    tls: Option<Arc<rustls::ServerConfig>>,
    admin: Admin,
    draining: Arc<AtomicBool>,
}

/// What a process did in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Requests answered.
    pub served: u64,
    /// Of these, from the cache, fresh or stale.
    pub hits: u64,
    /// Connections that had to be cut when the drain's time was over.
    pub cut: usize,
}

/// Why a configuration that is right on paper cannot run here.
#[derive(Debug)]
pub enum Error {
    /// An address cannot be listened on.
    Bind(server::BindError),
    /// A certificate or key cannot be used.
    Tls(String),
    /// The app cannot be reached in the way that is configured.
    Upstream(String),
    /// The identity lookup's path is no path.
    Lookup(String),
    /// A Redis cannot be spoken to in the way that is configured; the setting, and why.
    Redis(&'static str, String),
    /// A defect: the metrics clash, or there is no randomness.
    Internal(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Tls(reason) => write!(f, "[server] tls: {reason}"),
            Self::Upstream(reason) => write!(f, "[upstream] url: {reason}"),
            Self::Redis(setting, reason) => write!(f, "{setting}: {reason}"),
            Self::Lookup(reason) => write!(f, "[identity] lookup: {reason}"),
            Self::Internal(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

impl App {
    /// Binds every address and builds every owner.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be had.
    pub fn build(config: Config) -> Result<Self, Error> {
        let metrics = Metrics::new().map_err(|error| Error::Internal(error.to_string()))?;
        let limit = limits::memory_limit().unwrap_or_default();
        metrics
            .memory_limit
            .set(i64::try_from(limit).unwrap_or(i64::MAX));
        let listeners = config.server.listen.iter().map(Listener::bind);
        let listeners = listeners
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::Bind)?;
        let admin_listener = Listener::bind(&config.admin.listen).map_err(Error::Bind)?;
        let tls = config
            .server
            .tls
            .as_ref()
            .map(|tls| server::tls::load(&tls.cert, &tls.key));
        let tls = tls.transpose().map_err(Error::Tls)?;
        let server = server_config(&config.server);
        let tools = tools(&config, &metrics)?;
        let access = access(&config.admin);
        let live = live(config, &metrics)?;
        let draining = Arc::new(AtomicBool::new(false));
        let proxy = Proxy::new(live, tools.clone());
        let admin = Admin::new(metrics, proxy.clone(), access, Arc::clone(&draining));
        Ok(Self {
            proxy,
            tools,
            listeners,
            admin_listener,
            server,
            tls,
            admin,
            draining,
        })
    }

    /// The addresses that requests come in by.
    pub fn addresses(&self) -> impl Iterator<Item = Address> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.local_address().ok())
    }

    /// The address of probes, metrics and the API.
    #[must_use]
    pub fn admin_address(&self) -> Option<Address> {
        self.admin_listener.local_address().ok()
    }

    /// Serves until `shutdown` resolves, then drains: no new connections, running requests end, then fills and writes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts everything at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Summary {
        let (stop, stopped) = watch::channel(());
        let (stop_admin, admin_stopped) = watch::channel(());
        let mut serving = JoinSet::new();
        for listener in self.listeners {
            let proxy = self.proxy.clone();
            let service = move |request| {
                let proxy = proxy.clone();
                async move { proxy.handle(request).await }
            };
            serving.spawn(server::serve(
                listener,
                self.server.clone(),
                service,
                (self.tls.clone(), Arc::clone(&self.tools.metrics.server)),
                ended(stopped.clone()),
            ));
        }
        let admin = self.admin.clone();
        let service = move |request| {
            let admin = admin.clone();
            async move { admin.handle(request).await }
        };
        let mut background = JoinSet::new();
        let metrics = Arc::clone(&self.tools.metrics.admin_server);
        let config = server::Config {
            drain_timeout: Duration::from_secs(1),
            ..server::Config::default()
        };
        background.spawn(async move {
            server::serve(
                self.admin_listener,
                config,
                service,
                (None, metrics),
                ended(admin_stopped),
            )
            .await;
        });
        background.spawn(tick(self.tools.clone()));
        if let Some(sweeper) = self.tools.sweeper.clone() {
            background.spawn(async move { sweeper.run().await });
        }

        shutdown.await;
        let deadline = Instant::now() + self.server.drain_timeout;
        self.draining.store(true, Ordering::Release);
        tracing::info!("draining: running requests are finished, new connections are refused");
        drop(stop);
        let mut cut = 0;
        while let Some(drained) = serving.join_next().await {
            cut += drained.map_or(0, |drained| drained.cut);
        }
        drain(&self.proxy, &self.tools, deadline).await;
        drop(stop_admin);
        summary(&self.proxy, cut)
    }
}

/// Finishes the writes and fills of clients that have left, in what is left of the time: the orchestrator counts from the
/// signal, and an app that hangs must not hold the process. Then the others are told not to wait for this replica.
async fn drain(proxy: &Proxy, tools: &proxy::Tools, deadline: Instant) {
    let rest = async {
        proxy.drain().await;
        tools.upstream.drain().await;
        if let Some(remote) = tools.cache.remote() {
            remote.drain().await;
        }
    };
    if tokio::time::timeout_at(deadline, rest).await.is_err() {
        tracing::warn!("exchanges with the app are cut off: the drain's time is over");
    }
    // Last of all: until now a write may have been waiting for the others.
    tools.coherence.leave().await;
}

/// Resolves when the other end of the channel is dropped.
async fn ended(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

fn summary(proxy: &Proxy, cut: usize) -> Summary {
    let live = proxy.live();
    let routes = live.routes.iter().chain([&live.other]);
    let hits = routes
        .map(|route| {
            route.metrics.result(outcome::Result::Hit)
                + route.metrics.result(outcome::Result::Stale)
        })
        .sum();
    Summary {
        served: proxy.served(),
        hits,
        cut,
    }
}

/// The work that nobody waits for: memory's maintenance, and writes whose end nobody saw.
async fn tick(tools: proxy::Tools) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tools.cache.maintain();
        tools.coherence.tick().await;
        tools.tell_coherence();
    }
}

fn server_config(server: &config::Server) -> server::Config {
    server::Config {
        header_timeout: server.header_timeout,
        idle_timeout: server.idle_timeout,
        body_timeout: server.idle_timeout,
        drain_timeout: server.drain_timeout,
        max_connections: server.max_connections,
        ..server::Config::default()
    }
}

fn access(admin: &config::Admin) -> Access {
    match admin.write_access {
        config::WriteAccess::Loopback => Access::Loopback,
        config::WriteAccess::Off => Access::Off,
        config::WriteAccess::Token => {
            let token = admin.token.as_ref().map(|token| token.expose());
            let token = token.filter(|token| !token.is_empty());
            if token.is_none() {
                tracing::warn!(
                    "[admin] write_access is \"token\" and none is set: nobody may change things"
                );
            }
            Access::Token(token.map(Token::new))
        }
    }
}

fn tools(config: &Config, metrics: &Metrics) -> Result<proxy::Tools, Error> {
    let mut upstream = upstream::Config::new(config.upstream.url.clone());
    upstream.connect_timeout = config.upstream.connect_timeout;
    upstream.timeout = config.upstream.timeout;
    // An event stream may be silent for longer than any answer may take to begin.
    upstream.body_timeout = config.upstream.timeout * 10;
    upstream.idle_timeout = config.upstream.idle_timeout;
    upstream.max_connections = config.upstream.max_connections;
    let upstream = Upstream::new(upstream).map_err(Error::Upstream)?;
    let tiers = shared::tiers(config, metrics)?;
    let coherence = tiers.coherence;
    let max_size = match config.memory.max_size {
        config::MaxSize::Auto => limits::quarter_of_memory(),
        config::MaxSize::Bytes(bytes) => bytes,
    };
    let cache = Cache::new(
        cache::Config { max_size },
        coherence.clone(),
        tiers.remote,
        Arc::clone(&metrics.cache),
    );
    let fills = Fills::new(fill::Tools {
        cache: cache.clone(),
        coherence: coherence.clone(),
        upstream: upstream.clone(),
        metrics: metrics.clone(),
        max_entry_size: usize::try_from(config.memory.max_entry_size).unwrap_or(usize::MAX),
    });
    let lookup = config.identity.lookup.as_ref().map(|path| {
        let path = path
            .parse()
            .map_err(|error| Error::Lookup(format!("\"{path}\": {error}")))?;
        let lookup = LookupConfig {
            path,
            field: config.identity.field.clone(),
            ttl: config.identity.ttl,
        };
        let sessions = shared::sessions(config, metrics)?;
        Ok(Lookup::new(lookup, upstream.clone(), sessions))
    });
    Ok(proxy::Tools {
        cache,
        coherence,
        fills,
        upstream,
        metrics: metrics.clone(),
        lookup: lookup.transpose()?,
        hasher: KeyHasher::new(random()?),
        sweeper: tiers.sweeper,
    })
}

fn live(config: Config, metrics: &Metrics) -> Result<Live, Error> {
    let mode = config.coherence.mode;
    let routes = config.rules.routes().iter();
    let routes = routes
        .map(|route| RouteContext::new(&route.name, route.policy.clone(), mode, metrics))
        .collect();
    let key = config.identity.key.unwrap_or_else(IdentityKey::plain);
    Ok(Live {
        routes,
        other: RouteContext::other(config.rules.defaults().clone(), metrics),
        table: config.rules,
        identity: proxy::Identity {
            from: config.identity.from.into(),
            key,
        },
        query: config.query,
        compression: config.compression,
        trusted: config.server.trusted_proxies,
        max_request_body: config.server.max_request_body,
        query_count: config.upstream.query_count_header,
        access_log: config.log.access,
        purge_method: config.admin.purge_method,
        session_tokens: match config.coherence.session_token {
            config::SessionToken::Off => Tokens::Off,
            config::SessionToken::Header => Tokens::Header,
            config::SessionToken::Cookie => Tokens::Cookie,
        },
    })
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Internal(format!("no randomness: {error}")))?;
    Ok(bytes)
}
