//! Idempotent producers, which is what they are by default: every record once and in order, through
//! refusals, cut connections, moving leaders and brokers that forget.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/produce.rs"]
mod produce;
#[path = "support/trouble.rs"]
mod trouble;

use kafka_producer::error::{MAYBE_PERSISTED, status};
use kafka_producer::mock::{CUT_AFTER_WRITE, LEFT_AFTER_WRITE, MockCluster, StoredBatch};
use kafka_producer::producer::Producer;
use kafka_producer::record::ProducerRecord;
use produce::{
    LONG, Outcomes, PRODUCE, assert_places, assert_settled, cluster, eventually, given_time,
    let_pass, logged, producer, so, timed, to,
};
use std::sync::Arc;
use std::time::Duration;
use trouble::{PARTITIONS, PER_ROUND, ROUNDS, send_through_trouble};

/// The API key of InitProducerId.
const INIT_PRODUCER_ID: i16 = 22;

const QUICK: &[(&str, &str)] = &[
    ("linger.ms", "0"),
    ("retry.backoff.ms", "5"),
    ("retry.backoff.max.ms", "20"),
    ("reconnect.backoff.ms", "5"),
    ("reconnect.backoff.max.ms", "20"),
];

fn send(producer: &Producer, partition: i32, tags: std::ops::Range<u64>) {
    for tag in tags {
        producer.send(&to(partition, &tag.to_be_bytes(), tag)).unwrap();
    }
}

/// Producer id, epoch and first sequence of each batch in the log.
fn identities(cluster: &MockCluster, partition: i32) -> Vec<(i64, i16, i32)> {
    let identity = |batch: &StoredBatch| {
        let header = batch.header;
        (header.producer_id, header.producer_epoch, header.base_sequence)
    };
    cluster.batches("t", partition).iter().map(identity).collect()
}

fn log(cluster: &MockCluster, partition: i32) -> Vec<u64> {
    logged(cluster, partition).concat()
}

#[test]
fn every_record_is_there_once_and_in_order_through_trouble() {
    let settings = [QUICK, &[("linger.ms", "1"), ("batch.size", "1000")]].concat();
    for seed in 1..=5 {
        let cluster = cluster(3, PARTITIONS);
        let (producer, outcomes) = producer(&cluster, &settings);
        send_through_trouble(&cluster, &producer, seed);
        producer.flush(LONG).unwrap();
        assert_settled(&producer);
        for partition in 0..PARTITIONS {
            let expected: Vec<u64> =
                (0..ROUNDS * PER_ROUND).filter(|tag| tag % 4 == partition as u64).collect();
            assert!(log(&cluster, partition) == expected, "seed {seed}, partition {partition}");
            let epochs = identities(&cluster, partition).iter().map(|id| id.1).max();
            assert_eq!(epochs, Some(0), "seed {seed}: nothing was lost, so nothing starts over");
        }
        assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
        assert_places(&cluster, &outcomes);
        assert_eq!(cluster.request_count(0, INIT_PRODUCER_ID), 1);
        assert_eq!(cluster.contradictions(), [""; 0], "seed {seed}");
        assert!(cluster.complaints().is_empty(), "{:?}", cluster.complaints());
    }
}

#[test]
fn s12_a_batch_whose_answer_was_lost_is_recognised() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, QUICK);
    cluster.push_errors(PRODUCE, &[0, CUT_AFTER_WRITE]).unwrap();
    for tag in 0..4 {
        send(&producer, 0, tag..tag + 1);
        producer.flush(LONG).unwrap();
    }
    assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
    assert_eq!(log(&cluster, 0), [0, 1, 2, 3]);
    assert_eq!(cluster.request_count(0, PRODUCE), 5, "the second was sent twice");
    assert_eq!(outcomes.of(1).offset, 1, "the broker remembers where it is");
    // A broker that remembers only that it has it.
    cluster.push_errors(PRODUCE, &[46]).unwrap();
    send(&producer, 0, 4..5);
    producer.flush(LONG).unwrap();
    let outcome = outcomes.of(4);
    assert_eq!((outcome.status, outcome.offset), (status::OK, -1));
}

#[test]
fn s17_retried_bytes_are_identical() {
    let settings = [QUICK, &[("linger.ms", "3"), ("batch.size", "300")]].concat();
    let cluster = cluster(1, 1);
    let (producer, outcomes) = producer(&cluster, &settings);
    for round in 0..40 {
        let codes = [CUT_AFTER_WRITE, 19, 7, 13, 20];
        cluster.push_errors(PRODUCE, &codes[..1 + round as usize % 5]).unwrap();
        // More comes while the batch waits to be sent again.
        send(&producer, 0, round * 20..round * 20 + 20);
    }
    producer.flush(LONG).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
    assert_eq!(cluster.contradictions(), [""; 0]);
    let batches = cluster.batches("t", 0).len() as u64;
    assert!(cluster.request_count(0, PRODUCE) > batches, "some were sent again");
    assert!(log(&cluster, 0).is_sorted());
}

#[test]
fn s23_what_may_pass_is_asked_again_for_a_producer_id() {
    let cluster = cluster(3, 1);
    cluster.push_errors(INIT_PRODUCER_ID, &[13, 7, 51, 14, 15, CUT_AFTER_WRITE]).unwrap();
    let (producer, outcomes) = producer(&cluster, QUICK);
    send(&producer, 0, 0..10);
    producer.flush(LONG).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
    assert_eq!(log(&cluster, 0), (0..10).collect::<Vec<_>>());
    assert_eq!(cluster.request_count(0, INIT_PRODUCER_ID), 7);
}

#[test]
fn s23_records_that_wait_for_an_id_in_vain_say_so() {
    given_time(300, |ms| {
        let cluster = cluster(1, 1);
        cluster.push_errors(INIT_PRODUCER_ID, &[51; 10_000]).unwrap();
        let (producer, outcomes) = short_lived(&cluster, QUICK, ms);
        send(&producer, 0, 0..1);
        producer.flush(LONG).unwrap();
        let outcome = outcomes.of(0);
        assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT);
        assert_eq!(outcome.flags & MAYBE_PERSISTED, 0);
        let limit = format!("delivery.timeout.ms={ms}");
        for word in [&limit, "producer id", "CONCURRENT_TRANSACTIONS"] {
            so(outcome.message.contains(word), &outcome.message)?;
        }
        Ok(())
    });
}

#[test]
fn s24_a_refused_id_fails_records_at_once_and_the_next_ones_ask_again() {
    for (code, word) in [(90, "PRODUCER_FENCED"), (31, "IDEMPOTENT_WRITE")] {
        let cluster = cluster(1, 1);
        // The first may come before the first record does.
        cluster.push_errors(INIT_PRODUCER_ID, &[code; 5]).unwrap();
        let (producer, outcomes) = producer(&cluster, QUICK);
        send(&producer, 0, 0..3);
        producer.flush(LONG).unwrap();
        let outcome = outcomes.of(0);
        assert_eq!(outcome.status, i32::from(code));
        assert_eq!(outcome.flags & MAYBE_PERSISTED, 0);
        for word in [word, "enable.idempotence=false"] {
            assert!(outcome.message.contains(word), "{}", outcome.message);
        }
        // Rights can be granted.
        let mut tag = 3;
        eventually("another id", || {
            send(&producer, 0, tag..tag + 1);
            producer.flush(LONG).unwrap();
            tag += 1;
            outcomes.of(tag - 1).status == status::OK
        });
        assert_eq!(cluster.request_count(0, INIT_PRODUCER_ID), 6, "without a storm");
        assert_settled(&producer);
    }
}

#[test]
fn brokers_without_producer_ids_are_named_with_the_remedy() {
    let cluster = cluster(1, 1);
    cluster.with(|cluster| cluster.set_api_versions(INIT_PRODUCER_ID, 0, -1)).unwrap();
    let (refused, outcomes) = producer(&cluster, QUICK);
    send(&refused, 0, 0..1);
    refused.flush(LONG).unwrap();
    assert_eq!(outcomes.of(0).status, status::UNSUPPORTED);
    assert!(outcomes.of(0).message.contains("enable.idempotence=false"));
    let settings = [QUICK, &[("enable.idempotence", "false")]].concat();
    let (without, outcomes) = producer(&cluster, &settings);
    send(&without, 0, 0..1);
    without.flush(LONG).unwrap();
    assert_eq!(outcomes.of(0).status, status::OK);
    assert_eq!(identities(&cluster, 0), [(-1, -1, -1)]);
}

/// Lets what is sent meanwhile be in flight together: broker 1 answers after so many milliseconds.
fn slow(cluster: &MockCluster, latency_ms: i32) {
    cluster.set_broker(1, true, false, latency_ms, 0).unwrap();
}

/// A batch per record.
const SINGLE: &[(&str, &str)] = &[
    ("linger.ms", "0"),
    ("batch.size", "0"),
    ("retry.backoff.ms", "5"),
    ("retry.backoff.max.ms", "20"),
    ("reconnect.backoff.ms", "5"),
    ("reconnect.backoff.max.ms", "20"),
];

/// A producer whose first record is in the log: the leader knows it.
fn known(cluster: &MockCluster, settings: &[(&str, &str)]) -> (Producer, Arc<Outcomes>) {
    let (producer, outcomes) = producer(cluster, settings);
    send(&producer, 0, 0..1);
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.of(0).status, status::OK);
    (producer, outcomes)
}

/// A producer whose records live for so long, and its requests for half of that.
fn short_lived(
    cluster: &MockCluster,
    settings: &[(&str, &str)],
    ms: u32,
) -> (Producer, Arc<Outcomes>) {
    let (delivery, request) = (ms.to_string(), (ms / 2).to_string());
    let times = [("delivery.timeout.ms", &*delivery), ("request.timeout.ms", &request)];
    producer(cluster, &[settings, &times].concat())
}

/// Both; for [`given_time`].
fn short_lived_and_known(
    cluster: &MockCluster,
    ms: u32,
) -> Result<(Producer, Arc<Outcomes>), String> {
    let (producer, outcomes) = short_lived(cluster, SINGLE, ms);
    send(&producer, 0, 0..1);
    producer.flush(LONG).unwrap();
    so(outcomes.of(0).status == status::OK, "the first one expired")?;
    so(log(cluster, 0) == [0], "the first one was sent twice")?;
    Ok((producer, outcomes))
}

/// Waits until broker 1 has had so many Produce requests more than before, and maybe others, none
/// of which it has answered yet; then it answers them, and all that come.
fn answer_after(cluster: &MockCluster, before: u64, requests: u64) {
    eventually("they are in flight", || cluster.request_count(1, PRODUCE) >= before + requests);
    slow(cluster, 0);
    cluster.answer_now(1).unwrap();
}

/// Longer than a test.
const UNANSWERED: i32 = 300_000;

#[test]
fn five_batches_of_a_partition_are_in_flight() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = known(&cluster, SINGLE);
    let before = cluster.requests().len();
    slow(&cluster, UNANSWERED);
    send(&producer, 0, 1..12);
    // A question about the cluster counts like any.
    let sent = || cluster.requests().len() - before;
    eventually("five requests", || sent() >= 5);
    let_pass(Duration::from_millis(50));
    assert!(outcomes.get().len() == 1 && sent() == 5, "five, and then they are waited for");
    answer_after(&cluster, 1, 3);
    producer.flush(LONG).unwrap();
    assert_eq!(log(&cluster, 0), (0..12).collect::<Vec<_>>());
    assert_eq!(identities(&cluster, 0)[11], (1000, 0, 11));
}

#[test]
fn s13_when_the_first_of_five_is_refused_the_rest_wait_for_it() {
    for code in [6, 19, 20, 7, 3, 56] {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = known(&cluster, SINGLE);
        slow(&cluster, UNANSWERED);
        cluster.push_partition_errors("t", 0, &[code]).unwrap();
        send(&producer, 0, 1..9);
        answer_after(&cluster, 1, 3);
        producer.flush(LONG).unwrap();
        assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK), "{code}");
        assert_eq!(log(&cluster, 0), (0..9).collect::<Vec<_>>(), "{code}");
        assert!(identities(&cluster, 0).iter().all(|id| id.1 == 0), "{code}: no other epoch");
    }
}

#[test]
fn s16_and_s25_only_the_partition_that_lost_something_starts_over() {
    let cluster = cluster(1, 2);
    let (producer, outcomes) = known(&cluster, SINGLE);
    send(&producer, 1, 100..103);
    producer.flush(LONG).unwrap();
    // For good: the record is not in the log, its number is missing.
    cluster.push_partition_errors("t", 0, &[29]).unwrap();
    let before = cluster.request_count(1, PRODUCE);
    slow(&cluster, UNANSWERED);
    send(&producer, 0, 1..6);
    eventually("some are sent", || cluster.request_count(1, PRODUCE) >= before + 3);
    send(&producer, 1, 103..106);
    answer_after(&cluster, before, 3);
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.of(1).status, 29);
    assert_eq!(outcomes.of(1).flags & MAYBE_PERSISTED, 0);
    assert_eq!(log(&cluster, 0), [0, 2, 3, 4, 5]);
    assert_eq!(log(&cluster, 1), (100..106).collect::<Vec<_>>());
    let epochs = |partition| -> Vec<(i16, i32)> {
        identities(&cluster, partition).iter().map(|id| (id.1, id.2)).collect()
    };
    assert_eq!(epochs(0), [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3)]);
    assert_eq!(epochs(1), [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]);
    assert_eq!(cluster.request_count(0, INIT_PRODUCER_ID), 1);
}

#[test]
fn s18_a_refusal_waits_for_those_in_front_of_it() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = known(&cluster, SINGLE);
    slow(&cluster, UNANSWERED);
    // The first is written, and its answer says that it may be; the second is refused for good.
    cluster.push_partition_errors("t", 0, &[20, 29]).unwrap();
    send(&producer, 0, 1..6);
    answer_after(&cluster, 1, 3);
    producer.flush(LONG).unwrap();
    assert_eq!((outcomes.of(1).status, outcomes.of(2).status), (status::OK, 29));
    assert_eq!(log(&cluster, 0), [0, 1, 3, 4, 5], "the first is there once");
    let epochs: Vec<_> = identities(&cluster, 0).iter().map(|id| (id.1, id.2)).collect();
    assert_eq!(epochs, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]);
}

#[test]
fn s22_a_broker_that_has_forgotten_the_producer_takes_it_again() {
    // Brokers since 2.5 take whatever comes; older ones say that they do not know it.
    for code in [0, 59, 45] {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = known(&cluster, SINGLE);
        match code {
            0 => cluster.forget_producers(),
            code => cluster.push_partition_errors("t", 0, &[code]).unwrap(),
        }
        send(&producer, 0, 1..8);
        producer.flush(LONG).unwrap();
        assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK), "{code}");
        assert_eq!(log(&cluster, 0), (0..8).collect::<Vec<_>>(), "{code}");
        let last = identities(&cluster, 0).last().map(|id| id.1);
        assert_eq!(last, Some(i16::from(code != 0)), "{code}");
    }
}

#[test]
fn what_may_be_written_and_is_forgotten_is_not_sent_as_something_else() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = known(&cluster, SINGLE);
    // Written, unanswered; and then the broker does not know what came before.
    cluster.push_errors(PRODUCE, &[CUT_AFTER_WRITE, 59]).unwrap();
    send(&producer, 0, 1..2);
    producer.flush(LONG).unwrap();
    let outcome = outcomes.of(1);
    assert_eq!(outcome.status, i32::from(45_i16), "{outcome:?}");
    assert_ne!(outcome.flags & MAYBE_PERSISTED, 0, "{outcome:?}");
    assert!(outcome.message.contains("UNKNOWN_PRODUCER_ID"), "{outcome:?}");
    send(&producer, 0, 2..5);
    producer.flush(LONG).unwrap();
    assert_eq!(log(&cluster, 0), [0, 1, 2, 3, 4]);
    assert_eq!(identities(&cluster, 0).last().map(|id| (id.1, id.2)), Some((1, 2)));
}

/// Like a wrong leader's word but for the offset in it: the next leader may have the batch.
#[test]
fn what_a_leader_wrote_and_left_is_not_called_refused() {
    given_time(500, |ms| {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = short_lived_and_known(&cluster, ms)?;
        let mut codes = vec![LEFT_AFTER_WRITE];
        codes.extend([6; 2000]);
        cluster.push_partition_errors("t", 0, &codes).unwrap();
        send(&producer, 0, 1..2);
        producer.flush(LONG).unwrap();
        let outcome = outcomes.of(1);
        assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT, "{outcome:?}");
        so(log(&cluster, 0) == [0, 1], "it expired before it was written")?;
        assert_ne!(outcome.flags & MAYBE_PERSISTED, 0, "{outcome:?}");
        Ok(())
    });
}

#[test]
fn what_a_leader_wrote_and_left_is_not_sent_as_something_else() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = known(&cluster, SINGLE);
    // The next leader has forgotten what came before; then one that has not.
    cluster.push_partition_errors("t", 0, &[LEFT_AFTER_WRITE, 59, 0, LEFT_AFTER_WRITE]).unwrap();
    for tag in 1..4 {
        send(&producer, 0, tag..tag + 1);
        producer.flush(LONG).unwrap();
    }
    let outcome = outcomes.of(1);
    assert_ne!(outcome.flags & MAYBE_PERSISTED, 0, "{outcome:?}");
    assert_eq!(outcomes.of(2).status, status::OK);
    assert_eq!(outcomes.of(3).status, status::OK);
    assert_eq!(log(&cluster, 0), [0, 1, 2, 3]);
}

#[test]
fn a_later_epoch_of_somebody_else_s_costs_another_producer_id() {
    for code in [47, 90, 49] {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = known(&cluster, SINGLE);
        cluster.push_partition_errors("t", 0, &[code]).unwrap();
        slow(&cluster, UNANSWERED);
        send(&producer, 0, 1..8);
        answer_after(&cluster, 1, 3);
        producer.flush(LONG).unwrap();
        assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK), "{code}");
        assert_eq!(log(&cluster, 0), (0..8).collect::<Vec<_>>(), "{code}");
        assert_eq!(identities(&cluster, 0).last().map(|id| (id.0, id.1)), Some((1001, 0)));
        assert_eq!(cluster.request_count(0, INIT_PRODUCER_ID), 2);
    }
}

#[test]
fn s15_a_topic_that_vanishes_and_returns_keeps_its_sequences() {
    let cluster = cluster(2, 1);
    let (producer, outcomes) = known(&cluster, QUICK);
    send(&producer, 0, 1..4);
    producer.flush(LONG).unwrap();
    // A broker that is starting does not know it.
    cluster.push_errors(PRODUCE, &[3, 3]).unwrap();
    cluster.push_errors(produce::METADATA, &[3, 3, 3]).unwrap();
    send(&producer, 0, 4..8);
    producer.flush(LONG).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
    assert_eq!(log(&cluster, 0), (0..8).collect::<Vec<_>>());
    assert!(identities(&cluster, 0).iter().all(|id| id.1 == 0), "one epoch, no number twice");
}

#[test]
fn a_topic_that_is_created_again_starts_over() {
    let cluster = cluster(1, 1);
    let (producer, outcomes) = known(&cluster, QUICK);
    send(&producer, 0, 1..4);
    producer.flush(LONG).unwrap();
    cluster.with(|cluster| {
        cluster.delete_topic("t").unwrap();
        cluster.create_topic("t", Some(1)).unwrap();
    });
    send(&producer, 0, 4..8);
    producer.flush(LONG).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
    assert_eq!(log(&cluster, 0), (4..8).collect::<Vec<_>>());
    assert_eq!(identities(&cluster, 0)[0].2, 0, "from 0 in the new log");
}

#[test]
fn s26_nothing_goes_without_a_sequence_while_others_are_sent_again() {
    let cluster = cluster(1, 1);
    let (producer, _) = known(&cluster, SINGLE);
    for round in 0..10_u64 {
        cluster.push_errors(PRODUCE, &[CUT_AFTER_WRITE]).unwrap();
        send(&producer, 0, 1 + round * 5..1 + round * 5 + 5);
    }
    producer.flush(LONG).unwrap();
    let bases: Vec<i32> = identities(&cluster, 0).iter().map(|id| id.2).collect();
    assert_eq!(bases, (0..51).collect::<Vec<_>>(), "each has its own");
    assert_eq!(log(&cluster, 0), (0..51).collect::<Vec<_>>());
}

#[test]
fn s11_what_times_out_in_the_middle_costs_nobody_else_a_duplicate() {
    given_time(700, |ms| {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = short_lived_and_known(&cluster, ms)?;
        send(&producer, 0, 1..2);
        outcomes.wait_for(2);
        cluster.set_broker(1, true, true, 0, 0).unwrap();
        send(&producer, 0, 2..3);
        // Half of its time; then the others, which outlive it.
        let_pass(Duration::from_millis((ms / 2).into()));
        send(&producer, 0, 3..5);
        outcomes.wait_for(3);
        let first = outcomes.of(2);
        assert_eq!(first.status, status::DELIVERY_TIMED_OUT);
        so(first.flags & MAYBE_PERSISTED != 0, format_args!("it was not sent: {first:?}"))?;
        cluster.set_broker(1, true, false, 0, 0).unwrap();
        producer.flush(LONG).unwrap();
        send(&producer, 0, 5..8);
        producer.flush(LONG).unwrap();
        let there = log(&cluster, 0);
        assert!(there.windows(2).all(|pair| pair[0] < pair[1]), "once and in order: {there:?}");
        for tag in 0..8 {
            let outcome = outcomes.of(tag);
            let told = outcome.status != status::OK && outcome.flags & MAYBE_PERSISTED != 0;
            assert!(told || there.contains(&tag) == (outcome.status == status::OK), "{outcome:?}");
        }
        assert_settled(&producer);
        for tag in [0, 1, 5, 6, 7] {
            so(outcomes.of(tag).status == status::OK, format_args!("{:?}", outcomes.of(tag)))?;
        }
        Ok(())
    });
}

#[test]
fn s19_what_is_written_and_then_expires_takes_no_later_record_with_it() {
    given_time(300, |ms| {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = short_lived_and_known(&cluster, ms)?;
        cluster.push_partition_errors("t", 0, &[7; 1000]).unwrap();
        send(&producer, 0, 1..2);
        outcomes.wait_for(2);
        let outcome = outcomes.of(1);
        assert_eq!(outcome.status, status::DELIVERY_TIMED_OUT, "{outcome:?}");
        so(log(&cluster, 0) == [0, 1], "it expired before it was written")?;
        assert_ne!(outcome.flags & MAYBE_PERSISTED, 0, "{outcome:?}");
        cluster.with(|cluster| cluster.clear_partition_errors("t", 0)).unwrap();
        send(&producer, 0, 2..6);
        producer.flush(LONG).unwrap();
        for tag in 2..6 {
            so(outcomes.of(tag).status == status::OK, format_args!("{:?}", outcomes.of(tag)))?;
        }
        assert_eq!(log(&cluster, 0), [0, 1, 2, 3, 4, 5]);
        // Its number may be taken: the next ones are of another epoch.
        let epochs: Vec<_> = identities(&cluster, 0).iter().map(|id| (id.1, id.2)).collect();
        assert_eq!(epochs[2..], [(1, 0), (1, 1), (1, 2), (1, 3)]);
        Ok(())
    });
}

#[test]
fn s21_after_the_last_epoch_there_is_another_producer_id() {
    let cluster = cluster(1, 2);
    cluster.with(|cluster| cluster.set_next_epoch(i16::MAX - 1));
    let (producer, outcomes) = known(&cluster, SINGLE);
    for tag in 1..4 {
        // Each costs an epoch.
        cluster.push_partition_errors("t", 0, &[29]).unwrap();
        send(&producer, 0, 2 * tag..2 * tag + 2);
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.of(2 * tag).status, 29);
        assert_eq!(outcomes.of(2 * tag + 1).status, status::OK);
    }
    let ids: Vec<_> = identities(&cluster, 0).iter().map(|id| (id.0, id.1)).collect();
    let max = i16::MAX;
    assert_eq!(ids, [(1000, max - 1), (1000, max), (1001, 0), (1001, 1)]);
    assert_eq!(log(&cluster, 0), [0, 3, 5, 7]);
}

#[test]
fn a_partition_that_always_starts_over_leaves_the_others_alone() {
    given_time(1500, |ms| {
        let cluster = cluster(1, 4);
        let (producer, outcomes) = short_lived_and_known(&cluster, ms)?;
        cluster.push_partition_errors("t", 0, &[59; 100_000]).unwrap();
        send(&producer, 0, 1..20);
        for tag in 100..400 {
            send(&producer, 1 + tag as i32 % 3, tag..tag + 1);
        }
        // What is poisoned lives as long as it may.
        outcomes.wait_for(301);
        let others = (100..400).all(|tag| {
            outcomes.get().get(&tag).is_some_and(|outcome| outcome.status == status::OK)
        });
        so(others, "some of the others expired")?;
        let poisoned = (1..20).all(|tag| !outcomes.get().contains_key(&tag));
        so(poisoned, "what is poisoned expired before the others were sent")?;
        for partition in 1..4 {
            assert!(identities(&cluster, partition).iter().all(|id| (id.0, id.1) == (1000, 0)));
            assert!(log(&cluster, partition).is_sorted());
        }
        let before = cluster.request_count(0, PRODUCE);
        let ((), took) = timed(|| outcomes.wait_for(320));
        let again = cluster.request_count(0, PRODUCE) - before;
        assert!(u128::from(again) < 100 + took.as_millis() / 5, "{again} in {took:?}: no pauses");
        for tag in 1..20 {
            let outcome = outcomes.of(tag);
            let expected = (status::DELIVERY_TIMED_OUT, 0);
            assert_eq!((outcome.status, outcome.flags & MAYBE_PERSISTED), expected, "{outcome:?}");
        }
        // Not fatal.
        cluster.with(|cluster| cluster.clear_partition_errors("t", 0)).unwrap();
        send(&producer, 0, 20..23);
        producer.flush(LONG).unwrap();
        assert_settled(&producer);
        so(log(&cluster, 0) == [0, 20, 21, 22], "the last ones expired")
    });
}

#[test]
fn leaders_that_move_take_the_sequence_with_them() {
    let cluster = cluster(3, 1);
    let (producer, outcomes) = known(&cluster, SINGLE);
    for node in 1..=3 {
        cluster.set_broker(node, true, false, 15, 0).unwrap();
    }
    for round in 0..12_u64 {
        send(&producer, 0, 1 + round * 6..7 + round * 6);
        cluster.set_leader("t", 0, 1 + round as i32 % 3).unwrap();
    }
    producer.flush(LONG).unwrap();
    assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
    assert_eq!(log(&cluster, 0), (0..73).collect::<Vec<_>>());
    let ids = identities(&cluster, 0);
    assert!(ids.iter().zip(0..).all(|(id, base)| *id == (1000, 0, base)), "{ids:?}");
}

#[test]
fn throttling_pauses_a_node_and_fails_nothing() {
    given_time(600, |throttle_ms| {
        let request = (throttle_ms / 3 * 2).to_string();
        let settings = [SINGLE, &[("request.timeout.ms", &*request)]];
        let cluster = cluster(1, 1);
        let (producer, outcomes) = known(&cluster, &settings.concat());
        cluster.set_broker(1, true, false, 0, throttle_ms as i32).unwrap();
        send(&producer, 0, 1..2);
        outcomes.wait_for(2);
        // Longer than a request may take: the time throttled is not the request's.
        send(&producer, 0, 2..4);
        outcomes.wait_for(4);
        assert!(outcomes.get().values().all(|outcome| outcome.status == status::OK));
        let connections = cluster.accepted_count(1);
        so(connections == 2, format_args!("not bootstrap and broker: {connections}"))?;
        let requests = cluster.requests();
        let produces = requests.iter().filter(|request| request.api_key == PRODUCE);
        let times: Vec<_> = produces.map(|request| request.at).skip(1).take(2).collect();
        let pause = times[1].since(times[0]);
        assert!(pause >= Duration::from_millis(throttle_ms.into()), "{pause:?}");
        Ok(())
    });
}

#[test]
fn what_expires_before_it_could_be_written_costs_an_epoch_and_no_question() {
    given_time(300, |ms| {
        let cluster = cluster(1, 1);
        let (producer, outcomes) = short_lived_and_known(&cluster, ms)?;
        // Refused each time: it is in no log, and its number never will be.
        cluster.push_partition_errors("t", 0, &[19; 1000]).unwrap();
        send(&producer, 0, 1..2);
        outcomes.wait_for(2);
        let refused = outcomes.of(1);
        assert_eq!(refused.status, status::DELIVERY_TIMED_OUT);
        let known = refused.attempts > 0 && refused.flags & MAYBE_PERSISTED == 0;
        so(known, format_args!("not sent, or not answered: {refused:?}"))?;
        cluster.with(|cluster| cluster.clear_partition_errors("t", 0)).unwrap();
        let requests = cluster.request_count(0, PRODUCE);
        send(&producer, 0, 2..3);
        producer.flush(LONG).unwrap();
        so(outcomes.of(2).status == status::OK, format_args!("{:?}", outcomes.of(2)))?;
        assert_eq!(cluster.request_count(0, PRODUCE), requests + 1, "not refused first");
        assert_eq!(identities(&cluster, 0).last().map(|id| (id.1, id.2)), Some((1, 0)));
        Ok(())
    });
}

#[test]
fn what_expires_in_flight_and_is_written_after_all_costs_nothing() {
    given_time(150, |timeout_ms| {
        let cluster = cluster(1, 2);
        let (producer, outcomes) = known(&cluster, SINGLE);
        slow(&cluster, UNANSWERED);
        let value = 1_u64.to_be_bytes();
        producer.send(&ProducerRecord { timeout_ms, ..to(0, &value, 1) }).unwrap();
        outcomes.wait_for(2);
        let expired = outcomes.of(1);
        assert_eq!(expired.status, status::DELIVERY_TIMED_OUT);
        so(expired.flags & MAYBE_PERSISTED != 0, format_args!("it was not sent: {expired:?}"))?;
        answer_after(&cluster, 1, 1);
        // Answers come in order: when this one is there, so is that.
        send(&producer, 1, 100..101);
        outcomes.wait_for(3);
        send(&producer, 0, 2..6);
        producer.flush(LONG).unwrap();
        assert_eq!(log(&cluster, 0), [0, 1, 2, 3, 4, 5]);
        assert!((2..6).all(|tag| outcomes.of(tag).status == status::OK));
        assert!(identities(&cluster, 0).iter().all(|id| id.1 == 0), "no number is missing");
        Ok(())
    });
}
