//! 10,000 partitions: none is forgotten, order is kept, and nothing becomes slow for their number.
#![cfg(feature = "mock")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::producer::Timeout;
use produce::{PRODUCE, assert_order, assert_settled, cluster, producer, to};
use std::time::Duration;

const PARTITIONS: i32 = 10_000;
/// A debug build on a busy machine takes a fraction of it; work that grows with the square does
/// not.
const BOUND: Timeout = Timeout::After(Duration::from_secs(60));

#[test]
fn ten_thousand_partitions_get_their_records_in_order() {
    let cluster = cluster(3, PARTITIONS);
    let settings = [
        ("linger.ms", "5"),
        ("batch.size", "16384"),
        ("buffer.memory", "67108864"),
        ("metadata.max.age.ms", "100000"),
    ];
    let (producer, outcomes) = producer(&cluster, &settings);
    for tag in 0..PARTITIONS as u64 {
        producer.send(&to(tag as i32, &tag.to_be_bytes(), tag)).unwrap();
    }
    producer.flush(BOUND).unwrap();
    assert_eq!(outcomes.get().len(), PARTITIONS as usize);
    for tag in PARTITIONS as u64..PARTITIONS as u64 + 200_000 {
        let partition = (tag % PARTITIONS as u64) as i32;
        producer.send(&to(partition, &tag.to_be_bytes(), tag)).unwrap();
    }
    producer.flush(BOUND).unwrap();
    assert_eq!(assert_order(&cluster, PARTITIONS, &outcomes).len(), 210_000);
    assert_settled(&producer);
}

#[test]
fn one_request_carries_more_batches_than_one_writev_takes() {
    let cluster = cluster(1, 6_000);
    let settings =
        [("linger.ms", "60000"), ("delivery.timeout.ms", "100000"), ("send.buffer.bytes", "8192")];
    let (producer, outcomes) = producer(&cluster, &settings);
    for tag in 0..6_000 {
        producer.send(&to(tag as i32, &u64::to_be_bytes(tag), tag)).unwrap();
    }
    producer.flush(BOUND).unwrap();
    assert_eq!(outcomes.get().len(), 6_000);
    // 6,000 batches of 61 bytes and a short record are below max.request.size.
    assert!(cluster.request_count(0, PRODUCE) <= 2, "{}", cluster.request_count(0, PRODUCE));
    assert_eq!(assert_order(&cluster, 6_000, &outcomes).len(), 6_000);
    assert_settled(&producer);
}

#[test]
fn all_leaders_move_at_once() {
    let cluster = cluster(2, 2_000);
    let (producer, outcomes) =
        producer(&cluster, &[("linger.ms", "20"), ("retry.backoff.ms", "20")]);
    for tag in 0..2_000 {
        producer.send(&to(tag as i32, &u64::to_be_bytes(tag), tag)).unwrap();
    }
    producer.flush(BOUND).unwrap();
    for partition in 0..2_000 {
        let (leader, _) = cluster.leader("t", partition).unwrap();
        cluster.set_leader("t", partition, 3 - leader).unwrap();
    }
    for tag in 2_000..4_000 {
        producer.send(&to(tag as i32 - 2_000, &u64::to_be_bytes(tag), tag)).unwrap();
    }
    producer.flush(BOUND).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_eq!(assert_order(&cluster, 2_000, &outcomes).len(), 4_000);
    assert_settled(&producer);
}

#[test]
fn all_expire_in_flight_at_once() {
    let cluster = cluster(1, PARTITIONS);
    let settings = [
        ("linger.ms", "5"),
        ("delivery.timeout.ms", "4000"),
        ("request.timeout.ms", "3000"),
        ("retries", "0"),
    ];
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.send(&to(0, &0_u64.to_be_bytes(), 1 << 40)).unwrap();
    producer.flush(BOUND).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    for tag in 0..PARTITIONS as u64 {
        producer.send(&to(tag as i32, &tag.to_be_bytes(), tag)).unwrap();
    }
    producer.flush(BOUND).unwrap();
    assert_eq!(outcomes.get().len(), PARTITIONS as usize + 1);
    assert_settled(&producer);
}
