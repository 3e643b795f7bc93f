//! Brokers that freeze, and the others that go on as before: what one leader may take of the
//! memory. A binary of its own: it compares how much is done in the same time.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::error::status;
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::Producer;
use produce::{LONG, assert_settled, cluster, eventually, let_pass, producer, to};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Each leads the partition of its number less 1; those that freeze are the last.
const BROKERS: i32 = 5;
/// Each broker answers after so long: what a partition gets through is bounded by waiting, not by
/// the processor, so that a busy machine changes little.
const LATENCY_MS: i32 = 100;
/// How long is counted each time.
const ROUND: Duration = Duration::from_millis(1000);
/// What a leader may take of the memory is taken in less.
const SOON: Duration = Duration::from_millis(700);
/// Before and after are compared so often at most, one right behind the other, and once is enough:
/// what else the machine does is more at one time than at another.
const ATTEMPTS: usize = 7;

/// Records that these partitions have acknowledged while a round passes.
fn round(cluster: &MockCluster, partitions: &Range<i32>) -> i64 {
    let written = || partitions.clone().map(|it| cluster.end_offset("t", it)).sum::<i64>();
    let before = written();
    let_pass(ROUND);
    written() - before
}

/// Runs `send` in a thread per broker, and compares the others before and after some froze.
fn compare(frozen: i32, send: impl Fn(&Producer, i32, u64) -> bool + Sync) {
    let cluster = cluster(BROKERS, BROKERS);
    let freeze = |nodes: Range<i32>, frozen| {
        nodes.for_each(|it| cluster.set_broker(it + 1, true, frozen, LATENCY_MS, 0).unwrap());
    };
    (0..BROKERS).for_each(|it| cluster.set_leader("t", it, it + 1).unwrap());
    freeze(0..BROKERS, false);
    let settings = [
        ("linger.ms", "0"),
        ("buffer.memory", "2097152"),
        ("batch.size", "16384"),
        ("max.request.size", "20000"),
        ("max.block.ms", "100000"),
        ("request.timeout.ms", "60000"),
        ("delivery.timeout.ms", "120000"),
    ];
    let (producer, _) = producer(&cluster, &settings);
    let accepted = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for partition in 0..BROKERS {
            let (producer, accepted, done, send) = (&producer, &accepted, &done, &send);
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    let tag = accepted.fetch_add(1, Ordering::Relaxed);
                    if !send(producer, partition, tag) {
                        let_pass(Duration::from_millis(1));
                    }
                }
            });
        }
        let _until = Until(&done, &cluster);
        eventually("everybody sends", || (0..BROKERS).all(|it| cluster.end_offset("t", it) > 50));
        let others = 0..BROKERS - frozen;
        let mut seen = Vec::new();
        loop {
            let before = round(&cluster, &others);
            freeze(others.end..BROKERS, true);
            let_pass(SOON);
            let after = round(&cluster, &others);
            freeze(others.end..BROKERS, false);
            seen.push((before, after));
            if before > 0 && after * 10 >= before * 9 {
                break;
            }
            assert!(seen.len() < ATTEMPTS, "records before and after: {seen:?}");
            let_pass(SOON);
        }
    });
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
}

/// Ends the senders, by a panic too; the frozen brokers go on so that none waits for ever.
struct Until<'a>(&'a AtomicBool, &'a MockCluster);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        for node in 1..=BROKERS {
            // Another error would be told by the test itself.
            let _ = self.1.set_broker(node, true, false, 0, 0);
        }
    }
}

const VALUE: [u8; 1500] = [7; 1500];

fn send(producer: &Producer, partition: i32, tag: u64) -> bool {
    producer.send(&to(partition, &VALUE, tag)).unwrap();
    true
}

fn try_send(producer: &Producer, partition: i32, tag: u64) -> bool {
    let refused = producer.try_send(&to(partition, &VALUE, tag)).map_err(|error| error.status);
    let expected = [Ok(()), Err(status::BUFFER_FULL), Err(status::METADATA_PENDING)];
    assert!(expected.contains(&refused), "{refused:?}");
    refused.is_ok()
}

#[test]
fn one_of_five_and_a_thread_per_broker() {
    compare(1, send);
}

#[test]
fn one_of_five_and_try_send() {
    compare(1, try_send);
}

#[test]
fn two_of_five_and_a_thread_per_broker() {
    compare(2, send);
}

#[test]
fn two_of_five_and_try_send() {
    compare(2, try_send);
}
