//! Identity: who is asking, as a hash.
//!
//! A caller is identified by the first present of the configured credentials (`[identity] from`). What leaves this
//! module is a hash that all replicas agree on; the credential itself is never stored, logged or put into
//! a tag. Two hashes are kept, because they answer two questions: [`Caller::user`] names the user for tags and drops
//! (the first credential alone, or the id that the app told us), [`Caller::key`] keeps entries apart (over every
//! credential present, so that a request with two of them never meets the entry of a request with one; `Authorization`
//! counts among them, declared or not).
//!
//! The hash is SHA-256, of which 128 bits are kept: nobody can find another credential with the same hash, with a secret
//! or without. The secret (`REPRISE_IDENTITY_KEY`) only hinders whoever reads what is stored in Redis from guessing weak
//! credentials; with it or without, replicas that share a Redis agree and need not talk about it.

use std::fmt;

use http::header::{self, HeaderMap, HeaderName};
use ring::digest::{self, Context, SHA256};

use crate::headers::cookie;

/// A credential that may identify a caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential {
    /// A request field, `header:Authorization`.
    Header(HeaderName),
    /// A cookie, `cookie:sessionid`.
    Cookie(String),
}

/// A 128-bit hash of who is asking.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Identity([u8; 16]);

/// What identity hashes begin with; the same on all replicas, or a drop for a user would miss.
#[derive(Clone)]
pub struct IdentityKey(Context);

/// A caller with credentials.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caller {
    /// Names the user: in tags, in `{user}`.
    pub user: Identity,
    /// Keeps entries apart: part of the primary key.
    pub key: Identity,
}

impl Identity {
    /// The hash as the text that tags carry.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// The hash as bytes, for keys.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell two callers apart in a log, too little to look one up by.
        write!(f, "Identity({:.8})", self.to_hex())
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(…)")
    }
}

/// What a hash is of. Part of it, so that no two kinds ever have one in common.
#[derive(Clone, Copy)]
enum Kind {
    /// One credential, as the user's name.
    User = 1,
    /// All credentials of a request.
    All = 2,
    /// `Authorization` where it is not declared.
    Undeclared = 3,
    /// One credential, as what a write with it may end.
    Credential = 4,
    /// An id that the app told.
    Known = 5,
    /// The key itself.
    Fingerprint = 6,
}

/// A hash under way.
struct Hash(Context);

impl Hash {
    fn number(&mut self, number: usize) {
        self.0.update(&(number as u64).to_be_bytes());
    }

    /// Bytes after their length: no two lists of parts are one text.
    fn part(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    fn lowercase(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(32) {
            let mut lower = [0; 32];
            let lower = &mut lower[..chunk.len()];
            lower.copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            self.0.update(lower);
        }
    }

    fn identity(self) -> Identity {
        let mut kept = [0; 16];
        kept.copy_from_slice(&self.0.finish().as_ref()[..16]);
        Identity(kept)
    }
}

impl IdentityKey {
    /// Hashes without a secret.
    #[must_use]
    pub fn plain() -> Self {
        Self::beginning(0, &[0; 32])
    }

    /// Makes a key of a secret of any length.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        Self::beginning(1, digest::digest(&SHA256, secret).as_ref())
    }

    /// Hashes begin with one whole block of SHA-256: it is worked off here, once, and each hash goes on from a copy.
    fn beginning(domain: u8, secret: &[u8]) -> Self {
        let mut block = [0; 64];
        block[..16].copy_from_slice(b"reprise identity");
        block[16] = domain;
        block[32..].copy_from_slice(secret);
        let mut context = Context::new(&SHA256);
        context.update(&block);
        Self(context)
    }

    /// Names the key without giving it away: replicas with different ones must not share a log of drops.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let hash = self.hash(Kind::Fingerprint).identity();
        u64::from_be_bytes(std::array::from_fn(|index| hash.0[index]))
    }

    /// Who is asking, by the credentials listed; `None` for a caller without any of them.
    #[must_use]
    pub fn identify(&self, headers: &HeaderMap, from: &[Credential]) -> Option<Caller> {
        let mut user = None;
        let mut all = self.hash(Kind::All);
        for (index, credential) in from.iter().enumerate() {
            let mut one = self.hash(Kind::User);
            one.number(index);
            if !credential.feed(headers, &mut one) {
                continue;
            }
            let one = one.identity();
            all.part(&one.0);
            if let Credential::Cookie(name) = credential {
                // Software disagrees on which of two cookies with one name counts; together they are told apart.
                cookie::cookies(headers)
                    .filter(|(known, _)| known == name)
                    .for_each(|(_, value)| all.part(value.as_bytes()));
            }
            user.get_or_insert(one);
        }
        let user = user?;
        // A declared credential does not vouch for an undeclared one beside it: the app may go by either.
        let mut other = self.hash(Kind::Undeclared);
        if !from.contains(&Credential::Header(header::AUTHORIZATION))
            && feed_field(&header::AUTHORIZATION, headers, &mut other)
        {
            all.part(&other.identity().0);
        }
        let key = all.identity();
        Some(Caller { user, key })
    }

    /// Each credential of a request by itself, of the kinds listed: what a write with it may end.
    #[must_use]
    pub fn credentials(&self, headers: &HeaderMap, from: &[Credential]) -> Vec<Identity> {
        let mut found = Vec::new();
        for (index, credential) in from.iter().enumerate() {
            let mut take = |feed: &dyn Fn(&mut Hash) -> bool| {
                let mut one = self.hash(Kind::Credential);
                one.number(index);
                if feed(&mut one) {
                    found.push(one.identity());
                }
            };
            match credential {
                Credential::Header(name) => take(&|hash| feed_field(name, headers, hash)),
                Credential::Cookie(name) => {
                    for (_, value) in cookie::cookies(headers).filter(|(known, _)| known == name) {
                        take(&|hash| {
                            hash.part(value.as_bytes());
                            !value.is_empty()
                        });
                    }
                }
            }
        }
        found
    }

    /// The caller whom the app knows by this id, whatever credential he came with.
    #[must_use]
    pub fn known(&self, id: &str) -> Caller {
        let mut hash = self.hash(Kind::Known);
        hash.part(id.as_bytes());
        let identity = hash.identity();
        Caller {
            user: identity,
            key: identity,
        }
    }

    fn hash(&self, kind: Kind) -> Hash {
        let mut context = self.0.clone();
        context.update(&[kind as u8]);
        Hash(context)
    }
}

impl Credential {
    /// Feeds the credential's value to a hash; whether there was one.
    fn feed(&self, headers: &HeaderMap, hash: &mut Hash) -> bool {
        match self {
            Self::Header(name) => feed_field(name, headers, hash),
            // Of several, the last one that says something: an app that reads the first of `s=x; s=` knows the caller,
            // and its answer must not be everybody's.
            Self::Cookie(name) => match cookie::cookies(headers)
                .filter(|(known, value)| known == name && !value.is_empty())
                .last()
            {
                Some((_, value)) => {
                    hash.part(value.as_bytes());
                    true
                }
                None => false,
            },
        }
    }
}

/// Feeds a field to a hash. `Authorization` has many spellings of one credential (RFC 9110 §11.4: the scheme is
/// case-insensitive, blanks may be several), and each must give the same user, or a drop would miss.
fn feed_field(name: &HeaderName, headers: &HeaderMap, hash: &mut Hash) -> bool {
    let mut any = false;
    for value in headers.get_all(name) {
        let value = value.as_bytes().trim_ascii();
        if value.is_empty() {
            continue;
        }
        any = true;
        let blank = value
            .iter()
            .position(|byte| *byte == b' ' || *byte == b'\t');
        match blank {
            Some(end) if *name == header::AUTHORIZATION => {
                let (scheme, rest) = (&value[..end], value[end..].trim_ascii_start());
                hash.number(scheme.len() + 1 + rest.len());
                hash.lowercase(scheme);
                hash.0.update(b" ");
                hash.0.update(rest);
            }
            Some(_) | None => hash.part(value),
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identify(lines: &[(&str, &str)]) -> Option<Caller> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().expect("a field name");
            headers.append(name, value.parse().expect("a field value"));
        }
        let from = [
            Credential::Header(header::AUTHORIZATION),
            Credential::Cookie("sessionid".into()),
        ];
        IdentityKey::from_secret(b"test").identify(&headers, &from)
    }

    #[test]
    fn spellings_of_one_credential_are_one_user() {
        let user = identify(&[("authorization", "Token abc")]);
        assert!(user.is_some());
        for spelling in ["token abc", "TOKEN   abc", " Token\tabc "] {
            assert_eq!(
                identify(&[("authorization", spelling)]),
                user,
                "{spelling:?}"
            );
        }
        assert_ne!(identify(&[("authorization", "Token ABC")]), user);
    }

    #[test]
    fn the_first_credential_names_the_user_and_all_of_them_keep_entries_apart() {
        let both = identify(&[
            ("authorization", "Token abc"),
            ("cookie", "a=1; sessionid=s"),
        ])
        .expect("a caller");
        let token = identify(&[("authorization", "Token abc")]).expect("a caller");
        let session = identify(&[("cookie", "sessionid=s")]).expect("a caller");
        assert_eq!(both.user, token.user);
        assert_ne!(both.key, token.key);
        assert_ne!(session.user, token.user);
    }

    #[test]
    fn a_hash_is_the_same_in_every_process_and_another_under_a_secret() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            "Token abc".parse().expect("a field value"),
        );
        let from = [Credential::Header(header::AUTHORIZATION)];
        let user = |key: &IdentityKey| {
            let caller = key.identify(&headers, &from).expect("a caller");
            caller.user.to_hex()
        };
        // Worked out by another program: the block, the kind, the index, the length, the value.
        assert_eq!(
            user(&IdentityKey::plain()),
            "016837cf87006a7b20f976a82dff05f5"
        );
        let secret = IdentityKey::from_secret(b"pepper");
        assert_eq!(user(&secret), "629cf921d2639a832096f3b848887598");
        let prints = [
            IdentityKey::plain().fingerprint(),
            secret.fingerprint(),
            IdentityKey::from_secret(b"").fingerprint(),
        ];
        assert_eq!(prints[0], IdentityKey::plain().fingerprint());
        assert!(prints[0] != prints[1] && prints[1] != prints[2] && prints[2] != prints[0]);
    }

    #[test]
    fn one_value_has_another_hash_in_every_place() {
        let mut headers = HeaderMap::new();
        headers.insert("x-one", "v".parse().expect("a field value"));
        headers.insert("x-two", "v".parse().expect("a field value"));
        headers.insert(header::COOKIE, "c=v".parse().expect("a field value"));
        let one = Credential::Header(HeaderName::from_static("x-one"));
        let two = Credential::Header(HeaderName::from_static("x-two"));
        let cookie = Credential::Cookie("c".into());
        let key = IdentityKey::plain();
        let mut all = key.credentials(&headers, &[one.clone(), two, cookie]);
        let caller = key.identify(&headers, &[one]).expect("a caller");
        all.extend([caller.user, caller.key, key.known("v").user]);
        for (index, hash) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(hash), "{index}");
        }
    }

    #[test]
    fn no_credential_or_an_empty_one_is_nobody() {
        assert_eq!(identify(&[]), None);
        assert_eq!(identify(&[("cookie", "other=1; sessionid=")]), None);
        assert_eq!(identify(&[("authorization", "")]), None);
    }
}
