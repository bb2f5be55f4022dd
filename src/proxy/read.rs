//! Reading: a safe request on a route, answered from a tier when the rules allow it and by the app when they do not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Response, request};

use super::fetch::order;
use super::identify::{Identified, shows_credential};
use super::{Answer, Error, Proxy, RouteContext, Seen, Target};
use crate::body::Body;
use crate::cache::Lookup;
use crate::coherence::{Standing as Softness, Writes};
use crate::entry::Entry;
use crate::fill::variant_rules;
use crate::headers::no_vary_search::NoVarySearch;
use crate::key::{Key, Parts};
use crate::outcome::{Bypass, Forward, Outcome, Result as Happened, Written};
use crate::policy::Scope;
use crate::policy::reuse::{self, Standing, Verdict};
use crate::policy::storing::Sharing;
use crate::respond::{self, Style, encode};

/// Bodies up to this many bytes are encoded where they are asked for: that takes less than a hundred microseconds.
const ENCODED_IN_PLACE: usize = 8 * 1024;

/// How long a read with a session token waits for the log before the app is asked.
const CATCH_UP: Duration = Duration::from_millis(100);

/// A read on its way: the request, whose it is, and under which key.
pub(super) struct Reading<'a> {
    pub(super) head: &'a request::Parts,
    pub(super) seen: &'a Seen<'a>,
    pub(super) target: Target<'a>,
    pub(super) caller: Option<Identified>,
    pub(super) sharing: Sharing,
    pub(super) key: Key,
    /// What the app had said of the path's queries when the key was made.
    pub(super) variance: Option<Arc<NoVarySearch>>,
    now: SystemTime,
    /// Whether the entry found was purged softly.
    softened: bool,
}

impl Proxy {
    /// Serves a safe request.
    pub(super) async fn read<'a>(
        &self,
        head: &'a request::Parts,
        seen: &'a Seen<'a>,
        target: Target<'a>,
        now: SystemTime,
    ) -> Result<Answer, Error> {
        let whose = if seen.token.is_some() && !Box::pin(self.has_caught_up(seen, &target)).await {
            Err(Bypass::Token)
        } else {
            self.whose(head, seen, target.route).await
        };
        let (caller, sharing) = match whose {
            Ok(whose) => whose,
            Err(reason) => {
                let outcome = Outcome::bypass(reason);
                let passed = Box::pin(self.pass(head, Body::empty(), seen, &target, outcome)).await;
                return Ok(passed.unwrap_or_else(|error| Answer::failed(&error, Happened::Bypass)));
            }
        };
        let identity = caller
            .as_ref()
            .filter(|_| sharing == Sharing::OneUser)
            .map(|known| &known.caller.key);
        let host = seen.client.key_host();
        let parts = Parts {
            host: &host,
            secure: seen.client.secure,
            path: target.path,
            query: head.uri.query(),
            identity,
        };
        let tools = &self.shared.tools;
        let place = || tools.hasher.place(&host, target.path);
        let variance = tools.fills.variance(place);
        let key = tools
            .hasher
            .key_under(&parts, &seen.live.query, variance.as_deref());
        let mut reading = Reading {
            head,
            seen,
            target,
            caller,
            sharing,
            key,
            variance,
            now,
            softened: false,
        };
        let (entry, forward) = self.look(&mut reading);
        let policy = &reading.target.route.policy;
        let verdict = reuse::judge(
            entry.as_deref(),
            &head.headers,
            policy,
            now,
            reading.softened,
        );
        match (verdict, entry) {
            (Verdict::Fresh { refresh: false }, Some(entry)) if reading.is_made(&entry) => {
                Ok(reading.hit(&entry, Outcome::hit, "l1"))
            }
            (verdict, entry) => Box::pin(self.read_slowly(reading, verdict, entry, forward)).await,
        }
    }

    /// Everything but a plain hit.
    async fn read_slowly(
        &self,
        reading: Reading<'_>,
        verdict: Verdict,
        entry: Option<Arc<Entry>>,
        forward: Forward,
    ) -> Result<Answer, Error> {
        let Some(entry) = entry else {
            return match verdict {
                Verdict::OnlyIfCached => Err(Error::OnlyIfCached),
                Verdict::Miss
                | Verdict::Fresh { .. }
                | Verdict::Stale
                | Verdict::StaleWhileRevalidate
                | Verdict::Revalidate { .. } => self.fetch(&reading, None, None, forward).await,
            };
        };
        match verdict {
            Verdict::Fresh { refresh } => {
                if refresh {
                    self.refresh(&reading, &entry);
                }
                Ok(self.serve(&reading, &entry, Outcome::hit, "l1").await)
            }
            Verdict::StaleWhileRevalidate => {
                self.refresh(&reading, &entry);
                Ok(self
                    .serve(&reading, &entry, Outcome::stale, "updating")
                    .await)
            }
            Verdict::Stale => Ok(self
                .serve(&reading, &entry, Outcome::stale, "max-stale")
                .await),
            Verdict::Revalidate { if_error: true }
                if self.shared.tools.fills.failed_recently(&reading.key) =>
            {
                Ok(self.serve(&reading, &entry, Outcome::stale, "error").await)
            }
            Verdict::Revalidate { if_error } => {
                let forward = if reading.standing(&entry).is_fresh() {
                    Forward::Request
                } else {
                    forward
                };
                let fallback = if_error.then(|| Arc::clone(&entry));
                self.fetch(&reading, Some(entry), fallback, forward).await
            }
            Verdict::OnlyIfCached => Err(Error::OnlyIfCached),
            Verdict::Miss => self.fetch(&reading, None, None, forward).await,
        }
    }

    /// Whether this replica knows what the client's token says that he has seen; reads the log, if need be. On other than
    /// bounded routes a write's answer has waited for this already.
    async fn has_caught_up(&self, seen: &Seen<'_>, target: &Target<'_>) -> bool {
        match seen.token {
            Some(place) if target.route.writes == Writes::Ignore => {
                let coherence = &self.shared.tools.coherence;
                coherence.catch_up(place.epoch, place.seq, CATCH_UP).await
            }
            Some(_) | None => true,
        }
    }

    /// Whose entry a request may meet, or why the cache is not asked.
    async fn whose(
        &self,
        head: &request::Parts,
        seen: &Seen<'_>,
        route: &RouteContext,
    ) -> Result<(Option<Identified>, Sharing), Bypass> {
        if route.policy.scope == Scope::Shared {
            return Ok((None, Sharing::Everyone));
        }
        let caller = self
            .identify(&head.headers, seen)
            .await
            .map_err(|_| Bypass::NoIdentity)?;
        match (route.policy.scope, caller) {
            (_, Some(caller)) => Ok((Some(caller), Sharing::OneUser)),
            (Scope::User, None) => Err(Bypass::NoIdentity),
            // Somebody says who he is, in a way that the rules do not know.
            (_, None) if shows_credential(&head.headers) => Err(Bypass::Credentials),
            (_, None) => Ok((None, Sharing::Everyone)),
        }
    }

    /// Looks in the tiers; an entry, and why the app would be asked if it has to be.
    fn look(&self, reading: &mut Reading<'_>) -> (Option<Arc<Entry>>, Forward) {
        let route = reading.target.route;
        let rules = variant_rules(
            &route.policy,
            &reading.seen.live.identity.from,
            reading.sharing,
        );
        match self
            .shared
            .tools
            .cache
            .get(&reading.key, &reading.head.headers, &rules, route.writes)
        {
            Lookup::Found(entry, standing) => {
                reading.softened = standing == Softness::Softened;
                (Some(entry), Forward::Stale)
            }
            Lookup::Nothing => (None, Forward::UriMiss),
            Lookup::OtherVariant(_) => (None, Forward::VaryMiss),
            Lookup::Dropped => (None, self.written(Written::Dropped)),
            Lookup::Dirty => (None, self.written(Written::Dirty)),
            Lookup::Forgotten => (None, self.written(Written::Forgotten)),
            Lookup::NoLease => (None, self.written(Written::NoLease)),
        }
    }

    /// Counts that something stored may not be used, and says why the app is asked.
    fn written(&self, why: Written) -> Forward {
        let metrics = &self.shared.tools.metrics.coherence;
        match why {
            Written::Dropped => metrics.bypass_tag.inc(),
            Written::Dirty => metrics.bypass_dirty.inc(),
            Written::Forgotten => metrics.bypass_epoch.inc(),
            Written::NoLease => metrics.bypass_lease.inc(),
        }
        Forward::Written(why)
    }

    /// Answers from an entry, in a coding that may have to be made first.
    pub(super) async fn serve(
        &self,
        reading: &Reading<'_>,
        entry: &Arc<Entry>,
        outcome: fn(i64, &'static str) -> Outcome,
        detail: &'static str,
    ) -> Answer {
        self.make(reading, entry).await;
        reading.hit(entry, outcome, detail)
    }

    /// Makes the coding that this client should get, if nobody has asked for it before. A large body is encoded off the
    /// reactor, so that it delays no hit.
    pub(super) async fn make(&self, reading: &Reading<'_>, entry: &Arc<Entry>) {
        let Some(coding) = respond::to_make(&reading.head.headers, entry, &reading.style()) else {
            return;
        };
        if entry.body.len() <= ENCODED_IN_PLACE {
            encode::representation(entry, coding);
        } else {
            let entry = Arc::clone(entry);
            let made = tokio::task::spawn_blocking(move || {
                encode::representation(&entry, coding);
            });
            if let Err(error) = made.await {
                tracing::error!(%error, "a body could not be encoded");
            }
        }
        self.shared.tools.cache.reweigh(&reading.key);
    }

    /// Begins a fill that nobody waits for.
    fn refresh(&self, reading: &Reading<'_>, entry: &Arc<Entry>) {
        if let Some(order) = order(reading, Some(Arc::clone(entry)), &self.shared.tools.hasher) {
            self.shared.tools.fills.refresh(&Arc::new(order));
        }
    }
}

impl<'a> Reading<'a> {
    /// What of the configuration an answer depends on.
    pub(super) fn style(&self) -> Style<'a> {
        let policy = &self.target.route.policy;
        Style {
            compression: policy.compress.then_some(&self.seen.live.compression),
            client_max_age: policy.client_max_age,
            one_user: self.sharing == Sharing::OneUser,
        }
    }

    /// Whether the coding that this client should get is there.
    fn is_made(&self, entry: &Entry) -> bool {
        respond::to_make(&self.head.headers, entry, &self.style()).is_none()
    }

    /// How an entry stands now.
    fn standing(&self, entry: &Entry) -> Standing {
        Standing::of(entry, &self.target.route.policy, self.now).softened(self.softened)
    }

    /// Answers from an entry.
    fn hit(
        &self,
        entry: &Entry,
        outcome: fn(i64, &'static str) -> Outcome,
        detail: &'static str,
    ) -> Answer {
        Answer::new(
            self.respond(entry),
            outcome(self.standing(entry).ttl(), detail),
        )
    }

    /// The response that an entry gives to this request.
    pub(super) fn respond(&self, entry: &Entry) -> Response<Body> {
        respond::answer(
            &self.head.method,
            &self.head.headers,
            entry,
            &self.style(),
            self.now,
        )
    }
}
