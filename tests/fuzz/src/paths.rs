//! Normalised paths and queries. Input: two request targets, one a line.

use std::collections::BTreeMap;

use reprise::key::{self, KeyHasher, Odd, Parts, QueryRules};

use crate::input::{decoded, lines};

/// What holds for any two targets.
pub fn check(data: &[u8]) {
    let _ = key::target_of(data);
    let mut texts = lines(data).filter_map(|line| str::from_utf8(line).ok());
    let one = texts.next().unwrap_or_default();
    let other = texts.next().unwrap_or_default();
    let (path, query) = one.split_once('?').unwrap_or((one, ""));
    let (second, second_query) = other.split_once('?').unwrap_or((other, ""));
    // Servers hand on no others.
    if path.starts_with('/') {
        a_path_means_what_it_meant(path);
    }
    a_query_means_what_it_meant(query);
    if let (Ok(one), Ok(other)) = (key::normalise_path(path), key::normalise_path(second))
        && one == other
    {
        assert_eq!(
            decoded(path),
            decoded(second),
            "two paths with one spelling"
        );
    }
    let rules = QueryRules::default();
    if key::normalise_query(query, &rules) == key::normalise_query(second_query, &rules) {
        assert_eq!(as_an_app_reads(query), as_an_app_reads(second_query));
    }
    a_key_is_read_back(path, query);
}

/// The spelling is one, stands for the same bytes, and is refused exactly where readers differ.
fn a_path_means_what_it_meant(path: &str) {
    let found = key::normalise_path(path);
    let odd = is_odd(path);
    match found {
        Ok(normal) => {
            assert!(!odd, "{path:?} can be read in two ways");
            assert_eq!(decoded(&normal), decoded(path), "{path:?}");
            assert_eq!(
                key::normalise_path(&normal).as_deref(),
                Ok(&*normal),
                "twice"
            );
            assert_eq!(key::spelling(&normal), normal);
            assert!(normal.is_ascii());
        }
        Err(reason) => {
            assert!(odd, "{path:?} is refused as {}", reason.as_str());
            assert!(reason != Odd::NotAscii || !path.is_ascii());
        }
    }
}

/// Whether software may read a path in different ways, once its escapes are undone.
fn is_odd(path: &str) -> bool {
    let bytes = decoded(path);
    let escapes = path.matches('%').count();
    let whole = path
        .match_indices('%')
        .filter(|(at, _)| decoded(path.get(*at..at + 3).unwrap_or("%")).len() == 1)
        .filter(|(at, _)| path.len() >= at + 3)
        .count();
    // What is an escape again once the escapes are undone is another path to who undoes them twice.
    let again = |at: usize| {
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        bytes[at] == b'%' && digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    };
    escapes != whole
        || !path.is_ascii()
        || str::from_utf8(&bytes).is_err()
        || (0..bytes.len()).any(again)
        || path.contains("//")
        || path.bytes().filter(|byte| *byte == b'/').count()
            != bytes.iter().filter(|byte| **byte == b'/').count()
        || bytes.iter().any(|byte| matches!(byte, b';' | b'\\'))
        || bytes.iter().any(u8::is_ascii_control)
        || bytes
            .split(|byte| *byte == b'/')
            .any(|segment| segment == b"." || segment == b"..")
}

/// The parameters that an app sees, by name and in order: those that are no part of a key left out.
fn as_an_app_reads(query: &str) -> BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    // Apps that end a parameter at a semicolon see others: then nothing is left out.
    let keep = query.contains(';');
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        };
        let plain = |text: &str| decoded(&text.replace('+', " "));
        let name = plain(name);
        let ignored = name.starts_with(b"utm_") || name == b"gclid" || name == b"fbclid";
        if keep || !ignored {
            all.entry(name).or_default().push(value.map(plain));
        }
    }
    all
}

/// Normalising changes neither what an app sees nor, a second time, itself.
fn a_query_means_what_it_meant(query: &str) {
    let rules = QueryRules::default();
    let normal = key::normalise_query(query, &rules);
    assert_eq!(key::normalise_query(&normal, &rules), normal, "{query:?}");
    assert_eq!(
        as_an_app_reads(&normal),
        as_an_app_reads(query),
        "{query:?}"
    );
    let all = QueryRules {
        sort: false,
        ignore: Vec::new(),
    };
    let kept = key::normalise_query(query, &all);
    let pairs = |text: &str| -> Vec<Vec<u8>> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        pairs.map(decoded).collect()
    };
    assert_eq!(pairs(&kept), pairs(query), "{query:?} in its order");
}

/// What a key was made for is what its bytes say.
fn a_key_is_read_back(path: &str, query: &str) {
    let rules = QueryRules::default();
    let parts = Parts {
        host: "Shop.Example",
        secure: true,
        path,
        query: Some(query),
        identity: None,
    };
    let key = KeyHasher::new([7; 16]).key(&parts, &rules);
    let target = key::target_of(key.as_bytes()).expect("a key");
    let said = (target.host, target.path, target.query.to_owned());
    assert_eq!(
        said,
        ("shop.example", path, key::normalise_query(query, &rules))
    );
}
