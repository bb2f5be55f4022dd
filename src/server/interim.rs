//! Interim answers on their way to an HTTP/1.1 client (RFC 9110 §15.2, RFC 8297).
//!
//! hyper's server writes one head per request, so these bytes go past it: whoever answers a request puts interim heads
//! into the [`Slot`] of its connection, through the [`Hints`] that the request carries, and the connection's
//! [`Io`](super::stream::Io) writes them at a moment when nothing of hyper's is half-written.
//!
//! That moment is hyper's call to flush: its HTTP/1 side makes it only when its own buffer is empty. Whose answer would
//! come next is known then, too: requests begin and end in the task that flushes, and an interim head is written only
//! while its own request is open. So it never lands in another answer, nor behind the final head.
//!
//! **Promises.** A request that nobody has a hint for pays a few relaxed operations. What waits is bounded
//! ([`MOST`], [`LARGEST`]). A client that does not read loses hints, not answers: they are only advice.
//!
//! HTTP/1.0 has no interim answers (§15.2). HTTP/2 has, and h2 could send them, but hyper does not hand the stream out:
//! there they are dropped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use http::{HeaderMap, StatusCode};

use super::activity::Activity;

/// Interim answers to one request.
const MOST: usize = 8;
/// Their bytes.
const LARGEST: usize = 16 * 1024;

/// Where the interim answers to one request go.
#[derive(Clone, Debug)]
pub struct Hints {
    activity: Arc<Activity>,
    request: u64,
}

/// The interim answers of one connection that wait to be written.
#[derive(Debug)]
pub(super) struct Slot {
    /// Counts beginnings and ends of requests: odd while one is open. Only the connection's task changes it.
    request: AtomicU64,
    waiting: AtomicBool,
    /// Behind a mutex: taken for an interim answer, and by no request that has none.
    state: Mutex<State>,
    /// Of the connection's task.
    waker: Waker,
}

#[derive(Debug, Default)]
struct State {
    /// The request that this is about.
    request: u64,
    count: usize,
    size: usize,
    bytes: Vec<u8>,
}

impl Hints {
    /// Opens the next request of a connection.
    pub(super) fn open(activity: &Arc<Activity>) -> Self {
        Self {
            request: activity.interim.begin(),
            activity: Arc::clone(activity),
        }
    }

    /// Hands an interim answer over; whether it has a chance of being sent. Fields must be end to end.
    pub fn offer(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let slot = &self.activity.interim;
        if slot.request.load(Relaxed) != self.request {
            return false;
        }
        let mut state = slot.lock();
        if state.request != self.request {
            *state = State {
                request: self.request,
                ..State::default()
            };
        }
        let before = state.bytes.len();
        write_head(&mut state.bytes, status, headers);
        let size = state.bytes.len() - before;
        if state.count == MOST || state.size + size > LARGEST {
            state.bytes.truncate(before);
            return false;
        }
        state.count += 1;
        state.size += size;
        drop(state);
        self.activity.metrics().interim.inc();
        slot.waiting.store(true, Relaxed);
        slot.wake();
        true
    }
}

/// RFC 9112 §4, §5. What the types let through has neither CR nor LF.
fn write_head(bytes: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
}

impl Slot {
    /// A slot of the connection whose task this waker wakes.
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            request: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            state: Mutex::default(),
            waker,
        }
    }

    /// Opens the next request, and gives its number.
    fn begin(&self) -> u64 {
        let request = (self.request.load(Relaxed) + 1) | 1;
        self.request.store(request, Relaxed);
        request
    }

    /// Closes the request that is open, if one is: its final head comes next, or nothing any more.
    pub(super) fn end(&self) {
        let request = self.request.load(Relaxed);
        if request % 2 == 1 {
            self.request.store(request + 1, Relaxed);
        }
    }

    /// Wakes the connection's task.
    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// Whether there may be something to write.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// What is to be written now, before anything else.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        if !self.is_waiting() {
            return None;
        }
        let mut state = self.lock();
        self.waiting.store(false, Relaxed);
        let bytes = std::mem::take(&mut state.bytes);
        // Put in by a request that was open at the time, and may have ended since.
        (state.request == self.request.load(Relaxed) && !bytes.is_empty()).then_some(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn links() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("link", HeaderValue::from_static("</a.css>; rel=preload"));
        headers
    }

    fn connection() -> Arc<Activity> {
        let metrics = crate::metrics::ServerMetrics::unexported().unwrap();
        Arc::new(Activity::new(Arc::new(metrics), Waker::noop().clone()))
    }

    fn offer(hints: &Hints) -> bool {
        hints.offer(StatusCode::EARLY_HINTS, &links())
    }

    #[test]
    fn a_hint_is_a_head_of_its_own() {
        let activity = connection();
        let slot = &activity.interim;
        let hints = Hints::open(&activity);
        assert!(offer(&hints));
        assert_eq!(
            slot.take().unwrap(),
            b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
        );
        assert_eq!(slot.take(), None);
    }

    #[test]
    fn a_hint_belongs_to_one_request_and_dies_with_it() {
        let activity = connection();
        let slot = &activity.interim;
        let first = Hints::open(&activity);
        assert!(offer(&first));
        slot.end();
        assert_eq!(slot.take(), None, "the final head has been written");
        assert!(!offer(&first));
        let second = Hints::open(&activity);
        assert!(!offer(&first), "another's answer comes next");
        assert_eq!(slot.take(), None);
        assert!(offer(&second));
        assert!(slot.take().is_some());
    }

    #[test]
    fn a_flood_of_hints_is_cut() {
        let activity = connection();
        let slot = &activity.interim;
        let hints = Hints::open(&activity);
        let taken = (0..100).filter(|_| offer(&hints)).count();
        assert_eq!(taken, MOST);
        slot.end();
        let hints = Hints::open(&activity);
        let mut large = HeaderMap::new();
        large.insert("x", HeaderValue::try_from("y".repeat(LARGEST / 2)).unwrap());
        assert!(hints.offer(StatusCode::EARLY_HINTS, &large));
        assert!(!hints.offer(StatusCode::EARLY_HINTS, &large));
        assert!(offer(&hints), "there is room for a small one");
    }
}
