//! The table of drops: for every tag, when it was last dropped and how many writes to it are under way.
//!
//! Pure: it owns no lock, no clock and no socket. Each change is a record of one ordered log with contiguous numbers;
//! the table is what that log comes to. An entry is usable when none of its tags has been dropped since its stamp, none
//! is open, and its stamp is not older than what the table still remembers (the floor). Forgetting therefore costs hits
//! and never a stale answer.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::record::Token;
use crate::entry::Stamp;
use crate::tag::{Tag, Tags};

/// How long drops are remembered one by one; an entry stamped before that is a miss.
const MEMORY: Duration = Duration::from_secs(48 * 3600);

/// How often the position of the log is noted, for forgetting by age.
const CHECKPOINT: Duration = Duration::from_secs(60);

/// How many tags are remembered one by one.
const MAX_CELLS: usize = 1_000_000;

/// How many broken-off writes are remembered; one more keeps its tags uncached instead.
const MAX_DOUBTS: usize = 4096;

/// Why an entry or a fill may not be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// A write to one of its tags is under way.
    Dirty,
    /// One of its tags was dropped after its stamp.
    Dropped,
    /// Its stamp is older than the table's memory, or of another log.
    Forgotten,
}

/// Whether open writes count: they do not for `bounded` routes, which may lag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writes {
    /// An open write to a tag makes it unusable.
    Count,
    /// Only drops do.
    Ignore,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    dropped: u64,
    open: u32,
}

#[derive(Debug)]
struct Open {
    tags: Tags,
    /// When the write can no longer take place, and the tags are dropped.
    deadline: Instant,
    /// The write took place, and only the app's database lags.
    committed: bool,
}

/// The table of drops.
#[derive(Debug)]
pub struct Table {
    epoch: u64,
    /// The number of the last record.
    seq: u64,
    /// Stamps below this are unusable.
    floor: u64,
    cells: HashMap<Tag, Cell>,
    open: HashMap<Token, Open>,
    /// Tags to drop once more, and when.
    doubts: Vec<(Instant, Tags)>,
    checkpoints: Vec<(Instant, u64)>,
}

impl Table {
    /// An empty table of a log with this epoch.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            seq: 0,
            floor: 0,
            cells: HashMap::new(),
            open: HashMap::new(),
            doubts: Vec::new(),
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

    /// Whether something stamped and tagged like this may be used now.
    ///
    /// # Errors
    ///
    /// Why it may not. A drop is told before an open write: waiting would not help.
    pub fn check(&self, stamp: Stamp, tags: &[Tag], writes: Writes) -> Result<(), Unusable> {
        if stamp.epoch != self.epoch || stamp.seq < self.floor {
            return Err(Unusable::Forgotten);
        }
        let mut dirty = false;
        for cell in tags.iter().filter_map(|tag| self.cells.get(tag)) {
            if cell.dropped > stamp.seq {
                return Err(Unusable::Dropped);
            }
            dirty |= cell.open > 0;
        }
        if dirty && writes == Writes::Count {
            Err(Unusable::Dirty)
        } else {
            Ok(())
        }
    }

    /// Notes that a write to these tags is about to be forwarded.
    pub fn announce(&mut self, token: Token, tags: Tags, deadline: Instant) {
        self.hold(token, tags, deadline, false);
    }

    fn hold(&mut self, token: Token, tags: Tags, deadline: Instant, committed: bool) {
        self.seq += 1;
        for tag in &tags {
            self.cells.entry(*tag).or_default().open += 1;
        }
        let open = Open {
            tags,
            deadline,
            committed,
        };
        self.open.insert(token, open);
    }

    /// Notes that an announced write took place: drops `tags`, and ends the announcement. With `hold`, `tags` are open
    /// until then, and are dropped once more at its end: what was announced may be too much, and what the answer told
    /// was not announced.
    pub fn commit(&mut self, token: Token, tags: &[Tag], hold: Option<Instant>) -> u64 {
        self.drop_tags(tags);
        self.close(token);
        if let Some(until) = hold {
            self.hold(token, tags.into(), until, true);
        }
        self.seq
    }

    /// Notes that an announced write did not take place.
    pub fn close(&mut self, token: Token) {
        let Some(open) = self.open.remove(&token) else {
            return;
        };
        self.seq += 1;
        for tag in &open.tags {
            if let Some(cell) = self.cells.get_mut(tag) {
                cell.open -= 1;
                if cell.open == 0 && cell.dropped <= self.floor {
                    self.cells.remove(tag);
                }
            }
        }
    }

    /// Notes that an announced write hardly took place, since the app never had all of its request: drops its tags now, and
    /// once more when it can no longer take place. In between they are answered as usual: a client that breaks off on
    /// purpose must not keep the cache from answering.
    pub fn doubt(&mut self, token: Token) {
        let Some(open) = self.open.get(&token) else {
            return;
        };
        if self.doubts.len() >= MAX_DOUBTS {
            return;
        }
        let (deadline, tags) = (open.deadline, open.tags.clone());
        self.drop_tags(&tags);
        self.close(token);
        self.doubts.push((deadline, tags));
    }

    /// Drops tags.
    pub fn drop_tags(&mut self, tags: &[Tag]) -> u64 {
        self.seq += 1;
        for tag in tags {
            self.cells.entry(*tag).or_default().dropped = self.seq;
        }
        self.forget_excess();
        self.seq
    }

    /// Ends the announcements whose time is over as if the writes had taken place, since nobody knows; how many. The
    /// holds of writes that did take place end too, and do not count.
    pub fn expire(&mut self, now: Instant) -> usize {
        let over = |(deadline, _): &mut (Instant, Tags)| *deadline <= now;
        let doubts: Vec<_> = self.doubts.extract_if(.., over).collect();
        doubts.iter().for_each(|(_, tags)| {
            self.drop_tags(tags);
        });
        let due: Vec<Token> = self
            .open
            .iter()
            .filter(|(_, open)| open.deadline <= now)
            .map(|(token, _)| *token)
            .collect();
        let mut unknown = 0;
        for token in due {
            let Some(open) = self.open.get(&token) else {
                continue;
            };
            unknown += usize::from(!open.committed);
            let tags = open.tags.clone();
            self.drop_tags(&tags);
            self.close(token);
        }
        self.forget_old(now);
        unknown
    }

    fn forget_old(&mut self, now: Instant) {
        if self
            .checkpoints
            .last()
            .is_none_or(|(at, _)| *at + CHECKPOINT <= now)
        {
            self.checkpoints.push((now, self.seq));
        }
        let old = self
            .checkpoints
            .iter()
            .take_while(|(at, _)| *at + MEMORY <= now)
            .count();
        if let Some((_, seq)) = old
            .checked_sub(1)
            .and_then(|last| self.checkpoints.get(last))
            .copied()
        {
            self.checkpoints.drain(..old);
            self.raise_floor(seq);
        }
    }

    /// More tags than the table may hold: the oldest drops are forgotten, and what was stored before them with them.
    fn forget_excess(&mut self) {
        while self.cells.len() > MAX_CELLS && self.floor < self.seq {
            self.raise_floor(self.floor.midpoint(self.seq + 1));
        }
    }

    fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        let floor = self.floor;
        self.cells
            .retain(|_, cell| cell.open > 0 || cell.dropped > floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(names: &[&str]) -> Tags {
        names.iter().map(|name| Tag::named(name)).collect()
    }

    fn table() -> (Table, Instant) {
        (Table::new(1), Instant::now())
    }

    #[tokio::test]
    async fn what_was_asked_for_before_a_drop_is_unusable_after_it() {
        let (mut table, _) = table();
        let before = table.stamp();
        table.drop_tags(&tags(&["a"]));
        assert_eq!(
            table.check(before, &tags(&["a", "b"]), Writes::Count),
            Err(Unusable::Dropped)
        );
        assert_eq!(table.check(before, &tags(&["b"]), Writes::Count), Ok(()));
        assert_eq!(
            table.check(table.stamp(), &tags(&["a"]), Writes::Count),
            Ok(())
        );
    }

    #[tokio::test]
    async fn an_open_write_keeps_its_tags_from_use_until_it_ends() {
        let (mut table, now) = table();
        let before = table.stamp();
        table.announce(Token(1), tags(&["a"]), now + Duration::from_secs(60));
        table.announce(Token(2), tags(&["a"]), now + Duration::from_secs(60));
        let during = table.stamp();
        for stamp in [before, during] {
            assert_eq!(
                table.check(stamp, &tags(&["a"]), Writes::Count),
                Err(Unusable::Dirty)
            );
            assert_eq!(table.check(stamp, &tags(&["a"]), Writes::Ignore), Ok(()));
        }
        table.close(Token(1));
        assert_eq!(
            table.check(before, &tags(&["a"]), Writes::Count),
            Err(Unusable::Dirty)
        );
        table.close(Token(2));
        assert_eq!(
            table.check(before, &tags(&["a"]), Writes::Count),
            Ok(()),
            "a refused write drops nothing"
        );
    }

    #[tokio::test]
    async fn a_commit_drops_what_began_during_the_write() {
        let (mut table, now) = table();
        table.announce(Token(1), tags(&["a:*"]), now + Duration::from_secs(60));
        let during = table.stamp();
        table.commit(Token(1), &tags(&["a:5"]), None);
        assert_eq!(
            table.check(during, &tags(&["a:5", "a:*"]), Writes::Count),
            Err(Unusable::Dropped)
        );
        assert_eq!(
            table.check(during, &tags(&["a:6", "a:*"]), Writes::Count),
            Ok(()),
            "others only paused"
        );
        assert_eq!(table.open_writes(), 0);
    }

    #[tokio::test]
    async fn a_write_whose_end_nobody_saw_counts_as_done_when_its_time_is_over() {
        let (mut table, now) = table();
        table.announce(Token(1), tags(&["a"]), now + Duration::from_secs(60));
        let during = table.stamp();
        assert_eq!(table.expire(now + Duration::from_secs(59)), 0);
        assert_eq!(
            table.check(during, &tags(&["a"]), Writes::Count),
            Err(Unusable::Dirty)
        );
        assert_eq!(table.expire(now + Duration::from_secs(60)), 1);
        assert_eq!(
            table.check(during, &tags(&["a"]), Writes::Count),
            Err(Unusable::Dropped)
        );
        assert_eq!(
            table.check(table.stamp(), &tags(&["a"]), Writes::Count),
            Ok(())
        );
    }

    #[tokio::test]
    async fn a_write_that_broke_off_is_dropped_twice_and_keeps_nothing_uncached() {
        let (mut table, now) = table();
        table.announce(Token(1), tags(&["a"]), now + Duration::from_secs(60));
        let before = table.stamp();
        table.doubt(Token(1));
        assert_eq!(
            table.check(before, &tags(&["a"]), Writes::Count),
            Err(Unusable::Dropped)
        );
        let after = table.stamp();
        assert_eq!(table.check(after, &tags(&["a"]), Writes::Count), Ok(()));
        table.expire(now + Duration::from_secs(60));
        assert_eq!(
            table.check(after, &tags(&["a"]), Writes::Count),
            Err(Unusable::Dropped)
        );
        assert_eq!(table.open_writes(), 0);
    }

    #[tokio::test]
    async fn a_held_commit_stays_open_and_drops_twice() {
        let (mut table, now) = table();
        table.announce(Token(1), tags(&["a"]), now + Duration::from_secs(60));
        table.commit(Token(1), &tags(&["a"]), Some(now + Duration::from_secs(2)));
        let lagging = table.stamp();
        assert_eq!(
            table.check(lagging, &tags(&["a"]), Writes::Count),
            Err(Unusable::Dirty)
        );
        table.expire(now + Duration::from_secs(2));
        assert_eq!(
            table.check(lagging, &tags(&["a"]), Writes::Count),
            Err(Unusable::Dropped)
        );
    }

    #[tokio::test]
    async fn a_held_commit_holds_what_was_written_and_not_what_was_announced() {
        let (mut table, now) = table();
        let before = table.stamp();
        table.announce(Token(1), tags(&["a:*"]), now + Duration::from_secs(60));
        table.commit(
            Token(1),
            &tags(&["a:1", "told"]),
            Some(now + Duration::from_secs(2)),
        );
        let lagging = table.stamp();
        for (name, during) in [
            ("a:*", Ok(())),
            ("a:1", Err(Unusable::Dirty)),
            ("told", Err(Unusable::Dirty)),
        ] {
            assert_eq!(
                table.check(lagging, &tags(&[name]), Writes::Count),
                during,
                "{name}"
            );
        }
        assert_eq!(
            table.expire(now + Duration::from_secs(2)),
            0,
            "its end was known"
        );
        assert_eq!(table.check(before, &tags(&["a:*"]), Writes::Count), Ok(()));
        assert_eq!(
            table.check(lagging, &tags(&["told"]), Writes::Count),
            Err(Unusable::Dropped)
        );
    }

    #[tokio::test]
    async fn forgetting_makes_old_stamps_unusable() {
        let (mut table, now) = table();
        let before = table.stamp();
        table.drop_tags(&tags(&["a"]));
        table.expire(now);
        let after = table.stamp();
        table.expire(now + MEMORY + CHECKPOINT);
        assert!(table.cells.is_empty());
        assert_eq!(
            table.check(before, &tags(&["b"]), Writes::Count),
            Err(Unusable::Forgotten)
        );
        assert_eq!(table.check(after, &tags(&["a"]), Writes::Count), Ok(()));
        let foreign = Stamp { epoch: 2, ..after };
        assert_eq!(
            table.check(foreign, &tags(&["a"]), Writes::Count),
            Err(Unusable::Forgotten)
        );
    }
}
