//! Buffers and batches: their bytes are nobody else's while a socket may read them, their memory
//! comes back once, and every record has one outcome.

use crate::produce::{
    LONG, PRODUCE, assert_settled, cluster, config, eventually, given_time, let_pass, producer,
    record, so, to,
};
use crate::proxied::proxied;
use crate::{Gated, QUICK, assert_intact, labelled, of};
use kafka_producer::delivery::DeliveryMode;
use kafka_producer::error::{MAYBE_PERSISTED, status};
use kafka_producer::producer::{Options, Producer, Timeout};
use kafka_producer::record::ProducerRecord;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The batches have expired, their bytes are still being written, and their memory is wanted
/// elsewhere, in slabs of the same sizes.
#[test]
fn s1_an_expired_batch_that_is_still_being_written_keeps_its_bytes() {
    // More than the sockets between take.
    const RECORDS: u64 = 900;
    let behind = proxied(2, 1);
    let (leader, _) = behind.cluster.leader("t", 0).unwrap();
    behind.cluster.create_topic("other", 1).unwrap();
    behind.cluster.set_leader("other", 0, 3 - leader).unwrap();
    // The request outlives its records.
    let settings = [QUICK, &[("buffer.memory", "4000000"), ("batch.size", "1000000")]].concat();
    let (producer, outcomes) = behind.producer(&settings);
    for topic in ["t", "other"] {
        producer.send_sync(&of(topic, to(0, &labelled(topic, 0, 0, 10), 0)), LONG).unwrap();
    }
    let mut other = 1_000_000;
    let mut send_others = |times: usize| {
        for _ in 0..times {
            let values: Vec<_> =
                (other..other + 30).map(|tag| labelled("other", 0, tag, 1000)).collect();
            let records = (other..).zip(&values).map(|(tag, value)| Ok(to(0, value, tag)));
            let records = records.map(|record| record.map(|record| of("other", record)));
            producer.send_batch(records, LONG).1.unwrap();
            other += 30;
        }
    };
    for round in 0..3_u64 {
        behind.command(&format!("stall {leader} up on"));
        let tags = 1 + round * RECORDS..=(round + 1) * RECORDS;
        let values: Vec<_> = tags.clone().map(|tag| labelled("t", 0, tag, 1000)).collect();
        let records = tags
            .clone()
            .zip(&values)
            .map(|(tag, value)| Ok(ProducerRecord { timeout_ms: 200, ..to(0, value, tag) }));
        assert_eq!(producer.send_batch(records, LONG).0 as u64, RECORDS);
        eventually("they expire", || {
            send_others(1);
            tags.clone().all(|tag| outcomes.get().contains_key(&tag))
        });
        // Those whose bytes are on the way are not known to be lost.
        let mut on_the_way = 0;
        for (tag, told) in outcomes.get().range(tags) {
            assert_eq!(told.status, status::DELIVERY_TIMED_OUT, "{tag}: {told:?}");
            let maybe = told.flags & MAYBE_PERSISTED != 0;
            assert_eq!(maybe, told.attempts > 0, "{tag}: {told:?}");
            on_the_way += i64::from(maybe);
        }
        send_others(20);
        let written = behind.cluster.end_offset("t", 0);
        behind.command(&format!("heal {leader}"));
        eventually("what is on the way arrives as it was", || {
            send_others(1);
            behind.cluster.end_offset("t", 0) == written + on_the_way
        });
        producer.send_sync(&to(0, &labelled("t", 0, 0, 10), 0), LONG).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
    assert_intact(&behind.cluster, "t");
    let mut tags = assert_intact(&behind.cluster, "other");
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len() as u64, other - 1_000_000 + 1);
    assert!(behind.cluster.complaints().is_empty(), "{:?}", behind.cluster.complaints());
}

/// The connection breaks in the middle of a write, a moment before the batch expires or after it.
#[test]
fn s2_a_connection_that_breaks_while_a_batch_expires() {
    let behind = proxied(1, 2);
    let (producer, outcomes) = behind.producer(&[QUICK, &[("max.block.ms", "20000")]].concat());
    producer.send_sync(&to(1, &labelled("t", 1, 0, 10), 0), LONG).unwrap();
    let rounds = 40;
    for round in 0..rounds {
        behind.command("stall 1 up on");
        let tag = 1 + round;
        let value = labelled("t", 1, tag, 700_000);
        producer.send(&ProducerRecord { timeout_ms: 60, ..to(1, &value, tag) }).unwrap();
        let_pass(Duration::from_millis(50 + round % 20));
        behind.command("reset 1");
        behind.command("heal 1");
        outcomes.wait_for(tag as usize);
        // Whatever became of that one, its partition goes on.
        producer.send_sync(&to(1, &labelled("t", 1, 0, 10), 0), LONG).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert_settled(&producer);
    assert_eq!(outcomes.get().len() as u64, rounds);
    assert_intact(&behind.cluster, "t");
}

#[test]
fn s3_too_large_as_the_answer_to_a_batch_that_has_expired() {
    given_time(600, |ms| {
        let (cluster, time) = (cluster(1, 1), ms.to_string());
        let times = [("request.timeout.ms", &*time), ("delivery.timeout.ms", &time)];
        let (producer, outcomes) = producer(&cluster, &[QUICK, &times].concat());
        producer.send(&record(b"x", 0)).unwrap();
        producer.flush(LONG).unwrap();
        // The first attempt is refused, the second one is under way at the end.
        cluster.set_broker(1, true, false, 300_000, 0).unwrap();
        cluster.push_errors(PRODUCE, &[19, 10]).unwrap();
        let before = cluster.request_count(1, PRODUCE);
        let attempts = || cluster.request_count(1, PRODUCE) - before;
        for tag in 1..=3 {
            producer.send(&record(&[1; 1000], tag)).unwrap();
        }
        eventually("an attempt", || attempts() > 0 || outcomes.get().len() == 4);
        cluster.answer_now(1).unwrap();
        outcomes.wait_for(4);
        assert_eq!(outcomes.of(1).status, status::DELIVERY_TIMED_OUT, "{:?}", outcomes.of(1));
        so(attempts() >= 2, "the second attempt was not made")?;
        cluster.set_broker(1, true, false, 0, 0).unwrap();
        cluster.answer_now(1).unwrap();
        producer.send(&record(b"x", 9)).unwrap();
        producer.flush(LONG).unwrap();
        assert_settled(&producer);
        so(outcomes.of(9).status == 0, format_args!("{:?}", outcomes.of(9)))
    });
}

/// Sends that fail after they had memory, or while they waited for it, at all sizes.
#[test]
fn s4_sends_that_fail_give_their_memory_back() {
    let cluster = cluster(1, 3);
    let settings =
        [QUICK, &[("buffer.memory", "65536"), ("batch.size", "8192"), ("max.block.ms", "5")]]
            .concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.partitions_for("t", LONG).unwrap();
    producer.send(&record(b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    let mut accepted = 1;
    for round in 0..5 {
        cluster.set_broker(1, true, true, 0, 0).unwrap();
        let mut refused = 0;
        for size in [10, 60_000, 1000, 8100, 8192, 9000, 30_000, 100, 65_000, 70_000].repeat(3) {
            let partition = (accepted % 3) as i32;
            match producer.send(&to(partition, &vec![1; size], accepted)) {
                Ok(()) => accepted += 1,
                Err(_) => refused += 1,
            }
            let counters = producer.counters();
            assert!(counters.buffered_bytes <= counters.buffer_limit_bytes, "{counters:?}");
        }
        assert!(refused > 0, "round {round}");
        cluster.set_broker(1, true, false, 0, 0).unwrap();
        producer.flush(LONG).unwrap();
        eventually("all memory is back", || producer.counters().buffered_bytes == 0);
    }
    assert_eq!(outcomes.get().len() as u64, accepted);
    assert_settled(&producer);
}

/// Failures keep their records until somebody has seen them: the limit holds for those too.
#[test]
fn s9_failures_that_nobody_takes_stay_within_buffer_memory() {
    let cluster = cluster(1, 4);
    let gated = Arc::new(Gated::default());
    let settings = [QUICK, &[("buffer.memory", "262144"), ("batch.size", "4096")]].concat();
    let options =
        Options { delivery: DeliveryMode::Callback(Arc::clone(&gated) as _), ..Options::default() };
    let producer = Producer::new(&config(&cluster, &settings), options).unwrap();
    cluster.push_errors(PRODUCE, &vec![29; 10_000]).unwrap();
    producer.partitions_for("t", LONG).unwrap();
    let mut accepted = 0_u64;
    let mut quiet = 0;
    // Until nothing is in flight, and nothing fits.
    while quiet < 50 {
        match producer.try_send(&to((accepted % 4) as i32, &[7; 500], accepted)) {
            Ok(()) => (accepted, quiet) = (accepted + 1, 0),
            Err(error) => {
                assert_eq!(error.status, status::BUFFER_FULL, "{error}");
                quiet += 1;
                let_pass(Duration::from_millis(2));
            }
        }
        let counters = producer.counters();
        assert!(counters.buffered_bytes <= counters.buffer_limit_bytes, "{counters:?}");
        assert!(accepted < 10_000, "nothing ever fills");
    }
    assert!(accepted >= 100, "{accepted}");
    gated.gate.open();
    producer.flush(LONG).unwrap();
    assert_eq!(gated.outcomes.get().len() as u64, accepted);
    assert!(gated.outcomes.get().values().all(|outcome| outcome.status == 29));
    assert_settled(&producer);
}

#[test]
fn s10_a_topic_that_is_deleted_or_replaced_while_its_batches_are_in_flight() {
    let cluster = cluster(2, 2);
    cluster.set_auto_create(false, 1);
    let settings =
        [QUICK, &[("delivery.timeout.ms", "1500"), ("request.timeout.ms", "1000")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    let mut tag = 0;
    for round in 0..12 {
        let requests = cluster.request_count(0, PRODUCE);
        for node in 1..=2 {
            cluster.set_broker(node, true, false, 20, 0).unwrap();
        }
        for _ in 0..20 {
            // It is unknown for a while where it was not created again.
            let sent = producer.try_send(&to((tag % 2) as i32, &labelled("t", 0, tag, 9), tag));
            tag += u64::from(sent.is_ok());
        }
        if round > 0 {
            // Or they are all over already.
            eventually("a request", || {
                cluster.request_count(0, PRODUCE) > requests || outcomes.get().len() as u64 == tag
            });
        }
        cluster.delete_topic("t").unwrap();
        if round % 2 == 0 {
            producer.flush(Timeout::After(Duration::from_millis(50))).unwrap_or_default();
        }
        cluster.create_topic("t", 2).unwrap();
        // The pause in which a client learns of it is none of ours.
        eventually("it goes on", || producer.partitions_for("t", Timeout::Default).is_ok());
    }
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len() as u64, tag);
    producer.send_sync(&record(b"new ones flow", 0), LONG).unwrap();
    assert_settled(&producer);
}

/// What fails a send inside many threads leaves nothing behind either.
#[test]
fn s4_waits_for_memory_that_time_out_in_many_threads() {
    let cluster = cluster(1, 2);
    let settings =
        [QUICK, &[("buffer.memory", "65536"), ("batch.size", "8192"), ("max.block.ms", "20")]]
            .concat();
    let (producer, _) = producer(&cluster, &settings);
    producer.partitions_for("t", LONG).unwrap();
    producer.send(&record(b"x", 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let producer = &producer;
            scope.spawn(move || {
                let mut refused = 0;
                for number in 0..60 {
                    let tag = thread << 32 | (number + 1);
                    let size = [100, 5000, 20_000][(tag % 3) as usize];
                    refused += u64::from(
                        producer.send(&to((tag % 2) as i32, &vec![1; size], tag)).is_err(),
                    );
                }
                assert!(refused > 0);
            });
        }
    });
    cluster.set_broker(1, true, false, 0, 0).unwrap();
    producer.flush(LONG).unwrap();
    eventually("all memory is back", || producer.counters().buffered_bytes == 0);
    assert_settled(&producer);
}
