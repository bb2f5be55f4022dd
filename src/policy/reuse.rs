//! RFC 9111 §4: may this entry answer this request?
//!
//! The entry has been found under the request's own key and variant, and it is usable: no write has dropped it. What is
//! left to ask is time.

use std::time::{Duration, SystemTime};

use http::header::HeaderMap;

use super::freshness::{self, Windows};
use super::{ClientDirectives, Policy};
use crate::entry::Entry;
use crate::headers::cache_control::{MaxStale, RequestDirectives};

/// What to do with a request and the entry found for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The entry answers.
    Fresh {
        /// Whether it is so near its end that it should be refreshed in the background.
        refresh: bool,
    },
    /// The entry answers although its lifetime is over, and is refreshed in the background.
    StaleWhileRevalidate,
    /// The entry answers although its lifetime is over: the client said that it may.
    Stale,
    /// The app has to be asked about the entry.
    Revalidate {
        /// Whether the entry may answer if the app fails.
        if_error: bool,
    },
    /// There is nothing to answer with: the app has to be asked.
    Miss,
    /// There is nothing to answer with, and the client does not want the app to be asked (504).
    OnlyIfCached,
}

/// How an entry stands in time.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its age.
    pub age: Duration,
    /// Its lifetime.
    pub lifetime: Duration,
    /// Its stale windows.
    pub windows: Windows,
}

impl Standing {
    /// How an entry stands now.
    #[must_use]
    pub fn of(entry: &Entry, policy: &Policy, now: SystemTime) -> Self {
        Self {
            age: freshness::age(entry, now),
            lifetime: freshness::lifetime_of(entry, policy),
            windows: freshness::windows(&entry.facts, policy),
        }
    }

    /// The seconds of freshness left; negative once stale (RFC 9211 §2.6).
    #[must_use]
    pub fn ttl(&self) -> i64 {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        if self.age <= self.lifetime {
            seconds(self.lifetime - self.age)
        } else {
            -seconds(self.age - self.lifetime)
        }
    }

    /// Whether it is fresh. RFC 9111 §4.2: the lifetime has to be greater than the age.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.lifetime > self.age
    }

    /// How it stands if it has been softened: its lifetime is over, and its windows are open from now on. Those that its
    /// lifetime has left open stay as long as they would have.
    #[must_use]
    pub fn softened(self, softened: bool) -> Self {
        let lifetime = if softened {
            self.lifetime.min(self.age)
        } else {
            self.lifetime
        };
        Self { lifetime, ..self }
    }

    fn within(&self, window: Duration) -> bool {
        self.lifetime + window > self.age
    }
}

/// Judges the entry found for a request, or its absence. `softened` says that the entry was purged softly: it is stale
/// from then on, whatever is left of its lifetime.
#[must_use]
pub fn judge(
    entry: Option<&Entry>,
    request: &HeaderMap,
    policy: &Policy,
    now: SystemTime,
    softened: bool,
) -> Verdict {
    let honor = policy.client_directives == ClientDirectives::Honor;
    let asked = if honor {
        RequestDirectives::parse(request)
    } else {
        RequestDirectives::default()
    };
    let Some(entry) = entry else {
        return if asked.only_if_cached {
            Verdict::OnlyIfCached
        } else {
            Verdict::Miss
        };
    };
    let standing = Standing::of(entry, policy, now).softened(softened);
    let verdict = verdict(entry, &standing, &asked, policy);
    match verdict {
        Verdict::Revalidate { .. } if asked.only_if_cached => Verdict::OnlyIfCached,
        Verdict::Revalidate { .. }
        | Verdict::Fresh { .. }
        | Verdict::StaleWhileRevalidate
        | Verdict::Stale
        | Verdict::Miss
        | Verdict::OnlyIfCached => verdict,
    }
}

fn verdict(
    entry: &Entry,
    standing: &Standing,
    asked: &RequestDirectives,
    policy: &Policy,
) -> Verdict {
    let fields_need_asking =
        policy.honor_cache_control && !entry.facts.directives.no_cache_fields.is_empty();
    let window = standing
        .windows
        .if_error
        .max(asked.stale_if_error.unwrap_or_default());
    let if_error = window > Duration::ZERO
        && standing.within(window)
        && !asked.no_cache
        && !fields_need_asking
        && !forbids_stale(entry, policy);
    let revalidate = Verdict::Revalidate { if_error };
    if asked.no_cache
        || fields_need_asking
        || asked.max_age.is_some_and(|limit| standing.age > limit)
    {
        return revalidate;
    }
    if standing.is_fresh() {
        let left = standing.lifetime - standing.age;
        if asked.min_fresh.is_some_and(|wanted| left < wanted) {
            return revalidate;
        }
        let refresh =
            policy.refresh_ahead > 0.0 && left < standing.lifetime.mul_f64(policy.refresh_ahead);
        return Verdict::Fresh { refresh };
    }
    if asked.min_fresh.is_some() || asked.max_age.is_some() && asked.max_stale.is_none() {
        return revalidate;
    }
    if standing.within(standing.windows.while_revalidate) {
        return Verdict::StaleWhileRevalidate;
    }
    let accepts = match asked.max_stale {
        None => false,
        Some(MaxStale::Any) => true,
        Some(MaxStale::Within(limit)) => standing.age - standing.lifetime <= limit,
    };
    if accepts && !forbids_stale(entry, policy) {
        Verdict::Stale
    } else {
        revalidate
    }
}

/// RFC 9111 §4.2.4: what the app says about serving stale binds even a client that would take it.
fn forbids_stale(entry: &Entry, policy: &Policy) -> bool {
    let said = &entry.facts.directives;
    policy.honor_cache_control
        && (said.must_revalidate
            || said.proxy_revalidate
            || said.no_cache
            || said.s_maxage.is_some() && said.stale_if_error.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Certificate, Material, Stamp, Times};
    use crate::key::Variant;
    use crate::tag::Tags;
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode};

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn entry(said: &'static str) -> Entry {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static(said));
        Entry::new(Material {
            key: Box::default(),
            variant: Variant::default(),
            status: StatusCode::OK,
            headers,
            body: Bytes::new(),
            times: Times {
                requested: START,
                received: START,
            },
            certificate: Certificate::new(Stamp { epoch: 0, seq: 0 }, Tags::new()),
            jitter: 0.0,
            digest: 0,
        })
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn verdicts_follow_age_windows_and_the_clients_words() {
        let plain = Policy::default();
        let honor = Policy {
            client_directives: ClientDirectives::Honor,
            ..Policy::default()
        };
        let windows = Policy {
            stale_while_revalidate: Duration::from_secs(10),
            stale_if_error: Duration::from_secs(30),
            ..Policy::default()
        };
        let ahead = Policy {
            refresh_ahead: 0.2,
            ..Policy::default()
        };
        let fresh = Verdict::Fresh { refresh: false };
        let ask = Verdict::Revalidate { if_error: false };
        let ask_or_stale = Verdict::Revalidate { if_error: true };
        for (said, policy, asked, age, expected) in [
            ("max-age=100", &plain, "", 0, fresh),
            ("max-age=100", &plain, "", 99, fresh),
            ("max-age=100", &plain, "", 100, ask),
            ("max-age=100", &plain, "no-cache", 0, fresh),
            ("max-age=100", &ahead, "", 79, fresh),
            (
                "max-age=100",
                &ahead,
                "",
                81,
                Verdict::Fresh { refresh: true },
            ),
            (
                "max-age=100",
                &windows,
                "",
                105,
                Verdict::StaleWhileRevalidate,
            ),
            ("max-age=100", &windows, "", 115, ask_or_stale),
            ("max-age=100", &windows, "", 130, ask),
            ("max-age=100, must-revalidate", &windows, "", 105, ask),
            ("s-maxage=100", &windows, "", 105, ask),
            ("no-cache=\"x-a\", max-age=100", &plain, "", 0, ask),
            ("max-age=100", &honor, "no-cache", 0, ask),
            ("max-age=100", &honor, "max-age=10", 20, ask),
            ("max-age=100", &honor, "max-age=10", 5, fresh),
            ("max-age=100", &honor, "min-fresh=30", 80, ask),
            ("max-age=100", &honor, "min-fresh=30", 60, fresh),
            ("max-age=100", &honor, "max-stale", 500, Verdict::Stale),
            ("max-age=100", &honor, "max-stale=10", 105, Verdict::Stale),
            ("max-age=100", &honor, "max-stale=10", 115, ask),
            (
                "max-age=100, must-revalidate",
                &honor,
                "max-stale",
                105,
                ask,
            ),
            ("max-age=100", &honor, "only-if-cached", 50, fresh),
            (
                "max-age=100",
                &honor,
                "only-if-cached",
                150,
                Verdict::OnlyIfCached,
            ),
        ] {
            let mut request = HeaderMap::new();
            if !asked.is_empty() {
                request.insert("cache-control", HeaderValue::from_static(asked));
            }
            let now = START + Duration::from_secs(age);
            assert_eq!(
                judge(Some(&entry(said)), &request, policy, now, false),
                expected,
                "{said} / {asked} at {age}"
            );
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn a_softened_entry_is_stale_from_now_on() {
        let plain = Policy::default();
        let honor = Policy {
            client_directives: ClientDirectives::Honor,
            ..Policy::default()
        };
        let updating = Policy {
            stale_while_revalidate: Duration::from_secs(10),
            ..Policy::default()
        };
        let failing = Policy {
            stale_if_error: Duration::from_secs(30),
            ..Policy::default()
        };
        let ask = Verdict::Revalidate { if_error: false };
        let ask_or_stale = Verdict::Revalidate { if_error: true };
        for (said, policy, asked, age, expected) in [
            ("max-age=100", &plain, "", 0, ask),
            ("max-age=100", &plain, "", 50, ask),
            (
                "max-age=100",
                &updating,
                "",
                50,
                Verdict::StaleWhileRevalidate,
            ),
            (
                "max-age=100",
                &updating,
                "",
                105,
                Verdict::StaleWhileRevalidate,
            ),
            ("max-age=100", &updating, "", 110, ask),
            ("max-age=100", &failing, "", 50, ask_or_stale),
            ("max-age=100", &failing, "", 130, ask),
            ("max-age=100, must-revalidate", &updating, "", 50, ask),
            ("max-age=100, must-revalidate", &failing, "", 50, ask),
            ("s-maxage=100", &updating, "", 50, ask),
            ("max-age=100", &honor, "max-stale", 50, Verdict::Stale),
            ("max-age=100", &honor, "min-fresh=1", 50, ask),
            (
                "max-age=100",
                &honor,
                "only-if-cached",
                50,
                Verdict::OnlyIfCached,
            ),
        ] {
            let mut request = HeaderMap::new();
            if !asked.is_empty() {
                request.insert("cache-control", HeaderValue::from_static(asked));
            }
            let now = START + Duration::from_secs(age);
            let entry = entry(said);
            assert_eq!(
                judge(Some(&entry), &request, policy, now, true),
                expected,
                "{said} / {asked} at {age}"
            );
            let standing = Standing::of(&entry, policy, now).softened(true);
            assert!(standing.ttl() <= 0, "{said} at {age}");
        }
    }

    #[test]
    fn without_an_entry_only_the_client_can_forbid_to_ask() {
        let mut request = HeaderMap::new();
        request.insert("cache-control", HeaderValue::from_static("only-if-cached"));
        let honor = Policy {
            client_directives: ClientDirectives::Honor,
            ..Policy::default()
        };
        assert_eq!(
            judge(None, &request, &honor, START, false),
            Verdict::OnlyIfCached
        );
        assert_eq!(
            judge(None, &request, &Policy::default(), START, false),
            Verdict::Miss
        );
    }
}
