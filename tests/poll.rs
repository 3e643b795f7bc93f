//! Poll mode: the descriptor, what a poll gives and when, and what `send` says when only a poll can
//! free memory.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::config::ProducerConfig;
use kafka_producer::delivery::DeliveryMode;
use kafka_producer::error::{RETRIABLE, status};
use kafka_producer::log::{Level, LogSink};
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Options, Producer, Timeout};
use produce::{
    Deaf, LONG, Outcomes, PATIENCE, assert_settled, cluster, eventually, let_pass, polled, record,
    timed, to,
};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const NOW: Timeout = Timeout::After(Duration::ZERO);

/// Whether the descriptor is readable within a time.
fn readable(producer: &Producer, within: Duration) -> bool {
    let fd = producer.poll_fd().unwrap();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let timeout = i32::try_from(within.as_millis()).unwrap();
    readable_within(&mut poll, timeout)
}

#[expect(unsafe_code, reason = "poll(2), as an event loop calls it")]
fn readable_within(poll: &mut libc::pollfd, timeout: i32) -> bool {
    // SAFETY: one element, alive for the call.
    unsafe { libc::poll(poll, 1, timeout) == 1 }
}

#[test]
fn the_descriptor_is_readable_exactly_while_something_waits() {
    let cluster = cluster(1, 1);
    let producer = polled(&cluster, &[("linger.ms", "0")]);
    assert!(!readable(&producer, Duration::ZERO), "nothing yet");
    for tag in 0..3 {
        producer.send(&record(b"x", tag)).unwrap();
        producer.flush(LONG).unwrap();
    }
    assert!(readable(&producer, Duration::ZERO), "flush returns when they wait for the poll");
    let mut out = Vec::new();
    producer.poll(1, NOW, &mut out).unwrap();
    assert_eq!(out.len(), 1);
    assert!(readable(&producer, Duration::ZERO), "two are left");
    producer.poll(10, NOW, &mut out).unwrap();
    assert_eq!(
        out.iter().flat_map(|delivery| delivery.tags()).copied().collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(!readable(&producer, Duration::ZERO), "all are polled");
    let waits = Duration::from_millis(50);
    let (_, took) = timed(|| producer.poll(10, Timeout::After(waits), &mut out).unwrap());
    assert!(took >= waits && took < PATIENCE, "{took:?}");
}

#[test]
fn a_poll_that_waits_is_woken_by_the_first_delivery() {
    let cluster = cluster(1, 1);
    let producer = polled(&cluster, &[("linger.ms", "20")]);
    producer.send(&record(b"x", 1)).unwrap();
    let mut out = Vec::new();
    producer.poll(10, LONG, &mut out).unwrap();
    assert_eq!(out.len(), 1, "it was not woken");
}

#[test]
fn after_close_the_rest_is_polled_and_then_closed_is_said() {
    let cluster = cluster(1, 1);
    let producer = polled(&cluster, &[]);
    let outcomes = Outcomes::default();
    for tag in 0..10 {
        producer.send(&record(b"x", tag)).unwrap();
        producer.flush(LONG).unwrap();
    }
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    producer.send(&record(b"x", 10)).unwrap();
    let (aborted, closed) = producer.close(NOW);
    closed.unwrap();
    assert_eq!(aborted, 1);
    let mut polls = 0;
    loop {
        assert!(readable(&producer, Duration::ZERO), "until CLOSED was said, and after");
        let mut out = Vec::new();
        match producer.poll(3, LONG, &mut out) {
            Ok(()) => assert!(!out.is_empty() && out.len() <= 3),
            Err(error) => {
                assert_eq!((error.status, out.len()), (status::CLOSED, 0));
                break;
            }
        }
        outcomes.take(&out);
        polls += 1;
    }
    assert_eq!((outcomes.get().len(), polls), (11, 4));
    assert_eq!(outcomes.of(10).status, status::ABORTED);
    assert_settled(&producer);
}

/// What is logged, by whoever polls.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl LogSink for Lines {
    fn log(&self, _: Level, _: &'static str, message: String) {
        self.0.lock().unwrap().push(message);
    }
}

/// An event loop hears what is wrong although nothing is delivered.
#[test]
fn a_log_line_is_something_to_poll_for() {
    let nobody = Deaf::new();
    let lines = Arc::new(Lines::default());
    let mut config = ProducerConfig::new();
    config.set("bootstrap.servers", &nobody.address()).unwrap();
    let options = Options {
        delivery: DeliveryMode::Poll,
        log: Some((Level::Warning, Arc::clone(&lines) as _)),
        ..Options::default()
    };
    let producer = Producer::new(&config, options).unwrap();
    while !lines.0.lock().unwrap().iter().any(|line| line.contains("refused")) {
        assert!(readable(&producer, PATIENCE), "nobody tells");
        let mut out = Vec::new();
        producer.poll(1, NOW, &mut out).unwrap();
        assert!(out.is_empty());
    }
}

#[test]
fn close_ends_a_poll_that_waits() {
    let cluster = cluster(1, 1);
    let producer = polled(&cluster, &[]);
    thread::scope(|scope| {
        let poller =
            scope.spawn(|| producer.poll(1, Timeout::Default, &mut Vec::new()).unwrap_err());
        producer.close(LONG).1.unwrap();
        assert_eq!(poller.join().unwrap().status, status::CLOSED);
    });
}

#[test]
fn a_refused_try_send_is_told_when_it_may_try_again() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1).unwrap();
    let mut refused = 0;
    for _ in 0..50 {
        let producer = polled(&cluster, &[]);
        // Nobody else makes the descriptor readable: nothing was accepted yet.
        while let Err(error) = producer.try_send(&record(b"x", 1)) {
            assert_eq!(error.status, status::METADATA_PENDING, "{error}");
            assert_ne!(error.flags & RETRIABLE, 0);
            refused += 1;
            assert!(readable(&producer, PATIENCE), "nobody tells");
            let mut out = Vec::new();
            producer.poll(1, NOW, &mut out).unwrap();
            assert!(out.is_empty());
        }
    }
    assert!(refused >= 1, "all answers came within the very call that asked");
}

#[test]
fn a_send_that_only_a_poll_could_help_says_so_at_once() {
    let cluster = cluster(1, 1);
    let settings = [
        ("buffer.memory", "65536"),
        ("batch.size", "8192"),
        ("linger.ms", "0"),
        ("delivery.keep.records", "true"),
        ("max.block.ms", "100000"),
    ];
    let producer = polled(&cluster, &settings);
    let outcomes = Outcomes::default();
    let value = [1; 1000];
    let mut tag = 0;
    for _ in 0..5 {
        // The records of what was delivered are kept until it is polled: some send waits, and no
        // other thread is there to poll.
        let (error, took) = timed(|| {
            loop {
                match producer.send(&record(&value, tag)) {
                    Ok(()) => tag += 1,
                    Err(error) => break error,
                }
            }
        });
        assert_eq!(error.status, status::BUFFER_FULL, "{error}");
        // Not after max.block.ms.
        assert!(took < PATIENCE, "{took:?}: {error}");
        assert!(error.message.contains("deliveries wait for producer_poll()"), "{error}");
        let mut out = Vec::new();
        producer.poll(1000, NOW, &mut out).unwrap();
        assert!(!out.is_empty() && out.iter().all(|delivery| delivery.records().is_some()));
        outcomes.take(&out);
    }
    producer.flush(LONG).unwrap();
    let mut out = Vec::new();
    producer.poll(1000, NOW, &mut out).unwrap();
    outcomes.take(&out);
    drop(out);
    assert_eq!(outcomes.get().len() as u64, tag);
    assert_settled(&producer);
}

#[test]
fn polling_elsewhere_lets_a_send_go_on() {
    let cluster = cluster(1, 1);
    let settings =
        [("buffer.memory", "65536"), ("batch.size", "8192"), ("delivery.keep.records", "true")];
    let producer = polled(&cluster, &settings);
    let outcomes = Outcomes::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while outcomes.get().len() < 2000 {
                let mut out = Vec::new();
                producer.poll(16, LONG, &mut out).unwrap();
                outcomes.take(&out);
            }
        });
        let value = [1; 1000];
        for tag in 0..2000 {
            // It may find everything delivered and not polled yet: the other thread is at it.
            while let Err(error) = producer.send(&record(&value, tag)) {
                assert_eq!(error.status, status::BUFFER_FULL, "{error}");
                let_pass(Duration::from_millis(1));
            }
        }
        producer.flush(LONG).unwrap();
    });
    eventually("every byte comes back", || producer.counters().buffered_bytes == 0);
    assert_settled(&producer);
}

#[test]
fn reports_that_nobody_polls_are_not_without_a_bound() {
    let cluster = cluster(1, 1);
    let limit = 65_536;
    let settings = [("linger.ms", "0"), ("buffer.memory", "65536"), ("batch.size", "1024")];
    let producer = polled(&cluster, &settings);
    let mut sent = 0;
    // Batches of one record, whose memory is free once they are acknowledged.
    let full = loop {
        match producer.send(&record(b"x", sent)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        producer.flush(LONG).unwrap();
        assert!(sent < limit / 64, "{sent} reports wait and cost nothing");
    };
    assert_eq!((full.status, full.flags & RETRIABLE), (status::BUFFER_FULL, RETRIABLE), "{full}");
    assert!(full.message.contains("deliveries wait for producer_poll()"), "{full}");
    assert!(sent > limit / 1024, "{sent}");
    let mut out = Vec::new();
    producer.poll(1000, NOW, &mut out).unwrap();
    assert_eq!(out.iter().map(|delivery| delivery.count() as u64).sum::<u64>(), sent);
    drop(out);
    assert_settled(&producer);
    producer.send(&record(b"x", sent)).unwrap();
}

/// Another broker might answer yet, and what it holds come back: the call waits. In the end it says
/// what is left to do.
#[test]
fn who_waits_in_vain_beside_a_frozen_broker_learns_of_unpolled_deliveries() {
    let cluster = cluster(2, 2);
    for partition in 0..2 {
        cluster.set_leader("t", partition, partition + 1).unwrap();
    }
    let settings = [
        ("linger.ms", "0"),
        ("buffer.memory", "65536"),
        ("batch.size", "1024"),
        ("max.block.ms", "100"),
        ("request.timeout.ms", "30000"),
    ];
    let producer = polled(&cluster, &settings);
    producer.partitions_for("t", LONG).unwrap();
    producer.send(&to(1, b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(2, true, true, 0, 0).unwrap();
    producer.send(&to(1, b"x", 1)).unwrap();
    eventually("it says so", || match producer.send(&to(0, &[1; 900], 2)) {
        Ok(()) => false,
        Err(full) => {
            let told = (full.status, full.flags & RETRIABLE);
            assert_eq!(told, (status::BUFFER_FULL, RETRIABLE), "{full}");
            assert!(full.message.contains("none was freed within 100 ms"), "{full}");
            full.message.contains("deliveries wait for producer_poll()")
        }
    });
    cluster.set_broker(2, true, false, 0, 0).unwrap();
    producer.flush(LONG).unwrap();
    let mut out = Vec::new();
    producer.poll(usize::MAX, NOW, &mut out).unwrap();
    drop(out);
    assert_settled(&producer);
}
