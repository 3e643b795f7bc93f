//! What a producer costs that does nothing: two threads however many brokers there are, and hardly
//! a wake-up. One test, so that no other producer's threads are in this process.
#![cfg(all(feature = "mock", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use produce::{LONG, assert_settled, cluster, eventually, let_pass, producer, timed, to};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The threads whose names begin like this: their names and folders in /proc.
fn threads(prefix: &str) -> Vec<(String, PathBuf)> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut threads: Vec<_> = tasks
        .filter_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            Some((name.trim().to_owned(), task.path()))
        })
        .filter(|(name, _)| name.starts_with(prefix))
        .collect();
    threads.sort();
    threads
}

/// How often a thread went to sleep.
fn sleeps(thread: &Path) -> u64 {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.rsplit('\t').next().unwrap().parse().unwrap()
}

#[test]
fn an_idle_producer_has_two_threads_and_wakes_at_most_twice_a_second() {
    const BROKERS: i32 = 5;
    const PARTITIONS: i32 = 200;
    let cluster = cluster(BROKERS, PARTITIONS);
    // Expiries fall within the time that is looked at, one per partition if nobody forgot them.
    let settings = [("delivery.timeout.ms", "9000"), ("request.timeout.ms", "5000")];
    let (producer, outcomes) = producer(&cluster, &settings);
    for round in 0..4 {
        for partition in 0..PARTITIONS {
            let tag = (round * PARTITIONS + partition) as u64;
            producer.send(&to(partition, &tag.to_be_bytes(), tag)).unwrap();
            let_pass(Duration::from_millis(3));
        }
    }
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len(), (4 * PARTITIONS) as usize);
    assert_settled(&producer);
    eventually("helpers have ended", || {
        let names = threads("kafka-").into_iter().map(|(name, _)| name);
        names.filter(|name| name != "kafka-mock").eq(["kafka-callback", "kafka-network"])
    });
    eventually("all are connected", || cluster.connection_count(0) == BROKERS as usize);
    let network = threads("kafka-network").remove(0).1;
    let callback = threads("kafka-callback").remove(0).1;
    let before = (sleeps(&network), sleeps(&callback));
    let ((), took) = timed(|| let_pass(Duration::from_secs(8)));
    let woken = sleeps(&network) - before.0;
    assert!(woken <= 2 * took.as_secs(), "{woken} wake-ups in {took:?}");
    let woken = sleeps(&callback) - before.1;
    assert!(woken <= 1, "the callback thread: {woken} wake-ups for nothing");
}
