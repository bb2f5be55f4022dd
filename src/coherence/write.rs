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

impl Waited {
    /// The same wait, told of the drop itself: what was waited for may be its announcement.
    fn of(self, drop: u64) -> Self {
        match self {
            Self::Acknowledged { epoch, .. } => Self::Acknowledged { seq: drop, epoch },
            Self::Lease { epoch, .. } => Self::Lease { seq: drop, epoch },
            Self::Nothing | Self::Uncoordinated(_) => self,
        }
    }
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
    /// The end is told by the record `seq`, and the client waits for `last`.
    Told { seq: u64, last: Placed },
    /// A refused write's announcement is being closed.
    Withdrawing,
    /// Announced too long ago to be forwarded: the announcement is being closed.
    TooLate,
    /// Not forwarded, and never to be.
    Refused,
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
    /// When the announcement was asked for first.
    asked: Option<Time>,
    /// Calls that failed in a row, and when the first of them did.
    failed: u32,
    failed_since: Option<Time>,
    /// The end was told once more though the log seemed out of reach.
    insisted: bool,
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
            asked: None,
            failed: 0,
            failed_since: None,
            insisted: false,
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

    /// The log that the announcement is in.
    #[must_use]
    pub fn announced_in(&self) -> Option<u64> {
        self.intent.map(|intent| intent.epoch)
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

    /// Whether the last call was not answered: it may take effect, at any time.
    #[must_use]
    pub const fn is_unheard(&self) -> bool {
        self.failed > 0
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
            Phase::TooLate => Phase::Refused,
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
                self.asked = None;
                Phase::Outside { gone: Some(epoch) }
            }
            (Phase::Closing { epoch }, Appended::At { seq, had, .. }) => {
                let covered = had && self.covered;
                let own = Placed { epoch, seq, at };
                let last = self.intent.filter(|_| covered).unwrap_or(own);
                Phase::Told { seq, last }
            }
            #[cfg(reprise_mutant = "close_ignores_epoch")]
            (Phase::Closing { .. }, Appended::Elsewhere { .. }) => Phase::Over,
            (Phase::Closing { epoch, .. }, Appended::Elsewhere { .. }) => {
                // The intent went with its log. What was stored in the new one is dropped there.
                self.intent = None;
                Phase::Ending { gone: Some(epoch) }
            }
            (Phase::Withdrawing, _) => Phase::Over,
            (Phase::TooLate, _) => Phase::Refused,
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
                Some(epoch) => self.announce(now, epoch),
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
            Phase::Told { seq, last } => self.wait_after(now, sight, (seq, last)),
            Phase::Withdrawing | Phase::TooLate => self.withdraw(),
            Phase::Refused => Do::Refuse,
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

    fn announce(&mut self, now: Time, epoch: u64) -> Do {
        self.asked.get_or_insert(now);
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
        if !matches!(held, Do::Answer(_)) {
            return held;
        }
        if let (Some(epoch), false) = (sight.epoch, self.insisted) {
            // It may be back, and another replica have noticed before this one.
            self.insisted = true;
            return self.close(epoch);
        }
        self.phase = Phase::Over;
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
            self.asked = None;
            let gone = Some(intent.epoch);
            self.phase = Phase::Outside { gone };
            return self.proceed(now, sight);
        }
        // Others count the life of a write from its announcement. One that was kept for long (this process stood still, or
        // the reply did) would outlive it: strict readers would find its tags closed, and then see it happen.
        let young = self.rules.timing.young();
        if self.asked.is_some_and(|asked| now >= asked + young) {
            self.phase = Phase::TooLate;
            return self.withdraw();
        }
        match self.released(now, sight, intent) {
            Some(_) => self.forward(),
            None => Do::Wait(self.wake(sight, intent)),
        }
    }

    fn wait_after(&mut self, now: Time, sight: &Sight, (seq, last): (u64, Placed)) -> Do {
        let done = if self.rules.promise == Promise::Bounded {
            self.seen_here(now, sight, last)
        } else {
            self.released(now, sight, last)
        };
        #[cfg(reprise_mutant = "no_wait")]
        let done = done.or(Some(Waited::Nothing));
        match done {
            Some(waited) => {
                self.phase = Phase::Over;
                Do::Answer(waited.of(seq))
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
        #[cfg(reprise_mutant = "early_release")]
        let acknowledged = sight.epoch == Some(epoch) && sight.acked >= seq;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::Tag;

    const LEASE: u64 = 1000;
    const OUTLASTED: u64 = 1020;

    fn write(promise: Promise, forward: bool) -> Write {
        let lease = Duration::from_nanos(LEASE);
        let timing = Timing::new(lease, lease * 60);
        let rules = Rules {
            promise,
            timing,
            forward,
        };
        Write::new(rules, Token(5), tags())
    }

    fn tags() -> Tags {
        Tags::from_iter([Tag::named("a")])
    }

    /// A replica that has known epoch 1 for long, and whose fellows have acknowledged this much.
    fn sees(acked: u64) -> Sight {
        Sight {
            epoch: Some(1),
            acked,
            applied: acked,
            ..Sight::default()
        }
    }

    fn lost(since: u64) -> Sight {
        Sight {
            unreachable_since: Some(Time(since)),
            ..sees(0)
        }
    }

    fn at(seq: u64, had: bool) -> Input {
        Input::Appended(Appended::At {
            seq,
            had,
            acked: 0,
            copies: 0,
        })
    }

    fn changed(covered: bool) -> Input {
        let tags = tags();
        Input::Settled(Settlement::Changed { tags, covered })
    }

    /// The letter of the call that is wanted, and in which epoch.
    fn call(wanted: &Do) -> Option<(char, u64)> {
        match wanted {
            Do::Call(Call::Intent { epoch, .. }) => Some(('I', *epoch)),
            Do::Call(Call::Close { epoch, kind, .. }) => Some((*kind, *epoch)),
            _ => None,
        }
    }

    /// A write that was announced at 10 as record 3, and is with the app.
    fn forwarded() -> Write {
        let mut write = write(Promise::Strong, true);
        let wanted = write.step(Time(2000), &sees(0), Input::Look);
        assert_eq!(call(&wanted), Some(('I', 1)));
        assert_eq!(write.step(Time(2010), &sees(0), at(3, true)), Do::Forward);
        write
    }

    #[test]
    fn a_covered_strong_write_answers_when_its_announcement_is_known() {
        let mut write = forwarded();
        let wanted = write.step(Time(2500), &sees(3), changed(true));
        assert_eq!(call(&wanted), Some(('C', 1)));
        // What was waited for is record 3; what is told is the drop.
        let (seq, epoch) = (4, 1);
        let done = Do::Answer(Waited::Acknowledged { seq, epoch });
        assert_eq!(write.step(Time(2510), &sees(3), at(4, true)), done);
    }

    #[test]
    fn what_was_not_announced_waits_for_its_own_record() {
        for (covered, had) in [(false, true), (true, false)] {
            let mut write = forwarded();
            write.step(Time(2500), &sees(3), changed(covered));
            let wait = Do::Wait(Time(2510 + OUTLASTED));
            assert_eq!(write.step(Time(2510), &sees(3), at(4, had)), wait);
            let (seq, epoch) = (4, 1);
            let done = Do::Answer(Waited::Acknowledged { seq, epoch });
            assert_eq!(write.step(Time(2520), &sees(4), Input::Look), done);
        }
    }

    #[test]
    fn without_acknowledgements_the_leases_are_waited_for() {
        let mut write = forwarded();
        write.step(Time(2500), &sees(0), changed(true));
        let until = 2010 + OUTLASTED;
        let wait = Do::Wait(Time(until));
        assert_eq!(write.step(Time(2510), &sees(0), at(4, true)), wait);
        assert_eq!(write.step(Time(until - 1), &sees(0), Input::Look), wait);
        let (seq, epoch) = (4, 1);
        let done = Do::Answer(Waited::Lease { seq, epoch });
        assert_eq!(write.step(Time(until), &sees(0), Input::Look), done);
    }

    #[test]
    fn acknowledgements_of_a_young_epoch_do_not_count() {
        let young = |acked| Sight {
            first_seen: Time(1990),
            ..sees(acked)
        };
        let mut write = write(Promise::Strong, true);
        write.step(Time(2000), &young(0), Input::Look);
        write.step(Time(2010), &young(3), at(3, true));
        write.step(Time(2020), &young(3), changed(true));
        let wait = Do::Wait(Time(1990 + OUTLASTED));
        assert_eq!(write.step(Time(2030), &young(4), at(4, true)), wait);
    }

    #[test]
    fn a_strict_write_is_forwarded_only_when_everybody_knows() {
        let mut write = write(Promise::Strict, true);
        write.step(Time(2000), &sees(0), Input::Look);
        let wait = Do::Wait(Time(2010 + OUTLASTED));
        assert_eq!(write.step(Time(2010), &sees(0), at(3, true)), wait);
        assert_eq!(write.step(Time(2020), &sees(3), Input::Look), Do::Forward);
    }

    #[test]
    fn a_strict_write_is_announced_again_in_a_new_epoch() {
        let mut write = write(Promise::Strict, true);
        write.step(Time(2000), &sees(0), Input::Look);
        write.step(Time(2010), &sees(0), at(3, true));
        let other = Sight {
            epoch: Some(2),
            ..sees(9)
        };
        let wanted = write.step(Time(2020), &other, Input::Look);
        assert_eq!(call(&wanted), Some(('I', 2)));
    }

    #[test]
    fn a_drop_follows_the_log_into_its_next_epoch() {
        let mut write = forwarded();
        write.step(Time(2500), &sees(3), changed(true));
        let gone = Input::Appended(Appended::Elsewhere { epoch: 2 });
        assert!(matches!(
            write.step(Time(2510), &sees(3), gone),
            Do::Wait(_)
        ));
        let other = Sight {
            epoch: Some(2),
            first_seen: Time(2520),
            ..sees(9)
        };
        let wanted = write.step(Time(2530), &other, Input::Look);
        assert_eq!(
            call(&wanted),
            Some(('C', 2)),
            "where it is a drop by itself"
        );
        let wait = Do::Wait(Time(2520 + OUTLASTED));
        assert_eq!(write.step(Time(2540), &other, at(9, false)), wait);
    }

    #[test]
    fn cut_off_a_write_is_held_until_nobody_can_hold_a_lease() {
        let mut strong = write(Promise::Strong, true);
        let wait = Do::Wait(Time(500 + OUTLASTED));
        assert_eq!(strong.step(Time(600), &lost(500), Input::Look), wait);
        let late = Time(500 + OUTLASTED);
        assert_eq!(strong.step(late, &lost(500), Input::Look), Do::Forward);
        let last = strong.step(Time(9000), &lost(500), changed(true));
        assert_eq!(call(&last), Some(('C', 1)), "it may be back");
        let done = Do::Answer(Waited::Uncoordinated(tags()));
        assert_eq!(strong.step(Time(9001), &lost(500), Input::Failed), done);
        let mut rejecting = write(Promise::Strong, false);
        assert_eq!(rejecting.step(late, &lost(500), Input::Look), Do::Refuse);
        let mut strict = write(Promise::Strict, true);
        assert_eq!(strict.step(late, &lost(500), Input::Look), Do::Refuse);
    }

    #[test]
    fn a_log_that_comes_back_in_time_takes_the_write() {
        let mut write = write(Promise::Strong, true);
        write.step(Time(600), &lost(500), Input::Look);
        let wanted = write.step(Time(700), &sees(0), Input::Look);
        assert_eq!(call(&wanted), Some(('I', 1)));
    }

    #[test]
    fn a_bounded_write_waits_for_nobody_but_this_replica() {
        let mut write = write(Promise::Bounded, true);
        assert_eq!(write.step(Time(10), &sees(0), Input::Look), Do::Forward);
        let wanted = write.step(Time(20), &sees(0), changed(false));
        assert_eq!(call(&wanted), Some(('C', 1)));
        assert!(matches!(
            write.step(Time(30), &sees(0), at(4, false)),
            Do::Wait(_)
        ));
        let here = Sight {
            applied: 4,
            ..sees(0)
        };
        let done = write.step(Time(40), &here, Input::Look);
        assert!(matches!(
            done,
            Do::Answer(Waited::Acknowledged { seq: 4, .. })
        ));
    }

    #[test]
    fn a_refused_write_takes_its_announcement_back() {
        let mut write = forwarded();
        let refused = Input::Settled(Settlement::Refused);
        let wanted = write.step(Time(2500), &sees(3), refused);
        assert_eq!(call(&wanted), Some(('N', 1)));
        let done = Do::Answer(Waited::Nothing);
        assert_eq!(write.step(Time(2510), &sees(3), Input::Failed), done);
    }

    #[test]
    fn a_call_that_failed_is_made_again_and_drops_at_worst_twice() {
        let mut write = forwarded();
        write.step(Time(2500), &sees(3), changed(true));
        let wanted = write.step(Time(2510), &sees(3), Input::Failed);
        assert_eq!(call(&wanted), Some(('C', 1)));
        let mut seen = Vec::new();
        for at in [2520, 2800, 3100] {
            seen.push(write.step(Time(at), &sees(3), Input::Failed));
        }
        assert!(
            seen.iter().any(|wanted| matches!(wanted, Do::Wait(_))),
            "{seen:?}"
        );
        assert!(
            !seen.iter().any(|wanted| matches!(wanted, Do::Answer(_))),
            "{seen:?}"
        );
    }
}
