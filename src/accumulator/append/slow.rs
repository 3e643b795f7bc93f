//! An append that needs more than room in the open batch: a batch to open, or more memory for the
//! one that is.
//!
//! As the rest of the room: the thread that called `producer_send`, under the front's lock, except
//! that the pool's mutex is taken for each slab. An open batch grows out of what is free, past
//! those who wait. Where it may not it stays open, but does not linger: the network thread takes it
//! when its broker's turn comes, and whoever appends waits in line with the partition's ticket for
//! more of it.

use super::{AppendContext, Appended, Appender, Duty, MESSAGE_TOO_LARGE, Pushed};
use crate::accumulator::batch::{Full, OpenBatch, Opening};
use crate::accumulator::buffer_pool::{BufferPool, First, SMALLEST_SLAB};
use crate::accumulator::front::{Front, History, Listing, Partition};
use crate::accumulator::inbox::Inbox;
use crate::accumulator::slab::Slab;
use crate::clock::Instant;
use crate::error::{Error, Result, status};
use crate::protocol::record_batch::{self, BATCH_HEADER_LEN};
use crate::record::ProducerRecord;
use std::sync::Arc;
use std::time::Duration;

/// A partition that got no batch for so long starts small again.
pub(super) const IDLE: Duration = Duration::from_secs(1);
/// So many full batches in a row, and the next one starts with a slab of `batch.size`.
pub(super) const FULL_STREAK: u8 = 2;

/// An append that needs more than room in the open batch.
pub(super) struct Slow<'a> {
    pub record: &'a ProducerRecord<'a>,
    pub payload_len: usize,
    pub timestamp: i64,
    pub now: Instant,
    /// A new batch may be opened; otherwise whoever calls thinks again.
    pub may_open: bool,
}

/// What an append waits for.
enum Missing {
    /// A batch: there is none open, any more or yet.
    Batch,
    /// A slab of the open batch's, with room for so many bytes.
    Slab(usize),
    /// Places for the open batch's tags, at least so many.
    Tags(usize),
}

impl Slow<'_> {
    #[cold]
    pub fn append(&self, appender: &mut Appender<'_>) -> Result<Appended> {
        let Appender { partition, context, front, wake, duty } = appender;
        let (partition, context) = (*partition, *context);
        let Some(front) = front else { return Ok(Appended::BatchFull) };
        loop {
            let missing = match self.append_to_open(front, partition, context, duty) {
                Ok(bytes) => return Ok(self.done(front, partition, context, bytes, wake)),
                Err(missing) => missing,
            };
            if let Some(open) = &mut front.open {
                // It stays open, and is as full as the broker leaves it time to become: closed here
                // and now it would be the smaller the less memory there is.
                open.deadline = open.deadline.min(self.now);
                *wake |= front.list(partition, &context.inbox, Listing::Ready, Inbox::NOW);
            }
            if front.shut {
                return Err(Error::new(status::CLOSED, "the producer is closed; make a new one"));
            }
            if !self.may_open {
                return Ok(Appended::BatchFull);
            }
            let (mut waiting, fresh) = match self.get(&missing, front, partition, context) {
                First::Memory(Some(slab)) => {
                    return self.open(slab, front, partition, context, wake);
                }
                First::Memory(None) => continue,
                First::Wait { waiting, fresh } => (waiting, fresh),
            };
            waiting.unnoticed = front.open.is_none() && front.closed.is_empty() && !front.muted;
            if fresh && context.pool.closed() == 0 {
                // Nothing on its way would free any: some lingering has to end.
                *wake |= context.inbox.announce();
            }
            return Ok(Appended::NoMemory(waiting));
        }
    }

    /// A batch, with this record as its first.
    fn open(
        &self,
        slab: Slab,
        front: &mut Front,
        partition: &Arc<Partition>,
        context: &AppendContext,
        wake: &mut bool,
    ) -> Result<Appended> {
        let deadline = self.now.after(context.linger);
        let cut = context.cuts.open();
        let mut open = OpenBatch::new(Opening {
            pool: Arc::clone(&context.pool),
            slab,
            cut,
            created: self.now,
            deadline,
            base_timestamp: self.timestamp,
            full_at: context.full_at(partition),
            packs: partition.compression.is_some(),
        });
        // However large: the first record is what the slab was made for.
        let Ok(len) = self.push(&mut open, usize::MAX) else {
            context.cuts.completed(open.cut);
            return Err(Error::new(MESSAGE_TOO_LARGE, "the record cannot be encoded"));
        };
        let lingers = open.deadline > self.now;
        front.open(open, partition);
        if lingers {
            *wake |= front.list(partition, &context.inbox, Listing::Timed, deadline);
            // A flush that ended this cut in between may have looked for what lingers before it
            // could find this.
            if context.cuts.current() != cut {
                *wake |= front.list(partition, &context.inbox, Listing::Ready, Inbox::NOW);
            }
        }
        Ok(self.done(front, partition, context, BATCH_HEADER_LEN + len, wake))
    }

    fn push(&self, open: &mut OpenBatch, limit: usize) -> Result<usize, Full> {
        open.push_timed(self.record, self.payload_len, self.timestamp, limit, self.now)
    }

    /// Into the open batch, grown if need be out of what is free. If that is full, or of a cut that
    /// has ended, it is closed.
    fn append_to_open(
        &self,
        front: &mut Front,
        partition: &Partition,
        context: &AppendContext,
        duty: &mut Option<Duty>,
    ) -> Result<usize, Missing> {
        let muted = front.muted;
        let Some(open) = front.open.as_mut() else { return Err(Missing::Batch) };
        let limit = context.limit(open, muted);
        let mut full = false;
        while open.cut == context.cuts.current() {
            match self.push(open, limit) {
                Ok(len) => return Ok(len),
                Err(Full::Batch) => {
                    full = true;
                    break;
                }
                Err(Full::Slab(len)) => {
                    let slab = next_slab(open, partition, context, len, limit);
                    open.chain(slab.ok_or(Missing::Slab(len))?);
                }
                Err(Full::Tags) => {
                    let least = open.tags_wanted();
                    let count = least.max(front.history.count);
                    let slab = context.pool.grow_tags(count, &partition.leader);
                    let slab = slab.or_else(|| context.pool.grow_tags(least, &partition.leader));
                    open.move_tags(slab.ok_or(Missing::Tags(least))?);
                }
                Err(Full::Deadlines) => {
                    let count = open.deadlines_wanted();
                    let Some(slab) = context.pool.grow_tags(count, &partition.leader) else {
                        break;
                    };
                    open.move_deadlines(slab);
                }
            }
        }
        if let Some(batch) = front.close_open(self.now, full) {
            *duty = Some(Duty::of(partition, &batch.body));
            front.closed.push_back(batch);
        }
        Err(Missing::Batch)
    }

    /// The record is in the open batch, which is ready if that is full, does not linger, or has a
    /// record that would not live to see the end of it.
    fn done(
        &self,
        front: &mut Front,
        partition: &Arc<Partition>,
        context: &AppendContext,
        bytes: usize,
        wake: &mut bool,
    ) -> Appended {
        partition.count_one();
        let open = front.open.as_ref();
        let batch_full = open.is_some_and(OpenBatch::is_full);
        if batch_full || open.is_some_and(|open| open.deadline <= self.now) {
            *wake |= front.list(partition, &context.inbox, Listing::Ready, Inbox::NOW);
        }
        Appended::Done(Pushed { bytes, batch_full })
    }

    /// What is missing, in turn: in the open batch now, or the first slab of a batch to open.
    fn get(
        &self,
        missing: &Missing,
        front: &mut Front,
        partition: &Partition,
        context: &AppendContext,
    ) -> First<Option<Slab>> {
        let pool = &context.pool;
        let whose = (partition.slot, &partition.leader);
        let likely = self.likely_len(&front.history, context);
        let Front { open, ticket, .. } = front;
        match (missing, open) {
            (Missing::Tags(count), Some(open)) => {
                pool.first_tags(whose, *count, ticket).map(|tags| {
                    open.move_tags(tags);
                    None
                })
            }
            (Missing::Slab(len), Some(open)) => {
                // Half of what is there already at least: no wait per record.
                let used = open.records_len();
                let wish = likely.saturating_sub(used).max(used / 2);
                let (least, size) = sizes(pool, wish, *len);
                pool.first(whose, least, size, ticket).map(|slab| {
                    open.chain(slab);
                    None
                })
            }
            (Missing::Batch | Missing::Slab(_) | Missing::Tags(_), _) => {
                let len = record_batch::record_len(record_batch::body_len(0, 0, self.payload_len));
                let (least, size) = sizes(pool, likely, len);
                pool.first(whose, least, size, ticket).map(Some)
            }
        }
    }

    /// How long a batch will become, going by the last ones.
    fn likely_len(&self, history: &History, context: &AppendContext) -> usize {
        if self.now.since(history.opened) > IDLE {
            SMALLEST_SLAB
        } else if history.full_streak >= FULL_STREAK {
            context.batch_size
        } else {
            history.records_len
        }
    }
}

/// The size of a slab of which `len` bytes are needed and `wish` would be used, and the least one
/// that will do; the former is not more than a share of the memory, unless a record needs it.
fn sizes(pool: &BufferPool, wish: usize, len: usize) -> (usize, usize) {
    let least = pool.size_for(len);
    let size = pool.size_upto(wish.min(pool.limit() / 8));
    (least, if size >= len && size <= pool.limit() { size } else { least })
}

/// One more slab for an open batch, of which `len` bytes are needed and up to `limit` may be used.
fn next_slab(
    open: &OpenBatch,
    partition: &Partition,
    context: &AppendContext,
    len: usize,
    limit: usize,
) -> Option<Slab> {
    let pool = &context.pool;
    let used = open.records_len();
    // Plenty: few slabs. Else little waste: a third of what is used already.
    let most = if pool.used() <= pool.limit() / 2 { used.saturating_mul(3) } else { used / 3 };
    let least = pool.size_for(len);
    let enough = pool.size_from(limit.saturating_sub(used));
    let size = pool.size_upto(most).min(enough).max(least);
    let slab = pool.grow(size, &partition.leader);
    slab.or_else(|| if least < size { pool.grow(least, &partition.leader) } else { None })
}
