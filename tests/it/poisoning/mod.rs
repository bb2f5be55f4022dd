//! Poisoning: what one client sends never changes what the others get.
//!
//! The app of these tests puts everything it was sent into its answer, and says truthfully (`Vary`) by which fields of
//! negotiation it chose. Each attack is sent first to a fresh sidecar, and then each victim must get, byte for byte, what
//! he gets from a sidecar that nobody has attacked.

mod claims; // fields that say where a request came from

use crate::support::client::raw;
use crate::support::origin::Seen;
use crate::support::{Origin, Plan, Sidecar, reply};

/// By what the app chooses its answer, as apps do: each value is an answer of its own.
const NEGOTIATED: &str = "Accept, Accept-Language, Accept-Charset, Origin, User-Agent, Referer, X-Requested-With, Cookie, Prefer";

/// What speaks to proxies and caches, and not to the app: no app makes its answer of it.
const OF_THE_WAY: [&str; 3] = ["via", "cache-control", "pragma"];

/// Where apps of these tests can be asked, whatever the query.
const PATHS: [&str; 10] = [
    "/a/",
    "/a",
    "/A/",
    "/a/%2e",
    "/a/.",
    "/a/%00",
    "/a/;x=1",
    "/a//",
    "/%61/",
    "//evil.example/a/",
];

async fn echo() -> Origin {
    let origin = Origin::start().await;
    for path in PATHS {
        origin.on(path, |seen| {
            reply(everything(seen)).header("vary", NEGOTIATED)
        });
    }
    origin
}

/// All that the app was sent, in one order.
fn everything(seen: &Seen) -> String {
    let fields = seen.headers.iter();
    let mut fields: Vec<String> = fields
        .filter(|(name, _)| !OF_THE_WAY.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}\n", value.as_bytes().escape_ascii()))
        .collect();
    fields.sort();
    let body = String::from_utf8_lossy(&seen.body);
    format!(
        "{} {}\n{}\n{body}",
        seen.method,
        seen.target,
        fields.concat()
    )
}

/// A request in bytes.
#[derive(Clone, Copy)]
struct Asked {
    line: &'static str,
    fields: &'static [u8],
    body: &'static str,
}

const LINE: &str = "GET /a/?page=1 HTTP/1.1";
const HOST: &[u8] = b"host: shop.example\r\n";

impl Asked {
    const fn line(line: &'static str) -> Self {
        Self {
            line,
            fields: HOST,
            body: "",
        }
    }

    /// The usual request with these fields; the host is among them if `host` is not to be the usual one.
    const fn fields(fields: &'static [u8]) -> Self {
        Self {
            line: LINE,
            fields,
            body: "",
        }
    }

    async fn send(&self, sidecar: &Sidecar) -> String {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        if !self.fields.starts_with(b"host:") {
            bytes.extend(HOST);
        }
        bytes.extend(self.fields);
        if !self.fields.windows(11).any(|part| part == b"connection:") {
            bytes.extend(b"connection: close\r\n");
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body.as_bytes());
        raw(&sidecar.address, bytes).await
    }
}

/// Those who ask after the attacker: without anything, with a language, with a cookie.
const VICTIMS: [Asked; 4] = [
    Asked::line(LINE),
    Asked::fields(b"accept-language: de\r\n"),
    Asked::fields(b"accept: application/json\r\n"),
    Asked::fields(b"cookie: theme=dark\r\n"),
];

/// An answer without what is about the exchange alone.
fn answer(raw: &str) -> String {
    let (head, body) = raw.split_once("\r\n\r\n").unwrap_or((raw, ""));
    let mut lines: Vec<&str> = head
        .lines()
        .filter(|line| {
            let of_the_exchange = [
                "date:",
                "age:",
                "x-cache:",
                "cache-status:",
                "x-response-time:",
            ];
            !of_the_exchange.iter().any(|name| line.starts_with(name))
        })
        .collect();
    lines.sort_unstable();
    format!("{}\n\n{body}", lines.join("\n"))
}

/// Sends each attack to a sidecar of its own, and asserts that no victim notices.
async fn nobody_notices(plan: impl Fn(&Origin) -> Plan, attacks: &[(&str, Asked)]) {
    let origin = echo().await;
    let calm = plan(&origin).start().await;
    let mut expected = Vec::new();
    for victim in &VICTIMS {
        let first = victim.send(&calm).await;
        assert!(first.contains("x-cache: MISS\r\n"), "{first}");
        let second = victim.send(&calm).await;
        assert!(second.contains("x-cache: HIT\r\n"), "{second}");
        expected.push(answer(&second));
    }
    let mut changed = Vec::new();
    for (name, attack) in attacks {
        let sidecar = plan(&origin).start().await;
        // Twice: what is wrong may be stored by the second only, and the second may be answered from the first.
        let attacked = attack.send(&sidecar).await;
        attack.send(&sidecar).await;
        for (victim, expected) in VICTIMS.iter().zip(&expected) {
            let got = victim.send(&sidecar).await;
            if answer(&got) != *expected {
                changed.push(format!(
                    "== {name}\n{attacked}\n-- changes\n{expected}\n-- to\n{got}"
                ));
                break;
            }
        }
    }
    assert!(
        changed.is_empty(),
        "{} attacks:\n{}",
        changed.len(),
        changed.join("\n")
    );
}

fn cached(origin: &Origin) -> Plan {
    Sidecar::before(origin).route("/**", "ttl = \"1m\"")
}

#[tokio::test]
async fn method_overrides_are_no_reads() {
    nobody_notices(
        cached,
        &[
            (
                "field",
                Asked::fields(b"x-http-method-override: DELETE\r\n"),
            ),
            ("older field", Asked::fields(b"x-http-method: PUT\r\n")),
            ("other field", Asked::fields(b"x-method-override: HEAD\r\n")),
            (
                "parameter",
                Asked::line("GET /a/?page=1&_method=DELETE HTTP/1.1"),
            ),
            (
                "escaped parameter",
                Asked::line("GET /a/?page=1&%5Fmethod=DELETE HTTP/1.1"),
            ),
            ("a real HEAD", Asked::line("HEAD /a/?page=1 HTTP/1.1")),
            ("options", Asked::line("OPTIONS /a/?page=1 HTTP/1.1")),
            ("lower case", Asked::line("get /a/?page=1 HTTP/1.1")),
            ("made-up", Asked::line("GETS /a/?page=1 HTTP/1.1")),
        ],
    )
    .await;
}

/// What the app negotiates by: each value its own answer, in whatever spelling it comes.
#[tokio::test]
async fn negotiation_changes_ones_own_answer_only() {
    nobody_notices(
        cached,
        &[
            ("accept", Asked::fields(b"accept: text/evil\r\n")),
            ("accept twice", Asked::fields(b"accept: application/json\r\naccept: text/evil\r\n")),
            ("accept, version", Asked::fields(b"accept: application/json;version=EVIL\r\n")),
            ("accept, blank inside", Asked::fields(b"accept: application/ json\r\n")),
            ("accept, tab inside", Asked::fields(b"accept: application/\tjson\r\n")),
            ("language", Asked::fields(b"accept-language: evil\r\n")),
            ("language, blank inside", Asked::fields(b"accept-language: d e\r\n")),
            ("language, empty", Asked::fields(b"accept-language:\r\n")),
            ("language, long", Asked::fields(b"accept-language: de-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n")),
            ("language, not text", Asked::fields(b"accept-language: \xffde\r\n")),
            ("coding", Asked::fields(b"accept-encoding: gzip, br, evil\r\n")),
            ("coding, refused", Asked::fields(b"accept-encoding: identity;q=0\r\n")),
            ("charset", Asked::fields(b"accept-charset: evil\r\n")),
            ("origin", Asked::fields(b"origin: https://evil.example\r\n")),
            ("user agent", Asked::fields(b"user-agent: evil\r\n")),
            ("referer", Asked::fields(b"referer: https://evil.example/\r\n")),
            ("ajax", Asked::fields(b"x-requested-with: XMLHttpRequest\r\n")),
            ("prefer", Asked::fields(b"prefer: return=minimal\r\n")),
            ("connection takes a field away", Asked::fields(b"accept-language: de\r\nconnection: close, accept-language\r\n")),
            ("connection takes another away", Asked::fields(b"accept: application/json\r\nconnection: close, accept\r\n")),
            ("connection takes the cookie away", Asked::fields(b"cookie: theme=dark\r\nconnection: close, cookie\r\n")),
            ("cookie", Asked::fields(b"cookie: theme=evil\r\n")),
            ("cookie twice", Asked::fields(b"cookie: theme=dark\r\ncookie: theme=evil\r\n")),
            ("cookie, the last wins", Asked::fields(b"cookie: theme=evil; theme=dark\r\n")),
            ("cookie without a name", Asked::fields(b"cookie: evil\r\n")),
            ("cookie with an empty name", Asked::fields(b"cookie: =evil\r\n")),
            ("cookie beside junk", Asked::fields(b"cookie: theme=dark; evil\r\n")),
            ("cookie, not text", Asked::fields(b"cookie: theme=dark; evil=\xff\r\n")),
            ("cookie, not text alone", Asked::fields(b"cookie: theme=\xff\r\n")),
            ("cookie, quoted", Asked::fields(b"cookie: theme=\"dark\"\r\n")),
            ("cookie, empty", Asked::fields(b"cookie: \r\n")),
            ("cookie, only delimiters", Asked::fields(b"cookie: ;;\r\n")),
            ("session", Asked::fields(b"cookie: sessionid=evil\r\n")),
            ("empty session", Asked::fields(b"cookie: sessionid=; theme=dark\r\n")),
            ("session, not text", Asked::fields(b"cookie: sessionid=\xff\r\n")),
            ("authorization", Asked::fields(b"authorization: Token evil\r\n")),
            ("empty authorization", Asked::fields(b"authorization: \r\n")),
            ("authorization twice", Asked::fields(b"authorization: Token a\r\nauthorization: Token evil\r\n")),
        ],
    )
    .await;
}

/// A fill asks for the whole answer, for everybody: what was meant for the client's own exchange stays with the client.
#[tokio::test]
async fn what_concerns_one_exchange_is_not_asked_for_all() {
    nobody_notices(
        cached,
        &[
            ("range", Asked::fields(b"range: bytes=0-3\r\n")),
            ("ranges", Asked::fields(b"range: bytes=0-0,2-3\r\n")),
            ("range beyond", Asked::fields(b"range: bytes=99999999-\r\n")),
            ("if-range", Asked::fields(b"range: bytes=0-3\r\nif-range: \"evil\"\r\n")),
            ("if-none-match", Asked::fields(b"if-none-match: *\r\n")),
            ("if-none-match, a tag", Asked::fields(b"if-none-match: \"evil\"\r\n")),
            ("if-match", Asked::fields(b"if-match: \"evil\"\r\n")),
            ("if-modified-since", Asked::fields(b"if-modified-since: Fri, 01 Jan 2100 00:00:00 GMT\r\n")),
            ("if-unmodified-since", Asked::fields(b"if-unmodified-since: Thu, 01 Jan 1970 00:00:00 GMT\r\n")),
            ("expect", Asked::fields(b"expect: 100-continue\r\n")),
            ("unknown expectation", Asked::fields(b"expect: evil\r\n")),
            ("te", Asked::fields(b"te: trailers\r\nconnection: close, te\r\n")),
            ("te, unannounced", Asked::fields(b"te: trailers, evil\r\n")),
            ("trailer", Asked::fields(b"trailer: x-evil\r\n")),
            ("via", Asked::fields(b"via: 1.1 evil\r\n")),
            ("max-forwards", Asked::fields(b"max-forwards: 0\r\n")),
            ("no-cache", Asked::fields(b"cache-control: no-cache\r\npragma: no-cache\r\n")),
            ("no-store", Asked::fields(b"cache-control: no-store, max-age=0\r\n")),
            ("only-if-cached", Asked::fields(b"cache-control: only-if-cached\r\n")),
            ("upgrade", Asked::fields(b"upgrade: evil\r\nconnection: close, upgrade\r\n")),
            ("h2c", Asked::fields(b"upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\nconnection: upgrade, http2-settings, close\r\n")),
            ("content type without content", Asked::fields(b"content-type: application/evil\r\n")),
            ("content coding without content", Asked::fields(b"content-encoding: evil\r\n")),
            ("content of no length", Asked::fields(b"content-length: 0\r\ncontent-type: application/json\r\n")),
            ("fat get", Asked { line: LINE, fields: b"content-length: 4\r\n", body: "evil" }),
            ("fat get with a form", Asked { line: LINE, fields: b"content-type: application/x-www-form-urlencoded\r\ncontent-length: 6\r\n", body: "page=6" }),
            ("fat get in chunks", Asked { line: LINE, fields: b"transfer-encoding: chunked\r\n", body: "4\r\nevil\r\n0\r\n\r\n" }),
            ("fat get in no chunks", Asked { line: LINE, fields: b"transfer-encoding: chunked\r\n", body: "0\r\n\r\n" }),
            ("http/1.0", Asked::line("GET /a/?page=1 HTTP/1.0")),
        ],
    )
    .await;
}

/// Queries: what one app may read in another way than the key does is another entry, or has nothing in it that is not
/// part of the key.
#[tokio::test]
async fn a_query_cannot_hide_anything() {
    nobody_notices(
        cached,
        &[
            ("ignored", Asked::line("GET /a/?page=1&utm_source=evil HTTP/1.1")),
            ("ignored first", Asked::line("GET /a/?utm_source=evil&page=1 HTTP/1.1")),
            ("ignored, escaped name", Asked::line("GET /a/?%75tm_source=evil&page=1 HTTP/1.1")),
            ("ignored, no value", Asked::line("GET /a/?utm_evil&page=1 HTTP/1.1")),
            ("ignored, with a control", Asked::line("GET /a/?utm_%00evil=1&page=1 HTTP/1.1")),
            ("ignored, long", Asked::line("GET /a/?page=1&gclid=eviiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiil HTTP/1.1")),
            ("cloaked by a semicolon", Asked::line("GET /a/?page=1&utm_content=x;callback=evil HTTP/1.1")),
            ("cloaked by an escaped semicolon", Asked::line("GET /a/?page=1&utm_content=x%3Bcallback=evil HTTP/1.1")),
            ("cloaked by an escaped ampersand", Asked::line("GET /a/?page=1&utm_content=x%26callback=evil HTTP/1.1")),
            ("cloaked by a question mark", Asked::line("GET /a/?page=1&utm_content=x?callback=evil HTTP/1.1")),
            ("cloaked name", Asked::line("GET /a/?page=1&utm_x%3Dpage=evil HTTP/1.1")),
            ("two values", Asked::line("GET /a/?page=1&page=evil HTTP/1.1")),
            ("two values, turned", Asked::line("GET /a/?page=evil&page=1 HTTP/1.1")),
            ("a value in an array", Asked::line("GET /a/?page=1&page[]=evil HTTP/1.1")),
            ("capitals", Asked::line("GET /a/?PAGE=1 HTTP/1.1")),
            ("a blank", Asked::line("GET /a/?page=1+ HTTP/1.1")),
            ("another blank", Asked::line("GET /a/?page=1%20 HTTP/1.1")),
            ("nothing", Asked::line("GET /a/?page=1%00 HTTP/1.1")),
            ("a line", Asked::line("GET /a/?page=1%0d%0aevil:1 HTTP/1.1")),
            ("half an escape", Asked::line("GET /a/?page=1% HTTP/1.1")),
            ("an escape of an escape", Asked::line("GET /a/?page=%2531 HTTP/1.1")),
            ("overlong", Asked::line("GET /a/?page=%C0%B1 HTTP/1.1")),
            ("fragment", Asked::line("GET /a/?page=1#evil HTTP/1.1")),
            ("escaped fragment", Asked::line("GET /a/?page=1%23evil HTTP/1.1")),
            ("no query", Asked::line("GET /a/? HTTP/1.1")),
            ("query of a query", Asked::line("GET /a/??page=1 HTTP/1.1")),
        ],
    )
    .await;
}

/// Targets: another spelling is another entry, a bypass, or a refusal.
#[tokio::test]
async fn a_target_cannot_pass_for_another() {
    nobody_notices(
        cached,
        &[
            ("capital path", Asked::line("GET /A/?page=1 HTTP/1.1")),
            ("no slash", Asked::line("GET /a?page=1 HTTP/1.1")),
            ("dot", Asked::line("GET /a/.?page=1 HTTP/1.1")),
            ("escaped dot", Asked::line("GET /a/%2e?page=1 HTTP/1.1")),
            ("nothing", Asked::line("GET /a/%00?page=1 HTTP/1.1")),
            ("path parameter", Asked::line("GET /a/;x=1?page=1 HTTP/1.1")),
            ("two slashes", Asked::line("GET /a//?page=1 HTTP/1.1")),
            (
                "two slashes first",
                Asked::line("GET //evil.example/a/?page=1 HTTP/1.1"),
            ),
            (
                "escaped question mark",
                Asked::line("GET /a/%3Fpage=1 HTTP/1.1"),
            ),
            (
                "absolute",
                Asked::line("GET http://evil.example/a/?page=1 HTTP/1.1"),
            ),
            (
                "absolute, https",
                Asked::line("GET https://shop.example/a/?page=1 HTTP/1.1"),
            ),
            (
                "absolute, odd host",
                Asked::line("GET http://shop.example,evil/a/?page=1 HTTP/1.1"),
            ),
            (
                "absolute, user",
                Asked::line("GET http://evil@shop.example/a/?page=1 HTTP/1.1"),
            ),
            ("backslash", Asked::line("GET /a\\?page=1 HTTP/1.1")),
            ("not ascii", Asked::line("GET /a/\u{e9}?page=1 HTTP/1.1")),
            ("asterisk", Asked::line("GET * HTTP/1.1")),
        ],
    )
    .await;
}

/// The host is part of the key, and what cannot be one is refused.
#[tokio::test]
async fn a_host_cannot_pass_for_another() {
    nobody_notices(
        cached,
        &[
            ("another host", Asked::fields(b"host: evil.example\r\n")),
            ("capital host", Asked::fields(b"host: SHOP.example\r\n")),
            (
                "host with port",
                Asked::fields(b"host: shop.example:80\r\n"),
            ),
            (
                "host with another port",
                Asked::fields(b"host: shop.example:81\r\n"),
            ),
            (
                "host with half a port",
                Asked::fields(b"host: shop.example:\r\n"),
            ),
            ("host with a dot", Asked::fields(b"host: shop.example.\r\n")),
            ("no host", Asked::fields(b"host: \r\n")),
            (
                "two hosts",
                Asked::fields(b"host: shop.example\r\nhost: evil.example\r\n"),
            ),
            (
                "host and blank",
                Asked::fields(b"host: shop.example evil.example\r\n"),
            ),
            (
                "host and path",
                Asked::fields(b"host: shop.example/evil\r\n"),
            ),
            (
                "host and user",
                Asked::fields(b"host: evil@shop.example\r\n"),
            ),
            (
                "host and comma",
                Asked::fields(b"host: shop.example,evil.example\r\n"),
            ),
        ],
    )
    .await;
}

/// What the app did not understand, or would not do, for one client is not what the next one gets.
#[tokio::test]
async fn no_error_or_redirect_that_one_client_brings_about_is_kept() {
    for status in [
        300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 408, 410, 411, 412, 413, 414,
        415, 416, 417, 421, 422, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 511,
    ] {
        let origin = Origin::start().await;
        origin.on("/a/", move |seen| {
            if seen.field("x-bad").is_empty() {
                return reply("good");
            }
            let location = format!("//{}/", seen.field("x-bad"));
            reply("bad").status(status).header("location", &location)
        });
        let sidecar = cached(&origin).start().await;
        for _ in 0..3 {
            let attack = sidecar.call("GET", "/a/").header("x-bad", "evil.example");
            assert_eq!(attack.send().await.status, status);
        }
        sidecar.get("/a/").await.is(200, "good", "MISS");
        sidecar.get("/a/").await.is(200, "good", "HIT");
        let attack = sidecar.call("GET", "/a/").header("x-bad", "evil.example");
        attack.send().await.is(200, "good", "HIT");
    }
}

/// Fields so large that the app refuses them, or so large that the sidecar does: nobody else notices.
#[tokio::test]
async fn what_is_too_large_for_the_app_is_one_clients_trouble() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| {
        let size: usize = seen.headers.values().map(|value| value.len()).sum();
        if size > 8000 {
            reply("too large").status(431)
        } else {
            reply("good")
        }
    });
    for name in ["x-large", "user-agent", "cookie", "accept-language"] {
        for size in [9_000, 60_000] {
            let sidecar = cached(&origin).start().await;
            let large = format!("a={}", "x".repeat(size));
            let attack = sidecar.call("GET", "/a/").header(name, &large).send().await;
            assert_eq!(attack.status, 431, "{name} {size}");
            sidecar.get("/a/").await.is(200, "good", "MISS");
            sidecar.get("/a/").await.is(200, "good", "HIT");
        }
    }
}

/// Some frameworks take `_method` for the method: what a rule says of that method is then dropped, and what the app was
/// asked for is asked again.
#[tokio::test]
async fn a_method_in_the_target_is_a_write() {
    for (method, target) in [
        ("GET", "/a/5/?_method=DELETE"),
        ("GET", "/a/5/?x=1&%5Fmeth%6Fd=DELETE"),
        ("GET", "/a/5/?x=1;_method=DELETE"),
        ("POST", "/a/5/?_method=DELETE"),
    ] {
        let origin = Origin::start().await;
        origin
            .on("/b/", |_| reply("seats"))
            .on("/a/5/", |_| reply("done"));
        let sidecar = Sidecar::before(&origin)
            .route("/b/", "ttl = \"1m\"\ntags = [\"b\"]")
            .write("DELETE /a/{id}/", &["b"])
            .start()
            .await;
        sidecar.get("/b/").await.is(200, "seats", "MISS");
        sidecar.get("/b/").await.is(200, "seats", "HIT");
        let done = sidecar.call(method, target).send().await;
        done.is(200, "done", "BYPASS");
        sidecar.get("/b/").await.is(200, "seats", "MISS");
    }
}
