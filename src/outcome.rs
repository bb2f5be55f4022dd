//! Outcomes: what happened to a request, as one value.
//!
//! `X-Cache`, `Cache-Status`, the access log, the metrics and `explain` are all made of an [`Outcome`], so that they
//! cannot tell different stories.

use std::fmt;

use http::HeaderValue;

use crate::key::Odd;
use crate::policy::storing::Unstorable;

/// The six results. They exclude each other and add up to all requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Result {
    /// Answered from the cache, fresh.
    Hit,
    /// Answered from the cache, stale within what was allowed.
    Stale,
    /// Answered by a fill that another request had begun.
    Coalesced,
    /// Answered from the cache after the app confirmed it.
    Revalidated,
    /// Answered by the app; the cache had nothing.
    Miss,
    /// Answered by the app; the cache was not asked.
    Bypass,
}

impl Result {
    /// Every result, in the order of [`Result::index`].
    pub const ALL: [Self; 6] = [
        Self::Hit,
        Self::Stale,
        Self::Coalesced,
        Self::Revalidated,
        Self::Miss,
        Self::Bypass,
    ];

    /// The value of `X-Cache`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Stale => "STALE",
            Self::Coalesced => "COALESCED",
            Self::Revalidated => "REVALIDATED",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
        }
    }

    /// The value of the metrics' label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Coalesced => "coalesced",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }

    /// Whether the bytes of the answer were stored before the request came.
    #[must_use]
    pub const fn from_cache(self) -> bool {
        matches!(self, Self::Hit | Self::Stale | Self::Revalidated)
    }

    /// Its place in [`Result::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Why the app was asked (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Forward {
    /// The cache was configured not to handle the request.
    Bypass(Bypass),
    /// The method is not one that the cache answers.
    Method,
    /// Nothing was stored under the key.
    UriMiss,
    /// Nothing was stored for these request fields.
    VaryMiss,
    /// What was stored was stale.
    Stale,
    /// The request's own directives asked for it.
    Request,
    /// What was stored has been dropped by a write, or a write is under way.
    Written(Written),
}

/// Why the cache was not asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bypass {
    /// No `[[route]]` matches the path.
    NoRoute,
    /// The route says `scope = "off"`.
    RouteOff,
    /// The route keeps users apart and nobody said who is asking.
    NoIdentity,
    /// The path can be read in different ways.
    Path(Odd),
    /// A segment of the path has spellings that drops could not reach.
    Spelling,
    /// The request carries credentials of which the key knows nothing.
    Credentials,
    /// The connection is to become another protocol's.
    Upgrade,
    /// The request has a body.
    Body,
    /// This replica could not read the log in time up to what the client has seen.
    Token,
}

impl Bypass {
    /// The word for `Cache-Status` and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::RouteOff => "route-off",
            Self::NoIdentity => "no-identity",
            Self::Path(odd) => odd.as_str(),
            Self::Spelling => "path-spelling",
            Self::Credentials => "unknown-credentials",
            Self::Upgrade => "upgrade",
            Self::Body => "request-body",
            Self::Token => "token",
        }
    }
}

/// What a write did to the entry that was there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// It dropped it.
    Dropped,
    /// It is under way.
    Dirty,
    /// Nobody knows: this replica has not read the log lately.
    NoLease,
    /// Nobody knows any more: what was stored is of another epoch, or older than the log remembers.
    Forgotten,
}

/// What happened to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Which of the six.
    pub result: Result,
    /// Why the app was asked, if it was.
    pub forward: Option<Forward>,
    /// The status the app answered with, where it is not the status sent.
    pub forward_status: Option<u16>,
    /// Whether the answer was stored.
    pub stored: bool,
    /// Why it was not.
    pub not_stored: Option<Unstorable>,
    /// Whether it came from a fill that others share.
    pub collapsed: bool,
    /// Seconds of freshness left, when the cache answered.
    pub ttl: Option<i64>,
    /// Which tier answered, or what else there is to say.
    pub detail: Option<&'static str>,
}

impl Outcome {
    /// An outcome of this kind, with nothing else to say.
    #[must_use]
    pub const fn new(result: Result) -> Self {
        Self {
            result,
            forward: None,
            forward_status: None,
            stored: false,
            not_stored: None,
            collapsed: false,
            ttl: None,
            detail: None,
        }
    }

    /// Answered from a tier.
    #[must_use]
    pub const fn hit(ttl: i64, detail: &'static str) -> Self {
        Self {
            ttl: Some(ttl),
            detail: Some(detail),
            ..Self::new(Result::Hit)
        }
    }

    /// Answered stale, because of this.
    #[must_use]
    pub const fn stale(ttl: i64, detail: &'static str) -> Self {
        Self {
            ttl: Some(ttl),
            detail: Some(detail),
            ..Self::new(Result::Stale)
        }
    }

    /// Answered by the app, for this reason.
    #[must_use]
    pub const fn forwarded(result: Result, forward: Forward) -> Self {
        Self {
            forward: Some(forward),
            ..Self::new(result)
        }
    }

    /// Not handled by the cache, for this reason.
    #[must_use]
    pub const fn bypass(reason: Bypass) -> Self {
        Self::forwarded(Result::Bypass, Forward::Bypass(reason))
    }

    /// Writes the `Cache-Status` member (RFC 9211) into a buffer.
    fn write(&self, text: &mut impl fmt::Write) -> fmt::Result {
        text.write_str("reprise")?;
        if matches!(self.result, Result::Hit | Result::Stale) {
            text.write_str("; hit")?;
        }
        if let Some(forward) = self.forward {
            write!(text, "; fwd={}", forward.as_str())?;
        }
        if let Some(status) = self.forward_status {
            write!(text, "; fwd-status={status}")?;
        }
        if let Some(ttl) = self.ttl {
            write!(text, "; ttl={ttl}")?;
        }
        if self.stored {
            text.write_str("; stored")?;
        }
        if self.collapsed {
            text.write_str("; collapsed")?;
        }
        match self.detail.or_else(|| self.reason()) {
            Some(detail) => write!(text, "; detail={detail}"),
            None => Ok(()),
        }
    }

    /// The `Cache-Status` field value.
    #[must_use]
    pub fn cache_status(&self) -> HeaderValue {
        let mut text = String::with_capacity(64);
        // Writing into a `String` cannot fail, and every word is ASCII.
        let written = self.write(&mut text).map(|()| HeaderValue::from_str(&text));
        written
            .ok()
            .and_then(std::result::Result::ok)
            .unwrap_or(HeaderValue::from_static("reprise"))
    }

    /// The finer reason behind a forward or a refusal to store, for `Cache-Status` and the log.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match (self.forward, self.not_stored) {
            (Some(Forward::Bypass(bypass)), _) => Some(bypass.as_str()),
            (Some(Forward::Written(Written::Dirty)), _) => Some("dirty"),
            (_, Some(reason)) => Some(reason.as_str()),
            (Some(Forward::Written(Written::Dropped)), _) => Some("tag"),
            (Some(Forward::Written(Written::NoLease)), _) => Some("lease"),
            (Some(Forward::Written(Written::Forgotten)), _) => Some("epoch"),
            (_, None) => None,
        }
    }
}

impl Forward {
    /// The token of RFC 9211 §2.2.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass(_) => "bypass",
            Self::Method => "method",
            Self::UriMiss | Self::Written(_) => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text)?;
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_in_the_words_of_rfc_9211() {
        for (outcome, expected) in [
            (Outcome::hit(212, "l1"), "reprise; hit; ttl=212; detail=l1"),
            (
                Outcome::stale(-14, "updating"),
                "reprise; hit; ttl=-14; detail=updating",
            ),
            (
                Outcome {
                    stored: true,
                    ..Outcome::forwarded(Result::Miss, Forward::UriMiss)
                },
                "reprise; fwd=uri-miss; stored",
            ),
            (
                Outcome {
                    collapsed: true,
                    ..Outcome::forwarded(Result::Coalesced, Forward::UriMiss)
                },
                "reprise; fwd=uri-miss; collapsed",
            ),
            (
                Outcome {
                    stored: true,
                    forward_status: Some(304),
                    ..Outcome::forwarded(Result::Revalidated, Forward::Stale)
                },
                "reprise; fwd=stale; fwd-status=304; stored",
            ),
            (
                Outcome {
                    not_stored: Some(Unstorable::SetCookie),
                    ..Outcome::forwarded(Result::Miss, Forward::UriMiss)
                },
                "reprise; fwd=uri-miss; detail=set_cookie",
            ),
            (
                Outcome::bypass(Bypass::NoRoute),
                "reprise; fwd=bypass; detail=no-route",
            ),
            (
                Outcome::forwarded(Result::Bypass, Forward::Method),
                "reprise; fwd=method",
            ),
            (
                Outcome::forwarded(Result::Miss, Forward::Written(Written::Dirty)),
                "reprise; fwd=uri-miss; detail=dirty",
            ),
        ] {
            assert_eq!(outcome.cache_status(), expected);
        }
    }
}
