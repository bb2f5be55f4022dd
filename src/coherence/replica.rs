//! One replica as a reader of the shared log: when it reads, what it applies, and until when it may serve from its cache.
//!
//! A state machine without I/O, clock or randomness: [`Replica::step`] takes the time and an event and says what is to be
//! done. The same code runs in production, in the simulation and under the model checker. Calls leave it with the nonce
//! zero; whoever sends them draws one.
//!
//! Promises, in the words of the protocol:
//!
//! - *Prefix*: what it has applied are all records up to its position, in order, none left out.
//! - *Lease*: it holds a lease until `t` only if a reading that began after `t - lease` returned the log's tail, and
//!   everything up to that tail has been applied.
//! - *A lapse raises the floor*: whoever held no lease for a moment may have missed writes that nobody recorded, since the
//!   log could not be reached. It appends a fence, and what was stamped before that fence is dead to it.
//! - *A newcomer needs a witness*: it may serve once another member, whose lease did not lapse, has read the log after it
//!   came; or once it has appended a fence of its own.
//!
//! The paper counts a reading as settled by what its sender knew when it sent it. A reading that waits in the network may be
//! executed after the sender's lease ran out, and then neither is that sender settled nor a witness. So a lease is granted
//! only if the old one still held when the reply came, and a witness counts only once its next reading confirms that.

use std::time::Duration;

use super::clock::Time;
use super::log::{Call, Member, Mode, News, Paged, Reset, Rung, Synced};
use super::record::{Record, Token};
use crate::tag::Tags;

/// What the protocol is timed by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Timing {
    /// How long a replica may serve from its cache without having read the log to its tail.
    pub lease: Duration,
    /// How often it reads the log when nothing happens.
    pub every: Duration,
    /// How long after its announcement a write may still take place: announcements expire then, and no strict route is
    /// served for so long after an epoch began. Longer than a forwarded write lives, since a strict one is forwarded only
    /// once everybody knows.
    pub quarantine: Duration,
}

impl Timing {
    /// The timing of this lease and this longest life of a write.
    #[must_use]
    pub fn new(lease: Duration, intent_ttl: Duration) -> Self {
        let timing = Self {
            lease,
            every: lease / 4,
            quarantine: intent_ttl,
        };
        Self {
            quarantine: intent_ttl + intent_ttl / 50 + timing.outlasted() * 2,
            ..timing
        }
    }

    /// The lease as others have to wait for it: their clocks may be slower than ours by a hundredth.
    #[must_use]
    pub fn outlasted(&self) -> Duration {
        self.lease + self.lease / 50
    }

    /// How long after it was asked for an announcement is young enough for a strict write to be forwarded. The rest of what
    /// [`Timing::quarantine`] allows for is for clocks that differ.
    #[must_use]
    pub fn young(&self) -> Duration {
        self.outlasted() * 3 / 2
    }
}

/// What happens to a replica.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The reading under way has been answered.
    Synced(Synced),
    /// The reading under way has failed, or its time is over.
    Unread,
    /// A channel has told something.
    Rung(Rung),
    /// A page has been answered; `None` when it failed.
    Paged {
        /// Of which log it was asked.
        epoch: u64,
        /// From where.
        from: u64,
        /// What came.
        paged: Option<Paged>,
    },
    /// The acknowledgement under way has been answered: whether the log is still the same; `None` when it failed.
    Acked(Option<bool>),
    /// Something may have been appended: read as soon as possible.
    Nudge,
    /// A write could not be recorded: serve nothing until everything older is fenced off.
    Lapse,
}

/// What a replica wants done, in this order.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Effect {
    /// Ask the log. One reading, one page and one acknowledgement at most are under way at a time.
    Call(Call),
    /// Apply a record.
    Apply(Record),
    /// Forget everything, and begin at this place.
    Begin {
        /// The epoch.
        epoch: u64,
        /// As if applied up to here; what is stamped before is unusable.
        seq: u64,
        /// The announced writes that are open.
        open: Vec<(Token, Tags)>,
    },
    /// Take note of drops from before the beginning.
    Recall(Vec<Record>),
    /// What is stamped before this is unusable; from here on it is usable as far as the records say.
    Floor(u64),
    /// What is stamped before this is unusable for strict routes.
    StrictFloor(u64),
    /// The cache may be served from until then; [`Time::NEVER`]: no longer.
    Lease(Time),
}

/// What writers need to know of the reader beside them.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Sight {
    /// The log, once it has been joined.
    pub epoch: Option<u64>,
    /// When this process first saw that epoch.
    pub first_seen: Time,
    /// How far this replica has applied it.
    pub applied: u64,
    /// How far all members have.
    pub acked: u64,
    /// Since when the log cannot be reached.
    pub unreachable_since: Option<Time>,
}

/// One replica.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Replica {
    timing: Timing,
    member: Member,
    fingerprint: u64,
    joined: Option<Joined>,
    reading: Option<Reading>,
    /// When the next reading is due.
    next: Time,
    /// Something may have been appended: read at once.
    urgent: bool,
    /// Until when the last full reading holds. Published as the lease once the replica is settled.
    held: Time,
    acknowledging: bool,
    /// The last position that was told, or is being told.
    acknowledged: u64,
    /// Members that were silent when last heard of, with their beat and since when.
    silent: Vec<(Member, u64, Time)>,
    unreachable_since: Option<Time>,
    refused: Option<Refusal>,
    /// How many members there are, as last told.
    members: u32,
    /// The last record's number, as last told.
    tail: u64,
}

/// Why a log that answers cannot be used.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// Other replicas have another identity key.
    Foreign,
    /// The server hides what it is.
    Unsupported,
}

impl Refusal {
    /// What there is to do about it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => {
                "other replicas have another REPRISE_IDENTITY_KEY; it has to be the same everywhere"
            }
            Self::Unsupported => {
                "the server tells neither run_id nor master_replid (INFO), so a restart would go unnoticed"
            }
        }
    }
}

/// A log that has been joined.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Joined {
    epoch: u64,
    first_seen: Time,
    applied: u64,
    acked: u64,
    /// The fence that counts for this replica.
    floor: u64,
    probation: Option<Probation>,
    /// The fence that ended the quarantine; 0 while it lasts.
    quarantine: u64,
    /// The newest settled reading whose reply found the lease before it still running.
    confirms: u64,
    recall: Option<Recall>,
}

/// Joined, and no witness yet.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Probation {
    since: Time,
    readings: u64,
}

/// Old records being read.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Recall {
    /// The next number.
    from: u64,
    /// The last number that is wanted.
    to: u64,
    /// Records up to here are gone.
    lost: u64,
    under_way: bool,
}

/// A reading under way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Reading {
    sent: Time,
    mode: Mode,
    /// There was a lapse since it was sent. The fence that it may have appended is then older than what the lapse has to
    /// fence off: it earns nothing.
    void: bool,
}

impl Replica {
    /// A replica that has not joined.
    #[must_use]
    pub const fn new(timing: Timing, member: Member, fingerprint: u64) -> Self {
        Self {
            timing,
            member,
            fingerprint,
            joined: None,
            reading: None,
            next: Time::NEVER,
            urgent: false,
            held: Time::NEVER,
            acknowledging: false,
            acknowledged: 0,
            silent: Vec::new(),
            unreachable_since: None,
            refused: None,
            members: 0,
            tail: 0,
        }
    }

    /// How many members there are, as last told.
    #[must_use]
    pub const fn members(&self) -> u32 {
        self.members
    }

    /// The last record's number, as last told.
    #[must_use]
    pub const fn tail(&self) -> u64 {
        self.tail
    }

    /// What writers need to know.
    #[must_use]
    pub fn sight(&self) -> Sight {
        let joined = self.joined.as_ref();
        Sight {
            epoch: joined.map(|joined| joined.epoch),
            first_seen: joined.map_or(Time::NEVER, |joined| joined.first_seen),
            applied: joined.map_or(0, |joined| joined.applied),
            acked: joined.map_or(0, |joined| joined.acked),
            unreachable_since: self.unreachable_since,
        }
    }

    /// Why the log, though it answers, cannot be used.
    #[must_use]
    pub const fn refused(&self) -> Option<Refusal> {
        self.refused
    }

    /// Whether it is waiting for a witness.
    #[must_use]
    pub fn on_probation(&self) -> bool {
        self.joined
            .as_ref()
            .is_some_and(|joined| joined.probation.is_some())
    }

    /// When it wants to be told the time again; never while a reading is under way, since that will end.
    #[must_use]
    pub const fn next(&self) -> Time {
        if self.reading.is_some() {
            Time::FOREVER
        } else if self.urgent {
            Time::NEVER
        } else {
            self.next
        }
    }

    /// Takes an event; what is to be done is appended to `effects`.
    pub fn step(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::Synced(synced) => self.synced(now, synced, effects),
            Event::Unread => self.unread(now),
            Event::Rung(rung) => self.rung(rung, effects),
            Event::Paged { epoch, from, paged } => self.paged((epoch, from), paged, effects),
            Event::Acked(same) => {
                self.acknowledging = false;
                if same == Some(false) {
                    self.urgent = true;
                }
            }
            Event::Nudge => self.urgent = true,
            Event::Lapse => {
                self.held = Time::NEVER;
                self.urgent = true;
                if let Some(reading) = &mut self.reading {
                    reading.void = true;
                }
                effects.push(Effect::Lease(Time::NEVER));
            }
        }
        self.acknowledge(effects);
        self.read(now, effects);
    }

    /// Begins a reading, if one is due and none is under way.
    fn read(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.reading.is_some() || (now < self.next && !self.urgent) {
            return;
        }
        let lapsed = now >= self.held;
        #[cfg(reprise_mutant = "no_lapse_fence")]
        let lapsed = false;
        let mode = match self.joined.as_ref().map(|joined| joined.probation) {
            // Not joined: the mode means nothing.
            None => Mode::Probation,
            Some(None) if lapsed => Mode::Lapsed,
            Some(None) => Mode::Settled,
            Some(Some(probation)) if lapsed || now >= probation.since + self.timing.lease => {
                Mode::Alone
            }
            Some(Some(_)) => Mode::Probation,
        };
        let quarantined = self.joined.as_ref().is_some_and(|joined| {
            joined.quarantine == 0 && now >= joined.first_seen + self.timing.quarantine
        });
        self.urgent = false;
        self.next = now + self.timing.every;
        self.reading = Some(Reading {
            sent: now,
            mode,
            void: false,
        });
        if let Some(joined) = &self.joined {
            self.acknowledged = joined.applied;
        }
        effects.push(Effect::Call(Call::Sync {
            member: self.member,
            known: self
                .joined
                .as_ref()
                .map(|joined| (joined.epoch, joined.applied)),
            mode,
            quarantined,
            fingerprint: self.fingerprint,
            confirms: self.joined.as_ref().map_or(0, |joined| joined.confirms),
            nonce: 0,
        }));
    }

    fn synced(&mut self, now: Time, synced: Synced, effects: &mut Vec<Effect>) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        match synced {
            Synced::News(news) => self.news(now, reading, news, effects),
            Synced::Reset(reset) => self.reset(now, reading, reset, effects),
            Synced::Foreign => return self.refuse(now, Refusal::Foreign, effects),
            Synced::Unsupported => return self.refuse(now, Refusal::Unsupported, effects),
        }
        self.unreachable_since = None;
        self.refused = None;
        self.page(effects);
    }

    fn unread(&mut self, now: Time) {
        self.reading = None;
        self.unreachable_since.get_or_insert(now);
        // Who was silent while nobody could be heard has not shown anything.
        self.silent.clear();
    }

    fn refuse(&mut self, now: Time, why: Refusal, effects: &mut Vec<Effect>) {
        self.refused = Some(why);
        self.unreachable_since.get_or_insert(now);
        self.joined = None;
        self.held = Time::NEVER;
        effects.push(Effect::Lease(Time::NEVER));
    }

    /// The log has been joined anew: nothing that was known of it holds any more.
    fn reset(&mut self, now: Time, reading: Reading, reset: Reset, effects: &mut Vec<Effect>) {
        let Reset {
            epoch,
            tail,
            oldest,
            fence,
            readings,
            quarantine,
            alone,
            open,
            ..
        } = reset;
        let known = self.joined.as_ref().filter(|joined| joined.epoch == epoch);
        let first_seen = known.map_or(now, |joined| joined.first_seen);
        let acked = known.map_or(0, |joined| joined.acked);
        effects.push(Effect::Lease(Time::NEVER));
        let seq = tail;
        effects.push(Effect::Begin { epoch, seq, open });
        effects.push(Effect::StrictFloor(strict_floor(quarantine)));
        let since = reading.sent;
        // Of a log that nobody else reads, nobody knows whether it was ever out of reach: its old entries are dead.
        let recall = (!alone && (1..=tail).contains(&oldest)).then(|| Recall {
            from: oldest,
            to: tail,
            lost: oldest - 1,
            under_way: false,
        });
        self.joined = Some(Joined {
            epoch,
            first_seen,
            applied: tail,
            acked,
            // Without old records nothing is known from before the beginning.
            floor: if recall.is_none() { tail } else { fence },
            #[cfg(not(reprise_mutant = "no_witness"))]
            probation: (!alone).then_some(Probation { since, readings }),
            #[cfg(reprise_mutant = "no_witness")]
            probation: None,
            quarantine,
            confirms: 0,
            recall,
        });
        self.silent.clear();
        self.acknowledged = 0;
        self.held = if reading.void {
            Time::NEVER
        } else {
            reading.sent + self.timing.lease
        };
        if alone && now < self.held {
            effects.push(Effect::Lease(self.held));
        }
        // To acknowledge at once, and to find a witness soon.
        self.urgent = true;
    }

    fn news(&mut self, now: Time, reading: Reading, news: News, effects: &mut Vec<Effect>) {
        let held = self.held;
        let Some(joined) = &mut self.joined else {
            return;
        };
        for record in news.records {
            #[cfg(not(reprise_mutant = "lease_before_apply"))]
            joined.apply(record, effects);
        }
        joined.acked = joined.acked.max(news.acked);
        (self.members, self.tail) = (news.members, news.tail);
        if joined.quarantine == 0 && news.quarantine != 0 {
            joined.quarantine = news.quarantine;
            effects.push(Effect::StrictFloor(news.quarantine));
        }
        let fenced = matches!(reading.mode, Mode::Lapsed | Mode::Alone);
        // The reading may have been executed after the lease had run out: then it is no reading of a settled member.
        let broke = reading.void || (!fenced && now >= held);
        #[cfg(reprise_mutant = "no_lapse_fence")]
        let broke = false;
        if reading.mode == Mode::Settled && !broke {
            joined.confirms = news.reading;
        }
        if let Some(probation) = joined.probation
            && !broke
            && (fenced || news.confirmed > probation.readings)
        {
            joined.probation = None;
            joined.raise_floor(news.fence, effects);
        } else if fenced {
            joined.raise_floor(news.fence, effects);
        }
        let complete = joined.applied >= news.tail;
        #[cfg(reprise_mutant = "lease_before_apply")]
        let complete = true;
        let settled = joined.probation.is_none();
        if broke || !complete {
            self.urgent = true;
        } else {
            self.held = held.max(reading.sent + self.timing.lease);
            if settled {
                effects.push(Effect::Lease(self.held));
            }
        }
        self.heed_silence(now, &news.silent, effects);
    }

    /// Notes who has been silent, and has those removed whose leases must have run out: nobody need wait for them.
    fn heed_silence(&mut self, now: Time, silent: &[(Member, u64)], effects: &mut Vec<Effect>) {
        let Some(epoch) = self.joined.as_ref().map(|joined| joined.epoch) else {
            return;
        };
        let patience = self.timing.outlasted() + self.timing.every / 5;
        let known = std::mem::take(&mut self.silent);
        for (member, beat) in silent {
            if *member == self.member {
                continue;
            }
            let before = known
                .iter()
                .find(|(other, last, _)| other == member && last == beat);
            let since = before.map_or(now, |(_, _, since)| *since);
            if now >= since + patience {
                effects.push(Effect::Call(Call::Reap {
                    member: *member,
                    beat: *beat,
                    epoch,
                    nonce: 0,
                }));
            }
            self.silent.push((*member, *beat, since));
        }
    }

    fn rung(&mut self, rung: Rung, effects: &mut Vec<Effect>) {
        let Some(joined) = &mut self.joined else {
            self.urgent = true;
            return;
        };
        match rung {
            Rung::Record { epoch, record } if epoch == joined.epoch => {
                if record.seq > joined.applied + 1 {
                    self.urgent = true;
                } else {
                    joined.apply(record, effects);
                }
            }
            Rung::Acked { epoch, acked } if epoch == joined.epoch => {
                joined.acked = joined.acked.max(acked);
            }
            Rung::Record { .. } | Rung::Acked { .. } | Rung::Epoch => self.urgent = true,
        }
    }

    /// Tells how far it has come, if that is news: writers wait for it.
    fn acknowledge(&mut self, effects: &mut Vec<Effect>) {
        let Some(joined) = &self.joined else {
            return;
        };
        if self.acknowledging || joined.applied <= self.acknowledged {
            return;
        }
        self.acknowledging = true;
        self.acknowledged = joined.applied;
        effects.push(Effect::Call(Call::Ack {
            member: self.member,
            epoch: joined.epoch,
            applied: joined.applied,
            nonce: 0,
        }));
    }

    /// Asks for the next page of old records.
    fn page(&mut self, effects: &mut Vec<Effect>) {
        if let Some(joined) = &mut self.joined
            && let Some(recall) = &mut joined.recall
            && !recall.under_way
        {
            recall.under_way = true;
            effects.push(Effect::Call(Call::Page {
                epoch: joined.epoch,
                from: recall.from,
            }));
        }
    }

    /// Takes a page of old records. One that was asked for before the replica began anew is another log's.
    fn paged(&mut self, asked: (u64, u64), paged: Option<Paged>, effects: &mut Vec<Effect>) {
        let Some(joined) = &mut self.joined else {
            return;
        };
        let epoch = joined.epoch;
        let Some(recall) = joined
            .recall
            .as_mut()
            .filter(|recall| asked == (epoch, recall.from))
        else {
            return;
        };
        recall.under_way = false;
        let (next, mut records) = match paged {
            Some(Paged::Records { next, records }) => (next, records),
            // Tried again after the next reading; of a log that is gone, that reading tells.
            None => return,
            Some(Paged::Elsewhere) => {
                joined.recall = None;
                self.urgent = true;
                return;
            }
        };
        if records.first().is_none_or(|first| first.seq != recall.from) {
            // Trimmed while we were reading.
            let first = records.first().map_or(recall.to + 1, |first| first.seq);
            recall.lost = recall.lost.max(first - 1);
        }
        records.retain(|record| record.seq <= recall.to);
        let done = next == 0 || next > recall.to || records.is_empty();
        recall.from = next;
        let lost = recall.lost;
        effects.push(Effect::Recall(records));
        if done {
            joined.recall = None;
            // Every drop since then is known now.
            joined.floor = joined.floor.max(lost);
            effects.push(Effect::Floor(joined.floor));
        } else {
            self.page(effects);
        }
    }
}

impl Joined {
    /// Applies a record if it is the next one.
    fn apply(&mut self, record: Record, effects: &mut Vec<Effect>) {
        if record.seq == self.applied + 1 {
            self.applied = record.seq;
            effects.push(Effect::Apply(record));
        }
    }

    fn raise_floor(&mut self, fence: u64, effects: &mut Vec<Effect>) {
        self.floor = self.floor.max(fence);
        // While old records are being read, the floor is where the replica began, or higher.
        let begun = self.recall.map_or(0, |recall| recall.to);
        effects.push(Effect::Floor(self.floor.max(begun)));
    }
}

/// The floor of strict routes: the fence that ended the quarantine, and while it lasts nothing is usable.
const fn strict_floor(quarantine: u64) -> u64 {
    if quarantine == 0 {
        u64::MAX
    } else {
        quarantine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coherence::record::Change;
    use crate::tag::Tag;

    const EPOCH: u64 = 7;

    /// A replica with a lease of 100 and a reading every 25, and what it did last.
    struct Told {
        replica: Replica,
        effects: Vec<Effect>,
    }

    impl Told {
        fn new() -> Self {
            let lease = Duration::from_nanos(100);
            let timing = Timing::new(lease, Duration::from_nanos(1000));
            Self {
                replica: Replica::new(timing, Member(1), 9),
                effects: Vec::new(),
            }
        }

        fn step(&mut self, at: u64, event: Event) -> &mut Self {
            self.effects.clear();
            self.replica.step(Time(at), event, &mut self.effects);
            self
        }

        /// A replica that is alone and began its first reading at 1.
        fn alone() -> Self {
            let mut told = Self::new();
            told.step(1, Event::Tick);
            let alone = true;
            told.step(
                2,
                joins(Reset {
                    tail: 5,
                    alone,
                    ..Reset::default()
                }),
            );
            told
        }

        fn mode(&self) -> Option<Mode> {
            self.effects.iter().find_map(|effect| match effect {
                Effect::Call(Call::Sync { mode, .. }) => Some(*mode),
                _ => None,
            })
        }

        fn lease(&self) -> Option<u64> {
            self.effects.iter().rev().find_map(|effect| match effect {
                Effect::Lease(until) => Some(until.0),
                _ => None,
            })
        }

        fn has(&self, wanted: &Effect) -> bool {
            self.effects.contains(wanted)
        }
    }

    fn joins(reset: Reset) -> Event {
        let epoch = EPOCH;
        Event::Synced(Synced::Reset(Reset { epoch, ..reset }))
    }

    fn news(tail: u64, more: News) -> Event {
        Event::Synced(Synced::News(News { tail, ..more }))
    }

    fn record(seq: u64) -> Record {
        let change = Change::Point(Tags::from_iter([Tag::all()]));
        let token = Token(0);
        Record { seq, token, change }
    }

    fn bell(seq: u64) -> Event {
        let (epoch, record) = (EPOCH, record(seq));
        Event::Rung(Rung::Record { epoch, record })
    }

    #[test]
    fn who_is_alone_serves_from_the_moment_that_its_reading_began() {
        let told = Told::alone();
        assert_eq!(told.lease(), Some(101));
        assert_eq!(told.mode(), Some(Mode::Settled), "to acknowledge");
        assert!(!told.replica.on_probation());
    }

    #[test]
    fn records_are_applied_in_order_and_a_gap_is_read() {
        let mut told = Told::alone();
        told.step(3, news(5, News::default()));
        assert!(told.step(4, bell(6)).has(&Effect::Apply(record(6))));
        assert!(told.step(5, bell(6)).effects.is_empty(), "known already");
        assert_eq!(told.step(6, bell(8)).mode(), Some(Mode::Settled));
        let records = vec![record(7), record(8)];
        told.step(
            7,
            news(
                8,
                News {
                    records,
                    ..News::default()
                },
            ),
        );
        assert!(told.has(&Effect::Apply(record(8))));
        assert_eq!(told.lease(), Some(106));
    }

    #[test]
    fn a_reading_that_did_not_reach_the_tail_gives_no_lease() {
        let mut told = Told::alone();
        let records = vec![record(6)];
        told.step(
            50,
            news(
                9,
                News {
                    records,
                    ..News::default()
                },
            ),
        );
        assert_eq!(told.lease(), None);
        assert_eq!(told.mode(), Some(Mode::Settled), "read on at once");
    }

    #[test]
    fn a_lapse_is_told_and_raises_the_floor() {
        let mut told = Told::alone();
        told.step(3, news(5, News::default()));
        assert_eq!(told.step(103, Event::Tick).mode(), Some(Mode::Lapsed));
        let fence = Record {
            change: Change::Fence,
            ..record(6)
        };
        let records = vec![fence];
        told.step(
            105,
            news(
                6,
                News {
                    fence: 6,
                    records,
                    ..News::default()
                },
            ),
        );
        let floor = told
            .effects
            .iter()
            .position(|effect| *effect == Effect::Floor(6));
        let lease = told
            .effects
            .iter()
            .position(|effect| *effect == Effect::Lease(Time(203)));
        assert!(floor.is_some() && floor < lease, "{:?}", told.effects);
    }

    #[test]
    fn a_reply_that_comes_after_the_old_lease_gives_none() {
        let mut told = Told::alone();
        told.step(3, news(5, News::default()));
        assert_eq!(told.step(90, Event::Tick).mode(), Some(Mode::Settled));
        told.step(150, news(5, News::default()));
        assert_eq!(told.lease(), None, "its lease had run out at 102");
        assert_eq!(told.mode(), Some(Mode::Lapsed));
    }

    #[test]
    fn a_newcomer_waits_for_a_confirmed_reading() {
        let mut told = Told::new();
        told.step(1, Event::Tick);
        told.step(
            2,
            joins(Reset {
                tail: 5,
                fence: 3,
                readings: 10,
                ..Reset::default()
            }),
        );
        assert!(told.replica.on_probation());
        assert_eq!(told.lease(), Some(0));
        told.step(
            3,
            news(
                5,
                News {
                    confirmed: 10,
                    ..News::default()
                },
            ),
        );
        assert_eq!(told.lease(), None, "that reading was before it came");
        told.step(30, Event::Tick);
        told.step(
            31,
            news(
                5,
                News {
                    confirmed: 11,
                    fence: 4,
                    ..News::default()
                },
            ),
        );
        assert_eq!(told.lease(), Some(130));
        assert!(told.has(&Effect::Floor(5)), "nothing is known from before");
    }

    #[test]
    fn a_newcomer_without_witness_fences_for_itself() {
        let mut told = Told::new();
        told.step(1, Event::Tick);
        told.step(
            2,
            joins(Reset {
                tail: 5,
                readings: 10,
                ..Reset::default()
            }),
        );
        let unwitnessed = News {
            confirmed: 10,
            ..News::default()
        };
        for at in [10, 40, 70] {
            told.step(at, news(5, unwitnessed.clone()))
                .step(at + 25, Event::Tick);
        }
        told.step(96, news(5, unwitnessed));
        assert_eq!(told.step(121, Event::Tick).mode(), Some(Mode::Alone));
    }

    #[test]
    fn old_records_lower_the_floor_only_when_all_are_known() {
        let mut told = Told::new();
        told.step(1, Event::Tick);
        told.step(
            2,
            joins(Reset {
                tail: 5,
                oldest: 2,
                fence: 1,
                ..Reset::default()
            }),
        );
        let page = Call::Page {
            epoch: EPOCH,
            from: 2,
        };
        assert!(told.has(&Effect::Call(page)));
        let paged = |from, next, records| {
            let paged = Some(Paged::Records { next, records });
            Event::Paged {
                epoch: EPOCH,
                from,
                paged,
            }
        };
        told.step(3, paged(2, 4, vec![record(2), record(3)]));
        assert!(
            !told
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::Floor(_)))
        );
        told.step(4, paged(2, 0, vec![record(2)]));
        assert!(told.effects.is_empty(), "not the page that was asked for");
        // 4 has been trimmed meanwhile: what is stamped before it may have been dropped by it.
        told.step(5, paged(4, 0, vec![record(5)]));
        assert!(told.has(&Effect::Floor(4)), "{:?}", told.effects);
    }

    #[test]
    fn a_silent_member_is_removed_once_its_lease_must_be_over() {
        let mut told = Told::alone();
        let silent = |beat| News {
            silent: vec![(Member(2), beat)],
            ..News::default()
        };
        let reaped = |told: &Told| {
            let mut effects = told.effects.iter();
            effects.any(|effect| matches!(effect, Effect::Call(Call::Reap { beat: 4, .. })))
        };
        told.step(3, news(5, silent(3)));
        for (at, beat) in [(30, 3), (60, 4), (90, 4), (120, 4), (150, 4)] {
            told.step(at - 2, Event::Tick)
                .step(at, news(5, silent(beat)));
            assert!(!reaped(&told), "at {at}");
        }
        told.step(174, Event::Tick).step(176, news(5, silent(4)));
        assert!(reaped(&told));
    }

    #[test]
    fn a_log_that_cannot_be_used_ends_the_lease() {
        let mut told = Told::alone();
        told.step(3, Event::Synced(Synced::Foreign));
        assert_eq!(told.lease(), Some(0));
        assert_eq!(told.replica.refused(), Some(Refusal::Foreign));
        assert_eq!(told.replica.sight().unreachable_since, Some(Time(3)));
        told.step(40, Event::Tick)
            .step(41, Event::Synced(Synced::Foreign));
        assert_eq!(
            told.replica.sight().unreachable_since,
            Some(Time(3)),
            "since then"
        );
    }
}
