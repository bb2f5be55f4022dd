//! The format of tier 2: versioned bytes to entries and back.
//!
//! A value begins with `RPRS`, its version, and an xxh3 checksum of all that follows. Then, numbers big-endian, texts
//! and lists after their length:
//!
//! | | entry | signpost |
//! |---|---|---|
//! | 1 byte | kind: 1 | kind: 2 |
//! | 1 byte | flags: 1 the body is zstd, 2 undated | flags: 0 |
//! | | epoch, place (8 each), tags (count 2, 8 each) | |
//! | | full primary key (4) | full primary key (4) |
//! | | variant (count 2; name 2, value 4) | names of the fields that select (count 2; 2 each) |
//! | | requested, received (8 each, nanoseconds since 1970), age (4, seconds) | |
//! | | status (2), jitter (8), whose the `ETag` is (1) | |
//! | | fields (count 2; name 2, value 4; lines of one name in their order) | |
//! | | length of the body (4), and the body to the end | |
//!
//! Stamp and tags come early, so that whoever looks for dead entries reads the beginning of a value only ([`peek`]).
//! A *signpost* stands under the name of a key whose answers vary; the answers are under names of their own.
//!
//! Promises: what was written is read as an entry that behaves alike, wherever and whenever it is read (times are
//! absolute, so a value that is written late does no harm); no bytes whatever make this module panic, or take more memory
//! than the body that the caller allows.
//!
//! To change the format is to raise `VERSION`: two releases run side by side, and what a reader does not know is a
//! miss. `RPRS` and the byte behind it stay.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderName;
use xxhash_rust::xxh3::xxh3_64;

use crate::entry::{Certificate, Entry, Record, Stamp, TagBy, Times};
use crate::tag::Tags;

mod parts;
#[cfg(test)]
mod tests;

use parts::{Reader, Writer};

const MAGIC: &[u8; 4] = b"RPRS";
const VERSION: u8 = 1;

/// Where the checksum ends and what it is of begins.
const SUMMED: usize = MAGIC.len() + 1 + size_of::<u64>();

const ENTRY: u8 = 1;
const SIGNPOST: u8 = 2;

const ZSTD: u8 = 1;
const UNDATED: u8 = 2;

/// The quickest: what counts is the network and the memory of Redis, and a fill waits for neither.
const LEVEL: i32 = 1;

/// What a value turned out to be.
#[derive(Clone, Debug)]
pub enum Value {
    /// A stored response.
    Entry(Arc<Entry>),
    /// The key's answers vary by these fields.
    Signpost(Vec<HeaderName>),
}

/// Why a value is none that can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Miss {
    /// Another release wrote it.
    Version,
    /// It was damaged.
    Checksum,
    /// It is the value of another key.
    Foreign,
    /// It is none of ours, contradicts itself, or its body is larger than is allowed.
    Malformed,
}

impl Miss {
    /// Every reason, in the order of [`Miss::index`].
    pub const ALL: [Self; 4] = [
        Self::Version,
        Self::Checksum,
        Self::Foreign,
        Self::Malformed,
    ];

    /// The word that labels use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Checksum => "checksum",
            Self::Foreign => "foreign",
            Self::Malformed => "malformed",
        }
    }

    /// Its place among all.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What the beginning of an entry tells.
#[derive(Debug)]
pub struct Peeked<'a> {
    /// The place in the log at which the entry began.
    pub stamp: Stamp,
    /// What drops it.
    pub tags: Tags,
    /// The full primary key, if the beginning is long enough.
    pub key: Option<&'a [u8]>,
}

/// Reads the certificate of an entry from the first bytes of a value. `None` for what is no entry of this version, or when
/// the tags go on beyond these bytes. The checksum is not looked at: these may not be all bytes.
#[must_use]
pub fn peek(start: &[u8]) -> Option<Peeked<'_>> {
    let mut reader = Reader(start);
    if reader.take(MAGIC.len())? != MAGIC || reader.u8()? != VERSION {
        return None;
    }
    reader.u64()?;
    if reader.u8()? != ENTRY {
        return None;
    }
    reader.u8()?;
    let (stamp, tags) = reader.certificate()?;
    let key = reader.long();
    Some(Peeked { stamp, tags, key })
}

/// Writes an entry. Bodies over `compress_over` bytes are compressed, where that makes them smaller; it takes as long as
/// it takes, so large ones belong on a thread for such work. `None` when a part is longer than its length can say.
#[must_use]
pub fn encode(entry: &Entry, compress_over: usize) -> Option<Bytes> {
    let compressed = (entry.body.len() > compress_over)
        .then(|| zstd::bulk::compress(&entry.body, LEVEL).ok())
        .flatten()
        .filter(|smaller| smaller.len() < entry.body.len());
    let body = compressed.as_deref().unwrap_or(&entry.body);
    let undated = if entry.is_undated() { UNDATED } else { 0 };
    let zstd = if compressed.is_some() { ZSTD } else { 0 };

    let mut writer = begin(ENTRY, undated | zstd, 1024 + entry.key.len() + body.len());
    writer.u64(entry.certificate.stamp.epoch);
    writer.u64(entry.certificate.stamp.seq);
    writer.count(entry.certificate.tags.len())?;
    for tag in &entry.certificate.tags {
        writer.u64(tag.as_u64());
    }
    writer.long(&entry.key)?;
    writer.count(entry.variant.fields().count())?;
    for (name, value) in entry.variant.fields() {
        writer.field(name, value)?;
    }
    writer.u64(nanoseconds(entry.times.requested));
    writer.u64(nanoseconds(entry.times.received));
    writer.u32(u32::try_from(entry.facts.age.as_secs()).unwrap_or(u32::MAX));
    writer.u16(entry.status.as_u16());
    writer.u64(entry.jitter.to_bits());
    writer.raw(&[entry.tag_by() as u8]);
    writer.count(entry.headers.len())?;
    for (name, value) in &entry.headers {
        writer.field(name, value.as_bytes())?;
    }
    writer.u32(u32::try_from(entry.body.len()).ok()?);
    writer.raw(body);
    Some(writer.sealed(SUMMED, xxh3_64))
}

/// Writes a signpost: the answers to this key vary by these fields.
#[must_use]
pub fn signpost(key: &[u8], names: &[HeaderName]) -> Option<Bytes> {
    let mut writer = begin(SIGNPOST, 0, 256);
    writer.long(key)?;
    writer.count(names.len())?;
    for name in names {
        writer.short(name.as_str().as_bytes())?;
    }
    Some(writer.sealed(SUMMED, xxh3_64))
}

/// Reads a value that was found under the name of `key`.
///
/// # Errors
///
/// Why it is none that can be used.
pub fn decode(value: &Bytes, key: &[u8], max_body: usize) -> Result<Value, Miss> {
    let mut reader = Reader(value);
    if reader.take(MAGIC.len()).ok_or(Miss::Malformed)? != MAGIC {
        return Err(Miss::Malformed);
    }
    if reader.u8().ok_or(Miss::Malformed)? != VERSION {
        return Err(Miss::Version);
    }
    let sum = reader.u64().ok_or(Miss::Malformed)?;
    if xxh3_64(reader.0) != sum {
        return Err(Miss::Checksum);
    }
    let kind = reader.u8().ok_or(Miss::Malformed)?;
    let flags = reader.u8().ok_or(Miss::Malformed)?;
    match (kind, flags) {
        (ENTRY, 0..=3) => entry(value, reader, flags, key, max_body),
        (SIGNPOST, 0) => pointed(reader, key),
        _ => Err(Miss::Malformed),
    }
}

fn begin(kind: u8, flags: u8, capacity: usize) -> Writer {
    let mut writer = Writer::new(capacity);
    writer.raw(MAGIC);
    writer.raw(&[VERSION]);
    writer.u64(0);
    writer.raw(&[kind, flags]);
    writer
}

fn tag_by(number: u8) -> Option<TagBy> {
    [TagBy::Nobody, TagBy::Proxy, TagBy::App]
        .into_iter()
        .find(|known| *known as u8 == number)
}

fn pointed(mut reader: Reader<'_>, key: &[u8]) -> Result<Value, Miss> {
    if reader.long().ok_or(Miss::Malformed)? != key {
        return Err(Miss::Foreign);
    }
    let names = reader.names().ok_or(Miss::Malformed)?;
    let over = !reader.0.is_empty();
    if over {
        return Err(Miss::Malformed);
    }
    Ok(Value::Signpost(names))
}

fn entry(
    whole: &Bytes,
    mut reader: Reader<'_>,
    flags: u8,
    key: &[u8],
    max_body: usize,
) -> Result<Value, Miss> {
    let (stamp, tags) = reader.certificate().ok_or(Miss::Malformed)?;
    if reader.long().ok_or(Miss::Malformed)? != key {
        return Err(Miss::Foreign);
    }
    let restore = || {
        let variant = reader.variant()?;
        let times = Times {
            requested: instant(reader.u64()?),
            received: instant(reader.u64()?),
        };
        let age = Duration::from_secs(u64::from(reader.u32()?));
        let status = StatusCode::from_u16(reader.u16()?).ok()?;
        let jitter =
            Some(f64::from_bits(reader.u64()?)).filter(|jitter| (0.0..=1.0).contains(jitter))?;
        let tag_by = tag_by(reader.u8()?)?;
        let headers = reader.headers()?;
        let length = Some(reader.u32()? as usize).filter(|length| *length <= max_body)?;
        Entry::restored(Record {
            key: key.into(),
            variant,
            status,
            headers,
            body: body(whole, reader.0, flags & ZSTD != 0, length)?,
            tag_by,
            times,
            undated: flags & UNDATED != 0,
            age,
            certificate: Certificate::new(stamp, tags),
            jitter,
        })
    };
    let entry = restore().ok_or(Miss::Malformed)?;
    Ok(Value::Entry(Arc::new(entry)))
}

/// The canonical body, of exactly this length. Where it is not compressed it stays a part of the whole value: that holds
/// the head in memory too, which is less than what a copy costs.
fn body(whole: &Bytes, stored: &[u8], compressed: bool, length: usize) -> Option<Bytes> {
    let body = if compressed {
        // Takes no more than was declared, and the caller allows that much.
        Bytes::from(zstd::bulk::decompress(stored, length).ok()?)
    } else {
        whole.slice_ref(stored)
    };
    (body.len() == length).then_some(body)
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn instant(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}
