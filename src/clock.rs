//! The only place that reads time. A [`Clock`] is the machine's, or virtual and moved by a test or
//! the simulator.

#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), path = "clock/no_counter.rs")]
mod counter;

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
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

/// Both clocks as the call that appends a record sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Monotonic time.
    pub mono: Instant,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
}

/// A thread's last reading and the counter just before it was taken.
#[derive(Clone, Copy)]
struct Cached {
    ticks: u64,
    reading: Reading,
}

thread_local! {
    /// One for all system clocks: they show the same time.
    static CACHED: Cell<Cached> = const {
        Cell::new(Cached { ticks: 0, reading: Reading { mono: Instant(0), wall_ms: 0 } })
    };
}

/// Blocks a thread for a [`Clock`] that is virtual: whoever moves that clock runs others meanwhile.
pub trait Sleeper: Send + Sync {
    /// Returns true once `moved` says so, false when `deadline` has passed before.
    fn sleep(&self, clock: &Clock, deadline: Instant, moved: &dyn Fn() -> bool) -> bool;
}

/// What a virtual clock shows; whoever holds it moves it.
#[derive(Default)]
pub struct VirtualTime {
    monotonic_us: AtomicU64,
    /// What the wall clock is ahead of the monotonic one.
    wall_offset_ms: AtomicI64,
    sleeper: OnceLock<Arc<dyn Sleeper>>,
}

impl fmt::Debug for VirtualTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualTime")
            .field("monotonic_us", &self.monotonic_us)
            .finish_non_exhaustive()
    }
}

impl VirtualTime {
    /// Who blocks threads from now on; without, a wait in virtual time takes real time. Once only.
    pub fn set_sleeper(&self, sleeper: Arc<dyn Sleeper>) {
        let _ = self.sleeper.set(sleeper);
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.monotonic_us.fetch_add(us, Ordering::SeqCst);
    }

    /// Sets the wall clock forward or back, as people and NTP do.
    #[cfg(test)]
    pub fn step_wall(&self, by_ms: i64) {
        self.wall_offset_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    fn wall_ms(&self) -> i64 {
        let passed = self.monotonic_us.load(Ordering::SeqCst) / 1000;
        let offset = self.wall_offset_ms.load(Ordering::SeqCst);
        i64::try_from(passed).unwrap_or(i64::MAX).saturating_add(offset)
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

    /// Who blocks the threads of a virtual clock; `None`: the system.
    pub fn sleeper(&self) -> Option<&Arc<dyn Sleeper>> {
        self.time.as_ref()?.sleeper.get()
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
            Some(time) => time.wall_ms(),
        }
    }

    /// Both clocks, once per record: at most about 200 us old, never older than an earlier reading
    /// of this thread. The system's clocks are read again only when the processor's counter has
    /// moved on by that much; where there is no such counter, every time.
    #[inline]
    pub fn reading(&self) -> Reading {
        if self.time.is_none() && counter::available() {
            let ticks = counter::ticks();
            let cached = CACHED.get();
            // A counter behind the cached one (another core's, or set back) is far ahead of it
            // here: a fresh reading.
            if ticks.wrapping_sub(cached.ticks) < counter::window() && cached.ticks != 0 {
                return cached.reading;
            }
            return self.fresh_reading(ticks);
        }
        Reading { mono: self.now(), wall_ms: self.wall_ms() }
    }

    #[cold]
    fn fresh_reading(&self, ticks: u64) -> Reading {
        let reading = Reading { mono: self.now(), wall_ms: self.wall_ms() };
        CACHED.set(Cached { ticks, reading });
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_follows_the_clocks_within_a_millisecond() {
        let clock = Clock::system();
        let until = clock.now().after(Duration::from_millis(30));
        let mut before = clock.reading();
        loop {
            let earlier = (clock.now(), clock.wall_ms());
            let reading = clock.reading();
            let later = (clock.now(), clock.wall_ms());
            assert!(reading.mono >= before.mono, "went backwards");
            // Preempted between the three: says nothing about the reading.
            if later.0.since(earlier.0) < Duration::from_micros(50) {
                assert!(earlier.0.since(reading.mono) < Duration::from_millis(1), "too old");
                assert!(reading.mono <= later.0);
                assert!((earlier.1 - 2..=later.1).contains(&reading.wall_ms));
            }
            before = reading;
            if reading.mono > until {
                break;
            }
        }
    }

    #[test]
    fn virtual_time_is_read_plainly() {
        let time = Arc::new(VirtualTime::default());
        let clock = Clock::virtual_time(Arc::clone(&time));
        assert_eq!(clock.reading(), Reading { mono: Instant(0), wall_ms: 0 });
        time.advance(Duration::from_micros(1500));
        assert_eq!(clock.reading(), Reading { mono: Instant(1500), wall_ms: 1 });
        time.step_wall(-3);
        assert_eq!(clock.reading(), Reading { mono: Instant(1500), wall_ms: -2 });
    }
}
