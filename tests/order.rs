//! Order per partition without sequence numbers: one batch in flight, kept through refusals, cut
//! connections and moving leaders; and what `allow.reordering` gives up and keeps.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;
#[path = "support/trouble.rs"]
mod trouble;

use kafka_producer::mock::MockCluster;
use kafka_producer::producer::Producer;
use produce::{
    LONG, Outcomes, PRODUCE, assert_order, assert_places, assert_settled, cluster, eventually,
    logged, producer, to,
};
use std::sync::Arc;
use std::time::Duration;
use trouble::{PARTITIONS, PER_ROUND, ROUNDS, send_through_trouble};

const SETTINGS: &[(&str, &str)] = &[
    ("enable.idempotence", "false"),
    ("linger.ms", "1"),
    ("batch.size", "1000"),
    ("retry.backoff.ms", "5"),
    ("retry.backoff.max.ms", "20"),
    ("reconnect.backoff.ms", "5"),
    ("reconnect.backoff.max.ms", "20"),
];

#[test]
fn order_is_kept_through_trouble() {
    for seed in 1..=3 {
        let cluster = cluster(3, PARTITIONS);
        let (producer, outcomes) = producer(&cluster, SETTINGS);
        send_through_trouble(&cluster, &producer, seed);
        producer.flush(LONG).unwrap();
        assert_settled(&producer);
        let mut tags = assert_order(&cluster, PARTITIONS, &outcomes);
        tags.sort_unstable();
        assert_eq!(tags.len() as u64, ROUNDS * PER_ROUND, "seed {seed}: nothing is lost");
        assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
        assert!(cluster.complaints().is_empty(), "{:?}", cluster.complaints());
    }
}

#[test]
fn without_order_nothing_is_lost_either() {
    let cluster = cluster(3, PARTITIONS);
    let settings = [SETTINGS, &[("allow.reordering", "true")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    send_through_trouble(&cluster, &producer, 4);
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
    assert_places(&cluster, &outcomes);
    let mut tags: Vec<u64> =
        (0..PARTITIONS).flat_map(|partition| logged(&cluster, partition).concat()).collect();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len() as u64, ROUNDS * PER_ROUND);
    assert_eq!(outcomes.get().len(), tags.len());
}

/// A producer of one partition with five batches on their way to a broker that answers after so
/// many milliseconds, and how many requests it has had before.
fn five_batches(
    settings: &[(&str, &str)],
    latency_ms: i32,
) -> (MockCluster, Producer, Arc<Outcomes>, u64) {
    let small = [
        ("enable.idempotence", "false"),
        ("linger.ms", "0"),
        ("batch.size", "512"),
        ("max.request.size", "1000"),
    ];
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, &[&small, settings].concat());
    producer.send(&to(0, &0_u64.to_be_bytes(), 0)).unwrap();
    producer.flush(LONG).unwrap();
    let before = cluster.request_count(0, PRODUCE);
    cluster.set_broker(1, true, false, latency_ms, 0).unwrap();
    let value = [7; 600];
    for tag in 1..=5 {
        producer.send(&to(0, &[&u64::to_be_bytes(tag)[..], &value].concat(), tag)).unwrap();
    }
    (cluster, producer, outcomes, before)
}

#[test]
fn one_batch_per_partition_is_in_flight() {
    let latency_ms = 40;
    let (cluster, producer, outcomes, before) = five_batches(&[], latency_ms);
    producer.flush(LONG).unwrap();
    outcomes.wait_for(6);
    let requests = cluster.requests();
    let produces = requests.iter().filter(|request| request.api_key == PRODUCE);
    let times: Vec<_> = produces.skip(before as usize).map(|request| request.at).collect();
    assert_eq!(times.len(), 5, "each is a batch of its own");
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let least = Duration::from_millis(latency_ms as u64);
    assert!(gaps.iter().all(|gap| *gap >= least), "{gaps:?}: before the answer");
}

#[test]
fn several_are_in_flight_if_reordering_is_allowed() {
    let reordering = [("allow.reordering", "true")];
    let (cluster, producer, outcomes, before) = five_batches(&reordering, 300_000);
    // None of them is answered.
    eventually("all are sent", || cluster.request_count(0, PRODUCE) == before + 5);
    cluster.answer_now(1).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len(), 6);
}

#[test]
fn what_was_refused_by_the_old_leader_goes_to_the_new_one_at_once() {
    let cluster = cluster(2, 1);
    let (leader, _) = cluster.leader("t", 0).unwrap();
    // Longer than it is waited for.
    let settings =
        [("linger.ms", "0"), ("retry.backoff.ms", "60000"), ("retry.backoff.max.ms", "60000")];
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.send(&to(0, &1_u64.to_be_bytes(), 1)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_leader("t", 0, 3 - leader).unwrap();
    producer.send(&to(0, &2_u64.to_be_bytes(), 2)).unwrap();
    outcomes.wait_for(2);
    assert_eq!(assert_order(&cluster, 1, &outcomes), [1, 2]);
}
