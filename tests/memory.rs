//! `buffer.memory`: it is the limit, waiting for it is fair and ends, and all of it comes back.
#![cfg(feature = "mock")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::delivery::{Delivery, DeliveryMode, DeliverySink};
use kafka_producer::error::{RETRIABLE, status};
use kafka_producer::producer::{Options, Producer, Timeout};
use produce::{
    Gate, LONG, PATIENCE, assert_settled, cluster, config, eventually, handed_over, let_pass,
    producer, record, timed, to,
};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const TIGHT: &[(&str, &str)] = &[("buffer.memory", "65536"), ("batch.size", "8192")];

#[test]
fn many_threads_share_little_memory() {
    let cluster = cluster(3, 24);
    // What lingers holds the memory that others wait for: it must not linger then.
    let settings = [TIGHT, &[("linger.ms", "60000"), ("delivery.timeout.ms", "100000")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    thread::scope(|scope| {
        for thread in 0..6_u64 {
            let producer = &producer;
            scope.spawn(move || {
                let value = [1; 700];
                for number in 0..500 {
                    let tag = thread << 32 | number;
                    producer.send(&to((tag % 24) as i32, &value, tag)).unwrap();
                    let counters = producer.counters();
                    assert!(counters.buffered_bytes <= counters.buffer_limit_bytes);
                }
            });
        }
    });
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len(), 3000);
    assert_settled(&producer);
}

/// What is in flight to a broker that does not answer frees nothing: what lingers for another one
/// does not wait for that.
#[test]
fn a_frozen_broker_does_not_make_the_others_linger() {
    let (partitions, of_the_frozen) = (100, 0);
    let cluster = cluster(2, partitions);
    for partition in 0..partitions {
        let node = if partition == of_the_frozen { 2 } else { 1 };
        cluster.set_leader("t", partition, node).unwrap();
    }
    let settings = [
        TIGHT,
        &[("linger.ms", "60000"), ("request.timeout.ms", "60000")],
        &[("delivery.timeout.ms", "150000"), ("max.block.ms", "30000")],
    ];
    let (producer, _) = producer(&cluster, &settings.concat());
    producer.send(&to(of_the_frozen, b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(2, true, true, 0, 0).unwrap();
    producer.send(&to(of_the_frozen, b"x", 1)).unwrap();
    assert!(producer.flush(Timeout::After(Duration::from_millis(50))).is_err());
    // Each begins a batch, and they take more than there is.
    let value = [1; 900];
    for partition in 1..partitions {
        // The network thread sleeps by then, and has to learn that somebody waits.
        let_pass(Duration::from_millis(2));
        // Who waits for the end of a linger waits in vain.
        producer.send(&to(partition, &value, 2)).unwrap();
    }
    cluster.set_broker(2, true, false, 0, 0).unwrap();
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
}

#[test]
fn a_broker_that_takes_nothing_ends_in_buffer_full_after_max_block_ms() {
    let cluster = cluster(1, 1);
    let (producer, _) = producer(&cluster, &[TIGHT, &[("max.block.ms", "200")]].concat());
    producer.partitions_for("t", LONG).unwrap();
    producer.send(&record(b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    let value = [1; 1000];
    let (full, took) = loop {
        let (sent, took) = timed(|| producer.send(&record(&value, 1)));
        if let Err(error) = sent {
            break (error, took);
        }
    };
    assert_eq!((full.status, full.flags & RETRIABLE), (status::BUFFER_FULL, RETRIABLE), "{full}");
    assert!(full.message.contains("buffer.memory=65536"), "{full}");
    assert!(took >= Duration::from_millis(199) && took < PATIENCE, "{took:?}");
    let full = producer.try_send(&record(&value, 1)).unwrap_err();
    assert_eq!(full.status, status::BUFFER_FULL, "{full}");
    handed_over(&producer, producer.close(Timeout::After(Duration::ZERO)).1);
    assert_settled(&producer);
}

/// A caller who gets no memory learns who has it, though the record is for somebody else.
#[test]
fn whoever_gets_no_memory_is_told_which_broker_holds_it() {
    let cluster = cluster(2, 2);
    for partition in 0..2 {
        cluster.set_leader("t", partition, partition + 1).unwrap();
    }
    let settings =
        [TIGHT, &[("max.block.ms", "100"), ("linger.ms", "0"), ("request.timeout.ms", "30000")]];
    let (producer, _) = producer(&cluster, &settings.concat());
    let value = [1; 1000];
    // What is said of a broker is learnt a moment after it was asked for, and repeated for a while.
    let fill = |partition, says: &[&str]| {
        let mut full = None;
        eventually("there is no memory, and it is said why", || {
            let refused = producer.try_send(&to(partition, &value, 0)).err();
            full = refused.filter(|error| error.status == status::BUFFER_FULL);
            full.as_ref().is_some_and(|full| says.iter().all(|part| full.message.contains(part)))
        });
        full.unwrap()
    };
    producer.partitions_for("t", LONG).unwrap();
    producer.send(&to(1, &value, 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(2, true, true, 0, 0).unwrap();
    let full = fill(1, &[]);
    let expected = "buffer.memory=65536 is exhausted for topic t partition 1 (";
    assert!(full.message.contains(expected), "{full}");
    assert!(full.message.contains(" of them for node 2"), "{full}");
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    let full = loop {
        if let Err(full) = producer.send(&to(0, &value, 0)) {
            break full;
        }
    };
    assert!(full.message.contains("topic t partition 0"), "{full}");
    assert!(full.message.contains(" of them for node 2 (127.0.0.1:"), "{full}");
    assert!(full.message.contains("which has not answered for "), "{full}");
    assert!(full.message.contains("none was freed within 100 ms"), "{full}");
    fill(0, &["which has not answered for "]);
    // Not alone any more, the frozen one is left less.
    producer.purge(None, None).unwrap();
    for node in 1..=2 {
        cluster.set_broker(node, true, false, 0, 0).unwrap();
    }
    producer.flush(LONG).unwrap();
    producer.send(&to(0, &value, 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(2, true, true, 0, 0).unwrap();
    let full = fill(1, &[]);
    let expected = "has no more, while other brokers are in use, for the leader of topic t";
    assert!(full.message.contains(expected), "{full}");
    producer.send(&to(0, &value, 0)).unwrap();
    cluster.set_broker(2, true, false, 0, 0).unwrap();
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
}

/// Keeps its deliveries until it may go on.
#[derive(Default)]
struct Slow {
    gate: Gate,
}

impl DeliverySink for Slow {
    fn deliver(&self, _: &[Delivery]) {
        self.gate.pass();
    }
}

#[test]
fn failed_records_are_kept_until_their_callback_has_returned() {
    let cluster = cluster(1, 1);
    let slow = Arc::new(Slow::default());
    let options =
        Options { delivery: DeliveryMode::Callback(Arc::clone(&slow) as _), ..Options::default() };
    let producer = Producer::new(&config(&cluster, &[]), options).unwrap();
    cluster.push_errors(produce::PRODUCE, &[29]).unwrap();
    producer.send(&record(&[1; 5000], 1)).unwrap();
    eventually("the callback runs", || slow.gate.is_entered());
    assert!(producer.counters().buffered_bytes >= 5000);
    let pending = producer.flush(Timeout::After(Duration::from_millis(20))).unwrap_err();
    assert_eq!(pending.status, status::TIMED_OUT, "it counts until its callback has returned");
    slow.gate.open();
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
}

#[test]
fn a_record_that_never_fits_is_refused_at_once() {
    let cluster = cluster(1, 1);
    let settings = [("buffer.memory", "65536"), ("max.request.size", "10000")];
    let (producer, _) = producer(&cluster, &settings);
    let (error, took) = timed(|| producer.send(&record(&[1; 20_000], 1)).unwrap_err());
    assert_eq!(error.status, 10, "{error}");
    assert!(error.message.contains("max.request.size = 10000"), "{error}");
    // Not after max.block.ms.
    assert!(took < PATIENCE, "{took:?}");
    producer.send(&record(&[1; 9_000], 2)).unwrap();
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
}
