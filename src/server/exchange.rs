//! The two bodies of an exchange: the request's with its time limit, the answer's with its place in the count.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BoxError};

use super::Peer;
use super::activity::InFlight;

/// Makes hyper's request into the service's. Only a request that has a body allocates for it.
pub(super) fn request(request: Request<Incoming>, peer: Peer, timeout: Duration) -> Request<Body> {
    let (mut head, incoming) = request.into_parts();
    head.extensions.insert(peer);
    let body = if incoming.is_end_stream() {
        Body::empty()
    } else {
        Body::stream(Upload {
            incoming,
            timeout,
            silence: None,
        })
    };
    Request::from_parts(head, body)
}

/// A request's body that ends with an error when the client goes silent in the middle of it.
struct Upload {
    incoming: Incoming,
    timeout: Duration,
    /// Runs while a read waits; made by the first one that does.
    silence: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) {
            this.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timeout = this.timeout;
        let silence = this
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + timeout)));
        ready!(silence.as_mut().poll(cx));
        let error = io::Error::new(
            io::ErrorKind::TimedOut,
            "the client stopped sending the request's body",
        );
        Poll::Ready(Some(Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// An answer's body. Its request counts as in flight until this is dropped, sent or not.
///
/// When the body breaks off, what came before is sent first: an error right behind the head would make hyper close the
/// connection with both still in its buffer, and the client would see no answer where there was the beginning of one.
pub(super) struct Answer {
    body: Body,
    broken: Option<BoxError>,
    _in_flight: InFlight,
}

impl Answer {
    pub(super) fn new(body: Body, in_flight: InFlight) -> Self {
        Self {
            body,
            broken: None,
            _in_flight: in_flight,
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Err(error)) => {
                self.broken = Some(error);
                // Pending once: the connection flushes before it asks again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
