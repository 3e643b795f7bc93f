//! A batch after it left its front, as the network thread carries it: the batch, and what happened
//! to it.
//!
//! Conservation: whoever is done with one says so by [`Outgoing::finish`] and reports it. One that
//! is dropped without (by a panic that unwinds through the network thread) reports itself.

use super::batch::pieces::Piece;
use super::batch::{Alone, BatchBody, ProducerBatch};
use super::front::Partition;
use crate::clock::Instant;
use crate::transactions::sequence::Identity;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Reports a batch that nobody else did.
pub trait LastResort: Send + Sync {
    /// Its records' outcome is not known if `maybe_written`; they are lost else.
    fn report(&self, partition: &Partition, rest: Finished, maybe_written: bool);
}

/// What a report needs of a batch.
#[derive(Debug)]
pub struct Finished {
    /// The records.
    pub body: Arc<BatchBody>,
    /// The cut it belongs to.
    pub cut: u64,
    /// Set if a `send_sync` call waits for it.
    pub alone: Option<Alone>,
}

/// A batch on its way. Network thread only; written by the sender, read for a failure's
/// explanation.
pub struct Outgoing {
    /// Whose it is.
    pub partition: Arc<Partition>,
    /// Its place in the partition's order: how many records were taken before it.
    pub number: u64,
    /// What brokers know it by, once it was sent; with `enable.idempotence` only.
    pub identity: Option<Identity>,
    /// When its first record was appended.
    pub created: Instant,
    /// Set if a `send_sync` call waits for it.
    pub alone: Option<Alone>,
    /// What happened to it.
    pub history: History,
    cut: u64,
    /// `None` once it is finished.
    body: Option<Arc<BatchBody>>,
    size: usize,
    count: u32,
    last_resort: Arc<dyn LastResort>,
}

impl Outgoing {
    /// A batch that was not sent yet.
    pub fn new(
        partition: Arc<Partition>,
        batch: ProducerBatch,
        number: u64,
        last_resort: Arc<dyn LastResort>,
    ) -> Outgoing {
        let ProducerBatch { body, created, cut, alone, .. } = batch;
        let (size, count) = (body.size(), body.count());
        Outgoing {
            partition,
            number,
            identity: None,
            created,
            alone,
            history: History::default(),
            cut,
            body: Some(body),
            size,
            count,
            last_resort,
        }
    }

    /// Its records; `None` only once it is finished.
    pub fn body(&self) -> Option<&Arc<BatchBody>> {
        self.body.as_ref()
    }

    /// Its bytes on the wire.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// When its records must have their outcome, with this `delivery.timeout.ms`.
    pub fn deadline(&self, timeout: Duration) -> Instant {
        self.alone.map_or(self.created.after(timeout), |alone| alone.deadline)
    }

    /// Whether a broker may know it: it was written under its identity, and the outcome is open.
    pub fn is_sequenced_in_doubt(&self) -> bool {
        self.identity.is_some() && self.history.maybe_written
    }

    /// The cut it belongs to.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Cuts it: see [`BatchBody::cut`]. Each piece has its place in the order, and what happened to
    /// the batch, but no identity. The batch itself if somebody reads it at this moment.
    pub fn into_pieces(
        mut self,
        piece_of: impl FnMut(usize, usize) -> usize,
    ) -> Result<Vec<Outgoing>, Box<Outgoing>> {
        let Some(body) = self.body.take() else { return Err(Box::new(self)) };
        match BatchBody::cut(body, piece_of) {
            Ok(pieces) => Ok(pieces.into_iter().map(|piece| self.piece(piece)).collect()),
            Err(body) => {
                self.body = Some(body);
                Err(Box::new(self))
            }
        }
    }

    fn piece(&self, piece: Piece) -> Outgoing {
        let Piece { body, first } = piece;
        Outgoing {
            partition: Arc::clone(&self.partition),
            number: self.number + u64::from(first),
            identity: None,
            created: self.created,
            alone: None,
            history: self.history.clone(),
            cut: self.cut,
            size: body.size(),
            count: body.count(),
            body: Some(body),
            last_resort: Arc::clone(&self.last_resort),
        }
    }

    /// Ends it: the caller reports it from here on.
    pub fn finish(mut self) -> Option<Finished> {
        self.rest()
    }

    fn rest(&mut self) -> Option<Finished> {
        Some(Finished { body: self.body.take()?, cut: self.cut, alone: self.alone })
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(rest) = self.rest() {
            let maybe_written = self.history.attempts > 0 || self.history.maybe_written;
            self.last_resort.report(&self.partition, rest, maybe_written);
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("topic", &self.partition.topic)
            .field("partition", &self.partition.index)
            .field("number", &self.number)
            .field("identity", &self.identity)
            .field("count", &self.count)
            .field("history", &self.history)
            .finish_non_exhaustive()
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
