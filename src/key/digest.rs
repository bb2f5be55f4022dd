//! Digests: the names that keys have where replicas meet.
//!
//! In this process a key is looked up by a hash under a random secret. Replicas share no secret, so there the name is
//! SHA-256, cut to 128 bits: the same everywhere, and nobody can make two that are alike. Part of it are the rules that
//! decide what a key and its tags are, so that replicas with other rules never meet each other's entries.

use std::fmt;

use http::header::HeaderName;
use ring::digest::{Context, SHA256};

use super::{ENCODING, Key, Variant};

/// The name of a key, or of one variant of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Digest([u8; 16]);

/// What a digest is of: no two kinds have one in common.
#[derive(Clone, Copy)]
enum Kind {
    Primary = 1,
    Variant = 2,
    Secret = 3,
}

impl Digest {
    /// The digest as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn begin(kind: Kind) -> Context {
        let mut context = Context::new(&SHA256);
        context.update(b"reprise key");
        context.update(&[ENCODING, kind as u8]);
        context
    }

    fn end(context: Context) -> Self {
        let mut kept = [0; 16];
        kept.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(kept)
    }
}

/// What is kept of a value that others must not read: nothing of nothing, else its digest.
pub(super) fn hidden(value: &[u8]) -> Vec<u8> {
    if value.is_empty() {
        return Vec::new();
    }
    let mut context = Digest::begin(Kind::Secret);
    context.update(value);
    Digest::end(context).0.to_vec()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Key {
    /// The name of the key on all replicas that have these `rules`, given as a digest of their own.
    #[must_use]
    pub fn digest(&self, rules: u64) -> Digest {
        let mut context = Digest::begin(Kind::Primary);
        context.update(&rules.to_be_bytes());
        context.update(&self.bytes);
        Digest::end(context)
    }
}

impl Variant {
    /// A variant as it was written down; `None` when its fields are not in order, each once.
    #[must_use]
    pub fn from_fields(fields: Vec<(HeaderName, Box<[u8]>)>) -> Option<Self> {
        fields
            .is_sorted_by(|(one, _), (other, _)| one.as_str() < other.as_str())
            .then(|| Self(fields.into_boxed_slice()))
    }

    /// The name of this variant of a primary key.
    #[must_use]
    pub fn digest(&self, primary: &Digest) -> Digest {
        let mut context = Digest::begin(Kind::Variant);
        context.update(&primary.0);
        for (name, value) in self.fields() {
            for part in [name.as_str().as_bytes(), value] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        }
        Digest::end(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyHasher, Parts, QueryRules};

    fn key(secret: u8, path: &str) -> Key {
        let parts = Parts {
            host: "a",
            secure: true,
            path,
            query: None,
            identity: None,
        };
        KeyHasher::new([secret; 16]).key(&parts, &QueryRules::default())
    }

    fn variant(fields: &[(&'static str, &str)]) -> Variant {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.as_bytes().into()));
        Variant::from_fields(fields.collect()).expect("in order")
    }

    #[test]
    fn a_key_has_one_name_in_every_process() {
        // Worked out by another program: a change of it makes replicas of two releases strangers.
        let digest = key(1, "/x").digest(7);
        assert_eq!(digest.to_string(), "9de64cc1ed83cccd222ad920ceecf655");
        assert_eq!(key(2, "/x").digest(7), digest);
        assert_ne!(key(1, "/y").digest(7), digest);
        assert_ne!(key(1, "/x").digest(8), digest);
    }

    #[test]
    fn every_variant_has_a_name_of_its_own() {
        let primary = key(1, "/x").digest(7);
        let other = key(1, "/y").digest(7);
        let names = [
            primary,
            variant(&[]).digest(&primary),
            variant(&[("a", "bc")]).digest(&primary),
            variant(&[("a", "bc")]).digest(&other),
            variant(&[("ab", "c")]).digest(&primary),
            variant(&[("a", "b"), ("c", "")]).digest(&primary),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(!names[index + 1..].contains(name), "{index}");
        }
    }

    #[test]
    fn fields_out_of_order_are_no_variant() {
        for names in [["b", "a"], ["a", "a"]] {
            let fields = names.map(|name| (HeaderName::from_static(name), Box::default()));
            assert_eq!(Variant::from_fields(fields.to_vec()), None, "{names:?}");
        }
    }
}
