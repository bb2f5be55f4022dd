//! The two bodies of an exchange: the request's with its time limit, the answer's with its place in the count, and in
//! pieces over HTTP/2.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BoxError};

use super::Peer;
use super::activity::{Activity, InFlight};
use super::ending::Ending;
use super::streams::Stream;

/// Bytes of an answer handed to an HTTP/2 connection at a time. It takes whatever it is handed as soon as the client's
/// window has room for one byte, so this is what a client that reads no more can make each stream keep.
const PIECE: usize = 16 * 1024;

/// Makes hyper's request into the service's. Only a request that has a body allocates for it.
pub(super) fn request(
    request: Request<Incoming>,
    peer: Peer,
    (timeout, activity): (Duration, &Arc<Activity>),
) -> Request<Body> {
    let (mut head, incoming) = request.into_parts();
    head.extensions.insert(peer);
    let body = if incoming.is_end_stream() {
        Body::empty()
    } else {
        Body::stream(Upload {
            incoming,
            timeout,
            silence: None,
            activity: Arc::clone(activity),
            shared: head.version == Version::HTTP_2,
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
    activity: Arc<Activity>,
    /// Whether other requests are on the same connection.
    shared: bool,
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
        this.activity.metrics().refused_body_timeout.inc();
        if !this.shared {
            // What is left of the body stands before the next request: hyper closes.
            this.activity.blame(Ending::BodyTimeout);
        }
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
    /// Bytes still to be handed over, if that is known: hyper asks for no more than it has announced.
    left: Option<u64>,
    /// What is left of a large chunk; only over HTTP/2.
    rest: Bytes,
    stream: Option<Arc<Stream>>,
    /// Whether the roster's sweep looks at the stream.
    watched: bool,
    in_flight: InFlight,
}

impl Answer {
    pub(super) fn new(body: Body, mut in_flight: InFlight, http2: bool) -> Self {
        let left = body.size_hint().exact();
        in_flight.answers();
        if body.is_end_stream() {
            in_flight.is_over();
        }
        Self {
            body,
            broken: None,
            left,
            rest: Bytes::new(),
            stream: if http2 { Stream::current() } else { None },
            watched: false,
            in_flight,
        }
    }

    /// Notes a piece that is handed over: from here on it is the client's turn.
    fn hand_over(&mut self, size: usize) {
        self.left = self.left.map(|left| left.saturating_sub(size as u64));
        if self.left == Some(0) || self.is_end_stream() {
            self.in_flight.is_over();
        }
        if let Some(stream) = &self.stream {
            stream.turn(true);
            if !self.watched {
                self.watched = true;
                self.in_flight.activity().streams.watch(stream);
            }
        }
    }

    /// The next piece of the body.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.rest.is_empty() {
            let size = self.rest.len().min(PIECE);
            return Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(size)))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if self.stream.is_none() {
            return Poll::Ready(frame);
        }
        let cut = |mut data: Bytes| {
            self.rest = data.split_off(data.len().min(PIECE));
            data
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(cut))))
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
        if let Some(stream) = &self.stream {
            stream.turn(false);
        }
        match ready!(self.poll_piece(cx)) {
            Some(Err(error)) => {
                self.in_flight.is_over();
                self.broken = Some(error);
                // Pending once: the connection flushes before it asks again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Ok(frame)) => {
                self.hand_over(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                self.in_flight.is_over();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() {
            return self.body.size_hint();
        }
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole.set_lower(hint.lower() + rest);
        whole
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.as_ref().filter(|_| self.watched) {
            self.in_flight.activity().streams.forget(stream);
        }
    }
}
