//! Attacks on a real Django behind the shipped proxy.toml: whoever asks after the attacker gets what the app itself says,
//! and so does the attacker.

use crate::support::Reply;
use crate::support::client::Call;
use crate::support::django::{Caller, Django};

/// Fields by which gunicorn, Django, DRF or something before them might take a request for another one.
const FIELDS: [(&str, &str); 22] = [
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-ssl", "on"),
    ("x-forwarded-protocol", "ssl"),
    ("x-forwarded-port", "81"),
    ("x-forwarded-for", "6.6.6.6"),
    ("x_forwarded_host", "evil.example"),
    ("x_forwarded_proto", "https"),
    ("script_name", "/evil"),
    ("path_info", "/api/users/me/"),
    ("remote_user", "alice"),
    ("http_host", "evil.example"),
    ("content_length", "9"),
    ("x-script-name", "/evil"),
    ("x-original-url", "/api/users/me/"),
    ("x-rewrite-url", "/api/users/me/"),
    ("accept", "text/evil"),
    ("accept", "text/html"),
    ("accept-language", "d e"),
    ("content-type", "application/evil"),
    ("range", "bytes=0-1"),
    ("cookie", "evil; =evil; csrftoken=evil; theme=\"\\"),
];

/// Queries that Django may read in another way than a key does.
const QUERIES: [&str; 12] = [
    "utm_source=evil",
    "page=1&utm_source=evil",
    "%75tm_source=evil",
    "utm_source=x;page=2",
    "utm_source=x%26page=2",
    "page=1&page=2",
    "page=2&page=1",
    "PAGE=2",
    "page=1%00",
    "page_size=3&page=%32",
    "_method=DELETE",
    "format=evil",
];

#[tokio::test]
async fn nobody_gets_what_another_made_django_say() {
    let app = Django::start().await;
    let alice = Caller::token("alice");
    for page in ["/api/events/", "/api/movies/"] {
        let direct = app.call("GET", page).send().await;
        let own = app.call("GET", page).by(&alice).send().await;
        for (name, value) in FIELDS {
            let sidecar = app.sidecar().await;
            sidecar.call("GET", page).header(name, value).send().await;
            for _ in 0..2 {
                let read = sidecar.call("GET", page).send().await;
                read.is_as(&direct, &format!("{page} after {name}: {value}"));
            }
            let read = sidecar.call("GET", page).by(&alice).send().await;
            read.is_as(&own, &format!("{page}, alice, after {name}: {value}"));
        }
    }
}

/// Lists repeat the query in their links: what keys leave out, the app is not asked with.
#[tokio::test]
async fn a_query_gets_what_django_makes_of_it() {
    let app = Django::start().await;
    for page in ["/api/events/", "/api/movies/"] {
        let direct = app.call("GET", page).send().await;
        for query in QUERIES {
            let sidecar = app.sidecar().await;
            let target = format!("{page}?{query}");
            let attack = sidecar.call("GET", &target).send().await;
            let read = sidecar.call("GET", page).send().await;
            read.is_as(&direct, &format!("{page} after {query}"));
            if !query.starts_with("utm_source=evil") && !query.contains("tm_source=") {
                let expected = app.call("GET", &target).send().await;
                attack.is_as(&expected, &target);
                let again = sidecar.call("GET", &target).send().await;
                again.is_as(&expected, &target);
            }
        }
    }
}

/// Ways to write a user's own pages so that they might pass for something else.
const DISGUISES: [&str; 22] = [
    "/api/users/me/x.css",
    "/api/users/me/..%2fx.css",
    "/api/users/me/%2e%2e/x.css",
    "/api/users/me;.css",
    "/api/users/me/;x.css",
    "/api/users/me%3b.css",
    "/api/users/me%00.css",
    "/api/users/me/%0d%0ax.css",
    "/api/users/me%3f.css",
    "/api/users//me/",
    "/api/users/%6de/",
    "/API/users/me/",
    "/api/bookings/..%2f1/",
    "/api/bookings/1%2f",
    "/api/bookings/1/?format=json&x=.css",
    "/api/bookings/%31/",
    "/api/movies/../bookings/1/",
    "/api/movies/..%2fbookings/1/",
    "/api/movies/%2e%2e/bookings/1/",
    "/api/movies/..;/bookings/1/",
    "/api/movies/..%252fbookings/1/",
    "/api/movies/..%c0%afbookings/1/",
];

#[tokio::test]
async fn a_page_in_disguise_is_still_its_owners() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let callers = [
        Caller::token("alice"),
        Caller::nobody(),
        Caller::token("bob"),
    ];
    for target in DISGUISES {
        for caller in callers.iter().chain(callers.iter().rev()) {
            let ask = |call: Call| call.by(caller).send();
            let direct: Reply = ask(app.call("GET", target)).await;
            let read = ask(sidecar.call("GET", target)).await;
            read.is_as(&direct, &format!("{target}, {}", caller.name));
        }
    }
}
