//! Logging: one line per event on standard error, JSON for machines or text for people.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Log, LogFormat};

use super::{Failure, colour};

/// Starts logging for the process.
pub(super) fn start(log: &Log) -> Result<(), Failure> {
    let directives = if log.access {
        format!("{},access=info", log.filter)
    } else {
        log.filter.clone()
    };
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(&directives)
        .map_err(|error| {
            Failure::Configuration(format!("[log] level \"{}\": {error}", log.filter))
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
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
    started.map_err(|error| Failure::Failed(error.to_string()))
}
