//! What the app refuses: the refusal reaches the client as it is, and nothing is dropped for it.

use crate::support::django::{Caller, Django, tool};

/// What the app refuses: the status, who, how, where, what.
const REFUSED: [(u16, &str, &str, &str, &str); 13] = [
    (400, "alice", "POST", "/api/bookings/", r#"{"seats": 1}"#),
    (
        400,
        "alice",
        "POST",
        "/api/bookings/",
        r#"{"showtime": 999, "seats": 1}"#,
    ),
    (400, "alice", "PATCH", "/api/bookings/1/", r#"{"seats": 0}"#),
    (400, "carol", "POST", "/api/movies/", "{}"),
    (
        401,
        "",
        "POST",
        "/api/bookings/",
        r#"{"showtime": 1, "seats": 1}"#,
    ),
    (401, "zoe", "DELETE", "/api/bookings/1/", ""),
    (403, "alice", "PATCH", "/api/movies/1/", r#"{"title": "X"}"#),
    (403, "bob", "DELETE", "/api/events/1/", ""),
    (404, "bob", "PATCH", "/api/bookings/1/", r#"{"seats": 9}"#),
    (404, "carol", "DELETE", "/api/showtimes/999/", ""),
    (405, "alice", "PUT", "/api/bookings/1/", r#"{"seats": 9}"#),
    (
        409,
        "alice",
        "POST",
        "/api/bookings/",
        r#"{"showtime": 1, "seats": 99}"#,
    ),
    (
        409,
        "bob",
        "POST",
        "/api/bookings/",
        r#"{"showtime": 120, "seats": 5}"#,
    ),
];

#[tokio::test]
async fn a_refused_write_passes_unchanged_and_drops_nothing() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let pages = [
        "/api/showtimes/1/availability/",
        "/api/bookings/",
        "/api/events/",
    ];
    let alice = Caller::token("alice");
    for page in pages {
        sidecar.call("GET", page).by(&alice).send().await;
    }
    for (status, who, method, path, body) in REFUSED {
        let what = format!("{method} {path} {body} by {who}");
        let who = Caller::named(who);
        let direct = app.call(method, path).by(&who).json(body).send().await;
        assert_eq!(direct.status, status, "{what}: {}", direct.body);
        let refused = sidecar.call(method, path).by(&who).json(body).send().await;
        refused.is_as(&direct, &what);
        assert_eq!(refused.cache(), "BYPASS", "{what}");
        for page in pages {
            let read = sidecar.call("GET", page).by(&alice).send().await;
            assert_eq!(read.cache(), "HIT", "{page} after {what}");
        }
    }
}

#[tokio::test]
async fn what_is_no_json_reaches_the_app_as_it_came() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    for (kind, body, status) in [
        ("application/json", "{\"showtime\": 61, ", 400),
        ("text/plain", "showtime 61", 415),
        (
            "application/x-www-form-urlencoded",
            "showtime=61&seats=1",
            201,
        ),
    ] {
        let alice = Caller::token("alice");
        let call = |call: crate::support::client::Call| {
            call.by(&alice)
                .header("content-type", kind)
                .body(body)
                .send()
        };
        let direct = call(app.call("POST", "/api/bookings/")).await;
        let through = call(sidecar.call("POST", "/api/bookings/")).await;
        assert_eq!(
            (direct.status.as_u16(), through.status),
            (status, direct.status)
        );
        assert_eq!(through.cache(), "BYPASS");
        if status != 201 {
            through.is_as(&direct, kind);
        }
    }
    let seats = sidecar.get("/api/showtimes/61/availability/").await;
    assert_eq!(seats.value()["booked"], 2);
}

/// A machine that cannot run these tests says so: no test is skipped for it.
#[test]
fn without_python_the_tests_say_what_to_install() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-python");
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["bash", "dirname", "mkdir"] {
        let found = ["/usr/bin", "/bin"].map(|place| std::path::Path::new(place).join(name));
        let found = found.iter().find(|path| path.exists()).expect(name);
        let _ = std::os::unix::fs::symlink(found, folder.join(name));
    }
    let mut prepare = std::process::Command::new(tool("prepare"));
    let made = prepare.env("PATH", &folder).output().expect("bash");
    let told = String::from_utf8_lossy(&made.stderr);
    assert!(!made.status.success());
    assert!(told.contains("python3 is missing; install"), "{told}");
}
