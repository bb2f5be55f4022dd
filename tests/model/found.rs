//! What the walks have found, one test each, told as the shortest story.

use std::time::Duration;

use reprise::coherence::clock::Time;
use reprise::coherence::log::{Appended, Call, Member, Mode, News, Reset, Synced};
use reprise::coherence::record::Token;
use reprise::coherence::replica::{Effect, Event, Replica, Sight, Timing};
use reprise::coherence::write::{Do, Input, Promise, Rules, Write};
use reprise::tag::Tags;

const LEASE: Duration = Duration::from_secs(1);
const BEGAN: Time = Time(100_000_000_000);

fn timing() -> Timing {
    Timing::new(LEASE, LEASE * 60)
}

fn after(millis: u64) -> Time {
    BEGAN + Duration::from_millis(millis)
}

fn step(replica: &mut Replica, now: Time, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    replica.step(now, event, &mut effects);
    effects
}

fn leases(effects: &[Effect]) -> bool {
    let grants = |effect: &Effect| matches!(effect, Effect::Lease(until) if *until != Time::NEVER);
    effects.iter().any(grants)
}

fn read_as(effects: &[Effect]) -> Option<Mode> {
    effects.iter().find_map(|effect| match effect {
        Effect::Call(Call::Sync { mode, .. }) => Some(*mode),
        _ => None,
    })
}

fn reset(alone: bool, tail: u64, oldest: u64, fence: u64) -> Event {
    Event::Synced(Synced::Reset(Reset {
        epoch: 9,
        tail,
        oldest,
        fence,
        alone,
        ..Reset::default()
    }))
}

fn news(tail: u64, fence: u64) -> Event {
    Event::Synced(Synced::News(News {
        tail,
        fence,
        reading: 2,
        confirmed: 2,
        members: 2,
        ..News::default()
    }))
}

/// A replica that had been cut off answered a write without the log while the reading that was to bring it back, and had
/// already appended its fence, was under way. The lease came with that fence, which was older than the write; and its own
/// entries from between the two were served.
#[test]
fn a_fence_from_before_a_lapse_earns_nothing() {
    let mut replica = Replica::new(timing(), Member(1), 7);
    step(&mut replica, BEGAN, Event::Tick);
    assert!(leases(&step(&mut replica, BEGAN, reset(true, 2, 2, 2))));
    let again = step(&mut replica, after(1100), Event::Unread);
    assert_eq!(read_as(&again), Some(Mode::Lapsed));
    step(&mut replica, after(1110), Event::Lapse);
    let answered = step(&mut replica, after(1120), news(2, 2));
    assert!(!leases(&answered), "{answered:?}");
    assert_eq!(read_as(&answered), Some(Mode::Lapsed));
    assert!(leases(&step(&mut replica, after(1130), news(2, 3))));
}

/// The same while it joined: the fence of the first member is one, too.
#[test]
fn a_lapse_while_it_joins_earns_nothing() {
    let mut replica = Replica::new(timing(), Member(1), 7);
    step(&mut replica, BEGAN, Event::Tick);
    step(&mut replica, BEGAN, Event::Lapse);
    let joined = step(&mut replica, BEGAN, reset(true, 2, 2, 2));
    assert!(!leases(&joined), "{joined:?}");
    assert_eq!(read_as(&joined), Some(Mode::Lapsed));
}

/// Members expire an announcement so long after they heard of it, and a write lives so long after it was forwarded. A strict
/// one that was kept back in between took place after its tags had been opened again.
#[test]
fn a_strict_write_is_not_forwarded_long_after_its_announcement() {
    let rules = Rules {
        promise: Promise::Strict,
        timing: timing(),
        forward: false,
    };
    let sight = Sight {
        epoch: Some(9),
        first_seen: Time(1),
        applied: 3,
        acked: 3,
        unreachable_since: None,
    };
    let announced = Input::Appended(Appended::At {
        seq: 3,
        had: true,
        acked: 3,
        copies: 0,
    });
    let mut prompt = Write::new(rules, Token(1), Tags::new());
    prompt.step(BEGAN, &sight, Input::Look);
    assert_eq!(
        prompt.step(after(10), &sight, announced.clone()),
        Do::Forward
    );

    let mut late = Write::new(rules, Token(1), Tags::new());
    late.step(BEGAN, &sight, Input::Look);
    let closing = late.step(after(1600), &sight, announced.clone());
    assert!(
        matches!(closing, Do::Call(Call::Close { kind: 'N', .. })),
        "{closing:?}"
    );
    assert_eq!(late.step(after(1610), &sight, announced), Do::Refuse);
}

/// The log's records alone were deleted. Whoever was behind joined anew, had no old records to read, and took the last
/// fence for the place from which on it knew everything: the drops since then were nowhere.
#[test]
fn records_that_are_gone_are_not_taken_for_known() {
    let mut replica = Replica::new(timing(), Member(1), 7);
    step(&mut replica, BEGAN, Event::Tick);
    step(&mut replica, BEGAN, reset(false, 9, 0, 2));
    let settled = step(&mut replica, after(10), news(9, 2));
    assert!(leases(&settled));
    for effect in settled {
        if let Effect::Floor(floor) = effect {
            assert_eq!(floor, 9);
        }
    }
}
