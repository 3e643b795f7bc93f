//! Purge: of everything, of a topic, of a partition; what was ever written is in doubt; and
//! whatever happens at the same time, each record has one outcome (scenario S55).
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::error::{MAYBE_PERSISTED, status};
use kafka_producer::mock::{CUT_AFTER_WRITE, MockCluster};
use kafka_producer::producer::Producer;
use kafka_producer::record::ProducerRecord;
use produce::{
    LONG, Outcomes, PRODUCE, assert_settled, cluster, eventually, let_pass, producer, to,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longer than any test: nothing leaves its queue by itself.
const HELD: &[(&str, &str)] = &[
    ("linger.ms", "60000"),
    ("delivery.timeout.ms", "200000"),
    ("retry.backoff.ms", "60000"),
    ("retry.backoff.max.ms", "60000"),
];

fn on(topic: &str, partition: i32, tag: u64) -> ProducerRecord<'_> {
    ProducerRecord { topic, ..to(partition, b"x", tag) }
}

/// Topics "t" and "u" of two partitions, and a lingering record in each: tags 0 to 3.
fn held() -> (MockCluster, Producer, Arc<Outcomes>) {
    let cluster = cluster(1, 2);
    cluster.create_topic("u", 2).unwrap();
    let (producer, outcomes) = producer(&cluster, HELD);
    for (tag, (topic, partition)) in (0..).zip([("t", 0), ("t", 1), ("u", 0), ("u", 1)]) {
        producer.send(&on(topic, partition, tag)).unwrap();
    }
    (cluster, producer, outcomes)
}

#[test]
fn a_partition_a_topic_or_everything() {
    let cases: [(Option<&str>, Option<i32>, &[u64]); 5] = [
        (None, None, &[0, 1, 2, 3]),
        (Some("t"), None, &[0, 1]),
        (Some("u"), Some(1), &[3]),
        (Some("u"), Some(7), &[]),
        (Some("unheard-of"), None, &[]),
    ];
    for (topic, partition, purged) in cases {
        let (cluster, producer, outcomes) = held();
        producer.purge(topic, partition).unwrap();
        outcomes.wait_for(purged.len());
        for tag in purged {
            let outcome = outcomes.of(*tag);
            assert_eq!((outcome.status, outcome.flags), (status::ABORTED, 0), "{outcome:?}");
            assert!(outcome.message.contains("purged by producer_purge()"), "{outcome:?}");
            assert!(outcome.message.ends_with("it was not written"), "{outcome:?}");
        }
        // The others are as they were, and the partitions take records still.
        producer.send(&on("u", 1, 9)).unwrap();
        producer.flush(LONG).unwrap();
        let outcomes = outcomes.get();
        let written = outcomes.values().filter(|outcome| outcome.status == 0).count();
        assert_eq!((outcomes.len(), written), (5, 5 - purged.len()));
        let logged: i64 = ["t", "u"]
            .iter()
            .flat_map(|topic| (0..2).map(|partition| cluster.end_offset(topic, partition)))
            .sum();
        assert_eq!(logged as usize, written);
        assert_settled(&producer);
    }
}

/// Backing off: refused for sure, or written and the answer lost.
#[test]
fn what_was_ever_written_is_in_doubt() {
    for (code, maybe) in [(19, false), (6, false), (CUT_AFTER_WRITE, true), (7, true), (20, true)] {
        let cluster = cluster(1, 1);
        let settings = [HELD, &[("enable.idempotence", "false")]].concat();
        let (producer, outcomes) = producer(&cluster, &settings);
        cluster.push_errors(PRODUCE, &[code]).unwrap();
        producer.send(&to(0, b"tried", 0)).unwrap();
        let _ = producer.flush(kafka_producer::producer::Timeout::After(Duration::ZERO));
        eventually("it is tried", || cluster.request_count(1, PRODUCE) == 1);
        // Its answer may not have come yet, and what is in flight stays.
        eventually("it is purged", || {
            producer.purge(None, None).unwrap();
            outcomes.get().len() == 1
        });
        let outcome = outcomes.of(0);
        assert_eq!((outcome.status, outcome.attempts), (status::ABORTED, 1), "{outcome:?}");
        assert_eq!(outcome.flags & MAYBE_PERSISTED != 0, maybe, "{code}: {outcome:?}");
        assert_eq!(cluster.request_count(1, PRODUCE), 1);
        assert_settled(&producer);
    }
}

/// What is on its way to the broker is not purged, and what waits behind it is.
#[test]
fn what_is_in_flight_stays() {
    let cluster = cluster(1, 1);
    let settings = [("linger.ms", "0"), ("max.in.flight", "1")];
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.send(&to(0, b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, false, 300_000, 0).unwrap();
    producer.send(&to(0, b"x", 1)).unwrap();
    eventually("it is sent", || cluster.request_count(1, PRODUCE) == 2);
    producer.send(&to(0, b"x", 2)).unwrap();
    producer.purge(Some("t"), Some(0)).unwrap();
    cluster.set_broker(1, true, false, 0, 0).unwrap();
    cluster.answer_now(1).unwrap();
    producer.send(&to(0, b"x", 3)).unwrap();
    producer.flush(LONG).unwrap();
    let statuses: Vec<i32> = (0..4).map(|tag| outcomes.of(tag).status).collect();
    assert_eq!(statuses, [0, 0, status::ABORTED, 0]);
    assert_eq!(cluster.end_offset("t", 0), 3);
    assert_settled(&producer);
}

#[test]
fn leaders_move_at_the_same_time() {
    let cluster = cluster(2, 4);
    let settings = [("linger.ms", "1"), ("retry.backoff.ms", "1"), ("retry.backoff.max.ms", "5")];
    let (producer, outcomes) = producer(&cluster, &settings);
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sends = scope.spawn(|| {
            let mut tag = 0;
            while !stop.load(Ordering::Acquire) {
                producer.send(&to((tag % 4) as i32, &u64::to_be_bytes(tag), tag)).unwrap();
                tag += 1;
                // So many that some wait, and not so many that the end takes long.
                if tag.is_multiple_of(100) {
                    let_pass(Duration::from_millis(1));
                }
            }
            tag
        });
        for round in 0..150 {
            cluster.set_leader("t", round % 4, 1 + (round / 4) % 2).unwrap();
            match round % 3 {
                0 => producer.purge(None, None).unwrap(),
                1 => producer.purge(Some("t"), None).unwrap(),
                _ => producer.purge(Some("t"), Some(round % 4)).unwrap(),
            }
        }
        stop.store(true, Ordering::Release);
        sends.join().unwrap()
    });
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len() as u64, sent);
    for outcome in outcomes.get().values() {
        assert!([0, status::ABORTED].contains(&outcome.status), "{outcome:?}");
    }
    assert_settled(&producer);
}
