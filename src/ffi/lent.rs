//! Deliveries as C reads them: structs that point into the Rust deliveries they were made of.
//!
//! Used by the callback thread (valid until the callback returns) and by `producer_poll()` (valid
//! until the next poll). The buffers are used again, so that a delivery allocates nothing; only
//! records that C walks through are decoded, and decompressed, once per delivery, into memory of
//! that delivery. How many bytes deliveries lent together may decompress to is bounded
//! where they are taken from the queue.

use super::callbacks::c_string;
use super::record::{self, lend_header};
use super::types::*;
use crate::delivery::{Delivery, Failure, Stage};
use crate::error::status;
use crate::interceptors::Refused;
use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

/// What the last deliveries lent to C point to.
#[derive(Default)]
pub(super) struct Lent {
    failures: Vec<producer_failure_t>,
    records: Vec<LentRecords>,
}

// SAFETY: the pointers inside are read by C alone, while the deliveries they were made of live:
// whoever owns both keeps them together, and moving this struct to another thread does not move
// what the vectors hold.
unsafe impl Send for Lent {}

impl Lent {
    /// Forgets what was lent last: C must not look at it any more.
    pub(super) fn clear(&mut self) {
        self.failures.clear();
        self.records.clear();
    }

    /// Makes C's view of `deliveries`, one by one. It is valid while they live, stay where they
    /// are, and this is not changed.
    pub(super) fn lend(
        &mut self,
        deliveries: &[Delivery],
        mut to: impl FnMut(producer_delivery_t),
    ) {
        self.clear();
        // All room beforehand: the elements must not move once C points to them.
        self.failures.reserve(deliveries.iter().filter(|d| d.failure.is_some()).count());
        self.records.reserve(deliveries.iter().filter(|d| d.records().is_some()).count());
        for delivery in deliveries {
            to(self.lend_one(delivery));
        }
    }

    /// The same for a record that a send refused.
    #[cold]
    pub(super) fn lend_refused(
        &mut self,
        refused: &Refused<'_>,
        to: impl FnOnce(producer_delivery_t),
    ) {
        self.clear();
        let Refused { record, serialized, error } = refused;
        let message = c_string(error.message.clone().into_owned());
        self.failures.push(producer_failure_t {
            message: message.as_ptr(),
            stage: Stage::Refused as i32,
            attempts: 0,
            node: -1,
            broker_status: status::OK,
            network_error: c"".as_ptr(),
            queued_ms: 0,
            in_flight_ms: 0,
        });
        let headers: Vec<_> = record.headers.iter().map(lend_header).collect();
        let mut view = record::lend(record, &headers);
        if *serialized {
            view.flags |= PRODUCER_RECORD_AS_IS;
        }
        let walked = Walked { records: vec![view], _headers: headers, ..Walked::default() };
        self.records.push(LentRecords { delivery: ptr::null(), walked: walked.into() });
        to(producer_delivery_t {
            topic: view.topic,
            partition: record.partition.unwrap_or(-1),
            status: error.status,
            flags: error.flags,
            count: 1,
            tags: &raw const record.tag,
            base_offset: -1,
            append_time_ms: -1,
            failure: last(&self.failures),
            records: last(&self.records).cast::<c_void>(),
            reserved: 0,
        });
    }

    fn lend_one(&mut self, delivery: &Delivery) -> producer_delivery_t {
        let failure = delivery.failure.as_deref().map_or(ptr::null(), |failure| {
            self.failures.push(lend_failure(failure));
            last(&self.failures)
        });
        let records = delivery.records().map_or(ptr::null(), |_| {
            self.records.push(LentRecords { delivery, walked: OnceLock::new() });
            last(&self.records)
        });
        let tags = delivery.tags();
        producer_delivery_t {
            topic: producer_slice_t::of(delivery.topic.as_bytes()),
            partition: delivery.partition,
            status: delivery.status,
            flags: delivery.flags,
            count: u32::try_from(tags.len()).unwrap_or(u32::MAX),
            tags: tags.as_ptr(),
            base_offset: delivery.base_offset,
            append_time_ms: delivery.append_time_ms,
            failure,
            records: records.cast::<c_void>(),
            reserved: 0,
        }
    }
}

fn last<T>(items: &[T]) -> *const T {
    items.last().map_or(ptr::null(), ptr::from_ref)
}

fn lend_failure(failure: &Failure) -> producer_failure_t {
    producer_failure_t {
        message: failure.message.as_ptr(),
        stage: failure.stage as i32,
        attempts: failure.attempts,
        node: failure.node,
        broker_status: failure.broker_status,
        network_error: failure.network_error.as_ptr(),
        queued_ms: failure.queued_ms,
        in_flight_ms: failure.in_flight_ms,
    }
}

/// What `producer_delivery_t::records` points to.
struct LentRecords {
    /// NULL: nothing is left to be walked.
    delivery: *const Delivery,
    walked: OnceLock<Walked>,
}

/// A delivery's records as C reads them.
#[derive(Default)]
struct Walked {
    records: Vec<producer_record_t>,
    /// What the records point to if they were compressed.
    _unpacked: Vec<u8>,
    /// What the records' `headers` point to.
    _headers: Vec<producer_header_t>,
}

// SAFETY: as for `Lent`; several threads may walk the same delivery.
unsafe impl Send for Walked {}
// SAFETY: the same.
unsafe impl Sync for Walked {}

/// The record at the cursor, and the cursor one further; `None` past the last.
///
/// # Safety
/// `delivery` is one that the library gave, or a copy of it, and still valid.
pub(super) unsafe fn next(
    delivery: &producer_delivery_t,
    cursor: &mut producer_cursor_t,
) -> Option<producer_record_t> {
    // SAFETY: `records` is NULL or points to what `lend_one` pushed, as long as the delivery is
    // valid.
    let records = unsafe { delivery.records.cast::<LentRecords>().as_ref()? };
    // SAFETY: the delivery it was made of, if it was, lives as long as it is valid.
    let delivery = unsafe { records.delivery.as_ref() };
    let walked = records.walked.get_or_init(|| delivery.map(walk).unwrap_or_default());
    let [index, _] = &mut cursor.opaque;
    let record = walked.records.get(usize::try_from(*index).ok()?)?;
    *index += 1;
    Some(*record)
}

/// Decodes a delivery's records.
fn walk(delivery: &Delivery) -> Walked {
    let count = delivery.count();
    let mut records = Vec::with_capacity(count);
    let mut headers = Vec::new();
    let mut header_counts = Vec::with_capacity(count);
    let mut unpacked = Vec::new();
    if let Some(body) = delivery.records() {
        // What was encoded here decodes; were it not so, the walk would end early.
        for (record, tag) in delivery.remains.walk(&mut unpacked).zip(delivery.tags()) {
            let before = headers.len();
            headers.extend(record.headers.map(|header| producer_header_t {
                key: producer_slice_t::of(header.key),
                value: producer_slice_t::of_option(header.value),
            }));
            header_counts.push(headers.len() - before);
            records.push(producer_record_t {
                topic: producer_slice_t::of(delivery.topic.as_bytes()),
                key: producer_slice_t::of_option(record.key),
                value: producer_slice_t::of_option(record.value),
                headers: ptr::null(),
                header_count: 0,
                timestamp_ms: body.base_timestamp().wrapping_add(record.timestamp_delta),
                partition: delivery.partition,
                flags: PRODUCER_RECORD_HAS_PARTITION
                    | PRODUCER_RECORD_HAS_TIMESTAMP
                    | PRODUCER_RECORD_AS_IS,
                tag: *tag,
                timeout_ms: 0,
                reserved: 0,
                extension: ptr::null(),
            });
        }
    }
    // Only now do the headers stay where they are.
    let mut rest = headers.as_slice();
    for (record, count) in records.iter_mut().zip(header_counts) {
        if let Some((own, others)) = rest.split_at_checked(count).filter(|_| count > 0) {
            record.headers = own.as_ptr();
            record.header_count = count;
            rest = others;
        }
    }
    Walked { records, _unpacked: unpacked, _headers: headers }
}
