//! Preconditions (RFC 9110 §13): evaluated against what is stored, in the order of §13.2.2.

use std::time::SystemTime;

use http::Method;
use http::header::{self, HeaderMap};

use crate::entry::Entry;
use crate::headers::date;
use crate::headers::validator::{ETag, ETags};

/// What the request's conditions come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Precondition {
    /// They hold, or there are none: answer.
    Holds,
    /// The client has it already: 304.
    NotModified,
    /// The client wants it only if it is something else: 412.
    Failed,
}

/// Evaluates the conditions of a GET or HEAD against the representation with this validator.
#[must_use]
pub fn evaluate(
    method: &Method,
    request: &HeaderMap,
    entry: &Entry,
    etag: Option<&ETag>,
) -> Precondition {
    let modified = entry.facts.last_modified;
    if let Some(wanted) = ETags::parse(request, header::IF_MATCH) {
        let matches = match (&wanted, etag) {
            (ETags::Any, _) => true,
            (ETags::List(_), Some(etag)) => wanted.matches_strong(etag),
            (ETags::List(_), None) => false,
        };
        if !matches {
            return Precondition::Failed;
        }
    } else if let (Some(limit), Some(modified)) = (
        date::sole_date(request, header::IF_UNMODIFIED_SINCE),
        modified,
    ) && modified > limit
    {
        return Precondition::Failed;
    }
    if let Some(known) = ETags::parse(request, header::IF_NONE_MATCH) {
        let same = match (&known, etag) {
            (ETags::Any, _) => true,
            (ETags::List(_), Some(etag)) => known.matches_weak(etag),
            (ETags::List(_), None) => false,
        };
        return if same {
            Precondition::NotModified
        } else {
            Precondition::Holds
        };
    }
    let is_read = *method == Method::GET || *method == Method::HEAD;
    match date::sole_date(request, header::IF_MODIFIED_SINCE) {
        Some(since) if is_read && !is_modified(entry, since) => Precondition::NotModified,
        Some(_) | None => Precondition::Holds,
    }
}

/// Whether the client's copy, as of `since`, may be another (RFC 9111 §4.3.2).
///
/// Without a Last-Modified, the time the answer was made stands for it; but not its own second. The client's copy may have
/// been made earlier in that second than a write, and the entry later.
fn is_modified(entry: &Entry, since: SystemTime) -> bool {
    match entry.facts.last_modified {
        Some(modified) => modified > since,
        None => entry.facts.date >= since,
    }
}
