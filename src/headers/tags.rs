//! Names an application puts on its answers, to drop them by: Cache-Groups and Cache-Group-Invalidation (RFC 9875), and
//! the fields of common caches, Cache-Tag, Surrogate-Key and xkey.

use http::header::HeaderMap;

use super::structured::strings;
use super::{has_unreadable_line, lines, list};

/// All names on a response, in the order of the fields. A Cache-Groups that is malformed counts as absent, as
/// RFC 9651 §4.2 asks.
#[must_use]
pub fn response_tags(headers: &HeaderMap) -> Vec<String> {
    let by_space = ["surrogate-key", "xkey"]
        .into_iter()
        .flat_map(|name| lines(headers, name))
        .flat_map(str::split_ascii_whitespace);
    list(headers, "cache-tag")
        .chain(by_space)
        .map(str::to_owned)
        .chain(strings(headers, "cache-groups").unwrap_or_default())
        .collect()
}

/// Whether a field that names tags has a line that cannot be read: then some of its names are not known.
#[must_use]
pub fn are_unreadable(headers: &HeaderMap) -> bool {
    ["cache-tag", "surrogate-key", "xkey", "cache-groups"]
        .iter()
        .any(|name| has_unreadable_line(headers, *name))
}

/// The groups a response to a write invalidates (RFC 9875 §3).
#[must_use]
pub fn invalidated_groups(headers: &HeaderMap) -> Vec<String> {
    strings(headers, "cache-group-invalidation").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::lines_of;

    #[test]
    fn each_field_has_its_own_separator() {
        for (name, lines, expected) in [
            ("cache-tag", &["a, b c", "d"][..], &["a", "b c", "d"][..]),
            (
                "surrogate-key",
                &["a b,c", " d  e "],
                &["a", "b,c", "d", "e"],
            ),
            ("xkey", &["a b", "c"], &["a", "b", "c"]),
            (
                "cache-groups",
                &[r#""a", "b c""#, r#""d,e""#],
                &["a", "b c", "d,e"],
            ),
            ("cache-group-invalidation", &[r#""a""#], &[]),
            ("x-other", &["a"], &[]),
        ] {
            assert_eq!(
                response_tags(&lines_of(name, lines)),
                expected,
                "{name}: {lines:?}"
            );
        }
    }

    #[test]
    fn the_fields_add_up() {
        let mut headers = lines_of("cache-tag", &["a"]);
        headers.extend(lines_of("surrogate-key", &["b c"]));
        headers.extend(lines_of("cache-groups", &[r#""d""#]));
        assert_eq!(response_tags(&headers), ["a", "b", "c", "d"]);
    }

    #[test]
    fn groups_are_a_list_of_strings() {
        for (line, expected) in [
            (r#""a""#, &["a"][..]),
            (r#"  "a" ,	"b"  "#, &["a", "b"]),
            (r#""a\"b\\c""#, &[r#"a"b\c"#]),
            (r#""""#, &[""]),
            ("", &[]),
            (r#""a";x, "b""#, &["a", "b"]),
            (r#""a"; x=1;y=-2.5;z=?1, "b""#, &["a", "b"]),
            (
                r#""a";x="q,\"";y=tok/en:*;z=:aGk=:;d=@12;e=%"%c3%a9", "b""#,
                &["a", "b"],
            ),
        ] {
            let headers = lines_of("cache-group-invalidation", &[line]);
            assert_eq!(invalidated_groups(&headers), expected, "{line}");
            let headers = lines_of("cache-group-invalidation", &["", line, ""]);
            assert_eq!(invalidated_groups(&headers), expected, "{line} of three");
        }
        // RFC 9651 §4.2: the lines are joined before they are read.
        let headers = lines_of("cache-group-invalidation", &[r#""a"#, r#"b", "c""#]);
        assert_eq!(invalidated_groups(&headers), ["a, b", "c"]);
    }

    #[test]
    fn a_malformed_list_is_ignored_whole() {
        for line in [
            "a",
            "1",
            r#"("a" "b")"#,
            r#""a", b"#,
            r#""a","#,
            r#","a""#,
            r#""a",,"b""#,
            r#""a" "b""#,
            r#""a"#,
            r#""a\x""#,
            r#""é""#,
            r#""a";"#,
            r#""a";X"#,
            r#""a";x="#,
            r#""a";x=:a"#,
            r#""a";x=:a=b:"#,
            r#""a";x=?2"#,
            r#""a";x=@1.5"#,
            r#""a";x=1."#,
            r#""a";x=-"#,
            r#""a";x=1234567890123456"#,
            r#""a";x=/"#,
            r#""a";x=%"%C3%A9""#,
            r#""a";x=%"%c3""#,
        ] {
            let headers = lines_of("cache-group-invalidation", &[r#""good""#, line]);
            assert_eq!(invalidated_groups(&headers), Vec::<String>::new(), "{line}");
        }
    }
}
