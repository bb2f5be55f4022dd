//! Readers that leave, apps that break off, bodies too large to keep.

use crate::support::origin::{Scripted, streamed};
use crate::support::{Origin, Sidecar, eventually, reply};

/// A sidecar before `/a/` that stores at most this much of an answer.
async fn sidecar(origin: &Origin, max_entry_size: &str) -> Sidecar {
    Sidecar::before(origin)
        .route("/a/", "ttl = \"1m\"\ntags = [\"a\"]")
        .write("POST /w/", &["a"])
        .with(&format!("[memory]\nmax_entry_size = \"{max_entry_size}\""))
        .start()
        .await
}

#[tokio::test]
async fn a_fill_outlives_the_reader_who_began_it() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer);
    let sidecar = sidecar(&origin, "1MiB").await;

    chunks.send("one");
    let mut first = sidecar.call("GET", "/a/").open().await;
    assert_eq!(first.text().await, "one");
    let mut second = sidecar.call("GET", "/a/").open().await;
    drop(first);
    assert_eq!(second.text().await, "one");
    chunks.send("two");
    drop(chunks);
    second.read().await.is(200, "two", "COALESCED");
    sidecar.get("/a/").await.is(200, "onetwo", "HIT");
}

#[tokio::test]
async fn a_reader_who_leaves_before_the_head_takes_nobody_along() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one"));
    let gate = origin.hold("/a/");
    let sidecar = sidecar(&origin, "1MiB").await;

    let first = sidecar.call("GET", "/a/").begin();
    gate.arrived(1).await;
    let others: Vec<_> = (0..3).map(|_| sidecar.call("GET", "/a/").begin()).collect();
    sidecar.has_in_flight(4).await;
    let mut others = others.into_iter();
    first.hang_up();
    others.next().expect("a follower").hang_up();
    sidecar.has_in_flight(2).await;
    gate.release();
    for one in others {
        one.reply().await.is(200, "one", "COALESCED");
    }
    assert_eq!(origin.hits("/a/"), 1);
}

#[tokio::test]
async fn an_answer_that_everybody_left_is_stored_all_the_same() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer);
    let sidecar = sidecar(&origin, "1MiB").await;

    chunks.send("one");
    let mut only = sidecar.call("GET", "/a/").open().await;
    assert_eq!(only.text().await, "one");
    drop(only);
    chunks.send("two");
    drop(chunks);
    // The fill may still be running.
    assert_eq!(sidecar.get("/a/").await.body, "onetwo");
    sidecar.get("/a/").await.is(200, "onetwo", "HIT");
    assert_eq!(origin.hits("/a/"), 1);
}

#[tokio::test]
async fn an_answer_for_one_ends_when_that_one_leaves() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer.cache("private"));
    let sidecar = sidecar(&origin, "1MiB").await;

    chunks.send("one");
    let mut only = sidecar.call("GET", "/a/").open().await;
    assert_eq!(only.text().await, "one");
    drop(only);
    chunks.abandoned().await;
}

/// Whether chunked or of declared length: what broke off reaches every reader as broken, and nobody later.
#[tokio::test]
async fn a_body_that_breaks_off_is_broken_for_everybody_and_never_stored() {
    let declared = |answer: Scripted| answer.header("content-length", "100");
    let chunked = |answer: Scripted| answer;
    for shape in [declared as fn(Scripted) -> Scripted, chunked] {
        let origin = Origin::start().await;
        let (answer, chunks) = streamed();
        origin.then("/a/", shape(answer));
        origin.on("/a/", |_| reply("whole"));
        let sidecar = sidecar(&origin, "1MiB").await;

        chunks.send("one");
        let first = sidecar.call("GET", "/a/").open().await;
        let second = sidecar.call("GET", "/a/").open().await;
        chunks.break_off();
        for (reader, cache) in [(first, "MISS"), (second, "COALESCED")] {
            let reply = reader.read().await;
            reply.is(200, "one", cache);
            assert!(reply.broken);
        }
        sidecar.get("/a/").await.is(200, "whole", "MISS");
    }
}

#[tokio::test]
async fn a_body_declared_too_large_streams_through_and_is_not_stored() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply(vec![b'x'; 3000]));
    let sidecar = sidecar(&origin, "2KiB").await;

    for asked in 1..=3 {
        let got = sidecar.get("/a/").await;
        got.is(200, &"x".repeat(3000), "MISS");
        assert!(got.cache_status().contains("detail=too_large"));
        assert_eq!(origin.hits("/a/"), asked);
    }
}

/// A body of no declared length was read up to the limit, thrown away, and asked for again.
#[tokio::test]
async fn a_body_that_grows_too_large_streams_through_and_is_asked_for_once() {
    let origin = Origin::start().await;
    let sidecar = sidecar(&origin, "2KiB").await;
    for asked in 1..=3 {
        let (answer, chunks) = streamed();
        origin.then("/a/", answer);
        (0..10).for_each(|_| chunks.send(vec![b'x'; 1000]));
        drop(chunks);
        sidecar
            .get("/a/")
            .await
            .is(200, &"x".repeat(10_000), "MISS");
        assert_eq!(origin.hits("/a/"), asked);
    }
}

#[tokio::test]
async fn all_who_wait_for_a_body_that_grows_too_large_get_it_whole() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer);
    let gate = origin.hold("/a/");
    let sidecar = sidecar(&origin, "2KiB").await;

    let running: Vec<_> = (0..5).map(|_| sidecar.call("GET", "/a/").begin()).collect();
    sidecar.has_in_flight(5).await;
    (0..10).for_each(|_| chunks.send(vec![b'x'; 1000]));
    drop(chunks);
    gate.release();
    for one in running {
        assert_eq!(one.reply().await.body, "x".repeat(10_000));
    }
    assert_eq!(origin.hits("/a/"), 1);
}

#[tokio::test]
async fn a_slow_reader_of_a_large_body_misses_nothing() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer);
    let sidecar = sidecar(&origin, "2KiB").await;

    chunks.send("begin");
    let slow = sidecar.call("GET", "/a/").open().await;
    let piece = vec![b'x'; 1 << 20];
    (0..32).for_each(|_| chunks.send(piece.clone()));
    drop(chunks);
    let got = slow.read().await;
    assert_eq!((got.bytes.len(), got.broken), (5 + (32 << 20), false));
    assert_eq!(got.cache(), "MISS");
}

/// A download that nobody can share any more kept the place of its key: during a write, readers queued behind it.
#[tokio::test]
async fn nobody_queues_behind_a_body_that_has_grown_too_large() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer).on("/a/", |_| reply("small"));
    origin.on("/w/", |_| reply("done"));
    let sidecar = sidecar(&origin, "2KiB").await;

    chunks.send(vec![b'x'; 3000]);
    let slow = sidecar.call("GET", "/a/").open().await;
    let gate = origin.hold("/w/");
    let write = sidecar.call("POST", "/w/").json("{}").begin();
    gate.arrived(1).await;
    sidecar.get("/a/").await.is(200, "small", "MISS");
    gate.release();
    write.reply().await.is(200, "done", "BYPASS");
    drop(chunks);
    assert_eq!(slow.read().await.bytes.len(), 3000);
}

/// Conditions and ranges need the whole body; once it cannot be had, they are the app's to answer.
#[tokio::test]
async fn a_condition_does_not_wait_for_a_body_that_has_grown_too_large() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer).on("/a/", |seen| {
        assert_eq!(seen.field("if-none-match"), "\"v\"");
        reply("").status(304).header("etag", "\"v\"")
    });
    let sidecar = sidecar(&origin, "2KiB").await;

    chunks.send("begin");
    let first = sidecar.call("GET", "/a/").open().await;
    let conditional = sidecar.call("GET", "/a/");
    let conditional = conditional.header("if-none-match", "\"v\"").begin();
    sidecar.has_in_flight(1).await;
    chunks.send(vec![b'x'; 3000]);
    conditional.reply().await.is(304, "", "MISS");
    drop(chunks);
    assert_eq!(first.read().await.bytes.len(), 3005);
    eventually("the app was asked twice", || origin.hits("/a/") == 2).await;
}
