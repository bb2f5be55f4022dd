//! Why a request got no response: what failed, and whether the app may have seen the request.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::body::BoxError;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No connection came about, or it was gone before the request was written.
    Connect,
    /// No connection came about in time.
    ConnectTimeout,
    /// The response's head did not come in time.
    Timeout,
    /// The connection ended before the response's head was complete.
    Reset,
    /// What came is not HTTP/1.1.
    Protocol,
    /// The request waited too long for its turn.
    Saturated,
    /// The request's own body failed: the client is gone, or too slow.
    RequestBody,
    /// The response's body ended before it was complete.
    Truncated,
    /// The response's body stopped coming.
    Stalled,
}

impl Kind {
    /// A fixed word, for labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Saturated => "saturated",
            Self::RequestBody => "request_body",
            Self::Truncated => "truncated",
            Self::Stalled => "stalled",
        }
    }

    pub(super) fn of(error: &hyper::Error, upload_failed: bool) -> Self {
        if upload_failed {
            Self::RequestBody
        } else if error.is_parse() {
            Self::Protocol
        } else {
            Self::Reset
        }
    }
}

/// A request that failed, or a response's body that did.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    peer: Arc<str>,
    source: Option<BoxError>,
}

impl Error {
    pub(super) fn new(kind: Kind, peer: &Arc<str>, source: Option<BoxError>) -> Self {
        Self {
            kind,
            peer: Arc::clone(peer),
            source,
        }
    }

    /// What failed.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The app took too long (a 504, where the other failures are a 502 or 503).
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(
            self.kind,
            Kind::ConnectTimeout | Kind::Timeout | Kind::Stalled
        )
    }

    /// The app could not be reached at all.
    #[must_use]
    pub const fn is_connect(&self) -> bool {
        matches!(self.kind, Kind::Connect | Kind::ConnectTimeout)
    }

    /// Whether the app may have acted on the request. `false` is certain, `true` is not.
    #[must_use]
    pub const fn may_have_reached_app(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Connect | Kind::ConnectTimeout | Kind::Saturated
        )
    }

    /// The failure to report after two attempts: never one that forgets that the app may have seen the first.
    pub(super) fn or_worse(self, second: Self) -> Self {
        if self.may_have_reached_app() && !second.may_have_reached_app() {
            self
        } else {
            second
        }
    }

    fn reason(&self) -> &'static str {
        let mut source = StdError::source(self);
        let mut io = None;
        while let (None, Some(error)) = (io, source) {
            io = error.downcast_ref::<io::Error>();
            source = error.source();
        }
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => "refused",
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "reset",
            Some(io::ErrorKind::NotFound) => "no such socket",
            Some(io::ErrorKind::PermissionDenied) => "permission denied",
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                "unreachable"
            }
            Some(io::ErrorKind::InvalidData) => "TLS failed",
            _ => "failed",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = &self.peer;
        match self.kind {
            Kind::Connect => write!(f, "connect to {peer}: {}", self.reason()),
            Kind::ConnectTimeout => write!(f, "connect to {peer}: timed out"),
            Kind::Timeout => write!(f, "wait for the answer of {peer}: timed out"),
            Kind::Reset => write!(
                f,
                "wait for the answer of {peer}: the connection was closed"
            ),
            Kind::Protocol => write!(f, "read the answer of {peer}: not HTTP/1.1"),
            Kind::Saturated => write!(f, "wait for a free connection to {peer}: timed out"),
            Kind::RequestBody => write!(f, "send to {peer}: the request's body was not complete"),
            Kind::Truncated => write!(f, "read the body from {peer}: ended before it was complete"),
            Kind::Stalled => write!(f, "read the body from {peer}: timed out"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_reached_the_app_is_not_forgotten() {
        let peer: Arc<str> = "app".into();
        let error = |kind| Error::new(kind, &peer, None);
        let table = [
            (Kind::Reset, Kind::Connect, Kind::Reset),
            (Kind::Reset, Kind::Timeout, Kind::Timeout),
            (Kind::Connect, Kind::ConnectTimeout, Kind::ConnectTimeout),
            (Kind::Connect, Kind::Reset, Kind::Reset),
        ];
        for (first, second, reported) in table {
            assert_eq!(
                error(first).or_worse(error(second)).kind(),
                reported,
                "{first:?} then {second:?}"
            );
        }
    }
}
