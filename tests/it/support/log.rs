//! Calls of the shared log by name, for tests that follow it step by step.
//!
//! What flows in: who calls, and what of the call matters to the test. What flows out: the answer, its kind already
//! looked at. It promises fresh nonces, and that every call went to a real Redis and to the oracle.

use reprise::coherence::log::{Appended, Call, Member, Mode, News, Paged, Reset, Synced};
use reprise::coherence::record::{Change, Token};
use reprise::tag::{Tag, Tags};

use super::oracle::Answer;
use super::twin::Twin;

/// Members.
pub const A: Member = Member(0xa);
pub const B: Member = Member(0xb);
pub const C: Member = Member(0xc);
/// A write.
pub const W: Token = Token(0x77);
/// Identity keys.
pub const OURS: u64 = 1;
pub const THEIRS: u64 = 2;

/// A log with its oracle, and its calls by name.
pub struct Log {
    pub twin: Twin,
    pub epoch: u64,
    nonce: u64,
}

impl Log {
    /// A log that nobody has joined.
    pub fn new(options: &[&str]) -> Self {
        Self {
            twin: Twin::new(options),
            epoch: 0,
            nonce: 0x1000,
        }
    }

    /// A log with two members, an open write, and a record that only one of them has acknowledged.
    pub fn lived_in() -> Self {
        let mut log = Self::new(&[]);
        log.live();
        log
    }

    /// The same for a log that is there.
    pub fn live(&mut self) {
        self.join(A);
        let at = self.join(B).tail;
        self.intent(W);
        self.news(A, at, Mode::Settled, 0);
    }

    fn nonce(&mut self) -> u64 {
        self.nonce += 1;
        self.nonce
    }

    /// Any call.
    pub fn ask(&mut self, call: &Call) -> Answer {
        self.twin.call(call)
    }

    /// A settled SYNC, of an identity key.
    pub fn sync(&mut self, member: Member, known: Option<(u64, u64)>, fingerprint: u64) -> Synced {
        let nonce = self.nonce();
        let call = of_sync(member, known, (Mode::Settled, 0), fingerprint, nonce);
        let Answer::Synced(synced) = self.ask(&call) else {
            panic!("not synced")
        };
        synced
    }

    /// A SYNC of one that knows nothing.
    pub fn join(&mut self, member: Member) -> Reset {
        let Synced::Reset(reset) = self.sync(member, None, OURS) else {
            panic!("not reset")
        };
        self.epoch = reset.epoch;
        reset
    }

    /// A SYNC of one that has applied so much.
    pub fn news(&mut self, member: Member, applied: u64, mode: Mode, confirms: u64) -> News {
        let nonce = self.nonce();
        let known = Some((self.epoch, applied));
        match self.ask(&of_sync(member, known, (mode, confirms), OURS, nonce)) {
            Answer::Synced(Synced::News(news)) => news,
            other => panic!("no news: {other:?}"),
        }
    }

    /// An ACK: whether the log is still the one.
    pub fn ack(&mut self, member: Member, applied: u64) -> bool {
        let (epoch, nonce) = (self.epoch, self.nonce());
        let call = Call::Ack {
            member,
            epoch,
            applied,
            nonce,
        };
        self.ask(&call) == Answer::Acked(true)
    }

    /// An INTENT to tags 1 and 2.
    pub fn intent(&mut self, token: Token) -> Appended {
        let call = of_intent(token, self.epoch, self.nonce());
        let Answer::Appended(appended) = self.ask(&call) else {
            panic!("not appended")
        };
        appended
    }

    /// A CLOSE with this change.
    pub fn close(&mut self, token: Token, change: &Change) -> Appended {
        let call = of_close(token, change, self.epoch, self.nonce());
        let Answer::Appended(appended) = self.ask(&call) else {
            panic!("not appended")
        };
        appended
    }

    /// A PAGE: where it goes on, and the numbers.
    pub fn page(&mut self, from: u64) -> (u64, Vec<u64>) {
        let epoch = self.epoch;
        match self.ask(&Call::Page { epoch, from }) {
            Answer::Paged(Paged::Records { next, records }) => {
                (next, records.iter().map(|record| record.seq).collect())
            }
            other => panic!("no records: {other:?}"),
        }
    }

    /// A REAP: whether it was removed.
    pub fn reap(&mut self, member: Member, beat: u64, epoch: u64) -> bool {
        let nonce = self.nonce();
        let call = Call::Reap {
            member,
            beat,
            epoch,
            nonce,
        };
        self.ask(&call) == Answer::Removed(true)
    }

    /// A member's beat.
    pub fn beat(&self, member: Member) -> u64 {
        let found = self.twin.oracle.beats().find(|(of, _)| *of == member);
        found.expect("a member").1
    }

    /// One call of each kind, that does something.
    pub fn calls(&mut self) -> Vec<Call> {
        let (epoch, beat) = (self.epoch, self.beat(B));
        let applied = self.twin.oracle.tail();
        let mut nonce = || {
            self.nonce += 1;
            self.nonce
        };
        vec![
            of_sync(A, None, (Mode::Settled, 0), OURS, nonce()),
            of_sync(A, Some((epoch, applied)), (Mode::Lapsed, 0), OURS, nonce()),
            Call::Ack {
                member: B,
                epoch,
                applied,
                nonce: nonce(),
            },
            of_intent(Token(0x78), epoch, nonce()),
            of_close(W, &Change::Commit(tags(&[5])), epoch, nonce()),
            Call::Page { epoch, from: 1 },
            Call::Reap {
                member: B,
                beat,
                epoch,
                nonce: nonce(),
            },
            Call::Leave {
                member: A,
                nonce: nonce(),
            },
        ]
    }

    /// What everything stored comes to.
    pub fn digest(&mut self) -> String {
        self.twin.ask.say("DEBUG DIGEST").text()
    }
}

/// Tags by their hashes.
pub fn tags(hashes: &[u64]) -> Tags {
    hashes.iter().map(|hash| Tag::from_u64(*hash)).collect()
}

/// A SYNC.
pub fn of_sync(
    member: Member,
    known: Option<(u64, u64)>,
    (mode, confirms): (Mode, u64),
    fingerprint: u64,
    nonce: u64,
) -> Call {
    Call::Sync {
        member,
        known,
        mode,
        quarantined: false,
        fingerprint,
        confirms,
        nonce,
    }
}

/// An INTENT to tags 1 and 2.
pub fn of_intent(token: Token, epoch: u64, nonce: u64) -> Call {
    Call::Intent {
        token,
        epoch,
        tags: tags(&[1, 2]),
        nonce,
    }
}

/// A CLOSE with this change.
pub fn of_close(token: Token, change: &Change, epoch: u64, nonce: u64) -> Call {
    Call::Close {
        token,
        epoch,
        kind: change.kind(),
        payload: change.payload(),
        nonce,
    }
}
