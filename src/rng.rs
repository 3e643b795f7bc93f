//! Seeded randomness: jitter, first nodes, sticky partitions. A simulation gives the seed; else it comes from the system.

use std::sync::Mutex;

/// A source of random numbers that may be shared between threads.
#[derive(Debug)]
pub struct Rng(Mutex<fastrand::Rng>);

impl Rng {
    /// Seeded by the system.
    pub fn system() -> Rng {
        Rng(Mutex::new(fastrand::Rng::new()))
    }

    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Rng {
        Rng(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.with(|rng| rng.u64(0..bound)) }
    }

    /// A number in `low..high`.
    pub fn uniform(&self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.with(fastrand::Rng::f64)
    }

    fn with<T>(&self, f: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
