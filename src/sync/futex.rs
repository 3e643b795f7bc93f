//! The word a lock sleeps on: Linux's futex system call, for which std has no safe wrapper.
#![expect(unsafe_code, reason = "a system call that takes addresses")]

use super::prim::{AtomicU32, Ordering};
use std::ptr;

/// A word that threads change, compare and sleep on.
#[derive(Debug)]
pub(super) struct Futex {
    pub(super) word: AtomicU32,
}

impl Futex {
    pub(super) fn new() -> Futex {
        Futex { word: AtomicU32::new(0) }
    }

    /// 0 to `locked`; the whole of an uncontended lock.
    #[inline]
    pub(super) fn acquire(&self, locked: u32) -> bool {
        self.word.compare_exchange(0, locked, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Sleeps while the word is `expected`, until woken; may return for no reason.
    pub(super) fn wait(&self, expected: u32) {
        // SAFETY: futex(2): FUTEX_WAIT reads the word, which outlives the call through the borrow,
        // and takes a null timeout as "for ever". Every outcome (woken, value differs, interrupted)
        // is the caller's loop's to sort out.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                expected,
                ptr::null::<libc::timespec>(),
            );
        }
    }

    /// Wakes one sleeper, if there is one.
    pub(super) fn wake_one(&self) {
        // SAFETY: futex(2): FUTEX_WAKE uses the address as a key and does not read or write
        // through it.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                1_i32,
            );
        }
    }
}
