//! Which answer an [`Ask`] gets: the API of the booking app as one pure function of the request and the store.

use http::header::{ALLOW, CONTENT_TYPE, LOCATION, VARY, WWW_AUTHENTICATE, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::data::{Kind, Refused, Store};
use super::{Ask, Own, Place, Public};
use crate::body::Body;

/// An answer before it is HTTP: what to say, and what it cost to find out.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    /// Absent: no body at all.
    json: Option<Value>,
    extra: Option<(HeaderName, HeaderValue)>,
    /// How many database queries a real app would have made.
    queries: u32,
}

/// Answers one request. A refused request has changed nothing: every check comes before the first change.
pub(super) fn answer(ask: &Ask<'_>, store: &mut Store) -> Answer {
    let Some(place) = ask.place else {
        return nowhere(ask);
    };
    if let (Place::Own(_), None) = (place, ask.user) {
        return unauthenticated();
    }
    if !place
        .allow()
        .split(", ")
        .any(|allowed| allowed == ask.method.as_str())
    {
        let detail = format!("Method \"{}\" not allowed.", ask.method);
        return Answer::detail(StatusCode::METHOD_NOT_ALLOWED, &detail);
    }
    if ask.method == Method::OPTIONS {
        let parses = ["application/json"];
        return Answer::ok(
            json!({ "name": "Booking", "renders": parses, "parses": parses }),
            0,
        );
    }
    match (place, ask.user) {
        (Place::Public(public), _) => answer_public(ask, public, store),
        (Place::Own(own), Some(user)) => answer_own(ask, own, user, store),
        (Place::Own(_), None) => unauthenticated(),
    }
}

fn answer_public(ask: &Ask<'_>, public: Public, store: &mut Store) -> Answer {
    match public {
        Public::List(kind) => page(ask, &rows(kind, store, ""), queries_per_row(kind)),
        Public::Search(kind) => {
            let wanted = ask.parameter("q").unwrap_or_default();
            page(ask, &rows(kind, store, &wanted), queries_per_row(kind))
        }
        Public::Item(kind, id) if ask.method == Method::PATCH => {
            patch(ask, kind, id, store).unwrap_or_else(|refusal| refusal)
        }
        Public::Item(kind, id) => found(store.row(kind, id), 1 + queries_per_row(kind)),
        Public::Availability(id) => found(store.availability(id), 2),
    }
}

fn answer_own(ask: &Ask<'_>, own: Own, user: &str, store: &mut Store) -> Answer {
    match (own, &ask.method) {
        (Own::Bookings, &Method::POST) => book(ask, user, store),
        (Own::Bookings, _) => page(ask, &store.bookings_of(user), 2),
        (Own::Booking(id), &Method::PATCH) => rebook(ask, user, id, store),
        (Own::Booking(id), &Method::DELETE) => match store.rebook(user, id, 0) {
            Ok(()) => Answer {
                json: None,
                ..Answer::new(StatusCode::NO_CONTENT, Value::Null, 4)
            },
            Err(_) => not_found(2),
        },
        (Own::Booking(id), _) => found(store.booking_of(user, id), 3),
        (Own::EventAnalytics(id), _) => {
            let known = store.row(Kind::Event, id);
            found(known.map(|_| store.analytics(Some(id))), 8)
        }
        (Own::Analytics, _) => Answer::ok(store.analytics(None), 14),
        // The id is the name: whoever comes as alice, by token or by session, is one user.
        (Own::Me, _) => Answer::ok(json!({ "id": user, "username": user }), 1),
    }
}

/// `PATCH` of an event, a movie or a theater.
fn patch(ask: &Ask<'_>, kind: Kind, id: u32, store: &mut Store) -> Result<Answer, Answer> {
    store.row(kind, id).ok_or_else(|| not_found(1))?;
    let fields = object(ask)?;
    let label = if kind == Kind::Theater {
        "name"
    } else {
        "title"
    };
    let name = fields
        .get(label)
        .map(|value| text(label, value))
        .transpose()?;
    let price = fields
        .get("price")
        .filter(|_| kind == Kind::Event)
        .map(cents)
        .transpose()?;

    if let Some(name) = name {
        store.rename(kind, id, name);
    }
    if let Some(price) = price {
        store.reprice(id, price);
    }
    Ok(found(store.row(kind, id), 3))
}

fn book(ask: &Ask<'_>, user: &str, store: &mut Store) -> Answer {
    let wanted = || {
        let fields = object(ask)?;
        Ok((whole("showtime", &fields)?, seats(&fields)?))
    };
    let (showtime, seats) = match wanted() {
        Ok(wanted) => wanted,
        Err(refusal) => return refusal,
    };
    match store.book(user, showtime, seats) {
        Ok(id) => Answer {
            status: StatusCode::CREATED,
            ..found(store.booking_of(user, id), 5)
        },
        Err(Refused::Unknown) => {
            let message = format!("Invalid pk \"{showtime}\" - object does not exist.");
            Answer::invalid("showtime", &message)
        }
        Err(Refused::SoldOut { left }) => sold_out(left),
    }
}

fn rebook(ask: &Ask<'_>, user: &str, id: u32, store: &mut Store) -> Answer {
    if store.booking_of(user, id).is_none() {
        return not_found(2);
    }
    let wanted = object(ask).and_then(|fields| match fields.contains_key("seats") {
        true => seats(&fields).map(Some),
        false => Ok(None),
    });
    let changed = match wanted {
        Ok(Some(seats)) => store.rebook(user, id, seats),
        Ok(None) => Ok(()),
        Err(refusal) => return refusal,
    };
    match changed {
        Ok(()) => found(store.booking_of(user, id), 5),
        Err(Refused::Unknown) => not_found(2),
        Err(Refused::SoldOut { left }) => sold_out(left),
    }
}

/// A path that names nothing: perhaps its slash is missing, as with Django's `APPEND_SLASH`.
fn nowhere(ask: &Ask<'_>) -> Answer {
    let slashed = format!("{}/", ask.path);
    // Only towards a path that exists here, so the redirect cannot be made to leave the app (`//elsewhere`).
    if Place::parse(&slashed).is_none() {
        return not_found(0);
    }
    let location = if ask.query.is_empty() {
        slashed
    } else {
        format!("{slashed}?{}", ask.query)
    };
    let location = HeaderValue::try_from(location);
    let extra = location.ok().map(|location| (LOCATION, location));
    Answer {
        json: None,
        extra,
        ..Answer::new(StatusCode::MOVED_PERMANENTLY, Value::Null, 0)
    }
}

/// One page of rows, in the shape of DRF's `PageNumberPagination`.
fn page(ask: &Ask<'_>, rows: &[Value], queries_per_row: u32) -> Answer {
    const ROWS: usize = 10;
    let last = rows.len().div_ceil(ROWS).max(1);
    let number = match ask.parameter("page") {
        None => 1,
        Some(number) => number.parse().unwrap_or(0),
    };
    if !(1..=last).contains(&number) {
        return Answer {
            queries: 1,
            ..Answer::detail(StatusCode::NOT_FOUND, "Invalid page.")
        };
    }
    let shown = rows.chunks(ROWS).nth(number - 1).unwrap_or_default();
    // One query counts, one selects, and the rest is the N+1 that this app is here to show.
    let queries = shown.iter().fold(2, |sum, _| sum + queries_per_row);
    let body = json!({
        "count": rows.len(),
        "next": (number < last).then(|| ask.link_to_page(number + 1)),
        "previous": (number > 1).then(|| ask.link_to_page(number - 1)),
        "results": shown,
    });
    Answer::ok(body, queries)
}

/// The rows of a collection that mention `wanted`.
fn rows(kind: Kind, store: &Store, wanted: &str) -> Vec<Value> {
    let wanted = wanted.to_lowercase();
    let mentions = |row: &Value| {
        let searched = ["title", "name", "city", "movie_title", "theater_name"];
        let mut texts = searched.iter().filter_map(|field| row.get(field)?.as_str());
        texts.any(|text| text.to_lowercase().contains(&wanted))
    };
    let all = (1..)
        .take(store.count(kind))
        .filter_map(|id| store.row(kind, id));
    all.filter(mentions).collect()
}

/// What a row costs beyond the query that found it: its relations, one by one.
fn queries_per_row(kind: Kind) -> u32 {
    match kind {
        Kind::Movie | Kind::Theater => 1,
        Kind::Event | Kind::Showtime => 2,
    }
}

fn object(ask: &Ask<'_>) -> Result<Map<String, Value>, Answer> {
    match serde_json::from_slice(ask.body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Answer::invalid(
            "non_field_errors",
            "Invalid data. Expected a dictionary.",
        )),
        Err(error) => {
            let detail = format!("JSON parse error - {error}");
            Err(Answer::detail(StatusCode::BAD_REQUEST, &detail))
        }
    }
}

fn text(field: &str, value: &Value) -> Result<String, Answer> {
    match value.as_str().map(str::trim) {
        None => Err(Answer::invalid(field, "Not a valid string.")),
        Some("") => Err(Answer::invalid(field, "This field may not be blank.")),
        Some(text) if text.chars().count() > 200 => Err(Answer::invalid(
            field,
            "Ensure this field has no more than 200 characters.",
        )),
        Some(text) => Ok(text.to_owned()),
    }
}

/// A price as DRF takes a decimal: a number or a string; below 1000, and rounded to two places.
fn cents(value: &Value) -> Result<u32, Answer> {
    let number = match value {
        Value::String(text) => text.parse::<f64>().ok(),
        other => other.as_f64(),
    };
    let cents = number
        .map(|number| number * 100.0)
        .filter(|cents| (0.0..100_000.0).contains(cents));
    match cents {
        // In range by the filter, so the cast cuts nothing but what rounding left.
        Some(cents) => Ok(cents.round() as u32),
        None => Err(Answer::invalid("price", "A valid number is required.")),
    }
}

fn whole(field: &str, fields: &Map<String, Value>) -> Result<u32, Answer> {
    let value = fields
        .get(field)
        .ok_or_else(|| Answer::invalid(field, "This field is required."))?;
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| Answer::invalid(field, "A valid integer is required."))
}

fn seats(fields: &Map<String, Value>) -> Result<u32, Answer> {
    match whole("seats", fields)? {
        0 => Err(Answer::invalid(
            "seats",
            "Ensure this value is greater than or equal to 1.",
        )),
        seats => Ok(seats),
    }
}

fn found(row: Option<Value>, queries: u32) -> Answer {
    row.map_or_else(|| not_found(1), |row| Answer::ok(row, queries))
}

fn not_found(queries: u32) -> Answer {
    Answer {
        queries,
        ..Answer::detail(StatusCode::NOT_FOUND, "Not found.")
    }
}

fn unauthenticated() -> Answer {
    let detail = "Authentication credentials were not provided.";
    let extra = Some((WWW_AUTHENTICATE, HeaderValue::from_static("Token")));
    Answer {
        extra,
        ..Answer::detail(StatusCode::UNAUTHORIZED, detail)
    }
}

fn sold_out(left: u32) -> Answer {
    let detail = format!("Sold out: {left} seats left.");
    Answer {
        queries: 3,
        ..Answer::detail(StatusCode::CONFLICT, &detail)
    }
}

impl Answer {
    fn new(status: StatusCode, json: Value, queries: u32) -> Self {
        Self {
            status,
            json: Some(json),
            extra: None,
            queries,
        }
    }

    fn ok(json: Value, queries: u32) -> Self {
        Self::new(StatusCode::OK, json, queries)
    }

    /// A refusal as DRF words it; no query was needed to find out.
    pub(super) fn detail(status: StatusCode, detail: &str) -> Self {
        Self::new(status, json!({ "detail": detail }), 0)
    }

    fn invalid(field: &str, message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, json!({ field: [message] }), 1)
    }

    /// How many queries it cost.
    pub(super) fn queries(&self) -> u32 {
        self.queries
    }

    /// The response, with what the app puts on every one of them. No `Cache-Control`: the proxy's rules decide.
    pub(super) fn into_response(self, allow: &'static str) -> Response<Body> {
        let mut headers = HeaderMap::new();
        headers.insert(VARY, HeaderValue::from_static("Accept, Cookie"));
        headers.insert(ALLOW, HeaderValue::from_static(allow));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(QUERY_COUNT, self.queries.into());
        headers.extend(self.extra);
        let body = self.json.map_or_else(Body::empty, |json| {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Body::from(json.to_string())
        });

        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

/// The field in which the app says how many queries an answer took.
pub(super) const QUERY_COUNT: HeaderName = HeaderName::from_static("x-query-count");
