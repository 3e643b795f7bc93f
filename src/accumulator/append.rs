//! The way of a record into its partition's front.
//!
//! Runs on the thread that called `producer_send`, to the end, without a hand-off: one lock, one
//! copy. Opens, grows and closes batches under the lock; seals a closed one and wakes the network
//! thread after it is free again. Nothing here waits but for the lock: where memory is missing the
//! caller gets something to wait on, and waits outside.

mod context;
mod slow;

pub use context::AppendContext;

use super::batch::{Alone, BatchBody};
use super::front::{Front, Listing, Partition};
use super::inbox::Inbox;
use super::seal::{Claim, SealState};
use super::ticket::Waiting;
use crate::clock::Reading;
use crate::error::{Result, Status};
use crate::protocol::record_batch;
use crate::record::ProducerRecord;
use crate::sync::FrontGuard;
use slow::Slow;
use std::sync::Arc;

/// Kafka's MESSAGE_TOO_LARGE.
const MESSAGE_TOO_LARGE: Status = 10;

/// What is to be done about a closed batch.
#[derive(Debug)]
enum Duty {
    /// It is sealed here and now.
    Seal(Claim),
    /// It waits for somebody who compresses it.
    Queue,
}

impl Duty {
    /// Of whoever has closed this batch of the partition.
    fn of(partition: &Partition, body: &Arc<BatchBody>) -> Duty {
        match partition.compression {
            Some(_) => Duty::Queue,
            None => Duty::Seal(Claim::of_closer(body)),
        }
    }
}

/// A record is in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The bytes it takes there, and those of the batch's header if it is the first.
    pub bytes: usize,
    /// The batch is full now.
    pub batch_full: bool,
}

/// What came of an attempt to append.
#[derive(Debug)]
#[must_use]
pub enum Appended {
    /// The record is in a batch.
    Done(Pushed),
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

    /// The common case of [`Partition::try_append`], in line and without an error: into the open
    /// batch as it is. `None`: it takes more than that, and nothing has happened.
    #[inline(always)]
    pub fn append_if_room(
        self: &Arc<Self>,
        context: &AppendContext,
        record: &ProducerRecord<'_>,
        now: Reading,
    ) -> Option<Pushed> {
        let mut appender = self.appender(context);
        let pushed = appender.append_if_room(record, now);
        appender.unlock();
        pushed
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
        Appender { partition: self, context, front: None, wake: false, duty: None }
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
    duty: Option<Duty>,
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
            self.duty = Some(Duty::of(partition, &batch.body));
            front.closed.push_back(batch);
            self.leave();
        }
        let slow = Slow { record, payload_len, timestamp, now: now.mono, may_open: true };
        let appended = slow.append(self)?;
        if let (Appended::Done(_), Some(front)) = (&appended, &mut self.front)
            && let Some(mut batch) = front.close_open(now.mono, false)
        {
            batch.alone = Some(alone);
            self.duty = Some(Duty::of(partition, &batch.body));
            front.closed.push_back(batch);
            self.leave();
        }
        Ok(appended)
    }

    /// See [`Partition::append_if_room`].
    #[inline(always)]
    pub fn append_if_room(&mut self, record: &ProducerRecord<'_>, now: Reading) -> Option<Pushed> {
        let payload_len = record_batch::payload_len(record.key, record.value, record.headers);
        let timestamp = record.timestamp_ms.unwrap_or(now.wall_ms);
        let (partition, context) = (self.partition, self.context);
        let front = self.front.get_or_insert_with(|| partition.front.lock());
        let muted = front.muted;
        let open = front.open.as_mut()?;
        let limit = context.limit(open, muted);
        if open.cut != context.cuts.current() || now.mono >= open.next_mark || record.timeout_ms > 0
        {
            return None;
        }
        let bytes = open.push(record, payload_len, timestamp, limit).ok()?;
        partition.count_one();
        let batch_full = open.is_full();
        if batch_full {
            self.wake |= front.list(partition, &context.inbox, Listing::Ready, Inbox::NOW);
        }
        Some(Pushed { bytes, batch_full })
    }

    #[cold]
    fn append_or(
        &mut self,
        record: &ProducerRecord<'_>,
        now: Reading,
        may_open: bool,
    ) -> Result<Appended> {
        let payload_len = record_batch::payload_len(record.key, record.value, record.headers);
        self.context.check_size(payload_len)?;
        if let Some(pushed) = self.append_if_room(record, now) {
            return Ok(Appended::Done(pushed));
        }
        let timestamp = record.timestamp_ms.unwrap_or(now.wall_ms);
        let appended =
            Slow { record, payload_len, timestamp, now: now.mono, may_open }.append(self);
        if self.duty.is_some() {
            self.leave();
        }
        appended
    }

    /// Unlocks, seals the batch that was closed, and lists the partition; the last in a panic too,
    /// so that the network thread finds the batch and seals it itself.
    fn leave(&mut self) {
        let duty = self.duty.take();
        self.unlock();
        let list = || ListSealed { partition: self.partition, context: self.context };
        match duty {
            None => {}
            Some(Duty::Seal(claim)) => {
                let _list = list();
                if std::thread::panicking() {
                    drop(claim);
                } else {
                    claim.seal();
                }
            }
            Some(Duty::Queue) => {
                let topic = self.partition.compression.as_ref();
                if !topic.is_some_and(|topic| topic.queue.push(self.partition)) {
                    drop(list());
                }
            }
        }
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
        if self.duty.is_some() {
            self.leave();
        } else {
            self.unlock();
        }
    }
}

#[cfg(test)]
impl<'a> Appender<'a> {
    pub(super) fn front(&mut self) -> &mut Front {
        let partition = self.partition;
        self.front.get_or_insert_with(|| partition.front.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::super::front::{Rest, Take, Taken};
    use super::super::testing::{
        BATCH_SIZE, Bench, LINGER, MAX_REQUEST_SIZE, ms, partition, reading, record, take, take_at,
    };
    use super::slow::{FULL_STREAK, IDLE};
    use super::*;
    use crate::clock::Instant;
    use crate::protocol::crc32c;
    use crate::protocol::record_batch::BATCH_HEADER_LEN;
    use std::thread;
    use std::time::Duration;

    /// Appends values of 100 bytes until a batch is closed; how many it holds.
    fn fill(bench: &Bench, to: &Arc<Partition>, at: Instant) -> u32 {
        let before = closed(bench, to);
        while closed(bench, to) == before {
            bench.must_append(to, at, 100);
        }
        let mut appender = to.appender(&bench.context);
        let batch = appender.front().closed.back().unwrap();
        batch.body.count()
    }

    fn closed(bench: &Bench, of: &Arc<Partition>) -> usize {
        of.appender(&bench.context).front().closed.len()
    }

    /// The sizes of the slabs that full batches are made of, the last one first filled.
    fn open_slabs(bench: &Bench, of: &Arc<Partition>) -> Vec<usize> {
        let mut appender = of.appender(&bench.context);
        appender.front().open.as_ref().unwrap().slab_sizes()
    }

    #[test]
    fn a_batch_stays_within_batch_size_and_is_listed_once_more_when_it_is_full() {
        let bench = Bench::new(1 << 20);
        let partition = partition(3);
        bench.must_append(&partition, ms(10), 100);
        bench.must_append(&partition, ms(12), 100);
        let deadline = ms(10).after(LINGER);
        assert_eq!(bench.drain_slots(), [(3, deadline)], "when its first record arrived");
        fill(&bench, &partition, ms(12));
        assert_eq!(bench.drain_slots(), [(3, Inbox::NOW)]);
        fill(&bench, &partition, ms(13));
        assert!(bench.drain().is_empty(), "the network thread knows");
        let (taken, batches) = take(&partition, take_at(ms(13)));
        let rest = Rest::Lingering(ms(13).after(LINGER));
        assert_eq!(taken, Taken::Batches { taken: 2, rest });
        for batch in &batches {
            assert!(batch.body.size() <= BATCH_SIZE);
            assert!(batch.body.size() > BATCH_SIZE - 110, "another record would have fitted");
            assert_eq!(batch.body.seal_state(), SealState::Sealed);
        }
        assert_eq!((batches[0].created, batches[1].created), (ms(10), ms(12)));
        let count: u32 = batches.iter().map(|batch| batch.body.count()).sum();
        assert_eq!(partition.accepted(), u64::from(count) + 1);
    }

    #[test]
    fn with_linger_0_the_first_record_makes_a_partition_ready() {
        let mut bench = Bench::new(1 << 20);
        bench.context.linger = Duration::ZERO;
        let partition = partition(1);
        assert!(bench.context.inbox.prepare_to_wait(Instant::NEVER));
        bench.must_append(&partition, ms(10), 100);
        bench.must_append(&partition, ms(10), 100);
        assert_eq!(bench.bell.rung(), 1);
        assert_eq!(bench.drain_slots(), [(1, Inbox::NOW)]);
        let (taken, batches) = take(&partition, take_at(ms(10)));
        assert_eq!(taken, Taken::Batches { taken: 1, rest: Rest::Nothing });
        assert_eq!(batches[0].body.count(), 2);
        bench.must_append(&partition, ms(10), 100);
        assert_eq!(bench.drain_slots(), [(1, Inbox::NOW)]);
    }

    #[test]
    fn without_batching_every_record_is_a_full_batch() {
        let mut bench = Bench::new(1 << 20);
        bench.context.batch_size = 0;
        let partition = partition(1);
        let appended = bench.append(&partition, ms(10), 100);
        assert!(matches!(appended, Appended::Done(Pushed { batch_full: true, .. })));
        assert_eq!(bench.drain_slots(), [(1, ms(15)), (1, Inbox::NOW)]);
        bench.must_append(&partition, ms(10), 100);
        let (taken, batches) = take(&partition, take_at(ms(10)));
        assert_eq!(taken, Taken::Batches { taken: 2, rest: Rest::Nothing });
        assert!(batches.iter().all(|batch| batch.body.count() == 1));
    }

    #[test]
    fn slabs_follow_what_the_partition_needs() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(2_000), 10);
        assert_eq!(open_slabs(&bench, &partition), [1 << 10]);
        for _ in 0..140 {
            bench.must_append(&partition, ms(2_000), 100);
        }
        let few = open_slabs(&bench, &partition);
        assert!(few.len() <= 5 && few.is_sorted(), "{few:?}");
        fill(&bench, &partition, ms(2_000));
        assert_eq!(open_slabs(&bench, &partition), [4 << 10], "one full batch");
        fill(&bench, &partition, ms(2_100));
        assert_eq!(open_slabs(&bench, &partition), [BATCH_SIZE], "two");
    }

    #[test]
    fn a_partition_that_was_idle_starts_small() {
        let bench = Bench::new(1 << 20);
        let start = ms(2_000);
        for (pause, slab) in [(IDLE, BATCH_SIZE), (IDLE + LINGER, 1 << 10)] {
            let partition = partition(0);
            for _ in 0..FULL_STREAK {
                bench.must_append(&partition, start, BATCH_SIZE + 1000);
            }
            let (_, batches) = take(&partition, take_at(start));
            assert_eq!(batches.len(), usize::from(FULL_STREAK));
            bench.must_append(&partition, start.after(pause), 10);
            assert_eq!(open_slabs(&bench, &partition), [slab], "after {pause:?}");
        }
    }

    #[test]
    fn where_memory_matters_slabs_are_small() {
        let bench = Bench::new(64 << 10);
        let (big, partition) = (partition(1), partition(0));
        bench.must_append(&big, ms(2_000), 30_000);
        fill(&bench, &partition, ms(2_000));
        let (_, batches) = take(&partition, take_at(ms(2_000)));
        let sizes = batches[0].body.slab_sizes();
        let mut used = 0;
        for (size, slab) in sizes.iter().zip(batches[0].body.slabs()) {
            assert!(*size == 1 << 10 || *size <= used / 3, "{sizes:?}");
            used += slab.len();
        }
        assert!(sizes.iter().sum::<usize>() <= used + used / 3 + (1 << 10), "{sizes:?}");
    }

    #[test]
    fn a_large_record_is_a_batch_of_its_own() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 100);
        bench.must_append(&partition, ms(1), 100_000);
        bench.must_append(&partition, ms(1), 100);
        let (_, batches) = take(&partition, take_at(ms(1)));
        let sizes: Vec<_> = batches.iter().map(|batch| batch.body.slab_sizes()).collect();
        assert_eq!(sizes, [vec![1 << 10], vec![100 << 10]]);
    }

    #[test]
    fn a_record_that_can_never_be_sent_is_refused_with_the_reason() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        let refused = |bench: &Bench, bytes: usize| {
            let value = vec![0; bytes];
            let appended = partition.try_append(&bench.context, &record(&value, 0), reading(ms(1)));
            let error = appended.unwrap_err();
            assert_eq!((error.status, error.flags), (MESSAGE_TOO_LARGE, 0));
            error.message.into_owned()
        };
        let message = refused(&bench, MAX_REQUEST_SIZE);
        // 61 for the batch, 3 for the record's length, 3 for the value's, 5 for the rest.
        let size = MAX_REQUEST_SIZE + 72;
        assert!(message.contains(&format!("takes {size} bytes")), "{message}");
        assert!(message.contains("max.request.size = 262144"), "{message}");
        let fits = vec![0; MAX_REQUEST_SIZE - 72];
        let appended = partition.try_append(&bench.context, &record(&fits, 0), reading(ms(1)));
        assert!(matches!(appended, Ok(Appended::Done { .. })));
        let (_, batches) = take(&partition, take_at(ms(1)));
        assert_eq!(batches[0].body.size(), MAX_REQUEST_SIZE);
        let message = refused(&Bench::new(10_000), 10_001);
        assert!(message.contains("buffer.memory = 10000"), "{message}");
        assert_eq!(partition.accepted(), 1);
    }

    #[test]
    fn another_cut_opens_another_batch() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 100);
        bench.must_append(&partition, ms(1), 100);
        let flushed = bench.context.cuts.advance();
        bench.must_append(&partition, ms(1), 100);
        assert_eq!(bench.context.cuts.outstanding_upto(flushed), 1);
        assert_eq!(bench.context.cuts.outstanding_upto(u64::MAX), 2);
        assert_eq!(bench.drain_slots(), [(0, ms(6)), (0, Inbox::NOW)]);
        let (_, batches) = take(&partition, take_at(ms(1)));
        assert_eq!((batches.len(), batches[0].body.count(), batches[0].cut), (1, 2, flushed));
    }

    #[test]
    fn without_memory_the_batch_is_ready_and_the_caller_gets_a_ticket() {
        let bench = Bench::new(4 << 10);
        let partition = partition(0);
        let mut accepted = 0;
        let waiting = loop {
            match bench.append(&partition, ms(1), 100) {
                Appended::Done { .. } => accepted += 1,
                Appended::NoMemory(waiting) => break waiting,
                Appended::BatchFull => panic!("not asked for"),
            }
        };
        assert_eq!(accepted, partition.accepted());
        assert!((24..36).contains(&accepted), "{accepted} of 100 bytes in 4 KiB");
        assert_eq!(bench.drain_slots(), [(0, ms(6)), (0, Inbox::NOW)]);
        let (_, batches) = take(&partition, take_at(ms(1)));
        assert_eq!(u64::from(batches[0].body.count()), accepted);
        assert!(!waiting.is_over());
        drop(batches);
        assert!(waiting.is_over());
        bench.must_append(&partition, ms(1), 100);
        assert_eq!(bench.context.pool.waiting(), 0);
    }

    /// Two partitions in 4 KiB, of which the second has 3.
    fn little_memory() -> (Bench, Arc<Partition>, Arc<Partition>) {
        let bench = Bench::new(4 << 10);
        let other = partition(1);
        for _ in 0..3 {
            bench.must_append(&other, ms(1), 900);
        }
        assert_eq!(bench.context.pool.used(), 3 << 10);
        bench.drain();
        (bench, partition(0), other)
    }

    #[test]
    fn a_batch_that_waits_for_its_turn_at_the_broker_grows_by_what_is_freed() {
        let (bench, partition, other) = little_memory();
        bench.must_append(&partition, ms(1), 600);
        let waiting = bench.must_wait(&partition, ms(1), 600);
        assert_eq!(bench.drain_slots(), [(0, ms(6)), (0, Inbox::NOW)]);
        assert!(other.try_purge(&mut Vec::new()));
        assert!(waiting.is_over());
        bench.must_append(&partition, ms(1), 600);
        drop(waiting);
        let (_, batches) = take(&partition, take_at(ms(1)));
        assert_eq!((batches.len(), batches[0].body.count()), (1, 2));
        drop(batches);
        assert_eq!((bench.context.pool.used(), bench.context.pool.waiting()), (0, 0));
    }

    #[test]
    fn tags_are_waited_for_as_slabs_are() {
        for batch_is_taken in [false, true] {
            let (bench, partition, other) = little_memory();
            for _ in 0..16 {
                bench.must_append(&partition, ms(1), 10);
            }
            let waiting = bench.must_wait(&partition, ms(1), 10);
            // What was waited for are tags; if the batch is gone by then they are its successor's
            // first slab.
            let of = if batch_is_taken { &partition } else { &other };
            let (_, batches) = take(of, take_at(ms(6)));
            drop(batches);
            assert!(waiting.is_over());
            bench.must_append(&partition, ms(6), 10);
            drop(waiting);
            let (_, batches) = take(&partition, take_at(ms(20)));
            assert_eq!(batches[0].body.count(), if batch_is_taken { 1 } else { 17 });
            drop(batches);
            assert!(other.try_purge(&mut Vec::new()));
            assert_eq!((bench.context.pool.used(), bench.context.pool.waiting()), (0, 0));
        }
    }

    #[test]
    fn a_partition_of_which_the_network_thread_knows_nothing_says_so() {
        let (bench, partition, other) = little_memory();
        bench.must_append(&partition, ms(1), 900);
        assert!(!bench.must_wait(&partition, ms(1), 900).unnoticed, "its batch is listed");
        assert!(!bench.must_wait(&other, ms(1), 900).unnoticed);
        let (_, in_flight) = take(&partition, take_at(ms(1)));
        assert!(bench.must_wait(&partition, ms(1), 900).unnoticed, "it has nothing in its front");
        drop(in_flight);
        let (_, in_flight) = take(&other, Take { mute: true, ..take_at(ms(6)) });
        bench.must_append(&partition, ms(1), 900);
        assert!(!bench.must_wait(&other, ms(6), 900).unnoticed, "one of its batches is in flight");
        drop(in_flight);
    }

    #[test]
    fn a_caller_that_gives_up_leaves_the_memory_to_the_next() {
        let bench = Bench::new(1 << 10);
        let (a, b, c) = (partition(0), partition(1), partition(2));
        bench.must_append(&a, ms(1), 100);
        let gives_up = bench.must_wait(&b, ms(1), 100);
        let waits = bench.must_wait(&c, ms(1), 100);
        let (_, batches) = take(&a, take_at(ms(20)));
        drop(batches);
        assert!(gives_up.is_over() && !waits.is_over());
        drop(gives_up);
        assert!(waits.is_over());
        bench.must_append(&c, ms(1), 100);
        let _again = bench.must_wait(&b, ms(1), 100);
    }

    #[test]
    fn a_muted_partition_grows_one_batch_and_lists_nothing() {
        let bench = Bench::new(4 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 100);
        bench.drain();
        let mute = Take { mute: true, ..take_at(ms(6)) };
        let (taken, _in_flight) = take(&partition, mute);
        assert_eq!(taken, Taken::Batches { taken: 1, rest: Rest::Muted });
        while closed(&bench, &partition) == 0 {
            bench.must_append(&partition, ms(7), 1000);
        }
        assert!(bench.drain().is_empty());
        let (taken, batches) = take(&partition, take_at(ms(8)));
        let rest = Rest::Lingering(ms(12));
        assert_eq!(taken, Taken::Batches { taken: 1, rest });
        let body = &batches[0].body;
        let within = MAX_REQUEST_SIZE - 1100..=MAX_REQUEST_SIZE;
        assert!(within.contains(&body.size()), "{}", body.size());
        let bytes: Vec<u8> = body.slabs().flatten().copied().collect();
        assert_eq!(body.seal().crc, crc32c::crc32c(&bytes));
        assert!(body.unsummed_len() <= 64 << 10, "sealing costs a slab, not the batch");
        fill(&bench, &partition, ms(9));
        assert_eq!(bench.drain_slots(), [(0, Inbox::NOW)], "not muted any more");
        let (_, batches) = take(&partition, take_at(ms(9)));
        assert!(batches[0].body.size() <= BATCH_SIZE);
    }

    #[test]
    fn an_overgrown_batch_is_ready_as_soon_as_the_partition_is_not_muted() {
        let bench = Bench::new(4 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 100);
        let (_, _in_flight) = take(&partition, Take { mute: true, ..take_at(ms(6)) });
        for _ in 0..30 {
            bench.must_append(&partition, ms(7), 1000);
        }
        let (taken, batches) = take(&partition, take_at(ms(7)));
        assert_eq!(taken, Taken::Batches { taken: 1, rest: Rest::Nothing });
        assert!(batches[0].body.size() > 30_000);
    }

    #[test]
    fn append_to_open_opens_nothing() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        let value = [0; 100];
        let append = |tag| {
            let record = record(&value, tag);
            partition.try_append_to_open(&bench.context, &record, reading(ms(1))).unwrap()
        };
        assert!(matches!(append(0), Appended::BatchFull), "there is no batch");
        bench.must_append(&partition, ms(1), 100);
        let mut count = 1;
        while let Appended::Done { .. } = append(0) {
            count += 1;
        }
        assert_eq!(partition.accepted(), count);
        let (taken, batches) = take(&partition, take_at(ms(1)));
        assert_eq!(taken, Taken::Batches { taken: 1, rest: Rest::Nothing });
        assert_eq!(u64::from(batches[0].body.count()), count);
        assert!(matches!(append(0), Appended::BatchFull));
    }

    #[test]
    fn a_run_holds_the_lock_and_tells_a_network_thread_that_could_not_wait() {
        let bench = Bench::new(1 << 20);
        let partition = partition(5);
        assert!(bench.context.inbox.prepare_to_wait(Instant::NEVER));
        let mut run = partition.appender(&bench.context);
        for tag in 0..10 {
            let appended = run.append(&record(b"value", tag), reading(ms(1))).unwrap();
            assert!(matches!(appended, Appended::Done { .. }));
        }
        assert_eq!(bench.drain_slots(), [(5, ms(6))]);
        assert_eq!(bench.bell.rung(), 0, "not while a lock is held");
        let network = Arc::clone(&partition);
        let taken = thread::Builder::new().spawn(move || take(&network, take_at(ms(9))).0);
        assert_eq!(taken.unwrap().join().unwrap(), Taken::Busy);
        drop(run);
        assert_eq!(bench.drain_slots(), [(5, Inbox::NOW)], "though it was listed");
        assert_eq!(bench.bell.rung(), 1);
        let (taken, batches) = take(&partition, take_at(ms(9)));
        assert_eq!(taken, Taken::Batches { taken: 1, rest: Rest::Nothing });
        assert_eq!(batches[0].body.tags(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_whose_closer_panics_is_listed_and_sealed_by_who_takes_it() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        bench.must_append(&partition, ms(1), 100);
        bench.drain();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut appender = partition.appender(&bench.context);
            let front = appender.front();
            let batch = front.close_open(ms(1), false).unwrap();
            let claim = Claim::of_closer(&batch.body);
            front.closed.push_back(batch);
            appender.duty = Some(Duty::Seal(claim));
            panic!("before it could seal");
        }));
        assert!(unwound.is_err());
        assert_eq!(bench.drain_slots(), [(0, Inbox::NOW)]);
        let (taken, batches) = take(&partition, take_at(ms(1)));
        assert_eq!(taken, Taken::Batches { taken: 1, rest: Rest::Nothing });
        assert_eq!(batches[0].body.seal_state(), SealState::Sealed);
    }

    #[test]
    fn a_new_batch_counts_its_header() {
        let bench = Bench::new(1 << 20);
        let partition = partition(0);
        let bytes = |appended| match appended {
            Appended::Done(Pushed { bytes, batch_full: false }) => bytes,
            other @ (Appended::Done(_) | Appended::NoMemory(_) | Appended::BatchFull) => {
                panic!("{other:?}")
            }
        };
        let first = bytes(bench.append(&partition, ms(1), 100));
        let second = bytes(bench.append(&partition, ms(1), 100));
        assert_eq!(first, second + BATCH_HEADER_LEN);
        let (_, batches) = take(&partition, take_at(ms(9)));
        assert_eq!(batches[0].body.size(), first + second);
    }
}
