//! Who is asking: by the credential, or by the id that the app gives for it.
//!
//! With `[identity] lookup`, the app is asked once per credential who its owner is, so that one user's two devices share
//! entries and drops. The answer is kept for a while in a small cache of its own. If the app cannot say, the request is
//! treated as nobody's: a read is not answered from the cache, and a write drops the whole class, because an identity
//! made of the credential alone would miss what was stored under the id.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Uri, request};
use tokio::sync::OnceCell;

use super::forward::upstream_head;
use super::{Proxy, Seen};
use crate::body::{self, Body};
use crate::identity::{Caller, Credential, Identity};
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
type Cell = Arc<OnceCell<Option<Arc<str>>>>;

struct Shared {
    config: LookupConfig,
    upstream: Upstream,
    known: moka::sync::Cache<Identity, Arc<str>>,
    unknown: moka::sync::Cache<Identity, ()>,
    /// Lookups under way, so that a burst of one user's requests asks once. A standard mutex: held for a map operation.
    asking: Mutex<HashMap<Identity, Cell>>,
    /// How often something was forgotten: an answer that was asked for before is not kept after.
    forgotten: AtomicU64,
}

/// The app could not say who is asking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unknown;

impl Proxy {
    /// Who is asking; `None` for a caller without credentials.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        seen: &Seen<'_>,
    ) -> Result<Option<Caller>, Unknown> {
        let identity = &seen.live.identity;
        let Some(caller) = identity.key.identify(headers, &identity.from) else {
            return Ok(None);
        };
        let Some(lookup) = &self.shared.tools.lookup else {
            return Ok(Some(caller));
        };
        match lookup.shared.known.get(&caller.key) {
            Some(id) => Ok(Some(identity.key.known(&id))),
            None => {
                let id = Box::pin(lookup.ask(caller.key, headers, seen))
                    .await
                    .ok_or(Unknown)?;
                Ok(Some(identity.key.known(&id)))
            }
        }
    }
}

impl Proxy {
    /// Forgets whose the request's credential is, after a write that may have ended it.
    pub(super) fn forget_caller(&self, credential: Option<&Identity>) {
        if let (Some(lookup), Some(credential)) = (&self.shared.tools.lookup, credential) {
            lookup.forget(credential);
        }
    }
}

impl Lookup {
    /// Asks this app.
    #[must_use]
    pub fn new(config: LookupConfig, upstream: Upstream) -> Self {
        let known = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_live(config.ttl)
            .build();
        let unknown = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_live(UNKNOWN_FOR)
            .build();
        Self {
            shared: Arc::new(Shared {
                config,
                upstream,
                known,
                unknown,
                asking: Mutex::default(),
                forgotten: AtomicU64::new(0),
            }),
        }
    }

    /// The id of a credential's owner, asked for once however many wait.
    async fn ask(
        &self,
        credential: Identity,
        headers: &HeaderMap,
        seen: &Seen<'_>,
    ) -> Option<Arc<str>> {
        if self.shared.unknown.contains_key(&credential) {
            return None;
        }
        let before = self.shared.forgotten.load(Ordering::Acquire);
        let asking = Asking::join(self, credential);
        // If this client leaves, the next one who waits asks in its place.
        let id = asking
            .cell
            .get_or_init(|| self.fetch(headers, seen))
            .await
            .clone();
        match &id {
            Some(id) => self.shared.known.insert(credential, Arc::clone(id)),
            None => self.shared.unknown.insert(credential, ()),
        }
        if self.shared.forgotten.load(Ordering::Acquire) != before {
            // It may be from before the write. This request was under way then; later ones ask again.
            self.shared.known.invalidate(&credential);
        }
        id
    }

    /// Forgets whose a credential is: its owner has written something, maybe a logout or a new password.
    fn forget(&self, credential: &Identity) {
        self.shared.forgotten.fetch_add(1, Ordering::AcqRel);
        self.shared.known.invalidate(credential);
        self.shared.unknown.invalidate(credential);
        self.lock().remove(credential);
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
            serde_json::Value::Number(number) => number.to_string(),
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
