//! The mock cluster under a client that shares no code with it: kcat, that is librdkafka.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

#[path = "support/produce.rs"]
mod produce;
mod support;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use kafka_producer::mock::MockCluster;
use kafka_producer::record::ProducerRecord;

/// The API key of Fetch.
const FETCH: i16 = 1;

/// Runs kcat against a cluster; `input` is what it gets on its standard input.
fn kcat(cluster: &MockCluster, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("kcat")
        .args(["-b", cluster.bootstrap_servers(), "-m", "60"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints = cluster.complaints();
    assert!(output.status.success(), "kcat {arguments:?}: {said}\n{complaints:?}");
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// All records of a topic as kcat prints them with a format, sorted.
fn consume(cluster: &MockCluster, topic: &str, format: &str) -> Vec<String> {
    let arguments = ["-C", "-q", "-e", "-t", topic, "-o", "beginning", "-f", format];
    let mut lines: Vec<String> =
        text(&kcat(cluster, &arguments, b"")).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn numbered(count: usize) -> String {
    (0..count).map(|i| format!("key-{i}:value-{i}\n")).collect()
}

#[test]
fn keys_values_and_headers_come_back() {
    if !support::require("kcat") {
        return;
    }
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("plain", 1).unwrap();
    let arguments =
        ["-P", "-t", "plain", "-K", ":", "-H", "one=1", "-H", "empty=", "-H", "null", "-Z"];
    kcat(&cluster, &arguments, b"k:v\n:no key\nno value:\n");
    let read = consume(&cluster, "plain", "%o|%k|%K|%s|%S|%h\n");
    let headers = "one=1,empty=,null=NULL";
    assert_eq!(
        read,
        [
            format!("0|k|1|v|1|{headers}"),
            format!("1||-1|no key|6|{headers}"),
            format!("2|no value|8||-1|{headers}"),
        ]
    );
    let record = cluster.read("plain", 0, 2).unwrap();
    assert_eq!(record.offset, 2);
    assert_eq!(record.key.unwrap(), "no value");
    assert_eq!(record.value, None);
    let headers: Vec<_> =
        record.headers.iter().map(|(k, v)| (k.as_ref(), v.as_ref().map(|v| v.as_ref()))).collect();
    let expected: [(&[u8], Option<&[u8]>); 3] =
        [(b"one", Some(b"1")), (b"empty", Some(b"")), (b"null", None)];
    assert_eq!(headers, expected);
    assert!(record.timestamp_ms > 1_600_000_000_000);
    assert_eq!(cluster.read("plain", 0, 3), None);
    assert_eq!(cluster.end_offset("plain", 0), 3);
}

/// Batches that librdkafka compresses with the C libraries are taken, read here and read back
/// there. It uses LZ4 only with brokers that announce FindCoordinator.
#[test]
fn compressed_batches_come_back() {
    if !support::require("kcat") {
        return;
    }
    let cluster = MockCluster::new(1).unwrap();
    let input = numbered(3000);
    let mut expected: Vec<String> = input.lines().map(str::to_owned).collect();
    expected.sort();
    for (codec, bits) in [("gzip", 1), ("snappy", 2), ("zstd", 4)] {
        cluster.create_topic(codec, 1).unwrap();
        let arguments = ["-P", "-t", codec, "-K", ":", "-z", codec, "-X", "linger.ms=100"];
        kcat(&cluster, &arguments, input.as_bytes());
        let batches = cluster.batches(codec, 0);
        assert!(batches.iter().any(|batch| batch.header.attributes == bits), "{codec}");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let line = |offset| {
            let record = cluster.read(codec, 0, offset)?;
            Some(format!("{}:{}", text(&record.key?), text(&record.value?)))
        };
        let mut read: Vec<String> = (0..3000).map_while(line).collect();
        read.sort();
        assert_eq!(read, expected, "{codec}");
        assert_eq!(consume(&cluster, codec, "%k:%s\n"), expected, "{codec}");
    }
}

/// What this library compresses, in each way that it knows, is read by librdkafka.
#[test]
fn our_compressed_batches_are_read_elsewhere() {
    if !support::require("kcat") {
        return;
    }
    let cluster = MockCluster::new(1).unwrap();
    let expected: Vec<String> = (0..2000).map(|i| format!("value-{i:04}-of-2000")).collect();
    let lingers = [("linger.ms", "60000"), ("delivery.timeout.ms", "120000")];
    for (name, framing, bits) in [
        ("gzip", "raw", 1),
        ("snappy", "raw", 2),
        ("snappy", "xerial", 2),
        ("lz4", "raw", 3),
        ("zstd", "raw", 4),
    ] {
        let own = [("compression.type", name), ("snappy.framing", framing)];
        let keys = [lingers, own].concat();
        let mut round = 0;
        // A batch whose helper does not get its turn in two seconds goes as it is.
        produce::in_one_of_several_rounds(name, || {
            round += 1;
            let topic = &format!("{name}-{framing}-{round}");
            cluster.create_topic(topic, 1).unwrap();
            let (producer, _) = produce::producer(&cluster, &keys);
            for (tag, value) in (0..).zip(&expected) {
                let record = produce::to(0, value.as_bytes(), tag);
                producer.send(&ProducerRecord { topic, ..record }).unwrap();
            }
            producer.flush(produce::LONG).unwrap();
            assert_eq!(consume(&cluster, topic, "%s\n"), expected, "{topic}");
            cluster.batches(topic, 0).iter().all(|batch| batch.header.attributes == bits)
        });
    }
}

#[test]
fn partitions_spread_over_brokers() {
    if !support::require("kcat") {
        return;
    }
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic("spread", 12).unwrap();
    kcat(&cluster, &["-P", "-t", "spread", "-K", ":"], numbered(5000).as_bytes());
    let ends: Vec<i64> = (0..12).map(|p| cluster.end_offset("spread", p)).collect();
    assert_eq!(ends.iter().sum::<i64>(), 5000);
    assert!(ends.iter().all(|end| *end > 0), "{ends:?}");
    assert!((1..=3).all(|node| cluster.request_count(node, 0) > 0));

    let mut expected: Vec<String> = (0..5000).map(|i| format!("key-{i}:value-{i}")).collect();
    expected.sort();
    assert_eq!(consume(&cluster, "spread", "%k:%s\n"), expected);
}

#[test]
fn metadata_lists_brokers_topics_and_leaders() {
    if !support::require("kcat") {
        return;
    }
    let cluster = MockCluster::new(2).unwrap();
    cluster.create_topic("listed", 2).unwrap();
    cluster.create_topic("leaderless", 1).unwrap();
    cluster.set_leader("leaderless", 0, -1).unwrap();
    let listed = text(&kcat(&cluster, &["-L"], b""));
    let (one, two) = (cluster.port(1).unwrap(), cluster.port(2).unwrap());
    for line in [
        format!("broker 1 at 127.0.0.1:{one} (controller)"),
        format!("broker 2 at 127.0.0.1:{two}"),
        "topic \"listed\" with 2 partitions:".to_owned(),
        "partition 0, leader 1, replicas: 1,2, isrs: 1,2".to_owned(),
        "partition 1, leader 2, replicas: 2,1, isrs: 2,1".to_owned(),
        "partition 0, leader -1, replicas: 1,2, isrs: 1,2, Broker: Leader not available".to_owned(),
    ] {
        assert!(listed.contains(&line), "{line} is not in {listed}");
    }
}

#[test]
fn asking_for_a_topic_creates_it_if_it_may() {
    if !support::require("kcat") {
        return;
    }
    let cluster = MockCluster::new(1).unwrap();
    cluster.set_auto_create(true, 4);
    kcat(&cluster, &["-P", "-t", "made"], b"value\n");
    assert_eq!(cluster.partition_count("made"), Some(4));
    assert_eq!((0..4).map(|p| cluster.end_offset("made", p)).sum::<i64>(), 1);

    // A consumer doesn't ask for it.
    let output = Command::new("kcat")
        .args(["-b", cluster.bootstrap_servers(), "-C", "-e", "-t", "unmade", "-m", "5"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(cluster.partition_count("unmade"), None);
}

#[test]
fn an_idempotent_producer_writes_once() {
    if !support::require("kcat") {
        return;
    }
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("once", 2).unwrap();
    // The first batches are written and their answers lost, others are refused: all come again.
    cluster.push_errors(0, &[-1000, 7, 20, 6, 0, -1000]).unwrap();
    let arguments = [
        "-P",
        "-E",
        "-t",
        "once",
        "-K",
        ":",
        "-X",
        "enable.idempotence=true",
        "-X",
        "batch.num.messages=100",
        "-X",
        "retry.backoff.ms=10",
    ];
    kcat(&cluster, &arguments, numbered(2000).as_bytes());
    let mut keys = Vec::new();
    for partition in 0..2 {
        for record in cluster.records("once", partition) {
            keys.push(String::from_utf8(record.key.unwrap().to_vec()).unwrap());
        }
        let batches = cluster.batches("once", partition);
        assert!(batches.iter().all(|b| b.header.producer_id == 1000), "{batches:?}");
        let sequences: Vec<i64> = batches.iter().map(|b| b.header.base_sequence.into()).collect();
        let offsets: Vec<i64> = batches.iter().map(|b| b.base_offset).collect();
        assert_eq!(sequences, offsets);
    }
    keys.sort();
    let mut expected: Vec<String> = (0..2000).map(|i| format!("key-{i}")).collect();
    expected.sort();
    assert_eq!(keys, expected);
    assert_eq!(cluster.request_count(0, 22), 1);
}

#[test]
fn a_consumer_that_waits_gets_what_comes() {
    if !support::require("kcat") {
        return;
    }
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("later", 1).unwrap();
    let consumer = Command::new("kcat")
        .args(["-b", cluster.bootstrap_servers(), "-C", "-q", "-u", "-t", "later", "-c", "1"])
        .args(["-o", "beginning", "-X", "fetch.wait.max.ms=50000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    produce::eventually("it fetches", || cluster.request_count(0, FETCH) > 0);
    let before = cluster.request_count(0, FETCH);
    kcat(&cluster, &["-P", "-t", "later"], b"at last\n");
    let output = consumer.wait_with_output().unwrap();
    assert_eq!(text(&output), "at last\n");
    // It waited in one request, and got its answer there.
    assert!(cluster.request_count(0, FETCH) <= before + 1);
}

#[test]
fn offsets_are_found_by_time() {
    if !support::require("kcat") {
        return;
    }
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("timed", 1).unwrap();
    kcat(&cluster, &["-P", "-t", "timed"], b"a\nb\n");
    let second = cluster.read("timed", 0, 1).unwrap().timestamp_ms;
    for (asked, expected) in [(0, "offset 0"), (second + 1, "offset -1")] {
        let query = format!("timed:0:{asked}");
        let found = text(&kcat(&cluster, &["-Q", "-t", &query], b""));
        assert!(found.contains(expected), "{query}: {found}");
    }
}
