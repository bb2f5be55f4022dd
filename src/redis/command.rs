//! What is sent to Redis, how long it took and how it ended: one command as data, and the counters.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fred::types::Value;
use fred::types::config::Server;
use prometheus::{Histogram, IntCounter};

use super::error::{Error, Kind};
use crate::metrics::RedisMetrics;

/// What a command does, for labels.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Command {
    /// Reads a value, or its beginning.
    Get,
    /// Writes a value.
    Set,
    /// Removes a value.
    Del,
    /// Runs a script.
    Script,
    /// Waits for the replicas.
    Wait,
    /// Lists keys.
    Scan,
}

impl Command {
    const ALL: [Self; 6] = [
        Self::Get,
        Self::Set,
        Self::Del,
        Self::Script,
        Self::Wait,
        Self::Scan,
    ];

    /// A fixed word, for labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Del => "del",
            Self::Script => "script",
            Self::Wait => "wait",
            Self::Scan => "scan",
        }
    }
}

/// One command as it will be sent.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) command: Command,
    pub(super) name: &'static str,
    pub(super) arguments: Vec<Value>,
    pub(super) to: Place,
    pub(super) timeout: Duration,
}

impl Order {
    /// A sign of life.
    pub(super) fn ping(timeout: Duration) -> Self {
        Self {
            command: Command::Get,
            name: "PING",
            arguments: Vec::new(),
            to: Place::Any,
            timeout,
        }
    }
}

/// Which node of a cluster it goes to. Without a cluster there is one only.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Slot(u16),
    Node(Server),
    Any,
}

/// The counters of one client, resolved once; and what Redis complained of last, so that it is told once.
pub(super) struct Tally {
    used_for: &'static str,
    durations: [Histogram; Command::ALL.len()],
    errors: [IntCounter; Kind::ALL.len()],
    /// The first word of the last error reply to each command. A standard lock: held for a comparison, only after errors
    /// and the first success after one.
    complaints: [Mutex<Option<String>>; Command::ALL.len()],
}

impl Tally {
    pub(super) fn new(metrics: &RedisMetrics) -> Self {
        Self {
            used_for: metrics.used_for,
            durations: Command::ALL.map(|command| metrics.duration(command.as_str())),
            errors: Kind::ALL.map(|kind| metrics.error(kind.as_str())),
            complaints: Default::default(),
        }
    }

    /// Counts how one command ended.
    pub(super) fn ended<T>(&self, command: Command, took: Duration, result: &Result<T, Error>) {
        // What was not sent took no time: counted, it would make Redis look fast.
        let sent = |error: &Error| !matches!(error.kind(), Kind::Breaker | Kind::Busy);
        if result.as_ref().err().is_none_or(sent) {
            self.durations[command as usize].observe(took.as_secs_f64());
        }
        match result {
            Ok(_) => self.content(command),
            Err(error) => {
                self.errors[error.kind() as usize].inc();
                if error.kind() == Kind::Reply {
                    self.complain(command, error);
                }
            }
        }
    }

    fn content(&self, command: Command) {
        let mut last = self.complaints[command as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.take().is_some() {
            let command = command.as_str();
            tracing::info!(used_for = self.used_for, command, "Redis accepts it again");
        }
    }

    fn complain(&self, command: Command, error: &Error) {
        let code = error.code();
        if code == "NOSCRIPT" {
            // Redis does not know a script yet: it is handed over, and that is all.
            return;
        }
        let mut last = self.complaints[command as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(code) {
            *last = Some(code.to_owned());
            tracing::warn!(used_for = self.used_for, %error, "Redis answers with an error");
        }
    }
}
