//! Content codings and which of them a client takes: Content-Encoding and Accept-Encoding (RFC 9110 §8.4, §12.5.3).

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderName};

use super::{has_unreadable_line, list, parameter};

/// A content coding this program can make (RFC 9110 §8.4.1; RFC 7932; RFC 8878).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// `gzip`, also called `x-gzip`.
    Gzip,
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
}

impl Coding {
    /// All of them, in the order of [`Coding::index`].
    pub const ALL: [Self; 4] = [Self::Identity, Self::Gzip, Self::Br, Self::Zstd];

    /// The registered name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of a name, without case; `x-gzip` is `gzip` (RFC 9110 §8.4.1.3).
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        if token.eq_ignore_ascii_case("x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL
            .into_iter()
            .find(|coding| token.eq_ignore_ascii_case(coding.as_str()))
    }

    /// A place in an array of one slot per coding.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Gzip => 1,
            Self::Br => 2,
            Self::Zstd => 3,
        }
    }
}

/// Fields that hold a digest of the content as it was sent, or of the whole in its coding (RFC 9530 §2, §3, §1.3;
/// Content-MD5): whoever sends other bytes than the app did has to take them out.
pub const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// Takes the digests out of a head whose content is sent in another coding, or in part.
pub fn strip_digests(headers: &mut HeaderMap) {
    for name in &DIGESTS {
        headers.remove(name);
    }
}

/// What a client says about codings (RFC 9110 §12.5.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AcceptEncoding {
    /// By [`Coding::index`]; `None` is not acceptable.
    weights: [Option<Weight>; 4],
    /// Without the field anything may be sent, and a client that says nothing gets what cannot surprise it.
    present: bool,
}

/// A quality value in thousandths (RFC 9110 §12.4.2). Zero, for an acceptable coding, is `identity` that was not
/// mentioned: less than anything the client asked for.
type Weight = u16;

impl AcceptEncoding {
    /// Reads Accept-Encoding. An element that cannot be read is as if it were not there.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        if !headers.contains_key(ACCEPT_ENCODING) {
            return Self {
                weights: [Some(0); 4],
                present: false,
            };
        }
        let mut named: [Option<Weight>; 4] = [None; 4];
        let mut others: Option<Weight> = None;
        for element in list(headers, ACCEPT_ENCODING) {
            let Some((token, weight)) = weighted(element) else {
                continue;
            };
            if token == "*" {
                others.get_or_insert(weight);
            } else if let Some(coding) = Coding::from_token(token) {
                named[coding.index()].get_or_insert(weight);
            }
        }
        let mut weights = named.map(|weight| weight.or(others).filter(|weight| *weight > 0));
        if named[Coding::Identity.index()].is_none() && others.is_none() {
            weights[Coding::Identity.index()] = Some(0);
        }
        Self {
            weights,
            present: true,
        }
    }

    /// The coding to send out of `preference` and identity: the client's highest weight, and on a tie the first of
    /// `preference`, identity last. `None` when the client takes none of them.
    #[must_use]
    pub fn choose(&self, preference: &[Coding]) -> Option<Coding> {
        if !self.present {
            return Some(Coding::Identity);
        }
        let compressed = preference
            .iter()
            .copied()
            .filter(|coding| *coding != Coding::Identity);
        let mut best: Option<(Coding, Weight)> = None;
        for coding in compressed.chain([Coding::Identity]) {
            let Some(weight) = self.weights[coding.index()] else {
                continue;
            };
            if best.is_none_or(|(_, highest)| weight > highest) {
                best = Some((coding, weight));
            }
        }
        best.map(|(coding, _)| coding)
    }

    /// Whether the client takes this coding at all.
    #[must_use]
    pub const fn accepts(&self, coding: Coding) -> bool {
        self.weights[coding.index()].is_some()
    }
}

/// The codings of a response's content, in the order they were applied (RFC 9110 §8.4); none for identity.
///
/// # Errors
///
/// The name of a coding this program does not know, so that its content cannot be decoded.
pub fn content_codings(headers: &HeaderMap) -> Result<Vec<Coding>, String> {
    if has_unreadable_line(headers, CONTENT_ENCODING) {
        return Err("(not text)".to_owned());
    }
    list(headers, CONTENT_ENCODING)
        .map(|token| Coding::from_token(token).ok_or_else(|| token.to_owned()))
        .filter(|coding| *coding != Ok(Coding::Identity))
        .collect()
}

/// A name and its weight; `None` when the weight is not one.
fn weighted(element: &str) -> Option<(&str, Weight)> {
    let mut parts = element.split(';');
    let token = parts.next()?.trim();
    for part in parts {
        let (name, value) = parameter(part);
        if name.eq_ignore_ascii_case("q") {
            return Some((token, thousandths(&value?)?));
        }
    }
    Some((token, 1000))
}

/// Reads a qvalue (RFC 9110 §12.4.2): `0` or `1` with at most three decimals, and no more than one in all.
fn thousandths(text: &str) -> Option<Weight> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1")
        || decimals.len() > 3
        || !decimals.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let weight: Weight = format!("{whole}{decimals:0<3}").parse().ok()?;
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::Coding::{Br, Gzip, Identity, Zstd};
    use super::*;
    use crate::headers::tests::lines_of;

    fn accept(lines: &[&str]) -> AcceptEncoding {
        AcceptEncoding::parse(&lines_of("accept-encoding", lines))
    }

    #[test]
    fn the_best_coding_is_chosen() {
        for (line, expected) in [
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip, br", Some(Br)),
            ("GZIP", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("gzip;q=0.5", Some(Gzip)),
            ("gzip;q=0.001", Some(Gzip)),
            ("gzip;q=0.8, br;q=0.5", Some(Gzip)),
            ("gzip ; Q=0.8 , br ; q=0.5", Some(Gzip)),
            ("gzip;q=0.5, identity;q=0.8", Some(Identity)),
            ("gzip;q=0.5, identity;q=0.5", Some(Gzip)),
            ("gzip;q=0", Some(Identity)),
            ("*", Some(Zstd)),
            ("*;q=0.5, gzip", Some(Gzip)),
            ("*;q=0.5, zstd;q=0", Some(Br)),
            ("*;q=0, gzip", Some(Gzip)),
            ("*;q=0", None),
            ("identity;q=0", None),
            ("identity;q=0, gzip", Some(Gzip)),
            ("identity, *;q=0", Some(Identity)),
            ("deflate", Some(Identity)),
            ("", Some(Identity)),
            ("gzip;q=abc", Some(Identity)),
            ("gzip;q=2", Some(Identity)),
            ("gzip;q=1.001", Some(Identity)),
            ("gzip;q", Some(Identity)),
            ("gzip;q=0, gzip", Some(Identity)),
        ] {
            assert_eq!(
                accept(&[line]).choose(&[Zstd, Br, Gzip]),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn only_what_is_offered_is_chosen() {
        assert_eq!(accept(&["br, gzip;q=0.5"]).choose(&[Gzip]), Some(Gzip));
        assert_eq!(accept(&["br, gzip"]).choose(&[]), Some(Identity));
        assert_eq!(accept(&["br, identity;q=0"]).choose(&[Gzip]), None);
        assert_eq!(
            accept(&["gzip, br"]).choose(&[Identity, Gzip, Br]),
            Some(Gzip)
        );
        assert_eq!(accept(&["gzip", "br"]).choose(&[Br, Gzip]), Some(Br));
    }

    #[test]
    fn without_the_field_all_is_accepted_and_identity_chosen() {
        let silent = accept(&[]);
        assert_eq!(silent.choose(&[Zstd, Br, Gzip]), Some(Identity));
        assert!(Coding::ALL.into_iter().all(|coding| silent.accepts(coding)));
    }

    #[test]
    fn accepted_codings_are_told() {
        for (line, expected) in [
            ("gzip", [true, true, false, false]),
            ("", [true, false, false, false]),
            ("*", [true, true, true, true]),
            ("*;q=0, br", [false, false, true, false]),
            ("identity;q=0, br", [false, false, true, false]),
        ] {
            assert_eq!(
                Coding::ALL.map(|coding| accept(&[line]).accepts(coding)),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn content_codings_are_read_or_named() {
        for (lines, expected) in [
            (&[][..], Ok(vec![])),
            (&["gzip"], Ok(vec![Gzip])),
            (&["x-gzip, BR"], Ok(vec![Gzip, Br])),
            (&["gzip", "zstd"], Ok(vec![Gzip, Zstd])),
            (&["identity"], Ok(vec![])),
            (&["gzip, deflate"], Err("deflate".to_owned())),
        ] {
            assert_eq!(
                content_codings(&lines_of("content-encoding", lines)),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn every_coding_has_its_own_name_and_place() {
        for (place, coding) in Coding::ALL.into_iter().enumerate() {
            assert_eq!(coding.index(), place);
            assert_eq!(Coding::from_token(coding.as_str()), Some(coding));
        }
        assert_eq!(Coding::from_token("*"), None);
    }
}
