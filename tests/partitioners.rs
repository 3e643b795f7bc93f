//! Where records go: evenly, by load, by rack, by the hashes of other clients, and where the user's
//! own code says. What keys come to beside Java and librdkafka in flesh and blood is in
//! `real_kafka/test_partitions.py`; kcat stands in for the latter here.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

#[path = "support/produce.rs"]
mod produce;
mod support;

use kafka_producer::delivery::{Delivery, DeliveryMode, DeliverySink};
use kafka_producer::error::status;
use kafka_producer::log::{Level, LogSink};
use kafka_producer::mock::MockCluster;
use kafka_producer::partitioner::Partitioner;
use kafka_producer::producer::{Options, PartitionInfo, Producer};
use kafka_producer::record::ProducerRecord;
use produce::{
    LONG, PATIENCE, assert_settled, cluster, config, eventually, in_one_of_several_rounds,
    producer, quick, record, timed, to,
};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes per partition; a record's tag is its size.
#[derive(Default)]
struct Bytes {
    of: [AtomicU64; 6],
    records: AtomicUsize,
}

impl DeliverySink for Bytes {
    fn deliver(&self, deliveries: &[Delivery]) {
        for delivery in deliveries.iter().filter(|delivery| delivery.failure.is_none()) {
            let bytes: u64 = delivery.tags().iter().sum();
            self.of[delivery.partition as usize].fetch_add(bytes, Ordering::Relaxed);
            self.records.fetch_add(delivery.count(), Ordering::Relaxed);
        }
    }
}

/// Brokers and threads that don't get their turns in time rightly get less.
fn balance(linger_ms: &str) {
    in_one_of_several_rounds(linger_ms, || imbalance(linger_ms) <= 1.10);
}

/// A million records without keys, of different sizes: the fullest partition's bytes by the
/// emptiest one's. Partition 2 has no leader.
fn imbalance(linger_ms: &str) -> f64 {
    const RECORDS: u64 = 1_000_000;
    const AT_ONCE: u64 = 500;
    const MOST_PENDING: u64 = 10_000;
    let cluster = cluster(3, 6);
    cluster.set_leader("t", 2, -1).unwrap();
    let bytes = Arc::new(Bytes::default());
    let delivery = DeliveryMode::Callback(Arc::clone(&bytes) as _);
    let settings = config(&cluster, &[("linger.ms", linger_ms), ("batch.size", "16384")]);
    let options = Options { delivery, ..Options::default() };
    let producer = Producer::new(&settings, options).unwrap();
    let value = [b'v'; 32];
    let size = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) + 1;
    for first in (0..RECORDS).step_by(AT_ONCE as usize) {
        // Brokers that fall behind, each in its own way, would rightly get different shares.
        eventually("the brokers keep up", || producer.counters().pending < MOST_PENDING);
        let records =
            (first..first + AT_ONCE).map(|i| Ok(record(&value[..size(i) as usize], size(i))));
        let (accepted, result) = producer.send_batch(records, LONG);
        result.unwrap();
        assert_eq!(accepted as u64, AT_ONCE);
    }
    producer.flush(LONG).unwrap();
    assert_eq!(bytes.records.load(Ordering::Relaxed) as u64, RECORDS);
    let mut of: Vec<u64> = bytes.of.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect();
    assert_eq!(of.remove(2), 0, "it has no leader");
    *of.iter().max().unwrap() as f64 / *of.iter().min().unwrap() as f64
}

#[test]
fn a_million_records_are_balanced_without_lingering() {
    balance("0");
}

#[test]
fn a_million_records_are_balanced_with_a_short_linger() {
    balance("5");
}

#[test]
fn a_million_records_are_balanced_with_a_long_linger() {
    balance("100");
}

/// Sends records of 100 bytes without a key.
fn send_many(producer: &Producer, records: usize) {
    for tag in 0..records {
        producer.send(&record(&[b'v'; 85], tag as u64)).unwrap();
    }
}

/// One broker takes ten times as long: what waits for it says so, and it gets a tenth of what the
/// others get.
#[test]
fn a_slow_broker_gets_less_in_proportion() {
    in_one_of_several_rounds("a tenth", || {
        let [one, two, slow] = beside_a_slow_broker();
        // Where the machine is slower than the brokers, those differ by less.
        (0.04..0.3).contains(&(slow / ((one + two) / 2.0))) && (0.8..1.25).contains(&(one / two))
    });
}

/// How many of 60,000 records each broker gets, the last of which is slow.
fn beside_a_slow_broker() -> [f64; 3] {
    let cluster = cluster(3, 3);
    let settings = [("linger.ms", "0"), ("batch.size", "2000"), ("buffer.memory", "400000")];
    let (producer, _) = producer(&cluster, &settings);
    send_many(&producer, 300);
    producer.flush(LONG).unwrap();
    for (node, latency_ms) in [(1, 10), (2, 10), (3, 100)] {
        cluster.set_broker(node, true, false, latency_ms, 0).unwrap();
    }
    let before: Vec<i64> = (0..3).map(|partition| cluster.end_offset("t", partition)).collect();
    send_many(&producer, 60_000);
    producer.flush(LONG).unwrap();
    let got =
        |partition: i32| (cluster.end_offset("t", partition) - before[partition as usize]) as f64;
    let got = [0, 1, 2].map(got);
    assert_eq!(got.iter().sum::<f64>(), 60_000.0);
    got
}

/// Log lines.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Lines {
    fn has(&self, words: &str) -> bool {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().any(|line| line.contains(words))
    }
}

impl LogSink for Lines {
    fn log(&self, _level: Level, _target: &'static str, message: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }
}

/// Where the others take nothing for so long either, none is passed over.
#[test]
fn a_broker_that_takes_nothing_gets_nothing() {
    in_one_of_several_rounds("nothing", passes_over_a_frozen_broker);
}

fn passes_over_a_frozen_broker() -> bool {
    let cluster = cluster(3, 3);
    let (lines, outcomes) = (Arc::new(Lines::default()), Arc::new(produce::Outcomes::default()));
    let settings = [
        ("linger.ms", "0"),
        ("batch.size", "1000"),
        ("partitioner.availability.timeout.ms", "200"),
    ];
    let options = Options {
        delivery: DeliveryMode::Callback(Arc::clone(&outcomes) as _),
        log: Some((Level::Info, Arc::clone(&lines) as _)),
        ..Options::default()
    };
    let producer = Producer::new(&config(&cluster, &settings), options).unwrap();
    let mut tag = 0;
    let mut send = |records: u64| {
        for _ in 0..records {
            producer.send(&record(&[b'v'; 85], tag)).unwrap();
            tag += 1;
        }
        tag
    };
    let warm = send(300);
    producer.flush(LONG).unwrap();
    cluster.set_broker(3, true, true, 0, 0).unwrap();
    eventually("it is noticed", || {
        send(20);
        lines.has("node 3 has taken nothing for 200 ms")
    });
    // The run that may have gone there ends.
    let noticed = send(40);
    let until = send(3000);
    let too_early = lines.has("node 3 takes batches again");
    cluster.set_broker(3, true, false, 0, 0).unwrap();
    producer.flush(LONG).unwrap();
    eventually("it is taken back", || {
        send(20);
        lines.has("node 3 takes batches again")
    });
    let back = send(0);
    let end = send(3000);
    producer.flush(LONG).unwrap();
    let there = |from: u64, to: u64| {
        let outcomes = outcomes.get();
        outcomes.range(from..to).filter(|(_, outcome)| outcome.partition == 2).count()
    };
    assert_eq!(outcomes.get().len() as u64, end);
    assert_settled(&producer);
    let before = there(0, warm) > 0 && there(warm, noticed) > 0;
    let passed_over = !too_early && there(noticed, until) == 0;
    // As much as the others.
    before && passed_over && there(back, end) > 500
}

#[test]
fn the_nearest_rack_goes_first() {
    let cluster = cluster(3, 6);
    for (node, rack) in [(1, "a"), (2, "b"), (3, "b")] {
        cluster.set_rack(node, Some(rack)).unwrap();
    }
    let used = |rack: &str, aware: &str| {
        let mut settings = quick("5").to_vec();
        settings.extend([("batch.size", "500"), ("client.rack", rack)]);
        settings.extend([("partitioner.rack.aware", aware)]);
        let (producer, outcomes) = producer(&cluster, &settings);
        // Some 600 runs, so that chance leaves no partition out.
        for tag in 0..3000 {
            producer.send(&record(&[b'v'; 85], tag)).unwrap();
        }
        // A key's partition is not a matter of distance.
        let keyed = ProducerRecord { key: Some(b"kafka"), ..record(b"v", 3000) };
        producer.send(&keyed).unwrap();
        producer.flush(LONG).unwrap();
        let mut outcomes = outcomes.get();
        assert_eq!(outcomes.remove(&3000).map(|outcome| outcome.partition), Some(4));
        outcomes.values().map(|outcome| outcome.partition).collect::<BTreeSet<i32>>()
    };
    let all = BTreeSet::from([0, 1, 2, 3, 4, 5]);
    assert_eq!(used("a", "true"), BTreeSet::from([0, 3]));
    assert_eq!(used("b", "true"), BTreeSet::from([1, 2, 4, 5]));
    assert_eq!(used("a", "false"), all);
    assert_eq!(used("c", "true"), all, "nobody is there");
    cluster.set_leader("t", 0, -1).unwrap();
    cluster.set_leader("t", 3, 2).unwrap();
    assert_eq!(used("a", "true"), BTreeSet::from([1, 2, 3, 4, 5]), "nobody leads there");
}

/// Every record to the next partition, whatever opens a batch and however it is sent.
#[test]
fn round_robin_leaves_no_partition_out() {
    let cluster = cluster(3, 4);
    cluster.set_leader("t", 2, -1).unwrap();
    let settings = [("partitioner", "round_robin"), ("linger.ms", "5"), ("batch.size", "200")];
    let (producer, outcomes) = producer(&cluster, &settings);
    let keyed = |tag| ProducerRecord { key: Some(b"the same"), ..record(&[b'v'; 85], tag) };
    for tag in 0..90 {
        producer.send(&keyed(tag)).unwrap();
    }
    let (accepted, result) = producer.send_batch((90..180).map(|tag| Ok(keyed(tag))), LONG);
    result.unwrap();
    assert_eq!(accepted, 90);
    // One of its own takes no turn.
    producer.send(&to(3, b"", 1000)).unwrap();
    assert_eq!(producer.send_sync(&keyed(0), LONG).unwrap().partition, 0);
    producer.try_send(&keyed(180)).unwrap();
    producer.flush(LONG).unwrap();
    let outcomes = outcomes.get();
    let expected = |tag: u64| [0, 1, 3][(tag % 3) as usize];
    for tag in 0..180 {
        assert_eq!(outcomes[&tag].partition, expected(tag), "{tag}");
    }
    assert_eq!(outcomes[&180].partition, 1, "the turn behind that of send_sync");
}

/// KIP-480: a batch here, a batch there, and keys do not count.
#[test]
fn uniform_sticky_moves_on_with_every_batch() {
    let cluster = cluster(3, 3);
    let settings = [
        ("partitioner", "uniform_sticky"),
        ("linger.ms", "60000"),
        ("delivery.timeout.ms", "120000"),
        ("batch.size", "1000"),
    ];
    let (producer, outcomes) = producer(&cluster, &settings);
    let mut partitions = Vec::new();
    for tag in 0..600_u64 {
        let key = tag.to_be_bytes();
        producer.send(&ProducerRecord { key: Some(&key), ..record(&[b'v'; 85], tag) }).unwrap();
    }
    producer.flush(LONG).unwrap();
    for (tag, outcome) in outcomes.get().iter() {
        if tag % 9 == 0 {
            partitions.push(outcome.partition);
        }
        assert_eq!(Some(&outcome.partition), partitions.last(), "{tag}: nine fill a batch");
    }
    assert!(partitions.windows(2).all(|pair| pair[0] != pair[1]), "{partitions:?}");
    let counts = [0, 1, 2].map(|p| partitions.iter().filter(|partition| **partition == p).count());
    assert!(counts.iter().all(|count| count.abs_diff(22) <= 2), "{counts:?}");
}

/// Keys as text that a line of kcat's input can hold.
fn text_keys() -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(5);
    (0..1000).map(|_| (0..random.usize(1..40)).map(|_| random.alphanumeric()).collect()).collect()
}

/// Where ours puts records with these keys.
fn ours(cluster: &MockCluster, class: &str, keys: &[String]) -> Vec<i32> {
    let (producer, outcomes) = producer(cluster, &[("partitioner", class)]);
    for (tag, key) in (0..).zip(keys) {
        producer
            .send(&ProducerRecord { key: Some(key.as_bytes()), ..record(key.as_bytes(), tag) })
            .unwrap();
    }
    producer.flush(LONG).unwrap();
    outcomes.get().values().map(|outcome| outcome.partition).collect()
}

/// librdkafka itself, by way of kcat, sends the same keys to the same partitions.
#[test]
fn keys_go_where_librdkafka_puts_them() {
    if !support::require("kcat") {
        return;
    }
    let keys = text_keys();
    let input: String = keys.iter().map(|key| format!("{key}:{key}\n")).collect();
    for class in
        ["consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"]
    {
        for partitions in [7, 12] {
            let theirs = cluster(3, partitions);
            let setting = format!("topic.partitioner={class}");
            let mut kcat = Command::new("kcat")
                .args([
                    "-P",
                    "-b",
                    theirs.bootstrap_servers(),
                    "-t",
                    "t",
                    "-K",
                    ":",
                    "-X",
                    &setting,
                ])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            kcat.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            assert!(kcat.wait().unwrap().success());
            let ours = ours(&cluster(3, partitions), class, &keys);
            let mut seen = 0;
            for partition in 0..partitions {
                for record in theirs.records("t", partition) {
                    let at =
                        keys.iter().position(|key| record.key.as_deref() == Some(key.as_bytes()));
                    assert_eq!(ours[at.unwrap()], partition, "{class}: {record:?}");
                    seen += 1;
                }
            }
            assert_eq!(seen, keys.len());
        }
    }
}

/// Sarama's, spelt out as its documentation has it: the remainder of a signed number, and then its
/// absolute value.
#[test]
fn keys_go_where_sarama_puts_them() {
    let keys = text_keys();
    for partitions in [7, 10, 12] {
        let ours = ours(&cluster(3, partitions), "sarama", &keys);
        for (key, ours) in keys.iter().zip(ours) {
            let mut hash: i64 = 2_166_136_261;
            for byte in key.bytes() {
                hash = ((hash ^ i64::from(byte)) * 16_777_619) & 0xffff_ffff;
            }
            let signed = if hash >= 1 << 31 { hash - (1 << 32) } else { hash };
            assert_eq!(i64::from(ours), (signed % i64::from(partitions)).abs(), "{key}");
        }
    }
}

/// What a partitioner of the user's was asked, and what it answers: the index that is in the value.
#[derive(Default)]
struct Own {
    asked: AtomicUsize,
    shown: Mutex<Vec<Vec<PartitionInfo>>>,
    closed: AtomicBool,
}

impl Partitioner for Own {
    fn partition(&self, record: &ProducerRecord<'_>, partitions: &[PartitionInfo]) -> i32 {
        assert!(!self.closed.load(Ordering::Acquire));
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.last().is_none_or(|last| last != partitions) {
            shown.push(partitions.to_vec());
        }
        i32::from(record.value.unwrap()[0])
    }

    fn close(&self) {
        assert!(!self.closed.swap(true, Ordering::AcqRel), "once");
    }
}

fn with_own(cluster: &MockCluster, settings: &[(&str, &str)]) -> (Producer, Arc<Own>) {
    let own = Arc::new(Own::default());
    let options = Options { partitioner: Some(Arc::clone(&own) as _), ..Options::default() };
    (Producer::new(&config(cluster, settings), options).unwrap(), own)
}

#[test]
fn the_users_partitioner_sees_what_changes() {
    let cluster = cluster(3, 3);
    let (producer, own) = with_own(&cluster, &quick("5"));
    producer.send(&record(&[2], 1)).unwrap();
    let refused = producer.send(&record(&[3], 1)).unwrap_err();
    assert_eq!((refused.status, refused.flags), (status::PARTITIONING, 0));
    cluster.add_partitions("t", 5).unwrap();
    // Who asks for a partition that is not known has it looked for.
    producer.send(&to(4, &[0], 1)).unwrap();
    producer.send(&record(&[3], 1)).unwrap();
    cluster.set_leader("t", 3, 1).unwrap();
    eventually("the new leader is shown", || {
        producer.send(&record(&[3], 1)).unwrap();
        producer.flush(LONG).unwrap();
        let shown = own.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.last().unwrap().get(3).is_some_and(|partition| partition.leader == 1)
    });
    let shown: Vec<usize> =
        own.shown.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Vec::len).collect();
    assert_eq!(shown.first(), Some(&3));
    assert_eq!(shown.last(), Some(&5));
    assert!(!own.closed.load(Ordering::Acquire));
    drop(producer);
    assert!(own.closed.load(Ordering::Acquire));
}

/// A send that has to wait for memory, and one for its topic, are asked about once.
#[test]
fn the_users_partitioner_is_asked_once_however_long_a_send_takes() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.set_auto_create(false, 1);
    let settings = [("linger.ms", "0"), ("batch.size", "1000"), ("buffer.memory", "4096")];
    let (producer, own) = with_own(&cluster, &settings);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.send(&record(&[1], 0)));
        eventually("it asks for the topic", || cluster.request_count(0, produce::METADATA) > 1);
        assert_eq!(own.asked.load(Ordering::Relaxed), 0);
        cluster.create_topic("t", 2).unwrap();
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(own.asked.load(Ordering::Relaxed), 1);
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    let large = [1; 900];
    let mut sent = 1;
    while producer.try_send(&record(&large, 0)).is_ok() {
        sent += 1;
    }
    // The one that was refused for want of memory was asked for too.
    assert_eq!(own.asked.load(Ordering::Relaxed), sent + 1);
    let (result, took) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| timed(|| producer.send(&record(&large, 0))));
        eventually("it is asked", || own.asked.load(Ordering::Relaxed) == sent + 2);
        cluster.set_broker(1, true, false, 0, 0).unwrap();
        waiting.join().unwrap()
    });
    result.unwrap();
    assert!(took < PATIENCE);
    assert_eq!(own.asked.load(Ordering::Relaxed), sent + 2, "once");
    producer.flush(LONG).unwrap();
}

#[test]
fn a_class_and_an_own_partitioner_contradict_each_other() {
    let cluster = cluster(1, 1);
    let own = Arc::new(Own::default());
    let options = Options { partitioner: Some(Arc::clone(&own) as _), ..Options::default() };
    let settings = config(&cluster, &[("partitioner.class", "builtin")]);
    let error = Producer::new(&settings, options).map(drop).unwrap_err();
    assert_eq!(error.status, status::INVALID_CONFIG);
    assert!(error.message.contains("partitioner.class=builtin"), "{error}");
    assert!(!own.closed.load(Ordering::Acquire), "there was no producer");
}
