//! Whose a credential is, as bytes that replicas share.
//!
//! Numbers big-endian:
//!
//! | bytes | meaning |
//! |---|---|
//! | 4 | `RPRU` |
//! | 1 | version |
//! | 8 | xxh3 of all that follows |
//! | 8 | a digest of the rules by which the credential was found and the app was asked |
//! | 16 | the credential's hash |
//! | 8 | when the app was asked, in milliseconds since 1970 |
//! | 16 | epoch and place in the log, before the app was asked |
//! | 2, 8 each | the tags |
//! | the rest | the id, not empty |
//!
//! Promises: what was written is read as the same; a value of another credential, of other rules, damaged or of another
//! release is none; no bytes whatever make this module panic. To change the format is to raise [`VERSION`].

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::entry::Stamp;
use crate::identity::Identity;
use crate::tag::{Tag, Tags};

const MAGIC: &[u8; 4] = b"RPRU";
const VERSION: u8 = 1;

/// Of whom a value is, and by which rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct About {
    pub(super) rules: u64,
    pub(super) credential: Identity,
}

/// What the app said, and when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) asked_ms: u64,
    pub(super) stamp: Stamp,
    pub(super) tags: Tags,
}

/// The answer as a value; `None` when it is too large for one.
pub(super) fn encode(about: About, answer: &Answer) -> Option<Bytes> {
    let count = u16::try_from(answer.tags.len()).ok()?;
    let mut rest = Vec::with_capacity(64 + 8 * answer.tags.len() + answer.id.len());
    rest.extend_from_slice(&about.rules.to_be_bytes());
    rest.extend_from_slice(about.credential.as_bytes());
    for number in [answer.asked_ms, answer.stamp.epoch, answer.stamp.seq] {
        rest.extend_from_slice(&number.to_be_bytes());
    }
    rest.extend_from_slice(&count.to_be_bytes());
    for tag in &answer.tags {
        rest.extend_from_slice(&tag.as_u64().to_be_bytes());
    }
    rest.extend_from_slice(answer.id.as_bytes());
    let mut value = Vec::with_capacity(13 + rest.len());
    value.extend_from_slice(MAGIC);
    value.push(VERSION);
    value.extend_from_slice(&xxh3_64(&rest).to_be_bytes());
    value.extend_from_slice(&rest);
    Some(value.into())
}

/// The answer in a value, if it is this credential's.
pub(super) fn decode(about: About, value: &[u8]) -> Option<Answer> {
    let rest = value.strip_prefix(MAGIC)?.strip_prefix(&[VERSION])?;
    let (sum, mut rest) = rest.split_first_chunk::<8>()?;
    if xxh3_64(rest) != u64::from_be_bytes(*sum) || number(&mut rest)? != about.rules {
        return None;
    }
    let (credential, after) = rest.split_first_chunk::<16>()?;
    rest = after;
    if credential != about.credential.as_bytes() {
        return None;
    }
    let asked_ms = number(&mut rest)?;
    let stamp = Stamp {
        epoch: number(&mut rest)?,
        seq: number(&mut rest)?,
    };
    let (count, after) = rest.split_first_chunk::<2>()?;
    rest = after;
    let tags = (0..u16::from_be_bytes(*count)).map(|_| number(&mut rest).map(Tag::from_u64));
    let tags = tags.collect::<Option<Tags>>()?;
    let id = str::from_utf8(rest).ok().filter(|id| !id.is_empty())?;
    Some(Answer {
        id: id.to_owned(),
        asked_ms,
        stamp,
        tags,
    })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::IdentityKey;

    fn about() -> About {
        About {
            rules: 7,
            credential: IdentityKey::plain().known("a credential").key,
        }
    }

    fn answer(id: &str, tags: usize) -> Answer {
        Answer {
            id: id.to_owned(),
            asked_ms: 1_700_000_000_123,
            stamp: Stamp { epoch: 5, seq: 9 },
            tags: (0..tags as u64).map(Tag::from_u64).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for (id, tags) in [("7", 0), ("anna", 3), ("Zoë", 40)] {
            let answer = answer(id, tags);
            let value = encode(about(), &answer).expect("a value");
            assert_eq!(decode(about(), &value), Some(answer));
        }
    }

    #[test]
    fn the_bytes_of_the_first_version_stay() {
        let value = encode(about(), &answer("anna", 2)).expect("a value");
        assert_eq!(format!("{:016x}", xxh3_64(&value)), "080b4bddc53e294a");
    }

    #[test]
    fn values_of_others_are_none() {
        let value = encode(about(), &answer("anna", 1)).expect("a value");
        let other = IdentityKey::plain().known("another").key;
        for wrong in [
            About {
                rules: 8,
                ..about()
            },
            About {
                credential: other,
                ..about()
            },
        ] {
            assert_eq!(decode(wrong, &value), None);
        }
        let nobody = encode(about(), &answer("", 1)).expect("a value");
        assert_eq!(decode(about(), &nobody), None);
    }

    #[test]
    fn one_changed_or_missing_byte_makes_it_none() {
        let value = encode(about(), &answer("anna", 2)).expect("a value");
        for at in 0..value.len() {
            let mut damaged = value.to_vec();
            damaged[at] ^= 1;
            assert_eq!(decode(about(), &damaged), None, "byte {at}");
            assert_eq!(decode(about(), &value[..at]), None, "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, sealed: bool) {
            let mut value = b"RPRU\x01".to_vec();
            if sealed {
                // Past the checksum and the credential, so that the lengths inside are met.
                let mut rest = 7_u64.to_be_bytes().to_vec();
                rest.extend_from_slice(about().credential.as_bytes());
                rest.extend_from_slice(&bytes);
                value.extend_from_slice(&xxh3_64(&rest).to_be_bytes());
                value.extend_from_slice(&rest);
            } else {
                value.extend_from_slice(&bytes);
            }
            let _ = decode(about(), &value);
        }
    }
}
