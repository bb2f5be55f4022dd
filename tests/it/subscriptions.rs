//! Listening to channels of Redis, and knowing when something may have been missed.

use reprise::redis::{Heard, Subscription};

use crate::support::handle::{Handle, server};
use crate::support::{Link, RedisCluster, RedisServer, eventually, soon};

async fn next(heard: &mut Subscription) -> Heard {
    soon("something to hear", heard.recv()).await
}

fn message(channel: &str, text: &str) -> Heard {
    Heard::Message {
        channel: channel.to_owned(),
        text: text.to_owned(),
    }
}

#[tokio::test]
async fn a_subscription_hears_its_channels_and_says_when_something_may_be_missing() {
    let (mut server, redis) = server().await;
    let mut heard = redis.subscribe(vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(next(&mut heard).await, Heard::Reconnected);
    for (channel, text) in [("a", "1"), ("c", "2"), ("b", "3")] {
        server.cli(&["PUBLISH", channel, text]);
    }
    assert_eq!(next(&mut heard).await, message("a", "1"));
    assert_eq!(next(&mut heard).await, message("b", "3"));

    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(next(&mut heard).await, Heard::Reconnected);
    server.cli(&["PUBLISH", "a", "4"]);
    assert_eq!(next(&mut heard).await, message("a", "4"));

    server.kill();
    server.start_again().await;
    assert_eq!(next(&mut heard).await, Heard::Reconnected);
    server.cli(&["PUBLISH", "b", "5"]);
    assert_eq!(next(&mut heard).await, message("b", "5"));
}

#[tokio::test]
async fn a_subscription_notices_a_silent_network() {
    let server = RedisServer::start().await;
    let link = Link::to(&server.address()).await;
    let redis = Handle::new(&format!("redis://{}", link.address()))
        .connected()
        .await;
    let mut heard = redis.subscribe(vec!["a".to_owned()]);
    assert_eq!(next(&mut heard).await, Heard::Reconnected);
    let before = link.accepted();
    link.silence();
    eventually("another attempt", || link.accepted() > before).await;
    link.mend();
    assert_eq!(next(&mut heard).await, Heard::Reconnected);
}

#[tokio::test]
async fn a_subscription_that_is_not_read_says_so() {
    let (server, redis) = server().await;
    let mut heard = redis.subscribe(vec!["a".to_owned()]);
    assert_eq!(next(&mut heard).await, Heard::Reconnected);
    let flood = "for i = 1, 10000 do redis.call('PUBLISH', 'a', i) end return 'done'";
    server.cli(&["EVAL", flood, "0"]);
    server.cli(&["PUBLISH", "a", "last"]);
    let mut lagged = false;
    soon("the last message", async {
        loop {
            match heard.recv().await {
                Heard::Lagged => lagged = true,
                Heard::Message { text, .. } if text == "last" => break,
                _ => {}
            }
        }
    })
    .await;
    assert!(lagged);
}

#[tokio::test]
async fn a_subscription_without_the_right_to_it_waits_for_it() {
    let rule = "--user me on nopass ~* resetchannels +@all";
    let server = RedisServer::with(&rule.split(' ').collect::<Vec<_>>()).await;
    let redis = Handle::new(&format!("redis://me@{}", server.address()))
        .connected()
        .await;
    let mut heard = redis.subscribe(vec!["a".to_owned()]);
    server
        .until(&["INFO", "errorstats"], "errorstat_NOPERM:count=2")
        .await;
    server.cli(&["ACL", "SETUSER", "me", "allchannels"]);
    assert_eq!(next(&mut heard).await, Heard::Reconnected);
}

#[tokio::test]
async fn in_a_cluster_it_does_not_matter_where_a_message_is_published() {
    let cluster = RedisCluster::start().await;
    let redis = Handle::new(&cluster.url()).connected().await;
    let mut heard = redis.subscribe(vec!["c".to_owned()]);
    assert_eq!(next(&mut heard).await, Heard::Reconnected);
    for (node, text) in cluster.nodes.iter().zip(["1", "2", "3"]) {
        node.cli(&["PUBLISH", "c", text]);
        assert_eq!(next(&mut heard).await, message("c", text));
    }
}
