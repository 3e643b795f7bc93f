//! No allocation per record in steady state: appending a million records, taking their batches and
//! dropping them allocates once per batch, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

use kafka_producer::accumulator::append::{AppendContext, Appended};
use kafka_producer::accumulator::batch::ProducerBatch;
use kafka_producer::accumulator::buffer_pool::BufferPool;
use kafka_producer::accumulator::compression::TopicCompression;
use kafka_producer::accumulator::cuts::Cuts;
use kafka_producer::accumulator::front::{Partition, Take};
use kafka_producer::accumulator::inbox::{Inbox, Listed};
use kafka_producer::accumulator::seal_queue::{SealQueue, SealTools};
use kafka_producer::clock::{Clock, Instant, Reading};
use kafka_producer::log::Logger;
use kafka_producer::protocol::compression::Compression;
use kafka_producer::record::ProducerRecord;
use kafka_producer::sync::{SystemHelpers, Wake};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

const RECORDS: u64 = 1_000_000;
const LINGER: Duration = Duration::from_millis(5);

/// Counts what each thread allocates: the test harness has threads of its own.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count_one() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator")]
// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// Appends to the partitions in turn, with the network thread's part in between; the batches and
/// the allocations of the second half, when everything has found its size.
fn run(
    partitions: u64,
    value_len: usize,
    batch_size: usize,
    mute: bool,
    how: Compression,
) -> (u64, u64) {
    let context = AppendContext {
        pool: BufferPool::new(32 << 20, batch_size, Arc::new(Nobody)),
        inbox: Arc::new(Inbox::new(Arc::new(Nobody))),
        cuts: Arc::new(Cuts::new()),
        batch_size,
        max_request_size: 1 << 20,
        linger: LINGER,
    };
    let topic: Arc<str> = "topic".into();
    let tools = SealTools {
        clock: Clock::system(),
        helpers: Arc::new(SystemHelpers),
        threads: 1,
        delivery_timeout: Duration::from_secs(120),
        logger: Logger::none(),
    };
    let (pool, inbox) = (Arc::clone(&context.pool), Arc::clone(&context.inbox));
    let queue = Arc::new(SealQueue::new(tools, pool, inbox));
    let compression = (how != Compression::None)
        .then(|| Arc::new(TopicCompression::new(how, Arc::clone(&queue))));
    let partition = |slot| {
        let slot = u32::try_from(slot).unwrap();
        let partition = Partition::new(Arc::clone(&topic), 0, slot, false);
        Arc::new(partition.compressed(compression.clone()))
    };
    let partitions: Vec<Arc<Partition>> = (0..partitions).map(partition).collect();
    let value = vec![b'v'; value_len];
    let mut listed: Vec<Listed> = Vec::with_capacity(100);
    let mut taken: Vec<ProducerBatch> = Vec::with_capacity(100);
    let (mut batches, mut before) = (0, 0);
    for number in 0..RECORDS {
        if number == RECORDS / 2 {
            (batches, before) = (0, ALLOCATIONS.get());
        }
        // A record per microsecond.
        let mono = Instant(number + 2_000_000);
        let record = ProducerRecord {
            topic: &topic,
            partition: Some(0),
            key: Some(b"key"),
            value: Some(&value),
            headers: &[],
            timestamp_ms: None,
            tag: number,
            timeout_ms: 0,
            as_is: false,
        };
        let place = usize::try_from(number).unwrap() % partitions.len();
        let now = Reading { mono, wall_ms: 1_700_000_000_000 };
        let appended = partitions[place].try_append(&context, &record, now).unwrap();
        assert!(matches!(appended, Appended::Done { .. }));
        if number % 2000 == 0 {
            // As a caller that waits for memory.
            while queue.help_once(Instant::NEVER) {}
            context.inbox.drain(&mut listed);
            let take = Take {
                now: mono,
                force: false,
                force_cut: 0,
                max_batches: 100,
                mute,
                closed_only: false,
            };
            for entry in listed.drain(..) {
                let _ = entry.partition.try_take(take, &mut taken);
            }
            if mute {
                // Their batches are acknowledged at once.
                for partition in &partitions {
                    let _ = partition.try_take(take, &mut taken);
                }
            }
            for batch in taken.drain(..) {
                context.cuts.completed(batch.cut);
                batches += 1;
            }
        }
    }
    let allocations = ALLOCATIONS.get() - before;
    queue.close();
    assert!(queue.wait(Instant::NEVER));
    (batches, allocations)
}

#[test]
fn a_full_batch_is_one_allocation() {
    for batch_size in [16 << 10, 128 << 10] {
        let (batches, allocations) = run(1, 100, batch_size, false, Compression::None);
        assert!(batches > 300, "{batches} of {batch_size} bytes");
        // Its body.
        assert!(allocations <= batches + 10, "{allocations} for {batches} batches");
    }
}

#[test]
fn a_batch_of_several_slabs_is_a_few() {
    // 40 partitions get a record each 40 us: small batches, ended by linger.
    let (batches, allocations) = run(40, 1000, 128 << 10, false, Compression::None);
    assert!(batches > 2_000, "{batches}");
    // Its body, and the list of its slabs as it grows.
    assert!(allocations <= 4 * batches, "{allocations} for {batches} batches");
}

#[test]
fn a_growing_batch_allocates_by_slab() {
    let (batches, allocations) = run(1, 100, 16 << 10, true, Compression::None);
    assert!(batches > 100, "{batches}");
    assert!(allocations <= 6 * batches, "{allocations} for {batches} batches");
}

#[cfg(feature = "lz4")]
#[test]
fn a_compressed_batch_allocates_by_batch_too() {
    let (batches, allocations) = run(4, 100, 16 << 10, false, Compression::Lz4);
    assert!(batches > 30, "{batches}");
    // Beside its body and its slabs: the list of pieces, that of what they became.
    assert!(allocations <= 16 * batches, "{allocations} for {batches} batches");
}
