//! Waits and wake-ups: the only place that blocks a thread, so that a simulator can do without.
//!
//! [`FrontLock`] guards a partition's front, [`Signal`] is what callers wait on, [`Wake`] what they
//! wake the network thread with, [`Readiness`] is what a user's event loop waits on, [`Helpers`]
//! starts threads that come and go. Atomics and mutexes of the rooms that loom models come from
//! `prim`.

pub(crate) mod prim;

mod front_lock;
#[cfg_attr(any(not(target_os = "linux"), all(test, loom)), path = "sync/futex_emulated.rs")]
mod futex;
mod helpers;
mod readiness;
pub(crate) mod trip;

pub use front_lock::{FrontGuard, FrontLock};
pub use helpers::{Helpers, SystemHelpers};
pub use readiness::{Cause, Readiness};

use crate::clock::{Clock, Instant};
use std::sync::{MutexGuard, PoisonError};

/// Wakes the network thread out of its poll. Any thread, any number of times.
pub trait Wake: Send + Sync {
    /// Makes the current or the next poll return.
    fn wake(&self);
}

/// A mutex guard whatever happened to the last holder: a panic is reported by who caught it, not by
/// who comes next.
pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something to wait for: a generation that only grows. Waiters read it, check their condition,
/// then wait for it to move.
#[derive(Debug, Default)]
pub struct Signal {
    generation: prim::Mutex<u64>,
    #[cfg_attr(not(loom), expect(clippy::disallowed_types, reason = "this is the place"))]
    moved: prim::Condvar,
}

impl Signal {
    /// The generation now; pass it to [`Signal::wait`] after checking the condition.
    pub fn generation(&self) -> u64 {
        *prim::guard(&self.generation)
    }

    /// Lets every waiter check its condition again.
    pub fn notify(&self) {
        *prim::guard(&self.generation) += 1;
        self.moved.notify_all();
        #[cfg(test)]
        notified::add();
    }

    /// Waits until the generation is no longer `seen` or `deadline` has passed; false on the
    /// latter. With a virtual clock it is whoever moves the clock that blocks and wakes.
    pub fn wait(&self, seen: u64, clock: &Clock, deadline: Instant) -> bool {
        front_lock::rank::assert_in_none();
        if let Some(sleeper) = clock.sleeper() {
            return sleeper.sleep(clock, deadline, &|| self.generation() != seen);
        }
        let mut generation = prim::guard(&self.generation);
        while *generation == seen {
            let now = if deadline == Instant::NEVER { Instant::default() } else { clock.now() };
            if now >= deadline {
                return false;
            }
            generation = if deadline == Instant::NEVER {
                self.moved.wait(generation).unwrap_or_else(PoisonError::into_inner)
            } else {
                let timeout = deadline.since(now);
                let (guard, _) = self
                    .moved
                    .wait_timeout(generation, timeout)
                    .unwrap_or_else(PoisonError::into_inner);
                guard
            };
        }
        true
    }
}

/// Something that happens once, to wait for: a thread's end, an answer.
#[derive(Debug, Default)]
pub struct Latch {
    open: prim::Mutex<bool>,
    signal: Signal,
}

impl Latch {
    /// It has happened; everybody who waits goes on.
    pub fn set(&self) {
        *prim::guard(&self.open) = true;
        self.signal.notify();
    }

    /// Waits until it has happened; false when `deadline` has passed without.
    pub fn wait(&self, clock: &Clock, deadline: Instant) -> bool {
        loop {
            let seen = self.signal.generation();
            if *prim::guard(&self.open) {
                return true;
            }
            if !self.signal.wait(seen, clock, deadline) {
                return *prim::guard(&self.open);
            }
        }
    }
}

/// How many signals a thread has moved: what a simulator need not look at is what did not move.
#[cfg(test)]
pub(crate) mod notified {
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn add() {
        COUNT.set(COUNT.get() + 1);
    }

    /// Since the last call, by this thread.
    #[cfg(all(feature = "mock", not(loom)))]
    pub(crate) fn take() -> u64 {
        COUNT.take()
    }
}
