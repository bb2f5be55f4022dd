//! What the scripts of the shared log promise, one by one. Each call goes to the oracle too.

use reprise::coherence::log::{Appended, Call, Mode, Synced};
use reprise::coherence::record::{Change, Token};
use reprise::coherence::script;
use reprise::tag::Tags;

use crate::support::log::{A, B, C, Log, OURS, THEIRS, W, of_close, of_sync, tags};
use crate::support::oracle::{Answer, Field, Key};
use crate::support::resp::Value;
use crate::support::twin::{NAME, Twin, read, run};

/// The number and whether the write was open.
fn at(appended: Appended) -> (u64, bool) {
    match appended {
        Appended::At { seq, had, .. } => (seq, had),
        Appended::Elsewhere { .. } => panic!("elsewhere"),
    }
}

/// What the last record says.
fn last(log: &mut Log) -> Change {
    let tail = log.twin.oracle.tail();
    let news = log.news(A, tail - 1, Mode::Probation, 0);
    news.records.last().expect("a record").change.clone()
}

#[test]
fn an_intent_that_is_repeated_is_in_the_log_once() {
    let mut log = Log::new(&[]);
    let tail = log.join(A).tail;
    assert_eq!(at(log.intent(W)), (tail + 1, true));
    assert_eq!(at(log.intent(W)), (tail + 1, true));
    assert_eq!(at(log.intent(Token(0x78))), (tail + 2, true));
    assert_eq!(log.join(B).open.len(), 2);
}

#[test]
fn a_write_that_was_ended_before_is_dropped_again_and_expires_no_more() {
    let mut log = Log::new(&[]);
    let tail = log.join(A).tail;
    log.intent(W);
    let commit = Change::Commit(tags(&[5]));
    assert_eq!(
        at(log.close(W, &Change::Expire(Tags::new()))),
        (tail + 2, true)
    );
    assert_eq!(
        last(&mut log),
        Change::Expire(tags(&[1, 2])),
        "what was announced"
    );
    assert_eq!(at(log.close(W, &commit)), (tail + 3, false));
    assert_eq!(last(&mut log), Change::Point(tags(&[5])));
    assert_eq!(at(log.close(W, &Change::Expire(Tags::new()))), (0, false));
    assert_eq!(log.twin.oracle.tail(), tail + 3);
}

#[test]
fn a_drop_ends_no_announced_write() {
    let mut log = Log::new(&[]);
    let tail = log.join(A).tail;
    log.intent(W);
    for change in [
        Change::Point(tags(&[5])),
        Change::Soften(tags(&[5])),
        Change::Ban("/a*".into()),
    ] {
        assert!(!at(log.close(W, &change)).1, "{change:?}");
        assert_eq!(last(&mut log), change);
    }
    assert_eq!(log.join(B).open, [(W, tags(&[1, 2]))]);
    assert_eq!(at(log.close(W, &Change::Close)), (tail + 5, true));
    assert_eq!(last(&mut log), Change::Close);
}

#[test]
fn another_identity_key_is_refused_while_others_live_and_founds_a_log_when_alone() {
    let mut log = Log::new(&[]);
    log.join(A);
    log.join(B);
    let (epoch, before) = (log.epoch, log.digest());
    assert_eq!(log.sync(C, None, THEIRS), Synced::Foreign);
    let known = Some((epoch, log.twin.oracle.tail()));
    assert_eq!(log.sync(A, known, THEIRS), Synced::Foreign);
    assert_eq!(log.digest(), before, "a refusal changes nothing");

    let beat = log.beat(B);
    assert!(log.reap(B, beat, epoch));
    let Synced::Reset(reset) = log.sync(A, known, THEIRS) else {
        panic!("not reset")
    };
    assert_ne!(reset.epoch, epoch);
    assert!(reset.alone);
    // It is a member of the new log, and the log stays.
    log.epoch = reset.epoch;
    assert_eq!(log.sync(B, None, OURS), Synced::Foreign);
    assert_eq!(log.twin.oracle.epoch(), Some(reset.epoch));
}

/// A way to lose something.
type Loss = (&'static str, fn(&mut Twin));

const LOSSES: &[Loss] = &[
    ("restart with nothing", Twin::restart_empty),
    ("restart with an old save", Twin::restart_saved),
    ("takeover", Twin::promote),
    ("flush", Twin::flush),
    ("state", |twin| twin.lose(Key::State)),
    ("open writes", |twin| twin.lose(Key::Open)),
    ("members", |twin| twin.lose(Key::Members)),
    ("beats", |twin| twin.lose(Key::Beats)),
    ("one open write", |twin| twin.lose_open(W)),
    ("one member", |twin| twin.lose_member(B, Key::Members)),
    ("one beat", |twin| twin.lose_member(B, Key::Beats)),
];

/// With the log lost like this, every call that grants something finds another log.
fn begins_a_new_epoch(what: &str, lose: impl Fn(&mut Twin), which: usize) {
    let mut log = Log::new(&[]);
    log.twin.story = what.to_owned();
    log.join(C);
    log.twin.save();
    log.live();
    log.twin.attach();
    if log.twin.oracle.epoch() == Some(log.epoch) {
        // The first replica gave the server another history.
        log.live();
    }
    let calls = log.calls();
    let (old, call) = (log.epoch, &calls[which]);
    lose(&mut log.twin);
    let nonce = match call {
        Call::Sync { nonce, .. }
        | Call::Intent { nonce, .. }
        | Call::Close { nonce, .. }
        | Call::Reap { nonce, .. }
        | Call::Leave { nonce, .. } => *nonce,
        Call::Ack { .. } | Call::Page { .. } => unreachable!("they look at less"),
    };
    let granted = match log.ask(call) {
        Answer::Synced(Synced::Reset(reset)) => reset.epoch != nonce,
        Answer::Appended(Appended::Elsewhere { epoch }) => epoch != nonce,
        Answer::Removed(done) => done,
        _ => true,
    };
    assert!(!granted, "{what}: {call:?}");
    assert_ne!(log.twin.oracle.epoch(), Some(old), "{what}: {call:?}");
}

#[test]
fn every_loss_begins_a_new_epoch_whoever_asks_first() {
    for which in [0, 1, 3, 4, 6, 7] {
        for (what, lose) in LOSSES {
            begins_a_new_epoch(what, lose, which);
        }
    }
    for field in Field::ALL {
        begins_a_new_epoch(&format!("{field:?}"), |twin| twin.lose_field(field), 1);
    }
}

#[test]
fn who_has_applied_more_than_there_is_proves_a_loss() {
    let mut log = Log::lived_in();
    let known = Some((log.epoch, log.twin.oracle.tail() + 1));
    let Synced::Reset(reset) = log.sync(A, known, OURS) else {
        panic!("not reset")
    };
    assert_ne!(reset.epoch, log.epoch);
}

#[test]
fn who_needs_a_record_that_is_gone_starts_anew_and_others_go_on() {
    for lose in [
        |twin: &mut Twin| twin.lose(Key::Log),
        |twin: &mut Twin| twin.trim(0),
    ] {
        let mut log = Log::lived_in();
        let tail = log.twin.oracle.tail();
        lose(&mut log.twin);
        assert_eq!(log.news(A, tail, Mode::Settled, 0).records, []);
        let Synced::Reset(reset) = log.sync(B, Some((log.epoch, tail - 1)), OURS) else {
            panic!("not reset")
        };
        assert_eq!(
            (reset.epoch, reset.tail, reset.oldest),
            (log.epoch, tail, 0)
        );
        assert_eq!(reset.open.len(), 1);
        assert!(!reset.alone);
    }
}

#[test]
fn a_joiner_that_is_alone_gets_a_fence_as_its_tail() {
    let mut log = Log::new(&[]);
    let first = log.join(A);
    assert!(first.alone);
    assert_eq!(first.fence, first.tail);
    let second = log.join(B);
    assert!(!second.alone);
    assert_eq!((second.tail, second.fence), (first.tail, first.tail));

    let call = Call::Leave {
        member: A,
        nonce: 5,
    };
    assert_eq!(log.ask(&call), Answer::Removed(true));
    let again = log.join(B);
    assert!(again.alone, "it is the only member");
    assert_eq!((again.tail, again.fence), (first.tail + 1, first.tail + 1));
}

#[test]
fn a_lapse_is_fenced_and_probation_is_not() {
    let mut log = Log::new(&[]);
    let tail = log.join(A).tail;
    for (mode, fences) in [
        (Mode::Settled, 0),
        (Mode::Probation, 0),
        (Mode::Lapsed, 1),
        (Mode::Alone, 2),
    ] {
        let news = log.news(A, tail, mode, 0);
        assert_eq!(news.tail, tail + fences, "{mode:?}");
        assert_eq!(news.fence, tail + fences, "{mode:?}");
    }
}

#[test]
fn the_quarantine_of_an_epoch_ends_once() {
    let mut log = Log::new(&[]);
    let tail = log.join(A).tail;
    assert_eq!(log.news(A, tail, Mode::Settled, 0).quarantine, 0);
    let over = |nonce, epoch| Call::Sync {
        member: A,
        known: Some((epoch, tail)),
        mode: Mode::Settled,
        quarantined: true,
        fingerprint: OURS,
        confirms: 0,
        nonce,
    };
    log.ask(&over(1, log.epoch));
    log.ask(&over(2, log.epoch));
    let news = log.news(A, tail, Mode::Settled, 0);
    assert_eq!(
        (news.quarantine, news.tail, news.fence),
        (tail + 1, tail + 1, tail)
    );
}

/// A reading that is executed late, when its sender's lease has run out, is no witness, and neither is that others follow
/// which were sent before the first reply: only what the sender says of it later is.
#[test]
fn a_reading_is_a_witness_when_its_sender_says_so_by_its_number() {
    let mut log = Log::new(&[]);
    let tail = log.join(A).tail;
    let readings = log.join(B).readings;
    let late: Vec<_> = (0..4)
        .map(|_| log.news(A, tail, Mode::Settled, 0).reading)
        .collect();
    assert_eq!(late, [1, 2, 3, 4]);
    assert!(log.news(B, tail, Mode::Probation, 0).confirmed <= readings);

    assert_eq!(log.news(A, tail, Mode::Settled, 4).confirmed, 4);
    assert_eq!(
        log.news(A, tail, Mode::Settled, 2).confirmed,
        4,
        "never back"
    );
    let fenced = log.news(A, tail, Mode::Lapsed, 0);
    assert_eq!(
        (fenced.reading, fenced.confirmed),
        (7, 7),
        "a fence needs no word"
    );
    assert_eq!(log.news(A, tail, Mode::Alone, 0).reading, 0);
    assert_eq!(log.join(C).readings, 7);
}

#[test]
fn the_slowest_member_decides_what_is_acknowledged_and_its_end_is_told() {
    let mut log = Log::lived_in();
    let tail = log.twin.oracle.tail();
    assert!(log.ack(A, tail));
    assert_eq!(
        log.news(A, tail, Mode::Settled, 0).acked,
        0,
        "B has said nothing"
    );
    assert!(log.ack(B, tail - 1));
    assert_eq!(log.news(A, tail, Mode::Settled, 0).acked, tail - 1);
    assert!(log.ack(B, 1), "an old one changes nothing");
    assert!(log.ack(C, tail), "who is no member counts for nothing");
    assert_eq!(log.news(A, tail, Mode::Settled, 0).acked, tail - 1);

    let beat = log.beat(B);
    assert!(!log.reap(B, beat - 1, log.epoch), "it lives");
    assert!(log.reap(B, beat, log.epoch));
    assert!(!log.reap(B, beat, log.epoch), "it is gone");
    assert_eq!(log.news(A, tail, Mode::Settled, 0).acked, tail);
    log.join(C);
    assert_eq!(
        log.news(A, tail, Mode::Settled, 0).acked,
        tail,
        "never back"
    );
}

/// Beats count anew in each epoch: the same number is another beat there.
#[test]
fn a_member_is_not_reaped_for_a_beat_of_another_epoch() {
    let mut log = Log::lived_in();
    let (old, beat) = (log.epoch, log.beat(B));
    log.twin.flush();
    for member in [A, B, B, B, B, B, B] {
        log.join(member);
        if member == B && log.beat(B) == beat {
            break;
        }
    }
    assert_eq!(log.beat(B), beat);
    assert!(!log.reap(B, beat, old));
    assert!(log.reap(B, beat, log.epoch));
}

#[test]
fn a_log_longer_than_one_reply_is_read_in_pieces() {
    let mut log = Log::new(&[]);
    let tail = log.join(A).tail;
    for _ in 0..2_100 {
        log.close(W, &Change::Point(Tags::new()));
    }
    let news = log.news(A, tail, Mode::Settled, 0);
    assert_eq!((news.records.len(), news.tail), (512, tail + 2_100));
    let (next, first) = log.page(tail);
    assert_eq!(
        (next, first.len(), first.first()),
        (tail + 2_048, 2_048, Some(&tail))
    );
    let (end, rest) = log.page(next);
    assert_eq!((end, rest.first(), rest.len()), (0, Some(&next), 53));
}

/// The oracle never trims: this one is the server alone.
#[test]
fn the_log_keeps_its_last_records_and_not_many_more() {
    let mut log = Log::new(&[]);
    let tail = log.join(A).tail;
    let grow = "for n = ARGV[1] + 1, ARGV[1] + 70000 do \
        redis.call('XADD', KEYS[1], n .. '-0', 'k', 'P', 't', '-', 'd', '-') end \
        redis.call('HSET', KEYS[2], 'seq', ARGV[1] + 70000)";
    let keys = script::keys(NAME);
    log.twin
        .ask
        .call(&["EVAL", grow, "2", &keys[1], &keys[0], &tail.to_string()]);
    let (epoch, resp) = (log.epoch, &mut log.twin.ask);
    run(resp, &of_close(W, &Change::Point(Tags::new()), epoch, 1));
    let Value::Number(kept) = resp.call(&["XLEN", &keys[1]]) else {
        panic!("no length")
    };
    assert!((65_536..65_536 + 200).contains(&kept), "{kept}");
    let known = Some((epoch, tail));
    let call = of_sync(A, known, (Mode::Settled, 0), OURS, 2);
    let reply = run(resp, &call).text();
    let Some(Answer::Synced(Synced::Reset(reset))) = read(&call, &reply) else {
        panic!("no gap: {reply}")
    };
    assert_eq!(
        reset.oldest,
        tail + 70_002 - u64::try_from(kept).expect("a length")
    );
}
