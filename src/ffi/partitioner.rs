//! The user's partitioner: its table, and the way from the core to it.
//!
//! Runs on the threads that send, with no lock of the core held. The record is shown as the core
//! has it; up to 16 headers are converted on the stack, more in memory that the thread keeps, so
//! that nothing is allocated per record. The partitions are the core's own array.

use super::callbacks::UserData;
use super::convert::invalid;
use super::table::{self, Table};
use super::types::*;
use crate::error::Result;
use crate::partitioner::Partitioner;
use crate::producer::PartitionInfo;
use crate::record::{Header, ProducerRecord};
use std::cell::Cell;
use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr;

/// Chooses partitions in place of partitioner.class. Its functions must not throw or longjmp.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct producer_partitioner_t {
    /// sizeof(producer_partitioner_t), as you compiled it.
    pub struct_size: usize,
    /// Passed to the functions; may be NULL. Must outlive the producer.
    pub user_data: *mut c_void,
    /// Once per record without PRODUCER_RECORD_HAS_PARTITION, inside the function that sends it and
    /// on its thread, from several threads at once. `partitions` are all of the topic's, by number,
    /// leaderless ones too, so that hash % count stays where it is. Return an index into it
    /// (count > 0), or -1 to fail the record: that, or a number out of range, gives
    /// PRODUCER_ERR_PARTITIONING. Nothing waits in here, and to send gives
    /// PRODUCER_ERR_WOULD_DEADLOCK.
    pub partition: Option<
        unsafe extern "C-unwind" fn(
            record: *const producer_record_t,
            partitions: *const producer_partition_info_t,
            count: usize,
            user_data: *mut c_void,
        ) -> i32,
    >,
    /// Once per producer, last of all: in producer_close(), in poll mode in the poll that drains
    /// it, or else in producer_free(). May be NULL. Not called where producer_new() fails.
    pub on_close: Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>,
}

// SAFETY: a size, a pointer, and functions that may be NULL.
unsafe impl Table for producer_partitioner_t {
    const NAME: &'static str = "producer_partitioner_t";
    const LEAST: usize = offset_of!(producer_partitioner_t, on_close);
}

/// A partitioner as a config keeps it.
#[derive(Clone, Copy)]
pub(super) struct PartitionerTable {
    partition: unsafe extern "C-unwind" fn(
        *const producer_record_t,
        *const producer_partition_info_t,
        usize,
        *mut c_void,
    ) -> i32,
    on_close: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    user_data: UserData,
}

impl PartitionerTable {
    /// # Safety
    /// As in `convert.rs`, for as many bytes as the table says that it has.
    pub(super) unsafe fn read(table: *const producer_partitioner_t) -> Result<PartitionerTable> {
        // SAFETY: the caller's promise.
        let table = unsafe { table::read(table, "partitioner")? };
        let partition = table
            .partition
            .ok_or_else(|| invalid("partitioner->partition", "is NULL: pass a function"))?;
        let user_data = UserData(table.user_data);
        Ok(PartitionerTable { partition, on_close: table.on_close, user_data })
    }
}

/// Headers that fit on the stack.
const STACK_HEADERS: usize = 16;
/// Headers whose memory a thread keeps for its next record; more are given back.
const KEPT_HEADERS: usize = 1024;

thread_local! {
    static HEADERS: Cell<Vec<producer_header_t>> = const { Cell::new(Vec::new()) };
}

impl Partitioner for PartitionerTable {
    fn partition(&self, record: &ProducerRecord<'_>, partitions: &[PartitionInfo]) -> i32 {
        let from = record.headers;
        if from.len() <= STACK_HEADERS {
            let none =
                producer_header_t { key: producer_slice_t::NULL, value: producer_slice_t::NULL };
            let mut headers = [none; STACK_HEADERS];
            headers.iter_mut().zip(from).for_each(|(to, from)| *to = lent_header(from));
            return self.call(record, headers.get(..from.len()).unwrap_or_default(), partitions);
        }
        let mut headers = HEADERS.try_with(Cell::take).unwrap_or_default();
        headers.clear();
        headers.extend(from.iter().map(lent_header));
        let answer = self.call(record, &headers, partitions);
        if headers.capacity() <= KEPT_HEADERS {
            let _ = HEADERS.try_with(|kept| kept.set(headers));
        }
        answer
    }

    fn close(&self) {
        if let Some(on_close) = self.on_close {
            // SAFETY: C gave the function for this, and promised that the user data lives as long
            // as the producer.
            unsafe { on_close(self.user_data.0) };
        }
    }
}

impl PartitionerTable {
    fn call(
        &self,
        record: &ProducerRecord<'_>,
        headers: &[producer_header_t],
        partitions: &[PartitionInfo],
    ) -> i32 {
        let has_timestamp = match record.timestamp_ms {
            Some(_) => PRODUCER_RECORD_HAS_TIMESTAMP,
            None => 0,
        };
        let record = producer_record_t {
            topic: producer_slice_t::of(record.topic.as_bytes()),
            key: producer_slice_t::of_option(record.key),
            value: producer_slice_t::of_option(record.value),
            headers: if headers.is_empty() { ptr::null() } else { headers.as_ptr() },
            header_count: headers.len(),
            timestamp_ms: record.timestamp_ms.unwrap_or(0),
            partition: 0,
            flags: has_timestamp,
            tag: record.tag,
            timeout_ms: i32::try_from(record.timeout_ms).unwrap_or(i32::MAX),
            reserved: 0,
            extension: ptr::null(),
        };
        let (first, count) = (partitions.as_ptr().cast(), partitions.len());
        // SAFETY: as for `on_close`; what is pointed to lives until this returns, and the array is
        // laid out as C's (below).
        unsafe { (self.partition)(&raw const record, first, count, self.user_data.0) }
    }
}

fn lent_header(header: &Header<'_>) -> producer_header_t {
    producer_header_t {
        key: producer_slice_t::of(header.key),
        value: producer_slice_t::of_option(header.value),
    }
}

// The core's partitions are C's.
const _: () = {
    assert!(size_of::<PartitionInfo>() == size_of::<producer_partition_info_t>());
    assert!(align_of::<PartitionInfo>() == align_of::<producer_partition_info_t>());
    macro_rules! same {
        ($($ours:ident $theirs:ident)*) => {
            $(assert!(
                offset_of!(PartitionInfo, $ours) == offset_of!(producer_partition_info_t, $theirs)
            );)*
        };
    }
    same! {
        partition partition
        leader leader
        leader_epoch leader_epoch
        replicas replica_count
        in_sync in_sync_replica_count
        reserved reserved
    }
};
