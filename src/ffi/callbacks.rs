//! The trampolines: from the traits that the core calls to function pointers of C's.
//!
//! They run on the callback thread (log lines also inside `producer_poll()`), with no lock of the
//! core held. A C++ exception that comes out of one ends the process: nothing may unwind through
//! the library, and the header says so.

use super::lent::Lent;
use super::status::producer_log_level_t;
use super::types::producer_delivery_t;
use crate::delivery::{Delivery, DeliverySink};
use crate::log::{Level, LogSink};
use crate::sync::lock;
use std::ffi::{CString, c_char, c_void};
use std::sync::Mutex;

/// Takes `count` deliveries. Callback thread.
pub type producer_delivery_fn = Option<
    unsafe extern "C-unwind" fn(
        deliveries: *const producer_delivery_t,
        count: usize,
        user_data: *mut c_void,
    ),
>;

/// Takes one log line. Callback thread, or inside producer_poll(). Lines are dropped and counted
/// when it falls behind.
pub type producer_log_fn = Option<
    unsafe extern "C-unwind" fn(
        level: producer_log_level_t,
        target: *const c_char,
        message: *const c_char,
        user_data: *mut c_void,
    ),
>;

/// The `user_data` of a callback.
#[derive(Debug, Clone, Copy)]
pub(super) struct UserData(pub(super) *mut c_void);

// SAFETY: it is never followed here; that the library's threads may pass it to the callback is what
// C was told.
unsafe impl Send for UserData {}
// SAFETY: the same.
unsafe impl Sync for UserData {}

/// Where a config's deliveries go: the callback and what it is called with.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeliveryCallback {
    callback: unsafe extern "C-unwind" fn(*const producer_delivery_t, usize, *mut c_void),
    user_data: UserData,
}

impl DeliveryCallback {
    pub(super) fn new(
        callback: unsafe extern "C-unwind" fn(*const producer_delivery_t, usize, *mut c_void),
        user_data: *mut c_void,
    ) -> DeliveryCallback {
        DeliveryCallback { callback, user_data: UserData(user_data) }
    }

    /// A sink for one producer.
    pub(super) fn sink(self) -> DeliveryTrampoline {
        DeliveryTrampoline { to: self, lent: Mutex::default() }
    }
}

/// A producer's way to its delivery callback.
pub(super) struct DeliveryTrampoline {
    to: DeliveryCallback,
    lent: Mutex<Views>,
}

/// The array that C gets, used again for the next.
#[derive(Default)]
struct Views {
    views: Vec<producer_delivery_t>,
    lent: Lent,
}

// SAFETY: as for `Lent`: the pointers inside belong to deliveries that outlive each use.
unsafe impl Send for Views {}

impl DeliverySink for DeliveryTrampoline {
    fn deliver(&self, deliveries: &[Delivery]) {
        // One thread delivers; the lock is never waited for.
        let mut lent = lock(&self.lent);
        let Views { views, lent } = &mut *lent;
        views.clear();
        lent.lend(deliveries, |view| views.push(view));
        // SAFETY: C gave the callback for this, and promised that the user data lives as long as
        // the producer.
        unsafe { (self.to.callback)(views.as_ptr(), views.len(), self.to.user_data.0) };
        lent.clear();
    }
}

/// Where a config's log lines go.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogCallback {
    callback: unsafe extern "C-unwind" fn(
        producer_log_level_t,
        *const c_char,
        *const c_char,
        *mut c_void,
    ),
    user_data: UserData,
}

impl LogCallback {
    pub(super) fn new(
        callback: unsafe extern "C-unwind" fn(
            producer_log_level_t,
            *const c_char,
            *const c_char,
            *mut c_void,
        ),
        user_data: *mut c_void,
    ) -> LogCallback {
        LogCallback { callback, user_data: UserData(user_data) }
    }
}

impl LogSink for LogCallback {
    fn log(&self, level: Level, target: &'static str, message: String) {
        let (target, message) = (c_string(target.to_owned()), c_string(message));
        // SAFETY: as above.
        unsafe {
            (self.callback)(level as i32, target.as_ptr(), message.as_ptr(), self.user_data.0);
        }
    }
}

/// A text for C: a NUL inside would cut it.
pub(super) fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(error.into_vec().as_slice()).replace('\0', " ");
        CString::new(text).unwrap_or_default()
    })
}
