//! Defects among replicas that share a Redis: what went wrong once, one test each.

use crate::support::sidecar::Plan;
use crate::support::{Origin, RedisServer, Sidecar, eventually, reply, soon};

/// A replica whose shared log is in this Redis.
fn replica(origin: &Origin, redis: &RedisServer, coherence: &str) -> Plan {
    Sidecar::before(origin)
        .with(&format!("[redis]\nurl = {:?}", redis.url()))
        .with(&format!("[coherence]\n{coherence}"))
        .route("/r/{id}", "ttl = \"1h\"\ntags = [\"r:{id}\"]")
        .write("POST /some", &["r:{response.id}"])
}

/// Reads until the answer comes from the cache.
async fn until_hit(sidecar: &Sidecar, path: &str) {
    soon("a hit", async {
        while sidecar.get(path).await.cache() != "HIT" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A Redis that stood still went through the announcement when it went on, long after the write had been answered without
/// it. Nobody ended it, and all that it named, here every register, was answered by the app for as long as `intent_ttl`.
#[tokio::test]
async fn an_announcement_that_comes_after_its_write_was_answered_is_ended() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.on("/r/1", |_| reply("one"));
    origin.on("/some", |_| reply("done"));
    let coherence = "lease = \"400ms\"\nintent_ttl = \"10m\"";
    let sidecar = replica(&origin, &redis, coherence).start().await;
    until_hit(&sidecar, "/r/1").await;
    // The server knows the script from now on, and will carry out what is only its name.
    sidecar.post("/some", "{}").await;
    until_hit(&sidecar, "/r/1").await;
    let log = ["XRANGE", "{reprise:log}:log", "-", "+"];
    let announced = || redis.cli(&log).lines().filter(|line| *line == "I").count();
    assert_eq!(announced(), 1);

    redis.stop();
    let written = sidecar.post("/some", "{}").await;
    assert!(written.cache_status().contains("uncoordinated"));
    redis.go_on();
    eventually("the late announcement", || announced() == 2).await;
    until_hit(&sidecar, "/r/1").await;
    assert_eq!(redis.cli(&["HLEN", "{reprise:log}:open"]), "0");
}
