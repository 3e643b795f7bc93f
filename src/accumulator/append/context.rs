//! What all partitions of a producer append with, and the limits of batches and records.

use super::MESSAGE_TOO_LARGE;
use crate::accumulator::batch::OpenBatch;
use crate::accumulator::buffer_pool::BufferPool;
use crate::accumulator::cuts::Cuts;
use crate::accumulator::front::Partition;
use crate::accumulator::inbox::Inbox;
use crate::error::{Error, Result};
use crate::protocol::record_batch::{self, BATCH_HEADER_LEN};
use std::sync::Arc;
use std::time::Duration;

/// What all partitions of a producer append with.
#[derive(Debug)]
pub struct AppendContext {
    /// `buffer.memory`.
    pub pool: Arc<BufferPool>,
    /// Where ready partitions go.
    pub inbox: Arc<Inbox>,
    /// The current cut.
    pub cuts: Arc<Cuts>,
    /// `batch.size`.
    pub batch_size: usize,
    /// `max.request.size`.
    pub max_request_size: usize,
    /// `linger.ms`.
    pub linger: Duration,
}

impl AppendContext {
    /// From which length on the records of a batch that is opened now are enough.
    pub(super) fn full_at(&self, partition: &Partition) -> usize {
        match &partition.compression {
            Some(topic) => topic.room(self.batch_size, self.max_request_size),
            None => self.batch_size.min(self.max_request_size).saturating_sub(BATCH_HEADER_LEN),
        }
    }

    /// The most that an open batch's records may take, if they are more than one.
    #[inline]
    pub(super) fn limit(&self, open: &OpenBatch, muted: bool) -> usize {
        match muted {
            true => self.max_request_size.saturating_sub(BATCH_HEADER_LEN),
            false => open.full_at,
        }
    }

    /// Refuses a record that would not fit even alone.
    #[inline]
    pub(super) fn check_size(&self, payload_len: usize) -> Result<()> {
        let alone = record_batch::record_len(record_batch::body_len(0, 0, payload_len));
        if alone.saturating_add(BATCH_HEADER_LEN) <= self.max_request_size
            && alone <= self.pool.limit() / 2
        {
            return Ok(());
        }
        self.check_size_closely(alone)
    }

    #[cold]
    fn check_size_closely(&self, alone: usize) -> Result<()> {
        let batch = alone.saturating_add(BATCH_HEADER_LEN);
        let message = if batch > self.max_request_size {
            format!(
                "the record takes {batch} bytes in a batch of its own, more than \
                 max.request.size = {}",
                self.max_request_size
            )
        } else if self.pool.size_for(alone) > self.pool.limit() {
            format!(
                "the record takes {alone} bytes of memory, more than buffer.memory = {}",
                self.pool.limit()
            )
        } else {
            return Ok(());
        };
        Err(Error::new(MESSAGE_TOO_LARGE, message))
    }
}
