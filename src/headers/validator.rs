//! Validators: ETag, and the lists of tags in If-Match and If-None-Match (RFC 9110 §8.8.3, §13.1).

use bytes::Bytes;
use http::HeaderValue;
use http::header::{AsHeaderName, ETAG, HeaderMap};

use super::{lines, tag_elements};

/// An entity tag (RFC 9110 §8.8.3). There are two ways to compare two of them, [`ETag::strong_eq`] and
/// [`ETag::weak_eq`]; `==` is neither, and asks whether they are written alike.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct ETag {
    /// Whether equal tags mean equivalent representations only, not equal bytes (§8.8.1).
    pub weak: bool,
    /// What is between the quotes; only bytes that may be there.
    opaque: Bytes,
}

impl ETag {
    /// Reads one tag; `None` when it is not one, as without its quotes.
    pub fn parse(value: impl AsRef<[u8]>) -> Option<Self> {
        let value = value.as_ref().trim_ascii();
        let (weak, quoted) = match value.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, value),
        };
        let opaque = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        opaque.iter().all(|byte| is_tag_byte(*byte)).then(|| Self {
            weak,
            opaque: Bytes::copy_from_slice(opaque),
        })
    }

    /// A strong tag made of a hash of the content: 32 hexadecimal digits.
    #[must_use]
    pub fn from_hash(hash: u128) -> Self {
        Self {
            weak: false,
            opaque: format!("{hash:032x}").into(),
        }
    }

    /// Equal bytes are meant (§8.8.3.2): for ranges and If-Match.
    #[must_use]
    pub fn strong_eq(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Equivalent representations are meant (§8.8.3.2): for If-None-Match.
    #[must_use]
    pub fn weak_eq(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }

    /// The same tag, weak: for a representation whose bytes were changed but not its meaning.
    #[must_use]
    pub fn weaken(&self) -> Self {
        Self {
            weak: true,
            opaque: self.opaque.clone(),
        }
    }

    /// The tag with something before its closing quote, as in `"v1-gzip"`: each coding of a representation needs a tag
    /// of its own (§8.8.3.3). Bytes that a tag cannot hold are left out.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        let added = suffix.bytes().filter(|byte| is_tag_byte(*byte));
        let opaque = self.opaque.iter().copied().chain(added).collect();
        Self {
            weak: self.weak,
            opaque,
        }
    }

    /// Writes the tag as a field value.
    #[must_use]
    pub fn to_value(&self) -> HeaderValue {
        let prefix: &[u8] = if self.weak { b"W/\"" } else { b"\"" };
        let written = [prefix, &self.opaque, b"\""].concat();
        HeaderValue::from_maybe_shared(Bytes::from(written))
            .expect("every byte was checked when the tag was made")
    }
}

/// The tag of a response (RFC 9110 §8.8.3). Two lines that differ name nothing.
#[must_use]
pub fn etag(headers: &HeaderMap) -> Option<ETag> {
    let mut values = headers.get_all(ETAG).iter();
    let first = values.next()?;
    if values.any(|other| other != first) {
        return None;
    }
    ETag::parse(first)
}

/// What If-Match or If-None-Match compares with (RFC 9110 §13.1.1, §13.1.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ETags {
    /// `*`: any current representation.
    Any,
    /// Any of these. Elements that are no tags are left out: they match nothing.
    List(Vec<ETag>),
}

impl ETags {
    /// Reads a list of tags; `None` without the field.
    pub fn parse(headers: &HeaderMap, name: impl AsHeaderName + Clone) -> Option<Self> {
        if !headers.contains_key(name.clone()) {
            return None;
        }
        let elements: Vec<&str> = lines(headers, name).flat_map(tag_elements).collect();
        if elements == ["*"] {
            return Some(Self::Any);
        }
        Some(Self::List(
            elements.into_iter().filter_map(ETag::parse).collect(),
        ))
    }

    /// Whether one matches by weak comparison: for If-None-Match (RFC 9110 §13.1.2).
    #[must_use]
    pub fn matches_weak(&self, tag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => tags.iter().any(|other| other.weak_eq(tag)),
        }
    }

    /// Whether one matches by strong comparison: for If-Match (RFC 9110 §13.1.1).
    #[must_use]
    pub fn matches_strong(&self, tag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => tags.iter().any(|other| other.strong_eq(tag)),
        }
    }
}

/// Whether a tag may hold this byte: visible, not a quote; or of another charset (RFC 9110 §8.8.3).
const fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::lines_of;

    fn tag(text: &str) -> ETag {
        ETag::parse(text).expect(text)
    }

    #[test]
    fn a_tag_is_read_and_written() {
        for text in [
            r#""a""#,
            r#"W/"a""#,
            r#""""#,
            r#"W/"""#,
            r#""a,b\""#,
            r#""é""#,
        ] {
            assert_eq!(tag(text).to_value().as_bytes(), text.as_bytes());
        }
        assert_eq!(tag(r#" W/"a" "#).to_value(), r#"W/"a""#);
    }

    #[test]
    fn what_is_no_tag_is_none() {
        for text in [
            "",
            "a",
            "\"",
            r#""a"#,
            r#"a""#,
            r#"w/"a""#,
            r#"W/a"#,
            r#""a" "b""#,
            r#""a b""#,
            "*",
        ] {
            assert_eq!(ETag::parse(text), None, "{text}");
        }
    }

    #[test]
    fn tags_compare_in_two_ways() {
        // The table of RFC 9110 §8.8.3.2.
        for (one, other, strong, weak) in [
            (r#"W/"1""#, r#"W/"1""#, false, true),
            (r#"W/"1""#, r#"W/"2""#, false, false),
            (r#"W/"1""#, r#""1""#, false, true),
            (r#""1""#, r#""1""#, true, true),
        ] {
            let (one, other) = (tag(one), tag(other));
            assert_eq!(
                (one.strong_eq(&other), one.weak_eq(&other)),
                (strong, weak),
                "{one:?} {other:?}"
            );
            assert_eq!(
                (other.strong_eq(&one), other.weak_eq(&one)),
                (strong, weak),
                "{other:?} {one:?}"
            );
        }
    }

    #[test]
    fn tags_are_derived() {
        assert_eq!(tag(r#""a""#).weaken(), tag(r#"W/"a""#));
        assert_eq!(tag(r#""a""#).with_suffix("-gzip"), tag(r#""a-gzip""#));
        assert_eq!(
            tag(r#"W/"a""#).with_suffix("\" \r\n-br"),
            tag(r#"W/"a-br""#)
        );
        assert_eq!(
            ETag::from_hash(0xab),
            tag(r#""000000000000000000000000000000ab""#)
        );
    }

    #[test]
    fn a_response_has_one_tag_or_none() {
        for (lines, expected) in [
            (&[][..], None),
            (&[r#""a""#], Some(tag(r#""a""#))),
            (&[r#""a""#, r#""a""#], Some(tag(r#""a""#))),
            (&[r#""a""#, r#""b""#], None),
            (&["a"], None),
        ] {
            assert_eq!(etag(&lines_of("etag", lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn lists_of_tags_are_read() {
        let list = |tags: &[&str]| Some(ETags::List(tags.iter().map(|text| tag(text)).collect()));
        for (lines, expected) in [
            (&[][..], None),
            (&["*"], Some(ETags::Any)),
            (&[r#""a", W/"b""#], list(&[r#""a""#, r#"W/"b""#])),
            (&[r#""a""#, r#""b""#], list(&[r#""a""#, r#""b""#])),
            (&[r#""a,b", "c""#], list(&[r#""a,b""#, r#""c""#])),
            (&[r#""a\", "b""#], list(&[r#""a\""#, r#""b""#])),
            (&[r#"junk, "a""#], list(&[r#""a""#])),
            (&[r#"*, "a""#], list(&[r#""a""#])),
            (&[""], list(&[])),
        ] {
            assert_eq!(
                ETags::parse(&lines_of("if-none-match", lines), "if-none-match"),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_list_matches_as_its_tags_do() {
        let tags = ETags::List(vec![tag(r#"W/"a""#), tag(r#""b""#)]);
        for (text, weak, strong) in [
            (r#""a""#, true, false),
            (r#""b""#, true, true),
            (r#""c""#, false, false),
        ] {
            assert_eq!(
                (
                    tags.matches_weak(&tag(text)),
                    tags.matches_strong(&tag(text))
                ),
                (weak, strong),
                "{text}"
            );
        }
        assert!(
            ETags::Any.matches_weak(&tag(r#""c""#)) && ETags::Any.matches_strong(&tag(r#""c""#))
        );
    }
}
