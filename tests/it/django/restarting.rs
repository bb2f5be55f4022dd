//! Many readers and writers at once, and an app that dies among them: no read is older than a booking's answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::client::Call;
use crate::support::django::{Caller, Django};
use crate::support::{Reply, Sidecar, eventually, soon};

/// What one showtime must show: no seat less than was acknowledged, none more than was asked for.
struct Ledger {
    address: String,
    showtime: u64,
    acknowledged: AtomicU64,
    asked: AtomicU64,
    over: AtomicBool,
    hits: AtomicU64,
    failures: AtomicU64,
}

impl Ledger {
    fn of(sidecar: &Sidecar, showtime: u64) -> Arc<Self> {
        Arc::new(Self {
            address: sidecar.address.clone(),
            showtime,
            acknowledged: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            over: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// Books a seat; whether it was acknowledged.
    async fn book(&self, user: &Caller) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let order = json!({"showtime": self.showtime, "seats": 1});
        let call = Call::new(&self.address, "POST", "/api/bookings/");
        let made = call.by(user).value(&order).attempt().await;
        let Some(made) = self.answered(made).await else {
            return false;
        };
        assert_eq!(made.status, 201, "{}", made.body);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Reads one of the pages that show the seats, and compares.
    async fn read(&self, page: &str) {
        let least = self.acknowledged.load(Ordering::SeqCst);
        let path = page.replace("{}", &format!("/api/showtimes/{}", self.showtime));
        let read = Call::new(&self.address, "GET", &path).attempt().await;
        let most = self.asked.load(Ordering::SeqCst);
        let Some(read) = self.answered(read).await else {
            return;
        };
        assert_eq!(read.status, 200, "{}", read.body);
        let booked = read.value()["booked"].as_u64().expect("a number");
        let how = format!("{path}: {} {}", read.cache(), read.cache_status());
        assert!(
            (least..=most).contains(&booked),
            "{least} <= {booked} <= {most}: {how}"
        );
        self.hits
            .fetch_add(u64::from(read.cache() == "HIT"), Ordering::SeqCst);
    }

    /// What the app said; `None` if it was not there: no answer, half of one, or the sidecar's word that it is missed.
    async fn answered(&self, reply: Option<Reply>) -> Option<Reply> {
        let missed = |reply: &Reply| (502..=504).contains(&reply.status.as_u16());
        if let Some(reply) = reply.filter(|reply| !missed(reply)) {
            return Some(reply);
        }
        self.failures.fetch_add(1, Ordering::SeqCst);
        // As clients do: the app is not to come back to thousands of attempts.
        tokio::time::sleep(Duration::from_millis(20)).await;
        None
    }

    /// Reads all pages, over and over, until the writers are done.
    async fn watch(self: Arc<Self>) {
        while !self.over.load(Ordering::SeqCst) {
            for page in ["{}/availability/", "{}/", "{}/availability/"] {
                self.read(page).await;
            }
        }
    }

    /// Books so many seats one after the other.
    async fn sell(self: Arc<Self>, user: Caller, seats: usize) {
        for _ in 0..seats {
            self.book(&user).await;
            for _ in 0..6 {
                self.read("{}/availability/").await;
            }
        }
    }
}

/// How many one seller sells.
const SEATS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_sees_fewer_seats_taken_than_were_acknowledged() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let ledgers = [61, 91].map(|showtime| Ledger::of(&sidecar, showtime));
    let (mut sellers, mut watchers) = (JoinSet::new(), JoinSet::new());
    for (ledger, name) in ledgers.iter().zip(["alice", "bob"]) {
        sellers.spawn(Arc::clone(ledger).sell(Caller::token(name), SEATS));
        sellers.spawn(Arc::clone(ledger).sell(Caller::token("carol"), SEATS));
        for _ in 0..3 {
            watchers.spawn(Arc::clone(ledger).watch());
        }
    }
    soon("the seats are sold", sellers.join_all()).await;
    let mut hits = 0;
    for ledger in &ledgers {
        ledger.over.store(true, Ordering::SeqCst);
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        assert_eq!(count(&ledger.acknowledged), 2 * SEATS as u64);
        assert_eq!(count(&ledger.failures), 0);
        hits += count(&ledger.hits);
    }
    assert!(hits > 0, "nothing came from the cache");
    watchers.join_all().await;
}

/// One user books, looks, cancels, looks: what he did is what he sees, whatever the others do meanwhile.
async fn come_and_go(address: String, user: Caller, showtime: u64) {
    let call = |method: &str, path: &str| Call::new(&address, method, path).by(&user);
    let order = json!({"showtime": showtime, "seats": 2});
    for _ in 0..8 {
        let made = call("POST", "/api/bookings/").value(&order).send().await;
        let id = made.value()["id"].clone();
        let path = format!("/api/bookings/{id}/");
        for (method, body, seats) in [
            ("PATCH", json!({"seats": 3}), Some(3)),
            ("PATCH", json!({"seats": 1}), Some(1)),
            ("DELETE", Value::Null, None),
        ] {
            let changed = call(method, &path).value(&body).send().await;
            assert!(changed.status.is_success(), "{}", changed.body);
            for _ in 0..2 {
                let list = call("GET", "/api/bookings/?page_size=100")
                    .send()
                    .await
                    .value();
                let rows = list["results"].as_array().expect("a list");
                let row = rows.iter().find(|row| row["id"] == id);
                assert_eq!(
                    row.map(|row| &row["seats"]),
                    seats.map(Value::from).as_ref()
                );
                let one = call("GET", &path).send().await;
                assert_eq!(one.status == 200, seats.is_some(), "{}", one.cache_status());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_sees_what_he_did_himself_among_many() {
    let app = Django::start().await;
    let sidecar = app.sidecar().await;
    let mut users = JoinSet::new();
    for (name, showtime) in [("alice", 61), ("bob", 61), ("carol", 62)] {
        users.spawn(come_and_go(
            sidecar.address.clone(),
            Caller::token(name),
            showtime,
        ));
    }
    soon("they are done", users.join_all()).await;
    for showtime in [61, 62] {
        let seats = sidecar
            .get(&format!("/api/showtimes/{showtime}/availability/"))
            .await;
        assert_eq!(seats.value()["booked"], 0, "{}", seats.cache_status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_dies_under_load_comes_back_by_itself_and_nothing_old_with_it() {
    let mut app = Django::start().await;
    let sidecar = app.sidecar().await;
    let ledger = Ledger::of(&sidecar, 61);
    let (mut sellers, mut watchers) = (JoinSet::new(), JoinSet::new());
    for name in ["alice", "bob"] {
        sellers.spawn(sell_until_over(Arc::clone(&ledger), Caller::token(name)));
        watchers.spawn(Arc::clone(&ledger).watch());
    }
    for round in 1..=2 {
        sold(&ledger, 5).await;
        app.kill();
        failed(&ledger, round * 10).await;
        app.start_again().await;
        sold(&ledger, 5).await;
    }
    ledger.over.store(true, Ordering::SeqCst);
    soon("they are done", sellers.join_all()).await;
    watchers.join_all().await;
    for page in [
        "/api/showtimes/61/availability/",
        "/api/showtimes/?event=1",
        "/api/events/1/",
    ] {
        let direct = app.call("GET", page).send().await;
        sidecar.get(page).await.is_as(&direct, page);
    }
}

async fn sell_until_over(ledger: Arc<Ledger>, user: Caller) {
    let sold = || ledger.acknowledged.load(Ordering::SeqCst);
    while !ledger.over.load(Ordering::SeqCst) && sold() < 60 {
        ledger.book(&user).await;
        for _ in 0..3 {
            ledger.read("{}/availability/").await;
        }
    }
}

/// Waits until so many more bookings have been acknowledged.
async fn sold(ledger: &Ledger, more: u64) {
    let goal = ledger.acknowledged.load(Ordering::SeqCst) + more;
    let sold = || ledger.acknowledged.load(Ordering::SeqCst) >= goal;
    eventually("bookings go through", sold).await;
}

/// Waits until so many requests have failed.
async fn failed(ledger: &Ledger, count: u64) {
    let failed = || ledger.failures.load(Ordering::SeqCst) >= count;
    eventually("the app is missed", failed).await;
}
