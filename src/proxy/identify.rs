//! Who is asking: by the credential, or by the id that the app gives for it.
//!
//! With `[identity] lookup`, the app is asked once per credential who its owner is, so that one user's two devices share
//! entries and drops. The answer is kept for a while in a small cache of its own, and in Redis for the other replicas, if
//! there is one. If the app cannot say, the request is
//! treated as nobody's: a read is not answered from the cache, and a write drops the whole class, because an identity
//! made of the credential alone would miss what was stored under the id.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Uri, request};
use moka::Expiry;
use tokio::sync::OnceCell;

use super::forward::upstream_head;
use super::sessions::Sessions;
use super::{Proxy, Seen};
use crate::body::{self, Body};
use crate::capture;
use crate::coherence::Writes;
use crate::entry::Certificate;
use crate::headers::cookie;
use crate::identity::{Caller, Credential, Identity};
use crate::tag::{Kind, Tag, Tags};
use crate::upstream::Upstream;

/// How many credentials are remembered.
const REMEMBERED: u64 = 100_000;

/// How long it is remembered that the app knows nobody by a credential.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

/// The largest answer of the app about a user, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// The knobs of `[identity] lookup`.
#[derive(Clone, Debug)]
pub struct LookupConfig {
    /// The path to ask.
    pub path: Uri,
    /// A JSON pointer to the id in the answer.
    pub field: String,
    /// How long an answer is kept.
    pub ttl: Duration,
}

/// Asks the app who somebody is, once per credential.
#[derive(Clone)]
pub struct Lookup {
    shared: Arc<Shared>,
}

/// A lookup's answer, once there is one.
type Cell = Arc<OnceCell<Option<Known>>>;

struct Shared {
    config: LookupConfig,
    upstream: Upstream,
    /// What other replicas have asked.
    sessions: Option<Sessions>,
    known: moka::sync::Cache<Identity, Known>,
    unknown: moka::sync::Cache<Identity, ()>,
    /// Lookups under way, so that a burst of one user's requests asks once. A standard mutex: held for a map operation.
    asking: Mutex<HashMap<Identity, Cell>>,
}

/// Whether a request carries a credential in a field that is for nothing else. Where `[identity] from` does not name it,
/// the rules do not know who is asking, and the app may.
pub(super) fn shows_credential(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        matches!(
            name.as_str(),
            "authorization"
                | "x-authorization"
                | "x-api-key"
                | "api-key"
                | "apikey"
                | "x-auth"
                | "x-auth-token"
                | "x-access-token"
                | "x-id-token"
                | "x-session-token"
                | "x-session-id"
                | "remote-user"
                | "x-remote-user"
                | "x-user"
                | "x-user-id"
                | "x-authenticated-user"
                | "x-authenticated-userid"
                | "x-webauth-user"
                | "x-auth-request-user"
                | "x-auth-request-email"
                | "x-auth-request-access-token"
                | "x-amzn-oidc-data"
                | "x-amzn-oidc-identity"
                | "x-goog-iap-jwt-assertion"
                | "cf-access-jwt-assertion"
        )
    })
}

/// The app could not say who is asking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unknown;

/// Whose a credential is, as of a place in the log of drops: a write with the credential (a login, a logout, a new
/// password) ends what was known of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: Arc<str>,
    pub(super) certificate: Arc<Certificate>,
    /// How long it holds from when it was learnt.
    pub(super) keep: Duration,
}

/// Each answer goes when its own time is over: one of another replica's is older than it looks.
struct Remaining;

#[expect(
    clippy::disallowed_types,
    reason = "moka hands it to its expiry rules, and nobody reads it here"
)]
impl Expiry<Identity, Known> for Remaining {
    fn expire_after_create(
        &self,
        _: &Identity,
        known: &Known,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(known.keep)
    }

    fn expire_after_update(
        &self,
        _: &Identity,
        known: &Known,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(known.keep)
    }
}

/// A caller, and what makes it certain that he is still who he was.
#[derive(Clone, Debug)]
pub(super) struct Identified {
    pub(super) caller: Caller,
    /// None where the credential itself is the identity.
    pub(super) certificate: Option<Arc<Certificate>>,
}

impl Proxy {
    /// Who is asking; `None` for a caller without credentials.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        seen: &Seen<'_>,
    ) -> Result<Option<Identified>, Unknown> {
        let identity = &seen.live.identity;
        let hidden = |credential: &Credential| match credential {
            Credential::Cookie(name) => cookie::hides(headers, name),
            Credential::Header(_) => false,
        };
        if headers.contains_key(header::COOKIE) && identity.from.iter().any(hidden) {
            // The app may know him by a cookie that stands where no other is looked for.
            return Err(Unknown);
        }
        let Some(caller) = identity.key.identify(headers, &identity.from) else {
            return Ok(None);
        };
        let Some(lookup) = &self.shared.tools.lookup else {
            return Ok(Some(Identified {
                caller,
                certificate: None,
            }));
        };
        let coherence = &self.shared.tools.coherence;
        if !coherence.holds_lease() {
            // Nothing that the app could tell would hold, and it is asked for the answer itself already.
            return Err(Unknown);
        }
        let holds = |known: &Known| {
            coherence
                .usable(&known.certificate, &[], Writes::Count)
                .is_ok()
        };
        let known = match lookup.shared.known.get(&caller.key).filter(holds) {
            Some(known) => known,
            None => Box::pin(self.look_up(lookup, caller.key, headers, seen))
                .await
                .ok_or(Unknown)?,
        };
        Ok(Some(Identified {
            caller: identity.key.known(&known.id),
            certificate: Some(known.certificate),
        }))
    }

    async fn look_up(
        &self,
        lookup: &Lookup,
        credential: Identity,
        headers: &HeaderMap,
        seen: &Seen<'_>,
    ) -> Option<Known> {
        // Before the app is asked, as for an entry.
        let tags = self.credential_tags(headers, seen);
        let stamp = self.shared.tools.coherence.stamp();
        let ttl = lookup.shared.config.ttl;
        let holds = |known: &Known| {
            let coherence = &self.shared.tools.coherence;
            coherence
                .usable(&known.certificate, &[], Writes::Count)
                .is_ok()
        };
        let ask = || async {
            if let Some(sessions) = &lookup.shared.sessions
                && let Some(known) = sessions.get(credential, ttl).await.filter(holds)
            {
                return Some(known);
            }
            let id = lookup.fetch(headers, seen).await?;
            let known = Known {
                id,
                certificate: Arc::new(Certificate::new(stamp, tags.clone())),
                keep: ttl,
            };
            if let Some(sessions) = lookup.shared.sessions.clone().filter(|_| holds(&known)) {
                let known = known.clone();
                let put = async move { sessions.put(credential, &known).await };
                self.shared.tasks.spawn(put);
            }
            Some(known)
        };
        let known = lookup.once(credential, ask).await?;
        if holds(&known) {
            lookup.shared.known.insert(credential, known.clone());
            return Some(known);
        }
        // Somebody else's question, from before a write, or a write is under way: this request asks for itself.
        ask().await
    }

    /// The tags of a request's credentials, each by itself; none without a lookup, where nothing is known of them.
    pub(super) fn credential_tags(&self, headers: &HeaderMap, seen: &Seen<'_>) -> Tags {
        if self.shared.tools.lookup.is_none() {
            return Tags::new();
        }
        let identity = &seen.live.identity;
        let credentials = identity.key.credentials(headers, &identity.from);
        credentials
            .iter()
            .map(|one| Tag::new(Kind::Credential, &[&one.to_hex()]))
            .collect()
    }

    /// A safe request whose answer sets a cookie may have changed whose the credential is.
    pub(super) async fn heed_cookies(
        &self,
        headers: &HeaderMap,
        seen: &Seen<'_>,
        answer: &HeaderMap,
    ) {
        if !answer.contains_key(header::SET_COOKIE) {
            return;
        }
        let tags = self.credential_tags(headers, seen);
        if !tags.is_empty() {
            self.shared.tools.coherence.drop_tags(tags).await;
        }
    }
}

impl Lookup {
    /// Asks this app, unless another replica has.
    #[must_use]
    pub fn new(config: LookupConfig, upstream: Upstream, sessions: Option<Sessions>) -> Self {
        let known = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED)
            .expire_after(Remaining)
            .build();
        let unknown = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_live(UNKNOWN_FOR)
            .build();
        Self {
            shared: Arc::new(Shared {
                config,
                upstream,
                sessions,
                known,
                unknown,
                asking: Mutex::default(),
            }),
        }
    }

    /// Asks for a credential once, however many wait.
    async fn once<F>(&self, credential: Identity, ask: impl FnOnce() -> F) -> Option<Known>
    where
        F: Future<Output = Option<Known>>,
    {
        if self.shared.unknown.contains_key(&credential) {
            return None;
        }
        let asking = Asking::join(self, credential);
        // If this client leaves, the next one who waits asks in its place.
        let known = asking.cell.get_or_init(ask).await.clone();
        if known.is_none() {
            self.shared.unknown.insert(credential, ());
        }
        known
    }

    async fn fetch(&self, headers: &HeaderMap, seen: &Seen<'_>) -> Option<Arc<str>> {
        let answer = self.shared.upstream.send(self.request(headers, seen)).await;
        let response = match answer {
            Ok(response) if response.status() == StatusCode::OK => response,
            Ok(response) => {
                let status = response.status();
                if status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN {
                    tracing::warn!(%status, path = %self.shared.config.path, "the identity lookup failed");
                }
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.shared.config.path, "the identity lookup failed");
                return None;
            }
        };
        let bytes = body::read_limited(response.into_body(), MAX_ANSWER)
            .await
            .ok()?;
        let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let id = match json.pointer(&self.shared.config.field)? {
            serde_json::Value::String(text) if !text.is_empty() => text.clone(),
            serde_json::Value::Number(number) => capture::plain(number)?,
            serde_json::Value::String(_)
            | serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => return None,
        };
        Some(id.into())
    }

    /// A request of our own with the client's credentials. Nothing else of the client's goes along: what it asks of the app
    /// for its own request (a method override, a range, a trace) is not for this one.
    fn request(&self, headers: &HeaderMap, seen: &Seen<'_>) -> Request<Body> {
        let mut head: request::Parts = Request::new(()).into_parts().0;
        head.method = Method::GET;
        head.uri = self.shared.config.path.clone();
        let named = seen
            .live
            .identity
            .from
            .iter()
            .filter_map(|credential| match credential {
                Credential::Header(name) => Some(name),
                Credential::Cookie(_) => None,
            });
        for name in named.chain([&header::AUTHORIZATION, &header::COOKIE]) {
            head.headers.remove(name);
            for value in headers.get_all(name) {
                head.headers.append(name.clone(), value.clone());
            }
        }
        head.headers
            .insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        head.headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        if let Ok(host) = HeaderValue::from_str(seen.client.own_host()) {
            head.headers.insert(header::HOST, host);
        }
        Request::from_parts(upstream_head(&head, &seen.client, false), Body::empty())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Cell>> {
        self.shared
            .asking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One wait for a lookup. Its place among those under way goes with the last who waits, whether he got an answer or
/// left: otherwise clients that leave would fill the memory, one made-up credential each.
struct Asking<'a> {
    lookup: &'a Lookup,
    credential: Identity,
    cell: Cell,
}

impl<'a> Asking<'a> {
    fn join(lookup: &'a Lookup, credential: Identity) -> Self {
        let cell = Arc::clone(lookup.lock().entry(credential).or_default());
        Self {
            lookup,
            credential,
            cell,
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut asking = self.lookup.lock();
        drop(std::mem::take(&mut self.cell));
        // Nobody can join or leave while the map is locked: one is left, the map's own.
        if asking
            .get(&self.credential)
            .is_some_and(|cell| Arc::strong_count(cell) == 1)
        {
            asking.remove(&self.credential);
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}
