//! RFC 9111 §4.2: how long an answer is fresh, how old it is, and how long it may be used when it no longer is.
//!
//! Lifetimes are computed when they are asked for, from stored facts and the rules of the moment: a new `ttl` applies
//! to what is already stored.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::Policy;
use crate::entry::{Entry, Facts};
use crate::headers::date::Expires;

/// An answer that says who somebody is, or that he may not, is never kept longer than this: rights change.
const DENIED: Duration = Duration::from_secs(5);

/// How long an entry that has to be validated each time is kept for it.
const KEPT_FOR_VALIDATION: Duration = Duration::from_secs(3600);

/// Who said how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The app: `Cache-Control` or `Expires`.
    App,
    /// The route's `ttl`.
    Route,
    /// The route's `negative_ttl`.
    Negative,
    /// A share of the time since the last change.
    Heuristic,
    /// Nobody.
    None,
}

/// How long an answer is fresh, counted from its age zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime {
    /// The time.
    pub duration: Duration,
    /// Who said so.
    pub source: Source,
}

/// How long an answer may be used after its lifetime.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Windows {
    /// While it is being refreshed (RFC 5861 §3).
    pub while_revalidate: Duration,
    /// When the app fails (RFC 5861 §4).
    pub if_error: Duration,
}

/// The freshness lifetime of an answer with these facts (RFC 9111 §4.2.1).
#[must_use]
pub fn lifetime(facts: &Facts, status: StatusCode, policy: &Policy) -> Lifetime {
    let said = explicit(facts, policy).map(|duration| Lifetime {
        duration,
        source: Source::App,
    });
    let lifetime = said.unwrap_or_else(|| unsaid(facts, status, policy));
    let denied = status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN;
    let longest = if denied {
        policy.max_ttl.min(DENIED)
    } else {
        policy.max_ttl
    };
    Lifetime {
        duration: lifetime.duration.min(longest),
        ..lifetime
    }
}

/// What the app said: `s-maxage` before `max-age` before `Expires`, since this cache is shared.
fn explicit(facts: &Facts, policy: &Policy) -> Option<Duration> {
    if !policy.honor_cache_control {
        return None;
    }
    let said = &facts.directives;
    if said.no_cache {
        return Some(Duration::ZERO);
    }
    let expires = || match facts.expires.as_ref()? {
        Expires::At(time) => Some(time.duration_since(facts.date).unwrap_or_default()),
        Expires::Invalid => Some(Duration::ZERO),
    };
    said.s_maxage.or(said.max_age).or_else(expires)
}

/// What the route says where the app did not.
fn unsaid(facts: &Facts, status: StatusCode, policy: &Policy) -> Lifetime {
    let missing = status == StatusCode::NOT_FOUND || status == StatusCode::GONE;
    if missing && policy.negative_ttl > Duration::ZERO {
        return Lifetime {
            duration: policy.negative_ttl,
            source: Source::Negative,
        };
    }
    if policy.ttl > Duration::ZERO && policy.statuses.contains(&status) {
        return Lifetime {
            duration: policy.ttl,
            source: Source::Route,
        };
    }
    let public = policy.honor_cache_control && facts.directives.public;
    let guessing = policy.heuristic > 0.0 && (public || allows_guessing(status));
    let since = facts
        .last_modified
        .and_then(|modified| facts.date.duration_since(modified).ok());
    match since {
        Some(since) if guessing => Lifetime {
            duration: since.mul_f64(policy.heuristic),
            source: Source::Heuristic,
        },
        Some(_) | None => Lifetime {
            duration: Duration::ZERO,
            source: Source::None,
        },
    }
}

/// The statuses that are heuristically cacheable (RFC 9110 §15.1). Another is if the app says `public` (RFC 9111 §4.2.2).
const fn allows_guessing(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// An entry's lifetime, shortened by its jitter.
#[must_use]
pub fn lifetime_of(entry: &Entry, policy: &Policy) -> Duration {
    let lifetime = lifetime(&entry.facts, entry.status, policy).duration;
    if policy.ttl_jitter > 0.0 {
        lifetime.mul_f64((1.0 - policy.ttl_jitter * entry.jitter).clamp(0.0, 1.0))
    } else {
        lifetime
    }
}

/// The age of an entry (RFC 9111 §4.2.3).
///
/// `Date` has whole seconds, so the apparent age is counted in whole seconds too: otherwise an answer made just
/// before the second turned would be born nearly a second old.
#[must_use]
pub fn age(entry: &Entry, now: SystemTime) -> Duration {
    let times = entry.times;
    let apparent = times
        .received
        .duration_since(entry.facts.date)
        .unwrap_or_default();
    let apparent = Duration::from_secs(apparent.as_secs());
    let delay = times
        .received
        .duration_since(times.requested)
        .unwrap_or_default();
    let corrected = if entry.facts.age > Duration::ZERO {
        entry.facts.age + delay
    } else {
        Duration::ZERO
    };
    let resident = now.duration_since(times.received).unwrap_or_default();
    apparent.max(corrected) + resident
}

/// How long an answer may be used once it is stale.
///
/// `must-revalidate`, `proxy-revalidate` and `no-cache` forbid it (RFC 9111 §4.2.4); `s-maxage` does too, but for a
/// window that the app itself gave (§5.2.2.10).
#[must_use]
pub fn windows(facts: &Facts, policy: &Policy) -> Windows {
    let own = Windows {
        while_revalidate: policy.stale_while_revalidate,
        if_error: policy.stale_if_error,
    };
    if !policy.honor_cache_control {
        return own;
    }
    let said = &facts.directives;
    if said.must_revalidate || said.proxy_revalidate || said.no_cache {
        return Windows::default();
    }
    let own = if said.s_maxage.is_some() {
        Windows::default()
    } else {
        own
    };
    Windows {
        while_revalidate: said.stale_while_revalidate.unwrap_or(own.while_revalidate),
        if_error: said.stale_if_error.unwrap_or(own.if_error),
    }
}

/// How long from now an entry is worth keeping: until its last window has passed, and a while longer if it can be
/// validated.
#[must_use]
pub fn keep_for(entry: &Entry, policy: &Policy, now: SystemTime) -> Duration {
    let windows = windows(&entry.facts, policy);
    let mut keep = lifetime_of(entry, policy) + windows.while_revalidate.max(windows.if_error);
    if entry.has_app_validator() {
        keep += KEPT_FOR_VALIDATION;
    }
    keep.saturating_sub(age(entry, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Certificate, Material, Stamp, Times};
    use crate::key::Variant;
    use crate::tag::Tags;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    const T0: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        // 1994-11-06 08:49:37, the date of the RFC's examples, as zero.
        T0 + Duration::from_secs(784_111_777 + seconds)
    }

    fn entry(lines: &[(&'static str, &'static str)], requested: u64, received: u64) -> Entry {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Entry::new(Material {
            key: Box::default(),
            variant: Variant::default(),
            status: StatusCode::OK,
            headers,
            body: Bytes::new(),
            times: Times {
                requested: at(requested),
                received: at(received),
            },
            certificate: Certificate::new(Stamp { epoch: 0, seq: 0 }, Tags::new()),
            jitter: 0.5,
            digest: 0,
        })
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn the_lifetime_is_the_apps_word_then_the_routes() {
        let minute = Policy {
            ttl: Duration::from_secs(60),
            ..Policy::default()
        };
        let deaf = Policy {
            honor_cache_control: false,
            ..minute.clone()
        };
        let capped = Policy {
            max_ttl: Duration::from_secs(7),
            ..minute.clone()
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (lines, policy, seconds, source) in [
            (vec![], &minute, 60, Source::Route),
            (
                vec![("cache-control", "max-age=9")],
                &minute,
                9,
                Source::App,
            ),
            (
                vec![("cache-control", "max-age=9, s-maxage=5")],
                &minute,
                5,
                Source::App,
            ),
            (
                vec![("cache-control", "max-age=9")],
                &deaf,
                60,
                Source::Route,
            ),
            (
                vec![("cache-control", "max-age=9")],
                &capped,
                7,
                Source::App,
            ),
            (
                vec![("cache-control", "no-cache, max-age=9")],
                &minute,
                0,
                Source::App,
            ),
            (
                vec![date, ("expires", "Sun, 06 Nov 1994 08:49:57 GMT")],
                &minute,
                20,
                Source::App,
            ),
            (
                vec![
                    date,
                    ("expires", "Sun, 06 Nov 1994 08:49:57 GMT"),
                    ("cache-control", "max-age=3"),
                ],
                &minute,
                3,
                Source::App,
            ),
            (vec![date, ("expires", "0")], &minute, 0, Source::App),
            (
                vec![date, ("expires", "Sun, 06 Nov 1994 08:49:00 GMT")],
                &minute,
                0,
                Source::App,
            ),
        ] {
            let entry = entry(&lines, 0, 0);
            let expected = Lifetime {
                duration: Duration::from_secs(seconds),
                source,
            };
            assert_eq!(
                lifetime(&entry.facts, entry.status, policy),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn denials_are_short_lived_and_heuristics_are_off_unless_asked_for() {
        let facts = entry(&[("cache-control", "max-age=600")], 0, 0).facts;
        let policy = Policy::default();
        assert_eq!(
            lifetime(&facts, StatusCode::FORBIDDEN, &policy).duration,
            DENIED
        );

        let facts = entry(
            &[
                ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT"),
            ],
            0,
            0,
        )
        .facts;
        assert_eq!(
            lifetime(&facts, StatusCode::OK, &policy).source,
            Source::None
        );
        let guessing = Policy {
            heuristic: 0.1,
            ..policy
        };
        assert_eq!(
            lifetime(&facts, StatusCode::OK, &guessing).duration,
            Duration::from_secs(100)
        );
    }

    #[test]
    fn age_counts_caches_before_the_app_the_wait_and_the_stay() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (lines, requested, received, now, expected) in [
            (vec![date], 0, 0, 0, 0),
            (vec![date], 0, 0, 30, 30),
            (vec![date], 0, 50, 50, 50),
            (vec![date, ("age", "10")], 0, 0, 5, 15),
            (vec![date, ("age", "10")], 0, 3, 3, 13),
            (vec![date, ("age", "10")], 0, 50, 50, 60),
            (vec![date, ("age", "x")], 0, 0, 5, 5),
            (vec![], 0, 40, 50, 10),
        ] {
            let entry = entry(&lines, requested, received);
            assert_eq!(
                age(&entry, at(now)),
                Duration::from_secs(expected),
                "{lines:?} {requested} {received} {now}"
            );
        }
    }

    #[test]
    fn stale_windows_are_closed_by_the_app_and_opened_by_app_or_route() {
        let route = Policy {
            stale_while_revalidate: Duration::from_secs(10),
            stale_if_error: Duration::from_secs(20),
            ..Policy::default()
        };
        for (said, while_revalidate, if_error) in [
            ("", 10, 20),
            ("max-age=1, stale-while-revalidate=3", 3, 20),
            ("max-age=1, stale-if-error=4", 10, 4),
            ("max-age=1, must-revalidate, stale-while-revalidate=3", 0, 0),
            ("max-age=1, proxy-revalidate", 0, 0),
            ("s-maxage=1", 0, 0),
            ("s-maxage=1, stale-if-error=4", 0, 4),
            ("no-cache", 0, 0),
        ] {
            let entry = entry(&[("cache-control", said)], 0, 0);
            let expected = Windows {
                while_revalidate: Duration::from_secs(while_revalidate),
                if_error: Duration::from_secs(if_error),
            };
            assert_eq!(windows(&entry.facts, &route), expected, "{said}");
        }
    }

    #[test]
    fn jitter_shortens_and_never_lengthens() {
        let entry = entry(&[("cache-control", "max-age=100")], 0, 0);
        let policy = Policy {
            ttl_jitter: 0.2,
            ..Policy::default()
        };
        assert_eq!(lifetime_of(&entry, &policy), Duration::from_secs(90));
    }
}
