//! Every GET: the same answer through the sidecar as from the app, on a miss and on a hit, whoever asked first.

use std::collections::HashMap;

use crate::support::Reply;
use crate::support::Sidecar;
use crate::support::django::{Caller, Django};

/// Every kind of page, found and not found.
const PAGES: [&str; 36] = [
    "/api/events/",
    "/api/events/?page=2&page_size=15",
    "/api/events/?page=99",
    "/api/events/?slow=1",
    "/api/events/1/",
    "/api/events/41/", // a draft of alice
    "/api/events/42/", // a draft of bob
    "/api/events/999/",
    "/api/events/search/?q=concert",
    "/api/events/search/?category=film&location=Lisbon",
    "/api/events/1/analytics/",
    "/api/events/41/analytics/",
    "/api/events/nonsense/",
    "/api/theaters/",
    "/api/theaters/3/",
    "/api/theaters/999/",
    "/api/theaters/search/?q=oslo",
    "/api/movies/",
    "/api/movies/?page=2",
    "/api/movies/3/",
    "/api/movies/search/?genre=comedy",
    "/api/showtimes/",
    "/api/showtimes/?event=5",
    "/api/showtimes/5/",
    "/api/showtimes/999/",
    "/api/showtimes/search/?movie=1",
    "/api/showtimes/search/?movie=x",
    "/api/showtimes/5/availability/",
    "/api/showtimes/999/availability/",
    "/api/bookings/",
    "/api/bookings/?page=2",
    "/api/bookings/1/", // alice's
    "/api/bookings/2/", // bob's
    "/api/analytics/",
    "/api/users/me/",
    "/api/events", // 301
];

/// What the app itself says, by page and caller.
type Truth<'a> = HashMap<(&'a str, &'a str), Reply>;

#[tokio::test]
async fn every_get_is_as_from_the_app_whoever_came_first() {
    let app = Django::start().await;
    let callers = everybody(&app).await;
    let truth = truth(&app, &callers).await;

    for order in [[0, 1, 2, 3, 4, 5, 6], [6, 3, 5, 2, 4, 1, 0]] {
        let sidecar = app.sidecar().await;
        let callers: Vec<&Caller> = order.iter().map(|place| &callers[*place]).collect();
        for page in PAGES {
            for caller in &callers {
                let read = read(&sidecar, page, caller, &truth).await;
                let first = caller.name == callers[0].name;
                assert!(!(first && read.cache() == "HIT"), "{page} was never asked");
            }
        }
        for caller in callers.iter().rev() {
            for page in PAGES {
                let read = read(&sidecar, page, caller, &truth).await;
                let hit = read.status == 200 && page != "/api/users/me/";
                assert_eq!(read.cache() == "HIT", hit, "{page}, {}", caller.name);
            }
        }
    }
}

#[tokio::test]
async fn readers_who_arrive_together_each_get_their_own() {
    let app = Django::start().await;
    let callers = everybody(&app).await;
    let pages = ["/api/events/", "/api/bookings/", "/api/analytics/"];
    let truth = truth(&app, &callers).await;
    let sidecar = app.sidecar().await;
    for page in pages {
        let mut readers = tokio::task::JoinSet::new();
        for caller in callers.iter().cycle().take(24).cloned() {
            let call = sidecar.call("GET", page).by(&caller);
            readers.spawn(async move { (caller.name, call.send().await) });
        }
        let mut asked = 0;
        for (name, read) in readers.join_all().await {
            read.is_as(&truth[&(page, name.as_str())], &format!("{page}, {name}"));
            asked += i32::from(matches!(read.cache().as_str(), "MISS" | "BYPASS"));
        }
        // The refused are asked for each time: nobody's and the stranger's requests.
        let refused = if page == "/api/events/" { 3 } else { 6 };
        assert!(asked <= 8 + refused, "{page}: {asked} of 24 asked the app");
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_where_it_matters_and_sees_what_everybody_sees() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let stranger = Caller::token("zoe");
    for (page, shared) in [
        ("/api/events/", false),
        ("/api/bookings/", false),
        ("/api/movies/", true),
    ] {
        for caller in [&stranger, &Caller::token("alice")] {
            let direct = app.call("GET", page).by(caller).send().await;
            let first = sidecar.call("GET", page).by(caller).send().await;
            first.is_as(&direct, page);
            let unknown = !shared && caller.name == stranger.name;
            let cache = if unknown { "BYPASS" } else { "MISS" };
            assert_eq!(first.cache(), cache, "{page}");
        }
        let second = sidecar.call("GET", page).by(&stranger).send().await;
        let expected = if shared {
            (200, "HIT")
        } else {
            (401, "BYPASS")
        };
        assert_eq!((second.status.as_u16(), &*second.cache()), expected);
    }
}

#[tokio::test]
async fn a_page_for_people_carries_a_cookie_and_is_never_stored() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let carol = Caller::login(&app.address, "carol").await;
    for caller in [&carol, &Caller::token("carol"), &Caller::nobody()] {
        let page = sidecar.call("GET", "/api/movies/1/").by(caller);
        let page = page.header("accept", "text/html").send().await;
        assert_eq!((page.status.as_u16(), &*page.cache()), (200, "MISS"));
        assert!(page.field("set-cookie").starts_with("csrftoken="));
        let named = page.body.contains(">carol<");
        assert_eq!(named, caller.name.contains("carol"), "{}", caller.name);
    }
    let json = sidecar.get("/api/movies/1/").await;
    json.is_as(&app.call("GET", "/api/movies/1/").send().await, "JSON");
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let alice = Caller::token("alice");
    for page in ["/api/events/", "/api/bookings/", "/api/showtimes/5/"] {
        let direct = app.call("HEAD", page).by(&alice).send().await;
        for cache in ["MISS", "HIT"] {
            let head = sidecar.call("HEAD", page).by(&alice).send().await;
            head.is_as(&direct, page);
            assert_eq!(head.cache(), cache, "{page}");
            // A HEAD stores nothing, what a GET has stored answers it.
            sidecar.call("GET", page).by(&alice).send().await;
        }
    }
}

async fn everybody(app: &Django) -> Vec<Caller> {
    let mut all = vec![Caller::nobody()];
    all.extend(["alice", "bob", "carol"].map(Caller::token));
    for name in ["alice", "bob", "carol"] {
        all.push(Caller::login(&app.address, name).await);
    }
    all.push(Caller::token("zoe")); // a token of nobody
    all
}

async fn truth<'a>(app: &Django, callers: &'a [Caller]) -> Truth<'a> {
    let mut truth = Truth::new();
    for page in PAGES {
        for caller in callers {
            let said = app.call("GET", page).by(caller).send().await;
            truth.insert((page, caller.name.as_str()), said);
        }
    }
    truth
}

/// Asks the sidecar, and compares with what the app said.
async fn read(sidecar: &Sidecar, page: &'static str, caller: &Caller, truth: &Truth<'_>) -> Reply {
    let read = sidecar.call("GET", page).by(caller).send().await;
    let what = format!("{page}, {}: {}", caller.name, read.cache_status());
    let said = &truth[&(page, caller.name.as_str())];
    read.is_as(said, &what);
    let asked = if read.cache() == "HIT" {
        ""
    } else {
        &said.field("x-query-count")
    };
    assert_eq!(read.field("x-query-count"), *asked, "{what}");
    read
}
