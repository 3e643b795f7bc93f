//! All brokers are down and much is queued: what that costs in processor time, memory and requests.
//! One test, so that the figures are this producer's.
#![cfg(all(feature = "mock", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::delivery::{Delivery, DeliveryMode, DeliverySink};
use kafka_producer::error::status;
use kafka_producer::producer::{Options, Producer, Timeout};
use produce::{
    Gate, LONG, METADATA, PATIENCE, assert_settled, cluster, config, eventually, let_pass, timed,
    to,
};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BROKERS: i32 = 3;
const PARTITIONS: i32 = 1000;
const BUFFER: u64 = 33_554_432;

/// CPU time of the threads of this name, in nanoseconds.
fn cpu_ns(name: &str) -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A callback that is slow: it returns when it may.
#[derive(Default)]
struct Slow {
    gate: Gate,
    reported: AtomicU64,
}

impl DeliverySink for Slow {
    fn deliver(&self, deliveries: &[Delivery]) {
        self.gate.pass();
        let count: usize = deliveries.iter().map(Delivery::count).sum();
        self.reported.fetch_add(count as u64, Ordering::AcqRel);
    }
}

/// Lets the callback go, also where the test fails: the producer's end waits for it.
struct Open(Arc<Slow>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.gate.open();
    }
}

#[test]
fn all_brokers_down_costs_little() {
    let cluster = cluster(BROKERS, PARTITIONS);
    let slow = Arc::new(Slow::default());
    let options =
        Options { delivery: DeliveryMode::Callback(Arc::clone(&slow) as _), ..Options::default() };
    // As by default, but for the wait for memory.
    let settings = [("buffer.memory", &*BUFFER.to_string()), ("max.block.ms", "100")];
    let producer = Producer::new(&config(&cluster, &settings), options).unwrap();
    let open = Open(Arc::clone(&slow));
    let warm = [7_u8; 100];
    let mut accepted = 0;
    let mut send = |partition: i32, value: &[u8]| {
        let sent = producer.send(&to(partition, value, accepted));
        accepted += u64::from(sent.is_ok());
        sent
    };
    producer.partitions_for("t", LONG).unwrap();
    for partition in 0..BROKERS {
        send(partition, &warm).unwrap();
    }
    let_pass(Duration::from_millis(200));
    let before = resident();
    for node in 1..=BROKERS {
        cluster.set_broker(node, false, false, 0, 0).unwrap();
    }
    // All partitions have something queued, and the memory is full.
    let value = [7_u8; 1000];
    let full = loop {
        let mut refused = None;
        for partition in 0..PARTITIONS {
            if let Err(error) = send(partition, &value) {
                refused = Some(error);
                break;
            }
        }
        if let Some(error) = refused {
            break error;
        }
    };
    assert_eq!(full.status, status::BUFFER_FULL, "{full}");
    let_pass(Duration::from_millis(500));
    let asked = cluster.request_count(0, METADATA);
    let (network, callback) = (cpu_ns("kafka-network"), cpu_ns("kafka-callback"));
    let ((), time) = timed(|| let_pass(Duration::from_secs(10)));
    let used = cpu_ns("kafka-network") - network + cpu_ns("kafka-callback") - callback;
    let share = used as f64 / time.as_nanos() as f64;
    // In a build without optimisation everything takes several times as long.
    let limit = if cfg!(debug_assertions) { 0.02 } else { 0.005 };
    assert!(share <= limit, "{:.3} % of a core", share * 100.0);
    let grown = resident().saturating_sub(before);
    let limit = BUFFER + (16 << 20) + (BROKERS as u64) * (128 << 10);
    assert!(grown <= limit, "{grown} bytes more, {limit} are allowed");
    // Brokers that are there and know no leader are asked, and not more than ten times a second.
    for partition in 0..PARTITIONS {
        cluster.set_leader("t", partition, -1).unwrap();
    }
    for node in 1..=BROKERS {
        cluster.set_broker(node, true, false, 0, 0).unwrap();
    }
    let (asked, time) = timed(|| {
        let_pass(Duration::from_secs(3));
        eventually("it is asked for", || cluster.request_count(0, METADATA) > asked);
        cluster.request_count(0, METADATA) - asked
    });
    assert!(asked as f64 <= 10.0 * time.as_secs_f64(), "{asked} requests in {time:?}");
    assert_eq!(producer.counters().buffer_limit_bytes, BUFFER);
    assert!(producer.counters().buffered_bytes <= BUFFER);
    drop(open);
    for partition in 0..PARTITIONS {
        cluster.set_leader("t", partition, 1 + partition % BROKERS).unwrap();
    }
    producer.flush(Timeout::After(PATIENCE)).unwrap();
    assert_eq!(slow.reported.load(Ordering::Acquire), accepted);
    assert_settled(&producer);
}
