//! The vocabulary of the behaviour tests: an origin with gates, a sidecar before it, a client that reads bytes.
//!
//! Nothing sleeps: an origin's gate says when a request has arrived and lets it go, age is what the origin's `Age` and
//! `Date` fields say, and waiting for background work is waiting for what it does at the origin.

pub mod client;
pub mod django;
pub mod frames;
pub mod handle;
pub mod line;
pub mod link;
pub mod log;
pub mod oracle;
pub mod origin;
pub mod process;
pub mod recorder;
pub mod redis;
pub mod replicas;
pub mod resp;
pub mod sidecar;
pub mod twin;
pub mod wire;

pub use client::Reply;
pub use link::Link;
pub use origin::{Origin, reply};
pub use process::{Desk, Process};
pub use redis::{RedisCluster, RedisServer, Sentinels};
pub use sidecar::{Plan, Sidecar};
pub use wire::Wire;

use std::time::{Duration, SystemTime};

/// Nothing in a test takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An origin, and a sidecar before it with one route for everything.
pub async fn cached(lines: &str) -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    let sidecar = Sidecar::before(&origin).route("/**", lines).start().await;
    (origin, sidecar)
}

/// An HTTP date this many seconds from now.
#[expect(
    clippy::disallowed_methods,
    reason = "the sidecar under test reads the real clock"
)]
pub fn date(offset: i64) -> String {
    let now = SystemTime::now();
    let by = Duration::from_secs(offset.unsigned_abs());
    httpdate::fmt_http_date(if offset < 0 { now - by } else { now + by })
}

/// Waits for something that must happen, and fails the test if it does not.
pub async fn soon<T>(what: &str, happening: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happening).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: did not happen within {PATIENCE:?}"),
    }
}

/// Asks again and again until something holds that other tasks bring about; fails the test if it never does.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
