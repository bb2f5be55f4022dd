//! Sessions and CSRF: a browser works through the sidecar as it does without one.

use serde_json::json;

use crate::support::django::{Caller, Django};

#[tokio::test]
async fn a_session_begins_books_and_ends_through_the_sidecar() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let alice = Caller::login(&sidecar.address, "alice").await;
    let me = sidecar
        .call("GET", "/api/users/me/")
        .by(&alice)
        .send()
        .await;
    me.is(200, r#"{"id":1,"username":"alice"}"#, "BYPASS");

    let order = json!({"showtime": 61, "seats": 2});
    let book = |who: Caller| {
        sidecar
            .call("POST", "/api/bookings/")
            .by(&who)
            .value(&order)
            .send()
    };
    let refused = book(alice.clone().without_csrf()).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    let booked = book(alice.clone()).await;
    assert_eq!((booked.status.as_u16(), &*booked.cache()), (201, "BYPASS"));
    for cache in ["MISS", "HIT"] {
        let list = sidecar
            .call("GET", "/api/bookings/?page=4")
            .by(&alice)
            .send()
            .await;
        assert_eq!(
            (list.value()["results"][0] == booked.value(), &*list.cache()),
            (true, cache)
        );
    }

    let out = sidecar.call("POST", "/api/logout/").by(&alice).send().await;
    out.is(204, "", "BYPASS");
    assert!(out.field("set-cookie").contains("sessionid=\"\""));
}

/// The cookie of a session that is over is worth nothing, though answers to it were stored.
#[tokio::test]
async fn after_a_logout_the_old_cookie_reads_what_nobody_reads() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let alice = Caller::login(&sidecar.address, "alice").await;
    let bob = Caller::login(&sidecar.address, "bob").await;
    let pages = [
        "/api/bookings/",
        "/api/bookings/1/",
        "/api/events/",
        "/api/events/41/",
        "/api/events/search/?q=gala",
        "/api/events/41/analytics/",
        "/api/analytics/",
    ];
    for user in [&alice, &bob] {
        for page in pages {
            sidecar.call("GET", page).by(user).send().await;
        }
    }
    assert_eq!(
        sidecar
            .call("POST", "/api/logout/")
            .by(&alice)
            .send()
            .await
            .status,
        204
    );
    for page in pages {
        let direct = app.call("GET", page).by(&alice).send().await;
        let read = sidecar.call("GET", page).by(&alice).send().await;
        read.is_as(&direct, page);
        // Nobody knows any more whose the cookie is.
        assert_eq!(read.cache(), "BYPASS", "{page}");
        let other = sidecar.call("GET", page).by(&bob).send().await;
        let direct = app.call("GET", page).by(&bob).send().await;
        other.is_as(&direct, page);
        assert_eq!(other.cache() == "HIT", direct.status == 200, "{page}");
    }
}

/// The two are two users for the sidecar; with `lookup` they would be one. What is public is new for both at once.
#[tokio::test]
async fn what_is_booked_by_token_is_seen_by_session_where_all_see_it() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let session = Caller::login(&sidecar.address, "alice").await;
    let token = Caller::token("alice");
    let seats = "/api/showtimes/61/availability/";
    for (writer, reader, booked) in [(&token, &session, 2), (&session, &token, 4)] {
        sidecar.call("GET", seats).by(reader).send().await;
        let call = sidecar.call("POST", "/api/bookings/").by(writer);
        let order = json!({"showtime": 61, "seats": 2});
        assert_eq!(call.value(&order).send().await.status, 201);
        let read = sidecar.call("GET", seats).by(reader).send().await;
        assert_eq!(read.value()["booked"], booked);
        assert_eq!(read.cache(), "MISS");
        let list = sidecar
            .call("GET", "/api/bookings/")
            .by(reader)
            .send()
            .await;
        let direct = app.call("GET", "/api/bookings/").by(reader).send().await;
        list.is_as(&direct, &reader.name);
    }
}
