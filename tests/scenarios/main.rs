//! Faults that have broken producers before, one test each, named after its number in the list of
//! tests/README.md, which also says what other tests show. Sockets, the embedded cluster, and the
//! fault proxy where the network is what fails.
#![cfg(feature = "mock")]
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]

mod lifetime;
mod metadata;
mod ordering;
#[path = "../support/produce.rs"]
mod produce;
#[path = "../support/proxied.rs"]
mod proxied;
#[path = "../support/proxy.rs"]
mod proxy;
mod time;
mod transport;
mod untrue;

use kafka_producer::delivery::{Delivery, DeliverySink};
use kafka_producer::mock::MockCluster;
use kafka_producer::record::ProducerRecord;
use produce::{Gate, Outcomes};
use std::sync::atomic::{AtomicBool, Ordering};

/// Retries and connections without pauses that matter.
const QUICK: &[(&str, &str)] = &produce::quick("10");

/// Takes nothing until it may.
#[derive(Default)]
struct Gated {
    gate: Gate,
    outcomes: Outcomes,
}

impl DeliverySink for Gated {
    fn deliver(&self, deliveries: &[Delivery]) {
        self.gate.pass();
        self.outcomes.take(deliveries);
    }
}

/// The same record for another topic.
fn of<'a>(topic: &'a str, record: ProducerRecord<'a>) -> ProducerRecord<'a> {
    ProducerRecord { topic, ..record }
}

/// Sets a flag when it is dropped, by a panic too: threads that run until then end with the test.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A value that says whose it is: tag, partition, topic, filler, and a sum over all of it.
fn labelled(topic: &str, partition: i32, tag: u64, size: usize) -> Vec<u8> {
    let mut value = tag.to_be_bytes().to_vec();
    value.extend(partition.to_be_bytes());
    value.extend(topic.as_bytes());
    value.push(0);
    value.resize(size.max(value.len()), tag as u8);
    value.extend(checksum(&value).to_be_bytes());
    value
}

/// Each record of a topic's logs is whole and lies where it was sent to. Gives the tags.
fn assert_intact(cluster: &MockCluster, topic: &str) -> Vec<u64> {
    let mut tags = Vec::new();
    for partition in 0..cluster.partition_count(topic).unwrap() as i32 {
        for read in cluster.records(topic, partition) {
            let value = read.value.unwrap();
            let (body, sum) = value.split_at(value.len() - 8);
            assert_eq!(checksum(body).to_be_bytes(), sum, "{topic}-{partition}: torn");
            let tag = u64::from_be_bytes(body[..8].try_into().unwrap());
            let label = labelled(topic, partition, tag, body.len());
            assert_eq!(label, value, "{topic}-{partition}: a record of another partition");
            tags.push(tag);
        }
    }
    tags
}
