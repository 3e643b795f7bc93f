//! A large cluster: two threads whatever its size, and connections to those brokers alone that lead
//! what is sent to. One test, so that no other producer's threads are in this process.
#![cfg(all(feature = "mock", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(unsafe_code, reason = "the limit of descriptors is raised by a system call")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::mock::MockCluster;
use produce::{LONG, assert_settled, eventually, producer, to};
use std::fs;

const BROKERS: i32 = 500;

/// Each broker takes two descriptors for its port, and two per connection.
fn raise_the_limit_of_descriptors(needed: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a place for the limit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    if limit.rlim_cur < needed {
        limit.rlim_cur = needed.min(limit.rlim_max);
        // SAFETY: a limit as it was read.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    }
    assert!(limit.rlim_cur >= needed, "{needed} descriptors are needed (ulimit -Hn)");
}

/// The library's threads, by name; the mock cluster's is not one.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let mut names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
    names.retain(|name| name.starts_with("kafka-") && name != "kafka-mock");
    names.sort();
    names
}

fn connected(cluster: &MockCluster) -> Vec<i32> {
    (1..=BROKERS).filter(|node| cluster.connection_count(*node) > 0).collect()
}

#[test]
fn five_hundred_brokers_two_threads_and_connections_to_leaders_in_use() {
    raise_the_limit_of_descriptors(6000);
    let cluster = MockCluster::new(BROKERS).unwrap();
    // Partition p is led by broker p + 1.
    cluster.create_topic("t", BROKERS).unwrap();
    let settings = [("linger.ms", "0"), ("connections.max.idle.ms", "600000")];
    let (producer, outcomes) = producer(&cluster, &settings);
    let mut tag = 0;
    let mut send = |partitions: &[i32]| {
        for partition in partitions {
            producer.send(&to(*partition, b"x", tag)).unwrap();
            tag += 1;
        }
        producer.flush(LONG).unwrap();
    };
    let in_use = [0, 7, 250, 499];
    for _ in 0..5 {
        send(&in_use);
    }
    // The bootstrap server that was asked first is left as soon as its nodes are known.
    let leaders: Vec<i32> =
        in_use.iter().map(|partition| cluster.leader("t", *partition).unwrap().0).collect();
    // Some other broker may have been asked for the producer id.
    eventually("connections to leaders, and one more at most", || {
        let connected = connected(&cluster);
        leaders.iter().all(|leader| connected.contains(leader))
            && connected.len() <= leaders.len() + 1
            && cluster.connection_count(0) == connected.len()
    });
    assert_eq!(threads(), ["kafka-callback", "kafka-network"]);
    // All of them: as many connections, and no thread more.
    let all: Vec<i32> = (0..BROKERS).collect();
    for _ in 0..2 {
        send(&all);
        assert_eq!(threads(), ["kafka-callback", "kafka-network"]);
    }
    eventually("as many connections", || cluster.connection_count(0) == BROKERS as usize);
    assert_eq!(outcomes.get().len() as u64, tag);
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_settled(&producer);
    drop(producer);
    // The system forgets a thread a moment after it was joined.
    eventually("no thread is left", || threads().is_empty());
    eventually("all are closed", || cluster.connection_count(0) == 0);
}
