//! The tables of `proxy.toml`, typed, each with its one set of defaults.
//!
//! A default here is the value that the documentation shows; a test holds the two together. `[cache]` and the rules
//! are not here: they are [`crate::policy::Policy`] and [`crate::route::Table`].

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use http::header::HeaderName;
use ipnet::IpNet;

use crate::config::environment::Secret;
use crate::identity::{Credential, IdentityKey};
use crate::policy::Mode;
use crate::server::Address;
use crate::upstream::Target;

/// `[server]`: the side of the clients.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where clients connect.
    pub listen: Vec<Address>,
    /// How many threads answer; 0 is one per CPU that the container may use.
    pub workers: usize,
    /// How many clients may be connected.
    pub max_connections: usize,
    /// A request body larger than this many bytes is refused with 413.
    pub max_request_body: u64,
    /// How long a request head may take to arrive.
    pub header_timeout: Duration,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long a shutdown waits for what runs.
    pub drain_timeout: Duration,
    /// Peers whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The certificate, when clients speak TLS.
    pub tls: Option<Tls>,
}

/// `[server] tls`: the files of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// The chain, in PEM.
    pub cert: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![valid("0.0.0.0:8080".parse())],
            workers: 0,
            max_connections: 10_000,
            max_request_body: 10 * MIB,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            drain_timeout: Duration::from_secs(20),
            trusted_proxies: Vec::new(),
            tls: None,
        }
    }
}

/// `[upstream]`: the side of the app.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where the app is.
    pub url: Target,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the app may take to its response head; 504 after it.
    pub timeout: Duration,
    /// How long a pooled connection may be idle.
    pub idle_timeout: Duration,
    /// How many requests may be with the app at once.
    pub max_connections: usize,
    /// The response field in which the app counts its database queries.
    pub query_count_header: HeaderName,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: valid(Target::parse("http://127.0.0.1:8000")),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            max_connections: 100,
            query_count_header: HeaderName::from_static("x-query-count"),
        }
    }
}

/// `[memory]`: tier 1, this process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Memory {
    /// How much it may hold: keys, heads and bodies.
    pub max_size: MaxSize,
    /// A response larger than this many bytes streams through and is not stored.
    pub max_entry_size: u64,
}

/// How much memory the cache may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MaxSize {
    /// A quarter of what the container may use.
    Auto,
    /// This many bytes.
    Bytes(u64),
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            max_size: MaxSize::Bytes(256 * MIB),
            max_entry_size: 4 * MIB,
        }
    }
}

/// `[redis]`: tier 2, shared by all replicas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redis {
    /// Where it is; never with a password in it.
    pub url: String,
    /// Where its password comes from.
    pub password: Password,
    /// What every key begins with.
    pub prefix: String,
    /// Where identity lookups are kept; `None`: database 2 of the same server.
    pub session_url: Option<String>,
    /// A command slower than this is a miss.
    pub command_timeout: Duration,
    /// A response larger than this many bytes is not stored there.
    pub max_entry_size: u64,
}

/// Where the password of Redis comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Password {
    /// There is none.
    None,
    /// An environment variable held it.
    Given(Secret),
    /// A file holds it, and may change.
    File(PathBuf),
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379/3".into(),
            password: Password::None,
            prefix: "reprise:".into(),
            session_url: None,
            command_timeout: Duration::from_millis(50),
            max_entry_size: 4 * MIB,
        }
    }
}

/// `[coherence]`: what readers are promised about writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Coherence {
    /// The promise, where a route makes no other.
    pub mode: Mode,
    /// How long a replica may answer from cache without having read the log to its tail.
    pub lease: Duration,
    /// The longest time in which a forwarded write may still commit.
    pub intent_ttl: Duration,
    /// How long after a write its tags stay uncached, for databases that lag.
    pub origin_lag: Duration,
    /// What happens to a write on a replica that is cut off from Redis.
    pub on_partition: OnPartition,
    /// A Redis for the log alone; `None`: that of `[redis]`.
    pub url: Option<String>,
    /// How clients that have written show it on `bounded` routes, to read their own writes through any replica.
    pub session_token: SessionToken,
}

/// How the token travels that an answer to a write carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionToken {
    /// There is none.
    Off,
    /// As `Cache-Token`, in the answer and in later requests.
    Header,
    /// As a cookie that browsers send back by themselves.
    Cookie,
}

/// What happens to a write on a replica that is cut off from Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnPartition {
    /// It goes to the app, and the drop follows when Redis is back.
    Forward,
    /// 503.
    Reject,
}

impl Default for Coherence {
    fn default() -> Self {
        Self {
            mode: Mode::Strong,
            lease: Duration::from_secs(1),
            intent_ttl: Duration::from_secs(60),
            origin_lag: Duration::ZERO,
            on_partition: OnPartition::Forward,
            url: None,
            session_token: SessionToken::Off,
        }
    }
}

/// `[identity]`: what makes two callers two users.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The credentials that identify a caller; the first present one names the user.
    pub from: Vec<Credential>,
    /// The path at which the app tells a credential's user id.
    pub lookup: Option<String>,
    /// A JSON pointer to the id in that answer.
    pub field: String,
    /// How long that answer holds.
    pub ttl: Duration,
    /// The key of identity hashes, from the environment; `None`: one of this process's own.
    pub key: Option<IdentityKey>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            from: vec![
                Credential::Header(http::header::AUTHORIZATION),
                Credential::Cookie("sessionid".into()),
            ],
            lookup: None,
            field: "/id".into(),
            ttl: Duration::from_secs(300),
            key: None,
        }
    }
}

/// `[monitor]`: what counts as slow, and as too many queries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Monitor {
    /// An answer slower than this is logged.
    pub slow_response: Duration,
    /// An answer of the app slower than this is counted.
    pub slow_upstream: Duration,
    /// More queries than this in one answer are counted.
    pub queries_high: u64,
    /// More queries than this in one answer are logged.
    pub queries_max: u64,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            slow_response: Duration::from_secs(2),
            slow_upstream: Duration::from_millis(100),
            queries_high: 10,
            queries_max: 50,
        }
    }
}

/// `[admin]`: probes, metrics, page and API.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where they are served.
    pub listen: Address,
    /// Who may change things.
    pub write_access: WriteAccess,
    /// What such callers must show, when `write_access` asks for it.
    pub token: Option<Secret>,
    /// Whether `PURGE` and `BAN` are accepted on the traffic port.
    pub purge_method: bool,
}

/// Who may change things through the admin API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriteAccess {
    /// Callers from this host.
    Loopback,
    /// Callers with the token.
    Token,
    /// Nobody.
    Off,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: valid("0.0.0.0:9090".parse()),
            write_access: WriteAccess::Loopback,
            token: None,
            purge_method: false,
        }
    }
}

/// `[warm]`: what is fetched before clients ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warm {
    /// Paths, fetched in order.
    pub paths: Vec<String>,
    /// How many of the hottest keys are remembered.
    pub hot: u64,
    /// Whether memory is warmed before the replica says it is ready.
    pub on_start: bool,
}

impl Default for Warm {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            hot: 100,
            on_start: false,
        }
    }
}

/// `[trace]`: OpenTelemetry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trace {
    /// Whether spans are exported.
    pub enabled: bool,
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged: a level, or from the environment a filter such as `info,reprise::fill=debug`.
    pub filter: String,
    /// Whether every request is logged.
    pub access: bool,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            filter: "info".into(),
            access: false,
        }
    }
}

/// `[reload]`: when the file is read again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reload {
    /// Whether a change of the file is enough.
    pub watch: bool,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: true }
    }
}

const MIB: u64 = 1 << 20;

fn valid<T, E: Display>(parsed: Result<T, E>) -> T {
    parsed.ok().expect("a default of the file format is valid")
}
