//! A defect on one of our threads, in every phase of its loop: the host lives, no caller waits for
//! ever, and every record has its outcome.

#![cfg(all(feature = "mock", not(loom)))]

use super::{Options, Producer, Timeout};
use crate::clock::Clock;
use crate::config::ProducerConfig;
use crate::delivery::{Delivery, DeliveryMode, DeliverySink};
use crate::error::{FATAL, status};
use crate::mock::MockCluster;
use crate::record::ProducerRecord;
use crate::sync::trip::arm;
use crate::sync::{Signal, lock};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const LONG: Timeout = Timeout::After(Duration::from_secs(30));

#[derive(Default)]
struct Ledger(Mutex<BTreeMap<u64, Vec<i32>>>);

impl DeliverySink for Ledger {
    fn deliver(&self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            for tag in delivery.tags() {
                lock(&self.0).entry(*tag).or_default().push(delivery.status);
            }
        }
    }
}

fn to(partition: i32, tag: u64) -> ProducerRecord<'static> {
    ProducerRecord {
        topic: "t",
        partition: Some(partition),
        key: None,
        value: Some(b"some value"),
        headers: &[],
        timestamp_ms: None,
        timeout_ms: 0,
        tag,
    }
}

/// Waits for something that other threads bring about.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let (clock, never) = (Clock::system(), Signal::default());
    let deadline = clock.now().after(Duration::from_secs(30));
    while !is_so() {
        assert!(clock.now() < deadline, "{what}");
        let pause = clock.now().after(Duration::from_millis(1));
        never.wait(never.generation(), &clock, pause);
    }
}

/// A cluster of one frozen and one working broker, and a producer with records acknowledged, in
/// flight, backing off, lingering and without leader.
struct Scene {
    cluster: MockCluster,
    producer: Producer,
    ledger: Arc<Ledger>,
    accepted: u64,
}

fn scene(settings: &[(&str, &str)]) -> Scene {
    let cluster = MockCluster::new(2).unwrap();
    cluster.create_topic("t", 5).unwrap();
    for (partition, leader) in (0..).zip([1, 1, 2, 2, 1]) {
        cluster.set_leader("t", partition, leader).unwrap();
    }
    let mut config = ProducerConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).unwrap();
    config.set("linger.ms", "0").unwrap();
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    let ledger = Arc::new(Ledger::default());
    let options = Options {
        delivery: DeliveryMode::Callback(Arc::clone(&ledger) as _),
        ..Options::default()
    };
    let producer = Producer::new(&config, options).unwrap();
    for partition in 0..5 {
        producer.send(&to(partition, partition as u64)).unwrap();
    }
    producer.flush(LONG).unwrap();
    cluster.set_broker(2, true, true, 0, 0).unwrap();
    cluster.set_leader("t", 4, -1).unwrap();
    cluster.push_partition_errors("t", 0, &[19; 1000]).unwrap();
    for tag in 5..25 {
        producer.send(&to((tag % 5) as i32, tag)).unwrap();
    }
    eventually("a refusal", || cluster.request_count(1, 0) >= 3);
    Scene { cluster, producer, ledger, accepted: 25 }
}

impl Scene {
    fn thread(&self, name: &str) -> thread::ThreadId {
        let threads = lock(&self.producer.threads);
        threads.iter().find(|t| t.thread().name() == Some(name)).unwrap().thread().id()
    }

    /// Each accepted record has one outcome; what was not acknowledged has this one.
    fn assert_all_reported(&self, expected: i32, place: &str) {
        let ledger = lock(&self.ledger.0);
        let counters = self.producer.counters();
        assert_eq!(counters.accepted, self.accepted, "{place}");
        assert_eq!((counters.pending, counters.buffered_bytes), (0, 0), "{place}: {counters:?}");
        assert_eq!(ledger.len() as u64, self.accepted, "{place}");
        for (tag, outcomes) in ledger.iter() {
            assert_eq!(outcomes.len(), 1, "{place}: {tag}: {outcomes:?}");
            assert!([0, expected].contains(&outcomes[0]), "{place}: {tag}: {outcomes:?}");
        }
    }
}

#[test]
fn a_defect_on_the_network_thread_loses_no_record_in_whatever_phase() {
    let places = [
        "messages",
        "inbox",
        "expiry",
        "metadata",
        "producer id",
        "ready",
        "drained",
        "stamped",
        "memory",
        "undecided",
        "poll",
        "events",
        "answered",
    ];
    for place in places {
        let mut scene = scene(&[("max.block.ms", "60000")]);
        let network = scene.thread(super::threads::NETWORK_THREAD);
        thread::scope(|scope| {
            // Others wait for a topic that is not there, an outcome, a flush.
            let absent = ProducerRecord { topic: "absent", ..to(0, 0) };
            scene.cluster.set_auto_create(false, 1);
            let producer = &scene.producer;
            let waiters = [
                scope.spawn(move || producer.send(&absent).map(drop)),
                scope.spawn(move || producer.send_sync(&to(2, 0), LONG).map(drop)),
                scope.spawn(move || producer.flush(LONG)),
            ];
            eventually("an outcome is awaited", || producer.counters().accepted > scene.accepted);
            arm(network, place);
            // Whatever phase it is: something that leads there.
            eventually(place, || {
                let _ = producer.purge(Some("nothing"), None);
                match producer.try_send(&to(1, scene.accepted)) {
                    Ok(()) => scene.accepted += 1,
                    // A front may be closed between the look at the producer and the one at it.
                    Err(error) if [status::PANIC, status::CLOSED].contains(&error.status) => {
                        return true;
                    }
                    Err(error) => panic!("{place}: {error}"),
                }
                false
            });
            for waiter in waiters {
                if let Err(error) = waiter.join().unwrap() {
                    let told = [status::PANIC, status::CLOSED].contains(&error.status);
                    assert!(told, "{place}: {error}");
                }
            }
        });
        let refused = scene.producer.send(&to(0, 0)).unwrap_err();
        assert_eq!((refused.status, refused.flags & FATAL), (status::PANIC, FATAL), "{place}");
        let _ = scene.producer.flush(LONG);
        let _ = scene.producer.close(LONG);
        // The one that was sent for its outcome was told by its own call.
        scene.accepted += 1;
        lock(&scene.ledger.0).insert(u64::MAX, vec![status::PANIC]);
        scene.assert_all_reported(status::PANIC, place);
    }
}

#[test]
fn a_defect_on_the_callback_thread_loses_no_delivery() {
    let scene = scene(&[]);
    let callback = scene.thread(super::threads::CALLBACK_THREAD);
    for _ in 0..3 {
        arm(callback, "step");
    }
    scene.cluster.set_broker(2, true, false, 0, 0).unwrap();
    scene.cluster.set_leader("t", 4, 1).unwrap();
    scene.producer.purge(None, None).unwrap();
    scene.cluster.disconnect(1).unwrap();
    let _ = scene.producer.flush(Timeout::After(Duration::from_millis(200)));
    scene.producer.close(LONG).1.unwrap();
    scene.assert_all_reported(status::ABORTED, "step");
}
