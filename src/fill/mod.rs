//! Fills: fetching on the cache's behalf. One request to the app per key, many waiters.
//!
//! A fill is a task of its own, owned by the cache and not by the client that happened to ask first: that client may
//! leave. What flows in: an [`Order`], everything a fill needs of the request and its route. What flows out: a
//! [`Filled`], which says how the wait ended. Promises:
//!
//! - A request is given only what was asked of the app after the last drop of its tags: a fill that began before a write
//!   is not joined after it. While a write is under way, a request may share only a fill that starts after the request
//!   came, so at most one runs and one queues per key, however hot the seat map is.
//! - Waiters whose fields select another variant are told so, and never get each other's body.
//! - An answer that may not be shared is the first requester's alone. The others are released at its head, each to ask
//!   for himself, and the key is remembered for a while, so that private answers never queue behind each other.
//! - A body is stored complete or not at all; a large one streams through.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, request};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::cache::Cache;
use crate::coherence::{Coherence, Unusable, Writes};
use crate::entry::{Certificate, Entry};
use crate::headers::no_vary_search::NoVarySearch;
use crate::identity::Credential;
use crate::key::{Key, Variant, VariantRules};
use crate::metrics::{Metrics, RouteMetrics};
use crate::policy::reuse::Standing;
use crate::policy::storing::{Sharing, Unstorable};
use crate::policy::{Coalesce, Policy, Scope};
use crate::tag::Tags;
use crate::upstream::{self, Upstream};

pub mod ask;
mod flight;
pub mod stream;
mod task;
mod tier2;
mod variance;

use flight::{Flight, Ticket};
use stream::Reader;
use variance::Variances;

/// How long a key whose answers cannot be shared is remembered (hit-for-miss).
const PRIVATE_FOR: Duration = Duration::from_secs(10);

/// How long after a failed fill a stale answer is given without asking again.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// How many keys each memory holds.
const REMEMBERED: u64 = 50_000;

/// How often a request that turned out to select another variant looks for its own fill.
const ATTEMPTS: usize = 3;

/// Everything a fill needs of the request and its route.
#[derive(Debug)]
pub struct Order {
    /// The primary key.
    pub key: Key,
    /// What the app had said of the path's queries when the key was made.
    pub variance: Option<Arc<NoVarySearch>>,
    /// The path on its host, by which what it says now is remembered.
    pub place: u128,
    /// The head to send: a GET without the client's conditions and range.
    pub head: request::Parts,
    /// The client's own fields, which select the variant.
    pub asked: HeaderMap,
    /// The route's knobs.
    pub policy: Arc<Policy>,
    /// `[identity] from`.
    pub credentials: Arc<[Credential]>,
    /// How the key keeps callers apart.
    pub sharing: Sharing,
    /// What drops the answer, as far as the request tells.
    pub tags: Tags,
    /// What makes it certain whose the caller's credential is; none where the credential itself is the identity.
    pub identified: Option<Arc<Certificate>>,
    /// Whether open writes count for this route.
    pub writes: Writes,
    /// The stale entry to ask about, if there is one.
    pub prior: Option<Arc<Entry>>,
    /// Whether the client's conditions or range can only be answered from the whole body.
    pub needs_whole: bool,
    /// The response field in which the app counts its queries.
    pub query_count: HeaderName,
    /// What the route counts.
    pub metrics: Arc<RouteMetrics>,
}

impl Order {
    /// How request fields select a variant for this order.
    #[must_use]
    pub fn variant_rules(&self) -> VariantRules<'_> {
        variant_rules(&self.policy, &self.credentials, self.sharing)
    }
}

/// How request fields select a variant on a route.
#[must_use]
pub fn variant_rules<'a>(
    policy: &'a Policy,
    credentials: &'a [Credential],
    sharing: Sharing,
) -> VariantRules<'a> {
    let keyed = sharing == Sharing::OneUser || policy.scope == Scope::Shared;
    VariantRules {
        ignore: &policy.vary_ignore,
        always: &policy.key_headers,
        cookies: &policy.cookies,
        credentials: if keyed { credentials } else { &[] },
        covered: matches!(policy.scope, Scope::User | Scope::Shared),
        cookies_covered: policy.scope == Scope::User,
    }
}

/// How a wait for a fill ended.
#[derive(Debug)]
pub enum Filled {
    /// A whole answer that may be shared.
    Entry {
        /// The answer.
        entry: Arc<Entry>,
        /// How it came about.
        news: News,
    },
    /// An answer that may be shared and is still arriving.
    Stream {
        /// Its head.
        head: Arc<Streaming>,
        /// Its body from the first byte.
        body: Reader,
        /// Whether another request began the fill.
        joined: bool,
        /// The app's count of its queries, for the request that it was made for.
        queries: Option<HeaderValue>,
    },
    /// The first requester's own answer: the others were told [`Filled::GoAlone`].
    Private {
        /// The answer.
        response: Response<Body>,
        /// Why it is not stored.
        reason: Unstorable,
    },
    /// The app's answer may not be shared: ask for yourself, without queueing.
    GoAlone {
        /// Why.
        reason: Unstorable,
        /// The status of the answer that could not be shared, when there was one.
        status: Option<StatusCode>,
    },
    /// The app could not be asked.
    Failed(Failure),
}

/// How a whole answer came about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct News {
    /// Another request began the fill.
    pub joined: bool,
    /// The app said that the stale entry still holds (304).
    pub confirmed: bool,
    /// It was stored.
    pub stored: bool,
    /// It was found in tier 2, and the app was not asked.
    pub found: bool,
    /// The app's count of its queries, for the request that it was made for.
    pub queries: Option<HeaderValue>,
}

/// Why the app could not be asked.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The exchange failed.
    Upstream(Arc<upstream::Error>),
    /// The fill ended without a word: a defect, or the process is ending.
    Aborted,
}

/// The head of an answer whose body is arriving.
#[derive(Debug)]
pub struct Streaming {
    /// The status.
    pub status: StatusCode,
    /// The end-to-end fields.
    pub headers: HeaderMap,
    variant: Variant,
}

/// Fills under way, and what was learnt from earlier ones.
#[derive(Clone, Debug)]
pub struct Fills {
    shared: Arc<Shared>,
}

/// What fills work with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Where answers are kept.
    pub cache: Cache,
    /// Where their stamps come from.
    pub coherence: Coherence,
    /// Whom to ask.
    pub upstream: Upstream,
    /// What is counted for the app as a whole.
    pub metrics: Metrics,
    /// The largest body that is stored, in bytes.
    pub max_entry_size: usize,
}

struct Shared {
    tools: Tools,
    /// A standard mutex: held for a lookup or an insert, never across an await.
    lanes: Mutex<HashMap<LaneKey, Lane>>,
    /// Keys whose answers could not be shared.
    private: moka::sync::Cache<u128, Unstorable>,
    /// Keys whose last fill failed.
    failed: moka::sync::Cache<u128, ()>,
    /// Hashes variants, whose values clients choose.
    secret: RandomState,
    /// The fields that selected the last answer of a key.
    vary: moka::sync::Cache<u128, Arc<[HeaderName]>>,
    /// What the app says of the queries of paths.
    variances: Variances,
    tasks: TaskTracker,
}

/// A primary key and, as far as known, the variant.
type LaneKey = (u128, u64);

/// The fills of one lane: requests that would get the same answer.
#[derive(Debug, Default)]
struct Lane {
    running: Option<Arc<Flight>>,
    /// Starts when the running one ends; for requests that came while a write was under way.
    queued: Option<Arc<Flight>>,
}

/// What a request that comes to the fills is given.
enum Entered {
    /// A fill to wait for.
    Waiting(Ticket),
    /// The answer of a fill that ended this moment.
    Stored(Arc<Entry>),
    /// Waiting would be for nothing: the last answer could not be shared, for this reason.
    Alone(Unstorable),
}

/// A fill that has its place in a lane, and is to be started once the lanes are no longer locked.
struct Start {
    guard: task::Guard,
    private: oneshot::Sender<Response<Body>>,
    /// The fill that has to end first.
    after: Option<Arc<Flight>>,
}

impl Fills {
    /// No fills yet.
    #[must_use]
    pub fn new(tools: Tools) -> Self {
        fn memory<V: Clone + Send + Sync + 'static>(keep: Duration) -> moka::sync::Cache<u128, V> {
            moka::sync::Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(keep)
                .build()
        }
        let shared = Shared {
            tools,
            lanes: Mutex::default(),
            secret: RandomState::new(),
            private: memory(PRIVATE_FOR),
            failed: memory(FAILED_FOR),
            vary: memory(Duration::from_secs(3600)),
            variances: Variances::new(),
            tasks: TaskTracker::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits for the answer to a request, from a fill under way or from one that begins now.
    ///
    /// # Cancel safety
    ///
    /// The fill goes on without this waiter.
    pub async fn join(&self, order: Arc<Order>) -> Filled {
        let coherence = &self.shared.tools.coherence;
        for _ in 0..ATTEMPTS {
            let ticket = match self.enter(&order) {
                Entered::Waiting(ticket) => ticket,
                Entered::Stored(entry) => {
                    let news = News {
                        joined: true,
                        confirmed: false,
                        stored: true,
                        found: false,
                        queries: None,
                    };
                    return Filled::Entry { entry, news };
                }
                Entered::Alone(reason) => {
                    return Filled::GoAlone {
                        reason,
                        status: None,
                    };
                }
            };
            if let Some(filled) = ticket.wait(&order, coherence).await {
                return filled;
            }
        }
        Filled::GoAlone {
            reason: Unstorable::Vary,
            status: None,
        }
    }

    /// Begins a fill that nobody waits for, unless one is under way or failed a moment ago.
    pub fn refresh(&self, order: &Arc<Order>) {
        let lane = self.lane_of(order);
        let under_way = self
            .lanes()
            .get(&lane)
            .is_some_and(|lane| lane.running.is_some());
        if !under_way && !self.failed_recently(&order.key) {
            drop(self.enter(order));
        }
    }

    /// What the app says of the queries of a path, as far as it is known here.
    #[must_use]
    pub fn variance(&self, place: impl FnOnce() -> u128) -> Option<Arc<NoVarySearch>> {
        self.shared.variances.of(place)
    }

    /// Whether the last fill of a key failed a moment ago: a stale answer may then be given without asking again.
    #[must_use]
    pub fn failed_recently(&self, key: &Key) -> bool {
        self.shared.failed.contains_key(&key.hash())
    }

    /// Waits for the fills under way to end; no more may be begun.
    pub async fn drain(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<LaneKey, Lane>> {
        self.shared.lanes()
    }

    /// The lane of an order: its key, and its variant as far as the fields that select are known.
    fn lane_of(&self, order: &Order) -> LaneKey {
        let hash = order.key.hash();
        let names = self.shared.vary.get(&hash);
        let names = names.as_deref().unwrap_or_default();
        let variant = Variant::of(names, &order.asked, &order.variant_rules());
        let mut hasher = self.shared.secret.build_hasher();
        for (name, value) in variant.fields() {
            name.hash(&mut hasher);
            value.hash(&mut hasher);
        }
        (hash, hasher.finish())
    }

    /// Finds or begins the fill for an order.
    fn enter(&self, order: &Arc<Order>) -> Entered {
        let (entered, start) = self.place(order);
        if let Some(start) = start {
            self.start(start, order);
        }
        entered
    }

    fn place(&self, order: &Order) -> (Entered, Option<Start>) {
        let key = self.lane_of(order);
        if order.policy.coalesce == Coalesce::Off {
            let (_, ticket, start) = self.begin(key, None);
            return (Entered::Waiting(ticket), Some(start));
        }
        let private = self.shared.private.get(&order.key.hash());
        if let Some(reason) = private.filter(|_| order.needs_whole) {
            // The answer will be this client's own: the app had better see its conditions.
            return (Entered::Alone(reason), None);
        }
        let mut lanes = self.lanes();
        let lane = lanes.entry(key).or_default();
        if let Some(running) = &lane.running {
            if let Some(reason) = private {
                // One probe at a time may find the key shareable again; the others do not wait for it.
                return (Entered::Alone(reason), None);
            }
            match running.usable(&self.shared.tools.coherence, order) {
                Ok(()) => return (Entered::Waiting(Ticket::join(running)), None),
                // Without a lease too: what began before this request came may have missed a write.
                Err(Unusable::Dirty | Unusable::NoLease) => {
                    let (ticket, start) = self.enqueue(key, lane);
                    return (Entered::Waiting(ticket), start);
                }
                // Strict routes store nothing while an epoch is young: their readers still share what is asked for.
                Err(Unusable::Forgotten) if order.writes == Writes::Strict => {
                    let (ticket, start) = self.enqueue(key, lane);
                    return (Entered::Waiting(ticket), start);
                }
                Err(Unusable::Dropped | Unusable::Forgotten) => {}
            }
        } else if let Some(entry) = self.just_stored(order) {
            lanes.remove(&key);
            return (Entered::Stored(entry), None);
        }
        let (flight, ticket, start) = self.begin(key, None);
        lane.running = Some(flight);
        (Entered::Waiting(ticket), Some(start))
    }

    /// What a fill has stored between this request's look into the cache and its turn here. A fill stores before it
    /// leaves its lane, so whoever finds the lane empty finds what it left.
    fn just_stored(&self, order: &Order) -> Option<Arc<Entry>> {
        let cache = &self.shared.tools.cache;
        let entry = cache.again(
            &order.key,
            &order.asked,
            &order.variant_rules(),
            order.writes,
        )?;
        let known = order
            .prior
            .as_ref()
            .is_some_and(|prior| Arc::ptr_eq(prior, &entry));
        let fresh = Standing::of(&entry, &order.policy, task::now()).is_fresh();
        (fresh && !known).then_some(entry)
    }

    fn enqueue(&self, key: LaneKey, lane: &mut Lane) -> (Ticket, Option<Start>) {
        if let Some(queued) = &lane.queued
            && queued.stamp.get().is_none()
        {
            return (Ticket::join(queued), None);
        }
        let (flight, ticket, start) = self.begin(key, lane.running.clone());
        lane.queued = Some(flight);
        (ticket, Some(start))
    }

    /// Makes a fill; with `after`, one that starts once that one has ended.
    fn begin(&self, key: LaneKey, after: Option<Arc<Flight>>) -> (Arc<Flight>, Ticket, Start) {
        let flight = Arc::new(Flight::new(self.shared.tools.max_entry_size));
        let (private, own) = oneshot::channel();
        let ticket = Ticket::lead(&flight, own);
        let start = Start {
            guard: task::Guard::new(Arc::clone(&self.shared), key, Arc::clone(&flight)),
            private,
            after,
        };
        (flight, ticket, start)
    }

    /// Spawns a fill. Never under the lock of the lanes: a runtime that is shutting down drops the task at once, and with
    /// it the guard, which takes that lock.
    fn start(&self, start: Start, order: &Arc<Order>) {
        let order = Arc::clone(order);
        self.shared.tasks.spawn(async move {
            let Start {
                guard,
                private,
                after,
            } = start;
            if let Some(after) = after {
                after.ended().await;
            }
            task::run(guard, &order, private).await;
        });
    }
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, HashMap<LaneKey, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an ended fill out of its lane, and lets the queued one take its place.
    fn leave(&self, key: LaneKey, flight: &Arc<Flight>) {
        let mut lanes = self.lanes();
        let Some(lane) = lanes.get_mut(&key) else {
            return;
        };
        let is = |place: &Option<Arc<Flight>>| {
            place
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, flight))
        };
        if is(&lane.running) {
            lane.running = lane.queued.take();
        } else if is(&lane.queued) {
            lane.queued = None;
        }
        if lane.running.is_none() && lane.queued.is_none() {
            lanes.remove(&key);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("lanes", &self.lanes().len())
            .finish_non_exhaustive()
    }
}
