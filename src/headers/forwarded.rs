//! Who is on the other side of the proxies: Forwarded (RFC 7239) and X-Forwarded-For.

use std::net::{IpAddr, SocketAddr};

use http::header::HeaderMap;

use super::{list, quote_unless_token};

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
