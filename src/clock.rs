//! The only place that reads time. A [`Clock`] is the machine's, or virtual and moved by a test or the simulator.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A point of monotonic time, in microseconds since an arbitrary origin. Arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// A point that never comes.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// This point plus a duration; saturates at [`Instant::NEVER`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` to this point; zero if it is not later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// What a virtual clock shows; whoever holds it moves it.
#[derive(Debug, Default)]
pub struct VirtualTime {
    monotonic_us: AtomicU64,
    wall_ms: AtomicI64,
}

impl VirtualTime {
    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        let now = self.monotonic_us.fetch_add(us, Ordering::SeqCst).saturating_add(us);
        self.wall_ms.store(i64::try_from(now / 1000).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

/// Reads monotonic and wall time.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    time: Option<Arc<VirtualTime>>,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Clock {
        Clock { time: None }
    }

    /// A clock that shows what `time` says.
    pub fn virtual_time(time: Arc<VirtualTime>) -> Clock {
        Clock { time: Some(time) }
    }

    /// Monotonic time.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn now(&self) -> Instant {
        use once_cell::sync::Lazy;
        static ORIGIN: Lazy<std::time::Instant> = Lazy::new(std::time::Instant::now);
        match &self.time {
            // One second on, so that an Instant a little before the start can be told.
            None => Instant(1_000_000).after(std::time::Instant::now().duration_since(*ORIGIN)),
            Some(time) => Instant(time.monotonic_us.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds since the Unix epoch.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn wall_ms(&self) -> i64 {
        match &self.time {
            None => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            Some(time) => time.wall_ms.load(Ordering::SeqCst),
        }
    }
}
