//! Fills and writes at the same time: who may be given what was asked for when.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::origin::streamed;
use crate::support::sidecar::Plan;
use crate::support::{Origin, Sidecar, reply, soon};

/// A sidecar before `/a/`, of which `/w/` is the write.
fn plan(origin: &Origin, lines: &str) -> Plan {
    origin.on("/w/", |_| reply("done"));
    Sidecar::before(origin)
        .route("/a/", &format!("ttl = \"1m\"\ntags = [\"a\"]\n{lines}"))
        .write("POST /w/", &["a"])
}

#[tokio::test]
async fn a_fill_that_began_before_a_write_is_nothing_for_who_comes_after() {
    let origin = Origin::start().await;
    origin.then("/a/", reply("old")).on("/a/", |_| reply("new"));
    let sidecar = plan(&origin, "").start().await;

    let gate = origin.hold("/a/");
    let first = sidecar.call("GET", "/a/").begin();
    gate.arrived(1).await;
    let follower = sidecar.call("GET", "/a/").begin();
    sidecar.has_in_flight(2).await;
    sidecar.post("/w/", "{}").await.is(200, "done", "BYPASS");
    let late = sidecar.call("GET", "/a/").begin();
    gate.arrived(2).await;
    gate.release();
    // Those two began before the write was acknowledged: either answer is right, but it is not stored.
    first.reply().await.is(200, "old", "MISS");
    follower.reply().await.is(200, "old", "COALESCED");
    late.reply().await.is(200, "new", "MISS");
    sidecar.get("/a/").await.is(200, "new", "HIT");
}

#[tokio::test]
async fn an_old_body_that_is_still_arriving_is_nothing_for_who_comes_after() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer).on("/a/", |_| reply("new"));
    let sidecar = plan(&origin, "").start().await;

    chunks.send("ol");
    let mut first = sidecar.call("GET", "/a/").open().await;
    assert_eq!(first.text().await, "ol");
    sidecar.post("/w/", "{}").await.is(200, "done", "BYPASS");
    sidecar.get("/a/").await.is(200, "new", "MISS");
    chunks.send("d");
    drop(chunks);
    first.read().await.is(200, "d", "MISS");
    sidecar.get("/a/").await.is(200, "new", "HIT");
}

/// Only the tags known from the request were looked at: who came after a write to a name that the app puts on its answer
/// joined a fill from before it.
#[tokio::test]
async fn a_name_on_the_answer_counts_for_who_comes_after_the_write() {
    let named = |body: &'static str| reply(body).header("cache-tag", "named");
    let origin = Origin::start().await;
    origin
        .then("/a/", named("old"))
        .on("/a/", move |_| named("new"));
    let sidecar = plan(&origin, "")
        .write("POST /n/", &["named"])
        .start()
        .await;
    origin.on("/n/", |_| reply("done"));

    let gate = origin.hold("/a/");
    let first = sidecar.call("GET", "/a/").begin();
    gate.arrived(1).await;
    sidecar.post("/n/", "{}").await.is(200, "done", "BYPASS");
    let late = sidecar.call("GET", "/a/").begin();
    sidecar.has_in_flight(2).await;
    gate.release();
    first.reply().await.is(200, "old", "MISS");
    late.reply().await.is(200, "new", "MISS");
    sidecar.get("/a/").await.is(200, "new", "HIT");
}

#[tokio::test]
async fn a_name_on_an_answer_that_is_still_arriving_counts_as_well() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin
        .then("/a/", answer.header("cache-tag", "named"))
        .on("/a/", |_| reply("new"));
    let sidecar = plan(&origin, "")
        .write("POST /n/", &["named"])
        .start()
        .await;
    origin.on("/n/", |_| reply("done"));

    chunks.send("old");
    let mut first = sidecar.call("GET", "/a/").open().await;
    assert_eq!(first.text().await, "old");
    sidecar.post("/n/", "{}").await.is(200, "done", "BYPASS");
    sidecar.get("/a/").await.is(200, "new", "MISS");
    drop(chunks);
    first.read().await.is(200, "", "MISS");
}

#[tokio::test]
async fn during_a_write_one_fill_runs_and_one_waits_however_many_read() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one"));
    let sidecar = plan(&origin, "").start().await;
    sidecar.get("/a/").await.is(200, "one", "MISS");

    let writing = origin.hold("/w/");
    let write = sidecar.call("POST", "/w/").json("{}").begin();
    writing.arrived(1).await;
    let reading = origin.hold("/a/");
    let readers: Vec<_> = (0..20)
        .map(|_| sidecar.call("GET", "/a/").begin())
        .collect();
    sidecar.has_in_flight(21).await;
    assert_eq!(origin.hits("/a/"), 2);
    reading.release();
    let mut results = HashMap::new();
    for one in readers {
        let got = one.reply().await;
        assert_eq!(got.body, "one");
        assert!(
            got.cache_status().contains("detail=dirty"),
            "{}",
            got.cache_status()
        );
        *results.entry(got.cache()).or_insert(0) += 1;
    }
    assert_eq!(
        results,
        HashMap::from([("MISS".into(), 2), ("COALESCED".into(), 18)])
    );
    assert_eq!(origin.hits("/a/"), 3);
    writing.release();
    write.reply().await.is(200, "done", "BYPASS");
    sidecar.get("/a/").await.is(200, "one", "MISS");
    sidecar.get("/a/").await.is(200, "one", "HIT");
}

#[tokio::test]
async fn what_is_stored_stays_out_of_use_until_the_last_of_two_writes_has_ended() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one"));
    origin.on("/v/", |_| reply("no").status(409));
    let sidecar = plan(&origin, "").write("POST /v/", &["a"]).start().await;
    sidecar.get("/a/").await.is(200, "one", "MISS");

    let (first, second) = (origin.hold("/w/"), origin.hold("/v/"));
    let writes = ["/w/", "/v/"].map(|path| sidecar.call("POST", path).json("{}").begin());
    first.arrived(1).await;
    second.arrived(1).await;
    let [write, refused] = writes;
    first.release();
    write.reply().await.is(200, "done", "BYPASS");
    for _ in 0..2 {
        sidecar.get("/a/").await.is(200, "one", "MISS");
    }
    second.release();
    refused.reply().await.is(409, "no", "BYPASS");
    // A refusal drops nothing: what was asked for after the first write may be used.
    sidecar.get("/a/").await.is(200, "one", "HIT");
    assert_eq!(origin.hits("/a/"), 3);
}

#[tokio::test]
async fn a_confirmation_from_before_a_write_confirms_nothing_after_it() {
    let origin = Origin::start().await;
    let old = || reply("old").header("etag", "\"1\"").cache("max-age=0");
    origin
        .then("/a/", old())
        .then("/a/", reply("").status(304).header("etag", "\"1\""));
    origin.on("/a/", |seen| {
        assert_eq!(seen.field("if-none-match"), "");
        reply("new").header("etag", "\"2\"")
    });
    let sidecar = plan(&origin, "").start().await;
    sidecar.get("/a/").await.is(200, "old", "MISS");

    let gate = origin.hold("/a/");
    let asking = sidecar.call("GET", "/a/").begin();
    gate.arrived(2).await;
    sidecar.post("/w/", "{}").await.is(200, "done", "BYPASS");
    let late = sidecar.call("GET", "/a/").begin();
    gate.arrived(3).await;
    gate.release();
    asking.reply().await.is(200, "old", "REVALIDATED");
    late.reply().await.is(200, "new", "MISS");
    sidecar.get("/a/").await.is(200, "new", "HIT");
}

#[tokio::test]
async fn a_background_refresh_from_before_a_write_refreshes_nothing_after_it() {
    let origin = Origin::start().await;
    let stale = |body: &'static str| reply(body).cache("max-age=60").header("age", "100");
    origin.then("/a/", stale("old")).then("/a/", reply("old"));
    origin.on("/a/", |_| reply("new"));
    let sidecar = plan(&origin, "stale_while_revalidate = \"1h\"")
        .start()
        .await;
    sidecar.get("/a/").await.is(200, "old", "MISS");

    let gate = origin.hold("/a/");
    sidecar.get("/a/").await.is(200, "old", "STALE");
    gate.arrived(2).await;
    sidecar.post("/w/", "{}").await.is(200, "done", "BYPASS");
    let late = sidecar.call("GET", "/a/").begin();
    gate.arrived(3).await;
    gate.release();
    late.reply().await.is(200, "new", "MISS");
    sidecar.get("/a/").await.is(200, "new", "HIT");
}

#[tokio::test]
async fn a_bounded_route_is_not_held_up_by_a_write_and_dropped_at_its_end() {
    let origin = Origin::start().await;
    origin.then("/a/", reply("old")).on("/a/", |_| reply("new"));
    let sidecar = plan(&origin, "coherence = \"bounded\"").start().await;
    sidecar.get("/a/").await.is(200, "old", "MISS");

    let gate = origin.hold("/w/");
    let write = sidecar.call("POST", "/w/").json("{}").begin();
    gate.arrived(1).await;
    sidecar.get("/a/").await.is(200, "old", "HIT");
    gate.release();
    write.reply().await.is(200, "done", "BYPASS");
    sidecar.get("/a/").await.is(200, "new", "MISS");
}

#[tokio::test]
async fn while_the_apps_database_lags_what_was_written_stays_uncached() {
    for (rule, answer) in [
        ("a", reply("done")),
        (
            "x",
            reply("done").header("cache-group-invalidation", "\"a\""),
        ),
    ] {
        let origin = Origin::start().await;
        origin.on("/a/", |_| reply("old"));
        origin.on("/b/", |_| reply("other"));
        origin.then("/l/", answer);
        let plan = plan(&origin, "").with("[coherence]\norigin_lag = \"1s\"");
        let plan = plan.route("/b/", "ttl = \"1m\"\ntags = [\"b:1\"]");
        let sidecar = plan
            .write("POST /l/", &[rule, "b:{response.id}"])
            .start()
            .await;
        sidecar.get("/b/").await.is(200, "other", "MISS");
        let written = sidecar.call("POST", "/l/").json("{}").send().await;
        written.is(200, "done", "BYPASS");
        for _ in 0..2 {
            let lagging = sidecar.get("/a/").await;
            lagging.is(200, "old", "MISS");
        }
        origin.on("/a/", |_| reply("new"));
        soon("the lag is over", async {
            while sidecar.get("/a/").await.cache() != "HIT" {}
        })
        .await;
        sidecar.get("/a/").await.is(200, "new", "HIT");
    }
}

/// A class is announced where the answer will name one member; the lag is that member's alone.
#[tokio::test]
async fn a_lag_holds_what_was_written_and_not_its_whole_class() {
    let origin = Origin::start().await;
    for path in ["/s/1/", "/s/2/"] {
        origin.on(path, move |_| reply(path));
    }
    origin.on("/w/", |_| reply("{\"id\": 1}").json());
    let sidecar = Sidecar::before(&origin)
        .route("/s/{s}/", "ttl = \"1m\"\ntags = [\"s:{s}\"]")
        .write("POST /w/", &["s:{response.id}"])
        .with("[coherence]\norigin_lag = \"1s\"")
        .start()
        .await;
    sidecar.get("/s/2/").await.is(200, "/s/2/", "MISS");
    sidecar
        .post("/w/", "{}")
        .await
        .is(200, "{\"id\": 1}", "BYPASS");
    soon("the lag is over", async {
        while sidecar.get("/s/1/").await.cache() != "HIT" {
            sidecar.get("/s/2/").await.is(200, "/s/2/", "HIT");
        }
    })
    .await;
    sidecar.get("/s/2/").await.is(200, "/s/2/", "HIT");
}

/// A 304 can say that its answer is for one alone, or set a cookie. Both were merged into what everybody is given.
#[tokio::test]
async fn a_confirmation_that_may_not_be_shared_is_not() {
    for (name, value) in [
        ("set-cookie", "sessionid=anna"),
        ("cache-control", "private"),
        ("cache-control", "no-store"),
    ] {
        let origin = Origin::start().await;
        origin.then(
            "/a/",
            reply("one").header("etag", "\"1\"").cache("max-age=0"),
        );
        let confirmed = reply("")
            .status(304)
            .header("etag", "\"1\"")
            .header(name, value);
        origin
            .then("/a/", confirmed)
            .on("/a/", |_| reply("").status(304).header("etag", "\"1\""));
        let sidecar = plan(&origin, "").start().await;
        sidecar.get("/a/").await.is(200, "one", "MISS");
        let own = sidecar.get("/a/").await;
        own.is(200, "one", "MISS");
        assert_eq!(own.field(name), value);
        let other = sidecar.get("/a/").await;
        other.is(200, "one", "REVALIDATED");
        assert_ne!(other.field(name), value);
    }
}

/// A small generator of numbers, so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The app of the checker: a version per item, committed at a random moment of the write; its lists say all versions.
#[derive(Default)]
struct Shop {
    items: [AtomicU64; ITEMS],
    /// The newest version whose write was acknowledged to a client.
    acknowledged: [AtomicU64; ITEMS],
    hits: AtomicU64,
}

const ITEMS: usize = 3;

impl Shop {
    fn versions(of: &[AtomicU64; ITEMS]) -> Vec<u64> {
        of.iter().map(|one| one.load(Ordering::SeqCst)).collect()
    }

    /// Puts the shop behind an origin.
    fn open(self: &Arc<Self>, origin: &Origin, seed: u64) {
        let dice = Arc::new(Mutex::new(Dice(seed)));
        for item in 0..ITEMS {
            let (shop, rolls) = (Arc::clone(self), Arc::clone(&dice));
            origin.on(&format!("/items/{item}/"), move |seen| {
                let roll = rolls.lock().expect("dice").roll(10);
                if seen.method == http::Method::GET {
                    let version = shop.items[item].load(Ordering::SeqCst);
                    let answer =
                        reply(version.to_string()).header("etag", &format!("\"{version}\""));
                    let answer = if roll < 3 {
                        answer.cache("max-age=0")
                    } else {
                        answer
                    };
                    return match seen.field("if-none-match") {
                        known if known == format!("\"{version}\"") => answer.status(304),
                        _ => answer,
                    };
                }
                if roll == 0 {
                    return reply("refused").status(409);
                }
                let version = shop.items[item].fetch_add(1, Ordering::SeqCst) + 1;
                reply(version.to_string()).status(if roll == 1 { 500 } else { 200 })
            });
        }
        for (path, name) in [("/list/", "x-none"), ("/named/", "cache-tag")] {
            let shop = Arc::clone(self);
            origin.on(path, move |_| {
                let versions = Self::versions(&shop.items);
                let text: Vec<_> = versions.iter().map(u64::to_string).collect();
                reply(text.join(" ")).header(name, "items")
            });
        }
    }
}

/// One client: reads and writes at random, and after each read asserts that it is not older than what had been
/// acknowledged when it began.
async fn client(sidecar: Arc<Sidecar>, shop: Arc<Shop>, seed: u64) {
    let mut dice = Dice(seed);
    for _ in 0..OPERATIONS {
        let item = dice.roll(ITEMS as u64) as usize;
        let path = format!("/items/{item}/");
        match dice.roll(10) {
            0..2 => {
                let written = sidecar.call("PUT", &path).send().await;
                if written.status != 409 {
                    let version = written.body.parse().expect("a version");
                    shop.acknowledged[item].fetch_max(version, Ordering::SeqCst);
                }
                assert_eq!(written.cache(), "BYPASS");
            }
            roll => {
                let path = match roll {
                    2..4 => "/list/",
                    4..6 => "/named/",
                    _ => &path,
                };
                let acknowledged = Shop::versions(&shop.acknowledged);
                let got = sidecar.get(path).await;
                let read: Vec<u64> = got
                    .body
                    .split(' ')
                    .map(|one| one.parse().expect("a version"))
                    .collect();
                let floor = if read.len() == 1 {
                    &acknowledged[item..=item]
                } else {
                    &acknowledged
                };
                let old = read.iter().zip(floor).any(|(read, floor)| read < floor);
                assert!(
                    !old,
                    "{path}: {read:?} after {floor:?}, {}",
                    got.cache_status()
                );
                shop.hits
                    .fetch_add(u64::from(got.cache() == "HIT"), Ordering::SeqCst);
            }
        }
        if dice.roll(3) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

const OPERATIONS: usize = 60;

async fn check(seed: u64) {
    let origin = Origin::start().await;
    let shop = Arc::new(Shop::default());
    shop.open(&origin, seed);
    let sidecar = Sidecar::before(&origin)
        .route(
            "/items/{item}/",
            "ttl = \"1m\"\ntags = [\"item:{item}\"]\nstale_while_revalidate = \"1m\"",
        )
        .route("/list/", "ttl = \"1m\"\ntags = [\"items\"]")
        .route("/named/", "ttl = \"1m\"")
        .write("PUT /items/{item}/", &["item:{item}", "items"])
        .start()
        .await;
    let sidecar = Arc::new(sidecar);
    let clients: Vec<_> = (0..8)
        .map(|client_seed| {
            let client = client(
                Arc::clone(&sidecar),
                Arc::clone(&shop),
                seed * 1000 + client_seed,
            );
            tokio::spawn(client)
        })
        .collect();
    for client in clients {
        let checked = soon("a client is done", client).await;
        assert!(checked.is_ok(), "seed {seed}");
    }
    assert!(shop.hits.load(Ordering::SeqCst) > 0, "nothing was tested");
}

/// `RACES=7..8` repeats one run, `RACES=0..500` makes many.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_after_an_acknowledged_write_is_never_older_than_it() {
    let range = std::env::var_os("RACES").unwrap_or_else(|| "0..12".into());
    let range = range.to_string_lossy();
    let (from, to) = range.split_once("..").expect("a range of seeds");
    let [from, to] = [from, to].map(|seed| seed.parse::<u64>().expect("a seed"));
    for seed in from..to {
        check(seed).await;
    }
}
