//! What the app says of its own queries, by path: the No-Vary-Search of its last answer that was shared.
//!
//! A request on a path with a rule is looked up under the key that the rule gives, so that `?page=2&ref=mail` and `?page=2`
//! meet one entry. An answer under such a key has to say the same rule again: if it says another, those who were put
//! together asked for different things, and each has to ask for himself. What is learnt is this process's own: a rule not
//! known yet costs a miss.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::headers::no_vary_search::NoVarySearch;

/// How many paths are remembered.
const REMEMBERED: u64 = 10_000;

/// How long a rule is remembered that no answer repeats.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// The rules of paths.
pub(super) struct Variances {
    known: moka::sync::Cache<u128, Arc<NoVarySearch>>,
    /// Whether there has ever been one: without, a request pays for a relaxed load.
    any: AtomicBool,
}

impl Variances {
    /// No rule yet.
    pub(super) fn new() -> Self {
        Self {
            known: moka::sync::Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(KEPT_FOR)
                .build(),
            any: AtomicBool::new(false),
        }
    }

    /// The rule of a place, which is computed only if there are rules at all.
    pub(super) fn of(&self, place: impl FnOnce() -> u128) -> Option<Arc<NoVarySearch>> {
        if self.any.load(Ordering::Relaxed) {
            self.known.get(&place())
        } else {
            None
        }
    }

    /// Notes what an answer says; `None` when it says nothing.
    pub(super) fn learn(&self, place: u128, said: Option<NoVarySearch>) {
        match said {
            Some(rule) => {
                self.known.insert(place, Arc::new(rule));
                self.any.store(true, Ordering::Relaxed);
            }
            None if self.any.load(Ordering::Relaxed) => self.known.invalidate(&place),
            None => {}
        }
    }
}

impl fmt::Debug for Variances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variances")
            .field("known", &self.known.entry_count())
            .finish_non_exhaustive()
    }
}
