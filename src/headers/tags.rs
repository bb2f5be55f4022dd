//! Names an application puts on its answers, to drop them by: Cache-Groups and Cache-Group-Invalidation (RFC 9875), and
//! the fields of common caches, Cache-Tag, Surrogate-Key and xkey.

use http::header::{AsHeaderName, HeaderMap};

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

/// Reads a structured list of strings (RFC 9651 §4.2.1), without their parameters. `None` when any of it is malformed
/// or no string.
fn strings(headers: &HeaderMap, name: impl AsHeaderName + Clone) -> Option<Vec<String>> {
    if has_unreadable_line(headers, name.clone()) {
        return None;
    }
    let mut all = Vec::new();
    for line in lines(headers, name) {
        Cursor {
            rest: line.trim_matches(' '),
        }
        .strings_into(&mut all)?;
    }
    Some(all)
}

/// Where the parser is in a line; each step returns `None` where the grammar ends in an error.
struct Cursor<'a> {
    rest: &'a str,
}

impl Cursor<'_> {
    fn strings_into(&mut self, all: &mut Vec<String>) -> Option<()> {
        while !self.rest.is_empty() {
            all.push(self.string()?);
            self.skip_parameters()?;
            self.skip(&[' ', '\t']);
            if self.rest.is_empty() {
                break;
            }
            self.expect(',')?;
            self.skip(&[' ', '\t']);
            // A comma with nothing after it is an error.
            if self.rest.is_empty() {
                return None;
            }
        }
        Some(())
    }

    /// RFC 9651 §4.2.5.
    fn string(&mut self) -> Option<String> {
        self.expect('"')?;
        let mut text = String::new();
        loop {
            match self.take()? {
                '"' => return Some(text),
                '\\' => text.push(self.take().filter(|c| matches!(c, '"' | '\\'))?),
                c @ ' '..='~' => text.push(c),
                _ => return None,
            }
        }
    }

    /// RFC 9651 §4.2.3.2.
    fn skip_parameters(&mut self) -> Option<()> {
        while self.expect(';').is_some() {
            self.skip(&[' ']);
            self.take()
                .filter(|c| c.is_ascii_lowercase() || *c == '*')?;
            self.skip_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c));
            if self.expect('=').is_some() {
                self.skip_bare_item()?;
            }
        }
        Some(())
    }

    /// RFC 9651 §4.2.3.1, as far as it takes to find where the item ends.
    fn skip_bare_item(&mut self) -> Option<()> {
        if self.rest.starts_with('"') {
            return self.string().map(drop);
        }
        // A display string has no escaped quotes, so a string's rule finds its end.
        if self.rest.starts_with("%\"") {
            self.take();
            return self.string().map(drop);
        }
        if self.expect(':').is_some() {
            self.skip_while(|c| c.is_ascii_alphanumeric() || "+/=".contains(c));
            return self.expect(':');
        }
        let before = self.rest.len();
        self.skip_while(|c| {
            super::is_token_byte(u8::try_from(c).unwrap_or(0)) || ":/@?".contains(c)
        });
        (self.rest.len() < before).then_some(())
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn expect(&mut self, c: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(c)?;
        Some(())
    }

    fn skip(&mut self, chars: &[char]) {
        self.rest = self.rest.trim_start_matches(chars);
    }

    fn skip_while(&mut self, accepts: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(accepts);
    }
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
                r#""a";x="q,\"";y=tok/en:*;z=:aGk=:;d=@12;e=%"%c3", "b""#,
                &["a", "b"],
            ),
        ] {
            let headers = lines_of("cache-group-invalidation", &[line]);
            assert_eq!(invalidated_groups(&headers), expected, "{line}");
        }
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
        ] {
            let headers = lines_of("cache-group-invalidation", &[r#""good""#, line]);
            assert_eq!(invalidated_groups(&headers), Vec::<String>::new(), "{line}");
        }
    }
}
