//! Time for leases: `CLOCK_BOOTTIME`, which never jumps and goes on counting while the machine sleeps.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on this machine's boot clock, in nanoseconds. Means nothing on another machine.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(pub u64);

impl Time {
    /// Before every moment: a lease until then is none.
    pub const NEVER: Self = Self(0);

    /// After every moment: a lease until then needs no renewal.
    pub const FOREVER: Self = Self(u64::MAX);

    /// The present moment.
    #[must_use]
    #[expect(clippy::cast_sign_loss, reason = "the boot clock counts up from zero")]
    pub fn now() -> Self {
        // `Instant` is CLOCK_MONOTONIC, which stands still while the machine sleeps: a lease would outlive its time.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self((time.tv_sec as u64).saturating_mul(1_000_000_000) + time.tv_nsec as u64)
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}
