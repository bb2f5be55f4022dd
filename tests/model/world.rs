//! The world of the model: a log, replicas of the real core, their writes, and one register that they cache.
//!
//! What flows in: [`Step`]s, one at a time. What flows out: which steps are possible, and the first broken promise. It is
//! deterministic. It takes the worst that can happen for granted: at every place of the log somebody fetched at the very
//! moment the stamp was taken, what was fetched is kept for ever, and everybody finds it. Sending, execution at the log
//! and reply are steps of their own; whoever has given a call up may still see it executed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use reprise::coherence::Writes;
use reprise::coherence::clock::Time;
use reprise::coherence::log::{Appended, Call, Member, Paged, Rung, Synced};
use reprise::coherence::record::{Change, Token};
use reprise::coherence::replica::{Effect, Event, Replica, Sight, Timing};
use reprise::coherence::write::{Do, Input, Promise, Rules, Settlement, Waited, Write};
use reprise::entry::Stamp;
use reprise::tag::{Tag, Tags};

use crate::mutant::Mutant;
use crate::oracle::{Answer, Key, Oracle, Snapshot};
use crate::tables::{Edit, Look, TAGS};

/// What is possible in a world.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub replicas: usize,
    pub promise: Promise,
    /// Whether writes go on when the log is out of reach.
    pub forward: bool,
    pub timing: Timing,
    /// How long after it was forwarded a write may take place.
    pub ttl: Duration,
    pub mutant: Option<Mutant>,
    /// Small: everything that only makes the search larger is left out.
    pub small: bool,
    /// No time passes after this.
    pub until: Time,
    /// Whether announcements may expire at any time: a write that has to be seen once it is answered does not need them.
    pub eager: bool,
    /// How far clocks differ, in thousandths.
    pub skew: u64,
}

/// How often something may still happen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Budget {
    pub writes: u32,
    pub timeouts: u32,
    pub crashes: u32,
    pub leaves: u32,
    pub outages: u32,
    pub cuts: u32,
    pub restarts: u32,
    /// Keys that are lost one by one, and trimmed logs.
    pub losses: u32,
}

/// What has been looked at. Not part of a state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub steps: u64,
    pub checked: u64,
    pub hits: u64,
    pub acked: u64,
    pub uncoordinated: u64,
    /// Answered without the log although others could reach it: nothing is promised then.
    pub excused: u64,
    pub epochs: u64,
}

impl Figures {
    /// Counts these too.
    pub const fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.checked += other.checked;
        self.hits += other.hits;
        self.acked += other.acked;
        self.uncoordinated += other.uncoordinated;
        self.excused += other.excused;
        self.epochs += other.epochs;
    }
}

impl Hash for Figures {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// One step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    Advance(Duration),
    Tick(usize),
    Perform(usize),
    Execute(usize),
    Reply(usize),
    GiveUp(usize),
    Vanish(usize),
    Ring(usize, usize),
    Deaf(usize, usize),
    Begin(usize, u8),
    Look(usize),
    Commit(usize),
    Settle(usize),
    Refuse(usize),
    Abandon(usize),
    Expire(usize),
    Fetch(usize),
    Store(usize),
    Crash(usize),
    Leave(usize),
    Outage,
    Heal,
    Cut(usize),
    Mend(usize),
    Restart(usize),
    Rename,
    Flush,
    Lose(u8),
    Trim(usize),
}

impl Step {
    /// A number for each kind of step.
    pub const fn kind(self) -> usize {
        match self {
            Self::Advance(_) => 0,
            Self::Tick(_) => 1,
            Self::Perform(_) => 2,
            Self::Execute(_) => 3,
            Self::Reply(_) => 4,
            Self::GiveUp(_) => 5,
            Self::Vanish(_) => 6,
            Self::Ring(..) => 7,
            Self::Deaf(..) => 8,
            Self::Begin(..) => 9,
            Self::Look(_) => 10,
            Self::Commit(_) => 11,
            Self::Settle(_) => 12,
            Self::Refuse(_) => 13,
            Self::Abandon(_) => 14,
            Self::Expire(_) => 15,
            Self::Fetch(_) | Self::Store(_) => 16,
            Self::Crash(_) => 17,
            Self::Leave(_) => 18,
            Self::Outage => 19,
            Self::Heal => 20,
            Self::Cut(_) => 21,
            Self::Mend(_) => 22,
            Self::Restart(_) | Self::Rename | Self::Flush => 23,
            Self::Lose(_) | Self::Trim(_) => 24,
        }
    }

    /// How many kinds there are.
    pub const KINDS: usize = 25;
}

/// For whom a call is under way.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Role {
    Reading,
    Acking,
    Paging,
    Journal(usize),
    Side,
    Writer(usize),
    /// Whoever asked has given it up.
    Nobody,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Flight {
    node: usize,
    role: Role,
    call: Call,
    sent: Time,
    answer: Option<Answer>,
}

#[derive(Clone, Debug, Hash)]
struct Node<V> {
    member: Member,
    replica: Replica,
    view: V,
    sight: Sight,
    /// What is still to be done of what the replica said.
    todo: VecDeque<Effect>,
    rings: Vec<Rung>,
    lapse: bool,
    telling: bool,
    cut: bool,
    /// A mutant that has left, and still serves.
    gone: bool,
    /// The newest version whose write this process has answered.
    own: u64,
    /// What a mutant's fetch has read.
    fetched: Option<u64>,
    /// What a mutant has found good.
    good: BTreeSet<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Stage {
    Asking,
    /// Until then, or until it sees something else than this.
    Waiting(Time, Sight),
    /// Forwarded then.
    AtApp(Time),
    /// Nobody waits for it any more, and it may still take place.
    Doubt(Time),
    Over,
}

#[derive(Clone, Debug, Hash)]
struct Writing {
    node: usize,
    write: Write,
    token: Token,
    stage: Stage,
    version: u64,
    settled: bool,
    shape: u8,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct World<V> {
    pub setup: Setup,
    pub budget: Budget,
    pub figures: Figures,
    /// The first broken promise.
    pub broken: Option<String>,
    now: Time,
    oracle: Oracle,
    saved: VecDeque<Snapshot>,
    drawn: u64,
    /// The last epoch of a small world.
    named: u64,
    out: Option<Time>,
    nodes: Vec<Node<V>>,
    flights: Vec<Flight>,
    writes: Vec<Writing>,
    db: u64,
    acked: u64,
    /// When which version was acknowledged.
    acks: Vec<(Time, u64)>,
    /// The oldest version that somebody may have fetched under a stamp.
    entries: BTreeMap<(u64, u64), u64>,
}

impl<V: Hash> Hash for World<V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.budget, self.now, &self.oracle, self.named, self.out).hash(state);
        (&self.nodes, &self.flights, &self.writes).hash(state);
        (self.db, self.acked, &self.entries).hash(state);
    }
}

/// The world's clock when it begins: later than a lease, so that "never" is long ago.
pub const DAWN: Time = Time(100_000_000_000);

impl<V: Look> World<V> {
    pub fn new(setup: Setup, budget: Budget) -> Self {
        let mut world = Self {
            setup,
            budget,
            figures: Figures::default(),
            broken: None,
            now: DAWN,
            oracle: Oracle::new(),
            saved: VecDeque::new(),
            drawn: 0,
            named: 0,
            out: None,
            nodes: Vec::new(),
            flights: Vec::new(),
            writes: Vec::new(),
            db: 0,
            acked: 0,
            acks: Vec::new(),
            entries: BTreeMap::new(),
        };
        for _ in 0..setup.replicas {
            let node = world.newborn();
            world.nodes.push(node);
        }
        world
    }

    fn newborn(&mut self) -> Node<V> {
        let member = Member(self.draw());
        Node {
            member,
            replica: Replica::new(self.setup.timing, member, 7),
            view: V::fresh(),
            sight: Sight::default(),
            todo: VecDeque::new(),
            rings: Vec::new(),
            lapse: false,
            telling: false,
            cut: false,
            gone: false,
            own: 0,
            fetched: None,
            good: BTreeSet::new(),
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.setup.mutant == Some(mutant)
    }

    /// What a replica's clock shows.
    fn clock(&self, node: usize) -> Time {
        let skew = if self.is(Mutant::FastClock) {
            100
        } else {
            self.setup.skew
        };
        let rate = match node % 3 {
            0 => 1000,
            1 => 1000 + skew,
            _ => 1000 - skew,
        };
        Time(self.now.0 / 1000 * rate)
    }

    fn reaches(&self, node: usize) -> bool {
        self.out.is_none() && !self.nodes[node].cut
    }

    /// Whether everybody holds a lease, and nothing is under way.
    pub fn is_calm(&self) -> bool {
        let calm = |(at, node): (usize, &Node<V>)| {
            node.view.lease() > self.clock(at) && node.rings.is_empty() && node.todo.is_empty()
        };
        self.flights.is_empty() && self.nodes.iter().enumerate().all(calm)
    }

    /// Takes a step.
    pub fn take(&mut self, step: Step) {
        self.figures.steps += 1;
        match step {
            Step::Advance(by) => {
                self.now = self.now + by;
                self.examine_lag();
            }
            Step::Tick(node) => self.feed(node, Event::Tick),
            Step::Perform(node) => self.perform(node),
            Step::Execute(flight) => self.execute(flight),
            Step::Reply(flight) => self.reply(flight),
            Step::GiveUp(flight) => self.give_up(flight),
            Step::Vanish(flight) => _ = self.flights.remove(flight),
            Step::Ring(node, ring) => {
                let rung = self.nodes[node].rings.remove(ring);
                self.feed(node, Event::Rung(rung));
            }
            Step::Deaf(node, ring) => _ = self.nodes[node].rings.remove(ring),
            Step::Begin(node, shape) => self.begin(node, shape),
            Step::Look(write) => self.drive(write, Input::Look),
            Step::Commit(write) => self.commit(write),
            Step::Settle(write) => self.settle(write),
            Step::Refuse(write) => {
                self.writes[write].settled = true;
                self.drive(write, Input::Settled(Settlement::Refused));
            }
            Step::Abandon(write) => self.abandon(write),
            Step::Expire(node) => self.expire(node),
            Step::Fetch(node) => self.nodes[node].fetched = Some(self.db),
            Step::Store(node) => {
                let stamp = self.nodes[node].view.stamp();
                if let Some(version) = self.nodes[node].fetched.take() {
                    let oldest = self
                        .entries
                        .entry((stamp.epoch, stamp.seq))
                        .or_insert(version);
                    *oldest = version.min(*oldest);
                }
                self.examine(node);
            }
            fault => self.fault(fault),
        }
        if self.setup.small {
            // Which was sent first does not matter.
            self.flights
                .sort_by_key(|flight| (flight.node, flight.role));
        }
    }

    /// A step, and what it is about.
    pub fn describe(&self, step: Step) -> String {
        let at = self.now.since(DAWN);
        match step {
            Step::Execute(flight)
            | Step::Reply(flight)
            | Step::GiveUp(flight)
            | Step::Vanish(flight) => {
                let Flight {
                    node,
                    role,
                    call,
                    answer,
                    ..
                } = &self.flights[flight];
                format!("{at:?} {step:?} of {node} {role:?} {call:?} {answer:?}")
            }
            Step::Ring(node, ring) | Step::Deaf(node, ring) => {
                format!("{at:?} {step:?} {:?}", self.nodes[node].rings[ring])
            }
            Step::Perform(node) => format!("{at:?} {step:?} {:?}", self.nodes[node].todo.front()),
            Step::Look(write)
            | Step::Commit(write)
            | Step::Settle(write)
            | Step::Refuse(write)
            | Step::Abandon(write) => {
                let Writing {
                    node, token, stage, ..
                } = &self.writes[write];
                format!("{at:?} {step:?} of {node} {token:?} {stage:?}")
            }
            _ => format!("{at:?} {step:?}"),
        }
    }

    fn fault(&mut self, step: Step) {
        match step {
            Step::Crash(node) => {
                self.budget.crashes -= 1;
                self.end(node);
            }
            Step::Leave(node) => {
                self.budget.leaves -= 1;
                let member = self.nodes[node].member;
                let call = Call::Leave { member, nonce: 0 };
                self.send(node, Role::Nobody, call);
                if self.is(Mutant::LeaveKeepsLease) {
                    self.nodes[node].gone = true;
                } else {
                    self.end(node);
                }
            }
            Step::Outage => {
                self.budget.outages -= 1;
                self.out = Some(self.now);
            }
            Step::Heal => self.out = None,
            Step::Cut(node) => {
                self.budget.cuts -= 1;
                self.nodes[node].cut = true;
            }
            Step::Mend(node) => self.nodes[node].cut = false,
            Step::Restart(saved) => {
                self.budget.restarts -= 1;
                let snapshot = self.saved.get(saved).cloned().unwrap_or_default();
                self.oracle.restart_from(snapshot);
            }
            Step::Rename => {
                self.budget.restarts -= 1;
                self.oracle.rename();
            }
            Step::Flush => {
                self.budget.restarts -= 1;
                self.oracle.flush();
            }
            Step::Lose(key) => {
                self.budget.losses -= 1;
                self.oracle.lose(Key::ALL[usize::from(key)]);
            }
            Step::Trim(keep) => {
                self.budget.losses -= 1;
                self.oracle.trim(keep);
            }
            _ => unreachable!("{step:?} is no fault"),
        }
    }

    /// A process ends, and another one begins in its place. What it had sent may still arrive.
    fn end(&mut self, node: usize) {
        let cut = self.nodes[node].cut;
        self.nodes[node] = self.newborn();
        self.nodes[node].cut = cut;
        self.flights
            .retain(|flight| flight.node != node || flight.answer.is_none());
        for flight in self.flights.iter_mut().filter(|flight| flight.node == node) {
            flight.role = Role::Nobody;
        }
        for write in self.writes.iter_mut().filter(|write| write.node == node) {
            write.stage = match write.stage {
                Stage::AtApp(at) | Stage::Doubt(at) if write.version == 0 => Stage::Doubt(at),
                _ => Stage::Over,
            };
        }
    }
}

/// Replicas.
impl<V: Look> World<V> {
    fn feed(&mut self, node: usize, event: Event) {
        if std::mem::take(&mut self.nodes[node].lapse) {
            self.feed_one(node, self.clock(node), Event::Lapse);
        }
        self.feed_one(node, self.clock(node), event);
    }

    fn feed_one(&mut self, node: usize, now: Time, event: Event) {
        let mut effects = Vec::new();
        self.nodes[node].replica.step(now, event, &mut effects);
        if let Some(mutant) = self.setup.mutant {
            effects = mutant.effects(effects);
        }
        self.nodes[node].todo.extend(effects);
        if self.setup.small || self.nodes[node].todo.len() < 2 {
            while !self.nodes[node].todo.is_empty() {
                self.perform(node);
            }
            self.tell(node);
        }
    }

    fn tell(&mut self, node: usize) {
        let sight = self.nodes[node].replica.sight();
        self.nodes[node].sight = match self.setup.mutant {
            Some(mutant) => mutant.sight(sight),
            None => sight,
        };
    }

    fn perform(&mut self, node: usize) {
        let now = self.clock(node);
        let Some(effect) = self.nodes[node].todo.pop_front() else {
            return;
        };
        let view = &mut self.nodes[node].view;
        match effect {
            Effect::Call(call) => {
                let role = match call {
                    Call::Sync { .. } => Role::Reading,
                    Call::Ack { .. } => Role::Acking,
                    Call::Page { .. } => Role::Paging,
                    _ => Role::Side,
                };
                self.send(node, role, call);
                if self.setup.small && role == Role::Acking && self.reaches(node) {
                    // Told at once: how late a write may learn of it is in the order of the rings.
                    let last = self.flights.len() - 1;
                    self.execute(last);
                    self.reply(last);
                    return;
                }
            }
            Effect::Apply(record) => view.edit(Edit::Apply(record), now),
            Effect::Begin { epoch, seq, open } => {
                self.figures.epochs += 1;
                view.edit(Edit::Begin(epoch, seq, open), now);
            }
            Effect::Recall(records) => view.edit(Edit::Recall(records), now),
            Effect::Floor(fence) => view.edit(Edit::Floor(fence), now),
            Effect::StrictFloor(fence) => view.edit(Edit::StrictFloor(fence), now),
            Effect::Lease(until) => {
                view.grant(until);
                if until != Time::NEVER {
                    self.tell_journal(node);
                }
            }
        }
        self.stamped(node);
        self.examine(node);
        if self.nodes[node].todo.is_empty() {
            self.tell(node);
        }
    }

    fn tell_journal(&mut self, node: usize) {
        let told = self.nodes[node].view.untold();
        let Some((change, count)) = told.filter(|_| !self.nodes[node].telling) else {
            return;
        };
        let Some(epoch) = self.nodes[node].replica.sight().epoch else {
            return;
        };
        self.nodes[node].telling = true;
        let call = Call::Close {
            token: Token(0),
            epoch,
            kind: change.kind(),
            payload: change.payload(),
            nonce: 0,
        };
        self.send(node, Role::Journal(count), call);
    }

    /// How long announcements live.
    const fn expiry(&self) -> Duration {
        if self.setup.eager {
            Duration::ZERO
        } else {
            self.setup.timing.quarantine
        }
    }

    /// Ends announcements whose time is over.
    fn expire(&mut self, node: usize) {
        let overdue = self.nodes[node]
            .view
            .overdue(self.clock(node), self.expiry());
        let Some(epoch) = self.nodes[node].sight.epoch else {
            return;
        };
        for token in overdue {
            let change = Change::Expire(Tags::new());
            let call = Call::Close {
                token,
                epoch,
                kind: change.kind(),
                payload: change.payload(),
                nonce: 0,
            };
            self.send(node, Role::Side, call);
        }
    }
}

/// Names the epoch that a call would begin.
const fn name_epoch(call: &mut Call, name: u64) {
    match call {
        Call::Sync { nonce, .. }
        | Call::Ack { nonce, .. }
        | Call::Intent { nonce, .. }
        | Call::Close { nonce, .. }
        | Call::Reap { nonce, .. }
        | Call::Leave { nonce, .. } => *nonce = name,
        Call::Page { .. } => {}
    }
}

/// Calls.
impl<V: Look> World<V> {
    fn send(&mut self, node: usize, role: Role, mut call: Call) {
        let drawn = match call {
            // Only what may begin an epoch needs one.
            Call::Page { .. } => 0,
            // An epoch is named by the execution that begins it: the order of sending would make equal worlds differ.
            _ if self.setup.small => 0,
            _ => self.draw(),
        };
        name_epoch(&mut call, drawn + 1000);
        let small = self.setup.small;
        let sent = if small { DAWN } else { self.clock(node) };
        self.flights.push(Flight {
            node,
            role,
            call,
            sent,
            answer: None,
        });
    }

    fn execute(&mut self, flight: usize) {
        if self.setup.small {
            name_epoch(&mut self.flights[flight].call, self.named + 1);
        }
        let answer = self.oracle.call(&self.flights[flight].call);
        if self.setup.small {
            self.named = self.oracle.epoch().unwrap_or(0).max(self.named);
            name_epoch(&mut self.flights[flight].call, 0);
        }
        if self.flights[flight].role == Role::Nobody {
            self.flights.remove(flight);
        } else {
            self.flights[flight].answer = Some(answer);
        }
        let rung = self.oracle.drain_rings();
        for node in 0..self.nodes.len() {
            if self.reaches(node) {
                self.nodes[node].rings.extend(rung.iter().cloned());
            }
        }
        if !self.setup.small {
            self.saved.push_back(self.oracle.snapshot());
            if self.saved.len() > 6 {
                self.saved.pop_front();
            }
        }
    }

    fn reply(&mut self, flight: usize) {
        let Flight {
            node,
            role,
            call,
            sent,
            answer,
        } = self.flights.remove(flight);
        let Some(answer) = answer else { return };
        match (role, answer) {
            (Role::Reading, Answer::Synced(synced)) => {
                let late = self.is(Mutant::LateReadingCounts);
                let now = if late { sent } else { self.clock(node) };
                let synced = match self.setup.mutant {
                    Some(mutant) => mutant.synced(synced),
                    None => synced,
                };
                if std::mem::take(&mut self.nodes[node].lapse) {
                    self.feed_one(node, self.clock(node), Event::Lapse);
                }
                if let (true, Synced::News(news)) = (self.is(Mutant::ReapAtOnce), &synced) {
                    self.reap(node, &news.silent);
                }
                self.feed_one(node, now, Event::Synced(synced));
            }
            (Role::Acking, Answer::Acked(same)) => self.feed(node, Event::Acked(Some(same))),
            (Role::Paging, Answer::Paged(paged)) => self.paged(node, &call, Some(paged)),
            (Role::Journal(count), answer) => {
                let told = matches!(answer, Answer::Appended(Appended::At { .. }));
                self.journal_told(node, if told { count } else { 0 });
            }
            (Role::Writer(write), Answer::Appended(appended)) => {
                let appended = self.mutated(&call, appended);
                self.drive(write, Input::Appended(appended));
            }
            _ => {}
        }
    }

    fn reap(&mut self, node: usize, silent: &[(Member, u64)]) {
        let here = self.nodes[node].member;
        let epoch = self.nodes[node].sight.epoch.unwrap_or(0);
        for (member, beat) in silent.iter().filter(|(member, _)| *member != here) {
            let call = Call::Reap {
                member: *member,
                beat: *beat,
                epoch,
                nonce: 0,
            };
            self.send(node, Role::Side, call);
        }
    }

    fn paged(&mut self, node: usize, call: &Call, paged: Option<Paged>) {
        if let Call::Page { epoch, from } = *call {
            self.feed(node, Event::Paged { epoch, from, paged });
        }
    }

    fn journal_told(&mut self, node: usize, count: usize) {
        // The reader hears of a lapse before it hears of anything else.
        if std::mem::take(&mut self.nodes[node].lapse) {
            self.feed_one(node, self.clock(node), Event::Lapse);
            while !self.nodes[node].todo.is_empty() {
                self.perform(node);
            }
        }
        self.nodes[node].telling = false;
        self.nodes[node].view.told(count);
        self.examine(node);
    }

    fn mutated(&self, call: &Call, appended: Appended) -> Appended {
        let close = matches!(call, Call::Close { .. });
        match appended {
            Appended::Elsewhere { .. } if close && self.is(Mutant::CloseIgnoresEpoch) => {
                Appended::At {
                    seq: 0,
                    had: true,
                    acked: 0,
                    copies: 0,
                }
            }
            Appended::At {
                seq, acked, copies, ..
            } if close && self.is(Mutant::NoSecondWait) => Appended::At {
                seq,
                had: true,
                acked,
                copies,
            },
            other => other,
        }
    }

    fn give_up(&mut self, flight: usize) {
        if self.reaches(self.flights[flight].node) {
            self.budget.timeouts -= 1;
        }
        let Flight {
            node, role, call, ..
        } = self.flights[flight].clone();
        if self.flights[flight].answer.is_some() {
            self.flights.remove(flight);
        } else {
            self.flights[flight].role = Role::Nobody;
        }
        match role {
            Role::Reading => self.feed(node, Event::Unread),
            Role::Acking => self.feed(node, Event::Acked(None)),
            Role::Paging => self.paged(node, &call, None),
            Role::Journal(_) => self.journal_told(node, 0),
            Role::Writer(write) => self.drive(write, Input::Failed),
            Role::Side | Role::Nobody => {}
        }
    }
}

/// Writes.
impl<V: Look> World<V> {
    fn rules(&self) -> Rules {
        Rules {
            promise: self.setup.promise,
            timing: self.setup.timing,
            forward: self.setup.forward,
        }
    }

    /// What a write of this shape announces, what it drops, and whether the one reaches the other.
    fn shape(shape: u8) -> (Tags, Tags, bool) {
        let of = |tag| Tags::from_iter([tag]);
        let [coarse, fine] = TAGS;
        match shape {
            0 => (of(coarse), of(fine), true),
            1 => (Tags::from_iter(TAGS), Tags::from_iter(TAGS), true),
            _ => (of(Tag::from_u64(1)), of(fine), false),
        }
    }

    fn begin(&mut self, node: usize, shape: u8) {
        self.budget.writes -= 1;
        let token = Token(self.draw() + 5000);
        let unannounced = self.is(Mutant::NoIntents);
        self.writes.push(Writing {
            node,
            write: Write::new(self.rules(), token, Self::shape(shape).0),
            token,
            stage: if unannounced {
                Stage::AtApp(self.now)
            } else {
                Stage::Asking
            },
            version: 0,
            settled: false,
            shape,
        });
        if !unannounced {
            self.drive(self.writes.len() - 1, Input::Look);
        }
    }

    fn drive(&mut self, write: usize, input: Input) {
        let node = self.writes[write].node;
        let now = self.clock(node);
        let sight = self.nodes[node].sight;
        let done = self.writes[write].write.step(now, &sight, input);
        self.writes[write].stage = match done {
            Do::Call(mut call) => {
                if let (true, Call::Close { kind, payload, .. }) =
                    (self.is(Mutant::IntentOnly), &mut call)
                {
                    *kind = Change::Close.kind();
                    *payload = Change::Close.payload();
                }
                self.send(node, Role::Writer(write), call);
                Stage::Asking
            }
            Do::Wait(_) if self.is(Mutant::NoWait) && self.writes[write].settled => {
                self.acknowledge(write, None);
                Stage::Over
            }
            Do::Wait(until) => Stage::Waiting(until, sight),
            Do::Forward => Stage::AtApp(self.now),
            Do::Answer(Waited::Uncoordinated(tags)) => {
                self.acknowledge(write, Some(tags));
                Stage::Over
            }
            Do::Answer(_) => {
                self.acknowledge(write, None);
                Stage::Over
            }
            Do::Refuse => Stage::Over,
        };
    }

    /// A client has its answer.
    fn acknowledge(&mut self, write: usize, uncoordinated: Option<Tags>) {
        let Writing { node, version, .. } = self.writes[write];
        if version == 0 {
            return;
        }
        self.figures.acked += 1;
        let mut promised = true;
        if let Some(tags) = uncoordinated {
            self.figures.uncoordinated += 1;
            // Of a replica that is cut off while others are not, nothing is promised elsewhere.
            let lease = self.setup.timing.outlasted();
            promised = self.out.is_some_and(|since| self.now >= since + lease);
            self.figures.excused += u64::from(!promised);
            self.journal(node, tags);
        }
        self.nodes[node].own = self.nodes[node].own.max(version);
        if promised {
            self.acks.push((self.now, version));
            if self.setup.promise != Promise::Bounded {
                self.acked = self.acked.max(version);
            }
        }
        (0..self.nodes.len()).for_each(|node| self.examine(node));
    }

    fn journal(&mut self, node: usize, tags: Tags) {
        if !self.is(Mutant::NoJournal) {
            self.nodes[node].view.note(tags);
            self.nodes[node].lapse = true;
        }
    }

    fn commit(&mut self, write: usize) {
        self.db += 1;
        self.writes[write].version = self.db;
        if matches!(self.writes[write].stage, Stage::Doubt(_)) {
            self.writes[write].stage = Stage::Over;
        }
        if self.setup.promise == Promise::Strict {
            (0..self.nodes.len()).for_each(|node| self.examine(node));
        }
    }

    fn settle(&mut self, write: usize) {
        let (_, tags, covered) = Self::shape(self.writes[write].shape);
        self.writes[write].settled = true;
        if self.is(Mutant::NoIntents) {
            let token = self.writes[write].token;
            self.writes[write].write = Write::point(self.rules(), token, Change::Point(tags));
            return self.drive(write, Input::Look);
        }
        let settlement = Settlement::Changed { tags, covered };
        self.drive(write, Input::Settled(settlement));
    }

    /// The app does not answer in time.
    fn abandon(&mut self, write: usize) {
        let Writing {
            node,
            stage,
            shape,
            version,
            ..
        } = self.writes[write];
        if !self.writes[write].write.is_announced() {
            self.journal(node, Self::shape(shape).0);
        }
        self.writes[write].stage = match stage {
            Stage::AtApp(at) if version == 0 => Stage::Doubt(at),
            _ => Stage::Over,
        };
    }
}

/// What must hold.
impl<V: Look> World<V> {
    /// Somebody may fetch under the stamp that a replica has now.
    fn stamped(&mut self, node: usize) {
        if self.is(Mutant::StampAtStore) {
            return;
        }
        let stamp = self.nodes[node].view.stamp();
        self.entries
            .entry((stamp.epoch, stamp.seq))
            .or_insert(self.db);
    }

    fn examine(&mut self, node: usize) {
        if self.clock(node) >= self.nodes[node].view.lease() {
            self.nodes[node].good.clear();
            return;
        }
        let needed = self.acked.max(self.nodes[node].own);
        self.examine_for(node, Writes::Count, needed);
        if self.setup.promise == Promise::Strict {
            self.examine_for(node, Writes::Strict, self.db);
        }
    }

    fn examine_for(&mut self, node: usize, writes: Writes, needed: u64) {
        let here = &self.nodes[node];
        let epoch = here.view.stamp().epoch;
        let strangers = self.is(Mutant::NoEpochInStamp);
        let mut good = Vec::new();
        for (&(of, seq), &version) in &self.entries {
            if of != epoch && !strangers {
                continue;
            }
            let newest = seq == here.view.stamp().seq;
            if version >= needed && !newest && !self.is(Mutant::CheckOnce) {
                continue;
            }
            self.figures.checked += 1;
            let stamp = Stamp { epoch, seq };
            let usable = here.view.usable(stamp, writes)
                || here.good.contains(&(of, seq))
                || self.is(Mutant::UncheckedJoin);
            if usable && version < needed {
                let found = format!(
                    "replica {node} serves version {version} stamped {of}-{seq} ({writes:?}); needed is {needed}, the app has {}",
                    self.db
                );
                self.broken.get_or_insert(found);
            }
            if usable {
                self.figures.hits += 1;
                good.push((of, seq));
            }
        }
        if self.is(Mutant::CheckOnce) {
            self.nodes[node].good.extend(good);
        }
    }

    /// Whoever ignores open writes lags by no more than a lease.
    fn examine_lag(&mut self) {
        let lease = self.setup.timing.outlasted();
        let old = self.acks.iter().filter(|(at, _)| self.now >= *at + lease);
        let Some(needed) = old.map(|(_, version)| *version).max() else {
            return;
        };
        for node in 0..self.nodes.len() {
            if self.clock(node) < self.nodes[node].view.lease() {
                self.examine_for(node, Writes::Ignore, needed);
            }
        }
    }
}

/// What can happen.
impl<V: Look> World<V> {
    /// Appends the steps that are possible now.
    pub fn steps(&self, steps: &mut Vec<Step>) {
        self.time_steps(steps);
        for node in 0..self.nodes.len() {
            self.node_steps(node, steps);
        }
        for (at, flight) in self.flights.iter().enumerate() {
            let Flight { node, role, .. } = *flight;
            let busy = !self.nodes[node].todo.is_empty()
                && !matches!(role, Role::Writer(_) | Role::Nobody);
            let reaches = self.reaches(node);
            if flight.answer.is_none() && reaches {
                steps.push(Step::Execute(at));
            }
            if flight.answer.is_some() && !busy {
                steps.push(Step::Reply(at));
            }
            if role == Role::Nobody {
                steps.push(Step::Vanish(at));
            } else if !busy && (!reaches || self.budget.timeouts > 0) {
                steps.push(Step::GiveUp(at));
            }
        }
        self.write_steps(steps);
        self.fault_steps(steps);
    }

    fn time_steps(&self, steps: &mut Vec<Step>) {
        if self.now >= self.setup.until {
            return;
        }
        if self.setup.small {
            return steps.push(Step::Advance(Duration::from_micros(1)));
        }
        let lease = self.setup.timing.lease;
        for part in [100, 20, 5, 2] {
            steps.push(Step::Advance(lease / part));
        }
    }

    fn node_steps(&self, node: usize, steps: &mut Vec<Step>) {
        let here = &self.nodes[node];
        if !here.todo.is_empty() {
            return steps.push(Step::Perform(node));
        }
        if here.gone {
            return;
        }
        let now = self.clock(node);
        if here.lapse || here.replica.next() <= now {
            steps.push(Step::Tick(node));
        }
        let rings = here.rings.len();
        for ring in 0..if self.setup.small {
            rings.min(1)
        } else {
            rings
        } {
            steps.push(Step::Ring(node, ring));
            // One that is never delivered is as good as lost, if none is wanted behind it.
            if !self.setup.small {
                steps.push(Step::Deaf(node, ring));
            }
        }
        if self.budget.writes > 0 {
            let shapes = match (self.setup.small, self.setup.promise) {
                (true, _) => 1..2,
                // What a strict write changes has to be announced.
                (_, Promise::Strict) => 0..2,
                _ => 0..3,
            };
            shapes.for_each(|shape| steps.push(Step::Begin(node, shape)));
        }
        let expiring = self.flights.iter().any(|flight| {
            flight.node == node && matches!(flight.call, Call::Close { kind: 'X', .. })
        });
        if !expiring && !here.view.overdue(now, self.expiry()).is_empty() {
            steps.push(Step::Expire(node));
        }
        if self.is(Mutant::StampAtStore) {
            let fetched = here.fetched.is_some();
            steps.push(if fetched {
                Step::Store(node)
            } else {
                Step::Fetch(node)
            });
        }
    }

    fn write_steps(&self, steps: &mut Vec<Step>) {
        let ttl = self.setup.ttl;
        for (at, write) in self.writes.iter().enumerate() {
            match write.stage {
                Stage::Asking | Stage::Over => {}
                Stage::Waiting(until, seen) => {
                    if self.clock(write.node) >= until || self.nodes[write.node].sight != seen {
                        steps.push(Step::Look(at));
                    }
                }
                Stage::AtApp(_) if write.version > 0 => {
                    steps.push(Step::Settle(at));
                    steps.push(Step::Abandon(at));
                }
                Stage::AtApp(since) => {
                    steps.push(Step::Refuse(at));
                    steps.push(Step::Abandon(at));
                    if self.now < since + ttl {
                        steps.push(Step::Commit(at));
                    }
                }
                Stage::Doubt(since) if self.now < since + ttl => steps.push(Step::Commit(at)),
                Stage::Doubt(_) => {}
            }
        }
    }

    fn fault_steps(&self, steps: &mut Vec<Step>) {
        let budget = &self.budget;
        if self.out.is_some() {
            steps.push(Step::Heal);
        } else if budget.outages > 0 {
            steps.push(Step::Outage);
        }
        for (node, here) in self.nodes.iter().enumerate() {
            if budget.crashes > 0 {
                steps.push(Step::Crash(node));
            }
            if budget.leaves > 0 {
                steps.push(Step::Leave(node));
            }
            if here.cut {
                steps.push(Step::Mend(node));
            } else if budget.cuts > 0 {
                steps.push(Step::Cut(node));
            }
        }
        if budget.restarts > 0 {
            steps.extend([Step::Rename, Step::Flush]);
            steps.extend((0..=self.saved.len()).map(Step::Restart));
        }
        if budget.losses > 0 {
            (0..5).for_each(|key| steps.push(Step::Lose(key)));
            steps.extend([Step::Trim(0), Step::Trim(1), Step::Trim(3)]);
        }
    }
}
