//! Flush, purge and close: whom they wait for, what they fail, and that they end.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::clock::Clock;
use kafka_producer::delivery::{Delivery, DeliveryMode, DeliverySink};
use kafka_producer::error::{MAYBE_PERSISTED, status};
use kafka_producer::producer::{Options, Producer, Timeout};
use kafka_producer::sync::Signal;
use produce::{
    Gate, LONG, PATIENCE, PRODUCE, assert_settled, cluster, config, eventually, given_time,
    handed_over, producer, record, so, timed, to,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

/// What lingers does so for longer than anybody here waits.
const LINGERING: &[(&str, &str)] = &[("linger.ms", "60000"), ("delivery.timeout.ms", "100000")];

#[test]
fn flush_ends_lingering_for_what_came_before_it_only() {
    let cluster = cluster(2, 4);
    let (producer, outcomes) = producer(&cluster, LINGERING);
    for tag in 0..100 {
        producer.send(&to((tag % 4) as i32, b"x", tag)).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len(), 100, "their callbacks have returned");
    for node in 1..=2 {
        cluster.set_broker(node, true, true, 0, 0).unwrap();
    }
    producer.send(&record(b"x", 100)).unwrap();
    let pending = producer.flush(Timeout::After(Duration::ZERO)).unwrap_err();
    assert_eq!(pending.status, status::TIMED_OUT);
    for node in 1..=2 {
        cluster.set_broker(node, true, false, 0, 0).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
}

/// Each round opens batches in the very moment in which a flush ends their cut.
#[test]
fn flush_never_waits_for_a_linger_while_others_send() {
    const SENDERS: i32 = 3;
    const ROUNDS: u64 = 1500;
    let cluster = cluster(1, SENDERS);
    let (producer, _) = producer(&cluster, LINGERING);
    producer.send(&record(b"x", u64::MAX)).unwrap();
    producer.flush(LONG).unwrap();
    let start = Barrier::new(SENDERS as usize + 1);
    thread::scope(|scope| {
        for partition in 0..SENDERS {
            let (producer, start) = (&producer, &start);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    start.wait();
                    let tag = (partition as u64) << 32 | round;
                    producer.send(&to(partition, b"x", tag)).unwrap();
                }
            });
        }
        let mut late = Vec::new();
        for round in 0..ROUNDS {
            start.wait();
            // Told later: the senders wait for this thread.
            late.extend(producer.flush(LONG).is_err().then_some(round));
        }
        assert_eq!(late, [0; 0], "rounds whose flush waited for a linger");
    });
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
}

#[test]
fn close_from_many_threads_during_send_accounts_for_every_record() {
    let cluster = cluster(2, 4);
    let (producer, outcomes) = producer(&cluster, &[("linger.ms", "1")]);
    let sent = AtomicU64::new(0);
    let closed = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..3_u64 {
            let (producer, sent) = (&producer, &sent);
            scope.spawn(move || {
                for number in 0.. {
                    let tag = thread << 32 | number;
                    match producer.send(&to((tag % 4) as i32, &tag.to_be_bytes(), tag)) {
                        Ok(()) => sent.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            assert_eq!(error.status, status::CLOSED, "{error}");
                            return;
                        }
                    };
                }
            });
        }
        eventually("records on their way", || sent.load(Ordering::Relaxed) > 5000);
        for timeout in [LONG, LONG, Timeout::After(Duration::from_millis(5))] {
            let (producer, closed) = (&producer, &closed);
            scope.spawn(move || {
                let (_, result) = producer.close(timeout);
                match result {
                    Ok(()) => closed.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        // The short one may end while the callback still takes what is reported.
                        let expected = [status::CLOSED, status::TIMED_OUT];
                        assert!(expected.contains(&error.status), "{error}");
                        0
                    }
                };
            });
        }
    });
    assert!(closed.load(Ordering::Relaxed) >= 1);
    assert_eq!(outcomes.get().len() as u64, sent.load(Ordering::Relaxed));
    let aborted = outcomes.get().values().filter(|o| o.status == status::ABORTED).count() as u64;
    let (counted, again) = producer.close(LONG);
    assert_eq!(again.unwrap_err().status, status::CLOSED);
    assert_eq!(counted, aborted);
    assert_settled(&producer);
}

#[test]
fn close_reaches_those_who_wait_for_memory_and_for_metadata() {
    let cluster = cluster(1, 1);
    let settings = [("buffer.memory", "4096"), ("max.block.ms", "100000"), ("linger.ms", "0")];
    let (producer, _) = producer(&cluster, &settings);
    producer.send(&record(b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for topic in ["t", "never-heard-of"] {
            let (producer, begun, ended) = (&producer, &begun, &ended);
            scope.spawn(move || {
                let value = [1; 1000];
                let mut tag = 1;
                let error = loop {
                    begun.fetch_add(1, Ordering::Relaxed);
                    let record =
                        kafka_producer::record::ProducerRecord { topic, ..record(&value, tag) };
                    match producer.send(&record) {
                        Ok(()) => tag += 1,
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.status, status::CLOSED, "{topic}: {error}");
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        // Three fit, the fourth waits; the other topic's first one does.
        eventually("both wait", || begun.load(Ordering::Relaxed) >= 4);
        let (_, took) = timed(|| producer.close(Timeout::After(Duration::from_millis(50))));
        assert!(took < PATIENCE, "{took:?}");
        eventually("both are told", || ended.load(Ordering::Relaxed) == 2);
    });
    assert_settled(&producer);
}

#[test]
fn close_counts_what_it_aborts_and_says_what_may_be_written() {
    let cluster = cluster(1, 2);
    let (producer, outcomes) = producer(&cluster, LINGERING);
    producer.send(&to(0, b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, false, 300_000, 0).unwrap();
    producer.send(&to(0, b"in flight", 1)).unwrap();
    let _ = producer.flush(Timeout::After(Duration::ZERO));
    eventually("it is in flight", || cluster.end_offset("t", 0) == 2);
    producer.send(&to(1, b"lingers", 2)).unwrap();
    let ((aborted, closed), took) = timed(|| producer.close(Timeout::After(Duration::ZERO)));
    handed_over(&producer, closed);
    assert!(took < PATIENCE, "{took:?}");
    assert_eq!(aborted, 2);
    let (in_flight, queued) = (outcomes.of(1), outcomes.of(2));
    assert_eq!((in_flight.status, queued.status), (status::ABORTED, status::ABORTED));
    assert_ne!(in_flight.flags & MAYBE_PERSISTED, 0, "{in_flight:?}");
    assert_eq!(queued.flags & MAYBE_PERSISTED, 0, "{queued:?}");
    assert_settled(&producer);
}

#[test]
fn purge_races_with_sending_and_nothing_is_reported_twice() {
    let cluster = cluster(1, 4);
    let settings = [("linger.ms", "2"), ("batch.size", "1000")];
    let (producer, outcomes) = producer(&cluster, &settings);
    thread::scope(|scope| {
        for thread in 0..2_u64 {
            let producer = &producer;
            scope.spawn(move || {
                for number in 0..20_000 {
                    let tag = thread << 32 | number;
                    producer.send(&to((tag % 4) as i32, &tag.to_be_bytes(), tag)).unwrap();
                }
            });
        }
        for round in 0..200 {
            match round % 3 {
                0 => producer.purge(None, None).unwrap(),
                1 => producer.purge(Some("t"), Some(round % 4)).unwrap(),
                _ => producer.purge(Some("t"), None).unwrap(),
            }
        }
    });
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
    let outcomes = outcomes.get();
    assert_eq!(outcomes.len(), 40_000);
    for outcome in outcomes.values().filter(|outcome| outcome.status != 0) {
        assert_eq!(outcome.status, status::ABORTED);
        assert_eq!(outcome.flags & MAYBE_PERSISTED, 0, "{outcome:?}");
    }
    let written: i64 = (0..4).map(|partition| cluster.end_offset("t", partition)).sum();
    assert_eq!(written as usize, outcomes.values().filter(|outcome| outcome.status == 0).count());
}

/// Calls back into the producer, and drops it.
#[derive(Default)]
struct Owner {
    /// Closed until it owns the producer.
    gate: Gate,
    producer: Mutex<Option<Producer>>,
    refused: Mutex<Vec<i32>>,
    gone: AtomicBool,
    signal: Signal,
}

impl DeliverySink for Owner {
    fn deliver(&self, _: &[Delivery]) {
        self.gate.pass();
        let Some(producer) = self.producer.lock().unwrap().take() else { return };
        let refused = [
            producer.flush(LONG).unwrap_err().status,
            producer.close(LONG).1.unwrap_err().status,
            producer.send_sync(&record(b"x", 9), LONG).unwrap_err().status,
        ];
        self.refused.lock().unwrap().extend(refused);
        drop(producer);
        self.gone.store(true, Ordering::Release);
        self.signal.notify();
    }
}

#[test]
fn a_producer_may_be_dropped_inside_its_callback() {
    let cluster = cluster(1, 1);
    let owner = Arc::new(Owner::default());
    let delivery = DeliveryMode::Callback(Arc::clone(&owner) as _);
    let producer =
        Producer::new(&config(&cluster, &[]), Options { delivery, ..Options::default() }).unwrap();
    producer.send(&record(b"x", 1)).unwrap();
    *owner.producer.lock().unwrap() = Some(producer);
    owner.gate.open();
    let clock = Clock::system();
    let deadline = clock.now().after(PATIENCE);
    while !owner.gone.load(Ordering::Acquire) {
        let seen = owner.signal.generation();
        let moved = owner.gone.load(Ordering::Acquire) || owner.signal.wait(seen, &clock, deadline);
        assert!(moved, "the drop waits for itself");
    }
    assert_eq!(*owner.refused.lock().unwrap(), [status::WOULD_DEADLOCK; 3]);
    eventually("its connections are closed", || cluster.connection_count(0) == 0);
}

#[test]
fn send_sync_ends_with_its_own_timeout_and_with_close() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, &[("linger.ms", "1000")]);
    producer.send_sync(&record(b"x", 0), LONG).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    given_time(200, |ms| {
        let timeout = Duration::from_millis(ms.into());
        let (late, took) = timed(|| producer.send_sync(&record(b"x", 1), Timeout::After(timeout)));
        let late = late.unwrap_err();
        assert_eq!(late.status, status::DELIVERY_TIMED_OUT, "{late}");
        assert!(took + Duration::from_millis(1) >= timeout && took < PATIENCE, "{took:?}");
        so(late.flags & MAYBE_PERSISTED != 0, format_args!("it is in flight: {late}"))
    });
    let accepted = producer.counters().accepted;
    thread::scope(|scope| {
        scope.spawn(|| {
            let aborted = producer.send_sync(&record(b"x", 2), LONG).unwrap_err();
            assert_eq!(aborted.status, status::ABORTED, "{aborted}");
        });
        eventually("it is accepted", || producer.counters().accepted > accepted);
        handed_over(&producer, producer.close(Timeout::After(Duration::ZERO)).1);
    });
    assert!(outcomes.get().is_empty(), "deliveries don't see it");
    assert_settled(&producer);
    assert!(cluster.request_count(0, PRODUCE) >= 1);
}
