//! What the app is sent: the client's head, less what is between two neighbours only, plus who asked and by which way.
//!
//! The app believes what a neighbour on the loopback tells it (gunicorn does by default), so everything that claims
//! where a request came from is replaced here unless the client's own neighbour is trusted; and a field whose name has an
//! underscore is dropped, because WSGI reads it as the same field with a hyphen, or as `SCRIPT_NAME`.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Uri, Version, request};
use ipnet::IpNet;

use crate::headers::{forwarded, hop_by_hop};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that claim how a client came, who it is or what it asked for, in all the spellings that apps and servers listen
/// to: none is part of a key, so one client's claim would be answered to all.
const CLAIMS: [HeaderName; 16] = [
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-protocol"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-user"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// Who asked, and what the app will be told about it.
#[derive(Clone, Debug)]
pub struct Client<'a> {
    /// The host that the client asked for, by a trusted neighbour's word if there is one.
    pub host: &'a str,
    /// The host of the request itself.
    own: &'a str,
    /// Whether the app is told that the client came by https.
    pub secure: bool,
    /// The address of the client's end of the connection; none on a Unix socket.
    pub peer: Option<IpAddr>,
    /// Whether what the client's neighbour says about the client is believed.
    pub trusted: bool,
}

impl<'a> Client<'a> {
    /// Who asked, by the connection and, if its other end is trusted, by what that end says.
    #[must_use]
    pub fn of(
        head: &'a request::Parts,
        peer: Option<IpAddr>,
        tls: bool,
        trusted: &[IpNet],
    ) -> Self {
        // A Unix socket has no address to trust; who may write to it is the file system's to say.
        let trusted = peer.is_none_or(|address| trusted.iter().any(|net| net.contains(&address)));
        let own = host_of(head);
        if !trusted {
            return Self {
                host: own,
                own,
                secure: tls,
                peer,
                trusted,
            };
        }
        let host = first(&head.headers, &X_FORWARDED_HOST).unwrap_or(own);
        let secure = first(&head.headers, &X_FORWARDED_PROTO)
            .map_or(tls, |proto| proto.eq_ignore_ascii_case("https"));
        Self {
            host,
            own,
            secure,
            peer,
            trusted,
        }
    }

    /// The host for keys. Which of the two names an app writes its links with is not ours to know: where they differ,
    /// both count, or a request with a made-up one would leave its links to those without.
    #[must_use]
    pub fn key_host(&self) -> Cow<'a, str> {
        if self.host.eq_ignore_ascii_case(self.own) {
            Cow::Borrowed(self.host)
        } else {
            // No host has a blank in it.
            Cow::Owned(format!("{} {}", self.host, self.own))
        }
    }

    /// The host of the request itself, which the app is asked under.
    #[must_use]
    pub const fn own_host(&self) -> &'a str {
        self.own
    }
}

/// The host that a request names: `Host`, or the authority of an absolute or an HTTP/2 target.
fn host_of(head: &request::Parts) -> &str {
    // RFC 9112 §3.2.2: an absolute target's authority wins over Host.
    head.uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| head.headers.get(header::HOST)?.to_str().ok())
        .unwrap_or_default()
}

fn first<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let value = headers.get(name)?.to_str().ok()?.split(',').next()?.trim();
    (!value.is_empty()).then_some(value)
}

/// Makes the head that the app is sent out of the client's.
///
/// The path and query stay byte for byte as they came. `keep_upgrade` keeps the fields of an upgrade.
#[must_use]
pub fn upstream_head(
    head: &request::Parts,
    client: &Client<'_>,
    keep_upgrade: bool,
) -> request::Parts {
    let mut sent = http::Request::new(()).into_parts().0;
    sent.method = head.method.clone();
    sent.uri = origin_form(&head.uri);
    sent.headers = head.headers.clone();
    let headers = &mut sent.headers;
    let upgrade = keep_upgrade.then(|| upgrade(headers)).flatten();
    let trailers = hop_by_hop::wants_trailers(headers);
    let host = host_of(head).to_owned();
    hop_by_hop::strip(headers);
    headers.remove(header::EXPECT);
    drop_underscores(headers);
    join_cookies(headers);
    set_forwarded(headers, client, &host);
    append_via(headers, head.version);
    if let Ok(host) = HeaderValue::from_str(&host) {
        headers.insert(header::HOST, host);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    } else if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    sent
}

/// The protocol that a request wants to switch to, if the app can be asked for it. What only concerns this connection (`h2c`,
/// TLS) is ignored, as RFC 9110 §7.8 allows: some clients ask for it with every request.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = hop_by_hop::upgrade(headers)?;
    let hops = ["h2c", "http/", "tls/"];
    let name = wanted.to_str().ok()?.trim().to_ascii_lowercase();
    (!hops.iter().any(|hop| name.starts_with(hop))).then_some(wanted)
}

fn origin_form(uri: &Uri) -> Uri {
    if uri.scheme().is_none() && uri.authority().is_none() {
        return uri.clone();
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    Uri::from_parts(parts).unwrap_or_default()
}

fn drop_underscores(headers: &mut HeaderMap) {
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(&name);
    }
}

/// One line of cookies (RFC 9113 §8.2.3): HTTP/2 may send one per cookie, and servers that join lines with commas would
/// make other cookies of them.
fn join_cookies(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::COOKIE);
    if lines.iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

fn set_forwarded(headers: &mut HeaderMap, client: &Client<'_>, host: &str) {
    if !client.trusted {
        CLAIMS.iter().for_each(|name| {
            headers.remove(name);
        });
    }
    let proto = if client.secure { "https" } else { "http" };
    if let Some(peer) = client.peer {
        append(headers, &X_FORWARDED_FOR, &peer.to_string());
        append(
            headers,
            &header::FORWARDED,
            &forwarded::forwarded_element(peer, host, proto),
        );
    }
    if !headers.contains_key(&X_FORWARDED_HOST)
        && let Ok(host) = HeaderValue::from_str(host)
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    // One word, the one the key was made with: an app that read another of several would answer something else.
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
}

/// Appends an element to a list field, in one line: some apps read only the first.
fn append(headers: &mut HeaderMap, name: &HeaderName, element: &str) {
    let mut list: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    list.push(element);
    if let Ok(value) = HeaderValue::try_from(list.join(", ")) {
        headers.insert(name.clone(), value);
    }
}

/// Appends this proxy to `Via` (RFC 9110 §7.6.3).
pub fn append_via(headers: &mut HeaderMap, version: Version) {
    let protocol = match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0 reprise",
        Version::HTTP_2 => "2 reprise",
        Version::HTTP_3 => "3 reprise",
        _ => "1.1 reprise",
    };
    append(headers, &header::VIA, protocol);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, lines: &[(&str, &str)]) -> request::Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn send(head: &request::Parts, trusted: &[&str]) -> HeaderMap {
        let trusted: Vec<IpNet> = trusted
            .iter()
            .map(|net| net.parse().expect("a net"))
            .collect();
        let peer = Some(IpAddr::from([10, 0, 0, 9]));
        let client = Client::of(head, peer, false, &trusted);
        upstream_head(head, &client, false).headers
    }

    #[test]
    fn a_strangers_claims_are_replaced_and_a_trusted_neighbours_kept() {
        let head = head(
            "/x",
            &[
                ("host", "shop.example"),
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "public.example"),
                ("x-forwarded-ssl", "on"),
                ("forwarded", "for=1.2.3.4"),
            ],
        );
        let stranger = send(&head, &[]);
        assert_eq!(stranger["x-forwarded-for"], "10.0.0.9");
        assert_eq!(stranger["x-forwarded-proto"], "http");
        assert_eq!(stranger["x-forwarded-host"], "shop.example");
        assert_eq!(
            stranger["forwarded"],
            "for=10.0.0.9;host=shop.example;proto=http"
        );
        assert!(!stranger.contains_key("x-forwarded-ssl"));

        let neighbour = send(&head, &["10.0.0.0/8"]);
        assert_eq!(neighbour["x-forwarded-for"], "1.2.3.4, 10.0.0.9");
        assert_eq!(neighbour["x-forwarded-proto"], "https");
        assert_eq!(neighbour["x-forwarded-host"], "public.example");
        assert_eq!(neighbour["host"], "shop.example");
    }

    #[test]
    fn what_is_between_neighbours_stays_there() {
        let sent = send(
            &head(
                "/x?b=2&a=%41",
                &[
                    ("host", "a"),
                    ("connection", "close, x-private"),
                    ("x-private", "1"),
                    ("keep-alive", "5"),
                    ("expect", "100-continue"),
                    ("script_name", "/x"),
                    ("x_forwarded_for", "1.1.1.1"),
                    ("accept", "*/*"),
                ],
            ),
            &[],
        );
        for gone in [
            "connection",
            "x-private",
            "keep-alive",
            "expect",
            "script_name",
            "x_forwarded_for",
        ] {
            assert!(!sent.contains_key(gone), "{gone}");
        }
        assert_eq!(sent["accept"], "*/*");
        assert_eq!(sent["via"], "1.1 reprise");
    }

    #[test]
    fn the_target_is_forwarded_byte_for_byte() {
        for (uri, expected) in [
            ("/a%41?b=2&a=1", "/a%41?b=2&a=1"),
            ("http://shop.example/a?x", "/a?x"),
            ("/", "/"),
        ] {
            let head = head(uri, &[("host", "a")]);
            let client = Client::of(&head, None, false, &[]);
            assert_eq!(upstream_head(&head, &client, false).uri, expected);
        }
    }
}
