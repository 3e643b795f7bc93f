//! The mock cluster's sockets: frames in any pieces, order, brokers that are down, frozen or slow,
//! connections that are cut, and peers that are no Kafka client.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

#[path = "support/signals.rs"]
mod signals;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kafka_producer::clock::Clock;
use kafka_producer::mock::{CUT_AFTER_WRITE, MockCluster};
use kafka_producer::protocol::api::{request_frame, split_response};
use kafka_producer::protocol::crc32c::{ShiftFactor, crc32c};
use kafka_producer::protocol::messages::{
    FetchPartition, FetchRequest, FetchTopic, MetadataRequest, ProduceRequest,
    ProduceRequestPartition, ProduceRequestTopic, ProduceResponse,
};
use kafka_producer::protocol::record_batch::{BatchHeader, Record};
use kafka_producer::protocol::{Message, Request};

/// Long enough for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for what must not happen to have happened.
const A_WHILE: Duration = Duration::from_millis(100);

fn connect(cluster: &MockCluster, node: i32) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", cluster.port(node).unwrap())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn frame<R: Request>(correlation_id: i32, version: i16, request: &R) -> Vec<u8> {
    request_frame(request, version, correlation_id, None).unwrap()
}

fn metadata(correlation_id: i32) -> Vec<u8> {
    frame(correlation_id, 9, &MetadataRequest::default())
}

/// A Produce request with one record, of a value of so many bytes.
fn produce(correlation_id: i32, acks: i16, value: usize) -> Vec<u8> {
    let value = vec![b'v'; value];
    let record = Record {
        timestamp_delta: 0,
        offset_delta: 0,
        key: None,
        value: Some(&value),
        headers: &[],
    };
    let mut records = vec![0; record.encoded_len()];
    record.encode(record.body_len(), &mut records).unwrap();
    let header = BatchHeader { record_count: 1, ..BatchHeader::default() };
    let factor = ShiftFactor::for_len(records.len());
    let header = header.encode(records.len(), crc32c(&records), factor).unwrap();
    let batch = [header.to_vec(), records].concat();
    let partitions = vec![ProduceRequestPartition { index: 0, records: Some(batch.into()) }];
    let topics =
        vec![ProduceRequestTopic { name: "t".to_owned(), partitions, ..Default::default() }];
    let request = ProduceRequest { acks, timeout_ms: 1000, topics, ..Default::default() };
    frame(correlation_id, 9, &request)
}

/// Reads a response and gives its correlation id and what follows that.
fn receive(stream: &mut TcpStream) -> (i32, Vec<u8>) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    let correlation_id = i32::from_be_bytes(*body.first_chunk().unwrap());
    (correlation_id, body)
}

fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Whether nothing comes for a while.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(A_WHILE)).unwrap();
    let nothing = matches!(
        stream.peek(&mut [0]).map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)
    );
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    nothing
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let clock = Clock::system();
    let deadline = clock.now().after(PATIENCE);
    while !condition() {
        assert!(clock.now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn cluster_with_topic(brokers: i32) -> MockCluster {
    let cluster = MockCluster::new(brokers).unwrap();
    cluster.create_topic("t", 1).unwrap();
    cluster
}

#[test]
fn frames_come_in_any_pieces() {
    let cluster = cluster_with_topic(1);
    let mut stream = connect(&cluster, 1);
    let all: Vec<u8> =
        (0..3).flat_map(|id| [metadata(id), produce(100 + id, 1, 50)].concat()).collect();
    for byte in &all {
        stream.write_all(std::slice::from_ref(byte)).unwrap();
    }
    for id in 0..3 {
        assert_eq!(receive(&mut stream).0, id);
        assert_eq!(receive(&mut stream).0, 100 + id);
    }
    stream.write_all(&all).unwrap();
    for id in 0..3 {
        assert_eq!(receive(&mut stream).0, id);
        assert_eq!(receive(&mut stream).0, 100 + id);
    }
    assert_eq!(cluster.end_offset("t", 0), 6);
}

#[test]
fn long_frames_keep_their_bytes() {
    let cluster = cluster_with_topic(1);
    cluster.set_topic_config("t", "max.message.bytes", "10000000").unwrap();
    let mut stream = connect(&cluster, 1);
    let sizes = [1, 65_000, 65_400, 65_536, 70_000, 200_000, 3_000_000, 10];
    let all: Vec<u8> = (0..).zip(sizes).flat_map(|(id, size)| produce(id, 1, size)).collect();
    let mut writer = stream.try_clone().unwrap();
    let writer = std::thread::Builder::new().spawn(move || writer.write_all(&all)).unwrap();
    for (id, size) in (0..).zip(sizes) {
        assert_eq!(receive(&mut stream).0, id);
        let record = cluster.read("t", 0, id.into()).unwrap();
        assert_eq!(record.value.unwrap(), vec![b'v'; size]);
    }
    writer.join().unwrap().unwrap();
}

#[test]
fn acks_0_leaves_no_answer_in_the_stream() {
    let cluster = cluster_with_topic(1);
    let mut stream = connect(&cluster, 1);
    stream.write_all(&[produce(1, 0, 9), produce(2, 0, 9), metadata(3)].concat()).unwrap();
    assert_eq!(receive(&mut stream).0, 3);
    assert_eq!(cluster.end_offset("t", 0), 2);
    // What was sent before the connection's end counts.
    stream.write_all(&[produce(4, 0, 9), produce(5, 0, 9)].concat()).unwrap();
    drop(stream);
    wait_until("both were written", || cluster.end_offset("t", 0) == 4);
}

#[test]
fn a_broker_that_is_down_refuses_and_returns_to_its_port() {
    let cluster = cluster_with_topic(2);
    let port = cluster.port(1).unwrap();
    for _ in 0..3 {
        let mut stream = connect(&cluster, 1);
        stream.write_all(&metadata(1)).unwrap();
        receive(&mut stream);
        cluster.set_broker(1, false, false, 0, 0).unwrap();
        assert!(is_closed(&mut stream));
        let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(cluster.connection_count(1), 0);
        cluster.set_broker(1, true, false, 0, 0).unwrap();
        assert_eq!(cluster.port(1), Some(port));
    }
    let mut other = connect(&cluster, 2);
    other.write_all(&metadata(7)).unwrap();
    assert_eq!(receive(&mut other).0, 7);
    assert!(cluster.set_broker(3, true, false, 0, 0).is_err());
    assert!(cluster.set_broker(0, true, false, 0, 0).is_err());
}

#[test]
fn a_frozen_broker_goes_on_where_it_stopped() {
    let cluster = cluster_with_topic(1);
    let mut before = connect(&cluster, 1);
    before.write_all(&metadata(1)).unwrap();
    receive(&mut before);
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    before.write_all(&produce(2, 1, 9)).unwrap();
    // The system takes the connection, nobody else does.
    let mut after = connect(&cluster, 1);
    after.write_all(&metadata(3)).unwrap();
    assert!(is_silent(&mut before) && is_silent(&mut after));
    assert_eq!(cluster.end_offset("t", 0), 0);
    assert_eq!(cluster.connection_count(1), 1);
    cluster.set_broker(1, true, false, 0, 0).unwrap();
    assert_eq!(receive(&mut before).0, 2);
    assert_eq!(receive(&mut after).0, 3);
}

/// One after the other they would take ten times as long. A busy machine may be late for some of
/// the rounds.
#[test]
fn latency_delays_every_answer_but_not_the_next_request() {
    const LATENCY_MS: i32 = 500;
    const LATENCY: Duration = Duration::from_millis(LATENCY_MS as u64);
    let clock = Clock::system();
    let mut rounds = (0..5).map(|_| {
        let cluster = cluster_with_topic(1);
        cluster.set_broker(1, true, false, LATENCY_MS, 0).unwrap();
        let mut stream = connect(&cluster, 1);
        let start = clock.now();
        for id in 0..10 {
            stream.write_all(&produce(id, 1, 9)).unwrap();
        }
        wait_until("all were written", || cluster.end_offset("t", 0) == 10);
        let written = clock.now().since(start);
        for id in 0..10 {
            assert_eq!(receive(&mut stream).0, id);
            assert!(clock.now().since(start) >= LATENCY, "{id}");
        }
        let answered = clock.now().since(start);
        (written, answered, written < LATENCY && answered < 5 * LATENCY)
    });
    assert!(rounds.any(|(.., in_time)| in_time), "written late, or answered one by one");
}

#[test]
fn what_waits_for_its_latency_is_answered_when_the_test_says_so() {
    let cluster = cluster_with_topic(1);
    cluster.set_broker(1, true, false, 300_000, 0).unwrap();
    let mut stream = connect(&cluster, 1);
    for id in 0..3 {
        stream.write_all(&produce(id, 1, 9)).unwrap();
    }
    wait_until("all were written", || cluster.end_offset("t", 0) == 3);
    assert!(is_silent(&mut stream));
    cluster.answer_now(1).unwrap();
    for id in 0..3 {
        assert_eq!(receive(&mut stream).0, id);
    }
    // What comes later has its latency.
    stream.write_all(&produce(3, 1, 9)).unwrap();
    wait_until("it was written", || cluster.end_offset("t", 0) == 4);
    assert!(is_silent(&mut stream));
}

#[test]
fn connections_are_cut_before_or_after_the_write() {
    let cluster = cluster_with_topic(1);
    cluster.push_errors(0, &[0, 13, CUT_AFTER_WRITE]).unwrap();
    let mut stream = connect(&cluster, 1);
    stream.write_all(&[produce(1, 1, 9), produce(2, 1, 9), produce(3, 1, 9)].concat()).unwrap();
    assert_eq!(receive(&mut stream).0, 1, "what came before is answered");
    assert!(is_closed(&mut stream));
    assert_eq!(cluster.end_offset("t", 0), 1);
    let mut stream = connect(&cluster, 1);
    stream.write_all(&produce(3, 1, 9)).unwrap();
    assert!(is_closed(&mut stream));
    assert_eq!(cluster.end_offset("t", 0), 2);
    let mut stream = connect(&cluster, 1);
    stream.write_all(&produce(4, 1, 9)).unwrap();
    let (_, body) = receive(&mut stream);
    let (_, body) = split_response(ProduceRequest::KEY, 9, &body.into()).unwrap();
    let response = ProduceResponse::from_bytes(9, &body).unwrap();
    assert_eq!(response.topics[0].partitions[0].base_offset, 2);
    cluster.disconnect(1).unwrap();
    assert!(is_closed(&mut stream));
    connect(&cluster, 1);
}

#[test]
fn a_waiting_fetch_is_answered_when_something_comes() {
    let cluster = cluster_with_topic(1);
    let partitions = vec![FetchPartition { partition_max_bytes: 1000, ..Default::default() }];
    let request = FetchRequest {
        max_wait_ms: i32::MAX,
        min_bytes: 1,
        topics: vec![FetchTopic { topic: "t".to_owned(), partitions, ..Default::default() }],
        ..Default::default()
    };
    let mut consumers: Vec<_> = (0..3).map(|_| connect(&cluster, 1)).collect();
    for consumer in &mut consumers {
        // Nothing behind a request that waits is looked at.
        consumer.write_all(&[frame(1, 9, &request), metadata(2)].concat()).unwrap();
    }
    wait_until("all wait", || cluster.request_count(1, 1) == 3);
    assert!(is_silent(&mut consumers[0]));
    assert_eq!(cluster.request_count(1, 3), 0);
    // One gives up, and that is noticed.
    drop(consumers.pop());
    wait_until("one is gone", || cluster.connection_count(1) == 2);
    let mut producer = connect(&cluster, 1);
    producer.write_all(&produce(1, 1, 9)).unwrap();
    for consumer in &mut consumers {
        assert_eq!(receive(consumer).0, 1);
        assert_eq!(receive(consumer).0, 2);
        consumer.write_all(&frame(3, 9, &request)).unwrap();
        assert_eq!(receive(consumer).0, 3, "it is at offset 0 and need not wait");
    }
    let mut late = connect(&cluster, 1);
    let mut end = request;
    end.topics[0].partitions[0].fetch_offset = 1;
    late.write_all(&frame(4, 9, &end)).unwrap();
    wait_until("it waits", || cluster.request_count(1, 1) == 6);
    // A test's own change wakes it too.
    cluster.delete_topic("t").unwrap();
    assert_eq!(receive(&mut late).0, 4);
}

#[test]
fn what_is_no_request_closes_the_connection() {
    let cluster = cluster_with_topic(1);
    let hostile: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\x00\x00\x00\x00",
    ];
    for bytes in hostile {
        let mut stream = connect(&cluster, 1);
        stream.write_all(bytes).unwrap();
        assert!(is_closed(&mut stream), "{bytes:?}");
    }
    assert_eq!(cluster.complaints().len(), hostile.len());
    let mut stream = connect(&cluster, 1);
    stream.write_all(&metadata(1)).unwrap();
    assert_eq!(receive(&mut stream).0, 1);
}

#[test]
fn a_client_that_reads_nothing_is_not_read_from_for_ever() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("wide", 10_000).unwrap();
    let mut stream = connect(&cluster, 1);
    stream.set_write_timeout(Some(A_WHILE)).unwrap();
    let request = metadata(1);
    let mut sent = 0_u64;
    while stream.write_all(&request).is_ok() {
        sent += 1;
        assert!(sent < 10_000_000, "the cluster takes requests without end");
    }
    let carried_out = cluster.request_count(1, 3);
    assert!(carried_out < 1100, "{carried_out} answers wait");
    assert!(receive(&mut stream).0 == 1);
}

#[test]
fn dropping_the_cluster_closes_everything() {
    let cluster = cluster_with_topic(3);
    let ports: Vec<u16> = (1..=3).map(|node| cluster.port(node).unwrap()).collect();
    let mut stream = connect(&cluster, 2);
    stream.write_all(&metadata(1)).unwrap();
    receive(&mut stream);
    assert_eq!(cluster.accepted_count(0), 1);
    drop(cluster);
    assert!(is_closed(&mut stream));
    for port in ports {
        let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

/// A client that goes away with answers under way costs its connection, and not the process:
/// writing to it must not raise SIGPIPE.
#[test]
fn a_client_that_is_gone_ends_nothing_but_its_connection() {
    signals::restore_sigpipe();
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    for _ in 0..100 {
        let mut stream = connect(&cluster, 1);
        let requests: Vec<u8> = (0..1000).flat_map(metadata).collect();
        stream.write_all(&requests).unwrap();
        // The first answers meet a socket that is gone; those after them a connection that says so.
        drop(stream);
    }
    let mut stream = connect(&cluster, 1);
    stream.write_all(&metadata(1)).unwrap();
    stream.read_exact(&mut [0]).unwrap();
}
