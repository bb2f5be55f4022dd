//! Structured fields (RFC 9651), read over all of a field's lines.
//!
//! The lines of a field are one value (§4.2), so a line that cannot be read makes all of them unreadable: each function
//! here gives a whole value or none.

use http::HeaderValue;
use http::header::{AsHeaderName, HeaderMap};
use sfv::{BareItem, Dictionary, FieldType, Item, List, ListEntry, Parser};

/// The dictionary of a field, empty without the field; `None` when it is malformed.
pub(super) fn dictionary(headers: &HeaderMap, name: impl AsHeaderName) -> Option<Dictionary> {
    read(headers, name)
}

/// The strings of a list, without their parameters; `None` when any of it is malformed or no string. Without the field,
/// there are none.
pub(super) fn strings(headers: &HeaderMap, name: impl AsHeaderName + Clone) -> Option<Vec<String>> {
    if !headers.contains_key(name.clone()) {
        return Some(Vec::new());
    }
    let list: List = read(headers, name)?;
    list.into_iter()
        .map(|entry| match entry {
            ListEntry::Item(item) => string(item),
            ListEntry::InnerList(_) => None,
        })
        .collect()
}

/// The text of a string.
pub(super) fn string(item: Item) -> Option<String> {
    match item.bare_item {
        BareItem::String(text) => Some(text.into()),
        _ => None,
    }
}

/// RFC 9651 §4.2: the lines are one text; those with nothing in them add nothing.
fn read<T: FieldType>(headers: &HeaderMap, name: impl AsHeaderName) -> Option<T> {
    let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let mut lines = lines.filter(|line| !line.trim_ascii().is_empty());
    let first = lines.next().unwrap_or_default();
    let Some(second) = lines.next() else {
        return Parser::new(first).parse().ok();
    };
    let mut whole = [first, second].join(&b", "[..]);
    for line in lines {
        whole.extend_from_slice(b", ");
        whole.extend_from_slice(line);
    }
    Parser::new(&whole).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::lines_of;

    #[test]
    fn the_lines_of_a_field_are_one_value() {
        for (lines, expected) in [
            (&[][..], Some(&[][..])),
            (&[""], Some(&[])),
            (&[r#""a""#], Some(&["a"])),
            (&[r#""a";x=1, "b \"c\"""#], Some(&["a", r#"b "c""#])),
            (&[r#""a""#, r#""b""#], Some(&["a", "b"])),
            (&[r#""a""#, r#""b""#, r#""c""#], Some(&["a", "b", "c"])),
            (&[r#""a""#, "b"], None),
            (&[r#""a","#], None),
            (&[r#"("a")"#], None),
            (&["a"], None),
        ] {
            let read = strings(&lines_of("x", lines), "x");
            let expected: Option<Vec<String>> =
                expected.map(|all| all.iter().map(|text| (*text).to_owned()).collect());
            assert_eq!(read, expected, "{lines:?}");
        }
    }
}
