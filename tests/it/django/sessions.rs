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
