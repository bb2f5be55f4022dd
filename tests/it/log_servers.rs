//! The scripts of the shared log on servers that are full, read-only or clustered, and under users who may not do all.

use reprise::coherence::log::{Call, Mode};
use reprise::coherence::record::Change;
use reprise::coherence::script;

use crate::support::log::{A, B, C, Log, OURS, W, of_close, of_intent, of_sync, tags};
use crate::support::oracle::{Field, Oracle};
use crate::support::resp::{Redis, Value};
use crate::support::twin::{NAME, read, run};

#[test]
fn no_reply_is_an_array() {
    let mut log = Log::lived_in();
    for call in log.calls() {
        let reply = run(&mut log.twin.ask, &call);
        assert!(matches!(reply, Value::Text(_)), "{call:?}: {reply:?}");
    }
}

/// A full server refuses a script's first write if it needs memory, and none after that.
#[test]
fn a_full_server_changes_nothing_or_everything() {
    for which in 0..8 {
        let mut log = Log::lived_in();
        let call = log.calls().swap_remove(which);
        log.twin.story = format!("{call:?}");
        log.twin.ask.say("CONFIG SET maxmemory 1");
        let before = log.digest();
        if matches!(
            call,
            Call::Page { .. } | Call::Reap { .. } | Call::Leave { .. }
        ) {
            log.ask(&call);
        } else {
            let reply = run(&mut log.twin.ask, &call);
            assert!(
                matches!(&reply, Value::Error(why) if why.contains("OOM")),
                "{call:?}: {reply:?}"
            );
            assert_eq!(log.digest(), before, "{call:?}");
            assert_eq!(log.twin.rung(), []);
        }
        // Both still have the same, and a loss is still found.
        log.twin.ask.say("CONFIG SET maxmemory 0");
        log.news(C, log.twin.oracle.tail(), Mode::Settled, 0);
        log.twin.ask.say("CONFIG SET maxmemory 1");
        log.twin.lose_field(Field::Fence);
        log.intent(W);
    }
}

#[test]
fn a_read_only_replica_refuses() {
    let mut log = Log::lived_in();
    log.twin.attach();
    log.join(C);
    log.live();
    let calls = log.calls();
    let mut copy = log.twin.copied();
    for call in calls {
        let reply = run(&mut copy, &call);
        let refused = match &call {
            Call::Page { .. } => reply == Value::Text("E".into()),
            _ => matches!(&reply, Value::Error(why) if why.contains("READONLY")),
        };
        assert!(refused, "{call:?}: {reply:?}");
    }
}

#[test]
fn a_user_that_may_not_publish_has_a_log_without_bells() {
    let mut log = Log::new(&[]);
    log.twin
        .ask
        .say("ACL SETUSER quiet on >secret ~{reprise:log}:* +@all -publish");
    assert_eq!(
        log.twin.ask.say("AUTH quiet secret"),
        Value::Text("OK".into())
    );
    let redis = &log.twin.redis;
    let (mut ask, mut oracle) = (redis.connect(), log.twin.oracle.clone());
    ask.say("AUTH quiet secret");
    let mut tell = |call: &Call| {
        let text = run(&mut ask, call).text();
        assert_eq!(
            read(call, &text),
            Some(oracle.call(call)),
            "{text:?} to {call:?}"
        );
    };
    tell(&of_sync(A, None, (Mode::Settled, 0), OURS, 7));
    tell(&of_intent(W, 7, 8));
    tell(&of_close(W, &Change::Commit(tags(&[1])), 7, 9));
    tell(&of_sync(A, Some((7, 4)), (Mode::Settled, 0), OURS, 10));
    assert_eq!(log.twin.rung(), []);
}

#[test]
fn a_server_that_does_not_say_what_it_is_is_unsupported() {
    let mut log = Log::lived_in();
    let calls = log.calls();
    let before = log.digest();
    log.twin.ask.say("ACL SETUSER default -info");
    let replies = calls.iter().map(|call| run(&mut log.twin.ask, call).text());
    let replies: Vec<_> = replies.collect();
    assert_eq!(replies, ["U", "U", "E", "E 0", "E 0", "E", "0", "0"]);
    // An acknowledgement is noted, but nothing was told.
    assert_eq!(log.twin.rung(), []);
    assert_ne!(log.digest(), before);
}

#[test]
fn a_cluster_runs_the_scripts_in_one_slot() {
    let redis = Redis::start(&["--cluster-enabled", "yes"]);
    let mut ask = redis.connect();
    ask.say("CLUSTER ADDSLOTSRANGE 0 16383");
    ask.until("CLUSTER INFO", "cluster_state:ok");
    let mut log = Log::lived_in();
    log.epoch = 1;
    let mut oracle = Oracle::new();
    let mut calls = vec![
        of_sync(A, None, (Mode::Settled, 0), OURS, 1),
        of_sync(B, None, (Mode::Settled, 0), OURS, 2),
        of_intent(W, 1, 3),
    ];
    calls.extend(log.calls());
    for call in &calls {
        let text = run(&mut ask, call).text();
        assert_eq!(
            read(call, &text),
            Some(oracle.call(call)),
            "{text:?} to {call:?}"
        );
    }
}

/// A list where a stream was, a text where a hash was: what cannot be read is lost, and found to be.
#[test]
fn somebody_elses_value_under_a_key_of_ours_begins_a_new_epoch() {
    for key in script::keys(NAME) {
        for foreign in [format!("LPUSH {key} x"), format!("SET {key} junk")] {
            let mut log = Log::lived_in();
            let known = Some((log.epoch, log.twin.oracle.tail()));
            log.twin.ask.say(&format!("DEL {key}"));
            log.twin.ask.say(&foreign);
            let call = of_sync(A, known, (Mode::Settled, 0), OURS, 0x77);
            let reply = run(&mut log.twin.ask, &call);
            let Value::Text(text) = &reply else {
                panic!("{foreign}: {reply:?}")
            };
            assert!(text.starts_with("E 0000000000000077 "), "{foreign}: {text}");
        }
    }
}
