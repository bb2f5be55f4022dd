//! The booking app behind `reprise demo`: something to put the proxy in front of, without installing anything.
//!
//! It answers as a Django REST Framework backend does: JSON, no `Cache-Control`, `Vary: Accept, Cookie` on
//! everything, links that embed the request's Host, N+1 queries on its lists. A "query" is a pause of a fixed
//! length, so that what a cache saves can be seen. `data` is its database, `answer` its API; this file is the
//! rest: what is asked, and serving it over TCP.

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::{self, Body, ReadError};

mod answer;
mod data;

use answer::Answer;
use data::{Kind, Store};

/// The booking app: a cheap handle to its one store.
#[derive(Clone, Debug)]
pub struct Backend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    query_time: Duration,
    /// A plain mutex: it is held while an answer is made, which is pure computation over a few hundred rows, and
    /// never across an await, because only the synchronous [`Backend::answer`] takes it.
    store: Mutex<Store>,
}

impl Backend {
    /// An app with the sample data, whose every database query takes `query_time`.
    #[must_use]
    pub fn new(query_time: Duration) -> Self {
        let store = Mutex::new(Store::sample());
        Self {
            shared: Arc::new(Shared { query_time, store }),
        }
    }

    /// Answers one request.
    ///
    /// The store is read, or written, before the time of the queries passes: as in a real app, a slow read can be
    /// answered after a write that it did not see. A proxy that stores such an answer serves the past.
    pub async fn handle(&self, head: Parts, body: Body) -> Response<Body> {
        let body = body::read_limited(body, BODY_LIMIT).await;
        let place = Place::parse(head.uri.path());
        let answer = match &body {
            Ok(body) => self.answer(&Ask::new(&head, body)),
            Err(ReadError::TooLarge) => Answer::detail(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Request body exceeds 64 KiB.",
            ),
            Err(ReadError::Broken(_)) => {
                Answer::detail(StatusCode::BAD_REQUEST, "The request body is incomplete.")
            }
        };
        let pause = self.shared.query_time * answer.queries();
        // Even a sleep of nothing goes through the timer; the tests would feel it.
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        answer.into_response(place.map_or(READ_ONLY, Place::allow))
    }

    /// Serves the app on a listener until `shutdown` resolves, then lets running requests finish, within limits.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let connections = TaskTracker::new();
        let closing = CancellationToken::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(self.clone().converse(stream, closing.clone()));
                    }
                    // Out of descriptors, most likely: accepting again at once would only spin.
                    Err(error) => {
                        tracing::warn!(%error, "the demo app could not accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        closing.cancel();
        connections.close();
        // A client that never sends the rest of its body must not hold the process.
        let _ = tokio::time::timeout(DRAIN_LIMIT, connections.wait()).await;
    }

    /// Serves one connection until it closes, or is told to after its current request.
    async fn converse(self, stream: TcpStream, closing: CancellationToken) {
        // Best effort: without it answers come later, not wrong.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request: Request<Incoming>| async {
            let (head, body) = request.into_parts();
            Ok::<_, Infallible>(self.handle(head, body.into()).await)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_LIMIT)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the demo app broke off");
        }
    }

    fn answer(&self, ask: &Ask<'_>) -> Answer {
        // A panic while it was held poisons nothing worth losing the app for: it is a demo's data.
        let mut store = self
            .shared
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        answer::answer(ask, &mut store)
    }
}

/// The largest request body that is read.
const BODY_LIMIT: usize = 64 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// Longer than the proxy keeps an idle connection (60 s), so that it is the proxy who closes one: a write that
/// meets a connection closing under it may not be sent again.
const IDLE_LIMIT: Duration = Duration::from_secs(75);

/// What one request asks: the parts of it that matter to the app.
#[derive(Debug)]
struct Ask<'a> {
    /// `HEAD` is `GET` here; hyper leaves the body out.
    method: Method,
    /// Absent when the path names nothing.
    place: Option<Place>,
    user: Option<&'a str>,
    host: &'a str,
    path: &'a str,
    query: &'a str,
    body: &'a [u8],
}

impl<'a> Ask<'a> {
    fn new(head: &'a Parts, body: &'a [u8]) -> Self {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = head.uri.authority().map(|authority| authority.as_str());
        Self {
            method: if head.method == Method::HEAD {
                Method::GET
            } else {
                head.method.clone()
            },
            place: Place::parse(head.uri.path()),
            user: user(&head.headers),
            host: authority.or(host).unwrap_or("localhost"),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            body,
        }
    }

    /// A parameter of the query, decoded.
    fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(given, _)| *given == name)
            .map(|(_, value)| decode(value))
            .next_back()
    }

    /// A link to another page of the same list, absolute as DRF's are.
    fn link_to_page(&self, number: usize) -> String {
        let rest = self
            .query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("page="));
        let mut pairs: Vec<Cow<'_, str>> = rest.map(Cow::from).collect();
        if number > 1 {
            pairs.push(format!("page={number}").into());
        }
        let mark = if pairs.is_empty() { "" } else { "?" };
        format!("http://{}{}{mark}{}", self.host, self.path, pairs.join("&"))
    }
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Public(Public),
    /// Answered only to a user.
    Own(Own),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Public {
    List(Kind),
    Search(Kind),
    Item(Kind, u32),
    Availability(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Bookings,
    Booking(u32),
    EventAnalytics(u32),
    Analytics,
    Me,
}

impl Place {
    fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix("/api/")?.strip_suffix('/')?;
        let segments: Vec<&str> = path.split('/').collect();
        Some(match segments[..] {
            ["users", "me"] => Self::Own(Own::Me),
            ["analytics"] => Self::Own(Own::Analytics),
            ["events", event, "analytics"] => Self::Own(Own::EventAnalytics(id(event)?)),
            ["bookings"] => Self::Own(Own::Bookings),
            ["bookings", booking] => Self::Own(Own::Booking(id(booking)?)),
            ["showtimes", showtime, "availability"] => {
                Self::Public(Public::Availability(id(showtime)?))
            }
            [collection] => Self::Public(Public::List(kind(collection)?)),
            [collection, "search"] => Self::Public(Public::Search(kind(collection)?)),
            [collection, item] => Self::Public(Public::Item(kind(collection)?, id(item)?)),
            _ => return None,
        })
    }

    /// The methods that may be used there, as the `Allow` field lists them.
    fn allow(self) -> &'static str {
        match self {
            Self::Public(Public::Item(Kind::Showtime, _)) => READ_ONLY,
            Self::Public(Public::Item(..)) => "GET, PATCH, HEAD, OPTIONS",
            Self::Own(Own::Bookings) => "GET, POST, HEAD, OPTIONS",
            Self::Own(Own::Booking(_)) => "GET, PATCH, DELETE, HEAD, OPTIONS",
            Self::Public(_) | Self::Own(_) => READ_ONLY,
        }
    }
}

const READ_ONLY: &str = "GET, HEAD, OPTIONS";

fn kind(collection: &str) -> Option<Kind> {
    match collection {
        "events" => Some(Kind::Event),
        "movies" => Some(Kind::Movie),
        "theaters" => Some(Kind::Theater),
        "showtimes" => Some(Kind::Showtime),
        _ => None,
    }
}

/// An id as links spell it. `007` and `+7` are nobody's: a second spelling of one row would be a second path,
/// which a rule that drops `showtime:7` does not know.
fn id(segment: &str) -> Option<u32> {
    let plain = segment.bytes().all(|byte| byte.is_ascii_digit()) && !segment.starts_with('0');
    segment.parse().ok().filter(|_| plain)
}

/// Who is asking: the text of a DRF token, else of the session cookie, is the user's name.
///
/// When there is an `Authorization`, the cookie is not looked at, whatever the scheme: the proxy takes the first
/// credential present for the identity, and an app that fell back to the second would mix two users under one.
fn user(headers: &HeaderMap) -> Option<&str> {
    let name = match headers.get(AUTHORIZATION) {
        Some(credentials) => {
            let (scheme, token) = credentials.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("token").then_some(token)?
        }
        None => headers.get_all(COOKIE).iter().find_map(|cookies| {
            let mut cookies = cookies.to_str().ok()?.split(';');
            cookies.find_map(|cookie| cookie.trim().strip_prefix("sessionid="))
        })?,
    };
    // Longer than any name: it would be kept with each booking.
    Some(name.trim()).filter(|name| (1..=64).contains(&name.len()))
}

/// Undoes the form encoding of a query value; what is not valid is left as it came.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ALLOW, LOCATION, WWW_AUTHENTICATE};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What came back, in a form that reads well in an assertion.
    struct Got {
        status: u16,
        headers: HeaderMap,
        json: Value,
    }

    impl Got {
        fn field(&self, name: impl http::header::AsHeaderName) -> &str {
            self.headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
        }

        fn queries(&self) -> u32 {
            self.field("x-query-count").parse().unwrap()
        }
    }

    fn app() -> Backend {
        Backend::new(Duration::ZERO)
    }

    /// Sends `"METHOD /path"` as a user (none: `""`).
    async fn ask(app: &Backend, user: &str, line: &str, body: impl Into<Body>) -> Got {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "cinema.test");
        if !user.is_empty() {
            request = request.header(AUTHORIZATION, format!("Token {user}"));
        }
        let (head, body) = request.body(body.into()).unwrap().into_parts();
        let (head, body) = app.handle(head, body).await.into_parts();
        let bytes = body::read_limited(body, usize::MAX).await.unwrap();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Got {
            status: head.status.as_u16(),
            headers: head.headers,
            json,
        }
    }

    async fn get(app: &Backend, path: &str) -> Got {
        ask(app, "", &format!("GET {path}"), "").await
    }

    #[tokio::test]
    async fn every_answer_looks_like_drf() {
        let app = app();
        for (path, status) in [
            ("/api/events/", 200),
            ("/api/events/1/", 200),
            ("/api/events/999/", 404),
            ("/nope/", 404),
        ] {
            let got = get(&app, path).await;
            assert_eq!(got.status, status, "{path}");
            assert_eq!(got.field("content-type"), "application/json", "{path}");
            assert_eq!(got.field("vary"), "Accept, Cookie", "{path}");
            assert!(got.headers.contains_key(ALLOW), "{path}");
            assert!(got.headers.contains_key("x-query-count"), "{path}");
            assert!(!got.headers.contains_key("cache-control"), "{path}");
        }
        assert_eq!(
            get(&app, "/api/events/0/").await.json,
            json!({ "detail": "Not found." })
        );
    }

    #[tokio::test]
    async fn lists_are_paged_by_links_to_the_host_that_was_asked() {
        let app = app();
        let first = get(&app, "/api/events/").await.json;
        assert_eq!(first["count"], 24);
        assert_eq!(first["results"].as_array().unwrap().len(), 10);
        assert_eq!(first["next"], "http://cinema.test/api/events/?page=2");
        assert_eq!(first["previous"], Value::Null);

        let last = get(&app, "/api/events/?page=3").await.json;
        assert_eq!(last["results"].as_array().unwrap().len(), 4);
        assert_eq!(last["next"], Value::Null);

        let second = get(&app, "/api/events/?x=1&page=2").await.json;
        assert_eq!(second["previous"], "http://cinema.test/api/events/?x=1");
        for bad in ["0", "4", "x", ""] {
            let got = get(&app, &format!("/api/events/?page={bad}")).await;
            assert_eq!(
                (got.status, &got.json["detail"]),
                (404, &json!("Invalid page.")),
                "{bad:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_list_costs_more_queries_than_a_detail() {
        let app = app();
        for kind in ["events", "movies", "theaters", "showtimes"] {
            let list = get(&app, &format!("/api/{kind}/")).await.queries();
            let detail = get(&app, &format!("/api/{kind}/1/")).await.queries();
            assert!(list > 2 * detail, "{kind}: {list} and {detail}");
        }
    }

    #[tokio::test]
    async fn a_search_decodes_its_words_and_ignores_case() {
        let app = app();
        for (query, count) in [
            ("GOLD+rush", 1),
            ("gold%20Rush", 1),
            ("%zz", 0),
            ("", 12),
            ("pandora%27s", 1),
        ] {
            let got = get(&app, &format!("/api/movies/search/?q={query}")).await;
            assert_eq!(got.json["count"], count, "{query}");
        }
        assert_eq!(
            get(&app, "/api/theaters/search/?q=berlin").await.json["count"],
            1
        );
        assert_eq!(
            get(&app, "/api/showtimes/search/?q=faust").await.json["count"],
            6
        );
    }

    #[tokio::test]
    async fn a_booking_takes_seats_and_gives_them_back() {
        let app = app();
        let before = get(&app, "/api/showtimes/5/availability/").await.json;
        let body = r#"{"showtime": 5, "seats": 3}"#;
        let made = ask(&app, "carol", "POST /api/bookings/", body).await;
        assert_eq!(made.status, 201);
        let expected =
            json!({"id": 5, "showtime": 5, "event": 2, "movie": 2, "seats": 3, "user": "carol"});
        assert_eq!(made.json, expected);

        let left = |json: &Value| json["available"].as_u64().unwrap();
        let after = get(&app, "/api/showtimes/5/availability/").await.json;
        assert_eq!(left(&after), left(&before) - 3);

        let changed = ask(&app, "carol", "PATCH /api/bookings/5/", r#"{"seats": 1}"#).await;
        assert_eq!((changed.status, &changed.json["seats"]), (200, &json!(1)));
        let gone = ask(&app, "carol", "DELETE /api/bookings/5/", "").await;
        assert_eq!((gone.status, gone.json), (204, Value::Null));
        assert_eq!(
            get(&app, "/api/showtimes/5/availability/").await.json,
            before
        );
    }

    #[tokio::test]
    async fn a_booking_beyond_the_last_seat_is_refused_whole() {
        let app = app();
        let too_many = ask(
            &app,
            "carol",
            "POST /api/bookings/",
            r#"{"showtime":3,"seats":3}"#,
        )
        .await;
        assert_eq!(
            (too_many.status, &too_many.json["detail"]),
            (409, &json!("Sold out: 2 seats left."))
        );
        let rest = ask(
            &app,
            "carol",
            "POST /api/bookings/",
            r#"{"showtime":3,"seats":2}"#,
        )
        .await;
        assert_eq!(rest.status, 201);
        assert_eq!(
            ask(
                &app,
                "bob",
                "POST /api/bookings/",
                r#"{"showtime":3,"seats":1}"#
            )
            .await
            .status,
            409
        );
        assert_eq!(
            ask(&app, "carol", "PATCH /api/bookings/5/", r#"{"seats":3}"#)
                .await
                .status,
            409
        );
        assert_eq!(
            get(&app, "/api/showtimes/3/availability/").await.json["available"],
            0
        );
    }

    #[tokio::test]
    async fn a_bad_booking_is_told_which_field_is_wrong() {
        let app = app();
        for (body, field) in [
            ("{", "detail"),
            ("[]", "non_field_errors"),
            ("{}", "showtime"),
            (r#"{"showtime": 999, "seats": 1}"#, "showtime"),
            (r#"{"showtime": 0, "seats": 1}"#, "showtime"),
            (r#"{"showtime": "x", "seats": 1}"#, "showtime"),
            (r#"{"showtime": 1}"#, "seats"),
            (r#"{"showtime": 1, "seats": 0}"#, "seats"),
            (r#"{"showtime": 1, "seats": -1}"#, "seats"),
            (r#"{"showtime": 1, "seats": 4294967296}"#, "seats"),
        ] {
            let got = ask(&app, "carol", "POST /api/bookings/", body).await;
            assert_eq!(got.status, 400, "{body}");
            assert!(got.json.get(field).is_some(), "{body}: {}", got.json);
        }
        let long = "x".repeat(BODY_LIMIT + 1);
        assert_eq!(
            ask(&app, "carol", "POST /api/bookings/", long).await.status,
            413
        );
    }

    #[tokio::test]
    async fn a_user_sees_only_his_own_bookings() {
        let app = app();
        assert_eq!(
            ask(&app, "alice", "GET /api/bookings/", "").await.json["count"],
            2
        );
        assert_eq!(
            ask(&app, "alice", "GET /api/bookings/1/", "").await.json["user"],
            "alice"
        );
        for method in ["GET", "PATCH", "DELETE"] {
            let got = ask(
                &app,
                "bob",
                &format!("{method} /api/bookings/1/"),
                r#"{"seats":1}"#,
            )
            .await;
            assert_eq!(got.status, 404, "{method}");
        }
        assert_eq!(
            ask(&app, "alice", "GET /api/bookings/1/", "").await.status,
            200
        );
    }

    #[tokio::test]
    async fn what_belongs_to_a_user_asks_for_credentials() {
        let app = app();
        for path in [
            "bookings/",
            "bookings/1/",
            "events/1/analytics/",
            "analytics/",
            "users/me/",
        ] {
            let got = get(&app, &format!("/api/{path}")).await;
            assert_eq!(
                (got.status, got.field(WWW_AUTHENTICATE)),
                (401, "Token"),
                "{path}"
            );
            assert_ne!(
                ask(&app, "alice", &format!("GET /api/{path}"), "")
                    .await
                    .status,
                401,
                "{path}"
            );
        }
    }

    #[test]
    fn the_first_credential_present_names_the_user() {
        for (authorization, cookie, expected) in [
            ("Token alice", "sessionid=bob", Some("alice")),
            ("token  alice ", "", Some("alice")),
            ("", "csrftoken=x; sessionid=bob", Some("bob")),
            ("Bearer alice", "sessionid=bob", None),
            ("Token", "sessionid=bob", None),
            ("", "mysessionid=bob", None),
            ("", "sessionid=", None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(AUTHORIZATION, authorization), (COOKIE, cookie)] {
                if !value.is_empty() {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            assert_eq!(user(&headers), expected, "{authorization:?} {cookie:?}");
        }
    }

    #[tokio::test]
    async fn a_patch_changes_what_the_row_and_its_relations_show() {
        let app = app();
        let event = ask(
            &app,
            "",
            "PATCH /api/events/1/",
            r#"{"title":"Gala","price":"19.99"}"#,
        )
        .await;
        assert_eq!(
            (&event.json["title"], &event.json["price"]),
            (&json!("Gala"), &json!("19.99"))
        );
        ask(&app, "", "PATCH /api/movies/1/", r#"{"title":"M"}"#).await;
        ask(&app, "", "PATCH /api/theaters/1/", r#"{"name":"Roxy"}"#).await;
        let showtime = get(&app, "/api/showtimes/1/").await.json;
        assert_eq!(
            (&showtime["movie_title"], &showtime["theater_name"]),
            (&json!("M"), &json!("Roxy"))
        );

        let refused = ask(
            &app,
            "",
            "PATCH /api/events/1/",
            r#"{"title":"Other","price":-1}"#,
        )
        .await;
        assert_eq!(refused.status, 400);
        assert_eq!(get(&app, "/api/events/1/").await.json["title"], "Gala");
        assert_eq!(
            ask(&app, "", "PATCH /api/movies/999/", r#"{"title":"M"}"#)
                .await
                .status,
            404
        );
    }

    #[tokio::test]
    async fn a_method_that_is_not_allowed_is_named() {
        let app = app();
        let got = ask(&app, "", "PUT /api/movies/1/", "{}").await;
        assert_eq!(
            (got.status, got.field(ALLOW)),
            (405, "GET, PATCH, HEAD, OPTIONS")
        );
        assert_eq!(got.json, json!({ "detail": "Method \"PUT\" not allowed." }));
        assert_eq!(
            ask(&app, "", "PATCH /api/showtimes/1/", "{}").await.status,
            405
        );
        assert_eq!(ask(&app, "", "OPTIONS /api/movies/", "").await.status, 200);
    }

    #[tokio::test]
    async fn a_missing_slash_is_added_by_a_redirect() {
        let app = app();
        let got = get(&app, "/api/events/search?q=a&page=1").await;
        assert_eq!(
            (got.status, got.field(LOCATION)),
            (301, "/api/events/search/?q=a&page=1")
        );
        assert_eq!(get(&app, "//evil.test/api/events").await.status, 404);
        assert_eq!(get(&app, "/api/events/007").await.status, 404);
    }

    #[tokio::test(start_paused = true)]
    async fn each_query_takes_its_time() {
        let app = Backend::new(Duration::from_millis(8));
        let before = tokio::time::Instant::now();
        let queries = get(&app, "/api/events/").await.queries();
        assert_eq!(queries, 22);
        assert!(before.elapsed() >= Duration::from_millis(8) * queries);
    }

    /// HEAD has the length of the body it leaves out, the connection stays open, and a shutdown closes it.
    #[tokio::test]
    async fn serves_a_connection_until_it_is_told_to_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = app().serve(listener, stop.clone().cancelled_owned());
        let client = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let asked = "HEAD /api/movies/1/ HTTP/1.1\r\nhost: a\r\n\r\n";
            let mut answer = String::new();
            for _ in 0..2 {
                stream.write_all(asked.as_bytes()).await.unwrap();
                let mut chunk = [0; 4096];
                let read = stream.read(&mut chunk).await.unwrap();
                answer = String::from_utf8_lossy(&chunk[..read]).into_owned();
            }
            stop.cancel();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            (answer, rest)
        };
        let whole = r#"{"duration":84,"id":1,"title":"Metropolis"}"#;
        let ((), (answer, rest)) = tokio::join!(server, client);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains(&format!("content-length: {}\r\n", whole.len()))
                && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
        assert!(rest.is_empty());
    }
}
