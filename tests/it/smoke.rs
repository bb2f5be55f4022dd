//! The vocabulary itself, and the shortest path through the program.

use crate::support::{Origin, Sidecar, reply};

#[tokio::test]
async fn a_second_reader_is_answered_from_memory() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one"));
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"")
        .start()
        .await;

    sidecar.get("/a/").await.is(200, "one", "MISS");
    sidecar.get("/a/").await.is(200, "one", "HIT");
    assert_eq!(origin.hits("/a/"), 1);
}

#[tokio::test]
async fn a_write_is_never_followed_by_what_was_there_before_it() {
    let origin = Origin::start().await;
    origin.then("/a/", reply("old")).on("/a/", |_| reply("new"));
    origin.on("/w/", |_| reply("done").status(201));
    let sidecar = Sidecar::before(&origin)
        .route("/a/", "ttl = \"1m\"\ntags = [\"a\"]")
        .write("POST /w/", &["a"])
        .start()
        .await;

    sidecar.get("/a/").await.is(200, "old", "MISS");
    sidecar.post("/w/", "{}").await.is(201, "done", "BYPASS");
    sidecar.get("/a/").await.is(200, "new", "MISS");
    assert_eq!(
        sidecar
            .metric("reprise_cache_invalidations_total{source=\"write\"}")
            .await,
        1.0
    );
}
