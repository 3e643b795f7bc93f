//! Sending to three brokers while everything goes wrong that a retry puts right.
#![expect(clippy::unwrap_used, reason = "a test may panic, in helpers too")]
#![allow(clippy::missing_panics_doc, reason = "a helper of tests panics")]

use super::produce::{LONG, PRODUCE, eventually, to};
use kafka_producer::mock::{CUT_AFTER_WRITE, MockCluster};
use kafka_producer::producer::Producer;

pub const PARTITIONS: i32 = 4;
pub const ROUNDS: u64 = 60;
pub const PER_ROUND: u64 = 200;

/// Sends while everything goes wrong that a retry puts right.
pub fn send_through_trouble(cluster: &MockCluster, producer: &Producer, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..ROUNDS {
        match rng.u32(0..6) {
            // The first ones are to be written: what is asked for before that is asked for once.
            _ if round == 0 => {}
            0 => cluster.push_errors(PRODUCE, &[6, 0, 7, 19]).unwrap(),
            1 => cluster.push_partition_errors("t", rng.i32(0..PARTITIONS), &[20, 5, 3]).unwrap(),
            2 => cluster.push_errors(PRODUCE, &[13]).unwrap(),
            3 => cluster.push_errors(PRODUCE, &[CUT_AFTER_WRITE]).unwrap(),
            4 => cluster.disconnect(rng.i32(1..=3)).unwrap(),
            _ => cluster.set_leader("t", rng.i32(0..PARTITIONS), rng.i32(1..=3)).unwrap(),
        }
        let requests = cluster.request_count(0, PRODUCE);
        for tag in round * PER_ROUND..(round + 1) * PER_ROUND {
            producer.send(&to((tag % 4) as i32, &tag.to_be_bytes(), tag)).unwrap();
        }
        // Wherever it is then: some trouble meets batches in flight, some an empty producer.
        if round == 0 {
            producer.flush(LONG).unwrap();
        } else if rng.bool() {
            eventually("a request", || cluster.request_count(0, PRODUCE) > requests);
        }
    }
}
