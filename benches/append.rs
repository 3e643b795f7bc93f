//! What a record costs the thread that sends it: clock, lock, encoding, counters, and its share of
//! opening, growing, closing and sealing batches; and what it allocates.
//!
//! `cargo bench --bench append`. One thread appends and now and then does the network thread's
//! part, taking every batch that is ready and dropping it, so that memory is reused as it is in a
//! producer that is keeping up. Absolute figures depend on the machine; the least of several rounds
//! is given.
#![expect(clippy::print_stdout, reason = "its purpose")]

use kafka_producer::accumulator::append::{AppendContext, Appended};
use kafka_producer::accumulator::batch::ProducerBatch;
use kafka_producer::accumulator::buffer_pool::BufferPool;
use kafka_producer::accumulator::cuts::Cuts;
use kafka_producer::accumulator::front::{Partition, Take};
use kafka_producer::accumulator::inbox::{Inbox, Listed};
use kafka_producer::clock::Clock;
use kafka_producer::record::ProducerRecord;
use kafka_producer::sync::Wake;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const ROUNDS: usize = 7;
const RECORDS: u64 = 2_000_000;

/// Counts what is allocated.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator")]
// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// There is no network thread to wake.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// One producer's fronts and the network thread's part.
struct Bench {
    clock: Clock,
    context: AppendContext,
    partitions: Vec<Arc<Partition>>,
    listed: Vec<Listed>,
    batches: Vec<ProducerBatch>,
}

impl Bench {
    fn new(partitions: u32, batch_size: usize) -> Bench {
        let context = AppendContext {
            pool: BufferPool::new(32 << 20, batch_size, Arc::new(Nobody)),
            inbox: Arc::new(Inbox::new(Arc::new(Nobody))),
            cuts: Arc::new(Cuts::new()),
            batch_size,
            max_request_size: 1 << 20,
            linger: Duration::from_millis(5),
        };
        let topic: Arc<str> = "topic".into();
        let partition = |slot| Arc::new(Partition::new(Arc::clone(&topic), 0, slot, false));
        Bench {
            clock: Clock::system(),
            context,
            partitions: (0..partitions).map(partition).collect(),
            listed: Vec::new(),
            batches: Vec::new(),
        }
    }

    fn append(&self, partition: u64, value: &[u8], tag: u64) {
        let record = ProducerRecord {
            topic: "topic",
            partition: Some(0),
            key: None,
            value: Some(value),
            headers: &[],
            timestamp_ms: None,
            tag,
            timeout_ms: 0,
            as_is: false,
        };
        let partition = &self.partitions[usize::try_from(partition).unwrap_or(0)];
        let appended = partition.try_append(&self.context, &record, self.clock.reading());
        assert!(matches!(appended, Ok(Appended::Done { .. })), "{appended:?}");
    }

    /// What the network thread would do: takes all that is ready.
    fn take(&mut self) {
        self.context.inbox.drain(&mut self.listed);
        let now = self.clock.now();
        for listed in self.listed.drain(..) {
            let (force, force_cut, max_batches) = (false, 0, 100);
            let take = Take { now, force, force_cut, max_batches, mute: false, closed_only: false };
            let _ = listed.partition.try_take(take, &mut self.batches);
        }
        for batch in self.batches.drain(..) {
            black_box(batch.body.seal());
            self.context.cuts.completed(batch.cut);
        }
    }

    fn round(&mut self, value: &[u8]) -> (f64, u64) {
        let partitions = self.partitions.len() as u64;
        let (start, before) = (self.clock.now(), ALLOCATIONS.load(Ordering::Relaxed));
        for tag in 0..RECORDS {
            self.append(tag % partitions, black_box(value), tag);
            if tag % 1024 == 0 {
                self.take();
            }
        }
        let ns = self.clock.now().since(start).as_secs_f64() * 1e9;
        (ns / RECORDS as f64, ALLOCATIONS.load(Ordering::Relaxed) - before)
    }
}

fn main() {
    println!("{:<36} {:>10} {:>26}", "append", "ns/record", "allocations/M records");
    for (name, partitions, batch_size, value) in [
        ("100 B, 1 partition, 128 KiB", 1, 128 << 10, 100),
        ("100 B, 12 partitions, 128 KiB", 12, 128 << 10, 100),
        ("100 B, 1 partition, 16 KiB", 1, 16 << 10, 100),
        ("1 KiB, 1 partition, 128 KiB", 1, 128 << 10, 1024),
    ] {
        let mut bench = Bench::new(partitions, batch_size);
        let value = vec![b'v'; value];
        bench.round(&value);
        let rounds: Vec<(f64, u64)> = (0..ROUNDS).map(|_| bench.round(&value)).collect();
        let least = rounds.iter().map(|(ns, _)| *ns).fold(f64::INFINITY, f64::min);
        let allocations = rounds.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let per_million = allocations * 1_000_000 / RECORDS;
        println!("{name:<36} {least:>10.1} {per_million:>26}");
    }
    let clock = Clock::system();
    let start = clock.now();
    for _ in 0..RECORDS {
        black_box(clock.reading());
    }
    let ns = clock.now().since(start).as_secs_f64() * 1e9 / RECORDS as f64;
    println!("{:<36} {ns:>10.1}", "of which the clock");
}
