//! One fill as those see it who wait for it: how far it has come, whether they may share it, and what they are given.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HeaderValue;
use http::{Response, StatusCode};
use tokio::sync::{oneshot, watch};

use super::stream::{Arriving, Reader};
use super::{Failure, Filled, News, Order, Streaming};
use crate::body::Body;
use crate::coherence::{Coherence, Unusable};
use crate::entry::{Entry, Stamp};
use crate::policy::storing::Unstorable;
use crate::tag::Tags;

/// How long a reader waits at the head for the rest of the body. Most answers are whole by then, and a whole answer can
/// be encoded, validated and cut into ranges; only a slow one is streamed.
const WHOLE_WITHIN: Duration = Duration::from_millis(10);

/// One fill.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) stage: watch::Sender<Stage>,
    /// The place in the log when it asked the app; unset until then.
    pub(super) stamp: OnceLock<Stamp>,
    /// The names that the app put on its answer; unset until its head has come.
    pub(super) named: OnceLock<Tags>,
    /// The app's count of its queries: about the exchange, not part of what is stored.
    pub(super) queries: OnceLock<HeaderValue>,
    /// The body of its answer. It is there before the first byte, so that whoever waits has a place in it.
    pub(super) body: Arriving,
}

/// How far a fill has come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Asking,
    Arriving(Arc<Streaming>),
    /// It will not be stored: the body has grown too large, or broke off. Those who have a place in it read on.
    Unstored(Arc<Streaming>),
    Whole {
        entry: Arc<Entry>,
        confirmed: bool,
        stored: bool,
        /// It came from tier 2, and the app was not asked.
        found: bool,
    },
    GoAlone {
        reason: Unstorable,
        status: Option<StatusCode>,
    },
    Failed(Failure),
}

impl Stage {
    /// Whether nothing is left to wait for, and nothing to share with those who come later.
    pub(super) const fn is_final(&self) -> bool {
        !matches!(self, Self::Asking | Self::Arriving(_))
    }
}

/// A request's part in a fill.
pub(super) struct Ticket {
    flight: Arc<Flight>,
    /// Where the first requester gets an answer that is his alone.
    own: Option<oneshot::Receiver<Response<Body>>>,
    /// A place in the body; `None` when its first bytes are gone.
    reader: Option<Reader>,
    /// Whether the fill had begun before this request came.
    late: bool,
}

impl Flight {
    /// A fill that has not begun, of whose body at most `limit` bytes may be stored.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            stage: watch::Sender::new(Stage::Asking),
            stamp: OnceLock::new(),
            named: OnceLock::new(),
            queries: OnceLock::new(),
            body: Arriving::new(limit),
        }
    }

    /// Whether a request that comes now may share this fill.
    pub(super) fn usable(&self, coherence: &Coherence, order: &Order) -> Result<(), Unusable> {
        #[cfg(reprise_mutant = "unchecked_join")]
        return Ok(());
        let Some(stamp) = self.stamp.get() else {
            return Ok(());
        };
        coherence.check(*stamp, &order.tags, order.key.as_bytes(), order.writes)?;
        match self.named.get() {
            Some(named) => coherence.check(*stamp, named, &[], order.writes).map(drop),
            None => Ok(()),
        }
    }

    pub(super) async fn ended(&self) {
        let mut stage = self.stage.subscribe();
        // The sender lives in this flight, which is borrowed here: the wait cannot fail.
        let _ = stage.wait_for(Stage::is_final).await;
    }
}

impl Ticket {
    /// The part of who asked first: an answer that is nobody else's comes by `own`.
    pub(super) fn lead(flight: &Arc<Flight>, own: oneshot::Receiver<Response<Body>>) -> Self {
        Self {
            own: Some(own),
            ..Self::join(flight)
        }
    }

    /// The part of who comes while the fill is under way, or waits for its turn.
    pub(super) fn join(flight: &Arc<Flight>) -> Self {
        Self {
            reader: flight.body.reader(),
            late: flight.stamp.get().is_some(),
            flight: Arc::clone(flight),
            own: None,
        }
    }

    /// Waits until the fill has an answer for this request; `None` when its answer is another variant's, or carries a name
    /// that was dropped since it was asked for.
    pub(super) async fn wait(mut self, order: &Order, coherence: &Coherence) -> Option<Filled> {
        let joined = self.own.is_none();
        let mut stages = self.flight.stage.subscribe();
        let known = stages
            .wait_for(|stage| !matches!(stage, Stage::Asking))
            .await;
        let stage = known.map_or(Stage::Failed(Failure::Aborted), |stage| stage.clone());
        #[cfg(not(reprise_mutant = "unchecked_join"))]
        if self.late && self.outdated(order, coherence) {
            return None;
        }
        let (Stage::Arriving(head) | Stage::Unstored(head)) = stage else {
            return self.last(stage, order, joined).await;
        };
        if joined && !head.variant.matches(&order.asked, &order.variant_rules()) {
            return None;
        }
        let ended = stages.wait_for(Stage::is_final);
        let stage = if order.needs_whole {
            ended.await.ok().map(|stage| stage.clone())
        } else {
            let in_time = tokio::time::timeout(WHOLE_WITHIN, ended).await;
            in_time.ok().and_then(Result::ok).map(|stage| stage.clone())
        };
        match (stage, self.reader.take()) {
            (Some(stage @ Stage::Whole { .. }), _) => self.last(stage, order, joined).await,
            // It broke off, or grew too large: a reader tells its client what the app told us.
            (_, Some(body)) if !order.needs_whole => Some(Filled::Stream {
                head,
                body,
                joined,
                queries: self.queries(joined),
            }),
            _ => Some(Filled::GoAlone {
                reason: Unstorable::TooLarge,
                status: None,
            }),
        }
    }

    /// Whether a name that the app put on the answer was dropped, or is being written to: maybe before this request came.
    /// The tags that the request itself told were looked at when it came.
    fn outdated(&self, order: &Order, coherence: &Coherence) -> bool {
        match (self.flight.stamp.get(), self.flight.named.get()) {
            (Some(stamp), Some(named)) => {
                coherence.check(*stamp, named, &[], order.writes).is_err()
            }
            _ => false,
        }
    }

    /// The app's count of its queries, for the request that it was made for.
    fn queries(&self, joined: bool) -> Option<HeaderValue> {
        if joined {
            None
        } else {
            self.flight.queries.get().cloned()
        }
    }

    async fn last(&mut self, stage: Stage, order: &Order, joined: bool) -> Option<Filled> {
        match stage {
            Stage::Whole {
                entry,
                confirmed,
                stored,
                found,
            } => {
                if joined && !entry.variant.matches(&order.asked, &order.variant_rules()) {
                    return None;
                }
                Some(Filled::Entry {
                    entry,
                    news: News {
                        joined,
                        confirmed,
                        stored,
                        found,
                        queries: self.queries(joined),
                    },
                })
            }
            Stage::GoAlone { reason, status } => {
                if let Some(own) = self.own.take()
                    && let Ok(response) = own.await
                {
                    return Some(Filled::Private { response, reason });
                }
                Some(Filled::GoAlone { reason, status })
            }
            Stage::Failed(failure) => Some(Filled::Failed(failure)),
            Stage::Asking | Stage::Arriving(_) | Stage::Unstored(_) => {
                Some(Filled::Failed(Failure::Aborted))
            }
        }
    }
}
