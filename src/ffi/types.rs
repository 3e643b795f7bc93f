//! The structs that cross the C boundary, in C's layout. Their comments are the header's.
//!
//! A struct marked FROZEN never changes: its size is asserted at the end of this file and again in
//! the header, its fields' offsets are in `include/kafka_producer.abi`. No Rust `enum` stands where
//! C can write a value: a value that is none of the enum's would be undefined behaviour, so C's
//! enums are `i32` here (see `status.rs`).

use super::status::{producer_stage_t, producer_status_t};
use std::ffi::{c_char, c_void};

/// For `timeout_ms`: as long as the configuration allows.
pub const PRODUCER_TIMEOUT_DEFAULT: i32 = -1;
/// Record flag: `partition` is set; without it the partitioner chooses.
pub const PRODUCER_RECORD_HAS_PARTITION: u32 = 1;
/// Record flag: `timestamp_ms` is set; without it the record gets the time of the call.
pub const PRODUCER_RECORD_HAS_TIMESTAMP: u32 = 2;
/// Record flag: skip on_send and the serializers: the bytes are those of a failed record, sent
/// again. producer_delivery_next() sets it.
pub const PRODUCER_RECORD_AS_IS: u32 = 4;
/// Error flag: the same call may succeed if it is made again.
pub const PRODUCER_RETRIABLE: u32 = 1;
/// Error flag: abort the transaction; the producer stays usable.
pub const PRODUCER_ABORTABLE: u32 = 2;
/// Error flag: the producer is done for; close it.
pub const PRODUCER_FATAL: u32 = 4;
/// Error flag: the record may have been written; without it, it was not.
pub const PRODUCER_MAYBE_PERSISTED: u32 = 8;

/// Why a call failed, for people and for code. Caller-owned: nothing to free. FROZEN.
#[repr(C)]
pub struct producer_error_t {
    /// The function's result once more.
    pub status: producer_status_t,
    /// PRODUCER_RETRIABLE, _ABORTABLE, _FATAL, _MAYBE_PERSISTED; none: fix the call or the
    /// configuration.
    pub flags: u32,
    /// NUL-terminated UTF-8, cut to fit: what happened, and what to do.
    pub message: [c_char; 248],
}

/// Bytes, or UTF-8 text without a NUL. FROZEN.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_slice_t {
    /// NULL is null, which is not the same as empty.
    pub data: *const u8,
    /// How many bytes.
    pub len: usize,
}

/// A record header. FROZEN.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_header_t {
    /// UTF-8; not null.
    pub key: producer_slice_t,
    /// Any bytes, or null.
    pub value: producer_slice_t,
}

/// A record to send. Only the topic is required. FROZEN.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_record_t {
    /// 1 to 249 characters: letters, digits, '.', '_' and '-'.
    pub topic: producer_slice_t,
    /// Any bytes, or null. Records with the same key go to the same partition.
    pub key: producer_slice_t,
    /// Any bytes, or null (a tombstone).
    pub value: producer_slice_t,
    /// `header_count` headers; may be NULL if there are none.
    pub headers: *const producer_header_t,
    /// How many headers.
    pub header_count: usize,
    /// Milliseconds since the epoch; read only with PRODUCER_RECORD_HAS_TIMESTAMP.
    pub timestamp_ms: i64,
    /// Read only with PRODUCER_RECORD_HAS_PARTITION.
    pub partition: i32,
    /// PRODUCER_RECORD_* bits.
    pub flags: u32,
    /// Yours: a number, or a pointer cast to one; comes back in the delivery.
    pub tag: u64,
    /// Milliseconds from the call to the outcome; 0: delivery.timeout.ms.
    pub timeout_ms: i32,
    /// Always 0.
    pub reserved: u32,
    /// Always NULL.
    pub extension: *const c_void,
}

/// Where one record went: producer_send_sync(). FROZEN.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_receipt_t {
    /// The partition it was written to.
    pub partition: i32,
    /// Always 0.
    pub reserved: u32,
    /// -1 if unknown: acks=0.
    pub offset: i64,
    /// The record's, or the broker's where the topic uses LogAppendTime.
    pub timestamp_ms: i64,
}

/// What producer_get_counters() gives. FROZEN.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_counters_t {
    /// Records that a send function took.
    pub accepted: u64,
    /// Records whose delivery was a success.
    pub acknowledged: u64,
    /// Records whose delivery was a failure.
    pub failed: u64,
    /// Records whose outcome is still open.
    pub pending: u64,
    /// Memory in use, of the limit below.
    pub buffered_bytes: u64,
    /// buffer.memory.
    pub buffer_limit_bytes: u64,
}

/// Why records failed. The library's memory, valid as long as the delivery; it may grow at the end.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_failure_t {
    /// NUL-terminated UTF-8: what happened, where, and what to do.
    pub message: *const c_char,
    /// Where the records were.
    pub stage: producer_stage_t,
    /// How many requests carried the records.
    pub attempts: i32,
    /// The leader last tried, or -1.
    pub node: i32,
    /// The last error a broker answered, or PRODUCER_OK.
    pub broker_status: producer_status_t,
    /// The last socket error with its address, or empty; never NULL.
    pub network_error: *const c_char,
    /// From send to the first request, or to the failure.
    pub queued_ms: i32,
    /// The last request's age at the failure.
    pub in_flight_ms: i32,
}

/// The outcome of one run of records that were in the same batch, in the order they were sent.
/// Every record that producer_send() accepted is in exactly one delivery. Successes of one
/// partition are reported in the order of their offsets; failures (deadlines, purge, refused
/// records) may overtake. FROZEN.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_delivery_t {
    /// The topic.
    pub topic: producer_slice_t,
    /// The partition.
    pub partition: i32,
    /// PRODUCER_OK: written.
    pub status: producer_status_t,
    /// PRODUCER_RETRIABLE, _ABORTABLE, _FATAL, _MAYBE_PERSISTED.
    pub flags: u32,
    /// How many records, at least 1.
    pub count: u32,
    /// `count` tags, in the order the records were sent.
    pub tags: *const u64,
    /// Record i is at base_offset + i; -1 if unknown: not written, acks=0, or a duplicate.
    pub base_offset: i64,
    /// -1 unless the topic uses LogAppendTime.
    pub append_time_ms: i64,
    /// Why; NULL on success, never NULL on failure.
    pub failure: *const producer_failure_t,
    /// For producer_delivery_next(); NULL if the records are gone (a success nobody asked to keep).
    pub records: *const c_void,
    /// Always 0.
    pub reserved: u64,
}

/// A place in a delivery's records. Zeroed, it is the first. FROZEN.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_cursor_t {
    /// The library's.
    pub opaque: [u64; 2],
}

/// What producer_partitions_for() gives. FROZEN.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct producer_partition_info_t {
    /// The partition's number.
    pub partition: i32,
    /// The leader's node id, or -1 while there is none.
    pub leader: i32,
    /// -1 if the cluster does not say.
    pub leader_epoch: i32,
    /// How many replicas it has.
    pub replica_count: i32,
    /// How many of them are in sync.
    pub in_sync_replica_count: i32,
    /// Always 0.
    pub reserved: u32,
}

impl producer_slice_t {
    /// The null slice.
    pub const NULL: producer_slice_t = producer_slice_t { data: std::ptr::null(), len: 0 };

    /// A slice that C may read as long as `bytes` lives. Never null: empty bytes stay distinct from
    /// none.
    pub fn of(bytes: &[u8]) -> producer_slice_t {
        producer_slice_t { data: bytes.as_ptr(), len: bytes.len() }
    }

    /// The same for bytes that may be null.
    pub fn of_option(bytes: Option<&[u8]>) -> producer_slice_t {
        bytes.map_or(producer_slice_t::NULL, producer_slice_t::of)
    }
}

// The frozen sizes, for 64-bit machines; 32-bit ones have others, fixed as well by the layout rules
// of C.
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::size_of;
    assert!(size_of::<producer_error_t>() == 256);
    assert!(size_of::<producer_slice_t>() == 16);
    assert!(size_of::<producer_header_t>() == 32);
    assert!(size_of::<producer_record_t>() == 104);
    assert!(size_of::<producer_receipt_t>() == 24);
    assert!(size_of::<producer_counters_t>() == 48);
    assert!(size_of::<producer_delivery_t>() == 80);
    assert!(size_of::<producer_cursor_t>() == 16);
    assert!(size_of::<producer_partition_info_t>() == 24);
};
