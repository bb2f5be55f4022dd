//! What is written is read, and what is not is refused.

use http::header::{self, HeaderMap};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::entry::Material;
use crate::key::Variant;
use crate::tag::Tag;

const KEY: &[u8] = b"the full key";

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().expect("a field value"));
    }
    headers
}

fn times(requested: u64, received: u64) -> Times {
    Times {
        requested: instant(requested),
        received: instant(received),
    }
}

fn certificate(tags: &[u64]) -> Certificate {
    let stamp = Stamp { epoch: 7, seq: 42 };
    Certificate::new(stamp, tags.iter().copied().map(Tag::from_u64).collect())
}

fn made(status: StatusCode, headers: HeaderMap, body: Bytes) -> Entry {
    let fields = vec![
        (header::ACCEPT, b",text/html".as_slice().into()),
        (header::COOKIE, b"a=1;".as_slice().into()),
    ];
    Entry::new(Material {
        key: KEY.into(),
        variant: Variant::from_fields(fields).expect("in order"),
        status,
        headers,
        body,
        times: times(1_700_000_000_123_456_789, 1_700_000_000_923_456_789),
        certificate: certificate(&[1, 2, u64::MAX]),
        jitter: 0.25,
        digest: 5,
    })
}

fn plain() -> Entry {
    let said = headers(&[
        ("content-type", "application/json"),
        ("cache-control", "max-age=60"),
        ("age", "9"),
        ("set-cookie", "a=1"),
        ("x-a", "1"),
        ("x-a", "2"),
    ]);
    made(StatusCode::OK, said, Bytes::from_static(b"{\"a\": 1}"))
}

fn read(value: &Bytes) -> Result<Arc<Entry>, Miss> {
    match decode(value, KEY, 1 << 20)? {
        Value::Entry(entry) => Ok(entry),
        Value::Signpost(_) => Err(Miss::Malformed),
    }
}

/// Everything of an entry that anybody can see, as text.
fn seen(entry: &Entry) -> String {
    let lines: Vec<_> = entry.headers.iter().collect();
    let Certificate { stamp, tags, .. } = &entry.certificate;
    format!(
        "{:?} {:?} {} {lines:?} {:?} {:?} {:?} {:?} {stamp:?} {tags:?} {} {}",
        entry.key,
        entry.variant,
        entry.status,
        entry.body,
        entry.etag,
        entry.times,
        entry.facts,
        entry.jitter,
        entry.weight(),
    )
}

/// The same value with a checksum that is right whatever its bytes are.
fn resealed(mut value: Vec<u8>) -> Bytes {
    if let Some((envelope, rest)) = value.split_at_mut_checked(SUMMED) {
        envelope[SUMMED - 8..].copy_from_slice(&xxh3_64(rest).to_be_bytes());
    }
    value.into()
}

#[test]
fn an_entry_is_read_as_it_was_written_whoever_gave_its_validator() {
    let ok = StatusCode::OK;
    for (status, said) in [
        (ok, headers(&[])),
        (ok, headers(&[("etag", "\"a\"")])),
        (ok, headers(&[("etag", "W/\"a\""), ("etag", "W/\"a\"")])),
        (ok, headers(&[("etag", "\"a\""), ("etag", "\"b\"")])),
        (StatusCode::NOT_FOUND, headers(&[])),
        (StatusCode::NOT_FOUND, headers(&[("etag", "nonsense")])),
        (StatusCode::NO_CONTENT, headers(&[])),
        (ok, headers(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")])),
        (ok, headers(&[("age", "60"), ("expires", "0")])),
        (
            ok,
            headers(&[("cdn-cache-control", "max-age=5"), ("expires", "0")]),
        ),
        (
            ok,
            headers(&[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")]),
        ),
    ] {
        let entry = made(status, said, Bytes::from_static(b"body"));
        let value = encode(&entry, 1024).expect("short enough");
        let again = read(&value).expect("what was written");
        assert_eq!(seen(&again), seen(&entry));
        assert_eq!(again.tag_by(), entry.tag_by());
        assert_eq!(again.has_app_validator(), entry.has_app_validator());
    }
}

#[test]
fn an_entry_that_a_304_refreshed_is_read_as_it_was_written() {
    for (first, second) in [
        (headers(&[]), headers(&[("etag", "\"new\""), ("age", "3")])),
        (headers(&[("etag", "\"a\"")]), headers(&[("age", "3")])),
        (
            headers(&[("etag", "W/\"a\"")]),
            headers(&[("etag", "\"a\"")]),
        ),
    ] {
        for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
            let body = Bytes::from_static(b"body");
            let entry = made(status, first.clone(), body).refreshed(
                second.clone(),
                times(1_700_000_100_000_000_001, 1_700_000_100_000_000_002),
                certificate(&[9]),
            );
            let value = encode(&entry, 1024).expect("short enough");
            assert_eq!(seen(&read(&value).expect("an entry")), seen(&entry));
        }
    }
}

#[test]
fn the_format_is_what_the_version_says() {
    // As first written. Another number here needs another `VERSION`: releases run side by side.
    let value = encode(&plain(), 1024).expect("short enough");
    assert_eq!(value[..5], *b"RPRS\x01");
    assert_eq!(format!("{:016x}", xxh3_64(&value)), "25e8ead70cd2ba15");
}

#[test]
fn a_body_is_compressed_where_that_helps() {
    let text = Bytes::from(b"all seats are free. ".repeat(500));
    let noise: Vec<u8> = (0..2000_u32)
        .flat_map(|number| xxh3_64(&number.to_be_bytes()).to_be_bytes())
        .collect();
    for (body, over, smaller) in [
        (text.clone(), 1024, true),
        (text.clone(), text.len(), false),
        (noise.into(), 1024, false),
    ] {
        let length = body.len();
        let entry = made(StatusCode::OK, headers(&[]), body);
        let value = encode(&entry, over).expect("short enough");
        assert_eq!(value.len() < length / 2, smaller, "{length} over {over}");
        assert_eq!(
            value[SUMMED + 1] & ZSTD != 0,
            smaller,
            "what does not help is undone"
        );
        assert_eq!(seen(&read(&value).expect("an entry")), seen(&entry));
    }
}

#[test]
fn what_is_not_this_keys_is_a_miss_with_its_reason() {
    let entry = encode(&plain(), 1024).expect("short enough");
    let post = signpost(KEY, &[header::ACCEPT]).expect("short enough");
    for value in [entry, post] {
        let mut newer = value.to_vec();
        newer[4] = 2;
        let mut damaged = value.to_vec();
        damaged[40] ^= 1;
        let mut other_kind = value.to_vec();
        other_kind[SUMMED] = 3;
        let mut other_flag = value.to_vec();
        other_flag[SUMMED + 1] = 128;
        let longer = [&value, b"more".as_slice()].concat();
        for (value, key, expected) in [
            (value.clone(), b"another key".as_slice(), Miss::Foreign),
            (newer.into(), KEY, Miss::Version),
            (damaged.into(), KEY, Miss::Checksum),
            (resealed(other_kind), KEY, Miss::Malformed),
            (resealed(other_flag), KEY, Miss::Malformed),
            (resealed(longer), KEY, Miss::Malformed),
            (Bytes::from_static(b"hello"), KEY, Miss::Malformed),
            (Bytes::new(), KEY, Miss::Malformed),
        ] {
            assert_eq!(decode(&value, key, 1 << 20).err(), Some(expected));
        }
    }
}

#[test]
fn no_body_is_larger_than_what_is_allowed_or_declared() {
    let entry = made(StatusCode::OK, headers(&[]), vec![0; 1 << 20].into());
    let value = encode(&entry, 1024).expect("short enough");
    assert!(value.len() < 1000, "{} bytes", value.len());
    assert!(decode(&value, KEY, 1 << 20).is_ok());
    assert_eq!(
        decode(&value, KEY, (1 << 20) - 1).err(),
        Some(Miss::Malformed)
    );
    // The length stands before the body: a bomb says that it is small.
    let length = (1_u32 << 20).to_be_bytes();
    let at = value.windows(4).rposition(|bytes| bytes == length);
    for declared in [0, 1, (1 << 20) - 1, 1 << 21] {
        let mut bomb = value.to_vec();
        let at = at.expect("a length");
        bomb[at..at + 4].copy_from_slice(&u32::to_be_bytes(declared));
        let read = decode(&resealed(bomb), KEY, 1 << 22);
        assert_eq!(read.err(), Some(Miss::Malformed), "{declared}");
    }
}

#[test]
fn every_reason_has_its_counter() {
    assert_eq!(Miss::ALL.map(Miss::as_str), crate::metrics::REJECTIONS);
    assert_eq!(Miss::ALL.map(Miss::index), [0, 1, 2, 3]);
}

#[test]
fn what_is_too_long_to_be_written_is_not_written() {
    let mut entry = plain();
    entry.certificate = certificate(&vec![1; 65_536]);
    assert!(encode(&entry, 1024).is_none());
    entry.certificate = certificate(&vec![1; 65_535]);
    assert!(encode(&entry, 1024).is_some());
}

#[test]
fn a_part_of_a_value_is_none_and_neither_is_a_damaged_one() {
    let long = Bytes::from(b"all seats are free. ".repeat(500));
    for value in [
        encode(&plain(), 1024).expect("short enough"),
        encode(&made(StatusCode::OK, headers(&[]), long), 1024).expect("short enough"),
        signpost(KEY, &[header::ACCEPT]).expect("short enough"),
    ] {
        for length in 0..value.len() {
            assert!(decode(&value.slice(..length), KEY, 1 << 20).is_err());
            // Nor if somebody made the checksum right.
            let cut = resealed(value[..length].to_vec());
            assert!(decode(&cut, KEY, 1 << 20).is_err(), "{length}");
        }
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.to_vec();
                damaged[at] ^= 1 << bit;
                assert!(decode(&damaged.into(), KEY, 1 << 20).is_err(), "{at}");
            }
        }
    }
}

#[test]
fn a_signpost_is_read_as_it_was_written() {
    let names = [header::ACCEPT, "x-tenant".parse().expect("a name")];
    let value = signpost(KEY, &names).expect("short enough");
    match decode(&value, KEY, 0) {
        Ok(Value::Signpost(read)) => assert_eq!(read, names),
        other => panic!("{other:?}"),
    }
    assert!(peek(&value).is_none());
}

#[test]
fn the_beginning_of_an_entry_tells_what_drops_it() {
    let entry = plain();
    let value = encode(&entry, 1024).expect("short enough");
    let key_at = SUMMED + 2 + 16 + 2 + 3 * 8;
    for length in 0..value.len() {
        match peek(&value[..length]) {
            None => assert!(length < key_at, "{length}"),
            Some(peeked) => {
                assert!(length >= key_at, "{length}");
                assert_eq!(peeked.stamp, entry.certificate.stamp);
                assert_eq!(peeked.tags, entry.certificate.tags);
                let whole = length >= key_at + 4 + KEY.len();
                assert_eq!(peeked.key, whole.then_some(KEY));
            }
        }
    }
}

prop_compose! {
    fn any_entry()(
        status in prop::sample::select(vec![200_u16, 203, 204, 301, 404, 410]),
        lines in vec(
            (
                prop::sample::select(vec![
                    "etag", "date", "age", "expires", "cache-control", "cdn-cache-control", "last-modified", "vary",
                    "x-a", "x-b", "trailer", "content-length",
                ]),
                prop_oneof![
                    Just("\"tag\"".to_owned()),
                    Just("W/\"tag\"".to_owned()),
                    Just("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
                    Just("max-age=60, stale-if-error=5".to_owned()),
                    "[0-9]{1,12}",
                    "[ -~]{0,20}",
                    "[é-ÿ]{1,5}",
                ],
            ),
            0..12,
        ),
        body in prop_oneof![vec(any::<u8>(), 0..200), vec(0_u8..2, 900..3000)],
        tags in vec(any::<u64>(), 0..40),
        variant in prop::collection::btree_map("[a-z]{1,8}", vec(any::<u8>(), 0..20), 0..4),
        requested in any::<u64>(),
        took in 0_u64..10_000_000_000,
        jitter in 0.0..=1.0,
        digest in any::<u128>(),
        refreshed in any::<bool>(),
    ) -> Entry {
        let mut headers = HeaderMap::new();
        for (name, value) in &lines {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let fields = variant.into_iter().map(|(name, value)| (name.parse().expect("a name"), value.into_boxed_slice()));
        let times = times(requested, requested.saturating_add(took));
        let entry = Entry::new(Material {
            key: KEY.into(),
            variant: Variant::from_fields(fields.collect()).expect("in order"),
            status: StatusCode::from_u16(status).expect("a status"),
            headers: headers.clone(),
            body: body.into(),
            times,
            certificate: certificate(&tags),
            jitter,
            digest,
        });
        if refreshed {
            entry.refreshed(headers, times, certificate(&tags))
        } else {
            entry
        }
    }
}

proptest! {
    #[test]
    fn any_entry_is_read_as_it_was_written(entry in any_entry()) {
        let value = encode(&entry, 1024).expect("short enough");
        let again = read(&value).expect("what was written");
        prop_assert_eq!(seen(&again), seen(&entry));
        // And what was read is written as before.
        prop_assert_eq!(encode(&again, 1024), Some(value));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300), magic in any::<bool>(), kind in 0_u8..4) {
        let value = if magic {
            let envelope = [b"RPRS\x01".as_slice(), &[0; 8], &[kind, kind & 1]].concat();
            resealed([envelope, bytes].concat())
        } else {
            bytes.into()
        };
        let _ = peek(&value);
        let _ = decode(&value, KEY, 1 << 20);
    }

    #[test]
    fn no_damage_under_a_right_checksum_makes_it_panic(
        entry in any_entry(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut value = encode(&entry, 1024).expect("short enough").to_vec();
        for (at, byte) in damage {
            let at = at.index(value.len());
            value[at] = byte;
        }
        let _ = peek(&value);
        if let Ok(Value::Entry(read)) = decode(&resealed(value), KEY, 4096) {
            prop_assert!(read.body.len() <= 4096);
            let _ = encode(&read, 1024);
        }
    }
}
