//! Brokers that are down, frozen, slow or throttling: what is lost (nothing), what is reported, and
//! that the network thread does not spin meanwhile.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::delivery::Stage;
use kafka_producer::error::{MAYBE_PERSISTED, RETRIABLE, status};
use kafka_producer::mock::CUT_AFTER_WRITE;
use produce::{
    LONG, PATIENCE, PRODUCE, assert_order, assert_settled, cluster, eventually, given_time,
    let_pass, producer, record, so, timed, to,
};
use std::time::Duration;

const QUICK: &[(&str, &str)] = &produce::quick("10");

#[test]
fn a_broker_that_goes_down_and_comes_back_loses_nothing() {
    let cluster = cluster(2, 4);
    let (producer, outcomes) = producer(&cluster, QUICK);
    let mut tag = 0_u64;
    for round in 0..6 {
        for _ in 0..200 {
            producer.send(&to((tag % 4) as i32, &tag.to_be_bytes(), tag)).unwrap();
            tag += 1;
        }
        let node = 1 + round % 2;
        let accepted = cluster.accepted_count(node);
        cluster.set_broker(node, false, false, 0, 0).unwrap();
        producer.send(&to(0, &tag.to_be_bytes(), tag)).unwrap();
        producer.send(&to(1, &(tag + 1).to_be_bytes(), tag + 1)).unwrap();
        tag += 2;
        cluster.set_broker(node, true, false, 0, 0).unwrap();
        producer.flush(LONG).unwrap();
        assert!(cluster.accepted_count(node) > accepted, "connected again, to the same port");
    }
    assert_eq!(outcomes.get().len() as u64, tag);
    assert!(outcomes.get().values().all(|outcome| outcome.status == 0));
    assert_eq!(assert_order(&cluster, 4, &outcomes).len() as u64, tag);
    assert_settled(&producer);
}

#[test]
fn a_frozen_broker_is_given_up_and_tried_again() {
    given_time(200, |ms| {
        let (cluster, request) = (cluster(1, 1), ms.to_string());
        let settings = [QUICK, &[("request.timeout.ms", &*request)]].concat();
        let (producer, outcomes) = producer(&cluster, &settings);
        producer.send(&record(&0_u64.to_be_bytes(), 0)).unwrap();
        producer.flush(LONG).unwrap();
        let accepted = cluster.accepted_count(1);
        cluster.set_broker(1, true, true, 0, 0).unwrap();
        producer.send(&record(&1_u64.to_be_bytes(), 1)).unwrap();
        // It is not said when the request is given up; twice its time will do.
        let_pass(Duration::from_millis(2 * u64::from(ms)));
        cluster.set_broker(1, true, false, 0, 0).unwrap();
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.of(1).status, 0);
        assert_eq!(assert_order(&cluster, 1, &outcomes), [0, 1]);
        so(cluster.accepted_count(1) > accepted, "it was not connected to again")
    });
}

#[test]
fn what_expires_in_flight_may_be_written_and_is_reported_once() {
    given_time(600, |ms| {
        let (timeout, delivery) = (Duration::from_millis(ms.into()), ms.to_string());
        let cluster = cluster(1, 1);
        let times = [("request.timeout.ms", &*delivery), ("delivery.timeout.ms", &delivery)];
        let (producer, outcomes) = producer(&cluster, &[QUICK, &times].concat());
        producer.send(&record(&0_u64.to_be_bytes(), 0)).unwrap();
        producer.flush(LONG).unwrap();
        so(outcomes.of(0).status == 0, "the first one expired")?;
        // The first attempt is refused; the second one is not answered, and may take longer.
        cluster.set_broker(1, true, false, 300_000, 0).unwrap();
        cluster.push_errors(PRODUCE, &[19]).unwrap();
        let requests = cluster.request_count(1, PRODUCE);
        let (came, took) = timed(|| {
            producer.send(&record(&1_u64.to_be_bytes(), 1)).unwrap();
            eventually("it was sent or is over", || {
                cluster.request_count(1, PRODUCE) > requests || outcomes.get().len() == 2
            });
            cluster.answer_now(1).unwrap();
            outcomes.wait_for(2);
            cluster.request_count(1, PRODUCE) - requests
        });
        let outcome = outcomes.of(1);
        assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT, "{outcome:?}");
        assert!(took + Duration::from_millis(1) >= timeout, "{took:?}");
        so(came == 2 && took < timeout / 4 * 5, format_args!("{came} in {took:?}: {outcome:?}"))?;
        assert_ne!(outcome.flags & MAYBE_PERSISTED, 0, "{outcome:?}");
        assert_eq!((outcome.stage, outcome.attempts), (Some(Stage::InFlight), 2));
        // The partition's turn comes after the request's end.
        cluster.set_broker(1, true, false, 0, 0).unwrap();
        producer.send(&record(&2_u64.to_be_bytes(), 2)).unwrap();
        cluster.answer_now(1).unwrap();
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.get().len(), 3);
        assert_settled(&producer);
        so(outcomes.of(2).status == 0, format_args!("{:?}", outcomes.of(2)))
    });
}

#[test]
fn maybe_persisted_is_said_when_it_is_so_and_only_then() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, &[QUICK, &[("retries", "0")]].concat());
    // What happens to the only attempt; whether it may be, and whether it is, in the log.
    let cases: [(i16, bool, bool); 6] = [
        (6, false, false),
        (19, false, false),
        (29, false, false),
        (7, true, true),
        (20, true, true),
        (CUT_AFTER_WRITE, true, true),
    ];
    let mut written = 0;
    for (tag, (code, maybe, is)) in (0..).zip(cases) {
        cluster.push_errors(PRODUCE, &[code]).unwrap();
        producer.send(&record(&u64::to_be_bytes(tag), tag)).unwrap();
        producer.flush(LONG).unwrap();
        let outcome = outcomes.of(tag);
        assert_ne!(outcome.status, 0, "{code}");
        assert_eq!(outcome.flags & MAYBE_PERSISTED != 0, maybe, "{code}: {outcome:?}");
        written += i64::from(is);
        assert_eq!(cluster.end_offset("t", 0), written, "{code}");
        let cut = code == CUT_AFTER_WRITE;
        let stage = if cut { Stage::InFlight } else { Stage::Answered };
        assert_eq!(outcome.stage, Some(stage), "{code}: {outcome:?}");
    }
    // A doubt about an earlier attempt stays, whatever the last answer is.
    drop(producer);
    let (producer, outcomes) = produce::producer(&cluster, &[QUICK, &[("retries", "1")]].concat());
    cluster.push_errors(PRODUCE, &[CUT_AFTER_WRITE, 29]).unwrap();
    producer.send(&record(&9_u64.to_be_bytes(), 9)).unwrap();
    producer.flush(LONG).unwrap();
    let outcome = outcomes.of(9);
    assert_eq!((outcome.status, outcome.attempts), (29, 2), "{outcome:?}");
    assert_ne!(outcome.flags & MAYBE_PERSISTED, 0, "{outcome:?}");
}

#[test]
fn an_unreachable_leader_is_named_when_records_expire() {
    given_time(500, |ms| {
        let (delivery, request) = (ms.to_string(), (ms / 5 * 2).to_string());
        let cluster = cluster(1, 1);
        let times = [("delivery.timeout.ms", &*delivery), ("request.timeout.ms", &request)];
        let (producer, outcomes) = producer(&cluster, &[QUICK, &times].concat());
        producer.send(&record(b"x", 0)).unwrap();
        producer.flush(LONG).unwrap();
        cluster.set_broker(1, false, false, 0, 0).unwrap();
        let (_, took) = timed(|| {
            producer.send(&record(b"x", 1)).unwrap();
            outcomes.wait_for(2);
        });
        let outcome = outcomes.of(1);
        // The connection may be seen to be gone only by what was written to it: then there is
        // doubt.
        let doubt = if outcome.attempts > 0 { MAYBE_PERSISTED } else { 0 };
        let expected = (status::DELIVERY_TIMED_OUT, RETRIABLE | doubt);
        assert_eq!((outcome.status, outcome.flags), expected, "{outcome:?}");
        let least = Duration::from_millis((ms - 1).into());
        assert!(took >= least && took < PATIENCE, "{took:?}");
        let address = format!("127.0.0.1:{}", cluster.port(1).unwrap());
        let named = outcome.stage == Some(Stage::NotConnected);
        so(named && outcome.message.contains(&address), format_args!("{outcome:?}"))
    });
}

#[test]
fn throttled_means_no_request_before_its_time() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, QUICK);
    producer.send(&record(&0_u64.to_be_bytes(), 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, false, 0, 150).unwrap();
    for tag in 1..=4 {
        producer.send(&record(&u64::to_be_bytes(tag), tag)).unwrap();
        outcomes.wait_for(tag as usize + 1);
    }
    let times: Vec<_> =
        cluster.requests().iter().filter(|r| r.api_key == PRODUCE).map(|r| r.at).collect();
    let gaps: Vec<_> = times.windows(2).skip(1).map(|pair| pair[1].since(pair[0])).collect();
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(150)), "{gaps:?}");
}

#[test]
fn a_slow_broker_gets_several_requests_at_once() {
    let cluster = cluster(1, 8);
    let (producer, _) = producer(&cluster, QUICK);
    for partition in 0..8 {
        producer.send(&to(partition, b"x", partition as u64)).unwrap();
        producer.flush(LONG).unwrap();
    }
    cluster.set_broker(1, true, false, 300_000, 0).unwrap();
    // None is answered before the last one has come.
    for partition in 0..5 {
        let requests = cluster.request_count(1, PRODUCE);
        producer.send(&to(partition, b"x", 100 + partition as u64)).unwrap();
        eventually("it is sent", || cluster.request_count(1, PRODUCE) > requests);
    }
    cluster.answer_now(1).unwrap();
    producer.flush(LONG).unwrap();
}

#[test]
fn acks_0_is_done_when_it_is_written() {
    let cluster = cluster(1, 2);
    let (producer, outcomes) = producer(&cluster, &[QUICK, &[("acks", "0")]].concat());
    for tag in 0..2000_u64 {
        producer.send(&to((tag % 2) as i32, &tag.to_be_bytes(), tag)).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().len(), 2000);
    assert!(outcomes.get().values().all(|o| o.status == 0 && o.offset == -1));
    eventually("they arrive", || {
        cluster.end_offset("t", 0) == 1000 && cluster.end_offset("t", 1) == 1000
    });
    assert_order(&cluster, 2, &outcomes);
    let receipt = producer.send_sync(&to(0, b"x", 1), LONG).unwrap();
    assert_eq!(receipt.offset, -1);
    producer.close(LONG).1.unwrap();
    assert_settled(&producer);
}

/// CPU time of the threads of this name, in clock ticks (10 ms).
#[cfg(target_os = "linux")]
fn ticks(name: &str) -> u64 {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((head, rest)) = stat.rsplit_once(") ") else { continue };
        if head.ends_with(&format!("({name}")) {
            let fields: Vec<u64> = rest.split(' ').skip(11).take(2).flat_map(str::parse).collect();
            sum += fields.iter().sum::<u64>();
        }
    }
    sum
}

/// A process of its own would be quieter; other tests' threads count too, so the bound is wide. A
/// thread that spins takes all of the second.
#[test]
#[cfg(target_os = "linux")]
fn with_all_brokers_down_nothing_spins() {
    let cluster = cluster(3, 6);
    // As by default: nothing shortens the pauses.
    let (producer, _) = producer(&cluster, &[("linger.ms", "0"), ("client.id", "down")]);
    for tag in 0..6 {
        producer.send(&to(tag as i32, b"x", tag)).unwrap();
    }
    producer.flush(LONG).unwrap();
    for node in 1..=3 {
        cluster.set_broker(node, false, false, 0, 0).unwrap();
    }
    for tag in 6..12 {
        producer.send(&to(tag as i32 - 6, b"x", tag)).unwrap();
    }
    let before = ticks("kafka-network");
    let ((), time) = timed(|| let_pass(Duration::from_secs(2)));
    let used = Duration::from_millis((ticks("kafka-network") - before) * 10);
    assert!(used < time / 2, "{used:?} of CPU in {time:?}");
    let attempts = cluster.accepted_count(0);
    for node in 1..=3 {
        cluster.set_broker(node, true, false, 0, 0).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert!(cluster.accepted_count(0) > attempts);
    assert_settled(&producer);
}

/// Records that come after others expired have a deadline like any.
#[test]
fn a_frozen_broker_lets_later_records_expire_too() {
    let cluster = cluster(1, 1);
    let settings =
        [QUICK, &[("request.timeout.ms", "200"), ("delivery.timeout.ms", "400")]].concat();
    let (producer, outcomes) = producer(&cluster, &settings);
    producer.send(&record(&0_u64.to_be_bytes(), 0)).unwrap();
    producer.flush(LONG).unwrap();
    cluster.set_broker(1, true, true, 0, 0).unwrap();
    for tag in 1..4_u64 {
        producer.send(&record(&tag.to_be_bytes(), tag)).unwrap();
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.of(tag).status, status::DELIVERY_TIMED_OUT);
    }
    assert_settled(&producer);
}
