//! A response: whether its head can be believed, and its body, which holds its connection until it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Version, response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::body::BoxError;

use super::error::{Error, Kind};
use super::pool::Lease;
use super::trailers;

/// Whether a response's head can be taken for what it says. Nobody switches protocols unasked; hyper undoes `chunked`
/// alone, so that any other transfer coding would be passed on as if it were the content; no status is above 599
/// (RFC 9110 §15), and what caches make of one is anybody's guess.
pub(super) fn is_sound<B>(response: &Response<B>, asked_to_switch: bool) -> bool {
    let (status, headers) = (response.status(), response.headers());
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coded = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => !coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    };
    // RFC 9112 §6.3: whoever sends both may be hiding one response in another.
    let two_lengths = headers.contains_key(header::TRANSFER_ENCODING)
        && headers.contains_key(header::CONTENT_LENGTH);
    !coded
        && !two_lengths
        && status.as_u16() < 600
        && (asked_to_switch || status != StatusCode::SWITCHING_PROTOCOLS)
        && length(headers).is_ok()
}

/// The one length of a head (RFC 9110 §8.6): several that agree are one, several that do not are none.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Unreadable> {
    let mut length = None;
    for line in headers.get_all(header::CONTENT_LENGTH) {
        for element in line.as_bytes().split(|byte| *byte == b',') {
            let digits = element.trim_ascii();
            let is_number = digits.iter().all(u8::is_ascii_digit);
            let number = str::from_utf8(digits).ok().filter(|_| is_number);
            let number = number.and_then(|number| number.parse::<u64>().ok());
            let number = number.ok_or(Unreadable)?;
            if length.is_some_and(|length| length != number) {
                return Err(Unreadable);
            }
            length = Some(number);
        }
    }
    Ok(length)
}

/// A length that is none.
#[derive(Debug)]
struct Unreadable;

/// Whether the app may yet send content that hyper does not read: what has none by definition (RFC 9112 §6.3) announces
/// some, or was asked for by a HEAD. Apps behind servers that leave the content of a HEAD to them do send it. Whatever came
/// would be taken for the answer to the next request, so there must not be one.
pub(super) fn may_go_on<B>(response: &Response<B>, was_head: bool) -> bool {
    let headers = response.headers();
    let length = length(headers).unwrap_or(None);
    let announces =
        headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length > 0);
    match response.status() {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => announces,
        _ => was_head && (announces || length.is_none()),
    }
}

/// Leaves one length in a head, or none where the chunks overrule it (RFC 9112 §6.3) or the status allows none
/// (RFC 9110 §8.6), and notes in `Via` by whom the response came (RFC 9110 §7.6.3): here, once, so that what is stored has
/// it already.
pub(super) fn receive(head: &mut response::Parts) {
    let is_ruled_out = head.headers.contains_key(header::TRANSFER_ENCODING)
        || head.status == StatusCode::NO_CONTENT
        || head.status.is_informational();
    match length(&head.headers) {
        Ok(Some(length)) if !is_ruled_out => {
            let length = HeaderValue::from(length);
            head.headers.insert(header::CONTENT_LENGTH, length);
        }
        _ => {
            head.headers.remove(header::CONTENT_LENGTH);
        }
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
            Poll::Ready(Some(Ok(mut frame))) => {
                this.waiting = false;
                let is_nothing = frame
                    .trailers_mut()
                    .is_some_and(|trailers| !trailers::keep_harmless(trailers));
                if is_nothing || this.incoming.is_end_stream() {
                    this.finish();
                }
                Poll::Ready((!is_nothing).then_some(Ok(frame)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, fields: &[(&str, &str)]) -> Response<()> {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap()
    }

    #[test]
    fn a_head_that_says_two_things_is_not_believed() {
        for (status, fields, sound) in [
            (200, &[][..], true),
            (599, &[], true),
            (600, &[], false),
            (101, &[], false),
            (200, &[("content-length", "3, 3")], true),
            (200, &[("content-length", "3, 4")], false),
            (304, &[("content-length", "+3")], false),
            (
                304,
                &[("content-length", "3"), ("content-length", "4")],
                false,
            ),
            (200, &[("transfer-encoding", "gzip, chunked")], false),
        ] {
            let response = response(status, fields);
            assert_eq!(is_sound(&response, false), sound, "{status} {fields:?}");
        }
    }

    #[test]
    fn lengths_that_agree_become_one_and_those_without_meaning_go() {
        for (status, fields, left) in [
            (200, &[("content-length", "03, 3")][..], Some("3")),
            (
                200,
                &[("content-length", "3"), ("content-length", "3")],
                Some("3"),
            ),
            (304, &[("content-length", "3")], Some("3")),
            (204, &[("content-length", "0")], None),
            (
                200,
                &[("content-length", "3"), ("transfer-encoding", "chunked")],
                None,
            ),
        ] {
            let (mut head, ()) = response(status, fields).into_parts();
            receive(&mut head);
            let lengths: Vec<&HeaderValue> =
                head.headers.get_all("content-length").iter().collect();
            assert_eq!(lengths, Vec::from_iter(left), "{status} {fields:?}");
        }
    }

    #[test]
    fn a_connection_on_which_more_may_come_is_known() {
        for (status, was_head, fields, more) in [
            (200, false, &[("content-length", "3")][..], false),
            (200, true, &[("content-length", "3")], true),
            (200, true, &[], true),
            (200, true, &[("content-length", "0")], false),
            (304, false, &[], false),
            (304, false, &[("content-length", "3")], true),
            (204, false, &[("content-length", "0")], false),
            (204, false, &[("transfer-encoding", "chunked")], true),
        ] {
            let response = response(status, fields);
            assert_eq!(may_go_on(&response, was_head), more, "{status} {fields:?}");
        }
    }
}
