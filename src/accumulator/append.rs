//! The way of a record into its partition's front.
//!
//! Runs on the thread that called `producer_send`, to the end, without a hand-off: one lock, one
//! copy. Opens, grows and closes batches under the lock; seals a closed one and wakes the network
//! thread after it is free again. Nothing here waits but for the lock: where memory is missing the
//! caller gets something to wait on, and waits outside.

use super::batch::{Alone, Full, OpenBatch, Opening};
use super::buffer_pool::{BufferPool, First, SMALLEST_SLAB};
use super::cuts::Cuts;
use super::front::{Front, History, Listing, Partition};
use super::inbox::Inbox;
use super::seal::{Claim, SealState};
use super::slab::Slab;
use super::ticket::Waiting;
use crate::clock::{Instant, Reading};
use crate::error::{Error, Result, Status, status};
use crate::protocol::record_batch::{self, BATCH_HEADER_LEN};
use crate::record::ProducerRecord;
use crate::sync::FrontGuard;
use std::sync::Arc;
use std::time::Duration;

/// A partition that got no batch for so long starts small again.
const IDLE: Duration = Duration::from_secs(1);
/// So many full batches in a row, and the next one starts with a slab of `batch.size`.
const FULL_STREAK: u8 = 2;
/// Kafka's MESSAGE_TOO_LARGE.
const MESSAGE_TOO_LARGE: Status = 10;

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
    /// The most that a batch's records may take, if they are more than one.
    fn limit(&self, muted: bool) -> usize {
        let most = if muted { usize::MAX } else { self.batch_size };
        most.min(self.max_request_size).saturating_sub(BATCH_HEADER_LEN)
    }

    /// Refuses a record that would not fit even alone.
    #[inline]
    fn check_size(&self, payload_len: usize) -> Result<()> {
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

/// What came of an attempt to append.
#[derive(Debug)]
#[must_use]
pub enum Appended {
    /// The record is in a batch.
    Done {
        /// The bytes it takes there, and those of the batch's header if it is the first.
        appended_bytes: usize,
        /// The batch is full now.
        batch_full: bool,
    },
    /// Not appended: there is no memory. Wait, then append again while this is still held.
    NoMemory(Waiting),
    /// Not appended, only by [`Partition::try_append_to_open`]: it would take a new batch.
    BatchFull,
}

impl Partition {
    /// Appends a record: encodes it into the open batch, opening, growing and closing batches as
    /// need be, and sees to it that the network thread learns what it has to. Waits for nothing but
    /// other callers' appends.
    #[inline]
    pub fn try_append(
        self: &Arc<Self>,
        context: &AppendContext,
        record: &ProducerRecord<'_>,
        now: Reading,
    ) -> Result<Appended> {
        self.appender(context).append(record, now)
    }

    /// As [`Partition::try_append`], but opens no batch: where that would be necessary it closes
    /// the one that is full, and the partitioner may think again.
    #[inline]
    pub fn try_append_to_open(
        self: &Arc<Self>,
        context: &AppendContext,
        record: &ProducerRecord<'_>,
        now: Reading,
    ) -> Result<Appended> {
        self.appender(context).append_to_open(record, now)
    }

    /// For a run of records for this partition: the lock is taken with the first of them and kept
    /// until the appender is dropped, or a batch has to be sealed. Drop it before appending to
    /// another partition or waiting for anything.
    #[inline]
    pub fn appender<'a>(self: &'a Arc<Self>, context: &'a AppendContext) -> Appender<'a> {
        Appender { partition: self, context, front: None, wake: false, claim: None }
    }
}

/// A caller in a partition's front.
#[derive(Debug)]
pub struct Appender<'a> {
    partition: &'a Arc<Partition>,
    context: &'a AppendContext,
    front: Option<FrontGuard<'a, Front>>,
    /// The network thread is to be woken once the lock is free.
    wake: bool,
    /// The batch that was closed, to be sealed once the lock is free.
    claim: Option<Claim>,
}

impl<'a> Appender<'a> {
    /// See [`Partition::try_append`].
    #[inline]
    pub fn append(&mut self, record: &ProducerRecord<'_>, now: Reading) -> Result<Appended> {
        self.append_or(record, now, true)
    }

    /// See [`Partition::try_append_to_open`].
    #[inline]
    pub fn append_to_open(
        &mut self,
        record: &ProducerRecord<'_>,
        now: Reading,
    ) -> Result<Appended> {
        self.append_or(record, now, false)
    }

    /// Appends a record to a batch of its own, which is closed at once: no lingering, and the
    /// outcome is this record's alone.
    pub fn append_alone(
        &mut self,
        record: &ProducerRecord<'_>,
        now: Reading,
        alone: Alone,
    ) -> Result<Appended> {
        let payload_len = record_batch::payload_len(record.key, record.value, record.headers);
        self.context.check_size(payload_len)?;
        let timestamp = record.timestamp_ms.unwrap_or(now.wall_ms);
        let partition = self.partition;
        loop {
            let front = self.front.get_or_insert_with(|| partition.front.lock());
            // Order: what is open was appended before.
            let Some(batch) = front.close_open(now.mono, false) else { break };
            self.claim = Some(Claim::of_closer(&batch.body));
            front.closed.push_back(batch);
            self.leave();
        }
        let slow = Slow { record, payload_len, timestamp, now: now.mono, may_open: true };
        let appended = slow.append(self)?;
        if let (Appended::Done { .. }, Some(front)) = (&appended, &mut self.front)
            && let Some(mut batch) = front.close_open(now.mono, false)
        {
            batch.alone = Some(alone);
            self.claim = Some(Claim::of_closer(&batch.body));
            front.closed.push_back(batch);
            self.leave();
        }
        Ok(appended)
    }

    #[inline]
    fn append_or(
        &mut self,
        record: &ProducerRecord<'_>,
        now: Reading,
        may_open: bool,
    ) -> Result<Appended> {
        let payload_len = record_batch::payload_len(record.key, record.value, record.headers);
        self.context.check_size(payload_len)?;
        let timestamp = record.timestamp_ms.unwrap_or(now.wall_ms);
        let (partition, context) = (self.partition, self.context);
        let front = self.front.get_or_insert_with(|| partition.front.lock());
        let limit = context.limit(front.muted);
        if let Some(open) = &mut front.open
            && open.cut == context.cuts.current()
            && let Ok(len) = open.push(record, payload_len, timestamp, limit)
        {
            partition.count_one();
            let batch_full = open.is_full();
            if batch_full {
                self.wake |= front.list(partition, &context.inbox, Listing::Ready, Inbox::NOW);
            }
            return Ok(Appended::Done { appended_bytes: len, batch_full });
        }
        let appended =
            Slow { record, payload_len, timestamp, now: now.mono, may_open }.append(self);
        if self.claim.is_some() {
            self.leave();
        }
        appended
    }

    /// Unlocks, seals the batch that was closed, and lists the partition; the last in a panic too,
    /// so that the network thread finds the batch and seals it itself.
    fn leave(&mut self) {
        let claim = self.claim.take();
        self.unlock();
        let Some(claim) = claim else { return };
        let list = ListSealed { partition: self.partition, context: self.context };
        if !std::thread::panicking() {
            claim.seal();
        }
        drop(list);
    }

    #[inline]
    fn unlock(&mut self) {
        let Some(front) = self.front.take() else { return };
        let inbox = &self.context.inbox;
        if front.unlock() {
            // The network thread was here, could not wait, and has the partition in none of its
            // lists.
            self.wake |= inbox.push(self.partition, Inbox::NOW);
        }
        if std::mem::take(&mut self.wake) {
            inbox.wake();
        }
    }
}

/// Lists the partition if the batch at the head of its front is no longer being sealed.
struct ListSealed<'a> {
    partition: &'a Arc<Partition>,
    context: &'a AppendContext,
}

impl Drop for ListSealed<'_> {
    fn drop(&mut self) {
        let mut appender = self.partition.appender(self.context);
        let front = appender.front.insert(self.partition.front.lock());
        let head = front.closed.front();
        if head.is_some_and(|head| head.body.seal_state() != SealState::Claimed) {
            let inbox = &self.context.inbox;
            appender.wake |= front.list(self.partition, inbox, Listing::Ready, Inbox::NOW);
        }
    }
}

impl Drop for Appender<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.claim.is_some() {
            self.leave();
        } else {
            self.unlock();
        }
    }
}

/// An append that needs more than room in the open batch.
struct Slow<'a> {
    record: &'a ProducerRecord<'a>,
    payload_len: usize,
    timestamp: i64,
    now: Instant,
    may_open: bool,
}

impl Slow<'_> {
    #[cold]
    fn append(&self, appender: &mut Appender<'_>) -> Result<Appended> {
        let Appender { partition, context, front, wake, claim } = appender;
        let (partition, context) = (*partition, *context);
        let Some(front) = front else { return Ok(Appended::BatchFull) };
        if let Some(appended_bytes) = self.append_to_open(front, partition, context, claim) {
            return Ok(done(front, partition, context, appended_bytes, wake));
        }
        if front.shut {
            return Err(Error::new(status::CLOSED, "the producer is closed; make a new one"));
        }
        if !self.may_open {
            return Ok(Appended::BatchFull);
        }
        let len = record_batch::record_len(record_batch::body_len(0, 0, self.payload_len));
        let size = self.first_slab(front, context, len);
        match context.pool.first(partition.slot, &partition.leader, size, &mut front.ticket) {
            First::Slab(slab) => {
                let deadline = self.now.after(context.linger);
                let cut = context.cuts.open();
                let mut open = OpenBatch::new(Opening {
                    pool: Arc::clone(&context.pool),
                    slab,
                    cut,
                    created: self.now,
                    deadline,
                    base_timestamp: self.timestamp,
                    full_at: context.limit(false),
                });
                // However large: the first record is what the slab was made for.
                let pushed = open.push(self.record, self.payload_len, self.timestamp, usize::MAX);
                let Ok(len) = pushed else {
                    context.cuts.completed(open.cut);
                    return Err(Error::new(MESSAGE_TOO_LARGE, "the record cannot be encoded"));
                };
                front.open = Some(open);
                if context.linger.is_zero() {
                    *wake |= front.list(partition, &context.inbox, Listing::Ready, Inbox::NOW);
                } else {
                    *wake |= front.list(partition, &context.inbox, Listing::Timed, deadline);
                    // A flush that ended this cut in between may have looked for what lingers
                    // before it could find this.
                    if context.cuts.current() != cut {
                        *wake |= front.list(partition, &context.inbox, Listing::Ready, Inbox::NOW);
                    }
                }
                Ok(done(front, partition, context, BATCH_HEADER_LEN + len, wake))
            }
            First::Wait { waiting, fresh } => {
                if fresh && context.pool.closed() == 0 {
                    // Nothing on its way would free any: the network thread has to end some
                    // lingering.
                    *wake |= context.inbox.announce();
                }
                Ok(Appended::NoMemory(waiting))
            }
        }
    }

    /// Into the open batch, grown if need be; else that one is closed, if there is one.
    fn append_to_open(
        &self,
        front: &mut Front,
        partition: &Partition,
        context: &AppendContext,
        claim: &mut Option<Claim>,
    ) -> Option<usize> {
        let limit = context.limit(front.muted);
        let open = front.open.as_mut()?;
        let mut full = false;
        while open.cut == context.cuts.current() {
            match open.push(self.record, self.payload_len, self.timestamp, limit) {
                Ok(len) => return Some(len),
                Err(Full::Batch) => {
                    full = true;
                    break;
                }
                Err(Full::Slab(len)) => {
                    let Some(slab) = next_slab(open, partition, context, len, limit) else { break };
                    open.chain(slab);
                }
                Err(Full::Tags) => {
                    let count = open.tags_wanted().max(front.history.count);
                    let slab = context.pool.grow_tags(count, &partition.leader);
                    let least = open.tags_wanted();
                    let slab = slab.or_else(|| context.pool.grow_tags(least, &partition.leader));
                    let Some(slab) = slab else { break };
                    open.move_tags(slab);
                }
            }
        }
        let batch = front.close_open(self.now, full)?;
        *claim = Some(Claim::of_closer(&batch.body));
        front.closed.push_back(batch);
        None
    }

    /// The size of a new batch's first slab: what the last ones were like, and not more than a
    /// share of the memory.
    fn first_slab(&self, front: &Front, context: &AppendContext, len: usize) -> usize {
        let History { full_streak, records_len, opened, .. } = front.history;
        let wish = if self.now.since(opened) > IDLE {
            SMALLEST_SLAB
        } else if full_streak >= FULL_STREAK {
            context.batch_size
        } else {
            records_len
        };
        let pool = &context.pool;
        let size = pool.size_upto(wish.min(pool.limit() / 8));
        if size >= len && size <= pool.limit() { size } else { pool.size_for(len) }
    }
}

/// The record is in the open batch.
fn done(
    front: &mut Front,
    partition: &Arc<Partition>,
    context: &AppendContext,
    appended_bytes: usize,
    wake: &mut bool,
) -> Appended {
    partition.count_one();
    let batch_full = front.open.as_ref().is_some_and(OpenBatch::is_full);
    if batch_full {
        *wake |= front.list(partition, &context.inbox, Listing::Ready, Inbox::NOW);
    }
    Appended::Done { appended_bytes, batch_full }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accumulator::front::{Rest, Take, Taken};
    use crate::protocol::crc32c;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts wakes.
    #[derive(Debug, Default)]
    struct Bell(AtomicU64);

    impl crate::sync::Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn context(memory: usize, linger_ms: u64) -> AppendContext {
        let bell = Arc::new(Bell::default());
        AppendContext {
            pool: BufferPool::new(memory, 16 << 10, bell.clone()),
            inbox: Arc::new(Inbox::new(bell)),
            cuts: Arc::new(Cuts::new()),
            batch_size: 16 << 10,
            max_request_size: 1 << 20,
            linger: Duration::from_millis(linger_ms),
        }
    }

    #[test]
    fn a_record_comes_out_as_it_went_in() {
        let context = context(1 << 20, 0);
        let partition = Arc::new(Partition::new("t".into(), 0, 0, false));
        let now = Reading { mono: Instant(5_000_000), wall_ms: 77 };
        for tag in 0..100 {
            let value = vec![b'x'; 50 + tag as usize];
            let record = ProducerRecord {
                topic: "t",
                partition: None,
                key: Some(b"k"),
                value: Some(&value),
                headers: &[],
                timestamp_ms: None,
                tag,
            };
            let appended = partition.try_append(&context, &record, now).unwrap();
            assert!(matches!(appended, Appended::Done { .. }));
        }
        let mut out = Vec::new();
        let take = Take {
            now: now.mono,
            force: false,
            force_cut: 0,
            max_batches: 5,
            mute: false,
            closed_only: false,
        };
        let taken = partition.try_take(take, &mut out);
        assert_eq!(taken, Taken::Batches { taken: 1, rest: Rest::Nothing });
        let body = &out[0].body;
        assert_eq!(body.tags(), (0..100).collect::<Vec<_>>());
        let bytes: Vec<u8> = body.slabs().flatten().copied().collect();
        assert_eq!(body.seal().crc, crc32c::crc32c(&bytes));
        for (i, record) in body.records().enumerate() {
            assert_eq!(record.unwrap().value.unwrap().len(), 50 + i);
        }
        drop(out);
        assert_eq!(context.pool.used(), 0);
    }
}
