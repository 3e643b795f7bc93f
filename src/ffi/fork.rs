//! Tells a process from its parent, so that a child never touches threads and sockets that only its
//! parent has.
//!
//! A file of its own because `pthread_atfork` is the one thing here that outlives every handle. Its
//! child handler counts one atomic; comparing that costs nothing measurable, `getpid()` would cost
//! a system call on each record.

use crate::error::{Error, Result, status};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// The process something was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process(u32);

impl Process {
    /// This one; from now on its children can be told from it.
    pub(super) fn current() -> Result<Process> {
        // No Once: a child forked while another thread is inside it would wait for ever. Two
        // threads that register both make a child count two, which is as good as one.
        if !REGISTERED.load(Ordering::Acquire) {
            // SAFETY: `child` is async-signal-safe: it only adds to an atomic. The library is never
            // unloaded (it is linked with `-z nodelete`), so the handler stays where it is.
            let result = unsafe { libc::pthread_atfork(None, None, Some(child)) };
            if result != 0 {
                return Err(Error::new(
                    status::UNSUPPORTED,
                    format!("pthread_atfork() failed with error {result}: free some memory"),
                ));
            }
            REGISTERED.store(true, Ordering::Release);
        }
        Ok(Process(GENERATION.load(Ordering::Relaxed)))
    }

    /// Whether this still is that process, not a child of it.
    #[inline]
    pub(super) fn is_current(self) -> bool {
        // Relaxed: the only writer is the child's handler, which runs before anything else in the
        // child.
        self.0 == GENERATION.load(Ordering::Relaxed)
    }

    /// Another process, as a child sees its parent.
    #[cfg(test)]
    pub(super) fn parent(self) -> Process {
        Process(self.0.wrapping_sub(1))
    }

    /// An error unless this still is that process.
    #[inline]
    pub(super) fn check(self) -> Result<()> {
        if self.is_current() { Ok(()) } else { Err(forked()) }
    }
}

#[cold]
fn forked() -> Error {
    Error::new(
        status::FORKED,
        "this handle was made by the parent of this process, whose threads did not come along: \
         free it here and make a new one after the fork",
    )
}

unsafe extern "C" fn child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_told_from_its_parent() {
        let here = Process::current().unwrap();
        assert!(here.is_current());
        // SAFETY: the child calls nothing but atomics and _exit().
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let told = !here.is_current() && Process::current().is_ok_and(Process::is_current);
            // SAFETY: ends the child at once, without the destructors of the test harness.
            unsafe { libc::_exit(if told { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: a child of ours and a place for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
        assert!(here.is_current());
    }
}
