//! HTTP/2 streams whose answer waits for the client, and the end of those that wait too long.
//!
//! A client may keep the window of a stream shut for ever while the connection is well: its answer would hold a place
//! with the app and a part of memory just as long. The connection cannot be cut for it, since other clients may share it
//! (a proxy in front puts them all on one). So each stream is a task that can be ended alone: h2 then resets the stream.
//!
//! In: what the answer's body hands over and is asked for. Out: the end of the task, ordered by the roster's sweep.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// The stream that this task answers.
    static CURRENT: Arc<Stream>;
}

/// One stream: whose turn it is, and the way to end it.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Counts the turns: odd while a piece of the answer waits for the client.
    turns: AtomicU64,
    end: CancellationToken,
}

impl Stream {
    /// The stream of the task that this runs in.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Runs a stream's task to its end, or until it is ended from outside.
    pub(super) async fn drive(task: impl Future) {
        let stream = Arc::<Self>::default();
        let end = stream.end.clone();
        CURRENT
            .scope(stream, async {
                end.run_until_cancelled(task).await;
            })
            .await;
    }

    /// The client's turn, when a piece has been handed over; ours, when the next one is asked for.
    pub(super) fn turn(&self, of_client: bool) {
        let turns = self.turns.load(Relaxed);
        if of_client != is_clients(turns) {
            self.turns.store(turns + 1, Relaxed);
        }
    }
}

const fn is_clients(turns: u64) -> bool {
    turns % 2 == 1
}

/// The streams of one connection that have waited for the client at least once.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Behind a mutex: taken when an answer begins to stream, when it ends, and by the sweep.
    watched: Mutex<Vec<Watched>>,
}

#[derive(Debug)]
struct Watched {
    stream: Arc<Stream>,
    turns: u64,
    /// When `turns` was first seen.
    since: Instant,
}

impl Streams {
    pub(super) fn watch(&self, stream: &Arc<Stream>) {
        self.lock().push(Watched {
            stream: Arc::clone(stream),
            turns: 0,
            since: Instant::now(),
        });
    }

    pub(super) fn forget(&self, stream: &Arc<Stream>) {
        let mut watched = self.lock();
        if let Some(place) = watched
            .iter()
            .position(|known| Arc::ptr_eq(&known.stream, stream))
        {
            watched.swap_remove(place);
        }
    }

    /// Ends the streams that have waited for their client since before `limit`; says how many.
    pub(super) fn sweep(&self, now: Instant, limit: Duration) -> u64 {
        let mut ended = 0;
        for watched in self.lock().iter_mut() {
            let turns = watched.stream.turns.load(Relaxed);
            if turns != watched.turns {
                (watched.turns, watched.since) = (turns, now);
            }
            let waited = now.saturating_duration_since(watched.since);
            if is_clients(turns) && waited >= limit && !watched.stream.end.is_cancelled() {
                watched.stream.end.cancel();
                ended += 1;
            }
        }
        ended
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(75);

    #[tokio::test]
    async fn only_what_waits_for_its_client_for_too_long_is_ended() {
        let (streams, now) = (Streams::default(), Instant::now());
        let [ours, moving, stuck] = [(); 3].map(|()| Arc::<Stream>::default());
        for stream in [&ours, &moving, &stuck] {
            streams.watch(stream);
            stream.turn(true);
        }
        ours.turn(false);
        assert_eq!(streams.sweep(now, LIMIT), 0);
        moving.turn(false);
        moving.turn(true);
        assert_eq!(streams.sweep(now + LIMIT, LIMIT), 1);
        assert!(stuck.end.is_cancelled());
        assert!(!ours.end.is_cancelled() && !moving.end.is_cancelled());
        streams.forget(&moving);
        assert_eq!(streams.sweep(now + 9 * LIMIT, LIMIT), 0);
    }
}
