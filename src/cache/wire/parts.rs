//! Numbers, texts and lists as bytes, written and read one after the other.
//!
//! Knows nothing of what they mean. Numbers are big-endian; texts and lists stand behind their length. Reading allocates
//! nothing on the word of a length: only what is there is taken.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{HeaderMap, HeaderName};

use crate::entry::Stamp;
use crate::key::Variant;
use crate::tag::{Tag, Tags};

/// A value being written.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Ends the value: what was written before `at` gets the checksum of what was written behind it.
    pub(super) fn sealed(mut self, at: usize, sum: impl FnOnce(&[u8]) -> u64) -> Bytes {
        let (before, after) = self.0.split_at_mut(at);
        let (_, place) = before.split_at_mut(at - size_of::<u64>());
        place.copy_from_slice(&sum(after).to_be_bytes());
        self.0.into()
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn count(&mut self, count: usize) -> Option<()> {
        self.u16(u16::try_from(count).ok()?);
        Some(())
    }

    pub(super) fn short(&mut self, text: &[u8]) -> Option<()> {
        self.count(text.len())?;
        self.0.extend_from_slice(text);
        Some(())
    }

    pub(super) fn long(&mut self, text: &[u8]) -> Option<()> {
        self.u32(u32::try_from(text.len()).ok()?);
        self.0.extend_from_slice(text);
        Some(())
    }

    pub(super) fn field(&mut self, name: &HeaderName, value: &[u8]) -> Option<()> {
        self.short(name.as_str().as_bytes())?;
        self.long(value)
    }
}

/// What of a value is not read yet. Nothing is allocated by what a length says before that much is there.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    pub(super) fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(super) fn name(&mut self) -> Option<HeaderName> {
        HeaderName::from_bytes(self.short()?).ok()
    }

    pub(super) fn names(&mut self) -> Option<Vec<HeaderName>> {
        let count = self.u16()?;
        (0..count).map(|_| self.name()).collect()
    }

    pub(super) fn certificate(&mut self) -> Option<(Stamp, Tags)> {
        let stamp = Stamp {
            epoch: self.u64()?,
            seq: self.u64()?,
        };
        let count = self.u16()?;
        let hashes = self.take(usize::from(count) * size_of::<u64>())?;
        let tags = hashes.chunks_exact(size_of::<u64>()).map(|hash| {
            let number = hash
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte));
            Tag::from_u64(number)
        });
        Some((stamp, tags.collect()))
    }

    pub(super) fn variant(&mut self) -> Option<Variant> {
        let count = self.u16()?;
        let field = |_| Some((self.name()?, self.long()?.into()));
        let fields: Option<Vec<_>> = (0..count).map(field).collect();
        Variant::from_fields(fields?)
    }

    pub(super) fn headers(&mut self) -> Option<HeaderMap> {
        let count = self.u16()?;
        let mut headers = HeaderMap::new();
        for _ in 0..count {
            let name = self.name()?;
            let value = HeaderValue::from_bytes(self.long()?).ok()?;
            // More fields than a map holds are an error here; `append` would panic.
            headers.try_append(name, value).ok()?;
        }
        Some(headers)
    }
}
