//! The request on its way out: its form, its body's progress, the clock for its answer, and its copy for a retry.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::body::{Body, BoxError};

use super::trailers;

/// A request's body, which tells its [`Upload`] how far it is.
pub(super) struct Outgoing {
    body: Body,
    upload: Option<Arc<Upload>>,
}

/// How far a request's body is.
#[derive(Debug)]
pub(super) struct Upload {
    started: Instant,
    /// When the last piece went out, in milliseconds since `started`.
    moved: AtomicU64,
    state: AtomicU8,
}

/// The connection has what there was, or has not begun.
const SENDING: u8 = 0;
/// The connection wants more, and the client has not sent it yet.
const AWAITING_CLIENT: u8 = 1;
const FINISHED: u8 = 2;
const FAILED: u8 = 3;

impl Upload {
    fn begin() -> Self {
        Self {
            started: Instant::now(),
            moved: AtomicU64::new(0),
            state: AtomicU8::new(SENDING),
        }
    }

    fn note(&self, frame: &Poll<Option<Result<Frame<Bytes>, BoxError>>>) {
        let state = match frame {
            Poll::Pending => AWAITING_CLIENT,
            Poll::Ready(Some(Err(_))) => FAILED,
            Poll::Ready(Some(Ok(_)) | None) => SENDING,
        };
        if frame.is_ready() {
            let elapsed = self.started.elapsed().as_millis();
            self.moved
                .store(u64::try_from(elapsed).unwrap_or(u64::MAX), Relaxed);
        }
        self.state.store(state, Relaxed);
    }

    fn last_moved(&self) -> Instant {
        self.started + Duration::from_millis(self.moved.load(Relaxed))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state.load(Relaxed) == FINISHED
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state.load(Relaxed) == FAILED
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(upload) = &self.upload {
            upload.note(&frame);
        }
        if let Poll::Ready(Some(Ok(frame))) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            trailers::keep_harmless(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    /// A connection that lives drops a body only when it needs no more of it: not every body is read up to a `None`.
    fn drop(&mut self) {
        if let Some(upload) = &self.upload
            && !upload.has_failed()
        {
            upload.state.store(FINISHED, Relaxed);
        }
    }
}

/// Gives a request the form it is written in: HTTP/1.1, origin-form target. `None` for the body means it has none.
pub(super) fn prepare(request: Request<Body>) -> (Request<Outgoing>, Option<Arc<Upload>>) {
    let (mut head, body) = request.into_parts();
    head.version = Version::HTTP_11;
    if head.uri.scheme().is_some() || head.uri.authority().is_some() {
        head.uri = head
            .uri
            .path_and_query()
            .cloned()
            .map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    frame(&mut head.headers, &body);
    let upload = (!body.is_end_stream()).then(|| Arc::new(Upload::begin()));
    (
        Request::from_parts(
            head,
            Outgoing {
                body,
                upload: upload.clone(),
            },
        ),
        upload,
    )
}

/// Says where the body ends (RFC 9112 §6.3) by what the body itself knows. What the client said about it, perhaps in another
/// protocol and perhaps twice, must not reach an app that may believe another half of it.
fn frame(headers: &mut HeaderMap, body: &Body) {
    let had_length = headers.remove(header::CONTENT_LENGTH).is_some();
    headers.remove(header::TRANSFER_ENCODING);
    match body.size_hint().exact() {
        Some(0) if !had_length => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            // Said aloud: hyper leaves the body of a GET out if nothing announces it.
            let chunked = HeaderValue::from_static("chunked");
            headers.insert(header::TRANSFER_ENCODING, chunked);
        }
    }
}

/// A copy to send should the first be lost; only of a request that may be repeated (RFC 9110 §9.2.2) and has no body.
pub(super) fn repeatable(request: &Request<Outgoing>) -> Option<Request<Outgoing>> {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    if !idempotent || request.body().upload.is_some() {
        return None;
    }
    let mut copy = Request::new(Outgoing {
        body: Body::empty(),
        upload: None,
    });
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Bounds the wait for a response's head.
pub(super) struct HeadClock {
    timeout: Duration,
    started: Instant,
    upload: Option<Arc<Upload>>,
}

impl HeadClock {
    pub(super) fn start(timeout: Duration, upload: Option<Arc<Upload>>) -> Self {
        Self {
            timeout,
            started: Instant::now(),
            upload,
        }
    }

    /// What the future gives, or `None` when the app has had its time.
    ///
    /// Cancel safe as far as the future is.
    pub(super) async fn bound<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut deadline = self.started + self.timeout;
        loop {
            if let Ok(output) = timeout_at(deadline, &mut future).await {
                return Some(output);
            }
            deadline = self.extended(deadline)?;
        }
    }

    /// A later deadline, if the app was not what was waited for.
    fn extended(&self, deadline: Instant) -> Option<Instant> {
        let upload = self.upload.as_ref()?;
        if upload.state.load(Relaxed) == AWAITING_CLIENT {
            // Whoever gave us the body bounds this.
            return Some(Instant::now() + self.timeout);
        }
        let later = upload.last_moved() + self.timeout;
        (later > deadline).then_some(later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_itself_says_where_it_ends() {
        let stream = || Body::stream(http_body_util::StreamBody::new(Never));
        for (body, claims, expected) in [
            (Body::empty(), &[][..], &[][..]),
            (
                Body::empty(),
                &[("content-length", "5")],
                &[("content-length", "0")],
            ),
            (Body::empty(), &[("transfer-encoding", "chunked")], &[]),
            (
                "abc".into(),
                &[("content-length", "5"), ("content-length", "6")],
                &[("content-length", "3")],
            ),
            (
                stream(),
                &[("content-length", "5")],
                &[("transfer-encoding", "chunked")],
            ),
        ] {
            let mut request = Request::builder();
            for (name, value) in claims {
                request = request.header(*name, *value);
            }
            let (written, _) = prepare(request.body(body).unwrap());
            let fields: Vec<(&str, &str)> = (written.headers().iter())
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            assert_eq!(fields, expected, "{claims:?}");
        }
    }

    struct Never;

    impl futures_core::Stream for Never {
        type Item = Result<Frame<Bytes>, BoxError>;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Pending
        }
    }
}
