//! A response: whether its head can be believed, and its body, which holds its connection until it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, Version, response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::body::BoxError;

use super::error::{Error, Kind};
use super::pool::Lease;

/// Whether a response's head can be taken for what it says. Nobody switches protocols unasked; and hyper undoes
/// `chunked` alone, so that any other transfer coding would be passed on as if it were the content.
pub(super) fn is_sound(status: StatusCode, headers: &HeaderMap, asked_to_switch: bool) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coded = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => !coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    };
    !coded && (asked_to_switch || status != StatusCode::SWITCHING_PROTOCOLS)
}

/// Takes out a length that the chunks have overruled (RFC 9112 §6.3), and notes in `Via` by whom the response came
/// (RFC 9110 §7.6.3): here, once, so that what is stored has it already.
pub(super) fn receive(head: &mut response::Parts) {
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let via = match head.version {
        Version::HTTP_10 => "1.0 reprise",
        _ => "1.1 reprise",
    };
    head.headers
        .append(header::VIA, HeaderValue::from_static(via));
}

/// A response's body. It ends cleanly only where the app ended it, and fails when the app goes silent.
pub(super) struct Answer {
    incoming: Incoming,
    /// `None` once the body has ended, either way.
    lease: Option<Lease>,
    timeout: Duration,
    peer: Arc<str>,
    /// Runs while a read waits; made by the first one that does.
    silence: Option<Pin<Box<Sleep>>>,
    /// Whether `silence` runs for the read that waits now.
    waiting: bool,
}

impl Answer {
    pub(super) fn new(
        incoming: Incoming,
        lease: Lease,
        (timeout, peer): (Duration, Arc<str>),
    ) -> Self {
        Self {
            incoming,
            lease: Some(lease),
            timeout,
            peer,
            silence: None,
            waiting: false,
        }
    }

    fn fail(
        &mut self,
        kind: Kind,
        source: Option<BoxError>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.lease = None;
        Poll::Ready(Some(Err(Error::new(kind, &self.peer, source).into())))
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = || Instant::now() + self.timeout;
        let silence = self.silence.get_or_insert_with(|| {
            self.waiting = true;
            Box::pin(tokio::time::sleep_until(deadline()))
        });
        if !self.waiting {
            self.waiting = true;
            silence.as_mut().reset(Instant::now() + self.timeout);
        }
        silence.as_mut().poll(cx)
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.lease.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = false;
                if this.incoming.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.fail(Kind::Truncated, Some(error.into())),
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => match this.poll_silence(cx) {
                Poll::Ready(()) => this.fail(Kind::Stalled, None),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none() || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
