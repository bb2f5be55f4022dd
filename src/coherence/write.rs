//! One write: what has to happen in the log before it is forwarded, and before its client gets the answer.
//!
//! A state machine without I/O, like [`super::replica`]: [`Write::step`] is told what happened and what the replica beside it
//! sees, and says the one thing to do next. Promise: when it says [`Do::Answer`], every replica that may serve from its
//! cache has either the write's intent open or a drop of its tags applied, and always will (the paper's I5), unless the log
//! could not be reached; and then nobody who lost it as well holds a lease any more.

use std::time::Duration;

use super::clock::Time;
use super::log::{Appended, Call};
use super::record::{Change, Token};
use super::replica::{Sight, Timing};
use crate::tag::{Tag, Tags};

/// How often a call that fails is made again while the log seems to be there.
const ATTEMPTS: u32 = 2;

/// What a write promises its client.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Promise {
    /// Never stale through this replica; elsewhere by no more than the lease.
    Bounded,
    /// Never stale once the client has its answer.
    Strong,
    /// Never stale, and no read goes back in time after another.
    Strict,
}

/// What writes are governed by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rules {
    /// The promise.
    pub promise: Promise,
    /// The lease that others may hold.
    pub timing: Timing,
    /// Whether a write goes on when the log cannot be reached (`on_partition = "forward"`). A strict one never does.
    pub forward: bool,
}

/// What happens to a write.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Input {
    /// It begins; or time has passed, or the replica sees something new.
    Look,
    /// The call that it asked for has been answered.
    Appended(Appended),
    /// That call has failed, or its time is over; whether it took effect is not known.
    Failed,
    /// The app has answered.
    Settled(Settlement),
}

/// How the app answered.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Settlement {
    /// The write took place, or may have.
    Changed {
        /// What it dropped.
        tags: Tags,
        /// Whether everything in `tags` is reached by what was announced.
        covered: bool,
    },
    /// It did not.
    Refused,
}

/// The one thing to do next.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Do {
    /// Ask the log, and come back with the answer.
    Call(Call),
    /// Come back when the replica sees something new, or at this time.
    Wait(Time),
    /// Send the request to the app.
    Forward,
    /// Send the answer to the client.
    Answer(Waited),
    /// Send 503: the log cannot be reached, and the operator said that such a write must not go on.
    Refuse,
}

/// What the client's answer waited for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Waited {
    /// Nothing: nothing had to be dropped.
    Nothing,
    /// All members have acknowledged.
    Acknowledged {
        /// The number of the drop.
        seq: u64,
        /// In which log.
        epoch: u64,
    },
    /// The leases of those who have not have run out.
    Lease {
        /// The number of the drop.
        seq: u64,
        /// In which log.
        epoch: u64,
    },
    /// The log could not be reached. These have to be dropped before this replica serves from its cache again.
    Uncoordinated(Tags),
}

/// A record of ours in the log.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Placed {
    epoch: u64,
    seq: u64,
    /// When we learnt that it was there.
    at: Time,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Phase {
    /// Not announced yet; not in this epoch, which is gone.
    Outside { gone: Option<u64> },
    /// The announcement is being made in this epoch.
    Announcing { epoch: u64 },
    /// Announced; a strict write waits here.
    Announced,
    /// With the app.
    Forwarded,
    /// The end is to be told; not in this epoch, which is gone.
    Ending { gone: Option<u64> },
    /// The end is being told in this epoch.
    Closing { epoch: u64 },
    /// The end is told, and the client waits for this record.
    Told { last: Placed },
    /// A refused write's announcement is being closed.
    Withdrawing,
    /// Nothing is left to do.
    Over,
}

/// One write on its way.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Write {
    rules: Rules,
    token: Token,
    phase: Phase,
    /// What may change.
    announced: Tags,
    /// How it ended.
    end: Change,
    covered: bool,
    intent: Option<Placed>,
    /// Calls that failed in a row, and when the first of them did.
    failed: u32,
    failed_since: Option<Time>,
}

impl Write {
    /// A write that may change `announced`.
    #[must_use]
    pub const fn new(rules: Rules, token: Token, announced: Tags) -> Self {
        Self {
            rules,
            token,
            phase: Phase::Outside { gone: None },
            announced,
            end: Change::Close,
            covered: false,
            intent: None,
            failed: 0,
            failed_since: None,
        }
    }

    /// A change without a write that it waited with: a purge, the end of an announcement that somebody else made. It begins
    /// where the app's answer would have come.
    #[must_use]
    pub fn point(rules: Rules, token: Token, change: Change) -> Self {
        let mut write = Self::new(rules, token, Tags::new());
        write.phase = Phase::Ending { gone: None };
        write.end = change;
        write
    }

    /// The number of the announcement, once it is in the log.
    #[must_use]
    pub fn announced_at(&self) -> Option<u64> {
        self.intent.map(|intent| intent.seq)
    }

    /// Whether the write is announced in the log.
    #[must_use]
    pub const fn is_announced(&self) -> bool {
        self.intent.is_some()
    }

    /// Takes what happened; the one thing to do next.
    pub fn step(&mut self, now: Time, sight: &Sight, input: Input) -> Do {
        match input {
            Input::Look => {}
            Input::Failed => self.failed(now),
            Input::Appended(appended) => {
                self.failed = 0;
                self.failed_since = None;
                self.appended(now, appended);
            }
            Input::Settled(settlement) => self.settled(settlement),
        }
        self.proceed(now, sight)
    }

    fn failed(&mut self, now: Time) {
        self.failed += 1;
        self.failed_since.get_or_insert(now);
        self.phase = match self.phase {
            Phase::Announcing { .. } => Phase::Outside { gone: None },
            // The call may have taken effect. Told again with the same token, it drops again at worst.
            Phase::Closing { .. } => Phase::Ending { gone: None },
            // The intent will expire, and drop too much.
            Phase::Withdrawing => Phase::Over,
            other => other,
        };
    }

    fn appended(&mut self, now: Time, appended: Appended) {
        let at = now;
        self.phase = match (self.phase, appended) {
            (Phase::Announcing { epoch }, Appended::At { seq, .. }) => {
                self.intent = Some(Placed { epoch, seq, at });
                Phase::Announced
            }
            (Phase::Announcing { epoch }, Appended::Elsewhere { .. }) => {
                Phase::Outside { gone: Some(epoch) }
            }
            (Phase::Closing { epoch }, Appended::At { seq, had, .. }) => {
                let covered = had && self.covered;
                let own = Placed { epoch, seq, at };
                let last = self.intent.filter(|_| covered).unwrap_or(own);
                Phase::Told { last }
            }
            (Phase::Closing { epoch, .. }, Appended::Elsewhere { .. }) => {
                // The intent went with its log. What was stored in the new one is dropped there.
                self.intent = None;
                Phase::Ending { gone: Some(epoch) }
            }
            (Phase::Withdrawing, _) => Phase::Over,
            (other, _) => other,
        };
    }

    fn settled(&mut self, settlement: Settlement) {
        self.phase = match settlement {
            Settlement::Changed { tags, covered } => {
                self.end = Change::Commit(tags);
                self.covered = covered;
                Phase::Ending { gone: None }
            }
            Settlement::Refused => Phase::Withdrawing,
        };
    }

    fn proceed(&mut self, now: Time, sight: &Sight) -> Do {
        match self.phase {
            Phase::Outside { .. } if self.rules.promise == Promise::Bounded => self.forward(),
            Phase::Outside { gone } => match self.log(sight, gone) {
                Some(epoch) => self.announce(epoch),
                None => self.isolated(now, sight),
            },
            Phase::Announced if self.rules.promise == Promise::Strict => {
                self.wait_before(now, sight)
            }
            Phase::Announced => self.forward(),
            Phase::Ending { gone } => match self.log(sight, gone) {
                Some(epoch) => self.close(epoch),
                None => self.cut_off(now, sight),
            },
            Phase::Told { last } => self.wait_after(now, sight, last),
            Phase::Withdrawing => self.withdraw(),
            Phase::Announcing { .. } | Phase::Closing { .. } | Phase::Forwarded => {
                Do::Wait(Time::FOREVER)
            }
            Phase::Over => Do::Answer(Waited::Nothing),
        }
    }

    /// The log to ask now; none while it seems out of reach, or the replica has not yet seen the one that came after `gone`.
    fn log(&self, sight: &Sight, gone: Option<u64>) -> Option<u64> {
        let out_of_reach = sight.unreachable_since.is_some() || self.failed >= ATTEMPTS;
        sight
            .epoch
            .filter(|epoch| !out_of_reach && gone != Some(*epoch))
    }

    fn announce(&mut self, epoch: u64) -> Do {
        self.phase = Phase::Announcing { epoch };
        Do::Call(Call::Intent {
            token: self.token,
            epoch,
            tags: self.announced.clone(),
            nonce: 0,
        })
    }

    fn close(&mut self, epoch: u64) -> Do {
        // An announcement is ended in the log that it is in; if that is gone, we are told.
        let epoch = self.intent.map_or(epoch, |intent| intent.epoch);
        self.phase = Phase::Closing { epoch };
        Do::Call(Call::Close {
            token: self.token,
            epoch,
            kind: self.end.kind(),
            payload: self.end.payload(),
            nonce: 0,
        })
    }

    fn withdraw(&mut self) -> Do {
        let Some(intent) = self.intent else {
            self.phase = Phase::Over;
            return Do::Answer(Waited::Nothing);
        };
        Do::Call(Call::Close {
            token: self.token,
            epoch: intent.epoch,
            kind: Change::Close.kind(),
            payload: Change::Close.payload(),
            nonce: 0,
        })
    }

    fn forward(&mut self) -> Do {
        self.phase = Phase::Forwarded;
        Do::Forward
    }

    /// What is dropped, as tags.
    fn dropped(&self) -> Tags {
        match &self.end {
            Change::Intent(tags)
            | Change::Commit(tags)
            | Change::Expire(tags)
            | Change::Point(tags)
            | Change::Soften(tags) => tags.clone(),
            Change::Ban(_) => Tags::from_iter([Tag::all()]),
            Change::Close | Change::Fence => Tags::new(),
        }
    }

    /// The log cannot be reached before the write: it is refused, or held until nobody who lost the log as well can hold a
    /// lease.
    fn isolated(&mut self, now: Time, sight: &Sight) -> Do {
        if !self.rules.forward || self.rules.promise == Promise::Strict {
            return self.hold(now, sight, Do::Refuse);
        }
        let held = self.hold(now, sight, Do::Forward);
        if held == Do::Forward {
            self.intent = None;
            self.phase = Phase::Forwarded;
        }
        held
    }

    /// The log cannot be reached after the write.
    fn cut_off(&mut self, now: Time, sight: &Sight) -> Do {
        let answer = Do::Answer(Waited::Uncoordinated(self.dropped()));
        // A bounded write owes others nothing within a lease, and this replica gives its own up.
        let out_of_reach = sight.unreachable_since.is_some() || self.failed >= ATTEMPTS;
        let held = if self.rules.promise == Promise::Bounded && out_of_reach {
            answer
        } else {
            self.hold(now, sight, answer)
        };
        if matches!(held, Do::Answer(_)) {
            self.phase = Phase::Over;
        }
        held
    }

    /// Waits until whoever lost the log when we did holds no lease; then does `last`. If the log comes back meanwhile, the
    /// next step finds it.
    fn hold(&mut self, now: Time, sight: &Sight, last: Do) -> Do {
        let since = match (sight.unreachable_since, self.failed_since) {
            (Some(lost), _) => lost,
            (None, Some(failed)) => {
                // The replica reads the log, and our calls fail: try again, for a while.
                if now < failed + self.patience() {
                    self.failed = 0;
                    return Do::Wait(now + self.rules.timing.every);
                }
                failed
            }
            // Not joined yet, or a new epoch that the replica is about to see.
            (None, None) => {
                self.failed_since = Some(now);
                return Do::Wait(now + self.rules.timing.every);
            }
        };
        let until = since + self.rules.timing.outlasted();
        if now >= until { last } else { Do::Wait(until) }
    }

    /// How long calls may fail while the replica itself reads the log.
    fn patience(&self) -> Duration {
        self.rules.timing.lease * 5
    }

    fn wait_before(&mut self, now: Time, sight: &Sight) -> Do {
        let Some(intent) = self.intent else {
            return Do::Wait(Time::FOREVER);
        };
        if sight.epoch.is_some_and(|epoch| epoch != intent.epoch) {
            // Nobody knows of it any more.
            self.intent = None;
            let gone = Some(intent.epoch);
            self.phase = Phase::Outside { gone };
            return self.proceed(now, sight);
        }
        match self.released(now, sight, intent) {
            Some(_) => self.forward(),
            None => Do::Wait(self.wake(sight, intent)),
        }
    }

    fn wait_after(&mut self, now: Time, sight: &Sight, last: Placed) -> Do {
        let done = if self.rules.promise == Promise::Bounded {
            self.seen_here(now, sight, last)
        } else {
            self.released(now, sight, last)
        };
        match done {
            Some(waited) => {
                self.phase = Phase::Over;
                Do::Answer(waited)
            }
            None => Do::Wait(self.wake(sight, last)),
        }
    }

    /// When a wait for a record can end without an acknowledgement.
    fn wake(&self, sight: &Sight, placed: Placed) -> Time {
        let outlasted = self.rules.timing.outlasted();
        let lease = placed.at + outlasted;
        let trusted = sight.first_seen + outlasted;
        if sight.epoch == Some(placed.epoch) && sight.acked >= placed.seq {
            lease.min(trusted)
        } else {
            lease
        }
    }

    /// Whether every lease holder knows a record. Acknowledgements of an epoch count only once the leases of the one before
    /// it must have run out.
    fn released(&self, now: Time, sight: &Sight, placed: Placed) -> Option<Waited> {
        let Placed { epoch, seq, at } = placed;
        let outlasted = self.rules.timing.outlasted();
        if now >= at + outlasted {
            return Some(Waited::Lease { seq, epoch });
        }
        let acknowledged =
            sight.epoch == Some(epoch) && sight.acked >= seq && now >= sight.first_seen + outlasted;
        acknowledged.then_some(Waited::Acknowledged { seq, epoch })
    }

    /// Whether this replica knows a record, or may not serve without knowing it.
    fn seen_here(&self, now: Time, sight: &Sight, placed: Placed) -> Option<Waited> {
        let Placed { epoch, seq, at } = placed;
        if sight.epoch != Some(epoch) || sight.applied >= seq {
            return Some(Waited::Acknowledged { seq, epoch });
        }
        (now >= at + self.rules.timing.outlasted()).then_some(Waited::Lease { seq, epoch })
    }
}
