//! Batches that are too large for the broker, and batches of which it refuses some records.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::error::{MAYBE_PERSISTED, status};
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::Producer;
use kafka_producer::record::ProducerRecord;
use produce::{LONG, PRODUCE, assert_settled, cluster, logged, producer, to};

const MODES: [&str; 2] = ["true", "false"];
const TOO_LARGE: i32 = 10;
const INVALID_RECORD: i32 = 87;
const INVALID_TIMESTAMP: i32 = 32;

/// One batch of whatever is sent before a flush.
fn settings(idempotence: &'static str) -> [(&'static str, &'static str); 4] {
    [
        ("linger.ms", "100000"),
        ("retry.backoff.ms", "5"),
        ("delivery.timeout.ms", "200000"),
        ("enable.idempotence", idempotence),
    ]
}

fn limit(cluster: &MockCluster, bytes: &str) {
    cluster.set_topic_config("t", "max.message.bytes", bytes).unwrap();
}

fn send(producer: &Producer, tags: std::ops::Range<u64>, bytes: usize) {
    for tag in tags {
        let value = [&tag.to_be_bytes()[..], &vec![b'v'; bytes]].concat();
        producer.send(&to(0, &value, tag)).unwrap();
    }
}

#[test]
fn a_batch_that_is_too_large_goes_in_pieces() {
    for mode in MODES {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = producer(&cluster, &settings(mode));
        limit(&cluster, "2000");
        send(&producer, 0..100, 200);
        producer.flush(LONG).unwrap();
        // What was in flight behind it went on.
        send(&producer, 100..110, 10);
        producer.flush(LONG).unwrap();
        let batches = logged(&cluster, 0);
        assert_eq!(batches.concat(), (0..110).collect::<Vec<_>>());
        assert!(batches.len() > 10, "{}", batches.len());
        assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
        for (tag, outcome) in outcomes.get().iter() {
            assert_eq!(outcome.offset, *tag as i64, "each is where its delivery says");
        }
        let epochs = cluster.batches("t", 0).iter().map(|batch| batch.header.producer_epoch).max();
        assert_eq!(epochs, Some(if mode == "true" { 0 } else { -1 }), "no number is lost");
        assert_settled(&producer);
        assert_eq!(cluster.contradictions(), [""; 0]);
    }
}

#[test]
fn pieces_keep_their_place_among_batches_in_flight() {
    for mode in MODES {
        let cluster = cluster(1, 1);
        let settings =
            [&settings(mode)[..], &[("batch.size", "1000"), ("linger.ms", "0")]].concat();
        let (producer, outcomes) = producer(&cluster, &settings);
        send(&producer, 0..1, 10);
        producer.flush(LONG).unwrap();
        limit(&cluster, "700");
        cluster.set_broker(1, true, false, 20, 0).unwrap();
        send(&producer, 1..60, 200);
        producer.flush(LONG).unwrap();
        assert_eq!(logged(&cluster, 0).concat(), (0..60).collect::<Vec<_>>());
        assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
        assert_settled(&producer);
    }
}

#[test]
fn a_record_that_is_too_large_alone_says_so() {
    for mode in MODES {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = producer(&cluster, &settings(mode));
        limit(&cluster, "2000");
        send(&producer, 0..10, 100);
        send(&producer, 10..11, 5000);
        send(&producer, 11..20, 100);
        producer.flush(LONG).unwrap();
        let outcome = outcomes.of(10);
        assert_eq!((outcome.status, outcome.flags & MAYBE_PERSISTED), (TOO_LARGE, 0));
        for word in ["the record takes 50", "max.message.bytes=2000", "message.max.bytes"] {
            assert!(outcome.message.contains(word), "{}", outcome.message);
        }
        let others: Vec<u64> = (0..20).filter(|tag| *tag != 10).collect();
        assert_eq!(logged(&cluster, 0).concat(), others);
        assert!(others.iter().all(|tag| outcomes.of(*tag).status == status::OK));
        assert_settled(&producer);
    }
}

/// A record's time is up while its batch is on the way, which is refused then: what is left of it
/// goes in pieces, and the dead record in none, nor does anybody wait for it.
#[test]
fn a_record_that_was_reported_is_in_no_piece() {
    for mode in MODES {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = producer(&cluster, &settings(mode));
        limit(&cluster, "700");
        cluster.set_broker(1, true, false, 300, 0).unwrap();
        for tag in 0..4_u64 {
            let value = [&tag.to_be_bytes()[..], &[b'v'; 400]].concat();
            let timeout_ms = if tag == 1 { 150 } else { 0 };
            producer.send(&ProducerRecord { timeout_ms, ..to(0, &value, tag) }).unwrap();
        }
        producer.flush(LONG).unwrap();
        assert_eq!(logged(&cluster, 0), [[0], [2], [3]], "{:?}", outcomes.get());
        let dead = outcomes.of(1);
        assert_eq!(dead.status, status::DELIVERY_TIMED_OUT);
        for (tag, offset) in [(0, 0), (2, 1), (3, 2)] {
            assert_eq!((outcomes.of(tag).status, outcomes.of(tag).offset), (status::OK, offset));
        }
        assert_settled(&producer);
    }
}

/// Sends 20 records, those whose tag is in `without` without key, to a topic that wants one.
fn send_keyless(producer: &Producer, without: &[u64]) {
    for tag in 0..20_u64 {
        let key = Some(&b"key"[..]).filter(|_| !without.contains(&tag));
        producer.send(&ProducerRecord { key, ..to(0, &tag.to_be_bytes(), tag) }).unwrap();
    }
}

#[test]
fn only_the_culprits_of_a_batch_fail() {
    for mode in MODES {
        let cluster = cluster(1, 1);
        cluster.set_topic_config("t", "cleanup.policy", "compact").unwrap();
        let (producer, outcomes) = producer(&cluster, &settings(mode));
        let culprits = [0, 7, 8, 19];
        send_keyless(&producer, &culprits);
        producer.flush(LONG).unwrap();
        let others: Vec<u64> = (0..20).filter(|tag| !culprits.contains(tag)).collect();
        assert_eq!(logged(&cluster, 0).concat(), others, "in order");
        assert!(others.iter().all(|tag| outcomes.of(*tag).status == status::OK));
        for tag in culprits {
            let outcome = outcomes.of(tag);
            assert_eq!((outcome.status, outcome.flags & MAYBE_PERSISTED), (INVALID_RECORD, 0));
            let said = "a record without key in a compacted topic";
            assert!(outcome.message.contains(said), "{}", outcome.message);
        }
        assert_eq!(cluster.request_count(0, PRODUCE), 2);
        assert_settled(&producer);
        assert_eq!(cluster.contradictions(), [""; 0]);
        // All of them at fault, each with its own words; and the partition goes on.
        for tag in 20..23_u64 {
            producer.send(&to(0, &tag.to_be_bytes(), tag)).unwrap();
        }
        producer.flush(LONG).unwrap();
        for tag in 20..23 {
            assert_eq!(outcomes.of(tag).status, INVALID_RECORD);
            assert!(outcomes.of(tag).message.contains("without key in a compacted"));
        }
        producer
            .send(&ProducerRecord { key: Some(b"k"), ..to(0, &23_u64.to_be_bytes(), 23) })
            .unwrap();
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.of(23).status, status::OK);
    }
}

/// The record alone is the batch: cutting it out leaves nothing, and the call is still waiting.
#[test]
fn a_call_that_waits_learns_of_its_record_s_fault() {
    for mode in MODES {
        let cluster = cluster(1, 1);
        cluster.set_topic_config("t", "cleanup.policy", "compact").unwrap();
        let (producer, _) = producer(&cluster, &settings(mode));
        let error = producer.send_sync(&to(0, b"keyless", 1), LONG).unwrap_err();
        assert_eq!((error.status, error.flags & MAYBE_PERSISTED), (INVALID_RECORD, 0));
        assert!(error.message.contains("without key in a compacted"), "{}", error.message);
        assert_settled(&producer);
    }
}

#[test]
fn a_timestamp_too_far_ahead_is_the_record_s_own_fault() {
    let cluster = cluster(1, 1);
    cluster.set_topic_config("t", "message.timestamp.after.max.ms", "1000").unwrap();
    let (producer, outcomes) = producer(&cluster, &settings("true"));
    for tag in 0..5_u64 {
        let timestamp_ms = Some(i64::MAX / 2).filter(|_| tag == 2);
        producer.send(&ProducerRecord { timestamp_ms, ..to(0, &tag.to_be_bytes(), tag) }).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.of(2).status, INVALID_TIMESTAMP);
    assert_eq!(logged(&cluster, 0).concat(), [0, 1, 3, 4]);
}

#[test]
fn the_whole_batch_fails_if_that_is_wanted() {
    for mode in MODES {
        let cluster = cluster(1, 1);
        cluster.set_topic_config("t", "cleanup.policy", "compact").unwrap();
        let reject = [("reject.batch.on.record.error", "true")];
        let (producer, outcomes) = producer(&cluster, &[&settings(mode)[..], &reject].concat());
        send_keyless(&producer, &[7]);
        producer.flush(LONG).unwrap();
        assert!(outcomes.get().values().all(|outcome| outcome.status == INVALID_RECORD));
        let others = outcomes.of(3).message;
        for word in ["19 records", "number 7", "reject.batch.on.record.error=true", "without key"] {
            assert!(others.contains(word), "{others}");
        }
        assert!(outcomes.of(7).message.contains("without key"), "{}", outcomes.of(7).message);
        assert_eq!(logged(&cluster, 0).concat(), [0; 0]);
        // Nothing is stuck behind it.
        send_keyless_again(&producer);
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.of(50).status, status::OK);
        assert_settled(&producer);
    }
}

fn send_keyless_again(producer: &Producer) {
    let record = to(0, b"fifty-01", 50);
    producer.send(&ProducerRecord { key: Some(b"k"), ..record }).unwrap();
}
