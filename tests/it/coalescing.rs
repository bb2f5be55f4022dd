//! Many readers, one request to the app; and when the answer is not theirs to share, no queue.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::{Reply, Running};
use crate::support::origin::streamed;
use crate::support::{Origin, Sidecar, reply};

const SHARED: &str = "ttl = \"1m\"";

/// So many readers of a path, all of them waiting in the sidecar.
async fn readers(sidecar: &Sidecar, path: &str, count: usize) -> Vec<Running> {
    let before = sidecar.in_flight().await;
    let running = (0..count).map(|_| sidecar.call("GET", path).begin());
    let running = running.collect();
    sidecar.has_in_flight(before + count).await;
    running
}

async fn all(running: Vec<Running>) -> Vec<Reply> {
    let mut replies = Vec::new();
    for one in running {
        replies.push(one.reply().await);
    }
    replies
}

fn count(replies: &[Reply], cache: &str) -> usize {
    replies.iter().filter(|one| one.cache() == cache).count()
}

#[tokio::test]
async fn fifty_readers_cost_the_app_one_request() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one"));
    let gate = origin.hold("/a/");
    let sidecar = Sidecar::before(&origin).route("/a/", SHARED).start().await;

    let running = readers(&sidecar, "/a/", 50).await;
    gate.release();
    let replies = all(running).await;
    assert!(replies.iter().all(|one| one.body == "one"));
    assert_eq!(count(&replies, "COALESCED"), 49);
    assert_eq!(count(&replies, "MISS"), 1);
    assert_eq!(origin.hits("/a/"), 1);
    sidecar.get("/a/").await.is(200, "one", "HIT");
}

#[tokio::test]
async fn a_second_reader_sees_the_first_bytes_while_the_rest_arrives() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer);
    let sidecar = Sidecar::before(&origin).route("/a/", SHARED).start().await;

    chunks.send("one");
    let mut first = sidecar.call("GET", "/a/").open().await;
    assert_eq!(first.text().await, "one");
    let mut second = sidecar.call("GET", "/a/").open().await;
    assert_eq!(second.text().await, "one");
    chunks.send("two");
    drop(chunks);
    first.read().await.is(200, "two", "MISS");
    second.read().await.is(200, "two", "COALESCED");
    sidecar.get("/a/").await.is(200, "onetwo", "HIT");
    assert_eq!(origin.hits("/a/"), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_shared_is_asked_for_by_each_at_once() {
    for (name, value, reason) in [
        ("set-cookie", "csrftoken=1", "set_cookie"),
        ("cache-control", "private", "private"),
        ("cache-control", "no-store", "no_store"),
        ("vary", "*", "vary"),
    ] {
        let origin = Origin::start().await;
        let made = AtomicUsize::new(0);
        origin.on("/a/", move |_| {
            reply(made.fetch_add(1, Ordering::Relaxed).to_string()).header(name, value)
        });
        let gate = origin.hold("/a/");
        let sidecar = Sidecar::before(&origin).route("/a/", SHARED).start().await;

        let running = readers(&sidecar, "/a/", 6).await;
        assert_eq!(origin.hits("/a/"), 1, "{name}");
        gate.release();
        let gate = origin.hold("/a/");
        // All of the others are at the app, none waits for another.
        gate.arrived(6).await;
        gate.release();
        let mut replies = all(running).await;
        replies.sort_by(|one, other| one.body.cmp(&other.body));
        for (index, one) in replies.iter().enumerate() {
            one.is(200, &index.to_string(), "MISS");
            assert!(one.cache_status().contains(&format!("detail={reason}")));
        }
    }
}

#[tokio::test]
async fn a_key_that_was_private_is_not_waited_for_until_it_is_shareable_again() {
    let origin = Origin::start().await;
    let private = || reply("mine").header("set-cookie", "a=1");
    origin.then("/a/", private()).on("/a/", |_| reply("ours"));
    let sidecar = Sidecar::before(&origin).route("/a/", SHARED).start().await;

    sidecar.get("/a/").await.is(200, "mine", "MISS");
    let gate = origin.hold("/a/");
    let running = readers(&sidecar, "/a/", 4).await;
    gate.arrived(5).await;
    gate.release();
    assert_eq!(count(&all(running).await, "MISS"), 4);
    // One of them was the probe that found the key shareable.
    sidecar.get("/a/").await.is(200, "ours", "HIT");
    assert_eq!(origin.hits("/a/"), 5);
}

#[tokio::test]
async fn those_who_wait_for_another_variant_get_their_own() {
    let origin = Origin::start().await;
    origin.on("/a/", |seen| {
        reply(seen.field("accept-language").to_owned()).header("vary", "Accept-Language")
    });
    let gate = origin.hold("/a/");
    let sidecar = Sidecar::before(&origin).route("/a/", SHARED).start().await;

    let languages = ["de", "en", "de", "en", "de", "en", "fr"];
    let ask = |language: &str| {
        let call = sidecar.call("GET", "/a/");
        call.header("accept-language", language).begin()
    };
    let running: Vec<_> = languages.iter().map(|language| ask(language)).collect();
    sidecar.has_in_flight(languages.len()).await;
    gate.release();
    let replies = all(running).await;
    for (language, one) in languages.iter().zip(&replies) {
        assert_eq!(one.body, *language, "{}", one.cache_status());
    }
    assert_eq!(count(&replies, "MISS"), 3);
    assert_eq!(origin.hits("/a/"), 3);
    ask("en").reply().await.is(200, "en", "HIT");
}

#[tokio::test]
async fn an_arriving_body_is_nothing_for_another_variant() {
    let origin = Origin::start().await;
    let (answer, chunks) = streamed();
    origin.then("/a/", answer.header("vary", "Accept-Language"));
    origin.on("/a/", |_| reply("other").header("vary", "Accept-Language"));
    let gate = origin.hold("/a/");
    let sidecar = Sidecar::before(&origin).route("/a/", SHARED).start().await;

    let first = sidecar.call("GET", "/a/").begin();
    gate.arrived(1).await;
    let call = sidecar.call("GET", "/a/").header("accept-language", "de");
    let other = call.begin();
    sidecar.has_in_flight(2).await;
    gate.release();
    chunks.send("one");
    other.reply().await.is(200, "other", "MISS");
    drop(chunks);
    first.reply().await.is(200, "one", "MISS");
}

#[tokio::test]
async fn an_error_of_the_app_is_each_readers_own() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("broken").status(500));
    let gate = origin.hold("/a/");
    let sidecar = Sidecar::before(&origin).route("/a/", SHARED).start().await;

    let running = readers(&sidecar, "/a/", 5).await;
    gate.release();
    for one in all(running).await {
        one.is(500, "broken", "MISS");
    }
    assert_eq!(origin.hits("/a/"), 5);
    origin.on("/a/", |_| reply("well"));
    sidecar.get("/a/").await.is(200, "well", "MISS");
}

#[tokio::test]
async fn an_app_that_hangs_up_releases_everybody() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let sidecar = Sidecar::before_url(&url).route("/a/", SHARED).start().await;

    let running = readers(&sidecar, "/a/", 10).await;
    let (socket, _) = listener.accept().await.expect("a connection");
    drop(socket);
    drop(listener);
    for one in all(running).await {
        assert_eq!((one.status.as_u16(), one.cache()), (502, "MISS".to_owned()));
    }
}

#[tokio::test]
async fn without_coalescing_each_reader_asks() {
    let origin = Origin::start().await;
    origin.on("/a/", |_| reply("one"));
    let gate = origin.hold("/a/");
    let lines = "ttl = \"1m\"\ncoalesce = \"off\"";
    let sidecar = Sidecar::before(&origin).route("/a/", lines).start().await;

    let running = readers(&sidecar, "/a/", 4).await;
    gate.arrived(4).await;
    gate.release();
    assert_eq!(count(&all(running).await, "MISS"), 4);
    sidecar.get("/a/").await.is(200, "one", "HIT");
}

#[tokio::test]
async fn followers_of_a_validation_share_what_it_confirms() {
    let origin = Origin::start().await;
    let tagged = |body: &'static str| reply(body).header("etag", "\"v\"").cache("max-age=0");
    origin.then("/a/", tagged("one"));
    origin.on("/a/", |_| reply("").status(304).header("etag", "\"v\""));
    let sidecar = Sidecar::before(&origin).route("/a/", SHARED).start().await;

    sidecar.get("/a/").await.is(200, "one", "MISS");
    let gate = origin.hold("/a/");
    let running = readers(&sidecar, "/a/", 5).await;
    gate.release();
    let replies = all(running).await;
    assert!(replies.iter().all(|one| one.body == "one"));
    assert_eq!(count(&replies, "REVALIDATED"), 1);
    assert_eq!(count(&replies, "COALESCED"), 4);
    assert_eq!(origin.hits("/a/"), 2);
}
