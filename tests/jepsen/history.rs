//! What happened in a run, on one monotonic clock: what clients asked and saw, what the app committed, what was broken.
//!
//! Clients, app and nemesis write it; the checkers and the report read it, and nothing else.

use std::time::Duration;

use tokio::time::Instant;

/// A moment: nanoseconds since the run's clock began.
pub type Nanos = u64;

/// A duration as [`Nanos`].
pub fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Nanoseconds as milliseconds, for people.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn millis(nanos: Nanos) -> f64 {
    (nanos / 1000) as f64 / 1000.0
}

/// The one clock of a run.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that shows 0 now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What it shows.
    pub fn now(&self) -> Nanos {
        nanos(self.0.elapsed())
    }
}

/// One register at one version: what a read saw, or a write made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    pub register: usize,
    pub version: u64,
}

/// What a client did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Read,
    Write,
}

/// Where an answer came from, by the proxy's own account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The replica's memory.
    Memory,
    /// The shared tier.
    Redis,
    /// A fill that another request had begun.
    Shared,
    /// The app, asked for this request.
    App,
}

/// How an operation ended for its client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// With the app's answer, fresh or stored.
    Answered { status: u16, source: Source },
    /// With an error of the proxy's own.
    Refused { status: u16, why: String },
    /// With a broken connection, or none.
    Broken(String),
    /// The client hung up on purpose.
    Abandoned,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    pub id: u64,
    pub kind: Kind,
    pub replica: usize,
    /// Before the first byte of the request.
    pub invoke: Nanos,
    /// After the answer: a write's head (that is when it is acknowledged), a read's last byte.
    pub complete: Nanos,
    pub end: End,
    pub seen: Vec<Seen>,
    /// The answer was not the one to this question.
    pub foreign: bool,
    /// The write's answer says that it was not coordinated.
    pub uncoordinated: bool,
    /// How long the app took for it; known of writes.
    pub app: Nanos,
    /// The app gave no answer, on purpose.
    pub unanswered: bool,
    /// `Cache-Status`, for messages.
    pub told: String,
}

impl Op {
    /// Whether the client has an answer that came from the app, now or once.
    pub fn is_answered(&self) -> bool {
        matches!(self.end, End::Answered { .. })
    }

    /// Whether it took place while this span lasted, or within `after` of it.
    pub fn overlaps(&self, span: &Span, after: Nanos) -> bool {
        self.invoke <= span.to.saturating_add(after) && self.complete >= span.from
    }
}

/// Whom a fault struck.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Struck {
    /// One replica, or its link.
    Replica(usize),
    /// Redis, or the links of all.
    Everybody,
}

/// What kind of harm a fault does, as far as the checkers treat them differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Harm {
    /// A replica is dead or stands still.
    Process,
    /// A link, or Redis itself, is gone or slow.
    Link,
    /// What Redis held is gone; it answers.
    Data,
}

/// A fault and how long it lasted.
#[derive(Clone, Debug)]
pub struct Span {
    pub fault: &'static str,
    pub from: Nanos,
    pub to: Nanos,
    pub struck: Struck,
    pub harm: Harm,
    /// From when on some replicas may have found Redis again, and others not yet.
    pub uneven: Nanos,
}

/// Everything that the checkers know.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub ops: Vec<Op>,
    /// The moment of each commit, per register: version 1 first.
    pub commits: Vec<Vec<Nanos>>,
    pub spans: Vec<Span>,
    /// Reads that were under way in the app when a register of theirs was committed.
    pub races: u64,
    /// Whether the nemesis found the shared log where it would strike it.
    pub log_found: bool,
    /// Reads that reached the app.
    pub gets: u64,
    /// From when on the caches were warm.
    pub warm: Nanos,
    /// Until when nothing was broken.
    pub calm: Nanos,
    pub ended: Nanos,
}

/// How long after a fault of the link a replica may still look for Redis: its peers may have found it already.
const RECONNECTING: Nanos = 3_000_000_000;

impl History {
    /// The reads that were answered well.
    pub fn reads(&self) -> impl Iterator<Item = &Op> {
        let reads = self.ops.iter().filter(|op| op.kind == Kind::Read);
        reads.filter(|op| op.is_answered())
    }

    /// The writes that took place and whose client knows it.
    pub fn acknowledged(&self) -> impl Iterator<Item = &Op> {
        let writes = self.ops.iter().filter(|op| op.kind == Kind::Write);
        writes.filter(|op| op.is_answered() && !op.seen.is_empty())
    }

    /// Whether the promise does not cover a write: its replica says so itself, and was indeed cut off alone. A replica
    /// whose peers are cut off as well has no excuse.
    pub fn is_excused(&self, write: &Op) -> bool {
        let alone = |span: &Span| match span.struck {
            Struck::Replica(replica) => {
                span.harm == Harm::Link
                    && replica == write.replica
                    && write.overlaps(span, RECONNECTING)
            }
            Struck::Everybody => {
                let healing = Span {
                    from: span.uneven,
                    ..span.clone()
                };
                span.harm == Harm::Link && write.overlaps(&healing, RECONNECTING)
            }
        };
        write.uncoordinated && self.spans.iter().any(alone)
    }

    /// Whether nothing was broken at a moment, nor in the time before.
    pub fn is_healthy(&self, at: Nanos, recovery: Nanos) -> bool {
        let mut spans = self.spans.iter();
        at >= self.warm
            && !spans.any(|span| at >= span.from && at <= span.to.saturating_add(recovery))
    }
}
