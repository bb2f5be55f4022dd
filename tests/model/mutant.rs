//! Planted bugs: each is one thing that the protocol must not leave out.
//!
//! A checker that has not caught a planted bug proves nothing. Each mutant is a change of what passes between the core and
//! its world, so that the core itself stays the one that is shipped.

use reprise::coherence::clock::Time;
use reprise::coherence::log::Synced;
use reprise::coherence::record::{Change, Record};
use reprise::coherence::replica::{Effect, Sight};

/// A planted bug.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mutant {
    /// An entry is stamped when it is stored, not before it is asked for.
    StampAtStore,
    /// A write is answered without waiting.
    NoWait,
    /// The end of a write counts although its log is gone.
    CloseIgnoresEpoch,
    /// Acknowledgements of a new epoch count at once.
    EarlyRelease,
    /// A stamp does not say of which log it is.
    NoEpochInStamp,
    /// The lease is published before the records are applied that it was earned with.
    LeaseBeforeApply,
    /// The end of a write opens its tags and drops nothing.
    CloseDoesNotDrop,
    /// Whoever joins another's fetch does not ask whether it is still good.
    UncheckedJoin,
    /// A write tells that it began, and not what it changed.
    IntentOnly,
    /// A write whose announcement was gone does not wait for its drop.
    NoSecondWait,
    /// A lapse raises no floor.
    NoFloor,
    /// A newcomer waits for no witness.
    NoWitness,
    /// A write is not held when the log goes out of reach.
    NoHold,
    /// A reading that was answered when the lease had run out earns one all the same.
    LateReadingCounts,
    /// An entry found good once is not checked again.
    CheckOnce,
    /// A newcomer does not read what was dropped before it came.
    NoRecall,
    /// A silent member is removed at once.
    ReapAtOnce,
    /// A member that leaves goes on serving.
    LeaveKeepsLease,
    /// Clocks differ by more than a hundredth.
    FastClock,
    /// A drop that the log did not take is forgotten.
    NoJournal,
    /// Strict routes are served in a new epoch at once.
    NoQuarantine,
    /// Nothing is announced. Not a bug where only acknowledged writes have to be seen.
    NoIntents,
}

impl Mutant {
    /// All that must be caught.
    pub const ALL: [Self; 21] = [
        Self::StampAtStore,
        Self::NoWait,
        Self::CloseIgnoresEpoch,
        Self::EarlyRelease,
        Self::NoEpochInStamp,
        Self::LeaseBeforeApply,
        Self::CloseDoesNotDrop,
        Self::UncheckedJoin,
        Self::IntentOnly,
        Self::NoSecondWait,
        Self::NoFloor,
        Self::NoWitness,
        Self::NoHold,
        Self::LateReadingCounts,
        Self::CheckOnce,
        Self::NoRecall,
        Self::ReapAtOnce,
        Self::LeaveKeepsLease,
        Self::FastClock,
        Self::NoJournal,
        Self::NoQuarantine,
    ];

    /// What a replica wants done, as this bug does it.
    pub fn effects(self, mut effects: Vec<Effect>) -> Vec<Effect> {
        match self {
            Self::LeaseBeforeApply => effects.sort_by_key(
                |effect| !matches!(effect, Effect::Lease(until) if *until != Time::NEVER),
            ),
            Self::NoFloor => effects.retain(|effect| !matches!(effect, Effect::Floor(_))),
            Self::NoRecall => effects.retain(|effect| !matches!(effect, Effect::Recall(_))),
            Self::NoQuarantine => {
                effects.retain(|effect| !matches!(effect, Effect::StrictFloor(_)));
            }
            Self::CloseDoesNotDrop => effects.iter_mut().for_each(|effect| {
                if let Effect::Apply(Record { change, .. }) = effect
                    && matches!(change, Change::Commit(_))
                {
                    *change = Change::Close;
                }
            }),
            _ => {}
        }
        effects
    }

    /// An answer to a reading, as this bug takes it.
    pub fn synced(self, mut synced: Synced) -> Synced {
        if let (Self::NoWitness, Synced::News(news)) = (self, &mut synced) {
            news.confirmed = u64::MAX;
        }
        synced
    }

    /// What writers see, as this bug shows it.
    pub fn sight(self, mut sight: Sight) -> Sight {
        match self {
            Self::EarlyRelease => sight.first_seen = Time::NEVER,
            Self::NoHold => {
                sight.unreachable_since = sight.unreachable_since.map(|_| Time::NEVER);
            }
            _ => {}
        }
        sight
    }
}
