//! The oracle: the shared log in memory, an exact twin of the scripts in Redis.
//!
//! What flows in: the same [`Call`]s that the scripts get, and the faults that a Redis can have. What flows out: the same
//! answers, and the messages that the two channels would have carried. It promises to be deterministic, free of I/O and
//! cheap to copy, compare and hash, so that a model checker and a simulation can run on it; `log_scripts` holds it to the
//! scripts. It does not trim by itself (Redis does so only roughly), and a replica of the server is only a number here.

use std::collections::BTreeMap;

use reprise::coherence::log::{Appended, Call, Member, Mode, News, Paged, Reset, Rung, Synced};
use reprise::coherence::record::{Change, Record, Token};
use reprise::tag::{Tag, Tags};

/// How many records one [`Call::Sync`] brings.
const SYNC_RECORDS: usize = 512;

/// How many records one [`Call::Page`] brings.
const PAGE_RECORDS: usize = 2048;

/// How many silent members one [`Call::Sync`] names.
const SILENT: usize = 3;

/// What a call answered.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Answer {
    Synced(Synced),
    Appended(Appended),
    Paged(Paged),
    Acked(bool),
    Removed(bool),
}

/// A coordination key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Key {
    State,
    Log,
    Open,
    Members,
    Beats,
}

impl Key {
    /// All of them, in the order of the scripts' KEYS.
    pub const ALL: [Self; 5] = [
        Self::State,
        Self::Log,
        Self::Open,
        Self::Members,
        Self::Beats,
    ];
}

/// A field of the state, in the order of the scripts' `FIELDS`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Field {
    Id,
    Epoch,
    Seq,
    Acked,
    Members,
    Open,
    Fence,
    Readings,
    Confirmed,
    Quarantine,
    Beats,
    Fingerprint,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; FIELDS] = [
        Self::Id,
        Self::Epoch,
        Self::Seq,
        Self::Acked,
        Self::Members,
        Self::Open,
        Self::Fence,
        Self::Readings,
        Self::Confirmed,
        Self::Quarantine,
        Self::Beats,
        Self::Fingerprint,
    ];
}

/// How many fields there are.
const FIELDS: usize = 12;

/// What Redis stores of the log: what a snapshot keeps, and what a restart may bring back.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Snapshot {
    state: [Option<u64>; FIELDS],
    log: BTreeMap<u64, (Token, Change)>,
    open: BTreeMap<Token, (u64, Tags)>,
    members: BTreeMap<Member, u64>,
    beats: BTreeMap<Member, u64>,
}

/// See the module.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Oracle {
    stored: Snapshot,
    /// What the server is: counts its runs and promotions.
    identity: u64,
    copies: u32,
    rings: Vec<Rung>,
}

/// What a script knows after it has looked whether all is there.
#[derive(Clone, Copy)]
struct Found {
    epoch: u64,
    seq: u64,
    acked: u64,
}

impl Oracle {
    /// A Redis that has just started, with nothing in it.
    pub fn new() -> Self {
        Self {
            stored: Snapshot::default(),
            identity: 1,
            copies: 0,
            rings: Vec::new(),
        }
    }

    /// Runs a call's script.
    pub fn call(&mut self, call: &Call) -> Answer {
        match call {
            Call::Sync { .. } => Answer::Synced(self.sync(call)),
            Call::Ack {
                member,
                epoch,
                applied,
                nonce,
            } => Answer::Acked(self.ack(*member, *epoch, *applied, *nonce)),
            Call::Intent {
                token,
                epoch,
                tags,
                nonce,
            } => Answer::Appended(self.intent(*token, *epoch, tags, *nonce)),
            Call::Close {
                token,
                epoch,
                kind,
                payload,
                nonce,
            } => Answer::Appended(self.close(*token, *epoch, (*kind, payload), *nonce)),
            Call::Page { epoch, from } => Answer::Paged(self.page(*epoch, *from)),
            Call::Reap {
                member,
                beat,
                epoch,
                nonce,
            } => {
                let found = self.incarnation(*nonce);
                let same = found.epoch == *epoch && self.stored.beats.get(member) == Some(beat);
                Answer::Removed(same && self.remove(*member, found))
            }
            Call::Leave { member, nonce } => {
                let found = self.incarnation(*nonce);
                let there = self.stored.members.contains_key(member);
                Answer::Removed(there && self.remove(*member, found))
            }
        }
    }

    /// The messages since the last look, in order.
    pub fn drain_rings(&mut self) -> Vec<Rung> {
        std::mem::take(&mut self.rings)
    }

    /// What is stored.
    pub fn snapshot(&self) -> Snapshot {
        self.stored.clone()
    }

    /// The epoch, if there is one.
    pub const fn epoch(&self) -> Option<u64> {
        self.stored.state[Field::Epoch as usize]
    }

    /// The last record's number.
    pub fn tail(&self) -> u64 {
        self.get(Field::Seq)
    }

    /// The members' beats.
    pub fn beats(&self) -> impl Iterator<Item = (Member, u64)> {
        self.stored
            .beats
            .iter()
            .map(|(member, beat)| (*member, *beat))
    }
}

/// Faults.
impl Oracle {
    /// The server dies and comes back with nothing.
    pub fn restart_empty(&mut self) {
        self.restart_from(Snapshot::default());
    }

    /// The server dies and comes back with what was stored once.
    pub fn restart_from(&mut self, snapshot: Snapshot) {
        self.stored = snapshot;
        self.identity += 1;
        self.copies = 0;
    }

    /// A replica of the server that has got this far takes over.
    pub fn promote(&mut self, snapshot: Snapshot) {
        self.restart_from(snapshot);
    }

    /// The server takes itself for another one, and has lost nothing: its first replica was attached.
    pub const fn rename(&mut self) {
        self.identity += 1;
    }

    /// So many replicas are attached to the server.
    pub const fn attach(&mut self, copies: u32) {
        self.copies = copies;
    }

    /// FLUSHALL.
    pub fn flush(&mut self) {
        self.stored = Snapshot::default();
    }

    /// One key is gone: evicted, or deleted by hand.
    pub fn lose(&mut self, key: Key) {
        match key {
            Key::State => self.stored.state = [None; FIELDS],
            Key::Log => self.stored.log.clear(),
            Key::Open => self.stored.open.clear(),
            Key::Members => self.stored.members.clear(),
            Key::Beats => self.stored.beats.clear(),
        }
    }

    /// One field of the state is gone.
    pub const fn lose_field(&mut self, field: Field) {
        self.stored.state[field as usize] = None;
    }

    /// One announced write is gone.
    pub fn lose_open(&mut self, token: Token) {
        self.stored.open.remove(&token);
    }

    /// One member is gone from one of the two sets.
    pub fn lose_member(&mut self, member: Member, of: Key) {
        match of {
            Key::Members => self.stored.members.remove(&member),
            _ => self.stored.beats.remove(&member),
        };
    }

    /// Only the last `n` records are kept.
    pub fn trim(&mut self, n: usize) {
        while self.stored.log.len() > n {
            self.stored.log.pop_first();
        }
    }
}

/// The prologue.
impl Oracle {
    fn get(&self, field: Field) -> u64 {
        self.stored.state[field as usize].unwrap_or(0)
    }

    fn set(&mut self, field: Field, value: u64) {
        self.stored.state[field as usize] = Some(value);
    }

    fn count(&mut self, field: Field) -> u64 {
        let value = self.get(field) + 1;
        self.set(field, value);
        value
    }

    fn wipe(&mut self, nonce: u64, seq: u64) -> Found {
        self.stored = Snapshot::default();
        self.stored.state = [Some(0); FIELDS];
        self.set(Field::Id, self.identity);
        self.set(Field::Epoch, nonce);
        self.set(Field::Seq, seq);
        self.rings.push(Rung::Epoch);
        Found {
            epoch: nonce,
            seq,
            acked: 0,
        }
    }

    fn incarnation(&mut self, nonce: u64) -> Found {
        let stored = &self.stored;
        let whole = stored.state.iter().all(Option::is_some)
            && self.get(Field::Id) == self.identity
            && self.get(Field::Members) == stored.members.len() as u64
            && self.get(Field::Members) == stored.beats.len() as u64
            && self.get(Field::Open) == stored.open.len() as u64;
        if whole {
            return Found {
                epoch: self.get(Field::Epoch),
                seq: self.get(Field::Seq),
                acked: self.get(Field::Acked),
            };
        }
        self.wipe(nonce, self.get(Field::Seq) + 1)
    }

    fn append(&mut self, epoch: u64, token: Token, change: Change) -> u64 {
        let seq = self.count(Field::Seq);
        self.stored.log.insert(seq, (token, change.clone()));
        let record = Record { seq, token, change };
        self.rings.push(Rung::Record { epoch, record });
        seq
    }

    fn least(&self) -> u64 {
        self.stored.members.values().min().copied().unwrap_or(0)
    }

    fn acked(&mut self, epoch: u64, known: u64) -> u64 {
        let least = self.least();
        if least <= known {
            return known;
        }
        self.set(Field::Acked, least);
        self.rings.push(Rung::Acked {
            epoch,
            acked: least,
        });
        least
    }

    fn remove(&mut self, member: Member, found: Found) -> bool {
        self.stored.members.remove(&member);
        self.stored.beats.remove(&member);
        self.set(Field::Members, self.get(Field::Members) - 1);
        self.acked(found.epoch, found.acked);
        true
    }

    fn records(&self, from: u64, most: usize) -> Vec<Record> {
        let kept = self.stored.log.range(from..).take(most);
        kept.map(|(seq, (token, change))| Record {
            seq: *seq,
            token: *token,
            change: change.clone(),
        })
        .collect()
    }
}

/// The scripts.
impl Oracle {
    fn sync(&mut self, call: &Call) -> Synced {
        let Call::Sync {
            member,
            known,
            mode,
            quarantined,
            fingerprint,
            confirms,
            nonce,
        } = call
        else {
            unreachable!("only a Sync is synced")
        };
        let mut found = self.incarnation(*nonce);
        if let Some((epoch, applied)) = *known
            && epoch == found.epoch
            && applied > found.seq
        {
            found = self.wipe(*nonce, applied + 1);
        }
        let alone = self.stored.members.keys().all(|other| other == member);
        if self.get(Field::Fingerprint) != *fingerprint {
            if self.get(Field::Fingerprint) != 0 {
                if !alone {
                    return Synced::Foreign;
                }
                found = self.wipe(*nonce, found.seq + 1);
            }
            self.set(Field::Fingerprint, *fingerprint);
        }
        let applied = known.and_then(|(epoch, at)| (epoch == found.epoch).then_some(at));
        let same = applied.is_some();
        self.fence(found.epoch, same, alone, *mode);
        if same && *quarantined && self.get(Field::Quarantine) == 0 {
            let seq = self.append(found.epoch, Token(0), Change::Fence);
            self.set(Field::Quarantine, seq);
        }
        // Without a gap, or not at all.
        let tail = self.tail();
        let applied = applied.filter(|at| *at >= tail || self.stored.log.contains_key(&(at + 1)));
        self.stay(*member, applied);
        match applied {
            Some(at) => Synced::News(self.news(found, at, *mode, *confirms)),
            None => Synced::Reset(self.reset(found.epoch, alone && !same)),
        }
    }

    fn fence(&mut self, epoch: u64, same: bool, alone: bool, mode: Mode) {
        let lapsed = matches!(mode, Mode::Lapsed | Mode::Alone);
        if (same && lapsed) || (!same && alone) {
            let seq = self.append(epoch, Token(0), Change::Fence);
            self.set(Field::Fence, seq);
        }
    }

    fn stay(&mut self, member: Member, applied: Option<u64>) {
        let at = applied.unwrap_or(0);
        match self.stored.members.get_mut(&member) {
            Some(score) => *score = at.max(*score),
            None => {
                self.stored.members.insert(member, at);
                self.count(Field::Members);
            }
        }
        let beat = self.count(Field::Beats);
        self.stored.beats.insert(member, beat);
    }

    fn reset(&self, epoch: u64, alone: bool) -> Reset {
        let open = self.stored.open.iter();
        Reset {
            epoch,
            tail: self.tail(),
            oldest: self.stored.log.keys().next().copied().unwrap_or(0),
            fence: self.get(Field::Fence),
            readings: self.get(Field::Readings),
            quarantine: self.get(Field::Quarantine),
            copies: self.copies,
            alone,
            open: open
                .map(|(token, (_, tags))| (*token, tags.clone()))
                .collect(),
        }
    }

    fn news(&mut self, found: Found, applied: u64, mode: Mode, confirms: u64) -> News {
        let reading = match mode {
            Mode::Settled | Mode::Lapsed => self.count(Field::Readings),
            Mode::Probation | Mode::Alone => 0,
        };
        let confirmed = if mode == Mode::Lapsed {
            reading
        } else {
            confirms
        };
        self.set(Field::Confirmed, self.get(Field::Confirmed).max(confirmed));
        let acked = self.acked(found.epoch, found.acked);
        let mut silent: Vec<_> = self.beats().collect();
        silent.sort_by_key(|(_, beat)| *beat);
        silent.truncate(SILENT);
        News {
            tail: self.tail(),
            acked,
            fence: self.get(Field::Fence),
            reading,
            confirmed: self.get(Field::Confirmed),
            quarantine: self.get(Field::Quarantine),
            copies: self.copies,
            members: u32::try_from(self.stored.members.len()).expect("few members"),
            silent,
            records: self.records(applied + 1, SYNC_RECORDS),
        }
    }

    fn ack(&mut self, member: Member, epoch: u64, applied: u64, nonce: u64) -> bool {
        if self.epoch() != Some(epoch) {
            return false;
        }
        if let Some(score) = self.stored.members.get_mut(&member) {
            *score = applied.max(*score);
        }
        if self.least() > self.get(Field::Acked) {
            let found = self.incarnation(nonce);
            if found.epoch != epoch {
                return false;
            }
            self.acked(epoch, found.acked);
        }
        true
    }

    fn intent(&mut self, token: Token, epoch: u64, tags: &Tags, nonce: u64) -> Appended {
        let found = self.incarnation(nonce);
        if found.epoch != epoch {
            return Appended::Elsewhere { epoch: found.epoch };
        }
        let seq = match self.stored.open.get(&token) {
            Some((seq, _)) => *seq,
            None => {
                let seq = self.append(epoch, token, Change::Intent(tags.clone()));
                self.stored.open.insert(token, (seq, tags.clone()));
                self.count(Field::Open);
                seq
            }
        };
        self.appended(seq, true, found)
    }

    fn close(&mut self, token: Token, epoch: u64, said: (char, &str), nonce: u64) -> Appended {
        let found = self.incarnation(nonce);
        if found.epoch != epoch {
            return Appended::Elsewhere { epoch: found.epoch };
        }
        let (kind, payload) = said;
        let ends = matches!(kind, 'C' | 'N' | 'X');
        let open = if ends {
            self.stored.open.remove(&token)
        } else {
            None
        };
        if open.is_some() {
            self.set(Field::Open, self.get(Field::Open) - 1);
        }
        let change = match (kind, &open) {
            ('X', None) => return self.appended(0, false, found),
            ('X', Some((_, tags))) => Change::Expire(tags.clone()),
            ('C' | 'N', None) => parsed('P', payload),
            (_, _) => parsed(kind, payload),
        };
        let seq = self.append(epoch, token, change);
        self.appended(seq, open.is_some(), found)
    }

    const fn appended(&self, seq: u64, had: bool, found: Found) -> Appended {
        Appended::At {
            seq,
            had,
            acked: found.acked,
            copies: self.copies,
        }
    }

    fn page(&self, epoch: u64, from: u64) -> Paged {
        let here = self.stored.state[Field::Id as usize] == Some(self.identity);
        if !here || self.epoch() != Some(epoch) {
            return Paged::Elsewhere;
        }
        let records = self.records(from, PAGE_RECORDS);
        let full = records.len() == PAGE_RECORDS;
        let last = records.last().filter(|_| full);
        Paged::Records {
            next: last.map_or(0, |record| record.seq + 1),
            records,
        }
    }
}

/// A change as a reader of the log takes it.
fn parsed(kind: char, payload: &str) -> Change {
    Change::parse(kind.encode_utf8(&mut [0; 4]), payload)
        .unwrap_or_else(|| Change::Point(Tags::from_iter([Tag::all()])))
}
