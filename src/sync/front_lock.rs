//! The lock around a partition's front: one word, no spinning for callers, and a bit that the
//! network thread leaves behind instead of waiting.
//!
//! Callers [`FrontLock::lock`] it and park; the network thread only ever
//! [`FrontLock::try_lock_or_want`]s it. A caller may be preempted, or fault in user memory, while
//! it copies under this lock, so the network thread must not wait for it: it sets WANTED and goes
//! on, and whoever unlocks learns of the bit from the very swap that unlocks, and puts the
//! partition into the inbox. A flag beside a `Mutex` would need a SeqCst fence per record, or lose
//! wake-ups off x86.
//!
//! The word is 0 exactly while the lock is free: WANTED and PARKED exist only beside LOCKED.
#![expect(unsafe_code, reason = "a lock hands out a mutable borrow of what it guards")]

use super::futex::Futex;
use super::prim::Ordering;
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

const LOCKED: u32 = 1;
/// Somebody sleeps, or may: the unlocker must wake one.
const PARKED: u32 = 2;
/// The network thread came by and could not wait: the unlocker must tell it.
const WANTED: u32 = 4;

/// How often the network thread tries before it leaves WANTED behind: longer than an append takes,
/// shorter than anything else it does.
const TRIES: usize = 16;

/// A value that one thread at a time may use.
pub struct FrontLock<T> {
    futex: Futex,
    value: Guarded<T>,
}

// SAFETY: `value` is reached through a guard only, and of those there is one at a time (the word
// goes from 0 to LOCKED by a compare-and-swap, and back by the guard alone); Acquire and Release on
// the word order one holder's accesses before the next one's. So sharing the lock between threads
// only ever moves `T` between them: `T: Send` is enough.
unsafe impl<T: Send> Sync for FrontLock<T> {}

/// The right to use the value, until it is dropped or [`unlock`](FrontGuard::unlock)ed.
#[must_use = "dropping the guard unlocks"]
pub struct FrontGuard<'a, T> {
    lock: &'a FrontLock<T>,
}

impl<T> FrontLock<T> {
    /// A free lock around `value`.
    pub fn new(value: T) -> FrontLock<T> {
        FrontLock { futex: Futex::new(), value: Guarded::new(value) }
    }

    /// Waits for the lock: for application threads.
    #[inline]
    pub fn lock(&self) -> FrontGuard<'_, T> {
        rank::take();
        if !self.futex.acquire(LOCKED) {
            self.lock_contended();
        }
        FrontGuard { lock: self }
    }

    #[cold]
    fn lock_contended(&self) {
        let word = &self.futex.word;
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            if seen == 0 {
                // Others may be asleep still: PARKED makes this holder wake the next one.
                let taken =
                    word.compare_exchange(0, LOCKED | PARKED, Ordering::Acquire, Ordering::Relaxed);
                match taken {
                    Ok(_) => return,
                    Err(now) => seen = now,
                }
                continue;
            }
            if seen & PARKED == 0 {
                let parked = word.compare_exchange(
                    seen,
                    seen | PARKED,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                if let Err(now) = parked {
                    seen = now;
                    continue;
                }
                seen |= PARKED;
            }
            self.futex.wait(seen);
            seen = word.load(Ordering::Relaxed);
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<FrontGuard<'_, T>> {
        self.futex.acquire(LOCKED).then(|| {
            rank::take();
            FrontGuard { lock: self }
        })
    }

    /// Takes the lock if it is free or becomes so within a few tries; else makes sure that the
    /// holder will learn, when it unlocks, that the network thread wants to be told. For the
    /// network thread.
    pub fn try_lock_or_want(&self) -> Option<FrontGuard<'_, T>> {
        for _ in 0..TRIES {
            if let Some(guard) = self.try_lock() {
                return Some(guard);
            }
            std::hint::spin_loop();
        }
        let word = &self.futex.word;
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            // The bit is only ever set beside LOCKED: on a free lock nobody would find it.
            let (wish, order) = if seen == 0 {
                (LOCKED, Ordering::Acquire)
            } else {
                (seen | WANTED, Ordering::Relaxed)
            };
            match word.compare_exchange(seen, wish, order, Ordering::Relaxed) {
                Ok(0) => {
                    rank::take();
                    return Some(FrontGuard { lock: self });
                }
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
    }

    #[inline]
    fn release(&self) -> bool {
        rank::give_back();
        let was = self.futex.word.swap(0, Ordering::Release);
        debug_assert!(was & LOCKED != 0, "a free lock is unlocked");
        if was & PARKED != 0 {
            self.futex.wake_one();
        }
        was & WANTED != 0
    }
}

impl<T: Default> Default for FrontLock<T> {
    fn default() -> FrontLock<T> {
        FrontLock::new(T::default())
    }
}

impl<T> fmt::Debug for FrontLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontLock").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for FrontGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontGuard").finish_non_exhaustive()
    }
}

impl<T> FrontGuard<'_, T> {
    /// Unlocks; true if the network thread wants to be told that the lock is free.
    #[inline]
    #[must_use = "the network thread waits to be told"]
    pub fn unlock(self) -> bool {
        let wanted = self.lock.release();
        std::mem::forget(self);
        wanted
    }
}

impl<T> Drop for FrontGuard<'_, T> {
    fn drop(&mut self) {
        let _wanted = self.lock.release();
    }
}

impl<T> Deref for FrontGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one (see `Sync`), and the borrow ends with that of the
        // guard.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for FrontGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

/// An `UnsafeCell`, beside which loom keeps a cell of its own that reports accesses that race.
struct Guarded<T> {
    value: UnsafeCell<T>,
    #[cfg(all(test, loom))]
    trace: loom::cell::UnsafeCell<()>,
}

impl<T> Guarded<T> {
    fn new(value: T) -> Guarded<T> {
        Guarded {
            value: UnsafeCell::new(value),
            #[cfg(all(test, loom))]
            trace: loom::cell::UnsafeCell::new(()),
        }
    }

    #[inline]
    fn get(&self) -> *mut T {
        #[cfg(all(test, loom))]
        self.trace.with_mut(|_| ());
        self.value.get()
    }
}

/// A thread is in one front at most, and waits for nothing while it is: in debug builds, an
/// assertion. (Not in loom's models, whose threads are one.)
pub(super) mod rank {
    #[cfg(all(debug_assertions, not(loom)))]
    std::thread_local! {
        static IN_FRONT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    #[inline]
    pub(super) fn take() {
        #[cfg(all(debug_assertions, not(loom)))]
        assert!(!IN_FRONT.replace(true), "a thread that is in a front goes into another one");
    }

    #[inline]
    pub(super) fn give_back() {
        #[cfg(all(debug_assertions, not(loom)))]
        IN_FRONT.set(false);
    }

    /// Before anything that may wait long.
    #[inline]
    pub(in super::super) fn assert_in_none() {
        #[cfg(all(debug_assertions, not(loom)))]
        assert!(!IN_FRONT.get(), "a thread waits while it is in a front");
    }
}
