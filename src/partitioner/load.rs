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

/// Each partition's share of the records to come, by number: what it is to get in proportion to the
/// others. 0 where others are to be preferred.
///
/// A partition before which more lies gets less: the longest queue's length plus one, minus its
/// own. Those whose leader is slow get nothing while others take some, and what is in this rack
/// goes before what is not.
pub fn shares(topic: &TopicMetadata, places: &[Place], shares: &mut Vec<f64>) {
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
    let longest = (0..count).filter(|at| fits(*at)).map(|at| place(at).queued).max().unwrap_or(0);
    shares.clear();
    shares.extend((0..count).map(|at| match fits(at) {
        true => f64::from(longest - place(at).queued) + 1.0,
        false => 0.0,
    }));
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
        let mut out = Vec::new();
        shares(&topic(leaders), places, &mut out);
        out
    }

    fn queued(sizes: &[u32]) -> Vec<Place> {
        sizes.iter().map(|queued| Place { queued: *queued, ..Place::default() }).collect()
    }

    /// Kafka's BuiltInPartitionerTest: queues {0, 3, 1} are the running sums {4, 5, 8}.
    #[test]
    fn shares_are_the_longest_queue_plus_one_minus_one_s_own() {
        assert_eq!(of(&[1, 1, 1], &queued(&[0, 3, 1])), [4.0, 1.0, 3.0]);
        assert_eq!(of(&[1; 5], &queued(&[5, 0, 3, 0, 1])), [1.0, 6.0, 3.0, 6.0, 5.0]);
        assert_eq!(of(&[1, 1], &queued(&[7, 7])), [1.0, 1.0]);
        assert_eq!(of(&[1], &queued(&[9])), [1.0]);
        assert_eq!(of(&[1, 1], &queued(&[0, u32::MAX])), [4_294_967_296.0, 1.0]);
        assert_eq!(of(&[1, 2], &[]), [1.0, 1.0], "nothing is known");
    }

    #[test]
    fn the_slow_get_nothing_unless_all_are() {
        let mut places = queued(&[9, 2, 0]);
        places[0].slow = true;
        assert_eq!(of(&[1, 2, 3], &places), [0.0, 1.0, 3.0], "nor does their queue count");
        places[1].slow = true;
        assert_eq!(of(&[1, 2, 3], &places), [0.0, 0.0, 1.0]);
        places[2].slow = true;
        assert_eq!(of(&[1, 2, 3], &places), [1.0, 8.0, 10.0]);
        assert_eq!(of(&[-1, 2, 3], &places), [0.0, 1.0, 3.0]);
        assert_eq!(of(&[-1, -1, -1], &queued(&[0, 0, 0])), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn the_near_go_first_while_they_take_some() {
        let mut places = queued(&[9, 2, 0]);
        places[0].near = true;
        assert_eq!(of(&[1, 2, 3], &places), [1.0, 0.0, 0.0]);
        places[1].near = true;
        assert_eq!(of(&[1, 2, 3], &places), [1.0, 8.0, 0.0]);
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
