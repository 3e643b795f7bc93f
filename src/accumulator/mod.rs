//! Records on their way into batches: a deque of batches per partition, in two halves.
//!
//! The *front* of a partition (open batch, closed ones not yet taken) belongs to the callers, under
//! its lock; its *back* (retries, what is in flight) belongs to the network thread alone. Callers
//! and network thread meet in three places: a front, the [`inbox`], and the [`buffer_pool`].
//! Nothing here waits: `try_append` says what to wait for.

pub mod append;
pub mod back;
pub mod batch;
pub mod buffer_pool;
pub mod compression;
pub mod cuts;
pub mod front;
pub mod holder;
pub mod inbox;
pub mod outgoing;
mod prefetch;
pub mod ring;
pub mod seal;
pub mod seal_queue;
pub mod slab;
pub mod ticket;
pub mod times;
mod turn;

#[cfg(all(test, feature = "mock", not(loom)))]
mod at_rest;
#[cfg(all(test, loom))]
mod models;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod testing;

use crate::clock::Reading;
use crate::config::Settings;
use crate::error::Result;
use crate::protocol::compression::Compression;
use crate::record::ProducerRecord;
use crate::sync::{Wake, lock};
use append::{AppendContext, Appended, Appender, Pushed};
use batch::Alone;
use buffer_pool::BufferPool;
use compression::TopicCompression;
use cuts::Cuts;
use foldhash::fast::FixedState;
use front::Partition;
use holder::Holder;
use inbox::Inbox;
use seal_queue::{SealQueue, SealTools};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// All partitions by slot; closed for good by [`RecordAccumulator::close`].
#[derive(Default)]
struct Registry {
    partitions: Vec<Arc<Partition>>,
    /// The topics that are compressed.
    compressed: HashMap<Arc<str>, Arc<TopicCompression>, FixedState>,
    closed: bool,
}

/// What all partitions of a producer share. Any thread.
pub struct RecordAccumulator {
    context: AppendContext,
    settings: Arc<Settings>,
    seal_queue: Arc<SealQueue>,
    registry: Mutex<Registry>,
    aborted: AtomicU64,
    holder: Holder,
}

impl RecordAccumulator {
    /// An accumulator without partitions, whose network thread `waker` wakes.
    pub fn new(
        settings: Arc<Settings>,
        waker: Arc<dyn Wake>,
        tools: SealTools,
    ) -> RecordAccumulator {
        let context = AppendContext {
            pool: BufferPool::new(settings.buffer_memory, settings.batch_size, Arc::clone(&waker)),
            inbox: Arc::new(Inbox::new(waker)),
            cuts: Arc::new(Cuts::new()),
            batch_size: settings.batch_size,
            max_request_size: settings.max_request_size,
            linger: settings.linger,
        };
        let (pool, inbox) = (Arc::clone(&context.pool), Arc::clone(&context.inbox));
        RecordAccumulator {
            context,
            settings,
            seal_queue: Arc::new(SealQueue::new(tools, pool, inbox)),
            registry: Mutex::new(Registry::default()),
            aborted: AtomicU64::new(0),
            holder: Holder::default(),
        }
    }

    /// The memory.
    pub fn pool(&self) -> &Arc<BufferPool> {
        &self.context.pool
    }

    /// Who holds most of the memory.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The way to the network thread.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.context.inbox
    }

    /// What waits to be compressed.
    pub fn seal_queue(&self) -> &Arc<SealQueue> {
        &self.seal_queue
    }

    /// What flush counts.
    pub fn cuts(&self) -> &Arc<Cuts> {
        &self.context.cuts
    }

    /// Makes a partition. One made after [`RecordAccumulator::close`] refuses records.
    pub fn add_partition(&self, topic: &Arc<str>, index: i32, leader: i32) -> Arc<Partition> {
        let mut registry = lock(&self.registry);
        let slot = u32::try_from(registry.partitions.len()).unwrap_or(u32::MAX);
        let partition = Partition::new(Arc::clone(topic), index, slot, registry.closed)
            .compressed(self.compression_of(&mut registry, topic));
        let partition = Arc::new(partition);
        partition.set_leader(&self.context.pool, leader);
        registry.partitions.push(Arc::clone(&partition));
        partition
    }

    fn compression_of(
        &self,
        registry: &mut Registry,
        topic: &Arc<str>,
    ) -> Option<Arc<TopicCompression>> {
        let how = self.settings.compression_for(topic);
        if how == Compression::None {
            return None;
        }
        let known = registry.compressed.entry(Arc::clone(topic));
        let new = || Arc::new(TopicCompression::new(how, Arc::clone(&self.seal_queue)));
        Some(Arc::clone(known.or_insert_with(new)))
    }

    /// All partitions, by slot.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        lock(&self.registry).partitions.clone()
    }

    /// No partition is made open any more. Returns those there are, whose fronts the caller closes.
    pub fn close(&self) -> Vec<Arc<Partition>> {
        let mut registry = lock(&self.registry);
        registry.closed = true;
        registry.partitions.clone()
    }

    /// No batch is opened any more: after the next cut every record is refused, and all that were
    /// accepted are under that cut or an older one.
    pub fn shut(&self) {
        for partition in self.close() {
            partition.shut(&self.context.inbox);
        }
    }

    /// Records accepted so far.
    pub fn accepted(&self) -> u64 {
        lock(&self.registry).partitions.iter().map(|partition| partition.accepted()).sum()
    }

    /// Records that close failed.
    pub fn aborted(&self) -> u64 {
        self.aborted.load(Ordering::Acquire)
    }

    /// Close failed so many more records.
    pub fn count_aborted(&self, count: u64) {
        self.aborted.fetch_add(count, Ordering::AcqRel);
    }

    /// Encodes a record into the partition's open batch, or says what to wait for.
    pub fn try_append(
        &self,
        partition: &Arc<Partition>,
        record: &ProducerRecord<'_>,
        reading: Reading,
    ) -> Result<Appended> {
        partition.try_append(&self.context, record, reading)
    }

    /// See [`Partition::append_if_room`].
    #[inline(always)]
    pub fn append_if_room(
        &self,
        partition: &Arc<Partition>,
        record: &ProducerRecord<'_>,
        now: Reading,
    ) -> Option<Pushed> {
        partition.append_if_room(&self.context, record, now)
    }

    /// For a run of records for one partition: see [`Partition::appender`].
    pub fn appender<'a>(&'a self, partition: &'a Arc<Partition>) -> Appender<'a> {
        partition.appender(&self.context)
    }

    /// As [`RecordAccumulator::try_append`], but opens no batch.
    pub fn try_append_to_open(
        &self,
        partition: &Arc<Partition>,
        record: &ProducerRecord<'_>,
        reading: Reading,
    ) -> Result<Appended> {
        partition.try_append_to_open(&self.context, record, reading)
    }

    /// The same into a batch of its own, which does not linger.
    pub fn try_append_alone(
        &self,
        partition: &Arc<Partition>,
        record: &ProducerRecord<'_>,
        reading: Reading,
        alone: Alone,
    ) -> Result<Appended> {
        partition.appender(&self.context).append_alone(record, reading, alone)
    }
}

#[cfg(test)]
impl RecordAccumulator {
    /// In system time, with helper threads of the system's.
    pub(crate) fn for_tests(settings: &Settings, waker: Arc<dyn Wake>) -> RecordAccumulator {
        RecordAccumulator::new(Arc::new(settings.clone()), waker, SealTools::for_tests())
    }
}
