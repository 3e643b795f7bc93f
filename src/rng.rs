//! Seeded randomness: jitter, first nodes, sticky partitions. A simulation gives the seed; else it
//! comes from the system.

use std::sync::Mutex;
use std::time::Duration;

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

    /// How long to wait before attempt `failures + 1` (KIP-580): `initial` doubled with each
    /// failure up to `max`, times 0.8 to 1.2, never above `max`. With `initial` at or above `max`
    /// it is `initial`, without jitter.
    pub fn backoff(&self, initial: Duration, max: Duration, failures: u32) -> Duration {
        if initial >= max || initial.is_zero() {
            return initial;
        }
        // f64 can't overflow here: 2^63 doublings of any Duration stay far below its range.
        let doublings = f64::from(failures.saturating_sub(1).min(63));
        let unjittered = (initial.as_secs_f64() * doublings.exp2()).min(max.as_secs_f64());
        Duration::try_from_secs_f64(unjittered * self.uniform(0.8, 1.2)).unwrap_or(max).min(max)
    }

    fn with<T>(&self, f: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIAL: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_millis(400);

    #[test]
    fn backoff_doubles_up_to_max_within_a_fifth() {
        let rng = Rng::seeded(7);
        for (failures, expected) in [(0, 100), (1, 100), (2, 200), (3, 400), (4, 400), (99, 400)] {
            let expected = Duration::from_millis(expected);
            let draws: Vec<_> = (0..500).map(|_| rng.backoff(INITIAL, MAX, failures)).collect();
            assert!(draws.iter().all(|d| *d >= expected.mul_f64(0.799)), "{failures}: {draws:?}");
            assert!(draws.iter().all(|d| *d <= expected.mul_f64(1.201).min(MAX)), "{failures}");
            let spread = draws.iter().max().unwrap().abs_diff(*draws.iter().min().unwrap());
            assert!(spread > expected.mul_f64(0.15), "{failures}: no jitter");
        }
    }

    #[test]
    fn backoff_at_the_borders() {
        let rng = Rng::seeded(7);
        assert_eq!(rng.backoff(MAX, INITIAL, 5), MAX);
        assert_eq!(rng.backoff(Duration::ZERO, MAX, 5), Duration::ZERO);
        let longest = Duration::from_millis(i64::MAX as u64);
        assert!(rng.backoff(Duration::from_millis(1), longest, u32::MAX) <= longest);
        assert_eq!(rng.backoff(longest, longest, u32::MAX), longest);
    }
}
