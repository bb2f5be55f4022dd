//! Identity: who is asking, as a keyed hash.
//!
//! A caller is identified by the first present of the configured credentials (`[identity] from`). What leaves this
//! module is a hash under a key that all replicas share; the credential itself is never stored, logged or put into
//! a tag. Two hashes are kept, because they answer two questions: [`Caller::user`] names the user for tags and drops
//! (the first credential alone, or the id that the app told us), [`Caller::key`] keeps entries apart (over every
//! credential present, so that a request with two of them never meets the entry of a request with one; `Authorization`
//! counts among them, declared or not).

use std::fmt;
use std::hash::Hasher;

use http::header::{self, HeaderMap, HeaderName};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::headers::cookie;

/// A credential that may identify a caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential {
    /// A request field, `header:Authorization`.
    Header(HeaderName),
    /// A cookie, `cookie:sessionid`.
    Cookie(String),
}

/// A 128-bit keyed hash of who is asking.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Identity([u8; 16]);

/// The key of identity hashes; the same on all replicas, or a drop for a user would miss.
#[derive(Clone)]
pub struct IdentityKey([u8; 16]);

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

impl IdentityKey {
    /// Makes a key of a secret of any length.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        let mut hasher = SipHasher24::new_with_keys(0x7265_7072_6973_6502, 0);
        hasher.write(secret);
        Self(hasher.finish128().as_bytes())
    }

    /// Who is asking, by the credentials listed; `None` for a caller without any of them.
    #[must_use]
    pub fn identify(&self, headers: &HeaderMap, from: &[Credential]) -> Option<Caller> {
        let mut user = None;
        let mut all = self.hasher();
        for (index, credential) in from.iter().enumerate() {
            let mut one = self.hasher();
            if !credential.feed(headers, &mut one) {
                continue;
            }
            one.write_u8(u8::try_from(index).unwrap_or(u8::MAX));
            let one = Identity(one.finish128().as_bytes());
            all.write(&one.0);
            if let Credential::Cookie(name) = credential {
                // Software disagrees on which of two cookies with one name counts; together they are told apart.
                cookie::cookies(headers)
                    .filter(|(known, _)| known == name)
                    .for_each(|(_, value)| {
                        all.write_usize(value.len());
                        all.write(value.as_bytes());
                    });
            }
            user.get_or_insert(one);
        }
        let user = user?;
        // A declared credential does not vouch for an undeclared one beside it: the app may go by either.
        let mut other = self.hasher();
        if !from.contains(&Credential::Header(header::AUTHORIZATION))
            && feed_field(&header::AUTHORIZATION, headers, &mut other)
        {
            all.write(&other.finish128().as_bytes());
        }
        Some(Caller {
            user,
            key: Identity(all.finish128().as_bytes()),
        })
    }

    /// Each credential of a request by itself, of the kinds listed: what a write with it may end.
    #[must_use]
    pub fn credentials(&self, headers: &HeaderMap, from: &[Credential]) -> Vec<Identity> {
        let mut found = Vec::new();
        for (index, credential) in from.iter().enumerate() {
            let mut take = |feed: &dyn Fn(&mut SipHasher24) -> bool| {
                let mut one = self.hasher();
                if feed(&mut one) {
                    one.write_usize(index);
                    found.push(Identity(one.finish128().as_bytes()));
                }
            };
            match credential {
                Credential::Header(name) => take(&|hasher| feed_field(name, headers, hasher)),
                Credential::Cookie(name) => {
                    for (_, value) in cookie::cookies(headers).filter(|(known, _)| known == name) {
                        take(&|hasher| {
                            hasher.write(value.as_bytes());
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
        let mut hasher = self.hasher();
        hasher.write(b"id:");
        hasher.write(id.as_bytes());
        let identity = Identity(hasher.finish128().as_bytes());
        Caller {
            user: identity,
            key: identity,
        }
    }

    fn hasher(&self) -> SipHasher24 {
        SipHasher24::new_with_key(&self.0)
    }
}

impl Credential {
    /// Feeds the credential's value to a hash; whether there was one.
    fn feed(&self, headers: &HeaderMap, hasher: &mut SipHasher24) -> bool {
        match self {
            Self::Header(name) => feed_field(name, headers, hasher),
            // Of several, the last one that says something: an app that reads the first of `s=x; s=` knows the caller,
            // and its answer must not be everybody's.
            Self::Cookie(name) => match cookie::cookies(headers)
                .filter(|(known, value)| known == name && !value.is_empty())
                .last()
            {
                Some((_, value)) => {
                    hasher.write(value.as_bytes());
                    true
                }
                None => false,
            },
        }
    }
}

/// Feeds a field to a hash. `Authorization` has many spellings of one credential (RFC 9110 §11.4: the scheme is
/// case-insensitive, blanks may be several), and each must give the same user, or a drop would miss.
fn feed_field(name: &HeaderName, headers: &HeaderMap, hasher: &mut SipHasher24) -> bool {
    let mut any = false;
    for value in headers.get_all(name) {
        let value = value.as_bytes().trim_ascii();
        if value.is_empty() {
            continue;
        }
        any = true;
        hasher.write_u8(0);
        match value
            .iter()
            .position(|byte| *byte == b' ' || *byte == b'\t')
        {
            Some(end) if *name == header::AUTHORIZATION => {
                hasher.write(&value[..end].to_ascii_lowercase());
                hasher.write_u8(b' ');
                hasher.write(value[end..].trim_ascii_start());
            }
            Some(_) | None => hasher.write(value),
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
    fn no_credential_or_an_empty_one_is_nobody() {
        assert_eq!(identify(&[]), None);
        assert_eq!(identify(&[("cookie", "other=1; sessionid=")]), None);
        assert_eq!(identify(&[("authorization", "")]), None);
    }
}
