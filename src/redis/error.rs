//! Why a command to Redis came to nothing.

use std::fmt;

use super::Command;

/// What failed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// No answer in time. The command may still be carried out, even later.
    Timeout,
    /// There is no connection, or it ended before the answer. In the latter case the command may have been carried out.
    Connection,
    /// Not sent: the last commands failed, and Redis is left alone for a moment.
    Breaker,
    /// Not sent: too many commands are under way.
    Busy,
    /// Redis answered, with an error or with something that makes no sense here.
    Reply,
}

impl Kind {
    /// Every kind, for the counters.
    pub const ALL: [Self; 5] = [
        Self::Timeout,
        Self::Connection,
        Self::Breaker,
        Self::Busy,
        Self::Reply,
    ];

    /// A fixed word, for labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Breaker => "breaker_open",
            Self::Busy => "busy",
            Self::Reply => "reply",
        }
    }
}

/// A command that failed.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    command: Command,
    text: String,
}

impl Error {
    pub(super) fn new(kind: Kind, command: Command, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            kind,
            command,
            text,
        }
    }

    /// What failed.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The word that Redis' error begins with (`NOPERM`, `OOM`, `READONLY`); nothing where Redis did not answer.
    #[must_use]
    pub fn code(&self) -> &str {
        match self.kind {
            Kind::Reply => self.text.split(' ').next().unwrap_or_default(),
            _ => "",
        }
    }

    /// Whether the command may have been carried out, now or later. `false` is certain, `true` is not.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self.kind {
            Kind::Timeout => true,
            Kind::Connection => self.text != NOT_CONNECTED,
            Kind::Breaker | Kind::Busy => false,
            // A script may have written before it failed.
            Kind::Reply => !matches!(self.code(), "NOPERM" | "OOM" | "READONLY" | "LOADING"),
        }
    }
}

/// What [`Kind::Connection`] says when nothing was sent.
pub(super) const NOT_CONNECTED: &str = "not connected";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis {}: {}", self.command.as_str(), self.text)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_has_not_happened() {
        for (kind, text, code, may) in [
            (Kind::Timeout, "late", "", true),
            (Kind::Connection, NOT_CONNECTED, "", false),
            (Kind::Connection, "closed", "", true),
            (Kind::Breaker, "open", "", false),
            (Kind::Busy, "full", "", false),
            (Kind::Reply, "OOM command", "OOM", false),
            (Kind::Reply, "ERR in a script", "ERR", true),
        ] {
            let error = Error::new(kind, Command::Script, text);
            assert_eq!(
                (error.code(), error.may_have_happened()),
                (code, may),
                "{error}"
            );
        }
    }
}
