//! Idempotent producers, which is what they are by default: every record once and in order, through
//! refusals, cut connections, moving leaders and brokers that forget.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::error::{MAYBE_PERSISTED, status};
use kafka_producer::mock::{CUT_AFTER_WRITE, MockCluster, StoredBatch};
use kafka_producer::producer::Producer;
use produce::{
    LONG, PRODUCE, assert_places, assert_settled, cluster, eventually, logged, producer, to,
};

/// The API key of InitProducerId.
const INIT_PRODUCER_ID: i16 = 22;
const PARTITIONS: i32 = 4;
const ROUNDS: u64 = 60;
const PER_ROUND: u64 = 200;

const QUICK: &[(&str, &str)] = &[
    ("linger.ms", "0"),
    ("retry.backoff.ms", "5"),
    ("retry.backoff.max.ms", "20"),
    ("reconnect.backoff.ms", "5"),
    ("reconnect.backoff.max.ms", "20"),
];

fn send(producer: &Producer, partition: i32, tags: std::ops::Range<u64>) {
    for tag in tags {
        producer.send(&to(partition, &tag.to_be_bytes(), tag)).unwrap();
    }
}

/// Producer id, epoch and first sequence of each batch in the log.
fn identities(cluster: &MockCluster, partition: i32) -> Vec<(i64, i16, i32)> {
    let identity = |batch: &StoredBatch| {
        let header = batch.header;
        (header.producer_id, header.producer_epoch, header.base_sequence)
    };
    cluster.batches("t", partition).iter().map(identity).collect()
}

fn log(cluster: &MockCluster, partition: i32) -> Vec<u64> {
    logged(cluster, partition).concat()
}

#[test]
fn every_record_is_there_once_and_in_order_through_trouble() {
    let settings = [QUICK, &[("linger.ms", "1"), ("batch.size", "1000")]].concat();
    for seed in 1..=5 {
        let cluster = cluster(3, PARTITIONS);
        let (producer, outcomes) = producer(&cluster, &settings);
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..ROUNDS {
            match rng.u32(0..6) {
                0 => cluster.push_errors(PRODUCE, &[6, 0, 7, 19]).unwrap(),
                1 => {
                    cluster.push_partition_errors("t", rng.i32(0..PARTITIONS), &[20, 5, 3]).unwrap()
                }
                2 => cluster.push_errors(PRODUCE, &[13]).unwrap(),
                3 => cluster.push_errors(PRODUCE, &[CUT_AFTER_WRITE]).unwrap(),
                4 => cluster.disconnect(rng.i32(1..=3)).unwrap(),
                _ => cluster.set_leader("t", rng.i32(0..PARTITIONS), rng.i32(1..=3)).unwrap(),
            }
            for tag in round * PER_ROUND..(round + 1) * PER_ROUND {
                producer.send(&to((tag % 4) as i32, &tag.to_be_bytes(), tag)).unwrap();
            }
            // Some trouble meets batches in flight, some an empty producer.
            if rng.bool() {
                let requests = cluster.request_count(0, PRODUCE);
                eventually("a request", || cluster.request_count(0, PRODUCE) > requests);
            }
        }
        producer.flush(LONG).unwrap();
        assert_settled(&producer);
        for partition in 0..PARTITIONS {
            let expected: Vec<u64> =
                (0..ROUNDS * PER_ROUND).filter(|tag| tag % 4 == partition as u64).collect();
            assert!(log(&cluster, partition) == expected, "seed {seed}, partition {partition}");
            let epochs = identities(&cluster, partition).iter().map(|id| id.1).max();
            assert_eq!(epochs, Some(0), "seed {seed}: nothing was lost, so nothing starts over");
        }
        assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
        assert_places(&cluster, &outcomes);
        assert_eq!(cluster.request_count(0, INIT_PRODUCER_ID), 1);
        assert!(cluster.complaints().is_empty(), "{:?}", cluster.complaints());
    }
}

#[test]
fn s12_a_batch_whose_answer_was_lost_is_recognised() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, QUICK);
    cluster.push_errors(PRODUCE, &[0, CUT_AFTER_WRITE]).unwrap();
    for tag in 0..4 {
        send(&producer, 0, tag..tag + 1);
        producer.flush(LONG).unwrap();
    }
    assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
    assert_eq!(log(&cluster, 0), [0, 1, 2, 3]);
    assert_eq!(cluster.request_count(0, PRODUCE), 5, "the second was sent twice");
    assert_eq!(outcomes.of(1).offset, 1, "the broker remembers where it is");
    // A broker that remembers only that it has it.
    cluster.push_errors(PRODUCE, &[46]).unwrap();
    send(&producer, 0, 4..5);
    producer.flush(LONG).unwrap();
    let outcome = outcomes.of(4);
    assert_eq!((outcome.status, outcome.offset), (status::OK, -1));
}

#[test]
fn s23_what_may_pass_is_asked_again_for_a_producer_id() {
    let cluster = cluster(3, 1);
    cluster.push_errors(INIT_PRODUCER_ID, &[13, 7, 51, 14, 15, CUT_AFTER_WRITE]).unwrap();
    let (producer, outcomes) = producer(&cluster, QUICK);
    send(&producer, 0, 0..10);
    producer.flush(LONG).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
    assert_eq!(log(&cluster, 0), (0..10).collect::<Vec<_>>());
    assert_eq!(cluster.request_count(0, INIT_PRODUCER_ID), 7);
}

#[test]
fn s23_records_that_wait_for_an_id_in_vain_say_so() {
    let cluster = cluster(1, 1);
    cluster.push_errors(INIT_PRODUCER_ID, &[51; 10_000]).unwrap();
    let settings =
        [QUICK, &[("delivery.timeout.ms", "300"), ("request.timeout.ms", "200")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    send(&producer, 0, 0..1);
    producer.flush(LONG).unwrap();
    let outcome = outcomes.of(0);
    assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT);
    assert_eq!(outcome.flags & MAYBE_PERSISTED, 0);
    for word in ["delivery.timeout.ms=300", "producer id", "CONCURRENT_TRANSACTIONS"] {
        assert!(outcome.message.contains(word), "{}", outcome.message);
    }
}

#[test]
fn s24_a_refused_id_fails_records_at_once_and_the_next_ones_ask_again() {
    for (code, word) in [(90, "PRODUCER_FENCED"), (31, "IDEMPOTENT_WRITE")] {
        let cluster = cluster(1, 1);
        cluster.push_errors(INIT_PRODUCER_ID, &[code]).unwrap();
        let (producer, outcomes) = producer(&cluster, QUICK);
        send(&producer, 0, 0..3);
        outcomes.wait_for(1);
        producer.flush(LONG).unwrap();
        let outcome = outcomes.of(0);
        assert_eq!(outcome.status, i32::from(code));
        assert_eq!(outcome.flags & MAYBE_PERSISTED, 0);
        for word in [word, "enable.idempotence=false"] {
            assert!(outcome.message.contains(word), "{}", outcome.message);
        }
        // Rights can be granted.
        let mut tag = 3;
        eventually("another id", || {
            send(&producer, 0, tag..tag + 1);
            producer.flush(LONG).unwrap();
            tag += 1;
            outcomes.of(tag - 1).status == status::OK
        });
        assert_eq!(cluster.request_count(0, INIT_PRODUCER_ID), 2, "without a storm");
        assert_settled(&producer);
    }
}

#[test]
fn brokers_without_producer_ids_are_named_with_the_remedy() {
    let cluster = cluster(1, 1);
    cluster.with(|cluster| cluster.set_api_versions(INIT_PRODUCER_ID, 0, -1)).unwrap();
    let (refused, outcomes) = producer(&cluster, QUICK);
    send(&refused, 0, 0..1);
    refused.flush(LONG).unwrap();
    assert_eq!(outcomes.of(0).status, status::UNSUPPORTED);
    assert!(outcomes.of(0).message.contains("enable.idempotence=false"));
    let settings = [QUICK, &[("enable.idempotence", "false")]].concat();
    let (without, outcomes) = producer(&cluster, &settings);
    send(&without, 0, 0..1);
    without.flush(LONG).unwrap();
    assert_eq!(outcomes.of(0).status, status::OK);
    assert_eq!(identities(&cluster, 0), [(-1, -1, -1)]);
}
