//! Topics that are new, unknown, growing; brokers that cannot be reached, or all moved.
#![cfg(feature = "mock")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::clock::Clock;
use kafka_producer::config::ProducerConfig;
use kafka_producer::delivery::DeliveryMode;
use kafka_producer::error::{RETRIABLE, status};
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Options, Producer, Timeout};
use kafka_producer::record::ProducerRecord;
use produce::{
    Deaf, LONG, METADATA, Outcomes, PATIENCE, assert_settled, cluster, eventually, producer,
    record, timed, to,
};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A bound against what would wait for `max.block.ms` or a request's timeout.
const SOON: Duration = Duration::from_secs(25);
const QUICK: &[(&str, &str)] =
    &[("reconnect.backoff.ms", "20"), ("reconnect.backoff.max.ms", "50")];

fn of<'a>(topic: &'a str, record: ProducerRecord<'a>) -> ProducerRecord<'a> {
    ProducerRecord { topic, ..record }
}

#[test]
fn a_topic_that_does_not_exist_times_out_and_says_so() {
    let cluster = cluster(1, 1);
    cluster.set_auto_create(false, 1);
    let (producer, _) = producer(&cluster, &[("max.block.ms", "300")]);
    // The first may not even hear of it in time.
    eventually("the error names the cause", || {
        let (error, took) = timed(|| producer.send(&of("nowhere", record(b"x", 1))).unwrap_err());
        let kind = (error.status, error.flags & RETRIABLE);
        assert_eq!(kind, (status::TIMED_OUT, RETRIABLE), "{error}");
        assert!(took >= Duration::from_millis(299) && took < SOON, "{took:?}");
        error.message.contains("\"nowhere\" does not exist")
    });
    // Others are not held up, and it works as soon as it is there.
    eventually("another topic is found", || producer.send(&record(b"x", 2)).is_ok());
    cluster.create_topic("nowhere", 1).unwrap();
    eventually("the topic is found", || producer.send(&of("nowhere", record(b"x", 3))).is_ok());
    producer.flush(LONG).unwrap();
    assert_eq!(cluster.end_offset("nowhere", 0), 1);
    assert_settled(&producer);
}

/// That the connection to a bootstrap server is closed is no reason to ask who leads what.
#[test]
fn leaving_the_bootstrap_servers_asks_nothing() {
    let cluster = cluster(3, 1);
    let (producer, _) = producer(&cluster, &[("retry.backoff.ms", "1")]);
    producer.partitions_for("t", LONG).unwrap();
    let asked = cluster.request_count(0, METADATA);
    for tag in 0..20 {
        producer.send(&record(b"x", tag)).unwrap();
        producer.flush(LONG).unwrap();
    }
    assert_eq!(cluster.request_count(0, METADATA), asked);
}

#[test]
fn the_first_record_creates_its_topic() {
    let cluster = MockCluster::new(3).unwrap();
    cluster.set_auto_create(true, 6);
    let (producer, outcomes) = producer(&cluster, &[]);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let producer = &producer;
            scope.spawn(move || {
                for topic in 0..10 {
                    let name = format!("new-{topic}");
                    let tag = thread * 10 + topic;
                    producer.send(&of(&name, record(b"x", tag))).unwrap();
                }
            });
        }
    });
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len(), 40);
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_eq!(cluster.partition_count("new-3"), Some(6));
    assert_settled(&producer);
}

#[test]
fn a_partition_that_is_not_there_costs_one_refresh_not_max_block_ms() {
    let cluster = cluster(1, 2);
    let (producer, outcomes) = producer(&cluster, &[("max.block.ms", "100000")]);
    producer.send(&to(1, b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    let (error, took) = timed(|| producer.send(&to(2, b"x", 1)).unwrap_err());
    assert_eq!(error.status, status::INVALID_ARGUMENT, "{error}");
    assert!(error.message.contains("there is no partition 2, it has 2"), "{error}");
    assert!(took < SOON, "{took:?}");
    cluster.add_partitions("t", 5).unwrap();
    let (sent, took) = timed(|| producer.send(&to(4, b"x", 2)));
    sent.unwrap();
    assert!(took < SOON, "{took:?}");
    producer.flush(LONG).unwrap();
    assert_eq!((outcomes.of(2).status, cluster.end_offset("t", 4)), (0, 1));
    let negative = producer.send(&to(-1, b"x", 3)).unwrap_err();
    assert_eq!(negative.status, status::INVALID_ARGUMENT);
}

#[test]
fn a_topic_created_again_smaller_fails_what_has_no_partition() {
    let cluster = cluster(1, 4);
    let settings = [("linger.ms", "0"), ("retry.backoff.ms", "20")];
    let (producer, outcomes) = producer(&cluster, &settings);
    for partition in 0..4 {
        producer.send(&to(partition, b"x", partition as u64)).unwrap();
    }
    producer.flush(LONG).unwrap();
    cluster.set_auto_create(false, 1);
    cluster.delete_topic("t").unwrap();
    cluster.create_topic("t", 2).unwrap();
    producer.send(&ProducerRecord { timeout_ms: 1000, ..to(3, b"x", 13) }).unwrap();
    producer.send(&to(0, b"x", 10)).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.of(10).status, 0, "{:?}", outcomes.of(10));
    assert_ne!(outcomes.of(13).status, 0);
    assert_settled(&producer);
}

#[test]
fn a_partition_without_leader_waits_and_goes_on_when_it_has_one() {
    let cluster = cluster(2, 2);
    cluster.set_leader("t", 1, -1).unwrap();
    let (producer, outcomes) = producer(&cluster, &[("retry.backoff.ms", "20")]);
    producer.send(&to(1, b"x", 1)).unwrap();
    producer.send(&to(0, b"x", 0)).unwrap();
    outcomes.wait_for(1);
    let asked = cluster.request_count(0, METADATA);
    eventually("it is asked for again", || cluster.request_count(0, METADATA) > asked + 3);
    cluster.set_leader("t", 1, 2).unwrap();
    let (_, took) = timed(|| producer.flush(LONG).unwrap());
    assert!(took < SOON, "{took:?}");
    assert_eq!(outcomes.of(1).status, 0);
}

#[test]
fn a_partition_that_never_has_a_leader_expires_and_says_so() {
    let cluster = cluster(1, 1);
    cluster.set_leader("t", 0, -1).unwrap();
    let settings =
        [("delivery.timeout.ms", "400"), ("request.timeout.ms", "200"), ("linger.ms", "100")];
    let (producer, outcomes) = producer(&cluster, &settings);
    let (_, took) = timed(|| {
        producer.send(&record(b"x", 1)).unwrap();
        outcomes.wait_for(1);
    });
    let outcome = outcomes.of(1);
    assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT);
    assert_eq!(outcome.flags & kafka_producer::error::MAYBE_PERSISTED, 0);
    assert!(outcome.message.contains("had no leader"), "{outcome:?}");
    assert!(took >= Duration::from_millis(399) && took < SOON, "{took:?}");
}

#[test]
fn bootstrap_servers_that_come_up_late_are_found() {
    let cluster = cluster(1, 1);
    cluster.set_broker(1, false, false, 0, 0).unwrap();
    let (producer, outcomes) = producer(&cluster, QUICK);
    thread::scope(|scope| {
        let sent = scope.spawn(|| timed(|| producer.send(&record(b"x", 1))));
        // A metadata request is due, and every node backs off, again and again.
        eventually("some attempts", || {
            producer.partitions_for("t", Timeout::After(Duration::from_millis(1))).is_err()
        });
        produce::let_pass(Duration::from_millis(300));
        cluster.set_broker(1, true, false, 0, 0).unwrap();
        let (sent, took) = sent.join().unwrap();
        sent.unwrap();
        assert!(took < SOON, "{took:?}");
    });
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.of(1).status, 0);
}

/// It takes connections and closes them: each attempt is seen.
#[test]
fn attempts_to_connect_follow_the_backoff_and_never_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = ProducerConfig::new();
    config.set("bootstrap.servers", &listener.local_addr().unwrap().to_string()).unwrap();
    for (key, value) in QUICK {
        config.set(key, value).unwrap();
    }
    let producer = Producer::new(&config, Options::default()).unwrap();
    // Pauses of 20 to 50 ms, give or take a fifth: in the time that one a second would take,
    // and not in that of no pauses.
    const ATTEMPTS: u64 = 40;
    const SHORTEST: Duration = Duration::from_millis(16);
    let attempts = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let (seen, took) = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                drop(listener.accept());
                attempts.fetch_add(1, Ordering::AcqRel);
            }
        });
        let clock = Clock::system();
        let began = clock.now();
        let seen = || attempts.load(Ordering::Acquire);
        while seen() < ATTEMPTS && clock.now().since(began) < PATIENCE {
            produce::let_pass(Duration::from_millis(5));
        }
        let result = (seen(), clock.now().since(began));
        done.store(true, Ordering::Release);
        drop(TcpStream::connect(listener.local_addr().unwrap()));
        result
    });
    assert!(seen >= ATTEMPTS, "{seen} attempts in {took:?}");
    // The first is made without a pause, and one before the clock was read.
    assert!(took >= SHORTEST * (seen as u32 - 3), "{seen} attempts in {took:?}");
    producer.close(LONG).1.unwrap();
}

#[test]
fn bootstrap_servers_that_are_all_dead_are_named() {
    let mut config = ProducerConfig::new();
    let deaf = [Deaf::new(), Deaf::new()];
    let [a, b] = deaf.each_ref().map(Deaf::address);
    config.set("bootstrap.servers", &format!("{a},{b}")).unwrap();
    config.set("max.block.ms", "400").unwrap();
    let producer = Producer::new(&config, Options::default()).unwrap();
    // The first may time out before there was an attempt.
    eventually("who refused is named", || {
        let error = producer.send(&record(b"x", 1)).unwrap_err();
        assert_eq!(error.status, status::TIMED_OUT);
        let named = error.message.contains(&a) || error.message.contains(&b);
        named && error.message.contains("refused")
    });
    let (_, took) = timed(|| producer.close(LONG).1.unwrap());
    assert!(took < SOON, "{took:?}");
}

#[test]
fn one_dead_bootstrap_server_of_two_does_not_matter() {
    let (cluster, deaf) = (cluster(1, 1), Deaf::new());
    for order in 0..2 {
        let mut servers = [deaf.address(), cluster.bootstrap_servers().to_owned()];
        servers.rotate_left(order);
        let mut config = ProducerConfig::new();
        config.set("bootstrap.servers", &servers.join(",")).unwrap();
        let producer = Producer::new(&config, Options::default()).unwrap();
        let (sent, took) = timed(|| producer.send(&record(b"x", 1)));
        sent.unwrap();
        assert!(took < SOON, "{took:?}");
        producer.flush(LONG).unwrap();
    }
}

/// Two clusters behind one list of bootstrap servers stand for one whose brokers all moved.
#[test]
fn when_every_known_broker_is_gone_the_bootstrap_servers_are_asked_again() {
    let (old, new) = (cluster(1, 1), cluster(1, 1));
    new.set_broker(1, false, false, 0, 0).unwrap();
    let mut config = ProducerConfig::new();
    let servers = format!("{},{}", old.bootstrap_servers(), new.bootstrap_servers());
    config.set("bootstrap.servers", &servers).unwrap();
    for (key, value) in QUICK {
        config.set(key, value).unwrap();
    }
    let outcomes = Arc::new(Outcomes::default());
    let delivery = DeliveryMode::Callback(Arc::clone(&outcomes) as _);
    let producer = Producer::new(&config, Options { delivery, ..Options::default() }).unwrap();
    producer.send(&record(b"x", 1)).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(old.end_offset("t", 0), 1);
    old.set_broker(1, false, false, 0, 0).unwrap();
    new.set_broker(1, true, false, 0, 0).unwrap();
    producer.send(&record(b"x", 2)).unwrap();
    let (_, took) = timed(|| producer.flush(LONG).unwrap());
    assert!(took < SOON, "{took:?}");
    assert_eq!((outcomes.of(2).status, new.end_offset("t", 0)), (0, 1));
}

#[test]
fn without_topic_ids_produce_stays_below_version_13() {
    let cluster = cluster(1, 1);
    // Metadata before version 10 knows no topic ids.
    cluster.set_api_versions(METADATA, 4, 9).unwrap();
    let (producer, outcomes) = producer(&cluster, &[]);
    producer.send(&record(b"x", 1)).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.of(1).status, 0, "{:?}", outcomes.of(1));
    let versions = |cluster: &MockCluster| -> Vec<i16> {
        let requests = cluster.requests().into_iter();
        requests.filter(|r| r.api_key == produce::PRODUCE).map(|r| r.api_version).collect()
    };
    assert_eq!(versions(&cluster), [12]);
    let cluster = produce::cluster(1, 1);
    let (producer, _) = produce::producer(&cluster, &[]);
    producer.send(&record(b"x", 1)).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(versions(&cluster), [13]);
}
