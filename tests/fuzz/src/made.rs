//! Entries to try things on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderMap;
use reprise::entry::{Certificate, Entry, Material, Stamp, Times};
use reprise::key::Variant;
use reprise::tag::Tags;

/// When everything takes place: Sun, 06 Nov 1994 08:49:37 GMT.
pub fn moment() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

/// An entry of 200 with these fields and this body.
pub fn entry(headers: HeaderMap, body: impl Into<Bytes>) -> Entry {
    Entry::new(Material {
        key: b"key".as_slice().into(),
        variant: Variant::default(),
        status: StatusCode::OK,
        headers,
        body: body.into(),
        times: Times {
            requested: moment(),
            received: moment(),
        },
        certificate: Certificate::new(Stamp { epoch: 1, seq: 1 }, Tags::new()),
        jitter: 0.5,
        digest: 5,
    })
}
