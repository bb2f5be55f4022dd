//! Random lives of the shared log: the scripts in a real Redis and their oracle get the same calls and the same faults.

use reprise::coherence::log::{Appended, Call, Member, Mode, Synced};
use reprise::coherence::record::{Change, Token};
use reprise::tag::{Tag, Tags};

use crate::support::oracle::{Answer, Field, Key};
use crate::support::twin::Twin;

const OURS: u64 = 0xaaaa;
const THEIRS: u64 = 0xbbbb;

/// Random numbers that a seed repeats.
struct Dice(u64);

impl Dice {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    const fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).expect("an index")]
    }

    fn tags(&mut self) -> Tags {
        (0..self.below(4))
            .map(|_| Tag::from_u64(self.next()))
            .collect()
    }
}

/// A replica as far as the log sees it, which forgets and errs more than a real one.
struct Peer {
    member: Member,
    known: Option<(u64, u64)>,
    reading: u64,
}

/// A random life of a log.
struct Life {
    dice: Dice,
    twin: Twin,
    peers: Vec<Peer>,
    /// How often each kind of answer came.
    seen: [usize; 8],
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let peers = (1..=1 + dice.below(4)).map(|number| Peer {
            member: Member(number),
            known: None,
            reading: 0,
        });
        Self {
            peers: peers.collect(),
            dice,
            twin: Twin::new(&[]),
            seen: [0; 8],
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..50 => self.sync(),
            50..97 => {
                let call = self.another();
                let answer = self.twin.call(&call);
                self.note(&answer);
            }
            _ => self.fault(),
        }
    }

    fn epoch(&mut self) -> u64 {
        if self.dice.once_in(15) {
            return self.dice.next();
        }
        self.twin.oracle.epoch().unwrap_or(0)
    }

    /// A position at or before the tail; seldom one beyond it.
    fn position(&mut self) -> u64 {
        let tail = self.twin.oracle.tail();
        if self.dice.once_in(60) {
            tail + 3
        } else {
            self.dice.below(tail + 1)
        }
    }

    fn sync(&mut self) {
        let at = usize::try_from(self.dice.below(self.peers.len() as u64)).expect("an index");
        let mode = self.dice.one_of(&[
            Mode::Settled,
            Mode::Settled,
            Mode::Settled,
            Mode::Probation,
            Mode::Lapsed,
            Mode::Alone,
        ]);
        let (wrong, far) = (self.dice.once_in(20), self.dice.once_in(10));
        let position = self.position();
        let peer = &self.peers[at];
        let known = match peer.known {
            Some((epoch, _)) if far => Some((epoch, position)),
            _ if wrong => None,
            known => known,
        };
        let fingerprint = if self.dice.once_in(12) { THEIRS } else { OURS };
        let call = Call::Sync {
            member: peer.member,
            known,
            mode,
            quarantined: self.dice.once_in(10),
            fingerprint,
            confirms: if self.dice.once_in(3) {
                0
            } else {
                peer.reading
            },
            nonce: self.dice.next(),
        };
        let answer = self.twin.call(&call);
        self.note(&answer);
        let peer = &mut self.peers[at];
        match answer {
            Answer::Synced(Synced::News(news)) => {
                peer.reading = news.reading;
                let last = news.records.last().map(|record| record.seq);
                peer.known = known.map(|(epoch, applied)| (epoch, last.unwrap_or(applied)));
            }
            Answer::Synced(Synced::Reset(reset)) => {
                peer.reading = 0;
                peer.known = Some((reset.epoch, reset.tail));
            }
            _ => peer.known = None,
        }
    }

    fn another(&mut self) -> Call {
        let nonce = self.dice.next();
        let epoch = self.epoch();
        let token = Token(1 + self.dice.below(5));
        let peers = self.peers.len() as u64;
        let member = Member(1 + self.dice.below(peers + 1));
        match self.dice.below(20) {
            0..5 => Call::Ack {
                member,
                epoch,
                applied: self.position(),
                nonce,
            },
            5..10 => Call::Intent {
                token,
                epoch,
                tags: self.dice.tags(),
                nonce,
            },
            10..15 => {
                let kind = self.dice.one_of(&['C', 'N', 'X', 'P', 'S', 'B', 'C', 'X']);
                let change = match kind {
                    'C' => Change::Commit(self.dice.tags()),
                    'B' => Change::Ban("/api/*?q=ä b".into()),
                    'P' | 'S' => Change::Point(self.dice.tags()),
                    _ => Change::Close,
                };
                Call::Close {
                    token,
                    epoch,
                    kind,
                    payload: change.payload(),
                    nonce,
                }
            }
            15..17 => Call::Page {
                epoch,
                from: self.position(),
            },
            17..19 => {
                let beats = self.twin.oracle.beats();
                let beat = beats.filter(|(of, _)| *of == member).map(|(_, beat)| beat);
                let beat = beat.last().unwrap_or(7) + u64::from(self.dice.once_in(3));
                Call::Reap {
                    member,
                    beat,
                    epoch,
                    nonce,
                }
            }
            _ => Call::Leave { member, nonce },
        }
    }

    fn fault(&mut self) {
        let twin = &mut self.twin;
        match self.dice.below(15) {
            0 => twin.restart_empty(),
            1 => twin.restart_saved(),
            2 | 3 => twin.save(),
            4 => twin.flush(),
            5 | 6 => twin.lose(self.dice.one_of(&Key::ALL)),
            7 | 8 => twin.lose_field(self.dice.one_of(&Field::ALL)),
            9 => twin.lose_open(Token(1 + self.dice.below(5))),
            10 => {
                let of = self.dice.one_of(&[Key::Members, Key::Beats]);
                twin.lose_member(Member(1 + self.dice.below(4)), of);
            }
            11 => twin.trim(usize::try_from(self.dice.below(6)).expect("few")),
            12 => twin.attach(),
            13 => twin.cut(),
            _ => twin.promote(),
        }
    }

    fn note(&mut self, answer: &Answer) {
        let kind = match answer {
            Answer::Synced(Synced::News(news)) => usize::from(!news.records.is_empty()),
            Answer::Synced(Synced::Reset(_)) => 2,
            Answer::Synced(Synced::Foreign | Synced::Unsupported) => 3,
            Answer::Appended(Appended::At { .. }) => 4,
            Answer::Appended(Appended::Elsewhere { .. }) => 5,
            Answer::Paged(_) => 6,
            Answer::Acked(_) | Answer::Removed(_) => 7,
        };
        self.seen[kind] += 1;
    }
}

#[test]
fn scripts_and_oracle_answer_and_tell_the_same_whatever_happens() {
    let mut seen = [0; 8];
    for seed in 0..60 {
        let mut life = Life::new(seed);
        for step in 0..300 {
            life.twin.story = format!("seed {seed}, step {step}");
            life.step();
        }
        for (all, one) in seen.iter_mut().zip(life.seen) {
            *all += one;
        }
    }
    assert!(
        seen.iter().all(|count| *count > 50),
        "too little happened: {seen:?}"
    );
}
