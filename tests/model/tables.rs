//! What a replica's readers look at, twice: the real view, and a twin that can be copied and hashed.
//!
//! What flows in: the effects of a replica, and what its writers could not tell the log. What flows out: the lease, the
//! stamp, and whether something stamped there may be used. Both promise the same; the walks run on the real one, and the
//! exhaustive search on the twin.

use std::collections::BTreeMap;
use std::time::Duration;

use reprise::coherence::clock::Time;
use reprise::coherence::record::{Change, Record, Token};
use reprise::coherence::view::View;
use reprise::coherence::{Unusable, Writes};
use reprise::entry::Stamp;
use reprise::tag::{Tag, Tags};

/// The tags of everything that is stored in the model: a coarse one, and a fine one.
pub const TAGS: [Tag; 2] = [Tag::from_u64(0xc0a5), Tag::from_u64(0xf17e)];

/// A change of what readers look at.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Edit {
    Apply(Record),
    Begin(u64, u64, Vec<(Token, Tags)>),
    Recall(Vec<Record>),
    Floor(u64),
    StrictFloor(u64),
}

/// What readers look at.
pub trait Look {
    /// As a process begins.
    fn fresh() -> Self;
    fn edit(&mut self, edit: Edit, now: Time);
    fn stamp(&self) -> Stamp;
    fn lease(&self) -> Time;
    fn usable(&self, stamp: Stamp, writes: Writes) -> bool;
    fn overdue(&self, now: Time, ttl: Duration) -> Vec<Token>;
    fn grant(&mut self, until: Time);
    fn note(&mut self, tags: Tags);
    fn untold(&self) -> Option<(Change, usize)>;
    fn told(&mut self, count: usize);
}

impl Look for View {
    fn fresh() -> Self {
        Self::new(0, Time::NEVER)
    }

    fn edit(&mut self, edit: Edit, now: Time) {
        self.change(|table| match edit {
            Edit::Apply(record) => table.apply(&record, now),
            Edit::Begin(epoch, seq, open) => table.begin(epoch, seq, open, now),
            Edit::Recall(records) => table.recall(&records),
            Edit::Floor(fence) => table.set_fence(fence),
            Edit::StrictFloor(fence) => table.set_strict_fence(fence),
        });
    }

    fn stamp(&self) -> Stamp {
        Self::stamp(self)
    }

    fn lease(&self) -> Time {
        Self::lease(self)
    }

    fn usable(&self, stamp: Stamp, writes: Writes) -> bool {
        let checked: Result<_, Unusable> =
            self.read(|table| table.check(stamp, &TAGS, b"", writes));
        checked.is_ok()
    }

    fn overdue(&self, now: Time, ttl: Duration) -> Vec<Token> {
        let overdue = self.read(|table| table.overdue(now, ttl));
        let mut tokens: Vec<_> = overdue.into_iter().map(|(token, _)| token).collect();
        tokens.sort_unstable();
        tokens
    }

    fn grant(&mut self, until: Time) {
        Self::grant(self, until);
    }

    fn note(&mut self, tags: Tags) {
        Self::note(self, tags, || ());
    }

    fn untold(&self) -> Option<(Change, usize)> {
        Self::untold(self)
    }

    fn told(&mut self, count: usize) {
        Self::told(self, count);
    }
}

/// The twin.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Twin {
    lease: Time,
    epoch: u64,
    seq: u64,
    fence: u64,
    strict: u64,
    dropped: u64,
    open: BTreeMap<Token, Time>,
    untold: Vec<Tags>,
    earned: Option<Time>,
}

impl Look for Twin {
    fn fresh() -> Self {
        Self::default()
    }

    fn edit(&mut self, edit: Edit, now: Time) {
        match edit {
            Edit::Apply(record) => {
                self.seq = record.seq;
                match &record.change {
                    Change::Intent(_) => _ = self.open.insert(record.token, now),
                    Change::Commit(_) | Change::Close | Change::Expire(_) => {
                        self.open.remove(&record.token);
                    }
                    _ => {}
                }
                self.note_drop(&record);
            }
            Edit::Begin(epoch, seq, open) => {
                (self.epoch, self.seq, self.fence) = (epoch, seq, seq);
                (self.strict, self.dropped) = (0, 0);
                self.open = open.into_iter().map(|(token, _)| (token, now)).collect();
            }
            Edit::Recall(records) => records.iter().for_each(|record| self.note_drop(record)),
            Edit::Floor(fence) => self.fence = fence,
            Edit::StrictFloor(fence) => self.strict = fence,
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    fn lease(&self) -> Time {
        self.lease
    }

    fn usable(&self, stamp: Stamp, writes: Writes) -> bool {
        stamp.epoch == self.epoch
            && stamp.seq >= self.fence
            && (writes != Writes::Strict || stamp.seq >= self.strict)
            && stamp.seq >= self.dropped
            && (writes == Writes::Ignore || self.open.is_empty())
    }

    fn overdue(&self, now: Time, ttl: Duration) -> Vec<Token> {
        let open = self.open.iter();
        open.filter(|(_, since)| now >= **since + ttl)
            .map(|(token, _)| *token)
            .collect()
    }

    fn grant(&mut self, until: Time) {
        if until == Time::NEVER || self.untold.is_empty() {
            self.earned = None;
            self.lease = until;
        } else {
            self.earned = Some(until);
        }
    }

    fn note(&mut self, tags: Tags) {
        self.untold.push(tags);
        self.earned = None;
        self.lease = Time::NEVER;
    }

    fn untold(&self) -> Option<(Change, usize)> {
        let count = self.untold.len();
        (count > 0).then(|| (Change::Point(Tags::from_iter(TAGS)), count))
    }

    fn told(&mut self, count: usize) {
        self.untold.drain(..count.min(self.untold.len()));
        if self.untold.is_empty()
            && let Some(until) = self.earned.take()
        {
            self.lease = until;
        }
    }
}

impl Twin {
    fn note_drop(&mut self, record: &Record) {
        if matches!(
            record.change,
            Change::Commit(_) | Change::Expire(_) | Change::Point(_)
        ) {
            self.dropped = self.dropped.max(record.seq);
        }
    }
}
