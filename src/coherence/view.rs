//! The view: the table of drops and the lease, as every request reads them and one writer changes them.
//!
//! The order is part of the protocol. A reader looks at the lease first and at the table after; the writer applies the
//! records before it publishes the lease that they earn, and takes the lease away before it forgets anything. So whoever
//! sees a lease sees every record that came before it. The look at the lease is the moment of the read: what happens
//! after it is concurrent with it.

use std::sync::PoisonError;
#[cfg(not(all(test, reprise_loom)))]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(all(test, reprise_loom)))]
use std::sync::{Mutex, RwLock};

#[cfg(all(test, reprise_loom))]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(all(test, reprise_loom))]
use loom::sync::{Mutex, RwLock};

use super::clock::Time;
use super::record::Change;
use super::table::{Standing, Table, Unusable, Writes};
use crate::entry::{Certificate, Stamp};
use crate::tag::{Tag, Tags};

/// The read side of the log.
#[derive(Debug)]
pub struct View {
    /// Until when the cache may be served from, on the boot clock.
    lease: AtomicU64,
    /// Changes with every change of the table. An entry found usable at a version is usable while the version stands, so
    /// that a hit costs two loads and no lock while nobody writes.
    version: AtomicU64,
    /// A standard lock: held for a few map operations, never across an await; readers share it.
    table: RwLock<Table>,
    /// Drops that could not be put into the log. While there are any, no lease is published.
    journal: Mutex<Journal>,
}

#[derive(Debug, Default)]
struct Journal {
    drops: Vec<Tags>,
    /// The lease that waits for the drops to be told.
    earned: Option<Time>,
}

/// How many drops are remembered one by one; more are remembered as one of everything.
const MAX_JOURNAL: usize = 1024;

impl View {
    /// An empty view of a log with this epoch, under this lease.
    #[must_use]
    pub fn new(epoch: u64, lease: Time) -> Self {
        Self {
            lease: AtomicU64::new(lease.0),
            version: AtomicU64::new(0),
            table: RwLock::new(Table::new(epoch)),
            journal: Mutex::default(),
        }
    }

    /// The present end of the log.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.read(Table::stamp)
    }

    /// Until when the cache may be served from.
    #[must_use]
    pub fn lease(&self) -> Time {
        Time(self.lease.load(Ordering::Acquire))
    }

    /// Whether the cache may be served from now. A lease for ever needs no clock.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        let lease = self.lease();
        lease == Time::FOREVER || Time::now() < lease
    }

    /// Whether an entry stored under this full key may answer now.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn usable(
        &self,
        certificate: &Certificate,
        key: &[u8],
        writes: Writes,
    ) -> Result<Standing, Unusable> {
        if !self.holds_lease() {
            return Err(Unusable::NoLease);
        }
        let version = self.version.load(Ordering::Acquire);
        if writes != Writes::Strict && certificate.checked.load(Ordering::Relaxed) == version {
            return Ok(Standing::Good);
        }
        self.read(|table| {
            let standing = table.check(certificate.stamp, &certificate.tags, key, writes)?;
            // Only a check that counted open writes may be remembered: a strong reader must not inherit a bounded verdict.
            // The version cannot change under the lock.
            if writes == Writes::Count && standing == Standing::Good {
                let version = self.version.load(Ordering::Acquire);
                certificate.checked.store(version, Ordering::Relaxed);
            }
            Ok(standing)
        })
    }

    /// Whether something stamped and tagged like this may be used now.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn check(
        &self,
        stamp: Stamp,
        tags: &[Tag],
        key: &[u8],
        writes: Writes,
    ) -> Result<Standing, Unusable> {
        if !self.holds_lease() {
            return Err(Unusable::NoLease);
        }
        self.read(|table| table.check(stamp, tags, key, writes))
    }

    /// Reads the table.
    pub fn read<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the table. What every entry has to look at anew is told by the version, under the lock.
    pub fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut table);
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    /// Forgets what is too old to matter. Nothing becomes unusable that somebody may still look at as usable.
    pub fn forget_old(&self, now: Time) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.forget_old(now);
    }

    /// Publishes a lease, or takes it away. While drops wait to be told it is kept back.
    pub fn grant(&self, until: Time) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if until == Time::NEVER || journal.drops.is_empty() {
            journal.earned = None;
            self.lease.store(until.0, Ordering::Release);
        } else {
            journal.earned = Some(until);
        }
    }

    /// Notes a drop that the log did not take, and takes the lease away; `then` happens before anybody can grant one.
    pub fn note(&self, tags: Tags, then: impl FnOnce()) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if journal.drops.len() < MAX_JOURNAL {
            journal.drops.push(tags);
        } else {
            journal.drops = vec![Tags::from_iter([Tag::all()])];
        }
        journal.earned = None;
        self.lease.store(Time::NEVER.0, Ordering::Release);
        then();
    }

    /// The drops that wait to be told, as one change, and how many they are.
    #[must_use]
    pub fn untold(&self) -> Option<(Change, usize)> {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tags: Tags = journal.drops.iter().flatten().copied().collect();
        tags.sort_unstable();
        tags.dedup();
        let count = journal.drops.len();
        (count > 0).then_some((Change::Point(tags), count))
    }

    /// The first `count` drops have been told; the lease that waited for them is published.
    pub fn told(&self, count: usize) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let count = count.min(journal.drops.len());
        journal.drops.drain(..count);
        if journal.drops.is_empty()
            && let Some(until) = journal.earned.take()
        {
            self.lease.store(until.0, Ordering::Release);
        }
    }
}

/// Every interleaving of a reader and the writer, by loom: `tests/run` builds this with `--cfg reprise_loom`.
#[cfg(all(test, reprise_loom))]
mod interleavings {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::coherence::record::{Record, Token};

    fn drops_everything() -> Record {
        Record {
            seq: 1,
            token: Token(0),
            change: Change::Point(Tags::from_iter([Tag::all()])),
        }
    }

    fn entry(view: &View) -> Certificate {
        Certificate::new(view.stamp(), Tags::from_iter([Tag::all()]))
    }

    fn looks(view: &View, entry: &Certificate) -> Result<Standing, Unusable> {
        view.usable(entry, &[], Writes::Count)
    }

    #[test]
    fn whoever_sees_a_lease_sees_the_records_before_it() {
        loom::model(|| {
            let view = Arc::new(View::new(1, Time::FOREVER));
            let entry = entry(&view);
            // Found usable, and remembered so.
            assert_eq!(looks(&view, &entry), Ok(Standing::Good));
            view.grant(Time::NEVER);
            let writer = {
                let view = Arc::clone(&view);
                thread::spawn(move || {
                    view.change(|table| table.apply(&drops_everything(), Time(1)));
                    view.grant(Time::FOREVER);
                })
            };
            assert!(looks(&view, &entry).is_err(), "no lease yet, or dropped");
            writer.join().expect("the writer");
            assert_eq!(looks(&view, &entry), Err(Unusable::Dropped));
        });
    }

    #[test]
    fn a_remembered_verdict_never_outlives_a_drop() {
        loom::model(|| {
            let view = Arc::new(View::new(1, Time::FOREVER));
            let entry = Arc::new(entry(&view));
            let reader = {
                let (view, entry) = (Arc::clone(&view), Arc::clone(&entry));
                thread::spawn(move || {
                    let first = looks(&view, &entry);
                    let second = looks(&view, &entry);
                    assert!(
                        first.is_err() <= second.is_err(),
                        "{first:?}, then {second:?}"
                    );
                })
            };
            view.change(|table| table.apply(&drops_everything(), Time(1)));
            assert_eq!(looks(&view, &entry), Err(Unusable::Dropped));
            reader.join().expect("the reader");
            assert_eq!(looks(&view, &entry), Err(Unusable::Dropped));
        });
    }

    #[test]
    fn a_new_epoch_begins_without_a_lease() {
        loom::model(|| {
            let view = Arc::new(View::new(1, Time::FOREVER));
            let old = entry(&view);
            let writer = {
                let view = Arc::clone(&view);
                thread::spawn(move || {
                    view.grant(Time::NEVER);
                    view.change(|table| table.begin(2, 0, Vec::new(), Time(1)));
                    view.grant(Time::FOREVER);
                })
            };
            let during = looks(&view, &old);
            assert_ne!(during, Err(Unusable::Dropped));
            writer.join().expect("the writer");
            assert_eq!(looks(&view, &old), Err(Unusable::Forgotten));
        });
    }

    #[test]
    fn no_lease_is_granted_while_a_drop_waits_to_be_told() {
        loom::model(|| {
            let view = Arc::new(View::new(1, Time::FOREVER));
            let follower = {
                let view = Arc::clone(&view);
                thread::spawn(move || view.grant(Time::FOREVER))
            };
            view.note(Tags::from_iter([Tag::all()]), || {});
            assert_eq!(view.lease(), Time::NEVER);
            follower.join().expect("the follower");
            assert_eq!(view.lease(), Time::NEVER);
            view.told(1);
        });
    }
}
