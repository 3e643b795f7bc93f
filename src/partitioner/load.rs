//! How much work lies before each partition, and what that makes of its chances (KIP-794,
//! KIP-1123).
//!
//! The numbers are others': batches that wait (the accumulator counts them as they come and go),
//! leaders that take nothing ([`Availability`], which the network thread publishes), racks (the
//! metadata's). They are looked at when a topic's next partitions are drawn, not per record.

use crate::metadata::TopicMetadata;
use crate::sync::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of a partition beside its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Batches that wait to be sent.
    pub queued: u32,
    /// Its leader has taken nothing for too long.
    pub slow: bool,
    /// Its leader is in this client's rack.
    pub near: bool,
}

/// Who knows that.
pub trait Survey {
    /// Every partition of the topic, by number.
    fn places(&self, places: &mut Vec<Place>);
    /// Whether this node has taken nothing for too long.
    fn is_slow(&self, node: i32) -> bool;
}

/// Queues are measured by one that is longer than a third of them: a broker that happens to be the
/// first to be served makes no slow ones of the others.
const SHORTER: usize = 3;
/// What is no longer than this times that one, and so many batches, is alike.
const ALIKE_TIMES: f64 = 2.0;
const ALIKE_BATCHES: f64 = 8.0;
/// What is longer counts in batches; where that one is this long, in twos, and so on.
const COARSER: f64 = 4.0;
/// So much of what is new counts when queues are looked at.
const NEWS: f64 = 1.0 / 16.0;

/// Queue lengths as they were lately. What comes and goes between two looks is no reason to prefer
/// one partition to another.
#[derive(Debug, Default)]
pub struct Queues(Vec<f64>);

impl Queues {
    /// Takes in what is there now.
    pub fn look(&mut self, places: &[Place]) {
        let known = self.0.len();
        self.0.resize(places.len(), 0.0);
        for (at, (lately, place)) in self.0.iter_mut().zip(places).enumerate() {
            let news = if at < known { NEWS } else { 1.0 };
            *lately += (f64::from(place.queued) - *lately) * news;
        }
    }

    fn of(&self, at: usize) -> f64 {
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// Each partition's share of the records to come, by number: what it is to get in proportion to the
/// others. 0 where others are to be preferred.
///
/// A partition before which more lies gets less, as in Kafka: the longest queue's length plus one,
/// minus its own. But only what is longer than all that is alike counts, and where all are long it
/// counts for less: Kafka's rule gives of two queues of 100 and 105 batches the one six times as
/// much as the other, and what is chance in the lengths of short ones moves the shares of a million
/// records by a third. Those whose leader is slow get nothing while others take some, and what is
/// in this rack goes before what is not.
pub fn shares(topic: &TopicMetadata, places: &[Place], queues: &Queues, shares: &mut Vec<f64>) {
    let place = |at: usize| places.get(at).copied().unwrap_or_default();
    let leads = |at: usize| {
        topic.available() == 0 || topic.partitions.get(at).is_some_and(|p| p.leader >= 0)
    };
    let count = topic.partitions.len();
    let any = |fits: &dyn Fn(usize) -> bool| (0..count).any(fits);
    let takes = |at: usize| leads(at) && !place(at).slow;
    let takes: &dyn Fn(usize) -> bool = if any(&takes) { &takes } else { &leads };
    let near = |at: usize| takes(at) && place(at).near;
    let fits: &dyn Fn(usize) -> bool = if any(&near) { &near } else { takes };
    let among = || (0..count).filter(|at| fits(*at));
    shares.clear();
    shares.extend(among().map(|at| queues.of(at)));
    shares.sort_unstable_by(f64::total_cmp);
    let usual = shares.get(shares.len() / SHORTER).copied().unwrap_or_default();
    let (alike, unit) = (usual * ALIKE_TIMES + ALIKE_BATCHES, 1.0 + usual / COARSER);
    let excess = |at: usize| (queues.of(at) - alike).max(0.0) / unit;
    let longest = among().map(excess).fold(0.0, f64::max);
    shares.clear();
    shares.extend((0..count).map(|at| if fits(at) { longest - excess(at) + 1.0 } else { 0.0 }));
}

/// Nodes that have taken nothing for `partitioner.availability.timeout.ms` although something was
/// ready for them. The network thread writes, callers read.
#[derive(Debug, Default)]
pub struct Availability {
    any: AtomicBool,
    slow: Mutex<Vec<i32>>,
}

impl Availability {
    /// These are slow, and no other.
    pub fn publish(&self, nodes: &[i32]) {
        let mut slow = lock(&self.slow);
        slow.clear();
        slow.extend(nodes);
        self.any.store(!nodes.is_empty(), Ordering::Release);
    }

    /// Whether a node is slow.
    pub fn is_slow(&self, node: i32) -> bool {
        self.any.load(Ordering::Acquire) && lock(&self.slow).contains(&node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitioner::testing::topic;

    fn of(leaders: &[i32], places: &[Place]) -> Vec<f64> {
        let (mut queues, mut out) = (Queues::default(), Vec::new());
        queues.look(places);
        shares(&topic(leaders), places, &queues, &mut out);
        out
    }

    fn queued(sizes: &[u32]) -> Vec<Place> {
        sizes.iter().map(|queued| Place { queued: *queued, ..Place::default() }).collect()
    }

    /// Kafka's BuiltInPartitionerTest has queues of {0, 3, 1}, whose shares add up to {4, 5, 8};
    /// here with what is alike on top.
    #[test]
    fn shares_are_the_longest_queue_plus_one_minus_one_s_own() {
        assert_eq!(of(&[1, 1, 1, 1], &queued(&[0, 0, 11, 9])), [4.0, 4.0, 1.0, 3.0]);
        assert_eq!(of(&[1; 5], &queued(&[13, 0, 11, 0, 9])), [1.0, 6.0, 3.0, 6.0, 5.0]);
        assert_eq!(of(&[1, 1], &queued(&[7, 7])), [1.0, 1.0]);
        assert_eq!(of(&[1], &queued(&[9])), [1.0]);
        assert_eq!(of(&[1, 1], &queued(&[0, u32::MAX])), [4_294_967_288.0, 1.0]);
        assert_eq!(of(&[1, 2], &[]), [1.0, 1.0], "nothing is known");
    }

    #[test]
    fn queues_that_are_alike_get_the_same() {
        assert_eq!(of(&[1, 1, 1], &queued(&[0, 1, 8])), [1.0, 1.0, 1.0]);
        assert_eq!(of(&[1, 1, 1], &queued(&[100, 105, 200])), [1.0, 1.0, 1.0]);
        assert_eq!(of(&[1, 1, 1], &queued(&[0, 90, 95])), [1.0, 1.0, 1.0], "who is served first");
        assert_eq!(of(&[1, 1, 1], &queued(&[100, 100, 260])), [3.0, 3.0, 1.0]);
    }

    #[test]
    fn what_lasts_counts_and_what_passes_does_not() {
        let (mut queues, mut out) = (Queues::default(), Vec::new());
        let mut after = |sizes: &[u32]| {
            let places = queued(sizes);
            queues.look(&places);
            shares(&topic(&vec![1; sizes.len()]), &places, &queues, &mut out);
            out.clone()
        };
        assert_eq!(after(&[0, 0]), [1.0, 1.0]);
        for _ in 0..3 {
            assert_eq!(after(&[0, 12]), [1.0, 1.0], "a burst");
        }
        for _ in 0..100 {
            after(&[0, 12]);
        }
        assert!(after(&[0, 12])[0] > 4.9, "12, less 8 that are alike, and 1");
        let with_a_new_one = after(&[0, 12, 40]);
        assert_eq!(with_a_new_one[2], 1.0, "which is taken as it is");
        assert!(with_a_new_one[0] > 2.9, "40, less twice 12 and 8, by 4, and 1");
        for _ in 0..100 {
            after(&[0, 0, 0]);
        }
        assert_eq!(after(&[0, 0, 0]), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn the_slow_get_nothing_unless_all_are() {
        let mut places = queued(&[20, 10, 0]);
        places[0].slow = true;
        assert_eq!(of(&[1, 2, 3], &places), [0.0, 1.0, 3.0], "nor does their queue count");
        places[1].slow = true;
        assert_eq!(of(&[1, 2, 3], &places), [0.0, 0.0, 1.0]);
        places[2].slow = true;
        assert_eq!(of(&[1, 2, 3], &places), [1.0, 1.0, 1.0]);
        assert_eq!(of(&[-1, 2, 3], &places), [0.0, 1.0, 3.0]);
        assert_eq!(of(&[-1, -1, -1], &queued(&[0, 0, 0])), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn the_near_go_first_while_they_take_some() {
        let mut places = queued(&[9, 0, 0]);
        places[0].near = true;
        assert_eq!(of(&[1, 2, 3], &places), [1.0, 0.0, 0.0]);
        places[1].near = true;
        assert_eq!(of(&[1, 2, 3], &places), [1.0, 2.0, 0.0]);
        assert_eq!(of(&[-1, 2, 3], &places), [0.0, 1.0, 0.0], "one without a leader is none");
        places[1].slow = true;
        assert_eq!(of(&[1, 2, 3], &places), [1.0, 0.0, 0.0]);
        places[0].slow = true;
        assert_eq!(of(&[1, 2, 3], &places), [0.0, 0.0, 1.0], "what is far takes some");
    }

    #[test]
    fn slow_nodes_are_those_published_last() {
        let availability = Availability::default();
        assert!(!availability.is_slow(1));
        availability.publish(&[1, 3]);
        assert!(availability.is_slow(1) && !availability.is_slow(2) && availability.is_slow(3));
        availability.publish(&[2]);
        assert!(!availability.is_slow(1) && availability.is_slow(2));
        availability.publish(&[]);
        assert!(!availability.is_slow(2));
    }
}
