//! Which parts of a query select an answer, in the app's own words: No-Vary-Search (draft-ietf-httpbis-no-vary-search).
//!
//! In: the fields of a response. Out: a [`NoVarySearch`] that says which parameters, and whether their order, are no part
//! of the question. A field that cannot be read says nothing, so that the whole query counts.

use http::header::HeaderMap;
use sfv::{BareItem, Dictionary, ListEntry};

use super::escape::form_decoded;
use super::structured;

/// What of a query does not select an answer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct NoVarySearch {
    /// Whether the order of parameters of different names says nothing.
    key_order: bool,
    /// Which parameters say nothing.
    ignored: Ignored,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Ignored {
    /// These names, sorted.
    Only(Vec<Vec<u8>>),
    /// All but these names, sorted.
    AllBut(Vec<Vec<u8>>),
}

impl NoVarySearch {
    /// Reads the field; `None` when there is none, it is malformed, or all of the query counts.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Option<Self> {
        const NAME: &str = "no-vary-search";
        if !headers.contains_key(NAME) {
            return None;
        }
        let members = structured::dictionary(headers, NAME)?;
        let key_order = match members.get("key-order") {
            None => false,
            Some(value) => boolean(value)?,
        };
        let read = Self {
            key_order,
            ignored: ignored(&members)?,
        };
        (key_order || read.ignored != Ignored::Only(Vec::new())).then_some(read)
    }

    /// Whether the order of parameters of different names says nothing. The order of one name's values always counts.
    #[must_use]
    pub const fn is_unordered(&self) -> bool {
        self.key_order
    }

    /// Whether a parameter of this name, decoded, says nothing.
    #[must_use]
    pub fn ignores(&self, name: &[u8]) -> bool {
        let lists = |names: &[Vec<u8>]| names.binary_search_by(|one| (**one).cmp(name)).is_ok();
        match &self.ignored {
            Ignored::Only(names) => lists(names),
            Ignored::AllBut(names) => !lists(names),
        }
    }

    /// Bytes that say which rule this is, without ambiguity.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (names, all) = match &self.ignored {
            Ignored::Only(names) => (names, false),
            Ignored::AllBut(names) => (names, true),
        };
        let mut bytes = vec![u8::from(self.key_order), u8::from(all)];
        for name in names {
            let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(name);
        }
        bytes
    }
}

fn ignored(members: &Dictionary) -> Option<Ignored> {
    let except = members.get("except");
    match members.get("params") {
        Some(ListEntry::InnerList(_)) if except.is_some() => None,
        Some(list @ ListEntry::InnerList(_)) => names(list).map(Ignored::Only),
        Some(value) if boolean(value)? => match except {
            None => Some(Ignored::AllBut(Vec::new())),
            Some(list) => names(list).map(Ignored::AllBut),
        },
        Some(_) | None if except.is_none() => Some(Ignored::Only(Vec::new())),
        Some(_) | None => None,
    }
}

fn boolean(value: &ListEntry) -> Option<bool> {
    match value {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::Boolean(value) => Some(value),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    }
}

/// The names of a list, as a form would have them decoded, sorted and each once.
fn names(value: &ListEntry) -> Option<Vec<Vec<u8>>> {
    let ListEntry::InnerList(list) = value else {
        return None;
    };
    let names = list.items.iter().map(|item| match &item.bare_item {
        BareItem::String(text) => Some(form_decoded(text.as_str()).collect()),
        _ => None,
    });
    let mut names: Vec<Vec<u8>> = names.collect::<Option<_>>()?;
    names.sort_unstable();
    names.dedup();
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::lines_of;

    fn read(line: &'static str) -> Option<NoVarySearch> {
        NoVarySearch::parse(&lines_of("no-vary-search", &[line]))
    }

    #[test]
    fn what_says_nothing_is_named_or_all_but_named() {
        for (line, key_order, [a, b, spaced]) in [
            ("params", false, [true, true, true]),
            ("params=(\"a\")", false, [true, false, false]),
            ("params=(\"a\" \"b\")", false, [true, true, false]),
            ("params=(\"x%20y\")", false, [false, false, true]),
            ("params=(\"x+y\")", false, [false, false, true]),
            ("params, except=(\"a\")", false, [false, true, true]),
            ("params=?1, except=()", false, [true, true, true]),
            ("key-order", true, [false, false, false]),
            ("key-order, params=(\"b\")", true, [false, true, false]),
            ("params=(\"a\"), unknown=1", false, [true, false, false]),
        ] {
            let rule = read(line).expect(line);
            assert_eq!(rule.is_unordered(), key_order, "{line}");
            let found = ["a", "b", "x y"].map(|name| rule.ignores(name.as_bytes()));
            assert_eq!(found, [a, b, spaced], "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        for line in [
            "",
            "key-order=?0",
            "params=?0",
            "params=()",
            "params=(a)",
            "params=(1)",
            "params=\"a\"",
            "params=1",
            "key-order=1",
            "key-order, params=(\"a\"",
            "except=(\"a\")",
            "params=?0, except=(\"a\")",
            "params=(\"a\"), except=(\"b\")",
            "params, except=\"a\"",
            "params, except",
            "params=(\"é\")",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn two_spellings_of_one_rule_are_one_rule() {
        let same = |one, other| {
            read(one).map(|rule| rule.to_bytes()) == read(other).map(|rule| rule.to_bytes())
        };
        assert!(same("params=(\"a\" \"b\")", "params=(\"b\" \"a\" \"a\")"));
        assert!(same("params", "params=?1, except=()"));
        assert!(!same("params=(\"ab\")", "params=(\"a\" \"b\")"));
        assert!(!same("params=(\"a\")", "params, except=(\"a\")"));
        assert!(!same("params=(\"a\")", "key-order, params=(\"a\")"));
    }
}
