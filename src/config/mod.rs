//! `proxy.toml`: read, checked as a whole, and turned into types.
//!
//! The flow is `text → tables and rules → check → Config`. Every problem of a file is reported in one run, each with its
//! line, a caret and what to write instead, because a person who fixes a file wants to fix it once. Keys are found by
//! walking the parsed file instead of deriving a deserializer, which would stop at the first problem.
//!
//! Nothing below this module knows TOML or the environment: it hands out typed values.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

mod check;
mod diagnostic;
mod environment;
mod file;
mod findings;
mod kinds;
mod knobs;
mod names;
mod overlap;
mod pending;
mod reader;
mod redis;
mod relations;
mod routes;
mod settings;
mod syntax;
mod writes;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Severity};
pub use environment::{Environment, Secret};
pub use settings::{
    Admin, Coherence, Identity, Log, LogFormat, MaxSize, Memory, Monitor, OnPartition, Password,
    Redis, Reload, Server, SessionToken, Tls, Trace, Upstream, Warm, WriteAccess,
};

use crate::config::diagnostic::Source;
use crate::config::findings::Findings;
use crate::config::reader::Section;
use crate::key::QueryRules;
use crate::policy::Policy;
use crate::respond::encode;
use crate::route::Table;

/// A configuration, checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The side of the clients.
    pub server: Server,
    /// The side of the app.
    pub upstream: Upstream,
    /// Tier 1.
    pub memory: Memory,
    /// Tier 2; `None`: memory only.
    pub redis: Option<Redis>,
    /// What readers are promised about writes.
    pub coherence: Coherence,
    /// What makes two callers two users.
    pub identity: Identity,
    /// Which query parameters are part of a key.
    pub query: QueryRules,
    /// Which representations are made.
    pub compression: encode::Config,
    /// What counts as slow.
    pub monitor: Monitor,
    /// Probes, metrics, page and API.
    pub admin: Admin,
    /// What is fetched before clients ask.
    pub warm: Warm,
    /// OpenTelemetry.
    pub trace: Trace,
    /// What is logged.
    pub log: Log,
    /// When the file is read again.
    pub reload: Reload,
    /// Routes, writes and relations; its defaults are `[cache]`.
    pub rules: Table,
}

/// A configuration that can be used, and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What probably is not meant so.
    pub warnings: Vec<Diagnostic>,
    /// What the operator should know: what is not in effect yet, and when nothing is cached.
    pub notices: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Failure {
    /// The file cannot be read.
    Unreadable(io::Error, PathBuf),
    /// It says what cannot be: at least one error, with the warnings, in the order of the file.
    Invalid(Vec<Diagnostic>),
}

/// Reads and checks a file.
///
/// # Errors
///
/// [`Failure::Unreadable`] when it cannot be read or is not UTF-8, [`Failure::Invalid`] with everything wrong in it.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Unreadable(error, path.to_owned()))?;
    parse(&path.display().to_string(), &text, environment)
}

/// Checks a text; `name` is what the findings call the file.
///
/// # Errors
///
/// [`Failure::Invalid`] with everything wrong in it.
pub fn parse(name: &str, text: &str, environment: &Environment) -> Result<Loaded, Failure> {
    let source = Arc::new(Source {
        name: name.to_owned(),
        text: text.to_owned(),
    });
    let findings = Findings::new(&source);
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    let damage = syntax::report(&errors, &findings);
    let count = findings.count();
    let (config, notices) = interpret(document.get_ref(), environment, &findings);
    findings.forget(count, &damage);
    let found = findings.into_sorted();
    if found.iter().any(|one| one.severity() == Severity::Error) {
        return Err(Failure::Invalid(found));
    }
    Ok(Loaded {
        config,
        warnings: found,
        notices,
    })
}

fn interpret<'a>(
    document: &'a DeTable<'a>,
    environment: &Environment,
    findings: &'a Findings,
) -> (Config, Vec<String>) {
    let root = Section::root(findings, document);
    file::version(&root);
    let defaults = knobs::cache(&root);
    let routes = routes::read(&root, &defaults);
    let writes = writes::read(&root);
    let relations = relations::read(&root);
    let mut config = tables(&root, environment);
    root.finish();

    config.rules = Table::new(
        routes.iter().map(|read| read.route.clone()).collect(),
        writes.iter().flat_map(|read| read.lines.clone()).collect(),
        relations.iter().map(|read| read.relation.clone()).collect(),
        defaults,
    );
    check::tables(&root, &config);
    check::routes(&root, &routes, &config);
    check::relations(findings, &relations);
    check::tags(findings, &routes, &writes, &relations);

    let mut notices = pending::notices(document);
    if config.rules.routes().is_empty() {
        notices.push("no [[route]]: everything passes through".to_owned());
    }
    (config, notices)
}

fn tables(root: &Section<'_>, environment: &Environment) -> Config {
    Config {
        server: file::server(root),
        upstream: file::upstream(root, environment),
        memory: file::memory(root),
        redis: redis::read(root, environment),
        coherence: file::coherence(root),
        identity: file::identity(root, environment),
        query: file::query(root),
        compression: file::compression(root),
        monitor: file::monitor(root),
        admin: file::admin(root, environment),
        warm: file::warm(root),
        trace: file::trace(root),
        log: file::log(root, environment),
        reload: file::reload(root),
        rules: Table::new(Vec::new(), Vec::new(), Vec::new(), Policy::default()),
    }
}

impl Failure {
    /// Everything wrong, for people, in colour or not.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        match self {
            Self::Unreadable(error, path) => {
                format!("error: {} cannot be read: {error}", path.display())
            }
            Self::Invalid(found) => {
                let found: Vec<String> = found.iter().map(|one| one.render(colour)).collect();
                found.join("\n\n")
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error, _) => Some(error),
            Self::Invalid(_) => None,
        }
    }
}
