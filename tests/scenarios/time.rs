//! Time, flush, purge, close and callbacks, as far as sockets are needed to show them; more is in
//! tests/flush_close.rs.

use crate::produce::{
    LONG, METADATA, Outcomes, PATIENCE, PRODUCE, assert_settled, cluster, config, eventually,
    given_time, handed_over, polled, producer, record, so, timed, to,
};
use crate::{Gated, QUICK, Until, of};
use kafka_producer::delivery::{Delivery, DeliveryMode};
use kafka_producer::error::status;
use kafka_producer::producer::{Options, Producer, Timeout};
use kafka_producer::record::ProducerRecord;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const NOW: Timeout = Timeout::After(Duration::ZERO);

/// The largest and the smallest values that the keys take, and calls with them.
#[test]
fn s50_times_at_their_borders() {
    const MAX: &str = "2147483647";
    let tables: [&[(&str, &str)]; 6] = [
        &[("linger.ms", "0"), ("delivery.timeout.ms", MAX), ("request.timeout.ms", MAX)],
        // 30 s less, for a request.
        &[("linger.ms", "2147453647"), ("delivery.timeout.ms", MAX)],
        // In microseconds a little more than 32 bits.
        &[
            ("linger.ms", "0"),
            ("delivery.timeout.ms", "4294968"),
            ("request.timeout.ms", "4294968"),
        ],
        // More than 36 hours.
        &[("linger.ms", "1"), ("delivery.timeout.ms", "200000000"), ("max.block.ms", "200000000")],
        &[
            ("retry.backoff.ms", "0"),
            ("retry.backoff.max.ms", "0"),
            ("reconnect.backoff.ms", "0"),
            ("reconnect.backoff.max.ms", "0"),
        ],
        &[
            ("retry.backoff.max.ms", MAX),
            ("reconnect.backoff.max.ms", MAX),
            ("metadata.max.age.ms", MAX),
            ("connections.max.idle.ms", MAX),
            ("socket.connection.setup.timeout.ms", MAX),
            ("socket.connection.setup.timeout.max.ms", MAX),
        ],
    ];
    for settings in tables {
        let cluster = cluster(1, 1);
        let mut config = config(&cluster, &[]);
        for (key, value) in settings {
            if config.set(key, value).is_err() {
                // A range that ends before: its own largest value is as good.
                continue;
            }
        }
        let outcomes = Arc::new(Outcomes::default());
        let delivery = DeliveryMode::Callback(Arc::clone(&outcomes) as _);
        let producer = Producer::new(&config, Options { delivery, ..Options::default() }).unwrap();
        producer.send(&record(b"x", 0)).unwrap();
        let (flushed, took) = timed(|| producer.flush(Timeout::After(Duration::MAX)));
        flushed.unwrap();
        assert!(took < PATIENCE, "{settings:?}: {took:?}");
        assert_eq!(outcomes.of(0).status, 0);
        producer.send_sync(&record(b"x", 0), Timeout::After(Duration::MAX)).unwrap();
        if let Err(late) = producer.send_sync(&record(b"x", 0), NOW) {
            let expected = [status::TIMED_OUT, status::DELIVERY_TIMED_OUT];
            assert!(expected.contains(&late.status), "{late}");
        }
        producer.flush(Timeout::After(Duration::from_secs(1 << 33))).unwrap();
        producer.flush(NOW).unwrap();
        producer.close(Timeout::After(Duration::MAX)).1.unwrap();
        assert_settled(&producer);
    }
}

/// A request that may take no time at all is answered in time by luck only: what comes of a record
/// is no more than that, but each call ends when it has to, and each record has an outcome.
#[test]
fn s50_a_request_that_may_take_no_time() {
    let cluster = cluster(1, 1);
    let settings = [
        ("request.timeout.ms", "0"),
        ("linger.ms", "0"),
        ("delivery.timeout.ms", "500"),
        ("max.block.ms", "500"),
    ];
    let (producer, outcomes) = producer(&cluster, &settings);
    let mut accepted = 0;
    for tag in 0..5 {
        match producer.send(&record(b"x", tag)) {
            Ok(()) => accepted += 1,
            Err(late) => assert_eq!(late.status, status::TIMED_OUT, "{late}"),
        }
    }
    let (flushed, took) = timed(|| producer.flush(LONG));
    flushed.unwrap();
    assert!(took < PATIENCE, "{took:?}");
    handed_over(&producer, producer.close(LONG).1);
    let outcomes = outcomes.get();
    assert_eq!(outcomes.len(), accepted);
    let expected = [status::OK, status::DELIVERY_TIMED_OUT];
    for outcome in outcomes.values() {
        assert!(expected.contains(&outcome.status), "{outcome:?}");
    }
    assert_settled(&producer);
}

/// Everything that waits is woken for nothing all the time (metadata and outcomes of others come):
/// nothing gives up before its time because of that, and nothing is forgotten.
#[test]
fn s51_a_wait_that_wakes_for_nothing_is_not_early_and_not_forgotten() {
    given_time(400, waits_that_wake_for_nothing);
}

fn waits_that_wake_for_nothing(time_ms: u32) -> Result<(), String> {
    let time = Duration::from_millis(time_ms.into());
    // Deadlines of records are kept within 20 ms.
    let records = time - Duration::from_millis(20);
    let cluster = cluster(1, 2);
    cluster.set_auto_create(false, 1);
    let (producer, outcomes) = producer(&cluster, QUICK);
    producer.send_sync(&to(0, b"x", 0), LONG).unwrap();
    // Partition 1 never gets on.
    cluster.push_partition_errors("t", 1, &[19; 100_000]).unwrap();
    let (wakes, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| -> Result<(), String> {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                producer.send_sync(&to(0, b"x", 0), LONG).unwrap();
                wakes.fetch_add(1, Ordering::AcqRel);
            }
        });
        scope.spawn(|| {
            for number in 0.. {
                if done.load(Ordering::Acquire) {
                    return;
                }
                let name = format!("another-{number}");
                cluster.create_topic(&name, 1).unwrap();
                producer.partitions_for(&name, LONG).unwrap();
                wakes.fetch_add(1, Ordering::AcqRel);
            }
        });
        let _until = Until(&done);
        let after = Timeout::After(time);
        let lasts = |what: &str, least: Duration, expected: i32, call: &dyn Fn() -> i32| {
            let before = wakes.load(Ordering::Acquire);
            let (status, took) = timed(call);
            assert_eq!(status, expected, "{what}");
            assert!(took >= least && took < PATIENCE, "{what}: {took:?}");
            let woken = wakes.load(Ordering::Acquire) >= before + 10;
            so(woken, format_args!("{what}: nothing woke it"))
        };
        let status_of = |result: kafka_producer::error::Result<()>| result.unwrap_err().status;
        for _ in 0..2 {
            lasts("metadata", time, status::TIMED_OUT, &|| {
                status_of(producer.partitions_for("absent", after).map(drop))
            })?;
            lasts("an outcome", records, status::DELIVERY_TIMED_OUT, &|| {
                status_of(producer.send_sync(&to(1, b"x", 0), after).map(drop))
            })?;
            lasts("flush", time, status::TIMED_OUT, &|| {
                producer.send(&to(1, b"x", 1)).unwrap();
                status_of(producer.flush(after))
            })?;
            // An attempt may be in flight, which stays.
            eventually("it is purged", || {
                producer.purge(Some("t"), Some(1)).unwrap();
                outcomes.get().len() == 1
            });
            outcomes.forget();
            lasts("a deadline", records, status::DELIVERY_TIMED_OUT, &|| {
                let timeout_ms = time_ms;
                producer.send(&ProducerRecord { timeout_ms, ..to(1, b"x", 2) }).unwrap();
                outcomes.wait_for(1);
                outcomes.of(2).status
            })?;
            outcomes.forget();
        }
        Ok(())
    })?;
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
    Ok(())
}

/// An empty flush at its deadline is no time-out, a full one is, a lingering one is cut, a deleted
/// topic and senders beside it do not keep it.
#[test]
fn s52_flush_ends_in_every_state() {
    let cluster = cluster(1, 2);
    let settings = [
        ("linger.ms", "60000"),
        ("delivery.timeout.ms", "100000"),
        // Little, so that what lies before a flush is little too.
        ("buffer.memory", "131072"),
        ("batch.size", "16384"),
    ];
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.flush(NOW).unwrap();
    producer.send(&record(b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len(), 1);
    // Frozen: its own time, and no longer.
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    producer.send(&record(b"x", 1)).unwrap();
    for wait in [0_u64, 1, 50] {
        let wait = Duration::from_millis(wait);
        let (flushed, took) = timed(|| producer.flush(Timeout::After(wait)));
        assert_eq!(flushed.unwrap_err().status, status::TIMED_OUT);
        assert!(took >= wait && took < PATIENCE, "{took:?} of {wait:?}");
    }
    cluster.set_broker(1, true, false, 0, 0).unwrap();
    producer.flush(LONG).unwrap();
    // A topic that is gone: until its records expire or are refused.
    cluster.create_topic("gone", 1).unwrap();
    cluster.set_auto_create(false, 1);
    producer.partitions_for("gone", LONG).unwrap();
    cluster.delete_topic("gone").unwrap();
    producer.send(&of("gone", record(b"x", 2))).unwrap();
    let (_, took) = timed(|| producer.flush(Timeout::After(Duration::from_millis(100))));
    assert!(took < PATIENCE, "{took:?}");
    // An attempt may be in flight, which stays.
    eventually("it is purged", || {
        producer.purge(Some("gone"), None).unwrap();
        outcomes.get().contains_key(&2)
    });
    producer.flush(LONG).unwrap();
    // Others that send all the time.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for tag in 3.. {
                if done.load(Ordering::Acquire) {
                    break;
                }
                producer.send(&to((tag % 2) as i32, b"x", tag)).unwrap();
            }
        });
        let _until = Until(&done);
        for _ in 0..50 {
            producer.flush(LONG).unwrap();
        }
    });
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
}

#[test]
fn s52_flush_in_poll_mode_needs_no_poll() {
    let cluster = cluster(1, 1);
    let producer = polled(&cluster, &[("linger.ms", "60000"), ("delivery.timeout.ms", "100000")]);
    for tag in 0..10 {
        producer.send(&record(b"x", tag)).unwrap();
    }
    producer.flush(LONG).unwrap();
    let mut out = Vec::new();
    producer.poll(100, NOW, &mut out).unwrap();
    assert_eq!(out.iter().map(Delivery::count).sum::<usize>(), 10);
}

/// Those who send, wait for memory and wait for metadata are told at once; those who come later
/// too; and what other calls wait for ends.
#[test]
fn s53_every_call_during_and_after_close_ends_with_closed() {
    let cluster = cluster(1, 1);
    cluster.set_auto_create(false, 1);
    let settings = [("buffer.memory", "65536"), ("max.block.ms", "100000"), ("linger.ms", "0")];
    let (producer, _) = producer(&cluster, &settings);
    producer.send(&record(b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    let (begun, over) = (AtomicU64::new(0), AtomicU64::new(0));
    let ended = |result: kafka_producer::error::Result<()>| {
        if let Err(error) = result {
            let expected = [status::CLOSED, status::ABORTED, status::TIMED_OUT];
            assert!(expected.contains(&error.status), "{error}");
        }
    };
    let calls: [Box<dyn Fn() + Sync>; 5] = [
        Box::new(|| {
            // Until it waits, and is told.
            while producer.send(&record(&[1; 9000], 1)).is_ok() {}
            assert_eq!(producer.send(&record(b"x", 1)).unwrap_err().status, status::CLOSED);
        }),
        Box::new(|| {
            let error = producer.send(&of("absent", record(b"x", 2))).unwrap_err();
            assert_eq!(error.status, status::CLOSED, "{error}");
        }),
        Box::new(|| ended(producer.partitions_for("absent", LONG).map(drop))),
        Box::new(|| ended(producer.flush(LONG))),
        Box::new(|| ended(producer.send_sync(&record(b"x", 3), LONG).map(drop))),
    ];
    thread::scope(|scope| {
        for call in &calls {
            let (begun, over) = (&begun, &over);
            scope.spawn(move || {
                begun.fetch_add(1, Ordering::AcqRel);
                call();
                over.fetch_add(1, Ordering::AcqRel);
            });
        }
        eventually("all wait", || {
            begun.load(Ordering::Acquire) == 5 && producer.counters().buffered_bytes > 50_000
        });
        let (closed, took) = timed(|| producer.close(Timeout::After(Duration::from_millis(50))));
        handed_over(&producer, closed.1);
        assert!(took < PATIENCE, "{took:?}");
        eventually("all are told", || over.load(Ordering::Acquire) == 5);
    });
    for result in [
        producer.send(&record(b"x", 4)),
        producer.try_send(&record(b"x", 4)),
        producer.send_sync(&record(b"x", 4), LONG).map(drop),
        producer.purge(None, None),
        producer.close(LONG).1,
        producer.partitions_for("t", LONG).map(drop),
    ] {
        assert_eq!(result.unwrap_err().status, status::CLOSED);
    }
    assert_settled(&producer);
}

/// A full buffer ends the linger of what fills it: of other partitions too, when one that has
/// nothing wants memory.
#[test]
fn s54_a_full_buffer_cuts_the_linger() {
    const PARTITIONS: i32 = 200;
    let cluster = cluster(1, PARTITIONS);
    let settings = [
        ("linger.ms", "60000"),
        ("delivery.timeout.ms", "200000"),
        ("buffer.memory", "131072"),
        ("batch.size", "16384"),
        ("max.block.ms", "20000"),
    ];
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.partitions_for("t", LONG).unwrap();
    let free = || {
        let counters = producer.counters();
        counters.buffer_limit_bytes - counters.buffered_bytes
    };
    let mut tag = 0;
    // A record per partition, none of which fills anything or is refused.
    while free() > 8000 {
        producer.try_send(&to(tag as i32, &[1; 500], tag)).unwrap();
        tag += 1;
    }
    // Who waits for the end of a linger waits in vain.
    producer.send(&to(PARTITIONS - 1, &[1; 8000], tag)).unwrap();
    for tag in tag + 1..tag + 500 {
        producer.send(&to((tag % 8) as i32, &[1; 1000], tag)).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len() as u64, tag + 500);
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_settled(&producer);
}

#[test]
fn s55_purge_while_partitions_change_their_leaders() {
    let cluster = cluster(2, 4);
    let settings = [QUICK, &[("batch.size", "1000")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    const RECORDS: u64 = 20_000;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _until = Until(&done);
            for tag in 0..RECORDS {
                producer.send(&to((tag % 4) as i32, &tag.to_be_bytes(), tag)).unwrap();
            }
        });
        for round in 0_i32.. {
            let partition = round % 4;
            let leader = [1, 2, -1, 2, 1][round as usize % 5];
            cluster.set_leader("t", partition, leader).unwrap();
            match round % 3 {
                0 => producer.purge(Some("t"), Some(partition)).unwrap(),
                1 => producer.purge(None, None).unwrap(),
                _ => {}
            }
            if done.load(Ordering::Acquire) {
                break;
            }
        }
    });
    for partition in 0..4 {
        cluster.set_leader("t", partition, 1).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
    let outcomes = outcomes.get();
    assert_eq!(outcomes.len() as u64, RECORDS);
    for outcome in outcomes.values() {
        assert!([0, status::ABORTED].contains(&outcome.status), "{outcome:?}");
    }
}

/// A callback that does not return stalls no broker: records are sent and acknowledged, metadata
/// is asked for, connections are made anew, `send_sync` returns.
#[test]
fn s57_a_callback_that_blocks_stalls_no_broker() {
    let cluster = cluster(3, 6);
    cluster.create_topic("later", 3).unwrap();
    let sink = Arc::new(Gated::default());
    let options =
        Options { delivery: DeliveryMode::Callback(Arc::clone(&sink) as _), ..Options::default() };
    let settings = [QUICK, &[("metadata.max.age.ms", "50")]].concat();
    let producer = Producer::new(&config(&cluster, &settings), options).unwrap();
    producer.send(&to(0, b"x", 0)).unwrap();
    eventually("it blocks", || sink.gate.is_entered());
    let mut tag = 1;
    for round in 0..20_u64 {
        let requests: Vec<u64> = (1..=3).map(|node| cluster.request_count(node, PRODUCE)).collect();
        let asked = cluster.request_count(0, METADATA);
        for partition in 0..6 {
            producer.send(&to(partition, &[1; 100], tag)).unwrap();
            tag += 1;
        }
        eventually("every broker goes on", || {
            (1..=3).all(|node| cluster.request_count(node, PRODUCE) > requests[node as usize - 1])
                && cluster.request_count(0, METADATA) > asked
        });
        if round % 5 == 0 {
            cluster.disconnect(1 + (round % 3) as i32).unwrap();
        }
    }
    producer.send(&of("later", record(b"x", tag))).unwrap();
    tag += 1;
    producer.send_sync(&of("later", record(b"x", 0)), LONG).unwrap();
    eventually("all are acknowledged", || {
        producer.counters().acknowledged + u64::from(!sink.gate.is_open()) >= tag
    });
    let late = producer.flush(Timeout::After(Duration::from_millis(20))).unwrap_err();
    assert_eq!(late.status, status::TIMED_OUT, "callbacks are awaited");
    let (closed, took) = timed(|| producer.close(Timeout::After(Duration::from_millis(50))));
    assert_eq!(closed.1.unwrap_err().status, status::TIMED_OUT, "one still runs");
    assert!(took < PATIENCE, "{took:?}");
    sink.gate.open();
    let again = producer.close(LONG).1;
    assert!(again.is_ok() || again.unwrap_err().status == status::CLOSED);
    sink.outcomes.wait_for(tag as usize);
    assert!(sink.outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_settled(&producer);
}
