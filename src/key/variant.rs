//! Variants: the secondary key (RFC 9111 §4.1), which says which request fields an answer depended on.
//!
//! What flows in: the field names of the app's `Vary` and a request. What flows out: the values that were asked with, in
//! one spelling. Promises: two requests select one variant only if no app can tell their fields apart, and no
//! credential can be read out of one.

use http::header::{self, HeaderMap, HeaderName};

use super::digest;
use crate::headers::forwarded::{self, Claim};
use crate::headers::{self, cookie};
use crate::identity::Credential;

/// Which cookies can matter to the app.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cookies {
    /// Any of them.
    All,
    /// Only these.
    Only(Vec<String>),
}

/// How request fields select a variant on one route.
#[derive(Clone, Copy, Debug)]
pub struct VariantRules<'a> {
    /// Fields of `Vary` that the route declares meaningless.
    pub ignore: &'a [HeaderName],
    /// Fields that select a variant though `Vary` forgets them.
    pub always: &'a [HeaderName],
    /// Which cookies can matter.
    pub cookies: &'a Cookies,
    /// What is covered already: the credentials of `[identity] from`, when the key holds the identity or the route
    /// is shared.
    pub credentials: &'a [Credential],
    /// Whether `Authorization` is covered: by the identity (`user`), or by the operator's word (`shared`).
    pub covered: bool,
    /// Whether `Cookie` is covered as a whole, where the route does not list those that matter: on a `user` route. On a
    /// `shared` one only the credentials are; a language cookie still selects.
    pub cookies_covered: bool,
}

/// The request fields that selected an answer, each with its normalised value, or a hash of it where it may be a
/// credential.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Variant(pub(super) Box<[(HeaderName, Box<[u8]>)]>);

impl Variant {
    /// The variant that an answer with these `Vary` fields is, as seen from one request.
    #[must_use]
    pub fn of(vary: &[HeaderName], request: &HeaderMap, rules: &VariantRules<'_>) -> Self {
        let mut names: Vec<&HeaderName> = rules
            .always
            .iter()
            .chain(vary)
            .filter(|name| rules.counts(name))
            .collect();
        names.sort_unstable_by_key(|name| name.as_str());
        names.dedup();
        Self(
            names
                .into_iter()
                .map(|name| (name.clone(), rules.value(name, request).into_boxed_slice()))
                .collect(),
        )
    }

    /// Whether a request selects this variant.
    #[must_use]
    pub fn matches(&self, request: &HeaderMap, rules: &VariantRules<'_>) -> bool {
        self.0
            .iter()
            .all(|(name, value)| *rules.value(name, request) == **value)
    }

    /// The fields and values, for people and for a second key.
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> {
        self.0.iter().map(|(name, value)| (name, value.as_ref()))
    }

    /// Whether it depends on nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it takes in memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.0
            .iter()
            .map(|(_, value)| value.len() + size_of::<(HeaderName, Box<[u8]>)>())
            .sum()
    }
}

impl VariantRules<'_> {
    fn counts(&self, name: &HeaderName) -> bool {
        let covered = (self.covered && *name == header::AUTHORIZATION)
            || (self.cookies_covered && *name == header::COOKIE && *self.cookies == Cookies::All);
        // One canonical body is stored and encoded per client: the app's own coding never selects (module respond).
        *name != header::ACCEPT_ENCODING && !self.ignore.contains(name) && !covered
    }

    /// A field's value in the spelling that is compared. An absent field and an empty one differ. Of what may be a
    /// credential it is a hash: variants are written down where others can read them.
    fn value(&self, name: &HeaderName, request: &HeaderMap) -> Vec<u8> {
        if *name == header::COOKIE {
            return digest::hidden(&self.cookie_value(request));
        }
        let value = Self::plain_value(name, request);
        let secret = *name == header::AUTHORIZATION
            || self
                .credentials
                .iter()
                .any(|known| matches!(known, Credential::Header(header) if header == name));
        if secret {
            return digest::hidden(&value);
        }
        value
    }

    fn plain_value(name: &HeaderName, request: &HeaderMap) -> Vec<u8> {
        let listed = matches!(
            *name,
            header::ACCEPT | header::ACCEPT_LANGUAGE | header::ACCEPT_CHARSET
        );
        let mut value = Vec::new();
        for line in request.get_all(name) {
            let line = line.as_bytes();
            if listed && !line.contains(&b'"') {
                line.split(|byte| *byte == b',')
                    .for_each(|element| push_range(&mut value, element));
            } else {
                // Nothing is known of the grammar, or a string may hold delimiters: the line as it is, after a byte that
                // no field has in it.
                value.push(b'\n');
                value.extend_from_slice(line);
            }
        }
        value
    }

    /// The cookies that can matter, sorted by name: only the order of those with one name means something. What is no pair,
    /// or no text, matters where all cookies do: an app may read it.
    fn cookie_value(&self, request: &HeaderMap) -> Vec<u8> {
        let identifies = |name: &[u8]| {
            self.credentials.iter().any(
                |known| matches!(known, Credential::Cookie(cookie) if cookie.as_bytes() == name),
            )
        };
        let wanted = |name: &[u8]| match self.cookies {
            Cookies::All => true,
            Cookies::Only(names) => names.iter().any(|known| known.as_bytes() == name),
        };
        let mut pieces: Vec<_> = cookie::pieces(request)
            // The identity knows values that are text, and no others.
            .filter(|piece| wanted(piece.name) && !(piece.is_text() && identifies(piece.name)))
            .collect();
        pieces.sort_by_key(|piece| piece.name);
        let mut value = Vec::new();
        for piece in pieces {
            value.extend_from_slice(piece.whole);
            value.push(b';');
        }
        value
    }
}

/// Writes an element of Accept, Accept-Language or Accept-Charset in one spelling: the range has no case, and blanks may
/// be around it and around semicolons, but nowhere else (RFC 9110 §12.4.2, §12.5). Parameters may have case.
fn push_range(value: &mut Vec<u8>, element: &[u8]) {
    let mut delimiter = b',';
    for part in element.split(|byte| *byte == b';') {
        value.push(delimiter);
        let part = part.trim_ascii().iter();
        if delimiter == b',' {
            value.extend(part.map(u8::to_ascii_lowercase));
        } else {
            value.extend(part);
        }
        delimiter = b';';
    }
}

/// The field names that a `Vary` lists, or `None` for `*`, and for what comes to the same: names of fields in which
/// the app is told who asks and by which way. The client's own fields of these names are not what the app was sent.
#[must_use]
pub fn vary(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    if headers::has_unreadable_line(response, header::VARY) {
        return None;
    }
    let mut names = Vec::new();
    for element in headers::list(response, header::VARY) {
        if element == "*" {
            return None;
        }
        // A name that is no field name can select nothing; that the app meant something by it is a doubt.
        let name = element.parse::<HeaderName>().ok()?;
        match forwarded::claim(&name) {
            Some(Claim::Way | Claim::Address) => return None,
            // Parts of every key.
            Some(Claim::Host | Claim::Scheme) => {}
            Some(Claim::Other) | None => names.push(name),
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                name.parse::<HeaderName>().expect("a name"),
                value.parse().expect("a value"),
            );
        }
        headers
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn variants_follow_vary_and_the_route() {
        let all = Cookies::All;
        let language = Cookies::Only(vec!["django_language".into()]);
        let session = [Credential::Cookie("sessionid".into())];
        let open = VariantRules {
            ignore: &[],
            always: &[],
            cookies: &all,
            credentials: &[],
            covered: false,
            cookies_covered: false,
        };
        let user = VariantRules {
            credentials: &session,
            covered: true,
            cookies_covered: true,
            ..open
        };
        let listed = VariantRules {
            cookies: &language,
            ..open
        };
        let ignoring = VariantRules {
            ignore: &[header::COOKIE],
            ..open
        };
        let accept = VariantRules {
            always: &[header::ACCEPT],
            ..open
        };
        for (name, rules, vary, one, other, same) in [
            (
                "cookie",
                open,
                header::COOKIE,
                ("cookie", "a=1"),
                ("cookie", "a=2"),
                false,
            ),
            (
                "cookie order",
                open,
                header::COOKIE,
                ("cookie", "a=1; b=2"),
                ("cookie", "b=2; a=1"),
                true,
            ),
            (
                "covered",
                user,
                header::COOKIE,
                ("cookie", "csrftoken=1"),
                ("cookie", "csrftoken=2"),
                true,
            ),
            (
                "listed",
                listed,
                header::COOKIE,
                ("cookie", "x=1"),
                ("cookie", "x=2"),
                true,
            ),
            (
                "listed",
                listed,
                header::COOKIE,
                ("cookie", "django_language=de"),
                ("cookie", "x=2"),
                false,
            ),
            (
                "ignored",
                ignoring,
                header::COOKIE,
                ("cookie", "a=1"),
                ("cookie", "a=2"),
                true,
            ),
            (
                "forgotten",
                accept,
                header::ORIGIN,
                ("accept", "text/html"),
                ("accept", "*/*"),
                false,
            ),
            (
                "blanks",
                open,
                header::ACCEPT_LANGUAGE,
                ("accept-language", "de, EN"),
                ("accept-language", "de,en"),
                true,
            ),
            (
                "coding",
                open,
                header::ACCEPT_ENCODING,
                ("accept-encoding", "gzip"),
                ("accept-encoding", "br"),
                true,
            ),
            (
                "absent",
                open,
                header::ORIGIN,
                ("origin", ""),
                ("x-other", "1"),
                false,
            ),
        ] {
            let variant = Variant::of(&[vary], &request(&[one]), &rules);
            assert_eq!(
                variant.matches(&request(&[other]), &rules),
                same,
                "{name}: {one:?} and {other:?}"
            );
        }
    }

    #[test]
    fn a_variant_holds_no_credential() {
        let token = HeaderName::from_static("x-token");
        let declared = [Credential::Header(token.clone())];
        let rules = VariantRules {
            ignore: &[],
            always: &[],
            cookies: &Cookies::All,
            credentials: &declared,
            covered: false,
            cookies_covered: false,
        };
        let names = [header::COOKIE, header::AUTHORIZATION, token];
        let asked = request(&[
            ("cookie", "s=secret"),
            ("authorization", "secret"),
            ("x-token", "secret"),
        ]);
        let variant = Variant::of(&names, &asked, &rules);
        assert!(variant.matches(&asked, &rules));
        for (name, value) in variant.fields() {
            assert_eq!(value.len(), 16, "{name}");
            assert!(!value.windows(6).any(|part| part == b"secret"), "{name}");
        }
        let nobody = Variant::of(&names, &HeaderMap::new(), &rules);
        assert!(nobody.fields().all(|(_, value)| value.is_empty()));
    }

    /// The identity knows cookies that are text: what it cannot read still selects.
    #[test]
    fn a_credential_that_is_no_text_is_a_cookie_like_others() {
        let session = [Credential::Cookie("s".into())];
        let rules = VariantRules {
            ignore: &[],
            always: &[],
            cookies: &Cookies::All,
            credentials: &session,
            covered: false,
            cookies_covered: false,
        };
        let cookie = |value: &'static [u8]| {
            let value = http::HeaderValue::from_bytes(value).expect("a value");
            HeaderMap::from_iter([(header::COOKIE, value)])
        };
        let variant = Variant::of(&[header::COOKIE], &HeaderMap::new(), &rules);
        assert!(variant.matches(&cookie(b"s=alice"), &rules));
        assert!(!variant.matches(&cookie(b"s=\xff"), &rules));
    }

    #[test]
    fn vary_by_the_way_is_as_good_as_a_star() {
        for name in ["X-Forwarded-For", "Accept, Via", "Forwarded", "X-Real-IP"] {
            assert_eq!(vary(&request(&[("vary", name)])), None, "{name}");
        }
        let keyed = "X-Forwarded-Host, X-Forwarded-Proto, X-Forwarded-Prefix";
        let prefix = HeaderName::from_static("x-forwarded-prefix");
        assert_eq!(vary(&request(&[("vary", keyed)])), Some(vec![prefix]));
    }

    #[test]
    fn vary_star_and_nonsense_are_no_list() {
        assert_eq!(vary(&request(&[("vary", "Accept, *")])), None);
        assert_eq!(vary(&request(&[("vary", "a b")])), None);
        assert_eq!(
            vary(&request(&[("vary", "Accept, Cookie")])),
            Some(vec![header::ACCEPT, header::COOKIE])
        );
        assert_eq!(vary(&HeaderMap::new()), Some(vec![]));
    }
}
