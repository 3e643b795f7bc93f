//! Deadlines of records: `delivery.timeout.ms` from each one's append, a record's own timeout in
//! its place; what is dead leaves, and the others go on.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::error::{MAYBE_PERSISTED, status};
use kafka_producer::mock::MockCluster;
use kafka_producer::producer::{Producer, Timeout};
use kafka_producer::record::ProducerRecord;
use produce::{
    LONG, Outcomes, PATIENCE, PRODUCE, assert_places, assert_settled, cluster, eventually,
    given_time, lateness, let_pass, producer, so, timed, to,
};
use std::sync::Arc;
use std::time::Duration;

const QUICK: &[(&str, &str)] = &produce::quick("20");
/// By its own deadline a record has its outcome no earlier, and so much later at most, beyond what
/// the machine adds: the decision itself takes a millisecond.
const EARLY: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(60);
const TRIES: u32 = 12;

fn within(timeout_ms: u32, partition: i32, value: &[u8], tag: u64) -> ProducerRecord<'_> {
    ProducerRecord { timeout_ms, ..to(partition, value, tag) }
}

fn warm(settings: &[(&str, &str)]) -> (MockCluster, Producer, Arc<Outcomes>) {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, &[QUICK, settings].concat());
    producer.send(&to(0, &u64::to_be_bytes(0), 0)).unwrap();
    producer.flush(LONG).unwrap();
    (cluster, producer, outcomes)
}

/// How much too late a record with this timeout gets its outcome, which is a time-out and not
/// early.
fn too_late(producer: &Producer, outcomes: &Outcomes, timeout_ms: u32, tag: u64) -> Duration {
    let timeout = Duration::from_millis(timeout_ms.into());
    let ((), age, late) = lateness(timeout, || {
        producer.send(&within(timeout_ms, 0, b"x", tag)).unwrap();
        eventually("its outcome", || outcomes.get().contains_key(&tag));
    });
    let outcome = outcomes.of(tag);
    assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT, "{outcome:?}");
    assert!(outcome.message.contains("its timeout_ms has passed while"), "{outcome:?}");
    assert!(age + EARLY >= timeout, "{age:?}: {outcome:?}");
    late
}

/// A fault by name.
type Fault = (&'static str, fn(&MockCluster));

#[test]
fn a_records_own_timeout_holds_in_every_state_of_the_network() {
    let faults: [Fault; 6] = [
        ("down", |cluster| cluster.set_broker(1, false, false, 0, 0).unwrap()),
        ("frozen", |cluster| cluster.set_broker(1, true, true, 0, 0).unwrap()),
        ("slow", |cluster| cluster.set_broker(1, true, false, 300_000, 0).unwrap()),
        ("leaderless", |cluster| cluster.set_leader("t", 0, -1).unwrap()),
        ("refusing", |cluster| cluster.push_errors(PRODUCE, &[19; 2000]).unwrap()),
        ("cutting", |cluster| cluster.push_errors(PRODUCE, &[13; 2000]).unwrap()),
    ];
    for (name, fault) in faults {
        let late: Vec<Duration> = (0..TRIES)
            .map(|_| {
                let (cluster, producer, outcomes) = warm(&[]);
                fault(&cluster);
                too_late(&producer, &outcomes, 200, 7)
            })
            .take_while(|late| *late > LATE)
            .collect();
        assert!(late.len() < TRIES as usize, "{name}: so much too late: {late:?}");
    }
}

/// Boundary values, at the producer and at the record.
#[test]
fn no_timeout_is_too_short_or_too_long() {
    const MOST: &str = "2147483647";
    let longest = [
        ("delivery.timeout.ms", MOST),
        ("request.timeout.ms", "1000000000"),
        ("linger.ms", "100000000"),
        ("retry.backoff.ms", MOST),
        ("retry.backoff.max.ms", MOST),
        ("max.block.ms", MOST),
    ];
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, &longest);
    // 37 hours, and the longest there is: taken, and not over at once.
    for (tag, timeout_ms) in (0..).zip([0, 37 * 3_600_000, i32::MAX.unsigned_abs(), u32::MAX]) {
        producer.send(&within(timeout_ms, 0, &u64::to_be_bytes(tag), tag)).unwrap();
    }
    let_pass(Duration::from_millis(50));
    assert!(outcomes.get().is_empty());
    producer.flush(LONG).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_eq!(outcomes.get().len(), 4);
    // The shortest: over before anybody answers, in spite of the linger.
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    producer.send(&within(1, 0, b"x", 9)).unwrap();
    eventually("it is over", || outcomes.get().contains_key(&9));
    assert_eq!(outcomes.of(9).status, status::DELIVERY_TIMED_OUT);
}

/// What would not live to see the end of the linger does not wait for it.
#[test]
fn a_short_timeout_ends_the_linger() {
    let (cluster, producer, outcomes) =
        warm(&[("linger.ms", "60000"), ("delivery.timeout.ms", "100000")]);
    producer.send(&to(0, &u64::to_be_bytes(1), 1)).unwrap();
    producer.send(&within(20_000, 0, &u64::to_be_bytes(2), 2)).unwrap();
    outcomes.wait_for(3);
    assert_eq!((outcomes.of(1).status, outcomes.of(2).status), (0, 0));
    assert_eq!(cluster.end_offset("t", 0), 3);
    assert_settled(&producer);
}

/// Queued: the dead leave and are not written, the rest goes on in order.
#[test]
fn of_a_queued_batch_the_dead_leave_and_the_rest_is_sent() {
    let (cluster, producer, outcomes) = warm(&[]);
    cluster.set_leader("t", 0, -1).unwrap();
    for tag in 1..=40_u64 {
        let timeout_ms = if tag % 4 == 1 { 150 } else { 0 };
        producer.send(&within(timeout_ms, 0, &tag.to_be_bytes(), tag)).unwrap();
    }
    outcomes.wait_for(11);
    for tag in (1..=40).filter(|tag| tag % 4 == 1) {
        let outcome = outcomes.of(tag);
        assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT, "{outcome:?}");
    }
    cluster.set_leader("t", 0, 1).unwrap();
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len(), 41);
    let logged: Vec<u64> = produce::logged(&cluster, 0).concat();
    // One that was sent before the leader was known to be gone may be written, and says so.
    let doubtful = |tag: &u64| outcomes.of(*tag).flags & MAYBE_PERSISTED != 0;
    let dead = |tag: &u64| *tag % 4 == 1 && !(doubtful(tag) && logged.contains(tag));
    let expected: Vec<u64> = (0..=40).filter(|tag| *tag == 0 || !dead(tag)).collect();
    assert_eq!(logged, expected);
    assert_places(&cluster, &outcomes);
    assert_settled(&producer);
}

/// In flight: the dead are told so with a doubt, and the outcome that comes is the others'.
#[test]
fn of_a_batch_in_flight_the_dead_are_told_and_the_others_get_the_outcome() {
    for idempotence in ["true", "false"] {
        given_time(250, |ms| {
            let settings = [("enable.idempotence", idempotence), ("linger.ms", "50")];
            let (cluster, producer, outcomes) = warm(&settings);
            cluster.set_broker(1, true, false, 300_000, 0).unwrap();
            for tag in 1..=20_u64 {
                let timeout_ms = if tag % 3 == 0 { ms } else { 0 };
                producer.send(&within(timeout_ms, 0, &tag.to_be_bytes(), tag)).unwrap();
            }
            outcomes.wait_for(1 + 6);
            cluster.answer_now(1).unwrap();
            producer.flush(LONG).unwrap();
            assert_eq!(outcomes.get().len(), 21);
            let written = cluster.end_offset("t", 0);
            so(written == 21, format_args!("some expired before they were sent: {written}"))?;
            for tag in 1..=20 {
                let outcome = outcomes.of(tag);
                if tag % 3 == 0 {
                    assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT, "{outcome:?}");
                    assert_ne!(outcome.flags & MAYBE_PERSISTED, 0, "{outcome:?}");
                    let told = " of t-0 failed: its timeout_ms";
                    assert!(outcome.message.contains(told), "{outcome:?}");
                } else {
                    let expected = (0, tag as i64);
                    assert_eq!((outcome.status, outcome.offset), expected, "{outcome:?}");
                }
            }
            assert_places(&cluster, &outcomes);
            assert_settled(&producer);
            Ok(())
        });
    }
}

/// The same when the attempt fails and the batch is sent again: as it was.
#[test]
fn a_batch_with_dead_records_is_sent_again_as_it_was() {
    given_time(250, |ms| {
        let backoff = (ms / 5 * 8).to_string();
        let (cluster, producer, outcomes) = warm(&[
            ("linger.ms", "50"),
            ("retry.backoff.ms", &backoff),
            ("retry.backoff.max.ms", &backoff),
        ]);
        cluster.push_errors(PRODUCE, &[kafka_producer::mock::CUT_AFTER_WRITE]).unwrap();
        for tag in 1..=10_u64 {
            let timeout_ms = if tag <= 5 { ms } else { 0 };
            producer.send(&within(timeout_ms, 0, &tag.to_be_bytes(), tag)).unwrap();
        }
        producer.flush(LONG).unwrap();
        let logged = produce::logged(&cluster, 0).concat();
        let whole = logged == (0..=10).collect::<Vec<_>>();
        so(whole, format_args!("some expired before they were sent: {logged:?}"))?;
        // Its answer was lost, so nobody knows; with sequence numbers it is there once all the
        // same.
        for tag in 1..=10 {
            let outcome = outcomes.of(tag);
            match tag <= 5 && outcome.status != 0 {
                true => assert_ne!(outcome.flags & MAYBE_PERSISTED, 0, "{outcome:?}"),
                false => assert_eq!(outcome.status, 0, "{outcome:?}"),
            }
        }
        assert_settled(&producer);
        Ok(())
    });
}

/// Each record's time counts from its own append, though all are in one batch.
#[test]
fn delivery_timeout_counts_from_each_append() {
    given_time(600, |ms| {
        let (delivery, request) = (ms.to_string(), (ms / 6 * 5).to_string());
        let settings = [("delivery.timeout.ms", &*delivery), ("request.timeout.ms", &request)];
        let (cluster, producer, outcomes) = warm(&settings);
        cluster.set_broker(1, false, false, 0, 0).unwrap();
        eventually("it is seen", || cluster.connection_count(1) == 0);
        let clock = kafka_producer::clock::Clock::system();
        let mut sent = Vec::new();
        for tag in 1..=8 {
            sent.push(clock.now());
            producer.send(&to(0, b"x", tag)).unwrap();
            let_pass(Duration::from_millis((ms / 12).into()));
        }
        let timeout = Duration::from_millis(ms.into());
        for (tag, sent) in (1..).zip(sent) {
            eventually("its outcome", || outcomes.get().contains_key(&tag));
            let (age, outcome) = (clock.now().since(sent), outcomes.of(tag));
            assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT, "{outcome:?}");
            // The marks lie 20 ms apart; the machine may be slow.
            let least = timeout - Duration::from_millis(25);
            assert!(age >= least, "record {tag}: {age:?}: {outcome:?}");
            so(age < timeout / 2 * 3, format_args!("record {tag}: {age:?}"))?;
        }
        assert_settled(&producer);
        Ok(())
    });
}

#[test]
fn a_record_in_a_call_that_waits_has_the_shorter_of_both() {
    let (cluster, producer, _) = warm(&[]);
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    let own = within(150, 0, b"x", 1);
    let (error, took) = timed(|| producer.send_sync(&own, Timeout::Default).unwrap_err());
    assert_eq!(error.status, status::DELIVERY_TIMED_OUT, "{error}");
    assert!(took >= Duration::from_millis(149) && took < PATIENCE, "{took:?}");
    let (error, took) = timed(|| {
        producer.send_sync(&within(60_000, 0, b"x", 2), Timeout::After(Duration::from_millis(150)))
    });
    assert_eq!(error.unwrap_err().status, status::DELIVERY_TIMED_OUT);
    assert!(took < PATIENCE, "{took:?}");
}
