//! The faults that there are: their names, whom they strike, and where they can be brought about.

use crate::history::Harm;
use crate::redis::Shape;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// SIGKILL to a replica, and a restart.
    KillReplica,
    /// SIGSTOP of a replica, for longer than a lease at times.
    PauseReplica,
    /// SIGKILL to Redis, and a restart: empty, or with an old snapshot.
    KillRedis,
    /// SIGSTOP of Redis.
    PauseRedis,
    /// One replica's connections are cut.
    CutOne,
    /// Everybody's are.
    CutAll,
    /// One replica's bytes do not arrive, in either direction.
    SilentOne,
    /// Nobody's do.
    SilentAll,
    /// One replica's bytes arrive in one direction only.
    HalfOpenOne,
    /// One replica's bytes arrive late.
    SlowOne,
    /// Everybody's do.
    SlowAll,
    /// Redis ends the subscribers' connections.
    KillPubsub,
    /// FLUSHALL.
    Flush,
    /// One key of the shared log is deleted.
    DeleteKey,
    /// The shared log loses its records, or all but the last.
    Trim,
    /// The primary dies before its last records reach the replica that is promoted.
    FailOver,
    /// The primary stands still until the other one is promoted, and goes on as if nothing had happened.
    SplitBrain,
}

impl Fault {
    /// Every one.
    pub const ALL: [Self; 17] = [
        Self::KillReplica,
        Self::PauseReplica,
        Self::KillRedis,
        Self::PauseRedis,
        Self::CutOne,
        Self::CutAll,
        Self::SilentOne,
        Self::SilentAll,
        Self::HalfOpenOne,
        Self::SlowOne,
        Self::SlowAll,
        Self::KillPubsub,
        Self::Flush,
        Self::DeleteKey,
        Self::Trim,
        Self::FailOver,
        Self::SplitBrain,
    ];

    /// The word for `--faults` and for tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KillReplica => "kill-replica",
            Self::PauseReplica => "pause-replica",
            Self::KillRedis => "kill-redis",
            Self::PauseRedis => "pause-redis",
            Self::CutOne => "cut-one",
            Self::CutAll => "cut-all",
            Self::SilentOne => "silent-one",
            Self::SilentAll => "silent-all",
            Self::HalfOpenOne => "half-open-one",
            Self::SlowOne => "slow-one",
            Self::SlowAll => "slow-all",
            Self::KillPubsub => "kill-pubsub",
            Self::Flush => "flush",
            Self::DeleteKey => "delete-key",
            Self::Trim => "trim",
            Self::FailOver => "fail-over",
            Self::SplitBrain => "split-brain",
        }
    }

    /// Whether this shape of Redis can suffer it.
    pub const fn is_possible(self, shape: Shape) -> bool {
        match self {
            Self::KillReplica | Self::PauseReplica => true,
            Self::CutOne
            | Self::CutAll
            | Self::SilentOne
            | Self::SilentAll
            | Self::HalfOpenOne
            | Self::SlowOne
            | Self::SlowAll => matches!(shape, Shape::Standalone),
            Self::FailOver | Self::SplitBrain => matches!(shape, Shape::Sentinel),
            Self::KillRedis | Self::PauseRedis => {
                matches!(shape, Shape::Standalone | Shape::Cluster)
            }
            Self::KillPubsub | Self::Flush | Self::DeleteKey | Self::Trim => {
                !matches!(shape, Shape::None)
            }
        }
    }

    /// How the checkers see it.
    pub const fn harm(self) -> Harm {
        match self {
            Self::KillReplica | Self::PauseReplica => Harm::Process,
            Self::KillPubsub | Self::Flush | Self::DeleteKey | Self::Trim => Harm::Data,
            _ => Harm::Link,
        }
    }

    /// Whether it strikes one replica only.
    pub const fn strikes_one(self) -> bool {
        matches!(
            self,
            Self::KillReplica
                | Self::PauseReplica
                | Self::CutOne
                | Self::SilentOne
                | Self::HalfOpenOne
                | Self::SlowOne
        )
    }
}

/// Reads `--faults`: `all`, `none`, or names with commas. `all` leaves out `split-brain`: without a majority that
/// confirms every record, no cache can promise anything then.
pub fn parse(text: &str, shape: Shape) -> Result<Vec<Fault>, String> {
    let possible = |fault: &Fault| fault.is_possible(shape);
    match text {
        "none" => Ok(Vec::new()),
        "all" => {
            let all = Fault::ALL.into_iter().filter(possible);
            Ok(all.filter(|fault| *fault != Fault::SplitBrain).collect())
        }
        names => names
            .split(',')
            .map(|name| {
                let found = Fault::ALL.into_iter().find(|fault| fault.as_str() == name);
                let found = found.ok_or_else(|| {
                    let all: Vec<&str> = Fault::ALL.iter().map(|it| it.as_str()).collect();
                    format!(
                        "there is no fault `{name}`: all, none, or some of {}",
                        all.join(",")
                    )
                })?;
                if possible(&found) {
                    Ok(found)
                } else {
                    Err(format!(
                        "`{name}` is not possible with --redis {}",
                        shape.as_str()
                    ))
                }
            })
            .collect(),
    }
}
