//! Sending: the C functions that take records. The hot path of the whole library.

use super::columns::{Column, Columns};
use super::convert::{self, array, out};
use super::handle::{self, producer_t};
use super::record::{self, Headers, Place, with_record};
use super::status::producer_status_t;
use super::types::*;
use crate::error::Result;
use crate::producer::{Producer, Timeout};

/// ---- Sending ----
///
/// Sends one record: copies it into its partition's batch and returns. Waits up to max.block.ms for
/// metadata and for memory. On success exactly one delivery will contain it; on failure none will.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_send(
    producer: *mut producer_t,
    record: *const producer_record_t,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call_sending(producer, error, |producer| {
            with_record(record, |record| producer.core.send(record))
        })
    }
}

/// As producer_send(), but never waits: PRODUCER_ERR_BUFFER_FULL or PRODUCER_ERR_METADATA_PENDING
/// instead, and the request for that metadata is on its way. In poll mode the descriptor becomes
/// readable when it is worth trying again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_try_send(
    producer: *mut producer_t,
    record: *const producer_record_t,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call_sending(producer, error, |producer| {
            with_record(record, |record| producer.core.try_send(record))
        })
    }
}

/// Sends one record and waits for its outcome, without lingering: what send(record).get() is in
/// Java. `timeout_ms` is the record's own timeout, so the outcome is decided when it returns;
/// interceptors see it, deliveries don't contain it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_send_sync(
    producer: *mut producer_t,
    record: *const producer_record_t,
    timeout_ms: i32,
    receipt: *mut producer_receipt_t,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        handle::call_sending(producer, error, |producer| {
            let timeout = convert::timeout(timeout_ms)?;
            let receipt = out(receipt, "receipt")?;
            let went = with_record(record, |record| producer.core.send_sync(record, timeout))?;
            receipt.write(producer_receipt_t {
                partition: went.partition,
                reserved: 0,
                offset: went.offset,
                timestamp_ms: went.timestamp_ms,
            });
            Ok(())
        })
    }
}

/// Sends records in order until one is refused. `accepted` gets the number accepted, also on
/// failure; the status is that of the first one refused. Cheaper than as many producer_send()
/// calls. `timeout_ms` bounds the whole call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_send_batch(
    producer: *mut producer_t,
    records: *const producer_record_t,
    count: usize,
    timeout_ms: i32,
    accepted: *mut usize,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        let accepted = out(accepted, "accepted").map(|accepted| accepted.write(0));
        handle::call_sending(producer, error, |producer| {
            let accepted = accepted?;
            let timeout = convert::timeout(timeout_ms)?;
            let records = array(records, count, "records")?;
            let result;
            (*accepted, result) = send_batch(&producer.core, records, timeout);
            result
        })
    }
}

/// Sends `count` records of one topic whose keys lie end to end in `keys`, and whose values lie end
/// to end in `values`, for languages in which touching each record costs more than sending it. A
/// length of -1 is null; the lengths must sum up to the slices' lengths. `key_lens` NULL: no keys.
/// `partition` -1: the partitioner chooses. Record i gets the tag first_tag + i. Accepts a prefix,
/// as producer_send_batch() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn producer_send_columns(
    producer: *mut producer_t,
    topic: producer_slice_t,
    partition: i32,
    keys: producer_slice_t,
    key_lens: *const i32,
    values: producer_slice_t,
    value_lens: *const i32,
    count: usize,
    first_tag: u64,
    timeout_ms: i32,
    accepted: *mut usize,
    error: *mut producer_error_t,
) -> producer_status_t {
    // SAFETY: the header's contract.
    unsafe {
        let accepted = out(accepted, "accepted").map(|accepted| accepted.write(0));
        handle::call_sending(producer, error, |producer| {
            let accepted = accepted?;
            let timeout = convert::timeout(timeout_ms)?;
            let columns = Columns {
                topic: record::topic(topic, "topic")?,
                partition: match partition {
                    -1 => None,
                    _ => Some(partition),
                },
                keys: match key_lens.is_null() {
                    true => Column::none(keys)?,
                    false => Column::new(keys, key_lens, count, "keys", "key_lens")?,
                },
                values: Column::new(values, value_lens, count, "values", "value_lens")?,
                first_tag,
            };
            let result;
            (*accepted, result) = producer.core.send_batch(columns.records(count), timeout);
            result
        })
    }
}

/// # Safety
/// As in `convert.rs`.
unsafe fn send_batch(
    core: &Producer,
    records: &[producer_record_t],
    timeout: Timeout,
) -> (usize, Result<()>) {
    // All headers are converted beforehand, for they must outlive each record; the first bad one
    // ends the batch at its record, after those before it were sent.
    let mut headers = Headers::take(0);
    let mut bad = None;
    for (index, record) in records.iter().enumerate().filter(|(_, r)| r.header_count > 0) {
        // SAFETY: the caller's promise.
        if let Err(error) = unsafe { record::append_headers(record, index, &mut headers.0) } {
            bad = Some((index, error));
            break;
        }
    }
    let mut rest = headers.0.as_slice();
    let converted = records.iter().enumerate().map(|(index, record)| {
        if let Some((_, error)) = bad.take_if(|(at, _)| *at == index) {
            return Err(error);
        }
        let (own, others) = rest.split_at_checked(record.header_count).unwrap_or((rest, &[]));
        rest = others;
        // SAFETY: the caller's promise.
        unsafe { record::convert(record, own, Place(Some(index))) }
    });
    core.send_batch(converted, timeout)
}
