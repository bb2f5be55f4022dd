//! Intents: one announced write, from its announcement to whatever end it has.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clock::Time;
use super::record::{Change, Token};
use super::write::{Do, Input, Promise, Settlement, Waited, Write};
use super::{Coherence, Log};
use crate::tag::Tags;

/// How many broken-off writes are dropped once more when their time is over; one more keeps its tags uncached instead.
const MAX_DOUBTS: usize = 4096;

/// An announced write. Dropped without a word, it stays open until its time is over: nobody knows whether the write took
/// place.
#[derive(Debug)]
#[must_use = "an intent that is dropped keeps its tags uncached until it expires"]
pub struct Intent {
    pub(super) coherence: Coherence,
    pub(super) token: Token,
    pub(super) announced: Tags,
    /// The write's side of the shared log; none where the log is here.
    pub(super) write: Option<Write>,
}

/// How a committed write ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ended {
    /// The number of the drop; 0 when it is not in the log.
    pub seq: u64,
    /// In which log.
    pub epoch: u64,
    /// What was waited for.
    pub end: End,
    /// For how long.
    pub waited: Duration,
}

/// What a committed write waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Nobody: the log is in this process.
    Here,
    /// All replicas have acknowledged.
    Acknowledged,
    /// The leases of those who have not have run out.
    Lease,
    /// The log could not be reached: others may be stale until their leases run out, or until they hear of it.
    Uncoordinated,
}

impl Intent {
    /// Whether the announcement is in the log. It is not on `bounded` routes, and when the log cannot be reached.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.write.as_ref().is_none_or(Write::is_announced)
    }

    /// The write took place, or may have: drops `tags`, ends the announcement (after `origin_lag`), and waits until no
    /// replica can serve what was there. `covered` says that the announcement reaches all of `tags`: then the waiting was
    /// done while the app was working.
    ///
    /// # Cancel safety
    ///
    /// Not: the drop may or may not happen. To be called in a task that outlives its client.
    pub async fn commit(self, tags: Tags, covered: bool) -> Ended {
        let coherence = self.coherence.clone();
        let lag = coherence.shared.config.origin_lag;
        // Announced again before the announcement ends, so that there is no gap between the two.
        let held = if lag > Duration::ZERO {
            coherence
                .announce_as(Promise::Strong, tags.clone())
                .await
                .ok()
        } else {
            None
        };
        let ended = self.commit_now(tags.clone(), covered).await;
        if let Some(held) = held {
            let later = coherence.clone();
            later.shared.later.spawn(async move {
                tokio::time::sleep(lag).await;
                held.commit_now(tags, true).await;
            });
        }
        coherence.tell(&ended);
        ended
    }

    async fn commit_now(self, tags: Tags, covered: bool) -> Ended {
        let shared = &self.coherence.shared;
        let (Log::Shared(following), Some(mut write)) = (&shared.log, self.write) else {
            let seq = self.coherence.append(self.token, Change::Commit(tags));
            return Ended {
                seq,
                epoch: self.coherence.stamp().epoch,
                end: End::Here,
                waited: Duration::ZERO,
            };
        };
        let began = Time::now();
        let settlement = Settlement::Changed { tags, covered };
        let done = following
            .drive(&mut write, Input::Settled(settlement))
            .await;
        let waited = Time::now().since(began);
        let (seq, epoch, end) = match done {
            Do::Answer(Waited::Acknowledged { seq, epoch }) => (seq, epoch, End::Acknowledged),
            Do::Answer(Waited::Lease { seq, epoch }) => (seq, epoch, End::Lease),
            Do::Answer(Waited::Uncoordinated(tags)) => {
                following.journal(tags);
                shared.orphans.note(self.token, Time::now());
                (0, 0, End::Uncoordinated)
            }
            Do::Answer(Waited::Nothing) | Do::Call(_) | Do::Wait(_) | Do::Forward | Do::Refuse => {
                (0, 0, End::Acknowledged)
            }
        };
        Ended {
            seq,
            epoch,
            end,
            waited,
        }
    }

    /// The write did not take place: nothing is dropped.
    pub async fn close(self) {
        match (&self.coherence.shared.log, self.write) {
            (Log::Shared(following), Some(mut write)) => {
                let refused = Input::Settled(Settlement::Refused);
                following.drive(&mut write, refused).await;
                if write.is_unheard() {
                    let orphans = &self.coherence.shared.orphans;
                    orphans.note(self.token, Time::now());
                }
            }
            _ => {
                self.coherence.append(self.token, Change::Close);
            }
        }
    }

    /// The app never had all of the request: what it announced is dropped now, and again when the write can no longer take
    /// place. In between it is answered as usual: a client that breaks off on purpose must not keep the cache from
    /// answering.
    pub async fn doubt(self) {
        let coherence = self.coherence.clone();
        if coherence.shared.doubts.fetch_add(1, Ordering::Relaxed) >= MAX_DOUBTS {
            coherence.shared.doubts.fetch_sub(1, Ordering::Relaxed);
            return self.leave_open();
        }
        let tags = self.announced.clone();
        self.commit_now(tags.clone(), true).await;
        let later = coherence.clone();
        later.shared.later.spawn(async move {
            tokio::time::sleep(coherence.shared.config.intent_ttl).await;
            coherence.drop_tags(tags).await;
            coherence.shared.doubts.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Nobody knows: the tags stay uncached until the write can no longer take place.
    pub fn leave_open(self) {
        tracing::debug!(
            token = self.token.0,
            "a write without a known end stays open"
        );
        if let Log::Shared(following) = &self.coherence.shared.log {
            let announced = self.write.as_ref().and_then(Write::announced_in);
            let (coherence, tags) = (self.coherence.clone(), self.announced.clone());
            let later = coherence.clone();
            // On a `bounded` route, or cut off, nobody was told of it: what it may change is dropped instead.
            let untold = announced.is_none() || following.status().sight.epoch != announced;
            later.shared.later.spawn(async move {
                if untold {
                    coherence.drop_tags(tags.clone()).await;
                }
                tokio::time::sleep(coherence.shared.config.intent_ttl).await;
                // An announcement ends with its log; whoever made it sees to it that the write is dropped all the same.
                let epoch = coherence.status().and_then(|status| status.sight.epoch);
                if untold || epoch != announced {
                    coherence.drop_tags(tags).await;
                }
            });
        }
    }
}

impl Coherence {
    /// Counts what an answer waited for.
    fn tell(&self, ended: &Ended) {
        let metrics = &self.shared.metrics;
        let histogram = match ended.end {
            End::Here | End::Acknowledged => &metrics.waited_acknowledged,
            End::Lease => &metrics.waited_lease,
            End::Uncoordinated => &metrics.waited_uncoordinated,
        };
        histogram.observe(ended.waited.as_secs_f64());
    }
}
