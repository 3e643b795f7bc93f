//! A batch after it left its front, as the network thread carries it: the batch, and what happened
//! to it.
//!
//! Conservation: whoever is done with one says so by [`Outgoing::finish`] and reports it. One that
//! is dropped without (by a panic that unwinds through the network thread) reports itself.

use super::batch::pieces::Piece;
use super::batch::{Alone, BatchBody, ProducerBatch};
use super::cuts::Cuts;
use super::front::Partition;
use crate::clock::Instant;
use crate::protocol::compression::Compression;
use crate::protocol::record_batch::BATCH_HEADER_LEN;
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
    /// The places of the records that are reported, ascending; `None`: all of them.
    pub places: Option<Box<[u32]>>,
}

impl Finished {
    /// Parts whose records follow each other without a gap, with the place of each one's first.
    pub fn into_runs(self) -> Vec<(u32, Finished)> {
        let Some(places) = &self.places else { return vec![(0, self)] };
        let runs = places.chunk_by(|a, b| a + 1 == *b);
        let run = |run: &[u32]| {
            let (body, places) = (Arc::clone(&self.body), Some(run.into()));
            let first = run.first().copied().unwrap_or(0);
            (first, Finished { body, cut: self.cut, alone: self.alone, places })
        };
        runs.map(run).collect()
    }
}

/// What of a batch has reached its deadline.
#[derive(Debug)]
pub enum Expiry {
    /// Nothing.
    Nothing,
    /// Every record that has no outcome.
    All,
    /// The records at these places; not all.
    Some(Box<[u32]>),
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
    /// The places of the records that have no outcome, ascending; `None`: all of them. The others
    /// were reported when they reached their deadlines, and are sent all the same: brokers may know
    /// the batch.
    open: Option<Box<[u32]>>,
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
            open: None,
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

    /// How many bytes of the batch as it was before it was compressed become so many, about; not
    /// more than half of it.
    pub fn unpacked(&self, packed: usize) -> usize {
        let Some(body) = &self.body else { return packed };
        let raw = packed.saturating_mul(body.raw_len()) / body.records_len().max(1);
        raw.min((BATCH_HEADER_LEN + body.raw_len()) / 2)
    }

    /// How many records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many of them have no outcome.
    pub fn open_count(&self) -> u32 {
        let open = self.open.as_ref().map(|open| u32::try_from(open.len()).unwrap_or(u32::MAX));
        open.unwrap_or(self.count)
    }

    /// Whether the record at this place has no outcome.
    pub fn is_open(&self, place: u32) -> bool {
        self.open.as_ref().is_none_or(|open| open.binary_search(&place).is_ok())
    }

    /// When the next of its records must have its outcome, with this `delivery.timeout.ms`.
    pub fn deadline(&self, timeout: Duration) -> Instant {
        match (&self.alone, &self.body) {
            (Some(alone), _) => alone.deadline,
            (None, Some(body)) => body.next_deadline(timeout, |place| !self.is_open(place)),
            (None, None) => Instant::NEVER,
        }
    }

    /// Whether the first of its records has a timeout of its own.
    pub fn has_own_timeout(&self) -> bool {
        let first = self.open.as_ref().and_then(|open| open.first()).copied().unwrap_or(0);
        self.body.as_ref().is_some_and(|body| body.has_own_deadline(first))
    }

    /// What has reached its deadline.
    pub fn expired(&self, now: Instant, timeout: Duration) -> Expiry {
        let Some(body) = self.body.as_ref().filter(|_| self.deadline(timeout) <= now) else {
            return Expiry::Nothing;
        };
        if self.alone.is_some() {
            return Expiry::All;
        }
        let deadlines = (0..).zip(body.deadlines(timeout));
        let dead: Box<[u32]> = deadlines
            .filter(|(place, at)| *at <= now && self.is_open(*place))
            .map(|(place, _)| place)
            .collect();
        match dead.len() == self.open_count() as usize {
            true => Expiry::All,
            false => Expiry::Some(dead),
        }
    }

    /// Parts the records at these places, some of those that have no outcome, from the others: they
    /// are to be reported. Nobody knows whether a broker has them, or gets them with the others.
    pub fn part(&mut self, dead: Box<[u32]>, cuts: &Cuts) -> Outgoing {
        cuts.opened(self.cut);
        let left =
            (0..self.count).filter(|at| self.is_open(*at) && dead.binary_search(at).is_err());
        self.open = Some(left.collect());
        Outgoing {
            partition: Arc::clone(&self.partition),
            alone: self.alone,
            history: History { maybe_written: true, ..self.history.clone() },
            body: self.body.clone(),
            open: Some(dead),
            last_resort: Arc::clone(&self.last_resort),
            ..*self
        }
    }

    /// Whether a broker may know it: it was written under its identity, and the outcome is open.
    pub fn is_sequenced_in_doubt(&self) -> bool {
        self.identity.is_some() && self.history.maybe_written
    }

    /// Cuts it: see [`BatchBody::cut`]. Each piece has its place in the order, and what happened to
    /// the batch, but no identity, and is counted as one of its cut. What was reported before has
    /// its outcome, and is in none of them. The batch itself if somebody reads it at this moment.
    pub fn into_pieces(
        mut self,
        cuts: &Cuts,
        mut piece_of: impl FnMut(usize, usize) -> usize,
    ) -> Result<Vec<Outgoing>, Box<Outgoing>> {
        let Some(body) = self.body.take() else { return Err(Box::new(self)) };
        let topic = self.partition.compression();
        let how = topic.map_or(Compression::None, |topic| topic.fastest());
        // More than there are pieces.
        let last = usize::try_from(self.count).unwrap_or(usize::MAX).saturating_add(1);
        let cut = BatchBody::cut(body, how, |place, len| match self.is_open(to_place(place)) {
            true => piece_of(place, len),
            false => last,
        });
        match cut {
            Ok(mut pieces) => {
                if self.open_count() < self.count {
                    pieces.pop();
                }
                for _ in pieces.iter().skip(1) {
                    cuts.opened(self.cut);
                }
                Ok(pieces.into_iter().map(|piece| self.piece(piece)).collect())
            }
            Err(body) => {
                self.body = Some(body);
                Err(Box::new(self))
            }
        }
    }

    /// Cuts out the records at these places, some of those that have no outcome: first what is
    /// left, then they. The batch itself if somebody reads it at this moment.
    pub fn without(
        self,
        dead: &[u32],
        cuts: &Cuts,
    ) -> Result<[Option<Outgoing>; 2], Box<Outgoing>> {
        let is_dead = |place| dead.binary_search(&to_place(place)).is_ok();
        let pieces = self.into_pieces(cuts, |place, _| usize::from(is_dead(place)))?;
        let mut pieces = pieces.into_iter();
        Ok([pieces.next(), pieces.next()])
    }

    fn piece(&self, piece: Piece) -> Outgoing {
        let Piece { body, places } = piece;
        let first = places.first().copied().unwrap_or(0);
        Outgoing {
            open: None,
            partition: Arc::clone(&self.partition),
            number: self.number + u64::from(first),
            identity: None,
            created: self.created,
            // One record: it is the piece.
            alone: self.alone,
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
        let (body, places) = (self.body.take()?, self.open.take());
        Some(Finished { body, cut: self.cut, alone: self.alone, places })
    }
}

/// A place as batches count them.
pub fn to_place(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
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
