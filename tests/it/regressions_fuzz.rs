//! Defects that fuzzing found, as a client meets them: one test each.

use crate::support::{Origin, Sidecar, cached, date, reply};

/// `%2%36` is the text `%26`, for only its end is an escape; `%26` is an ampersand. Undoing the escape made one query of
/// the two, and whoever asked for the one first chose what the other was answered with.
#[tokio::test]
async fn a_broken_escape_makes_no_other_query() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    origin.on("/a/", |seen| reply(seen.target.clone()));
    for target in ["/a/?q=%2%36", "/a/?q=%26", "/a/?q=%+26"] {
        sidecar.get(target).await.is(200, target, "MISS");
        sidecar.get(target).await.is(200, target, "HIT");
    }
}

/// RFC 9110 §8.8.2.2: what is changed twice within a second has one date for two bodies, and the parts of both would have
/// been joined.
#[tokio::test]
async fn a_date_of_the_same_second_asks_for_the_whole() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    let (now, before) = (date(0), date(-1));
    for (path, modified, status) in [("/young/", &now, 200), ("/old/", &before, 206)] {
        let (answered, changed) = (now.clone(), modified.clone());
        origin.on(path, move |_| {
            let whole = reply("0123456789").header("date", &answered);
            whole.header("last-modified", &changed)
        });
        sidecar.get(path).await.is(200, "0123456789", "MISS");
        let part = sidecar.call("GET", path).header("range", "bytes=0-4");
        let got = part.header("if-range", modified).send().await;
        assert_eq!(
            (got.status.as_u16(), got.cache()),
            (status, "HIT".into()),
            "{path}"
        );
    }
}

/// RFC 9110 §13.1.3, §13.1.4: what looks like a list of dates is no condition. The first line that was a date counted.
#[tokio::test]
async fn two_dates_are_no_condition() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    let (old, new) = (date(-100), date(-50));
    let changed = new.clone();
    origin.on("/a/", move |_| reply("a").header("last-modified", &changed));
    sidecar.get("/a/").await.is(200, "a", "MISS");
    for (name, at, alone) in [
        ("if-modified-since", &new, 304),
        ("if-unmodified-since", &old, 412),
    ] {
        let asked = || sidecar.call("GET", "/a/").header(name, at);
        assert_eq!(asked().send().await.status, alone, "{name}");
        asked().header(name, at).send().await.is(200, "a", "HIT");
    }
}

/// A body that no coding makes smaller was sent as it is to clients that had refused it so (RFC 9110 §12.5.3).
#[tokio::test]
async fn a_client_that_refuses_the_only_body_there_is_is_told_so() {
    let (origin, sidecar) = cached("ttl = \"1m\"").await;
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(2000)
    .collect();
    origin.on("/a/", move |_| reply(noise.clone()).json());
    for (accepted, status) in [
        ("gzip", 200),
        ("gzip, identity;q=0", 406),
        ("gzip, *;q=0", 406),
    ] {
        let call = sidecar
            .call("GET", "/a/")
            .header("accept-encoding", accepted);
        let got = call.send().await;
        assert_eq!(
            (got.status.as_u16(), got.field("vary")),
            (status, "accept-encoding".into())
        );
    }
}

/// `seat:rock-am-ring-5` was read as seat `am-ring-5` of the event `rock`, and what had been stored of the event
/// `rock-am-ring` stayed.
#[tokio::test]
async fn a_relation_that_can_be_read_in_two_ways_drops_all_it_may_mean() {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin)
        .route("/events/{slug}/", "ttl = \"1m\"\ntags = [\"event:{slug}\"]")
        .write("POST /seats/", &["seat:{body.event}-{body.number}"])
        .with("[relations]\n\"seat:{event}-{number}\" = [\"event:{event}\"]")
        .start()
        .await;
    origin.on("/seats/", |_| reply("done"));
    for event in ["rock", "rock-am-ring"] {
        let path = format!("/events/{event}/");
        origin.on(&path, |_| reply("seats"));
        sidecar.get(&path).await.is(200, "seats", "MISS");
        sidecar.get(&path).await.is(200, "seats", "HIT");
        let booked = format!("{{\"event\": \"{event}\", \"number\": 5}}");
        assert_eq!(sidecar.post("/seats/", &booked).await.status, 200);
        sidecar.get(&path).await.is(200, "seats", "MISS");
    }
}
