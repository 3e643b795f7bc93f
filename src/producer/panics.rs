//! A defect on one of our threads, in every phase of its loop: the host lives, no caller waits for
//! ever, and every record has its outcome.

#![cfg(all(feature = "mock", not(loom)))]

use super::{Options, Producer, Timeout};
use crate::clock::Clock;
use crate::config::ProducerConfig;
use crate::delivery::{Delivery, DeliveryMode, DeliverySink};
use crate::error::{FATAL, MAYBE_PERSISTED, status};
use crate::mock::MockCluster;
use crate::record::ProducerRecord;
use crate::sync::trip::arm;
use crate::sync::{Signal, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const LONG: Timeout = Timeout::After(Duration::from_secs(30));

/// Status and flags of each outcome of a record.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<u64, Vec<(i32, u32)>>>);

impl DeliverySink for Ledger {
    fn deliver(&self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            for tag in delivery.tags() {
                let outcome = (delivery.status, delivery.flags);
                lock(&self.0).entry(*tag).or_default().push(outcome);
            }
        }
    }
}

/// A record of its own timestamp, which says in the logs who it is.
fn to(partition: i32, tag: u64) -> ProducerRecord<'static> {
    ProducerRecord {
        topic: "t",
        partition: Some(partition),
        key: None,
        value: Some(b"some value"),
        headers: &[],
        timestamp_ms: Some(tag.cast_signed()),
        timeout_ms: 0,
        tag,
        as_is: false,
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

/// The tag of the record that is sent for its outcome.
const SYNC: u64 = 1 << 40;

/// How many records a [`scene`] has; record n is for partition n % 5.
const SCENE: u64 = 25;

/// What is in flight in a [`scene`] until its end, to the broker that answers late.
const IN_FLIGHT: [u64; 2] = [7, 8];

/// A cluster of a broker that answers late and one that answers at once, and a producer with
/// records acknowledged, in flight, backing off, waiting for their turn and without leader.
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
    cluster.set_broker(2, true, false, 600_000, 0).unwrap();
    let (at_first, at_second) = (cluster.request_count(1, 0), cluster.request_count(2, 0));
    cluster.set_leader("t", 4, -1).unwrap();
    cluster.push_partition_errors("t", 0, &[19; 1000]).unwrap();
    for tag in 5..SCENE {
        producer.send(&to((tag % 5) as i32, tag)).unwrap();
        if tag == 9 {
            // The first of each partition at the late broker are on their way.
            eventually("in flight", || {
                cluster.end_offset("t", 2) + cluster.end_offset("t", 3) == 4
            });
        }
    }
    assert!(cluster.request_count(2, 0) > at_second);
    eventually("a refusal", || cluster.request_count(1, 0) > at_first);
    Scene { cluster, producer, ledger, accepted: SCENE }
}

impl Scene {
    fn thread(&self, name: &str) -> thread::ThreadId {
        let threads = lock(&self.producer.threads);
        threads.iter().find(|t| t.thread().name() == Some(name)).unwrap().thread().id()
    }

    /// Each accepted record has one outcome; what was not acknowledged has this one. Where it says
    /// that a record was not written, that is so; what was in flight may have been.
    fn assert_all_reported(&self, expected: i32, place: &str) {
        let ledger = lock(&self.ledger.0);
        let counters = self.producer.counters();
        assert_eq!(counters.accepted, self.accepted, "{place}");
        assert_eq!((counters.pending, counters.buffered_bytes), (0, 0), "{place}: {counters:?}");
        assert_eq!(ledger.len() as u64, self.accepted, "{place}");
        // What was sent arrives, though nobody is left to hear of it.
        eventually("the connections' end", || self.cluster.connection_count(0) == 0);
        let written = self.written();
        for (tag, outcomes) in ledger.iter() {
            let told = format!("{place}: {tag}: {outcomes:?}");
            let [(status, flags)] = outcomes[..] else { panic!("{told}") };
            assert!([0, expected].contains(&status), "{told}");
            let maybe = flags & MAYBE_PERSISTED != 0;
            assert!(!(status == 0 && maybe), "{told}");
            assert!(maybe || status == 0 || !written.contains(tag), "{told}: it was written");
        }
        for tag in IN_FLIGHT {
            assert_ne!(ledger[&tag][0].1 & MAYBE_PERSISTED, 0, "{place}: {tag}: it was in flight");
        }
    }

    /// The tags of all that is in the logs.
    fn written(&self) -> BTreeSet<u64> {
        let records = (0..5).flat_map(|partition| self.cluster.records("t", partition));
        records.map(|record| record.timestamp_ms.cast_unsigned()).collect()
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
                scope.spawn(move || producer.send_sync(&to(2, SYNC), LONG).map(drop)),
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
        lock(&scene.ledger.0).insert(SYNC, vec![(status::PANIC, MAYBE_PERSISTED)]);
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
    scene.producer.purge(None, None).unwrap();
    // What is in flight is not answered in time, and its callback may take longer than that.
    let _ = scene.producer.close(Timeout::After(Duration::from_millis(200)));
    let _ = scene.producer.close(LONG);
    scene.assert_all_reported(status::ABORTED, "step");
}
