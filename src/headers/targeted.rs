//! Cache control for this cache and not for others: targeted fields (RFC 9213).
//!
//! They are structured dictionaries whose members are the directives of Cache-Control. The first field of the target list
//! that is there, not empty and well-formed says everything; Cache-Control and Expires are then not looked at (§2.2).

use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, ListEntry};

use super::cache_control::{Argument, ResponseDirectives};
use super::structured;

/// The target list, the closest first: this program, then every cache that an app's operator runs (RFC 9213 §3).
pub const TARGETS: [HeaderName; 2] = [
    HeaderName::from_static("reprise-cache-control"),
    HeaderName::from_static("cdn-cache-control"),
];

/// The directives whose value is a number of seconds; with any other, the field is unreadable.
const DURATIONS: [&str; 4] = [
    "max-age",
    "s-maxage",
    "stale-while-revalidate",
    "stale-if-error",
];

/// What the app says to this cache alone; `None` when it says nothing that can be read.
#[must_use]
pub fn directives(headers: &HeaderMap) -> Option<ResponseDirectives> {
    TARGETS.iter().find_map(|name| one(headers, name))
}

/// Takes the targeted fields out of what a client gets: they were meant for this cache.
pub fn strip(headers: &mut HeaderMap) {
    for name in &TARGETS {
        headers.remove(name);
    }
}

fn one(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let members = structured::dictionary(headers, name)?;
    if members.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives {
        present: true,
        ..ResponseDirectives::default()
    };
    for (key, value) in &members {
        let argument = argument(value)?;
        let counts = DURATIONS.contains(&key.as_str());
        if counts && !matches!(argument, Argument::Seconds(_)) {
            return None;
        }
        directives.note(key.as_str(), &argument);
    }
    Some(directives)
}

/// The value of a directive; `None` makes the field unreadable: an inner list is the value of none.
fn argument(value: &ListEntry) -> Option<Argument<'_>> {
    let ListEntry::Item(item) = value else {
        return None;
    };
    Some(match &item.bare_item {
        BareItem::Boolean(true) => Argument::None,
        BareItem::Boolean(false) => Argument::Denied,
        BareItem::Integer(number) => {
            let seconds = u64::try_from(i64::from(*number)).unwrap_or_default();
            Argument::Seconds(Duration::from_secs(seconds.min(1 << 31)))
        }
        BareItem::String(text) => Argument::Text(text.as_str()),
        // No directive has a value of another type.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::lines_of;

    #[test]
    fn a_dictionary_is_read_as_directives() {
        for (line, read) in [
            ("max-age=60", Some((Some(60), false, false))),
            ("max-age=99999999999", Some((Some(1 << 31), false, false))),
            ("max-age=-1", Some((Some(0), false, false))),
            ("max-age=60;x=1, no-store", Some((Some(60), true, false))),
            ("no-store=?0, max-age=60", Some((Some(60), false, false))),
            ("private", Some((None, false, true))),
            ("private=?0", Some((None, false, false))),
            ("foobar, max-age=60", Some((Some(60), false, false))),
            ("max-age=60, max-age=30", Some((Some(30), false, false))),
            ("max-age=\"60\"", None),
            ("max-age", None),
            ("max-age=1.5", None),
            ("MaX-aGe=60", None),
            ("max-age=60, &&&&&", None),
            ("max-age =60", None),
            ("max-age=(60)", None),
            ("", None),
        ] {
            let directives = directives(&lines_of("cdn-cache-control", &[line]));
            let found = directives.map(|found| {
                (
                    found.max_age.map(|age| age.as_secs()),
                    found.no_store,
                    found.private,
                )
            });
            assert_eq!(found, read, "{line}");
        }
    }

    #[test]
    fn the_first_readable_target_says_it_all() {
        for (own, cdn, expected) in [
            (Some("max-age=1"), Some("max-age=2"), Some(1)),
            (Some(""), Some("max-age=2"), Some(2)),
            (Some("&"), Some("max-age=2"), Some(2)),
            (None, Some("max-age=2"), Some(2)),
            (Some("max-age=1"), None, Some(1)),
            (None, None, None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in TARGETS.iter().zip([own, cdn]) {
                if let Some(value) = value {
                    headers.insert(name, http::HeaderValue::from_static(value));
                }
            }
            let read = directives(&headers).and_then(|read| read.max_age);
            assert_eq!(read.map(|age| age.as_secs()), expected, "{own:?} {cdn:?}");
        }
    }
}
