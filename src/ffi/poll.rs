//! Poll mode: deliveries by asking, a descriptor to wait on; and walking the records of a delivery.

use super::convert::{self, array_out, invalid, out};
use super::guard_value;
use super::handle::{self, Polling, producer_t};
use super::lent;
use super::status::producer_status_t;
use super::types::*;
use std::ffi::c_int;

/// ---- Deliveries by polling ----
///
/// Fills up to `capacity` deliveries and sets `count`. Waits up to `timeout_ms` for the first; none
/// in time is success with count 0. What they point to is valid until the next poll. One thread at
/// a time. After producer_close() and the last delivery: PRODUCER_ERR_CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_poll(
    producer: *mut producer_t,
    deliveries: *mut producer_delivery_t,
    capacity: usize,
    timeout_ms: i32,
    count: *mut usize,
) -> producer_status_t {
    let _polling = Polling::enter();
    // SAFETY: the header's contract.
    unsafe {
        handle::call(producer, std::ptr::null_mut(), |producer| {
            let timeout = convert::timeout(timeout_ms)?;
            if capacity == 0 {
                return Err(invalid("capacity", "is 0: pass room for at least one delivery"));
            }
            let deliveries = array_out(deliveries, capacity, "deliveries")?;
            let count = out(count, "count")?;
            count.write(producer.poll(deliveries, timeout)?);
            Ok(())
        })
    }
}

/// A descriptor that is readable while producer_poll() has something to give, to log or to free;
/// wait on it, never read or close it. Poll until count < capacity, then wait (edge or level
/// triggered). -1 if polling is not enabled or the handle is NULL or of another process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_poll_fd(producer: *const producer_t) -> c_int {
    // SAFETY: the header's contract.
    guard_value(-1, || unsafe { handle::live(producer).ok()?.core.poll_fd() })
}

/// The next record of a delivery, as it was sent: to log it, store it or send it again
/// (PRODUCER_RECORD_AS_IS is set). false past the last. Failed deliveries have their records;
/// others where `delivery.keep.records` or an interceptor's on_acknowledgement asks for them. Valid
/// as long as the delivery.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_delivery_next(
    delivery: *const producer_delivery_t,
    cursor: *mut producer_cursor_t,
    record_out: *mut producer_record_t,
) -> bool {
    // SAFETY: the header's contract.
    guard_value(false, || unsafe {
        let delivery = delivery.as_ref()?;
        let cursor = cursor.as_mut()?;
        let record_out = out(record_out, "record_out").ok()?;
        record_out.write(lent::next(delivery, cursor)?);
        Some(true)
    })
}
