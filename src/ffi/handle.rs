//! The producer's handle: what C's `producer_t *` points to, and the checks that each call on it
//! starts with.
//!
//! Any thread may hold the pointer and call; `producer_free()` ends it. A handle belongs to the
//! process that made it: in a child of a fork every call fails and `producer_free()` forgets the
//! memory, for the threads and locks inside have no owner there.

use super::config::producer_config_t;
use super::convert::borrowed;
use super::fork::Process;
use super::lent::Lent;
use super::status::producer_status_t;
use super::types::{producer_delivery_t, producer_error_t};
use super::{guard_then, panicked};
use crate::delivery::{Delivery, reentry};
use crate::error::{Error, Result, status};
use crate::producer::{Producer, Timeout};
use std::cell::{Cell, RefCell};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, TryLockError};

/// A producer: yours from producer_new() to producer_free(). Any thread may use it.
pub struct producer_t {
    pub(super) core: Producer,
    process: Process,
    /// A call panicked: what it left half done is not built upon.
    panicked: AtomicBool,
    polled: Mutex<Polled>,
}

/// What the last `producer_poll()` lent to C.
#[derive(Default)]
struct Polled {
    deliveries: Vec<Delivery>,
    lent: Lent,
}

/// Starts a producer and gives its handle away.
pub(super) fn new(config: &producer_config_t) -> Result<*mut producer_t> {
    let process = Process::current()?;
    let core = Producer::new(&config.keys, config.options())?;
    let producer =
        producer_t { core, process, panicked: AtomicBool::new(false), polled: Mutex::default() };
    Ok(Box::into_raw(Box::new(producer)))
}

/// The producer behind a handle, unless it is NULL or of another process.
///
/// # Safety
/// `producer` is NULL or a handle that is not freed while the result lives.
#[inline]
pub(super) unsafe fn live<'a>(producer: *const producer_t) -> Result<&'a producer_t> {
    // SAFETY: the caller's promise.
    let producer = unsafe { borrowed(producer, "producer", "what producer_new() gave")? };
    producer.process.check()?;
    Ok(producer)
}

/// The body of an exported function of a producer: the checks, then `body`.
///
/// # Safety
/// `producer` is NULL or a handle that is not freed meanwhile, `error` NULL or writable.
#[inline]
pub(super) unsafe fn call(
    producer: *const producer_t,
    error: *mut producer_error_t,
    body: impl FnOnce(&producer_t) -> Result<()>,
) -> producer_status_t {
    // SAFETY: the caller's promise, here and below.
    let checked = || body(unsafe { live(producer)? });
    // SAFETY: the same.
    unsafe { guard_then(error, checked, || producer.as_ref().map_or((), producer_t::fail)) }
}

/// The same for functions that take records, which end with a panic.
///
/// # Safety
/// As for [`call`].
#[inline]
pub(super) unsafe fn call_sending(
    producer: *const producer_t,
    error: *mut producer_error_t,
    body: impl FnOnce(&producer_t) -> Result<()>,
) -> producer_status_t {
    let checked = |producer: &producer_t| {
        if producer.panicked.load(Ordering::Relaxed) {
            return Err(panicked("in an earlier call"));
        }
        if producer.core.is_plain() {
            return body(producer);
        }
        let _within = Within::enter();
        body(producer)
    };
    // SAFETY: the caller's promise.
    unsafe { call(producer, error, checked) }
}

impl producer_t {
    /// After a panic in one of its calls: no more records, and those that wait are reported.
    #[cold]
    fn fail(&self) {
        self.panicked.store(true, Ordering::Relaxed);
        let _ = catch_unwind(AssertUnwindSafe(|| self.core.purge(None, None)));
    }

    /// Fills `out` with deliveries; gives their number.
    pub(super) fn poll(
        &self,
        out: &mut [MaybeUninit<producer_delivery_t>],
        timeout: Timeout,
    ) -> Result<usize> {
        let mut polled = match self.polled.try_lock() {
            Ok(polled) => polled,
            Err(TryLockError::Poisoned(polled)) => polled.into_inner(),
            Err(TryLockError::WouldBlock) if POLLING.get() > 1 => {
                return Err(Error::new(
                    status::WOULD_DEADLOCK,
                    "producer_poll() inside a callback of producer_poll(): poll when that returned",
                ));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    status::INVALID_STATE,
                    "another producer_poll() is in progress: poll from one thread at a time",
                ));
            }
        };
        let Polled { deliveries, lent } = &mut *polled;
        lent.clear();
        deliveries.clear();
        self.core.poll(out.len(), timeout, deliveries)?;
        let mut rest = out.iter_mut();
        lent.lend(deliveries, |delivery| {
            if let Some(to) = rest.next() {
                to.write(delivery);
            }
        });
        Ok(deliveries.len())
    }
}

thread_local! {
    /// How many calls this thread is in that may run the user's code.
    static CALLS: Cell<u32> = const { Cell::new(0) };
    /// How many of them are `producer_poll()`.
    static POLLING: Cell<u32> = const { Cell::new(0) };
    /// Handles freed inside those. Nothing is left in it between calls; without a destructor it is
    /// there to the thread's very end.
    static FREED: ManuallyDrop<RefCell<Vec<Freed>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// A handle that C gave up and that is still to be dropped.
struct Freed(NonNull<producer_t>);

// SAFETY: a producer may be used, and dropped, by any thread.
unsafe impl Send for Freed {}

impl Freed {
    /// Stops the producer and waits until no callback runs.
    fn drop_now(self) {
        // SAFETY: the pointer came from `new`, and C gave it up once.
        let producer = unsafe { Box::from_raw(self.0.as_ptr()) };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(producer)));
    }

    /// The same on a thread of its own: this one is inside a callback, which the producer may have
    /// to wait for.
    fn drop_elsewhere(self) {
        let pointer = self.0;
        let thread = std::thread::Builder::new().name("kafka-free".into());
        if thread.spawn(move || self.drop_now()).is_err() {
            // Without a thread the memory stays where it is; the records are reported all the same.
            // SAFETY: nobody else drops it now.
            unsafe { pointer.as_ref() }.core.abandon();
        }
    }
}

/// While it lives, this thread is in a call that may run the user's code, which may free the very
/// handle that the call works with.
pub(super) struct Within(());

impl Within {
    pub(super) fn enter() -> Within {
        CALLS.set(CALLS.get() + 1);
        Within(())
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        CALLS.set(CALLS.get() - 1);
        if CALLS.get() == 0 {
            FREED.with(|freed| freed.take()).into_iter().for_each(Freed::settle);
        }
    }
}

/// While it lives, this thread is in `producer_poll()`.
pub(super) struct Polling(Within);

impl Polling {
    pub(super) fn enter() -> Polling {
        POLLING.set(POLLING.get() + 1);
        Polling(Within::enter())
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        let Polling(Within(())) = self;
        POLLING.set(POLLING.get() - 1);
    }
}

impl Freed {
    fn settle(self) {
        if CALLS.get() > 0 {
            FREED.with(|freed| freed.borrow_mut().push(self));
        } else if reentry::inside() {
            self.drop_elsewhere();
        } else {
            self.drop_now();
        }
    }
}

/// Takes a handle back.
///
/// # Safety
/// `producer` is NULL or a handle that nobody uses any more, but for a call that this very one is
/// inside of.
pub(super) unsafe fn free(producer: *mut producer_t) {
    let Some(pointer) = NonNull::new(producer) else { return };
    // SAFETY: the caller's promise.
    if unsafe { pointer.as_ref() }.process.is_current() {
        Freed(pointer).settle();
    }
    // In a child the memory is given up: to drop it could wait for locks and threads that are the
    // parent's.
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProducerConfig;
    use crate::producer::Options;
    use std::ptr;

    fn producer() -> Box<producer_t> {
        let mut config = ProducerConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1").unwrap();
        Box::new(producer_t {
            core: Producer::new(&config, Options::default()).unwrap(),
            process: Process::current().unwrap(),
            panicked: AtomicBool::new(false),
            polled: Mutex::default(),
        })
    }

    #[test]
    fn after_a_panic_no_more_records_are_taken() {
        let producer = producer();
        let fine = |_: &producer_t| Ok(());
        // SAFETY: a live handle, no place for an error.
        unsafe {
            assert_eq!(call_sending(&*producer, ptr::null_mut(), fine), status::OK);
            let panics = |_: &producer_t| -> Result<()> { panic!("a defect") };
            assert_eq!(call(&*producer, ptr::null_mut(), panics), status::PANIC);
            assert_eq!(call_sending(&*producer, ptr::null_mut(), fine), status::PANIC);
            // What ends it, or asks about it, still works.
            assert_eq!(call(&*producer, ptr::null_mut(), fine), status::OK);
            assert_eq!(call(ptr::null(), ptr::null_mut(), fine), status::INVALID_ARGUMENT);
        }
    }

    #[test]
    fn a_handle_of_another_process_is_refused_and_forgotten() {
        let mut producer = producer();
        producer.process = Process::current().unwrap().parent();
        let handle = Box::into_raw(producer);
        // SAFETY: a live handle; `free` leaves it alone, so that it can be taken back.
        unsafe {
            assert_eq!(call(handle, ptr::null_mut(), |_| Ok(())), status::FORKED);
            free(handle);
            drop(Box::from_raw(handle));
        }
    }

    #[test]
    fn what_is_freed_inside_a_poll_goes_after_it() {
        let handle = Box::into_raw(producer());
        let polling = Polling::enter();
        let inner = Polling::enter();
        // SAFETY: freed once.
        unsafe { free(handle) };
        drop(inner);
        assert_eq!(FREED.with(|freed| freed.borrow().len()), 1);
        // SAFETY: not dropped yet.
        assert!(unsafe { live(handle) }.is_ok());
        drop(polling);
        assert_eq!(FREED.with(|freed| freed.borrow().len()), 0);
    }
}
