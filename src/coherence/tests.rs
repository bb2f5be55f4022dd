use std::sync::atomic::Ordering;

use super::*;

fn alone() -> Coherence {
    let metrics = crate::metrics::Metrics::new().expect("metrics");
    Coherence::alone(Config::default(), 1, metrics.coherence)
}

fn tags(names: &[&str]) -> Tags {
    names.iter().map(|name| Tag::named(name)).collect()
}

fn certificate(coherence: &Coherence, name: &str) -> Certificate {
    Certificate::new(coherence.stamp(), tags(&[name]))
}

#[tokio::test]
async fn a_remembered_verdict_lasts_until_the_next_record() {
    let coherence = alone();
    let entry = certificate(&coherence, "a");
    let usable = |entry| coherence.usable(entry, &[], Writes::Count);
    assert_eq!(usable(&entry), Ok(Standing::Good));
    assert_ne!(entry.checked.load(Ordering::Relaxed), u64::MAX);
    coherence.tick().await;
    assert_eq!(usable(&entry), Ok(Standing::Good));
    coherence.drop_tags(tags(&["a"])).await;
    assert_eq!(usable(&entry), Err(Unusable::Dropped));
}

#[tokio::test]
async fn a_bounded_verdict_is_not_remembered_for_strong_readers() {
    let coherence = alone();
    let entry = certificate(&coherence, "a");
    let intent = coherence
        .announce(tags(&["a"]))
        .await
        .expect("the log is here");
    let usable = |writes| coherence.usable(&entry, &[], writes);
    assert_eq!(usable(Writes::Ignore), Ok(Standing::Good));
    assert_eq!(usable(Writes::Count), Err(Unusable::Dirty));
    intent.close().await;
    assert_eq!(usable(Writes::Count), Ok(Standing::Good));
}

#[tokio::test]
async fn an_intent_that_nobody_settles_expires_as_a_drop() {
    let coherence = alone();
    let entry = certificate(&coherence, "a");
    drop(coherence.announce(tags(&["a"])).await);
    assert_eq!(coherence.open_writes(), 1);
    assert_eq!(coherence.tick_at(Time::now()).await, 0);
    let over = Time::now() + Duration::from_secs(60);
    assert_eq!(coherence.tick_at(over).await, 1);
    assert_eq!(
        coherence.usable(&entry, &[], Writes::Count),
        Err(Unusable::Dropped)
    );
}
