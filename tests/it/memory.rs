//! What tier 1 may take, and how long it keeps.

use crate::support::{Origin, Sidecar, reply, soon};

const ENTRIES: &str = "reprise_cache_entries{tier=\"memory\"}";
const BYTES: &str = "reprise_cache_size_bytes{tier=\"memory\"}";

#[tokio::test]
async fn entries_weigh_no_more_than_they_may() {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin)
        .route("/{a}/", "ttl = \"1m\"")
        .with("[memory]\nmax_size = \"64KiB\"\nmax_entry_size = \"16KiB\"")
        .start()
        .await;
    for index in 0..100 {
        let path = format!("/{index}/");
        origin.on(&path, |_| reply(vec![b'x'; 4000]));
        sidecar.get(&path).await.is(200, &"x".repeat(4000), "MISS");
    }
    let evicted = "reprise_cache_evictions_total{cause=\"size\"}";
    soon("memory is maintained", async {
        while sidecar.metric(evicted).await < 80.0 {}
    })
    .await;
    let (bytes, entries) = (sidecar.metric(BYTES).await, sidecar.metric(ENTRIES).await);
    assert!(
        bytes <= 65536.0 && bytes >= entries * 5000.0,
        "{bytes} for {entries}"
    );
}

#[tokio::test]
async fn the_largest_answer_that_may_be_stored_is_and_one_byte_more_is_not() {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin)
        .route("/{a}/", "ttl = \"1m\"")
        .with("[memory]\nmax_entry_size = \"2KiB\"")
        .start()
        .await;
    for (length, second) in [(2048, "HIT"), (2049, "MISS")] {
        let path = format!("/{length}/");
        origin.on(&path, move |_| reply(vec![b'x'; length]));
        let body = "x".repeat(length);
        sidecar.get(&path).await.is(200, &body, "MISS");
        sidecar.get(&path).await.is(200, &body, second);
    }
}

#[tokio::test]
async fn a_key_keeps_its_newest_variants_and_no_more() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| {
        reply(seen.field("x-lang").to_owned()).header("vary", "x-lang")
    });
    let plan = Sidecar::before(&origin).route("/a/", "ttl = \"1m\"");
    let sidecar = plan.start().await;
    let ask = |lang: usize| {
        let call = sidecar.call("GET", "/a/");
        call.header("x-lang", &lang.to_string()).send()
    };
    for lang in 0..20 {
        ask(lang).await.is(200, &lang.to_string(), "MISS");
    }
    for lang in 4..20 {
        ask(lang).await.is(200, &lang.to_string(), "HIT");
    }
    let oldest = ask(0).await;
    oldest.is(200, "0", "MISS");
    assert!(oldest.cache_status().contains("fwd=vary-miss"));
}

/// The deadline of a key was that of its first entry, so that a newer one went with the old.
#[tokio::test]
async fn an_entry_is_kept_for_its_own_time_not_its_predecessors() {
    let origin = Origin::start().await;
    origin.then("/a/", reply("short").cache("max-age=1"));
    origin.on("/a/", |_| reply("long").cache("max-age=60"));
    origin.on("/w/", |_| reply("done"));
    let plan = Sidecar::before(&origin).route("/a/", "ttl = \"1m\"\ntags = [\"a\"]");
    let sidecar = plan.write("POST /w/", &["a"]).start().await;
    sidecar.get("/a/").await.is(200, "short", "MISS");
    sidecar.post("/w/", "{}").await.is(200, "done", "BYPASS");
    sidecar.get("/a/").await.is(200, "long", "MISS");
    // Another key of the same lifetime as the first entry says when that entry's time is over.
    origin.on("/b/", |_| reply("clock").cache("max-age=1"));
    let expired = "reprise_cache_evictions_total{cause=\"expired\"}";
    let plan = Sidecar::before(&origin).route("/b/", "ttl = \"1m\"");
    let clock = plan.start().await;
    clock.get("/b/").await.is(200, "clock", "MISS");
    soon("the first entry's time is over", async {
        while clock.metric(expired).await < 1.0 {}
    })
    .await;
    sidecar.get("/a/").await.is(200, "long", "HIT");
}
