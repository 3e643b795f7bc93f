//! Many records in one call, and records without a key: which of them are taken, where they go.
#![cfg(feature = "mock")]

#[path = "support/produce.rs"]
mod produce;

use kafka_producer::error::{Error, status};
use kafka_producer::producer::Timeout;
use kafka_producer::record::ProducerRecord;
use produce::{LONG, assert_places, assert_settled, cluster, logged, producer, record, to};

/// Runs of every length, from alternating partitions to more than one lock is held for.
#[test]
fn each_partition_keeps_the_order_of_its_records_in_a_call() {
    const PARTITIONS: i32 = 3;
    let cluster = cluster(1, PARTITIONS);
    let (producer, outcomes) = producer(&cluster, &[("batch.size", "2000")]);
    let values: Vec<[u8; 8]> = (0..3000_u64).map(u64::to_be_bytes).collect();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut wanted = vec![Vec::new(); PARTITIONS as usize];
    let mut records = Vec::new();
    while records.len() < values.len() {
        let partition = rng.i32(0..PARTITIONS);
        for _ in 0..rng.usize(1..150).min(values.len() - records.len()) {
            let tag = records.len() as u64;
            wanted[partition as usize].push(tag);
            records.push(to(partition, &values[tag as usize], tag));
        }
    }
    for call in records.chunks(700) {
        let (accepted, result) = producer.send_batch(call.iter().map(|r| Ok(*r)), Timeout::Default);
        assert_eq!((accepted, result), (call.len(), Ok(())));
    }
    producer.flush(LONG).unwrap();
    for (partition, wanted) in (0..).zip(wanted) {
        assert_eq!(logged(&cluster, partition).concat(), wanted, "partition {partition}");
    }
    assert_places(&cluster, &outcomes);
    assert_settled(&producer);
}

/// The first record that is refused ends the call, wherever in a run it stands.
#[test]
fn what_stands_before_a_bad_record_is_taken_and_nothing_behind_it() {
    let cluster = cluster(1, 2);
    cluster.create_topic("u", 2).unwrap();
    let (producer, outcomes) = producer(&cluster, &[]);
    let value = [0; 8];
    let bad = || Err(Error::new(status::INVALID_ARGUMENT, "records[n] is bad"));
    let absent = |tag| Ok(to(7, &value, tag));
    let elsewhere = |tag| Ok(ProducerRecord { topic: "u", ..to(1, &value, tag) });
    let mut next_tag = 0;
    let mut taken = Vec::new();
    for good in [0, 1, 2, 63, 64, 65, 130] {
        for kind in 0..3 {
            let tags = next_tag..next_tag + good;
            next_tag += good + 2;
            let mut records: Vec<_> = tags.clone().map(|tag| Ok(to(1, &value, tag))).collect();
            records.push(match kind {
                0 => bad(),
                1 => absent(tags.end),
                _ => elsewhere(tags.end),
            });
            records.push(Ok(to(1, &value, tags.end + 1)));
            let (accepted, result) = producer.send_batch(records.into_iter(), Timeout::Default);
            taken.extend(tags.clone());
            if kind == 2 {
                taken.extend([tags.end, tags.end + 1]);
                assert_eq!((accepted as u64, result), (good + 2, Ok(())));
            } else {
                assert_eq!(accepted as u64, good);
                assert_eq!(result.unwrap_err().status, status::INVALID_ARGUMENT);
            }
        }
    }
    producer.flush(LONG).unwrap();
    assert_eq!(outcomes.get().keys().copied().collect::<Vec<_>>(), taken);
    assert_eq!(cluster.records("u", 1).len(), 7, "one per length, among others of partition 1");
    assert_settled(&producer);
}

/// The sticky partition changes between two batches, not in the middle of one.
#[test]
fn records_without_key_leave_only_full_batches_behind() {
    const PARTITIONS: i32 = 4;
    let cluster = cluster(1, PARTITIONS);
    let settings =
        [("batch.size", "1000"), ("linger.ms", "60000"), ("delivery.timeout.ms", "120000")];
    for batched in [false, true] {
        let (producer, outcomes) = producer(&cluster, &settings);
        let value = [7; 90];
        let records = (0..500).map(|tag| Ok(record(&value, tag)));
        if batched {
            let (accepted, result) = producer.send_batch(records, Timeout::Default);
            assert_eq!((accepted, result), (500, Ok(())));
        } else {
            records.for_each(|r| producer.send(&r.unwrap()).unwrap());
        }
        producer.flush(LONG).unwrap();
        assert_eq!(outcomes.get().len(), 500);
        // 9 records of 99 bytes and the header: the tenth would exceed 1000.
        let batches = (0..PARTITIONS).flat_map(|partition| cluster.batches("t", partition));
        let partial = batches.filter(|batch| batch.header.record_count < 9).count();
        assert!(partial <= 1 + usize::from(batched), "{partial} batches were cut short");
        assert_settled(&producer);
    }
}
