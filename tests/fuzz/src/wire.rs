//! The format of tier 2. Input: a value; its checksum is made right, so that what is behind it is reached. The same bytes
//! also choose an entry that is written, read, and damaged.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use reprise::cache::wire::{self, Value};
use reprise::entry::{Certificate, Entry, Material, Stamp, Times};
use reprise::key::Variant;
use reprise::tag::Tag;
use xxhash_rust::xxh3::xxh3_64;

use crate::heap::within;

const KEY: &[u8] = b"key";

/// The largest body that readers here allow.
const LIMIT: usize = 1 << 16;

/// Where the checksum ends: behind the magic word and the version.
const SUMMED: usize = 4 + 1 + 8;

/// What holds for any value.
pub fn check(data: &[u8]) {
    any_bytes_are_a_value_or_a_miss(data);
    any_bytes_are_a_value_or_a_miss(&resealed(data.to_vec()));
    if let Ok((entry, damage)) = made(data) {
        an_entry_comes_back(&entry, &damage);
    }
}

fn resealed(mut value: Vec<u8>) -> Vec<u8> {
    if let Some((envelope, rest)) = value.split_at_mut_checked(SUMMED) {
        envelope[SUMMED - 8..].copy_from_slice(&xxh3_64(rest).to_be_bytes());
    }
    value
}

fn any_bytes_are_a_value_or_a_miss(data: &[u8]) {
    let value = Bytes::copy_from_slice(data);
    // Lists of names and values cost more than their bytes, but no more than some dozens of times.
    let room = LIMIT + 64 * data.len() + (1 << 14);
    let (peeked, read) = within(room, || {
        (wire::peek(&value), wire::decode(&value, KEY, LIMIT))
    });
    let entry = match read {
        Ok(Value::Entry(entry)) => entry,
        Ok(Value::Signpost(names)) => {
            let again = wire::signpost(KEY, &names).expect("it was short enough");
            let Ok(Value::Signpost(same)) = wire::decode(&again, KEY, 0) else {
                panic!("what was written is read");
            };
            assert_eq!(same, names);
            return;
        }
        Err(_) => return,
    };
    let peeked = peeked.expect("the beginning of an entry");
    assert_eq!(peeked.stamp, entry.certificate.stamp);
    assert_eq!(peeked.tags, entry.certificate.tags);
    assert_eq!(peeked.key, Some(KEY));
    assert!(entry.body.len() <= LIMIT && *entry.key == *KEY);
    it_is_written_as_it_is_read(&entry);
}

/// What was read is written, and then read as the same; and written once more it is the same bytes.
fn it_is_written_as_it_is_read(entry: &Entry) -> Bytes {
    let value = wire::encode(entry, 64).expect("short enough");
    let Ok(Value::Entry(again)) = wire::decode(&value, KEY, entry.body.len()) else {
        panic!("what was written is read");
    };
    assert_eq!(seen(&again), seen(entry));
    assert_eq!(wire::encode(&again, 64).as_ref(), Some(&value));
    value
}

fn an_entry_comes_back(entry: &Entry, damage: &[(usize, u8)]) {
    let value = it_is_written_as_it_is_read(entry);
    let mut damaged = value.to_vec();
    for (at, bits) in damage {
        let place = SUMMED + at % (value.len() - SUMMED);
        damaged[place] ^= bits;
    }
    if damaged != value {
        let read = wire::decode(&damaged.clone().into(), KEY, LIMIT);
        assert!(read.is_err(), "damage was not seen");
        any_bytes_are_a_value_or_a_miss(&resealed(damaged));
    }
    if let Some((at, _)) = damage.first() {
        let cut = value.slice(..at % value.len());
        assert!(wire::decode(&cut, KEY, LIMIT).is_err(), "a part is none");
        let cut = resealed(cut.to_vec());
        assert!(
            wire::decode(&cut.into(), KEY, LIMIT).is_err(),
            "nor with a sum"
        );
    }
    assert!(wire::decode(&value, b"another", LIMIT).is_err());
}

/// Everything of an entry that anybody can see.
fn seen(entry: &Entry) -> String {
    let Certificate { stamp, tags, .. } = &entry.certificate;
    let lines: Vec<_> = entry.headers.iter().collect();
    format!(
        "{:?} {:?} {} {lines:?} {:?} {:?} {:?} {:?} {stamp:?} {tags:?} {} {:?}",
        entry.key,
        entry.variant,
        entry.status,
        entry.body,
        entry.etag,
        entry.times,
        entry.facts,
        entry.jitter,
        entry.tag_by(),
    )
}

/// An entry such as the proxy makes, and where to damage it.
fn made(data: &[u8]) -> Result<(Entry, Vec<(usize, u8)>)> {
    const NAMES: [&str; 10] = [
        "etag",
        "date",
        "age",
        "expires",
        "cache-control",
        "last-modified",
        "vary",
        "x-a",
        "cdn-cache-control",
        "content-type",
    ];
    let mut bytes = Unstructured::new(data);
    let mut headers = HeaderMap::new();
    for _ in 0..bytes.int_in_range(0..=8)? {
        let name = HeaderName::from_static(bytes.choose(&NAMES)?);
        let length = bytes.int_in_range(0..=40)?;
        if let Ok(value) = HeaderValue::from_bytes(bytes.bytes(length)?) {
            headers.append(name, value);
        }
    }
    let status = *bytes.choose(&[200_u16, 204, 301, 404])?;
    let moment = |nanoseconds| UNIX_EPOCH + Duration::from_nanos(nanoseconds);
    let requested: u64 = bytes.arbitrary()?;
    let received = requested.saturating_add(bytes.arbitrary::<u32>()?.into());
    let tags: Vec<u64> = bytes.arbitrary()?;
    let value: Vec<u8> = bytes.arbitrary()?;
    let variant = vec![(http::header::ACCEPT, value.into_boxed_slice())];
    let stamp = Stamp {
        epoch: bytes.arbitrary()?,
        seq: bytes.arbitrary()?,
    };
    let damage: Vec<(usize, u8)> = bytes.arbitrary()?;
    let entry = Entry::new(Material {
        key: KEY.into(),
        variant: Variant::from_fields(variant).expect("in order"),
        status: StatusCode::from_u16(status).expect("a status"),
        headers: headers.clone(),
        body: bytes.take_rest().to_vec().into(),
        times: Times {
            requested: moment(requested),
            received: moment(received),
        },
        certificate: Certificate::new(stamp, tags.into_iter().map(Tag::from_u64).collect()),
        jitter: 0.25,
        digest: 7,
    });
    if damage.len() % 2 == 1 {
        let certificate = Certificate::new(stamp, entry.certificate.tags.clone());
        return Ok((entry.refreshed(headers, entry.times, certificate), damage));
    }
    Ok((entry, damage))
}
