//! Who is on the other side of the proxies: Forwarded (RFC 7239), X-Forwarded-For, and all the other fields in which
//! proxies tell what a request was before it came to them.
//!
//! [`claim`] knows them by name and says what each is about. Nothing is decided here: whether they are believed, replaced
//! or part of a key is the proxy's to say.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName};

use super::{list, quote_unless_token};

/// What a field claims about a request on its way from the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// The host that the client asked for: `X-Forwarded-Host`.
    Host,
    /// Whether the client came by https: `X-Forwarded-Proto`.
    Scheme,
    /// Which proxies it passed, and so who asked: `Forwarded`, `X-Forwarded-For`, `Via`.
    Way,
    /// The client's address, in a field of one product: `X-Real-IP`, `True-Client-IP`.
    Address,
    /// Anything else by which some app or framework takes the request for another one: its port, its path, its user.
    Other,
}

/// What a field claims about a request on its way, if that is what it is for.
#[must_use]
pub fn claim(name: &HeaderName) -> Option<Claim> {
    match name.as_str() {
        "x-forwarded-host" => Some(Claim::Host),
        "x-forwarded-proto" => Some(Claim::Scheme),
        "forwarded" | "x-forwarded-for" | "via" => Some(Claim::Way),
        "x-real-ip"
        | "x-client-ip"
        | "x-forwarded"
        | "x-forwarded-ip"
        | "x-original-forwarded-for"
        | "x-cluster-client-ip"
        | "x-originating-ip"
        | "x-remote-ip"
        | "x-remote-addr"
        | "x-azure-clientip"
        | "x-azure-socketip"
        | "x-envoy-external-address"
        | "x-appengine-user-ip"
        | "true-client-ip"
        | "client-ip"
        | "cf-connecting-ip"
        | "cf-connecting-ipv6"
        | "cf-pseudo-ipv4"
        | "fastly-client-ip"
        | "fly-client-ip"
        | "do-connecting-ip" => Some(Claim::Address),
        "x-host"
        | "x-http-host"
        | "x-http-host-override"
        | "x-host-override"
        | "x-backend-host"
        | "x-scheme"
        | "x-url-scheme"
        | "x-script-name"
        | "x-path-info"
        | "x-request-uri"
        | "x-base-url"
        | "x-proxy-url"
        | "x-http-destinationurl"
        | "x-envoy-original-path"
        | "x-arr-ssl"
        | "front-end-https"
        | "cf-visitor"
        | "cloudfront-forwarded-proto" => Some(Claim::Other),
        other => ["x-forwarded-", "x-original-", "x-rewrite-"]
            .iter()
            .any(|start| other.starts_with(start))
            .then_some(Claim::Other),
    }
}

/// What Forwarded says besides addresses, piece by piece: the hosts, the schemes and whatever an extension says (RFC 7239
/// §4). Quotes are not heeded, so that nothing hides in them from an app that does not heed them either.
pub fn beside_addresses(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::FORWARDED)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| matches!(byte, b',' | b';')))
        .map(<[u8]>::trim_ascii)
        .filter(|piece| {
            let is = |name: &[u8]| {
                piece
                    .get(..name.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(name))
            };
            !piece.is_empty() && !is(b"for=") && !is(b"by=")
        })
}

/// The element this proxy adds to Forwarded (RFC 7239 §4): `for=192.0.2.1;host=example.com;proto=https`.
#[must_use]
pub fn forwarded_element(client: IpAddr, host: &str, proto: &str) -> String {
    // §6: an IPv6 address is in brackets, and so in quotes.
    let node = match client.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let (host, proto) = (quote_unless_token(host), quote_unless_token(proto));
    format!("for={node};host={host};proto={proto}")
}

/// The client's address by X-Forwarded-For: from the right, the first that is not a trusted proxy. Anyone can write
/// what is left of it, so that is not read; an element that is no address ends the search at the proxy that sent it.
#[must_use]
pub fn client_from_xff(
    headers: &HeaderMap,
    trusted: impl Fn(IpAddr) -> bool,
    peer: IpAddr,
) -> IpAddr {
    let mut client = peer.to_canonical();
    let hops: Vec<&str> = list(headers, "x-forwarded-for").collect();
    for hop in hops.into_iter().rev() {
        if !trusted(client) {
            return client;
        }
        let Some(address) = node_address(hop) else {
            return client;
        };
        client = address;
    }
    client
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn node_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()?;
    // A dual-stack listener says ::ffff:192.0.2.1 where the trusted networks say 192.0.2.0/24.
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::lines_of;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_claim_is_known_by_its_name() {
        for (name, expected) in [
            ("x-forwarded-host", Some(Claim::Host)),
            ("x-forwarded-proto", Some(Claim::Scheme)),
            ("x-forwarded-for", Some(Claim::Way)),
            ("x-real-ip", Some(Claim::Address)),
            ("x-original-forwarded-for", Some(Claim::Address)),
            ("x-forwarded-prefix", Some(Claim::Other)),
            ("x-forwarded-anything", Some(Claim::Other)),
            ("x-original-url", Some(Claim::Other)),
            ("x-rewrite-url", Some(Claim::Other)),
            ("x-forwardedness", None),
            ("x-request-id", None),
            ("accept", None),
        ] {
            assert_eq!(claim(&HeaderName::from_static(name)), expected, "{name}");
        }
    }

    #[test]
    fn what_forwarded_says_beside_addresses_cannot_hide() {
        for (line, expected) in [
            ("for=1.1.1.1", &[][..]),
            ("For=\"[::1]:80\"; BY=_x , for=2.2.2.2", &[]),
            ("for=1.1.1.1;host=a;proto=https", &["host=a", "proto=https"]),
            ("for=\"1.1.1.1;host=a\"", &["host=a\""]),
            ("for=\"1.1.1.1,host=a\"", &["host=a\""]),
            ("host=a, host=b", &["host=a", "host=b"]),
            ("fo", &["fo"]),
        ] {
            let headers = lines_of("forwarded", &[line]);
            let found: Vec<_> = beside_addresses(&headers)
                .map(|piece| str::from_utf8(piece).expect("text"))
                .collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn the_element_is_quoted_where_the_grammar_asks() {
        for (client, host, expected) in [
            (
                "192.0.2.1",
                "example.com",
                "for=192.0.2.1;host=example.com;proto=https",
            ),
            (
                "2001:db8::1",
                "example.com",
                r#"for="[2001:db8::1]";host=example.com;proto=https"#,
            ),
            (
                "::ffff:192.0.2.1",
                "example.com",
                "for=192.0.2.1;host=example.com;proto=https",
            ),
            (
                "192.0.2.1",
                "example.com:8080",
                r#"for=192.0.2.1;host="example.com:8080";proto=https"#,
            ),
            (
                "192.0.2.1",
                r#"a";for=x"#,
                r#"for=192.0.2.1;host="a\";for=x";proto=https"#,
            ),
            ("192.0.2.1", "", r#"for=192.0.2.1;host="";proto=https"#),
        ] {
            assert_eq!(forwarded_element(ip(client), host, "https"), expected);
        }
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_not_trusted() {
        let trusted = |address| {
            ["10.0.0.1", "10.0.0.2", "fd00::1"]
                .map(ip)
                .contains(&address)
        };
        for (lines, peer, expected) in [
            (&[][..], "10.0.0.1", "10.0.0.1"),
            (&["6.6.6.6"], "7.7.7.7", "7.7.7.7"),
            (&["6.6.6.6"], "10.0.0.1", "6.6.6.6"),
            (&["6.6.6.6"], "::ffff:10.0.0.1", "6.6.6.6"),
            (&["1.1.1.1, 6.6.6.6"], "10.0.0.1", "6.6.6.6"),
            (&["1.1.1.1, 6.6.6.6, 10.0.0.2"], "10.0.0.1", "6.6.6.6"),
            (&["1.1.1.1, 6.6.6.6", "10.0.0.2"], "10.0.0.1", "6.6.6.6"),
            (&["10.0.0.2"], "10.0.0.1", "10.0.0.2"),
            (&["6.6.6.6:1234"], "10.0.0.1", "6.6.6.6"),
            (&["[2001:db8::1]:80"], "fd00::1", "2001:db8::1"),
            (&["[2001:db8::1]"], "10.0.0.1", "2001:db8::1"),
            (&["2001:db8::1"], "10.0.0.1", "2001:db8::1"),
            (&["::ffff:6.6.6.6"], "10.0.0.1", "6.6.6.6"),
            (&["6.6.6.6, unknown"], "10.0.0.1", "10.0.0.1"),
            (&["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.1", "10.0.0.2"),
            (&["\"1.1.1.1, 6.6.6.6"], "10.0.0.1", "6.6.6.6"),
        ] {
            let headers = lines_of("x-forwarded-for", lines);
            assert_eq!(
                client_from_xff(&headers, trusted, ip(peer)),
                ip(expected),
                "{lines:?} from {peer}"
            );
        }
    }
}
