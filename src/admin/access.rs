//! Who may change things.
//!
//! A browser may be sent here by any page it shows, with the loopback's address as its own: what browsers add to such
//! requests refuses them, whatever the setting.

use std::fmt;
use std::net::IpAddr;

use http::header::{self, HeaderMap};
use http::{StatusCode, request};
use ring::hmac;

use crate::server::Peer;

/// Who may change things: `[admin] write_access`.
#[derive(Debug)]
pub enum Access {
    /// Callers from this host.
    Loopback,
    /// Callers with this token; none is set: nobody.
    Token(Option<Token>),
    /// Nobody.
    Off,
}

/// A token that callers show. Only a hash of it is kept.
pub struct Token(hmac::Tag);

/// Why a caller may not.
pub(super) struct Denied {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
}

impl Token {
    /// Keeps a token.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(hmac::sign(&Self::key(), token.as_bytes()))
    }

    /// Whether this is it. Takes the same time whether and wherever they differ.
    fn is(&self, shown: &str) -> bool {
        hmac::verify(&Self::key(), shown.as_bytes(), self.0.as_ref()).is_ok()
    }

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, b"reprise admin token")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Access {
    /// Who asks, for the log; or why he may not.
    pub(super) fn check(&self, head: &request::Parts) -> Result<String, Denied> {
        let address = head.extensions.get::<Peer>().map(|peer| peer.address);
        let from = match address {
            // Who may write to a Unix socket is the file system's to say.
            Some(None) => "a Unix socket".to_owned(),
            Some(Some(address)) => address.to_string(),
            None => "nowhere".to_owned(),
        };
        if is_sent_by_a_page(&head.headers) {
            return Err(Denied::forbidden(
                "this is not for browsers: a request with Origin or Sec-Fetch-Site is refused",
            ));
        }
        match self {
            Self::Off => Err(Denied::forbidden("[admin] write_access is \"off\"")),
            Self::Loopback => match address {
                Some(address) if address.is_none_or(|address: IpAddr| address.is_loopback()) => {
                    Ok(from)
                }
                Some(_) | None => Err(Denied::forbidden(
                    "[admin] write_access is \"loopback\": ask from the same host, or set \"token\"",
                )),
            },
            Self::Token(None) => Err(Denied::forbidden(
                "[admin] write_access is \"token\", and the variable of token_env is not set",
            )),
            Self::Token(Some(token)) => match bearer(&head.headers) {
                Some(shown) if token.is(shown) => Ok(format!("{from} with the token")),
                Some(_) => Err(Denied::unauthorized("this is not the token")),
                None => Err(Denied::unauthorized(
                    "a token is asked for: Authorization: Bearer ...",
                )),
            },
        }
    }
}

impl Denied {
    const fn forbidden(reason: &'static str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            reason,
        }
    }

    const fn unauthorized(reason: &'static str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            reason,
        }
    }
}

/// Whether a page in a browser sent it: a browser says so on every POST.
fn is_sent_by_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        || headers
            .get("sec-fetch-site")
            .is_some_and(|site| site != "none")
}

/// The token that a caller shows (RFC 6750 §2.1). Two of them are none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn check(access: &Access, address: Option<&str>, fields: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder();
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        head.extensions.insert(Peer {
            address: address.map(|address| address.parse().expect("an address")),
            tls: false,
            hints: None,
        });
        access
            .check(&head)
            .map_or_else(|denied| denied.status.as_u16(), |_| 200)
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn access_goes_by_address_or_token_and_never_to_a_page() {
        let token = || Access::Token(Some(Token::new("secret")));
        let (local, far) = (Some("127.0.0.1"), Some("10.0.0.7"));
        let shown = ("authorization", "Bearer secret");
        for (access, address, fields, expected) in [
            (Access::Loopback, local, vec![], 200),
            (Access::Loopback, Some("::1"), vec![], 200),
            (Access::Loopback, None, vec![], 200),
            (Access::Loopback, far, vec![], 403),
            (Access::Loopback, far, vec![shown], 403),
            (
                Access::Loopback,
                local,
                vec![("origin", "http://localhost")],
                403,
            ),
            (Access::Loopback, local, vec![("origin", "null")], 403),
            (
                Access::Loopback,
                local,
                vec![("sec-fetch-site", "cross-site")],
                403,
            ),
            (
                Access::Loopback,
                local,
                vec![("sec-fetch-site", "same-origin")],
                403,
            ),
            (
                Access::Loopback,
                local,
                vec![("sec-fetch-site", "none")],
                200,
            ),
            (token(), far, vec![shown], 200),
            (token(), far, vec![("authorization", "bearer secret")], 200),
            (token(), local, vec![], 401),
            (token(), far, vec![("authorization", "Bearer secre")], 401),
            (token(), far, vec![("authorization", "Bearer secret2")], 401),
            (token(), far, vec![("authorization", "Bearer ")], 401),
            (token(), far, vec![("authorization", "Basic secret")], 401),
            (
                token(),
                far,
                vec![("authorization", "Bearer other"), shown],
                401,
            ),
            (token(), far, vec![shown, ("origin", "http://a")], 403),
            (Access::Token(None), local, vec![shown], 403),
            (
                Access::Token(None),
                local,
                vec![("authorization", "Bearer ")],
                403,
            ),
            (Access::Off, local, vec![shown], 403),
        ] {
            assert_eq!(
                check(&access, address, &fields),
                expected,
                "{access:?} {address:?} {fields:?}"
            );
        }
    }
}
