//! What the tests of this room share: a context without a network thread, records, times.

use super::append::{AppendContext, Appended};
use super::batch::ProducerBatch;
use super::buffer_pool::BufferPool;
use super::cuts::Cuts;
use super::front::{Partition, Take, Taken};
use super::inbox::{Inbox, Listed};
use super::ticket::Waiting;
use crate::clock::{Instant, Reading};
use crate::record::{ProducerRecord, Tag};
use crate::sync::Wake;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) const BATCH_SIZE: usize = 16 << 10;
pub(super) const MAX_REQUEST_SIZE: usize = 256 << 10;
pub(super) const LINGER: Duration = Duration::from_millis(5);

/// Counts how often it is rung.
#[derive(Debug, Default)]
pub(super) struct Bell(AtomicU64);

impl Bell {
    pub(super) fn rung(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Fronts without a network thread: the test is that.
pub(super) struct Bench {
    pub(super) context: AppendContext,
    pub(super) bell: Arc<Bell>,
}

impl Bench {
    pub(super) fn new(memory: usize) -> Bench {
        let bell = Arc::new(Bell::default());
        let waker = || Arc::clone(&bell) as Arc<dyn Wake>;
        let context = AppendContext {
            pool: BufferPool::new(memory, BATCH_SIZE, waker()),
            inbox: Arc::new(Inbox::new(waker())),
            cuts: Arc::new(Cuts::new()),
            batch_size: BATCH_SIZE,
            max_request_size: MAX_REQUEST_SIZE,
            linger: LINGER,
        };
        Bench { context, bell }
    }

    /// Appends a value of so many bytes.
    pub(super) fn append(&self, to: &Arc<Partition>, at: Instant, bytes: usize) -> Appended {
        let value = vec![b'v'; bytes];
        to.try_append(&self.context, &record(&value, 0), reading(at)).unwrap()
    }

    /// Appends a value of so many bytes; there is memory for it.
    pub(super) fn must_append(&self, to: &Arc<Partition>, at: Instant, bytes: usize) {
        let appended = self.append(to, at, bytes);
        assert!(matches!(appended, Appended::Done { .. }), "{appended:?}");
    }

    /// Appends a value of so many bytes; there is no memory for it.
    pub(super) fn must_wait(&self, to: &Arc<Partition>, at: Instant, bytes: usize) -> Waiting {
        match self.append(to, at, bytes) {
            Appended::NoMemory(waiting) => waiting,
            other @ (Appended::Done { .. } | Appended::BatchFull) => panic!("{other:?}"),
        }
    }

    pub(super) fn drain(&self) -> Vec<Listed> {
        let mut listed = Vec::new();
        self.context.inbox.drain(&mut listed);
        listed
    }

    /// The slots of the partitions in the inbox and when they are due.
    pub(super) fn drain_slots(&self) -> Vec<(u32, Instant)> {
        self.drain().iter().map(|listed| (listed.partition.slot, listed.deadline)).collect()
    }
}

pub(super) fn partition(slot: u32) -> Arc<Partition> {
    Arc::new(Partition::new("topic".into(), 0, slot, false))
}

pub(super) fn record(value: &[u8], tag: Tag) -> ProducerRecord<'_> {
    ProducerRecord {
        topic: "topic",
        partition: None,
        key: None,
        value: Some(value),
        headers: &[],
        timestamp_ms: None,
        tag,
        timeout_ms: 0,
        as_is: false,
    }
}

/// A time that is on the grid.
pub(super) fn ms(ms: u64) -> Instant {
    Instant(ms * 1000)
}

pub(super) fn reading(mono: Instant) -> Reading {
    Reading { mono, wall_ms: i64::try_from(mono.0 / 1000).unwrap() }
}

/// Takes what is ready, as if nothing were in flight.
pub(super) fn take_at(now: Instant) -> Take {
    Take { now, force: false, force_cut: 0, max_batches: 100, mute: false, closed_only: false }
}

pub(super) fn take(from: &Arc<Partition>, take: Take) -> (Taken, Vec<ProducerBatch>) {
    let mut out = Vec::new();
    let taken = from.try_take(take, &mut out);
    (taken, out)
}
