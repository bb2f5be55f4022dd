//! Entries: stored responses.
//!
//! An [`Entry`] never changes once it is made: readers hold it behind an `Arc`, and a 304 makes a new one that shares
//! the old bytes. It holds what was received (head, whole body, when), the facts that the rules ask about, parsed
//! once, and its certificate: the position of the log of drops before its request went upstream, and its tags. Whether
//! it is fresh is no property of an entry but a question asked of it with the rules of the moment.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};

use crate::headers::cache_control::ResponseDirectives;
use crate::headers::coding::Coding;
use crate::headers::date::{self, Expires};
use crate::headers::targeted;
use crate::headers::validator::{self, ETag};
use crate::key::Variant;
use crate::tag::Tags;

/// What one entry costs besides its own bytes: moka's node, the timer wheel, the `Arc` and the entry itself.
const OVERHEAD: usize = 1024;

/// What each header field costs besides its text.
const FIELD_OVERHEAD: usize = 64;

/// A place in the log of drops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// Which log; another epoch's places mean nothing.
    pub epoch: u64,
    /// The last drop that had been applied.
    pub seq: u64,
}

/// What makes an entry usable or not: when it was asked for, and what drops it.
#[derive(Debug)]
pub struct Certificate {
    /// The place in the log before the request went upstream.
    pub stamp: Stamp,
    /// What drops the entry.
    pub tags: Tags,
    /// The version of the table of drops at which the entry was last found usable. A later reader who sees the same
    /// version need not look at the tags again.
    pub checked: AtomicU64,
}

impl Certificate {
    /// A certificate that nobody has checked yet.
    #[must_use]
    pub const fn new(stamp: Stamp, tags: Tags) -> Self {
        Self {
            stamp,
            tags,
            checked: AtomicU64::new(u64::MAX),
        }
    }
}

/// When an exchange with the app began and when its head arrived.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Just before the request was sent.
    pub requested: SystemTime,
    /// When the response head had come.
    pub received: SystemTime,
}

/// What the rules ask about a response, parsed once.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What a targeted field says, if there is one (RFC 9213), else `Cache-Control`.
    pub directives: ResponseDirectives,
    /// Whether the app told clients anything about keeping the answer.
    pub advises_clients: bool,
    /// Whether there are fields that are meant for this cache alone (RFC 9213).
    pub has_targeted: bool,
    /// Whether the body may not be encoded (RFC 9111 §5.2.2.6).
    pub no_transform: bool,
    /// `Date`, or when it was received.
    pub date: SystemTime,
    /// `Age`, as caches before the app counted it.
    pub age: Duration,
    /// `Expires`.
    pub expires: Option<Expires>,
    /// `Last-Modified`.
    pub last_modified: Option<SystemTime>,
    /// The app's own `ETag`.
    pub etag: Option<ETag>,
}

impl Facts {
    /// Reads the facts of a response head.
    #[must_use]
    pub fn of(headers: &HeaderMap, received: SystemTime) -> Self {
        let everybody = ResponseDirectives::parse(headers);
        let expires = date::expires(headers);
        let advises_clients = everybody.present || expires.is_some();
        let no_transform = everybody.no_transform;
        // RFC 9213 §2.2: what is addressed to this kind of cache replaces what is said to all, Expires included.
        let (directives, expires) = match targeted::directives(headers) {
            Some(targeted) => (targeted, None),
            None => (everybody, expires),
        };
        let has_targeted = targeted::TARGETS
            .iter()
            .any(|name| headers.contains_key(name));
        Self {
            directives,
            advises_clients,
            has_targeted,
            no_transform,
            date: date::date(headers, &header::DATE).unwrap_or(received),
            age: date::age(headers).unwrap_or_default(),
            expires,
            last_modified: date::date(headers, &header::LAST_MODIFIED),
            etag: validator::etag(headers),
        }
    }
}

/// A response body in one coding.
#[derive(Clone, Debug)]
pub struct Representation {
    /// The bytes.
    pub body: Bytes,
    /// The validator of this representation.
    pub etag: Option<ETag>,
}

/// One stored response.
#[derive(Debug)]
pub struct Entry {
    /// The full primary key.
    pub key: Box<[u8]>,
    /// What else selected it.
    pub variant: Variant,
    /// The status.
    pub status: StatusCode,
    /// The end-to-end fields, without `Age`, with `Content-Length` and an `ETag` (the app's, or one made of the
    /// body).
    pub headers: HeaderMap,
    /// The canonical body: as the app sent it, decoded.
    pub body: Bytes,
    /// The validator of the canonical body.
    pub etag: Option<ETag>,
    /// When the exchange took place.
    pub times: Times,
    /// What the rules ask.
    pub facts: Facts,
    /// What makes it usable.
    pub certificate: Certificate,
    /// Where in 0..1 this entry's jitter falls.
    pub jitter: f64,
    /// The body in other codings, each made once on first demand; `None` inside when it did not get smaller.
    encoded: [OnceLock<Option<Representation>>; 3],
}

/// What an entry is made of.
#[derive(Debug)]
pub struct Material {
    /// The full primary key.
    pub key: Box<[u8]>,
    /// What else selected it.
    pub variant: Variant,
    /// The status.
    pub status: StatusCode,
    /// The response's end-to-end fields.
    pub headers: HeaderMap,
    /// The canonical body.
    pub body: Bytes,
    /// When the exchange took place.
    pub times: Times,
    /// What makes it usable.
    pub certificate: Certificate,
    /// Where in 0..1 its jitter falls.
    pub jitter: f64,
    /// The hash of the body, for an `ETag` when the app has none.
    pub digest: u128,
}

/// Whose the validator is that an entry's fields carry. The numbers are written down (`cache::wire`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TagBy {
    /// There is none; what the field says, if anything, names nothing.
    Nobody = 0,
    /// Made here, of the body: the app does not know it.
    Proxy = 1,
    /// The app's own.
    App = 2,
}

/// An entry as it was written down, to be made again.
#[derive(Debug)]
pub struct Record {
    /// The full primary key.
    pub key: Box<[u8]>,
    /// What else selected it.
    pub variant: Variant,
    /// The status.
    pub status: StatusCode,
    /// The fields, as the entry had them.
    pub headers: HeaderMap,
    /// The canonical body.
    pub body: Bytes,
    /// Whose the `ETag` among the fields is.
    pub tag_by: TagBy,
    /// When the exchange took place.
    pub times: Times,
    /// Whether `Date` says no more than when it was received.
    pub undated: bool,
    /// What `Age` had said.
    pub age: Duration,
    /// What makes it usable.
    pub certificate: Certificate,
    /// Where in 0..1 its jitter falls.
    pub jitter: f64,
}

impl Entry {
    /// Makes an entry again: one that behaves as the one that was written down. `None` when the fields have no validator
    /// although somebody's was in them.
    #[must_use]
    pub fn restored(record: Record) -> Option<Self> {
        let mut facts = Facts::of(&record.headers, record.times.received);
        facts.age = record.age;
        if record.undated {
            facts.date = record.times.received;
        }
        let etag = match record.tag_by {
            TagBy::Nobody => None,
            TagBy::Proxy | TagBy::App => Some(validator::etag(&record.headers)?),
        };
        facts.etag = etag.clone().filter(|_| record.tag_by == TagBy::App);
        Some(Self {
            key: record.key,
            variant: record.variant,
            status: record.status,
            headers: record.headers,
            body: record.body,
            etag,
            times: record.times,
            facts,
            certificate: record.certificate,
            jitter: record.jitter,
            encoded: [OnceLock::new(), OnceLock::new(), OnceLock::new()],
        })
    }

    /// Whose the validator is.
    #[must_use]
    pub const fn tag_by(&self) -> TagBy {
        match (&self.facts.etag, &self.etag) {
            (_, None) => TagBy::Nobody,
            (None, Some(_)) => TagBy::Proxy,
            (Some(_), Some(_)) => TagBy::App,
        }
    }

    /// Whether its date is when it was received: the app gave none, or that one.
    #[must_use]
    pub fn is_undated(&self) -> bool {
        self.facts.date == self.times.received
    }

    /// Makes an entry.
    #[must_use]
    pub fn new(material: Material) -> Self {
        let Material {
            key,
            variant,
            status,
            mut headers,
            body,
            times,
            certificate,
            jitter,
            digest,
        } = material;
        let facts = Facts::of(&headers, times.received);
        headers.remove(header::AGE);
        // It was about this one answer, and RFC 9111 §5.5 has done away with it.
        headers.remove(header::WARNING);
        // It announces fields behind this one body, and what is stored has none.
        headers.remove(header::TRAILER);
        if body.is_empty() && status == StatusCode::NO_CONTENT {
            headers.remove(header::CONTENT_LENGTH);
        } else {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        date_if_undated(&mut headers, times);
        let etag = facts
            .etag
            .clone()
            .or_else(|| (status == StatusCode::OK).then(|| ETag::from_hash(digest)));
        if let (None, Some(own)) = (&facts.etag, &etag) {
            headers.insert(header::ETAG, own.to_value());
        }
        let encoded = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
        Self {
            key,
            variant,
            status,
            headers,
            body,
            etag,
            times,
            facts,
            certificate,
            jitter,
            encoded,
        }
    }

    /// The same response with a newer head: what a 304 gives (RFC 9111 §4.3.4).
    ///
    /// The validators stay those of the stored body: one made here means nothing to the app, and the strong one of an
    /// encoded body does not name the decoded bytes.
    #[must_use]
    pub fn refreshed(
        &self,
        mut headers: HeaderMap,
        times: Times,
        certificate: Certificate,
    ) -> Self {
        let facts = Facts {
            etag: self.facts.etag.clone(),
            ..Facts::of(&headers, times.received)
        };
        headers.remove(header::AGE);
        headers.remove(header::WARNING);
        date_if_undated(&mut headers, times);
        if let Some(etag) = &self.etag {
            headers.insert(header::ETAG, etag.to_value());
        }
        Self {
            key: self.key.clone(),
            variant: self.variant.clone(),
            status: self.status,
            headers,
            body: self.body.clone(),
            etag: self.etag.clone(),
            times,
            facts,
            certificate,
            jitter: self.jitter,
            encoded: self.encoded.clone(),
        }
    }

    /// The body in a coding, made by `make` if this is the first demand for it; `None` when the canonical body is
    /// the better answer. `make` runs on the caller's thread.
    pub fn encoded(
        &self,
        coding: Coding,
        make: impl FnOnce() -> Option<Representation>,
    ) -> Option<&Representation> {
        self.cell(coding)?.get_or_init(make).as_ref()
    }

    /// Whether the body in a coding has been asked for before, and what came of it.
    #[must_use]
    pub fn known_encoding(&self, coding: Coding) -> Option<Option<&Representation>> {
        self.cell(coding)?.get().map(Option::as_ref)
    }

    fn cell(&self, coding: Coding) -> Option<&OnceLock<Option<Representation>>> {
        match coding {
            Coding::Identity => None,
            Coding::Gzip => self.encoded.first(),
            Coding::Br => self.encoded.get(1),
            Coding::Zstd => self.encoded.get(2),
        }
    }

    /// What it takes in memory, in bytes: key, fields, bodies, tags and overhead.
    #[must_use]
    pub fn weight(&self) -> usize {
        let fields: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD)
            .sum();
        let encoded: usize = self
            .encoded
            .iter()
            .filter_map(|cell| cell.get()?.as_ref())
            .map(|representation| representation.body.len())
            .sum();
        OVERHEAD + self.key.len() + self.variant.weight() + fields + self.body.len() + encoded
    }

    /// Whether the app gave a validator of its own, one that a conditional request to it can use.
    #[must_use]
    pub fn has_app_validator(&self) -> bool {
        self.facts.etag.is_some() || self.facts.last_modified.is_some()
    }
}

/// RFC 9110 §6.6.1: a recipient with a clock dates what came without.
fn date_if_undated(headers: &mut HeaderMap, times: Times) {
    if !headers.contains_key(header::DATE) {
        headers.insert(header::DATE, date::format(times.received));
    }
}
