//! Logging: one line per event on standard error, JSON for machines or text for people.
//!
//! A thread of its own writes the lines. A request never waits for whoever reads them: when they are not read, lines
//! are lost and counted.

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Log, LogFormat};

use super::{Failure, colour};

/// How many lines wait to be written.
const WAITING_LINES: usize = 8 * 1024;

/// The library warns of every stray frame: any client could write the log full. What comes of it is counted
/// (`reprise_connections_closed_total`). The operator's own directives come later, and win.
const QUIET: &str = "h2=error";

/// Logging under way: what is waiting is written when it is dropped.
#[derive(Debug)]
pub(super) struct Logging {
    lost: ErrorCounter,
    _writer: WorkerGuard,
}

impl Logging {
    /// How many lines were lost because nobody read them.
    pub(super) fn lost(&self) -> usize {
        self.lost.dropped_lines()
    }
}

/// Starts logging for the process, until what is returned is dropped.
pub(super) fn start(log: &Log) -> Result<Logging, Failure> {
    let mut directives = format!("{QUIET},{}", log.filter);
    if log.access {
        directives.push_str(",access=info");
    }
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(&directives)
        .map_err(|error| {
            Failure::Configuration(format!("[log] level \"{}\": {error}", log.filter))
        })?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .finish(std::io::stderr());
    let logging = Logging {
        lost: writer.error_counter(),
        _writer: guard,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let started = match log.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        LogFormat::Text => builder
            .with_ansi(colour())
            .with_target(false)
            .compact()
            .try_init(),
    };
    started.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(logging)
}
