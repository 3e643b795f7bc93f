//! Order per partition without sequence numbers: one batch in flight, kept through refusals, cut
//! connections and moving leaders; and what `allow.reordering` gives up and keeps.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;
#[path = "support/trouble.rs"]
mod trouble;

use produce::{
    LONG, PRODUCE, assert_order, assert_places, assert_settled, cluster, eventually, logged,
    producer, to,
};
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

/// The shortest time between two Produce requests of a producer of one partition whose batches are
/// answered after 40 ms.
fn shortest_gap(settings: &[(&str, &str)]) -> Duration {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, settings);
    producer.send(&to(0, &0_u64.to_be_bytes(), 0)).unwrap();
    producer.flush(LONG).unwrap();
    let before = cluster.requests().len();
    cluster.set_broker(1, true, false, 40, 0).unwrap();
    let value = [7; 600];
    for tag in 1..=5 {
        producer.send(&to(0, &[&u64::to_be_bytes(tag)[..], &value].concat(), tag)).unwrap();
        // Each a batch of its own, sent when it can be.
        let sent = cluster.request_count(0, PRODUCE);
        if tag == 1 {
            eventually("the first request", || cluster.request_count(0, PRODUCE) > sent - 1);
        }
    }
    producer.flush(LONG).unwrap();
    outcomes.wait_for(6);
    let requests = cluster.requests();
    let times: Vec<_> = requests[before..]
        .iter()
        .filter(|request| request.api_key == PRODUCE)
        .map(|request| request.at)
        .collect();
    times.windows(2).map(|pair| pair[1].since(pair[0])).min().unwrap()
}

#[test]
fn one_batch_per_partition_is_in_flight_unless_reordering_is_allowed() {
    let settings = [
        ("enable.idempotence", "false"),
        ("linger.ms", "0"),
        ("batch.size", "512"),
        ("max.request.size", "1000"),
    ];
    let gap = shortest_gap(&settings);
    assert!(gap >= Duration::from_millis(40), "{gap:?}");
    let gap = shortest_gap(&[&settings[..], &[("allow.reordering", "true")]].concat());
    assert!(gap < Duration::from_millis(40), "{gap:?}");
}

#[test]
fn what_was_refused_by_the_old_leader_goes_to_the_new_one_at_once() {
    let cluster = cluster(2, 1);
    let (leader, _) = cluster.leader("t", 0).unwrap();
    let settings =
        [("linger.ms", "0"), ("retry.backoff.ms", "20000"), ("retry.backoff.max.ms", "20000")];
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.send(&to(0, &1_u64.to_be_bytes(), 1)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_leader("t", 0, 3 - leader).unwrap();
    let clock = kafka_producer::clock::Clock::system();
    let began = clock.now();
    producer.send(&to(0, &2_u64.to_be_bytes(), 2)).unwrap();
    outcomes.wait_for(2);
    let took = clock.now().since(began);
    assert!(took < Duration::from_secs(10), "{took:?}: it backed off from the new leader");
    assert_eq!(assert_order(&cluster, 1, &outcomes), [1, 2]);
}
