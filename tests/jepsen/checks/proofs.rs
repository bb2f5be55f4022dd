//! What the checkers are worth: hand-written histories, good ones that must pass and bad ones that must not. Every run
//! begins with them, since a checker that has caught nothing proves nothing.

use super::{Promise, Rules, Verdict, check};
use crate::history::{End, Harm, History, Kind, Nanos, Op, Seen, Source, Span, Struck};
use std::time::Duration;

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1000 * MS;

/// A history by hand: a healthy cache over 60 seconds, to which a proof adds what it is about. Times are milliseconds.
struct Story {
    history: History,
    rules: Rules,
}

/// Shows the checkers everything that they must see; what they got wrong.
pub fn prove() -> Vec<String> {
    PROOFS
        .iter()
        .filter_map(|(name, expected, story)| {
            let Story { history, rules } = story();
            let verdict = check(&history, &rules);
            let mut found: Vec<&str> = verdict.violations.iter().map(|it| it.check).collect();
            found.dedup();
            let wrong = match expected {
                None => !found.is_empty(),
                Some(expected) => found != [*expected],
            };
            wrong.then(|| {
                let texts = of_interest(&verdict);
                format!("{name}: expected {expected:?}, found {found:?} {texts:?}")
            })
        })
        .collect()
}

fn of_interest(verdict: &Verdict) -> Vec<&str> {
    let texts = verdict.violations.iter().map(|it| it.text.as_str());
    texts.take(3).collect()
}

type Proof = (&'static str, Option<&'static str>, fn() -> Story);

const PROOFS: [Proof; 34] = [
    ("a healthy run passes", None, || story(Promise::Strong)),
    ("a healthy strict run passes", None, || {
        story(Promise::Strict)
    }),
    ("a healthy bounded run passes", None, || {
        story(Promise::Bounded)
    }),
    (
        "a read that began before the acknowledgement may be old",
        None,
        || {
            story(Promise::Strong)
                .write(1, 2, 1000, 1100)
                .read(0, 1, 1099, 1300)
        },
    ),
    ("one that began at its very moment may be old", None, || {
        story(Promise::Strong)
            .write(1, 2, 1000, 1100)
            .read(0, 1, 1100, 1300)
    }),
    (
        "a read that began after the acknowledgement may not",
        Some("stale"),
        || {
            story(Promise::Strong)
                .write(1, 2, 1000, 1100)
                .read(0, 1, 1101, 1300)
        },
    ),
    (
        "nor through the replica that took the write",
        Some("stale"),
        || {
            story(Promise::Strong)
                .write(0, 2, 1000, 1100)
                .read(0, 1, 1101, 1102)
        },
    ),
    (
        "a newer acknowledgement counts for older versions",
        Some("stale"),
        || {
            // The write of version 3 is acknowledged before that of version 2 is.
            story(Promise::Strong)
                .write(1, 2, 1000, 2000)
                .write(2, 3, 1050, 1100)
                .read(0, 1, 1200, 1201)
        },
    ),
    ("a version between is stale too", Some("stale"), || {
        story(Promise::Strong)
            .write(1, 2, 1000, 2000)
            .write(2, 3, 1050, 1100)
            .read(0, 2, 1200, 1201)
    }),
    ("what was never acknowledged binds nobody", None, || {
        story(Promise::Strong)
            .write(1, 2, 1000, 1100)
            .lost_answer()
            .read(0, 1, 1200, 1201)
    }),
    (
        "but not for ever: its announcement expires",
        Some("forgotten"),
        || {
            story(Promise::Strong)
                .write(1, 2, 1000, 1100)
                .lost_answer()
                .read(0, 1, 5700, 5701)
        },
    ),
    ("unless Redis lost the announcement", None, || {
        story(Promise::Strong)
            .cut(Struck::Everybody, 500, 600)
            .write(1, 2, 1000, 1100)
            .lost_answer()
            .read(0, 1, 5700, 5701)
    }),
    (
        "an uncoordinated write is excused while its replica is cut off",
        None,
        || {
            story(Promise::Strong)
                .cut(Struck::Replica(1), 900, 1200)
                .write(1, 2, 1000, 1100)
                .uncoordinated()
                .read(0, 1, 1150, 1151)
        },
    ),
    (
        "but not while every replica is cut off",
        Some("stale"),
        || {
            story(Promise::Strong)
                .cut(Struck::Everybody, 900, 1200)
                .write(1, 2, 1000, 1100)
                .uncoordinated()
                .read(0, 1, 1150, 1151)
        },
    ),
    ("nor when nothing was broken", Some("stale"), || {
        story(Promise::Strong)
            .write(1, 2, 1000, 1100)
            .uncoordinated()
            .read(0, 1, 1150, 1151)
    }),
    ("nor when another replica was", Some("stale"), || {
        story(Promise::Strong)
            .cut(Struck::Replica(2), 900, 1200)
            .write(1, 2, 1000, 1100)
            .uncoordinated()
            .read(0, 1, 1150, 1151)
    }),
    (
        "strong readers may see new, then old, before the acknowledgement",
        None,
        || {
            story(Promise::Strong)
                .write(1, 2, 1000, 2000)
                .read(0, 2, 1100, 1200)
                .read(2, 1, 1300, 1400)
        },
    ),
    ("strict ones may not", Some("linearizable"), || {
        story(Promise::Strict)
            .write(1, 2, 1000, 2000)
            .read(0, 2, 1100, 1200)
            .read(2, 1, 1300, 1400)
    }),
    (
        "strict readers at the same time may see either",
        None,
        || {
            story(Promise::Strict)
                .write(1, 2, 1000, 2000)
                .read(0, 2, 1100, 1200)
                .read(2, 1, 1199, 1400)
        },
    ),
    (
        "a strict read after the acknowledgement is stale",
        Some("stale"),
        || {
            story(Promise::Strict)
                .write(1, 2, 1000, 1100)
                .read(0, 1, 1101, 1300)
        },
    ),
    ("nobody reads from the future", Some("future"), || {
        story(Promise::Strong)
            .write(1, 2, 1000, 1100)
            .read(0, 2, 900, 999)
    }),
    ("nor what was never written", Some("future"), || {
        story(Promise::Strong).read(0, 9, 900, 999)
    }),
    ("nor something else", Some("foreign"), || {
        story(Promise::Strong).read(0, 1, 900, 999).foreign()
    }),
    ("a bounded read may be a lease old", None, || {
        story(Promise::Bounded)
            .write(1, 2, 1000, 1100)
            .read(0, 1, 2100, 2101)
    }),
    ("and no older", Some("bounded"), || {
        story(Promise::Bounded)
            .write(1, 2, 1000, 1100)
            .read(0, 1, 2300, 2301)
    }),
    (
        "nor old at all through the replica that took the write",
        Some("own-write"),
        || {
            story(Promise::Bounded)
                .write(0, 2, 1000, 1100)
                .read(0, 1, 1101, 1102)
        },
    ),
    (
        "hits must come back after a fault",
        Some("recovery"),
        || {
            story(Promise::Strong)
                .cold(30_000, 37_000)
                .cut(Struck::Everybody, 29_000, 30_000)
        },
    ),
    ("and stay", Some("alive"), || {
        story(Promise::Strong)
            .cut(Struck::Everybody, 9_000, 10_000)
            .cold(12_000, 60_000)
    }),
    ("both tiers must answer", Some("alive"), || {
        story(Promise::Strong).without_redis_hits()
    }),
    ("fills and writes must race", Some("alive"), || {
        let mut story = story(Promise::Strong);
        story.history.races = 0;
        story
    }),
    ("faults must strike what is there", Some("alive"), || {
        let mut story = story(Promise::Strong);
        story.history.log_found = false;
        story
    }),
    ("unless a fault meets it", None, || {
        story(Promise::Strong)
            .cut(Struck::Everybody, 1500, 1600)
            .write(1, 2, 1000, 4500)
    }),
    ("a write must not hang", Some("delay"), || {
        story(Promise::Strong).write(1, 2, 1000, 4500)
    }),
    (
        "an error of the proxy's own is an answer lost",
        Some("answers"),
        || story(Promise::Strong).read(0, 1, 1000, 1001).refused(503),
    ),
];

/// A healthy cache: register 0 is at version 1 throughout and read a hundred times a second, from both tiers. Registers of
/// its own are written now and then, so that a proof's own writes are the only ones to register 0.
fn story(promise: Promise) -> Story {
    let mut history = History {
        commits: vec![vec![MS], Vec::new()],
        races: 100,
        log_found: true,
        gets: 100,
        warm: SECOND,
        calm: 8 * SECOND,
        ended: 60 * SECOND,
        ..History::default()
    };
    for at in (0..60_000).step_by(10) {
        let source = match at / 10 % 3 {
            0 => Source::Memory,
            1 => Source::Redis,
            _ => Source::App,
        };
        // Of register 2, which is never written: the background must not meet a proof's versions.
        history.ops.push(op(Kind::Read, 2, at, at + 1));
        let seen = Seen {
            register: 2,
            version: 0,
        };
        let read = history.ops.last_mut().expect("just pushed");
        read.seen = vec![seen];
        read.end = End::Answered {
            status: 200,
            source,
        };
    }
    for at in (0..60_000).step_by(100) {
        let mut write = op(Kind::Write, 0, at, at + 5);
        history.commits[1].push((at + 2) * MS);
        let version = history.commits[1].len() as u64;
        write.seen = vec![Seen {
            register: 1,
            version,
        }];
        history.ops.push(write);
    }
    let rules = Rules {
        promise,
        lease: Duration::from_secs(1),
        upstream: Duration::from_secs(1),
        intent_ttl: Duration::ZERO,
        replicas: 3,
        shared: true,
    };
    Story { history, rules }
}

fn op(kind: Kind, replica: usize, invoke: u64, complete: u64) -> Op {
    Op {
        id: 0,
        kind,
        replica,
        invoke: invoke * MS,
        complete: complete * MS,
        end: End::Answered {
            status: 200,
            source: Source::App,
        },
        seen: Vec::new(),
        foreign: false,
        uncoordinated: false,
        app: MS,
        unanswered: false,
        told: String::new(),
    }
}

impl Story {
    /// A write through a replica that made this version of register 0.
    fn write(mut self, replica: usize, version: u64, invoke: u64, complete: u64) -> Self {
        self.history.commits[0].push((invoke + 1) * MS);
        self.push(Kind::Write, replica, version, (invoke, complete))
    }

    /// A read through a replica that saw this version of register 0.
    fn read(self, replica: usize, version: u64, invoke: u64, complete: u64) -> Self {
        self.push(Kind::Read, replica, version, (invoke, complete))
    }

    fn push(mut self, kind: Kind, replica: usize, version: u64, time: (u64, u64)) -> Self {
        let mut op = op(kind, replica, time.0, time.1);
        op.seen = vec![Seen {
            register: 0,
            version,
        }];
        self.history.ops.push(op);
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Op)) -> Self {
        change(self.history.ops.last_mut().expect("something was pushed"));
        self
    }

    fn lost_answer(self) -> Self {
        self.last(|op| op.end = End::Abandoned)
    }

    fn uncoordinated(self) -> Self {
        self.last(|op| op.uncoordinated = true)
    }

    fn foreign(self) -> Self {
        self.last(|op| op.foreign = true)
    }

    fn refused(self, status: u16) -> Self {
        let why = "no".to_owned();
        self.last(|op| op.end = End::Refused { status, why })
    }

    fn cut(mut self, struck: Struck, from: u64, to: u64) -> Self {
        self.history.spans.push(Span {
            fault: "cut",
            from: from * MS,
            to: to * MS,
            struck,
            harm: Harm::Link,
            uneven: to * MS,
        });
        self
    }

    /// From then to then, all answers come from the app.
    fn cold(mut self, from: u64, to: u64) -> Self {
        let cold = from * MS..to * MS;
        let reads = self.history.ops.iter_mut();
        for read in reads.filter(|op| op.kind == Kind::Read && cold.contains(&op.invoke)) {
            read.end = End::Answered {
                status: 200,
                source: Source::App,
            };
        }
        self
    }

    fn without_redis_hits(mut self) -> Self {
        for op in &mut self.history.ops {
            if op.end
                == (End::Answered {
                    status: 200,
                    source: Source::Redis,
                })
            {
                op.end = End::Answered {
                    status: 200,
                    source: Source::Memory,
                };
            }
        }
        self
    }
}
