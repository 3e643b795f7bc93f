//! The public Rust API against the embedded cluster, over sockets: what a user may rely on.
#![allow(missing_docs, reason = "a test")]
#![expect(clippy::unwrap_used, reason = "a test")]

use kafka_producer::config::ProducerConfig;
use kafka_producer::delivery::{Delivery, DeliveryMode, DeliverySink};
use kafka_producer::error::{MAYBE_PERSISTED, status};
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Options, Producer, Timeout};
use kafka_producer::record::{Header, ProducerRecord};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PRODUCE: i16 = 0;
const LONG: Timeout = Timeout::After(Duration::from_secs(30));

/// Status, flags, partition, offset, message.
type Outcome = (i32, u32, i32, i64, String);

/// What became of each tag; a second outcome for one panics.
#[derive(Default)]
struct Outcomes(Mutex<BTreeMap<u64, Outcome>>);

impl DeliverySink for Outcomes {
    fn deliver(&self, deliveries: &[Delivery]) {
        let mut outcomes = self.0.lock().unwrap();
        for delivery in deliveries {
            for (index, tag) in (0..).zip(delivery.tags()) {
                let offset =
                    if delivery.base_offset < 0 { -1 } else { delivery.base_offset + index };
                let message = delivery
                    .failure
                    .as_ref()
                    .map_or(String::new(), |failure| failure.message.to_string_lossy().into());
                let outcome =
                    (delivery.status, delivery.flags, delivery.partition, offset, message);
                assert!(outcomes.insert(*tag, outcome).is_none(), "tag {tag} was reported twice");
            }
        }
    }
}

fn config(cluster: &MockCluster, settings: &[(&str, &str)]) -> ProducerConfig {
    let mut config = ProducerConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).unwrap();
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    config
}

fn producer(cluster: &MockCluster, settings: &[(&str, &str)]) -> (Producer, Arc<Outcomes>) {
    let outcomes = Arc::new(Outcomes::default());
    let options = Options {
        delivery: DeliveryMode::Callback(Arc::clone(&outcomes) as _),
        ..Options::default()
    };
    (Producer::new(&config(cluster, settings), options).unwrap(), outcomes)
}

fn record<'a>(topic: &'a str, value: &'a [u8], tag: u64) -> ProducerRecord<'a> {
    ProducerRecord {
        topic,
        partition: None,
        key: None,
        value: Some(value),
        headers: &[],
        timestamp_ms: None,
        tag,
        timeout_ms: 0,
        as_is: false,
    }
}

#[test]
fn a_record_arrives_as_it_was_sent() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 3).unwrap();
    let (producer, outcomes) = producer(&cluster, &[]);
    let headers = [Header { key: b"h", value: Some(b"1") }, Header { key: b"n", value: None }];
    let sent = ProducerRecord {
        topic: "t",
        partition: Some(2),
        key: Some(b"key"),
        value: Some(b"value"),
        headers: &headers,
        timestamp_ms: Some(1_700_000_000_123),
        tag: 7,
        timeout_ms: 0,
        as_is: false,
    };
    producer.send(&sent).unwrap();
    producer.flush(LONG).unwrap();
    let outcomes = outcomes.0.lock().unwrap();
    assert_eq!(outcomes.get(&7).map(|o| (o.0, o.2, o.3)), Some((0, 2, 0)));
    let read = cluster.read("t", 2, 0).unwrap();
    assert_eq!(read.key.as_deref(), Some(&b"key"[..]));
    assert_eq!(read.value.as_deref(), Some(&b"value"[..]));
    assert_eq!(read.timestamp_ms, 1_700_000_000_123);
    assert_eq!(read.headers.len(), 2);
}

#[test]
fn many_records_arrive_once_and_in_order() {
    for settings in [&[][..], &[("allow.reordering", "true"), ("linger.ms", "0")]] {
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic("t", 12).unwrap();
        let (producer, outcomes) = producer(&cluster, settings);
        let count = 50_000_u64;
        for tag in 0..count {
            let value = tag.to_be_bytes();
            let key = (tag % 100).to_be_bytes();
            producer.send(&ProducerRecord { key: Some(&key), ..record("t", &value, tag) }).unwrap();
        }
        producer.flush(LONG).unwrap();
        let outcomes = outcomes.0.lock().unwrap();
        assert_eq!(outcomes.len(), count as usize);
        let mut seen = 0;
        for partition in 0..12 {
            let mut last = None;
            for read in cluster.records("t", partition) {
                let tag = u64::from_be_bytes(read.value.as_deref().unwrap().try_into().unwrap());
                assert!(last < Some(tag), "partition {partition}: {tag} after {last:?}");
                last = Some(tag);
                let (code, _, at, offset, _) = outcomes.get(&tag).unwrap();
                assert_eq!((*code, *at, *offset), (0, partition, read.offset));
                seen += 1;
            }
        }
        assert_eq!(seen, count);
        let counters = producer.counters();
        assert_eq!((counters.accepted, counters.acknowledged), (count, count));
        let (aborted, closed) = producer.close(LONG);
        closed.unwrap();
        assert_eq!(aborted, 0);
        assert_eq!(producer.counters().buffered_bytes, 0, "every byte came back");
        assert!(cluster.complaints().is_empty(), "{:?}", cluster.complaints());
    }
}

#[test]
fn retriable_errors_are_retried_and_others_reported() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    cluster.push_errors(PRODUCE, &[7, 6, 19]).unwrap();
    let (producer, outcomes) = producer(&cluster, &[("retry.backoff.ms", "5")]);
    producer.send(&record("t", b"a", 1)).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.0.lock().unwrap().get(&1).map(|o| o.0), Some(0));
    cluster.push_errors(PRODUCE, &[29]).unwrap();
    producer.send(&record("t", b"b", 2)).unwrap();
    producer.flush(LONG).unwrap();
    let outcomes = outcomes.0.lock().unwrap();
    let (code, flags, _, offset, message) = outcomes.get(&2).unwrap();
    assert_eq!((*code, flags & MAYBE_PERSISTED, *offset), (29, 0, -1));
    assert!(message.contains("TOPIC_AUTHORIZATION_FAILED"), "{message}");
}

#[test]
fn close_fails_what_is_left_and_says_whether_it_may_be_written() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    let (producer, outcomes) = producer(&cluster, &[("linger.ms", "0")]);
    producer.send(&record("t", b"first", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    for tag in 1..=10 {
        producer.send(&record("t", b"x", tag)).unwrap();
    }
    let (aborted, closed) = producer.close(Timeout::After(Duration::from_millis(200)));
    assert_eq!(aborted, 10);
    if let Err(late) = closed {
        // On a busy machine the callback still has what it was given.
        assert_eq!(late.status, status::TIMED_OUT, "{late}");
        producer.close(LONG).1.unwrap();
    }
    let outcomes = outcomes.0.lock().unwrap();
    assert_eq!(outcomes.len(), 11);
    for tag in 1..=10 {
        assert_eq!(outcomes.get(&tag).map(|o| o.0), Some(status::ABORTED));
    }
    assert_eq!(producer.send(&record("t", b"late", 99)).unwrap_err().status, status::CLOSED);
    assert_eq!(producer.close(LONG).1.unwrap_err().status, status::CLOSED);
}

#[test]
fn delivery_timeout_names_the_cause() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    let settings =
        [("delivery.timeout.ms", "300"), ("request.timeout.ms", "200"), ("linger.ms", "0")];
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.send(&record("t", b"first", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, false, false, 0, 0).unwrap();
    producer.send(&record("t", b"x", 1)).unwrap();
    producer.flush(LONG).unwrap();
    let outcomes = outcomes.0.lock().unwrap();
    let (code, _, _, _, message) = outcomes.get(&1).unwrap();
    assert_eq!(*code, status::DELIVERY_TIMED_OUT, "{message}");
    assert!(message.contains("delivery.timeout.ms=300"), "{message}");
}

#[test]
fn send_sync_gives_the_offset() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    let (producer, outcomes) = producer(&cluster, &[("linger.ms", "10000")]);
    for offset in 0..20 {
        let receipt = producer.send_sync(&record("t", b"x", 5), LONG).unwrap();
        assert_eq!((receipt.partition, receipt.offset), (0, offset));
    }
    assert!(outcomes.0.lock().unwrap().is_empty(), "deliveries don't see it");
    assert_eq!(producer.counters().acknowledged, 20);
}

#[test]
fn memory_runs_out_and_comes_back() {
    let cluster = MockCluster::new(2).unwrap();
    cluster.create_topic("t", 6).unwrap();
    let settings = [("buffer.memory", "65536"), ("batch.size", "8192"), ("linger.ms", "10000")];
    let (producer, outcomes) = producer(&cluster, &settings);
    let value = [7; 1000];
    for tag in 0..5000 {
        producer.send(&record("t", &value, tag)).unwrap();
    }
    producer.flush(LONG).unwrap();
    let outcomes = outcomes.0.lock().unwrap();
    assert!(outcomes.len() == 5000 && outcomes.values().all(|o| o.0 == 0));
}
