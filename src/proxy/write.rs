//! Writing: announce, forward, drop, answer. In this order, so that no reader can meet what a write made obsolete.
//!
//! Before the request is forwarded, everything it may change is announced: from then on those tags are answered by the app
//! alone. When the app has answered, what did change is dropped, and only then does the client get the answer's first
//! byte. What is not known before the answer (the id of a new booking's showtime) is announced as its whole class and
//! dropped exactly. The exchange runs in a task of its own: a client that leaves does not leave a write unsettled.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Request, Response, request};
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::Value;

use super::forward::{relay_hints, upstream_head};
use super::pass::limited;
use super::token::Place;
use super::{Answer, Error, Live, Proxy, RouteContext, Seen, Target};
use crate::body::{Body, BoxError};
use crate::capture::Values;
use crate::coherence::{End, Ended, Intent};
use crate::headers::{hop_by_hop, targeted};
use crate::key;
use crate::outcome::{Forward, Outcome, Result as Happened};
use crate::pattern::Captures;
use crate::policy::invalidation::{self, Settled};
use crate::route::{Drops, Needs};
use crate::tag::{Tag, Tags};

/// The largest JSON body that is read for its captures, in bytes. A larger one streams on, and what waits for its
/// captures is widened to its class.
const MAX_CAPTURED: usize = 64 * 1024;

/// A write on its way; owned, since it outlives its client.
struct Writing {
    live: Arc<Live>,
    route: RouteContext,
    /// None when a field of the request says that the method means another one.
    method: Option<http::Method>,
    path: String,
    host: String,
    user: Option<String>,
    /// The tags of the caller's credentials, whose owner he may not be any more.
    credentials: Tags,
    request: Option<Value>,
    /// Everything may have changed: the path cannot be read.
    everything: bool,
    /// Whether the client came by https.
    secure: bool,
}

impl Proxy {
    /// Forwards an unsafe request and drops what it made obsolete.
    pub(super) async fn write(
        &self,
        head: &request::Parts,
        body: Body,
        seen: &Seen<'_>,
        target: Target<'_>,
    ) -> Result<Answer, Error> {
        self.write_through(head, body, seen, &target, false).await
    }

    /// Forwards an unsafe request whose path no rule can read: everything may have changed.
    pub(super) async fn write_anywhere(
        &self,
        head: &request::Parts,
        body: Body,
        seen: &Seen<'_>,
        target: &Target<'_>,
    ) -> Result<Answer, Error> {
        self.write_through(head, body, seen, target, true).await
    }

    async fn write_through(
        &self,
        head: &request::Parts,
        body: Body,
        seen: &Seen<'_>,
        target: &Target<'_>,
        everything: bool,
    ) -> Result<Answer, Error> {
        if head.method == http::Method::CONNECT {
            return Err(Error::Connect);
        }
        let live = seen.live;
        let body = limited(&head.headers, body, live.max_request_body)?;
        let caller = self.identify(&head.headers, seen).await.ok().flatten();
        let method = Some(head.method.clone()).filter(|_| !is_overridden(head));
        let needs = live.needs(method.as_ref(), target.path);
        let (captured, body) = if needs.body {
            capture(&head.headers, body).await
        } else {
            (None, body)
        };
        let writing = Writing {
            credentials: self.credential_tags(&head.headers, seen),
            live: Arc::clone(live),
            route: target.route.clone(),
            method,
            path: target.path.to_owned(),
            host: seen.client.host.to_owned(),
            user: caller.map(|known| known.caller.user.to_hex()),
            request: captured,
            everything,
            secure: seen.client.secure,
        };
        let mut sent = upstream_head(head, &seen.client, false);
        if needs.response {
            // An encoded answer could not be looked into, and every write would drop whole classes.
            let identity = header::HeaderValue::from_static("identity");
            sent.headers.insert(header::ACCEPT_ENCODING, identity);
        }
        let mut request = Request::from_parts(sent, body);
        relay_hints(head, &mut request);
        let proxy = self.clone();
        let task = self
            .shared
            .tasks
            .spawn(async move { proxy.settle(writing, request).await });
        task.await.unwrap_or(Err(Error::Aborted))
    }

    /// The whole life of a write.
    async fn settle(&self, writing: Writing, request: Request<Body>) -> Result<Answer, Error> {
        let announced = writing.drops(None, &HeaderMap::new());
        let coherence = &self.shared.tools.coherence;
        let tags: Tags = announced.tags.iter().copied().collect();
        let Ok(intent) = coherence.announce(tags).await else {
            return Err(Error::Partitioned);
        };
        let _told = Told(self);
        self.shared.tools.tell_open_writes();
        let answered = self
            .ask(
                request,
                &writing.route.metrics,
                writing.live.max_request_body,
            )
            .await;
        let response = match answered {
            Ok(response) => response,
            Err(error) => {
                self.broken_off(&writing, intent, &error).await;
                return Err(error);
            }
        };
        let mut end = None;
        let response = match invalidation::settled(response.status()) {
            Settled::Refused => {
                intent.close().await;
                response
            }
            Settled::Changed => {
                let (response, ended) = self.commit(&writing, &announced, intent, response).await;
                end = Some(ended);
                response
            }
        };
        Ok(writing.answer(response, end))
    }

    /// Ends the announcement of a write that has no answer.
    async fn broken_off(&self, writing: &Writing, intent: Intent, error: &Error) {
        match error {
            Error::TooLarge { .. } | Error::SlowBody | Error::HungUp => intent.doubt().await,
            Error::Upstream(failed) if !failed.may_have_reached_app() => intent.close().await,
            Error::Upstream(_)
            | Error::Aborted
            | Error::OnlyIfCached
            | Error::Partitioned
            | Error::Connect
            | Error::PurgeForbidden
            | Error::PurgeRefused(_) => {
                self.shared.tools.metrics.coherence.unsettled.inc();
                tracing::warn!(method = ?writing.method, path = writing.path, %error,
                    "a write without a known end: what it may change stays uncached for intent_ttl");
                intent.leave_open();
            }
        }
    }

    /// Drops what the write changed, now that its answer is known.
    async fn commit(
        &self,
        writing: &Writing,
        announced: &Drops,
        intent: Intent,
        response: Response<Body>,
    ) -> (Response<Body>, Ended) {
        let (parts, mut body) = response.into_parts();
        let needs = writing.live.needs(writing.method.as_ref(), &writing.path);
        let mut captured = None;
        if needs.response {
            (captured, body) = capture(&parts.headers, body).await;
        }
        let drops = writing.drops(captured.as_ref(), &parts.headers);
        let tags: Tags = drops.tags.iter().copied().collect();
        let ended = intent.commit(tags, announced.covers(&drops)).await;
        let metrics = &self.shared.tools.metrics.coherence;
        metrics.by_write.inc();
        metrics.widened.inc_by(drops.widened.len() as u64);
        if parts.headers.contains_key("cache-group-invalidation") {
            metrics.by_header.inc();
        }
        tracing::debug!(
            method = ?writing.method,
            path = writing.path,
            position = ended.seq,
            waited = ?ended.waited,
            drops = ?drops.names,
            widened = ?drops.widened,
            "dropped"
        );
        (Response::from_parts(parts, body), ended)
    }
}

impl Writing {
    /// The answer to the client; `end` says how a committed write ended.
    fn answer(&self, response: Response<Body>, end: Option<Ended>) -> Answer {
        let mut response = strip(response);
        let detail = end
            .is_some_and(|ended| ended.end == End::Uncoordinated)
            .then_some("uncoordinated");
        // Without a place in the log there is nothing that another replica could read up to.
        if let Some(Ended {
            epoch,
            seq: seq @ 1..,
            ..
        }) = end
        {
            let tokens = self.live.session_tokens;
            Place { epoch, seq }.put(tokens, self.secure, response.headers_mut());
        }
        let outcome = Outcome {
            detail,
            ..Outcome::forwarded(Happened::Bypass, Forward::Method)
        };
        Answer::new(response, outcome)
    }

    /// What the write drops, as far as is known: before its answer with `None`, after it with its JSON and fields.
    fn drops(&self, response: Option<&Value>, answer: &HeaderMap) -> Drops {
        let table = &self.live.table;
        let mut drops = Drops::default();
        if self.everything {
            drops.tags.insert(Tag::all());
            drops.names.insert("everything".to_owned());
            return drops;
        }
        drops.tags.extend(self.credentials.iter().copied());
        let rules = table.writes_of(self.method.as_ref(), &self.path);
        for (rule, captures) in &rules {
            let values = Values {
                path: captures,
                user: self.user.as_deref(),
                body: self.request.as_ref(),
                response,
            };
            rule.drop
                .iter()
                .for_each(|item| table.drop_item(item, &values, &mut drops));
        }
        // RFC 9111 §4.4: the target itself, whatever the rules say.
        table.drop_target(&self.path, &mut drops);
        if rules.is_empty() {
            table.drop_family(&self.path, self.route.policy.unlisted_writes, &mut drops);
        }
        for path in invalidation::named_paths(&self.host, answer) {
            if let Ok(path) = key::normalise_path(&path) {
                table.drop_target(&path, &mut drops);
            }
        }
        for tag in invalidation::named_tags(answer) {
            table.drop_named(&tag, &mut drops);
        }
        drops
    }
}

impl Live {
    /// Whether the rules for a write look into its body or its answer.
    fn needs(&self, method: Option<&http::Method>, path: &str) -> Needs {
        let rules: Vec<(_, Captures<'_, '_>)> = self.table.writes_of(method, path);
        let items = rules.iter().flat_map(|(rule, _)| &rule.drop);
        items
            .map(crate::route::Item::needs)
            .fold(Needs::default(), |all, one| Needs {
                body: all.body || one.body,
                response: all.response || one.response,
            })
    }
}

/// Whether a request says that its method means another one, in a field or in the parameter of its target that some
/// frameworks heed (a form's is not looked for). Some apps listen to that, so any rule for its path may be meant.
pub(super) fn is_overridden(head: &request::Parts) -> bool {
    let named = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        key::spelling(name) == "_method"
    };
    let asked = |query: &str| query.split(['&', ';']).any(named);
    let fields = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ];
    fields.iter().any(|name| head.headers.contains_key(*name))
        || head.uri.query().is_some_and(asked)
}

fn strip(mut response: Response<Body>) -> Response<Body> {
    hop_by_hop::strip(response.headers_mut());
    targeted::strip(response.headers_mut());
    response
}

/// Reads a JSON body for its captures, if it says that it is JSON and is small; the JSON, and the body as it came.
async fn capture(headers: &HeaderMap, body: Body) -> (Option<Value>, Body) {
    let declared = http_body::Body::size_hint(&body).exact();
    let plain = !headers.contains_key(header::CONTENT_ENCODING);
    if !plain || !is_json(headers) || declared.is_some_and(|length| length > MAX_CAPTURED as u64) {
        return (None, body);
    }
    let mut read = Replayed {
        frames: VecDeque::new(),
        rest: body,
    };
    let mut text = Vec::new();
    loop {
        match read.rest.frame().await {
            None => break,
            Some(Err(error)) => {
                read.frames.push_back(Err(error));
                return (None, Body::stream(read));
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    text.extend_from_slice(data);
                }
                read.frames.push_back(Ok(frame));
            }
        }
        if text.len() > MAX_CAPTURED {
            return (None, Body::stream(read));
        }
    }
    let json = serde_json::from_slice(&text).ok();
    let trailers = read
        .frames
        .iter()
        .any(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
    let body = if trailers {
        Body::stream(read)
    } else {
        Bytes::from(text).into()
    };
    (json, body)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// A body of which the beginning has been read already.
struct Replayed {
    frames: VecDeque<Result<Frame<Bytes>, BoxError>>,
    rest: Body,
}

impl http_body::Body for Replayed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match this.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }
}

/// Brings the gauge of open writes up to date when a write is settled, in whatever way.
struct Told<'p>(&'p Proxy);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.shared.tools.tell_open_writes();
    }
}
