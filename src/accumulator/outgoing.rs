//! A batch after it left its front, as the network thread carries it: the batch, and what happened to it.

use super::batch::ProducerBatch;
use super::front::Partition;
use crate::clock::Instant;
use std::sync::Arc;
use std::time::Duration;

/// A batch on its way. Network thread only; written by the sender, read for a failure's explanation.
#[derive(Debug)]
pub struct Outgoing {
    /// Whose it is.
    pub partition: Arc<Partition>,
    /// The batch.
    pub batch: Box<ProducerBatch>,
    /// Its place in the partition's order.
    pub number: u64,
    /// What happened to it.
    pub history: History,
}

impl Outgoing {
    /// A batch that was not sent yet.
    pub fn new(partition: Arc<Partition>, batch: Box<ProducerBatch>, number: u64) -> Outgoing {
        Outgoing { partition, batch, number, history: History::default() }
    }

    /// Its bytes on the wire.
    pub fn size(&self) -> usize {
        self.batch.body.size()
    }

    /// How many records.
    pub fn count(&self) -> u32 {
        self.batch.body.count()
    }

    /// When its records must have their outcome, with this `delivery.timeout.ms`.
    pub fn deadline(&self, timeout: Duration) -> Instant {
        self.batch.expires(timeout)
    }
}

/// A batch's attempts. Network thread only.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Requests that carried the batch and were, or may have been, written.
    pub attempts: u32,
    /// When the first request was handed to the connection.
    pub first_sent: Option<Instant>,
    /// When the last one was.
    pub last_sent: Option<Instant>,
    /// The node of the last request; `None` before the first.
    pub node: Option<i32>,
    /// The last error a broker answered, and what it said.
    pub broker_error: Option<(i16, Option<Arc<str>>)>,
    /// The last socket error with its address.
    pub network_error: Option<Arc<str>>,
    /// An attempt may have been written to the log: its outcome is not known.
    pub maybe_written: bool,
}
