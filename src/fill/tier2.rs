//! Before the app is asked: what other replicas have fetched, and who of them fetches now.
//!
//! A fill looks into tier 2 once for all who wait for it. What it finds is judged with the bytes in hand, like everything
//! else. With `coalesce = "cluster"` a fill that finds nothing takes a lock in Redis, or waits for the replica that holds
//! it; the lock expires, and whoever cannot reach Redis fetches for itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Order;
use super::flight::Stage;
use super::task::{Guard, now};
use crate::cache::remote::Remote;
use crate::coherence::Standing as Softness;
use crate::entry::Entry;
use crate::policy::reuse::Standing;
use crate::policy::storing::Unstorable;
use crate::policy::{Coalesce, freshness};

/// How often a fill that waits for another replica's looks whether it is done.
const GLANCE: Duration = Duration::from_millis(20);

/// How long it waits before it fetches for itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found before the app was asked.
pub(super) enum Found {
    /// The fill has ended with what was there.
    Done,
    /// Nothing that may be used; the app is to be asked, about this stale entry if there is one.
    Nothing(Option<Arc<Entry>>),
}

/// Looks into tier 2, and waits for another replica that is fetching the same.
pub(super) async fn look(guard: &Guard, order: &Order) -> Found {
    let cache = &guard.tools().cache;
    let Some(remote) = cache.remote().filter(|_| may_look(guard, order)) else {
        return Found::Nothing(None);
    };
    let found = glance(guard, order).await;
    if matches!(found, Found::Done) || order.policy.coalesce != Coalesce::Cluster {
        return found;
    }
    wait_for_others(guard, order, remote, found).await
}

/// Whether something from tier 2 could be of use: the client did not ask for the app's word, and no write to it is under
/// way.
fn may_look(guard: &Guard, order: &Order) -> bool {
    let fresh = |prior: &Arc<Entry>| Standing::of(prior, &order.policy, now()).is_fresh();
    if order.prior.as_ref().is_some_and(fresh) {
        return false;
    }
    let coherence = &guard.tools().coherence;
    let key = order.key.as_bytes();
    coherence
        .check(coherence.stamp(), &order.tags, key, order.writes)
        .is_ok()
}

async fn glance(guard: &Guard, order: &Order) -> Found {
    let tools = guard.tools();
    let rules = order.variant_rules();
    let found = tools.cache.fetch(&order.key, &order.asked, &rules).await;
    let Some(entry) = found else {
        return Found::Nothing(None);
    };
    let usable = || {
        tools
            .coherence
            .usable(&entry.certificate, &entry.key, order.writes)
    };
    #[cfg(reprise_mutant = "check_before_fetch")]
    let usable = || Ok::<_, crate::coherence::Unusable>(Softness::Good);
    let Ok(softness) = usable() else {
        tools.cache.remove(&order.key, &entry);
        return Found::Nothing(None);
    };
    let at = now();
    let standing = Standing::of(&entry, &order.policy, at);
    let standing = standing.softened(softness == Softness::Softened);
    if !standing.is_fresh() {
        return Found::Nothing(Some(entry));
    }
    // Whoever joins from here on asks for himself whether this is good enough for him; whoever joined before has come
    // before the look below.
    guard.date(entry.certificate.stamp, &entry.certificate.tags);
    if usable() != Ok(Softness::Good) {
        order.metrics.not_stored(Unstorable::Outdated);
        let (reason, status) = (Unstorable::Outdated, None);
        guard.publish(Stage::GoAlone { reason, status });
        return Found::Done;
    }
    let keep = freshness::keep_for(&entry, &order.policy, at);
    tools.cache.promote(&order.key, &entry, keep);
    guard.publish(Stage::Whole {
        entry,
        confirmed: false,
        stored: true,
        found: true,
    });
    Found::Done
}

/// Takes the lock of the key, or waits for what its holder fetches.
async fn wait_for_others(guard: &Guard, order: &Order, remote: &Remote, first: Found) -> Found {
    let give_up = Instant::now() + PATIENCE;
    let mut last = first;
    loop {
        match remote.claim(&order.key).await {
            Ok(None) if Instant::now() < give_up => {}
            Ok(claim) => {
                guard.keep(claim);
                return last;
            }
            // Redis cannot say: this replica fetches for itself.
            Err(_) => return last,
        }
        tokio::time::sleep(GLANCE).await;
        if !may_look(guard, order) {
            return last;
        }
        last = glance(guard, order).await;
        if matches!(last, Found::Done) {
            return last;
        }
    }
}
