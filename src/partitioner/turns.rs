//! Partitioners that look at no key and keep nothing together: each record to the next partition
//! with a leader, or to any.
//!
//! A record is asked about once, whatever happens to it then; Kafka's own took two steps for one
//! where a record opened a batch, and so left out every second partition (KAFKA-9965). Any number
//! of threads, no lock: a counter per topic, mixed where chance is wanted.

use crate::metadata::TopicMetadata;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a topic's records take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The next one.
    RoundRobin,
    /// Any.
    Random,
}

/// A topic's turns so far.
#[derive(Debug)]
pub struct Turns {
    taken: AtomicU64,
    seed: u64,
}

impl Turns {
    /// None so far; chance starts with `seed`.
    pub fn new(seed: u64) -> Turns {
        Turns { taken: AtomicU64::new(0), seed }
    }

    /// The next record's partition: one with a leader, if any has one. `topic` has at least one.
    pub fn take(&self, turn: Turn, topic: &TopicMetadata) -> i32 {
        let turns = self.taken.fetch_add(1, Ordering::Relaxed);
        let number = match turn {
            Turn::RoundRobin => turns,
            Turn::Random => mix(self.seed, turns),
        };
        topic.candidate(number)
    }
}

/// The number of this place in a sequence (SplitMix64).
fn mix(seed: u64, place: u64) -> u64 {
    let z = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitioner::testing::topic;

    fn run(turn: Turn, topic: &TopicMetadata, records: usize) -> Vec<i32> {
        let turns = Turns::new(7);
        (0..records).map(|_| turns.take(turn, topic)).collect()
    }

    #[test]
    fn round_robin_leaves_nobody_out() {
        assert_eq!(run(Turn::RoundRobin, &topic(&[1, 2, 3]), 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(run(Turn::RoundRobin, &topic(&[1, 2, 3, 4]), 6), [0, 1, 2, 3, 0, 1]);
    }

    #[test]
    fn partitions_without_a_leader_are_passed_over() {
        let some = topic(&[-1, 2, -1, 3]);
        assert_eq!(run(Turn::RoundRobin, &some, 5), [1, 3, 1, 3, 1]);
        assert!(run(Turn::Random, &some, 100).iter().all(|partition| [1, 3].contains(partition)));
        let none = topic(&[-1, -1, -1]);
        assert_eq!(run(Turn::RoundRobin, &none, 4), [0, 1, 2, 0]);
    }

    #[test]
    fn chance_is_even_and_without_pattern() {
        let mut seen = [[0_u32; 5]; 5];
        let drawn = run(Turn::Random, &topic(&[1; 5]), 50_000);
        for pair in drawn.windows(2) {
            seen[pair[0] as usize][pair[1] as usize] += 1;
        }
        let (least, most) = (seen.iter().flatten().min(), seen.iter().flatten().max());
        assert!(*least.unwrap() > 1800 && *most.unwrap() < 2200, "{seen:?}");
    }

    #[test]
    fn threads_share_the_turns() {
        let (topic, turns) = (topic(&[1; 6]), Turns::new(1));
        let counts: [AtomicU64; 6] = Default::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..30_000 {
                        let partition = turns.take(Turn::RoundRobin, &topic);
                        counts[partition as usize].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 20_000), "{counts:?}");
    }
}
