//! Every write: whoever reads after its answer sees what the app shows, and nobody what was there before.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::Sidecar;
use crate::support::django::{Caller, Django, Hold};

/// Pages that show what the writes below change, each in its own way, and as whom they are read.
const PAGES: [(&str, &[&str]); 25] = [
    ("/api/events/", &["", "alice"]),
    ("/api/events/?page=4", &["", "bob"]),
    ("/api/events/?page=5", &["alice", "bob"]),
    ("/api/events/1/", &["", "alice"]),
    ("/api/events/2/", &["", "bob"]),
    ("/api/events/41/", &["", "alice"]),
    ("/api/events/43/", &["", "bob"]),
    ("/api/events/search/?q=premiere", &["", "alice"]),
    ("/api/events/1/analytics/", &["alice", "bob"]),
    ("/api/theaters/", &[""]),
    ("/api/theaters/1/", &[""]),
    ("/api/theaters/search/?q=renamed", &[""]),
    ("/api/movies/", &[""]),
    ("/api/movies/1/", &[""]),
    ("/api/movies/search/?q=Movie", &[""]),
    ("/api/showtimes/?event=1", &[""]),
    ("/api/showtimes/1/", &[""]),
    ("/api/showtimes/61/", &[""]),
    ("/api/showtimes/121/", &[""]),
    ("/api/showtimes/search/?q=renamed", &[""]),
    ("/api/showtimes/1/availability/", &[""]),
    ("/api/showtimes/61/availability/", &[""]),
    ("/api/bookings/", &["alice", "bob", "carol"]),
    ("/api/bookings/1/", &["alice", "bob"]),
    ("/api/analytics/", &["alice", "carol"]),
];

/// Who writes, how, where, and what.
type Write = (&'static str, &'static str, &'static str, Value);

/// Sends each write through the sidecar; before it every page is stored, and after it every page is as in the app.
async fn all_is_new_after(writes: Vec<Write>) {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let mut before = pages(&app, &sidecar, "in the beginning").await;
    for (who, method, path, body) in writes {
        let call = sidecar.call(method, path).by(&Caller::named(who));
        let written = call.value(&body).send().await;
        let what = format!("after {method} {path} {body} by {who}");
        assert!(written.status.is_success(), "{what}: {}", written.body);
        assert_eq!(written.cache(), "BYPASS", "{what}");
        let after = pages(&app, &sidecar, &what).await;
        assert_ne!(before, after, "{what}: nothing that is read shows it");
        before = after;
    }
}

/// Reads every page, through the sidecar and directly, until it is stored.
async fn pages(app: &Django, sidecar: &Sidecar, when: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    for (page, callers) in PAGES {
        for caller in callers.iter().map(|name| Caller::named(name)) {
            let direct = app.call("GET", page).by(&caller).send().await;
            let what = format!("{page}, {}, {when}", caller.name);
            let read = sidecar.call("GET", page).by(&caller).send().await;
            read.is_as(&direct, &what);
            let again = sidecar.call("GET", page).by(&caller).send().await;
            again.is_as(&direct, &what);
            assert_eq!(again.cache() == "HIT", direct.status == 200, "{what}");
            bodies.push(direct.body);
        }
    }
    bodies
}

#[tokio::test]
async fn after_a_booking_is_made_changed_or_cancelled() {
    all_is_new_after(vec![
        (
            "alice",
            "POST",
            "/api/bookings/",
            json!({"showtime": 61, "seats": 2}),
        ),
        (
            "bob",
            "POST",
            "/api/bookings/",
            json!({"event": 1, "seats": 1}),
        ),
        (
            "carol",
            "POST",
            "/api/bookings/",
            json!({"showtime": 91, "seats": 3}),
        ),
        ("alice", "PATCH", "/api/bookings/1/", json!({"seats": 5})),
        ("alice", "PATCH", "/api/bookings/61/", json!({"seats": 1})),
        ("alice", "DELETE", "/api/bookings/61/", Value::Null),
        ("alice", "DELETE", "/api/bookings/1/", Value::Null),
    ])
    .await;
}

#[tokio::test]
async fn after_an_event_is_made_changed_or_deleted() {
    let event = json!({"title": "Premiere of all", "category": "film", "location": "Oslo",
                       "starts": "2027-05-01T20:00:00Z"});
    all_is_new_after(vec![
        ("bob", "POST", "/api/events/", event.clone()),
        (
            "bob",
            "PATCH",
            "/api/events/43/",
            json!({"published": false}),
        ),
        (
            "alice",
            "PATCH",
            "/api/events/1/",
            json!({"title": "Renamed"}),
        ),
        ("carol", "PUT", "/api/events/2/", event),
        (
            "alice",
            "PATCH",
            "/api/events/41/",
            json!({"published": true}),
        ),
        ("carol", "DELETE", "/api/events/43/", Value::Null),
        ("alice", "DELETE", "/api/events/1/", Value::Null),
    ])
    .await;
}

#[tokio::test]
async fn after_a_showtime_is_made_changed_or_deleted() {
    let showtime = json!({"event": 1, "movie": 1, "theater": 1, "seats": 50, "price": "9.00",
                          "starts": "2027-05-01T20:00:00Z"});
    all_is_new_after(vec![
        ("carol", "POST", "/api/showtimes/", showtime.clone()),
        (
            "carol",
            "PATCH",
            "/api/showtimes/121/",
            json!({"seats": 40}),
        ),
        (
            "carol",
            "PATCH",
            "/api/showtimes/1/",
            json!({"event": 2, "movie": 2, "theater": 2}),
        ),
        ("carol", "PUT", "/api/showtimes/61/", showtime),
        ("carol", "DELETE", "/api/showtimes/121/", Value::Null),
        ("carol", "DELETE", "/api/showtimes/1/", Value::Null),
    ])
    .await;
}

#[tokio::test]
async fn after_a_movie_is_made_changed_or_deleted() {
    let movie = json!({"title": "Renamed", "genre": "drama", "minutes": 90});
    all_is_new_after(vec![
        ("carol", "POST", "/api/movies/", movie.clone()),
        (
            "carol",
            "PATCH",
            "/api/movies/31/",
            json!({"title": "Movie 31"}),
        ),
        ("carol", "PUT", "/api/movies/1/", movie),
        ("carol", "DELETE", "/api/movies/31/", Value::Null),
        ("carol", "DELETE", "/api/movies/1/", Value::Null),
    ])
    .await;
}

#[tokio::test]
async fn after_a_theater_is_made_changed_or_deleted() {
    let theater = json!({"name": "Renamed", "city": "Oslo", "seats": 10});
    all_is_new_after(vec![
        ("carol", "POST", "/api/theaters/", theater.clone()),
        ("carol", "PUT", "/api/theaters/1/", theater),
        (
            "carol",
            "PATCH",
            "/api/theaters/1/",
            json!({"city": "Lisbon"}),
        ),
        ("carol", "DELETE", "/api/theaters/13/", Value::Null),
        ("carol", "DELETE", "/api/theaters/1/", Value::Null),
    ])
    .await;
}

#[tokio::test]
async fn a_booking_drops_what_shows_it_and_nothing_else() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let (alice, bob) = (Caller::token("alice"), Caller::token("bob"));
    for (page, after) in [
        ("/api/showtimes/61/availability/", "MISS"),
        ("/api/showtimes/61/", "MISS"),
        ("/api/showtimes/", "MISS"),
        ("/api/events/1/", "MISS"),
        ("/api/events/", "MISS"),
        ("/api/analytics/", "MISS"),
        ("/api/bookings/", "MISS"), // the target itself, whoever's (RFC 9111 §4.4)
        ("/api/bookings/2/", "HIT"),
        ("/api/showtimes/62/availability/", "HIT"),
        ("/api/events/2/", "HIT"),
        ("/api/movies/", "HIT"),
        ("/api/theaters/1/", "HIT"),
    ] {
        sidecar.call("GET", page).by(&bob).send().await;
        let order = json!({"showtime": 61, "seats": 1});
        let call = sidecar.call("POST", "/api/bookings/").by(&alice);
        assert_eq!(call.value(&order).send().await.status, 201);
        let read = sidecar.call("GET", page).by(&bob).send().await;
        assert_eq!(read.cache(), after, "{page}: {}", read.cache_status());
    }
}

#[tokio::test]
async fn two_users_each_see_their_own_bookings_at_once() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let users = ["alice", "bob"].map(Caller::token);
    for round in 1..=3 {
        for user in &users {
            let order = json!({"showtime": 60 + round, "seats": round});
            let call = sidecar.call("POST", "/api/bookings/").by(user);
            let made = call.value(&order).send().await;
            let made = made.value();
            for reader in &users {
                let last = sidecar.call("GET", "/api/bookings/?page_size=100");
                let list = last.by(reader).send().await.value();
                let own = list["results"].as_array().expect("a list");
                assert_eq!(own.contains(&made), reader.name == user.name);
                let path = format!("/api/bookings/{}/", made["id"]);
                let one = sidecar.call("GET", &path).by(reader).send().await;
                let expected = if reader.name == user.name { 200 } else { 404 };
                assert_eq!((one.status.as_u16(), &*one.cache()), (expected, "MISS"));
            }
        }
    }
}

#[tokio::test]
async fn a_cancellation_answers_204_without_a_body_and_frees_the_seats() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let alice = Caller::token("alice");
    let seats = "/api/showtimes/1/availability/";
    assert_eq!(sidecar.get(seats).await.value()["booked"], 2);
    let call = sidecar.call("PATCH", "/api/bookings/1/").by(&alice);
    let changed = call.value(&json!({"seats": 7})).send().await;
    assert_eq!(
        (changed.status.as_u16(), &*changed.cache()),
        (200, "BYPASS")
    );
    assert_eq!(sidecar.get(seats).await.value()["booked"], 7);
    let gone = sidecar.call("DELETE", "/api/bookings/1/").by(&alice);
    let gone = gone.send().await;
    gone.is(204, "", "BYPASS");
    assert!(!gone.headers.contains_key("transfer-encoding"));
    let free = sidecar.get(seats).await;
    assert_eq!(
        (&free.value()["booked"], &*free.cache()),
        (&json!(0), "MISS")
    );
}

#[tokio::test]
async fn a_fill_that_was_overtaken_by_a_write_serves_nobody_after_it() {
    let app = Django::start_with(&[("BOOKING_WORKERS", "3")]).await;
    let sidecar = app.sidecar().await;
    let page = "/api/showtimes/80/availability/";
    let hold = app.hold("seats");
    let slow = sidecar.call("GET", page).header(Hold::FIELD, hold.name());
    let mut reader = JoinSet::from_iter([slow.send()]);
    hold.held().await;

    let order = json!({"showtime": 80, "seats": 1}).to_string();
    let call = sidecar
        .call("POST", "/api/bookings/")
        .token(&"a".repeat(40));
    assert_eq!(call.json(&order).send().await.status, 201);
    for cache in ["MISS", "HIT"] {
        let read = sidecar.get(page).await;
        assert_eq!(
            (&read.value()["booked"], &*read.cache()),
            (&json!(1), cache)
        );
    }
    hold.release();
    let slow = reader.join_next().await.expect("one").expect("no panic");
    assert_eq!(slow.field("x-test-held"), "released");
    assert_eq!(slow.value()["booked"], 0); // it began before the booking
    let read = sidecar.get(page).await;
    assert_eq!(
        (&read.value()["booked"], &*read.cache()),
        (&json!(1), "HIT")
    );
}

#[tokio::test]
async fn while_a_write_is_under_way_what_it_may_change_comes_from_the_app() {
    let app = Django::start_with(&[("BOOKING_WORKERS", "3")]).await;
    let sidecar = app.sidecar().await;
    let page = "/api/showtimes/80/availability/";
    sidecar.get(page).await;
    assert_eq!(sidecar.get(page).await.cache(), "HIT");
    let hold = app.hold("booking");
    let write = sidecar
        .call("POST", "/api/bookings/")
        .token(&"a".repeat(40));
    let write = write.header(Hold::FIELD, hold.name());
    let write = write.json(r#"{"showtime": 80, "seats": 1}"#).send();
    let mut writer = JoinSet::from_iter([write]);
    hold.held().await;
    for _ in 0..2 {
        let read = sidecar.get(page).await; // committed, though nobody has been told
        assert_eq!(
            (&read.value()["booked"], &*read.cache()),
            (&json!(1), "MISS")
        );
    }
    hold.release();
    let written = writer.join_next().await.expect("one").expect("no panic");
    assert_eq!(
        (written.status.as_u16(), &*written.cache()),
        (201, "BYPASS")
    );
    for cache in ["MISS", "HIT"] {
        let read = sidecar.get(page).await;
        assert_eq!(
            (&read.value()["booked"], &*read.cache()),
            (&json!(1), cache)
        );
    }
}
