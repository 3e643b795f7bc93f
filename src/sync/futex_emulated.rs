//! The word a lock sleeps on where there is no futex, and in loom's models: a mutex and a condition
//! variable beside the word, with the same contract.

use super::prim::{AtomicU32, Condvar, Mutex, Ordering, guard};

/// A word that threads change, compare and sleep on.
#[derive(Debug)]
pub(super) struct Futex {
    pub(super) word: AtomicU32,
    sleepers: Mutex<()>,
    #[cfg_attr(not(loom), expect(clippy::disallowed_types, reason = "waits live in this room"))]
    woken: Condvar,
}

impl Futex {
    pub(super) fn new() -> Futex {
        Futex { word: AtomicU32::new(0), sleepers: Mutex::new(()), woken: Condvar::new() }
    }

    /// 0 to `locked`; the whole of an uncontended lock.
    #[inline]
    pub(super) fn acquire(&self, locked: u32) -> bool {
        self.word.compare_exchange(0, locked, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Sleeps while the word is `expected`, until woken; may return for no reason. The comparison
    /// and falling asleep are one step for whoever wakes.
    pub(super) fn wait(&self, expected: u32) {
        let sleepers = guard(&self.sleepers);
        if self.word.load(Ordering::Relaxed) == expected {
            drop(self.woken.wait(sleepers));
        }
    }

    /// Wakes one sleeper, if there is one.
    pub(super) fn wake_one(&self) {
        let _sleepers = guard(&self.sleepers);
        self.woken.notify_one();
    }
}
