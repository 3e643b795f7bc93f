//! Atomics, mutexes and cells: std's, or loom's in its models (`RUSTFLAGS="--cfg loom" cargo test
//! --release --lib loom_`).

#[cfg(not(all(test, loom)))]
mod choice {
    #[expect(clippy::disallowed_types, reason = "for Signal and the emulated futex alone")]
    pub(crate) use std::sync::Condvar;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use std::sync::{Mutex, MutexGuard};
}

#[cfg(all(test, loom))]
mod choice {
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

pub(crate) use choice::*;

/// Tries every order in which a model's threads are interrupted at most so often.
#[cfg(all(test, loom))]
pub(crate) fn model(interruptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.max_branches = 20_000;
    builder.check(run);
}

/// A mutex guard whatever happened to the last holder: a panic is reported by who caught it, not by
/// who comes next.
pub(crate) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
