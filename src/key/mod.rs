//! Keys: which requests may share an answer.
//!
//! The *primary key* says what was asked for: host and scheme as the app sees them (its links repeat them),
//! normalised path, normalised query and, where the scope keeps users apart, the identity. It is written without
//! ambiguity (every part has its length before it) and hashed to 128 bits under a key of this process, so that nobody
//! can make two keys collide on purpose; the full key is kept in every entry and compared on every read, so that a
//! collision would be a miss and never another's answer.
//!
//! The *variant* (RFC 9111 §4.1) says which request fields the answer depended on: those the app's `Vary` names,
//! less what the route declares meaningless, plus what it declares forgotten.
//!
//! Paths are normalised only where no app could tell the difference: escapes of unreserved characters are decoded,
//! hex digits are capitals. A path that software reads in different ways (an escaped slash, dot segments, a
//! semicolon, NUL, bytes that are not UTF-8, an escape of an escape) is [`Odd`], and an odd request is not cached. It is
//! forwarded as it came.
//!
//! Nothing that is left out of a key may change what others get: a request that is made for all who share its answer is
//! sent [`without_ignored`] parameters, since apps repeat the query in their links. A field that is in no key selects only
//! if the app's `Vary`, or `key_headers`, names it; what an app reads of others' requests without saying so, no cache can
//! know.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;

use crate::glob::Glob;
use crate::headers::escape::{self, form_decoded};
use crate::headers::no_vary_search::NoVarySearch;
use crate::identity::Identity;

mod digest;
#[cfg(test)]
mod properties;
mod variant;

pub use digest::Digest;
pub use variant::{Cookies, Variant, VariantRules, vary};

/// Changes whenever the encoding does: an old key then never equals a new one.
const ENCODING: u8 = 2;

/// The flag of a key whose query was read under a rule of the app's.
const RULED: u8 = 2;

/// A primary key: its bytes, and their hash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    bytes: SmallVec<[u8; 224]>,
    hash: u128,
}

/// Hashes keys; made once per process, of random bytes.
#[derive(Clone)]
pub struct KeyHasher([u8; 16]);

/// What a primary key is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The host as the app sees it, in any case.
    pub host: &'a str,
    /// Whether the app is told that the client came by https.
    pub secure: bool,
    /// The normalised path.
    pub path: &'a str,
    /// The query as it came.
    pub query: Option<&'a str>,
    /// The identity, where the scope keeps users apart.
    pub identity: Option<&'a Identity>,
}

/// Which query parameters are part of a key, and in which order: `[query]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueryRules {
    /// Whether parameters are sorted by name. Those of one name keep their order.
    pub sort: bool,
    /// Parameters that are no part of the key: a name, or a prefix followed by `*`.
    pub ignore: Vec<String>,
}

impl Default for QueryRules {
    fn default() -> Self {
        Self {
            sort: true,
            ignore: ["utm_*", "gclid", "fbclid"].map(str::to_owned).to_vec(),
        }
    }
}

/// Why a path is not cached: different software reads it in different ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Odd {
    /// An escaped slash or backslash, or a bare backslash.
    Slash,
    /// A `.` or `..` segment, escaped or not.
    DotSegment,
    /// A semicolon: path parameters to some, text to others.
    Semicolon,
    /// An escaped control character.
    Control,
    /// A `%` without two hex digits.
    Escape,
    /// An escape of an escape: software that decodes twice reads another path.
    DoubleEscape,
    /// Escaped bytes that are not UTF-8: an overlong `/` is one to some.
    NotUtf8,
    /// Two slashes in a row.
    EmptySegment,
    /// A byte beyond ASCII that is not escaped.
    NotAscii,
}

impl KeyHasher {
    /// A hasher with this secret.
    #[must_use]
    pub const fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    /// The key of these parts.
    #[must_use]
    pub fn key(&self, parts: &Parts<'_>, rules: &QueryRules) -> Key {
        self.key_under(parts, rules, None)
    }

    /// The key of these parts where the app has said which of the query says nothing. The rule itself is a part of it: what
    /// was asked under no rule, or another, is another question.
    #[must_use]
    pub fn key_under(
        &self,
        parts: &Parts<'_>,
        rules: &QueryRules,
        variance: Option<&NoVarySearch>,
    ) -> Key {
        let mut bytes = SmallVec::new();
        bytes.push(ENCODING);
        bytes.push(u8::from(parts.secure) | if variance.is_some() { RULED } else { 0 });
        push_part(&mut bytes, |bytes| {
            bytes.extend(parts.host.bytes().map(|byte| byte.to_ascii_lowercase()))
        });
        push_part(&mut bytes, |bytes| {
            bytes.extend_from_slice(parts.path.as_bytes())
        });
        push_part(&mut bytes, |bytes| {
            push_query(bytes, parts.query.unwrap_or_default(), rules, variance)
        });
        if let Some(variance) = variance {
            // Its key is fixed: all replicas have to write the same.
            bytes.extend_from_slice(&sip(&[0; 16], &variance.to_bytes()).to_be_bytes());
        }
        if let Some(identity) = parts.identity {
            bytes.extend_from_slice(identity.as_bytes());
        }
        let hash = sip(&self.0, &bytes);
        Key { bytes, hash }
    }

    /// A name for a path on a host, whatever the query and whoever asks.
    #[must_use]
    pub fn place(&self, host: &str, path: &str) -> u128 {
        let mut bytes: SmallVec<[u8; 224]> = SmallVec::new();
        push_part(&mut bytes, |bytes| {
            bytes.extend(host.bytes().map(|byte| byte.to_ascii_lowercase()))
        });
        bytes.extend_from_slice(path.as_bytes());
        sip(&self.0, &bytes)
    }
}

fn sip(secret: &[u8; 16], bytes: &[u8]) -> u128 {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(bytes);
    u128::from_be_bytes(hasher.finish128().as_bytes())
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher(…)")
    }
}

impl Key {
    /// The full key, to be stored and compared.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its hash, the name under which it is looked up.
    #[must_use]
    pub const fn hash(&self) -> u128 {
        self.hash
    }
}

/// What a key was made for, as it can be read back from its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target<'a> {
    /// The host, in small letters.
    pub host: &'a str,
    /// The normalised path.
    pub path: &'a str,
    /// The normalised query, without the parameters that are no part of keys; empty when there is none.
    pub query: &'a str,
    /// Whether the app has said what of the query says nothing: then that is not in it, whatever it was.
    pub is_ruled: bool,
}

impl Target<'_> {
    /// Whether a glob may mean it. Of a query that is not known whole, it may mean any.
    #[must_use]
    pub fn is_meant_by(&self, glob: &Glob) -> bool {
        match glob.path() {
            Some(of_path) if self.is_ruled => of_path.matches(self.path, ""),
            Some(_) | None => glob.matches(self.path, self.query),
        }
    }
}

/// Reads what a full key was made for; `None` when these bytes are no key of this encoding.
#[must_use]
pub fn target_of(key: &[u8]) -> Option<Target<'_>> {
    fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (text, after) = after.split_at_checked(length)?;
        *rest = after;
        std::str::from_utf8(text).ok()
    }
    let [ENCODING, flags @ 0..=3, rest @ ..] = key else {
        return None;
    };
    let mut rest = rest;
    let target = Target {
        host: part(&mut rest)?,
        path: part(&mut rest)?,
        query: part(&mut rest)?,
        is_ruled: flags & RULED != 0,
    };
    if flags & RULED != 0 {
        rest = rest.get(16..)?;
    }
    // What is left is an identity, or nothing.
    matches!(rest.len(), 0 | 16).then_some(target)
}

/// A query as keys hold it: in order, and without the parameters that are no part of them.
#[must_use]
pub fn normalise_query(query: &str, rules: &QueryRules) -> String {
    let mut bytes = SmallVec::new();
    push_query(&mut bytes, query, rules, None);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A query without the parameters that are no part of keys, and for the rest as it came; borrowed where it has none of
/// them.
#[must_use]
pub fn without_ignored<'q>(query: &'q str, rules: &QueryRules) -> Cow<'q, str> {
    let ignored = |pair: &&str| rules.ignores(name_of(&unescape(pair)));
    if may_hide(query) || !query.split('&').any(|pair| ignored(&pair)) {
        return Cow::Borrowed(query);
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !ignored(pair)).collect();
    Cow::Owned(kept.join("&"))
}

/// Some apps end a parameter at a semicolon too: what looks like a part of an ignored one may be one of its own.
fn may_hide(query: &str) -> bool {
    query.contains(';')
}

/// A piece of a path or query in the spelling that keys have: escapes of unreserved characters decoded, the others with
/// capitals.
#[must_use]
pub fn spelling(text: &str) -> Cow<'_, str> {
    unescape(text)
}

/// Appends a part after its length.
fn push_part(bytes: &mut SmallVec<[u8; 224]>, write: impl FnOnce(&mut SmallVec<[u8; 224]>)) {
    let at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    write(bytes);
    let length = u32::try_from(bytes.len() - at - 4).unwrap_or(u32::MAX);
    bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn push_query(
    bytes: &mut SmallVec<[u8; 224]>,
    query: &str,
    rules: &QueryRules,
    variance: Option<&NoVarySearch>,
) {
    if query.is_empty() {
        return;
    }
    let mut pairs: SmallVec<[Cow<'_, str>; 8]> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(unescape)
        .collect();
    if !may_hide(query) {
        pairs.retain(|pair| !rules.ignores(name_of(pair)));
        if let Some(rule) = variance {
            pairs.retain(|pair| {
                let name: SmallVec<[u8; 32]> = form_decoded(name_of(pair)).collect();
                !rule.ignores(&name)
            });
        }
        if rules.sort || variance.is_some_and(NoVarySearch::is_unordered) {
            pairs.sort_by(|one, other| compare_names(name_of(one), name_of(other)));
        }
    }
    for (index, pair) in pairs.iter().enumerate() {
        if index > 0 {
            bytes.push(b'&');
        }
        bytes.extend_from_slice(pair.as_bytes());
    }
}

/// Compares names as an app reads them, so that two spellings of one name (`a[]`, `a%5B%5D`) keep their order.
fn compare_names(one: &str, other: &str) -> Ordering {
    let plain = |name: &str| !name.contains(['%', '+']);
    if plain(one) && plain(other) {
        one.cmp(other)
    } else {
        form_decoded(one).cmp(form_decoded(other))
    }
}

fn name_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

impl QueryRules {
    /// Whether a glob over queries speaks of a parameter that is no part of keys.
    #[must_use]
    pub fn are_named_in(&self, glob: &str) -> bool {
        self.ignore
            .iter()
            .any(|rule| glob.contains(rule.trim_end_matches('*')))
    }

    fn ignores(&self, name: &str) -> bool {
        self.ignore.iter().any(|rule| match rule.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == rule,
        })
    }
}

/// A path in the one spelling that keys and patterns compare, or why it has none.
///
/// # Errors
///
/// The [`Odd`]ity that makes the request uncacheable.
pub fn normalise_path(path: &str) -> Result<Cow<'_, str>, Odd> {
    let bytes = path.as_bytes();
    let mut previous = 0;
    let mut plain = true;
    for &byte in bytes {
        match byte {
            b'%' => plain = false,
            b'/' if previous == b'/' => return Err(Odd::EmptySegment),
            b';' => return Err(Odd::Semicolon),
            b'\\' => return Err(Odd::Slash),
            b'.' if previous == b'/' => plain = false,
            byte if !byte.is_ascii() => return Err(Odd::NotAscii),
            byte if byte.is_ascii_control() => return Err(Odd::Control),
            _ => {}
        }
        previous = byte;
    }
    if plain {
        return Ok(Cow::Borrowed(path));
    }
    check_escapes(bytes)?;
    let path = unescape(path);
    if path
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        return Err(Odd::DotSegment);
    }
    Ok(path)
}

fn check_escapes(bytes: &[u8]) -> Result<(), Odd> {
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        match escape::byte(bytes, at) {
            None => return Err(Odd::Escape),
            Some(b'/' | b'\\') => return Err(Odd::Slash),
            Some(b';') => return Err(Odd::Semicolon),
            Some(byte) if byte.is_ascii_control() => return Err(Odd::Control),
            Some(_) => {}
        }
    }
    let decoded: Vec<u8> = escape::decoded(bytes, b'+').collect();
    if (0..decoded.len()).any(|at| decoded[at] == b'%' && escape::byte(&decoded, at).is_some()) {
        return Err(Odd::DoubleEscape);
    }
    match str::from_utf8(&decoded) {
        Ok(_) => Ok(()),
        Err(_) => Err(Odd::NotUtf8),
    }
}

/// Decodes escapes of unreserved characters and writes the others with capitals (RFC 3986 §6.2.2). A text with a `%` that
/// begins no escape stays as it is: what is decoded behind it could make it one (`%2%36` is not `%26`).
fn unescape(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut signs = text.match_indices('%').peekable();
    if signs.peek().is_none() || signs.any(|(at, _)| escape::byte(bytes, at).is_none()) {
        return Cow::Borrowed(text);
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let from = bytes.len() - rest.len() + at;
        result.push_str(&rest[..at]);
        let Some(byte) = escape::byte(bytes, from) else {
            result.push('%');
            rest = &rest[at + 1..];
            continue;
        };
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            result.push(char::from(byte));
        } else {
            result.push_str(&rest[at..at + 3].to_ascii_uppercase());
        }
        rest = &rest[at + 3..];
    }
    result.push_str(rest);
    Cow::Owned(result)
}

impl Odd {
    /// The word that labels and `Cache-Status` use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slash => "encoded-slash",
            Self::DotSegment => "dot-segment",
            Self::Semicolon => "semicolon",
            Self::Control => "control-character",
            Self::Escape => "bad-escape",
            Self::DoubleEscape => "double-escape",
            Self::NotUtf8 => "not-utf-8",
            Self::EmptySegment => "empty-segment",
            Self::NotAscii => "not-ascii",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Credential, IdentityKey};
    use http::header::{HeaderMap, HeaderName};
    use proptest::prelude::*;

    fn key(path: &str, query: Option<&str>) -> Key {
        let parts = Parts {
            host: "Example.com",
            secure: false,
            path,
            query,
            identity: None,
        };
        KeyHasher::new([7; 16]).key(&parts, &QueryRules::default())
    }

    #[test]
    fn paths_are_normalised_only_where_no_app_could_tell() {
        for (path, expected) in [
            ("/api/events/", Ok("/api/events/")),
            ("/api/ev%65nts/", Ok("/api/events/")),
            ("/caf%c3%a9/", Ok("/caf%C3%A9/")),
            ("/a%20b/", Ok("/a%20b/")),
            ("/a.b/.c/", Ok("/a.b/.c/")),
            ("/a%2fb", Err(Odd::Slash)),
            ("/a%5Cb", Err(Odd::Slash)),
            ("/a\\b", Err(Odd::Slash)),
            ("/a/../b", Err(Odd::DotSegment)),
            ("/a/%2e%2E/b", Err(Odd::DotSegment)),
            ("/a/.", Err(Odd::DotSegment)),
            ("/a;b/", Err(Odd::Semicolon)),
            ("/a%3Bb/", Err(Odd::Semicolon)),
            ("/a%00", Err(Odd::Control)),
            ("/a%0a", Err(Odd::Control)),
            ("/a%zz", Err(Odd::Escape)),
            ("/a%", Err(Odd::Escape)),
            ("/a//b", Err(Odd::EmptySegment)),
            ("/100%25", Ok("/100%25")),
            ("/100%25/of", Ok("/100%25/of")),
            ("/a%252Fb", Err(Odd::DoubleEscape)),
            ("/a%25%32Fb", Err(Odd::DoubleEscape)),
            ("/a%25%32%46b", Err(Odd::DoubleEscape)),
            ("/%C0%AF", Err(Odd::NotUtf8)),
            ("/%E9", Err(Odd::NotUtf8)),
            ("/%E2%82", Err(Odd::NotUtf8)),
        ] {
            assert_eq!(
                normalise_path(path).as_deref(),
                expected.as_ref().map(|text| *text),
                "{path}"
            );
        }
    }

    #[test]
    fn queries_that_mean_the_same_share_a_key() {
        for (one, other, same) in [
            (Some("a=1&b=2"), Some("b=2&a=1"), true),
            (Some("a=1&utm_source=x"), Some("a=1"), true),
            (Some("utm_source=x&gclid=1"), None, true),
            (Some(""), None, true),
            (Some("a=1&a=2"), Some("a=2&a=1"), false),
            (Some("a=%41"), Some("a=A"), true),
            (Some("a=%2%36"), Some("a=%26"), false),
            (Some("a=1"), Some("a=2"), false),
            (Some("a"), Some("a="), false),
            (Some("ab=c"), Some("a=bc"), false),
        ] {
            assert_eq!(
                key("/x", one) == key("/x", other),
                same,
                "{one:?} and {other:?}"
            );
        }
    }

    #[test]
    fn host_scheme_and_identity_keep_keys_apart() {
        let hasher = KeyHasher::new([7; 16]);
        let rules = QueryRules::default();
        let caller = IdentityKey::from_secret(b"k").known("1");
        let base = Parts {
            host: "a",
            secure: false,
            path: "/x",
            query: None,
            identity: None,
        };
        let keys = [
            hasher.key(&base, &rules),
            hasher.key(&Parts { host: "b", ..base }, &rules),
            hasher.key(
                &Parts {
                    secure: true,
                    ..base
                },
                &rules,
            ),
            hasher.key(
                &Parts {
                    path: "/x/",
                    ..base
                },
                &rules,
            ),
            hasher.key(
                &Parts {
                    identity: Some(&caller.key),
                    ..base
                },
                &rules,
            ),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(
                keys[index + 1..]
                    .iter()
                    .all(|other| other != one && other.hash() != one.hash())
            );
        }
        assert_eq!(
            hasher.key(&base, &rules),
            hasher.key(&Parts { host: "A", ..base }, &rules)
        );
    }

    proptest! {
        #[test]
        fn keys_are_equal_only_for_equal_parts(
            one in ("[a-z]{0,3}", "/[a-z]{0,3}", "[a-z=&]{0,4}"),
            other in ("[a-z]{0,3}", "/[a-z]{0,3}", "[a-z=&]{0,4}"),
        ) {
            let plain = QueryRules { sort: false, ignore: vec![] };
            let hasher = KeyHasher::new([1; 16]);
            let make = |(host, path, query): &(String, String, String)| {
                hasher.key(&Parts { host, secure: false, path, query: Some(query), identity: None }, &plain)
            };
            let clean = |(host, path, query): &(String, String, String)| {
                let query: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
                (host.clone(), path.clone(), query)
            };
            prop_assert_eq!(make(&one) == make(&other), clean(&one) == clean(&other));
        }

        #[test]
        fn a_key_tells_what_it_was_made_for(
            host in "[a-z.]{0,9}",
            path in "/[a-z/é]{0,9}",
            query in "[a-z=&]{0,9}",
            secure: bool,
            known: bool,
        ) {
            let rules = QueryRules::default();
            let key = IdentityKey::from_secret(b"k");
            let mut headers = HeaderMap::new();
            headers.insert("x-user", http::HeaderValue::from_static("anna"));
            let from = [Credential::Header(HeaderName::from_static("x-user"))];
            let caller = key.identify(&headers, &from).expect("a caller");
            let identity = known.then_some(&caller.key);
            let parts = Parts { host: &host.to_uppercase(), secure, path: &path, query: Some(&query), identity };
            let made = KeyHasher::new([1; 16]).key(&parts, &rules);
            let query = normalise_query(&query, &rules);
            let expected = Target { host: &host, path: &path, query: &query, is_ruled: false };
            prop_assert_eq!(target_of(made.as_bytes()), Some(expected));
        }

        #[test]
        fn what_is_no_key_tells_nothing_and_breaks_nothing(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = target_of(&bytes);
            let parts = Parts { host: "h", secure: false, path: "/p", query: Some("a=1"), identity: None };
            let whole = KeyHasher::new([1; 16]).key(&parts, &QueryRules::default()).as_bytes().to_vec();
            for end in 0..whole.len() {
                prop_assert_eq!(target_of(&whole[..end]), None);
            }
            let mut other = whole.clone();
            other[0] += 1;
            prop_assert_eq!(target_of(&other), None);
            let mut longer = whole;
            longer.push(0);
            prop_assert_eq!(target_of(&longer), None);
        }

        #[test]
        fn normalising_twice_changes_nothing(path in "/[a-zA-Z0-9%./;-]{0,20}") {
            if let Ok(once) = normalise_path(&path) {
                let once = once.into_owned();
                let twice = normalise_path(&once).map(Cow::into_owned);
                prop_assert_eq!(twice, Ok(once));
            }
        }
    }
}
