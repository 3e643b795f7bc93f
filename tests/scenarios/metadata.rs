//! Metadata and topology: what brokers say late, wrongly, or not at all.

use crate::produce::{
    LONG, METADATA, Outcomes, PRODUCE, assert_order, assert_settled, cluster, eventually,
    given_time, let_pass, producer, record, so, timed, to,
};
use crate::proxied::proxied;
use crate::{QUICK, Until, of};
use kafka_producer::delivery::DeliveryMode;
use kafka_producer::error::status;
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Options, Producer, Timeout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// One record per partition, each acknowledged.
pub fn assert_flows(producer: &Producer, outcomes: &Outcomes, partitions: i32, tag: &mut u64) {
    let first = *tag;
    for partition in 0..partitions {
        producer.send(&to(partition, &tag.to_be_bytes(), *tag)).unwrap();
        *tag += 1;
    }
    producer.flush(LONG).unwrap();
    for tag in first..*tag {
        assert_eq!(outcomes.of(tag).status, 0, "{:?}", outcomes.of(tag));
    }
}

/// A leader that leaves and is back before its absence was learnt: nobody sends to the other one
/// for ever.
#[test]
fn s72_a_leader_that_leaves_and_returns_is_found_again() {
    // From Produce v10 on a broker that leads no more says who does; before it must be asked for.
    for version in [13, 9] {
        a_leader_leaves_and_returns(version);
    }
}

fn a_leader_leaves_and_returns(version: i16) {
    let cluster = cluster(2, 1);
    cluster.set_api_versions(PRODUCE, 0, version).unwrap();
    let (producer, outcomes) = producer(&cluster, QUICK);
    let mut tag = 0;
    assert_flows(&producer, &outcomes, 1, &mut tag);
    for round in 0..60_u64 {
        let (leader, _) = cluster.leader("t", 0).unwrap();
        if round % 3 == 0 {
            cluster.disconnect(leader).unwrap();
        }
        cluster.set_leader("t", 0, 3 - leader).unwrap();
        if round % 2 == 0 {
            producer.send(&to(0, &tag.to_be_bytes(), tag)).unwrap();
            tag += 1;
            let_pass(Duration::from_micros(round * 97 % 1500));
        }
        cluster.set_leader("t", 0, leader).unwrap();
        assert_flows(&producer, &outcomes, 1, &mut tag);
        let infos = producer.partitions_for("t", LONG).unwrap();
        assert_eq!(infos[0].leader, leader, "round {round}: recorded and serving");
        // And one more finds it without being refused.
        let before = cluster.request_count(0, PRODUCE);
        assert_flows(&producer, &outcomes, 1, &mut tag);
        assert_eq!(cluster.request_count(0, PRODUCE) - before, 1, "round {round}");
    }
    assert_eq!(assert_order(&cluster, 1, &outcomes).len() as u64, tag);
}

#[test]
fn s41_all_partitions_without_leader_for_a_while() {
    let cluster = cluster(2, 6);
    let (producer, outcomes) = producer(&cluster, QUICK);
    let mut tag = 0;
    assert_flows(&producer, &outcomes, 6, &mut tag);
    for partition in 0..6 {
        cluster.set_leader("t", partition, -1).unwrap();
    }
    let first = tag;
    for _ in 0..60 {
        producer.send(&to((tag % 6) as i32, &tag.to_be_bytes(), tag)).unwrap();
        tag += 1;
    }
    let asked = cluster.request_count(0, METADATA);
    eventually("it is asked for", || cluster.request_count(0, METADATA) > asked + 3);
    assert_eq!(outcomes.get().len() as u64, first, "nothing fails up front");
    for partition in 0..6 {
        cluster.set_leader("t", partition, 1 + partition % 2).unwrap();
    }
    assert_flows(&producer, &outcomes, 6, &mut tag);
    let mut tags = assert_order(&cluster, 6, &outcomes);
    tags.sort_unstable();
    assert_eq!(tags, (0..tag).collect::<Vec<_>>());
}

#[test]
fn s42_a_new_partition_that_its_leader_does_not_know_yet() {
    let cluster = cluster(2, 2);
    let settings = [QUICK, &[("metadata.max.age.ms", "100")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    let mut tag = 0;
    assert_flows(&producer, &outcomes, 2, &mut tag);
    cluster.add_partitions("t", 4).unwrap();
    for partition in 2..4 {
        cluster.push_partition_errors("t", partition, &[3, 3, 6]).unwrap();
    }
    assert_flows(&producer, &outcomes, 4, &mut tag);
}

/// Whichever broker is asked, a question that nobody answers ends, and another one is asked.
#[test]
fn s43_a_question_that_is_not_answered_is_asked_elsewhere() {
    for frozen in 1..=2 {
        given_time(300, |ms| questions_are_asked_elsewhere(frozen, ms));
    }
}

fn questions_are_asked_elsewhere(frozen: i32, wait_ms: u32) -> Result<(), String> {
    let behind = proxied(2, 2);
    let cluster = &behind.cluster;
    let lively = 3 - frozen;
    for (partition, node) in [(0, frozen), (1, lively)] {
        cluster.set_leader("t", partition, node).unwrap();
    }
    let wait = wait_ms.to_string();
    let settings = [QUICK, &[("request.timeout.ms", &*wait)]].concat();
    let (producer, outcomes) = behind.producer(&settings);
    let mut tag = 0;
    for number in 0..4 {
        // Both are connected, and the lively one has something to do: the other one is asked.
        assert_flows(&producer, &outcomes, 2, &mut tag);
        let name = format!("new-{number}");
        cluster.create_topic(&name, 1).unwrap();
        cluster.set_leader(&name, 0, lively).unwrap();
        cluster.set_broker(lively, true, false, wait_ms as i32 / 3, 0).unwrap();
        behind.command(&format!("stall {frozen} both on"));
        let requests = cluster.request_count(lively, PRODUCE);
        producer.send(&to(1, &tag.to_be_bytes(), tag)).unwrap();
        tag += 1;
        eventually("it is busy", || cluster.request_count(lively, PRODUCE) > requests);
        let (sent, took) = timed(|| producer.send_sync(&of(&name, record(b"x", 2)), LONG));
        sent.unwrap();
        let in_vain = took >= Duration::from_millis(wait_ms.into());
        so(in_vain, format_args!("the frozen one was not asked: {took:?}"))?;
        cluster.set_broker(lively, true, false, 0, 0).unwrap();
        behind.command(&format!("heal {frozen}"));
    }
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
    Ok(())
}

#[test]
fn s44_a_topic_deleted_and_created_again_and_again_while_producing() {
    let cluster = cluster(2, 2);
    // Nobody but this test creates the topic.
    cluster.set_auto_create(false, 2);
    let settings = [
        QUICK,
        &[
            ("delivery.timeout.ms", "10000"),
            ("request.timeout.ms", "5000"),
            ("max.block.ms", "2000"),
            ("metadata.max.age.ms", "100"),
        ],
    ]
    .concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    let done = AtomicBool::new(false);
    let accepted = thread::scope(|scope| {
        let sender = scope.spawn({
            let (producer, done) = (&producer, &done);
            move || {
                let mut tag = 0_u64;
                while !done.load(Ordering::Acquire) {
                    tag += u64::from(
                        producer.send(&to((tag % 2) as i32, &tag.to_be_bytes(), tag)).is_ok(),
                    );
                }
                tag
            }
        });
        let until = Until(&done);
        for _ in 0..10 {
            let end = cluster.end_offset("t", 0);
            eventually("records", || cluster.end_offset("t", 0) > end);
            cluster.delete_topic("t").unwrap();
            cluster.create_topic("t", 2).unwrap();
        }
        drop(until);
        sender.join().unwrap()
    });
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len() as u64, accepted);
    // New ones flow, in order.
    let mut tag = accepted;
    assert_flows(&producer, &outcomes, 2, &mut tag);
    assert_settled(&producer);
}

#[test]
fn s46_batches_of_records_race_with_the_first_metadata() {
    for _ in 0..10 {
        let cluster = MockCluster::new(2).unwrap();
        cluster.set_auto_create(true, 3);
        let (producer, outcomes) = producer(&cluster, QUICK);
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let producer = &producer;
                scope.spawn(move || {
                    let values: Vec<_> =
                        (0..50).map(|number| (thread << 32 | number).to_be_bytes()).collect();
                    let names = ["t", "u", "v"];
                    let records: Vec<_> = (0..50_u64)
                        .map(|number| {
                            let value = &values[number as usize];
                            of(names[number as usize % 3], record(value, thread << 32 | number))
                        })
                        .collect();
                    let records = records.iter().copied().map(Ok);
                    let (accepted, result) = producer.send_batch(records, Timeout::Default);
                    result.unwrap();
                    assert_eq!(accepted, 50);
                });
            }
        });
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.get().len(), 200);
        assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
        assert_settled(&producer);
    }
}

/// All brokers die, and others come up: at the same addresses, or at new ones, which only the
/// bootstrap server knows.
#[test]
fn s47_all_brokers_down_then_up_elsewhere() {
    for same in [true, false] {
        let behind = proxied(2, 2);
        let first =
            behind.proxy.route(format_args!("127.0.0.1:{}", behind.cluster.port(1).unwrap()));
        let mut config = behind.config(QUICK);
        config.set("bootstrap.servers", &first.address.to_string()).unwrap();
        let outcomes = Arc::new(Outcomes::default());
        let delivery = DeliveryMode::Callback(Arc::clone(&outcomes) as _);
        let producer = Producer::new(&config, Options { delivery, ..Options::default() }).unwrap();
        let mut tag = 0;
        assert_flows(&producer, &outcomes, 2, &mut tag);
        for node in 1..=2 {
            behind.cluster.set_broker(node, false, false, 0, 0).unwrap();
        }
        producer.send(&to(0, &tag.to_be_bytes(), tag)).unwrap();
        tag += 1;
        let_pass(Duration::from_millis(200));
        let elsewhere = cluster(2, 2);
        for route in behind.routes.iter().filter(|_| same) {
            let (node, port) = (route.number as i32, route.address.port());
            elsewhere.set_advertised(node, "127.0.0.1", port).unwrap();
            let port = elsewhere.port(node).unwrap();
            behind.command(&format!("backend {node} 127.0.0.1:{port}"));
        }
        let port = elsewhere.port(1).unwrap();
        behind.command(&format!("backend {} 127.0.0.1:{port}", first.number));
        assert_flows(&producer, &outcomes, 2, &mut tag);
        assert_eq!(elsewhere.end_offset("t", 0), 2);
        assert_eq!(outcomes.get().len() as u64, tag);
        assert_settled(&producer);
    }
}

#[test]
fn s48_a_broker_is_its_id_not_its_address() {
    let behind = proxied(2, 2);
    let cluster = &behind.cluster;
    let settings = [QUICK, &[("metadata.max.age.ms", "50")]].concat();
    let (producer, outcomes) = behind.producer(&settings);
    let mut tag = 0;
    for partition in 0..2 {
        cluster.set_leader("t", partition, 1 + partition).unwrap();
    }
    assert_flows(&producer, &outcomes, 2, &mut tag);
    // The id stays, the address is another one.
    let moved = behind.proxy.route(format_args!("127.0.0.1:{}", cluster.port(1).unwrap()));
    cluster.set_advertised(1, "127.0.0.1", moved.address.port()).unwrap();
    eventually("it follows", || {
        assert_flows(&producer, &outcomes, 2, &mut tag);
        !behind.connections(moved.number).is_empty()
    });
    eventually("it leaves the old address", || behind.connections(1).is_empty());
    // Two ids at one address: the one that is not there is refused, the other one goes on.
    cluster.set_advertised(1, "127.0.0.1", behind.routes[1].address.port()).unwrap();
    eventually("it follows again", || behind.connections(moved.number).is_empty());
    let (lost, found) = (tag, tag + 1);
    producer.send(&to(0, &lost.to_be_bytes(), lost)).unwrap();
    producer.send(&to(1, &found.to_be_bytes(), found)).unwrap();
    tag += 2;
    eventually("node 2 goes on", || outcomes.get().contains_key(&found));
    assert_eq!(outcomes.of(found).status, 0);
    assert!(!outcomes.get().contains_key(&lost), "it is not with node 2");
    cluster.set_advertised(1, "127.0.0.1", moved.address.port()).unwrap();
    assert_flows(&producer, &outcomes, 2, &mut tag);
    assert_settled(&producer);
}

/// Brokers are replaced by older ones and by newer ones while a producer lives.
#[test]
fn s49_versions_are_agreed_on_anew_with_every_connection() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, QUICK);
    let mut tag = 0;
    for (produce, metadata) in [(13, 13), (7, 7), (3, 4), (12, 9), (9, 12), (13, 13)] {
        cluster.set_api_versions(PRODUCE, 0, produce).unwrap();
        cluster.set_api_versions(METADATA, 0, metadata).unwrap();
        cluster.disconnect(1).unwrap();
        assert_flows(&producer, &outcomes, 1, &mut tag);
        let last = cluster.requests().into_iter().rfind(|r| r.api_key == PRODUCE).unwrap();
        // v13 once the topic's id is known.
        let fits = [produce, produce.min(12)].contains(&last.api_version);
        assert!(fits, "v{} where the broker has v{produce}", last.api_version);
    }
    // None in common: a sentence, not a hang, and it works again when there are some.
    cluster.set_api_versions(PRODUCE, 0, 2).unwrap();
    cluster.disconnect(1).unwrap();
    given_time(700, |ms| {
        let timeout = Timeout::After(Duration::from_millis(ms.into()));
        let late = producer.send_sync(&record(b"x", 0), timeout).unwrap_err();
        assert!([status::UNSUPPORTED, status::DELIVERY_TIMED_OUT].contains(&late.status), "{late}");
        so(late.message.contains("Produce"), late)
    });
    cluster.set_api_versions(PRODUCE, 0, 13).unwrap();
    cluster.disconnect(1).unwrap();
    assert_flows(&producer, &outcomes, 1, &mut tag);
    assert_settled(&producer);
}
