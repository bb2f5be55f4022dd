//! Why connections end: one word each, for the counters.
//!
//! Whoever ends a connection says so beforehand ([`Activity::blame`](super::activity::Activity::blame)); the rest is
//! read from hyper's error.

use std::error::Error as StdError;

/// Why a connection ended. The order is that of [`ENDINGS`](crate::metrics::ENDINGS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ending {
    /// In the ordinary way, by either side.
    Ended,
    /// No request came for too long.
    IdleTimeout,
    /// A head did not come in time.
    HeaderTimeout,
    /// The body of an HTTP/1 request did not come in time.
    BodyTimeout,
    /// The client took nothing of what waits for it.
    SlowReader,
    /// A head was larger than allowed: hyper answered 431, or 414.
    HeadTooLarge,
    /// What came is not HTTP: hyper answered 400, or GOAWAY.
    Malformed,
    /// HTTP/2 was used to make work: requests given up as soon as sent, frames without end.
    Abuse,
    /// The client left in the middle of something, or the network did.
    Broken,
    /// The TLS handshake failed.
    Tls,
    /// The process is stopping.
    Drain,
}

impl Ending {
    const ALL: [Self; 11] = [
        Self::Ended,
        Self::IdleTimeout,
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::SlowReader,
        Self::HeadTooLarge,
        Self::Malformed,
        Self::Abuse,
        Self::Broken,
        Self::Tls,
        Self::Drain,
    ];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    pub(super) fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// What an error of a connection means.
    pub(super) fn of(error: &(dyn StdError + Send + Sync + 'static)) -> Self {
        let Some(error) = error.downcast_ref::<hyper::Error>() else {
            return Self::Broken;
        };
        if error.is_parse_too_large() {
            return Self::HeadTooLarge;
        }
        if error.is_parse() {
            return Self::Malformed;
        }
        // HTTP/2 errors have no public type here, only their text: "connection error detected" is what this side found.
        match error.source().map(ToString::to_string) {
            Some(text) if text.contains("excessive load") => Self::Abuse,
            Some(text) if text.starts_with("connection error detected") => Self::Malformed,
            _ => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ENDINGS;

    #[test]
    fn every_ending_has_its_word() {
        assert_eq!(Ending::ALL.len(), ENDINGS.len());
        for (index, ending) in (0..).zip(Ending::ALL) {
            assert_eq!(ending.index(), usize::from(index));
            assert_eq!(Ending::from_index(index), Some(ending));
        }
        assert_eq!(ENDINGS[Ending::Abuse.index()], "h2_abuse");
        assert_eq!(ENDINGS[Ending::Drain.index()], "drain");
        assert_eq!(Ending::from_index(u8::MAX), None);
    }
}
