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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;

    fn spawn(run: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
        thread::Builder::new().spawn(run).unwrap()
    }

    #[test]
    fn one_thread_at_a_time() {
        const EACH: u64 = 20_000;
        let lock = Arc::new(FrontLock::new((0_u64, 0_u64)));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let lock = Arc::clone(&lock);
                spawn(move || {
                    for _ in 0..EACH {
                        let mut pair = lock.lock();
                        pair.0 += 1;
                        pair.1 += 1;
                        assert_eq!(pair.0, pair.1);
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(*lock.lock(), (4 * EACH, 4 * EACH));
    }

    #[test]
    fn who_unlocks_learns_that_the_lock_was_wanted() {
        let lock = FrontLock::new(0);
        let guard = lock.try_lock_or_want();
        assert!(!guard.unwrap().unlock(), "nobody wanted it");
        let held = Arc::new(lock);
        let guard = held.lock();
        let network = Arc::clone(&held);
        let wanting = thread::Builder::new().spawn(move || network.try_lock_or_want().is_none());
        assert!(wanting.unwrap().join().unwrap());
        assert!(guard.unlock(), "the network thread was here");
        assert!(!held.lock().unlock(), "it is told once");
    }

    /// PARKED must survive WANTED, and the other way round.
    #[test]
    fn a_sleeper_and_a_wish_at_once() {
        let lock = Arc::new(FrontLock::new(0));
        let guard = lock.lock();
        let sleeper = {
            let lock = Arc::clone(&lock);
            spawn(move || *lock.lock() += 1)
        };
        while lock.futex.word.load(Ordering::Relaxed) & PARKED == 0 {
            thread::yield_now();
        }
        let network = Arc::clone(&lock);
        spawn(move || assert!(network.try_lock_or_want().is_none())).join().unwrap();
        assert_eq!(lock.futex.word.load(Ordering::Relaxed), LOCKED | PARKED | WANTED);
        assert!(guard.unlock());
        sleeper.join().unwrap();
        assert_eq!(*lock.lock(), 1);
    }

    /// Each time the network thread cannot get in, exactly one caller is told.
    #[test]
    fn no_wish_is_lost() {
        let lock = Arc::new(FrontLock::new(0_u64));
        let told = Arc::new(AtomicU32::new(0));
        let done = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (lock, told) = (Arc::clone(&lock), Arc::clone(&told));
                let done = Arc::clone(&done);
                spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let mut guard = lock.lock();
                        *guard += 1;
                        if guard.unlock() {
                            told.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        let mut wished = 0;
        while wished < 100 && *lock.lock() < 2_000_000 {
            let Some(guard) = lock.try_lock_or_want() else {
                wished += 1;
                while told.load(Ordering::SeqCst) < wished {
                    thread::yield_now();
                }
                continue;
            };
            assert!(!guard.unlock());
        }
        done.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(told.load(Ordering::SeqCst), wished);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "goes into another one")]
    fn a_thread_is_in_one_front_at_most() {
        let (one, other) = (FrontLock::new(()), FrontLock::new(()));
        let _one = one.lock();
        let _other = other.lock();
    }
}
