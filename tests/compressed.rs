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
use produce::{
    LONG, assert_settled, cluster, config, eventually, handed_over, in_one_of_several_rounds, to,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];
/// Batches end where they are full or flushed, however slow the test is.
const LINGERS: [(&str, &str); 2] = [("linger.ms", "60000"), ("delivery.timeout.ms", "120000")];
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

/// The codecs of a topic's batches; one that waited for its helper for too long has none.
fn codecs(cluster: &MockCluster, topic: &str) -> Vec<Codec> {
    let batches = cluster.batches(topic, 0);
    batches.iter().map(|batch| Codec::of(batch.header.attributes).unwrap()).collect()
}

/// The values in the log.
fn stored(cluster: &MockCluster) -> Vec<Vec<u8>> {
    let records = cluster.records("t", 0);
    records.iter().map(|record| record.value.clone().unwrap().to_vec()).collect()
}

#[test]
fn each_codec_s_batches_are_in_the_log_and_whole() {
    for codec in CODECS {
        in_one_of_several_rounds(codec, || {
            let cluster = cluster(1, 1);
            let settings = [&LINGERS[..], &[("compression.type", codec)]].concat();
            let (producer, whole) = producer(&cluster, &settings);
            send(&producer, 0..RECORDS);
            producer.flush(LONG).unwrap();
            assert_eq!(stored(&cluster), (0..RECORDS).map(value).collect::<Vec<_>>(), "{codec}");
            assert!(whole.0.lock().unwrap().values().all(|(code, _)| *code == status::OK));
            assert_settled(&producer);
            let codecs = codecs(&cluster, "t");
            assert!(!codecs.is_empty());
            codecs.iter().all(|of| of.name() == codec)
        });
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
    in_one_of_several_rounds("lz4", || {
        let cluster = cluster(1, 1);
        cluster.create_topic("plain", 1).unwrap();
        let own = [("compression.type", "lz4"), ("topic.plain.compression.type", "none")];
        let (producer, _) = producer(&cluster, &[LINGERS, own].concat());
        for tag in 0..RECORDS {
            let value = value(tag);
            let topic = if tag % 2 == 0 { "t" } else { "plain" };
            producer.send(&ProducerRecord { topic, ..to(0, &value, tag) }).unwrap();
        }
        producer.flush(LONG).unwrap();
        assert!(codecs(&cluster, "plain").iter().all(|codec| *codec == Codec::None));
        codecs(&cluster, "t").iter().all(|codec| *codec == Codec::Lz4)
    });
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
        let settings = [("compression.type", codec), ("batch.size", "16384"), ("linger.ms", "0")];
        let (producer, whole) = producer(&cluster, &settings);
        send(&producer, 0..1);
        producer.flush(LONG).unwrap();
        // Refused: as often as there may be batches.
        cluster.push_partition_errors("t", 0, &[29; 500]).unwrap();
        send(&producer, 1..500);
        producer.flush(LONG).unwrap();
        assert_back(&whole, 1..500, 29);
        cluster.push_partition_errors("t", 0, &[]).unwrap();
        // Closed: some in flight, some queued, compressed or not.
        freeze(&cluster, true);
        send(&producer, 5000..8000);
        handed_over(&producer, producer.close(Timeout::After(Duration::ZERO)).1);
        assert_back(&whole, 5000..8000, status::ABORTED);
    }
}

#[test]
fn what_expires_comes_back_whole() {
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
        // Some in flight, some queued.
        freeze(&cluster, true);
        send(&producer, 1000..3000);
        producer.flush(LONG).unwrap();
        assert_back(&whole, 1000..3000, status::DELIVERY_TIMED_OUT);
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
    // The answer to the first tells the producer; nothing is in flight then.
    send(&producer, 1..2);
    eventually("the leader's end is known", || {
        producer.partitions_for("t", LONG).unwrap().iter().all(|partition| partition.leader == -1)
    });
    send(&producer, 2..4000);
    producer.purge(None, None).unwrap();
    let failed = || whole.0.lock().unwrap().len() == 4000;
    eventually("all outcomes", failed);
    assert_back(&whole, 1..4000, status::ABORTED);
    assert_settled(&producer);
}

#[test]
fn a_batch_that_is_too_large_goes_in_compressed_pieces() {
    for codec in CODECS {
        in_one_of_several_rounds(codec, || {
            let cluster = cluster(1, 1);
            cluster.set_topic_config("t", "max.message.bytes", "3000").unwrap();
            let own = [("compression.type", codec), ("retry.backoff.ms", "5")];
            let (producer, whole) = producer(&cluster, &[LINGERS, own].concat());
            // One that is too large whatever is done.
            let huge: Vec<u8> = (0..40).flat_map(noise).collect();
            send(&producer, 0..300);
            producer.send(&to(0, &huge, 300)).unwrap();
            send(&producer, 301..RECORDS);
            producer.flush(LONG).unwrap();
            let sent = (0..RECORDS).filter(|tag| *tag != 300).map(value);
            assert_eq!(stored(&cluster), sent.collect::<Vec<_>>(), "{codec}");
            let outcomes = whole.0.lock().unwrap();
            assert_eq!(outcomes[&300], (10, Some(huge)), "{codec}");
            assert_eq!(outcomes.values().filter(|(code, _)| *code != status::OK).count(), 1);
            drop(outcomes);
            assert_settled(&producer);
            let codecs = codecs(&cluster, "t");
            assert!(codecs.len() > 3, "{codec}: {}", codecs.len());
            let packed = codecs.iter().filter(|of| of.name() == codec).count();
            packed > codecs.len() / 2
        });
    }
}

/// How many records are sent one by one to the uncompressed topic.
const ALONE: u64 = 200;

/// How long each of them takes, as it is asked for.
fn times(producer: &Producer) -> impl Iterator<Item = Duration> {
    let clock = Clock::system();
    (0..ALONE).map(move |tag| {
        let value = value(tag);
        let record = ProducerRecord { topic: "plain", ..to(0, &value, 1 << 40 | tag) };
        let began = clock.now();
        producer.send_sync(&record, LONG).unwrap();
        clock.now().since(began)
    })
}

/// What compressing takes of the machine is no delay of the library's: beside it stands what two
/// threads that do nothing but run cost the same records.
#[test]
fn a_topic_at_zstd_19_does_not_delay_another_one() {
    let cluster = cluster(1, 1);
    cluster.create_topic("plain", 1).unwrap();
    let settings = [
        ("compression.type", "none"),
        ("topic.t.compression.type", "zstd"),
        ("topic.t.compression.level", "19"),
        ("batch.size", "16384"),
        ("compression.threads", "1"),
    ];
    let (producer, _) = producer(&cluster, &settings);
    producer.send_sync(&to(0, b"both are known", 0), LONG).unwrap();
    times(&producer).for_each(drop);
    let tag = AtomicU64::new(0);
    in_one_of_several_rounds("99 of 100 within 1.5 of the time", || {
        let run = || std::hint::spin_loop();
        let mut usual: Vec<Duration> = beside(&[&run, &run], || times(&producer).collect());
        usual.sort_unstable();
        let limit = usual[usual.len() * 99 / 100].mul_f64(1.5);
        // There is always something to compress, and memory for others.
        let send = || match producer.counters().buffered_bytes {
            0..1_000_000 => {
                let tag = tag.fetch_add(1, Ordering::Relaxed);
                producer.send(&to(0, &value(tag), tag)).unwrap();
            }
            _ => std::hint::spin_loop(),
        };
        let late =
            beside(&[&send], || times(&producer).filter(|took| *took > limit).take(2).count());
        producer.flush(LONG).unwrap();
        // Where no helper got its turn in two seconds, nothing was seen of it either.
        let compressed = codecs(&cluster, "t").contains(&Codec::Zstd);
        compressed && late < 2
    });
}

/// What `f` gives while threads do these things over and over.
fn beside<T>(others: &[&(dyn Fn() + Sync)], f: impl FnOnce() -> T) -> T {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for other in others {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    other();
                }
            });
        }
        f()
    })
}
