//! Flush and close return by their deadline, whatever the network and the user's code do (scenario
//! S52, invariant I6), and close reports every record that is left and says how many.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::delivery::{Delivery, DeliveryMode, DeliverySink};
use kafka_producer::error::{self, Error, MAYBE_PERSISTED, status};
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Options, Producer, Timeout};
use kafka_producer::record::ProducerRecord;
use produce::{
    Gate, LONG, Outcomes, PRODUCE, assert_settled, cluster, config, eventually, handed_over,
    lateness, polled, producer, record, to,
};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(100);
/// What a call may take beyond its timeout, and beyond what the machine adds.
const SLACK: Duration = Duration::from_millis(50);
/// That differs from one time to the next.
const TRIES: u32 = 12;
const QUICK: &[(&str, &str)] = &produce::quick("20");

/// A producer with records that get no outcome, or none soon.
struct Stuck {
    cluster: Option<MockCluster>,
    producer: Producer,
    outcomes: Arc<Outcomes>,
    /// Records without an outcome.
    pending: u64,
}

impl Stuck {
    /// One broker, two partitions, both written to; the fault; and one record more for each.
    fn after(settings: &[(&str, &str)], fault: impl Fn(&MockCluster)) -> Stuck {
        let cluster = cluster(1, 2);
        let (producer, outcomes) = producer(&cluster, &[QUICK, settings].concat());
        for partition in 0..2 {
            producer.send(&to(partition, b"x", partition as u64)).unwrap();
        }
        producer.flush(LONG).unwrap();
        fault(&cluster);
        for partition in 0..2 {
            producer.send(&to(partition, b"x", 10 + partition as u64)).unwrap();
        }
        Stuck { cluster: Some(cluster), producer, outcomes, pending: 2 }
    }
}

/// Both calls, each in a state of its own, within their timeouts.
fn ends_in_time(make: impl Fn() -> Stuck) {
    quick_enough("flush", || {
        let stuck = make();
        let (error, took, late) = flush(&stuck.producer, TIMEOUT);
        assert!(error.is_retriable() && took + Duration::from_millis(1) >= TIMEOUT, "{took:?}");
        late.max(flush(&stuck.producer, Duration::ZERO).2)
    });
    quick_enough("close", || {
        let stuck = make();
        let (aborted, closed, late) = close(&stuck.producer, TIMEOUT);
        handed_over(&stuck.producer, closed);
        assert_eq!(aborted, stuck.pending);
        assert_settled_but_memory(&stuck.producer);
        let outcomes = stuck.outcomes.get();
        let failed = outcomes.values().filter(|outcome| outcome.status == status::ABORTED);
        assert_eq!(failed.count() as u64, stuck.pending, "each has its own outcome");
        late
    });
    quick_enough("close at once", || {
        let stuck = make();
        let (aborted, closed, late) = close(&stuck.producer, Duration::ZERO);
        handed_over(&stuck.producer, closed);
        assert_eq!(aborted, stuck.pending);
        late
    });
}

/// The error of a flush that times out, how long it took, and how much too late that was.
fn flush(producer: &Producer, timeout: Duration) -> (Error, Duration, Duration) {
    let (flushed, took, late) = lateness(timeout, || producer.flush(Timeout::After(timeout)));
    let error = flushed.unwrap_err();
    assert_eq!(error.status, status::TIMED_OUT, "{error}");
    (error, took, late)
}

/// What a close gives, and how much too late.
fn close(producer: &Producer, timeout: Duration) -> (u64, error::Result<()>, Duration) {
    let ((aborted, closed), _, late) =
        lateness(timeout, || producer.close(Timeout::After(timeout)));
    (aborted, closed, late)
}

fn quick_enough(what: &str, attempt: impl Fn() -> Duration) {
    let late: Vec<Duration> =
        (0..TRIES).map(|_| attempt()).take_while(|late| *late > SLACK).collect();
    assert!(late.len() < TRIES as usize, "{what}: so much too late: {late:?}");
}

/// What a frozen socket still reads is given back when it is closed, a moment later.
fn assert_settled_but_memory(producer: &Producer) {
    let counters = producer.counters();
    assert_eq!((counters.pending, counters.accepted), (0, counters.acknowledged + counters.failed));
    eventually("the memory is back", || producer.counters().buffered_bytes == 0);
    assert_settled(producer);
}

#[test]
fn the_broker_is_down() {
    ends_in_time(|| {
        Stuck::after(&[], |cluster| cluster.set_broker(1, false, false, 0, 0).unwrap())
    });
}

#[test]
fn the_broker_is_frozen() {
    ends_in_time(|| Stuck::after(&[], |cluster| cluster.set_broker(1, true, true, 0, 0).unwrap()));
}

#[test]
fn the_broker_is_slow() {
    ends_in_time(|| {
        Stuck::after(&[], |cluster| cluster.set_broker(1, true, false, 300_000, 0).unwrap())
    });
}

#[test]
fn the_broker_throttles() {
    ends_in_time(|| {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = producer(&cluster, QUICK);
        cluster.set_broker(1, true, false, 0, 300_000).unwrap();
        producer.send(&record(b"x", 0)).unwrap();
        outcomes.wait_for(1);
        producer.send(&record(b"x", 1)).unwrap();
        Stuck { cluster: Some(cluster), producer, outcomes, pending: 1 }
    });
}

#[test]
fn there_is_no_leader() {
    ends_in_time(|| {
        Stuck::after(&[], |cluster| {
            cluster.set_leader("t", 0, -1).unwrap();
            cluster.set_leader("t", 1, -1).unwrap();
        })
    });
}

#[test]
fn the_topic_is_deleted() {
    ends_in_time(|| {
        Stuck::after(&[], |cluster| {
            cluster.set_auto_create(false, 1);
            cluster.delete_topic("t").unwrap();
        })
    });
}

#[test]
fn every_attempt_is_refused() {
    ends_in_time(|| {
        Stuck::after(&[], |cluster| cluster.push_errors(PRODUCE, &[19; 2000]).unwrap())
    });
}

#[test]
fn every_attempt_backs_off_for_long() {
    let backoff = [("retry.backoff.ms", "60000"), ("retry.backoff.max.ms", "60000")];
    ends_in_time(|| {
        Stuck::after(&backoff, |cluster| cluster.push_errors(PRODUCE, &[19; 2000]).unwrap())
    });
}

#[test]
fn connections_are_cut_again_and_again() {
    ends_in_time(|| {
        Stuck::after(&[], |cluster| cluster.push_errors(PRODUCE, &[13; 2000]).unwrap())
    });
}

/// As a listener that accepts and says nothing: the set-up of the connection goes on.
#[test]
fn the_connection_is_being_set_up() {
    ends_in_time(|| {
        Stuck::after(&[], |cluster| {
            cluster.set_broker(1, true, true, 0, 0).unwrap();
            cluster.disconnect(1).unwrap();
            eventually("it is cut", || cluster.connection_count(1) == 0);
        })
    });
}

#[test]
fn the_leaders_name_does_not_resolve() {
    ends_in_time(|| {
        let cluster = cluster(1, 1);
        cluster.set_advertised(1, "nowhere.invalid", 9092).unwrap();
        let (producer, outcomes) = producer(&cluster, QUICK);
        producer.send(&record(b"x", 0)).unwrap();
        Stuck { cluster: Some(cluster), producer, outcomes, pending: 1 }
    });
}

#[test]
fn a_thousand_partitions_wait() {
    ends_in_time(|| {
        let cluster = cluster(1, 1000);
        let (producer, outcomes) = producer(&cluster, QUICK);
        producer.send(&to(0, b"x", 0)).unwrap();
        producer.flush(LONG).unwrap();
        cluster.set_broker(1, true, true, 0, 0).unwrap();
        for tag in 1..=1000 {
            producer.send(&to((tag % 1000) as i32, b"x", tag)).unwrap();
        }
        Stuck { cluster: Some(cluster), producer, outcomes, pending: 1000 }
    });
}

/// Nothing was ever accepted, and nothing is in the way of an end.
#[test]
fn no_broker_was_ever_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    quick_enough("flush and close", || {
        let mut config = kafka_producer::config::ProducerConfig::new();
        config.set("bootstrap.servers", &nobody).unwrap();
        let producer = Producer::new(&config, Options::default()).unwrap();
        let pending = producer.try_send(&record(b"x", 0)).unwrap_err();
        assert_eq!(pending.status, status::METADATA_PENDING);
        let (flushed, _, flush) = lateness(Duration::ZERO, || producer.flush(LONG));
        flushed.unwrap();
        let ((aborted, closed), _, close) = lateness(Duration::ZERO, || producer.close(LONG));
        closed.unwrap();
        assert_eq!(aborted, 0);
        flush.max(close)
    });
}

#[test]
fn a_sender_waits_for_memory() {
    quick_enough("close", || {
        let settings = [("buffer.memory", "4096"), ("max.block.ms", "60000")];
        let cluster = cluster(1, 1);
        let (producer, outcomes) = producer(&cluster, &[QUICK, &settings].concat());
        producer.send(&record(b"x", 0)).unwrap();
        producer.flush(LONG).unwrap();
        cluster.set_broker(1, true, true, 0, 0).unwrap();
        let sent = AtomicU64::new(0);
        let late = std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                for tag in 1.. {
                    match producer.send(&record(&[1; 1000], tag)) {
                        Ok(()) => sent.fetch_add(1, Ordering::AcqRel),
                        Err(error) => return error.status,
                    };
                }
                unreachable!()
            });
            eventually("memory is used up", || sent.load(Ordering::Acquire) >= 2);
            let (aborted, closed, late) = close(&producer, TIMEOUT);
            handed_over(&producer, closed);
            assert_eq!(waits.join().unwrap(), status::CLOSED);
            assert_eq!(aborted, sent.load(Ordering::Acquire));
            late
        });
        drop(outcomes);
        late
    });
}

/// In poll mode an outcome counts when it waits for the poll: nobody who polls is needed.
#[test]
fn nobody_polls() {
    quick_enough("flush and close", || {
        let cluster = cluster(1, 1);
        let producer = polled(&cluster, QUICK);
        for tag in 0..100 {
            producer.send(&record(b"x", tag)).unwrap();
        }
        producer.flush(LONG).unwrap();
        cluster.set_broker(1, true, true, 0, 0).unwrap();
        producer.send(&record(b"x", 100)).unwrap();
        let (.., flush_late) = flush(&producer, TIMEOUT);
        let (aborted, closed, close_late) = close(&producer, TIMEOUT);
        closed.unwrap();
        assert_eq!(aborted, 1);
        let mut deliveries = Vec::new();
        while producer.poll(1000, Timeout::After(Duration::ZERO), &mut deliveries).is_ok() {}
        let records: usize = deliveries.iter().map(Delivery::count).sum();
        assert_eq!(records, 101, "drained after close");
        assert_eq!(deliveries.last().unwrap().status, status::ABORTED);
        flush_late.max(close_late)
    });
}

/// Others send all the time: flush waits for its own cut and close for what was accepted.
#[test]
fn others_go_on_sending() {
    let cluster = cluster(1, 2);
    let (producer, outcomes) =
        producer(&cluster, &[("linger.ms", "3"), ("buffer.memory", "200000")]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for partition in 0..2 {
            let (producer, stop) = (&producer, &stop);
            scope.spawn(move || {
                for number in 0.. {
                    let tag = (partition as u64) << 32 | number;
                    if stop.load(Ordering::Acquire)
                        || producer.send(&to(partition, b"some bytes", tag)).is_err()
                    {
                        return;
                    }
                }
            });
        }
        eventually("they send", || producer.counters().acknowledged > 1000);
        for _ in 0..20 {
            // One that waits for later records does not end while they come.
            producer.flush(LONG).unwrap();
        }
        stop.store(true, Ordering::Release);
    });
    producer.close(LONG).1.unwrap();
    assert_eq!(outcomes.get().len() as u64, producer.counters().accepted);
    assert_settled(&producer);
}

/// Stays in its first call until it is let go.
#[derive(Default)]
struct Blocks {
    gate: Gate,
    records: AtomicU64,
}

impl DeliverySink for Blocks {
    fn deliver(&self, deliveries: &[Delivery]) {
        self.gate.pass();
        let records: usize = deliveries.iter().map(Delivery::count).sum();
        self.records.fetch_add(records as u64, Ordering::AcqRel);
    }
}

#[test]
fn a_callback_still_runs() {
    quick_enough("flush and close", || {
        let cluster = cluster(1, 1);
        let blocks = Arc::new(Blocks::default());
        let delivery = DeliveryMode::Callback(Arc::clone(&blocks) as _);
        let config = config(&cluster, QUICK);
        let producer = Producer::new(&config, Options { delivery, ..Options::default() }).unwrap();
        producer.send(&record(b"x", 0)).unwrap();
        eventually("it runs", || blocks.gate.is_entered());
        producer.send(&record(b"x", 1)).unwrap();
        let (.., mut late) = flush(&producer, TIMEOUT);
        for _ in 0..3 {
            let (_, closed, close_late) = close(&producer, TIMEOUT);
            let error = closed.unwrap_err();
            assert_eq!(error.status, status::TIMED_OUT, "{error}");
            assert!(error.message.contains("a callback of yours still runs"), "{error}");
            late = late.max(close_late);
            let refused = producer.send(&record(b"x", 2)).unwrap_err();
            assert_eq!(refused.status, status::CLOSED);
        }
        // The barrier: gone when the callback has returned, and not before.
        let freed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (freed, blocks) = (&freed, &blocks);
            let frees = scope.spawn(move || {
                drop(producer);
                freed.store(true, Ordering::Release);
                assert_eq!(blocks.records.load(Ordering::Acquire), 2, "all were reported");
            });
            produce::let_pass(Duration::from_millis(20));
            assert!(!freed.load(Ordering::Acquire));
            blocks.gate.open();
            frees.join().unwrap();
        });
        late
    });
}

/// What close fails says whether it may be written.
#[test]
fn close_tells_the_written_from_the_queued() {
    let stuck = Stuck::after(&[], |cluster| {
        cluster.set_broker(1, true, false, 300_000, 0).unwrap();
    });
    let other = ProducerRecord { topic: "t", ..to(0, b"behind", 20) };
    let cluster = stuck.cluster.as_ref().unwrap();
    eventually("they are written", || (0..2).all(|it| cluster.end_offset("t", it) == 2));
    stuck.producer.flush(Timeout::After(TIMEOUT)).unwrap_err();
    stuck.producer.send(&other).unwrap();
    let (aborted, closed) = stuck.producer.close(Timeout::After(TIMEOUT));
    handed_over(&stuck.producer, closed);
    assert_eq!(aborted, 3);
    let maybe = |tag| stuck.outcomes.of(tag).flags & MAYBE_PERSISTED != 0;
    assert!(maybe(10) && maybe(11), "in flight");
}
