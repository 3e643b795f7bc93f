//! Going back to the bootstrap servers: because a broker demands it, because nobody answers, and
//! because all brokers are gone (KIP-899, KIP-1102).
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::error::status;
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::Producer;
use produce::{LONG, METADATA, Outcomes, assert_settled, cluster, eventually, logged, to};
use std::net::TcpListener;
use std::sync::Arc;

const QUICK: &[(&str, &str)] = &produce::quick("10");

/// A producer that knows one bootstrap server, this broker.
fn from(cluster: &MockCluster, node: i32, settings: &[(&str, &str)]) -> (Producer, Arc<Outcomes>) {
    let server = format!("127.0.0.1:{}", cluster.port(node).unwrap());
    let settings = [QUICK, &[("bootstrap.servers", server.as_str())], settings].concat();
    produce::producer(cluster, &settings)
}

fn send(producer: &Producer, partition: i32, tag: u64) {
    producer.send(&to(partition, &tag.to_be_bytes(), tag)).unwrap();
}

#[test]
fn a_broker_that_demands_it_is_obeyed() {
    for (strategy, again) in [("rebootstrap", true), ("none", false)] {
        let cluster = cluster(1, 1);
        let settings = [("metadata.recovery.strategy", strategy)];
        let (producer, outcomes) = from(&cluster, 1, &settings);
        send(&producer, 0, 0);
        producer.flush(LONG).unwrap();
        // The connection to the bootstrap server was given up for the broker's.
        eventually("one connection", || cluster.connection_count(1) == 1);
        let before = cluster.accepted_count(1);
        let asked = cluster.request_count(1, METADATA);
        cluster.push_errors(METADATA, &[129]).unwrap();
        cluster.push_partition_errors("t", 0, &[6]).unwrap();
        send(&producer, 0, 1);
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.of(1).status, status::OK);
        assert_eq!(logged(&cluster, 0).concat(), [0, 1]);
        eventually("metadata after the demand", || cluster.request_count(1, METADATA) >= asked + 2);
        // One connection to the bootstrap server, one to the broker that it names.
        match again {
            true => eventually("both", || cluster.accepted_count(1) >= before + 2),
            false => assert_eq!(cluster.accepted_count(1), before),
        }
        send(&producer, 0, 2);
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.of(2).status, status::OK);
        assert_settled(&producer);
    }
}

#[test]
fn metadata_that_does_not_come_is_asked_for_elsewhere() {
    let cluster = cluster(2, 2);
    let settings = [
        ("metadata.max.age.ms", "50"),
        ("metadata.recovery.rebootstrap.trigger.ms", "400"),
        ("request.timeout.ms", "60000"),
    ];
    let (producer, outcomes) = from(&cluster, 2, &settings);
    for partition in 0..2 {
        send(&producer, partition, partition as u64);
    }
    producer.flush(LONG).unwrap();
    // Sooner or later it is broker 1 that is asked, and that one says nothing for a minute.
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    let (led_by_2, _) =
        (0..2).map(|p| (p, cluster.leader("t", p).unwrap().0)).find(|l| l.1 == 2).unwrap();
    let asked = cluster.request_count(2, METADATA);
    eventually("metadata goes on", || cluster.request_count(2, METADATA) > asked + 20);
    send(&producer, led_by_2, 2);
    outcomes.wait_for(3);
    assert_eq!(outcomes.of(2).status, status::OK);
}

#[test]
fn brokers_that_are_all_gone_are_looked_for_at_the_bootstrap_servers() {
    let cluster = cluster(2, 1);
    let (leader, _) = cluster.leader("t", 0).unwrap();
    let (producer, outcomes) = from(&cluster, 3 - leader, &[]);
    send(&producer, 0, 0);
    producer.flush(LONG).unwrap();
    for node in 1..=2 {
        cluster.set_broker(node, false, false, 0, 0).unwrap();
    }
    send(&producer, 0, 1);
    produce::let_pass(std::time::Duration::from_millis(300));
    cluster.set_broker(3 - leader, true, false, 0, 0).unwrap();
    cluster.set_leader("t", 0, 3 - leader).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.of(1).status, status::OK);
    assert_settled(&producer);
}

/// Brokers that do not even refuse: while there are records for them, there is always one that is
/// being connected to, and to hope for.
#[test]
fn brokers_that_fell_silent_are_looked_for_at_the_bootstrap_servers() {
    let cluster = cluster(4, 4);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for node in 1..=4 {
        let port = silent.local_addr().unwrap().port();
        cluster.set_advertised(node, "127.0.0.1", port).unwrap();
    }
    let settings = [
        // It grows with each: a busy machine needs more, where somebody answers.
        ("socket.connection.setup.timeout.ms", "100"),
        ("socket.connection.setup.timeout.max.ms", "3000"),
        ("reconnect.backoff.ms", "1"),
        ("reconnect.backoff.max.ms", "1"),
        ("delivery.timeout.ms", "60000"),
    ];
    let (producer, outcomes) = from(&cluster, 1, &settings);
    for partition in 0..4 {
        send(&producer, partition, partition as u64);
    }
    eventually("the silent ones are known", || producer.partitions_for("t", LONG).is_ok());
    let asked = cluster.request_count(1, METADATA);
    eventually("they are given up", || cluster.request_count(1, METADATA) > asked + 1);
    for node in 1..=4 {
        cluster.set_advertised(node, "127.0.0.1", cluster.port(node).unwrap()).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert!((0..4).all(|tag| outcomes.of(tag).status == status::OK));
    assert_settled(&producer);
}
