//! The table of drops: what the log comes to. For every tag, when it was last dropped and how many writes to it are open.
//!
//! Pure: it owns no lock, no clock and no socket. An entry is usable when none of its tags has been dropped since its
//! stamp, none is open, no ban since has meant it, and its stamp is not older than what the table still remembers (the
//! floor). Forgetting therefore costs hits and never a stale answer.

use std::collections::HashMap;
use std::time::Duration;

use super::clock::Time;
use super::record::{Change, Record, Token};
use crate::entry::Stamp;
use crate::glob::Glob;
use crate::key;
use crate::tag::{Tag, Tags};

/// How long drops are remembered one by one; an entry stamped before that is a miss.
const MEMORY: Duration = Duration::from_secs(48 * 3600);

/// How often the position of the log is noted, for forgetting by age.
const CHECKPOINT: Duration = Duration::from_secs(60);

/// How many tags are remembered one by one.
const MAX_CELLS: usize = 1_000_000;

/// How many bans are remembered one by one; one more drops everything instead, since each costs every first look.
const MAX_BANS: usize = 256;

/// Why an entry or a fill may not be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// A write to one of its tags is under way.
    Dirty,
    /// One of its tags was dropped after its stamp.
    Dropped,
    /// Its stamp is older than the table's memory, or of another log.
    Forgotten,
    /// This replica has not read the log lately enough to know.
    NoLease,
}

/// How an entry that may be used stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Nothing was said about it.
    Good,
    /// It was purged softly.
    Softened,
}

/// What a reader asks of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writes {
    /// An open write to a tag makes it unusable; and nothing is usable that an older epoch's writes may still change.
    Strict,
    /// An open write to a tag makes it unusable.
    Count,
    /// Only drops do: for `bounded` routes, which may lag.
    Ignore,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Cell {
    dropped: u64,
    softened: u64,
    open: u32,
}

#[derive(Debug)]
struct Open {
    tags: Tags,
    /// When this replica heard of it.
    since: Time,
}

/// The table of drops.
#[derive(Debug)]
pub struct Table {
    epoch: u64,
    /// The number of the last record.
    seq: u64,
    /// Stamps below this are unusable: the log said so.
    fence: u64,
    /// Stamps below this are unusable: this table has forgotten.
    forgotten: u64,
    /// Stamps below this are unusable for strict readers.
    strict: u64,
    cells: HashMap<Tag, Cell>,
    open: HashMap<Token, Open>,
    bans: Vec<(u64, Glob)>,
    checkpoints: Vec<(Time, u64)>,
}

impl Table {
    /// An empty table of a log with this epoch.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            seq: 0,
            fence: 0,
            forgotten: 0,
            strict: 0,
            cells: HashMap::new(),
            open: HashMap::new(),
            bans: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    /// The present end of the log.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        Stamp {
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    /// How many writes are under way.
    #[must_use]
    pub fn open_writes(&self) -> usize {
        self.open.len()
    }

    /// What a write announced, while it is open.
    #[must_use]
    pub fn announced(&self, token: Token) -> Option<&Tags> {
        self.open.get(&token).map(|open| &open.tags)
    }

    /// The writes that have been open for longer than this: they can no longer take place, or have.
    #[must_use]
    pub fn overdue(&self, now: Time, ttl: Duration) -> Vec<(Token, Tags)> {
        self.open
            .iter()
            .filter(|(_, open)| now >= open.since + ttl)
            .map(|(token, open)| (*token, open.tags.clone()))
            .collect()
    }

    /// Whether something stamped and tagged like this, and stored under this full key, may be used now. An empty key is
    /// none: then bans do not count.
    ///
    /// # Errors
    ///
    /// Why it may not. A drop is told before an open write: waiting would not help.
    pub fn check(
        &self,
        stamp: Stamp,
        tags: &[Tag],
        key: &[u8],
        writes: Writes,
    ) -> Result<Standing, Unusable> {
        let floor = self.fence.max(self.forgotten);
        if stamp.epoch != self.epoch
            || stamp.seq < floor
            || (writes == Writes::Strict && stamp.seq < self.strict)
        {
            return Err(Unusable::Forgotten);
        }
        let (mut dirty, mut softened) = (false, false);
        for cell in tags.iter().filter_map(|tag| self.cells.get(tag)) {
            if cell.dropped > stamp.seq {
                return Err(Unusable::Dropped);
            }
            dirty |= cell.open > 0;
            softened |= cell.softened > stamp.seq;
        }
        if self.is_banned(stamp, key) {
            return Err(Unusable::Dropped);
        }
        if dirty && writes != Writes::Ignore {
            return Err(Unusable::Dirty);
        }
        Ok(if softened {
            Standing::Softened
        } else {
            Standing::Good
        })
    }

    fn is_banned(&self, stamp: Stamp, key: &[u8]) -> bool {
        if key.is_empty() || self.bans.last().is_none_or(|(seq, _)| *seq <= stamp.seq) {
            return false;
        }
        // A key that cannot be read back may be meant.
        key::target_of(key).is_none_or(|target| {
            let newer = self.bans.iter().rev();
            newer
                .take_while(|(seq, _)| *seq > stamp.seq)
                .any(|(_, ban)| target.is_meant_by(ban))
        })
    }

    /// Forgets everything, and begins at this place with these writes open. Nothing stamped before is usable.
    pub fn begin(&mut self, epoch: u64, seq: u64, open: Vec<(Token, Tags)>, now: Time) {
        *self = Self::new(epoch);
        self.seq = seq;
        self.fence = seq;
        for (token, tags) in open {
            self.open(token, tags, now);
        }
    }

    /// Applies the next record.
    pub fn apply(&mut self, record: &Record, now: Time) {
        self.seq = record.seq;
        match &record.change {
            Change::Intent(tags) => self.open(record.token, tags.clone(), now),
            Change::Commit(_) | Change::Expire(_) => {
                #[cfg(not(reprise_mutant = "close_does_not_bump"))]
                self.note(record);
                self.close(record.token);
            }
            Change::Close => self.close(record.token),
            Change::Point(_) | Change::Soften(_) | Change::Ban(_) | Change::Fence => {
                self.note(record);
            }
        }
        self.forget_excess();
    }

    /// Takes note of what records from before the beginning dropped.
    pub fn recall(&mut self, records: &[Record]) {
        records.iter().for_each(|record| self.note(record));
        self.bans.sort_by_key(|(seq, _)| *seq);
        self.forget_excess();
    }

    /// What is stamped before this is unusable; from here on the records decide.
    pub fn set_fence(&mut self, fence: u64) {
        self.fence = fence;
    }

    /// What is stamped before this is unusable for strict readers.
    pub fn set_strict_fence(&mut self, fence: u64) {
        self.strict = fence;
    }

    /// Forgets what is older than anything that may still be stored. To be called every second or so.
    pub fn forget_old(&mut self, now: Time) {
        let due = |(at, _): &(Time, u64)| now >= *at + CHECKPOINT;
        if self.checkpoints.last().is_none_or(due) {
            self.checkpoints.push((now, self.seq));
        }
        let old = self
            .checkpoints
            .iter()
            .take_while(|(at, _)| now >= *at + MEMORY)
            .count();
        if let Some((_, seq)) = old
            .checked_sub(1)
            .and_then(|last| self.checkpoints.get(last))
            .copied()
        {
            self.checkpoints.drain(..old);
            self.forget(seq);
        }
    }

    fn open(&mut self, token: Token, tags: Tags, since: Time) {
        self.close(token);
        for tag in &tags {
            self.cells.entry(*tag).or_default().open += 1;
        }
        self.open.insert(token, Open { tags, since });
    }

    fn close(&mut self, token: Token) {
        let Some(open) = self.open.remove(&token) else {
            return;
        };
        for tag in &open.tags {
            if let Some(cell) = self.cells.get_mut(tag) {
                cell.open -= 1;
                if *cell == Cell::default() {
                    self.cells.remove(tag);
                }
            }
        }
    }

    /// Notes what a record dropped or softened.
    fn note(&mut self, record: &Record) {
        let seq = record.seq;
        match &record.change {
            Change::Commit(tags) | Change::Expire(tags) | Change::Point(tags) => {
                for tag in tags {
                    let cell = self.cells.entry(*tag).or_default();
                    cell.dropped = cell.dropped.max(seq);
                }
            }
            Change::Soften(tags) => {
                for tag in tags {
                    let cell = self.cells.entry(*tag).or_default();
                    cell.softened = cell.softened.max(seq);
                }
            }
            Change::Ban(text) => self.ban(seq, text),
            Change::Intent(_) | Change::Close | Change::Fence => {}
        }
    }

    fn ban(&mut self, seq: u64, text: &str) {
        match Glob::parse(text) {
            Ok(glob) if self.bans.len() < MAX_BANS => self.bans.push((seq, glob)),
            // One that cannot be read may mean anything; and so many together cost more than they keep.
            Ok(_) | Err(_) => {
                self.bans.clear();
                let cell = self.cells.entry(Tag::all()).or_default();
                cell.dropped = cell.dropped.max(seq);
            }
        }
    }

    /// More tags than the table may hold: the oldest drops are forgotten, and what was stored before them with them.
    fn forget_excess(&mut self) {
        while self.cells.len() > MAX_CELLS && self.forgotten < self.seq {
            self.forget(self.forgotten.midpoint(self.seq + 1));
        }
    }

    fn forget(&mut self, floor: u64) {
        self.forgotten = self.forgotten.max(floor);
        let floor = self.forgotten;
        self.cells
            .retain(|_, cell| cell.open > 0 || cell.dropped.max(cell.softened) > floor);
        self.bans.retain(|(seq, _)| *seq > floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(names: &[&str]) -> Tags {
        names.iter().map(|name| Tag::named(name)).collect()
    }

    /// A table to which changes are applied one after the other.
    struct Told(Table);

    impl Told {
        fn new() -> Self {
            Self(Table::new(1))
        }

        fn say(&mut self, token: u64, change: Change) -> Stamp {
            let (seq, token) = (self.0.seq + 1, Token(token));
            self.0.apply(&Record { seq, token, change }, Time(seq));
            self.0.stamp()
        }

        fn check(&self, stamp: Stamp, names: &[&str]) -> Result<Standing, Unusable> {
            self.0.check(stamp, &tags(names), &[], Writes::Count)
        }
    }

    #[test]
    fn what_was_asked_for_before_a_drop_is_unusable_after_it() {
        let mut table = Told::new();
        let before = table.0.stamp();
        let after = table.say(0, Change::Point(tags(&["a"])));
        assert_eq!(table.check(before, &["a", "b"]), Err(Unusable::Dropped));
        assert_eq!(table.check(before, &["b"]), Ok(Standing::Good));
        assert_eq!(table.check(after, &["a"]), Ok(Standing::Good));
    }

    #[test]
    fn an_open_write_keeps_its_tags_from_use_until_it_ends() {
        let mut table = Told::new();
        let before = table.0.stamp();
        table.say(1, Change::Intent(tags(&["a"])));
        let during = table.say(2, Change::Intent(tags(&["a"])));
        for stamp in [before, during] {
            assert_eq!(table.check(stamp, &["a"]), Err(Unusable::Dirty));
            let ignoring = table.0.check(stamp, &tags(&["a"]), &[], Writes::Ignore);
            assert_eq!(ignoring, Ok(Standing::Good));
        }
        table.say(1, Change::Close);
        assert_eq!(table.check(before, &["a"]), Err(Unusable::Dirty));
        table.say(2, Change::Close);
        assert_eq!(
            table.check(before, &["a"]),
            Ok(Standing::Good),
            "a refused write drops nothing"
        );
        assert!(table.0.cells.is_empty());
    }

    #[test]
    fn a_commit_drops_what_began_during_the_write() {
        let mut table = Told::new();
        let during = table.say(1, Change::Intent(tags(&["a:*"])));
        table.say(1, Change::Commit(tags(&["a:5"])));
        assert_eq!(table.check(during, &["a:5", "a:*"]), Err(Unusable::Dropped));
        assert_eq!(
            table.check(during, &["a:6", "a:*"]),
            Ok(Standing::Good),
            "others only paused"
        );
        assert_eq!(table.0.open_writes(), 0);
    }

    #[test]
    fn a_write_whose_end_nobody_saw_is_overdue_when_its_time_is_over() {
        let mut table = Told::new();
        let during = table.say(1, Change::Intent(tags(&["a"])));
        let ttl = Duration::from_secs(60);
        assert_eq!(table.0.overdue(Time(0) + ttl, ttl), []);
        let overdue = table.0.overdue(Time(1) + ttl, ttl);
        assert_eq!(overdue, [(Token(1), tags(&["a"]))]);
        table.say(1, Change::Expire(tags(&["a"])));
        assert_eq!(table.check(during, &["a"]), Err(Unusable::Dropped));
    }

    #[test]
    fn a_softened_entry_is_usable_and_known_to_be_soft() {
        let mut table = Told::new();
        let before = table.0.stamp();
        let after = table.say(0, Change::Soften(tags(&["a"])));
        assert_eq!(table.check(before, &["a"]), Ok(Standing::Softened));
        assert_eq!(table.check(after, &["a"]), Ok(Standing::Good));
    }

    #[test]
    fn too_many_bans_become_one_drop_of_everything() {
        let mut table = Told::new();
        let before = table.0.stamp();
        for _ in 0..=MAX_BANS {
            table.say(0, Change::Ban("/nowhere".into()));
        }
        assert!(table.0.bans.is_empty());
        let everything = table.0.check(before, &[Tag::all()], &[], Writes::Count);
        assert_eq!(everything, Err(Unusable::Dropped));
    }

    #[test]
    fn forgetting_makes_old_stamps_unusable() {
        let mut table = Told::new();
        let before = table.0.stamp();
        let after = table.say(0, Change::Point(tags(&["a"])));
        table.0.forget_old(Time(1));
        table.0.forget_old(Time(1) + MEMORY + CHECKPOINT);
        assert!(table.0.cells.is_empty());
        assert_eq!(table.check(before, &["b"]), Err(Unusable::Forgotten));
        assert_eq!(table.check(after, &["a"]), Ok(Standing::Good));
        let foreign = Stamp { epoch: 2, ..after };
        assert_eq!(table.check(foreign, &["a"]), Err(Unusable::Forgotten));
    }

    #[test]
    fn a_newcomer_uses_old_entries_only_once_old_drops_are_known() {
        let mut table = Told::new();
        let old = |seq| Stamp { epoch: 7, seq };
        table
            .0
            .begin(7, 10, vec![(Token(3), tags(&["open"]))], Time(0));
        assert_eq!(table.check(old(9), &["b"]), Err(Unusable::Forgotten));
        assert_eq!(table.check(old(10), &["open"]), Err(Unusable::Dirty));
        let (seq, token) = (8, Token(0));
        let change = Change::Point(tags(&["a"]));
        table.0.recall(&[Record { seq, token, change }]);
        table.0.set_fence(5);
        assert_eq!(table.check(old(6), &["b"]), Ok(Standing::Good));
        assert_eq!(table.check(old(6), &["a"]), Err(Unusable::Dropped));
        assert_eq!(table.check(old(4), &["b"]), Err(Unusable::Forgotten));
    }

    #[test]
    fn strict_readers_wait_for_the_fence_that_ends_the_quarantine() {
        let mut table = Told::new();
        let stamp = table.say(0, Change::Fence);
        table.0.set_strict_fence(u64::MAX);
        let strict = |table: &Told, stamp| table.0.check(stamp, &[], &[], Writes::Strict);
        assert_eq!(strict(&table, stamp), Err(Unusable::Forgotten));
        assert_eq!(table.check(stamp, &[]), Ok(Standing::Good));
        let fence = table.say(0, Change::Fence);
        table.0.set_strict_fence(fence.seq);
        assert_eq!(strict(&table, stamp), Err(Unusable::Forgotten));
        assert_eq!(strict(&table, fence), Ok(Standing::Good));
    }
}
