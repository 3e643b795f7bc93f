//! Waits and wake-ups: the only place that blocks a thread, so that a simulator can do without.

use crate::clock::{Clock, Instant};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Wakes the network thread out of its poll. Any thread, any number of times.
pub trait Wake: Send + Sync {
    /// Makes the current or the next poll return.
    fn wake(&self);
}

/// A mutex guard whatever happened to the last holder: a panic is reported by who caught it, not by who comes next.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something to wait for: a generation that only grows. Waiters read it, check their condition, then wait for it to move.
#[derive(Debug, Default)]
#[expect(clippy::disallowed_types, reason = "this is the place")]
pub struct Signal {
    generation: Mutex<u64>,
    moved: std::sync::Condvar,
}

impl Signal {
    /// The generation now; pass it to [`Signal::wait`] after checking the condition.
    pub fn generation(&self) -> u64 {
        *lock(&self.generation)
    }

    /// Lets every waiter check its condition again.
    pub fn notify(&self) {
        *lock(&self.generation) += 1;
        self.moved.notify_all();
    }

    /// Waits until the generation is no longer `seen` or `deadline` has passed; false on the latter.
    /// With a virtual clock nothing ever blocks here: the `try_` half is driven by whoever moves the clock.
    pub fn wait(&self, seen: u64, clock: &Clock, deadline: Instant) -> bool {
        let mut generation = lock(&self.generation);
        while *generation == seen {
            let now = clock.now();
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
