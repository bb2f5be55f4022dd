//! RFC 9111 §3: may this response be stored?
//!
//! The question is asked once, when the response head has come, and the answer is final but for the body: a body
//! that breaks off or grows too large is not stored either. Whoever waits for the answer is told the same thing, so
//! that a private response is never waited for.

use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{StatusCode, response};

use super::freshness;
use super::{ClientDirectives, Policy, Scope};
use crate::entry::{Facts, Times};
use crate::headers::cache_control::RequestDirectives;
use crate::headers::tags;
use crate::key;

/// How the key of a request keeps callers apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// The key holds no identity: whoever asks gets it.
    Everyone,
    /// The key holds the caller's identity.
    OneUser,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unstorable {
    /// The response, or the request, says `no-store`.
    NoStore,
    /// The response is `private` and the key is not one user's own.
    Private,
    /// The response sets a cookie.
    SetCookie,
    /// The response varies by something that cannot be known (`Vary: *`).
    Vary,
    /// The request carried credentials that the key does not know, and the app did not say `public`.
    Authorization,
    /// The status is not one that is stored without the app's word.
    Status,
    /// A part of a representation, or a validation: not a whole answer.
    Partial,
    /// The body is larger than an entry may be.
    TooLarge,
    /// Neither the app nor the route gave it a lifetime.
    ZeroTtl,
    /// The body came in a coding that cannot be undone.
    Encoding,
    /// The body broke off.
    Broken,
    /// The app named tags in a line that cannot be read: drops of them would miss.
    Unreadable,
    /// The body ended with the connection: nobody can tell whether it was whole.
    Undelimited,
    /// The answer may not be used for any later request: a write took place meanwhile.
    Outdated,
}

impl Unstorable {
    /// The word that labels, the log and `Cache-Status` use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoStore => "no_store",
            Self::Private => "private",
            Self::SetCookie => "set_cookie",
            Self::Vary => "vary",
            Self::Authorization => "authorization",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::TooLarge => "too_large",
            Self::ZeroTtl => "zero_ttl",
            Self::Encoding => "encoding",
            Self::Broken => "error",
            Self::Unreadable => "unreadable",
            Self::Undelimited => "undelimited",
            Self::Outdated => "outdated",
        }
    }

    /// Every reason, so that each is exported before it first happens.
    pub const ALL: [Self; 14] = [
        Self::NoStore,
        Self::Private,
        Self::SetCookie,
        Self::Vary,
        Self::Authorization,
        Self::Status,
        Self::Partial,
        Self::TooLarge,
        Self::ZeroTtl,
        Self::Encoding,
        Self::Broken,
        Self::Unreadable,
        Self::Undelimited,
        Self::Outdated,
    ];
}

/// Whether the head of a response to a GET allows to store it.
///
/// # Errors
///
/// The first reason not to, in the order of RFC 9111 §3.
pub fn admit(
    request: &HeaderMap,
    response: &response::Parts,
    policy: &Policy,
    sharing: Sharing,
    times: Times,
) -> Result<(), Unstorable> {
    let status = response.status;
    if status == StatusCode::PARTIAL_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || tells_of_bytes(&response.headers)
    {
        return Err(Unstorable::Partial);
    }
    if policy.scope == Scope::Off {
        return Err(Unstorable::NoStore);
    }
    let asked = RequestDirectives::parse(request);
    if policy.client_directives == ClientDirectives::Honor && asked.no_store {
        return Err(Unstorable::NoStore);
    }
    let facts = Facts::of(&response.headers, times.received);
    directives_allow(&facts, policy, sharing, status)?;
    if response.headers.contains_key(header::SET_COOKIE) {
        return Err(Unstorable::SetCookie);
    }
    if key::vary(&response.headers).is_none() {
        return Err(Unstorable::Vary);
    }
    if tags::are_unreadable(&response.headers) {
        return Err(Unstorable::Unreadable);
    }
    credentials_allow(request, &facts, policy, sharing)?;
    has_a_use(&facts, status, policy)
}

/// Whether an answer says that it is some of the bytes. Another unit is the app's own matter: APIs say with it which page
/// of a list this is, and RFC 9110 §14.4 gives the field a meaning on no other status than 206.
fn tells_of_bytes(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_RANGE).iter().any(|range| {
        range
            .as_bytes()
            .get(..5)
            .is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes"))
    })
}

fn directives_allow(
    facts: &Facts,
    policy: &Policy,
    sharing: Sharing,
    status: StatusCode,
) -> Result<(), Unstorable> {
    if !policy.honor_cache_control {
        return Ok(());
    }
    let said = &facts.directives;
    // RFC 9111 §5.2.2.3: must-understand overrides no-store where the status is understood.
    let understood = said.must_understand && is_understood(status);
    if said.no_store && !understood {
        return Err(Unstorable::NoStore);
    }
    if said.must_understand && !is_understood(status) {
        return Err(Unstorable::Status);
    }
    let own = sharing == Sharing::OneUser && policy.scope == Scope::User;
    if (said.private || !said.private_fields.is_empty()) && !own {
        return Err(Unstorable::Private);
    }
    Ok(())
}

/// RFC 9111 §3.5. A key with the identity in it makes this a cache of one user's own; on a `shared` route the
/// operator's word stands for the `public` that is asked for.
fn credentials_allow(
    request: &HeaderMap,
    facts: &Facts,
    policy: &Policy,
    sharing: Sharing,
) -> Result<(), Unstorable> {
    let said = &facts.directives;
    let public = policy.honor_cache_control
        && (said.public || said.must_revalidate || said.s_maxage.is_some());
    let keyed = sharing == Sharing::OneUser || policy.scope == Scope::Shared;
    if request.contains_key(header::AUTHORIZATION) && !keyed && !public {
        return Err(Unstorable::Authorization);
    }
    Ok(())
}

/// An entry is worth keeping when it has a lifetime, a stale window, or a validator to ask the app with.
fn has_a_use(facts: &Facts, status: StatusCode, policy: &Policy) -> Result<(), Unstorable> {
    let lifetime = freshness::lifetime(facts, status, policy);
    if lifetime.source == freshness::Source::None {
        let explicit =
            policy.honor_cache_control && (facts.directives.public || facts.directives.no_cache);
        let listed = policy.statuses.contains(&status) || explicit;
        return Err(if listed {
            Unstorable::ZeroTtl
        } else {
            Unstorable::Status
        });
    }
    let windows = freshness::windows(facts, policy);
    let validator = facts.etag.is_some() || facts.last_modified.is_some();
    let useless = lifetime.duration == Duration::ZERO
        && windows.while_revalidate == Duration::ZERO
        && windows.if_error == Duration::ZERO
        && !validator;
    if useless {
        Err(Unstorable::ZeroTtl)
    } else {
        Ok(())
    }
}

/// The statuses whose caching rules this cache implements (RFC 9110 §15, RFC 9111 §3).
const fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203
            | 204
            | 300
            | 301
            | 302
            | 303
            | 307
            | 308
            | 401
            | 403
            | 404
            | 405
            | 410
            | 414
            | 421
            | 451
            | 500
            | 501
            | 502
            | 503
            | 504
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    struct Case {
        name: &'static str,
        request: &'static [(&'static str, &'static str)],
        status: u16,
        response: &'static [(&'static str, &'static str)],
        policy: Policy,
        sharing: Sharing,
        expected: Result<(), Unstorable>,
    }

    fn base() -> Case {
        Case {
            name: "",
            request: &[],
            status: 200,
            response: &[],
            policy: Policy {
                ttl: Duration::from_secs(60),
                ..Policy::default()
            },
            sharing: Sharing::Everyone,
            expected: Ok(()),
        }
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    use http::HeaderValue;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn responses_are_stored_only_when_nothing_speaks_against_it() {
        let no_ttl = Policy::default;
        let with = |change: fn(&mut Policy)| {
            let mut policy = base().policy;
            change(&mut policy);
            policy
        };
        let token: &[(&str, &str)] = &[("authorization", "Token a")];
        for case in [
            Case {
                name: "route ttl",
                ..base()
            },
            Case {
                name: "no ttl",
                policy: no_ttl(),
                expected: Err(Unstorable::ZeroTtl),
                ..base()
            },
            Case {
                name: "app's max-age",
                policy: no_ttl(),
                response: &[("cache-control", "max-age=9")],
                ..base()
            },
            Case {
                name: "no-store",
                response: &[("cache-control", "No-Store")],
                expected: Err(Unstorable::NoStore),
                ..base()
            },
            Case {
                name: "no-store not honoured",
                response: &[("cache-control", "no-store")],
                policy: with(|policy| policy.honor_cache_control = false),
                ..base()
            },
            Case {
                name: "private",
                response: &[("cache-control", "private")],
                expected: Err(Unstorable::Private),
                ..base()
            },
            Case {
                name: "private on a shared route",
                response: &[("cache-control", "private")],
                policy: with(|policy| policy.scope = Scope::Shared),
                expected: Err(Unstorable::Private),
                ..base()
            },
            Case {
                name: "private on a user's own route",
                response: &[("cache-control", "private")],
                policy: with(|policy| policy.scope = Scope::User),
                sharing: Sharing::OneUser,
                ..base()
            },
            Case {
                name: "private fields",
                response: &[("cache-control", "private=\"x-a\"")],
                expected: Err(Unstorable::Private),
                ..base()
            },
            Case {
                name: "cookie",
                response: &[("set-cookie", "a=1")],
                expected: Err(Unstorable::SetCookie),
                ..base()
            },
            Case {
                name: "vary star",
                response: &[("vary", "Accept, *")],
                expected: Err(Unstorable::Vary),
                ..base()
            },
            Case {
                name: "authorization",
                request: token,
                expected: Err(Unstorable::Authorization),
                ..base()
            },
            Case {
                name: "authorization keyed",
                request: token,
                sharing: Sharing::OneUser,
                ..base()
            },
            Case {
                name: "authorization and public",
                request: token,
                response: &[("cache-control", "public")],
                ..base()
            },
            Case {
                name: "authorization, s-maxage",
                request: token,
                response: &[("cache-control", "s-maxage=9")],
                ..base()
            },
            Case {
                name: "authorization, max-age",
                request: token,
                response: &[("cache-control", "max-age=9")],
                expected: Err(Unstorable::Authorization),
                ..base()
            },
            Case {
                name: "authorization on shared",
                request: token,
                policy: with(|policy| policy.scope = Scope::Shared),
                ..base()
            },
            Case {
                name: "not found",
                status: 404,
                expected: Err(Unstorable::Status),
                ..base()
            },
            Case {
                name: "negative ttl",
                status: 404,
                policy: with(|policy| policy.negative_ttl = Duration::from_secs(1)),
                ..base()
            },
            Case {
                name: "app's word on a 404",
                status: 404,
                response: &[("cache-control", "max-age=9")],
                ..base()
            },
            Case {
                name: "server error",
                status: 500,
                expected: Err(Unstorable::Status),
                ..base()
            },
            Case {
                name: "partial",
                status: 206,
                response: &[("cache-control", "max-age=9")],
                expected: Err(Unstorable::Partial),
                ..base()
            },
            Case {
                name: "not modified",
                status: 304,
                expected: Err(Unstorable::Partial),
                ..base()
            },
            Case {
                name: "max-age=0 without validator",
                response: &[("cache-control", "max-age=0")],
                expected: Err(Unstorable::ZeroTtl),
                ..base()
            },
            Case {
                name: "max-age=0 with validator",
                response: &[("cache-control", "max-age=0"), ("etag", "\"a\"")],
                ..base()
            },
            Case {
                name: "no-cache with validator",
                response: &[("cache-control", "no-cache"), ("etag", "\"a\"")],
                ..base()
            },
            Case {
                name: "must-understand",
                response: &[("cache-control", "no-store, must-understand, max-age=9")],
                ..base()
            },
            Case {
                name: "must-understand, unknown status",
                status: 299,
                response: &[("cache-control", "must-understand, max-age=9")],
                expected: Err(Unstorable::Status),
                ..base()
            },
            Case {
                name: "client no-store ignored",
                request: &[("cache-control", "no-store")],
                ..base()
            },
            Case {
                name: "client no-store honoured",
                request: &[("cache-control", "no-store")],
                policy: with(|policy| policy.client_directives = ClientDirectives::Honor),
                expected: Err(Unstorable::NoStore),
                ..base()
            },
            Case {
                name: "route off",
                policy: with(|policy| policy.scope = Scope::Off),
                expected: Err(Unstorable::NoStore),
                ..base()
            },
        ] {
            let mut response = response::Response::new(()).into_parts().0;
            response.status = StatusCode::from_u16(case.status).expect("a status");
            response.headers = headers(case.response);
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let times = Times {
                requested: now,
                received: now,
            };
            let verdict = admit(
                &headers(case.request),
                &response,
                &case.policy,
                case.sharing,
                times,
            );
            assert_eq!(verdict, case.expected, "{}", case.name);
        }
    }
}
