//! Outcomes: what became of a run of records of one batch, and the way from the network thread to
//! the user.
//!
//! The network thread makes a [`Delivery`] of every batch that is done and puts it into the
//! [`DeliveryQueue`]; it never runs user code. The callback thread, or whoever calls
//! `producer_poll()`, takes them out in order. One delivery covers a whole batch: its records share
//! topic, partition and outcome, and differ in their tags and offsets only.

#[cfg(all(test, loom))]
mod models;
mod queue;
pub mod reentry;
#[cfg(test)]
mod testing;

pub use queue::{DeliveryMode, DeliveryQueue};

use crate::accumulator::batch::{BatchBody, Remains};
use crate::accumulator::front::Partition;
use crate::accumulator::outgoing::Finished;
use crate::error::{Status, status};
use crate::protocol::compression::Codec;
use std::ffi::CString;
use std::sync::Arc;

/// Where records were when they failed; the values are those of the C header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Stage {
    /// Their topic's partitions were not known: the cluster denies that there is one.
    NoMetadata = 1,
    /// Their partition had no leader.
    NoLeader = 2,
    /// Their leader could not be reached.
    NotConnected = 3,
    /// They waited for their turn.
    Queued = 4,
    /// They were sent, the outcome did not arrive.
    InFlight = 5,
    /// The broker refused them.
    Answered = 6,
    /// The send refused it.
    Refused = 7,
}

/// Why records failed, for people and for code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened, where, and what to do.
    pub message: CString,
    /// Where the records were.
    pub stage: Stage,
    /// Requests that carried them.
    pub attempts: i32,
    /// The leader last tried, or -1.
    pub node: i32,
    /// The last error a broker answered, or 0.
    pub broker_status: Status,
    /// The last socket error with its address, or empty.
    pub network_error: CString,
    /// Milliseconds from send to the first request, or to the failure.
    pub queued_ms: i32,
    /// Age of the last request at the failure, in milliseconds; 0 if there was none.
    pub in_flight_ms: i32,
}

/// The outcome of one run of records that were in the same batch, in the order they were sent.
#[derive(Debug)]
pub struct Delivery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// 0, or why the records failed.
    pub status: Status,
    /// The error flags of [`crate::error`].
    pub flags: u32,
    /// Record i is at `base_offset + i`; -1 if unknown.
    pub base_offset: i64,
    /// The broker's append time, or -1 unless the topic uses LogAppendTime.
    pub append_time_ms: i64,
    /// Why; `None` on success, never on failure.
    pub failure: Option<Box<Failure>>,
    /// The tags, and the records where they are kept: always on failure.
    pub remains: Remains,
    /// The cut the batch was opened under: what `flush` counts.
    pub cut: u64,
    /// Not 0: the outcome is for the `send_sync` call of this number alone.
    pub sync_id: u64,
}

impl Delivery {
    /// Success without an offset, of a batch that is done; whoever knows more says so. Without
    /// `keep_records` the records' memory is free from here on.
    pub fn new(partition: &Partition, rest: Finished, keep_records: bool) -> Delivery {
        Delivery {
            topic: Arc::clone(&partition.topic),
            partition: partition.index,
            status: status::OK,
            flags: 0,
            base_offset: -1,
            append_time_ms: -1,
            failure: None,
            remains: match rest.places {
                None => Remains::of(rest.body, keep_records),
                Some(places) => Remains::part(rest.body, places, keep_records),
            },
            cut: rest.cut,
            sync_id: rest.alone.map_or(0, |alone| alone.sync_id),
        }
    }

    /// The records' tags, in order; never empty.
    pub fn tags(&self) -> &[u64] {
        self.remains.tags()
    }

    /// The records as they were sent, where they are there still: always on failure.
    pub fn records(&self) -> Option<&Arc<BatchBody>> {
        self.remains.records()
    }

    /// How many bytes its records are decompressed to when somebody reads them.
    pub fn unpacked_len(&self) -> usize {
        let packed = self.records().filter(|body| body.codec() != Codec::None);
        packed.map_or(0, |body| body.raw_len())
    }

    /// How many records.
    pub fn count(&self) -> usize {
        self.tags().len()
    }
}

/// Takes deliveries: the user's callback. Runs on the callback thread, and must not unwind.
pub trait DeliverySink: Send + Sync {
    /// Takes them; they are gone when it returns.
    fn deliver(&self, deliveries: &[Delivery]);
}
