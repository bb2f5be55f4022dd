//! Properties of keys and variants, against models of what apps read out of a request.
//!
//! The models are written anew and as simply as can be: an app decodes a path once, splits a query at `&` and each pair at
//! its first `=`, and knows cookies by their names. Two requests that a model tells apart must have two keys; spellings
//! that no app tells apart must have one.

use std::collections::BTreeMap;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::identity::{Credential, IdentityKey};

/// The bytes that a text with escapes stands for; half an escape stands for itself.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| str::from_utf8(two).ok());
        let escaped = digits
            .filter(|two| *first == b'%' && two.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    bytes
}

/// What an app reads out of a query: the values of each name in their order, without what an operator has it ignore.
fn parameters(query: &str) -> BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(decode(&value.replace('+', " ")))),
            None => (pair, None),
        };
        let name = decode(&name.replace('+', " "));
        if !name.starts_with(b"x_") {
            found.entry(name).or_default().push(value);
        }
    }
    found
}

fn rules() -> QueryRules {
    QueryRules {
        sort: true,
        ignore: vec!["x_*".to_owned()],
    }
}

fn key_of(path: &str, query: &str) -> Option<Key> {
    let path = normalise_path(path).ok()?;
    let parts = Parts {
        host: "shop.example",
        secure: false,
        path: &path,
        query: Some(query),
        identity: None,
    };
    Some(KeyHasher::new([7; 16]).key(&parts, &rules()))
}

/// Writes some bytes of a text as escapes, as `how` says, in either case of digits.
fn respell(text: &str, how: &[u8]) -> String {
    let mut written = String::new();
    for (byte, how) in text.bytes().zip(how.iter().cycle()) {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        match how % 3 {
            0 if plain => written += &format!("%{byte:02x}"),
            1 if plain => written += &format!("%{byte:02X}"),
            _ => written.push(char::from(byte)),
        }
    }
    written
}

/// Requests that come close to each other: few names, and all the delimiters.
fn queries() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ab]{1,2}=[12]{0,2}",
        "[ab]",
        "x_[ab]?=?[12]?",
        "%78_=1",
        "%61=1",
        "a%3D1",
        "a%26b=1",
        "a=%2531",
        "a=1\\+2",
        "a=1%202",
        "",
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.join("&"))
}

/// What queries are written with, each beside what it could be taken for.
const TOKENS: [&str; 12] = [
    "&", "%26", "=", "%3D", ";", "%3B", "x_", "%78_", "a", "A", "+", "%2B",
];

/// What looks like the lengths that stand between the parts of a key.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![Just("a"), Just("\0\0\0\0"), Just("\0\0\0\u{1}")];
    vec(piece, 0..3).prop_map(|pieces| pieces.concat())
}

fn paths() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        "[ab]{1,2}",
        "%61",
        "%41",
        "%c3%a9",
        "%C3%A9",
        "a%20b",
        "a%3Fb",
        "a%25",
        "~",
        "%7e"
    ];
    vec(segment, 0..3).prop_map(|segments| format!("/{}/", segments.join("/")))
}

fn fields(lines: &[(HeaderName, String)]) -> HeaderMap {
    let line = |(name, value): &(HeaderName, String)| {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("no control characters");
        (name.clone(), value)
    };
    lines.iter().map(line).collect()
}

/// The lines of somebody's fields.
type Lines = Vec<(HeaderName, String)>;

fn lines() -> impl Strategy<Value = Lines> {
    let name = prop_oneof![
        Just(header::ACCEPT),
        Just(header::ACCEPT_LANGUAGE),
        Just(header::COOKIE),
        Just(header::USER_AGENT),
    ];
    vec((name, "[aAb,;= \"\\n]{0,5}"), 0..4).prop_map(|lines| {
        let clean = |(name, value): (HeaderName, String)| (name, value.replace('\n', "\t"));
        lines.into_iter().map(clean).collect()
    })
}

/// Somebody's fields, and the same but for one edit or one swap of neighbours: what comes close is met often.
fn neighbours() -> impl Strategy<Value = (Lines, Lines)> {
    (
        lines(),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        0..5,
    )
        .prop_map(|(one, line, place, edit)| {
            let mut other = one.clone();
            if !other.is_empty() {
                let at = line.index(other.len());
                let value = &mut other[at].1;
                let place = place.index(value.len() + 1);
                match edit {
                    0 => value.insert(place, ' '),
                    1 => *value = value.to_ascii_uppercase(),
                    2 => value.insert(place, ','),
                    3 => {
                        let tail = value.split_off(place);
                        let name = other[at].0.clone();
                        other.insert(at + 1, (name, tail));
                    }
                    _ => {
                        let pieces: Vec<&str> = value.split(';').rev().collect();
                        *value = pieces.join(";");
                    }
                }
            }
            (one, other)
        })
}

const OPEN: VariantRules<'static> = VariantRules {
    ignore: &[],
    always: &[],
    cookies: &Cookies::All,
    credentials: &[],
    covered: false,
    cookies_covered: false,
};

/// What an app can read out of the fields that it negotiates by.
#[derive(Debug, PartialEq)]
struct Read {
    /// Ranges without case, their parameters with it.
    ranges: Vec<Vec<String>>,
    agent: Vec<String>,
    /// The cookies of each name in their order; what is no pair has no name.
    cookies: BTreeMap<String, Vec<String>>,
}

impl Read {
    fn of(lines: &[(HeaderName, String)]) -> Self {
        let of = |wanted: HeaderName| {
            let lines = lines.iter().filter(move |(name, _)| *name == wanted);
            lines.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let ranges = [header::ACCEPT, header::ACCEPT_LANGUAGE].map(|name| {
            let joined = of(name);
            let absent = joined.is_empty();
            let joined = joined.join(",");
            let elements = joined.split(',').map(|element| {
                let (range, rest) = element
                    .split_once(';')
                    .map_or((element, None), |(range, rest)| (range, Some(rest)));
                let parameters =
                    rest.map(|rest| rest.split(';').map(str::trim).collect::<Vec<_>>().join(";"));
                format!("{}|{parameters:?}", range.trim().to_ascii_lowercase())
            });
            if absent {
                Vec::new()
            } else {
                elements.collect()
            }
        });
        let mut cookies: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for piece in of(header::COOKIE)
            .join(";")
            .split(';')
            .map(str::trim)
            .filter(|piece| !piece.is_empty())
        {
            let (name, value) = piece.split_once('=').unwrap_or(("", piece));
            cookies
                .entry(name.trim().to_owned())
                .or_default()
                .push(value.trim().to_owned());
        }
        Self {
            ranges: ranges.into(),
            agent: of(header::USER_AGENT),
            cookies,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn one_key_is_one_request_to_any_app(one in (paths(), queries()), other in (paths(), queries())) {
        let (Some(key), Some(another)) = (key_of(&one.0, &one.1), key_of(&other.0, &other.1)) else {
            return Ok(());
        };
        if key == another {
            prop_assert_eq!(decode(&one.0), decode(&other.0));
            prop_assert_eq!(parameters(&one.1), parameters(&other.1));
        }
    }

    /// The same with a query and its neighbour, in which one delimiter is escaped, or one escape is a delimiter.
    #[test]
    fn delimiters_forge_nothing(tokens in vec(0..TOKENS.len(), 1..6), at: prop::sample::Index) {
        let mut swapped = tokens.clone();
        swapped[at.index(tokens.len())] ^= 1;
        let write = |tokens: &[usize]| tokens.iter().map(|token| TOKENS[*token]).collect::<String>();
        let (one, other) = (write(&tokens), write(&swapped));
        if key_of("/", &one) == key_of("/", &other) {
            let plain = !one.contains(';') && !other.contains(';');
            if plain {
                prop_assert_eq!(parameters(&one), parameters(&other));
            } else {
                // Nothing is ignored and nothing sorted, since apps may end a pair at a semicolon.
                let pairs = |query: &str| -> Vec<Vec<u8>> {
                    query.split('&').filter(|pair| !pair.is_empty()).map(decode).collect()
                };
                prop_assert_eq!(pairs(&one), pairs(&other));
            }
        }
    }

    #[test]
    fn spellings_that_no_app_tells_apart_have_one_key(
        path in "/[a-z~.]{1,3}/[a-z]{0,3}",
        pairs in vec(("[a-d]", "[a-z0-9~]{0,3}"), 0..4),
        how in vec(any::<u8>(), 1..9),
        noise in vec("(x_[a-z]{0,2}(=[a-z]{0,2})?)?", 0..3),
        turn: bool,
    ) {
        // A dot segment has no key at all.
        prop_assume!(key_of(&path, "").is_some());
        let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut spelt: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", respell(name, &how), respell(value, &how)))
            .chain(noise)
            .collect();
        if turn {
            // Stable: pairs of one name stay in their order.
            spelt.sort_by_key(|pair| std::cmp::Reverse(decode(pair.split('=').next().unwrap_or_default())));
        }
        let (query, spelt) = (query.join("&"), spelt.join("&"));
        let respelt: Vec<String> = path.split('/').map(|segment| respell(segment, &how)).collect();
        prop_assert_eq!(key_of(&respelt.join("/"), &spelt), key_of(&path, &query), "{} {}", respelt.join("/"), spelt);
    }

    /// What is sent to the app for all has the key of what was asked, and nothing that is no part of it.
    #[test]
    fn what_is_asked_for_all_is_what_the_key_says(query in queries()) {
        let kept = without_ignored(&query, &rules());
        prop_assert_eq!(key_of("/", &kept), key_of("/", &query));
        prop_assert_eq!(parameters(&kept), parameters(&query));
        let names = kept.split('&').map(|pair| decode(pair.split('=').next().unwrap_or_default()));
        prop_assert!(names.into_iter().all(|name| !name.starts_with(b"x_")), "{}", kept);
    }

    /// No part can pass for another: not by its bytes, not by bytes that look like lengths, not by those of a user.
    #[test]
    fn no_part_of_a_key_passes_for_another(
        one in (text(), any::<bool>(), text(), text(), prop::option::of(0..2_u8)),
        other in (text(), any::<bool>(), text(), text(), prop::option::of(0..2_u8)),
    ) {
        let user = |number: u8| IdentityKey::plain().known(&number.to_string()).key;
        let make = |(host, secure, path, query, who): &(String, bool, String, String, Option<u8>)| {
            let identity = who.map(user);
            let parts = Parts { host, secure: *secure, path, query: Some(query), identity: identity.as_ref() };
            KeyHasher::new([7; 16]).key(&parts, &rules())
        };
        let (key, another) = (make(&one), make(&other));
        prop_assert_eq!(key == another, one == other);
        prop_assert_eq!(key.hash() == another.hash(), one == other);
        prop_assert_eq!(key.digest(1) == another.digest(1), one == other);
    }

    /// Nor do bytes that look like the end of one part and the beginning of the next.
    #[test]
    fn no_bytes_pass_for_the_end_of_a_part(runs in vec(0..3_usize, 4..7), length in 0..2_u8) {
        let delimiter = format!("\0\0\0{}", char::from(length));
        let runs: Vec<String> = runs.into_iter().map(|run| "a".repeat(run)).collect();
        let text = runs.join(&delimiter);
        let first: Vec<&str> = text.splitn(3, &delimiter).collect();
        let mut last: Vec<&str> = text.rsplitn(3, &delimiter).collect();
        last.reverse();
        let make = |parts: &[&str]| {
            let parts = Parts { host: parts[0], secure: false, path: parts[1], query: Some(parts[2]), identity: None };
            KeyHasher::new([7; 16]).key(&parts, &rules())
        };
        prop_assert_ne!(make(&first), make(&last));
    }

    /// A user's key cannot be written as anybody's: its last bytes are not to be had in a query.
    #[test]
    fn a_users_key_is_never_a_strangers(bytes: [u8; 16], query in "[a=&]{0,5}") {
        let caller = IdentityKey::plain().known("1").key;
        let hasher = KeyHasher::new([7; 16]);
        let parts = Parts { host: "a", secure: false, path: "/", query: Some(&query), identity: Some(&caller) };
        let own = hasher.key(&parts, &rules());
        let text = String::from_utf8_lossy(&bytes);
        for forged in [format!("{query}{text}"), format!("{query}{}", String::from_utf8_lossy(caller.as_bytes()))] {
            let parts = Parts { query: Some(&forged), identity: None, ..parts };
            prop_assert_ne!(hasher.key(&parts, &rules()), own.clone());
        }
    }

    #[test]
    fn one_variant_is_one_choice_to_any_app((one, other) in neighbours()) {
        let names = [header::ACCEPT, header::ACCEPT_LANGUAGE, header::COOKIE, header::USER_AGENT];
        let variant = Variant::of(&names, &fields(&one), &OPEN);
        prop_assert!(variant.matches(&fields(&one), &OPEN));
        let another = Variant::of(&names, &fields(&other), &OPEN);
        prop_assert_eq!(variant == another, variant.matches(&fields(&other), &OPEN));
        if variant == another {
            prop_assert_eq!(Read::of(&one), Read::of(&other));
        }
        let primary = key_of("/", "").expect("a key").digest(1);
        prop_assert_eq!(variant == another, variant.digest(&primary) == another.digest(&primary));
    }

    /// What the key has of a caller is taken out of the cookies, and nothing else.
    #[test]
    fn only_the_credential_itself_is_covered(one in "[sa=; ]{0,9}", other in "[sa=; ]{0,9}") {
        let session = [Credential::Cookie("s".into())];
        let rules = VariantRules { credentials: &session, ..OPEN };
        let [one, other] = [one, other].map(|value| [(header::COOKIE, value)]);
        let [variant, another] = [&one, &other].map(|lines| Variant::of(&[header::COOKIE], &fields(lines), &rules));
        if variant == another {
            let [read, again] = [&one, &other].map(|lines| {
                let mut cookies = Read::of(lines).cookies;
                cookies.remove("s");
                cookies
            });
            prop_assert_eq!(read, again);
        }
    }
}
