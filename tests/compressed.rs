//! Compressed batches: what is in the log, what comes back where they fail, what they take of
//! `buffer.memory`, and what they cost the topics beside them.
#![cfg(all(
    feature = "mock",
    feature = "gzip",
    feature = "snappy",
    feature = "lz4",
    feature = "zstd"
))]
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::clock::Clock;
use kafka_producer::delivery::{Delivery, DeliveryMode, DeliverySink};
use kafka_producer::error::status;
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Options, Producer, Timeout};
use kafka_producer::protocol::compression::Codec;
use kafka_producer::record::ProducerRecord;
use produce::{LONG, assert_settled, cluster, config, eventually, handed_over, to};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];
/// How many records a batch of whatever is sent has at most here.
const RECORDS: u64 = 600;

/// The status of each record, and its value as it came back.
#[derive(Default)]
struct Whole(Mutex<BTreeMap<u64, Back>>);

type Back = (i32, Option<Vec<u8>>);

impl DeliverySink for Whole {
    fn deliver(&self, deliveries: &[Delivery]) {
        let mut outcomes = self.0.lock().unwrap();
        for delivery in deliveries {
            let mut space = Vec::new();
            let walk = delivery.remains.walk(&mut space);
            let mut values = walk.map(|record| record.value.map(<[u8]>::to_vec));
            for tag in delivery.tags() {
                let before = outcomes.insert(*tag, (delivery.status, values.next().flatten()));
                assert!(before.is_none(), "{tag} twice");
            }
        }
    }
}

fn producer(cluster: &MockCluster, settings: &[(&str, &str)]) -> (Producer, Arc<Whole>) {
    let whole = Arc::new(Whole::default());
    let options = Options {
        delivery: DeliveryMode::Callback(Arc::clone(&whole) as Arc<dyn DeliverySink>),
        ..Options::default()
    };
    (Producer::new(&config(cluster, settings), options).unwrap(), whole)
}

/// A value that no other record has and that shrinks.
fn value(tag: u64) -> Vec<u8> {
    format!("{{\"number\": {tag}, \"text\": \"the same words in every record, and {tag} again\"}}")
        .into_bytes()
}

fn noise(tag: u64) -> Vec<u8> {
    let mut state = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..200).map(|_| next()).collect()
}

fn send(producer: &Producer, tags: std::ops::Range<u64>) {
    for tag in tags {
        producer.send(&to(0, &value(tag), tag)).unwrap();
    }
}

fn freeze(cluster: &MockCluster, frozen: bool) {
    cluster.set_broker(1, true, frozen, 0, 0).unwrap();
}

/// Every one of these failed with this, and came back whole.
fn assert_back(whole: &Whole, tags: std::ops::Range<u64>, code: i32) {
    let outcomes = whole.0.lock().unwrap();
    for tag in tags {
        let (status, back) = outcomes.get(&tag).unwrap();
        assert_eq!(*status, code, "{tag}");
        assert_eq!(back.as_deref(), Some(&value(tag)[..]), "{tag}");
    }
}

#[test]
fn each_codec_s_batches_are_in_the_log_and_whole() {
    for codec in CODECS {
        let cluster = cluster(1, 1);
        let settings = [("compression.type", codec), ("linger.ms", "20")];
        let (producer, whole) = producer(&cluster, &settings);
        send(&producer, 0..RECORDS);
        producer.flush(LONG).unwrap();
        let stored: Vec<Vec<u8>> = cluster
            .records("t", 0)
            .iter()
            .map(|record| record.value.clone().unwrap().to_vec())
            .collect();
        assert_eq!(stored, (0..RECORDS).map(value).collect::<Vec<_>>(), "{codec}");
        let batches = cluster.batches("t", 0);
        let codecs = batches.iter().map(|batch| Codec::of(batch.header.attributes).unwrap());
        assert!(codecs.into_iter().any(|of| of.name() == codec), "{codec}: {batches:?}");
        assert!(whole.0.lock().unwrap().values().all(|(code, _)| *code == status::OK));
        assert_settled(&producer);
    }
}

#[test]
fn what_does_not_shrink_is_not_compressed() {
    for codec in CODECS {
        let cluster = cluster(1, 1);
        let (producer, _) = producer(&cluster, &[("compression.type", codec)]);
        // One to a batch: what is around the values would shrink.
        for tag in 0..20 {
            producer.send_sync(&to(0, &noise(tag), tag), LONG).unwrap();
        }
        for batch in cluster.batches("t", 0) {
            assert_eq!(Codec::of(batch.header.attributes).unwrap(), Codec::None, "{codec}");
        }
        assert_eq!(cluster.records("t", 0).len(), 20);
        assert_settled(&producer);
    }
}

#[test]
fn one_topic_s_batches_are_and_another_s_are_not() {
    let cluster = cluster(1, 1);
    cluster.create_topic("plain", 1).unwrap();
    let settings = [("compression.type", "lz4"), ("topic.plain.compression.type", "none")];
    let (producer, _) = producer(&cluster, &settings);
    for tag in 0..RECORDS {
        let value = value(tag);
        let topic = if tag % 2 == 0 { "t" } else { "plain" };
        producer.send(&ProducerRecord { topic, ..to(0, &value, tag) }).unwrap();
    }
    producer.flush(LONG).unwrap();
    let codecs = |topic: &str| -> Vec<i16> {
        cluster.batches(topic, 0).iter().map(|batch| batch.header.attributes).collect()
    };
    assert!(codecs("t").contains(&Codec::Lz4.bits()), "{:?}", codecs("t"));
    assert!(codecs("plain").iter().all(|bits| *bits == 0));
}

#[test]
fn memory_in_flight_is_what_goes_over_the_wire() {
    let cluster = cluster(1, 1);
    let settings = [("compression.type", "zstd"), ("batch.size", "16384"), ("linger.ms", "0")];
    let (producer, _) = producer(&cluster, &settings);
    send(&producer, 0..1);
    producer.flush(LONG).unwrap();
    freeze(&cluster, true);
    send(&producer, 1..10_000);
    let raw: u64 = (1..10_000).map(|tag| value(tag).len() as u64).sum();
    eventually("that it shrinks", || producer.counters().buffered_bytes < raw / 2);
    freeze(&cluster, false);
    producer.flush(LONG).unwrap();
    assert_eq!(cluster.records("t", 0).len(), 10_000);
    assert_settled(&producer);
}

#[test]
fn what_fails_comes_back_whole() {
    for codec in CODECS {
        let cluster = cluster(1, 1);
        let settings = [
            ("compression.type", codec),
            ("batch.size", "16384"),
            ("linger.ms", "0"),
            ("request.timeout.ms", "400"),
            ("delivery.timeout.ms", "500"),
        ];
        let (producer, whole) = producer(&cluster, &settings);
        send(&producer, 0..1);
        producer.flush(LONG).unwrap();
        // Refused.
        cluster.push_partition_errors("t", 0, &[29; 100]).unwrap();
        send(&producer, 1..500);
        producer.flush(LONG).unwrap();
        assert_back(&whole, 1..500, 29);
        cluster.push_partition_errors("t", 0, &[]).unwrap();
        // Expired: some in flight, some queued.
        freeze(&cluster, true);
        send(&producer, 1000..3000);
        producer.flush(LONG).unwrap();
        assert_back(&whole, 1000..3000, status::DELIVERY_TIMED_OUT);
        // Closed: queued, compressed or not.
        send(&producer, 5000..8000);
        handed_over(&producer, producer.close(Timeout::After(Duration::ZERO)).1);
        assert_back(&whole, 5000..8000, status::ABORTED);
        drop(producer);
    }
}

#[test]
fn a_purge_gives_back_what_waits() {
    let cluster = cluster(1, 1);
    let settings = [("compression.type", "lz4"), ("batch.size", "16384"), ("linger.ms", "0")];
    let (producer, whole) = producer(&cluster, &settings);
    send(&producer, 0..1);
    producer.flush(LONG).unwrap();
    cluster.set_leader("t", 0, -1).unwrap();
    send(&producer, 1..4000);
    producer.purge(None, None).unwrap();
    let failed = || whole.0.lock().unwrap().len() == 4000;
    eventually("all outcomes", failed);
    assert_back(&whole, 1..4000, status::ABORTED);
    assert_settled(&producer);
}

#[test]
fn a_batch_that_is_too_large_goes_in_compressed_pieces() {
    for codec in CODECS {
        let cluster = cluster(1, 1);
        cluster.set_topic_config("t", "max.message.bytes", "3000").unwrap();
        let settings = [
            ("compression.type", codec),
            ("linger.ms", "20000"),
            ("retry.backoff.ms", "5"),
            ("delivery.timeout.ms", "60000"),
        ];
        let (producer, whole) = producer(&cluster, &settings);
        // One that is too large whatever is done.
        let huge: Vec<u8> = (0..40).flat_map(noise).collect();
        send(&producer, 0..300);
        producer.send(&to(0, &huge, 300)).unwrap();
        send(&producer, 301..RECORDS);
        producer.flush(LONG).unwrap();
        let batches = cluster.batches("t", 0);
        assert!(batches.len() > 3, "{codec}: {}", batches.len());
        let packed = batches.iter().filter(|batch| batch.header.attributes != 0).count();
        assert!(packed > batches.len() / 2, "{codec}: {packed} of {}", batches.len());
        let stored: Vec<Vec<u8>> = cluster
            .records("t", 0)
            .iter()
            .map(|record| record.value.clone().unwrap().to_vec())
            .collect();
        let sent = (0..RECORDS).filter(|tag| *tag != 300).map(value);
        assert_eq!(stored, sent.collect::<Vec<_>>(), "{codec}");
        let outcomes = whole.0.lock().unwrap();
        assert_eq!(outcomes[&300], (10, Some(huge)), "{codec}");
        assert_eq!(outcomes.values().filter(|(code, _)| *code != status::OK).count(), 1);
        drop(outcomes);
        assert_settled(&producer);
    }
}

/// The time that 99 of 100 records of the uncompressed topic stay below, in microseconds.
fn p99(producer: &Producer) -> u64 {
    let clock = Clock::system();
    let mut times: Vec<u64> = (0..200)
        .map(|tag| {
            let value = value(tag);
            let record = ProducerRecord { topic: "plain", ..to(0, &value, 1 << 40 | tag) };
            let began = clock.now();
            producer.send_sync(&record, LONG).unwrap();
            u64::try_from(clock.now().since(began).as_micros()).unwrap()
        })
        .collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn a_topic_at_zstd_19_does_not_delay_another_one() {
    let cluster = cluster(1, 1);
    cluster.create_topic("plain", 1).unwrap();
    let settings = [
        ("compression.type", "none"),
        ("topic.t.compression.type", "zstd"),
        ("topic.t.compression.level", "19"),
        ("compression.threads", "1"),
    ];
    let (producer, _) = producer(&cluster, &settings);
    producer.send_sync(&to(0, b"both are known", 0), LONG).unwrap();
    p99(&producer);
    let (stop, busy) = (AtomicBool::new(false), AtomicBool::new(false));
    // The best of several: what else the machine does says nothing.
    let ratios: Vec<f64> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for tag in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                match busy.load(Ordering::Relaxed) {
                    true => producer.send(&to(0, &value(tag), tag)).unwrap(),
                    false => std::thread::yield_now(),
                }
            }
        });
        let mut ratios: Vec<f64> = Vec::new();
        while ratios.len() < 8 && ratios.last().is_none_or(|ratio| *ratio >= 1.5) {
            busy.store(false, Ordering::Relaxed);
            producer.flush(LONG).unwrap();
            let alone = p99(&producer);
            busy.store(true, Ordering::Relaxed);
            let beside = p99(&producer);
            ratios.push(beside as f64 / alone as f64);
        }
        stop.store(true, Ordering::Relaxed);
        ratios
    });
    assert!(ratios.iter().any(|ratio| *ratio < 1.5), "{ratios:?}");
    producer.flush(LONG).unwrap();
    let packed =
        cluster.batches("t", 0).iter().filter(|batch| batch.header.attributes != 0).count();
    assert!(packed > 0);
}
