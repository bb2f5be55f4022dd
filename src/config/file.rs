//! The shape of `proxy.toml`: which tables there are, and which keys each has.

use crate::config::environment::{self, Environment};
use crate::config::findings::Findings;
use crate::config::kinds;
use crate::config::reader::{Section, Value};
use crate::config::redis::optional_redis_url;
use crate::config::settings::{
    Admin, Coherence, Identity, Log, LogFormat, Memory, Monitor, OnPartition, Reload, Server,
    SessionToken, Tls, Trace, Upstream, Warm, WriteAccess,
};
use crate::identity::IdentityKey;
use crate::key::QueryRules;
use crate::policy::Mode;
use crate::respond::encode::Config as Compression;
use crate::upstream::Target;

/// Reads `version`: there is only one.
pub(super) fn version(root: &Section<'_>) {
    root.read("version", |value| {
        let number = kinds::number(1..=u32::MAX)(value)?;
        if number == 1 {
            return Some(());
        }
        let message = format!("version {number} of the file format is not known");
        value.reject(message, "write version = 1")
    });
}

/// Reads `[server]`.
pub(super) fn server(root: &Section<'_>) -> Server {
    let section = root.section("server");
    let mut server = Server::default();
    section.set(
        "listen",
        &mut server.listen,
        kinds::one_or_more(kinds::parsed),
    );
    section.set("workers", &mut server.workers, kinds::number(0..=1024));
    section.set(
        "max_connections",
        &mut server.max_connections,
        kinds::number(1..=10_000_000),
    );
    section.set(
        "max_request_body",
        &mut server.max_request_body,
        kinds::size,
    );
    section.set(
        "header_timeout",
        &mut server.header_timeout,
        kinds::positive_duration,
    );
    section.set(
        "idle_timeout",
        &mut server.idle_timeout,
        kinds::positive_duration,
    );
    section.set("drain_timeout", &mut server.drain_timeout, kinds::duration);
    section.set(
        "trusted_proxies",
        &mut server.trusted_proxies,
        kinds::list(kinds::network),
    );
    server.tls = section.read("tls", tls);
    section.finish();
    server
}

fn tls(value: Value<'_>) -> Option<Tls> {
    const EXAMPLE: &str = "{ cert = \"/etc/reprise/tls.crt\", key = \"/etc/reprise/tls.key\" }";
    let Some(section) = value.as_section("`tls`") else {
        return value.expected("a pair of files", EXAMPLE);
    };
    let cert = section.read("cert", kinds::file);
    let key = section.read("key", kinds::file);
    section.finish();
    for name in ["cert", "key"]
        .into_iter()
        .filter(|name| !section.has(name))
    {
        value.reject::<()>(format!("`tls` has no `{name}`"), format!("write {EXAMPLE}"));
    }
    Some(Tls {
        cert: cert?,
        key: key?,
    })
}

/// Reads `[upstream]`; the environment wins over its `url`.
pub(super) fn upstream(root: &Section<'_>, environment: &Environment) -> Upstream {
    let section = root.section("upstream");
    let mut upstream = Upstream::default();
    section.set("url", &mut upstream.url, kinds::target);
    section.set(
        "connect_timeout",
        &mut upstream.connect_timeout,
        kinds::positive_duration,
    );
    section.set("timeout", &mut upstream.timeout, kinds::positive_duration);
    section.set("idle_timeout", &mut upstream.idle_timeout, kinds::duration);
    section.set(
        "max_connections",
        &mut upstream.max_connections,
        kinds::number(1..=1_000_000),
    );
    section.set(
        "query_count_header",
        &mut upstream.query_count_header,
        kinds::header,
    );
    section.finish();
    match environment.upstream_url.as_deref().map(Target::parse) {
        Some(Ok(url)) => upstream.url = url,
        Some(Err(error)) => {
            let error = root
                .findings()
                .error(format!("REPRISE_UPSTREAM_URL: {error}"));
            root.findings()
                .add(error.help("set it to \"http://127.0.0.1:8000\", or wherever the app is"));
        }
        None if section.has("url") => {}
        None => missing_upstream(&section),
    }
    upstream
}

fn missing_upstream(section: &Section<'_>) {
    let mut error = section.findings().error("it is not said where the app is");
    let mut help =
        "write url = \"http://127.0.0.1:8000\" below [upstream], or set REPRISE_UPSTREAM_URL";
    if section.is_present() {
        error = error.at(section.place_of("url"));
    } else {
        help = "write [upstream], and below it url = \"http://127.0.0.1:8000\", or set REPRISE_UPSTREAM_URL";
    }
    section.findings().add(error.help(help));
}

/// Reads `[memory]`.
pub(super) fn memory(root: &Section<'_>) -> Memory {
    let section = root.section("memory");
    let mut memory = Memory::default();
    section.set("max_size", &mut memory.max_size, kinds::max_size);
    section.set("max_entry_size", &mut memory.max_entry_size, kinds::size);
    section.finish();
    memory
}

/// Reads `[coherence]`.
pub(super) fn coherence(root: &Section<'_>) -> Coherence {
    let section = root.section("coherence");
    let mut coherence = Coherence::default();
    let words = [
        ("forward", OnPartition::Forward),
        ("reject", OnPartition::Reject),
    ];
    section.set("mode", &mut coherence.mode, kinds::word(&MODES));
    section.set("lease", &mut coherence.lease, kinds::duration);
    section.set(
        "intent_ttl",
        &mut coherence.intent_ttl,
        kinds::positive_duration,
    );
    section.set("origin_lag", &mut coherence.origin_lag, kinds::duration);
    section.set(
        "on_partition",
        &mut coherence.on_partition,
        kinds::word(&words),
    );
    section.set("url", &mut coherence.url, optional_redis_url);
    let words = [
        ("off", SessionToken::Off),
        ("header", SessionToken::Header),
        ("cookie", SessionToken::Cookie),
    ];
    section.set(
        "session_token",
        &mut coherence.session_token,
        kinds::word(&words),
    );
    section.finish();
    coherence
}

const MODES: [(&str, Mode); 3] = [
    ("strict", Mode::Strict),
    ("strong", Mode::Strong),
    ("bounded", Mode::Bounded),
];

/// Reads `[identity]`.
pub(super) fn identity(root: &Section<'_>, environment: &Environment) -> Identity {
    let section = root.section("identity");
    let mut identity = Identity::default();
    section.set("from", &mut identity.from, kinds::list(kinds::credential));
    identity.lookup = section.read("lookup", kinds::app_path);
    section.set("field", &mut identity.field, kinds::pointer);
    section.set("ttl", &mut identity.ttl, kinds::positive_duration);
    section.finish();
    let key = environment.identity_key.as_ref();
    identity.key = key.map(|key| IdentityKey::from_secret(key.expose().as_bytes()));
    identity
}

/// Reads `[query]`.
pub(super) fn query(root: &Section<'_>) -> QueryRules {
    let section = root.section("query");
    let mut query = QueryRules::default();
    section.set("sort", &mut query.sort, kinds::boolean);
    section.set("ignore", &mut query.ignore, kinds::list(kinds::parameter));
    section.finish();
    query
}

/// Reads `[compression]`.
pub(super) fn compression(root: &Section<'_>) -> Compression {
    let section = root.section("compression");
    let mut compression = Compression::default();
    section.set(
        "encodings",
        &mut compression.encodings,
        kinds::list(kinds::coding),
    );
    section.set("min_size", &mut compression.min_size, kinds::size);
    section.set(
        "types",
        &mut compression.types,
        kinds::list(kinds::media_type),
    );
    section.finish();
    compression
}

/// Reads `[monitor]`.
pub(super) fn monitor(root: &Section<'_>) -> Monitor {
    let section = root.section("monitor");
    let mut monitor = Monitor::default();
    section.set("slow_response", &mut monitor.slow_response, kinds::duration);
    section.set("slow_upstream", &mut monitor.slow_upstream, kinds::duration);
    section.set(
        "queries_high",
        &mut monitor.queries_high,
        kinds::number(0..=1_000_000),
    );
    section.set(
        "queries_max",
        &mut monitor.queries_max,
        kinds::number(0..=1_000_000),
    );
    section.finish();
    monitor
}

/// Reads `[admin]`.
pub(super) fn admin(root: &Section<'_>, environment: &Environment) -> Admin {
    let section = root.section("admin");
    let mut admin = Admin::default();
    let words = [
        ("loopback", WriteAccess::Loopback),
        ("token", WriteAccess::Token),
        ("off", WriteAccess::Off),
    ];
    section.set("listen", &mut admin.listen, kinds::parsed);
    section.set("write_access", &mut admin.write_access, kinds::word(&words));
    let variable = section.read("token_env", kinds::text);
    section.set("purge_method", &mut admin.purge_method, kinds::boolean);
    section.finish();
    let variable = variable.as_deref().unwrap_or(environment::ADMIN_TOKEN);
    admin.token = environment.secret(variable);
    admin
}

/// Reads `[warm]`.
pub(super) fn warm(root: &Section<'_>) -> Warm {
    let section = root.section("warm");
    let mut warm = Warm::default();
    section.set("paths", &mut warm.paths, kinds::list(kinds::app_path));
    section.set("hot", &mut warm.hot, kinds::number(0..=1_000_000));
    section.set("on_start", &mut warm.on_start, kinds::boolean);
    section.finish();
    warm
}

/// Reads `[trace]`.
pub(super) fn trace(root: &Section<'_>) -> Trace {
    let section = root.section("trace");
    let mut trace = Trace::default();
    section.set("enabled", &mut trace.enabled, kinds::boolean);
    section.finish();
    trace
}

/// Reads `[log]`; the environment wins over its `level`.
pub(super) fn log(root: &Section<'_>, environment: &Environment) -> Log {
    let section = root.section("log");
    let mut log = Log::default();
    let words = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    section.set("format", &mut log.format, kinds::word(&words));
    section.set("level", &mut log.filter, kinds::level);
    section.set("access", &mut log.access, kinds::boolean);
    section.finish();
    if let Some(filter) = &environment.log {
        log_filter(filter, root.findings());
        log.filter.clone_from(filter);
    }
    log
}

fn log_filter(filter: &str, findings: &Findings) {
    let lone = !filter.contains(['=', ',', '[']);
    let known = ["error", "warn", "info", "debug", "trace", "off"];
    let level = known.contains(&filter.to_ascii_lowercase().as_str());
    if (lone && !level) || tracing_subscriber::EnvFilter::try_new(filter).is_err() {
        let error = findings.error(format!("REPRISE_LOG: \"{filter}\" is no filter of logs"));
        findings.add(
            error.help("set it to a level such as \"debug\", or to \"info,reprise::fill=debug\""),
        );
    }
}

/// Reads `[reload]`.
pub(super) fn reload(root: &Section<'_>) -> Reload {
    let section = root.section("reload");
    let mut reload = Reload::default();
    section.set("watch", &mut reload.watch, kinds::boolean);
    section.finish();
    reload
}
