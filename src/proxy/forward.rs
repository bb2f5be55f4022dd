//! What the app is sent: the client's head, less what is between two neighbours only, plus who asked and by which way.
//!
//! The app believes what a neighbour on the loopback tells it (gunicorn does by default), so everything that claims
//! where a request came from, or what it was before, is dropped from a stranger's request ([`receive`]) before anything is
//! read out of it, and said anew in [`upstream_head`]. What a trusted neighbour claims is kept: addresses as they are,
//! the host and the scheme in the one word that the key has, and everything else as a part of the key, because a neighbour
//! may pass on what his own client made up.
//!
//! A field whose name has an underscore is dropped, because WSGI reads it as the same field with a hyphen, or as
//! `SCRIPT_NAME`.
//!
//! A request made for all who may share its answer ([`for_all`]) has nothing in it that is neither a part of the key nor
//! a field that the app can name in `Vary`.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, StatusCode, Uri, Version, request};
use ipnet::IpNet;

use crate::headers::forwarded::{self, Claim};
use crate::headers::{cookie, hop_by_hop};
use crate::key::{self, QueryRules};
use crate::policy::validation;
use crate::server::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Rids a request of what the app must not be sent, before anything is read out of it: what the app does not see must
/// neither name a caller nor choose an answer.
pub fn receive(head: &mut request::Parts, peer: Option<IpAddr>, trusted: &[IpNet]) {
    let headers = &mut head.headers;
    hop_by_hop::strip_named(headers);
    let trusted = is_trusted(peer, trusted);
    let unwelcome = |name: &HeaderName| {
        let claimed = || *name != header::VIA && forwarded::claim(name).is_some();
        name.as_str().contains('_') || (!trusted && claimed())
    };
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwelcome(name))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(&name);
    }
    if headers.contains_key(header::COOKIE) && cookie::pieces(headers).next().is_none() {
        headers.remove(header::COOKIE);
    }
}

/// A Unix socket has no address to trust; who may write to it is the file system's to say.
fn is_trusted(peer: Option<IpAddr>, trusted: &[IpNet]) -> bool {
    peer.is_none_or(|address| trusted.iter().any(|net| net.contains(&address)))
}

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
    /// What else a trusted neighbour says, as keys have it; mostly nothing.
    claims: String,
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
        let trusted = is_trusted(peer, trusted);
        let own = host_of(head);
        if !trusted {
            return Self {
                host: own,
                own,
                secure: tls,
                peer,
                trusted,
                claims: String::new(),
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
            claims: claims(&head.headers),
        }
    }

    /// The host for keys. Which of the two names an app writes its links with is not ours to know: where they differ,
    /// both count, or a request with a made-up one would leave its links to those without. The same goes for the other
    /// claims of a trusted neighbour.
    #[must_use]
    pub fn key_host(&self) -> Cow<'a, str> {
        let one = self.host.eq_ignore_ascii_case(self.own);
        if one && self.claims.is_empty() {
            return Cow::Borrowed(self.host);
        }
        // No host has a blank in it; what was forwarded as one may have, and has its length before it.
        let mut text = self.own.to_owned();
        if !one {
            text += &format!(" {}:{}", self.host.len(), self.host);
        }
        Cow::Owned(text + &self.claims)
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

/// What a trusted neighbour claims beside addresses, the host and the scheme: names, and values in hexadecimal, since
/// values have case and keys of hosts have none.
fn claims(headers: &HeaderMap) -> String {
    let others = headers
        .iter()
        .filter(|(name, _)| forwarded::claim(name) == Some(Claim::Other))
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let beside = forwarded::beside_addresses(headers).map(|piece| ("forwarded", piece));
    let mut text = String::new();
    for (name, value) in others.chain(beside) {
        text += &format!(" {name}=");
        text.extend(value.iter().map(|byte| format!("{byte:02x}")));
    }
    text
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
    // Keys are made of small letters, and an app repeats in its links what it was sent (RFC 9110 §4.2.3).
    let host = host_of(head).to_ascii_lowercase();
    hop_by_hop::strip(headers);
    headers.remove(header::EXPECT);
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
/// TLS) is ignored, as RFC 9110 §7.8 allows: some clients ask for it with every request, and an app that took it up would
/// read further requests inside what is a tunnel to this proxy. One of a list would be enough for that.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = hop_by_hop::upgrade(headers)?;
    let hops = ["h2c", "http/", "tls/"];
    let names = wanted.to_str().ok()?.to_ascii_lowercase();
    let concerns_hop = |name: &str| hops.iter().any(|hop| name.trim().starts_with(hop));
    (!names.split(',').any(concerns_hop)).then_some(wanted)
}

/// Has the app's interim answers to a request handed to the client whose head this is, if it can have them (RFC 9110
/// §15.2).
pub(super) fn relay_hints<B>(head: &request::Parts, sent: &mut http::Request<B>) {
    let peer = head.extensions.get::<Peer>();
    let Some(hints) = peer.and_then(|peer| peer.hints.clone()) else {
        return;
    };
    // The expectation was met here: the app has not been told of it.
    let expects = head.headers.contains_key(header::EXPECT);
    hyper::ext::on_informational(sent, move |interim| {
        let status = interim.status();
        if status == StatusCode::SWITCHING_PROTOCOLS || (expects && status == StatusCode::CONTINUE)
        {
            return;
        }
        let mut headers = interim.headers().clone();
        hop_by_hop::strip(&mut headers);
        // RFC 9110 §8.6: it would be about a body that there is not.
        headers.remove(header::CONTENT_LENGTH);
        append_via(&mut headers, interim.version());
        hints.offer(status, &headers);
    });
}

fn origin_form(uri: &Uri) -> Uri {
    if uri.scheme().is_none() && uri.authority().is_none() {
        return uri.clone();
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    Uri::from_parts(parts).unwrap_or_default()
}

/// Makes a request for one client, as the app would be sent it, into one whose answer may be everybody's. What is part of
/// neither the key nor a variant goes: preconditions and ranges, what describes a body that is not there, and the
/// parameters that keys leave out, which an app may repeat in its links.
pub(super) fn for_all(head: &mut request::Parts, rules: &QueryRules) {
    head.method = Method::GET;
    let headers = &mut head.headers;
    let mut of_one: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("content-"))
        .cloned()
        .collect();
    of_one.extend(validation::CONDITIONS);
    of_one.extend([header::TRAILER, header::MAX_FORWARDS]);
    // No trailer is stored.
    of_one.extend([header::TE, header::CONNECTION]);
    for name in of_one {
        headers.remove(name);
    }
    // One canonical body is stored; the clients' codings are made of it.
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    let Some(query) = head.uri.query() else {
        return;
    };
    if let Cow::Owned(kept) = key::without_ignored(query, rules) {
        let mark = if kept.is_empty() { "" } else { "?" };
        let target = format!("{}{mark}{kept}", head.uri.path());
        // A part of a target is one.
        head.uri = target.parse().unwrap_or_else(|_| head.uri.clone());
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
    let proto = if client.secure { "https" } else { "http" };
    if let Some(peer) = client.peer {
        append(headers, &X_FORWARDED_FOR, &peer.to_string());
        append(
            headers,
            &header::FORWARDED,
            &forwarded::forwarded_element(peer, host, proto),
        );
    }
    // One word each, the one the key was made with: an app that read another of several would answer something else.
    if let Ok(host) = HeaderValue::from_str(&client.host.to_ascii_lowercase()) {
        headers.insert(X_FORWARDED_HOST, host);
    }
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
        let mut head = head.clone();
        receive(&mut head, peer, &trusted);
        let client = Client::of(&head, peer, false, &trusted);
        upstream_head(&head, &client, false).headers
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
