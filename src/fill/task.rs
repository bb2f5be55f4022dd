//! The fetch itself: stamp, ask, admit, read, store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Request, Response, StatusCode, response};
use http_body_util::BodyExt;
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::sync::oneshot;

use super::ask::Asking;
use super::flight::{Flight, Stage};
use super::tier2::{self, Found};
use super::{Failure, LaneKey, Order, Shared, Streaming, Tools};
use crate::body::{self, Body};
use crate::cache::remote::Claim;
use crate::coherence::{Unusable, Writes};
use crate::entry::{Certificate, Entry, Material, Stamp, Times};
use crate::headers::coding::{self, Coding};
use crate::headers::no_vary_search::NoVarySearch;
use crate::headers::{hop_by_hop, tags};
use crate::key::{self, Variant};
use crate::policy::storing::{self, Unstorable};
use crate::policy::{freshness, validation};
use crate::respond::encode;
use crate::route::Table;
use crate::tag::{Tag, Tags};
use crate::upstream;

/// A running fill. Dropped, in whatever way the task ends, it frees the lane and releases every waiter.
pub(super) struct Guard {
    shared: Arc<Shared>,
    lane: LaneKey,
    flight: Arc<Flight>,
    /// The right to fetch for all replicas, where it was taken. A standard mutex: held for a moment.
    claim: Mutex<Option<Claim>>,
}

impl Guard {
    pub(super) fn new(shared: Arc<Shared>, lane: LaneKey, flight: Arc<Flight>) -> Self {
        Self {
            shared,
            lane,
            flight,
            claim: Mutex::default(),
        }
    }

    /// Keeps the right to fetch until the answer is stored, or the fill ends.
    pub(super) fn keep(&self, claim: Option<Claim>) {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = claim;
    }

    fn claim(&self) -> Option<Claim> {
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        claim.take()
    }

    /// What this fill works with.
    pub(super) fn tools(&self) -> &Tools {
        &self.shared.tools
    }

    /// Dates what those who wait will be given, before they are given it.
    pub(super) fn date(&self, stamp: Stamp, named: &[Tag]) {
        let _ = self.flight.stamp.set(stamp);
        let _ = self.flight.named.set(named.into());
    }

    pub(super) fn publish(&self, stage: Stage) {
        if stage.is_final() {
            // First the lane, then the waiters: whoever is told to look again must not find this fill.
            self.shared.leave(self.lane, &self.flight);
        }
        self.flight.stage.send_replace(stage);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // What has an end keeps it.
        self.flight.body.break_off("the exchange was cut off");
        if !self.flight.stage.borrow().is_final() {
            self.publish(Stage::Failed(Failure::Aborted));
        }
    }
}

/// What the app answered, and when.
struct Answer {
    head: response::Parts,
    body: Body,
    times: Times,
    /// Whether the head said where the body ends.
    delimited: bool,
}

/// Runs a fill to its end.
pub(super) async fn run(guard: Guard, order: &Order, private: oneshot::Sender<Response<Body>>) {
    let found = match tier2::look(&guard, order).await {
        Found::Done => return,
        Found::Nothing(stale) => stale,
    };
    let prior = order.prior.as_ref().or(found.as_ref());
    // The place in the log is noted before the app is asked. Noted later, a write in between would be missed and the
    // old answer stored as if it were new.
    let stamp = guard.shared.tools.coherence.stamp();
    let _ = guard.flight.stamp.set(stamp);

    let answer = match ask(&guard, order, prior.map(Arc::as_ref)).await {
        Err(failure) => return fail(&guard, order, failure),
        Ok(answer) => answer,
    };
    if answer.head.status == StatusCode::NOT_MODIFIED
        && let Some(prior) = prior
    {
        if validation::confirms(prior, &answer.head.headers) {
            return confirm(&guard, order, prior, answer, (stamp, private));
        }
        // A 304 about something else: ask again without conditions.
        return match ask(&guard, order, None).await {
            Err(failure) => fail(&guard, order, failure),
            Ok(answer) => take(&guard, order, answer, stamp, private).await,
        };
    }
    take(&guard, order, answer, stamp, private).await;
}

/// Asks the app, conditionally if there is an entry to ask about.
async fn ask(guard: &Guard, order: &Order, prior: Option<&Entry>) -> Result<Answer, Failure> {
    let mut request = Request::from_parts(order.head.clone(), Body::empty());
    if let Some(prior) = prior {
        validation::make_conditional(request.headers_mut(), prior);
    }
    let asking = Asking {
        upstream: &guard.shared.tools.upstream,
        metrics: &guard.shared.tools.metrics,
        route: &order.metrics,
        query_count: &order.query_count,
    };
    let requested = now();
    let response = asking.send(request).await;
    let response = response.map_err(|error| Failure::Upstream(Arc::new(error)))?;
    let (mut head, body) = response.into_parts();
    let delimited = http_body::Body::size_hint(&body).exact().is_some()
        || head.headers.contains_key(header::TRANSFER_ENCODING);
    hop_by_hop::strip(&mut head.headers);
    if let Some(count) = head.headers.remove(&order.query_count) {
        let _ = guard.flight.queries.set(count);
    }
    Ok(Answer {
        head,
        body,
        delimited,
        times: Times {
            requested,
            received: now(),
        },
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a fill dates what it fetches; its request's clock is older"
)]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

fn fail(guard: &Guard, order: &Order, failure: Failure) {
    guard.shared.failed.insert(order.key.hash(), ());
    guard.publish(Stage::Failed(failure));
}

/// The stale entry still holds: a new one shares its body, unless the app now says that it may not be shared.
fn confirm(
    guard: &Guard,
    order: &Order,
    prior: &Arc<Entry>,
    answer: Answer,
    (stamp, private): (Stamp, oneshot::Sender<Response<Body>>),
) {
    let mut head = answer.head;
    head.status = prior.status;
    head.headers = validation::merge(&prior.headers, &head.headers);
    if let Err(reason) = may_be_shared(guard, order, &head, answer.times) {
        let own = Answer {
            head,
            body: prior.body.clone().into(),
            ..answer
        };
        return release(guard, order, own, reason, private);
    }
    note_names(guard, &head.headers);
    let certificate = certify(guard, order, stamp);
    let entry = Arc::new(prior.refreshed(head.headers, answer.times, certificate));
    let stored = store(guard, order, &entry);
    guard.publish(Stage::Whole {
        entry,
        confirmed: true,
        stored,
        found: false,
    });
}

/// Whether the head of an answer allows to share it, and it is still certain whose it is: a login with the same credential
/// may have come between, and the answer be the new owner's under the old one's key.
fn may_be_shared(
    guard: &Guard,
    order: &Order,
    head: &response::Parts,
    times: Times,
) -> Result<(), Unstorable> {
    let coherence = &guard.shared.tools.coherence;
    let certain =
        |certificate: &Arc<Certificate>| coherence.usable(certificate, &[], Writes::Count).is_ok();
    if !order.identified.as_ref().is_none_or(certain) {
        return Err(Unstorable::Outdated);
    }
    storing::admit(&order.asked, head, &order.policy, order.sharing, times)?;
    let said = NoVarySearch::parse(&head.headers);
    let same = order.variance.is_none() || order.variance.as_deref() == said.as_ref();
    guard.shared.variances.learn(order.place, said);
    if same { Ok(()) } else { Err(Unstorable::Vary) }
}

/// A whole answer: private, or to be shared and stored.
async fn take(
    guard: &Guard,
    order: &Order,
    answer: Answer,
    stamp: Stamp,
    private: oneshot::Sender<Response<Body>>,
) {
    let admitted = admit(guard, order, &answer).and_then(|()| codings(&answer));
    note_names(guard, &answer.head.headers);
    match admitted {
        Err(reason) => {
            if let Some(prior) = order
                .prior
                .as_ref()
                .filter(|_| !answer.head.status.is_server_error())
            {
                // The app has something else to say now; what it said before must not come back when it fails.
                guard.shared.tools.cache.remove(&order.key, prior);
            }
            release(guard, order, answer, reason, private);
        }
        Ok(codings) if codings.is_empty() => stream(guard, order, answer, stamp).await,
        Ok(codings) => decoded(guard, order, answer, stamp, &codings).await,
    }
}

fn admit(guard: &Guard, order: &Order, answer: &Answer) -> Result<(), Unstorable> {
    may_be_shared(guard, order, &answer.head, answer.times)?;
    if !answer.delimited {
        return Err(Unstorable::Undelimited);
    }
    let limit = guard.shared.tools.max_entry_size as u64;
    let length = http_body::Body::size_hint(&answer.body).exact();
    if length.is_some_and(|length| length > limit) {
        Err(Unstorable::TooLarge)
    } else {
        Ok(())
    }
}

/// More codings than this on one body are made to be expensive to undo: each may make the body as large as an entry may be.
const MOST_CODINGS: usize = 2;

/// The codings to undo. A fill asks for none; an app that uses one all the same must say how long the body is, since it
/// is read whole before anybody sees it. One that nobody knows stays, as the app sends it whoever asks; if it says that
/// it chooses, then other clients would have got something else.
fn codings(answer: &Answer) -> Result<Vec<Coding>, Unstorable> {
    let headers = &answer.head.headers;
    let codings = match coding::content_codings(headers) {
        Ok(codings) => codings,
        Err(_) if !varies_by_coding(headers) => Vec::new(),
        Err(_) => return Err(Unstorable::Encoding),
    };
    let length = http_body::Body::size_hint(&answer.body).exact();
    if codings.is_empty() || (length.is_some() && codings.len() <= MOST_CODINGS) {
        Ok(codings)
    } else {
        Err(Unstorable::Encoding)
    }
}

fn varies_by_coding(headers: &HeaderMap) -> bool {
    key::vary(headers).is_none_or(|names| names.contains(&header::ACCEPT_ENCODING))
}

/// An answer that may not be shared goes to who asked first; everybody else is told to ask for himself.
fn release(
    guard: &Guard,
    order: &Order,
    answer: Answer,
    reason: Unstorable,
    private: oneshot::Sender<Response<Body>>,
) {
    let status = answer.head.status;
    if status.is_server_error() {
        guard.shared.failed.insert(order.key.hash(), ());
    } else if reason != Unstorable::Outdated {
        guard.shared.private.insert(order.key.hash(), reason);
    }
    order.metrics.not_stored(reason);
    let mut response = Response::from_parts(answer.head, answer.body);
    if let Some(count) = guard.flight.queries.get() {
        response
            .headers_mut()
            .insert(order.query_count.clone(), count.clone());
    }
    // Nobody may be there to take it: then the answer is dropped, and with it the exchange.
    let _ = private.send(response);
    guard.publish(Stage::GoAlone {
        reason,
        status: Some(status),
    });
}

/// Reads the body while readers see it, and stores it when it is whole.
async fn stream(guard: &Guard, order: &Order, answer: Answer, stamp: Stamp) {
    let Answer {
        head,
        mut body,
        times,
        ..
    } = answer;
    let streaming = Arc::new(Streaming {
        status: head.status,
        variant: variant(guard, order, &head.headers),
        headers: head.headers,
    });
    guard.publish(Stage::Arriving(Arc::clone(&streaming)));
    if let Err(reason) = pump(guard, order, &mut body, &streaming).await {
        order.metrics.not_stored(reason);
        guard.publish(Stage::Unstored(streaming));
        return;
    }
    let Some(body) = guard.flight.body.whole() else {
        return;
    };
    let whole = Whole {
        status: streaming.status,
        headers: streaming.headers.clone(),
        body,
        times,
    };
    finish(guard, order, whole, stamp);
}

/// Moves a body from the app to its readers.
async fn pump(
    guard: &Guard,
    order: &Order,
    body: &mut Body,
    head: &Arc<Streaming>,
) -> Result<(), Unstorable> {
    let arriving = &guard.flight.body;
    let (mut trailers, mut outgrown) = (None, false);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if let Some(failed) = error.downcast_ref::<upstream::Error>() {
                guard
                    .shared
                    .tools
                    .metrics
                    .upstream_error(failed.kind().as_str())
                    .inc();
            }
            arriving.break_off(&error.to_string());
            Unstorable::Broken
        })?;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        if arriving.push(data) && !outgrown {
            outgrown = true;
            guard
                .shared
                .private
                .insert(order.key.hash(), Unstorable::TooLarge);
            // Told before the first wait for readers: some of them wait for this.
            guard.publish(Stage::Unstored(Arc::clone(head)));
        }
        arriving.room().await.map_err(|_| Unstorable::TooLarge)?;
    }
    arriving.complete(trailers);
    if outgrown {
        Err(Unstorable::TooLarge)
    } else {
        Ok(())
    }
}

/// Reads and decodes a body that came encoded, and stores it.
async fn decoded(guard: &Guard, order: &Order, answer: Answer, stamp: Stamp, codings: &[Coding]) {
    let limit = guard.shared.tools.max_entry_size;
    let Answer {
        mut head,
        body,
        times,
        ..
    } = answer;
    let undone = body::read_limited(body, limit)
        .await
        .ok()
        .and_then(|encoded| {
            codings.iter().rev().try_fold(encoded, |bytes, coding| {
                encode::decode(*coding, &bytes, limit).ok().map(Bytes::from)
            })
        });
    let Some(body) = undone else {
        order.metrics.not_stored(Unstorable::Encoding);
        guard
            .shared
            .private
            .insert(order.key.hash(), Unstorable::Encoding);
        return guard.publish(Stage::GoAlone {
            reason: Unstorable::Encoding,
            status: None,
        });
    };
    head.headers.remove(header::CONTENT_ENCODING);
    coding::strip_digests(&mut head.headers);
    // What the strong validator named were other bytes (RFC 9110 §8.8.1).
    if let Some(etag) = crate::headers::validator::etag(&head.headers) {
        head.headers.insert(header::ETAG, etag.weaken().to_value());
    }
    finish(
        guard,
        order,
        Whole {
            status: head.status,
            headers: head.headers,
            body,
            times,
        },
        stamp,
    );
}

struct Whole {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    times: Times,
}

fn finish(guard: &Guard, order: &Order, whole: Whole, stamp: Stamp) {
    let certificate = certify(guard, order, stamp);
    let entry = Arc::new(Entry::new(Material {
        key: order.key.as_bytes().into(),
        variant: variant(guard, order, &whole.headers),
        status: whole.status,
        headers: whole.headers,
        digest: digest(&whole.body),
        body: whole.body,
        times: whole.times,
        certificate,
        jitter: jitter(&order.key, stamp),
    }));
    let stored = store(guard, order, &entry);
    guard.publish(Stage::Whole {
        entry,
        confirmed: false,
        stored,
        found: false,
    });
}

/// Stores an entry, unless a write has dropped it while it was being fetched; whether it was stored.
fn store(guard: &Guard, order: &Order, entry: &Arc<Entry>) -> bool {
    let hash = order.key.hash();
    guard.shared.failed.invalidate(&hash);
    guard.shared.private.invalidate(&hash);
    // Storing it all the same would be harmless, since it certifies itself; it would only take room.
    let verdict = guard
        .shared
        .tools
        .coherence
        .usable(&entry.certificate, &entry.key, order.writes);
    if let Err(Unusable::Dropped | Unusable::Forgotten | Unusable::NoLease) = verdict {
        order.metrics.not_stored(Unstorable::Outdated);
        return false;
    }
    let keep = freshness::keep_for(entry, &order.policy, entry.times.received);
    guard
        .shared
        .tools
        .cache
        .put(&order.key, entry, keep, guard.claim());
    true
}

/// Notes the names that the app put on its answer, before anybody is given it.
fn note_names(guard: &Guard, headers: &HeaderMap) {
    let mut named = Tags::new();
    Table::response_tags(&tags::response_tags(headers), &mut named);
    let _ = guard.flight.named.set(named);
}

fn certify(guard: &Guard, order: &Order, stamp: Stamp) -> Certificate {
    #[cfg(reprise_mutant = "stamp_at_store")]
    let stamp = guard.shared.tools.coherence.stamp();
    let mut all: Tags = order.tags.clone();
    all.extend(guard.flight.named.get().into_iter().flatten().copied());
    all.sort_unstable();
    all.dedup();
    Certificate::new(stamp, all)
}

/// The variant of an answer, and a note of the fields that selected it, for the lanes of later requests.
fn variant(guard: &Guard, order: &Order, headers: &HeaderMap) -> Variant {
    let names = key::vary(headers).unwrap_or_default();
    let variant = Variant::of(&names, &order.asked, &order.variant_rules());
    let hash = order.key.hash();
    if !variant.is_empty() || guard.shared.vary.contains_key(&hash) {
        guard.shared.vary.insert(
            hash,
            variant.fields().map(|(name, _)| name.clone()).collect(),
        );
    }
    variant
}

/// A hash of the body for a validator. Its key is fixed, so that all replicas make the same one.
fn digest(body: &[u8]) -> u128 {
    use std::hash::Hasher;
    let mut hasher = SipHasher24::new_with_keys(0x7265_7072_6973_6503, 0);
    hasher.write(body);
    u128::from_be_bytes(hasher.finish128().as_bytes())
}

/// Where in 0..1 the jitter of an entry falls: spread by its key and its stamp, so that neither entries of one moment nor
/// lives of one entry lapse together.
#[expect(clippy::cast_precision_loss, reason = "16 bits fit a double exactly")]
fn jitter(key: &key::Key, stamp: Stamp) -> f64 {
    let mixed = (key.hash() ^ u128::from(stamp.seq))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    ((mixed >> 112) as u64) as f64 / f64::from(u16::MAX)
}
