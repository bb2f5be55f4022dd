//! RFC 9111 §4.4: what the answer to an unsafe request says about what is stored.

use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Uri};

use crate::headers::tags;

/// What the answer to a write means for what the write may have changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// It took place, or may have: drop.
    Changed,
    /// The app refused it: nothing changed.
    Refused,
}

/// Whether a method can change something (RFC 9110 §9.2.1). A method nobody knows can.
#[must_use]
pub fn is_unsafe(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

/// What a status says about a write. A 5xx may come after the commit, so it counts as done; a 4xx is a refusal.
#[must_use]
pub fn settled(status: StatusCode) -> Settled {
    if status.is_client_error() {
        Settled::Refused
    } else {
        Settled::Changed
    }
}

/// The paths, on the same host, that the answer to a write names as changed: `Location` and `Content-Location`.
#[must_use]
pub fn named_paths(host: &str, answer: &HeaderMap) -> Vec<String> {
    [header::LOCATION, header::CONTENT_LOCATION]
        .iter()
        .filter_map(|name| answer.get(name)?.to_str().ok()?.parse::<Uri>().ok())
        .filter(|uri| {
            uri.authority()
                .is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host))
        })
        .filter(|uri| uri.path().starts_with('/'))
        .map(|uri| uri.path().to_owned())
        .collect()
}

/// The tags that the answer to a write asks to drop: `Cache-Group-Invalidation` (RFC 9875 §3).
#[must_use]
pub fn named_tags(answer: &HeaderMap) -> Vec<String> {
    tags::invalidated_groups(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_refusals_leave_what_is_stored() {
        for (status, expected) in [
            (200, Settled::Changed),
            (204, Settled::Changed),
            (302, Settled::Changed),
            (400, Settled::Refused),
            (409, Settled::Refused),
            (500, Settled::Changed),
            (503, Settled::Changed),
        ] {
            assert_eq!(
                settled(StatusCode::from_u16(status).expect("a status")),
                expected,
                "{status}"
            );
        }
    }

    #[test]
    fn locations_count_on_the_same_host_only() {
        for (location, expected) in [
            ("/api/bookings/5/", Some("/api/bookings/5/")),
            ("http://Shop.example/api/x/?a=1", Some("/api/x/")),
            ("http://other.example/api/x/", None),
            ("relative", None),
        ] {
            let mut answer = HeaderMap::new();
            answer.insert("location", HeaderValue::from_static(location));
            let expected: Vec<String> = expected.map(str::to_owned).into_iter().collect();
            assert_eq!(named_paths("shop.example", &answer), expected, "{location}");
        }
    }
}
