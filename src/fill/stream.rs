//! One body, read by many while it arrives.
//!
//! The writer appends chunks; each reader has a place of its own and sees the first bytes at once. As long as the body
//! may still be stored, all of it is kept and nobody waits for anybody: a slow client slows no one. Once it has grown
//! beyond what may be stored, chunks are let go when every reader is past them, no new reader is admitted, and the writer
//! waits for the slowest, so that memory stays bounded.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::Notify;

use crate::body::BoxError;

/// How many bytes the writer may be ahead of the slowest reader once the body is too large to be stored.
const AHEAD: usize = 256 * 1024;

/// A body that is arriving.
#[derive(Clone)]
pub struct Arriving {
    shared: Arc<Shared>,
}

struct Shared {
    /// A standard mutex: held to append a chunk or to take one, never across an await.
    state: Mutex<State>,
    /// Wakes the writer when a reader has moved on or gone.
    moved: Notify,
    limit: usize,
}

#[derive(Default)]
struct State {
    chunks: Vec<Bytes>,
    /// How many chunks before `chunks[0]` have been let go.
    gone: usize,
    /// Bytes in `chunks`.
    held: usize,
    /// Bytes that have come in all.
    total: usize,
    overflowed: bool,
    end: Option<End>,
    readers: Vec<Place>,
    next_reader: u64,
}

struct Place {
    reader: u64,
    next: usize,
    waker: Option<Waker>,
}

#[derive(Clone)]
enum End {
    Complete(Option<HeaderMap>),
    Broken(String),
}

/// Nobody reads any more, and what comes cannot be stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Abandoned;

impl Arriving {
    /// A body of which at most `limit` bytes may be stored.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            moved: Notify::new(),
            limit,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Appends a chunk; whether the body has now grown too large to be stored.
    pub fn push(&self, chunk: Bytes) -> bool {
        let mut state = self.shared.lock();
        state.append(chunk, self.shared.limit);
        state.overflowed
    }

    /// Waits until there is room for a chunk: at once, unless the body is too large to be stored and readers are behind.
    ///
    /// # Errors
    ///
    /// [`Abandoned`] when it is too large and there is no reader left.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn room(&self) -> Result<(), Abandoned> {
        loop {
            let moved = self.shared.moved.notified();
            match self.shared.lock().room() {
                Room::Enough => return Ok(()),
                Room::Nobody => return Err(Abandoned),
                Room::Wait => {}
            }
            moved.await;
        }
    }

    /// Ends the body, whole.
    pub fn complete(&self, trailers: Option<HeaderMap>) {
        self.shared.lock().finish(End::Complete(trailers));
    }

    /// Ends the body before its end: readers see an error, and their clients a broken transfer.
    pub fn break_off(&self, reason: &str) {
        self.shared.lock().finish(End::Broken(reason.to_owned()));
    }

    /// The whole body, if it is complete and was never too large to be stored.
    #[must_use]
    pub fn whole(&self) -> Option<Bytes> {
        let state = self.shared.lock();
        if state.overflowed || !matches!(state.end, Some(End::Complete(_))) {
            return None;
        }
        Some(match state.chunks.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut whole = BytesMut::with_capacity(state.total);
                many.iter().for_each(|chunk| whole.extend_from_slice(chunk));
                whole.freeze()
            }
        })
    }

    /// A reader from the first byte; `None` when the first bytes have been let go.
    #[must_use]
    pub fn reader(&self) -> Option<Reader> {
        let mut state = self.shared.lock();
        if state.overflowed {
            return None;
        }
        let reader = state.next_reader;
        state.next_reader += 1;
        state.readers.push(Place {
            reader,
            next: 0,
            waker: None,
        });
        drop(state);
        Some(Reader {
            shared: Arc::clone(&self.shared),
            reader,
        })
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Arriving")
            .field("total", &state.total)
            .field("ended", &state.end.is_some())
            .finish()
    }
}

enum Room {
    Enough,
    Wait,
    Nobody,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, chunk: Bytes, limit: usize) {
        self.total += chunk.len();
        self.held += chunk.len();
        self.overflowed |= self.total > limit;
        self.chunks.push(chunk);
        self.let_go();
        self.wake();
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake();
    }

    fn wake(&mut self) {
        self.readers
            .iter_mut()
            .filter_map(|place| place.waker.take())
            .for_each(Waker::wake);
    }

    fn room(&self) -> Room {
        if !self.overflowed {
            Room::Enough
        } else if self.readers.is_empty() {
            Room::Nobody
        } else if self.held <= AHEAD {
            Room::Enough
        } else {
            Room::Wait
        }
    }

    /// Lets chunks go that every reader is past, once the body cannot be stored any more.
    fn let_go(&mut self) {
        if !self.overflowed {
            return;
        }
        let behind = self
            .readers
            .iter()
            .map(|place| place.next)
            .min()
            .unwrap_or(self.gone + self.chunks.len());
        let count = behind.saturating_sub(self.gone).min(self.chunks.len());
        for chunk in self.chunks.drain(..count) {
            self.held -= chunk.len();
        }
        self.gone += count;
    }
}

/// One reader's view of the body.
pub struct Reader {
    shared: Arc<Shared>,
    reader: u64,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let Some(place) = state
            .readers
            .iter_mut()
            .find(|place| place.reader == self.reader)
        else {
            return Poll::Ready(None);
        };
        if let Some(chunk) = state.chunks.get(place.next - state.gone).cloned() {
            place.next += 1;
            let overflowed = state.overflowed;
            state.let_go();
            drop(guard);
            if overflowed {
                self.shared.moved.notify_waiters();
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match state.end.clone() {
            None => {
                place.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Broken(reason)) => Poll::Ready(Some(Err(reason.into()))),
            Some(End::Complete(trailers)) => {
                state.readers.retain(|place| place.reader != self.reader);
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.readers.retain(|place| place.reader != self.reader);
        state.let_go();
        drop(state);
        self.shared.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use tokio_test_poll::poll_once;

    /// Polls a future once.
    mod tokio_test_poll {
        use std::task::{Context, Poll, Waker};

        pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
            std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
        }
    }

    async fn next(reader: &mut Reader) -> Option<Result<Bytes, String>> {
        let frame = reader.frame().await?;
        Some(
            frame
                .map(|frame| frame.into_data().unwrap_or_default())
                .map_err(|error| error.to_string()),
        )
    }

    #[tokio::test]
    async fn a_second_reader_sees_the_first_bytes_at_once() {
        let body = Arriving::new(100);
        assert!(!body.push("one".into()));
        let mut late = body.reader().expect("a reader");
        assert_eq!(next(&mut late).await, Some(Ok("one".into())));
        assert!(poll_once(&mut Box::pin(next(&mut late))).is_pending());
        assert!(!body.push("two".into()));
        body.complete(None);
        assert_eq!(next(&mut late).await, Some(Ok("two".into())));
        assert_eq!(next(&mut late).await, None);
        assert_eq!(body.whole(), Some("onetwo".into()));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error_and_never_whole() {
        let body = Arriving::new(100);
        let mut reader = body.reader().expect("a reader");
        assert!(!body.push("one".into()));
        body.break_off("connection closed");
        assert_eq!(next(&mut reader).await, Some(Ok("one".into())));
        assert_eq!(
            next(&mut reader).await,
            Some(Err("connection closed".into()))
        );
        assert_eq!(body.whole(), None);
    }

    #[tokio::test]
    async fn beyond_the_limit_the_slowest_reader_sets_the_pace() {
        let body = Arriving::new(10);
        let mut reader = body.reader().expect("a reader");
        assert!(body.push(vec![0; AHEAD].into()), "too large to be stored");
        assert_eq!(body.room().await, Ok(()), "as far ahead as allowed");
        assert!(body.reader().is_none(), "the first bytes may be gone");
        body.push("x".into());
        let mut room = Box::pin(body.room());
        assert!(poll_once(&mut room).is_pending());
        assert_eq!(
            next(&mut reader)
                .await
                .map(|chunk| chunk.map(|chunk| chunk.len())),
            Some(Ok(AHEAD))
        );
        assert_eq!(room.await, Ok(()));
        drop(reader);
        assert_eq!(body.room().await, Err(Abandoned));
    }

    #[tokio::test]
    async fn readers_that_leave_do_not_stop_what_can_be_stored() {
        let body = Arriving::new(100);
        drop(body.reader());
        assert!(!body.push("one".into()));
        body.complete(None);
        assert_eq!(body.whole(), Some("one".into()));
    }
}
